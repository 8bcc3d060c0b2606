//! How often something may happen: a bucket that leaks. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::time::Timestamp;

/// `burst` at once, then one in each span.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub burst: u32,
    pub every: Duration,
}

/// When it would be empty if nothing more came. One number, so that there is no rounding to drift.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    empty_at: Timestamp,
}

/// Buckets by key; those that have run empty are forgotten first, which forgives nothing.
#[derive(Debug)]
pub struct Buckets<K> {
    each: BTreeMap<K, Bucket>,
    max: usize,
}

impl Rate {
    fn depth(self) -> Duration {
        self.every * self.burst
    }
}

impl Bucket {
    pub fn is_empty(self, now: Timestamp) -> bool {
        self.empty_at <= now
    }

    /// How long to wait; nothing if it may be filled now.
    pub fn wait(self, rate: Rate, now: Timestamp) -> Option<Duration> {
        let level = self.empty_at.since(now) + rate.every;
        // A clock that was set back must not lock anybody out for longer than a full bucket does.
        if level > rate.depth() && self.empty_at.since(now) <= rate.depth() {
            Some(level.saturating_sub(rate.depth()))
        } else {
            None
        }
    }

    pub fn fill(&mut self, rate: Rate, now: Timestamp) {
        let from = if self.empty_at.since(now) > rate.depth() { now } else { self.empty_at.max(now) };
        self.empty_at = from.plus(rate.every);
    }
}

impl<K: Ord> Buckets<K> {
    pub fn new(max: usize) -> Self {
        Self { each: BTreeMap::new(), max }
    }

    /// Lets one more pass, or says how long to wait.
    pub fn take(&mut self, key: K, rate: Rate, now: Timestamp) -> Result<(), Duration> {
        if self.each.len() >= self.max {
            self.each.retain(|_, bucket| !bucket.is_empty(now));
        }
        // A table full of keys that all came lately is a flood: those it does not know wait.
        if self.each.len() >= self.max && !self.each.contains_key(&key) {
            return Err(rate.every);
        }
        let bucket = self.each.entry(key).or_default();
        if let Some(wait) = bucket.wait(rate, now) {
            return Err(wait);
        }
        bucket.fill(rate, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, every: Duration::from_secs(10) };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + seconds)
    }

    #[test]
    fn each_key_has_its_burst_and_then_its_pace() {
        let mut buckets = Buckets::new(10);
        let mut passed =
            |key: u32, seconds: i64| (0..9).filter(|_| buckets.take(key, RATE, at(seconds)).is_ok()).count();
        assert_eq!(passed(1, 0), 3);
        assert_eq!(passed(2, 0), 3);
        assert_eq!(passed(1, 9), 0);
        assert_eq!(passed(1, 10), 1);
        assert_eq!(passed(1, 3600), 3);
        assert_eq!(buckets.take(1, RATE, at(3600)), Err(Duration::from_secs(10)));
    }

    #[test]
    fn the_table_is_bounded_and_a_flood_of_new_keys_waits() {
        let mut buckets = Buckets::new(10);
        let passed = (0..100).filter(|key| buckets.take(*key, RATE, at(0)).is_ok()).count();
        assert_eq!((passed, buckets.each.len()), (10, 10));
        assert!(buckets.take(5, RATE, at(0)).is_ok(), "who was known goes on");
        assert!(buckets.take(500, RATE, at(3600)).is_ok(), "those that ran empty make room");
    }
}
