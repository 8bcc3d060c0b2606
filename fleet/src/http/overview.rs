//! The first page: what needs a person, and how the fleet is.

use std::time::Duration;

use axum::extract::State;
use muster_protocol::message::Phase;
use muster_protocol::time::Timestamp;
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
use crate::drift::Incident;
use crate::enrolment::{Identity, Standing, StandingName};
use crate::retrain::{Policy, RolloutPolicy, Run, RunState};
use crate::rollout::{Phase as RolloutPhase, Rollout};
use crate::store::devices::{self, Device};
use crate::store::identities::IdentityFilter;
use crate::store::{Control, Page, Versioned, glances, identities, incidents, policies, runs};

/// Needs of one kind that are shown.
const SHOWN: usize = 50;
/// A box may restart before anybody is told, real time.
const SILENT: Duration = Duration::from_mins(1);

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
    /// `device_pending`, `device_suspect`, `rollout_held`, `incident_open`, `approval`, `activation_failed`,
    /// `retrain_failed` or `device_silent`.
    kind: &'static str,
    id: String,
    title: String,
    detail: String,
    since: Time,
    /// Where in the dashboard to decide.
    link: String,
    /// Of a device that waits: what a person compares with what the box shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
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
    let mut needs_you = doubted(&mut db, &sight).await?;
    needs_you.extend(knocking(&mut db, &sight).await?);
    needs_you.extend(open.iter().filter_map(|open| held(&app, &open.document)).take(SHOWN));
    needs_you.extend(drifting(&app, &mut db, &sight).await?);
    needs_you.extend(retrained(&app, &mut db, &sight).await?);
    needs_you.extend(unwell(&mut db, &sight, moment.at).await?);
    let incidents_open = match &sight {
        Sight::All => incidents::count_in(&mut db, "open").await?,
        Sight::Some(_) => needs_you.iter().filter(|need| need.kind == "incident_open").count() as u64,
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
        needs_you,
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

/// Boxes that ask to join.
async fn knocking(db: &mut Control, sight: &Sight) -> Answer<Vec<Need>> {
    let filter = IdentityFilter { state: Some(StandingName::Pending), ..IdentityFilter::default() };
    let page = Page::first(u32::try_from(SHOWN).unwrap_or(u32::MAX));
    let pending = identities::list(db, filter, &page).await?;
    let need = |identity: Identity| Need {
        kind: "device_pending",
        id: identity.device.to_string(),
        title: format!("{} asks to join {}", identity.name, identity.site),
        detail: "compare the fingerprint with the one that the box shows, then accept or reject it"
            .to_owned(),
        since: identity.since.into(),
        link: "/".to_owned(),
        fingerprint: Some(identity.key.fingerprint.to_string()),
    };
    Ok(pending.into_iter().filter(|one| sight.site(&one.site)).map(need).collect())
}

/// Members whose key seems to be where it should not be.
async fn doubted(db: &mut Control, sight: &Sight) -> Answer<Vec<Need>> {
    let filter = IdentityFilter { state: None, suspect: true };
    let page = Page::first(u32::try_from(SHOWN).unwrap_or(u32::MAX));
    let mut needs = Vec::new();
    for identity in identities::list(db, filter, &page).await? {
        if !sight.site(&identity.site) {
            continue;
        }
        let (Standing::Active | Standing::Quarantined { .. }, Some(detail)) =
            (&identity.standing, identity.suspicion.sentence())
        else {
            continue;
        };
        needs.push(Need {
            kind: "device_suspect",
            id: identity.device.to_string(),
            title: format!("{} may not be the only one with its key", identity.name),
            detail,
            since: identity.suspicion.since().unwrap_or(identity.since).into(),
            link: format!("/devices/{}", identity.device),
            fingerprint: None,
        });
    }
    Ok(needs)
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

fn held(app: &App, rollout: &Rollout) -> Option<Need> {
    let (since, detail) = match &rollout.phase {
        RolloutPhase::Held { since, cause, .. } => (*since, cause.sentence.clone()),
        RolloutPhase::Proposed { .. }
        | RolloutPhase::Scheduled { .. }
        | RolloutPhase::Running { .. }
        | RolloutPhase::Paused { .. }
        | RolloutPhase::RollingBack { .. }
        | RolloutPhase::RolledBack { .. }
        | RolloutPhase::Aborting { .. }
        | RolloutPhase::Aborted { .. }
        | RolloutPhase::Superseded { .. }
        | RolloutPhase::Completed { .. } => return None,
    };
    Some(Need {
        kind: "rollout_held",
        id: rollout.id.to_string(),
        title: format!("The rollout of {} {} waits for you", rollout.model, rollout.bundle.path.version()),
        detail,
        since: app.real(since),
        link: format!("/rollouts/{}", rollout.id),
        fingerprint: None,
    })
}

async fn drifting(app: &App, db: &mut Control, sight: &Sight) -> Answer<Vec<Need>> {
    let page = Page::first(u32::try_from(SHOWN).unwrap_or(u32::MAX));
    let open = incidents::list::<Incident>(db, None, Some("open"), &page).await?;
    let need = |incident: Incident| Need {
        kind: "incident_open",
        id: incident.id.to_string(),
        title: format!("{}: {}", incident.model, incident.kind.said()),
        detail: incident.sentence(),
        since: app.real(incident.opened),
        link: "/drift".to_owned(),
        fingerprint: None,
    };
    let theirs =
        open.into_iter().map(|incident| incident.document).filter(|incident| sight.model(&incident.model));
    Ok(theirs.map(need).collect())
}

/// Of each model the newest run, where it failed or where its bundle waits for a person.
async fn retrained(app: &App, db: &mut Control, sight: &Sight) -> Answer<Vec<Need>> {
    let newest = runs::list::<Run>(db, None, None, &Page::first(500)).await?;
    let mut seen = std::collections::BTreeSet::new();
    let mut needs = Vec::new();
    for run in newest.into_iter().map(|run| run.document) {
        if !sight.model(&run.model) || !seen.insert(run.model.clone()) || needs.len() >= SHOWN {
            continue;
        }
        let (kind, title, detail) = match &run.state {
            RunState::Published { bundle, .. } if run.rollout.is_none() => {
                let policy =
                    policies::get::<Policy>(db, &run.model).await?.map(|policy| policy.document.rollout);
                if matches!(policy, Some(RolloutPolicy::Automatic { .. })) {
                    continue;
                }
                let title = format!("A retrained {} waits for its rollout", run.model);
                (
                    "approval",
                    title,
                    format!("{} was published; its policy leaves the rollout to you", bundle.path),
                )
            }
            RunState::Candidate { bundle, people, approved, .. } => {
                let title = format!("A retrained {} waits for approval", run.model);
                let detail = format!("{}: {} of {people} people have agreed", bundle.path, approved.len());
                ("approval", title, detail)
            }
            RunState::Failed { cause } => {
                ("retrain_failed", format!("The retraining of {} failed", run.model), cause.sentence.clone())
            }
            RunState::Published { .. }
            | RunState::Rejected { .. }
            | RunState::Cancelled { .. }
            | RunState::Collecting { .. }
            | RunState::Queued { .. }
            | RunState::Claimed { .. } => continue,
        };
        let since = run.timeline.last().map_or_else(|| app.real(run.created), |step| step.at.into());
        needs.push(Need {
            kind,
            id: run.id.to_string(),
            title,
            detail,
            since,
            link: format!("/runs/{}", run.id),
            fingerprint: None,
        });
    }
    Ok(needs)
}

/// Boxes that cannot run what they should, and those that are away.
async fn unwell(db: &mut Control, sight: &Sight, now: Timestamp) -> Answer<Vec<Need>> {
    let sites = survey::visible(db, sight).await?;
    let shown = u32::try_from(SHOWN).unwrap_or(u32::MAX);
    let mut needs = Vec::new();
    for id in glances::failing(db, sites.as_ref(), shown).await? {
        needs.extend(devices::get(db, &id).await?.as_ref().and_then(cannot));
    }
    for id in glances::silent(db, sites.as_ref(), now.minus(SILENT), shown).await? {
        needs.extend(devices::get(db, &id).await?.as_ref().map(silent));
    }
    Ok(needs)
}

fn cannot(device: &Device) -> Option<Need> {
    let state = device.state.as_ref()?;
    let failed = state.slots.iter().find_map(|slot| match &slot.phase {
        Phase::Failed { bundle, sentence, .. } | Phase::Stopped { bundle, sentence, .. } => {
            Some(format!("{} {}: {sentence}", slot.slot, bundle.path.version()))
        }
        Phase::Empty
        | Phase::Downloading { .. }
        | Phase::Verifying { .. }
        | Phase::SelfTesting { .. }
        | Phase::Ready { .. }
        | Phase::Activating { .. }
        | Phase::Running { .. } => None,
    });
    let refused = state.refusal.as_ref().map(|refusal| format!("it refuses its order: {}", refusal.sentence));
    Some(Need {
        kind: "activation_failed",
        id: device.id.to_string(),
        title: format!("{} cannot run what it should", device.name),
        detail: failed.or(refused)?,
        since: state.at.into(),
        link: format!("/devices/{}", device.id),
        fingerprint: None,
    })
}

fn silent(device: &Device) -> Need {
    Need {
        kind: "device_silent",
        id: device.id.to_string(),
        title: format!("{} is offline", device.name),
        detail: "it keeps answering its ward by itself; orders wait for it".to_owned(),
        since: device.presence_since.into(),
        link: format!("/devices/{}", device.id),
        fingerprint: None,
    }
}
