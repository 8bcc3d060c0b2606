//! Made-up boxes with what they report: figures of the machine and two models twice a minute, and every ten minutes a
//! pane of each model's ten monitored columns and a block of matured labels.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_fleet::broker::Insider;
use muster_fleet::clock::Clocks;
use muster_fleet::enrolment::{Boots, Identity, Key, Standing, Suspicion};
use muster_fleet::ingest::Ingest;
use muster_fleet::link::{Inbound, Link, Way};
use muster_fleet::rollup::Retention;
use muster_fleet::store::{Store, bundles, devices, identities};
use muster_protocol::drift::{Counter, Counts, Reference};
use muster_protocol::enrol::{Facts, Fingerprint};
use muster_protocol::ids::{BootId, BundlePath, DeviceId, Digest, SlotName};
use muster_protocol::manifest::Manifest;
use muster_protocol::message::report::PairedLoss;
use muster_protocol::message::{Capabilities, Health, Hello, LabelBlock, ModelStats, Pane, Report, VERSION};
use muster_protocol::time::Timestamp;
use muster_protocol::topic::Up;
use serde_json::json;
use tokio::sync::Notify;

const SPAN: Duration = Duration::from_secs(30);
/// Reports between two panes.
const PANE_EVERY: u64 = 20;
const STREAMS: usize = 10;
const MODELS: usize = 2;

/// As the server makes it, with a link that nobody runs: what is acknowledged is not sent.
pub(crate) fn ingest(store: &Store, clocks: Clocks) -> Ingest {
    let insider = Insider { client_id: "bench".to_owned(), password: String::new() };
    let (_, publisher, _) = Link::new(Way::Inside { broker: SocketAddr::from(([127, 0, 0, 1], 1)), insider });
    Ingest::new(store.clone(), publisher, clocks, Arc::new(Notify::new()), Retention::default())
}

pub(crate) struct Boxes {
    all: Vec<(DeviceId, BootId)>,
    models: Vec<(SlotName, Digest)>,
    counts: Vec<Counts>,
    start: Timestamp,
    sequence: u64,
}

impl Boxes {
    /// Members that have said hello, as a fleet has them.
    pub(crate) async fn enrol(store: &Store, size: usize, clocks: Clocks) -> Self {
        let now = clocks.trust.now();
        let mut tx = store.write().await.unwrap();
        let mut models = Vec::new();
        for n in 0..MODELS {
            let bundle = bundle(n);
            models.push((format!("model-{n}").parse().unwrap(), bundle.sha256));
            bundles::add(&mut tx, &bundle, now).await.unwrap();
        }
        let mut all = Vec::with_capacity(size);
        for n in 0..size {
            let mut random = [0; 16];
            random[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
            let (device, boot) = (DeviceId::mint(random), BootId::mint(random));
            identities::save(&mut tx, &identity(&device, n, now)).await.unwrap();
            devices::hello(&mut tx, &device, &hello(&boot, n), now).await.unwrap();
            all.push((device, boot));
        }
        tx.commit().await.unwrap();
        let values: Vec<f32> = (0_u16..1000).map(f32::from).collect();
        let mut counter = Counter::new(&Reference::numeric(&values).unwrap());
        if let Counter::Numeric(numeric) = &mut counter {
            (0..40_u16).for_each(|n| numeric.observe(f32::from(n * 25)));
        }
        let start = clocks.world.now().minus(Duration::from_hours(24));
        Self { all, models, counts: vec![counter.counts(); STREAMS], start, sequence: 0 }
    }

    pub(crate) fn models(&self) -> &[(SlotName, Digest)] {
        &self.models
    }

    pub(crate) fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.all.iter().map(|(device, _)| device)
    }

    /// The next report of every box, as bytes from the broker.
    pub(crate) fn round(&mut self, size: usize) -> Vec<Inbound> {
        self.sequence += 1;
        (0..size).map(|place| self.message(place)).collect()
    }

