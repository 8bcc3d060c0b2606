//! What devices say, from the broker to the database and back as an acknowledgement.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_fleet::broker::Insider;
use muster_fleet::clock::{Clocks, TrustClock};
use muster_fleet::ingest::Ingest;
use muster_fleet::link::{Inbound, Link, Way};
use muster_fleet::rollup::{Retention, Rollup, Step};
use muster_fleet::store::{
    Page, Store, devices, events, heads, labels, log, orders, outbox, positions, reports, rollups, shadows,
    sources, stats, windows,
};
use muster_protocol::drift::Counter;
use muster_protocol::ids::{BootId, DeviceId, Digest};
use muster_protocol::message::report::PairedLoss;
use muster_protocol::message::{
    Capabilities, Health, Hello, LabelBlock, Message as _, ModelStats, Pane, Presence, Report, ShadowBlock,
    State, Status, VERSION,
};
use muster_protocol::time::Timestamp;
use muster_protocol::topic::{Down, Topic, Up};
use muster_protocol::trust::Want;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::device::Device;
use crate::publisher::{Bundle, Publisher, age_reference};
use crate::server::{PATIENCE, Server, eventually};

const DAY: Duration = Duration::from_hours(24);

#[tokio::test]
async fn a_stranger_says_hello_and_is_registered() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut device = Device::connect(&server, 1, 1).await;
    // Whoever did not say hello is not listened to.
    device.say(Up::Event, device.event(1, 1).to_json()).await;
    let ack = device.hello().await;
    assert_eq!((ack.boot, ack.event, ack.report, ack.state), (device.boot.clone(), 0, 0, 0));
    assert_eq!(server.fleet.ingest.strangers.load(Ordering::Relaxed), 1);
    let mut db = server.read().await;
    let known = devices::get(&mut db, &device.id).await.unwrap().unwrap();
    assert_eq!((known.presence, known.connection, known.state), (Presence::Online, 1, None));
    let told = log::after(&mut db, Some(device.id.as_str()), &Page::first(10)).await.unwrap();
    assert_eq!(told.iter().map(|entry| entry.kind.as_str()).collect::<Vec<_>>(), ["device.registered"]);
    drop(db);
    server.stop().await;
}

/// The connection that says it may wait for us to take messages in: whoever waits for it here stands still for ever.
#[tokio::test]
async fn messages_are_taken_in_though_nobody_takes_what_is_said_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clocks) = (Store::open(dir.path()).await.unwrap(), Clocks::default());
    let devices: Vec<DeviceId> = (0..200).map(|n| DeviceId::mint([n; 16])).collect();
    for device in &devices {
        crate::member::written(&store, clocks.trust.now(), device, ("box", "er-1")).await;
    }
    let insider = Insider { client_id: "nobody".to_owned(), password: String::new() };
    // Never run, so that its queue fills up.
    let (_link, publisher, _incoming) =
        Link::new(Way::Inside { broker: ([127, 0, 0, 1], 1).into(), insider });
    let ingest = Ingest::new(store, publisher, clocks, Arc::default(), Retention::default());
    let counters = ingest.counters();
    let (send, messages) = mpsc::channel(1);
    let mut running = JoinSet::new();
    running.spawn(ingest.run(messages, CancellationToken::new()));
    for (n, device) in devices.iter().chain(&devices).enumerate() {
        let hello = Hello {
            v: VERSION,
            boot: BootId::mint([1; 16]),
            connection: n as u64,
            name: "box".to_owned(),
            site: "er-1".parse().unwrap(),
            agent_version: "0.3.0".to_owned(),
            capabilities: Capabilities::default(),
            order_version: 0,
            root: None,
            certificate_expires: None,
            facts: None,
            key: None,
        };
        let payload = hello.to_json().into();
        let message = Inbound { device: device.clone(), up: Up::Hello, payload };
        tokio::time::timeout(PATIENCE, send.send(message)).await.expect("nobody takes messages in").unwrap();
    }
    eventually("all are taken in", || counters.messages.load(Ordering::Relaxed) == 400).await;
}

