//! The store against failing disks, restarts, and files altered at rest.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use muster_protocol::ids::Digest;
use muster_protocol::trust::author::{self, Keys, OrderSpec, Pin, RootSpec, TargetsSpec};
use muster_protocol::trust::{SecretKey, Sign, Want};
use tempfile::TempDir;

use super::*;

pub(super) const BUNDLE: &str = "bundles/er-beds/1.0.0.json";

pub(super) fn now() -> Timestamp {
    "2026-11-24T02:00:00Z".parse().unwrap()
}

pub(super) fn later(days: u32) -> Timestamp {
    now().plus(Duration::from_hours(24) * days)
}

pub(super) fn device() -> DeviceId {
    DeviceId::mint([1; 16])
}

/// A box of the plainest kind.
pub(super) fn fitness() -> Fitness {
    Fitness { hardware: ["x86_64".parse().unwrap()].into(), agent: "0.3.0".parse().unwrap() }
}

pub(super) fn permits(store: &TrustStore, at: Timestamp) -> Result<Target, OrderRefusal> {
    store.permits(&BUNDLE.parse().unwrap(), &Digest::of(b"manifest"), &fitness(), at)
}

/// One key for catalogue and root, one for what is online.
pub(super) fn offline() -> SecretKey {
    SecretKey::from_seed([1; 32])
}

pub(super) fn online() -> SecretKey {
    SecretKey::from_seed([2; 32])
}

pub(super) fn root(version: u64, order: &SecretKey) -> Vec<u8> {
    root_by(version, &online(), order)
}

pub(super) fn root_by(version: u64, online: &SecretKey, order: &SecretKey) -> Vec<u8> {
    root_with(version, online, Keys::one(order.key()))
}

fn root_with(version: u64, online: &SecretKey, order: Keys) -> Vec<u8> {
    let (offline_keys, online_keys) = (Keys::one(offline().key()), Keys::one(online.key()));
    let spec = RootSpec {
        version,
        expires: later(365),
        root: offline_keys.clone(),
        targets: offline_keys,
        snapshot: online_keys.clone(),
        timestamp: online_keys,
        order,
        tls_roots: Vec::new(),
    };
    author::sign(author::root(&spec).unwrap(), &[&offline()]).unwrap()
}

pub(super) fn files(version: u64) -> Files {
    files_by(version, &online())
}

pub(super) fn files_by(version: u64, online: &SecretKey) -> Files {
    let mut spec = TargetsSpec::empty();
    for _ in 0..version {
        spec = spec.next(later(90));
    }
    spec.put(&author::target(BUNDLE.parse().unwrap(), b"manifest", serde_json::Value::Null));
    let targets = author::sign(spec.envelope().unwrap(), &[&offline()]).unwrap();
    indexed(version, targets, online)
}

pub(super) fn indexed(version: u64, targets: Vec<u8>, online: &SecretKey) -> Files {
    let pins = BTreeMap::from([("targets.json".to_owned(), Pin::of(version, &targets))]);
    let snapshot = author::sign(author::snapshot(version, later(14), &pins).unwrap(), &[online]).unwrap();
    let pin = Pin::of(version, &snapshot);
    let timestamp = author::timestamp(version, later(7), now().minus(Duration::from_mins(1)), pin).unwrap();
    Files::from([
        ("targets.json".to_owned(), targets),
        ("snapshot.json".to_owned(), snapshot),
        ("timestamp.json".to_owned(), author::sign(timestamp, &[online]).unwrap()),
    ])
}

pub(super) fn order(version: u64, signer: &SecretKey) -> Vec<u8> {
    order_for("er", version, signer)
}

pub(super) fn order_for(slot: &str, version: u64, signer: &SecretKey) -> Vec<u8> {
    let want = Want::now(slot.parse().unwrap(), BUNDLE.parse().unwrap(), Digest::of(b"manifest"));
    let spec = OrderSpec {
        device: device(),
        version,
        issued: now(),
        expires: later(14),
        catalogue: 1,
        want: vec![want],
        capture: Vec::new(),
    };
    author::sign(author::order(&spec).unwrap(), &[signer]).unwrap()
}

pub(super) fn open(dir: &TempDir) -> TrustStore {
    TrustStore::open(dir.path(), &root(1, &online())).unwrap()
}

pub(super) fn take(store: &mut TrustStore, files: &Files) -> Result<Refreshed, RefreshError> {
    for (name, bytes) in files {
        store.offer(name, bytes).unwrap();
    }
    store.refresh(now())
}

