//! A trainer's output folder, read strictly: a trainer is somebody else's program.
//!
//! ```text
//!   model.onnx   trainer.json   reference.csv   holdout_frozen.csv   holdout_recent.csv   metrics.json
//!   or model.xml with model.bin, or saved_model/                      slices_recent.csv, if there are any
//! ```
//!
//! What the trainer claims in `metrics.json` is carried along as a claim; nothing here or later decides by it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use muster_protocol::ids::{Digest, ModelName};
use muster_protocol::limits;
use muster_protocol::manifest::{Dataset, Datatype, Signature, Source, Stream, Task, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rows::{Holdout, ReferenceRows};
use super::slices::{SLICES_FILE, Slices};

pub const TRAINER_SCHEMA: &str = "muster-trainer/1";
pub const MODEL_FILE: &str = "model.onnx";
pub(super) const DESCRIPTION_FILE: &str = "trainer.json";
const JSON_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("{file}: is missing; the trainer has to write it into MUSTER_OUT")]
    Missing { file: String },
    #[error("{file}: could not be read")]
    Unreadable {
        file: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{file}: {what}")]
    Wrong { file: String, what: String },
}

impl OutputError {
    pub(super) fn of(file: &str, source: std::io::Error) -> Self {
        let file = file.to_owned();
        if source.kind() == std::io::ErrorKind::NotFound {
            Self::Missing { file }
        } else {
            Self::Unreadable { file, source }
        }
    }

    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "output_missing",
            Self::Unreadable { .. } | Self::Wrong { .. } => "output_invalid",
        }
    }
}

/// Everything a bundle is made from.
#[derive(Debug)]
pub struct TrainerOutput {
    pub description: Description,
    pub model: PathBuf,
    pub reference: ReferenceRows,
    pub frozen: Holdout,
    pub recent: Holdout,
    /// Parts of the recent holdout that must not get worse.
    pub slices: Slices,
    /// `metrics.json`, unread.
    pub claim: Value,
}

/// `trainer.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Description {
    pub schema: String,
    pub model: ModelName,
    pub task: Task,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub licences: Vec<String>,
    pub inputs: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
    #[serde(default)]
    pub label: String,
    pub primary_metric: Metric,
    #[serde(default)]
    pub threshold: Option<f64>,
    /// Length of the window that drift is tested in.
    pub window_h: u64,
    pub streams: Vec<Stream>,
    #[serde(default)]
    pub lineage: TrainerLineage,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TrainerLineage {
    pub datasets: Vec<TrainerDataset>,
    pub trainer: String,
    pub packages: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct TrainerDataset {
    pub path: String,
    pub sha256: Digest,
    pub rows: u64,
}

/// What models are compared by; lower is better for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    LogLoss,
    Brier,
    Mae,
}

impl Metric {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LogLoss => "log_loss",
            Self::Brier => "brier",
            Self::Mae => "mae",
        }
    }
}

impl TrainerOutput {
    pub fn read(folder: &Path) -> Result<Self, OutputError> {
        let description = Description::read(folder)?;
        let model = model(folder)?;
        let features = description.features();
        let recent = Holdout::read(&folder.join("holdout_recent.csv"), &features)?;
        Ok(Self {
            slices: Slices::read(&folder.join(SLICES_FILE), recent.rows.len())?,
            reference: ReferenceRows::read(&folder.join("reference.csv"), &features)?,
            frozen: Holdout::read(&folder.join("holdout_frozen.csv"), &features)?,
            recent,
            claim: read_json(folder, "metrics.json")?,
            description,
            model,
        })
    }
}

impl Description {
    fn read(folder: &Path) -> Result<Self, OutputError> {
        let wrong = |what: String| OutputError::Wrong { file: DESCRIPTION_FILE.to_owned(), what };
        let value = read_json(folder, DESCRIPTION_FILE)?;
        match value.get("schema").and_then(Value::as_str) {
            Some(TRAINER_SCHEMA) => {}
            Some(other) => {
                return Err(wrong(format!("schema is '{other}'; this version reads {TRAINER_SCHEMA}")));
            }
            None => return Err(wrong(format!("has no schema; write \"schema\": \"{TRAINER_SCHEMA}\""))),
        }
        let description: Self = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        description.check().map_err(wrong)?;
        Ok(description)
    }

