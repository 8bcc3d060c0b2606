//! What was counted in one pane or window: the only thing a box sends about its data.
//!
//! Counts add. Whatever the order and grouping, merged panes equal the one pane that would have counted everything,
//! bit for bit; sums are integers for that reason. Counts hold no value of any row; before they leave a box, `disclosure`
//! sees to it that no small group of rows can be told from them either.

use serde::{Deserialize, Serialize};

use super::{
    BINS, MAX_CATEGORIES, Reference,
    fixed::{Grid, Steps},
};

/// Rows that counts may hold; keeps every sum exact and every loop over them short.
pub const MAX_ROWS: u64 = 1 << 40;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawCounts")]
pub struct Counts {
    pub(super) bins: Vec<u64>,
    /// Rows in the bins.
    pub(super) n: u64,
    pub(super) nulls: u64,
    /// Numeric: rows outside the reference's range (they are in the first or last bin too).
    /// Categorical: rows of a category the reference has no bin for.
    pub(super) novel: u64,
    /// Only numeric columns have sums.
    pub(super) values: Option<Values>,
}

/// Sums of a numeric column, in steps of the reference's grid.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Values {
    pub(super) grid: Grid,
    pub(super) sum: Steps,
    pub(super) sum_first: Steps,
    /// Zero if there is only one bin, which is then the first.
    pub(super) sum_last: Steps,
    /// No two rows differ by a step. Says that a sensor is stuck, where a range would name its extreme patients.
    pub(super) alike: bool,
}

impl Counts {
    /// Nothing counted yet, in the reference's shape.
    pub fn empty(reference: &Reference) -> Self {
        let values = match reference {
            Reference::Numeric(numeric) => Some(Values::empty(Grid::of(numeric.min, numeric.max))),
            Reference::Categorical(_) => None,
        };
        Self { bins: vec![0; reference.counts().len()], n: 0, nulls: 0, novel: 0, values }
    }

    /// Adds another pane of the same reference. On error nothing has changed.
    ///
    /// Two references of one shape cannot be told apart here: the caller groups panes by bundle digest.
    pub fn merge(&mut self, other: &Self) -> Result<(), CountsError> {
        if self.shape() != other.shape() {
            return Err(CountsError::Shape { here: self.bins.len(), there: other.bins.len() });
        }
        let rows = self.rows().saturating_add(other.rows());
        if rows > MAX_ROWS {
            return Err(CountsError::TooManyRows { rows });
        }
        self.add(other);
        Ok(())
    }

    /// Adds counts of the same counter. Its rows come one by one, and no machine lives to see 2^40 of them.
    pub(super) fn joined(&self, mut more: Self) -> Self {
        more.add(self);
        more
    }

    fn add(&mut self, other: &Self) {
        if let (Some(values), Some(more)) = (&mut self.values, &other.values) {
            values.alike = values.alike && more.alike && values.may_be_alike(self.n, more, other.n);
            values.add(more);
        }
        for (bin, more) in self.bins.iter_mut().zip(&other.bins) {
            *bin += more;
        }
        self.n += other.n;
        self.nulls += other.nulls;
        self.novel += other.novel;
    }

    /// All panes as one; None if there are none.
    pub fn merged<'a>(panes: impl IntoIterator<Item = &'a Self>) -> Result<Option<Self>, CountsError> {
        let mut panes = panes.into_iter();
        let Some(mut total) = panes.next().cloned() else { return Ok(None) };
        for pane in panes {
            total.merge(pane)?;
        }
        Ok(Some(total))
    }

    /// Refuses counts that another shape of reference made.
    pub(super) fn check_shape(&self, reference: &Reference) -> Result<(), CountsError> {
        if self.shape() == Self::empty(reference).shape() {
            Ok(())
        } else {
            Err(CountsError::Shape { here: reference.counts().len(), there: self.bins.len() })
        }
    }

    pub fn bins(&self) -> &[u64] {
        &self.bins
    }

    /// Rows with a value in a bin.
    pub fn n(&self) -> u64 {
        self.n
    }

    pub fn nulls(&self) -> u64 {
        self.nulls
    }

    pub fn novel(&self) -> u64 {
        self.novel
    }

    /// All rows looked at: binned, missing and, for categories, unseen.
    pub fn rows(&self) -> u64 {
        let unbinned = if self.values.is_some() { 0 } else { self.novel };
        self.n + self.nulls + unbinned
    }

    /// The sum of a numeric column's values.
    pub fn sum(&self) -> Option<f64> {
        self.values.as_ref().map(|values| values.grid.value(values.sum))
    }

    /// The sum of the values in the first bin.
    pub fn sum_first(&self) -> Option<f64> {
        self.values.as_ref().map(|values| values.grid.value(values.sum_first))
    }

    /// The sum of the values in the last bin; zero if there is only one bin.
    pub fn sum_last(&self) -> Option<f64> {
        self.values.as_ref().map(|values| values.grid.value(values.sum_last))
    }

    /// Whether the rows hold nothing but one value, over and over. Categories have no values.
    pub fn is_stuck(&self) -> bool {
        self.n > 0 && self.values.as_ref().is_some_and(|values| values.alike)
    }

    fn shape(&self) -> (usize, Option<Grid>) {
        (self.bins.len(), self.values.as_ref().map(|values| values.grid))
    }
}

