//! A rollout as the API shows it. Times are real; the mind's are world time.

use std::collections::BTreeMap;

use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::App;
use super::super::parts::{BundleName, Reason, TimelineEntry, WaitingFor};
use super::super::time::Time;
use super::foresee::ForecastView;
use crate::gate::{GateReport, LayerVerdict, Verdict};
use crate::rollout::{Actor, Members, Phase, Progress, Rollout, StageEnd, WaitingOn};

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RolloutSummary {
    id: String,
    model: String,
    slot: String,
    bundle: BundleName,
    /// What its devices ran before.
    from: Vec<FromView>,
    phase: PhaseView,
    stages: Vec<StageView>,
    created: Time,
    world_created: Time,
    started_by: StartedBy,
    reason: String,
    /// People other than its author who must say yes before it begins.
    approvals_min: u8,
    /// Who has.
    approvals: Vec<ApprovalView>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Approval)]
struct ApprovalView {
    at: Time,
    by: String,
    reason: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rollout)]
pub(super) struct RolloutView {
    #[serde(flatten)]
    summary: RolloutSummary,
    /// Why it does not go on.
    waiting_on: Vec<WaitingFor>,
    /// The oldest first.
    timeline: Vec<TimelineEntry>,
    /// What was foreseen when it was made, beside what came.
    forecast: Option<ForecastView>,
    /// For If-Match.
    revision: u64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = RolloutFrom)]
struct FromView {
    #[serde(flatten)]
    bundle: BundleName,
    devices: u64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = RolloutPhase)]
struct PhaseView {
    /// `proposed`, `scheduled`, `running`, `paused`, `held`, `rolling_back`, `rolled_back`, `aborting`, `aborted`,
    /// `superseded` or `completed`.
    is: &'static str,
    since: Time,
    /// Name of the stage that is or was open.
    stage: Option<String>,
    reason: Option<Reason>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Stage)]
struct StageView {
    name: String,
    /// Devices of this stage alone.
    target_devices: usize,
    /// Of them, devices that were told to run the bundle.
    handed: usize,
    /// Of them, devices that may switch or have switched.
    permitted: usize,
    /// Of them, devices that prove it.
    activated: usize,
    /// Of them, devices that have also lived with it for the bake time.
    baked: usize,
    /// Of them, devices that could not install it or went back by themselves.
    failed: usize,
    /// Of them, devices that go back or have gone back to what they ran before.
    returned: usize,
    /// Of them, devices that have neither proved it nor failed nor gone back.
    pending: usize,
    /// When the last device that bakes now has baked.
    bake_until: Option<Time>,
    /// `waiting`, `handing_out`, `baking`, `judging`, `passed`, `failed` or `stopped`.
    state: &'static str,
    gate: Option<GateView>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Gate)]
struct GateView {
    /// `pass`, `fail` or `insufficient`.
    verdict: &'static str,
    /// The chance of a false alarm of all layers together.
    alpha: f64,
    layers: Vec<LayerView>,
    asked_at: Time,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = GateLayer)]
