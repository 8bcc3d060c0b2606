//! Publisher, builder, fleet and device together, each with its own keys.

use std::time::Duration;

use muster_protocol::ids::{BundlePath, Digest, ModelName};
use muster_protocol::trust::author::Keys;
use muster_protocol::trust::{LookupError, Sign, Target, Verdict};
use tempfile::TempDir;

use super::*;
use crate::publisher::auto::{self, AutoError};
use crate::publisher::{PublisherError, Release, RootRequest, Workspace};

const HUMAN: &str = "bundles/er-beds/1.0.0.json";
const AUTO: &str = "bundles/er-beds/auto/7.json";

fn now() -> Timestamp {
    "2026-11-24T02:00:00Z".parse().unwrap()
}

fn later(days: u32) -> Timestamp {
    now().plus(Duration::from_hours(24) * days)
}

fn model() -> ModelName {
    "er-beds".parse().unwrap()
}

fn listed(path: &str) -> Target {
    author::target(path.parse().unwrap(), path.as_bytes(), serde_json::json!({"model": "er-beds"}))
}

fn want(path: &str) -> Want {
    let sha256 = Digest::of(path.as_bytes());
    Want::now("er".parse().unwrap(), path.parse().unwrap(), sha256)
}

struct Office {
    _dir: TempDir,
    workspace: Workspace,
    signer: Signer,
    builder: SecretKey,
    root: Vec<u8>,
}

impl Office {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(&dir.path().join("publisher"));
        let signer = Signer::open(&dir.path().join("fleet")).unwrap();
        let again = Signer::open(&dir.path().join("fleet")).unwrap();
        assert_eq!(again.online_key(), signer.online_key(), "keys are kept");
        let builder = SecretKey::from_seed([3; 32]);
        let root_keys = vec![
            workspace.new_key("root-a", "root", None).unwrap(),
            workspace.new_key("root-b", "root", None).unwrap(),
        ];
        let request = RootRequest {
            root: Keys { keys: root_keys, threshold: 2 },
            targets: Keys::one(workspace.new_key("release", "targets", None).unwrap()),
            online: signer.online_key(),
            order: signer.order_key(),
            delegate: vec![(model(), builder.key())],
            tls_roots: Vec::new(),
            expires: later(365),
        };
        workspace.new_root(&request).unwrap();
        let first = workspace.sign_root(&[&secret(&workspace, "root-a")]).unwrap();
        assert_eq!(
            first.to_string(),
            format!("1 of 2 keys of root 1, 1 more of {}", holder(&workspace, "root-b"))
        );
        assert!(workspace.sign_root(&[&secret(&workspace, "root-b")]).unwrap().is_complete());
        let path = workspace.metadata("1.root.json");
        let root = std::fs::read(path).unwrap();
        Self { _dir: dir, workspace, signer, builder, root }
    }

    fn release(&self, path: &str) -> Vec<u8> {
        self.workspace.add_bundle(&FileName::Targets, listed(path)).unwrap();
        self.publish(&[&secret(&self.workspace, "release")]).unwrap().bytes
    }

    fn publish(&self, signers: &[&dyn Sign]) -> Result<Release, PublisherError> {
        self.workspace.publish(&FileName::Targets, signers, later(90), now())
    }

    fn auto(&self, targets: &[u8], current: Option<&[u8]>, path: &str) -> Result<Vec<u8>, AutoError> {
        auto::publish(&self.root, targets, current, &model(), listed(path), &self.builder, later(90))
    }

    fn start(&self) -> TrustedSet {
        TrustedSet::from_root(&self.root).unwrap()
    }
}

fn holder(workspace: &Workspace, name: &str) -> String {
    format!("{name} ({})", workspace.key(name).unwrap().public.key_id().short())
}

fn secret(workspace: &Workspace, name: &str) -> SecretKey {
    keys::load(&workspace.key_path(name)).unwrap()
}

fn files<const N: usize>(files: [(&str, &[u8]); N]) -> Files {
    files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()
}

