//! Asking a tool that somebody else runs: bounded answers, one sentence for every failure, secrets from files.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Certificate, Method, RequestBuilder, StatusCode, Url};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::builder::feed::clean;
use crate::builder::job::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer that is read; artifacts are streamed.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
const SECRET_BYTES_MAX: u64 = 16 * 1024;

/// Why a tool did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Waiting may help.
    pub is_transient: bool,
    pub sentence: String,
}

impl Fault {
    pub fn lasting(sentence: impl Into<String>) -> Self {
        Self { is_transient: false, sentence: sentence.into() }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let code = if fault.is_transient { "tool_unreachable" } else { "tool_refused" };
        Self::new(code, fault.sentence)
    }
}

/// An answer of any status.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    /// The JSON of a success; what the tool said otherwise.
    pub fn json(&self, what: &str) -> Result<Value, Fault> {
        if !self.status.is_success() {
            return Err(self.fault(what));
        }
        serde_json::from_slice(&self.body)
            .map_err(|_| Fault::lasting(format!("{what}: the answer is no JSON")))
    }

    pub fn fault(&self, what: &str) -> Fault {
        let said = clean(String::from_utf8_lossy(&self.body).trim(), 200);
        let is_transient = matches!(self.status.as_u16(), 408 | 429 | 500 | 502..=504);
        Fault { is_transient, sentence: format!("{what}: {} {said}", self.status.as_u16()) }
    }
}

/// One tool's address.
#[derive(Debug)]
pub struct Tool {
    http: reqwest::Client,
    base: Url,
}

impl Tool {
    pub fn new(url: &str, ca: Option<&Path>) -> Result<Self, Fault> {
        let base = address(url).map_err(Fault::lasting)?;
        // Err means that the process has a provider already, which is what we want.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(ANSWER_TIMEOUT)
            // A redirect would carry the secret to wherever it points.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")));
        if let Some(ca) = ca {
            let wrong = |error: &dyn std::fmt::Display| Fault::lasting(format!("{}: {error}", ca.display()));
            let pem = std::fs::read(ca).map_err(|error| wrong(&error))?;
            builder =
                builder.add_root_certificate(Certificate::from_pem(&pem).map_err(|error| wrong(&error))?);
        }
        let http = builder.build().map_err(|error| Fault::lasting(error.to_string()))?;
        Ok(Self { http, base })
    }

    /// A request below the tool's address. Segments are quoted; none of them can leave its place.
    pub fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        self.http.request(method, url)
    }

    /// A request to a path that the tool itself named; its host stays ours.
    pub fn request_path(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(path);
        self.http.request(method, url)
    }

    pub fn has_path(&self, path: &str) -> bool {
        path.starts_with(self.base.path())
    }

    pub async fn send(&self, request: RequestBuilder) -> Result<Reply, Fault> {
        let mut response =
            request.timeout(ANSWER_TIMEOUT).send().await.map_err(|error| self.network(error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.network(error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Fault::lasting(format!("an answer is longer than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, headers, body })
    }

    /// Streams an answer into a new file of at most `max` bytes; how many it were.
    pub async fn download(&self, request: RequestBuilder, file: &Path, max: u64) -> Result<u64, Fault> {
        use tokio::io::AsyncWriteExt as _;
        let disk = |error: std::io::Error| Fault::lasting(format!("{}: {error}", file.display()));
        let mut response = request.send().await.map_err(|error| self.network(error))?;
        if !response.status().is_success() {
            let reply = Reply { status: response.status(), headers: HeaderMap::new(), body: Vec::new() };
            return Err(reply.fault("an artifact was not handed out"));
        }
        let mut out = tokio::fs::File::create_new(file).await.map_err(disk)?;
        let mut length = 0_u64;
        while let Some(chunk) = response.chunk().await.map_err(|error| self.network(error))? {
            length += chunk.len() as u64;
            if length > max {
                return Err(Fault::lasting(format!("the artifacts have more than {max} bytes")));
            }
            out.write_all(&chunk).await.map_err(disk)?;
        }
        out.flush().await.map_err(disk)?;
        Ok(length)
    }

    fn network(&self, error: reqwest::Error) -> Fault {
        let mut sentence =
            format!("no answer from {}: {}", self.base.host_str().unwrap_or(""), error.without_url());
        sentence.truncate(sentence.floor_char_boundary(300));
        Fault { is_transient: true, sentence }
    }
}

/// An address that secrets may be sent to: encrypted, or this machine.
pub fn address(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("url: '{text}': {error}"))?;
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let is_here = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_here => Ok(url),
        "http" => Err(format!("url: '{text}' is not encrypted; use https, or http on this machine only")),
        _ => Err(format!("url: '{text}' is no https:// address")),
    }
}

/// A secret's file: one line, readable by its owner only.
pub fn secret(path: &Path) -> Result<Zeroizing<String>, Fault> {
    let wrong = |what: &dyn std::fmt::Display| Fault::lasting(format!("{}: {what}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
    // Of the file that is open, not of whatever has its name by now.
    let mode = file.metadata().map_err(|error| wrong(&error))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(wrong(&"others may read it; chmod 600"));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(SECRET_BYTES_MAX).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    let line = Zeroizing::new(text.trim().to_owned());
    if line.is_empty() { Err(wrong(&"is empty")) } else { Ok(line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_to_encrypted_addresses_or_to_this_machine() {
        for good in
            ["https://ci.example/jenkins", "http://127.0.0.1:8265", "http://localhost:1", "http://[::1]:1/"]
        {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in ["http://ci.example", "http://127.0.0.1.example", "ftp://x", "", "x"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn segments_cannot_leave_their_place() {
        let tool = Tool::new("http://127.0.0.1:1/base/", None).unwrap();
        let url = |segments: &[&str]| tool.request(Method::GET, segments).build().unwrap().url().to_string();
        assert_eq!(url(&["job", "a b"]), "http://127.0.0.1:1/base/job/a%20b");
        assert_eq!(url(&["job", "x/../../y?z#"]), "http://127.0.0.1:1/base/job/x%2F..%2F..%2Fy%3Fz%23");
    }

    #[test]
    fn secrets_that_others_can_read_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, " s3cret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(secret(&path).unwrap_err().sentence.contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(secret(&path).unwrap().as_str(), "s3cret");
    }
}
