//! Whether a download comes along at all. Whoever sits between may send just enough never to fall silent; below a mean
//! rate it is given up, reported, and begun again later where it stopped. Pure; the time comes in as an argument.

use std::time::{Duration, Instant};

/// The slowest a download may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slowest {
    pub bytes_per_s: u64,
    /// Measured over this long, while there is a connection. Content comes in pieces of 256 KiB, so it must be time enough
    /// for a few.
    pub over: Duration,
}

/// One stretch of a download.
#[derive(Debug)]
pub(super) struct Pace {
    slowest: Slowest,
    bytes: u64,
    /// Before the present connection: whoever breaks connections gains no time.
    spent: Duration,
    since: Option<Instant>,
}

impl Pace {
    pub(super) fn new(slowest: Slowest) -> Self {
        Self { slowest, bytes: 0, spent: Duration::ZERO, since: None }
    }

    /// There is a connection from now on, or none.
    pub(super) fn linked(&mut self, linked: bool, now: Instant) {
        self.spent = self.elapsed(now);
        self.since = linked.then_some(now);
    }

    pub(super) fn came(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// At the end of a stretch: how little came, if it was too little. Else the next stretch begins.
    pub(super) fn too_slow(&mut self, now: Instant) -> Option<u64> {
        if self.elapsed(now) < self.slowest.over {
            return None;
        }
        let bytes = std::mem::take(&mut self.bytes);
        (self.spent, self.since) = (Duration::ZERO, self.since.map(|_| now));
        (bytes < self.slowest.bytes_per_s.saturating_mul(self.slowest.over.as_secs())).then_some(bytes)
    }

    /// When the stretch ends, if the connection holds.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + self.slowest.over.saturating_sub(self.spent))
    }

    fn elapsed(&self, now: Instant) -> Duration {
        self.spent + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    const SLOWEST: Slowest = Slowest { bytes_per_s: 10, over: Duration::from_mins(1) };

    #[test]
    fn a_trickle_is_too_slow_and_a_slow_link_is_not() {
        let check = |bytes_per_s: u64, wanted: Option<u64>| {
            let start = monotonic();
            let mut pace = Pace::new(SLOWEST);
            pace.linked(true, start);
            for second in 1..60 {
                pace.came(bytes_per_s);
                assert_eq!(pace.too_slow(start + Duration::from_secs(second)), None);
            }
            pace.came(bytes_per_s);
            assert_eq!(pace.too_slow(start + Duration::from_mins(1)), wanted);
            assert_eq!(pace.deadline(), Some(start + Duration::from_mins(2)), "the next stretch");
        };
        check(9, Some(540));
        check(10, None);
        check(0, Some(0));
    }

    #[test]
    fn only_time_with_a_connection_counts_and_breaking_it_gains_nothing() {
        let start = monotonic();
        let at = |second| start + Duration::from_secs(second);
        let mut pace = Pace::new(SLOWEST);
        assert_eq!((pace.deadline(), pace.too_slow(at(1_000))), (None, None));
        pace.linked(true, at(1_000));
        pace.linked(false, at(1_040));
        assert_eq!(pace.too_slow(at(5_000)), None);
        pace.linked(true, at(5_000));
        assert_eq!(pace.deadline(), Some(at(5_020)));
        assert_eq!(pace.too_slow(at(5_020)), Some(0));
    }
}
