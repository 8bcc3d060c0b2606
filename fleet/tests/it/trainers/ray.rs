//! A real Ray of one node: a job that it runs becomes a signed bundle, and one that fails says so in Ray's own words.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::foreign::{Program, port, python};
use super::whole::Whole;

async fn start(folder: &Path) -> (Program, String) {
    let python = python("ray", "ray");
    let dashboard = port();
    let mut command = Command::new(python.with_file_name("ray"));
    command.args(["start", "--head", "--block", "--num-cpus", "1", "--object-store-memory", "80000000"]);
    command.args([
        "--disable-usage-stats",
        "--include-log-monitor",
        "false",
        "--node-ip-address",
        "127.0.0.1",
    ]);
    command.args(["--dashboard-host", "127.0.0.1", "--dashboard-port", &dashboard.to_string()]);
    // Its defaults may be taken: by a Ray of somebody else.
    for name in ["--port", "--dashboard-agent-listen-port", "--ray-client-server-port"] {
        command.args([name, &port().to_string()]);
    }
    // Sockets lie in it, and their names have a bound.
    command.arg("--temp-dir").arg(folder.join("r"));
    let mut ray = Program::start("ray", &mut command, folder);
    let url = format!("http://127.0.0.1:{dashboard}");
    let http = reqwest::Client::new();
    // It answers before its agent, which runs jobs, is there.
    ray.until("Ray takes jobs", async || {
        let asked = http.get(format!("{url}/api/jobs/")).send().await.ok()?;
        asked.status().is_success().then_some(())
    })
    .await;
    (ray, url)
}

#[tokio::test]
#[ignore = "starts a whole Ray: make trainers"]
async fn a_job_of_a_real_ray_becomes_a_signed_bundle() {
    let whole = Whole::start(|_| ()).await;
    let folder = tempfile::tempdir().unwrap();
    let (ray, url) = start(folder.path()).await;
    let job = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/job.py");
    let trainer = |folder: &Path| {
        let entrypoint = format!("{} {} {}", python("ray", "ray").display(), job.display(), folder.display());
        format!(
            "timeout_s = 150\n[models.trainer]\nkind = 'ray'\nurl = '{url}'\nentrypoint = '{entrypoint}'\n"
        )
    };

    let run = whole.ask().await;
    let done = whole.build(&run, &trainer(&whole.trained())).await;
    whole.assert_succeeded(&done).await;
    let log = done["log_tail"].as_array().unwrap();
    let says = |what: &str| log.iter().any(|line| line.as_str().unwrap().contains(what));
    assert!(says("epoch 1 of 1"), "what the job says of itself is in the run's log: {done:#}");

    // Ray knows it by run and attempt, and by what it was for.
    let http = reqwest::Client::new();
    let known = http.get(format!("{url}/api/jobs/{run}-1")).send().await.unwrap();
    let known: Value = known.json().await.unwrap();
    assert_eq!(
        (&known["status"], &known["metadata"]["muster.run"]),
        (&"SUCCEEDED".into(), &run.clone().into())
    );

    // A job that finds nothing to train on.
    let run = whole.ask().await;
    let failed = whole.build(&run, &trainer(Path::new("/nowhere"))).await;
    assert_eq!(
        (&failed["state"], &failed["failure"]["code"]),
        (&"failed".into(), &"trainer_exit".into()),
        "{failed:#}"
    );
    let sentence = failed["failure"]["sentence"].as_str().unwrap();
    assert!(sentence.contains("exit code 1"), "{sentence}\n{}", ray.tail());
    whole.stop().await;
}
