//! Counts what a bundle sees and says, per stream and pane of world time.
//!
//! ```text
//!   observe(now, tensors) ──> one Counter per stream ──pane over, and full──> disclosed ──take(now)──> report
//!                                                    └─window over──────────┘
//! ```
//!
//! Only counts are kept: no value of a patient outlives the call that counted it. Nothing here judges, reads a clock or
//! locks; the owner brings `now`. A value belongs to the pane in which it *arrives*: a pane that was closed never
//! changes again.
//!
//! A pane with few rows goes on until it is full or its window ends, and what is then still few stays in its counter for
//! the next: see `muster_protocol::drift::Floor` and docs/privacy.md. A box that is switched off hard loses what it
//! counts, so at worst a window of a quiet ward.

mod compared;
mod stats;
mod tally;

use std::collections::VecDeque;
use std::time::Duration;

use muster_protocol::drift::{Counter, Counts, Floor, Reference};
use muster_protocol::ids::{Digest, SlotName, StreamName};
use muster_protocol::manifest::{Manifest, ReferenceFile, Source};
use muster_protocol::message::Pane;
use muster_protocol::time::Timestamp;

use crate::oip::{NamedTensor, Tensor};

pub use compared::{Compared, Pair};
pub use stats::{Outcome, Stats};
pub use tally::{Durations, Spent, Tally};

/// Counts of streams in one report: what surely fits (a stream takes at most some 220 bytes).
pub const STREAMS_PER_REPORT: usize = 1_800;
/// Closed panes that wait for a report; the oldest goes when there are more.
const CLOSED_MAX: usize = 1024;

/// The counting of one bundle in one slot.
#[derive(Debug)]
pub struct Panes {
    bundle: Digest,
    floor: Floor,
    /// The least length of a pane; each is a multiple of it.
    length: Duration,
    /// The most.
    window: Duration,
    streams: Vec<Stream>,
    /// What is being counted, if anything was.
    open: Option<Open>,
    /// End of the last closed pane: no pane begins before it.
    closed_to: Timestamp,
    closed: VecDeque<Closed>,
    dropped: u64,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    from: Timestamp,
    /// End of the least pane in which the last row arrived.
    to: Timestamp,
    rows: u64,
}

#[derive(Debug)]
struct Closed {
    from: Timestamp,
    to: Timestamp,
    streams: Vec<Counts>,
}

#[derive(Debug)]
struct Stream {
    source: Source,
    reference: Reference,
    counter: Counter,
}

#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    #[error("the bundle monitors the stream '{0}' but its drift reference does not have it")]
    NoReference(StreamName),
    #[error("the bundle monitors '{0}' as {1}, but its drift reference is of the other kind")]
    Kind(StreamName, &'static str),
}

impl Panes {
    /// Ready to count the manifest's streams, into the bins that the signed reference fixes.
    pub fn new(
        bundle: Digest,
        manifest: &Manifest,
        reference: Option<&ReferenceFile>,
    ) -> Result<Self, MeasureError> {
        let streams = manifest.monitoring.streams.iter().map(|stream| {
            let known = reference.and_then(|file| file.streams.get(&stream.name));
            let known = known.ok_or_else(|| MeasureError::NoReference(stream.name.clone()))?;
            let counter = Counter::new(&known.reference);
            match (&stream.source, &counter) {
                (Source::Numeric { .. }, Counter::Numeric(_))
                | (Source::OneHot { .. }, Counter::Categorical(_)) => {
                    Ok(Stream { source: stream.source.clone(), reference: known.reference.clone(), counter })
                }
                (Source::Numeric { .. }, Counter::Categorical(_)) => {
                    Err(MeasureError::Kind(stream.name.clone(), "numbers"))
                }
                (Source::OneHot { .. }, Counter::Numeric(_)) => {
                    Err(MeasureError::Kind(stream.name.clone(), "categories"))
                }
            }
        });
        let streams = streams.collect::<Result<Vec<_>, _>>()?;
        let [length, window] =
            [manifest.monitoring.pane_s, manifest.monitoring.window_s].map(Duration::from_secs);
        let closed_to = Timestamp::from_millis(i64::MIN);
        let (floor, closed) = (Floor::default(), VecDeque::new());
        Ok(Self { bundle, floor, length, window, streams, open: None, closed_to, closed, dropped: 0 })
    }

    /// Tells nothing of fewer rows than this.
    #[must_use]
    pub fn floor(self, floor: Floor) -> Self {
        Self { floor, ..self }
    }

