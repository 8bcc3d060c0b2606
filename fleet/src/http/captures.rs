//! Rows that sites are asked to keep for themselves. Only the wish and how each box stands to it are here: the rows stay
//! with the site, whose own policy decides.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use muster_protocol::capture::{CaptureReason, CaptureRequest, CaptureState, Sampling, ScoreBand};
use muster_protocol::ids::{CaptureId, DeviceId, Digest, IncidentId, SiteName, SlotName};
use muster_protocol::limits::{CAPTURE_ROWS_MAX, CAPTURES_MAX};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Acting, Id, Json, Query};
use super::page::{List, Paging};
use super::parts::{BundleName, Reason, WhyBody, append, because};
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::sight::Sight;
use super::time::Time;
use crate::mint;
use crate::orders::OrderError;
use crate::store::captures::{self, Capture};
use crate::store::devices::{self, DeviceFilter};
use crate::store::seats::{self, Seat};
use crate::store::{Control, ControlTx, NewestFirst, Page, bundles};

/// Boxes that one wish is for.
const DEVICES_MAX: usize = 500;
const CAPTURE_S_MAX: u64 = 92 * 24 * 3600;
/// Scores beyond this are no scores; what is signed is whole thousandths.
const SCORE_MAX: f64 = 1e12;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, ask)).routes(routes!(get)).routes(routes!(cancel))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Capture)]
struct CaptureView {
    id: String,
    slot: String,
    bundle: BundleName,
    /// `drift`, `low_confidence` or `review`.
    why: &'static str,
    /// The drift incident, where that is why.
    #[serde(skip_serializing_if = "Option::is_none")]
    incident: Option<String>,
    /// Rows asked of each box.
    rows: u32,
    /// One of so many rows; absent where a band of scores is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<Band>,
    asked: Time,
    until: Time,
    by: String,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled: Option<Time>,
    /// How many boxes it is asked of.
    boxes: usize,
    /// How each of them stands to it; only where one capture is looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    devices: Vec<AskedView>,
}

/// A band of scores, both ends included.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ScoreBand)]
struct Band {
    low: f64,
    high: f64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AskedDevice)]
struct AskedView {
    device: String,
    name: String,
    /// Absent until the box has spoken of it.
    answer: Option<CaptureAnswer>,
}

/// How a box stands to a capture. None of these codes is a failure of its order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CaptureAnswer {
    capture: String,
    slot: String,
    standing: Reason,
    /// With the site, in steps of its *k*.
    rows: u64,
    dropped: u64,
    files: u32,
    /// In steps of 64 KiB.
    bytes: u64,
}

impl From<CaptureState> for CaptureAnswer {
    fn from(state: CaptureState) -> Self {
        let CaptureState { request, slot, standing, rows, dropped, files, bytes } = state;
        let standing = Reason { code: standing.code().to_owned(), sentence: standing.sentence().to_owned() };
        Self { capture: request.into(), slot: slot.into(), standing, rows, dropped, files, bytes }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCapture)]
struct CaptureBody {
    #[schema(value_type = String)]
    slot: SlotName,
    /// Only rows that this bundle answered, by its digest.
    #[schema(value_type = String)]
    bundle: Digest,
    /// Either boxes or a site: then those of its boxes that are ordered to run the bundle.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 500)]
    devices: Vec<DeviceId>,
    #[schema(value_type = Option<String>)]
    site: Option<SiteName>,
    why: Why,
    /// The drift incident, where that is why.
    #[schema(value_type = Option<String>)]
    incident: Option<IncidentId>,
    /// Rows of each box; a site tells no fewer than its *k*, so ask for more.
    #[schema(minimum = 1, maximum = 1_000_000)]
    rows: u32,
    /// For how long, in seconds.
    #[schema(minimum = 1, maximum = 7_948_800)]
    for_s: u64,
    /// One of so many rows: all, if neither this nor `score` is given.
    #[schema(minimum = 1)]
    every: Option<u32>,
    score: Option<Band>,
    /// For people at the site and in the log.
    #[schema(max_length = 500)]
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CaptureWhy)]
enum Why {
    Drift,
    LowConfidence,
    Review,
}

