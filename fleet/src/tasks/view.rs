//! The fleet as the rollout engine sees it: loaded whole, for one rollout.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::ids::{DeviceId, SlotName};
use muster_protocol::message::up::{BundleRef, Phase, Presence, State};

use crate::enrolment::StandingName;
use crate::gate::{DeviceEvidence, PairedDay};
use crate::rollout::view::Doing;
use crate::rollout::{Cause, Claim, DeviceView, FleetView, Member, Members, Rollout};
use crate::store::{
    self, Control, LIMIT_MAX, Page, Telemetry, devices, identities, labels, orders, rollouts, stats,
};

/// Everything the engine needs to know of the world to look at `rollout`.
pub async fn fleet_view(
    control: &mut Control,
    telemetry: &mut Telemetry,
    rollout: &Rollout,
) -> store::Result<FleetView> {
    let mut evidence = evidence(telemetry, rollout).await?;
    let mut wishes = wishes(control, &rollout.slot).await?;
    let active = identities::in_state(control, StandingName::Active).await?;
    let apart = identities::in_state(control, StandingName::Quarantined).await?;
    let mut view = FleetView::default();
    let mut page = Page::first(LIMIT_MAX);
    loop {
        let found = devices::list(control, &devices::DeviceFilter::default(), &page).await?;
        let Some(last) = found.last().map(devices::Device::key) else { return Ok(view) };
        for device in found {
            // Who is no member is not there. One that is set apart is away: nothing is handed to it, it shows nothing, and
            // an order to go back waits for it.
            if !active.contains(&device.id) && !apart.contains(&device.id) {
                continue;
            }
            let (version, wish) = wishes.remove(&device.id).unwrap_or((0, None));
            let fitness = crate::orders::fitness(&device);
            let (current, doing) = observe(device.state.as_ref(), version, &rollout.slot);
            let seen = DeviceView {
                tags: BTreeMap::new(),
                hardware: fitness.as_ref().map(|fitness| fitness.hardware.clone()).unwrap_or_default(),
                agent: fitness.map(|fitness| fitness.agent),
                presence_since: device.presence_since,
                unfit: None,
                bad: None,
                claim: Claim::Free,
                busy_elsewhere: false,
                leases: Vec::new(),
                name: device.name,
                site: device.site,
                online: device.presence == Presence::Online && active.contains(&device.id),
                wish,
                current,
                doing,
                evidence: evidence.remove(&device.id).unwrap_or_default(),
            };
            view.devices.insert(device.id, seen);
        }
        page = Page::after(last, LIMIT_MAX);
    }
}

/// The rollout's members, all of them.
pub async fn members(control: &mut Control, rollout: &Rollout) -> store::Result<Members> {
    let mut members = Members::new();
    let mut page = Page::first(LIMIT_MAX);
    loop {
        let found: Vec<(DeviceId, Member)> = rollouts::devices(control, &rollout.id, &page).await?;
        let Some(last) = found.last().map(|(id, _)| id.clone()) else { return Ok(members) };
        members.extend(found);
        page = Page::after(last, LIMIT_MAX);
    }
}

/// What each device's newest order wants in the slot, with the order's version.
async fn wishes(
    control: &mut Control,
    slot: &SlotName,
) -> store::Result<BTreeMap<DeviceId, (u64, Option<BundleRef>)>> {
    let mut wishes = BTreeMap::new();
    let mut page = Page::first(LIMIT_MAX);
    loop {
        let found = orders::list(control, &page).await?;
        let Some(last) = found.last().map(|order| order.device.clone()) else { return Ok(wishes) };
        for order in found {
            let want = order.wants.into_iter().find(|want| want.slot == *slot);
            let bundle = want.map(|want| BundleRef { path: want.bundle, sha256: want.sha256 });
            wishes.insert(order.device, (order.version, bundle));
        }
        page = Page::after(last, LIMIT_MAX);
    }
}

