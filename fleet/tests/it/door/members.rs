//! What membership means on the wire: who is listened to, who is ordered anything, and what gives a copied key away.

use std::sync::atomic::Ordering;

use muster_fleet::enrolment::{Identity, Standing, Verb};
use muster_fleet::orders::{Handed, OrderError};
use muster_fleet::store::log::Actor;
use muster_fleet::store::{Page, certificates, devices, identities, log, orders, positions};
use muster_protocol::enrol::{Facts, Fingerprint};
use muster_protocol::ids::{BootId, DeviceId, Digest};
use muster_protocol::message::{Ack, Capabilities, Health, Hello, Message as _, Presence, Report, VERSION};
use muster_protocol::time::Timestamp;
use muster_protocol::topic::{Down, Topic, Up};
use muster_protocol::trust::Want;
use serde_json::json;

use super::ward::Ward;
use crate::device::Device;
use crate::member;
use crate::publisher::{Bundle, Publisher};

async fn joined(ward: &Ward, number: u8) -> Device {
    let id = DeviceId::mint([number; 16]);
    member::enrolled(&ward.server.fleet, &id, "er-1-1", "er-1").await;
    Device::connect_to(&ward.server.mqtt(), number, 1).await
}

async fn decide(ward: &Ward, device: &DeviceId, verb: Verb) {
    ward.server.fleet.registrar.decide(device, verb, None, Actor::Person("ada".to_owned())).await.unwrap();
}

async fn identity(ward: &Ward, device: &DeviceId) -> Identity {
    identities::get(&mut ward.server.read().await, device).await.unwrap().unwrap()
}

fn hello(boot: BootId, connection: u64) -> Hello {
    Hello {
        v: VERSION,
        boot,
        connection,
        name: "er-1-1".to_owned(),
        site: "icu".parse().unwrap(),
        agent_version: "0.1.0".to_owned(),
        capabilities: Capabilities::default(),
        order_version: 0,
        root: None,
        certificate_expires: None,
        facts: None,
        key: None,
    }
}

fn report(boot: &BootId, sequence: u64) -> Vec<u8> {
    let at = Timestamp::from_seconds(1_795_046_400);
    let report = Report {
        boot: boot.clone(),
        sequence,
        held_from: 1,
        from: at,
        to: at,
        health: Health::default(),
        models: Vec::new(),
        panes: Vec::new(),
        labels: Vec::new(),
        shadows: Vec::new(),
    };
    report.encode().unwrap()
}

/// Says hello again and returns the acknowledgement: what came before it has been looked at.
async fn settle(device: &mut Device) -> Ack {
    device.hello().await
}

#[tokio::test]
async fn only_members_are_listened_to() {
    let ward = Ward::open().await;
    let mut device = joined(&ward, 1).await;
    let other = DeviceId::mint([2; 16]);
    let set = async |device: &DeviceId, standing: Standing| {
        let mut identity = identity(&ward, device).await;
        identity.standing = standing;
        let mut tx = ward.server.fleet.store.write().await.unwrap();
        identities::save(&mut tx, &identity).await.unwrap();
        tx.commit().await.unwrap();
    };
    let why = || "because".to_owned();
    let mut ignored = 0;
    for standing in
        [Standing::Pending, Standing::Rejected { reason: why() }, Standing::Revoked { reason: why() }]
    {
        set(&device.id, standing).await;
        // A broker that is late lets it speak; it is not listened to all the same.
        device.say(Up::Hello, hello(device.boot.clone(), 1).to_json()).await;
        device.say(Up::Event, device.event(1, 1).to_json()).await;
        ignored += 2;
        let strangers = &ward.server.fleet.ingest.strangers;
        crate::server::eventually("they are counted", || strangers.load(Ordering::Relaxed) == ignored).await;
        assert_eq!(devices::get(&mut ward.server.read().await, &device.id).await.unwrap(), None);
    }
    set(&device.id, Standing::Active).await;
    settle(&mut device).await;
    let known = devices::get(&mut ward.server.read().await, &device.id).await.unwrap().unwrap();
    // Cohorts are drawn by site, so a person says where a box belongs and not the box.
    assert_eq!((known.site.as_str(), known.presence), ("er-1", Presence::Online));
    assert_eq!(identities::get(&mut ward.server.read().await, &other).await.unwrap(), None);
    let metrics =
        String::from_utf8(ward.ask(axum::http::Method::GET, "/metrics", None).await.body.to_vec()).unwrap();
    assert!(metrics.contains("muster_ingest_not_taken_total{why=\"stranger\"} 6"), "{metrics}");
    assert!(metrics.contains("muster_identities{state=\"active\"} 1"), "{metrics}");
    ward.close().await;
}

