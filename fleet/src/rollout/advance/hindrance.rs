//! Why a device is not asked now, or may not switch now. What hands out and what explains both ask here, so that the
//! sentence can never differ from the decision.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::ids::{DeviceId, RolloutId, SiteName, TagValue};
use muster_protocol::time::Timestamp;

use super::look::{Row, hours};
use crate::rollout::calendar::{Hours, Zone};
use crate::rollout::reason::Code;
use crate::rollout::view::{BundleStanding, Claim, Doing, FleetView, OPT_OUT};
use crate::rollout::{
    Cause, Freeze, Lease, Member, Phase, Progress, Rollout, SiteRules, SiteView, StagePlan, Timing,
};

const HOUR: Duration = Duration::from_hours(1);

/// The first thing that stands in a device's way.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rollout) enum Hindrance<'a> {
    Proposed,
    Scheduled { start: Timestamp },
    Paused { reason: &'a str },
    Held { cause: &'a Cause },
    Stopped { how: &'static str },
    SupersededRollout { by: &'a RolloutId },
    Yanked,
    Revoked { reason: &'a str },
    LaterStage { own: &'a str, open: &'a str },
    Frozen { freeze: &'a Freeze },
    Offline,
    Unanswered,
    Behind { rollout: &'a RolloutId },
    Window { activation: bool, zone: &'a Zone, opens: Option<Timestamp> },
    Lease { lease: &'a Lease, site: Option<&'a SiteName>, zone: Option<&'a Zone> },
    Partner { name: &'a str, why: &'static str },
    BusyElsewhere,
    InFlight { now: usize, max: u32 },
    SiteInFlight { site: &'a SiteName, now: usize, max: u32 },
    Rate { max: u32, next: Option<Timestamp> },
    Exposure { max: f64 },
}

/// What the whole fleet's state means for each device, gathered once a look.
pub(in crate::rollout) struct Facts<'a> {
    rollout: &'a Rollout,
    view: &'a FleetView,
    now: Timestamp,
    open: usize,
    sites: BTreeMap<&'a SiteName, Site<'a>>,
    /// For sites without rules.
    plain: Site<'a>,
    in_flight: usize,
    in_flight_at: BTreeMap<&'a SiteName, usize>,
    /// Boxes of a site that are interrupted for another slot: they take its places too.
    busy_at: BTreeMap<&'a SiteName, usize>,
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
        let sites = view.sites.iter().map(|(name, site)| (name, Site::of(site, now))).collect();
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
        let progress = row.member().map(|member| &member.progress);
        if let Some(device) = row.device {
            if device.busy_elsewhere && self.site_cap(&device.site).is_some() {
                *self.busy_at.entry(&device.site).or_default() += 1;
            }
            if let Some(group) = device.group() {
                let name = if device.name.is_empty() { row.id.as_str() } else { device.name.as_str() };
                let trouble = trouble(row, progress);
                self.groups.entry(group).or_default().extend(trouble.map(|why| Trouble {
                    device: row.id,
                    name,
                    why,
                }));
            }
        }
        let Some(progress) = progress else { return };
        if progress.is_in_flight() {
            self.in_flight += 1;
            if let Some(device) = row.device {
                *self.in_flight_at.entry(&device.site).or_default() += 1;
            }
        }
        if let Some(asked) = progress.asked() {
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

    fn site(&self, name: &SiteName) -> &Site<'a> {
        self.sites.get(name).unwrap_or(&self.plain)
    }

    fn site_cap(&self, name: &SiteName) -> Option<u32> {
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
        if !device.online {
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
    pub(super) fn window_end(&self, name: &SiteName) -> Option<Timestamp> {
        let site = self.site(name);
        match self.opening(site, site.rules?, true) {
            Opening::Open { until } | Opening::Closed { until } => until,
        }
    }

    /// Whether the site wants somebody at the box to agree.
    pub(super) fn consent(&self, name: &SiteName) -> muster_protocol::trust::Consent {
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
        let taken = |map: &BTreeMap<&SiteName, usize>| map.get(site).copied().unwrap_or(0);
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
fn trouble(row: &Row<'_>, progress: Option<&Progress>) -> Option<&'static str> {
    if matches!(progress, Some(Progress::Permitted { .. } | Progress::Activated { .. })) {
        return Some(CHANGING);
    }
    let device = row.device?;
    if !device.online {
        return Some("is offline");
    }
    if device.busy_elsewhere {
        return Some("is being changed for another slot");
    }
    // Whoever was told to wait has not been interrupted; whoever is on its way to anything else is.
    let waits = matches!(progress, Some(Progress::Offered { .. } | Progress::Ready { .. }));
    if !waits && device.wish.is_some() && device.current != device.wish {
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

/// Why a device that waits, or is left out, cannot be asked until that changes.
pub(in crate::rollout) fn exclusion(rollout: &Rollout, row: &Row<'_>, member: &Member) -> Option<Cause> {
    let Some(device) = row.device else {
        return Some(Code::NotAMember.cause("it is no member of the fleet any more"));
    };
    if let Claim::Superseded { rollout } = &device.claim {
        return Some(Code::Superseded.cause(format!("{rollout} took it")));
    }
    if !rollout.plan.selector.matches(&device.traits(row.id)) {
        return Some(Code::LeftCohort.cause("it does not match the rollout's selector any more"));
    }
    if device.has(OPT_OUT) {
        let (tag, value) = OPT_OUT;
        return Some(Code::OptedOut.cause(format!("its tag {tag}={value} keeps it out of rollouts")));
    }
    if let Some(cause) = &device.unfit {
        return Some(Code::Unfit.cause(format!("it is not eligible: {}", cause.sentence)));
    }
    // Who is tried again by a person's will has failed before.
    let is_retried = rollout.retried.is_some() && member.attempts > 0;
    match &device.bad {
        Some(cause) if !is_retried => {
            Some(Code::BadListed.cause(format!("the bundle failed there before: {}", cause.sentence)))
        }
        Some(_) | None => None,
    }
}

impl Hindrance<'_> {
    pub(in crate::rollout) fn code(&self) -> Code {
        match self {
            Self::Proposed => Code::Proposed,
            Self::Scheduled { .. } => Code::Scheduled,
            Self::Paused { .. } => Code::Paused,
            Self::Held { .. } => Code::Held,
            Self::Stopped { .. } => Code::Stopped,
            Self::SupersededRollout { .. } => Code::Superseded,
            Self::Yanked => Code::BundleYanked,
            Self::Revoked { .. } => Code::BundleRevoked,
            Self::LaterStage { .. } => Code::LaterStage,
            Self::Frozen { .. } => Code::Frozen,
            Self::Offline => Code::Offline,
            Self::Unanswered => Code::Unanswered,
            Self::Behind { .. } => Code::Behind,
            Self::Window { activation: true, .. } => Code::ActivationWindow,
            Self::Window { activation: false, .. } => Code::DownloadWindow,
            Self::Lease { .. } => Code::Lease,
            Self::Partner { .. } => Code::Partner,
            Self::BusyElsewhere => Code::BusyElsewhere,
            Self::InFlight { .. } => Code::InFlight,
            Self::SiteInFlight { .. } => Code::SiteInFlight,
            Self::Rate { .. } => Code::Rate,
            Self::Exposure { .. } => Code::Exposure,
        }
    }

    pub(in crate::rollout) fn sentence(&self, now: Timestamp) -> String {
        match self {
            Self::Proposed => "the rollout waits for approval".to_owned(),
            Self::Scheduled { start } => format!("the rollout starts at {start}"),
            Self::Paused { reason: "" } => "the rollout is paused".to_owned(),
            Self::Paused { reason } => format!("the rollout is paused: {reason}"),
            Self::Held { cause } => format!("the rollout is held: {}", cause.sentence),
            Self::Stopped { how } => format!("the rollout was {how} before its turn"),
            Self::SupersededRollout { by } => format!("{by} took the rollout's place"),
            Self::Yanked => "the catalogue no longer lists the bundle".to_owned(),
            Self::Revoked { reason } => format!("the bundle is revoked: {reason}"),
            Self::LaterStage { own, open } => {
                format!("belongs to stage '{own}'; stage '{open}' must pass its gate first")
            }
            Self::Frozen { freeze } => {
                let what = if freeze.sites.is_some() { "its site" } else { "the fleet" };
                format!("{what} is frozen by {}: {}", freeze.by, freeze.reason)
            }
            Self::Offline => "is offline".to_owned(),
            Self::Unanswered => "was told to go back and has not answered yet".to_owned(),
            Self::Behind { rollout } => format!("behind rollout {rollout}"),
            Self::Window { activation, zone, opens } => {
                let what = if *activation { "window" } else { "download window" };
                match opens {
                    Some(opens) => format!("waits for its site's {what} at {}", zone.clock(*opens, now)),
                    None => format!("waits for its site's {what}, which never opens"),
                }
            }
            Self::Lease { lease, site, zone } => {
                let whom = site.map_or(String::new(), |site| format!(" on site {site}"));
                let until = zone.cloned().unwrap_or_default().clock(lease.until, now);
                format!("held by lease '{}' of {}{whom} until {until}", lease.reason, lease.owner)
            }
            Self::Partner { name, why } => format!("its redundancy partner {name} {why}"),
            Self::BusyElsewhere => "is being changed for another slot".to_owned(),
            Self::InFlight { now, max } => format!("in flight: {now} of {max}"),
            Self::SiteInFlight { site, now, max } => format!("in flight at {site}: {now} of {max}"),
            Self::Rate { max, .. } => format!("rate: {max} an hour"),
            Self::Exposure { max } => format!("the stage's exposure budget of {max} device-hours is spent"),
        }
    }

    /// What happens next, or what a person can do.
    pub(in crate::rollout) fn next(&self) -> &'static str {
        match self {
            Self::Proposed => "approve the rollout",
            Self::Scheduled { .. } | Self::LaterStage { .. } => "is asked when its stage opens",
            Self::Paused { .. } => "resume the rollout",
            Self::Held { .. } => "decide on the rollout: resume, promote, abort or roll back",
            Self::Stopped { .. } | Self::SupersededRollout { .. } => "nothing",
            Self::Yanked => "publish the bundle again, or abort",
            Self::Revoked { .. } => "is left alone; start a rollout of another bundle",
            Self::Frozen { .. } => "goes on when the freeze is lifted",
            Self::Offline => "is asked when it comes online",
            Self::Unanswered => "is asked again once it has answered",
            Self::Behind { .. } => "is asked when that one ends",
            Self::Window { opens: None, .. } => "change the site's windows",
            Self::Window { activation: true, .. } => "switches when the window opens",
            Self::Window { activation: false, .. } => "is asked when the window opens",
            Self::Lease { .. } => "switches when the lease ends or is released",
            Self::Partner { .. } => "switches when its partner is well again",
            Self::BusyElsewhere => "switches after that",
            Self::InFlight { .. } | Self::SiteInFlight { .. } => "is next when a place becomes free",
            Self::Rate { .. } => "is asked when the hour allows",
            Self::Exposure { .. } => "is asked when the stage's gate has passed",
        }
    }

    /// When time alone may take it away.
    pub(super) fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Scheduled { start } => Some(*start),
            Self::Window { opens, .. } => *opens,
            Self::Lease { lease, .. } => Some(lease.until),
            Self::Rate { next, .. } => *next,
            Self::Proposed
            | Self::Paused { .. }
            | Self::Held { .. }
            | Self::Stopped { .. }
            | Self::SupersededRollout { .. }
            | Self::Yanked
            | Self::Revoked { .. }
            | Self::LaterStage { .. }
            | Self::Frozen { .. }
            | Self::Offline
            | Self::Unanswered
            | Self::Behind { .. }
            | Self::Partner { .. }
            | Self::BusyElsewhere
            | Self::InFlight { .. }
            | Self::SiteInFlight { .. }
            | Self::Exposure { .. } => None,
        }
    }
}
