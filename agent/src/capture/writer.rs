//! Puts rows into files, in a thread of its own: opens, encrypts, finishes, makes room.
//!
//! A file is JSON lines inside an age file: first what it is, then a line for each row. It has its name only when it is
//! whole: staged → flushed → renamed. What was written of an unfinished one is encrypted as well.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use muster_protocol::ids::CaptureId;
use muster_protocol::time::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::age::Encryptor;
use super::shelf::{Counts, Finished, Shelf};
use super::tap::{Row, Tap};
use crate::clock::{TrustClock, monotonic};
use crate::disk::{self, DiskError};

/// Rows that wait for the disk; what comes on top is dropped.
const QUEUE: usize = 256;
/// A file is finished when it holds so many rows or bytes, or is so old: what is not finished is lost with the power.
const FILE_ROWS: u64 = 10_000;
const FILE_BYTES: u64 = 512 * 1024;
const FILE_AGE: Duration = Duration::from_mins(15);
/// How soon it is noticed that a tap was closed or ran dry.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The thread, as long as this is held.
#[derive(Debug)]
pub(super) struct Writer {
    queue: SyncSender<Row>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("{} cannot be written", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the folder of captures cannot be used")]
    Disk(#[from] DiskError),
}

impl Writer {
    pub(super) fn start(shelf: Shelf, counts: Arc<Mutex<Counts>>, clock: TrustClock) -> io::Result<Self> {
        let (queue, rows) = sync_channel(QUEUE);
        let stop = Arc::new(AtomicBool::new(false));
        let mut work = Work { shelf, counts, clock, open: BTreeMap::new(), stop: Arc::clone(&stop) };
        let thread = thread::Builder::new().name("capture".to_owned()).spawn(move || work.run(&rows))?;
        Ok(Self { queue, stop, thread: Some(thread) })
    }

    pub(super) fn queue(&self) -> SyncSender<Row> {
        self.queue.clone()
    }
}

impl Drop for Writer {
    /// What waits is written and every file finished.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the writer of captures crashed; what it had not finished is lost");
        }
    }
}

pub(super) fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Work {
    shelf: Shelf,
    counts: Arc<Mutex<Counts>>,
    clock: TrustClock,
    open: BTreeMap<CaptureId, Open>,
    stop: Arc<AtomicBool>,
}

struct Open {
    tap: Arc<Tap>,
    to: Encryptor<File>,
    part: PathBuf,
    finished: PathBuf,
    rows: u64,
    bytes: u64,
    since: Instant,
}

#[derive(Serialize)]
struct Line<'a> {
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    row: usize,
    inputs: &'a [serde_json::Value],
    outputs: &'a BTreeMap<String, Vec<serde_json::Value>>,
}

impl Work {
    fn run(&mut self, rows: &Receiver<Row>) {
        loop {
            let stopping = self.stop.load(Ordering::Acquire);
            let wait = if stopping { Duration::ZERO } else { LOOK_EVERY };
            match rows.recv_timeout(wait) {
                Ok(row) => self.take(&row),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) if stopping => break,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.finish_due();
        }
        let open: Vec<CaptureId> = self.open.keys().cloned().collect();
        for request in &open {
            self.finish(request);
        }
    }

    fn take(&mut self, row: &Row) {
        let open = !row.tap.is_closed() && !row.tap.has_failed() && self.may(&row.tap);
        if open && let Err(error) = self.write(row) {
            tracing::error!(error = crate::chain(&error), "rows for the site cannot be kept");
            row.tap.fail();
            self.give_up(&row.tap.request.id);
        }
        row.tap.arrived();
    }

    /// Two requests for one slot share its day: counted where rows are written, one after another.
    fn may(&self, tap: &Tap) -> bool {
        let now = self.clock.now();
        let (request, counts) = (&tap.request, lock(&self.counts));
        now < request.until
            && counts.today(&request.slot, now) < tap.rows_per_day
            && counts.of(&request.id).rows < u64::from(request.rows)
    }

