//! Model signatures against `model_signing` itself, as its authors publish it: each side accepts what the other signs
//! and refuses it after one byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::publisher::Bundle;

/// The environment's folder; it is made from `interop/oms-requirements.lock`.
fn tool(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.muster/oms/bin").join(name);
    assert!(
        path.is_file(),
        "{} is missing: scripts/python-env.sh .muster/oms fleet/tests/interop/oms-requirements.lock",
        path.display()
    );
    path
}

fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn muster(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(args);
    run(command)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { dir: tempfile::tempdir().unwrap() };
        // Names that different ways of sorting sort differently.
        for name in ["model.onnx", "a/b.json", "a-b/c.json", "a.json", "größe 1.txt", "leer"] {
            let path = desk.path("out").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, if name == "leer" { "" } else { name }).unwrap();
        }
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn ours_sign(&self) {
        assert!(muster(&["bundle", "oms", "new-key", &self.text("acme")]).status.success());
        let signed = muster(&["bundle", "oms", "sign", &self.text("out"), "--key", &self.text("acme.pem")]);
        assert!(signed.status.success(), "{}", said(&signed));
    }

    fn ours_accept(&self, key: &str) -> (bool, String) {
        let verified = muster(&["bundle", "oms", "verify", &self.text("out"), "--key", &self.text(key)]);
        (verified.status.success(), said(&verified))
    }

    fn theirs_sign(&self, key: &str) {
        let mut command = Command::new(tool("model_signing"));
        command.args(["sign", "key", &self.text("out"), "--private_key", &self.text(key)]);
        command.args(["--signature", &self.text("out/model.sig")]);
        let signed = run(command);
        assert!(signed.status.success(), "{key}: {}", said(&signed));
    }

    fn theirs_accept(&self, key: &str) -> (bool, String) {
        let mut command = Command::new(tool("model_signing"));
        command.args(["verify", "key", &self.text("out"), "--public_key", &self.text(key)]);
        command.args(["--signature", &self.text("out/model.sig")]);
        let verified = run(command);
        (verified.status.success(), said(&verified))
    }

    fn flip(&self, name: &str, at: usize) {
        let path = self.path(name);
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[at.min(last)] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    /// Writes `p256`, `p256-sec1`, `p384`, `p521`, `ed25519`, `encrypted`, `compressed`, each `.pem` and `.pub`.
    fn their_keys(&self) {
        let script = r#"
import os, sys
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives import serialization as s
plain, pkcs8, sec1 = s.NoEncryption(), s.PrivateFormat.PKCS8, s.PrivateFormat.TraditionalOpenSSL
def write(name, key, form=pkcs8, secret=plain):
    os.umask(0o077)
    open(f"{sys.argv[1]}/{name}.pem", "wb").write(key.private_bytes(s.Encoding.PEM, form, secret))
    public = key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    open(f"{sys.argv[1]}/{name}.pub", "wb").write(public)
write("p256", ec.generate_private_key(ec.SECP256R1()))
write("p256-sec1", ec.generate_private_key(ec.SECP256R1()), sec1)
write("p384", ec.generate_private_key(ec.SECP384R1()))
write("p521", ec.generate_private_key(ec.SECP521R1()), sec1)
write("k256", ec.generate_private_key(ec.SECP256K1()))
write("ed25519", ed25519.Ed25519PrivateKey.generate())
write("encrypted", ec.generate_private_key(ec.SECP256R1()), secret=s.BestAvailableEncryption(b"x"))
write("encrypted-sec1", ec.generate_private_key(ec.SECP256R1()), sec1, s.BestAvailableEncryption(b"x"))
"#;
        let mut command = Command::new(tool("python"));
        command.args(["-c", script]).arg(self.dir.path());
        let made = run(command);
        assert!(made.status.success(), "{}", said(&made));
    }
}

#[test]
fn theirs_accept_what_we_sign_and_refuse_it_after_one_byte() {
    let desk = Desk::new();
    desk.ours_sign();
    let check = |expect: bool, what: &str| {
        let (accepted, said) = desk.theirs_accept("acme.pub");
        assert_eq!(accepted, expect, "{what}: {said}");
    };
    check(true, "as signed");
    desk.flip("out/a-b/c.json", 3);
    check(false, "a byte of a file");
    desk.flip("out/a-b/c.json", 3);
    // Inside the payload: the file is JSON still.
    let signature = fs::read(desk.path("out/model.sig")).unwrap();
    let payload = signature.windows(11).position(|word| word == b"\"payload\":\"").unwrap() + 500;
    desk.flip("out/model.sig", payload);
    check(false, "a byte of the signature");
    desk.flip("out/model.sig", payload);
    fs::write(desk.path("out/added"), "").unwrap();
    check(false, "a file that was added");
    fs::remove_file(desk.path("out/added")).unwrap();
    check(true, "as signed, again");
}

