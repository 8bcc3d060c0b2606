//! One agent process with its state folder; killed when dropped.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use muster_protocol::ids::DeviceId;
use serde_json::{Value, json};

use super::until;

pub(super) const AGENT: &str = env!("CARGO_BIN_EXE_muster-agent");

pub(super) struct Agent {
    child: Child,
    dir: PathBuf,
}

/// The folder of one box: configuration, root and state.
pub(super) fn set_up(dir: &Path, broker: SocketAddr, root: &[u8]) {
    fs::write(dir.join("root.json"), root).unwrap();
    let config = format!(
        "name = \"box\"\nsite = \"er-1\"\nstate_dir = \"state\"\nroot = \"root.json\"\n\
         [fleet]\nmqtt = \"mqtt://{broker}\"\n[serve]\nlisten = \"127.0.0.1:0\"\n[report]\nevery_s = 1\n\
         [runtime]\ndir = \"{}\"\n",
        runtime_dir().display()
    );
    fs::write(dir.join("agent.toml"), config).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "tests are told where the runtime is as the agent is")]
pub(super) fn runtime_dir() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::env::var_os("MUSTER_RUNTIME").map_or_else(|| workspace.join(".muster/runtime"), PathBuf::from)
}

impl Agent {
    pub(super) fn start(dir: &Path) -> Self {
        drop(fs::remove_file(dir.join("state/addresses.json")));
        let log = fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
        let child = Command::new(AGENT)
            .args(["run", "--config"])
            .arg(dir.join("agent.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, dir: dir.to_owned() }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(super) async fn terminate(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.exit().await
    }

    pub(super) async fn exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until("the agent to exit", || child.try_wait().unwrap()).await
    }

    pub(super) async fn device(&self) -> DeviceId {
        let path = self.dir.join("state/device-id");
        until("the device id", || fs::read_to_string(&path).ok()?.trim().parse().ok()).await
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub(super) fn state_path(&self, path: &str) -> PathBuf {
        self.dir.join("state").join(path)
    }

    async fn url(&self) -> String {
        let path = self.state_path("addresses.json");
        let addresses: Value =
            until("the address", || serde_json::from_slice(&fs::read(&path).ok()?).ok()).await;
        addresses["oip"].as_str().unwrap().to_owned()
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        http().get(format!("{}{path}", self.url().await)).send().await.unwrap().json().await.unwrap()
    }

    /// What the model answers to one row; `Err` is the status.
    pub(super) async fn score(&self, row: [f32; 4]) -> Result<f64, u16> {
        let body = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 4], "data": row }] });
        let url = format!("{}/v2/models/m/infer", self.url().await);
        let response = http().post(url).body(body.to_string()).send().await.unwrap();
        let status = response.status();
        if !status.is_success() {
            return Err(status.as_u16());
        }
        let answer: Value = response.json().await.unwrap();
        Ok(answer["outputs"][0]["data"][0].as_f64().unwrap())
    }

    /// Status and body of an answer that is none.
    pub(super) async fn refusal(&self) -> (u16, String) {
        let response = http().get(format!("{}/v2/models/m", self.url().await)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Waits until the model answers about this.
    pub(super) async fn scores(&self, row: [f32; 4], wanted: f64) {
        let mut last = Err(0);
        for _ in 0..3_000 {
            last = self.score(row).await;
            if last.is_ok_and(|score| (score - wanted).abs() < 1e-5) {
                return;
            }
            tokio::time::sleep(super::LOOK_EVERY).await;
        }
        panic!("the model answers {last:?}, wanted {wanted}; the log ends:\n{}", tail(&self.log()));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let log = self.log();
            drop(std::io::Write::write_all(&mut std::io::stderr(), tail(&log).as_bytes()));
        }
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn http() -> reqwest::Client {
    // Another test of this binary may have installed it already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    reqwest::Client::new()
}
