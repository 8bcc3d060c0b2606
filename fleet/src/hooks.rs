//! Tells webhooks what happens, signed, in order.
//!
//! ```text
//!   a commit ─▶ the log after our place ─▶ POST ─┬▶ taken: the place moves
//!                     ▲                          ├▶ refused, or in vain for a day: put aside for people, the place moves
//!                     └──── waits, longer each ◀─┘ away: nothing moves
//! ```
//! Each hook has a place of its own, so that one which is away holds up no other. A server that was killed says at most its
//! last event twice, under the same id. It begins with what happens after the hook was first configured.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::config::WebhookConfig;
use crate::fleet::Fleet;
use crate::follow::{Follower, client, follow};
use crate::store::log::LogEntry;
use crate::store::{Page, StoreError, log, meta, undelivered};
use crate::webhook::{self, SecretError};

/// How long an event is tried, by its age.
const TRIED: Duration = Duration::from_hours(24);
/// Log entries looked at before our place is saved.
const STEP: u32 = 100;

#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("no HTTP client can be made")]
    Client(#[source] reqwest::Error),
    #[error("the secret file {} cannot be read", path.display())]
    Secret {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the secret in {} is none", path.display())]
    NoSecret {
        path: PathBuf,
        #[source]
        source: SecretError,
    },
    #[error("the log cannot be read")]
    Store(#[from] StoreError),
    #[error("it cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("it does not take events now: {0}")]
    Busy(StatusCode),
    #[error("it refuses the event: {0}")]
    Refused(StatusCode),
}

/// What is sent: Standard Webhooks' form.
#[derive(Debug, Serialize)]
struct Event<'a> {
    r#type: &'a str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Debug, Serialize)]
struct Data<'a> {
    entry: i64,
    subject: &'a str,
    sentence: &'a str,
    actor: String,
    world_at: String,
}

/// Owned by the task that tells one hook.
#[derive(Debug)]
pub struct Sender {
    hook: WebhookConfig,
    fleet: Arc<Fleet>,
    http: reqwest::Client,
}

impl Sender {
    pub fn new(hook: WebhookConfig, fleet: Arc<Fleet>) -> Result<Self, WebhookError> {
        let http = client().map_err(WebhookError::Client)?;
        let sender = Self { hook, fleet, http };
        // A secret that is missing from the first is a mistake to be told of at once.
        sender.key()?;
        Ok(sender)
    }

    pub async fn run(self, stop: CancellationToken) {
        let store = self.fleet.store.clone();
        follow(self, store, stop).await;
    }

    /// Sends what people want sent again.
    async fn again(&self) -> Result<(), WebhookError> {
        let name = &self.hook.name;
        let mut db = self.fleet.store.read().await?;
        let wanted = undelivered::list(&mut db, name, true, &Page::first(STEP)).await?;
        drop(db);
        for aside in wanted {
            let sent = self.send(&aside.entry).await;
            let mut tx = self.fleet.store.write().await?;
            match sent {
                Ok(()) => undelivered::remove(&mut tx, name, aside.entry.id).await?,
                Err(error) => {
                    let now = self.fleet.clocks.moment().at;
                    undelivered::add(&mut tx, name, aside.entry.id, now, &error.to_string()).await?;
                }
            }
            tx.commit().await?;
        }
        Ok(())
    }

    /// Sends it, or puts it aside if it will never be taken.
    async fn deliver(&self, entry: &LogEntry) -> Result<(), WebhookError> {
        let Err(error) = self.send(entry).await else { return self.moved(entry.id).await };
        let now = self.fleet.clocks.moment().at;
        if !matches!(error, WebhookError::Refused(_)) && entry.when.at.plus(TRIED) > now {
            return Err(error);
        }
        let name = &self.hook.name;
        tracing::error!(hook = name, log.entry = entry.id, error = %error, "an event was put aside");
        let mut tx = self.fleet.store.write().await?;
        undelivered::add(&mut tx, name, entry.id, now, &error.to_string()).await?;
        meta::set(&mut tx, &meta::webhook_place(name), &entry.id.to_string()).await?;
        Ok(tx.commit().await?)
    }

    async fn send(&self, entry: &LogEntry) -> Result<(), WebhookError> {
        let event = Event {
            r#type: &entry.kind,
            timestamp: entry.when.at.to_string(),
            data: Data {
                entry: entry.id,
                subject: &entry.subject,
                sentence: &entry.sentence,
                actor: entry.actor.to_string(),
                world_at: entry.when.world_at.to_string(),
            },
        };
        let body = serde_json::to_vec(&event).unwrap_or_default();
        let id = format!("log-{}", entry.id);
        let seconds = self.fleet.clocks.moment().at.as_millis() / 1000;
        let signature = webhook::sign(&self.key()?, &id, seconds, &body);
        let request = self
            .http
            .post(&self.hook.url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature)
            .body(body);
        let answer =
            request.send().await.map_err(|source| WebhookError::Unreachable(source.without_url()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            // What may pass with time, a wrong secret among it, is waited for; what is wrong with the event never passes.
            status
                if status.is_server_error()
                    || matches!(status.as_u16(), 401 | 403 | 404 | 408 | 425 | 429) =>
            {
                Err(WebhookError::Busy(status))
            }
            status => Err(WebhookError::Refused(status)),
        }
    }

    fn key(&self) -> Result<aws_lc_rs::hmac::Key, WebhookError> {
        let path = &self.hook.secret_file;
        let read = std::fs::read_to_string(path).map(Zeroizing::new);
        let secret = read.map_err(|source| WebhookError::Secret { path: path.clone(), source })?;
        webhook::key(secret.trim()).map_err(|source| WebhookError::NoSecret { path: path.clone(), source })
    }

    async fn moved(&self, to: i64) -> Result<(), WebhookError> {
        let mut tx = self.fleet.store.write().await?;
        meta::set(&mut tx, &meta::webhook_place(&self.hook.name), &to.to_string()).await?;
        Ok(tx.commit().await?)
    }
}

impl Follower for Sender {
    type Error = WebhookError;

    fn whom(&self) -> String {
        format!("the webhook {}", self.hook.name)
    }

    async fn catch_up(&self) -> Result<(), WebhookError> {
        self.again().await?;
        loop {
            let mut db = self.fleet.store.read().await?;
            let at = meta::get(&mut db, &meta::webhook_place(&self.hook.name)).await?;
            let Some(at) = at.and_then(|text| text.parse().ok()) else {
                let newest = log::last(&mut db).await?;
                drop(db);
                return self.moved(newest).await;
            };
            let page = Page { after: Some(at), limit: STEP };
            let entries = log::after(&mut db, None, &page).await?;
            drop(db);
            let Some(last) = entries.last().map(|entry| entry.id) else { return Ok(()) };
            let mut told = at;
            for entry in entries.iter().filter(|entry| self.hook.wants(&entry.kind)) {
                self.deliver(entry).await?;
                told = entry.id;
            }
            if told < last {
                self.moved(last).await?;
            }
        }
    }
}
