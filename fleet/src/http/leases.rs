//! "Not now": leases of boxes and sites, and freezes of sites and the whole fleet. They hold up what would begin; what has
//! been permitted goes on.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use muster_protocol::ids::{DeviceId, LeaseId, SiteName};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Acting, Id, Json, Query};
use super::page::{List, Paging};
use super::parts::{WhyBody, append, because};
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::sight::Sight;
use super::time::Time;
use crate::mint;
use crate::store::freezes::{self, FREEZES_MAX, Frozen, HeldFreeze};
use crate::store::leases::{self, HeldLease, LEASES_MAX, Scope, Taken};
use crate::store::{ControlTx, devices, projects};

/// Longest lease: who needs more takes it again, and shows that they still do.
const LEASE_S_MAX: u64 = 31 * 24 * 3600;
const OWNER_CHARS_MAX: usize = 64;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, take))
        .routes(routes!(release))
        .routes(routes!(list_freezes, freeze))
        .routes(routes!(thaw))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lease)]
struct LeaseView {
    id: String,
    /// The box; absent if the lease is of a site.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<String>,
    owner: String,
    reason: String,
    taken: Time,
    /// Real time. Nobody holds anything for ever.
    expires: Time,
}

impl From<HeldLease> for LeaseView {
    fn from(lease: HeldLease) -> Self {
        let HeldLease { id, of, owner, reason, taken, expires } = lease;
        let (device, site) = match of {
            Scope::Device(device) => (Some(device.to_string()), None),
            Scope::Site(site) => (None, Some(site.to_string())),
        };
        Self { id: id.to_string(), device, site, owner, reason, taken: taken.into(), expires: expires.into() }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewLease)]
struct LeaseBody {
    /// Either a box or a site.
    #[schema(value_type = Option<String>)]
    device: Option<DeviceId>,
    #[schema(value_type = Option<String>)]
    site: Option<SiteName>,
    /// Who holds it; you, if absent.
    #[schema(max_length = 64)]
    owner: Option<String>,
    /// Such as `MRI running`.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: String,
    /// For how long, in seconds.
    #[schema(minimum = 1, maximum = 2_678_400)]
    for_s: u64,
}

/// Leases that hold now
#[utoipa::path(get, path = "/leases", tag = "sites", operation_id = "list_leases", params(Paging),
    responses((status = 200, body = List<LeaseView>), (status = 400, body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    sight: Sight,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<LeaseView>>> {
    let now = app.fleet.clocks.trust.now();
    let mut db = app.fleet.store.read().await?;
    let mut filling = paging.filling()?;
    while let Some(page) = filling.page() {
        let mut read = Vec::new();
        for lease in leases::list(&mut db, now, page).await? {
            let site = projects::site_of_lease(&mut db, lease.id.as_str()).await?;
            read.push((lease, site));
        }
        filling.add(
            read,
            |(lease, _)| lease.id.clone(),
            |(_, site)| site.as_ref().is_some_and(|site| sight.site(site)),
        );
    }
    let (shown, next) = filling.cut(|(lease, _)| lease.id.clone());
    let shown: Vec<HeldLease> = shown.into_iter().map(|(lease, _)| lease).collect();
    Ok(Json(List { items: shown.into_iter().map(LeaseView::from).collect(), next }))
}

/// Takes a lease: nothing new begins there until it is released or has run out
#[utoipa::path(post, path = "/leases", tag = "sites", operation_id = "take_lease", request_body = LeaseBody,
    responses((status = 201, body = LeaseView), (status = 404, body = ProblemBody), (status = 422, body = ProblemBody)))]
async fn take(
    State(app): State<App>,
    acting: Acting,
    Json(body): Json<LeaseBody>,
) -> Answer<(StatusCode, Json<LeaseView>)> {
    let reason = WhyBody { reason: body.reason }.needed()?.to_owned();
    if !(1..=LEASE_S_MAX).contains(&body.for_s) {
        return Err(Problem::invalid(
            "/for_s",
            "a lease lasts a second to 31 days; take it again if you need more",
        ));
    }
    let of = match (body.device, body.site) {
        (Some(device), None) => Scope::Device(device),
        (None, Some(site)) => Scope::Site(site),
        (Some(_), Some(_)) | (None, None) => {
            return Err(Problem::invalid("/site", "name either a device or a site"));
        }
    };
    let owner = body.owner.unwrap_or_else(|| acting.0.clone()).trim().to_owned();
    if owner.is_empty() || owner.chars().count() > OWNER_CHARS_MAX {
        return Err(Problem::invalid("/owner", "an owner is a name of 1 to 64 characters"));
    }
    let moment = app.fleet.clocks.moment();
    let expires = moment.at.plus(Duration::from_secs(body.for_s));
    let id = LeaseId::mint(mint::random()?);
    let lease = HeldLease { id, of, owner, reason, taken: moment.at, expires };
    let mut tx = app.fleet.store.write().await?;
    let what = named(&mut tx, &lease.of).await?;
    match leases::take(&mut tx, &lease).await? {
        Taken::Taken => {}
        Taken::TooMany => {
            let detail = format!("{LEASES_MAX} leases are held already");
            return Err(Problem::new(Code::State, detail).next("release some: muster lease list"));
        }
    }
    let sentence = format!("{} holds {what} until {expires}: {}", lease.owner, lease.reason);
    append(&app, &mut tx, "lease.taken", subject(&lease.of), sentence, &acting).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(lease.into())))
}