    /// Counts one answered request, inputs and outputs alike. `now` is world time.
    pub fn observe(&mut self, now: Timestamp, inputs: &[NamedTensor], outputs: &[NamedTensor]) {
        if self.streams.is_empty() {
            return;
        }
        self.forget_the_future(now);
        self.close_past(now);
        // A clock that stepped back counts on in the open pane, or in the next: the earlier one may have been sent.
        let from = now.floor_to(self.length).max(self.closed_to);
        let open = self.open.get_or_insert(Open { from, to: from, rows: 0 });
        open.to = open.to.max(from.plus(self.length));
        open.rows += inputs.iter().map(|input| input.tensor.rows()).max().unwrap_or(0) as u64;
        for stream in &mut self.streams {
            let name = stream.source.tensor();
            let tensor = inputs.iter().chain(outputs).find(|tensor| tensor.name == name);
            if let Some(NamedTensor { tensor, .. }) = tensor {
                stream.count(tensor);
            }
        }
    }

    /// Takes at most `limit` finished panes, oldest first.
    pub fn take(&mut self, slot: &SlotName, now: Timestamp, limit: usize) -> Vec<Pane> {
        self.close_past(now);
        let count = limit.min(self.closed.len());
        let (slot, bundle) = (slot.clone(), self.bundle);
        let taken = self.closed.drain(..count);
        taken
            .map(|Closed { from, to, streams }| Pane { slot: slot.clone(), bundle, from, to, streams })
            .collect()
    }

    /// Nothing is being counted and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.open.is_none() && self.closed.is_empty()
    }

    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Panes that were given up because nobody took them, since this was last asked.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Closes what is being counted, whether it is full or not: the box is about to stop.
    pub fn close(&mut self) {
        if let Some(open) = self.open {
            self.close_at(open, open.to);
        }
    }

    /// Panes of a clock that was ahead by more than a window: what is counted is counted now, not when that time comes.
    fn forget_the_future(&mut self, now: Timestamp) {
        let soon = now.plus(self.window);
        if self.closed_to > soon {
            self.closed_to = now.floor_to(self.length);
        }
        if let Some(open) = self.open.as_mut().filter(|open| open.from > soon) {
            open.from = now.floor_to(self.length);
            open.to = open.from.plus(self.length);
        }
    }

    fn close_past(&mut self, now: Timestamp) {
        let Some(open) = self.open else { return };
        let window_end = open.from.floor_to(self.window).plus(self.window);
        if now >= window_end {
            self.close_at(open, window_end);
        } else if now >= open.to && open.rows >= self.floor.full() {
            self.close_at(open, open.to);
        }
    }

    fn close_at(&mut self, open: Open, to: Timestamp) {
        self.open = None;
        self.closed_to = to;
        let streams: Vec<Counts> =
            self.streams.iter_mut().map(|stream| stream.take_disclosed(self.floor)).collect();
        if streams.iter().all(|counts| counts.rows() == 0) {
            return;
        }
        if self.closed.len() == CLOSED_MAX {
            self.closed.pop_front();
            self.dropped += 1;
        }
        self.closed.push_back(Closed { from: open.from, to, streams });
    }
}

impl Stream {
    /// What may be told now. Of nothing, the counter goes on.
    fn take_disclosed(&mut self, floor: Floor) -> Counts {
        let told = self.counter.counts().disclosed(&self.reference, floor);
        if told.rows() > 0 {
            self.counter.take();
        }
        told
    }

    fn count(&mut self, tensor: &Tensor) {
        let row_len = tensor.row_len();
        let rows = tensor.rows();
        match (&self.source, &mut self.counter) {
            (Source::Numeric { column, null_when_column, .. }, Counter::Numeric(counter)) => {
                for start in (0..rows).map(|row| row * row_len) {
                    let null =
                        null_when_column.is_some_and(|flag| cell(tensor, start, flag, row_len) != Some(0.0));
                    let value = cell(tensor, start, *column, row_len).filter(|_| !null);
                    counter.observe(value.map_or(f32::NAN, narrow));
                }
            }
            (Source::OneHot { first_column, categories, .. }, Counter::Categorical(counter)) => {
                for start in (0..rows).map(|row| row * row_len) {
                    let set = |&at: &usize| {
                        cell(tensor, start, first_column + at, row_len).is_some_and(|value| value > 0.5)
                    };
                    let mut hot = (0..categories.len()).filter(set);
                    match (hot.next(), hot.next()) {
                        (None, _) => counter.observe(None),
                        (Some(at), None) => counter.observe(categories.get(at).map(String::as_str)),
                        // No category spells like this: an input the model was never trained on.
                        (Some(_), Some(_)) => counter.observe_index(Some(usize::MAX)),
                    }
                }
            }
            // Ruled out when the streams were made.
            (Source::Numeric { .. }, Counter::Categorical(_))
            | (Source::OneHot { .. }, Counter::Numeric(_)) => {}
        }
    }
}

