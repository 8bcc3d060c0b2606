//! Remembers predictions until their labels arrive, and sums how wrong they were.
//!
//! ```text
//!   remember(request, rows) ──> [ ring, oldest first out ]
//!   find(request, row) ──> Found::Waiting(prediction) | Unknown | Late | Repeated    the caller asks `previous`
//!   settle(request, row, label, previous) ──> sums per (bundle, previous, world day) ──take_blocks()──> report
//! ```
//!
//! The loss is the squared error (for probabilities the Brier score). It is charged to the bundle that *answered*, on
//! the world day of its prediction. A label that was found but never settled (its sender hung up) is still waited for.
//! Only sums leave this module, and none of fewer than `k` labels: those wait, and join the next day of the same bundles
//! if theirs brings no more. It runs no model, reads no clock, takes no lock.

mod loss;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::drift::Floor;
use muster_protocol::ids::{Digest, SlotName};
use muster_protocol::message::LabelBlock;
use muster_protocol::message::report::PairedLoss;
use muster_protocol::time::Timestamp;

use crate::oip::NamedTensor;

pub use loss::{Prediction, Scored};

/// A world day.
const DAY: Duration = Duration::from_hours(24);
/// Blocks that wait for a report; a box that reports holds a handful.
const BLOCKS_MAX: usize = 4096;
/// Rows whose inputs are larger than this are remembered without them, so they cannot be paired.
const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Bookkeeping of one remembered row, roughly.
const ROW_OVERHEAD_BYTES: usize = 160;

/// How much is remembered, per slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLimits {
    pub rows: usize,
    pub bytes: usize,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self { rows: 50_000, bytes: 64 * 1024 * 1024 }
    }
}

/// The predictions of one slot.
#[derive(Debug)]
pub struct Predictions {
    slot: SlotName,
    limits: RingLimits,
    floor: Floor,
    /// Oldest first; the first has number `first`.
    ring: VecDeque<Entry>,
    first: u64,
    bytes: usize,
    index: BTreeMap<(Arc<str>, u32), u64>,
    /// Requests that the ring let go of, oldest first: their labels are late, not unknown.
    gone: VecDeque<Arc<str>>,
    gone_index: BTreeSet<Arc<str>>,
    blocks: BTreeMap<BlockKey, LabelBlock>,
}

type BlockKey = (Timestamp, Digest, Option<Digest>);

#[derive(Debug)]
struct Entry {
    request: Arc<str>,
    row: u32,
    bundle: Digest,
    at: Timestamp,
    prediction: Prediction,
    input: Option<Arc<[NamedTensor]>>,
    settled: bool,
}

/// A prediction that waits for its label.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    pub bundle: Digest,
    /// The row as a batch of one, if it was small enough to keep.
    pub input: Option<Arc<[NamedTensor]>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    Waiting(Waiting),
    /// No such request or row was answered here, or it carried no id.
    Unknown,
    /// Its prediction was forgotten already.
    Late,
    /// Its label came before.
    Repeated,
}

/// What became of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    Matched,
    Unknown,
    Late,
    Repeated,
    /// The model has no such class.
    NotALabel,
}

impl Entry {
    /// What it counts of the bound: less once its input is taken out.
    fn bytes(&self) -> usize {
        self.input.as_deref().map_or(0, input_bytes) + self.prediction.heap_bytes() + ROW_OVERHEAD_BYTES
    }
}

impl Predictions {
    pub fn new(slot: SlotName, limits: RingLimits, floor: Floor) -> Self {
        let (ring, index, gone, gone_index, blocks) = Default::default();
        Self { slot, limits, floor, ring, first: 0, bytes: 0, index, gone, gone_index, blocks }
    }

