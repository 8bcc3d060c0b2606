//! A modelled fleet, a bad bundle, and four policies that hand it out: how many devices are exposed when each stops?
//!
//! Ours is the real engine (`muster_fleet::rollout::advance` with its real gate). The others are models of documented
//! policies at documented settings, not the products: they could be tuned tighter against bundles that fail at install,
//! and not against those that fail later, because to them an installed bundle is a success for good.

use std::time::Duration;

use muster_fleet::gate::GateLimits;
use muster_fleet::rollout::{
    Actor, Cause, DeviceView, Doing, FleetView, Members, Phase, Plan, Rollout, Selector, Size, StagePlan,
    advance,
};
use muster_protocol::ids::{DeviceId, Digest, RolloutId};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;

const OFFLINE: f64 = 0.15;
/// Hours that a device stays away, on average.
const AWAY_H: f64 = 24.0;
const MINUTES_MAX: u32 = 14 * 24 * 60;
const HOURS_MAX: u32 = 14 * 24;

/// How the bundle behaves: shares of the devices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bundle {
    pub name: &'static str,
    pub fails_install: f64,
    /// Works at first, and is left 2 to 8 hours later.
    pub fails_late: f64,
}

pub(crate) const BUGS: [Bundle; 4] = [
    Bundle { name: "30 % fail at install", fails_install: 0.30, fails_late: 0.0 },
    Bundle { name: "10 % fail at install", fails_install: 0.10, fails_late: 0.0 },
    Bundle { name: "30 % fail 2-8 h later", fails_install: 0.0, fails_late: 0.30 },
    Bundle { name: "10 % fail 2-8 h later", fails_install: 0.0, fails_late: 0.10 },
];

pub(crate) const HEALTHY: [Bundle; 2] = [
    Bundle { name: "healthy, 2 % ordinary install failures", fails_install: 0.02, fails_late: 0.0 },
    Bundle { name: "healthy, 2 % ordinary late failures", fails_install: 0.0, fails_late: 0.02 },
];

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// Devices that were handed the bundle.
    pub exposed: usize,
    /// Why it stopped before everybody had it.
    pub stopped: Option<String>,
}

/// `SplitMix` (Steele, Lea and Flood, 2014).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        let high = u32::try_from(self.next() >> 32).unwrap_or(u32::MAX);
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }
}

/// What one device will do, whoever hands it the bundle.
#[derive(Clone, Copy, Debug)]
struct Nature {
    fails_install: bool,
    /// Hours after its activation.
    fails_late: Option<f64>,
    /// Hours until it is back, of one that is away at the start.
    away_h: Option<f64>,
}

fn natures(devices: usize, bundle: Bundle, draws: &mut Draws) -> Vec<Nature> {
    let nature = |_| Nature {
        fails_install: draws.unit() < bundle.fails_install,
        fails_late: (draws.unit() < bundle.fails_late).then_some(2.0 + 6.0 * draws.unit()),
        away_h: (draws.unit() < OFFLINE).then(|| -AWAY_H * (1.0 - draws.unit()).ln()),
    };
    (0..devices).map(nature).collect()
}

/// Ours: 10, 50, 500, everybody, 6 hours of bake each.
pub(crate) fn plan() -> Plan {
    let gate = GateLimits {
        labels_min: 0,
        latency_requests_min: 0,
        // The owner of a fleet whose boxes come and go says so.
        silences_per_hour_baseline: OFFLINE / (1.0 - OFFLINE) / AWAY_H,
        ..GateLimits::default()
    };
    let stage = |name: &str, size| StagePlan {
        name: name.to_owned(),
        size,
        quorum_percent: 80.0,
        bake_s: 6 * 3600,
        deadline_s: 4 * 86_400,
        exposure_device_hours_max: None,
        gate: gate.clone(),
    };
    Plan::of(
        vec![
            stage("ten", Size::Count(10)),
            stage("fifty", Size::Count(50)),
            stage("five hundred", Size::Count(500)),
            stage("everybody", Size::Percent(100.0)),
        ],
        Selector::default(),
    )
}

fn reference(version: &str) -> BundleRef {
    BundleRef {
        path: format!("bundles/er/{version}.json").parse().expect("a path"),
        sha256: Digest::of(version.as_bytes()),
    }
}

fn id(n: usize) -> DeviceId {
    let hash = Digest::of(&n.to_le_bytes());
    let mut random = [0; 16];
    random.copy_from_slice(&hash.as_bytes()[..16]);
    DeviceId::mint(random)
}

