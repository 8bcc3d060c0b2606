//! Broken data, apart from drift: values that are suddenly missing, unseen, out of range, or always the same.
//!
//! ```text
//!   missing        share of rows without a value, against the reference's       two proportions
//!   unseen         share of rows in a category the reference never saw   ┐
//!   out of range   share of values outside the reference's range         ┘      lower bound above the limit
//!   stuck          nothing but one value for three windows, though the reference varies
//! ```
//!
//! Drift asks whether the world changed; these ask whether the sensor, the export or the mapping broke, and they say so
//! in rates a person can check. Each answers *pass*, *fail*, or *insufficient*: a rate beyond its limit that chance may
//! still explain is neither.

use serde::{Deserialize, Serialize};

use super::{Counts, CountsError, StreamReference, special::real};

/// Windows that are looked at for a stuck value.
pub const STUCK_WINDOWS: usize = 3;
/// Standard errors before a rate is beyond its limit for sure: one chance in a thousand.
const SURE: f64 = 3.09;
/// Chance of seeing only one value without a fault, at most.
const STUCK_CHANCE: f64 = 1e-6;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QualityLimits {
    /// Change of the missing rate, either way.
    pub missing_change: f64,
    /// Share of rows of a category without a bin, above the reference's own.
    pub unseen: f64,
    /// Share of values outside the reference's range, above the reference's own.
    pub out_of_range: f64,
    /// Rows below which nothing is said.
    pub n_min: u64,
}

