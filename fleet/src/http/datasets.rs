//! Datasets: versions by the digest of their manifest, what is in them, what changed between two, which runs used them.
//!
//! Files come in first, by their digests; a version is added when all of them are here. The server never opens a file: the
//! profile is made where the files are, and what it is held to here is that it speaks of the same columns and rows.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::ids::{DatasetName, Digest, RunId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::blobs;
use super::extract::{Acting, Id, Json, Query};
use super::page::{List, Paging};
use super::problem::{Answer, Code, Fault, Problem, ProblemBody};
use super::sight::Sight;
use super::time::Time;
use crate::dataset::manifest::{FILE_BYTES_MAX, ManifestError};
use crate::dataset::profile::PROFILE_BYTES_MAX;
use crate::dataset::{
    self, Checked, DatasetRef, External, Manifest, Profile, VersionRef, external, report, rules,
};
use crate::retrain::{Run, RunState};
use crate::store::datasets::{self, Added, Version};
use crate::store::log::{self, Actor, NewEntry};
use crate::store::{Control, runs};

const NOTE_CHARS_MAX: usize = 500;
/// Runs that a version shows, and datasets that a run has.
const RUNS_MAX: u32 = 100;
const RUN_DATASETS_MAX: usize = 32;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(versions, add))
        .routes(routes!(get))
        .routes(routes!(profile))
        .routes(routes!(compare))
        .routes(routes!(of_run, trained))
}

/// Uploads and downloads, which last as long as they last.
pub(super) fn content() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(put_content, get_content, head_content))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DatasetVersion)]
struct VersionView {
    name: String,
    /// Counts up from 1 within the dataset.
    number: u64,
    /// Of its manifest: what the version is.
    sha256: String,
    /// Of its columns' names and types.
    schema_sha256: String,
    rows: u64,
    bytes: u64,
    files: usize,
    columns: usize,
    /// First and last time of its rows, if it has a column for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Time>,
    /// What other systems call it, such as `dvc:…`, `lakefs:…`, `artivc:…`.
    external: Vec<String>,
    note: String,
    added: Time,
    by: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DatasetVersionDetail)]
struct VersionDetail {
    #[serde(flatten)]
    version: VersionView,
    /// `muster-dataset/1`.
    #[schema(value_type = Object)]
    manifest: Manifest,
    /// Rules that it was held to, with what was measured.
    #[schema(value_type = Vec<Object>)]
    checks: Vec<Checked>,
    /// Digest of its profile, which is content like its files.
    profile: String,
    /// Runs that were trained on it; at most 100.
    runs: Vec<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewDatasetVersion)]
struct AddBody {
    /// `muster-dataset/1`; its files are here already.
    #[schema(value_type = Object)]
    manifest: Manifest,
    /// Digest of the profile, which is here already.
    #[schema(value_type = String)]
    profile: Digest,
    /// Rules with what was measured; a version that breaks one is not added.
    #[serde(default)]
    #[schema(value_type = Vec<Object>, max_items = 1000)]
    checks: Vec<Checked>,
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 32)]
    external: Vec<External>,
    #[serde(default)]
    #[schema(max_length = 500)]
    note: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Compared {
    /// `NAME` or `NAME@VERSION`, the version a number, a digest or `latest`.
    #[param(value_type = String)]
    a: DatasetRef,
    #[param(value_type = String)]
    b: DatasetRef,
    /// A page to keep instead of JSON.
    #[serde(default, rename = "as")]
    #[param(inline)]
    form: Form,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Form {
    #[default]
    Json,
    Html,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DatasetComparison)]
struct ComparisonView {
    a: VersionView,
    b: VersionView,
    differs: bool,
    #[schema(value_type = Object)]
    changes: dataset::Comparison,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TrainedOn)]
struct TrainedBody {
    /// Who holds the run's lease.
    #[schema(max_length = 64)]
    builder: String,
    #[schema(max_items = 32)]
    datasets: Vec<TrainedOne>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TrainedOnOne)]
