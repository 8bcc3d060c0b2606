//! What the engine was told of a rollout, for whoever wants to live it again.

use axum::extract::State;
use muster_protocol::ids::RolloutId;
use serde_json::Value;

use super::super::App;
use super::super::extract::{Id, Json, Query};
use super::super::page::{List, Paging};
use super::super::problem::{Answer, Problem, ProblemBody};
use super::super::sight::Sight;
use super::load;
use crate::rollout::journal::{Change, Entry, Input};
use crate::rollout::{FleetView, Freeze};
use crate::store::{Control, LIMIT_MAX, Page, journal, projects};

/// A journal longer than this is not put into an evidence pack; `GET …/journal` has it.
const PACKED_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What the engine was told, the oldest first: `muster rollout replay` lives it again
#[utoipa::path(get, path = "/rollouts/{id}/journal", tag = "rollouts", operation_id = "list_rollout_journal",
    params(("id" = String, Path), Paging),
    responses((status = 200, description = "Entries as docs/evidence.md describes them", body = List<Value>),
        (status = 404, body = ProblemBody)))]
pub(super) async fn journal(
    State(app): State<App>,
    sight: Sight,
    Id(id): Id<RolloutId>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<Entry>>> {
    let mut db = app.fleet.store.read().await?;
    load(&mut db, &id).await?;
    let read = journal::read(&mut db, &id, &paging.page()?).await?;
    let (shown, next) = paging.cut(read, |(number, _)| *number)?;
    let mut items: Vec<Entry> = shown.into_iter().map(|(_, entry)| entry).collect();
    seen_by(&mut db, &sight, &mut items).await?;
    Ok(Json(List { items, next }))
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

/// The engine is told of the whole fleet, and picks from it by the rollout's filter, which keeps to the sites of its
/// project. So whoever may not know of other boxes can live it again without them, to the same outcomes.
pub(super) async fn seen_by(db: &mut Control, sight: &Sight, entries: &mut [Entry]) -> Answer<()> {
    if matches!(sight, Sight::All) {
        return Ok(());
    }
    for entry in entries {
        let Input::Looked { change } = &mut entry.input else { continue };
        let Change { devices, sites, freezes, .. } = change;
        for (id, line) in std::mem::take(devices) {
            let theirs = match &line {
                Some(line) => sight.site(&line.site),
                // It left the fleet; what is known of it still says from where.
                None => projects::site_of_device(db, &id).await?.is_some_and(|site| sight.site(&site)),
            };
            if theirs {
                devices.insert(id, line);
            }
        }
        sites.retain(|site, _| sight.site(site));
        if let Some(freezes) = freezes {
            freezes_seen_by(sight, freezes);
        }
    }
    Ok(())
}

/// As [`seen_by`], of the fleet as it is now.
pub(super) fn view_seen_by(sight: &Sight, view: &mut FleetView) {
    view.devices.retain(|_, line| sight.site(&line.site));
    view.sites.retain(|site, _| sight.site(site));
    freezes_seen_by(sight, &mut view.freezes);
}

fn freezes_seen_by(sight: &Sight, freezes: &mut Vec<Freeze>) {
    for freeze in freezes.iter_mut() {
        if let Some(sites) = &mut freeze.sites {
            sites.retain(|site| sight.site(site));
        }
    }
    freezes.retain(|freeze| freeze.sites.as_ref().is_none_or(|sites| !sites.is_empty()));
}
