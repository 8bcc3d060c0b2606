//! How far each device's numbered messages are safe here, one position a boot and stream.
//!
//! The position of reports stands in the telemetry file, beside what reports become; those of states and events in the
//! control file, for the same reason: the position and its effect are one commit.

use muster_protocol::ids::{BootId, DeviceId};
use muster_protocol::time::Timestamp;
use sqlx::SqliteConnection;

use super::convert::{column, count};
use super::{Control, ControlTx, Result, StoreError, Telemetry, TelemetryTx};

/// Numbered messages of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    State,
    Event,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Event => "event",
        }
    }
}

/// Boots remembered of each device and stream: a box that restarts all day must not fill the database.
const BOOTS_MAX: i64 = 64;

const REPORT: &str = "report";

/// The highest number up to which nothing is missing; 0 at first.
pub async fn get(db: &mut Control, device: &DeviceId, boot: &BootId, stream: Stream) -> Result<u64> {
    read(db.sql(), device, boot, stream.as_str()).await
}

pub async fn set(
    tx: &mut ControlTx,
    device: &DeviceId,
    boot: &BootId,
    stream: Stream,
    contiguous: u64,
    at: Timestamp,
) -> Result<()> {
    write(tx.sql(), device, boot, stream.as_str(), contiguous, at).await
}

pub async fn of_reports(db: &mut Telemetry, device: &DeviceId, boot: &BootId) -> Result<u64> {
    read(db.sql(), device, boot, REPORT).await
}

pub async fn set_of_reports(
    tx: &mut TelemetryTx,
    device: &DeviceId,
    boot: &BootId,
    contiguous: u64,
    at: Timestamp,
) -> Result<()> {
    write(tx.sql(), device, boot, REPORT, contiguous, at).await
}

/// Forgets the boots that were silent for longest.
pub async fn trim(tx: &mut ControlTx, device: &DeviceId) -> Result<()> {
    for stream in [Stream::State, Stream::Event] {
        forget(tx.sql(), device, stream.as_str()).await?;
    }
    Ok(())
}

/// Forgets the boots that were silent for longest.
pub async fn trim_reports(tx: &mut TelemetryTx, device: &DeviceId) -> Result<()> {
    forget(tx.sql(), device, REPORT).await
}

const GET: &str = "select contiguous from positions where device = $1 and boot = $2 and stream = $3";

async fn read(sql: &mut SqliteConnection, device: &DeviceId, boot: &BootId, stream: &str) -> Result<u64> {
    let found: Option<(i64,)> = sqlx::query_as(GET)
        .bind(device.as_str())
        .bind(boot.as_str())
        .bind(stream)
        .fetch_optional(sql)
        .await
        .map_err(StoreError::query("reading a device's position"))?;
    Ok(found.map_or(0, |(contiguous,)| count(contiguous)))
}

const SET: &str = "insert into positions (device, boot, stream, contiguous, updated) values ($1, $2, $3, $4, $5) \
     on conflict (device, boot, stream) do update set contiguous = excluded.contiguous, updated = excluded.updated";

async fn write(
    sql: &mut SqliteConnection,
    device: &DeviceId,
    boot: &BootId,
    stream: &str,
    contiguous: u64,
    at: Timestamp,
) -> Result<()> {
    sqlx::query(SET)
        .bind(device.as_str())
        .bind(boot.as_str())
        .bind(stream)
        .bind(column(contiguous))
        .bind(at.as_millis())
        .execute(sql)
        .await
        .map_err(StoreError::query("moving a device's position"))?;
    Ok(())
}

const FORGET: &str = "delete from positions where device = $1 and stream = $2 and updated < \
     (select updated from positions where device = $1 and stream = $2 order by updated desc limit 1 offset $3)";

async fn forget(sql: &mut SqliteConnection, device: &DeviceId, stream: &str) -> Result<()> {
    sqlx::query(FORGET)
        .bind(device.as_str())
        .bind(stream)
        .bind(BOOTS_MAX)
        .execute(sql)
        .await
        .map_err(StoreError::query("forgetting old boots"))?;
    Ok(())
}
