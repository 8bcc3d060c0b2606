//! Enrolment files: what each allows. The token itself is never here, only its digest.

use muster_protocol::ids::{Digest, EnrolmentId};
use muster_protocol::time::Timestamp;

use super::convert::{column, parse, time};
use super::{Control, ControlTx, NewestFirst, Page, Result, StoreError};
use crate::enrolment::{Approval, Enrolment};

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    site: String,
    count: i64,
    uses_left: i64,
    approval: String,
    made: i64,
    made_by: String,
    expires: i64,
    cancelled: Option<i64>,
}

impl TryFrom<Row> for Enrolment {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let number = |column: i64| u32::try_from(column).unwrap_or(0);
        Ok(Self {
            id: parse("enrolment id", &row.id)?,
            site: parse("enrolment's site", &row.site)?,
            count: number(row.count),
            uses_left: number(row.uses_left),
            approval: approval_of(&row.approval)?,
            made: time(row.made),
            made_by: row.made_by,
            expires: time(row.expires),
            cancelled: row.cancelled.map(time),
        })
    }
}

const ADD: &str = "insert into enrolments (id, token, site, count, uses_left, approval, made, made_by, expires) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

pub async fn add(tx: &mut ControlTx, enrolment: &Enrolment, token: &Digest) -> Result<()> {
    sqlx::query(ADD)
        .bind(enrolment.id.as_str())
        .bind(token.to_string())
        .bind(enrolment.site.as_str())
        .bind(i64::from(enrolment.count))
        .bind(i64::from(enrolment.uses_left))
        .bind(approval_text(enrolment.approval))
        .bind(enrolment.made.as_millis())
        .bind(&enrolment.made_by)
        .bind(enrolment.expires.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing an enrolment"))?;
    Ok(())
}

const GET: &str = "select id, site, count, uses_left, approval, made, made_by, expires, cancelled from enrolments where id = $1";

pub async fn get(db: &mut Control, id: &EnrolmentId) -> Result<Option<Enrolment>> {
    sqlx::query_as::<_, Row>(GET)
        .bind(id.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading an enrolment"))?
        .map(Enrolment::try_from)
        .transpose()
}

const BY_TOKEN: &str = "select id, site, count, uses_left, approval, made, made_by, expires, cancelled from enrolments where token = $1";

/// By the token's digest: how long the search takes says something of the digest, and nothing of the token.
pub async fn by_token(db: &mut Control, token: &Digest) -> Result<Option<Enrolment>> {
    sqlx::query_as::<_, Row>(BY_TOKEN)
        .bind(token.to_string())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("looking up a token"))?
        .map(Enrolment::try_from)
        .transpose()
}

const LIST: &str = "select id, site, count, uses_left, approval, made, made_by, expires, cancelled from enrolments \
     where (made, id) < ($1, $2) order by made desc, id desc limit $3";

/// The newest first.
pub async fn list(db: &mut Control, page: &Page<NewestFirst>) -> Result<Vec<Enrolment>> {
    let (at, id) = page.bound();
    sqlx::query_as::<_, Row>(LIST)
        .bind(at)
        .bind(id)
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing enrolments"))?
        .into_iter()
        .map(Enrolment::try_from)
        .collect()
}

const SPEND: &str = "update enrolments set uses_left = uses_left - 1 where id = $1 and uses_left > 0";

/// Takes one use. Returns whether there was one left.
pub async fn spend(tx: &mut ControlTx, id: &EnrolmentId) -> Result<bool> {
    let done = sqlx::query(SPEND)
        .bind(id.as_str())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("spending a use of a token"))?;
    Ok(done.rows_affected() == 1)
}

const CANCEL: &str = "update enrolments set cancelled = $2 where id = $1 and cancelled is null";

/// Nobody joins with it any more. Returns whether that is new.
pub async fn cancel(tx: &mut ControlTx, id: &EnrolmentId, at: Timestamp) -> Result<bool> {
    let done = sqlx::query(CANCEL)
        .bind(id.as_str())
        .bind(at.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("cancelling an enrolment"))?;
    Ok(done.rows_affected() == 1)
}

const TRIM: &str = "delete from enrolments where id in (select id from enrolments where expires < $1 and \
     not exists (select 1 from identities where identities.enrolment = enrolments.id and state = 'pending') \
     order by expires limit $2)";

/// Forgets those that expired before `before` and for which nobody waits. Returns how many.
pub async fn trim(tx: &mut ControlTx, before: Timestamp, limit: u32) -> Result<u64> {
    let done = sqlx::query(TRIM)
        .bind(before.as_millis())
        .bind(column(limit.into()))
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("forgetting old enrolments"))?;
    Ok(done.rows_affected())
}

fn approval_text(approval: Approval) -> &'static str {
    match approval {
        Approval::Auto => "auto",
        Approval::Manual => "manual",
    }
}

fn approval_of(text: &str) -> Result<Approval> {
    match text {
        "auto" => Ok(Approval::Auto),
        "manual" => Ok(Approval::Manual),
        other => Err(StoreError::corrupt("enrolment's approval", &other)),
    }
}
