//! What an operator asks for: whom, in which stages, how fast, and what each gate must see. A plan that contradicts itself
//! is refused before it starts, with the place and the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_protocol::ids::{BundlePath, DeviceId, SiteName};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::calendar::Hours;
use super::filter::{Filter, FilterError, Traits};
use super::view::FleetView;
use crate::gate::{self, GateLimits};

pub const STAGES_MAX: usize = 20;
pub const STONES_MAX: usize = 16;
/// Approvals that a plan may demand.
pub const APPROVALS_MAX: u8 = 5;
pub const PRIORITY_MAX: u16 = 1000;
/// Longest bake and deadline: windows are counted day by day.
pub const DAYS_MAX: u64 = 365;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub stages: Vec<StagePlan>,
    #[serde(default)]
    pub selector: Selector,
    /// Devices that may be fetching or switching at the same moment.
    #[serde(default = "in_flight_max")]
    pub in_flight_max: u32,
    /// The same, for each site; a site's own rules may say less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight_per_site_max: Option<u32>,
    /// Devices asked in any hour of world time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_hour_max: Option<u32>,
    /// Of rollouts that want the same slot of the same box the higher goes first, and of equals the newer replaces the older.
    #[serde(default = "priority")]
    pub priority: u16,
    #[serde(default)]
    pub on_failure: OnFailure,
    #[serde(default)]
    pub late_joiners: LateJoiners,
    #[serde(default)]
    pub timing: Timing,
    /// Nothing is handed out before; world time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Timestamp>,
    /// Reachable time in open windows that a device has to fetch, test and activate it; after that its install has failed.
    #[serde(default = "install_deadline_s")]
    pub install_deadline_s: u64,
    /// An asked device that stays away for so long is asked anew when it comes back; until then it holds no place.
    #[serde(default = "patience_s")]
    pub patience_s: u64,
    /// How often a device is asked again after a failed install, by `retry`.
    #[serde(default = "attempts_max")]
    pub attempts_max: u8,
    /// Versions that must be run on the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stepping_stones: Vec<SteppingStone>,
    /// People other than its author who must say yes before it starts.
    #[serde(default)]
    pub approvals_min: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagePlan {
    pub name: String,
    pub size: Size,
    /// Share of the stage's asked devices that must be baked before the gate is asked, percent.
    #[serde(default = "quorum_percent")]
    pub quorum_percent: f64,
    /// How long a device must live with the bundle before it counts, seconds of world time.
    pub bake_s: u64,
    /// When an undecided stage stops waiting and asks a person: seconds of world time after it opened in which a window
    /// was open for somebody who is still waited for.
    pub deadline_s: u64,
    /// Risk this stage may spend: device-hours with the bundle before its gate has passed; hand-out waits beyond it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure_device_hours_max: Option<f64>,
    #[serde(default)]
    pub gate: GateLimits,
}

/// Who belongs to a stage. Counts and shares count this stage and all before it together; lists and filters add what they
/// name to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    Count(u32),
    Percent(f64),
    Devices(BTreeSet<DeviceId>),
    Matching(Filter),
}

/// Which devices: all that every part matches, asked again whenever a device changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selector {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sites: Option<BTreeSet<SiteName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<BTreeSet<DeviceId>>,
    #[serde(skip_serializing_if = "Filter::is_everybody")]
    pub filter: Filter,
}

/// What a failed gate does by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Everybody who was told goes back.
    #[default]
    RollBack,
    /// Everything stops where it is, and a person decides.
    Hold,
}

/// What becomes of a device that begins to match while the rollout runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LateJoiners {
    /// It enters the stage that is open: never ahead of what has been proven.
    #[default]
    CurrentStage,
    /// It waits for the last stage.
    LastStage,
    /// It is left out.
    Never,
}

/// Whether the sites' windows, leases and consents are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timing {
    #[default]
    AsSitesAllow,
    /// At once, whatever the site's windows say; leases and redundancy groups are still kept.
    IgnoreWindows,
}

