//! How much a shadow may take, and when it must take less.
//!
//! ```text
//!   time     │ run │ run │ run │ rest │ run │ run │ run │ rest │ …      half a second each
//!   budget   processor seconds a second, times the share; what a run took is subtracted
//!   share    95th percentile of the live answers while running against while resting:
//!            more than a tenth above → half the share; hardly above → a quarter more, up to all of it
//! ```
//!
//! Runs and rests take turns by the clock and not by the requests, so that what is busy for other reasons is busy in both.
//!
//! Architecture invariant: no clock, lock or thread here.

use std::time::Duration;

const TURN: Duration = Duration::from_millis(500);
/// Every so manieth turn is a rest.
const TURNS: u128 = 4;
/// Answers that each side needs before they are compared; more than [`ANSWERS_MAX`] are not kept.
const ANSWERS_MIN: usize = 500;
const ANSWERS_MAX: usize = 4096;
/// What the live model may lose: its 95th percentile while the shadow runs, as a multiple of that while it rests.
const SLOWER_MAX: f64 = 1.1;
/// Below it the shadow may have more again.
const SLOWER_EASY: f64 = 1.05;
/// The least share: so the shadow still finds out when it would disturb no more.
const SHARE_MIN: f64 = 1.0 / 64.0;
/// Unused budget is kept for so long, seconds.
const SAVED_MAX_S: f64 = 1.0;

#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Processor seconds a second.
    budget: f64,
    share: f64,
    /// Processor seconds; below zero where a run took more than there was.
    credit: f64,
    at: Duration,
    running: Vec<u32>,
    resting: Vec<u32>,
}

impl Pace {
    pub(super) fn new(budget: f64) -> Self {
        let (at, running, resting) = Default::default();
        Self { budget, share: 1.0, credit: 0.0, at, running, resting }
    }

    /// The share of the budget that the live model leaves, 0 to 1.
    pub(super) fn share(&self) -> f64 {
        self.share
    }

    /// A live request was answered. `now` counts from any moment and never goes back.
    pub(super) fn answered(&mut self, now: Duration, took: Duration) {
        let side = if is_rest(now) { &mut self.resting } else { &mut self.running };
        if side.len() < ANSWERS_MAX {
            side.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
        if self.running.len() >= ANSWERS_MIN && self.resting.len() >= ANSWERS_MIN {
            let slower = p95(&mut self.running) / p95(&mut self.resting).max(1.0);
            if slower > SLOWER_MAX {
                self.share = (self.share / 2.0).max(SHARE_MIN);
            } else if slower < SLOWER_EASY {
                self.share = (self.share * 1.25).min(1.0);
            }
            self.running.clear();
            self.resting.clear();
        }
    }

    /// Whether a run may begin.
    pub(super) fn may_run(&mut self, now: Duration) -> bool {
        let gained = now.saturating_sub(self.at).as_secs_f64() * self.budget * self.share;
        self.at = self.at.max(now);
        self.credit = (self.credit + gained).min(SAVED_MAX_S * self.budget);
        !is_rest(now) && self.credit > 0.0
    }

    /// A run took this much of a processor.
    pub(super) fn ran(&mut self, took: Duration) {
        self.credit -= took.as_secs_f64();
    }
}

/// Whether nothing runs at this time, so that there is something to compare with.
pub(super) fn is_rest(now: Duration) -> bool {
    (now.as_millis() / TURN.as_millis()) % TURNS == TURNS - 1
}

fn p95(took_us: &mut [u32]) -> f64 {
    let rank = (took_us.len() * 95 / 100).min(took_us.len().saturating_sub(1));
    if took_us.is_empty() { 0.0 } else { f64::from(*took_us.select_nth_unstable(rank).1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `seconds` of a thousand requests a second; those that meet a run take `slower` times as long. Processor time spent.
    fn live(
        pace: &mut Pace,
        from: u64,
        seconds: u64,
        run: Duration,
        slower: impl Fn(f64) -> f64,
    ) -> Duration {
        let mut spent = Duration::ZERO;
        for ms in from * 1000..(from + seconds) * 1000 {
            let now = Duration::from_millis(ms);
            if pace.may_run(now) {
                pace.ran(run);
                spent += run;
            }
            let factor = if is_rest(now) { 1.0 } else { slower(pace.share()) };
            pace.answered(now, Duration::from_millis(1).mul_f64(factor));
        }
        spent
    }

    #[test]
    fn what_disturbs_nobody_takes_its_budget_and_no_more() {
        let mut pace = Pace::new(0.5);
        let spent = live(&mut pace, 0, 60, Duration::from_millis(3), |_| 1.0).as_secs_f64();
        assert!((25.0..=30.1).contains(&spent), "{spent} of 30");
        assert!((pace.share() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_disturbs_takes_less_until_it_does_not() {
        let mut pace = Pace::new(0.5);
        // The live model loses half of its speed to the whole budget.
        let slower = |share: f64| 1.0 + 0.5 * share;
        live(&mut pace, 0, 60, Duration::from_millis(3), slower);
        assert!(slower(pace.share()) < SLOWER_MAX + 0.03, "{}", pace.share());
        let spent = live(&mut pace, 60, 60, Duration::from_millis(3), slower).as_secs_f64();
        assert!((1.0..=9.0).contains(&spent), "{spent}");
        // Whatever it was is over.
        live(&mut pace, 120, 120, Duration::from_millis(3), |_| 1.0);
        assert!((pace.share() - 1.0).abs() < 1e-9, "{}", pace.share());
    }

    #[test]
    fn it_never_gives_up_altogether_and_never_saves_up_for_a_burst() {
        let mut pace = Pace::new(0.5);
        live(&mut pace, 0, 200, Duration::from_millis(3), |_| 10.0);
        assert!((pace.share() - SHARE_MIN).abs() < 1e-9);
        let mut pace = Pace::new(0.5);
        let hour = Duration::from_hours(1);
        let runs = (0..10_000).take_while(|_| {
            let may = pace.may_run(hour);
            pace.ran(Duration::from_millis(10));
            may
        });
        assert_eq!(runs.count(), 50, "half a second of the processor, at most");
    }
}
