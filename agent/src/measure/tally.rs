//! What a bundle answered since it was loaded, for those who look at the box itself: never reset, never sent away.

use std::time::Duration;

use muster_protocol::message::report::LATENCY_BOUNDS_US;
use muster_protocol::time::Timestamp;

use crate::stopwatch::micros;

/// Durations of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many lasted no longer than each of [`LATENCY_BOUNDS_US`] (and longer than the one before), and the rest.
    pub counts: [u64; LATENCY_BOUNDS_US.len() + 1],
    pub sum: Duration,
}

impl Durations {
    pub fn record(&mut self, span: Duration) {
        let us = micros(span);
        let bucket = LATENCY_BOUNDS_US.partition_point(|&bound| u64::from(bound) < us);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(span);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Where the time of one run went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Waiting for a session.
    pub queue: Duration,
    /// Reading the tensors and handing them to the runtime.
    pub input: Duration,
    /// In the runtime.
    pub run: Duration,
    /// Taking the outputs from it.
    pub output: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Whole requests that were answered, from the body's last byte on.
    pub answered: Durations,
    /// Requests that were not, for a reason of ours: the model failed, or did not answer in time.
    pub failed: Durations,
    /// Malformed ones.
    pub refused: u64,
    /// Turned away because too many waited.
    pub busy: u64,
    pub rows: u64,
    pub queue: Durations,
    pub input: Durations,
    pub run: Durations,
    pub output: Durations,
    /// When the last one was answered; world time.
    pub last: Option<Timestamp>,
}

impl Tally {
    pub fn answer(&mut self, rows: u64, took: Duration, spent: Spent, now: Timestamp) {
        self.answered.record(took);
        self.rows += rows;
        self.queue.record(spent.queue);
        self.input.record(spent.input);
        self.run.record(spent.run);
        self.output.record(spent.output);
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_in_one_bucket_and_in_the_sum() {
        let mut durations = Durations::default();
        for us in [0, 50, 51, 819_200, 819_201, 10_000_000] {
            durations.record(Duration::from_micros(us));
        }
        assert_eq!((durations.counts[0], durations.counts[1], durations.counts[14]), (2, 1, 1));
        assert_eq!((durations.counts[15], durations.count()), (2, 6));
        assert_eq!(durations.sum, Duration::from_micros(11_638_502));
    }
}
