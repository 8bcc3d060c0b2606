//! Every refusal at the door, as RFC 9457 has it: a closed list of codes that agents rely on, each with what to do next.
//!
//! It says nothing to a stranger that a stranger does not know: the holder of a key learns what became of that key, the
//! holder of a token what became of that token.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::enrol::EnrolError;
use serde::Serialize;

use crate::enrolment::Refusal;
use crate::pki::CsrError;
use crate::registrar::RegistrarError;

/// Stable: agents rely on these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Code {
    TokenMissing,
    TokenUnknown,
    TokenCancelled,
    TokenExpired,
    TokenUsedUp,
    KeyUnknown,
    KeyReplaced,
    KeyTaken,
    Pending,
    Rejected,
    Quarantined,
    Revoked,
    CertificateMissing,
    BadRequest,
    BadCsr,
    TooLarge,
    TooManyRequests,
    TimedOut,
    NoRoute,
    MethodNotAllowed,
    Busy,
    Internal,
}

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Self::TokenMissing | Self::TokenUnknown | Self::CertificateMissing => StatusCode::UNAUTHORIZED,
            Self::TokenCancelled
            | Self::TokenExpired
            | Self::TokenUsedUp
            | Self::KeyUnknown
            | Self::KeyReplaced
            | Self::KeyTaken
            | Self::Pending
            | Self::Rejected
            | Self::Quarantined
            | Self::Revoked => StatusCode::FORBIDDEN,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::BadCsr => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::TokenMissing | Self::TokenUnknown => "The enrolment token is not known here",
            Self::TokenCancelled => "The enrolment file was cancelled",
            Self::TokenExpired => "The enrolment file has expired",
            Self::TokenUsedUp => "The enrolment file is used up",
            Self::KeyUnknown => "The key belongs to no device",
            Self::KeyReplaced => "The device has another key",
            Self::KeyTaken => "The key belongs to another device",
            Self::Pending => "A person must accept the device first",
            Self::Rejected => "The device was rejected",
            Self::Quarantined => "The device is set apart",
            Self::Revoked => "The device was revoked",
            Self::CertificateMissing => "A client certificate is needed",
            Self::BadRequest => "The request cannot be read",
            Self::BadCsr => "The certificate request is refused",
            Self::TooLarge => "The request is too long",
            Self::TooManyRequests => "It was asked too often",
            Self::TimedOut => "The request took too long",
            Self::NoRoute => "There is nothing at this address",
            Self::MethodNotAllowed => "The address does not take this method",
            Self::Busy => "The server is busy",
            Self::Internal => "Something failed inside the server",
        }
    }
}

