//! Counting on the box: the hot path, a few nanoseconds a value, without allocation.
//!
//! A counter owns a copy of the reference's edges or names, so that an inference thread can hold one of its own. It
//! must never keep a value, and never judge: that is `statistic`'s part.

use super::{
    CategoricalReference, Counts, MAX_BINS, NumericReference, Reference,
    counts::Values,
    fixed::{Grid, Steps},
};

/// One counter per monitored column.
#[derive(Debug, Clone)]
pub enum Counter {
    Numeric(Box<NumericCounter>),
    Categorical(CategoricalCounter),
}

impl Counter {
    pub fn new(reference: &Reference) -> Self {
        match reference {
            Reference::Numeric(numeric) => Self::Numeric(Box::new(NumericCounter::new(numeric))),
            Reference::Categorical(categorical) => Self::Categorical(CategoricalCounter::new(categorical)),
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

#[derive(Debug, Clone)]
pub struct NumericCounter {
    /// Padded with infinity, which no finite value reaches, to the full depth of the search.
    edges: [f32; MAX_BINS],
    /// Bins in use.
    len: usize,
    min: f32,
    max: f32,
    grid: Grid,
    /// The grid's scale, kept because it is needed for every value.
    scale: f64,
    tally: Tally,
}

#[derive(Debug, Clone)]
struct Tally {
    bins: [u64; MAX_BINS],
    /// One sum per bin: a single addition per value, where three running sums would need two branches.
    sums: [Steps; MAX_BINS],
    nulls: u64,
    novel: u64,
    low: f32,
    high: f32,
}

impl Tally {
    const EMPTY: Self = Self {
        bins: [0; MAX_BINS],
        sums: [Steps::ZERO; MAX_BINS],
        nulls: 0,
        novel: 0,
        low: f32::INFINITY,
        high: f32::NEG_INFINITY,
    };
}

impl NumericCounter {
    pub fn new(reference: &NumericReference) -> Self {
        let mut edges = [f32::INFINITY; MAX_BINS];
        for (slot, &edge) in edges.iter_mut().zip(&reference.edges) {
            *slot = edge;
        }
        let grid = Grid::of(reference.min, reference.max);
        Self {
            edges,
            len: reference.counts.len(),
            min: reference.min,
            max: reference.max,
            grid,
            scale: grid.scale(),
            tally: Tally::EMPTY,
        }
    }

    /// Counts one value; NaN and infinities are nulls.
    #[inline]
    pub fn observe(&mut self, value: f32) {
        let tally = &mut self.tally;
        if !value.is_finite() {
            tally.nulls += 1;
            return;
        }
        // Adding zero turns -0.0 into 0.0, or the order of values could show in the range.
        let value = value + 0.0;
        let bin = bin_of(&self.edges, value);
        tally.bins[bin] += 1;
        tally.sums[bin].add(Steps::of(value, self.scale));
        tally.novel += u64::from(!(self.min..=self.max).contains(&value));
        tally.low = if value < tally.low { value } else { tally.low };
        tally.high = if value > tally.high { value } else { tally.high };
    }

    pub fn observe_all(&mut self, values: &[f32]) {
        for &value in values {
            self.observe(value);
        }
    }

    pub fn counts(&self) -> Counts {
        let tally = &self.tally;
        let bins = tally.bins[..self.len].to_vec();
        let sums = &tally.sums[..self.len];
        let mut sum = Steps::ZERO;
        for &part in sums {
            sum.add(part);
        }
        let last = if self.len > 1 { sums.last() } else { None };
        let n = bins.iter().sum();
        let values = Values {
            grid: self.grid,
            sum,
            sum_first: sums.first().copied().unwrap_or_default(),
            sum_last: last.copied().unwrap_or_default(),
            range: (n > 0).then_some((tally.low, tally.high)),
        };
        Counts { bins, n, nulls: tally.nulls, novel: tally.novel, values: Some(values) }
    }

    pub fn take(&mut self) -> Counts {
        let counts = self.counts();
        self.tally = Tally::EMPTY;
        counts
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
/// because a compiler that optimises for size keeps the loops; `|` in place of `+` shows it that the position stays
/// below 32.
#[inline]
fn bin_of(edges: &[f32; MAX_BINS], value: f32) -> usize {
    let reached = |edge: usize| usize::from(value >= edges[edge]);
    let four =
        (reached(3) + reached(7) + reached(11) + reached(15)) + (reached(19) + reached(23) + reached(27));
    let start = (four & 7) << 2;
    start + reached(start) + reached(start | 1) + reached(start | 2)
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
        for used in 0..MAX_BINS {
            let mut edges = [f32::INFINITY; MAX_BINS];
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
    fn values_that_are_not_finite_are_nulls() -> Result<(), Box<dyn Error>> {
        let counts = numeric(&[1.0, 2.0], &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY])?;
        assert_eq!((counts.n(), counts.nulls(), counts.novel()), (0, 3, 0));
        assert_eq!((counts.sum(), counts.min(), counts.max()), (Some(0.0), None, None));
        Ok(())
    }

    #[test]
    fn a_constant_reference_has_one_bin_and_everything_else_is_novel() -> Result<(), Box<dyn Error>> {
        let counts = numeric(&[3.0; 9], &[3.0, 3.0, 4.0, -1.0])?;
        assert_eq!((counts.bins(), counts.novel()), (&[4][..], 2));
        assert_eq!((counts.sum_first(), counts.sum_last()), (Some(9.0), Some(0.0)));
        assert_eq!((counts.min(), counts.max()), (Some(-1.0), Some(4.0)));
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
