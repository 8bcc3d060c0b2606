//! One fact into the databases.
//!
//! Events and reports are taken go-back-N: the next number only. `held_from` says that what is missing below it is gone
//! for good, so that the position may jump over it. A state is whole: the newest wins.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use muster_protocol::ids::{BootId, DeviceId, Digest};
use muster_protocol::message::{Event, Hello, Pane, Presence, Report, Sentence, State, Status};
use muster_protocol::time::Timestamp;
use muster_protocol::topic::{Down, Topic};

use super::book::{Book, Page};
use super::decode::Fact;
use super::flight::{Greetings, Writing};
use super::{IngestCounters, count, words};
use crate::clock::{Clocks, Moment};
use crate::enrolment::{Identity, Standing, StandingName};
use crate::store::devices::Greeting;
use crate::store::events::NewEvent;
use crate::store::log::{Actor, NewEntry};
use crate::store::outbox::Message;
use crate::store::{
    Control, ControlTx, StoreError, bundles, certificates, devices, events, identities, log, orders, outbox,
    positions,
};

/// Bundles whose monitoring is remembered.
const WINDOWS_MAX: usize = 256;
/// A box that catches up sends many messages at once; that it speaks is noted so often.
const HEARD_EVERY: Duration = Duration::from_secs(10);
const HEARD_MAX: usize = 200_000;
/// Longest time that a report may have waited on its box.
const LATE_MAX: Duration = Duration::from_hours(30 * 24);

/// How the panes of each bundle are merged. A bundle never changes, so neither does this.
#[derive(Debug, Default)]
pub(super) struct Windows(BTreeMap<Digest, Monitored>);

#[derive(Debug)]
struct Monitored {
    model: String,
    window: Duration,
    streams: usize,
}

/// Who is heard of for the first time in a while in this batch.
#[derive(Debug)]
pub(super) struct Members {
    /// Those that say hello in it, and those of whom it was noted in it that they spoke.
    known: BTreeSet<DeviceId>,
    noted: BTreeSet<DeviceId>,
}

/// What is known of devices from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// When it was last noted of devices that they spoke.
    noted: HashMap<DeviceId, Timestamp>,
    /// Where devices stand, true as long as no identity is written.
    standings: HashMap<DeviceId, StandingName>,
    identities_written: u64,
}

impl Heard {
    fn lately(&self, device: &DeviceId, at: Timestamp) -> bool {
        self.noted.get(device).is_some_and(|noted| at.since(*noted) < HEARD_EVERY)
    }

    /// What a batch noted is committed.
    pub(super) fn note(&mut self, members: Members, at: Timestamp) {
        if self.noted.len() > HEARD_MAX {
            self.noted.clear();
        }
        self.noted.extend(members.noted.into_iter().map(|device| (device, at)));
    }

    /// Looks up where devices stand, if it is not known. Who was revoked a moment ago is not listened to.
    async fn look_up(&mut self, tx: &mut ControlTx, devices: &BTreeSet<&DeviceId>) -> Result<(), StoreError> {
        let written = tx.identities_written();
        if written != self.identities_written || self.standings.len() > HEARD_MAX {
            self.standings.clear();
            self.identities_written = written;
        }
        let unknown = devices.iter().copied().filter(|device| !self.standings.contains_key(device));
        let unknown: Vec<&DeviceId> = unknown.collect();
        self.standings.extend(identities::standings(tx, unknown).await?);
        Ok(())
    }
}

impl Members {
    /// Looks everybody up, and notes that those who are members spoke.
    pub(super) async fn look_up(
        tx: &mut ControlTx,
        devices: &BTreeSet<&DeviceId>,
        heard: &mut Heard,
        at: Timestamp,
    ) -> Result<Self, StoreError> {
        heard.look_up(tx, devices).await?;
        let is_silent = |device: &&DeviceId| {
            heard.standings.get(*device).copied().is_some_and(is_heard) && !heard.lately(device, at)
        };
        let silent: Vec<&DeviceId> = devices.iter().copied().filter(is_silent).collect();
        let noted = devices::seen(tx, silent, at).await?;
        Ok(Self { known: noted.clone(), noted })
    }
}

