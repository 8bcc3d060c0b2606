//! What must hold whatever a fleet, its operators and the weather do: random fleets with random plans live random
//! histories, and every look is held to every rule.
//!
//! ```text
//!   fleet.rs   boxes that obey their orders, fail, go dark, come late; sites with windows, leases and consents
//!   rules.rs   the invariants, by name, checked after each look
//! ```

mod fleet;
mod rules;

use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;
use proptest::prelude::*;

use super::journal::{Change, Entry, Input, Replay, outcome};
use super::owed::owed;
use super::view::{BundleStanding, Doing};
use super::{Actor, Members, Phase, Progress, Rollout, Verb, advance};
use crate::gate::Layer;
use fleet::{Fleet, Nature, Setting, Step, bundle, id, rollout, setting, step};

const CASES: u32 = 48;

fn config() -> ProptestConfig {
    let cases = ProptestConfig::default().cases;
    // PROPTEST_CASES raises it; its default of 256 is for cheaper properties than these.
    ProptestConfig { cases: if cases == 256 { CASES } else { cases }, ..ProptestConfig::default() }
}

/// A rollout on its way through a history.
struct Life {
    now: Timestamp,
    fleet: Fleet,
    rollout: Rollout,
    members: Members,
    journal: Vec<Entry>,
    known: super::FleetView,
}

impl Life {
    fn new(setting: &Setting) -> Self {
        let now = Timestamp::from_seconds(1_000_000);
        let rollout = rollout(setting, now);
        let begun = Input::Begun { rollout: Box::new(rollout.clone()) };
        let outcome = outcome(&rollout, &Members::new());
        Self {
            now,
            fleet: Fleet::new(setting),
            journal: vec![Entry { at: now, input: begun, outcome }],
            members: Members::new(),
            known: super::FleetView::default(),
            rollout,
        }
    }

    fn live(setting: &Setting, steps: Vec<Step>) -> Self {
        let mut life = Self::new(setting);
        for step in steps {
            let hours = life.take(step);
            for _ in 0..hours {
                life.look(false);
                life.fleet.live(life.now);
                life.now = life.now.plus(std::time::Duration::from_hours(1));
            }
            life.look(false);
        }
        life
    }

    /// Answers how many hours pass after it.
    fn take(&mut self, step: Step) -> u8 {
        match step {
            Step::Hours(hours) => return hours,
            Step::Act(verb) => self.act(verb, "op"),
            Step::StaleView => self.look(true),
            step @ (Step::Toggle(_)
            | Step::Freeze(_)
            | Step::Thaw
            | Step::Lease(..)
            | Step::LeaseOfSite(_)
            | Step::Busy(_)
            | Step::Beside(..)
            | Step::Claim(..)
            | Step::OptOut(_)
            | Step::ListAsBad(_)
            | Step::Leave(_)
            | Step::Join) => self.fleet.take(&step, self.now),
        }
        0
    }

    fn act(&mut self, verb: Verb, name: &str) {
        let before = self.rollout.clone();
        let by = Actor::Person { name: name.to_owned() };
        if self.rollout.act(verb, by.clone(), "because", self.now).is_err() {
            assert_eq!(self.rollout, before, "a refused verb changed something");
            return;
        }
        let input = Input::Acted { verb, by, reason: "because".to_owned() };
        self.record(input, &Members::new());
    }

    fn look(&mut self, stale: bool) {
        let view = if stale { self.fleet.as_it_was() } else { self.fleet.view.clone() };
        let (rollout, members) = (self.rollout.clone(), self.members.clone());
        let answer = advance(&rollout, &members, &view, self.now);
        assert_eq!(answer, advance(&rollout, &members, &view, self.now), "same input, same answer");
        self.rollout.apply(&mut self.members, &answer);
        self.fleet.obey(&answer);
        self.record(Input::Looked { change: Change::between(&self.known, &view) }, &answer.members);
        rules::check(&rules::Seen {
            before: (&rollout, &members),
            after: (&self.rollout, &self.members),
            view: &view,
            answer: &answer,
            now: self.now,
        });
        self.known = view;
    }

