//! What sites were asked to keep for themselves, and of which boxes. The wish and its reason; never a row.

use muster_protocol::capture::CaptureRequest;
use muster_protocol::ids::{CaptureId, DeviceId};
use muster_protocol::limits::CAPTURES_MAX;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::convert::{from_json, parse, time, to_json};
use super::{Control, ControlTx, NewestFirst, Page, Result, StoreError};

const WHAT: &str = "capture";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    pub request: CaptureRequest,
    pub asked: Timestamp,
    /// In a person's words.
    pub reason: String,
    pub by: String,
    pub cancelled: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    request: CaptureRequest,
    reason: String,
    by: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    asked: i64,
    cancelled: Option<i64>,
    document: String,
}

impl TryFrom<Row> for Capture {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let Document { request, reason, by } = from_json(WHAT, &row.document)?;
        Ok(Self { request, asked: time(row.asked), reason, by, cancelled: row.cancelled.map(time) })
    }
}

const ADD: &str =
    "insert into captures (id, asked, expires, cancelled, document) values ($1, $2, $3, null, $4)";
const ADD_DEVICE: &str = "insert into capture_devices (device, capture) values ($1, $2)";

pub async fn add(tx: &mut ControlTx, capture: &Capture, devices: &[DeviceId]) -> Result<()> {
    let failed = StoreError::query("writing a capture");
    let Capture { request, reason, by, .. } = capture.clone();
    let document = Document { request, reason, by };
    sqlx::query(ADD)
        .bind(capture.request.id.as_str())
        .bind(capture.asked.as_millis())
        .bind(capture.request.until.as_millis())
        .bind(to_json(WHAT, &document)?)
        .execute(tx.sql())
        .await
        .map_err(&failed)?;
    for device in devices {
        sqlx::query(ADD_DEVICE)
            .bind(device.as_str())
            .bind(capture.request.id.as_str())
            .execute(tx.sql())
            .await
            .map_err(&failed)?;
        tx.touch(device);
    }
    Ok(())
}

const CANCEL: &str = "update captures set cancelled = $2 where id = $1 and cancelled is null";

/// Whether there was one to cancel.
pub async fn cancel(tx: &mut ControlTx, id: &CaptureId, at: Timestamp) -> Result<bool> {
    let done = sqlx::query(CANCEL)
        .bind(id.as_str())
        .bind(at.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("cancelling a capture"))?;
    Ok(done.rows_affected() == 1)
}

const GET: &str = "select asked, cancelled, document from captures where id = $1";

pub async fn get(db: &mut Control, id: &CaptureId) -> Result<Option<Capture>> {
    sqlx::query_as::<_, Row>(GET)
        .bind(id.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a capture"))?
        .map(Capture::try_from)
        .transpose()
}

const LIST: &str = "select asked, cancelled, document from captures \
     where asked < $1 or (asked = $1 and id < $2) order by asked desc, id desc limit $3";

/// The newest first.
pub async fn list(db: &mut Control, page: &Page<NewestFirst>) -> Result<Vec<Capture>> {
    let (at, id) = page.bound();
    sqlx::query_as::<_, Row>(LIST)
        .bind(at)
        .bind(id)
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing captures"))?
        .into_iter()
        .map(Capture::try_from)
        .collect()
}

const DEVICES: &str = "select device from capture_devices where capture = $1 order by device limit $2";

/// The boxes that a capture is asked of.
pub async fn devices(db: &mut Control, id: &CaptureId, limit: u32) -> Result<Vec<DeviceId>> {
    let rows: Vec<(String,)> = sqlx::query_as(DEVICES)
        .bind(id.as_str())
        .bind(Page::<()>::first(limit).limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing the boxes of a capture"))?;
    rows.iter().map(|(device,)| parse("captured device", device)).collect()
}

const OF_DEVICE: &str = "select captures.asked, captures.cancelled, captures.document from capture_devices \
     join captures on captures.id = capture_devices.capture \
     where capture_devices.device = $1 and captures.cancelled is null and captures.expires > $2 \
     order by captures.asked, captures.id limit $3";

/// What is asked of a box at `now`, the oldest first: as much as its order may hold.
pub async fn of_device(db: &mut Control, device: &DeviceId, now: Timestamp) -> Result<Vec<CaptureRequest>> {
    let rows: Vec<Row> = sqlx::query_as(OF_DEVICE)
        .bind(device.as_str())
        .bind(now.as_millis())
        .bind(i64::try_from(CAPTURES_MAX).unwrap_or(i64::MAX))
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("reading what is asked of a device"))?;
    rows.into_iter().map(|row| Ok(Capture::try_from(row)?.request)).collect()
}
