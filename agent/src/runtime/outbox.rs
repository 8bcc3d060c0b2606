//! What the agent says and when: hello once a connection, state when it changes and until it is acknowledged, reports on
//! the world's time, events at once. Everything but the state waits in the spool; of the state the latest wins.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use muster_protocol::enrol::Fingerprint;
use muster_protocol::message::{
    Ack, EventKind, Hello, Outbound, Phase, Refusal, Report, Sentence, SlotState, State, VERSION,
};
use muster_protocol::time::Timestamp;

use super::agent::Agent;
use crate::chain;
use crate::clock::monotonic;
use crate::engine;
use crate::report::Counted;
use crate::spool::Spool;
use crate::trust::notices;

/// The state is sent again if it is not acknowledged for this long.
const STATE_SILENCE: Duration = Duration::from_secs(10);
/// Mere progress of a download is told this often at most.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// However fast the world runs, a report is made this often at most.
const REPORT_MIN: Duration = Duration::from_millis(100);
/// Unreadable messages are spoken of this often at most.
const MALFORMED_EVERY: Duration = Duration::from_mins(1);
/// Events that the disk did not take, waiting for it to recover.
const UNSPOOLED_MAX: usize = 256;
/// Batches of panes and label blocks taken at once.
const DRAINS_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Outbox {
    spool: Spool,
    unspooled: VecDeque<(Timestamp, EventKind)>,
    connection: Option<u64>,
    state: Option<State>,
    state_sent: Option<(u64, Instant)>,
    state_acknowledged: u64,
    report_at: Option<Instant>,
    report_from: Timestamp,
    malformed: Malformed,
}

#[derive(Debug, Default)]
struct Malformed {
    total: u64,
    unsaid: u64,
    latest: String,
    said: Option<Instant>,
}

impl Outbox {
    pub(super) fn new(spool: Spool, report_from: Timestamp) -> Self {
        Self {
            spool,
            unspooled: VecDeque::new(),
            connection: None,
            state: None,
            state_sent: None,
            state_acknowledged: 0,
            report_at: None,
            report_from,
            malformed: Malformed::default(),
        }
    }

    pub(super) fn is_linked(&self) -> bool {
        self.connection.is_some()
    }

    pub(super) fn next(&self, now: Instant) -> Instant {
        self.report_at.unwrap_or(now)
    }

    pub(super) fn event(&mut self, at: Timestamp, kind: EventKind) {
        self.unspooled.push_back((at, kind));
        self.spool_events();
    }

    pub(super) fn malformed(&mut self, topic: &str, reason: &str) {
        let Malformed { total, unsaid, latest, .. } = &mut self.malformed;
        *total += 1;
        *unsaid += 1;
        *latest = format!("a message on '{topic}' could not be read: {reason}");
        tracing::warn!(topic, reason, total, "a message could not be read and was dropped");
    }

    /// An event that the disk does not take waits in memory, so that a full disk does not make the box silent about it.
    fn spool_events(&mut self) {
        while let Some((at, kind)) = self.unspooled.front() {
            if let Err(error) = self.spool.event(*at, kind.clone()) {
                tracing::error!(error = chain(&error), "an event cannot be kept yet");
                if self.unspooled.len() > UNSPOOLED_MAX {
                    tracing::error!(event = ?self.unspooled.pop_front(), "an event is lost");
                }
                return;
            }
            self.unspooled.pop_front();
        }
    }

    fn spool_reports(&mut self, reports: Vec<Report>) {
        for report in reports {
            if let Err(error) = self.spool.report(report) {
                tracing::error!(error = chain(&error), "a report cannot be kept and is lost");
            }
        }
    }

    /// Counts that are worth an event now.
    fn counted(&mut self, now: Instant) -> Vec<EventKind> {
        let mut kinds = Vec::new();
        // Told when somebody hears it, so that a long time offline makes one event and not one for each report.
        if self.is_linked() {
            match self.spool.take_dropped_reports() {
                0 => {}
                reports => kinds.push(EventKind::TelemetryDropped { reports }),
            }
        }
        let Malformed { unsaid, latest, said, .. } = &mut self.malformed;
        let may_say = said.is_none_or(|said| now.saturating_duration_since(said) >= MALFORMED_EVERY);
        if *unsaid > 0 && may_say {
            *said = Some(now);
            let (count, sentence) = (std::mem::take(unsaid), Sentence::from(std::mem::take(latest)));
            kinds.push(EventKind::Malformed { count, sentence });
        }
        kinds
    }

    fn acknowledged(&mut self, ack: &Ack, own: bool) {
        if let Err(error) = self.spool.acknowledge(ack) {
            tracing::error!(error = chain(&error), "cannot remove what the fleet has from the spool");
        }
        if own {
            self.state_acknowledged = self.state_acknowledged.max(ack.state);
        }
    }
}

impl Agent {
    pub(super) fn linked(&mut self, connection: u64, key: Fingerprint) {
        self.member.key = Some(key);
        self.outbox.connection = Some(connection);
        self.outbox.state_sent = None;
        self.outbox.spool.unsend();
        self.relink();
        self.expect_trust();
        self.hello(connection);
    }

