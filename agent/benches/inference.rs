//! What asking over a socket costs beside asking the model in this process: `make bench-inference`.
//!
//! One client that asks again and again, as a scanner or a camera does. The model does next to nothing, so that what is
//! left is the way: the same 602 kB image in and out, and a row of four numbers. Goals: 0.3 ms and 0.3 ms a megabyte, at
//! the median, gRPC and REST alike.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people at a terminal")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_agent::engine::{Engine, LoadSpec, Model};
use muster_agent::oip::{NamedTensor, Tensor, Values};
use muster_agent::serve::{self, Desk, ServeConfig, Served, SlotLimits, Slots};
use muster_protocol::ids::Digest;
use muster_protocol::manifest::{InferencePrecision, Manifest};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const WARM: usize = 50;
const ROUNDS: usize = 400;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let slots = Slots::new(Arc::new(|| Timestamp::from_millis(0)), SlotLimits::default());
    let stop = CancellationToken::new();
    let (_, state) = tokio::sync::watch::channel(json!(null));
    let listen = ([127, 0, 0, 1], 0).into();
    let config = ServeConfig { listen, ..ServeConfig::default() };
    let server = serve::start(config, slots.clone(), state, Desk::new("key").0, stop.clone()).await.unwrap();
    println!("{:<28} {:>9} {:>9} {:>9}", "", "p50 ms", "p95 ms", "mean ms");
    for (file, name, shape) in
        [("logistic.onnx", "one row", vec![1, 4]), ("image.onnx", "image of 602 kB", vec![1, 3, 224, 224])]
    {
        let model = load(file);
        slots.activate(&"m".parse().unwrap(), served(&model));
        let count = shape.iter().product::<usize>();
        let inputs: Arc<[NamedTensor]> = Arc::new([NamedTensor {
            name: "x".to_owned(),
            tensor: Tensor { shape: shape.clone(), values: Values::Fp32(vec![0.5; count]) },
        }]);
        let run = async || drop(model.infer(Arc::clone(&inputs), None).await.unwrap());
        let alone = measure(&format!("{name}: in this process"), run).await;
        let url = format!("http://{}", server.addr);
        let (http1, http2) =
            (reqwest::Client::new(), reqwest::Client::builder().http2_prior_knowledge().build().unwrap());
        let tensor: Vec<u8> = vec![0.5_f32; count].iter().flat_map(|value| value.to_le_bytes()).collect();
        let (json_bytes, body) = rest(&shape, &tensor);
        let rest = async || {
            let request = http1.post(format!("{url}/v2/models/m/infer")).body(body.clone());
            let answer = request.header("Inference-Header-Content-Length", json_bytes).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            assert!(answer.bytes().await.unwrap().len() > 4);
        };
        let rest = measure(&format!("{name}: REST, binary"), rest).await;
        let message = grpc(&shape, &tensor);
        let grpc = async || {
            let request =
                http2.post(format!("{url}/inference.GRPCInferenceService/ModelInfer")).body(message.clone());
            let request = request.header("content-type", "application/grpc").header("te", "trailers");
            let answer = request.send().await.unwrap();
            assert!(answer.bytes().await.unwrap().len() > 9, "refused");
        };
        let grpc = measure(&format!("{name}: gRPC, raw"), grpc).await;
        for (way, took) in [("REST", rest), ("gRPC", grpc)] {
            println!(
                "{:<28} {:>9.3}",
                format!("{name}: {way} costs"),
                (took.saturating_sub(alone)).as_secs_f64() * 1e3
            );
        }
    }
    stop.cancel();
    server.stopped().await;
}

/// The median.
async fn measure(what: &str, mut ask: impl AsyncFnMut()) -> Duration {
    for _ in 0..WARM {
        ask().await;
    }
    let mut took = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        ask().await;
        took.push(begin.elapsed());
    }
    took.sort_unstable();
    let ms = |span: Duration| span.as_secs_f64() * 1e3;
    let mean = took.iter().sum::<Duration>() / u32::try_from(ROUNDS).unwrap();
    println!(
        "{what:<28} {:>9.3} {:>9.3} {:>9.3}",
        ms(took[ROUNDS / 2]),
        ms(took[ROUNDS * 95 / 100]),
        ms(mean)
    );
    took[ROUNDS / 2]
}

fn rest(shape: &[usize], tensor: &[u8]) -> (usize, Bytes) {
    let parameters = json!({ "binary_data_size": tensor.len() });
    let x = json!({ "name": "x", "datatype": "FP32", "shape": shape, "parameters": parameters });
    let header = json!({ "inputs": [x], "parameters": { "binary_data_output": true } }).to_string();
    (header.len(), [header.as_bytes(), tensor].concat().into())
}

/// A `ModelInferRequest` in its frame, field by field.
fn grpc(shape: &[usize], tensor: &[u8]) -> Bytes {
    fn varint(mut value: usize, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        out.push(u8::try_from(value).unwrap());
    }
    fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
        out.push(number << 3 | 2);
        varint(bytes.len(), out);
        out.extend_from_slice(bytes);
    }
    let (mut lengths, mut input, mut message) = (Vec::new(), Vec::new(), Vec::new());
    for &length in shape {
        varint(length, &mut lengths);
    }
    field(1, b"x", &mut input);
    field(2, b"FP32", &mut input);
    field(3, &lengths, &mut input);
    field(1, b"m", &mut message);
    field(5, &input, &mut message);
    field(7, tensor, &mut message);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0_u8][..], &length, &message].concat().into()
}

#[expect(clippy::disallowed_methods, reason = "a bench has no configuration file")]
fn load(file: &str) -> Model {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let dir =
        std::env::var_os("MUSTER_RUNTIME").map_or_else(|| workspace.join(".muster/runtime"), PathBuf::from);
    let path = workspace.join("agent/tests/fixtures").join(file);
    Engine::open(&dir).unwrap().load(&LoadSpec::new(path, InferencePrecision::F32)).unwrap()
}

/// With a manifest that promises what the model has.
fn served(model: &Model) -> Served {
    let manifest = json!({
        "schema": "muster-bundle/1", "model": "m", "version": "1", "created": "2026-11-24T02:00:00Z", "task": "regression",
        "signature": model.signature(),
        "variants": [{ "id": "cpu", "format": "onnx", "file": "model.onnx", "select": { "device": "CPU" }, "inference_precision": "f32" }],
        "files": [{ "path": "model.onnx", "length": 1, "sha256": Digest::of(b"").to_string() }],
    });
    let manifest = Manifest::parse(manifest.to_string().as_bytes()).unwrap();
    let bundle = BundleRef { path: "bundles/m/1.json".parse().unwrap(), sha256: Digest::of(b"1") };
    Served::new(model.clone(), manifest, bundle, None).unwrap()
}
