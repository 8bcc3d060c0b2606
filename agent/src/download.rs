//! Fetches content over the link, chunk by chunk, and gives it its name when it is whole and right.
//!
//! ```text
//!   wanted blobs ─▶ staging/<sha256>.part + .have ─▶ all here? SHA-256 and length ─▶ fsync ─▶ blobs/<aa>/<sha256>
//!        ▲                   │ survives restarts of agent, broker and fleet     │
//!        └── asks for gaps ◀─┘                              wrong: away with it ┘ (three times, then it failed)
//! ```
//!
//! Lives on a thread of its own because it reads, hashes and flushes. It is told the whole list of what is wanted,
//! never a change of it, and works through that list in order. It decides nothing about bundles.

mod pace;
mod part;
mod transfer;

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_protocol::chunk::{Answer, Chunk, ChunkError};
use muster_protocol::ids::Digest;
use muster_protocol::message::{Outbound, Sentence};
use tokio::sync::mpsc;

use crate::blobs::Blobs;
use crate::chain;
use crate::clock::monotonic;
use crate::disk::DiskError;
use crate::identity;
use crate::link::Link;
use crate::reconcile::Blob;
use pace::Pace;
pub use pace::Slowest;
use part::Part;
use transfer::{Transfer, Verdict};

/// Commands and chunks waiting for the thread: twice what can be outstanding.
const QUEUE: usize = 32;
/// Downloads of one blob whose digest came out wrong, until it failed.
const WRONG_MAX: u32 = 3;
/// Progress is told this often at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// What a download leaves free on the disk.
const RESERVE_BYTES: u64 = 16 * 1024 * 1024;
const IDLE: Duration = Duration::from_hours(1);

/// What the downloader has to say.
#[derive(Debug)]
pub enum Said {
    Progress { digest: Digest, received_bytes: u64 },
    Arrived { digest: Digest },
    Failed { digest: Digest, failure: Failure },
    Malformed(ChunkError),
}

/// Why content could not be had. A later attempt may do better in every case, so none of these condemns a bundle.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the fleet does not hold the content {0}; publish the bundle's files again")]
    Unknown(Digest),
    #[error(
        "the content {0} came out wrong {WRONG_MAX} times; what the fleet holds under this name is damaged"
    )]
    Wrong(Digest),
    #[error(
        "only {bytes} bytes of the content {digest} came in {over_s} s with a connection: the network, the broker or the \
         fleet server is too slow, or holds it back"
    )]
    Slow { digest: Digest, bytes: u64, over_s: u64 },
    #[error("the fleet's content {0} has another length than the catalogue or the manifest says")]
    Contradicts(Digest),
    #[error("{needed} bytes are needed and {free} are free on the disk of the state folder; make room")]
    Full { needed: u64, free: u64 },
    #[error("the content cannot be written")]
    Disk(#[source] DiskError),
}

impl Failure {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "content_unknown",
            Self::Wrong(_) => "content_damaged",
            Self::Contradicts(_) => "content_contradicts",
            Self::Slow { .. } => "content_too_slow",
            Self::Full { .. } => "disk_full",
            Self::Disk(error) if error.is_full() => "disk_full",
            Self::Disk(_) => "disk_error",
        }
    }

    pub fn sentence(&self) -> Sentence {
        chain(self).into()
    }
}

#[derive(Debug)]
enum Command {
    Wanted(Vec<Blob>),
    Chunk(Bytes),
    Linked(bool),
}

/// Tells the thread. It ends when this is dropped.
#[derive(Debug)]
pub struct Downloader {
    commands: SyncSender<Command>,
}

/// Starts the thread.
pub fn start(
    blobs: Blobs,
    link: Link,
    slowest: Slowest,
    said: mpsc::Sender<Said>,
) -> std::io::Result<Downloader> {
    let (commands, inbox) = sync_channel(QUEUE);
    let worker = Worker {
        blobs,
        link,
        slowest,
        said,
        linked: false,
        queue: VecDeque::new(),
        active: None,
        wrong: BTreeMap::new(),
        told: None,
    };
    std::thread::Builder::new().name("download".to_owned()).spawn(move || worker.live(&inbox))?;
    Ok(Downloader { commands })
}

impl Downloader {
    /// The whole list of what is wanted now, in order; `false` if the thread is behind, so that the list is sent again.
    pub fn want(&self, blobs: Vec<Blob>) -> bool {
        self.commands.try_send(Command::Wanted(blobs)).is_ok()
    }

    /// A chunk that finds the queue full is lost, and asked for again later.
    pub fn chunk(&self, bytes: Bytes) {
        if self.commands.try_send(Command::Chunk(bytes)).is_err() {
            tracing::debug!("a chunk came while the downloader was behind; it will be asked for again");
        }
    }

    pub fn linked(&self, linked: bool) -> bool {
        self.commands.try_send(Command::Linked(linked)).is_ok()
    }
}

struct Worker {
    blobs: Blobs,
    link: Link,
    slowest: Slowest,
    said: mpsc::Sender<Said>,
    linked: bool,
    queue: VecDeque<Blob>,
    active: Option<Active>,
    wrong: BTreeMap<Digest, u32>,
    told: Option<Instant>,
}

struct Active {
    blob: Blob,
    part: Part,
    transfer: Transfer,
    pace: Pace,
}

