//! Every refusal and failure of the API, as RFC 9457 has it: a closed list of codes, each with its status.
//!
//! What went wrong inside is logged under an id and never shown; the answer carries only the id.

use std::error::Error;
use std::fmt::Write as _;

use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::mint::MintError;
use crate::registrar::{RegistrarError, RootLack};
use crate::roster::RosterError;
use crate::store::StoreError;
use crate::tasks::TaskError;

pub(super) const PROBLEM_JSON: &str = "application/problem+json";

pub(crate) type Answer<T> = Result<T, Problem>;

/// Stable: programs may rely on these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ProblemCode)]
pub(crate) enum Code {
    BadPath,
    BadQuery,
    BadHeader,
    BadBody,
    Invalid,
    Unauthenticated,
    Forbidden,
    NotFound,
    NoRoute,
    MethodNotAllowed,
    Stale,
    State,
    RolloutOpen,
    NoRoot,
    FingerprintMismatch,
    TriggerRefused,
    LeaseLost,
    NotCatalogued,
    Revoked,
    EmptyCohort,
    DigestMismatch,
    RuleBroken,
    TrustRefused,
    TooLarge,
    UnsupportedMedia,
    CrossSite,
    WrongHost,
    TooFast,
    KeyReused,
    Signature,
    TimedOut,
    Busy,
    Internal,
}

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Self::BadPath | Self::BadQuery | Self::BadHeader | Self::BadBody => StatusCode::BAD_REQUEST,
            Self::Invalid
            | Self::NotCatalogued
            | Self::Revoked
            | Self::EmptyCohort
            | Self::DigestMismatch
            | Self::KeyReused
            | Self::RuleBroken
            | Self::TrustRefused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unauthenticated | Self::Signature => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::NotFound | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Stale => StatusCode::PRECONDITION_FAILED,
            Self::State
            | Self::RolloutOpen
            | Self::NoRoot
            | Self::FingerprintMismatch
            | Self::TriggerRefused
            | Self::LeaseLost => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMedia => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooFast => StatusCode::TOO_MANY_REQUESTS,
            Self::WrongHost => StatusCode::MISDIRECTED_REQUEST,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::BadPath => "The address is malformed",
            Self::BadQuery => "The query is malformed",
            Self::BadHeader => "A header is malformed",
            Self::BadBody => "The body is malformed",
            Self::Invalid => "The request contradicts itself or a limit",
            Self::Unauthenticated => "Say who you are",
            Self::Forbidden => "You may not do this",
            Self::NotFound => "There is no such thing",
            Self::NoRoute => "There is nothing at this address",
            Self::MethodNotAllowed => "The address does not take this method",
            Self::Stale => "It changed since you looked",
            Self::State => "Its state does not allow this",
            Self::RolloutOpen => "Another rollout of the slot is open",
            Self::NoRoot => "No root is published that a box could use",
            Self::FingerprintMismatch => "The device has another key",
            Self::TriggerRefused => "The retraining was refused",
            Self::LeaseLost => "The run is not leased to this builder",
            Self::NotCatalogued => "The catalogue does not list the bundle",
            Self::Revoked => "The bundle must not run any more",
            Self::EmptyCohort => "No device matches",
            Self::DigestMismatch => "The content is not what its digest says",
            Self::RuleBroken => "The dataset breaks a rule",
            Self::TrustRefused => "The trust file is refused",
            Self::TooLarge => "The body is too long",
            Self::UnsupportedMedia => "The body's type is not taken here",
            Self::CrossSite => "Another site may not act here",
            Self::WrongHost => "The server is not known by this name",
            Self::TooFast => "Too many requests",
            Self::KeyReused => "The idempotency key was used for another request",
            Self::Signature => "The message is not signed as it must be",
            Self::TimedOut => "The answer took too long",
            Self::Busy => "The server is busy",
            Self::Internal => "Something failed inside the server",
        }
    }
}

/// A refusal or failure on its way out.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    next: Option<&'static str>,
    faults: Vec<Fault>,
    retry_after_s: u64,
}

/// One of several faults of a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Fault {
    /// Where in the request, as a JSON pointer, or the fault's own code.
    pub(crate) pointer: String,
    pub(crate) detail: String,
}

