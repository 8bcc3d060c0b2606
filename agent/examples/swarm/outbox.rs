//! What waits for the fleet's word that it has it: events and reports in their order, and the newest state.

use std::collections::VecDeque;
use std::time::Duration;

use muster_agent::link::Link;
use muster_protocol::ids::BootId;
use muster_protocol::message::{Ack, Event, EventKind, Outbound, Report, State, VERSION};
use muster_protocol::time::Timestamp;
use tokio::time::Instant;

/// Said again if nobody says that he has it.
const SILENCE: Duration = Duration::from_secs(10);
/// Reports that nobody took; the oldest go first, as they do in a full spool.
const REPORTS_MAX: usize = 8;

#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) boot: BootId,
    events: VecDeque<Event>,
    reports: VecDeque<Report>,
    state: Option<State>,
    sequences: Sequences,
    said: Option<Instant>,
}

/// The last numbers given.
#[derive(Debug, Default)]
struct Sequences {
    event: u64,
    report: u64,
    state: u64,
}

impl Outbox {
    pub(crate) fn new(boot: BootId) -> Self {
        let (events, reports, sequences) = (VecDeque::new(), VecDeque::new(), Sequences::default());
        Self { boot, events, reports, state: None, sequences, said: None }
    }

    pub(crate) fn event(&mut self, link: &Link, at: Timestamp, kind: EventKind) {
        self.sequences.event += 1;
        let (boot, sequence) = (self.boot.clone(), self.sequences.event);
        let held_from = self.events.front().map_or(sequence, |event| event.sequence);
        let event = Event { v: VERSION, boot, sequence, held_from, at, kind };
        link.send(&Outbound::Event(event.clone()));
        self.events.push_back(event);
    }

    /// `report` without its numbers.
    pub(crate) fn report(&mut self, link: &Link, mut report: Report) {
        self.sequences.report += 1;
        report.sequence = self.sequences.report;
        report.held_from = self.reports.front().map_or(report.sequence, |report| report.sequence);
        link.send(&Outbound::Report(report.clone()));
        self.reports.push_back(report);
        if self.reports.len() > REPORTS_MAX {
            self.reports.pop_front();
        }
    }

    /// `state` without its number; said only if it says something new.
    pub(crate) fn state(&mut self, link: &Link, mut state: State, at: Instant) {
        if let Some(before) = &self.state {
            (state.sequence, state.at) = (before.sequence, before.at);
            if state == *before {
                return;
            }
        }
        self.sequences.state += 1;
        state.sequence = self.sequences.state;
        link.send(&Outbound::State(state.clone()));
        self.said = Some(at);
        self.state = Some(state);
    }

    pub(crate) fn acknowledged(&mut self, ack: &Ack) {
        if ack.boot != self.boot {
            return;
        }
        self.events.retain(|event| event.sequence > ack.event);
        self.reports.retain(|report| report.sequence > ack.report);
        if self.state.as_ref().is_some_and(|state| state.sequence <= ack.state) {
            self.said = None;
        }
    }

    /// When something is said again at the latest.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.said.map(|said| said + SILENCE)
    }

    /// Everything that nobody has said he has.
    pub(crate) fn again(&mut self, link: &Link, at: Instant) {
        let held = self.events.front().map(|event| event.sequence);
        for event in &mut self.events {
            event.held_from = held.unwrap_or(event.sequence);
            link.send(&Outbound::Event(event.clone()));
        }
        let held = self.reports.front().map(|report| report.sequence);
        for report in &mut self.reports {
            report.held_from = held.unwrap_or(report.sequence);
            link.send(&Outbound::Report(report.clone()));
        }
        if let Some(state) = &self.state {
            link.send(&Outbound::State(state.clone()));
            self.said = Some(at);
        }
    }
}