/// What each device has shown of the rollout's bundle since the rollout began.
async fn evidence(
    telemetry: &mut Telemetry,
    rollout: &Rollout,
) -> store::Result<BTreeMap<DeviceId, DeviceEvidence>> {
    let mut evidence: BTreeMap<DeviceId, DeviceEvidence> = BTreeMap::new();
    let bundle = rollout.bundle.sha256;
    let filter =
        stats::StatsFilter { bundle, device: None, since: rollout.created.floor_to(Duration::from_hours(1)) };
    let mut page = Page::first(LIMIT_MAX);
    loop {
        let found = stats::list(telemetry, &filter, &page).await?;
        let Some(last) = found.last().map(|hour| (hour.device.clone(), hour.slot.clone(), hour.hour)) else {
            break;
        };
        for hour in found.into_iter().filter(|hour| hour.slot == rollout.slot) {
            let device = evidence.entry(hour.device).or_default();
            device.hours += 1.0;
            device.failed_hours += f64::from(u8::from(hour.failures > 0));
            let longest = device.latency.len().max(hour.latency.len());
            device.latency.resize(longest, 0);
            for (sum, count) in device.latency.iter_mut().zip(&hour.latency) {
                *sum += count;
            }
        }
        page = Page::after(last, LIMIT_MAX);
    }
    let filter = labels::LabelFilter {
        bundle,
        device: None,
        since: rollout.created.floor_to(Duration::from_hours(24)),
    };
    let mut page = Page::first(LIMIT_MAX);
    loop {
        let found = labels::list(telemetry, &filter, &page).await?;
        let Some(last) = found.last().map(labels::LabelDay::key) else { return Ok(evidence) };
        for day in found.into_iter().filter(|day| day.slot == rollout.slot) {
            let Some(paired) = day.paired else { continue };
            evidence.entry(day.device).or_default().paired.get_or_insert_default().push(PairedDay {
                n: paired.n,
                diff_sum: paired.diff_sum,
                diff_sum_sq: paired.diff_sum_sq,
                before_loss_sum: paired.loss_sum,
            });
        }
        page = Page::after(last, LIMIT_MAX);
    }
}

/// What the device proved to run in the slot, and what it does about its newest order.
fn observe(state: Option<&State>, order_version: u64, slot: &SlotName) -> (Option<BundleRef>, Doing) {
    let Some(state) = state else { return (None, Doing::Unknown) };
    let found = state.slots.iter().find(|reported| reported.slot == *slot);
    let current = found.and_then(|reported| reported.current.as_ref()).map(|running| running.bundle.clone());
    if let Some(refusal) = &state.refusal {
        let cause = Cause::new(&refusal.code, refusal.sentence.as_str());
        return (current, Doing::Refusing { cause });
    }
    if state.observed_generation < order_version {
        return (current, Doing::Unknown);
    }
    let doing = found.map_or(Doing::Nothing, |reported| doing(&reported.phase));
    (current, doing)
}

fn doing(phase: &Phase) -> Doing {
    let working = |bundle: &BundleRef, step: String| Doing::Working { bundle: bundle.clone(), step };
    match phase {
        Phase::Empty | Phase::Running { .. } => Doing::Nothing,
        Phase::Downloading { bundle, received_bytes, total_bytes } => {
            let percent = (received_bytes * 100).checked_div(*total_bytes).unwrap_or(0);
            working(bundle, format!("downloads it, {percent} %"))
        }
        Phase::Verifying { bundle } => working(bundle, "verifies it".to_owned()),
        Phase::SelfTesting { bundle } => working(bundle, "tests it against its golden outputs".to_owned()),
        Phase::Ready { bundle, waits_for } => Doing::Ready { bundle: bundle.clone(), waits_for: *waits_for },
        Phase::Activating { bundle } => working(bundle, "activates it".to_owned()),
        // What was revoked while it was rolled out fails there, as if it had never been able to run.
        Phase::Failed { bundle, code, sentence } | Phase::Stopped { bundle, code, sentence } => {
            Doing::Failed { bundle: bundle.clone(), cause: Cause::new(code, sentence.as_str()) }
        }
    }
}
