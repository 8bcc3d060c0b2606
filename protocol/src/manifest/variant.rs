//! The forms of a bundle's model: each for one kind of hardware, with what it must answer there and may take.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{ManifestError, Numerics, at_most};
use crate::limits;

/// One form of the model, for one kind of hardware.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    pub id: String,
    pub format: Format,
    /// What the runtime opens.
    pub file: String,
    /// What `file` names and the runtime opens after it, in the same folder: weights that are kept apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<String>,
    /// What the weights are.
    #[serde(default, skip_serializing_if = "Precision::is_full")]
    pub precision: Precision,
    pub select: Select,
    /// What to compute in: the same model answers differently in bfloat16.
    pub inference_precision: InferencePrecision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<Golden>,
    #[serde(default)]
    pub limits: VariantLimits,
    /// The highest rank that fits is taken.
    #[serde(default)]
    pub rank: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Onnx,
    /// OpenVINO's own: a small ONNX file that points to an `.xml` and its `.bin` beside it. Runs on OpenVINO only.
    OpenvinoIr,
}

/// From the most digits to the fewest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    #[default]
    Fp32,
    /// Weights in half the space; what is computed in is another question.
    Fp16,
    /// Weights and activations quantised.
    Int8,
}

impl Precision {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the serialiser passes a reference")]
    fn is_full(&self) -> bool {
        *self == Self::Fp32
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Select {
    /// `CPU`, `GPU` or `NPU`.
    pub device: String,
    /// CPU features that must all be there, such as `avx512_vnni`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpu_flags: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InferencePrecision {
    F32,
    F16,
    Bf16,
    /// Whatever the device takes by itself: bfloat16 where a CPU has it, half precision on a GPU. Fastest, and not the
    /// same on every box.
    Default,
}

impl InferencePrecision {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Default => "default",
        }
    }
}

/// Inputs whose outputs must come out alike on the box before the model may answer anybody.
///
/// Both files are JSON bodies of the Open Inference Protocol: an inference request and its response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Golden {
    pub request: String,
    pub response: String,
    /// Largest allowed absolute difference of any element, where its class has no tolerance of its own.
    pub tolerance_abs: f64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tolerance_abs_by_class: BTreeMap<Numerics, f64>,
}

impl Golden {
    /// How far an answer of this class may be off.
    pub fn tolerance(&self, class: Numerics) -> f64 {
        self.tolerance_abs_by_class.get(&class).copied().unwrap_or(self.tolerance_abs)
    }
}

/// What the model may take on the box; zero means no limit. Times are of the processor, as `muster-agent eval` measures
/// them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VariantLimits {
    pub load_ms_max: u64,
    pub memory_bytes_max: u64,
    pub p95_ms_max: f64,
}

impl Variant {
    /// Every file of the bundle that it needs.
    pub fn named(&self) -> impl Iterator<Item = &String> {
        let golden = self.golden.iter().flat_map(|golden| [&golden.request, &golden.response]);
        self.model_files().chain(golden)
    }

    /// What the runtime opens.
    pub fn model_files(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.file).chain(&self.beside)
    }

    pub(super) fn check(&self) -> Result<(), ManifestError> {
        at_most("files beside a variant's", self.beside.len() as u64, limits::VARIANT_FILES_MAX as u64)?;
        at_most("CPU flags of a variant", self.select.cpu_flags.len() as u64, limits::CPU_FLAGS_MAX as u64)?;
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.model_files().find(|path| !seen.insert(path.as_str())) {
            return Err(ManifestError::Twice(twice.clone()));
        }
        let tolerances = self.golden.iter().flat_map(|golden| {
            std::iter::once(&golden.tolerance_abs).chain(golden.tolerance_abs_by_class.values())
        });
        let numbers = tolerances.chain(std::iter::once(&self.limits.p95_ms_max));
        if let Some(&found) = numbers.into_iter().find(|number| !number.is_finite() || **number < 0.0) {
            return Err(ManifestError::Number { variant: self.id.clone(), found });
        }
        let folder = |path: &str| path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        match self.beside.iter().find(|path| folder(path) != folder(&self.file)) {
            Some(file) => Err(ManifestError::Apart {
                variant: self.id.clone(),
                file: file.clone(),
                beside: self.file.clone(),
            }),
            None => Ok(()),
        }
    }
}
