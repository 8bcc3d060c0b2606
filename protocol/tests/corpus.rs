//! The fuzzer's corpora, replayed with a stable compiler: what once was found stays found.
//!
//! A file is called `ok-…` if it is accepted, `no-…` if it is refused; of all others only the invariants are asked. The
//! `seed`s are made by our own writers: `cargo test -p muster-protocol --test corpus -- --ignored` writes them anew.

#![expect(clippy::unwrap_used, reason = "a corpus that cannot be read fails the test")]

#[expect(unreachable_pub, reason = "it is a crate of its own for the fuzzer")]
#[path = "../../fuzz/src/lib.rs"]
mod checks;

use std::fs;
use std::path::{Path, PathBuf};

use checks::world::{self, TrustFile, World};
use muster_protocol::chunk::{Answer, Chunk, Want};
use muster_protocol::enrol::{
    CertificateRequest, EnrolRequest, EnrolState, Enrolled, EnrolmentFile, EnrolmentToken, Facts, Fingerprint,
};
use muster_protocol::ids::{CaptureId, DeviceId, Digest};
use muster_protocol::message::Message as _;
use serde_json::{Value, json};

type Check = fn(&[u8]) -> bool;

const TARGETS: [(&str, Check); 7] = [
    ("catalogue", checks::catalogue),
    ("chunk", checks::chunk),
    ("enrolment", checks::enrolment),
    ("envelope", checks::envelope),
    ("manifest", checks::manifest),
    ("order", checks::order),
    ("report", checks::report),
];

/// All corpora together, bytes.
const CORPORA_BYTES_MAX: u64 = 200 * 1024;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

#[test]
fn corpora_hold() {
    let mut bytes = 0;
    for (target, check) in TARGETS {
        let mut kinds = [0; 2];
        let folder = corpora().join(target);
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            let data = fs::read(&path).unwrap();
            bytes += data.len() as u64;
            let accepted = check(&data);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(!name.starts_with("ok-") || accepted, "{} was refused", path.display());
            assert!(!name.starts_with("no-") || !accepted, "{} was accepted", path.display());
            kinds[usize::from(accepted)] += 1;
        }
        assert!(kinds[0] > 0 && kinds[1] > 0, "{target}: {kinds:?}, so one answer is never tried");
    }
    assert!(bytes <= CORPORA_BYTES_MAX, "{bytes} bytes; let the fuzzer minimise them");
}

#[test]
fn every_target_is_replayed() {
    let fuzzed = fs::read_dir(corpora().join("../fuzz_targets")).unwrap();
    for target in fuzzed.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
    {
        // Those of the fleet's and the agent's own readers are replayed there.
        let here = TARGETS.iter().any(|(name, _)| *name == target);
        assert!(here || ["csr", "oip", "oms"].contains(&target.as_str()), "nobody replays {target}");
    }
}