#[tokio::test]
async fn a_quarantined_box_shows_itself_and_keeps_its_reports() {
    let ward = Ward::open().await;
    let mut device = joined(&ward, 1).await;
    device.hello().await;
    decide(&ward, &device.id, Verb::Quarantine { reason: "odd".to_owned() }).await;
    device.say(Up::Event, device.event(1, 1).to_json()).await;
    assert_eq!(device.ack().await.event, 1, "events are taken in: whoever doubts it wants to see it");
    device.say(Up::Report, report(&device.boot, 1)).await;
    let ack = settle(&mut device).await;
    assert_eq!((ack.report, ward.server.fleet.ingest.held_back.load(Ordering::Relaxed)), (0, 1));
    decide(&ward, &device.id, Verb::Release { reason: "looked at it".to_owned() }).await;
    // The box says again what was not acknowledged.
    device.say(Up::Report, report(&device.boot, 1)).await;
    assert_eq!(device.ack().await.report, 1);
    ward.close().await;
}

#[tokio::test]
async fn orders_are_for_active_devices() {
    let ward = Ward::bare().await;
    let fleet = ward.server.fleet.clone();
    let bundle = Bundle::make("bundles/er-beds/1.json", b"model");
    Publisher::begin(&fleet, &[&bundle]).await;
    let mut device = joined(&ward, 1).await;
    device.hello().await;
    let want = |slot: &str| Want::now(slot.parse().unwrap(), bundle.path.clone(), bundle.sha256());
    let topic = Topic::Down(device.id.clone(), Down::Order);
    let order = async |device: &DeviceId, wants: &[Want]| {
        let mut tx = fleet.store.write().await.unwrap();
        let handed = fleet.orders.set_wants(&mut tx, device, wants).await;
        tx.commit().await.unwrap();
        handed
    };
    let stranger = order(&DeviceId::mint([9; 16]), &[want("beds")]).await;
    assert!(matches!(stranger, Err(OrderError::NotAMember { .. })), "{stranger:?}");
    assert!(matches!(order(&device.id, &[want("beds")]).await, Ok(Handed::Signed { .. })));
    let first = device.client.next_on(&topic).await.payload;

    decide(&ward, &device.id, Verb::Quarantine { reason: "odd".to_owned() }).await;
    let kept = order(&device.id, &[want("beds"), want("icu")]).await.unwrap();
    assert!(matches!(kept, Handed::Kept { .. }), "{kept:?}");
    device.hello().await;
    // The first order may be said twice, as a server that has just started says everything; the new one is not said.
    assert!(device.client.all().await.iter().all(|came| came.payload == first));
    decide(&ward, &device.id, Verb::Release { reason: "fine".to_owned() }).await;
    let second = device.client.next_on(&topic).await.payload;
    assert_ne!(first, second, "what was wished for it meanwhile is handed over");
    let stored = orders::get(&mut ward.server.read().await, &device.id).await.unwrap().unwrap();
    assert_eq!((stored.version, &stored.bytes), (kept.version(), &second.to_vec()));

    decide(&ward, &device.id, Verb::Revoke { reason: "stolen".to_owned() }).await;
    assert_eq!(orders::get(&mut ward.server.read().await, &device.id).await.unwrap(), None);
    assert!(matches!(order(&device.id, &[want("beds")]).await, Err(OrderError::NotAMember { .. })));
    let gone = devices::get(&mut ward.server.read().await, &device.id).await.unwrap().unwrap();
    assert_eq!(gone.presence, Presence::Offline);
    let counts = ward.see("/api/v1/overview").await["devices"].clone();
    assert_eq!((&counts["total"], &counts["offline"]), (&json!(0), &json!(0)), "nobody misses it");
    ward.close().await;
}

