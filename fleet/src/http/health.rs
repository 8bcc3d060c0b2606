//! For machines that watch the server: is it alive, is it ready.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::Serialize;

use super::App;
use super::extract::Json;
use super::problem::{Answer, Code, Problem};
use crate::store::devices;

/// Longest time a ready server needs to read its database.
const READY_WITHIN: Duration = Duration::from_secs(2);

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(super::metrics::metrics))
}

#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
}

async fn alive() -> Json<Health> {
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

async fn ready(State(app): State<App>) -> Answer<Json<Health>> {
    let reading = async { devices::presence_counts(&mut app.fleet.store.read().await?).await };
    match tokio::time::timeout(READY_WITHIN, reading).await {
        Ok(Ok(_)) => Ok(Json(Health { status: "ready", version: env!("CARGO_PKG_VERSION") })),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Problem::new(Code::Busy, "the database does not answer")),
    }
}
