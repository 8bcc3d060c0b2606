//! Reads the newly closed windows of boxes, a batch at a time, and saves what they leave behind at once.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::ids::{Digest, SiteName};
use muster_protocol::time::Timestamp;

use super::{CURSOR, Monitored, TaskError, Tasks};
use crate::drift::{Counted, Difference, Site, Stand, Watch, WindowAt};
use crate::store::meta;
use crate::store::watches::{self, Seat};
use crate::store::windows::{self, Window};

/// Windows of one box read at once: more than are kept of it.
const WINDOWS_MAX: u32 = 1000;
/// Windows that a clock ahead of time may have begun.
const AHEAD_MAX: u32 = 64;

#[derive(Debug, Default)]
pub(super) struct Reader {
    sites: BTreeMap<(Digest, SiteName), Site>,
    learnt: BTreeSet<(Digest, SiteName)>,
    noted: BTreeSet<(Digest, SiteName)>,
    watches: Vec<(Seat, Watch)>,
}

impl Reader {
    /// Reads the box's closed windows. Returns where it stands now, and until when it was read.
    pub(super) async fn read(
        &mut self,
        tasks: &Tasks,
        seat: &Seat,
        site_name: &SiteName,
        monitored: &Monitored,
    ) -> Result<Option<(Stand, Timestamp)>, TaskError> {
        let mut control = tasks.store.read().await?;
        let mut watch = watches::get::<Watch>(&mut control, seat).await?.unwrap_or_default();
        let key = (seat.bundle, site_name.clone());
        let known = match self.sites.remove(&key) {
            Some(site) => Some(site),
            None => watches::site::<Site>(&mut control, &seat.bundle, site_name).await?,
        };
        drop(control);
        let (closed, mut seen) = windows_of(tasks, seat, &watch, monitored).await?;
        let Some(first) = closed.first() else {
            self.sites.extend(known.map(|site| (key, site)));
            return Ok(None);
        };
        let mut site = known.unwrap_or_else(|| Site::new(first.from));
        for window in closed {
            let from = window.from;
            seen.push(window);
            let references = monitored.references(site.baseline.as_ref());
            let before = watch.clone();
            let mut read = watch.read(&references, &seen);
            // Only what drifts has a season to look at: the weeks before are fetched when it begins to.
            if read.is_ok() && earlier(tasks, seat, &watch, monitored, &mut seen).await? {
                watch = before;
                read = watch.read(&references, &seen);
            }
            match read {
                Ok(reading) => {
                    let at = WindowAt { device: seat.device.clone(), slot: seat.slot.clone(), from };
                    if site.note(at, &watch, &reading, references.window()) {
                        learn(tasks, &seat.bundle, &mut site, monitored).await?;
                        self.learnt.insert(key.clone());
                    }
                    self.noted.insert(key.clone());
                }
                Err(error) => {
                    seen.pop();
                    watch.read_until = watch.read_until.max(Some(from.plus(references.window())));
                    tracing::warn!(
                        device.id = %seat.device,
                        error = &error as &dyn std::error::Error,
                        "a window of counts does not fit its bundle; left out"
                    );
                }
            }
        }
        let window = monitored.references(None).window();
        let stand = Stand::of(seat.device.clone(), site_name.clone(), &watch, &site, window);
        let read_until = watch.read_until.unwrap_or_default();
        self.sites.insert(key, site);
        self.watches.push((seat.clone(), watch));
        Ok(Some((stand, read_until)))
    }

    /// Sites that were learnt and never were like the training data.
    pub(super) fn differing(&self) -> Vec<(Digest, SiteName, (Timestamp, Vec<Difference>))> {
        let learnt = self.learnt.iter().filter_map(|key| Some((key, self.sites.get(key)?)));
        learnt
            .filter(|(_, site)| !site.differs.is_empty())
            .map(|((bundle, name), site)| (*bundle, name.clone(), (site.begun, site.differs.clone())))
            .collect()
    }

