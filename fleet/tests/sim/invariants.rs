//! What must hold whatever happens, each by its name. They are judged by what can be seen from outside: the rollout and its
//! members before and after a look, the view that it looked at, and the boxes themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_agent::reconcile::Busy;
use muster_fleet::gate::Verdict;
use muster_fleet::rollout::explain::explain;
use muster_fleet::rollout::journal::Replay;
use muster_fleet::rollout::view::{BundleStanding, DeviceView, FleetView};
use muster_fleet::rollout::{
    Advance, Claim, Member, Members, Phase, Progress, Rollout, StageEnd, Timing, Verb, advance,
};
use muster_protocol::ids::{DeviceId, SiteName};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;

use crate::fleet::{Fleet, Saved};

#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) invariant: &'static str,
    pub(crate) sentence: String,
}

type Holds = Result<(), Broken>;

/// One look of the engine, from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'a> {
    pub(crate) before: &'a Rollout,
    pub(crate) members_before: &'a Members,
    pub(crate) after: &'a Rollout,
    pub(crate) members: &'a Members,
    pub(crate) view: &'a FleetView,
    pub(crate) answer: &'a Advance,
    pub(crate) now: Timestamp,
}

fn hold(holds: bool, invariant: &'static str, sentence: impl FnOnce() -> String) -> Holds {
    if holds { Ok(()) } else { Err(Broken { invariant, sentence: sentence() }) }
}

pub(crate) fn after_look(look: &Look<'_>) -> Holds {
    no_hand_out_while_stopped(look)?;
    in_flight_within_caps(look)?;
    one_of_a_redundancy_group(look)?;
    windows_and_leases_are_kept(look)?;
    stages_open_in_order(look)?;
    resume_never_passes_a_failed_gate(look)?;
    no_data_is_never_pass(look)?;
    everybody_is_somewhere(look)?;
    abort_is_final(look)?;
    nobody_is_forgotten(look)?;
    late_evidence_only_tightens(look)?;
    gates_stay_armed(look)?;
    never_silent(look)
}

impl<'a> Look<'a> {
    fn was(&self, id: &DeviceId) -> Option<&'a Progress> {
        self.members_before.get(id).map(|member| &member.progress)
    }

    /// Who was asked in this look, or permitted to switch.
    pub(crate) fn handed(&self) -> impl Iterator<Item = (&'a DeviceId, &'a Member)> + '_ {
        self.members.iter().filter(|(id, member)| {
            let was = self.was(id);
            let newly = |test: fn(&Progress) -> bool| test(&member.progress) && !was.is_some_and(test);
            newly(|p| matches!(p, Progress::Offered { .. } | Progress::Permitted { .. }))
                || newly(|p| matches!(p, Progress::Permitted { .. }))
        })
    }

    fn device(&self, id: &DeviceId) -> Option<&'a DeviceView> {
        self.view.devices.get(id)
    }

    fn name(&self, id: &DeviceId) -> &'a str {
        self.device(id).map_or("a box that left", |device| device.name.as_str())
    }
}

/// Judged at the moment at which the order leaves.
fn no_hand_out_while_stopped(look: &Look<'_>) -> Holds {
    let may = matches!(look.before.phase, Phase::Running { .. } | Phase::Completed { .. });
    for (id, _) in look.handed() {
        let name = look.name(id);
        let broken = |why: &str| Broken {
            invariant: "no_hand_out_while_stopped",
            sentence: format!("{name} was handed the bundle though {why}"),
        };
        if !may {
            return Err(broken(&format!("the rollout was {}", look.before.phase.name())));
        }
        let Some(device) = look.device(id) else { return Err(broken("it is in no view")) };
        if look.view.freezes.iter().any(|freeze| freeze.covers(&device.site)) {
            return Err(broken("its site was frozen"));
        }
        if look.view.bundle != BundleStanding::Catalogued {
            return Err(broken("the bundle had left the catalogue"));
        }
        // What has begun is finished.
        let begun = look.was(id).is_some_and(Progress::is_exposed);
        if device.claim != Claim::Free && !begun {
            return Err(broken("another rollout has it"));
        }
        if !device.online {
            return Err(broken("it was away"));
        }
        if device.unfit.is_some() || device.bad.is_some() {
            return Err(broken("it cannot run it"));
        }
    }
    // What an order says is what the members say: nobody is told to run it who was not asked.
    let bundle = Some(&look.after.bundle);
    for assignment in look.answer.assign.iter().filter(|a| a.bundle.as_ref() == bundle) {
        let asked = look.members.get(&assignment.device).is_some_and(|m| m.progress.asked().is_some());
        hold(asked, "no_hand_out_while_stopped", || {
            format!("{} was ordered to run it and was not asked", look.name(&assignment.device))
        })?;
    }
    Ok(())
}

