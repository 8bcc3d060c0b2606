//! The life of one run: what moves it from state to state, and what is refused.

use std::time::Duration;

use muster_protocol::ids::{ModelName, RolloutId, RunId, TriggerId};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Approval, Approved, CHECKS_MAX, Check, Moment, RunEnd, RunProgress, RunRefused, RunState, RunStep,
    Trigger, Why, all_passed, first_failure,
};
use crate::rollout::Cause;

/// How long a builder may be silent before its run is given to another.
pub const LEASE: Duration = Duration::from_secs(30);
/// How often a run is handed out before it fails.
pub const ATTEMPTS_MAX: u32 = 3;
/// How long a candidate waits for people, real days: while it does, no other run of its model begins.
pub const APPROVAL_DAYS: u64 = 14;

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
    /// Who must agree to its result, as the policy stood when it began.
    #[serde(default)]
    pub approval: Approval,
    /// What its result was held to before it was signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Check>,
}

impl Run {
    pub fn new(id: RunId, trigger: &Trigger, not_before: Timestamp, approval: Approval, now: Moment) -> Self {
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
            approval,
            gates: Vec::new(),
        };
        let state = if not_before > now.world {
            RunState::Collecting { until: not_before }
        } else {
            RunState::Queued { attempt: 0 }
        };
        let actor = trigger.why.author().map_or_else(|| "policy".to_owned(), str::to_owned);
        run.enter(state, Some(actor), now);
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
            RunState::Candidate { until, evaluation, .. } if now.at > *until => {
                let sentence = format!("nobody approved it within {APPROVAL_DAYS} days");
                let cause = Cause::new("approval_timed_out", sentence);
                RunState::Rejected { cause, evaluation: evaluation.clone() }
            }
            RunState::Collecting { .. }
            | RunState::Queued { .. }
            | RunState::Claimed { .. }
            | RunState::Candidate { .. }
            | RunState::Published { .. }
            | RunState::Rejected { .. }
            | RunState::Failed { .. }
            | RunState::Cancelled { .. } => return false,
        };
        self.enter(next, None, now);
        true
    }

    pub fn claim(&mut self, builder: &str, now: Moment) -> Result<(), RunRefused> {
        let RunState::Queued { attempt } = self.state else {
            return Err(RunRefused::NotQueued(self.state.name()));
        };
        let lease_until = now.at.plus(LEASE);
        let state = RunState::Claimed { builder: builder.to_owned(), attempt: attempt + 1, lease_until };
        self.enter(state, Some(builder.to_owned()), now);
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

    /// Ends the builder's part. The same end said twice is taken once.
    pub fn finish(
        &mut self,
        builder: &str,
        end: RunEnd,
        mut gates: Vec<Check>,
        now: Moment,
    ) -> Result<(), RunRefused> {
        gates.truncate(CHECKS_MAX);
        let state = self.after(end, &gates, now);
        if self.state.says_the_same(&state) {
            return Ok(());
        }
        if !self.state.is_open() {
            return Err(RunRefused::Ended(self.state.name()));
        }
        let held = matches!(&self.state, RunState::Claimed { builder: holder, .. } if holder == builder);
        if !held {
            return Err(RunRefused::LeaseLost(builder.to_owned()));
        }
        self.gates = gates;
        self.enter(state, Some(builder.to_owned()), now);
        Ok(())
    }

    /// What a builder's word makes of the run: a failed gate rejects whatever the builder says.
    fn after(&self, end: RunEnd, gates: &[Check], now: Moment) -> RunState {
        let (bundle, evaluation) = match end {
            RunEnd::Published { bundle, evaluation } => (bundle, evaluation),
            RunEnd::Rejected { cause, evaluation } => return RunState::Rejected { cause, evaluation },
            RunEnd::Failed { cause } => return RunState::Failed { cause },
        };
        if let Some(failed) = first_failure(gates) {
            let cause = Cause::new(&failed.code, failed.sentence.clone());
            return RunState::Rejected { cause, evaluation };
        }
        let people = match self.approval {
            Approval::None => 0,
            Approval::IfGatesPass => u8::from(!all_passed(gates)),
            Approval::Required { people } => people,
        };
        if people == 0 {
            return RunState::Published { bundle, evaluation };
        }
        let until = now.at.plus(Duration::from_hours(24 * APPROVAL_DAYS));
        RunState::Candidate { bundle, evaluation, people, approved: Vec::new(), until }
    }

    /// A person agrees to the candidate; with the last that is needed it may be rolled out.
    pub fn approve(&mut self, by: &str, now: Moment) -> Result<(), RunRefused> {
        let author = self.why.author().map(str::to_owned);
        let RunState::Candidate { bundle, evaluation, people, approved, .. } = &mut self.state else {
            return Err(RunRefused::NotCandidate(self.state.name()));
        };
        if author.as_deref() == Some(by) {
            return Err(RunRefused::OwnRun(by.to_owned()));
        }
        if approved.iter().any(|known| known.by == by) {
            return Err(RunRefused::ApprovedBefore(by.to_owned()));
        }
        approved.push(Approved { by: by.to_owned(), at: now.at });
        let agreed = approved.len() >= usize::from(*people);
        let (bundle, evaluation) = (bundle.clone(), evaluation.clone());
        if agreed {
            self.enter(RunState::Published { bundle, evaluation }, Some(by.to_owned()), now);
        } else {
            // It stays a candidate; the timeline says who agreed, and is bounded as the people are.
            self.note("approved", Some(by.to_owned()), Some(bundle.sha256.to_string()), now);
        }
        Ok(())
    }

    /// A person does not want the candidate.
    pub fn reject(&mut self, by: &str, reason: &str, now: Moment) -> Result<(), RunRefused> {
        let RunState::Candidate { evaluation, .. } = &self.state else {
            return Err(RunRefused::NotCandidate(self.state.name()));
        };
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let cause = Cause::new("not_approved", format!("{by} rejected it{why}"));
        let state = RunState::Rejected { cause, evaluation: evaluation.clone() };
        self.enter(state, Some(by.to_owned()), now);
        Ok(())
    }

    pub fn cancel(&mut self, by: &str, reason: &str, now: Moment) -> Result<(), RunRefused> {
        if !self.state.is_open() {
            return Err(RunRefused::Ended(self.state.name()));
        }
        let state = RunState::Cancelled { by: by.to_owned(), reason: reason.to_owned() };
        self.enter(state, Some(by.to_owned()), now);
        Ok(())
    }

    fn enter(&mut self, state: RunState, actor: Option<String>, now: Moment) {
        let evidence = match &state {
            RunState::Collecting { .. } | RunState::Queued { attempt: 0 } => Some(self.trigger.to_string()),
            RunState::Candidate { bundle, .. } | RunState::Published { bundle, .. } => {
                Some(bundle.sha256.to_string())
            }
            RunState::Rejected { cause, .. } | RunState::Failed { cause } => Some(cause.code.clone()),
            RunState::Queued { .. } | RunState::Claimed { .. } | RunState::Cancelled { .. } => None,
        };
        self.note(state.name(), actor, evidence, now);
        self.state = state;
    }

    fn note(&mut self, what: &str, actor: Option<String>, evidence: Option<String>, now: Moment) {
        // Attempts and approvals are bounded, so the timeline is too.
        self.timeline.push(RunStep {
            state: what.to_owned(),
            world_at: now.world,
            at: now.at,
            actor,
            evidence,
        });
    }
}

