//! Ray Jobs: a submission named after the attempt. Ray asks nobody who they are, so reach it on this machine or through a
//! proxy that does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{Fault, Tool, secret};
use super::remote::{Order, Runner, Standing};

/// New lines of one look.
const LINES_MAX: usize = 100;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Of the dashboard: `http://127.0.0.1:8265`.
    pub url: String,
    /// What the job runs; the request is in its environment as `MUSTER_REQUEST_JSON`.
    pub entrypoint: String,
    /// For a proxy in front of Ray.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Added to the job's environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

pub(super) struct Ray {
    tool: Tool,
    config: Config,
    /// How many lines of the log were passed on.
    told: AtomicUsize,
}

impl Ray {
    pub(super) fn new(config: &Config) -> Result<Self, Fault> {
        Ok(Self { tool: Tool::new(&config.url, None)?, config: config.clone(), told: AtomicUsize::new(0) })
    }

    fn request(&self, method: Method, segments: &[&str]) -> Result<RequestBuilder, Fault> {
        let request = self.tool.request(method, &[&["api", "jobs"], segments].concat());
        Ok(match &self.config.token_file {
            Some(file) => request.bearer_auth(secret(file)?.as_str()),
            None => request,
        })
    }

    async fn job(&self, order: &Order) -> Result<Option<Value>, Fault> {
        let reply = self.tool.send(self.request(Method::GET, &[&order.id])?).await?;
        if reply.status == StatusCode::NOT_FOUND { Ok(None) } else { reply.json("Ray").map(Some) }
    }

    async fn submitted(&self, order: &Order) -> Result<(), Fault> {
        // A submission id that exists is answered with 500, which says nothing: so look first.
        if self.job(order).await?.is_some() {
            return Ok(());
        }
        let mut env = self.config.env.clone();
        env.insert("MUSTER_REQUEST_JSON".to_owned(), order.document.to_string());
        let body = json!({
            "entrypoint": self.config.entrypoint,
            "submission_id": order.id,
            "runtime_env": { "env_vars": env },
            "metadata": { "muster.run": order.run, "muster.trigger": order.trigger, "muster.model": order.model },
        });
        // The trailing slash is Ray's.
        let reply = self.tool.send(self.request(Method::POST, &[""])?.json(&body)).await?;
        reply.json("Ray").map(drop)
    }
}

impl Runner for Ray {
    fn submit<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.submitted(order))
    }

    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Standing, Fault>> {
        Box::pin(async move {
            let Some(job) = self.job(order).await? else { return Ok(Standing::Waiting) };
            let said = || job["message"].as_str().unwrap_or("Ray gave no reason").to_owned();
            Ok(match job["status"].as_str().unwrap_or_default() {
                "PENDING" => Standing::Waiting,
                "SUCCEEDED" => Standing::Succeeded,
                "FAILED" => Standing::Failed(said()),
                "STOPPED" => Standing::Failed("somebody stopped the job".to_owned()),
                _ => Standing::Running,
            })
        })
    }

    fn cancel<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let reply = self.tool.send(self.request(Method::POST, &[&order.id, "stop"])?).await?;
            if reply.status == StatusCode::NOT_FOUND { Ok(()) } else { reply.json("Ray").map(drop) }
        })
    }

    fn lines<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Vec<String>> {
        Box::pin(async move {
            let Ok(request) = self.request(Method::GET, &[&order.id, "logs"]) else { return Vec::new() };
            // A log that cannot be read is no reason for anything.
            let Ok(logs) = self.tool.send(request).await.and_then(|reply| reply.json("Ray")) else {
                return Vec::new();
            };
            let lines: Vec<&str> = logs["logs"].as_str().unwrap_or_default().lines().collect();
            let told = self.told.swap(lines.len(), Ordering::Relaxed).min(lines.len());
            let new = &lines[told..];
            new[new.len().saturating_sub(LINES_MAX)..].iter().map(|line| (*line).to_owned()).collect()
        })
    }
}
