//! Other people's TUF: python-tuf's client reads what we publish, and we read what python-tuf's API publishes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use muster_protocol::ids::{BundlePath, Digest};
use muster_protocol::trust::{Files, LookupError, RevocationAction, TrustedSet};
use serde_json::Value;

use crate::desk::Desk;
use crate::publisher::Bundle;
use crate::releases::{office, release};
use crate::server::Server;

/// The interpreter with python-tuf in it.
pub(crate) fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.muster/interop/bin/python");
    assert!(
        python.is_file(),
        "{} is missing: scripts/python-env.sh .muster/interop fleet/tests/interop/requirements.lock",
        python.display()
    );
    python
}

pub(crate) async fn run(script: &str, args: &[&str]) -> Result<Vec<u8>, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(script);
    let mut command = tokio::process::Command::new(python());
    command.arg(script).args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_mins(1), command.output()).await.unwrap().unwrap();
    if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8(output.stderr).unwrap()) }
}

/// Another client of the same repository, with a memory of its own.
struct Mirror {
    work: tempfile::TempDir,
    root: String,
}

impl Mirror {
    fn new(root: &Path) -> Self {
        Self { work: tempfile::tempdir().unwrap(), root: root.display().to_string() }
    }

    /// Refreshes and downloads a bundle's manifest.
    async fn read(&self, place: [&str; 2], target: &str) -> Result<Value, String> {
        let work = self.work.path().display().to_string();
        let args = ["--root", &self.root, "--target", target, "--work", &work, place[0], place[1]];
        run("client.py", &args).await.map(|out| serde_json::from_slice(&out).unwrap())
    }
}

#[tokio::test]
async fn python_tuf_reads_what_we_publish() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let desk = office(dir.path(), &server).await;
    let one = Bundle::make("bundles/er-beds/1.0.json", b"one");
    release(&desk, &one).await;
    let address = format!("{}/tuf", server.fleet.addresses.http);
    let mirror = Mirror::new(&desk.path("metadata/1.root.json"));
    let found = mirror.read(["--url", &address], "bundles/er-beds/1.0.json").await.unwrap();
    assert_eq!(found["sha256"], one.sha256().to_string());
    assert_eq!(found["custom"]["hardware"], serde_json::json!(["x86_64-cpu"]));
    assert_eq!(found["versions"]["root"], 1);
    let absent = mirror.read(["--url", &address], "bundles/er-beds/9.json").await.unwrap();
    assert_eq!(absent["found"], false);

    // Other key holders, another catalogue: the client walks from root to root.
    desk.ok(&["key", "new", "dan", "--no-passphrase"]).await;
    desk.ok(&["root", "edit", "--add-root-key", "dan", "--remove-root-key", "ada"]).await;
    desk.ok(&["root", "sign", "--key", "ada", "--key", "dan"]).await;
    let two = Bundle::make("bundles/er-beds/2.0.json", b"two");
    release(&desk, &two).await;
    let found = mirror.read(["--url", &address], "bundles/er-beds/2.0.json").await.unwrap();
    assert_eq!((&found["versions"]["root"], &found["versions"]["targets"]), (&2.into(), &2.into()));

    let folder = export(&desk, &[&one, &two]).await;
    for mirror in [mirror, Mirror::new(&desk.path("metadata/1.root.json"))] {
        let found = mirror.read(["--serve", &folder], "bundles/er-beds/2.0.json").await.unwrap();
        assert_eq!(found["sha256"], two.sha256().to_string());
    }
    tampered(&desk, &folder, &two).await;
    server.stop().await;
}

/// The export holds all that the bundles consist of, and is brought up to date in place.
async fn export(desk: &Desk, bundles: &[&Bundle]) -> String {
    let folder = desk.text("mirror");
    desk.ok(&["release", "export", &folder]).await;
    desk.ok(&["release", "export", &folder]).await;
    for bundle in bundles {
        for bytes in bundle.files.values() {
            let digest = Digest::of(bytes);
            assert_eq!(std::fs::read(desk.path("mirror/blobs").join(digest.to_string())).unwrap(), *bytes);
        }
    }
    folder
}

/// Whatever is changed on the mirror, the client refuses.
async fn tampered(desk: &Desk, folder: &str, bundle: &Bundle) {
    let targets = format!("targets/bundles/er-beds/{}.2.0.json", bundle.sha256());
    for name in ["metadata/2.root.json", "metadata/timestamp.json", "metadata/2.targets.json", &targets] {
        let path = Path::new(folder).join(name);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        // Inside a value: a space between two fields would be no change of what is signed.
        let at =
            bad.windows(2).rposition(|pair| pair[0].is_ascii_digit() && pair[1].is_ascii_digit()).unwrap();
        bad[at] = if bad[at] == b'7' { b'8' } else { b'7' };
        std::fs::write(&path, &bad).unwrap();
        let mirror = Mirror::new(&desk.path("metadata/1.root.json"));
        let refused = mirror.read(["--serve", folder], "bundles/er-beds/2.0.json").await;
        assert!(refused.is_err(), "{name}: {refused:?}");
        std::fs::write(&path, &good).unwrap();
    }
}

#[tokio::test]
async fn we_read_what_python_tuf_publishes() {
    let dir = tempfile::tempdir().unwrap();
    run("publisher.py", &[&dir.path().display().to_string()]).await.unwrap();
    let file = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    let names = ["2.root.json", "timestamp.json", "snapshot.json", "targets.json", "radiology.json"];
    let files: Files = names.iter().map(|name| ((*name).to_owned(), file(name))).collect();
    let now = "2026-11-24T02:00:00Z".parse().unwrap();
    let mut device = TrustedSet::from_root(&file("1.root.json")).unwrap();
    device.refresh(&files, now).unwrap();
    assert_eq!((device.versions().root, device.versions().targets), (2, Some(3)));
    assert_eq!(device.versions().delegated["radiology"], 5);
    for (path, manifest) in [("bundles/er-beds/1.json", "own"), ("bundles/radiology/1.json", "theirs")] {
        let target = device.lookup(&path.parse().unwrap(), now).unwrap();
        assert_eq!(target.sha256, Digest::of(&file(manifest)), "{path}");
    }
    let absent: BundlePath = "bundles/radiology/2.json".parse().unwrap();
    assert!(matches!(device.lookup(&absent, now), Err(LookupError::Absent { .. })));
    let revoked: BundlePath = "bundles/er-beds/0.json".parse().unwrap();
    assert_eq!(device.revocations()[&revoked].action, RevocationAction::Stop);

    // And not what somebody changed.
    for name in names {
        let mut device = TrustedSet::from_root(&file("1.root.json")).unwrap();
        let mut changed = files.clone();
        let bytes = changed.get_mut(name).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replace("2126-", "2127-").into_bytes();
        assert_ne!(*bytes, files[name], "{name}");
        let refused = device.refresh(&changed, now);
        let held = name == "radiology.json" && device.unusable().contains_key(name);
        assert!(refused.is_err() || held, "{name}: {refused:?}");
    }
}
