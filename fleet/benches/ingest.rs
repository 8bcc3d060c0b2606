//! How fast reports of 10,000 boxes are taken in: bytes as they came from the broker, through the real decode, take and
//! commit, into the real databases on a real disk. `make bench-ingest`.
//!
//! Beside it, in turns, the very same bytes are inserted raw: one row a message with the key of its sender, 500 a
//! transaction in one statement of many rows, which is the fastest of what a program does first. What is compared is the time
//! of both over the whole run; the closing of rollups counts.
//! Every goal is printed last as `goal NAME: VALUE UNIT, wanted >= LIMIT: met|missed`.

#![expect(clippy::disallowed_methods, reason = "a stopwatch asks the clock")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on stops and says where; counts of a run fit 53 bits"
)]

#[path = "ingest/boxes.rs"]
mod boxes;
#[path = "../tests/it/postgres.rs"]
mod postgres;
#[path = "ingest/raw.rs"]
mod raw;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use muster_fleet::clock::Clocks;
use muster_fleet::config::PostgresUrl;
use muster_fleet::ingest::Load;
use muster_fleet::store::{Store, reports, slices};

use boxes::{Boxes, ingest};
use postgres::Postgres;
use raw::Raw;

/// As the server does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Messages of one commit, as the server takes them.
const BATCH: usize = 500;
/// How long each database is measured for, at least: several closings of what waits under load.
const MEASURED: Duration = Duration::from_secs(20);
const SQLITE: &str = "sqlite";
const POSTGRESQL: &str = "postgresql";
/// One of them as an argument measures that one only.
const NAMES: [&str; 2] = [SQLITE, POSTGRESQL];
const RATIO_MIN: f64 = 0.6;
const RSS_MIB_MAX: u64 = 400;

#[tokio::main]
async fn main() -> ExitCode {
    let size = std::env::args().find_map(|size| size.parse().ok()).unwrap_or(10_000);
    let wanted = |name: &str| std::env::args().all(|one| one == name || !NAMES.contains(&one.as_str()));
    let mut ratios = Vec::new();
    if wanted(SQLITE) {
        let dir = tempfile::tempdir().unwrap();
        ratios.push((SQLITE, measure(SQLITE, size, dir.path(), None).await));
    }
    if wanted(POSTGRESQL) {
        let cluster = Postgres::start().await;
        let urls = (cluster.database("fleet"), cluster.database("raw"));
        let dir = tempfile::tempdir().unwrap();
        ratios.push((POSTGRESQL, measure(POSTGRESQL, size, dir.path(), Some(urls)).await));
    }
    let rss = rss_mib_max();
    let mut met = true;
    for (name, ratio) in ratios {
        met &= ratio >= RATIO_MIN;
        println!(
            "goal ingest_{name}: {ratio:.2} of raw inserts, wanted >= {RATIO_MIN}: {}",
            word(ratio >= RATIO_MIN)
        );
    }
    met &= rss <= RSS_MIB_MAX;
    println!("goal ingest_rss: {rss} MiB, wanted <= {RSS_MIB_MAX}: {}", word(rss <= RSS_MIB_MAX));
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn word(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

/// Returns how fast reports are taken in, as a share of how fast they are inserted raw.
async fn measure(
    name: &str,
    size: usize,
    dir: &std::path::Path,
    urls: Option<(PostgresUrl, PostgresUrl)>,
) -> f64 {
    let (url, raw_url) = urls.unzip();
    let store = Store::open_with(dir, url.as_ref()).await.unwrap();
    let clocks = Clocks::default();
    let mut boxes = Boxes::enrol(&store, size, clocks).await;
    let mut raw = Raw::open(dir, raw_url.as_ref()).await;
    let mut ingest = ingest(&store, clocks);
    let (mut core, mut inserted, mut taken, mut bytes) = (Duration::ZERO, Duration::ZERO, 0_u64, 0_u64);
    // Boots are noted and caches filled before anything counts.
    for batch in boxes.round(size).chunks(BATCH) {
        ingest.take_in(batch, Load::Heavy).await;
        assert_eq!(ingest.settle().await.len(), batch.len());
        raw.insert(batch).await;
    }
    while core < MEASURED {
        let round = boxes.round(size);
        let began = Instant::now();
        let mut acks = 0;
        for batch in round.chunks(BATCH) {
            acks += ingest.take_in(batch, Load::Heavy).await.len();
        }
        acks += ingest.settle().await.len();
        core += began.elapsed();
        assert_eq!(acks, round.len(), "every report is new and committed");
        let began = Instant::now();
        for batch in round.chunks(BATCH) {
            raw.insert(batch).await;
        }
        inserted += began.elapsed();
        taken += round.len() as u64;
        bytes += round.iter().map(|message| message.payload.len() as u64).sum::<u64>();
    }
    // What was put off is paid before the clock stops.
    let began = Instant::now();
    ingest.keep().await;
    let closing = began.elapsed();
    core += closing;
    let mut db = store.read_telemetry().await.unwrap();
    let kept = slices::kept(&mut db).await.unwrap();
    let rows = kept.iter().find(|kept| kept.kind == slices::Kind::Reports).map_or(0, |kept| kept.rows);
    assert_eq!(rows, taken + size as u64, "every report is kept");
    let newest = reports::health_of(&mut db, boxes.devices().next().unwrap()).await.unwrap();
    assert!(newest.is_some());
    drop(db);
    store.close().await;
    let per_second = |took: Duration| taken as f64 / took.as_secs_f64();
    println!(
        "{name}: {taken} reports of {} bytes on average from {size} boxes with {} models each: {:.0} a second taken in, \
         {:.0} inserted raw; closing took {:.2} s",
        bytes / taken,
        boxes.models().len(),
        per_second(core),
        per_second(inserted),
        closing.as_secs_f64(),
    );
    for one in kept {
        let each = one.bytes.checked_div(one.rows).unwrap_or_default();
        println!("{name}: {} rows of {}, {each} bytes each as they are counted", one.rows, one.kind.as_str());
    }
    per_second(core) / per_second(inserted)
}

/// The most memory that this process has had.
fn rss_mib_max() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