impl CaptureBody {
    fn why(&self) -> Answer<CaptureReason> {
        match (self.why, &self.incident) {
            (Why::Drift, Some(incident)) => Ok(CaptureReason::Drift(incident.clone())),
            (Why::LowConfidence, None) => Ok(CaptureReason::LowConfidence),
            (Why::Review, None) => Ok(CaptureReason::Review),
            (Why::Drift, None) => Err(Problem::invalid("/incident", "name the drift incident")),
            (Why::LowConfidence | Why::Review, Some(_)) => {
                Err(Problem::invalid("/incident", "an incident is named only where drift is why"))
            }
        }
    }

    fn sample(&self) -> Answer<Sampling> {
        match (self.every, self.score) {
            (None, None) => Ok(Sampling::Every(1)),
            (Some(every), None) if every > 0 => Ok(Sampling::Every(every)),
            (Some(_), None) => Err(Problem::invalid("/every", "one of so many rows: 1 or more")),
            (None, Some(Band { low, high })) => {
                if low > high || !(low.abs() < SCORE_MAX && high.abs() < SCORE_MAX) {
                    return Err(Problem::invalid("/score", "a band goes from a lower to a higher score"));
                }
                Ok(Sampling::Score(ScoreBand { low_milli: milli(low), high_milli: milli(high) }))
            }
            (Some(_), Some(_)) => Err(Problem::invalid("/score", "give either every or score")),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "checked to be far within")]
fn milli(score: f64) -> i64 {
    (score * 1000.0).round() as i64
}

#[expect(clippy::cast_precision_loss, reason = "a score that was written as a number")]
fn band(ScoreBand { low_milli, high_milli }: ScoreBand) -> Band {
    Band { low: low_milli as f64 / 1000.0, high: high_milli as f64 / 1000.0 }
}

/// What was asked of sites, the newest first
#[utoipa::path(get, path = "/captures", tag = "captures", operation_id = "list_captures", params(Paging),
    responses((status = 200, body = List<CaptureView>), (status = 400, body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    sight: Sight,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<CaptureView>>> {
    let mut db = app.fleet.store.read().await?;
    let key = |(capture, _): &(Capture, bool)| NewestFirst {
        at: capture.asked,
        id: capture.request.id.to_string(),
    };
    let mut filling = paging.filling()?;
    while let Some(page) = filling.page() {
        let mut read = Vec::new();
        for capture in captures::list(&mut db, page).await? {
            let bundle = bundles::get(&mut db, &capture.request.bundle).await?;
            let theirs = bundle.map_or_else(|| sight.fleet(), |bundle| sight.model(bundle.path.model()));
            read.push((capture, theirs));
        }
        filling.add(read, key, |(_, theirs)| *theirs);
    }
    let (shown, next) = filling.cut(key);
    let mut items = Vec::with_capacity(shown.len());
    for (capture, _) in shown {
        let of = asked_of(&mut db, &capture.request.id).await?;
        items.push(view(&mut db, capture, of.len()).await?);
    }
    Ok(Json(List { items, next }))
}

/// One capture, and how each box stands to it
#[utoipa::path(get, path = "/captures/{id}", tag = "captures", operation_id = "get_capture",
    params(("id" = String, Path)),
    responses((status = 200, body = CaptureView), (status = 404, body = ProblemBody)))]
async fn get(State(app): State<App>, Id(id): Id<CaptureId>) -> Answer<Json<CaptureView>> {
    let mut db = app.fleet.store.read().await?;
    let capture = captures::get(&mut db, &id).await?.ok_or_else(|| Problem::not_found("capture", &id))?;
    Ok(Json(whole(&mut db, capture).await?))
}

/// Asks boxes to keep rows for their sites. Each site's own policy decides whether they do
#[utoipa::path(post, path = "/captures", tag = "captures", operation_id = "ask_capture", request_body = CaptureBody,
    responses((status = 201, body = CaptureView), (status = 404, body = ProblemBody),
        (status = 409, description = "No box runs it, or one is asked for too much", body = ProblemBody),
        (status = 422, body = ProblemBody)))]
