//! What ingest remembers between batches, and what a batch adds to it once it is committed.
//!
//! ```text
//!   report ─▶ Page ── commit ─▶ Book ── every five minutes ─▶ rollups, positions, health
//! ```
//! All of it can be read again from the reports, so a lost book loses nothing: after a crash the boxes' positions are looked
//! up when they speak, and what no rollup holds yet is added up again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use muster_protocol::ids::{BootId, DeviceId};
use muster_protocol::message::{Health, Report};
use muster_protocol::time::Timestamp;

use super::take::{Place, place};
use crate::rollup::{Rollup, Step};
use crate::store::health::{self, HealthHours};
use crate::store::reports::{self, HealthAt, NewReport, Unrolled};
use crate::store::rollups::Rollups;
use crate::store::sources::{self, Source};
use crate::store::stats::{self, HourKey, Sums};
use crate::store::{StoreError, Telemetry, TelemetryTx};

/// Devices whose positions are remembered. Beyond it everything is forgotten and looked up again.
const DEVICES_MAX: usize = 200_000;
/// Rollups that may be open; with more they are written at once.
const OPEN_MAX: usize = 100_000;
/// Reports that are read at once when they are added up again.
const REREAD: u32 = 5_000;

/// What was committed.
#[derive(Debug, Default)]
pub(super) struct Book {
    sources: HashMap<DeviceId, Vec<Source>>,
    /// Positions that moved since they were last remembered.
    moved: BTreeMap<i64, u64>,
    open: Rollups,
    health: BTreeMap<i64, HealthAt>,
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
    hours: BTreeMap<HourKey, Sums>,
    health_hours: HealthHours,
    /// Devices of which boots were forgotten.
    trimmed: BTreeSet<DeviceId>,
}

/// What is to be written when rollups are closed.
#[derive(Debug)]
pub(super) struct Closing<'a> {
    pub(super) rollups: &'a Rollups,
    pub(super) positions: Vec<(i64, u64)>,
    pub(super) health: &'a BTreeMap<i64, HealthAt>,
    pub(super) last_id: i64,
}

impl Book {
    /// Begins where the last one ended, however it ended.
    pub(super) async fn open(db: &mut Telemetry) -> Result<Self, StoreError> {
        let mut book = Self { last_id: crate::store::rollups::last_report(db).await?, ..Self::default() };
        let mut after = 0;
        loop {
            let again = reports::unrolled(db, after, REREAD).await?;
            let Some(last) = again.last() else { return Ok(book) };
            after = last.id;
            for Unrolled { source, box_id, sequence, entry, .. } in again {
                // Once these reports are in the rollups, nothing else says how far their boots are safe.
                book.moved.insert(source, sequence);
                let rollup = Rollup::of(&entry.health, &entry.models);
                fold(&mut book.open, box_id, entry.measured, &rollup);
                book.health.insert(box_id, HealthAt { received: entry.received, health: entry.health });
            }
        }
    }

    /// Takes over what was committed.
    pub(super) fn take_over(&mut self, page: Page) {
        if self.sources.len() > DEVICES_MAX {
            self.sources.clear();
        }
        self.last_id = page.reports.last().map_or(self.last_id, |report| report.id);
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

    pub(super) fn closing(&self) -> Closing<'_> {
        Closing {
            rollups: &self.open,
            positions: self.moved.iter().map(|(id, contiguous)| (*id, *contiguous)).collect(),
            health: &self.health,
            last_id: self.last_id,
        }
    }

    /// What was [`Self::closing`] is committed.
    pub(super) fn closed(&mut self) {
        self.open.clear();
        self.moved.clear();
        self.health.clear();
    }
}

