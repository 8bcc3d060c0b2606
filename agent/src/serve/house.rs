//! What the box's own people and applications say about its moment: leases ("not now") and consent ("yes, this one").
//!
//! ```text
//!   GET /muster/v1/leases      PUT, DELETE /muster/v1/leases/{owner}     {"reason": "…", "seconds": 600}
//!   GET /muster/v1/consents    PUT, DELETE /muster/v1/consents/{slot}    {"sha256": "…", "by": "…"}   with the consent key
//! ```
//!
//! Whoever reaches this door may take a lease: the worst that a wrong application can do is to delay a bundle, a day at
//! most each time, and the fleet sees whose lease it is. Consent makes a bundle take over, so it needs the key that the
//! agent writes into its state folder, readable by the agent's user alone: no application that was not given it can say
//! yes for a person.
//!
//! Nothing is decided here. Each word is read, bounded, and carried to the agent's one loop, which answers.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::ids::{Digest, LeaseOwner, SlotName};
use muster_protocol::limits::{CONSENT_BY_BYTES_MAX, LEASE_REASON_BYTES_MAX, LOCAL_LEASE_SECONDS_MAX};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::error::Refusal;

/// Words waiting for the loop.
const QUEUE: usize = 16;
/// The loop answers at once; it is given up if it does not.
const ANSWER: Duration = Duration::from_secs(5);
const BY_DEFAULT: &str = "somebody at the box";

/// One thing that is said or asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    Leases,
    Take { owner: LeaseOwner, reason: String, seconds: u32 },
    Release { owner: LeaseOwner },
    Consents,
    Give { slot: SlotName, sha256: Digest, by: String },
    Withdraw { slot: SlotName, by: String },
}

/// A word on its way to the loop, and where the answer goes.
#[derive(Debug)]
pub struct Said {
    pub word: Word,
    pub answer: oneshot::Sender<Result<Value, NotTaken>>,
}

/// Why the loop does not take a word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    #[error("{0}")]
    Absent(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Unsaved(String),
}

/// Where the door hands words over.
#[derive(Clone, Debug)]
pub struct Desk {
    say: mpsc::Sender<Said>,
    key: Digest,
}

impl Desk {
    /// Whoever knows `key` may consent.
    pub fn new(key: &str) -> (Self, mpsc::Receiver<Said>) {
        let (say, said) = mpsc::channel(QUEUE);
        (Self { say, key: Digest::of(key.as_bytes()) }, said)
    }

    pub(super) async fn ask(&self, word: Word) -> Result<Response, Refusal> {
        let (answer, answered) = oneshot::channel();
        let busy =
            || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is busy; try again in a moment");
        self.say.try_send(Said { word, answer }).map_err(|_| busy())?;
        match tokio::time::timeout(ANSWER, answered).await {
            Ok(Ok(Ok(value))) => Ok(axum::Json(value).into_response()),
            Ok(Ok(Err(refused))) => Err(refused.into()),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }

    /// Compares digests, so that the time it takes tells nothing of the key.
    pub(super) fn admits(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|text| text.strip_prefix("Bearer "));
        if given.is_some_and(|key| Digest::of(key.as_bytes()) == self.key) {
            return Ok(());
        }
        let sentence = "consent needs 'Authorization: Bearer KEY' with the key in consent.key of the agent's state folder; \
                        'muster-agent consent give' reads it there";
        Err(Refusal::new(StatusCode::UNAUTHORIZED, sentence))
    }
}