#[test]
fn the_state_survives_a_restart_after_each_step() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(open(&dir).versions().trusted.targets, None);
    for (name, bytes) in files(1) {
        let mut store = open(&dir);
        assert!(store.offer(&name, &bytes).unwrap());
        assert!(!store.offer(&name, &bytes).unwrap(), "the same bytes bring nothing new");
        assert!(matches!(store.refresh(now()).unwrap().outcome, Outcome::Incomplete { .. }));
    }
    assert_eq!(take(&mut open(&dir), &files(1)).unwrap().outcome, Outcome::Updated);
    let mut store = open(&dir);
    assert_eq!(store.versions().trusted.targets, Some(1));
    assert_eq!(store.accept_order(&order(10, &online()), &device(), &fitness(), now()).unwrap(), {
        let trusted = store.trusted();
        Verdict::Accepted(Order::authentic(&order(10, &online()), trusted).unwrap())
    });
    let mut store = open(&dir);
    assert_eq!((store.versions().order, store.order().map(|o| o.version)), (10, Some(10)));
    assert_eq!(
        store.accept_order(&order(10, &online()), &device(), &fitness(), now()).unwrap(),
        Verdict::Unchanged
    );
    let refusal = store.accept_order(&order(9, &online()), &device(), &fitness(), now()).unwrap_err();
    assert!(matches!(refusal, AcceptError::Refused(OrderRefusal::OlderVersion { .. })));
    take(&mut store, &files(3)).unwrap();
    let mut store = open(&dir);
    assert!(matches!(take(&mut store, &files(2)), Err(RefreshError::Trust(TrustError::Rollback { .. }))));
    assert_eq!(store.versions().trusted.targets, Some(3));
    let names = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert_eq!(
        names,
        ["1.root.json", "3.snapshot.json", "3.targets.json", "floor.json", "order.json", "timestamp.json"]
    );
}

#[test]
fn an_expired_state_opens_and_only_change_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    take(&mut open(&dir), &files(1)).unwrap();
    open(&dir).accept_order(&order(10, &online()), &device(), &fitness(), now()).unwrap();
    let store = open(&dir);
    let path: BundlePath = BUNDLE.parse().unwrap();
    assert!(store.order().is_some() && store.trusted().find_target(&path).is_some());
    assert!(matches!(permits(&store, later(8)), Err(OrderRefusal::CatalogueStale(_))));
}

#[test]
fn time_never_falls_below_what_was_signed() {
    let dir = tempfile::tempdir().unwrap();
    take(&mut open(&dir), &files(1)).unwrap();
    let store = open(&dir);
    assert_eq!(store.now(Timestamp::default()), now().minus(Duration::from_mins(1)));
    assert_eq!(store.now(later(3)), later(3));
    assert!(permits(&store, Timestamp::default()).is_ok());
}

/// Puts a folder where a file is to be written: that write fails, for every user.
fn block(dir: &TempDir, name: &str) -> PathBuf {
    let path = dir.path().join(format!("{name}.new"));
    fs::create_dir(&path).unwrap();
    path
}

#[test]
fn a_write_that_fails_anywhere_is_a_failed_update() {
    for name in ["2.targets.json", "2.snapshot.json", "timestamp.json"] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(&dir);
        take(&mut store, &files(1)).unwrap();
        let blocked = block(&dir, name);
        assert!(
            matches!(take(&mut store, &files(2)), Err(RefreshError::Store(StoreError::Folder(_)))),
            "{name}"
        );
        assert_eq!(store.versions().trusted.targets, Some(1), "{name}: adopted though not saved");
        fs::remove_dir(&blocked).unwrap();
        assert_eq!(open(&dir).versions().trusted.timestamp, Some(1), "{name}: the disk holds another state");
        assert_eq!(store.refresh(now()).unwrap().outcome, Outcome::Updated, "{name}: not tried again");
        assert_eq!(open(&dir).versions(), store.versions());
    }
}

#[test]
fn an_order_or_root_that_cannot_be_saved_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    take(&mut store, &files(1)).unwrap();
    let blocked = block(&dir, "order.json");
    assert!(matches!(
        store.accept_order(&order(10, &online()), &device(), &fitness(), now()),
        Err(AcceptError::Store(_))
    ));
    assert_eq!((store.order(), store.versions().order), (None, 0));
    fs::remove_dir(blocked).unwrap();
    block(&dir, "2.root.json");
    store.offer("2.root.json", &root(2, &online())).unwrap();
    assert!(matches!(store.refresh(now()), Err(RefreshError::Store(_))));
    assert_eq!(store.versions().trusted.root, 1);
}

#[test]
fn a_crash_between_order_and_floor_does_not_lower_the_floor() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    take(&mut store, &files(1)).unwrap();
    store.accept_order(&order(10, &online()), &device(), &fitness(), now()).unwrap();
    fs::write(dir.path().join("order.json"), order(20, &online())).unwrap();
    assert_eq!(open(&dir).versions().order, 20);
}

#[test]
fn files_altered_at_rest_stop_the_start_and_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    store.offer("2.root.json", &root(2, &online())).unwrap();
    take(&mut store, &files(1)).unwrap();
    store.accept_order(&order(10, &online()), &device(), &fitness(), now()).unwrap();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let good = fs::read(&path).unwrap();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&path, &bad).unwrap();
            match TrustStore::open(dir.path(), &root(1, &online())) {
                Err(error) => {
                    let name = path.file_name().unwrap().to_str().unwrap();
                    assert!(error.to_string().contains(name), "{error} does not name {name}");
                }
                Ok(_) => {
                    assert!(path.ends_with("floor.json"), "{} altered at {at} was opened", path.display());
                }
            }
        }
        fs::write(&path, good).unwrap();
    }
    open(&dir);
}

