//! When a model is trained again, and the life of one run.
//!
//! ```text
//!   trigger ─▶ decide ─┬▶ refused, with the reason (kept, or people distrust the automation)
//!                      └▶ Collecting ─▶ Queued ─▶ Claimed ─┬▶ Published ─▶ a rollout
//!                                        ▲          │      ├▶ Rejected   (no better than the champion)
//!                                        └ lease ───┘      └▶ Failed
//! ```
//! Cooldowns and waiting for data are world time; leases are real time, because builders are real processes.

use std::time::Duration;

use muster_protocol::ids::{IncidentId, ModelName, RolloutId, RunId, StreamName, TriggerId};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rollout::{Cause, Plan};

/// How long a builder may be silent before its run is given to another.
pub const LEASE: Duration = Duration::from_secs(30);
/// How often a run is handed out before it fails.
pub const ATTEMPTS_MAX: u32 = 3;
/// Shortest cooldown that a policy may ask for, seconds.
pub const COOLDOWN_S_MIN: u64 = 3600;

/// Longest time that labels may need, days: what is older is not kept long enough to be judged.
pub const HORIZON_DAYS_MAX: u64 = 180;

const WEEK_S: u64 = 7 * 86_400;

/// When a model's owner wants it trained again. All times are world time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    pub model: ModelName,
    pub enabled: bool,
    /// Share of a bundle's monitored streams that must drift.
    pub drift_share: f64,
    /// Least time between two runs, seconds.
    pub cooldown_s: u64,
    /// How much of the new world must have been seen before training on it, seconds after the onset.
    pub min_data_s: u64,
    pub runs_per_week_max: u32,
    /// What matured labels may ask for.
    #[serde(default)]
    pub labels: LabelPolicy,
    /// What happens with a bundle that a run published.
    pub rollout: RolloutPolicy,
}

/// How the model's own outcomes are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelPolicy {
    /// World time after a prediction at which its label is in, seconds.
    pub horizon_s: u64,
    /// Whether answers that do not come true ask for retraining, or only for a person.
    pub retrain: bool,
}

