//! From a seed to a world: the fleet, its sites and their rules, the bundles and what is wrong with them, the plans.

use std::time::Duration;

use muster_fleet::gate::GateLimits;
use muster_fleet::rollout::{
    Actor, LateJoiners, OnFailure, Plan, Rollout, Selector, Size, StagePlan, SteppingStone, Timing,
};
use muster_protocol::ids::{HardwareClass, ModelName, RolloutId, SlotName};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::Consent;

use crate::boxes::EdgeBox;
use crate::invariants::{self, Broken};
use crate::nature::{Kind, NATURES, Nature, bundle};
use crate::world::{Happening, Weather, World};

/// Days after the calm within which everything must have ended.
const CALM: Duration = Duration::from_hours(24 * 40);
/// Longer than the longest deadline that `plan` gives: what has not moved for so long will not move.
const NOTHING_MOVES: Duration = Duration::from_hours(64);
/// So long after its activation every bad bundle has done its harm.
const LATE_HARM: Duration = Duration::from_hours(12);
/// More events than any sound run has.
const EVENTS_MAX: u64 = 60_000;

/// Of so many seeds one keeps its journals and lives them again: a digest of everything after each look is costly.
const JOURNAL_EVERY: u64 = 16;

pub(crate) fn slot() -> SlotName {
    "beds".parse().unwrap()
}

pub(crate) fn hardware(n: u64) -> HardwareClass {
    ["x86-64", "x86-64-vnni", "arc-gpu"][(n % 3) as usize].parse().unwrap()
}

/// Builds the world of a seed.
pub(crate) fn build(seed: u64) -> World {
    // A Saturday in October: the week in which Europe's clocks change is near.
    let mut world = World::new(seed, Timestamp::from_seconds(1_792_800_000));
    let rng = &mut world.rng;
    let rough = rng.chance(70);
    world.weather = if rough {
        Weather {
            lost: rng.below(15),
            doubled: rng.below(25),
            late: rng.below(25),
            server_crashes: rng.below(4),
            setbacks: rng.below(20),
        }
    } else {
        Weather::default()
    };
    let boxes = match world.rng.below(100) {
        0..10 => 1,
        10..80 => world.rng.between(2, 6),
        80..97 => world.rng.between(7, 14),
        _ => world.rng.between(15, 40),
    };
    let sites = world.rng.between(1, 3.min(boxes));
    for n in 0..sites {
        make_site(&mut world, n);
    }
    world.report_every = Duration::from_hours(world.rng.between(2, 4));
    for n in 0..boxes {
        let site = format!("er-{}", world.rng.below(sites) + 1).parse().unwrap();
        let class = hardware(world.rng.below(3));
        let mut edge = EdgeBox::new(n as usize, site, class);
        edge.skew_s = if rough { world.rng.between(0, 600) as i64 - 300 } else { 0 };
        if world.rng.chance(20) {
            let group = *world.rng.pick(&["ct", "mr"]);
            edge.tags.insert("redundancy".parse().unwrap(), group.parse().unwrap());
        }
        if world.rng.chance(40) {
            let ward = *world.rng.pick(&["icu", "er"]);
            edge.tags.insert("ward".parse().unwrap(), ward.parse().unwrap());
        }
        world.add_box(edge, &slot(), &bundle("v1"));
    }
    for version in ["v2", "v3"] {
        let nature = if world.rng.chance(35) { Nature::Good } else { *world.rng.pick(&NATURES) };
        let share = *world.rng.pick(&[20, 50, 100]);
        let mut kind = Kind::new(version, nature, share);
        kind.unfit = world.rng.chance(15).then_some("arc-gpu");
        world.kinds.push(kind);
    }
    world.fleet.keeps_journal = seed.is_multiple_of(JOURNAL_EVERY);
    another_rollout(&mut world);
    if world.rng.chance(85) {
        let every = Duration::from_secs(world.rng.between(3600, 8 * 3600));
        world.operator_every = Some(every);
        let first = Duration::from_secs(world.rng.below(every.as_secs()));
        world.at(first, Happening::Operator);
    }
    world
}

fn make_site(world: &mut World, n: u64) {
    let rng = &mut world.rng;
    let windows = rng
        .chance(25)
        .then(|| *rng.pick(&["daily 22:00-05:00", "mon-fri 12:00-14:00", "sat,sun 00:00-24:00"]));
    let downloads = rng.chance(10).then_some("daily 00:00-12:00");
    let zone = *rng.pick(&["UTC", "Europe/Berlin", "America/New_York"]);
    let consent = if rng.chance(10) { Consent::Ask } else { Consent::NotNeeded };
    let cap = rng.chance(20).then(|| rng.between(1, 2) as u32);
    let site = world.site(&format!("er-{}", n + 1).parse().unwrap());
    site.rules.zone = zone.parse().unwrap();
    site.rules.activation.windows.extend(windows.map(|text| text.parse().unwrap()));
    site.rules.download.windows.extend(downloads.map(|text| text.parse().unwrap()));
    site.rules.consent = consent;
    site.rules.in_flight_max = cap;
}

pub(crate) fn stage(name: &str, size: Size, bake: Duration, deadline: Duration) -> StagePlan {
    StagePlan {
        name: name.to_owned(),
        size,
        quorum_percent: 100.0,
        bake_s: bake.as_secs(),
        deadline_s: deadline.as_secs(),
        exposure_device_hours_max: None,
        gate: GateLimits::default(),
    }
}

