//! Coming in and going out: the link that makes the first administrator, passwords, sessions.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::ids::Digest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::caller::{Caller, Proof, cookie};
use super::extract::Json;
use super::pace::Address;
use super::people::said;
use super::problem::{Answer, Code, Problem, ProblemBody};
use crate::identity::{PersonName, ProjectName, Role, SESSION_LIFE};
use crate::mint;
use crate::password;
use crate::store::ControlTx;
use crate::store::log::{self, Actor, NewEntry};
use crate::store::people::{self, Person};
use crate::store::sessions::{self, Session};

/// Hashes at the same time.
pub(super) const HASHING_MAX: usize = 2;
const AGENT_CHARS_MAX: usize = 120;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(options, login)).routes(routes!(setup)).routes(routes!(logout))
}

/// The names of our cookies. `__Host-` binds one to this host and to TLS, which only loopback can do without.
pub(super) struct Cookies {
    pub(super) session: String,
    /// Of a login that is at the identity provider.
    pub(super) login: String,
    secure: bool,
}

impl App {
    pub(super) fn cookies(&self) -> Cookies {
        let secure = self.fleet.config.identity.url.as_deref().is_some_and(|url| url.starts_with("https://"));
        let named = |name: &str| if secure { format!("__Host-{name}") } else { name.to_owned() };
        Cookies { session: named("muster"), login: named("muster-login"), secure }
    }

    /// How browsers reach this server.
    pub(super) fn url(&self) -> String {
        let own = || self.fleet.addresses.http.clone();
        self.fleet.config.identity.url.clone().unwrap_or_else(own)
    }
}

impl Cookies {
    pub(super) fn set(&self, name: &str, value: &str, seconds: u64) -> Answer<HeaderValue> {
        let secure = if self.secure { "; Secure" } else { "" };
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
        HeaderValue::from_str(&text).map_err(|error| Problem::internal(&error))
    }
}

/// How one may come in.
#[derive(Debug, Serialize, ToSchema)]
struct LoginOptions {
    /// `open`: whoever reaches this server is the operator. `required`: people prove who they are.
    mode: &'static str,
    /// Nobody has an account yet: the link that the server printed when it started makes the first.
    setup: bool,
    /// What the button for the identity provider says; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Login)]
struct LoginBody {
    #[schema(max_length = 64)]
    name: String,
    #[schema(max_length = 256, format = Password)]
    password: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Setup)]
struct SetupBody {
    /// What stands behind the `#` of the link.
    #[schema(max_length = 128)]
    token: String,
    #[schema(value_type = String, max_length = 64)]
    name: PersonName,
    /// As other people know you.
    #[schema(max_length = 120)]
    display: String,
    #[schema(min_length = 12, max_length = 256, format = Password)]
    password: String,
}

/// Who came in. The session is in the cookie.
#[derive(Debug, Serialize, ToSchema)]
struct Welcome {
    name: String,
}

/// How one may come in
#[utoipa::path(get, path = "/login", tag = "identity", operation_id = "get_login",
    responses((status = 200, body = LoginOptions)))]
async fn options(State(app): State<App>) -> Answer<Json<LoginOptions>> {
    let identity = &app.fleet.config.identity;
    let mode = if identity.is_open() { "open" } else { "required" };
    let setup = !identity.is_open() && !people::any(&mut app.fleet.store.read().await?).await?;
    let provider = identity.oidc.as_ref().filter(|_| !identity.is_open()).map(|oidc| oidc.name.clone());
    Ok(Json(LoginOptions { mode, setup, provider }))
}

/// Begins a session with a password
#[utoipa::path(post, path = "/login", tag = "identity", operation_id = "log_in", request_body = LoginBody,
    responses((status = 200, body = Welcome, description = "The session is in the cookie"),
        (status = 401, body = ProblemBody),
        (status = 409, description = "The server runs in the open mode", body = ProblemBody),
        (status = 422, body = ProblemBody)))]
async fn login(
    State(app): State<App>,
    Address(from): Address,
    headers: HeaderMap,
    Json(body): Json<LoginBody>,
) -> Answer<Response> {
    needed(&app)?;
    let LoginBody { name, password } = body;
    app.pace.tries(&name, from, app.fleet.clocks.trust.now())?;
    let name: Option<PersonName> = name.parse().ok();
    let hash = match &name {
        Some(name) => people::password(&mut app.fleet.store.read().await?, name).await?,
        None => None,
    };
    let verified = hash.clone();
    let right = hashed(&app, move || password::verify(&password, verified.as_deref())).await?;
    let wrong = || {
        tracing::warn!("somebody tried to log in with a name or a password that is wrong");
        Problem::new(Code::Unauthenticated, "the name or the password is wrong")
    };
    let name = name.filter(|_| right).ok_or_else(wrong)?;
    let mut tx = app.fleet.store.write().await?;
    // Hashing takes a while: the password may have been changed meanwhile, and the sessions that it began ended.
    if people::password(&mut tx, &name).await? != hash {
        return Err(wrong());
    }
    let response = begin(&app, &mut tx, &name, &headers, StatusCode::OK).await?;
    tx.commit().await?;
    Ok(response)
}

/// Makes the first administrator
#[utoipa::path(post, path = "/setup", tag = "identity", operation_id = "set_up", request_body = SetupBody,
    responses((status = 201, body = Welcome, description = "The session is in the cookie"),
        (status = 401, description = "The link is not good, or not any more", body = ProblemBody),
        (status = 409, body = ProblemBody), (status = 422, body = ProblemBody)))]
