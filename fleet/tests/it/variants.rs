//! `muster bundle build` with the real conversion tools: every variant that comes out passes the agent's own self-test.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_agent::capabilities;
use muster_agent::engine::Engine;
use muster_agent::selftest::{self, GoldenPair, SelfTestReport, SelfTestSpec};
use muster_protocol::manifest::{Format, Manifest, Numerics, Precision};

use crate::onnx;
use crate::publishing::{Publisher, agent, runtime};

fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.muster/convert/bin/python");
    assert!(
        python.is_file(),
        "{} is missing: scripts/python-env.sh .muster/convert fleet/tools/convert/requirements.lock",
        python.display()
    );
    python
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).canonicalize().unwrap()
}

/// Rows around nought, as after scaling.
fn rows(folder: &Path, columns: usize) -> PathBuf {
    let mut text = (0..columns).map(|column| format!("c{column}")).collect::<Vec<_>>().join(",");
    text.push('\n');
    for row in 0..300_u32 {
        let steps = (7..).step_by(2).take(columns);
        let values = steps.map(|step: u32| f64::from(row * step * 37 % 201) / 50.0 - 2.0);
        writeln!(text, "{}", values.map(|value| value.to_string()).collect::<Vec<_>>().join(",")).unwrap();
    }
    let path = folder.join("rows.csv");
    std::fs::write(&path, text).unwrap();
    path
}

async fn build(from: &Path, more: &[&str]) -> Result<(Publisher, Manifest), String> {
    build_with(&python(), from, more).await
}

