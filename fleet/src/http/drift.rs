//! What the drift tests say of each window, computed from the counts that are kept, by the minds' own functions.

mod heatmap;
mod histogram;
mod performance;
mod windows;

use axum::extract::State;
use muster_protocol::drift::AlarmState;
use muster_protocol::ids::{DeviceId, ModelName, StreamName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Json, Query};
use super::page::parsed;
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::time::Time;
use crate::drift::{Judge, StreamReading, broken_word};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(drift))
        .routes(routes!(heatmap::heatmap))
        .routes(routes!(histogram::histogram))
        .routes(routes!(performance::performance))
}

#[derive(Debug, Serialize, ToSchema)]
struct Drift {
    /// Monitored streams, in the manifest's order.
    streams: Vec<String>,
    /// By device, the oldest first; the last 90 of each device and bundle.
    windows: Vec<DriftWindow>,
    /// Devices beyond the first 50 are left out; ask for them one by one.
    devices_left_out: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct DriftWindow {
    device: String,
    device_name: String,
    site: String,
    /// SHA-256 of the bundle's manifest.
    bundle: String,
    version: String,
    /// World time.
    from: Time,
    /// World time.
    to: Time,
    /// Rows.
    n: u64,
    streams: Vec<StreamWindow>,
}

#[derive(Debug, Serialize, ToSchema)]
struct StreamWindow {
    name: String,
    /// `ok`, `warn`, `drift` or `insufficient`: too few rows to say anything, which is not "no drift".
    state: &'static str,
    /// `own`: compared with what is normal at the site. `training`: with the training data, while the site is learnt.
    against: &'static str,
    /// Chance that any monitored column looks this bad without drift.
    b: Option<f64>,
    psi_adj: Option<f64>,
    /// Shift in reference standard deviations: of the mean, or as large for a mix of categories.
    mean_shift_sd: Option<f64>,
    /// Its interval: 95 %.
    shift_low: Option<f64>,
    shift_high: Option<f64>,
    js: Option<f64>,
    /// What is wrong with the data, where they are broken.
    broken: Vec<&'static str>,
}

impl From<StreamReading> for StreamWindow {
    fn from(reading: StreamReading) -> Self {
        let StreamReading { name, state, judge, look, broken } = reading;
        let shift = look.and_then(|look| look.shift);
        Self {
            name: name.into(),
            state: word(state),
            against: match judge {
                Judge::Training => "training",
                Judge::Own => "own",
            },
            b: look.map(|look| look.b),
            psi_adj: look.map(|look| look.psi_adj),
            mean_shift_sd: shift.map(|shift| shift.sd),
            shift_low: shift.map(|shift| shift.low),
            shift_high: shift.map(|shift| shift.high),
            js: look.map(|look| look.js),
            broken: broken.into_iter().map(broken_word).collect(),
        }
    }
}

fn word(state: AlarmState) -> &'static str {
    match state {
        AlarmState::Insufficient => "insufficient",
        AlarmState::Ok => "ok",
        AlarmState::Warn => "warn",
        AlarmState::Drift => "drift",
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct DriftQuery {
    model: String,
    device: Option<String>,
    /// Only this stream.
    stream: Option<String>,
}

/// Drift of a model, window by window
#[utoipa::path(get, path = "/drift", tag = "drift", operation_id = "get_drift", params(DriftQuery),
    responses((status = 200, body = Drift), (status = 400, body = ProblemBody)))]
async fn drift(State(app): State<App>, Query(query): Query<DriftQuery>) -> Answer<Json<Drift>> {
    let DriftQuery { model, device, stream } = query;
    let model: ModelName =
        model.parse().map_err(|error| Problem::new(Code::BadQuery, format!("model: {error}")))?;
    let device: Option<DeviceId> = parsed("device", device.as_deref())?;
    let stream: Option<StreamName> = parsed("stream", stream.as_deref())?;
    let bundles = windows::monitored(&app, &model).await?;
    let (found, devices_left_out) = windows::load(&app, bundles, device.as_ref()).await?;
    // Thousands of tests: not on the threads that answer everybody.
    let read = tokio::task::spawn_blocking(move || windows::read(found, stream.as_ref())).await;
    let (streams, windows) = read.map_err(|error| Problem::internal(&error))?;
    Ok(Json(Drift { streams, windows, devices_left_out }))
}
