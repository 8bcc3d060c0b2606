//! What matured labels say: whether the model's probabilities still come true, and how large its error really is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::drift::{Rule, special::chi2_sf, special::real};
use crate::time::Timestamp;

/// Length of the blocks that labels are summed in.
const DAY: Duration = Duration::from_hours(24);

/// Whether all labels of predictions made on the world day from `day` on are in: its last prediction is as old as the
/// horizon. Before that the labels that came early are no sample of those to come.
pub fn is_matured(day: Timestamp, horizon: Duration, now: Timestamp) -> bool {
    day.plus(DAY).plus(horizon) <= now
}

/// The alarm rule for a daily p-value of matured labels: |z| above 3.09 on two of three days, or above 4.8 at once.
/// Its steps take [`ObservedExpected::p`] for `b`.
pub fn label_rule() -> Rule {
    Rule::of_chances(0.002, 1.6e-6)
}

/// Positives that came against those that the probabilities promised. Adds up over days and boxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ObservedExpected {
    pub n: u64,
    pub observed: f64,
    pub expected: f64,
    /// Variance of `observed` if the probabilities are true.
    pub variance: f64,
    /// Spiegelhalter's statistic: its sum and that sum's variance. Zero where only a block's sums were kept.
    pub weighted: f64,
    pub weighted_variance: f64,
}

impl ObservedExpected {
    /// One labelled prediction; nothing if `p` is no probability or `label` neither 0 nor 1.
    pub fn observe(&mut self, label: f64, p: f64) {
        if !(0.0..=1.0).contains(&p) || !(0.0..=1.0).contains(&label) {
            return;
        }
        let chance = p * (1.0 - p);
        let lean = 1.0 - 2.0 * p;
        self.n += 1;
        self.observed += label;
        self.expected += p;
        self.variance += chance;
        self.weighted += (label - p) * lean;
        self.weighted_variance += lean * lean * chance;
    }

    /// From sums alone. Of probabilities with this sum, equal ones vary the most, so that this z is never the larger one.
    /// Not from the losses: on a day on which few positives came they are small too, and chance would look like certainty.
    pub fn of_sums(n: u64, observed: f64, expected: f64) -> Self {
        let equal = quotient(expected, real(n)).unwrap_or(0.0).clamp(0.0, 1.0);
        Self { n, observed, expected, variance: real(n) * equal * (1.0 - equal), ..Self::default() }
    }

    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        Self {
            n: self.n + more.n,
            observed: self.observed + more.observed,
            expected: self.expected + more.expected,
            variance: self.variance + more.variance,
            weighted: self.weighted + more.weighted,
            weighted_variance: self.weighted_variance + more.weighted_variance,
        }
    }

    /// None if nothing was expected.
    pub fn ratio(&self) -> Option<f64> {
        quotient(self.observed, self.expected)
    }

    /// None if chance has no part in it: no rows, or nothing but certainties.
    pub fn z(&self) -> Option<f64> {
        quotient(self.observed - self.expected, self.variance.sqrt())
    }

    pub fn spiegelhalter_z(&self) -> Option<f64> {
        quotient(self.weighted, self.weighted_variance.sqrt())
    }

    /// Two-sided chance of such a z without a change.
    pub fn p(&self) -> Option<f64> {
        self.z().map(two_sided)
    }
}

/// A sum and a sum of squares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    pub n: u64,
    pub sum: f64,
    pub sum_sq: f64,
}

impl Moments {
    pub fn observe(&mut self, value: f64) {
        if value.is_finite() {
            self.n += 1;
            self.sum += value;
            self.sum_sq += value * value;
        }
    }

    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        Self { n: self.n + more.n, sum: self.sum + more.sum, sum_sq: self.sum_sq + more.sum_sq }
    }

    pub fn mean(&self) -> Option<f64> {
        quotient(self.sum, real(self.n))
    }

    /// Sample variance; None for fewer than two values.
    pub fn variance(&self) -> Option<f64> {
        let mean = self.mean().filter(|_| self.n > 1)?;
        Some(((self.sum_sq - mean * self.sum) / (real(self.n) - 1.0)).max(0.0))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub value: f64,
    pub standard_error: f64,
}

/// The mean loss from a few labels and many predictions: `estimated` is the expected loss of every row, `difference` is
/// the real loss less the expected one, of the labelled rows. Right however wrong the expected loss is; narrower than
/// the labels alone where it is good (prediction-powered inference).
pub fn prediction_powered(estimated: &Moments, difference: &Moments) -> Option<Estimate> {
    let value = estimated.mean()? + difference.mean()?;
    let variance = estimated.variance()? / real(estimated.n) + difference.variance()? / real(difference.n);
    Some(Estimate { value, standard_error: variance.sqrt() })
}

/// A regression's errors: label less prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Residuals {
    pub moments: Moments,
    pub abs_sum: f64,
}

/// The same of the holdout that the bundle was released with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegressionHoldout {
    pub residuals: Residuals,
    /// Over-dispersion of a window's mean residual, from replaying the holdout in windows; 1 for independent rows.
    pub v: f64,
}

