//! What the eye for drift costs on 10,000 boxes of 20 streams each: the real store on a real disk, the real task.
//! `make bench-watch`. Every goal is printed last as `goal NAME: VALUE UNIT, wanted <= LIMIT: met|missed`.

#![expect(clippy::disallowed_methods, reason = "a stopwatch asks the clock")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on stops and says where"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_fleet::blob::Blobs;
use muster_fleet::catalogue::Catalogue;
use muster_fleet::clock::Clocks;
use muster_fleet::orders::Orders;
use muster_fleet::roster::Board;
use muster_fleet::signer::Signer;
use muster_fleet::store::panes::{self, NewPane, Windows};
use muster_fleet::store::{Store, bundles, devices};
use muster_fleet::tasks::Tasks;
use muster_fleet::tasks::drift::Watchers;
use muster_protocol::drift::{Counter, Counts, Reference, Rule};
use muster_protocol::ids::{BootId, BundlePath, DeviceId, Digest, SlotName};
use muster_protocol::manifest::{Manifest, ReferenceFile, StreamReference};
use muster_protocol::message::up::{BundleRef, Phase, ProviderUse, Running, SlotState, State};
use muster_protocol::message::{Capabilities, Hello, Pane, Provider, VERSION};
use muster_protocol::time::Timestamp;
use serde_json::json;

const DAY: Duration = Duration::from_hours(24);
const STREAMS: usize = 20;
const ROWS: u64 = 120;
/// No look may keep the server busy for longer.
const LOOK_S_MAX: f64 = 2.0;

struct World {
    tasks: Tasks,
    devices: Vec<DeviceId>,
    bundle: Digest,
    reference: Reference,
    start: Timestamp,
    _dir: tempfile::TempDir,
}

#[tokio::main]
async fn main() -> ExitCode {
    let size = std::env::args().find_map(|size| size.parse().ok()).unwrap_or(10_000);
    let world = World::make(size).await;
    let mut watchers = Watchers::default();
    let mut slowest = Duration::ZERO;
    for day in 0..3 {
        world.live(day).await;
        let looks = looks(&world, &mut watchers).await;
        let (all, most) = (looks.iter().sum::<Duration>(), looks.iter().max().copied().unwrap_or_default());
        println!(
            "day {day}: {size} boxes x {STREAMS} streams closed a window: {} looks, {:.1} s in all, the longest {:.2} s",
            looks.len(),
            all.as_secs_f64(),
            most.as_secs_f64()
        );
        slowest = slowest.max(most);
    }
    let quiet = look(&world, &mut watchers).await.0;
    println!("nothing new: {:.3} s", quiet.as_secs_f64());
    let (recalled, _) = look(&world, &mut Watchers::default()).await;
    println!("first look after a restart: {:.2} s", recalled.as_secs_f64());
    let met = slowest.as_secs_f64() <= LOOK_S_MAX;
    let word = if met { "met" } else { "missed" };
    println!("goal drift_look: {:.2} s, wanted <= {LOOK_S_MAX}: {word}", slowest.as_secs_f64());
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Looks until there is nothing left to do.
async fn looks(world: &World, watchers: &mut Watchers) -> Vec<Duration> {
    let mut took = Vec::new();
    loop {
        let (one, more) = look(world, watchers).await;
        took.push(one);
        if !more {
            return took;
        }
    }
}

async fn look(world: &World, watchers: &mut Watchers) -> (Duration, bool) {
    let began = Instant::now();
    let more = watchers.look(&world.tasks).await.unwrap();
    (began.elapsed(), more.is_some())
}

fn noise(seed: u64) -> f32 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    #[expect(clippy::cast_precision_loss, reason = "24 bits")]
    let value = ((x ^ (x >> 31)) >> 40) as f32 / 16_777_216.0;
    value
}

fn slot() -> SlotName {
    "er-beds".parse().unwrap()
}

impl World {
    async fn make(size: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let clocks = Clocks::default();
        let signer = Arc::new(Signer::open(&dir.path().join("keys")).unwrap());
        let orders = Orders::new(signer, Catalogue::default(), clocks);
        let blobs = Blobs::open(&dir.path().join("blobs")).unwrap();
        let values: Vec<f32> = (0..200 * ROWS).map(|row| noise(row + (1 << 40))).collect();
        let reference = Reference::numeric(&values).unwrap();
        let bundle = publish(&store, &blobs, &values, &reference, clocks.trust.now()).await;
        let tasks = Tasks { store, blobs, orders, clocks, board: Board::default() };
        let devices = populate(&tasks, size, &bundle).await;
        let start = clocks.world.now().floor_to(DAY).minus(DAY * 10);
        Self { tasks, devices, bundle: bundle.sha256, reference, start, _dir: dir }
    }

