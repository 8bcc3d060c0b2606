//! The broker contract: what every broker under Muster must do. One suite, run on the embedded broker through its mutual
//! TLS front and on a real Mosquitto with the configuration that we ship. Where the two differ is a table in `pipe`.
//!
//! Sessions are not in it: Muster asks no broker to remember a subscriber.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::ids::DeviceId;
use muster_protocol::topic::{Down, Topic, Up, down_to, every_device, every_trust_file};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, PublishProperties};

use crate::device::{Client, rest};
use crate::pipe::{Kind, Pipe, until};

/// Every behaviour, on both.
macro_rules! contract {
    ($($behaviour:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test] async fn $behaviour() {
                let pipe = super::Pipe::start(super::Kind::Embedded).await;
                super::$behaviour(&pipe).await;
                pipe.stop().await;
            })*
        }
        mod mosquitto {
            $(#[tokio::test] async fn $behaviour() {
                let pipe = super::Pipe::start(super::Kind::Mosquitto).await;
                super::$behaviour(&pipe).await;
                pipe.stop().await;
            })*
        }
    };
}

contract!(
    a_device_says_only_what_is_its_own,
    a_device_hears_only_what_is_its_own,
    a_foreign_will_is_not_published,
    an_own_will_is_published_and_kept,
    a_farewell_publishes_no_will,
    a_client_id_is_the_name_in_the_certificate,
    a_newer_connection_takes_over,
    observers_read_and_never_write,
    retained_messages_are_kept_replaced_and_cleared,
    three_hundred_retained_messages_come_at_once,
    nothing_is_remembered_for_who_was_away,
    what_was_not_acknowledged_comes_again,
    a_packet_of_one_mebibyte_passes_and_a_larger_one_does_not,
    a_share_is_balanced_and_loses_nothing,
    expired_messages_are_dropped,
    order_is_kept,
);

fn mine() -> DeviceId {
    DeviceId::mint([1; 16])
}

fn foreign() -> DeviceId {
    DeviceId::mint([2; 16])
}

fn order(device: DeviceId) -> Topic {
    Topic::Down(device, Down::Order)
}

fn will(topic: &Topic) -> LastWill {
    LastWill::new(topic.to_string(), "gone", QoS::AtLeastOnce, true, None)
}

async fn a_device_says_only_what_is_its_own(pipe: &Pipe) {
    let mut fleet = pipe.fleet().await;
    for filter in ["muster/1/#", "somewhere/else"] {
        fleet.subscribe(filter).await;
    }
    let mut device = pipe.device(&mine()).await;
    let topic = |topic: Topic| topic.to_string();
    for (foreign, retain) in [
        (topic(Topic::Up(foreign(), Up::State)), false),
        (topic(Topic::Up(foreign(), Up::Status)), true),
        (topic(order(mine())), true),
        (topic(order(foreign())), true),
        (topic(Topic::Trust("timestamp.json".to_owned())), true),
        (topic(Topic::Epoch), true),
        ("somewhere/else".to_owned(), true),
    ] {
        assert!(!device.publish_to(&foreign, retain, b"x".to_vec()).await, "{foreign} was taken");
    }
    // What is its own comes, and is the only thing that does.
    let own = Topic::Up(mine(), Up::State);
    assert!(device.publish(&own, false, b"mine".to_vec()).await);
    let came = fleet.next().await;
    assert_eq!((came.topic, came.payload), (own.to_string().into(), "mine".into()));
    fleet.silence().await;
    // Nothing was kept for those who come later.
    let mut late = pipe.fleet().await;
    late.subscribe("muster/1/#").await;
    late.silence().await;
}

async fn a_device_hears_only_what_is_its_own(pipe: &Pipe) {
    let mut device = pipe.device(&mine()).await;
    let mut fleet = pipe.fleet().await;
    let share = |filter: String| format!("$share/group/{filter}");
    // A SUBACK may lie, so all are asked for, and the proof is in what comes.
    for filter in [
        "#".to_owned(),
        "+/+/+/+/+/+".to_owned(),
        "muster/1/#".to_owned(),
        "muster/1/d/+/down/#".to_owned(),
        down_to(&foreign()),
        every_device(Up::State),
        share(down_to(&foreign())),
        share("#".to_owned()),
        "$SYS/#".to_owned(),
    ] {
        let granted = device.subscribe(&filter).await;
        assert_eq!(granted, !pipe.kind.differences().suback_is_honest, "{filter}");
    }
    for topic in [
        Topic::Down(foreign(), Down::Ack),
        Topic::Down(foreign(), Down::Order),
        Topic::Up(foreign(), Up::State),
        Topic::Up(mine(), Up::State),
    ] {
        assert!(fleet.publish(&topic, true, b"secret".to_vec()).await);
    }
    device.silence().await;
    for filter in [down_to(&mine()), every_trust_file(), Topic::Epoch.to_string()] {
        assert!(device.subscribe(&filter).await, "{filter}");
    }
    device.silence().await;
    for topic in [order(mine()), Topic::Trust("1.root.json".to_owned()), Topic::Epoch] {
        assert!(fleet.publish(&topic, false, b"news".to_vec()).await);
        assert_eq!(device.next_on(&topic).await.payload, "news");
    }
}

