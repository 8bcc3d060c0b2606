//! The signed record of a rollout: everything that a reviewer needs who has no server.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use muster_protocol::ids::RolloutId;

use super::super::App;
use super::super::extract::Id;
use super::super::parts::Who;
use super::super::problem::{Answer, Problem, ProblemBody};
use super::load;
use crate::rollout::evidence::{Act, Pack, SPEC_VERSION, Sealed, TYPE};
use crate::store::{LIMIT_MAX, Page, forecasts, log};
use crate::tasks::view::{fleet_view, members};

/// Log entries in a record at most: the newest.
const ACTS_MAX: usize = 50_000;

/// Its record, signed with the order key
#[utoipa::path(get, path = "/rollouts/{id}/evidence", tag = "rollouts", operation_id = "get_rollout_evidence",
    params(("id" = String, Path)),
    responses((status = 200, description = "A signed file; docs/evidence.md has its fields", content_type = "application/json"),
        (status = 404, body = ProblemBody)))]
pub(super) async fn evidence(State(app): State<App>, Id(id): Id<RolloutId>) -> Answer<Response> {
    let mut db = app.fleet.store.read().await?;
    let rollout = load(&mut db, &id).await?.document;
    let members = members(&mut db, &rollout).await?;
    let mut telemetry = app.fleet.store.read_telemetry().await?;
    let view = fleet_view(&mut db, &mut telemetry, &rollout, app.fleet.clocks).await?;
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
    let pack = Pack::of((rollout, members), view, moment.world_at, acts, None, forecast);
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