    /// Saves all of it, or nothing. `cursor`: up to this receipt everything is read.
    pub(super) async fn save(self, tasks: &Tasks, cursor: Option<Timestamp>) -> Result<(), TaskError> {
        if self.watches.is_empty() {
            return Ok(());
        }
        let mut tx = tasks.store.write().await?;
        for (seat, watch) in &self.watches {
            watches::put(&mut tx, seat, watch).await?;
        }
        for key in &self.noted {
            if let Some(site) = self.sites.get(key) {
                watches::put_site(&mut tx, &key.0, &key.1, site).await?;
            }
        }
        if let Some(cursor) = cursor {
            meta::set(&mut tx, CURSOR, &cursor.as_millis().to_string()).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// The windows of one box from `from` on, or all that are kept, the oldest first. By the box, never by the bundle: a
/// bundle has as many windows as it has boxes.
async fn since(
    tasks: &Tasks,
    seat: &Seat,
    from: Option<Timestamp>,
    monitored: &Monitored,
) -> Result<Vec<Window>, TaskError> {
    let span = monitored.references(None).window().as_secs().max(1);
    // A box whose clock is ahead has windows that are not due yet: they come first, and must not crowd out those that are.
    let wanted = from.map_or(WINDOWS_MAX, |from| {
        let windows = tasks.clocks.world.now().since(from).as_secs() / span;
        u32::try_from(windows).unwrap_or(WINDOWS_MAX).saturating_add(AHEAD_MAX).min(WINDOWS_MAX)
    });
    let mut telemetry = tasks.store.read_telemetry().await?;
    let mut found = windows::recent(&mut telemetry, &seat.device, &seat.slot, &seat.bundle, wanted).await?;
    found.retain(|window| from.is_none_or(|from| window.from >= from));
    found.reverse();
    Ok(found)
}

/// The closed windows that were not read yet, and the earlier ones that they are compared with; both oldest first.
async fn windows_of(
    tasks: &Tasks,
    seat: &Seat,
    watch: &Watch,
    monitored: &Monitored,
) -> Result<(Vec<Counted>, Vec<Counted>), TaskError> {
    let needs = watch.needs(monitored.references(None).window());
    let now = tasks.clocks.world.now();
    let mut recent = since(tasks, seat, needs.recent_from, monitored).await?;
    recent.retain(|window| window.from <= now);
    if recent.last().is_some_and(|last| !last.is_whole(&monitored.manifest.monitoring)) {
        recent.pop();
    }
    let read = |window: &Window| watch.read_until.is_some_and(|until| window.from < until);
    let unread = recent.iter().position(|window| !read(window)).unwrap_or(recent.len());
    let closed = recent.split_off(unread);
    let counted = |window: Window| Counted { from: window.from, streams: window.streams };
    Ok((closed.into_iter().map(counted).collect(), recent.into_iter().map(counted).collect()))
}

/// Fetches the windows of the season that `seen` does not go back to. Returns whether there were any.
async fn earlier(
    tasks: &Tasks,
    seat: &Seat,
    watch: &Watch,
    monitored: &Monitored,
    seen: &mut Vec<Counted>,
) -> Result<bool, TaskError> {
    let first = seen.first().map(|window| window.from);
    let needs = watch.needs(monitored.references(None).window());
    let (Some((from, before)), Some(first)) = (needs.season, first) else { return Ok(false) };
    if from >= first {
        return Ok(false);
    }
    let mut found = since(tasks, seat, Some(from), monitored).await?;
    found.retain(|window| window.from < first.min(before));
    let any = !found.is_empty();
    let counted = |window: Window| Counted { from: window.from, streams: window.streams };
    seen.splice(0..0, found.into_iter().map(counted));
    Ok(any)
}

/// Learns what is normal at a site from its quiet windows.
async fn learn(
    tasks: &Tasks,
    bundle: &Digest,
    site: &mut Site,
    monitored: &Monitored,
) -> Result<(), TaskError> {
    let wanted: BTreeSet<&WindowAt> = site.quiet.iter().collect();
    let seats: BTreeSet<_> = wanted.iter().map(|at| (&at.device, &at.slot)).collect();
    let first = wanted.iter().map(|at| at.from).min();
    let mut found = Vec::with_capacity(wanted.len());
    for (device, slot) in seats {
        let seat = Seat { bundle: *bundle, device: device.clone(), slot: slot.clone() };
        for window in since(tasks, &seat, first, monitored).await? {
            let at = WindowAt { device: device.clone(), slot: window.slot, from: window.from };
            if wanted.contains(&at) {
                found.push(Counted { from: window.from, streams: window.streams });
            }
        }
    }
    found.sort_by_key(|window| window.from);
    site.learn(&monitored.manifest.monitoring, &monitored.reference, &found);
    Ok(())
}
