//! Logging in with the identity provider: there, and back.
//!
//! ```text
//!   GET /login/oidc ─▶ what the answer must hold is kept, under a cookie ─▶ 303 to the provider
//!   GET /login/oidc/callback?code&state ─▶ the cookie's login, once ─▶ code for token ─▶ who, which groups ─▶ a session
//! ```
//! Whatever goes wrong on the way back ends at the login page; why stands in the log.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::ids::Digest;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::caller::cookie;
use super::extract::Query;
use super::login::{begin, needed};
use super::pace::Address;
use super::problem::{Answer, Code, Problem, ProblemBody};
use crate::config::OidcConfig;
use crate::identity::PersonName;
use crate::mint;
use crate::oidc::{self, Somebody};
use crate::store::people::{self, Person, Subject};
use crate::store::{ControlTx, logins, projects};

/// How long somebody may take at the provider.
const AWAY: Duration = Duration::from_mins(10);
const CALLBACK: &str = "/api/v1/login/oidc/callback";
/// Tries to find a name that nobody has.
const NAMES_MAX: u32 = 100;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(callback))
}

/// Sends the browser to the identity provider
#[utoipa::path(get, path = "/login/oidc", tag = "identity", operation_id = "start_oidc",
    responses((status = 303, description = "To the provider"), (status = 404, description = "There is none", body = ProblemBody),
        (status = 409, description = "Nobody logs in here: the server runs in the open mode", body = ProblemBody)))]
async fn start(State(app): State<App>, Address(from): Address) -> Answer<Response> {
    let provider = provider(&app)?;
    let now = app.fleet.clocks.trust.now();
    app.pace.begins(from, now)?;
    let (url, login) =
        oidc::begin(provider, &redirect(&app)).await.map_err(|error| Problem::internal(&error))?;
    let secret = hex::encode(mint::secret()?);
    let mut tx = app.fleet.store.write().await?;
    if !logins::add(&mut tx, &Digest::of(secret.as_bytes()), &login, (now, now.plus(AWAY))).await? {
        return Err(
            Problem::new(Code::Busy, "too many people log in at this moment").next("repeat in a moment")
        );
    }
    tx.commit().await?;
    let cookies = app.cookies();
    let mut response = to(&url)?;
    response.headers_mut().insert(header::SET_COOKIE, cookies.set(&cookies.login, &secret, AWAY.as_secs())?);
    Ok(response)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Back {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
}

/// Takes the identity provider's answer, and begins a session
#[utoipa::path(get, path = "/login/oidc/callback", tag = "identity", operation_id = "finish_oidc", params(Back),
    responses((status = 303, description = "To the dashboard, or back to the login page"),
        (status = 404, description = "There is no provider", body = ProblemBody),
        (status = 409, description = "Nobody logs in here: the server runs in the open mode", body = ProblemBody)))]
async fn callback(State(app): State<App>, headers: HeaderMap, Query(back): Query<Back>) -> Answer<Response> {
    let provider = provider(&app)?;
    let cookies = app.cookies();
    let mut response = match come_back(&app, provider, &headers, back).await {
        Ok(response) => response,
        Err(why) => {
            tracing::warn!(why, "a login with the identity provider failed");
            to("/login?failed=oidc")?
        }
    };
    // It was good for this once.
    response.headers_mut().append(header::SET_COOKIE, cookies.set(&cookies.login, "", 0)?);
    Ok(response)
}

