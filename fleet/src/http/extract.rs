//! What handlers take from a request, each refused as a problem where it is wrong.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::caller::{Caller, Proof, unproven};
use super::problem::{Code, Problem};
use crate::store::log;

/// Longest name of a person that is kept.
const ACTOR_CHARS_MAX: usize = 64;
const ACTOR: &str = "x-muster-actor";

/// A JSON body. Named like axum's, so that the API's description is derived from it.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let axum::Json(value) = axum::Json::from_request(request, state).await?;
        Ok(Self(value))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// Query parameters.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let axum::extract::Query(value) = axum::extract::Query::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}

/// The address's one parameter, parsed.
#[derive(Debug)]
pub(crate) struct Id<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for Id<T>
where
    S: Send + Sync,
    T: FromStr,
    T::Err: Display,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text): Path<String> = Path::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Problem::new(Code::BadPath, rejection.body_text()))?;
        text.parse().map(Self).map_err(|error: T::Err| Problem::new(Code::BadPath, error.to_string()))
    }
}

/// The address's two parameters, parsed.
#[derive(Debug)]
pub(crate) struct Ids<A, B>(pub(crate) A, pub(crate) B);

impl<S, A, B> FromRequestParts<S> for Ids<A, B>
where
    S: Send + Sync,
    A: FromStr,
    A::Err: Display,
    B: FromStr,
    B::Err: Display,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path((first, second)): Path<(String, String)> = Path::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Problem::new(Code::BadPath, rejection.body_text()))?;
        let first = first.parse().map_err(|error: A::Err| Problem::new(Code::BadPath, error.to_string()))?;
        let second =
            second.parse().map_err(|error: B::Err| Problem::new(Code::BadPath, error.to_string()))?;
        Ok(Self(first, second))
    }
}

/// Who acts, for the log. In the open mode it is whoever they say they are, and grants nothing.
#[derive(Clone, Debug)]
pub(crate) struct Acting(pub(crate) String, As);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum As {
    Said,
    Person,
    Builder,
}

impl Acting {
    pub(crate) fn for_log(&self) -> log::Actor {
        match self.1 {
            As::Said | As::Person => log::Actor::Person(self.0.clone()),
            As::Builder => log::Actor::Builder(self.0.clone()),
        }
    }

    /// Nobody else could have sent this name.
    pub(crate) fn is_proven(&self) -> bool {
        self.1 != As::Said
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Acting {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        match parts.extensions.get::<Caller>() {
            Some(Caller::Proven(proven)) => {
                return Ok(match &proven.by {
                    Proof::Token { label, scope, .. } if scope.is_builder() => {
                        Self(label.clone(), As::Builder)
                    }
                    Proof::Token { .. } | Proof::Session { .. } => Self(proven.name.to_string(), As::Person),
                });
            }
            Some(Caller::Open) => {}
            Some(Caller::Nobody { .. }) | None => return Err(unproven(false)),
        }
        let Some(value) = parts.headers.get(ACTOR) else { return Ok(Self("operator".to_owned(), As::Said)) };
        match value.to_str().map(str::trim) {
            Ok(name) if !name.is_empty() && name.len() <= ACTOR_CHARS_MAX => {
                Ok(Self(name.to_owned(), As::Said))
            }
            Ok(_) | Err(_) => Err(Problem::new(
                Code::BadHeader,
                "X-Muster-Actor is a name of 1 to 64 printable ASCII characters",
            )),
        }
    }
}

/// The revision that the client saw, if it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IfMatch(pub(crate) Option<u64>);

impl IfMatch {
    /// Refuses if the client saw something else than what is there.
    pub(crate) fn check(self, revision: u64) -> Result<(), Problem> {
        match self.0 {
            Some(seen) if seen != revision => {
                let detail = format!("you saw revision {seen}, and it is at {revision} now");
                Err(Problem::new(Code::Stale, detail).next("look again, then repeat"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn of(headers: &HeaderMap) -> Option<Self> {
        let Some(value) = headers.get(header::IF_MATCH) else { return Some(Self(None)) };
        let text = value.to_str().ok()?.trim();
        if text == "*" {
            return Some(Self(None));
        }
        let text = text.strip_prefix("W/").unwrap_or(text);
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        text.parse().ok().map(|revision| Self(Some(revision)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Self::of(&parts.headers)
            .ok_or_else(|| Problem::new(Code::BadHeader, "If-Match is one revision in quotes, as in ETag"))
    }
}

/// An answer with the revision that a later write must name.
pub(crate) fn with_revision(revision: u64, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn revisions_are_read_as_they_are_written() {
        let check = |text: Option<&'static str>, expect: Option<Option<u64>>| {
            let mut headers = HeaderMap::new();
            if let Some(text) = text {
                headers.insert(header::IF_MATCH, HeaderValue::from_static(text));
            }
            assert_eq!(IfMatch::of(&headers).map(|seen| seen.0), expect, "{text:?}");
        };
        check(None, Some(None));
        check(Some("*"), Some(None));
        check(Some("\"7\""), Some(Some(7)));
        check(Some("W/\"7\""), Some(Some(7)));
        check(Some("7"), Some(Some(7)));
        check(Some("\"7\", \"8\""), None);
        check(Some("abc"), None);
    }

    #[test]
    fn stale_revisions_are_refused() {
        assert!(IfMatch(None).check(3).is_ok());
        assert!(IfMatch(Some(3)).check(3).is_ok());
        assert_eq!(IfMatch(Some(2)).check(3).unwrap_err().code(), Code::Stale);
    }
}
