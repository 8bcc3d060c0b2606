//! Random fleets: boxes that obey their orders, fail, go dark and come late.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::ids::{DeviceId, Digest, RolloutId};
use muster_protocol::message::up::{BundleRef, ReadyFor};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::Consent;
use proptest::prelude::*;

use crate::gate::PairedDay;
use crate::rollout::plan::tests::plan;
use crate::rollout::view::{Beside, Claim, DeviceView, Doing, FleetView};
use crate::rollout::{
    Actor, Advance, Assignment, Cause, Freeze, Lease, Moment, OnFailure, Rollout, SiteRules, SiteView, Size,
    Verb,
};

/// How the new bundle behaves on one device.
#[derive(Clone, Copy, Debug)]
pub(super) enum Nature {
    Good,
    FailsToInstall,
    IsWrong,
    GoesBack,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Hours(u8),
    Toggle(usize),
    Act(Verb),
    Freeze(bool),
    Thaw,
    Lease(usize, u8),
    LeaseOfSite(u8),
    Busy(usize),
    Beside(usize, Beside),
    Claim(usize, bool),
    OptOut(usize),
    ListAsBad(usize),
    Leave(usize),
    Join,
    /// The next look sees what was reported an hour ago.
    StaleView,
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "five coins that a random setting throws")]
pub(super) struct Setting {
    pub(super) natures: Vec<Nature>,
    pub(super) in_flight: u32,
    pub(super) per_site: Option<u32>,
    pub(super) rate: Option<u32>,
    pub(super) budget: Option<f64>,
    pub(super) windows: bool,
    pub(super) consent: bool,
    pub(super) groups: bool,
    pub(super) hold: bool,
    /// The boxes run it and say nothing of how it does.
    pub(super) mute: bool,
}

impl Setting {
    pub(super) fn plain(natures: Vec<Nature>) -> Self {
        Self {
            natures,
            in_flight: 100,
            per_site: None,
            rate: None,
            budget: None,
            windows: false,
            consent: false,
            groups: false,
            hold: false,
            mute: false,
        }
    }
}

pub(super) struct Fleet {
    pub(super) view: FleetView,
    pub(super) natures: Vec<Nature>,
    orders: BTreeMap<DeviceId, Assignment>,
    went_back: BTreeMap<DeviceId, bool>,
    before: FleetView,
    mute: bool,
}

pub(super) fn bundle(version: &str) -> BundleRef {
    BundleRef {
        path: format!("bundles/er/{version}.json").parse().unwrap(),
        sha256: Digest::of(version.as_bytes()),
    }
}

pub(super) fn id(n: usize) -> DeviceId {
    DeviceId::mint([u8::try_from(n).unwrap() + 1; 16])
}

pub(super) fn rollout(setting: &Setting, now: Timestamp) -> Rollout {
    let names = ("er".parse().unwrap(), "er".parse().unwrap());
    let mut plan = plan(&[Size::Count(1), Size::Percent(50.0), Size::Percent(100.0)]);
    plan.in_flight_max = setting.in_flight;
    plan.in_flight_per_site_max = setting.per_site;
    plan.rate_per_hour_max = setting.rate;
    plan.on_failure = if setting.hold { OnFailure::Hold } else { OnFailure::RollBack };
    for stage in &mut plan.stages {
        stage.exposure_device_hours_max = setting.budget;
    }
    let by = (Actor::Engine, "test".to_owned());
    Rollout::start(RolloutId::mint([9; 16]), names, bundle("new"), plan, by, now).unwrap()
}

fn device(n: usize, groups: bool) -> DeviceView {
    let site = if n.is_multiple_of(2) { "even" } else { "odd" };
    let mut device = DeviceView {
        name: format!("box {n}"),
        wish: Some(bundle("old")),
        current: Some(bundle("old")),
        ..DeviceView::at(site.parse().unwrap())
    };
    if groups {
        device.tags.insert("redundancy".parse().unwrap(), format!("line-{}", n / 2).parse().unwrap());
    }
    device
}

impl Fleet {
    pub(super) fn new(setting: &Setting) -> Self {
        let devices = (0..setting.natures.len()).map(|n| (id(n), device(n, setting.groups))).collect();
        let mut rules = SiteRules::default();
        if setting.windows {
            rules.download.windows.push("daily 00:00-12:00".parse().unwrap());
            rules.activation.windows.push("daily 10:00-16:00".parse().unwrap());
            rules.in_flight_max = Some(2);
        }
        if setting.consent {
            rules.consent = Consent::Ask;
        }
        let sites = [("even".parse().unwrap(), SiteView { rules, leases: Vec::new() })].into();
        let view = FleetView { devices, sites, ..FleetView::default() };
        Self {
            before: view.clone(),
            view,
            natures: setting.natures.clone(),
            orders: BTreeMap::new(),
            went_back: BTreeMap::new(),
            mute: setting.mute,
        }
    }

