//! Tokens of people and of their programs. Of the secret only the SHA-256 is here: of 256 random bits that is enough.

use muster_protocol::ids::Digest;
use muster_protocol::time::Timestamp;

use super::convert::{from_json, parse, time, to_json};
use super::{Control, ControlTx, NewestFirst, Page, Result, StoreError};
use crate::identity::{Grant, PersonName, TokenScope};

/// Tokens of one person that are good at the same time.
pub const TOKENS_MAX: i64 = 100;
const BUILDER: &str = "builder";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    pub person: PersonName,
    /// What it is for, for people.
    pub label: String,
    pub scope: TokenScope,
    pub made: Timestamp,
    pub expires: Timestamp,
    /// Within a minute.
    pub used: Option<Timestamp>,
    pub revoked: Option<Timestamp>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    digest: String,
    person: String,
    label: String,
    project: Option<String>,
    role: String,
    models: String,
    made: i64,
    expires: i64,
    used: Option<i64>,
    revoked: Option<i64>,
}

impl Token {
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && now < self.expires
    }
}

impl TryFrom<Row> for Token {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let grant = if row.role == BUILDER {
            Grant::Builder(from_json("token's models", &row.models)?)
        } else {
            Grant::Role(parse("token's role", &row.role)?)
        };
        let project = row.project.map(|project| parse("token's project", &project)).transpose()?;
        Ok(Self {
            id: row.id,
            person: parse("token's person", &row.person)?,
            label: row.label,
            scope: TokenScope { project, grant },
            made: time(row.made),
            expires: time(row.expires),
            used: row.used.map(time),
            revoked: row.revoked.map(time),
        })
    }
}

const ADD: &str = "insert into tokens (id, digest, person, label, project, role, models, made, expires) \
     select $1, $2, $3, $4, $5, $6, $7, $8, $9 \
     where (select count(*) from tokens where person = $3 and revoked is null and expires > $8) < $10";

/// Returns whether there was room for it.
pub async fn add(tx: &mut ControlTx, token: &Token, digest: &Digest) -> Result<bool> {
    let (role, models) = match &token.scope.grant {
        Grant::Role(role) => (role.as_str(), "[]".to_owned()),
        Grant::Builder(models) => (BUILDER, to_json("token's models", models)?),
    };
    let done = sqlx::query(ADD)
        .bind(&token.id)
        .bind(digest.to_string())
        .bind(token.person.as_str())
        .bind(&token.label)
        .bind(token.scope.project.as_ref().map(ToString::to_string))
        .bind(role)
        .bind(models)
        .bind(token.made.as_millis())
        .bind(token.expires.as_millis())
        .bind(TOKENS_MAX)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("adding a token"))?;
    Ok(done.rows_affected() == 1)
}

const GET: &str = "select id, digest, person, label, project, role, models, made, expires, used, revoked from tokens where id = $1";

/// With the digest of its secret.
pub async fn get(db: &mut Control, id: &str) -> Result<Option<(Token, Digest)>> {
    let row = sqlx::query_as::<_, Row>(GET)
        .bind(id)
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a token"))?;
    let Some(row) = row else { return Ok(None) };
    let digest = parse("token's digest", &row.digest)?;
    Ok(Some((row.try_into()?, digest)))
}

const LIST: &str = "select id, digest, person, label, project, role, models, made, expires, used, revoked from tokens \
     where ($1 is null or person = $1) and (made, id) < ($2, $3) order by made desc, id desc limit $4";

/// Of one person or of all, the newest first.
pub async fn list(db: &mut Control, of: Option<&PersonName>, page: &Page<NewestFirst>) -> Result<Vec<Token>> {
    let (at, id) = page.bound();
    sqlx::query_as::<_, Row>(LIST)
        .bind(of.map(PersonName::as_str))
        .bind(at)
        .bind(id)
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing tokens"))?
        .into_iter()
        .map(Token::try_from)
        .collect()
}

const REVOKE: &str = "update tokens set revoked = $2 where id = $1 and revoked is null";

pub async fn revoke(tx: &mut ControlTx, id: &str, at: Timestamp) -> Result<()> {
    sqlx::query(REVOKE)
        .bind(id)
        .bind(at.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("revoking a token"))?;
    Ok(())
}

const USED: &str = "update tokens set used = $2 where id = $1";

pub async fn used(tx: &mut ControlTx, id: &str, at: Timestamp) -> Result<()> {
    sqlx::query(USED)
        .bind(id)
        .bind(at.as_millis())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("noting that a token was used"))?;
    Ok(())
}

const TRIM: &str =
    "delete from tokens where id in (select id from tokens where expires < $1 order by expires limit $2)";

/// Forgets those that expired before `before`.
pub async fn trim(tx: &mut ControlTx, before: Timestamp, limit: u32) -> Result<()> {
    sqlx::query(TRIM)
        .bind(before.as_millis())
        .bind(i64::from(limit))
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("forgetting old tokens"))?;
    Ok(())
}
