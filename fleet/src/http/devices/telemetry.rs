//! How a box was over time: its reports, or what they say together in five minutes or an hour.

use std::time::Duration;

use axum::extract::State;
use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::App;
use super::super::extract::{Id, Json, Query};
use super::super::page::parsed;
use super::super::problem::{Answer, Code, Problem, ProblemBody};
use super::super::time::Time;
use crate::rollup::{Rollup, Spread, Step};
use crate::store::{devices, reports, rollups};

/// Points of one answer: a week of five minutes.
const POINTS_MAX: u32 = 2016;
/// What is shown if nobody says from when.
const SHOWN: Duration = Duration::from_hours(6);

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(telemetry))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TelemetryQuery {
    /// Points at this time or later; six hours before `to` if absent.
    from: Option<String>,
    /// Points before this time; now if absent.
    to: Option<String>,
    /// `raw` (each report), `5m` or `1h`; `5m` if absent.
    step: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Telemetry {
    /// `raw`, `5m` or `1h`.
    step: &'static str,
    from: Time,
    to: Time,
    /// The oldest first, 2016 at most.
    items: Vec<Point>,
    /// Where the rest begins, if there is more: ask again with it as `from`.
    next_from: Option<Time>,
}

/// What the reports of one span say together.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TelemetrySpan)]
struct Point {
    /// Start of the span; of a single report, when it was measured.
    at: Time,
    reports: u32,
    cpu_percent: Option<Values>,
    memory_percent: Option<Values>,
    temperature_c: Option<Values>,
    disk_free_bytes: Option<Values>,
    agent_rss_bytes: Option<Values>,
    requests: u64,
    failures: u64,
    /// Upper bound of the histogram's bucket that holds the 95th percentile; absent without requests.
    p95_us: Option<u32>,
    /// Counts of requests by the buckets of latency; trailing zeros are left out.
    latency: Vec<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Values {
    min: f64,
    mean: f64,
    max: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Raw,
    Step(Step),
}

/// A device's telemetry, by the report, five minutes or an hour
#[utoipa::path(get, path = "/devices/{id}/telemetry", tag = "devices", operation_id = "get_device_telemetry",
    params(("id" = String, Path), TelemetryQuery),
    responses((status = 200, body = Telemetry), (status = 400, body = ProblemBody), (status = 404, body = ProblemBody)))]
async fn telemetry(
    State(app): State<App>,
    Id(id): Id<DeviceId>,
    Query(query): Query<TelemetryQuery>,
) -> Answer<Json<Telemetry>> {
    let asked = asked(query.step.as_deref())?;
    let to = parsed("to", query.to.as_deref())?.unwrap_or_else(|| app.fleet.clocks.trust.now());
    let from = parsed("from", query.from.as_deref())?.unwrap_or_else(|| to.minus(SHOWN));
    if from >= to {
        return Err(Problem::new(Code::BadQuery, "from must be before to"));
    }
    let from = match asked {
        Asked::Raw => from,
        // The span that holds it, whole.
        Asked::Step(step) => from.floor_to(step.span()),
    };
    if devices::get(&mut app.fleet.store.read().await?, &id).await?.is_none() {
        return Err(Problem::not_found("device", &id));
    }
    let mut db = app.fleet.store.read_telemetry().await?;
    // One more than is shown, so that a full answer knows whether it is the last.
    let mut found: Vec<(Timestamp, Rollup)> = match asked {
        Asked::Raw => {
            let reports = reports::between(&mut db, &id, (from, to), POINTS_MAX + 1).await?;
            let one =
                |report: reports::ReportEntry| (report.measured, Rollup::of(&report.health, &report.models));
            reports.into_iter().map(one).collect()
        }
        Asked::Step(step) => rollups::list(&mut db, &id, step, (from, to), POINTS_MAX + 1).await?,
    };
    let next_from = found.get(POINTS_MAX as usize).map(|(at, _)| Time(*at));
    found.truncate(POINTS_MAX as usize);
    Ok(Json(Telemetry {
        step: asked.as_str(),
        from: from.into(),
        to: to.into(),
        items: found.into_iter().map(Point::from).collect(),
        next_from,
    }))
}

impl From<(Timestamp, Rollup)> for Point {
    fn from((at, rollup): (Timestamp, Rollup)) -> Self {
        let values = |spread: Spread| spread.values().map(|(min, mean, max)| Values { min, mean, max });
        Self {
            at: at.into(),
            reports: rollup.reports,
            cpu_percent: values(rollup.cpu_percent),
            memory_percent: values(rollup.memory_percent),
            temperature_c: values(rollup.temperature_c),
            disk_free_bytes: values(rollup.disk_free_bytes),
            agent_rss_bytes: values(rollup.agent_rss_bytes),
            requests: rollup.requests,
            failures: rollup.failures,
            p95_us: rollup.p95_us(),
            latency: rollup.latency,
        }
    }
}

impl Asked {
    fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Step(Step::FiveMinutes) => "5m",
            Self::Step(Step::Hour) => "1h",
        }
    }
}

fn asked(text: Option<&str>) -> Answer<Asked> {
    match text {
        Some("raw") => Ok(Asked::Raw),
        None | Some("" | "5m") => Ok(Asked::Step(Step::FiveMinutes)),
        Some("1h") => Ok(Asked::Step(Step::Hour)),
        Some(_) => Err(Problem::new(Code::BadQuery, "step: write raw, 5m or 1h")),
    }
}
