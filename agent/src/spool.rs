//! The box's outbox: events and reports wait here, on disk, until the fleet has acknowledged that they are in its
//! database.
//!
//! ```text
//!   spool/<n>-<boot>/event-<first>.seg       appended, flushed before anything else happens
//!                   /report-<first>.seg      appended; a cut of power may cost the last ones
//! ```
//!
//! Bounded: beyond the bound the oldest report goes first, and is counted. What an earlier boot left is sent before
//! what this one adds, each numbered within its own boot, so that the fleet takes everything exactly once.
//! A message that is sent is not gone: only an acknowledgement removes it. Never reads the clock.

mod lane;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use muster_protocol::ids::BootId;
use muster_protocol::limits::{SPOOL_EVENTS_MAX, SPOOL_REPORTS_MAX};
use muster_protocol::message::{
    Ack, Event, EventKind, Message as _, MessageError, Outbound, Report, VERSION,
};
use muster_protocol::time::Timestamp;

use crate::disk::{self, DiskError};
use lane::Lane;

/// Entries sent and not yet acknowledged.
const IN_FLIGHT_MAX: usize = 64;
/// How many of those may be of earlier boots, so that a fleet that never acknowledges these still hears the rest.
const IN_FLIGHT_EARLIER_MAX: usize = 32;
/// What the streams are called on disk.
const EVENTS: &str = "event";
const REPORTS: &str = "report";
/// Without an acknowledgement for this long, an entry is sent again.
const ACK_SILENCE: Duration = Duration::from_secs(10);

/// Bounds of a spool.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub events: usize,
    pub reports: usize,
    pub report_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { events: SPOOL_EVENTS_MAX, reports: SPOOL_REPORTS_MAX, report_bytes: 32 * 1024 * 1024 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("the spool cannot be written or read")]
    Disk(#[from] DiskError),
    #[error("a report cannot be put into the spool")]
    Report(#[source] MessageError),
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub events: usize,
    pub reports: usize,
    pub report_bytes: u64,
}

/// What waits in a spool at rest. Reads only, because an agent may be at work in it: what that removes meanwhile does not
/// count, and what the fleet has acknowledged of a file that is still there does, as it would after a restart.
pub fn look(dir: &Path) -> Result<Waiting, SpoolError> {
    let mut waiting = Waiting::default();
    for boot in disk::list(dir)?.into_iter().filter(|path| name_of(path).is_some()) {
        waiting.events += lane::look(&boot, EVENTS)?.0;
        let (reports, bytes) = lane::look(&boot, REPORTS)?;
        waiting.reports += reports;
        waiting.report_bytes += bytes;
    }
    Ok(waiting)
}

#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    boot: BootId,
    bounds: Bounds,
    /// Oldest boot first, the present one last.
    boots: Vec<Boot>,
    dropped_reports: u64,
    dropped_events: u64,
}

#[derive(Debug)]
struct Boot {
    id: BootId,
    dir: PathBuf,
    events: Lane,
    reports: Lane,
}

