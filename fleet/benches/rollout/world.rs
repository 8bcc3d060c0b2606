//! A fleet of any size in a database of its own, a catalogue of bundles for it, and rollouts over all of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_fleet::blob::Blobs;
use muster_fleet::catalogue::Catalogue;
use muster_fleet::clock::Clocks;
use muster_fleet::enrolment::{Boots, Identity, Key, Standing, Suspicion};
use muster_fleet::gate::GateLimits;
use muster_fleet::orders::Orders;
use muster_fleet::rollout::{Actor, Phase, Plan, Rollout, Selector, Size, StagePlan, Verb};
use muster_fleet::roster::Board;
use muster_fleet::signer::Signer;
use muster_fleet::store::trust_files::{self, NewTrustFile};
use muster_fleet::store::{Saved, Store, devices, identities, log, rollouts};
use muster_fleet::tasks::{Tasks, runs};
use muster_protocol::enrol::{Facts, Fingerprint};
use muster_protocol::ids::{BootId, BundlePath, DeviceId, RolloutId};
use muster_protocol::message::up::BundleRef;
use muster_protocol::message::{Capabilities, Hello, VERSION};
use muster_protocol::trust::author::{self, Keys, RootSpec, TargetsSpec};
use muster_protocol::trust::{Files, SecretKey, Sign as _, TrustedSet};

use super::boxes;

const YEAR: Duration = Duration::from_hours(365 * 24);
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) tasks: Tasks,
    pub(crate) devices: Vec<DeviceId>,
    bundles: Vec<BundleRef>,
    _dir: tempfile::TempDir,
}

impl World {
    /// `size` boxes that are members and online and run nothing; bundles that they may run.
    pub(crate) async fn make(size: usize, bundles: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let clocks = Clocks::default();
        let signer = Arc::new(Signer::open(&dir.path().join("keys")).unwrap());
        let bundles = publish(&store, &signer, clocks, bundles).await;
        let orders = Orders::new(signer, Catalogue::default(), clocks);
        let blobs = Blobs::open(&dir.path().join("blobs")).unwrap();
        let tasks = Tasks { store: store.clone(), blobs, orders, clocks, board: Board::default() };
        let devices = populate(&store, clocks, size).await;
        Self { store, tasks, devices, bundles, _dir: dir }
    }

