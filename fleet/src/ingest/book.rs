//! What ingest remembers between batches, and what a batch adds to it.
//!
//! ```text
//!   report ─▶ Page ── judged ─▶ Book ── every five minutes ─▶ rollups, positions, health
//!                                     └ at once, or every minute while messages wait ─▶ hours, windows, days
//! ```
//! It is ahead of the database by the batch that is being written; should that fail, the book goes with it.
//! All of it can be read again from the reports, so a lost book loses nothing: after a crash the boxes' positions are looked
//! up when they speak, and what no rollup holds yet is added up again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use muster_protocol::ids::{BootId, DeviceId, Digest, SlotName};
use muster_protocol::message::{Health, Report};
use muster_protocol::time::Timestamp;

use super::Load;
use super::flight::Writing;
use super::owed::Owed;
use super::take::{Place, place};
use crate::rollup::{Rollup, Step};
use crate::store::positions::{self, Safe};
use crate::store::reports::{self, HealthAt, Measured, NewReport, Unrolled};
use crate::store::rollups::Rollups;
use crate::store::sources::{self, Source};
use crate::store::stats::Sums;
use crate::store::{COUNT_MAX, Control, StoreError, Telemetry, TelemetryTx, stats};

/// Devices whose positions are remembered. Beyond it everything is forgotten and looked up again.
const DEVICES_MAX: usize = 200_000;
/// Rollups that may be open; with more they are written at once.
const OPEN_MAX: usize = 100_000;
/// Reports that are read at once when they are added up again.
const REREAD: u32 = 5_000;
/// Reports that a boot can have given up, as far as they are counted: so the losses of a whole fleet add up.
const LOST_MAX: u64 = COUNT_MAX;

/// What was judged.
#[derive(Debug, Default)]
pub(super) struct Book {
    sources: HashMap<DeviceId, Vec<Source>>,
    /// Positions that moved since they were last remembered.
    moved: BTreeMap<i64, u64>,
    open: Rollups,
    health: BTreeMap<i64, HealthAt>,
    /// Of reports that are committed, and not in the sums yet.
    owed: Owed,
    /// When nothing was owed last.
    settled: Timestamp,
    /// States and events, of boots that spoke.
    safe: HashMap<(DeviceId, BootId), Safe>,
    /// The highest report.
    last_id: i64,
}

/// What a batch adds. Dropped with the transaction if that fails.
#[derive(Debug, Default)]
pub(super) struct Page {
    sources: BTreeMap<DeviceId, Vec<Source>>,
    lost: BTreeSet<(DeviceId, BootId)>,
    reports: Vec<NewReport>,
    rollups: Rollups,
    health: BTreeMap<i64, HealthAt>,
    owed: Owed,
    served: BTreeMap<(SlotName, Digest), Sums>,
    /// Boots whose states or events were written.
    written: BTreeSet<(DeviceId, BootId)>,
    safe: BTreeMap<(DeviceId, BootId), Safe>,
    /// The last report of it, once its entries were taken out.
    last_id: Option<i64>,
    /// Whether the sums are written with it.
    settles: bool,
    /// Devices of which boots were forgotten.
    trimmed: BTreeSet<DeviceId>,
}

/// What a batch writes at its end: a few statements, however many reports.
#[derive(Debug)]
pub(super) struct Entries {
    reports: Vec<NewReport>,
    lost: Vec<Source>,
    /// With the last report that is in them.
    sums: Option<(Owed, i64)>,
}

/// What is to be written when rollups are closed.
#[derive(Debug)]
pub(super) struct Closing<'a> {
    pub(super) rollups: &'a Rollups,
    pub(super) positions: Vec<(i64, u64)>,
    pub(super) health: &'a BTreeMap<i64, HealthAt>,
    pub(super) owed: &'a Owed,
    pub(super) last_id: i64,
}

impl Book {
    /// Begins where the last one ended, however it ended.
    pub(super) async fn open(db: &mut Telemetry) -> Result<Self, StoreError> {
        let summed = stats::summed(db).await?;
        let mut book = Self { last_id: crate::store::rollups::last_report(db).await?, ..Self::default() };
        let mut after = 0;
        loop {
            let again = reports::unrolled(db, after, REREAD).await?;
            let Some(last) = again.last() else { return Ok(book) };
            after = last.id;
            for Unrolled { id, source, device, box_id, sequence, entry, measured } in again {
                if id > summed {
                    book.owed.add(&device, (entry.from, entry.to), &entry.health, &entry.models);
                    book.owed.measured(&device, measured);
                }
                // Once these reports are in the rollups, nothing else says how far their boots are safe.
                book.moved.insert(source, sequence);
                let rollup = Rollup::of(&entry.health, &entry.models);
                fold(&mut book.open, box_id, entry.measured, &rollup);
                book.health.insert(box_id, HealthAt { received: entry.received, health: entry.health });
            }
        }
    }

