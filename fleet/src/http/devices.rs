//! Boxes: who they are, what answers on them, what they wait for.

mod telemetry;
mod view;
mod waiting;
mod within;

use axum::extract::State;
use muster_protocol::ids::DeviceId;
use muster_protocol::message::Presence;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Id, Json, Query};
use super::page::{List, Paging, parsed};
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::sight::Sight;
use super::time::Time;
use crate::lookout::visible;
use crate::rollup::Rollup;
use crate::store::devices::{self, Device, DeviceFilter, SlotFilter};
use crate::store::reports::ReportEntry;
use crate::store::shadows::{self, ShadowDay};
use crate::store::{Control, Page, events, reports, sources};

use view::DeviceView;

/// Events and reports shown with one device.
const EVENTS_SHOWN: u32 = 50;
const TELEMETRY_SHOWN: u32 = 120;
/// Days of pairs of bundles of which one was in the shadow.
const SHADOWS_SHOWN: u32 = 16;
const PHASES: [&str; 9] = [
    "empty",
    "downloading",
    "verifying",
    "self_testing",
    "ready",
    "activating",
    "running",
    "failed",
    "stopped",
];

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(number))
        .routes(routes!(get))
        .merge(telemetry::router())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct DeviceQuery {
    /// Part of the name or the id.
    q: Option<String>,
    site: Option<String>,
    /// `online` or `offline`.
    presence: Option<String>,
    /// Phase of any slot, such as `failed`.
    phase: Option<String>,
    /// Model that any slot runs or wants.
    model: Option<String>,
    /// SHA-256 of the bundle that any slot answers with.
    bundle: Option<String>,
}

