//! Where live requests pass by. Costs a request one relaxed load while nothing is captured, and never makes it wait: a row
//! that finds no room is dropped and counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError, RwLock};

use muster_protocol::capture::{CaptureRequest, Sampling};
use muster_protocol::ids::Digest;
use muster_protocol::manifest::Manifest;
use muster_protocol::time::Timestamp;
use serde_json::Value;

use super::age::Recipient;
use super::judge::{Allowed, Column};
use crate::labels::Prediction;
use crate::oip::{NamedTensor, Tensor, each};

/// A row with more numbers than this is not captured: rows wait in memory.
const NUMBERS_MAX: usize = 4096;
/// Nor is one with a longer name.
const ID_BYTES_MAX: usize = 256;

/// One request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    pub slot: &'a str,
    pub bundle: Digest,
    pub manifest: &'a Manifest,
    /// As the application called it.
    pub id: Option<&'a str>,
    /// World time.
    pub at: Timestamp,
    pub inputs: &'a [NamedTensor],
    pub outputs: &'a [NamedTensor],
}

/// The taps that are open. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Taps(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    any: AtomicBool,
    open: RwLock<Vec<Arc<Tap>>>,
}

/// One capture: what passes through it, and how much still may.
#[derive(Debug)]
pub(super) struct Tap {
    pub(super) request: CaptureRequest,
    pub(super) columns: Vec<Column>,
    pub(super) recipients: Vec<Recipient>,
    /// Of all files on the box.
    pub(super) bytes: u64,
    pub(super) rows_per_day: u64,
    queue: SyncSender<Row>,
    seen: AtomicU64,
    left: AtomicU64,
    queued: AtomicU64,
    dropped: AtomicU64,
    closed: AtomicBool,
    failed: AtomicBool,
}

/// What the site says of every row.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) recipients: Vec<Recipient>,
    pub(super) bytes: u64,
    pub(super) rows_per_day: u64,
}

/// A row on its way to the disk.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) tap: Arc<Tap>,
    pub(super) at: Timestamp,
    pub(super) id: Option<String>,
    /// Within its request.
    pub(super) number: usize,
    pub(super) inputs: Vec<Value>,
    pub(super) outputs: BTreeMap<String, Vec<Value>>,
}

impl Taps {
    #[inline]
    pub fn offer(&self, answered: &Answered<'_>) {
        if self.0.any.load(Ordering::Relaxed) {
            self.take(answered);
        }
    }

    pub(super) fn set(&self, open: Vec<Arc<Tap>>) {
        let any = !open.is_empty();
        *self.0.open.write().unwrap_or_else(PoisonError::into_inner) = open;
        self.0.any.store(any, Ordering::Relaxed);
    }

    #[cold]
    fn take(&self, answered: &Answered<'_>) {
        let open = self.0.open.read().unwrap_or_else(PoisonError::into_inner);
        for tap in open.iter().filter(|tap| tap.is_for(answered)) {
            let scores = match tap.request.sample {
                Sampling::Every(_) => Vec::new(),
                Sampling::Score(_) => Prediction::of(answered.manifest, answered.outputs),
            };
            let rows = answered.inputs.first().map_or(1, |input| input.tensor.rows());
            for number in 0..rows {
                if tap.samples(scores.get(number)) && tap.one_may_pass() {
                    tap.pass(answered, number);
                }
            }
        }
    }
}

impl Tap {
    pub(super) fn new(
        request: CaptureRequest,
        allowed: Allowed,
        site: Site,
        queue: SyncSender<Row>,
    ) -> Self {
        Self {
            request,
            columns: allowed.columns,
            recipients: site.recipients,
            bytes: site.bytes,
            rows_per_day: site.rows_per_day,
            queue,
            seen: AtomicU64::new(0),
            left: AtomicU64::new(allowed.rows),
            queued: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }
    }

    /// What is queued for it is not written any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Everything that may pass has passed and was seen by the writer.
    pub(super) fn is_dry(&self) -> bool {
        self.queued.load(Ordering::Acquire) == 0 && self.left.load(Ordering::Acquire) == 0
    }

    /// The writer has dealt with one.
    pub(super) fn arrived(&self) {
        self.queued.fetch_sub(1, Ordering::AcqRel);
    }

    /// Rows dropped since this was last asked.
    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    fn is_for(&self, answered: &Answered<'_>) -> bool {
        self.request.bundle == answered.bundle && self.request.slot.as_str() == answered.slot && !self.is_closed()
    }

    fn samples(&self, score: Option<&Prediction>) -> bool {
        match self.request.sample {
            Sampling::Every(every) => self.seen.fetch_add(1, Ordering::Relaxed) % u64::from(every.max(1)) == 0,
            Sampling::Score(band) => match score {
                Some(Prediction::Number(score)) => band.holds(*score),
                Some(Prediction::Classes(scores)) => {
                    scores.iter().copied().reduce(f64::max).is_some_and(|score| band.holds(score))
                }
                None => false,
            },
        }
    }

    /// Counts one as queued before it is taken off what is left: the writer never finds both at nothing too early.
    fn one_may_pass(&self) -> bool {
        self.queued.fetch_add(1, Ordering::AcqRel);
        let left = |left: u64| left.checked_sub(1);
        let may = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, left).is_ok();
        if !may {
            self.arrived();
        }
        may
    }

    fn pass(self: &Arc<Self>, answered: &Answered<'_>, number: usize) {
        let sent = self.row(answered, number).and_then(|row| self.queue.try_send(row).ok());
        if sent.is_none() {
            self.left.fetch_add(1, Ordering::AcqRel);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.arrived();
        }
    }

    /// Only what the site allows is copied at all.
    fn row(self: &Arc<Self>, answered: &Answered<'_>, number: usize) -> Option<Row> {
        let numbers: usize = answered.outputs.iter().map(|output| output.tensor.row_len()).sum();
        if numbers + self.columns.len() > NUMBERS_MAX || answered.id.is_some_and(|id| id.len() > ID_BYTES_MAX) {
            return None;
        }
        let input = |column: &Column| {
            let input = answered.inputs.iter().find(|input| input.name == column.tensor);
            input.map_or(Value::Null, |input| cell(&input.tensor, number, column.at))
        };
        let output = |output: &NamedTensor| {
            let values = (0..output.tensor.row_len()).map(|at| cell(&output.tensor, number, at));
            (output.name.clone(), values.collect())
        };
        Some(Row {
            tap: Arc::clone(self),
            at: answered.at,
            id: answered.id.map(str::to_owned),
            number,
            inputs: self.columns.iter().map(input).collect(),
            outputs: answered.outputs.iter().map(output).collect(),
        })
    }
}

fn cell(tensor: &Tensor, row: usize, at: usize) -> Value {
    let len = tensor.row_len();
    if at >= len {
        return Value::Null;
    }
    each!(&tensor.values, values => values.get(row * len + at).map_or(Value::Null, |&value| Value::from(value)))
}
