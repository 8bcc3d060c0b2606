//! How well a calibrated score says of itself that it does, from the counts that a box sends of it anyway.
//!
//! The expected loss and accuracy of a row are functions of its score (confidence-based performance estimation, CBPE), so
//! the bins of the score's stream hold them: nothing more is counted or sent. What the bins do not tell is where in its
//! bin a row lies, and every figure comes with the limits that this leaves. They are narrow where edges are close, which
//! is where the reference has its rows; the sum of all scores is exact, and so is that of each of the two open bins.
//!
//! ```text
//!   bins of the score ──┬─▶ sum of scores ───────────────────────▶ positives to come       exact
//!                       ├─▶ rows and sums on each side of the ───▶ accuracy                value, least, most
//!                       │   threshold
//!                       └─▶ p (1 - p), bin by bin ───────────────▶ squared error (Brier)   value, least, most
//! ```
//! It believes the model. It sees a harder mix of cases, and never that the same case has come to mean something else.

use serde::{Deserialize, Serialize};

use crate::drift::{Counts, NumericReference, Reference, special::real};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimated {
    /// Rows with a score.
    pub n: u64,
    /// Those of them that the scores promise to be positive.
    pub positives: f64,
    /// The expected squared error of a row.
    pub loss: Within,
    /// The expected share of rows answered rightly; None without a threshold.
    pub accuracy: Option<Within>,
}

/// A figure and the limits between which it lies, wherever in their bins the rows are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Within {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Estimated {
    /// From one or many panes of the score's stream. Scores at or above `threshold` are answered as positive. None without
    /// a row, or if the stream's values are no probabilities.
    ///
    /// Boxes join bins of a few rows before they tell of them: a limit may be off by the width of a bin for such rows.
    pub fn of(reference: &Reference, counts: &Counts, threshold: Option<f64>) -> Option<Self> {
        let Reference::Numeric(numeric) = reference else { return None };
        let chance = 0.0..=1.0;
        let is_chance =
            [numeric.min(), numeric.max()].iter().all(|&value| chance.contains(&f64::from(value)));
        let (n, sum) = (counts.n(), counts.sum()?);
        if !is_chance
            || n == 0
            || counts.check_shape(reference).is_err()
            || !chance.contains(&(sum / real(n)))
        {
            return None;
        }
        let bins = bins(numeric, counts, sum);
        Some(Self {
            n,
            positives: sum,
            loss: loss(numeric, &bins, real(n)),
            accuracy: threshold.map(|threshold| accuracy(&bins, sum, real(n), threshold)),
        })
    }
}

/// The rows of one bin: where they may lie, and their mean.
#[derive(Clone, Copy, Debug)]
struct Bin {
    rows: f64,
    low: f64,
    high: f64,
    mean: f64,
    /// Whether the mean is these rows' own, or one that fits the reference's and the sum of all.
    known: bool,
}

fn bins(numeric: &NumericReference, counts: &Counts, sum: f64) -> Vec<Bin> {
    let edges = || numeric.edges().iter().map(|&edge| f64::from(edge));
    let lows = std::iter::once(0.0).chain(edges());
    let highs = edges().chain([1.0]);
    let last = counts.bins().len().saturating_sub(1);
    let open = [(0, counts.sum_first()), (last, counts.sum_last().filter(|_| last > 0))];
    let limits = lows.zip(highs).zip(counts.bins().iter().zip(numeric.bin_means()));
    let mut bins: Vec<Bin> = limits
        .enumerate()
        .map(|(at, ((low, high), (&rows, &usual)))| {
            let own = open.iter().find(|(bin, _)| *bin == at).and_then(|(_, sum)| *sum);
            let own = own.filter(|_| rows > 0).map(|sum| sum / real(rows));
            let mean = own.unwrap_or(usual).clamp(low, high);
            Bin { rows: real(rows), low, high, mean, known: own.is_some() }
        })
        .collect();
    // The means that are not known move towards their limits, all by the same share, until the sum of all is right.
    let missing = sum - bins.iter().map(|bin| bin.rows * bin.mean).sum::<f64>();
    let towards = |bin: &Bin| if missing > 0.0 { bin.high } else { bin.low };
    let unknown = || bins.iter().filter(|bin| !bin.known);
    let room: f64 = unknown().map(|bin| bin.rows * (towards(bin) - bin.mean)).sum();
    let share = if room == 0.0 { 0.0 } else { (missing / room).clamp(0.0, 1.0) };
    for bin in bins.iter_mut().filter(|bin| !bin.known) {
        bin.mean += share * (towards(bin) - bin.mean);
    }
    bins
}