impl DeviceQuery {
    /// What it means to the database, for who asks.
    async fn read(self, db: &mut Control, sight: &Sight) -> Answer<DeviceFilter> {
        let Self { q, site, presence, phase, model, bundle } = self;
        Ok(DeviceFilter {
            site: parsed("site", site.as_deref())?,
            presence: presence_of(presence.as_deref())?,
            text: q.filter(|text| !text.is_empty()),
            slot: SlotFilter {
                phase: phase_of(phase)?,
                model: parsed("model", model.as_deref())?,
                bundle: parsed("bundle", bundle.as_deref())?,
            },
            sites: visible(db, sight).await?,
        })
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct DeviceNumber {
    devices: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeviceDetail {
    #[serde(flatten)]
    device: DeviceView,
    /// The newest first.
    recent_events: Vec<EventView>,
    /// The oldest first.
    telemetry: Vec<TelemetryPoint>,
    /// Reports that it gave up because its spool was full, by boot, the newest first.
    lost_reports: Vec<LostReports>,
    /// How often a bundle in the shadow would have answered otherwise, by day, the newest first.
    shadows: Vec<ShadowView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ShadowDay)]
struct ShadowView {
    slot: String,
    /// Digest of the bundle in the shadow.
    bundle: String,
    /// Digest of the one that answered.
    against: String,
    /// Start of the world day.
    day: Time,
    /// Rows that both were asked.
    rows: u64,
    /// Of them, those that it would have answered otherwise.
    differed: u64,
}

impl From<ShadowDay> for ShadowView {
    fn from(ShadowDay { slot, bundle, against, day, compared }: ShadowDay) -> Self {
        Self {
            slot: slot.into(),
            bundle: bundle.into(),
            against: against.into(),
            day: day.into(),
            rows: compared.n,
            differed: compared.differed,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct LostReports {
    boot: String,
    reports: u64,
    /// When the first of them was missed.
    since: Time,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeviceEvent)]
struct EventView {
    at: Time,
    kind: String,
    sentence: String,
}

/// One report.
#[derive(Debug, Serialize, ToSchema)]
struct TelemetryPoint {
    /// When the report came.
    at: Time,
    /// End of its span, world time.
    world_at: Time,
    cpu_percent: f32,
    agent_rss_bytes: u64,
    requests: u64,
    failures: u64,
    /// Upper bound of the histogram's bucket that holds the 95th percentile; absent without requests.
    p95_us: Option<u32>,
}

impl From<ReportEntry> for TelemetryPoint {
    fn from(report: ReportEntry) -> Self {
        let rollup = Rollup::of(&report.health, &report.models);
        Self {
            at: report.received.into(),
            world_at: report.to.into(),
            cpu_percent: report.health.cpu_percent,
            agent_rss_bytes: report.health.agent_rss_bytes,
            requests: rollup.requests,
            failures: rollup.failures,
            p95_us: rollup.p95_us(),
        }
    }
}

/// Devices, by site and name
#[utoipa::path(get, path = "/devices", tag = "devices", operation_id = "list_devices",
    params(DeviceQuery, Paging),
    responses((status = 200, body = List<DeviceView>), (status = 400, body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    sight: Sight,
    Query(filter): Query<DeviceQuery>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<DeviceView>>> {
    let mut db = app.fleet.store.read().await?;
    let filter = filter.read(&mut db, &sight).await?;
    let read = devices::list(&mut db, &filter, &paging.page()?).await?;
    let (shown, next) = paging.cut(read, Device::key)?;
    let mut items = Vec::with_capacity(shown.len());
    let mut told = within::told(&app, &sight, &shown.iter().map(|device| &device.id), within::LISTED_MAX);
    let mut telemetry = app.fleet.store.read_telemetry().await?;
    for device in shown {
        let rollouts = told.remove(&device.id).unwrap_or_default();
        items.push(DeviceView::load(&mut db, &mut telemetry, device, rollouts).await?);
    }
    Ok(Json(List { items, next }))
}

/// How many devices a filter finds: apart from the list, which waits for no count
#[utoipa::path(get, path = "/devices/count", tag = "devices", operation_id = "count_devices", params(DeviceQuery),
    responses((status = 200, body = DeviceNumber), (status = 400, body = ProblemBody)))]
async fn number(
    State(app): State<App>,
    sight: Sight,
    Query(filter): Query<DeviceQuery>,
) -> Answer<Json<DeviceNumber>> {
    let mut db = app.fleet.store.read().await?;
    let filter = filter.read(&mut db, &sight).await?;
    Ok(Json(DeviceNumber { devices: devices::number(&mut db, &filter).await? }))
}

/// One device, with what it last said
#[utoipa::path(get, path = "/devices/{id}", tag = "devices", operation_id = "get_device",
    params(("id" = String, Path)),
    responses((status = 200, body = DeviceDetail), (status = 404, body = ProblemBody)))]
async fn get(State(app): State<App>, sight: Sight, Id(id): Id<DeviceId>) -> Answer<Json<DeviceDetail>> {
    let mut told = within::told(&app, &sight, &std::iter::once(&id), usize::MAX);
    let rollouts = told.remove(&id).unwrap_or_default();
    let mut db = app.fleet.store.read().await?;
    let mut telemetry = app.fleet.store.read_telemetry().await?;
    let device = devices::get(&mut db, &id).await?.ok_or_else(|| Problem::not_found("device", &id))?;
    let events = events::list(&mut db, &id, &Page::first(EVENTS_SHOWN)).await?;
    let reports = reports::list(&mut telemetry, &id, &Page::first(TELEMETRY_SHOWN)).await?;
    let event = |event: events::DeviceEvent| EventView {
        at: event.received.into(),
        kind: event.label,
        sentence: event.sentence,
    };
    let lost = sources::lost_of(&mut telemetry, &id).await?.into_iter().map(|lost| LostReports {
        boot: lost.boot.to_string(),
        reports: lost.reports,
        since: lost.since.into(),
    });
    let shadows = shadows::of_device(&mut telemetry, &id, SHADOWS_SHOWN).await?;
    Ok(Json(DeviceDetail {
        lost_reports: lost.collect(),
        shadows: shadows.into_iter().map(ShadowView::from).collect(),
        device: DeviceView::load(&mut db, &mut telemetry, device, rollouts).await?,
        recent_events: events.into_iter().map(event).collect(),
        telemetry: reports.into_iter().rev().map(TelemetryPoint::from).collect(),
    }))
}

fn presence_of(text: Option<&str>) -> Answer<Option<Presence>> {
    match text {
        None | Some("") => Ok(None),
        Some("online") => Ok(Some(Presence::Online)),
        Some("offline") => Ok(Some(Presence::Offline)),
        Some(_) => Err(Problem::new(Code::BadQuery, "presence: write online or offline")),
    }
}

fn phase_of(text: Option<String>) -> Answer<Option<String>> {
    let Some(phase) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    if PHASES.contains(&phase.as_str()) {
        Ok(Some(phase))
    } else {
        Err(Problem::new(Code::BadQuery, format!("phase: write one of {}", PHASES.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_filters_are_refused() {
        assert!(presence_of(Some("away")).is_err());
        assert!(phase_of(Some("sleeping".to_owned())).is_err());
        assert_eq!(phase_of(Some("failed".to_owned())).unwrap().as_deref(), Some("failed"));
    }
}
