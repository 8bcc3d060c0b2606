//! The registry: models, their versions, what people call those and where they run.

mod aliases;
mod view;

use axum::extract::State;
use axum::response::Response;
use muster_protocol::ids::{AliasName, BundleVersion, Digest, ModelName};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Acting, Id, Ids, IfMatch, Json, Query};
use super::page::{List, Paging};
use super::parts::{append, timeline};
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::sight::Sight;
use super::survey::Survey;
use crate::rollout::filter::{TAGS_MAX, Tags};
use crate::store::bundles::{self, Bundle};
use crate::store::notes::{self, Notes};
use crate::store::{Control, Saved, aliases as names};

use view::{AliasView, ModelView, NotesView, SummaryView, VersionView};

/// Longest description that people may write on a version.
const DESCRIPTION_CHARS_MAX: usize = 2000;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(version))
        .routes(routes!(put_notes))
        .merge(aliases::router())
}

/// A model's version by its name, its digest, or what people call it (`@champion`).
#[derive(Clone, Debug)]
pub(super) enum Called {
    Digest(Digest),
    Version(BundleVersion),
    Alias(AliasName),
}

impl std::str::FromStr for Called {
    type Err = muster_protocol::ids::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text.strip_prefix('@'), text.parse()) {
            (Some(alias), _) => alias.parse().map(Self::Alias),
            (None, Ok(digest)) => Ok(Self::Digest(digest)),
            (None, Err(_)) => text.parse().map(Self::Version),
        }
    }
}

/// The bundle that is meant, if there is one.
pub(super) async fn find(db: &mut Control, model: &ModelName, called: &Called) -> Answer<Bundle> {
    let found = match called {
        Called::Digest(sha256) => bundles::get(db, sha256).await?.filter(|it| it.path.model() == model),
        Called::Version(version) => bundles::version(db, model, version).await?,
        Called::Alias(alias) => match names::get(db, model, alias).await? {
            Some(alias) => bundles::get(db, &alias.bundle).await?,
            None => return Err(Problem::not_found("version", format!("{model}@{alias}"))),
        },
    };
    found.ok_or_else(|| {
        let what = match called {
            Called::Digest(sha256) => format!("{model} {}", sha256.short()),
            Called::Version(version) => format!("{model} {version}"),
            Called::Alias(alias) => format!("{model}@{alias}"),
        };
        Problem::not_found("version", what)
    })
}

/// Models, by name
#[utoipa::path(get, path = "/models", tag = "registry", operation_id = "list_models", params(Paging),
    responses((status = 200, body = List<SummaryView>), (status = 400, body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    sight: Sight,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<SummaryView>>> {
    let mut db = app.fleet.store.read().await?;
    let mut filling = paging.filling()?;
    while let Some(page) = filling.page() {
        let read = bundles::models(&mut db, page).await?;
        filling.add(read, |model| model.name.clone(), |model| sight.model(&model.name));
    }
    let (shown, next) = filling.cut(|model| model.name.clone());
    let survey = Survey::with(&mut db, &sight).await?;
    let mut items = Vec::with_capacity(shown.len());
    for model in shown {
        let newest = bundles::standing(&mut db, &model.name, 1).await?;
        let aliases = names::of(&mut db, &model.name).await?;
        items.push(SummaryView {
            versions: model.versions,
            newest: newest.first().map(|newest| newest.path.version().to_string()),
            aliases: AliasView::all(&mut db, &aliases).await?,
            devices_running: survey.running(&model.name),
            model: model.name.to_string(),
        });
    }
    Ok(Json(List { items, next }))
}

/// One model with its versions, the newest first
#[utoipa::path(get, path = "/models/{model}", tag = "registry", operation_id = "get_model",
    params(("model" = String, Path), Paging),
    responses((status = 200, body = ModelView), (status = 400, body = ProblemBody), (status = 404, body = ProblemBody)))]
