//! What operators sort their boxes by. A device that was never tagged has revision 0.

use muster_protocol::ids::DeviceId;

use super::convert::{column, to_json};
use super::documents::DocumentRow;
use super::{Control, ControlTx, Result, Saved, StoreError, Versioned};
use crate::rollout::filter::Tags;

const WHAT: &str = "device's tags";

const GET: &str = "select revision, document from device_tags where device = $1";

pub async fn get(db: &mut Control, device: &DeviceId) -> Result<Versioned<Tags>> {
    let row = sqlx::query_as::<_, DocumentRow>(GET)
        .bind(device.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a device's tags"))?;
    match row {
        Some(row) => row.read(WHAT),
        None => Ok(Versioned { revision: 0, document: Tags::new() }),
    }
}

const CREATE: &str =
    "insert into device_tags (device, revision, document) values ($1, 1, $2) on conflict (device) do nothing";
const SAVE: &str =
    "update device_tags set revision = revision + 1, document = $3 where device = $1 and revision = $2";

/// Replaces the tags if nobody else did since `seen` was loaded.
pub async fn save(tx: &mut ControlTx, device: &DeviceId, seen: u64, tags: &Tags) -> Result<Saved> {
    let document = to_json(WHAT, tags)?;
    let query = if seen == 0 {
        sqlx::query(CREATE).bind(device.as_str()).bind(document)
    } else {
        sqlx::query(SAVE).bind(device.as_str()).bind(column(seen)).bind(document)
    };
    let done = query.execute(tx.sql()).await.map_err(StoreError::query("saving a device's tags"))?;
    tx.touch(device);
    Ok(Saved::of(done.rows_affected(), seen))
}
