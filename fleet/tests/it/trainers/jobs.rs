//! What a job does that a tool runs: with the request alone, as on a machine elsewhere.

use std::path::{Path, PathBuf};

use muster_protocol::ids::Digest;
use serde_json::{Value, json};

use crate::onnx;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Deliver,
    /// The tool answers 503 once, after it has taken the job.
    DeliverAfterAShakyStart,
    Fail,
    SayFailed,
    Hang,
    DeliverGarbage,
    DeliverWorse,
    DeliverOtherModel,
    /// Contents that are not what their digest says.
    DeliverPoisoned,
    /// The tool wants nothing of it.
    Refused,
}

#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) job: Job,
    trained: PathBuf,
}

impl Job {
    pub(super) fn on(self, trained: &Path) -> Task {
        Task { job: self, trained: trained.to_owned() }
    }
}

impl Task {
    /// Works, and says whether it went well.
    pub(super) async fn run(&self, request: &Value) -> bool {
        match self.job {
            Job::Deliver | Job::DeliverAfterAShakyStart | Job::DeliverPoisoned => {}
            Job::Fail | Job::Refused => return false,
            Job::Hang => std::future::pending().await,
            Job::SayFailed => {
                let said = json!({"status": "failed", "message": "no rows since the onset"});
                hand_back(request, &said).await;
                return false;
            }
            Job::DeliverGarbage => onnx::trainer_output(&self.trained, b"garbage"),
            Job::DeliverWorse => onnx::trainer_output(&self.trained, &onnx::logistic([-2.0, 4.0], 0.0)),
            Job::DeliverOtherModel => {
                let path = self.trained.join("trainer.json");
                let text = std::fs::read_to_string(&path).unwrap();
                std::fs::write(&path, text.replace("\"er\"", "\"beds\"")).unwrap();
            }
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.trained).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let bytes = std::fs::read(entry.path()).unwrap();
            let sha256 = Digest::of(&bytes).to_string();
            files.push(json!({"path": name, "sha256": sha256, "bytes": bytes.len()}));
            upload(request, &sha256, bytes).await;
        }
        if self.job == Job::DeliverPoisoned {
            // A fleet would refuse it; this one hands out another file under the model's name.
            let sha256 = files[0]["sha256"].clone();
            for file in &mut files {
                file["sha256"] = sha256.clone();
            }
            files[1]["bytes"] = json!(1);
        }
        hand_back(request, &json!({"status": "succeeded", "message": "", "files": files})).await;
        true
    }
}

fn place(request: &Value) -> (&str, &str) {
    (request["result"]["url"].as_str().unwrap(), request["result"]["token"].as_str().unwrap())
}

async fn upload(request: &Value, sha256: &str, bytes: Vec<u8>) {
    let (url, token) = place(request);
    let put = reqwest::Client::new().put(format!("{url}/files/{sha256}")).bearer_auth(token).body(bytes);
    assert!(put.send().await.unwrap().status().is_success());
}

async fn hand_back(request: &Value, result: &Value) {
    let (url, token) = place(request);
    let post = reqwest::Client::new().post(url).bearer_auth(token).json(result);
    assert!(post.send().await.unwrap().status().is_success());
}
