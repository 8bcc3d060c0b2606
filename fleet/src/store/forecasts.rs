//! What was foreseen of each rollout when it began. Written once; the document is the mind's.

use muster_protocol::ids::RolloutId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::convert::{from_json, to_json};
use super::{Control, ControlTx, Result, StoreError};

const WHAT: &str = "forecast";

const PUT: &str =
    "insert into rollout_forecasts (rollout, document) values ($1, $2) on conflict (rollout) do nothing";

/// Keeps the first forecast: one that is made later knows too much.
pub async fn put(tx: &mut ControlTx, rollout: &RolloutId, forecast: &(impl Serialize + Sync)) -> Result<()> {
    sqlx::query(PUT)
        .bind(rollout.as_str())
        .bind(to_json(WHAT, forecast)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing a forecast"))?;
    Ok(())
}

const GET: &str = "select document from rollout_forecasts where rollout = $1";

pub async fn get<T: DeserializeOwned>(db: &mut Control, rollout: &RolloutId) -> Result<Option<T>> {
    let found: Option<(String,)> = sqlx::query_as(GET)
        .bind(rollout.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a forecast"))?;
    found.map(|(document,)| from_json(WHAT, &document)).transpose()
}