    /// Takes over what is written. Without the commit the book is true no longer.
    pub(super) fn take_over(&mut self, page: Page, at: Timestamp) {
        if self.sources.len() > DEVICES_MAX {
            self.sources.clear();
        }
        if self.safe.len() > DEVICES_MAX {
            self.safe.clear();
        }
        self.last_id = page.last_id(self);
        if page.settles {
            self.owed = Owed::default();
            self.settled = at;
        } else {
            self.owed.merge(page.owed);
        }
        self.safe.extend(page.safe);
        for (device, sources) in page.sources {
            let known = self.sources.entry(device).or_default();
            for source in sources {
                self.moved.insert(source.id, source.contiguous);
                known.retain(|known| known.id != source.id);
                known.push(source);
            }
        }
        for device in page.trimmed {
            self.sources.remove(&device);
        }
        for ((box_id, starts), rollup) in page.rollups {
            self.open.entry((box_id, starts)).or_default().add(&rollup);
        }
        self.health.extend(page.health);
    }

    pub(super) fn is_full(&self) -> bool {
        self.open.len() > OPEN_MAX
    }

    /// Rollups that are not written yet.
    pub(super) fn open_rollups(&self) -> usize {
        self.open.len()
    }

    /// Whether sums wait to be written.
    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    pub(super) fn closing(&self) -> Closing<'_> {
        Closing {
            rollups: &self.open,
            positions: self.moved.iter().map(|(id, contiguous)| (*id, *contiguous)).collect(),
            health: &self.health,
            owed: &self.owed,
            last_id: self.last_id,
        }
    }

    /// What was [`Self::closing`] is committed.
    pub(super) fn closed(&mut self) {
        self.open.clear();
        self.moved.clear();
        self.health.clear();
        self.owed = Owed::default();
    }
}

impl Page {
    /// Sums may wait while messages do.
    pub(super) fn new(book: &Book, received: Timestamp, load: Load) -> Self {
        let settles = match load {
            Load::Light => true,
            Load::Heavy => book.owed.are_due(book.settled, received),
        };
        Self { settles, ..Self::default() }
    }

    /// Where a report stands to those before it; if it is the next one, it is taken.
    pub(super) async fn take(
        &mut self,
        book: &Book,
        writing: &mut Writing,
        device: &DeviceId,
        report: &Report,
        (measured, received): (Timestamp, Timestamp),
    ) -> Result<Place, StoreError> {
        let source = self.source(book, writing, device, &report.boot, received).await?;
        let place = place(source.contiguous, report.sequence, report.held_from);
        if place != Place::Next {
            return Ok(place);
        }
        let missed = report.sequence - 1 - source.contiguous;
        source.contiguous = report.sequence;
        if missed > 0 {
            source.lost = source.lost.saturating_add(missed).min(LOST_MAX);
            source.lost_since = source.lost_since.or(Some(received));
        }
        let (id, box_id) = (source.id, source.box_id);
        if missed > 0 {
            self.lost.insert((device.clone(), report.boot.clone()));
        }
        let number = self.last_id(book) + 1;
        self.reports.push(NewReport {
            id: number,
            source: id,
            sequence: report.sequence,
            measured,
            payload: reports::pack(report)?,
        });
        fold(&mut self.rollups, box_id, measured, &Rollup::of(&report.health, &report.models));
        self.health(box_id, received, &report.health);
        for model in &report.models {
            self.served.entry((model.slot.clone(), model.bundle)).or_default().add(model);
        }
        self.owed.add(device, (report.from, report.to), &report.health, &report.models);
        Ok(Place::Next)
    }

    /// Takes what the report measured that was taken last. It is kept with the report while the sums wait for it.
    pub(super) fn measured(&mut self, device: &DeviceId, measured: Measured) -> Result<(), StoreError> {
        if !self.settles
            && let Some(report) = self.reports.last_mut()
        {
            report.payload = reports::pack_measured(std::mem::take(&mut report.payload), &measured)?;
        }
        self.owed.measured(device, measured);
        Ok(())
    }

    fn health(&mut self, box_id: i64, received: Timestamp, health: &Health) {
        self.health.insert(box_id, HealthAt { received, health: health.clone() });
    }

    /// How far reports of this boot are safe, as of this batch.
    pub(super) async fn position(
        &self,
        book: &Book,
        writing: &mut Writing,
        device: &DeviceId,
        boot: &BootId,
    ) -> Result<u64, StoreError> {
        if let Some(source) = self.known(book, device, boot) {
            return Ok(source.contiguous);
        }
        let found = sources::get(writing.tx().await?, device, boot).await?;
        Ok(found.map_or(0, |source| source.contiguous))
    }

