//! Paths to answers. Every answer has a JSON body, and every error is `{"error": "…"}`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post, put};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::decompression::RequestDecompressionLayer;

use super::body::{self, Asked, Intake, Received};
use super::error::Refusal;
use super::house::{Desk, Word};
use super::slots::Slots;
use super::words::Statistics;
use super::{grpc, house, infer, labels, metadata, metrics};

/// Longest life of a request, sending it included; above the model's own patience.
pub(super) const REQUEST_TIME: Duration = Duration::from_mins(1);
/// Shorter answers fit one packet as they are.
const COMPRESSED_BYTES_MIN: u64 = 1024;

/// Copied for every request, so it lies behind one pointer.
type Shared = Arc<App>;

struct App {
    slots: Slots,
    state: watch::Receiver<Value>,
    desk: Desk,
    intake: Intake,
}

impl FromRef<Shared> for Intake {
    fn from_ref(app: &Shared) -> Self {
        app.intake.clone()
    }
}

type Answer = Result<Response, Refusal>;

pub(super) fn router(slots: Slots, state: watch::Receiver<Value>, desk: Desk, intake: Intake) -> Router {
    router_within(REQUEST_TIME, App { slots, state, desk, intake })
}

fn router_within(limit: Duration, app: App) -> Router {
    // Who asks for it pays with its own time, so it costs as little as it can.
    let compress = CompressionLayer::new().quality(CompressionLevel::Fastest);
    Router::new()
        .route("/v2", get(server))
        .route("/v2/", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/{model}", get(model))
        .route("/v2/models/{model}/versions/{version}", get(model_version))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/versions/{version}/ready", get(model_version_ready))
        .route("/v2/models/{model}/infer", post(model_infer))
        .route("/v2/models/{model}/versions/{version}/infer", post(model_version_infer))
        .route("/v2/models/{model}/config", get(config))
        .route("/v2/models/{model}/versions/{version}/config", get(config_version))
        .route("/v2/models/stats", get(all_statistics))
        .route("/v2/models/{model}/stats", get(statistics))
        .route("/v2/models/{model}/versions/{version}/stats", get(statistics_version))
        .route("/v2/repository/index", get(index).post(index))
        .route("/v2/repository/models/{model}/load", post(loading))
        .route("/v2/repository/models/{model}/unload", post(loading))
        .route("/v2/models/{model}/trace/setting", any(absent))
        .route("/v2/trace/{*rest}", any(absent))
        .route("/v2/logging", any(absent))
        .route("/v2/systemsharedmemory/{*rest}", any(absent))
        .route("/v2/cudasharedmemory/{*rest}", any(absent))
        .route("/metrics", get(show_metrics))
        .route("/muster/v1/labels", post(take_labels))
        .route("/muster/v1/state", get(show_state))
        .route("/muster/v1/leases", get(leases))
        .route("/muster/v1/leases/{owner}", put(take_lease).delete(release_lease))
        .route("/muster/v1/consents", get(consents))
        .route("/muster/v1/consents/{slot}", put(give_consent).delete(withdraw_consent))
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        // In one: each `layer` of a router puts every route into a box of its own, which is copied for every request.
        .layer((
            middleware::from_fn(move |request, next| in_time_and_in_words(limit, request, next)),
            compress.compress_when(SizeAbove::new(COMPRESSED_BYTES_MIN)),
            RequestDecompressionLayer::new().pass_through_unaccepted(true),
        ))
        .with_state(Arc::new(app))
}

/// Every answer comes in time, and every refusal has its sentence: those of the router itself too.
async fn in_time_and_in_words(limit: Duration, request: Request, next: Next) -> Response {
    let Ok(answer) = tokio::time::timeout(limit, next.run(request)).await else {
        let sentence = format!("the request did not end within {} s", limit.as_secs());
        return Refusal::new(StatusCode::REQUEST_TIMEOUT, sentence).into_response();
    };
    let status = answer.status();
    let is_json = answer.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == "application/json");
    if (status.is_client_error() || status.is_server_error()) && !is_json {
        return Refusal::new(status, "the path or the headers of this request cannot be read")
            .into_response();
    }
    answer
}

