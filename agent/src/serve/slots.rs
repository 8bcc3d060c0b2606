//! Who serves in which slot. Swapping is one pointer: a request keeps the model that it began with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use muster_protocol::drift::Floor;
use muster_protocol::ids::{Digest, SlotName};
use muster_protocol::limits::{LABEL_BLOCKS_PER_REPORT_MAX, PANES_PER_REPORT_MAX, SLOTS_MAX};
use muster_protocol::manifest::Signature;
use muster_protocol::message::up::BundleRef;
use muster_protocol::message::{LabelBlock, ModelStats, Pane, ShadowBlock};
use muster_protocol::time::Timestamp;

use super::serving::{Meter, Served, Serving};
use crate::capture::Taps;
use crate::labels::{Predictions, RingLimits};
use crate::measure::{Compared, Pair, STREAMS_PER_REPORT};
use crate::shadow::Shadow;

/// Tells the world time.
pub type WorldNow = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Meters of bundles that are gone but not yet reported.
const METERS_MAX: usize = 16;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotLimits {
    pub ring: RingLimits,
    /// Nothing of fewer rows is told.
    pub floor: Floor,
}

/// A handle on all slots.
#[derive(Clone)]
pub struct Slots(Arc<Shared>);

struct Shared {
    world_now: WorldNow,
    limits: SlotLimits,
    taps: Taps,
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    wished: BTreeSet<SlotName>,
    slots: BTreeMap<SlotName, Slot>,
}

#[derive(Debug)]
struct Slot {
    current: Option<Arc<Serving>>,
    previous: Option<Arc<Serving>>,
    /// Why nothing answers, if that is meant to be so.
    stopped: Option<String>,
    meters: BTreeMap<Digest, Arc<Meter>>,
    predictions: Arc<Mutex<Predictions>>,
    shadow: Option<Arc<Shadow>>,
    compared: Compared,
}

/// What a request finds under a model's name.
pub(super) enum Lookup {
    Serving(Found),
    /// It is wished for and not there yet.
    NotReady,
    /// What was there must not answer any more, for this reason.
    Stopped(String),
    Unknown,
}

/// What answers in a slot, and what goes with it.
pub(super) struct Found {
    pub(super) serving: Arc<Serving>,
    pub(super) predictions: Arc<Mutex<Predictions>>,
    pub(super) shadow: Option<Arc<Shadow>>,
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slots").field(&*self.0.read()).finish()
    }
}

impl Slots {
    pub fn new(world_now: WorldNow, limits: SlotLimits) -> Self {
        Self(Arc::new(Shared { world_now, limits, taps: Taps::default(), table: RwLock::default() }))
    }

    /// Says which slots should serve: the box is ready when each of them does.
    pub fn wish(&self, slots: BTreeSet<SlotName>) {
        self.0.write().wished = slots;
    }

    /// From now on `served` answers in `slot`; what did becomes `previous` and stays loaded. Requests in flight end on
    /// the model that they began with.
    pub fn activate(&self, slot: &SlotName, served: Served) {
        let Served { model, manifest, bundle, panes } = served;
        let panes = panes.floor(self.0.limits.floor);
        let mut table = self.0.write();
        let place = table.slots.entry(slot.clone()).or_insert_with(|| self.new_slot(slot));
        let fresh = || Arc::new(Meter::new(panes));
        let meter = Arc::clone(place.meters.entry(bundle.sha256).or_insert_with(fresh));
        place.stopped = None;
        let replaced = place.current.replace(Arc::new(Serving { model, manifest, bundle, meter }));
        let same = replaced.as_ref().map(|old| old.bundle.sha256)
            == place.current.as_ref().map(|new| new.bundle.sha256);
        if !same && replaced.is_some() {
            place.previous = replaced;
        }
        place.forget_idle_meters(self.0.limits.floor);
    }

    /// The previous bundle answers again, at once; what did is dropped. None, and nothing changed, without a previous.
    pub fn revert(&self, slot: &SlotName) -> Option<BundleRef> {
        let mut table = self.0.write();
        let place = table.slots.get_mut(slot)?;
        let previous = place.previous.take()?;
        let bundle = previous.bundle.clone();
        place.current = Some(previous);
        Some(bundle)
    }

    /// From now on `shadow` sees what is answered in `slot`, or nothing does.
    pub fn shadow(&self, slot: &SlotName, shadow: Option<Shadow>) {
        if let Some(place) = self.0.write().slots.get_mut(slot) {
            place.take_compared();
            place.shadow = shadow.map(Arc::new);
        }
    }

    /// What runs beside what answers in each slot.
    pub fn shadows(&self) -> Vec<(SlotName, Arc<Shadow>)> {
        let table = self.0.read();
        let shadows = table.slots.iter();
        shadows.filter_map(|(slot, place)| Some((slot.clone(), Arc::clone(place.shadow.as_ref()?)))).collect()
    }

