//! The fleet's server without its sockets: what it has saved, what it believes, and its real mind.
//!
//! A crash takes everything but what a transaction saved: rollouts with their members, orders, sites, journals, and the
//! newest words of each device. A decision and the orders it leads to are saved together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_fleet::gate::{DeviceEvidence, Inputs, PairedDay, Shadow, Shift, Silence, Vitals};
use muster_fleet::rollout::claims::{Contender, beside, busy_elsewhere, claim, way_back};
use muster_fleet::rollout::filter::Tags;
use muster_fleet::rollout::journal::{Change, Entry, Input, outcome};
use muster_fleet::rollout::owed::owed;
use muster_fleet::rollout::view::{BundleStanding, DeviceView, Doing, FleetView};
use muster_fleet::rollout::{
    Advance, Assignment, Cause, Claim, Freeze, Lease, Members, Moment, Phase, Rollout, SiteView, Verb,
    WaitingOn, advance,
};
use muster_protocol::ids::{DeviceId, Digest, HardwareClass, SiteName, SlotName};
use muster_protocol::message::Phase as BoxPhase;
use muster_protocol::message::up::{BundleRef, State};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::{Order, Permit, Want};

#[derive(Debug, Default)]
pub(crate) struct Fleet {
    pub(crate) up: bool,
    pub(crate) rollouts: Vec<Saved>,
    pub(crate) orders: BTreeMap<DeviceId, Order>,
    pub(crate) devices: BTreeMap<DeviceId, Known>,
    pub(crate) sites: BTreeMap<SiteName, SiteView>,
    pub(crate) freezes: Vec<Freeze>,
    pub(crate) standings: BTreeMap<Digest, BundleStanding>,
    pub(crate) keeps_journal: bool,
    /// The catalogue has expired: no order can be made.
    pub(crate) has_expired: bool,
}

/// A rollout as the database has it.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) rollout: Rollout,
    pub(crate) members: Members,
    /// What it may not run on.
    pub(crate) unfit: Option<HardwareClass>,
    pub(crate) journal: Vec<Entry>,
    seen: FleetView,
    pub(crate) look_again: Option<Timestamp>,
    /// Something that it looks at has changed since it was asked.
    pub(crate) is_due: bool,
    asked: Timestamp,
    pub(crate) waiting_on: Vec<WaitingOn>,
}

/// A device as the fleet knows it: by its words alone.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) site: SiteName,
    pub(crate) tags: Tags,
    pub(crate) hardware: HardwareClass,
    pub(crate) online: bool,
    pub(crate) presence_since: Timestamp,
    pub(crate) state: Option<State>,
    heard: (u64, u64),
    heard_presence: u64,
    pub(crate) leases: Vec<Lease>,
    /// By bundle and period: a report that comes twice says the same twice.
    reports: BTreeMap<(Digest, u64), Report>,
}

/// What a box says of a period with a bundle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) bundle: Digest,
    pub(crate) period: u64,
    pub(crate) at: Timestamp,
    pub(crate) hours: f64,
    pub(crate) failed_hours: f64,
    pub(crate) requests: u64,
    pub(crate) slow: bool,
    pub(crate) hot: bool,
    pub(crate) paired: PairedDay,
}

/// The bucket of answers that take half a second: beyond every limit.
const SLOW: usize = 14;
/// Silence grows with time alone, so a rollout is asked now and then even if nothing else changes.
const ASKED_EVERY: Duration = Duration::from_hours(2);

/// What a device tells.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    Presence { device: DeviceId, connection: u64, online: bool },
    State { device: DeviceId, boot: u64, state: State },
    Report { device: DeviceId, report: Report },
}

impl Known {
    pub(crate) fn new(
        name: &str,
        site: SiteName,
        tags: Tags,
        hardware: HardwareClass,
        now: Timestamp,
    ) -> Self {
        Self {
            name: name.to_owned(),
            site,
            tags,
            hardware,
            online: true,
            presence_since: now,
            state: None,
            heard: (0, 0),
            heard_presence: 0,
            leases: Vec::new(),
            reports: BTreeMap::new(),
        }
    }

