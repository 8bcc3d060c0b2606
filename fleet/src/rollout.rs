//! The rollout engine's mind: which box gets which bundle when, and why not more.
//!
//! ```text
//!          approved       its time        gate passes (last stage)
//!   Proposed ──▶ Scheduled ──▶ Running(stage) ──────────────▶ Completed ── a device goes back ──▶ Held
//!                               │  ▲   │ a layer fails             │ a layer fails
//!                         pause │  │   └──────▶ RollingBack ◀──────┘──▶ RolledBack
//!                               ▼  │ resume       ▲
//!                             Paused              │ rollback
//!                               Held ─── promote ──▶ (next stage)      abort: Aborting ──▶ Aborted
//!          (undecided at the deadline, quorum out of reach, bundle yanked)      a newer one has everybody: Superseded
//! ```
//! Level-triggered: [`advance::advance`] sees the whole rollout and the whole fleet and says the whole answer, so a
//! server that was killed in the middle continues by asking again. All times here are world time.
//!
//! Pure: no clock, no database, no network, no log. It may fail only by refusing a transition.

pub mod advance;
pub mod calendar;
pub mod claims;
pub mod draw;
pub mod evidence;
pub mod explain;
pub mod filter;
pub mod forecast;
pub mod hardware;
pub mod journal;
mod mark;
pub mod owed;
mod place;
pub mod plan;
#[cfg(test)]
mod properties;
pub mod reason;
pub mod site;
pub mod verbs;
pub mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::ids::{DeviceId, ModelName, RolloutId, SlotName, TriggerId};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::gate::GateReport;

pub use advance::{Advance, Assignment, ClockChange, Decision, Moment, Transition, WaitingOn, advance};
pub use plan::{
    LateJoiners, OnFailure, Plan, PlanError, Selector, Size, StagePlan, SteppingStone, Timing, Warning,
};
pub use site::{Freeze, Lease, SiteRules, SiteView};
pub use verbs::{Refused, Verb};
pub use view::{Beside, BundleStanding, Claim, DeviceView, Doing, FleetView};

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
    /// People other than its author who said yes.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// Installs that failed before are forgiven: those devices are asked once more.
    #[serde(default)]
    pub retried: Option<Timestamp>,
    pub phase: Phase,
    /// What is known of each stage so far; as long as the plan's stages.
    pub stages: Vec<StageRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub at: Timestamp,
    pub by: String,
    pub reason: String,
}

/// What has happened. Each state carries its own facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Phase {
    /// It waits for the people that its plan demands. Nobody is asked for anything.
    Proposed {
        since: Timestamp,
    },
    /// Approved; it waits for its time.
    Scheduled {
        since: Timestamp,
        start: Timestamp,
    },
    Running {
        since: Timestamp,
        stage: usize,
    },
    Paused {
        since: Timestamp,
        by: Actor,
        reason: String,
        stage: usize,
    },
    Held {
        since: Timestamp,
        stage: usize,
        cause: Cause,
    },
    RollingBack {
        since: Timestamp,
        stage: usize,
        cause: Cause,
        by: Actor,
    },
    RolledBack {
        at: Timestamp,
        stage: usize,
        cause: Cause,
    },
    /// Devices that were asked and do not run it yet are told to stay where they are; those that run it keep it.
    Aborting {
        since: Timestamp,
        stage: usize,
        by: Actor,
        reason: String,
    },
    Aborted {
        at: Timestamp,
        stage: usize,
        by: Actor,
        reason: String,
    },
    /// A newer rollout has every device that was still waiting.
    Superseded {
        at: Timestamp,
        stage: usize,
        by: RolloutId,
    },
    /// Every stage passed. A later failure can still take that back.
    Completed {
        at: Timestamp,
    },
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
    /// The newest answer that had a consequence, with what it was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// When the stage's clock stood: it was paused or frozen, or a person gave it its time anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stops: Vec<Stop>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub from: Timestamp,
    /// `None` while it still stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Stops kept of one stage; the oldest two become one beyond.
const STOPS_MAX: usize = 64;

impl StageRecord {
    /// Whether a freeze stops its clock now.
    pub fn is_stopped(&self) -> bool {
        self.stops.iter().any(|stop| stop.until.is_none())
    }

