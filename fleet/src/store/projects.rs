//! Projects, and whose each thing is. Sites, models and datasets belong to one project each; everything else belongs to the project of
//! its site or its model. What is not assigned belongs to `default`.

use std::collections::BTreeMap;

use muster_protocol::ids::{CaptureId, DatasetName, DeviceId, Digest, ModelName, SiteName};
use muster_protocol::time::Timestamp;

use super::convert::{parse, time};
use super::{Control, ControlTx, Page, Result, StoreError, captures};
use crate::identity::ProjectName;

/// Projects beside `default`.
pub const PROJECTS_MAX: i64 = 1000;
/// Sites, models and datasets that are assigned, of each.
pub const ASSIGNED_MAX: i64 = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    pub name: ProjectName,
    pub made: Timestamp,
    pub made_by: String,
}

/// Which site, model and dataset is whose, as far as they are assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    pub sites: BTreeMap<SiteName, ProjectName>,
    pub models: BTreeMap<ModelName, ProjectName>,
    pub datasets: BTreeMap<DatasetName, ProjectName>,
}

/// What a thing belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    Site(SiteName),
    Model(ModelName),
    Dataset(DatasetName),
}

impl Owned {
    pub fn project(&self, of: &Of) -> ProjectName {
        let found = match of {
            Of::Site(site) => self.sites.get(site),
            Of::Model(model) => self.models.get(model),
            Of::Dataset(name) => self.datasets.get(name),
        };
        found.cloned().unwrap_or_else(ProjectName::default_project)
    }
}

const ADD: &str = "insert into projects (name, made, made_by) select $1, $2, $3 \
     where (select count(*) from projects) < $4 on conflict (name) do nothing";

/// Returns whether the name was free and room was left.
pub async fn add(tx: &mut ControlTx, project: &Project) -> Result<bool> {
    let done = sqlx::query(ADD)
        .bind(project.name.as_str())
        .bind(project.made.as_millis())
        .bind(&project.made_by)
        .bind(PROJECTS_MAX)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("adding a project"))?;
    Ok(done.rows_affected() == 1)
}

const LIST: &str = "select name, made, made_by from projects where name > $1 order by name limit $2";

/// By name.
pub async fn list(db: &mut Control, page: &Page<ProjectName>) -> Result<Vec<Project>> {
    let rows: Vec<(String, i64, String)> = sqlx::query_as(LIST)
        .bind(page.after.as_ref().map_or("", ProjectName::as_str))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing projects"))?;
    rows.into_iter()
        .map(|(name, made, made_by)| {
            Ok(Project { name: parse("project's name", &name)?, made: time(made), made_by })
        })
        .collect()
}

const EXISTS: &str = "select 1 from projects where name = $1";

pub async fn exists(db: &mut Control, name: &ProjectName) -> Result<bool> {
    let found: Option<(i64,)> = sqlx::query_as(EXISTS)
        .bind(name.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("looking for a project"))?;
    Ok(found.is_some())
}

const SITES: &str = "select site, project from project_sites order by site limit $1";
const MODELS: &str = "select model, project from project_models order by model limit $1";
const DATASETS: &str = "select dataset, project from project_datasets order by dataset limit $1";

pub async fn owned(db: &mut Control) -> Result<Owned> {
    let mut owned = Owned::default();
    for (site, project) in pairs(db, SITES).await? {
        owned.sites.insert(parse("assigned site", &site)?, parse("site's project", &project)?);
    }
    for (model, project) in pairs(db, MODELS).await? {
        owned.models.insert(parse("assigned model", &model)?, parse("model's project", &project)?);
    }
    for (dataset, project) in pairs(db, DATASETS).await? {
        owned.datasets.insert(parse("assigned dataset", &dataset)?, parse("dataset's project", &project)?);
    }
    Ok(owned)
}

async fn pairs(db: &mut Control, sql: &'static str) -> Result<Vec<(String, String)>> {
    sqlx::query_as(sql)
        .bind(ASSIGNED_MAX)
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("reading what belongs to projects"))
}

const GIVE_SITE: &str = "insert into project_sites (site, project) values ($1, $2) \
     on conflict (site) do update set project = excluded.project";
const GIVE_MODEL: &str = "insert into project_models (model, project) values ($1, $2) \
     on conflict (model) do update set project = excluded.project";
