//! What a bundle is: a manifest that names its files by length and SHA-256, and says what the model answers, how it is
//! checked before it may, and what is watched while it does.
//!
//! The SHA-256 of the manifest's bytes is the bundle's identity. Unknown fields are ignored; a feature named in
//! `requires` that this code does not know is refused, so that an older box never half-understands a newer bundle.

pub mod fit;
pub mod reference;
pub mod variant;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{BundleVersion, Digest, ModelName, RunId, StreamName, TriggerId};
use crate::limits;
use crate::time::Timestamp;

pub use fit::{Fit, Numerics};
pub use reference::{ReferenceFile, StreamReference};
pub use variant::{Format, Golden, InferencePrecision, Precision, Select, Variant, VariantLimits};

pub const SCHEMA: &str = "muster-bundle/1";

/// Features that a manifest may require and this version understands.
pub const KNOWN_FEATURES: &[&str] =
    &["golden", "drift-reference", "one-hot-streams", "cpu-flags", "variant-files"];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub schema: String,
    pub model: ModelName,
    pub version: BundleVersion,
    /// Real time.
    pub created: Timestamp,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub licences: Vec<String>,
    pub task: Task,
    /// What a reader must understand to run this bundle.
    #[serde(default)]
    pub requires: Vec<String>,
    pub signature: Signature,
    pub variants: Vec<Variant>,
    /// The drift reference's file; absent where nothing is monitored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    #[serde(default)]
    pub monitoring: Monitoring,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
    #[serde(default)]
    pub lineage: Lineage,
    pub files: Vec<BundleFile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One probability a row.
    Binary,
    /// One probability a class.
    Classification,
    /// One number a row.
    Regression,
}

/// Open Inference Protocol names and types: the contract with applications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    pub inputs: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tensor {
    pub name: String,
    pub datatype: Datatype,
    /// -1 where a dimension is free.
    pub shape: Vec<i64>,
    /// Names of the last dimension's columns, where it has names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
}

/// Tensor element types of the Open Inference Protocol, and `BF16` as other servers name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    /// Texts.
    Bytes,
}

impl Datatype {
    /// As the protocol spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// Bytes of an element; None where each has its own length.
    pub fn element_bytes(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

/// What is counted on the box.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Monitoring {
    pub streams: Vec<Stream>,
    /// Length of a pane, seconds of world time; divides the window.
    pub pane_s: u64,
    /// Length of the window that is tested: one natural cycle, seconds of world time.
    pub window_s: u64,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self { streams: Vec::new(), pane_s: 600, window_s: 86_400 }
    }
}

/// One monitored column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    pub name: StreamName,
    #[serde(flatten)]
    pub source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    /// A column of an input or output tensor, by the tensor's name.
    Numeric {
        tensor: String,
        column: usize,
        /// The value counts as missing where this column of the same tensor is not zero.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        null_when_column: Option<usize>,
    },
    /// Neighbouring 0/1 columns that spell one category.
    OneHot { tensor: String, first_column: usize, categories: Vec<String> },
}

impl Source {
    pub fn tensor(&self) -> &str {
        match self {
            Self::Numeric { tensor, .. } | Self::OneHot { tensor, .. } => tensor,
        }
    }
}

/// How it did before it was signed; computed by the builder, recorded, shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// `brier`, `log_loss` or `mae`: lower is better.
    pub metric: String,
    /// Probabilities at or above it are answered as positive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    pub sets: Vec<EvaluationSet>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationSet {
    /// `frozen` or `recent`.
    pub name: String,
    pub rows: u64,
    pub challenger: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub champion: Option<f64>,
}

/// Where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lineage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<TriggerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub champion: Option<Digest>,
    pub datasets: Vec<Dataset>,
    pub trainer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    pub name: String,
    pub sha256: Digest,
    pub rows: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFile {
    /// Relative, with '/', inside the bundle.
    pub path: String,
    pub length: u64,
    pub sha256: Digest,
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("a manifest of {0} bytes is longer than the {max} allowed", max = limits::MANIFEST_BYTES_MAX)]
    Long(usize),
    #[error("the manifest is not JSON of the expected shape")]
    Json(#[source] serde_json::Error),
    #[error("the manifest's schema is '{0}'; this version reads {SCHEMA}")]
    Schema(String),
    #[error(
        "the bundle requires '{0}', which this version does not know; update Muster before you use this bundle"
    )]
    UnknownFeature(String),
    #[error("the manifest names the file '{0}', which is not among its files")]
    MissingFile(String),
    #[error("the manifest's file path '{0}' must be relative, without '..', and appear once")]
    Path(String),
    #[error("the manifest names the tensor '{0}', which its signature does not have")]
    UnknownTensor(String),
    #[error("the stream '{stream}' reads column {column} of '{tensor}', which has {columns}")]
    Column { stream: StreamName, tensor: String, column: usize, columns: i64 },
    #[error("the manifest's {what} holds {found}; the limit is {limit}")]
    Bound { what: &'static str, found: u64, limit: u64 },
    #[error("the manifest has no {0}")]
    Empty(&'static str),
    #[error("the manifest has two entries called '{0}'")]
    Twice(String),
    #[error("the variant '{variant}' needs all its files in one folder; '{file}' is not beside '{beside}'")]
    Apart { variant: String, file: String, beside: String },
    #[error(
        "a tolerance or limit of the variant '{variant}' is {found}; it must be a number of zero or more"
    )]
    Number { variant: String, found: f64 },
    #[error("a window of {window_s} s cannot be made of panes of {pane_s} s; let the pane divide the window")]
    Window { window_s: u64, pane_s: u64 },
}

