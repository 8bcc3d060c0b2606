//! Drift incidents: look, say that you know, close.

use axum::extract::State;
use muster_protocol::ids::{IncidentId, ModelName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Acting, Id, Json, Query};
use super::page::{List, Paging, parsed};
use super::parts::{BundleName, WhyBody, because};
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::sight::Sight;
use super::time::Time;
use crate::drift::{FoundStream, Incident, IncidentState, Kind, broken_word};
use crate::store::log::{self, NewEntry};
use crate::store::{Control, NewestFirst, Saved, Versioned, incidents};

const STATES: [&str; 3] = ["open", "acknowledged", "closed"];

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(acknowledge))
        .routes(routes!(close))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Incident)]
pub(super) struct IncidentView {
    pub(super) id: String,
    pub(super) model: String,
    bundle: BundleName,
    /// `open`, `acknowledged` or `closed`.
    state: &'static str,
    /// Who acknowledged or closed it last.
    handled: Option<Handled>,
    /// `new_regime`, `site_change`, `device_fault`, `known_season`, `data_quality`, `performance` or `site_differs`.
    kind: &'static str,
    /// The kind as a sentence says it.
    kind_said: &'static str,
    /// How it was told from the other kinds.
    why: String,
    /// Whether it is one that may ask for retraining.
    asks_for_retraining: bool,
    /// `cohort`: the world has changed. `devices`: only some boxes see it.
    reach: &'static str,
    pub(super) opened: Time,
    world_opened: Time,
    /// Start of the first suspicious window, world time.
    onset: Time,
    scope: Scope,
    /// The strongest first.
    streams: Vec<StreamView>,
    pub(super) sentence: String,
    trigger: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IncidentHandled)]
struct Handled {
    at: Time,
    by: String,
    reason: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IncidentScope)]
struct Scope {
    devices: Vec<String>,
    sites: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IncidentStream)]
struct StreamView {
    name: String,
    /// Shift in reference standard deviations: of the mean, or as large for a mix of categories.
    effect_sd: Option<f64>,
    /// Its interval: 95 %.
    effect_low: Option<f64>,
    effect_high: Option<f64>,
    /// What is wrong with the data, where they are broken.
    broken: Option<&'static str>,
    psi: f64,
    /// Chance that any monitored column looks this bad without drift.
    b: f64,
    /// Devices that see it.
    devices: usize,
}

