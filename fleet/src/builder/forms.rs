//! Asks each form of a model the golden request, on this machine, in every arithmetic that it has: what comes out is what
//! boxes must answer, how far they may be off, and what they may take for it.

use std::collections::BTreeMap;

use muster_protocol::limits::GOLDEN_RUNS;
use muster_protocol::manifest::{InferencePrecision, Numerics, Precision, VariantLimits};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::convert::Form;
use super::eval::{EvalError, EvalReport, Evaluator};

/// Rounding in f32, relative to the largest number that is answered.
const ROUNDING: f64 = 1e-4;
/// How much further off than here a box may be in the same arithmetic: its kernels sum in another order.
const HEADROOM: f64 = 3.0;
/// Boxes are slower than the machine of the one who builds, and busy.
const SLOWER: f64 = 10.0;
const MORE_MEMORY: f64 = 2.0;
/// Below these a limit would only measure the box's bad luck.
const LOAD_MS_MIN: f64 = 20_000.0;
const P95_MS_MIN: f64 = 50.0;
const MEMORY_MIN: f64 = 1024.0 * 1024.0 * 1024.0;

/// What a form answered, and what follows for boxes.
#[derive(Clone, Debug)]
pub struct Asked {
    pub response: Value,
    pub tolerance_abs: f64,
    pub tolerances: BTreeMap<Numerics, f64>,
    pub limits: VariantLimits,
    pub report: EvalReport,
}

/// Asks one form. `request` is one line.
pub async fn ask(
    form: &Form,
    request: &str,
    evaluator: &Evaluator,
    cancel: &CancellationToken,
) -> Result<Asked, EvalError> {
    let (response, report) =
        evaluator.ask(&form.file, InferencePrecision::F32, request, GOLDEN_RUNS, cancel).await?;
    let golden = numbers(&response);
    // Rounding grows with the numbers: beds are counted in dozens, probabilities end at 1.
    let largest = golden.iter().fold(1.0_f64, |max, value| max.max(value.abs()));
    let mut tolerances = BTreeMap::new();
    for (class, wish) in arithmetic(form.precision) {
        let (other, _) = evaluator.ask(&form.file, *wish, request, 1, cancel).await?;
        tolerances.insert(*class, tolerance(*class, worst(&golden, &numbers(&other)), largest));
    }
    // What INT8 sums differs between CPUs even where all else is f32.
    let own = if form.precision == Precision::Int8 { Numerics::Int8 } else { Numerics::F32 };
    let tolerance_abs = tolerances.get(&own).copied().unwrap_or(ROUNDING * largest);
    Ok(Asked { response, tolerance_abs, tolerances, limits: limits(&report), report })
}

/// The largest and the mean difference of two answers to the same request.
pub fn differ(golden: &Value, other: &Value) -> (f64, f64) {
    let (golden, other) = (numbers(golden), numbers(other));
    let sum: f64 = golden.iter().zip(&other).map(|(a, b)| (a - b).abs()).sum();
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    let count = golden.len().max(1) as f64;
    (worst(&golden, &other), sum / count)
}

/// The classes that such a form may be answered in, and what to ask for to see them here.
fn arithmetic(precision: Precision) -> &'static [(Numerics, InferencePrecision)] {
    match precision {
        Precision::Fp32 | Precision::Fp16 => {
            &[(Numerics::Bf16, InferencePrecision::Bf16), (Numerics::F16, InferencePrecision::F16)]
        }
        Precision::Int8 => &[(Numerics::Int8, InferencePrecision::Default)],
    }
}

/// What was measured with headroom, at least the class's own grain; a rule where this machine has no such arithmetic.
fn tolerance(class: Numerics, measured: f64, largest: f64) -> f64 {
    let (grain, unmeasured) = match class {
        Numerics::F32 => (ROUNDING, ROUNDING),
        // Half of the last of 8, and of 11, binary digits.
        Numerics::Bf16 => (2.0_f64.powi(-9), 2.0_f64.powi(-5)),
        Numerics::F16 => (2.0_f64.powi(-12), 2.0_f64.powi(-8)),
        Numerics::Int8 => (2.0_f64.powi(-6), 2.0_f64.powi(-6)),
    };
    let measured = if measured > 0.0 { measured * HEADROOM } else { unmeasured * largest };
    round_up(measured.max(grain * largest))
}

/// To two digits, so that a manifest is readable.
fn round_up(value: f64) -> f64 {
    let unit = 10.0_f64.powf(value.log10().floor() - 1.0);
    ((value / unit).ceil() * unit * 1e12).round() / 1e12
}

fn limits(report: &EvalReport) -> VariantLimits {
    // In steps, so that the same model makes the same limits on a machine that is a little busier.
    let step = |value: f64, min: f64| if value <= min { min } else { 2.0_f64.powf(value.log2().ceil()) };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "milliseconds and bytes, far from either end"
    )]
    VariantLimits {
        load_ms_max: step(report.load_ms * SLOWER, LOAD_MS_MIN) as u64,
        memory_bytes_max: step(report.rss_bytes as f64 * MORE_MEMORY, MEMORY_MIN) as u64,
        p95_ms_max: step(report.p95_us / 1e3 * SLOWER, P95_MS_MIN),
    }
}

fn worst(golden: &[f64], other: &[f64]) -> f64 {
    if golden.len() != other.len() {
        return f64::INFINITY;
    }
    golden.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Every number of every output.
fn numbers(response: &Value) -> Vec<f64> {
    let outputs = response.get("outputs").and_then(Value::as_array).into_iter().flatten();
    let data = outputs.filter_map(|output| output.get("data").and_then(Value::as_array)).flatten();
    data.filter_map(Value::as_f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerances_follow_what_was_measured_but_never_below_the_grain() {
        let check = |class, measured, largest, expect: f64| {
            let found = tolerance(class, measured, largest);
            assert!((found - expect).abs() < 1e-9, "{class:?} {measured} {largest}: {found}");
        };
        check(Numerics::Bf16, 0.004, 1.0, 0.012);
        check(Numerics::Bf16, 1e-5, 1.0, 0.002);
        check(Numerics::Bf16, 0.0, 1.0, 0.032);
        check(Numerics::Bf16, 0.0, 10.0, 0.32);
        check(Numerics::F16, 1e-6, 1.0, 2.5e-4);
        check(Numerics::Int8, 0.001, 2.0, 0.032);
    }

    #[test]
    fn limits_have_headroom_and_come_in_steps() {
        let report =
            |load_ms, p95_us, rss_bytes| EvalReport { load_ms, p95_us, rss_bytes, ..EvalReport::default() };
        let small = limits(&report(60.0, 400.0, 90 << 20));
        assert_eq!((small.load_ms_max, small.p95_ms_max, small.memory_bytes_max), (20_000, 50.0, 1 << 30));
        let large = limits(&report(5_000.0, 60_000.0, 700 << 20));
        assert_eq!((large.load_ms_max, large.p95_ms_max, large.memory_bytes_max), (65_536, 1024.0, 2 << 30));
    }

    #[test]
    fn answers_are_compared_number_by_number() {
        let answer = |data: &[f64]| serde_json::json!({ "outputs": [{ "name": "y", "data": data }] });
        let (max, mean) = differ(&answer(&[1.0, 2.0]), &answer(&[1.5, 2.0]));
        assert!((max - 0.5).abs() < 1e-12 && (mean - 0.25).abs() < 1e-12);
        assert!(differ(&answer(&[1.0]), &answer(&[])).0.is_infinite());
    }
}
