//! Tests that stay valid however often one looks.
//!
//! An e-process is a bet against the bundle being healthy that cannot, on average, win if it is: by Ville's inequality it
//! reaches 1/α with a chance of at most α over the whole rollout, whenever and however often it is read. Both bets here
//! mix over how much worse than the baseline the bundle might be (Johari et al., "Always valid inference", 2015).

use super::as_f64;

/// What the logarithm of an e-value must reach to condemn at this chance of a false alarm.
pub fn threshold(alpha: Option<f64>) -> f64 {
    alpha.map_or(f64::INFINITY, |alpha| -alpha.clamp(1e-12, 1.0).ln())
}

/// Points of the mixture; the integrands are smooth, more changes nothing visible.
const POINTS: u32 = 256;

/// Natural logarithm of the e-value after `failures` of `n` Bernoulli outcomes, against a failure rate of `baseline` or
/// less; the alternative is a Beta(1, 3) over the rates above it.
pub fn bernoulli(failures: u64, n: u64, baseline: f64) -> f64 {
    let base = baseline.clamp(1e-6, 0.5);
    let (k, rest) = (as_f64(failures), as_f64(n.saturating_sub(failures)));
    let healthy = k * base.ln() + rest * (1.0 - base).ln();
    let terms = (0..POINTS).map(|i| {
        let p = base + (1.0 - base) * (f64::from(i) + 0.5) / f64::from(POINTS);
        let weight = (1.0 - p).powi(2);
        (weight, k * p.ln() + rest * (1.0 - p).ln() - healthy)
    });
    log_mean(terms)
}

/// Natural logarithm of the e-value after `events` in `hours` of exposure, against a hazard of `baseline` per hour or
/// less; the alternative mixes hazards from the baseline to 400 times it, evenly on a logarithmic scale.
pub fn poisson(events: f64, hours: f64, baseline: f64) -> f64 {
    let base = baseline.max(1e-9);
    let terms = (0..POINTS).map(|i| {
        let ratio = 400_f64.powf((f64::from(i) + 0.5) / f64::from(POINTS));
        (1.0, events * ratio.ln() - base * (ratio - 1.0) * hours)
    });
    log_mean(terms)
}

/// ln of the weighted mean of exp(value), without overflow.
fn log_mean(terms: impl Iterator<Item = (f64, f64)>) -> f64 {
    let terms: Vec<(f64, f64)> = terms.collect();
    let top = terms.iter().map(|&(_, value)| value).fold(f64::NEG_INFINITY, f64::max);
    let weight: f64 = terms.iter().map(|&(weight, _)| weight).sum();
    let sum: f64 = terms.iter().map(|&(weight, value)| weight * (value - top).exp()).sum();
    top + (sum / weight).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The boundary of research on small canaries: 2 failures by device 2 to 5, 3 by 8 to 15, 4 by 20 to 30.
    #[test]
    fn the_boundary_is_the_published_one() {
        let stops_at = |n: u64| (0..=n).find(|&k| bernoulli(k, n, 0.02) >= (1.0_f64 / 0.05).ln());
        for (n, k) in [(2, 2), (5, 2), (8, 3), (15, 3), (20, 4), (30, 4), (40, 5), (50, 6)] {
            assert_eq!(stops_at(n), Some(k), "of {n}");
        }
        assert_eq!(stops_at(1), None);
    }

    #[test]
    fn exposure_without_events_calms() {
        assert!(poisson(0.0, 100.0, 0.005) < 0.0);
        assert!(poisson(5.0, 10.0, 0.005) > (1.0_f64 / 0.025).ln());
        assert!(poisson(1.0, 200.0, 0.005) < (1.0_f64 / 0.025).ln());
    }
}
