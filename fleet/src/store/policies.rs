//! One retraining policy a model. The documents are the mind's.

use muster_protocol::ids::ModelName;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::convert::{column, parse, to_json};
use super::documents::DocumentRow;
use super::{Control, ControlTx, Page, Result, Saved, StoreError, Versioned};

const WHAT: &str = "policy";

const GET: &str = "select revision, document from policies where model = $1";

pub async fn get<T: DeserializeOwned>(db: &mut Control, model: &ModelName) -> Result<Option<Versioned<T>>> {
    sqlx::query_as::<_, DocumentRow>(GET)
        .bind(model.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a policy"))?
        .map(|row| row.read(WHAT))
        .transpose()
}

const CREATE: &str =
    "insert into policies (model, revision, document) values ($1, 1, $2) on conflict (model) do nothing";
const SAVE: &str =
    "update policies set revision = revision + 1, document = $3 where model = $1 and revision = $2";

/// Replaces the policy if nobody else did since `seen` was loaded; `seen` 0 means that there was none.
pub async fn save(
    tx: &mut ControlTx,
    model: &ModelName,
    seen: u64,
    document: &(impl Serialize + Sync),
) -> Result<Saved> {
    let document = to_json(WHAT, document)?;
    let query = if seen == 0 {
        sqlx::query(CREATE).bind(model.as_str()).bind(document)
    } else {
        sqlx::query(SAVE).bind(model.as_str()).bind(column(seen)).bind(document)
    };
    let done = query.execute(tx.sql()).await.map_err(StoreError::query("saving a policy"))?;
    Ok(Saved::of(done.rows_affected(), seen))
}

const LIST: &str = "select model, revision, document from policies where model > $1 order by model limit $2";

/// By model.
pub async fn list<T: DeserializeOwned>(
    db: &mut Control,
    page: &Page<ModelName>,
) -> Result<Vec<(ModelName, Versioned<T>)>> {
    let rows: Vec<(String, i64, String)> = sqlx::query_as(LIST)
        .bind(page.after.as_ref().map_or("", ModelName::as_str))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing policies"))?;
    rows.into_iter()
        .map(|(model, revision, document)| {
            Ok((parse("model name", &model)?, DocumentRow { revision, document }.read(WHAT)?))
        })
        .collect()
}
