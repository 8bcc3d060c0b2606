//! The programs that inference is measured beside, from the environments that the Makefile makes.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;

use super::house::{NAME, workspace};

/// Inferences a second that OpenVINO's own tool counts: nothing but the compiled model, in the geometry of the agent's
/// sessions (so many streams of one thread, so many requests at once), in f32, without pinning.
pub(crate) fn benchmark_app(model: &Path, streams: usize, span: Duration) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    let cpu = json!({ "CPU": { "ENABLE_CPU_PINNING": "NO", "INFERENCE_PRECISION_HINT": "f32" } });
    std::fs::write(&config, cpu.to_string()).unwrap();
    let streams = streams.to_string();
    let ran = Command::new(environment("openvino").join("benchmark_app"))
        .args([
            "-d",
            "CPU",
            "-hint",
            "none",
            "-nstreams",
            &streams,
            "-nthreads",
            &streams,
            "-nireq",
            &streams,
        ])
        .args(["-t", &span.as_secs().max(1).to_string()])
        .arg("-m")
        .arg(model)
        .arg("-load_config")
        .arg(config)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let rate = said.lines().find_map(|line| line.split_once("Throughput:")?.1.trim().strip_suffix(" FPS"));
    assert!(rate.is_some(), "benchmark_app failed: {said}{}", String::from_utf8_lossy(&ran.stderr));
    rate.unwrap().parse().unwrap()
}

/// `MLServer` with one ONNX model; it ends when this is dropped.
pub(crate) struct MlServer {
    pub(crate) addr: SocketAddr,
    process: Child,
    folder: TempDir,
}

impl MlServer {
    pub(crate) fn start(file: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, value: serde_json::Value| {
            std::fs::write(folder.path().join(name), value.to_string()).unwrap();
        };
        let [http, grpc, metrics] = free_ports();
        // Workers of its own only pass the work on; without them it answers oftener.
        write(
            "settings.json",
            json!({ "host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics,
                    "parallel_workers": 0, "debug": false }),
        );
        write(
            "model-settings.json",
            json!({ "name": NAME, "implementation": "mlserver_onnx.Onnx", "parameters": { "extra": { "file": file } } }),
        );
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new(environment("mlserver").join("mlserver"))
            .arg("start")
            .arg(folder.path())
            .env("PYTHONPATH", workspace().join("agent/benches/inference"))
            .current_dir(folder.path())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { addr: ([127, 0, 0, 1], http).into(), process, folder };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&mut self) {
        let give_up = Instant::now() + Duration::from_mins(1);
        let ready = || {
            use std::io::{Read as _, Write as _};
            let mut stream = TcpStream::connect(self.addr).ok()?;
            stream
                .write_all(b"GET /v2/health/ready HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n")
                .ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.starts_with("HTTP/1.1 200").then_some(())
        };
        while ready().is_none() {
            let ended = self.process.try_wait().unwrap();
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < give_up, "MLServer did not start: {}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for MlServer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn environment(name: &str) -> PathBuf {
    let bin = workspace().join(".muster").join(name).join("bin");
    assert!(bin.is_dir(), "{} is missing; 'make bench-inference' makes it", bin.display());
    bin
}

fn free_ports() -> [u16; 3] {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}