    pub fn signature(&self) -> Signature {
        Signature { inputs: self.inputs.clone(), outputs: self.outputs.clone() }
    }

    /// Names of all input columns, tensor by tensor: the columns of every CSV file.
    pub fn features(&self) -> Vec<&str> {
        self.inputs.iter().flat_map(|tensor| &tensor.features).map(String::as_str).collect()
    }

    pub fn datasets(&self) -> Vec<Dataset> {
        let named = self.lineage.datasets.iter();
        named.map(|set| Dataset { name: set.path.clone(), sha256: set.sha256, rows: set.rows }).collect()
    }

    /// What the manifest's own check cannot say in the trainer's words.
    fn check(&self) -> Result<(), String> {
        if self.inputs.is_empty() || self.outputs.is_empty() {
            return Err("inputs and outputs must each name a tensor".to_owned());
        }
        for tensor in &self.inputs {
            let name = &tensor.name;
            if tensor.datatype != Datatype::Fp32 {
                return Err(format!("the input '{name}' is not FP32; export the model with FP32 inputs"));
            }
            let columns = width(tensor).filter(|_| tensor.shape.len() == 2);
            let Some(columns) = columns else {
                return Err(format!("the input '{name}' must have the shape [-1, columns]"));
            };
            if tensor.features.len() != columns {
                let found = tensor.features.len();
                return Err(format!(
                    "the input '{name}' has {columns} columns and {found} features; name each column"
                ));
            }
        }
        for tensor in &self.outputs {
            if width(tensor).is_none() {
                return Err(format!(
                    "the output '{}' must have the shape [-1] or [-1, columns]",
                    tensor.name
                ));
            }
        }
        let metric_fits = match self.task {
            Task::Binary | Task::Classification => {
                matches!(self.primary_metric, Metric::LogLoss | Metric::Brier)
            }
            Task::Regression => self.primary_metric == Metric::Mae,
        };
        if !metric_fits {
            let (metric, task) = (self.primary_metric.as_str(), format!("{:?}", self.task).to_lowercase());
            return Err(format!("primary_metric '{metric}' does not fit the task '{task}'"));
        }
        if self.window_h == 0 || self.window_h > 24 * 366 {
            return Err(format!("window_h is {}; use 1 hour to 1 year", self.window_h));
        }
        self.streams.iter().try_for_each(|stream| self.check_stream(stream))
    }

    fn check_stream(&self, stream: &Stream) -> Result<(), String> {
        let name = &stream.name;
        let tensor = stream.source.tensor();
        let Some(found) = self.inputs.iter().chain(&self.outputs).find(|t| t.name == tensor) else {
            return Err(format!(
                "the stream '{name}' reads the tensor '{tensor}', which is no input or output"
            ));
        };
        let columns = width(found).unwrap_or(0);
        let last = match &stream.source {
            Source::Numeric { column, null_when_column, .. } => (*column).max(null_when_column.unwrap_or(0)),
            Source::OneHot { first_column, categories, .. } if !categories.is_empty() => {
                first_column.saturating_add(categories.len() - 1)
            }
            Source::OneHot { .. } => return Err(format!("the stream '{name}' has no categories")),
        };
        if last >= columns {
            return Err(format!(
                "the stream '{name}' reads column {last} of '{tensor}', which has {columns}"
            ));
        }
        Ok(())
    }
}

/// Columns of a tensor of shape [-1] or [-1, columns].
pub fn width(tensor: &Tensor) -> Option<usize> {
    match tensor.shape.as_slice() {
        [_] => Some(1),
        [_, columns @ 1..=i64::MAX] => usize::try_from(*columns).ok().filter(|&n| n <= limits::FEATURES_MAX),
        _ => None,
    }
}