    /// Keeps every row of an answered request. An id that is used again replaces its older rows.
    pub fn remember(
        &mut self,
        request: &str,
        bundle: Digest,
        at: Timestamp,
        inputs: &[NamedTensor],
        predictions: Vec<Prediction>,
    ) {
        let request: Arc<str> = Arc::from(request);
        let batch = predictions.len();
        for ((row, prediction), number) in predictions.into_iter().enumerate().zip(0_u32..) {
            let input = rows_of(inputs, row, batch);
            self.index.insert((Arc::clone(&request), number), self.first + self.ring.len() as u64);
            let request = Arc::clone(&request);
            let entry = Entry { request, row: number, bundle, at, prediction, input, settled: false };
            self.bytes += entry.bytes();
            self.ring.push_back(entry);
            while self.ring.len() > self.limits.rows
                || (self.bytes > self.limits.bytes && self.ring.len() > 1)
            {
                self.forget_oldest();
            }
        }
    }

    /// Finds the prediction that a label is for.
    pub fn find(&self, request: &str, row: u32) -> Found {
        let request: Arc<str> = Arc::from(request);
        let number = self.index.get(&(Arc::clone(&request), row));
        match number.and_then(|&number| self.ring.get(self.place(number)?)) {
            Some(entry) if entry.settled => Found::Repeated,
            Some(entry) => Found::Waiting(Waiting { bundle: entry.bundle, input: entry.input.clone() }),
            None if self.gone_index.contains(&request) => Found::Late,
            None => Found::Unknown,
        }
    }

    /// Adds a label to its day's sums, once. `previous` is what the bundle before answers to the same input.
    pub fn settle(
        &mut self,
        request: &str,
        row: u32,
        label: f64,
        previous: Option<(Digest, &Prediction)>,
    ) -> Settled {
        match self.find(request, row) {
            Found::Waiting(_) => {}
            Found::Unknown => return Settled::Unknown,
            Found::Late => return Settled::Late,
            Found::Repeated => return Settled::Repeated,
        }
        let number = self.index.get(&(Arc::from(request), row)).copied();
        let Some(entry) = number.and_then(|number| self.place(number)).and_then(|at| self.ring.get_mut(at))
        else {
            return Settled::Unknown;
        };
        let Some(scored) = entry.prediction.score(label) else { return Settled::NotALabel };
        entry.settled = true;
        // The input is not needed twice, and it is the larger part.
        self.bytes -= entry.input.take().as_deref().map_or(0, input_bytes);
        let (bundle, day) = (entry.bundle, entry.at.floor_to(DAY));
        self.add(bundle, day, scored, previous);
        Settled::Matched
    }

