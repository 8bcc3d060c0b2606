//! Reading the fleet from the database: whole, or what one rollout needs of it.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::drift::Phase;
use muster_protocol::ids::{DeviceId, SiteName};

use super::watch::{Surroundings, Watch};
use super::{Grounds, Result, RosterError, Seen, shadows, vitals};
use crate::clock::Clocks;
use crate::drift::{StreamWatch, Watch as Watched};
use crate::gate::{DeviceEvidence, Inputs, PairedDay};
use crate::rollout::journal::Input;
use crate::rollout::{FleetView, Freeze, Lease, Members, Rollout, SiteView};
use crate::store::leases::Scope;
use crate::store::{
    self, Control, LIMIT_MAX, Page, Telemetry, Versioned, bad_bundles, freezes, journal, labels, leases,
    rollouts, seats, stats, watches,
};

/// Devices that are asked about by one question.
const AT_ONCE: usize = 200;
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
    let mut grounds = Grounds { sites: rules(control, LIMIT_MAX).await?, ..Grounds::default() };
    // There are no more leases at a time than one page holds.
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

/// Rules of all sites, read by so many at once.
async fn rules(control: &mut Control, at_once: u32) -> Result<BTreeMap<SiteName, SiteView>> {
    let mut sites = BTreeMap::new();
    let mut page = Page::first(at_once);
    loop {
        let found = store::sites::list(control, &page).await?;
        let Some(last) = found.last().map(|(site, _)| site.clone()) else { return Ok(sites) };
        let views = found.into_iter().map(|(site, rules)| {
            let view = SiteView { rules: rules.document, leases: Vec::new() };
            (site, view)
        });
        sites.extend(views);
        page = Page::after(last, at_once);
    }
}

/// A rollout with its members and the view that its journal ends with; nobody's line is drawn anew yet, and nobody has
/// shown anything.
pub(super) async fn watch(control: &mut Control, loaded: Versioned<Rollout>) -> Result<Watch> {
    let rollout = &loaded.document;
    let members = members(control, rollout).await?;
    let bad = bad_bundles::of(control, &rollout.bundle.sha256).await?;
    let journalled = journalled(control, rollout).await?;
    Ok(Watch::begin(loaded, members, bad, journalled))
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
    let everybody = everybody(control, clocks).await?;
    let devices: Vec<&DeviceId> = everybody.keys().collect();
    watch.show_all(shown(control, telemetry, &watch, &devices).await?);
    let grounds = sites(control, clocks).await?;
    watch.stand_on(&grounds, None, false);
    let alone = Surroundings::default();
    for (id, seen) in everybody {
        let leases = grounds.leases.get(&id).map_or(&[][..], Vec::as_slice);
        let line = watch.line(&id, &seen, leases, &alone);
        watch.put(&id, Some(line));
    }
    Ok(std::sync::Arc::unwrap_or_clone(watch.view))
}

/// Which of the two databases could not tell what devices have shown.
#[derive(Debug)]
pub(super) enum Unread {
    Control(RosterError),
    Telemetry(RosterError),
}

impl From<Unread> for RosterError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Control(error) | Unread::Telemetry(error) => error,
        }
    }
}

/// What devices have shown of a rollout's bundle since it began: how it went, how they are, and what their inputs are like.
/// Who has shown nothing is left out.
pub(super) async fn shown(
    control: &mut Control,
    telemetry: &mut Telemetry,
    watch: &Watch,
    devices: &[&DeviceId],
) -> std::result::Result<BTreeMap<DeviceId, DeviceEvidence>, Unread> {
    let mut shown: BTreeMap<DeviceId, DeviceEvidence> = BTreeMap::new();
    for some in devices.chunks(AT_ONCE) {
        told(telemetry, watch, some, &mut shown).await.map_err(Unread::Telemetry)?;
        let inputs = inputs(control, &watch.rollout, &watch.members, some).await.map_err(Unread::Control)?;
        for (device, inputs) in inputs {
            shown.entry(device).or_default().inputs = inputs;
        }
    }
    shown.retain(|_, shown| *shown != DeviceEvidence::default());
    Ok(shown)
}

