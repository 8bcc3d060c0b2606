//! Tokens of trainers elsewhere, by digest, and what they handed back.

use muster_protocol::ids::{Digest, RunId};
use muster_protocol::time::Timestamp;

use super::convert::{column, count, time, to_json};
use super::{Control, ControlTx, Result, StoreError};
use crate::handback::TrainerResult;

const WHAT: &str = "handback";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handback {
    /// SHA-256 of the token.
    pub token: Digest,
    pub attempt: u32,
    /// Real time.
    pub until: Timestamp,
    pub result: Option<TrainerResult>,
}

const OPEN: &str = "insert into handbacks (run, token, attempt, until, result) values ($1, $2, $3, $4, null) \
     on conflict (run) do update set token = excluded.token, attempt = excluded.attempt, until = excluded.until, \
     result = null";

/// A new token for the run; the one before is worth nothing any more, and what came by it is gone.
pub async fn open(
    tx: &mut ControlTx,
    run: &RunId,
    token: &Digest,
    attempt: u32,
    until: Timestamp,
) -> Result<()> {
    sqlx::query(OPEN)
        .bind(run.as_str())
        .bind(&token.as_bytes()[..])
        .bind(i64::from(attempt))
        .bind(until.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("keeping a result token"))?;
    Ok(())
}

const GET: &str = "select token, attempt, until, result from handbacks where run = $1";

pub async fn get(db: &mut Control, run: &RunId) -> Result<Option<Handback>> {
    let row: Option<(Vec<u8>, i64, i64, Option<String>)> = sqlx::query_as(GET)
        .bind(run.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading what was handed back"))?;
    let Some((token, attempt, until, result)) = row else { return Ok(None) };
    let token: [u8; 32] =
        token.try_into().map_err(|_| StoreError::corrupt(WHAT, &"a token's digest has 32 bytes"))?;
    let result = result
        .map(|text| serde_json::from_str(&text).map_err(|error| StoreError::corrupt(WHAT, &error)))
        .transpose()?;
    let attempt = u32::try_from(count(attempt)).unwrap_or(u32::MAX);
    Ok(Some(Handback { token: Digest::from_bytes(token), attempt, until: time(until), result }))
}

const KEEP: &str = "update handbacks set result = $3 where run = $1 and attempt = $2 and result is null";

/// Keeps the result unless there is one.
pub async fn keep(tx: &mut ControlTx, run: &RunId, attempt: u32, result: &TrainerResult) -> Result<bool> {
    let done = sqlx::query(KEEP)
        .bind(run.as_str())
        .bind(column(u64::from(attempt)))
        .bind(to_json(WHAT, result)?)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("keeping what was handed back"))?;
    Ok(done.rows_affected() == 1)
}
