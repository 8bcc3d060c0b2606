//! Who asks: proven by a token or a session, or nobody. In the open mode whoever reaches this machine is the operator.
//!
//! ```text
//!   Authorization: Bearer mst_<id>_<secret> ─┐
//!   Cookie: __Host-muster=<secret>  ─────────┴▶ SHA-256 ─▶ the store ─▶ the person ─▶ what they may now
//! ```
//! What somebody may is read with every request: a role that is taken away is gone at once.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use muster_protocol::ids::Digest;
use muster_protocol::time::Timestamp;

use super::App;
use super::problem::{Answer, Code, Problem};
use crate::identity::{self, Grants, PersonName, TokenScope};
use crate::store::{Control, people, sessions, tokens};

/// What a token begins with, so that people and scanners know it when they see one.
pub(crate) const TOKEN_PREFIX: &str = "mst_";
/// How exactly it is known when a token or a session was used last. Most requests then write nothing.
const USED_WITHIN_MS: i64 = 60_000;

/// Whoever asks.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Nobody is asked who they are.
    Open,
    Nobody {
        /// They showed something, and it is not good.
        showed: bool,
    },
    Proven(Arc<Proven>),
}

/// Somebody who showed who they are.
#[derive(Debug)]
pub(crate) struct Proven {
    pub(crate) name: PersonName,
    pub(crate) display: String,
    pub(crate) grants: Grants,
    pub(crate) by: Proof,
    /// When the proof is good no more.
    pub(crate) until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    Session { id: String },
    Token { id: String, label: String, scope: TokenScope },
}

impl Caller {
    /// Somebody, or the refusal.
    pub(crate) fn proven(&self) -> Answer<&Proven> {
        match self {
            Self::Proven(proven) => Ok(proven),
            Self::Open => {
                Err(Problem::new(Code::State, "nobody has an account here: the server runs in the open mode")
                    .next("set [identity] mode = \"required\" and start the server again"))
            }
            Self::Nobody { showed } => Err(unproven(*showed)),
        }
    }

    /// One word for whoever it is, by which requests are counted.
    pub(crate) fn key(&self) -> Option<String> {
        match self {
            Self::Open | Self::Nobody { .. } => None,
            Self::Proven(proven) => Some(match &proven.by {
                Proof::Session { .. } => format!("person:{}", proven.name),
                Proof::Token { id, .. } => format!("token:{id}"),
            }),
        }
    }
}

/// One answer to all who cannot prove who they are: which part of a proof is wrong is nobody's business.
pub(crate) fn unproven(showed: bool) -> Problem {
    let detail = if showed {
        "the token or session is unknown, has ended or was revoked"
    } else {
        "say who you are: by a session or by a token"
    };
    Problem::new(Code::Unauthenticated, detail)
        .next("log in, or send a token: muster context add, or MUSTER_TOKEN")
}

pub(super) async fn identify(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let caller = if app.fleet.config.identity.is_open() {
        Caller::Open
    } else {
        match prove(&app, request.headers()).await {
            Ok(caller) => caller,
            Err(problem) => return problem.into_response(),
        }
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        // A route outside of the layers would be one that nobody guards.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| unproven(false))
    }
}

async fn prove(app: &App, headers: &HeaderMap) -> Answer<Caller> {
    let now = app.fleet.clocks.trust.now();
    let found = match (bearer(headers), cookie(headers, &app.cookies().session)) {
        // A header is sent on purpose, a cookie by itself.
        (Some(token), _) => by_token(app, token, now).await?,
        (None, Some(session)) => by_session(app, session, now).await?,
        (None, None) => return Ok(Caller::Nobody { showed: false }),
    };
    Ok(found.map_or(Caller::Nobody { showed: true }, |proven| Caller::Proven(Arc::new(proven))))
}

async fn by_token(app: &App, text: &str, now: Timestamp) -> Answer<Option<Proven>> {
    let parts = text.strip_prefix(TOKEN_PREFIX).and_then(|rest| rest.split_once('_'));
    let Some((id, secret)) = parts.filter(|(id, secret)| id.len() <= 64 && secret.len() <= 128) else {
        return Ok(None);
    };
    let mut db = app.fleet.store.read().await?;
    let Some((token, digest)) = tokens::get(&mut db, id).await? else { return Ok(None) };
    let shown = Digest::of(secret.as_bytes());
    let same = aws_lc_rs::constant_time::verify_slices_are_equal(shown.as_bytes(), digest.as_bytes());
    if same.is_err() || !token.is_good(now) {
        return Ok(None);
    }
    let Some((display, memberships)) = member(&mut db, &token.person).await? else { return Ok(None) };
    drop(db);
    if token.used.is_none_or(|used| (now.as_millis() - used.as_millis()).abs() >= USED_WITHIN_MS) {
        let mut tx = app.fleet.store.write().await?;
        tokens::used(&mut tx, &token.id, now).await?;
        tx.commit().await?;
    }
    Ok(Some(Proven {
        name: token.person,
        display,
        grants: Grants::of_token(&memberships, &token.scope),
        by: Proof::Token { id: token.id, label: token.label, scope: token.scope },
        until: token.expires,
    }))
}

async fn by_session(app: &App, secret: &str, now: Timestamp) -> Answer<Option<Proven>> {
    let mut db = app.fleet.store.read().await?;
    let digest = Digest::of(secret.as_bytes());
    let Some(session) = sessions::by_digest(&mut db, &digest).await? else { return Ok(None) };
    if !identity::session_lives(session.made, session.seen, now) {
        return Ok(None);
    }
    let Some((display, memberships)) = member(&mut db, &session.person).await? else { return Ok(None) };
    drop(db);
    if (now.as_millis() - session.seen.as_millis()).abs() >= USED_WITHIN_MS {
        let mut tx = app.fleet.store.write().await?;
        sessions::seen(&mut tx, &session.id, now).await?;
        tx.commit().await?;
    }
    Ok(Some(Proven {
        name: session.person,
        display,
        grants: Grants::of_person(&memberships),
        by: Proof::Session { id: session.id },
        until: identity::session_ends(session.made, now),
    }))
}

type Memberships = std::collections::BTreeMap<identity::ProjectName, identity::Role>;

async fn member(db: &mut Control, name: &PersonName) -> Answer<Option<(String, Memberships)>> {
    match people::get(db, name).await? {
        Some(person) if !person.disabled => Ok(Some((person.display, people::memberships(db, name).await?))),
        Some(_) | None => Ok(None),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A cookie's value.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    all.flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(found, value)| (found == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("xmuster=1; muster=2"));
        headers.append(header::COOKIE, HeaderValue::from_static("other=a=b"));
        assert_eq!(cookie(&headers, "muster"), Some("2"));
        assert_eq!(cookie(&headers, "other"), Some("a=b"));
        assert_eq!(cookie(&headers, "uster"), None);
    }

    #[test]
    fn tokens_come_in_one_way() {
        let check = |value: &'static str, expect: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            assert_eq!(bearer(&headers), expect, "{value}");
        };
        check("Bearer mst_1_2", Some("mst_1_2"));
        check("bearer mst_1_2", Some("mst_1_2"));
        check("Basic mst_1_2", None);
        check("mst_1_2", None);
    }
}