/// A device that runs `from` is first brought to `via`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SteppingStone {
    pub from: BundlePath,
    pub via: BundleRef,
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    #[error("a plan has 1 to {STAGES_MAX} stages, this one has {0}")]
    Stages(usize),
    #[error("stage '{stage}': {what}")]
    Stage { stage: String, what: String },
    #[error("stage '{later}' is smaller than '{earlier}' before it; sizes count the stages before them too")]
    Shrinks { earlier: String, later: String },
    #[error(
        "the last stage '{0}' must be 100 percent, so that nobody is left behind; narrow the selector instead"
    )]
    NotEverybody(String),
    #[error("at least one device must be allowed in flight")]
    InFlight,
    #[error("two stages are called '{0}'")]
    Twice(String),
    #[error("{field}: {what}")]
    Field { field: &'static str, what: String },
    #[error("the stepping stones go in a circle: {0}")]
    Circle(String),
    #[error("no device matches the selector; widen it, or enrol a device first")]
    Nobody,
}

/// What may disappoint, though it is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub code: &'static str,
    pub sentence: String,
}

impl Warning {
    fn new(code: &'static str, sentence: String) -> Self {
        Self { code, sentence }
    }
}

/// Sites whose windows never open.
fn shut_sites<'a>(fleet: &FleetView, sites: BTreeSet<&'a SiteName>) -> Vec<&'a SiteName> {
    let never = |hours: &Hours, zone| {
        let start = Timestamp::default();
        !hours.is_open(zone, start) && hours.next_change(zone, start).is_none()
    };
    let is_shut = |site: &&SiteName| {
        fleet.sites.get(*site).is_some_and(|site| {
            never(&site.rules.download, &site.rules.zone) || never(&site.rules.activation, &site.rules.zone)
        })
    };
    sites.into_iter().filter(is_shut).collect()
}

fn in_flight_max() -> u32 {
    100
}

fn quorum_percent() -> f64 {
    100.0
}

fn priority() -> u16 {
    500
}

fn install_deadline_s() -> u64 {
    6 * 3600
}

fn patience_s() -> u64 {
    3600
}

fn attempts_max() -> u8 {
    3
}

impl Plan {
    /// The plan of these stages, with every other choice at its default.
    pub fn of(stages: Vec<StagePlan>, selector: Selector) -> Self {
        Self {
            stages,
            selector,
            in_flight_max: in_flight_max(),
            in_flight_per_site_max: None,
            rate_per_hour_max: None,
            priority: priority(),
            on_failure: OnFailure::default(),
            late_joiners: LateJoiners::default(),
            timing: Timing::default(),
            start_at: None,
            install_deadline_s: install_deadline_s(),
            patience_s: patience_s(),
            attempts_max: attempts_max(),
            stepping_stones: Vec::new(),
            approvals_min: 0,
        }
    }

    pub fn check(&self) -> Result<(), PlanError> {
        if self.stages.is_empty() || self.stages.len() > STAGES_MAX {
            return Err(PlanError::Stages(self.stages.len()));
        }
        if self.in_flight_max == 0 {
            return Err(PlanError::InFlight);
        }
        let mut names = BTreeSet::new();
        for stage in &self.stages {
            stage.check()?;
            if !names.insert(stage.name.as_str()) {
                return Err(PlanError::Twice(stage.name.clone()));
            }
        }
        self.check_sizes()?;
        self.check_fields()?;
        self.check_stones()
    }

    /// Counts and shares must rise. A count and a share can only be compared once the cohort is known; `targets` never
    /// shrinks.
    fn check_sizes(&self) -> Result<(), PlanError> {
        // Of counts and of shares: the newest, and the stage that has it.
        let mut newest: [Option<(f64, &str)>; 2] = [None, None];
        for stage in &self.stages {
            let (kind, size) = match &stage.size {
                Size::Count(size) => (0, f64::from(*size)),
                Size::Percent(size) => (1, *size),
                Size::Devices(_) | Size::Matching(_) => continue,
            };
            if let Some((before, earlier)) = newest[kind].replace((size, &stage.name))
                && size <= before
            {
                return Err(PlanError::Shrinks { earlier: earlier.to_owned(), later: stage.name.clone() });
            }
        }
        match self.stages.last() {
            Some(StagePlan { size: Size::Percent(percent), .. }) if *percent >= 100.0 => Ok(()),
            Some(last) => Err(PlanError::NotEverybody(last.name.clone())),
            None => Err(PlanError::Stages(0)),
        }
    }