impl Manifest {
    /// Reads a manifest and refuses whatever it does not fully understand.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > limits::MANIFEST_BYTES_MAX {
            return Err(ManifestError::Long(bytes.len()));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks a manifest that was made here, as its readers will.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.schema != SCHEMA {
            return Err(ManifestError::Schema(self.schema.clone()));
        }
        if let Some(unknown) =
            self.requires.iter().find(|feature| !KNOWN_FEATURES.contains(&feature.as_str()))
        {
            return Err(ManifestError::UnknownFeature(unknown.clone()));
        }
        self.check_files()?;
        self.check_signature()?;
        self.check_variants()?;
        self.check_streams()
    }

    pub fn file(&self, path: &str) -> Option<&BundleFile> {
        self.files.iter().find(|file| file.path == path)
    }

    pub fn total_bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.length))
    }

    fn check_files(&self) -> Result<(), ManifestError> {
        at_most("files", self.files.len() as u64, limits::BUNDLE_FILES_MAX as u64)?;
        at_most("bytes", self.total_bytes(), limits::BUNDLE_BYTES_MAX)?;
        let mut seen = BTreeSet::new();
        for file in &self.files {
            if !is_plain_path(&file.path) || !seen.insert(file.path.as_str()) {
                return Err(ManifestError::Path(file.path.clone()));
            }
        }
        Ok(())
    }

    fn check_signature(&self) -> Result<(), ManifestError> {
        let tensors = [&self.signature.inputs, &self.signature.outputs];
        for (what, side) in ["inputs", "outputs"].into_iter().zip(tensors) {
            if side.is_empty() {
                return Err(ManifestError::Empty(what));
            }
            at_most(what, side.len() as u64, limits::TENSORS_MAX as u64)?;
        }
        let mut seen = BTreeSet::new();
        for tensor in tensors.into_iter().flatten() {
            at_most("features", tensor.features.len() as u64, limits::FEATURES_MAX as u64)?;
            if !seen.insert(tensor.name.as_str()) {
                return Err(ManifestError::Twice(tensor.name.clone()));
            }
        }
        Ok(())
    }

    fn check_variants(&self) -> Result<(), ManifestError> {
        if self.variants.is_empty() {
            return Err(ManifestError::Empty("variants"));
        }
        at_most("variants", self.variants.len() as u64, limits::VARIANTS_MAX as u64)?;
        let mut ids = BTreeSet::new();
        for variant in &self.variants {
            if !ids.insert(variant.id.as_str()) {
                return Err(ManifestError::Twice(variant.id.clone()));
            }
            variant.check()?;
        }
        for path in self.variants.iter().flat_map(Variant::named).chain(&self.reference) {
            if self.file(path).is_none() {
                return Err(ManifestError::MissingFile(path.clone()));
            }
        }
        Ok(())
    }

    fn check_streams(&self) -> Result<(), ManifestError> {
        let Monitoring { streams, pane_s, window_s } = &self.monitoring;
        at_most("streams", streams.len() as u64, limits::STREAMS_MAX as u64)?;
        if *pane_s == 0 || *window_s == 0 || window_s % pane_s != 0 {
            return Err(ManifestError::Window { window_s: *window_s, pane_s: *pane_s });
        }
        let mut seen = BTreeSet::new();
        for stream in streams {
            if !seen.insert(&stream.name) {
                return Err(ManifestError::Twice(stream.name.to_string()));
            }
            let tensor = self.tensor(stream.source.tensor())?;
            let columns = tensor.shape.last().copied().unwrap_or(1);
            let last = match &stream.source {
                Source::Numeric { column, null_when_column, .. } => {
                    (*column).max(null_when_column.unwrap_or(0))
                }
                Source::OneHot { first_column, categories, .. } => {
                    if categories.is_empty() {
                        return Err(ManifestError::Empty("categories"));
                    }
                    at_most("categories", categories.len() as u64, limits::CATEGORIES_MAX as u64)?;
                    first_column.saturating_add(categories.len() - 1)
                }
            };
            if i64::try_from(last).unwrap_or(i64::MAX) >= columns {
                let (stream, tensor) = (stream.name.clone(), tensor.name.clone());
                return Err(ManifestError::Column { stream, tensor, column: last, columns });
            }
        }
        Ok(())
    }

    fn tensor(&self, name: &str) -> Result<&Tensor, ManifestError> {
        let mut all = self.signature.inputs.iter().chain(&self.signature.outputs);
        all.find(|tensor| tensor.name == name).ok_or_else(|| ManifestError::UnknownTensor(name.to_owned()))
    }
}