async fn setup(
    State(app): State<App>,
    Address(from): Address,
    headers: HeaderMap,
    Json(body): Json<SetupBody>,
) -> Answer<Response> {
    needed(&app)?;
    app.pace.tries("", from, app.fleet.clocks.trust.now())?;
    let SetupBody { token, name, display, password } = body;
    let display = said(&display)?;
    password::check(&password).map_err(|error| Problem::invalid("/password", error.to_string()))?;
    let bad = || {
        Problem::new(Code::Unauthenticated, "the link is not good, or was used, or is too old")
            .next("start the server again: it prints a new link for as long as nobody has an account")
    };
    let digest = Digest::of(token.as_bytes());
    let now = app.fleet.clocks.trust.now();
    // Before a hash is paid for, and again when it counts.
    if !sessions::is_setup_link(&mut app.fleet.store.read().await?, &digest, now).await? {
        return Err(bad());
    }
    let hash =
        hashed(&app, move || password::hash(&password)).await?.map_err(|error| Problem::internal(&error))?;
    let mut tx = app.fleet.store.write().await?;
    if people::any(&mut tx).await? || !sessions::spend_setup_link(&mut tx, &digest, now).await? {
        return Err(bad());
    }
    let person = Person {
        name: name.clone(),
        display,
        disabled: false,
        provided: false,
        made: now,
        made_by: "setup".to_owned(),
    };
    if !people::add(&mut tx, &person, Some(&hash), None).await? {
        return Err(bad());
    }
    people::set_memberships(&mut tx, &name, &[(ProjectName::default_project(), Role::Admin)].into()).await?;
    let entry = NewEntry {
        when: app.fleet.clocks.moment(),
        kind: "person.added",
        subject: name.to_string(),
        sentence: format!("{name} is the first administrator").into(),
        actor: Actor::Fleet,
    };
    log::append(&mut tx, &entry).await?;
    let response = begin(&app, &mut tx, &name, &headers, StatusCode::CREATED).await?;
    tx.commit().await?;
    Ok(response)
}

/// Ends the session
#[utoipa::path(post, path = "/logout", tag = "identity", operation_id = "log_out", responses((status = 204)))]
async fn logout(State(app): State<App>, caller: Caller) -> Answer<Response> {
    if let Caller::Proven(proven) = &caller
        && let Proof::Session { id } = &proven.by
    {
        let mut tx = app.fleet.store.write().await?;
        sessions::end(&mut tx, id, &proven.name).await?;
        tx.commit().await?;
    }
    let cookies = app.cookies();
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(header::SET_COOKIE, cookies.set(&cookies.session, "", 0)?);
    Ok(response)
}

/// A new session, and whatever the browser had before ends: nobody can have put it there.
pub(super) async fn begin(
    app: &App,
    tx: &mut ControlTx,
    name: &PersonName,
    headers: &HeaderMap,
    status: StatusCode,
) -> Answer<Response> {
    let cookies = app.cookies();
    let now = app.fleet.clocks.trust.now();
    end_former(tx, headers, &cookies).await?;
    sessions::trim(tx, now.minus(SESSION_LIFE)).await?;
    let secret = hex::encode(mint::secret()?);
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let session = Session {
        id: hex::encode(mint::random()?),
        person: name.clone(),
        made: now,
        seen: now,
        agent: agent.chars().take(AGENT_CHARS_MAX).collect(),
    };
    sessions::add(tx, &session, &Digest::of(secret.as_bytes())).await?;
    let entry = NewEntry {
        when: app.fleet.clocks.moment(),
        kind: "person.logged_in",
        subject: name.to_string(),
        sentence: format!("{name} logged in").into(),
        actor: Actor::Person(name.to_string()),
    };
    log::append(tx, &entry).await?;
    let mut response = (status, Json(Welcome { name: name.to_string() })).into_response();
    let set = cookies.set(&cookies.session, &secret, SESSION_LIFE.as_secs())?;
    response.headers_mut().append(header::SET_COOKIE, set);
    Ok(response)
}

async fn end_former(tx: &mut ControlTx, headers: &HeaderMap, cookies: &Cookies) -> Answer<()> {
    let Some(former) = cookie(headers, &cookies.session) else { return Ok(()) };
    if let Some(session) = sessions::by_digest(tx, &Digest::of(former.as_bytes())).await? {
        sessions::end(tx, &session.id, &session.person).await?;
    }
    Ok(())
}

/// Refuses where nobody needs an account.
pub(super) fn needed(app: &App) -> Answer<()> {
    if app.fleet.config.identity.is_open() {
        return Err(Problem::new(
            Code::State,
            "nobody needs an account here: the server runs in the open mode",
        )
        .next("set [identity] mode = \"required\" and start the server again"));
    }
    Ok(())
}

/// Off the threads that others wait for, and never more than [`HASHING_MAX`] at once.
pub(super) async fn hashed<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> T + Send + 'static,
) -> Answer<T> {
    let busy =
        |_| Problem::new(Code::Busy, "too many people log in at this moment").next("repeat in a moment");
    let _seat = app.hashing.clone().acquire_owned().await.map_err(busy)?;
    tokio::task::spawn_blocking(work).await.map_err(|error| Problem::internal(&error))
}