    fn check_fields(&self) -> Result<(), PlanError> {
        let year = DAYS_MAX * 86_400;
        let rules = [
            (
                self.in_flight_per_site_max == Some(0),
                "in_flight_per_site_max",
                "allow at least one device".to_owned(),
            ),
            (
                self.rate_per_hour_max == Some(0),
                "rate_per_hour_max",
                "allow at least one device an hour".to_owned(),
            ),
            (self.priority > PRIORITY_MAX, "priority", format!("write 0 to {PRIORITY_MAX}")),
            (self.approvals_min > APPROVALS_MAX, "approvals_min", format!("demand at most {APPROVALS_MAX}")),
            (self.attempts_max == 0, "attempts_max", "a device is asked at least once".to_owned()),
            (
                self.install_deadline_s == 0 || self.install_deadline_s > year,
                "install_deadline_s",
                format!("give a device some time, at most {DAYS_MAX} days"),
            ),
            (self.patience_s > year, "patience_s", format!("wait at most {DAYS_MAX} days")),
            (
                self.stepping_stones.len() > STONES_MAX,
                "stepping_stones",
                format!("name at most {STONES_MAX}"),
            ),
        ];
        match rules.into_iter().find(|(broken, ..)| *broken) {
            Some((_, field, what)) => Err(PlanError::Field { field, what }),
            None => Ok(()),
        }
    }

    /// Every way over stepping stones must come to an end.
    fn check_stones(&self) -> Result<(), PlanError> {
        let mut next: BTreeMap<&BundlePath, &BundlePath> = BTreeMap::new();
        for stone in &self.stepping_stones {
            if next.insert(&stone.from, &stone.via.path).is_some() {
                let what = format!("{} has two ways on; name one", stone.from);
                return Err(PlanError::Field { field: "stepping_stones", what });
            }
        }
        for start in next.keys().copied() {
            let mut way = vec![start];
            while let Some(&step) = way.last().and_then(|at| next.get(at)) {
                way.push(step);
                if step == start {
                    let way: Vec<String> = way.iter().map(ToString::to_string).collect();
                    return Err(PlanError::Circle(way.join(" → ")));
                }
                if way.len() > STONES_MAX + 1 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// What only the bundle to be rolled out shows: a stone that starts at it would lead away from it for ever.
    pub fn check_target(&self, target: &BundlePath) -> Result<(), PlanError> {
        match self.stepping_stones.iter().find(|stone| stone.from == *target) {
            None => Ok(()),
            Some(stone) => {
                let what = format!("{} is the target; no way may lead on from it", stone.from);
                Err(PlanError::Field { field: "stepping_stones", what })
            }
        }
    }

    /// What only the fleet shows: a plan that cannot do anything there is refused, one that may disappoint is warned of.
    pub fn check_against(&self, fleet: &FleetView) -> Result<Vec<Warning>, PlanError> {
        let cohort: Vec<_> =
            fleet.devices.iter().filter(|(id, device)| self.selector.matches(&device.traits(id))).collect();
        if cohort.is_empty() {
            return Err(PlanError::Nobody);
        }
        let mut warnings = Vec::new();
        let mut reached = 0;
        for (stage, target) in self.stages.iter().zip(self.targets(cohort.len())) {
            let named = match &stage.size {
                Size::Devices(devices) => {
                    let known = |id: &&DeviceId| cohort.binary_search_by(|(known, _)| known.cmp(id)).is_ok();
                    if let Some(unknown) = devices.iter().find(|id| !known(id)) {
                        return Err(stage.wrong(&format!(
                            "{unknown} is not in the cohort; take it out or widen the selector"
                        )));
                    }
                    Some(devices.len())
                }
                Size::Matching(filter) => {
                    Some(cohort.iter().filter(|(id, device)| filter.matches(&device.traits(id))).count())
                }
                Size::Count(_) | Size::Percent(_) => None,
            };
            reached = target.max(reached + named.unwrap_or(0)).min(cohort.len());
            if named == Some(0) && reached > 0 {
                warnings.push(Warning::new("empty_stage", format!("stage '{}' names no device", stage.name)));
            }
            gate::decidable(&stage.gate, reached).map_err(|why| stage.wrong(&why))?;
        }
        let shut = shut_sites(fleet, cohort.iter().map(|(_, device)| &*device.site).collect());
        if self.timing == Timing::AsSitesAllow && !shut.is_empty() {
            let sites: Vec<&str> = shut.iter().map(|site| site.as_str()).collect();
            warnings.push(Warning::new("shut_site", format!("windows never open at {}", sites.join(", "))));
        }
        Ok(warnings)
    }

    /// How many devices of a cohort of `cohort` each stage reaches, counting the stages before it.
    pub fn targets(&self, cohort: usize) -> Vec<usize> {
        let mut reached = 0;
        let last = self.stages.len().saturating_sub(1);
        let targets = self.stages.iter().enumerate().map(|(i, stage)| {
            let target = match &stage.size {
                _ if i == last => cohort,
                Size::Count(count) => *count as usize,
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "0 to 100 percent of a cohort, rounded up"
                )]
                Size::Percent(percent) => (percent / 100.0 * cohort as f64).ceil() as usize,
                // What they name is added when the cohort is drawn.
                Size::Devices(_) | Size::Matching(_) => reached,
            };
            reached = target.clamp(reached, cohort);
            reached
        });
        targets.collect()
    }

    /// The stage of the device at `rank` of the drawn order.
    pub fn stage_of(&self, rank: usize, cohort: usize) -> usize {
        let targets = self.targets(cohort);
        targets.iter().position(|&target| rank < target).unwrap_or(self.stages.len().saturating_sub(1))
    }
}

impl StagePlan {
    pub fn bake(&self) -> Duration {
        Duration::from_secs(self.bake_s)
    }

    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_s)
    }

    fn wrong(&self, what: &str) -> PlanError {
        PlanError::Stage { stage: self.name.clone(), what: what.to_owned() }
    }

    fn check(&self) -> Result<(), PlanError> {
        let refuse = |what: &str| Err(self.wrong(what));
        if self.name.is_empty() || self.name.len() > 40 {
            return refuse("give it a name of 1 to 40 characters");
        }
        match &self.size {
            Size::Count(0) => return refuse("a stage of no device decides nothing"),
            Size::Percent(percent) if !(*percent > 0.0 && *percent <= 100.0) => {
                return refuse("write a share above 0 and up to 100 percent");
            }
            Size::Count(_) | Size::Percent(_) | Size::Devices(_) | Size::Matching(_) => {}
        }
        if !(self.quorum_percent > 0.0 && self.quorum_percent <= 100.0) {
            return refuse("the quorum is a share above 0 and up to 100 percent");
        }
        if self.deadline_s <= self.bake_s {
            return refuse("the deadline must come after the bake, or the gate can never be asked");
        }
        if self.deadline_s > DAYS_MAX * 86_400 {
            return refuse(&format!("a bake and a deadline last at most {DAYS_MAX} days"));
        }
        let one = self.bake().as_secs_f64() / 3600.0;
        // Written so that what is no number is refused too.
        if self.exposure_device_hours_max.is_some_and(|max| !(max >= one && max.is_finite())) {
            return refuse(&format!(
                "its exposure budget must allow one device's bake: {one} device-hours or more"
            ));
        }
        Ok(())
    }
}

