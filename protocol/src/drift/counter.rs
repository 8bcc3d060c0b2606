//! Counting on the box: the hot path, a few nanoseconds a value, without allocation.
//!
//! A counter owns a copy of the reference's edges or names, so that an inference thread can hold one of its own. It
//! must never keep a value, and never judge: that is `statistic`'s part.

use std::num::NonZeroU8;

use super::{
    BINS, CategoricalReference, Counts, NumericReference, Reference,
    counts::Values,
    fixed::{Grid, Steps},
};

/// Inner edges of a numeric column's bins.
const EDGES: usize = BINS - 1;

/// One counter per monitored column. Nearly all are numeric; a box around those would cost each of them a pointer.
#[derive(Debug, Clone)]
pub enum Counter {
    Numeric(NumericCounter),
    Categorical(Box<CategoricalCounter>),
}

impl Counter {
    pub fn new(reference: &Reference) -> Self {
        match reference {
            Reference::Numeric(numeric) => Self::Numeric(NumericCounter::new(numeric)),
            Reference::Categorical(categorical) => {
                Self::Categorical(Box::new(CategoricalCounter::new(categorical)))
            }
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        match self {
            Self::Numeric(counter) => counter.counts(),
            Self::Categorical(counter) => counter.counts(),
        }
    }

    /// Closes the pane: what was counted so far, and the counter starts again from nothing.
    pub fn take(&mut self) -> Counts {
        match self {
            Self::Numeric(counter) => counter.take(),
            Self::Categorical(counter) => counter.take(),
        }
    }
}

/// Everything a numeric stream needs while it is counted: four cache lines, with the edges.
///
/// The counts are short. A pane of more rows than they hold moves them into `full`, so nothing is ever cut off.
#[derive(Debug, Clone)]
pub struct NumericCounter {
    /// Sums of the first bin, of all between, and of the last.
    sums: [Steps; 3],
    full: Option<Box<Counts>>,
    /// Padded with infinity, which no finite value reaches.
    edges: [f32; EDGES],
    min: f32,
    max: f32,
    low: f32,
    high: f32,
    bins: [u16; BINS],
    novel: u16,
    /// Rows until the short counts must be moved; what is in no bin of them had no value.
    left: u16,
    grid: Grid,
    /// The last bin in use; 1 if there is only the first, which no value then reaches.
    last: NonZeroU8,
}

impl NumericCounter {
    pub fn new(reference: &NumericReference) -> Self {
        let mut edges = [f32::INFINITY; EDGES];
        for (slot, &edge) in edges.iter_mut().zip(&reference.edges) {
            *slot = edge;
        }
        let last = u8::try_from(reference.edges.len()).ok();
        Self {
            sums: [Steps::ZERO; 3],
            full: None,
            edges,
            min: reference.min,
            max: reference.max,
            low: f32::INFINITY,
            high: f32::NEG_INFINITY,
            bins: [0; BINS],
            novel: 0,
            left: u16::MAX,
            grid: Grid::of(reference.min, reference.max),
            last: last.and_then(NonZeroU8::new).unwrap_or(NonZeroU8::MIN),
        }
    }

    /// Counts one value; NaN and infinities are nulls.
    #[inline]
    pub fn observe(&mut self, value: f32) {
        if self.left == 0 {
            self.make_room();
        }
        self.left -= 1;
        if !value.is_finite() {
            return;
        }
        let bin = bin_of(&self.edges, value);
        self.bins[bin] += 1;
        let part = usize::from(bin > 0) + usize::from(bin >= usize::from(self.last.get()));
        self.sums[part].add(Steps::of(value, self.grid.scale()));
        self.novel += u16::from(!(self.min..=self.max).contains(&value));
        self.low = if value < self.low { value } else { self.low };
        self.high = if value > self.high { value } else { self.high };
    }

    pub fn observe_all(&mut self, values: &[f32]) {
        for &value in values {
            self.observe(value);
        }
    }

    pub fn counts(&self) -> Counts {
        let mut counts = self.short_counts();
        if let Some(full) = &self.full {
            counts = full.joined(counts);
        }
        counts
    }

    pub fn take(&mut self) -> Counts {
        let counts = self.counts();
        self.full = None;
        self.clear();
        counts
    }