#[tokio::test]
async fn events_are_acknowledged_once_committed_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut device = Device::connect(&server, 1, 1).await;
    device.hello().await;
    // (sequence, held_from) → acknowledged up to
    for (sequence, held_from, expect) in [
        (1, 1, 1),
        (1, 1, 1), // a repeat
        (3, 1, 1), // 2 is missing
        (2, 1, 2),
        (3, 1, 3),
        (7, 6, 3), // 4 and 5 are gone for good, 6 is still to come
        (6, 6, 6),
        (7, 6, 7),
    ] {
        device.say(Up::Event, device.event(sequence, held_from).to_json()).await;
        let ack = device.ack().await;
        assert_eq!(ack.event, expect, "after {sequence}");
        // What was acknowledged is in the database, not on its way there.
        let mut db = server.read().await;
        let safe = positions::get(&mut db, &device.id, &device.boot, positions::Stream::Event).await.unwrap();
        assert_eq!(safe, expect);
    }
    let mut db = server.read().await;
    let kept = events::list(&mut db, &device.id, &Page::first(100)).await.unwrap();
    let mut sequences: Vec<u64> = kept.iter().map(|event| event.sequence).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, [1, 2, 3, 6, 7]);
    drop(db);
    assert_eq!(server.fleet.ingest.duplicates.load(Ordering::Relaxed), 1);
    assert_eq!(server.fleet.ingest.gaps.load(Ordering::Relaxed), 2);
    server.stop().await;
}

#[tokio::test]
async fn malformed_messages_are_counted_and_harm_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut device = Device::connect(&server, 1, 1).await;
    device.hello().await;
    for up in [Up::Hello, Up::Status, Up::State, Up::Event, Up::Report, Up::Want] {
        device.say(up, b"{\"v\":1,".to_vec()).await;
        device.say(up, vec![0xff; 70_000]).await;
        device.say(up, Vec::new()).await;
    }
    device.say(Up::Event, device.event(1, 1).to_json()).await;
    assert_eq!(device.ack().await.event, 1);
    // Wants go another way; the five other kinds are counted.
    assert_eq!(server.fleet.ingest.malformed.load(Ordering::Relaxed), 15);
    server.stop().await;
}

#[tokio::test]
async fn presence_follows_the_present_connection_only() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut first = Device::connect(&server, 1, 1).await;
    first.hello().await;
    let id = first.id.clone();
    // The second connection takes over; the first one's will comes late.
    let mut second = Device::connect(&server, 1, 2).await;
    second.hello().await;
    first.client.vanish();
    let late = Status { v: VERSION, boot: second.boot.clone(), connection: 1, presence: Presence::Offline };
    second.say(Up::Status, late.to_json()).await;
    second.say(Up::Event, second.event(1, 1).to_json()).await;
    second.ack().await;
    assert_eq!(presence(&server, &id).await, Presence::Online);
    second.client.vanish();
    let gone = async |fleet: &muster_fleet::fleet::Fleet| {
        let mut db = fleet.store.read().await.unwrap();
        let device = devices::get(&mut db, &id).await.unwrap().unwrap();
        (device.presence == Presence::Offline).then_some(())
    };
    server.until("the device is offline", gone).await;
    server.stop().await;
}

#[tokio::test]
async fn a_state_of_an_earlier_boot_is_acknowledged_and_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let mut device = Device::connect(&server, 1, 1).await;
    device.hello().await;
    let state = |boot: BootId, sequence, observed_generation| State {
        v: VERSION,
        boot,
        sequence,
        at: Timestamp::from_seconds(1_795_000_000),
        observed_generation,
        catalogue: 0,
        refusal: None,
        notices: vec![],
        leases: Vec::new(),
        captures: Vec::new(),
        slots: Vec::new(),
    };
    for (boot, sequence, generation, expect) in [
        (device.boot.clone(), 4, 10, 10),
        (BootId::mint([9; 16]), 9, 11, 10),
        (device.boot.clone(), 3, 12, 10), // older than what is here
        (device.boot.clone(), 5, 13, 13),
    ] {
        device.say(Up::State, state(boot.clone(), sequence, generation).to_json()).await;
        let ack = device.ack().await;
        assert!(ack.boot == boot && ack.state >= sequence);
        let mut db = server.read().await;
        let known = devices::get(&mut db, &device.id).await.unwrap().unwrap();
        assert_eq!((known.state.unwrap().observed_generation, known.order_applied), (expect, expect));
    }
    server.stop().await;
}

