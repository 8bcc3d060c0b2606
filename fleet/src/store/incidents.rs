//! Drift incidents. The documents are the mind's; we know the columns beside them.

use muster_protocol::ids::{Digest, IncidentId, ModelName};
use muster_protocol::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::convert::{column, count, to_json};
use super::documents::{DocumentRow, read_all};
use super::{Control, ControlTx, NewestFirst, Page, Result, Saved, StoreError, Versioned};

const WHAT: &str = "incident";

/// What lists look for.
#[derive(Clone, Copy, Debug)]
pub struct IncidentColumns<'a> {
    pub model: &'a ModelName,
    pub bundle: &'a Digest,
    /// `open`, `acknowledged` or `closed`.
    pub state: &'a str,
    pub opened: Timestamp,
}

const CREATE: &str = "insert into incidents (id, revision, model, bundle, state, opened, document) \
     values ($1, 1, $2, $3, $4, $5, $6)";

/// Writes a new incident, at revision 1.
pub async fn create(
    tx: &mut ControlTx,
    id: &IncidentId,
    columns: IncidentColumns<'_>,
    document: &(impl Serialize + Sync),
) -> Result<()> {
    sqlx::query(CREATE)
        .bind(id.as_str())
        .bind(columns.model.as_str())
        .bind(columns.bundle.to_string())
        .bind(columns.state)
        .bind(columns.opened.as_millis())
        .bind(to_json(WHAT, document)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("creating an incident"))?;
    Ok(())
}

const SAVE: &str =
    "update incidents set revision = revision + 1, state = $3, document = $4 where id = $1 and revision = $2";

/// Replaces the document if nobody else did since `seen` was loaded.
pub async fn save(
    tx: &mut ControlTx,
    id: &IncidentId,
    seen: u64,
    state: &str,
    document: &(impl Serialize + Sync),
) -> Result<Saved> {
    let done = sqlx::query(SAVE)
        .bind(id.as_str())
        .bind(column(seen))
        .bind(state)
        .bind(to_json(WHAT, document)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("saving an incident"))?;
    Ok(Saved::of(done.rows_affected(), seen))
}

const GET: &str = "select revision, document from incidents where id = $1";

pub async fn get<T: DeserializeOwned>(db: &mut Control, id: &IncidentId) -> Result<Option<Versioned<T>>> {
    sqlx::query_as::<_, DocumentRow>(GET)
        .bind(id.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading an incident"))?
        .map(|row| row.read(WHAT))
        .transpose()
}

const LIST: &str = "select revision, document from incidents where ($1 is null or model = $1) \
     and ($2 is null or state = $2) and (opened < $3 or (opened = $3 and id < $4)) \
     order by opened desc, id desc limit $5";

/// The newest first.
pub async fn list<T: DeserializeOwned>(
    db: &mut Control,
    model: Option<&ModelName>,
    state: Option<&str>,
    page: &Page<NewestFirst>,
) -> Result<Vec<Versioned<T>>> {
    let (at, id) = page.bound();
    let rows = sqlx::query_as::<_, DocumentRow>(LIST)
        .bind(model.map(ModelName::as_str))
        .bind(state)
        .bind(at)
        .bind(id)
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing incidents"))?;
    read_all(WHAT, &rows)
}

const COUNT: &str = "select count(*) from incidents where state = $1";

pub async fn count_in(db: &mut Control, state: &str) -> Result<u64> {
    let (n,): (i64,) = sqlx::query_as(COUNT)
        .bind(state)
        .fetch_one(db.sql())
        .await
        .map_err(StoreError::query("counting incidents"))?;
    Ok(count(n))
}
