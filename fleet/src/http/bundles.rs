//! Bundles that were accepted, with how they did and where they run.

use axum::extract::State;
use muster_protocol::ids::{BundleSigner, Digest, ModelName};
use muster_protocol::manifest::{Evaluation, Lineage};
use muster_protocol::trust::{Revocation, RevocationAction};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Id, Json, Query};
use super::page::{List, Paging, parsed};
use super::parts::Spread;
use super::problem::{Answer, Problem, ProblemBody};
use super::sight::Sight;
use super::survey::Survey;
use super::time::Time;
use crate::store::bundles;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Bundle)]
pub(super) struct BundleView {
    path: String,
    model: String,
    version: String,
    /// SHA-256 of the manifest: the bundle's identity.
    sha256: String,
    /// `human`: with the targets keys. `builder`: with a delegated key.
    signer: &'static str,
    created: Time,
    accepted: Time,
    size_bytes: u64,
    description: String,
    evaluation: Option<EvaluationView>,
    lineage: LineageView,
    devices_running: u64,
    /// Whether it may be activated anywhere.
    catalogued: bool,
    /// The catalogue says that it must not run any more, and why.
    revoked: Option<RevocationView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Revocation)]
struct RevocationView {
    reason: String,
    /// `stop`: boxes that run it stop. `retain`: it runs on until something replaces it.
    action: &'static str,
}

impl From<Revocation> for RevocationView {
    fn from(revocation: Revocation) -> Self {
        let action = match revocation.action {
            RevocationAction::Stop => "stop",
            RevocationAction::Retain => "retain",
        };
        Self { reason: revocation.reason, action }
    }
}

/// How it did before it was signed; recorded by the builder, believed by nobody.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Evaluation)]
struct EvaluationView {
    /// Lower is better.
    metric: String,
    sets: Vec<EvaluationSetView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EvaluationSet)]
struct EvaluationSetView {
    name: String,
    rows: u64,
    challenger: f64,
    champion: Option<f64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lineage)]
struct LineageView {
    trigger: Option<String>,
    run: Option<String>,
    champion: Option<String>,
    datasets: Vec<DatasetView>,
    trainer: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Dataset)]
struct DatasetView {
    name: String,
    sha256: String,
    rows: u64,
}

impl BundleView {
    pub(super) fn of(bundle: bundles::Bundle, spread: &Spread) -> Self {
        let bundles::Bundle { path, sha256, accepted, size_bytes, manifest, catalogued, revoked, .. } =
            bundle;
        Self {
            model: path.model().to_string(),
            version: path.version().to_string(),
            signer: match path.signer() {
                BundleSigner::Human => "human",
                BundleSigner::Builder => "builder",
            },
            path: path.to_string(),
            sha256: sha256.to_string(),
            created: manifest.created.into(),
            accepted: accepted.into(),
            size_bytes,
            description: manifest.description,
            evaluation: manifest.evaluation.map(EvaluationView::from),
            lineage: manifest.lineage.into(),
            devices_running: spread.get(&sha256).copied().unwrap_or(0),
            catalogued,
            revoked: revoked.map(RevocationView::from),
        }
    }
}

impl From<Evaluation> for EvaluationView {
    fn from(evaluation: Evaluation) -> Self {
        let sets = evaluation.sets.into_iter().map(|set| EvaluationSetView {
            name: set.name,
            rows: set.rows,
            challenger: set.challenger,
            champion: set.champion,
        });
        Self { metric: evaluation.metric, sets: sets.collect() }
    }
}

impl From<Lineage> for LineageView {
    fn from(lineage: Lineage) -> Self {
        let datasets = lineage.datasets.into_iter().map(|dataset| DatasetView {
            name: dataset.name,
            sha256: dataset.sha256.to_string(),
            rows: dataset.rows,
        });
        Self {
            trigger: lineage.trigger.map(String::from),
            run: lineage.run.map(String::from),
            champion: lineage.champion.map(String::from),
            datasets: datasets.collect(),
            trainer: lineage.trainer,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct BundleQuery {
    model: Option<String>,
    #[serde(default)]
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Bundles, the newest first
#[utoipa::path(get, path = "/bundles", tag = "registry", operation_id = "list_bundles", params(BundleQuery),
    responses((status = 200, body = List<BundleView>), (status = 400, body = ProblemBody)))]
async fn list(
    State(app): State<App>,
    sight: Sight,
    Query(query): Query<BundleQuery>,
) -> Answer<Json<List<BundleView>>> {
    let BundleQuery { model, limit, cursor } = query;
    let model: Option<ModelName> = parsed("model", model.as_deref())?;
    let paging = Paging { limit, cursor };
    let mut db = app.fleet.store.read().await?;
    let mut filling = paging.filling()?;
    while let Some(page) = filling.page() {
        let read = bundles::list(&mut db, model.as_ref(), page).await?;
        filling.add(read, bundles::Bundle::key, |bundle| sight.model(bundle.path.model()));
    }
    let (shown, next) = filling.cut(bundles::Bundle::key);
    let spread = Survey::of(&mut db).await?.spread;
    Ok(Json(List { items: shown.into_iter().map(|bundle| BundleView::of(bundle, &spread)).collect(), next }))
}

/// One bundle
#[utoipa::path(get, path = "/bundles/{sha256}", tag = "registry", operation_id = "get_bundle",
    params(("sha256" = String, Path, description = "SHA-256 of the manifest")),
    responses((status = 200, body = BundleView), (status = 404, body = ProblemBody)))]
async fn get(State(app): State<App>, Id(sha256): Id<Digest>) -> Answer<Json<BundleView>> {
    let mut db = app.fleet.store.read().await?;
    let bundle = bundles::get(&mut db, &sha256).await?.ok_or_else(|| Problem::not_found("bundle", sha256))?;
    let spread = Survey::of(&mut db).await?.spread;
    Ok(Json(BundleView::of(bundle, &spread)))
}
