//! What happened, in one order for everybody.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Json, Query};
use super::page::{List, Paging};
use super::parts::Who;
use super::problem::{Answer, ProblemBody};
use super::time::Time;
use crate::store::Page;
use crate::store::log::{self, LogEntry};

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
async fn list(State(app): State<App>, Query(query): Query<LogQuery>) -> Answer<Json<List<EntryView>>> {
    let LogQuery { after, subject, limit, cursor } = query;
    let subject = subject.filter(|subject| !subject.is_empty());
    let paging = Paging { limit, cursor };
    let page: Page<i64> = paging.page()?;
    let mut db = app.fleet.store.read().await?;
    let read = match after {
        Some(after) => {
            let page = Page { after: Some(page.after.unwrap_or(after)), ..page };
            log::after(&mut db, subject.as_deref(), &page).await?
        }
        None => log::before(&mut db, subject.as_deref(), &page).await?,
    };
    let (shown, next) = paging.cut(read, |entry| entry.id)?;
    Ok(Json(List { items: shown.into_iter().map(EntryView::from).collect(), next }))
}
