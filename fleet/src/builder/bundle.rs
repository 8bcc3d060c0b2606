//! Makes a bundle out of a trainer's output: asks the model, scores it beside the champion, makes golden outputs and
//! the drift reference, and writes a folder with `manifest.json` and the files it names.
//!
//! Deterministic: the same input, version and time give the same bytes. It decides nothing: whether the bundle is good
//! enough is [`super::verdict`]'s question.

mod folder;

use std::path::{Path, PathBuf};

use muster_protocol::ids::{BundleVersion, Digest, ModelName, RunId, TriggerId};
use muster_protocol::manifest::{
    Evaluation, EvaluationSet, Format, Golden, InferencePrecision, Lineage, Manifest, ManifestError,
    Monitoring, SCHEMA, Select, Source, Variant, VariantLimits,
};
use muster_protocol::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::eval::{EvalError, EvalReport, Evaluator};
use super::infer::InferRequest;
use super::output::{MODEL_FILE, OutputError, TrainerOutput};
use super::reference::{DriftError, reference};
use super::rows::Rows;
use super::score::{ScoreError, Scores, score};

pub use folder::{BundleFolder, FolderError, MANIFEST_FILE};

/// Rows of the golden request: enough to notice swapped columns, few enough to run at every activation.
const GOLDEN_ROWS: usize = 16;
/// Largest difference of a golden output, where outputs are at most about 1.
const GOLDEN_TOLERANCE: f64 = 1e-4;
const LIMITS: VariantLimits = VariantLimits { load_ms_max: 20_000, memory_bytes_max: 0, p95_ms_max: 50.0 };
const GOLDEN_REQUEST: &str = "golden/request.json";
const GOLDEN_RESPONSE: &str = "golden/response.json";
const REFERENCE: &str = "reference.json";
const EVALUATION: &str = "evaluation.json";

/// What a bundle is to be made of.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The trainer's output folder.
    pub from: PathBuf,
    /// Must be what the trainer says.
    pub model: ModelName,
    pub version: BundleVersion,
    /// Real time.
    pub created: Timestamp,
    /// The bundle's folder: absent or empty.
    pub out: PathBuf,
    pub champion: Option<PathBuf>,
    /// Length of a pane in world seconds; the champion's if not given, else ten minutes.
    pub pane_s: Option<u64>,
    pub run: Option<RunId>,
    pub trigger: Option<TriggerId>,
}

#[derive(Debug)]
pub struct Built {
    pub manifest: Manifest,
    pub sha256: Digest,
    pub measured: Measured,
    pub report: EvalReport,
}

/// `evaluation.json`: all figures, measured here and claimed by the trainer.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub schema: &'static str,
    pub metric: &'static str,
    pub label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    pub frozen: Compared,
    pub recent: Compared,
    /// What the trainer's `metrics.json` says: recorded, not believed.
    pub claimed_by_trainer: Value,
    pub packages: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    pub challenger: Scores,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub champion: Option<Scores>,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("trainer.json: the model is '{found}', but '{wanted}' was asked for")]
    OtherModel { wanted: ModelName, found: ModelName },
    #[error("the challenger could not be asked: {source}")]
    Challenger { source: EvalError },
    #[error("the champion could not be asked: {source}")]
    Champion { source: EvalError },
    #[error("{set}: {source}")]
    Score { set: &'static str, source: ScoreError },
    #[error("reference.csv: {source}")]
    Drift { source: DriftError },
    #[error("the manifest that was made would be refused")]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("a worker thread failed")]
    Thread(#[from] tokio::task::JoinError),
}

impl BuildError {
    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Output(error) => error.code(),
            Self::OtherModel { .. } | Self::Drift { .. } => "output_invalid",
            Self::Challenger { source } => source.code(),
            Self::Champion { .. } => "champion_failed",
            Self::Score { .. } => "model_answers",
            Self::Manifest(_) => "manifest_invalid",
            Self::Folder(_) | Self::Thread(_) => "build_failed",
        }
    }
}

