//! A real `MLflow`: what we publish becomes a version in it, and a version in it becomes a signed bundle.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use muster_fleet::builder::worker::RunEnd;
use muster_fleet::client::Finish;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::builder::{Bench, failure, run_id};
use crate::onnx;

/// A server takes half a minute to come up, and longer where everything else is being tested too.
const UP_WITHIN: Duration = Duration::from_mins(2);

fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.muster/mlflow/bin/python");
    assert!(
        python.is_file(),
        "{} is missing: scripts/python-env.sh .muster/mlflow fleet/tests/interop/mlflow-requirements.lock",
        python.display()
    );
    python
}

struct MlFlow {
    url: String,
    server: Child,
    http: reqwest::Client,
    _folder: TempDir,
}

impl MlFlow {
    async fn start() -> Self {
        // As a program of ours does that has begun; the error says that somebody was faster.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let server = Command::new(python())
            .args([
                "-m",
                "mlflow",
                "server",
                "--host",
                "127.0.0.1",
                "--workers",
                "1",
                "--port",
                &port.to_string(),
            ])
            .args(["--backend-store-uri", &format!("sqlite:///{}", path("mlflow.db"))])
            .args(["--artifacts-destination", &path("artifacts")])
            .env("MLFLOW_DISABLE_TELEMETRY", "true")
            .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its workers are ended with it.
            .process_group(0)
            .spawn()
            .unwrap();
        let mlflow = Self {
            url: format!("http://127.0.0.1:{port}"),
            server,
            http: reqwest::Client::new(),
            _folder: folder,
        };
        let up = async {
            while mlflow.http.get(format!("{}/health", mlflow.url)).send().await.is_err() {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        };
        tokio::time::timeout(UP_WITHIN, up).await.expect("MLflow did not come up");
        mlflow
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

impl Drop for MlFlow {
    fn drop(&mut self) {
        let group = format!("-{}", self.server.id());
        Command::new("kill").args(["-KILL", "--", &group]).status().ok();
        self.server.wait().ok();
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
}
