//! Keeps the eye on every bundle that runs: reads windows as they close, opens and closes incidents, asks for retraining.
//!
//! ```text
//!   heads of windows that got something ─▶ due boxes ─▶ read (a bounded number a look) ─▶ watches, baselines saved
//!                                                                                    └▶ changed bundles ─▶ judge
//! ```
//! A look costs what has changed, not what there is: boxes without a newly closed window are not touched. What is kept in
//! memory is where each box stands; it is read again from the database after a start, and after any failure.

mod judge;
pub mod labels;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::ids::{DeviceId, Digest, SiteName, SlotName};
use muster_protocol::limits;
use muster_protocol::manifest::{Manifest, ReferenceFile};
use muster_protocol::time::Timestamp;

use super::{TaskError, Tasks};
use crate::drift::{Baseline, Difference, Finding, References, Site, Stand, Watch};
use crate::store::heads::{self, Head};
use crate::store::watches::{self, Seat};
use crate::store::{LIMIT_MAX, Page, bundles, devices, identities, meta};

/// References kept in memory.
const REFERENCES_MAX: usize = 64;
/// A drift reference's size, bytes.
const REFERENCE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Boxes whose windows are read in one look.
const READ_MAX: usize = 300;
/// Boxes that are asked in one look what they run.
const SWEEP: u32 = 500;
/// Receipts are looked at again for so long: their order of commit is not quite that of their times, and clocks step.
const OVERLAP: Duration = Duration::from_mins(1);
/// Where the look at receipts goes on, in `meta`.
const CURSOR: &str = "drift.cursor";

/// What is monitored of a bundle.
#[derive(Debug)]
struct Monitored {
    manifest: Manifest,
    reference: ReferenceFile,
}

#[derive(Debug, Default)]
pub struct Watchers {
    references: BTreeMap<Digest, Option<Arc<Monitored>>>,
    known: Option<Known>,
}

/// What was read of the fleet.
#[derive(Debug, Default)]
struct Known {
    groups: BTreeMap<Digest, Group>,
    /// Real time of the last receipt that was seen.
    cursor: Timestamp,
    due: BTreeSet<Seat>,
    /// Who runs what, as of the last whole sweep, and of the one under way.
    running: Option<Running>,
    sweep: Sweep,
}

/// The boxes that run a bundle, and where they stand.
type Running = BTreeMap<Digest, BTreeMap<DeviceId, SiteName>>;

#[derive(Debug, Default)]
struct Sweep {
    after: Option<DeviceId>,
    running: Running,
}

/// Everybody who runs one bundle.
#[derive(Debug, Default)]
struct Group {
    seats: BTreeMap<(DeviceId, SlotName), Held>,
    differing: BTreeMap<SiteName, (Timestamp, Vec<Difference>)>,
    performance: Option<Finding>,
    labels_looked: Option<Timestamp>,
    /// They could not be read then: what they say is unknown, which is neither good nor bad.
    labels_unread: bool,
    /// Whether there is anything to judge anew.
    changed: bool,
}

#[derive(Debug, Default)]
struct Held {
    /// Start of the newest window that has begun.
    newest: Timestamp,
    read_until: Timestamp,
    stand: Option<Stand>,
}

impl Monitored {
    fn references<'a>(&'a self, own: Option<&'a Baseline>) -> References<'a> {
        References { monitoring: &self.manifest.monitoring, training: &self.reference, own }
    }
}

impl Watchers {
    /// Looks at what has changed. Returns the present time if there is more to do at once.
    pub async fn look(&mut self, tasks: &Tasks) -> Result<Option<Timestamp>, TaskError> {
        let mut known = match self.known.take() {
            Some(known) => known,
            None => self.recall(tasks).await?,
        };
        // On a failure `known` is dropped, and read again: it may have run ahead of what was saved.
        let more = self.step(tasks, &mut known).await?;
        self.known = Some(known);
        Ok(more.then(|| tasks.clocks.world.now()))
    }

    async fn step(&mut self, tasks: &Tasks, known: &mut Known) -> Result<bool, TaskError> {
        let mut more = self.find_due(tasks, known).await?;
        more |= self.read_due(tasks, known).await?;
        more |= sweep(tasks, known).await?;
        let moment = tasks.clocks.moment();
        for (bundle, group) in &mut known.groups {
            // A last pane or label of a bundle that was withdrawn says nothing of what answers now.
            if known.running.as_ref().is_some_and(|running| !running.contains_key(bundle)) {
                continue;
            }
            let Some(monitored) = self.monitored(tasks, bundle).await? else { continue };
            if let Err(error) = labels::look(tasks, *bundle, &monitored.manifest, group, moment).await {
                tracing::error!(
                    bundle.sha256 = %bundle,
                    error = &error as &dyn std::error::Error,
                    "a bundle's labels cannot be read; trying again"
                );
            }
            // Whoever has not been read yet would contradict the others, and a look at all boxes costs more than one at some.
            if known.due.is_empty() && !group.labels_unread {
                judge::judge(tasks, &monitored.manifest, *bundle, group, moment).await?;
            }
        }
        if known.running.is_some() {
            judge::close_replaced(tasks, &known.groups, moment).await?;
        }
        Ok(more)
    }

