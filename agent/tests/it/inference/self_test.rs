//! The limited child: golden answers match or the model does not serve; nothing it does can hang or kill the agent.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use muster_agent::capabilities;
use muster_agent::engine::Engine;
use muster_agent::selftest::{self, GoldenPair, SelfTestError, SelfTestReport, SelfTestSpec};
use muster_protocol::manifest::{Numerics, VariantLimits};
use muster_protocol::message::Capabilities;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{ask, fixture, runtime_dir};
use crate::hardware::{is_best, is_intel};

const AGENT: &str = env!("CARGO_BIN_EXE_muster-agent");

/// Of a variant that allows a difference of 1e-5 in every class.
fn spec(model: &str) -> SelfTestSpec {
    spec_of(model, &json!({ "inference_precision": "f32", "golden": tolerances(1e-5, &[]) }))
}

fn tolerances(tolerance_abs: f64, by_class: &[(&str, f64)]) -> Value {
    let by_class: BTreeMap<_, _> = by_class.iter().copied().collect();
    json!({
        "request": "q", "response": "a", "tolerance_abs": tolerance_abs, "tolerance_abs_by_class": by_class,
    })
}

fn spec_of(model: &str, edit: &Value) -> SelfTestSpec {
    let mut variant =
        json!({ "id": "cpu", "format": "onnx", "file": "model.onnx", "select": { "device": "CPU" } });
    variant.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
    let variant = serde_json::from_value(variant).unwrap();
    SelfTestSpec::new(fixture(model), variant, Arc::new(this_box()), runtime_dir())
}

fn this_box() -> Capabilities {
    capabilities::look(&Engine::inspect(&runtime_dir()).unwrap())
}

