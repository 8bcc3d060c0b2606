//! A box's serving side in this process: the real listener, the real engine, and models that `models.py` made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use muster_agent::engine::{Engine, LoadSpec, Model};
use muster_agent::serve::{self, Desk, ServeConfig, ServeHandle, Served, SlotLimits, Slots};
use muster_protocol::ids::Digest;
use muster_protocol::manifest::{InferencePrecision, Manifest, Signature};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Requests that may wait: more than a moment in which the machine stands still can leave. How many are let in is not what
/// is measured.
const WAITING: usize = 1 << 14;
/// The model's name, which is its slot's.
pub(crate) const NAME: &str = "m";

#[derive(Debug)]
pub(crate) struct House {
    pub(crate) slots: Slots,
    pub(crate) engine: Engine,
    pub(crate) server: ServeHandle,
    /// Where it listens too.
    pub(crate) socket: PathBuf,
    stop: CancellationToken,
    _folder: TempDir,
}

impl House {
    pub(crate) async fn open() -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let slots = Slots::new(Arc::new(|| Timestamp::from_millis(0)), SlotLimits::default());
        let stop = CancellationToken::new();
        let (_, state) = tokio::sync::watch::channel(json!(null));
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("oip.sock");
        let listen = ([127, 0, 0, 1], 0).into();
        let config = ServeConfig { listen, unix: Some(socket.clone()), ..ServeConfig::default() };
        let desk = Desk::new("key").0;
        let server = serve::start(config, slots.clone(), state, desk, stop.clone()).await.unwrap();
        Self { slots, engine: Engine::open(&runtime()).unwrap(), server, socket, stop, _folder: folder }
    }

    /// Compiles it as an activation does, and lets it answer.
    pub(crate) async fn swap_in(&self, file: &Path, version: u32) -> Model {
        let spec = LoadSpec { waiting_max: WAITING, ..LoadSpec::new(file, InferencePrecision::F32) };
        let model = self.engine.load_aside(spec).await.unwrap();
        self.slots.activate(&NAME.parse().unwrap(), served(&model, version));
        model
    }

    pub(crate) async fn close(self) {
        self.stop.cancel();
        self.server.stopped().await;
        assert!(!self.socket.exists(), "the socket is still there");
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench has no configuration file")]
fn runtime() -> PathBuf {
    std::env::var_os("MUSTER_RUNTIME").map_or_else(|| workspace().join(".muster/runtime"), PathBuf::from)
}

pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A REST request with one binary tensor `x` of f32, answered in the same form: the length of its JSON, and its body.
pub(crate) fn rest(shape: &[usize]) -> (usize, Bytes) {
    let tensor = vec![0.5_f32; shape.iter().product()];
    let bytes: Vec<u8> = tensor.iter().flat_map(|value| value.to_le_bytes()).collect();
    let parameters = json!({ "binary_data_size": bytes.len() });
    let x = json!({ "name": "x", "datatype": "FP32", "shape": shape, "parameters": parameters });
    let header = json!({ "inputs": [x], "parameters": { "binary_data_output": true } }).to_string();
    (header.len(), [header.as_bytes(), &bytes].concat().into())
}

fn served(model: &Model, version: u32) -> Served {
    let (manifest, bundle) = bundle(model.signature(), version);
    Served::new(model.clone(), manifest, bundle, None).unwrap()
}

/// One whose manifest promises what the model has.
pub(crate) fn bundle(signature: &Signature, version: u32) -> (Manifest, BundleRef) {
    let manifest = json!({
        "schema": "muster-bundle/1", "model": NAME, "version": version.to_string(), "created": "2026-11-24T02:00:00Z",
        "task": "regression", "signature": signature,
        "variants": [{ "id": "cpu", "format": "onnx", "file": "model.onnx", "select": { "device": "CPU" }, "inference_precision": "f32" }],
        "files": [{ "path": "model.onnx", "length": 1, "sha256": Digest::of(b"").to_string() }],
    });
    let manifest = Manifest::parse(manifest.to_string().as_bytes()).unwrap();
    let path = format!("bundles/{NAME}/{version}.json").parse().unwrap();
    (manifest, BundleRef { path, sha256: Digest::of(&version.to_be_bytes()) })
}
