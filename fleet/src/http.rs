//! The REST API and the dashboard: where people, the CLI and builders come in.
//!
//! ```text
//!   request ─▶ guard ─▶ caller ─▶ pace ─▶ permit ─▶ once ─▶ extract ─▶ one resource ─▶ the minds and the store ─▶ view
//!                  └────── refused: problem ◀───────────────┘
//! ```
//! One file a resource. Views are types of their own, so that neither a database row nor a mind's type is frozen by
//! what clients read. What changes something is one transaction: load, ask the mind, save what it says, say it in the
//! log. It must never decide by itself, and never hold a database connection while it waits.

mod blobs;
mod bundles;
mod caller;
mod captures;
mod cohorts;
mod datasets;
mod devices;
mod doctor;
mod drift;
mod enrolments;
mod events;
mod extract;
mod guard;
mod health;
mod hooks;
mod identities;
mod incidents;
mod leases;
mod lineage;
mod log;
mod login;
mod mail;
mod me;
mod metrics;
mod models;
mod oidc;
mod once;
mod overview;
mod pace;
mod page;
mod parts;
mod people;
mod permit;
mod plan;
mod policies;
mod problem;
mod projects;
mod refusals;
mod rollouts;
mod runs;
mod security;
mod sight;
mod sites;
mod survey;
mod telemetry;
mod time;
mod tokens;
mod triggers;
mod trust;
mod tuf;
mod ui;
mod webhooks;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::trace::TraceLayer;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;

use crate::fleet::Fleet;
use crate::registry::TAKEN_WITHIN;
use problem::{Code, Problem};

const API: &str = "/api/v1";
/// Largest JSON or trust file that is taken in. Blobs have a bound of their own.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What handlers work with. Cheap to clone.
#[derive(Clone, Debug)]
struct App {
    fleet: Arc<Fleet>,
    /// Seats of the event stream.
    viewers: Arc<Semaphore>,
    /// Passwords that are hashed at the same time: each takes memory on purpose.
    hashing: Arc<Semaphore>,
    /// Who was here how often.
    pace: Arc<pace::Pace>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Muster fleet",
        description = "Operates a fleet of boxes that run models: devices, signed bundles, gated rollouts, drift and \
            retraining. Times are real time unless a name begins with `world_` or its description says world time. \
            Errors are `application/problem+json` with a stable `code`. In the open mode `X-Muster-Actor` names \
            the person who acts, for the log; else it is whoever showed who they are.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers((url = "/", description = "This server"))
)]
struct Description;

/// Everything that the fleet server answers over HTTP.
pub fn router(fleet: Arc<Fleet>) -> Router {
    let app = App {
        fleet,
        viewers: Arc::new(Semaphore::new(events::VIEWERS_MAX)),
        hashing: Arc::new(Semaphore::new(login::HASHING_MAX)),
        pace: Arc::default(),
    };
    let (routes, document) = api().split_for_parts();
    let document: Arc<str> = text(&complete(document)).into();
    Router::new()
        .merge(routes)
        .merge(health::router())
        .merge(tuf::router())
        .route("/api/v1/openapi.json", get(move || async move { described(&document) }))
        .method_not_allowed_fallback(wrong_method)
        .fallback(ui::serve)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(app.clone(), once::once))
        .layer(middleware::from_fn_with_state(app.clone(), permit::permit))
        .layer(middleware::from_fn_with_state(app.clone(), pace::pace))
        .layer(middleware::from_fn_with_state(app.clone(), caller::identify))
        .layer(middleware::from_fn(guard::origin))
        .layer(middleware::from_fn_with_state(app.clone(), guard::host))
        .layer(CatchPanicLayer::custom(guard::panicked))
        .layer(middleware::from_fn(guard::headers))
        .layer(TraceLayer::new_for_http())
        .with_state(app)
}

/// The API's description, as committed in `docs/openapi.json`.
pub fn openapi() -> String {
    text(&complete(api().split_for_parts().1))
}

fn api() -> OpenApiRouter<App> {
    let answered = OpenApiRouter::new()
        .merge(overview::router())
        .merge(doctor::router())
        .merge(devices::router())
        .merge(identities::router())
        .merge(cohorts::router())
        .merge(sites::router())
        .merge(leases::router())
        .merge(captures::router())
        .merge(enrolments::router())
        .merge(bundles::router())
        .merge(models::router())
        .merge(lineage::router())
        .merge(trust::router())
        .merge(rollouts::router())
        .merge(incidents::router())
        .merge(drift::router())
        .merge(policies::router())
        .merge(runs::router())
        .merge(datasets::router())
        .merge(triggers::router())
        .merge(hooks::router())
        .merge(log::router())
        .merge(webhooks::router())
        .merge(mail::router())
        .merge(telemetry::router())
        .merge(login::router())
        .merge(oidc::router())
        .merge(me::router())
        .merge(tokens::router())
        .merge(people::router())
        .merge(projects::router())
        .layer(middleware::from_fn_with_state(guard::ANSWER_WITHIN, guard::within));
    let taken = trust::taking().layer(middleware::from_fn_with_state(TAKEN_WITHIN, guard::within));
    // Uploads and streams last as long as they last.
    let lasting =
        OpenApiRouter::new().merge(blobs::router()).merge(datasets::content()).merge(events::router());
    OpenApiRouter::with_openapi(Description::openapi()).nest(API, answered.merge(taken).merge(lasting))
}

/// With what every operation has in common.
fn complete(document: Document) -> Document {
    refusals::described(security::guarded(document))
}

fn text(document: &Document) -> String {
    // A document of our own strings can be written; were it not, the test that compares it would say so.
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

fn described(document: &str) -> Response {
    let mut response = document.to_owned().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn wrong_method(request: Request) -> Problem {
    let detail = format!("{} does not take {}", request.uri().path(), request.method());
    Problem::new(Code::MethodNotAllowed, detail).next("look into /api/v1/openapi.json")
}
