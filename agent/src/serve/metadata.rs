//! What the server and its models say of themselves.

use std::sync::Arc;

use muster_protocol::ids::SlotName;
use muster_protocol::manifest::{Datatype, Tensor};
use muster_protocol::message::Provider;

use super::serving::Serving;
use super::slots::Slots;
use super::words::{
    ConfigInput, ConfigOutput, DataType, IndexEntry, InferStatistics, InstanceGroup, Kind, ModelConfig,
    ModelMetadata, ModelStatistics, ServerMetadata, StatisticDuration, TensorMetadata,
};
use crate::measure::Durations;

const EXTENSIONS: [&str; 4] = ["binary_tensor_data", "model_configuration", "model_repository", "statistics"];

pub(super) fn server() -> ServerMetadata {
    ServerMetadata {
        name: "muster-agent".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

pub(super) fn model(name: &str, serving: &Serving) -> ModelMetadata {
    let signature = &serving.manifest.signature;
    let reason = serving.model.provider().reason.as_ref();
    let properties = [
        ("bundle".to_owned(), serving.bundle.sha256.to_string()),
        ("provider_reason".to_owned(), reason.map(ToString::to_string).unwrap_or_default()),
    ];
    ModelMetadata {
        name: name.to_owned(),
        versions: vec![serving.manifest.version.to_string()],
        platform: platform(serving).to_owned(),
        inputs: signature.inputs.iter().map(tensor).collect(),
        outputs: signature.outputs.iter().map(tensor).collect(),
        properties: properties.into(),
    }
}

pub(super) fn index(slots: &Slots, only_ready: bool) -> Vec<IndexEntry> {
    let listed = slots.list();
    let entries = listed.into_iter().filter(|(_, serving)| serving.is_ok() || !only_ready);
    entries.map(|(slot, serving)| index_entry(&slot, serving)).collect()
}

pub(super) fn statistics(name: &str, serving: &Serving) -> ModelStatistics {
    let tally = serving.tally();
    let stats = InferStatistics {
        success: Some(duration(&tally.answered)),
        fail: Some(duration(&tally.failed)),
        queue: Some(duration(&tally.queue)),
        compute_input: Some(duration(&tally.input)),
        compute_infer: Some(duration(&tally.run)),
        compute_output: Some(duration(&tally.output)),
    };
    let last = tally.last.map_or(0, |last| u64::try_from(last.as_millis()).unwrap_or(0));
    ModelStatistics {
        name: name.to_owned(),
        version: serving.manifest.version.to_string(),
        last_inference: last,
        inference_count: tally.rows,
        execution_count: tally.run.count(),
        inference_stats: Some(stats),
        batch_stats: Vec::new(),
    }
}

/// Of everything that serves.
pub(super) fn all_statistics(slots: &Slots) -> Vec<ModelStatistics> {
    let serving = slots.list().into_iter().filter_map(|(slot, serving)| Some((slot, serving.ok()?)));
    serving.map(|(slot, serving)| statistics(slot.as_str(), &serving)).collect()
}

pub(super) fn config(name: &str, serving: &Serving) -> ModelConfig {
    let signature = &serving.manifest.signature;
    let input = |tensor: &Tensor| ConfigInput {
        name: tensor.name.clone(),
        data_type: data_type(tensor.datatype),
        dims: tensor.shape.clone(),
    };
    let output = |tensor: &Tensor| ConfigOutput {
        name: tensor.name.clone(),
        data_type: data_type(tensor.datatype),
        dims: tensor.shape.clone(),
    };
    let sessions = InstanceGroup {
        name: name.to_owned(),
        count: i32::try_from(serving.model.sessions()).unwrap_or(i32::MAX),
        kind: Kind::Cpu.into(),
    };
    ModelConfig {
        name: name.to_owned(),
        platform: platform(serving).to_owned(),
        backend: "onnxruntime".to_owned(),
        max_batch_size: 0,
        input: signature.inputs.iter().map(input).collect(),
        output: signature.outputs.iter().map(output).collect(),
        instance_group: vec![sessions],
        default_model_filename: "model.onnx".to_owned(),
    }
}

fn platform(serving: &Serving) -> &'static str {
    match serving.model.provider().provider {
        Provider::OpenVino => "onnxruntime_openvino",
        Provider::OnnxCpu => "onnxruntime_cpu",
    }
}

fn tensor(tensor: &Tensor) -> TensorMetadata {
    let (name, datatype) = (tensor.name.clone(), tensor.datatype.as_str().to_owned());
    TensorMetadata { name, datatype, shape: tensor.shape.clone() }
}

fn index_entry(slot: &SlotName, serving: Result<Arc<Serving>, String>) -> IndexEntry {
    let name = slot.to_string();
    let entry = |version, state: &str, reason| IndexEntry { name, version, state: state.to_owned(), reason };
    match serving {
        Ok(serving) => entry(serving.manifest.version.to_string(), "READY", String::new()),
        Err(reason) => entry(String::new(), "UNAVAILABLE", reason),
    }
}

fn duration(durations: &Durations) -> StatisticDuration {
    let ns = u64::try_from(durations.sum.as_nanos()).unwrap_or(u64::MAX);
    StatisticDuration { count: durations.count(), ns }
}

fn data_type(datatype: Datatype) -> i32 {
    let data_type = match datatype {
        Datatype::Bool => DataType::Bool,
        Datatype::Uint8 => DataType::Uint8,
        Datatype::Uint16 => DataType::Uint16,
        Datatype::Uint32 => DataType::Uint32,
        Datatype::Uint64 => DataType::Uint64,
        Datatype::Int8 => DataType::Int8,
        Datatype::Int16 => DataType::Int16,
        Datatype::Int32 => DataType::Int32,
        Datatype::Int64 => DataType::Int64,
        Datatype::Fp16 => DataType::Fp16,
        Datatype::Bf16 => DataType::Bf16,
        Datatype::Fp32 => DataType::Fp32,
        Datatype::Fp64 => DataType::Fp64,
        Datatype::Bytes => DataType::String,
    };
    data_type.into()
}