fn sent(index: &Index) -> Vec<String> {
    index.publish.iter().map(|write| write.file.wire()).collect()
}

#[test]
fn from_keys_to_an_order_that_a_device_accepts() {
    let office = Office::new();
    let targets = office.release(HUMAN);
    let first = office
        .signer
        .index(&office.start(), &Files::new(), &files([("targets.json", &targets)]), now())
        .unwrap();
    assert_eq!(sent(&first), ["targets.json", "snapshot.json", "timestamp.json"]);

    let auto = office.auto(&targets, None, AUTO).unwrap();
    let second = office
        .signer
        .index(&first.trusted, &Files::new(), &files([("auto-er-beds.json", &auto)]), now())
        .unwrap();
    assert_eq!(sent(&second), ["auto-er-beds.json", "snapshot.json", "timestamp.json"]);

    // A device that saw only what was sent.
    let mut device_set = office.start();
    let sent: Files = first
        .publish
        .iter()
        .chain(&second.publish)
        .map(|write| (write.file.wire(), write.bytes.clone()))
        .collect();
    device_set.refresh(&sent, now()).unwrap();
    let device = DeviceId::mint([1; 16]);
    let request = OrderRequest {
        device: device.clone(),
        fitness: None,
        want: vec![want(AUTO)],
        capture: Vec::new(),
        last_version: 0,
        before: Vec::new(),
    };
    let order = office.signer.order(&second.trusted, request, now()).unwrap();
    let context = OrderContext {
        trusted: &device_set,
        device: &device,
        fitness: None,
        floor: 0,
        before: &[],
        now: now(),
    };
    assert!(matches!(Order::check(&order.bytes, &context), Ok(Verdict::Accepted(_))));
    assert_eq!(order.version, 1_795_485_600);

    // Every day: nothing new but the index, also after a restart of the server.
    let stored: Files =
        first.publish.iter().chain(&second.publish).map(|w| (w.stored_name(), w.bytes.clone())).collect();
    let loaded = TrustedSet::load(&office.root, &stored).unwrap();
    let third = office.signer.index(&loaded, &Files::new(), &Files::new(), later(6)).unwrap();
    assert_eq!(self::sent(&third), ["snapshot.json", "timestamp.json"]);
    assert!(third.trusted.lookup(&AUTO.parse::<BundlePath>().unwrap(), later(12)).is_ok());
}

#[test]
fn offline_keys_on_the_server_are_refused() {
    let office = Office::new();
    for (name, role) in [("root-a", "root"), ("release", "targets")] {
        for file in ["online.key", "order.key"] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::copy(office.workspace.key_path(name), dir.path().join(file)).unwrap();
            let signer = Signer::open(dir.path()).unwrap();
            let error = signer.check(&office.start()).unwrap_err();
            assert!(matches!(error, SignerError::Offline { .. }), "{error}");
            assert!(error.to_string().contains(file) && error.to_string().contains(role), "{error}");
        }
    }
    let stranger = tempfile::tempdir().unwrap();
    let error = Signer::open(stranger.path()).unwrap().check(&office.start()).unwrap_err();
    assert_eq!(error.code(), "signer_key_not_named");
}

