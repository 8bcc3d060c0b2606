//! Makes a bundle out of a trainer's output, or of a model alone: has it converted into its variants, asks each, scores it
//! beside the champion, makes golden outputs and the drift reference, and writes a folder with `manifest.json` and the
//! files it names.
//!
//! Deterministic: the same input, version and time give the same bytes on the same machine; limits come in steps, so that
//! what was measured rarely shows. It decides nothing: whether the bundle is good enough is [`super::verdict`]'s question.

mod folder;
mod model;
mod variants;

use std::path::{Path, PathBuf};

use muster_protocol::ids::{BundleVersion, Digest, ModelName, RunId, TriggerId};
use muster_protocol::manifest::{
    Evaluation, EvaluationSet, InferencePrecision, Lineage, Manifest, ManifestError, Monitoring, Precision,
    SCHEMA, Source, Task, Variant,
};
use muster_protocol::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::convert::{self, ConvertError, Converter};
use super::eval::{EvalError, EvalReport, Evaluator};
use super::infer::InferRequest;
use super::output::{DESCRIPTION_FILE, OutputError, TrainerOutput};
use super::reference::{DriftError, reference};
use super::rows::Rows;
use super::score::{ScoreError, Scores, losses, mistakes, score};
use super::slices::SliceScore;

pub use folder::{BundleFolder, FolderError, MANIFEST_FILE};
pub use variants::VariantReport;

/// Rows of the golden request: enough to notice swapped columns, few enough to run at every activation.
const GOLDEN_ROWS: usize = 16;
/// Rows that INT8 learns its ranges from.
const CALIBRATION_ROWS: usize = 300;
const REFERENCE: &str = "reference.json";
const EVALUATION: &str = "evaluation.json";

/// What a bundle is to be made of.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The trainer's output folder, or a model alone.
    pub from: PathBuf,
    pub form: Form,
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

/// In which forms the model is to be had.
#[derive(Clone, Debug)]
pub struct Form {
    /// The first is the one that is scored.
    pub variants: Vec<Precision>,
    pub inference_precision: InferencePrecision,
    /// What the model is usually asked; the trainer's reference rows if not given.
    pub calibration: Option<PathBuf>,
    /// What a model alone answers; a trainer says it of its own.
    pub task: Task,
    pub converter: Option<Converter>,
}

impl Form {
    /// An ONNX model as it is, computing in f32.
    pub fn plain() -> Self {
        Self {
            variants: vec![Precision::Fp32],
            inference_precision: InferencePrecision::F32,
            calibration: None,
            task: Task::Regression,
            converter: None,
        }
    }
}

