//! Which variants of a bundle a box can run, in which order it tries them, and how numbers come out there.
//!
//! The same input gives the same answer on the box, in the fleet and in a test. What a variant is worth on a box is not
//! judged here: its self-test does that, and the next of the list is tried when it fails.

use serde::{Deserialize, Serialize};

use super::{Format, InferencePrecision, Precision, Variant};
use crate::message::Provider;
use crate::message::up::Capabilities;

const CPU: &str = "CPU";

/// What a box does with the variants of a bundle.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit<'a> {
    /// To be tried, the best first: by rank, and of equals the one that is named first.
    pub fitting: Vec<&'a Variant>,
    pub refused: Vec<Refused<'a>>,
}

/// A variant that this box cannot run, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused<'a> {
    pub variant: &'a Variant,
    pub reason: String,
}

impl<'a> Fit<'a> {
    pub fn of(variants: &'a [Variant], has: &Capabilities) -> Self {
        let mut fit = Self { fitting: Vec::new(), refused: Vec::new() };
        for variant in variants {
            match lacking(variant, has) {
                None => fit.fitting.push(variant),
                Some(reason) => fit.refused.push(Refused { variant, reason }),
            }
        }
        // Stable: equals stay in the manifest's order.
        fit.fitting.sort_by_key(|variant| std::cmp::Reverse(variant.rank));
        fit
    }
}

fn lacking(variant: &Variant, has: &Capabilities) -> Option<String> {
    let select = &variant.select;
    if !has.devices.contains(&select.device) {
        match (select.device.as_str(), variant.format) {
            // Every box has a CPU, and ONNX Runtime's own kernels for it.
            (CPU, Format::Onnx) => {}
            (CPU, Format::OpenvinoIr) => {
                return Some(
                    "OpenVINO does not drive this box's CPU, and nothing else runs its format".to_owned(),
                );
            }
            (device, _) => return Some(format!("OpenVINO drives no {device} of this box")),
        }
    }
    let missing: Vec<&str> =
        select.cpu_flags.iter().filter(|flag| !has.cpu_flags.contains(flag)).map(String::as_str).collect();
    (!missing.is_empty()).then(|| format!("this box's CPU lacks {}", missing.join(", ")))
}

/// How numbers come out: boxes of one class agree but for rounding, boxes of different classes need not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numerics {
    F32,
    F16,
    Bf16,
    /// Eight-bit products; what sums them differs between CPUs with and without VNNI or AMX.
    Int8,
}