/// What `eval` itself answers, as `muster bundle build` makes golden outputs.
fn golden(model: &str, columns: usize, data: &[f32]) -> GoldenPair {
    let request = ask("golden", columns, data);
    let mut eval = Command::new(AGENT)
        .args(["eval", "--model"])
        .arg(fixture(model))
        .arg("--runtime")
        .arg(runtime_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(eval.stdin.take().unwrap(), "{request}").unwrap();
    let output = eval.wait_with_output().unwrap();
    assert!(output.status.success());
    // Laid out over lines, as a person might keep it in a repository.
    let request: serde_json::Value = serde_json::from_str(&request).unwrap();
    GoldenPair { request: serde_json::to_vec_pretty(&request).unwrap(), response: output.stdout }
}

fn logistic_golden() -> GoldenPair {
    golden("logistic.onnx", 4, &[0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 0.5, -1.0, 0.3, 0.2, 1.0])
}

fn limited(limits: VariantLimits) -> SelfTestSpec {
    let mut spec = spec("logistic.onnx");
    spec.variant.limits = limits;
    SelfTestSpec { golden: Some(logistic_golden()), ..spec }
}

async fn run(spec: &SelfTestSpec) -> Result<SelfTestReport, SelfTestError> {
    selftest::run(Path::new(AGENT), spec).await
}

#[tokio::test]
async fn the_same_model_passes_on_openvino() {
    let limits = VariantLimits { load_ms_max: 60_000, memory_bytes_max: 2 << 30, p95_ms_max: 10_000.0 };
    let report = run(&limited(limits)).await.unwrap();
    assert!(is_best(&report.provider), "{report:?}");
    assert!(
        report.worst_difference <= 1e-6 && report.p95_us >= report.p50_us && report.p50_us > 0,
        "{report:?}"
    );
    assert!(report.rss_bytes > 10 << 20 && report.elapsed_ms >= report.load_ms, "{report:?}");
}

/// Left to itself ONNX Runtime reports to its maker, and begins by writing into the user's cache.
#[test]
fn nothing_is_told_to_the_maker_of_the_runtime() {
    let home = tempfile::tempdir().unwrap();
    let mut eval = Command::new(AGENT)
        .args(["eval", "--model"])
        .arg(fixture("logistic.onnx"))
        .arg("--runtime")
        .arg(runtime_dir())
        .env_clear()
        .env("HOME", home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = BufReader::new(eval.stdout.take().unwrap());
    let mut requests = eval.stdin.take().unwrap();
    writeln!(requests, "{}", ask("quiet", 4, &[0.0; 4])).unwrap();
    answers.read_line(&mut String::new()).unwrap();
    // While it runs: it has mapped the runtime, and nothing of a report's.
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", eval.id())).unwrap();
    assert!(maps.contains("libonnxruntime.so") && !maps.contains("onnxruntime.db"), "{maps}");
    drop(requests);
    assert!(eval.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "something was kept to be sent later");
}

#[tokio::test]
async fn one_changed_weight_is_refused_by_name() {
    let error = run(&SelfTestSpec { golden: Some(logistic_golden()), ..spec("logistic_changed.onnx") })
        .await
        .unwrap_err();
    assert_eq!(error.code(), "golden_mismatch");
    // The first row is all zeros, so no weight shows there.
    assert!(
        error.to_string().contains("of 'score'") && error.to_string().contains("2 of 3 elements"),
        "{error}"
    );
}

fn network_golden() -> GoldenPair {
    // Sixteen patients whose twelve values lie around nought, as after scaling.
    let rows: Vec<f32> = (0..16 * 12_u16).map(|i| f32::from(i * 37 % 101) / 25.0 - 2.0).collect();
    golden("network.onnx", 12, &rows)
}

/// Made in f32, the golden outputs hold for a box that computes in f32 and for one that takes what is fastest there, each
/// within its own tolerance; and either notices one changed weight of 912.
#[tokio::test]
async fn each_class_of_numerics_has_its_tolerance_and_notices_one_changed_weight() {
    let has_bf16 = this_box().cpu_flags.iter().any(|flag| flag == "amx_bf16" || flag == "avx512_bf16");
    // ONNX Runtime's own kernels compute as the model says.
    let by_itself = if has_bf16 && is_intel() { Numerics::Bf16 } else { Numerics::F32 };
    for (precision, class) in [("f32", Numerics::F32), ("default", by_itself)] {
        let test = async |model: &str, golden: Value| {
            let spec = spec_of(model, &json!({ "inference_precision": precision, "golden": golden }));
            run(&SelfTestSpec { golden: Some(network_golden()), ..spec }).await
        };
        let both = || tolerances(1e-5, &[("bf16", 8e-3)]);
        let report = test("network.onnx", both()).await.unwrap();
        println!("{precision}: {class:?}, differs by {:e}", report.worst_difference);
        assert!(report.numerics == class && is_best(&report.provider), "{report:?}");
        let error = test("network_changed.onnx", both()).await.unwrap_err();
        println!("{precision}: {error}");
        assert_eq!(error.code(), "golden_mismatch", "{error}");
        assert!(error.to_string().contains(&format!("within what {} allows", class.as_str())), "{error}");
        // Bfloat16 is no rounding error of f32: with the tolerance of f32 it is refused.
        if class == Numerics::Bf16 {
            assert!(report.worst_difference > 1e-5, "{report:?}");
            let error = test("network.onnx", tolerances(1e-5, &[])).await.unwrap_err();
            assert_eq!(error.code(), "golden_mismatch", "{error}");
        }
    }
}

#[tokio::test]
async fn golden_files_must_fit() {
    let GoldenPair { request, response } = logistic_golden();
    let check = async |request: &[u8], response: &[u8], code: &str| {
        let golden = GoldenPair { request: request.to_vec(), response: response.to_vec() };
        let error = run(&SelfTestSpec { golden: Some(golden), ..spec("logistic.onnx") }).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    };
    check(b"not json", &response, "golden_unreadable").await;
    check(&request, b"not json", "golden_unreadable").await;
    check(&request, &golden("line.onnx", 2, &[1.0, 2.0]).response, "golden_shape").await;
    check(&golden("line.onnx", 2, &[1.0, 2.0]).request, &response, "request_refused").await;
}

#[tokio::test]
async fn promised_limits_are_kept() {
    let check = async |limits: VariantLimits, code: &str| {
        let error = run(&limited(limits)).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    };
    check(VariantLimits { load_ms_max: 1, ..VariantLimits::default() }, "limit_load").await;
    check(VariantLimits { memory_bytes_max: 1, ..VariantLimits::default() }, "limit_memory").await;
    check(VariantLimits { p95_ms_max: 1e-9, ..VariantLimits::default() }, "limit_latency").await;
}

#[tokio::test]
async fn a_model_that_never_ends_is_stopped_at_its_deadline() {
    let began = Instant::now();
    let error =
        run(&SelfTestSpec { deadline: Duration::from_secs(3), ..spec("endless.onnx") }).await.unwrap_err();
    assert_eq!(error.code(), "timed_out");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_model_that_never_ends_is_stopped_by_its_cpu_limit() {
    let error = run(&SelfTestSpec { cpu_s: 2, ..spec("endless.onnx") }).await.unwrap_err();
    assert_eq!(error.code(), "killed", "{error}");
}

#[tokio::test]
async fn a_model_that_takes_too_much_memory_is_refused() {
    let golden = golden("line.onnx", 2, &[1.0, 2.0]);
    let request = ask("", 1, &[1.0]).into_bytes();
    let golden = GoldenPair { request, ..golden };
    let error =
        run(&SelfTestSpec { golden: Some(golden), memory_mb: 3072, ..spec("huge.onnx") }).await.unwrap_err();
    assert!(matches!(error.code(), "inference_failed" | "model_refused" | "killed"), "{error}");
}

#[tokio::test]
async fn what_is_no_model_is_refused_with_its_own_words() {
    let mut page = tempfile::NamedTempFile::new().unwrap();
    page.write_all(b"<html>404</html>").unwrap();
    let wrong = SelfTestSpec { model: page.path().to_owned(), ..spec("logistic.onnx") };
    let error = run(&wrong).await.unwrap_err();
    assert_eq!(error.code(), "model_refused", "{error}");
    let missing = SelfTestSpec { runtime_dir: PathBuf::from("/nonexistent"), ..spec("logistic.onnx") };
    let error = run(&missing).await.unwrap_err();
    assert!(error.code() == "runtime_missing" && error.to_string().contains("make runtime"), "{error}");
}

#[tokio::test]
async fn children_that_misbehave_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let check = async |name: &str, script: &str, code: &str| {
        let exe = dir.path().join(name);
        std::fs::write(&exe, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&exe, std::fs::Permissions::from_mode(0o755)).unwrap();
        let spec = SelfTestSpec { deadline: Duration::from_secs(2), ..spec("logistic.onnx") };
        let error = selftest::run(&exe, &spec).await.unwrap_err();
        assert_eq!(error.code(), code, "{name}: {error}");
    };
    check("hangs", "exec sleep 60", "timed_out").await;
    check("dies", "kill -9 $$", "killed").await;
    check("babbles", "echo hello; echo world >&2", "garbled").await;
    check("fails", "exit 7", "garbled").await;
    check("lies", "echo '{\"error\":\"e\",\"code\":\"golden\"}' >&2; exit 2", "model_refused").await;
    check("floods", "exec yes", "garbled").await;
    let error = selftest::run(&dir.path().join("none"), &spec("logistic.onnx")).await.unwrap_err();
    assert_eq!(error.code(), "start_failed");
}
