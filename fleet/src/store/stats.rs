//! What applications asked of each bundle on each device, summed by the hour of world time.

use std::time::Duration;

use muster_protocol::ids::{DeviceId, Digest, SlotName};
use muster_protocol::message::ModelStats;
use muster_protocol::time::Timestamp;

use sqlx::Row as _;

use super::convert::{column, count, parse, time};
use super::{Page, Result, StoreError, Telemetry, TelemetryTx};
use crate::rollup::LATENCY_BUCKETS;

const HOUR: Duration = Duration::from_hours(1);
/// World time after which hours are dropped.
const KEPT: Duration = Duration::from_hours(90 * 24);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HourStats {
    pub device: DeviceId,
    pub slot: SlotName,
    pub bundle: Digest,
    /// Start of the hour, world time.
    pub hour: Timestamp,
    pub requests: u64,
    pub rows: u64,
    pub failures: u64,
    pub refused: u64,
    /// Counts by `LATENCY_BOUNDS_US` and one more.
    pub latency: Vec<u64>,
}

/// Which part of the sums.
#[derive(Clone, Debug)]
pub struct StatsFilter {
    pub bundle: Digest,
    pub device: Option<DeviceId>,
    /// Hours that start here or later.
    pub since: Timestamp,
}

/// Whose hour: device, slot, bundle, start of the hour.
pub type HourKey = (DeviceId, SlotName, Digest, Timestamp);

/// What a batch of reports adds to one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    requests: u64,
    rows: u64,
    failures: u64,
    refused: u64,
    latency: [u64; LATENCY_BUCKETS],
}

impl Sums {
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

#[derive(sqlx::FromRow)]
struct Key {
    device: String,
    slot: String,
    bundle: String,
    hour: i64,
    requests: i64,
    row_count: i64,
    failures: i64,
    refused: i64,
}

/// A row: what it is of, and its histogram.
struct Row(Key, Vec<u64>);

impl<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow> for Row {
    fn from_row(row: &'r sqlx::sqlite::SqliteRow) -> std::result::Result<Self, sqlx::Error> {
        let latency = LATENCY.iter().map(|name| Ok(count(row.try_get::<i64, _>(*name)?)));
        Ok(Self(
            <Key as sqlx::FromRow<_>>::from_row(row)?,
            latency.collect::<std::result::Result<_, sqlx::Error>>()?,
        ))
    }
}

impl TryFrom<Row> for HourStats {
    type Error = StoreError;

    fn try_from(Row(key, latency): Row) -> Result<Self> {
        Ok(Self {
            device: parse("device id", &key.device)?,
            slot: parse("slot", &key.slot)?,
            bundle: parse("bundle digest", &key.bundle)?,
            hour: time(key.hour),
            requests: count(key.requests),
            rows: count(key.row_count),
            failures: count(key.failures),
            refused: count(key.refused),
            latency,
        })
    }
}

/// The columns of the histogram, its first bucket first.
const LATENCY: [&str; LATENCY_BUCKETS] =
    ["l0", "l1", "l2", "l3", "l4", "l5", "l6", "l7", "l8", "l9", "l10", "l11", "l12", "l13", "l14", "l15"];
/// Rows of one statement: 24 parameters each.
const CHUNK: usize = 50;
const ADD: &str = "insert into hour_stats (device, slot, bundle, hour, requests, row_count, failures, refused, \
     l0, l1, l2, l3, l4, l5, l6, l7, l8, l9, l10, l11, l12, l13, l14, l15) ";

/// Adds what a batch of reports counted. Call once a report.
pub async fn add<'a>(
    tx: &mut TelemetryTx,
    hours: impl IntoIterator<Item = (&'a HourKey, &'a Sums)> + Send,
) -> Result<()> {
    let hours: Vec<_> = hours.into_iter().collect();
    for chunk in hours.chunks(CHUNK) {
        let mut add = sqlx::QueryBuilder::new(ADD);
        add.push_values(chunk, |mut row, ((device, slot, bundle, hour), sums)| {
            row.push_bind(device.as_str())
                .push_bind(slot.as_str())
                .push_bind(bundle.to_string())
                .push_bind(hour.as_millis());
            for count in [sums.requests, sums.rows, sums.failures, sums.refused].iter().chain(&sums.latency) {
                row.push_bind(column(*count));
            }
        });
        add.push(" on conflict (device, slot, bundle, hour) do update set ");
        let mut sums = add.separated(", ");
        for name in ["requests", "row_count", "failures", "refused"].iter().chain(&LATENCY) {
            sums.push(format_args!("{name} = hour_stats.{name} + excluded.{name}"));
        }
        add.build().execute(tx.sql()).await.map_err(StoreError::query("adding to the sums of hours"))?;
    }
    for ((device, ..), _) in hours {
        tx.touch(device);
    }
    Ok(())
}

const TRIM: &str = "delete from hour_stats where hour < $1";

/// Drops hours that are too old.
pub async fn trim(tx: &mut TelemetryTx, world_now: Timestamp) -> Result<()> {
    sqlx::query(TRIM)
        .bind(world_now.minus(KEPT).as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("dropping old sums"))?;
    Ok(())
}

const LIST: &str = "select device, slot, bundle, hour, requests, row_count, failures, refused, \
     l0, l1, l2, l3, l4, l5, l6, l7, l8, l9, l10, l11, l12, l13, l14, l15 \
     from hour_stats \
     where bundle = $1 and ($2 is null or device = $2) and hour >= $3 and (device, slot, hour) > ($4, $5, $6) \
     order by device, slot, hour limit $7";

/// By device, slot, hour.
pub async fn list(
    db: &mut Telemetry,
    filter: &StatsFilter,
    page: &Page<(DeviceId, SlotName, Timestamp)>,
) -> Result<Vec<HourStats>> {
    let after = page.after.as_ref();
    sqlx::query_as::<_, Row>(LIST)
        .bind(filter.bundle.to_string())
        .bind(filter.device.as_ref().map(DeviceId::as_str))
        .bind(filter.since.floor_to(HOUR).as_millis())
        .bind(after.map_or("", |key| key.0.as_str()))
        .bind(after.map_or("", |key| key.1.as_str()))
        .bind(after.map_or(i64::MIN, |key| key.2.as_millis()))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing sums"))?
        .into_iter()
        .map(HourStats::try_from)
        .collect()
}

const OF_DEVICE: &str = "select device, slot, bundle, hour, requests, row_count, failures, refused, \
     l0, l1, l2, l3, l4, l5, l6, l7, l8, l9, l10, l11, l12, l13, l14, l15 \
     from hour_stats where device = $1 and slot = $2 and hour >= $3 order by hour limit $4";
/// A month, with a second bundle in some of its hours.
const OF_DEVICE_MAX: i64 = 1500;

/// Latency histograms of a slot's hours from `since` on, whichever bundle answered, oldest first.
pub async fn of_device(
    db: &mut Telemetry,
    device: &DeviceId,
    slot: &SlotName,
    since: Timestamp,
) -> Result<Vec<(Timestamp, Vec<u64>)>> {
    let rows: Vec<Row> = sqlx::query_as(OF_DEVICE)
        .bind(device.as_str())
        .bind(slot.as_str())
        .bind(since.floor_to(HOUR).as_millis())
        .bind(OF_DEVICE_MAX)
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing a device's latency"))?;
    Ok(rows.into_iter().map(|Row(key, latency)| (time(key.hour), latency)).collect())
}
