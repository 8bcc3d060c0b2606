//! Who I am here, and where I am logged in.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::caller::{Caller, Proof, Proven};
use super::extract::{Acting, Id, Json};
use super::login::hashed;
use super::page::List;
use super::parts::append;
use super::people::new_password;
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::time::Time;
use crate::identity::{Grant, Permission};
use crate::password;
use crate::store::people;
use crate::store::sessions::{self, Session};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(me))
        .routes(routes!(set_password))
        .routes(routes!(list))
        .routes(routes!(revoke))
}

#[derive(Debug, Serialize, ToSchema)]
struct Me {
    /// `open`: whoever reaches this server is the operator. `required`: you have shown who you are.
    mode: &'static str,
    name: String,
    /// As other people know you.
    display: String,
    /// What you are, by project.
    roles: Vec<MyRole>,
    /// You may administer the whole fleet.
    administrator: bool,
    /// `session`, `token`, or `address` in the open mode.
    by: &'static str,
    /// When the session or the token ends, as things stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Time>,
}

#[derive(Debug, Serialize, ToSchema)]
struct MyRole {
    project: String,
    /// `viewer`, `operator`, `approver`, `admin` or `builder`.
    role: &'static str,
}

impl Me {
    fn open() -> Self {
        Self {
            mode: "open",
            name: "operator".to_owned(),
            display: "whoever reaches this machine".to_owned(),
            roles: Vec::new(),
            administrator: true,
            by: "address",
            until: None,
        }
    }

    fn of(proven: &Proven) -> Self {
        let role = |grant: &Grant| match grant {
            Grant::Role(role) => role.as_str(),
            Grant::Builder(_) => "builder",
        };
        let roles = proven.grants.each();
        Self {
            mode: "required",
            name: proven.name.to_string(),
            display: proven.display.clone(),
            roles: roles
                .map(|(project, grant)| MyRole { project: project.to_string(), role: role(grant) })
                .collect(),
            administrator: proven.grants.may_everywhere(Permission::Administer),
            by: match proven.by {
                Proof::Session { .. } => "session",
                Proof::Token { .. } => "token",
            },
            until: Some(proven.until.into()),
        }
    }
}

/// Who you are here
#[utoipa::path(get, path = "/me", tag = "identity", operation_id = "get_me", responses((status = 200, body = Me)))]
async fn me(caller: Caller) -> Answer<Json<Me>> {
    Ok(Json(match &caller {
        Caller::Open => Me::open(),
        Caller::Proven(_) | Caller::Nobody { .. } => Me::of(caller.proven()?),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPassword)]
struct PasswordBody {
    /// The one that you have.
    #[schema(max_length = 256, format = Password)]
    old: String,
    #[schema(min_length = 12, max_length = 256, format = Password)]
    new: String,
}

/// Changes your password, and ends your other sessions
#[utoipa::path(put, path = "/me/password", tag = "identity", operation_id = "put_password", request_body = PasswordBody,
    responses((status = 204), (status = 409, body = ProblemBody), (status = 422, body = ProblemBody)))]
async fn set_password(
    State(app): State<App>,
    caller: Caller,
    acting: Acting,
    Json(body): Json<PasswordBody>,
) -> Answer<StatusCode> {
    let proven = caller.proven()?;
    let Proof::Session { id } = &proven.by else {
        return Err(Problem::new(Code::State, "a password is changed in a session, not with a token"));
    };
    let PasswordBody { old, new } = body;
    let known = people::password(&mut app.fleet.store.read().await?, &proven.name).await?;
    let verified = known.clone();
    if !hashed(&app, move || password::verify(&old, verified.as_deref())).await? {
        return Err(Problem::invalid("/old", "this is not your password"));
    }
    let hash = new_password(&app, "/new", new).await?;
    let mut tx = app.fleet.store.write().await?;
    // Hashing takes a while: an administrator may have set another password meanwhile, which is what counts.
    if people::password(&mut tx, &proven.name).await? != known {
        return Err(Problem::invalid("/old", "your password was changed meanwhile; log in again"));
    }
    people::set_password(&mut tx, &proven.name, &hash).await?;
    for other in sessions::list(&mut tx, &proven.name).await? {
        if other.id != *id {
            sessions::end(&mut tx, &other.id, &proven.name).await?;
        }
    }
    let sentence = format!("{} has a new password", proven.name);
    append(&app, &mut tx, "person.password", proven.name.to_string(), sentence, &acting).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
struct SessionView {
    id: String,
    made: Time,
    /// Within a minute.
    seen: Time,
    /// What the browser calls itself.
    agent: String,
    /// The one that you ask with.
    this: bool,
}

/// Where you are logged in, the newest first
#[utoipa::path(get, path = "/sessions", tag = "identity", operation_id = "list_sessions",
    responses((status = 200, body = List<SessionView>),
        (status = 409, description = "Nobody logs in here: the server runs in the open mode", body = ProblemBody)))]
async fn list(State(app): State<App>, caller: Caller) -> Answer<Json<List<SessionView>>> {
    let proven = caller.proven()?;
    let now = app.fleet.clocks.trust.now();
    let mut all = sessions::list(&mut app.fleet.store.read().await?, &proven.name).await?;
    all.retain(|session| crate::identity::session_lives(session.made, session.seen, now));
    let view = |Session { id, made, seen, agent, .. }: Session| SessionView {
        this: proven.by == Proof::Session { id: id.clone() },
        id,
        made: made.into(),
        seen: seen.into(),
        agent,
    };
    Ok(Json(List { items: all.into_iter().map(view).collect(), next: None }))
}

/// Ends one of your sessions
#[utoipa::path(post, path = "/sessions/{id}/revoke", tag = "identity", operation_id = "revoke_session",
    params(("id" = String, Path)), responses((status = 204), (status = 404, body = ProblemBody),
        (status = 409, description = "Nobody logs in here: the server runs in the open mode", body = ProblemBody)))]
async fn revoke(State(app): State<App>, caller: Caller, Id(id): Id<String>) -> Answer<StatusCode> {
    let proven = caller.proven()?;
    let mut tx = app.fleet.store.write().await?;
    if !sessions::end(&mut tx, &id, &proven.name).await? {
        return Err(Problem::not_found("session", id.chars().take(64).collect::<String>()));
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
