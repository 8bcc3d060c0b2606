//! A plan as clients write it: every default filled in, checked by the mind's own rules, each fault with its place.

use std::collections::BTreeSet;

use muster_protocol::ids::{BundlePath, CohortName, DeviceId, Digest, SiteName};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::problem::{Answer, Problem};
use crate::gate::GateLimits;
use crate::rollout::filter::Filter;
use crate::rollout::{
    LateJoiners, OnFailure, Plan, PlanError, Selector, Size, StagePlan, SteppingStone, Timing,
};
use crate::store::{Control, cohorts};

const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;
/// A day shows a model every hour of the clock; labels of its first patients come a day later.
const BAKE_S: u64 = DAY_S;
/// Slow wards need days until the gate has enough labels to decide.
const DEADLINE_S: u64 = 14 * DAY_S;

/// Everything that a plan says; what is left out has its default.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = Plan)]
pub(crate) struct PlanBody {
    /// One device first, then everybody, if absent.
    pub(crate) stages: Option<Vec<StageBody>>,
    pub(crate) selector: Option<SelectorBody>,
    /// Devices that may be fetching or switching at the same moment; 100 if absent.
    in_flight_max: Option<u32>,
    /// The same, for each site; a site's own rules may say less.
    in_flight_per_site_max: Option<u32>,
    /// Devices asked in any hour of world time.
    rate_per_hour_max: Option<u32>,
    /// 0 to 1000, 500 if absent: of rollouts that want the same slot of the same box the higher goes first, and of equals
    /// the newer replaces the older.
    priority: Option<u16>,
    /// What a failed gate does by itself: `roll_back` (if absent) or `hold`.
    #[schema(value_type = Option<String>)]
    on_failure: Option<OnFailure>,
    /// Where a device enters that begins to match while it runs: `current_stage` (if absent), `last_stage` or `never`.
    #[schema(value_type = Option<String>)]
    late_joiners: Option<LateJoiners>,
    /// `as_sites_allow` (if absent), or `ignore_windows`: leases and redundancy groups are kept all the same.
    #[schema(value_type = Option<String>)]
    timing: Option<Timing>,
    /// Nothing is handed out before; world time.
    #[schema(value_type = Option<super::time::Time>)]
    start_at: Option<Timestamp>,
    /// Reachable time in open windows that a device has to fetch, test and activate it, seconds; 6 hours if absent.
    install_deadline_s: Option<u64>,
    /// An asked device that stays away for so long is asked anew when it comes back, seconds; 1 hour if absent.
    patience_s: Option<u64>,
    /// How often a device is asked again after a failed install; 3 if absent.
    attempts_max: Option<u8>,
    /// Versions that must be run on the way.
    stepping_stones: Option<Vec<StoneBody>>,
    /// People other than its author who must say yes before it starts.
    approvals_min: Option<u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StagePlan)]
pub(crate) struct StageBody {
    #[schema(max_length = 40)]
    name: String,
    size: SizeBody,
    /// Share of the stage's asked devices that must be baked before the gate is asked, percent.
    #[serde(default = "all")]
    #[schema(default = 100.0)]
    quorum_percent: f64,
    /// How long a device must live with the bundle before it counts, seconds of world time.
    bake_s: u64,
    /// When an undecided stage stops waiting and asks a person: seconds of world time after it opened in which a window was
    /// open for somebody who is still waited for.
    deadline_s: u64,
    /// Risk this stage may spend: device-hours with the bundle before its gate has passed; hand-out waits beyond it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exposure_device_hours_max: Option<f64>,
    /// What the stage's gate asks for, where it differs from the defaults.
    #[serde(default)]
    #[schema(value_type = GateSchema, required = false)]
    gate: GateLimits,
}

/// Devices in this stage and all before it together; lists and filters add what they name to it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = StageSize)]
enum SizeBody {
    Count(u32),
    Percent(f64),
    #[schema(value_type = Vec<String>)]
    Devices(BTreeSet<DeviceId>),
    #[schema(value_type = String)]
    Matching(Filter),
}