fn in_flight_within_caps(look: &Look<'_>) -> Holds {
    let mut sites: BTreeMap<&SiteName, (usize, bool)> = BTreeMap::new();
    let (mut all, mut grew) = (0, false);
    // Who goes on from its stepping stone was asked before.
    let asked_anew = look.handed().filter(|(id, _)| !look.was(id).is_some_and(Progress::is_in_flight));
    let handed: std::collections::BTreeSet<&DeviceId> = asked_anew.map(|(id, _)| id).collect();
    for (id, _) in look.members.iter().filter(|(_, member)| member.progress.is_in_flight()) {
        let new = handed.contains(id);
        all += 1;
        grew |= new;
        if let Some(device) = look.device(id) {
            let site = sites.entry(&device.site).or_default();
            site.0 += 1;
            site.1 |= new;
        }
    }
    let plan = &look.before.plan;
    let cap = plan.in_flight_max as usize;
    hold(!grew || all <= cap, "in_flight_within_caps", || format!("{all} in flight, {cap} allowed"))?;
    for (site, (mut count, grew)) in sites {
        // Those of other rollouts of the slot take places of the site too.
        let theirs =
            look.view.devices.iter().filter(|(_, view)| *view.site == *site && view.beside.is_in_flight());
        count +=
            theirs.filter(|(id, _)| !look.members.get(id).is_some_and(|m| m.progress.is_in_flight())).count();
        let own = look.view.sites.get(site).and_then(|view| view.rules.in_flight_max);
        let Some(cap) = own.into_iter().chain(plan.in_flight_per_site_max).min() else { continue };
        hold(!grew || count <= cap as usize, "in_flight_within_caps", || {
            format!("{count} in flight at {site}, {cap} allowed")
        })?;
    }
    // Whoever has reached a stepping stone is told anew and is nobody new; it cannot be told from outside who that is.
    let counts = grew && plan.stepping_stones.is_empty();
    let Some(rate) = plan.rate_per_hour_max.filter(|_| counts) else { return Ok(()) };
    let hour = look.now.minus(Duration::from_hours(1));
    let asked = look.members.values().filter_map(|member| member.progress.asked());
    let asked = asked.filter(|asked| asked.at > hour).count();
    hold(asked <= rate as usize, "in_flight_within_caps", || {
        format!("{asked} asked in an hour, {rate} allowed")
    })
}

fn one_of_a_redundancy_group(look: &Look<'_>) -> Holds {
    for (id, member) in look.handed().filter(|(_, m)| matches!(m.progress, Progress::Permitted { .. })) {
        let Some(device) = look.device(id) else { continue };
        let Some(group) = device.group() else { continue };
        let partners =
            look.view.devices.iter().filter(|(other, view)| *other != id && view.group() == Some(group));
        for (other, view) in partners {
            let interrupted = look.members.get(other).is_some_and(|member| {
                matches!(member.progress, Progress::Permitted { .. } | Progress::Activated { .. })
            });
            let down = !view.online || view.busy_elsewhere || view.beside.changes();
            hold(!interrupted && !down, "one_of_a_redundancy_group", || {
                format!("{} may switch while its partner {} is interrupted or away", device.name, view.name)
            })?;
        }
        hold(!device.busy_elsewhere || member.attempts == 0, "one_of_a_redundancy_group", || {
            format!("{} may switch while it is interrupted for another slot", device.name)
        })?;
    }
    Ok(())
}

fn windows_and_leases_are_kept(look: &Look<'_>) -> Holds {
    for (id, member) in look.handed() {
        let Some(device) = look.device(id) else { continue };
        let site = look.view.sites.get(&device.site).cloned().unwrap_or_default();
        let keeps = look.before.plan.timing == Timing::AsSitesAllow;
        let (open, what) = match member.progress {
            Progress::Permitted { .. } => {
                let free = site.leases.iter().chain(&device.leases).all(|lease| lease.until <= look.now);
                hold(free, "windows_and_leases_are_kept", || {
                    format!("{} may switch while somebody holds a lease", device.name)
                })?;
                (&site.rules.activation, "switch")
            }
            _ => (&site.rules.download, "fetch"),
        };
        hold(!keeps || open.is_open(&site.rules.zone, look.now), "windows_and_leases_are_kept", || {
            format!("{} may {what} while {} allows it not", device.name, *device.site)
        })?;
    }
    Ok(())
}