#[tokio::test]
async fn reports_become_windows_sums_and_label_days_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let bundle = Bundle::make("bundles/er-beds/1.json", b"model");
    Publisher::begin(&server.fleet, &[&bundle]).await;
    let mut device = Device::connect(&server, 1, 1).await;
    device.hello().await;
    let day = yesterday();
    for sequence in [1, 2, 2, 1, 3] {
        let report = report(&device, &bundle, sequence, day);
        device.say(Up::Report, report.encode().unwrap()).await;
        device.ack().await;
    }
    let mut db = server.fleet.store.read_telemetry().await.unwrap();
    assert_eq!(reports::list(&mut db, &device.id, &Page::first(10)).await.unwrap().len(), 3);
    assert_eq!(reports::health_of(&mut db, &device.id).await.unwrap().unwrap().health.uptime_s, 3);
    let merged = windows::list(&mut db, &windows::WindowFilter::default(), &Page::first(10)).await.unwrap();
    let [window] = merged.as_slice() else { panic!("{} windows", merged.len()) };
    assert_eq!((window.from, window.panes, window.streams[0].rows()), (day, 3, 30));
    let (slot, sha256) = ("beds".parse().unwrap(), bundle.sha256());
    let lived = stats::exposure(&mut db, &[&device.id], (&slot, &sha256), day).await.unwrap();
    let [(of, lived)] = lived.as_slice() else { panic!("{} devices", lived.len()) };
    assert_eq!((of, lived.hours, lived.failed_hours, lived.latency[2]), (&device.id, 1, 1, 300));
    assert_eq!(heads::predictions(&mut db, &sha256, day, 9).await.unwrap(), [(day, 300)]);
    let filter = labels::LabelFilter { bundle: &sha256, slot: &slot, devices: &[&device.id], since: day };
    let days = labels::list(&mut db, filter, &Page::first(10)).await.unwrap();
    let [labels] = days.as_slice() else { panic!("{} days", days.len()) };
    assert_eq!((labels.n, labels.loss_sum, labels.paired.as_ref().unwrap().diff_sum), (6, 1.5, -0.75));
    let bundles = (&Digest::of(b"before"), &sha256);
    let filter = shadows::ShadowFilter { slot: &slot, bundles, devices: &[&device.id], since: day };
    let compared = shadows::compared(&mut db, filter).await.unwrap();
    assert_eq!(compared, [(device.id.clone(), shadows::Compared { n: 300, differed: 15 })]);
    drop(db);
    server.stop().await;
}

