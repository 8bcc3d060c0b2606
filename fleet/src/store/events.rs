//! What devices said happened to them, the last [`KEPT_PER_DEVICE`] of each.

use muster_protocol::ids::DeviceId;
use muster_protocol::message::{Event, EventKind};
use muster_protocol::time::Timestamp;

use super::convert::{column, count, from_json, time, to_json};
use super::{Control, ControlTx, Page, Result, StoreError};

pub const KEPT_PER_DEVICE: i64 = 500;

#[derive(Clone, Debug, PartialEq)]
pub struct DeviceEvent {
    pub sequence: u64,
    /// The box's clock.
    pub at: Timestamp,
    /// Ours.
    pub received: Timestamp,
    pub kind: EventKind,
    /// `activated`, `reverted` …
    pub label: String,
    pub sentence: String,
}

/// An event with the words people read.
#[derive(Clone, Copy, Debug)]
pub struct NewEvent<'a> {
    pub event: &'a Event,
    pub received: Timestamp,
    pub label: &'a str,
    pub sentence: &'a str,
}

#[derive(sqlx::FromRow)]
struct Row {
    sequence: i64,
    at: i64,
    received: i64,
    kind: String,
    sentence: String,
    body: String,
}

impl TryFrom<Row> for DeviceEvent {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            sequence: count(row.sequence),
            at: time(row.at),
            received: time(row.received),
            kind: from_json("device event", &row.body)?,
            label: row.kind,
            sentence: row.sentence,
        })
    }
}

const ADD: &str = "insert into events (device, boot, sequence, at, received, kind, sentence, body) \
     values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (device, boot, sequence) do nothing";
const TRIM: &str = "delete from events where device = $1 and received < \
     (select received from events where device = $1 order by received desc, sequence desc limit 1 offset $2)";

pub async fn add(tx: &mut ControlTx, device: &DeviceId, new: NewEvent<'_>) -> Result<()> {
    sqlx::query(ADD)
        .bind(device.as_str())
        .bind(new.event.boot.as_str())
        .bind(column(new.event.sequence))
        .bind(new.event.at.as_millis())
        .bind(new.received.as_millis())
        .bind(new.label)
        .bind(new.sentence)
        .bind(to_json("device event", &new.event.kind)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing a device event"))?;
    sqlx::query(TRIM)
        .bind(device.as_str())
        .bind(KEPT_PER_DEVICE)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("dropping old device events"))?;
    Ok(())
}

const LIST: &str = "select sequence, at, received, kind, sentence, body from events \
     where device = $1 and (received, sequence) < ($2, $3) order by received desc, sequence desc limit $4";

/// The newest first; the key is (received, sequence).
pub async fn list(
    db: &mut Control,
    device: &DeviceId,
    page: &Page<(Timestamp, u64)>,
) -> Result<Vec<DeviceEvent>> {
    let (received, sequence) =
        page.after.map_or((i64::MAX, 0), |(at, sequence)| (at.as_millis(), column(sequence)));
    sqlx::query_as::<_, Row>(LIST)
        .bind(device.as_str())
        .bind(received)
        .bind(sequence)
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing device events"))?
        .into_iter()
        .map(DeviceEvent::try_from)
        .collect()
}