/// Releases a lease before it runs out
#[utoipa::path(post, path = "/leases/{id}/release", tag = "sites", operation_id = "release_lease",
    params(("id" = String, Path)), request_body = WhyBody,
    responses((status = 200, body = LeaseView), (status = 404, body = ProblemBody)))]
async fn release(
    State(app): State<App>,
    Id(id): Id<LeaseId>,
    acting: Acting,
    Json(why): Json<WhyBody>,
) -> Answer<Json<LeaseView>> {
    let reason = why.reason()?;
    let mut tx = app.fleet.store.write().await?;
    let held = leases::get(&mut tx, &id, app.fleet.clocks.trust.now()).await?;
    let lease = held.ok_or_else(|| Problem::not_found("lease", &id))?;
    leases::release(&mut tx, &lease).await?;
    let what = named(&mut tx, &lease.of).await?;
    let sentence = format!("released {what}, held by {}{}", lease.owner, because(reason));
    append(&app, &mut tx, "lease.released", subject(&lease.of), sentence, &acting).await?;
    tx.commit().await?;
    Ok(Json(lease.into()))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Freeze)]
struct FreezeView {
    /// Absent if the whole fleet is frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<String>,
    since: Time,
    by: String,
    reason: String,
}

impl From<HeldFreeze> for FreezeView {
    fn from(freeze: HeldFreeze) -> Self {
        let HeldFreeze { site, since, by, reason } = freeze;
        Self { site: site.map(|site| site.to_string()), since: since.into(), by, reason }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FreezeScope)]
struct FreezeBody {
    /// The whole fleet, if absent.
    #[schema(value_type = Option<String>)]
    site: Option<SiteName>,
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: String,
}

/// What is frozen now
#[utoipa::path(get, path = "/freezes", tag = "sites", operation_id = "list_freezes",
    responses((status = 200, body = List<FreezeView>)))]
async fn list_freezes(State(app): State<App>, sight: Sight) -> Answer<Json<List<FreezeView>>> {
    let mut all = freezes::all(&mut app.fleet.store.read().await?).await?;
    // That the whole fleet is frozen concerns everybody.
    all.retain(|freeze| freeze.site.as_ref().is_none_or(|site| sight.site(site)));
    Ok(Json(List { items: all.into_iter().map(FreezeView::from).collect(), next: None }))
}

/// Freezes a site or the whole fleet: nothing is handed out or permitted there until it is thawed
#[utoipa::path(post, path = "/freezes", tag = "sites", operation_id = "freeze", request_body = FreezeBody,
    responses((status = 200, body = List<FreezeView>),
        (status = 409, description = "Too many sites are frozen", body = ProblemBody), (status = 422, body = ProblemBody)))]
async fn freeze(
    State(app): State<App>,
    sight: Sight,
    acting: Acting,
    Json(body): Json<FreezeBody>,
) -> Answer<Json<List<FreezeView>>> {
    let reason = WhyBody { reason: body.reason }.needed()?.to_owned();
    let since: Timestamp = app.fleet.clocks.trust.now();
    let new = HeldFreeze { site: body.site, since, by: acting.0.clone(), reason };
    let mut tx = app.fleet.store.write().await?;
    match freezes::freeze(&mut tx, &new).await? {
        Frozen::Frozen => {}
        Frozen::TooMany => {
            let detail = format!("{FREEZES_MAX} sites are frozen already");
            return Err(Problem::new(Code::State, detail).next("freeze the whole fleet: muster freeze"));
        }
    }
    let sentence = format!("froze {}: {}", scope(new.site.as_ref()), new.reason);
    append(&app, &mut tx, "fleet.frozen", scope(new.site.as_ref()), sentence, &acting).await?;
    tx.commit().await?;
    list_freezes(State(app), sight).await
}

/// Thaws a site or the whole fleet; a freeze of the other holds on
#[utoipa::path(post, path = "/freezes/thaw", tag = "sites", operation_id = "thaw", request_body = FreezeBody,
    responses((status = 200, body = List<FreezeView>), (status = 409, description = "It is not frozen", body = ProblemBody)))]
async fn thaw(
    State(app): State<App>,
    sight: Sight,
    acting: Acting,
    Json(body): Json<FreezeBody>,
) -> Answer<Json<List<FreezeView>>> {
    let reason = WhyBody { reason: body.reason }.reason()?.to_owned();
    let mut tx = app.fleet.store.write().await?;
    let what = scope(body.site.as_ref());
    if !freezes::thaw(&mut tx, body.site.as_ref()).await? {
        let problem = Problem::new(Code::State, format!("{what} is not frozen"));
        return Err(problem.next("see what is: muster freeze --list"));
    }
    let sentence = format!("thawed {what}{}", because(&reason));
    append(&app, &mut tx, "fleet.thawed", what, sentence, &acting).await?;
    tx.commit().await?;
    list_freezes(State(app), sight).await
}

fn scope(site: Option<&SiteName>) -> String {
    site.map_or_else(|| "the fleet".to_owned(), ToString::to_string)
}

fn subject(of: &Scope) -> String {
    match of {
        Scope::Device(device) => device.to_string(),
        Scope::Site(site) => site.to_string(),
    }
}

async fn named(tx: &mut ControlTx, of: &Scope) -> Answer<String> {
    match of {
        Scope::Site(site) => Ok(site.to_string()),
        Scope::Device(device) => {
            let found = devices::get(tx, device).await?;
            Ok(found.ok_or_else(|| Problem::not_found("device", device))?.name)
        }
    }
}
