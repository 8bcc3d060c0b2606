//! A small fleet that never changes: keys, a catalogue of two bundles, one device and the one order that was signed for it.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use muster_protocol::ids::{DeviceId, Digest};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::author::{self, Keys, OrderSpec, Pin, RootSpec, TargetsSpec};
use muster_protocol::trust::{
    Envelope, Files, Fitness, KeyId, Order, OrderContext, PublicKey, Revocation, RevocationAction, SecretKey,
    Sign as _, TrustedSet, Want,
};
use serde_json::{Value, json};

/// Seeds of the keys.
pub const ROOT: u8 = 1;
pub const TARGETS: u8 = 2;
pub const ONLINE: u8 = 3;
pub const ORDER: u8 = 4;
pub const BUILDER: u8 = 5;
pub const NOTE: u8 = 6;

/// Version of the newest order that the device accepted.
pub const FLOOR: u64 = 7;

pub const HUMAN: &str = "bundles/er-beds/1.0.0.json";
pub const AUTO: &str = "bundles/er-beds/auto/7.json";
/// Listed, and revoked all the same.
pub const REVOKED: &str = "bundles/er-beds/0.9.0.json";
/// Listed, for boxes of another kind.
pub const FOREIGN: &str = "bundles/er-beds/2.0.0.json";
const AUTO_FILE: &str = "auto-er-beds.json";

#[derive(Debug)]
pub struct World {
    pub now: Timestamp,
    pub device: DeviceId,
    pub fitness: Fitness,
    pub root: Vec<u8>,
    /// Version 1 of everything, trusted.
    pub trusted: TrustedSet,
    /// The same at rest.
    pub stored: Files,
    /// The only order that was ever signed for the device.
    pub order: Order,
    pub order_bytes: Vec<u8>,
    /// The only document that [`NOTE`] ever signed, in its canonical form.
    pub note: Vec<u8>,
    pub note_bytes: Vec<u8>,
    pub note_keys: BTreeMap<KeyId, PublicKey>,
}

/// A file that `catalogue` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustFile {
    Root,
    Timestamp,
    Snapshot,
    Targets,
    Auto,
}

impl From<u8> for TrustFile {
    fn from(byte: u8) -> Self {
        [Self::Root, Self::Timestamp, Self::Snapshot, Self::Targets, Self::Auto][usize::from(byte % 5)]
    }
}

impl TrustFile {
    pub fn keys(self) -> &'static [u8] {
        match self {
            Self::Root => &[ROOT],
            Self::Timestamp | Self::Snapshot => &[ONLINE],
            Self::Targets => &[TARGETS],
            Self::Auto => &[BUILDER],
        }
    }
}

pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

impl World {
    pub fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(Self::new)
    }

    fn new() -> Self {
        let now: Timestamp = "2026-11-24T02:00:00Z".parse().expect("a time");
        let root = root(now, 1);
        let mut trusted = TrustedSet::from_root(&root).expect("our root");
        let first = indexed(targets_files(now, 1), 1, now);
        let refreshed = trusted.refresh(&first, now).expect("our catalogue");
        let stored = refreshed.writes.into_iter().map(|write| (write.stored_name(), write.bytes)).collect();
        let device = DeviceId::mint([1; 16]);
        let hardware = ["x86_64".parse().expect("a class")].into();
        let fitness = Fitness { hardware, agent: "0.1.0".parse().expect("a version") };
        let order_bytes = signed(author::order(&order_spec(now, &device)).expect("an order"), &[ORDER]);
        let order = Order::authentic(&order_bytes, &trusted).expect("our order");
        let mut note =
            Envelope::unsigned(&json!({"_type": "note", "n": 1, "text": "é\"\\\n"})).expect("JSON");
        note.sign(&key(NOTE)).expect("a signature");
        let note_key = key(NOTE).key();
        let note_keys =
            BTreeMap::from([(note_key.key_id(), note_key), (KeyId::from("alias"), key(ORDER).key())]);
        Self {
            now,
            device,
            fitness,
            root,
            trusted,
            stored,
            order,
            order_bytes,
            note: note.canonical().to_vec(),
            note_bytes: note.to_bytes(),
            note_keys,
        }
    }

    pub fn context(&self, floor: u64) -> OrderContext<'_> {
        OrderContext {
            trusted: &self.trusted,
            device: &self.device,
            fitness: Some(&self.fitness),
            floor,
            before: &[],
            now: self.now,
        }
    }

    /// Version 2 of everything, with `bytes` in the place of one file and the index files made over it.
    pub fn next_files(&self, which: TrustFile, bytes: Vec<u8>) -> Files {
        let mut lower = targets_files(self.now, 2);
        match which {
            TrustFile::Root => {
                let mut files = indexed(lower, 2, self.now);
                files.insert("2.root.json".to_owned(), bytes);
                files
            }
            TrustFile::Targets => {
                lower.insert("targets.json".to_owned(), bytes);
                indexed(lower, 2, self.now)
            }
            TrustFile::Auto => {
                lower.insert(AUTO_FILE.to_owned(), bytes);
                indexed(lower, 2, self.now)
            }
            TrustFile::Snapshot => {
                let pin = Pin::of(version_of(&bytes), &bytes);
                lower.insert("snapshot.json".to_owned(), bytes);
                lower.insert("timestamp.json".to_owned(), timestamp(2, self.now, pin));
                lower
            }
            TrustFile::Timestamp => {
                let mut files = indexed(lower, 2, self.now);
                files.insert("timestamp.json".to_owned(), bytes);
                files
            }
        }
    }

    /// The document that stands at `which`'s place in version 2: a good start for the fuzzer.
    pub fn next_document(&self, which: TrustFile) -> Value {
        let bytes = match which {
            TrustFile::Root => root(self.now, 2),
            TrustFile::Timestamp => {
                indexed(targets_files(self.now, 2), 2, self.now).remove("timestamp.json").expect("made")
            }
            TrustFile::Snapshot => {
                indexed(targets_files(self.now, 2), 2, self.now).remove("snapshot.json").expect("made")
            }
            TrustFile::Targets => targets_files(self.now, 2).remove("targets.json").expect("made"),
            TrustFile::Auto => targets_files(self.now, 2).remove(AUTO_FILE).expect("made"),
        };
        Envelope::parse(&bytes).expect("ours").signed().clone()
    }
}

