//! What other people's systems tell us of themselves: `MLflow`, that its registry has a version to look at.
//!
//! ```text
//!   signature, time ─▶ an event we know ─▶ a model that is ours ─▶ trigger: run, or refused with its reason
//!        └▶ 401            └▶ ignored          └▶ ignored             (the same delivery is the same trigger)
//! ```
//! Who signs right is `MLflow`, and still only asks: the version is fetched by a builder, held to the champion by its gates,
//! and signed by our own key.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::Json;
use super::problem::{Answer, Code, Problem, ProblemBody};
use crate::config::{MlflowConfig, Registered};
use crate::retrain::{Policy, Trigger, TriggerOutcome, Why};
use crate::store::{policies, triggers};
use crate::tasks::runs::{self as task, Asked, Proposed};
use crate::webhook;

/// Longest word of theirs that is kept.
const WORD_BYTES_MAX: usize = 256;
/// On versions that a builder of ours wrote: to train because of them would never end.
const OUR_TAG: &str = "muster.bundle_digest";

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(mlflow))
}

/// What `MLflow` sends; of what it says, what we look at.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = MlflowEvent)]
struct EventBody {
    /// `model_version`, `model_version_alias` and others.
    entity: String,
    /// `created` and others.
    action: String,
    data: EventData,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = MlflowEventData)]
struct EventData {
    name: String,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    alias: Option<String>,
    #[serde(default)]
    #[schema(value_type = Object)]
    tags: Map<String, Value>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HookAnswer)]
struct HookView {
    /// `run`, `refused` or `ignored`.
    outcome: &'static str,
    trigger: Option<String>,
    run: Option<String>,
    /// Why it is no run.
    reason: Option<String>,
}

/// Hears of a version in `MLflow`'s registry; signed by its webhook's secret
///
/// `X-MLflow-Delivery-Id`, `X-MLflow-Timestamp` and `X-MLflow-Signature` as `MLflow` 3 writes them. A delivery that comes
/// again gets the answer it got.
#[utoipa::path(post, path = "/hooks/mlflow", tag = "retraining", operation_id = "hear_mlflow", request_body = EventBody,
    responses((status = 202, body = HookView),
        (status = 401, description = "Not signed with the webhook's secret, or not within five minutes of now", body = ProblemBody),
        (status = 404, description = "This server hears no MLflow", body = ProblemBody), (status = 400, body = ProblemBody)))]
async fn mlflow(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<(StatusCode, Json<HookView>)> {
    let body = body?;
    let Some(config) = &app.fleet.config.mlflow else {
        let problem = Problem::new(Code::NotFound, "this server hears no MLflow");
        return Err(problem.next("name its webhook's secret and its models in [mlflow] of the configuration"));
    };
    let delivery = signed(config, &headers, &body, app.fleet.clocks.moment().at).await?;
    let event: EventBody = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(Code::BadBody, format!("this is no event of MLflow: {error}")))?;
    let answer = match wanted(config, &event) {
        Err(reason) => HookView { outcome: "ignored", trigger: None, run: None, reason: Some(reason) },
        Ok(registered) => ask(&app, registered, event.data, delivery).await?,
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// The delivery's id, once its signature and its time are right.
async fn signed(
    config: &MlflowConfig,
    headers: &HeaderMap,
    body: &[u8],
    now: muster_protocol::time::Timestamp,
) -> Answer<String> {
    let word = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, time) = (word("x-mlflow-delivery-id"), word("x-mlflow-timestamp"));
    let secret =
        tokio::fs::read_to_string(&config.secret_file).await.map_err(|error| Problem::internal(&error))?;
    let key = webhook::key(secret.trim()).map_err(|error| Problem::internal(&error))?;
    let refused = |why: String| Problem::new(Code::Signature, why);
    webhook::verify(&key, (id, time, word("x-mlflow-signature")), body, now).map_err(|error| {
        refused(error.to_string()).next("give MLflow's webhook the same secret, and both machines the time")
    })?;
    if id.is_empty() || id.len() > WORD_BYTES_MAX {
        return Err(refused("the delivery has no id".to_owned()));
    }
    Ok(id.to_owned())
}

/// Whose model it is about, if it is about something that we want to hear.
fn wanted<'a>(config: &'a MlflowConfig, event: &EventBody) -> Result<&'a Registered, String> {
    let EventBody { entity, action, data } = event;
    let Some(registered) = config.find(&data.name) else {
        return Err(format!("no model here is called '{}' there", short(&data.name)));
    };
    match (entity.as_str(), action.as_str(), &registered.alias) {
        ("model_version", "created", None) if data.tags.contains_key(OUR_TAG) => {
            Err("a builder of this fleet made this version".to_owned())
        }
        ("model_version", "created", None) => Ok(registered),
        ("model_version_alias", "created", Some(alias)) if data.alias.as_ref() == Some(alias) => {
            Ok(registered)
        }
        _ => {
            let on = registered.alias.as_ref().map(|alias| format!("the alias '{alias}'"));
            Err(format!("only {} asks for a run", on.as_deref().unwrap_or("a new version")))
        }
    }
}

async fn ask(app: &App, registered: &Registered, data: EventData, delivery: String) -> Answer<HookView> {
    let (name, version) = (short(&data.name), short(data.version.as_deref().unwrap_or_default()));
    let why = Why::Registry { delivery, name, version, alias: registered.alias.clone() };
    let mut tx = app.fleet.store.write().await?;
    if let Some(id) = why.id()
        && let Some(known) = triggers::get::<Trigger>(&mut tx, &id).await?
    {
        return Ok(HookView::of(&known));
    }
    let model = &registered.model;
    let policy = policies::get::<Policy>(&mut tx, model).await?.map(|policy| policy.document);
    let asked = Asked { model, why, policy: policy.as_ref(), refused_before: None, new_rows: None };
    let proposed = task::propose(&mut tx, asked, app.fleet.clocks.moment()).await?;
    // A refusal is kept too.
    tx.commit().await?;
    Ok(match proposed {
        Proposed::Run { trigger, run } => {
            let (trigger, run) = (Some(trigger.to_string()), Some(run.to_string()));
            HookView { outcome: "run", trigger, run, reason: None }
        }
        Proposed::Refused { cause } => {
            HookView { outcome: "refused", trigger: None, run: None, reason: Some(cause.sentence.clone()) }
        }
        Proposed::RefusedAsBefore => HookView { outcome: "refused", trigger: None, run: None, reason: None },
    })
}

impl HookView {
    fn of(trigger: &Trigger) -> Self {
        let (outcome, run, reason) = match &trigger.outcome {
            TriggerOutcome::Run { run } => ("run", Some(run.to_string()), None),
            TriggerOutcome::Refused { cause } => ("refused", None, Some(cause.sentence.clone())),
        };
        Self { outcome, trigger: Some(trigger.id.to_string()), run, reason }
    }
}

/// Their word, as much of it as is kept, and nothing that steers a terminal.
fn short(word: &str) -> String {
    let plain: String = word.chars().filter(|letter| !letter.is_control()).collect();
    plain[..plain.floor_char_boundary(WORD_BYTES_MAX)].to_owned()
}
