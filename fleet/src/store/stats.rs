//! What applications asked of each bundle on each device, summed by the hour of world time.

use std::time::Duration;

use muster_protocol::ids::{DeviceId, Digest, SlotName};
use muster_protocol::message::ModelStats;
use muster_protocol::time::Timestamp;

use super::convert::{column, count, from_json, parse, time, to_json};
use super::{Page, Result, StoreError, Telemetry, TelemetryTx};

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

#[derive(sqlx::FromRow)]
struct Sums {
    device: String,
    slot: String,
    bundle: String,
    hour: i64,
    requests: i64,
    row_count: i64,
    failures: i64,
    refused: i64,
    latency: String,
}

impl TryFrom<Sums> for HourStats {
    type Error = StoreError;

    fn try_from(row: Sums) -> Result<Self> {
        Ok(Self {
            device: parse("device id", &row.device)?,
            slot: parse("slot", &row.slot)?,
            bundle: parse("bundle digest", &row.bundle)?,
            hour: time(row.hour),
            requests: count(row.requests),
            rows: count(row.row_count),
            failures: count(row.failures),
            refused: count(row.refused),
            latency: from_json("latency histogram", &row.latency)?,
        })
    }
}

const LATENCY: &str =
    "select latency from model_stats where device = $1 and slot = $2 and bundle = $3 and hour = $4";
const ADD: &str = "insert into model_stats (device, slot, bundle, hour, requests, row_count, failures, refused, latency) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (device, slot, bundle, hour) do update set \
     requests = model_stats.requests + excluded.requests, row_count = model_stats.row_count + excluded.row_count, \
     failures = model_stats.failures + excluded.failures, refused = model_stats.refused + excluded.refused, \
     latency = excluded.latency";

/// Adds a report's sums to the hour in which its span began. Call once a report.
pub async fn add(tx: &mut TelemetryTx, device: &DeviceId, from: Timestamp, stats: &ModelStats) -> Result<()> {
    let hour = from.floor_to(HOUR).as_millis();
    let (slot, bundle) = (stats.slot.as_str(), stats.bundle.to_string());
    let held: Option<(String,)> = sqlx::query_as(LATENCY)
        .bind(device.as_str())
        .bind(slot)
        .bind(&bundle)
        .bind(hour)
        .fetch_optional(tx.sql())
        .await
        .map_err(StoreError::query("reading an hour's latency"))?;
    let mut latency: Vec<u64> = match held {
        Some((text,)) => from_json("latency histogram", &text)?,
        None => Vec::new(),
    };
    latency.resize(latency.len().max(stats.latency.len()), 0);
    for (sum, n) in latency.iter_mut().zip(&stats.latency) {
        *sum = sum.saturating_add(u64::from(*n));
    }
    sqlx::query(ADD)
        .bind(device.as_str())
        .bind(slot)
        .bind(&bundle)
        .bind(hour)
        .bind(column(stats.requests))
        .bind(column(stats.rows))
        .bind(column(stats.failures))
        .bind(column(stats.refused))
        .bind(to_json("latency histogram", &latency)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("adding to an hour's sums"))?;
    tx.touch(device);
    Ok(())
}

const TRIM: &str = "delete from model_stats where device = $1 and hour < $2";

/// Drops hours of a device that are too old.
pub async fn trim(tx: &mut TelemetryTx, device: &DeviceId, world_now: Timestamp) -> Result<()> {
    sqlx::query(TRIM)
        .bind(device.as_str())
        .bind(world_now.minus(KEPT).as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("dropping old sums"))?;
    Ok(())
}

const LIST: &str = "select device, slot, bundle, hour, requests, row_count, failures, refused, latency from model_stats \
     where bundle = $1 and ($2 is null or device = $2) and hour >= $3 and (device, slot, hour) > ($4, $5, $6) \
     order by device, slot, hour limit $7";

/// By device, slot, hour.
pub async fn list(
    db: &mut Telemetry,
    filter: &StatsFilter,
    page: &Page<(DeviceId, SlotName, Timestamp)>,
) -> Result<Vec<HourStats>> {
    let after = page.after.as_ref();
    sqlx::query_as::<_, Sums>(LIST)
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

const OF_DEVICE: &str = "select hour, latency from model_stats where device = $1 and slot = $2 and hour >= $3 \
     order by hour limit $4";
/// A month, with a second bundle in some of its hours.
const OF_DEVICE_MAX: i64 = 1500;

/// Latency histograms of a slot's hours from `since` on, whichever bundle answered, oldest first.
pub async fn of_device(
    db: &mut Telemetry,
    device: &DeviceId,
    slot: &SlotName,
    since: Timestamp,
) -> Result<Vec<(Timestamp, Vec<u64>)>> {
    let rows: Vec<(i64, String)> = sqlx::query_as(OF_DEVICE)
        .bind(device.as_str())
        .bind(slot.as_str())
        .bind(since.floor_to(HOUR).as_millis())
        .bind(OF_DEVICE_MAX)
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing a device's latency"))?;
    rows.iter().map(|(hour, latency)| Ok((time(*hour), from_json("latency histogram", latency)?))).collect()
}
