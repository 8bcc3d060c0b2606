//! Rollouts: begin one, look at it, act on it. The engine itself runs in a task; here people meet it.

mod beside;
mod evidence;
mod foresee;
mod journal;
mod new;
mod verbs;
mod view;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::ids::{ModelName, RolloutId};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Id, Json, Query};
use super::page::{List, Paging, parsed};
use super::parts::timeline;
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::sight::Sight;
use super::time::Time;
use crate::rollout::explain::Explainer;
use crate::rollout::{Member, Phase, Rollout, WaitingOn, advance};
use crate::roster::Shared;
use crate::store::{self, Control, NewestFirst, Page, Versioned, forecasts, rollouts};
use crate::tasks::view::{members_of, seen};

use foresee::ForecastView;
pub(super) use view::RolloutSummary;
use view::{RolloutView, summary};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, new::create))
        .routes(routes!(get))
        .routes(routes!(devices))
        .routes(routes!(verbs::pause))
        .routes(routes!(verbs::resume))
        .routes(routes!(verbs::abort))
        .routes(routes!(verbs::rollback))
        .routes(routes!(verbs::promote))
        .routes(routes!(verbs::approve))
        .routes(routes!(verbs::retry))
        .routes(routes!(evidence::evidence))
        .routes(routes!(journal::journal))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct RolloutQuery {
    model: Option<String>,
    /// `proposed`, `scheduled`, `running`, `paused`, `held`, `rolling_back`, `rolled_back`, `aborting`, `aborted`,
    /// `superseded` or `completed`.
    phase: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Why one device is where it is: exactly one sentence.
#[derive(Debug, Serialize, ToSchema)]
struct RolloutDevice {
    device: String,
    name: String,
    site: String,
    /// Name of its stage.
    stage: String,
    /// `waiting`, `offered`, `baking`, `done`, `failed`, `reverted`, `returning` or `returned`.
    state: &'static str,
    code: &'static str,
    sentence: String,
    /// What happens next, or what a person can do.
    next: String,
    since: Option<Time>,
}

/// Rollouts, the newest first
#[utoipa::path(get, path = "/rollouts", tag = "rollouts", operation_id = "list_rollouts", params(RolloutQuery),
    responses((status = 200, body = List<RolloutSummary>), (status = 400, body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    sight: Sight,
    Query(query): Query<RolloutQuery>,
) -> Answer<Json<List<RolloutSummary>>> {
    let RolloutQuery { model, phase, limit, cursor } = query;
    let model: Option<ModelName> = parsed("model", model.as_deref())?;
    let phase = phase.filter(|phase| !phase.is_empty());
    if phase.as_deref().is_some_and(|phase| !Phase::NAMES.contains(&phase)) {
        return Err(Problem::new(Code::BadQuery, format!("phase: write one of {}", Phase::NAMES.join(", "))));
    }
    let paging = Paging { limit, cursor };
    let mut db = app.fleet.store.read().await?;
    let key = |rollout: &Versioned<Rollout>| NewestFirst {
        at: rollout.document.created,
        id: rollout.document.id.to_string(),
    };
    let mut filling = paging.filling()?;
    while let Some(page) = filling.page() {
        let read = rollouts::list(&mut db, model.as_ref(), phase.as_deref(), page).await?;
        filling.add(read, key, |rollout| sight.model(&rollout.document.model));
    }
    let (shown, next) = filling.cut(key);
    let items = summaries(&app, &mut db, &shown).await?;
    Ok(Json(List { items, next }))
}

/// One rollout
#[utoipa::path(get, path = "/rollouts/{id}", tag = "rollouts", operation_id = "get_rollout",
    params(("id" = String, Path)),
    responses((status = 200, body = RolloutView, headers(("etag" = String, description = "Its revision"))),
        (status = 404, body = ProblemBody)))]
async fn get(State(app): State<App>, Id(id): Id<RolloutId>) -> Answer<Response> {
    show(&app, &id).await
}

