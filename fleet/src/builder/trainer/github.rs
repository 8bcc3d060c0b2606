//! GitHub Actions by `repository_dispatch`. GitHub answers 204 and no number, so the workflow's `run-name` has to hold
//! `${{ github.event.client_payload.job }}`: by that its run is found.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{Fault, Reply, Tool, secret};
use super::remote::{Order, Runner, Standing};

/// Largest payload of a dispatch, bytes.
const PAYLOAD_BYTES_MAX: usize = 65_000;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default = "api")]
    pub url: String,
    /// `owner/name`.
    pub repository: String,
    #[serde(default = "event")]
    pub event: String,
    /// A fine-grained token with "contents: write" and "actions: write" for this repository.
    pub token_file: PathBuf,
}

fn api() -> String {
    "https://api.github.com".to_owned()
}

fn event() -> String {
    "muster-retrain".to_owned()
}

pub(super) struct Github {
    tool: Tool,
    config: Config,
}

impl Github {
    pub(super) fn new(config: &Config) -> Result<Self, Fault> {
        if config.repository.split('/').filter(|part| !part.is_empty()).count() != 2 {
            return Err(Fault::lasting("github: repository is written owner/name"));
        }
        Ok(Self { tool: Tool::new(&config.url, None)?, config: config.clone() })
    }

    async fn ask(&self, method: Method, segments: &[&str], body: Option<&Value>) -> Result<Reply, Fault> {
        let repository = self.config.repository.split('/');
        let path: Vec<&str> =
            ["repos"].into_iter().chain(repository).chain(segments.iter().copied()).collect();
        let mut request = self
            .tool
            .request(method, &path)
            .bearer_auth(secret(&self.config.token_file)?.as_str())
            .header("accept", "application/vnd.github+json")
            .header("x-github-api-version", "2022-11-28");
        request = match body {
            Some(body) => request.json(body),
            None => request.query(&[("per_page", "100")]),
        };
        self.tool.send(request).await
    }

    async fn run(&self, order: &Order) -> Result<Option<Value>, Fault> {
        let runs = self.ask(Method::GET, &["actions", "runs"], None).await?.json("GitHub")?;
        let is_ours =
            |run: &&Value| run["display_title"].as_str().is_some_and(|title| holds(title, &order.id));
        Ok(runs["workflow_runs"].as_array().into_iter().flatten().find(is_ours).cloned())
    }
}

/// `run-…-1` is not in `retrain run-…-12`.
fn holds(title: &str, id: &str) -> bool {
    title.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|word| word == id)
}

impl Runner for Github {
    fn submit<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            if self.run(order).await?.is_some() {
                return Ok(());
            }
            let payload = json!({ "job": order.id, "request": order.document });
            if payload.to_string().len() > PAYLOAD_BYTES_MAX {
                return Err(Fault::lasting("the request is larger than a dispatch may be"));
            }
            let body = json!({ "event_type": self.config.event, "client_payload": payload });
            let reply = self.ask(Method::POST, &["dispatches"], Some(&body)).await?;
            if reply.status == StatusCode::NO_CONTENT { Ok(()) } else { Err(reply.fault("GitHub")) }
        })
    }

    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Standing, Fault>> {
        Box::pin(async move {
            let Some(run) = self.run(order).await? else { return Ok(Standing::Waiting) };
            Ok(match (run["status"].as_str(), run["conclusion"].as_str()) {
                (Some("completed"), Some("success")) => Standing::Succeeded,
                (Some("completed"), how) => {
                    let page = run["html_url"].as_str().unwrap_or("its page");
                    Standing::Failed(format!(
                        "the workflow ended as {}; see {page}",
                        how.unwrap_or("nothing")
                    ))
                }
                (Some("in_progress"), _) => Standing::Running,
                _ => Standing::Waiting,
            })
        })
    }

    fn cancel<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let run = self.run(order).await?;
            let Some(id) = run.and_then(|run| run["id"].as_u64()) else { return Ok(()) };
            let segments = ["actions", "runs", &id.to_string(), "cancel"];
            let reply = self.ask(Method::POST, &segments, Some(&json!({}))).await?;
            // 409: it has ended.
            let is_done = reply.status.is_success() || reply.status == StatusCode::CONFLICT;
            if is_done { Ok(()) } else { Err(reply.fault("GitHub")) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_found_by_its_whole_name() {
        assert!(holds("retrain er (run-abc-1)", "run-abc-1"));
        assert!(!holds("retrain er (run-abc-12)", "run-abc-1"));
        assert!(!holds("retrain er", "run-abc-1"));
    }
}
