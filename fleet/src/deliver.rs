//! Answers devices that ask for pieces of blobs. Stateless: a want says all there is to know.
//!
//! Bounds: what is in flight to one device, what waits for it, and what is in flight to all. Whoever asks for more is
//! not answered and asks again after a silence. Only blobs that the catalogue vouches for leave, and only to active devices.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use muster_protocol::chunk::{Answer, Chunk, Want, chunk_count};
use muster_protocol::ids::{DeviceId, Digest};
use muster_protocol::limits::{CHUNK_BYTES, CHUNK_WINDOW_MAX, IN_FLIGHT_BYTES_PER_DEVICE};
use muster_protocol::message::Message as _;
use muster_protocol::topic::{Down, Topic};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::blob::{BlobError, Blobs};
use crate::enrolment::Standing;
use crate::link::{Delivery, Inbound, Outbound, Publisher};
use crate::store::{Store, StoreError, bundles, identities};

/// Bytes read and not yet written to the broker, for all devices together.
const IN_FLIGHT_BYTES: usize = 64 * 1024 * 1024;
/// Chunks of one device in flight or waiting for it: two windows, as a want may overtake the last chunk's end.
const DEVICE_CHUNKS: usize = 2 * CHUNK_WINDOW_MAX as usize;
/// Wants being answered at once.
const WANTS: usize = 1024;
/// Devices remembered before the idle ones are forgotten.
const DEVICES: usize = 4096;
/// A chunk that waits longer at the broker is asked for again anyway.
const CHUNK_EXPIRY_S: u32 = 30;

#[derive(Clone, Debug)]
pub struct Deliver {
    store: Store,
    blobs: Blobs,
    publisher: Publisher,
    all: Arc<Semaphore>,
}

#[derive(Debug, thiserror::Error)]
enum DeliverError {
    #[error("asking whether the blob is catalogued")]
    Store(#[source] StoreError),
    #[error("reading the blob")]
    Blob(#[source] BlobError),
}

/// One device's share.
#[derive(Clone, Debug)]
struct Share {
    waiting: Arc<Semaphore>,
    in_flight: Arc<Semaphore>,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(DEVICE_CHUNKS)),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_BYTES_PER_DEVICE / CHUNK_BYTES)),
        }
    }
}

impl Share {
    fn is_idle(&self) -> bool {
        self.waiting.available_permits() == DEVICE_CHUNKS
    }
}

impl Deliver {
    pub fn new(store: Store, blobs: Blobs, publisher: Publisher) -> Self {
        Self { store, blobs, publisher, all: Arc::new(Semaphore::new(IN_FLIGHT_BYTES / CHUNK_BYTES)) }
    }

    pub async fn run(self, mut wants: mpsc::Receiver<Inbound>, stop: CancellationToken) {
        let mut answering = JoinSet::new();
        let mut shares: HashMap<DeviceId, Share> = HashMap::new();
        loop {
            let inbound = tokio::select! {
                () = stop.cancelled() => break,
                inbound = wants.recv() => inbound,
            };
            let Some(Inbound { device, payload, .. }) = inbound else { break };
            while answering.try_join_next().is_some() {}
            if answering.len() >= WANTS {
                answering.join_next().await;
            }
            if shares.len() >= DEVICES {
                shares.retain(|_, share| !share.is_idle());
            }
            let share = shares.entry(device.clone()).or_default().clone();
            let this = self.clone();
            answering.spawn(async move { this.answer(device, share, &payload).await });
        }
    }

    async fn answer(&self, device: DeviceId, share: Share, payload: &[u8]) {
        let want = match Want::from_json(payload) {
            Ok(want) => want,
            Err(error) => {
                return tracing::debug!(device.id = %device, %error, "a chunk request that cannot be read");
            }
        };
        let Some(indices) = want.indices() else {
            return tracing::debug!(device.id = %device, "a chunk request beyond its bounds");
        };
        let chunks = u32::try_from(indices.len()).unwrap_or(u32::MAX);
        let Ok(_place) = share.waiting.try_acquire_many(chunks) else {
            return tracing::debug!(device.id = %device, "more chunks asked for than a device may have outstanding");
        };
        if let Err(error) = self.send(&device, &share, &want, &indices).await {
            tracing::error!(device.id = %device, blob = %want.digest, error = &error as &dyn std::error::Error, "cannot deliver; the box asks again");
        }
    }

    async fn send(
        &self,
        device: &DeviceId,
        share: &Share,
        want: &Want,
        indices: &[u32],
    ) -> Result<(), DeliverError> {
        if !self.is_active(device).await? {
            tracing::debug!(device.id = %device, "a chunk request of a device that is not active");
            return Ok(());
        }
        let Some(length) = self.length(&want.digest).await? else {
            self.publish(device, want, 0, 0, Answer::Unknown).await;
            return Ok(());
        };
        let total = chunk_count(length);
        for &index in indices.iter().filter(|&&index| index < total) {
            // A closed semaphore does not occur: nobody closes them.
            let (Ok(_mine), Ok(_all)) = (share.in_flight.acquire().await, self.all.acquire().await) else {
                break;
            };
            let start = u64::from(index) * CHUNK_BYTES as u64;
            let end = length.min(start + CHUNK_BYTES as u64);
            let bytes = self.blobs.range(&want.digest, start..end).await.map_err(DeliverError::Blob)?;
            self.publish(device, want, index, total, Answer::Bytes(&bytes)).await;
        }
        Ok(())
    }

    async fn is_active(&self, device: &DeviceId) -> Result<bool, DeliverError> {
        let mut db = self.store.read().await.map_err(DeliverError::Store)?;
        let standing = identities::standing(&mut db, device).await.map_err(DeliverError::Store)?;
        Ok(standing == Some(Standing::Active))
    }

    /// The length of a blob that devices may have.
    async fn length(&self, digest: &Digest) -> Result<Option<u64>, DeliverError> {
        let mut db = self.store.read().await.map_err(DeliverError::Store)?;
        if !bundles::is_served(&mut db, digest).await.map_err(DeliverError::Store)? {
            return Ok(None);
        }
        drop(db);
        self.blobs.head(digest).await.map_err(DeliverError::Blob)
    }

    /// Returns once it was written to the broker, or could not be.
    async fn publish(&self, device: &DeviceId, want: &Want, index: u32, total: u32, answer: Answer<'_>) {
        let mut digest_prefix = [0; 16];
        digest_prefix.copy_from_slice(&want.digest.as_bytes()[..16]);
        let chunk = Chunk { token: want.token, index, total, digest_prefix, answer };
        let message = Outbound {
            topic: Topic::Down(device.clone(), Down::Chunk),
            payload: Bytes::from(chunk.encode()),
            delivery: Delivery::Expiring { seconds: CHUNK_EXPIRY_S },
        };
        if self.publisher.confirm(message).await.is_err() {
            tracing::debug!(device.id = %device, "a chunk was lost with the connection; the box asks again");
        }
    }
}