impl Default for LabelPolicy {
    fn default() -> Self {
        Self { horizon_s: 86_400, retrain: false }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum RolloutPolicy {
    /// It waits for a person.
    Manual,
    Automatic {
        plan: Plan,
    },
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PolicyError {
    #[error("drift_share is a share above 0 and up to 1")]
    Share,
    #[error("cooldown_s must be at least {COOLDOWN_S_MIN}")]
    Cooldown,
    #[error("runs_per_week_max must be at least 1; disable the policy instead")]
    Runs,
    #[error("labels that come later than {HORIZON_DAYS_MAX} days are not waited for")]
    Horizon,
    #[error("the rollout plan is not usable")]
    Plan(#[source] crate::rollout::PlanError),
}

impl Policy {
    pub fn check(&self) -> Result<(), PolicyError> {
        if !(self.drift_share > 0.0 && self.drift_share <= 1.0) {
            return Err(PolicyError::Share);
        }
        if self.cooldown_s < COOLDOWN_S_MIN {
            return Err(PolicyError::Cooldown);
        }
        if self.runs_per_week_max == 0 {
            return Err(PolicyError::Runs);
        }
        if self.labels.horizon_s > HORIZON_DAYS_MAX * 86_400 {
            return Err(PolicyError::Horizon);
        }
        match &self.rollout {
            RolloutPolicy::Manual => Ok(()),
            RolloutPolicy::Automatic { plan } => plan.check().map_err(PolicyError::Plan),
        }
    }
}

/// Why a retraining is asked for; its id follows the loop to the last device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    pub id: TriggerId,
    pub model: ModelName,
    /// World time.
    pub at: Timestamp,
    pub why: Why,
    pub outcome: TriggerOutcome,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Why {
    Drift {
        incident: IncidentId,
        onset: Timestamp,
        streams: Vec<StreamName>,
    },
    /// The answers do not come true any more.
    Labels {
        incident: IncidentId,
        onset: Timestamp,
    },
    Manual {
        by: String,
        reason: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum TriggerOutcome {
    Run { run: RunId },
    Refused { cause: Cause },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Train, not before this time.
    Run {
        not_before: Timestamp,
    },
    Refuse(Cause),
}

/// Whether a trigger becomes a run. `runs` are the model's newest ones, any order.
pub fn decide(policy: Option<&Policy>, why: &Why, runs: &[Run], now: Timestamp) -> Decision {
    let refuse = |code: &str, sentence: String| Decision::Refuse(Cause::new(code, sentence));
    if let Some(open) = runs.iter().find(|run| run.state.is_open()) {
        return refuse("run_open", format!("run {} of this model is under way already", open.id));
    }
    let onset = match why {
        Why::Manual { .. } => return Decision::Run { not_before: now },
        Why::Drift { onset, .. } | Why::Labels { onset, .. } => *onset,
    };
    let Some(policy) = policy else {
        return refuse(
            "no_policy",
            "the model has no retrain policy; set one or start a run by hand".to_owned(),
        );
    };
    if !policy.enabled {
        return refuse("disabled", "the model's retrain policy is disabled".to_owned());
    }
    let cooldown = Duration::from_secs(policy.cooldown_s);
    if let Some(last) = runs.iter().map(|run| run.created).max()
        && now < last.plus(cooldown)
    {
        return refuse(
            "cooldown",
            format!("the last run began {last}; the cooldown ends {}", last.plus(cooldown)),
        );
    }
    let this_week = runs.iter().filter(|run| now.since(run.created).as_secs() < WEEK_S).count();
    if this_week >= policy.runs_per_week_max as usize {
        return refuse("budget", format!("{this_week} runs within a week, as many as the policy allows"));
    }
    Decision::Run { not_before: onset.plus(Duration::from_secs(policy.min_data_s)).max(now) }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub id: RunId,
    pub model: ModelName,
    pub trigger: TriggerId,
    pub why: Why,
    /// World time.
    pub created: Timestamp,
    pub state: RunState,
    /// When it entered each state it has been in: world time and real time.
    pub timeline: Vec<RunStep>,
    pub progress: Option<RunProgress>,
    /// The rollout that followed.
    pub rollout: Option<RolloutId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStep {
    pub state: String,
    pub world_at: Timestamp,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunProgress {
    /// 0 to 1.
    pub fraction: f64,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum RunState {
    /// Waits until enough of the new world has been seen; world time.
    Collecting {
        until: Timestamp,
    },
    Queued {
        attempt: u32,
    },
    /// A builder works on it; the lease is real time.
    Claimed {
        builder: String,
        attempt: u32,
        lease_until: Timestamp,
    },
    Published {
        bundle: BundleRef,
        evaluation: serde_json::Value,
    },
    Rejected {
        cause: Cause,
        evaluation: serde_json::Value,
    },
    Failed {
        cause: Cause,
    },
    Cancelled {
        by: String,
        reason: String,
    },
}

/// How a builder says a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    Published { bundle: BundleRef, evaluation: serde_json::Value },
    Rejected { cause: Cause, evaluation: serde_json::Value },
    Failed { cause: Cause },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunRefused {
    #[error("the run is {0}, not queued")]
    NotQueued(&'static str),
    #[error("the run is not leased to '{0}' any more; stop working on it")]
    LeaseLost(String),
    #[error("the run has ended as {0}")]
    Ended(&'static str),
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Real time.
    pub at: Timestamp,
    pub world: Timestamp,
}

impl RunState {
    /// What [`Self::name`] can be.
    pub const NAMES: [&'static str; 7] =
        ["collecting", "queued", "claimed", "succeeded", "rejected", "failed", "cancelled"];

    pub fn name(&self) -> &'static str {
        match self {
            Self::Collecting { .. } => "collecting",
            Self::Queued { .. } => "queued",
            Self::Claimed { .. } => "claimed",
            Self::Published { .. } => "succeeded",
            Self::Rejected { .. } => "rejected",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    pub fn is_open(&self) -> bool {
        match self {
            Self::Collecting { .. } | Self::Queued { .. } | Self::Claimed { .. } => true,
            Self::Published { .. } | Self::Rejected { .. } | Self::Failed { .. } | Self::Cancelled { .. } => {
                false
            }
        }
    }
}

impl Run {
    pub fn new(id: RunId, trigger: &Trigger, not_before: Timestamp, now: Moment) -> Self {
        let mut run = Self {
            id,
            model: trigger.model.clone(),
            trigger: trigger.id.clone(),
            why: trigger.why.clone(),
            created: now.world,
            state: RunState::Queued { attempt: 0 },
            timeline: Vec::new(),
            progress: None,
            rollout: None,
        };
        let state = if not_before > now.world {
            RunState::Collecting { until: not_before }
        } else {
            RunState::Queued { attempt: 0 }
        };
        run.enter(state, now);
        run
    }

    /// What time alone changes: enough data, or a lost lease. `true` if it did.
    pub fn tick(&mut self, now: Moment) -> bool {
        let next = match &self.state {
            RunState::Collecting { until } if now.world >= *until => RunState::Queued { attempt: 0 },
            RunState::Claimed { attempt, lease_until, builder } if now.at > *lease_until => {
                if *attempt >= ATTEMPTS_MAX {
                    let sentence = format!("builder '{builder}' fell silent, as {attempt} attempts did");
                    RunState::Failed { cause: Cause::new("lease_lost", sentence) }
                } else {
                    RunState::Queued { attempt: *attempt }
                }
            }
            RunState::Collecting { .. }
            | RunState::Queued { .. }
            | RunState::Claimed { .. }
            | RunState::Published { .. }
            | RunState::Rejected { .. }
            | RunState::Failed { .. }
            | RunState::Cancelled { .. } => return false,
        };
        self.enter(next, now);
        true
    }

    pub fn claim(&mut self, builder: &str, now: Moment) -> Result<(), RunRefused> {
        let RunState::Queued { attempt } = self.state else {
            return Err(RunRefused::NotQueued(self.state.name()));
        };
        let lease_until = now.at.plus(LEASE);
        self.enter(RunState::Claimed { builder: builder.to_owned(), attempt: attempt + 1, lease_until }, now);
        Ok(())
    }

    /// Keeps the lease and takes the progress.
    pub fn heartbeat(
        &mut self,
        builder: &str,
        progress: Option<RunProgress>,
        now: Moment,
    ) -> Result<(), RunRefused> {
        if !self.state.is_open() {
            return Err(RunRefused::Ended(self.state.name()));
        }
        let RunState::Claimed { builder: holder, lease_until, .. } = &mut self.state else {
            return Err(RunRefused::LeaseLost(builder.to_owned()));
        };
        if holder != builder {
            return Err(RunRefused::LeaseLost(builder.to_owned()));
        }
        *lease_until = now.at.plus(LEASE);
        if progress.is_some() {
            self.progress = progress;
        }
        Ok(())
    }

    /// Ends the run. The same end said twice is taken once.
    pub fn finish(&mut self, builder: &str, end: RunEnd, now: Moment) -> Result<(), RunRefused> {
        let state = match end {
            RunEnd::Published { bundle, evaluation } => RunState::Published { bundle, evaluation },
            RunEnd::Rejected { cause, evaluation } => RunState::Rejected { cause, evaluation },
            RunEnd::Failed { cause } => RunState::Failed { cause },
        };
        if self.state == state {
            return Ok(());
        }
        if !self.state.is_open() {
            return Err(RunRefused::Ended(self.state.name()));
        }
        let held = matches!(&self.state, RunState::Claimed { builder: holder, .. } if holder == builder);
        if !held {
            return Err(RunRefused::LeaseLost(builder.to_owned()));
        }
        self.enter(state, now);
        Ok(())
    }

    pub fn cancel(&mut self, by: &str, reason: &str, now: Moment) -> Result<(), RunRefused> {
        if !self.state.is_open() {
            return Err(RunRefused::Ended(self.state.name()));
        }
        self.enter(RunState::Cancelled { by: by.to_owned(), reason: reason.to_owned() }, now);
        Ok(())
    }

    fn enter(&mut self, state: RunState, now: Moment) {
        // Attempts are bounded, so the timeline is too.
        self.timeline.push(RunStep { state: state.name().to_owned(), world_at: now.world, at: now.at });
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_seconds(hours * 3600)
    }

    fn moment(hours: i64) -> Moment {
        Moment { at: at(hours), world: at(hours) }
    }

    fn policy() -> Policy {
        Policy {
            model: "er".parse().unwrap(),
            enabled: true,
            drift_share: 0.2,
            cooldown_s: 24 * 3600,
            min_data_s: 48 * 3600,
            runs_per_week_max: 2,
            labels: LabelPolicy::default(),
            rollout: RolloutPolicy::Manual,
        }
    }

    fn drift() -> Why {
        Why::Drift { incident: IncidentId::mint([1; 16]), onset: at(0), streams: Vec::new() }
    }

    fn run(created: i64) -> Run {
        let trigger = Trigger {
            id: TriggerId::mint([2; 16]),
            model: "er".parse().unwrap(),
            at: at(created),
            why: drift(),
            outcome: TriggerOutcome::Run { run: RunId::mint([3; 16]) },
        };
        Run::new(RunId::mint([3; 16]), &trigger, at(created), moment(created))
    }

    fn ended(created: i64) -> Run {
        let mut run = run(created);
        run.cancel("me", "test", moment(created)).unwrap();
        run
    }

    fn refused(decision: &Decision) -> &str {
        match decision {
            Decision::Refuse(cause) => &cause.code,
            Decision::Run { .. } => "run",
        }
    }

    #[test]
    fn triggers_are_decided() {
        let check = |policy: Option<&Policy>, runs: &[Run], now, expect| {
            assert_eq!(refused(&decide(policy, &drift(), runs, at(now))), expect);
        };
        let policy = policy();
        check(Some(&policy), &[], 10, "run");
        check(None, &[], 10, "no_policy");
        check(Some(&Policy { enabled: false, ..policy.clone() }), &[], 10, "disabled");
        check(Some(&policy), &[run(1)], 10, "run_open");
        check(Some(&policy), &[ended(1)], 10, "cooldown");
        check(Some(&policy), &[ended(1), ended(30)], 60, "budget");
        check(Some(&policy), &[ended(1)], 60, "run");
    }

    #[test]
    fn it_waits_until_enough_of_the_new_world_was_seen() {
        assert_eq!(decide(Some(&policy()), &drift(), &[], at(10)), Decision::Run { not_before: at(48) });
        assert_eq!(decide(Some(&policy()), &drift(), &[], at(60)), Decision::Run { not_before: at(60) });
        let manual = Why::Manual { by: "me".into(), reason: "test".into() };
        assert_eq!(decide(None, &manual, &[], at(10)), Decision::Run { not_before: at(10) });
    }

    #[test]
    fn leases_are_lost_and_handed_out_again_a_bounded_number_of_times() {
        let mut run = run(0);
        for attempt in 1..=ATTEMPTS_MAX {
            run.claim("a", moment(i64::from(attempt))).unwrap();
            assert_eq!(run.claim("b", moment(i64::from(attempt))), Err(RunRefused::NotQueued("claimed")));
            assert!(run.tick(moment(i64::from(attempt) + 1)));
        }
        assert_eq!(run.state.name(), "failed");
    }

    #[test]
    fn only_the_holder_of_the_lease_may_finish_and_twice_is_once() {
        let mut run = run(0);
        run.claim("a", moment(1)).unwrap();
        let end = RunEnd::Failed { cause: Cause::new("trainer_failed", "exit 1") };
        assert_eq!(run.finish("b", end.clone(), moment(1)), Err(RunRefused::LeaseLost("b".into())));
        run.finish("a", end.clone(), moment(1)).unwrap();
        run.finish("a", end, moment(1)).unwrap();
        assert_eq!(run.heartbeat("a", None, moment(1)), Err(RunRefused::Ended("failed")));
    }
}