async fn ask(
    State(app): State<App>,
    acting: Acting,
    Json(body): Json<CaptureBody>,
) -> Answer<(StatusCode, Json<CaptureView>)> {
    let (why, sample) = (body.why()?, body.sample()?);
    let reason = WhyBody { reason: body.reason.clone() }.needed()?.to_owned();
    if !(1..=CAPTURE_ROWS_MAX).contains(&body.rows) {
        return Err(Problem::invalid("/rows", format!("ask for 1 to {CAPTURE_ROWS_MAX} rows")));
    }
    if !(1..=CAPTURE_S_MAX).contains(&body.for_s) {
        return Err(Problem::invalid("/for_s", "a capture lasts a second to 92 days"));
    }
    let moment = app.fleet.clocks.moment();
    let request = CaptureRequest {
        id: CaptureId::mint(mint::random()?),
        slot: body.slot.clone(),
        bundle: body.bundle,
        why,
        rows: body.rows,
        until: moment.at.plus(Duration::from_secs(body.for_s)),
        sample,
    };
    let mut tx = app.fleet.store.write().await?;
    let bundle = bundles::get(&mut tx, &body.bundle).await?;
    let bundle = bundle.ok_or_else(|| Problem::not_found("bundle", body.bundle))?;
    let devices = meant(&mut tx, &body).await?;
    for device in &devices {
        if captures::of_device(&mut tx, device, moment.at).await?.len() >= CAPTURES_MAX {
            let detail = format!("{device} is asked for {CAPTURES_MAX} captures already");
            return Err(Problem::new(Code::State, detail).next("cancel some: muster capture list"));
        }
    }
    let capture = Capture { request, asked: moment.at, reason, by: acting.0.clone(), cancelled: None };
    captures::add(&mut tx, &capture, &devices).await?;
    let trusted = app.fleet.orders.published(&mut tx).await.map_err(unordered)?;
    for device in &devices {
        app.fleet.orders.set_captures(&mut tx, &trusted, device).await.map_err(unordered)?;
    }
    let sentence = format!(
        "asked {} boxes to keep {} rows of {} in {} for their sites: {}",
        devices.len(),
        body.rows,
        bundle.path,
        body.slot,
        capture.reason
    );
    append(&app, &mut tx, "capture.asked", capture.request.id.to_string(), sentence, &acting).await?;
    let view = whole(&mut tx, capture).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Asks no more. What sites have kept stays theirs
#[utoipa::path(post, path = "/captures/{id}/cancel", tag = "captures", operation_id = "cancel_capture",
    params(("id" = String, Path)), request_body = WhyBody,
    responses((status = 200, body = CaptureView), (status = 404, body = ProblemBody),
        (status = 409, description = "It is cancelled already", body = ProblemBody)))]
async fn cancel(
    State(app): State<App>,
    Id(id): Id<CaptureId>,
    acting: Acting,
    Json(why): Json<WhyBody>,
) -> Answer<Json<CaptureView>> {
    let reason = why.reason()?;
    let mut tx = app.fleet.store.write().await?;
    let capture = captures::get(&mut tx, &id).await?.ok_or_else(|| Problem::not_found("capture", &id))?;
    let now = app.fleet.clocks.trust.now();
    if !captures::cancel(&mut tx, &id, now).await? {
        return Err(Problem::new(Code::State, "it is cancelled already"));
    }
    let trusted = app.fleet.orders.published(&mut tx).await.map_err(unordered)?;
    for device in asked_of(&mut tx, &id).await? {
        match app.fleet.orders.set_captures(&mut tx, &trusted, &device).await {
            Ok(_) | Err(OrderError::NotAMember { .. }) => {}
            // Its own end will stop it there; the others are told now.
            Err(error @ OrderError::Sign(_)) => {
                tracing::warn!(device.id = %device, error = &error as &dyn std::error::Error, "a box cannot be told that a capture was cancelled");
            }
            Err(error) => return Err(unordered(error)),
        }
    }
    append(
        &app,
        &mut tx,
        "capture.cancelled",
        id.to_string(),
        format!("cancelled a capture{}", because(reason)),
        &acting,
    )
    .await?;
    let view = whole(&mut tx, Capture { cancelled: Some(now), ..capture }).await?;
    tx.commit().await?;
    Ok(Json(view))
}

