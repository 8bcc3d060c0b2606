//! Stages as clients write them: every default filled in, checked by the mind's own rules.

use std::collections::BTreeSet;

use muster_protocol::ids::{CohortName, DeviceId, SiteName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{Answer, Problem};
use crate::gate::GateLimits;
use crate::rollout::filter::Filter;
use crate::rollout::{Plan, Selector, Size, StagePlan};
use crate::store::{Control, cohorts};

const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;
/// A day shows a model every hour of the clock; labels of its first patients come a day later.
const BAKE_S: u64 = DAY_S;
/// Slow wards need days until the gate has enough labels to decide.
const DEADLINE_S: u64 = 14 * DAY_S;

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
    /// When an undecided stage stops waiting and asks a person, seconds of world time after it opened.
    deadline_s: u64,
    /// What the stage's gate asks for, where it differs from the defaults.
    #[serde(default)]
    gate: GateBody,
}

/// Devices in this stage and all before it together.
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

#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = GateLimits)]
struct GateBody {
    /// Share of installs that fails on a healthy fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    install_failure_baseline: Option<f64>,
    /// Runtime failures per device-hour on a healthy fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_failures_per_hour_baseline: Option<f64>,
    /// Chance that a healthy bundle is stopped, over the whole rollout and all layers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    alpha: Option<f64>,
    /// Slowest tolerated 95th percentile, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p95_ms_max: Option<f64>,
    /// Requests a device must have answered before its latency counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_requests_min: Option<u64>,
    /// Labelled predictions a device must have before its error counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    labels_min: Option<u64>,
    /// Tolerated rise of the loss, as a share of the loss of the bundle before.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_margin: Option<f64>,
    /// Devices that must have so many labels; every device if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    labelled_devices_min: Option<u32>,
    /// Devices of one hardware class with the same failure code that stop the bundle; 0 to not ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    same_failures_max: Option<u32>,
    /// Tolerated share of answers that differ from the bundle before; not asked if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow_disagreement_max: Option<f64>,
    /// Shadow answers a device must have before its disagreement counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow_requests_min: Option<u64>,
    /// Tolerated rise of the 95th percentile over devices without the bundle; not asked if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_rise_ms_max: Option<f64>,
    /// Tolerated rise of the memory in use over devices without the bundle; not asked if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_rise_mib_max: Option<f64>,
    /// Tolerated rise of the temperature over devices without the bundle; not asked if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature_rise_c_max: Option<f64>,
    /// Hours unheard after which a device that runs the bundle is suspected; 0 to not ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    silence_after_h: Option<f64>,
    /// How often a healthy device falls silent, per hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    silences_per_hour_baseline: Option<f64>,
    /// Hardware classes that must each have a device that lives with the bundle, at most; 0 to not ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage_classes_max: Option<u32>,
}

/// Which devices: all that match every part that is given.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
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

fn all() -> f64 {
    100.0
}

/// The plan of these stages; without stages one device first, then everybody.
pub(crate) fn plan(stages: Option<Vec<StageBody>>, selector: Option<SelectorBody>) -> Answer<Plan> {
    let stages = match stages {
        None => default_stages(),
        Some(stages) => stages.into_iter().map(StagePlan::from).collect(),
    };
    let SelectorBody { sites, devices, filter, cohort: _ } = selector.unwrap_or_default();
    let plan = Plan::of(stages, Selector { sites, devices, filter: filter.unwrap_or_default() });
    plan.check().map_err(|error| Problem::invalid("/stages", error.to_string()))?;
    for stage in &plan.stages {
        check_gate(&stage.name, &stage.gate)?;
    }
    Ok(plan)
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
fn check_gate(stage: &str, gate: &GateLimits) -> Answer<()> {
    let share = |value: f64| value > 0.0 && value < 1.0;
    for (name, holds, rule) in [
        ("install_failure_baseline", share(gate.install_failure_baseline), "is a share between 0 and 1"),
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
            return Err(Problem::invalid("/stages", format!("the gate of stage '{stage}': {name} {rule}")));
        }
    }
    Ok(())
}

impl From<StageBody> for StagePlan {
    fn from(body: StageBody) -> Self {
        let StageBody { name, size, quorum_percent, bake_s, deadline_s, gate } = body;
        let size = match size {
            SizeBody::Count(count) => Size::Count(count),
            SizeBody::Percent(percent) => Size::Percent(percent),
            SizeBody::Devices(devices) => Size::Devices(devices),
            SizeBody::Matching(filter) => Size::Matching(filter),
        };
        Self {
            name,
            size,
            quorum_percent,
            bake_s,
            deadline_s,
            exposure_device_hours_max: None,
            gate: gate.into(),
        }
    }
}