    /// Devices that are there obey their orders and gather evidence for an hour.
    pub(super) fn live(&mut self, now: Timestamp) {
        self.before = self.view.clone();
        for (n, nature) in self.natures.clone().into_iter().enumerate() {
            let Some(device) = self.view.devices.get_mut(&id(n)) else { continue };
            if !device.online {
                continue;
            }
            if device.wish != device.current {
                obey(device, nature, self.orders.get(&id(n)), now, self.went_back.contains_key(&id(n)));
            }
            if device.current != Some(bundle("new")) || self.mute {
                continue;
            }
            gather(device, nature);
            if matches!(nature, Nature::GoesBack) && device.evidence.hours > 2.0 {
                device.current = Some(bundle("old"));
                self.went_back.insert(id(n), true);
            }
        }
    }

    pub(super) fn obey(&mut self, advance: &Advance) {
        for assignment in &advance.assign {
            if let Some(device) = self.view.devices.get_mut(&assignment.device) {
                device.wish.clone_from(&assignment.bundle);
                if device.current == device.wish {
                    device.doing = Doing::Nothing;
                } else if matches!(device.doing, Doing::Failed { .. }) {
                    device.doing = Doing::Unknown;
                }
            }
            self.orders.insert(assignment.device.clone(), assignment.clone());
        }
    }

    /// What was reported an hour ago; orders are the fleet's own and never late.
    pub(super) fn as_it_was(&self) -> FleetView {
        let mut view = self.view.clone();
        for (id, device) in &mut view.devices {
            if let Some(before) = self.before.devices.get(id) {
                device.current.clone_from(&before.current);
                device.evidence = before.evidence.clone();
                device.doing = if before.wish == device.wish { before.doing.clone() } else { Doing::Unknown };
            }
        }
        view
    }

    pub(super) fn take(&mut self, step: &Step, now: Timestamp) {
        let until = |hours: &u8| Lease {
            owner: "ward-3".to_owned(),
            reason: "MRI running".to_owned(),
            until: now.plus(Duration::from_hours(u64::from(*hours))),
        };
        let count = self.natures.len();
        let view = &mut self.view;
        let other = RolloutId::mint([7; 16]);
        match step {
            Step::Hours(_) | Step::Act(_) | Step::StaleView => {}
            Step::Toggle(n) => {
                if let Some(device) = view.devices.get_mut(&id(n % count)) {
                    device.online = !device.online;
                    device.presence_since = now;
                }
            }
            Step::Freeze(all) => {
                let sites = (!all).then(|| vec!["odd".parse().unwrap()]);
                let (by, reason) = ("op".to_owned(), "audit".to_owned());
                view.freezes.push(Freeze { since: now, by, reason, sites });
            }
            Step::Thaw => view.freezes.clear(),
            Step::Lease(n, hours) => {
                if let Some(device) = view.devices.get_mut(&id(n % count)) {
                    device.leases = vec![until(hours)];
                }
            }
            Step::LeaseOfSite(hours) => {
                view.sites.get_mut(&"even".parse().unwrap()).unwrap().leases = vec![until(hours)];
            }
            Step::Busy(n) => {
                if let Some(device) = view.devices.get_mut(&id(n % count)) {
                    device.busy_elsewhere = !device.busy_elsewhere;
                }
            }
            Step::Beside(n, beside) => {
                if let Some(device) = view.devices.get_mut(&id(n % count)) {
                    device.beside = *beside;
                }
            }
            Step::Claim(n, newer) => {
                if let Some(device) = view.devices.get_mut(&id(n % count)) {
                    device.claim = match (&device.claim, newer) {
                        (Claim::Free, true) => Claim::Superseded { rollout: other },
                        (Claim::Free, false) => Claim::Behind { rollout: other },
                        (Claim::Behind { .. }, _) => Claim::Free,
                        (taken @ Claim::Superseded { .. }, _) => taken.clone(),
                    };
                }
            }
            Step::OptOut(n) => {
                if let Some(device) = view.devices.get_mut(&id(n % count)) {
                    device.tags.insert("rollouts".parse().unwrap(), "off".parse().unwrap());
                }
            }
            Step::ListAsBad(n) => {
                if let Some(device) = view.devices.get_mut(&id(n % count)) {
                    device.bad = Some(Box::new(Cause::new("golden_mismatch", "differs")));
                }
            }
            Step::Leave(n) => {
                view.devices.remove(&id(n % count));
            }
            Step::Join => {
                if count < 20 {
                    view.devices.insert(id(count), device(count, false));
                    self.natures.push(Nature::Good);
                }
            }
        }
    }
}

