//! One run from its claim to its end: train, build, compare, sign, publish.
//!
//! ```text
//!   champion ◀─ blobs      trainer ─▶ out/ ─▶ bundle/ ─▶ gates ─▶ upload ─▶ auto-<model>.json ─▶ published
//!        │ champion_failed    │ trainer_*    │ output_* model_*  │ rejected   │ sign_failed publish_failed
//! ```
//!
//! Whatever happens has one code and one sentence; nothing but the sentence and the log leaves this machine.

use std::error::Error;
use std::time::Duration;

use muster_protocol::ids::{BundleVersion, IdError};
use muster_protocol::time::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::bundle::{self, Built, BundleFolder, Form, Measured, Recipe};
use super::config::{Config, Model};
use super::datasets;
use super::feed::Feed;
use super::gates::{self, Candidate};
use super::publish;
use super::trainer;
use super::trainer::mlflow::{Published, Record};
use super::workdir::RunDir;
use crate::client::{CheckBody, Claim, Client, Finish};
use crate::retrain::first_failure;

/// How a run ended badly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable, for programs.
    pub code: &'static str,
    pub sentence: String,
}

impl Failure {
    pub fn new(code: &'static str, sentence: impl Into<String>) -> Self {
        Self { code, sentence: muster_protocol::limits::sentence(sentence) }
    }

    /// An error with all its causes, as one sentence.
    pub fn because(code: &'static str, error: &dyn Error) -> Self {
        let mut sentence = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors print their cause themselves.
            if !sentence.contains(&text) {
                sentence = format!("{sentence}: {text}");
            }
            cause = error.source();
        }
        Self::new(code, sentence)
    }
}

/// Everything one run works with.
#[derive(Debug)]
pub struct Job<'a> {
    pub config: &'a Config,
    pub client: &'a Client,
    pub claim: &'a Claim,
    pub dir: &'a RunDir,
    pub feed: &'a Feed,
    /// Real time at the claim.
    pub now: Timestamp,
    pub stop: CancellationToken,
}

