//! The builder's side of retraining runs: take one, keep its lease, say how it ended.

use muster_protocol::ids::{BundlePath, Digest, ModelName, RunId};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::retrain::{Check, Gate, Limit, Verdict};

use super::{ANSWER_TIMEOUT, Client, ClientError};
use crate::handback::{OutputFile, TrainerResult};

/// A run that this builder holds the lease of.
#[derive(Clone, Debug, Deserialize)]
pub struct Claim {
    pub run: ClaimedRun,
    /// The trainer's `muster-run/1` document; handed on as it is.
    pub request: Value,
    /// What runs now; absent before a model's first bundle.
    #[serde(default)]
    pub champion: Option<Champion>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ClaimedRun {
    pub id: RunId,
    pub model: ModelName,
    /// How often it was handed out.
    #[serde(default)]
    pub attempt: Option<u32>,
}

#[derive(Deserialize)]
struct Answered {
    status: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    files: Vec<OutputFile>,
}

/// A bundle by its identity; what it is called stands in its manifest.
#[derive(Clone, Debug, Deserialize)]
pub struct Champion {
    pub sha256: Digest,
}

/// What the builder says every few seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Heartbeat {
    pub builder: String,
    /// 0 to 1.
    pub progress: f64,
    pub message: String,
    /// Lines since the last heartbeat.
    pub log: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatAnswer {
    GoOn,
    /// Somebody cancelled the run.
    Cancel,
    /// The lease ran out and the run may belong to somebody else by now.
    LeaseLost,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    Published { bundle: PublishedBundle, evaluation: Value, gates: Vec<CheckBody> },
    Rejected { code: String, sentence: String, evaluation: Value, gates: Vec<CheckBody> },
    Failed { code: String, sentence: String },
}

/// What a candidate was held to, as the API takes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckBody {
    gate: Gate,
    code: String,
    verdict: Verdict,
    measured: Option<f64>,
    at_most: Option<f64>,
    at_least: Option<f64>,
    sentence: String,
}

impl From<&Check> for CheckBody {
    fn from(check: &Check) -> Self {
        let (at_most, at_least) = match check.limit {
            Some(Limit::AtMost(limit)) => (Some(limit), None),
            Some(Limit::AtLeast(limit)) => (None, Some(limit)),
            None => (None, None),
        };
        Self {
            gate: check.gate,
            code: check.code.clone(),
            verdict: check.verdict,
            // A figure that is no number has no place in JSON.
            measured: check.measured.filter(|measured| measured.is_finite()),
            at_most,
            at_least,
            sentence: check.sentence.clone(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublishedBundle {
    pub path: BundlePath,
    pub sha256: Digest,
}

impl Client {
    /// Takes the oldest waiting run of these models, if there is one.
    pub async fn claim_run(&self, builder: &str, models: &[ModelName]) -> Result<Option<Claim>, ClientError> {
        let path = "/api/v1/runs/claim";
        let body = serde_json::json!({ "builder": builder, "models": models });
        let response =
            self.send(self.request(Method::POST, path).timeout(ANSWER_TIMEOUT).json(&body)).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        self.decode(response, path).await.map(Some)
    }

    pub async fn heartbeat(
        &self,
        run: &RunId,
        heartbeat: &Heartbeat,
    ) -> Result<HeartbeatAnswer, ClientError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            cancel: bool,
        }
        let path = format!("/api/v1/runs/{run}/heartbeat");
        match self.json::<Answer>(self.request(Method::POST, &path).json(heartbeat), &path).await {
            Ok(Answer { cancel: true }) => Ok(HeartbeatAnswer::Cancel),
            Ok(Answer { cancel: false }) => Ok(HeartbeatAnswer::GoOn),
            // A run that is gone cannot be ours any more.
            Err(error) if matches!(error.status(), Some(404 | 409)) => Ok(HeartbeatAnswer::LeaseLost),
            Err(error) => Err(error),
        }
    }

    /// The token that a trainer elsewhere hands back its result with; the one before is worth nothing any more.
    pub async fn open_result(
        &self,
        run: &RunId,
        builder: &str,
        seconds: u64,
    ) -> Result<Zeroizing<String>, ClientError> {
        #[derive(Deserialize)]
        struct Answer {
            token: String,
        }
        let path = format!("/api/v1/runs/{run}/result/token");
        let body = serde_json::json!({ "builder": builder, "seconds": seconds });
        let request = self.request(Method::POST, &path).json(&body);
        self.json::<Answer>(request, &path).await.map(|answer| answer.token.into())
    }

    /// What a trainer elsewhere handed back, if it did.
    pub async fn run_result(&self, run: &RunId, builder: &str) -> Result<Option<TrainerResult>, ClientError> {
        let path = format!("/api/v1/runs/{run}/result");
        let request = self.request(Method::GET, &path).query(&[("builder", builder)]).timeout(ANSWER_TIMEOUT);
        let response = self.send(request).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let Answered { status, message, files } = self.decode(response, &path).await?;
        Ok(Some(match status.as_str() {
            "succeeded" => TrainerResult::Succeeded { files },
            _ => TrainerResult::Failed { message },
        }))
    }

    pub async fn finish_run(&self, run: &RunId, builder: &str, outcome: &Finish) -> Result<(), ClientError> {
        let body = serde_json::json!({ "builder": builder, "outcome": outcome });
        self.post(&format!("/api/v1/runs/{run}/finish"), &[], &body).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_have_the_shape_of_the_contract() {
        let failed =
            Finish::Failed { code: "trainer_exit".to_owned(), sentence: "it exited with 1".to_owned() };
        assert_eq!(
            serde_json::to_value(failed).unwrap(),
            serde_json::json!({"failed": {"code": "trainer_exit", "sentence": "it exited with 1"}})
        );
        let published = Finish::Published {
            bundle: PublishedBundle {
                path: "bundles/er/auto/1.json".parse().unwrap(),
                sha256: Digest::of(b"m"),
            },
            evaluation: Value::Null,
            gates: Vec::new(),
        };
        assert_eq!(
            serde_json::to_value(published).unwrap()["published"]["bundle"]["path"],
            "bundles/er/auto/1.json"
        );
    }
}
