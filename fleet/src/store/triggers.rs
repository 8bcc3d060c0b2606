//! Every reason to retrain, and the newest [`REFUSALS_KEPT`] refusals of each model. The documents are the mind's.

use muster_protocol::ids::{ModelName, TriggerId};
use muster_protocol::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::convert::{from_json, to_json};
use super::{Control, ControlTx, NewestFirst, Page, Result, StoreError};

const WHAT: &str = "trigger";

/// Refusals of a model that are kept. What became a run is kept as long as anything.
pub const REFUSALS_KEPT: i64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Run,
    Refused,
}

const ADD: &str = "insert into triggers (id, model, at, refused, document) values ($1, $2, $3, $4, $5)";
const TRIM: &str = "delete from triggers where model = $1 and refused = true and id in \
     (select id from triggers where model = $1 and refused = true order by at desc, id desc limit 1000 offset $2)";

pub async fn add(
    tx: &mut ControlTx,
    id: &TriggerId,
    model: &ModelName,
    at: Timestamp,
    outcome: Outcome,
    document: &(impl Serialize + Sync),
) -> Result<()> {
    sqlx::query(ADD)
        .bind(id.as_str())
        .bind(model.as_str())
        .bind(at.as_millis())
        .bind(outcome == Outcome::Refused)
        .bind(to_json(WHAT, document)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing a trigger"))?;
    if outcome == Outcome::Refused {
        sqlx::query(TRIM)
            .bind(model.as_str())
            .bind(REFUSALS_KEPT)
            .execute(tx.sql())
            .await
            .map_err(StoreError::query("trimming refused triggers"))?;
    }
    Ok(())
}

const SAVE: &str = "update triggers set document = $2 where id = $1";

/// Writes a trigger again that was counted once more.
pub async fn save(tx: &mut ControlTx, id: &TriggerId, document: &(impl Serialize + Sync)) -> Result<()> {
    sqlx::query(SAVE)
        .bind(id.as_str())
        .bind(to_json(WHAT, document)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("counting a trigger"))?;
    Ok(())
}

const GET: &str = "select document from triggers where id = $1";

pub async fn get<T: DeserializeOwned>(db: &mut Control, id: &TriggerId) -> Result<Option<T>> {
    let row: Option<(String,)> = sqlx::query_as(GET)
        .bind(id.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a trigger"))?;
    row.map(|(document,)| from_json(WHAT, &document)).transpose()
}

const LIST: &str = "select document from triggers where ($1 is null or model = $1) \
     and (at < $2 or (at = $2 and id < $3)) order by at desc, id desc limit $4";

/// The newest first.
pub async fn list<T: DeserializeOwned>(
    db: &mut Control,
    model: Option<&ModelName>,
    page: &Page<NewestFirst>,
) -> Result<Vec<T>> {
    let (at, id) = page.bound();
    let rows: Vec<(String,)> = sqlx::query_as(LIST)
        .bind(model.map(ModelName::as_str))
        .bind(at)
        .bind(id)
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing triggers"))?;
    rows.iter().map(|(document,)| from_json(WHAT, document)).collect()
}
