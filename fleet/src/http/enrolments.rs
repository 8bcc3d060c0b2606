//! Enrolment files: made here once each, with a token that nobody can read back.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use muster_protocol::ids::{EnrolmentId, SiteName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Acting, Id, Json, Query};
use super::page::{List, Paging};
use super::parts::WhyBody;
use super::problem::{Answer, Problem, ProblemBody};
use super::sight::Sight;
use super::time::Time;
use crate::enrolment::{Approval, Enrolment};
use crate::registrar::NewEnrolment;
use crate::store::{NewestFirst, enrolments};
use muster_protocol::time::Timestamp;

const COUNT_MAX: u32 = 1000;
const TTL_S_DEFAULT: u64 = 72 * 3600;
/// A file that lies about for longer than a month was forgotten, and will be found by somebody else.
const TTL_S_MAX: u64 = 31 * 86_400;
const TTL_S_MIN: u64 = 60;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(cancel))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Enrolment)]
struct EnrolmentView {
    id: String,
    site: String,
    /// `open`, `used_up`, `expired` or `cancelled`.
    state: &'static str,
    /// How many boxes it was made for.
    count: u32,
    uses_left: u32,
    /// `manual`: a person accepts each box; `auto`: whoever has the file is in.
    approve: &'static str,
    made: Time,
    made_by: String,
    expires: Time,
}

impl EnrolmentView {
    fn of(enrolment: &Enrolment, now: Timestamp) -> Self {
        Self {
            id: enrolment.id.to_string(),
            site: enrolment.site.to_string(),
            state: enrolment.state(now),
            count: enrolment.count,
            uses_left: enrolment.uses_left,
            approve: match enrolment.approval {
                Approval::Manual => "manual",
                Approval::Auto => "auto",
            },
            made: enrolment.made.into(),
            made_by: enrolment.made_by.clone(),
            expires: enrolment.expires.into(),
        }
    }
}

/// What a file shall allow.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewBody {
    site: String,
    /// Boxes that may join with it.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 1000, default = 1)]
    count: u32,
    /// Seconds for which it is good.
    #[serde(default = "ttl")]
    #[schema(minimum = 60, maximum = 2_678_400, default = 259_200)]
    ttl_s: u64,
    /// `manual` (a person compares fingerprints and accepts) or `auto`. Manual unless said otherwise, for one box too: a
    /// file that was read by somebody else on its way gains them nothing then.
    #[serde(default)]
    approve: ApproveBody,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Approve)]
enum ApproveBody {
    #[default]
    Manual,
    Auto,
}

fn one() -> u32 {
    1
}

fn ttl() -> u64 {
    TTL_S_DEFAULT
}

/// What was made. The file is a secret, and this is the only time it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NewEnrolment)]
struct NewView {
    enrolment: EnrolmentView,
    /// The content of the file that a box is enrolled with.
    #[schema(value_type = Object)]
    file: Value,
}

/// Makes an enrolment file
#[utoipa::path(post, path = "/enrolments", tag = "identities", operation_id = "create_enrolment",
    request_body = NewBody,
    responses((status = 201, body = NewView), (status = 409, body = ProblemBody), (status = 422, body = ProblemBody)))]
async fn create(
    State(app): State<App>,
    acting: Acting,
    Json(body): Json<NewBody>,
) -> Answer<(StatusCode, Json<NewView>)> {
    let site: SiteName = body.site.parse().map_err(|error| Problem::invalid("/site", format!("{error}")))?;
    if !(1..=COUNT_MAX).contains(&body.count) {
        return Err(Problem::invalid("/count", format!("a file is for 1 to {COUNT_MAX} boxes")));
    }
    if !(TTL_S_MIN..=TTL_S_MAX).contains(&body.ttl_s) {
        return Err(Problem::invalid("/ttl_s", "a file is good for a minute to 31 days"));
    }
    let approval = match body.approve {
        ApproveBody::Manual => Approval::Manual,
        ApproveBody::Auto => Approval::Auto,
    };
    let new = NewEnrolment { site, count: body.count, ttl: Duration::from_secs(body.ttl_s), approval };
    let (enrolment, file) = app.fleet.registrar.new_enrolment(new, &acting.0, acting.for_log()).await?;
    let file = serde_json::to_value(&file).map_err(|error| Problem::internal(&error))?;
    let enrolment = EnrolmentView::of(&enrolment, app.fleet.clocks.trust.now());
    Ok((StatusCode::CREATED, Json(NewView { enrolment, file })))
}

/// Enrolment files, the newest first
#[utoipa::path(get, path = "/enrolments", tag = "identities", operation_id = "list_enrolments", params(Paging),
    responses((status = 200, body = List<EnrolmentView>), (status = 400, body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    sight: Sight,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<EnrolmentView>>> {
    let now = app.fleet.clocks.trust.now();
    let mut db = app.fleet.store.read().await?;
    let key = |one: &Enrolment| NewestFirst { at: one.made, id: one.id.to_string() };
    let mut filling = paging.filling()?;
    while let Some(page) = filling.page() {
        filling.add(enrolments::list(&mut db, page).await?, key, |one| sight.site(&one.site));
    }
    let (shown, next) = filling.cut(key);
    let items = shown.iter().map(|enrolment| EnrolmentView::of(enrolment, now)).collect();
    Ok(Json(List { items, next }))
}

/// Lets nobody else join with a file; who joined with it stays what it is
#[utoipa::path(post, path = "/enrolments/{id}/cancel", tag = "identities", operation_id = "cancel_enrolment",
    params(("id" = String, Path)), request_body = WhyBody,
    responses((status = 200, body = EnrolmentView), (status = 404, body = ProblemBody)))]
async fn cancel(
    State(app): State<App>,
    Id(id): Id<EnrolmentId>,
    acting: Acting,
    Json(why): Json<WhyBody>,
) -> Answer<Json<EnrolmentView>> {
    let cancelled = app.fleet.registrar.cancel_enrolment(&id, why.reason()?, acting.for_log()).await?;
    Ok(Json(EnrolmentView::of(&cancelled, app.fleet.clocks.trust.now())))
}