impl From<NotTaken> for Refusal {
    fn from(refused: NotTaken) -> Self {
        let status = match &refused {
            NotTaken::Absent(_) => StatusCode::NOT_FOUND,
            NotTaken::Conflict(_) => StatusCode::CONFLICT,
            NotTaken::Unsaved(_) => StatusCode::INSUFFICIENT_STORAGE,
        };
        Self::new(status, refused.to_string())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Take {
    reason: String,
    seconds: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Give {
    sha256: Digest,
    #[serde(default = "by_default")]
    by: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Withdraw {
    #[serde(default = "by_default")]
    by: String,
}

pub(super) fn release(owner: &str) -> Result<Word, Refusal> {
    Ok(Word::Release { owner: name(owner)? })
}

pub(super) fn take(owner: &str, body: &[u8]) -> Result<Word, Refusal> {
    let Take { reason, seconds } =
        read(body, "{\"reason\": \"an examination is running\", \"seconds\": 600}")?;
    if seconds == 0 || seconds > LOCAL_LEASE_SECONDS_MAX {
        return Err(Refusal::bad(format!("'seconds' is {seconds}; write 1 to {LOCAL_LEASE_SECONDS_MAX}")));
    }
    Ok(Word::Take { owner: name(owner)?, reason: line("reason", reason, LEASE_REASON_BYTES_MAX)?, seconds })
}

pub(super) fn give(slot: &str, body: &[u8]) -> Result<Word, Refusal> {
    let Give { sha256, by } =
        read(body, "{\"sha256\": \"…\", \"by\": \"the ward\"}; GET /muster/v1/consents has it")?;
    Ok(Word::Give { slot: name(slot)?, sha256, by: line("by", by, CONSENT_BY_BYTES_MAX)? })
}

pub(super) fn withdraw(slot: &str, body: &[u8]) -> Result<Word, Refusal> {
    let Withdraw { by } =
        if body.is_empty() { Withdraw { by: by_default() } } else { read(body, "{\"by\": \"the ward\"}")? };
    Ok(Word::Withdraw { slot: name(slot)?, by: line("by", by, CONSENT_BY_BYTES_MAX)? })
}

fn by_default() -> String {
    BY_DEFAULT.to_owned()
}

fn read<T: DeserializeOwned>(body: &[u8], form: &str) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad(format!("the body is not {form}: {error}")))
}

fn name<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error: T::Err| Refusal::bad(error.to_string()))
}

/// It is shown on terminals, in logs and at the fleet, so it may not steer them.
fn line(what: &str, text: String, bytes_max: usize) -> Result<String, Refusal> {
    if text.trim().is_empty() || text.len() > bytes_max || text.chars().any(char::is_control) {
        return Err(Refusal::bad(format!("'{what}' is not 1 to {bytes_max} bytes of one line of text")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_bounded() {
        let check = |owner: &str, body: &str, fits: bool| {
            let found = take(owner, body.as_bytes());
            assert_eq!(found.is_ok(), fits, "{owner} {body}: {found:?}");
        };
        check("ct-console", r#"{"reason":"x","seconds":1}"#, true);
        check("ct-console", r#"{"reason":"x","seconds":86400}"#, true);
        check("ct-console", r#"{"reason":"x","seconds":86401}"#, false);
        check("ct-console", r#"{"reason":"x","seconds":0}"#, false);
        check("ct-console", r#"{"reason":" ","seconds":1}"#, false);
        check("ct-console", r#"{"reason":"a\u001bb","seconds":1}"#, false);
        check("ct-console", &format!(r#"{{"reason":"{}","seconds":1}}"#, "x".repeat(201)), false);
        check("ct-console", r#"{"reason":"x"}"#, false);
        check("ct-console", r#"{"reason":"x","seconds":1,"for":"ever"}"#, false);
        check("CT console", r#"{"reason":"x","seconds":1}"#, false);
        let digest = Digest::of(b"x");
        assert!(give("m", format!(r#"{{"sha256":"{digest}"}}"#).as_bytes()).is_ok());
        assert!(give("m", b"{}").is_err(), "a yes names what it is for");
        assert!(withdraw("m", b"").is_ok());
        assert!(withdraw("m", format!(r#"{{"by":"{}"}}"#, "x".repeat(65)).as_bytes()).is_err());
    }

    #[test]
    fn consent_needs_the_key() {
        let (desk, _) = Desk::new("secret");
        let check = |value: Option<&str>, admitted: bool| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            }
            assert_eq!(desk.admits(&headers).is_ok(), admitted, "{value:?}");
        };
        check(Some("Bearer secret"), true);
        check(Some("Bearer other"), false);
        check(Some("secret"), false);
        check(None, false);
    }
}
