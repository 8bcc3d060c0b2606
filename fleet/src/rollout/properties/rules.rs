//! The invariants, one function each, named as what they forbid.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;

use super::fleet::bundle;
use crate::gate::{self, Verdict};
use crate::rollout::explain::explain;
use crate::rollout::view::{BundleStanding, OPT_OUT};
use crate::rollout::{Advance, FleetView, Members, Moment, Phase, Progress, Rollout, StageEnd, Transition};

/// One look, and what it made of the rollout.
pub(super) struct Seen<'a> {
    pub(super) before: (&'a Rollout, &'a Members),
    pub(super) after: (&'a Rollout, &'a Members),
    pub(super) view: &'a FleetView,
    pub(super) answer: &'a Advance,
    pub(super) now: Timestamp,
}

pub(super) fn check(seen: &Seen<'_>) {
    nobody_is_handed_anything_while_it_stands(seen);
    nobody_is_asked_who_must_not_be(seen);
    places_in_flight_are_never_exceeded(seen);
    the_rate_is_never_exceeded(seen);
    the_exposure_budget_is_never_exceeded(seen);
    of_one_group_one_is_changed_at_a_time(seen);
    nobody_is_permitted_outside_the_sites_window(seen);
    no_stage_opens_before_the_one_before_it_passed(seen);
    what_passed_was_decided_on_data(seen);
    failures_are_not_forgotten(seen);
    everybody_has_one_reason_and_the_counts_add_up(seen);
    it_is_never_silent(seen);
}

impl Seen<'_> {
    /// Devices whose order wants the new bundle by this look.
    fn handed(&self) -> impl Iterator<Item = (&DeviceId, Moment)> {
        let new = self.answer.assign.iter().filter(|assignment| assignment.bundle == Some(bundle("new")));
        new.map(|assignment| (&assignment.device, assignment.permit))
    }

    /// Devices that this look asked for the first time, or again.
    fn asked(&self) -> impl Iterator<Item = &DeviceId> {
        let was_waiting =
            |id: &DeviceId| self.before.1.get(id).is_none_or(|member| member.progress.asked().is_none());
        self.handed().map(|(id, _)| id).filter(move |id| was_waiting(id))
    }
}

fn nobody_is_handed_anything_while_it_stands(seen: &Seen<'_>) {
    let phase = &seen.before.0.phase;
    let may = matches!(phase, Phase::Running { .. } | Phase::Completed { .. })
        && seen.view.bundle == BundleStanding::Catalogued
        && !seen.view.unheard;
    for (id, _) in seen.handed() {
        assert!(may, "handed out while {}", phase.name());
        assert!(seen.answer.transition.is_none(), "handed out beside a transition");
        let device = &seen.view.devices[id];
        assert!(device.online, "handed to a device that is away");
        assert!(
            !seen.view.freezes.iter().any(|freeze| freeze.covers(&device.site)),
            "handed out in a freeze"
        );
    }
}

fn nobody_is_asked_who_must_not_be(seen: &Seen<'_>) {
    for id in seen.asked() {
        let device = &seen.view.devices[id];
        assert_eq!(device.unfit, None);
        assert!(!device.has(OPT_OUT));
        assert!(device.bad.is_none() || seen.before.0.retried.is_some(), "asked although bad-listed");
        assert_eq!(device.claim, crate::rollout::Claim::Free, "asked although another rollout has it");
    }
}

fn places_in_flight_are_never_exceeded(seen: &Seen<'_>) {
    let (rollout, members) = seen.after;
    let in_flight = || members.iter().filter(|(_, member)| member.progress.is_in_flight());
    assert!(in_flight().count() <= rollout.plan.in_flight_max as usize, "in flight");
    let mut at: BTreeMap<_, u32> = BTreeMap::new();
    for device in in_flight().filter_map(|(id, _)| seen.view.devices.get(id)) {
        *at.entry(&*device.site).or_default() += 1;
    }
    for (site, count) in at {
        let rules = seen.view.sites.get(site).and_then(|site| site.rules.in_flight_max);
        let max = rules.into_iter().chain(rollout.plan.in_flight_per_site_max).min();
        assert!(max.is_none_or(|max| count <= max), "in flight at {site}: {count} of {max:?}");
    }
}

