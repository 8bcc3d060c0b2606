//! What must hold whatever a fleet, its operators and the weather do: checked after every step of random histories.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_protocol::ids::{DeviceId, Digest, RolloutId};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use proptest::prelude::*;

use super::explain::explain;
use super::plan::tests::plan;
use super::view::{DeviceView, Doing, FleetView};
use super::{Actor, Advance, Cause, Members, Phase, Progress, Rollout, Size, StageEnd, Verb, advance};
use crate::gate::{PairedDay, Verdict};

/// How the new bundle behaves on one device.
#[derive(Clone, Copy, Debug)]
enum Nature {
    Good,
    FailsToInstall,
    IsWrong,
    GoesBack,
}

#[derive(Clone, Debug)]
enum Step {
    Hours(u8),
    Toggle(usize),
    Act(Verb),
}

fn bundle(version: &str) -> BundleRef {
    BundleRef {
        path: format!("bundles/er/{version}.json").parse().unwrap(),
        sha256: Digest::of(version.as_bytes()),
    }
}

struct Fleet {
    view: FleetView,
    natures: Vec<Nature>,
    activated: Vec<Option<Timestamp>>,
}

impl Fleet {
    fn new(natures: Vec<Nature>) -> Self {
        let device = |name: String| DeviceView {
            name,
            wish: Some(bundle("old")),
            current: Some(bundle("old")),
            ..DeviceView::at("er-1".parse().unwrap())
        };
        let devices = (0..natures.len()).map(|n| (id(n), device(format!("box {n}")))).collect();
        Self {
            view: FleetView { devices, ..FleetView::default() },
            activated: vec![None; natures.len()],
            natures,
        }
    }

    /// Devices that are there obey their orders and gather evidence for an hour.
    fn live(&mut self, now: Timestamp) {
        for (n, nature) in self.natures.iter().enumerate() {
            let device = self.view.devices.get_mut(&id(n)).unwrap();
            if !device.online {
                continue;
            }
            if device.wish != device.current {
                let to_new = device.wish == Some(bundle("new"));
                if to_new && matches!(nature, Nature::FailsToInstall) {
                    device.doing = Doing::Failed {
                        bundle: bundle("new"),
                        cause: Cause::new("golden_mismatch", "differs"),
                    };
                } else if !(to_new && self.activated[n].is_some()) {
                    device.current = device.wish.clone();
                    device.doing = Doing::Nothing;
                    self.activated[n] = to_new.then_some(now);
                }
            }
            if device.current == Some(bundle("new")) {
                let diff = if matches!(nature, Nature::IsWrong) { 0.4 } else { -0.01 };
                device.evidence.hours += 1.0;
                device.evidence.latency = vec![device.evidence.latency.first().copied().unwrap_or(0) + 20];
                device.evidence.paired.get_or_insert_default().push(PairedDay {
                    n: 20,
                    diff_sum: 20.0 * diff,
                    diff_sum_sq: 20.0 * (diff * diff + 0.001),
                    before_loss_sum: 2.0,
                });
                if matches!(nature, Nature::GoesBack) && device.evidence.hours > 2.0 {
                    device.current = Some(bundle("old"));
                }
            }
        }
    }

    fn obey(&mut self, advance: &Advance) {
        for assignment in &advance.assign {
            self.view.devices.get_mut(&assignment.device).unwrap().wish = assignment.bundle.clone();
        }
    }
}

fn id(n: usize) -> DeviceId {
    DeviceId::mint([u8::try_from(n).unwrap() + 1; 16])
}

fn rollout(sizes: &[Size], now: Timestamp) -> Rollout {
    let names = ("er".parse().unwrap(), "er".parse().unwrap());
    let by = (Actor::Engine, "test".to_owned());
    Rollout::start(RolloutId::mint([9; 16]), names, bundle("new"), plan(sizes), by, now).unwrap()
}

/// Runs a history and checks every invariant after each look.
fn history(natures: Vec<Nature>, steps: Vec<Step>) -> (Rollout, Members, Fleet) {
    let mut now = Timestamp::from_seconds(1_000_000);
    let sizes = [Size::Count(1), Size::Percent(50.0), Size::Percent(100.0)];
    let mut fleet = Fleet::new(natures);
    let mut rollout = rollout(&sizes, now);
    let mut members = Members::new();
    for step in steps {
        let hours = match step {
            Step::Hours(hours) => hours,
            Step::Toggle(n) => {
                let n = n % fleet.natures.len();
                let device = fleet.view.devices.get_mut(&id(n)).unwrap();
                device.online = !device.online;
                0
            }
            Step::Act(verb) => {
                let before = rollout.phase.clone();
                if rollout.act(verb, Actor::Person { name: "op".into() }, "because", now).is_err() {
                    assert_eq!(rollout.phase, before, "a refused verb changed something");
                }
                0
            }
        };
        for _ in 0..=hours {
            look(&mut rollout, &mut members, &mut fleet, now);
            fleet.live(now);
            if hours > 0 {
                now = now.plus(Duration::from_hours(1));
            }
        }
    }
    (rollout, members, fleet)
}

