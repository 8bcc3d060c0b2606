//! While messages wait, sums are added up in memory first. What that loses when the process dies: nothing.

use std::collections::BTreeMap;

use muster_fleet::clock::Clocks;
use muster_fleet::ingest::{Ingest, Load};
use muster_fleet::link::Inbound;
use muster_fleet::rollup::{Rollup, Step};
use muster_fleet::store::stats::{Exposure, HourLatency};
use muster_fleet::store::{Page, Store, heads, health, labels, reports, rollups, stats, windows};
use muster_protocol::ids::{DeviceId, Digest, SlotName};
use muster_protocol::message::Report;
use muster_protocol::time::Timestamp;

use crate::boxes::{Boxes, ingest};
use crate::telemetry::on_both;

const BOXES: usize = 40;
const ROUNDS: usize = 9;

/// Everything that reports add up to, and how far their boots are safe.
#[derive(Debug, PartialEq)]
struct Told {
    exposure: Vec<(DeviceId, Exposure)>,
    latency: Vec<HourLatency>,
    health: Vec<health::HourHealth>,
    /// Rows by bundle and day.
    rows: BTreeMap<Digest, Vec<(Timestamp, u64)>>,
    labels: Vec<labels::LabelDay>,
    windows: Vec<(windows::WindowKey, Timestamp, u64, u64)>,
    rollups: BTreeMap<(DeviceId, Step), Vec<(Timestamp, Rollup)>>,
    newest: Vec<Option<u64>>,
    last_report: i64,
}

impl Told {
    async fn read(store: &Store, devices: &[&DeviceId], models: &[(SlotName, Digest)]) -> Self {
        let mut db = store.read_telemetry().await.unwrap();
        let (from, to) = (Timestamp::from_seconds(0), Timestamp::from_seconds(9_000_000_000));
        let mut told = Self {
            exposure: Vec::new(),
            latency: Vec::new(),
            health: health::hours(&mut db, devices, from).await.unwrap(),
            rows: BTreeMap::new(),
            labels: Vec::new(),
            windows: Vec::new(),
            rollups: BTreeMap::new(),
            newest: Vec::new(),
            last_report: rollups::last_report(&mut db).await.unwrap(),
        };
        for (slot, bundle) in models {
            told.exposure.extend(stats::exposure(&mut db, devices, (slot, bundle), from).await.unwrap());
            told.latency.extend(stats::latency(&mut db, devices, slot, from).await.unwrap());
            told.rows.insert(*bundle, heads::predictions(&mut db, bundle, from, 9).await.unwrap());
            let filter = labels::LabelFilter { bundle, slot, devices, since: from };
            told.labels.extend(labels::list(&mut db, filter, &Page::first(999)).await.unwrap());
        }
        told.exposure.sort_by(|(one, _), (other, _)| one.cmp(other));
        let all = windows::list(&mut db, &windows::WindowFilter::default(), &Page::first(999)).await.unwrap();
        let window = |w: &windows::Window| (w.key(), w.to, w.panes, w.streams[0].rows());
        told.windows = all.iter().map(window).collect();
        for device in devices {
            for step in [Step::FiveMinutes, Step::Hour] {
                let found = rollups::list(&mut db, device, step, (from, to), 999).await.unwrap();
                told.rollups.insert(((*device).clone(), step), found);
            }
            let newest = reports::health_of(&mut db, device).await.unwrap();
            told.newest.push(newest.map(|at| at.health.uptime_s));
        }
        told
    }

    fn panes(&self) -> u64 {
        self.windows.iter().map(|(_, _, panes, _)| panes).sum()
    }

    fn rows(&self) -> u64 {
        self.rows.values().flatten().map(|(_, rows)| rows).sum()
    }
}

fn rows_in(round: &[Inbound]) -> u64 {
    let rows = |message: &Inbound| {
        Report::decode(&message.payload).unwrap().models.iter().map(|model| model.rows).sum::<u64>()
    };
    round.iter().map(rows).sum()
}

