//! Everything that happens, in the order in which it happens: boxes, network, server and people in one queue.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_fleet::gate::PairedDay;
use muster_fleet::rollout::view::BundleStanding;
use muster_fleet::rollout::{Phase, Progress, Rollout, SiteView};
use muster_protocol::ids::{BootId, DeviceId, HardwareClass, SiteName, SlotName};
use muster_protocol::message::Phase as BoxPhase;
use muster_protocol::message::up::{BundleRef, Provider, ProviderUse, Running, SlotState, State};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::{Order, Want};

use crate::boxes::{EdgeBox, End, Job, Power, end_of, usual};
use crate::coverage::Coverage;
use crate::fleet::{Fleet, Known, Report, Word};
use crate::invariants::{self, Broken};
use crate::nature::{Kind, Nature};
use crate::operators;
use crate::rng::Rng;

/// How bad the weather is, in percent of messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) late: u64,
    /// Of commits, that the server dies right before or after them.
    pub(crate) server_crashes: u64,
    pub(crate) setbacks: u64,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) now: Timestamp,
    pub(crate) rng: Rng,
    pub(crate) weather: Weather,
    /// Nobody acts any more and everything works; what is bad stays bad.
    pub(crate) calm: bool,
    pub(crate) boxes: Vec<EdgeBox>,
    pub(crate) numbers: BTreeMap<DeviceId, usize>,
    pub(crate) fleet: Fleet,
    pub(crate) kinds: Vec<Kind>,
    /// A box's own nature with a bundle, where a script says so.
    pub(crate) told: BTreeMap<(usize, muster_protocol::ids::Digest), Nature>,
    pub(crate) coverage: Coverage,
    pub(crate) events: u64,
    pub(crate) looks: u64,
    /// When a rollout or one of its devices last moved.
    pub(crate) moved: Timestamp,
    /// What happened, for people; kept where somebody reads it.
    pub(crate) story: Option<Vec<(Timestamp, String)>>,
    /// The same of a run that failed: unlike a script, it keeps its weather.
    pub(crate) retell: Option<Vec<(Timestamp, String)>>,
    /// The luck of a transport that says again, late, what it has delivered; a luck of its own, so that nothing else changes.
    pub(crate) repeats: Option<Rng>,
    pub(crate) report_every: Duration,
    pub(crate) operator_every: Option<Duration>,
    queue: BTreeMap<(Timestamp, u64), Happening>,
    next: u64,
    backlog: Vec<Word>,
    look_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Look,
    ToBox {
        to: usize,
        order: Order,
    },
    ToFleet(Word),
    /// What the fleet has heard before comes once more.
    Again(Word),
    Finished {
        on: usize,
        boot: u64,
        job: Job,
    },
    Wake {
        on: usize,
        boot: u64,
    },
    Report {
        on: usize,
    },
    /// The catalogue is signed anew.
    Renewed,
    /// What its bundle does to a box after a while.
    Takes {
        on: usize,
        slot: SlotName,
        bundle: BundleRef,
        nature: Nature,
    },
    Power {
        on: usize,
        up: bool,
    },
    Link {
        of: usize,
        up: bool,
    },
    /// The broker has noticed that a box is gone.
    Missed {
        on: usize,
        connection: u64,
    },
    Agree {
        on: usize,
    },
    Operator,
    ServerUp,
}

impl World {
    pub(crate) fn new(seed: u64, now: Timestamp) -> Self {
        Self {
            seed,
            now,
            rng: Rng::new(seed),
            weather: Weather::default(),
            calm: false,
            boxes: Vec::new(),
            numbers: BTreeMap::new(),
            fleet: Fleet { up: true, ..Fleet::default() },
            kinds: Vec::new(),
            told: BTreeMap::new(),
            coverage: Coverage::default(),
            events: 0,
            looks: 0,
            moved: now,
            story: None,
            retell: None,
            repeats: None,
            report_every: Duration::from_hours(1),
            operator_every: None,
            queue: BTreeMap::new(),
            next: 0,
            backlog: Vec::new(),
            look_at: None,
        }
    }

    pub(crate) fn say(&mut self, sentence: impl FnOnce() -> String) {
        if let Some(story) = self.story.as_mut().or(self.retell.as_mut()) {
            let sentence = sentence();
            story.push((self.now, sentence));
        }
    }