    pub(super) fn unlinked(&mut self, reason: &str) {
        if self.outbox.connection.take().is_some() {
            tracing::warn!(reason, "offline; what there is to say waits in the spool");
        }
    }

    pub(super) fn acknowledged(&mut self, ack: &Ack) {
        let own = ack.boot == self.boot;
        self.outbox.acknowledged(ack, own);
    }

    /// Says what is due.
    pub(super) fn speak(&mut self) {
        let now = monotonic();
        self.report(now);
        let at = self.parts.clock.now();
        for kind in self.outbox.counted(now) {
            self.outbox.event(at, kind);
        }
        self.outbox.spool_events();
        self.renew_state(at);
        if !self.outbox.is_linked() {
            return;
        }
        self.send_state(now);
        match self.outbox.spool.due(now) {
            Ok(due) => {
                for outbound in due {
                    self.say(&outbound);
                }
            }
            Err(error) => tracing::error!(error = chain(&error), "the spool cannot be read"),
        }
    }

    fn hello(&self, connection: u64) {
        let member = &self.member;
        let hello = Hello {
            v: VERSION,
            boot: self.boot.clone(),
            connection,
            name: member.name.clone(),
            site: member.enrolment.site.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: self.parts.capabilities.clone(),
            order_version: self.trust.versions().order,
            root: Some(self.trust.versions().trusted.root),
            certificate_expires: member.expires,
            facts: Some(member.facts.clone()),
            key: member.key,
        };
        self.say(&Outbound::Hello(hello));
    }

    /// Says who this box is once more: what it trusts or shows has changed within a connection.
    pub(super) fn hello_again(&self) {
        if let Some(connection) = self.outbox.connection {
            self.hello(connection);
        }
    }

    /// What the queue does not take is said again after its silence.
    fn say(&self, outbound: &Outbound) {
        if !self.parts.link.send(outbound) {
            tracing::debug!(kind = outbound.up().as_str(), "the link is behind; this will be said again");
        }
    }

    fn report(&mut self, now: Instant) {
        let every = self.parts.world.wall_span(self.parts.config.report_every).max(REPORT_MIN);
        let due = *self.outbox.report_at.get_or_insert(now + every);
        if now < due {
            return;
        }
        // After a pause (the machine slept, the disk hung) there is one report for it all, not one for each interval.
        self.outbox.report_at = Some(now + every);
        self.report_now(now);
    }

    /// What was counted and not told yet goes to the spool, for the next life to send.
    pub(super) fn last_report(&mut self) {
        self.parts.slots.close_panes();
        self.report_now(monotonic());
    }

    fn report_now(&mut self, now: Instant) {
        let to = self.parts.world.now();
        let (models, shadows) = (self.parts.slots.stats(), self.parts.slots.shadow_blocks(to));
        let mut counted = Counted { models, shadows, ..Counted::default() };
        for _ in 0..DRAINS_MAX {
            let (panes, labels) = (self.parts.slots.panes(to), self.parts.slots.label_blocks());
            if panes.is_empty() && labels.is_empty() {
                break;
            }
            counted.panes.extend(panes);
            counted.labels.extend(labels);
        }
        let health = self.probe.look(now, self.outbox.spool.waiting());
        let reports = counted.into_reports(&self.boot, self.outbox.report_from, to, &health);
        self.outbox.report_from = to;
        self.outbox.spool_reports(reports);
    }

    fn renew_state(&mut self, at: Timestamp) {
        let sequence = self.outbox.state.as_ref().map_or(0, |state| state.sequence);
        let next = State {
            v: VERSION,
            boot: self.boot.clone(),
            sequence,
            at: self.outbox.state.as_ref().map_or(at, |state| state.at),
            observed_generation: self.ledger.wish().map_or(0, |wish| wish.generation),
            catalogue: self.trust.versions().trusted.targets.unwrap_or(0),
            refusal: self.orders.refusal(monotonic()),
            notices: self.all_notices(at),
            leases: self.leases(),
            captures: self.captures.states().to_vec(),
            slots: self.slot_states(),
        };
        if self.outbox.state.as_ref() == Some(&next) {
            return;
        }
        let next = State { sequence: sequence + 1, at, ..next };
        self.show(&next);
        if self.outbox.state.as_ref().is_none_or(|before| news(before, &next)) {
            self.outbox.state_sent = None;
        }
        self.outbox.state = Some(next);
    }

    fn all_notices(&self, at: Timestamp) -> Vec<Refusal> {
        let mut notices = notices(self.trust.trusted(), self.parts.clock.machine(), at);
        notices.extend(self.member.trouble.clone());
        notices
    }

