//! How much telemetry is kept, what was dropped, and what boxes gave up before it was here.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::Json;
use super::problem::Answer;
use super::time::Time;
use crate::store::slices::{self, Kept};
use crate::store::sources;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TelemetryKept)]
struct TelemetryView {
    kept: Vec<KeptView>,
    /// Reports that boxes gave up because their spools were full.
    lost_reports: u64,
    /// Devices that gave up any.
    lost_devices: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeptTelemetry)]
struct KeptView {
    /// `reports`, `rollups_5m` or `rollups_1h`.
    kind: &'static str,
    rows: u64,
    /// What they take up, as counted while they were written.
    bytes: u64,
    /// More than this is dropped, the oldest first.
    bytes_max: u64,
    seconds_max: u64,
    /// Nothing before this is kept.
    since: Option<Time>,
    dropped_rows: u64,
    dropped_bytes: u64,
    /// Rows that were dropped before their age because there was too much.
    dropped_early_rows: u64,
    dropped_last: Option<Time>,
}

/// How much telemetry is kept, and what was dropped
#[utoipa::path(get, path = "/telemetry", tag = "telemetry", operation_id = "get_telemetry",
    responses((status = 200, body = TelemetryView)))]
async fn get(State(app): State<App>) -> Answer<Json<TelemetryView>> {
    let retention = app.fleet.config.telemetry.retention;
    let mut db = app.fleet.store.read_telemetry().await?;
    let (lost_reports, lost_devices) = sources::lost_by_all(&mut db).await?;
    let view = |kept: Kept| {
        let bound = kept.kind.bound(&retention);
        KeptView {
            kind: kept.kind.as_str(),
            rows: kept.rows,
            bytes: kept.bytes,
            bytes_max: bound.bytes,
            seconds_max: bound.age.as_secs(),
            since: kept.since.map(Time::from),
            dropped_rows: kept.dropped_rows,
            dropped_bytes: kept.dropped_bytes,
            dropped_early_rows: kept.dropped_early,
            dropped_last: kept.dropped_last.map(Time::from),
        }
    };
    let kept = slices::kept(&mut db).await?.into_iter().map(view).collect();
    Ok(Json(TelemetryView { kept, lost_reports, lost_devices }))
}
