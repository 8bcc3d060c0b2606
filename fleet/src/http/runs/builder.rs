//! The builder's side of a run: claim, heartbeat, finish. Only the holder of the lease is listened to.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use muster_protocol::ids::{BundlePath, Digest, ModelName, RunId, TriggerId};
use muster_protocol::message::up::BundleRef;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::super::App;
use super::super::extract::{Id, Json};
use super::super::parts::BundleName;
use super::super::problem::{Answer, Code, Problem, ProblemBody};
use super::super::survey::Survey;
use super::gates::{CheckBody, checks};
use super::view::RunView;
use super::{load, save, say};
use crate::retrain::{Check, Run, RunEnd, RunProgress, RunState, Why};
use crate::rollout::Cause;
use crate::store::log::{Actor, Moment};
use crate::store::{Control, Versioned, bundles, runs};
use crate::tasks::runs as task;

const BUILDER_CHARS_MAX: usize = 64;
const MODELS_MAX: usize = 100;
/// Lines of one heartbeat.
const LINES_MAX: usize = 500;
const MESSAGE_CHARS_MAX: usize = 300;
/// An evaluation's size as JSON, bytes.
const EVALUATION_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimBody {
    #[schema(max_length = 64)]
    builder: String,
    /// Models it can train.
    #[schema(value_type = Vec<String>, max_items = 100)]
    models: Vec<ModelName>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Claim {
    run: RunView,
    /// The trainer's `muster-run/1` document.
    request: RunRequest,
    /// What runs now; absent before a model's first bundle.
    champion: Option<BundleName>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RunRequest {
    /// `muster-run/1`.
    schema: &'static str,
    run: String,
    model: String,
    #[schema(value_type = Object)]
    trigger: Value,
    #[schema(value_type = String, format = DateTime)]
    world_now: muster_protocol::time::Timestamp,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HeartbeatBody {
    #[schema(max_length = 64)]
    builder: String,
    /// 0 to 1.
    progress: Option<f64>,
    #[serde(default)]
    message: String,
    /// Lines since the last heartbeat.
    #[serde(default)]
    #[schema(max_items = 500)]
    log: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeartbeatAnswer {
    /// Somebody cancelled the run: stop.
    cancel: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FinishBody {
    #[schema(max_length = 64)]
    builder: String,
    outcome: Outcome,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Outcome {
    Published {
        bundle: PublishedBundle,
        #[serde(default)]
        #[schema(value_type = Object)]
        evaluation: Value,
        /// What it was held to, in order; one that failed rejects the run.
        #[serde(default)]
        #[schema(max_items = 200)]
        gates: Vec<CheckBody>,
    },
    Rejected {
        code: String,
        sentence: String,
        #[serde(default)]
        #[schema(value_type = Object)]
        evaluation: Value,
        #[serde(default)]
        #[schema(max_items = 200)]
        gates: Vec<CheckBody>,
    },
    Failed {
        code: String,
        sentence: String,
    },
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PublishedBundle {
    #[schema(value_type = String)]
    path: BundlePath,
    #[schema(value_type = String)]
    sha256: Digest,
}

/// Takes the oldest waiting run of these models
#[utoipa::path(post, path = "/runs/claim", tag = "builders", operation_id = "claim_run", request_body = ClaimBody,
    responses((status = 200, description = "It is leased to you", body = Claim),
        (status = 204, description = "Nothing waits"), (status = 422, body = ProblemBody)))]
pub(super) async fn claim(State(app): State<App>, Json(body): Json<ClaimBody>) -> Answer<Response> {
    let ClaimBody { builder, models } = body;
    named(&builder)?;
    if models.len() > MODELS_MAX {
        return Err(Problem::invalid("/models", format!("a builder names at most {MODELS_MAX} models")));
    }
    app.fleet.attendance.note(&builder, app.fleet.clocks.trust.now());
    // Most claims find nothing; they must not queue up for the one writer.
    if oldest(&mut app.fleet.store.read().await?, &models).await?.is_none() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let mut tx = app.fleet.store.write().await?;
    let Some(Versioned { revision, document: mut run }) = oldest(&mut tx, &models).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let moment = app.fleet.clocks.moment();
    run.claim(&builder, task::now(moment))?;
    save(&mut tx, revision, &run).await?;
    let sentence = format!("took the retraining of {}", run.model);
    say(&mut tx, &run, ("run.claimed", sentence), Actor::Builder(builder), moment).await?;
    tx.commit().await?;
    let champion = champion(&mut app.fleet.store.read().await?, &run.model).await?;
    let request = request(&run, moment);
    Ok(Json(Claim { run: RunView::of(&app, &run, Vec::new()), request, champion }).into_response())
}

/// Keeps the lease and brings news
#[utoipa::path(post, path = "/runs/{id}/heartbeat", tag = "builders", operation_id = "heartbeat_run",
    params(("id" = String, Path)), request_body = HeartbeatBody,
    responses((status = 200, body = HeartbeatAnswer), (status = 404, body = ProblemBody),
        (status = 409, description = "The run is not yours any more: stop", body = ProblemBody)))]
pub(super) async fn heartbeat(
    State(app): State<App>,
    Id(id): Id<RunId>,
    Json(body): Json<HeartbeatBody>,
) -> Answer<Json<HeartbeatAnswer>> {
    let HeartbeatBody { builder, progress, message, log } = body;
    named(&builder)?;
    if log.len() > LINES_MAX {
        return Err(Problem::invalid("/log", format!("a heartbeat brings at most {LINES_MAX} lines")));
    }
    if progress.is_some_and(|progress| !(0.0..=1.0).contains(&progress)) {
        return Err(Problem::invalid("/progress", "progress is a number from 0 to 1"));
    }
    app.fleet.attendance.note(&builder, app.fleet.clocks.trust.now());
    let mut tx = app.fleet.store.write().await?;
    let Versioned { revision, document: mut run } = load(&mut tx, &id).await?;
    if matches!(run.state, RunState::Cancelled { .. }) {
        return Ok(Json(HeartbeatAnswer { cancel: true }));
    }
    let moment = app.fleet.clocks.moment();
    let message = message.chars().take(MESSAGE_CHARS_MAX).collect();
    let progress = progress.map(|fraction| RunProgress { fraction, message });
    run.heartbeat(&builder, progress, task::now(moment))?;
    save(&mut tx, revision, &run).await?;
    if !log.is_empty() {
        runs::add_log(&mut tx, &id, moment.at, &log).await?;
    }
    tx.commit().await?;
    Ok(Json(HeartbeatAnswer { cancel: false }))
}

/// Says how a run ended; the same end said twice is taken once
#[utoipa::path(post, path = "/runs/{id}/finish", tag = "builders", operation_id = "finish_run",
    params(("id" = String, Path)), request_body = FinishBody,
    responses((status = 200, body = RunView), (status = 404, body = ProblemBody),
        (status = 409, description = "The run is not yours any more", body = ProblemBody),
        (status = 422, description = "The catalogue does not list what was published", body = ProblemBody)))]
pub(super) async fn finish(
    State(app): State<App>,
    Id(id): Id<RunId>,
    Json(body): Json<FinishBody>,
) -> Answer<Json<RunView>> {
    let FinishBody { builder, outcome } = body;
    named(&builder)?;
    let mut tx = app.fleet.store.write().await?;
    let Versioned { revision, document: mut run } = load(&mut tx, &id).await?;
    let (end, gates) = end(&mut tx, &run, outcome).await?;
    let moment = app.fleet.clocks.moment();
    let before = run.state.clone();
    run.finish(&builder, end, gates, task::now(moment))?;
    if run.state != before {
        save(&mut tx, revision, &run).await?;
        say(&mut tx, &run, said(&run), Actor::Builder(builder), moment).await?;
        tx.commit().await?;
    }
    Ok(Json(RunView::load(&app, &id).await?))
}

async fn end(db: &mut Control, run: &Run, outcome: Outcome) -> Answer<(RunEnd, Vec<Check>)> {
    Ok(match outcome {
        Outcome::Published { bundle: PublishedBundle { path, sha256 }, evaluation, gates } => {
            small(&evaluation)?;
            let gates = checks(gates)?;
            if *path.model() != run.model {
                let detail = format!("{path} is not a bundle of {}", run.model);
                return Err(Problem::invalid("/outcome/published/bundle/path", detail));
            }
            match bundles::get(db, &sha256).await? {
                Some(found) if found.catalogued && found.path == path => {}
                Some(_) | None => {
                    let detail = format!("the catalogue does not list {path} as {}", sha256.short());
                    return Err(Problem::new(Code::NotCatalogued, detail)
                        .next("publish it first, then finish the run"));
                }
            }
            (RunEnd::Published { bundle: BundleRef { path, sha256 }, evaluation }, gates)
        }
        Outcome::Rejected { code, sentence, evaluation, gates } => {
            small(&evaluation)?;
            (RunEnd::Rejected { cause: cause(&code, &sentence), evaluation }, checks(gates)?)
        }
        Outcome::Failed { code, sentence } => (RunEnd::Failed { cause: cause(&code, &sentence) }, Vec::new()),
    })
}

fn cause(code: &str, sentence: &str) -> Cause {
    let code: String = code.chars().take(64).collect();
    Cause::new(&code, muster_protocol::limits::sentence(sentence))
}

fn small(evaluation: &Value) -> Answer<()> {
    if evaluation.to_string().len() > EVALUATION_BYTES_MAX {
        let detail = format!("an evaluation has at most {EVALUATION_BYTES_MAX} bytes");
        return Err(Problem::invalid("/outcome", detail));
    }
    Ok(())
}

fn said(run: &Run) -> (&'static str, String) {
    let model = &run.model;
    match &run.state {
        RunState::Published { bundle, .. } => {
            ("run.succeeded", format!("retrained {model}: published {}", bundle.path.version()))
        }
        RunState::Candidate { bundle, people, .. } => {
            let who = if *people == 1 { "a person".to_owned() } else { format!("{people} people") };
            let version = bundle.path.version();
            ("run.candidate", format!("retrained {model}: {version} waits for {who} to agree"))
        }
        RunState::Rejected { cause, .. } => {
            ("run.rejected", format!("retrained {model} and rejected the result: {}", cause.sentence))
        }
        RunState::Failed { cause } => {
            ("run.failed", format!("could not retrain {model}: {}", cause.sentence))
        }
        RunState::Collecting { .. }
        | RunState::Queued { .. }
        | RunState::Claimed { .. }
        | RunState::Cancelled { .. } => {
            ("run.ended", format!("the retraining of {model} is {}", run.state.name()))
        }
    }
}

/// Of all these models the run that has waited for longest.
async fn oldest(db: &mut Control, models: &[ModelName]) -> Answer<Option<Versioned<Run>>> {
    let mut oldest: Option<Versioned<Run>> = None;
    for model in models {
        let found = runs::oldest::<Run>(db, model, "queued").await?;
        if let Some(found) = found
            && oldest.as_ref().is_none_or(|known| found.document.created < known.document.created)
        {
            oldest = Some(found);
        }
    }
    Ok(oldest)
}

/// What most devices answer with; before any does, the newest that may run.
async fn champion(db: &mut Control, model: &ModelName) -> Answer<Option<BundleName>> {
    let survey = Survey::of(db).await?;
    if let Some((path, sha256)) = survey.champion(model) {
        return Ok(Some(BundleName::from(&BundleRef { path: path.clone(), sha256: *sha256 })));
    }
    let newest = bundles::list(db, Some(model), &crate::store::Page::first(20)).await?;
    let newest = newest.into_iter().find(|bundle| bundle.catalogued);
    Ok(newest.map(|bundle| BundleName::from(&BundleRef { path: bundle.path, sha256: bundle.sha256 })))
}

fn request(run: &Run, moment: Moment) -> RunRequest {
    RunRequest {
        schema: "muster-run/1",
        run: run.id.to_string(),
        model: run.model.to_string(),
        trigger: trigger(&run.trigger, &run.why),
        world_now: moment.world_at,
    }
}

fn trigger(id: &TriggerId, why: &Why) -> Value {
    match why {
        Why::Drift { incident, onset, streams, .. } => {
            json!({"id": id, "kind": "drift", "onset": onset, "incident": incident, "streams": streams})
        }
        Why::Labels { incident, onset, .. } => {
            json!({"id": id, "kind": "labels", "onset": onset, "incident": incident, "streams": []})
        }
        Why::Schedule { .. } => without_incident(id, "schedule"),
        Why::Volume { .. } => without_incident(id, "volume"),
        Why::Registry { name, version, alias, .. } => {
            json!({"id": id, "kind": "registry", "onset": null, "incident": null, "streams": [],
                   "registered": {"name": name, "version": version, "alias": alias}})
        }
        Why::Manual { .. } => without_incident(id, "manual"),
    }
}

fn without_incident(id: &TriggerId, kind: &str) -> Value {
    json!({"id": id, "kind": kind, "onset": null, "incident": null, "streams": []})
}

fn named(builder: &str) -> Answer<()> {
    if builder.trim().is_empty() || builder.chars().count() > BUILDER_CHARS_MAX {
        let detail = format!("a builder has a name of 1 to {BUILDER_CHARS_MAX} characters");
        return Err(Problem::invalid("/builder", detail));
    }
    Ok(())
}