    fn short_counts(&self) -> Counts {
        let len = 1 + self.edges.iter().filter(|edge| edge.is_finite()).count();
        let bins: Vec<u64> = self.bins[..len].iter().map(|&rows| rows.into()).collect();
        let [sum_first, between, sum_last] = self.sums;
        let mut sum = sum_first;
        sum.add(between);
        sum.add(sum_last);
        let n = bins.iter().sum();
        let step = |value| Steps::of(value, self.grid.scale());
        let alike = n == 0 || step(self.low) == step(self.high);
        let values = Values { grid: self.grid, sum, sum_first, sum_last, alike };
        let nulls = u64::from(u16::MAX - self.left) - n;
        Counts { bins, n, nulls, novel: self.novel.into(), values: Some(values) }
    }

    #[cold]
    fn make_room(&mut self) {
        let counts = self.short_counts();
        self.full = Some(Box::new(match self.full.take() {
            Some(full) => full.joined(counts),
            None => counts,
        }));
        self.clear();
    }

    fn clear(&mut self) {
        self.sums = [Steps::ZERO; 3];
        (self.low, self.high) = (f32::INFINITY, f32::NEG_INFINITY);
        self.bins = [0; BINS];
        (self.novel, self.left) = (0, u16::MAX);
    }
}

#[derive(Debug, Clone)]
pub struct CategoricalCounter {
    /// Sorted by name for the search, each with its bin.
    names: Vec<(String, usize)>,
    /// The bin of what has no name here; without it such a row is novel.
    other: Option<usize>,
    bins: Vec<u64>,
    nulls: u64,
    novel: u64,
}

impl CategoricalCounter {
    pub fn new(reference: &CategoricalReference) -> Self {
        let mut names: Vec<(String, usize)> = reference.categories.iter().cloned().zip(0..).collect();
        names.sort();
        Self {
            other: reference.other.then_some(names.len()),
            names,
            bins: vec![0; reference.counts.len()],
            nulls: 0,
            novel: 0,
        }
    }

    /// Counts one category; None is a missing value.
    pub fn observe(&mut self, category: Option<&str>) {
        let Some(category) = category else {
            self.nulls += 1;
            return;
        };
        let found = self.names.binary_search_by(|(name, _)| name.as_str().cmp(category));
        let bin = found.ok().and_then(|at| self.names.get(at)).map(|&(_, bin)| bin);
        self.count(bin);
    }

    /// Counts one category by its position in the reference; None is a missing value, any other position unseen.
    pub fn observe_index(&mut self, index: Option<usize>) {
        match index {
            Some(index) => self.count((index < self.names.len()).then_some(index)),
            None => self.nulls += 1,
        }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            bins: self.bins.clone(),
            n: self.bins.iter().sum(),
            nulls: self.nulls,
            novel: self.novel,
            values: None,
        }
    }

    pub fn take(&mut self) -> Counts {
        let counts = self.counts();
        self.bins.fill(0);
        (self.nulls, self.novel) = (0, 0);
        counts
    }

    fn count(&mut self, bin: Option<usize>) {
        match bin.or(self.other).and_then(|bin| self.bins.get_mut(bin)) {
            Some(bin) => *bin += 1,
            None => self.novel += 1,
        }
    }
}

