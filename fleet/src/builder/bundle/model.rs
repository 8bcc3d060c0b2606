//! A bundle of a model alone, without a trainer around it: nothing to score it by and nothing to watch, but every variant
//! with its golden outputs and limits.

use std::path::Path;

use muster_protocol::manifest::{Lineage, Manifest, Monitoring, SCHEMA};
use tokio_util::sync::CancellationToken;

use super::{BuildError, Built, Recipe, folder, requires, variants};
use crate::builder::convert;
use crate::builder::eval::{EvalReport, Evaluator};

/// An ONNX or `OpenVINO` file, or the folder of a `SavedModel`.
pub(super) fn is_model(from: &Path) -> bool {
    let extension = from.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("onnx" | "xml")) || from.join("saved_model.pb").is_file()
}

pub(super) async fn build(
    recipe: &Recipe,
    evaluator: &Evaluator,
    cancel: &CancellationToken,
    progress: &(impl Fn(f64, &str) + Sync),
) -> Result<Built, BuildError> {
    let mut writer = folder::Writer::create(&recipe.out)?;
    // Always by the conversion, which also finds out what the model wants to be asked.
    let converter = recipe.form.converter.as_ref().ok_or(BuildError::NoConverter)?;
    let task = convert::Task {
        source: &recipe.from,
        variants: &recipe.form.variants,
        calibration: recipe.form.calibration.as_deref(),
    };
    let converted = converter.run(task, cancel, &|fraction, what| progress(0.6 * fraction, what)).await?;
    let (signature, golden) = (converted.signature.clone(), converted.golden.clone());
    let forms = variants::place(converted.forms.clone(), &mut writer)?;
    let asking = |fraction: f64, what: &str| progress(0.6 + 0.35 * fraction, what);
    let (made, reports) =
        variants::make(recipe, &forms, &golden, &mut writer, evaluator, cancel, &asking).await?;
    progress(0.95, "writing the bundle");
    let monitoring = Monitoring { pane_s: recipe.pane_s.unwrap_or(600), ..Monitoring::default() };
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        model: recipe.model.clone(),
        version: recipe.version.clone(),
        created: recipe.created,
        description: String::new(),
        licences: Vec::new(),
        task: recipe.form.task,
        requires: requires(&monitoring, &made),
        signature,
        variants: made,
        reference: None,
        monitoring,
        evaluation: None,
        lineage: Lineage { trigger: recipe.trigger.clone(), run: recipe.run.clone(), ..Lineage::default() },
        files: writer.files(),
    };
    manifest.check()?;
    let sha256 = writer.finish(&manifest)?;
    progress(1.0, "built");
    let provider = reports.first().map(|report| report.provider.clone()).unwrap_or_default();
    let report = EvalReport { provider, ..EvalReport::default() };
    Ok(Built { manifest, sha256, measured: None, variants: reports, report })
}
