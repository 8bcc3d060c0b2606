//! One box: the agent's real mind, and hands that take their time and sometimes fail.
//!
//! What a crash takes is what the agent keeps in memory; what it has in its ledger stays: the accepted order, what each
//! slot runs and ran before, what is bad, and the files.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_agent::reconcile::{
    self, Bad, Blob, Bundle, Busy, Clock, Content, Doing, House, Setback, Start, Wish, World,
};
use muster_fleet::rollout::filter::Tags;
use muster_protocol::ids::{DeviceId, Digest, HardwareClass, SiteName, SlotName};
use muster_protocol::message::Phase;
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use muster_protocol::trust::Order;

use crate::invariants::{self, Broken};
use crate::nature::Nature;

#[derive(Debug)]
pub(crate) struct EdgeBox {
    pub(crate) id: DeviceId,
    pub(crate) name: String,
    pub(crate) site: SiteName,
    pub(crate) tags: Tags,
    pub(crate) hardware: HardwareClass,
    /// How far its clock is from the true time.
    pub(crate) skew_s: i64,
    pub(crate) power: Power,
    pub(crate) linked: bool,
    /// Counts its connections, and their ends.
    pub(crate) connection: u64,
    /// The agent's process; a job of an earlier one never ends.
    pub(crate) boot: u64,
    pub(crate) sequence: u64,
    durable: Durable,
    busy: Option<Busy>,
    fetching: Option<Digest>,
    proven: BTreeMap<Digest, Content>,
    setbacks: BTreeMap<Digest, Setback>,
    /// Who said yes at the box, and to what.
    pub(crate) consents: BTreeMap<SlotName, Digest>,
    pub(crate) activated: BTreeMap<SlotName, Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    On,
    Off,
    /// It will never be heard again.
    Bricked,
}

#[derive(Debug, Default)]
struct Durable {
    wish: Option<Wish>,
    order: Option<Order>,
    slots: BTreeMap<SlotName, muster_agent::reconcile::Occupied>,
    stored: BTreeMap<Digest, bool>,
    bad: BTreeMap<Digest, Bad>,
}

/// Something that its hands are at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    Fetch(Digest),
    Verify(SlotName, BundleRef),
    Test(SlotName, BundleRef),
    Activate(SlotName, BundleRef),
    Clear(SlotName),
}

#[derive(Debug, Default)]
pub(crate) struct Thought {
    pub(crate) begin: Vec<Job>,
    pub(crate) phases: Vec<(SlotName, Phase)>,
    pub(crate) look_again: Option<Timestamp>,
}

/// What came of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Well,
    /// Worth another try.
    ForNow,
    ForGood(&'static str),
}

