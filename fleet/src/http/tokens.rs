//! Tokens of programs and command lines: shown once, good for what they were made for, and no longer than that.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use muster_protocol::ids::{Digest, ModelName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::caller::{Caller, Proof, Proven, TOKEN_PREFIX};
use super::extract::{Acting, Id, Json, Query};
use super::page::{List, Paging};
use super::parts::append;
use super::people::said;
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::time::Time;
use crate::identity::{Grant, Permission, ProjectName, Role, TOKEN_LIFE_MAX, TokenScope};
use crate::mint;
use crate::store::tokens::{self, TOKENS_MAX, Token};
use crate::store::{NewestFirst, projects};
use muster_protocol::time::Timestamp;

const LIFE_S_DEFAULT: u64 = 90 * 86_400;
const MODELS_MAX: usize = 100;
/// How long a token that has expired is still listed.
const LISTED_FOR: Duration = Duration::from_hours(90 * 24);

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Token)]
struct TokenView {
    id: String,
    person: String,
    label: String,
    /// The only project it reaches; absent if it reaches all of its owner's.
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    /// `viewer`, `operator`, `approver`, `admin` or `builder`: no more than its owner is.
    role: &'static str,
    /// Of a builder's: the only models it builds; none if all of the project.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    models: Vec<String>,
    /// `good`, `expired` or `revoked`.
    state: &'static str,
    made: Time,
    expires: Time,
    /// Within a minute; absent if it was never used.
    used: Option<Time>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewToken)]