    fn slot_states(&self) -> Vec<SlotState> {
        if self.restoring {
            let current =
                |record: &crate::ledger::SlotRecord| record.current.as_ref().map(|c| c.bundle.clone());
            let loading = self.records.iter().filter(|(slot, _)| !self.stopped.contains(*slot));
            let slots = loading.filter_map(|(slot, record)| {
                let phase = Phase::Activating { bundle: current(record)? };
                Some(SlotState { slot: slot.clone(), phase, current: None, previous: None, notice: None })
            });
            return slots.collect();
        }
        let slots = self.phases().iter().map(|(slot, phase)| {
            let record = self.records.get(slot);
            let answering = record.filter(|_| !self.stopped.contains(slot));
            let current = answering.and_then(|record| record.current.clone());
            let previous =
                record.and_then(|record| record.previous.as_ref()).map(|running| running.bundle.clone());
            let (phase, notice) = (phase.clone(), self.notice(slot));
            SlotState { slot: slot.clone(), phase, current, previous, notice }
        });
        slots.collect()
    }

    /// Beside the state, what only this box can show: which libraries this process really runs.
    fn show(&self, state: &State) {
        let mut shown = serde_json::to_value(state).unwrap_or_default();
        if let Some(fields) = shown.as_object_mut() {
            let runtime = serde_json::json!({
                "version": self.parts.workbench.engine.runtime_version(),
                "libraries": engine::mapped_libraries(),
            });
            fields.insert("pid".to_owned(), std::process::id().into());
            fields.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
            fields.insert("device".to_owned(), self.device.as_str().into());
            fields.insert("member".to_owned(), self.member.shown());
            fields.insert("runtime".to_owned(), runtime);
        }
        self.parts.state.send_replace(shown);
        let wished = self.ledger.wish().into_iter().flat_map(|wish| wish.slots.keys());
        self.parts.slots.wish(wished.chain(self.records.keys()).cloned().collect());
    }

    fn send_state(&mut self, now: Instant) {
        let Some(state) = &self.outbox.state else { return };
        let silent = match self.outbox.state_sent {
            None => Some(false),
            Some((sequence, at)) if sequence < state.sequence => {
                (now.saturating_duration_since(at) >= PROGRESS_EVERY).then_some(false)
            }
            Some((sequence, at)) => {
                let waits = self.outbox.state_acknowledged < sequence;
                (waits && now.saturating_duration_since(at) >= STATE_SILENCE).then_some(true)
            }
        };
        let Some(silent) = silent else { return };
        let sequence = state.sequence;
        if self.parts.link.send(&Outbound::State(state.clone())) {
            self.outbox.state_sent = Some((sequence, now));
        }
        if let (true, Some(connection)) = (silent, self.outbox.connection) {
            // Nobody answered: perhaps the fleet came to the broker after us, and missed the first words too.
            self.hello(connection);
        }
    }
}

/// Whether more changed than the bytes of a download.
fn news(before: &State, after: &State) -> bool {
    let still = |state: &State| {
        let mut state = State { sequence: 0, at: Timestamp::default(), ..state.clone() };
        for slot in &mut state.slots {
            if let Phase::Downloading { received_bytes, .. } = &mut slot.phase {
                *received_bytes = 0;
            }
        }
        state
    };
    still(before) != still(after)
}

#[cfg(test)]
mod tests {
    use muster_protocol::ids::{BootId, Digest};
    use muster_protocol::message::up::BundleRef;

    use super::*;

    fn state(received_bytes: u64, generation: u64) -> State {
        let bundle = BundleRef { path: "bundles/m/1.json".parse().unwrap(), sha256: Digest::of(b"") };
        let phase = Phase::Downloading { bundle, received_bytes, total_bytes: 9 };
        State {
            v: VERSION,
            boot: BootId::mint([1; 16]),
            sequence: received_bytes,
            at: Timestamp::default(),
            observed_generation: generation,
            catalogue: 1,
            refusal: None,
            notices: vec![],
            leases: Vec::new(),
            captures: Vec::new(),
            slots: vec![SlotState {
                slot: "m".parse().unwrap(),
                phase,
                current: None,
                previous: None,
                notice: None,
            }],
        }
    }

    #[test]
    fn progress_alone_is_no_news() {
        assert!(!news(&state(1, 1), &state(2, 1)));
        assert!(news(&state(1, 1), &state(1, 2)));
    }

    #[test]
    fn unreadable_messages_are_counted_and_spoken_of_now_and_then() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), BootId::mint([1; 16]), crate::spool::Bounds::default()).unwrap();
        let mut outbox = Outbox::new(spool, Timestamp::default());
        let now = monotonic();
        outbox.malformed("ack", "it is no JSON");
        let said = outbox.counted(now);
        assert!(matches!(said.as_slice(), [EventKind::Malformed { count: 1, .. }]), "{said:?}");
        outbox.malformed("ack", "it is no JSON");
        outbox.malformed("order", "it is too long");
        assert_eq!(outbox.counted(now), vec![]);
        let said = outbox.counted(now + MALFORMED_EVERY);
        assert!(
            matches!(said.as_slice(), [EventKind::Malformed { count: 2, sentence }] if sentence.as_str().contains("order"))
        );
    }
}
