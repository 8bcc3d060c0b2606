//! Logins that are on their way to the identity provider and back. Each answer counts once.

use muster_protocol::ids::Digest;
use muster_protocol::time::Timestamp;

use super::{ControlTx, Result, StoreError};

/// Logins on their way at the same time.
const LOGINS_MAX: i64 = 1000;

/// What the provider's answer must hold.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub state: String,
    pub nonce: String,
    /// The half of PKCE that only we know.
    pub verifier: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

const TRIM: &str = "delete from logins where expires <= $1";
const ADD: &str = "insert into logins (digest, state, nonce, verifier, expires) select $1, $2, $3, $4, $5 \
     where (select count(*) from logins) < $6";

/// Under the digest of what the browser keeps. Returns whether there was room.
pub async fn add(
    tx: &mut ControlTx,
    digest: &Digest,
    login: &Login,
    (now, expires): (Timestamp, Timestamp),
) -> Result<bool> {
    const WHAT: &str = "writing a login";
    sqlx::query(TRIM).bind(now.as_millis()).execute(tx.sql()).await.map_err(StoreError::query(WHAT))?;
    let done = sqlx::query(ADD)
        .bind(digest.to_string())
        .bind(&login.state)
        .bind(&login.nonce)
        .bind(&login.verifier)
        .bind(expires.as_millis())
        .bind(LOGINS_MAX)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query(WHAT))?;
    Ok(done.rows_affected() == 1)
}

const TAKE: &str = "delete from logins where digest = $1 and expires > $2 returning state, nonce, verifier";

/// Takes it out: a second answer finds nothing.
pub async fn take(tx: &mut ControlTx, digest: &Digest, now: Timestamp) -> Result<Option<Login>> {
    let found: Option<(String, String, String)> = sqlx::query_as(TAKE)
        .bind(digest.to_string())
        .bind(now.as_millis())
        .fetch_optional(tx.sql())
        .await
        .map_err(StoreError::query("taking a login"))?;
    Ok(found.map(|(state, nonce, verifier)| Login { state, nonce, verifier }))
}
