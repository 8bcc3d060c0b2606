//! Models that really run: OpenVINO, the REST protocol, labels, and the self-test's child.
//!
//! These tests need the inference runtime and fail without it: a silently skipped proof is no proof.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod binary;
mod engine;
mod interop;
mod labelling;
mod limits;
mod protocol;
mod self_test;
mod swapping;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use muster_agent::engine::{Engine, LoadSpec, Model};
use muster_agent::serve::{self, Desk, ServeConfig, ServeHandle, Served, SlotLimits, Slots};
use muster_protocol::ids::{Digest, SlotName};
use muster_protocol::manifest::{InferencePrecision, Manifest, ReferenceFile};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[expect(clippy::disallowed_methods, reason = "tests have no configuration file")]
fn runtime_dir() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let dir =
        std::env::var_os("MUSTER_RUNTIME").map_or_else(|| workspace.join(".muster/runtime"), PathBuf::from);
    match Engine::inspect(&dir) {
        Ok(_) => dir,
        Err(error) => panic!("{error} (or: scripts/get-runtime.sh)"),
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn load(name: &str) -> Model {
    let engine = Engine::open(&runtime_dir()).unwrap();
    engine.load(&LoadSpec::new(fixture(name), InferencePrecision::F32)).unwrap()
}

/// A manifest of a model with one input `x` and one output.
fn manifest(version: &str, columns: i64, output: &str, task: &str) -> Manifest {
    let manifest = json!({
        "schema": "muster-bundle/1", "model": "m", "version": version, "created": "2026-11-24T02:00:00Z", "task": task,
        "signature": {
            "inputs": [{ "name": "x", "datatype": "FP32", "shape": [-1, columns] }],
            "outputs": [{ "name": output, "datatype": "FP32", "shape": [-1, 1] }],
        },
        "variants": [{ "id": "cpu", "format": "onnx", "file": "model.onnx", "select": { "device": "CPU" }, "inference_precision": "f32" }],
        "files": [{ "path": "model.onnx", "length": 1, "sha256": Digest::of(b"").to_string() }],
    });
    Manifest::parse(manifest.to_string().as_bytes()).unwrap()
}

fn bundle(version: &str) -> BundleRef {
    let path = format!("bundles/m/{version}.json").parse().unwrap();
    BundleRef { path, sha256: Digest::of(version.as_bytes()) }
}

fn served(file: &str, manifest: Manifest, reference: Option<ReferenceFile>) -> Served {
    let bundle = bundle(manifest.version.as_str());
    Served::new(load(file), manifest, bundle, reference).unwrap()
}

fn logistic(version: &str, file: &str) -> Served {
    served(file, manifest(version, 4, "score", "binary"), None)
}

fn line(version: &str, file: &str) -> Served {
    served(file, manifest(version, 2, "y", "regression"), None)
}

/// With a manifest that promises all that the model has.
fn whole(file: &str) -> Served {
    let model = load(file);
    let signature = model.signature().clone();
    Served::new(model, Manifest { signature, ..manifest("1", 1, "y", "regression") }, bundle("1"), None)
        .unwrap()
}

/// A box's server with a world clock that the test turns.
struct Box {
    slots: Slots,
    world_ms: Arc<AtomicI64>,
    url: String,
    http: reqwest::Client,
    stop: CancellationToken,
    server: ServeHandle,
}

impl Box {
    async fn start() -> Self {
        let listen = ([127, 0, 0, 1], 0).into();
        Self::start_with(ServeConfig { listen, request_bytes_max: 64 * 1024, ..ServeConfig::default() }).await
    }

    async fn start_with(config: ServeConfig) -> Self {
        let world_ms = Arc::new(AtomicI64::new(1_800_000_000_000));
        let clock = Arc::clone(&world_ms);
        let world_now = Arc::new(move || Timestamp::from_millis(clock.load(Ordering::SeqCst)));
        let slots = Slots::new(world_now, SlotLimits::default());
        let (_, state) = watch::channel(json!({ "observed_generation": 7 }));
        let stop = CancellationToken::new();
        let server =
            serve::start(config, slots.clone(), state, Desk::new("key").0, stop.clone()).await.unwrap();
        let url = format!("http://{}", server.addr);
        // Another test of this binary may have installed it already.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        Self { slots, world_ms, url, http: reqwest::Client::new(), stop, server }
    }

    fn slot() -> SlotName {
        "m".parse().unwrap()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.world_ms.load(Ordering::SeqCst))
    }

    fn pass(&self, seconds: i64) {
        self.world_ms.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        answered(self.http.get(format!("{}{path}", self.url)).send().await.unwrap()).await
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        answered(self.http.post(format!("{}{path}", self.url)).body(body).send().await.unwrap()).await
    }

    async fn infer(&self, id: &str, columns: usize, data: &[f32]) -> (u16, Value) {
        self.post("/v2/models/m/infer", ask(id, columns, data)).await
    }

    /// Stops the server and waits for it, so that nothing outlives its test.
    async fn stop(self) {
        self.stop.cancel();
        self.server.stopped().await;
    }
}

fn ask(id: &str, columns: usize, data: &[f32]) -> String {
    let input =
        json!({ "name": "x", "datatype": "FP32", "shape": [data.len() / columns, columns], "data": data });
    json!({ "id": id, "inputs": [input] }).to_string()
}

/// Every answer of the server is JSON with a body.
async fn answered(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    let value = serde_json::from_slice(&body);
    (status, value.unwrap_or_else(|_| panic!("{status}: {}", String::from_utf8_lossy(&body))))
}
