//! The narrow rows beside the devices: they say what the documents say, whatever happens to a device, and lists go by them.

use std::collections::BTreeSet;

use muster_fleet::store::devices::{DeviceFilter, SlotFilter};
use muster_fleet::store::glances::{self, Headcount, Place};
use muster_fleet::store::{Page, Store, devices, identities};
use muster_protocol::enrol::Fingerprint;
use muster_protocol::ids::{BootId, DeviceId, Digest, SiteName};
use muster_protocol::message::{Capabilities, Hello, Presence, State, VERSION};
use muster_protocol::time::Timestamp;
use serde_json::{Value, json};

use crate::member;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn device(n: u8) -> DeviceId {
    DeviceId::mint([n; 16])
}

fn boot() -> BootId {
    BootId::mint([1; 16])
}

fn hello(n: u8, site: &str) -> Hello {
    Hello {
        v: VERSION,
        boot: boot(),
        connection: 1,
        name: format!("box-{n}"),
        site: site.parse().unwrap(),
        agent_version: "1".to_owned(),
        capabilities: Capabilities::default(),
        order_version: 0,
        root: None,
        certificate_expires: None,
        facts: None,
        key: None,
    }
}

fn bundle(version: &str) -> Digest {
    Digest::of(version.as_bytes())
}

fn slot(name: &str, phase: &str, version: Option<&str>) -> Value {
    let reference =
        |version: &str| json!({"path": format!("bundles/er/{version}.json"), "sha256": bundle(version)});
    let current = version.map(|version| {
        json!({"bundle": reference(version), "variant": "cpu", "provider": {"provider": "openvino"},
               "since": "2026-11-24T02:00:00Z"})
    });
    let phase = match (phase, version) {
        ("empty", _) => json!({"is": "empty"}),
        ("failed", _) => json!({"is": "failed", "bundle": reference("9"), "code": "x", "sentence": "y"}),
        (phase, version) => json!({"is": phase, "bundle": reference(version.unwrap_or("9"))}),
    };
    let mut slot = json!({"slot": name, "phase": phase});
    if let Some(current) = current {
        slot["current"] = current;
    }
    slot
}

fn state(slots: &[Value]) -> State {
    let state = json!({
        "v": VERSION, "boot": boot(), "sequence": 1, "at": "2026-11-24T02:00:00Z", "observed_generation": 0,
        "catalogue": 0, "slots": slots,
    });
    serde_json::from_value(state).unwrap()
}

/// Three boxes: one answers with two bundles, one has failed and said a slot twice, one says nothing and is a stranger.
async fn fleet() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    for (n, site) in [(1, "er-1"), (2, "er-2")] {
        member::written(&store, at(1), &device(n), (&format!("box-{n}"), site)).await;
    }
    let mut tx = store.write().await.unwrap();
    for (n, site) in [(1, "er-1"), (2, "er-2"), (3, "er-2")] {
        devices::hello(&mut tx, &device(n), &hello(n, site), at(1)).await.unwrap();
    }
    let two = [slot("er", "running", Some("1")), slot("beds", "running", Some("2"))];
    assert!(devices::state(&mut tx, &device(1), &state(&two)).await.unwrap());
    let twice = [slot("er", "failed", Some("1")), slot("er", "failed", Some("1"))];
    assert!(devices::state(&mut tx, &device(2), &state(&twice)).await.unwrap());
    tx.commit().await.unwrap();
    (dir, store)
}

fn place(version: &str, site: &str, slots: u64) -> Place {
    let path = format!("bundles/er/{version}.json").parse().unwrap();
    Place { bundle: bundle(version), path, site: site.parse().unwrap(), slots }
}

fn sorted(mut places: Vec<Place>) -> Vec<Place> {
    places.sort_by(|a, b| (&a.path, &a.site).cmp(&(&b.path, &b.site)));
    places
}