impl Numerics {
    /// The class in which `provider` answers from `variant` on this box.
    ///
    /// The rules are OpenVINO's own for its CPU device: what is asked for is a wish, granted where the CPU has
    /// instructions for it, and without a wish it takes bfloat16 where that is fast. ONNX Runtime's kernels know no such
    /// wish. A box that this gets wrong is judged by another class's tolerance, so it refuses rather than errs.
    pub fn of(variant: &Variant, provider: Provider, has: &Capabilities) -> Self {
        if variant.precision == Precision::Int8 {
            return Self::Int8;
        }
        if provider == Provider::OnnxCpu {
            return Self::F32;
        }
        if variant.select.device != CPU {
            return match variant.inference_precision {
                InferencePrecision::F32 => Self::F32,
                InferencePrecision::F16 | InferencePrecision::Bf16 | InferencePrecision::Default => Self::F16,
            };
        }
        let any = |flags: &[&str]| flags.iter().any(|flag| has.cpu_flags.iter().any(|has| has == flag));
        let f16 = any(&["avx512_fp16", "amx_fp16", "fphp", "avx_ne_convert"]);
        let bf16_fast = any(&["avx512_bf16", "amx_bf16", "avx_ne_convert"]);
        match variant.inference_precision {
            // Any AVX-512 computes it, if slowly.
            InferencePrecision::Bf16 if bf16_fast || any(&["avx512f"]) => Self::Bf16,
            InferencePrecision::Default if bf16_fast => Self::Bf16,
            InferencePrecision::Default if has.arch == "aarch64" && f16 => Self::F16,
            InferencePrecision::F16 if f16 => Self::F16,
            InferencePrecision::F32
            | InferencePrecision::F16
            | InferencePrecision::Bf16
            | InferencePrecision::Default => Self::F32,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Select, VariantLimits};

    fn variant(id: &str, rank: i32, device: &str, cpu_flags: &[&str]) -> Variant {
        Variant {
            id: id.to_owned(),
            format: Format::Onnx,
            file: "model.onnx".to_owned(),
            beside: Vec::new(),
            precision: Precision::Fp32,
            select: Select {
                device: device.to_owned(),
                cpu_flags: cpu_flags.iter().map(|&flag| flag.to_owned()).collect(),
            },
            inference_precision: InferencePrecision::F32,
            golden: None,
            limits: VariantLimits::default(),
            rank,
        }
    }

    fn machine(cpu_flags: &[&str]) -> Capabilities {
        Capabilities {
            arch: "x86_64".to_owned(),
            devices: vec!["CPU".to_owned()],
            cpu_flags: cpu_flags.iter().map(|&flag| flag.to_owned()).collect(),
            ..Capabilities::default()
        }
    }

    #[test]
    fn the_best_that_fits_comes_first_and_the_others_say_why_not() {
        let all = [
            variant("fallback", 0, "CPU", &[]),
            variant("gpu", 300, "GPU", &[]),
            variant("vnni", 200, "CPU", &["avx512_vnni", "amx_int8"]),
            variant("first", 100, "CPU", &["avx2"]),
            variant("second", 100, "CPU", &[]),
        ];
        let ids = |fit: &Fit<'_>| fit.fitting.iter().map(|v| v.id.clone()).collect::<Vec<_>>();
        let fit = Fit::of(&all, &machine(&["avx2", "amx_int8"]));
        assert_eq!(ids(&fit), ["first", "second", "fallback"]);
        let refused: Vec<_> =
            fit.refused.iter().map(|r| (r.variant.id.as_str(), r.reason.as_str())).collect();
        assert_eq!(
            refused,
            [("gpu", "OpenVINO drives no GPU of this box"), ("vnni", "this box's CPU lacks avx512_vnni")]
        );
        assert_eq!(ids(&Fit::of(&all, &machine(&["avx2", "amx_int8", "avx512_vnni"])))[0], "vnni");
    }

    #[test]
    fn without_openvino_a_cpu_runs_onnx_models_alone() {
        let bare = Capabilities { devices: Vec::new(), ..machine(&[]) };
        let check = |variant: Variant, reasons: &[&str]| {
            let fit = Fit::of(std::slice::from_ref(&variant), &bare);
            assert_eq!(fit.refused.iter().map(|r| r.reason.as_str()).collect::<Vec<_>>(), reasons);
        };
        check(variant("onnx", 0, "CPU", &[]), &[]);
        check(variant("gpu", 0, "GPU", &[]), &["OpenVINO drives no GPU of this box"]);
        let ir = Variant { format: Format::OpenvinoIr, ..variant("ir", 0, "CPU", &[]) };
        check(ir, &["OpenVINO does not drive this box's CPU, and nothing else runs its format"]);
    }

    #[test]
    fn the_class_follows_from_variant_provider_and_cpu() {
        use InferencePrecision::{Bf16, Default, F16, F32};
        let old = ["avx2", "fma"];
        let skylake = ["avx2", "avx512f"];
        let amx = ["avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx512_fp16"];
        let check = |asked, flags: &[&str], provider, expect| {
            let variant = Variant { inference_precision: asked, ..variant("v", 0, "CPU", &[]) };
            assert_eq!(Numerics::of(&variant, provider, &machine(flags)), expect, "{asked:?} on {flags:?}");
            let int8 = Variant { precision: Precision::Int8, ..variant };
            assert_eq!(Numerics::of(&int8, provider, &machine(flags)), Numerics::Int8);
        };
        for flags in [&old[..], &skylake, &amx] {
            check(F32, flags, Provider::OpenVino, Numerics::F32);
            check(Default, flags, Provider::OnnxCpu, Numerics::F32);
            check(Bf16, flags, Provider::OnnxCpu, Numerics::F32);
        }
        check(Default, &old, Provider::OpenVino, Numerics::F32);
        check(Default, &skylake, Provider::OpenVino, Numerics::F32);
        check(Default, &amx, Provider::OpenVino, Numerics::Bf16);
        check(Bf16, &old, Provider::OpenVino, Numerics::F32);
        check(Bf16, &skylake, Provider::OpenVino, Numerics::Bf16);
        check(F16, &skylake, Provider::OpenVino, Numerics::F32);
        check(F16, &amx, Provider::OpenVino, Numerics::F16);
        let gpu = Variant { inference_precision: Default, ..variant("v", 0, "GPU", &[]) };
        assert_eq!(Numerics::of(&gpu, Provider::OpenVino, &machine(&amx)), Numerics::F16);
    }
}
