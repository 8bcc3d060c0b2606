//! One box: hears, judges orders, moves, and says what has become of it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use muster_agent::link::{Heard, Link};
use muster_protocol::enrol::{Facts, Fingerprint};
use muster_protocol::ids::{BootId, DeviceId, SiteName, SlotName};
use muster_protocol::message::up::{BundleRef, Running};
use muster_protocol::message::{
    Ack, Capabilities, EventKind, Hello, Message as _, Outbound, Provider, ProviderUse, SlotState, State,
    VERSION,
};
use muster_protocol::time::Timestamp;
use muster_protocol::topic::{Down, Topic};
use muster_protocol::trust::{Fitness, Order, OrderContext, Verdict};
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use crate::mind::{Happened, Mind};
use crate::outbox::Outbox;
use crate::patients::{self, Seen};
use crate::{Shared, facts};

/// Trust files come in a burst; an order is judged when they have come.
const SETTLE: Duration = Duration::from_millis(300);
/// Of one step of an install; its fetch takes three.
const PACE_MIN: Duration = Duration::from_millis(60);
const PACE_MAX_MS: u64 = 180;
/// A day's patients have their outcomes a little more than a day later.
const LABELS_AFTER: Duration = Duration::from_hours(30);
/// One box in so many is of the other hardware class.
const OTHER_CLASS_ONE_IN: usize = 4;

/// What a box is.
#[derive(Clone, Debug)]
pub(crate) struct Facets {
    pub(crate) name: String,
    pub(crate) facts: Facts,
    site: SiteName,
    capabilities: Capabilities,
    is_other_class: bool,
}

impl Facets {
    pub(crate) fn of(number: usize, site: SiteName) -> Self {
        let is_other_class = number.is_multiple_of(OTHER_CLASS_ONE_IN);
        let (name, cpu_model) = (format!("sim-{number}"), "simulated".to_owned());
        let devices: &[&str] = if is_other_class { &["CPU", "NPU"] } else { &["CPU"] };
        Self {
            facts: facts(&name, &cpu_model),
            name,
            site,
            capabilities: Capabilities {
                arch: "x86_64".to_owned(),
                cpu_model,
                cores: 4,
                memory_bytes: 8 << 30,
                cpu_flags: vec!["avx2".to_owned()],
                devices: devices.iter().map(|&device| device.to_owned()).collect(),
                runtime: "simulated".to_owned(),
            },
            is_other_class,
        }
    }
}

/// Since when a slot runs what it runs, and whether that is wrong here.
#[derive(Debug)]
struct Lived {
    running: Running,
    is_wrong: bool,
}

#[derive(Debug)]
pub(crate) struct Device {
    number: u64,
    id: DeviceId,
    facets: Facets,
    fitness: Fitness,
    link: Link,
    shared: Arc<Shared>,
    mind: Mind,
    outbox: Outbox,
    lived: BTreeMap<SlotName, Lived>,
    waiting: Option<(Instant, Bytes)>,
    report_at: Instant,
    reported: Timestamp,
}

impl Device {
    pub(crate) fn new(
        number: usize,
        (id, boot): (DeviceId, BootId),
        facets: Facets,
        link: Link,
        shared: Arc<Shared>,
    ) -> Self {
        let number = number as u64;
        let version = env!("CARGO_PKG_VERSION").parse().unwrap_or_default();
        let reported = shared.scale.world(shared.clock.now());
        // Not all at once.
        let phase = shared.report_every.mul_f64(own(number).mul_add(0.5, 0.5));
        Self {
            number,
            fitness: Fitness::of(&facets.capabilities, version),
            id,
            facets,
            link,
            mind: Mind::default(),
            outbox: Outbox::new(boot),
            lived: BTreeMap::new(),
            waiting: None,
            report_at: soon(phase),
            reported,
            shared,
        }
    }

    pub(crate) async fn live(mut self, mut heard: Receiver<Heard>) {
        loop {
            let next = [self.waiting.as_ref().map(|(at, _)| *at), self.mind.next(), self.outbox.next()];
            let next = next.into_iter().flatten().fold(self.report_at, Instant::min);
            tokio::select! {
                said = heard.recv() => match said {
                    Some(said) => self.hear(said),
                    None => return,
                },
                () = tokio::time::sleep_until(next) => {}
            }
            self.look();
        }
    }

    fn hear(&mut self, said: Heard) {
        match said {
            Heard::Linked { connection, key } => {
                let hello = self.hello(connection, key);
                self.link.send(&Outbound::Hello(hello));
                self.outbox.again(&self.link, soon(Duration::ZERO));
            }
            Heard::Unlinked { reason, .. } => {
                tracing::warn!(name = self.facets.name, reason, "a connection ended");
            }
            Heard::Message { topic, payload } => match topic.parse() {
                Ok(Topic::Down(_, Down::Order)) => self.waiting = Some((soon(SETTLE), payload)),
                Ok(Topic::Down(_, Down::Ack)) => {
                    if let Ok(ack) = Ack::from_json(&payload) {
                        self.outbox.acknowledged(&ack);
                    }
                }
                Ok(Topic::Trust(name)) => {
                    let mut trust = self.shared.trust.lock().unwrap_or_else(PoisonError::into_inner);
                    match trust.store.offer(&name, &payload) {
                        Ok(is_new) => trust.is_behind |= is_new,
                        Err(error) => tracing::warn!(%error, name, "a trust file was refused"),
                    }
                }
                Ok(Topic::Down(_, Down::Chunk | Down::Call) | Topic::Up(..) | Topic::Epoch) | Err(_) => {}
            },
        }
    }

