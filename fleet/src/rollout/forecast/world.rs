//! One run: boxes that come and go, install, answer and fail, and the real engine that looks at them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use muster_protocol::ids::{DeviceId, RolloutId};
use muster_protocol::message::report::LATENCY_BOUNDS_US;
use muster_protocol::message::up::{BundleRef, ReadyFor};
use muster_protocol::time::Timestamp;

use super::super::advance::{Assignment, Moment};
use super::super::view::{Doing, FleetView};
use super::super::{Actor, Cause, Members, Phase, Progress, Rollout, StageEnd, advance};
use super::sample::Sample;
use super::{ASSUMED, Bug, BugAt, Intent};
use crate::gate::{DeviceEvidence, PairedDay};

/// Nothing is foreseen beyond.
const HORIZON: Duration = Duration::from_hours(120 * 24);
/// Between two looks at least: what happens in between is seen together.
const QUANTUM: Duration = Duration::from_mins(10);
const HOUR_S: f64 = 3600.0;

/// What came of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    /// Seconds after which it completed.
    pub finished: Option<u64>,
    /// Seconds after which each stage passed.
    pub passed: Vec<Option<u64>>,
    /// The stage at which it was stopped, and after how many seconds.
    pub stopped: Option<(usize, u64)>,
    pub exposed: u64,
    pub device_hours: u64,
    /// Why it did not finish.
    pub why: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    ComesOrGoes,
    Stages(BundleRef),
    Installs(BundleRef),
    Breaks,
}

pub(super) struct World<'a> {
    begun: Timestamp,
    bundle: &'a BundleRef,
    bug: Option<Bug>,
    weights: &'a [f64],
    rollout: Option<Rollout>,
    members: Members,
    view: FleetView,
    events: BinaryHeap<Reverse<(Timestamp, DeviceId, Event)>>,
    /// When each device began to run it.
    running: BTreeMap<DeviceId, Timestamp>,
    broken: BTreeMap<DeviceId, Timestamp>,
    random: Random,
}

impl<'a> World<'a> {
    pub(super) fn new(intent: &Intent<'a>, sample: &'a Sample, bug: Option<Bug>, seed: u64) -> Self {
        let mut random = Random(seed);
        let by = Actor::Engine;
        // Approvals and dates come before the clock that is foreseen.
        let plan = super::Plan { approvals_min: 0, start_at: None, ..sample.plan.clone() };
        let id = RolloutId::mint([0; 16]);
        let what = (intent.model.clone(), intent.slot.clone());
        let begun = intent.plan.start_at.map_or(intent.now, |start| start.max(intent.now));
        let rollout = Rollout::start(id, what, intent.bundle.clone(), plan, (by, String::new()), begun).ok();
        let mut view = sample.view.clone();
        let mut events = BinaryHeap::new();
        for (id, device) in &mut view.devices {
            *device.evidence = DeviceEvidence::default();
            device.doing = Doing::Nothing;
            let until = begun.plus(random.presence(device.online));
            events.push(Reverse((until, id.clone(), Event::ComesOrGoes)));
        }
        Self {
            begun,
            bundle: intent.bundle,
            bug,
            weights: &sample.weights,
            rollout,
            members: Members::new(),
            view,
            events,
            running: BTreeMap::new(),
            broken: BTreeMap::new(),
            random,
        }
    }

