//! From a model to the variants of a manifest: converted where that is needed, each asked where it lies in the new folder,
//! so that what is signed is what was tried.

use std::path::{Path, PathBuf};

use muster_protocol::manifest::{Format, Golden, InferencePrecision, Precision, Select, Variant};
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::folder::Writer;
use super::{BuildError, Form, Recipe};
use crate::builder::convert::{self, Task};
use crate::builder::eval::Evaluator;
use crate::builder::forms::{self, differ};
use crate::builder::output::MODEL_FILE;

const GOLDEN_REQUEST: &str = "golden/request.json";

/// The model's forms, in the new bundle's folder.
#[derive(Debug)]
pub(super) struct Forms {
    /// Where to ask the first of them.
    pub first: PathBuf,
    placed: Vec<Placed>,
}

impl Forms {
    /// Those after the first: their places, and where to ask them.
    pub(super) fn others(&self) -> impl Iterator<Item = (usize, &Path)> {
        self.placed.iter().enumerate().skip(1).map(|(place, placed)| (place, placed.form.file.as_path()))
    }
}

#[derive(Debug)]
struct Placed {
    form: convert::Form,
    /// Their paths in the bundle.
    file: String,
    beside: Vec<String>,
}

/// What a variant is beside the first one.
#[derive(Clone, Debug, Serialize)]
pub struct VariantReport {
    pub id: String,
    pub bytes: u64,
    pub provider: String,
    /// Not written into the bundle, which would otherwise differ from build to build.
    #[serde(skip_serializing)]
    pub load_ms: f64,
    #[serde(skip_serializing)]
    pub p95_us: f64,
    /// Of the golden outputs, beside those of the first variant.
    pub differs_max: f64,
    pub differs_mean: f64,
}

/// Converts what has to be converted.
pub(super) async fn forms(
    form: &Form,
    task: Task<'_>,
    writer: &mut Writer,
    cancel: &CancellationToken,
    progress: &(impl Fn(f64, &str) + Sync),
) -> Result<Forms, BuildError> {
    if is_plain(form, task.source) {
        let (file, beside) = (task.source.to_owned(), Vec::new());
        let form = convert::Form { precision: Precision::Fp32, format: Format::Onnx, file, beside };
        return place(vec![form], writer);
    }
    let converter = form.converter.as_ref().ok_or(BuildError::NoConverter)?;
    let converted = converter.run(task, cancel, progress).await?;
    place(converted.forms.clone(), writer)
}

/// Takes every file into the folder.
pub(super) fn place(made: Vec<convert::Form>, writer: &mut Writer) -> Result<Forms, BuildError> {
    let alone = made.len() == 1;
    let mut placed = Vec::with_capacity(made.len());
    for mut form in made {
        let name = |path: &Path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if alone { name } else { format!("{}/{name}", form.precision.as_str()) }
        };
        let file = if alone { MODEL_FILE.to_owned() } else { name(&form.file) };
        let beside: Vec<String> = form.beside.iter().map(|path| name(path)).collect();
        form.file = writer.copy(&file, &form.file)?;
        for (name, path) in beside.iter().zip(&mut form.beside) {
            *path = writer.copy(name, path)?;
        }
        placed.push(Placed { form, file, beside });
    }
    let first = placed.first().map(|placed| placed.form.file.clone()).unwrap_or_default();
    Ok(Forms { first, placed })
}

/// Asks every form the golden request and writes what it said.
pub(super) async fn make(
    recipe: &Recipe,
    forms: &Forms,
    request: &Value,
    writer: &mut Writer,
    evaluator: &Evaluator,
    cancel: &CancellationToken,
    progress: &(impl Fn(f64, &str) + Sync),
) -> Result<(Vec<Variant>, Vec<VariantReport>), BuildError> {
    let line = request.to_string();
    writer.json(GOLDEN_REQUEST, request)?;
    let (mut variants, mut reports) = (Vec::new(), Vec::new());
    let mut first: Option<Value> = None;
    for (number, Placed { form, file, beside }) in forms.placed.iter().enumerate() {
        let precision = form.precision.as_str();
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let fraction = number as f64 / forms.placed.len() as f64;
        progress(fraction, &format!("asking {precision} for golden outputs and limits"));
        let asked = forms::ask(form, &line, evaluator, cancel)
            .await
            .map_err(|source| BuildError::Variant { variant: precision, source })?;
        let response = if forms.placed.len() == 1 {
            "golden/response.json".to_owned()
        } else {
            format!("golden/{precision}.json")
        };
        writer.json(
            &response,
            &serde_json::json!({
                "model_name": recipe.model, "model_version": recipe.version, "id": "golden",
                "outputs": asked.response["outputs"],
            }),
        )?;
        let id = id(form.precision, recipe.form.inference_precision);
        let (differs_max, differs_mean) =
            differ(first.get_or_insert_with(|| asked.response.clone()), &asked.response);
        let sizes = writer.files();
        let named = |path: &String| *path == *file || beside.contains(path);
        reports.push(VariantReport {
            id: id.clone(),
            bytes: sizes.iter().filter(|f| named(&f.path)).map(|f| f.length).sum(),
            provider: asked.report.provider.clone(),
            load_ms: asked.report.load_ms,
            p95_us: asked.report.p95_us,
            differs_max,
            differs_mean,
        });
        variants.push(Variant {
            id,
            format: form.format,
            file: file.clone(),
            beside: beside.clone(),
            precision: form.precision,
            select: Select { device: "CPU".to_owned(), cpu_flags: Vec::new() },
            inference_precision: recipe.form.inference_precision,
            golden: Some(Golden {
                request: GOLDEN_REQUEST.to_owned(),
                response,
                tolerance_abs: asked.tolerance_abs,
                tolerance_abs_by_class: asked.tolerances,
            }),
            limits: asked.limits,
            rank: rank(form.precision),
        });
    }
    Ok((variants, reports))
}

/// Nothing to convert: one ONNX file, wanted as it is.
fn is_plain(form: &Form, source: &Path) -> bool {
    form.variants == [Precision::Fp32] && source.extension().is_some_and(|extension| extension == "onnx")
}

fn id(precision: Precision, inference: InferencePrecision) -> String {
    match inference {
        InferencePrecision::F32 => format!("cpu-{}", precision.as_str()),
        InferencePrecision::F16 | InferencePrecision::Bf16 | InferencePrecision::Default => {
            format!("cpu-{}-{}", precision.as_str(), inference.as_str())
        }
    }
}

/// The fewest bytes and the least work first.
fn rank(precision: Precision) -> i32 {
    match precision {
        Precision::Fp32 => 100,
        Precision::Fp16 => 200,
        Precision::Int8 => 300,
    }
}
