//! What the states of all devices mean for each of them. What hands out and what explains both ask here, so that the
//! sentence can never differ from the decision.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::ids::{DeviceId, SiteName, TagValue};
use muster_protocol::time::Timestamp;

use super::hindrance::Hindrance;
use super::look::{Part, Row, hours};
use crate::rollout::calendar::{Hours, Zone};
use crate::rollout::mark::MarkedSite;
use crate::rollout::view::{BundleStanding, Claim, DeviceView, Doing, FleetView};
use crate::rollout::{Freeze, Lease, Phase, Progress, Rollout, SiteRules, SiteView, StagePlan, Timing};

const HOUR: Duration = Duration::from_hours(1);

/// What the whole fleet's state means for each device, gathered once a look.
pub(in crate::rollout) struct Facts<'a> {
    rollout: &'a Rollout,
    view: &'a FleetView,
    now: Timestamp,
    open: usize,
    sites: BTreeMap<MarkedSite, Site<'a>>,
    /// For sites without rules.
    plain: Site<'a>,
    in_flight: usize,
    in_flight_at: BTreeMap<&'a MarkedSite, usize>,
    /// Boxes of a site that another rollout has in flight, or that are interrupted for another slot: they take its places too.
    busy_at: BTreeMap<&'a MarkedSite, usize>,
    /// Of each redundancy group, who keeps its partners waiting.
    groups: BTreeMap<&'a TagValue, Vec<Trouble<'a>>>,
    asked_in_hour: u32,
    first_in_hour: Option<Timestamp>,
    /// Device-hours that are spent or promised, if the open stage has a budget.
    exposure: Option<f64>,
}

struct Site<'a> {
    rules: Option<&'a SiteRules>,
    /// The longest of its leases that still runs.
    lease: Option<&'a Lease>,
    download: OnceCell<Opening>,
    activation: OnceCell<Opening>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Opening {
    Open { until: Option<Timestamp> },
    Closed { until: Option<Timestamp> },
}

struct Trouble<'a> {
    device: &'a DeviceId,
    name: &'a str,
    why: &'static str,
}

impl<'a> Facts<'a> {
    pub(in crate::rollout) fn gather(
        rollout: &'a Rollout,
        view: &'a FleetView,
        now: Timestamp,
        rows: &[Row<'a>],
    ) -> Self {
        let open = rollout.open_stage();
        let sites =
            view.sites.iter().map(|(name, site)| (name.clone().into(), Site::of(site, now))).collect();
        let mut facts = Self {
            rollout,
            view,
            now,
            open,
            sites,
            plain: Site { rules: None, lease: None, download: OnceCell::new(), activation: OnceCell::new() },
            in_flight: 0,
            in_flight_at: BTreeMap::new(),
            busy_at: BTreeMap::new(),
            groups: BTreeMap::new(),
            asked_in_hour: 0,
            first_in_hour: None,
            exposure: budget(rollout, open).map(|_| 0.0),
        };
        for row in rows {
            facts.count(row);
        }
        facts
    }

    fn count(&mut self, row: &Row<'a>) {
        if let Some(device) = row.device {
            let ours = row.part() == Some(Part::InFlight);
            let is_busy = device.busy_elsewhere || (device.beside.is_in_flight() && !ours);
            if is_busy && self.site_cap(&device.site).is_some() {
                *self.busy_at.entry(&device.site).or_default() += 1;
            }
            if let Some(group) = device.group() {
                let name = if device.name.is_empty() { row.id.as_str() } else { device.name.as_str() };
                let trouble = trouble(row, device);
                self.groups.entry(group).or_default().extend(trouble.map(|why| Trouble {
                    device: row.id,
                    name,
                    why,
                }));
            }
        }
        let Some(part) = row.part().filter(|part| part.is_exposed()) else { return };
        if part == Part::InFlight {
            self.in_flight += 1;
            if let Some(device) = row.device {
                *self.in_flight_at.entry(&device.site).or_default() += 1;
            }
        }
        if let Some(asked) = row.member().and_then(|member| member.progress.asked()) {
            if self.now.since(asked.at) < HOUR {
                self.asked_in_hour += 1;
                self.first_in_hour = Some(self.first_in_hour.map_or(asked.at, |first| first.min(asked.at)));
            }
            if self.exposure.is_some() {
                let spent = self.exposure_of(row);
                self.exposure = self.exposure.map(|sum| sum + spent);
            }
        }
    }

    /// Device-hours that one device has spent since the open stage opened, or will have by the end of its bake.
    fn exposure_of(&self, row: &Row<'a>) -> f64 {
        let Some(member) = row.member() else { return 0.0 };
        let opened = self.rollout.record().and_then(|record| record.opened);
        if member.progress.asked().is_some_and(|asked| opened.is_some_and(|opened| asked.at < opened)) {
            return 0.0;
        }
        let bake = hours(self.bake(member.stage));
        match &member.progress {
            Progress::Offered { .. } | Progress::Ready { .. } | Progress::Permitted { .. } => bake,
            Progress::Activated { at, .. } => hours(self.now.since(*at)).max(bake),
            Progress::Baked { activated, .. } => hours(self.now.since(*activated)).max(bake),
            Progress::Reverted { activated, at, .. } => hours(at.since(*activated)),
            Progress::Waiting
            | Progress::Excluded { .. }
            | Progress::Failed { .. }
            | Progress::Returning { .. }
            | Progress::Returned { .. } => 0.0,
        }
    }

    fn bake(&self, stage: usize) -> Duration {
        self.rollout.plan.stages.get(stage).map(StagePlan::bake).unwrap_or_default()
    }

    fn site(&self, name: &MarkedSite) -> &Site<'a> {
        self.sites.get(name).unwrap_or(&self.plain)
    }

