//! Saved questions about boxes, by name, so that plans and people mean the same by `icu`.

use muster_protocol::ids::CohortName;

use super::convert::{column, count, parse};
use super::{Control, ControlTx, Page, Result, Saved, StoreError, Versioned};
use crate::rollout::filter::Filter;

const GET: &str = "select revision, filter from cohorts where name = $1";

pub async fn get(db: &mut Control, name: &CohortName) -> Result<Option<Versioned<Filter>>> {
    let row: Option<(i64, String)> = sqlx::query_as(GET)
        .bind(name.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a cohort"))?;
    row.map(|(revision, filter)| read(revision, &filter)).transpose()
}

const CREATE: &str =
    "insert into cohorts (name, revision, filter) values ($1, 1, $2) on conflict (name) do nothing";
const SAVE: &str =
    "update cohorts set revision = revision + 1, filter = $3 where name = $1 and revision = $2";

/// Replaces the filter if nobody else did since `seen` was loaded; `seen` 0 means that there was none.
pub async fn save(tx: &mut ControlTx, name: &CohortName, seen: u64, filter: &Filter) -> Result<Saved> {
    let query = if seen == 0 {
        sqlx::query(CREATE).bind(name.as_str()).bind(filter.to_string())
    } else {
        sqlx::query(SAVE).bind(name.as_str()).bind(column(seen)).bind(filter.to_string())
    };
    let done = query.execute(tx.sql()).await.map_err(StoreError::query("saving a cohort"))?;
    Ok(Saved::of(done.rows_affected(), seen))
}

const REMOVE: &str = "delete from cohorts where name = $1";

/// Returns whether there was one. Rollouts that were made of it keep its filter.
pub async fn remove(tx: &mut ControlTx, name: &CohortName) -> Result<bool> {
    let done = sqlx::query(REMOVE)
        .bind(name.as_str())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("removing a cohort"))?;
    Ok(done.rows_affected() == 1)
}

const LIST: &str = "select name, revision, filter from cohorts where name > $1 order by name limit $2";

/// By name.
pub async fn list(db: &mut Control, page: &Page<CohortName>) -> Result<Vec<(CohortName, Versioned<Filter>)>> {
    let rows: Vec<(String, i64, String)> = sqlx::query_as(LIST)
        .bind(page.after.as_ref().map_or("", CohortName::as_str))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing cohorts"))?;
    rows.into_iter()
        .map(|(name, revision, filter)| Ok((parse("cohort name", &name)?, read(revision, &filter)?)))
        .collect()
}

fn read(revision: i64, filter: &str) -> Result<Versioned<Filter>> {
    Ok(Versioned { revision: count(revision), document: parse("cohort's filter", filter)? })
}