    /// The spans since it opened in which its clock went.
    pub fn counted(&self, now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
        let Some(mut from) = self.opened else { return Vec::new() };
        let mut stops = self.stops.clone();
        stops.sort_unstable_by_key(|stop| stop.from);
        let mut spans = Vec::new();
        for stop in stops {
            if from < stop.from {
                spans.push((from, stop.from.min(now)));
            }
            from = from.max(stop.until.unwrap_or(now));
        }
        if from < now {
            spans.push((from, now));
        }
        spans
    }

    fn stop(&mut self, from: Timestamp, until: Option<Timestamp>) {
        self.stops.push(Stop { from, until });
        if self.stops.len() > STOPS_MAX {
            let oldest = self.stops.remove(0);
            self.stops[0].from = oldest.from;
        }
    }

    fn go_on(&mut self, at: Timestamp) {
        for stop in self.stops.iter_mut().filter(|stop| stop.until.is_none()) {
            stop.until = Some(at);
        }
    }
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
    /// How often it was asked.
    #[serde(default)]
    pub attempts: u8,
    pub progress: Progress,
}

/// ```text
///   Waiting ─▶ Offered ─▶ Ready ─▶ Permitted ─▶ Activated ─▶ Baked
///      │  ▲        └──────────────────│─────────────│──────────┘ its own failure: Failed, Reverted
///      │  └─ away too long: asked anew│             └ told to: Returning ─▶ Returned
///      └▶ Excluded                    └ where nothing need be waited for, Waiting leads here at once
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Progress {
    /// Not asked: counts in no denominator.
    Waiting,
    /// It is left out, and will not be asked unless the cause goes away.
    Excluded { at: Timestamp, cause: Cause },
    /// Told to fetch and test it, and not to switch yet.
    Offered { asked: Asked },
    /// It has it, verified and tested; it waits for its moment.
    Ready { asked: Asked, since: Timestamp },
    /// Told that it may switch.
    Permitted { asked: Asked, since: Timestamp, until: Option<Timestamp> },
    /// It proved the new digest; the bake runs.
    Activated { asked: Asked, at: Timestamp },
    /// It still proved the new digest after the bake.
    Baked { asked: Asked, activated: Timestamp, at: Timestamp },
    /// It could not install it.
    Failed { asked: Asked, at: Timestamp, cause: Cause },
    /// It ran it and left it without being told to: success taken back.
    Reverted { asked: Asked, activated: Timestamp, at: Timestamp, cause: Cause },
    /// It was told to go back.
    Returning { to: Option<BundleRef>, at: Timestamp },
    /// It proved the digest it came from.
    Returned { at: Timestamp },
}

/// That a device was asked, and for what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub at: Timestamp,
    /// What it ran before the rollout: where a way back leads.
    pub from: Option<BundleRef>,
    /// The stepping stone it is on its way to, if it is not the rollout's bundle itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<BundleRef>,
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
            | Self::Aborting { stage, .. }
            | Self::Superseded { stage, .. }
            | Self::Aborted { stage, .. } => Some(*stage),
            Self::Proposed { .. } | Self::Scheduled { .. } | Self::Completed { .. } => None,
        }
    }

    /// What [`Self::name`] can be.
    pub const NAMES: [&'static str; 11] = [
        "proposed",
        "scheduled",
        "running",
        "paused",
        "held",
        "rolling_back",
        "rolled_back",
        "aborting",
        "aborted",
        "superseded",
        "completed",
    ];

    pub fn name(&self) -> &'static str {
        match self {
            Self::Proposed { .. } => "proposed",
            Self::Scheduled { .. } => "scheduled",
            Self::Running { .. } => "running",
            Self::Paused { .. } => "paused",
            Self::Held { .. } => "held",
            Self::RollingBack { .. } => "rolling_back",
            Self::RolledBack { .. } => "rolled_back",
            Self::Aborting { .. } => "aborting",
            Self::Aborted { .. } => "aborted",
            Self::Superseded { .. } => "superseded",
            Self::Completed { .. } => "completed",
        }
    }

    /// Whether the engine or a person may still change what devices run because of it.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Proposed { .. }
            | Self::Scheduled { .. }
            | Self::Running { .. }
            | Self::Paused { .. }
            | Self::Held { .. }
            | Self::RollingBack { .. }
            | Self::Aborting { .. } => true,
            Self::RolledBack { .. }
            | Self::Aborted { .. }
            | Self::Superseded { .. }
            | Self::Completed { .. } => false,
        }
    }
}