#[tokio::test]
async fn rollups_and_positions_survive_crashes_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = Bundle::make("bundles/er-beds/1.json", b"model");
    let day = yesterday();
    let span = (day, day.plus(DAY));
    let mut server = Server::start(dir.path()).await;
    Publisher::begin(&server.fleet, &[&bundle]).await;
    let mut boot = None;
    // Each server takes a report and a repeat, and is killed; the next one rolls up what the one before took.
    for sequence in 1..=3_u64 {
        let mut device = Device::connect(&server, 1, sequence).await;
        device.boot = boot.get_or_insert_with(|| device.boot.clone()).clone();
        device.hello().await;
        for _ in 0..2 {
            device.say(Up::Report, report(&device, &bundle, sequence, day).encode().unwrap()).await;
            assert_eq!(device.ack().await.report, sequence);
        }
        let mut db = server.fleet.store.read_telemetry().await.unwrap();
        for step in [Step::FiveMinutes, Step::Hour] {
            let found = rollups::list(&mut db, &device.id, step, span, 100).await.unwrap();
            let sum = |of: fn(&Rollup) -> u64| found.iter().map(|(_, rollup)| of(rollup)).sum::<u64>();
            assert_eq!(sum(|rollup| u64::from(rollup.reports)), sequence, "{step:?}");
            assert_eq!(sum(|rollup| rollup.requests), 100 * sequence, "{step:?}");
        }
        drop(db);
        let id = device.id.clone();
        server.kill().await;
        server = Server::start(dir.path()).await;
        let deadline = tokio::time::Instant::now() + crate::server::PATIENCE;
        loop {
            let mut db = server.fleet.store.read_telemetry().await.unwrap();
            if rollups::rolled(&mut db).await.unwrap() == i64::try_from(sequence).unwrap() {
                let hours = rollups::list(&mut db, &id, Step::Hour, span, 100).await.unwrap();
                assert_eq!(hours.iter().map(|(_, rollup)| u64::from(rollup.reports)).sum::<u64>(), sequence);
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "the rollups were not written");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let mut db = server.fleet.store.read_telemetry().await.unwrap();
    assert_eq!(rollups::last_report(&mut db).await.unwrap(), 3);
    drop(db);
    server.stop().await;
}

#[tokio::test]
async fn what_a_box_gave_up_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let bundle = Bundle::make("bundles/er-beds/1.json", b"model");
    let mut device = Device::connect(&server, 1, 1).await;
    device.hello().await;
    let day = yesterday();
    for (sequence, held_from, position, lost) in [
        (1, 1, 1, 0),
        (5, 4, 1, 0), // 2 and 3 are gone, 4 is still to come
        (4, 4, 4, 2),
        (4, 4, 4, 2), // a repeat
        (5, 4, 5, 2),
        (9, 9, 9, 5),
    ] {
        let mut report = report(&device, &bundle, sequence, day);
        report.held_from = held_from;
        device.say(Up::Report, report.encode().unwrap()).await;
        assert_eq!(device.ack().await.report, position, "after {sequence}");
        let mut db = server.fleet.store.read_telemetry().await.unwrap();
        let found = sources::lost_of(&mut db, &device.id).await.unwrap();
        assert_eq!(found.iter().map(|lost| lost.reports).sum::<u64>(), lost, "after {sequence}");
        assert_eq!(sources::lost_by_all(&mut db).await.unwrap(), (lost, u64::from(lost > 0)));
    }
    server.stop().await;
}

#[tokio::test]
async fn absurd_numbers_of_one_box_are_taken_and_spoil_no_sum_of_the_fleet() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let bundle = Bundle::make("bundles/er-beds/1.json", b"model");
    Publisher::begin(&server.fleet, &[&bundle]).await;
    let day = yesterday();
    let mut good = Device::connect(&server, 1, 1).await;
    good.hello().await;
    good.say(Up::Report, report(&good, &bundle, 1, day).encode().unwrap()).await;
    good.ack().await;
    let mut broken = Device::connect(&server, 2, 1).await;
    broken.hello().await;
    for (sequence, sum) in (1_u64 << 62..).zip([f64::MAX, f64::MAX, f64::MIN, f64::INFINITY]) {
        let mut absurd = report(&broken, &bundle, 1, day);
        (absurd.sequence, absurd.held_from) = (sequence, sequence);
        (absurd.from, absurd.to) = (absurd.to, absurd.from);
        absurd.models[0].rows = u64::MAX;
        (absurd.labels[0].n, absurd.labels[0].loss_sum) = (u64::MAX, sum);
        absurd.labels[0].against.as_mut().unwrap().n = u64::MAX;
        broken.say(Up::Report, absurd.encode().unwrap()).await;
        assert_eq!(broken.ack().await.report, sequence, "{sum}");
    }
    let most = u64::from(u32::MAX);
    let (slot, sha256) = ("beds".parse().unwrap(), bundle.sha256());
    let mut db = server.fleet.store.read_telemetry().await.unwrap();
    assert_eq!(heads::predictions(&mut db, &sha256, day, 9).await.unwrap(), [(day, 100 + 4 * most)]);
    let totals = heads::labels(&mut db, &sha256, day, 9).await.unwrap();
    // The block with a sum that is no number was left out.
    assert_eq!(totals.iter().map(|day| day.n).collect::<Vec<_>>(), [2 + 3 * most]);
    assert!(totals[0].loss_sum.is_finite());
    let filter = labels::LabelFilter { bundle: &sha256, slot: &slot, devices: &[&broken.id], since: day };
    let days = labels::list(&mut db, filter, &Page::first(10)).await.unwrap();
    assert_eq!(days.iter().filter_map(|day| Some(day.paired.as_ref()?.n)).collect::<Vec<_>>(), [3 * most]);
    assert_eq!(sources::lost_by_all(&mut db).await.unwrap(), (most, 1));
    drop(db);
    server.stop().await;
}

