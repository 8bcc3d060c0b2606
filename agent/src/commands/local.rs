//! Talks to the agent that runs on this box, through the door that applications use.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{CommandError, block_on};
use crate::disk;
use crate::serve::CONSENT_KEY;

const ANSWER_BYTES_MAX: usize = 256 * 1024;
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error("no agent answers for {}; 'systemctl status muster-agent' says why", .0.display())]
    NotRunning(PathBuf),
    #[error("the agent cannot be reached; 'systemctl status muster-agent' says why")]
    Unreachable(#[source] std::io::Error),
    #[error("the agent did not answer as expected")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{0}")]
    Refused(String),
    #[error(
        "the consent key in {} cannot be read; run this as the agent's user, for instance with 'sudo -u muster'",
        path.display()
    )]
    Key {
        path: PathBuf,
        #[source]
        source: Option<crate::disk::DiskError>,
    },
}

/// The agent of one state folder.
#[derive(Debug)]
pub(super) struct Local {
    state_dir: PathBuf,
    address: SocketAddr,
}

impl Local {
    pub(super) fn find(state_dir: &Path) -> Result<Self, CommandError> {
        let addresses: Option<Value> = disk::read_json(&state_dir.join("addresses.json"))?;
        let url = addresses.as_ref().and_then(|found| found.get("oip")?.as_str()?.strip_prefix("http://"));
        // The agent serves on loopback only; whatever else stands there is not this box's agent.
        let address =
            url.and_then(|text| text.parse().ok()).filter(|address: &SocketAddr| address.ip().is_loopback());
        let address = address.ok_or_else(|| LocalError::NotRunning(state_dir.to_owned()))?;
        Ok(Self { state_dir: state_dir.to_owned(), address })
    }

    pub(super) fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, CommandError> {
        self.send(method, path, body, None)
    }

    /// As somebody who may consent.
    pub(super) fn ask_as_owner(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Value, CommandError> {
        let path_of_key = self.state_dir.join(CONSENT_KEY);
        let unreadable = |source| LocalError::Key { path: path_of_key.clone(), source };
        let key = disk::read(&path_of_key).map_err(|error| unreadable(Some(error)))?;
        let key = key.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| unreadable(None))?;
        self.send(method, path, Some(body), Some(key.trim()))
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<Value, CommandError> {
        let mut request =
            Request::builder().method(method).uri(path).header(header::HOST, self.address.to_string());
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).map_err(broken)?;
        block_on(async {
            match tokio::time::timeout(DEADLINE, self.exchange(request)).await {
                Ok(answer) => Ok(answer?),
                Err(slow) => Err(broken(slow).into()),
            }
        })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Value, LocalError> {
        let tcp = TcpStream::connect(self.address).await.map_err(LocalError::Unreachable)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.map_err(broken)?;
        // Ends with this function.
        let mut carrying = JoinSet::new();
        carrying.spawn(connection);
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(LocalError::Broken)?.to_bytes();
        let value: Value = serde_json::from_slice(&body).map_err(broken)?;
        if status.is_success() {
            return Ok(value);
        }
        let sentence = value["error"].as_str().map_or_else(|| format!("status {status}"), str::to_owned);
        Err(LocalError::Refused(sentence))
    }
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LocalError {
    LocalError::Broken(error.into())
}
