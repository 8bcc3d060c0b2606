//! What each site allows: when its boxes may fetch, when they may switch, how many at once, and whether somebody is asked.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::ids::SiteName;
use muster_protocol::trust::Consent;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Acting, Id, IfMatch, Json, Query};
use super::page::{List, Paging};
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::sight::Sight;
use crate::rollout::SiteRules;
use crate::rollout::calendar::{Hours, Zone};
use crate::store::log::{self, NewEntry};
use crate::store::{Saved, Versioned, sites};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put))
}

/// A site's rules; what is left out allows everything.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = SiteRules)]
struct RulesBody {
    /// An IANA zone, such as `Europe/Berlin`: what the windows are written in.
    #[schema(value_type = String, default = "UTC", example = "Europe/Berlin")]
    zone: Zone,
    /// When boxes may fetch and test.
    #[schema(value_type = HoursBody)]
    download: Hours,
    /// When boxes may switch: the moment that somebody could notice.
    #[schema(value_type = HoursBody)]
    activation: Hours,
    /// Boxes that may fetch or switch at the same moment.
    in_flight_max: Option<u32>,
    /// Whether somebody at the box must say yes before it switches.
    consent: ConsentBody,
}

/// Weekly windows of a site.
#[derive(ToSchema)]
#[schema(as = SiteHours)]
#[expect(
    dead_code,
    reason = "describes what the mind's own type reads and writes; the mind knows nothing of documents"
)]
struct HoursBody {
    /// Such as `daily 22:00-05:00` or `sat,sun 01:00-06:00`; none means always.
    #[schema(required = false)]
    windows: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ConsentRule)]
enum ConsentBody {
    #[default]
    NotNeeded,
    Ask,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Site)]
struct SiteView {
    site: String,
    /// An IANA zone, such as `Europe/Berlin`: what the windows are written in.
    #[schema(value_type = String)]
    zone: Zone,
    #[schema(value_type = HoursBody)]
    download: Hours,
    #[schema(value_type = HoursBody)]
    activation: Hours,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight_max: Option<u32>,
    consent: ConsentBody,
    /// For If-Match; 0 if the site has no rules of its own.
    revision: u64,
}

impl From<Consent> for ConsentBody {
    fn from(consent: Consent) -> Self {
        match consent {
            Consent::NotNeeded => Self::NotNeeded,
            Consent::Ask => Self::Ask,
        }
    }
}

impl From<RulesBody> for SiteRules {
    fn from(body: RulesBody) -> Self {
        let RulesBody { zone, download, activation, in_flight_max, consent } = body;
        let consent = match consent {
            ConsentBody::NotNeeded => Consent::NotNeeded,
            ConsentBody::Ask => Consent::Ask,
        };
        Self { zone, download, activation, in_flight_max, consent }
    }
}

impl SiteView {
    fn of(site: &SiteName, Versioned { revision, document }: Versioned<SiteRules>) -> Self {
        let SiteRules { zone, download, activation, in_flight_max, consent } = document;
        Self {
            site: site.to_string(),
            zone,
            download,
            activation,
            in_flight_max,
            consent: consent.into(),
            revision,
        }
    }
}

/// Sites that have rules, by name
#[utoipa::path(get, path = "/sites", tag = "sites", operation_id = "list_sites", params(Paging),
    responses((status = 200, body = List<SiteView>), (status = 400, body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    sight: Sight,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<SiteView>>> {
    let mut db = app.fleet.store.read().await?;
    let mut filling = paging.filling()?;
    while let Some(page) = filling.page() {
        let read = sites::list(&mut db, page).await?;
        filling.add(read, |(site, _)| site.clone(), |(site, _)| sight.site(site));
    }
    let (shown, next) = filling.cut(|(site, _)| site.clone());
    let items = shown.into_iter().map(|(site, rules)| SiteView::of(&site, rules)).collect();
    Ok(Json(List { items, next }))
}

/// A site's rules
#[utoipa::path(get, path = "/sites/{site}", tag = "sites", operation_id = "get_site",
    params(("site" = String, Path)),
    responses((status = 200, body = SiteView, headers(("etag" = String, description = "Its revision")))))]
async fn get(State(app): State<App>, Id(site): Id<SiteName>) -> Answer<Response> {
    let found = sites::get(&mut app.fleet.store.read().await?, &site).await?;
    // Nobody has to set rules: a site without any allows everything.
    let rules = found.unwrap_or(Versioned { revision: 0, document: SiteRules::default() });
    Ok(shown(&site, rules))
}

/// Sets a site's rules
#[utoipa::path(put, path = "/sites/{site}", tag = "sites", operation_id = "put_site",
    params(("site" = String, Path), ("if-match" = Option<String>, Header, description = "The revision you saw")),
    request_body = RulesBody,
    responses((status = 200, body = SiteView), (status = 412, body = ProblemBody), (status = 422, body = ProblemBody)))]
async fn put(
    State(app): State<App>,
    Id(site): Id<SiteName>,
    seen: IfMatch,
    acting: Acting,
    Json(body): Json<RulesBody>,
) -> Answer<Response> {
    let rules = SiteRules::from(body);
    if rules.in_flight_max == Some(0) {
        return Err(Problem::invalid(
            "/in_flight_max",
            "no box could ever be reached; freeze the site instead",
        ));
    }
    let mut tx = app.fleet.store.write().await?;
    let before = sites::get(&mut tx, &site).await?.map_or(0, |before| before.revision);
    seen.check(before)?;
    let revision = match sites::save(&mut tx, &site, before, &rules).await? {
        Saved::Saved { revision } => revision,
        Saved::Stale => {
            return Err(Problem::new(Code::Stale, "somebody was faster").next("look again, then repeat"));
        }
    };
    let entry = NewEntry {
        when: app.fleet.clocks.moment(),
        kind: "site.set",
        subject: site.to_string(),
        sentence: format!("set the rules of {site}: {}", said(&rules)).into(),
        actor: acting.for_log(),
    };
    log::append(&mut tx, &entry).await?;
    tx.commit().await?;
    Ok(shown(&site, Versioned { revision, document: rules }))
}

fn said(rules: &SiteRules) -> String {
    let hours = |hours: &Hours| {
        let windows: Vec<String> = hours.windows.iter().map(ToString::to_string).collect();
        if windows.is_empty() { "always".to_owned() } else { windows.join(" and ") }
    };
    let (download, activation) = (hours(&rules.download), hours(&rules.activation));
    let at_once = rules.in_flight_max.map_or_else(String::new, |max| format!(", {max} at once"));
    let consent = if rules.consent.is_not_needed() { "" } else { ", with consent at the box" };
    format!(
        "download {download}, activate {activation} ({}){at_once}{consent}",
        String::from(rules.zone.clone())
    )
}

fn shown(site: &SiteName, rules: Versioned<SiteRules>) -> Response {
    let revision = rules.revision;
    let mut response = Json(SiteView::of(site, rules)).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