fn look(rollout: &mut Rollout, members: &mut Members, fleet: &mut Fleet, now: Timestamp) {
    let (before, members_before) = (rollout.clone(), members.clone());
    let answer = advance(rollout, members, &fleet.view, now);
    assert_eq!(answer, advance(rollout, members, &fleet.view, now), "same input, same answer");
    rollout.apply(members, &answer);
    fleet.obey(&answer);

    let hands_out = answer.assign.iter().any(|assignment| assignment.bundle == Some(bundle("new")));
    let may = matches!(before.phase, Phase::Running { .. } | Phase::Completed { .. });
    assert!(!hands_out || may, "handed out while {}", before.phase.name());

    // Nobody of a later stage is exposed before the stages before it passed or were promoted.
    for member in members.values().filter(|member| member.progress.is_exposed()) {
        for stage in &rollout.stages[..member.stage] {
            let closed = stage.closed.as_ref();
            assert!(
                matches!(closed, Some(StageEnd::Passed { .. } | StageEnd::Promoted { .. })),
                "stage {} was asked too early",
                member.stage
            );
        }
    }
    // A stage that passed had a gate that passed, on data.
    for stage in &rollout.stages {
        if let Some(StageEnd::Passed { .. }) = stage.closed {
            let gate = stage.gate.as_ref().unwrap();
            assert_eq!(gate.verdict, Verdict::Pass);
            assert!(gate.layers.iter().all(|layer| layer.verdict == Verdict::Pass && layer.n > 0));
        }
    }
    // In flight stays below the cap.
    let in_flight = members.values().filter(|m| m.progress.is_in_flight()).count();
    assert!(in_flight <= rollout.plan.in_flight_max as usize);
    // Failures and reverts are never forgotten while the rollout goes on.
    for (id, was) in &members_before {
        if matches!(was.progress, Progress::Failed { .. } | Progress::Reverted { .. }) {
            let is = &members[id].progress;
            assert!(
                *is == was.progress || matches!(is, Progress::Returning { .. } | Progress::Returned { .. })
            );
        }
    }
    // Everybody has exactly one sentence, and the counts add up to the cohort.
    let explained = explain(rollout, members, &fleet.view, now);
    assert_eq!(explained.iter().map(|e| &e.device).collect::<BTreeSet<_>>(), members.keys().collect());
    assert!(explained.iter().all(|e| !e.sentence.is_empty() && !e.next.is_empty()));
    // Never silent.
    let idle = answer.transition.is_none() && answer.assign.is_empty() && answer.members.is_empty();
    assert!(
        !idle || !rollout.phase.is_open() || !answer.waiting_on.is_empty(),
        "idle without a word: {rollout:?}"
    );
}

fn nature() -> impl Strategy<Value = Nature> {
    prop_oneof![
        6 => Just(Nature::Good),
        1 => Just(Nature::FailsToInstall),
        1 => Just(Nature::IsWrong),
        1 => Just(Nature::GoesBack),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let verb = prop_oneof![
        Just(Verb::Pause),
        Just(Verb::Resume),
        Just(Verb::Promote),
        Just(Verb::Abort),
        Just(Verb::Rollback)
    ];
    prop_oneof![6 => (1_u8..30).prop_map(Step::Hours), 3 => (0_usize..12).prop_map(Step::Toggle), 1 => verb.prop_map(Step::Act)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_hold_in_any_history(
        natures in prop::collection::vec(nature(), 1..12),
        steps in prop::collection::vec(step(), 1..25),
    ) {
        history(natures, steps);
    }

    #[test]
    fn a_wrong_bundle_never_leaves_the_canary(devices in 3_usize..12) {
        let (rollout, members, fleet) = history(vec![Nature::IsWrong; devices], vec![Step::Hours(60)]);
        prop_assert_eq!(rollout.phase.name(), "rolled_back");
        prop_assert_eq!(fleet.activated.iter().flatten().count(), 0, "the canary went back");
        prop_assert!(fleet.view.devices.values().all(|device| device.current == Some(bundle("old"))));
        prop_assert_eq!(members.values().filter(|m| matches!(m.progress, Progress::Returned { .. })).count(), 1);
    }

    #[test]
    fn a_good_bundle_reaches_everybody(devices in 1_usize..12) {
        let (rollout, _, fleet) = history(vec![Nature::Good; devices], vec![Step::Hours(120)]);
        prop_assert_eq!(rollout.phase.name(), "completed");
        prop_assert!(fleet.view.devices.values().all(|device| device.current == Some(bundle("new"))));
    }
}

#[test]
fn a_canary_that_cannot_install_holds_the_rollout() {
    let (rollout, ..) = history(vec![Nature::FailsToInstall; 3], vec![Step::Hours(5)]);
    assert!(
        matches!(rollout.phase, Phase::Held { ref cause, .. } if cause.code == "quorum_lost"),
        "{:?}",
        rollout.phase
    );
}

#[test]
fn an_offline_fleet_is_not_asked_and_nothing_passes() {
    let offline = (0..3).map(Step::Toggle).chain([Step::Hours(50)]).collect();
    let (rollout, members, _) = history(vec![Nature::Good; 3], offline);
    // The canary was asked before it went away; it is pending, and at the deadline a person is asked.
    assert!(matches!(rollout.phase, Phase::Held { .. } | Phase::Running { .. }));
    assert!(members.values().all(|member| !matches!(member.progress, Progress::Baked { .. })));
}

#[test]
fn stragglers_get_the_bundle_when_they_come_back() {
    let mut steps = vec![Step::Toggle(2), Step::Hours(120), Step::Toggle(2), Step::Hours(3)];
    steps.insert(0, Step::Act(Verb::Pause));
    steps.insert(2, Step::Act(Verb::Resume));
    let (rollout, _, fleet) = history(vec![Nature::Good; 5], steps);
    assert_eq!(rollout.phase.name(), "completed");
    assert!(fleet.view.devices.values().all(|device| device.current == Some(bundle("new"))));
}
