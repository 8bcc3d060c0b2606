//! What leaves by way of the broker after a commit: the outbox, and everything retained if the broker lost it.
//!
//! ```text
//!   connected ─▶ epoch as ours? ──no──▶ publish every trust file and order, then the epoch ─┐
//!                     └──────yes───────────────────────────────────────────────────────────┴─▶ outbox, in order ─▶ wait
//! ```
//! A message leaves the outbox when the broker has acknowledged it. Repeats are harmless: every message is whole and
//! carries its version.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use muster_protocol::message::{Epoch, Message as _, VERSION};
use muster_protocol::topic::{Down, Topic};
use muster_protocol::trust::FileName;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::link::{Delivery, Outbound, Publisher, Session, Unconfirmed};
use crate::mint::{self, MintError};
use crate::store::{Page, Store, StoreError, meta, orders, outbox, trust_files};

/// Messages published before the first acknowledgement is waited for.
const BATCH: u32 = 64;
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failure that a new connection does not announce.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Say {
    store: Store,
    publisher: Publisher,
    session: watch::Receiver<Option<Session>>,
}

#[derive(Debug, thiserror::Error)]
pub enum SayError {
    #[error("reading what is to be said")]
    Store(#[source] StoreError),
    #[error("making this database's mark for the broker")]
    Mint(#[source] MintError),
    #[error("publishing")]
    Unconfirmed(#[source] Unconfirmed),
    #[error("the broker did not acknowledge within {CONFIRM_TIMEOUT:?}")]
    Silent,
}

impl Say {
    pub fn new(store: Store, publisher: Publisher, session: watch::Receiver<Option<Session>>) -> Self {
        Self { store, publisher, session }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.sessions() => {}
        }
    }

    async fn sessions(&mut self) {
        loop {
            let session = match self.session.wait_for(Option::is_some).await {
                Ok(session) => session.clone(),
                Err(_) => return,
            };
            let Some(session) = session else { continue };
            if let Err(error) = self.serve(&session).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "could not say everything; trying again"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Until the session ends.
    async fn serve(&mut self, session: &Session) -> Result<(), SayError> {
        let epoch = self.epoch().await?;
        if session.epoch.as_ref() != Some(&epoch) {
            let messages = self.retained().await?;
            tracing::info!(messages, "the broker had lost what was retained; published it again");
            let epoch = Epoch { v: VERSION, epoch };
            self.publish(&[retained(Topic::Epoch, epoch.to_json())]).await?;
        }
        loop {
            self.empty_outbox().await?;
            let store = self.store.clone();
            let number = session.number;
            tokio::select! {
                () = store.changes().outbox_filled() => {}
                ended = self.session.wait_for(|now| now.as_ref().is_none_or(|now| now.number != number)) => {
                    drop(ended);
                    return Ok(());
                }
            }
        }
    }

    /// This database's mark on the broker.
    async fn epoch(&self) -> Result<String, SayError> {
        let mut tx = self.store.write().await.map_err(SayError::Store)?;
        if let Some(epoch) = meta::get(&mut tx, meta::EPOCH).await.map_err(SayError::Store)? {
            return Ok(epoch);
        }
        let epoch = hex::encode(mint::random().map_err(SayError::Mint)?);
        meta::set(&mut tx, meta::EPOCH, &epoch).await.map_err(SayError::Store)?;
        tx.commit().await.map_err(SayError::Store)?;
        Ok(epoch)
    }

    /// Publishes trust files and orders. Returns how many messages that took.
    async fn retained(&self) -> Result<usize, SayError> {
        let mut db = self.store.read().await.map_err(SayError::Store)?;
        let files = trust_files::all(&mut db).await.map_err(SayError::Store)?;
        let mut files: Vec<(FileName, Vec<u8>)> =
            files.into_iter().filter_map(|(name, bytes)| Some((name.parse().ok()?, bytes))).collect();
        // The timestamp goes last: it makes boxes look at the others.
        files.sort_by_key(|(name, _)| matches!(name, FileName::Timestamp));
        let trust: Vec<Outbound> =
            files.into_iter().map(|(name, bytes)| retained(Topic::Trust(name.wire()), bytes)).collect();
        let mut published = trust.len();
        self.publish(&trust).await?;
        let mut page = Page::first(BATCH);
        loop {
            let part = orders::of_members(&mut db, &page).await.map_err(SayError::Store)?;
            let Some(last) = part.last() else { return Ok(published) };
            page.after = Some(last.device.clone());
            let part: Vec<Outbound> = part
                .into_iter()
                .map(|order| retained(Topic::Down(order.device, Down::Order), order.bytes))
                .collect();
            published += part.len();
            self.publish(&part).await?;
        }
    }

    async fn empty_outbox(&self) -> Result<(), SayError> {
        loop {
            let mut db = self.store.read().await.map_err(SayError::Store)?;
            let waiting = outbox::next(&mut db, &Page::first(BATCH)).await.map_err(SayError::Store)?;
            drop(db);
            if waiting.is_empty() {
                return Ok(());
            }
            let messages: Vec<Outbound> = waiting.iter().map(|(_, message)| outbound(message)).collect();
            self.publish(&messages).await?;
            let mut tx = self.store.write().await.map_err(SayError::Store)?;
            for (seq, _) in &waiting {
                outbox::done(&mut tx, *seq).await.map_err(SayError::Store)?;
            }
            tx.commit().await.map_err(SayError::Store)?;
        }
    }

    /// In this order, and returns when the broker has them all.
    async fn publish(&self, messages: &[Outbound]) -> Result<(), SayError> {
        for part in messages.chunks(BATCH as usize) {
            let all = join_all(part.iter().map(|message| self.publisher.confirm(message.clone())));
            let confirmed = tokio::time::timeout(CONFIRM_TIMEOUT, all).await.map_err(|_| SayError::Silent)?;
            confirmed.into_iter().collect::<Result<Vec<()>, _>>().map_err(SayError::Unconfirmed)?;
        }
        Ok(())
    }
}

fn retained(topic: Topic, payload: Vec<u8>) -> Outbound {
    Outbound { topic, payload: Bytes::from(payload), delivery: Delivery::Retained }
}

fn outbound(message: &outbox::Message) -> Outbound {
    let delivery = if message.retain { Delivery::Retained } else { Delivery::Once };
    Outbound { topic: message.topic.clone(), payload: Bytes::from(message.payload.clone()), delivery }
}
