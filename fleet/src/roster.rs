//! The fleet as the rollout engine sees it, kept in memory: read whole once, and then only where a commit touched it.
//!
//! ```text
//!   commit ─▶ touched devices ─▶ read those rows ─▶ their line in each watched rollout's view
//!                                                      └ changed? the rollout is due for a look
//! ```
//! The database stays the truth: whatever is kept here can be thrown away and read again, and is, after any error. So that
//! a mistake in what was said to be touched heals by itself, a page of the fleet is read anew whenever there is nothing
//! else to do, until all of it was.
//!
//! What devices show stands in the telemetry. Where that does not answer, what was known of it stays, views say so, and
//! everything else is taken over all the same: a way back must not wait for a database that it does not need.
//!
//! It decides nothing: a view is what is known, for the minds to judge.

mod board;
mod load;
mod newer;
mod seen;
mod shadows;
#[cfg(test)]
mod tests;
mod vitals;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::ids::{DeviceId, Digest, RolloutId, SiteName, SlotName};
use muster_protocol::trust::TrustedSet;
use tokio::time::{Instant, timeout};

use crate::catalogue::{Catalogue, CatalogueError};
use crate::clock::Clocks;
use crate::rollout::{Freeze, Lease, Rollout, SiteView};
use crate::store::bad_bundles::Bad;
use crate::store::{Control, Page, Store, StoreError, Telemetry, Touched, Whom, rollouts, seats};

pub use board::Board;
pub use load::{members, view};
pub use seen::Seen;
pub use watch::{Shared, Watch};

use load::Unread;
use newer::{Newer, Over};
use watch::Surroundings;

/// Devices read anew when there is nothing else to do.
const SWEEP: u32 = 500;
/// How long telemetry may take to begin to answer: everything else waits for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// And to tell what all devices have shown of one bundle.
const READ_MAX: Duration = Duration::from_mins(5);
/// When it is asked again after it did not answer.
const ASKED_AGAIN: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    #[error("the fleet cannot be read")]
    Store(#[from] StoreError),
    #[error("the catalogue cannot be read")]
    Catalogue(#[from] CatalogueError),
}

type Result<T> = std::result::Result<T, RosterError>;

/// All members of the fleet, and every rollout that can still change something. Owned by the one task that steps rollouts.
#[derive(Debug)]
pub struct Roster {
    store: Store,
    catalogue: Catalogue,
    clocks: Clocks,
    board: Board,
    known: Option<Known>,
    /// When telemetry, which did not answer, is asked again.
    ask_again: Option<Instant>,
}

/// What was read.
#[derive(Debug, Default)]
struct Known {
    seen: BTreeMap<DeviceId, Seen>,
    grounds: Grounds,
    trusted: Option<Arc<TrustedSet>>,
    watches: BTreeMap<RolloutId, Watch>,
    /// Rollouts that need no watching.
    over: BTreeMap<RolloutId, Over>,
    /// Where the sweep goes on.
    swept: Option<DeviceId>,
    /// Telemetry did not answer at the last look.
    is_unheard: bool,
    /// What devices have shown meanwhile and was not read, and the rollouts of which nothing was.
    unread: Touched,
    unread_of: BTreeSet<RolloutId>,
}

/// What became of the rollouts since the last look.
#[derive(Debug, Default)]
struct Heads {
    is_news: bool,
    /// Those that were not watched before.
    new: BTreeSet<RolloutId>,
    /// Claims may have moved: every device's line must be drawn anew.
    redraw_all: bool,
}

/// Rules, leases and freezes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Grounds {
    pub sites: BTreeMap<SiteName, SiteView>,
    pub freezes: Vec<Freeze>,
    /// Leases that the fleet holds for single boxes.
    pub leases: BTreeMap<DeviceId, Vec<Lease>>,
}

impl Roster {
    pub fn new(store: Store, catalogue: Catalogue, clocks: Clocks, board: Board) -> Self {
        Self { store, catalogue, clocks, board, known: None, ask_again: None }
    }

    /// Forgets everything, to be read again: for when it may differ from what was committed.
    pub fn forget(&mut self) {
        self.known = None;
    }