    /// Everything whose time has come.
    fn look(&mut self) {
        let at = soon(Duration::ZERO);
        if let Some((_, bytes)) = self.waiting.take_if(|(due, _)| *due <= at) {
            self.judge(bytes);
        }
        let now = self.shared.clock.now();
        let pace =
            PACE_MIN + Duration::from_millis(mixed(self.number + self.mind.generation()) % PACE_MAX_MS);
        // What ended may be followed by the next step at once.
        let mut happened = self.mind.think(at, now, pace);
        if !happened.is_empty() {
            happened.extend(self.mind.think(at, now, pace));
        }
        for happened in happened {
            self.happened(happened, now);
        }
        let state = self.state(now);
        self.outbox.state(&self.link, state, at);
        if self.outbox.next().is_some_and(|due| due <= at) {
            self.outbox.again(&self.link, at);
        }
        if self.report_at <= at {
            self.report_at = at + self.shared.report_every;
            self.report(now);
        }
    }

    fn judge(&mut self, bytes: Bytes) {
        let now = self.shared.clock.now();
        let mut trust = self.shared.trust.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut trust.is_behind)
            && let Err(error) = trust.store.refresh(now)
        {
            tracing::warn!(%error, "trust files were refused");
        }
        let context = OrderContext {
            trusted: trust.store.trusted(),
            device: &self.id,
            fitness: Some(&self.fitness),
            floor: self.mind.generation(),
            before: self.mind.wanted(),
            now,
        };
        let verdict = Order::check(&bytes, &context);
        drop(trust);
        match verdict {
            Ok(Verdict::Accepted(order)) => self.mind.accept(&order),
            Ok(Verdict::Unchanged) => {}
            Err(refusal) if refusal.is_transient() || refusal.code() == "bundle_uncatalogued" => {
                self.waiting = Some((soon(SETTLE), bytes));
            }
            Err(refusal) => tracing::warn!(name = self.facets.name, %refusal, "an order was refused"),
        }
    }

    fn happened(&mut self, happened: Happened, now: Timestamp) {
        let provider = ProviderUse { provider: Provider::OpenVino, reason: None };
        let kind = match happened {
            Happened::Activated(slot, bundle) => {
                let running = Running {
                    bundle: bundle.clone(),
                    variant: "simulated".to_owned(),
                    provider: provider.clone(),
                    numerics: None,
                    passed_over: None,
                    since: now,
                };
                let is_wrong = self.facets.is_other_class && self.is_listed(&bundle);
                self.lived.insert(slot.clone(), Lived { running, is_wrong });
                // Its first day's labels are told as soon as they can be known.
                let mature = self.shared.scale.wall_span(LABELS_AFTER);
                self.report_at = self.report_at.min(soon(mature));
                EventKind::Activated { slot, bundle, provider, load_ms: 20, self_test_ms: 30 }
            }
            Happened::Cleared(slot) => {
                self.lived.remove(&slot);
                EventKind::Cleared { slot }
            }
        };
        self.outbox.event(&self.link, now, kind);
    }

    fn is_listed(&self, bundle: &BundleRef) -> bool {
        let list = std::fs::read_to_string(&self.shared.wrong).unwrap_or_default();
        list.lines().any(|line| line == bundle.path.to_string())
    }

    fn report(&mut self, now: Timestamp) {
        let to = self.shared.scale.world(now);
        let from = std::mem::replace(&mut self.reported, to);
        let mut seen = Vec::new();
        for (slot, lived) in &self.lived {
            let before = self.mind.slots.get(slot).and_then(|slot| slot.previous.as_ref());
            let Lived { running, is_wrong } = lived;
            let (bundle, is_wrong) = (running.bundle.sha256, *is_wrong);
            let before = before.map(|before| before.sha256);
            seen.push(Seen { slot, bundle, before, is_wrong, own: own(self.number) });
        }
        let report = patients::report(self.outbox.boot.clone(), (from, to), &seen);
        self.outbox.report(&self.link, report);
    }

    fn hello(&self, connection: u64, key: Fingerprint) -> Hello {
        Hello {
            v: VERSION,
            boot: self.outbox.boot.clone(),
            connection,
            name: self.facets.name.clone(),
            site: self.facets.site.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: self.facets.capabilities.clone(),
            order_version: self.mind.generation(),
            root: None,
            certificate_expires: None,
            facts: Some(self.facets.facts.clone()),
            key: Some(key),
        }
    }

    fn state(&self, now: Timestamp) -> State {
        let trust = self.shared.trust.lock().unwrap_or_else(PoisonError::into_inner);
        let catalogue = trust.store.trusted().versions().targets.unwrap_or(0);
        drop(trust);
        let slots = self.mind.phases.iter().map(|(slot, phase)| SlotState {
            slot: slot.clone(),
            phase: phase.clone(),
            current: self.lived.get(slot).map(|lived| lived.running.clone()),
            previous: self.mind.slots.get(slot).and_then(|occupied| occupied.previous.clone()),
            notice: None,
        });
        State {
            v: VERSION,
            boot: self.outbox.boot.clone(),
            sequence: 0,
            at: now,
            observed_generation: self.mind.generation(),
            catalogue,
            refusal: None,
            notices: Vec::new(),
            leases: Vec::new(),
            captures: Vec::new(),
            slots: slots.collect(),
        }
    }
}

fn soon(after: Duration) -> Instant {
    Instant::from_std(muster_agent::clock::monotonic()) + after
}

/// A number without a pattern that is the same each time.
fn mixed(number: u64) -> u64 {
    let sum = (number ^ (number >> 30)).wrapping_add(1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    sum ^ (sum >> 31)
}

/// Between -1 and 1, and a box's own.
fn own(number: u64) -> f64 {
    let share = u32::try_from(mixed(number) % 1000).unwrap_or(0);
    f64::from(share) / 499.5 - 1.0
}