#[cfg(test)]
mod tests {
    use muster_protocol::ids::IncidentId;
    use muster_protocol::message::up::BundleRef;

    use super::super::{Gate, TriggerOutcome, Verdict};
    use super::*;

    fn moment(hours: i64) -> Moment {
        let at = Timestamp::from_seconds(hours * 3600);
        Moment { at, world: at }
    }

    fn run(approval: Approval, why: Why) -> Run {
        let trigger = Trigger {
            id: TriggerId::mint([2; 16]),
            model: "er".parse().unwrap(),
            at: moment(0).world,
            why,
            outcome: TriggerOutcome::Run { run: RunId::mint([3; 16]) },
            times: 1,
            last: None,
        };
        Run::new(RunId::mint([3; 16]), &trigger, moment(0).world, approval, moment(0))
    }

    fn drift() -> Why {
        let incident = IncidentId::mint([1; 16]);
        Why::Drift { incident, onset: moment(0).world, streams: Vec::new(), bundle: None }
    }

    fn published() -> RunEnd {
        let bundle = BundleRef {
            path: "bundles/er/2026.1.json".parse().unwrap(),
            sha256: muster_protocol::ids::Digest::of(b"bundle"),
        };
        RunEnd::Published { bundle, evaluation: serde_json::Value::Null }
    }

    fn check(verdict: Verdict) -> Check {
        Check::said(Gate::Offline, "worse_on_recent", verdict, "said")
    }