/// The real engine, looking once an hour.
pub(crate) fn ours(devices: usize, bundle: Bundle, seed: u64) -> Outcome {
    let mut draws = Draws(seed);
    let natures = natures(devices, bundle, &mut draws);
    let (old, new) = (reference("old"), reference(&format!("new-{seed}")));
    let mut now = Timestamp::from_seconds(1_750_000_000);
    let ids: Vec<DeviceId> = (0..devices).map(id).collect();
    let mut view = FleetView::default();
    for (n, (id, nature)) in ids.iter().zip(&natures).enumerate() {
        let site = format!("site-{}", n % 40).parse().expect("a site");
        let device = DeviceView {
            online: nature.away_h.is_none(),
            presence_since: now.minus(Duration::from_hours(24)),
            wish: Some(old.clone()),
            current: Some(old.clone()),
            ..DeviceView::at(site)
        };
        view.devices.insert(id.clone(), device);
    }
    let names = ("er".parse().expect("a model"), "er".parse().expect("a slot"));
    let by = (Actor::Engine, "blast radius".to_owned());
    let mut rollout =
        Rollout::start(RolloutId::mint([7; 16]), names, new.clone(), plan(), by, now).expect("a plan");
    let mut members = Members::new();
    let mut activated: Vec<Option<f64>> = vec![None; devices];
    let mut left: Vec<bool> = vec![false; devices];
    for hour in 0..HOURS_MAX {
        // What one look leads to may want another at once: a stage that opens hands out in the next.
        for _ in 0..4 {
            let answer = advance(&rollout, &members, &view, now);
            rollout.apply(&mut members, &answer);
            for assignment in &answer.assign {
                if let Some(device) = view.devices.get_mut(&assignment.device) {
                    device.wish.clone_from(&assignment.bundle);
                }
            }
            if answer.transition.is_none() {
                break;
            }
            if let Phase::Held { .. } | Phase::RollingBack { .. } | Phase::Completed { .. } = rollout.phase {
                break;
            }
        }
        let attempts = |members: &Members| members.values().filter(|member| member.attempts > 0).count();
        match &rollout.phase {
            Phase::Held { cause, .. }
            | Phase::RollingBack { cause, .. }
            | Phase::RolledBack { cause, .. } => {
                return Outcome { exposed: attempts(&members), stopped: Some(cause.code.clone()) };
            }
            Phase::Completed { .. } => return Outcome { exposed: attempts(&members), stopped: None },
            Phase::Proposed { .. }
            | Phase::Scheduled { .. }
            | Phase::Running { .. }
            | Phase::Paused { .. }
            | Phase::Aborting { .. }
            | Phase::Aborted { .. }
            | Phase::Superseded { .. } => {}
        }
        now = now.plus(Duration::from_hours(1));
        for (n, (id, nature)) in ids.iter().zip(&natures).enumerate() {
            let Some(device) = view.devices.get_mut(id) else { continue };
            let toss = draws.unit();
            let leaves = OFFLINE / (1.0 - OFFLINE) / AWAY_H;
            if toss < if device.online { leaves } else { 1.0 / AWAY_H } {
                device.online = !device.online;
                device.presence_since = now;
            }
            if device.online {
                live(device, (&old, &new), *nature, (&mut activated[n], &mut left[n]), f64::from(hour) + 1.0);
            }
        }
    }
    Outcome {
        exposed: members.values().filter(|member| member.attempts > 0).count(),
        stopped: Some("time".to_owned()),
    }
}

/// An hour of a device that is there. Its failures are of the ordinary kind: only statistics can blame the bundle.
fn live(
    device: &mut DeviceView,
    (old, new): (&BundleRef, &BundleRef),
    nature: Nature,
    (activated, left): (&mut Option<f64>, &mut bool),
    hour: f64,
) {
    if device.wish.as_ref() == Some(new) && device.current.as_ref() == Some(old) && !*left {
        if nature.fails_install {
            let cause = Cause::new("timed_out", "its self-test took too long");
            device.doing = Doing::Failed { bundle: new.clone(), cause };
        } else {
            device.current = Some(new.clone());
            *activated = Some(hour);
        }
    } else if device.wish.as_ref() == Some(old) {
        device.current = Some(old.clone());
        device.doing = Doing::Nothing;
    }
    if device.current.as_ref() == Some(new)
        && let Some(since) = *activated
    {
        device.evidence.hours = hour - since;
        if nature.fails_late.is_some_and(|after| hour - since >= after) {
            device.current = Some(old.clone());
            *left = true;
        }
    }
}