impl Progress {
    /// What [`Self::name`] can be.
    pub const NAMES: [&'static str; 11] = [
        "waiting",
        "excluded",
        "offered",
        "ready",
        "permitted",
        "baking",
        "done",
        "failed",
        "reverted",
        "returning",
        "returned",
    ];

    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Excluded { .. } => "excluded",
            Self::Offered { .. } => "offered",
            Self::Ready { .. } => "ready",
            Self::Permitted { .. } => "permitted",
            Self::Activated { .. } => "baking",
            Self::Baked { .. } => "done",
            Self::Failed { .. } => "failed",
            Self::Reverted { .. } => "reverted",
            Self::Returning { .. } => "returning",
            Self::Returned { .. } => "returned",
        }
    }

    /// That it was asked, as long as it has not been told to go back since.
    pub fn asked(&self) -> Option<&Asked> {
        match self {
            Self::Offered { asked }
            | Self::Ready { asked, .. }
            | Self::Permitted { asked, .. }
            | Self::Activated { asked, .. }
            | Self::Baked { asked, .. }
            | Self::Failed { asked, .. }
            | Self::Reverted { asked, .. } => Some(asked),
            Self::Waiting | Self::Excluded { .. } | Self::Returning { .. } | Self::Returned { .. } => None,
        }
    }

    /// Whether the device has been told to run the bundle, and not told otherwise since.
    pub fn is_exposed(&self) -> bool {
        self.asked().is_some()
    }

    /// Whether it holds one of the places in flight: it fetches or switches.
    pub fn is_in_flight(&self) -> bool {
        match self {
            Self::Offered { .. } | Self::Permitted { .. } => true,
            Self::Waiting
            | Self::Excluded { .. }
            | Self::Ready { .. }
            | Self::Activated { .. }
            | Self::Baked { .. }
            | Self::Failed { .. }
            | Self::Reverted { .. }
            | Self::Returning { .. }
            | Self::Returned { .. } => false,
        }
    }

    /// Since when it has run the bundle without a break.
    pub fn activated(&self) -> Option<Timestamp> {
        match self {
            Self::Activated { at, .. } => Some(*at),
            Self::Baked { activated, .. } => Some(*activated),
            Self::Waiting
            | Self::Excluded { .. }
            | Self::Offered { .. }
            | Self::Ready { .. }
            | Self::Permitted { .. }
            | Self::Failed { .. }
            | Self::Reverted { .. }
            | Self::Returning { .. }
            | Self::Returned { .. } => None,
        }
    }

    /// What it ran before, where that matters for a rollback.
    pub fn from(&self) -> Option<&BundleRef> {
        if let Self::Returning { to, .. } = self {
            return to.as_ref();
        }
        self.asked().and_then(|asked| asked.from.as_ref())
    }
}

impl Rollout {
    /// Begins a rollout: proposed where its plan demands approvals, scheduled where it has a time, otherwise its first
    /// stage is open from now.
    pub fn start(
        id: RolloutId,
        (model, slot): (ModelName, SlotName),
        bundle: BundleRef,
        plan: Plan,
        (started_by, reason): (Actor, String),
        now: Timestamp,
    ) -> Result<Self, PlanError> {
        plan.check()?;
        plan.check_target(&bundle.path)?;
        let stages = vec![StageRecord::default(); plan.stages.len()];
        let phase = Phase::Proposed { since: now };
        let approvals = Vec::new();
        let mut rollout = Self {
            id,
            model,
            slot,
            bundle,
            plan,
            started_by,
            reason,
            created: now,
            approvals,
            retried: None,
            phase,
            stages,
        };
        rollout.begin_if_approved(now);
        Ok(rollout)
    }

    /// Makes it newer than what was the newest of its slot: of two that want the same device the newer replaces the older, also
    /// if the clock has been set back in between.
    pub fn come_after(&mut self, newest: Timestamp) {
        self.created = self.created.max(newest.plus(Duration::from_millis(1)));
    }

    /// Whether its first stage has ever been open: nobody was asked for anything before.
    pub fn has_begun(&self) -> bool {
        self.stages.first().is_some_and(|stage| stage.opened.is_some())
    }

    /// Since when devices may have shown anything of it. It may have begun before it was created, by a clock that was set back.
    pub fn shown_since(&self) -> Timestamp {
        let begun = self.stages.first().and_then(|stage| stage.opened);
        begun.map_or(self.created, |begun| begun.min(self.created))
    }

