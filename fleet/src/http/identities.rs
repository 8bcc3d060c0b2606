//! The register of devices: who asks to join, who is a member, and what people decide about them.

use axum::extract::State;
use muster_protocol::ids::DeviceId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Acting, Id, Json, Query};
use super::page::{List, Paging, parsed};
use super::parts::{WaitingFor, WhyBody};
use super::problem::{Answer, Problem, ProblemBody};
use super::sight::Sight;
use super::time::Time;
use crate::enrolment::{Identity, StandingName, Verb};
use crate::registrar::Compared;
use crate::store::identities::IdentityFilter;
use crate::store::{Control, NewestFirst, certificates, identities};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(accept))
        .routes(routes!(reject))
        .routes(routes!(quarantine))
        .routes(routes!(release))
        .routes(routes!(revoke))
        .routes(routes!(dismiss))
}

/// Where a device stands, as it is shown with the device.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeviceStanding)]
pub(super) struct Standing {
    /// `pending`, `active`, `rejected`, `quarantined` or `revoked`.
    state: &'static str,
    since: Time,
    /// Why, where somebody had to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Of its registered key, as people compare it.
    fingerprint: String,
    /// When the last certificate that it was given expires; absent if it never had one.
    certificate_expires: Option<Time>,
    /// Why two machines may use its key, or another than the one that enrolled; absent if nothing speaks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    suspect_clone: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Identity)]
struct IdentityView {
    device: String,
    name: String,
    site: String,
    #[serde(flatten)]
    standing: Standing,
    /// When it asked first, or was imported.
    enrolled: Time,
    /// The file that it came with; absent if it was imported.
    enrolment: Option<String>,
    arch: String,
    cpu_model: String,
    /// It has a new key that has not connected yet; its old one is still good.
    rekeying: bool,
}

impl Standing {
    pub(super) async fn load(db: &mut Control, device: &DeviceId) -> Answer<Option<Self>> {
        match identities::get(db, device).await? {
            Some(identity) => Ok(Some(Self::of(db, &identity).await?)),
            None => Ok(None),
        }
    }

    async fn of(db: &mut Control, identity: &Identity) -> Answer<Self> {
        let reason = identity.standing.reason();
        Ok(Self {
            state: identity.standing.name().as_str(),
            since: identity.since.into(),
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
            fingerprint: identity.key.fingerprint.to_string(),
            certificate_expires: certificates::expiry(db, &identity.device).await?.map(Into::into),
            suspect_clone: identity.suspicion.sentence(),
        })
    }

