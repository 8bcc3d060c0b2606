//! The builder against the contract: one run from claim to end, and every way a trainer can fail it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_fleet::builder::config::Config;
use muster_fleet::builder::heartbeat::Stopped;
use muster_fleet::builder::worker::{RunEnd, Worker};
use muster_fleet::client::Finish;
use muster_fleet::dataset::Source;
use muster_fleet::table::Survey;
use muster_protocol::ids::RunId;
use muster_protocol::time::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::fake_fleet::FakeFleet;
use crate::onnx;
use crate::publishing::{Publisher, agent, runtime};

const COPY: &str = "echo progress 0.5 fitting; echo working; cp -r \"$MUSTER_DATA\"/. \"$MUSTER_OUT\"/";

pub(crate) fn run_id() -> RunId {
    RunId::mint([7; 16])
}

fn now() -> Timestamp {
    "2026-11-24T02:03:04Z".parse().unwrap()
}

pub(crate) struct Bench {
    pub(crate) fleet: FakeFleet,
    pub(crate) publisher: Publisher,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let fleet = FakeFleet::start().await;
        let publisher = Publisher::start(&fleet).await;
        let bench = Self { fleet, publisher };
        bench.fleet.with(|asked| asked.claim = Some(Bench::claim()));
        bench
    }

    fn claim() -> serde_json::Value {
        let request = json!({"schema": "muster-run/1", "run": run_id(), "model": "er",
            "trigger": {"id": "trg-00000000000000000000000001", "kind": "manual"}});
        json!({"run": {"id": run_id(), "model": "er"}, "request": request, "champion": null})
    }

    /// Work on a dataset that ends before a model is asked.
    async fn train_on(&self, script: &str, dataset: &str) -> RunEnd {
        let path = self.config(script, 60, Path::new("/no/agent"), Path::new("/"));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}datasets = ['{dataset}']\n")).unwrap();
        self.run(&path).await
    }

    /// Builds a bundle of these weights, puts it on the fleet and makes it the champion.
    pub(crate) async fn champion(&self, weights: [f32; 2]) {
        let (from, out) = (self.publisher.path("champion-trained"), self.publisher.path("champion"));
        onnx::trainer_output(&from, &onnx::logistic(weights, 0.0));
        let digest = self.publisher.build(&from, &out, &[]).await.unwrap();
        self.publisher.muster(&self.fleet, &["bundle", "push", out.to_str().unwrap()]).await.unwrap();
        let champion = json!({"path": "bundles/er/1.json", "sha256": digest.trim()});
        self.fleet.with(|asked| asked.claim.as_mut().unwrap()["champion"] = champion);
    }

    fn data(&self) -> PathBuf {
        self.publisher.path("data")
    }

    fn config(&self, script: &str, timeout_s: u64, agent: &Path, runtime: &Path) -> PathBuf {
        let trainer = format!("command = ['sh', '-c', '''{script}''']\ntimeout_s = {timeout_s}\n");
        self.write_config(&trainer, "", agent, runtime)
    }

    fn write_config(&self, trainer: &str, more: &str, agent: &Path, runtime: &Path) -> PathBuf {
        let path = self.publisher.path("builder.toml");
        let text = format!(
            "name = 'b1'\nfleet = '{}'\nwork_dir = 'work'\nkey = 'keys/builder.key'\nroot = 'metadata/root.json'\n\
             agent = '{}'\nruntime = '{}'\npoll_s = 0.05\n{more}\n[[models]]\nmodel = 'er'\ndata = 'data'\n{trainer}",
            self.fleet.url,
            agent.display(),
            runtime.display()
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn work(&self, script: &str, timeout_s: u64, agent: &Path, runtime: &Path) -> RunEnd {
        self.run(&self.config(script, timeout_s, agent, runtime)).await
    }

    /// Work by a trainer elsewhere: lines of the model's part of the configuration, and lines before it.
    pub(crate) async fn work_elsewhere(&self, trainer: &str, more: &str) -> RunEnd {
        self.run(&self.write_config(trainer, more, &agent(), &runtime())).await
    }

    async fn run(&self, config: &Path) -> RunEnd {
        let config = Config::read(config).unwrap();
        let worker = Worker::new(config, now).unwrap().heartbeat_every(Duration::from_millis(50));
        let one = CancellationToken::new();
        tokio::time::timeout(Duration::from_mins(2), worker.one(&one)).await.unwrap().unwrap().unwrap()
    }

    /// Work that never gets as far as asking a model.
    async fn fail(&self, script: &str, timeout_s: u64) -> RunEnd {
        self.work(script, timeout_s, Path::new("/no/agent"), Path::new("/")).await
    }

    fn kept(&self) -> bool {
        self.publisher.path("work/failed").join(run_id().as_str()).is_dir()
    }
}

pub(crate) fn failure(end: &RunEnd) -> (&str, &str) {
    match end {
        RunEnd::Finished(Finish::Failed { code, sentence } | Finish::Rejected { code, sentence, .. }) => {
            (code, sentence)
        }
        RunEnd::Finished(_) | RunEnd::Stopped(_) => panic!("{end:?}"),
    }
}

#[tokio::test]
async fn a_better_model_is_signed_and_published() {
    let bench = Bench::start().await;
    bench.champion([-1.0, 2.0]).await;
    onnx::trainer_output(&bench.data(), &onnx::logistic([4.0, -2.0], 0.0));
    let end = bench.work(COPY, 60, &agent(), &runtime()).await;
    let RunEnd::Finished(Finish::Published { bundle, evaluation, .. }) = &end else { panic!("{end:?}") };
    assert!(bundle.path.to_string().starts_with("bundles/er/auto/20261124.020304-"), "{}", bundle.path);
    assert!(evaluation["sets"][1]["challenger"].as_f64() < evaluation["sets"][1]["champion"].as_f64());
    bench.fleet.with(|asked| {
        assert!(asked.blobs.contains_key(&bundle.sha256.to_string()), "the manifest is a blob too");
        let auto: serde_json::Value = serde_json::from_slice(&asked.trust["auto-er.json"]).unwrap();
        let listed = &auto["signed"]["targets"][bundle.path.to_string()]["hashes"]["sha256"];
        assert_eq!(listed, &json!(bundle.sha256));
        let finished = asked.finished.as_ref().unwrap();
        assert_eq!(finished["builder"], "b1");
        assert_eq!(finished["outcome"]["published"]["bundle"]["sha256"], json!(bundle.sha256));
        let log: Vec<_> =
            asked.heartbeats.iter().flat_map(|beat| beat["log"].as_array().unwrap().clone()).collect();
        assert!(log.contains(&json!("working")), "{log:?}");
        let manifest: serde_json::Value =
            serde_json::from_slice(&asked.blobs[&bundle.sha256.to_string()]).unwrap();
        assert_eq!(manifest["lineage"]["run"], json!(run_id()));
        assert_eq!(manifest["lineage"]["trigger"], "trg-00000000000000000000000001");
    });
    assert!(!bench.kept() && !bench.publisher.path("work/runs").join(run_id().as_str()).exists());
}

#[tokio::test]
async fn a_worse_model_is_rejected_and_nothing_is_published() {
    let bench = Bench::start().await;
    bench.champion([4.0, -2.0]).await;
    onnx::trainer_output(&bench.data(), &onnx::logistic([-1.0, 2.0], 0.0));
    let end = bench.work(COPY, 60, &agent(), &runtime()).await;
    assert_eq!(failure(&end).0, "worse_on_recent", "{end:?}");
    bench.fleet.with(|asked| {
        assert!(!asked.trust.contains_key("auto-er.json"));
        assert_eq!(asked.finished.as_ref().unwrap()["outcome"]["rejected"]["code"], "worse_on_recent");
    });
    assert!(bench.kept());
}

#[tokio::test]
async fn a_file_that_is_no_model_fails_the_run() {
    let bench = Bench::start().await;
    onnx::trainer_output(&bench.data(), b"garbage");
    let end = bench.work(COPY, 60, &agent(), &runtime()).await;
    assert_eq!(failure(&end).0, "model_invalid", "{end:?}");
}

#[tokio::test]
async fn each_failure_of_a_trainer_has_its_code() {
    for (script, timeout_s, code, says) in [
        ("echo no data >&2; exit 1", 60, "trainer_exit", "exited with 1; it said: no data"),
        ("sleep 600", 1, "trainer_timeout", "did not finish within 1 s"),
        ("true", 60, "output_missing", "trainer.json: is missing"),
        (
            "head -c 4096 /dev/urandom > \"$MUSTER_OUT\"/trainer.json",
            60,
            "output_invalid",
            "trainer.json: is not JSON",
        ),
    ] {
        let bench = Bench::start().await;
        let end = bench.fail(script, timeout_s).await;
        let (found, sentence) = failure(&end);
        assert_eq!(found, code, "{sentence}");
        assert!(sentence.contains(says), "{sentence}");
        bench
            .fleet
            .with(|asked| assert_eq!(asked.finished.as_ref().unwrap()["outcome"]["failed"]["code"], code));
        assert!(bench.kept());
    }
}

#[tokio::test]
async fn a_lost_lease_or_a_cancelled_run_stops_the_trainer_and_says_nothing() {
    for (status, body, expect) in [
        (409, json!({"detail": "somebody else's"}), Stopped::LeaseLost),
        (200, json!({"cancel": true}), Stopped::Cancelled),
    ] {
        let bench = Bench::start().await;
        bench.fleet.with(|asked| asked.heartbeat = Some((status, body)));
        assert_eq!(bench.fail("sleep 600", 600).await, RunEnd::Stopped(expect));
        bench.fleet.with(|asked| assert_eq!(asked.finished, None));
    }
}

#[tokio::test]
async fn sigterm_ends_the_builder_with_its_children() {
    let bench = Bench::start().await;
    let pid_file = bench.publisher.path("pid");
    let script = format!("sleep 600 & echo $! > {}; wait", pid_file.display());
    let config = bench.config(&script, 600, Path::new("/no/agent"), Path::new("/"));
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(["builder", "run", "--config"]).arg(config).stderr(std::process::Stdio::null());
    let mut builder = command.kill_on_drop(true).spawn().unwrap();
    let sleeper = until(|| std::fs::read_to_string(&pid_file).ok().filter(|text| text.ends_with('\n'))).await;
    let stat = format!("/proc/{}/stat", sleeper.trim());
    assert!(Path::new(&stat).exists());
    let pid = builder.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let status = tokio::time::timeout(Duration::from_secs(30), builder.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    until(|| std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")).then_some(())).await;
}

/// Asks again until there is an answer; the deadline fails the test.
async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), asking).await.expect("it never came")
}

