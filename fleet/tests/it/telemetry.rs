//! The telemetry's conformance: what either database must do. Every test runs on SQLite and on PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_fleet::rollup::{Bound, Retention, Rollup, Step};
use muster_fleet::store::panes::{NewPane, Windows};
use muster_fleet::store::reports::{HealthAt, Measured, NewReport, ReportEntry};
use muster_fleet::store::slices::Kind;
use muster_fleet::store::{
    Page, Store, heads, health, labels, panes, reports, rollups, shadows, slices, sources, stats, windows,
};
use muster_protocol::drift::Counter;
use muster_protocol::ids::{BootId, DeviceId, Digest, SlotName};
use muster_protocol::message::report::PairedLoss;
use muster_protocol::message::{Health, LabelBlock, ModelStats, Pane, Report, ShadowBlock};
use muster_protocol::time::Timestamp;
use sqlx::Row as _;

use crate::postgres::Postgres;
use crate::publisher::age_reference;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Runs a test on both databases, each new and empty.
pub(crate) async fn on_both(test: impl AsyncFn(&Store)) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    test(&store).await;
    store.close().await;
    let postgres = Postgres::start().await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_with(dir.path(), Some(&postgres.database("muster"))).await.unwrap();
    test(&store).await;
    store.close().await;
}

fn device(n: u8) -> DeviceId {
    DeviceId::mint([n; 16])
}

fn boot(n: u8) -> BootId {
    BootId::mint([n; 16])
}

fn slot() -> SlotName {
    "beds".parse().unwrap()
}

/// A Thursday noon.
fn noon() -> Timestamp {
    Timestamp::from_seconds(1_795_608_000)
}

fn minutes(n: u64) -> Duration {
    Duration::from_mins(n)
}

/// A report of a box with so much CPU, and 10 requests.
fn report(n: u8, sequence: u64, cpu: u8, at: Timestamp) -> Report {
    Report {
        boot: boot(n),
        sequence,
        held_from: 1,
        from: at.minus(minutes(1)),
        to: at,
        health: Health { cpu_percent: f32::from(cpu), uptime_s: sequence, ..Health::default() },
        models: vec![ModelStats {
            slot: slot(),
            bundle: Digest::of(b"bundle"),
            requests: 10,
            rows: 20,
            failures: 1,
            refused: 0,
            latency: vec![0, 10],
        }],
        panes: vec![],
        labels: vec![],
        shadows: vec![],
    }
}

/// Takes a report as ingest does while sums wait.
async fn take(store: &Store, (id, source): (i64, i64), report: &Report, received: Timestamp) {
    let mut tx = store.write_telemetry().await.unwrap();
    let payload = reports::pack_measured(reports::pack(report).unwrap(), &measured(report)).unwrap();
    let new = NewReport { id, source, sequence: report.sequence, measured: report.to, payload };
    reports::append(&mut tx, &[new], received).await.unwrap();
    tx.commit().await.unwrap();
}

fn measured(report: &Report) -> Measured {
    let panes = report.panes.iter().map(|pane| NewPane { pane: pane.clone(), window: DAY });
    Measured { panes: panes.collect(), labels: report.labels.clone(), shadows: report.shadows.clone() }
}

async fn boots(store: &Store, boots: &[(u8, u8)]) -> Vec<sources::Source> {
    let mut tx = store.write_telemetry().await.unwrap();
    let mut all = Vec::new();
    for (n, of) in boots {
        all.push(sources::add(&mut tx, &device(*n), &boot(*of), noon()).await.unwrap());
    }
    tx.commit().await.unwrap();
    all
}