/// How many edges are at or below the value, without a branch to mispredict: first which four edges, then which one.
///
/// The comparisons of a step do not wait for each other, which five steps of a binary search would. Written out,
/// because a compiler that optimises for size keeps the loops; `min` shows it that no position is out of bounds.
#[inline]
fn bin_of(edges: &[f32; EDGES], value: f32) -> usize {
    let reached = |edge: usize| usize::from(value >= edges[edge]);
    let four = reached(3) + reached(7) + reached(11) + reached(15);
    let start = four.min(4) * 4;
    start | (reached(start) + reached(start | 1) + reached(start | 2))
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    fn numeric(reference: &[f32], values: &[f32]) -> Result<Counts, Box<dyn Error>> {
        let Counter::Numeric(mut counter) = Counter::new(&Reference::numeric(reference)?) else {
            return Err("not a numeric counter".into());
        };
        counter.observe_all(values);
        Ok(counter.counts())
    }

    #[test]
    fn the_search_agrees_with_counting_the_edges() {
        for used in 0..=EDGES {
            let mut edges = [f32::INFINITY; EDGES];
            for (slot, edge) in edges[..used].iter_mut().zip(0u16..) {
                *slot = f32::from(edge);
            }
            for twice in -3i16..70 {
                let value = f32::from(twice) / 2.0;
                let expect = edges.iter().filter(|&&edge| edge <= value).count();
                assert_eq!(bin_of(&edges, value), expect, "{used} edges, value {value}");
            }
            assert_eq!(bin_of(&edges, f32::MAX), used);
        }
    }

    #[test]
    fn a_stream_fits_four_cache_lines() {
        assert_eq!((size_of::<NumericCounter>(), size_of::<Counter>()), (208, 208));
    }

    #[test]
    fn more_rows_than_the_short_counts_hold_are_counted_exactly() -> Result<(), Box<dyn Error>> {
        let reference = Reference::numeric(&(0..40u16).map(f32::from).collect::<Vec<_>>())?;
        let Reference::Numeric(numeric_reference) = &reference else { return Err("not numeric".into()) };
        let value = |i: u32| match i % 5 {
            0 => f32::NAN,
            1 => 100.0,
            _ => f32::from(u16::try_from(i % 40).unwrap_or(0)),
        };
        let mut counter = NumericCounter::new(numeric_reference);
        let mut panes = Vec::new();
        for rows in [65_534, 65_535, 65_536, 131_070, 131_071, 200_000] {
            (0..rows).for_each(|i| counter.observe(value(i)));
            let mut short = NumericCounter::new(numeric_reference);
            let mut parts = Vec::new();
            for i in 0..rows {
                short.observe(value(i));
                if i % 30_000 == 0 || i + 1 == rows {
                    parts.push(short.take());
                }
            }
            assert_eq!(Some(counter.counts()), Counts::merged(&parts)?, "{rows}");
            panes.push(counter.take());
            assert_eq!(panes.last().map(Counts::rows), Some(rows.into()));
        }
        assert_eq!(counter.counts(), Counts::empty(&reference));
        Ok(())
    }

    #[test]
    fn values_that_are_not_finite_are_nulls() -> Result<(), Box<dyn Error>> {
        let counts = numeric(&[1.0, 2.0], &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY])?;
        assert_eq!((counts.n(), counts.nulls(), counts.novel()), (0, 3, 0));
        assert_eq!((counts.sum(), counts.is_stuck()), (Some(0.0), false));
        Ok(())
    }

    #[test]
    fn a_constant_reference_has_one_bin_and_everything_else_is_novel() -> Result<(), Box<dyn Error>> {
        let counts = numeric(&[3.0; 9], &[3.0, 3.0, 4.0, -1.0])?;
        assert_eq!((counts.bins(), counts.novel()), (&[4][..], 2));
        assert_eq!((counts.sum_first(), counts.sum_last()), (Some(9.0), Some(0.0)));
        assert!(!counts.is_stuck());
        Ok(())
    }

    #[test]
    fn an_unseen_category_is_novel_or_other() -> Result<(), Box<dyn Error>> {
        let names: Vec<String> = (0..64).map(|i| format!("c{i:02}")).collect();
        for (kept, expect) in [(2, (3, 2)), (64, (5, 0))] {
            let reference = Reference::categorical(names[..kept].iter().map(|name| Some(name.as_str())))?;
            let Counter::Categorical(mut counter) = Counter::new(&reference) else {
                return Err("not a categorical counter".into());
            };
            counter.observe(Some("c01"));
            counter.observe(Some("unheard of"));
            counter.observe(None);
            counter.observe_index(Some(0));
            counter.observe_index(Some(1));
            counter.observe_index(Some(usize::MAX));
            counter.observe_index(None);
            let counts = counter.take();
            assert_eq!((counts.n(), counts.novel()), expect);
            assert_eq!((counts.nulls(), counts.rows(), counts.bins()[1]), (2, 7, 2));
            assert_eq!(counter.counts(), Counts::empty(&reference));
        }
        Ok(())
    }
}