/// `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// Reference that names the kind of problem: `/problems/` and the code.
    #[schema(example = "/problems/stale")]
    r#type: String,
    title: &'static str,
    status: u16,
    /// What is wrong, where.
    detail: String,
    code: Code,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<Fault>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), next: None, faults: Vec::new(), retry_after_s: 1 }
    }

    /// Says what to do about it.
    pub(crate) fn next(self, next: &'static str) -> Self {
        Self { next: Some(next), ..self }
    }

    /// When it may work.
    pub(crate) fn after(self, wait: std::time::Duration) -> Self {
        Self { retry_after_s: wait.as_secs().saturating_add(1), ..self }
    }

    pub(crate) fn faults(self, faults: Vec<Fault>) -> Self {
        Self { faults, ..self }
    }

    pub(crate) fn not_found(what: &str, id: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("there is no {what} {id}"))
    }

    pub(crate) fn invalid(pointer: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let fault = Fault { pointer: pointer.to_owned(), detail: detail.clone() };
        Self::new(Code::Invalid, detail).faults(vec![fault])
    }

    /// Logs what happened with its causes, and shows only the id it was logged under.
    pub(crate) fn internal(error: &(dyn Error + 'static)) -> Self {
        let mut random = [0; 4];
        // Without randomness the log still has the entry, by its time.
        getrandom::fill(&mut random).ok();
        let id = hex::encode(random);
        let mut chain = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            write!(chain, ": {source}").ok();
            cause = source.source();
        }
        tracing::error!(problem.id = id, error = chain, "a request failed");
        Self::new(Code::Internal, format!("something failed inside the server; its log has it under {id}"))
            .next("look at the server's log")
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    #[cfg(test)]
    pub(crate) fn code(&self) -> Code {
        self.code
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { code, detail, next, faults, retry_after_s } = self;
        let status = code.status();
        let name = serde_json::to_value(code).ok();
        let name = name.as_ref().and_then(|name| name.as_str()).unwrap_or("internal");
        let body = ProblemBody {
            r#type: format!("/problems/{name}"),
            title: code.title(),
            status: status.as_u16(),
            detail,
            code,
            next,
            errors: faults,
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            tracing::warn!(error = &error as &dyn Error, "the database did not answer in time");
            return Self::new(Code::Busy, "the database did not answer in time").next("repeat in a moment");
        }
        Self::internal(&error)
    }
}

impl From<TaskError> for Problem {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Store(error) | TaskError::Roster(RosterError::Store(error)) => error.into(),
            TaskError::Roster(RosterError::Catalogue(_))
            | TaskError::Reference(_)
            | TaskError::Mint(_)
            | TaskError::Order(_) => Self::internal(&error),
        }
    }
}

impl From<RegistrarError> for Problem {
    fn from(error: RegistrarError) -> Self {
        const ROOT: &str = "name this server's authority and keys in a root and publish it: muster root new, muster \
             root sign, muster release publish";
        match error {
            RegistrarError::Store(error) => error.into(),
            RegistrarError::NotNow(refused) => Self::new(Code::State, refused.to_string()),
            RegistrarError::OtherKey { .. } => Self::new(Code::FingerprintMismatch, error.to_string())
                .next("this is not the box that you compared with; reject it unless you know whose it is"),
            RegistrarError::NoDoubt => Self::new(Code::State, error.to_string()),
            RegistrarError::Root(RootLack::None | RootLack::OtherServer) => {
                Self::new(Code::NoRoot, error.to_string()).next(ROOT)
            }
            RegistrarError::NoDevice | RegistrarError::NoEnrolment => {
                Self::new(Code::NotFound, error.to_string())
            }
            RegistrarError::Refused(_)
            | RegistrarError::Root(RootLack::Damaged)
            | RegistrarError::Pki(_)
            | RegistrarError::Mint(_)
            | RegistrarError::CutOff(_) => Self::internal(&error),
        }
    }
}

impl From<MintError> for Problem {
    fn from(error: MintError) -> Self {
        Self::internal(&error)
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMedia,
            StatusCode::UNPROCESSABLE_ENTITY => Code::Invalid,
            _other => Code::BadBody,
        };
        Self::new(code, rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(Code::BadQuery, rejection.body_text())
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        let too_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
        Self::new(if too_large { Code::TooLarge } else { Code::BadBody }, rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internals_stay_inside() {
        let problem = Problem::internal(&std::io::Error::other("disk /var/secret"));
        assert!(!problem.detail.contains("secret"), "{}", problem.detail);
        let response = problem.into_response();
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn codes_are_words_with_a_status() {
        let check = |code: Code, word: &str, status: u16| {
            assert_eq!(serde_json::to_value(code).unwrap(), word);
            assert_eq!(code.status().as_u16(), status);
        };
        check(Code::Stale, "stale", 412);
        check(Code::RolloutOpen, "rollout_open", 409);
        check(Code::TrustRefused, "trust_refused", 422);
        check(Code::WrongHost, "wrong_host", 421);
    }
}