    /// Lives until it ends, or until so many looks were taken. None if there is no time for it any more.
    pub(super) fn live(mut self, looks: u32, in_time: impl Fn() -> bool) -> Option<Course> {
        let mut course = Course::default();
        let Some(mut rollout) = self.rollout.take() else { return Some(course) };
        let mut now = self.begun;
        for _ in 0..looks {
            if !in_time() {
                return None;
            }
            self.show(now);
            let answer = advance(&rollout, &self.members, &self.view, now);
            rollout.apply(&mut self.members, &answer);
            for assignment in &answer.assign {
                self.order(assignment, now);
            }
            course.why = answer.waiting_on.first().map(|waiting| waiting.sentence.clone()).or(course.why);
            let stage = rollout.phase.stage().unwrap_or(0);
            match &rollout.phase {
                Phase::Held { cause, .. }
                | Phase::RollingBack { cause, .. }
                | Phase::RolledBack { cause, .. } => {
                    course.stopped = Some((stage, self.since_begun(now)));
                    course.why = Some(cause.sentence.clone());
                    break;
                }
                Phase::Completed { .. } => {
                    course.finished = Some(self.since_begun(now));
                    break;
                }
                Phase::Aborting { .. }
                | Phase::Aborted { .. }
                | Phase::Superseded { .. }
                | Phase::Paused { .. } => break,
                Phase::Proposed { .. } | Phase::Scheduled { .. } | Phase::Running { .. } => {}
            }
            if answer.transition.is_some() {
                continue;
            }
            let next = self.events.peek().map(|Reverse((at, ..))| *at);
            let next = [next, answer.look_again].into_iter().flatten().min().unwrap_or(now);
            now = next.max(now.plus(QUANTUM)).min(now.plus(Duration::from_hours(1)));
            if now.since(self.begun) > HORIZON {
                break;
            }
            self.happen(now);
        }
        course.passed = rollout
            .stages
            .iter()
            .map(|record| match &record.closed {
                Some(StageEnd::Passed { at } | StageEnd::Promoted { at, .. }) => Some(self.since_begun(*at)),
                Some(StageEnd::Failed { .. }) | None => None,
            })
            .collect();
        self.measure(&mut course, now);
        Some(course)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sums of weights above zero")]
    fn measure(&self, course: &mut Course, now: Timestamp) {
        let touched = self.members.iter().filter(|(_, member)| {
            member.attempts > 0 || !matches!(member.progress, Progress::Waiting | Progress::Excluded { .. })
        });
        let (mut exposed, mut hours) = (0.0, 0.0);
        for (id, member) in touched {
            let weight = self.weights.get(member.stage).copied().unwrap_or(1.0);
            exposed += weight;
            hours += weight * self.running.get(id).map_or(0.0, |at| now.since(*at).as_secs_f64() / HOUR_S);
        }
        course.exposed = exposed.round() as u64;
        course.device_hours = hours.round() as u64;
    }

    fn since_begun(&self, at: Timestamp) -> u64 {
        at.since(self.begun).as_secs()
    }

    /// A box is told what to run.
    fn order(&mut self, assignment: &Assignment, now: Timestamp) {
        let id = &assignment.device;
        let Some(device) = self.view.devices.get_mut(id) else { return };
        let staged = matches!(&device.doing, Doing::Ready { bundle, .. } if Some(bundle) == assignment.bundle.as_ref());
        device.wish.clone_from(&assignment.bundle);
        let Some(bundle) = &assignment.bundle else {
            device.current = None;
            device.doing = Doing::Nothing;
            return;
        };
        if device.current.as_ref() == Some(bundle) {
            device.doing = Doing::Nothing;
            return;
        }
        let event = match assignment.permit {
            Moment::Hold => Event::Stages(bundle.clone()),
            // Somebody at the box says yes soon after it is ready.
            Moment::Now | Moment::Until(_) => Event::Installs(bundle.clone()),
        };
        if !staged {
            device.doing = Doing::Working { bundle: bundle.clone(), step: String::new() };
        }
        // What is staged only switches.
        let mean_min = if staged { 1.0 } else { ASSUMED.install_min };
        let after = self.random.exponential(mean_min * 60.0);
        self.events.push(Reverse((now.plus(after), id.clone(), event)));
    }

    /// Everything that happens up to now.
    fn happen(&mut self, now: Timestamp) {
        while self.events.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((at, id, event))) = self.events.pop() else { return };
            self.one(at, id, event);
        }
    }

    fn one(&mut self, at: Timestamp, id: DeviceId, event: Event) {
        let Some(device) = self.view.devices.get_mut(&id) else { return };
        match event {
            Event::ComesOrGoes => {
                device.online = !device.online;
                device.presence_since = at;
                let until = at.plus(self.random.presence(device.online));
                self.events.push(Reverse((until, id, Event::ComesOrGoes)));
            }
            // Goes on when it is back.
            Event::Stages(_) | Event::Installs(_) if !device.online => {
                self.events.push(Reverse((at.plus(Duration::from_mins(30)), id, event)));
            }
            Event::Stages(bundle) => {
                if device.wish.as_ref() == Some(&bundle) {
                    device.doing = Doing::Ready { bundle, waits_for: ReadyFor::Permit };
                }
            }
            Event::Installs(bundle) => {
                if device.wish.as_ref() != Some(&bundle) {
                    return;
                }
                let ours = bundle == *self.bundle;
                let bug =
                    self.bug.filter(|bug| ours && bug.at == BugAt::Install).map_or(0.0, |bug| bug.share);
                if ours && self.random.share() < bug + ASSUMED.install_failure {
                    let cause = Cause::new("self_test", "it failed its self-test");
                    device.doing = Doing::Failed { bundle, cause };
                    return;
                }
                device.current = Some(bundle);
                device.doing = Doing::Nothing;
                if ours {
                    self.running.insert(id.clone(), at);
                    let late = self.bug.filter(|bug| bug.at == BugAt::Later).map_or(0.0, |bug| bug.share);
                    if self.random.share() < late {
                        let after = Duration::from_secs_f64(HOUR_S * (2.0 + 6.0 * self.random.share()));
                        self.events.push(Reverse((at.plus(after), id, Event::Breaks)));
                    }
                }
            }
            Event::Breaks => {
                self.broken.insert(id, at);
            }
        }
    }

    /// What each box that runs it has shown by now.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "counts of requests, rounded down"
    )]
    fn show(&mut self, now: Timestamp) {
        let good = LATENCY_BOUNDS_US.iter().position(|bound| *bound >= 10_000).unwrap_or(0);
        for (id, since) in &self.running {
            let Some(device) = self.view.devices.get_mut(id) else { continue };
            if !device.online || device.current.as_ref() != Some(self.bundle) {
                continue;
            }
            let hours = now.since(*since).as_secs_f64() / HOUR_S;
            let failed =
                self.broken.get(id).map_or(0.0, |at| (now.since(*at).as_secs_f64() / HOUR_S).ceil().max(1.0));
            let mut latency = vec![0; good + 1];
            latency[good] = (hours * ASSUMED.requests_per_hour) as u64;
            let n = (hours * ASSUMED.labels_per_hour) as u64;
            let day =
                PairedDay { n, diff_sum: 0.0, diff_sum_sq: n as f64 * 1e-4, before_loss_sum: n as f64 * 0.2 };
            let evidence = &mut device.evidence;
            evidence.hours = hours;
            evidence.failed_hours = failed.min(hours.ceil());
            evidence.latency = latency;
            evidence.paired = Some(vec![day]);
        }
    }
}

/// Small, fast and the same everywhere: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to, and without, 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are a float's own")]
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean_s: f64) -> Duration {
        Duration::from_secs_f64((-mean_s * (1.0 - self.share()).ln()).clamp(1.0, 90.0 * 86_400.0))
    }

    /// How long a box that is there now stays, or one that is away now stays away.
    fn presence(&mut self, online: bool) -> Duration {
        let away_s = ASSUMED.absence_h * HOUR_S;
        if online {
            let share = ASSUMED.online_share;
            self.exponential(away_s * share / (1.0 - share))
        } else {
            self.exponential(away_s)
        }
    }
}
