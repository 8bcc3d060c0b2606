//! Reports as they came, the last [`KEPT_PER_DEVICE`] of each device, and each device's latest health.

use std::collections::BTreeMap;

use muster_protocol::ids::DeviceId;
use muster_protocol::message::{Health, ModelStats, Report};
use muster_protocol::time::Timestamp;

use super::convert::{column, from_json, parse, time, to_json};
use super::{Page, Result, StoreError, Telemetry, TelemetryTx};

pub const KEPT_PER_DEVICE: i64 = 500;

#[derive(Clone, Debug, PartialEq)]
pub struct ReportEntry {
    pub received: Timestamp,
    /// World time.
    pub from: Timestamp,
    pub to: Timestamp,
    pub health: Health,
    pub models: Vec<ModelStats>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HealthAt {
    pub received: Timestamp,
    pub health: Health,
}

#[derive(sqlx::FromRow)]
struct Row {
    received: i64,
    world_from: i64,
    world_to: i64,
    health: String,
    models: String,
}

impl TryFrom<Row> for ReportEntry {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            received: time(row.received),
            from: time(row.world_from),
            to: time(row.world_to),
            health: from_json("report's health", &row.health)?,
            models: from_json("report's models", &row.models)?,
        })
    }
}

const ADD: &str = "insert into reports (device, boot, sequence, received, world_from, world_to, health, models) \
     values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (device, boot, sequence) do nothing";
const TRIM: &str = "delete from reports where device = $1 and world_to < \
     (select world_to from reports where device = $1 order by world_to desc, received desc limit 1 offset $2)";
const LATEST: &str = "insert into latest_health (device, received, health) values ($1, $2, $3) \
     on conflict (device) do update set received = excluded.received, health = excluded.health";

pub async fn add(
    tx: &mut TelemetryTx,
    device: &DeviceId,
    report: &Report,
    received: Timestamp,
) -> Result<()> {
    let health = to_json("report's health", &report.health)?;
    sqlx::query(ADD)
        .bind(device.as_str())
        .bind(report.boot.as_str())
        .bind(column(report.sequence))
        .bind(received.as_millis())
        .bind(report.from.as_millis())
        .bind(report.to.as_millis())
        .bind(&health)
        .bind(to_json("report's models", &report.models)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing a report"))?;
    sqlx::query(TRIM)
        .bind(device.as_str())
        .bind(KEPT_PER_DEVICE)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("dropping old reports"))?;
    sqlx::query(LATEST)
        .bind(device.as_str())
        .bind(received.as_millis())
        .bind(health)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing a device's health"))?;
    Ok(())
}

const LIST: &str = "select received, world_from, world_to, health, models from reports \
     where device = $1 and (world_to, received) < ($2, $3) order by world_to desc, received desc limit $4";

/// The newest first; the key is (end of span, time of receipt).
pub async fn list(
    db: &mut Telemetry,
    device: &DeviceId,
    page: &Page<(Timestamp, Timestamp)>,
) -> Result<Vec<ReportEntry>> {
    let (to, received) =
        page.after.map_or((i64::MAX, 0), |(to, received)| (to.as_millis(), received.as_millis()));
    sqlx::query_as::<_, Row>(LIST)
        .bind(device.as_str())
        .bind(to)
        .bind(received)
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing reports"))?
        .into_iter()
        .map(ReportEntry::try_from)
        .collect()
}

const HEALTH: &str =
    "select device, received, health from latest_health where device > $1 order by device limit $2";

/// Each device's latest health, by device id.
pub async fn latest_health(
    db: &mut Telemetry,
    page: &Page<DeviceId>,
) -> Result<BTreeMap<DeviceId, HealthAt>> {
    let rows: Vec<(String, i64, String)> = sqlx::query_as(HEALTH)
        .bind(page.after.as_ref().map_or("", DeviceId::as_str))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("reading the devices' health"))?;
    rows.into_iter()
        .map(|(device, received, health)| {
            let health = from_json("device's health", &health)?;
            Ok((parse("device id", &device)?, HealthAt { received: time(received), health }))
        })
        .collect()
}

const HEALTH_OF: &str = "select received, health from latest_health where device = $1";

pub async fn health_of(db: &mut Telemetry, device: &DeviceId) -> Result<Option<HealthAt>> {
    let row: Option<(i64, String)> = sqlx::query_as(HEALTH_OF)
        .bind(device.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a device's health"))?;
    row.map(|(received, health)| {
        Ok(HealthAt { received: time(received), health: from_json("device's health", &health)? })
    })
    .transpose()
}
