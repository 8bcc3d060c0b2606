//! What must hold for every input whatever: one function for each reader of bytes that come from outside.
//!
//! A fuzz target feeds a function bytes without end; `protocol/tests/corpus.rs` feeds it those that are checked in, with a
//! stable compiler. A function answers whether the bytes were accepted, and panics where something that must hold does
//! not. "It does not crash" is the least of it: an accepted value comes back the same from its own bytes, keeps every
//! bound, and nothing counts as signed that the one who holds the key did not sign.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use muster_protocol::chunk::{Answer, Chunk, Want};
use muster_protocol::enrol::{CertificateRequest, EnrolRequest, Enrolled, EnrolmentFile};
use muster_protocol::limits;
use muster_protocol::manifest::Manifest;
use muster_protocol::message::{Message as _, Report};
use muster_protocol::trust::{Envelope, Order, Outcome, TrustedSet, Verdict};
use serde_json::Value;

pub mod world;

use world::{World, key};

/// The envelope of every signed file.
pub fn envelope(data: &[u8]) -> bool {
    let world = World::get();
    let Ok(envelope) = Envelope::parse(data) else { return false };
    let again = Envelope::parse(&envelope.to_bytes()).expect("what we wrote is read");
    assert_eq!(again.canonical(), envelope.canonical(), "the signed bytes changed on the way");
    assert_eq!(again.signed(), envelope.signed());
    assert_eq!(again.signatures(), envelope.signatures());
    // Two documents under one signature: what the signature covers must say exactly what is read.
    if let Ok(value) = serde_json::from_slice::<Value>(envelope.canonical()) {
        assert_eq!(&value, envelope.signed(), "the canonical form is read as another document");
    }
    let count = envelope.count(&world.note_keys, 1);
    assert!(count.found <= world.note_keys.len());
    assert!(!count.met() || envelope.canonical() == world.note, "a signature that nobody made");
    assert!(!envelope.count(&world.note_keys, 0).met(), "a threshold of none was met");
    true
}

/// An order. The first byte says whether the rest is taken as it came, or is a document that the order key signs: what
/// is behind the signature is to be reached too.
pub fn order(data: &[u8]) -> bool {
    let world = World::get();
    let Some((&mode, rest)) = data.split_first() else { return false };
    let signed = if mode % 2 == 0 { Some(rest.to_vec()) } else { sign(rest, &[world::ORDER]) };
    let Some(bytes) = signed else { return false };
    let verdict = Order::check(&bytes, &world.context(world::FLOOR));
    let Ok(Verdict::Accepted(order)) = verdict else { return false };
    assert!(mode % 2 == 1 || order == world.order, "an order that nobody signed was accepted");
    assert!(bytes.len() <= limits::ORDER_BYTES_MAX);
    assert_eq!(order.type_, Order::TYPE);
    assert_eq!(order.device, world.device, "somebody else's order");
    assert!(order.version > world::FLOOR, "a replayed order");
    assert!(order.expires >= world.now, "an expired order");
    assert!(Some(order.catalogue) <= world.trusted.versions().targets, "an order from the future");
    assert!(order.want.len() <= limits::SLOTS_MAX);
    let slots: BTreeSet<_> = order.want.iter().map(|want| &want.slot).collect();
    assert_eq!(slots.len(), order.want.len(), "one slot, two wishes");
    for want in &order.want {
        let target = world.trusted.lookup(&want.bundle, world.now).expect("what is ordered is catalogued");
        assert_eq!(target.sha256, want.sha256, "the order and the catalogue name different bytes");
        let path = want.bundle.to_string();
        assert!(![world::REVOKED, world::FOREIGN].contains(&path.as_str()), "{path} must not run here");
    }
    assert!(order.capture.len() <= limits::CAPTURES_MAX);
    let captures: BTreeSet<_> = order.capture.iter().map(|capture| &capture.id).collect();
    assert_eq!(captures.len(), order.capture.len(), "one capture, asked for twice");
    assert!(order.capture.iter().all(|capture| capture.fault().is_none()), "a capture that makes no sense");
    let again = Order::check(&bytes, &world.context(order.version));
    assert!(matches!(again, Ok(Verdict::Unchanged)), "one order, obeyed twice");
    assert_eq!(Order::authentic(&bytes, &world.trusted).expect("it was read before"), order);
    true
}