#[test]
#[ignore = "writes fuzz/corpus"]
fn write_the_seeds() {
    for (target, seeds) in [
        ("catalogue", catalogue()),
        ("chunk", chunk()),
        ("enrolment", enrolment()),
        ("envelope", envelope()),
        ("manifest", manifest()),
        ("order", order()),
        ("report", report()),
    ] {
        let folder = corpora().join(target);
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in seeds {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

type Seeds = Vec<(&'static str, Vec<u8>)>;

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn edited(mut value: Value, edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    edit(&mut value);
    text(&value)
}

fn envelope() -> Seeds {
    let world = World::get();
    let note = String::from_utf8(world.note_bytes.clone()).unwrap();
    vec![
        ("ok-seed-signed", world.note_bytes.clone()),
        ("ok-seed-altered", note.replace("\"n\":1", "\"n\":2").into_bytes()),
        ("ok-seed-unsigned", br#"{"signatures":[],"signed":{}}"#.to_vec()),
        (
            "ok-seed-unknown-fields",
            note.replacen('{', r#"{"more":[null,true,-9223372036854775808],"#, 1).into_bytes(),
        ),
        ("no-seed-key-twice", note.replace("\"n\":1", "\"n\":1,\"n\":1").into_bytes()),
        ("no-seed-float", note.replace("\"n\":1", "\"n\":1.5").into_bytes()),
        ("no-seed-upper-case", note.replace('a', "A").into_bytes()),
        (
            "no-seed-deep",
            format!("{{\"signatures\":[],\"signed\":{{\"a\":{}1{}}}}}", "[".repeat(99), "]".repeat(99))
                .into_bytes(),
        ),
    ]
}

fn order() -> Seeds {
    let world = World::get();
    let raw = |bytes: &[u8]| [&b"0"[..], bytes].concat();
    let signed = |bytes: Vec<u8>| [&b"1"[..], &bytes].concat();
    let document = || serde_json::to_value(&world.order).unwrap();
    let file = String::from_utf8(world.order_bytes.clone()).unwrap();
    vec![
        ("ok-seed-raw", raw(&world.order_bytes)),
        ("no-seed-raw-altered", raw(file.replace("beds-2", "beds-3").as_bytes())),
        (
            "no-seed-raw-unsigned",
            raw(edited(json!({"signatures": [], "signed": document()}), |_| ()).as_slice()),
        ),
        ("ok-seed-document", signed(text(&document()))),
        ("ok-seed-empty", signed(edited(document(), |o| o["want"] = json!([])))),
        (
            "no-seed-other-device",
            signed(edited(document(), |o| o["device"] = json!(DeviceId::mint([2; 16])))),
        ),
        ("no-seed-replayed", signed(edited(document(), |o| o["version"] = json!(world::FLOOR)))),
        ("no-seed-expired", signed(edited(document(), |o| o["expires"] = json!("2026-11-23T02:00:00Z")))),
        ("no-seed-future", signed(edited(document(), |o| o["catalogue"] = json!(2)))),
        (
            "no-seed-other-bytes",
            signed(edited(document(), |o| o["want"][0]["sha256"] = json!(Digest::of(b"x")))),
        ),
        ("no-seed-slot-twice", signed(edited(document(), |o| o["want"][1]["slot"] = json!("beds")))),
        (
            "no-seed-revoked",
            signed(edited(document(), |o| {
                o["want"][0] = json!({"slot": "beds", "bundle": world::REVOKED, "sha256": Digest::of(world::REVOKED.as_bytes())});
            })),
        ),
        (
            "no-seed-foreign",
            signed(edited(document(), |o| {
                o["want"][0] = json!({"slot": "beds", "bundle": world::FOREIGN, "sha256": Digest::of(world::FOREIGN.as_bytes())});
            })),
        ),
        ("no-seed-type", signed(edited(document(), |o| o["_type"] = json!("timestamp")))),
        ("ok-seed-capture", signed(edited(document(), |o| o["capture"] = json!([capture()])))),
        (
            "no-seed-capture-twice",
            signed(edited(document(), |o| o["capture"] = json!([capture(), capture()]))),
        ),
        (
            "no-seed-capture-no-rows",
            signed(edited(document(), |o| o["capture"] = json!([edited_capture(|c| c["rows"] = json!(0))]))),
        ),
        (
            "no-seed-capture-band",
            signed(edited(document(), |o| {
                o["capture"] = json!([edited_capture(
                    |c| c["sample"] = json!({"score": {"low_milli": 2, "high_milli": 1}})
                )]);
            })),
        ),
        (
            "no-seed-capture-reason",
            signed(edited(document(), |o| {
                o["capture"] = json!([edited_capture(|c| c["why"] = json!("curiosity"))]);
            })),
        ),
    ]
}

fn capture() -> Value {
    json!({
        "id": CaptureId::mint([3; 16]), "slot": "beds", "bundle": Digest::of(b"x"), "why": "review", "rows": 50,
        "until": "2026-12-01T02:00:00Z", "sample": {"every": 10},
    })
}

fn edited_capture(edit: impl FnOnce(&mut Value)) -> Value {
    let mut capture = capture();
    edit(&mut capture);
    capture
}

fn catalogue() -> Seeds {
    let world = World::get();
    let of = |which: TrustFile, edit: fn(&mut Value)| {
        let byte = u8::try_from("RTSCA".len()).unwrap() * 9 + which as u8;
        let mut bytes = vec![byte];
        bytes.extend(edited(world.next_document(which), edit));
        bytes
    };
    vec![
        ("ok-seed-root", of(TrustFile::Root, |_| ())),
        ("ok-seed-timestamp", of(TrustFile::Timestamp, |_| ())),
        ("ok-seed-snapshot", of(TrustFile::Snapshot, |_| ())),
        ("ok-seed-targets", of(TrustFile::Targets, |_| ())),
        ("ok-seed-auto", of(TrustFile::Auto, |_| ())),
        ("no-seed-rolled-back", of(TrustFile::Timestamp, |t| t["version"] = json!(0))),
        ("no-seed-expired", of(TrustFile::Snapshot, |t| t["expires"] = json!("2020-01-01T00:00:00Z"))),
        ("no-seed-root-skips", of(TrustFile::Root, |t| t["version"] = json!(3))),
        (
            "ok-seed-revoked",
            of(TrustFile::Targets, |t| {
                t["x-muster-revoked"] = json!({world::HUMAN: {"reason": "wrong", "action": "stop"}});
            }),
        ),
        (
            "no-seed-revoked-unreadable",
            of(TrustFile::Targets, |t| t["x-muster-revoked"] = json!({world::HUMAN: {"action": "explode"}})),
        ),
        (
            "ok-seed-beyond-its-paths",
            of(TrustFile::Auto, |t| t["targets"][world::HUMAN] = t["targets"][world::AUTO].clone()),
        ),
    ]
}

fn manifest() -> Seeds {
    let good: Value = serde_json::from_str(include_str!("wire/manifest.json")).unwrap();
    let with = |edit: fn(&mut Value)| edited(good.clone(), edit);
    vec![
        ("ok-seed", with(|_| ())),
        ("ok-seed-unknown-field", with(|m| m["colour"] = json!({"r": 1.5e300}))),
        ("no-seed-parent", with(|m| m["files"][0]["path"] = json!("../model.onnx"))),
        ("no-seed-absolute", with(|m| m["files"][0]["path"] = json!("/model.onnx"))),
        ("no-seed-length", with(|m| m["files"][0]["length"] = json!(u64::MAX))),
        ("no-seed-feature", with(|m| m["requires"] = json!(["telepathy"]))),
        ("no-seed-pane", with(|m| m["monitoring"]["pane_s"] = json!(0))),
        ("no-seed-twice", with(|m| m["files"][1] = m["files"][0].clone())),
        ("no-seed-cut", with(|_| ())[..500].to_vec()),
    ]
}

fn chunk() -> Seeds {
    let of = |answer| Chunk { token: 7, index: 2, total: 3, digest_prefix: [9; 16], answer }.encode();
    let want = |ranges| Want { v: 1, token: 7, digest: Digest::of(b""), ranges }.to_json();
    let mut beyond = of(Answer::Bytes(b"x"));
    beyond[8] = 3;
    vec![
        ("ok-seed-bytes", of(Answer::Bytes(b"weights"))),
        ("ok-seed-empty", of(Answer::Bytes(b""))),
        ("ok-seed-unknown", of(Answer::Unknown)),
        ("no-seed-short", of(Answer::Unknown)[..31].to_vec()),
        ("no-seed-beyond", beyond),
        ("ok-seed-want", want(vec![(0, 2), (5, 1)])),
        ("ok-seed-want-overflow", want(vec![(u32::MAX, 2), (u32::MAX, u32::MAX)])),
        ("no-seed-want-many", want(vec![(0, 1); 9])),
    ]
}

fn report() -> Seeds {
    let good = hex::decode(include_str!("wire/report.hex").trim()).unwrap();
    let mut other = good.clone();
    other[0] = 9;
    vec![
        ("ok-seed", good.clone()),
        ("ok-seed-shadow", hex::decode(include_str!("wire/report_shadow.hex").trim()).unwrap()),
        ("no-seed-cut", good[..good.len() / 2].to_vec()),
        ("no-seed-version", other),
        ("no-seed-empty", Vec::new()),
        ("no-seed-length", [&good[..good.len() - 1], &[0xff; 9]].concat()),
    ]
}

fn enrolment() -> Seeds {
    let world = World::get();
    let csr = "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n".to_owned();
    let file = serde_json::to_value(EnrolmentFile {
        v: 1,
        server: "https://fleet.example:8443".to_owned(),
        root: serde_json::from_slice(&world.root).unwrap(),
        token: EnrolmentToken::mint([7; 32]),
        site: "er-2".parse().unwrap(),
    })
    .unwrap();
    let facts = Facts {
        machine: Some(Digest::of(b"m")),
        board: None,
        arch: "x86_64".to_owned(),
        cpu_model: "N100".to_owned(),
    };
    let request =
        serde_json::to_value(EnrolRequest { v: 1, name: "er-2".to_owned(), csr: csr.clone(), facts })
            .unwrap();
    let answer = |state| {
        let device = DeviceId::mint([1; 16]);
        serde_json::to_value(Enrolled { v: 1, device, fingerprint: Fingerprint::of(b"key"), state }).unwrap()
    };
    let active = answer(EnrolState::Active {
        certificate: csr.clone(),
        mqtt: "mqtts://fleet.example:8883".to_owned(),
    });
    vec![
        ("ok-seed-file", text(&file)),
        ("no-seed-file-plain", edited(file.clone(), |f| f["server"] = json!("http://fleet.example"))),
        ("no-seed-file-token", edited(file, |f| f["token"] = json!("fle_short"))),
        ("ok-seed-request", text(&request)),
        ("ok-seed-renewal", serde_json::to_vec(&CertificateRequest { v: 1, csr }).unwrap()),
        ("no-seed-request-version", edited(request, |r| r["v"] = json!(2))),
        ("ok-seed-pending", text(&answer(EnrolState::Pending))),
        ("ok-seed-active", text(&active)),
        ("no-seed-active-plain", edited(active, |a| a["state"]["mqtt"] = json!("mqtt://fleet.example:1883"))),
    ]
}
