//! Sends figures to an OpenTelemetry collector: OTLP over HTTP, as JSON, every so often.
//!
//! What is sent are totals, so that nothing is lost with a push that failed: the next one says it again. Never keeps a queue.

mod json;

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio_util::sync::CancellationToken;

use crate::config::OtlpConfig;
use crate::figures;
use crate::fleet::Fleet;
use crate::store::StoreError;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Tries of one push; after that the next one says it.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    #[error("the header '{0}' cannot be sent")]
    Header(String),
    #[error("no HTTP client can be made")]
    Client(#[source] reqwest::Error),
    #[error("figures cannot be read")]
    Figures(#[from] StoreError),
    #[error("figures cannot be written down")]
    Encode(#[from] serde_json::Error),
    #[error("the collector cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("the collector refuses figures: {0}")]
    Refused(StatusCode),
}

impl OtlpError {
    /// Trying again at once may help; which answers those are is OTLP's rule.
    fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Header(_) | Self::Client(_) | Self::Figures(_) | Self::Encode(_) => false,
        }
    }
}

/// Owned by the task that pushes.
#[derive(Debug)]
pub struct Push {
    config: OtlpConfig,
    fleet: Arc<Fleet>,
    http: reqwest::Client,
    started: muster_protocol::time::Timestamp,
}

impl Push {
    pub fn new(config: OtlpConfig, fleet: Arc<Fleet>) -> Result<Self, OtlpError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &config.headers {
            let wrong = || OtlpError::Header(name.clone());
            let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?, value);
        }
        // Err means that the process has a provider already, which is what we want.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .build()
            .map_err(OtlpError::Client)?;
        let started = fleet.clocks.trust.now();
        Ok(Self { config, fleet, http, started })
    }

    pub async fn run(self, stop: CancellationToken) {
        let mut due = tokio::time::interval(Duration::from_secs(self.config.every_s));
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = due.tick() => {}
            }
            let pushed = tokio::select! {
                () = stop.cancelled() => return,
                pushed = self.push() => pushed,
            };
            match &pushed {
                Ok(()) if failing => tracing::info!("the collector takes figures again"),
                // Said once, and again when it is over: a collector may be away for days.
                Err(error) if !failing => {
                    tracing::warn!(error = error as &dyn std::error::Error, "figures were not sent");
                }
                Ok(()) | Err(_) => {}
            }
            failing = pushed.is_err();
        }
    }

    async fn push(&self) -> Result<(), OtlpError> {
        let families = figures::collect(&self.fleet).await?;
        let body =
            serde_json::to_vec(&json::request(&families, self.started, self.fleet.clocks.trust.now()))?;
        let body = bytes::Bytes::from(body);
        let mut attempt = 1;
        loop {
            match self.post(body.clone()).await {
                Err(error) if error.is_transient() && attempt < TRIES => {
                    tokio::time::sleep(PAUSE * attempt).await;
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    async fn post(&self, body: bytes::Bytes) -> Result<(), OtlpError> {
        let answer = self.http.post(&self.config.endpoint).body(body).send().await;
        let status = answer.map_err(OtlpError::Unreachable)?.status();
        if status.is_success() { Ok(()) } else { Err(OtlpError::Refused(status)) }
    }
}