/// A trust file of the catalogue. The first byte says which; the rest is the document, signed here by the right keys and
/// pinned by the right files: only what it says decides.
pub fn catalogue(data: &[u8]) -> bool {
    let world = World::get();
    let Some((&which, document)) = data.split_first() else { return false };
    let which = world::TrustFile::from(which);
    let Some(bytes) = sign(document, which.keys()) else { return false };
    if which == world::TrustFile::Root {
        // A root that is brought by hand, before it is offered as the next one.
        TrustedSet::from_root(&bytes).ok();
    }
    let offered = world.next_files(which, bytes);
    let mut trusted = world.trusted.clone();
    let before = trusted.versions();
    let Ok(refreshed) = trusted.refresh(&offered, world.now) else {
        // Only a root is adopted on its own; and what its keys do not vouch for is forgotten.
        let after = trusted.versions();
        assert!(after == before || after.root > before.root, "a refused file left a trace");
        return false;
    };
    let after = trusted.versions();
    assert!(after.root >= before.root, "the root was rolled back");
    if before.root == after.root {
        assert!(after.timestamp >= before.timestamp, "the timestamp was rolled back");
        assert!(after.snapshot >= before.snapshot, "the snapshot was rolled back");
        assert!(after.targets >= before.targets, "the catalogue was rolled back");
    }
    for target in trusted.targets() {
        assert_eq!(trusted.find_target(&target.path), Some(target), "a listed bundle is not found");
    }
    assert!(trusted.revocations().len() <= limits::REVOCATIONS_MAX);
    for revocation in trusted.revocations().values() {
        assert!(revocation.reason.len() <= limits::SENTENCE_BYTES_MAX);
    }
    if refreshed.outcome != Outcome::Updated {
        return false;
    }
    // What is put at rest boots into the same state.
    let mut stored = world.stored.clone();
    stored.extend(refreshed.writes.iter().map(|write| (write.stored_name(), write.bytes.clone())));
    let booted = TrustedSet::load(&world.root, &stored).expect("what was accepted can be loaded");
    assert_eq!(booted.versions(), trusted.versions(), "the box boots into another state");
    assert_eq!(booted.files(), trusted.files());
    assert_eq!(booted.revocations(), trusted.revocations());
    let again = trusted.refresh(&offered, world.now).expect("what was accepted is accepted again");
    assert_eq!(again.outcome, Outcome::Unchanged, "the same files, another state");
    true
}

/// A bundle's manifest.
pub fn manifest(data: &[u8]) -> bool {
    let Ok(manifest) = Manifest::parse(data) else { return false };
    let bytes = serde_json::to_vec(&manifest).expect("a manifest is JSON");
    assert_eq!(Manifest::parse(&bytes).expect("what we wrote is read"), manifest);
    assert!(manifest.files.len() <= limits::BUNDLE_FILES_MAX);
    assert!(manifest.total_bytes() <= limits::BUNDLE_BYTES_MAX);
    assert!(!manifest.variants.is_empty() && manifest.variants.len() <= limits::VARIANTS_MAX);
    assert!(manifest.monitoring.streams.len() <= limits::STREAMS_MAX);
    assert_eq!(manifest.monitoring.window_s % manifest.monitoring.pane_s, 0);
    let mut seen = BTreeSet::new();
    for file in &manifest.files {
        let plain = Path::new(&file.path).components().all(|part| matches!(part, Component::Normal(_)));
        assert!(plain && !file.path.is_empty(), "{} leaves its folder", file.path);
        assert!(file.path.len() <= limits::BUNDLE_PATH_BYTES_MAX);
        assert!(seen.insert(&file.path), "{} stands there twice", file.path);
    }
    for variant in &manifest.variants {
        assert!(manifest.file(&variant.file).is_some());
    }
    true
}

