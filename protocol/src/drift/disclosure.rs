//! What of a pane may leave a box: no number that counts one to `k - 1` rows, and still a pane that the statistics read.
//!
//! ```text
//!   few missing or unseen rows  ─▶ counted with the many           (rows stay, so nothing can be told by subtraction)
//!   few rows in a bin           ─▶ joined with their neighbours until they are k, and the cell is filled as the
//!                                  reference fills it: what is told is the cell, never how its rows lie in it
//!   few rows out of range       ─▶ none; nearly all ─▶ all
//!   sums of an outer bin        ─▶ the reference's mean, if the bin is told as part of a cell
//!   all sums                    ─▶ the reference's means, if few rows are out of range: one of them could be most of a sum
//! ```
//! Filling a cell as the reference does can hide a difference inside it and can never make one, so a test on such a pane
//! is right or cautious. Panes must be large enough that cells are few: who closes them sees to that ([`Floor::full`]).
//! Alternatives not taken: rounding (bins no longer add up), noise (the test must know how much), carrying small bins
//! over to the next pane (doubles the spread of a bin of five rows, and with it the false alarms).

use serde::{Deserialize, Serialize};

use super::{BINS, Counts, Reference, counts::Values, fixed::Steps};

/// The fewest rows that a number may count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Floor(u64);

impl Floor {
    /// Five, and no site may go below it.
    pub const LEAST: Self = Self(5);
    /// Beyond this no pane would ever be full.
    pub const MOST: Self = Self(1000);

    pub fn rows(self) -> u64 {
        self.0
    }

    /// Rows of a pane in which hardly a bin is small while nothing drifts: twice `k` for each of the bins.
    pub fn full(self) -> u64 {
        2 * self.0 * BINS as u64
    }

    /// One row to `k - 1`.
    pub fn is_few(self, rows: u64) -> bool {
        (1..self.0).contains(&rows)
    }
}

impl Default for Floor {
    fn default() -> Self {
        Self::LEAST
    }
}

impl TryFrom<u64> for Floor {
    type Error = &'static str;

    fn try_from(rows: u64) -> Result<Self, Self::Error> {
        let allowed = Self::LEAST.0..=Self::MOST.0;
        if allowed.contains(&rows) { Ok(Self(rows)) } else { Err("k is between 5 and 1000 rows") }
    }
}

impl From<Floor> for u64 {
    fn from(floor: Floor) -> Self {
        floor.0
    }
}

impl Counts {
    /// These counts as they may leave a box. As many rows, unless neither those with a value nor those without are `k`:
    /// then none.
    #[must_use]
    pub fn disclosed(&self, reference: &Reference, k: Floor) -> Self {
        let mut told = Self::empty(reference);
        let Some(parts) = self.parts(k).filter(|_| self.check_shape(reference).is_ok()) else { return told };
        if parts.valued > 0 {
            told.tell_values(self, reference, k);
            told.add_rows(parts.valued);
        }
        told.nulls = parts.missing;
        if told.values.is_none() {
            told.novel = parts.unseen;
        }
        told
    }

    /// Rows by what they have, the few counted with the many.
    fn parts(&self, k: Floor) -> Option<Parts> {
        let unseen = if self.values.is_some() { 0 } else { self.novel };
        let mut parts = [self.n, self.nulls, unseen];
        let most = (1..3).fold(0, |most, part| if parts[part] > parts[most] { part } else { most });
        if parts[most] < k.rows() {
            return None;
        }
        for part in 0..3 {
            if part != most && k.is_few(parts[part]) {
                parts[most] += parts[part];
                parts[part] = 0;
            }
        }
        let [valued, missing, unseen] = parts;
        Some(Parts { valued, missing, unseen })
    }

    fn tell_values(&mut self, all: &Self, reference: &Reference, k: Floor) {
        let usual: Vec<u64> = reference.counts().iter().map(|&rows| rows + 1).collect();
        let cells = cells(&all.bins, k);
        self.n = all.n;
        for &Cell { first, last, rows } in &cells {
            for (bin, part) in (first..).zip(spread(rows, &usual[first..=last])) {
                self.bins[bin] = part;
            }
        }
        if let (Some(told), Some(values), Reference::Numeric(numeric)) =
            (&mut self.values, &all.values, reference)
        {
            let alone = |bin| cells.iter().all(|cell| !cell.holds(bin) || cell.first == cell.last);
            let usual = |bin: usize| {
                let mean = numeric.bin_means.get(bin).copied().unwrap_or(0.0);
                Steps::many(mean, self.bins[bin], values.grid)
            };
            let last = all.bins.len() - 1;
            *told = *values;
            let outlier = k.is_few(all.novel);
            if outlier {
                told.alike = false;
                told.sum = (0..=last).map(usual).fold(Steps::ZERO, Steps::plus);
            }
            if outlier || !alone(0) {
                told.sum_first = usual(0);
            }
            if last > 0 && (outlier || !alone(last)) {
                told.sum_last = usual(last);
            }
            let outer = all.bins[0] + if last > 0 { all.bins[last] } else { 0 };
            self.novel = if all.novel < k.rows() {
                0
            } else if k.is_few(outer.saturating_sub(all.novel)) {
                outer
            } else {
                all.novel
            };
        }
    }

