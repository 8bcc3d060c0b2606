//! Whether a model's answers come true: its matured labels, day by day.

use axum::extract::State;
use muster_protocol::ids::ModelName;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::App;
use super::super::extract::{Json, Query};
use super::super::problem::{Answer, Code, Problem, ProblemBody};
use super::super::time::Time;
use super::word;
use crate::drift::{Performance, PerformanceDay};
use crate::retrain::Policy;
use crate::store::{Page, bundles, policies};
use crate::tasks::drift::labels;

/// Bundles of a model looked at, the newest first.
const BUNDLES_MAX: u32 = 5;

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Performance)]
pub(super) struct PerformanceList {
    /// World time after a prediction at which its label is in; the model's policy says it.
    horizon_s: u64,
    /// Bundles that have answered anybody lately, the newest first.
    bundles: Vec<PerformanceView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BundlePerformance)]
struct PerformanceView {
    /// SHA-256 of the bundle's manifest.
    bundle: String,
    version: String,
    /// Predictions that are old enough for their labels.
    matured: u64,
    /// Those of them that have one.
    labelled: u64,
    /// The same as a share in percent; none if no prediction is old enough.
    labelled_percent: Option<f64>,
    /// Predictions that are too young.
    waiting: u64,
    /// Since when the alarm stands, world time.
    alarm_since: Option<Time>,
    /// The oldest first. Days with too few labels are taken together.
    days: Vec<DayView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PerformanceDay)]
struct DayView {
    /// World time.
    from: Time,
    days: u32,
    predictions: u64,
    labels: u64,
    /// `ok`, `warn`, `drift` or `insufficient`: too few labels to say anything.
    state: &'static str,
    /// Positives that came.
    observed: f64,
    /// Positives that the probabilities promised; none where the model does not answer with a probability.
    expected: Option<f64>,
    /// Observed above expected, in standard errors.
    z: Option<f64>,
    loss: Option<f64>,
    /// The same loss on the holdout that the bundle was released with.
    holdout_loss: Option<f64>,
    /// The loss above the holdout's, in standard errors.
    loss_z: Option<f64>,
}

impl From<&PerformanceDay> for DayView {
    fn from(day: &PerformanceDay) -> Self {
        Self {
            from: day.from.into(),
            days: day.days,
            predictions: day.predictions,
            labels: day.labels,
            state: word(day.state),
            observed: day.observed,
            expected: day.expected,
            z: day.z,
            loss: day.loss,
            holdout_loss: day.holdout_loss,
            loss_z: day.loss_z,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PerformanceQuery {
    model: String,
}

/// A model's matured labels, day by day
#[utoipa::path(get, path = "/drift/performance", tag = "drift", operation_id = "get_performance",
    params(PerformanceQuery),
    responses((status = 200, body = PerformanceList), (status = 400, body = ProblemBody)))]
pub(super) async fn performance(
    State(app): State<App>,
    Query(query): Query<PerformanceQuery>,
) -> Answer<Json<PerformanceList>> {
    let model: ModelName =
        query.model.parse().map_err(|error| Problem::new(Code::BadQuery, format!("model: {error}")))?;
    let mut db = app.fleet.store.read().await?;
    let policy = policies::get::<Policy>(&mut db, &model).await?.map(|loaded| loaded.document);
    let newest = bundles::list(&mut db, Some(&model), &Page::first(BUNDLES_MAX)).await?;
    drop(db);
    let horizon = labels::horizon(policy.as_ref());
    let now = app.fleet.clocks.world.now();
    let mut found = Vec::new();
    for bundle in newest {
        let read =
            labels::performance(&app.fleet.store, &bundle.manifest, &bundle.sha256, horizon, now).await?;
        if read.matured + read.waiting > 0 {
            found.push(view(&bundle, &read));
        }
    }
    Ok(Json(PerformanceList { horizon_s: horizon.as_secs(), bundles: found }))
}

fn view(bundle: &bundles::Bundle, read: &Performance) -> PerformanceView {
    #[expect(clippy::cast_precision_loss, reason = "a share of counts")]
    let percent = (read.matured > 0).then(|| 100.0 * read.labelled as f64 / read.matured as f64);
    PerformanceView {
        bundle: bundle.sha256.to_string(),
        version: bundle.manifest.version.to_string(),
        matured: read.matured,
        labelled: read.labelled,
        labelled_percent: percent,
        waiting: read.waiting,
        alarm_since: read.since.map(Time::from),
        days: read.days.iter().map(DayView::from).collect(),
    }
}