#[test]
fn what_devices_would_refuse_is_not_published() {
    let office = Office::new();
    let index = |before: &TrustedSet, new: Files| office.signer.index(before, &Files::new(), &new, now());
    let code = |before: &TrustedSet, new: Files| index(before, new).unwrap_err().code();
    assert_eq!(code(&office.start(), Files::new()), "signer_no_catalogue");
    let first = office.release(HUMAN);
    let published = index(&office.start(), files([("targets.json", &first)])).unwrap().trusted;
    let second = office.release("bundles/er-beds/2.0.0.json");
    let newer = index(&published, files([("targets.json", &second)])).unwrap().trusted;
    assert_eq!(code(&newer, files([("targets.json", &first)])), "trust_rollback");
    let mut altered = second.clone();
    altered.push(b' ');
    assert_eq!(code(&newer, files([("targets.json", &altered)])), "trust_same_version");
    let forged =
        author::sign(author::TargetsSpec::empty().next(later(9)).envelope().unwrap(), &[&office.builder]);
    assert_eq!(code(&office.start(), files([("targets.json", &forged.unwrap())])), "trust_signature");
    let auto = office.auto(&first, None, AUTO).unwrap();
    assert_eq!(code(&newer, files([("auto-radiology.json", &auto)])), "trust_delegated");
    let foreign = author::sign(
        author::TargetsSpec::empty().next(later(9)).envelope().unwrap(),
        &[&office.signer.online],
    );
    assert_eq!(code(&newer, files([("auto-er-beds.json", &foreign.unwrap())])), "trust_delegated");
    let request = OrderRequest {
        device: DeviceId::mint([1; 16]),
        fitness: None,
        want: vec![want(AUTO)],
        capture: Vec::new(),
        last_version: 0,
        before: Vec::new(),
    };
    assert_eq!(office.signer.order(&newer, request, now()).unwrap_err().code(), "bundle_uncatalogued");
}

#[test]
fn a_builder_that_stopped_does_not_hold_up_the_others() {
    let office = Office::new();
    let targets = office.release(HUMAN);
    let auto = office.auto(&targets, None, AUTO).unwrap();
    let both = files([("targets.json", targets.as_slice()), ("auto-er-beds.json", auto.as_slice())]);
    let mut trusted = office.signer.index(&office.start(), &Files::new(), &both, now()).unwrap().trusted;
    // The builder's file expires after 90 days; the catalogue is signed anew.
    let targets = office.release("bundles/er-beds/2.0.0.json");
    trusted = office
        .signer
        .index(&trusted, &Files::new(), &files([("targets.json", &targets)]), later(80))
        .unwrap()
        .trusted;
    let spec = author::TargetsSpec::parse(&targets).unwrap().next(later(300));
    let renewed = author::sign(spec.envelope().unwrap(), &[&secret(&office.workspace, "release")]).unwrap();
    for day in [85, 91, 92] {
        let new = if day == 85 { files([("targets.json", renewed.as_slice())]) } else { Files::new() };
        trusted = office.signer.index(&trusted, &Files::new(), &new, later(day)).unwrap().trusted;
    }
    assert!(trusted.lookup(&HUMAN.parse().unwrap(), later(92)).is_ok());
    let refused = trusted.lookup(&AUTO.parse().unwrap(), later(92)).unwrap_err();
    assert!(!matches!(refused, LookupError::Absent { .. }), "{refused}");
}

#[test]
fn a_builder_keeps_the_newest_twenty_and_signs_over_nothing_forged() {
    let office = Office::new();
    let targets = office.release(HUMAN);
    let mut current = None;
    for n in 0..25 {
        current = Some(
            office.auto(&targets, current.as_deref(), &format!("bundles/er-beds/auto/{n}.json")).unwrap(),
        );
    }
    let current = current.unwrap();
    let spec = author::TargetsSpec::parse(&current).unwrap();
    let mut versions: Vec<u32> =
        spec.targets().iter().map(|t| t.path.version().as_str().parse().unwrap()).collect();
    versions.sort_unstable();
    assert_eq!((spec.version(), versions), (25, (5..25).collect()));
    assert!(matches!(office.auto(&targets, Some(&current), HUMAN), Err(AutoError::Path { .. })));
    let altered = String::from_utf8(current).unwrap().replace("auto/24", "auto/99").into_bytes();
    assert!(matches!(office.auto(&targets, Some(&altered), AUTO), Err(AutoError::Forged { .. })));
    let thief = SecretKey::from_seed([9; 32]);
    let stolen = auto::publish(&office.root, &targets, None, &model(), listed(AUTO), &thief, later(9));
    assert!(matches!(stolen, Err(AutoError::NotDelegated { .. })));
}