struct NewBody {
    /// What it is for.
    #[schema(max_length = 120)]
    label: String,
    /// All of yours, if absent.
    #[schema(value_type = Option<String>)]
    project: Option<ProjectName>,
    role: TokenRole,
    /// Of a builder's: the only models it builds.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 100)]
    models: BTreeSet<ModelName>,
    /// For how long, in seconds: 90 days if absent, 366 at most.
    #[serde(default = "life")]
    #[schema(minimum = 1, maximum = 31_622_400, default = 7_776_000)]
    for_s: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum TokenRole {
    Viewer,
    Operator,
    Approver,
    Admin,
    /// Takes runs and brings what was built.
    Builder,
}

/// What was made. The secret is shown this once.
#[derive(Serialize, ToSchema)]
#[schema(as = NewTokenMade)]
struct NewView {
    token: TokenView,
    /// What to send: `Authorization: Bearer` and this.
    secret: String,
}

fn life() -> u64 {
    LIFE_S_DEFAULT
}

impl TokenView {
    fn of(token: Token, now: Timestamp) -> Self {
        let state = match token.revoked {
            Some(_) => "revoked",
            None if token.is_good(now) => "good",
            None => "expired",
        };
        let (role, models) = match token.scope.grant {
            Grant::Role(role) => (role.as_str(), Vec::new()),
            Grant::Builder(models) => ("builder", models.into_iter().map(String::from).collect()),
        };
        Self {
            id: token.id,
            person: token.person.to_string(),
            label: token.label,
            project: token.scope.project.map(String::from),
            role,
            models,
            state,
            made: token.made.into(),
            expires: token.expires.into(),
            used: token.used.map(Into::into),
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TokenQuery {
    /// Those of all people; for administrators of the fleet.
    #[serde(default)]
    all: bool,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Your tokens, the newest first; never their secrets
#[utoipa::path(get, path = "/tokens", tag = "identity", operation_id = "list_tokens", params(TokenQuery),
    responses((status = 200, body = List<TokenView>), (status = 400, body = ProblemBody),
        (status = 409, description = "Nobody logs in here: the server runs in the open mode", body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<TokenQuery>,
) -> Answer<Json<List<TokenView>>> {
    let proven = caller.proven()?;
    let of = if query.all && proven.grants.may_everywhere(Permission::Administer) {
        None
    } else {
        Some(&proven.name)
    };
    let paging = Paging { limit: query.limit, cursor: query.cursor };
    let now = app.fleet.clocks.trust.now();
    let read = tokens::list(&mut app.fleet.store.read().await?, of, &paging.page()?).await?;
    let (shown, next) = paging.cut(read, |token| NewestFirst { at: token.made, id: token.id.clone() })?;
    Ok(Json(List { items: shown.into_iter().map(|token| TokenView::of(token, now)).collect(), next }))
}

/// Makes a token; its secret is shown this once
#[utoipa::path(post, path = "/tokens", tag = "identity", operation_id = "create_token", request_body = NewBody,
    responses((status = 201, body = NewView), (status = 409, body = ProblemBody), (status = 422, body = ProblemBody)))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    acting: Acting,
    Json(body): Json<NewBody>,
) -> Answer<(StatusCode, Json<NewView>)> {
    let proven = caller.proven()?;
    let label = said(&body.label)
        .map_err(|_| Problem::invalid("/label", "say in 1 to 120 characters what it is for"))?;
    if !(1..=TOKEN_LIFE_MAX.as_secs()).contains(&body.for_s) {
        return Err(Problem::invalid("/for_s", "a token is good for a second to 366 days"));
    }
    let scope = TokenScope { grant: grant(body.role, body.models)?, project: body.project };
    let now = app.fleet.clocks.trust.now();
    let expires = now.plus(Duration::from_secs(body.for_s));
    let expires = allowed(proven, &scope, expires)?;
    let mut tx = app.fleet.store.write().await?;
    if let Some(project) = &scope.project
        && (!projects::exists(&mut tx, project).await? || !proven.grants.reaches(project, None))
    {
        return Err(Problem::not_found("project", project));
    }
    let secret = hex::encode(mint::secret()?);
    let id = hex::encode(mint::random()?);
    let token = Token {
        id,
        person: proven.name.clone(),
        label,
        scope,
        made: now,
        expires,
        used: None,
        revoked: None,
    };
    tokens::trim(&mut tx, now.minus(LISTED_FOR), 100).await?;
    if !tokens::add(&mut tx, &token, &Digest::of(secret.as_bytes())).await? {
        let problem =
            Problem::new(Code::State, format!("{} has {TOKENS_MAX} good tokens already", proven.name));
        return Err(problem.next("revoke some: muster token list"));
    }
    let sentence = format!("made the token '{}', good until {expires}", token.label);
    append(&app, &mut tx, "token.made", token.id.clone(), sentence, &acting).await?;
    tx.commit().await?;
    let secret = format!("{TOKEN_PREFIX}{}_{secret}", token.id);
    Ok((StatusCode::CREATED, Json(NewView { token: TokenView::of(token, now), secret })))
}

/// Takes a token back: yours or, for administrators of the fleet, anybody's
#[utoipa::path(post, path = "/tokens/{id}/revoke", tag = "identity", operation_id = "revoke_token",
    params(("id" = String, Path)), responses((status = 200, body = TokenView), (status = 404, body = ProblemBody),
        (status = 409, description = "Nobody logs in here: the server runs in the open mode", body = ProblemBody)))]
async fn revoke(
    State(app): State<App>,
    caller: Caller,
    acting: Acting,
    Id(id): Id<String>,
) -> Answer<Json<TokenView>> {
    let proven = caller.proven()?;
    let absent = || Problem::not_found("token", id.chars().take(64).collect::<String>());
    let now = app.fleet.clocks.trust.now();
    let mut tx = app.fleet.store.write().await?;
    let (token, _) = tokens::get(&mut tx, &id).await?.ok_or_else(absent)?;
    if token.person != proven.name && !proven.grants.may_everywhere(Permission::Administer) {
        return Err(absent());
    }
    tokens::revoke(&mut tx, &id, now).await?;
    let sentence = format!("revoked the token '{}' of {}", token.label, token.person);
    append(&app, &mut tx, "token.revoked", id.clone(), sentence, &acting).await?;
    tx.commit().await?;
    Ok(Json(TokenView::of(Token { revoked: token.revoked.or(Some(now)), ..token }, now)))
}

fn grant(role: TokenRole, models: BTreeSet<ModelName>) -> Answer<Grant> {
    let role = match role {
        TokenRole::Builder if models.len() <= MODELS_MAX => return Ok(Grant::Builder(models)),
        TokenRole::Builder => {
            return Err(Problem::invalid("/models", format!("name at most {MODELS_MAX} models")));
        }
        TokenRole::Viewer => Role::Viewer,
        TokenRole::Operator => Role::Operator,
        TokenRole::Approver => Role::Approver,
        TokenRole::Admin => Role::Admin,
    };
    if models.is_empty() {
        Ok(Grant::Role(role))
    } else {
        Err(Problem::invalid("/models", "only a builder's token is of single models"))
    }
}

/// A token makes none that may more, or that outlives it.
fn allowed(proven: &Proven, scope: &TokenScope, expires: Timestamp) -> Answer<Timestamp> {
    match &proven.by {
        Proof::Session { .. } => Ok(expires),
        Proof::Token { scope: own, .. } if own.covers(scope) => Ok(expires.min(proven.until)),
        Proof::Token { .. } => {
            Err(Problem::new(Code::Forbidden, "a token makes none that may more than itself").next("log in"))
        }
    }
}