fn cell(tensor: &Tensor, start: usize, column: usize, row_len: usize) -> Option<f64> {
    if column < row_len { tensor.values.get(start + column) } else { None }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "references are binned in f32, as models see their inputs"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use muster_protocol::drift::{OverDispersion, Reference};
    use muster_protocol::manifest::StreamReference;
    use serde_json::json;

    use super::*;
    use crate::oip::Values;

    fn manifest() -> Manifest {
        let manifest = json!({
            "schema": "muster-bundle/1", "model": "m", "version": "1", "created": "2026-11-24T02:00:00Z",
            "task": "binary",
            "signature": {
                "inputs": [{ "name": "x", "datatype": "FP32", "shape": [-1, 4] }],
                "outputs": [{ "name": "y", "datatype": "FP32", "shape": [-1, 1] }],
            },
            "variants": [{ "id": "v", "format": "onnx", "file": "m.onnx", "select": { "device": "CPU" }, "inference_precision": "f32" }],
            "monitoring": { "pane_s": 600, "window_s": 6000, "streams": [
                { "name": "age", "kind": "numeric", "tensor": "x", "column": 0, "null_when_column": 1 },
                { "name": "ward", "kind": "one_hot", "tensor": "x", "first_column": 2, "categories": ["b", "a"] },
                { "name": "score", "kind": "numeric", "tensor": "y", "column": 0 },
            ] },
            "files": [{ "path": "m.onnx", "length": 1, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" }],
        });
        Manifest::parse(manifest.to_string().as_bytes()).unwrap()
    }

    fn references() -> [Reference; 3] {
        let ages: Vec<f32> = (0_u8..100).map(f32::from).collect();
        let scores: Vec<f32> = (0_u8..100).map(|i| f32::from(i) / 100.0).collect();
        let wards = (0..30).map(|i| Some(if i % 3 == 0 { "a" } else { "b" }));
        [Reference::numeric(&ages), Reference::categorical(wards), Reference::numeric(&scores)]
            .map(Result::unwrap)
    }

    fn reference_file() -> ReferenceFile {
        let names = ["age", "ward", "score"];
        let streams = names.into_iter().zip(references()).map(|(name, reference)| {
            let over_dispersion = OverDispersion::default();
            (name.parse().unwrap(), StreamReference { reference, over_dispersion, merged: Vec::new() })
        });
        ReferenceFile {
            schema: "muster-reference/1".to_owned(),
            streams: streams.collect::<BTreeMap<_, _>>(),
        }
    }

    fn panes() -> Panes {
        Panes::new(Digest::of(b"bundle"), &manifest(), Some(&reference_file())).unwrap()
    }

    fn take(panes: &mut Panes, now: Timestamp, limit: usize) -> Vec<Pane> {
        panes.take(&"m".parse().unwrap(), now, limit)
    }

    fn batch(rows: &[([f32; 4], f32)]) -> (Vec<NamedTensor>, Vec<NamedTensor>) {
        let named = |name: &str, columns: usize, values: Vec<f32>| {
            let shape = vec![rows.len(), columns];
            vec![NamedTensor {
                name: name.to_owned(),
                tensor: Tensor { shape, values: Values::Fp32(values) },
            }]
        };
        let x = rows.iter().flat_map(|(x, _)| *x).collect();
        (named("x", 4, x), named("y", 1, rows.iter().map(|(_, y)| *y).collect()))
    }

    /// Counts directly, with nothing of this module.
    fn direct(rows: &[([f32; 4], f32)]) -> Vec<Counts> {
        let mut counters = references().map(|reference| Counter::new(&reference));
        for (x, y) in rows {
            let [Counter::Numeric(age), Counter::Categorical(ward), Counter::Numeric(score)] = &mut counters
            else {
                panic!("kinds");
            };
            age.observe(if x[1] == 0.0 { x[0] } else { f32::NAN });
            match (x[2] > 0.5, x[3] > 0.5) {
                (true, false) => ward.observe(Some("b")),
                (false, true) => ward.observe(Some("a")),
                (false, false) => ward.observe(None),
                (true, true) => ward.observe(Some("unheard of")),
            }
            score.observe(*y);
        }
        counters.iter().map(Counter::counts).collect()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_800_006_000 + seconds)
    }

    /// So many rows that no bin of the references is small.
    fn crowd(first: u16, count: u16) -> Vec<([f32; 4], f32)> {
        let row = |i: u16| {
            let bit = |of: u16| f32::from(u8::from(i.is_multiple_of(of)));
            ([f32::from(i % 100), bit(9), bit(2), bit(3)], f32::from(i % 100) / 100.0)
        };
        (first..first + count).map(row).collect()
    }

    #[test]
    fn panes_hold_exactly_what_arrived_in_them() {
        let rows = crowd(0, 1500);
        let mut panes = panes();
        let (first, rest) = rows.split_at(600);
        let (second, third) = rest.split_at(400);
        for (chunk, seconds) in [(&first[..500], 1), (&first[500..], 599), (second, 600), (third, 1850)] {
            let (x, y) = batch(chunk);
            panes.observe(at(seconds), &x, &y);
        }
        let closed = take(&mut panes, at(2400), 10);
        let spans: Vec<_> = closed.iter().map(|pane| (pane.from, pane.to)).collect();
        assert_eq!(spans, [(at(0), at(600)), (at(600), at(1200)), (at(1800), at(2400))]);
        for (pane, rows) in closed.iter().zip([first, second, third]) {
            for ((told, counts), reference) in pane.streams.iter().zip(direct(rows)).zip(references()) {
                assert_eq!(told, &counts.disclosed(&reference, Floor::LEAST));
                assert_eq!(told.bins(), counts.bins(), "so many rows are told as they are");
            }
        }
        assert!(panes.is_idle());
    }

    #[test]
    fn a_clock_that_was_far_ahead_dates_nothing_into_the_future() {
        let mut panes = panes();
        let arrive = |panes: &mut Panes, seconds| {
            let (x, y) = batch(&crowd(0, 600));
            panes.observe(at(seconds), &x, &y);
        };
        let day = 86_400;
        arrive(&mut panes, day);
        assert_eq!(take(&mut panes, at(day + 600), 10).len(), 1);
        arrive(&mut panes, day + 600);
        arrive(&mut panes, 20);
        let told = take(&mut panes, at(600), 10);
        assert_eq!(told.iter().map(|pane| (pane.from, pane.to)).collect::<Vec<_>>(), [(at(0), at(600))]);
        assert_eq!(told[0].streams[0].rows(), 1200, "nothing that was counted is lost");
    }

    #[test]
    fn a_quiet_ward_is_told_once_a_window_and_fewer_than_k_not_at_all() {
        let mut panes = panes();
        let arrive = |panes: &mut Panes, seconds, count| {
            let (x, y) = batch(&crowd(0, count));
            panes.observe(at(seconds), &x, &y);
        };
        arrive(&mut panes, 10, 30);
        arrive(&mut panes, 3000, 30);
        assert_eq!(take(&mut panes, at(5999), 10).len(), 0);
        let told = take(&mut panes, at(6000), 10);
        assert_eq!((told.len(), told[0].from, told[0].to), (1, at(0), at(6000)));
        assert_eq!(told[0].streams.iter().map(Counts::rows).collect::<Vec<_>>(), [60, 60, 60]);
        // Four rows are not told, and are in the next window's pane.
        arrive(&mut panes, 6_500, 4);
        assert_eq!((take(&mut panes, at(12_000), 10).len(), panes.is_idle()), (0, true));
        arrive(&mut panes, 12_000, 6);
        let told = take(&mut panes, at(18_000), 10);
        assert_eq!((told.len(), told[0].from, told[0].streams[2].rows()), (1, at(12_000), 10));
        // A box that stops tells what it may, before its time.
        arrive(&mut panes, 18_000, 6);
        panes.close();
        assert_eq!(take(&mut panes, at(18_001), 10)[0].to, at(18_600));
    }

    #[test]
    fn a_closed_pane_never_changes() {
        let mut panes = panes();
        let (x, y) = batch(&crowd(0, 200));
        panes.observe(at(10), &x, &y);
        assert!(take(&mut panes, at(599), 10).is_empty() && !panes.is_idle());
        assert_eq!(take(&mut panes, at(600), 10).len(), 1);
        // The clock steps back into the closed pane: what arrives belongs to the next one.
        panes.observe(at(5), &x, &y);
        panes.observe(at(700), &x, &y);
        let later = take(&mut panes, at(1200), 10);
        assert_eq!((later.len(), later[0].from, later[0].streams[2].n()), (1, at(600), 400));
    }

    #[test]
    fn what_nobody_takes_is_bounded_and_counted() {
        let mut panes = panes();
        let (x, y) = batch(&crowd(0, 200));
        for pane in 0..=1100 {
            panes.observe(at(pane * 600), &x, &y);
        }
        assert_eq!(take(&mut panes, at(0), 2000).len(), CLOSED_MAX);
        assert_eq!((panes.take_dropped(), panes.take_dropped()), (76, 0));
    }

    #[test]
    fn references_must_fit() {
        let new = |reference: Option<&ReferenceFile>| {
            Panes::new(Digest::of(b"b"), &manifest(), reference).map(|_| ()).unwrap_err().to_string()
        };
        assert!(new(None).contains("'age'"));
        let mut file = reference_file();
        let (age, ward) = ("age".parse().unwrap(), "ward".parse().unwrap());
        file.streams.insert(age, file.streams.get(&ward).unwrap().clone());
        assert!(new(Some(&file)).contains("'age' as numbers"));
    }
}