/// Why each device is where it is
#[utoipa::path(get, path = "/rollouts/{id}/devices", tag = "rollouts", operation_id = "list_rollout_devices",
    params(("id" = String, Path), Paging),
    responses((status = 200, body = List<RolloutDevice>), (status = 404, body = ProblemBody)))]
async fn devices(
    State(app): State<App>,
    Id(id): Id<RolloutId>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<RolloutDevice>>> {
    let mut db = app.fleet.store.read().await?;
    let loaded = load(&mut db, &id).await?;
    let Page { after, limit } = paging.page()?;
    let page = rollouts::devices::<Member>(&mut db, &id, &Page { after, limit }).await?;
    let (page, next) = paging.cut(page, |(device, _)| device.clone())?;
    drop(db);
    let Shared { rollout, members, view: fleet, .. } = see(&app, loaded).await?;
    let explained: Vec<_> = {
        let explainer = Explainer::new(&rollout, &members, &fleet, app.fleet.clocks.world.now());
        page.iter().filter_map(|(device, _)| explainer.of(device)).collect()
    };
    let mut db = app.fleet.store.read().await?;
    let mut items = Vec::with_capacity(explained.len());
    for said in explained {
        // Who is no member of the fleet any more is in no view of it, and still has a name.
        let (name, site) = match fleet.devices.get(&said.device) {
            Some(device) => (device.name.clone(), device.site.to_string()),
            None => match store::devices::get(&mut db, &said.device).await? {
                Some(known) => (known.name, known.site.to_string()),
                None => (said.device.to_string(), String::new()),
            },
        };
        items.push(RolloutDevice {
            name,
            site,
            stage: rollout.plan.stages.get(said.stage).map_or_else(String::new, |stage| stage.name.clone()),
            device: said.device.into(),
            state: said.state,
            code: said.code,
            sentence: said.sentence,
            next: said.next,
            since: said.since.map(|since| app.real(since)),
        });
    }
    Ok(Json(List { items, next }))
}

pub(super) async fn summaries(
    app: &App,
    db: &mut Control,
    rollouts: &[Versioned<Rollout>],
) -> Answer<Vec<RolloutSummary>> {
    let mut items = Vec::with_capacity(rollouts.len());
    for rollout in rollouts {
        let members = members_of(db, &app.fleet.board, &rollout.document).await?;
        items.push(summary(app, &rollout.document, &members));
    }
    Ok(items)
}

/// A rollout as it stands, with its revision as `ETag`.
async fn show(app: &App, id: &RolloutId) -> Answer<Response> {
    let mut db = app.fleet.store.read().await?;
    let loaded = load(&mut db, id).await?;
    let timeline = timeline(&mut db, id.as_str()).await?;
    let foreseen = forecasts::get(&mut db, id).await?;
    drop(db);
    let Shared { revision, rollout, members, view: fleet } = see(app, loaded).await?;
    // The engine says what it waits for whenever it is asked, so nothing of that is stored.
    let now: Timestamp = app.fleet.clocks.world.now();
    let foreseen = foreseen.map(|foreseen| ForecastView::of(&foreseen, Some(&rollout)));
    let waiting_on = if members.is_empty() && fleet.devices.is_empty() && rollout.phase.is_open() {
        let sentence = "the first look at the fleet; ask again in a moment".to_owned();
        vec![WaitingOn { code: "starting", sentence, devices: 0 }]
    } else {
        advance(&rollout, &members, &fleet, now).waiting_on
    };
    let view = RolloutView::of(summary(app, &rollout, &members), waiting_on, timeline, foreseen, revision);
    let mut response = Json(view).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

/// From memory where it is there. Never with a connection in hand: whoever waits for it must not hold up others.
async fn see(app: &App, loaded: Versioned<Rollout>) -> Answer<Shared> {
    let fleet = &app.fleet;
    Ok(seen(&fleet.store, &fleet.board, fleet.clocks, loaded).await?)
}

async fn load(db: &mut Control, id: &RolloutId) -> Answer<Versioned<Rollout>> {
    rollouts::get(db, id).await?.ok_or_else(|| Problem::not_found("rollout", id))
}
