//! How long to wait before the next attempt.

use std::time::Duration;

/// Bounds of the wait.
#[derive(Clone, Copy, Debug)]
pub struct BackOff {
    pub shortest: Duration,
    pub longest: Duration,
}

impl BackOff {
    /// Full jitter: anywhere between the shortest wait and twice as far with every failure, up to the longest.
    pub fn wait(&self, failures: u32, random: u64) -> Duration {
        let ceiling =
            self.shortest.saturating_mul(2_u32.saturating_pow(failures.clamp(1, 16))).min(self.longest);
        self.shortest + within(ceiling.saturating_sub(self.shortest), random)
    }
}

/// Anywhere from nothing to `span`.
pub fn within(span: Duration, random: u64) -> Duration {
    let range = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random % range.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_with_failures_and_stay_in_bounds() {
        let check = |failures, random, wanted_ms| {
            let back_off = BackOff { shortest: Duration::from_millis(200), longest: Duration::from_secs(5) };
            let wait = back_off.wait(failures, random);
            assert_eq!(wait, Duration::from_millis(wanted_ms), "{failures} failures");
        };
        check(0, 0, 200);
        check(1, 200, 400);
        check(1, 201, 200);
        check(2, 599, 799);
        check(30, 4_800, 5_000);
        check(u32::MAX, 4_801, 200);
    }
}
