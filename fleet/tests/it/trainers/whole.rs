//! The whole loop around a trainer that is somebody else's: a real server with a signed catalogue, a policy, a run that
//! somebody asks for, a real builder, and the real agent that measures what came back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_fleet::builder::config::Config as BuilderConfig;
use muster_fleet::builder::worker::Worker;
use muster_fleet::config::Config;
use muster_protocol::time::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::onnx;
use crate::publishing::{agent, runtime};
use crate::server::{Server, config};

/// Longest time from a claim to a run's end, on a machine that tests everything else too.
const RUN_WITHIN: Duration = Duration::from_mins(3);

pub(super) struct Whole {
    pub(super) server: Server,
    http: reqwest::Client,
    folder: tempfile::TempDir,
}

impl Whole {
    /// A server with a champion that a good training beats.
    pub(super) async fn start(edit: impl FnOnce(&mut Config)) -> Self {
        // As a program of ours does that has begun; the error says that somebody was faster.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&folder.path().join("fleet"));
        edit(&mut config);
        let server = Server::start_with(config).await;
        let whole = Self { server, http: reqwest::Client::new(), folder };
        whole.trust().await;
        whole.champion().await;
        let policy = json!({"model": "er", "enabled": true, "trigger": {"drift": {"share_of_streams": 0.2}},
            "cooldown_s": 3600, "min_data_s": 0, "max_runs_per_week": 100, "rollout": {"automatic": false}});
        let url = whole.url("/api/v1/policies/er");
        assert!(whole.http.put(url).json(&policy).send().await.unwrap().status().is_success());
        whole
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.fleet.addresses.http)
    }

    /// A trainer's output that is better than the champion, in a folder of its own.
    pub(super) fn trained(&self) -> PathBuf {
        let folder = self.path("trained");
        onnx::trainer_output(&folder, &onnx::logistic([4.0, -2.0], 0.0));
        folder
    }

    async fn trust(&self) {
        for name in ["root", "targets", "builder"] {
            self.muster(&["key", "new", name, "--no-passphrase"]).await;
        }
        let data = self.path("fleet");
        let file = |name: &str| data.join(name).display().to_string();
        let (online, order, tls) =
            (file("keys/online.pub"), file("keys/order.pub"), file("pki/server-ca.pem"));
        let new = ["root", "new", "--root-key", "root", "--targets-key", "targets", "--online", &online];
        self.muster(
            &[&new[..], &["--order", &order, "--tls-root", &tls, "--delegate", "er=builder"]].concat(),
        )
        .await;
        self.muster(&["root", "sign", "--key", "root"]).await;
        self.muster(&["release", "publish", "--key", "targets"]).await;
    }

    async fn champion(&self) {
        let (from, out) = (self.path("champion-trained"), self.path("champion"));
        onnx::trainer_output(&from, &onnx::logistic([-1.0, 2.0], 0.0));
        let text = |path: &Path| path.display().to_string();
        let (from, bundle, agent, runtime) = (text(&from), text(&out), text(&agent()), text(&runtime()));
        let build = ["bundle", "build", "--model", "er", "--version", "1", "--from", &from, "--out", &bundle];
        self.muster(&[&build[..], &["--agent", &agent, "--runtime", &runtime]].concat()).await;
        self.muster(&["bundle", "add", &bundle]).await;
        self.muster(&["release", "publish", "--key", "targets"]).await;
    }

    async fn muster(&self, args: &[&str]) -> String {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_muster"));
        command.args(["--server", &self.server.fleet.addresses.http, "--workspace"]);
        command.arg(self.path("publisher")).args(args).stdin(std::process::Stdio::null());
        let output = command.kill_on_drop(true).output().await.unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Somebody wants the model trained again; the run's id.
    pub(super) async fn ask(&self) -> String {
        let body = json!({"model": "er", "reason": "to see it done"});
        let answer = self.http.post(self.url("/api/v1/runs")).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// A builder with this trainer takes the run that waits; the run once it has ended.
    pub(super) async fn build(&self, run: &str, trainer: &str) -> Value {
        let path = self.path("builder.toml");
        let text = format!(
            "name = 'b1'\nfleet = '{}'\nwork_dir = 'work'\nkey = 'publisher/keys/builder.key'\n\
             root = 'publisher/metadata/1.root.json'\nagent = '{}'\nruntime = '{}'\npoll_s = 0.1\n\n\
             [[models]]\nmodel = 'er'\ndata = 'warehouse'\n{trainer}",
            self.server.fleet.addresses.http,
            agent().display(),
            runtime().display()
        );
        std::fs::create_dir_all(self.path("warehouse")).unwrap();
        std::fs::write(&path, text).unwrap();
        let worker = Worker::new(BuilderConfig::read(&path).unwrap(), now).unwrap();
        let stop = CancellationToken::new();
        let ended = tokio::time::timeout(RUN_WITHIN, worker.one(&stop)).await.expect("the run did not end");
        assert!(ended.unwrap().is_some());
        self.see(&format!("/api/v1/runs/{run}")).await
    }

    pub(super) async fn see(&self, path: &str) -> Value {
        self.http.get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }

    /// What the run published stands in the signed catalogue of its delegated role.
    pub(super) async fn assert_succeeded(&self, run: &Value) {
        assert_eq!(run["state"], "succeeded", "{run:#}");
        let gates = run["gates"].as_array().unwrap();
        assert!(gates.len() > 3 && gates.iter().all(|gate| gate["verdict"] != "failed"), "{gates:?}");
        let bundle = &run["result"]["bundle"];
        let listed = self.see("/api/v1/trust/auto-er.json").await;
        let target = &listed["signed"]["targets"][bundle["path"].as_str().unwrap()];
        assert_eq!(target["hashes"]["sha256"], bundle["sha256"], "{listed:#}");
    }

    pub(super) async fn stop(self) {
        self.server.stop().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "bundles carry the time at which they were built")]
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
}
