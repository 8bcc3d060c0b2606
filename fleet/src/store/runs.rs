//! Retraining runs with their leases, and the last [`LOG_LINES_MAX`] lines each wrote. The documents are the mind's.

use muster_protocol::ids::{ModelName, RunId};
use muster_protocol::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::convert::{column, count, time, to_json};
use super::documents::{DocumentRow, read_all};
use super::{Control, ControlTx, NewestFirst, Page, Result, Saved, StoreError, Versioned};

const WHAT: &str = "run";

pub const LOG_LINES_MAX: i64 = 1000;
/// A longer line is cut.
const LOG_LINE_CHARS_MAX: usize = 2000;

/// What lists look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunColumns<'a> {
    /// `collecting`, `queued`, `claimed` …
    pub state: &'a str,
    pub lease: Option<Lease<'a>>,
}

/// A builder has the run until then (real time).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease<'a> {
    pub builder: &'a str,
    pub until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub line: u64,
    pub at: Timestamp,
    pub text: String,
}

const CREATE: &str = "insert into runs (id, revision, model, state, builder, lease_until, created, document) \
     values ($1, 1, $2, $3, $4, $5, $6, $7)";

/// Writes a new run, at revision 1.
pub async fn create(
    tx: &mut ControlTx,
    id: &RunId,
    model: &ModelName,
    created: Timestamp,
    columns: RunColumns<'_>,
    document: &(impl Serialize + Sync),
) -> Result<()> {
    sqlx::query(CREATE)
        .bind(id.as_str())
        .bind(model.as_str())
        .bind(columns.state)
        .bind(columns.lease.map(|lease| lease.builder))
        .bind(columns.lease.map(|lease| lease.until.as_millis()))
        .bind(created.as_millis())
        .bind(to_json(WHAT, document)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("creating a run"))?;
    Ok(())
}

const SAVE: &str = "update runs set revision = revision + 1, state = $3, builder = $4, lease_until = $5, document = $6 \
     where id = $1 and revision = $2";

/// Replaces the document if nobody else did since `seen` was loaded.
pub async fn save(
    tx: &mut ControlTx,
    id: &RunId,
    seen: u64,
    columns: RunColumns<'_>,
    document: &(impl Serialize + Sync),
) -> Result<Saved> {
    let done = sqlx::query(SAVE)
        .bind(id.as_str())
        .bind(column(seen))
        .bind(columns.state)
        .bind(columns.lease.map(|lease| lease.builder))
        .bind(columns.lease.map(|lease| lease.until.as_millis()))
        .bind(to_json(WHAT, document)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("saving a run"))?;
    Ok(Saved::of(done.rows_affected(), seen))
}

const GET: &str = "select revision, document from runs where id = $1";

pub async fn get<T: DeserializeOwned>(db: &mut Control, id: &RunId) -> Result<Option<Versioned<T>>> {
    sqlx::query_as::<_, DocumentRow>(GET)
        .bind(id.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a run"))?
        .map(|row| row.read(WHAT))
        .transpose()
}

const COUNTS: &str = "select state, count(*) from runs group by state order by state";

/// How many there are by state; those without any are left out.
pub async fn counts(db: &mut Control) -> Result<Vec<(String, u64)>> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as(COUNTS).fetch_all(db.sql()).await.map_err(StoreError::query("counting runs"))?;
    Ok(rows.into_iter().map(|(state, n)| (state, count(n))).collect())
}

const LIST: &str = "select revision, document from runs where ($1 is null or model = $1) \
     and ($2 is null or state = $2) and (created < $3 or (created = $3 and id < $4)) \
     order by created desc, id desc limit $5";

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
        .map_err(StoreError::query("listing runs"))?;
    read_all(WHAT, &rows)
}

const OLDEST: &str =
    "select revision, document from runs where state = $1 and model = $2 order by created, id limit 1";

/// The run of a model that has been in a state for longest: who came first is claimed first.
pub async fn oldest<T: DeserializeOwned>(
    db: &mut Control,
    model: &ModelName,
    state: &str,
) -> Result<Option<Versioned<T>>> {
    sqlx::query_as::<_, DocumentRow>(OLDEST)
        .bind(state)
        .bind(model.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("looking for a run to claim"))?
        .map(|row| row.read(WHAT))
        .transpose()
}

const LAPSED: &str = "select revision, document from runs where state = $1 and lease_until < $2 \
     order by lease_until, id limit $3";

/// Runs in a state whose lease ended before `now`.
pub async fn lapsed<T: DeserializeOwned>(
    db: &mut Control,
    state: &str,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<Versioned<T>>> {
    let rows = sqlx::query_as::<_, DocumentRow>(LAPSED)
        .bind(state)
        .bind(now.as_millis())
        .bind(Page::<()>::first(limit).limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("looking for lapsed leases"))?;
    read_all(WHAT, &rows)
}

const LAST_LINE: &str = "select coalesce(max(line), 0) from run_logs where run = $1";
const ADD_LINE: &str = "insert into run_logs (run, line, at, text) values ($1, $2, $3, $4)";
const TRIM: &str = "delete from run_logs where run = $1 and line <= $2";

/// Appends lines to a run's log; the oldest beyond [`LOG_LINES_MAX`] go.
pub async fn add_log(tx: &mut ControlTx, run: &RunId, at: Timestamp, lines: &[String]) -> Result<()> {
    let (mut last,): (i64,) = sqlx::query_as(LAST_LINE)
        .bind(run.as_str())
        .fetch_one(tx.sql())
        .await
        .map_err(StoreError::query("reading a run's log"))?;
    let kept = usize::try_from(LOG_LINES_MAX).unwrap_or(usize::MAX);
    for text in lines.iter().skip(lines.len().saturating_sub(kept)) {
        last = last.saturating_add(1);
        let text: String = text.chars().take(LOG_LINE_CHARS_MAX).collect();
        sqlx::query(ADD_LINE)
            .bind(run.as_str())
            .bind(last)
            .bind(at.as_millis())
            .bind(text)
            .execute(tx.sql())
            .await
            .map_err(StoreError::query("writing a run's log"))?;
    }
    sqlx::query(TRIM)
        .bind(run.as_str())
        .bind(last.saturating_sub(LOG_LINES_MAX))
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("cutting a run's log"))?;
    Ok(())
}

const LOG: &str =
    "select line, at, text from run_logs where run = $1 and line > $2 order by line desc limit $3";

/// The last lines of a run's log after the line `page.after`, in the order they were written.
pub async fn log_tail(db: &mut Control, run: &RunId, page: &Page<u64>) -> Result<Vec<LogLine>> {
    let rows: Vec<(i64, i64, String)> = sqlx::query_as(LOG)
        .bind(run.as_str())
        .bind(column(page.after.unwrap_or(0)))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("reading a run's log"))?;
    let line = |(line, at, text)| LogLine { line: super::convert::count(line), at: time(at), text };
    Ok(rows.into_iter().rev().map(line).collect())
}