    /// What its reports tell of requests.
    pub(super) fn served(&mut self) -> BTreeMap<(SlotName, Digest), Sums> {
        std::mem::take(&mut self.served)
    }

    /// Forgets the boots of a device that were silent for longest.
    pub(super) async fn trim(&mut self, writing: &mut Writing, device: &DeviceId) -> Result<(), StoreError> {
        self.trimmed.insert(device.clone());
        sources::trim(writing.tx().await?, device).await
    }

    /// Notes that a state or an event of this boot was written.
    pub(super) fn wrote(&mut self, device: &DeviceId, boot: &BootId) {
        self.written.insert((device.clone(), boot.clone()));
    }

    /// How far states and events of these boots are safe, asked of the database where it is not known.
    pub(super) async fn safe(
        &mut self,
        book: &Book,
        db: &mut Control,
        boots: &BTreeSet<(DeviceId, BootId)>,
    ) -> Result<BTreeMap<(DeviceId, BootId), Safe>, StoreError> {
        let mut all = BTreeMap::new();
        let mut unknown = Vec::new();
        for boot in boots {
            match book.safe.get(boot) {
                Some(safe) if !self.written.contains(boot) => {
                    all.insert(boot.clone(), *safe);
                }
                Some(_) | None => unknown.push(boot),
            }
        }
        let found = positions::of(db, unknown.iter().copied()).await?;
        for boot in unknown {
            self.safe.insert(boot.clone(), found.get(boot).copied().unwrap_or_default());
        }
        all.extend(self.safe.iter().map(|(boot, safe)| (boot.clone(), *safe)));
        Ok(all)
    }

    fn last_id(&self, book: &Book) -> i64 {
        self.last_id.or(self.reports.last().map(|report| report.id)).unwrap_or(book.last_id)
    }

    /// Takes out what is to be written, with what is owed if that is settled.
    pub(super) fn entries(&mut self, book: &mut Book) -> Entries {
        let last_id = self.last_id(book);
        self.last_id = Some(last_id);
        let sums = (self.settles && (book.owes() || !self.owed.is_empty())).then(|| {
            let mut all = std::mem::take(&mut book.owed);
            all.merge(std::mem::take(&mut self.owed));
            (all, last_id)
        });
        let lost = self.lost.iter().filter_map(|(device, boot)| {
            self.sources.get(device).and_then(|sources| sources.iter().find(|source| source.boot == *boot))
        });
        Entries { lost: lost.cloned().collect(), reports: std::mem::take(&mut self.reports), sums }
    }

    fn known<'a>(&'a self, book: &'a Book, device: &DeviceId, boot: &BootId) -> Option<&'a Source> {
        let of = |sources: &'a Vec<Source>| sources.iter().find(|source| source.boot == *boot);
        self.sources.get(device).and_then(of).or_else(|| book.sources.get(device).and_then(of))
    }

    async fn source(
        &mut self,
        book: &Book,
        writing: &mut Writing,
        device: &DeviceId,
        boot: &BootId,
        at: Timestamp,
    ) -> Result<&mut Source, StoreError> {
        let here = |sources: &Vec<Source>| sources.iter().position(|source| source.boot == *boot);
        let index = if let Some(index) = self.sources.get(device).and_then(here) {
            index
        } else {
            let source = if let Some(known) = self.known(book, device, boot) {
                known.clone()
            } else {
                let tx = writing.tx().await?;
                match sources::get(tx, device, boot).await? {
                    Some(found) => found,
                    None => sources::add(tx, device, boot, at).await?,
                }
            };
            let sources = self.sources.entry(device.clone()).or_default();
            sources.push(source);
            sources.len() - 1
        };
        let sources = self.sources.entry(device.clone()).or_default();
        // The index was found or made just now.
        sources
            .get_mut(index)
            .ok_or(StoreError::Corrupt { what: "position", reason: "it was not kept".to_owned() })
    }
}

impl Entries {
    pub(super) fn is_empty(&self) -> bool {
        let Self { reports, lost, sums } = self;
        reports.is_empty() && lost.is_empty() && sums.is_none()
    }

    /// How many reports were taken.
    pub(super) fn reports(&self) -> usize {
        self.reports.len()
    }

    /// Returns how many panes do not fit those before them.
    pub(super) async fn write(&self, tx: &mut TelemetryTx, received: Timestamp) -> Result<u64, StoreError> {
        reports::append(tx, &self.reports, received).await?;
        for source in &self.lost {
            sources::lose(tx, source).await?;
        }
        match &self.sums {
            Some((sums, last_id)) => sums.write(tx, *last_id, received).await,
            None => Ok(0),
        }
    }
}

fn fold(rollups: &mut Rollups, box_id: i64, measured: Timestamp, rollup: &Rollup) {
    rollups.entry((box_id, measured.floor_to(Step::FiveMinutes.span()))).or_default().add(rollup);
}