    fn finished(approval: Approval, why: Why, gates: Vec<Check>) -> Run {
        let mut run = run(approval, why);
        run.claim("b", moment(1)).unwrap();
        run.finish("b", published(), gates, moment(1)).unwrap();
        run
    }

    #[test]
    fn leases_are_lost_and_handed_out_again_a_bounded_number_of_times() {
        let mut run = run(Approval::None, drift());
        for attempt in 1..=ATTEMPTS_MAX {
            run.claim("a", moment(i64::from(attempt))).unwrap();
            assert_eq!(run.claim("b", moment(i64::from(attempt))), Err(RunRefused::NotQueued("claimed")));
            assert!(run.tick(moment(i64::from(attempt) + 1)));
        }
        assert_eq!(run.state.name(), "failed");
    }

    #[test]
    fn only_the_holder_of_the_lease_may_finish_and_twice_is_once() {
        let mut run = run(Approval::None, drift());
        run.claim("a", moment(1)).unwrap();
        let end = RunEnd::Failed { cause: Cause::new("trainer_failed", "exit 1") };
        let finish = |run: &mut Run, who: &str| run.finish(who, end.clone(), Vec::new(), moment(1));
        assert_eq!(finish(&mut run, "b"), Err(RunRefused::LeaseLost("b".into())));
        finish(&mut run, "a").unwrap();
        finish(&mut run, "a").unwrap();
        assert_eq!(run.heartbeat("a", None, moment(1)), Err(RunRefused::Ended("failed")));
    }

    #[test]
    fn gates_and_approvals_decide_where_a_candidate_goes() {
        use Verdict::{Failed, Passed, Unknown};
        let check = |approval, gates: &[Verdict], expect: &str| {
            let run = finished(approval, drift(), gates.iter().map(|verdict| check(*verdict)).collect());
            assert_eq!(run.state.name(), expect, "{approval:?} {gates:?}");
        };
        check(Approval::None, &[], "succeeded");
        check(Approval::None, &[Passed, Unknown], "succeeded");
        check(Approval::None, &[Passed, Failed], "rejected");
        check(Approval::IfGatesPass, &[Passed], "succeeded");
        check(Approval::IfGatesPass, &[Passed, Unknown], "candidate");
        check(Approval::IfGatesPass, &[], "candidate");
        check(Approval::Required { people: 1 }, &[Passed], "candidate");
        check(Approval::Required { people: 1 }, &[Failed], "rejected");
    }

    #[test]
    fn distinct_people_approve_and_the_author_is_not_one_of_them() {
        let why = Why::Manual { by: "ada".into(), reason: "test".into() };
        let mut run = finished(Approval::Required { people: 2 }, why, vec![check(Verdict::Passed)]);
        run.finish("b", published(), Vec::new(), moment(2)).unwrap();
        assert_eq!(run.approve("ada", moment(2)), Err(RunRefused::OwnRun("ada".into())));
        run.approve("ben", moment(2)).unwrap();
        assert_eq!(run.approve("ben", moment(2)), Err(RunRefused::ApprovedBefore("ben".into())));
        assert_eq!(run.state.name(), "candidate");
        run.approve("eve", moment(3)).unwrap();
        assert_eq!(run.state.name(), "succeeded");
        assert_eq!(run.approve("joe", moment(3)), Err(RunRefused::NotCandidate("succeeded")));
        let steps: Vec<_> = run
            .timeline
            .iter()
            .map(|step| (step.state.as_str(), step.actor.as_deref().unwrap_or("")))
            .collect();
        let expect = [
            ("queued", "ada"),
            ("claimed", "b"),
            ("candidate", "b"),
            ("approved", "ben"),
            ("succeeded", "eve"),
        ];
        assert_eq!(steps, expect);
        assert_eq!(run.timeline[0].evidence, Some(run.trigger.to_string()));
    }

    #[test]
    fn a_candidate_can_be_rejected_and_does_not_wait_for_ever() {
        let waiting = || finished(Approval::Required { people: 1 }, drift(), Vec::new());
        let mut rejected = waiting();
        rejected.reject("ben", "too bold", moment(2)).unwrap();
        assert_eq!(rejected.timeline.last().unwrap().evidence.as_deref(), Some("not_approved"));
        let mut forgotten = waiting();
        assert!(!forgotten.tick(moment(14 * 24)));
        assert!(forgotten.tick(moment(15 * 24)));
        assert_eq!(forgotten.state.name(), "rejected");
    }
}