/// The part of it that stands in the telemetry.
async fn told(
    telemetry: &mut Telemetry,
    watch: &Watch,
    devices: &[&DeviceId],
    shown: &mut BTreeMap<DeviceId, DeviceEvidence>,
) -> Result<()> {
    let (rollout, members) = (&watch.rollout, &watch.members);
    went(telemetry, rollout, devices, shown).await?;
    for (device, vitals) in vitals::vitals(telemetry, rollout, members, devices).await? {
        shown.entry(device).or_default().vitals = vitals;
    }
    for (device, shadow) in shadows::shadows(telemetry, rollout, members, devices).await? {
        shown.entry(device).or_default().shadow = Some(shadow);
    }
    Ok(())
}

/// Whether devices' inputs are still those that the bundle under test was made for, by that bundle's own reference.
async fn inputs(
    control: &mut Control,
    rollout: &Rollout,
    members: &Members,
    devices: &[&DeviceId],
) -> Result<Vec<(DeviceId, Inputs)>> {
    let activated =
        |device: &&DeviceId| members.get(*device).is_some_and(|member| member.progress.activated().is_some());
    let running: Vec<&DeviceId> = devices.iter().copied().filter(activated).collect();
    if running.is_empty() {
        return Ok(Vec::new());
    }
    let of = (&rollout.slot, &rollout.bundle.sha256);
    let found = watches::of::<Watched>(control, &running, of).await?;
    Ok(found.into_iter().map(|(device, watch)| (device, judged(&watch))).collect())
}

fn judged(watch: &Watched) -> Inputs {
    // A site that differs from the training data for good is judged by what is normal there.
    let drifts = |stream: &StreamWatch| {
        let against = if stream.own.last.is_some() { &stream.own } else { &stream.training };
        matches!(against.alarm.phase(), Phase::Raised { .. })
    };
    if watch.read_until.is_none() {
        Inputs::Unknown
    } else if watch.streams.values().any(drifts) {
        Inputs::Drifting
    } else {
        Inputs::Quiet
    }
}

async fn went(
    telemetry: &mut Telemetry,
    rollout: &Rollout,
    devices: &[&DeviceId],
    shown: &mut BTreeMap<DeviceId, DeviceEvidence>,
) -> Result<()> {
    let (bundle, slot) = (&rollout.bundle.sha256, &rollout.slot);
    for (device, lived) in stats::exposure(telemetry, devices, (slot, bundle), rollout.shown_since()).await? {
        let device = shown.entry(device).or_default();
        #[expect(clippy::cast_precision_loss, reason = "hours of a rollout")]
        let hours = |n: u64| n as f64;
        device.hours = hours(lived.hours);
        device.failed_hours = hours(lived.failed_hours);
        device.latency = lived.latency;
    }
    let since = rollout.shown_since().floor_to(Duration::from_hours(24));
    let filter = labels::LabelFilter { bundle, slot, devices, since };
    let mut page = Page::first(LIMIT_MAX);
    loop {
        let found = labels::list(telemetry, filter, &page).await?;
        let full = found.len() == LIMIT_MAX as usize;
        let last = found.last().map(labels::LabelDay::key);
        for day in found {
            let Some(paired) = day.paired else { continue };
            shown.entry(day.device).or_default().paired.get_or_insert_default().push(PairedDay {
                n: paired.n,
                diff_sum: paired.diff_sum,
                diff_sum_sq: paired.diff_sum_sq,
                before_loss_sum: paired.loss_sum,
            });
        }
        match last {
            Some(last) if full => page = Page::after(last, LIMIT_MAX),
            Some(_) | None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::SiteRules;
    use crate::store::{Saved, Store};

    #[tokio::test]
    async fn however_many_sites_there_are_each_has_its_rules() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let mut tx = store.write().await.unwrap();
        let site = |n: u32| -> SiteName { format!("er-{n}").parse().unwrap() };
        for n in 1..=5 {
            let allowed = SiteRules { in_flight_max: Some(n), ..SiteRules::default() };
            let saved = store::sites::save(&mut tx, &site(n), 0, &allowed).await.unwrap();
            assert_eq!(saved, Saved::Saved { revision: 1 });
        }
        tx.commit().await.unwrap();
        let mut db = store.read().await.unwrap();
        for at_once in 1..=6 {
            let found = rules(&mut db, at_once).await.unwrap();
            let caps: Vec<_> = found.values().map(|site| site.rules.in_flight_max).collect();
            assert_eq!(caps, [1, 2, 3, 4, 5].map(Some), "{at_once} at once");
        }
    }
}