    /// What all its reports say together; labelled predictions by day, as the server keeps them.
    fn evidence(&self, bundle: &BundleRef, since: Timestamp) -> DeviceEvidence {
        let mut shown = DeviceEvidence { inputs: Inputs::Quiet, ..DeviceEvidence::default() };
        let first = (bundle.sha256, 0);
        let (mut hot, mut slow, mut wrong, mut last_day) = (false, false, false, 0);
        for (_, report) in self.reports.range(first..).take_while(|((digest, _), _)| *digest == bundle.sha256)
        {
            if report.at < since {
                continue;
            }
            shown.hours += report.hours;
            shown.failed_hours += report.failed_hours;
            let bucket = if report.slow { SLOW } else { 0 };
            if shown.latency.len() <= bucket {
                shown.latency.resize(bucket + 1, 0);
            }
            shown.latency[bucket] += report.requests;
            let day = report.at.as_seconds() / 86_400;
            let days = shown.paired.get_or_insert_default();
            match days.last_mut().filter(|_| day == last_day) {
                Some(last) => add(last, report.paired),
                None => days.push(report.paired),
            }
            last_day = day;
            slow |= report.slow;
            hot |= report.hot;
            wrong |= report.paired.diff_sum > 0.0;
        }
        if shown.hours > 0.0 {
            let shift = |before: f64, changed: bool| {
                Some(Shift { before, since: if changed { before * 1.6 } else { before } })
            };
            shown.vitals = Vitals {
                latency_ms: shift(20.0, slow),
                memory_mib: shift(300.0, hot),
                temperature_c: shift(55.0, hot),
            };
            shown.shadow = Some(Shadow { n: 1000, disagreed: if wrong { 300 } else { 2 } });
        }
        shown
    }
}

impl Fleet {
    /// Takes a word into what it knows; says whether that changed anything.
    pub(crate) fn hear(&mut self, word: &Word, now: Timestamp) -> bool {
        match word {
            Word::Presence { device, connection, online } => {
                let Some(known) = self.devices.get_mut(device) else { return false };
                // A late will never marks a newer connection offline.
                if *connection < known.heard_presence || (*connection == known.heard_presence && *online) {
                    return false;
                }
                known.heard_presence = *connection;
                if known.online == *online {
                    return false;
                }
                known.online = *online;
                known.presence_since = now;
                true
            }
            Word::State { device, boot, state } => {
                let Some(known) = self.devices.get_mut(device) else { return false };
                if (*boot, state.sequence) <= known.heard {
                    return false;
                }
                known.heard = (*boot, state.sequence);
                let said = known.state.replace(state.clone());
                said.is_none_or(|said| {
                    said.observed_generation != state.observed_generation || said.slots != state.slots
                })
            }
            Word::Report { device, report } => {
                let Some(known) = self.devices.get_mut(device) else { return false };
                let key = (report.bundle, report.period);
                known.reports.insert(key, *report) != Some(*report)
            }
        }
    }

    /// What was heard last, of everybody.
    pub(crate) fn newest_words(&self) -> Vec<Word> {
        let of = |(device, known): (&DeviceId, &Known)| {
            let state = known.state.clone().map(|state| Word::State {
                device: device.clone(),
                boot: known.heard.0,
                state,
            });
            let reports =
                known.reports.values().map(|report| Word::Report { device: device.clone(), report: *report });
            state.into_iter().chain(reports).collect::<Vec<_>>()
        };
        self.devices.iter().flat_map(of).collect()
    }

    pub(crate) fn standing(&self, bundle: &BundleRef) -> BundleStanding {
        self.standings.get(&bundle.sha256).cloned().unwrap_or_default()
    }

