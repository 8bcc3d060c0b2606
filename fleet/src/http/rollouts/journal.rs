//! What the engine was told of a rollout, for whoever wants to live it again.

use axum::extract::State;
use muster_protocol::ids::RolloutId;
use serde_json::Value;

use super::super::App;
use super::super::extract::{Id, Json, Query};
use super::super::page::{List, Paging};
use super::super::problem::{Answer, Problem, ProblemBody};
use super::load;
use crate::rollout::journal::Entry;
use crate::store::{Control, LIMIT_MAX, Page, journal};

/// A journal longer than this is not put into an evidence pack; `GET …/journal` has it.
const PACKED_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What the engine was told, the oldest first: `muster rollout replay` lives it again
#[utoipa::path(get, path = "/rollouts/{id}/journal", tag = "rollouts", operation_id = "list_rollout_journal",
    params(("id" = String, Path), Paging),
    responses((status = 200, description = "Entries as docs/evidence.md describes them", body = List<Value>),
        (status = 404, body = ProblemBody)))]
pub(super) async fn journal(
    State(app): State<App>,
    Id(id): Id<RolloutId>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<Entry>>> {
    let mut db = app.fleet.store.read().await?;
    load(&mut db, &id).await?;
    let read = journal::read(&mut db, &id, &paging.page()?).await?;
    let (shown, next) = paging.cut(read, |(number, _)| *number)?;
    Ok(Json(List { items: shown.into_iter().map(|(_, entry)| entry).collect(), next }))
}

/// The whole journal, if it is whole and not too long for one file.
pub(super) async fn whole(db: &mut Control, id: &RolloutId) -> Answer<Option<Vec<Entry>>> {
    let extent = journal::extent(db, id).await?;
    if extent.truncated || extent.entries == 0 || extent.bytes > PACKED_BYTES_MAX {
        return Ok(None);
    }
    let mut entries = Vec::new();
    let mut page = Page::first(LIMIT_MAX);
    loop {
        let found = journal::read(db, id, &page).await.map_err(Problem::from)?;
        let Some(last) = found.last().map(|(number, _)| *number) else { return Ok(Some(entries)) };
        entries.extend(found.into_iter().map(|(_, entry)| entry));
        page = Page::after(last, LIMIT_MAX);
    }
}