struct TrainedOne {
    #[schema(value_type = String)]
    name: DatasetName,
    #[schema(value_type = String)]
    sha256: Digest,
}

/// The address's dataset and version.
struct Named(DatasetRef);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path((name, version)): Path<(String, String)> = Path::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Problem::new(Code::BadPath, rejection.body_text()))?;
        Ok(Self(DatasetRef { name: parsed(&name)?, version: parsed(&version)? }))
    }
}

fn parsed<T: FromStr<Err: Display>>(text: &str) -> Answer<T> {
    text.parse().map_err(|error: T::Err| Problem::new(Code::BadPath, error.to_string()))
}

impl From<ManifestError> for Problem {
    fn from(error: ManifestError) -> Self {
        Self::invalid("/manifest", error.to_string())
    }
}

/// Lists datasets by name, each as its latest version is
#[utoipa::path(get, path = "/datasets", tag = "datasets", operation_id = "list_datasets", params(Paging),
    responses((status = 200, body = List<VersionView>), (status = 400, body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    sight: Sight,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<VersionView>>> {
    let mut db = app.fleet.store.read().await?;
    let mut filling = paging.filling()?;
    while let Some(page) = filling.page() {
        let read = datasets::list(&mut db, page).await?;
        filling.add(read, |version| version.name.clone(), |version| sight.dataset(&version.name));
    }
    let (found, next) = filling.cut(|version| version.name.clone());
    Ok(Json(List { items: found.iter().map(VersionView::from).collect(), next }))
}

/// Lists a dataset's versions, the newest first
#[utoipa::path(get, path = "/datasets/{name}/versions", tag = "datasets", operation_id = "list_dataset_versions",
    params(("name" = String, Path), Paging),
    responses((status = 200, body = List<VersionView>), (status = 400, body = ProblemBody)))]
async fn versions(
    State(app): State<App>,
    Id(name): Id<DatasetName>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<VersionView>>> {
    let page = paging.page::<u64>()?;
    let found = datasets::versions(&mut app.fleet.store.read().await?, &name, &page).await?;
    let (found, next) = paging.cut(found, |version| version.number)?;
    Ok(Json(List { items: found.iter().map(VersionView::from).collect(), next }))
}

/// Adds a version of files that are here. The same content is one version, however often it is added
#[utoipa::path(post, path = "/datasets/{name}/versions", tag = "datasets", operation_id = "add_dataset_version",
    params(("name" = String, Path)), request_body = AddBody,
    responses((status = 201, body = VersionDetail), (status = 200, description = "It was here already", body = VersionDetail),
        (status = 409, description = "A file is not here yet", body = ProblemBody),
        (status = 422, description = "It contradicts itself, its files or its rules", body = ProblemBody)))]
async fn add(
    State(app): State<App>,
    Id(name): Id<DatasetName>,
    acting: Acting,
    Json(body): Json<AddBody>,
) -> Answer<(StatusCode, Json<VersionDetail>)> {
    let AddBody { manifest, profile, checks, external, note } = body;
    manifest.check()?;
    bounded(&checks, &external, &note)?;
    obeyed(&checks)?;
    let sha256 = manifest.digest()?;
    let wanted = DatasetRef { name: name.clone(), version: VersionRef::Digest(sha256) };
    // What is here already was checked when it came.
    let mut db = app.fleet.store.read().await?;
    if let Some(found) = datasets::get(&mut db, &name, wanted.version).await? {
        return Ok((StatusCode::OK, Json(detail(&mut db, found).await?)));
    }
    drop(db);
    here(&app, &manifest).await?;
    agrees(&read_profile(&app, &profile).await?, &manifest)?;
    let moment = app.fleet.clocks.moment();
    let added = Added { manifest, profile, checks, external, note, by: acting.0.clone() };
    let mut tx = app.fleet.store.write().await?;
    let mut status = StatusCode::OK;
    if datasets::get(&mut tx, &name, wanted.version).await?.is_none() {
        datasets::add(&mut tx, &name, &sha256, moment.at, &added).await?;
        let (rows, files) = (added.manifest.rows(), added.manifest.files.len());
        let sentence = format!("{name}: a version of {rows} rows in {files} files, {}", sha256.short());
        let entry = NewEntry {
            when: moment,
            kind: "dataset.added",
            subject: name.to_string(),
            sentence: sentence.into(),
            actor: acting.for_log(),
        };
        log::append(&mut tx, &entry).await?;
        status = StatusCode::CREATED;
    }
    let found = load(&mut tx, &wanted).await?;
    let view = detail(&mut tx, found).await?;
    tx.commit().await?;
    Ok((status, Json(view)))
}