/// Which devices: all that match every part that is given.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Selector)]
pub(crate) struct SelectorBody {
    #[schema(value_type = Option<Vec<String>>)]
    sites: Option<BTreeSet<SiteName>>,
    #[schema(value_type = Option<Vec<String>>)]
    devices: Option<BTreeSet<DeviceId>>,
    /// Such as `ward=icu, hardware=x86_64-openvino`.
    #[schema(value_type = Option<String>)]
    filter: Option<Filter>,
    /// A saved cohort; the rollout keeps the filter that it has now.
    #[schema(value_type = Option<String>)]
    cohort: Option<CohortName>,
}

impl SelectorBody {
    /// Puts the saved cohort's filter in the place of its name.
    pub(crate) async fn resolve(mut self, db: &mut Control) -> Answer<Self> {
        let Some(name) = self.cohort.take() else { return Ok(self) };
        let Some(saved) = cohorts::get(db, &name).await? else {
            return Err(Problem::invalid("/selector/cohort", format!("there is no cohort {name}")));
        };
        let both = self.filter.take().map_or(Ok(saved.document.clone()), |own| saved.document.and(&own));
        self.filter = Some(both.map_err(|error| Problem::invalid("/selector/filter", error.to_string()))?);
        Ok(self)
    }
}

/// A device that runs `from` is first brought to `via`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SteppingStone)]
struct StoneBody {
    #[schema(value_type = String)]
    from: BundlePath,
    via: ViaBody,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SteppingStoneVia)]
struct ViaBody {
    #[schema(value_type = String)]
    path: BundlePath,
    #[schema(value_type = String)]
    sha256: Digest,
}

/// The gate's limits as the API describes them: read off their defaults, so that none can be missing.
#[derive(Debug)]
struct GateSchema;

impl PartialSchema for GateSchema {
    fn schema() -> RefOr<Schema> {
        let defaults = serde_json::to_value(GateLimits::default()).unwrap_or_default();
        let mut object = ObjectBuilder::new().description(Some("Limits of a gate; docs/gates.md has each."));
        for (name, default) in defaults.as_object().into_iter().flatten() {
            let kind = match default {
                serde_json::Value::Number(number) if number.is_u64() => Type::Integer,
                serde_json::Value::Number(_) | serde_json::Value::Null => Type::Number,
                serde_json::Value::Bool(_) => Type::Boolean,
                serde_json::Value::String(_) => Type::String,
                serde_json::Value::Array(_) => Type::Array,
                serde_json::Value::Object(_) => Type::Object,
            };
            let field = ObjectBuilder::new().schema_type(kind).default(Some(default.clone()));
            object = object.property(name, field);
        }
        object.into()
    }
}

impl ToSchema for GateSchema {
    fn name() -> std::borrow::Cow<'static, str> {
        "GateLimits".into()
    }
}

fn all() -> f64 {
    100.0
}

/// The plan of these stages; without stages one device first, then everybody.
pub(crate) fn plan(
    stages: Option<Vec<StageBody>>,
    in_flight_max: Option<u32>,
    install_deadline_s: Option<u64>,
) -> Answer<Plan> {
    PlanBody { stages, in_flight_max, install_deadline_s, ..PlanBody::default() }.plan()
}

impl PlanBody {
    /// Puts a saved cohort's filter in the place of its name.
    pub(crate) async fn resolve(mut self, db: &mut Control) -> Answer<Self> {
        if let Some(selector) = self.selector.take() {
            self.selector = Some(selector.resolve(db).await?);
        }
        Ok(self)
    }