/// The boxes that a wish is for.
async fn meant(tx: &mut ControlTx, body: &CaptureBody) -> Answer<Vec<DeviceId>> {
    let wants =
        |seat: &Seat| seat.wants.iter().any(|want| want.slot == body.slot && want.sha256 == body.bundle);
    match (&body.site, body.devices.as_slice()) {
        (Some(site), []) => {
            let filter = DeviceFilter { site: Some(site.clone()), ..DeviceFilter::default() };
            let limit = u32::try_from(DEVICES_MAX + 1).unwrap_or(u32::MAX);
            let found = devices::list(tx, &filter, &Page::first(limit)).await?;
            if found.len() > DEVICES_MAX {
                return Err(Problem::invalid(
                    "/site",
                    format!("{site} has more than {DEVICES_MAX} boxes; name some"),
                ));
            }
            let seats = seats::of(tx, found.iter().map(|device| &device.id)).await?;
            let meant: Vec<DeviceId> = seats.into_iter().filter(wants).map(|seat| seat.device).collect();
            if meant.is_empty() {
                let detail = format!("no box of {site} is ordered to run that bundle in {}", body.slot);
                return Err(Problem::new(Code::State, detail));
            }
            Ok(meant)
        }
        (None, [_, ..]) if body.devices.len() <= DEVICES_MAX => {
            let mut meant = body.devices.clone();
            meant.sort();
            meant.dedup();
            let seats = seats::of(tx, &meant).await?;
            for device in &meant {
                let seat = seats.iter().find(|seat| seat.device == *device);
                let seat = seat.ok_or_else(|| Problem::not_found("device", device))?;
                if !wants(seat) {
                    let detail = format!("{} is not ordered to run that bundle in {}", seat.name, body.slot);
                    return Err(Problem::new(Code::State, detail));
                }
            }
            Ok(meant)
        }
        (None, [_, ..]) => Err(Problem::invalid("/devices", format!("name {DEVICES_MAX} boxes at most"))),
        (None, []) | (Some(_), [_, ..]) => Err(Problem::invalid("/devices", "name either boxes or a site")),
    }
}

async fn asked_of(db: &mut Control, id: &CaptureId) -> Answer<Vec<DeviceId>> {
    Ok(captures::devices(db, id, u32::try_from(DEVICES_MAX).unwrap_or(u32::MAX)).await?)
}

async fn whole(db: &mut Control, capture: Capture) -> Answer<CaptureView> {
    let id = capture.request.id.clone();
    let asked = asked_of(db, &id).await?;
    let mut view = view(db, capture, asked.len()).await?;
    for device in asked {
        let Some(found) = devices::get(db, &device).await? else { continue };
        let said = found.state.into_iter().flat_map(|state| state.captures).find(|state| state.request == id);
        let answer = said.map(CaptureAnswer::from);
        view.devices.push(AskedView { device: device.into(), name: found.name, answer });
    }
    Ok(view)
}

async fn view(db: &mut Control, capture: Capture, boxes: usize) -> Answer<CaptureView> {
    let Capture { request, asked, reason, by, cancelled } = capture;
    let (why, incident) = match request.why {
        CaptureReason::Drift(incident) => ("drift", Some(incident.into())),
        CaptureReason::LowConfidence => ("low_confidence", None),
        CaptureReason::Review => ("review", None),
    };
    let (every, score) = match request.sample {
        Sampling::Every(every) => (Some(every), None),
        Sampling::Score(score) => (None, Some(band(score))),
    };
    Ok(CaptureView {
        id: request.id.into(),
        slot: request.slot.into(),
        bundle: BundleName::find(db, &request.bundle).await?,
        why,
        incident,
        rows: request.rows,
        every,
        score,
        asked: asked.into(),
        until: request.until.into(),
        by,
        reason,
        cancelled: cancelled.map(Time::from),
        boxes,
        devices: Vec::new(),
    })
}

fn unordered(error: OrderError) -> Problem {
    match error {
        OrderError::Store(error) => error.into(),
        OrderError::Catalogue(_) => Problem::internal(&error),
        OrderError::NoCatalogue | OrderError::NotAMember { .. } | OrderError::Sign(_) => {
            Problem::new(Code::State, error.to_string())
        }
    }
}
