//! Streams by windows by sites: the boxes of a site taken together, compared with what is normal there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use muster_protocol::drift::{BASELINE_WINDOWS_WANTED, Counts};
use muster_protocol::ids::{DeviceId, ModelName, SiteName};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::App;
use super::super::extract::{Json, Query};
use super::super::page::parsed;
use super::super::problem::{Answer, Code, Problem, ProblemBody};
use super::super::time::Time;
use super::StreamWindow;
use super::windows::{Monitored, monitored};
use crate::drift::{Counted, References, Site, Watch};
use crate::store::windows::{WindowFilter, WindowKey};
use crate::store::{Page, glances, watches, windows};

/// Windows shown of each site, unless asked otherwise, and at most.
const SHOWN: u32 = 28;
const SHOWN_MAX: u32 = 90;
/// Windows before those shown that are merged with them.
const MEMORY: u32 = 16;
const SITES_MAX: usize = 50;
/// Windows of boxes read at once, and in all.
const STEP: u32 = 500;
const WINDOWS_MAX: usize = 50_000;

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Heatmap {
    /// SHA-256 of the bundle's manifest; none if no bundle of the model has a window.
    bundle: Option<String>,
    version: Option<String>,
    /// Monitored streams, in the manifest's order.
    streams: Vec<String>,
    sites: Vec<HeatSite>,
    /// Sites beyond the first 50, by name.
    sites_left_out: usize,
    /// Whether there were more windows than are read at once; then the newest are missing.
    windows_left_out: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct HeatSite {
    site: String,
    baseline: BaselineView,
    /// The oldest first.
    windows: Vec<HeatWindow>,
}

/// What is normal at the site.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BaselineView {
    /// `learning`: compared with the training data until ten quiet windows were seen. `provisional`: ten. `frozen`: thirty,
    /// and never learnt again for this bundle.
    state: &'static str,
    /// Quiet windows that it was or is being learnt from.
    windows: usize,
    wanted: usize,
}

#[derive(Debug, Serialize, ToSchema)]
struct HeatWindow {
    /// World time.
    from: Time,
    /// World time.
    to: Time,
    /// Rows of all boxes.
    n: u64,
    devices: usize,
    streams: Vec<StreamWindow>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct HeatmapQuery {
    model: String,
    /// Only this site.
    site: Option<String>,
    /// Windows of each site, 28 if absent, 90 at most.
    windows: Option<u32>,
}

/// Streams by windows by sites
#[utoipa::path(get, path = "/drift/heatmap", tag = "drift", operation_id = "get_drift_heatmap", params(HeatmapQuery),
    responses((status = 200, body = Heatmap), (status = 400, body = ProblemBody)))]
pub(super) async fn heatmap(
    State(app): State<App>,
    Query(query): Query<HeatmapQuery>,
) -> Answer<Json<Heatmap>> {
    let HeatmapQuery { model, site, windows } = query;
    let model: ModelName =
        model.parse().map_err(|error| Problem::new(Code::BadQuery, format!("model: {error}")))?;
    let only: Option<SiteName> = parsed("site", site.as_deref())?;
    let shown = windows.unwrap_or(SHOWN).clamp(1, SHOWN_MAX);
    let members = glances::members(&mut app.fleet.store.read().await?, only.as_ref()).await?;
    let places: BTreeMap<DeviceId, SiteName> = members.into_iter().collect();
    for bundle in monitored(&app, &model).await? {
        let (loaded, windows_left_out) = load(&app, &bundle, &places, shown + MEMORY).await?;
        if loaded.is_empty() {
            continue;
        }
        let sites_left_out = loaded.len().saturating_sub(SITES_MAX);
        let mut series = Vec::new();
        let mut db = app.fleet.store.read().await?;
        for (name, windows) in loaded.into_iter().take(SITES_MAX) {
            let known = watches::site::<Site>(&mut db, &bundle.sha256, &name).await?;
            series.push((name, known, windows));
        }
        drop(db);
        let (sha256, version) = (bundle.sha256.to_string(), bundle.manifest.version.to_string());
        let streams =
            bundle.manifest.monitoring.streams.iter().map(|stream| stream.name.to_string()).collect();
        // Thousands of tests: not on the threads that answer everybody.
        let read = tokio::task::spawn_blocking(move || read(&bundle, series, shown as usize)).await;
        let sites = read.map_err(|error| Problem::internal(&error))?;
        let (bundle, version) = (Some(sha256), Some(version));
        return Ok(Json(Heatmap { bundle, version, streams, sites, sites_left_out, windows_left_out }));
    }
    let (bundle, version, streams, sites) = (None, None, Vec::new(), Vec::new());
    Ok(Json(Heatmap { bundle, version, streams, sites, sites_left_out: 0, windows_left_out: false }))
}

