//! A publisher with keys of its own: makes bundles, roots and catalogues, good ones and bad ones.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use muster_fleet::blob::Blobs;
use muster_fleet::fleet::Fleet;
use muster_fleet::store::log::Actor;
use muster_protocol::drift::{OverDispersion, Reference};
use muster_protocol::ids::{BundlePath, Digest, ModelName};
use muster_protocol::manifest::{Manifest, ReferenceFile, StreamReference};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::author::{self, Keys, RootSpec, TargetsSpec};
use muster_protocol::trust::{SecretKey, Sign as _, Target};
use serde_json::{Value, json};

pub(crate) const YEAR: Duration = Duration::from_hours(365 * 24);

pub(crate) struct Publisher {
    pub(crate) root: SecretKey,
    pub(crate) targets: SecretKey,
    pub(crate) builder: SecretKey,
    pub(crate) spec: TargetsSpec,
    expires: Timestamp,
}

/// A bundle as it is uploaded: blobs by digest, and the manifest among them.
#[derive(Clone)]
pub(crate) struct Bundle {
    pub(crate) path: BundlePath,
    pub(crate) manifest: Vec<u8>,
    pub(crate) files: BTreeMap<&'static str, Vec<u8>>,
}

impl Publisher {
    pub(crate) fn new(fleet: &Fleet) -> Self {
        let mut spec = TargetsSpec::empty();
        let builder = SecretKey::from_seed([3; 32]);
        spec.delegate(&model(), &Keys::one(builder.key())).unwrap();
        Self {
            root: SecretKey::from_seed([1; 32]),
            targets: SecretKey::from_seed([2; 32]),
            builder,
            spec,
            expires: fleet.clocks.trust.now().plus(YEAR),
        }
    }

    pub(crate) fn root_file(&self, fleet: &Fleet) -> Vec<u8> {
        let online = Keys::one(fleet.signer.online_key());
        let spec = RootSpec {
            version: 1,
            expires: self.expires,
            root: Keys::one(self.root.key()),
            targets: Keys::one(self.targets.key()),
            snapshot: online.clone(),
            timestamp: online,
            order: Keys::one(fleet.signer.order_key()),
            tls_roots: fleet.pki.tls_roots(),
        };
        author::sign(author::root(&spec).unwrap(), &[&self.root]).unwrap()
    }

    /// The next catalogue, with these bundles added, signed by `key`.
    pub(crate) fn catalogue(&mut self, add: &[&Bundle], key: &SecretKey) -> Vec<u8> {
        for bundle in add {
            self.spec.put(&bundle.target());
        }
        self.spec = self.spec.clone().next(self.expires);
        author::sign(self.spec.envelope().unwrap(), &[key]).unwrap()
    }

    pub(crate) fn targets_key(&self) -> SecretKey {
        SecretKey::from_seed(*self.targets.seed())
    }

    /// What the builder publishes.
    pub(crate) fn auto(&self, version: u64, bundles: &[&Bundle]) -> Vec<u8> {
        let mut spec = TargetsSpec::empty();
        for bundle in bundles {
            spec.put(&bundle.target());
        }
        for _ in 0..version {
            spec = spec.next(self.expires);
        }
        author::sign(spec.envelope().unwrap(), &[&self.builder]).unwrap()
    }

    /// Root and first catalogue, with these bundles.
    pub(crate) async fn begin(fleet: &Fleet, bundles: &[&Bundle]) -> Self {
        let mut publisher = Self::new(fleet);
        for bundle in bundles {
            bundle.upload(&fleet.blobs).await;
        }
        let root = publisher.root_file(fleet);
        fleet.intake.upload("1.root.json", &root, person()).await.unwrap();
        let catalogue = publisher.catalogue(bundles, &publisher.targets_key());
        let accepted = fleet.intake.upload("1.targets.json", &catalogue, person()).await.unwrap();
        assert_eq!(accepted.added.len(), bundles.len());
        publisher
    }
}

impl Bundle {
    /// A bundle of one numeric input column, monitored, whose model is `model_bytes`.
    pub(crate) fn make(path: &str, model_bytes: &[u8]) -> Self {
        Self::with(path, model_bytes, |_| {})
    }

    pub(crate) fn with(path: &str, model_bytes: &[u8], edit: impl FnOnce(&mut Value)) -> Self {
        Self::monitoring("age", age_reference(), path, model_bytes, edit)
    }

    /// The same with another stream.
    pub(crate) fn monitoring(
        stream: &str,
        like: Reference,
        path: &str,
        model_bytes: &[u8],
        edit: impl FnOnce(&mut Value),
    ) -> Self {
        let path: BundlePath = path.parse().unwrap();
        let files = BTreeMap::from([
            ("model.onnx", model_bytes.to_vec()),
            ("reference.json", serde_json::to_vec(&reference(stream, like)).unwrap()),
        ]);
        let listed: Vec<Value> = files
            .iter()
            .map(|(name, bytes)| json!({"path": name, "length": bytes.len(), "sha256": Digest::of(bytes)}))
            .collect();
        let mut manifest = json!({
            "schema": "muster-bundle/1", "model": path.model(), "version": path.version(),
            "created": "2026-11-24T02:00:00Z", "task": "binary", "requires": ["drift-reference"],
            "signature": {
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
            },
            "variants": [{"id": "cpu", "format": "onnx", "file": "model.onnx", "select": {"device": "CPU"},
                          "inference_precision": "f32"}],
            "reference": "reference.json",
            "monitoring": {"streams": [{"name": stream, "kind": "numeric", "tensor": "x", "column": 0}],
                           "pane_s": 600, "window_s": 86400},
            "files": listed,
        });
        edit(&mut manifest);
        Self { path, manifest: manifest.to_string().into_bytes(), files }
    }

    pub(crate) fn sha256(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    pub(crate) fn target(&self) -> Target {
        author::target(self.path.clone(), &self.manifest, Value::Null)
    }

    pub(crate) fn parsed(&self) -> Manifest {
        Manifest::parse(&self.manifest).unwrap()
    }

    pub(crate) async fn upload(&self, blobs: &Blobs) {
        for bytes in self.files.values().chain([&self.manifest]) {
            put(blobs, bytes).await;
        }
    }
}

pub(crate) async fn put(blobs: &Blobs, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    let content = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::copy_from_slice(bytes))]);
    blobs.put(&digest, content, u64::MAX).await.unwrap();
    digest
}

pub(crate) fn model() -> ModelName {
    "er-beds".parse().unwrap()
}

pub(crate) fn person() -> Actor {
    Actor::Person("ada".to_owned())
}

pub(crate) fn age_reference() -> Reference {
    let values: Vec<f32> = (0_u16..1000).map(f32::from).collect();
    Reference::numeric(&values).unwrap()
}

fn reference(stream: &str, reference: Reference) -> ReferenceFile {
    let over_dispersion = OverDispersion::replay(&reference, &[]).unwrap();
    ReferenceFile {
        schema: "muster-reference/1".to_owned(),
        streams: BTreeMap::from([(
            stream.parse().unwrap(),
            StreamReference { reference, over_dispersion, merged: Vec::new() },
        )]),
    }
}
