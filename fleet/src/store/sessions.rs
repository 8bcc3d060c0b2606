//! Sessions of browsers, and the one link that makes the first administrator. Of each secret only the SHA-256 is here.

use muster_protocol::ids::Digest;
use muster_protocol::time::Timestamp;

use super::convert::{parse, time};
use super::{Control, ControlTx, Result, StoreError};
use crate::identity::PersonName;

/// Sessions of one person; a further one ends the oldest.
pub const SESSIONS_MAX: i64 = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: String,
    pub person: PersonName,
    pub made: Timestamp,
    /// When it was used last, within a minute.
    pub seen: Timestamp,
    /// What the browser calls itself.
    pub agent: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    person: String,
    made: i64,
    seen: i64,
    agent: String,
}

impl TryFrom<Row> for Session {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: row.id,
            person: parse("session's person", &row.person)?,
            made: time(row.made),
            seen: time(row.seen),
            agent: row.agent,
        })
    }
}

const ADD: &str =
    "insert into sessions (id, digest, person, made, seen, agent) values ($1, $2, $3, $4, $5, $6)";
const CROWDED: &str = "delete from sessions where person = $1 and id not in \
     (select id from sessions where person = $1 order by made desc, id desc limit $2)";

pub async fn add(tx: &mut ControlTx, session: &Session, digest: &Digest) -> Result<()> {
    sqlx::query(ADD)
        .bind(&session.id)
        .bind(digest.to_string())
        .bind(session.person.as_str())
        .bind(session.made.as_millis())
        .bind(session.seen.as_millis())
        .bind(&session.agent)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("adding a session"))?;
    sqlx::query(CROWDED)
        .bind(session.person.as_str())
        .bind(SESSIONS_MAX)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("ending the oldest sessions"))?;
    Ok(())
}

const BY_DIGEST: &str = "select id, person, made, seen, agent from sessions where digest = $1";

pub async fn by_digest(db: &mut Control, digest: &Digest) -> Result<Option<Session>> {
    sqlx::query_as::<_, Row>(BY_DIGEST)
        .bind(digest.to_string())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a session"))?
        .map(Session::try_from)
        .transpose()
}

const LIST: &str = "select id, person, made, seen, agent from sessions where person = $1 order by made desc, id desc limit $2";

/// The newest first.
pub async fn list(db: &mut Control, person: &PersonName) -> Result<Vec<Session>> {
    sqlx::query_as::<_, Row>(LIST)
        .bind(person.as_str())
        .bind(SESSIONS_MAX)
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing sessions"))?
        .into_iter()
        .map(Session::try_from)
        .collect()
}

const SEEN: &str = "update sessions set seen = $2 where id = $1";

pub async fn seen(tx: &mut ControlTx, id: &str, at: Timestamp) -> Result<()> {
    sqlx::query(SEEN)
        .bind(id)
        .bind(at.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("noting that a session was used"))?;
    Ok(())
}

const END: &str = "delete from sessions where id = $1 and person = $2";

/// Returns whether there was one.
pub async fn end(tx: &mut ControlTx, id: &str, person: &PersonName) -> Result<bool> {
    let done = sqlx::query(END)
        .bind(id)
        .bind(person.as_str())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("ending a session"))?;
    Ok(done.rows_affected() == 1)
}

const END_ALL: &str = "delete from sessions where person = $1";

pub async fn end_all(tx: &mut ControlTx, person: &PersonName) -> Result<()> {
    sqlx::query(END_ALL)
        .bind(person.as_str())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("ending sessions"))?;
    Ok(())
}

const TRIM: &str = "delete from sessions where made < $1";

/// Forgets those that began before `before`.
pub async fn trim(tx: &mut ControlTx, before: Timestamp) -> Result<()> {
    sqlx::query(TRIM)
        .bind(before.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("forgetting old sessions"))?;
    Ok(())
}

const NO_LINKS: &str = "delete from setup_links";
const LINK: &str = "insert into setup_links (digest, expires) values ($1, $2)";

/// Makes this the one link that is good.
pub async fn put_setup_link(tx: &mut ControlTx, digest: &Digest, expires: Timestamp) -> Result<()> {
    sqlx::query(NO_LINKS).execute(tx.sql()).await.map_err(StoreError::query("ending setup links"))?;
    sqlx::query(LINK)
        .bind(digest.to_string())
        .bind(expires.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("writing a setup link"))?;
    Ok(())
}

const SPEND: &str = "delete from setup_links where digest = $1 and expires > $2";

/// Returns whether it was good. It is not any more.
pub async fn spend_setup_link(tx: &mut ControlTx, digest: &Digest, now: Timestamp) -> Result<bool> {
    let done = sqlx::query(SPEND)
        .bind(digest.to_string())
        .bind(now.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("spending a setup link"))?;
    Ok(done.rows_affected() == 1)
}

const IS_LINK: &str = "select 1 from setup_links where digest = $1 and expires > $2";

/// Whether it is good now.
pub async fn is_setup_link(db: &mut Control, digest: &Digest, now: Timestamp) -> Result<bool> {
    let found: Option<(i64,)> = sqlx::query_as(IS_LINK)
        .bind(digest.to_string())
        .bind(now.as_millis())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading the setup link"))?;
    Ok(found.is_some())
}