    /// Nothing serves in the slot any more.
    pub fn clear(&self, slot: &SlotName) {
        if let Some(place) = self.0.write().slots.get_mut(slot) {
            place.current = None;
            place.previous = None;
            place.stopped = None;
            place.end_shadow();
        }
    }

    /// Nothing answers in the slot until something is activated; applications are told why. Requests in flight end on
    /// the model that they began with.
    pub fn stop(&self, slot: &SlotName, reason: &str) {
        let mut table = self.0.write();
        let place = table.slots.entry(slot.clone()).or_insert_with(|| self.new_slot(slot));
        place.current = None;
        place.end_shadow();
        place.stopped = Some(reason.to_owned());
    }

    /// There is no way back in this slot any more.
    pub fn forget_previous(&self, slot: &SlotName) {
        if let Some(place) = self.0.write().slots.get_mut(slot) {
            place.previous = None;
        }
    }

    pub fn current(&self, slot: &SlotName) -> Option<BundleRef> {
        self.0.read().slots.get(slot)?.current.as_ref().map(|serving| serving.bundle.clone())
    }

    pub fn previous(&self, slot: &SlotName) -> Option<BundleRef> {
        self.0.read().slots.get(slot)?.previous.as_ref().map(|serving| serving.bundle.clone())
    }

    /// What answers in a slot, and what it takes.
    pub fn signature(&self, slot: &SlotName) -> Option<(Digest, Signature)> {
        let table = self.0.read();
        let serving = table.slots.get(slot)?.current.as_ref()?;
        Some((serving.bundle.sha256, serving.manifest.signature.clone()))
    }

    /// Where answered requests may be captured.
    pub fn taps(&self) -> &Taps {
        &self.0.taps
    }

    /// Takes the finished panes, as many as fit one report; call again for more. `now` is world time.
    pub fn panes(&self, now: Timestamp) -> Vec<Pane> {
        let mut taken = Vec::new();
        let mut streams = 0;
        let floor = self.0.limits.floor;
        let mut table = self.0.write();
        for (slot, place) in &mut table.slots {
            for meter in place.meters.values() {
                let mut panes = lock(&meter.panes);
                let fits = (STREAMS_PER_REPORT.saturating_sub(streams)) / panes.streams().max(1);
                let fits = if taken.is_empty() { fits.max(1) } else { fits };
                let more = panes.take(slot, now, fits.min(PANES_PER_REPORT_MAX - taken.len()));
                streams += more.len() * panes.streams();
                taken.extend(more);
                let dropped = panes.take_dropped();
                if dropped > 0 {
                    tracing::warn!(%slot, dropped, "finished panes were dropped because no report took them");
                }
            }
            place.forget_idle_meters(floor);
        }
        let Table { wished, slots } = &mut *table;
        slots.retain(|slot, place| wished.contains(slot) || !place.is_spent(floor));
        taken
    }

    /// Closes all panes before their time, because the box is about to stop.
    pub fn close_panes(&self) {
        for place in self.0.read().slots.values() {
            place.meters.values().for_each(|meter| lock(&meter.panes).close());
        }
    }

    /// Takes the counts of requests since the last call: those in use first, at most what fits one report.
    pub fn stats(&self) -> Vec<ModelStats> {
        let floor = self.0.limits.floor;
        let table = self.0.read();
        let mut all = Vec::new();
        for (slot, place) in &table.slots {
            let current = place.current.as_ref().map(|serving| serving.bundle.sha256);
            for (&bundle, meter) in &place.meters {
                let in_use = current == Some(bundle);
                if in_use || !lock(&meter.stats).is_quiet(floor) {
                    all.push((!in_use, slot, bundle, meter));
                }
            }
        }
        all.sort_by_key(|&(idle, slot, bundle, _)| (idle, slot, bundle));
        let fitting = all.into_iter().take(SLOTS_MAX);
        fitting.map(|(_, slot, bundle, meter)| lock(&meter.stats).take(slot.clone(), bundle, floor)).collect()
    }

    /// Takes the sums of matured labels, as many blocks as fit one report.
    pub fn label_blocks(&self) -> Vec<LabelBlock> {
        let mut blocks = Vec::new();
        for place in self.0.read().slots.values() {
            blocks.extend(lock(&place.predictions).take_blocks(LABEL_BLOCKS_PER_REPORT_MAX - blocks.len()));
        }
        blocks
    }

    /// Takes what was compared in shadows since the last call, as many pairs of bundles as fit one report. `now` is world
    /// time.
    pub fn shadow_blocks(&self, now: Timestamp) -> Vec<ShadowBlock> {
        let floor = self.0.limits.floor;
        let mut blocks = Vec::new();
        for (slot, place) in &mut self.0.write().slots {
            place.take_compared();
            blocks.extend(place.compared.take(slot, now, floor, SLOTS_MAX - blocks.len()));
        }
        blocks
    }

