//! Label Studio, as its API is documented: tasks in, annotations out. Run where the rows are; the fleet has no part in it.
//!
//! ```text
//!   GET  /api/projects/{id}/export?exportType=JSON&download_all_tasks=true     what is there, annotated or not
//!   POST /api/projects/{id}/import          [{"data": {…}}, …]                 what is not there yet
//! ```
//! A task carries our name of its row, so that pushing twice is pushing once. Must never take an annotation that was
//! skipped for an answer.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_protocol::time::Timestamp;
use reqwest::{Method, StatusCode, Url, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::dataset::join::{Label, Sample};

/// Tasks of one request; the documented limit is 250,000 tasks and 200 MB.
const BATCH: usize = 500;
const ANSWER_BYTES_MAX: usize = 512 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An export of a large project is made while we wait.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(10);
/// What our tasks call the row.
const SAMPLE: &str = "sample";

#[derive(Debug, thiserror::Error)]
pub enum LabelStudioError {
    #[error("'{0}' is not the address of a Label Studio; it starts with http:// or https://")]
    Address(String),
    #[error("Label Studio at {0} does not answer")]
    Unreachable(String, #[source] reqwest::Error),
    #[error("Label Studio refuses the token; make one under Account & Settings, and put it into the file")]
    Token,
    #[error("Label Studio has no project {0}, or the token's owner may not see it")]
    Project(u64),
    #[error("Label Studio answers {status}: {said}")]
    Refused { status: u16, said: String },
    #[error("Label Studio's answer is not what its documentation says: {0}")]
    Shape(String),
}

/// One project of one server.
#[derive(Debug)]
pub struct LabelStudio {
    http: reqwest::Client,
    server: Url,
    project: u64,
    authorization: header::HeaderValue,
}

/// What was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    pub new: usize,
    pub there: usize,
}

/// What was pulled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pulled {
    pub labels: Vec<Label>,
    /// Tasks that are not ours.
    pub foreign: usize,
    /// Our tasks without an annotation that says something.
    pub open: usize,
    /// Tasks whose annotators do not agree; the latest counts.
    pub disputed: usize,
}

#[derive(Deserialize)]
struct Task {
    data: Value,
    #[serde(default)]
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Annotation {
    #[serde(default)]
    was_cancelled: bool,
    #[serde(default)]
    result: Vec<Value>,
    created_at: Timestamp,
    #[serde(default)]
    updated_at: Option<Timestamp>,
}

impl LabelStudio {
    /// `token` is a legacy token or a personal access token, which is exchanged for one that lasts some minutes.
    pub async fn connect(server: &str, project: u64, token: &str) -> Result<Self, LabelStudioError> {
        let wrong = || LabelStudioError::Address(server.to_owned());
        let url: Url = server.parse().map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(wrong());
        }
        // Err means that the process has a provider already, which is what we want.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|source| LabelStudioError::Unreachable(server.to_owned(), source))?;
        let mut studio =
            Self { http, server: url, project, authorization: header::HeaderValue::from_static("") };
        let authorization = if token.split('.').count() == 3 {
            format!("Bearer {}", studio.access(token).await?)
        } else {
            format!("Token {token}")
        };
        let mut value = header::HeaderValue::from_str(&authorization).map_err(|_| LabelStudioError::Token)?;
        value.set_sensitive(true);
        studio.authorization = value;
        Ok(studio)
    }

    /// Makes a task of each sample that has none yet. `columns` names the inputs.
    pub async fn push(&self, samples: &[(Sample, Vec<String>)]) -> Result<Pushed, LabelStudioError> {
        let mut there: BTreeSet<String> = self.export().await?.iter().filter_map(Task::sample).collect();
        let new: Vec<Value> = samples
            .iter()
            .filter(|(sample, _)| there.insert(sample.name()))
            .map(|(sample, columns)| task(sample, columns))
            .collect();
        for batch in new.chunks(BATCH) {
            let path = format!("/api/projects/{}/import", self.project);
            let answer = self.ask(self.request(Method::POST, &path).json(batch)).await?;
            let taken = answer.get("task_count").and_then(Value::as_u64);
            if taken != u64::try_from(batch.len()).ok() {
                return Err(LabelStudioError::Shape(format!("it took {taken:?} of {} tasks", batch.len())));
            }
        }
        Ok(Pushed { new: new.len(), there: samples.len() - new.len() })
    }

    /// What people answered. `control` is the tag of the labelling interface whose answer counts; any, without it.
    pub async fn pull(&self, control: Option<&str>) -> Result<Pulled, LabelStudioError> {
        let mut pulled = Pulled::default();
        for task in self.export().await? {
            let Some(id) = task.sample() else {
                pulled.foreign += 1;
                continue;
            };
            let mut answers: Vec<(Timestamp, String)> =
                task.annotations.iter().filter_map(|annotation| annotation.answer(control)).collect();
            answers.sort();
            if answers.windows(2).any(|pair| pair[0].1 != pair[1].1) {
                pulled.disputed += 1;
            }
            match answers.pop() {
                Some((at, label)) => pulled.labels.push(Label { id, label, at }),
                None => pulled.open += 1,
            }
        }
        Ok(pulled)
    }

