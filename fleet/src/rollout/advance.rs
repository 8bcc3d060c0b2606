//! One look at a rollout: what changed, who is told what, what it waits for.
//!
//! ```text
//!   observe ──▶ members follow what devices prove
//!   judge   ──▶ a failing layer rolls back, at any time
//!   hand out ─▶ only in Running (and to stragglers of Completed), only to devices that are there, below the cap
//!   decide  ──▶ at most one transition
//! ```

use std::collections::BTreeMap;

use muster_protocol::ids::DeviceId;
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;

use super::plan::{StagePlan, draw};
use super::view::{DeviceView, FleetView};
use super::{Asked, Cause, Member, Members, Phase, Progress, Rollout};
use crate::gate::{self, DeviceEvidence, Evidence, GateReport, Install, Stratum, Verdict};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advance {
    /// At most one change of the lifecycle.
    pub transition: Option<Transition>,
    pub assign: Vec<Assignment>,
    /// Members that are new or changed.
    pub members: Members,
    pub gate: Option<GateReport>,
    /// Why not more: shown verbatim.
    pub waiting_on: Vec<WaitingOn>,
    /// When time alone may change the answer.
    pub look_again: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Transition {
    NextStage { at: Timestamp },
    Complete { at: Timestamp },
    Hold { at: Timestamp, cause: Cause },
    RollBack { at: Timestamp, cause: Cause },
    RolledBack { at: Timestamp, cause: Cause },
}

/// What a device's order shall want in the rollout's slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    pub device: DeviceId,
    pub bundle: Option<BundleRef>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaitingOn {
    pub code: &'static str,
    pub sentence: String,
    pub devices: usize,
}

/// Looks at a rollout once. Same input, same answer; the order in which devices reported is irrelevant.
pub fn advance(rollout: &Rollout, members: &Members, view: &FleetView, now: Timestamp) -> Advance {
    let mut look =
        Look { rollout, view, now, members: members.clone(), before: members, out: Advance::default() };
    match &rollout.phase {
        Phase::Running { stage, .. } => look.running(*stage),
        Phase::Paused { stage, .. } => {
            look.observe(*stage);
            look.judge(*stage);
            look.wait("paused", "a person paused it; resume, promote, abort or roll back", 0);
        }
        Phase::Held { stage, cause, .. } => {
            look.observe(*stage);
            look.judge(*stage);
            look.wait("held", &format!("{}; promote, roll back or abort", cause.sentence), 0);
        }
        Phase::RollingBack { cause, .. } => look.rolling_back(cause),
        Phase::Completed { .. } => look.stragglers(),
        Phase::Proposed { .. }
        | Phase::Scheduled { .. }
        | Phase::RolledBack { .. }
        | Phase::Aborting { .. }
        | Phase::Aborted { .. }
        | Phase::Superseded { .. } => {}
    }
    look.finish()
}

struct Look<'a> {
    rollout: &'a Rollout,
    view: &'a FleetView,
    now: Timestamp,
    members: Members,
    before: &'a Members,
    out: Advance,
}