    /// Rows without a value, counted as if they had the values of the rest.
    fn add_rows(&mut self, valued: u64) {
        let (n, more) = (self.n, valued.saturating_sub(self.n));
        if more == 0 || n == 0 {
            return;
        }
        let before = self.bins.clone();
        for (bin, part) in self.bins.iter_mut().zip(spread(more, &before)) {
            *bin += part;
        }
        self.n = valued;
        let last = before.len() - 1;
        if let Some(Values { sum, sum_first, sum_last, .. }) = &mut self.values {
            *sum = sum.scaled(valued, n);
            *sum_first = sum_first.scaled(self.bins[0], before[0]);
            *sum_last = sum_last.scaled(self.bins[last], before[last]);
        }
    }
}

struct Parts {
    valued: u64,
    missing: u64,
    unseen: u64,
}

/// Neighbouring bins that are told together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    first: usize,
    last: usize,
    rows: u64,
}

impl Cell {
    fn holds(self, bin: usize) -> bool {
        (self.first..=self.last).contains(&bin)
    }
}

/// Bins with rows, the smallest joined with its smaller neighbour until none has few. Empty bins stay as they are unless
/// they lie within a cell.
fn cells(bins: &[u64], k: Floor) -> Vec<Cell> {
    let filled = bins.iter().enumerate().filter(|&(_, &rows)| rows > 0);
    let mut cells: Vec<Cell> = filled.map(|(bin, &rows)| Cell { first: bin, last: bin, rows }).collect();
    while cells.len() > 1 {
        let few = cells.iter().enumerate().filter(|(_, cell)| k.is_few(cell.rows));
        let Some((at, _)) = few.min_by_key(|(_, cell)| cell.rows) else { break };
        let rows_at = |at: Option<usize>| at.and_then(|at| cells.get(at)).map_or(u64::MAX, |cell| cell.rows);
        let (left, right) = (rows_at(at.checked_sub(1)), rows_at(Some(at + 1)));
        // Of equal neighbours the outer one, so that neither direction is preferred.
        let lower_half = cells[at].first * 2 < bins.len();
        let left = if left < right || left == right && lower_half { at - 1 } else { at };
        let joined = cells.remove(left + 1);
        let cell = &mut cells[left];
        (cell.last, cell.rows) = (joined.last, cell.rows + joined.rows);
    }
    cells
}