    pub(super) fn world_now(&self) -> Timestamp {
        (self.0.world_now)()
    }

    pub(super) fn ready(&self) -> bool {
        let table = self.0.read();
        table.wished.iter().all(|slot| table.slots.get(slot).is_some_and(|place| place.current.is_some()))
    }

    pub(super) fn look_up(&self, name: &str) -> Lookup {
        let Ok(slot) = name.parse::<SlotName>() else { return Lookup::Unknown };
        let table = self.0.read();
        let place = table.slots.get(&slot);
        if let Some(reason) = place.and_then(|place| place.stopped.as_ref()) {
            return Lookup::Stopped(reason.clone());
        }
        match place.and_then(|place| Some((place, place.current.as_ref()?))) {
            Some((place, serving)) => {
                let (serving, predictions) = (Arc::clone(serving), Arc::clone(&place.predictions));
                let against = |shadow: &&Arc<Shadow>| shadow.against.sha256 == serving.bundle.sha256;
                let shadow = place.shadow.as_ref().filter(against).cloned();
                Lookup::Serving(Found { serving, predictions, shadow })
            }
            None if table.wished.contains(&slot) => Lookup::NotReady,
            None => Lookup::Unknown,
        }
    }

    /// The current and previous bundles of a slot, as they are at this moment.
    pub(super) fn pair(&self, slot: &SlotName) -> Option<(Arc<Serving>, Arc<Serving>)> {
        let table = self.0.read();
        let place = table.slots.get(slot)?;
        Some((Arc::clone(place.current.as_ref()?), Arc::clone(place.previous.as_ref()?)))
    }

    /// Every slot that serves or should, by name: what serves, or why nothing does.
    pub(super) fn list(&self) -> Vec<(SlotName, Result<Arc<Serving>, String>)> {
        let table = self.0.read();
        let serving = table.slots.iter().filter(|(_, place)| place.current.is_some()).map(|(slot, _)| slot);
        let names: BTreeSet<&SlotName> = table.wished.iter().chain(serving).collect();
        let current = |slot: &SlotName| {
            let place = table.slots.get(slot);
            let waits = || "ordered, and not ready yet".to_owned();
            let reason = || place.and_then(|place| place.stopped.clone()).unwrap_or_else(waits);
            place.and_then(|place| place.current.clone()).ok_or_else(reason)
        };
        names.into_iter().map(|slot| (slot.clone(), current(slot))).collect()
    }

    /// All that is loaded, by name: what serves and what would after going back.
    pub(super) fn loaded(&self) -> Vec<(SlotName, Arc<Serving>)> {
        let table = self.0.read();
        let both = table.slots.iter().flat_map(|(slot, place)| {
            let loaded = place.current.iter().chain(&place.previous);
            loaded.map(|serving| (slot.clone(), Arc::clone(serving)))
        });
        both.collect()
    }

    fn new_slot(&self, slot: &SlotName) -> Slot {
        let predictions = Predictions::new(slot.clone(), self.0.limits.ring, self.0.limits.floor);
        let predictions = Arc::new(Mutex::new(predictions));
        let (current, previous, stopped, meters, shadow, compared) = Default::default();
        Slot { current, previous, stopped, meters, predictions, shadow, compared }
    }
}

impl Slot {
    /// Meters whose bundle is neither current nor previous go once they hold nothing; the bound is for a box that
    /// swaps faster than it reports.
    fn forget_idle_meters(&mut self, floor: Floor) {
        let loaded = [&self.current, &self.previous];
        let kept: BTreeSet<Digest> =
            loaded.into_iter().flatten().map(|serving| serving.bundle.sha256).collect();
        let mut spare = METERS_MAX;
        self.meters.retain(|bundle, meter| {
            if kept.contains(bundle) {
                return true;
            }
            // A request in flight still holds it and will count.
            let in_use = Arc::strong_count(meter) > 1;
            let holds = in_use || !lock(&meter.panes).is_idle() || !lock(&meter.stats).is_quiet(floor);
            spare = spare.saturating_sub(usize::from(holds));
            holds && spare > 0
        });
    }

    fn take_compared(&mut self) {
        if let Some(shadow) = &self.shadow {
            let pair = Pair { bundle: shadow.bundle.sha256, against: shadow.against.sha256 };
            let fresh = shadow.take();
            self.compared.add(pair, fresh.rows, fresh.differed);
        }
    }

    /// What it compared until now is still told.
    fn end_shadow(&mut self) {
        self.take_compared();
        self.shadow = None;
    }

    fn is_spent(&self, floor: Floor) -> bool {
        self.current.is_none()
            && self.stopped.is_none()
            && self.meters.is_empty()
            && !lock(&self.predictions).has_blocks()
            && !self.compared.has_blocks(floor)
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that panicked while counting left a count behind, nothing worse: go on with it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