impl Look<'_> {
    fn running(&mut self, stage: usize) {
        let Some(plan) = self.rollout.plan.stages.get(stage).cloned() else { return };
        self.enlist(stage);
        self.observe(stage);
        let report = self.judge(stage);
        if let Some(layer) = report.failing() {
            let cause = Cause::new(&format!("gate_{:?}", layer.layer).to_lowercase(), layer.sentence.clone());
            self.out.transition = Some(Transition::RollBack { at: self.now, cause });
            return;
        }
        let asked = self.count(stage, |member| member.progress.is_exposed());
        let baked = self.count(stage, |member| matches!(member.progress, Progress::Baked { .. }));
        let lost =
            self.count(stage, |m| matches!(m.progress, Progress::Failed { .. } | Progress::Reverted { .. }));
        let waiting = self.count(stage, |member| matches!(member.progress, Progress::Waiting));
        let quorum = needed(asked, plan.quorum_percent);
        if asked > 0 && waiting == 0 && asked - lost < quorum {
            let sentence = format!(
                "{} of stage '{}' could not run it, so its quorum of {quorum} is out of reach",
                gate::devices(lost),
                plan.name
            );
            self.out.transition =
                Some(Transition::Hold { at: self.now, cause: Cause::new("quorum_lost", sentence) });
            return;
        }
        if asked > 0
            && baked >= quorum
            && self.nobody_reachable_waits(stage)
            && report.verdict == Verdict::Pass
        {
            let last = stage + 1 == self.rollout.plan.stages.len();
            self.out.transition = Some(if last {
                Transition::Complete { at: self.now }
            } else {
                Transition::NextStage { at: self.now }
            });
            return;
        }
        let opened = self.rollout.stages.get(stage).and_then(|record| record.opened).unwrap_or(self.now);
        let deadline = opened.plus(plan.deadline());
        if self.now >= deadline && asked > 0 {
            let cause = Cause::new("undecided", Self::undecided(&plan, &report, baked, quorum));
            self.out.transition = Some(Transition::Hold { at: self.now, cause });
            return;
        }
        self.look_at(deadline);
        self.hand_out(stage);
        self.explain(stage, &plan, &report, quorum);
    }

    /// Puts devices that match and are not members yet into their stage; late ones enter the current stage.
    fn enlist(&mut self, current: usize) {
        let selector = &self.rollout.plan.selector;
        let matching = self.view.devices.iter().filter(|(id, device)| selector.matches(&device.traits(id)));
        let bundle = &self.rollout.bundle.sha256;
        if self.members.is_empty() {
            let mut drawn: Vec<&DeviceId> = matching.map(|(id, _)| id).collect();
            drawn.sort_by_key(|id| draw(bundle, id));
            let cohort = drawn.len();
            for (rank, id) in drawn.into_iter().enumerate() {
                let stage = self.rollout.plan.stage_of(rank, cohort);
                self.members.insert(id.clone(), Member { stage, attempts: 0, progress: Progress::Waiting });
            }
        } else {
            let late: Vec<DeviceId> =
                matching.map(|(id, _)| id).filter(|id| !self.members.contains_key(*id)).cloned().collect();
            for id in late {
                self.members.insert(id, Member { stage: current, attempts: 0, progress: Progress::Waiting });
            }
        }
    }

    /// Lets members follow what their devices prove. Late evidence can only tighten: nothing here forgets a failure.
    fn observe(&mut self, stage: usize) {
        let (bundle, now) = (&self.rollout.bundle, self.now);
        let mut next_look: Option<Timestamp> = None;
        for (id, member) in self.members.iter_mut().filter(|(_, member)| member.stage <= stage) {
            let Some(device) = self.view.devices.get(id) else { continue };
            let bake = self.rollout.plan.stages.get(member.stage).map(StagePlan::bake).unwrap_or_default();
            let runs_it = device.current.as_ref() == Some(bundle);
            member.progress = match member.progress.clone() {
                Progress::Offered { asked }
                | Progress::Ready { asked, .. }
                | Progress::Permitted { asked, .. }
                    if runs_it =>
                {
                    Progress::Activated { asked, at: now }
                }
                Progress::Permitted { asked, since, until } => match device.doing.failure_of(bundle) {
                    Some(cause) => Progress::Failed { asked, at: now, cause: cause.clone() },
                    None => Progress::Permitted { asked, since, until },
                },
                Progress::Activated { asked, at } if runs_it => {
                    let baked = at.plus(bake);
                    if now >= baked {
                        Progress::Baked { asked, activated: at, at: now }
                    } else {
                        next_look = Some(next_look.map_or(baked, |look| look.min(baked)));
                        Progress::Activated { asked, at }
                    }
                }
                // A device that left the bundle while we still wish it takes its success back; one that has just
                // started again and is loading it has not left it.
                Progress::Activated { asked, at: activated } | Progress::Baked { asked, activated, .. }
                    if !runs_it && device.wish.as_ref() == Some(bundle) && !device.doing.is_about(bundle) =>
                {
                    let cause = Cause::new("reverted", "it went back by itself");
                    Progress::Reverted { asked, activated, at: now, cause }
                }
                same @ (Progress::Waiting
                | Progress::Excluded { .. }
                | Progress::Offered { .. }
                | Progress::Ready { .. }
                | Progress::Activated { .. }
                | Progress::Baked { .. }
                | Progress::Failed { .. }
                | Progress::Reverted { .. }
                | Progress::Returning { .. }
                | Progress::Returned { .. }) => same,
            };
        }
        if let Some(look) = next_look {
            self.look_at(look);
        }
    }

    fn judge(&mut self, stage: usize) -> GateReport {
        let limits = self.rollout.plan.stages.get(stage).map(|plan| plan.gate.clone()).unwrap_or_default();
        let exposed: Vec<(DeviceId, Stratum, DeviceEvidence)> = self
            .members
            .iter()
            .filter(|(_, member)| member.stage <= stage && member.progress.is_exposed())
            .map(|(id, member)| {
                let shown =
                    self.view.devices.get(id).map(|device| device.evidence.clone()).unwrap_or_default();
                let install = match member.progress {
                    Progress::Waiting
                    | Progress::Excluded { .. }
                    | Progress::Offered { .. }
                    | Progress::Ready { .. }
                    | Progress::Permitted { .. } => Install::Pending,
                    Progress::Failed { .. } => Install::Failed,
                    Progress::Activated { .. }
                    | Progress::Baked { .. }
                    | Progress::Reverted { .. }
                    | Progress::Returning { .. }
                    | Progress::Returned { .. } => Install::Succeeded,
                };
                let paired =
                    if member.progress.from().is_some() { shown.paired.or(Some(Vec::new())) } else { None };
                // Going back by itself costs the hour it happened in.
                let reverted = f64::from(u8::from(matches!(member.progress, Progress::Reverted { .. })));
                let failed_hours = shown.failed_hours + reverted;
                // Exposure is time lived with the bundle, called or not; a box that is away shows nothing.
                let online = self.view.devices.get(id).is_some_and(|device| device.online);
                let lived = member.progress.activated().filter(|_| online).map(|at| self.now.since(at));
                let lived = lived.map_or(0.0, |lived| lived.as_secs_f64() / 3600.0);
                let hours = shown.hours.max(reverted).max(lived);
                let stratum = self.view.devices.get(id).map_or_else(Stratum::unknown, DeviceView::stratum);
                (id.clone(), stratum, DeviceEvidence { install, hours, failed_hours, paired, ..shown })
            })
            .collect();
        let evidence = Evidence { exposed, ..Evidence::default() };
        let report = gate::judge(&evidence, &limits, self.now);
        self.out.gate = Some(report.clone());
        report
    }

    /// Offers the bundle to waiting members of the open stages that are there, in the order of the draw, below the cap.
    fn hand_out(&mut self, stage: usize) {
        let in_flight = self.count_all(|member| member.progress.is_in_flight());
        let mut free = (self.rollout.plan.in_flight_max as usize).saturating_sub(in_flight);
        let bundle = self.rollout.bundle.clone();
        let mut waiting: Vec<DeviceId> = self
            .members
            .iter()
            .filter(|(_, member)| member.stage <= stage && member.progress == Progress::Waiting)
            .map(|(id, _)| id.clone())
            .collect();
        waiting.sort_by_key(|id| draw(&bundle.sha256, id));
        for id in waiting {
            let Some(device) = self.view.devices.get(&id) else { continue };
            if !device.online {
                continue;
            }
            if free == 0 {
                self.wait("in_flight_cap", "as many devices install at once as the plan allows", 0);
                break;
            }
            free -= 1;
            let from = device.current.clone().filter(|current| *current != bundle);
            let asked = Asked { at: self.now, from, via: None };
            let progress = Progress::Permitted { asked, since: self.now, until: None };
            self.out.assign.push(Assignment { device: id.clone(), bundle: Some(bundle.clone()) });
            if let Some(member) = self.members.get_mut(&id) {
                member.progress = progress;
            }
        }
    }

    /// After completion, devices that were away get the bundle when they come back, and so do new ones.
    fn stragglers(&mut self) {
        let last = self.rollout.plan.stages.len().saturating_sub(1);
        self.enlist(last);
        self.observe(last);
        self.hand_out(last);
    }

    fn rolling_back(&mut self, cause: &Cause) {
        let mut away = 0;
        let mut returning = 0;
        let mut assign = Vec::new();
        for (id, member) in &mut self.members {
            let device = self.view.devices.get(id);
            if member.progress.is_exposed() {
                let to = member.progress.from().cloned();
                assign.push(Assignment { device: id.clone(), bundle: to.clone() });
                member.progress = Progress::Returning { at: self.now, to };
            } else if let Progress::Returning { to, .. } = &member.progress
                && device.is_some_and(|device| has_returned(device, to.as_ref()))
            {
                member.progress = Progress::Returned { at: self.now };
            }
            if matches!(member.progress, Progress::Returning { .. }) {
                // A device that is away finds its order when it comes back; the rollback does not wait for it.
                if device.is_some_and(|device| device.online) { returning += 1 } else { away += 1 }
            }
        }
        self.out.assign = assign;
        if returning > 0 {
            self.wait(
                "returning",
                &format!("{} to prove what they ran before", gate::devices(returning)),
                returning,
            );
        } else {
            self.out.transition = Some(Transition::RolledBack { at: self.now, cause: cause.clone() });
        }
        if away > 0 {
            self.wait("offline", &format!("{} away; the order waits for them", gate::devices(away)), away);
        }
    }

    fn explain(&mut self, stage: usize, plan: &StagePlan, report: &GateReport, quorum: usize) {
        let away = self.members.iter().filter(|(id, member)| {
            member.stage <= stage
                && member.progress == Progress::Waiting
                && self.view.devices.get(*id).is_none_or(|device| !device.online)
        });
        let away = away.count();
        let installing = self.count(stage, |member| member.progress.is_in_flight());
        let baking = self.count(stage, |member| matches!(member.progress, Progress::Activated { .. }));
        let baked = self.count(stage, |member| matches!(member.progress, Progress::Baked { .. }));
        if self.members.is_empty() {
            self.wait("empty_cohort", "no device matches the selector; enrol one or abort", 0);
        }
        if away > 0 {
            self.wait("offline", &format!("{} to come online", gate::devices(away)), away);
        }
        if installing > 0 {
            self.wait(
                "installing",
                &format!("{} to download, test and activate it", gate::devices(installing)),
                installing,
            );
        }
        if baking > 0 {
            let sentence = format!("{} to live with it for {}", gate::devices(baking), span(plan.bake_s));
            self.wait("baking", &sentence, baking);
        }
        if baked >= quorum && baked > 0 {
            for layer in report.layers.iter().filter(|layer| layer.verdict == Verdict::Insufficient) {
                self.wait("evidence", &format!("more evidence: {}", layer.sentence), layer.missing.len());
            }
        }
    }

    fn undecided(plan: &StagePlan, report: &GateReport, baked: usize, quorum: usize) -> String {
        if baked < quorum {
            return format!(
                "stage '{}' reached {baked} of {quorum} baked devices by its deadline",
                plan.name
            );
        }
        let open = report.layers.iter().find(|layer| layer.verdict == Verdict::Insufficient);
        let why = open.map_or("devices are still waiting", |layer| layer.sentence.as_str());
        format!("the gate of stage '{}' could not be decided by its deadline: {why}", plan.name)
    }

    /// Whether every waiting member of the open stages is away: those who are there must be asked first.
    fn nobody_reachable_waits(&self, stage: usize) -> bool {
        !self.members.iter().any(|(id, member)| {
            member.stage <= stage
                && member.progress == Progress::Waiting
                && self.view.devices.get(id).is_some_and(|device| device.online)
        })
    }

    fn count(&self, stage: usize, mut test: impl FnMut(&Member) -> bool) -> usize {
        self.members.values().filter(|member| member.stage <= stage && test(member)).count()
    }

    fn count_all(&self, mut test: impl FnMut(&Member) -> bool) -> usize {
        self.members.values().filter(|member| test(member)).count()
    }

    fn wait(&mut self, code: &'static str, sentence: &str, devices: usize) {
        self.out.waiting_on.push(WaitingOn { code, sentence: sentence.to_owned(), devices });
    }

    fn look_at(&mut self, time: Timestamp) {
        self.out.look_again = Some(self.out.look_again.map_or(time, |look| look.min(time)));
    }

    fn finish(mut self) -> Advance {
        let before = self.before;
        self.out.members = std::mem::take(&mut self.members)
            .into_iter()
            .filter(|(id, member)| before.get(id) != Some(member))
            .collect::<BTreeMap<_, _>>();
        self.out
    }
}

fn has_returned(device: &DeviceView, to: Option<&BundleRef>) -> bool {
    device.wish.as_ref() == to && device.current.as_ref() == to
}

/// Devices that make up `percent` of `asked`, rounded up, at least one.
fn needed(asked: usize, percent: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "0 to 100 percent of a cohort, rounded up"
    )]
    let share = (percent / 100.0 * asked as f64).ceil() as usize;
    share.max(1)
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