    /// Takes over what was committed since the last call. Returns whether anything was new.
    pub async fn sync(&mut self) -> Result<bool> {
        // Taken before the transaction begins: what is committed in between is read twice rather than never.
        let taken = self.store.changes().take_touched();
        let touched = if self.known.is_some() { taken } else { Touched::everything() };
        // Whatever fails below, what was taken is lost: then `known` stays empty, and everything is read again.
        let mut known = self.known.take().unwrap_or_default();
        let mut telemetry = self.telemetry(known.is_unheard).await;
        let mut control = self.store.read().await?;
        let catalogue = self.catalogue.published(&mut control).await?;
        self.board.withdraw();
        let was_unheard = known.is_unheard;
        let is_news = known.sync(&mut control, telemetry.as_mut(), catalogue, touched, self.clocks).await?;
        if !known.is_unheard {
            self.ask_again = None;
        } else if self.ask_again.is_none_or(|at| at <= Instant::now()) {
            self.ask_again = Some(Instant::now() + ASKED_AGAIN);
        }
        if was_unheard && !known.is_unheard {
            tracing::info!("telemetry answers again; rollouts go on");
        }
        self.board.publish(known.watches.iter());
        self.known = Some(known);
        Ok(is_news)
    }

    /// A view of the telemetry; nothing if it does not answer, or did not a moment ago.
    async fn telemetry(&self, is_unheard: bool) -> Option<Telemetry> {
        if self.ask_again.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        match timeout(PATIENCE, self.store.read_telemetry()).await {
            Ok(Ok(telemetry)) => return Some(telemetry),
            Ok(Err(error)) => say_unheard(is_unheard, &error),
            Err(elapsed) => say_unheard(is_unheard, &elapsed),
        }
        None
    }

    /// Reads a few devices anew, for what no commit told of.
    pub async fn sweep(&mut self) -> Result<()> {
        let Some(known) = &mut self.known else { return Ok(()) };
        let after = known.swept.take();
        let page = Page { after: after.clone(), limit: SWEEP };
        let found = seats::list(&mut self.store.read().await?, &page).await?;
        let last = found.last().map(|seat| seat.device.clone());
        let full = found.len() == SWEEP as usize;
        let mut stale: BTreeSet<DeviceId> =
            known.between(after.as_ref(), last.as_ref().filter(|_| full)).cloned().collect();
        stale.extend(found.iter().map(|seat| seat.device.clone()));
        known.swept = last.filter(|_| full);
        self.board.withdraw();
        let missed = known.replace(&stale, found, self.clocks);
        self.board.publish(known.watches.iter());
        if missed > 0 {
            tracing::warn!(
                devices = missed,
                "the fleet in memory differed from the database; it was corrected"
            );
        }
        Ok(())
    }

    pub fn watches(&self) -> impl Iterator<Item = &Watch> {
        self.known.iter().flat_map(|known| known.watches.values())
    }

    pub fn watch(&self, id: &RolloutId) -> Option<&Watch> {
        self.known.as_ref()?.watches.get(id)
    }

    /// Shows nobody anything until the next change here: who looks waits for it.
    pub fn take_down(&self) {
        self.board.withdraw();
    }

    /// Changes watches in place: nobody else looks at them meanwhile.
    pub fn change<T>(&mut self, id: &RolloutId, change: impl FnOnce(&mut Watch) -> T) -> Option<T> {
        let known = self.known.as_mut()?;
        self.board.withdraw();
        let changed = known.watches.get_mut(id).map(change);
        self.board.publish(known.watches.iter());
        changed
    }

    /// Notes, or forgets, that a bundle failed on devices.
    pub fn mark(&mut self, bundle: &Digest, devices: &[(DeviceId, Option<Bad>)]) {
        let Some(known) = &mut self.known else { return };
        for watch in known.watches.values_mut().filter(|watch| watch.rollout.bundle.sha256 == *bundle) {
            for (device, bad) in devices {
                watch.mark(device, bad.clone());
            }
        }
    }

    /// What the catalogue said at the last look.
    pub fn trusted(&self) -> Option<&Arc<TrustedSet>> {
        self.known.as_ref()?.trusted.as_ref()
    }