#[tokio::test]
async fn a_run_is_trained_on_versions_that_are_what_their_digests_say() {
    let bench = Bench::start().await;
    let table = bench.publisher.path("beds.parquet");
    crate::datasets::beds(&table, 50, 0.0);
    let bytes = std::fs::read(&table).unwrap();
    let survey = Survey {
        files: vec![(table, "beds.parquet".to_owned())],
        time_column: None,
        rules: Vec::new(),
        source: Source::Files,
    };
    let manifest = survey.run(&mut |_| ()).unwrap().manifest;
    let (digest, file) = (manifest.digest().unwrap(), manifest.files[0].sha256);
    let version = json!({"name": "er-beds", "number": 4, "sha256": digest, "manifest": manifest});
    bench.fleet.answer("GET /api/v1/datasets/er-beds/versions/latest", 200, version);
    bench.fleet.answer(&format!("POST /api/v1/runs/{}/datasets", run_id()), 200, json!({"items": []}));
    bench.fleet.with(|asked| asked.blobs.insert(file.to_string(), bytes.clone().into()));

    // The trainer is told where they are, and the fleet before it that they are used.
    let script = r#"grep -o '"path": "[^"]*"' "$MUSTER_REQUEST"; cat "$(dirname "$MUSTER_OUT")"/../../datasets/*/beds.parquet | wc -c; exit 3"#;
    bench.fleet.with(|asked| asked.claim = Some(Bench::claim()));
    let end = bench.train_on(script, "er-beds").await;
    assert_eq!(failure(&end).0, "trainer_exit", "{end:?}");
    bench.fleet.with(|asked| {
        let log: Vec<String> = asked
            .heartbeats
            .iter()
            .flat_map(|beat| beat["log"].as_array().unwrap().clone())
            .map(|line| line.to_string())
            .collect();
        assert!(log.iter().any(|line| line.contains(&digest.to_string())), "{log:?}");
        assert!(log.iter().any(|line| line.contains(&bytes.len().to_string())), "{log:?}");
        let (_, _, _, said) = asked.requests.iter().find(|request| request.1.ends_with("/datasets")).unwrap();
        assert_eq!(*said, json!({"builder": "b1", "datasets": [{"name": "er-beds", "sha256": digest}]}));
    });

    // A file that somebody changed in the builder's folder is noticed before anything is trained.
    let kept = bench.publisher.path("work/datasets").join(digest.to_string()).join("beds.parquet");
    std::fs::write(&kept, b"other rows").unwrap();
    bench.fleet.with(|asked| asked.claim = Some(Bench::claim()));
    let end = bench.train_on("touch trained", "er-beds").await;
    assert_eq!(failure(&end).0, "dataset_digest", "{end:?}");

    // And so is one that came altered.
    std::fs::remove_file(&kept).unwrap();
    bench.fleet.with(|asked| asked.blobs.insert(file.to_string(), vec![0; bytes.len()].into()));
    bench.fleet.with(|asked| asked.claim = Some(Bench::claim()));
    let end = bench.train_on("touch trained", "er-beds").await;
    assert_eq!(failure(&end).0, "dataset_digest", "{end:?}");
    assert!(!kept.exists() && !bench.publisher.path("trained").exists());
}