impl Default for QualityLimits {
    fn default() -> Self {
        Self { missing_change: 0.02, unseen: 0.01, out_of_range: 0.01, n_min: 50 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QualityRule {
    Missing,
    Unseen,
    OutOfRange,
    Stuck,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QualityAnswer {
    Pass,
    Insufficient,
    Fail,
}

/// One rule's answer, with what it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QualityCheck {
    pub rule: QualityRule,
    pub answer: QualityAnswer,
    /// Rows looked at.
    pub n: u64,
    /// The observed rate; for a stuck value the share of the fullest bin.
    pub rate: f64,
    /// The rate at which the rule fails. The missing rate fails below the reference's as well, as far away.
    pub limit: f64,
}

/// Checks the newest of `windows` (oldest first); the last [`STUCK_WINDOWS`] are enough.
pub fn quality(
    against: &StreamReference,
    windows: &[Counts],
    limits: &QualityLimits,
) -> Result<Vec<QualityCheck>, CountsError> {
    let Some(newest) = windows.last() else { return Ok(Vec::new()) };
    for window in windows {
        window.check_shape(&against.reference)?;
    }
    let novel = if newest.values.is_some() { out_of_range } else { unseen };
    Ok(vec![
        missing(against, newest, limits),
        novel(against, newest, limits),
        stuck(against, windows, limits)?,
    ])
}

fn missing(against: &StreamReference, window: &Counts, limits: &QualityLimits) -> QualityCheck {
    let (nulls, m) = (real(against.reference.nulls()), real(against.reference.m()));
    let (rows, before) = (real(window.rows()), m + nulls);
    let (rate, usual) = (share(real(window.nulls()), rows), share(nulls, before));
    let pooled = share(real(window.nulls()) + nulls, rows + before);
    let error =
        (against.over_dispersion.v0() * pooled * (1.0 - pooled) * (share(1.0, rows) + share(1.0, before)))
            .sqrt();
    let change = (rate - usual).abs();
    let answer = if window.rows() < limits.n_min {
        QualityAnswer::Insufficient
    } else if change < limits.missing_change {
        QualityAnswer::Pass
    } else if change > SURE * error {
        QualityAnswer::Fail
    } else {
        QualityAnswer::Insufficient
    };
    let (rule, n, limit) = (QualityRule::Missing, window.rows(), usual + limits.missing_change);
    QualityCheck { rule, answer, n, rate, limit }
}

fn unseen(against: &StreamReference, window: &Counts, limits: &QualityLimits) -> QualityCheck {
    let usual = match &against.reference {
        super::Reference::Categorical(named) => share(real(named.singletons()), real(against.reference.m())),
        super::Reference::Numeric(_) => 0.0,
    };
    above(QualityRule::Unseen, window, window.n() + window.novel(), usual + limits.unseen, limits)
}

fn out_of_range(against: &StreamReference, window: &Counts, limits: &QualityLimits) -> QualityCheck {
    let usual = match &against.reference {
        super::Reference::Numeric(numeric) => share(real(numeric.novel), real(numeric.m)),
        super::Reference::Categorical(_) => 0.0,
    };
    above(QualityRule::OutOfRange, window, window.n(), usual + limits.out_of_range, limits)
}

/// Fails where even the rate's lower bound (Wilson's) is above the limit.
fn above(rule: QualityRule, window: &Counts, n: u64, limit: f64, limits: &QualityLimits) -> QualityCheck {
    let rate = share(real(window.novel()), real(n));
    let answer = if n < limits.n_min {
        QualityAnswer::Insufficient
    } else if rate <= limit {
        QualityAnswer::Pass
    } else if lower_bound(rate, real(n)) > limit {
        QualityAnswer::Fail
    } else {
        QualityAnswer::Insufficient
    };
    QualityCheck { rule, answer, n, rate, limit }
}

/// A value is stuck if the last windows hold no other and the reference makes that incredible. How many of their rows
/// are independent says the over-dispersion.
fn stuck(
    against: &StreamReference,
    windows: &[Counts],
    limits: &QualityLimits,
) -> Result<QualityCheck, CountsError> {
    let last = &windows[windows.len().saturating_sub(STUCK_WINDOWS)..];
    let total = Counts::merged(last)?;
    let (n, fullest) = total.as_ref().map_or((0, 0), |total| {
        (total.n() + unbinned(total), total.bins().iter().copied().max().unwrap_or(0).max(unbinned(total)))
    });
    let single = match &total {
        Some(total) if total.values.is_some() => total.is_stuck(),
        Some(_) => fullest == n,
        None => false,
    };
    let [location, spread] = against.over_dispersion.v();
    let independent = real(n) / location.max(spread);
    let chance = total.as_ref().map_or(1.0, |total| usual_share(against, total).powf(independent));
    let answer =
        if last.len() < STUCK_WINDOWS || last.iter().any(|window| window.rows() == 0) || n < limits.n_min {
            QualityAnswer::Insufficient
        } else if !single || !varies(against) {
            QualityAnswer::Pass
        } else if chance < STUCK_CHANCE {
            QualityAnswer::Fail
        } else {
            QualityAnswer::Insufficient
        };
    Ok(QualityCheck { rule: QualityRule::Stuck, answer, n, rate: share(real(fullest), real(n)), limit: 1.0 })
}

/// Rows of categories without a bin: as far as counts tell, one more category.
fn unbinned(counts: &Counts) -> u64 {
    if counts.values.is_some() { 0 } else { counts.novel() }
}

fn varies(against: &StreamReference) -> bool {
    match &against.reference {
        super::Reference::Numeric(numeric) => numeric.min() < numeric.max(),
        super::Reference::Categorical(named) => named.categories().len() > 1,
    }
}

/// The reference's share of the bin that holds the most rows now: a single value's share is at most that.
fn usual_share(against: &StreamReference, now: &Counts) -> f64 {
    let pairs = now.bins().iter().zip(against.reference.counts());
    let usual = pairs.max_by_key(|(now, _)| **now).map_or(0, |(_, usual)| *usual);
    share(real(usual) + 0.5, real(against.reference.m()) + 1.0)
}

fn share(part: f64, of: f64) -> f64 {
    if of > 0.0 { part / of } else { 0.0 }
}

fn lower_bound(rate: f64, n: f64) -> f64 {
    let square = SURE * SURE;
    let middle = rate + square / (2.0 * n);
    let width = SURE * (rate * (1.0 - rate) / n + square / (4.0 * n * n)).sqrt();
    (middle - width) / (1.0 + square / n)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::drift::{CategoricalCounter, NumericCounter, OverDispersion, Reference};

    fn stream(reference: Reference) -> StreamReference {
        StreamReference { reference, over_dispersion: OverDispersion::default(), merged: Vec::new() }
    }

    fn answers(
        rows: &[f32],
        windows: &[Vec<f32>],
    ) -> Result<Vec<(QualityRule, QualityAnswer)>, Box<dyn Error>> {
        let against = stream(Reference::numeric(rows)?);
        let Reference::Numeric(numeric) = &against.reference else { return Err("not numeric".into()) };
        let mut counter = NumericCounter::new(numeric);
        let windows: Vec<Counts> = windows
            .iter()
            .map(|values| {
                counter.observe_all(values);
                counter.take()
            })
            .collect();
        let checks = quality(&against, &windows, &QualityLimits::default())?;
        for check in &checks {
            assert!(check.rate.is_finite() && check.limit.is_finite(), "{check:?}");
        }
        Ok(checks.into_iter().map(|check| (check.rule, check.answer)).collect())
    }

    fn one(
        rows: &[f32],
        windows: &[Vec<f32>],
        rule: QualityRule,
        expect: QualityAnswer,
    ) -> Result<(), Box<dyn Error>> {
        let answers = answers(rows, windows)?;
        let found = answers.iter().find(|(of, _)| *of == rule).map(|(_, answer)| *answer);
        assert_eq!(found, Some(expect), "{answers:?}");
        Ok(())
    }

    fn ramp(rows: u16) -> Vec<f32> {
        (0..rows).map(f32::from).collect()
    }

    fn with(values: Vec<f32>, more: usize, value: f32) -> Vec<f32> {
        values.into_iter().chain(std::iter::repeat_n(value, more)).collect()
    }

    use QualityAnswer::{Fail, Insufficient, Pass};
    use QualityRule::{Missing, OutOfRange, Stuck};

    #[test]
    fn the_missing_rate_may_not_change() -> Result<(), Box<dyn Error>> {
        let rows = with(ramp(950), 50, f32::NAN);
        one(&rows, &[with(ramp(190), 10, f32::NAN)], Missing, Pass)?;
        one(&rows, &[with(ramp(140), 60, f32::NAN)], Missing, Fail)?;
        one(&rows, &[ramp(2000)], Missing, Fail)?;
        one(&rows, &[with(ramp(183), 17, f32::NAN)], Missing, Insufficient)?;
        one(&rows, &[with(ramp(20), 29, f32::NAN)], Missing, Insufficient)?;
        one(&rows, &[vec![f32::NAN; 100]], Missing, Fail)
    }

    #[test]
    fn values_may_not_leave_the_range() -> Result<(), Box<dyn Error>> {
        one(&ramp(1000), &[with(ramp(199), 1, 5e3)], OutOfRange, Pass)?;
        one(&ramp(1000), &[with(ramp(196), 4, 5e3)], OutOfRange, Insufficient)?;
        one(&ramp(1000), &[with(ramp(180), 20, 5e3)], OutOfRange, Fail)?;
        one(&ramp(1000), &[vec![5e3; 40]], OutOfRange, Insufficient)?;
        one(&ramp(1000), &[vec![f32::INFINITY; 100]], OutOfRange, Insufficient)
    }

    #[test]
    fn a_value_that_never_moves_is_stuck() -> Result<(), Box<dyn Error>> {
        let still = || vec![500.0; 40];
        one(&ramp(1000), &[still(), still(), still()], Stuck, Fail)?;
        one(&ramp(1000), &[still(), still()], Stuck, Insufficient)?;
        one(&ramp(1000), &[still(), vec![501.0], still()], Stuck, Pass)?;
        one(&ramp(1000), &[ramp(3), still(), still(), still()], Stuck, Fail)?;
        one(&ramp(1000), &[still(), vec![], still()], Stuck, Insufficient)?;
        one(&[500.0; 1000], &[still(), still(), still()], Stuck, Pass)?;
        let mostly_zero = with(ramp(10), 990, 0.0);
        one(&mostly_zero, &[vec![0.0; 40], vec![0.0; 40], vec![0.0; 40]], Stuck, Insufficient)
    }

    #[test]
    fn one_unseen_category_may_come_many_may_not() -> Result<(), Box<dyn Error>> {
        let against = stream(Reference::categorical((0..600).map(|i| Some(["a", "b", "c"][i % 3])))?);
        let Reference::Categorical(named) = &against.reference else { return Err("not categorical".into()) };
        let check = |unseen: usize, seen: usize, expect: QualityAnswer| -> Result<(), Box<dyn Error>> {
            let mut counter = CategoricalCounter::new(named);
            (0..seen).for_each(|i| counter.observe(Some(["a", "b", "c"][i % 3])));
            (0..unseen).for_each(|i| counter.observe(Some(&format!("new {i}"))));
            let checks = quality(&against, &[counter.take()], &QualityLimits::default())?;
            assert_eq!((checks[1].rule, checks[1].answer), (QualityRule::Unseen, expect), "{checks:?}");
            Ok(())
        };
        check(1, 199, Pass)?;
        check(5, 195, Insufficient)?;
        check(20, 180, Fail)?;
        check(100_000, 0, Fail)?;
        check(0, 20, Insufficient)
    }

    #[test]
    fn nothing_is_said_of_no_window() -> Result<(), Box<dyn Error>> {
        assert_eq!(answers(&ramp(100), &[])?, []);
        let empty = answers(&ramp(100), &[vec![]])?;
        assert!(empty.iter().all(|(_, answer)| *answer == Insufficient), "{empty:?}");
        Ok(())
    }
}
