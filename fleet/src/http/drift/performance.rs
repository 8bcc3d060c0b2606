//! Whether a model's answers come true: its matured labels, day by day, and beside them what its own scores promise.

use std::time::Duration;

use axum::extract::State;
use muster_protocol::drift::performance::{Estimated, Within};
use muster_protocol::ids::ModelName;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::App;
use super::super::extract::{Json, Query};
use super::super::problem::{Answer, Code, Problem, ProblemBody};
use super::super::time::Time;
use super::histogram::sum;
use super::windows::open;
use super::word;
use crate::drift::{Performance, PerformanceDay, ScoreStream};
use crate::retrain::Policy;
use crate::store::windows::WindowFilter;
use crate::store::{Page, bundles, policies};
use crate::tasks::drift::labels;

/// Bundles of a model looked at, the newest first.
const BUNDLES_MAX: u32 = 5;
const DAY: Duration = Duration::from_hours(24);
/// Days that are estimated, and windows added up for each: a sample of a large fleet says as much.
const ESTIMATED_DAYS: u32 = 14;
const ESTIMATED_WINDOWS: usize = 500;

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
    /// What the probabilities say of themselves, the oldest day first; of the last 14 days. It needs no label and believes
    /// the model: it sees a harder mix of cases, never that the same case has come to mean something else. Empty where no
    /// monitored stream is a probability.
    estimated: Vec<EstimatedView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EstimatedDay)]
struct EstimatedView {
    /// World time.
    from: Time,
    /// Windows of boxes that were added up: 500 at most, by device.
    windows: usize,
    predictions: u64,
    /// Positives that the probabilities promise.
    positives: f64,
    /// Squared error, as boxes measure it by labels.
    loss: WithinView,
    /// Share of predictions answered rightly; none if the bundle says no threshold.
    accuracy: Option<WithinView>,
}

/// Counts do not tell where in its bin a row lies: the exact figure is between the limits.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Within)]
struct WithinView {
    value: f64,
    low: f64,
    high: f64,
}

impl From<Within> for WithinView {
    fn from(Within { value, low, high }: Within) -> Self {
        Self { value, low, high }
    }
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
            let mut view = view(&bundle, &read);
            view.estimated = estimated(&app, bundle, now).await?;
            found.push(view);
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
        estimated: Vec::new(),
    }
}

/// Day by day, from the counts of the score's stream: nothing is sent for it.
async fn estimated(app: &App, bundle: bundles::Bundle, now: Timestamp) -> Answer<Vec<EstimatedView>> {
    let Some(score) = ScoreStream::of(&bundle.manifest) else { return Ok(Vec::new()) };
    let Some(monitored) = open(app, bundle).await? else { return Ok(Vec::new()) };
    let stream = &monitored.manifest.monitoring.streams[score.place].name;
    let Some(reference) = monitored.reference.streams.get(stream) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for back in (0..ESTIMATED_DAYS).rev() {
        let from = now.floor_to(DAY).minus(DAY * back);
        let filter = WindowFilter {
            bundle: Some(monitored.sha256),
            from: Some(from),
            before: Some(from.plus(DAY)),
            ..WindowFilter::default()
        };
        let (counts, windows) =
            sum(app, &filter, score.place, &reference.reference, ESTIMATED_WINDOWS).await?;
        let Some(day) = Estimated::of(&reference.reference, &counts, score.threshold) else { continue };
        found.push(EstimatedView {
            from: from.into(),
            windows,
            predictions: day.n,
            positives: day.positives,
            loss: day.loss.into(),
            accuracy: day.accuracy.map(WithinView::from),
        });
    }
    Ok(found)
}