    pub(crate) fn plan(self) -> Answer<Plan> {
        let stages = match self.stages {
            None => default_stages(),
            Some(stages) => stages.into_iter().map(StagePlan::from).collect(),
        };
        let SelectorBody { sites, devices, filter, cohort: _ } = self.selector.unwrap_or_default();
        let plain = Plan::of(stages, Selector { sites, devices, filter: filter.unwrap_or_default() });
        let stones = self.stepping_stones.unwrap_or_default().into_iter();
        let plan = Plan {
            in_flight_max: self.in_flight_max.unwrap_or(plain.in_flight_max),
            in_flight_per_site_max: self.in_flight_per_site_max,
            rate_per_hour_max: self.rate_per_hour_max,
            priority: self.priority.unwrap_or(plain.priority),
            on_failure: self.on_failure.unwrap_or(plain.on_failure),
            late_joiners: self.late_joiners.unwrap_or(plain.late_joiners),
            timing: self.timing.unwrap_or(plain.timing),
            start_at: self.start_at,
            install_deadline_s: self.install_deadline_s.unwrap_or(plain.install_deadline_s),
            patience_s: self.patience_s.unwrap_or(plain.patience_s),
            attempts_max: self.attempts_max.unwrap_or(plain.attempts_max),
            stepping_stones: stones.map(SteppingStone::from).collect(),
            approvals_min: self.approvals_min.unwrap_or(plain.approvals_min),
            ..plain
        };
        plan.check().map_err(|error| refused(&plan, &error))?;
        for (at, stage) in plan.stages.iter().enumerate() {
            check_gate(at, &stage.name, &stage.gate)?;
        }
        Ok(plan)
    }
}

/// A plan's fault as a problem that points at its place.
pub(crate) fn refused(plan: &Plan, error: &PlanError) -> Problem {
    Problem::invalid(&error.place(plan), error.to_string())
}

fn default_stages() -> Vec<StagePlan> {
    let stage = |name: &str, size| StagePlan {
        name: name.to_owned(),
        size,
        quorum_percent: all(),
        bake_s: BAKE_S,
        deadline_s: DEADLINE_S,
        exposure_device_hours_max: None,
        gate: GateLimits::default(),
    };
    vec![stage("canary", Size::Count(1)), stage("everybody", Size::Percent(100.0))]
}

/// Numbers that would make a test meaningless, refused before a rollout hangs on them.
fn check_gate(at: usize, stage: &str, gate: &GateLimits) -> Answer<()> {
    let share = |value: f64| value > 0.0 && value < 1.0;
    for (name, holds, rule) in [
        ("install_failure_baseline", share(gate.install_failure_baseline), "is a share between 0 and 1"),
        ("revert_baseline", share(gate.revert_baseline), "is a share between 0 and 1"),
        (
            "runtime_failures_per_hour_baseline",
            gate.runtime_failures_per_hour_baseline > 0.0
                && gate.runtime_failures_per_hour_baseline.is_finite(),
            "is a number above 0",
        ),
        ("alpha", share(gate.alpha), "is a chance between 0 and 1"),
        ("latency_p95_ms_max", gate.latency_p95_ms_max > 0.0, "is a time above 0"),
        (
            "error_margin",
            gate.error_margin >= 0.0 && gate.error_margin.is_finite(),
            "is a share of 0 or more",
        ),
        ("silence_after_h", gate.silence_after_h >= 0.0, "is a time of 0 or more"),
        (
            "silences_per_hour_baseline",
            gate.silences_per_hour_baseline > 0.0 && gate.silences_per_hour_baseline.is_finite(),
            "is a number above 0",
        ),
        (
            "shadow_disagreement_max",
            gate.shadow_disagreement_max.is_none_or(share),
            "is a share between 0 and 1",
        ),
    ] {
        if !holds {
            let place = format!("/stages/{at}/gate/{name}");
            return Err(Problem::invalid(&place, format!("the gate of stage '{stage}': {name} {rule}")));
        }
    }
    Ok(())
}

impl From<StoneBody> for SteppingStone {
    fn from(body: StoneBody) -> Self {
        let ViaBody { path, sha256 } = body.via;
        Self { from: body.from, via: BundleRef { path, sha256 } }
    }
}

impl From<StageBody> for StagePlan {
    fn from(body: StageBody) -> Self {
        let StageBody { name, size, quorum_percent, bake_s, deadline_s, exposure_device_hours_max, gate } =
            body;
        let size = match size {
            SizeBody::Count(count) => Size::Count(count),
            SizeBody::Percent(percent) => Size::Percent(percent),
            SizeBody::Devices(devices) => Size::Devices(devices),
            SizeBody::Matching(filter) => Size::Matching(filter),
        };
        Self { name, size, quorum_percent, bake_s, deadline_s, exposure_device_hours_max, gate }
    }
}

