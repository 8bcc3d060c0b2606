//! The publisher's way: keys, a root, a bundle built by the real agent, a signed catalogue on the server.

use std::path::{Path, PathBuf};

use muster_protocol::manifest::{Manifest, ReferenceFile};
use serde_json::{Value, json};

use crate::fake_fleet::FakeFleet;
use crate::onnx;

/// A publisher's folder and what it was made for.
pub(crate) struct Publisher {
    pub folder: tempfile::TempDir,
}

impl Publisher {
    /// Keys, a root that delegates `er` to the key `builder`, and an empty catalogue, uploaded.
    pub(crate) async fn start(fleet: &FakeFleet) -> Self {
        let publisher = Self { folder: tempfile::tempdir().unwrap() };
        for name in ["root", "targets", "builder", "online", "order"] {
            publisher.muster(fleet, &["key", "new", name, "--no-passphrase"]).await.unwrap();
        }
        let root = [
            "root",
            "new",
            "--root-key",
            "root",
            "--targets-key",
            "targets",
            "--online",
            "online",
            "--order",
            "order",
            "--delegate",
            "er=builder",
        ];
        publisher.muster(fleet, &root).await.unwrap();
        publisher.muster(fleet, &["root", "sign", "--key", "root"]).await.unwrap();
        publisher.muster(fleet, &["release", "publish", "--key", "targets"]).await.unwrap();
        publisher
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Stdout, or else stderr.
    pub(crate) async fn muster(&self, fleet: &FakeFleet, args: &[&str]) -> Result<String, String> {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_muster"));
        command.args(["--server", &fleet.url, "--workspace"]).arg(self.folder.path()).args(args);
        let output = command.stdin(std::process::Stdio::null()).kill_on_drop(true).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// Builds with the real agent; stdout is the digest.
    pub(crate) async fn build(&self, from: &Path, out: &Path, more: &[&str]) -> Result<String, String> {
        let (agent, runtime) = (agent(), runtime());
        let mut args =
            vec!["bundle", "build", "--model", "er", "--version", "1", "--from", from.to_str().unwrap()];
        args.extend(["--out", out.to_str().unwrap(), "--created", "2026-11-24T00:00:00Z"]);
        args.extend(["--agent", agent.to_str().unwrap(), "--runtime", runtime.to_str().unwrap()]);
        args.extend(more);
        self.muster(&FakeFleet::start().await, &args).await
    }
}

/// Built beside the program under test.
pub(crate) fn agent() -> PathBuf {
    let agent = Path::new(env!("CARGO_BIN_EXE_muster")).with_file_name("muster-agent");
    assert!(agent.is_file(), "{} is missing: cargo build -p muster-agent", agent.display());
    agent
}

pub(crate) fn runtime() -> PathBuf {
    let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.muster/runtime");
    assert!(runtime.is_dir(), "{} is missing: scripts/get-runtime.sh .muster/runtime", runtime.display());
    runtime.canonicalize().unwrap()
}

#[tokio::test]
async fn a_bundle_is_built_added_and_published() {
    let fleet = FakeFleet::start().await;
    let publisher = Publisher::start(&fleet).await;
    let (from, out) = (publisher.path("trained"), publisher.path("bundle"));
    onnx::trainer_output(&from, &onnx::logistic([4.0, -2.0], 0.0));
    let digest = publisher.build(&from, &out, &[]).await.unwrap();

    // The same input makes the same bytes.
    let again = publisher.path("again");
    assert_eq!(publisher.build(&from, &again, &[]).await.unwrap(), digest);
    let bytes = std::fs::read(out.join("manifest.json")).unwrap();
    assert_eq!(std::fs::read(again.join("manifest.json")).unwrap(), bytes);

    let manifest = Manifest::parse(&bytes).unwrap();
    let names = manifest.monitoring.streams.iter().map(|stream| &stream.name);
    ReferenceFile::parse(&std::fs::read(out.join("reference.json")).unwrap(), names).unwrap();
    let golden: Value =
        serde_json::from_slice(&std::fs::read(out.join("golden/response.json")).unwrap()).unwrap();
    let score = golden["outputs"][0]["data"][0].as_f64().unwrap();
    // Row 0: a = -1, b = -1, so the logit is 4 * -1 - 2 * -1 = -2.
    assert!((score - 1.0 / (1.0 + 2.0_f64.exp())).abs() < 1e-4, "{score}");
    let evaluation = manifest.evaluation.unwrap();
    assert!(evaluation.sets.iter().all(|set| set.challenger < 0.6 && set.rows == 300), "{evaluation:?}");
    let figures: Value =
        serde_json::from_slice(&std::fs::read(out.join("evaluation.json")).unwrap()).unwrap();
    assert!(figures["recent"]["challenger"]["auc"].as_f64().unwrap() > 0.8);
    assert_eq!(figures["claimed_by_trainer"], json!({"claimed": "perfect"}));

    let path = publisher.muster(&fleet, &["bundle", "add", out.to_str().unwrap()]).await.unwrap();
    assert_eq!(path, "bundles/er/1.json\n");
    publisher.muster(&fleet, &["release", "publish", "--key", "targets"]).await.unwrap();
    fleet.with(|asked| {
        assert_eq!(asked.blobs.len(), manifest.files.len() + 1);
        assert_eq!(asked.trust.keys().collect::<Vec<_>>(), ["1.root.json", "targets.json"]);
        let targets: Value = serde_json::from_slice(&asked.trust["targets.json"]).unwrap();
        assert_eq!(targets["signed"]["targets"]["bundles/er/1.json"]["hashes"]["sha256"], digest.trim());
    });
}

#[tokio::test]
async fn a_champion_is_scored_on_the_same_rows() {
    let fleet = FakeFleet::start().await;
    let publisher = Publisher { folder: tempfile::tempdir().unwrap() };
    let (worse, better) = (publisher.path("worse"), publisher.path("better"));
    onnx::trainer_output(&worse, &onnx::logistic([-1.0, 2.0], 0.0));
    onnx::trainer_output(&better, &onnx::logistic([4.0, -2.0], 0.0));
    let champion = publisher.path("champion");
    publisher.build(&worse, &champion, &["--pane-s", "3600"]).await.unwrap();
    let manifest_path = champion.join("manifest.json");
    let out = publisher.path("bundle");
    publisher.build(&better, &out, &["--champion", manifest_path.to_str().unwrap()]).await.unwrap();
    let manifest = Manifest::parse(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest.monitoring.pane_s, 3600, "the champion's");
    let sets = manifest.evaluation.unwrap().sets;
    assert!(sets.iter().all(|set| set.champion.unwrap() > set.challenger + 0.2), "{sets:?}");
    drop(fleet);
}

#[tokio::test]
async fn what_is_no_model_is_refused_by_name() {
    let publisher = Publisher { folder: tempfile::tempdir().unwrap() };
    let check = async |name: &str, model: &[u8], expect: &str| {
        let from = publisher.path(name);
        onnx::trainer_output(&from, model);
        let out = publisher.path(&format!("{name}-bundle"));
        let error = publisher.build(&from, &out, &[]).await.unwrap_err();
        assert!(error.contains(expect), "{error}");
        assert!(!out.exists(), "nothing is left of a bundle that failed");
    };
    check("garbage", b"this is not a model", "the challenger could not be asked: the model cannot be run")
        .await;
    check("nan", &onnx::logistic([f32::NAN, 0.0], 0.0), "score").await;
}
