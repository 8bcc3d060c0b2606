//! Every reason to retrain, and every refusal with its reason: people distrust what is silent.

use axum::extract::State;
use muster_protocol::ids::ModelName;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Json, Query};
use super::page::{List, Paging, parsed};
use super::parts::Reason;
use super::problem::{Answer, ProblemBody};
use super::sight::Sight;
use super::time::Time;
use crate::retrain::{Trigger, TriggerOutcome, Why};
use crate::store::{NewestFirst, triggers};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Trigger)]
struct TriggerView {
    model: String,
    at: Time,
    world_at: Time,
    #[serde(flatten)]
    cause: TriggerCause,
    /// `run` or `refused`.
    outcome: &'static str,
    run: Option<String>,
    refusal: Option<Reason>,
    /// How often the same was asked and refused for the same reason within a day.
    times: u64,
    /// When it was asked last, if more than once.
    last_world_at: Option<Time>,
}

/// Why a retraining was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TriggerCause {
    id: String,
    /// `drift`, `labels`, `schedule`, `volume`, `registry` or `manual`.
    kind: &'static str,
    incident: Option<String>,
    /// Start of the first suspicious window, world time.
    onset: Option<Time>,
    streams: Vec<String>,
    /// A person's, the calendar's, how many labels, or which version of which registry.
    reason: Option<String>,
    by: Option<String>,
}

impl TriggerCause {
    pub(super) fn of(id: &muster_protocol::ids::TriggerId, why: &Why) -> Self {
        let empty = Self {
            id: id.to_string(),
            kind: "manual",
            incident: None,
            onset: None,
            streams: Vec::new(),
            reason: None,
            by: None,
        };
        match why {
            Why::Drift { incident, onset, streams, .. } => Self {
                kind: "drift",
                incident: Some(incident.to_string()),
                onset: Some((*onset).into()),
                streams: streams.iter().map(ToString::to_string).collect(),
                ..empty
            },
            Why::Labels { incident, onset, .. } => Self {
                kind: "labels",
                incident: Some(incident.to_string()),
                onset: Some((*onset).into()),
                ..empty
            },
            Why::Schedule { due } => Self { kind: "schedule", reason: Some(format!("due {due}")), ..empty },
            Why::Volume { labels } => {
                let reason = format!("{labels} labels came in since the last run");
                Self { kind: "volume", reason: Some(reason), ..empty }
            }
            Why::Registry { name, version, alias, .. } => {
                let alias = alias.as_ref().map(|alias| format!(", now '{alias}'")).unwrap_or_default();
                let reason = format!("version {version} of '{name}' in MLflow{alias}");
                Self { kind: "registry", reason: Some(reason), ..empty }
            }
            Why::Manual { by, reason } => {
                Self { reason: Some(reason.clone()), by: Some(by.clone()), ..empty }
            }
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TriggerQuery {
    model: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Triggers, the newest first
#[utoipa::path(get, path = "/triggers", tag = "retraining", operation_id = "list_triggers", params(TriggerQuery),
    responses((status = 200, body = List<TriggerView>), (status = 400, body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    sight: Sight,
    Query(query): Query<TriggerQuery>,
) -> Answer<Json<List<TriggerView>>> {
    let TriggerQuery { model, limit, cursor } = query;
    let model: Option<ModelName> = parsed("model", model.as_deref())?;
    let paging = Paging { limit, cursor };
    let mut db = app.fleet.store.read().await?;
    let key = |trigger: &Trigger| NewestFirst { at: trigger.at, id: trigger.id.to_string() };
    let mut filling = paging.filling()?;
    while let Some(page) = filling.page() {
        let read = triggers::list(&mut db, model.as_ref(), page).await?;
        filling.add(read, key, |trigger| sight.model(&trigger.model));
    }
    let (shown, next) = filling.cut(key);
    let view = |trigger: &Trigger| {
        let (outcome, run, refusal) = match &trigger.outcome {
            TriggerOutcome::Run { run } => ("run", Some(run.to_string()), None),
            TriggerOutcome::Refused { cause } => ("refused", None, Some(Reason::from(cause))),
        };
        TriggerView {
            model: trigger.model.to_string(),
            at: app.real(trigger.at),
            world_at: trigger.at.into(),
            cause: TriggerCause::of(&trigger.id, &trigger.why),
            outcome,
            run,
            refusal,
            times: trigger.times,
            last_world_at: trigger.last.map(Into::into),
        }
    };
    Ok(Json(List { items: shown.iter().map(view).collect(), next }))
}
