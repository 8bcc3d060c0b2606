//! Small summaries of many values, the same whatever the order they came in.
//!
//! [`Numbers`] is a histogram whose bins are prefixes of the number's own bits. It begins with every bit, so columns of few
//! values are counted exactly; when there are too many bins, one more bit is left off everywhere, which is adding up
//! neighbours. So two histograms have common bins whatever they were made from, and their counts over these are exact.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use serde::{Deserialize, Serialize};

/// Bins while values come in, and of what is kept.
const BINS_MAX: usize = 8192;
const BINS_KEPT: usize = 512;
/// Values that are sorted before they are counted.
const PENDING_MAX: usize = 8192;
/// Texts counted at once.
const TEXTS_MAX: usize = 4096;
const TEXT_CHARS_MAX: usize = 100;
/// Smallest hashes kept for counting what is different.
const HASHES_MAX: usize = 1024;
/// Hashes kept for telling whether a column repeats itself.
const KEYS_MAX: usize = 30_000_000;

/// Counts of finite numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Bits left off; with none, every bin is one value.
    pub shift: u32,
    /// Bin and rows, ascending. A bin is the number's bits, made to ascend with it, without the last `shift`.
    pub bins: Vec<(u64, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct Numbers {
    histogram: Histogram,
    pending: Vec<u64>,
}

impl Numbers {
    pub(super) fn add(&mut self, value: f64) {
        self.pending.push(key(value) >> self.histogram.shift);
        if self.pending.len() == PENDING_MAX {
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.pending.sort_unstable();
        let counted = self.pending.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u64));
        let counted: Vec<(u64, u64)> = counted.collect();
        self.histogram.bins = merged(&self.histogram.bins, &counted);
        self.pending.clear();
        self.histogram.fit(BINS_MAX);
    }

    pub(super) fn finish(mut self) -> Histogram {
        self.settle();
        self.histogram
    }
}

impl Histogram {
    pub fn rows(&self) -> u64 {
        self.bins.iter().map(|(_, rows)| rows).sum()
    }

    /// Every bin is one value.
    pub fn is_exact(&self) -> bool {
        self.shift == 0
    }

    /// Small enough to be kept.
    #[must_use]
    pub fn kept(mut self) -> Self {
        self.fit(BINS_KEPT);
        self
    }

    /// Leaves bits off until there are no more bins than that.
    fn fit(&mut self, bins_max: usize) {
        while self.bins.len() > bins_max {
            self.coarsen(self.shift + 1);
        }
    }

    fn coarsen(&mut self, shift: u32) {
        let off = shift.saturating_sub(self.shift);
        if off == 0 {
            return;
        }
        let mut bins: Vec<(u64, u64)> = Vec::new();
        for &(bin, rows) in &self.bins {
            let bin = bin.checked_shr(off).unwrap_or(0);
            match bins.last_mut() {
                Some((last, sum)) if *last == bin => *sum += rows,
                Some(_) | None => bins.push((bin, rows)),
            }
        }
        self.bins = bins;
        self.shift = shift;
    }

    /// The value below which this share of the rows lies; straight between a bin's ends. None without rows.
    #[expect(clippy::cast_precision_loss, reason = "a rank among fewer than 2^53 rows")]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = share.clamp(0.0, 1.0) * self.rows().saturating_sub(1) as f64;
        let mut below = 0.0;
        for &(bin, rows) in &self.bins {
            let rows = rows as f64;
            if rank < below + rows {
                let (low, high) = self.ends(bin);
                return Some(low + (high - low) * ((rank - below) / rows));
            }
            below += rows;
        }
        self.bins.last().map(|&(bin, _)| self.ends(bin).1)
    }

    /// A bin's smallest and largest number.
    fn ends(&self, bin: u64) -> (f64, f64) {
        let low = bin << self.shift;
        let high = low | ((1_u64 << self.shift) - 1);
        (number(low), number(high))
    }

    /// The most frequent values with their rows, if every bin is one value.
    pub fn top(&self, limit: usize) -> Vec<(f64, u64)> {
        if !self.is_exact() {
            return Vec::new();
        }
        let mut bins = self.bins.clone();
        bins.sort_by_key(|&(bin, rows)| (std::cmp::Reverse(rows), bin));
        bins.iter().take(limit).map(|&(bin, rows)| (number(bin), rows)).collect()
    }

    /// Both counted over the same bins: about `groups` of them, each with as many rows of `self` as the others.
    pub fn side_by_side(&self, other: &Self, groups: u64) -> (Vec<u64>, Vec<u64>) {
        let (mut one, mut two) = (self.clone(), other.clone());
        let shift = one.shift.max(two.shift);
        one.coarsen(shift);
        two.coarsen(shift);
        let full = one.rows().div_ceil(groups.max(1));
        let (mut before, mut now) = (vec![0], vec![0]);
        let mut others = two.bins.iter().peekable();
        for (at, &(bin, rows)) in one.bins.iter().enumerate() {
            let last = at + 1 == one.bins.len();
            if let (Some(sum), Some(other_sum)) = (before.last_mut(), now.last_mut()) {
                *sum += rows;
                // What the other has up to here; the outermost bins are open.
                while let Some((_, rows)) = others.next_if(|(other, _)| last || *other <= bin) {
                    *other_sum += rows;
                }
                if *sum >= full && !last {
                    before.push(0);
                    now.push(0);
                }
            }
        }
        (before, now)
    }
}

