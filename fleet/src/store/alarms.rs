//! What the drift mind remembers of each stream between windows, by bundle, device and stream.

use std::collections::BTreeMap;

use muster_protocol::ids::{DeviceId, Digest, StreamName};
use muster_protocol::limits::STREAMS_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::convert::{from_json, parse, to_json};
use super::{Control, ControlTx, Result, StoreError};

const WHAT: &str = "alarm";
const PUT: &str = "insert into alarms (bundle, device, stream, document) values ($1, $2, $3, $4) \
     on conflict (bundle, device, stream) do update set document = excluded.document";

pub async fn put(
    tx: &mut ControlTx,
    bundle: &Digest,
    device: &DeviceId,
    stream: &StreamName,
    document: &(impl Serialize + Sync),
) -> Result<()> {
    sqlx::query(PUT)
        .bind(bundle.to_string())
        .bind(device.as_str())
        .bind(stream.as_str())
        .bind(to_json(WHAT, document)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing an alarm's state"))?;
    Ok(())
}

const OF_DEVICE: &str =
    "select stream, document from alarms where bundle = $1 and device = $2 order by stream limit $3";

/// All streams of a bundle on one device.
pub async fn of_device<T: DeserializeOwned>(
    db: &mut Control,
    bundle: &Digest,
    device: &DeviceId,
) -> Result<BTreeMap<StreamName, T>> {
    let rows: Vec<(String, String)> = sqlx::query_as(OF_DEVICE)
        .bind(bundle.to_string())
        .bind(device.as_str())
        .bind(i64::try_from(STREAMS_MAX).unwrap_or(i64::MAX))
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("reading a device's alarms"))?;
    rows.iter()
        .map(|(stream, document)| Ok((parse("stream name", stream)?, from_json(WHAT, document)?)))
        .collect()
}

const CLEAR: &str = "delete from alarms where bundle = $1";

/// Forgets a bundle's alarms, when nobody runs it any more.
pub async fn clear(tx: &mut ControlTx, bundle: &Digest) -> Result<()> {
    sqlx::query(CLEAR)
        .bind(bundle.to_string())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("forgetting a bundle's alarms"))?;
    Ok(())
}