#[tokio::test]
async fn reports_are_found_by_what_they_measured() {
    on_both(async |store| {
        let known = boots(store, &[(1, 1), (2, 2)]).await;
        // What a box measured two hours ago comes last.
        for (id, box_at, sequence, ago, received) in
            [(1, 0, 1, 1, 60), (2, 1, 1, 0, 60), (3, 0, 2, 0, 60), (4, 0, 3, 120, 61)]
        {
            let received = noon().plus(minutes(received - 60));
            let mut told = report(1, sequence, 50, noon().minus(minutes(ago)));
            if id == 3 {
                (told.panes, told.labels, told.shadows) = of_data();
            }
            take(store, (id, known[box_at].id), &told, received).await;
        }
        let mut db = store.read_telemetry().await.unwrap();
        let uptimes =
            |found: &[ReportEntry]| found.iter().map(|report| report.health.uptime_s).collect::<Vec<_>>();
        let newest = reports::list(&mut db, &device(1), &Page::first(2)).await.unwrap();
        assert_eq!(uptimes(&newest), [2, 1]);
        let last = newest.last().map(|report| (report.measured, report.received)).unwrap();
        let rest = reports::list(&mut db, &device(1), &Page::after(last, 9)).await.unwrap();
        assert_eq!(uptimes(&rest), [3]);
        let span = (noon().minus(minutes(1)), noon());
        assert_eq!(uptimes(&reports::between(&mut db, &device(1), span, 9).await.unwrap()), [1]);
        assert_eq!(reports::health_of(&mut db, &device(1)).await.unwrap().unwrap().health.uptime_s, 3);
        assert_eq!(reports::health_of(&mut db, &device(3)).await.unwrap(), None);
        let again = reports::unrolled(&mut db, 1, 9).await.unwrap();
        let boxes: Vec<_> = again.iter().map(|report| (report.id, report.box_id, report.sequence)).collect();
        assert_eq!(boxes, [(2, known[1].box_id, 1), (3, known[0].box_id, 2), (4, known[0].box_id, 3)]);
        let (panes, labels, shadows) = of_data();
        let data = measured(&Report { panes, labels, shadows, ..report(1, 2, 50, noon()) });
        let of_data: Vec<_> = again.into_iter().map(|report| report.measured).collect();
        assert_eq!(of_data, [Measured::default(), data, Measured::default()]);
    })
    .await;
}

/// What a report may tell of data.
fn of_data() -> (Vec<Pane>, Vec<LabelBlock>, Vec<ShadowBlock>) {
    let (bundle, against) = (Digest::of(b"bundle"), Digest::of(b"other"));
    let streams = vec![Counter::new(&age_reference()).counts()];
    let pane = Pane { slot: slot(), bundle, from: noon(), to: noon().plus(HOUR), streams };
    let shadow = ShadowBlock { slot: slot(), bundle, against, day: noon(), n: 100, differed: 7 };
    (vec![pane], vec![block(bundle, Some(b"old"))], vec![shadow])
}

#[tokio::test]
async fn rollups_add_up_across_closings() {
    on_both(async |store| {
        let known = boots(store, &[(1, 1)]).await;
        for (id, cpu, minute) in [(1, 10, 1), (2, 30, 2), (3, 80, 7)] {
            let at = noon().plus(minutes(minute));
            take(store, (id, known[0].id), &report(1, u64::try_from(id).unwrap(), cpu, at), at).await;
        }
        // The first two are rolled up one by one; the third is not yet.
        for (id, cpu) in [(1, 10_u8), (2, 30)] {
            let told = report(1, 1, cpu, noon());
            let rollup = Rollup::of(&told.health, &told.models);
            let open = rollups::Rollups::from([((known[0].box_id, noon()), rollup)]);
            let mut tx = store.write_telemetry().await.unwrap();
            rollups::add(&mut tx, &open, id).await.unwrap();
            tx.commit().await.unwrap();
        }
        let mut db = store.read_telemetry().await.unwrap();
        let mut seen = BTreeMap::new();
        for step in [Step::FiveMinutes, Step::Hour] {
            let span = (noon(), noon().plus(HOUR));
            for (at, rollup) in rollups::list(&mut db, &device(1), step, span, 9).await.unwrap() {
                let (min, mean, max) = rollup.cpu_percent.values().unwrap();
                seen.insert(
                    (step, at.since(noon()).as_secs() / 60),
                    (rollup.reports, min, mean, max, rollup.requests),
                );
            }
        }
        let expect = [
            ((Step::FiveMinutes, 0), (2, 10.0, 20.0, 30.0, 20)),
            ((Step::FiveMinutes, 5), (1, 80.0, 80.0, 80.0, 10)),
            ((Step::Hour, 0), (3, 10.0, 40.0, 80.0, 30)),
        ];
        assert_eq!(seen, BTreeMap::from(expect));
        assert_eq!(
            (rollups::rolled(&mut db).await.unwrap(), rollups::last_report(&mut db).await.unwrap()),
            (2, 3)
        );
    })
    .await;
}

