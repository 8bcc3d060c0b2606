//! What a device believes: from what a publisher, a builder and a fleet sign, and from what an attacker makes of it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "trust/flips.rs"]
mod flips;
#[path = "trust/order.rs"]
mod order;
#[path = "trust/versions.rs"]
mod versions;

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::ids::{BundlePath, DeviceId, Digest, ModelName};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::author::{self, Keys, OrderSpec, Pin, RootSpec, TargetsSpec};
use muster_protocol::trust::{
    Envelope, Files, LookupError, Order, OrderContext, Outcome, Refreshed, Role, SecretKey, Sign, TrustedSet,
    Verdict, Want,
};

const DAY: Duration = Duration::from_hours(24);

fn now() -> Timestamp {
    "2026-11-24T02:00:00Z".parse().unwrap()
}

fn later(days: u32) -> Timestamp {
    now().plus(DAY * days)
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn path(text: &str) -> BundlePath {
    text.parse().unwrap()
}

fn model(name: &str) -> ModelName {
    name.parse().unwrap()
}

fn device() -> DeviceId {
    DeviceId::mint([1; 16])
}

/// Everybody who signs. Root 2 of 3, targets 2 of 2, two models with a builder each.
struct World {
    root: [SecretKey; 3],
    targets: [SecretKey; 2],
    online: SecretKey,
    order: SecretKey,
    builders: BTreeMap<String, SecretKey>,
}

const HUMAN: &str = "bundles/er-beds/1.0.0.json";
const AUTO: &str = "bundles/er-beds/auto/7.json";

fn manifest(path: &str) -> Vec<u8> {
    format!("manifest of {path}").into_bytes()
}

fn listed(text: &str) -> muster_protocol::trust::Target {
    author::target(path(text), &manifest(text), serde_json::json!({"hardware": ["x86_64"]}))
}

impl World {
    fn new() -> Self {
        let builders = BTreeMap::from([("er-beds".to_owned(), key(8)), ("deterioration".to_owned(), key(9))]);
        Self {
            root: [key(1), key(2), key(3)],
            targets: [key(4), key(5)],
            online: key(6),
            order: key(7),
            builders,
        }
    }

    fn root_spec(&self, version: u64) -> RootSpec {
        let all = |keys: &[SecretKey]| keys.iter().map(Sign::key).collect::<Vec<_>>();
        RootSpec {
            version,
            expires: later(365),
            root: Keys { keys: all(&self.root), threshold: 2 },
            targets: Keys { keys: all(&self.targets), threshold: 2 },
            snapshot: Keys::one(self.online.key()),
            timestamp: Keys::one(self.online.key()),
            order: Keys::one(self.order.key()),
            tls_roots: Vec::new(),
        }
    }

    fn root(&self, version: u64) -> Vec<u8> {
        author::sign(author::root(&self.root_spec(version)).unwrap(), &[&self.root[0], &self.root[2]])
            .unwrap()
    }

    fn targets(&self, version: u64, expires: Timestamp) -> Vec<u8> {
        self.targets_with(version, expires, |_| ())
    }

    fn targets_with(
        &self,
        version: u64,
        expires: Timestamp,
        change: impl FnOnce(&mut TargetsSpec),
    ) -> Vec<u8> {
        let mut spec = TargetsSpec::empty();
        for _ in 0..version {
            spec = spec.next(expires);
        }
        spec.put(&listed(HUMAN));
        for (name, builder) in &self.builders {
            spec.delegate(&model(name), &Keys::one(builder.key())).unwrap();
        }
        change(&mut spec);
        author::sign(spec.envelope().unwrap(), &[&self.targets[0], &self.targets[1]]).unwrap()
    }

    fn delegated(&self, name: &str, version: u64, paths: &[&str]) -> Vec<u8> {
        let mut spec = TargetsSpec::empty();
        for _ in 0..version {
            spec = spec.next(later(90));
        }
        for text in paths {
            spec.put(&listed(text));
        }
        author::sign(spec.envelope().unwrap(), &[&self.builders[name]]).unwrap()
    }

    /// Signs an index over `files`, as the fleet does.
    fn indexed(&self, mut files: Files, version: u64, expires: Timestamp) -> Files {
        let pins =
            files.iter().map(|(name, bytes)| (name.clone(), Pin::of(version_of(bytes), bytes))).collect();
        let snapshot =
            author::sign(author::snapshot(version, expires, &pins).unwrap(), &[&self.online]).unwrap();
        let pin = Pin::of(version, &snapshot);
        let issued = now().plus(Duration::from_secs(version));
        let timestamp = author::timestamp(version, expires, issued, pin).unwrap();
        files.insert("snapshot.json".to_owned(), snapshot);
        files.insert("timestamp.json".to_owned(), author::sign(timestamp, &[&self.online]).unwrap());
        files
    }

    /// Everything at `version`: a human bundle and one of er-beds' builder.
    fn files(&self, version: u64) -> Files {
        self.files_with(version, |_| ())
    }

    fn files_with(&self, version: u64, change: impl FnOnce(&mut TargetsSpec)) -> Files {
        let targets = self.targets_with(version, later(90), change);
        let auto = self.delegated("er-beds", version, &[AUTO]);
        let files =
            Files::from([("targets.json".to_owned(), targets), ("auto-er-beds.json".to_owned(), auto)]);
        self.indexed(files, version, later(7))
    }

    fn trusted(&self, version: u64) -> TrustedSet {
        let mut trusted = TrustedSet::from_root(&self.root(1)).unwrap();
        assert_eq!(trusted.refresh(&self.files(version), now()).unwrap().outcome, Outcome::Updated);
        trusted
    }

    fn order(&self, change: impl FnOnce(&mut OrderSpec)) -> Vec<u8> {
        let mut spec = OrderSpec {
            device: device(),
            version: 10,
            issued: now(),
            expires: later(14),
            catalogue: 3,
            want: vec![want(HUMAN)],
            capture: Vec::new(),
        };
        change(&mut spec);
        author::sign(author::order(&spec).unwrap(), &[&self.order]).unwrap()
    }
}

fn want(text: &str) -> Want {
    Want::now("er".parse().unwrap(), path(text), Digest::of(&manifest(text)))
}

fn version_of(bytes: &[u8]) -> u64 {
    Envelope::parse(bytes).unwrap().signed()["version"].as_u64().unwrap()
}

fn refresh(trusted: &mut TrustedSet, files: &Files) -> Refreshed {
    trusted.refresh(files, now()).unwrap()
}

fn refused(trusted: &mut TrustedSet, files: &Files, at: Timestamp, code: &str) {
    let before = trusted.versions();
    let error = trusted.refresh(files, at).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert_eq!(trusted.versions(), before, "a refused file changed what is trusted");
}

#[test]
fn a_catalogue_is_taken_over_and_both_signers_are_found() {
    let world = World::new();
    let mut trusted = TrustedSet::from_root(&world.root(1)).unwrap();
    assert!(matches!(trusted.lookup(&path(HUMAN), now()), Err(LookupError::Incomplete { .. })));
    let done = refresh(&mut trusted, &world.files(3));
    let names: Vec<String> = done.writes.iter().map(muster_protocol::trust::Write::stored_name).collect();
    assert_eq!(names, ["3.auto-er-beds.json", "3.targets.json", "3.snapshot.json", "timestamp.json"]);
    assert_eq!(done.issued, Some(now().plus(Duration::from_secs(3))));
    for text in [HUMAN, AUTO] {
        assert_eq!(trusted.lookup(&path(text), now()).unwrap(), listed(text));
    }
    assert_eq!(trusted.targets().len(), 2);
    let absent = path("bundles/er-beds/9.json");
    assert_eq!(trusted.lookup(&absent, now()), Err(LookupError::Absent { path: absent }));
    assert_eq!(refresh(&mut trusted, &world.files(3)).outcome, Outcome::Unchanged);
    assert_eq!(refresh(&mut trusted, &world.files(4)).outcome, Outcome::Updated);
    assert_eq!(trusted.versions().targets, Some(4));
}

#[test]
fn files_may_come_one_by_one_in_any_order() {
    let world = World::new();
    let all: Vec<(String, Vec<u8>)> = world.files(4).into_iter().collect();
    // 24 orders of 4 files.
    for order in 0..24 {
        let mut trusted = world.trusted(3);
        let mut received = world.files(3);
        let (mut rest, mut n) = (all.clone(), order);
        while !rest.is_empty() {
            let (name, bytes) = rest.remove(n % rest.len());
            n /= rest.len() + 1;
            received.insert(name.clone(), bytes);
            let done = refresh(&mut trusted, &received);
            let complete = received["timestamp.json"] == world.files(4)["timestamp.json"]
                && received["snapshot.json"] == world.files(4)["snapshot.json"]
                && received["targets.json"] == world.files(4)["targets.json"];
            assert_eq!(
                trusted.versions().targets,
                Some(if complete { 4 } else { 3 }),
                "{name} came as {:?}",
                done.outcome
            );
            assert!(
                trusted.lookup(&path(HUMAN), now()).is_ok(),
                "the old state holds until the new one is whole"
            );
        }
        assert!(trusted.lookup(&path(AUTO), now()).is_ok());
    }
}

#[test]
fn a_delegated_file_that_is_late_holds_up_only_its_own_bundles() {
    let world = World::new();
    let mut files = world.files(3);
    let auto = files.remove("auto-er-beds.json").unwrap();
    let mut trusted = TrustedSet::from_root(&world.root(1)).unwrap();
    assert_eq!(refresh(&mut trusted, &files).outcome, Outcome::Updated);
    assert_eq!(trusted.missing(), ["auto-er-beds.json"]);
    assert!(trusted.lookup(&path(HUMAN), now()).is_ok());
    assert!(matches!(trusted.lookup(&path(AUTO), now()), Err(LookupError::Incomplete { .. })));
    files.insert("auto-er-beds.json".to_owned(), auto);
    let done = refresh(&mut trusted, &files);
    assert_eq!((done.outcome, done.writes.len()), (Outcome::Updated, 1));
    assert!(trusted.lookup(&path(AUTO), now()).is_ok());
}

#[test]
fn older_files_are_refused() {
    let world = World::new();
    let mut trusted = world.trusted(4);
    refused(&mut trusted, &world.files(3), now(), "trust_rollback");
    // A newer index over an older catalogue: what a thief of the online key could sign.
    let old = Files::from([
        ("targets.json".to_owned(), world.targets(3, later(90))),
        ("auto-er-beds.json".to_owned(), world.delegated("er-beds", 4, &[AUTO])),
    ]);
    refused(&mut trusted, &world.indexed(old, 5, later(7)), now(), "trust_rollback");
    // A newer index from which a file has gone.
    let gone = Files::from([("targets.json".to_owned(), world.targets(4, later(90)))]);
    refused(&mut trusted, &world.indexed(gone, 5, later(7)), now(), "trust_mismatch");
}

#[test]
fn time_stops_change_and_nothing_else() {
    let world = World::new();
    let mut trusted = world.trusted(3);
    // Frozen: nothing new comes for eight days.
    refused(&mut trusted, &Files::new(), later(8), "trust_expired");
    assert!(matches!(trusted.lookup(&path(HUMAN), later(8)), Err(LookupError::Expired { .. })));
    assert_eq!(trusted.find_target(&path(HUMAN)), Some(listed(HUMAN)));
    // Expired on arrival: each file in turn.
    let mut fresh = TrustedSet::from_root(&world.root(1)).unwrap();
    refused(&mut fresh, &world.files(3), later(8), "trust_expired");
    let stale = Files::from([("targets.json".to_owned(), world.targets(3, now().minus(DAY)))]);
    refused(&mut fresh, &world.indexed(stale, 3, later(7)), now(), "trust_expired");
    refused(&mut fresh, &world.files(3), later(366), "trust_expired");
    assert_eq!(refresh(&mut fresh, &world.files(4)).outcome, Outcome::Updated);
}

#[test]
fn files_of_two_states_do_not_mix() {
    let world = World::new();
    let mut trusted = TrustedSet::from_root(&world.root(1)).unwrap();
    // Version 3 of the catalogue, but not the bytes that were indexed.
    let mut files = world.files(3);
    files.insert("targets.json".to_owned(), world.targets(3, later(91)));
    refused(&mut trusted, &files, now(), "trust_mismatch");
    // Files of different versions only wait for each other.
    let mut mixed = world.files(4);
    mixed.insert("targets.json".to_owned(), world.files(3)["targets.json"].clone());
    let missing = vec!["targets.json".to_owned()];
    assert_eq!(refresh(&mut trusted, &mixed).outcome, Outcome::Incomplete { missing });
    assert_eq!(trusted.versions().timestamp, None);
    let mut trusted = TrustedSet::from_root(&world.root(1)).unwrap();
    let mut mixed = world.files(3);
    mixed.insert("snapshot.json".to_owned(), world.files(4)["snapshot.json"].clone());
    let missing = vec!["timestamp.json".to_owned()];
    assert_eq!(refresh(&mut trusted, &mixed).outcome, Outcome::Incomplete { missing });
    assert_eq!(trusted.versions().timestamp, None);
}

#[test]
fn a_builder_speaks_only_for_its_own_path() {
    let world = World::new();
    let (other, human) = ("bundles/deterioration/auto/1.json", "bundles/er-beds/2.0.0.json");
    let check = |role: &str, signer: &str, text: &str| {
        let files = Files::from([
            ("targets.json".to_owned(), world.targets(1, later(90))),
            (format!("auto-{role}.json"), world.delegated(signer, 1, &[AUTO, other, human])),
        ]);
        let mut trusted = TrustedSet::from_root(&world.root(1)).unwrap();
        refresh(&mut trusted, &world.indexed(files, 1, later(7)));
        trusted.lookup(&path(text), now()).is_ok()
    };
    assert!(check("er-beds", "er-beds", AUTO));
    assert!(!check("er-beds", "er-beds", other), "another model's path");
    assert!(!check("er-beds", "er-beds", human), "a path that people sign");
    assert!(!check("er-beds", "deterioration", AUTO), "another builder's key");
    assert!(!check("radiology", "er-beds", AUTO), "a role that nobody delegated to");
}

#[test]
fn a_broken_delegated_file_leaves_the_rest_alone() {
    let world = World::new();
    let files = Files::from([
        ("targets.json".to_owned(), world.targets(1, later(90))),
        ("auto-er-beds.json".to_owned(), world.delegated("deterioration", 1, &[AUTO])),
    ]);
    let mut trusted = TrustedSet::from_root(&world.root(1)).unwrap();
    refresh(&mut trusted, &world.indexed(files, 1, later(7)));
    assert!(trusted.lookup(&path(HUMAN), now()).is_ok());
    assert!(matches!(trusted.lookup(&path(AUTO), now()), Err(LookupError::Unusable { .. })));
}

#[test]
fn thresholds_hold() {
    let world = World::new();
    let one_root = author::sign(author::root(&world.root_spec(1)).unwrap(), &[&world.root[0]]).unwrap();
    assert_eq!(TrustedSet::from_root(&one_root).unwrap_err().code(), "trust_signature");
    let spec = TargetsSpec::empty().next(later(90));
    for signers in [[&world.targets[0], &world.targets[0]], [&world.targets[0], &world.online]] {
        let targets = author::sign(spec.envelope().unwrap(), &[signers[0], signers[1]]).unwrap();
        let files = world.indexed(Files::from([("targets.json".to_owned(), targets)]), 1, later(7));
        refused(&mut TrustedSet::from_root(&world.root(1)).unwrap(), &files, now(), "trust_signature");
    }
    let forged = author::sign(author::order(&order_spec()).unwrap(), &[&world.online]).unwrap();
    check_order(&world, &forged, 0, now(), "order_signature");
}

#[test]
fn roots_are_walked_and_a_bad_one_does_not_hold_back_a_good_one() {
    let mut world = World::new();
    let mut trusted = world.trusted(3);
    let second = world.root(2);
    // Root 3 rotates the online key; it needs two signatures of root 2's keys.
    world.online = key(20);
    let third = world.root(3);
    let mut files =
        Files::from([("2.root.json".to_owned(), second), ("3.root.json".to_owned(), third.clone())]);
    files.extend([("4.root.json".to_owned(), b"junk".to_vec())]);
    assert_eq!(trusted.refresh(&files, now()).unwrap_err().code(), "trust_malformed");
    assert_eq!(trusted.versions().root, 3);
    assert_eq!(trusted.versions().timestamp, None, "signed with a key that is not trusted any more");
    files.remove("4.root.json");
    files.extend(world.files(1));
    assert_eq!(refresh(&mut trusted, &files).outcome, Outcome::Updated, "recovered to a lower version");
    // A box that has not seen the root yet waits for it.
    let mut behind = World::new().trusted(3);
    let missing = vec!["2.root.json".to_owned()];
    assert_eq!(refresh(&mut behind, &world.files(5)).outcome, Outcome::Incomplete { missing });
    // Signed only by its own new keys.
    let mut thief = World::new();
    thief.root = [key(30), key(31), key(32)];
    let stolen = Files::from([("2.root.json".to_owned(), thief.root(2))]);
    refused(&mut behind, &stolen, now(), "trust_signature");
}

#[test]
fn roots_without_order_keys_are_refused() {
    let world = World::new();
    let mut root = serde_json::from_slice::<serde_json::Value>(&world.root(1)).unwrap();
    root["signed"].as_object_mut().unwrap().remove("x-muster");
    let unsigned = Envelope::unsigned(&root["signed"]).unwrap();
    let bytes = author::sign(unsigned, &[&world.root[0], &world.root[1]]).unwrap();
    assert_eq!(TrustedSet::from_root(&bytes).unwrap_err().code(), "trust_malformed");
}

#[test]
fn the_state_survives_rest_and_every_flipped_byte_there_is_noticed() {
    let world = World::new();
    let mut trusted = TrustedSet::from_root(&world.root(1)).unwrap();
    let mut files = world.files(3);
    files.insert("2.root.json".to_owned(), world.root(2));
    let stored: Files =
        refresh(&mut trusted, &files).writes.into_iter().map(|w| (w.stored_name(), w.bytes)).collect();
    let mut loaded = TrustedSet::load(&world.root(1), &stored).unwrap();
    assert_eq!(loaded.versions(), trusted.versions());
    assert_eq!(refresh(&mut loaded, &files).outcome, Outcome::Unchanged);
    refused(&mut loaded, &world.files(2), now(), "trust_rollback");
    for (name, bytes) in &stored {
        for at in (0..bytes.len()).step_by(7) {
            let mut flipped = stored.clone();
            flipped.get_mut(name).unwrap()[at] ^= 1;
            // A delegated file that is not the pinned one has still to come; any other stops the start.
            let wire = name.split_once('.').unwrap().1;
            match TrustedSet::load(&world.root(1), &flipped) {
                Ok(loaded) if wire.starts_with("auto-") => assert_eq!(loaded.missing(), [wire]),
                loaded => assert!(loaded.is_err(), "{name} with byte {at} flipped was loaded"),
            }
        }
    }
}

#[test]
fn what_an_earlier_root_vouched_for_is_left_out_when_loaded() {
    let mut world = World::new();
    let mut stored: Files = world.files(3).into_iter().filter(|(name, _)| name == "timestamp.json").collect();
    for (name, bytes) in world.files(3).into_iter().filter(|(name, _)| name != "timestamp.json") {
        stored.insert(format!("3.{name}"), bytes);
    }
    world.online = key(20);
    stored.insert("2.root.json".to_owned(), world.root(2));
    let loaded = TrustedSet::load(&World::new().root(1), &stored).unwrap();
    assert_eq!((loaded.versions().root, loaded.versions().timestamp), (2, None));
}

fn order_spec() -> OrderSpec {
    let want = vec![want(HUMAN)];
    let capture = Vec::new();
    OrderSpec {
        device: device(),
        version: 10,
        issued: now(),
        expires: later(14),
        catalogue: 3,
        want,
        capture,
    }
}

fn check_order(world: &World, bytes: &[u8], floor: u64, at: Timestamp, expect: &str) {
    let trusted = world.trusted(3);
    let id = device();
    let context = OrderContext { trusted: &trusted, device: &id, fitness: None, floor, before: &[], now: at };
    let found = match Order::check(bytes, &context) {
        Ok(Verdict::Accepted(_)) => "accepted".to_owned(),
        Ok(Verdict::Unchanged) => "unchanged".to_owned(),
        Err(refusal) => {
            assert!(!refusal.to_string().is_empty());
            refusal.code().to_owned()
        }
    };
    assert_eq!(found, expect);
}

#[test]
fn an_order_is_nothing_else_in_disguise() {
    let mut world = World::new();
    // One key for both roles, so that only the type tells the files apart.
    world.order = key(6);
    let timestamp = world.files(3)["timestamp.json"].clone();
    check_order(&world, &timestamp, 0, now(), "order_wrong_type");
    let order = world.order(|_| {});
    let mut trusted = world.trusted(2);
    let files = Files::from([("timestamp.json".to_owned(), order)]);
    refused(&mut trusted, &files, now(), "trust_malformed");
}

#[test]
fn orders_can_be_read_as_json() {
    let world = World::new();
    let order: serde_json::Value = serde_json::from_slice(&world.order(|_| {})).unwrap();
    let expect = serde_json::json!({
        "_type": "order", "spec_version": "1.0.31", "version": 10, "issued": "2026-11-24T02:00:00.000Z",
        "expires": "2026-12-08T02:00:00.000Z", "device": device(), "catalogue": 3,
        "want": [{"slot": "er", "bundle": HUMAN, "sha256": Digest::of(&manifest(HUMAN))}],
    });
    assert_eq!(order["signed"], expect);
    assert_eq!(world.trusted(3).keys(Role::Order).len(), 1);
    // TUF's own times have no fraction: other tools refuse one.
    let root: serde_json::Value = serde_json::from_slice(&world.root(1)).unwrap();
    assert_eq!(root["signed"]["expires"], "2027-11-24T02:00:00Z");
}

#[test]
fn a_vendor_speaks_for_the_paths_it_was_given() {
    let world = World::new();
    let (first, second) = (key(40), key(41));
    let one = |secret: &SecretKey| Keys::one(secret.key());
    let (chest, knee, beds) = (
        "bundles/radiology-chest/1.0.0.json",
        "bundles/radiology-knee/1.0.0.json",
        "bundles/er-beds/2.0.0.json",
    );
    let signed = |secret: &SecretKey, paths: &[&str]| {
        let mut spec = TargetsSpec::empty().next(later(90));
        for text in paths {
            spec.put(&listed(text));
        }
        author::sign(spec.envelope().unwrap(), &[secret]).unwrap()
    };
    // The first vendor has all of radiology and lists a knee of its own and a bundle it may not list; the second has
    // the knees only.
    let check = |terminating: bool, text: &str, expect: bool| {
        let mut spec = TargetsSpec::empty().next(later(90));
        spec.delegate_paths("acme", vec!["bundles/radiology-*/*".to_owned()], &one(&first), terminating)
            .unwrap();
        spec.delegate_paths("knees", vec!["bundles/radiology-knee/*".to_owned()], &one(&second), false)
            .unwrap();
        let files = Files::from([
            (
                "targets.json".to_owned(),
                author::sign(spec.envelope().unwrap(), &[&world.targets[0], &world.targets[1]]).unwrap(),
            ),
            ("acme.json".to_owned(), signed(&first, &[chest, beds])),
            ("knees.json".to_owned(), signed(&second, &[knee, chest])),
        ]);
        let mut trusted = TrustedSet::from_root(&world.root(1)).unwrap();
        refresh(&mut trusted, &world.indexed(files, 1, later(7)));
        assert_eq!(trusted.lookup(&path(text), now()).is_ok(), expect, "{text}, terminating: {terminating}");
    };
    check(true, chest, true);
    check(true, beds, false);
    check(true, knee, false);
    check(false, knee, true);
    check(false, beds, false);
}

#[test]
fn delegations_are_written_as_boxes_follow_them_or_not_at_all() {
    let keys = Keys::one(key(40).key());
    let mut spec = TargetsSpec::empty();
    let mut check = |role: &str, pattern: &str, fits: bool| {
        let done = spec.delegate_paths(role, vec![pattern.to_owned()], &keys, true);
        assert_eq!(done.is_ok(), fits, "{role} {pattern}: {done:?}");
    };
    check("acme", "bundles/radiology/*", true);
    check("acme", "bundles/radiology-*/*.json", true);
    check("acme", "bundles/*/auto/*", true);
    for wrong in
        ["", "*", "bundles/*", "radiology/*", "bundles/a/b/c", "bundles/../x", "bundles/A/*", "bundles/[a/*"]
    {
        check("acme", wrong, false);
    }
    for wrong in ["", "root", "targets", "Acme", "a.b", "../a"] {
        check(wrong, "bundles/radiology/*", false);
    }
    for n in 1..muster_protocol::limits::DELEGATIONS_MAX {
        spec.delegate_paths(&format!("v{n}"), vec!["bundles/a/*".to_owned()], &keys, false).unwrap();
    }
    assert!(spec.delegate_paths("one-more", vec!["bundles/a/*".to_owned()], &keys, false).is_err());
    // Editing keeps the place, and removing makes room.
    spec.delegate_paths("acme", vec!["bundles/b/*".to_owned()], &keys, false).unwrap();
    assert_eq!(
        (spec.delegations()[0].role.as_str(), spec.delegations()[0].patterns[0].as_str()),
        ("acme", "bundles/b/*")
    );
    assert!(spec.undelegate_role("v1") && !spec.undelegate_role("v1"));
    spec.delegate_paths("one-more", vec!["bundles/a/*".to_owned()], &keys, false).unwrap();
}
