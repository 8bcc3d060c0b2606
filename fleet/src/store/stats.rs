//! What applications asked of each bundle on each device, summed by the hour of world time.

use std::time::Duration;

use muster_protocol::ids::{DeviceId, Digest, SlotName};
use muster_protocol::message::ModelStats;
use muster_protocol::time::Timestamp;

use sqlx::QueryBuilder;

use super::convert::{column, count, parse, time};
use super::rows::{self, Rows};
use super::slices::{self, Mark};
use super::sql::{among, on};
use super::{Result, StoreError, Telemetry, TelemetryTx};
use crate::rollup::LATENCY_BUCKETS;

const HOUR: Duration = Duration::from_hours(1);
/// World time after which hours are dropped.
const KEPT: Duration = Duration::from_hours(90 * 24);

/// How long a device has lived with a bundle, and how that went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Hours of which it told anything.
    pub hours: u64,
    pub failed_hours: u64,
    /// Counts by `LATENCY_BOUNDS_US` and one more.
    pub latency: Vec<u64>,
}

/// Whose hour: device, slot, bundle, start of the hour.
pub type HourKey = (DeviceId, SlotName, Digest, Timestamp);

/// What a batch of reports adds to one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub requests: u64,
    pub rows: u64,
    pub failures: u64,
    pub refused: u64,
    pub latency: [u64; LATENCY_BUCKETS],
}

impl Sums {
    pub fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.rows = self.rows.saturating_add(other.rows);
        self.failures = self.failures.saturating_add(other.failures);
        self.refused = self.refused.saturating_add(other.refused);
        for (sum, count) in self.latency.iter_mut().zip(&other.latency) {
            *sum = sum.saturating_add(*count);
        }
    }

    pub fn add(&mut self, stats: &ModelStats) {
        self.requests = self.requests.saturating_add(stats.requests);
        self.rows = self.rows.saturating_add(stats.rows);
        self.failures = self.failures.saturating_add(stats.failures);
        self.refused = self.refused.saturating_add(stats.refused);
        for (sum, count) in self.latency.iter_mut().zip(&stats.latency) {
            *sum = sum.saturating_add(u64::from(*count));
        }
    }
}

/// The hour in which a span that began at `from` is counted.
pub fn hour_of(from: Timestamp) -> Timestamp {
    from.floor_to(HOUR)
}

/// The columns of the histogram, its first bucket first.
const LATENCY: [&str; LATENCY_BUCKETS] =
    ["l0", "l1", "l2", "l3", "l4", "l5", "l6", "l7", "l8", "l9", "l10", "l11", "l12", "l13", "l14", "l15"];
type Count = fn(&Sums) -> u64;

/// What is added up, beside the histogram.
const COUNTS: [(&str, Count); 4] = [
    ("requests", |sums| sums.requests),
    ("row_count", |sums| sums.rows),
    ("failures", |sums| sums.failures),
    ("refused", |sums| sums.refused),
];

/// Adds what a batch of reports counted. Call once a report.
pub async fn add<'a>(
    tx: &mut TelemetryTx,
    hours: impl IntoIterator<Item = (&'a HourKey, &'a Sums)> + Send,
) -> Result<()> {
    let hours: Vec<_> = hours.into_iter().collect();
    let mut rows = Rows::default()
        .texts(hours.iter().map(|((device, ..), _)| device.as_str()))
        .texts(hours.iter().map(|((_, slot, ..), _)| slot.as_str()))
        .texts(hours.iter().map(|((_, _, bundle, _), _)| bundle.to_string()))
        .numbers(hours.iter().map(|((.., hour), _)| hour.as_millis()));
    let (mut into, mut adds) = (String::new(), Vec::new());
    for (name, of) in COUNTS {
        rows = rows.numbers(hours.iter().map(|(_, sums)| column(of(sums))));
        into.extend([", ", name]);
        adds.push(format!("{name} = hour_stats.{name} + excluded.{name}"));
    }
    for (bucket, name) in LATENCY.into_iter().enumerate() {
        let of = |sums: &Sums| sums.latency.get(bucket).copied().unwrap_or(0);
        rows = rows.numbers(hours.iter().map(|(_, sums)| column(of(sums))));
        into.extend([", ", name]);
        adds.push(format!("{name} = hour_stats.{name} + excluded.{name}"));
    }
    let into = format!("insert into hour_stats (device, slot, bundle, hour{into})");
    let adds = format!("on conflict (device, slot, bundle, hour) do update set {}", adds.join(", "));
    rows::write(tx, (&into, &adds), &rows).await.map_err(StoreError::query("adding to the sums of hours"))?;
    for ((device, ..), _) in hours {
        tx.touch(device);
    }
    Ok(())
}

/// The highest report that is in the sums.
pub async fn summed(db: &mut Telemetry) -> Result<i64> {
    slices::mark(db, Mark::Summed).await
}

/// Notes that the reports up to this one are in the sums, in the commit that adds them.
pub async fn set_summed(tx: &mut TelemetryTx, last_id: i64) -> Result<()> {
    slices::set_mark(tx, Mark::Summed, last_id).await
}

const TRIM: &str = "delete from hour_stats where hour < $1";