    fn place(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    fn add(
        &mut self,
        bundle: Digest,
        day: Timestamp,
        scored: Scored,
        previous: Option<(Digest, &Prediction)>,
    ) {
        let paired =
            previous.and_then(|(bundle, prediction)| Some((bundle, prediction.score(scored.given)?.loss)));
        let key = (day, bundle, paired.map(|(bundle, _)| bundle));
        if self.blocks.len() == BLOCKS_MAX && !self.blocks.contains_key(&key) {
            self.blocks.pop_first();
        }
        let slot = self.slot.clone();
        let block = self.blocks.entry(key).or_insert_with(|| LabelBlock {
            slot,
            bundle,
            day,
            n: 0,
            label_sum: 0.0,
            prediction_sum: 0.0,
            loss_sum: 0.0,
            loss_sum_sq: 0.0,
            against: None,
        });
        block.n += 1;
        block.label_sum += scored.label;
        block.prediction_sum += scored.prediction;
        block.loss_sum += scored.loss;
        block.loss_sum_sq += scored.loss * scored.loss;
        if let Some((bundle, loss)) = paired {
            let empty = PairedLoss { bundle, n: 0, loss_sum: 0.0, diff_sum: 0.0, diff_sum_sq: 0.0 };
            let against = block.against.get_or_insert(empty);
            let difference = scored.loss - loss;
            against.n += 1;
            against.loss_sum += loss;
            against.diff_sum += difference;
            against.diff_sum_sq += difference * difference;
        }
    }

    /// Whether there are sums that may be told.
    pub fn has_blocks(&self) -> bool {
        self.blocks.values().any(|block| block.n >= self.floor.rows())
    }

    /// Hands over at most `limit` blocks that may be told, oldest day first.
    pub fn take_blocks(&mut self, limit: usize) -> Vec<LabelBlock> {
        self.join_few();
        let told = self.blocks.iter().filter(|(_, block)| block.n >= self.floor.rows());
        let told: Vec<BlockKey> = told.map(|(&key, _)| key).take(limit).collect();
        told.iter().filter_map(|key| self.blocks.remove(key)).collect()
    }

    /// Moves a block of few labels to the next day that has any of the same bundles.
    fn join_few(&mut self) {
        let keys: Vec<BlockKey> = self.blocks.keys().copied().collect();
        for (at, key) in keys.iter().enumerate() {
            let next = keys.iter().skip(at + 1).find(|next| (next.1, next.2) == (key.1, key.2));
            let few = self.blocks.get(key).is_some_and(|block| self.floor.is_few(block.n));
            if let Some(next) = next.filter(|_| few)
                && let Some(block) = self.blocks.remove(key)
                && let Some(next) = self.blocks.get_mut(next)
            {
                add_sums(next, &block);
            }
        }
    }

    fn forget_oldest(&mut self) {
        let Some(entry) = self.ring.pop_front() else { return };
        self.bytes -= entry.bytes();
        let key = (entry.request, entry.row);
        // Unless the same id was answered again and the index points to the newer row.
        if self.index.get(&key) == Some(&self.first) {
            self.index.remove(&key);
        }
        self.first += 1;
        if self.gone_index.insert(Arc::clone(&key.0)) {
            self.gone.push_back(key.0);
            if self.gone.len() > self.limits.rows
                && let Some(oldest) = self.gone.pop_front()
            {
                self.gone_index.remove(&oldest);
            }
        }
    }
}

fn add_sums(block: &mut LabelBlock, more: &LabelBlock) {
    block.n += more.n;
    block.label_sum += more.label_sum;
    block.prediction_sum += more.prediction_sum;
    block.loss_sum += more.loss_sum;
    block.loss_sum_sq += more.loss_sum_sq;
    // Blocks of one key are paired with the same bundle, all their labels or none.
    if let (Some(against), Some(more)) = (&mut block.against, &more.against) {
        against.n += more.n;
        against.loss_sum += more.loss_sum;
        against.diff_sum += more.diff_sum;
        against.diff_sum_sq += more.diff_sum_sq;
    }
}

/// One row of every input; None where an input is not batched by rows or the row is too large.
fn rows_of(inputs: &[NamedTensor], row: usize, batch: usize) -> Option<Arc<[NamedTensor]>> {
    let rows = inputs.iter().map(|NamedTensor { name, tensor }| {
        if tensor.rows() != batch {
            return None;
        }
        Some(NamedTensor { name: name.clone(), tensor: tensor.row(row)? })
    });
    let rows: Arc<[NamedTensor]> = rows.collect::<Option<Vec<_>>>()?.into();
    (input_bytes(&rows) <= INPUT_BYTES_MAX).then_some(rows)
}

fn input_bytes(input: &[NamedTensor]) -> usize {
    input
        .iter()
        .map(|input| input.tensor.values.size_bytes() + size_of::<NamedTensor>() + input.name.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oip::{Tensor, Values};

    fn ring(rows: usize, bytes: usize) -> Predictions {
        Predictions::new("m".parse().unwrap(), RingLimits { rows, bytes }, Floor::LEAST)
    }

    fn inputs(values: &[f32]) -> Vec<NamedTensor> {
        let tensor = Tensor { shape: vec![values.len(), 1], values: Values::Fp32(values.to_vec()) };
        vec![NamedTensor { name: "x".to_owned(), tensor }]
    }

    fn ask(ring: &mut Predictions, request: &str, bundle: &[u8], hour: i64, predictions: &[f64]) {
        let values: Vec<f32> = (0_u8..).map(f32::from).take(predictions.len()).collect();
        let at = Timestamp::from_seconds(hour * 3600);
        let predictions = predictions.iter().map(|&p| Prediction::Number(p)).collect();
        ring.remember(request, Digest::of(bundle), at, &inputs(&values), predictions);
    }

    fn waiting(ring: &Predictions, request: &str, row: u32) -> Waiting {
        match ring.find(request, row) {
            Found::Waiting(waiting) => waiting,
            found @ (Found::Unknown | Found::Late | Found::Repeated) => panic!("{request}/{row}: {found:?}"),
        }
    }

    /// What is kept of the labels, told or not.
    fn kept(ring: &Predictions) -> Vec<&LabelBlock> {
        ring.blocks.values().collect()
    }

    #[test]
    fn sums_are_exact_and_paired() {
        let mut ring = ring(100, 1 << 20);
        let previous = Prediction::Number(0.5);
        for copy in 0..5 {
            let [r1, r2, r3] = ["r1", "r2", "r3"].map(|name| format!("{name}-{copy}"));
            ask(&mut ring, &r1, b"new", 1, &[0.25, 0.75]);
            ask(&mut ring, &r2, b"new", 25, &[0.5]);
            ask(&mut ring, &r3, b"old", 2, &[1.0]);
            for (request, row, label, paired) in
                [(&r1, 0, 1.0, true), (&r1, 1, 1.0, true), (&r2, 0, 0.0, true), (&r3, 0, 0.0, false)]
            {
                let found = waiting(&ring, request, row);
                let input = inputs(&[f32::from(u8::try_from(row).unwrap())]);
                assert_eq!(found.input.as_deref(), Some(&input[..]));
                let previous = paired.then_some((Digest::of(b"old"), &previous));
                assert_eq!(ring.settle(request, row, label, previous), Settled::Matched);
            }
        }
        let blocks = ring.take_blocks(64);
        assert_eq!(blocks.len(), 3);
        let of = |bundle: &[u8], day: i64| {
            let day = Timestamp::from_seconds(day * 86_400);
            blocks.iter().find(|block| block.bundle == Digest::of(bundle) && block.day == day).unwrap()
        };
        let first = of(b"new", 0);
        // Losses 0.5625 and 0.0625 against 0.25 and 0.25, five times.
        assert_eq!((first.n, first.label_sum, first.prediction_sum, first.loss_sum), (10, 10.0, 5.0, 3.125));
        let squares = 0.5625 * 0.5625 + 0.0625 * 0.0625;
        assert_eq!((first.day, first.loss_sum_sq), (Timestamp::default(), 5.0 * squares));
        let against = first.against.as_ref().unwrap();
        assert_eq!((against.bundle, against.n, against.loss_sum), (Digest::of(b"old"), 10, 2.5));
        let squares = 0.3125 * 0.3125 + 0.1875 * 0.1875;
        assert_eq!((against.diff_sum, against.diff_sum_sq), (0.625, 5.0 * squares));
        let second = of(b"new", 1);
        assert_eq!((second.n, second.loss_sum, second.against.as_ref().unwrap().diff_sum), (5, 1.25, 0.0));
        let old = of(b"old", 0);
        assert_eq!((old.n, old.loss_sum, old.against.as_ref()), (5, 5.0, None));
        assert!(ring.take_blocks(64).is_empty());
    }

    #[test]
    fn few_labels_wait_for_more_and_join_the_next_day() {
        let mut ring = ring(100, 1 << 20);
        let mut label = |day: i64, count: usize, previous: &[u8]| {
            let request = format!("{day}-{count}-{previous:?}");
            ask(&mut ring, &request, b"b", day * 24, &vec![0.5; count]);
            for row in 0..u32::try_from(count).unwrap() {
                let previous =
                    (!previous.is_empty()).then_some((Digest::of(previous), &Prediction::Number(0.0)));
                ring.settle(&request, row, 1.0, previous);
            }
            let told =
                ring.take_blocks(64).into_iter().map(|block| (block.day.as_millis() / 86_400_000, block.n));
            told.collect::<Vec<_>>()
        };
        assert_eq!(label(1, 4, b""), vec![]);
        assert_eq!(label(1, 1, b""), vec![(1, 5)]);
        // The second day's two labels are told with the third's; pairs are another block and wait for their own.
        assert_eq!(label(2, 2, b""), vec![]);
        assert_eq!(label(3, 4, b"p"), vec![]);
        assert_eq!(label(3, 3, b""), vec![(3, 5)]);
        assert_eq!(label(9, 6, b"p"), vec![(9, 10)]);
        assert_eq!((ring.has_blocks(), kept(&ring).len()), (false, 0));
    }

    #[test]
    fn labels_that_match_nothing_say_why() {
        let mut ring = ring(2, 1 << 20);
        ask(&mut ring, "a", b"b", 0, &[0.5]);
        ask(&mut ring, "b", b"b", 0, &[0.5, 0.5]);
        let mut check =
            |request, row, expect| assert_eq!(ring.settle(request, row, 1.0, None), expect, "{request}");
        check("a", 0, Settled::Late);
        check("c", 0, Settled::Unknown);
        check("b", 2, Settled::Unknown);
        check("b", 1, Settled::Matched);
        check("b", 1, Settled::Repeated);
        assert_eq!((kept(&ring)[0].n, ring.take_blocks(9)), (1, vec![]));
    }

    #[test]
    fn an_id_used_again_means_its_newest_answer() {
        let mut ring = ring(2, 1 << 20);
        ask(&mut ring, "a", b"b", 0, &[0.25]);
        ask(&mut ring, "a", b"b", 0, &[0.75]);
        ask(&mut ring, "z", b"b", 0, &[0.5]);
        ring.settle("a", 0, 0.0, None);
        let blocks = kept(&ring);
        assert_eq!((blocks.len(), blocks[0].prediction_sum), (1, 0.75));
    }

    #[test]
    fn memory_is_bounded() {
        let mut ring = ring(1_000_000, 100_000);
        for i in 0..5_000 {
            ask(&mut ring, &format!("r{i}"), b"b", 0, &[0.5]);
        }
        assert!(ring.bytes <= 100_000 && ring.ring.len() < 600, "{} rows", ring.ring.len());
        assert_eq!(ring.index.len(), ring.ring.len());
        assert!(waiting(&ring, "r4999", 0).input.is_some());
        assert_eq!(ring.find("r0", 0), Found::Late);
        let large = vec![NamedTensor {
            name: "x".to_owned(),
            tensor: Tensor { shape: vec![1, 20_000], values: Values::Fp32(vec![0.0; 20_000]) },
        }];
        let at = Timestamp::from_seconds(0);
        ring.remember("large", Digest::of(b"b"), at, &large, vec![Prediction::Number(0.5)]);
        assert_eq!(waiting(&ring, "large", 0).input, None);
    }

    #[test]
    fn blocks_are_handed_over_in_portions() {
        let mut ring = ring(5_000, 1 << 22);
        for day in 0..70_i64 {
            let request = format!("r{day}");
            ask(&mut ring, &request, b"b", day * 24, &[0.5; 5]);
            (0..5).for_each(|row| assert_eq!(ring.settle(&request, row, 1.0, None), Settled::Matched));
        }
        let first = ring.take_blocks(64);
        assert_eq!((first.len(), first[0].day, ring.take_blocks(64).len()), (64, Timestamp::default(), 6));
    }
}