fn the_rate_is_never_exceeded(seen: &Seen<'_>) {
    let Some(max) = seen.after.0.plan.rate_per_hour_max else { return };
    let hour = Duration::from_hours(1);
    let asked = seen.after.1.values().filter_map(|member| member.progress.asked());
    let recent = asked.filter(|asked| seen.now.since(asked.at) < hour).count();
    assert!(recent <= max as usize, "{recent} asked within an hour, {max} allowed");
}

fn the_exposure_budget_is_never_exceeded(seen: &Seen<'_>) {
    let (before, _) = seen.before;
    let Phase::Running { stage, .. } = before.phase else { return };
    let Some(max) = before.plan.stages[stage].exposure_device_hours_max else { return };
    if seen.asked().next().is_none() {
        return;
    }
    let opened = before.stages[stage].opened.unwrap();
    let promised: f64 = seen
        .after
        .1
        .values()
        .filter(|member| member.progress.asked().is_some_and(|asked| asked.at >= opened))
        .map(|member| match &member.progress {
            Progress::Activated { at, .. } => seen.now.since(*at).as_secs_f64().max(3600.0) / 3600.0,
            Progress::Baked { activated, .. } => seen.now.since(*activated).as_secs_f64() / 3600.0,
            Progress::Failed { .. } => 0.0,
            Progress::Reverted { activated, at, .. } => at.since(*activated).as_secs_f64() / 3600.0,
            Progress::Waiting
            | Progress::Excluded { .. }
            | Progress::Offered { .. }
            | Progress::Ready { .. }
            | Progress::Permitted { .. }
            | Progress::Returning { .. }
            | Progress::Returned { .. } => 1.0,
        })
        .sum();
    assert!(promised <= max + 1e-9, "{promised} device-hours of {max}");
}

fn of_one_group_one_is_changed_at_a_time(seen: &Seen<'_>) {
    let mut changing: BTreeMap<_, Vec<&DeviceId>> = BTreeMap::new();
    for (id, member) in seen.after.1 {
        let changes = matches!(member.progress, Progress::Permitted { .. } | Progress::Activated { .. });
        if let Some(group) = seen.view.devices.get(id).and_then(|device| device.group()).filter(|_| changes) {
            changing.entry(group).or_default().push(id);
        }
    }
    for (group, devices) in &changing {
        assert!(devices.len() <= 1, "{devices:?} of {group} are changed at the same time");
    }
    for (id, _) in seen.handed().filter(|(_, permit)| *permit != Moment::Hold) {
        let Some(group) = seen.view.devices[id].group() else { continue };
        for (partner, device) in seen.view.devices.iter().filter(|(other, _)| *other != id) {
            let is_well = device.group() != Some(group)
                || (device.online && !device.busy_elsewhere && !device.beside.changes());
            assert!(is_well, "{id} was permitted while its partner {partner} is down");
        }
    }
}

fn nobody_is_permitted_outside_the_sites_window(seen: &Seen<'_>) {
    for (id, permit) in seen.handed() {
        let device = &seen.view.devices[id];
        let Some(site) = seen.view.sites.get(&device.site) else { continue };
        let (rules, zone) = (&site.rules, &site.rules.zone);
        if permit == Moment::Hold {
            assert!(rules.download.is_open(zone, seen.now), "asked to download outside the window");
            continue;
        }
        assert!(rules.activation.is_open(zone, seen.now), "permitted outside the window");
        assert!(rules.activation.windows.is_empty() || matches!(permit, Moment::Until(_)));
        let leases = site.leases.iter().chain(&device.leases);
        assert!(leases.into_iter().all(|lease| lease.until <= seen.now), "permitted in spite of a lease");
    }
}

