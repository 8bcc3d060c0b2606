//! One look at a rollout: what changed, who is told what, what it waits for.
//!
//! ```text
//!   enlist   ─▶ devices that match become members: the first look draws them, later ones join
//!   observe  ─▶ members follow what their devices prove; who failed or stayed away is told to go back
//!   evidence ─▶ what was seen goes to the gate: in Running, Paused, Held and Completed, it stays armed
//!   decide   ─▶ at most one transition, and then nothing is handed out in this look
//!   hand out ─▶ who has no hindrance is asked, who is ready and has none is permitted
//!   wait     ─▶ every hindrance that is left, counted
//! ```
//! Each step is a file. They share one list of rows, made by walking members and fleet side by side once: the cost of a
//! look grows with the fleet, the cost of a device does not.

mod decide;
mod enlist;
mod evidence;
pub(super) mod facts;
mod go_back;
mod hand_out;
pub(super) mod hindrance;
pub(super) mod look;
mod observe;
mod stage_clock;
mod wait;

use std::time::Duration;

use muster_protocol::ids::{DeviceId, RolloutId};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use muster_protocol::trust::Consent;
use serde::{Deserialize, Serialize};

use super::reason::Code;
use super::view::FleetView;
use super::{Cause, Members, Phase, Rollout, StagePlan};
use crate::gate::{Evidence, GateReport};
pub(super) use hand_out::is_on_its_stone;
use look::Look;

/// Devices asked or permitted in one look; the rest follow in the next, so that a stop always gets its turn.
pub const HAND_OUT_MAX: usize = 500;

/// So often within a bake a gate's numbers are kept anew though its answer is the same.
const NUMBERS_PER_BAKE: u32 = 100;
const NUMBERS_KEPT_MIN: Duration = Duration::from_mins(1);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advance {
    /// At most one change of the lifecycle.
    pub transition: Option<Transition>,
    pub assign: Vec<Assignment>,
    /// Members that are new or changed.
    pub members: Members,
    pub gate: Option<GateReport>,
    /// What the transition was decided from, if a gate was asked for it.
    pub decision: Option<Decision>,
    /// That a freeze stops the stage's clock, or lets it go on.
    pub clock: Option<ClockChange>,
    /// Why not more: shown verbatim.
    pub waiting_on: Vec<WaitingOn>,
    /// When time alone may change the answer.
    pub look_again: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Transition {
    /// Its time has come: the first stage opens.
    Begin {
        at: Timestamp,
    },
    NextStage {
        at: Timestamp,
    },
    Complete {
        at: Timestamp,
    },
    /// A person must decide. It also takes back that a rollout was complete.
    Hold {
        at: Timestamp,
        cause: Cause,
    },
    RollBack {
        at: Timestamp,
        cause: Cause,
    },
    RolledBack {
        at: Timestamp,
        cause: Cause,
    },
    Aborted {
        at: Timestamp,
    },
    Superseded {
        at: Timestamp,
        by: RolloutId,
    },
}

/// What a device's order shall want in the rollout's slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    pub device: DeviceId,
    pub bundle: Option<BundleRef>,
    pub permit: Moment,
    pub consent: Consent,
}

/// When the device may switch. The order's own permit says the same in real time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Now,
    /// It fetches and tests it, and waits.
    Hold,
    /// Now, until this moment of world time.
    Until(Timestamp),
}

/// A gate's answer that had a consequence, with what it was computed from: anybody can ask the gate again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub at: Timestamp,
    pub report: GateReport,
    /// `None` if more than 500 devices showed it: then the journal has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockChange {
    Stops { at: Timestamp },
    GoesOn { at: Timestamp },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaitingOn {
    pub code: &'static str,
    pub sentence: String,
    pub devices: usize,
}

