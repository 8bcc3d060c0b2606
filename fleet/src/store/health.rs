//! A box's health, summed by the hour of world time.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::ids::DeviceId;
use muster_protocol::message::Health;
use muster_protocol::time::Timestamp;
use sqlx::QueryBuilder;

use super::convert::{column, parse, time};
use super::rows::{self, Rows};
use super::sql::{among, on};
use super::{Result, StoreError, Telemetry, TelemetryTx};

const HOUR: Duration = Duration::from_hours(1);
/// World time after which hours are dropped.
const KEPT: Duration = Duration::from_hours(14 * 24);
const HOURS_MAX: usize = 14 * 24;

/// Means of one hour of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct HourHealth {
    pub device: DeviceId,
    /// Start of the hour, world time.
    pub hour: Timestamp,
    pub memory_mib: f64,
    /// Absent where the box has no sensor.
    pub temperature_c: Option<f64>,
}

/// What a batch of reports adds to one hour of one box.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HealthSums {
    reports: i64,
    memory_mib: f64,
    temperatures: i64,
    temperature_c: f64,
}

/// The hours of the boxes of a batch.
pub type HealthHours = BTreeMap<(DeviceId, Timestamp), HealthSums>;

impl HealthSums {
    pub fn merge(&mut self, other: &Self) {
        self.reports += other.reports;
        self.memory_mib += other.memory_mib;
        self.temperatures += other.temperatures;
        self.temperature_c += other.temperature_c;
    }

    pub fn add(&mut self, health: &Health) {
        #[expect(clippy::cast_precision_loss, reason = "memory in MiB stays far below 2^53")]
        let memory_mib = (health.memory_used_bytes >> 20) as f64;
        self.reports += 1;
        self.memory_mib += memory_mib;
        if let Some(celsius) = health.temperature_c.map(f64::from).filter(|celsius| celsius.is_finite()) {
            self.temperatures += 1;
            self.temperature_c += celsius;
        }
    }
}

/// The hour of what a box told at this world time.
pub fn hour_of(at: Timestamp) -> Timestamp {
    at.floor_to(HOUR)
}

const ADD: (&str, &str) = (
    "insert into health_hours (device, hour, reports, memory_sum, temperatures, temperature_sum)",
    "on conflict (device, hour) do update set reports = health_hours.reports + excluded.reports, \
     memory_sum = health_hours.memory_sum + excluded.memory_sum, \
     temperatures = health_hours.temperatures + excluded.temperatures, \
     temperature_sum = health_hours.temperature_sum + excluded.temperature_sum",
);

/// Adds what a batch of reports told. Call once a report.
pub async fn add(tx: &mut TelemetryTx, hours: &HealthHours) -> Result<()> {
    let rows = Rows::default()
        .texts(hours.keys().map(|(device, _)| device.as_str()))
        .numbers(hours.keys().map(|(_, hour)| hour.as_millis()))
        .numbers(hours.values().map(|sums| sums.reports))
        .reals(hours.values().map(|sums| sums.memory_mib))
        .numbers(hours.values().map(|sums| sums.temperatures))
        .reals(hours.values().map(|sums| sums.temperature_c));
    rows::write(tx, ADD, &rows).await.map_err(StoreError::query("adding to hours of health"))?;
    for (device, _) in hours.keys() {
        tx.touch(device);
    }
    Ok(())
}

const TRIM: &str = "delete from health_hours where hour < $1";

/// Drops hours that are too old.
pub async fn trim(tx: &mut TelemetryTx, world_now: Timestamp) -> Result<()> {
    on!(tx, |sql| sqlx::query(TRIM).bind(world_now.minus(KEPT).as_millis()).execute(sql).await.map(drop))
        .map_err(StoreError::query("dropping old health"))?;
    Ok(())
}

const HOURS: &str = "select device, hour, memory_sum / reports, temperatures, temperature_sum from health_hours where hour >= ";

/// The devices' hours that start at `since` or later, each device's oldest first.
pub async fn hours(db: &mut Telemetry, devices: &[&DeviceId], since: Timestamp) -> Result<Vec<HourHealth>> {
    let rows: Vec<(String, i64, f64, i64, f64)> = on!(db, |sql| {
        let mut ask = QueryBuilder::new(HOURS);
        ask.push_bind(since.floor_to(HOUR).as_millis());
        among(&mut ask, devices);
        ask.push(" order by device, hour limit ").push_bind(column((HOURS_MAX * devices.len()) as u64));
        ask.build_query_as().fetch_all(sql).await
    })
    .map_err(StoreError::query("reading hours of health"))?;
    #[expect(clippy::cast_precision_loss, reason = "reports of one hour")]
    let mean = |n: i64, sum: f64| (n > 0).then(|| sum / n as f64);
    rows.into_iter()
        .map(|(device, hour, memory_mib, n, sum)| {
            Ok(HourHealth {
                device: parse("device id", &device)?,
                hour: time(hour),
                memory_mib,
                temperature_c: mean(n, sum),
            })
        })
        .collect()
}