    fn record(&mut self, input: Input, changed: &Members) {
        self.journal.push(Entry { at: self.now, input, outcome: outcome(&self.rollout, changed) });
    }

    fn count(&self, name: &str) -> usize {
        self.members.values().filter(|member| member.progress.name() == name).count()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_rule_holds_after_every_look_of_any_history(
        setting in setting(),
        steps in prop::collection::vec(step(), 1..25),
    ) {
        Life::live(&setting, steps);
    }

    #[test]
    fn replaying_the_journal_gives_the_same_state(
        setting in setting(),
        steps in prop::collection::vec(step(), 1..12),
    ) {
        let life = Life::live(&setting, steps);
        let mut replay = Replay::default();
        for entry in &life.journal {
            // Through its text, as it is kept.
            let text = serde_json::to_string(entry).unwrap();
            replay.follow(&serde_json::from_str(&text).unwrap()).unwrap();
        }
        prop_assert_eq!(replay.rollout, Some(life.rollout));
        prop_assert_eq!(replay.members, life.members);
    }

    #[test]
    fn abort_is_final_in_one_step(
        setting in setting(),
        steps in prop::collection::vec(step(), 1..12),
        later in prop::collection::vec(step(), 1..8),
    ) {
        let mut life = Life::live(&setting, steps);
        life.act(Verb::Abort, "op");
        prop_assume!(matches!(life.rollout.phase, Phase::Aborting { .. }));
        let ran = |life: &Life| life.members.values().filter(|m| m.progress.is_exposed()).count();
        let before = ran(&life);
        for step in later.into_iter().filter(|step| !matches!(step, Step::Act(_))) {
            let hours = life.take(step);
            for _ in 0..=hours {
                life.look(false);
                prop_assert!(ran(&life) <= before, "somebody was asked after the abort");
                life.fleet.live(life.now);
                life.now = life.now.plus(std::time::Duration::from_hours(1));
            }
        }
        prop_assert!(["aborting", "aborted"].contains(&life.rollout.phase.name()));
    }

    #[test]
    fn resume_never_passes_a_failed_gate(devices in 3_usize..10, hours in 1_u8..6) {
        let setting = Setting { hold: true, ..Setting::plain(vec![Nature::IsWrong; devices]) };
        let mut life = Life::live(&setting, vec![Step::Hours(60)]);
        prop_assert_eq!(life.rollout.phase.name(), "held");
        for _ in 0..3 {
            life.act(Verb::Resume, "op");
            life.take(Step::Hours(hours));
            life.look(false);
            prop_assert_eq!(life.rollout.phase.name(), "held");
            prop_assert_eq!(life.count("waiting"), devices - 1, "the failed gate let somebody through");
        }
        life.act(Verb::Promote, "op");
        prop_assert_eq!(life.rollout.phase.name(), "held", "nobody promotes past a gate that fails");
    }

    #[test]
    fn a_wrong_bundle_never_leaves_the_canary(devices in 3_usize..12) {
        let life = Life::live(&Setting::plain(vec![Nature::IsWrong; devices]), vec![Step::Hours(60)]);
        prop_assert_eq!(life.rollout.phase.name(), "rolled_back");
        prop_assert!(life.fleet.view.devices.values().all(|device| device.current == Some(bundle("old"))));
        prop_assert_eq!(life.count("returned"), 1);
    }

    #[test]
    fn a_good_bundle_reaches_everybody(setting in setting()) {
        let natures = vec![Nature::Good; setting.natures.len()];
        let setting = Setting { natures, budget: None, rate: None, ..setting };
        let mut life = Life::new(&setting);
        for _ in 0..700 {
            life.look(false);
            if life.rollout.phase.name() == "completed" && life.count("done") == life.members.len() {
                break;
            }
            life.fleet.live(life.now);
            life.now = life.now.plus(std::time::Duration::from_hours(1));
        }
        prop_assert_eq!(life.rollout.phase.name(), "completed");
        prop_assert!(life.fleet.view.devices.values().all(|device| device.current == Some(bundle("new"))));
    }

    #[test]
    fn no_data_never_passes(devices in 1_usize..8) {
        let setting = Setting { mute: true, ..Setting::plain(vec![Nature::Good; devices]) };
        let life = Life::live(&setting, vec![Step::Hours(150)]);
        prop_assert_eq!(life.rollout.phase.name(), "held");
        prop_assert!(life.rollout.stages.iter().all(|stage| stage.closed.is_none()));
    }

    #[test]
    fn the_order_of_reports_and_their_repetition_are_irrelevant(
        setting in setting(),
        steps in prop::collection::vec(step(), 1..10),
        rotate in 0_usize..12,
    ) {
        let life = Life::live(&setting, steps);
        let mut shuffled = super::FleetView { devices: std::collections::BTreeMap::new(), ..life.fleet.view.clone() };
        let mut reports: Vec<_> = life.fleet.view.devices.clone().into_iter().collect();
        let by = rotate % reports.len().max(1);
        reports.rotate_left(by);
        for (id, device) in reports.iter().chain(&reports) {
            shuffled.devices.insert(id.clone(), device.clone());
        }
        let look = |view| advance(&life.rollout, &life.members, view, life.now);
        let answer = look(&life.fleet.view);
        prop_assert_eq!(&answer, &look(&shuffled));
        // The same view once more, before any order has reached anybody: nobody is asked twice.
        let (mut rollout, mut members) = (life.rollout.clone(), life.members.clone());
        rollout.apply(&mut members, &answer);
        let again = advance(&rollout, &members, &life.fleet.view, life.now);
        let asked = |answer: &super::Advance| -> Vec<_> {
            answer.assign.iter().filter(|a| a.bundle == Some(bundle("new"))).map(|a| a.device.clone()).collect()
        };
        let first = asked(&answer);
        prop_assert!(asked(&again).iter().all(|device| !first.contains(device)));
    }
}

#[test]
fn a_canary_that_cannot_install_holds_the_rollout() {
    let life = Life::live(&Setting::plain(vec![Nature::FailsToInstall; 3]), vec![Step::Hours(5)]);
    let held = matches!(&life.rollout.phase, Phase::Held { cause, .. } if cause.code == "quorum_lost");
    assert!(held, "{:?}", life.rollout.phase);
    assert!(life.fleet.view.devices.values().all(|device| device.wish == Some(bundle("old"))));
}

#[test]
fn a_way_back_that_cannot_be_ordered_is_owed_and_no_news() {
    let mut life = Life::live(&Setting::plain(vec![Nature::FailsToInstall; 3]), vec![Step::Hours(2)]);
    let failed = |life: &Life| -> Vec<DeviceId> {
        let members = life.members.iter().filter(|(_, m)| matches!(m.progress, Progress::Failed { .. }));
        members.map(|(id, _)| id.clone()).collect()
    };
    let canary = failed(&life);
    assert_eq!(canary.len(), 1);
    // The catalogue does not list what it ran before.
    life.fleet.view.devices.get_mut(&canary[0]).unwrap().wish = Some(bundle("new"));
    let answer = advance(&life.rollout, &life.members, &life.fleet.view, life.now);
    assert_eq!(answer.assign, Vec::new());
    assert!(!answer.is_news(&life.rollout), "nothing is saved, so that nothing is asked again at once");
    let owed = owed(&life.rollout, &life.members, &life.fleet.view, None);
    let owed: Vec<_> = owed.into_iter().map(|owed| (owed.device, owed.bundle)).collect();
    assert_eq!(owed, [(canary[0].clone(), Some(bundle("old")))]);
}

#[test]
fn while_nothing_is_heard_nothing_goes_on_and_everybody_comes_back() {
    let mut life = Life::live(&Setting::plain(vec![Nature::Good; 3]), vec![]);
    let live = |life: &mut Life, hours: usize| {
        for _ in 0..hours {
            life.fleet.live(life.now);
            life.now = life.now.plus(std::time::Duration::from_hours(1));
            life.look(false);
        }
    };
    live(&mut life, 2);
    life.fleet.view.unheard = true;
    live(&mut life, 200);
    assert_eq!(life.rollout.phase.stage(), Some(0), "what is known may be old");
    assert_eq!((life.rollout.phase.name(), life.count("done"), life.count("waiting")), ("running", 1, 2));
    life.fleet.view.unheard = false;
    live(&mut life, 2);
    assert_eq!(life.rollout.phase.stage(), Some(1), "it was nobody's failure");
    life.fleet.view.unheard = true;
    life.act(Verb::Rollback, "op");
    live(&mut life, 5);
    assert_eq!(life.rollout.phase.name(), "rolled_back");
    assert!(life.fleet.view.devices.values().all(|device| device.current == Some(bundle("old"))));
    let mut replay = Replay::default();
    for entry in &life.journal {
        replay.follow(entry).unwrap();
    }
    assert_eq!(replay.rollout, Some(life.rollout));
}

#[test]
fn whoever_is_set_apart_is_not_silent() {
    let mut life = Life::live(&Setting::plain(vec![Nature::Good; 10]), vec![Step::Hours(120)]);
    assert_eq!(life.count("done"), 10);
    life.now = life.now.plus(std::time::Duration::from_hours(24));
    let silent = |life: &Life| {
        let gate = advance(&life.rollout, &life.members, &life.fleet.view, life.now).gate.unwrap();
        let layer = gate.layers.into_iter().find(|layer| layer.layer == Layer::Silence).unwrap();
        layer.missing.len()
    };
    let set_apart = |life: &mut Life, quarantined: bool| {
        for device in life.fleet.view.devices.values_mut().take(4) {
            (device.online, device.quarantined) = (false, quarantined);
        }
    };
    set_apart(&mut life, false);
    assert_eq!(silent(&life), 4);
    set_apart(&mut life, true);
    assert_eq!(silent(&life), 0, "nobody knows whether it would speak");
}

#[test]
fn a_roll_back_leaves_those_alone_that_ran_it_before() {
    let mut life = Life::live(&Setting::plain(vec![Nature::Good; 3]), vec![]);
    let first = life.fleet.view.devices.get_mut(&id(0)).unwrap();
    (first.current, first.wish) = (Some(bundle("new")), Some(bundle("new")));
    for _ in 0..60 {
        life.take(Step::Hours(1));
        life.look(false);
    }
    assert!(life.members[&id(0)].progress.activated().is_some());
    life.act(Verb::Rollback, "op");
    for _ in 0..5 {
        life.look(false);
        life.take(Step::Hours(1));
    }
    assert_eq!(life.rollout.phase.name(), "rolled_back");
    let runs = |n| life.fleet.view.devices[&id(n)].current.clone();
    assert_eq!((runs(0), runs(1)), (Some(bundle("new")), Some(bundle("old"))));
}

#[test]
fn while_devices_only_live_with_it_nothing_is_written() {
    let life = Life::live(&Setting::plain(vec![Nature::Good; 3]), vec![Step::Hours(1)]);
    assert!(life.count("baking") > 0);
    let (mut rollout, mut members) = (life.rollout.clone(), life.members.clone());
    let mut written = 0;
    for second in 0..3600 {
        let now = life.now.plus(std::time::Duration::from_secs(second));
        let answer = advance(&rollout, &members, &life.fleet.view, now);
        if answer.is_news(&rollout) {
            rollout.apply(&mut members, &answer);
            written += 1;
        }
    }
    assert!(written <= 60, "{written} times in an hour");
}

#[test]
fn a_retry_asks_those_again_that_failed() {
    let mut life = Life::live(&Setting::plain(vec![Nature::FailsToInstall; 2]), vec![Step::Hours(5)]);
    life.fleet.natures = vec![Nature::Good; 2];
    assert_eq!(life.rollout.phase.name(), "held");
    life.act(Verb::Retry, "op");
    assert_eq!(life.rollout.phase.name(), "running");
    // A box that has not heard of the order back would take the next for a repeat of the one that failed.
    life.fleet.view.devices.values_mut().for_each(|device| device.doing = Doing::Unknown);
    life.look(false);
    assert_eq!(life.count("waiting"), 2);
    life.fleet.view.devices.values_mut().for_each(|device| device.doing = Doing::Nothing);
    life.take(Step::Hours(1));
    life.look(false);
    assert_eq!(life.members.values().map(|member| member.attempts).max(), Some(2));
}

#[test]
fn whoever_could_not_be_told_has_failed_nothing() {
    let mut life = Life::live(&Setting::plain(vec![Nature::Good; 3]), vec![]);
    for _ in 0..30 {
        life.look(false);
        // No order can be made.
        life.fleet.view.devices.values_mut().for_each(|device| device.wish = Some(bundle("old")));
        life.now = life.now.plus(std::time::Duration::from_hours(1));
    }
    assert_eq!((life.rollout.phase.name(), life.count("failed")), ("running", 0));
    // It is asked anew just now, and has its whole time.
    life.look(false);
    life.fleet.live(life.now);
    life.look(false);
    assert_eq!(life.count("baking"), 1);
    assert_eq!(life.members.values().map(|member| member.attempts).max(), Some(1));
}

#[test]
fn stragglers_get_the_bundle_when_they_come_back() {
    let setting = Setting::plain(vec![Nature::Good; 5]);
    let canary = Life::live(&setting, vec![Step::Hours(1)]).members;
    let late = (0..5).find(|&n| canary[&id(n)].stage > 0).unwrap();
    let steps = vec![Step::Toggle(late), Step::Hours(120), Step::Toggle(late), Step::Hours(3)];
    let life = Life::live(&setting, steps);
    assert_eq!(life.rollout.phase.name(), "completed");
    assert!(life.fleet.view.devices.values().all(|device| device.current == Some(bundle("new"))));
}

#[test]
fn a_revoked_bundle_is_taken_back_from_everybody_and_a_yanked_one_goes_no_further() {
    let setting = Setting::plain(vec![Nature::Good; 6]);
    let mut life = Life::live(&setting, vec![Step::Hours(5)]);
    life.fleet.view.bundle = BundleStanding::Yanked;
    life.look(false);
    assert!(matches!(&life.rollout.phase, Phase::Held { cause, .. } if cause.code == "bundle_yanked"));
    life.fleet.view.bundle = BundleStanding::Revoked { reason: "leaks".to_owned() };
    life.look(false);
    assert_eq!(life.rollout.phase.name(), "rolling_back");
}

#[test]
fn completion_is_taken_back_when_a_device_goes_back_or_the_gate_fails() {
    let setting = Setting::plain(vec![Nature::Good; 3]);
    let mut life = Life::live(&setting, vec![Step::Hours(120)]);
    assert_eq!(life.rollout.phase.name(), "completed");
    life.fleet.view.devices.get_mut(&id(0)).unwrap().current = Some(bundle("old"));
    life.look(false);
    assert!(matches!(&life.rollout.phase, Phase::Held { cause, .. } if cause.code == "reopened"));
    assert!(matches!(life.members[&id(0)].progress, Progress::Reverted { .. }));
}

#[test]
fn approval_needs_somebody_else() {
    let mut rollout = rollout(&Setting::plain(vec![Nature::Good]), Timestamp::from_seconds(1));
    let mut plan = rollout.plan.clone();
    plan.approvals_min = 1;
    plan.start_at = Some(Timestamp::from_seconds(100));
    rollout.phase = Phase::Proposed { since: Timestamp::default() };
    let author = || Actor::Person { name: "author".to_owned() };
    let now = Timestamp::from_seconds(2);
    rollout.amend(plan, (author(), "why".to_owned()), now).unwrap();
    assert_eq!(rollout.phase.name(), "proposed");
    assert!(rollout.act(Verb::Approve, author(), "", now).is_err());
    assert!(rollout.act(Verb::Approve, Actor::Engine, "", now).is_err());
    rollout.act(Verb::Approve, Actor::Person { name: "other".to_owned() }, "", now).unwrap();
    assert_eq!(rollout.phase.name(), "scheduled");
    let look = |rollout: &Rollout, at| {
        advance(rollout, &Members::new(), &super::FleetView::default(), Timestamp::from_seconds(at))
    };
    assert_eq!(look(&rollout, 99).look_again, Some(Timestamp::from_seconds(100)));
    let begun = look(&rollout, 100);
    rollout.apply(&mut Members::new(), &begun);
    assert_eq!(rollout.phase.name(), "running");
}
