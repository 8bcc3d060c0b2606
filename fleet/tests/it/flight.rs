//! A batch that cannot be written while the next one is judged.

use bytes::Bytes;
use muster_fleet::clock::Clocks;
use muster_fleet::ingest::Load;
use muster_fleet::link::Inbound;
use muster_fleet::store::{Page, Store, devices, log};
use muster_protocol::message::{Capabilities, Hello, Message as _, Presence, Report, Status, VERSION};
use muster_protocol::topic::Up;

use crate::boxes::{Boxes, ingest};

#[tokio::test]
async fn who_has_gone_does_not_come_back_because_a_batch_is_taken_in_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let mut boxes = Boxes::enrol(&store, 1, Clocks::default()).await;
    let report = boxes.round(1).remove(0);
    let (device, boot) = (report.device.clone(), Report::decode(&report.payload).unwrap().boot);
    let says = |up, payload: Vec<u8>| Inbound { device: device.clone(), up, payload: Bytes::from(payload) };
    let hello = Hello {
        v: VERSION,
        boot: boot.clone(),
        connection: 2,
        name: "box-0".to_owned(),
        site: "site-0".parse().unwrap(),
        agent_version: "0.3.0".to_owned(),
        capabilities: Capabilities::default(),
        order_version: 0,
        root: None,
        certificate_expires: None,
        facts: None,
        key: None,
    };
    let is = |presence| Status { v: VERSION, boot: boot.clone(), connection: 2, presence };
    let coming = [
        says(Up::Status, Status { connection: 1, ..is(Presence::Offline) }.to_json()),
        says(Up::Hello, hello.to_json()),
        report,
    ];
    let going = [says(Up::Status, is(Presence::Offline).to_json())];

    // No report can be written, whatever is tried.
    let file = format!("sqlite://{}", dir.path().join("telemetry.db").display());
    let disk = sqlx::SqlitePool::connect(&file).await.unwrap();
    let full = "create trigger full before insert on box_health begin select raise(abort, 'disk'); end";
    sqlx::query(full).execute(&disk).await.unwrap();
    let mut ingest = ingest(&store, Clocks::default());
    ingest.take_in(&coming, Load::Light).await;
    ingest.take_in(&going, Load::Light).await;
    assert!(ingest.settle().await.is_empty());
    let told = async || {
        let mut db = store.read().await.unwrap();
        let told = log::after(&mut db, Some(device.as_str()), &Page::first(10)).await.unwrap();
        let presence = devices::get(&mut db, &device).await.unwrap().unwrap().presence;
        (told.into_iter().map(|entry| entry.kind).collect::<Vec<_>>(), presence)
    };
    let kinds = ["device.offline", "device.online", "device.offline"].map(str::to_owned).to_vec();
    assert_eq!(told().await, (kinds.clone(), Presence::Offline));

    // When it can be written again the box repeats it, and is told so.
    sqlx::query("drop trigger full").execute(&disk).await.unwrap();
    ingest.take_in(&coming[2..], Load::Light).await;
    assert_eq!(ingest.settle().await[0].1.report, 1);
    assert_eq!(told().await, (kinds, Presence::Offline));
    disk.close().await;
    store.close().await;
}
