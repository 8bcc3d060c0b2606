//! What the server and its models say of themselves.

use std::sync::Arc;

use muster_protocol::ids::SlotName;
use muster_protocol::manifest::Tensor;
use muster_protocol::message::Provider;
use serde::Deserialize;
use serde_json::{Value, json};

use super::slots::{Serving, Slots};

pub(super) fn server() -> Value {
    json!({ "name": "muster-agent", "version": env!("CARGO_PKG_VERSION"), "extensions": ["model_repository", "binary_tensor_data"] })
}

pub(super) fn model(name: &str, serving: &Serving) -> Value {
    let signature = &serving.manifest.signature;
    let provider = serving.model.provider();
    let platform = match provider.provider {
        Provider::OpenVino => "onnxruntime_openvino",
        Provider::OnnxCpu => "onnxruntime_cpu",
    };
    json!({
        "name": name,
        "versions": [serving.manifest.version],
        "platform": platform,
        "inputs": signature.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "outputs": signature.outputs.iter().map(tensor).collect::<Vec<_>>(),
        "properties": {
            "bundle": serving.bundle.sha256.to_string(),
            "provider_reason": provider.reason.as_ref().map(ToString::to_string).unwrap_or_default(),
        },
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct IndexRequest {
    /// Only what is ready.
    ready: bool,
}

pub(super) fn index(slots: &Slots, request: &IndexRequest) -> Value {
    let listed = slots.list();
    let entries = listed.into_iter().filter(|(_, serving)| serving.is_ok() || !request.ready);
    let entry = |(slot, serving): (SlotName, Result<Arc<Serving>, String>)| match serving {
        Ok(serving) => ready_entry(&slot, &serving),
        Err(reason) => {
            json!({ "name": slot, "version": "", "state": "UNAVAILABLE", "reason": reason })
        }
    };
    entries.map(entry).collect()
}

fn ready_entry(slot: &SlotName, serving: &Serving) -> Value {
    json!({ "name": slot, "version": serving.manifest.version, "state": "READY", "reason": "" })
}

fn tensor(tensor: &Tensor) -> Value {
    json!({ "name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape })
}