    /// Everything that was remembered, after a start or a failure.
    async fn recall(&mut self, tasks: &Tasks) -> Result<Known, TaskError> {
        let mut known = Known::default();
        let mut control = tasks.store.read().await?;
        let cursor = meta::get(&mut control, CURSOR).await?.and_then(|value| value.parse().ok());
        known.cursor = Timestamp::from_millis(cursor.unwrap_or(0));
        let mut sites: BTreeMap<(Digest, SiteName), Site> = BTreeMap::new();
        let mut page = Page::first(SWEEP);
        loop {
            let found = watches::list::<Watch>(&mut control, &page).await?;
            let Some((last, _)) = found.last() else { return Ok(known) };
            page = Page::after(last.clone(), SWEEP);
            for (seat, watch) in found {
                let Some(monitored) = self.monitored(tasks, &seat.bundle).await? else { continue };
                let Some(device) = devices::get(&mut control, &seat.device).await? else { continue };
                let key = (seat.bundle, device.site);
                if !sites.contains_key(&key) {
                    let site = watches::site::<Site>(&mut control, &key.0, &key.1).await?;
                    let mut site = site.unwrap_or_else(|| Site::new(Timestamp::default()));
                    let group = known.groups.entry(seat.bundle).or_default();
                    if !site.differs.is_empty() {
                        group.differing.insert(key.1.clone(), (site.begun, site.differs.clone()));
                    }
                    // Where a box stands does not need what is normal there, only since when the site is known.
                    site.baseline = None;
                    sites.insert(key.clone(), site);
                }
                let Some(site) = sites.get(&key) else { continue };
                let window = monitored.references(None).window();
                let stand = Stand::of(seat.device.clone(), key.1.clone(), &watch, site, window);
                let read_until = watch.read_until.unwrap_or_default();
                let held = Held { newest: read_until, read_until, stand: Some(stand) };
                let group = known.groups.entry(seat.bundle).or_default();
                group.seats.insert((seat.device, seat.slot), held);
                group.changed = true;
            }
        }
    }

    /// Takes over which windows got something, and finds the boxes that have a closed one unread.
    async fn find_due(&mut self, tasks: &Tasks, known: &mut Known) -> Result<bool, TaskError> {
        let now = tasks.clocks.moment();
        // A clock that was set back must not make us deaf until it has caught up.
        let since = known.cursor.min(now.at).minus(OVERLAP);
        if !known.due.is_empty() {
            // Read first what is due already.
            return Ok(true);
        }
        let mut page = Page::first(LIMIT_MAX);
        loop {
            let found = heads::updated(&mut tasks.store.read_telemetry().await?, since, &page).await?;
            let Some(last) = found.last().cloned() else { return Ok(false) };
            let full = found.len() == LIMIT_MAX as usize;
            for head in found {
                // No window begins in the future, but a box's clock may say so.
                if head.from <= now.world_at {
                    self.note(tasks, known, &head).await?;
                }
            }
            known.cursor = last.updated;
            if !full {
                return Ok(false);
            }
            page = Page::after(last, LIMIT_MAX);
        }
    }

    async fn note(&mut self, tasks: &Tasks, known: &mut Known, head: &Head) -> Result<(), TaskError> {
        let Some(monitored) = self.monitored(tasks, &head.seat.bundle).await? else { return Ok(()) };
        let place = (head.seat.device.clone(), head.seat.slot.clone());
        let group = known.groups.get(&head.seat.bundle);
        let is_held = group.is_some_and(|group| group.seats.contains_key(&place));
        // What a box said before it was revoked is looked at again, and must not bring it back.
        if !is_held && !is_listened_to(tasks, &place.0).await? {
            return Ok(());
        }
        let group = known.groups.entry(head.seat.bundle).or_default();
        let held = group.seats.entry(place).or_default();
        let begun = head.from > held.newest;
        held.newest = held.newest.max(head.from);
        let unread = head.from >= held.read_until;
        // A window that lost panes to a restart closes when a later one has begun.
        if unread && (begun || head.is_whole(&monitored.manifest.monitoring)) {
            known.due.insert(head.seat.clone());
        }
        Ok(())
    }