/// The first of `model.onnx`, `model.xml` and `saved_model/` that is there.
fn model(folder: &Path) -> Result<PathBuf, OutputError> {
    let others = ["model.xml", "saved_model"].map(|name| folder.join(name));
    let model = folder.join(MODEL_FILE);
    let found = std::fs::metadata(&model);
    if found.is_err()
        && let Some(other) = others.into_iter().find(|path| path.exists())
    {
        return Ok(other);
    }
    if found.map_err(|source| OutputError::of(MODEL_FILE, source))?.len() == 0 {
        return Err(OutputError::Wrong { file: MODEL_FILE.to_owned(), what: "is empty".to_owned() });
    }
    Ok(model)
}

fn read_json(folder: &Path, file: &str) -> Result<Value, OutputError> {
    let path = folder.join(file);
    let wrong = |what: String| OutputError::Wrong { file: file.to_owned(), what };
    let length = std::fs::metadata(&path).map_err(|source| OutputError::of(file, source))?.len();
    if length > JSON_BYTES_MAX {
        return Err(wrong(format!("is {length} bytes long; the limit is {JSON_BYTES_MAX}")));
    }
    let bytes = std::fs::read(&path).map_err(|source| OutputError::of(file, source))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(format!("is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn good() -> Value {
        json!({
            "schema": TRAINER_SCHEMA, "model": "er", "task": "binary",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2], "features": ["a", "b"]}],
            "outputs": [{"name": "score", "datatype": "FP32", "shape": [-1, 1]}],
            "primary_metric": "log_loss", "window_h": 24,
            "streams": [{"name": "a", "kind": "numeric", "tensor": "x", "column": 0}],
        })
    }

    fn read(value: &Value) -> Result<Description, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(DESCRIPTION_FILE), value.to_string()).unwrap();
        Description::read(folder.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_description_is_read() {
        let description = read(&good()).unwrap();
        assert_eq!(description.features(), ["a", "b"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |pointer: &str, value: Value, expect: &str| {
            let mut all = good();
            *all.pointer_mut(pointer).unwrap() = value;
            let error = read(&all).unwrap_err();
            assert!(error.starts_with("trainer.json: ") && error.contains(expect), "{error}");
        };
        check(
            "/schema",
            json!("muster-trainer/9"),
            "schema is 'muster-trainer/9'; this version reads muster-trainer/1",
        );
        check("/model", json!("ER"), "'ER' is not a model name");
        check("/primary_metric", json!("mae"), "primary_metric 'mae' does not fit the task 'binary'");
        check("/inputs/0/features", json!(["a"]), "the input 'x' has 2 columns and 1 features");
        check("/inputs/0/datatype", json!("INT64"), "the input 'x' is not FP32");
        check("/inputs/0/shape", json!([-1]), "the input 'x' must have the shape [-1, columns]");
        check(
            "/streams/0/tensor",
            json!("y"),
            "the stream 'a' reads the tensor 'y', which is no input or output",
        );
        check("/streams/0/column", json!(2), "the stream 'a' reads column 2 of 'x', which has 2");
        check("/window_h", json!(0), "window_h is 0");
        check("/outputs", json!([]), "inputs and outputs must each name a tensor");
    }

    #[test]
    fn missing_and_broken_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let error = TrainerOutput::read(folder.path()).unwrap_err();
        assert_eq!(
            (error.code(), error.to_string().contains("trainer.json: is missing")),
            ("output_missing", true)
        );
        std::fs::write(folder.path().join(DESCRIPTION_FILE), "{").unwrap();
        let error = TrainerOutput::read(folder.path()).unwrap_err();
        assert_eq!(
            (error.code(), error.to_string().contains("trainer.json: is not JSON")),
            ("output_invalid", true)
        );
        std::fs::write(folder.path().join(DESCRIPTION_FILE), good().to_string()).unwrap();
        std::fs::write(folder.path().join(MODEL_FILE), "").unwrap();
        let error = TrainerOutput::read(folder.path()).unwrap_err();
        assert_eq!(error.to_string(), "model.onnx: is empty");
    }
}