impl Selector {
    pub fn matches(&self, device: &Traits<'_>) -> bool {
        self.sites.as_ref().is_none_or(|sites| sites.contains(device.site))
            && self.devices.as_ref().is_none_or(|devices| devices.contains(device.id))
            && self.filter.matches(device)
    }

    /// Whether it matches every device that `other` does, now and later, as far as what they ask for tells.
    pub fn covers(&self, other: &Self) -> bool {
        is_within(other.sites.as_ref(), self.sites.as_ref())
            && is_within(other.devices.as_ref(), self.devices.as_ref())
            && self.filter.follows_from(&other.filter)
    }

    /// Whether no device can match both, as far as what they ask for tells.
    pub fn is_apart_from(&self, other: &Self) -> bool {
        are_apart(self.sites.as_ref(), other.sites.as_ref())
            || are_apart(self.devices.as_ref(), other.devices.as_ref())
            || self.filter.is_apart_from(&other.filter)
            || self.sites.as_ref().is_some_and(|sites| other.filter.leaves_out(sites))
            || other.sites.as_ref().is_some_and(|sites| self.filter.leaves_out(sites))
    }

    /// Keeps to these sites, whatever else it asks for.
    #[must_use]
    pub fn only(mut self, sites: BTreeSet<SiteName>) -> Self {
        self.sites = Some(match self.sites {
            Some(own) => own.intersection(&sites).cloned().collect(),
            None => sites,
        });
        self
    }

