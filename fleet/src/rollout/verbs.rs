//! What people (and policies) may do to a rollout. A verb that does not fit its state is refused with the reason.

use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::reason::Code;
use super::{Actor, Approval, Cause, Phase, Rollout, StageEnd};
use crate::gate::Verdict;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Says yes to a proposed rollout; its author's own yes does not count.
    Approve,
    /// Hand out to nobody else until resumed.
    Pause,
    /// Go on where it was paused or held; the gate is asked again and never skipped.
    Resume,
    /// Open the next stage without the gate's pass.
    Promote,
    /// Ask those again whose install failed; a rollout that was held because too few could run it goes on.
    Retry,
    /// Stop for good; everybody keeps what they have.
    Abort,
    /// Stop for good; everybody who was told goes back.
    Rollback,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Retry => "retry",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Rollback => "rollback",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("a rollout that is {phase} cannot {verb}")]
    State { verb: &'static str, phase: &'static str },
    #[error("give a reason; it is kept in the log")]
    NoReason,
    #[error("its gate fails: {0}; roll back or abort instead")]
    GateFails(String),
    #[error("only a person can approve a rollout")]
    NotAPerson,
    #[error("{0} proposed it; somebody else must approve it")]
    OwnProposal(String),
    #[error("{0} has approved it already; somebody else must approve it too")]
    ApprovedTwice(String),
}

impl Rollout {
    /// Acts on the rollout, or says why not.
    pub fn act(&mut self, verb: Verb, by: Actor, reason: &str, now: Timestamp) -> Result<(), Refused> {
        let reason = reason.trim();
        let refused = Refused::State { verb: verb.as_str(), phase: self.phase.name() };
        let needs_reason = match verb {
            Verb::Pause | Verb::Approve => false,
            Verb::Resume | Verb::Promote | Verb::Retry | Verb::Abort | Verb::Rollback => true,
        };
        if reason.is_empty() && needs_reason {
            return Err(Refused::NoReason);
        }
        let stage = self.open_stage();
        match (verb, &self.phase) {
            (Verb::Approve, Phase::Proposed { .. }) => self.approve(by, reason, now)?,
            (Verb::Pause, Phase::Running { .. }) => {
                self.phase = Phase::Paused { since: now, by, reason: reason.to_owned(), stage };
            }
            // The time spent paused does not count against the stage's deadline.
            (Verb::Resume, Phase::Paused { since, .. }) => self.resume(stage, *since, now),
            // A held stage has used its time up; it gets it anew.
            (Verb::Resume, Phase::Held { .. }) => {
                let opened = self.record().and_then(|record| record.opened).unwrap_or(now);
                self.resume(stage, opened, now);
            }
            (Verb::Promote, Phase::Running { .. } | Phase::Paused { .. } | Phase::Held { .. }) => {
                self.promote(stage, by, reason, now)?;
            }
            // That too few could run it was why it stood; asked anew, they may.
            (Verb::Retry, Phase::Held { cause, .. }) if cause.code == Code::QuorumLost.as_str() => {
                let opened = self.record().and_then(|record| record.opened).unwrap_or(now);
                self.retried = Some(now);
                self.resume(stage, opened, now);
            }
            (
                Verb::Retry,
                Phase::Running { .. } | Phase::Paused { .. } | Phase::Held { .. } | Phase::Completed { .. },
            ) => self.retried = Some(now),
            (
                Verb::Abort,
                Phase::Proposed { .. }
                | Phase::Scheduled { .. }
                | Phase::Running { .. }
                | Phase::Paused { .. }
                | Phase::Held { .. },
            ) => self.phase = Phase::Aborting { since: now, stage, by, reason: reason.to_owned() },
            (
                Verb::Rollback,
                Phase::Running { .. }
                | Phase::Paused { .. }
                | Phase::Held { .. }
                | Phase::Aborting { .. }
                | Phase::Aborted { .. }
                | Phase::Superseded { .. }
                | Phase::Completed { .. },
            ) => {
                self.phase = Phase::RollingBack { since: now, stage, cause: Cause::new("asked", reason), by };
            }
            (
                Verb::Approve
                | Verb::Pause
                | Verb::Resume
                | Verb::Promote
                | Verb::Retry
                | Verb::Abort
                | Verb::Rollback,
                _,
            ) => return Err(refused),
        }
        Ok(())
    }

    fn approve(&mut self, by: Actor, reason: &str, now: Timestamp) -> Result<(), Refused> {
        let Actor::Person { name } = by else { return Err(Refused::NotAPerson) };
        if self.started_by == (Actor::Person { name: name.clone() }) {
            return Err(Refused::OwnProposal(name));
        }
        if self.approvals.iter().any(|approval| approval.by == name) {
            return Err(Refused::ApprovedTwice(name));
        }
        self.approvals.push(Approval { at: now, by: name, reason: reason.to_owned() });
        self.begin_if_approved(now);
        Ok(())
    }

    fn promote(&mut self, stage: usize, by: Actor, reason: &str, now: Timestamp) -> Result<(), Refused> {
        let gate = self.stages.get(stage).and_then(|record| record.gate.as_ref());
        if let Some(failing) =
            gate.filter(|gate| gate.verdict == Verdict::Fail).and_then(|gate| gate.failing())
        {
            return Err(Refused::GateFails(failing.sentence.clone()));
        }
        self.close(stage, StageEnd::Promoted { at: now, by, reason: reason.to_owned() });
        if stage + 1 == self.plan.stages.len() {
            self.phase = Phase::Completed { at: now };
        } else {
            self.open(stage + 1, now);
        }
        Ok(())
    }

    /// Goes on; what was between `since` and now does not count against the stage.
    fn resume(&mut self, stage: usize, since: Timestamp, now: Timestamp) {
        if let Some(record) = self.stages.get_mut(stage) {
            record.stop(since, Some(now));
        }
        self.phase = Phase::Running { since: now, stage };
    }
}