/// A piece of bulk content, or a wish for some.
pub fn chunk(data: &[u8]) -> bool {
    if let Ok(want) = Want::from_json(data) {
        if let Some(indices) = want.indices() {
            assert!(indices.len() <= limits::CHUNK_WINDOW_MAX as usize, "more than a window was asked for");
        }
        assert_eq!(Want::from_json(&want.to_json()).expect("what we wrote is read"), want);
        return true;
    }
    let Ok(chunk) = Chunk::decode(data) else { return false };
    assert!(chunk.answer == Answer::Unknown || chunk.index < chunk.total, "a chunk beyond the last one");
    let bytes = chunk.encode();
    assert_eq!(Chunk::decode(&bytes).expect("what we wrote is read"), chunk);
    if let Answer::Bytes(payload) = chunk.answer {
        assert!(payload.len() <= limits::CHUNK_BYTES);
        assert_eq!(payload.len() + limits::CHUNK_HEADER_BYTES, data.len(), "bytes were lost");
    }
    true
}

/// A box's binary report.
pub fn report(data: &[u8]) -> bool {
    let Ok(report) = Report::decode(data) else { return false };
    // Compared as bytes, because a measurement that is no number equals nothing.
    let bytes = report.encode().expect("what was read can be written");
    let again = Report::decode(&bytes).expect("what we wrote is read");
    assert_eq!(again.encode().expect("and again"), bytes);
    assert!(report.panes.len() <= limits::PANES_PER_REPORT_MAX && report.models.len() <= limits::SLOTS_MAX);
    for counts in report.panes.iter().flat_map(|pane| &pane.streams) {
        let mut sum = counts.clone();
        // Panes are added up for years: too many rows is an answer, an overflow is none.
        if sum.merge(counts).is_ok() {
            assert_eq!(sum.n(), counts.n() * 2);
        }
    }
    // Times are shown to people.
    assert!(!format!("{} {}", report.from, report.to).is_empty());
    true
}

/// The enrolment file and what a box and the fleet say to each other about a certificate.
pub fn enrolment(data: &[u8]) -> bool {
    let mut accepted = false;
    if let Ok(file) = EnrolmentFile::from_json(data) {
        assert!(file.server.starts_with("https://"), "a secret would go out unencrypted");
        let bytes = serde_json::to_vec(&file).expect("it is JSON");
        let again = EnrolmentFile::from_json(&bytes).expect("what we wrote is read");
        assert_eq!(serde_json::to_vec(&again).expect("it is JSON"), bytes);
        accepted = true;
    }
    if let Ok(request) = EnrolRequest::from_json(data) {
        assert!(request.csr.len() <= limits::CSR_BYTES_MAX);
        let bytes = serde_json::to_vec(&request).expect("it is JSON");
        assert_eq!(EnrolRequest::from_json(&bytes).expect("what we wrote is read"), request);
        accepted = true;
    }
    if let Ok(request) = CertificateRequest::from_json(data) {
        let bytes = serde_json::to_vec(&request).expect("it is JSON");
        assert_eq!(CertificateRequest::from_json(&bytes).expect("what we wrote is read"), request);
        accepted = true;
    }
    if let Ok(answer) = Enrolled::from_json(data) {
        let bytes = serde_json::to_vec(&answer).expect("it is JSON");
        assert_eq!(Enrolled::from_json(&bytes).expect("what we wrote is read"), answer);
        accepted = true;
    }
    accepted
}

/// Signs what is a document at all.
fn sign(document: &[u8], keys: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(document).ok().filter(Value::is_object)?;
    let mut envelope = Envelope::unsigned(&value).ok()?;
    for seed in keys {
        envelope.sign(&key(*seed)).ok()?;
    }
    Some(envelope.to_bytes())
}
