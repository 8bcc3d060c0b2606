//! What applications asked of a bundle since the last report: counts and a latency histogram.
//!
//! Answers for few rows wait for more. Failures and refusals are the machine's own and are told at once.

use std::time::Duration;

use muster_protocol::drift::Floor;
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
    answers: Answers,
    failures: u64,
    refused: u64,
}

#[derive(Clone, Debug, Default)]
struct Answers {
    requests: u64,
    rows: u64,
    latency: [u32; LATENCY_BOUNDS_US.len() + 1],
}

impl Stats {
    pub fn record(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Answered { rows, took } => {
                self.answers.requests += 1;
                self.answers.rows += rows;
                let us = micros(took);
                let bucket = LATENCY_BOUNDS_US.partition_point(|&bound| u64::from(bound) < us);
                if let Some(count) = self.answers.latency.get_mut(bucket) {
                    *count = count.saturating_add(1);
                }
            }
            Outcome::Failed => self.failures += 1,
            Outcome::Refused => self.refused += 1,
        }
    }

    /// Nothing that may be told.
    pub fn is_quiet(&self, floor: Floor) -> bool {
        self.answers.rows < floor.rows() && self.failures == 0 && self.refused == 0
    }

    /// Hands over what may be told and counts on.
    pub fn take(&mut self, slot: SlotName, bundle: Digest, floor: Floor) -> ModelStats {
        let few = self.answers.rows < floor.rows();
        let answers = if few { Answers::default() } else { std::mem::take(&mut self.answers) };
        let (failures, refused) = (std::mem::take(&mut self.failures), std::mem::take(&mut self.refused));
        let Answers { requests, rows, latency } = answers;
        let requests = requests + failures + refused;
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
        let mut take = || stats.take("m".parse().unwrap(), Digest::of(b"b"), Floor::LEAST);
        let taken = take();
        assert_eq!((taken.requests, taken.rows, taken.failures, taken.refused), (7, 10, 1, 1));
        assert_eq!((taken.latency[0], taken.latency[1], taken.latency[14], taken.latency[15]), (2, 1, 1, 1));
        assert_eq!((take().requests, stats.is_quiet(Floor::LEAST)), (0, true));
    }

    #[test]
    fn answers_for_few_rows_wait_and_failures_do_not() {
        let mut stats = Stats::default();
        let mut check = |outcome, expect| {
            stats.record(outcome);
            let taken = stats.take("m".parse().unwrap(), Digest::of(b"b"), Floor::LEAST);
            let latency: u32 = taken.latency.iter().sum();
            assert_eq!((taken.requests, taken.rows, taken.failures, latency), expect);
        };
        let answered = |rows| Outcome::Answered { rows, took: Duration::ZERO };
        check(answered(1), (0, 0, 0, 0));
        check(Outcome::Failed, (1, 0, 1, 0));
        check(answered(3), (0, 0, 0, 0));
        check(answered(1), (3, 5, 0, 3));
    }
}
