//! How often certificates are given out: to one key, and in all. Counts only keys that are registered, so that strangers
//! cannot use up what members may have.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::enrol::Fingerprint;
use muster_protocol::time::Timestamp;

use crate::pace::{Bucket, Rate};

/// For one key: enough for a box that is cut off in the middle of an answer again and again.
const KEY: Rate = Rate { burst: 12, every: Duration::from_mins(5) };
/// For all keys together: a hospital whose boxes were all off for months is served within minutes.
const ALL: Rate = Rate { burst: 500, every: Duration::from_millis(20) };
/// Keys remembered. One that has not asked for an hour is forgotten first, which forgives it nothing.
const KEYS_MAX: usize = 20_000;

#[derive(Debug, Default)]
pub(super) struct Throttle {
    all: Bucket,
    keys: BTreeMap<Fingerprint, Bucket>,
}

impl Throttle {
    /// Lets one more pass, or says how long to wait.
    pub(super) fn take(&mut self, key: Fingerprint, now: Timestamp) -> Result<(), Duration> {
        if self.keys.len() >= KEYS_MAX {
            self.keys.retain(|_, bucket| !bucket.is_empty(now));
        }
        let own = self.keys.get(&key).copied().unwrap_or_default();
        if let Some(wait) = own.wait(KEY, now).or_else(|| self.all.wait(ALL, now)) {
            return Err(wait);
        }
        self.all.fill(ALL, now);
        // If the table is full of keys that all asked lately, the common bucket alone holds.
        if self.keys.len() < KEYS_MAX || self.keys.contains_key(&key) {
            self.keys.entry(key).or_default().fill(KEY, now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Fingerprint {
        Fingerprint::of(&n.to_be_bytes())
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + ms)
    }

    /// How many of `asked` pass.
    fn passed(throttle: &mut Throttle, keys: impl Iterator<Item = u32>, ms: i64) -> usize {
        keys.filter(|n| throttle.take(key(*n), at(ms)).is_ok()).count()
    }

    #[test]
    fn one_key_has_its_burst_and_then_its_pace() {
        let mut throttle = Throttle::default();
        assert_eq!(passed(&mut throttle, std::iter::repeat_n(1, 50), 0), 12);
        assert_eq!(throttle.take(key(1), at(0)), Err(Duration::from_mins(5)));
        assert_eq!(passed(&mut throttle, std::iter::repeat_n(1, 50), 299_999), 0);
        assert_eq!(passed(&mut throttle, std::iter::repeat_n(1, 50), 300_000), 1);
        assert_eq!(
            passed(&mut throttle, std::iter::repeat_n(2, 50), 300_000),
            12,
            "another key is another matter"
        );
        assert_eq!(passed(&mut throttle, std::iter::repeat_n(1, 50), 300_000 + 7_200_000), 12);
    }

    #[test]
    fn all_together_have_theirs() {
        let mut throttle = Throttle::default();
        assert_eq!(passed(&mut throttle, 0..2000, 0), 500);
        assert_eq!(passed(&mut throttle, 2000..4000, 1000), 50);
    }

    #[test]
    fn memory_is_bounded() {
        let mut throttle = Throttle::default();
        for n in 0..30_000 {
            throttle.take(key(n), at(i64::from(n) * 20)).ok();
        }
        assert!(throttle.keys.len() <= KEYS_MAX);
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out() {
        let mut throttle = Throttle::default();
        assert_eq!(passed(&mut throttle, std::iter::repeat_n(1, 12), 0), 12);
        assert_eq!(passed(&mut throttle, std::iter::repeat_n(1, 12), -86_400_000), 12);
    }
}