/// What became of a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The device should be told the positions of this boot.
    Acknowledge(BootId),
    /// There is nothing to tell it.
    Silently,
    /// It is no member of the fleet, and not listened to.
    NotAMember(Option<StandingName>),
}

pub(super) struct Taker<'a> {
    pub(super) control: &'a mut ControlTx,
    pub(super) telemetry: &'a mut Writing,
    pub(super) counters: &'a IngestCounters,
    pub(super) windows: &'a mut Windows,
    pub(super) heard: &'a Heard,
    pub(super) members: &'a mut Members,
    pub(super) book: &'a Book,
    pub(super) page: &'a mut Page,
    pub(super) greetings: Greetings,
    pub(super) clocks: Clocks,
    /// Whether a key was retired, so that its certificates must get onto the list of revoked ones.
    pub(super) retired: &'a mut bool,
    pub(super) moment: Moment,
}

/// Where a numbered message stands to those committed before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Next,
    Duplicate,
    /// One before it is still missing.
    Early,
}

impl Taker<'_> {
    /// Takes a fact of a member in.
    pub(super) async fn take(&mut self, device: &DeviceId, fact: &Fact) -> Result<Taken, StoreError> {
        let standing = self.heard.standings.get(device).copied();
        match standing {
            // It shows that it is there and how it is; what it measured stays on the box, unacknowledged, until a person
            // has released it and it can be believed, or has revoked it.
            Some(StandingName::Quarantined) if matches!(fact, Fact::Report(_)) => {
                count(&self.counters.held_back, 1);
                return Ok(Taken::Silently);
            }
            Some(StandingName::Active | StandingName::Quarantined) => {}
            Some(StandingName::Pending | StandingName::Rejected | StandingName::Revoked) | None => {
                count(&self.counters.strangers, 1);
                return Ok(Taken::NotAMember(standing));
            }
        }
        if let Fact::Hello(hello) = fact {
            match self.greetings {
                Greetings::New => self.hello(device, hello).await?,
                Greetings::Known => self.greeted(device, hello).await?,
            }
            self.members.known.insert(device.clone());
            return Ok(Taken::Acknowledge(hello.boot.clone()));
        }
        if !self.heard.lately(device, self.moment.at) && !self.members.known.contains(device) {
            count(&self.counters.strangers, 1);
            return Ok(Taken::Silently);
        }
        match fact {
            Fact::Hello(hello) => Ok(Taken::Acknowledge(hello.boot.clone())),
            Fact::Status(status) => {
                match self.greetings {
                    Greetings::New => self.status(device, status).await?,
                    Greetings::Known => {}
                }
                Ok(Taken::Silently)
            }
            Fact::State(state) => {
                self.state(device, state).await?;
                Ok(Taken::Acknowledge(state.boot.clone()))
            }
            Fact::Event(event) => {
                self.event(device, event).await?;
                Ok(Taken::Acknowledge(event.boot.clone()))
            }
            Fact::Report(report) => {
                self.report(device, report).await?;
                Ok(Taken::Acknowledge(report.boot.clone()))
            }
        }
    }

    async fn hello(&mut self, device: &DeviceId, hello: &Hello) -> Result<(), StoreError> {
        let Some(identity) = self.identify(device, hello).await? else { return Ok(()) };
        // A box chooses what it is called, and a person where it belongs: cohorts are drawn by site.
        let hello = &Hello { site: identity.site, ..hello.clone() };
        match devices::hello(self.control, device, hello, self.moment.at).await? {
            Greeting::Stranger => {
                let sentence = format!("{} at {} said hello for the first time", hello.name, hello.site);
                self.log(device, "device.registered", sentence).await?;
            }
            Greeting::Known { was: Presence::Offline } => {
                self.log(device, "device.online", format!("{} is online", hello.name)).await?;
            }
            Greeting::Known { was: Presence::Online } => {}
            Greeting::Late => return Ok(()),
        }
        positions::trim(self.control, device).await?;
        self.greeted(device, hello).await?;
        // The broker may have lost the order, or the box its memory of it.
        if identity.standing == Standing::Active
            && let Some(order) = orders::get(self.control, device).await?
            && order.version > hello.order_version
        {
            let topic = Topic::Down(device.clone(), Down::Order);
            outbox::push(self.control, &Message { topic, payload: order.bytes, retain: true }).await?;
        }
        Ok(())
    }

    /// What a hello does to the telemetry.
    async fn greeted(&mut self, device: &DeviceId, hello: &Hello) -> Result<(), StoreError> {
        self.page.wrote(device, &hello.boot);
        self.page.trim(self.telemetry, device).await
    }

    /// Who speaks: notes the boot, what speaks against the device, and that a new key has connected.
    async fn identify(&mut self, device: &DeviceId, hello: &Hello) -> Result<Option<Identity>, StoreError> {
        let Some(mut identity) = identities::get(self.control, device).await? else { return Ok(None) };
        let before = identity.clone();
        let speaks = (&hello.boot, hello.connection);
        let facts = hello.facts.as_ref();
        let doubts =
            identity.suspicion.hello(&mut identity.boots, &identity.facts, speaks, facts, self.moment.at);
        for sentence in doubts {
            self.log(device, "device.suspect", format!("{}: {sentence}", hello.name)).await?;
        }
        if let Some(retired) = hello.key.and_then(|key| identity.connected_with(key)) {
            certificates::revoke_of_key(self.control, device, retired, self.moment.at).await?;
            let sentence =
                format!("{} has connected with its new key; the one before is good no longer", hello.name);
            self.log(device, "identity.key_retired", sentence).await?;
            *self.retired = true;
        }
        identity.name.clone_from(&hello.name);
        if identity != before {
            identities::save(self.control, &identity).await?;
        }
        Ok(Some(identity))
    }

    async fn status(&mut self, device: &DeviceId, status: &Status) -> Result<(), StoreError> {
        if !devices::presence(self.control, device, status, self.moment.at).await? {
            return Ok(());
        }
        let name = devices::get(self.control, device)
            .await?
            .map_or_else(|| device.to_string(), |device| device.name);
        match status.presence {
            Presence::Online => self.log(device, "device.online", format!("{name} is online")).await,
            Presence::Offline => self.log(device, "device.offline", format!("{name} is offline")).await,
        }
    }

    async fn state(&mut self, device: &DeviceId, state: &State) -> Result<(), StoreError> {
        let stream = positions::Stream::State;
        if state.sequence <= positions::get(self.control, device, &state.boot, stream).await? {
            count(&self.counters.duplicates, 1);
            return Ok(());
        }
        self.page.wrote(device, &state.boot);
        // A state of an earlier boot says nothing of now; it is acknowledged so that the box can forget it.
        devices::state(self.control, device, state).await?;
        positions::set(self.control, device, &state.boot, stream, state.sequence, self.moment.at).await
    }

    async fn event(&mut self, device: &DeviceId, event: &Event) -> Result<(), StoreError> {
        let stream = positions::Stream::Event;
        let contiguous = positions::get(self.control, device, &event.boot, stream).await?;
        if self.counted(place(contiguous, event.sequence, event.held_from)) != Place::Next {
            return Ok(());
        }
        self.page.wrote(device, &event.boot);
        let (label, kind) = words::names(&event.kind);
        let sentence = Sentence::from(words::sentence(&event.kind));
        let new = NewEvent { event, received: self.moment.at, label, sentence: sentence.as_str() };
        events::add(self.control, device, new).await?;
        self.log(device, kind, sentence).await?;
        positions::set(self.control, device, &event.boot, stream, event.sequence, self.moment.at).await
    }

    async fn report(&mut self, device: &DeviceId, report: &Report) -> Result<(), StoreError> {
        let when = (self.measured(report), self.moment.at);
        let place = self.page.take(self.book, self.telemetry, device, report, when).await?;
        if self.counted(place) != Place::Next {
            return Ok(());
        }
        for pane in &report.panes {
            self.pane(device, pane).await?;
        }
        self.page.labels(device, &report.labels);
        self.page.shadows(device, &report.shadows);
        Ok(())
    }

    /// When a report's span ended, in real time: what waited on the box for hours belongs into the hours when it was
    /// measured. A box whose clock is wrong puts nothing into the future, nor further back than boxes keep reports.
    fn measured(&self, report: &Report) -> Timestamp {
        let at = self.moment.at;
        self.clocks.world.real(report.to).clamp(at.minus(LATE_MAX), at)
    }

    async fn pane(&mut self, device: &DeviceId, pane: &Pane) -> Result<(), StoreError> {
        match self.windows.of(self.control, &pane.bundle).await? {
            Some(monitored) if monitored.streams == pane.streams.len() => {
                self.page.pane(device, pane, monitored.window);
            }
            Some(_) | None => {
                count(&self.counters.unfit_panes, 1);
                tracing::debug!(device.id = %device, bundle = %pane.bundle, "a pane that fits no bundle known here");
            }
        }
        Ok(())
    }

    fn counted(&self, place: Place) -> Place {
        match place {
            Place::Next => {}
            Place::Duplicate => count(&self.counters.duplicates, 1),
            Place::Early => count(&self.counters.gaps, 1),
        }
        place
    }

    async fn log(
        &mut self,
        device: &DeviceId,
        kind: &'static str,
        sentence: impl Into<Sentence>,
    ) -> Result<(), StoreError> {
        let entry = NewEntry {
            when: self.moment,
            kind,
            subject: device.to_string(),
            sentence: sentence.into(),
            actor: Actor::Device(device.clone()),
        };
        log::append(self.control, &entry).await?;
        Ok(())
    }
}