    /// Keeps away from these sites.
    pub fn without(mut self, sites: &BTreeSet<SiteName>) -> Result<Self, FilterError> {
        self.filter = self.filter.and(&Filter::elsewhere(sites))?;
        Ok(self)
    }
}

/// Of two lists, where none is everybody.
fn is_within<T: Ord>(part: Option<&BTreeSet<T>>, whole: Option<&BTreeSet<T>>) -> bool {
    match (part, whole) {
        (_, None) => true,
        (Some(part), Some(whole)) => part.is_subset(whole),
        (None, Some(_)) => false,
    }
}

fn are_apart<T: Ord>(one: Option<&BTreeSet<T>>, other: Option<&BTreeSet<T>>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one.is_disjoint(other))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn stage(name: &str, size: Size) -> StagePlan {
        StagePlan {
            name: name.to_owned(),
            size,
            quorum_percent: 100.0,
            bake_s: 3600,
            deadline_s: 360_000,
            exposure_device_hours_max: None,
            gate: GateLimits::default(),
        }
    }

    pub(crate) fn plan(sizes: &[Size]) -> Plan {
        let stages =
            sizes.iter().enumerate().map(|(i, size)| stage(&format!("s{i}"), size.clone())).collect();
        Plan::of(stages, Selector::default())
    }

    #[test]
    fn targets_never_shrink_and_end_with_everybody() {
        let check =
            |sizes: &[Size], cohort, expect: &[usize]| assert_eq!(plan(sizes).targets(cohort), expect);
        check(&[Size::Count(1), Size::Percent(50.0), Size::Percent(100.0)], 3, &[1, 2, 3]);
        check(&[Size::Count(10), Size::Percent(50.0), Size::Percent(100.0)], 3, &[3, 3, 3]);
        check(&[Size::Count(10), Size::Percent(10.0), Size::Percent(100.0)], 50, &[10, 10, 50]);
        check(&[Size::Percent(1.0), Size::Percent(100.0)], 0, &[0, 0]);
    }

    #[test]
    fn contradictions_are_refused() {
        let refused = |sizes: &[Size]| plan(sizes).check().unwrap_err();
        plan(&[Size::Count(1), Size::Percent(100.0)]).check().unwrap();
        assert_eq!(refused(&[]), PlanError::Stages(0));
        assert!(matches!(refused(&[Size::Percent(50.0), Size::Percent(20.0)]), PlanError::Shrinks { .. }));
        assert!(matches!(refused(&[Size::Count(5)]), PlanError::NotEverybody(_)));
        assert!(matches!(refused(&[Size::Percent(f64::NAN)]), PlanError::Stage { .. }));
        assert!(matches!(refused(&[Size::Count(0), Size::Percent(100.0)]), PlanError::Stage { .. }));
        let mut never = plan(&[Size::Percent(100.0)]);
        never.stages[0].deadline_s = never.stages[0].bake_s;
        assert!(matches!(never.check(), Err(PlanError::Stage { .. })));
    }

    fn check_field(change: impl Fn(&mut Plan), expect: &str) {
        let mut plan = plan(&[Size::Count(1), Size::Percent(100.0)]);
        change(&mut plan);
        let said = plan.check().unwrap_err().to_string();
        assert!(said.contains(expect), "{said}");
    }

    #[test]
    fn each_field_has_its_bounds() {
        check_field(|plan| plan.rate_per_hour_max = Some(0), "rate_per_hour_max");
        check_field(|plan| plan.in_flight_per_site_max = Some(0), "in_flight_per_site_max");
        check_field(|plan| plan.attempts_max = 0, "attempts_max");
        check_field(|plan| plan.priority = PRIORITY_MAX + 1, "priority");
        check_field(|plan| plan.approvals_min = APPROVALS_MAX + 1, "approvals_min");
        check_field(|plan| plan.stages[0].deadline_s = (DAYS_MAX + 1) * 86_400, "at most 365 days");
        check_field(|plan| plan.stages[0].exposure_device_hours_max = Some(0.5), "exposure budget");
        check_field(|plan| plan.stages[0].exposure_device_hours_max = Some(f64::NAN), "exposure budget");
        check_field(|plan| plan.stages[1].name = "s0".to_owned(), "two stages");
    }

    fn stone(from: &str, via: &str) -> SteppingStone {
        let path = |version: &str| -> BundlePath { format!("bundles/er/{version}.json").parse().unwrap() };
        let via = BundleRef { path: path(via), sha256: muster_protocol::ids::Digest::of(via.as_bytes()) };
        SteppingStone { from: path(from), via }
    }

    #[test]
    fn stepping_stones_come_to_an_end() {
        let mut way = plan(&[Size::Percent(100.0)]);
        way.stepping_stones = vec![stone("1", "2"), stone("2", "3")];
        way.check().unwrap();
        way.check_target(&"bundles/er/4.json".parse().unwrap()).unwrap();
        assert!(way.check_target(&"bundles/er/2.json".parse().unwrap()).is_err());
        check_field(
            |plan| plan.stepping_stones = vec![stone("1", "2"), stone("2", "3"), stone("3", "2")],
            "bundles/er/2.json → bundles/er/3.json → bundles/er/2.json",
        );
        check_field(|plan| plan.stepping_stones = vec![stone("1", "2"), stone("1", "3")], "two ways");
    }

    #[test]
    fn a_fleet_can_refuse_a_plan() {
        let everybody = plan(&[Size::Percent(100.0)]);
        assert_eq!(everybody.check_against(&FleetView::default()), Err(PlanError::Nobody));
        let device = super::super::view::DeviceView::at("er-1".parse().unwrap());
        let devices = [(DeviceId::mint([1; 16]), device)].into();
        let fleet = FleetView { devices, ..FleetView::default() };
        assert_eq!(everybody.check_against(&fleet), Ok(Vec::new()));
        let unknown = plan(&[Size::Devices([DeviceId::mint([2; 16])].into()), Size::Percent(100.0)]);
        assert!(matches!(unknown.check_against(&fleet), Err(PlanError::Stage { .. })));
        let nobody = plan(&[Size::Matching("ward=icu".parse().unwrap()), Size::Percent(100.0)]);
        let refused = nobody.check_against(&fleet).unwrap_err().to_string();
        assert!(refused.contains("can never be answered"), "{refused}");
        let later =
            plan(&[Size::Count(1), Size::Matching("ward=icu".parse().unwrap()), Size::Percent(100.0)]);
        assert_eq!(later.check_against(&fleet).unwrap()[0].code, "empty_stage");
        let mut shadow = plan(&[Size::Percent(100.0)]);
        shadow.stages[0].gate.shadow_disagreement_max = Some(0.02);
        let refused = shadow.check_against(&fleet).unwrap_err().to_string();
        assert!(refused.contains("needs two; widen the stage"), "{refused}");
    }

    #[test]
    fn two_selectors_beside_each_other() {
        let at = |sites: &[&str], filter: &str| Selector {
            sites: (!sites.is_empty()).then(|| sites.iter().map(|site| site.parse().unwrap()).collect()),
            devices: None,
            filter: filter.parse().unwrap(),
        };
        let check = |one: &Selector, other: &Selector, covers: bool, apart: bool| {
            assert_eq!(one.covers(other), covers, "{one:?} covers {other:?}");
            assert_eq!(one.is_apart_from(other), apart, "{one:?} is apart from {other:?}");
            assert_eq!(other.is_apart_from(one), apart, "{other:?} is apart from {one:?}");
        };
        let everybody = Selector::default();
        check(&everybody, &everybody, true, false);
        check(&everybody, &at(&["er-1"], "gpu"), true, false);
        check(&at(&["er-1"], ""), &everybody, false, false);
        check(&at(&["er-1", "er-2"], ""), &at(&["er-2"], "gpu"), true, false);
        check(&at(&["er-1"], ""), &at(&["er-2"], ""), false, true);
        check(&at(&["er-1"], ""), &at(&[], "site=er-2"), false, true);
        check(&at(&[], "ward=icu"), &at(&[], "ward=er"), false, true);
        check(&at(&["er-1"], "ward=icu"), &at(&["er-1"], "ward=icu"), true, false);
        let one = |n: u8| Selector { devices: Some([DeviceId::mint([n; 16])].into()), ..Selector::default() };
        check(&one(1), &one(2), false, true);
        check(&everybody, &one(1), true, false);
    }
}