async fn come_back(
    app: &App,
    provider: &OidcConfig,
    headers: &HeaderMap,
    back: Back,
) -> Result<Response, String> {
    let cookies = app.cookies();
    let now = app.fleet.clocks.trust.now();
    let failed = |problem: Problem| problem.detail().to_owned();
    let store = |error: crate::store::StoreError| failed(error.into());
    let secret = cookie(headers, &cookies.login).ok_or("this browser did not begin it")?;
    let mut tx = app.fleet.store.write().await.map_err(store)?;
    let login = logins::take(&mut tx, &Digest::of(secret.as_bytes()), now).await.map_err(store)?;
    tx.commit().await.map_err(store)?;
    let login = login.ok_or("it came back twice, or too late")?;
    let Back { code, state, error } = back;
    let state = state.unwrap_or_default();
    if aws_lc_rs::constant_time::verify_slices_are_equal(state.as_bytes(), login.state.as_bytes()).is_err() {
        return Err("the answer is not to what this browser asked".to_owned());
    }
    if let Some(error) = error {
        return Err(format!("the provider said: {}", error.chars().take(100).collect::<String>()));
    }
    let code = code.ok_or("the answer holds no code")?;
    let somebody =
        oidc::finish(provider, &redirect(app), code, &login).await.map_err(|error| error.to_string())?;
    let mut tx = app.fleet.store.write().await.map_err(store)?;
    let name = known(app, &mut tx, provider, somebody).await.map_err(failed)?;
    let mut response = begin(app, &mut tx, &name, headers, StatusCode::SEE_OTHER).await.map_err(failed)?;
    tx.commit().await.map_err(store)?;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
    Ok(response)
}

/// Who it is here, with the roles that the provider's groups say now.
async fn known(
    app: &App,
    tx: &mut ControlTx,
    provider: &OidcConfig,
    somebody: Somebody,
) -> Answer<PersonName> {
    let mut roles = oidc::roles(provider, &somebody.groups);
    for project in roles.keys().cloned().collect::<Vec<_>>() {
        if !projects::exists(tx, &project).await? {
            tracing::warn!(%project, "[identity.oidc] gives roles in a project that there is not");
            roles.remove(&project);
        }
    }
    if roles.is_empty() {
        return Err(Problem::new(Code::Forbidden, "no group of theirs has a role here"));
    }
    let subject = Subject { issuer: &somebody.issuer, subject: &somebody.subject };
    let name = match people::by_subject(tx, subject).await? {
        Some(person) if person.disabled => {
            return Err(Problem::new(Code::Forbidden, "they are let in no more"));
        }
        Some(person) => person.name,
        None => add(app, tx, &somebody, subject).await?,
    };
    people::set_memberships(tx, &name, &roles).await?;
    Ok(name)
}

async fn add(app: &App, tx: &mut ControlTx, somebody: &Somebody, subject: Subject<'_>) -> Answer<PersonName> {
    let wish = somebody.name.as_deref().unwrap_or(&somebody.subject).to_lowercase();
    let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._@-".contains(*c);
    let wish: String = wish.chars().filter(allowed).take(50).collect();
    let display =
        somebody.display.as_deref().filter(|name| super::people::said(name).is_ok()).unwrap_or(&wish);
    // A name that somebody has stays theirs: only the subject says that two are one.
    for n in 1..=NAMES_MAX {
        let name = if n == 1 { wish.clone() } else { format!("{wish}-{n}") };
        let Ok(name) = name.parse::<PersonName>().or_else(|_| format!("p-{name}").parse()) else { break };
        let person = Person {
            name: name.clone(),
            display: if display.is_empty() { name.to_string() } else { display.to_owned() },
            disabled: false,
            provided: true,
            made: app.fleet.clocks.trust.now(),
            made_by: "identity provider".to_owned(),
        };
        if people::add(tx, &person, None, Some(subject)).await? {
            return Ok(name);
        }
    }
    Err(Problem::new(Code::State, "no name is free for them, or there are too many people"))
}

fn provider(app: &App) -> Answer<&OidcConfig> {
    needed(app)?;
    let none = || Problem::new(Code::NotFound, "this server has no identity provider");
    app.fleet.config.identity.oidc.as_ref().ok_or_else(none)
}

fn redirect(app: &App) -> String {
    format!("{}{CALLBACK}", app.url())
}

fn to(place: &str) -> Answer<Response> {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let place = HeaderValue::from_str(place).map_err(|error| Problem::internal(&error))?;
    response.headers_mut().insert(header::LOCATION, place);
    Ok(response)
}