    /// The fleet as this rollout's engine sees it.
    pub(crate) fn view(&self, index: usize, now: Timestamp) -> FleetView {
        let saved = &self.rollouts[index];
        let rollout = &saved.rollout;
        let stage = rollout.phase.stage().unwrap_or(rollout.plan.stages.len() - 1);
        let opened = rollout.stages[stage.min(rollout.stages.len() - 1)].opened.unwrap_or(rollout.created);
        let contenders =
            self.rollouts.iter().map(|Saved { rollout, members, .. }| Contender { rollout, members });
        // The server keeps in mind what may still change, and no more.
        let contenders: Vec<Contender<'_>> = contenders.filter(|other| is_looked_at(other.rollout)).collect();
        let devices = self.devices.iter().map(|(id, known)| {
            let order = self.orders.get(id);
            let want = order.and_then(|order| order.want.iter().find(|want| want.slot == rollout.slot));
            let wish = want.map(|want| BundleRef { path: want.bundle.clone(), sha256: want.sha256 });
            let (current, doing) =
                observe(known.state.as_ref(), order.map_or(0, |o| o.version), &rollout.slot);
            let mut evidence = known.evidence(&rollout.bundle, rollout.created);
            let activated = saved.members.get(id).and_then(|member| member.progress.activated());
            evidence.silence = silence(known, activated.unwrap_or(opened), now);
            if activated.is_none() && evidence.hours == 0.0 {
                let steady = |value: f64| Some(Shift { before: value, since: value });
                evidence.vitals = Vitals {
                    latency_ms: steady(20.0),
                    memory_mib: steady(300.0),
                    temperature_c: steady(55.0),
                };
            }
            let unfit = saved.unfit.as_ref().filter(|class| **class == known.hardware);
            let mut view = DeviceView {
                name: known.name.clone(),
                site: known.site.clone().into(),
                tags: known.tags.clone(),
                hardware: BTreeSet::from([known.hardware.clone()]).into(),
                agent: None,
                online: known.online,
                quarantined: false,
                presence_since: known.presence_since,
                wish,
                current,
                way_back: None,
                doing,
                unfit: unfit
                    .map(|class| Box::new(Cause::new("unfit", format!("it does not run on {class}")))),
                bad: None,
                claim: Claim::Free,
                busy_elsewhere: busy_elsewhere(rollout, &contenders, id),
                beside: beside(rollout, &contenders, id),
                leases: known.leases.iter().filter(|lease| lease.until > now).cloned().collect(),
                evidence: Box::new(evidence),
            };
            view.claim = claim(rollout, &contenders, id, &view);
            view.way_back = way_back(rollout, &contenders, id, &view);
            (id.clone(), view)
        });
        let devices = devices.collect();
        let live = |view: &SiteView| SiteView {
            rules: view.rules.clone(),
            leases: view.leases.iter().filter(|lease| lease.until > now).cloned().collect(),
        };
        FleetView {
            devices,
            sites: self.sites.iter().map(|(name, site)| (name.clone(), live(site))).collect(),
            freezes: self.freezes.clone(),
            bundle: self.standing(&rollout.bundle),
            unheard: false,
        }
    }

    /// Asks the engine of one rollout, without taking its answer.
    pub(crate) fn ask(&self, index: usize, now: Timestamp) -> (FleetView, Advance) {
        let view = self.view(index, now);
        let saved = &self.rollouts[index];
        let answer = advance(&saved.rollout, &saved.members, &view, now);
        (view, answer)
    }

    /// Remembers that it was asked, whatever came of it.
    pub(crate) fn asked(&mut self, index: usize, answer: &Advance, now: Timestamp) {
        let saved = &mut self.rollouts[index];
        saved.look_again = answer.look_again;
        saved.waiting_on.clone_from(&answer.waiting_on);
        saved.asked = now;
        saved.is_due = false;
    }