impl Residuals {
    pub fn observe(&mut self, label: f64, prediction: f64) {
        let residual = label - prediction;
        if residual.is_finite() {
            self.moments.observe(residual);
            self.abs_sum += residual.abs();
        }
    }

    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        Self { moments: self.moments.plus(more.moments), abs_sum: self.abs_sum + more.abs_sum }
    }

    pub fn mae(&self) -> Option<f64> {
        quotient(self.abs_sum, real(self.moments.n))
    }

    /// How far the mean residual has moved from the holdout's, in standard errors.
    pub fn z(&self, holdout: &RegressionHoldout) -> Option<f64> {
        let before = &holdout.residuals.moments;
        let moved = self.moments.mean()? - before.mean()?;
        let chance = 1.0 / real(self.moments.n) + 1.0 / real(before.n);
        quotient(moved, (holdout.v.max(1.0) * before.variance()? * chance).sqrt())
    }

    /// How many times the holdout's mean absolute error this one is.
    pub fn mae_ratio(&self, holdout: &RegressionHoldout) -> Option<f64> {
        quotient(self.mae()?, holdout.residuals.mae()?)
    }
}

fn two_sided(z: f64) -> f64 {
    chi2_sf(z * z, 1.0)
}

fn quotient(part: f64, of: f64) -> Option<f64> {
    let found = part / of;
    (of > 0.0 && found.is_finite()).then_some(found)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::drift::{Alarm, AlarmState, Effect};

    #[test]
    fn labels_count_once_the_last_prediction_of_the_day_is_old_enough() {
        let day = Timestamp::from_seconds(86_400);
        let check = |hours: i64, expect: bool| {
            let now = Timestamp::from_seconds(hours * 3_600);
            assert_eq!(is_matured(day, Duration::from_hours(24), now), expect, "{hours}");
        };
        check(24, false);
        check(71, false);
        check(72, true);
    }

    #[test]
    fn a_rate_that_quadrupled_alarms_and_an_honest_one_does_not() {
        let day = |rate: u32| {
            let mut sums = ObservedExpected::default();
            (0..120).for_each(|i| sums.observe(f64::from(u8::from(i * rate % 1000 < rate)), 0.025));
            sums
        };
        let (rule, mut alarm) = (label_rule(), Alarm::default());
        let mut step =
            |sums: ObservedExpected| alarm.step(&rule, sums.p().unwrap_or(1.0), Effect::Relevant, &[]);
        assert!((0..10).all(|_| step(day(25)) == AlarmState::Ok));
        assert_eq!(step(day(200)), AlarmState::Drift);
    }

    #[test]
    fn sums_say_the_same_as_their_rows_but_more_carefully() -> Result<(), Box<dyn Error>> {
        let mut rows = ObservedExpected::default();
        for i in 0..200u32 {
            rows.observe(f64::from(u8::from(i % 5 == 0)), if i % 2 == 0 { 0.02 } else { 0.18 });
        }
        let sums = ObservedExpected::of_sums(rows.n, rows.observed, rows.expected);
        assert!(sums.n == 200 && sums.ratio().is_some_and(|ratio| (ratio - 2.0).abs() < 1e-9));
        let (careful, exact) = (sums.z().ok_or("no z")?, rows.z().ok_or("no z")?);
        assert!(3.0 < careful && careful < exact, "{careful} {exact}");
        // A day without a positive where four were promised is no certainty.
        let quiet = ObservedExpected::of_sums(139, 0.0, 3.84).z().ok_or("no z")?;
        assert!((-2.1..-1.9).contains(&quiet), "{quiet}");
        assert_eq!(sums.spiegelhalter_z(), None);
        Ok(())
    }

    #[test]
    fn nothing_is_said_without_rows_or_chance() {
        let none = ObservedExpected::default();
        assert_eq!((none.z(), none.ratio(), none.p(), none.spiegelhalter_z()), (None, None, None, None));
        let mut odd = none;
        odd.observe(f64::NAN, 0.5);
        odd.observe(1.0, 1.5);
        assert_eq!(odd, none);
        assert_eq!(prediction_powered(&Moments::default(), &Moments::default()), None);
        assert_eq!(Residuals::default().mae(), None);
    }

    #[test]
    fn a_regression_that_drifts_away_shows_in_its_residuals() -> Result<(), Box<dyn Error>> {
        let errors = |shift: f64, scale: f64| {
            let mut sums = Residuals::default();
            (-50..=50).for_each(|i| sums.observe(30.0 + shift + scale * f64::from(i) / 10.0, 30.0));
            sums
        };
        let holdout = RegressionHoldout { residuals: errors(0.0, 1.0), v: 1.0 };
        let same = errors(0.0, 1.0);
        assert_eq!((same.z(&holdout), same.mae_ratio(&holdout)), (Some(0.0), Some(1.0)));
        let worse = errors(0.0, 2.0);
        assert!(worse.mae_ratio(&holdout).is_some_and(|ratio| (ratio - 2.0).abs() < 1e-12));
        let moved = errors(3.0, 1.0);
        let z = moved.z(&holdout).ok_or("no z")?;
        let careful = moved.z(&RegressionHoldout { v: 4.0, ..holdout }).ok_or("no z")?;
        assert!(z > 7.0 && (z / careful - 2.0).abs() < 1e-9, "{z} {careful}");
        Ok(())
    }
}