async fn build_with(python: &Path, from: &Path, more: &[&str]) -> Result<(Publisher, Manifest), String> {
    let publisher = Publisher { folder: tempfile::tempdir().unwrap() };
    let out = publisher.path("bundle");
    let mut args = vec!["--python", python.to_str().unwrap()];
    args.extend(more);
    publisher.build(from, &out, &args).await?;
    let manifest = Manifest::parse(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap();
    Ok((publisher, manifest))
}

/// The agent's own test of each variant, as a box does it.
async fn prove(publisher: &Publisher, manifest: &Manifest) -> Vec<SelfTestReport> {
    let folder = publisher.path("bundle");
    let has = Arc::new(capabilities::look(&Engine::inspect(&runtime()).unwrap()));
    let mut reports = Vec::new();
    for variant in &manifest.variants {
        let read = |path: &str| std::fs::read(folder.join(path)).unwrap();
        let golden = variant.golden.as_ref().unwrap();
        let golden = GoldenPair { request: read(&golden.request), response: read(&golden.response) };
        let model = folder.join(&variant.file);
        let spec = SelfTestSpec::new(model, variant.clone(), Arc::clone(&has), runtime());
        let spec = SelfTestSpec { golden: Some(golden), ..spec };
        reports.push(selftest::run(&agent(), &spec).await.unwrap_or_else(|e| panic!("{}: {e}", variant.id)));
    }
    reports
}

fn precisions(manifest: &Manifest) -> Vec<Precision> {
    manifest.variants.iter().map(|variant| variant.precision).collect()
}

const ALL: [Precision; 3] = [Precision::Fp32, Precision::Fp16, Precision::Int8];

#[tokio::test]
async fn an_onnx_model_becomes_three_variants_that_every_box_can_run() {
    let folder = tempfile::tempdir().unwrap();
    let rows = rows(folder.path(), 12);
    let network = source("../agent/tests/fixtures/network.onnx");
    let all = ["--variants", "fp32,fp16,int8", "--calibration", rows.to_str().unwrap()];
    let (publisher, manifest) = build(&network, &all).await.unwrap();
    assert_eq!(precisions(&manifest), ALL);
    assert!(manifest.variants.iter().all(|v| v.format == Format::Onnx && v.beside.is_empty()));
    let ranks: Vec<_> = manifest.variants.iter().map(|variant| variant.rank).collect();
    assert!(ranks.is_sorted() && manifest.variants.iter().all(|v| v.limits.memory_bytes_max > 0));
    let size = |file: &str| manifest.file(file).unwrap().length;
    assert!(size("fp16/model.onnx") < size("fp32/model.onnx"));
    let reports = prove(&publisher, &manifest).await;
    let classes: Vec<_> = reports.iter().map(|report| report.numerics).collect();
    assert_eq!(classes, [Numerics::F32, Numerics::F32, Numerics::Int8]);

    // The same bundle where boxes may compute as they like best: another class, within its own tolerance.
    let by_itself = [&all[..], &["--inference-precision", "default"]].concat();
    let (publisher, manifest) = build(&network, &by_itself).await.unwrap();
    for (variant, report) in manifest.variants.iter().zip(prove(&publisher, &manifest).await) {
        let golden = variant.golden.as_ref().unwrap();
        let tolerance = golden.tolerance(report.numerics);
        println!("{}: {:?} {:e} of {tolerance:e}", variant.id, report.numerics, report.worst_difference);
        assert!(report.worst_difference <= tolerance);
    }
}

#[tokio::test]
async fn a_saved_model_and_openvinos_own_format_become_openvinos_own() {
    let folder = tempfile::tempdir().unwrap();
    for (from, columns) in
        [("tests/fixtures/frameworks/tensorflow", 8), ("../agent/tests/fixtures/ir/model.xml", 4)]
    {
        let rows = rows(folder.path(), columns);
        let args =
            ["--variants", "fp32,fp16,int8", "--calibration", rows.to_str().unwrap(), "--task", "binary"];
        let built = build(&source(from), &args).await;
        // OpenVINO's provider drives Intel's processors alone, and nothing else runs its format.
        if !std::fs::read_to_string("/proc/cpuinfo").unwrap().contains("GenuineIntel") {
            let error = built.err().unwrap();
            assert!(error.contains("converted") && error.contains("Intel's processors alone"), "{error}");
            continue;
        }
        let (publisher, manifest) = built.unwrap();
        assert_eq!(precisions(&manifest), ALL, "{from}");
        assert!(manifest.variants.iter().all(|v| v.format == Format::OpenvinoIr && v.beside.len() == 2));
        assert!(manifest.requires.contains(&"variant-files".to_owned()));
        assert_eq!(manifest.signature.outputs[0].name, "score");
        prove(&publisher, &manifest).await;
    }
}

#[tokio::test]
async fn a_trainers_model_is_quantised_on_its_own_reference_rows() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("trained");
    onnx::trainer_output(&from, &onnx::logistic([4.0, -2.0], 0.0));
    let (publisher, manifest) = build(&from, &["--variants", "fp32,int8"]).await.unwrap();
    assert_eq!(precisions(&manifest), [Precision::Fp32, Precision::Int8]);
    assert!(manifest.evaluation.is_some() && manifest.reference.is_some());
    prove(&publisher, &manifest).await;
    let figures = std::fs::read(publisher.path("bundle/evaluation.json")).unwrap();
    let figures: serde_json::Value = serde_json::from_slice(&figures).unwrap();
    assert!(figures["variants"][1]["differs_max"].as_f64().unwrap() < 0.05, "{figures}");
}

#[tokio::test]
async fn what_cannot_be_converted_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let check = async |from: &Path, more: &[&str], says: &str| {
        let error = build(from, more).await.err().unwrap();
        assert!(error.contains(says), "{error}");
    };
    let network = source("../agent/tests/fixtures/network.onnx");
    check(&network, &["--variants", "int8"], "int8 needs rows").await;
    check(&network, &["--variants", "fp64"], "use fp32, fp16 or int8").await;
    let few = rows(folder.path(), 3);
    let wrong = ["--variants", "int8", "--calibration", few.to_str().unwrap()];
    check(&network, &wrong, "the model takes [-1, 12]").await;
    check(&source("../agent/tests/fixtures/sklearn.onnx"), &["--variants", "fp16"], "leave fp16 out").await;
    check(&source("../agent/tests/corpus/cycle/model.onnx"), &[], "is no ONNX model").await;
    check(&source("../agent/tests/corpus/ir-bomb/model.xml"), &[], "no input or no output").await;
    std::fs::write(folder.path().join("alone.xml"), "<net/>").unwrap();
    check(&folder.path().join("alone.xml"), &[], "alone.bin is missing").await;
    let error = build_with(Path::new("/no/such/python"), &network, &[]).await.err().unwrap();
    assert!(error.contains("make convert"), "{error}");
}