impl IncidentView {
    pub(super) async fn of(app: &App, db: &mut Control, incident: &Incident) -> Answer<Self> {
        let handled = |at, by: &String, reason: &String| {
            Some(Handled { at: app.real(at), by: by.clone(), reason: reason.clone() })
        };
        let (state, handled) = match &incident.state {
            IncidentState::Open => ("open", None),
            IncidentState::Acknowledged { at, by, reason } => ("acknowledged", handled(*at, by, reason)),
            IncidentState::Closed { at, by, reason } => ("closed", handled(*at, by, reason)),
        };
        let stream = |stream: &FoundStream| StreamView {
            name: stream.name.to_string(),
            effect_sd: stream.shift.map(|shift| shift.sd),
            effect_low: stream.shift.map(|shift| shift.low),
            effect_high: stream.shift.map(|shift| shift.high),
            broken: stream.broken.map(broken_word),
            psi: stream.psi_adj,
            b: stream.b,
            devices: stream.devices,
        };
        Ok(Self {
            id: incident.id.to_string(),
            model: incident.model.to_string(),
            bundle: BundleName::find(db, &incident.bundle).await?,
            state,
            handled,
            kind: incident.kind.name(),
            kind_said: incident.kind.said(),
            why: incident.reason.clone(),
            asks_for_retraining: incident.kind.may_ask(),
            reach: match incident.kind {
                Kind::NewRegime | Kind::Performance => "cohort",
                Kind::SiteDiffers
                | Kind::KnownSeason
                | Kind::DataQuality
                | Kind::DeviceFault
                | Kind::SiteChange => "devices",
            },
            opened: app.real(incident.opened),
            world_opened: incident.opened.into(),
            onset: incident.onset.into(),
            scope: Scope {
                devices: incident.devices.iter().map(ToString::to_string).collect(),
                sites: incident.sites.iter().map(ToString::to_string).collect(),
            },
            streams: incident.streams.iter().map(stream).collect(),
            sentence: incident.sentence(),
            trigger: incident.trigger.as_ref().map(ToString::to_string),
        })
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct IncidentQuery {
    model: Option<String>,
    /// `open`, `acknowledged` or `closed`.
    state: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Incidents, the newest first
#[utoipa::path(get, path = "/incidents", tag = "drift", operation_id = "list_incidents", params(IncidentQuery),
    responses((status = 200, body = List<IncidentView>), (status = 400, body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    sight: Sight,
    Query(query): Query<IncidentQuery>,
) -> Answer<Json<List<IncidentView>>> {
    let IncidentQuery { model, state, limit, cursor } = query;
    let model: Option<ModelName> = parsed("model", model.as_deref())?;
    let state = state.filter(|state| !state.is_empty());
    if state.as_deref().is_some_and(|state| !STATES.contains(&state)) {
        return Err(Problem::new(Code::BadQuery, format!("state: write one of {}", STATES.join(", "))));
    }
    let paging = Paging { limit, cursor };
    let mut db = app.fleet.store.read().await?;
    let key = |incident: &Versioned<Incident>| NewestFirst {
        at: incident.document.opened,
        id: incident.document.id.to_string(),
    };
    let mut filling = paging.filling()?;
    while let Some(page) = filling.page() {
        let read = incidents::list(&mut db, model.as_ref(), state.as_deref(), page).await?;
        filling.add(read, key, |incident| sight.model(&incident.document.model));
    }
    let (shown, next) = filling.cut(key);
    let mut items = Vec::with_capacity(shown.len());
    for incident in shown {
        items.push(IncidentView::of(&app, &mut db, &incident.document).await?);
    }
    Ok(Json(List { items, next }))
}

/// One incident
#[utoipa::path(get, path = "/incidents/{id}", tag = "drift", operation_id = "get_incident",
    params(("id" = String, Path)),
    responses((status = 200, body = IncidentView), (status = 404, body = ProblemBody)))]
async fn get(State(app): State<App>, Id(id): Id<IncidentId>) -> Answer<Json<IncidentView>> {
    let mut db = app.fleet.store.read().await?;
    let incident = load(&mut db, &id).await?;
    Ok(Json(IncidentView::of(&app, &mut db, &incident.document).await?))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Acknowledge,
    Close,
}

/// Says that a person knows of it
#[utoipa::path(post, path = "/incidents/{id}/acknowledge", tag = "drift", operation_id = "acknowledge_incident",
    params(("id" = String, Path)), request_body = WhyBody,
    responses((status = 200, body = IncidentView), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
async fn acknowledge(
    State(app): State<App>,
    Id(id): Id<IncidentId>,
    acting: Acting,
    Json(why): Json<WhyBody>,
) -> Answer<Json<IncidentView>> {
    act(&app, &id, Act::Acknowledge, &acting, &why).await
}

/// Ends it; the same change is not told again, a larger one is
#[utoipa::path(post, path = "/incidents/{id}/close", tag = "drift", operation_id = "close_incident",
    params(("id" = String, Path)), request_body = WhyBody,
    responses((status = 200, body = IncidentView), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
async fn close(
    State(app): State<App>,
    Id(id): Id<IncidentId>,
    acting: Acting,
    Json(why): Json<WhyBody>,
) -> Answer<Json<IncidentView>> {
    act(&app, &id, Act::Close, &acting, &why).await
}

async fn act(
    app: &App,
    id: &IncidentId,
    act: Act,
    acting: &Acting,
    why: &WhyBody,
) -> Answer<Json<IncidentView>> {
    let reason = why.needed()?.to_owned();
    let mut tx = app.fleet.store.write().await?;
    let Versioned { revision, document: mut incident } = load(&mut tx, id).await?;
    let moment = app.fleet.clocks.moment();
    let (at, by) = (moment.world_at, acting.0.clone());
    let (state, kind, did) = match (act, &incident.state) {
        (Act::Acknowledge, IncidentState::Open) => {
            incident.state = IncidentState::Acknowledged { at, by, reason: reason.clone() };
            ("acknowledged", "incident.acknowledged", "acknowledged")
        }
        (Act::Close, IncidentState::Open | IncidentState::Acknowledged { .. }) => {
            incident.state = IncidentState::Closed { at, by, reason: reason.clone() };
            ("closed", "incident.closed", "closed")
        }
        (Act::Acknowledge, IncidentState::Acknowledged { .. }) => {
            return Err(Problem::new(Code::State, "the incident is acknowledged already"));
        }
        (Act::Acknowledge | Act::Close, IncidentState::Closed { .. }) => {
            return Err(Problem::new(Code::State, "the incident is closed already"));
        }
    };
    match incidents::save(&mut tx, id, revision, state, &incident).await? {
        Saved::Saved { .. } => {}
        Saved::Stale => {
            return Err(Problem::new(Code::Stale, "somebody was faster").next("look again, then repeat"));
        }
    }
    let sentence = format!("{did} the incident of {}{}", incident.model, because(&reason));
    let entry = NewEntry {
        when: moment,
        kind,
        subject: id.to_string(),
        sentence: sentence.into(),
        actor: acting.for_log(),
    };
    log::append(&mut tx, &entry).await?;
    tx.commit().await?;
    let view = IncidentView::of(app, &mut app.fleet.store.read().await?, &incident).await?;
    Ok(Json(view))
}

async fn load(db: &mut Control, id: &IncidentId) -> Answer<Versioned<Incident>> {
    incidents::get(db, id).await?.ok_or_else(|| Problem::not_found("incident", id))
}