#[tokio::test]
async fn positions_and_losses_are_remembered_by_the_boot() {
    on_both(async |store| {
        let known = boots(store, &[(1, 1), (1, 2), (2, 3)]).await;
        assert_eq!(known[0].box_id, known[1].box_id);
        assert_ne!(known[0].box_id, known[2].box_id);
        take(store, (1, known[1].id), &report(2, 7, 1, noon()), noon()).await;
        let mut tx = store.write_telemetry().await.unwrap();
        sources::remember(&mut tx, &[(known[0].id, 5), (known[1].id, 3)], noon()).await.unwrap();
        let lost = sources::Source { lost: 4, lost_since: Some(noon()), contiguous: 9, ..known[2].clone() };
        sources::lose(&mut tx, &lost).await.unwrap();
        tx.commit().await.unwrap();
        let mut db = store.read_telemetry().await.unwrap();
        let mut position = async |n: u8, of: u8| {
            sources::get(&mut db, &device(n), &boot(of)).await.unwrap().map(|source| source.contiguous)
        };
        assert_eq!(position(1, 1).await, Some(5));
        assert_eq!(position(1, 2).await, Some(7), "a report shows more than what was remembered");
        assert_eq!(position(2, 3).await, Some(9));
        assert_eq!(position(2, 1).await, None);
        let found = sources::lost_of(&mut db, &device(2)).await.unwrap();
        assert_eq!(found, [sources::Lost { boot: boot(3), reports: 4, since: noon() }]);
        assert_eq!(sources::lost_by_all(&mut db).await.unwrap(), (4, 1));
        drop(db);
        // A box that restarts all day.
        let mut tx = store.write_telemetry().await.unwrap();
        for n in 10..=80 {
            sources::add(&mut tx, &device(1), &boot(n), noon().plus(minutes(n.into()))).await.unwrap();
        }
        sources::trim(&mut tx, &device(1)).await.unwrap();
        assert_eq!(sources::get(&mut tx, &device(1), &boot(1)).await.unwrap(), None);
        assert!(sources::get(&mut tx, &device(1), &boot(80)).await.unwrap().is_some());
        assert!(sources::get(&mut tx, &device(2), &boot(3)).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn what_is_too_old_or_too_much_leaves_but_never_before_it_is_rolled_up() {
    on_both(async |store| {
        let known = boots(store, &[(1, 1)]).await;
        for n in 0..5_u8 {
            let at = noon().plus(HOUR * u32::from(n));
            take(store, (i64::from(n) + 1, known[0].id), &report(1, u64::from(n) + 1, 1, at), at).await;
        }
        let retain = async |bytes: u64, hours: u64, now: Timestamp| {
            let bound = Bound { bytes, age: Duration::from_hours(hours) };
            let retention = Retention { reports: bound, ..Retention::default() };
            let mut tx = store.write_telemetry().await.unwrap();
            let dropped = slices::retain(&mut tx, &retention, now).await.unwrap();
            tx.commit().await.unwrap();
            let mut db = store.read_telemetry().await.unwrap();
            let kept = slices::kept(&mut db).await.unwrap();
            let of = kept.into_iter().find(|kept| kept.kind == Kind::Reports).unwrap();
            (dropped, of.rows, of.dropped_rows, of.dropped_early)
        };
        let rolled = async |id: i64| {
            let mut tx = store.write_telemetry().await.unwrap();
            rollups::add(&mut tx, &rollups::Rollups::new(), id).await.unwrap();
            tx.commit().await.unwrap();
        };
        let later = noon().plus(HOUR * 4).plus(minutes(1));
        assert_eq!(retain(1, 1, later).await, (0, 5, 0, 0), "nothing is in the rollups yet");
        rolled(3).await;
        assert_eq!(retain(u64::MAX, 2, later).await, (2, 3, 2, 0), "too old");
        assert_eq!(retain(1, 99, later).await, (1, 2, 3, 1), "too much");
        rolled(5).await;
        assert_eq!(retain(1, 99, later).await, (1, 1, 4, 2), "the newest stays");
        let mut db = store.read_telemetry().await.unwrap();
        assert_eq!(reports::list(&mut db, &device(1), &Page::first(9)).await.unwrap().len(), 1);
        drop(db);
        // Who has gone silent is known by how it was.
        let mut tx = store.write_telemetry().await.unwrap();
        let health = Health { uptime_s: 77, ..Health::default() };
        let at = HealthAt { received: noon(), health };
        let other = known[0].box_id + 1000;
        reports::remember_health(&mut tx, [(known[0].box_id, &at), (other, &at)]).await.unwrap();
        reports::remember_health(&mut tx, [(known[0].box_id, &at)]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(retain(1, 1, later.plus(DAY)).await, (1, 0, 5, 2));
        let mut db = store.read_telemetry().await.unwrap();
        assert_eq!(reports::health_of(&mut db, &device(1)).await.unwrap().unwrap().health.uptime_s, 77);
    })
    .await;
}

#[tokio::test]
async fn sums_add_up_and_leave_with_the_worlds_time() {
    on_both(async |store| {
        let (bundle, slot) = (Digest::of(b"bundle"), slot());
        for round in 0..2_u8 {
            let mut tx = store.write_telemetry().await.unwrap();
            let mut told = health::HealthHours::default();
            for (n, hour, mib) in [(1, 0, 100), (1, 1, 300), (2, 1, 900)] {
                let used = (mib + 100 * u64::from(round)) << 20;
                let celsius = (n == 1).then_some(40.0);
                let health = Health { memory_used_bytes: used, temperature_c: celsius, ..Health::default() };
                let hour = health::hour_of(noon().plus(HOUR * hour));
                told.entry((device(n), hour)).or_default().add(&health);
            }
            health::add(&mut tx, &told).await.unwrap();
            let mut sums = stats::Sums::default();
            sums.add(&report(1, 1, 1, noon()).models[0]);
            let keys = [0, 1]
                .map(|hour| (device(1), slot.clone(), bundle, stats::hour_of(noon().plus(HOUR * hour))));
            stats::add(&mut tx, keys.iter().map(|key| (key, &sums))).await.unwrap();
            // Some come together, some one after the other.
            let told = [(device(1), block(bundle, Some(b"old"))), (device(2), block(bundle, None))];
            let told = if round == 0 { [&told[..], &told[..]].concat() } else { told.to_vec() };
            labels::add(&mut tx, &told).await.unwrap();
            tx.commit().await.unwrap();
        }
        let (one, two) = (device(1), device(2));
        let mut db = store.read_telemetry().await.unwrap();
        let hours = health::hours(&mut db, &[&one, &two], noon().plus(HOUR)).await.unwrap();
        let hours: Vec<_> =
            hours.iter().map(|hour| (&hour.device, hour.memory_mib, hour.temperature_c)).collect();
        let mut expect = [(&one, 350.0, Some(40.0)), (&two, 950.0, None)];
        expect.sort_by_key(|(device, ..)| *device);
        assert_eq!(hours, expect);
        let lived = stats::exposure(&mut db, &[&one, &two], (&slot, &bundle), noon()).await.unwrap();
        let latency = [vec![0, 40], vec![0; 14]].concat();
        assert_eq!(lived, [(one.clone(), stats::Exposure { hours: 2, failed_hours: 2, latency })]);
        let hours = stats::latency(&mut db, &[&one], &slot, noon().plus(HOUR)).await.unwrap();
        assert_eq!(
            hours.iter().map(|hour| (hour.hour, hour.latency[1])).collect::<Vec<_>>(),
            [(noon().plus(HOUR), 20)]
        );
        let day = noon().floor_to(DAY);
        assert_eq!(heads::predictions(&mut db, &bundle, day, 9).await.unwrap(), [(day, 80)]);
        let totals = heads::labels(&mut db, &bundle, day, 9).await.unwrap();
        assert_eq!(totals.iter().map(|day| (day.n, day.loss_sum)).collect::<Vec<_>>(), [(12, 3.0)]);
        let both = [&one, &two];
        let filter = labels::LabelFilter { bundle: &bundle, slot: &slot, devices: &both, since: day };
        let first = labels::list(&mut db, filter, &Page::first(1)).await.unwrap();
        let rest = labels::list(&mut db, filter, &Page::after(first[0].key(), 9)).await.unwrap();
        let devices: BTreeSet<_> =
            first.iter().chain(&rest).map(|day| (day.device.clone(), day.n, day.paired.is_some())).collect();
        assert_eq!(devices, BTreeSet::from([(one.clone(), 6, true), (two.clone(), 6, false)]));
        drop(db);
        let mut tx = store.write_telemetry().await.unwrap();
        assert!(slices::trim_due(&mut tx, noon(), DAY).await.unwrap());
        assert!(!slices::trim_due(&mut tx, noon().plus(HOUR), DAY).await.unwrap());
        health::trim(&mut tx, noon().plus(DAY * 14 + minutes(1))).await.unwrap();
        stats::trim(&mut tx, noon().plus(DAY * 90 + minutes(1))).await.unwrap();
        labels::trim(&mut tx, noon().plus(DAY * 401)).await.unwrap();
        assert_eq!(health::hours(&mut tx, &[&one], noon()).await.unwrap().len(), 1);
        assert_eq!(stats::exposure(&mut tx, &[&one], (&slot, &bundle), noon()).await.unwrap()[0].1.hours, 1);
        assert_eq!(heads::labels(&mut tx, &bundle, day, 9).await.unwrap(), []);
    })
    .await;
}

fn block(bundle: Digest, against: Option<&[u8]>) -> LabelBlock {
    let paired = |old: &[u8]| PairedLoss {
        bundle: Digest::of(old),
        n: 2,
        loss_sum: 1.0,
        diff_sum: -0.5,
        diff_sum_sq: 0.25,
    };
    LabelBlock {
        slot: slot(),
        bundle,
        day: noon().floor_to(DAY),
        n: 2,
        label_sum: 1.0,
        prediction_sum: 1.0,
        loss_sum: 0.5,
        loss_sum_sq: 0.25,
        against: against.map(paired),
    }
}

#[tokio::test]
async fn two_bundles_are_compared_whichever_of_them_was_in_the_shadow() {
    on_both(async |store| {
        let [old, new, other] = [b"1", b"2", b"3"].map(|name: &[u8; 1]| Digest::of(name));
        let block = |bundle, against, days: u32, differed| {
            let day = noon().floor_to(DAY).plus(DAY * days);
            ShadowBlock { slot: slot(), bundle, against, day, n: 100, differed }
        };
        let (one, two) = (device(1), device(2));
        let mut tx = store.write_telemetry().await.unwrap();
        let told = [
            (one.clone(), block(new, old, 1, 5)),
            (one.clone(), block(new, old, 1, 6)),
            (one.clone(), block(old, new, 2, 7)),
            (one.clone(), block(old, new, 0, 50)),
            (one.clone(), block(other, new, 1, 100)),
            (two.clone(), block(old, new, 1, 0)),
            (two.clone(), ShadowBlock { slot: "other".parse().unwrap(), ..block(old, new, 1, 100) }),
            (device(3), block(old, new, 1, 100)),
        ];
        shadows::add(&mut tx, &told).await.unwrap();
        shadows::add(&mut tx, &told[..1]).await.unwrap();
        // What no box can have compared spoils no sum.
        let absurd = ShadowBlock { n: u64::MAX, differed: u64::MAX, ..block(other, old, 1, 0) };
        for _ in 0..3 {
            shadows::add(&mut tx, &[(one.clone(), absurd.clone())]).await.unwrap();
        }
        tx.commit().await.unwrap();
        let compared = async |db: &mut _, bundles| {
            let since = noon().floor_to(DAY).plus(DAY);
            let filter = shadows::ShadowFilter { slot: &slot(), bundles, devices: &[&one, &two], since };
            let found = shadows::compared(db, filter).await.unwrap();
            found.into_iter().map(|(device, sum)| (device, (sum.n, sum.differed))).collect::<BTreeMap<_, _>>()
        };
        let mut tx = store.write_telemetry().await.unwrap();
        let expect = BTreeMap::from([(one.clone(), (400, 23)), (two.clone(), (100, 0))]);
        assert_eq!(compared(&mut tx, (&new, &old)).await, expect);
        assert_eq!(compared(&mut tx, (&old, &new)).await, expect);
        let most = 3 * u64::from(u32::MAX);
        assert_eq!(compared(&mut tx, (&old, &other)).await, BTreeMap::from([(one.clone(), (most, most))]));
        shadows::trim(&mut tx, noon().plus(DAY * 401)).await.unwrap();
        assert_eq!(compared(&mut tx, (&new, &old)).await, BTreeMap::from([(one.clone(), (100, 7))]));
    })
    .await;
}

#[tokio::test]
async fn panes_become_windows() {
    on_both(async |store| {
        let (bundle, slot) = (Digest::of(b"bundle"), slot());
        let mut counter = Counter::new(&age_reference());
        let Counter::Numeric(numeric) = &mut counter else { unreachable!("the reference is numeric") };
        numeric.observe_all(&[1.0; 10]);
        let counts = counter.counts();
        let pane = |hour: u32| Pane {
            slot: slot.clone(),
            bundle,
            from: noon().plus(HOUR * hour),
            to: noon().plus(HOUR * (hour + 1)),
            streams: vec![counts.clone()],
        };
        let new = |panes: Vec<(u8, Pane)>| {
            let mut windows = Windows::default();
            for (n, pane) in panes {
                windows.add(&device(n), NewPane { pane, window: DAY });
            }
            windows
        };
        let mut tx = store.write_telemetry().await.unwrap();
        for hour in [0, 1, 24] {
            let at = noon().plus(HOUR * hour);
            assert_eq!(panes::add(&mut tx, &new(vec![(1, pane(hour))]), at).await.unwrap(), 0);
        }
        let other = Pane { streams: vec![], ..pane(0) };
        assert_eq!(panes::add(&mut tx, &new(vec![(1, other.clone())]), noon()).await.unwrap(), 1);
        tx.commit().await.unwrap();
        let mut db = store.read_telemetry().await.unwrap();
        let filter = windows::WindowFilter { bundle: Some(bundle), ..windows::WindowFilter::default() };
        let first = windows::list(&mut db, &filter, &Page::first(1)).await.unwrap();
        let rest = windows::list(&mut db, &filter, &Page::after(first[0].key(), 9)).await.unwrap();
        let rows = |found: &[windows::Window]| {
            found.iter().map(|w| (w.panes, w.streams[0].rows())).collect::<Vec<_>>()
        };
        assert_eq!((rows(&first), rows(&rest)), (vec![(2, 20)], vec![(1, 10)]));
        let recent = windows::recent(&mut db, &device(1), &slot, &bundle, 1).await.unwrap();
        assert_eq!(recent, rest);
        let updated = heads::updated(&mut db, noon().plus(HOUR), &Page::first(1)).await.unwrap();
        assert_eq!(updated.iter().map(|head| head.panes).collect::<Vec<_>>(), [2]);
        let next = heads::updated(&mut db, noon(), &Page::after(updated[0].clone(), 9)).await.unwrap();
        assert_eq!(next.iter().map(|head| head.from).collect::<Vec<_>>(), [rest[0].from]);
        drop(db);
        // What comes at once: two panes of a window, one that does not fit, and more than a year of another box.
        let misfit = other.clone();
        let mut at_once = vec![(2, pane(0)), (2, other), (2, pane(1))];
        at_once.extend((0..402).map(|day| (3, pane(24 * day))));
        let mut tx = store.write_telemetry().await.unwrap();
        assert_eq!(panes::add(&mut tx, &new(at_once), noon()).await.unwrap(), 1);
        // Those that fit a window are not kept out of it by others that came before them, nor by the way they came together.
        let mut apart = new(vec![(1, misfit.clone()), (1, pane(2))]);
        apart.merge(new(vec![(1, misfit), (1, pane(3))]));
        assert_eq!(panes::add(&mut tx, &apart, noon()).await.unwrap(), 2);
        tx.commit().await.unwrap();
        let mut db = store.read_telemetry().await.unwrap();
        let two = windows::recent(&mut db, &device(2), &slot, &bundle, 9).await.unwrap();
        assert_eq!(rows(&two), [(2, 20)]);
        let three = windows::recent(&mut db, &device(3), &slot, &bundle, 999).await.unwrap();
        assert_eq!((three.len(), three[399].from), (400, noon().floor_to(DAY).plus(DAY * 2)));
        let one = windows::recent(&mut db, &device(1), &slot, &bundle, 9).await.unwrap();
        assert_eq!(rows(&one), [(1, 10), (4, 40)]);
    })
    .await;
}

/// The tables of both, with their columns.
#[tokio::test]
async fn both_have_the_same_tables() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).await.unwrap().close().await;
    let file = format!("sqlite://{}", dir.path().join("telemetry.db").display());
    let sqlite = sqlx::SqlitePool::connect(&file).await.unwrap();
    let of_sqlite =
        "select m.name, c.name from sqlite_master m, pragma_table_info(m.name) c where m.type = 'table'";
    let rows = sqlx::query(of_sqlite).fetch_all(&sqlite).await.unwrap();
    let names = |table: String, column: String| (!table.starts_with('_')).then_some((table, column));
    let here: BTreeSet<_> = rows.iter().filter_map(|row| names(row.get(0), row.get(1))).collect();
    let postgres = Postgres::start().await;
    let url = postgres.database("muster");
    Store::open_with(dir.path(), Some(&url)).await.unwrap().close().await;
    let pool = sqlx::PgPool::connect(url.as_str()).await.unwrap();
    let of_postgres = "select table_name::text, column_name::text from information_schema.columns where table_schema = 'public'";
    let rows = sqlx::query(of_postgres).fetch_all(&pool).await.unwrap();
    let there: BTreeSet<_> = rows.iter().filter_map(|row| names(row.get(0), row.get(1))).collect();
    assert_eq!(here, there);
    assert!(here.len() > 50);
    pool.close().await;
}
