//! One agent process with its state folder; killed when dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_agent::clock::TrustClock;
use muster_agent::identity::{Enrolling, Enrolment, Identity, KeyChoice, StateDir};
use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::broker::Broker;
use super::fleet::{Fleet, root};
use super::pki::pki;
use super::{HOUR, until};

pub(super) const AGENT: &str = env!("CARGO_BIN_EXE_muster-agent");

pub(super) struct Agent {
    child: Child,
    dir: PathBuf,
}

/// The folder of one box, enrolled.
pub(super) fn set_up(dir: &Path, broker: &Broker) -> DeviceId {
    Setup::new(&broker.mqtts()).write(dir)
}

/// A box that is a member of a fleet and runs, with the broker between them: in the order in which they begin, so that they end
/// in the other.
pub(super) async fn member() -> (Broker, Fleet, TempDir, Agent, DeviceId) {
    let broker = Broker::start().await;
    let fleet = Fleet::start(broker.address);
    let dir = tempfile::tempdir().unwrap();
    set_up(dir.path(), &broker);
    let agent = Agent::start(dir.path());
    let device = agent.device().await;
    (broker, fleet, dir, agent, device)
}

/// One box to be.
pub(super) struct Setup {
    pub(super) device: DeviceId,
    pub(super) mqtt: String,
    pub(super) server: String,
    pub(super) root: Vec<u8>,
    /// When its certificate was made, and until when it is good.
    pub(super) life: (Timestamp, Timestamp),
}

impl Setup {
    pub(super) fn new(mqtt: &str) -> Self {
        let now = TrustClock::system().now();
        Self {
            device: DeviceId::mint([7; 16]),
            mqtt: mqtt.to_owned(),
            // Nobody is there: boxes that need the door are told where it is.
            server: "https://127.0.0.1:9".to_owned(),
            root: root(),
            life: (now.minus(HOUR), now.plus(90 * 24 * HOUR)),
        }
    }

    pub(super) fn write(self, dir: &Path) -> DeviceId {
        configure(dir);
        let held = StateDir::open(&dir.join("state")).unwrap();
        let enrolling = Enrolling::begin(&held, KeyChoice::Kept).unwrap();
        let certificate = pki().certify(&enrolling.key().csr().unwrap(), &self.device, self.life);
        let enrolment = Enrolment {
            v: 1,
            device: self.device.clone(),
            name: "box".to_owned(),
            site: "er-1".parse().unwrap(),
            server: self.server,
            mqtt: self.mqtt,
            fingerprint: enrolling.key().fingerprint(),
            enrolled: self.life.0,
        };
        enrolling.finish(&enrolment, &self.root, &certificate).unwrap();
        self.device
    }
}

/// `agent.toml` alone.
pub(super) fn configure(dir: &Path) {
    let config = format!(
        "state_dir = \"state\"\n[serve]\nlisten = \"127.0.0.1:0\"\n[report]\nevery_s = 1\n[runtime]\ndir = \"{}\"\n",
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

    pub(super) fn identity(&self) -> Identity {
        Identity::open(&self.dir.join("state")).unwrap().unwrap()
    }

    pub(super) async fn device(&self) -> DeviceId {
        until("the device id", || {
            Identity::open(&self.dir.join("state")).ok()??.enrolment().ok().map(|enrolment| enrolment.device)
        })
        .await
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

    /// Sends `body` as an application or a person's panel would; the status and the answer.
    pub(super) async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        key: Option<&str>,
        body: Value,
    ) -> (u16, Value) {
        let mut request =
            http().request(method, format!("{}{path}", self.url().await)).body(body.to_string());
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// What a command typed at this box prints, if it succeeds.
    pub(super) fn command(&self, args: &[&str]) -> Result<String, String> {
        let state = self.dir.join("state");
        let output = Command::new(AGENT).args(args).arg("--state-dir").arg(state).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
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

    /// Asks the model again and again from now on.
    pub(super) async fn watch(&self, row: [f32; 4], wanted: f64) -> Watch {
        self.watch_any(row, vec![wanted]).await
    }

    /// As [`Self::watch`], for a model that changes meanwhile: either answer is right, none is not.
    pub(super) async fn watch_any(&self, row: [f32; 4], wanted: Vec<f64>) -> Watch {
        let url = format!("{}/v2/models/m/infer", self.url().await);
        let answers = Arc::new(Mutex::new((0, Vec::new())));
        let kept = Arc::clone(&answers);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let input = json!({ "name": "x", "datatype": "FP32", "shape": [1, 4], "data": row });
            let body = json!({ "inputs": [input] }).to_string();
            loop {
                let answer: Result<Value, reqwest::Error> = async {
                    http().post(&url).body(body.clone()).send().await?.error_for_status()?.json().await
                }
                .await;
                let score = answer.map(|answer| answer["outputs"][0]["data"][0].as_f64().unwrap_or(f64::NAN));
                let right = score
                    .as_ref()
                    .is_ok_and(|score| wanted.iter().any(|wanted| (score - wanted).abs() < 1e-5));
                {
                    let (right_ones, wrong_ones) = &mut *kept.lock().unwrap();
                    if right {
                        *right_ones += 1;
                    } else {
                        wrong_ones.push(format!("{score:?}"));
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Watch { answers, _task: task }
    }

    /// Waits until `/metrics` says at least so much.
    pub(super) async fn measures(&self, series: &str, least: f64) {
        let url = format!("{}/metrics", self.url().await);
        for _ in 0..3_000 {
            let text = http().get(&url).send().await.unwrap().text().await.unwrap();
            let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse::<f64>().ok());
            if value.is_some_and(|value| value >= least) {
                return;
            }
            tokio::time::sleep(super::LOOK_EVERY).await;
        }
        panic!("{series} is not {least} or more; the log ends:\n{}", tail(&self.log()));
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

/// Whether a model answers all the time.
pub(super) struct Watch {
    answers: Arc<Mutex<(u64, Vec<String>)>>,
    _task: JoinSet<()>,
}

impl Watch {
    /// It answered since the last look, and never anything else than it should.
    pub(super) async fn unbroken(&self) {
        let before = self.answers.lock().unwrap().0;
        until("another answer", || (self.answers.lock().unwrap().0 > before).then_some(())).await;
        let wrong = self.answers.lock().unwrap().1.clone();
        assert!(wrong.is_empty(), "what ran did not keep answering: {wrong:?}");
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