async fn get(
    State(app): State<App>,
    sight: Sight,
    Id(model): Id<ModelName>,
    Query(paging): Query<Paging>,
) -> Answer<Json<ModelView>> {
    let mut db = app.fleet.store.read().await?;
    let read = bundles::list(&mut db, Some(&model), &paging.page()?).await?;
    if read.is_empty() && bundles::standing(&mut db, &model, 1).await?.is_empty() {
        return Err(Problem::not_found("model", &model));
    }
    let (shown, next) = paging.cut(read, Bundle::key)?;
    let named = names::of(&mut db, &model).await?;
    let survey = Survey::with(&mut db, &sight).await?;
    let mut versions = Vec::with_capacity(shown.len());
    for bundle in shown {
        versions.push(VersionView::load(&mut db, bundle, &named, &survey).await?);
    }
    Ok(Json(ModelView {
        devices_running: survey.running(&model),
        aliases: AliasView::all(&mut db, &named).await?,
        versions,
        next,
        timeline: timeline(&mut db, model.as_str()).await?,
        model: model.to_string(),
    }))
}

/// One version of a model
#[utoipa::path(get, path = "/models/{model}/versions/{version}", tag = "registry", operation_id = "get_model_version",
    params(("model" = String, Path),
        ("version" = String, Path, description = "Its version, its SHA-256, or @ and an alias")),
    responses((status = 200, body = VersionView), (status = 404, body = ProblemBody)))]
async fn version(
    State(app): State<App>,
    sight: Sight,
    Ids(model, called): Ids<ModelName, Called>,
) -> Answer<Json<VersionView>> {
    let mut db = app.fleet.store.read().await?;
    let bundle = find(&mut db, &model, &called).await?;
    let named = names::of(&mut db, &model).await?;
    let survey = Survey::with(&mut db, &sight).await?;
    Ok(Json(VersionView::load(&mut db, bundle, &named, &survey).await?))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewVersionNotes)]
struct NotesBody {
    #[serde(default)]
    #[schema(max_length = 2000)]
    description: String,
    /// All of them: what is not here is taken away.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    tags: Tags,
}

/// Replaces what people wrote on a version
#[utoipa::path(put, path = "/models/{model}/versions/{version}/notes", tag = "registry",
    operation_id = "put_version_notes",
    params(("model" = String, Path), ("version" = String, Path),
        ("if-match" = Option<String>, Header, description = "The revision you saw")),
    request_body = NotesBody,
    responses((status = 200, body = NotesView), (status = 404, body = ProblemBody), (status = 412, body = ProblemBody),
        (status = 422, body = ProblemBody)))]
async fn put_notes(
    State(app): State<App>,
    Ids(model, called): Ids<ModelName, Called>,
    seen: IfMatch,
    acting: Acting,
    Json(NotesBody { description, tags }): Json<NotesBody>,
) -> Answer<Response> {
    let description = description.trim().to_owned();
    if description.chars().count() > DESCRIPTION_CHARS_MAX {
        let detail = format!("a description has at most {DESCRIPTION_CHARS_MAX} characters");
        return Err(Problem::invalid("/description", detail));
    }
    if tags.len() > TAGS_MAX {
        return Err(Problem::invalid("/tags", format!("a version has at most {TAGS_MAX} tags")));
    }
    let mut tx = app.fleet.store.write().await?;
    let bundle = find(&mut tx, &model, &called).await?;
    let before = notes::get(&mut tx, &bundle.sha256).await?;
    seen.check(before.revision)?;
    let written = Notes { description, tags };
    let revision = match notes::save(&mut tx, &bundle.sha256, before.revision, &written).await? {
        Saved::Saved { revision } => revision,
        Saved::Stale => return Err(stale()),
    };
    let sentence = format!("wrote on {model} {}", bundle.path.version());
    append(&app, &mut tx, "bundle.noted", bundle.sha256.to_string(), sentence, &acting).await?;
    tx.commit().await?;
    let view = NotesView::from(crate::store::Versioned { revision, document: written });
    Ok(super::extract::with_revision(revision, Json(view)))
}

fn stale() -> Problem {
    Problem::new(Code::Stale, "somebody was faster").next("look again, then repeat")
}
