//! What the loop knows between two events, and what it does with one: take it in, ask the mind, do as it says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use muster_protocol::ids::{BootId, DeviceId, Digest, SlotName};
use muster_protocol::message::up::BundleRef;
use muster_protocol::message::{Capabilities, EventKind, Phase, Refusal};
use muster_protocol::trust::Fitness;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Opened;
use super::beside::Beside;
use super::bundles::{Proof, Reading};
use super::event::Event;
use super::member::Member;
use super::orders::{Orders, wish_after};
use super::outbox::Outbox;
use crate::activate::Workbench;
use crate::capture::Captures;
use crate::clock::{TrustClock, WorldClock, monotonic};
use crate::config::Config;
use crate::download::Downloader;
use crate::identity::StateDir;
use crate::ledger::{Ledger, SlotFiles, SlotRecord};
use crate::link::Link;
use crate::reconcile::Blob;
use crate::reconcile::{Busy, Plan, Setback, Wish, plan};
use crate::renew::Renewer;
use crate::report::HealthProbe;
use crate::serve::Slots;
use crate::trust::TrustStore;

/// The longest the loop sleeps: what a part had no room for is handed over again after this.
const SLEEP_MAX: Duration = Duration::from_secs(2);

/// Everything the loop is built from.
#[derive(Debug)]
pub(super) struct Parts {
    pub config: Config,
    pub clock: TrustClock,
    pub world: WorldClock,
    pub capabilities: Capabilities,
    pub fitness: Fitness,
    pub slots: Slots,
    pub workbench: Workbench,
    pub link: Link,
    /// The TLS authorities of the trusted root, for whoever connects next.
    pub authorities: watch::Sender<Vec<String>>,
    pub renewer: Renewer,
    pub downloader: Downloader,
    pub done: mpsc::Sender<Event>,
    pub state: watch::Sender<serde_json::Value>,
}

#[derive(Debug)]
pub(super) struct Agent {
    pub(super) parts: Parts,
    pub(super) device: DeviceId,
    pub(super) boot: BootId,
    pub(super) member: Member,
    pub(super) ledger: Ledger,
    pub(super) files: SlotFiles,
    pub(super) trust: TrustStore,
    pub(super) probe: HealthProbe,
    /// What each slot runs: on disk and in this process alike, once restored.
    pub(super) records: BTreeMap<SlotName, SlotRecord>,
    /// Slots whose current bundle was revoked and does not answer.
    pub(super) stopped: BTreeSet<SlotName>,
    /// Slots whose models are still being loaded after the restart; nothing is planned before.
    pub(super) restoring: bool,
    pub(super) busy: Option<Busy>,
    pub(super) beside: Beside,
    pub(super) readings: BTreeMap<Digest, Reading>,
    pub(super) proofs: BTreeMap<Digest, Proof>,
    pub(super) setbacks: BTreeMap<Digest, Setback>,
    pub(super) progress: Option<(Digest, u64)>,
    pub(super) orders: Orders,
    pub(super) outbox: Outbox,
    pub(super) captures: Captures,
    pub(super) tasks: JoinSet<()>,
    plan: Plan,
    /// What the downloader was told last, if it took it.
    fetching: Option<Vec<Blob>>,
    linked_told: bool,
    failed_said: BTreeMap<SlotName, (BundleRef, String)>,
    pub(super) collect: bool,
    pub(super) clock_looked: Option<Instant>,
    /// Kept open: the lock on the state folder goes with it.
    held: StateDir,
}

