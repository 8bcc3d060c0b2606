//! A run as the API shows it.

use muster_protocol::ids::RunId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::App;
use super::super::parts::{BundleName, Reason};
use super::super::problem::Answer;
use super::super::time::Time;
use super::super::triggers::TriggerCause;
use super::gates::CheckBody;
use super::load;
use crate::retrain::{LEASE, Run, RunState};
use crate::store::{Page, runs};

/// Lines of a run's log that are shown.
const LOG_SHOWN: u32 = 200;

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Run)]
pub(super) struct RunView {
    id: String,
    model: String,
    /// `collecting`, `queued`, `claimed`, `candidate`, `succeeded`, `rejected`, `failed` or `cancelled`.
    state: &'static str,
    trigger: TriggerCause,
    created: Time,
    world_created: Time,
    /// Until when it waits for enough of the new world; while it does.
    collecting_until: Option<Time>,
    claimed_by: Option<String>,
    /// How often it was given to a builder; while it is queued or claimed.
    attempt: Option<u32>,
    heartbeat_at: Option<Time>,
    progress: Option<ProgressView>,
    /// Only of one run, not in lists.
    log_tail: Vec<String>,
    result: Option<ResultView>,
    failure: Option<Reason>,
    /// What its result was held to before it was signed, in order.
    gates: Vec<CheckBody>,
    /// While it waits for people to agree.
    approval: Option<ApprovalView>,
    timeline: Vec<StepView>,
    /// The rollout that followed.
    rollout: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RunProgress)]
struct ProgressView {
    /// 0 to 1.
    fraction: f64,
    message: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RunResult)]
struct ResultView {
    /// What was published; absent if the challenger was rejected.
    bundle: Option<BundleName>,
    /// The builder's own comparison of challenger and champion.
    #[schema(value_type = Object)]
    evaluation: Value,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RunApproval)]
struct ApprovalView {
    /// So many different people have to agree.
    people: u8,
    approved_by: Vec<String>,
    /// Then it is rejected.
    until: Time,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RunStep)]
struct StepView {
    at: Time,
    world_at: Time,
    /// The state it entered.
    kind: String,
    sentence: String,
    /// The person, builder or policy that moved it; absent if time did.
    actor: Option<String>,
    /// What it was moved by: the trigger, the bundle's digest, the code of a cause.
    evidence: Option<String>,
}

impl RunView {
    pub(super) async fn load(app: &App, id: &RunId) -> Answer<Self> {
        let mut db = app.fleet.store.read().await?;
        let run = load(&mut db, id).await?.document;
        let lines = runs::log_tail(&mut db, id, &Page::first(LOG_SHOWN)).await?;
        Ok(Self::of(app, &run, lines.into_iter().map(|line| line.text).collect()))
    }

    pub(super) fn of(app: &App, run: &Run, log_tail: Vec<String>) -> Self {
        let ended = Ended::of(&run.state);
        let (claimed_by, attempt, heartbeat_at) = match &run.state {
            RunState::Claimed { builder, attempt, lease_until } => {
                (Some(builder.clone()), Some(*attempt), Some(Time(lease_until.minus(LEASE))))
            }
            RunState::Queued { attempt } => (None, Some(*attempt), None),
            RunState::Collecting { .. }
            | RunState::Candidate { .. }
            | RunState::Published { .. }
            | RunState::Rejected { .. }
            | RunState::Failed { .. }
            | RunState::Cancelled { .. } => (None, None, None),
        };
        let collecting_until = match &run.state {
            RunState::Collecting { until } => Some(app.real(*until)),
            RunState::Queued { .. }
            | RunState::Claimed { .. }
            | RunState::Candidate { .. }
            | RunState::Published { .. }
            | RunState::Rejected { .. }
            | RunState::Failed { .. }
            | RunState::Cancelled { .. } => None,
        };
        let approval = match &run.state {
            RunState::Candidate { people, approved, until, .. } => Some(ApprovalView {
                people: *people,
                approved_by: approved.iter().map(|approved| approved.by.clone()).collect(),
                until: Time(*until),
            }),
            RunState::Collecting { .. }
            | RunState::Queued { .. }
            | RunState::Claimed { .. }
            | RunState::Published { .. }
            | RunState::Rejected { .. }
            | RunState::Failed { .. }
            | RunState::Cancelled { .. } => None,
        };
        let step = |step: &crate::retrain::RunStep| StepView {
            at: step.at.into(),
            world_at: step.world_at.into(),
            kind: step.state.clone(),
            sentence: sentence(&step.state).to_owned(),
            actor: step.actor.clone(),
            evidence: step.evidence.clone(),
        };
        Self {
            id: run.id.to_string(),
            model: run.model.to_string(),
            state: run.state.name(),
            trigger: TriggerCause::of(&run.trigger, &run.why),
            created: app.real(run.created),
            world_created: run.created.into(),
            collecting_until,
            claimed_by,
            attempt,
            heartbeat_at,
            progress: run.progress.as_ref().map(|progress| ProgressView {
                fraction: progress.fraction,
                message: progress.message.clone(),
            }),
            log_tail,
            result: ended.result,
            failure: ended.failure,
            gates: run.gates.iter().map(CheckBody::from).collect(),
            approval,
            timeline: run.timeline.iter().map(step).collect(),
            rollout: run.rollout.as_ref().map(ToString::to_string),
        }
    }
}

#[derive(Default)]
struct Ended {
    result: Option<ResultView>,
    failure: Option<Reason>,
}

impl Ended {
    fn of(state: &RunState) -> Self {
        match state {
            RunState::Collecting { .. } | RunState::Queued { .. } | RunState::Claimed { .. } => {
                Self::default()
            }
            RunState::Published { bundle, evaluation } | RunState::Candidate { bundle, evaluation, .. } => {
                let result = ResultView { bundle: Some(bundle.into()), evaluation: evaluation.clone() };
                Self { result: Some(result), failure: None }
            }
            RunState::Rejected { cause, evaluation } => {
                let result = ResultView { bundle: None, evaluation: evaluation.clone() };
                Self { result: Some(result), failure: Some(cause.into()) }
            }
            RunState::Failed { cause } => Self { result: None, failure: Some(cause.into()) },
            RunState::Cancelled { by, reason } => {
                let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                let failure =
                    Reason { code: "cancelled".to_owned(), sentence: format!("{by} cancelled it{why}") };
                Self { result: None, failure: Some(failure) }
            }
        }
    }
}

fn sentence(state: &str) -> &'static str {
    match state {
        "collecting" => "waits until enough of the new world was seen",
        "queued" => "waits for a builder",
        "claimed" => "a builder works on it",
        "succeeded" => "published a new bundle",
        "candidate" => "signed, and waits for people to agree",
        "approved" => "a person agreed",
        "rejected" => "the candidate does not go out",
        "failed" => "failed",
        "cancelled" => "was cancelled",
        _other => "",
    }
}