    /// When it must be asked again; `None` if it has ended.
    pub(crate) fn asks_again(&self, index: usize) -> Option<Timestamp> {
        let saved = &self.rollouts[index];
        let latest = saved.asked.plus(ASKED_EVERY);
        self.is_looked_at(index).then(|| saved.look_again.map_or(latest, |time| time.min(latest)))
    }

    /// Whether there is anything new to ask about it.
    pub(crate) fn is_due(&self, index: usize, now: Timestamp) -> bool {
        let due = self.asks_again(index).is_some_and(|time| time <= now);
        due || (self.rollouts[index].is_due && self.is_looked_at(index))
    }

    /// Something has changed that every rollout looks at.
    pub(crate) fn all_are_due(&mut self) {
        for saved in &mut self.rollouts {
            saved.is_due = true;
        }
    }

    /// Saves the answer; says whose orders are new.
    pub(crate) fn take(
        &mut self,
        index: usize,
        view: &FleetView,
        answer: &Advance,
        now: Timestamp,
    ) -> Vec<DeviceId> {
        let keeps_journal = self.keeps_journal;
        let saved = &mut self.rollouts[index];
        saved.rollout.apply(&mut saved.members, answer);
        if keeps_journal {
            let change = Change::between(&saved.seen, view);
            saved.seen.clone_from(view);
            let outcome = outcome(&saved.rollout, &answer.members);
            saved.journal.push(Entry { at: now, input: Input::Looked { change }, outcome });
        }
        self.make(index, &answer.assign, now)
    }

    /// Makes the orders that could not be made before; says whose are new.
    pub(crate) fn pay(&mut self, index: usize, view: &FleetView, now: Timestamp) -> Vec<DeviceId> {
        let saved = &self.rollouts[index];
        let owed = owed(&saved.rollout, &saved.members, view, None);
        self.make(index, &owed, now)
    }

    fn make(&mut self, index: usize, assignments: &[Assignment], now: Timestamp) -> Vec<DeviceId> {
        if self.has_expired {
            return Vec::new();
        }
        let slot = self.rollouts[index].rollout.slot.clone();
        let mut told = Vec::new();
        for assignment in assignments {
            let want = want(&slot, assignment);
            if self.order(&assignment.device, &slot, want, now) {
                told.push(assignment.device.clone());
            }
        }
        told
    }

    /// Makes what the slot wants part of the device's order.
    pub(crate) fn order(
        &mut self,
        device: &DeviceId,
        slot: &SlotName,
        want: Option<Want>,
        now: Timestamp,
    ) -> bool {
        if !self.devices.contains_key(device) {
            return false;
        }
        let before = self.orders.get(device);
        let mut wants: Vec<Want> = before.map(|order| order.want.clone()).unwrap_or_default();
        wants.retain(|want| want.slot != *slot);
        wants.extend(want);
        wants.sort_by(|a, b| a.slot.cmp(&b.slot));
        if before.is_some_and(|order| order.want == wants) {
            return false;
        }
        let order = Order {
            type_: String::new(),
            spec_version: String::new(),
            version: before.map_or(0, |order| order.version) + 1,
            issued: now,
            expires: now.plus(Duration::from_hours(24 * 365)),
            device: device.clone(),
            catalogue: 1,
            want: wants,
            capture: Vec::new(),
        };
        self.orders.insert(device.clone(), order);
        true
    }

    pub(crate) fn begin(&mut self, rollout: Rollout, unfit: Option<HardwareClass>, now: Timestamp) {
        let mut journal = Vec::new();
        if self.keeps_journal {
            let outcome = outcome(&rollout, &Members::new());
            journal.push(Entry {
                at: now,
                input: Input::Begun { rollout: Box::new(rollout.clone()) },
                outcome,
            });
        }
        self.rollouts.push(Saved {
            rollout,
            members: Members::new(),
            unfit,
            journal,
            seen: FleetView::default(),
            look_again: None,
            is_due: true,
            asked: now,
            waiting_on: Vec::new(),
        });
    }