impl Agent {
    pub(super) fn new(parts: Parts, opened: Opened) -> Self {
        let Opened {
            held,
            identity,
            enrolment,
            name,
            facts,
            boot,
            blobs: _,
            ledger,
            files,
            records,
            spool,
            trust,
        } = opened;
        let device = enrolment.device.clone();
        let member = Member::new(&identity, trust.versions().trusted.root, enrolment, name, facts);
        let probe = HealthProbe::new(held.path());
        let outbox = Outbox::new(spool, parts.world.now());
        let (policy, floor) = (parts.config.capture_policy.clone(), parts.config.floor);
        let taps = parts.slots.taps().clone();
        let captures = Captures::new(held.path(), policy, floor, parts.clock.clone(), taps);
        Self {
            parts,
            device,
            boot,
            member,
            ledger,
            files,
            trust,
            probe,
            records,
            stopped: BTreeSet::new(),
            restoring: true,
            busy: None,
            beside: Beside::open(held.path()),
            readings: BTreeMap::new(),
            proofs: BTreeMap::new(),
            setbacks: BTreeMap::new(),
            progress: None,
            orders: Orders::default(),
            outbox,
            captures,
            tasks: JoinSet::new(),
            plan: Plan::default(),
            fetching: None,
            linked_told: false,
            failed_said: BTreeMap::new(),
            collect: true,
            clock_looked: None,
            held,
        }
    }

    /// What happens before the first event: the models that ran come back, the wish is what it was.
    pub(super) fn begin(&mut self) {
        if let Some(order) = self.trust.order() {
            let wish = wish_after(self.ledger.wish(), order);
            self.set_wish(wish);
        }
        for (slot, wanted) in self.ledger.wish().map(|wish| wish.slots.clone()).unwrap_or_default() {
            // What was said of a bad bundle before the restart is not said again.
            if let Some(bad) = self.ledger.bad().get(&wanted.bundle.sha256) {
                self.failed_said.insert(slot, (wanted.bundle, bad.code.clone()));
            }
        }
        self.restore();
        self.settle();
    }

    pub(super) fn handle(&mut self, event: Event) {
        match event {
            // Many a second, and nothing is decided by one.
            Event::Chunk(bytes) => return self.parts.downloader.chunk(bytes),
            Event::Linked { connection, key } => self.linked(connection, key),
            Event::Unlinked { reason, fault } => {
                self.unlinked(&reason);
                self.member_refused(fault);
            }
            Event::Membership(said) => self.membership(said),
            Event::Order(bytes) => self.order_came(bytes),
            Event::TrustFile { name, bytes } => self.trust_file_came(&name, &bytes),
            Event::Ack(ack) => self.acknowledged(&ack),
            Event::Malformed { topic, reason } => self.outbox.malformed(&topic, &reason),
            Event::Progress { digest, received_bytes } => self.progress = Some((digest, received_bytes)),
            Event::Arrived { digest } => self.arrived(&digest),
            Event::NotArrived { digest, failure } => self.not_arrived(&digest, &failure),
            Event::Restored(slots) => self.restored(slots),
            Event::Verified { slot, bundle, result } => self.verified(&slot, &bundle, result),
            Event::Tested { slot, bundle, result } => self.tested(&slot, &bundle, result),
            Event::Loaded { slot, bundle, result } => self.loaded(&slot, &bundle, result),
            Event::Beside { slot, bundle, result } => self.beside_loaded(&slot, &bundle, result),
            Event::Said(said) => self.said(said),
            Event::Time => {}
        }
        self.settle();
    }

    /// Leaves nothing half done: an activation that was under way is no fault of its bundle.
    pub(super) fn end(&mut self) {
        self.captures.end();
        self.last_report();
        self.beside.farewell();
        tracing::debug!(state_dir = %self.held.path().display(), "lets go of the state folder");
        if let Some(busy) = self.busy.take()
            && let Err(error) = self.files.abort(&busy.slot)
        {
            tracing::error!(slot = %busy.slot, error = crate::chain(&error), "cannot take back the activation's journal");
        }
    }

    /// When to look again if nothing happens.
    pub(super) fn next_wake(&self) -> Instant {
        let now = monotonic();
        let look_again = self.plan.look_again.map(|at| now + at.since(self.parts.clock.now()));
        let times = [look_again, self.orders.next(), Some(self.outbox.next(now))];
        times.into_iter().flatten().fold(now + SLEEP_MAX, Instant::min)
    }

