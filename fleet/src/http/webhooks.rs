//! Webhooks, how far each was told, and what it would not take.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Acting, Id, Ids, Json, Query};
use super::page::{List, Paging};
use super::parts::append;
use super::problem::{Answer, Problem, ProblemBody};
use super::time::Time;
use crate::config::WebhookConfig;
use crate::store::undelivered::{self, Undelivered};
use crate::store::{log, meta};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(aside)).routes(routes!(again))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhook)]
struct HookView {
    name: String,
    /// Without what may be a secret.
    url: String,
    /// Kinds of log entries, or what kinds begin with.
    events: Vec<String>,
    /// Log entries that it was not told of yet.
    behind: u64,
    /// Events that it would not take, kept for people.
    undelivered: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UndeliveredEvent)]
struct AsideView {
    /// Number of the log entry.
    entry: i64,
    kind: String,
    subject: String,
    sentence: String,
    /// When it was put aside.
    at: Time,
    why: String,
    /// Whether it is about to be sent again.
    again: bool,
}

impl From<Undelivered> for AsideView {
    fn from(aside: Undelivered) -> Self {
        let Undelivered { entry, at, why, again } = aside;
        let log::LogEntry { id, kind, subject, sentence, .. } = entry;
        Self { entry: id, kind, subject, sentence, at: at.into(), why, again }
    }
}

/// Webhooks of the server's configuration
#[utoipa::path(get, path = "/webhooks", tag = "log", operation_id = "list_webhooks",
    responses((status = 200, body = List<HookView>)))]
async fn list(State(app): State<App>) -> Answer<Json<List<HookView>>> {
    let mut db = app.fleet.store.read().await?;
    let newest = log::last(&mut db).await?;
    let mut items = Vec::new();
    for hook in &app.fleet.config.webhooks {
        let at = meta::get(&mut db, &meta::webhook_place(&hook.name)).await?;
        let at: i64 = at.and_then(|text| text.parse().ok()).unwrap_or(newest);
        items.push(HookView {
            name: hook.name.clone(),
            url: hook.place(),
            events: hook.events.clone(),
            behind: newest.saturating_sub(at).unsigned_abs(),
            undelivered: undelivered::count_of(&mut db, &hook.name).await?,
        });
    }
    Ok(Json(List { items, next: None }))
}

/// What a webhook would not take, the oldest first
#[utoipa::path(get, path = "/webhooks/{name}/undelivered", tag = "log", operation_id = "list_undelivered",
    params(("name" = String, Path), Paging),
    responses((status = 200, body = List<AsideView>), (status = 400, body = ProblemBody), (status = 404, body = ProblemBody)))]
async fn aside(
    State(app): State<App>,
    Id(name): Id<String>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<AsideView>>> {
    let hook = hook(&app, &name)?;
    let mut db = app.fleet.store.read().await?;
    let read = undelivered::list(&mut db, &hook.name, false, &paging.page()?).await?;
    let (shown, next) = paging.cut(read, |aside| aside.entry.id)?;
    Ok(Json(List { items: shown.into_iter().map(AsideView::from).collect(), next }))
}

/// Sends an event again that a webhook would not take
#[utoipa::path(post, path = "/webhooks/{name}/undelivered/{entry}/retry", tag = "log", operation_id = "retry_undelivered",
    params(("name" = String, Path), ("entry" = i64, Path)),
    responses((status = 204, description = "It is sent once more; if that fails, it is put aside again"), (status = 404, body = ProblemBody)))]
async fn again(
    State(app): State<App>,
    Ids(name, entry): Ids<String, i64>,
    acting: Acting,
) -> Answer<StatusCode> {
    let hook = hook(&app, &name)?;
    let mut tx = app.fleet.store.write().await?;
    if !undelivered::ask_again(&mut tx, &hook.name, entry).await? {
        return Err(Problem::not_found("undelivered event", entry.to_string()));
    }
    let sentence = format!("asked for event {entry} to be sent to the webhook {} again", hook.name);
    append(&app, &mut tx, "webhook.retried", hook.name.clone(), sentence, &acting).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn hook<'a>(app: &'a App, name: &str) -> Answer<&'a WebhookConfig> {
    let found = app.fleet.config.webhooks.iter().find(|hook| hook.name == name);
    found.ok_or_else(|| Problem::not_found("webhook", name))
}