fn is_through(rollout: &Rollout, stage: usize) -> bool {
    let closed = rollout.stages.get(stage).and_then(|record| record.closed.as_ref());
    matches!(closed, Some(StageEnd::Passed { .. } | StageEnd::Promoted { .. }))
}

/// Nobody of a later stage is asked before those before it have passed, on a quorum, or a person let them.
fn stages_open_in_order(look: &Look<'_>) -> Holds {
    for (id, member) in look.handed() {
        for stage in 0..member.stage {
            hold(is_through(look.after, stage), "stages_open_in_order", || {
                format!(
                    "{} of stage {} was asked before stage {stage} had passed",
                    look.name(id),
                    member.stage
                )
            })?;
        }
    }
    for (stage, record) in look.after.stages.iter().enumerate() {
        let passed = matches!(record.closed, Some(StageEnd::Passed { .. }));
        if !passed || is_through(look.before, stage) {
            continue;
        }
        let gate = record.gate.as_ref();
        hold(gate.is_some_and(|gate| gate.verdict == Verdict::Pass), "stages_open_in_order", || {
            format!("stage {stage} passed without its gate's pass")
        })?;
        let (mut asked, mut baked) = (0, 0);
        // Who left the fleet is in no denominator.
        let here = look.members.iter().filter(|(id, _)| look.device(id).is_some());
        for (_, member) in here.filter(|(_, member)| member.stage <= stage) {
            asked += usize::from(member.progress.asked().is_some());
            baked += usize::from(matches!(member.progress, Progress::Baked { .. }));
        }
        let quorum = look.after.plan.stages[stage].quorum_percent;
        let reached = baked > 0 && baked as f64 * 100.0 >= quorum * asked as f64;
        hold(reached, "stages_open_in_order", || {
            format!("stage {stage} passed with {baked} baked of {asked} asked, its quorum is {quorum} %")
        })?;
    }
    Ok(())
}

/// Called after each act of a person.
pub(crate) fn acted(before: &Rollout, after: &Rollout, verb: Verb, accepted: bool) -> Holds {
    hold(accepted || before.phase == after.phase, "a_refusal_changes_nothing", || {
        format!("{} was refused and changed the phase", verb.as_str())
    })?;
    let failing = |rollout: &Rollout| {
        let stage = rollout.phase.stage()?;
        let gate = rollout.stages.get(stage)?.gate.as_ref()?;
        (gate.verdict == Verdict::Fail).then_some(stage)
    };
    if let (Verb::Resume | Verb::Promote, Some(stage)) = (verb, failing(before)) {
        hold(
            !is_through(after, stage) && after.phase.stage() == Some(stage),
            "resume_never_passes_a_failed_gate",
            || format!("{} went past stage {stage}, whose gate fails", verb.as_str()),
        )?;
    }
    if verb == Verb::Resume {
        let opened = after.phase.stage() <= before.phase.stage();
        hold(opened, "resume_never_passes_a_failed_gate", || "resume opened another stage".to_owned())?;
    }
    Ok(())
}

/// Nothing goes on from a stage in the same look in which its gate fails.
fn resume_never_passes_a_failed_gate(look: &Look<'_>) -> Holds {
    let failing = look.answer.gate.as_ref().filter(|gate| gate.verdict == Verdict::Fail);
    let (Some(gate), Phase::Running { stage, .. }) = (failing, &look.before.phase) else { return Ok(()) };
    let handed = look.handed().next();
    hold(handed.is_none() && !is_through(look.after, *stage), "resume_never_passes_a_failed_gate", || {
        format!("it went on though {}", gate.failing().map_or("", |layer| layer.sentence.as_str()))
    })
}

fn no_data_is_never_pass(look: &Look<'_>) -> Holds {
    let Some(gate) = look.answer.gate.as_ref().filter(|gate| gate.verdict == Verdict::Pass) else {
        return Ok(());
    };
    let data = gate.layers.iter().any(|layer| layer.n > 0);
    hold(!gate.layers.is_empty() && data, "no_data_is_never_pass", || {
        "a gate passed without any data".to_owned()
    })?;
    let worst = gate.layers.iter().map(|layer| layer.verdict).max();
    hold(worst == Some(Verdict::Pass), "no_data_is_never_pass", || {
        let layer = gate.layers.iter().find(|layer| layer.verdict != Verdict::Pass);
        format!("a gate passed though {}", layer.map_or("", |layer| layer.sentence.as_str()))
    })?;
    // Who left the fleet, and who went back by itself, runs nothing.
    let here = look.members.iter().filter(|(id, _)| look.device(id).is_some());
    let runs = here.filter(|(_, member)| member.progress.activated().is_some()).count();
    hold(runs > 0, "no_data_is_never_pass", || "a gate passed though nobody runs the bundle".to_owned())
}

