//! The agent's real mind, with hands that take their time and do nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_agent::reconcile::{self, Blob, Bundle, Busy, Content, Doing, Occupied, Plan, Start, Wish, World};
use muster_protocol::ids::{Digest, SlotName};
use muster_protocol::message::Phase;
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use muster_protocol::trust::{Order, Want};
use tokio::time::Instant;

/// What the hands are at.
#[derive(Debug)]
enum Job {
    Fetch(Digest),
    Verify(BundleRef),
    Test(BundleRef),
    Activate(SlotName, BundleRef),
    Clear(SlotName),
}

/// What became of the slot.
#[derive(Debug)]
pub(crate) enum Happened {
    Activated(SlotName, BundleRef),
    Cleared(SlotName),
}

#[derive(Debug, Default)]
pub(crate) struct Mind {
    wish: Option<Wish>,
    /// As the order said it.
    wanted: Vec<Want>,
    pub(crate) slots: BTreeMap<SlotName, Occupied>,
    contents: BTreeMap<Digest, Content>,
    jobs: Vec<(Instant, Job)>,
    busy: Option<Busy>,
    pub(crate) phases: Vec<(SlotName, Phase)>,
}

impl Mind {
    pub(crate) fn generation(&self) -> u64 {
        self.wish.as_ref().map_or(0, |wish| wish.generation)
    }

    pub(crate) fn wanted(&self) -> &[Want] {
        &self.wanted
    }

    pub(crate) fn accept(&mut self, order: &Order) {
        self.wanted.clone_from(&order.want);
        self.wish = Some(Wish::follow(self.wish.as_ref(), order));
        // What is not wished any more and not kept in a slot is swept, as the agent's library does.
        let wished: Vec<Digest> = order.want.iter().map(|want| want.sha256).collect();
        let kept = |digest: &Digest| {
            let holds = |bundle: &Option<BundleRef>| bundle.as_ref().is_some_and(|b| b.sha256 == *digest);
            self.slots.values().any(|slot| holds(&slot.current) || holds(&slot.previous))
        };
        self.contents.retain(|digest, _| wished.contains(digest) || kept(digest));
        for want in wished {
            let blob = Blob { digest: want, length: 1 };
            let partial = Content::Partial { missing: vec![blob], received_bytes: 0, total_bytes: 1 };
            self.contents.entry(want).or_insert(partial);
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.jobs.iter().map(|(at, _)| *at).min()
    }

    /// Ends what is due, asks the mind, and begins what it says.
    pub(crate) fn think(&mut self, at: Instant, now: Timestamp, pace: Duration) -> Vec<Happened> {
        let mut happened = Vec::new();
        while let Some(due) = self.jobs.iter().position(|(until, _)| *until <= at) {
            let (_, job) = self.jobs.swap_remove(due);
            happened.extend(self.finish(job));
        }
        let Plan { fetch, start, phases, .. } = reconcile::plan(self.wish.as_ref(), &self.world(), now);
        self.phases = phases;
        if let Some(blob) = fetch.first()
            && !self.jobs.iter().any(|(_, job)| matches!(job, Job::Fetch(_)))
        {
            self.jobs.push((at + pace * 3, Job::Fetch(blob.digest)));
        }
        if let Some(start) = start {
            self.begin(start, at, pace);
        }
        happened
    }

    fn begin(&mut self, start: Start, at: Instant, pace: Duration) {
        let (slot, bundle, doing, job) = match start {
            Start::Verify { slot, bundle } => (slot, bundle.clone(), Doing::Verifying, Job::Verify(bundle)),
            Start::Test { slot, bundle } => (slot, bundle.clone(), Doing::Testing, Job::Test(bundle)),
            Start::Activate { slot, bundle } => {
                (slot.clone(), bundle.clone(), Doing::Activating, Job::Activate(slot, bundle))
            }
            Start::Clear { slot } => {
                let current = self.slots.get(&slot).and_then(|occupied| occupied.current.clone());
                let Some(bundle) = current else { return };
                (slot.clone(), bundle, Doing::Activating, Job::Clear(slot))
            }
        };
        self.busy = Some(Busy { slot, bundle, doing });
        self.jobs.push((at + pace, job));
    }

    fn finish(&mut self, job: Job) -> Option<Happened> {
        if !matches!(job, Job::Fetch(_)) {
            self.busy = None;
        }
        match job {
            Job::Fetch(digest) => self.contents.insert(digest, Content::Stored).and(None),
            Job::Verify(bundle) => self.contents.insert(bundle.sha256, Content::Verified).and(None),
            Job::Test(bundle) => self.contents.insert(bundle.sha256, Content::Proven).and(None),
            Job::Activate(slot, bundle) => {
                let occupied = self.slots.entry(slot.clone()).or_default();
                occupied.previous = occupied.current.replace(bundle.clone());
                Some(Happened::Activated(slot, bundle))
            }
            Job::Clear(slot) => {
                self.slots.remove(&slot);
                Some(Happened::Cleared(slot))
            }
        }
    }

    fn world(&self) -> World {
        let allowed = |(digest, content): (&Digest, &Content)| (*digest, Bundle::Allowed(content.clone()));
        World {
            slots: self.slots.clone(),
            bundles: self.contents.iter().map(allowed).collect(),
            busy: self.busy.clone(),
            ..World::default()
        }
    }
}