struct LayerView {
    /// `hard_stop`, `install`, `reverts`, `runtime`, `silence`, `latency`, `latency_rise`, `memory_rise`, `temperature_rise`,
    /// `paired_error`, `shadow` or `coverage`.
    layer: &'static str,
    /// `pass`, `insufficient`, `fail`, or `not_asked` of a layer that has no say.
    verdict: &'static str,
    /// The test by name.
    test: String,
    /// The chance of a false alarm that it may spend.
    alpha: Option<f64>,
    interval: Option<[f64; 2]>,
    /// What is still possible (95 %).
    bound: Option<f64>,
    measured: Option<f64>,
    limit: Option<f64>,
    /// Observations behind it.
    n: u64,
    /// Devices whose evidence is not enough yet.
    missing: usize,
    sentence: String,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
struct StartedBy {
    /// `person`, `policy` or `fleet`.
    kind: &'static str,
    name: String,
    trigger: Option<String>,
}

pub(super) fn summary(app: &App, rollout: &Rollout, members: &Members) -> RolloutSummary {
    RolloutSummary {
        id: rollout.id.to_string(),
        model: rollout.model.to_string(),
        slot: rollout.slot.to_string(),
        bundle: BundleName::from(&rollout.bundle),
        from: from(members),
        phase: phase(app, rollout),
        stages: (0..rollout.plan.stages.len()).map(|index| stage(app, rollout, members, index)).collect(),
        created: app.real(rollout.created),
        world_created: rollout.created.into(),
        started_by: started_by(&rollout.started_by),
        reason: rollout.reason.clone(),
        approvals_min: rollout.plan.approvals_min,
        approvals: rollout
            .approvals
            .iter()
            .map(|yes| ApprovalView { at: app.real(yes.at), by: yes.by.clone(), reason: yes.reason.clone() })
            .collect(),
    }
}

impl RolloutView {
    pub(super) fn of(
        summary: RolloutSummary,
        waiting_on: Vec<WaitingOn>,
        timeline: Vec<TimelineEntry>,
        forecast: Option<ForecastView>,
        revision: u64,
    ) -> Self {
        let waiting_on = waiting_on.into_iter().map(|waiting| WaitingFor {
            code: waiting.code.to_owned(),
            sentence: waiting.sentence,
            next: None,
            devices: Some(waiting.devices),
        });
        Self { summary, waiting_on: waiting_on.collect(), timeline, forecast, revision }
    }
}

fn from(members: &Members) -> Vec<FromView> {
    let mut before: BTreeMap<&BundleRef, u64> = BTreeMap::new();
    for bundle in members.values().filter_map(|member| member.progress.from()) {
        *before.entry(bundle).or_default() += 1;
    }
    before.into_iter().map(|(bundle, devices)| FromView { bundle: bundle.into(), devices }).collect()
}

fn phase(app: &App, rollout: &Rollout) -> PhaseView {
    let asked = |code: &str, sentence: &str| Reason { code: code.to_owned(), sentence: sentence.to_owned() };
    let (since, reason) = match &rollout.phase {
        Phase::Proposed { since } | Phase::Scheduled { since, .. } | Phase::Running { since, .. } => {
            (*since, None)
        }
        Phase::Paused { since, reason, .. } => (*since, Some(asked("paused", reason))),
        Phase::Held { since, cause, .. }
        | Phase::RollingBack { since, cause, .. }
        | Phase::RolledBack { at: since, cause, .. } => (*since, Some(Reason::from(cause))),
        Phase::Aborting { since: at, reason, .. } | Phase::Aborted { at, reason, .. } => {
            (*at, Some(asked("aborted", reason)))
        }
        Phase::Superseded { at, by, .. } => (*at, Some(asked("superseded", &format!("{by} took its place")))),
        Phase::Completed { at } => (*at, None),
    };
    let stage = rollout.phase.stage().and_then(|stage| rollout.plan.stages.get(stage));
    PhaseView {
        is: rollout.phase.name(),
        since: app.real(since),
        stage: stage.map(|stage| stage.name.clone()),
        reason,
    }
}

fn stage(app: &App, rollout: &Rollout, members: &Members, index: usize) -> StageView {
    let plan = rollout.plan.stages.get(index);
    let record = rollout.stages.get(index);
    let count = Counts::of(members, index);
    let bake = plan.map(crate::rollout::StagePlan::bake).unwrap_or_default();
    StageView {
        name: plan.map_or_else(String::new, |plan| plan.name.clone()),
        target_devices: count.all,
        handed: count.handed,
        permitted: count.permitted + count.activated,
        activated: count.activated,
        baked: count.activated - count.baking,
        failed: count.failed,
        returned: count.returned,
        pending: count.all - count.activated - count.failed - count.returned,
        bake_until: count.newest_activation.map(|at| app.real(at.plus(bake))),
        state: state(rollout, index, &count),
        gate: record.and_then(|record| record.gate.as_ref()).map(|gate| gate_view(app, gate)),
    }
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    handed: usize,
    installing: usize,
    permitted: usize,
    baking: usize,
    activated: usize,
    failed: usize,
    returned: usize,
    newest_activation: Option<Timestamp>,
}

impl Counts {
    fn of(members: &Members, index: usize) -> Self {
        let mut count = Self::default();
        for member in members.values().filter(|member| member.stage == index) {
            count.all += 1;
            count.handed +=
                usize::from(!matches!(member.progress, Progress::Waiting | Progress::Excluded { .. }));
            match &member.progress {
                Progress::Waiting | Progress::Excluded { .. } => {}
                Progress::Offered { .. } | Progress::Ready { .. } => count.installing += 1,
                Progress::Permitted { .. } => {
                    count.installing += 1;
                    count.permitted += 1;
                }
                Progress::Activated { at, .. } => {
                    count.activated += 1;
                    count.baking += 1;
                    count.newest_activation = count.newest_activation.max(Some(*at));
                }
                Progress::Baked { .. } => count.activated += 1,
                Progress::Failed { .. } | Progress::Reverted { .. } => count.failed += 1,
                Progress::Returning { .. } | Progress::Returned { .. } => count.returned += 1,
            }
        }
        count
    }
}

fn state(rollout: &Rollout, index: usize, count: &Counts) -> &'static str {
    let Some(record) = rollout.stages.get(index) else { return "waiting" };
    match (&record.closed, &record.opened) {
        (Some(StageEnd::Passed { .. } | StageEnd::Promoted { .. }), _) => return "passed",
        (Some(StageEnd::Failed { .. }), _) => return "failed",
        (None, None) => return "waiting",
        (None, Some(_)) => {}
    }
    match &rollout.phase {
        Phase::Running { .. } | Phase::Paused { .. } | Phase::Held { .. } => {
            if count.installing > 0 || count.handed < count.all || count.all == 0 {
                "handing_out"
            } else if count.baking > 0 {
                "baking"
            } else {
                "judging"
            }
        }
        Phase::Proposed { .. } | Phase::Scheduled { .. } => "waiting",
        Phase::RollingBack { .. }
        | Phase::RolledBack { .. }
        | Phase::Aborting { .. }
        | Phase::Aborted { .. }
        | Phase::Superseded { .. }
        | Phase::Completed { .. } => "stopped",
    }
}

fn gate_view(app: &App, gate: &GateReport) -> GateView {
    let layer = |layer: &LayerVerdict| LayerView {
        layer: layer.layer.name(),
        verdict: if layer.applies { word(layer.verdict) } else { "not_asked" },
        test: layer.test.clone(),
        alpha: layer.alpha,
        interval: layer.interval.map(|(low, high)| [low, high]),
        bound: layer.bound,
        measured: layer.measured,
        limit: layer.limit,
        n: layer.n,
        missing: layer.missing.len(),
        sentence: layer.sentence.clone(),
    };
    GateView {
        verdict: word(gate.verdict),
        alpha: gate.alpha,
        layers: gate.layers.iter().map(layer).collect(),
        asked_at: app.real(gate.asked_at),
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Insufficient => "insufficient",
        Verdict::Fail => "fail",
    }
}

fn started_by(actor: &Actor) -> StartedBy {
    let (kind, name, trigger) = match actor {
        Actor::Person { name } => ("person", name.clone(), None),
        Actor::Policy { trigger } => {
            ("policy", "retraining".to_owned(), trigger.as_ref().map(ToString::to_string))
        }
        Actor::Engine => ("fleet", "fleet".to_owned(), None),
    };
    StartedBy { kind, name, trigger }
}