/// Where a way back would lead: never to a bundle that the device has been told to leave.
pub(crate) fn no_way_back_to_what_was_left(look: &Look<'_>, rollouts: &[Saved]) -> Holds {
    for (id, member) in look.handed().filter(|(id, _)| look.was(id) == Some(&Progress::Waiting)) {
        let Some(from) = member.progress.from() else { continue };
        // Whoever is on its way to this very bundle already comes from somewhere that nothing in the view tells.
        if look.device(id).is_some_and(|device| device.wish.as_ref() == Some(&look.before.bundle)) {
            continue;
        }
        let of_it = || rollouts.iter().filter(|other| other.rollout.bundle == *from);
        let told = |other: &Saved| other.members.get(id).map(|member| member.progress.clone());
        // A later rollout of the same bundle has brought it back.
        let has_it = |other| matches!(told(other), Some(Progress::Activated { .. } | Progress::Baked { .. }));
        if of_it().any(has_it) {
            continue;
        }
        let left = of_it().find(
            |other| matches!(told(other), Some(Progress::Returning { to, .. }) if to.as_ref() != Some(from)),
        );
        hold(left.is_none(), "no_way_back_to_what_was_left", || {
            format!("{} would go back to {}, which it was told to leave", look.name(id), from.path)
        })?;
    }
    Ok(())
}

/// Exactly one state and one sentence for each, and the sums are the cohort.
fn everybody_is_somewhere(look: &Look<'_>) -> Holds {
    let name = "everybody_is_somewhere";
    let gone = look.members_before.keys().find(|id| !look.members.contains_key(*id));
    hold(gone.is_none(), name, || format!("{gone:?} is a member no longer"))?;
    if look.answer.members.is_empty() && look.answer.transition.is_none() {
        return Ok(());
    }
    let explained = explain(look.after, look.members, look.view, look.now);
    let told = explained.iter().map(|one| &one.device);
    hold(told.eq(look.members.keys()), name, || "not exactly one explanation for each".to_owned())?;
    let wordless = explained.iter().find(|one| one.sentence.is_empty() || one.next.is_empty());
    hold(wordless.is_none(), name, || format!("{wordless:?} explains nothing"))
}

fn abort_is_final(look: &Look<'_>) -> Holds {
    let ends = |phase: &Phase| {
        matches!(
            phase,
            Phase::Aborting { .. }
                | Phase::Aborted { .. }
                | Phase::RollingBack { .. }
                | Phase::RolledBack { .. }
        )
    };
    hold(!ends(&look.before.phase) || ends(&look.after.phase), "abort_is_final", || {
        format!("{} became {}", look.before.phase.name(), look.after.phase.name())
    })
}

/// A roll back or an abort is over only when everybody's order says so, also theirs who are away.
fn nobody_is_forgotten(look: &Look<'_>) -> Holds {
    let ended = matches!(look.after.phase, Phase::RolledBack { .. } | Phase::Aborted { .. });
    if !ended || look.before.phase == look.after.phase {
        return Ok(());
    }
    for (id, member) in look.members {
        let (Progress::Returning { to, .. }, Some(device)) = (&member.progress, look.device(id)) else {
            continue;
        };
        let told = device.wish == *to || device.wish.as_ref().is_none_or(|wish| !look.after.leads_over(wish));
        hold(told, "nobody_is_forgotten", || {
            format!("it is {}, and the order of {} still wants it", look.after.phase.name(), look.name(id))
        })?;
    }
    Ok(())
}

fn late_evidence_only_tightens(look: &Look<'_>) -> Holds {
    let name = "late_evidence_only_tightens";
    for (id, was) in look.members_before {
        let is = &look.members[id];
        let lost = matches!(was.progress, Progress::Failed { .. } | Progress::Reverted { .. });
        let won = matches!(is.progress, Progress::Activated { .. } | Progress::Baked { .. });
        hold(!(lost && won), name, || format!("{} failed, and is counted as running it", look.name(id)))?;
        let returned = matches!(was.progress, Progress::Returning { .. } | Progress::Returned { .. });
        hold(!(returned && is.progress.is_exposed()), name, || {
            format!("{} was told to go back, and is counted as running it", look.name(id))
        })?;
    }
    for (before, after) in look.before.stages.iter().zip(&look.after.stages) {
        let failed = |end: &Option<StageEnd>| matches!(end, Some(StageEnd::Failed { .. }));
        hold(!failed(&before.closed) || failed(&after.closed), name, || {
            "a failed stage is failed no longer".to_owned()
        })?;
    }
    Ok(())
}

