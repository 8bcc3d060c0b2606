//! One stream's counts beside its reference's.

use axum::extract::State;
use muster_protocol::drift::{Counts, Reference};
use muster_protocol::ids::{DeviceId, Digest, StreamName};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::App;
use super::super::extract::{Json, Query};
use super::super::page::parsed;
use super::super::problem::{Answer, Code, Problem, ProblemBody};
use super::windows::open;
use crate::store::windows::{WindowFilter, WindowKey};
use crate::store::{Page, bundles, windows};

/// Windows read at once, and in all.
const STEP: u32 = 500;
const WINDOWS_MAX: usize = 20_000;

/// Bins of both sides are the same.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Histogram {
    /// Between bins; one less than bins. Of a numeric stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    edges: Option<Vec<f32>>,
    /// Smallest and largest value of the reference. Of a numeric stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<[f32; 2]>,
    /// One a bin; the last may be `other`. Of a categorical stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    categories: Option<Vec<String>>,
    /// Rows of the reference by bin.
    reference: Vec<u64>,
    /// Rows of the windows by bin.
    current: Vec<u64>,
    /// Rows without a value, in the windows.
    nulls: u64,
    /// Windows that were added up.
    windows: usize,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HistogramQuery {
    /// SHA-256 of the bundle's manifest.
    bundle: String,
    stream: String,
    device: Option<String>,
    /// Windows that start here or later, world time.
    from: Option<String>,
    /// Windows that start before this, world time.
    to: Option<String>,
}

/// One stream's counts beside its reference's
#[utoipa::path(get, path = "/drift/histogram", tag = "drift", operation_id = "get_drift_histogram",
    params(HistogramQuery),
    responses((status = 200, body = Histogram), (status = 400, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(super) async fn histogram(
    State(app): State<App>,
    Query(query): Query<HistogramQuery>,
) -> Answer<Json<Histogram>> {
    let wrong =
        |what: &str, error: &dyn std::fmt::Display| Problem::new(Code::BadQuery, format!("{what}: {error}"));
    let sha256: Digest = query.bundle.parse().map_err(|error| wrong("bundle", &error))?;
    let stream: StreamName = query.stream.parse().map_err(|error| wrong("stream", &error))?;
    let filter = WindowFilter {
        bundle: Some(sha256),
        device: parsed::<DeviceId>("device", query.device.as_deref())?,
        from: parsed::<Timestamp>("from", query.from.as_deref())?,
        before: parsed::<Timestamp>("to", query.to.as_deref())?,
        ..WindowFilter::default()
    };
    let bundle = bundles::get(&mut app.fleet.store.read().await?, &sha256).await?;
    let bundle = bundle.ok_or_else(|| Problem::not_found("bundle", sha256))?;
    let monitored =
        open(&app, bundle).await?.ok_or_else(|| Problem::not_found("drift reference of", sha256))?;
    let place = monitored.manifest.monitoring.streams.iter().position(|known| known.name == stream);
    let reference = monitored.reference.streams.get(&stream);
    let (Some(place), Some(reference)) = (place, reference) else {
        return Err(Problem::not_found("monitored stream", stream));
    };
    let (counts, windows) = sum(&app, &filter, place, &reference.reference, WINDOWS_MAX).await?;
    Ok(Json(Histogram::of(&reference.reference, &counts, windows)))
}

/// Adds up one stream of so many windows, in whole pages.
pub(super) async fn sum(
    app: &App,
    filter: &WindowFilter,
    place: usize,
    reference: &Reference,
    windows_max: usize,
) -> Answer<(Counts, usize)> {
    let mut telemetry = app.fleet.store.read_telemetry().await?;
    let mut sum = Counts::empty(reference);
    let mut added = 0;
    let mut page = Page::<WindowKey>::first(STEP);
    while added < windows_max {
        let read = windows::list(&mut telemetry, filter, &page).await?;
        // Counts of another shape are not added: ingest keeps them out, so there are none.
        added += read
            .iter()
            .filter_map(|window| window.streams.get(place))
            .filter(|n| sum.merge(n).is_ok())
            .count();
        match read.last() {
            Some(last) if read.len() == STEP as usize => page.after = Some(last.key()),
            Some(_) | None => break,
        }
    }
    Ok((sum, added))
}

impl Histogram {
    fn of(reference: &Reference, counts: &Counts, windows: usize) -> Self {
        let (edges, range, categories) = match reference {
            Reference::Numeric(numeric) => {
                (Some(numeric.edges().to_vec()), Some([numeric.min(), numeric.max()]), None)
            }
            Reference::Categorical(categorical) => {
                let mut categories = categorical.categories().to_vec();
                if categorical.has_other() {
                    categories.push("other".to_owned());
                }
                (None, None, Some(categories))
            }
        };
        Self {
            edges,
            range,
            categories,
            reference: reference.counts().to_vec(),
            current: counts.bins().to_vec(),
            nulls: counts.nulls(),
            windows,
        }
    }
}