/// Bits that ascend with the number.
fn key(value: f64) -> u64 {
    // Both zeros are one value.
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// The number again; beyond the largest finite one stands the largest.
fn number(key: u64) -> f64 {
    let bits = if key >> 63 == 1 { key & !(1 << 63) } else { !key };
    let value = f64::from_bits(bits);
    if value.is_finite() { value } else { f64::MAX.copysign(value) }
}

fn merged(one: &[(u64, u64)], two: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut all = Vec::with_capacity(one.len() + two.len());
    let (mut one, mut two) = (one.iter().copied().peekable(), two.iter().copied().peekable());
    loop {
        all.push(match (one.peek(), two.peek()) {
            (Some(a), Some(b)) if a.0 == b.0 => {
                let sum = (a.0, a.1 + b.1);
                one.next();
                two.next();
                sum
            }
            (Some(a), Some(b)) if a.0 < b.0 => {
                let next = *a;
                one.next();
                next
            }
            (Some(_) | None, Some(b)) => {
                let next = *b;
                two.next();
                next
            }
            (Some(a), None) => {
                let next = *a;
                one.next();
                next
            }
            (None, None) => return all,
        });
    }
}

/// The most frequent texts, after Misra and Gries: exact up to [`TEXTS_MAX`] different ones, and beyond that no count is
/// too low by more than `missed`.
#[derive(Debug, Default)]
pub(super) struct Texts {
    counts: BTreeMap<String, u64>,
    missed: u64,
}

impl Texts {
    pub(super) fn add(&mut self, text: &str) {
        let end = text.char_indices().nth(TEXT_CHARS_MAX).map_or(text.len(), |(at, _)| at);
        let text = &text[..end];
        if let Some(count) = self.counts.get_mut(text) {
            *count += 1;
            return;
        }
        if self.counts.len() == TEXTS_MAX {
            // Half of the rarest make room at once, so that room is made seldom.
            let mut rows: Vec<u64> = self.counts.values().copied().collect();
            rows.sort_unstable();
            let off = rows[rows.len() / 2];
            self.counts.retain(|_, count| {
                *count = count.saturating_sub(off);
                *count > 0
            });
            self.missed += off;
        }
        self.counts.insert(text.to_owned(), 1);
    }

    /// The most frequent, how many rows each may have had more, and whether there were no others.
    pub(super) fn finish(self, limit: usize) -> (Vec<(String, u64)>, u64, bool) {
        let whole = self.missed == 0 && self.counts.len() <= limit;
        let mut top: Vec<(String, u64)> = self.counts.into_iter().collect();
        top.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        top.truncate(limit);
        (top, self.missed, whole)
    }
}

/// How many different values there were, from the smallest hashes.
#[derive(Debug, Default)]
pub(super) struct Different {
    smallest: std::collections::BTreeSet<u64>,
}

impl Different {
    pub(super) fn add(&mut self, hash: u64) {
        if self.smallest.len() < HASHES_MAX {
            self.smallest.insert(hash);
        } else if self.smallest.last().is_some_and(|last| hash < *last) && self.smallest.insert(hash) {
            self.smallest.pop_last();
        }
    }

    /// Exact below [`HASHES_MAX`], within some 3 % beyond.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    pub(super) fn finish(self) -> (u64, bool) {
        let kept = self.smallest.len();
        match self.smallest.last() {
            Some(last) if kept == HASHES_MAX => {
                let share = (*last as f64 + 1.0) / 2.0_f64.powi(64);
                (((kept - 1) as f64 / share) as u64, false)
            }
            Some(_) | None => (kept as u64, true),
        }
    }
}

/// Whether a column's values repeat, told by their hashes: two that differ look alike once in 2^64 pairs.
#[derive(Debug, Default)]
pub(super) struct Keys {
    hashes: Vec<u64>,
    too_many: bool,
}

