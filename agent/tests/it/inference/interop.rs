//! Other people's clients, Triton's and that of `KServe`, against this server with real models on `OpenVINO`, and the same
//! checks against `MLServer`, which shows where servers differ.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use muster_agent::serve::ServeConfig;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::{Box, logistic, whole};

/// The suites, and how many checks each has.
const SUITES: [(&str, usize); 2] = [("triton.py", 35), ("kserve_sdk.py", 3)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_other_servers_need_only_another_address() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("oip.sock");
    let agent = Box::start_with(ServeConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        grpc: Some(([127, 0, 0, 1], 0).into()),
        unix: Some(socket.clone()),
        request_bytes_max: 16 << 20,
        requests_bytes_max: 64 << 20,
    })
    .await;
    agent.slots.activate(&Box::slot(), logistic("1", "logistic.onnx"));
    for name in ["echo", "text", "slow"] {
        agent.slots.activate(&name.parse().unwrap(), whole(&format!("{name}.onnx")));
    }
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/open_inference.proto");
    let more = ["--unix".as_ref(), socket.as_os_str(), "--proto".as_ref(), proto.as_os_str()];
    let here = play(agent.server.addr, agent.server.grpc.unwrap(), &more).await;
    agent.stop().await;
    let missed: Vec<_> = here.iter().filter(|(_, told)| *told != "ok").collect();
    assert!(missed.is_empty(), "{missed:#?}");

    let mut peer = MlServer::start(dir.path()).await;
    // Triton's client never comes back from a stream that MLServer breaks off.
    let there = play(peer.http, peer.grpc, &["--skip".as_ref(), "grpc_stream".as_ref()]).await;
    peer.process.kill().await.unwrap();
    let held = there.values().filter(|told| *told == "ok").count();
    let played = there.values().filter(|told| *told != "skipped").count();
    println!("{:<52} {:<6} MLServer: {held} of {played} hold", "", "here");
    for (check, told) in &here {
        let there = there.get(check).map_or("never comes back", String::as_str);
        println!("{check:<52} {told:<6} {}", there.chars().take(100).collect::<String>());
    }
    assert!(held > 0, "nothing holds there, so nothing was compared");
}

/// What each check told, by name.
async fn play(http: SocketAddr, grpc: SocketAddr, more: &[&std::ffi::OsStr]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (script, checks) in SUITES {
        let mut suite = Command::new(interpreter("oip", "python", "requirements.lock"));
        suite.arg(interop(script)).args(["--http", &http.to_string(), "--grpc", &grpc.to_string()]);
        // Clients that look for a proxy would ask it for the way to this machine.
        suite.args(more).env_clear().stdin(Stdio::null()).kill_on_drop(true);
        let played = tokio::time::timeout(Duration::from_mins(2), suite.output()).await.unwrap().unwrap();
        let told = String::from_utf8(played.stdout).unwrap();
        let results = told.lines().map(|line| {
            let (word, rest) = line.split_once(' ').unwrap();
            let (name, why) = rest.split_once(' ').unwrap_or((rest, ""));
            (name.to_owned(), if word == "ok" { word } else { why }.to_owned())
        });
        let results: Vec<_> = results.collect();
        let skipped = usize::from(script == "triton.py" && more.contains(&"--skip".as_ref()));
        let complaint = String::from_utf8_lossy(&played.stderr);
        assert_eq!(results.len() + skipped, checks, "{script}:\n{told}\n{complaint}");
        all.extend(results);
    }
    all
}

/// `MLServer` with the suites' models; it ends when this is dropped.
struct MlServer {
    http: SocketAddr,
    grpc: SocketAddr,
    process: Child,
}

impl MlServer {
    async fn start(folder: &Path) -> Self {
        let ports = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [http, grpc, metrics] = ports.map(|listener| listener.local_addr().unwrap());
        let log_path = folder.join("mlserver.log");
        let log = std::fs::File::create(&log_path).unwrap();
        let program = interpreter("mlserver", "mlserver", "mlserver-requirements.lock");
        let mut command = Command::new(program);
        command.arg("start").arg(interop("mlserver")).env("PYTHONPATH", interop("mlserver"));
        for (name, address) in [("HTTP", http), ("GRPC", grpc), ("METRICS", metrics)] {
            command.env(format!("MLSERVER_{name}_PORT"), address.port().to_string());
        }
        command.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = command.kill_on_drop(true).spawn().unwrap();
        let mut server = Self { http, grpc, process };
        let give_up = Instant::now() + Duration::from_mins(1);
        let ready = async || {
            let answer = reqwest::get(format!("http://{http}/v2/health/ready")).await;
            answer.is_ok_and(|answer| answer.status() == 200)
        };
        while !ready().await {
            let ended = server.process.try_wait().unwrap();
            let log = || std::fs::read_to_string(&log_path).unwrap();
            assert!(ended.is_none() && Instant::now() < give_up, "MLServer did not start:\n{}", log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        server
    }
}

fn interop(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(name)
}

/// A program of one of the environments that `make interop` makes.
fn interpreter(environment: &str, program: &str, lock: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.muster").join(environment);
    let path = folder.join("bin").join(program);
    let make = format!("scripts/python-env.sh .muster/{environment} agent/tests/interop/{lock}");
    assert!(path.is_file(), "{} is missing: {make}", path.display());
    path
}