    async fn export(&self) -> Result<Vec<Task>, LabelStudioError> {
        let path = format!("/api/projects/{}/export", self.project);
        let query = [("exportType", "JSON"), ("download_all_tasks", "true")];
        let answer = self.ask(self.request(Method::GET, &path).query(&query)).await?;
        serde_json::from_value(answer).map_err(|error| LabelStudioError::Shape(error.to_string()))
    }

    async fn access(&self, refresh: &str) -> Result<String, LabelStudioError> {
        let request = self.http.request(Method::POST, self.at("/api/token/refresh"));
        let answer = self.ask(request.json(&json!({ "refresh": refresh }))).await?;
        let access = answer.get("access").and_then(Value::as_str).map(str::to_owned);
        access.ok_or_else(|| LabelStudioError::Shape("it gave no access token".to_owned()))
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.at(path)).header(header::AUTHORIZATION, self.authorization.clone())
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.server.clone();
        url.set_path(&format!("{}{path}", self.server.path().trim_end_matches('/')));
        url
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<Value, LabelStudioError> {
        let failed = |source: reqwest::Error| {
            LabelStudioError::Unreachable(self.server.to_string(), source.without_url())
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(failed)? {
            if body.len() + part.len() > ANSWER_BYTES_MAX {
                return Err(LabelStudioError::Shape("it is too long".to_owned()));
            }
            body.extend_from_slice(&part);
        }
        match status {
            StatusCode::UNAUTHORIZED => Err(LabelStudioError::Token),
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Err(LabelStudioError::Project(self.project)),
            status if !status.is_success() => {
                let said = String::from_utf8_lossy(&body).chars().take(300).collect();
                Err(LabelStudioError::Refused { status: status.as_u16(), said })
            }
            _success => {
                serde_json::from_slice(&body).map_err(|error| LabelStudioError::Shape(error.to_string()))
            }
        }
    }
}

impl Task {
    fn sample(&self) -> Option<String> {
        self.data.get(SAMPLE).and_then(Value::as_str).map(str::to_owned)
    }
}

impl Annotation {
    fn answer(&self, control: Option<&str>) -> Option<(Timestamp, String)> {
        if self.was_cancelled {
            return None;
        }
        let meant = |part: &&Value| {
            control.is_none_or(|name| part.get("from_name").and_then(Value::as_str) == Some(name))
        };
        let answer = self.result.iter().filter(meant).find_map(said)?;
        Some((self.updated_at.unwrap_or(self.created_at), answer))
    }
}

/// What a region of an annotation says, for the controls that answer with one value.
fn said(part: &Value) -> Option<String> {
    let value = part.get("value")?;
    let first = |name: &str| match value.get(name) {
        Some(Value::Array(values)) => values.first().and_then(Value::as_str).map(str::to_owned),
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) | None => None,
    };
    let number = |name: &str| value.get(name).and_then(Value::as_number).map(ToString::to_string);
    first("choices").or_else(|| number("number")).or_else(|| number("rating")).or_else(|| first("text"))
}

fn task(sample: &Sample, columns: &[String]) -> Value {
    let line = &sample.line;
    let mut data = json!({ SAMPLE: sample.name(), "at": line.at });
    for (name, value) in columns.iter().zip(&line.inputs) {
        data[name] = value.clone();
    }
    for (name, values) in &line.outputs {
        data[format!("output:{name}")] = match values.as_slice() {
            [one] => one.clone(),
            several => json!(several),
        };
    }
    json!({ "data": data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_annotations_say() {
        let check = |value: Value, expect: Option<&str>| {
            let part = json!({ "from_name": "risk", "value": value });
            assert_eq!(said(&part).as_deref(), expect);
        };
        check(json!({"choices": ["yes"]}), Some("yes"));
        check(json!({"number": 3}), Some("3"));
        check(json!({"rating": 4}), Some("4"));
        check(json!({"text": ["words"]}), Some("words"));
        check(json!({"rectanglelabels": ["x"]}), None);
    }

    #[test]
    fn a_skipped_annotation_is_no_answer() {
        let annotation = |cancelled: bool| -> Annotation {
            serde_json::from_value(json!({"was_cancelled": cancelled, "created_at": "2026-11-24T02:00:00Z",
                "result": [{"from_name": "risk", "value": {"choices": ["yes"]}}]}))
            .unwrap()
        };
        assert!(annotation(false).answer(Some("risk")).is_some());
        assert!(annotation(false).answer(Some("other")).is_none());
        assert!(annotation(true).answer(None).is_none());
    }
}
