//! Loading and running: who executes, who refuses, and why.

use muster_agent::engine::{Engine, EngineError, InferError, LoadSpec, ProviderChoice, mapped_libraries};
use muster_agent::oip::{NamedTensor, Tensor, Values};
use muster_protocol::manifest::InferencePrecision;
use muster_protocol::message::Provider;

use super::{fixture, load, runtime_dir};
use crate::hardware::{is_best, is_intel};

fn x(columns: usize, values: &[f32]) -> Vec<NamedTensor> {
    let tensor =
        Tensor { shape: vec![values.len() / columns, columns], values: Values::Fp32(values.to_vec()) };
    vec![NamedTensor { name: "x".to_owned(), tensor }]
}

fn floats(outputs: &[NamedTensor]) -> Vec<f32> {
    let Values::Fp32(values) = &outputs[0].tensor.values else { panic!("{outputs:?}") };
    values.clone()
}

fn spec(name: &str, want: ProviderChoice) -> LoadSpec {
    LoadSpec { want, ..LoadSpec::new(fixture(name), InferencePrecision::F32) }
}

#[test]
fn a_pure_onnx_model_runs_on_openvino() {
    let model = load("logistic.onnx");
    assert!(is_best(model.provider()), "{:?}", model.provider());
    let openvino =
        ["/libopenvino.so.", "/libopenvino_intel_cpu_plugin.so"].into_iter().filter(|_| is_intel());
    for library in openvino.chain(["/libonnxruntime.so"]) {
        assert!(mapped_libraries().iter().any(|path| path.contains(library)), "{library} is not mapped");
    }
    let answer = floats(&model.infer_blocking(x(4, &[1.0, 2.0, 3.0, 0.5, 0.0, 0.0, 0.0, 0.0])).unwrap());
    let sigmoid = |logit: f32| 1.0 / (1.0 + (-logit).exp());
    assert!(
        (answer[0] - sigmoid(0.35)).abs() < 1e-6 && (answer[1] - sigmoid(0.1)).abs() < 1e-6,
        "{answer:?}"
    );
}

#[test]
fn two_inputs_and_two_outputs_keep_their_names() {
    let model = load("two.onnx");
    let mut inputs = x(3, &[1.0, 2.0, 3.0]);
    let k = Tensor { shape: vec![1, 3], values: Values::Int64(vec![4, 5, 6]) };
    inputs.insert(0, NamedTensor { name: "k".to_owned(), tensor: k });
    let outputs = model.infer_blocking(inputs).unwrap();
    let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!((names, floats(&outputs)), (vec!["sum", "product"], vec![5.0, 7.0, 9.0]));
}

#[test]
fn a_scikit_learn_model_falls_back_and_says_why() {
    let model = load("sklearn.onnx");
    assert_eq!(model.provider().provider, Provider::OnnxCpu);
    let reason = model.provider().reason.as_ref().unwrap().as_str();
    let says = if is_intel() { "OpenVINO refused the model: " } else { "OpenVINO cannot be used: " };
    assert!(reason.starts_with(says) && reason.len() > 40, "{reason}");
    assert_eq!(floats(&model.infer_blocking(x(2, &[2.0, 4.0])).unwrap()), [2.0 + 4.0 + 3.0]);

    let engine = Engine::open(&runtime_dir()).unwrap();
    let insisted = engine.load(&spec("sklearn.onnx", ProviderChoice::OpenVino)).unwrap_err();
    assert_eq!(insisted.code(), if is_intel() { "model_refused" } else { "openvino_unusable" });
}

/// In one process: once OpenVINO is registered, a session that does not name the CPU provider goes to OpenVINO in its
/// default precision, which differs in the fifth digit on a machine with bfloat16.
#[test]
fn both_providers_agree() {
    let engine = Engine::open(&runtime_dir()).unwrap();
    let answers = [ProviderChoice::Auto, ProviderChoice::OnnxCpu].map(|want| {
        let model = engine.load(&spec("logistic.onnx", want)).unwrap();
        assert!(want == ProviderChoice::OnnxCpu || is_best(model.provider()), "{:?}", model.provider());
        floats(&model.infer_blocking(x(4, &[0.3, -1.2, 5.0, 0.7])).unwrap())[0]
    });
    assert!((answers[0] - answers[1]).abs() < 1e-6, "{answers:?}");
    let exact = 1.0 / (1.0 + (-4.1_f32).exp());
    assert!((answers[1] - exact).abs() < 1e-6, "{answers:?}");
}

#[test]
fn what_is_no_model_is_refused_clearly() {
    let engine = Engine::open(&runtime_dir()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fixture("logistic.onnx")).unwrap();
    let check = |name: &str, bytes: &[u8], code: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = engine.load(&LoadSpec::new(&path, InferencePrecision::F32)).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(name), "{error}");
    };
    check("empty.onnx", b"", "model_refused");
    check("page.onnx", b"<html><body>404 Not Found</body></html>", "model_refused");
    check("truncated.onnx", &whole[..whole.len() / 2], "model_refused");
    check(
        "noise.onnx",
        &(0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>(),
        "model_refused",
    );
    let missing =
        engine.load(&LoadSpec::new(dir.path().join("none.onnx"), InferencePrecision::F32)).unwrap_err();
    assert_eq!(missing.code(), "model_unreadable");
}

#[test]
fn nan_never_reaches_a_model() {
    let model = load("logistic.onnx");
    let error = model.infer_blocking(x(4, &[0.0, 0.0, f32::NAN, 0.0])).unwrap_err();
    assert!(matches!(&error, InferError::NotFinite { name, index: 2 } if name == "x"), "{error}");
    // And the runtime's own refusal leaves the session usable.
    assert!(matches!(model.infer_blocking(x(3, &[0.0; 3])), Err(InferError::Failed(_))));
    assert!(model.infer_blocking(x(4, &[0.0; 4])).is_ok());
}

#[test]
fn the_runtime_is_opened_once_and_from_one_folder() {
    let first = Engine::open(&runtime_dir()).unwrap();
    let again = Engine::open(&runtime_dir()).unwrap();
    assert_eq!(first.runtime_version(), again.runtime_version());
    assert!(first.runtime_version().contains("OpenVINO 20"), "{}", first.runtime_version());
    assert_eq!(first.devices().unwrap().first().map(String::as_str), is_intel().then_some("CPU"));

    let elsewhere = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(runtime_dir()).unwrap().flatten() {
        std::os::unix::fs::symlink(entry.path(), elsewhere.path().join(entry.file_name())).unwrap();
    }
    assert!(matches!(Engine::open(elsewhere.path()), Err(EngineError::OtherFolder { .. })));
    let none = Engine::open(&elsewhere.path().join("none")).unwrap_err().to_string();
    assert!(none.contains("make runtime"), "{none}");
}