async fn a_foreign_will_is_not_published(pipe: &Pipe) {
    let topic = Topic::Up(foreign(), Up::Status);
    let mut fleet = pipe.fleet().await;
    fleet.subscribe(&topic.to_string()).await;
    pipe.admission.admit(mine());
    match Client::try_connect(&pipe.door, mine().as_str(), Some(will(&topic))).await {
        Ok(device) => device.vanish(),
        Err(refused) => {
            assert!(matches!(refused, rumqttc::v5::ConnectionError::ConnectionRefused(_)), "{refused}");
        }
    }
    fleet.silence().await;
}

async fn an_own_will_is_published_and_kept(pipe: &Pipe) {
    let topic = Topic::Up(mine(), Up::Status);
    let mut fleet = pipe.fleet().await;
    assert!(fleet.subscribe(&every_device(Up::Status)).await);
    pipe.admission.admit(mine());
    Client::try_connect(&pipe.door, mine().as_str(), Some(will(&topic))).await.unwrap().vanish();
    assert_eq!(fleet.next_on(&topic).await.payload, "gone");
    let mut late = pipe.observer("o-late").await;
    assert!(late.subscribe(&every_device(Up::Status)).await);
    assert!(late.next_on(&topic).await.retain);
}

async fn a_farewell_publishes_no_will(pipe: &Pipe) {
    let topic = Topic::Up(mine(), Up::Status);
    let mut fleet = pipe.fleet().await;
    assert!(fleet.subscribe(&every_device(Up::Status)).await);
    pipe.admission.admit(mine());
    let device = Client::try_connect(&pipe.door, mine().as_str(), Some(will(&topic))).await.unwrap();
    device.leave().await;
    fleet.silence().await;
}

async fn a_client_id_is_the_name_in_the_certificate(pipe: &Pipe) {
    let mut victim = pipe.device(&foreign()).await;
    assert!(victim.subscribe(&down_to(&foreign())).await);
    pipe.admission.admit(mine());
    let holder = pipe.door.holder(mine().as_str());
    for claimed in [
        foreign().to_string(),
        "fleet-of-these-tests".to_owned(),
        "o-x".to_owned(),
        pipe.door.pki.fleet_client_name(),
    ] {
        match Client::try_connect_with(&pipe.door, &claimed, &holder, None).await {
            Err(_) => assert!(pipe.kind.differences().wrong_id_is_refused, "{claimed}"),
            Ok(mut thief) => {
                assert!(!pipe.kind.differences().wrong_id_is_refused, "{claimed} was believed");
                // It came in, but as itself.
                assert!(!thief.publish(&Topic::Up(foreign(), Up::State), false, b"x".to_vec()).await);
                thief.subscribe(&down_to(&foreign())).await;
                let mut fleet = pipe.fleet().await;
                assert!(fleet.publish(&order(foreign()), false, b"secret".to_vec()).await);
                assert_eq!(
                    victim.next_on(&order(foreign())).await.payload,
                    "secret",
                    "the victim was pushed out"
                );
                thief.silence().await;
            }
        }
    }
    let mut fleet = pipe.fleet().await;
    assert!(fleet.publish(&order(foreign()), false, b"still here".to_vec()).await);
    assert_eq!(victim.next_on(&order(foreign())).await.payload, "still here");
}