fn order_spec(now: Timestamp, device: &DeviceId) -> OrderSpec {
    let want = |slot: &str, path: &str| {
        Want::now(slot.parse().expect("a slot"), path.parse().expect("a path"), Digest::of(path.as_bytes()))
    };
    OrderSpec {
        device: device.clone(),
        version: FLOOR + 1,
        issued: now,
        expires: now.plus(author::ORDER_LIFE),
        catalogue: 1,
        want: vec![want("beds", HUMAN), want("beds-2", AUTO)],
        capture: Vec::new(),
    }
}

fn root(now: Timestamp, version: u64) -> Vec<u8> {
    let one = |seed| Keys::one(key(seed).key());
    let spec = RootSpec {
        version,
        expires: now.plus(Duration::from_hours(24 * 365)),
        root: one(ROOT),
        targets: one(TARGETS),
        snapshot: one(ONLINE),
        timestamp: one(ONLINE),
        order: one(ORDER),
        tls_roots: Vec::new(),
    };
    signed(author::root(&spec).expect("a root"), &[ROOT])
}

/// `targets.json` and its builder's file.
fn targets_files(now: Timestamp, version: u64) -> Files {
    let expires = now.plus(Duration::from_hours(24 * 90));
    let at = |mut spec: TargetsSpec| {
        while spec.version() < version {
            spec = spec.next(expires);
        }
        spec
    };
    let listed = |path: &str, hardware: &str| {
        author::target(path.parse().expect("a path"), path.as_bytes(), json!({"hardware": [hardware]}))
    };
    let mut catalogue = at(TargetsSpec::empty());
    let revocation = Revocation { reason: "miscalibrated".to_owned(), action: RevocationAction::Stop };
    catalogue.revoke(&REVOKED.parse().expect("a path"), revocation).expect("a revocation");
    for (path, hardware) in [(HUMAN, "x86_64"), (REVOKED, "x86_64"), (FOREIGN, "aarch64")] {
        catalogue.put(&listed(path, hardware));
    }
    let model = "er-beds".parse().expect("a model");
    catalogue.delegate(&model, &Keys::one(key(BUILDER).key())).expect("a delegation");
    let mut auto = at(TargetsSpec::empty());
    auto.put(&listed(AUTO, "x86_64"));
    Files::from([
        ("targets.json".to_owned(), signed(catalogue.envelope().expect("JSON"), &[TARGETS])),
        (AUTO_FILE.to_owned(), signed(auto.envelope().expect("JSON"), &[BUILDER])),
    ])
}

/// Adds snapshot and timestamp over these files.
fn indexed(mut files: Files, version: u64, now: Timestamp) -> Files {
    let pins = files.iter().map(|(name, bytes)| (name.clone(), Pin::of(version_of(bytes), bytes))).collect();
    let expires = now.plus(author::SNAPSHOT_LIFE);
    let snapshot = signed(author::snapshot(version, expires, &pins).expect("JSON"), &[ONLINE]);
    let pin = Pin::of(version, &snapshot);
    files.insert("snapshot.json".to_owned(), snapshot);
    files.insert("timestamp.json".to_owned(), timestamp(version, now, pin));
    files
}

fn timestamp(version: u64, now: Timestamp, pin: Pin) -> Vec<u8> {
    let made = author::timestamp(version, now.plus(author::TIMESTAMP_LIFE), now, pin);
    signed(made.expect("JSON"), &[ONLINE])
}

fn signed(mut envelope: Envelope, keys: &[u8]) -> Vec<u8> {
    for seed in keys {
        envelope.sign(&key(*seed)).expect("a signature");
    }
    envelope.to_bytes()
}

fn version_of(bytes: &[u8]) -> u64 {
    let envelope = Envelope::parse(bytes).expect("an envelope");
    envelope.signed().get("version").and_then(Value::as_u64).unwrap_or(1)
}
