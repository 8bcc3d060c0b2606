//! From a model file to sessions that are known to run: OpenVINO first, the CPU provider with a reason otherwise.

use std::path::Path;

use muster_protocol::manifest::{Datatype, InferencePrecision, Signature, Tensor as Declared};
use muster_protocol::message::{Provider, ProviderUse, Sentence};
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::Outlet;

use super::library::{Library, OPENVINO_PROVIDER};
use super::{EngineError, LoadSpec, ProviderChoice, convert};
use crate::oip::{NamedTensor, Tensor, Values};
use crate::{chain, onnx};

/// Elements of an input that is made up for warming; what is larger starts cold.
const WARM_ELEMENTS_MAX: usize = 1 << 24;

pub(super) fn open(
    library: &Library,
    spec: &LoadSpec,
) -> Result<(Vec<Session>, Signature, ProviderUse), EngineError> {
    let kind = check_file(&spec.model_path)?;
    if spec.want == ProviderChoice::OnnxCpu {
        let reason = Some(Sentence::from("the CPU provider was asked for"));
        return on_cpu(library, spec, reason);
    }
    match on_openvino(library, spec) {
        Ok(opened) => Ok(opened),
        Err(error) if spec.want == ProviderChoice::OpenVino || kind == onnx::Kind::OpenvinoIr => Err(error),
        Err(error) => {
            let reason = if let EngineError::Refused { reason, .. } = &error {
                format!("OpenVINO refused the model: {}", first_line(reason))
            } else {
                error.to_string()
            };
            on_cpu(library, spec, Some(Sentence::from(reason)))
        }
    }
}

/// The runtime reports a missing file well, but takes an empty one for a model without a graph, and opens whatever
/// files the model names.
fn check_file(path: &Path) -> Result<onnx::Kind, EngineError> {
    let file =
        std::fs::metadata(path).map_err(|source| EngineError::ModelFile { path: path.to_owned(), source })?;
    if file.len() == 0 {
        return Err(EngineError::EmptyModel { path: path.to_owned() });
    }
    onnx::check(path).map_err(|error| refusal(path, &chain(&error)))
}

