//! Tells an `OpenLineage` server what was made out of what.
//!
//! ```text
//!   a commit ─▶ the log after our place ─▶ events ─▶ POST /api/v1/lineage ─┬▶ taken: the place moves
//!                     ▲                                                    ├▶ refused: counted, logged, the place moves
//!                     └──────── waits, longer each time ◀──────────────────┘ away: nothing moves
//! ```
//! The log is the queue: it is there anyway, in one order, and nobody waits for us. Our place in it is saved after each
//! event, so that a server that was killed says at most its last event twice, under the same run. It begins with what
//! happens after it was first configured; `muster lineage export` has what was before.

use std::path::PathBuf;
use std::sync::Arc;

use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::config::LineageConfig;
use crate::fleet::Fleet;
use crate::follow::{Follower, client, follow};
use crate::store::{StoreError, log, meta};
use crate::tasks::lineage::{News, news};

/// Log entries looked at before our place is saved.
const STEP: u32 = 100;
const TOKEN_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum LineageError {
    #[error("no HTTP client can be made")]
    Client(#[source] reqwest::Error),
    #[error("the token file {} cannot be read", path.display())]
    Token {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the token file {} holds no token", path.display())]
    NoToken { path: PathBuf },
    #[error("lineage cannot be read")]
    Store(#[from] StoreError),
    #[error("the lineage server cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("the lineage server does not take events now: {0}")]
    Busy(StatusCode),
}

/// Owned by the task that tells.
#[derive(Debug)]
pub struct Teller {
    config: LineageConfig,
    endpoint: String,
    fleet: Arc<Fleet>,
    http: reqwest::Client,
}

/// What became of one event.
enum Told {
    Taken,
    Refused(StatusCode),
}

impl Teller {
    /// `None` if nobody is to be told.
    pub fn new(config: &LineageConfig, fleet: Arc<Fleet>) -> Result<Option<Self>, LineageError> {
        let Some(url) = &config.url else { return Ok(None) };
        let http = client().map_err(LineageError::Client)?;
        let endpoint = format!("{}/api/v1/lineage", url.trim_end_matches('/'));
        let teller = Self { config: config.clone(), endpoint, fleet, http };
        // A token that is missing from the first is a mistake to be told of at once.
        teller.token()?;
        Ok(Some(teller))
    }

    pub async fn run(self, stop: CancellationToken) {
        let store = self.fleet.store.clone();
        follow(self, store, stop).await;
    }

    async fn tell(&self, event: &serde_json::Value) -> Result<Told, LineageError> {
        let mut request =
            self.http.post(&self.endpoint).header(CONTENT_TYPE, "application/json").body(event.to_string());
        if let Some(token) = self.token()? {
            request = request.bearer_auth(token.as_str());
        }
        let answer =
            request.send().await.map_err(|source| LineageError::Unreachable(source.without_url()))?;
        match answer.status() {
            status if status.is_success() => Ok(Told::Taken),
            // What may pass with time, a wrong token among it, is waited for; what is wrong with the event never passes.
            status if status.is_server_error() || matches!(status.as_u16(), 401 | 403 | 404 | 408 | 429) => {
                Err(LineageError::Busy(status))
            }
            status => Ok(Told::Refused(status)),
        }
    }

    fn token(&self) -> Result<Option<Zeroizing<String>>, LineageError> {
        let Some(path) = &self.config.token_file else { return Ok(None) };
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|source| LineageError::Token { path: path.clone(), source })?;
        let text = Zeroizing::new(text);
        let token = text.trim();
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return Err(LineageError::NoToken { path: path.clone() });
        }
        Ok(Some(Zeroizing::new(token.to_owned())))
    }

    async fn begin(&self, newest: i64) -> Result<(), LineageError> {
        self.moved(newest, None).await
    }

    /// Saves our place, and counts what was done there.
    async fn moved(&self, place: i64, done: Option<&str>) -> Result<(), LineageError> {
        let mut tx = self.fleet.store.write().await?;
        meta::set(&mut tx, meta::LINEAGE_PLACE, &place.to_string()).await?;
        if let Some(counter) = done {
            let before = number(meta::get(&mut tx, counter).await?).unwrap_or(0);
            meta::set(&mut tx, counter, &before.saturating_add(1).to_string()).await?;
        }
        Ok(tx.commit().await?)
    }
}

impl Follower for Teller {
    type Error = LineageError;

    fn whom(&self) -> String {
        "the lineage server".to_owned()
    }

    async fn catch_up(&self) -> Result<(), LineageError> {
        loop {
            let mut db = self.fleet.store.read().await?;
            let Some(place) = number(meta::get(&mut db, meta::LINEAGE_PLACE).await?) else {
                let newest = log::last(&mut db).await?;
                drop(db);
                return self.begin(newest).await;
            };
            let News { events, seen } = news(&mut db, &self.config.namespace, place, STEP).await?;
            drop(db);
            let Some(seen) = seen else { return Ok(()) };
            for (entry, event) in &events {
                match self.tell(event).await? {
                    Told::Taken => self.moved(*entry, Some(meta::LINEAGE_TOLD)).await?,
                    Told::Refused(status) => {
                        tracing::error!(log.entry = *entry, status = %status, "the lineage server refuses an event; it is left out");
                        self.moved(*entry, Some(meta::LINEAGE_REFUSED)).await?;
                    }
                }
            }
            if events.last().is_none_or(|(last, _)| *last < seen) {
                self.moved(seen, None).await?;
            }
        }
    }
}

fn number(text: Option<String>) -> Option<i64> {
    text.and_then(|text| text.parse().ok())
}