/// One version
#[utoipa::path(get, path = "/datasets/{name}/versions/{version}", tag = "datasets", operation_id = "get_dataset_version",
    params(("name" = String, Path), ("version" = String, Path, description = "Its number, its digest, or `latest`")),
    responses((status = 200, body = VersionDetail), (status = 404, body = ProblemBody)))]
async fn get(State(app): State<App>, Named(named): Named) -> Answer<Json<VersionDetail>> {
    let mut db = app.fleet.store.read().await?;
    let version = load(&mut db, &named).await?;
    Ok(Json(detail(&mut db, version).await?))
}

/// What is in its columns
#[utoipa::path(get, path = "/datasets/{name}/versions/{version}/profile", tag = "datasets",
    operation_id = "get_dataset_profile",
    params(("name" = String, Path), ("version" = String, Path, description = "Its number, its digest, or `latest`")),
    responses((status = 200, body = Object), (status = 404, body = ProblemBody)))]
async fn profile(State(app): State<App>, Named(named): Named) -> Answer<Json<Profile>> {
    let version = load(&mut app.fleet.store.read().await?, &named).await?;
    Ok(Json(read_profile(&app, &version.added.profile).await?))
}

/// What changed from one version to another, of one dataset or of two
#[utoipa::path(get, path = "/datasets/compare", tag = "datasets", operation_id = "compare_datasets", params(Compared),
    responses((status = 200, body = ComparisonView), (status = 404, body = ProblemBody)))]
async fn compare(State(app): State<App>, Query(compared): Query<Compared>) -> Answer<Response> {
    let Compared { a, b, form } = compared;
    let mut db = app.fleet.store.read().await?;
    let (before, now) = (load(&mut db, &a).await?, load(&mut db, &b).await?);
    drop(db);
    let profiles =
        (read_profile(&app, &before.added.profile).await?, read_profile(&app, &now.added.profile).await?);
    let changes = dataset::compare(&profiles.0, &profiles.1);
    if form == Form::Html {
        let title = |version: &Version| format!("{}@{}", version.name, version.number);
        let page = report::html(&title(&before), &title(&now), &changes);
        let mut response = page.into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        return Ok(response);
    }
    let view = ComparisonView {
        a: VersionView::from(&before),
        b: VersionView::from(&now),
        differs: changes.differs(),
        changes,
    };
    Ok(Json(view).into_response())
}

/// What a run was trained on
#[utoipa::path(get, path = "/runs/{id}/datasets", tag = "datasets", operation_id = "list_run_datasets",
    params(("id" = String, Path)),
    responses((status = 200, body = List<VersionView>), (status = 404, body = ProblemBody)))]
async fn of_run(State(app): State<App>, Id(id): Id<RunId>) -> Answer<Json<List<VersionView>>> {
    let mut db = app.fleet.store.read().await?;
    if runs::get::<Value>(&mut db, &id).await?.is_none() {
        return Err(Problem::not_found("run", id));
    }
    let found = datasets::of_run(&mut db, &id, RUNS_MAX).await?;
    Ok(Json(List { items: found.iter().map(VersionView::from).collect(), next: None }))
}