    async fn read_due(&mut self, tasks: &Tasks, known: &mut Known) -> Result<bool, TaskError> {
        let batch: Vec<Seat> = known.due.iter().take(READ_MAX).cloned().collect();
        if batch.is_empty() {
            return Ok(false);
        }
        let mut reader = read::Reader::default();
        for seat in &batch {
            let Some(monitored) = self.monitored(tasks, &seat.bundle).await? else { continue };
            let site = match site_of(known, seat) {
                Some(site) => site,
                None => match devices::get(&mut tasks.store.read().await?, &seat.device).await? {
                    Some(device) => device.site,
                    None => continue,
                },
            };
            let stand = reader.read(tasks, seat, &site, &monitored).await?;
            let group = known.groups.entry(seat.bundle).or_default();
            if let Some((stand, read_until)) = stand
                && let Some(held) = group.seats.get_mut(&(seat.device.clone(), seat.slot.clone()))
            {
                (held.stand, held.read_until) = (Some(stand), read_until);
                group.changed = true;
            }
        }
        for (bundle, site, differing) in reader.differing() {
            known.groups.entry(bundle).or_default().differing.insert(site, differing);
        }
        for seat in &batch {
            known.due.remove(seat);
        }
        let cursor = known.due.is_empty().then_some(known.cursor);
        reader.save(tasks, cursor).await?;
        Ok(!known.due.is_empty())
    }

    async fn monitored(
        &mut self,
        tasks: &Tasks,
        bundle: &Digest,
    ) -> Result<Option<Arc<Monitored>>, TaskError> {
        if let Some(known) = self.references.get(bundle) {
            return Ok(known.clone());
        }
        let Some(found) = bundles::get(&mut tasks.store.read().await?, bundle).await? else {
            return Ok(None);
        };
        let monitored = match found.reference {
            None => None,
            Some(reference) => {
                let bytes = tasks
                    .blobs
                    .read(&reference, REFERENCE_BYTES_MAX as u64)
                    .await
                    .map_err(TaskError::Reference)?;
                let names = found.manifest.monitoring.streams.iter().map(|stream| &stream.name);
                // The registry parsed it before it accepted the bundle; what is unreadable now was damaged since.
                bytes.and_then(|bytes| ReferenceFile::parse(&bytes, names).ok())
            }
        };
        let monitored =
            monitored.map(|reference| Arc::new(Monitored { manifest: found.manifest, reference }));
        if self.references.len() >= REFERENCES_MAX {
            self.references.clear();
        }
        self.references.insert(*bundle, monitored.clone());
        Ok(monitored)
    }
}

fn site_of(known: &Known, seat: &Seat) -> Option<SiteName> {
    known.running.as_ref()?.get(&seat.bundle)?.get(&seat.device).cloned()
}

/// Whether what it says counts. A stranger's does: who is let in is not decided here.
async fn is_listened_to(tasks: &Tasks, device: &DeviceId) -> Result<bool, TaskError> {
    let standing = identities::standing(&mut tasks.store.read().await?, device).await?;
    Ok(standing.is_none_or(|standing| standing.may_connect()))
}

/// Asks some more boxes what they run. After a whole round, those that do not run a bundle any more say nothing of it.
async fn sweep(tasks: &Tasks, known: &mut Known) -> Result<bool, TaskError> {
    let page = Page { after: known.sweep.after.take(), limit: SWEEP };
    let found = devices::whereabouts(&mut tasks.store.read().await?, &page).await?;
    let last = found.last().map(|device| device.id.clone());
    let full = found.len() == SWEEP as usize;
    for device in found {
        let slots = device.state.iter().flat_map(|state| &state.slots).take(limits::SLOTS_MAX);
        for bundle in slots.filter_map(|slot| slot.current.as_ref()).map(|current| current.bundle.sha256) {
            let boxes = known.sweep.running.entry(bundle).or_default();
            boxes.insert(device.id.clone(), device.site.clone());
        }
    }
    if full {
        known.sweep.after = last;
        // Until the first round is over nobody may be taken for gone.
        return Ok(known.running.is_none());
    }
    let running = std::mem::take(&mut known.sweep.running);
    let mut gone: Vec<Seat> = Vec::new();
    for (bundle, group) in &mut known.groups {
        let before = group.seats.len();
        let boxes = running.get(bundle);
        group.seats.retain(|(device, slot), held| {
            let site = boxes.and_then(|boxes| boxes.get(device));
            match (site, &mut held.stand) {
                (Some(site), Some(stand)) if stand.site != *site => {
                    stand.site = site.clone();
                    group.changed = true;
                }
                (Some(_), Some(_) | None) => {}
                (None, _) => gone.push(Seat { bundle: *bundle, device: device.clone(), slot: slot.clone() }),
            }
            site.is_some()
        });
        group.changed |= group.seats.len() != before;
    }
    known.groups.retain(|bundle, _| running.contains_key(bundle));
    for bundle in running.keys() {
        known.groups.entry(*bundle).or_default();
    }
    known.due.retain(|seat| running.get(&seat.bundle).is_some_and(|boxes| boxes.contains_key(&seat.device)));
    known.running = Some(running);
    if !gone.is_empty() {
        let mut tx = tasks.store.write().await?;
        for seat in &gone {
            watches::forget(&mut tx, seat).await?;
        }
        tx.commit().await?;
    }
    Ok(false)
}
