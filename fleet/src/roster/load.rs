//! Reading the fleet from the database: whole, or what one rollout needs of it.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::ids::DeviceId;

use super::watch::{Surroundings, Watch};
use super::{Grounds, Result, Seen};
use crate::clock::Clocks;
use crate::drift::Watch as Watched;
use crate::gate::{DeviceEvidence, Inputs, PairedDay};
use crate::rollout::journal::Input;
use crate::rollout::{FleetView, Freeze, Lease, Member, Members, Rollout, SiteView};
use crate::store::leases::Scope;
use crate::store::{
    self, Control, LIMIT_MAX, Page, Telemetry, Versioned, alarms, bad_bundles, freezes, journal, labels,
    leases, rollouts, seats, stats,
};

/// Entries of a journal read at once: the first of them may hold a whole fleet.
const ENTRIES: u32 = 64;

/// Every member of the fleet.
pub(super) async fn everybody(control: &mut Control, clocks: Clocks) -> Result<BTreeMap<DeviceId, Seen>> {
    let mut all = BTreeMap::new();
    let mut page = Page::first(LIMIT_MAX);
    loop {
        let found = seats::list(control, &page).await?;
        let Some(last) = found.last().map(|seat| seat.device.clone()) else { return Ok(all) };
        all.extend(found.into_iter().map(|seat| Seen::of(seat, clocks)));
        page = Page::after(last, LIMIT_MAX);
    }
}

/// Rules of all sites, leases and freezes, as the engine reads time.
pub(super) async fn sites(control: &mut Control, clocks: Clocks) -> Result<Grounds> {
    let world = clocks.world.scale();
    let mut grounds = Grounds::default();
    for (site, rules) in store::sites::list(control, &Page::first(LIMIT_MAX)).await? {
        grounds.sites.insert(site, SiteView { rules: rules.document, leases: Vec::new() });
    }
    for held in leases::list(control, clocks.trust.now(), &Page::first(LIMIT_MAX)).await? {
        let lease = Lease { owner: held.owner, reason: held.reason, until: world.world(held.expires) };
        match held.of {
            Scope::Device(device) => grounds.leases.entry(device).or_default().push(lease),
            Scope::Site(site) => grounds.sites.entry(site).or_default().leases.push(lease),
        }
    }
    for frozen in freezes::all(control).await? {
        grounds.freezes.push(Freeze {
            since: world.world(frozen.since),
            by: frozen.by,
            reason: frozen.reason,
            sites: frozen.site.map(|site| vec![site]),
        });
    }
    Ok(grounds)
}

/// A rollout with its members and the view that its journal ends with; nobody's line is drawn anew yet.
pub(super) async fn watch(
    control: &mut Control,
    telemetry: &mut Telemetry,
    loaded: Versioned<Rollout>,
) -> Result<Watch> {
    let rollout = &loaded.document;
    let members = members(control, rollout).await?;
    let bad = bad_bundles::of(control, &rollout.bundle.sha256).await?;
    let journalled = journalled(control, rollout).await?;
    let shown = evidence(telemetry, rollout, None).await?;
    let mut watch = Watch::begin(loaded, members, bad, journalled);
    watch.show_all(shown);
    Ok(watch)
}

/// The view that the rollout's journal ends with; nothing if it has none that is whole.
async fn journalled(control: &mut Control, rollout: &Rollout) -> Result<Option<FleetView>> {
    let extent = journal::extent(control, &rollout.id).await?;
    if extent.entries == 0 || extent.truncated {
        return Ok(None);
    }
    let mut view = FleetView::default();
    let mut page = Page::first(ENTRIES);
    loop {
        let entries = journal::read(control, &rollout.id, &page).await?;
        let Some((last, _)) = entries.last() else { return Ok(Some(view)) };
        page = Page::after(*last, ENTRIES);
        for (_, entry) in entries {
            match entry.input {
                Input::Looked { change } => change.apply(&mut view),
                Input::Begun { .. } | Input::Acted { .. } => {}
            }
        }
    }
}