#[tokio::test]
async fn a_box_that_lost_its_order_gets_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let bundle = Bundle::make("bundles/er-beds/1.json", b"model");
    Publisher::begin(&server.fleet, &[&bundle]).await;
    let mut device = Device::connect(&server, 1, 1).await;
    device.hello().await;
    let want = Want::now("beds".parse().unwrap(), bundle.path.clone(), bundle.sha256());
    let topic = Topic::Down(device.id.clone(), Down::Order);
    let mut tx = server.fleet.store.write().await.unwrap();
    let handed =
        server.fleet.orders.set_wants(&mut tx, &device.id, std::slice::from_ref(&want)).await.unwrap();
    // Nothing leaves before the commit.
    let waiting = outbox::next(&mut server.read().await, &Page::first(9)).await.unwrap();
    assert!(waiting.iter().all(|(_, message)| message.topic != topic));
    tx.commit().await.unwrap();
    let order = device.client.next_on(&topic).await.payload;
    let mut db = server.read().await;
    assert_eq!(orders::get(&mut db, &device.id).await.unwrap().unwrap().bytes, order);
    drop(db);
    // The same wish again is no new order; a hello that knows no order brings the old one.
    let mut tx = server.fleet.store.write().await.unwrap();
    let again = server.fleet.orders.set_wants(&mut tx, &device.id, &[want]).await.unwrap();
    assert_eq!(again, muster_fleet::orders::Handed::Unchanged { version: handed.version() });
    tx.commit().await.unwrap();
    device.hello().await;
    assert_eq!(device.client.next_on(&topic).await.payload, order);
    server.stop().await;
}

async fn presence(server: &Server, id: &DeviceId) -> Presence {
    devices::get(&mut server.read().await, id).await.unwrap().unwrap().presence
}

/// A day that is over. What is much older than this is not put where it was measured.
pub(crate) fn yesterday() -> Timestamp {
    TrustClock.now().minus(DAY).floor_to(DAY)
}

pub(crate) fn report(device: &Device, bundle: &Bundle, sequence: u64, day: Timestamp) -> Report {
    let mut counter = Counter::new(&age_reference());
    let Counter::Numeric(numeric) = &mut counter else { unreachable!("the reference is numeric") };
    numeric.observe_all(&[1.0; 10]);
    let (slot, sha256) = ("beds".parse::<muster_protocol::ids::SlotName>().unwrap(), bundle.sha256());
    let from = day.plus(Duration::from_mins(10 * sequence));
    let mut latency = vec![0; 16];
    latency[2] = 100;
    Report {
        boot: device.boot.clone(),
        sequence,
        held_from: 1,
        from,
        to: from.plus(Duration::from_mins(10)),
        health: Health { uptime_s: sequence, ..Health::default() },
        models: vec![ModelStats {
            slot: slot.clone(),
            bundle: sha256,
            requests: 100,
            rows: 100,
            failures: 1,
            refused: 0,
            latency,
        }],
        panes: vec![Pane {
            slot: slot.clone(),
            bundle: sha256,
            from,
            to: from.plus(Duration::from_mins(10)),
            streams: vec![counter.counts()],
        }],
        labels: vec![LabelBlock {
            slot: slot.clone(),
            bundle: sha256,
            day,
            n: 2,
            label_sum: 1.0,
            prediction_sum: 1.0,
            loss_sum: 0.5,
            loss_sum_sq: 0.25,
            against: Some(PairedLoss {
                bundle: Digest::of(b"before"),
                n: 2,
                loss_sum: 0.75,
                diff_sum: -0.25,
                diff_sum_sq: 0.125,
            }),
        }],
        shadows: vec![ShadowBlock {
            slot,
            bundle: Digest::of(b"before"),
            against: sha256,
            day,
            n: 100,
            differed: 5,
        }],
    }
}
