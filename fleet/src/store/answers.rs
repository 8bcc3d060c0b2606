//! What was answered to requests that carry a key, so that a repeat is answered and not done again.

use std::collections::BTreeMap;

use muster_protocol::ids::Digest;
use muster_protocol::time::Timestamp;

use super::convert::{from_json, parse, to_json};
use super::{ControlTx, Result, StoreError};

/// Keys of one caller that are kept.
pub const ANSWERS_MAX: i64 = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    /// Absent if it held a secret, which is shown once.
    pub body: Option<Vec<u8>>,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is the caller's from now on.
    New,
    /// Another request has it.
    Other,
    /// The same request has it, and has no answer: it is under way, or was cut off.
    Unanswered,
    Answered(Kept),
    /// The caller has [`ANSWERS_MAX`] already.
    TooMany,
}

/// Request, status, headers and body.
type Row = (String, Option<i64>, String, Option<Vec<u8>>);

const TRIM: &str = "delete from answers where rowid in (select rowid from answers where at < $1 limit 1000)";
const CLAIM: &str = "insert into answers (caller, key, request, at) values ($1, $2, $3, $4) on conflict (caller, key) do nothing";
const GET: &str = "select request, status, headers, body from answers where caller = $1 and key = $2";
const COUNT: &str = "select count(*) from answers where caller = $1";

/// Claims the key for a request, or says what became of it. Keys from before `since` are forgotten.
pub async fn claim(
    tx: &mut ControlTx,
    (caller, key): (&str, &str),
    request: &Digest,
    (now, since): (Timestamp, Timestamp),
) -> Result<Known> {
    const WHAT: &str = "claiming an idempotency key";
    sqlx::query(TRIM).bind(since.as_millis()).execute(tx.sql()).await.map_err(StoreError::query(WHAT))?;
    let found: Option<Row> = sqlx::query_as(GET)
        .bind(caller)
        .bind(key)
        .fetch_optional(tx.sql())
        .await
        .map_err(StoreError::query(WHAT))?;
    if let Some((first, status, headers, body)) = found {
        let first: Digest = parse("a kept answer's request", &first)?;
        return Ok(match status {
            _ if first != *request => Known::Other,
            None => Known::Unanswered,
            Some(status) => Known::Answered(Kept {
                status: u16::try_from(status).unwrap_or(500),
                headers: from_json("a kept answer's headers", &headers)?,
                body,
            }),
        });
    }
    let (count,): (i64,) =
        sqlx::query_as(COUNT).bind(caller).fetch_one(tx.sql()).await.map_err(StoreError::query(WHAT))?;
    if count >= ANSWERS_MAX {
        return Ok(Known::TooMany);
    }
    sqlx::query(CLAIM)
        .bind(caller)
        .bind(key)
        .bind(request.to_string())
        .bind(now.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query(WHAT))?;
    Ok(Known::New)
}

const KEEP: &str = "update answers set status = $3, headers = $4, body = $5 where caller = $1 and key = $2";

pub async fn keep(tx: &mut ControlTx, (caller, key): (&str, &str), kept: &Kept) -> Result<()> {
    sqlx::query(KEEP)
        .bind(caller)
        .bind(key)
        .bind(i64::from(kept.status))
        .bind(to_json("a kept answer's headers", &kept.headers)?)
        .bind(kept.body.as_deref())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("keeping an answer"))?;
    Ok(())
}

const DROP: &str = "delete from answers where caller = $1 and key = $2 and status is null";

/// Nothing was done: the key may be used again.
pub async fn forget(tx: &mut ControlTx, (caller, key): (&str, &str)) -> Result<()> {
    sqlx::query(DROP)
        .bind(caller)
        .bind(key)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("giving an idempotency key back"))?;
    Ok(())
}
