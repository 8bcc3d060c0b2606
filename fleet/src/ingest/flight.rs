//! A batch that was judged, on its way into the telemetry: written by a task of its own while the next one is judged.
//!
//! One at a time, so that batches are committed in the order they came, and whoever finds nothing under way finds all of it
//! in the database.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use muster_protocol::ids::DeviceId;
use muster_protocol::message::Ack;
use muster_protocol::time::Timestamp;
use tokio::task::JoinSet;

use super::book::Entries;
use super::decode::Fact;
use super::{IngestCounters, Load, count};
use crate::store::stats::Sums;
use crate::store::{Store, StoreError, TelemetryTx};

/// What may be told to whom.
pub(super) type Acks = Vec<(DeviceId, Ack)>;

/// What was decoded, kept until it is committed.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) facts: Vec<(DeviceId, Fact)>,
    pub(super) load: Load,
    pub(super) greetings: Greetings,
}

/// Whether what a batch says of who comes and goes is known already. Such facts have no numbers: taken in again after
/// those of a later batch, they would say that a box came back which has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greetings {
    New,
    /// Its part of the control plane was committed.
    Known,
}

/// What came of judging a batch. Its part of the control plane is committed; nothing of it is acknowledged without the rest.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) writing: Writing,
    pub(super) entries: Entries,
    pub(super) acks: Acks,
    pub(super) served: Vec<((String, String), Sums)>,
    pub(super) received: Timestamp,
}

/// The transaction of the telemetry, begun by who needs it first. There is one writer: beginning waits for the batch before.
#[derive(Debug)]
pub(super) struct Writing {
    store: Store,
    begun: Option<TelemetryTx>,
}

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Flight(JoinSet<(Batch, Result<Acks, StoreError>)>);

/// How it ended.
#[derive(Debug)]
pub(super) enum Landing {
    /// Nothing was under way, or all of it is committed.
    Safe(Acks),
    /// It is not known to be there. Without a batch it cannot be tried again.
    Failed(Option<Batch>),
}

impl Judged {
    /// Begins the transaction if there is anything to write.
    async fn begin(&mut self) -> Result<(), StoreError> {
        if self.entries.is_empty() { Ok(()) } else { self.writing.tx().await.map(drop) }
    }

    /// Writes and commits it. Returns what may be acknowledged now.
    pub(super) async fn write(mut self, counters: &IngestCounters) -> Result<Acks, StoreError> {
        self.begin().await?;
        let Self { mut writing, entries, acks, served, received } = self;
        if writing.begun.is_some() {
            let unfit = entries.write(writing.tx().await?, received).await?;
            writing.commit().await?;
            counters.unfit_panes.fetch_add(unfit, Ordering::Relaxed);
        }
        count(&counters.reports, entries.reports());
        counters.serve(served);
        Ok(acks)
    }
}

impl Writing {
    pub(super) fn later(store: &Store) -> Self {
        Self { store: store.clone(), begun: None }
    }

    pub(super) async fn tx(&mut self) -> Result<&mut TelemetryTx, StoreError> {
        let tx = match self.begun.take() {
            Some(tx) => tx,
            None => self.store.write_telemetry().await?,
        };
        Ok(self.begun.insert(tx))
    }

    async fn commit(self) -> Result<(), StoreError> {
        match self.begun {
            Some(tx) => tx.commit().await,
            None => Ok(()),
        }
    }
}

impl Flight {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends a batch off. The one before has landed; the transaction begins here, before the next batch could take the only
    /// writer and wait for this one.
    pub(super) async fn launch(&mut self, batch: Batch, mut judged: Judged, counters: Arc<IngestCounters>) {
        let begun = judged.begin().await;
        self.0.spawn(async move {
            let written = match begun {
                Ok(()) => judged.write(&counters).await,
                Err(error) => Err(error),
            };
            (batch, written)
        });
    }

    /// Waits for what is under way, however long it takes.
    pub(super) async fn land(&mut self) -> Landing {
        match self.0.join_next().await {
            None => Landing::Safe(Acks::new()),
            Some(Ok((_, Ok(acks)))) => Landing::Safe(acks),
            Some(Ok((batch, Err(error)))) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    messages = batch.facts.len(),
                    "messages could not be written; trying again"
                );
                Landing::Failed(Some(batch))
            }
            Some(Err(error)) => {
                tracing::error!(%error, "writing messages ended; devices will repeat them");
                Landing::Failed(None)
            }
        }
    }
}