impl Page {
    /// Where a report stands to those before it; if it is the next one, it is taken.
    pub(super) async fn take(
        &mut self,
        book: &Book,
        tx: &mut TelemetryTx,
        device: &DeviceId,
        report: &Report,
        (measured, received): (Timestamp, Timestamp),
    ) -> Result<Place, StoreError> {
        let source = self.source(book, tx, device, &report.boot, received).await?;
        let place = place(source.contiguous, report.sequence, report.held_from);
        if place != Place::Next {
            return Ok(place);
        }
        let missed = report.sequence - 1 - source.contiguous;
        source.contiguous = report.sequence;
        if missed > 0 {
            source.lost = source.lost.saturating_add(missed);
            source.lost_since = source.lost_since.or(Some(received));
        }
        let (id, box_id) = (source.id, source.box_id);
        if missed > 0 {
            self.lost.insert((device.clone(), report.boot.clone()));
        }
        let number = self.reports.last().map_or(book.last_id, |last| last.id) + 1;
        self.reports.push(NewReport {
            id: number,
            source: id,
            sequence: report.sequence,
            measured,
            payload: reports::pack(report)?,
        });
        fold(&mut self.rollups, box_id, measured, &Rollup::of(&report.health, &report.models));
        self.health(box_id, received, &report.health);
        let hour = (device.clone(), health::hour_of(report.to));
        self.health_hours.entry(hour).or_default().add(&report.health);
        for model in &report.models {
            let hour = stats::hour_of(report.from);
            let key = (device.clone(), model.slot.clone(), model.bundle, hour);
            self.hours.entry(key).or_default().add(model);
        }
        Ok(Place::Next)
    }

    fn health(&mut self, box_id: i64, received: Timestamp, health: &Health) {
        self.health.insert(box_id, HealthAt { received, health: health.clone() });
    }

    /// How far reports of this boot are safe, as of this batch.
    pub(super) async fn position(
        &self,
        book: &Book,
        db: &mut Telemetry,
        device: &DeviceId,
        boot: &BootId,
    ) -> Result<u64, StoreError> {
        if let Some(source) = self.known(book, device, boot) {
            return Ok(source.contiguous);
        }
        Ok(sources::get(db, device, boot).await?.map_or(0, |source| source.contiguous))
    }

    /// How many reports were taken.
    pub(super) fn reports(&self) -> usize {
        self.reports.len()
    }

    /// Forgets the boots of a device that were silent for longest.
    pub(super) async fn trim(&mut self, tx: &mut TelemetryTx, device: &DeviceId) -> Result<(), StoreError> {
        self.trimmed.insert(device.clone());
        sources::trim(tx, device).await
    }

    /// Writes it all: a few statements, however many reports.
    pub(super) async fn write(&self, tx: &mut TelemetryTx, received: Timestamp) -> Result<(), StoreError> {
        reports::append(tx, &self.reports, received).await?;
        stats::add(tx, &self.hours).await?;
        health::add(tx, &self.health_hours).await?;
        for (device, boot) in &self.lost {
            let sources = self.sources.get(device).into_iter().flatten();
            for source in sources.filter(|source| source.boot == *boot) {
                sources::lose(tx, source).await?;
            }
        }
        Ok(())
    }

    fn known<'a>(&'a self, book: &'a Book, device: &DeviceId, boot: &BootId) -> Option<&'a Source> {
        let of = |sources: &'a Vec<Source>| sources.iter().find(|source| source.boot == *boot);
        self.sources.get(device).and_then(of).or_else(|| book.sources.get(device).and_then(of))
    }

    async fn source(
        &mut self,
        book: &Book,
        tx: &mut TelemetryTx,
        device: &DeviceId,
        boot: &BootId,
        at: Timestamp,
    ) -> Result<&mut Source, StoreError> {
        let here = |sources: &Vec<Source>| sources.iter().position(|source| source.boot == *boot);
        let index = if let Some(index) = self.sources.get(device).and_then(here) {
            index
        } else {
            let source = match self.known(book, device, boot) {
                Some(known) => known.clone(),
                None => match sources::get(tx, device, boot).await? {
                    Some(found) => found,
                    None => sources::add(tx, device, boot, at).await?,
                },
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

fn fold(rollups: &mut Rollups, box_id: i64, measured: Timestamp, rollup: &Rollup) {
    rollups.entry((box_id, measured.floor_to(Step::FiveMinutes.span()))).or_default().add(rollup);
}