impl From<&StagePlan> for StageBody {
    fn from(plan: &StagePlan) -> Self {
        let size = match &plan.size {
            Size::Count(count) => SizeBody::Count(*count),
            Size::Percent(percent) => SizeBody::Percent(*percent),
            Size::Devices(devices) => SizeBody::Devices(devices.clone()),
            Size::Matching(filter) => SizeBody::Matching(filter.clone()),
        };
        Self {
            name: plan.name.clone(),
            size,
            quorum_percent: plan.quorum_percent,
            bake_s: plan.bake_s,
            deadline_s: plan.deadline_s,
            exposure_device_hours_max: plan.exposure_device_hours_max,
            gate: plan.gate.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stages(value: serde_json::Value) -> Vec<StageBody> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn nothing_is_needed() {
        let plan = plan(None, None, None).unwrap();
        assert_eq!(plan.targets(3), [1, 3]);
    }

    #[test]
    fn defaults_fill_what_is_left_out_and_come_back() {
        let written =
            stages(json!([{"name": "all", "size": {"percent": 100.0}, "bake_s": 1, "deadline_s": 2,
            "gate": {"labels_min": 7}}]));
        let plan = plan(Some(written), None, None).unwrap();
        assert_eq!(plan.stages[0].gate, GateLimits { labels_min: 7, ..GateLimits::default() });
        let back = StagePlan::from(StageBody::from(&plan.stages[0]));
        assert_eq!(back, plan.stages[0]);
    }

    #[test]
    fn every_field_of_a_plan_can_be_written() {
        let mut full = plan(None, None, None).unwrap();
        full.in_flight_max = 7;
        full.in_flight_per_site_max = Some(2);
        full.rate_per_hour_max = Some(60);
        full.priority = 900;
        full.on_failure = OnFailure::Hold;
        full.late_joiners = LateJoiners::Never;
        full.timing = Timing::IgnoreWindows;
        full.start_at = Some(Timestamp::from_millis(1_000));
        full.install_deadline_s = 100;
        full.patience_s = 200;
        full.attempts_max = 5;
        full.approvals_min = 2;
        full.stages[0].exposure_device_hours_max = Some(40.0);
        full.stepping_stones = vec![SteppingStone {
            from: "bundles/er/1.json".parse().unwrap(),
            via: BundleRef { path: "bundles/er/2.json".parse().unwrap(), sha256: Digest::of(b"2") },
        }];
        full.selector.sites = Some(["er-1".parse().unwrap()].into());
        let written = serde_json::to_value(&full).unwrap();
        let body: PlanBody = serde_json::from_value(written).unwrap();
        assert_eq!(body.plan().unwrap(), full);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let check = |stage: serde_json::Value| {
            assert!(plan(Some(stages(json!([stage]))), None, None).is_err(), "{stage}");
        };
        check(json!({"name": "a", "size": {"count": 1}, "bake_s": 1, "deadline_s": 2}));
        check(json!({"name": "a", "size": {"percent": 100.0}, "bake_s": 2, "deadline_s": 2}));
        check(
            json!({"name": "a", "size": {"percent": 100.0}, "bake_s": 1, "deadline_s": 2, "gate": {"alpha": 1.5}}),
        );
        assert!(plan(Some(Vec::new()), None, None).is_err());
        let unknown =
            json!({"name": "a", "size": {"percent": 1.0}, "bake_s": 1, "deadline_s": 2, "gates": {}});
        assert!(serde_json::from_value::<StageBody>(unknown).is_err());
    }

    #[test]
    fn faults_have_a_place() {
        let check = |edit: fn(&mut Plan), expect: &str| {
            let mut plan = plan(None, None, None).unwrap();
            edit(&mut plan);
            let error = plan.check().unwrap_err();
            assert_eq!(error.place(&plan), expect, "{error}");
        };
        check(|plan| plan.in_flight_max = 0, "/in_flight_max");
        check(|plan| plan.stages.clear(), "/stages");
        check(|plan| plan.stages[1].deadline_s = 0, "/stages/1");
        check(|plan| plan.stages[1].size = Size::Count(3), "/stages/1/size");
        check(|plan| plan.stages[1].name = "canary".to_owned(), "/stages/1/name");
    }
}
