//! Events that a webhook would not take.

use muster_protocol::time::Timestamp;

use super::convert::{count, time};
use super::log::{self, LogEntry};
use super::{Control, ControlTx, Page, Result, StoreError};

/// Of each hook; the oldest go.
const KEPT: i64 = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    pub entry: LogEntry,
    /// When it was put aside, real time.
    pub at: Timestamp,
    pub why: String,
    /// Whether a person wants it sent again.
    pub again: bool,
}

const ADD: &str = "insert into undelivered (hook, entry, at, why, again) values ($1, $2, $3, $4, false) \
     on conflict (hook, entry) do update set at = excluded.at, why = excluded.why, again = false";

const TRIM: &str = "delete from undelivered where hook = $1 and entry <= \
     (select entry from undelivered where hook = $1 order by entry desc limit 1 offset $2)";

pub async fn add(tx: &mut ControlTx, hook: &str, entry: i64, at: Timestamp, why: &str) -> Result<()> {
    let failed = || StoreError::query("putting an event aside");
    let add = sqlx::query(ADD).bind(hook).bind(entry).bind(at.as_millis()).bind(why);
    add.execute(tx.sql()).await.map_err(failed())?;
    sqlx::query(TRIM).bind(hook).bind(KEPT).execute(tx.sql()).await.map_err(failed())?;
    Ok(())
}

const REMOVE: &str = "delete from undelivered where hook = $1 and entry = $2";

pub async fn remove(tx: &mut ControlTx, hook: &str, entry: i64) -> Result<()> {
    let failed = StoreError::query("taking an event back");
    sqlx::query(REMOVE).bind(hook).bind(entry).execute(tx.sql()).await.map_err(failed)?;
    Ok(())
}

const AGAIN: &str = "update undelivered set again = true where hook = $1 and entry = $2";

/// Asks for it to be sent again; whether it is there.
pub async fn ask_again(tx: &mut ControlTx, hook: &str, entry: i64) -> Result<bool> {
    let failed = StoreError::query("asking for an event again");
    let done = sqlx::query(AGAIN).bind(hook).bind(entry).execute(tx.sql()).await.map_err(failed)?;
    Ok(done.rows_affected() > 0)
}

const COUNT: &str = "select count(*) from undelivered where hook = $1";

pub async fn count_of(db: &mut Control, hook: &str) -> Result<u64> {
    let failed = StoreError::query("counting undelivered events");
    let (found,): (i64,) = sqlx::query_as(COUNT).bind(hook).fetch_one(db.sql()).await.map_err(failed)?;
    Ok(count(found))
}

const LIST: &str = "select entry, at, why, again from undelivered where hook = $1 and entry > $2 \
     and (again or not $3) order by entry limit $4";

/// The oldest first.
pub async fn list(
    db: &mut Control,
    hook: &str,
    only_again: bool,
    page: &Page<i64>,
) -> Result<Vec<Undelivered>> {
    let rows: Vec<(i64, i64, String, bool)> = sqlx::query_as(LIST)
        .bind(hook)
        .bind(page.after.unwrap_or(0))
        .bind(only_again)
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("reading undelivered events"))?;
    let mut found = Vec::with_capacity(rows.len());
    for (id, at, why, again) in rows {
        // An entry that is gone has nothing left to be sent.
        if let Some(entry) = log::get(db, id).await? {
            found.push(Undelivered { entry, at: time(at), why, again });
        }
    }
    Ok(found)
}