fn at_most(what: &'static str, found: u64, limit: u64) -> Result<(), ManifestError> {
    if found > limit { Err(ManifestError::Bound { what, found, limit }) } else { Ok(()) }
}

/// A path that stays inside its folder on every system.
pub fn is_plain_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= limits::BUNDLE_PATH_BYTES_MAX
        && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b))
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../tests/wire/manifest.json");

    fn with(edit: impl FnOnce(&mut serde_json::Value)) -> Result<Manifest, ManifestError> {
        let mut value = serde_json::from_str(GOOD).unwrap();
        edit(&mut value);
        Manifest::parse(value.to_string().as_bytes())
    }

    #[test]
    fn a_manifest_is_read_and_written_back() {
        let manifest = with(|_| ()).unwrap();
        let back = Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap();
        assert_eq!(back, manifest);
    }

    #[test]
    fn unknown_fields_are_ignored_and_unknown_requirements_refused() {
        with(|m| m["colour"] = "blue".into()).unwrap();
        let error = with(|m| m["requires"] = serde_json::json!(["golden", "telepathy"])).unwrap_err();
        assert!(matches!(error, ManifestError::UnknownFeature(feature) if feature == "telepathy"));
    }

    #[test]
    fn what_does_not_hold_together_is_refused() {
        assert!(matches!(
            with(|m| m["variants"][0]["file"] = "other.onnx".into()),
            Err(ManifestError::MissingFile(_))
        ));
        assert!(matches!(
            with(|m| m["variants"] = serde_json::json!([])),
            Err(ManifestError::Empty("variants"))
        ));
        assert!(matches!(with(|m| m["schema"] = "muster-bundle/9".into()), Err(ManifestError::Schema(_))));
        assert!(matches!(with(|m| m["monitoring"]["pane_s"] = 7.into()), Err(ManifestError::Window { .. })));
        assert!(matches!(
            with(|m| m["monitoring"]["streams"][0]["column"] = 99.into()),
            Err(ManifestError::Column { column: 99, .. })
        ));
        assert!(matches!(
            with(|m| m["monitoring"]["streams"][0]["tensor"] = "y".into()),
            Err(ManifestError::UnknownTensor(_))
        ));
    }

    #[test]
    fn tolerances_and_limits_are_numbers_of_zero_or_more() {
        let golden = |m: &mut serde_json::Value, name: &str, value: serde_json::Value| {
            m["variants"][0]["golden"][name] = value;
        };
        assert!(with(|m| golden(m, "tolerance_abs", 0.0.into())).is_ok());
        for wrong in [
            with(|m| golden(m, "tolerance_abs", (-0.1).into())),
            with(|m| golden(m, "tolerance_abs_by_class", serde_json::json!({ "bf16": -1 }))),
            with(|m| m["variants"][0]["limits"]["p95_ms_max"] = (-1.0).into()),
        ] {
            assert!(matches!(wrong, Err(ManifestError::Number { .. })), "{wrong:?}");
        }
        // What serde writes of a number that is not finite.
        assert!(matches!(
            with(|m| golden(m, "tolerance_abs", serde_json::Value::Null)),
            Err(ManifestError::Json(_))
        ));
        // And what a builder may have made of a division.
        let mut made: Manifest = serde_json::from_str(GOOD).unwrap();
        made.check().unwrap();
        made.variants[0].golden.as_mut().unwrap().tolerance_abs = f64::NAN;
        assert!(matches!(made.check(), Err(ManifestError::Number { .. })));
    }

    #[test]
    fn paths_stay_inside() {
        for wrong in ["/etc/passwd", "../x", "a/../b", "a//b", "", "a\\b", "./a"] {
            let refused = with(|m| m["files"][0]["path"] = wrong.into());
            assert!(matches!(refused, Err(ManifestError::Path(_))), "{wrong}");
        }
    }
}