fn panes_in(round: &[Inbound]) -> u64 {
    round.iter().map(|message| Report::decode(&message.payload).unwrap().panes.len() as u64).sum()
}

async fn take(ingest: &mut Ingest, round: &[Inbound], load: Load) {
    assert!(ingest.take_in(round, load).await.is_empty(), "nothing was under way");
    assert_eq!(ingest.settle().await.len(), round.len(), "everybody is told how far they are safe");
}

#[tokio::test]
async fn sums_are_exact_however_often_the_server_dies_under_load() {
    on_both(async |store| {
        let clocks = Clocks::default();
        let mut boxes = Boxes::enrol(store, BOXES, clocks).await;
        let rounds: Vec<_> = (0..ROUNDS).map(|_| boxes.round(BOXES)).collect();
        let devices: Vec<_> = boxes.devices().collect();
        let models = boxes.models();
        let read = async || Told::read(store, &devices, models).await;

        let mut first = ingest(store, clocks);
        for round in &rounds[..3] {
            take(&mut first, round, Load::Heavy).await;
        }
        let held = read().await;
        assert_eq!(
            (held.rows(), held.panes(), panes_in(&rounds[1]) > 0),
            (rows_in(&rounds[0]), panes_in(&rounds[0]), true),
            "the first batch's sums are written, the others wait in memory"
        );
        drop(first);

        // The boxes were not told in time and repeat themselves; then rollups are closed, and more comes.
        let mut second = ingest(store, clocks);
        take(&mut second, &rounds[2], Load::Heavy).await;
        take(&mut second, &rounds[3], Load::Heavy).await;
        second.keep().await;
        let closed = read().await;
        assert_eq!(closed.rows(), rounds[..4].iter().map(|round| rows_in(round)).sum::<u64>());
        assert_eq!(closed.panes(), rounds[..4].iter().map(|round| panes_in(round)).sum::<u64>());
        for round in &rounds[4..6] {
            take(&mut second, round, Load::Heavy).await;
        }
        let held = read().await;
        assert_eq!((held.rows(), held.panes()), (closed.rows(), closed.panes()), "these wait again");
        drop(second);

        // One that dies before it does anything of its own accord.
        let mut third = ingest(store, clocks);
        take(&mut third, &rounds[6], Load::Heavy).await;
        take(&mut third, &rounds[7], Load::Heavy).await;
        drop(third);
        // And one that has time.
        let mut fourth = ingest(store, clocks);
        take(&mut fourth, &rounds[8], Load::Light).await;
        let told = read().await;
        assert_eq!(told.rows(), rounds.iter().map(|round| rows_in(round)).sum::<u64>());

        let dir = tempfile::tempdir().unwrap();
        let calm = Store::open(dir.path()).await.unwrap();
        Boxes::enrol(&calm, BOXES, clocks).await;
        let mut undisturbed = ingest(&calm, clocks);
        for round in &rounds {
            take(&mut undisturbed, round, Load::Light).await;
        }
        assert_eq!(told, Told::read(&calm, &devices, models).await);
        assert!(!told.labels.is_empty() && !told.windows.is_empty());
        fourth.keep().await;
        assert_eq!(read().await, told, "closing rollups changes nothing that is seen");
        calm.close().await;
    })
    .await;
}

#[tokio::test]
async fn sums_that_wait_are_written_though_nobody_says_anything_more() {
    on_both(async |store| {
        let clocks = Clocks::default();
        let mut boxes = Boxes::enrol(store, BOXES, clocks).await;
        let rounds = [boxes.round(BOXES), boxes.round(BOXES)];
        let devices: Vec<_> = boxes.devices().collect();
        let mut dies = ingest(store, clocks);
        for round in &rounds {
            take(&mut dies, round, Load::Heavy).await;
        }
        drop(dies);
        ingest(store, clocks).keep().await;
        let told = Told::read(store, &devices, boxes.models()).await;
        assert_eq!(told.rows(), rows_in(&rounds[0]) + rows_in(&rounds[1]));
        assert_eq!(told.newest, [Some(60); BOXES]);
    })
    .await;
}
