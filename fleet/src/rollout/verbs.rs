//! What people (and policies) may do to a rollout. A verb that does not fit its state is refused with the reason.

use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Actor, Cause, Phase, Rollout, StageEnd};
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
    /// Ask those again whose install failed.
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
}

impl Rollout {
    /// Acts on the rollout, or says why not.
    pub fn act(&mut self, verb: Verb, by: Actor, reason: &str, now: Timestamp) -> Result<(), Refused> {
        let reason = reason.trim();
        let refused = Refused::State { verb: verb.as_str(), phase: self.phase.name() };
        if reason.is_empty() && verb != Verb::Pause {
            return Err(Refused::NoReason);
        }
        let Some(stage) = self.phase.stage() else {
            // Completed: only the way back is left.
            return match verb {
                Verb::Rollback => {
                    self.roll_back(self.plan.stages.len() - 1, by, reason, now);
                    Ok(())
                }
                Verb::Approve | Verb::Retry | Verb::Pause | Verb::Resume | Verb::Promote | Verb::Abort => {
                    Err(refused)
                }
            };
        };
        match (verb, &self.phase) {
            (Verb::Pause, Phase::Running { .. }) => {
                self.phase = Phase::Paused { since: now, by, reason: reason.to_owned(), stage };
            }
            (Verb::Resume, Phase::Paused { since, .. }) => {
                // The time spent paused does not count against the stage's deadline.
                let paused = now.since(*since);
                self.reopen(stage, now, |opened| opened.plus(paused));
            }
            // A held stage has used its time up; it gets it anew.
            (Verb::Resume, Phase::Held { .. }) => self.reopen(stage, now, |_| now),
            (Verb::Promote, Phase::Running { .. } | Phase::Paused { .. } | Phase::Held { .. }) => {
                self.promote(stage, by, reason, now)?;
            }
            (Verb::Abort, Phase::Running { .. } | Phase::Paused { .. } | Phase::Held { .. }) => {
                self.phase = Phase::Aborted { at: now, stage, by, reason: reason.to_owned() };
            }
            (
                Verb::Rollback,
                Phase::Running { .. } | Phase::Paused { .. } | Phase::Held { .. } | Phase::Aborted { .. },
            ) => self.roll_back(stage, by, reason, now),
            _ => return Err(refused),
        }
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

    fn reopen(&mut self, stage: usize, now: Timestamp, opened: impl Fn(Timestamp) -> Timestamp) {
        if let Some(time) = self.stages.get_mut(stage).and_then(|record| record.opened.as_mut()) {
            *time = opened(*time);
        }
        self.phase = Phase::Running { since: now, stage };
    }

    fn roll_back(&mut self, stage: usize, by: Actor, reason: &str, now: Timestamp) {
        self.phase = Phase::RollingBack { since: now, stage, cause: Cause::new("asked", reason), by };
    }
}