    pub(crate) fn at(&mut self, after: Duration, what: Happening) {
        let key = (self.now.plus(after), self.next);
        self.next += 1;
        self.queue.insert(key, what);
    }

    /// A new box that runs `bundle` in the slot.
    pub(crate) fn add_box(&mut self, mut edge: EdgeBox, slot: &SlotName, runs: &BundleRef) {
        let known =
            Known::new(&edge.name, edge.site.clone(), edge.tags.clone(), edge.hardware.clone(), self.now);
        self.fleet.devices.insert(edge.id.clone(), known);
        self.fleet.sites.entry(edge.site.clone()).or_default();
        let want = Want::now(slot.clone(), runs.path.clone(), runs.sha256);
        self.fleet.order(&edge.id, slot, Some(want), self.now);
        edge.runs_from_the_start(slot, runs, &self.fleet.orders[&edge.id]);
        self.numbers.insert(edge.id.clone(), self.boxes.len());
        let on = self.boxes.len();
        self.boxes.push(edge);
        let offset = self.rng.below(self.report_every.as_secs());
        self.at(Duration::from_secs(offset), Happening::Report { on });
        self.at(Duration::ZERO, Happening::Wake { on, boot: 1 });
    }

    pub(crate) fn begin(&mut self, rollout: Rollout, unfit: Option<HardwareClass>) {
        self.coverage.phase(&rollout);
        self.fleet.begin(rollout, unfit, self.now);
        self.look_soon();
    }

    /// Something has changed for everybody. The server looks when something has changed, a moment later, so that one look sees many changes.
    pub(crate) fn look_soon(&mut self) {
        self.fleet.all_are_due();
        let delay = if self.story.is_some() { 5 } else { self.rng.between(2, 40) };
        self.look_at(self.now.plus(Duration::from_secs(delay)));
    }

    pub(crate) fn look_at(&mut self, time: Timestamp) {
        if self.look_at.is_some_and(|at| at <= time) {
            return;
        }
        self.look_at = Some(time);
        self.at(time.since(self.now), Happening::Look);
    }