/// Where a layer fails, the look acts: at once, in every state in which there is something to stop.
fn gates_stay_armed(look: &Look<'_>) -> Holds {
    let fails = look.answer.gate.as_ref().is_some_and(|gate| gate.verdict == Verdict::Fail);
    let goes_on = matches!(look.after.phase, Phase::Running { .. } | Phase::Completed { .. });
    hold(!fails || !goes_on, "gates_stay_armed", || {
        format!("its gate fails and it is {}", look.after.phase.name())
    })
}

fn never_silent(look: &Look<'_>) -> Holds {
    let idle =
        look.answer.transition.is_none() && look.answer.assign.is_empty() && look.answer.members.is_empty();
    hold(!idle || !look.before.phase.is_open() || !look.answer.waiting_on.is_empty(), "never_silent", || {
        format!("it is {}, does nothing and says not why", look.before.phase.name())
    })
}

pub(crate) fn same_input_same_answer(
    fleet: &Fleet,
    index: usize,
    view: &FleetView,
    answer: &Advance,
    now: Timestamp,
) -> Holds {
    let saved = &fleet.rollouts[index];
    let again = advance(&saved.rollout, &saved.members, view, now);
    hold(again == *answer, "same_input_same_answer", || {
        "asked twice, the engine answered differently".to_owned()
    })
}

pub(crate) fn one_activation_at_a_time(name: &str, busy: Option<&Busy>) -> Holds {
    hold(busy.is_none(), "one_activation_at_a_time", || {
        format!("{name} begins another thing while it is at {busy:?}")
    })
}

pub(crate) fn only_proven_bundles_run(name: &str, bundle: &BundleRef, proven: bool, bad: bool) -> Holds {
    hold(proven && !bad, "only_proven_bundles_run", || {
        format!("{name} switches to {}: proven {proven}, bad-listed {bad}", bundle.path)
    })
}

pub(crate) fn repeated_words_change_nothing(changed: bool, word: &crate::fleet::Word) -> Holds {
    hold(!changed, "repeated_words_change_nothing", || {
        format!("heard a second time, {word:?} changed something")
    })
}

/// Two lives of one seed, in one of which old words came again between newer ones: they end alike, to the second.
pub(crate) fn late_repeats_change_nothing(once: &Fleet, again: &Fleet) -> Holds {
    let alike = |(a, b): (&Saved, &Saved)| a.rollout == b.rollout && a.members == b.members;
    let rollouts = once.rollouts.len() == again.rollouts.len();
    let same =
        rollouts && once.rollouts.iter().zip(&again.rollouts).all(alike) && once.orders == again.orders;
    hold(same, "late_repeats_change_nothing", || "with old words between, it ended otherwise".to_owned())
}

/// The journal, lived again, comes out the same.
pub(crate) fn replay_agrees(saved: &Saved) -> Holds {
    let mut replay = Replay::default();
    for entry in &saved.journal {
        if let Err(error) = replay.follow(entry) {
            return Err(Broken { invariant: "replay_agrees", sentence: error.to_string() });
        }
    }
    let same = replay.rollout.as_ref() == Some(&saved.rollout) && replay.members == saved.members;
    hold(same, "replay_agrees", || "replayed, the rollout ends otherwise".to_owned())
}

/// After the calm: it has ended, or says what person it waits for.
pub(crate) fn it_ends_or_asks_somebody(saved: &Saved) -> Holds {
    let name = "it_ends_or_asks_somebody";
    let codes: Vec<&str> = saved.waiting_on.iter().map(|waiting| waiting.code).collect();
    let told = !saved.waiting_on.is_empty();
    let holds = match &saved.rollout.phase {
        Phase::Proposed { .. } | Phase::Paused { .. } | Phase::Held { .. } => told,
        // Nobody matches, or those who match belong to another rollout, which is asked itself.
        Phase::Running { .. } => codes
            .iter()
            .any(|code| ["empty_cohort", "behind", "consent", "bundle_yanked", "yanked"].contains(code)),
        Phase::RolledBack { .. }
        | Phase::Aborted { .. }
        | Phase::Superseded { .. }
        | Phase::Completed { .. } => true,
        Phase::Scheduled { .. } | Phase::RollingBack { .. } | Phase::Aborting { .. } => false,
    };
    hold(holds, name, || {
        format!("it is {} for ever; waits on {:?}", saved.rollout.phase.name(), saved.waiting_on)
    })
}