#[derive(Debug)]
pub(super) struct Problem {
    code: Code,
    detail: String,
    next: Option<&'static str>,
    retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Shape {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    code: Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), next: None, retry_after: None }
    }

    pub(super) fn next(self, next: &'static str) -> Self {
        Self { next: Some(next), ..self }
    }

    pub(super) fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Logs what happened with its causes, and shows nothing of it.
    pub(super) fn internal(error: &(dyn Error + 'static)) -> Self {
        let mut chain = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            write!(chain, ": {source}").ok();
            cause = source.source();
        }
        tracing::error!(error = chain, "a request at the door failed");
        Self::new(Code::Internal, "something failed inside the server; its log says what")
            .next("ask again later; if it stays so, look at the fleet server's log")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { code, detail, next, retry_after } = self;
        let status = code.status();
        let name = serde_json::to_value(code).ok();
        let name = name.as_ref().and_then(|name| name.as_str()).unwrap_or("internal");
        let (r#type, title) = (format!("/problems/{name}"), code.title());
        let body = Shape { r#type, title, status: status.as_u16(), detail, code, next };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        if matches!(code, Code::TokenMissing | Code::TokenUnknown) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        const NEW_FILE: &str = "ask for a new enrolment file: muster enrol new --site SITE";
        const PERSON: &str = "ask who operates the fleet: muster device show, and the log, say why";
        match refusal {
            Refusal::TokenUnknown => Self::new(Code::TokenUnknown, "no enrolment file has this token").next(NEW_FILE),
            Refusal::TokenCancelled => Self::new(Code::TokenCancelled, "a person cancelled this file").next(NEW_FILE),
            Refusal::TokenExpired { at } => {
                Self::new(Code::TokenExpired, format!("this file was good until {at}")).next(NEW_FILE)
            }
            Refusal::TokenUsedUp => Self::new(Code::TokenUsedUp, "other boxes have used this file up").next(
                "if you did not use it yourself, somebody else did: look at muster device pending, reject what you do \
                 not know, and make a new file",
            ),
            Refusal::KeyUnknown => Self::new(Code::KeyUnknown, "no device is registered with this key")
                .next("enrol the box with a new file; if the fleet's database was lost, import its identities"),
            Refusal::KeyReplaced => {
                Self::new(Code::KeyReplaced, "the device has changed its key since; this one is good no longer")
                    .next("use the new key, or enrol the box again with a new file")
            }
            Refusal::KeyTaken => Self::new(Code::KeyTaken, "another device is registered with this key")
                .next("make a fresh key on the box"),
            Refusal::Pending => Self::new(Code::Pending, "nobody has accepted the device yet")
                .next("compare the fingerprint and accept it: muster device accept"),
            Refusal::Rejected => Self::new(Code::Rejected, "a person rejected this key; that is final")
                .next("make a fresh key on the box and enrol it with a new file"),
            Refusal::Quarantined => {
                Self::new(Code::Quarantined, "a person has set the device apart; it gets a certificate once released")
                    .next(PERSON)
            }
            Refusal::Revoked => Self::new(Code::Revoked, "a person revoked the device; that is final").next(PERSON),
        }
    }
}

impl From<RegistrarError> for Problem {
    fn from(error: RegistrarError) -> Self {
        match error {
            RegistrarError::Refused(refusal) => refusal.into(),
            RegistrarError::Store(error) if error.is_transient() => {
                tracing::warn!(error = &error as &dyn Error, "the database did not answer in time");
                Self::new(Code::Busy, "the database did not answer in time")
                    .retry_after(Duration::from_secs(2))
            }
            error @ (RegistrarError::NoDevice
            | RegistrarError::NoEnrolment
            | RegistrarError::NotNow(_)
            | RegistrarError::OtherKey { .. }
            | RegistrarError::NoDoubt
            | RegistrarError::Root(_)
            | RegistrarError::Store(_)
            | RegistrarError::Pki(_)
            | RegistrarError::Mint(_)
            | RegistrarError::CutOff(_)) => Self::internal(&error),
        }
    }
}

impl From<CsrError> for Problem {
    fn from(error: CsrError) -> Self {
        Self::new(Code::BadCsr, error.to_string())
            .next("send a PEM request for a P-256 key, signed with that key")
    }
}

impl From<EnrolError> for Problem {
    fn from(error: EnrolError) -> Self {
        let mut detail = error.to_string();
        if let Some(source) = error.source() {
            write!(detail, ": {source}").ok();
        }
        Self::new(Code::BadRequest, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_word_and_says_what_next() {
        let check = |refusal: Refusal, word: &str, status: u16| {
            let problem = Problem::from(refusal);
            assert_eq!(serde_json::to_value(problem.code).unwrap(), word);
            assert!(problem.next.is_some(), "{word}");
            assert_eq!(problem.into_response().status().as_u16(), status, "{word}");
        };
        check(Refusal::TokenUnknown, "token_unknown", 401);
        check(Refusal::TokenCancelled, "token_cancelled", 403);
        check(
            Refusal::TokenExpired { at: muster_protocol::time::Timestamp::default() },
            "token_expired",
            403,
        );
        check(Refusal::TokenUsedUp, "token_used_up", 403);
        check(Refusal::KeyUnknown, "key_unknown", 403);
        check(Refusal::KeyReplaced, "key_replaced", 403);
        check(Refusal::KeyTaken, "key_taken", 403);
        check(Refusal::Pending, "pending", 403);
        check(Refusal::Rejected, "rejected", 403);
        check(Refusal::Quarantined, "quarantined", 403);
        check(Refusal::Revoked, "revoked", 403);
    }

    #[test]
    fn internals_stay_inside() {
        let problem = Problem::internal(&std::io::Error::other("disk /var/secret"));
        assert!(!problem.detail.contains("secret"), "{}", problem.detail);
    }
}
