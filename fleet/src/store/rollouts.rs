//! Rollouts and where each device stands in them. The documents are the mind's; we know the columns beside them.

use muster_protocol::ids::{DeviceId, ModelName, RolloutId};
use muster_protocol::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::convert::{column, from_json, parse, to_json};
use super::documents::{DocumentRow, read_all};
use super::{Control, ControlTx, NewestFirst, Page, Result, Saved, StoreError, Versioned};

const WHAT: &str = "rollout";

const CREATE: &str =
    "insert into rollouts (id, revision, model, phase, created, document) values ($1, 1, $2, $3, $4, $5)";

/// Writes a new rollout, at revision 1.
pub async fn create(
    tx: &mut ControlTx,
    id: &RolloutId,
    model: &ModelName,
    phase: &str,
    created: Timestamp,
    document: &(impl Serialize + Sync),
) -> Result<()> {
    sqlx::query(CREATE)
        .bind(id.as_str())
        .bind(model.as_str())
        .bind(phase)
        .bind(created.as_millis())
        .bind(to_json(WHAT, document)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("creating a rollout"))?;
    Ok(())
}

const SAVE: &str =
    "update rollouts set revision = revision + 1, phase = $3, document = $4 where id = $1 and revision = $2";

/// Replaces the document if nobody else did since `seen` was loaded.
pub async fn save(
    tx: &mut ControlTx,
    id: &RolloutId,
    seen: u64,
    phase: &str,
    document: &(impl Serialize + Sync),
) -> Result<Saved> {
    let done = sqlx::query(SAVE)
        .bind(id.as_str())
        .bind(column(seen))
        .bind(phase)
        .bind(to_json(WHAT, document)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("saving a rollout"))?;
    Ok(Saved::of(done.rows_affected(), seen))
}

const GET: &str = "select revision, document from rollouts where id = $1";

pub async fn get<T: DeserializeOwned>(db: &mut Control, id: &RolloutId) -> Result<Option<Versioned<T>>> {
    sqlx::query_as::<_, DocumentRow>(GET)
        .bind(id.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a rollout"))?
        .map(|row| row.read(WHAT))
        .transpose()
}

const LIST: &str = "select revision, document from rollouts where ($1 is null or model = $1) \
     and ($2 is null or phase = $2) and (created < $3 or (created = $3 and id < $4)) \
     order by created desc, id desc limit $5";

/// The newest first.
pub async fn list<T: DeserializeOwned>(
    db: &mut Control,
    model: Option<&ModelName>,
    phase: Option<&str>,
    page: &Page<NewestFirst>,
) -> Result<Vec<Versioned<T>>> {
    let (at, id) = page.bound();
    let rows = sqlx::query_as::<_, DocumentRow>(LIST)
        .bind(model.map(ModelName::as_str))
        .bind(phase)
        .bind(at)
        .bind(id)
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing rollouts"))?;
    read_all(WHAT, &rows)
}

const PUT_DEVICE: &str = "insert into rollout_devices (rollout, device, document) values ($1, $2, $3) \
     on conflict (rollout, device) do update set document = excluded.document";

pub async fn put_device(
    tx: &mut ControlTx,
    rollout: &RolloutId,
    device: &DeviceId,
    record: &(impl Serialize + Sync),
) -> Result<()> {
    sqlx::query(PUT_DEVICE)
        .bind(rollout.as_str())
        .bind(device.as_str())
        .bind(to_json("rollout's device", record)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing a rollout's device"))?;
    Ok(())
}

const DEVICES: &str = "select device, document from rollout_devices where rollout = $1 and device > $2 order by device limit $3";

/// By device.
pub async fn devices<T: DeserializeOwned>(
    db: &mut Control,
    rollout: &RolloutId,
    page: &Page<DeviceId>,
) -> Result<Vec<(DeviceId, T)>> {
    let rows: Vec<(String, String)> = sqlx::query_as(DEVICES)
        .bind(rollout.as_str())
        .bind(page.after.as_ref().map_or("", DeviceId::as_str))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing a rollout's devices"))?;
    rows.iter()
        .map(|(device, document)| Ok((parse("device id", device)?, from_json("rollout's device", document)?)))
        .collect()
}
