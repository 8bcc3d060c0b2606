//! The broker contract: what every broker under Muster must do. Run here on the embedded one.

use std::net::SocketAddr;

use muster_fleet::broker::{Broker, Insider};
use muster_protocol::ids::DeviceId;
use muster_protocol::topic::{Down, Topic, Up, down_to, every_device, every_trust_file};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::LastWill;

use crate::device::Client;

const INSIDER: &str = "fleet-of-these-tests";

async fn start() -> Broker {
    Broker::start(SocketAddr::from(([127, 0, 0, 1], 0)), &insider()).await.unwrap()
}

fn insider() -> Insider {
    Insider { client_id: INSIDER.to_owned(), password: "a secret".to_owned() }
}

/// A device, not the one below.
fn mine() -> DeviceId {
    DeviceId::mint([1; 16])
}

fn foreign() -> DeviceId {
    DeviceId::mint([2; 16])
}

#[tokio::test]
async fn a_device_is_confined_to_its_own_topics() {
    let broker = start().await;
    let mut device = Client::connect(broker.address(), mine().as_str()).await;
    assert!(device.subscribe(&down_to(&mine())).await);
    assert!(device.subscribe(&every_trust_file()).await);
    assert!(device.subscribe(&Topic::Epoch.to_string()).await);
    let share = |filter: String| format!("$share/group/{filter}");
    for filter in [
        "#".to_owned(),
        "muster/1/#".to_owned(),
        "muster/1/d/+/down/#".to_owned(),
        down_to(&foreign()),
        every_device(Up::State),
        share(down_to(&mine())),
        share(down_to(&foreign())),
        share("#".to_owned()),
    ] {
        assert!(!device.subscribe(&filter).await, "{filter} was granted");
    }
    assert!(device.publish(&Topic::Up(mine(), Up::State), false, b"x".to_vec()).await);
    for topic in [
        Topic::Up(foreign(), Up::State),
        Topic::Down(mine(), Down::Order),
        Topic::Trust("timestamp.json".to_owned()),
        Topic::Epoch,
    ] {
        assert!(!device.publish(&topic, true, b"x".to_vec()).await, "{topic} was taken");
    }
    // Nothing of it was kept for those who come later.
    let mut observer = Client::connect(broker.address(), "mosquitto-sub").await;
    assert!(observer.subscribe("muster/1/d/+/down/order").await);
    assert!(observer.subscribe(&every_trust_file()).await);
    observer.silence().await;
    broker.shutdown().await;
}

#[tokio::test]
async fn a_foreign_will_is_not_published() {
    let broker = start().await;
    let topic = Topic::Up(foreign(), Up::Status);
    let mut watcher = Client::connect(broker.address(), "watcher").await;
    assert!(watcher.subscribe(&topic.to_string()).await);
    let will = LastWill::new(topic.to_string(), "gone", QoS::AtLeastOnce, true, None);
    match Client::try_connect(broker.address(), mine().as_str(), Some(will)).await {
        Ok(device) => device.vanish(),
        Err(refused) => {
            assert!(matches!(refused, rumqttc::v5::ConnectionError::ConnectionRefused(_)), "{refused}");
        }
    }
    watcher.silence().await;
    broker.shutdown().await;
}

#[tokio::test]
async fn an_own_will_is_published_and_kept() {
    let broker = start().await;
    let topic = Topic::Up(mine(), Up::Status);
    let mut watcher = Client::connect(broker.address(), "watcher").await;
    assert!(watcher.subscribe(&every_device(Up::Status)).await);
    let will = LastWill::new(topic.to_string(), "gone", QoS::AtLeastOnce, true, None);
    Client::try_connect(broker.address(), mine().as_str(), Some(will)).await.unwrap().vanish();
    assert_eq!(watcher.next_on(&topic).await.payload, "gone");
    let mut late = Client::connect(broker.address(), "late").await;
    assert!(late.subscribe(&every_device(Up::Status)).await);
    assert!(late.next_on(&topic).await.retain);
    broker.shutdown().await;
}

#[tokio::test]
async fn nobody_else_is_the_fleet() {
    let broker = start().await;
    assert!(Client::try_connect(broker.address(), INSIDER, None).await.is_err());
    let mut observer = Client::connect(broker.address(), "observer").await;
    assert!(!observer.publish(&Topic::Down(mine(), Down::Order), true, b"x".to_vec()).await);
    for filter in ["#", "muster/1/d/+/up/report", &down_to(&mine())] {
        assert!(!observer.subscribe(filter).await, "{filter} was granted");
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn three_hundred_retained_messages_come_at_once_and_can_be_replaced() {
    let broker = start().await;
    let mut fleet = Client::connect_as(broker.address(), &insider()).await;
    let topic = |n: u16| Topic::Trust(format!("auto-{n}.json"));
    for n in 0..300 {
        assert!(fleet.publish(&topic(n), true, n.to_le_bytes().to_vec()).await);
    }
    assert!(fleet.publish(&topic(7), true, b"new".to_vec()).await);
    let mut device = Client::connect(broker.address(), mine().as_str()).await;
    assert!(device.subscribe(&every_trust_file()).await);
    let mut came = std::collections::BTreeMap::new();
    while came.len() < 300 {
        let publish = device.next().await;
        assert!(publish.retain);
        assert!(came.insert(publish.topic.clone(), publish.payload).is_none());
    }
    assert_eq!(came[topic(7).to_string().as_bytes()], "new");
    // Retained again for whoever subscribes again.
    assert!(device.subscribe(&topic(9).to_string()).await);
    assert!(device.next_on(&topic(9)).await.retain);
    broker.shutdown().await;
}