    /// Replaces the plan of a proposed rollout. It starts anew: whoever changed it is its author, and nobody has approved.
    pub fn amend(
        &mut self,
        plan: Plan,
        (by, reason): (Actor, String),
        now: Timestamp,
    ) -> Result<(), AmendError> {
        if !matches!(self.phase, Phase::Proposed { .. }) {
            return Err(AmendError::Begun(self.phase.name()));
        }
        plan.check()?;
        plan.check_target(&self.bundle.path)?;
        self.stages = vec![StageRecord::default(); plan.stages.len()];
        self.plan = plan;
        self.started_by = by;
        self.reason = reason;
        self.approvals.clear();
        self.phase = Phase::Proposed { since: now };
        self.begin_if_approved(now);
        Ok(())
    }

    pub(crate) fn begin_if_approved(&mut self, now: Timestamp) {
        if self.approvals.len() < usize::from(self.plan.approvals_min) {
            return;
        }
        match self.plan.start_at.filter(|start| *start > now) {
            Some(start) => self.phase = Phase::Scheduled { since: now, start },
            None => self.open(0, now),
        }
    }

    /// The stage that devices are or were asked in: the last, once it is completed.
    pub fn open_stage(&self) -> usize {
        let last = self.plan.stages.len().saturating_sub(1);
        let otherwise = if matches!(self.phase, Phase::Completed { .. }) { last } else { 0 };
        self.phase.stage().unwrap_or(otherwise)
    }

    /// What is known of that stage.
    pub fn record(&self) -> Option<&StageRecord> {
        self.stages.get(self.open_stage())
    }

    /// Whether an order that wants this may be this rollout's: its bundle, or a stepping stone on the way to it.
    pub fn leads_over(&self, wish: &BundleRef) -> bool {
        *wish == self.bundle || self.plan.stepping_stones.iter().any(|stone| stone.via == *wish)
    }

    /// Takes the engine's answer as what has happened.
    pub fn apply(&mut self, members: &mut Members, advance: &Advance) {
        for (device, member) in &advance.members {
            members.insert(device.clone(), member.clone());
        }
        let stage = self.open_stage();
        if let Some(record) = self.stages.get_mut(stage) {
            if let Some(gate) = &advance.gate {
                record.gate = Some(gate.clone());
            }
            if let Some(decision) = &advance.decision {
                record.decision = Some(decision.clone());
            }
            match advance.clock {
                Some(ClockChange::Stops { at }) => record.stop(at, None),
                Some(ClockChange::GoesOn { at }) => record.go_on(at),
                None => {}
            }
        }
        if let Some(transition) = &advance.transition {
            self.follow(transition);
        }
    }

    fn follow(&mut self, transition: &Transition) {
        let stage = self.open_stage();
        match transition {
            Transition::Begin { at } => self.open(0, *at),
            Transition::NextStage { at } => {
                self.close(stage, StageEnd::Passed { at: *at });
                self.open(stage + 1, *at);
            }
            Transition::Complete { at } => {
                self.close(stage, StageEnd::Passed { at: *at });
                self.phase = Phase::Completed { at: *at };
            }
            Transition::Hold { at, cause } => {
                // What was complete is open again.
                if let Some(record) = self.stages.get_mut(stage) {
                    record.closed = None;
                }
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
            Transition::Aborted { at } => {
                let (by, reason) = match &self.phase {
                    Phase::Aborting { by, reason, .. } => (by.clone(), reason.clone()),
                    Phase::Proposed { .. }
                    | Phase::Scheduled { .. }
                    | Phase::Running { .. }
                    | Phase::Paused { .. }
                    | Phase::Held { .. }
                    | Phase::RollingBack { .. }
                    | Phase::RolledBack { .. }
                    | Phase::Aborted { .. }
                    | Phase::Superseded { .. }
                    | Phase::Completed { .. } => (Actor::Engine, String::new()),
                };
                self.phase = Phase::Aborted { at: *at, stage, by, reason };
            }
            Transition::Superseded { at, by } => {
                self.phase = Phase::Superseded { at: *at, stage, by: by.clone() };
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

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum AmendError {
    #[error("a rollout that is {0} keeps its plan; abort it and start another")]
    Begun(&'static str),
    #[error(transparent)]
    Plan(#[from] PlanError),
}
