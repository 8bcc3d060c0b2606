//! The rollout engine's mind: which box gets which bundle when, and why not more.
//!
//! ```text
//!             start              gate passes (last stage)
//!   plan ───▶ Running(stage) ───────────────────────────▶ Completed
//!               │  ▲   │ a layer fails
//!         pause │  │   └──────────▶ RollingBack ─────────▶ RolledBack
//!               ▼  │ resume           ▲
//!             Paused                  │ rollback
//!               Held ─── promote ──▶ (next stage)          abort: Aborted, everybody keeps what they have
//!             (undecided at the deadline, or the quorum is out of reach)
//! ```
//! Level-triggered: [`advance::advance`] sees the whole rollout and the whole fleet and says the whole answer, so a
//! server that was killed in the middle continues by asking again. All times here are world time.
//!
//! Pure: no clock, no database, no network, no log. It may fail only by refusing a transition.

pub mod advance;
pub mod explain;
pub mod plan;
#[cfg(test)]
mod properties;
pub mod verbs;
pub mod view;

use std::collections::BTreeMap;

use muster_protocol::ids::{DeviceId, ModelName, RolloutId, SlotName, TriggerId};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::gate::GateReport;

pub use advance::{Advance, Assignment, Transition, WaitingOn, advance};
pub use plan::{Plan, PlanError, Selector, Size, StagePlan};
pub use verbs::{Refused, Verb};
pub use view::{DeviceView, FleetView};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    pub id: RolloutId,
    pub model: ModelName,
    pub slot: SlotName,
    pub bundle: BundleRef,
    pub plan: Plan,
    pub started_by: Actor,
    pub reason: String,
    pub created: Timestamp,
    pub phase: Phase,
    /// What is known of each stage so far; as long as the plan's stages.
    pub stages: Vec<StageRecord>,
}

/// What has happened. Each state carries its own facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Phase {
    Running { since: Timestamp, stage: usize },
    Paused { since: Timestamp, by: Actor, reason: String, stage: usize },
    Held { since: Timestamp, stage: usize, cause: Cause },
    RollingBack { since: Timestamp, stage: usize, cause: Cause, by: Actor },
    RolledBack { at: Timestamp, stage: usize, cause: Cause },
    Aborted { at: Timestamp, stage: usize, by: Actor, reason: String },
    Completed { at: Timestamp },
}

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    Person {
        name: String,
    },
    /// A retrain policy, on behalf of the trigger it follows.
    Policy {
        trigger: Option<TriggerId>,
    },
    /// The engine itself, by a gate.
    Engine,
}

/// Why: a code for machines, a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    pub code: String,
    pub sentence: String,
}

impl Cause {
    pub fn new(code: &str, sentence: impl Into<String>) -> Self {
        Self { code: code.to_owned(), sentence: sentence.into() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    pub opened: Option<Timestamp>,
    pub closed: Option<StageEnd>,
    /// The newest answer of the stage's gate.
    pub gate: Option<GateReport>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum StageEnd {
    Passed {
        at: Timestamp,
    },
    /// A person let it pass against or without the gate's answer.
    Promoted {
        at: Timestamp,
        by: Actor,
        reason: String,
    },
    Failed {
        at: Timestamp,
    },
}

/// One device's part in a rollout. Every member is in exactly one of these states, so the counts add up to the cohort.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    pub stage: usize,
    pub progress: Progress,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Progress {
    /// Not asked: counts in no denominator.
    Waiting,
    /// Asked. `from` is what it ran before: where a rollback leads.
    Offered { at: Timestamp, from: Option<BundleRef> },
    /// It proved the new digest; the bake runs.
    Activated { at: Timestamp, from: Option<BundleRef> },
    /// It still proved the new digest after the bake.
    Baked { at: Timestamp, activated: Timestamp, from: Option<BundleRef> },
    /// It could not install it.
    Failed { at: Timestamp, from: Option<BundleRef>, cause: Cause },
    /// It ran it and left it without being told to: success taken back.
    Reverted { at: Timestamp, from: Option<BundleRef> },
    /// It was told to go back.
    Returning { at: Timestamp, to: Option<BundleRef> },
    /// It proved the digest it came from.
    Returned { at: Timestamp },
}

pub type Members = BTreeMap<DeviceId, Member>;

impl Phase {
    /// The stage that is or was open.
    pub fn stage(&self) -> Option<usize> {
        match self {
            Self::Running { stage, .. }
            | Self::Paused { stage, .. }
            | Self::Held { stage, .. }
            | Self::RollingBack { stage, .. }
            | Self::RolledBack { stage, .. }
            | Self::Aborted { stage, .. } => Some(*stage),
            Self::Completed { .. } => None,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Running { .. } => "running",
            Self::Paused { .. } => "paused",
            Self::Held { .. } => "held",
            Self::RollingBack { .. } => "rolling_back",
            Self::RolledBack { .. } => "rolled_back",
            Self::Aborted { .. } => "aborted",
            Self::Completed { .. } => "completed",
        }
    }

    /// Whether the engine or a person may still change what devices run because of it.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Running { .. } | Self::Paused { .. } | Self::Held { .. } | Self::RollingBack { .. } => true,
            Self::RolledBack { .. } | Self::Aborted { .. } | Self::Completed { .. } => false,
        }
    }
}

impl Progress {
    /// Whether the device has been told to run the bundle, and not told otherwise since.
    pub fn is_exposed(&self) -> bool {
        match self {
            Self::Offered { .. }
            | Self::Activated { .. }
            | Self::Baked { .. }
            | Self::Failed { .. }
            | Self::Reverted { .. } => true,
            Self::Waiting | Self::Returning { .. } | Self::Returned { .. } => false,
        }
    }

