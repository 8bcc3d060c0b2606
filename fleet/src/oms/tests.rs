//! Signatures that others made, signatures that we make, and what an attacker makes of both.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::{Value, json};

use super::*;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oms")
}

fn their_key() -> VerifyKey {
    VerifyKey::load(&vectors().join("key.pub")).unwrap()
}

/// What became of it, in a word.
fn word(result: Result<Verified, OmsError>) -> &'static str {
    match result {
        Ok(_) => "accepted",
        Err(OmsError::Io { .. }) => "unreadable",
        Err(OmsError::TooLong { .. }) => "too long",
        Err(OmsError::Key(_)) => "key",
        Err(OmsError::NotSigned { .. }) => "not signed",
        Err(OmsError::Ignored { .. }) => "ignored",
        Err(OmsError::Missing { .. }) => "missing",
        Err(OmsError::Altered { .. }) => "altered",
        Err(OmsError::Folder(FolderError::Link { .. })) => "link",
        Err(OmsError::Folder(FolderError::Special { .. })) => "special",
        Err(OmsError::Folder(FolderError::Name { .. })) => "folder name",
        Err(OmsError::Folder(FolderError::TooMany { .. })) => "too many",
        Err(OmsError::Folder(FolderError::TooLarge { .. })) => "too large",
        Err(OmsError::Folder(FolderError::Empty { .. })) => "empty",
        Err(OmsError::Folder(FolderError::Io { .. })) => "folder unreadable",
        Err(OmsError::Statement { source, .. }) => match source {
            StatementError::Json(_) => "json",
            StatementError::Kind { what, .. } => what,
            StatementError::NoKey => "no key",
            StatementError::OtherKey { .. } => "other key",
            StatementError::Base64(_) => "base64",
            StatementError::Signatures(_) => "signatures",
            StatementError::Signature => "signature",
            StatementError::Subjects(_) => "subjects",
            StatementError::Resources { .. } => "resources",
            StatementError::Name(_) => "name",
            StatementError::Twice(_) => "twice",
            StatementError::Digest(_) => "digest",
            StatementError::RootDigest => "root digest",
        },
    }
}

struct World {
    dir: tempfile::TempDir,
    key: SigningKey,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::create(&dir.path().join("acme.pem")).unwrap();
        let world = Self { dir, key };
        fs::create_dir_all(world.folder().join("golden")).unwrap();
        for (name, text) in [("model.onnx", "weights"), ("golden/request.json", "{}"), ("größe 1.txt", "")]
        {
            fs::write(world.folder().join(name), text).unwrap();
        }
        world
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("er-beds")
    }

    fn signature(&self) -> PathBuf {
        self.folder().join(SIGNATURE_FILE)
    }

    fn sign(&self) -> Verified {
        sign(&self.folder(), &self.signature(), &self.key).unwrap()
    }

    fn verify(&self) -> Result<Verified, OmsError> {
        verify(&self.folder(), &self.signature(), self.key.public())
    }

    /// What becomes of a signed folder after `edit`.
    fn after(edit: impl FnOnce(&Path)) -> &'static str {
        let world = Self::new();
        world.sign();
        edit(&world.folder());
        word(world.verify())
    }

    /// What becomes of a payload that the right key signed after `edit`.
    fn payload(edit: impl FnOnce(&mut Value)) -> &'static str {
        let world = Self::new();
        world.sign();
        let bytes = fs::read(world.signature()).unwrap();
        let bundle: Value = serde_json::from_slice(&bytes).unwrap();
        let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
        let payload = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, payload).unwrap();
        let mut statement: Value = serde_json::from_slice(&payload).unwrap();
        edit(&mut statement);
        let payload = statement.to_string().into_bytes();
        let signature = world.key.sign(&statement::signed_bytes(&payload)).unwrap();
        fs::write(world.signature(), SignatureFile::new(payload, signature, None).to_bytes()).unwrap();
        word(world.verify())
    }
}

#[test]
fn signatures_that_others_made() {
    let key = their_key();
    let folder = vectors().join("signed");
    let files = ["signme-1", "signme-2"].map(str::to_owned);
    for signature in ["signed/model.sig", "older/model.sig", "key.bundle.json"] {
        // The signature that stands in the folder is passed over by whichever is asked for.
        let copy = tempfile::tempdir().unwrap();
        for name in &files {
            fs::copy(folder.join(name), copy.path().join(name)).unwrap();
        }
        let verified = verify(copy.path(), &vectors().join(signature), &key).unwrap();
        assert!(verified.files.keys().eq(&files), "{signature}");
        fs::write(copy.path().join("ignore-me"), "").unwrap();
        let with_more = word(verify(copy.path(), &vectors().join(signature), &key));
        assert_eq!(with_more, if signature.starts_with("older") { "not signed" } else { "ignored" });
    }
    assert_eq!(word(verify(&folder, &folder.join(SIGNATURE_FILE), &key)), "accepted");
    let ours = World::new();
    assert_eq!(word(verify(&folder, &folder.join(SIGNATURE_FILE), ours.key.public())), "other key");
}

