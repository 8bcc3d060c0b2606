//! How a model is trained: by a command on this machine, or by a tool that runs elsewhere.
//!
//! ```text
//!   local    command ─▶ out/                                    limits, lines, exit code
//!   remote   submit ─▶ look … look ─▶ the result, handed back ─▶ out/   webhook · Ray · Airflow · Jenkins · GitHub · Kubernetes
//!   mlflow   the registry's newest version ─▶ out/
//! ```
//! Whoever trained, `out/` is read as a stranger's: what is built, compared and signed comes from [`super::output`].

pub mod airflow;
pub mod github;
pub mod http;
pub mod jenkins;
pub mod kubernetes;
pub mod local;
pub mod mlflow;
pub mod ray;
pub mod remote;
pub mod webhook;

use std::path::{Path, PathBuf};

use muster_protocol::ids::RunId;
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::config::Model;
use super::feed::Feed;
use super::job::Failure;
use super::workdir::RunDir;
use crate::client::Client;

/// How much of a run's progress is the trainer's.
pub const SHARE: f64 = 0.7;

/// One training: what is asked, and where its output goes.
#[derive(Debug)]
pub struct Training<'a> {
    pub model: &'a Model,
    pub run: &'a RunId,
    /// How often the run was handed out; names of jobs elsewhere hold it.
    pub attempt: u32,
    /// The trainer's `muster-run/1` document.
    pub request: &'a Value,
    /// Name of this builder.
    pub builder: &'a str,
    pub client: &'a Client,
    /// The fleet's address as trainers elsewhere reach it.
    pub fleet: &'a str,
    pub dir: &'a RunDir,
    pub feed: &'a Feed,
    pub stop: &'a CancellationToken,
}

/// Where a model is trained, if not by a command here: `[models.trainer]` in builder.toml.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Tool {
    Webhook(webhook::Config),
    Ray(ray::Config),
    Airflow(airflow::Config),
    Jenkins(jenkins::Config),
    Github(github::Config),
    Kubernetes(kubernetes::Config),
    Mlflow(mlflow::Config),
}

impl Tool {
    /// What is wrong with its addresses, before anything is asked of it.
    pub fn check(&self) -> Result<(), String> {
        http::address(self.url()).map(drop)
    }

    fn url(&self) -> &str {
        match self {
            Self::Webhook(config) => &config.url,
            Self::Ray(config) => &config.url,
            Self::Airflow(config) => &config.url,
            Self::Jenkins(config) => &config.url,
            Self::Github(config) => &config.url,
            Self::Kubernetes(config) => &config.url,
            Self::Mlflow(config) => &config.url,
        }
    }

    /// Files that it names, relative to the configuration.
    pub fn locate(&mut self, folder: &Path) {
        let files: Vec<&mut PathBuf> = match self {
            Self::Webhook(config) => vec![&mut config.secret_file],
            Self::Ray(config) => config.token_file.iter_mut().collect(),
            Self::Airflow(config) => vec![&mut config.password_file],
            Self::Jenkins(config) => config.token_file.iter_mut().chain(&mut config.password_file).collect(),
            Self::Github(config) => vec![&mut config.token_file],
            Self::Kubernetes(config) => {
                let optional = config.token_file.iter_mut().chain(&mut config.ca_file);
                optional.chain([&mut config.job]).collect()
            }
            Self::Mlflow(config) => config.token_file.iter_mut().collect(),
        };
        for file in files {
            // Joining an absolute path yields that path.
            *file = folder.join(&*file);
        }
    }
}

/// Trains; afterwards `out/` holds what the trainer made, unread.
pub async fn train(training: &Training<'_>) -> Result<(), Failure> {
    let request = serde_json::to_vec_pretty(training.request)
        .map_err(|error| Failure::because("request_invalid", &error))?;
    std::fs::write(training.dir.request(), request)
        .map_err(|error| Failure::because("workdir_failed", &error))?;
    training.feed.progress(0.01, "training");
    match &training.model.trainer {
        None => local::train(training).await,
        Some(Tool::Mlflow(config)) => mlflow::fetch(training, config).await,
        Some(tool) => remote::train(training, tool).await,
    }
}