/// Looks at a rollout once. Same input, same answer; the order in which devices reported is irrelevant.
pub fn advance(rollout: &Rollout, members: &Members, view: &FleetView, now: Timestamp) -> Advance {
    let last = rollout.plan.stages.len().saturating_sub(1);
    let mut look = Look::new(rollout, members, view, now);
    match &rollout.phase {
        Phase::Proposed { .. } => look.proposed(),
        Phase::Scheduled { start, .. } => look.scheduled(*start),
        Phase::Running { stage, .. } => look.running(*stage),
        Phase::Paused { stage, .. } | Phase::Held { stage, .. } => look.standing(*stage),
        Phase::Completed { at } => look.completed(last, *at),
        Phase::RollingBack { cause, .. } => look.roll_back(cause),
        Phase::Aborting { .. } => look.abort(),
        Phase::RolledBack { .. } | Phase::Aborted { .. } | Phase::Superseded { .. } => {}
    }
    look.answer()
}

impl Advance {
    /// Whether it changes anything that is kept.
    pub fn is_news(&self, rollout: &Rollout) -> bool {
        self.transition.is_some()
            || self.clock.is_some()
            || !self.members.is_empty()
            || !self.assign.is_empty()
            || self.gate_is_news(rollout)
    }

    /// A gate's numbers grow with every second that devices live with the bundle; its answer does not.
    fn gate_is_news(&self, rollout: &Rollout) -> bool {
        let Some(new) = &self.gate else { return false };
        let Some(known) = rollout.record().and_then(|record| record.gate.as_ref()) else { return true };
        let answers = |report: &GateReport| -> Vec<_> {
            report.layers.iter().map(|layer| (layer.layer, layer.verdict)).collect()
        };
        let bake = rollout.plan.stages.get(rollout.open_stage()).map(StagePlan::bake).unwrap_or_default();
        let old = new.asked_at.since(known.asked_at) >= (bake / NUMBERS_PER_BAKE).max(NUMBERS_KEPT_MIN);
        new.verdict != known.verdict || answers(new) != answers(known) || old
    }
}

impl Look<'_> {
    fn proposed(&mut self) {
        let (given, needed) = (self.rollout.approvals.len(), self.rollout.plan.approvals_min);
        self.wait(Code::Proposed, format!("{given} of {needed} people have approved it"), 0);
    }

    fn scheduled(&mut self, start: Timestamp) {
        if self.now >= start {
            self.out.transition = Some(Transition::Begin { at: self.now });
        } else {
            self.look_at(start);
            self.wait(Code::Scheduled, format!("it starts at {start}"), 0);
        }
    }

    fn running(&mut self, stage: usize) {
        self.enlist(stage);
        self.observe(stage);
        let facts = self.facts();
        self.keep_clock(stage, &facts);
        let (evidence, report) = self.judge(stage);
        if self.decide(stage, &facts, &evidence, &report) {
            return;
        }
        let reach = self.reach(stage, &facts);
        let facts = self.hand_out(stage, &reach, facts);
        self.say(stage, &facts, &reach, &report);
    }

    /// Paused or held: what is permitted goes on, everything else stands, and the gate stays armed.
    fn standing(&mut self, stage: usize) {
        self.observe(stage);
        let facts = self.facts();
        self.keep_clock(stage, &facts);
        let (evidence, report) = self.judge(stage);
        if !self.tighten(&evidence, &report) {
            // Nobody is handed anything, and one thing stands in everybody's way.
            self.say(stage, &facts, &[], &report);
        }
    }

    /// Completed is revocable, and stragglers and late joiners are still served.
    fn completed(&mut self, last: usize, since: Timestamp) {
        self.enlist(last);
        self.observe(last);
        let facts = self.facts();
        let (evidence, report) = self.judge(last);
        if self.tighten(&evidence, &report) || self.reopen(last, since, &evidence, &report) {
            return;
        }
        let reach = self.reach(last, &facts);
        let facts = self.hand_out(last, &reach, facts);
        self.say(last, &facts, &reach, &report);
    }
}

/// Seconds, said as people do.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