/// Phases by the clock: 1, 5, 25, 100 percent at 0, 4, 12, 24 hours; failures and successes count alike.
pub(crate) fn waves(devices: usize, bundle: Bundle, seed: u64) -> Outcome {
    let natures = natures(devices, bundle, &mut Draws(seed));
    let opened = |n: usize| {
        let percent = n * 100 / devices.max(1);
        let hour = [(1, 0.0), (5, 4.0), (25, 12.0)].into_iter().find(|&(until, _)| percent < until);
        hour.map_or(24.0, |(_, hour)| hour)
    };
    let horizon = f64::from(HOURS_MAX);
    let reached = natures
        .iter()
        .enumerate()
        .filter(|(n, nature)| nature.away_h.unwrap_or(0.0).max(opened(*n)) < horizon);
    Outcome { exposed: reached.count(), stopped: None }
}

/// When and how the install of a device ends that was handed the bundle at `minute`: 5 to 15 minutes later.
fn finished(handed: u32, n: usize) -> u32 {
    handed + 5 + u32::try_from(n % 11).unwrap_or(0)
}

fn back(nature: Nature) -> u32 {
    let minute = nature.away_h.map_or(0.0, |hours| (hours * 60.0).min(f64::from(MINUTES_MAX)));
    (0..=MINUTES_MAX).step_by(10).find(|&at| f64::from(at) >= minute).unwrap_or(MINUTES_MAX)
}

/// Groups by thresholds, builder defaults: 10 groups, the next at 50 percent finished, pause above 50 percent errors; both
/// shares of the group's targets, whether they are there or not.
pub(crate) fn groups(devices: usize, bundle: Bundle, seed: u64) -> Outcome {
    let natures = natures(devices, bundle, &mut Draws(seed));
    let returns: Vec<u32> = natures.iter().map(|&nature| back(nature)).collect();
    let size = devices.div_ceil(10);
    let mut started: Vec<u32> = vec![0];
    for minute in 0..MINUTES_MAX {
        for (group, &at) in started.clone().iter().enumerate() {
            let members = group * size..((group + 1) * size).min(devices);
            let total = members.len();
            let done = members.clone().filter(|&n| finished(at.max(returns[n]), n) <= minute);
            let (errors, good): (Vec<usize>, Vec<usize>) = done.partition(|&n| natures[n].fails_install);
            if errors.len() * 2 > total {
                let exposed =
                    (0..started.len() * size).filter(|&n| n < devices && returns[n] <= minute).count();
                return Outcome { exposed, stopped: Some("error threshold".to_owned()) };
            }
            let is_last = group + 1 == started.len();
            if is_last
                && started.len() < 10
                && (good.len() * 2 >= total || good.len() + errors.len() == total)
            {
                started.push(minute);
            }
        }
        if started.len() == 10 {
            break;
        }
    }
    let reach = (started.len() * size).min(devices);
    Outcome { exposed: (0..reach).filter(|&n| returns[n] < MINUTES_MAX).count(), stopped: None }
}

/// A rate that grows: 50 a minute, doubled after every 1,000 notified up to 1,000 a minute; cancelled once at least 100
/// executions are complete and 20 percent of them failed. What is in progress then goes on.
pub(crate) fn rate(devices: usize, bundle: Bundle, seed: u64) -> Outcome {
    let natures = natures(devices, bundle, &mut Draws(seed));
    let returns: Vec<u32> = natures.iter().map(|&nature| back(nature)).collect();
    let mut notified: Vec<u32> = Vec::with_capacity(devices);
    for minute in 0..MINUTES_MAX {
        let doublings = u32::try_from(notified.len() / 1000).unwrap_or(0).min(4);
        let more = (50_usize << doublings).min(1000).min(devices - notified.len());
        notified.extend(std::iter::repeat_n(minute, more));
        let complete: Vec<usize> =
            (0..notified.len()).filter(|&n| finished(notified[n].max(returns[n]), n) <= minute).collect();
        let failed = complete.iter().filter(|&&n| natures[n].fails_install).count();
        if complete.len() >= 100 && failed * 5 >= complete.len() {
            let exposed = (0..notified.len()).filter(|&n| returns[n] <= minute).count();
            return Outcome { exposed, stopped: Some("abort criteria".to_owned()) };
        }
        if notified.len() == devices && minute > notified[devices - 1] + 60 {
            break;
        }
    }
    Outcome { exposed: returns.iter().filter(|&&at| at < MINUTES_MAX).count(), stopped: None }
}

/// The share of the sorted values at `percent`.
pub(crate) fn percentile(mut values: Vec<usize>, percent: usize) -> usize {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(0)
}
