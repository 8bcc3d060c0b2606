//! What versions of a model are called: one row a name, which points at one bundle.

use muster_protocol::ids::{AliasName, Digest, ModelName};
use muster_protocol::time::Timestamp;

use super::convert::{column, count, parse, time};
use super::log::Actor;
use super::{Control, ControlTx, Page, Result, Saved, StoreError};
use crate::registry::ALIASES_MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    pub name: AliasName,
    pub revision: u64,
    pub bundle: Digest,
    /// Since when it points there; real time.
    pub at: Timestamp,
    pub actor: Actor,
    pub reason: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    revision: i64,
    bundle: String,
    at: i64,
    actor: String,
    reason: String,
}

impl TryFrom<Row> for Alias {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            name: parse("alias", &row.name)?,
            revision: count(row.revision),
            bundle: parse("alias's bundle", &row.bundle)?,
            at: time(row.at),
            actor: parse("alias's actor", &row.actor)?,
            reason: row.reason,
        })
    }
}

const GET: &str =
    "select name, revision, bundle, at, actor, reason from aliases where model = $1 and name = $2";

pub async fn get(db: &mut Control, model: &ModelName, name: &AliasName) -> Result<Option<Alias>> {
    sqlx::query_as::<_, Row>(GET)
        .bind(model.as_str())
        .bind(name.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading an alias"))?
        .map(Alias::try_from)
        .transpose()
}

const OF: &str = "select name, revision, bundle, at, actor, reason from aliases where model = $1 \
     order by name limit $2";

/// All of a model, by name: people's are bounded, and the fleet keeps two.
pub async fn of(db: &mut Control, model: &ModelName) -> Result<Vec<Alias>> {
    let limit = u32::try_from(ALIASES_MAX).unwrap_or(u32::MAX).saturating_add(2);
    sqlx::query_as::<_, Row>(OF)
        .bind(model.as_str())
        .bind(Page::<()>::first(limit).limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing a model's aliases"))?
        .into_iter()
        .map(Alias::try_from)
        .collect()
}

const CREATE: &str = "insert into aliases (model, name, revision, bundle, at, actor, reason) \
     values ($1, $2, 1, $3, $4, $5, $6) on conflict (model, name) do nothing";
const SAVE: &str = "update aliases set revision = revision + 1, bundle = $3, at = $4, actor = $5, reason = $6 \
     where model = $1 and name = $2 and revision = $7";

/// Points a name at a bundle if nobody moved it since `alias.revision` was seen; 0 means that there was none.
pub async fn save(tx: &mut ControlTx, model: &ModelName, alias: &Alias) -> Result<Saved> {
    let sql = if alias.revision == 0 { CREATE } else { SAVE };
    let query = sqlx::query(sql)
        .bind(model.as_str())
        .bind(alias.name.as_str())
        .bind(alias.bundle.to_string())
        .bind(alias.at.as_millis())
        .bind(alias.actor.to_string())
        .bind(&alias.reason);
    let query = if alias.revision == 0 { query } else { query.bind(column(alias.revision)) };
    let done = query.execute(tx.sql()).await.map_err(StoreError::query("moving an alias"))?;
    Ok(Saved::of(done.rows_affected(), alias.revision))
}

const REMOVE: &str = "delete from aliases where model = $1 and name = $2";

/// Returns whether there was one.
pub async fn remove(tx: &mut ControlTx, model: &ModelName, name: &AliasName) -> Result<bool> {
    let done = sqlx::query(REMOVE)
        .bind(model.as_str())
        .bind(name.as_str())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("removing an alias"))?;
    Ok(done.rows_affected() == 1)
}
