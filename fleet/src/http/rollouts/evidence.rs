//! The signed record of a rollout: everything that a reviewer needs who has no server.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use muster_protocol::ids::RolloutId;

use super::super::App;
use super::super::extract::Id;
use super::super::parts::Who;
use super::super::problem::{Answer, Code, Problem, ProblemBody};
use super::super::sight::Sight;
use super::journal::{seen_by, view_seen_by, whole};
use super::load;
use crate::rollout::evidence::{Act, Pack, SPEC_VERSION, Sealed, TYPE};
use crate::rollout::journal::Entry;
use crate::rollout::{Members, Rollout};
use crate::store::{Control, LIMIT_MAX, Page, Versioned, forecasts, log};
use crate::tasks::view::{fleet_view, members};

/// Log entries in a record at most: the newest.
const ACTS_MAX: usize = 50_000;
/// Looks at a rollout that is moving.
const TRIES: usize = 5;

/// Its record, signed with the order key
#[utoipa::path(get, path = "/rollouts/{id}/evidence", tag = "rollouts", operation_id = "get_rollout_evidence",
    params(("id" = String, Path)),
    responses((status = 200, description = "A signed file; docs/evidence.md has its fields", content_type = "application/json"),
        (status = 404, body = ProblemBody)))]
pub(super) async fn evidence(
    State(app): State<App>,
    sight: Sight,
    Id(id): Id<RolloutId>,
) -> Answer<Response> {
    let mut db = app.fleet.store.read().await?;
    let (rollout, members, mut journal) = at_rest(&mut db, &id).await?;
    seen_by(&mut db, &sight, journal.as_deref_mut().unwrap_or_default()).await?;
    let mut telemetry = app.fleet.store.read_telemetry().await?;
    let mut view = fleet_view(&mut db, &mut telemetry, &rollout, app.fleet.clocks).await?;
    view_seen_by(&sight, &mut view);
    drop(telemetry);
    let mut acts = Vec::new();
    let mut page = Page::first(LIMIT_MAX);
    loop {
        let found = log::before(&mut db, Some(id.as_str()), &page).await?;
        let Some(last) = found.last().map(|entry| entry.id).filter(|_| acts.len() < ACTS_MAX) else { break };
        acts.extend(found.into_iter().map(|entry| Act {
            at: entry.when.at,
            world_at: entry.when.world_at,
            kind: entry.kind,
            by: Who::from(&entry.actor).name,
            sentence: entry.sentence,
        }));
        page = Page::after(last, LIMIT_MAX);
    }
    acts.reverse();
    let forecast = forecasts::get(&mut db, &id).await?;
    drop(db);
    let moment = app.fleet.clocks.moment();
    let pack = Pack::of((rollout, members), view, moment.world_at, acts, journal, forecast);
    let record = serde_json::to_string(&pack).map_err(|error| Problem::internal(&error))?;
    let sealed = Sealed {
        type_: TYPE.to_owned(),
        spec_version: SPEC_VERSION.to_owned(),
        rollout: id,
        made: moment.at,
        record,
    };
    let bytes = app.fleet.signer.evidence(&sealed).map_err(|error| Problem::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

/// A rollout, its members and its journal as of one moment: read again if the rollout moved meanwhile.
async fn at_rest(db: &mut Control, id: &RolloutId) -> Answer<(Rollout, Members, Option<Vec<Entry>>)> {
    for _ in 0..TRIES {
        let Versioned { revision, document: rollout } = load(db, id).await?;
        let members = members(db, &rollout).await?;
        let journal = whole(db, id).await?;
        if load(db, id).await?.revision == revision {
            return Ok((rollout, members, journal));
        }
    }
    Err(Problem::new(Code::Stale, "the rollout moves faster than it can be read")
        .next("pause it, or ask again"))
}