impl Spool {
    /// Opens what earlier boots left and begins a new one.
    pub fn open(dir: &Path, boot: BootId, bounds: Bounds) -> Result<Self, SpoolError> {
        disk::create_dir(dir)?;
        let mut boots = Vec::new();
        let mut last = 0;
        for path in disk::list(dir)? {
            let Some((number, id)) = name_of(&path) else { continue };
            last = last.max(number);
            let boot = Boot::open(&path, id)?;
            if boot.events.is_empty() && boot.reports.is_empty() {
                boot.remove()?;
            } else {
                boots.push(boot);
            }
        }
        let path = dir.join(format!("{:08}-{boot}", last + 1));
        disk::create_dir(&path)?;
        boots.push(Boot::open(&path, boot.clone())?);
        Ok(Self { dir: dir.to_owned(), boot, bounds, boots, dropped_reports: 0, dropped_events: 0 })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Keeps an event; when this returns it survives a cut of power.
    pub fn event(&mut self, at: Timestamp, kind: EventKind) -> Result<u64, SpoolError> {
        let (v, boot) = (VERSION, self.boot.clone());
        let Some(present) = self.boots.last_mut() else { return Ok(0) };
        let sequence = present.events.next();
        let event = Event { v, boot, sequence, held_from: sequence, at, kind };
        present.events.append(&event.to_json(), lane::Durable::Yes)?;
        while self.events() > self.bounds.events {
            self.drop_oldest(|boot| &mut boot.events)?;
            self.dropped_events += 1;
            // The fleet sees the gap by `held_from`; here a person should.
            tracing::error!(
                dropped = self.dropped_events,
                "the spool is full of events and the oldest was dropped"
            );
        }
        Ok(sequence)
    }

    /// Keeps a report; its numbers are filled in here.
    pub fn report(&mut self, mut report: Report) -> Result<u64, SpoolError> {
        let Some(present) = self.boots.last_mut() else { return Ok(0) };
        report.boot = self.boot.clone();
        report.sequence = present.reports.next();
        report.held_from = report.sequence;
        let sequence = report.sequence;
        present.reports.append(&report.encode().map_err(SpoolError::Report)?, lane::Durable::No)?;
        while self.reports() > self.bounds.reports || self.report_bytes() > self.bounds.report_bytes {
            self.drop_oldest(|boot| &mut boot.reports)?;
            self.dropped_reports += 1;
        }
        Ok(sequence)
    }

    /// How many reports were dropped since this was asked last.
    pub fn take_dropped_reports(&mut self) -> u64 {
        std::mem::take(&mut self.dropped_reports)
    }

    /// Removes what the fleet has.
    pub fn acknowledge(&mut self, ack: &Ack) -> Result<(), SpoolError> {
        let present = self.boot.clone();
        let Some(at) = self.boots.iter().position(|boot| boot.id == ack.boot) else { return Ok(()) };
        let boot = &mut self.boots[at];
        boot.events.drop_through(ack.event)?;
        boot.reports.drop_through(ack.report)?;
        if boot.id != present && boot.events.is_empty() && boot.reports.is_empty() {
            self.boots.remove(at).remove()?;
        }
        Ok(())
    }

    /// What to send now, oldest first: what was not sent on this connection, and what was not acknowledged for long.
    pub fn due(&mut self, now: Instant) -> Result<Vec<Outbound>, SpoolError> {
        let mut due = Vec::new();
        let mut room = IN_FLIGHT_EARLIER_MAX;
        let earlier = self.boots.len().saturating_sub(1);
        for (i, boot) in self.boots.iter_mut().enumerate() {
            if i == earlier {
                room += IN_FLIGHT_MAX - IN_FLIGHT_EARLIER_MAX;
            }
            for (held_from, entry) in boot.events.due(now, ACK_SILENCE, &mut room)? {
                due.extend(renumber_event(&entry, held_from).map(Outbound::Event));
            }
            for (held_from, entry) in boot.reports.due(now, ACK_SILENCE, &mut room)? {
                due.extend(renumber_report(&entry, held_from).map(Outbound::Report));
            }
        }
        Ok(due)
    }

    /// A new connection: everything that is here is due.
    pub fn unsend(&mut self) {
        for boot in &mut self.boots {
            boot.events.unsend();
            boot.reports.unsend();
        }
    }

    /// Entries that wait.
    pub fn waiting(&self) -> usize {
        self.events() + self.reports()
    }

    fn events(&self) -> usize {
        self.boots.iter().map(|boot| boot.events.len()).sum()
    }

    fn reports(&self) -> usize {
        self.boots.iter().map(|boot| boot.reports.len()).sum()
    }

    fn report_bytes(&self) -> u64 {
        self.boots.iter().map(|boot| boot.reports.bytes()).sum()
    }

    fn drop_oldest(&mut self, lane: impl Fn(&mut Boot) -> &mut Lane) -> Result<(), SpoolError> {
        for boot in &mut self.boots {
            let lane = lane(boot);
            if let Some(oldest) = lane.first() {
                return Ok(lane.drop_through(oldest)?);
            }
        }
        Ok(())
    }
}

impl Boot {
    fn open(dir: &Path, id: BootId) -> Result<Self, DiskError> {
        let (events, reports) = (Lane::open(dir, EVENTS)?, Lane::open(dir, REPORTS)?);
        Ok(Self { id, dir: dir.to_owned(), events, reports })
    }

    fn remove(self) -> Result<(), DiskError> {
        std::fs::remove_dir_all(&self.dir).map_err(DiskError::io("remove", &self.dir))
    }
}

/// `00000012-b-…` → 12 and the boot.
fn name_of(path: &Path) -> Option<(u64, BootId)> {
    let (number, boot) = path.file_name()?.to_str()?.split_once('-')?;
    Some((number.parse().ok()?, boot.parse().ok()?))
}

fn renumber_event(bytes: &[u8], held_from: u64) -> Option<Event> {
    let event = Event::from_json(bytes).ok()?;
    Some(Event { held_from, ..event })
}

fn renumber_report(bytes: &[u8], held_from: u64) -> Option<Report> {
    let report = Report::decode(bytes).ok()?;
    Some(Report { held_from, ..report })
}

#[cfg(test)]
mod tests;