#[derive(Debug)]
pub struct Built {
    pub manifest: Manifest,
    pub sha256: Digest,
    /// Of a model alone nothing is known to score it by.
    pub measured: Option<Measured>,
    pub variants: Vec<VariantReport>,
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
    /// Parts of the recent holdout, where the trainer names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<SliceScore>,
    /// Each variant beside the first.
    pub variants: Vec<VariantReport>,
    /// How much more the variants after the first are off than it is, on frozen rows; by their ids.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub drops: std::collections::BTreeMap<String, f64>,
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
    #[error(transparent)]
    Convert(#[from] ConvertError),
    #[error("this model has to be converted first; use `muster bundle build`, which does that")]
    NoConverter,
    #[error("a file for the conversion could not be written")]
    Rows(#[source] std::io::Error),
    #[error("the variant {variant} could not be asked: {source}")]
    Variant { variant: &'static str, source: EvalError },
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
            Self::OtherModel { .. } | Self::Drift { .. } | Self::NoConverter => "output_invalid",
            Self::Convert(error) => error.code(),
            Self::Challenger { source } | Self::Variant { source, .. } => source.code(),
            Self::Champion { .. } => "champion_failed",
            Self::Score { .. } => "model_answers",
            Self::Manifest(_) => "manifest_invalid",
            Self::Folder(_) | Self::Rows(_) | Self::Thread(_) => "build_failed",
        }
    }
}

/// Builds; `progress` hears a fraction and what is being done.
#[expect(clippy::too_many_lines, reason = "one step after the other, each named by what it reports")]
pub async fn build(
    recipe: &Recipe,
    evaluator: &Evaluator,
    cancel: &CancellationToken,
    progress: &(impl Fn(f64, &str) + Sync),
) -> Result<Built, BuildError> {
    if !recipe.from.join(DESCRIPTION_FILE).is_file() && model::is_model(&recipe.from) {
        return Box::pin(model::build(recipe, evaluator, cancel, progress)).await;
    }
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
    let mut writer = folder::Writer::create(&recipe.out)?;
    let converting = |fraction: f64, what: &str| progress(0.1 * fraction, what);
    let forms = Box::pin(forms(recipe, &output, &mut writer, cancel, &converting)).await?;

    progress(0.1, &format!("asking the challenger about {} rows", output.reference.rows.len()));
    let sets = [&output.frozen.rows, &output.recent.rows, &output.reference.rows];
    let (answers, report) = evaluator
        .answers(&forms.first, &signature, &sets, cancel)
        .await
        .map_err(|source| BuildError::Challenger { source })?;
    let [frozen, recent, usual] = three(answers);

    progress(0.5, "asking the champion");
    // A champion with another signature cannot answer these rows; the verdict says so.
    let comparable = champion.as_ref().filter(|champion| champion.manifest.signature == signature);
    let (champion_frozen, champion_recent) = match comparable {
        Some(champion) => ask_champion(champion, &output, evaluator, cancel).await?,
        None => (None, None),
    };

    let request = InferRequest { id: "golden".to_owned(), ..whole(&signature.inputs, &golden) };
    let request = serde_json::to_value(&request).map_err(FolderError::json("the golden request"))?;
    let asking = |fraction: f64, what: &str| progress(0.5 + 0.2 * fraction, what);
    let made = variants::make(recipe, &forms, &request, &mut writer, evaluator, cancel, &asking);
    let (variants, reports) = Box::pin(made).await?;

    progress(0.7, "scoring");
    let (metric, task) = (description.primary_metric, description.task);
    let slices = match (recent.first(), champion_recent.as_ref().and_then(|answers| answers.first())) {
        (Some(new), Some(old)) => {
            let set = "holdout_recent.csv";
            let wrong = |answers| {
                losses(task, metric, &output.recent.labels, answers)
                    .map_err(|source| BuildError::Score { set, source })
            };
            output.slices.compare(&wrong(new)?, &wrong(old)?)
        }
        (_, _) => Vec::new(),
    };
    let mut drops = std::collections::BTreeMap::new();
    for (place, file) in forms.others() {
        let (other, _) = evaluator
            .answers(file, &signature, &[&output.frozen.rows], cancel)
            .await
            .map_err(|source| BuildError::Variant { variant: variants[place].precision.as_str(), source })?;
        if let (Some(other), Some(first)) = (other.first().and_then(|set| set.first()), frozen.first()) {
            let wrong = |answers| mistakes(task, description.threshold, &output.frozen.labels, answers);
            let (more, before) = (wrong(other) - wrong(first), wrong(first));
            let drop = if task == Task::Regression { more / before.max(f64::MIN_POSITIVE) } else { more };
            drops.insert(variants[place].id.clone(), drop);
        }
    }
    let measured = Measured {
        schema: "muster-evaluation/1",
        metric: metric.as_str(),
        label: description.label.clone(),
        threshold: description.threshold,
        frozen: compare(task, "holdout_frozen.csv", &output.frozen.labels, &frozen, champion_frozen)?,
        recent: compare(task, "holdout_recent.csv", &output.recent.labels, &recent, champion_recent)?,
        slices,
        variants: reports.clone(),
        drops,
        claimed_by_trainer: output.claim.clone(),
        packages: description.lineage.packages.clone(),
    };

    progress(0.8, "making the drift reference");
    let parts = (signature.clone(), description.streams.clone(), description.window_h);
    let TrainerOutput { description, reference: reference_rows, .. } = output;
    let made = tokio::task::spawn_blocking(move || {
        let (signature, streams, window_h) = parts;
        reference(&signature, &streams, &reference_rows, &usual, window_h)
    });
    let drift = made.await?.map_err(|source| BuildError::Drift { source })?;

    progress(0.9, "writing the bundle");
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
        requires: requires(&monitoring, &variants),
        signature,
        variants,
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
    Ok(Built { manifest, sha256, measured: Some(measured), variants: reports, report })
}

/// The trainer's model in every form, INT8 by its own reference rows unless others were given.
async fn forms(
    recipe: &Recipe,
    output: &TrainerOutput,
    writer: &mut folder::Writer,
    cancel: &CancellationToken,
    progress: &(impl Fn(f64, &str) + Sync),
) -> Result<variants::Forms, BuildError> {
    let rows = calibration(&output.description.inputs, &output.reference.rows)?;
    let task = convert::Task {
        source: &output.model,
        variants: &recipe.form.variants,
        calibration: recipe.form.calibration.as_deref().or(Some(rows.path())),
    };
    variants::forms(&recipe.form, task, writer, cancel, progress).await
}

fn compare(
    task: Task,
    set: &'static str,
    labels: &[f32],
    challenger: &[Rows],
    champion: Option<Vec<Rows>>,
) -> Result<Compared, BuildError> {
    let scored = |answers: &[Rows]| {
        let empty = Rows::new(0);
        score(task, labels, answers.first().unwrap_or(&empty))
            .map_err(|source| BuildError::Score { set, source })
    };
    let champion = champion.map(|answers| scored(&answers)).transpose()?;
    Ok(Compared { challenger: scored(challenger)?, champion })
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

fn requires(monitoring: &Monitoring, variants: &[Variant]) -> Vec<String> {
    let beside = variants.iter().any(|variant| !variant.beside.is_empty());
    let one_hot = monitoring.streams.iter().any(|stream| matches!(stream.source, Source::OneHot { .. }));
    let features = [
        ("golden", true),
        ("drift-reference", !monitoring.streams.is_empty()),
        ("one-hot-streams", one_hot),
        ("variant-files", beside),
    ];
    features.into_iter().filter(|(_, needed)| *needed).map(|(name, _)| name.to_owned()).collect()
}

/// Rows spread over all of them, as a file that the conversion reads.
fn calibration(
    inputs: &[muster_protocol::manifest::Tensor],
    rows: &Rows,
) -> Result<tempfile::NamedTempFile, BuildError> {
    use std::io::Write as _;
    let step = (rows.len() / CALIBRATION_ROWS).max(1);
    let spread: Vec<f32> = rows.iter().step_by(step).flatten().copied().collect();
    let request = InferRequest::of(0, inputs, &spread);
    let mut file = tempfile::Builder::new().suffix(".jsonl").tempfile().map_err(BuildError::Rows)?;
    let line = serde_json::to_vec(&request).map_err(|error| BuildError::Rows(error.into()))?;
    file.write_all(&line).map_err(BuildError::Rows)?;
    Ok(file)
}

fn whole<'a>(inputs: &'a [muster_protocol::manifest::Tensor], rows: &Rows) -> InferRequest<'a> {
    let all: Vec<f32> = rows.iter().flatten().copied().collect();
    InferRequest::of(0, inputs, &all)
}

fn three(answers: Vec<Vec<Rows>>) -> [Vec<Rows>; 3] {
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