    fn site_cap(&self, name: &MarkedSite) -> Option<u32> {
        let of_site = self.site(name).rules.and_then(|rules| rules.in_flight_max);
        match (self.rollout.plan.in_flight_per_site_max, of_site) {
            (Some(plan), Some(site)) => Some(plan.min(site)),
            (plan, site) => plan.or(site),
        }
    }

    /// Why a waiting device is not asked; `None`: it is next.
    pub(in crate::rollout) fn asking(&self, row: &Row<'a>) -> Option<Hindrance<'a>> {
        self.reaching(row).or_else(|| self.limits(row, true))
    }

    /// The part of [`Self::asking`] that does not depend on who is asked before it.
    pub(super) fn reaching(&self, row: &Row<'a>) -> Option<Hindrance<'a>> {
        self.standing(row).or_else(|| self.window(row, false))
    }

    /// Why a device that has it may not switch.
    pub(in crate::rollout) fn permitting(&self, row: &Row<'a>) -> Option<Hindrance<'a>> {
        self.standing(row).or_else(|| self.moment(row)).or_else(|| self.limits(row, false))
    }

    /// What the rollout, the bundle, a freeze or the device's absence forbid.
    pub(super) fn standing(&self, row: &Row<'a>) -> Option<Hindrance<'a>> {
        if let Some(hindrance) = self.rollout_stands() {
            return Some(hindrance);
        }
        let member = row.member()?;
        if member.stage > self.open {
            let name = |stage: usize| self.rollout.plan.stages.get(stage).map_or("", |s| s.name.as_str());
            return Some(Hindrance::LaterStage { own: name(member.stage), open: name(self.open) });
        }
        let Some(device) = row.device else { return Some(Hindrance::Offline) };
        if let Some(freeze) = self.view.freezes.iter().find(|freeze| freeze.covers(&device.site)) {
            return Some(Hindrance::Frozen { freeze });
        }
        if !row.is_online() {
            return Some(Hindrance::Offline);
        }
        // Orders are latest-wins: a box that misses the one in between takes the next for a repeat, and what it remembers
        // as bad stays bad.
        if member.attempts > 0 && member.progress == Progress::Waiting && device.doing == Doing::Unknown {
            return Some(Hindrance::Unanswered);
        }
        match &device.claim {
            // What has begun is finished, unless the other rollout takes it.
            Claim::Behind { rollout } if !member.progress.is_exposed() => Some(Hindrance::Behind { rollout }),
            Claim::Free | Claim::Behind { .. } | Claim::Superseded { .. } => None,
        }
    }

    pub(in crate::rollout) fn rollout_stands(&self) -> Option<Hindrance<'a>> {
        match &self.rollout.phase {
            Phase::Running { .. } | Phase::Completed { .. } => {}
            Phase::Proposed { .. } => return Some(Hindrance::Proposed),
            Phase::Scheduled { start, .. } => return Some(Hindrance::Scheduled { start: *start }),
            Phase::Paused { reason, .. } => return Some(Hindrance::Paused { reason }),
            Phase::Held { cause, .. } => return Some(Hindrance::Held { cause }),
            Phase::RollingBack { .. } | Phase::RolledBack { .. } => {
                return Some(Hindrance::Stopped { how: "rolled back" });
            }
            Phase::Aborting { .. } | Phase::Aborted { .. } => {
                return Some(Hindrance::Stopped { how: "aborted" });
            }
            Phase::Superseded { by, .. } => return Some(Hindrance::SupersededRollout { by }),
        }
        if self.view.unheard {
            return Some(Hindrance::Unheard);
        }
        match &self.view.bundle {
            BundleStanding::Catalogued => None,
            BundleStanding::Yanked => Some(Hindrance::Yanked),
            BundleStanding::Revoked { reason } => Some(Hindrance::Revoked { reason }),
        }
    }

    fn window(&self, row: &Row<'a>, activation: bool) -> Option<Hindrance<'a>> {
        let site = self.site(&row.device?.site);
        let rules = site.rules?;
        match self.opening(site, rules, activation) {
            Opening::Open { .. } => None,
            Opening::Closed { until } => {
                Some(Hindrance::Window { activation, zone: &rules.zone, opens: until })
            }
        }
    }

    fn opening(&self, site: &Site<'a>, rules: &SiteRules, activation: bool) -> Opening {
        if self.rollout.plan.timing == Timing::IgnoreWindows {
            return Opening::Open { until: None };
        }
        let (known, hours) = if activation {
            (&site.activation, &rules.activation)
        } else {
            (&site.download, &rules.download)
        };
        *known.get_or_init(|| Opening::of(hours, &rules.zone, self.now))
    }

    /// Until when a device of the site may switch, if its window closes at all.
    pub(super) fn window_end(&self, name: &MarkedSite) -> Option<Timestamp> {
        let site = self.site(name);
        match self.opening(site, site.rules?, true) {
            Opening::Open { until } | Opening::Closed { until } => until,
        }
    }

    /// Whether the site wants somebody at the box to agree.
    pub(super) fn consent(&self, name: &MarkedSite) -> muster_protocol::trust::Consent {
        self.site(name).rules.map(|rules| rules.consent).unwrap_or_default()
    }

    /// Why the device may not be interrupted now.
    pub(super) fn moment(&self, row: &Row<'a>) -> Option<Hindrance<'a>> {
        let device = row.device?;
        if let Some(hindrance) = self.window(row, true) {
            return Some(hindrance);
        }
        let site = self.site(&device.site);
        let zone = site.rules.map(|rules| &rules.zone);
        if let Some(lease) = longest(&device.leases, self.now) {
            return Some(Hindrance::Lease { lease, site: None, zone });
        }
        if let Some(lease) = site.lease {
            return Some(Hindrance::Lease { lease, site: Some(&device.site), zone });
        }
        if device.busy_elsewhere {
            return Some(Hindrance::BusyElsewhere);
        }
        let troubles = self.groups.get(device.group()?)?;
        let partner = troubles.iter().find(|trouble| trouble.device != row.id)?;
        Some(Hindrance::Partner { name: partner.name, why: partner.why })
    }

    /// The caps: `new` if the device is to be asked, otherwise it was asked and wants a place to switch.
    pub(super) fn limits(&self, row: &Row<'a>, new: bool) -> Option<Hindrance<'a>> {
        if let Some(hindrance) = self.is_full(new) {
            return Some(hindrance);
        }
        let site = &row.device?.site;
        let max = self.site_cap(site)?;
        let taken = |map: &BTreeMap<&MarkedSite, usize>| map.get(site).copied().unwrap_or(0);
        let now = taken(&self.in_flight_at) + taken(&self.busy_at);
        (now >= max as usize).then_some(Hindrance::SiteInFlight { site, now, max })
    }

    /// The caps that hold for everybody alike.
    pub(super) fn is_full(&self, new: bool) -> Option<Hindrance<'a>> {
        let plan = &self.rollout.plan;
        if self.in_flight >= plan.in_flight_max as usize {
            return Some(Hindrance::InFlight { now: self.in_flight, max: plan.in_flight_max });
        }
        if !new {
            return None;
        }
        if let Some(max) = plan.rate_per_hour_max.filter(|max| self.asked_in_hour >= *max) {
            return Some(Hindrance::Rate { max, next: self.first_in_hour.map(|first| first.plus(HOUR)) });
        }
        self.is_spent().then(|| Hindrance::Exposure { max: budget(self.rollout, self.open).unwrap_or(0.0) })
    }

    /// Whether the exposure budget does not allow one device more.
    pub(super) fn is_spent(&self) -> bool {
        match (self.exposure, budget(self.rollout, self.open)) {
            (Some(spent), Some(max)) => spent + hours(self.bake(self.open)) > max,
            (None, _) | (_, None) => false,
        }
    }

    /// Whoever was `before` in flight, or asked, is so now: called for each device that is handed something.
    pub(super) fn hand(&mut self, row: &Row<'a>, was_in_flight: bool, is_new: bool) {
        let Some(device) = row.device else { return };
        if !was_in_flight {
            self.in_flight += 1;
            *self.in_flight_at.entry(&device.site).or_default() += 1;
        }
        if is_new {
            self.asked_in_hour += 1;
            self.first_in_hour.get_or_insert(self.now);
            let stage = row.member().map_or(self.open, |member| member.stage);
            let bake = hours(self.bake(stage).max(self.bake(self.open)));
            self.exposure = self.exposure.map(|sum| sum + bake);
        }
        let permitted = row.member().is_some_and(|m| matches!(m.progress, Progress::Permitted { .. }));
        if let Some(group) = device.group().filter(|_| permitted) {
            let name = if device.name.is_empty() { row.id.as_str() } else { device.name.as_str() };
            self.groups.entry(group).or_default().push(Trouble { device: row.id, name, why: CHANGING });
        }
    }

    /// The freeze that keeps somebody of the rollout waiting, if any does.
    pub(super) fn freeze_of(&self, site: &SiteName) -> Option<&'a Freeze> {
        self.view.freezes.iter().find(|freeze| freeze.covers(site))
    }
}

const CHANGING: &str = "is being changed";

fn budget(rollout: &Rollout, open: usize) -> Option<f64> {
    if matches!(rollout.phase, Phase::Completed { .. }) {
        return None;
    }
    rollout.plan.stages.get(open).and_then(|stage| stage.exposure_device_hours_max)
}

/// Why a device keeps its partners waiting.
fn trouble(row: &Row<'_>, device: &DeviceView) -> Option<&'static str> {
    let progress = row.member().map(|member| &member.progress);
    let changes = matches!(progress, Some(Progress::Permitted { .. } | Progress::Activated { .. }));
    if changes || device.beside.changes() {
        return Some(CHANGING);
    }
    if !device.online {
        return Some("is offline");
    }
    if device.busy_elsewhere {
        return Some("is being changed for another slot");
    }
    // Whoever was told to wait has not been interrupted; whoever is on its way to anything else is.
    let waits = matches!(progress, Some(Progress::Offered { .. } | Progress::Ready { .. }));
    if !waits && !device.beside.waits() && device.wish.is_some() && device.current != device.wish {
        return Some(CHANGING);
    }
    match &device.doing {
        Doing::Failed { .. } | Doing::Refusing { .. } => Some("has failed"),
        Doing::Unknown | Doing::Nothing | Doing::Working { .. } | Doing::Ready { .. } => None,
    }
}

fn longest(leases: &[Lease], now: Timestamp) -> Option<&Lease> {
    leases.iter().filter(|lease| lease.until > now).max_by_key(|lease| (lease.until, &lease.owner))
}

impl<'a> Site<'a> {
    fn of(site: &'a SiteView, now: Timestamp) -> Self {
        Self {
            rules: Some(&site.rules),
            lease: longest(&site.leases, now),
            download: OnceCell::new(),
            activation: OnceCell::new(),
        }
    }
}

impl Opening {
    fn of(hours: &Hours, zone: &Zone, now: Timestamp) -> Self {
        if hours.windows.is_empty() {
            return Self::Open { until: None };
        }
        let until = hours.next_change(zone, now);
        if hours.is_open(zone, now) { Self::Open { until } } else { Self::Closed { until } }
    }
}