    /// The next event, if it comes before `until`.
    pub(crate) fn step(&mut self, until: Timestamp) -> Result<bool, Broken> {
        let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= until) else {
            self.now = self.now.max(until);
            return Ok(false);
        };
        self.now = self.now.max(entry.key().0);
        let what = entry.remove();
        // What is only said again is no event: whoever waits for the end must not see the difference.
        self.events += u64::from(!matches!(what, Happening::Again(_)));
        self.happen(what)?;
        Ok(true)
    }

    fn happen(&mut self, what: Happening) -> Result<(), Broken> {
        match what {
            Happening::Look => {
                if self.look_at == Some(self.now) {
                    self.look_at = None;
                    self.look()?;
                }
            }
            Happening::ToBox { to, order } => {
                let edge = &mut self.boxes[to];
                if edge.reachable() {
                    edge.accept(&order);
                    self.think(to)?;
                }
            }
            Happening::ToFleet(word) => {
                if let Some(luck) = &mut self.repeats
                    && luck.chance(30)
                {
                    let late = Duration::from_secs(luck.between(1, 7200));
                    self.at(late, Happening::Again(word.clone()));
                }
                self.hear(word);
            }
            Happening::Again(word) => self.hear(word),
            Happening::Finished { on, boot, job } => self.finished(on, boot, &job)?,
            Happening::Wake { on, boot } => {
                if self.boxes[on].boot == boot && self.boxes[on].power == Power::On {
                    self.think(on)?;
                }
            }
            Happening::Report { on } => self.report(on),
            Happening::Takes { on, slot, bundle, nature } => self.takes(on, &slot, &bundle, nature)?,
            Happening::Power { on, up } => self.power(on, up)?,
            Happening::Link { of, up } => self.link(of, up)?,
            Happening::Missed { on, connection } => {
                if connection == self.boxes[on].connection && !self.boxes[on].reachable() {
                    let device = self.boxes[on].id.clone();
                    self.send(Word::Presence { device, connection, online: false });
                }
            }
            Happening::Agree { on } => self.agree(on)?,
            Happening::Operator => {
                if let (Some(every), false) = (self.operator_every, self.calm) {
                    operators::act(self)?;
                    let wait = self.rng.between(1, every.as_secs() * 2);
                    self.at(Duration::from_secs(wait), Happening::Operator);
                }
            }
            Happening::Renewed => {
                self.say(|| "the catalogue is signed anew".to_owned());
                self.fleet.has_expired = false;
                self.look_soon();
            }
            Happening::ServerUp => {
                self.fleet.up = true;
                for word in std::mem::take(&mut self.backlog) {
                    self.hear(word);
                }
                // What was retained is published again from the database.
                let orders: Vec<DeviceId> = self.fleet.orders.keys().cloned().collect();
                self.publish(&orders);
                self.look_soon();
            }
        }
        Ok(())
    }

    // ---- the server ----

    fn look(&mut self) -> Result<(), Broken> {
        if !self.fleet.up {
            return Ok(());
        }
        for index in 0..self.fleet.rollouts.len() {
            if !self.fleet.is_due(index, self.now) {
                continue;
            }
            if self.rng.chance(self.weather.server_crashes) {
                // It dies between its decision and the commit: nothing of it may be seen.
                drop(self.fleet.ask(index, self.now));
                self.server_down();
                return Ok(());
            }
            let told = self.look_once(index)?;
            if self.rng.chance(self.weather.server_crashes) {
                // It dies after the commit, before anything was published.
                self.server_down();
                return Ok(());
            }
            self.publish(&told);
        }
        let next = (0..self.fleet.rollouts.len()).filter_map(|index| self.fleet.asks_again(index)).min();
        if let Some(time) = next {
            self.look_at(time.max(self.now.plus(Duration::from_secs(1))));
        }
        Ok(())
    }

    fn look_once(&mut self, index: usize) -> Result<Vec<DeviceId>, Broken> {
        self.looks += 1;
        let (view, answer) = self.fleet.ask(index, self.now);
        if self.looks.is_multiple_of(16) {
            invariants::same_input_same_answer(&self.fleet, index, &view, &answer, self.now)?;
        }
        self.fleet.asked(index, &answer, self.now);
        // The server saves an answer only if it is news; otherwise what was before is what is after.
        let (mut before, mut members_before) = (None, None);
        let told = if answer.is_news(&self.fleet.rollouts[index].rollout) {
            let saved = &self.fleet.rollouts[index];
            before = Some(saved.rollout.clone());
            members_before = (!answer.members.is_empty()).then(|| saved.members.clone());
            self.fleet.take(index, &view, &answer, self.now)
        } else {
            self.fleet.pay(index, &view, self.now)
        };
        let moves = answer.transition.is_some()
            || answer.clock.is_some()
            || !answer.members.is_empty()
            || !told.is_empty();
        if moves {
            self.moved = self.now;
        }
        let saved = &self.fleet.rollouts[index];
        let look = invariants::Look {
            before: before.as_ref().unwrap_or(&saved.rollout),
            members_before: members_before.as_ref().unwrap_or(&saved.members),
            after: &saved.rollout,
            members: &saved.members,
            view: &view,
            answer: &answer,
            now: self.now,
        };
        self.coverage.look(&look);
        let checked = invariants::after_look(&look)
            .and_then(|()| invariants::no_way_back_to_what_was_left(&look, &self.fleet.rollouts));
        let lines = if self.story.is_some() || self.retell.is_some() {
            crate::story::of(&look, &self.boxes, &self.numbers)
        } else {
            Vec::new()
        };
        for line in lines {
            self.say(|| line);
        }
        checked?;
        // What has moved is the next question, also of its neighbours; it is asked at once.
        if moves {
            self.fleet.all_are_due();
            self.look_at(self.now.plus(Duration::from_secs(1)));
        }
        Ok(told)
    }

    fn server_down(&mut self) {
        self.say(|| "the server dies".to_owned());
        self.fleet.up = false;
        let away = self.rng.between(5, 1200);
        self.at(Duration::from_secs(away), Happening::ServerUp);
    }

    pub(crate) fn publish(&mut self, devices: &[DeviceId]) {
        for device in devices {
            let Some(&to) = self.numbers.get(device) else { continue };
            let order = self.fleet.orders[device].clone();
            if self.weather.doubled > 0 && self.rng.chance(self.weather.doubled) {
                let late = self.rng.between(1, 900);
                self.at(Duration::from_secs(late), Happening::ToBox { to, order: order.clone() });
            }
            // Lost while it is connected: the broker sends it again. Not connected: it finds it when it is.
            let delay = self.delay();
            self.at(delay, Happening::ToBox { to, order });
        }
    }

    fn hear(&mut self, word: Word) {
        if !self.fleet.up {
            self.backlog.push(word);
            return;
        }
        if !self.fleet.hear(&word, self.now) {
            return;
        }
        // Evidence concerns the rollouts of its bundle alone, and is looked at when more of it has come.
        let soon = if let Word::Report { report, .. } = &word {
            for saved in &mut self.fleet.rollouts {
                saved.is_due |= saved.rollout.bundle.sha256 == report.bundle;
            }
            600 + self.rng.below(1200)
        } else {
            self.fleet.all_are_due();
            5 + self.rng.below(30)
        };
        let soon = if self.story.is_some() { 5 } else { soon };
        self.look_at(self.now.plus(Duration::from_secs(soon)));
    }

    // ---- the network ----

    fn delay(&mut self) -> Duration {
        if self.story.is_some() {
            return Duration::from_secs(1);
        }
        let late = self.rng.chance(self.weather.late) || self.rng.chance(self.weather.lost);
        Duration::from_secs(if late { self.rng.between(30, 900) } else { self.rng.between(1, 4) })
    }

    pub(crate) fn send(&mut self, word: Word) {
        if self.weather.doubled > 0 && self.rng.chance(self.weather.doubled) {
            let late = self.rng.between(1, 7200);
            self.at(Duration::from_secs(late), Happening::ToFleet(word.clone()));
        }
        let delay = self.delay();
        self.at(delay, Happening::ToFleet(word));
    }

    /// The link of one box comes or goes; its agent goes on either way.
    pub(crate) fn link(&mut self, of: usize, up: bool) -> Result<(), Broken> {
        let was = self.boxes[of].reachable();
        self.boxes[of].linked = up;
        self.reach_changed(of, was)
    }

    pub(crate) fn power(&mut self, on: usize, up: bool) -> Result<(), Broken> {
        let was = self.boxes[on].reachable();
        let edge = &mut self.boxes[on];
        if edge.power == Power::Bricked {
            return Ok(());
        }
        if up == (edge.power == Power::On) {
            return Ok(());
        }
        edge.power = if up { Power::On } else { Power::Off };
        if !up {
            edge.crash();
        }
        self.reach_changed(on, was)
    }

    fn reach_changed(&mut self, on: usize, was: bool) -> Result<(), Broken> {
        let edge = &self.boxes[on];
        let (is, name, device) = (edge.reachable(), edge.name.clone(), edge.id.clone());
        if was == is {
            return Ok(());
        }
        self.boxes[on].connection += 1;
        let connection = self.boxes[on].connection;
        self.say(|| format!("{name} {}", if is { "is back" } else { "goes dark" }));
        if is {
            let delay = self.delay();
            let word = Word::Presence { device: device.clone(), connection, online: true };
            self.at(delay, Happening::ToFleet(word));
            let order = self.fleet.orders[&device].clone();
            self.at(Duration::from_secs(1), Happening::ToBox { to: on, order });
            self.think(on)?;
        } else {
            self.at(Duration::from_secs(90), Happening::Missed { on, connection });
        }
        Ok(())
    }

    // ---- the boxes ----

    /// Asks the agent's mind, begins what it says, and tells the fleet.
    pub(crate) fn think(&mut self, on: usize) -> Result<(), Broken> {
        if self.boxes[on].power != Power::On {
            return Ok(());
        }
        let thought = self.boxes[on].think(self.now)?;
        let boot = self.boxes[on].boot;
        for job in thought.begin {
            let usual = usual(&job).as_secs();
            let takes = if self.story.is_some() { usual } else { self.rng.between(usual / 2, usual * 2) };
            self.at(Duration::from_secs(takes), Happening::Finished { on, boot, job });
        }
        if let Some(time) = thought.look_again {
            let clock = self.boxes[on].clock(self.now);
            self.at(time.since(clock).max(Duration::from_secs(1)), Happening::Wake { on, boot });
        }
        let asks = thought.phases.iter().any(|(_, phase)| {
            let consent = muster_protocol::message::up::ReadyFor::Consent;
            matches!(phase, BoxPhase::Ready { waits_for, .. } if *waits_for == consent)
        });
        if asks && self.story.is_none() {
            let wait = self.rng.between(60, 6 * 3600);
            self.at(Duration::from_secs(wait), Happening::Agree { on });
        }
        self.tell(on, &thought.phases);
        Ok(())
    }

    fn tell(&mut self, on: usize, phases: &[(SlotName, BoxPhase)]) {
        let edge = &mut self.boxes[on];
        if !edge.reachable() {
            return;
        }
        edge.sequence += 1;
        let slot = |(slot, phase): &(SlotName, BoxPhase)| SlotState {
            slot: slot.clone(),
            phase: phase.clone(),
            current: edge.current(slot).map(|bundle| Running {
                bundle: bundle.clone(),
                variant: String::new(),
                provider: ProviderUse { provider: Provider::OpenVino, reason: None },
                numerics: None,
                passed_over: None,
                since: edge.activated.get(slot).copied().unwrap_or_default(),
            }),
            previous: None,
            notice: None,
        };
        let state = State {
            v: 1,
            boot: BootId::mint([0; 16]),
            sequence: edge.sequence,
            at: edge.clock(self.now),
            observed_generation: edge.generation(),
            catalogue: 1,
            refusal: None,
            notices: Vec::new(),
            leases: Vec::new(),
            captures: Vec::new(),
            slots: phases.iter().map(slot).collect(),
        };
        let word = Word::State { device: edge.id.clone(), boot: edge.boot, state };
        self.send(word);
    }

    /// The truth about the bundle on this box.
    pub(crate) fn nature(&self, on: usize, bundle: &BundleRef) -> Nature {
        if let Some(nature) = self.told.get(&(on, bundle.sha256)) {
            return *nature;
        }
        let kind = self.kinds.iter().find(|kind| kind.bundle == *bundle);
        kind.map_or(Nature::Good, |kind| kind.on(self.seed, on))
    }

    fn finished(&mut self, on: usize, boot: u64, job: &Job) -> Result<(), Broken> {
        if self.boxes[on].boot != boot || self.boxes[on].power != Power::On {
            return Ok(());
        }
        let mut end = End::Well;
        if let Job::Verify(_, bundle) | Job::Test(_, bundle) | Job::Activate(_, bundle) = job {
            end = end_of(job, self.nature(on, bundle));
        }
        if matches!(job, Job::Fetch(_)) && (self.rng.chance(self.weather.setbacks) || !self.boxes[on].linked)
        {
            end = End::ForNow;
        }
        self.boxes[on].finish(job, end, self.now);
        let name = self.boxes[on].name.clone();
        match (job, end) {
            (Job::Activate(slot, bundle), End::Well) => {
                self.say(|| format!("{name} switches to {}", bundle.path.version()));
                let nature = self.nature(on, bundle);
                if matches!(nature, Nature::Bricks | Nature::Reverts) {
                    let after = if self.story.is_some() { 3600 } else { self.rng.between(60, 9 * 3600) };
                    let (slot, bundle) = (slot.clone(), bundle.clone());
                    self.at(Duration::from_secs(after), Happening::Takes { on, slot, bundle, nature });
                }
            }
            (Job::Test(_, bundle) | Job::Activate(_, bundle), End::ForGood(code)) => {
                self.say(|| format!("{name} cannot run {}: {code}", bundle.path.version()));
            }
            _ => {}
        }
        self.think(on)
    }

    fn takes(
        &mut self,
        on: usize,
        slot: &SlotName,
        bundle: &BundleRef,
        nature: Nature,
    ) -> Result<(), Broken> {
        let name = self.boxes[on].name.clone();
        if self.boxes[on].current(slot) != Some(bundle) || self.boxes[on].power != Power::On {
            return Ok(());
        }
        if nature == Nature::Bricks {
            self.say(|| format!("{name} is bricked"));
            let was = self.boxes[on].reachable();
            self.boxes[on].power = Power::Bricked;
            self.boxes[on].crash();
            return self.reach_changed(on, was);
        }
        let now = self.now;
        if self.boxes[on].go_back(slot, bundle, now) {
            self.say(|| format!("{name} goes back by itself"));
        }
        self.think(on)
    }

    /// Somebody at the box says yes to what is staged there.
    pub(crate) fn agree(&mut self, on: usize) -> Result<(), Broken> {
        let wants: Vec<Want> = self.fleet.orders[&self.boxes[on].id].want.clone();
        for want in wants {
            if self.boxes[on].is_staged(&want.sha256) {
                self.boxes[on].consents.insert(want.slot, want.sha256);
            }
        }
        self.think(on)
    }

    /// What a box has to say of a period, kept in its spool until the fleet has it.
    fn report(&mut self, on: usize) {
        self.at(self.report_every, Happening::Report { on });
        let edge = &self.boxes[on];
        if edge.power != Power::On || self.fleet.rollouts.is_empty() {
            return;
        }
        let period = u64::try_from(self.now.as_seconds()).unwrap() / self.report_every.as_secs();
        let hours = self.report_every.as_secs_f64() / 3600.0;
        let mut words = Vec::new();
        for (slot, since) in &edge.activated {
            let Some(bundle) = edge.current(slot) else { continue };
            if !self.fleet.rollouts.iter().any(|saved| saved.rollout.bundle == *bundle) {
                continue;
            }
            let lived = self.now.since(*since).as_secs_f64() / 3600.0;
            let nature = self.nature(on, bundle);
            let fails = nature == Nature::FailsLate && lived > 3.0;
            let n = 120;
            let diff = if nature == Nature::Wrong { 0.4 } else { -0.01 };
            let report = Report {
                bundle: bundle.sha256,
                period,
                at: self.now,
                hours: hours.min(lived),
                failed_hours: if fails { hours.min(lived) } else { 0.0 },
                requests: 100,
                slow: nature == Nature::Slow,
                hot: nature == Nature::Hot,
                paired: PairedDay {
                    n,
                    diff_sum: 120.0 * diff,
                    diff_sum_sq: 120.0 * (diff * diff + 0.001),
                    before_loss_sum: 12.0,
                },
            };
            words.push(Word::Report { device: edge.id.clone(), report });
        }
        for word in words {
            if self.boxes[on].reachable() {
                self.send(word);
            } else {
                let later = self.rng.between(3600, 40_000);
                self.at(Duration::from_secs(later), Happening::ToFleet(word));
            }
        }
    }

    // ---- the end ----

    /// The network heals, windows open, leases and freezes end, and nobody acts any more.
    pub(crate) fn calm_down(&mut self) -> Result<(), Broken> {
        self.say(|| "the world calms".to_owned());
        self.calm = true;
        self.weather = Weather::default();
        self.fleet.has_expired = false;
        self.fleet.freezes.clear();
        for site in self.fleet.sites.values_mut() {
            site.leases.clear();
            site.rules.download.windows.clear();
            site.rules.activation.windows.clear();
        }
        for known in self.fleet.devices.values_mut() {
            known.leases.clear();
        }
        for on in 0..self.boxes.len() {
            self.link(on, true)?;
            self.power(on, true)?;
            self.think(on)?;
        }
        if !self.fleet.up {
            self.at(Duration::from_secs(1), Happening::ServerUp);
        }
        self.look_soon();
        Ok(())
    }

    pub(crate) fn site(&mut self, name: &SiteName) -> &mut SiteView {
        self.fleet.sites.entry(name.clone()).or_default()
    }

    pub(crate) fn strike(&mut self, bundle: &BundleRef, standing: BundleStanding) {
        self.fleet.standings.insert(bundle.sha256, standing);
        self.look_soon();
    }

    /// Whether every rollout has ended or waits for a person, with nobody on the way.
    pub(crate) fn is_settled(&self) -> bool {
        let quiet =
            |progress: &Progress| !matches!(progress, Progress::Activated { .. }) && !progress.is_in_flight();
        self.fleet.rollouts.iter().all(|saved| {
            let waits = match &saved.rollout.phase {
                Phase::Scheduled { .. }
                | Phase::Running { .. }
                | Phase::RollingBack { .. }
                | Phase::Aborting { .. } => false,
                Phase::Proposed { .. }
                | Phase::Paused { .. }
                | Phase::Held { .. }
                | Phase::RolledBack { .. }
                | Phase::Aborted { .. }
                | Phase::Superseded { .. }
                | Phase::Completed { .. } => true,
            };
            waits && saved.members.values().all(|member| quiet(&member.progress))
        })
    }
}