/// The boxes of a site in one window.
struct Together {
    counts: Vec<Counts>,
    devices: usize,
}

type Sites = BTreeMap<SiteName, BTreeMap<Timestamp, Together>>;

async fn load(
    app: &App,
    bundle: &Monitored,
    places: &BTreeMap<DeviceId, SiteName>,
    count: u32,
) -> Answer<(Sites, bool)> {
    let monitoring = &bundle.manifest.monitoring;
    let span = Duration::from_secs(monitoring.window_s);
    let now = app.fleet.clocks.world.now();
    // The window that is open now is not tested yet.
    let open = now.floor_to(span);
    let filter = WindowFilter {
        bundle: Some(bundle.sha256),
        from: Some(open.minus(span * count)),
        before: Some(open),
        ..WindowFilter::default()
    };
    let mut db = app.fleet.store.read_telemetry().await?;
    let mut sites = Sites::new();
    let mut page = Page::<WindowKey>::first(STEP);
    let mut seen = 0;
    loop {
        let found = windows::list(&mut db, &filter, &page).await?;
        seen += found.len();
        let last = found.last().map(windows::Window::key);
        let full = found.len() == STEP as usize;
        for window in found {
            let Some(site) = places.get(&window.device) else { continue };
            let at = sites.entry(site.clone()).or_default();
            match at.get_mut(&window.from) {
                None => {
                    at.insert(window.from, Together { counts: window.streams, devices: 1 });
                }
                // Counts of another shape were refused when they came.
                Some(together) if together.counts.len() == window.streams.len() => {
                    let pairs = together.counts.iter_mut().zip(&window.streams);
                    together.devices +=
                        usize::from(pairs.fold(true, |fits, (sum, more)| sum.merge(more).is_ok() && fits));
                }
                Some(_) => {}
            }
        }
        match last {
            Some(last) if full && seen < WINDOWS_MAX => page = Page::after(last, STEP),
            Some(_) if full => return Ok((sites, true)),
            Some(_) | None => return Ok((sites, false)),
        }
    }
}

/// Tests every window. Costs time; no I/O.
fn read(
    bundle: &Arc<Monitored>,
    series: Vec<(SiteName, Option<Site>, BTreeMap<Timestamp, Together>)>,
    shown: usize,
) -> Vec<HeatSite> {
    let monitoring = &bundle.manifest.monitoring;
    let site = |(name, known, together): (SiteName, Option<Site>, BTreeMap<Timestamp, Together>)| {
        let own = known.as_ref().and_then(|site| site.baseline.as_ref());
        let references = References { monitoring, training: &bundle.reference, own };
        let unshown = together.len().saturating_sub(shown);
        let mut watch = Watch::default();
        let mut past: Vec<Counted> = Vec::with_capacity(together.len());
        let mut windows = Vec::new();
        for (from, Together { counts, devices }) in together {
            past.push(Counted { from, streams: counts });
            let Ok(reading) = watch.read(&references, &past) else {
                past.pop();
                continue;
            };
            windows.push(HeatWindow {
                from: reading.from.into(),
                to: reading.to.into(),
                n: reading.rows,
                devices,
                streams: reading.streams.into_iter().map(StreamWindow::from).collect(),
            });
        }
        let windows = windows.split_off(unshown.min(windows.len()));
        HeatSite { site: name.to_string(), baseline: BaselineView::of(known.as_ref()), windows }
    };
    series.into_iter().map(site).collect()
}

impl BaselineView {
    pub(super) fn of(site: Option<&Site>) -> Self {
        let learnt = site.and_then(|site| site.baseline.as_ref()).map(|baseline| baseline.windows);
        let quiet = site.map_or(0, |site| site.quiet.len());
        let state = match learnt {
            None => "learning",
            Some(windows) if windows < BASELINE_WINDOWS_WANTED => "provisional",
            Some(_) => "frozen",
        };
        Self { state, windows: learnt.unwrap_or(0).max(quiet), wanted: BASELINE_WINDOWS_WANTED }
    }
}