#[test]
fn another_root_is_not_taken_over_silently() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir);
    let other = root(1, &offline());
    assert!(matches!(TrustStore::open(dir.path(), &other), Err(StoreError::OtherRoot { .. })));
    assert!(matches!(TrustStore::open(dir.path(), b"{}"), Err(StoreError::Pinned(_))));
}

#[test]
fn new_order_keys_start_to_count_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    take(&mut store, &files(1)).unwrap();
    store.accept_order(&order(u64::MAX, &online()), &device(), &fitness(), now()).unwrap();
    let fresh = SecretKey::from_seed([9; 32]);
    store.offer("2.root.json", &root(2, &fresh)).unwrap();
    assert_eq!(store.refresh(now()).unwrap().outcome, Outcome::Updated);
    // Restarted between the new root and the new order, the old order is still what runs.
    let mut store = open(&dir);
    assert_eq!((store.versions().order, store.order().map(|o| o.version)), (0, Some(u64::MAX)));
    assert!(matches!(
        store.accept_order(&order(10, &fresh), &device(), &fitness(), now()),
        Ok(Verdict::Accepted(_))
    ));
}

/// A second server gets a key, and the first one's stays good: so do the orders that it signed, and the floor above them.
#[test]
fn an_order_key_beside_another_makes_no_old_order_good_again() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (online(), SecretKey::from_seed([9; 32]));
    let mut store = open(&dir);
    take(&mut store, &files(1)).unwrap();
    store.accept_order(&order(10, &first), &device(), &fitness(), now()).unwrap();
    let both = Keys { keys: vec![first.key(), second.key()], threshold: 1 };
    store.offer("2.root.json", &root_with(2, &online(), both)).unwrap();
    store.refresh(now()).unwrap();
    for mut store in [store, open(&dir)] {
        assert_eq!((store.versions().trusted.root, store.versions().order), (2, 10));
        let mut accept = |bytes: &[u8]| store.accept_order(bytes, &device(), &fitness(), now());
        for signer in [&first, &second] {
            assert!(matches!(
                accept(&order(9, signer)),
                Err(AcceptError::Refused(OrderRefusal::OlderVersion { .. }))
            ));
        }
        assert!(matches!(accept(&order(11, &second)), Ok(Verdict::Accepted(_))));
        fs::write(dir.path().join("order.json"), order(10, &first)).unwrap();
        fs::remove_file(dir.path().join("floor.json")).unwrap();
    }
}

#[test]
fn what_waits_is_bounded_and_junk_makes_room_for_what_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    assert!(store.offer("../floor.json", b"x").is_err());
    assert!(store.offer("timestamp.json", &vec![0; 20_000]).is_err());
    let small = |n: u64| vec![(format!("auto-x{n}.json"), 4_usize), (format!("{}.root.json", n + 1000), 4)];
    // Names that count for all that can be known, each as long as may be.
    let long = |n: u64| {
        vec![(format!("{}.root.json", n % 33 + 1), 512 * 1024), (format!("auto-x{n}.json"), 900_000)]
    };
    for junk in [&small as &dyn Fn(u64) -> Vec<(String, usize)>, &long] {
        for (name, length) in (0..200).flat_map(junk) {
            // Full is an answer too.
            store.offer(&name, &vec![b' '; length]).ok();
            let bytes: usize = store.received.values().map(Vec::len).sum();
            assert!(store.received.len() <= RECEIVED_MAX && bytes <= RECEIVED_BYTES_MAX, "{name}");
        }
        // The broker is honest again, without a restart: what it brings finds room, and is believed.
        // Only a junk root that would be the next is said to be one, and is gone then.
        store.offer("2.root.json", &root(2, &online())).unwrap();
        store.refresh(now()).ok();
        let version = store.versions().trusted.timestamp.unwrap_or(0) + 1;
        assert_eq!(take(&mut store, &files(version)).unwrap().outcome, Outcome::Updated);
    }
}

#[test]
fn delegated_files_find_room_as_long_as_somebody_may_delegate_to_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let mut spec = TargetsSpec::empty().next(later(90));
    let names = |from: usize| (from..from + DELEGATIONS_MAX).map(|n| format!("v{n}"));
    for name in names(0) {
        let keys = Keys::one(offline().key());
        spec.delegate_paths(&name, vec!["bundles/a/*".to_owned()], &keys, false).unwrap();
    }
    let targets = author::sign(spec.envelope().unwrap(), &[&offline()]).unwrap();
    store.offer("targets.json", &targets).unwrap();
    let all: Vec<String> = names(0).map(|name| format!("{name}.json")).collect();
    for name in &all {
        store.offer(name, b"1").unwrap();
    }
    for n in 0..200 {
        store.offer(&format!("junk{n}.json"), b"junk").unwrap();
    }
    assert!(all.iter().all(|name| store.received.contains_key(name)), "what counts went before junk");
}