impl Keys {
    pub(super) fn add(&mut self, hash: u64) {
        if self.hashes.len() < KEYS_MAX {
            self.hashes.push(hash);
        } else {
            self.too_many = true;
        }
    }

    /// Rows whose value another row has had; none if there were too many rows to tell.
    pub(super) fn repeated(mut self) -> Option<u64> {
        if self.too_many {
            return None;
        }
        self.hashes.sort_unstable();
        Some(self.hashes.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64)
    }
}

pub(super) fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn hash_number(value: f64) -> u64 {
    hash(&key(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(values: impl IntoIterator<Item = f64>) -> Histogram {
        let mut numbers = Numbers::default();
        values.into_iter().for_each(|value| numbers.add(value));
        numbers.finish()
    }

    #[test]
    fn few_values_are_counted_exactly() {
        let histogram = counted([2.0, -1.5, 2.0, 0.0, -0.0]);
        assert!(histogram.is_exact());
        assert_eq!(histogram.top(2), [(0.0, 2), (2.0, 2)]);
        assert_eq!(histogram.quantile(0.0), Some(-1.5));
        assert_eq!(histogram.quantile(1.0), Some(2.0));
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn many_values_keep_their_quantiles_whatever_their_order() {
        let up = counted((0..100_000).map(f64::from));
        let down = counted((0..100_000).rev().map(f64::from));
        assert_eq!(up, down);
        for share in [0.01, 0.25, 0.5, 0.99] {
            let (found, expect) = (up.quantile(share).unwrap(), share * 99_999.0);
            assert!((found / expect - 1.0).abs() < 0.002, "{share}: {found}");
        }
        assert!(up.clone().kept().bins.len() <= BINS_KEPT);
        assert_eq!(up.rows(), up.kept().rows());
    }

    #[test]
    fn what_lies_far_from_zero_is_told_apart() {
        let start = 1_795_000_000_000.0;
        let times = counted((0..50_000).map(|second| start + f64::from(second) * 1000.0));
        let middle = times.kept().quantile(0.5).unwrap() - start;
        assert!((middle / 25_000_000.0 - 1.0).abs() < 0.02, "{middle}");
    }

    #[test]
    fn numbers_come_back() {
        for value in [0.0, 1.0, -1.0, f64::MAX, f64::MIN, f64::MIN_POSITIVE, -5e-324, 0.1] {
            assert_eq!(number(key(value)).to_bits(), value.to_bits());
        }
        assert!(key(-1.0) < key(-0.5) && key(-0.5) < key(0.0) && key(0.0) < key(5e-324));
        let wild =
            counted((0..20_000).map(|i| if i % 2 == 0 { f64::MAX } else { f64::MIN } / f64::from(i + 1)));
        assert!(wild.kept().quantile(0.0).is_some_and(f64::is_finite));
    }

    #[test]
    fn two_are_counted_over_the_same_bins() {
        let one = counted((0..1000).map(f64::from));
        let two = counted((0..1000).map(|i| f64::from(i) + 5000.0));
        let (before, now) = one.side_by_side(&two, 10);
        assert_eq!((before.iter().sum::<u64>(), now.iter().sum::<u64>()), (1000, 1000));
        assert_eq!(now.last(), Some(&1000));
        assert_eq!(before.len(), 10);
        let (before, now) = one.side_by_side(&one, 10);
        assert_eq!(before, now);
    }

    #[test]
    fn frequent_texts_are_found_among_many() {
        let mut texts = Texts::default();
        for i in 0..50_000 {
            texts.add(if i % 3 == 0 {
                "often"
            } else if i % 3 == 1 {
                "also"
            } else {
                ""
            });
            texts.add(&format!("once {i}"));
        }
        let (top, missed, whole) = texts.finish(3);
        assert!(!whole && missed > 0);
        let names: Vec<&str> = top.iter().map(|(text, _)| text.as_str()).collect();
        assert!(names.contains(&"often") && names.contains(&"also") && names.contains(&""), "{top:?}");
        assert!(top.iter().all(|(_, rows)| *rows + missed >= 16_666), "{top:?} {missed}");
    }

    #[test]
    fn different_values_are_counted() {
        let mut few = Different::default();
        (0..1000).for_each(|i| few.add(hash(&(i % 300))));
        assert_eq!(few.finish(), (300, true));
        let mut many = Different::default();
        (0..200_000).for_each(|i| many.add(hash(&i)));
        let (found, exact) = many.finish();
        assert!(!exact && (180_000..220_000).contains(&found), "{found}");
    }

    #[test]
    fn repeated_keys_are_found() {
        let mut keys = Keys::default();
        for i in &[1, 2, 3, 2, 2] {
            keys.add(hash(i));
        }
        assert_eq!(keys.repeated(), Some(2));
    }
}
