//! The error budget holds under peeking: thousands of healthy rollouts, looked at after every device and every hour.

use super::{GateLimits, Layer, as_f64, eprocess};

/// A small generator with a seed (Steele, Lea and Flood's `SplitMix`, 2014).
struct Draws(u64);

impl Draws {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        as_f64((z ^ (z >> 31)) >> 11) / as_f64(1 << 53)
    }
}

const ROLLOUTS: u64 = 1000;

/// Share of rollouts in which `crosses` holds at any look.
fn false_alarms(mut crosses: impl FnMut(&mut Draws) -> bool) -> f64 {
    let mut draws = Draws(7);
    as_f64((0..ROLLOUTS).filter(|_| crosses(&mut draws)).count() as u64) / as_f64(ROLLOUTS)
}

/// Three standard errors of a share of `alpha`: what a thousand rollouts may show by chance.
fn tolerated(alpha: f64) -> f64 {
    alpha + 3.0 * (alpha / as_f64(ROLLOUTS)).sqrt()
}

#[test]
fn installs_and_reverts_are_rarely_blamed_at_the_baseline() {
    let limits = GateLimits::default();
    for (layer, base) in
        [(Layer::Install, limits.install_failure_baseline), (Layer::Reverts, limits.revert_baseline)]
    {
        let alpha = limits.alpha_of(layer).unwrap();
        let threshold = eprocess::threshold(Some(alpha));
        let share = false_alarms(|draws| {
            let mut failed = 0;
            // Only a failure can cross the boundary.
            (1..=300).any(|n| {
                let fails = draws.unit() < base;
                failed += u64::from(fails);
                fails && eprocess::bernoulli(failed, n, base) >= threshold
            })
        });
        assert!(share <= tolerated(alpha), "{share} of healthy rollouts stopped, {alpha} allowed");
    }
}

#[test]
fn hours_are_rarely_blamed_at_the_baseline() {
    let limits = GateLimits::default();
    let alpha = limits.alpha_of(Layer::Runtime).unwrap();
    let threshold = eprocess::threshold(Some(alpha));
    let base = limits.runtime_failures_per_hour_baseline;
    let share = false_alarms(|draws| {
        // Failures after exponential times: looked at in the very moment of each, the worst time to look.
        let (mut events, mut hours) = (0.0, 0.0);
        loop {
            hours -= (1.0 - draws.unit()).ln() / base;
            events += 1.0;
            if hours > 4000.0 {
                return false;
            }
            if eprocess::poisson(events, hours, base) >= threshold {
                return true;
            }
        }
    });
    assert!(share <= tolerated(alpha), "{share} of healthy rollouts stopped, {alpha} allowed");
}

/// The trap of section "install": failures answer at once, successes after hours, and one looks all the time.
#[test]
fn bad_news_that_comes_first_condemns_nobody() {
    let limits = GateLimits::default();
    let alpha = limits.alpha_of(Layer::Install).unwrap();
    let threshold = eprocess::threshold(Some(alpha));
    let asked = 50;
    let blamed = |draws: &mut Draws, pending_counts: bool| {
        let failed = (0..asked).filter(|_| draws.unit() < limits.install_failure_baseline).count() as u64;
        let n = if pending_counts { asked } else { failed };
        eprocess::bernoulli(failed, n, limits.install_failure_baseline) >= threshold
    };
    assert!(false_alarms(|draws| blamed(draws, true)) <= tolerated(alpha));
    assert!(false_alarms(|draws| blamed(draws, false)) > 0.2, "the trap is gone: this test shows nothing");
}