fn obey(
    device: &mut DeviceView,
    nature: Nature,
    order: Option<&Assignment>,
    now: Timestamp,
    went_back: bool,
) {
    let to_new = device.wish == Some(bundle("new"));
    if to_new && matches!(nature, Nature::FailsToInstall) {
        let cause = Cause::new("golden_mismatch", "differs");
        device.doing = Doing::Failed { bundle: bundle("new"), cause };
        return;
    }
    if to_new && went_back {
        return;
    }
    let Some(order) = order else { return };
    let wanted = device.wish.clone().unwrap_or_else(|| bundle("old"));
    let may = match order.permit {
        Moment::Now => true,
        Moment::Hold => false,
        Moment::Until(until) => now < until,
    };
    // Somebody at the box agrees in the afternoon.
    let agrees = order.consent == Consent::NotNeeded || now.as_seconds() / 3600 % 24 >= 13;
    if to_new && !(may && agrees) {
        let waits_for = if may { ReadyFor::Consent } else { ReadyFor::Permit };
        device.doing = Doing::Ready { bundle: wanted, waits_for };
        return;
    }
    device.current.clone_from(&device.wish);
    device.doing = Doing::Nothing;
}

fn gather(device: &mut DeviceView, nature: Nature) {
    let diff = if matches!(nature, Nature::IsWrong) { 0.4 } else { -0.01 };
    device.evidence.hours += 1.0;
    device.evidence.latency = vec![device.evidence.latency.first().copied().unwrap_or(0) + 20];
    device.evidence.paired.get_or_insert_default().push(PairedDay {
        n: 20,
        diff_sum: 20.0 * diff,
        diff_sum_sq: 20.0 * (diff * diff + 0.001),
        before_loss_sum: 2.0,
    });
}

fn nature() -> impl Strategy<Value = Nature> {
    prop_oneof![
        8 => Just(Nature::Good),
        1 => Just(Nature::FailsToInstall),
        1 => Just(Nature::IsWrong),
        1 => Just(Nature::GoesBack),
    ]
}

pub(super) fn setting() -> impl Strategy<Value = Setting> {
    let caps = (1_u32..6, prop::option::of(1_u32..3), prop::option::of(1_u32..4));
    let budget = prop::option::of((1_u8..40).prop_map(f64::from));
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (prop::collection::vec(nature(), 1..12), caps, budget, flags).prop_map(
        |(natures, (in_flight, per_site, rate), budget, (windows, consent, groups, hold))| Setting {
            natures,
            in_flight,
            per_site,
            rate,
            budget,
            windows,
            consent,
            groups,
            hold,
            mute: false,
        },
    )
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let verb = prop_oneof![
        1 => Just(Verb::Approve),
        1 => Just(Verb::Pause),
        4 => Just(Verb::Resume),
        1 => Just(Verb::Promote),
        1 => Just(Verb::Retry),
        1 => Just(Verb::Abort),
        1 => Just(Verb::Rollback)
    ];
    let beside = prop::sample::select(vec![
        Beside::Nothing,
        Beside::Offered,
        Beside::Ready,
        Beside::Permitted,
        Beside::Activated,
    ]);
    prop_oneof![
        12 => (1_u8..30).prop_map(Step::Hours),
        5 => (0_usize..12).prop_map(Step::Toggle),
        2 => verb.prop_map(Step::Act),
        1 => any::<bool>().prop_map(Step::Freeze),
        1 => Just(Step::Thaw),
        1 => ((0_usize..12), (1_u8..9)).prop_map(|(n, hours)| Step::Lease(n, hours)),
        1 => (1_u8..9).prop_map(Step::LeaseOfSite),
        1 => (0_usize..12).prop_map(Step::Busy),
        1 => ((0_usize..12), beside).prop_map(|(n, beside)| Step::Beside(n, beside)),
        1 => ((0_usize..12), any::<bool>()).prop_map(|(n, newer)| Step::Claim(n, newer)),
        1 => (0_usize..12).prop_map(Step::OptOut),
        1 => (0_usize..12).prop_map(Step::ListAsBad),
        1 => (0_usize..12).prop_map(Step::Leave),
        1 => Just(Step::Join),
        2 => Just(Step::StaleView),
    ]
}
