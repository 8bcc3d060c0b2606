//! The fleet's door for devices, from outside: enrol, renew, rekey. One request a connection, because a box knocks a few
//! times a year.
//!
//! Every step has a deadline and every answer a bound. What the fleet refuses comes back with its code and its sentence,
//! cut and cleaned, because it is shown to people.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use muster_protocol::enrol::{
    CertificateRequest, ENROL_PATH, EnrolRequest, Enrolled, EnrolmentToken, REKEY_PATH, RENEW_PATH, VERSION,
};
use muster_protocol::limits::{CERTIFICATE_BYTES_MAX, SENTENCE_BYTES_MAX};
use rustls::ClientConfig;
use rustls::pki_types::InvalidDnsNameError;
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::address::Address;
use crate::knock::{KnockError, Knocked, knock};

/// From the look-up of the name to the last byte.
const DEADLINE: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 2 * CERTIFICATE_BYTES_MAX;
const CODE_BYTES_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    #[error(
        "the fleet server {address} cannot be reached: is it running, and does the network let this box through?"
    )]
    Unreachable {
        address: Address,
        #[source]
        source: io::Error,
    },
    #[error("the fleet server {address} is not trusted: {why}")]
    Untrusted {
        address: Address,
        why: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the fleet server {address} did not answer within {} s", DEADLINE.as_secs())]
    Slow { address: Address },
    #[error("the connection to the fleet server {address} broke")]
    Broken {
        address: Address,
        #[source]
        source: hyper::Error,
    },
    #[error("'{}' is no name a certificate can be for", address.host())]
    Name {
        address: Address,
        #[source]
        source: InvalidDnsNameError,
    },
    #[error("the request cannot be written")]
    Request(#[source] hyper::http::Error),
    #[error(
        "the answer of the fleet server {address} cannot be understood; is it a muster-fleet of this version?"
    )]
    Answer {
        address: Address,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the fleet refused: {0}")]
    Refused(Refused),
}

/// What a fleet says when it says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence} ({code})")]
pub struct Refused {
    pub status: u16,
    pub code: String,
    pub sentence: String,
}

impl DoorError {
    /// The same request may succeed later, without anybody's doing on this box.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Slow { .. } | Self::Broken { .. } => true,
            Self::Refused(refused) => refused.status == 429 || refused.status >= 500,
            Self::Untrusted { .. } | Self::Name { .. } | Self::Request(_) | Self::Answer { .. } => false,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Door {
    address: Address,
    tls: Arc<ClientConfig>,
}

impl Door {
    pub fn new(address: Address, tls: Arc<ClientConfig>) -> Self {
        Self { address, tls }
    }

    pub async fn enrol(&self, token: &EnrolmentToken, request: &EnrolRequest) -> Result<Enrolled, DoorError> {
        self.post(ENROL_PATH, Some(token), serde_json::to_vec(request)).await
    }

    /// A fresh certificate for the key that the fleet knows. Nothing needs to be shown: it is worthless without the key.
    pub async fn renew(&self, csr: String) -> Result<Enrolled, DoorError> {
        self.post(RENEW_PATH, None, serde_json::to_vec(&CertificateRequest { v: VERSION, csr })).await
    }

    /// A certificate for a new key. The TLS configuration must show the old one.
    pub async fn rekey(&self, csr: String) -> Result<Enrolled, DoorError> {
        self.post(REKEY_PATH, None, serde_json::to_vec(&CertificateRequest { v: VERSION, csr })).await
    }

    async fn post(
        &self,
        path: &str,
        token: Option<&EnrolmentToken>,
        body: Result<Vec<u8>, serde_json::Error>,
    ) -> Result<Enrolled, DoorError> {
        let body = body.map_err(|source| self.answer(source))?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, application/problem+json")
            .header(header::USER_AGENT, concat!("muster-agent/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.secret()));
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(DoorError::Request)?;
        match tokio::time::timeout(DEADLINE, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => Err(DoorError::Slow { address: self.address.clone() }),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Enrolled, DoorError> {
        let address = &self.address;
        let broken = |source| DoorError::Broken { address: address.clone(), source };
        let knocked = knock(address, Arc::clone(&self.tls), DEADLINE).await;
        let Knocked(stream) = knocked.map_err(|error| self.outside(error))?;
        let (mut sender, connection) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with this function: one that hangs is aborted.
        let mut carrying = JoinSet::new();
        carrying.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = crate::chain(&error), "the connection to the door ended");
            }
        });
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|source| {
                match source.downcast::<hyper::Error>() {
                    Ok(source) => broken(*source),
                    Err(source) => self.answer(source),
                }
            })?;
        let body = body.to_bytes();
        match status {
            StatusCode::OK | StatusCode::ACCEPTED => Enrolled::from_json(&body).map_err(|e| self.answer(e)),
            _ => Err(DoorError::Refused(refused(status.as_u16(), &body))),
        }
    }

    fn outside(&self, error: KnockError) -> DoorError {
        let address = self.address.clone();
        match error {
            KnockError::Name { source, .. } => DoorError::Name { address, source },
            KnockError::Unreachable(source) => DoorError::Unreachable { address, source },
            KnockError::Untrusted { why, source } => DoorError::Untrusted { address, why, source },
            KnockError::Slow => DoorError::Slow { address },
        }
    }

    fn answer(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DoorError {
        DoorError::Answer { address: self.address.clone(), source: source.into() }
    }
}

/// RFC 9457, or whatever came instead of it.
fn refused(status: u16, body: &[u8]) -> Refused {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Problem {
        code: String,
        title: String,
        detail: String,
        /// What to do, in this fleet's words.
        next: Option<String>,
    }
    let Problem { code, title, detail, next } = serde_json::from_slice(body).unwrap_or_default();
    let mut sentence = if detail.is_empty() { title } else { detail };
    if let Some(next) = next {
        sentence = format!("{sentence}; {next}");
    }
    let sentence = clean(&sentence, SENTENCE_BYTES_MAX);
    let code = clean(&code, CODE_BYTES_MAX);
    Refused {
        status,
        code: if code.is_empty() { format!("http_{status}") } else { code },
        sentence: if sentence.is_empty() { format!("status {status}") } else { sentence },
    }
}

/// It goes to a terminal and a log, so it may not steer them.
fn clean(text: &str, bytes_max: usize) -> String {
    let mut cleaned = String::new();
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        if cleaned.len() + letter.len_utf8() > bytes_max {
            break;
        }
        cleaned.push(letter);
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_cut_and_cleaned() {
        let check = |status, body: &str, code: &str, sentence: &str| {
            let found = refused(status, body.as_bytes());
            assert_eq!((found.code.as_str(), found.sentence.as_str()), (code, sentence));
        };
        check(403, r#"{"code":"token_used","title":"T","detail":"used up"}"#, "token_used", "used up");
        check(403, r#"{"code":"token_used","title":"T"}"#, "token_used", "T");
        check(403, r#"{"code":"c","detail":"no","next":"do this"}"#, "c", "no; do this");
        check(502, "<html>bad gateway</html>", "http_502", "status 502");
        check(403, "{\"code\":\"\\u001b[2Jx\",\"detail\":\"a\\u0007b\"}", "[2Jx", "ab");
        let long = format!(r#"{{"detail":"{}"}}"#, "ü".repeat(2_000));
        assert!(refused(400, long.as_bytes()).sentence.len() <= SENTENCE_BYTES_MAX);
    }
}
