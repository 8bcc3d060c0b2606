//! What the server finds when it looks at itself: the second half of `muster doctor`.

use axum::extract::State;
use muster_protocol::checkup::{Condition, Finding};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::Json;
use super::problem::Answer;
use super::time::Time;
use crate::checkup;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(doctor))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Checkup)]
struct CheckupView {
    /// The server's.
    version: &'static str,
    now: Time,
    /// In the order in which one depends on the other.
    checks: Vec<FindingView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CheckupFinding)]
struct FindingView {
    /// What was looked at: a stable word, such as `trust.root`.
    check: String,
    state: StateView,
    says: String,
    /// What a person can do; of everything that is not `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    do_next: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CheckupState)]
enum StateView {
    Ok,
    /// Nobody could look.
    Unknown,
    /// It works, and will not for long, or not as well as it should.
    Warn,
    Fail,
}

impl From<Finding> for FindingView {
    fn from(Finding { check, state, says, do_next }: Finding) -> Self {
        let state = match state {
            Condition::Ok => StateView::Ok,
            Condition::Unknown => StateView::Unknown,
            Condition::Warn => StateView::Warn,
            Condition::Fail => StateView::Fail,
        };
        Self { check, state, says, do_next }
    }
}

/// How this server is, part by part, and what to do about what is not well
#[utoipa::path(get, path = "/doctor", tag = "overview", operation_id = "get_doctor",
    responses((status = 200, body = CheckupView)))]
async fn doctor(State(app): State<App>) -> Answer<Json<CheckupView>> {
    // All parts are asked at the same time, so what is remembered of them is large.
    let checks = Box::pin(checkup::look(&app.fleet)).await.into_iter().map(FindingView::from).collect();
    let now = app.fleet.clocks.trust.now().into();
    Ok(Json(CheckupView { version: env!("CARGO_PKG_VERSION"), now, checks }))
}