/// Says what a run is trained on; the holder of its lease is listened to
#[utoipa::path(post, path = "/runs/{id}/datasets", tag = "datasets", operation_id = "set_run_datasets",
    params(("id" = String, Path)), request_body = TrainedBody,
    responses((status = 200, body = List<VersionView>), (status = 404, body = ProblemBody),
        (status = 409, description = "The run is not yours any more", body = ProblemBody)))]
async fn trained(
    State(app): State<App>,
    Id(id): Id<RunId>,
    Json(body): Json<TrainedBody>,
) -> Answer<Json<List<VersionView>>> {
    let TrainedBody { builder, datasets: named } = body;
    if named.len() > RUN_DATASETS_MAX {
        return Err(Problem::invalid("/datasets", format!("a run has at most {RUN_DATASETS_MAX} datasets")));
    }
    let mut tx = app.fleet.store.write().await?;
    let run = runs::get::<Run>(&mut tx, &id).await?.ok_or_else(|| Problem::not_found("run", &id))?.document;
    if !matches!(&run.state, RunState::Claimed { builder: holder, .. } if *holder == builder) {
        return Err(Problem::new(Code::LeaseLost, format!("the run is not leased to '{builder}'")));
    }
    let mut words = Vec::new();
    for TrainedOne { name, sha256 } in named {
        let wanted = DatasetRef { name, version: VersionRef::Digest(sha256) };
        let found = load(&mut tx, &wanted).await?;
        datasets::trained(&mut tx, &id, &wanted.name, &sha256).await?;
        words.push(format!("{}@{}", found.name, found.number));
    }
    if !words.is_empty() {
        let entry = NewEntry {
            when: app.fleet.clocks.moment(),
            kind: "run.datasets",
            subject: id.to_string(),
            sentence: format!("{} is trained on {}", run.model, words.join(", ")).into(),
            actor: Actor::Builder(builder),
        };
        log::append(&mut tx, &entry).await?;
    }
    let found = datasets::of_run(&mut tx, &id, RUNS_MAX).await?;
    tx.commit().await?;
    Ok(Json(List { items: found.iter().map(VersionView::from).collect(), next: None }))
}

/// Uploads a dataset's file or profile under its digest
#[utoipa::path(put, path = "/dataset-blobs/{sha256}", tag = "datasets", operation_id = "put_dataset_blob",
    params(("sha256" = String, Path, description = "64 lower-case hexadecimal digits")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "Kept"),
        (status = 200, description = "It was here already"),
        (status = 413, description = "Too long; nothing was kept", body = ProblemBody),
        (status = 422, description = "Not what the digest says; nothing was kept", body = ProblemBody)))]
async fn put_content(State(app): State<App>, Id(digest): Id<Digest>, body: Body) -> Answer<StatusCode> {
    blobs::taken(&app.fleet.datasets, &digest, body, FILE_BYTES_MAX).await
}

/// Downloads a dataset's file or profile
#[utoipa::path(get, path = "/dataset-blobs/{sha256}", tag = "datasets", operation_id = "get_dataset_blob",
    params(("sha256" = String, Path, description = "64 lower-case hexadecimal digits")),
    responses(
        (status = 200, description = "The bytes", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, description = "Not here", body = ProblemBody)))]
async fn get_content(State(app): State<App>, Id(digest): Id<Digest>) -> Answer<Response> {
    blobs::given(&app.fleet.datasets, &digest).await
}

/// Whether a dataset's file or profile is here
#[utoipa::path(head, path = "/dataset-blobs/{sha256}", tag = "datasets", operation_id = "head_dataset_blob",
    params(("sha256" = String, Path, description = "64 lower-case hexadecimal digits")),
    responses((status = 200, description = "Here"), (status = 404, description = "Not here")))]
async fn head_content(State(app): State<App>, Id(digest): Id<Digest>) -> Answer<Response> {
    blobs::described(&app.fleet.datasets, &digest).await
}

