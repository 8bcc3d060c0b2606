//! When a model is trained again, and the life of one run.
//!
//! ```text
//!   trigger ─▶ decide ─┬▶ refused, with the reason (kept, or people distrust the automation)
//!                      └▶ Collecting ─▶ Queued ─▶ Claimed ─┬▶ Published ─▶ a rollout
//!                                        ▲          │      ├▶ Candidate ─┬▶ Published (people approved it)
//!                                        └ lease ───┘      │             └▶ Rejected  (or nobody did in time)
//!                                                          ├▶ Rejected   (a gate failed)
//!                                                          └▶ Failed
//! ```
//! Cooldowns and waiting for data are world time; leases are real time, because builders are real processes.

mod decide;
mod gates;
mod policy;
#[cfg(test)]
mod properties;
mod run;
mod schedule;
mod state;
mod trigger;

use muster_protocol::time::Timestamp;

pub use decide::{Decision, Situation, decide};
pub use gates::{CHECKS_MAX, Check, Gate, Limit, Verdict, all_passed, first_failure};
pub use policy::{
    APPROVERS_MAX, Approval, COOLDOWN_S_MIN, Guards, HORIZON_DAYS_MAX, LabelPolicy, Policy, PolicyError,
    RolloutPolicy,
};
pub use run::{APPROVAL_DAYS, ATTEMPTS_MAX, LEASE, Run};
pub use schedule::{Schedule, ScheduleError};
pub use state::{Approved, RunEnd, RunProgress, RunRefused, RunState, RunStep};
pub use trigger::{COLLAPSE, Trigger, TriggerOutcome, Why};

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Real time.
    pub at: Timestamp,
    pub world: Timestamp,
}