#[test]
fn we_accept_what_theirs_sign_and_refuse_it_after_one_byte() {
    let desk = Desk::new();
    desk.their_keys();
    for key in ["p256", "p256-sec1", "p384", "p521"] {
        desk.theirs_sign(&format!("{key}.pem"));
        let public = format!("{key}.pub");
        let (accepted, said) = desk.ours_accept(&public);
        assert!(accepted, "{key}: {said}");
        for (name, at) in [("model.onnx", 0), ("größe 1.txt", 9), ("a/b.json", 2)] {
            desk.flip(&format!("out/{name}"), at);
            let (accepted, said) = desk.ours_accept(&public);
            assert!(
                !accepted && said.contains(name) && said.contains("not the file that was signed"),
                "{said}"
            );
            desk.flip(&format!("out/{name}"), at);
        }
        let (accepted, said) = desk.ours_accept(if key == "p256" { "p384.pub" } else { "p256.pub" });
        assert!(!accepted && said.contains("names the key"), "{said}");
    }
    fs::write(desk.path("out/added"), "").unwrap();
    let (accepted, said) = desk.ours_accept("p521.pub");
    assert!(!accepted && said.contains("\"added\" is in the folder but not in the signature"), "{said}");
}

#[test]
fn we_sign_with_the_keys_they_make_and_say_why_not() {
    let desk = Desk::new();
    desk.their_keys();
    let sign = |key: &str| {
        muster(&["bundle", "oms", "sign", &desk.text("out"), "--key", &desk.text(&format!("{key}.pem"))])
    };
    for key in ["p256", "p256-sec1", "p384", "p521"] {
        let signed = sign(key);
        assert!(signed.status.success(), "{key}: {}", said(&signed));
        let (accepted, said) = desk.theirs_accept(&format!("{key}.pub"));
        assert!(accepted, "{key}: {said}");
    }
    for (key, reason) in [
        ("k256", "P-256"),
        ("ed25519", "P-256"),
        ("encrypted", "is encrypted"),
        ("encrypted-sec1", "is encrypted"),
    ] {
        let refused = sign(key);
        assert!(!refused.status.success() && said(&refused).contains(reason), "{key}: {}", said(&refused));
    }
    for key in ["k256.pub", "ed25519.pub", "p256.pem"] {
        let (accepted, said) = desk.ours_accept(key);
        assert!(!accepted && said.contains("holds no public key"), "{key}: {said}");
    }
}

#[test]
fn a_trainers_output_that_its_team_did_not_sign_is_not_built() {
    let desk = Desk::new();
    desk.their_keys();
    desk.theirs_sign("p256.pem");
    let build = || {
        muster(&[
            "bundle",
            "build",
            "--from",
            &desk.text("out"),
            "--model",
            "er-beds",
            "--version",
            "1",
            "--out",
            &desk.text("bundles/er-1"),
            "--oms-key",
            &desk.text("p256.pub"),
        ])
    };
    // Past the gate it is read as a trainer's output, which it is not.
    let past = said(&build());
    assert!(past.contains("files of \"out\" are signed by key") && past.contains("trainer.json"), "{past}");
    desk.flip("out/model.onnx", 0);
    let refused = build();
    let text = said(&refused);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text.contains("model.onnx") && !text.contains("trainer.json"), "{text}");
    let left = fs::read_dir(desk.path("bundles")).unwrap().count();
    assert_eq!(left, 0, "a copy or half a bundle stayed");
}

#[test]
fn a_bundle_that_its_team_did_not_sign_is_not_added() {
    let desk = Desk::new();
    desk.their_keys();
    fs::remove_dir_all(desk.path("out")).unwrap();
    fs::create_dir(desk.path("out")).unwrap();
    let bundle = Bundle::make("bundles/er-beds/1.json", b"weights");
    fs::write(desk.path("out/manifest.json"), &bundle.manifest).unwrap();
    for (name, bytes) in &bundle.files {
        fs::write(desk.path("out").join(name), bytes).unwrap();
    }
    let add = |more: &[&str]| {
        let (workspace, out) = (desk.text("publisher"), desk.text("out"));
        let key = desk.text("p256.pub");
        let args = ["--workspace", &workspace, "bundle", "add", &out, "--offline", "--oms-key", &key];
        muster(&[&args, more].concat())
    };
    assert!(said(&add(&[])).contains("model.sig could not be read"), "{}", said(&add(&[])));
    desk.theirs_sign("p384.pem");
    assert!(said(&add(&[])).contains("names the key"), "{}", said(&add(&[])));
    desk.theirs_sign("p256.pem");
    fs::write(desk.path("out/notes.txt"), "x").unwrap();
    assert!(said(&add(&[])).contains("notes.txt"), "{}", said(&add(&[])));
    fs::remove_file(desk.path("out/notes.txt")).unwrap();
    assert!(!desk.path("publisher/draft/targets.json").exists(), "a refused bundle is in the draft");
    fs::rename(desk.path("out/model.sig"), desk.path("elsewhere.sig")).unwrap();
    let added = add(&["--oms-signature", &desk.text("elsewhere.sig")]);
    assert!(added.status.success(), "{}", said(&added));
    assert!(desk.path("publisher/draft/targets.json").exists());
}
