//! A real `MLflow`: what we publish becomes a version in it, and a version in it becomes a signed bundle.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use muster_fleet::builder::worker::RunEnd;
use muster_fleet::client::Finish;
use muster_fleet::config::{MlflowConfig, Registered};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::foreign::{Program, port, python};
use super::whole::Whole;
use crate::builder::{Bench, failure, run_id};
use crate::onnx;

const SECRET: &str = "a secret that both sides know";

struct MlFlow {
    url: String,
    http: reqwest::Client,
    _program: Program,
    _folder: TempDir,
}

impl MlFlow {
    async fn start() -> Self {
        // As a program of ours does that has begun; the error says that somebody was faster.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let port = port().to_string();
        let mut command = Command::new(python("mlflow", "mlflow"));
        command.args(["-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1", "--port", &port]);
        command.args(["--backend-store-uri", &format!("sqlite:///{}", path("mlflow.db"))]);
        command.args(["--artifacts-destination", &path("artifacts")]);
        command.env("MLFLOW_DISABLE_TELEMETRY", "true").env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false");
        // Our server is on this machine and speaks HTTP; elsewhere MLflow wants HTTPS and a public address.
        command
            .env("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http,https")
            .env("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true");
        command.env("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", "bXVzdGVyIHRlc3RzIG5lZWQgMzIgYnl0ZXMgb2Yga2U=");
        // How long it remembers who wants to hear, in seconds: one that was made just now must not be missed.
        command.env("MLFLOW_WEBHOOK_CACHE_TTL", "0");
        let mut program = Program::start("mlflow", &mut command, folder.path());
        let (url, http) = (format!("http://127.0.0.1:{port}"), reqwest::Client::new());
        program
            .until("MLflow answers", async || http.get(format!("{url}/health")).send().await.ok().map(drop))
            .await;
        Self { url, http, _program: program, _folder: folder }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let answer =
            self.http.get(format!("{}/api/2.0/mlflow/{path}", self.url)).query(query).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let answer =
            self.http.post(format!("{}/api/2.0/mlflow/{path}", self.url)).json(body).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    fn artifact(&self, path: &str) -> String {
        format!("{}/api/2.0/mlflow-artifacts/artifacts/{path}", self.url)
    }

    /// A version that somebody else registered: these files, and what `MLflow`'s own library puts beside them.
    async fn register(&self, name: &str, folder: &Path) {
        let run = self.post("runs/create", &json!({"experiment_id": "0"})).await;
        let run = run["run"]["info"]["run_id"].as_str().unwrap().to_owned();
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let file = entry.file_name().into_string().unwrap();
            let url = self.artifact(&format!("0/{run}/artifacts/out/{file}"));
            let body = std::fs::read(entry.path()).unwrap();
            assert!(self.http.put(url).body(body).send().await.unwrap().status().is_success());
        }
        for own in ["MLmodel", "python_model.pkl"] {
            let url = self.artifact(&format!("0/{run}/artifacts/out/{own}"));
            assert!(self.http.put(url).body("cos\nsystem").send().await.unwrap().status().is_success());
        }
        self.post("registered-models/create", &json!({"name": name})).await;
        let source = format!("mlflow-artifacts:/0/{run}/artifacts/out");
        self.post("model-versions/create", &json!({"name": name, "source": source, "run_id": run})).await;
    }
}

