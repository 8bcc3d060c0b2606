//! What a publisher uploads: taken in whole, or refused with every fault and nothing changed.

use std::path::Path;

use muster_fleet::fleet::Fleet;
use muster_fleet::intake::IntakeError;
use muster_fleet::pki::Pki;
use muster_fleet::store::{Page, bundles, log, outbox, trust_files};
use muster_protocol::ids::{DeviceId, Digest};
use muster_protocol::topic::{Topic, every_trust_file};
use muster_protocol::trust::author::{self, Keys, RootSpec};
use muster_protocol::trust::{SecretKey, Sign as _};

use crate::device::Client;
use crate::publisher::{Bundle, Publisher, person, put};
use crate::server::Server;

/// Uploads a file that must be refused, and proves that nothing changed. Returns the faults' codes.
async fn refused(fleet: &Fleet, name: &str, bytes: &[u8]) -> Vec<&'static str> {
    let before = published(fleet).await;
    let error = fleet.intake.upload(name, bytes, person()).await.unwrap_err();
    let IntakeError::Refused { faults } = error else { panic!("{error}") };
    assert_eq!(published(fleet).await, before);
    faults.into_iter().map(|fault| fault.code).collect()
}

/// The files, how many bundles are listed, and how often a person was logged: what the server does by itself goes on.
async fn published(fleet: &Fleet) -> (muster_protocol::trust::Files, usize, usize) {
    let mut db = fleet.store.read().await.unwrap();
    let files = trust_files::all(&mut db).await.unwrap();
    let catalogued = bundles::catalogued(&mut db, 100).await.unwrap().len();
    let entries = log::before(&mut db, None, &Page::first(100)).await.unwrap();
    let by_people = entries.iter().filter(|entry| matches!(entry.actor, log::Actor::Person(_))).count();
    (files, catalogued, by_people)
}

#[tokio::test]
async fn a_release_is_verified_saved_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let (one, two) =
        (Bundle::make("bundles/er-beds/1.json", b"one"), Bundle::make("bundles/er-beds/2.json", b"two"));
    let mut publisher = Publisher::begin(&server.fleet, &[&one]).await;
    let id = DeviceId::mint([0; 16]);
    server.admit(&id).await;
    let mut box_ = Client::connect(&server.mqtt(), id.as_str()).await;
    assert!(box_.subscribe(&every_trust_file()).await);
    // One in, one out.
    two.upload(&server.fleet.blobs).await;
    publisher.spec.remove(&one.path);
    let release = publisher.catalogue(&[&two], &publisher.targets_key());
    let accepted = server.fleet.intake.upload("2.targets.json", &release, person()).await.unwrap();
    assert_eq!((accepted.name.as_str(), accepted.version), ("targets.json", 2));
    assert_eq!(accepted.added, [(two.path.clone(), two.sha256())]);
    assert_eq!(accepted.yanked, [(one.path.clone(), one.sha256())]);
    // A repeat changes nothing.
    let again = server.fleet.intake.upload("targets.json", &release, person()).await.unwrap();
    assert!(again.added.is_empty() && again.yanked.is_empty());
    // Boxes see the new targets before the timestamp that leads to it.
    let targets = Topic::Trust("targets.json".to_owned()).to_string();
    let timestamp = Topic::Trust("timestamp.json".to_owned()).to_string();
    let mut seen_targets = false;
    loop {
        let file = box_.next().await;
        seen_targets |= file.topic == targets && file.payload == release;
        if file.topic == timestamp && seen_targets && !file.retain {
            break;
        }
    }
    let is_empty = async |fleet: &Fleet| {
        let mut db = fleet.store.read().await.unwrap();
        outbox::next(&mut db, &Page::first(1)).await.unwrap().is_empty().then_some(())
    };
    server.until("the outbox is empty", is_empty).await;
    let mut db = server.read().await;
    let kept = bundles::get(&mut db, &one.sha256()).await.unwrap().unwrap();
    assert!(!kept.catalogued && kept.manifest == one.parsed());
    assert_eq!(bundles::at_path(&mut db, &two.path).await.unwrap().unwrap().sha256, two.sha256());
    assert!(bundles::at_path(&mut db, &one.path).await.unwrap().is_none());
    drop(db);
    server.stop().await;
}