impl Values {
    fn empty(grid: Grid) -> Self {
        let zero = Steps::default();
        Self { grid, sum: zero, sum_first: zero, sum_last: zero, alike: true }
    }

    fn add(&mut self, more: &Self) {
        self.sum.add(more.sum);
        self.sum_first.add(more.sum_first);
        self.sum_last.add(more.sum_last);
    }

    /// Rows of one value each, here and there: is it the same?
    fn may_be_alike(&self, n: u64, other: &Self, others: u64) -> bool {
        match (self.sum.each(n), other.sum.each(others)) {
            (Some(one), Some(other)) => one == other,
            (None, _) | (_, None) => n == 0 || others == 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CountsError {
    #[error(
        "counts of another reference: {here} bins here, {there} there, or another scale; group panes by bundle"
    )]
    Shape { here: usize, there: usize },
    #[error("{rows} rows are more than counts may hold (2^40): close windows earlier")]
    TooManyRows { rows: u64 },
    #[error("the counts are malformed: {0}; refuse this pane")]
    Malformed(&'static str),
}

#[derive(Deserialize)]
struct RawCounts {
    bins: Vec<u64>,
    n: u64,
    nulls: u64,
    novel: u64,
    values: Option<Values>,
}

impl TryFrom<RawCounts> for Counts {
    type Error = CountsError;

    fn try_from(raw: RawCounts) -> Result<Self, Self::Error> {
        let RawCounts { bins, n, nulls, novel, values } = raw;
        let total = bins.iter().try_fold(0u64, |sum, &rows| sum.checked_add(rows));
        let rows = [n, nulls, novel].iter().try_fold(0u64, |sum, &rows| sum.checked_add(rows));
        require(rows.is_some_and(|rows| rows <= MAX_ROWS), "they hold more than 2^40 rows")?;
        require(total == Some(n), "the bins do not add up to n")?;
        let limit = if values.is_some() { BINS } else { MAX_CATEGORIES + 1 };
        require((1..=limit).contains(&bins.len()), "the number of bins is out of range")?;
        if let Some(values) = &values {
            let sums = [values.sum, values.sum_first, values.sum_last];
            require(sums.iter().all(|sum| sum.possible(n)), "a sum is too large for the rows")?;
            require(novel <= n, "more rows are novel than there are")?;
            let one_value =
                values.sum.each(n).is_some() && bins.iter().filter(|&&rows| rows > 0).count() == 1;
            require(!values.alike || n == 0 || one_value, "the rows cannot all be alike")?;
        }
        Ok(Self { bins, n, nulls, novel, values })
    }
}

fn require(holds: bool, otherwise: &'static str) -> Result<(), CountsError> {
    if holds { Ok(()) } else { Err(CountsError::Malformed(otherwise)) }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::drift::NumericCounter;

    fn counted(reference: &Reference, values: &[f32]) -> Counts {
        match reference {
            Reference::Numeric(numeric) => {
                let mut counter = NumericCounter::new(numeric);
                counter.observe_all(values);
                counter.counts()
            }
            Reference::Categorical(_) => Counts::empty(reference),
        }
    }

    #[test]
    fn json_and_postcard_read_back() -> Result<(), Box<dyn Error>> {
        let reference = Reference::numeric(&[1.0, 2.0, 3.0])?;
        let counts = counted(&reference, &[0.5, 2.0, f32::NAN]);
        let text = r#"{"bins":[1,1,0],"n":2,"nulls":1,"novel":1,"values":{"grid":-51,"sum":"5629499534213120","sum_first":"1125899906842624","sum_last":"0","alike":false}}"#;
        assert_eq!(serde_json::to_string(&counts)?, text);
        assert_eq!(serde_json::from_str::<Counts>(text)?, counts);
        assert_eq!(serde_json::from_value::<Counts>(serde_json::to_value(&counts)?)?, counts);
        let bytes = postcard::to_stdvec(&counts)?;
        assert_eq!(postcard::from_bytes::<Counts>(&bytes)?, counts);
        Ok(())
    }

    #[test]
    fn malformed_counts_are_refused() -> Result<(), Box<dyn Error>> {
        let written = serde_json::to_value(counted(&Reference::numeric(&[1.0, 2.0])?, &[1.0, 2.0]))?;
        let check = |path: &str, value: Value, complaint: &str| {
            let mut changed = written.clone();
            if let Some(place) = changed.pointer_mut(path) {
                *place = value;
            }
            let refusal = serde_json::from_value::<Counts>(changed).map_err(|error| error.to_string());
            assert!(refusal.as_ref().is_err_and(|text| text.contains(complaint)), "{path}: {refusal:?}");
        };
        check("/n", json!(3), "add up to n");
        check("/bins", json!([]), "add up to n");
        check("/bins", json!(vec![0; 19].into_iter().chain([1, 1]).collect::<Vec<_>>()), "number of bins");
        check("/nulls", json!(u64::MAX), "2^40");
        check("/novel", json!(3), "novel");
        check("/values/sum", json!("170141183460469231731687303715884105727"), "too large");
        check("/values/sum", json!("1.5"), "whole number");
        check("/values/grid", json!(400), "exponent");
        check("/values/alike", json!(true), "alike");
        Ok(())
    }

    #[test]
    fn panes_of_another_shape_or_too_many_rows_are_refused() -> Result<(), Box<dyn Error>> {
        let mut two = counted(&Reference::numeric(&[1.0, 2.0])?, &[1.0]);
        let before = two.clone();
        let wider = counted(&Reference::numeric(&[1.0, 2.0, 3.0])?, &[1.0]);
        let coarser = counted(&Reference::numeric(&[1e6, 2e6])?, &[1.0]);
        let categories = Counts::empty(&Reference::categorical([Some("a"), Some("b")])?);
        for other in [&wider, &coarser, &categories] {
            assert!(matches!(two.merge(other), Err(CountsError::Shape { .. })));
        }
        let mut full = two.clone();
        full.nulls = MAX_ROWS - 1;
        assert_eq!(two.merge(&full), Err(CountsError::TooManyRows { rows: MAX_ROWS + 1 }));
        assert_eq!(two, before);
        Ok(())
    }

    proptest! {
        /// Whole windows, panes of any length, in any order, merged left to right or pairwise: the same counts.
        #[test]
        fn merging_is_exact_in_any_split_and_order(
            reference in prop::collection::vec(-1e3f32..1e3, 1..60),
            values in prop::collection::vec(prop_oneof![4 => -2e3f32..2e3, 1 => any::<f32>()], 0..200),
            cuts in prop::collection::vec(0usize..200, 0..12),
            order in any::<u64>(),
        ) {
            let reference = Reference::numeric(&reference)?;
            let whole = counted(&reference, &values);

            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(values.len())).collect();
            cuts.extend([0, values.len()]);
            cuts.sort_unstable();
            let mut panes: Vec<Counts> =
                cuts.windows(2).map(|cut| counted(&reference, &values[cut[0]..cut[1]])).collect();
            let len = panes.len() as u64;
            for i in 1..panes.len() {
                let j = usize::try_from(order.rotate_left(u32::try_from(i * 7)?) % len)?;
                panes.swap(i, j);
            }
            prop_assert_eq!(Counts::merged(&panes)?, Some(whole.clone()));

            while panes.len() > 1 {
                panes = panes.chunks(2).map(Counts::merged).filter_map(Result::transpose)
                    .collect::<Result<_, _>>()?;
            }
            prop_assert_eq!(panes.pop(), Some(whole));
        }
    }
}