/// Whole rows in the given proportions; they add up exactly.
fn spread(rows: u64, weights: &[u64]) -> impl Iterator<Item = u64> {
    let total: u128 = weights.iter().map(|&weight| u128::from(weight)).sum::<u128>().max(1);
    let mut weight_to = 0;
    let mut rows_to = 0;
    weights.iter().map(move |&weight| {
        weight_to += u128::from(weight);
        let before = rows_to;
        rows_to = (2 * u128::from(rows) * weight_to + total) / (2 * total);
        u64::try_from(rows_to - before).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use proptest::prelude::*;

    use super::*;
    use crate::drift::Counter;

    fn numeric(values: &[f32]) -> Result<(Reference, Counts), Box<dyn Error>> {
        let reference = Reference::numeric(&(0..100u8).map(f32::from).collect::<Vec<_>>())?;
        let Counter::Numeric(mut counter) = Counter::new(&reference) else { return Err("numeric".into()) };
        counter.observe_all(values);
        Ok((reference, counter.counts()))
    }

    fn told(values: &[f32]) -> Result<Counts, Box<dyn Error>> {
        let (reference, counts) = numeric(values)?;
        Ok(counts.disclosed(&reference, Floor::LEAST))
    }

    #[test]
    fn fewer_rows_than_k_are_nothing() -> Result<(), Box<dyn Error>> {
        let (reference, counts) = numeric(&[71.25; 4])?;
        assert_eq!(counts.disclosed(&reference, Floor::LEAST), Counts::empty(&reference));
        assert_eq!(told(&[71.25; 5])?.bins()[14], 5);
        Ok(())
    }

    #[test]
    fn one_extreme_row_is_told_as_part_of_its_neighbours() -> Result<(), Box<dyn Error>> {
        let mut values = vec![92.0; 50];
        values.push(1_234.5);
        let told = told(&values)?;
        // 51 rows between the last two bins, half and half as the reference has them; the last bin's mean is its own.
        assert_eq!((&told.bins()[18..], told.novel()), (&[26, 25][..], 0));
        assert_eq!((told.sum(), told.sum_last()), (Some(26.0 * 92.0 + 25.0 * 97.0), Some(25.0 * 97.0)));
        Ok(())
    }

    #[test]
    fn few_missing_rows_count_with_the_many_and_few_values_with_the_missing() -> Result<(), Box<dyn Error>> {
        let mut values = vec![50.0; 20];
        values.extend([f32::NAN; 4]);
        let counts = told(&values)?;
        assert_eq!(
            (counts.n(), counts.nulls(), counts.sum(), counts.is_stuck()),
            (24, 0, Some(1200.0), true)
        );
        let mut values = vec![f32::NAN; 20];
        values.extend([50.0; 4]);
        let counts = told(&values)?;
        assert_eq!((counts.n(), counts.nulls(), counts.sum()), (0, 24, Some(0.0)));
        Ok(())
    }

    #[test]
    fn rare_categories_and_unseen_ones_too() -> Result<(), Box<dyn Error>> {
        let named = |names: [usize; 3]| {
            let each = ["a", "b", "c"].into_iter().zip(names);
            each.flat_map(|(name, rows)| std::iter::repeat_n(Some(name), rows))
        };
        let reference = Reference::categorical(named([60, 30, 10]))?;
        let Counter::Categorical(mut counter) = Counter::new(&reference) else { return Err("names".into()) };
        named([40, 20, 3]).chain([Some("rare disease"), None]).for_each(|name| counter.observe(name));
        let told = counter.take().disclosed(&reference, Floor::LEAST);
        assert_eq!((told.bins(), told.nulls(), told.novel(), told.rows()), (&[41, 18, 6][..], 0, 0, 65));
        Ok(())
    }

    #[test]
    fn many_are_told_as_they_are() -> Result<(), Box<dyn Error>> {
        let values: Vec<f32> = (0..1000u16).map(|i| f32::from(i % 100)).collect();
        let (reference, counts) = numeric(&values)?;
        assert_eq!(counts.disclosed(&reference, Floor::LEAST), counts);
        assert!(Floor::try_from(4).is_err() && Floor::try_from(1001).is_err());
        Ok(())
    }

    proptest! {
        /// Every cell has k rows or more, cells keep their rows, and only a cell's rows and the reference say how they lie.
        #[test]
        fn no_number_counts_a_few(
            bins in prop::collection::vec(prop_oneof![3 => 0u64..8, 1 => 0u64..200], 1..=20),
            nulls in 0u64..12,
            k in 5u64..30,
        ) {
            let k = Floor::try_from(k).map_err(TestCaseError::fail)?;
            let values: Vec<f32> = bins.iter().zip(0u8..)
                .flat_map(|(&rows, bin)| std::iter::repeat_n(f32::from(bin) * 5.0 + 1.25, usize::try_from(rows).unwrap_or(0)))
                .chain(std::iter::repeat_n(f32::NAN, usize::try_from(nulls).unwrap_or(0)))
                .collect();
            let (reference, all) = numeric(&values).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let told = all.disclosed(&reference, k);
            prop_assert!(told.rows() == all.rows() || told.rows() == 0 && all.n.max(all.nulls) < k.rows());
            for part in [told.n(), told.nulls(), told.novel()] {
                prop_assert!(!k.is_few(part));
            }
            let read: Counts = postcard::from_bytes(&postcard::to_stdvec(&told)?)?;
            prop_assert_eq!(&read, &told);
            let cells = cells(&all.bins, k);
            prop_assert!(all.n < k.rows() || cells.iter().all(|cell| !k.is_few(cell.rows)));
            for Cell { first, last, rows } in cells {
                prop_assert_eq!(all.bins[first..=last].iter().sum::<u64>(), rows);
                if all.nulls == 0 && all.n >= k.rows() {
                    let usual: Vec<u64> = reference.counts()[first..=last].iter().map(|rows| rows + 1).collect();
                    prop_assert!(told.bins[first..=last].iter().copied().eq(spread(rows, &usual)));
                }
            }
        }
    }
}
