//! A difference as a person reads it: in reference standard deviations, with the interval that the data allow.
//!
//! "+0.5 sd, between 0.3 and 0.7" compares columns, sites and weeks; a PSI or a p-value does not. The interval counts
//! what over-dispersion leaves of the window's rows, and how few replayed windows that was learnt from.

use serde::{Deserialize, Serialize};

use super::{Counts, Reference, StreamReference, Verdict, special::real};

/// Half the width of a 95 % interval, in standard errors.
const Z95: f64 = 1.959_963_984_540_054;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// Of the mean; where there is no scale, the shift of a mean that would change the shares as much (√psi).
    pub sd: f64,
    pub low: f64,
    pub high: f64,
}

impl Shift {
    /// None if the window has no values to compare.
    pub fn of(against: &StreamReference, window: &Counts, verdict: &Verdict) -> Option<Self> {
        let effects = verdict.effects?;
        let learnt = &against.over_dispersion;
        let (n, m) = (real(verdict.n.max(1)), real(against.reference.m()));
        let (sd, v) = match (effects.numeric, &against.reference) {
            (Some(numeric), Reference::Numeric(_)) => (numeric.mean_shift_sd, learnt.v()[0]),
            (None | Some(_), _) => (effects.psi_adj.sqrt(), learnt.a()),
        };
        let error = (v * (1.0 / n + 1.0 / m)).sqrt() * sd_ratio(against, window);
        let half = quantile(learnt.tail()) * error;
        // A distance is never negative.
        let low = if effects.numeric.is_some() { sd - half } else { (sd - half).max(0.0) };
        Some(Self { sd, low, high: sd + half })
    }
}

/// How much wider than the reference the window's values are spread, from its bins; at least 1, so that a window
/// gathered in one bin does not pass for certain.
fn sd_ratio(against: &StreamReference, window: &Counts) -> f64 {
    let Reference::Numeric(numeric) = &against.reference else { return 1.0 };
    let (n, sd) = (real(window.n()), numeric.sd());
    let Some(sum) = window.sum().filter(|_| n > 0.0 && sd > 0.0) else { return 1.0 };
    let mean = sum / n;
    let squares: f64 = window
        .bins()
        .iter()
        .zip(numeric.bin_means())
        .map(|(&rows, bin)| real(rows) * (bin - mean).powi(2))
        .sum();
    ((squares / n).sqrt() / sd).max(1.0)
}

/// Student's 97.5 % quantile for as many degrees of freedom as windows were replayed, by its expansion about the
/// normal one; within 0.3 % from ten on.
fn quantile(windows: Option<u32>) -> f64 {
    let Some(windows) = windows else { return Z95 };
    let r = f64::from(windows);
    let z = Z95;
    z + (z.powi(3) + z) / (4.0 * r) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * r * r)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::drift::{NumericCounter, OverDispersion, test};

    #[test]
    fn the_quantile_is_students() {
        for (windows, expect) in [(10, 2.2281), (30, 2.0423), (100, 1.9840)] {
            assert!((quantile(Some(windows)) / expect - 1.0).abs() < 0.003, "{windows}");
        }
        assert!((quantile(None) - 1.96).abs() < 1e-3);
    }

    #[test]
    fn an_interval_covers_the_truth_and_widens_with_over_dispersion() -> Result<(), Box<dyn Error>> {
        let even = |i: u16| f32::from(u16::try_from(u32::from(i) * 40_503 % 65_536).unwrap_or(0)) / 65_536.0;
        let reference = Reference::numeric(&(0..8000).map(even).collect::<Vec<_>>())?;
        let Reference::Numeric(numeric) = &reference else { return Err("not numeric".into()) };
        let mut counter = NumericCounter::new(numeric);
        (0..500).for_each(|i| counter.observe(even(i) + 0.15));
        let window = counter.take();
        let mut against =
            StreamReference { reference, over_dispersion: OverDispersion::default(), merged: Vec::new() };
        let shift = |against: &StreamReference| -> Result<Shift, Box<dyn Error>> {
            let verdict =
                test(&against.reference, &window, &against.over_dispersion, 1)?.ok_or("no verdict")?;
            Ok(Shift::of(against, &window, &verdict).ok_or("no shift")?)
        };
        let truth = 0.15 * 12f64.sqrt();
        let narrow = shift(&against)?;
        assert!((narrow.sd - truth).abs() < 0.02 && narrow.low < truth && truth < narrow.high, "{narrow:?}");
        against.over_dispersion = serde_json::from_str(
            r#"{"v":[9.0,1.0],"a":1.0,"nu":null,"v0":1.0,"windows":10,"use_rest":true}"#,
        )?;
        let wide = shift(&against)?;
        let factor = (wide.high - wide.low) / (narrow.high - narrow.low);
        assert!((factor - 3.0 * 2.2281 / 1.96).abs() < 0.05, "{factor}");
        Ok(())
    }

    #[test]
    fn categories_have_a_distance_that_is_never_negative() -> Result<(), Box<dyn Error>> {
        let reference = Reference::categorical((0..600).map(|i| Some(["a", "b", "c"][i % 3])))?;
        let window: Counts = serde_json::from_value(
            serde_json::json!({"bins": [40, 40, 40], "n": 120, "nulls": 0, "novel": 0, "values": null}),
        )?;
        let over_dispersion = OverDispersion::default();
        let against = StreamReference { reference, over_dispersion, merged: Vec::new() };
        let verdict = test(&against.reference, &window, &against.over_dispersion, 1)?.ok_or("no verdict")?;
        let shift = Shift::of(&against, &window, &verdict).ok_or("no shift")?;
        assert!(shift.sd < 1e-9 && shift.low.abs() < 1e-9 && shift.high > 0.1, "{shift:?}");
        Ok(())
    }
}