impl From<&Version> for VersionView {
    fn from(version: &Version) -> Self {
        let Version { name, sha256, number, at, added } = version;
        let Added { manifest, external, note, by, .. } = added;
        let (from, to) = manifest.span().unzip();
        Self {
            name: name.to_string(),
            number: *number,
            sha256: sha256.to_string(),
            schema_sha256: manifest.schema_digest().to_string(),
            rows: manifest.rows(),
            bytes: manifest.bytes(),
            files: manifest.files.len(),
            columns: manifest.columns.len(),
            from: from.map(Time::from),
            to: to.map(Time::from),
            external: external.iter().map(External::to_string).collect(),
            note: note.clone(),
            added: (*at).into(),
            by: by.clone(),
        }
    }
}

async fn detail(db: &mut Control, version: Version) -> Answer<VersionDetail> {
    let runs = datasets::runs(db, &version.name, &version.sha256, RUNS_MAX).await?;
    let view = VersionView::from(&version);
    let Added { manifest, profile, checks, .. } = version.added;
    let runs = runs.iter().map(RunId::to_string).collect();
    Ok(VersionDetail { version: view, manifest, checks, profile: profile.to_string(), runs })
}

async fn load(db: &mut Control, named: &DatasetRef) -> Answer<Version> {
    let found = datasets::get(db, &named.name, named.version).await?;
    found.ok_or_else(|| Problem::not_found("dataset", named))
}

fn bounded(checks: &[Checked], external: &[External], note: &str) -> Answer<()> {
    if checks.len() > rules::RULES_MAX {
        return Err(Problem::invalid(
            "/checks",
            format!("a version is held to at most {} rules", rules::RULES_MAX),
        ));
    }
    if external.len() > external::EXTERNAL_MAX {
        let detail = format!("a version has at most {} references", external::EXTERNAL_MAX);
        return Err(Problem::invalid("/external", detail));
    }
    if note.chars().count() > NOTE_CHARS_MAX {
        return Err(Problem::invalid("/note", format!("a note has at most {NOTE_CHARS_MAX} characters")));
    }
    Ok(())
}

fn obeyed(checks: &[Checked]) -> Answer<()> {
    let broken = rules::broken(checks);
    if broken.is_empty() {
        return Ok(());
    }
    let faults =
        broken.into_iter().map(|detail| Fault { pointer: "rule_broken".to_owned(), detail }).collect();
    Err(Problem::new(Code::RuleBroken, "the version breaks rules and was not added").faults(faults))
}

/// Every file must be here, as long as it is said to be.
async fn here(app: &App, manifest: &Manifest) -> Answer<()> {
    for file in &manifest.files {
        match app.fleet.datasets.head(&file.sha256).await? {
            Some(bytes) if bytes == file.bytes => {}
            Some(bytes) => {
                let detail = format!("{} has {bytes} bytes and not {}", file.path, file.bytes);
                return Err(Problem::invalid("/manifest/files", detail));
            }
            None => {
                let detail = format!("{} ({}) is not here", file.path, file.sha256.short());
                return Err(
                    Problem::new(Code::State, detail).next("upload its files first, then add the version")
                );
            }
        }
    }
    Ok(())
}

async fn read_profile(app: &App, sha256: &Digest) -> Answer<Profile> {
    let bytes = app.fleet.datasets.read(sha256, PROFILE_BYTES_MAX).await?;
    let bytes = bytes
        .ok_or_else(|| Problem::new(Code::State, format!("the profile {} is not here", sha256.short())))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Problem::invalid("/profile", format!("{} is no profile: {error}", sha256.short())))
}

fn agrees(profile: &Profile, manifest: &Manifest) -> Answer<()> {
    let columns = profile.columns.iter().map(|column| &column.column);
    if profile.rows == manifest.rows() && columns.eq(&manifest.columns) {
        return Ok(());
    }
    Err(Problem::invalid("/profile", "the profile speaks of other columns or rows than the manifest"))
}