#[tokio::test]
async fn a_copied_key_gives_itself_away_and_a_bad_network_does_not() {
    let ward = Ward::open().await;
    let mut device = joined(&ward, 1).await;
    let (one, two) = (BootId::mint([1; 16]), BootId::mint([2; 16]));
    let mut greet = async |boot: &BootId, connection: u64| {
        device.say(Up::Hello, hello(boot.clone(), connection).to_json()).await;
        assert_eq!(device.ack().await.boot, *boot);
    };
    let id = DeviceId::mint([1; 16]);
    // Takeovers on a bad network, a restart, and a late hello of before it.
    for (boot, connection) in [(&one, 1), (&one, 2), (&one, 3), (&two, 1), (&one, 3), (&two, 2)] {
        greet(boot, connection).await;
    }
    assert!(identity(&ward, &id).await.suspicion.is_none());
    // The other copy takes its place back.
    greet(&one, 4).await;
    greet(&two, 3).await;
    let doubt = identity(&ward, &id).await.suspicion.clone.unwrap();
    assert_eq!(doubt.times, 2);
    let need = ward.see("/api/v1/overview").await["needs_you"][0].clone();
    assert_eq!(
        (&need["kind"], &need["detail"]),
        (&json!("device_suspect"), &json!(doubt.sentence)),
        "{need}"
    );
    let shown = ward.see(&format!("/api/v1/devices/{id}")).await;
    assert_eq!(
        (&shown["identity"]["state"], &shown["identity"]["suspect_clone"]),
        (&json!("active"), &json!(doubt.sentence))
    );
    assert_eq!(ward.see("/api/v1/identities?suspect=true").await["items"].as_array().unwrap().len(), 1);
    let mut db = ward.server.read().await;
    let told = log::after(&mut db, Some(id.as_str()), &Page::first(50)).await.unwrap();
    assert_eq!(told.iter().filter(|entry| entry.kind == "device.suspect").count(), 1, "told once");
    drop(db);
    // A person finds it right; it is told anew if it goes on.
    assert_eq!(ward.verb(&id, "dismiss", json!({"reason": "a restored snapshot"})).await.status, 200);
    assert!(identity(&ward, &id).await.suspicion.is_none());
    ward.verb(&id, "dismiss", json!({"reason": "again"})).await.is_problem(409, "state");
    greet(&one, 5).await;
    assert!(identity(&ward, &id).await.suspicion.clone.is_some());
    ward.close().await;
}

#[tokio::test]
async fn a_key_on_another_board_is_an_alarm() {
    let ward = Ward::open().await;
    let mut device = joined(&ward, 1).await;
    let facts = |board: &str| Facts { board: Some(Digest::of(board.as_bytes())), ..Facts::default() };
    let mut enrolled = identity(&ward, &device.id).await;
    enrolled.facts = facts("the board it came with");
    let mut tx = ward.server.fleet.store.write().await.unwrap();
    identities::save(&mut tx, &enrolled).await.unwrap();
    tx.commit().await.unwrap();
    let id = device.id.clone();
    let mut greet = async |connection: u64, board: &str| {
        let hello = Hello { facts: Some(facts(board)), ..hello(BootId::mint([1; 16]), connection) };
        device.say(Up::Hello, hello.to_json()).await;
        device.ack().await;
        identity(&ward, &id).await.suspicion.hardware
    };
    assert_eq!(greet(1, "the board it came with").await, None);
    let doubt = greet(2, "a new board").await.unwrap();
    assert!(doubt.sentence.contains("another board"), "{doubt:?}");
    // A technician replaced the board: what it is now is what it is measured by.
    ward.verb(&id, "dismiss", json!({"reason": "ticket 4711: board replaced"})).await;
    assert_eq!(greet(3, "a new board").await, None);
    assert!(greet(4, "the board it came with").await.is_some());
    ward.close().await;
}

#[tokio::test]
async fn a_key_is_retired_when_the_next_one_has_connected() {
    let ward = Ward::open().await;
    let mut device = joined(&ward, 1).await;
    let mut changed = identity(&ward, &device.id).await;
    let (old, new) = (changed.key.fingerprint, Fingerprint::of(b"new"));
    changed.former = Some(old);
    changed.key.fingerprint = new;
    let fleet = ward.server.fleet.clone();
    let now = fleet.clocks.trust.now();
    let row = certificates::Certificate {
        serial: "00112233445566778899aabbccddeeff".to_owned(),
        device: device.id.clone(),
        key: old,
        issued: now,
        expires: now.plus(std::time::Duration::from_secs(1000)),
        pem: String::new(),
    };
    let mut tx = fleet.store.write().await.unwrap();
    identities::save(&mut tx, &changed).await.unwrap();
    certificates::add(&mut tx, &row).await.unwrap();
    tx.commit().await.unwrap();
    let boot = device.boot.clone();
    for (connection, key, former) in [(1, None, Some(old)), (2, Some(old), Some(old)), (3, Some(new), None)] {
        let hello = Hello { key, ..hello(boot.clone(), connection) };
        device.say(Up::Hello, hello.to_json()).await;
        device.ack().await;
        assert_eq!(identity(&ward, &device.id).await.former, former, "{key:?}");
    }
    let revoked = certificates::revoked(&mut ward.server.read().await, now).await.unwrap();
    assert_eq!(revoked.iter().map(|one| one.serial.as_str()).collect::<Vec<_>>(), [row.serial.as_str()]);
    let list = fleet.pki.crl_path();
    crate::server::eventually("it is on the list", || super::events::is_listed_in(&list, &row.serial)).await;
    let safe =
        positions::get(&mut ward.server.read().await, &device.id, &boot, positions::Stream::Event).await;
    assert_eq!(safe.unwrap(), 0);
    ward.close().await;
}