    /// A person acts; a refusal changes nothing.
    pub(crate) fn act(
        &mut self,
        index: usize,
        verb: Verb,
        by: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), String> {
        let saved = &mut self.rollouts[index];
        let by = muster_fleet::rollout::Actor::Person { name: by.to_owned() };
        saved.rollout.act(verb, by.clone(), reason, now).map_err(|refused| refused.to_string())?;
        if self.keeps_journal {
            let outcome = outcome(&saved.rollout, &Members::new());
            let input = Input::Acted { verb, by, reason: reason.to_owned() };
            saved.journal.push(Entry { at: now, input, outcome });
        }
        Ok(())
    }

    pub(crate) fn is_looked_at(&self, index: usize) -> bool {
        is_looked_at(&self.rollouts[index].rollout)
    }
}

/// Open ones, and those that may still be reopened.
fn is_looked_at(rollout: &Rollout) -> bool {
    rollout.phase.is_open() || matches!(rollout.phase, Phase::Completed { .. })
}

fn want(slot: &SlotName, assignment: &Assignment) -> Option<Want> {
    let bundle = assignment.bundle.as_ref()?;
    Some(Want {
        slot: slot.clone(),
        bundle: bundle.path.clone(),
        sha256: bundle.sha256,
        // World time is the true time here.
        activate: match assignment.permit {
            Moment::Now => Permit::Now,
            Moment::Hold => Permit::Hold,
            Moment::Until(end) => Permit::Until(end),
        },
        consent: assignment.consent,
    })
}

fn add(day: &mut PairedDay, more: PairedDay) {
    day.n += more.n;
    day.diff_sum += more.diff_sum;
    day.diff_sum_sq += more.diff_sum_sq;
    day.before_loss_sum += more.before_loss_sum;
}

fn silence(known: &Known, from: Timestamp, now: Timestamp) -> Silence {
    let hours = |from: Timestamp| now.since(from).as_secs_f64() / 3600.0;
    let silent_hours = (!known.online).then(|| hours(known.presence_since));
    Silence { hours_at_risk: hours(from), silent_hours }
}

/// What the device proved to run in the slot, and what it does about its newest order.
fn observe(state: Option<&State>, order_version: u64, slot: &SlotName) -> (Option<BundleRef>, Doing) {
    let Some(state) = state else { return (None, Doing::Unknown) };
    let found = state.slots.iter().find(|reported| reported.slot == *slot);
    let current = found.and_then(|reported| reported.current.as_ref()).map(|running| running.bundle.clone());
    if state.observed_generation < order_version {
        return (current, Doing::Unknown);
    }
    let working =
        |bundle: &BundleRef, step: &str| Doing::Working { bundle: bundle.clone(), step: step.to_owned() };
    let doing = found.map_or(Doing::Nothing, |reported| match &reported.phase {
        BoxPhase::Empty | BoxPhase::Running { .. } => Doing::Nothing,
        BoxPhase::Downloading { bundle, .. } => working(bundle, "downloads it"),
        BoxPhase::Verifying { bundle } => working(bundle, "verifies it"),
        BoxPhase::SelfTesting { bundle } => working(bundle, "tests it against its golden outputs"),
        BoxPhase::Ready { bundle, waits_for } => {
            Doing::Ready { bundle: bundle.clone(), waits_for: *waits_for }
        }
        BoxPhase::Activating { bundle } => working(bundle, "activates it"),
        BoxPhase::Failed { bundle, again: Some(_), .. } => working(bundle, "tries again by itself"),
        BoxPhase::Failed { bundle, code, sentence, again: None }
        | BoxPhase::Stopped { bundle, code, sentence } => {
            Doing::Failed { bundle: bundle.clone(), cause: Cause::new(code, sentence.as_str()) }
        }
    });
    (current, doing)
}