/// Builds; `progress` hears a fraction and what is being done.
pub async fn build(
    recipe: &Recipe,
    evaluator: &Evaluator,
    cancel: &CancellationToken,
    progress: &(impl Fn(f64, &str) + Sync),
) -> Result<Built, BuildError> {
    progress(0.0, "reading the trainer's output");
    let from = recipe.from.clone();
    let output = tokio::task::spawn_blocking(move || TrainerOutput::read(&from)).await??;
    let description = &output.description;
    if description.model != recipe.model {
        let (wanted, found) = (recipe.model.clone(), description.model.clone());
        return Err(BuildError::OtherModel { wanted, found });
    }
    let champion = recipe.champion.as_deref().map(BundleFolder::open).transpose()?;
    let signature = description.signature();
    let golden = output.frozen.rows.head(GOLDEN_ROWS);

    progress(0.1, &format!("asking the challenger about {} rows", output.reference.rows.len()));
    let sets = [&golden, &output.frozen.rows, &output.recent.rows, &output.reference.rows];
    let (answers, report) = evaluator
        .answers(&output.model, &signature, &sets, cancel)
        .await
        .map_err(|source| BuildError::Challenger { source })?;
    let [golden_answers, frozen, recent, usual] = four(answers);

    progress(0.5, "asking the champion");
    // A champion with another signature cannot answer these rows; the verdict says so.
    let comparable = champion.as_ref().filter(|champion| champion.manifest.signature == signature);
    let (champion_frozen, champion_recent) = match comparable {
        Some(champion) => ask_champion(champion, &output, evaluator, cancel).await?,
        None => (None, None),
    };

    progress(0.7, "scoring");
    let compare = |set: &'static str, labels: &[f32], challenger: &[Rows], champion: Option<Vec<Rows>>| {
        let scored = |answers: &[Rows]| {
            let empty = Rows::new(0);
            score(description.task, labels, answers.first().unwrap_or(&empty))
                .map_err(|source| BuildError::Score { set, source })
        };
        let champion = champion.map(|answers| scored(&answers)).transpose()?;
        Ok::<_, BuildError>(Compared { challenger: scored(challenger)?, champion })
    };
    let metric = description.primary_metric;
    let measured = Measured {
        schema: "muster-evaluation/1",
        metric: metric.as_str(),
        label: description.label.clone(),
        threshold: description.threshold,
        frozen: compare("holdout_frozen.csv", &output.frozen.labels, &frozen, champion_frozen)?,
        recent: compare("holdout_recent.csv", &output.recent.labels, &recent, champion_recent)?,
        claimed_by_trainer: output.claim.clone(),
        packages: description.lineage.packages.clone(),
    };

    progress(0.8, "making the drift reference");
    let parts = (signature.clone(), description.streams.clone(), description.window_h);
    let TrainerOutput { description, model, reference: reference_rows, .. } = output;
    let made = tokio::task::spawn_blocking(move || {
        let (signature, streams, window_h) = parts;
        reference(&signature, &streams, &reference_rows, &usual, window_h)
    });
    let drift = made.await?.map_err(|source| BuildError::Drift { source })?;

    progress(0.9, "writing the bundle");
    let mut writer = folder::Writer::create(&recipe.out)?;
    writer.copy(MODEL_FILE, &model)?;
    let request = InferRequest { id: "golden".to_owned(), ..whole(&signature.inputs, &golden) };
    writer.json(GOLDEN_REQUEST, &request)?;
    writer.json(GOLDEN_RESPONSE, &golden_response(recipe, &signature, &golden_answers))?;
    writer.json(EVALUATION, &measured)?;
    if !description.streams.is_empty() {
        writer.json(REFERENCE, &drift)?;
    }
    let pane_s =
        recipe.pane_s.or_else(|| champion.as_ref().map(|champion| champion.manifest.monitoring.pane_s));
    let monitoring = Monitoring {
        streams: description.streams.clone(),
        pane_s: pane_s.unwrap_or(Monitoring::default().pane_s),
        window_s: description.window_h.saturating_mul(3600),
    };
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        model: recipe.model.clone(),
        version: recipe.version.clone(),
        created: recipe.created,
        description: description.description.clone(),
        licences: description.licences.clone(),
        task: description.task,
        requires: requires(&monitoring),
        signature,
        variants: vec![variant(&golden_answers)],
        reference: (!monitoring.streams.is_empty()).then(|| REFERENCE.to_owned()),
        monitoring,
        evaluation: Some(measured.summary()),
        lineage: Lineage {
            trigger: recipe.trigger.clone(),
            run: recipe.run.clone(),
            champion: champion.as_ref().map(|champion| champion.sha256),
            datasets: description.datasets(),
            trainer: description.lineage.trainer.clone(),
        },
        files: writer.files(),
    };
    manifest.check()?;
    let sha256 = writer.finish(&manifest)?;
    progress(1.0, "built");
    Ok(Built { manifest, sha256, measured, report })
}