/// The rollout's members, all of them.
pub async fn members(control: &mut Control, rollout: &Rollout) -> Result<Members> {
    let mut members = Members::new();
    let mut page = Page::first(LIMIT_MAX);
    loop {
        let found = rollouts::devices(control, &rollout.id, &page).await?;
        let Some((last, _)) = found.last() else { return Ok(members) };
        page = Page::after(DeviceId::clone(last), LIMIT_MAX);
        members.extend(found);
    }
}

/// What the engine would see of the fleet for one rollout that nobody watches: as if it were alone.
pub async fn view(
    control: &mut Control,
    telemetry: &mut Telemetry,
    rollout: &Rollout,
    clocks: Clocks,
) -> Result<FleetView> {
    let loaded = Versioned { revision: 0, document: rollout.clone() };
    let bad = bad_bundles::of(control, &rollout.bundle.sha256).await?;
    let mut watch = Watch::begin(loaded, Members::new(), bad, None);
    watch.show_all(evidence(telemetry, rollout, None).await?);
    let grounds = sites(control, clocks).await?;
    watch.stand_on(&grounds, None);
    let alone = Surroundings::none();
    for (id, seen) in everybody(control, clocks).await? {
        let leases = grounds.leases.get(&id).map_or(&[][..], Vec::as_slice);
        let line = watch.line(&id, &seen, leases, &alone);
        watch.put(&id, Some(line));
    }
    Ok(std::sync::Arc::unwrap_or_clone(watch.view))
}

/// Whether a device's inputs are still those that the bundle under test was made for, by that bundle's own reference.
pub(super) async fn inputs(
    control: &mut Control,
    rollout: &Rollout,
    device: &DeviceId,
    member: Option<&Member>,
) -> Result<Inputs> {
    if member.is_none_or(|member| member.progress.activated().is_none()) {
        return Ok(Inputs::Unknown);
    }
    let streams = alarms::of_device(control, &rollout.bundle.sha256, device).await?;
    let watch = Watched { streams };
    Ok(if watch.read_until().is_none() {
        Inputs::Unknown
    } else if watch.drifting().next().is_some() {
        Inputs::Drifting
    } else {
        Inputs::Quiet
    })
}

/// What devices have shown of the rollout's bundle since it began; all of them, or one.
pub async fn evidence(
    telemetry: &mut Telemetry,
    rollout: &Rollout,
    device: Option<&DeviceId>,
) -> Result<BTreeMap<DeviceId, DeviceEvidence>> {
    let mut evidence: BTreeMap<DeviceId, DeviceEvidence> = BTreeMap::new();
    let bundle = rollout.bundle.sha256;
    let filter = stats::StatsFilter {
        bundle,
        device: device.cloned(),
        since: rollout.created.floor_to(Duration::from_hours(1)),
    };
    let mut page = Page::first(LIMIT_MAX);
    loop {
        let found = stats::list(telemetry, &filter, &page).await?;
        let full = found.len() == LIMIT_MAX as usize;
        let last = found.last().map(|hour| (hour.device.clone(), hour.slot.clone(), hour.hour));
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
        match last {
            Some(last) if full => page = Page::after(last, LIMIT_MAX),
            Some(_) | None => break,
        }
    }
    let filter = labels::LabelFilter {
        bundle,
        device: device.cloned(),
        since: rollout.created.floor_to(Duration::from_hours(24)),
    };
    let mut page = Page::first(LIMIT_MAX);
    loop {
        let found = labels::list(telemetry, &filter, &page).await?;
        let full = found.len() == LIMIT_MAX as usize;
        let last = found.last().map(labels::LabelDay::key);
        for day in found.into_iter().filter(|day| day.slot == rollout.slot) {
            let Some(paired) = day.paired else { continue };
            evidence.entry(day.device).or_default().paired.get_or_insert_default().push(PairedDay {
                n: paired.n,
                diff_sum: paired.diff_sum,
                diff_sum_sq: paired.diff_sum_sq,
                before_loss_sum: paired.loss_sum,
            });
        }
        match last {
            Some(last) if full => page = Page::after(last, LIMIT_MAX),
            Some(_) | None => return Ok(evidence),
        }
    }
}
