//! Other people's clients, Triton's and that of `KServe`, against this server with real models on `OpenVINO`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use muster_agent::serve::ServeConfig;

use super::{Box, logistic, whole};

/// The interpreter with the clients in it.
fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.muster/oip/bin/python");
    assert!(
        python.is_file(),
        "{} is missing: scripts/python-env.sh .muster/oip agent/tests/interop/requirements.lock",
        python.display()
    );
    python
}

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
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (script, checks) in [("triton.py", 35), ("kserve_sdk.py", 3)] {
        let mut suite = tokio::process::Command::new(python());
        suite.arg(here.join("tests/interop").join(script));
        suite.args(["--http", &agent.server.addr.to_string()]);
        suite.args(["--grpc", &agent.server.grpc.unwrap().to_string()]);
        suite.arg("--unix").arg(&socket).arg("--proto").arg(here.join("proto/open_inference.proto"));
        // Clients that look for a proxy would ask it for the way to this machine.
        suite.env_clear().stdin(Stdio::null()).kill_on_drop(true);
        let played = tokio::time::timeout(Duration::from_mins(2), suite.output()).await.unwrap().unwrap();
        let [told, complaint] = [played.stdout, played.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(played.status.success(), "{script}:\n{told}\n{complaint}");
        let held = told.lines().filter(|line| line.starts_with("ok ")).count();
        assert_eq!((held, told.lines().count()), (checks, checks), "{script}:\n{told}");
    }
    agent.stop().await;
}
