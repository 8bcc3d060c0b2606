//! Retraining runs: people look, start and cancel; builders take them and say how they end.

mod builder;
mod gates;
mod result;
mod view;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::ids::{ModelName, RunId};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Acting, Id, Json, Query};
use super::page::{List, Paging, parsed};
use super::parts::{WhyBody, because};
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::sight::Sight;
use crate::retrain::{Policy, Run, RunRefused, RunState, Why};
use crate::store::log::{Actor, Moment, NewEntry};
use crate::store::{Control, ControlTx, NewestFirst, Saved, Versioned, bundles, log, policies, runs};
use crate::tasks::runs::{self as task, Asked, Proposed};

use view::RunView;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(builder::claim))
        .routes(routes!(get))
        .routes(routes!(cancel))
        .routes(routes!(approve))
        .routes(routes!(reject))
        .routes(routes!(builder::heartbeat))
        .routes(routes!(builder::finish))
        .routes(routes!(result::token))
        .routes(routes!(result::file))
        .routes(routes!(result::progress))
        .routes(routes!(result::hand_back, result::get))
}

impl From<RunRefused> for Problem {
    fn from(refused: RunRefused) -> Self {
        let code = match &refused {
            RunRefused::LeaseLost(_) => Code::LeaseLost,
            RunRefused::NotQueued(_)
            | RunRefused::Ended(_)
            | RunRefused::NotCandidate(_)
            | RunRefused::OwnRun(_)
            | RunRefused::ApprovedBefore(_) => Code::State,
        };
        Self::new(code, refused.to_string())
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct RunQuery {
    model: Option<String>,
    /// `collecting`, `queued`, `claimed`, `candidate`, `succeeded`, `rejected`, `failed` or `cancelled`.
    state: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Runs, the newest first; without their logs
#[utoipa::path(get, path = "/runs", tag = "retraining", operation_id = "list_runs", params(RunQuery),
    responses((status = 200, body = List<RunView>), (status = 400, body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    sight: Sight,
    Query(query): Query<RunQuery>,
) -> Answer<Json<List<RunView>>> {
    let RunQuery { model, state, limit, cursor } = query;
    let model: Option<ModelName> = parsed("model", model.as_deref())?;
    let state = state.filter(|state| !state.is_empty());
    if state.as_deref().is_some_and(|state| !RunState::NAMES.contains(&state)) {
        return Err(Problem::new(
            Code::BadQuery,
            format!("state: write one of {}", RunState::NAMES.join(", ")),
        ));
    }
    let paging = Paging { limit, cursor };
    let mut db = app.fleet.store.read().await?;
    let key =
        |run: &Versioned<Run>| NewestFirst { at: run.document.created, id: run.document.id.to_string() };
    let mut filling = paging.filling()?;
    while let Some(page) = filling.page() {
        let read = runs::list(&mut db, model.as_ref(), state.as_deref(), page).await?;
        filling.add(read, key, |run| sight.model(&run.document.model));
    }
    let (shown, next) = filling.cut(key);
    let items = shown.iter().map(|run| RunView::of(&app, &run.document, Vec::new())).collect();
    Ok(Json(List { items, next }))
}

/// One run, with the end of its log
#[utoipa::path(get, path = "/runs/{id}", tag = "retraining", operation_id = "get_run", params(("id" = String, Path)),
    responses((status = 200, body = RunView), (status = 404, body = ProblemBody)))]
async fn get(State(app): State<App>, Id(id): Id<RunId>) -> Answer<Json<RunView>> {
    Ok(Json(RunView::load(&app, &id).await?))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRun)]
struct NewBody {
    #[schema(value_type = String)]
    model: ModelName,
    /// Why; kept in the log.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: String,
}

/// Asks for a run by hand
#[utoipa::path(post, path = "/runs", tag = "retraining", operation_id = "create_run", request_body = NewBody,
    responses((status = 201, body = RunView),
        (status = 409, description = "Refused, for example because one is under way; the refusal is kept", body = ProblemBody),
        (status = 422, body = ProblemBody)))]
async fn create(State(app): State<App>, acting: Acting, Json(body): Json<NewBody>) -> Answer<Response> {
    let NewBody { model, reason } = body;
    let reason = WhyBody { reason }.needed()?.to_owned();
    let mut tx = app.fleet.store.write().await?;
    let known = bundles::list(&mut tx, Some(&model), &crate::store::Page::first(1)).await?;
    if known.is_empty() && policies::get::<Policy>(&mut tx, &model).await?.is_none() {
        let detail = format!("no bundle and no policy of a model '{model}' is known here");
        return Err(Problem::invalid("/model", detail));
    }
    let policy = policies::get::<Policy>(&mut tx, &model).await?.map(|policy| policy.document);
    let why = Why::Manual { by: acting.0.clone(), reason };
    let moment = app.fleet.clocks.moment();
    let asked = Asked { model: &model, why, policy: policy.as_ref(), refused_before: None, new_rows: None };
    let proposed = task::propose(&mut tx, asked, moment).await?;
    // A refusal is kept too.
    tx.commit().await?;
    match proposed {
        Proposed::Run { run, .. } => {
            let mut response = (StatusCode::CREATED, Json(RunView::load(&app, &run).await?)).into_response();
            if let Ok(location) = HeaderValue::from_str(&format!("/api/v1/runs/{run}")) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            Ok(response)
        }
        Proposed::Refused { cause } => Err(Problem::new(Code::TriggerRefused, cause.sentence)),
        Proposed::RefusedAsBefore => {
            Err(Problem::new(Code::TriggerRefused, "refused, for the same reason as before"))
        }
    }
}