const GIVE_DATASET: &str = "insert into project_datasets (dataset, project) values ($1, $2) \
     on conflict (dataset) do update set project = excluded.project";
const FREE_SITE: &str = "delete from project_sites where site = $1";
const FREE_MODEL: &str = "delete from project_models where model = $1";
const FREE_DATASET: &str = "delete from project_datasets where dataset = $1";

/// Moves a site, a model or a dataset into a project, and all that belongs to it.
pub async fn assign(tx: &mut ControlTx, of: &Of, project: &ProjectName) -> Result<()> {
    let (give, free, name) = match of {
        Of::Site(site) => (GIVE_SITE, FREE_SITE, site.as_str()),
        Of::Model(model) => (GIVE_MODEL, FREE_MODEL, model.as_str()),
        Of::Dataset(name) => (GIVE_DATASET, FREE_DATASET, name.as_str()),
    };
    // `default` holds what is not assigned, so nothing is ever assigned to it.
    let query = if project.is_default() {
        sqlx::query(free).bind(name)
    } else {
        sqlx::query(give).bind(name).bind(project.as_str())
    };
    query.execute(tx.sql()).await.map_err(StoreError::query("assigning to a project"))?;
    Ok(())
}

const SITE_OF_DEVICE: &str =
    "select site from devices where id = $1 union all select site from identities where device = $1 limit 1";

/// Where a device is, whether it is a member already or only asks to be one.
pub async fn site_of_device(db: &mut Control, device: &DeviceId) -> Result<Option<SiteName>> {
    one(db, SITE_OF_DEVICE, device.as_str()).await?.map(|site| parse("device's site", &site)).transpose()
}

const SITE_OF_LEASE: &str = "select coalesce(site, (select site from devices where devices.id = leases.device), 'unknown') \
     from leases where id = $1";
const SITE_OF_ENROLMENT: &str = "select site from enrolments where id = $1";

pub async fn site_of_lease(db: &mut Control, lease: &str) -> Result<Option<SiteName>> {
    one(db, SITE_OF_LEASE, lease).await?.map(|site| parse("lease's site", &site)).transpose()
}

pub async fn site_of_enrolment(db: &mut Control, enrolment: &str) -> Result<Option<SiteName>> {
    one(db, SITE_OF_ENROLMENT, enrolment).await?.map(|site| parse("enrolment's site", &site)).transpose()
}

/// Things that are of one model, by the table that says of which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfModel {
    Rollout,
    Run,
    Incident,
    Trigger,
    Bundle,
}

impl OfModel {
    fn sql(self) -> &'static str {
        match self {
            Self::Rollout => "select model from rollouts where id = $1",
            Self::Run => "select model from runs where id = $1",
            Self::Incident => "select model from incidents where id = $1",
            Self::Trigger => "select model from triggers where id = $1",
            Self::Bundle => "select model from bundles where sha256 = $1",
        }
    }
}

pub async fn model_of(db: &mut Control, what: OfModel, id: &str) -> Result<Option<ModelName>> {
    one(db, what.sql(), id).await?.map(|model| parse("a thing's model", &model)).transpose()
}

pub async fn model_of_capture(db: &mut Control, capture: &CaptureId) -> Result<Option<ModelName>> {
    match captures::get(db, capture).await? {
        Some(found) => model_of(db, OfModel::Bundle, &found.request.bundle.to_string()).await,
        None => Ok(None),
    }
}

const MODELS_OF_BLOB: &str = "select model from bundles where sha256 = $1 union select bundles.model from bundle_files \
     join bundles on bundles.sha256 = bundle_files.bundle where bundle_files.sha256 = $1 limit 1000";

/// Whose bundles hold this content: none, if it was only uploaded yet.
pub async fn models_of_blob(db: &mut Control, blob: &Digest) -> Result<Vec<ModelName>> {
    let rows: Vec<(String,)> = sqlx::query_as(MODELS_OF_BLOB)
        .bind(blob.to_string())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("looking up whose content it is"))?;
    rows.iter().map(|(model,)| parse("bundle's model", model)).collect()
}

async fn one(db: &mut Control, sql: &'static str, id: &str) -> Result<Option<String>> {
    let found: Option<(String,)> = sqlx::query_as(sql)
        .bind(id)
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("looking up whose it is"))?;
    Ok(found.map(|(found,)| found))
}