    /// Members of the fleet.
    pub fn len(&self) -> usize {
        self.known.as_ref().map_or(0, |known| known.seen.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// After members of a rollout changed: views show it in claims, in who is being interrupted, and in what failed where.
    pub fn spread(&mut self, changed: &BTreeSet<DeviceId>) {
        if let Some(known) = &mut self.known {
            self.board.withdraw();
            known.redraw(changed);
            self.board.publish(known.watches.iter());
        }
    }
}

impl Known {
    async fn sync(
        &mut self,
        control: &mut Control,
        telemetry: Option<&mut Telemetry>,
        catalogue: Option<Arc<TrustedSet>>,
        touched: Touched,
        clocks: Clocks,
    ) -> Result<bool> {
        let mut is_news = !touched.is_nothing();
        let mut redraw_all = false;
        if touched.sites {
            let grounds = load::sites(control, clocks).await?;
            redraw_all |= grounds.leases != self.grounds.leases;
            self.grounds = grounds;
        }
        let same = match (&catalogue, &self.trusted) {
            (Some(new), Some(old)) => Arc::ptr_eq(new, old),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            self.trusted = catalogue;
            is_news = true;
            redraw_all = true;
        }
        let mut evidence = touched.evidence;
        match touched.devices {
            Whom::Anybody => {
                let all = load::everybody(control, clocks).await?;
                self.joining(all.keys()).for_each(|device| evidence.add(device));
                self.seen = all;
                redraw_all = true;
            }
            Whom::These(devices) => {
                let found = seats::of(control, &devices).await?;
                self.joining(found.iter().map(|seat| &seat.device)).for_each(|device| evidence.add(device));
                self.replace(&devices, found, clocks);
            }
        }
        let heads = self.watch_what_can_change(control).await?;
        is_news |= heads.is_news;
        redraw_all |= heads.redraw_all;
        self.unread.merge(Touched { evidence, ..Touched::default() });
        self.unread_of.extend(heads.new);
        is_news |= telemetry.is_some() && self.is_unheard;
        let shown = self.take_evidence(control, telemetry).await?;
        redraw_all |= shown.is_none();
        let grounds = &self.grounds;
        for watch in self.watches.values_mut() {
            watch.stand_on(grounds, self.trusted.as_ref(), self.is_unheard);
        }
        if redraw_all {
            let all: BTreeSet<DeviceId> = self.seen.keys().cloned().collect();
            let gone: Vec<DeviceId> = self
                .watches
                .values()
                .flat_map(|watch| watch.view.devices.keys())
                .filter(|id| !self.seen.contains_key(*id))
                .cloned()
                .collect();
            self.redraw(&all.into_iter().chain(gone).collect());
        } else if let Some(shown) = shown {
            self.redraw(&shown);
        }
        Ok(is_news)
    }

    /// Those that were no members before: what they showed meanwhile was not looked at.
    fn joining<'a>(&self, devices: impl Iterator<Item = &'a DeviceId>) -> impl Iterator<Item = &'a DeviceId> {
        devices.filter(|device| !self.seen.contains_key(*device))
    }

    /// Puts `found` in the place of all `asked`. Returns how many lines of views that changed.
    fn replace(&mut self, asked: &BTreeSet<DeviceId>, found: Vec<seats::Seat>, clocks: Clocks) -> usize {
        for id in asked {
            self.seen.remove(id);
        }
        for seat in found {
            let (id, seen) = Seen::of(seat, clocks);
            self.seen.insert(id, seen);
        }
        self.redraw(asked)
    }

    /// Draws these devices' lines in every view anew. Returns how many were drawn otherwise than before.
    fn redraw(&mut self, devices: &BTreeSet<DeviceId>) -> usize {
        let left = self.over.values().filter_map(Over::left);
        let surroundings = Surroundings::of(&self.watches, left);
        let mut changed = 0;
        let drawn: Vec<_> = self
            .watches
            .iter()
            .map(|(id, watch)| {
                let lines = devices.iter().filter_map(|device| {
                    let seen = self.seen.get(device);
                    let leases = self.grounds.leases.get(device).map_or(&[][..], Vec::as_slice);
                    let line = seen.map(|seen| watch.line(device, seen, leases, &surroundings));
                    (line.as_ref() != watch.view.devices.get(device)).then(|| (device.clone(), line))
                });
                (id.clone(), lines.collect::<Vec<_>>())
            })
            .collect();
        for (id, lines) in drawn {
            if let Some(watch) = self.watches.get_mut(&id) {
                changed += lines.len();
                for (device, line) in lines {
                    watch.put(&device, line);
                }
            }
        }
        changed
    }