async fn server() -> Response {
    axum::Json(metadata::server()).into_response()
}

/// Both words in both answers: clients differ in which one they look for.
async fn live(State(app): State<Shared>) -> Response {
    axum::Json(json!({ "live": true, "ready": app.slots.ready() })).into_response()
}

async fn ready(State(app): State<Shared>) -> Response {
    let ready = app.slots.ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(json!({ "live": true, "ready": ready }))).into_response()
}

async fn model(State(app): State<Shared>, Path(model): Path<String>) -> Answer {
    describe(&app, &model, None)
}

async fn model_version(State(app): State<Shared>, Path((model, version)): Path<(String, String)>) -> Answer {
    describe(&app, &model, Some(&version))
}

async fn model_ready(State(app): State<Shared>, Path(model): Path<String>) -> Answer {
    say_ready(&app, &model, None)
}

async fn model_version_ready(
    State(app): State<Shared>,
    Path((model, version)): Path<(String, String)>,
) -> Answer {
    say_ready(&app, &model, Some(&version))
}

async fn model_infer(State(app): State<Shared>, Path(model): Path<String>, asked: Asked) -> Answer {
    answer(&app, &model, None, asked).await
}

async fn model_version_infer(
    State(app): State<Shared>,
    Path((model, version)): Path<(String, String)>,
    asked: Asked,
) -> Answer {
    answer(&app, &model, Some(&version), asked).await
}

async fn config(State(app): State<Shared>, Path(model): Path<String>) -> Answer {
    let serving = infer::find(&app.slots, &model, None)?.serving;
    Ok(axum::Json(metadata::config(&model, &serving)).into_response())
}

async fn config_version(State(app): State<Shared>, Path((model, version)): Path<(String, String)>) -> Answer {
    let serving = infer::find(&app.slots, &model, Some(&version))?.serving;
    Ok(axum::Json(metadata::config(&model, &serving)).into_response())
}

async fn all_statistics(State(app): State<Shared>) -> Response {
    axum::Json(Statistics { model_stats: metadata::all_statistics(&app.slots) }).into_response()
}

async fn statistics(State(app): State<Shared>, Path(model): Path<String>) -> Answer {
    let serving = infer::find(&app.slots, &model, None)?.serving;
    let model_stats = vec![metadata::statistics(&model, &serving)];
    Ok(axum::Json(Statistics { model_stats }).into_response())
}

async fn statistics_version(
    State(app): State<Shared>,
    Path((model, version)): Path<(String, String)>,
) -> Answer {
    let serving = infer::find(&app.slots, &model, Some(&version))?.serving;
    let model_stats = vec![metadata::statistics(&model, &serving)];
    Ok(axum::Json(Statistics { model_stats }).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IndexRequest {
    /// Only what is ready.
    ready: bool,
}

async fn index(State(app): State<Shared>, body: Received) -> Answer {
    // Clients send nothing where they ask for everything.
    let IndexRequest { ready } = if body.bytes.trim_ascii().is_empty() {
        IndexRequest::default()
    } else {
        serde_json::from_slice(&body.bytes)
            .map_err(|error| Refusal::bad(format!("the body is not an index request: {error}")))?
    };
    Ok(axum::Json(metadata::index(&app.slots, ready)).into_response())
}

async fn loading() -> Refusal {
    Refusal::loading()
}

/// Extensions of other servers that clients ask for by name.
async fn absent() -> Refusal {
    Refusal::new(
        StatusCode::NOT_IMPLEMENTED,
        "shared memory, tracing and logging are not supported by this server",
    )
}

async fn show_metrics(State(app): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&app.slots)).into_response()
}

async fn take_labels(State(app): State<Shared>, body: Received) -> Answer {
    let tally = labels::accept(&app.slots, &body.bytes).await?;
    Ok(axum::Json(tally).into_response())
}

