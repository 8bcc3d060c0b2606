//! One member of the fleet: what is known of it, whatever rollout asks.

use std::collections::BTreeSet;

use muster_protocol::ids::{DeviceId, HardwareClass, SiteName, SlotName};
use muster_protocol::message::Presence;
use muster_protocol::message::up::{BundleRef, Phase, State};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::{AgentVersion, Fitness, Want};

use crate::clock::Clocks;
use crate::rollout::filter::{Tags, Traits};
use crate::rollout::{Cause, DeviceView, Doing, Lease};
use crate::store::seats::Seat;

#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    name: String,
    site: SiteName,
    tags: Tags,
    /// Unknown if its agent has no plain version: it judges for itself.
    fitness: Option<Fitness>,
    online: bool,
    quarantined: bool,
    presence_since: Timestamp,
    order: u64,
    wants: Vec<Want>,
    state: Option<State>,
    leases: Vec<Lease>,
}

impl Seen {
    /// Who is set apart is away: nothing is handed to it, it shows nothing, and an order to go back waits for it.
    pub fn of(seat: Seat, clocks: Clocks) -> (DeviceId, Self) {
        let agent = seat.agent_version.parse::<AgentVersion>().ok();
        let world = clocks.world.scale();
        let local = seat.state.iter().flat_map(|state| &state.leases).map(|lease| Lease {
            owner: lease.owner.clone(),
            reason: lease.reason.as_str().to_owned(),
            until: world.world(lease.until),
        });
        let seen = Self {
            leases: local.collect(),
            fitness: agent.map(|agent| Fitness::of(&seat.capabilities, agent)),
            online: seat.presence == Presence::Online && !seat.quarantined,
            quarantined: seat.quarantined,
            presence_since: world.world(seat.presence_since),
            name: seat.name,
            site: seat.site,
            tags: seat.tags,
            order: seat.order,
            wants: seat.wants,
            state: seat.state,
        };
        (seat.device, seen)
    }

    pub fn fitness(&self) -> Option<&Fitness> {
        self.fitness.as_ref()
    }

    pub fn traits<'a>(&'a self, id: &'a DeviceId, none: &'a BTreeSet<HardwareClass>) -> Traits<'a> {
        Traits {
            id,
            name: &self.name,
            site: &self.site,
            hardware: self.fitness.as_ref().map_or(none, |fitness| &fitness.hardware),
            agent: self.fitness.as_ref().map(|fitness| fitness.agent),
            tags: &self.tags,
        }
    }

    /// Its line in a view, as far as no rollout has to do with it.
    pub fn line(&self, slot: &SlotName, leases: &[Lease]) -> DeviceView {
        let (current, doing) = self.observe(slot);
        let wish = self.wants.iter().find(|want| want.slot == *slot);
        DeviceView {
            name: self.name.clone(),
            tags: self.tags.clone(),
            hardware: self
                .fitness
                .as_ref()
                .map(|fitness| fitness.hardware.clone().into())
                .unwrap_or_default(),
            agent: self.fitness.as_ref().map(|fitness| fitness.agent),
            online: self.online,
            quarantined: self.quarantined,
            presence_since: self.presence_since,
            wish: wish.map(|want| BundleRef { path: want.bundle.clone(), sha256: want.sha256 }),
            current,
            doing,
            busy_elsewhere: self.switches_elsewhere(slot),
            leases: leases.iter().chain(&self.leases).cloned().collect(),
            ..DeviceView::at(self.site.clone())
        }
    }

    fn switches_elsewhere(&self, slot: &SlotName) -> bool {
        let slots = self.state.iter().flat_map(|state| &state.slots);
        slots.into_iter().any(|other| other.slot != *slot && matches!(other.phase, Phase::Activating { .. }))
    }

    /// What it proved to run in the slot, and what it does about its newest order.
    fn observe(&self, slot: &SlotName) -> (Option<BundleRef>, Doing) {
        let Some(state) = &self.state else { return (None, Doing::Unknown) };
        let found = state.slots.iter().find(|reported| reported.slot == *slot);
        let current =
            found.and_then(|reported| reported.current.as_ref()).map(|running| running.bundle.clone());
        if let Some(refusal) = &state.refusal {
            let cause = Cause::new(&refusal.code, refusal.sentence.as_str());
            return (current, Doing::Refusing { cause });
        }
        if state.observed_generation < self.order {
            return (current, Doing::Unknown);
        }
        let doing = found.map_or(Doing::Nothing, |reported| doing(&reported.phase));
        (current, doing)
    }
}

fn doing(phase: &Phase) -> Doing {
    let working = |bundle: &BundleRef, step: String| Doing::Working { bundle: bundle.clone(), step };
    match phase {
        Phase::Empty | Phase::Running { .. } => Doing::Nothing,
        Phase::Downloading { bundle, received_bytes, total_bytes } => {
            let percent = (received_bytes * 100).checked_div(*total_bytes).unwrap_or(0);
            working(bundle, format!("downloads it, {percent} %"))
        }
        Phase::Verifying { bundle } => working(bundle, "verifies it".to_owned()),
        Phase::SelfTesting { bundle } => working(bundle, "tests it against its golden outputs".to_owned()),
        Phase::Ready { bundle, waits_for } => Doing::Ready { bundle: bundle.clone(), waits_for: *waits_for },
        Phase::Activating { bundle } => working(bundle, "activates it".to_owned()),
        // A line that broke is nobody's failure: the install deadline bounds how often it may break.
        Phase::Failed { bundle, sentence, again: Some(_), .. } => {
            working(bundle, format!("tries again by itself: {sentence}"))
        }
        // What was revoked while it was rolled out fails there, as if it had never been able to run.
        Phase::Failed { bundle, code, sentence, again: None } | Phase::Stopped { bundle, code, sentence } => {
            Doing::Failed { bundle: bundle.clone(), cause: Cause::new(code, sentence.as_str()) }
        }
    }
}
