//! What applications asked of a bundle since the last report: counts and a latency histogram.

use std::time::Duration;

use muster_protocol::ids::{Digest, SlotName};
use muster_protocol::message::ModelStats;
use muster_protocol::message::report::LATENCY_BOUNDS_US;

use crate::stopwatch::micros;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered {
        rows: u64,
        took: Duration,
    },
    /// The model failed, or was too busy to answer.
    Failed,
    /// The request was malformed.
    Refused,
}

#[derive(Clone, Debug, Default)]
pub struct Stats {
    requests: u64,
    rows: u64,
    failures: u64,
    refused: u64,
    latency: [u32; LATENCY_BOUNDS_US.len() + 1],
}

impl Stats {
    pub fn record(&mut self, outcome: Outcome) {
        self.requests += 1;
        match outcome {
            Outcome::Answered { rows, took } => {
                self.rows += rows;
                let us = micros(took);
                let bucket = LATENCY_BOUNDS_US.partition_point(|&bound| u64::from(bound) < us);
                if let Some(count) = self.latency.get_mut(bucket) {
                    *count = count.saturating_add(1);
                }
            }
            Outcome::Failed => self.failures += 1,
            Outcome::Refused => self.refused += 1,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.requests == 0
    }

    /// Hands over what was counted and starts again.
    pub fn take(&mut self, slot: SlotName, bundle: Digest) -> ModelStats {
        let Self { requests, rows, failures, refused, latency } = std::mem::take(self);
        ModelStats { slot, bundle, requests, rows, failures, refused, latency: latency.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_counted_once() {
        let mut stats = Stats::default();
        for us in [0, 50, 51, 819_200, 819_201] {
            stats.record(Outcome::Answered { rows: 2, took: Duration::from_micros(us) });
        }
        stats.record(Outcome::Failed);
        stats.record(Outcome::Refused);
        let taken = stats.take("m".parse().unwrap(), Digest::of(b"b"));
        assert_eq!((taken.requests, taken.rows, taken.failures, taken.refused), (7, 10, 1, 1));
        assert_eq!((taken.latency[0], taken.latency[1], taken.latency[14], taken.latency[15]), (2, 1, 1, 1));
        assert!(stats.is_empty());
    }
}