    /// Does what is due, asks the mind until it has nothing more to begin, and says what changed.
    fn settle(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.watch_clock(monotonic());
        self.bound_leases();
        self.look_at_trust();
        self.tell_authorities();
        self.decide();
        self.tell_downloader();
        self.collect_garbage();
        self.look_at_captures();
        self.speak();
    }

    fn decide(&mut self) {
        if self.restoring {
            return;
        }
        let mut slots = BTreeMap::new();
        // Each turn begins one thing at most; what is done at once (a slot cleared) makes another turn worthwhile.
        for _ in 0..=muster_protocol::limits::SLOTS_MAX {
            let world = self.world();
            self.plan = plan(self.ledger.wish(), &world, self.parts.clock.now());
            slots = world.slots;
            if !self.plan.withdraw.is_empty() {
                for withdraw in std::mem::take(&mut self.plan.withdraw) {
                    self.withdraw(withdraw);
                }
                continue;
            }
            let Some(start) = self.plan.start.clone() else { break };
            self.start(start);
        }
        self.say_failures();
        self.look_beside(&slots);
    }

    pub(super) fn phases(&self) -> &[(SlotName, Phase)] {
        &self.plan.phases
    }

    pub(super) fn notice(&self, slot: &SlotName) -> Option<Refusal> {
        self.plan.notices.get(slot).cloned()
    }

    pub(super) fn fetches(&self) -> bool {
        !self.plan.fetch.is_empty()
    }

    pub(super) fn event(&mut self, kind: EventKind) {
        let at = self.parts.clock.now();
        self.outbox.event(at, kind);
    }

    pub(super) fn set_wish(&mut self, wish: Wish) {
        if self.ledger.wish() == Some(&wish) {
            return;
        }
        if let Err(error) = self.ledger.set_wish(wish) {
            // The order itself is safe in the trust store.
            tracing::error!(
                error = crate::chain(&error),
                "the new order cannot be noted, so it is not followed yet"
            );
            self.judge_soon();
        }
        self.collect = true;
    }

    fn tell_downloader(&mut self) {
        let linked = self.outbox.is_linked();
        if self.linked_told != linked && self.parts.downloader.linked(linked) {
            self.linked_told = linked;
        }
        if self.fetching.as_ref() != Some(&self.plan.fetch) {
            let taken = self.parts.downloader.want(self.plan.fetch.clone());
            self.fetching = taken.then(|| self.plan.fetch.clone());
        }
    }

    /// A failure is an event once: when a slot first stands still for this reason.
    fn say_failures(&mut self) {
        for (slot, phase) in self.plan.phases.clone() {
            let Phase::Failed { bundle, code, sentence, .. } = phase else { continue };
            let said = (bundle.clone(), code.clone());
            // Whether the catalogue allows a change is not the bundle's doing; the state says it.
            let withheld = super::bundles::is_withheld(&code);
            if !withheld && self.failed_said.get(&slot) != Some(&said) {
                tracing::error!(%slot, bundle = %bundle.path, code, reason = %sentence, "the bundle cannot run here");
                self.event(EventKind::ActivationFailed { slot: slot.clone(), bundle, code, sentence });
                self.failed_said.insert(slot, said);
            }
        }
    }

    /// A slot that runs what it should may fail anew later, and then says so again.
    pub(super) fn forget_failure(&mut self, slot: &SlotName) {
        self.failed_said.remove(slot);
    }

    /// What the downloader gave up it must be told again, should it be wanted again.
    pub(super) fn forget_fetching(&mut self) {
        self.fetching = None;
    }

    /// A broken link is told to the downloader even if it is back before the loop looks.
    pub(super) fn relink(&mut self) {
        self.linked_told = false;
        self.parts.downloader.linked(false);
    }
}