fn on_openvino(
    library: &Library,
    spec: &LoadSpec,
) -> Result<(Vec<Session>, Signature, ProviderUse), EngineError> {
    let refused = |error: ort::Error| refusal(&spec.model_path, error.message());
    // Pinning ties every one-thread session, and the calling thread with it, to core 0: half the throughput of two.
    let precision = match spec.precision {
        InferencePrecision::Default => String::new(),
        wish @ (InferencePrecision::F32 | InferencePrecision::F16 | InferencePrecision::Bf16) => {
            format!(r#""INFERENCE_PRECISION_HINT":"{}","#, wish.as_str())
        }
    };
    let load_config = format!(
        r#"{{"CPU":{{"PERFORMANCE_HINT":"LATENCY","INFERENCE_NUM_THREADS":"1",{precision}"ENABLE_CPU_PINNING":"NO"}}}}"#
    );
    let options = [(format!("{OPENVINO_PROVIDER}.load_config"), load_config)];
    let mut sessions = Vec::with_capacity(spec.sessions.max(1));
    for _ in 0..spec.sessions.max(1) {
        let session = one_thread(library)
            .map_err(refused)?
            // A graph that is split between providers costs more than it gains, and some of them only fail when run.
            .with_disable_cpu_fallback()
            .map_err(|error| refused(plain(&error)))?
            .with_devices(library.openvino_cpu()?, Some(&options))
            .map_err(|error| refused(plain(&error)))?
            .commit_from_file(&spec.model_path)
            .map_err(refused)?;
        sessions.push(session);
    }
    let signature = signature_of(&sessions, &spec.model_path)?;
    // The plugin takes such a graph, copies its texts as if they were numbers, and the process dies when they are freed.
    if signature.inputs.iter().chain(&signature.outputs).any(|tensor| tensor.datatype == Datatype::Bytes) {
        return Err(refusal(&spec.model_path, "it does not run models with texts"));
    }
    for session in &mut sessions {
        warm(session, &signature).map_err(|reason| refusal(&spec.model_path, &reason))?;
    }
    Ok((sessions, signature, ProviderUse { provider: Provider::OpenVino, reason: None }))
}

fn on_cpu(
    library: &Library,
    spec: &LoadSpec,
    reason: Option<Sentence>,
) -> Result<(Vec<Session>, Signature, ProviderUse), EngineError> {
    let refused = |error: ort::Error| refusal(&spec.model_path, error.message());
    let mut sessions = Vec::with_capacity(spec.sessions.max(1));
    for _ in 0..spec.sessions.max(1) {
        let session = one_thread(library)
            .map_err(refused)?
            // Named outright: otherwise the binding's own policy hands the model to OpenVINO as soon as that is
            // registered, whole or in part, in its default precision (bfloat16 where the machine has it).
            .with_devices(library.onnx_cpu()?, None)
            .map_err(|error| refused(plain(&error)))?
            .commit_from_file(&spec.model_path)
            .map_err(refused)?;
        sessions.push(session);
    }
    let signature = signature_of(&sessions, &spec.model_path)?;
    // A made-up input may be wrong for this model, and there is nothing left to fall back to: the self-test judges.
    for session in &mut sessions {
        if let Err(reason) = warm(session, &signature) {
            tracing::debug!(model.path = %spec.model_path.display(), %reason, "a model was not warmed up");
        }
    }
    Ok((sessions, signature, ProviderUse { provider: Provider::OnnxCpu, reason }))
}

fn one_thread(library: &Library) -> ort::Result<SessionBuilder> {
    Session::builder(library.environment())?
        .with_intra_threads(1)
        .map_err(|error| plain(&error))?
        .with_inter_threads(1)
        .map_err(|error| plain(&error))?
        // Spinning burns a core that the rest of the box needs.
        .with_intra_op_spinning(false)
        .map_err(|error| plain(&error))
}

/// The builder's errors carry the builder; only the message is wanted.
fn plain(error: &ort::Error<SessionBuilder>) -> ort::Error {
    ort::Error::new(error.message())
}

fn signature_of(sessions: &[Session], path: &Path) -> Result<Signature, EngineError> {
    let Some(session) = sessions.first() else { return Err(EngineError::Aborted) };
    let unsupported = |side, outlet: &Outlet| EngineError::Unsupported {
        path: path.to_owned(),
        side,
        name: outlet.name().to_owned(),
        found: format!("{:?}", outlet.dtype()).chars().take(120).collect(),
    };
    let inputs =
        session.inputs().iter().map(|input| declared(input).ok_or_else(|| unsupported("input", input)));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    // Scikit-learn exports may add outputs that nobody needs (strings, maps); they are left out, not refused.
    let outputs: Vec<Declared> = session.outputs().iter().filter_map(declared).collect();
    match (outputs.is_empty(), session.outputs().first()) {
        (false, _) => Ok(Signature { inputs, outputs }),
        (true, Some(first)) => Err(unsupported("output", first)),
        (true, None) => Err(refusal(path, "it has no output")),
    }
}

fn declared(outlet: &Outlet) -> Option<Declared> {
    let datatype = convert::datatype(outlet.dtype().tensor_type()?)?;
    let shape = outlet.dtype().tensor_shape()?.iter().copied().collect();
    Some(Declared { name: outlet.name().to_owned(), datatype, shape, features: Vec::new() })
}

/// Runs zeros through: some graphs load and only fail when run, and the first run is the slowest.
fn warm(session: &mut Session, signature: &Signature) -> Result<(), String> {
    let mut inputs = Vec::with_capacity(signature.inputs.len());
    for Declared { name, datatype, shape, .. } in &signature.inputs {
        let shape: Vec<usize> = shape.iter().map(|&length| usize::try_from(length).unwrap_or(1)).collect();
        let count = shape.iter().try_fold(1_usize, |product, &length| product.checked_mul(length));
        let Some(count) = count.filter(|&count| count <= WARM_ELEMENTS_MAX) else { return Ok(()) };
        let values = Values::zeros(*datatype, count);
        inputs.push(NamedTensor { name: name.clone(), tensor: Tensor { shape, values } });
    }
    convert::run(session, &inputs, signature).map(drop)
}

fn refusal(path: &Path, reason: &str) -> EngineError {
    EngineError::Refused { path: path.to_owned(), reason: reason.trim().chars().take(400).collect() }
}

fn first_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given")
}