async fn a_newer_connection_takes_over(pipe: &Pipe) {
    pipe.admission.admit(mine());
    // Byte by byte: the client library takes a DISCONNECT for a broken packet.
    let old = pipe.door.greet(&mine()).await;
    let mut new = pipe.device(&mine()).await;
    let told = rest(old).await;
    let expect: &[u8] = if pipe.kind.differences().takeover_is_told { &[0xe0, 0x8e] } else { &[] };
    assert_eq!(told.iter().step_by(2).take(2).copied().collect::<Vec<u8>>(), expect, "{told:02x?}");
    assert!(new.subscribe(&down_to(&mine())).await);
    let mut fleet = pipe.fleet().await;
    assert!(fleet.publish(&order(mine()), false, b"new".to_vec()).await);
    assert_eq!(new.next_on(&order(mine())).await.payload, "new");
}

async fn observers_read_and_never_write(pipe: &Pipe) {
    let mut observer = pipe.observer("o-ward").await;
    for topic in [order(mine()), Topic::Up(mine(), Up::State), Topic::Epoch] {
        assert!(!observer.publish(&topic, true, b"x".to_vec()).await, "{topic}");
    }
    for filter in ["#", "muster/1/d/+/up/report", "$share/a/muster/1/d/+/up/report", &down_to(&mine())] {
        assert_eq!(observer.subscribe(filter).await, !pipe.kind.differences().suback_is_honest, "{filter}");
    }
    let mut fleet = pipe.fleet().await;
    for topic in
        [Topic::Up(mine(), Up::Report), Topic::Up(mine(), Up::Want), Topic::Down(mine(), Down::Chunk)]
    {
        assert!(fleet.publish(&topic, false, b"bulk".to_vec()).await);
    }
    observer.silence().await;
    for filter in ["muster/1/d/+/down/order", &every_device(Up::State), &every_trust_file()] {
        assert!(observer.subscribe(filter).await, "{filter}");
    }
    for topic in [order(mine()), Topic::Up(mine(), Up::State), Topic::Trust("1.root.json".to_owned())] {
        assert!(fleet.publish(&topic, false, b"news".to_vec()).await);
        assert_eq!(observer.next_on(&topic).await.payload, "news");
    }
}

async fn retained_messages_are_kept_replaced_and_cleared(pipe: &Pipe) {
    let mut fleet = pipe.fleet().await;
    let late = async |name: &str| {
        let mut late = pipe.observer(name).await;
        assert!(late.subscribe("muster/1/d/+/down/order").await);
        late
    };
    assert!(fleet.publish(&order(mine()), true, b"one".to_vec()).await);
    let came = late("o-1").await.next().await;
    assert!(came.retain && came.payload == "one");
    assert!(fleet.publish(&order(mine()), true, b"two".to_vec()).await);
    assert!(
        fleet.publish(&order(mine()), false, Vec::new()).await,
        "an empty message that is not to be kept"
    );
    let mut second = late("o-2").await;
    assert_eq!(second.next().await.payload, "two");
    assert!(fleet.publish(&order(mine()), true, Vec::new()).await);
    assert_eq!(second.next().await.payload, "", "who is here learns that it is gone");
    late("o-3").await.silence().await;
}

async fn three_hundred_retained_messages_come_at_once(pipe: &Pipe) {
    let mut fleet = pipe.fleet().await;
    let topic = |n: u16| Topic::Trust(format!("auto-{n}.json"));
    for n in 0..300 {
        assert!(fleet.publish(&topic(n), true, n.to_le_bytes().to_vec()).await);
    }
    assert!(fleet.publish(&topic(7), true, b"new".to_vec()).await);
    let mut device = pipe.device(&mine()).await;
    assert!(device.subscribe(&every_trust_file()).await);
    let mut came = BTreeMap::new();
    while came.len() < 300 {
        let publish = device.next().await;
        assert!(publish.retain);
        assert!(came.insert(publish.topic.clone(), publish.payload).is_none());
    }
    assert_eq!(came[topic(7).to_string().as_bytes()], "new");
    // Retained again for whoever subscribes again.
    assert!(device.subscribe(&every_trust_file()).await);
    assert!(device.next_on(&topic(9)).await.retain);
}

async fn nothing_is_remembered_for_who_was_away(pipe: &Pipe) {
    let mut device = pipe.device(&mine()).await;
    assert!(device.subscribe(&down_to(&mine())).await);
    device.leave().await;
    let mut fleet = pipe.fleet().await;
    assert!(fleet.publish(&Topic::Down(mine(), Down::Call), false, b"missed".to_vec()).await);
    let mut device = pipe.device(&mine()).await;
    device.silence().await;
    assert!(device.subscribe(&down_to(&mine())).await);
    device.silence().await;
}

