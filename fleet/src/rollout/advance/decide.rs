//! At most one transition a look. *Fail* may come at any moment and in every state; *pass* only in Running, with the quorum
//! baked, everybody there asked, and a gate that says so on data.

use muster_protocol::ids::RolloutId;
use muster_protocol::time::Timestamp;

use super::Transition;
use super::facts::Facts;
use super::look::{Look, Part, needed};
use crate::gate::{self, Evidence, GateReport, Verdict};
use crate::rollout::reason::Code;
use crate::rollout::view::{BundleStanding, Claim};
use crate::rollout::{Cause, OnFailure, Phase, Progress, StagePlan};

/// The members of the open stages, counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) members: usize,
    /// Told to run it, whatever became of that; those who left the fleet are in no denominator.
    pub(super) asked: usize,
    pub(super) baked: usize,
    pub(super) baking: usize,
    pub(super) in_flight: usize,
    pub(super) ready: usize,
    pub(super) lost: usize,
    pub(super) waiting: usize,
    pub(super) waiting_online: usize,
}

impl Look<'_> {
    pub(super) fn tally(&self, open: usize) -> Tally {
        let mut tally = Tally::default();
        for row in &self.rows {
            let Some(part) = row.within(open) else { continue };
            let is_there = row.device.is_some();
            tally.members += 1;
            tally.asked += usize::from(is_there && part.is_exposed());
            match part {
                Part::Waiting => {
                    tally.waiting += 1;
                    tally.waiting_online += usize::from(row.is_online());
                }
                Part::InFlight => tally.in_flight += 1,
                Part::Ready => tally.ready += 1,
                Part::Baking => tally.baking += usize::from(is_there),
                Part::Baked => tally.baked += usize::from(is_there),
                Part::Lost => tally.lost += usize::from(is_there),
                Part::Excluded | Part::Back => {}
            }
        }
        tally
    }

    /// Decides in Running; answers whether there is a transition.
    pub(super) fn decide(
        &mut self,
        open: usize,
        facts: &Facts<'_>,
        evidence: &Evidence,
        report: &GateReport,
    ) -> bool {
        if self.tighten(evidence, report) {
            return true;
        }
        let now = self.now;
        if self.view.bundle == BundleStanding::Yanked {
            let cause = Code::BundleYanked.cause("the catalogue no longer lists the bundle");
            self.out.transition = Some(Transition::Hold { at: now, cause });
            return true;
        }
        if let Some(by) = self.superseded_by() {
            self.out.transition = Some(Transition::Superseded { at: now, by });
            return true;
        }
        let Some(plan) = self.rollout.plan.stages.get(open) else { return false };
        let tally = self.tally(open);
        let quorum = needed(tally.asked, plan.quorum_percent);
        if tally.asked > 0 && tally.waiting == 0 && tally.asked - tally.lost < quorum {
            let lost = gate::devices(tally.lost);
            let sentence = format!(
                "{lost} of stage '{}' could not run it, so its quorum of {quorum} is out of reach",
                plan.name
            );
            self.out.transition = Some(Transition::Hold { at: now, cause: Code::QuorumLost.cause(sentence) });
            self.decided(evidence, report);
            return true;
        }
        // Who waits for the exposure budget alone is asked after the gate: passing is what refunds it.
        let everybody_asked = tally.waiting_online == 0 || facts.is_spent();
        // What is known may be old: that it fails is true, that it passes is not.
        let is_known = !self.view.unheard;
        let passes = report.verdict == Verdict::Pass && is_known;
        if tally.asked > 0 && tally.baked >= quorum && everybody_asked && passes {
            let is_last = open + 1 == self.rollout.plan.stages.len();
            self.out.transition = Some(if is_last {
                Transition::Complete { at: now }
            } else {
                Transition::NextStage { at: now }
            });
            self.decided(evidence, report);
            return true;
        }
        let frozen = matches!(self.out.clock, Some(super::ClockChange::Stops { .. }));
        if is_known && !frozen && self.is_overdue(open) {
            let cause = Code::Undecided.cause(undecided(plan, report, &tally, quorum));
            self.out.transition = Some(Transition::Hold { at: now, cause });
            self.decided(evidence, report);
            return true;
        }
        false
    }

    /// What takes back, in every state in which the bundle is on trial: a revoked bundle, a failing layer.
    pub(super) fn tighten(&mut self, evidence: &Evidence, report: &GateReport) -> bool {
        let at = self.now;
        if let BundleStanding::Revoked { reason } = &self.view.bundle {
            let cause = Code::BundleRevoked.cause(format!("the bundle is revoked: {reason}"));
            self.out.transition = Some(Transition::RollBack { at, cause });
            return true;
        }
        let Some(layer) = report.failing() else { return false };
        let cause = Cause::new(&format!("gate_{}", layer.layer.name()), layer.sentence.clone());
        self.out.transition = match self.rollout.plan.on_failure {
            OnFailure::RollBack => Some(Transition::RollBack { at, cause }),
            // Held for this already.
            OnFailure::Hold if matches!(&self.rollout.phase, Phase::Held { cause: known, .. } if known.code == cause.code) =>
            {
                return false;
            }
            OnFailure::Hold => Some(Transition::Hold { at, cause }),
        };
        self.decided(evidence, report);
        true
    }

    /// A device that went back after completion can take the quorum away.
    pub(super) fn reopen(
        &mut self,
        last: usize,
        completed: Timestamp,
        evidence: &Evidence,
        report: &GateReport,
    ) -> bool {
        let Some(plan) = self.rollout.plan.stages.get(last) else { return false };
        let went_back = self.rows.iter().any(|row| {
            let progress = row.member().map(|member| &member.progress);
            matches!(progress, Some(Progress::Reverted { at, .. }) if *at > completed)
        });
        if !went_back {
            return false;
        }
        let tally = self.tally(last);
        let quorum = needed(tally.asked, plan.quorum_percent);
        if tally.asked - tally.lost >= quorum {
            return false;
        }
        let lost = gate::devices(tally.lost);
        let sentence =
            format!("{lost} could not run it or went back, and {quorum} of {} must keep it", tally.asked);
        let cause = Code::Reopened.cause(sentence);
        self.out.transition = Some(Transition::Hold { at: self.now, cause });
        self.decided(evidence, report);
        true
    }

    /// Nobody is left for this rollout, and a newer one took some of them.
    fn superseded_by(&self) -> Option<RolloutId> {
        let mut by = None;
        for row in &self.rows {
            if row.part().is_some_and(Part::is_pending) {
                return None;
            }
            if let Some(Progress::Excluded { cause, .. }) = row.member().map(|member| &member.progress)
                && cause.code == Code::Superseded.as_str()
                && let Some(Claim::Superseded { rollout }) = row.device.map(|device| &device.claim)
            {
                by = by.or(Some(rollout));
            }
        }
        by.cloned()
    }
}

fn undecided(plan: &StagePlan, report: &GateReport, tally: &Tally, quorum: usize) -> String {
    let name = &plan.name;
    if tally.asked == 0 {
        return format!("stage '{name}' could ask nobody by its deadline");
    }
    if tally.baked < quorum {
        return format!("stage '{name}' reached {} of {quorum} baked devices by its deadline", tally.baked);
    }
    let open = report.layers.iter().find(|layer| layer.verdict == Verdict::Insufficient);
    let why = open.map_or("devices are still waiting", |layer| layer.sentence.as_str());
    format!("the gate of stage '{name}' could not be decided by its deadline: {why}")
}