/// What the champion says to both holdouts.
async fn ask_champion(
    champion: &BundleFolder,
    output: &TrainerOutput,
    evaluator: &Evaluator,
    cancel: &CancellationToken,
) -> Result<(Option<Vec<Rows>>, Option<Vec<Rows>>), BuildError> {
    let sets = [&output.frozen.rows, &output.recent.rows];
    let (answers, _) = evaluator
        .answers(&champion.model_path(), &champion.manifest.signature, &sets, cancel)
        .await
        .map_err(|source| BuildError::Champion { source })?;
    let mut answers = answers.into_iter();
    Ok((answers.next(), answers.next()))
}

impl Measured {
    /// The manifest's short form: the metric that decides.
    pub fn summary(&self) -> Evaluation {
        let of = |scores: &Scores| match self.metric {
            "brier" => scores.brier,
            "mae" => scores.mae,
            _ => scores.log_loss,
        };
        let set = |name: &str, compared: &Compared| {
            Some(EvaluationSet {
                name: name.to_owned(),
                rows: compared.challenger.rows as u64,
                challenger: of(&compared.challenger)?,
                champion: compared.champion.as_ref().and_then(of),
            })
        };
        let sets = [set("frozen", &self.frozen), set("recent", &self.recent)];
        let sets = sets.into_iter().flatten().collect();
        Evaluation { metric: self.metric.to_owned(), threshold: self.threshold, sets }
    }
}

fn variant(golden_answers: &[Rows]) -> Variant {
    // Rounding grows with the numbers: beds are counted in dozens, probabilities end at 1.
    let largest =
        golden_answers.iter().flat_map(Rows::iter).flatten().fold(1.0_f32, |max, v| max.max(v.abs()));
    Variant {
        id: "cpu-f32".to_owned(),
        format: Format::Onnx,
        file: MODEL_FILE.to_owned(),
        select: Select { device: "CPU".to_owned() },
        inference_precision: InferencePrecision::F32,
        golden: Some(Golden {
            request: GOLDEN_REQUEST.to_owned(),
            response: GOLDEN_RESPONSE.to_owned(),
            tolerance_abs: GOLDEN_TOLERANCE * f64::from(largest),
        }),
        limits: LIMITS,
        rank: 100,
    }
}

fn requires(monitoring: &Monitoring) -> Vec<String> {
    let one_hot = monitoring.streams.iter().any(|stream| matches!(stream.source, Source::OneHot { .. }));
    let features =
        [("golden", true), ("drift-reference", !monitoring.streams.is_empty()), ("one-hot-streams", one_hot)];
    features.into_iter().filter(|(_, needed)| *needed).map(|(name, _)| name.to_owned()).collect()
}

fn golden_response(
    recipe: &Recipe,
    signature: &muster_protocol::manifest::Signature,
    answers: &[Rows],
) -> Value {
    let outputs: Vec<Value> = signature
        .outputs
        .iter()
        .zip(answers)
        .map(|(tensor, rows)| {
            let mut shape = vec![rows.len()];
            shape.extend((tensor.shape.len() > 1).then(|| rows.width()));
            let data: Vec<&f32> = rows.iter().flatten().collect();
            serde_json::json!({
                "name": tensor.name, "datatype": tensor.datatype, "shape": shape, "data": data,
            })
        })
        .collect();
    serde_json::json!({
        "model_name": recipe.model, "model_version": recipe.version, "id": "golden", "outputs": outputs,
    })
}

fn whole<'a>(inputs: &'a [muster_protocol::manifest::Tensor], rows: &Rows) -> InferRequest<'a> {
    let all: Vec<f32> = rows.iter().flatten().copied().collect();
    InferRequest::of(0, inputs, &all)
}

fn four(answers: Vec<Vec<Rows>>) -> [Vec<Rows>; 4] {
    let mut answers = answers.into_iter();
    std::array::from_fn(|_| answers.next().unwrap_or_default())
}

/// A manifest or the folder around it.
pub fn bundle_folder(path: &Path) -> PathBuf {
    if path.file_name().is_some_and(|name| name == MANIFEST_FILE) {
        path.parent().unwrap_or(Path::new(".")).to_owned()
    } else {
        path.to_owned()
    }
}