fn no_stage_opens_before_the_one_before_it_passed(seen: &Seen<'_>) {
    let (rollout, members) = seen.after;
    for member in members.values().filter(|member| member.progress.is_exposed()) {
        for stage in &rollout.stages[..member.stage] {
            let closed = stage.closed.as_ref();
            let passed = matches!(closed, Some(StageEnd::Passed { .. } | StageEnd::Promoted { .. }));
            assert!(passed, "stage {} was asked too early", member.stage);
        }
    }
    if let Some(Transition::NextStage { .. } | Transition::Complete { .. }) = seen.answer.transition {
        let Phase::Running { stage, .. } = seen.before.0.phase else { panic!("passed while it stood") };
        let open = || members.iter().filter(|(_, member)| member.stage <= stage);
        let asked =
            open().filter(|(id, m)| m.progress.is_exposed() && seen.view.devices.contains_key(*id)).count();
        let baked = open().filter(|(_, m)| matches!(m.progress, Progress::Baked { .. })).count();
        assert!(asked > 0 && baked >= asked, "the quorum of {asked} is not baked: {baked}");
    }
}

fn what_passed_was_decided_on_data(seen: &Seen<'_>) {
    let Some(decision) = &seen.answer.decision else { return };
    let limits = &seen.before.0.plan.stages[seen.before.0.open_stage()].gate;
    let evidence = decision.evidence.as_ref().unwrap();
    assert_eq!(gate::judge(evidence, limits, decision.at), decision.report, "it cannot be computed again");
    if let Some(Transition::NextStage { .. } | Transition::Complete { .. }) = seen.answer.transition {
        assert_eq!(decision.report.verdict, Verdict::Pass);
        assert!(!evidence.exposed.is_empty());
    }
}

/// Late evidence can only tighten; a retry, which a person asks for, is the one way back.
fn failures_are_not_forgotten(seen: &Seen<'_>) {
    let retried = seen.before.0.retried;
    for (id, was) in seen.before.1 {
        let at = match &was.progress {
            Progress::Failed { at, .. } => retried.is_some_and(|retried| *at < retried),
            Progress::Reverted { .. } => false,
            Progress::Waiting
            | Progress::Excluded { .. }
            | Progress::Offered { .. }
            | Progress::Ready { .. }
            | Progress::Permitted { .. }
            | Progress::Activated { .. }
            | Progress::Baked { .. }
            | Progress::Returning { .. }
            | Progress::Returned { .. } => continue,
        };
        let is = &seen.after.1[id].progress;
        let kept = *is == was.progress
            || matches!(is, Progress::Returning { .. } | Progress::Returned { .. })
            // Its order comes from elsewhere by now.
            || matches!(seen.before.0.phase, Phase::RollingBack { .. });
        assert!(kept || at, "{id} failed, and is {}", is.name());
    }
    if seen.answer.gate.as_ref().is_some_and(|gate| gate.failing().is_some()) {
        assert_eq!(seen.handed().count(), 0, "handed out against a failing gate");
    }
}

fn everybody_has_one_reason_and_the_counts_add_up(seen: &Seen<'_>) {
    let (rollout, members) = seen.after;
    let explained = explain(rollout, members, seen.view, seen.now);
    assert_eq!(explained.len(), members.len());
    assert_eq!(explained.iter().map(|e| &e.device).collect::<BTreeSet<_>>(), members.keys().collect());
    assert!(explained.iter().all(|e| !e.code.is_empty() && !e.sentence.is_empty() && !e.next.is_empty()));
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for member in members.values() {
        *counts.entry(member.progress.name()).or_default() += 1;
    }
    assert_eq!(counts.values().sum::<usize>(), members.len());
    for one in explained {
        assert_eq!(one.state, members[&one.device].progress.name());
    }
}

fn it_is_never_silent(seen: &Seen<'_>) {
    let answer = seen.answer;
    let idle = answer.transition.is_none() && answer.assign.is_empty() && answer.members.is_empty();
    let said = !answer.waiting_on.is_empty() || !seen.after.0.phase.is_open();
    assert!(!idle || said, "idle without a word: {:?}", seen.after.0);
    assert!(answer.waiting_on.iter().all(|waiting| !waiting.sentence.is_empty()));
}