    /// Every box reports a day.
    async fn live(&self, day: u32) {
        let from = self.start.plus(DAY * day);
        let mut tx = self.tasks.store.write_telemetry().await.unwrap();
        let at = self.tasks.clocks.trust.now();
        let mut windows = Windows::default();
        for (place, device) in self.devices.iter().enumerate() {
            let streams = (0..STREAMS)
                .map(|stream| self.count(((u64::from(day) << 24) + place as u64) * 64 + stream as u64));
            let pane = Pane {
                slot: slot(),
                bundle: self.bundle,
                from,
                to: from.plus(DAY),
                streams: streams.collect(),
            };
            windows.add(device, NewPane { pane, window: DAY });
        }
        assert_eq!(panes::add(&mut tx, &windows, at).await.unwrap(), 0);
        tx.commit().await.unwrap();
    }

    fn count(&self, seed: u64) -> Counts {
        count(&self.reference, (0..ROWS).map(|row| noise(seed * 1009 + row)))
    }
}

fn count(reference: &Reference, values: impl Iterator<Item = f32>) -> Counts {
    let mut counter = Counter::new(reference);
    if let Counter::Numeric(numeric) = &mut counter {
        values.for_each(|value| numeric.observe(value));
    }
    counter.take()
}

async fn publish(
    store: &Store,
    blobs: &Blobs,
    values: &[f32],
    reference: &Reference,
    now: Timestamp,
) -> BundleRef {
    let windows = values.chunks(usize::try_from(ROWS).unwrap());
    let windows: Vec<Counts> = windows.map(|rows| count(reference, rows.iter().copied())).collect();
    let learnt = StreamReference::replay(reference.clone(), &[windows], &Rule::default()).unwrap();
    let streams: BTreeMap<_, _> =
        (0..STREAMS).map(|n| (format!("s{n}").parse().unwrap(), learnt.clone())).collect();
    let file = ReferenceFile { schema: "muster-reference/1".to_owned(), streams };
    let bytes = serde_json::to_vec(&file).unwrap();
    let digest = Digest::of(&bytes);
    let path: BundlePath = "bundles/er-beds/1.json".parse().unwrap();
    let listed =
        |name: &str, bytes: &[u8]| json!({"path": name, "length": bytes.len(), "sha256": Digest::of(bytes)});
    let streams: Vec<_> = (0..STREAMS)
        .map(|n| json!({"name": format!("s{n}"), "kind": "numeric", "tensor": "x", "column": n}))
        .collect();
    let manifest = json!({
        "schema": "muster-bundle/1", "model": path.model(), "version": path.version(),
        "created": "2026-11-24T02:00:00Z", "task": "binary", "requires": ["drift-reference"],
        "signature": {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, STREAMS]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
        },
        "variants": [{"id": "cpu", "format": "onnx", "file": "model.onnx", "select": {"device": "CPU"},
                      "inference_precision": "f32"}],
        "reference": "reference.json",
        "monitoring": {"streams": streams, "pane_s": 86_400, "window_s": 86_400},
        "files": [listed("model.onnx", b"model"), listed("reference.json", &bytes)],
    })
    .to_string()
    .into_bytes();
    let content = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(bytes))]);
    blobs.put(&digest, content, u64::MAX).await.unwrap();
    let sha256 = Digest::of(&manifest);
    let parsed = Manifest::parse(&manifest).unwrap();
    let bundle = bundles::NewBundle { path: path.clone(), sha256, manifest: parsed, bytes: manifest };
    let mut tx = store.write().await.unwrap();
    bundles::add(&mut tx, &bundle, now).await.unwrap();
    tx.commit().await.unwrap();
    BundleRef { path, sha256 }
}

/// Boxes at a hundred sites that all run the bundle.
async fn populate(tasks: &Tasks, size: usize, bundle: &BundleRef) -> Vec<DeviceId> {
    let now = tasks.clocks.trust.now();
    let mut all = Vec::with_capacity(size);
    let mut tx = tasks.store.write().await.unwrap();
    for n in 0..size {
        // Spread as random ids are.
        let mut random = [0; 16];
        random[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        let id = DeviceId::mint(random);
        let hello = Hello {
            v: VERSION,
            boot: BootId::mint(random),
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
        };
        devices::hello(&mut tx, &id, &hello, now).await.unwrap();
        let current = Running {
            bundle: bundle.clone(),
            variant: "cpu".to_owned(),
            provider: ProviderUse { provider: Provider::OnnxCpu, reason: None },
            numerics: None,
            passed_over: None,
            since: now,
        };
        let state = State {
            v: VERSION,
            boot: BootId::mint(random),
            sequence: 1,
            at: now,
            observed_generation: 0,
            catalogue: 1,
            refusal: None,
            notices: Vec::new(),
            leases: Vec::new(),
            captures: Vec::new(),
            slots: vec![SlotState {
                slot: slot(),
                phase: Phase::Running { bundle: bundle.clone() },
                current: Some(current),
                previous: None,
                notice: None,
            }],
        };
        assert!(devices::state(&mut tx, &id, &state).await.unwrap());
        all.push(id);
    }
    tx.commit().await.unwrap();
    all
}