#[test]
fn signatures_that_are_none() {
    let folder = vectors().join("signed");
    let check = |name: &str, expect: &str| {
        let signature = vectors().join(format!("invalid/{name}.bundle.json"));
        assert_eq!(word(verify(&folder, &signature, &their_key())), expect, "{name}");
    };
    check("empty", "json");
    check("missing-envelope", "json");
    check("missing-verification-material", "json");
    check("missing-tlog-entries", "no key");
    check("certificate", "no key");
    check("sigstore", "no key");
    check("wrong-predicate", "signature");
    assert_eq!(word(verify(&folder, &folder.join("absent"), &their_key())), "unreadable");
}

#[test]
fn every_file_counts() {
    let check = |edit: fn(&Path), expect: &str| assert_eq!(World::after(edit), expect);
    check(|_| (), "accepted");
    check(|f| fs::write(f.join("model.onnx"), "weightS").unwrap(), "altered");
    check(|f| fs::write(f.join("golden/request.json"), "{} ").unwrap(), "altered");
    check(|f| fs::remove_file(f.join("größe 1.txt")).unwrap(), "missing");
    check(|f| fs::rename(f.join("model.onnx"), f.join("Model.onnx")).unwrap(), "not signed");
    check(|f| fs::write(f.join("golden/extra"), "").unwrap(), "not signed");
    check(|f| fs::write(f.join("model.sig.bak"), "").unwrap(), "not signed");
    check(|f| fs::create_dir(f.join("empty")).unwrap(), "accepted");
    // What belongs to git, and only at the top.
    check(|f| fs::write(f.join(".gitignore"), "x").unwrap(), "accepted");
    check(
        |f| fs::create_dir(f.join(".git")).and_then(|()| fs::write(f.join(".git/config"), "")).unwrap(),
        "accepted",
    );
    check(|f| fs::write(f.join("golden/.gitignore"), "x").unwrap(), "not signed");
    check(|f| fs::write(f.join(".gitmodules"), "x").unwrap(), "not signed");
}

#[test]
fn only_plain_files_are_read() {
    let check = |edit: fn(&Path), expect: &str| assert_eq!(World::after(edit), expect);
    check(|f| symlink("/etc/hostname", f.join("link")).unwrap(), "link");
    check(|f| symlink(".", f.join("golden/loop")).unwrap(), "link");
    let replaced = |f: &Path| {
        fs::rename(f.join("model.onnx"), f.with_extension("aside")).unwrap();
        symlink(f.with_extension("aside"), f.join("model.onnx")).unwrap();
    };
    check(replaced, "link");
    let pipe = |f: &Path| {
        rustix::fs::mknodat(rustix::fs::CWD, f.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
    };
    check(pipe, "special");
    check(|f| fs::write(f.join("a\nb"), "").unwrap(), "folder name");
    let nonsense = |f: &Path| {
        let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
        fs::write(f.join(name), "").unwrap();
    };
    check(nonsense, "folder name");
    let deep = |f: &Path| fs::create_dir_all(f.join(["deep"; 60].join("/"))).unwrap();
    check(deep, "folder name");
    let many = |f: &Path| (0..5000).for_each(|i| fs::write(f.join(i.to_string()), "").unwrap());
    check(many, "too many");
    let empty = World::new();
    fs::remove_dir_all(empty.folder()).unwrap();
    fs::create_dir(empty.folder()).unwrap();
    assert_eq!(word(sign(&empty.folder(), &empty.signature(), &empty.key)), "empty");
}

#[test]
fn what_is_signed_is_understood_or_refused() {
    let check = |edit: fn(&mut Value), expect: &str| assert_eq!(World::payload(edit), expect);
    check(|_| (), "accepted");
    check(|s| s["more"] = json!({"by": "others"}), "accepted");
    check(|s| s["_type"] = json!("https://in-toto.io/Statement/v0.1"), "statement type");
    check(|s| s["predicateType"] = json!("https://model_signing/Digests/v0.1"), "predicate type");
    check(|s| s["predicate"]["serialization"]["method"] = json!("shards"), "serialization method");
    check(|s| s["predicate"]["serialization"]["hash_type"] = json!("blake2b"), "hash type");
    check(|s| s["predicate"]["resources"][0]["algorithm"] = json!("blake3"), "hash type");
    check(|s| s["predicate"]["resources"][0]["digest"] = json!("AB"), "digest");
    check(|s| s["predicate"]["resources"] = json!([]), "resources");
    check(|s| s["predicate"]["resources"][1] = s["predicate"]["resources"][0].clone(), "twice");
    check(|s| s["subject"] = json!([]), "subjects");
    check(|s| s["subject"][0]["digest"]["sha256"] = json!("0".repeat(64)), "root digest");
    check(|s| s["predicate"] = json!({}), "json");
    let many = |s: &mut Value| {
        let one = s["predicate"]["resources"][0].clone();
        s["predicate"]["resources"] = vec![one; 5000].into();
    };
    check(many, "resources");
    for name in ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/", "a\nb", &"x".repeat(300)] {
        assert_eq!(
            World::payload(|s| s["predicate"]["resources"][0]["name"] = json!(name)),
            "name",
            "{name}"
        );
    }
    // Another order is another signer's habit; what it leaves out and is not there harms nobody.
    check(|s| s["predicate"]["serialization"]["ignore_paths"] = json!(["secret", "golden"]), "accepted");
    let left_out = |s: &mut Value| {
        s["predicate"]["serialization"]["ignore_paths"] = json!(["golden"]);
        let kept: Vec<Value> = s["predicate"]["resources"].as_array().unwrap()[1..].to_vec();
        let digests =
            kept.iter().map(|r| hex::decode(r["digest"].as_str().unwrap()).unwrap()).collect::<Vec<_>>();
        s["subject"][0]["digest"]["sha256"] = json!(Digest::of(&digests.concat()));
        s["predicate"]["resources"] = kept.into();
    };
    check(left_out, "ignored");
}