/// Drops hours that are too old.
pub async fn trim(tx: &mut TelemetryTx, world_now: Timestamp) -> Result<()> {
    on!(tx, |sql| sqlx::query(TRIM).bind(world_now.minus(KEPT).as_millis()).execute(sql).await.map(drop))
        .map_err(StoreError::query("dropping old sums"))?;
    Ok(())
}

/// What each of the devices has lived through with the bundle in the slot, in the hours from `since` on.
pub async fn exposure(
    db: &mut Telemetry,
    devices: &[&DeviceId],
    (slot, bundle): (&SlotName, &Digest),
    since: Timestamp,
) -> Result<Vec<(DeviceId, Exposure)>> {
    let rows: Vec<ExposureRow> = on!(db, |sql| {
        let mut ask = QueryBuilder::new("select device, count(*) as hours, ");
        ask.push("sum(case when failures > 0 then 1 else 0 end) as failed_hours");
        for name in LATENCY {
            ask.push(format_args!(", cast(sum({name}) as bigint) as {name}"));
        }
        ask.push(" from hour_stats where slot = ").push_bind(slot.as_str());
        ask.push(" and bundle = ").push_bind(bundle.to_string());
        ask.push(" and hour >= ").push_bind(since.floor_to(HOUR).as_millis());
        among(&mut ask, devices);
        ask.push(" group by device");
        ask.build_query_as().fetch_all(sql).await
    })
    .map_err(StoreError::query("adding up hours"))?;
    let exposure = |row: ExposureRow| {
        let (hours, failed_hours) = (count(row.hours), count(row.failed_hours));
        Ok((parse("device id", &row.device)?, Exposure { hours, failed_hours, latency: row.latency.0 }))
    };
    rows.into_iter().map(exposure).collect()
}

/// How many devices told of a bundle in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub slot: SlotName,
    pub bundle: Digest,
    pub devices: u64,
}

const RUNNING: &str = "select slot, bundle, count(distinct device) from hour_stats where hour >= $1 \
     group by slot, bundle order by slot, bundle limit $2";

/// Which bundles were told of in the hours from `since` on.
pub async fn running(db: &mut Telemetry, since: Timestamp) -> Result<Vec<Running>> {
    let rows: Vec<(String, String, i64)> = on!(db, |sql| {
        let ask = sqlx::query_as(RUNNING).bind(since.floor_to(HOUR).as_millis());
        ask.bind(i64::from(super::LIMIT_MAX)).fetch_all(sql).await
    })
    .map_err(StoreError::query("counting who runs what"))?;
    let running = |(slot, bundle, devices): (String, String, i64)| {
        let (slot, bundle) = (parse("slot", &slot)?, parse("bundle digest", &bundle)?);
        Ok(Running { slot, bundle, devices: count(devices) })
    };
    rows.into_iter().map(running).collect()
}

/// The histogram of an hour of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HourLatency {
    pub device: DeviceId,
    /// Start of the hour, world time.
    pub hour: Timestamp,
    pub latency: Vec<u64>,
}

/// Hours of one device at most: a month, with a second bundle in some of its hours.
const HOURS_MAX: usize = 1500;

/// Latency in the slot by the hour, from `since` on, whichever bundle answered; each device's oldest first.
pub async fn latency(
    db: &mut Telemetry,
    devices: &[&DeviceId],
    slot: &SlotName,
    since: Timestamp,
) -> Result<Vec<HourLatency>> {
    let rows: Vec<LatencyRow> = on!(db, |sql| {
        let mut ask = QueryBuilder::new("select device, hour");
        for name in LATENCY {
            ask.push(format_args!(", {name}"));
        }
        ask.push(" from hour_stats where slot = ").push_bind(slot.as_str());
        ask.push(" and hour >= ").push_bind(since.floor_to(HOUR).as_millis());
        among(&mut ask, devices);
        ask.push(" order by device, hour limit ").push_bind(column((HOURS_MAX * devices.len()) as u64));
        ask.build_query_as().fetch_all(sql).await
    })
    .map_err(StoreError::query("listing latency"))?;
    let latency = |row: LatencyRow| {
        let (device, hour) = (parse("device id", &row.device)?, time(row.hour));
        Ok(HourLatency { device, hour, latency: row.latency.0 })
    };
    rows.into_iter().map(latency).collect()
}

#[derive(sqlx::FromRow)]
struct ExposureRow {
    device: String,
    hours: i64,
    failed_hours: i64,
    #[sqlx(flatten)]
    latency: Histogram,
}

#[derive(sqlx::FromRow)]
struct LatencyRow {
    device: String,
    hour: i64,
    #[sqlx(flatten)]
    latency: Histogram,
}

/// The columns of [`LATENCY`].
struct Histogram(Vec<u64>);

impl<'r, R: sqlx::Row> sqlx::FromRow<'r, R> for Histogram
where
    i64: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    &'static str: sqlx::ColumnIndex<R>,
{
    fn from_row(row: &'r R) -> std::result::Result<Self, sqlx::Error> {
        let counts = LATENCY.iter().map(|name| row.try_get::<i64, _>(*name).map(count));
        counts.collect::<std::result::Result<_, _>>().map(Self)
    }
}