    /// What has not been read yet: of all devices for rollouts that are new, and where anybody may have shown something.
    /// Returns the devices that have shown something new; nothing if that may be anybody. What cannot be read stays unread.
    async fn take_evidence(
        &mut self,
        control: &mut Control,
        mut telemetry: Option<&mut Telemetry>,
    ) -> Result<Option<BTreeSet<DeviceId>>> {
        let unread = std::mem::take(&mut self.unread);
        let new = std::mem::take(&mut self.unread_of);
        let (mut shown, mut anybody) = (BTreeSet::new(), false);
        let mut is_unheard = telemetry.is_none();
        for (id, watch) in &mut self.watches {
            let Some(telemetry) = telemetry.as_deref_mut() else { break };
            let (devices, all): (Vec<&DeviceId>, bool) = match &unread.evidence {
                Whom::These(devices) if !new.contains(id) => {
                    (devices.iter().filter(|device| self.seen.contains_key(*device)).collect(), false)
                }
                Whom::These(_) | Whom::Anybody => (self.seen.keys().collect(), true),
            };
            let mut found = match timeout(READ_MAX, load::shown(control, telemetry, watch, &devices)).await {
                Ok(Ok(found)) => found,
                Ok(Err(Unread::Control(error))) => return Err(error),
                Ok(Err(Unread::Telemetry(error))) => {
                    say_unheard(self.is_unheard, &error);
                    is_unheard = true;
                    break;
                }
                Err(elapsed) => {
                    say_unheard(self.is_unheard, &elapsed);
                    is_unheard = true;
                    break;
                }
            };
            if all {
                watch.show_all(found);
                anybody = true;
                continue;
            }
            for device in devices {
                if watch.show(device, found.remove(device).unwrap_or_default()) {
                    shown.insert(device.clone());
                }
            }
        }
        self.is_unheard = is_unheard;
        if is_unheard {
            self.unread = unread;
            self.unread_of = new;
            self.unread_of.retain(|id| self.watches.contains_key(id));
        }
        Ok(if anybody { None } else { Some(shown) })
    }

    /// Open rollouts, and those that are complete and that nobody newer has the devices of: they still serve stragglers, and
    /// their success can be taken back.
    async fn watch_what_can_change(&mut self, control: &mut Control) -> Result<Heads> {
        let mut heads = Heads::default();
        let mut newer: BTreeMap<SlotName, Newer> = BTreeMap::new();
        let mut watched = BTreeSet::new();
        for (id, revision) in rollouts::revisions(control).await? {
            let over = self.over.get(&id).filter(|over| over.revision == revision);
            if over.is_some_and(|over| over.stays(newer.get(&over.slot))) {
                continue;
            }
            if self.watches.get(&id).is_none_or(|watch| watch.revision != revision) {
                let Some(loaded) = rollouts::get::<Rollout>(control, &id).await? else { continue };
                heads.is_news = true;
                if let Some(watch) = self.watches.get_mut(&id) {
                    heads.redraw_all |= watch.follow(loaded);
                } else if newer
                    .entry(loaded.document.slot.clone())
                    .or_default()
                    .needs_watching(&loaded.document)
                {
                    let watch = load::watch(control, loaded).await?;
                    self.watches.insert(id.clone(), watch);
                    heads.new.insert(id.clone());
                    heads.redraw_all = true;
                } else {
                    self.over.insert(id, Over::of(loaded.revision, &loaded.document));
                    continue;
                }
            }
            let Some(watch) = self.watches.get(&id) else { continue };
            let newer = newer.entry(watch.rollout.slot.clone()).or_default();
            if newer.needs_watching(&watch.rollout) {
                newer.add(&watch.rollout);
                self.over.remove(&id);
                watched.insert(id);
            } else {
                self.over.insert(id, Over::of(watch.revision, &watch.rollout));
                heads.redraw_all = true;
            }
        }
        self.watches.retain(|id, _| watched.contains(id));
        Ok(heads)
    }

    fn between<'a>(
        &'a self,
        after: Option<&'a DeviceId>,
        last: Option<&'a DeviceId>,
    ) -> impl Iterator<Item = &'a DeviceId> {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let to = last.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Included);
        self.seen.range::<DeviceId, _>((from, to)).map(|(id, _)| id)
    }
}

/// Said once: while it lasts there is nothing new to say.
fn say_unheard(is_said: bool, error: &(dyn std::error::Error + 'static)) {
    if !is_said {
        tracing::error!(
            error,
            "telemetry does not answer; rollouts stand until it does, and ways back go on"
        );
    }
}