impl From<&StagePlan> for StageBody {
    fn from(plan: &StagePlan) -> Self {
        let StagePlan { name, size, quorum_percent, bake_s, deadline_s, gate, .. } = plan;
        let size = match size {
            Size::Count(count) => SizeBody::Count(*count),
            Size::Percent(percent) => SizeBody::Percent(*percent),
            Size::Devices(devices) => SizeBody::Devices(devices.clone()),
            Size::Matching(filter) => SizeBody::Matching(filter.clone()),
        };
        let (quorum_percent, bake_s, deadline_s) = (*quorum_percent, *bake_s, *deadline_s);
        Self { name: name.clone(), size, quorum_percent, bake_s, deadline_s, gate: gate.into() }
    }
}

impl From<GateBody> for GateLimits {
    fn from(body: GateBody) -> Self {
        let default = Self::default();
        Self {
            install_failure_baseline: body
                .install_failure_baseline
                .unwrap_or(default.install_failure_baseline),
            runtime_failures_per_hour_baseline: body
                .runtime_failures_per_hour_baseline
                .unwrap_or(default.runtime_failures_per_hour_baseline),
            alpha: body.alpha.unwrap_or(default.alpha),
            latency_p95_ms_max: body.latency_p95_ms_max.unwrap_or(default.latency_p95_ms_max),
            latency_requests_min: body.latency_requests_min.unwrap_or(default.latency_requests_min),
            labels_min: body.labels_min.unwrap_or(default.labels_min),
            error_margin: body.error_margin.unwrap_or(default.error_margin),
            labelled_devices_min: body.labelled_devices_min.or(default.labelled_devices_min),
            same_failures_max: body.same_failures_max.unwrap_or(default.same_failures_max),
            shadow_disagreement_max: body.shadow_disagreement_max.or(default.shadow_disagreement_max),
            shadow_requests_min: body.shadow_requests_min.unwrap_or(default.shadow_requests_min),
            latency_rise_ms_max: body.latency_rise_ms_max.or(default.latency_rise_ms_max),
            memory_rise_mib_max: body.memory_rise_mib_max.or(default.memory_rise_mib_max),
            temperature_rise_c_max: body.temperature_rise_c_max.or(default.temperature_rise_c_max),
            silence_after_h: body.silence_after_h.unwrap_or(default.silence_after_h),
            silences_per_hour_baseline: body
                .silences_per_hour_baseline
                .unwrap_or(default.silences_per_hour_baseline),
            coverage_classes_max: body.coverage_classes_max.unwrap_or(default.coverage_classes_max),
        }
    }
}

impl From<&GateLimits> for GateBody {
    fn from(limits: &GateLimits) -> Self {
        Self {
            install_failure_baseline: Some(limits.install_failure_baseline),
            runtime_failures_per_hour_baseline: Some(limits.runtime_failures_per_hour_baseline),
            alpha: Some(limits.alpha),
            latency_p95_ms_max: Some(limits.latency_p95_ms_max),
            latency_requests_min: Some(limits.latency_requests_min),
            labels_min: Some(limits.labels_min),
            error_margin: Some(limits.error_margin),
            labelled_devices_min: limits.labelled_devices_min,
            same_failures_max: Some(limits.same_failures_max),
            shadow_disagreement_max: limits.shadow_disagreement_max,
            shadow_requests_min: Some(limits.shadow_requests_min),
            latency_rise_ms_max: limits.latency_rise_ms_max,
            memory_rise_mib_max: limits.memory_rise_mib_max,
            temperature_rise_c_max: limits.temperature_rise_c_max,
            silence_after_h: Some(limits.silence_after_h),
            silences_per_hour_baseline: Some(limits.silences_per_hour_baseline),
            coverage_classes_max: Some(limits.coverage_classes_max),
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
        let plan = plan(None, None).unwrap();
        assert_eq!(plan.targets(3), [1, 3]);
    }

    #[test]
    fn defaults_fill_what_is_left_out_and_come_back() {
        let written =
            stages(json!([{"name": "all", "size": {"percent": 100.0}, "bake_s": 1, "deadline_s": 2,
            "gate": {"labels_min": 7}}]));
        let plan = plan(Some(written), None).unwrap();
        assert_eq!(plan.stages[0].gate, GateLimits { labels_min: 7, ..GateLimits::default() });
        let back = StagePlan::from(StageBody::from(&plan.stages[0]));
        assert_eq!(back, plan.stages[0]);
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let check =
            |stage: serde_json::Value| assert!(plan(Some(stages(json!([stage]))), None).is_err(), "{stage}");
        check(json!({"name": "a", "size": {"count": 1}, "bake_s": 1, "deadline_s": 2}));
        check(json!({"name": "a", "size": {"percent": 100.0}, "bake_s": 2, "deadline_s": 2}));
        check(
            json!({"name": "a", "size": {"percent": 100.0}, "bake_s": 1, "deadline_s": 2, "gate": {"alpha": 1.5}}),
        );
        assert!(plan(Some(Vec::new()), None).is_err());
        let unknown =
            json!({"name": "a", "size": {"percent": 1.0}, "bake_s": 1, "deadline_s": 2, "gates": {}});
        assert!(serde_json::from_value::<StageBody>(unknown).is_err());
    }
}
