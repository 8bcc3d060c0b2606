//! Bundles of the tests' tiny models, as a publisher would build them.

use std::path::Path;

use muster_protocol::ids::{BundlePath, Digest};
use muster_protocol::message::up::BundleRef;
use muster_protocol::trust::{Target, author};
use serde_json::{Value, json};

#[derive(Clone)]
pub(super) struct Bundle {
    pub(super) path: BundlePath,
    pub(super) manifest: Vec<u8>,
    pub(super) files: Vec<(String, Vec<u8>)>,
}

impl Bundle {
    pub(super) fn reference(&self) -> BundleRef {
        BundleRef { path: self.path.clone(), sha256: Digest::of(&self.manifest) }
    }

    /// Its line in a catalogue.
    pub(super) fn target(&self, custom: Value) -> Target {
        author::target(self.path.clone(), &self.manifest, custom)
    }

    pub(super) fn digest_of(&self, name: &str) -> Digest {
        let (_, bytes) = self.files.iter().find(|(path, _)| path == name).unwrap();
        Digest::of(bytes)
    }
}

pub(super) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

/// `score = sigmoid(0.5 a - b + 0.25 c + 2 d + 0.1)`, with golden outputs computed by hand.
pub(super) fn logistic(version: &str) -> Bundle {
    build(version, fixture("logistic.onnx"), &[0.524_979_19, 0.586_617_6], &[], |_| ())
}

/// Another model of the same signature.
pub(super) fn logistic_b(version: &str) -> Bundle {
    // -0.2 and 0.4 - 1.6 + 1.5 + 0.5 - 0.2 through the sigmoid.
    build(version, fixture("logistic_b.onnx"), &[0.450_166, 0.645_656_3], &[], |_| ())
}

/// A bundle that takes many chunks.
pub(super) fn heavy(version: &str, ballast: &[u8]) -> Bundle {
    build(version, fixture("logistic.onnx"), &[0.524_979_19, 0.586_617_6], ballast, |_| ())
}

pub(super) fn build(
    version: &str,
    model: Vec<u8>,
    golden: &[f64],
    ballast: &[u8],
    edit: impl FnOnce(&mut Value),
) -> Bundle {
    let ballast = (!ballast.is_empty()).then(|| ("ballast.bin".to_owned(), ballast.to_vec()));
    with_golden(version, model, golden, ballast.as_slice(), edit)
}

/// The logistic model's promises around any model, with more files.
pub(super) fn build_of(
    version: &str,
    model: Vec<u8>,
    more: &[(String, Vec<u8>)],
    edit: impl FnOnce(&mut Value),
) -> Bundle {
    with_golden(version, model, &[0.524_979_19, 0.586_617_6], more, edit)
}

fn with_golden(
    version: &str,
    model: Vec<u8>,
    golden: &[f64],
    more: &[(String, Vec<u8>)],
    edit: impl FnOnce(&mut Value),
) -> Bundle {
    let rows: [[f32; 4]; 2] = [[0.0; 4], [1.0, 2.0, 3.0, 0.5]];
    let request =
        json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [2, 4], "data": rows.concat() }] });
    let response = json!({
        "model_name": "m",
        "outputs": [{ "name": "score", "datatype": "FP32", "shape": [2, 1], "data": golden }],
    });
    let mut files = vec![
        ("model.onnx".to_owned(), model),
        ("golden/request.json".to_owned(), request.to_string().into_bytes()),
        ("golden/response.json".to_owned(), response.to_string().into_bytes()),
    ];
    files.extend(more.iter().cloned());
    let listed = files.iter().map(|(path, bytes)| {
        json!({ "path": path, "length": bytes.len(), "sha256": Digest::of(bytes).to_string() })
    });
    let mut manifest = json!({
        "schema": "muster-bundle/1", "model": "m", "version": version, "created": "2026-11-24T02:00:00Z",
        "task": "binary", "requires": ["golden"],
        "signature": {
            "inputs": [{ "name": "x", "datatype": "FP32", "shape": [-1, 4] }],
            "outputs": [{ "name": "score", "datatype": "FP32", "shape": [-1, 1] }],
        },
        "variants": [{
            "id": "cpu", "format": "onnx", "file": "model.onnx", "select": { "device": "CPU" },
            "inference_precision": "f32",
            "golden": { "request": "golden/request.json", "response": "golden/response.json", "tolerance_abs": 1e-5 },
        }],
        "files": listed.collect::<Vec<_>>(),
    });
    edit(&mut manifest);
    let path = format!("bundles/m/{version}.json").parse().unwrap();
    Bundle { path, manifest: manifest.to_string().into_bytes(), files }
}
