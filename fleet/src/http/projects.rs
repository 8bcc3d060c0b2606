//! Projects, and which sites, models and datasets belong to each.

use axum::extract::State;
use axum::http::StatusCode;
use muster_protocol::ids::{DatasetName, ModelName, SiteName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Acting, Id, Json, Query};
use super::page::{List, Paging};
use super::parts::append;
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::sight::Sight;
use super::time::Time;
use crate::identity::ProjectName;
use crate::store::projects::{self, ASSIGNED_MAX, Of, Owned, Project};

/// Sites, models and datasets moved at once.
const MOVED_MAX: usize = 500;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(assign))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Project)]
struct ProjectView {
    name: String,
    /// Assigned to it. `default` has all that no other project has.
    sites: Vec<String>,
    models: Vec<String>,
    datasets: Vec<String>,
    made: Time,
    made_by: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewProject)]
struct NewBody {
    #[schema(value_type = String, max_length = 64)]
    name: ProjectName,
}

/// What becomes a project's, with everything that belongs to it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Assignment)]
struct AssignBody {
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 500)]
    sites: Vec<SiteName>,
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 500)]
    models: Vec<ModelName>,
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 500)]
    datasets: Vec<DatasetName>,
}

impl ProjectView {
    fn of(project: Project, owned: &Owned) -> Self {
        let Project { name, made, made_by } = project;
        let sites = owned.sites.iter().filter(|(_, of)| **of == name).map(|(site, _)| site.to_string());
        let models = owned.models.iter().filter(|(_, of)| **of == name).map(|(model, _)| model.to_string());
        let datasets = owned.datasets.iter().filter(|(_, of)| **of == name).map(|(name, _)| name.to_string());
        Self {
            sites: sites.collect(),
            models: models.collect(),
            datasets: datasets.collect(),
            name: name.to_string(),
            made: made.into(),
            made_by,
        }
    }
}

/// Projects that are yours to see, by name
#[utoipa::path(get, path = "/projects", tag = "identity", operation_id = "list_projects", params(Paging),
    responses((status = 200, body = List<ProjectView>), (status = 400, body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    sight: Sight,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<ProjectView>>> {
    let mut db = app.fleet.store.read().await?;
    let owned = projects::owned(&mut db).await?;
    let mut filling = paging.filling()?;
    while let Some(page) = filling.page() {
        let read = projects::list(&mut db, page).await?;
        filling.add(read, |project| project.name.clone(), |project| sight.project(&project.name));
    }
    let (shown, next) = filling.cut(|project| project.name.clone());
    let items = shown.into_iter().map(|project| ProjectView::of(project, &owned)).collect();
    Ok(Json(List { items, next }))
}

/// Adds a project
#[utoipa::path(post, path = "/projects", tag = "identity", operation_id = "create_project", request_body = NewBody,
    responses((status = 201, body = ProjectView), (status = 409, description = "The name is taken", body = ProblemBody),
        (status = 422, body = ProblemBody)))]
async fn create(
    State(app): State<App>,
    acting: Acting,
    Json(body): Json<NewBody>,
) -> Answer<(StatusCode, Json<ProjectView>)> {
    let NewBody { name } = body;
    let project =
        Project { name: name.clone(), made: app.fleet.clocks.trust.now(), made_by: acting.0.clone() };
    let mut tx = app.fleet.store.write().await?;
    if !projects::add(&mut tx, &project).await? {
        return Err(Problem::new(
            Code::State,
            format!("there is a project {name} already, or there are too many"),
        ));
    }
    append(&app, &mut tx, "project.added", name.to_string(), format!("added the project {name}"), &acting)
        .await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(ProjectView::of(project, &Owned::default()))))
}

/// Moves sites, models and datasets into a project
#[utoipa::path(post, path = "/projects/{name}/assign", tag = "identity", operation_id = "assign_to_project",
    params(("name" = String, Path)), request_body = AssignBody,
    responses((status = 200, body = ProjectView), (status = 404, body = ProblemBody), (status = 422, body = ProblemBody)))]
async fn assign(
    State(app): State<App>,
    Id(name): Id<ProjectName>,
    acting: Acting,
    Json(body): Json<AssignBody>,
) -> Answer<Json<ProjectView>> {
    let AssignBody { sites, models, datasets } = body;
    let (sites, models) = (sites.into_iter().map(Of::Site), models.into_iter().map(Of::Model));
    let moved: Vec<Of> = sites.chain(models).chain(datasets.into_iter().map(Of::Dataset)).collect();
    if moved.is_empty() || moved.len() > MOVED_MAX {
        return Err(Problem::invalid("/sites", format!("name 1 to {MOVED_MAX} sites, models and datasets")));
    }
    let mut tx = app.fleet.store.write().await?;
    let all = projects::list(&mut tx, &crate::store::Page::first(crate::store::LIMIT_MAX)).await?;
    let project = all.into_iter().find(|project| project.name == name);
    let project = project.ok_or_else(|| Problem::not_found("project", &name))?;
    for of in &moved {
        projects::assign(&mut tx, of, &name).await?;
    }
    let owned = projects::owned(&mut tx).await?;
    let most = owned.sites.len().max(owned.models.len()).max(owned.datasets.len());
    let full = i64::try_from(most).unwrap_or(i64::MAX);
    if full >= ASSIGNED_MAX {
        return Err(Problem::invalid(
            "/sites",
            format!("at most {ASSIGNED_MAX} sites, models or datasets are assigned"),
        ));
    }
    let names: Vec<String> = moved
        .iter()
        .map(|of| match of {
            Of::Site(site) => format!("the site {site}"),
            Of::Model(model) => format!("the model {model}"),
            Of::Dataset(name) => format!("the dataset {name}"),
        })
        .collect();
    let sentence = format!("moved {} to {name}", names.join(", "));
    append(&app, &mut tx, "project.assigned", name.to_string(), sentence, &acting).await?;
    tx.commit().await?;
    Ok(Json(ProjectView::of(project, &owned)))
}