#[tokio::test]
async fn mlflow_reads_what_we_publish_and_we_publish_what_it_registers() {
    let mlflow = MlFlow::start().await;

    // Out: a training here is a run there, and its bundle a version.
    let bench = Bench::start().await;
    bench.champion([-1.0, 2.0]).await;
    let trained = bench.publisher.path("data");
    onnx::trainer_output(&trained, &onnx::logistic([4.0, -2.0], 0.0));
    let book = format!("[mlflow]\nurl = '{}'\nexperiment = 'wards'", mlflow.url);
    let copy = "command = ['sh', '-c', 'cp -r \"$MUSTER_DATA\"/. \"$MUSTER_OUT\"/']\n";
    let end = bench.work_elsewhere(copy, &book).await;
    let RunEnd::Finished(Finish::Published { bundle, .. }) = &end else { panic!("{end:?}") };
    let digest = bundle.sha256.to_string();
    let version = mlflow.get("registered-models/alias", &[("name", "er"), ("alias", "challenger")]).await;
    let version = &version["model_version"];
    let has = |tags: &Value, key: &str, value: &str| {
        tags.as_array().unwrap().iter().any(|tag| tag["key"] == key && tag["value"] == value)
    };
    assert!(has(&version["tags"], "muster.bundle_digest", &digest), "{version}");
    let run = mlflow.get("runs/get", &[("run_id", version["run_id"].as_str().unwrap())]).await;
    let (info, data) = (&run["run"]["info"], &run["run"]["data"]);
    assert_eq!(info["status"], "FINISHED");
    assert!(has(&data["tags"], "muster.run_id", run_id().as_str()));
    assert!(has(&data["tags"], "muster.trigger_id", "trg-00000000000000000000000001"));
    assert!(!data["metrics"].as_array().unwrap().is_empty());
    let (experiment, id) = (info["experiment_id"].as_str().unwrap(), info["run_id"].as_str().unwrap());
    let url = mlflow.artifact(&format!("{experiment}/{id}/artifacts/bundle/manifest.json"));
    let manifest = mlflow.http.get(url).send().await.unwrap().bytes().await.unwrap();
    bench.fleet.with(|asked| assert_eq!(manifest, asked.blobs[&digest]));

    // In: what somebody registered there is fetched, held to the champion, and signed here.
    let bench = Bench::start().await;
    bench.champion([-1.0, 2.0]).await;
    mlflow.register("er-candidates", &trained).await;
    let trainer =
        format!("[models.trainer]\nkind = 'mlflow'\nurl = '{}'\nname = 'er-candidates'\n", mlflow.url);
    let end = bench.work_elsewhere(&trainer, "").await;
    assert!(matches!(end, RunEnd::Finished(Finish::Published { .. })), "{end:?}");

    // A model that is not there, and one whose files no trainer writes.
    let bench = Bench::start().await;
    let end = bench.work_elsewhere(&trainer.replace("er-candidates", "nobody"), "").await;
    assert_eq!(failure(&end).0, "tool_refused", "{end:?}");
    let empty = tempfile::tempdir().unwrap();
    mlflow.register("pickles", empty.path()).await;
    let bench = Bench::start().await;
    let end = bench.work_elsewhere(&trainer.replace("er-candidates", "pickles"), "").await;
    assert!(failure(&end).1.contains("no file that a trainer writes"), "{end:?}");

    a_new_version_asks_for_its_own_training(&mlflow).await;
}

/// The whole loop: `MLflow` tells a real fleet of a version, signed; a builder fetches that one, and it becomes a bundle.
async fn a_new_version_asks_for_its_own_training(mlflow: &MlFlow) {
    let whole = Whole::start(|config| {
        let secret_file = config.data.with_file_name("secret");
        std::fs::write(&secret_file, SECRET).unwrap();
        let registered = Registered { name: "wards".to_owned(), model: "er".parse().unwrap(), alias: None };
        config.mlflow = Some(MlflowConfig { secret_file, models: vec![registered] });
    })
    .await;
    let event = json!({"entity": "MODEL_VERSION", "action": "CREATED"});
    let hook = json!({"name": "muster", "url": whole.url("/api/v1/hooks/mlflow"), "secret": SECRET,
        "status": "ACTIVE", "events": [event]});
    mlflow.post("webhooks", &hook).await;
    mlflow.register("wards", &whole.trained()).await;
    let looking = async {
        loop {
            let runs = whole.see("/api/v1/runs").await;
            if let Some(run) = runs["items"][0]["id"].as_str() {
                return run.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let run = tokio::time::timeout(Duration::from_mins(1), looking).await.expect("MLflow said nothing");
    let trainer = format!("[models.trainer]\nkind = 'mlflow'\nurl = '{}'\nname = 'wards'\n", mlflow.url);
    let done = whole.build(&run, &trainer).await;
    whole.assert_succeeded(&done).await;
    assert_eq!(done["trigger"]["kind"], "registry", "{done:#}");
    assert_eq!(done["trigger"]["reason"], "version 1 of 'wards' in MLflow");
    whole.stop().await;
}
