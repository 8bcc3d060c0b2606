//! A box's health, summed by the hour of world time.

use std::time::Duration;

use muster_protocol::ids::DeviceId;
use muster_protocol::message::Health;
use muster_protocol::time::Timestamp;

use super::convert::time;
use super::{Result, StoreError, Telemetry, TelemetryTx};

const HOUR: Duration = Duration::from_hours(1);
/// World time after which hours are dropped.
const KEPT: Duration = Duration::from_hours(14 * 24);
const HOURS_MAX: i64 = 14 * 24;

/// Means of one hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HourHealth {
    /// Start of the hour, world time.
    pub hour: Timestamp,
    pub memory_mib: f64,
    /// Absent where the box has no sensor.
    pub temperature_c: Option<f64>,
}

const ADD: &str = "insert into health_hours (device, hour, reports, memory_sum, temperatures, temperature_sum) \
     values ($1, $2, 1, $3, $4, $5) on conflict (device, hour) do update set reports = health_hours.reports + 1, \
     memory_sum = health_hours.memory_sum + excluded.memory_sum, \
     temperatures = health_hours.temperatures + excluded.temperatures, \
     temperature_sum = health_hours.temperature_sum + excluded.temperature_sum";
const TRIM: &str = "delete from health_hours where device = $1 and hour < $2";

/// Adds what a box told at this world time. Call once a report.
pub async fn add(tx: &mut TelemetryTx, device: &DeviceId, at: Timestamp, health: &Health) -> Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "memory in MiB stays far below 2^53")]
    let memory_mib = (health.memory_used_bytes >> 20) as f64;
    let temperature = health.temperature_c.map(f64::from).filter(|celsius| celsius.is_finite());
    sqlx::query(ADD)
        .bind(device.as_str())
        .bind(at.floor_to(HOUR).as_millis())
        .bind(memory_mib)
        .bind(i64::from(temperature.is_some()))
        .bind(temperature.unwrap_or(0.0))
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("adding to an hour's health"))?;
    sqlx::query(TRIM)
        .bind(device.as_str())
        .bind(at.minus(KEPT).as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("dropping old health"))?;
    Ok(())
}

const HOURS: &str = "select hour, memory_sum / reports, temperatures, temperature_sum from health_hours \
     where device = $1 and hour >= $2 order by hour limit $3";

/// The device's hours that start at `since` or later, oldest first.
pub async fn hours(db: &mut Telemetry, device: &DeviceId, since: Timestamp) -> Result<Vec<HourHealth>> {
    let rows: Vec<(i64, f64, i64, f64)> = sqlx::query_as(HOURS)
        .bind(device.as_str())
        .bind(since.floor_to(HOUR).as_millis())
        .bind(HOURS_MAX)
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("reading a device's hours"))?;
    #[expect(clippy::cast_precision_loss, reason = "reports of one hour")]
    let mean = |n: i64, sum: f64| (n > 0).then(|| sum / n as f64);
    Ok(rows
        .into_iter()
        .map(|(hour, memory_mib, n, sum)| HourHealth {
            hour: time(hour),
            memory_mib,
            temperature_c: mean(n, sum),
        })
        .collect())
}