#[tokio::test]
async fn roots_must_be_for_this_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let fleet = &server.fleet;
    let mut publisher = Publisher::new(fleet);
    let early = publisher.catalogue(&[], &publisher.targets_key());
    assert_eq!(refused(fleet, "targets.json", &early).await, ["trust_no_root"]);
    let good = publisher.root_file(fleet);
    let online = Keys::one(fleet.signer.online_key());
    let spec = RootSpec {
        version: 1,
        expires: fleet.clocks.trust.now().plus(crate::publisher::YEAR),
        root: Keys::one(publisher.root.key()),
        targets: Keys::one(publisher.targets.key()),
        snapshot: online.clone(),
        timestamp: online,
        order: Keys::one(fleet.signer.order_key()),
        tls_roots: fleet.pki.tls_roots(),
    };
    let sign = |spec: &RootSpec| author::sign(author::root(spec).unwrap(), &[&publisher.root]).unwrap();
    let stranger = Keys::one(SecretKey::from_seed([9; 32]).key());
    let other = sign(&RootSpec { order: stranger.clone(), ..spec.clone() });
    assert_eq!(refused(fleet, "1.root.json", &other).await, ["signer_key_not_named"]);
    let other = sign(&RootSpec { snapshot: stranger, ..spec.clone() });
    assert_eq!(refused(fleet, "1.root.json", &other).await, ["signer_key_not_named"]);
    let offline = sign(&RootSpec { targets: Keys::one(fleet.signer.online_key()), ..spec.clone() });
    assert_eq!(refused(fleet, "1.root.json", &offline).await, ["signer_offline_key"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let names = ["localhost".to_owned()];
    let other = Pki::open(elsewhere.path(), &names, fleet.clocks.trust.now()).unwrap();
    for tls_roots in [Vec::new(), other.tls_roots(), vec!["no certificate".to_owned()]] {
        let astray = sign(&RootSpec { tls_roots, ..spec.clone() });
        assert_eq!(refused(fleet, "1.root.json", &astray).await, ["trust_tls_roots"]);
    }
    assert_eq!(refused(fleet, "2.root.json", &good).await, ["trust_malformed"]);
    assert_eq!(refused(fleet, "1.root.json", b"{}").await, ["trust_malformed"]);
    let unsigned = author::sign(author::root(&spec).unwrap(), &[]).unwrap();
    assert_eq!(refused(fleet, "1.root.json", &unsigned).await, ["trust_signature"]);
    fleet.intake.upload("root.json", &good, person()).await.unwrap();
    fleet.intake.upload("1.root.json", &good, person()).await.unwrap();
    // The next one must lead here, too, and be signed by this one's keys.
    let astray = sign(&RootSpec { version: 2, tls_roots: other.tls_roots(), ..spec.clone() });
    assert_eq!(refused(fleet, "2.root.json", &astray).await, ["trust_tls_roots"]);
    let thief = SecretKey::from_seed([8; 32]);
    let next = RootSpec { version: 2, root: Keys::one(thief.key()), ..spec };
    let stolen = author::sign(author::root(&next).unwrap(), &[&thief]).unwrap();
    assert_eq!(refused(fleet, "2.root.json", &stolen).await, ["trust_signature"]);
    server.stop().await;
}

#[tokio::test]
async fn a_catalogue_with_a_wrong_signature_or_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let one = Bundle::make("bundles/er-beds/1.json", b"one");
    let mut publisher = Publisher::begin(&server.fleet, &[&one]).await;
    let before = publisher.spec.clone();
    let forged = publisher.catalogue(&[], &SecretKey::from_seed([9; 32]));
    assert_eq!(refused(&server.fleet, "targets.json", &forged).await, ["trust_signature"]);
    let mut altered = publisher.catalogue(&[], &publisher.targets_key());
    let at = altered.windows(9).position(|part| part == b"\"targets\"").unwrap();
    altered[at + 1] = b'T';
    assert!(!refused(&server.fleet, "targets.json", &altered).await.is_empty());
    // The published version once more, with another content.
    publisher.spec = before.clone();
    publisher.spec.remove(&one.path);
    let same = author::sign(publisher.spec.envelope().unwrap(), &[&publisher.targets]).unwrap();
    assert_eq!(refused(&server.fleet, "targets.json", &same).await, ["trust_same_version"]);
    assert_eq!(refused(&server.fleet, "timestamp.json", &same).await, ["trust_unknown_file"]);
    assert_eq!(refused(&server.fleet, "auto-other.json", &publisher.auto(1, &[])).await, ["trust_delegated"]);
    server.stop().await;
}

