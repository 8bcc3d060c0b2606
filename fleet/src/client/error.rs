//! What can go wrong between here and the fleet server, each with what to do next.

use serde::Deserialize;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("'{server}' is not the address of a fleet server: {why}")]
    Address { server: String, why: String },
    #[error("the token holds characters that no header can carry")]
    Token,
    #[error("the HTTP client could not be set up")]
    Setup {
        #[source]
        source: reqwest::Error,
    },
    #[error("no fleet server answers at {server}")]
    Unreachable {
        server: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the fleet server at {server} stopped answering")]
    Silent {
        server: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{0}")]
    Refused(Box<Problem>),
    #[error("the answer to {path} is not the JSON that was expected")]
    Json {
        path: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the answer to {path} has not got {what}")]
    Shape { path: String, what: &'static str },
    #[error("the answer to {path} is longer than {max} bytes")]
    TooLong { path: String, max: usize },
    #[error("the file {path} could not be read")]
    File {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the blob {wanted} came as {found}: it was damaged on the way or in the store; fetch it again")]
    Digest { wanted: String, found: String },
}

impl ClientError {
    /// The same request may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } => true,
            Self::Refused(problem) => matches!(problem.status, 408 | 429 | 500 | 502..=504),
            Self::Address { .. }
            | Self::Token
            | Self::Setup { .. }
            | Self::Json { .. }
            | Self::Shape { .. }
            | Self::TooLong { .. }
            | Self::File { .. }
            | Self::Digest { .. } => false,
        }
    }

    /// Somebody answers there, and TLS does not believe that it is the server.
    pub fn is_untrusted(&self) -> bool {
        if let Self::Unreachable { source, .. } = self { is_untrusted(source) } else { false }
    }

    /// The HTTP status of an answer that refused.
    pub fn status(&self) -> Option<u16> {
        if let Self::Refused(problem) = self { Some(problem.status) } else { None }
    }

    /// Where in the request its first fault is, if the server said so: a JSON pointer.
    pub fn pointer(&self) -> Option<&str> {
        let Self::Refused(problem) = self else { return None };
        problem.errors.first().map(|fault| fault.pointer.as_str()).filter(|place| place.starts_with('/'))
    }

    /// What the person at the terminal can do about it.
    pub fn next(&self) -> Option<String> {
        match self {
            Self::Unreachable { server, .. } => Some(format!(
                "is it running? Start one with `muster-fleet serve`, or name another with --server (now {server})"
            )),
            Self::Silent { .. } => Some("look at the server's log; ask again in a moment".to_owned()),
            Self::Refused(problem) => problem.next(),
            Self::Json { .. } | Self::Shape { .. } => Some(
                "is this a fleet server of the same version? Compare `muster --version` with /healthz"
                    .to_owned(),
            ),
            Self::Address { .. } => Some("write it as http://127.0.0.1:8480".to_owned()),
            Self::Token => Some("copy it again: it begins with mst_".to_owned()),
            Self::Setup { .. } | Self::TooLong { .. } | Self::File { .. } | Self::Digest { .. } => None,
        }
    }
}

/// Looks into input/output errors as well: what one holds is not among its causes, and each layer wraps it once more.
fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    if matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
        return true;
    }
    let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    held.is_some_and(|held| is_untrusted(held)) || error.source().is_some_and(is_untrusted)
}

/// A refusal of the server, as RFC 9457 has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    /// Stable, for programs.
    pub code: String,
    /// What the server suggests.
    pub next: Option<String>,
    pub errors: Vec<Fault>,
}

/// One of several faults of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Fault {
    pub pointer: String,
    pub detail: String,
}

impl Problem {
    pub(super) fn of(status: u16, is_problem: bool, body: &[u8]) -> Self {
        let parsed: Option<Self> = is_problem.then(|| serde_json::from_slice(body).ok()).flatten();
        let mut problem = parsed.unwrap_or_default();
        problem.status = status;
        if problem.detail.is_empty() && problem.title.is_empty() {
            let start: String = String::from_utf8_lossy(body).chars().take(200).collect();
            problem.detail = match start.trim() {
                "" => "the answer says nothing more".to_owned(),
                text => format!("the answer begins: {text}"),
            };
        }
        problem
    }

    fn next(&self) -> Option<String> {
        let next = match self.status {
            _ if self.next.is_some() => return self.next.clone(),
            401 => "say who you are: muster login NAME, or MUSTER_TOKEN",
            404 => "look at the list first, for example `muster rollout list` or `muster device list`",
            409 => "somebody was faster or the state has changed: look again, then repeat",
            412 => "it changed since you looked: show it again, then repeat",
            400 | 422 => "correct what is named above and repeat",
            429 | 503 => "wait a moment and repeat",
            500 | 502 | 504 => "look at the fleet server's log for the same moment",
            _ => return None,
        };
        Some(next.to_owned())
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = if self.detail.is_empty() { &self.title } else { &self.detail };
        write!(f, "the fleet server refused ({}): {text}", self.status)?;
        for fault in self.errors.iter().filter(|fault| fault.detail != self.detail) {
            write!(f, "\n  - ")?;
            if !fault.pointer.is_empty() {
                write!(f, "{}: ", fault.pointer)?;
            }
            f.write_str(&fault.detail)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_become_a_sentence() {
        let check = |status, is_problem, body: &str, expect: &str| {
            assert_eq!(Problem::of(status, is_problem, body.as_bytes()).to_string(), expect);
        };
        check(
            404,
            true,
            r#"{"detail":"no rollout ro-x"}"#,
            "the fleet server refused (404): no rollout ro-x",
        );
        check(409, true, r#"{"title":"Conflict"}"#, "the fleet server refused (409): Conflict");
        check(502, false, "<html>", "the fleet server refused (502): the answer begins: <html>");
        check(500, true, "", "the fleet server refused (500): the answer says nothing more");
        check(
            422,
            true,
            r#"{"detail":"2 faults","errors":[{"pointer":"/stages/0","detail":"empty"},{"detail":"late"}]}"#,
            "the fleet server refused (422): 2 faults\n  - /stages/0: empty\n  - late",
        );
    }

    #[test]
    fn only_what_may_pass_by_itself_is_transient() {
        let refused = |status| ClientError::Refused(Box::new(Problem::of(status, false, b"")));
        for (status, expect) in
            [(503, true), (500, true), (429, true), (404, false), (409, false), (422, false)]
        {
            assert_eq!(refused(status).is_transient(), expect, "{status}");
        }
    }
}