async fn what_was_not_acknowledged_comes_again(pipe: &Pipe) {
    // The one use of a session here: within it, QoS 1 is kept.
    pipe.admission.admit(mine());
    let mut reader = Client::with_session(&pipe.door, &mine(), 60).await;
    assert!(reader.subscribe(&down_to(&mine())).await);
    let mut fleet = pipe.fleet().await;
    for n in 0..5_u8 {
        assert!(fleet.publish(&Topic::Down(mine(), Down::Call), false, vec![n]).await);
    }
    let mut came = Vec::new();
    for _ in 0..5 {
        came.push(reader.next().await);
    }
    for publish in &came[..2] {
        reader.acknowledge(publish).await;
    }
    reader.vanish();
    let mut reader = Client::with_session(&pipe.door, &mine(), 60).await;
    for n in 2..5_u8 {
        let again = reader.next().await;
        assert_eq!((again.payload.as_ref(), again.dup), ([n].as_slice(), true));
    }
    reader.silence().await;
}

async fn a_packet_of_one_mebibyte_passes_and_a_larger_one_does_not(pipe: &Pipe) {
    let mut device = pipe.device(&mine()).await;
    assert!(device.subscribe(&down_to(&mine())).await);
    let mut fleet = pipe.fleet().await;
    let topic = Topic::Down(mine(), Down::Chunk);
    let largest = (1 << 20) - 256;
    assert!(fleet.publish(&topic, false, vec![7; largest]).await);
    assert_eq!(device.next_on(&topic).await.payload.len(), largest);
    // The broker's own bound, not the client's: a client that does not look at it is cut off.
    pipe.admission.admit(foreign());
    pipe.door.send_too_much(&foreign(), &Topic::Up(foreign(), Up::Report), (1 << 20) + 4096).await;
    assert!(fleet.publish(&topic, false, b"small".to_vec()).await, "the others go on");
    assert_eq!(device.next_on(&topic).await.payload, "small");
}

async fn a_share_is_balanced_and_loses_nothing(pipe: &Pipe) {
    let filter = format!("$share/ingest/{}", every_device(Up::Event));
    let mut one = pipe.fleet().await;
    assert!(one.subscribe(&filter).await);
    // The embedded broker serves one fleet server, and nobody else may share.
    let replicas = pipe.kind.differences().serves_replicas;
    let mut two = pipe.observer("o-replica").await;
    assert_eq!(two.subscribe(&filter).await, replicas);
    let mut device = pipe.device(&mine()).await;
    for n in 0..100_u8 {
        assert!(device.publish(&Topic::Up(mine(), Up::Event), false, vec![n]).await);
    }
    let (first, second) = (one.all().await, two.all().await);
    let both: BTreeSet<_> = first.iter().chain(&second).map(|publish| publish.payload.clone()).collect();
    assert_eq!((first.len() + second.len(), both.len()), (100, 100));
    let balanced = (20..=80).contains(&first.len());
    assert_eq!(balanced, replicas, "{} and {}", first.len(), second.len());
}

async fn expired_messages_are_dropped(pipe: &Pipe) {
    let mut fleet = pipe.fleet().await;
    let brief = PublishProperties { message_expiry_interval: Some(1), ..PublishProperties::default() };
    let lasting = PublishProperties { message_expiry_interval: Some(100), ..PublishProperties::default() };
    for (device, properties) in [(mine(), brief), (foreign(), lasting)] {
        fleet.publish_with(&order(device), true, properties, b"x").await;
    }
    let mut name = 0;
    until("the brief message is gone", async || {
        name += 1;
        let mut late = pipe.observer(&format!("o-{name}")).await;
        assert!(late.subscribe("muster/1/d/+/down/order").await);
        let came: Vec<_> = late.all().await.into_iter().map(|publish| publish.topic).collect();
        assert!(came.iter().any(|topic| *topic == order(foreign()).to_string()), "the lasting one is gone");
        came.len() == 1
    })
    .await;
}

async fn order_is_kept(pipe: &Pipe) {
    let mut device = pipe.device(&mine()).await;
    assert!(device.subscribe(&down_to(&mine())).await);
    let mut fleet = pipe.fleet().await;
    let topic = Topic::Down(mine(), Down::Chunk);
    for n in 0..500_u16 {
        fleet.publish_fleeting(&topic, n.to_le_bytes().to_vec()).await;
    }
    // The client writes while it is polled.
    assert!(fleet.publish(&order(mine()), false, Vec::new()).await);
    for n in 0..500_u16 {
        assert_eq!(device.next_on(&topic).await.payload.as_ref(), n.to_le_bytes());
    }
}