    /// Begins a rollout over everybody, as people do.
    pub(crate) async fn begin(&self, bundle: usize, in_flight: u32) -> RolloutId {
        let moment = self.tasks.clocks.moment();
        let stage = StagePlan {
            name: "everybody".to_owned(),
            size: Size::Percent(100.0),
            quorum_percent: 95.0,
            bake_s: 3600,
            deadline_s: 360_000,
            exposure_device_hours_max: None,
            gate: GateLimits::default(),
        };
        let mut plan = Plan::of(vec![stage], Selector::default());
        plan.in_flight_max = in_flight;
        let mut random = [0; 16];
        random[..8].copy_from_slice(&(bundle as u64 + 1).to_le_bytes());
        let id = RolloutId::mint(random);
        let names = ("er-beds".parse().unwrap(), "er-beds".parse().unwrap());
        let by = (Actor::Person { name: "bench".to_owned() }, "measured".to_owned());
        let bundle = self.bundles[bundle].clone();
        let rollout = Rollout::start(id.clone(), names, bundle, plan, by, moment.world_at).unwrap();
        let mut tx = self.store.write().await.unwrap();
        runs::create(&mut tx, &rollout, log::Actor::Person("bench".to_owned()), moment).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    /// Waits until the rollout is in such a phase.
    pub(crate) async fn until(&self, id: &RolloutId, is_there: impl Fn(&Phase) -> bool) {
        let mut commits = self.store.changes().commits();
        let began = Instant::now();
        loop {
            commits.mark_unchanged();
            let mut db = self.store.read().await.unwrap();
            let found = rollouts::get::<Rollout>(&mut db, id).await.unwrap().unwrap();
            drop(db);
            if is_there(&found.document.phase) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{id} is still {}", found.document.phase.name());
            let waited = tokio::time::timeout(Duration::from_secs(1), commits.changed()).await;
            waited.ok().transpose().unwrap();
        }
    }

    /// Ends a rollout and takes it out of the way of the next one, whatever state it is in.
    pub(crate) async fn end(&self, id: &RolloutId) {
        let mut tx = self.store.write().await.unwrap();
        let loaded = rollouts::get::<Rollout>(&mut tx, id).await.unwrap().unwrap();
        let (mut rollout, now) = (loaded.document, self.tasks.clocks.world.now());
        let by = Actor::Person { name: "bench".to_owned() };
        // A rollback that waits for its boxes is over as far as this is concerned.
        if rollout.act(Verb::Abort, by.clone(), "measured", now).is_err() || rollout.phase.is_open() {
            rollout.phase = Phase::Aborted { at: now, stage: 0, by, reason: "measured".to_owned() };
        }
        let saved =
            rollouts::save(&mut tx, id, loaded.revision, rollout.phase.name(), &rollout).await.unwrap();
        assert!(matches!(saved, Saved::Saved { .. }));
        tx.commit().await.unwrap();
        boxes::handed(&self.store).await;
    }
}

/// Root, catalogue and index, as a publisher and the server sign them.
async fn publish(store: &Store, signer: &Signer, clocks: Clocks, count: usize) -> Vec<BundleRef> {
    let now = clocks.trust.now();
    let (root, targets) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
    let online = Keys::one(signer.online_key());
    let spec = RootSpec {
        version: 1,
        expires: now.plus(YEAR),
        root: Keys::one(root.key()),
        targets: Keys::one(targets.key()),
        snapshot: online.clone(),
        timestamp: online,
        order: Keys::one(signer.order_key()),
        tls_roots: Vec::new(),
    };
    let root = author::sign(author::root(&spec).unwrap(), &[&root]).unwrap();
    let mut catalogue = TargetsSpec::empty();
    let mut bundles = Vec::new();
    for n in 0..count {
        let path: BundlePath = format!("bundles/er-beds/{n}.json").parse().unwrap();
        let target =
            author::target(path.clone(), format!("manifest {n}").as_bytes(), serde_json::Value::Null);
        bundles.push(BundleRef { path, sha256: target.sha256 });
        catalogue.put(&target);
    }
    let catalogue = catalogue.next(now.plus(YEAR));
    let catalogue = author::sign(catalogue.envelope().unwrap(), &[&targets]).unwrap();
    let files = Files::from([("1.root.json".to_owned(), root.clone())]);
    let trusted = TrustedSet::load(&root, &files).unwrap();
    let new = Files::from([("targets.json".to_owned(), catalogue)]);
    let index = signer.index(&trusted, &Files::new(), &new, now).unwrap();
    let mut tx = store.write().await.unwrap();
    let file = NewTrustFile { name: "1.root.json", version: 1, expires: None, bytes: &root };
    trust_files::put(&mut tx, file, now).await.unwrap();
    for write in &index.publish {
        let name = write.file.wire();
        let file = NewTrustFile { name: &name, version: write.version, expires: None, bytes: &write.bytes };
        trust_files::put(&mut tx, file, now).await.unwrap();
    }
    tx.commit().await.unwrap();
    bundles
}

async fn populate(store: &Store, clocks: Clocks, size: usize) -> Vec<DeviceId> {
    let now = clocks.trust.now();
    let mut all = Vec::with_capacity(size);
    let mut tx = store.write().await.unwrap();
    for n in 0..size {
        // Spread as random ids are.
        let mixed = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut random = [0; 16];
        random[..8].copy_from_slice(&mixed.to_be_bytes());
        let id = DeviceId::mint(random);
        let (name, site) = (format!("box-{n}"), format!("site-{}", n % 100));
        let spki = id.as_str().as_bytes().to_vec();
        let identity = Identity {
            device: id.clone(),
            name: name.clone(),
            site: site.parse().unwrap(),
            key: Key { fingerprint: Fingerprint::of(&spki), spki },
            former: None,
            standing: Standing::Active,
            since: now,
            facts: Facts::default(),
            enrolment: None,
            enrolled: now,
            boots: Boots::default(),
            suspicion: Suspicion::default(),
        };
        identities::save(&mut tx, &identity).await.unwrap();
        let hello = Hello {
            v: VERSION,
            boot: BootId::mint(random),
            connection: 1,
            name,
            site: site.parse().unwrap(),
            agent_version: "0.3.0".to_owned(),
            capabilities: Capabilities {
                arch: "x86_64".to_owned(),
                devices: vec!["CPU".to_owned(), "GPU.0".to_owned()],
                ..Capabilities::default()
            },
            order_version: 0,
            root: None,
            certificate_expires: None,
            facts: None,
            key: None,
        };
        devices::hello(&mut tx, &id, &hello, now).await.unwrap();
        all.push(id);
    }
    tx.commit().await.unwrap();
    all
}
