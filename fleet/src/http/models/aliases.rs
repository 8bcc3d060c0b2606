//! Names that people give to versions. Two are the fleet's own: who has won, and who wants to.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use muster_protocol::ids::{AliasName, ModelName};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::App;
use super::super::extract::{Acting, Ids, IfMatch, Json, with_revision};
use super::super::parts::{WhyBody, append, because};
use super::super::problem::{Answer, Code, Problem, ProblemBody};
use super::view::AliasView;
use super::{Called, find, stale};
use crate::registry::{ALIASES_MAX, is_kept};
use crate::store::Saved;
use crate::store::aliases::{self, Alias};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(put)).routes(routes!(remove))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewAlias)]
struct AliasBody {
    /// The version, its SHA-256, or `@` and another alias.
    version: String,
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: String,
}

/// Points a name at a version
#[utoipa::path(put, path = "/models/{model}/aliases/{alias}", tag = "registry", operation_id = "put_model_alias",
    params(("model" = String, Path), ("alias" = String, Path),
        ("if-match" = Option<String>, Header, description = "The revision you saw; 0 if there was none")),
    request_body = AliasBody,
    responses((status = 200, body = AliasView), (status = 404, body = ProblemBody),
        (status = 409, description = "The fleet moves this name by itself", body = ProblemBody),
        (status = 412, body = ProblemBody), (status = 422, body = ProblemBody)))]
async fn put(
    State(app): State<App>,
    Ids(model, name): Ids<ModelName, AliasName>,
    seen: IfMatch,
    acting: Acting,
    Json(AliasBody { version, reason }): Json<AliasBody>,
) -> Answer<Response> {
    ours(&name)?;
    let why = WhyBody { reason };
    let reason = why.reason()?;
    let called: Called = version.parse().map_err(|error| Problem::invalid("/version", format!("{error}")))?;
    let mut tx = app.fleet.store.write().await?;
    let bundle = find(&mut tx, &model, &called).await?;
    let before = aliases::get(&mut tx, &model, &name).await?;
    seen.check(before.as_ref().map_or(0, |alias| alias.revision))?;
    if before.is_none() {
        let named = aliases::of(&mut tx, &model).await?;
        if named.iter().filter(|alias| !is_kept(&alias.name)).count() >= ALIASES_MAX {
            let detail = format!("{model} has {ALIASES_MAX} aliases, as many as a model may");
            return Err(Problem::new(Code::State, detail).next("remove one: muster model alias --remove"));
        }
    }
    let mut alias = Alias {
        revision: before.map_or(0, |alias| alias.revision),
        bundle: bundle.sha256,
        at: app.fleet.clocks.trust.now(),
        actor: acting.for_log(),
        reason: reason.to_owned(),
        name,
    };
    match aliases::save(&mut tx, &model, &alias).await? {
        Saved::Saved { revision } => alias.revision = revision,
        Saved::Stale => return Err(stale()),
    }
    let sentence = format!("{} of {model} is {} now{}", alias.name, bundle.path.version(), because(reason));
    append(&app, &mut tx, "alias.moved", model.to_string(), sentence, &acting).await?;
    let view = AliasView::of(&mut tx, &alias).await?;
    tx.commit().await?;
    Ok(with_revision(alias.revision, Json(view)))
}

/// Takes a name away
#[utoipa::path(post, path = "/models/{model}/aliases/{alias}/remove", tag = "registry",
    operation_id = "remove_model_alias", params(("model" = String, Path), ("alias" = String, Path)),
    request_body = WhyBody,
    responses((status = 204), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
async fn remove(
    State(app): State<App>,
    Ids(model, name): Ids<ModelName, AliasName>,
    acting: Acting,
    Json(why): Json<WhyBody>,
) -> Answer<StatusCode> {
    ours(&name)?;
    let reason = because(why.reason()?);
    let mut tx = app.fleet.store.write().await?;
    if !aliases::remove(&mut tx, &model, &name).await? {
        return Err(Problem::not_found("alias", format!("{model}@{name}")));
    }
    let sentence = format!("{model} has no {name} any more{reason}");
    append(&app, &mut tx, "alias.moved", model.to_string(), sentence, &acting).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn ours(name: &AliasName) -> Answer<()> {
    if is_kept(name) {
        let detail = format!("'{name}' follows rollouts and the catalogue by itself");
        return Err(Problem::new(Code::State, detail).next("choose another name"));
    }
    Ok(())
}