impl Worker {
    fn live(mut self, inbox: &Receiver<Command>) {
        loop {
            self.advance();
            match inbox.recv_timeout(self.patience()) {
                Ok(Command::Wanted(blobs)) => self.wanted(blobs),
                Ok(Command::Chunk(bytes)) => self.chunk(&bytes),
                Ok(Command::Linked(linked)) => {
                    self.linked = linked;
                    if let Some(active) = &mut self.active {
                        active.pace.linked(linked, monotonic());
                        active.transfer.ask_again();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(active) = &mut self.active
                        && active.transfer.deadline().is_some_and(|at| at <= monotonic())
                    {
                        active.transfer.ask_again();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.give_up_if_slow();
        }
    }

    fn patience(&self) -> Duration {
        let active = self.active.as_ref().filter(|_| self.linked);
        let deadlines =
            active.map_or([None; 2], |active| [active.transfer.deadline(), active.pace.deadline()]);
        let next = deadlines.into_iter().flatten().min();
        next.map_or(IDLE, |at| at.saturating_duration_since(monotonic()))
    }

    /// What came stays: the next attempt goes on from it.
    fn give_up_if_slow(&mut self) {
        let Some(active) = &mut self.active else { return };
        if !active.transfer.complete()
            && let Some(bytes) = active.pace.too_slow(monotonic())
        {
            let digest = active.blob.digest;
            self.fail(digest, Failure::Slow { digest, bytes, over_s: self.slowest.over.as_secs() });
        }
    }

    fn wanted(&mut self, blobs: Vec<Blob>) {
        self.queue = blobs.into();
        let Some(active) = &self.active else { return };
        if self.queue.contains(&active.blob) {
            self.queue.retain(|blob| *blob != active.blob);
        } else {
            self.active = None;
        }
    }

    /// Begins what is next, asks for what is lacking, finishes what is complete.
    fn advance(&mut self) {
        loop {
            let Some(active) = &mut self.active else {
                let Some(blob) = self.queue.pop_front() else { return };
                match self.begin(blob) {
                    Ok(active) => self.active = active,
                    Err(failure) => self.fail(blob.digest, failure),
                }
                continue;
            };
            if active.transfer.complete() {
                self.finish();
                continue;
            }
            if self.linked
                && let Some(want) = active.transfer.want(monotonic())
                && !self.link.send(&Outbound::Want(want))
            {
                tracing::debug!("the link is behind; the request will be repeated");
            }
            return;
        }
    }

    fn begin(&self, blob: Blob) -> Result<Option<Active>, Failure> {
        if self.blobs.has(&blob) {
            self.say(Said::Arrived { digest: blob.digest });
            return Ok(None);
        }
        let (part, here) = Part::open(self.blobs.staging(), &blob).map_err(Failure::Disk)?;
        let token = identity::random().map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let transfer = Transfer::new(blob, token, here, monotonic());
        let needed = (blob.length - transfer.received_bytes()).saturating_add(RESERVE_BYTES);
        let free = crate::disk::free_bytes(self.blobs.staging()).map_err(Failure::Disk)?;
        if free < needed {
            return Err(Failure::Full { needed, free });
        }
        tracing::info!(
            blob = %blob.digest,
            bytes = blob.length,
            resumed_bytes = transfer.received_bytes(),
            "download begins"
        );
        let mut pace = Pace::new(self.slowest);
        pace.linked(self.linked, monotonic());
        Ok(Some(Active { blob, part, transfer, pace }))
    }

    fn chunk(&mut self, bytes: &[u8]) {
        let chunk = match Chunk::decode(bytes) {
            Ok(chunk) => chunk,
            Err(error) => return self.say(Said::Malformed(error)),
        };
        let Some(active) = &mut self.active else { return };
        let digest = active.blob.digest;
        match active.transfer.chunk(&chunk, monotonic()) {
            Verdict::Take { index, offset } => {
                let Answer::Bytes(bytes) = chunk.answer else { return };
                if let Err(error) = active.part.write(index, offset, bytes) {
                    return self.fail(digest, Failure::Disk(error));
                }
                active.pace.came(bytes.len() as u64);
                let received_bytes = active.transfer.received_bytes();
                let now = monotonic();
                if self.told.is_none_or(|told| now.saturating_duration_since(told) >= PROGRESS_EVERY) {
                    self.told = Some(now);
                    self.say(Said::Progress { digest, received_bytes });
                }
            }
            Verdict::Ignore => {}
            Verdict::Unknown => self.fail(digest, Failure::Unknown(digest)),
            Verdict::Contradicts => self.fail(digest, Failure::Contradicts(digest)),
        }
    }

    fn finish(&mut self) {
        let Some(active) = self.active.take() else { return };
        let blob = active.blob;
        match active.part.finish(&blob, &self.blobs) {
            Ok(true) => {
                self.wrong.remove(&blob.digest);
                self.say(Said::Arrived { digest: blob.digest });
            }
            Ok(false) => {
                let times = self.wrong.get(&blob.digest).map_or(1, |times| times + 1);
                tracing::warn!(blob = %blob.digest, times, "downloaded content came out wrong and was thrown away");
                if times >= WRONG_MAX {
                    self.wrong.remove(&blob.digest);
                    self.say(Said::Failed { digest: blob.digest, failure: Failure::Wrong(blob.digest) });
                } else {
                    self.wrong.insert(blob.digest, times);
                    self.queue.push_front(blob);
                }
            }
            Err(error) => self.say(Said::Failed { digest: blob.digest, failure: Failure::Disk(error) }),
        }
    }

    fn fail(&mut self, digest: Digest, failure: Failure) {
        self.active = None;
        self.say(Said::Failed { digest, failure });
    }

    /// Waits for the loop: it never waits for this thread.
    fn say(&self, said: Said) {
        if self.said.blocking_send(said).is_err() {
            tracing::debug!("the loop has ended");
        }
    }
}