    /// Why nothing is handed to the device, if that is because of where it stands.
    pub(super) fn holds_back(&self) -> Option<WaitingFor> {
        let (sentence, next) = match self.state {
            "quarantined" => ("is quarantined; it keeps running what it has", "release or revoke it"),
            "revoked" => {
                ("was revoked; nothing is handed to it any more", "it can come back with a new key and file")
            }
            _ => return None,
        };
        let (sentence, next) = (sentence.to_owned(), Some(next.to_owned()));
        Some(WaitingFor { code: self.state.to_owned(), sentence, next, devices: None })
    }
}

impl IdentityView {
    async fn of(db: &mut Control, identity: Identity) -> Answer<Self> {
        let standing = Standing::of(db, &identity).await?;
        Ok(Self {
            device: identity.device.to_string(),
            name: identity.name,
            site: identity.site.to_string(),
            standing,
            enrolled: identity.enrolled.into(),
            enrolment: identity.enrolment.map(|id| id.to_string()),
            arch: identity.facts.arch,
            cpu_model: identity.facts.cpu_model,
            rekeying: identity.former.is_some(),
        })
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct IdentityQuery {
    /// `pending`, `active`, `rejected`, `quarantined` or `revoked`.
    state: Option<String>,
    /// Only those of which two machines may use the key.
    suspect: Option<bool>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// What a person compared before accepting.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AcceptBody {
    /// The fingerprint that the box shows: refused if the key that asks is another one. Left out, nothing is compared.
    #[serde(default)]
    #[schema(max_length = 128, example = "1f3c-09aa-…")]
    fingerprint: Option<String>,
}

/// Devices in the register, the newest first
#[utoipa::path(get, path = "/identities", tag = "identities", operation_id = "list_identities", params(IdentityQuery),
    responses((status = 200, body = List<IdentityView>), (status = 400, body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    sight: Sight,
    Query(query): Query<IdentityQuery>,
) -> Answer<Json<List<IdentityView>>> {
    let IdentityQuery { state, suspect, limit, cursor } = query;
    let state = parsed::<StandingName>("state", state.as_deref())?;
    let filter = IdentityFilter { state, suspect: suspect.unwrap_or(false) };
    let paging = Paging { limit, cursor };
    let mut db = app.fleet.store.read().await?;
    let key = |identity: &Identity| NewestFirst { at: identity.enrolled, id: identity.device.to_string() };
    let mut filling = paging.filling()?;
    while let Some(page) = filling.page() {
        filling.add(identities::list(&mut db, filter, page).await?, key, |one| sight.site(&one.site));
    }
    let (shown, next) = filling.cut(key);
    let mut items = Vec::with_capacity(shown.len());
    for identity in shown {
        items.push(IdentityView::of(&mut db, identity).await?);
    }
    Ok(Json(List { items, next }))
}

/// One device in the register
#[utoipa::path(get, path = "/identities/{id}", tag = "identities", operation_id = "get_identity",
    params(("id" = String, Path)),
    responses((status = 200, body = IdentityView), (status = 404, body = ProblemBody)))]
async fn get(State(app): State<App>, Id(id): Id<DeviceId>) -> Answer<Json<IdentityView>> {
    let mut db = app.fleet.store.read().await?;
    let identity = identities::get(&mut db, &id).await?.ok_or_else(|| Problem::not_found("device", &id))?;
    Ok(Json(IdentityView::of(&mut db, identity).await?))
}

/// Makes a device that asks a member
#[utoipa::path(post, path = "/identities/{id}/accept", tag = "identities", operation_id = "accept_identity",
    params(("id" = String, Path)), request_body = AcceptBody,
    responses((status = 200, body = IdentityView), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
async fn accept(
    State(app): State<App>,
    Id(id): Id<DeviceId>,
    acting: Acting,
    Json(body): Json<AcceptBody>,
) -> Answer<Json<IdentityView>> {
    decide(&app, &id, Verb::Accept, body.fingerprint.as_deref(), &acting).await
}

/// Turns a device that asks away, for good
#[utoipa::path(post, path = "/identities/{id}/reject", tag = "identities", operation_id = "reject_identity",
    params(("id" = String, Path)), request_body = WhyBody,
    responses((status = 200, body = IdentityView), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
async fn reject(
    State(app): State<App>,
    Id(id): Id<DeviceId>,
    acting: Acting,
    Json(why): Json<WhyBody>,
) -> Answer<Json<IdentityView>> {
    decide(&app, &id, Verb::Reject { reason: why.needed()?.to_owned() }, None, &acting).await
}

/// Sets a member apart: it keeps running, is ordered nothing, and what it measures stays on it
#[utoipa::path(post, path = "/identities/{id}/quarantine", tag = "identities", operation_id = "quarantine_identity",
    params(("id" = String, Path)), request_body = WhyBody,
    responses((status = 200, body = IdentityView), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
async fn quarantine(
    State(app): State<App>,
    Id(id): Id<DeviceId>,
    acting: Acting,
    Json(why): Json<WhyBody>,
) -> Answer<Json<IdentityView>> {
    decide(&app, &id, Verb::Quarantine { reason: why.needed()?.to_owned() }, None, &acting).await
}

/// Ends a quarantine: the device is a member as before, and what spoke against it is dismissed
#[utoipa::path(post, path = "/identities/{id}/release", tag = "identities", operation_id = "release_identity",
    params(("id" = String, Path)), request_body = WhyBody,
    responses((status = 200, body = IdentityView), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
async fn release(
    State(app): State<App>,
    Id(id): Id<DeviceId>,
    acting: Acting,
    Json(why): Json<WhyBody>,
) -> Answer<Json<IdentityView>> {
    decide(&app, &id, Verb::Release { reason: why.needed()?.to_owned() }, None, &acting).await
}

/// Ends a membership, for good: the device is cut off at once and its certificates are put onto the list of revoked ones
#[utoipa::path(post, path = "/identities/{id}/revoke", tag = "identities", operation_id = "revoke_identity",
    params(("id" = String, Path)), request_body = WhyBody,
    responses((status = 200, body = IdentityView), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
async fn revoke(
    State(app): State<App>,
    Id(id): Id<DeviceId>,
    acting: Acting,
    Json(why): Json<WhyBody>,
) -> Answer<Json<IdentityView>> {
    decide(&app, &id, Verb::Revoke { reason: why.needed()?.to_owned() }, None, &acting).await
}

/// Says that what speaks against a member has been looked at and is right
#[utoipa::path(post, path = "/identities/{id}/dismiss", tag = "identities", operation_id = "dismiss_suspicion",
    params(("id" = String, Path)), request_body = WhyBody,
    responses((status = 200, body = IdentityView), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
async fn dismiss(
    State(app): State<App>,
    Id(id): Id<DeviceId>,
    acting: Acting,
    Json(why): Json<WhyBody>,
) -> Answer<Json<IdentityView>> {
    let identity = app.fleet.registrar.dismiss(&id, why.needed()?, acting.for_log()).await?;
    Ok(Json(IdentityView::of(&mut app.fleet.store.read().await?, identity).await?))
}

async fn decide(
    app: &App,
    id: &DeviceId,
    verb: Verb,
    compared: Option<&str>,
    acting: &Acting,
) -> Answer<Json<IdentityView>> {
    let identity = app.fleet.registrar.decide(id, verb, compared.map(Compared), acting.for_log()).await?;
    Ok(Json(IdentityView::of(&mut app.fleet.store.read().await?, identity).await?))
}