#[tokio::test]
async fn every_fault_of_a_bundle_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let fleet = &server.fleet;
    let mut publisher = Publisher::begin(fleet, &[]).await;
    let missing = Bundle::make("bundles/er-beds/a-missing.json", b"never uploaded");
    let half = Bundle::make("bundles/er-beds/b-half.json", b"also not");
    put(&fleet.blobs, &half.manifest).await;
    let damaged = Bundle::make("bundles/er-beds/c-damaged.json", b"a model that rots");
    damaged.upload(&fleet.blobs).await;
    flip_a_byte(dir.path(), &Digest::of(b"a model that rots"));
    let newer = Bundle::with("bundles/er-beds/d-newer.json", b"x", |m| {
        m["requires"] = serde_json::json!(["telepathy"]);
    });
    newer.upload(&fleet.blobs).await;
    let misnamed = Bundle::with("bundles/er-beds/e-misnamed.json", b"x", |m| m["version"] = "9".into());
    misnamed.upload(&fleet.blobs).await;
    let blind =
        Bundle::with("bundles/er-beds/f-blind.json", b"x", |m| m["reference"] = serde_json::Value::Null);
    blind.upload(&fleet.blobs).await;
    let unnamed = Bundle::with("bundles/er-beds/g-stream.json", b"x", |m| {
        m["monitoring"]["streams"][0]["name"] = "weight".into();
    });
    unnamed.upload(&fleet.blobs).await;
    let shorter =
        Bundle::with("bundles/er-beds/h-shorter.json", b"x", |m| m["files"][0]["length"] = 77.into());
    shorter.upload(&fleet.blobs).await;
    let good = Bundle::make("bundles/er-beds/z-good.json", b"good");
    good.upload(&fleet.blobs).await;
    let all = [&missing, &half, &damaged, &newer, &misnamed, &blind, &unnamed, &shorter, &good];
    let before = publisher.spec.clone();
    let release = publisher.catalogue(&all, &publisher.targets_key());
    let codes = refused(fleet, "targets.json", &release).await;
    let expect = [
        "blob_missing",
        "blob_missing",
        "blob_missing",
        "blob_damaged",
        "manifest_invalid",
        "manifest_name",
        "reference_missing",
        "reference_invalid",
        "blob_length",
    ];
    // The half bundle's reference is there: all bundles share it.
    assert_eq!(codes.iter().filter(|code| **code == "blob_missing").count(), 2, "{codes:?}");
    assert_eq!(codes, expect[1..]);
    publisher.spec = before;
    let release = publisher.catalogue(&[&good], &publisher.targets_key());
    fleet.intake.upload("targets.json", &release, person()).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_builder_speaks_for_its_model_only() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let fleet = &server.fleet;
    let publisher = Publisher::begin(fleet, &[]).await;
    let own = Bundle::make("bundles/er-beds/auto/1.json", b"retrained");
    let human = Bundle::make("bundles/er-beds/1.json", b"pretends to be a person's");
    let other = Bundle::make("bundles/deterioration/auto/1.json", b"another model");
    for bundle in [&own, &human, &other] {
        bundle.upload(&fleet.blobs).await;
    }
    for foreign in [&human, &other] {
        let codes = refused(fleet, "auto-er-beds.json", &publisher.auto(1, &[&own, foreign])).await;
        assert_eq!(codes, ["bundle_not_delegated"]);
    }
    let accepted =
        fleet.intake.upload("auto-er-beds.json", &publisher.auto(1, &[&own]), person()).await.unwrap();
    assert_eq!(accepted.added, [(own.path.clone(), own.sha256())]);
    let trusted = fleet.intake.trusted().await.unwrap().unwrap();
    assert!(trusted.lookup(&own.path, fleet.clocks.trust.now()).is_ok());
    server.stop().await;
}

fn flip_a_byte(data: &Path, digest: &Digest) {
    let name = digest.to_string();
    let path = data.join("blobs/sha256").join(&name[..2]).join(&name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}