    fn write(&mut self, row: &Row) -> Result<(), WriteError> {
        let request = &row.tap.request;
        // Other columns or recipients: another file.
        if self.open.get(&request.id).is_some_and(|open| !Arc::ptr_eq(&open.tap, &row.tap)) {
            self.finish(&request.id);
        }
        let now = self.clock.now();
        let line = Line {
            at: row.at,
            id: row.id.as_deref(),
            row: row.number,
            inputs: &row.inputs,
            outputs: &row.outputs,
        };
        if !self.open.contains_key(&request.id) {
            let open = Open::begin(&self.shelf, &row.tap, now)?;
            self.open.insert(request.id.clone(), open);
        }
        if let Some(open) = self.open.get_mut(&request.id) {
            open.line(&line)?;
            open.rows += 1;
        }
        lock(&self.counts).wrote(&request.id, &request.slot, now);
        Ok(())
    }

    fn finish_due(&mut self) {
        let now = monotonic();
        let due = self.open.iter().filter(|(_, open)| open.is_due(now));
        let due: Vec<CaptureId> = due.map(|(request, _)| request.clone()).collect();
        for request in &due {
            self.finish(request);
        }
    }

    fn finish(&mut self, request: &CaptureId) {
        let Some(open) = self.open.remove(request) else { return };
        let (tap, part) = (Arc::clone(&open.tap), open.part.clone());
        if let Err(error) = self.try_finish(open) {
            tracing::error!(
                error = crate::chain(&error),
                "a file for the site cannot be finished and is lost"
            );
            tap.fail();
            drop(disk::remove(&part));
        }
    }

    fn try_finish(&self, open: Open) -> Result<(), WriteError> {
        let Open { tap, to, part, finished, rows, .. } = open;
        let write = |source| WriteError::Write { path: part.clone(), source };
        let written = to.finish().map_err(write)?;
        written.sync_all().map_err(write)?;
        let bytes = written.metadata().map_err(write)?.len();
        let gone = self.shelf.make_room(bytes, tap.bytes)?;
        if gone > 0 {
            tracing::warn!(files = gone, "the oldest captured files made room; nobody had taken them");
        }
        let file = Finished { rows, dropped: tap.take_dropped(), bytes };
        // Counted first: a crash in between costs rows, never a rule.
        let counts = {
            let mut counts = lock(&self.counts);
            counts.finished(&tap.request.id, &file, tap.floor);
            counts.clone()
        };
        self.shelf.save(&counts)?;
        disk::rename(&part, &finished)?;
        tracing::info!(slot = %tap.request.slot, request = %tap.request.id, rows, bytes, "rows were captured for the site");
        Ok(())
    }

    fn give_up(&mut self, request: &CaptureId) {
        if let Some(open) = self.open.remove(request) {
            drop(disk::remove(&open.part));
        }
    }
}

impl Open {
    fn begin(shelf: &Shelf, tap: &Arc<Tap>, now: Timestamp) -> Result<Self, WriteError> {
        let request = &tap.request;
        let (part, finished) = shelf.place(now, &request.slot, &request.id);
        let write = |source| WriteError::Write { path: part.clone(), source };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(write)?;
        let to = Encryptor::begin(&tap.recipients, file).map_err(write)?;
        let (tap, since) = (Arc::clone(tap), monotonic());
        let mut open = Self { tap, to, part, finished, rows: 0, bytes: 0, since };
        let request = open.tap.request.clone();
        let columns: Vec<&str> = open.tap.columns.iter().map(|column| column.name.as_str()).collect();
        let header = json!({
            "v": 1, "request": request.id, "slot": request.slot, "bundle": request.bundle, "why": request.why,
            "sample": request.sample, "begun": now, "columns": columns,
        });
        open.line(&header)?;
        Ok(open)
    }

    fn line(&mut self, line: &impl Serialize) -> Result<(), WriteError> {
        let write = |source| WriteError::Write { path: self.part.clone(), source };
        let mut bytes = serde_json::to_vec(line).map_err(|error| write(error.into()))?;
        bytes.push(b'\n');
        self.to.write_all(&bytes).map_err(write)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn is_due(&self, now: Instant) -> bool {
        self.rows >= FILE_ROWS
            || self.bytes >= FILE_BYTES
            || self.tap.is_closed()
            || self.tap.is_dry()
            || now.saturating_duration_since(self.since) >= FILE_AGE
    }
}