/// Ends a run; its builder stops at its next heartbeat
#[utoipa::path(post, path = "/runs/{id}/cancel", tag = "retraining", operation_id = "cancel_run",
    params(("id" = String, Path)), request_body = WhyBody,
    responses((status = 200, body = RunView), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
async fn cancel(
    State(app): State<App>,
    Id(id): Id<RunId>,
    acting: Acting,
    Json(why): Json<WhyBody>,
) -> Answer<Json<RunView>> {
    let reason = why.reason()?;
    let mut tx = app.fleet.store.write().await?;
    let Versioned { revision, document: mut run } = load(&mut tx, &id).await?;
    let moment = app.fleet.clocks.moment();
    run.cancel(&acting.0, reason, task::now(moment))?;
    save(&mut tx, revision, &run).await?;
    let sentence = format!("cancelled the retraining of {}{}", run.model, because(reason));
    say(&mut tx, &run, ("run.cancelled", sentence), acting.for_log(), moment).await?;
    tx.commit().await?;
    Ok(Json(RunView::load(&app, &id).await?))
}

/// Agrees to a candidate; with the last person that its policy asks for it may be rolled out
#[utoipa::path(post, path = "/runs/{id}/approve", tag = "retraining", operation_id = "approve_run",
    params(("id" = String, Path)), request_body = WhyBody,
    responses((status = 200, body = RunView), (status = 404, body = ProblemBody),
        (status = 409, description = "It is no candidate, or you asked for the run or approved it yourself", body = ProblemBody)))]
async fn approve(
    State(app): State<App>,
    Id(id): Id<RunId>,
    acting: Acting,
    Json(why): Json<WhyBody>,
) -> Answer<Json<RunView>> {
    let reason = why.reason()?;
    let mut tx = app.fleet.store.write().await?;
    let Versioned { revision, document: mut run } = load(&mut tx, &id).await?;
    let moment = app.fleet.clocks.moment();
    run.approve(&acting.0, task::now(moment))?;
    save(&mut tx, revision, &run).await?;
    let sentence = format!("approved the retrained {}{}", run.model, because(reason));
    say(&mut tx, &run, ("run.approved", sentence), acting.for_log(), moment).await?;
    tx.commit().await?;
    Ok(Json(RunView::load(&app, &id).await?))
}

/// Does not want a candidate; its bundle stays in the catalogue and is rolled out by no policy
#[utoipa::path(post, path = "/runs/{id}/reject", tag = "retraining", operation_id = "reject_run",
    params(("id" = String, Path)), request_body = WhyBody,
    responses((status = 200, body = RunView), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
async fn reject(
    State(app): State<App>,
    Id(id): Id<RunId>,
    acting: Acting,
    Json(why): Json<WhyBody>,
) -> Answer<Json<RunView>> {
    let reason = why.needed()?;
    let mut tx = app.fleet.store.write().await?;
    let Versioned { revision, document: mut run } = load(&mut tx, &id).await?;
    let moment = app.fleet.clocks.moment();
    run.reject(&acting.0, reason, task::now(moment))?;
    save(&mut tx, revision, &run).await?;
    let sentence = format!("rejected the retrained {}{}", run.model, because(reason));
    say(&mut tx, &run, ("run.rejected", sentence), acting.for_log(), moment).await?;
    tx.commit().await?;
    Ok(Json(RunView::load(&app, &id).await?))
}

async fn load(db: &mut Control, id: &RunId) -> Answer<Versioned<Run>> {
    runs::get(db, id).await?.ok_or_else(|| Problem::not_found("run", id))
}

async fn save(tx: &mut ControlTx, seen: u64, run: &Run) -> Answer<()> {
    match runs::save(tx, &run.id, seen, task::columns(run), run).await? {
        Saved::Saved { .. } => Ok(()),
        Saved::Stale => Err(Problem::new(Code::Stale, "somebody was faster").next("look again, then repeat")),
    }
}

async fn say(
    tx: &mut ControlTx,
    run: &Run,
    (kind, sentence): (&'static str, String),
    actor: Actor,
    when: Moment,
) -> Answer<()> {
    let entry = NewEntry { when, kind, subject: run.id.to_string(), sentence: sentence.into(), actor };
    log::append(tx, &entry).await?;
    Ok(())
}