    fn message(&self, place: usize) -> Inbound {
        let (device, boot) = &self.all[place];
        let (sequence, place) = (self.sequence, place as u64);
        let from = self.start.plus(SPAN * u32::try_from(sequence).unwrap());
        let mixed = place.wrapping_mul(31).wrapping_add(sequence.wrapping_mul(17));
        let figure = |most: u64| u16::try_from(mixed % most).unwrap();
        let closes = (place + sequence).is_multiple_of(PANE_EVERY);
        let models = self.models.iter().map(|(slot, bundle)| {
            let requests = u64::from(figure(200));
            ModelStats {
                slot: slot.clone(),
                bundle: *bundle,
                requests,
                rows: requests * 4,
                failures: u64::from(mixed.is_multiple_of(97)),
                refused: 0,
                latency: vec![0, 0, u32::from(figure(200)), u32::from(figure(90)), u32::from(figure(9)), 1],
            }
        });
        let panes = self.models.iter().filter(|_| closes).map(|(slot, bundle)| Pane {
            slot: slot.clone(),
            bundle: *bundle,
            from: from.floor_to(Duration::from_mins(10)),
            to: from.plus(SPAN),
            streams: self.counts.clone(),
        });
        let report = Report {
            boot: boot.clone(),
            sequence,
            held_from: 1,
            from,
            to: from.plus(SPAN),
            health: Health {
                cpu_percent: f32::from(figure(100)),
                memory_used_bytes: (2_000_000 + mixed % 1_000_000) << 10,
                memory_total_bytes: 8 << 30,
                disk_free_bytes: (40_000_000 - mixed % 1_000_000) << 10,
                agent_rss_bytes: (12_000 + mixed % 1000) << 10,
                temperature_c: Some(f32::from(figure(40)) + 30.0),
                uptime_s: sequence * 30,
                ..Health::default()
            },
            models: models.collect(),
            panes: panes.collect(),
            labels: self
                .models
                .iter()
                .filter(|_| closes)
                .map(|(slot, bundle)| labels(slot, *bundle, from))
                .collect(),
            shadows: Vec::new(),
        };
        Inbound { device: device.clone(), up: Up::Report, payload: Bytes::from(report.encode().unwrap()) }
    }
}

fn labels(slot: &SlotName, bundle: Digest, from: Timestamp) -> LabelBlock {
    LabelBlock {
        slot: slot.clone(),
        bundle,
        day: from.floor_to(Duration::from_hours(24)),
        n: 12,
        label_sum: 3.0,
        prediction_sum: 3.5,
        loss_sum: 4.0,
        loss_sum_sq: 2.0,
        against: Some(PairedLoss {
            bundle: Digest::of(b"before"),
            n: 12,
            loss_sum: 5.0,
            diff_sum: -1.0,
            diff_sum_sq: 0.5,
        }),
    }
}

fn bundle(n: usize) -> bundles::NewBundle {
    let path: BundlePath = format!("bundles/model-{n}/1.json").parse().unwrap();
    let listed =
        |name: &str| json!({"path": name, "length": name.len(), "sha256": Digest::of(name.as_bytes())});
    let streams: Vec<_> = (0..STREAMS)
        .map(|n| json!({"name": format!("s{n}"), "kind": "numeric", "tensor": "x", "column": n}))
        .collect();
    let bytes = json!({
        "schema": "muster-bundle/1", "model": path.model(), "version": path.version(),
        "created": "2026-11-24T02:00:00Z", "task": "binary", "requires": ["drift-reference"],
        "signature": {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, STREAMS]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
        },
        "variants": [{"id": "cpu", "format": "onnx", "file": "model.onnx", "select": {"device": "CPU"},
                      "inference_precision": "f32"}],
        "reference": "reference.json",
        "monitoring": {"streams": streams, "pane_s": 600, "window_s": 86_400},
        "files": [listed("model.onnx"), listed("reference.json")],
    })
    .to_string()
    .into_bytes();
    let manifest = Manifest::parse(&bytes).unwrap();
    bundles::NewBundle { path, sha256: Digest::of(&bytes), manifest, bytes }
}

fn identity(device: &DeviceId, n: usize, now: Timestamp) -> Identity {
    let spki = n.to_be_bytes().to_vec();
    Identity {
        device: device.clone(),
        name: format!("box-{n}"),
        site: format!("site-{}", n % 100).parse().unwrap(),
        key: Key { fingerprint: Fingerprint::of(&spki), spki },
        former: None,
        standing: Standing::Active,
        since: now,
        facts: Facts::default(),
        enrolment: None,
        enrolled: now,
        boots: Boots::default(),
        suspicion: Suspicion::default(),
    }
}

fn hello(boot: &BootId, n: usize) -> Hello {
    Hello {
        v: VERSION,
        boot: boot.clone(),
        connection: 1,
        name: format!("box-{n}"),
        site: format!("site-{}", n % 100).parse().unwrap(),
        agent_version: "0.3.0".to_owned(),
        capabilities: Capabilities::default(),
        order_version: 0,
        root: None,
        certificate_expires: None,
        facts: None,
        key: None,
    }
}
