//! Confidence-based performance estimation (CBPE) from sums that merge: what the metrics would be if every probability
//! were true.

use serde::{Deserialize, Serialize};

use crate::drift::{MAX_ROWS, special::real};

/// Score bins of the ranking (AUC); within 0.001 of the exact value.
pub const SCORE_BINS: usize = 64;
/// Sums are whole numbers of 2^-52, so that the order of rows and panes leaves no trace; 2^40 rows fit 128 bits.
const UNIT: f64 = 4_503_599_627_370_496.0;

/// Counted per pane or window, merged at will. 64 bins and a few sums, whatever the number of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawHistogram")]
pub struct ScoreHistogram {
    /// Scores at or above it are answered as positive.
    threshold: f64,
    /// By score, low to high.
    bins: Vec<Rows>,
    /// Rows answered as positive.
    positive: Rows,
    /// Sum of p(1-p).
    brier: u128,
    /// Sum of -p ln p - (1-p) ln(1-p).
    entropy: u128,
    /// Rows whose score or probability was no number between 0 and 1.
    nulls: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Rows {
    n: u64,
    /// Sum of the calibrated probabilities.
    p: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimated {
    pub n: u64,
    /// Expected rows of the confusion matrix: true and false positives, false and true negatives.
    pub tp: f64,
    pub fp: f64,
    #[serde(rename = "fn")]
    pub fn_: f64,
    pub tn: f64,
    pub accuracy: f64,
    /// Standard error of the accuracy from the labels' own chance.
    pub se_accuracy: f64,
    /// None where nothing is answered as positive; so are the others where their denominator is empty.
    pub precision: Option<f64>,
    pub recall: Option<f64>,
    pub specificity: Option<f64>,
    pub f1: Option<f64>,
    pub brier: f64,
    pub log_loss: f64,
    pub roc_auc: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoreHistogramError {
    #[error("histograms of different thresholds cannot be merged; group them by bundle")]
    Threshold,
    #[error("the threshold is not a number between 0 and 1")]
    NoThreshold,
    #[error("{rows} rows are more than a histogram may hold (2^40)")]
    TooManyRows { rows: u64 },
    #[error("the score histogram is malformed: {0}; refuse it")]
    Malformed(&'static str),
}

impl ScoreHistogram {
    pub fn new(threshold: f64) -> Result<Self, ScoreHistogramError> {
        if !(0.0..=1.0).contains(&threshold) {
            return Err(ScoreHistogramError::NoThreshold);
        }
        let bins = vec![Rows::default(); SCORE_BINS];
        Ok(Self { threshold, bins, positive: Rows::default(), brier: 0, entropy: 0, nulls: 0 })
    }

    /// Counts one row: what the model said, and the probability that this has meant. They are the same number for a
    /// calibrated model.
    pub fn observe(&mut self, score: f64, p: f64) {
        let chance = 0.0..=1.0;
        if !chance.contains(&score) || !chance.contains(&p) {
            self.nulls += 1;
            return;
        }
        let row = Rows { n: 1, p: units(p) };
        if let Some(bin) = self.bins.get_mut(bin_of(score)) {
            bin.add(row);
        }
        if score >= self.threshold {
            self.positive.add(row);
        }
        self.brier += units(p * (1.0 - p));
        self.entropy += units(entropy(p));
    }

    /// Adds another histogram of the same bundle. On error nothing has changed.
    pub fn merge(&mut self, other: &Self) -> Result<(), ScoreHistogramError> {
        if self.threshold.to_bits() != other.threshold.to_bits() {
            return Err(ScoreHistogramError::Threshold);
        }
        let rows = self.rows().saturating_add(other.rows());
        if rows > MAX_ROWS {
            return Err(ScoreHistogramError::TooManyRows { rows });
        }
        for (bin, more) in self.bins.iter_mut().zip(&other.bins) {
            bin.add(*more);
        }
        self.positive.add(other.positive);
        self.brier += other.brier;
        self.entropy += other.entropy;
        self.nulls += other.nulls;
        Ok(())
    }

    /// None without a single row.
    pub fn estimate(&self) -> Option<Estimated> {
        let total = self.total();
        if total.n == 0 {
            return None;
        }
        let (n, p) = (real(total.n), total.sum());
        let (answered, tp) = (real(self.positive.n), self.positive.sum());
        let (fp, fn_) = (answered - tp, (p - tp).max(0.0));
        let tn = (n - answered - fn_).max(0.0);
        let over = |part: f64, of: f64| (of > 0.0).then(|| part / of);
        let brier = value(self.brier);
        Some(Estimated {
            n: total.n,
            tp,
            fp,
            fn_,
            tn,
            accuracy: (tp + tn) / n,
            se_accuracy: brier.sqrt() / n,
            precision: over(tp, answered),
            recall: over(tp, p),
            specificity: over(tn, n - p),
            f1: over(2.0 * tp, 2.0 * tp + fp + fn_),
            brier: brier / n,
            log_loss: value(self.entropy) / n,
            roc_auc: self.roc_auc(p, n - p),
        })
    }

    pub fn nulls(&self) -> u64 {
        self.nulls
    }

    /// The chance that a positive row scores above a negative one; equals within a bin count half.
    fn roc_auc(&self, positive: f64, negative: f64) -> Option<f64> {
        let (mut below, mut above) = (0.0, 0.0);
        for bin in &self.bins {
            let negatives = real(bin.n) - bin.sum();
            above += bin.sum() * (below + negatives / 2.0);
            below += negatives;
        }
        (positive > 0.0 && negative > 0.0).then(|| above / (positive * negative))
    }

    fn total(&self) -> Rows {
        let mut total = Rows::default();
        self.bins.iter().for_each(|bin| total.add(*bin));
        total
    }

    fn rows(&self) -> u64 {
        self.total().n.saturating_add(self.nulls)
    }
}

impl Rows {
    /// Bounded: no histogram holds more than 2^40 rows, and none of them more than 1.
    fn add(&mut self, more: Self) {
        self.n += more.n;
        self.p += more.p;
    }

    fn sum(self) -> f64 {
        value(self.p)
    }

    fn is_possible(self) -> bool {
        self.p <= u128::from(self.n) << 52
    }
}

#[derive(Deserialize)]
struct RawHistogram {
    threshold: f64,
    bins: Vec<Rows>,
    positive: Rows,
    brier: u128,
    entropy: u128,
    nulls: u64,
}

impl TryFrom<RawHistogram> for ScoreHistogram {
    type Error = ScoreHistogramError;

    fn try_from(raw: RawHistogram) -> Result<Self, Self::Error> {
        let RawHistogram { threshold, bins, positive, brier, entropy, nulls } = raw;
        let require = |holds: bool, otherwise| {
            if holds { Ok(()) } else { Err(ScoreHistogramError::Malformed(otherwise)) }
        };
        require((0.0..=1.0).contains(&threshold), "the threshold is not between 0 and 1")?;
        require(bins.len() == SCORE_BINS, "there are not 64 bins")?;
        let rows = bins.iter().try_fold(nulls, |sum, bin| sum.checked_add(bin.n));
        require(rows.is_some_and(|rows| rows <= MAX_ROWS), "it holds more than 2^40 rows")?;
        require(
            bins.iter().chain([&positive]).all(|rows| rows.is_possible()),
            "a sum is too large for its rows",
        )?;
        let made = Self { threshold, bins, positive, brier, entropy, nulls };
        let total = made.total();
        require(positive.n <= total.n && positive.p <= total.p, "more rows are positive than there are")?;
        // p(1-p) is at most 1/4, the entropy at most ln 2.
        let most = u128::from(total.n) << 52;
        require(brier <= most / 4 && entropy <= most, "a loss is too large for the rows")?;
        Ok(made)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to 64, and the last bin is closed"
)]
fn bin_of(score: f64) -> usize {
    ((score * 64.0) as usize).min(SCORE_BINS - 1)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and at most 2^52")]
fn units(value: f64) -> u128 {
    u128::from((value * UNIT) as u64)
}

#[expect(clippy::cast_precision_loss, reason = "the one rounding, after all additions")]
fn value(units: u128) -> f64 {
    units as f64 / UNIT
}

fn entropy(p: f64) -> f64 {
    let side = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    side(p) + side(1.0 - p)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use proptest::prelude::*;

    use super::*;

    fn counted(rows: &[(f64, f64)]) -> Result<ScoreHistogram, ScoreHistogramError> {
        let mut histogram = ScoreHistogram::new(0.5)?;
        rows.iter().for_each(|&(score, p)| histogram.observe(score, p));
        Ok(histogram)
    }

    #[test]
    fn odd_scores_are_nulls_and_edges_are_counted() -> Result<(), Box<dyn Error>> {
        let odd = counted(&[(f64::NAN, 0.5), (0.5, f64::INFINITY), (1.1, 0.5), (-0.1, 0.5)])?;
        assert_eq!((odd.nulls(), odd.estimate()), (4, None));
        let sure = counted(&[(0.0, 0.0), (1.0, 1.0)])?.estimate().ok_or("no estimate")?;
        assert_eq!((sure.n, sure.accuracy.to_bits(), sure.log_loss.to_bits()), (2, 1f64.to_bits(), 0));
        assert_eq!((sure.precision, sure.recall, sure.roc_auc), (Some(1.0), Some(1.0), Some(1.0)));
        let none = counted(&[(0.1, 0.0)])?.estimate().ok_or("no estimate")?;
        assert_eq!((none.precision, none.recall, none.f1, none.roc_auc), (None, None, None, None));
        assert!(ScoreHistogram::new(f64::NAN).is_err());
        Ok(())
    }

    #[test]
    fn what_is_written_is_read_and_what_is_impossible_is_refused() -> Result<(), Box<dyn Error>> {
        let made = counted(&[(0.2, 0.25), (0.9, 0.8)])?;
        let bytes = postcard::to_stdvec(&made)?;
        assert!(bytes.len() < 250, "{}", bytes.len());
        assert_eq!(postcard::from_bytes::<ScoreHistogram>(&bytes)?, made);
        let mut more = made.clone();
        more.positive.p = more.total().p + 1;
        assert!(postcard::from_bytes::<ScoreHistogram>(&postcard::to_stdvec(&more)?).is_err());
        let mut more = made.clone();
        more.bins.pop();
        assert!(postcard::from_bytes::<ScoreHistogram>(&postcard::to_stdvec(&more)?).is_err());
        let mut other = ScoreHistogram::new(0.4)?;
        assert_eq!(other.merge(&made), Err(ScoreHistogramError::Threshold));
        other.threshold = 0.5;
        other.nulls = MAX_ROWS;
        assert!(matches!(other.merge(&made), Err(ScoreHistogramError::TooManyRows { .. })));
        Ok(())
    }

    proptest! {
        #[test]
        fn merging_is_exact_in_any_split(
            rows in prop::collection::vec((0.0f64..=1.0, 0.0f64..=1.0), 0..120),
            at in 0usize..120,
        ) {
            let (left, right) = rows.split_at(at.min(rows.len()));
            let mut merged = counted(right)?;
            merged.merge(&counted(left)?)?;
            prop_assert_eq!(merged, counted(&rows)?);
        }
    }
}
