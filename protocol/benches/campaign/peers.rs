//! Evidently and NannyML, as their packages come, on the same files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;

/// Alarms of each rule on each run.
pub(crate) type Answers = BTreeMap<(String, String), Vec<bool>>;

#[derive(Deserialize)]
struct Answer {
    run: String,
    rule: String,
    alarmed: Vec<bool>,
}

/// A peer at work; it answers one line a run.
pub(crate) struct Peer {
    child: Child,
    script: &'static str,
}

/// Starts a peer's script on the runs. The scripts count on one thread each, so that both cores are used.
pub(crate) fn start(script: &'static str, runs: &[PathBuf], windows: usize) -> Peer {
    let child = Command::new(root().join(".muster/peers/bin/python"))
        .arg(root().join("protocol/benches/peers").join(script))
        .args(runs)
        .envs([("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1")])
        .env("WINDOWS", windows.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Peer { child, script }
}

impl Peer {
    #[expect(clippy::panic, reason = "a campaign without its peers proves nothing")]
    pub(crate) fn finish(self, answers: &mut Answers) {
        let output = self.child.wait_with_output().unwrap();
        if !output.status.success() {
            panic!("{}: {}", self.script, String::from_utf8_lossy(&output.stderr));
        }
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Answer { run, rule, alarmed } = serde_json::from_str(line).unwrap();
            answers.insert((run, rule), alarmed);
        }
    }
}

/// Writes the emergency department's years, with the example's own generator.
pub(crate) fn write_emergency_department(folder: &Path, seeds: u64) {
    let status = Command::new(root().join(".muster/python/bin/python"))
        .arg(root().join("protocol/benches/peers/er_streams.py"))
        .arg(folder)
        .arg(seeds.to_string())
        .status()
        .unwrap();
    assert!(status.success(), "er_streams.py: {status}; run `make python`");
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