    /// Since when it has run the bundle without a break.
    pub fn activated(&self) -> Option<Timestamp> {
        match self {
            Self::Activated { at, .. } => Some(*at),
            Self::Baked { activated, .. } => Some(*activated),
            Self::Waiting
            | Self::Offered { .. }
            | Self::Failed { .. }
            | Self::Reverted { .. }
            | Self::Returning { .. }
            | Self::Returned { .. } => None,
        }
    }

    /// What it ran before, where that matters for a rollback.
    pub fn from(&self) -> Option<&BundleRef> {
        match self {
            Self::Offered { from, .. }
            | Self::Activated { from, .. }
            | Self::Baked { from, .. }
            | Self::Failed { from, .. }
            | Self::Reverted { from, .. } => from.as_ref(),
            Self::Returning { to, .. } => to.as_ref(),
            Self::Waiting | Self::Returned { .. } => None,
        }
    }
}

impl Rollout {
    /// Begins a rollout: the first stage is open from now.
    pub fn start(
        id: RolloutId,
        (model, slot): (ModelName, SlotName),
        bundle: BundleRef,
        plan: Plan,
        (started_by, reason): (Actor, String),
        now: Timestamp,
    ) -> Result<Self, PlanError> {
        plan.check()?;
        let mut stages = vec![StageRecord::default(); plan.stages.len()];
        stages[0].opened = Some(now);
        let phase = Phase::Running { since: now, stage: 0 };
        Ok(Self { id, model, slot, bundle, plan, started_by, reason, created: now, phase, stages })
    }

    /// Takes the engine's answer as what has happened.
    pub fn apply(&mut self, members: &mut Members, advance: &Advance) {
        for (device, member) in &advance.members {
            members.insert(device.clone(), member.clone());
        }
        if let (Some(gate), Some(stage)) = (&advance.gate, self.phase.stage())
            && let Some(record) = self.stages.get_mut(stage)
        {
            record.gate = Some(gate.clone());
        }
        if let Some(transition) = &advance.transition {
            self.follow(transition);
        }
    }

    fn follow(&mut self, transition: &Transition) {
        let stage = self.phase.stage().unwrap_or(0);
        match transition {
            Transition::NextStage { at } => {
                self.close(stage, StageEnd::Passed { at: *at });
                self.open(stage + 1, *at);
            }
            Transition::Complete { at } => {
                self.close(stage, StageEnd::Passed { at: *at });
                self.phase = Phase::Completed { at: *at };
            }
            Transition::Hold { at, cause } => {
                self.phase = Phase::Held { since: *at, stage, cause: cause.clone() };
            }
            Transition::RollBack { at, cause } => {
                self.close(stage, StageEnd::Failed { at: *at });
                self.phase =
                    Phase::RollingBack { since: *at, stage, cause: cause.clone(), by: Actor::Engine };
            }
            Transition::RolledBack { at, cause } => {
                self.phase = Phase::RolledBack { at: *at, stage, cause: cause.clone() };
            }
        }
    }

    pub(crate) fn close(&mut self, stage: usize, end: StageEnd) {
        if let Some(record) = self.stages.get_mut(stage) {
            record.closed = Some(end);
        }
    }

    pub(crate) fn open(&mut self, stage: usize, at: Timestamp) {
        if let Some(record) = self.stages.get_mut(stage) {
            record.opened = Some(at);
        }
        self.phase = Phase::Running { since: at, stage };
    }
}
