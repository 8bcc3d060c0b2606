//! Evidently and `NannyML`, as their packages come, on the same files.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde::Deserialize;

use crate::store::root;

/// Alarms of each rule on each run.
pub(crate) type Answers = BTreeMap<(String, String), Vec<bool>>;

pub(crate) const SCRIPTS: [&str; 2] = ["nannyml_run", "evidently_run"];

#[derive(Deserialize)]
struct Answer {
    run: String,
    rule: String,
    alarmed: Vec<bool>,
}

/// A peer at work; it answers one line a run, into a file that can be watched.
pub(crate) struct Peer {
    child: Child,
    answers: PathBuf,
}

/// Starts a peer's script on the runs. The scripts count on one thread each, so that both cores are used.
pub(crate) fn start(script: &str, folder: &Path, runs: &[PathBuf], windows: usize) -> Peer {
    let answers = folder.join(format!("{script}.answers"));
    let child = Command::new(root().join(".muster/peers/bin/python"))
        .arg(root().join(format!("protocol/benches/peers/{script}.py")))
        .args(runs)
        .envs([("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1")])
        .env("WINDOWS", windows.to_string())
        .stdout(File::create(&answers).unwrap())
        .spawn()
        .unwrap();
    Peer { child, answers }
}

impl Peer {
    pub(crate) fn finish(mut self, answers: &mut Answers) {
        let status = self.child.wait().unwrap();
        // A campaign without its peers proves nothing.
        assert!(status.success(), "{}: {status}", self.answers.display());
        read(&self.answers, answers);
    }
}

/// What the peers answered in the run before, as far as they came.
pub(crate) fn kept(folder: &Path) -> Answers {
    let mut answers = Answers::new();
    for script in SCRIPTS {
        read(&folder.join(format!("{script}.answers")), &mut answers);
    }
    answers
}

fn read(file: &Path, answers: &mut Answers) {
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let Answer { run, rule, alarmed } = serde_json::from_str(line).unwrap();
        answers.insert((run, rule), alarmed);
    }
}