impl Job<'_> {
    /// Works until there is something to tell the fleet.
    pub async fn run(&self) -> Finish {
        let record = self.record().await;
        let finish = match self.try_run(record.as_ref()).await {
            Ok(finish) => finish,
            Err(Failure { code, sentence }) => Finish::Failed { code: code.to_owned(), sentence },
        };
        if let (Some(record), Finish::Failed { .. } | Finish::Rejected { .. }) = (&record, &finish) {
            self.noted(record.end("FAILED", self.now.as_millis()).await);
        }
        finish
    }

    /// The run's page in `MLflow`, where the configuration names one.
    async fn record(&self) -> Option<Record> {
        let book = self.config.mlflow.as_ref()?;
        let (run, trigger) = (self.claim.run.id.as_str(), self.trigger().unwrap_or_default());
        let model = self.claim.run.model.as_str();
        self.noted(Record::begin(book, run, trigger, model, self.now.as_millis()).await)
    }

    /// `MLflow` is told, and never waited for: what it does not take is a line in the log.
    fn noted<T>(&self, told: Result<T, trainer::http::Fault>) -> Option<T> {
        told.inspect_err(|fault| self.feed.line(&format!("not told to MLflow: {}", fault.sentence))).ok()
    }

    async fn try_run(&self, record: Option<&Record>) -> Result<Finish, Failure> {
        let model = self.config.model(&self.claim.run.model).ok_or_else(|| {
            Failure::new("unknown_model", format!("this builder trains no model '{}'", self.claim.run.model))
        })?;
        let champion = self.champion().await?;
        let request = self.request(model).await?;
        trainer::train(&trainer::Training {
            model,
            run: &self.claim.run.id,
            attempt: self.claim.run.attempt.unwrap_or(1),
            request: &request,
            builder: &self.config.name,
            client: self.client,
            fleet: self.config.fleet_for_trainers.as_deref().unwrap_or_else(|| self.client.server()),
            dir: self.dir,
            feed: self.feed,
            stop: &self.stop,
        })
        .await?;
        let built = self.build(model, champion.as_ref()).await?;
        if let Some(record) = record {
            let manifest = serde_json::to_value(&built.manifest).unwrap_or_default();
            self.noted(record.figures(&manifest, self.now.as_millis()).await);
        }
        let evaluation = evaluation(&built);
        let checks = gates::checks(&Candidate {
            manifest: &built.manifest,
            measured: built.measured.as_ref(),
            variants: &built.variants,
            report: &built.report,
            run: &self.claim.run.id,
            champion: champion.as_ref().map(|champion| (&champion.manifest, champion.sha256)),
            frozen_tolerance: model.frozen_tolerance,
            resources: model.resources,
        });
        let gates: Vec<CheckBody> = checks.iter().map(CheckBody::from).collect();
        if let Some(failed) = first_failure(&checks) {
            self.feed.line(&format!("rejected: {}", failed.sentence));
            let (code, sentence) = (failed.code.clone(), failed.sentence.clone());
            return Ok(Finish::Rejected { code, sentence, evaluation, gates });
        }
        let finish = self.publish(evaluation, gates).await?;
        if let (Some(record), Finish::Published { bundle, .. }) = (record, &finish) {
            let published = Published {
                model: self.claim.run.model.as_str(),
                trigger: self.trigger().unwrap_or_default(),
                bundle: &bundle.sha256.to_string(),
                folder: &self.dir.bundle(),
            };
            self.noted(record.publish(published, self.now.as_millis()).await);
        }
        Ok(finish)
    }

    /// What the trainer is told: the fleet's request, and where the datasets are that this run is trained on. The fleet is
    /// told before anything is trained.
    async fn request(&self, model: &Model) -> Result<Value, Failure> {
        let mut request = self.claim.request.clone();
        if model.datasets.is_empty() {
            return Ok(request);
        }
        self.feed.progress(0.0, "fetching datasets");
        let cache = self.config.work_dir.join("datasets");
        let (versions, told) = datasets::for_run(self.client, &model.datasets, &cache).await?;
        for version in &versions {
            self.feed.line(&format!("dataset {}@{} {}", version.name, version.number, version.sha256));
        }
        let said = self.client.trained_on(&self.claim.run.id, &self.config.name, &versions).await;
        said.map_err(|error| Failure::because("dataset_failed", &error))?;
        request["datasets"] = Value::Array(told);
        Ok(request)
    }

    async fn champion(&self) -> Result<Option<BundleFolder>, Failure> {
        let Some(champion) = &self.claim.champion else { return Ok(None) };
        self.feed.progress(0.0, "fetching the champion");
        let folder = self.dir.champion();
        publish::download(self.client, &champion.sha256, &folder)
            .await
            .map_err(|error| Failure::because("champion_failed", &error))?;
        BundleFolder::open(&folder).map(Some).map_err(|error| Failure::because("champion_failed", &error))
    }

    async fn build(&self, model: &Model, champion: Option<&BundleFolder>) -> Result<Built, Failure> {
        let run = &self.claim.run;
        let recipe = Recipe {
            from: self.dir.out(),
            form: Form::plain(),
            model: run.model.clone(),
            version: version(self.now, run.id.as_str())
                .map_err(|error| Failure::because("version_invalid", &error))?,
            created: self.now,
            out: self.dir.bundle(),
            champion: champion.map(|champion| champion.path.clone()),
            pane_s: model.pane_s,
            run: Some(run.id.clone()),
            trigger: self.trigger().and_then(|id| id.parse().ok()),
        };
        let progress = |fraction: f64, what: &str| {
            self.feed.progress(trainer::SHARE + fraction * (0.95 - trainer::SHARE), what);
            self.feed.line(&format!("bundle: {what}"));
        };
        let evaluator = self.config.evaluator();
        let built = Box::pin(bundle::build(&recipe, &evaluator, &self.stop, &progress))
            .await
            .map_err(|error| Failure::because(error.code(), &error))?;
        self.feed.line(&format!("bundle: {} answered by {}", built.sha256.short(), built.report.provider));
        Ok(built)
    }

    async fn publish(&self, evaluation: Value, gates: Vec<CheckBody>) -> Result<Finish, Failure> {
        if self.stop.is_cancelled() {
            return Err(Failure::new("cancelled", "stopped before it was signed"));
        }
        self.feed.progress(0.95, "publishing");
        let bundle = BundleFolder::open(&self.dir.bundle())
            .map_err(|error| Failure::because("build_failed", &error))?;
        publish::upload(self.client, &bundle, |file| self.feed.line(&format!("uploaded {file}")))
            .await
            .map_err(|error| Failure::because("publish_failed", &error))?;
        let published = publish::publish_auto(self.client, &bundle, self.config, self.now)
            .await
            .map_err(|error| Failure::because(error.code(), &error))?;
        self.feed.progress(1.0, "published");
        Ok(Finish::Published { bundle: published, evaluation, gates })
    }

    fn trigger(&self) -> Option<&str> {
        self.claim.request.pointer("/trigger/id").and_then(Value::as_str)
    }
}

/// Readable, ordered in time, and different for two runs of one second.
fn version(now: Timestamp, run: &str) -> Result<BundleVersion, IdError> {
    let text = now.to_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).take(14).collect();
    let (date, time) = digits.split_at(digits.len().min(8));
    let end: String = run.chars().skip(run.len().saturating_sub(4)).collect();
    format!("{date}.{time}-{end}").parse()
}

/// The manifest's short form, and all figures beside it.
fn evaluation(built: &Built) -> Value {
    let summary = built.measured.as_ref().map(Measured::summary);
    let mut value = serde_json::to_value(summary).unwrap_or_default();
    value["measured"] = serde_json::to_value(&built.measured).unwrap_or_default();
    value
}

/// How long to wait before asking again, after `failures` failures in a row; `random` spreads builders apart.
pub fn back_off(failures: u32, random: u8) -> Duration {
    let longest = Duration::from_secs(1 << failures.min(5)).min(Duration::from_secs(30));
    longest.mul_f64(0.5 + f64::from(random) / 510.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_dates() {
        let now = "2026-11-24T02:03:04.567Z".parse().unwrap();
        assert_eq!(version(now, "run-00000000000000000000000abc").unwrap().as_str(), "20261124.020304-0abc");
    }

    #[test]
    fn waiting_grows_to_half_a_minute() {
        assert!(back_off(0, 255) <= Duration::from_secs(1));
        assert!(back_off(99, 0) >= Duration::from_secs(15));
        assert!(back_off(99, 255) <= Duration::from_secs(30));
    }

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: {0}")]
        struct Outer(#[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("inner")]
        struct Inner;
        assert_eq!(Failure::because("x", &Outer(Inner)).sentence, "outer: inner");
    }
}