#[test]
fn a_release_needs_the_keys_that_the_root_names() {
    let office = Office::new();
    office.workspace.add_bundle(&FileName::Targets, listed(HUMAN)).unwrap();
    let error = office.publish(&[&office.builder]).unwrap_err();
    assert!(matches!(error, PublisherError::NotAsked { .. }), "{error}");
    let error = office.publish(&[]).unwrap_err();
    let who = holder(&office.workspace, "release");
    assert_eq!(
        error.to_string(),
        format!("too few have signed 1.targets.json: 0 of 1 keys of targets in root 1, 1 more of {who}")
    );
    let remove = |path: &str| office.workspace.remove_bundle(&FileName::Targets, &path.parse().unwrap());
    assert!(matches!(remove("bundles/er-beds/9.json"), Err(PublisherError::Absent(_))));
    office.release(HUMAN);
    remove(HUMAN).unwrap();
    let late = [&secret(&office.workspace, "release") as &dyn Sign];
    let late = office.workspace.publish(&FileName::Targets, &late, later(500), later(400)).unwrap_err();
    assert!(matches!(late, PublisherError::RootExpired(_)), "{late}");
    let release = office.publish(&[&secret(&office.workspace, "release")]).unwrap();
    assert_eq!(
        (release.version, author::TargetsSpec::parse(&release.bytes).unwrap().targets().len()),
        (2, 0)
    );
}

#[test]
fn the_next_root_needs_the_old_keys_too() {
    let office = Office::new();
    let keys = Keys { keys: vec![office.builder.key()], threshold: 1 };
    let request = RootRequest {
        root: keys.clone(),
        targets: keys,
        online: office.signer.online_key(),
        order: office.signer.order_key(),
        delegate: Vec::new(),
        tls_roots: Vec::new(),
        expires: later(365),
    };
    office.workspace.new_root(&request).unwrap();
    let sign = |key: &dyn Sign| office.workspace.sign_root(&[key]).unwrap().is_complete();
    assert!(!sign(&office.builder));
    assert!(!sign(&secret(&office.workspace, "root-a")));
    assert!(sign(&secret(&office.workspace, "root-b")));
    assert_eq!(office.workspace.root().unwrap().unwrap().versions().root, 2);
}

#[test]
fn what_a_known_box_would_refuse_is_not_signed_for_it() {
    let office = Office::new();
    let custom = serde_json::json!({"hardware": ["x86_64-openvino-npu"], "min_agent": "0.2.0"});
    let target = author::target(HUMAN.parse().unwrap(), HUMAN.as_bytes(), custom);
    office.workspace.add_bundle(&FileName::Targets, target).unwrap();
    let targets = office.publish(&[&secret(&office.workspace, "release")]).unwrap().bytes;
    let index = office
        .signer
        .index(&office.start(), &Files::new(), &files([("targets.json", &targets)]), now())
        .unwrap();
    let check = |device: Option<(&[&str], &str)>, expect: Result<(), &str>| {
        let fitness = device.map(|(hardware, agent)| Fitness {
            hardware: hardware.iter().map(|class| class.parse().unwrap()).collect(),
            agent: agent.parse().unwrap(),
        });
        let request = OrderRequest {
            device: DeviceId::mint([1; 16]),
            fitness,
            want: vec![want(HUMAN)],
            capture: Vec::new(),
            last_version: 0,
            before: Vec::new(),
        };
        let signed = office.signer.order(&index.trusted, request, now()).map(drop);
        assert_eq!(signed.map_err(|error| error.code()), expect);
    };
    check(Some((&["x86_64", "x86_64-openvino-npu"], "0.2.0")), Ok(()));
    check(Some((&["x86_64", "x86_64-cpu"], "0.2.0")), Err("bundle_wrong_hardware"));
    check(Some((&["x86_64-openvino-npu"], "0.1.9")), Err("bundle_agent_too_old"));
    // One that has not said yet what it is judges for itself.
    check(None, Ok(()));
}