/// The chance of a wrong answer and of a right one, once each: what p (1 - p) is for a row.
fn variance(p: f64) -> f64 {
    p * (1.0 - p)
}

fn loss(numeric: &NumericReference, bins: &[Bin], n: f64) -> Within {
    let spread = spread(numeric, bins);
    let mut sum = Within { value: 0.0, low: 0.0, high: 0.0 };
    for bin in bins {
        let width = bin.high - bin.low;
        // All rows at the bin's two ends, and all of them at its mean.
        let apart = if width > 0.0 {
            let above = (bin.mean - bin.low) / width;
            above * variance(bin.high) + (1.0 - above) * variance(bin.low)
        } else {
            variance(bin.mean)
        };
        let together = variance(bin.mean);
        let (low, high) = if bin.known {
            (apart, together)
        } else {
            let most = 0.5f64.clamp(bin.low, bin.high);
            (variance(bin.low).min(variance(bin.high)), variance(most))
        };
        let value = (together - spread * width * width).clamp(apart, together);
        sum.value += bin.rows * value / n;
        sum.low += bin.rows * low / n;
        sum.high += bin.rows * high / n;
    }
    sum
}

/// The reference's variance inside its bins, in squares of their widths.
fn spread(numeric: &NumericReference, bins: &[Bin]) -> f64 {
    let m = real(numeric.counts.iter().sum());
    let (mut between, mut squares) = (0.0, 0.0);
    for ((&rows, mean), bin) in numeric.counts.iter().zip(numeric.bin_means()).zip(bins) {
        between += real(rows) / m * (mean - numeric.mean()).powi(2);
        squares += real(rows) / m * (bin.high - bin.low).powi(2);
    }
    let within = (numeric.sd() * numeric.sd() - between).max(0.0);
    if squares > 0.0 { within / squares } else { 0.0 }
}

/// Rows of bins that the threshold does not cut: their number, and the least and largest sum of their scores.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    rows: f64,
    low: f64,
    high: f64,
}

impl Side {
    fn add(&mut self, bin: &Bin) {
        let (low, high) = if bin.known { (bin.mean, bin.mean) } else { (bin.low, bin.high) };
        self.rows += bin.rows;
        self.low += bin.rows * low;
        self.high += bin.rows * high;
    }
}