async fn show_state(State(app): State<Shared>) -> Response {
    let state = app.state.borrow().clone();
    axum::Json(state).into_response()
}

async fn leases(State(app): State<Shared>) -> Answer {
    app.desk.ask(Word::Leases).await
}

async fn take_lease(State(app): State<Shared>, Path(owner): Path<String>, body: Received) -> Answer {
    app.desk.ask(house::take(&owner, &body.bytes)?).await
}

async fn release_lease(State(app): State<Shared>, Path(owner): Path<String>) -> Answer {
    app.desk.ask(house::release(&owner)?).await
}

async fn consents(State(app): State<Shared>) -> Answer {
    app.desk.ask(Word::Consents).await
}

async fn give_consent(
    State(app): State<Shared>,
    Path(slot): Path<String>,
    headers: HeaderMap,
    body: Received,
) -> Answer {
    app.desk.admits(&headers)?;
    app.desk.ask(house::give(&slot, &body.bytes)?).await
}

async fn withdraw_consent(
    State(app): State<Shared>,
    Path(slot): Path<String>,
    headers: HeaderMap,
    body: Received,
) -> Answer {
    app.desk.admits(&headers)?;
    app.desk.ask(house::withdraw(&slot, &body.bytes)?).await
}

async fn no_path(headers: HeaderMap) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|value| value.starts_with("application/grpc")) {
        return grpc::unimplemented();
    }
    let sentence = "there is nothing at this path; the protocol's paths begin with /v2";
    Refusal::new(StatusCode::NOT_FOUND, sentence).into_response()
}

async fn no_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this path exists, but not with this method")
}

fn describe(app: &App, name: &str, version: Option<&str>) -> Answer {
    let serving = infer::find(&app.slots, name, version)?.serving;
    Ok(axum::Json(metadata::model(name, &serving)).into_response())
}

fn say_ready(app: &App, name: &str, version: Option<&str>) -> Answer {
    infer::find(&app.slots, name, version)?;
    Ok(axum::Json(json!({ "name": name, "ready": true })).into_response())
}

async fn answer(app: &App, name: &str, version: Option<&str>, Asked { body, held }: Asked) -> Answer {
    // Its room is held until the answer is there; the body itself goes as soon as it is read.
    let read = |serving| body::parse(body, serving, &held);
    let answered = infer::infer(&app.slots, name, version, None, read).await?;
    body::answer(name, answered, &held).await
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use muster_protocol::time::Timestamp;
    use tower::ServiceExt as _;

    use super::*;
    use crate::serve::SlotLimits;

    async fn refused(limit: Duration, path: &str, body: Body) -> (StatusCode, String) {
        let app = App {
            slots: Slots::new(Arc::new(|| Timestamp::from_millis(0)), SlotLimits::default()),
            state: watch::channel(Value::Null).1,
            desk: Desk::new("key").0,
            intake: Intake::new(1024, 1024),
        };
        let request = Request::post(path).body(body).unwrap();
        let answer = router_within(limit, app).oneshot(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        (status, body["error"].as_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let (sender, receiver) = tokio::io::duplex(64);
        let body = Body::from_stream(tokio_util::io::ReaderStream::new(receiver));
        let (status, sentence) = refused(Duration::from_secs(1), "/v2/models/m/infer", body).await;
        assert_eq!((status, sentence.contains("1 s")), (StatusCode::REQUEST_TIMEOUT, true), "{sentence}");
        drop(sender);
    }

    #[tokio::test]
    async fn the_routers_own_refusals_have_a_sentence() {
        let check = async |path: &str, status: u16| {
            assert_eq!(refused(REQUEST_TIME, path, Body::empty()).await.0.as_u16(), status, "{path}");
        };
        check("/v2/models/%ff/infer", 400).await;
        check("/v2/health/live", 405).await;
        check("/elsewhere", 404).await;
    }
}
