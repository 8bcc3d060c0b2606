//! Where live requests pass by. Costs a request one relaxed load while nothing is captured, and never makes it wait: a row
//! that finds no room is dropped and counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError, RwLock};

use muster_protocol::capture::{CaptureRequest, Sampling};
use muster_protocol::drift::Floor;
use muster_protocol::ids::Digest;
use muster_protocol::manifest::Manifest;
use muster_protocol::time::Timestamp;
use serde_json::Value;

use super::age::Recipient;
use super::judge::{Allowed, Column};
use crate::labels::Prediction;
use crate::oip::{NamedTensor, Tensor};

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
    /// Nothing of fewer rows is told.
    pub(super) floor: Floor,
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
    pub(super) floor: Floor,
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
    pub(super) fn new(request: CaptureRequest, allowed: Allowed, site: Site, queue: SyncSender<Row>) -> Self {
        Self {
            request,
            columns: allowed.columns,
            recipients: site.recipients,
            bytes: site.bytes,
            rows_per_day: site.rows_per_day,
            floor: site.floor,
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
        self.request.bundle == answered.bundle
            && self.request.slot.as_str() == answered.slot
            && !self.is_closed()
    }

    fn samples(&self, score: Option<&Prediction>) -> bool {
        match self.request.sample {
            Sampling::Every(every) => {
                self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(u64::from(every.max(1)))
            }
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
        if numbers + self.columns.len() > NUMBERS_MAX || answered.id.is_some_and(|id| id.len() > ID_BYTES_MAX)
        {
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
    tensor.values.json(row * len + at)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use muster_protocol::capture::{CaptureReason, ScoreBand};
    use muster_protocol::ids::CaptureId;
    use serde_json::json;

    use super::*;
    use crate::oip::Values;

    const ROOM: usize = 2;

    fn manifest() -> Manifest {
        let manifest = json!({
            "schema": "muster-bundle/1", "model": "m", "version": "1", "created": "2026-11-24T02:00:00Z", "task": "binary",
            "signature": {
                "inputs": [{ "name": "x", "datatype": "FP32", "shape": [-1, 2] }],
                "outputs": [{ "name": "y", "datatype": "FP32", "shape": [-1, 1] }],
            },
            "variants": [{ "id": "v", "format": "onnx", "file": "m.onnx", "select": { "device": "CPU" }, "inference_precision": "f32" }],
            "files": [{ "path": "m.onnx", "length": 1, "sha256": Digest::of(b"").to_string() }],
        });
        Manifest::parse(manifest.to_string().as_bytes()).unwrap()
    }

    fn tensor(name: &str, rows: usize, values: &[f32]) -> NamedTensor {
        let shape = vec![rows, values.len() / rows];
        NamedTensor { name: name.to_owned(), tensor: Tensor { shape, values: Values::Fp32(values.to_vec()) } }
    }

    fn tap(sample: Sampling, rows: u64) -> (Taps, Arc<Tap>, Receiver<Row>) {
        let request = CaptureRequest {
            id: CaptureId::mint([1; 16]),
            slot: "m".parse().unwrap(),
            bundle: Digest::of(b"bundle"),
            why: CaptureReason::Review,
            rows: 100,
            until: Timestamp::default(),
            sample,
        };
        let columns = vec![Column { name: "age".to_owned(), tensor: "x".to_owned(), at: 1 }];
        let site = Site { recipients: Vec::new(), bytes: 0, rows_per_day: 100, floor: Floor::LEAST };
        let (queue, received) = sync_channel(ROOM);
        let tap = Arc::new(Tap::new(request, Allowed { columns, rows }, site, queue));
        let taps = Taps::default();
        taps.set(vec![Arc::clone(&tap)]);
        (taps, tap, received)
    }

    fn offer(taps: &Taps, slot: &str, bundle: &[u8], scores: &[f32]) {
        let manifest = manifest();
        let rows = scores.len();
        let x: Vec<f32> =
            (0..rows).flat_map(|row| [f32::NAN, f32::from(u8::try_from(row).unwrap())]).collect();
        taps.offer(&Answered {
            slot,
            bundle: Digest::of(bundle),
            manifest: &manifest,
            id: Some("p"),
            at: Timestamp::default(),
            inputs: &[tensor("x", rows, &x)],
            outputs: &[tensor("y", rows, scores)],
        });
    }

    fn numbers(received: &Receiver<Row>) -> Vec<usize> {
        received.try_iter().map(|row| row.number).collect()
    }

    #[test]
    fn a_full_queue_drops_counts_and_gives_the_place_back() {
        let (taps, tap, received) = tap(Sampling::Every(1), 3);
        offer(&taps, "m", b"bundle", &[0.5; 5]);
        assert_eq!((numbers(&received), tap.take_dropped()), (vec![0, 1], 3));
        assert!(!tap.is_dry());
        offer(&taps, "m", b"bundle", &[0.5; 5]);
        assert_eq!(
            (numbers(&received), tap.take_dropped()),
            (vec![0], 0),
            "one more may pass, and no other is asked for"
        );
        assert!(!tap.is_dry(), "three are still on their way");
        (0..3).for_each(|_| tap.arrived());
        assert!(tap.is_dry());
    }

    #[test]
    fn only_what_was_asked_for_passes_and_only_allowed_columns() {
        let (taps, _tap, received) = tap(Sampling::Every(4), 10);
        offer(&taps, "m", b"other", &[0.5]);
        offer(&taps, "n", b"bundle", &[0.5]);
        assert!(numbers(&received).is_empty());
        offer(&taps, "m", b"bundle", &[0.5; 6]);
        let rows: Vec<Row> = received.try_iter().collect();
        assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), [0, 4]);
        assert_eq!((&rows[1].inputs, &rows[1].outputs["y"]), (&vec![json!(4.0)], &vec![json!(0.5)]));

        let band = Sampling::Score(ScoreBand { low_milli: 400, high_milli: 600 });
        let (taps, tap, received) = self::tap(band, 10);
        offer(&taps, "m", b"bundle", &[0.39, 0.41, 0.61, 0.59]);
        assert_eq!(numbers(&received), [1, 3]);
        tap.close();
        offer(&taps, "m", b"bundle", &[0.5]);
        assert!(numbers(&received).is_empty());
    }
}
