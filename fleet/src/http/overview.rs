//! The first page: what needs a person, and how the fleet is.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::Json;
use super::problem::Answer;
use super::rollouts::{self, RolloutSummary};
use super::sight::Sight;
use super::survey::{self, Survey};
use super::time::Time;
use crate::lookout;
use crate::needs::{self, Kind, Urgency};
use crate::rollout::Rollout;
use crate::store::{Control, Page, Versioned, incidents};

/// Needs of one kind that are shown, and rollouts of one phase.
const SHOWN: usize = 50;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(overview))
}

#[derive(Debug, Serialize, ToSchema)]
struct Overview {
    /// What a person has to decide or look at, the most urgent kind first; at most 50 of each.
    needs_you: Vec<Need>,
    devices: DeviceCounts,
    /// Running, paused, held or rolling back; the newest first.
    rollouts: Vec<RolloutSummary>,
    models: Vec<ModelSpread>,
    incidents_open: u64,
    world_now: Time,
    now: Time,
}

#[derive(Debug, Serialize, ToSchema)]
struct Need {
    /// `device_pending`, `device_suspect`, `rollout_held`, `rollout_proposed`, `incident_open`, `approval`,
    /// `activation_failed`, `retrain_failed`, `device_silent` or `mail_undelivered`.
    kind: &'static str,
    id: String,
    /// Whether it is mailed in quiet hours too: boxes answer wrongly or not at all, or somebody may have a key.
    urgent: bool,
    title: String,
    detail: String,
    since: Time,
    /// Where in the dashboard to decide.
    link: String,
    /// Of a device that waits: what a person compares with what the box shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
}

impl From<needs::Need> for Need {
    fn from(need: needs::Need) -> Self {
        Self {
            kind: need.kind.as_str(),
            id: need.id,
            urgent: need.urgency == Urgency::Urgent,
            title: need.title,
            detail: need.detail.text().to_owned(),
            since: need.since.into(),
            link: need.link,
            fingerprint: need.fingerprint,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct DeviceCounts {
    total: u64,
    online: u64,
    offline: u64,
    /// Devices on which some slot answers.
    running: u64,
    /// Devices on which some slot cannot have its wish, or that refuse their order.
    failing: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct ModelSpread {
    model: String,
    bundles: Vec<BundleSpread>,
}

#[derive(Debug, Serialize, ToSchema)]
struct BundleSpread {
    /// SHA-256 of the bundle's manifest.
    bundle: String,
    version: String,
    devices: u64,
}

/// How the fleet is, and what needs a person
#[utoipa::path(get, path = "/overview", tag = "overview", operation_id = "get_overview",
    responses((status = 200, body = Overview)))]
async fn overview(State(app): State<App>, sight: Sight) -> Answer<Json<Overview>> {
    let moment = app.fleet.clocks.moment();
    let mut db = app.fleet.store.read().await?;
    let survey = Survey::with(&mut db, &sight).await?;
    let devices = survey::headcount(&mut db, &sight).await?;
    let open = open_rollouts(&mut db, &sight).await?;
    let needs = lookout::needs(&mut db, app.fleet.clocks.world, &sight, SHOWN, moment.at).await?;
    let incidents_open = match &sight {
        Sight::All => incidents::count_in(&mut db, "open").await?,
        Sight::Some(_) => needs.list.iter().filter(|need| need.kind == Kind::IncidentOpen).count() as u64,
    };
    let models =
        survey.models.iter().filter(|(model, _)| sight.model(model)).map(|(model, bundles)| ModelSpread {
            model: model.to_string(),
            bundles: bundles
                .iter()
                .map(|((path, sha256), devices)| BundleSpread {
                    bundle: sha256.to_string(),
                    version: path.version().to_string(),
                    devices: *devices,
                })
                .collect(),
        });
    Ok(Json(Overview {
        needs_you: needs.list.into_iter().map(Need::from).collect(),
        devices: DeviceCounts {
            total: devices.total,
            online: devices.online,
            offline: devices.total - devices.online,
            running: devices.answering,
            failing: devices.failing,
        },
        rollouts: rollouts::summaries(&app, &mut db, &open).await?,
        models: models.collect(),
        incidents_open,
        world_now: moment.world_at.into(),
        now: moment.at.into(),
    }))
}

async fn open_rollouts(db: &mut Control, sight: &Sight) -> Answer<Vec<Versioned<Rollout>>> {
    let mut open = Vec::new();
    for phase in ["running", "paused", "held", "rolling_back"] {
        let page = Page::first(u32::try_from(SHOWN).unwrap_or(u32::MAX));
        open.extend(crate::store::rollouts::list::<Rollout>(db, None, Some(phase), &page).await?);
    }
    open.retain(|rollout| sight.model(&rollout.document.model));
    open.sort_by_key(|rollout| std::cmp::Reverse(rollout.document.created));
    Ok(open)
}