#[tokio::test]
async fn what_is_told_at_a_glance_is_what_devices_said() {
    let (_dir, store) = fleet().await;
    let mut db = store.read().await.unwrap();
    let all = Headcount { total: 2, online: 2, answering: 2, failing: 1 };
    assert_eq!(glances::headcount(&mut db, None).await.unwrap(), all);
    let places = sorted(glances::places(&mut db, None).await.unwrap());
    assert_eq!(places, [place("1", "er-1", 1), place("1", "er-2", 1), place("2", "er-1", 1)]);
    assert_eq!(glances::failing(&mut db, None, 9).await.unwrap(), [device(2)]);
    let of_model: Vec<String> = glances::of_model(&mut db, &"er".parse().unwrap(), None, 9)
        .await
        .unwrap()
        .into_iter()
        .map(|slot| format!("{} {}", slot.name, slot.slot))
        .collect();
    assert_eq!(of_model, ["box-1 beds", "box-1 er", "box-2 er"]);

    // Of one site, and of none.
    let one: BTreeSet<SiteName> = BTreeSet::from(["er-2".parse().unwrap()]);
    let there = Headcount { total: 1, online: 1, answering: 1, failing: 1 };
    assert_eq!(glances::headcount(&mut db, Some(&one)).await.unwrap(), there);
    assert_eq!(glances::places(&mut db, Some(&one)).await.unwrap(), [place("1", "er-2", 1)]);
    assert_eq!(glances::headcount(&mut db, Some(&BTreeSet::new())).await.unwrap(), Headcount::default());
}

#[tokio::test]
async fn a_glance_follows_presence_site_and_standing() {
    let (_dir, store) = fleet().await;
    let mut tx = store.write().await.unwrap();
    devices::all_offline(&mut tx, at(5)).await.unwrap();
    assert_eq!(glances::silent(&mut tx, None, at(5), 9).await.unwrap(), [device(1), device(2)]);
    assert_eq!(glances::silent(&mut tx, None, at(4), 9).await.unwrap(), []);
    // It comes back at another site.
    devices::hello(&mut tx, &device(1), &hello(1, "er-3"), at(6)).await.unwrap();
    assert_eq!(glances::silent(&mut tx, None, at(9), 9).await.unwrap(), [device(2)]);
    let places = sorted(glances::places(&mut tx, None).await.unwrap());
    assert_eq!(places, [place("1", "er-2", 1), place("1", "er-3", 1), place("2", "er-3", 1)]);
    // Whoever is let in later counts from then on, and whoever is revoked no more.
    let mut identity = identities::get(&mut tx, &device(2)).await.unwrap().unwrap();
    identity.standing = muster_fleet::enrolment::Standing::Revoked { reason: "stolen".to_owned() };
    identities::save(&mut tx, &identity).await.unwrap();
    identity.device = device(3);
    identity.key.fingerprint = Fingerprint::of(b"3");
    identity.standing = muster_fleet::enrolment::Standing::Active;
    identities::save(&mut tx, &identity).await.unwrap();
    let members = glances::members(&mut tx, None).await.unwrap();
    assert_eq!(members.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), [device(1), device(3)]);
    assert_eq!(glances::failing(&mut tx, None, 9).await.unwrap(), []);
}

#[tokio::test]
async fn lists_and_counts_go_by_what_a_slot_is_at() {
    let (_dir, store) = fleet().await;
    let mut db = store.read().await.unwrap();
    let found = async |filter: DeviceFilter| {
        let mut db = store.read().await.unwrap();
        let list = devices::list(&mut db, &filter, &Page::first(9)).await.unwrap();
        assert_eq!(devices::number(&mut db, &filter).await.unwrap(), list.len() as u64);
        list.into_iter().map(|device| device.name).collect::<Vec<_>>()
    };
    let of = |slot: SlotFilter| DeviceFilter { slot, ..DeviceFilter::default() };
    let phase = |phase: &str| SlotFilter { phase: Some(phase.to_owned()), ..SlotFilter::default() };
    let runs = |version: &str| SlotFilter { bundle: Some(bundle(version)), ..SlotFilter::default() };
    let model = |model: &str| SlotFilter { model: Some(model.parse().unwrap()), ..SlotFilter::default() };
    assert_eq!(found(of(phase("failed"))).await, ["box-2"]);
    assert_eq!(found(of(runs("1"))).await, ["box-1", "box-2"]);
    assert_eq!(found(of(runs("2"))).await, ["box-1"]);
    assert_eq!(found(of(model("er"))).await, ["box-1", "box-2"]);
    assert_eq!(found(of(model("beds"))).await, ["box-1"]);
    // All of it is of one slot.
    assert_eq!(found(of(SlotFilter { bundle: Some(bundle("2")), ..phase("failed") })).await, [""; 0]);
    let both = DeviceFilter {
        presence: Some(Presence::Online),
        site: Some("er-2".parse().unwrap()),
        ..of(runs("1"))
    };
    assert_eq!(found(both).await, ["box-2"]);
    // The list has strangers too.
    assert_eq!(devices::number(&mut db, &DeviceFilter::default()).await.unwrap(), 3);
}