/// A row answered as positive is right with the chance p, another with 1 - p.
fn accuracy(bins: &[Bin], sum: f64, n: f64, threshold: f64) -> Within {
    let (mut below, mut above, mut cut) = (Side::default(), Side::default(), Side::default());
    let (mut value, mut cut_low, mut cut_high) = (0.0, 0.0, 0.0);
    for bin in bins {
        if bin.high <= threshold {
            below.add(bin);
            value += bin.rows * (1.0 - bin.mean);
        } else if bin.low >= threshold {
            above.add(bin);
            value += bin.rows * bin.mean;
        } else {
            cut.add(bin);
            let share = (threshold - bin.low) / (bin.high - bin.low);
            let evenly = share * (1.0 - f64::midpoint(bin.low, threshold))
                + (1.0 - share) * f64::midpoint(threshold, bin.high);
            value += bin.rows * evenly;
            cut_low += bin.rows * threshold.min(1.0 - threshold);
            cut_high += bin.rows * (1.0 - bin.low).max(bin.high);
        }
    }
    // The scores of both sides add up to the sum: what one side has more the other has less.
    let most_above = above.high.min(sum - below.low - cut.low).max(above.low);
    let least_above = above.low.max(sum - below.high - cut.high).min(above.high);
    let least_below = below.low.max(sum - above.high - cut.high).min(below.high);
    let most_below = below.high.min(sum - above.low - cut.low).max(below.low);
    let (low, high) = (
        (below.rows - most_below + least_above + cut_low) / n,
        (below.rows - least_below + most_above + cut_high) / n,
    );
    Within { value: (value / n).clamp(low, high.max(low)), low, high: high.max(low) }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use proptest::prelude::*;

    use super::*;
    use crate::drift::NumericCounter;

    fn counted(reference: &Reference, scores: &[f32]) -> Result<Counts, Box<dyn Error>> {
        let Reference::Numeric(numeric) = reference else { return Err("not numeric".into()) };
        let mut counter = NumericCounter::new(numeric);
        counter.observe_all(scores);
        Ok(counter.take())
    }

    fn exact(scores: &[f32], threshold: f64) -> (f64, f64, f64) {
        let n = real(scores.len() as u64);
        let (mut positives, mut loss, mut right) = (0.0, 0.0, 0.0);
        for p in scores.iter().map(|&score| f64::from(score)) {
            positives += p;
            loss += variance(p) / n;
            right += if p >= threshold { p } else { 1.0 - p } / n;
        }
        (positives, loss, right)
    }

    /// Scores of a rare event: most are small, some are large.
    fn rare(rows: u32, harder: f32) -> Vec<f32> {
        (0..rows)
            .map(|row| {
                let even = f64::from(row * 7919 % rows) / f64::from(rows);
                #[expect(clippy::cast_possible_truncation, reason = "as models answer")]
                let score = (0.005 + 0.9 * even.powi(12)) as f32;
                (score * harder).min(1.0)
            })
            .collect()
    }

    #[test]
    fn the_bins_of_a_score_hold_what_its_rows_say() -> Result<(), Box<dyn Error>> {
        let reference = Reference::numeric(&rare(5000, 1.0))?;
        for harder in [1.0, 1.5] {
            let scores = rare(400, harder);
            let made =
                Estimated::of(&reference, &counted(&reference, &scores)?, Some(0.1)).ok_or("nothing")?;
            let (positives, loss, right) = exact(&scores, 0.1);
            assert!((made.positives - positives).abs() < 1e-3, "{made:?}, {positives}");
            let accuracy = made.accuracy.ok_or("no accuracy")?;
            for (told, exact, off) in [(made.loss, loss, 0.006), (accuracy, right, 0.012)] {
                assert!(told.low - 1e-6 <= exact && exact <= told.high + 1e-6, "{told:?}, {exact}");
                assert!((told.value - exact).abs() < off, "{told:?}, {exact}");
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_no_probability_promises_nothing() -> Result<(), Box<dyn Error>> {
        let ages = Reference::numeric(&[20.0, 30.0, 40.0])?;
        assert_eq!(Estimated::of(&ages, &counted(&ages, &[25.0])?, None), None);
        let scores = Reference::numeric(&[0.1, 0.2, 0.3])?;
        assert_eq!(Estimated::of(&scores, &Counts::empty(&scores), None), None);
        assert_eq!(Estimated::of(&scores, &counted(&scores, &[3.0])?, None), None);
        let names = Reference::categorical([Some("a")])?;
        assert_eq!(Estimated::of(&names, &Counts::empty(&names), None), None);
        let other = Reference::numeric(&[0.1, 0.5])?;
        assert_eq!(Estimated::of(&scores, &counted(&other, &[0.2])?, None), None);
        let one = Estimated::of(&scores, &counted(&scores, &[0.2])?, None).ok_or("nothing")?;
        assert_eq!((one.n, one.accuracy), (1, None));
        Ok(())
    }

    proptest! {
        #[test]
        fn the_limits_hold_wherever_the_rows_are(
            reference in prop::collection::vec(0.0f32..=1.0, 1..300),
            scores in prop::collection::vec(0.0f32..=1.0, 1..80),
            threshold in 0.0f64..=1.0,
        ) {
            let reference = Reference::numeric(&reference)?;
            let counts = counted(&reference, &scores).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let made = Estimated::of(&reference, &counts, Some(threshold));
            let made = made.ok_or_else(|| TestCaseError::fail("nothing"))?;
            let (positives, loss, right) = exact(&scores, threshold);
            prop_assert!((made.positives - positives).abs() < 1e-3);
            let accuracy = made.accuracy.ok_or_else(|| TestCaseError::fail("no accuracy"))?;
            for (told, exact) in [(made.loss, loss), (accuracy, right)] {
                prop_assert!(told.low - 1e-6 <= exact && exact <= told.high + 1e-6, "{:?} {}", told, exact);
                prop_assert!(told.low - 1e-12 <= told.value && told.value <= told.high + 1e-12);
            }
        }
    }
}