impl Windows {
    async fn of(&mut self, db: &mut Control, bundle: &Digest) -> Result<Option<&Monitored>, StoreError> {
        if !self.0.contains_key(bundle) {
            let Some(found) = bundles::get(db, bundle).await? else { return Ok(None) };
            let monitoring = &found.manifest.monitoring;
            let monitored = Monitored {
                model: found.path.model().to_string(),
                window: Duration::from_secs(monitoring.window_s),
                streams: monitoring.streams.len(),
            };
            if self.0.len() >= WINDOWS_MAX {
                self.0.clear();
            }
            self.0.insert(*bundle, monitored);
        }
        Ok(self.0.get(bundle))
    }

    /// The bundle's model, as far as it is known here.
    pub(super) async fn model(&mut self, db: &mut Control, bundle: &Digest) -> Result<String, StoreError> {
        Ok(self.of(db, bundle).await?.map_or_else(|| "unknown".to_owned(), |known| known.model.clone()))
    }
}

fn is_heard(standing: StandingName) -> bool {
    match standing {
        StandingName::Active | StandingName::Quarantined => true,
        StandingName::Pending | StandingName::Rejected | StandingName::Revoked => false,
    }
}

pub(super) fn place(contiguous: u64, sequence: u64, held_from: u64) -> Place {
    let contiguous = contiguous.max(held_from.saturating_sub(1));
    if sequence <= contiguous {
        Place::Duplicate
    } else if sequence == contiguous + 1 {
        Place::Next
    } else {
        Place::Early
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_back_n() {
        let check = |contiguous, sequence, held_from, expect| {
            assert_eq!(place(contiguous, sequence, held_from), expect, "{contiguous} {sequence} {held_from}");
        };
        check(0, 1, 1, Place::Next);
        check(3, 4, 1, Place::Next);
        check(3, 3, 1, Place::Duplicate);
        check(3, 5, 1, Place::Early);
        check(3, 5, 4, Place::Early);
        // 4 is gone for good.
        check(3, 5, 5, Place::Next);
        check(3, 7, 5, Place::Early);
        check(0, u64::MAX, u64::MAX, Place::Next);
        check(u64::MAX, u64::MAX, 1, Place::Duplicate);
    }
}