fn plan(world: &mut World) -> Plan {
    let now = world.now;
    // What rises can be told only of many boxes, beside as many without the bundle.
    let many = world.boxes.len() > 9;
    let rng = &mut world.rng;
    let bake = Duration::from_secs(rng.between(1, 8) * 1800);
    let deadline = Duration::from_hours(rng.between(12, 60));
    let sizes = match rng.below(if many { 7 } else { 4 }) {
        0 => vec![Size::Percent(100.0)],
        1 => vec![Size::Count(1), Size::Percent(100.0)],
        2 => vec![Size::Count(1), Size::Percent(50.0), Size::Percent(100.0)],
        4.. => vec![Size::Percent(50.0), Size::Percent(100.0)],
        3 => vec![Size::Matching("ward=icu".parse().unwrap()), Size::Percent(100.0)],
    };
    let quorum = *rng.pick(&[100.0, 100.0, 80.0, 50.0]);
    let (requests, labels) = (*rng.pick(&[0, 50]), *rng.pick(&[0, 200]));
    let mut gate = GateLimits { latency_requests_min: requests, labels_min: labels, ..GateLimits::default() };
    // Layers that are asked only where the owner says so.
    if rng.chance(if many { 80 } else { 20 }) {
        gate.shadow_disagreement_max = Some(0.05);
        gate.latency_rise_ms_max = Some(5.0);
        gate.memory_rise_mib_max = Some(40.0);
        gate.temperature_rise_c_max = Some(8.0);
    }
    let stages = sizes.into_iter().enumerate().map(|(n, size)| StagePlan {
        quorum_percent: quorum,
        gate: gate.clone(),
        ..stage(&format!("s{n}"), size, bake, deadline)
    });
    let mut plan = Plan::of(stages.collect(), Selector::default());
    if rng.chance(15) {
        plan.selector.filter = "ward".parse().unwrap();
    }
    plan.in_flight_max = *rng.pick(&[1, 2, 5, 100]);
    plan.in_flight_per_site_max = rng.chance(20).then(|| rng.between(1, 3) as u32);
    plan.rate_per_hour_max = rng.chance(15).then(|| rng.between(1, 4) as u32);
    plan.priority = *rng.pick(&[500, 500, 500, 100, 900]);
    plan.on_failure = if rng.chance(25) { OnFailure::Hold } else { OnFailure::RollBack };
    plan.late_joiners = *rng.pick(&[LateJoiners::CurrentStage, LateJoiners::LastStage, LateJoiners::Never]);
    plan.timing = if rng.chance(10) { Timing::IgnoreWindows } else { Timing::AsSitesAllow };
    plan.install_deadline_s = rng.between(1, 8) * 3600;
    plan.patience_s = rng.between(1, 8) * 900;
    plan.approvals_min = u8::from(rng.chance(15)) * (1 + u8::from(rng.chance(30)));
    plan.start_at = rng.chance(10).then(|| now.plus(Duration::from_secs(rng.between(60, 20_000))));
    if rng.chance(8) {
        plan.stepping_stones.push(SteppingStone { from: bundle("v1").path, via: bundle("v1-5") });
    }
    if rng.chance(10) {
        for stage in &mut plan.stages {
            stage.exposure_device_hours_max = Some(rng.between(4, 40) as f64);
        }
    }
    plan
}

/// Somebody starts a rollout of one of the new bundles.
pub(crate) fn another_rollout(world: &mut World) {
    let plan = plan(world);
    let number = world.fleet.rollouts.len();
    let kind = world.kinds[if number == 0 { 0 } else { world.rng.below(2) as usize }].clone();
    // The server refuses a second rollout of a bundle that an open one brings.
    let mut open = world.fleet.rollouts.iter().filter(|saved| saved.rollout.phase.is_open());
    if open.any(|saved| saved.rollout.bundle == kind.bundle) {
        return;
    }
    let mut random = [0; 16];
    random[15] = number as u8 + 1;
    let names: (ModelName, SlotName) = ("beds".parse().unwrap(), slot());
    let by = (Actor::Person { name: "anna".to_owned() }, "new model".to_owned());
    let rollout = Rollout::start(RolloutId::mint(random), names, kind.bundle, plan, by, world.now).unwrap();
    world.begin(rollout, kind.unfit.map(|class| class.parse().unwrap()));
}

/// Lives through a seed: some days of trouble, then the calm, and the end.
pub(crate) fn live(world: &mut World) -> Result<(), Broken> {
    let trouble = Duration::from_hours(world.rng.between(6, 72));
    let calm = world.now.plus(trouble);
    run_until(world, calm, |_| false)?;
    world.calm_down()?;
    let end = world.now.plus(CALM);
    world.moved = world.now;
    run_until(world, end, |world| {
        let quiet = world.now.since(world.moved);
        quiet > NOTHING_MOVES || (quiet > LATE_HARM && world.is_settled())
    })?;
    for saved in &world.fleet.rollouts {
        invariants::it_ends_or_asks_somebody(saved)?;
        if world.fleet.keeps_journal {
            invariants::replay_agrees(saved)?;
        }
    }
    Ok(())
}

fn run_until(
    world: &mut World,
    until: Timestamp,
    mut done: impl FnMut(&World) -> bool,
) -> Result<(), Broken> {
    let mut events = world.events;
    while world.step(until)? {
        if world.events == events {
            continue;
        }
        events = world.events;
        if world.events > EVENTS_MAX {
            let sentence = format!("{EVENTS_MAX} events and no end");
            return Err(Broken { invariant: "it_ends_or_asks_somebody", sentence });
        }
        if done(world) {
            break;
        }
    }
    Ok(())
}
