//! What happened, in one order for everybody.

use std::collections::BTreeMap;

use axum::extract::State;
use muster_protocol::ids::{BundlePath, DeviceId, ModelName, SiteName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Json, Query};
use super::page::{List, Paging};
use super::parts::Who;
use super::problem::{Answer, ProblemBody};
use super::sight::Sight;
use super::time::Time;
use crate::store::log::{self, LogEntry};
use crate::store::projects::{self, OfModel};
use crate::store::{Control, Page};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LogEntry)]
struct EntryView {
    id: i64,
    at: Time,
    world_at: Time,
    /// Such as `rollout.paused`.
    kind: String,
    /// Id of what it happened to.
    subject: String,
    sentence: String,
    actor: Who,
    /// SHA-256 of the entry and of the link before it; `muster audit verify` follows them.
    link: Option<String>,
}

impl From<LogEntry> for EntryView {
    fn from(entry: LogEntry) -> Self {
        let LogEntry { id, when, kind, subject, sentence, actor, link } = entry;
        let link = link.map(|link| link.to_string());
        let (at, world_at) = (when.at.into(), when.world_at.into());
        Self { id, at, world_at, kind, subject, sentence, actor: Who::from(&actor), link }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct LogQuery {
    /// Entries after this id, the oldest first. Without it: the newest first.
    after: Option<i64>,
    /// Only what happened to this.
    subject: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// The log: the newest first, or onwards from an id
#[utoipa::path(get, path = "/log", tag = "log", operation_id = "list_log", params(LogQuery),
    responses((status = 200, body = List<EntryView>), (status = 400, body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    sight: Sight,
    Query(query): Query<LogQuery>,
) -> Answer<Json<List<EntryView>>> {
    let LogQuery { after, subject, limit, cursor } = query;
    let subject = subject.filter(|subject| !subject.is_empty());
    let paging = Paging { limit, cursor };
    let mut db = app.fleet.store.read().await?;
    let mut filling = paging.filling()?;
    while let Some(page) = filling.page() {
        let entries = match after {
            Some(after) => {
                let page = Page { after: Some(page.after.unwrap_or(after)), ..page.clone() };
                log::after(&mut db, subject.as_deref(), &page).await?
            }
            None => log::before(&mut db, subject.as_deref(), page).await?,
        };
        filling.add(told(&mut db, &sight, entries).await?, |(entry, _)| entry.id, |(_, theirs)| *theirs);
    }
    let (shown, next) = filling.cut(|(entry, _)| entry.id);
    Ok(Json(List { items: shown.into_iter().map(|(entry, _)| EntryView::from(entry)).collect(), next }))
}

/// Each entry, and whether it is of something that the caller may know of.
pub(super) async fn told(
    db: &mut Control,
    sight: &Sight,
    entries: Vec<LogEntry>,
) -> Answer<Vec<(LogEntry, bool)>> {
    let mut told = Vec::with_capacity(entries.len());
    // The same few things again and again.
    let mut known: BTreeMap<(String, String), bool> = BTreeMap::new();
    for entry in entries {
        let noun = entry.kind.split('.').next().unwrap_or_default().to_owned();
        let key = (noun, entry.subject.clone());
        let theirs = if let Some(theirs) = known.get(&key) {
            *theirs
        } else {
            let theirs = matches!(sight, Sight::All) || concerns(db, sight, &key.0, &key.1).await?;
            known.insert(key, theirs);
            theirs
        };
        told.push((entry, theirs));
    }
    Ok(told)
}

async fn concerns(db: &mut Control, sight: &Sight, noun: &str, subject: &str) -> Answer<bool> {
    let site = |site: Option<SiteName>| site.map_or_else(|| sight.fleet(), |site| sight.site(&site));
    let model = |model: Option<ModelName>| model.map_or_else(|| sight.fleet(), |model| sight.model(&model));
    if let Ok(device) = subject.parse::<DeviceId>() {
        return Ok(site(projects::site_of_device(db, &device).await?));
    }
    Ok(match noun {
        "rollout" => model(projects::model_of(db, OfModel::Rollout, subject).await?),
        "run" => model(projects::model_of(db, OfModel::Run, subject).await?),
        "incident" => model(projects::model_of(db, OfModel::Incident, subject).await?),
        "trigger" => model(projects::model_of(db, OfModel::Trigger, subject).await?),
        "capture" => match subject.parse() {
            Ok(id) => model(projects::model_of_capture(db, &id).await?),
            Err(_) => sight.fleet(),
        },
        "bundle" => match subject.parse::<BundlePath>() {
            Ok(path) => sight.model(path.model()),
            Err(_) => model(projects::model_of(db, OfModel::Bundle, subject).await?),
        },
        "enrolment" => site(projects::site_of_enrolment(db, subject).await?),
        "policy" | "alias" => model(subject.parse().ok()),
        "dataset" => subject.parse().map_or_else(|_| sight.fleet(), |name| sight.dataset(&name)),
        "site" | "lease" => site(subject.parse().ok()),
        // That the whole fleet is frozen concerns everybody.
        "fleet" => subject.parse::<SiteName>().map_or(true, |name| sight.site(&name)),
        _fleet => sight.fleet(),
    })
}