impl EdgeBox {
    pub(crate) fn new(number: usize, site: SiteName, hardware: HardwareClass) -> Self {
        let mut random = [0; 16];
        random[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
        random[8] = 1;
        Self {
            id: DeviceId::mint(random),
            name: format!("box-{}", number + 1),
            site,
            tags: Tags::new(),
            hardware,
            skew_s: 0,
            power: Power::On,
            linked: true,
            connection: 0,
            boot: 1,
            sequence: 0,
            durable: Durable::default(),
            busy: None,
            fetching: None,
            proven: BTreeMap::new(),
            setbacks: BTreeMap::new(),
            consents: BTreeMap::new(),
            activated: BTreeMap::new(),
        }
    }

    pub(crate) fn reachable(&self) -> bool {
        self.power == Power::On && self.linked
    }

    pub(crate) fn clock(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_millis(now.as_millis() + self.skew_s * 1000)
    }

    /// It left the factory with this.
    pub(crate) fn runs_from_the_start(&mut self, slot: &SlotName, bundle: &BundleRef, order: &Order) {
        let slots = &mut self.durable.slots;
        slots.entry(slot.clone()).or_default().current = Some(bundle.clone());
        self.durable.stored.insert(bundle.sha256, true);
        self.accept(order);
    }

    pub(crate) fn current(&self, slot: &SlotName) -> Option<&BundleRef> {
        self.durable.slots.get(slot).and_then(|occupied| occupied.current.as_ref())
    }

    pub(crate) fn generation(&self) -> u64 {
        self.durable.wish.as_ref().map_or(0, |wish| wish.generation)
    }

    /// Takes an order; an older one changes nothing.
    pub(crate) fn accept(&mut self, order: &Order) {
        if self.durable.wish.as_ref().is_some_and(|wish| order.version <= wish.generation) {
            return;
        }
        self.durable.wish = Some(Wish::follow(self.durable.wish.as_ref(), order));
        for want in &order.want {
            self.durable.stored.entry(want.sha256).or_insert(false);
        }
        self.durable.order = Some(order.clone());
    }

    pub(crate) fn crash(&mut self) {
        self.boot += 1;
        self.sequence = 0;
        self.busy = None;
        self.fetching = None;
        self.proven.clear();
        self.setbacks.clear();
    }

    fn world(&self) -> World {
        let content = |(digest, stored): (&Digest, &bool)| {
            let blob = Blob { digest: *digest, length: 1000 };
            let known = self.proven.get(digest).cloned();
            let fetched = if *stored {
                Content::Stored
            } else {
                Content::Partial { missing: vec![blob], received_bytes: 0, total_bytes: 1000 }
            };
            (*digest, Bundle::Allowed(known.unwrap_or(fetched)))
        };
        World {
            slots: self.durable.slots.clone(),
            bundles: self.durable.stored.iter().map(content).collect(),
            busy: self.busy.clone(),
            bad: self.durable.bad.clone(),
            setbacks: self.setbacks.clone(),
            house: House { given: self.consents.clone(), ..House::default() },
            clock: Clock::Sound,
        }
    }

    /// Asks its mind, and begins what it says.
    pub(crate) fn think(&mut self, now: Timestamp) -> Result<Thought, Broken> {
        let now = self.clock(now);
        let plan = reconcile::plan(self.durable.wish.as_ref(), &self.world(), now);
        let mut thought = Thought { begin: Vec::new(), phases: plan.phases, look_again: plan.look_again };
        if let (None, Some(blob)) = (self.fetching, plan.fetch.first()) {
            self.fetching = Some(blob.digest);
            thought.begin.push(Job::Fetch(blob.digest));
        }
        let Some(start) = plan.start else { return Ok(thought) };
        invariants::one_activation_at_a_time(&self.name, self.busy.as_ref())?;
        let (slot, bundle, doing, job) = match start {
            Start::Verify { slot, bundle } => {
                (slot.clone(), bundle.clone(), Doing::Verifying, Job::Verify(slot, bundle))
            }
            Start::Test { slot, bundle } => {
                (slot.clone(), bundle.clone(), Doing::Testing, Job::Test(slot, bundle))
            }
            Start::Activate { slot, bundle } => {
                (slot.clone(), bundle.clone(), Doing::Activating, Job::Activate(slot, bundle))
            }
            Start::Clear { slot } => {
                let Some(bundle) = self.current(&slot).cloned() else { return Ok(thought) };
                (slot.clone(), bundle, Doing::Activating, Job::Clear(slot))
            }
        };
        if let Job::Activate(_, bundle) = &job {
            self.may_run(bundle)?;
        }
        self.busy = Some(Busy { slot, bundle, doing });
        thought.begin.push(job);
        Ok(thought)
    }

    fn may_run(&self, bundle: &BundleRef) -> Result<(), Broken> {
        let proven = self.proven.get(&bundle.sha256) == Some(&Content::Proven);
        let asked = |wish: &Wish| wish.slots.values().find(|w| w.bundle == *bundle).map(|w| w.since);
        let since = self.durable.wish.as_ref().and_then(asked).unwrap_or(0);
        let bad = self.durable.bad.get(&bundle.sha256).is_some_and(|bad| since <= bad.asked_in);
        invariants::only_proven_bundles_run(&self.name, bundle, proven, bad)
    }

    /// A job of its present process has come to an end.
    pub(crate) fn finish(&mut self, job: &Job, end: End, now: Timestamp) {
        let (digest, asked_in) = match job {
            Job::Fetch(digest) => {
                self.fetching = None;
                (*digest, self.generation())
            }
            Job::Verify(_, bundle) | Job::Test(_, bundle) | Job::Activate(_, bundle) => {
                self.busy = None;
                (bundle.sha256, self.generation())
            }
            Job::Clear(slot) => {
                self.busy = None;
                let occupied = self.durable.slots.entry(slot.clone()).or_default();
                occupied.previous = occupied.current.take();
                self.activated.remove(slot);
                return;
            }
        };
        let clock = self.clock(now);
        match end {
            End::Well => {
                self.setbacks.remove(&digest);
                match job {
                    Job::Fetch(digest) => {
                        self.durable.stored.insert(*digest, true);
                    }
                    Job::Verify(..) => {
                        self.proven.insert(digest, Content::Verified);
                    }
                    Job::Test(..) => {
                        self.proven.insert(digest, Content::Proven);
                    }
                    Job::Activate(slot, bundle) => self.switch(slot, bundle, now),
                    Job::Clear(_) => {}
                }
            }
            End::ForNow => {
                let attempts = self.setbacks.get(&digest).map_or(0, |setback| setback.attempts) + 1;
                let sentence = "it did not work this time".into();
                let setback = Setback { at: clock, attempts, code: "download_failed".to_owned(), sentence };
                self.setbacks.insert(digest, setback);
            }
            End::ForGood(code) => {
                let sentence = "it cannot run here".into();
                self.durable.bad.insert(digest, Bad { asked_in, code: code.to_owned(), sentence });
            }
        }
    }

    fn switch(&mut self, slot: &SlotName, bundle: &BundleRef, now: Timestamp) {
        let occupied = self.durable.slots.entry(slot.clone()).or_default();
        occupied.previous = occupied.current.replace(bundle.clone());
        self.consents.remove(slot);
        self.activated.insert(slot.clone(), now);
    }

    /// It leaves what it runs, and remembers why.
    pub(crate) fn go_back(&mut self, slot: &SlotName, bundle: &BundleRef, now: Timestamp) -> bool {
        let asked_in = self.generation();
        let Some(occupied) = self.durable.slots.get_mut(slot) else { return false };
        if occupied.current.as_ref() != Some(bundle) {
            return false;
        }
        let before = occupied.previous.take();
        occupied.current = before;
        let bad =
            Bad { asked_in, code: "stopped_answering".to_owned(), sentence: "it stopped answering".into() };
        self.durable.bad.insert(bundle.sha256, bad);
        self.activated.insert(slot.clone(), now);
        true
    }

    pub(crate) fn is_staged(&self, digest: &Digest) -> bool {
        self.proven.get(digest) == Some(&Content::Proven)
    }
}

/// How a job ends on a box where the bundle is of this nature.
pub(crate) fn end_of(job: &Job, nature: Nature) -> End {
    match (job, nature) {
        (Job::Test(..), Nature::FailsItsTest) => End::ForGood("golden_mismatch"),
        (Job::Activate(..), Nature::FailsToActivate) => End::ForGood("activation_failed"),
        (Job::Fetch(_) | Job::Verify(..) | Job::Test(..) | Job::Activate(..) | Job::Clear(_), _) => End::Well,
    }
}

/// How long a job takes where nothing disturbs it.
pub(crate) fn usual(job: &Job) -> Duration {
    Duration::from_secs(match job {
        Job::Fetch(_) => 240,
        Job::Verify(..) => 15,
        Job::Test(..) => 60,
        Job::Activate(..) => 10,
        Job::Clear(_) => 5,
    })
}