#[test]
fn every_flipped_byte_of_a_signature_is_refused_or_changes_nothing() {
    let world = World::new();
    let signed = world.sign();
    let good = fs::read(world.signature()).unwrap();
    let mut refused = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(world.signature(), &bad).unwrap();
        match world.verify() {
            // Names of fields that say nothing: they may be anything.
            Ok(verified) => assert_eq!(verified, signed, "byte {at}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused * 10 > good.len() * 9, "{refused} of {}", good.len());
    fs::write(world.signature(), vec![b' '; usize::try_from(SIGNATURE_BYTES_MAX).unwrap() + 1]).unwrap();
    assert_eq!(word(world.verify()), "too long");
}

#[test]
fn exactly_one_signature_of_exactly_that_key() {
    let world = World::new();
    world.sign();
    let edited = |edit: fn(&mut Value)| {
        let mut bundle: Value = serde_json::from_slice(&fs::read(world.signature()).unwrap()).unwrap();
        edit(&mut bundle);
        let path = world.dir.path().join("edited.sig");
        fs::write(&path, bundle.to_string()).unwrap();
        fs::rename(world.signature(), world.dir.path().join("aside")).unwrap();
        let word = word(verify(&world.folder(), &path, world.key.public()));
        fs::rename(world.dir.path().join("aside"), world.signature()).unwrap();
        word
    };
    let check = |edit: fn(&mut Value), expect: &str| assert_eq!(edited(edit), expect);
    check(|_| (), "accepted");
    check(|b| b["dsseEnvelope"]["signatures"] = json!([]), "signatures");
    let twice = |b: &mut Value| {
        let one = b["dsseEnvelope"]["signatures"][0].clone();
        b["dsseEnvelope"]["signatures"] = vec![one.clone(), one].into();
    };
    check(twice, "signatures");
    check(|b| b["dsseEnvelope"]["signatures"][0]["sig"] = json!(""), "signature");
    check(|b| b["dsseEnvelope"]["signatures"][0]["sig"] = json!("?"), "base64");
    check(|b| b["dsseEnvelope"]["signatures"][0]["keyid"] = Value::Null, "accepted");
    check(|b| b["dsseEnvelope"]["payloadType"] = json!("text/plain"), "payload type");
    check(|b| b["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.2"), "media type");
    check(|b| b["verificationMaterial"]["publicKey"]["hint"] = json!("00"), "other key");
    check(|b| b["verificationMaterial"]["publicKey"] = json!({"rawBytes": "AA=="}), "accepted");
    check(|b| drop(b["verificationMaterial"].as_object_mut().unwrap().remove("tlogEntries")), "accepted");
    let other = SigningKey::create(&world.dir.path().join("other.pem")).unwrap();
    assert_eq!(word(verify(&world.folder(), &world.signature(), other.public())), "other key");
}

#[test]
fn what_is_copied_is_what_was_verified() {
    let world = World::new();
    let signed = world.sign();
    fs::create_dir(world.folder().join(".git")).unwrap();
    let copy = tempfile::tempdir().unwrap();
    let verified = verify_copy(&world.folder(), &world.signature(), world.key.public(), copy.path()).unwrap();
    assert_eq!(verified, signed);
    assert_eq!(fs::read(copy.path().join("golden/request.json")).unwrap(), b"{}");
    assert!(!copy.path().join(".git").exists() && !copy.path().join(SIGNATURE_FILE).exists());
    assert_eq!(fs::read_dir(copy.path()).unwrap().count(), 3);
}

#[test]
fn keys_are_private_and_never_overwritten() {
    let world = World::new();
    let path = world.dir.path().join("acme.pem");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let public = VerifyKey::load(&world.dir.path().join("acme.pub")).unwrap();
    assert_eq!(&public, SigningKey::load(&path).unwrap().public());
    assert!(matches!(SigningKey::create(&path), Err(KeyError::Exists { .. })));
    assert!(!format!("{:?}", world.key).contains("PRIVATE"));
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(SigningKey::load(&path), Err(KeyError::Exposed { .. })), "{mode:o}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    for text in ["", "acme", "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"] {
        fs::write(&path, text).unwrap();
        assert!(matches!(SigningKey::load(&path), Err(KeyError::Private { .. })), "{text}");
        assert!(matches!(VerifyKey::load(&path), Err(KeyError::Public { .. })), "{text}");
    }
}
