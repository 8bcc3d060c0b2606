//! A training that runs elsewhere: asked for, watched, stopped when nobody wants it any more, and its result fetched.
//!
//! ```text
//!   token ─▶ submit (again until heard) ─▶ look ─┬▶ the fleet has a result ─▶ files into out/
//!                                          ▲     ├▶ the tool says failed, or succeeded and brings nothing
//!                                          └─────┴▶ time is over, or stopped ─▶ cancel
//! ```
//! The job is named after run and attempt, so that asking twice makes one. The result comes through the fleet, by a
//! token that is good for this attempt only: what a job of an earlier attempt hands back is refused.

use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_protocol::ids::RunId;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::http::Fault;
use super::{SHARE, Tool, Training, airflow, github, jenkins, kubernetes, ray, webhook};
use crate::builder::feed::clean;
use crate::builder::job::{Failure, back_off};
use crate::handback::{OutputFile, TOKEN_S_MAX, TrainerResult};

/// Between two looks at the job.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Failures in a row after which a tool counts as gone: with the back-off about eight minutes.
const FAULTS_MAX: u32 = 20;
/// How long a job that says it succeeded may take to hand back its result.
const RESULT_GRACE: Duration = Duration::from_secs(30);
/// Longest wait for a tool to take back a job.
const CANCEL_WITHIN: Duration = Duration::from_secs(10);

/// What a tool is asked to do.
#[derive(Debug)]
pub struct Order {
    /// Run and attempt: the same job each time it is asked for.
    pub id: String,
    pub run: RunId,
    pub trigger: String,
    pub model: String,
    /// The `muster-run/1` document, with where and by which token to hand back the result.
    pub document: Value,
}

/// How a job stands at its tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not heard of, or not begun.
    Waiting,
    Running,
    /// Its result should be there.
    Succeeded,
    Failed(String),
}

/// A tool that runs trainings. Futures borrow the order: whatever is remembered between calls is the tool's own.
pub trait Runner: Send + Sync {
    /// Asks for the job; asked again, it must not begin a second one.
    fn submit<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), Fault>>;
    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Standing, Fault>>;
    /// Takes the job back, as well as the tool can.
    fn cancel<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), Fault>>;
    /// Lines that the job wrote since the last call, where the tool has them.
    fn lines<'a>(&'a self, _order: &'a Order) -> BoxFuture<'a, Vec<String>> {
        Box::pin(async { Vec::new() })
    }
}

pub(super) async fn train(training: &Training<'_>, tool: &Tool) -> Result<(), Failure> {
    let runner = runner(tool)?;
    let seconds = training.model.timeout_s.min(TOKEN_S_MAX);
    let token = training
        .client
        .open_result(training.run, training.builder, seconds)
        .await
        .map_err(|error| Failure::because("token_refused", &error))?;
    let order = order(training, &token);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let watched = tokio::select! {
        watched = watch(training, &*runner, &order) => watched,
        () = tokio::time::sleep_until(deadline) => {
            let sentence = format!("the training did not finish within {seconds} s and was taken back");
            Err(Failure::new("trainer_timeout", sentence))
        }
        () = training.stop.cancelled() => Err(Failure::new("cancelled", "the training was stopped")),
    };
    let files = match watched {
        Ok(files) => files,
        Err(failure) => {
            // As well as it goes: the result's token dies with the attempt in any case.
            if let Ok(Err(fault)) = tokio::time::timeout(CANCEL_WITHIN, runner.cancel(&order)).await {
                training.feed.line(&format!("the job could not be taken back: {}", fault.sentence));
            }
            return Err(failure);
        }
    };
    collect(training, &files).await
}

fn runner(tool: &Tool) -> Result<Box<dyn Runner>, Failure> {
    Ok(match tool {
        Tool::Webhook(config) => Box::new(webhook::Webhook::new(config)?),
        Tool::Ray(config) => Box::new(ray::Ray::new(config)?),
        Tool::Airflow(config) => Box::new(airflow::Airflow::new(config)?),
        Tool::Jenkins(config) => Box::new(jenkins::Jenkins::new(config)?),
        Tool::Github(config) => Box::new(github::Github::new(config)?),
        Tool::Kubernetes(config) => Box::new(kubernetes::Kubernetes::new(config)?),
        Tool::Mlflow(_) => return Err(Failure::new("trainer_start", "MLflow runs no trainings")),
    })
}

fn order(training: &Training<'_>, token: &str) -> Order {
    let Training { run, attempt, request, fleet, .. } = training;
    let url = format!("{}/api/v1/runs/{run}/result", fleet.trim_end_matches('/'));
    let mut document = (*request).clone();
    if let Some(document) = document.as_object_mut() {
        document.insert("result".to_owned(), json!({ "url": url, "token": token }));
    }
    Order {
        id: format!("{run}-{attempt}"),
        run: (*run).clone(),
        trigger: request.pointer("/trigger/id").and_then(Value::as_str).unwrap_or_default().to_owned(),
        model: training.model.model.to_string(),
        document,
    }
}

async fn watch(
    training: &Training<'_>,
    runner: &dyn Runner,
    order: &Order,
) -> Result<Vec<OutputFile>, Failure> {
    submit(training, runner, order).await?;
    training.feed.line(&format!("asked for as {}", order.id));
    let mut faults = 0;
    let mut grace: Option<Instant> = None;
    loop {
        // The fleet's own troubles are no reason to give up a training of hours.
        match training.client.run_result(training.run, training.builder).await {
            Ok(Some(TrainerResult::Succeeded { files })) => return Ok(files),
            Ok(Some(TrainerResult::Failed { message })) => {
                return Err(Failure::new(
                    "trainer_exit",
                    format!("the trainer said: {}", clean(&message, 300)),
                ));
            }
            Ok(None) => {}
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(Failure::because("result_refused", &error)),
        }
        for line in runner.lines(order).await {
            training.feed.line(&line);
        }
        let pause = match runner.look(order).await {
            Ok(standing) => {
                faults = 0;
                follow(training, &standing, &mut grace)?;
                LOOK_EVERY
            }
            Err(fault) => retry(training, fault, &mut faults)?,
        };
        tokio::time::sleep(pause).await;
    }
}

async fn submit(training: &Training<'_>, runner: &dyn Runner, order: &Order) -> Result<(), Failure> {
    let mut faults = 0;
    while let Err(fault) = runner.submit(order).await {
        let pause = retry(training, fault, &mut faults)?;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// How long to wait after a failure that may pass; the failure itself once it has lasted too long.
fn retry(training: &Training<'_>, fault: Fault, faults: &mut u32) -> Result<Duration, Failure> {
    *faults += 1;
    if !fault.is_transient || *faults >= FAULTS_MAX {
        return Err(fault.into());
    }
    if *faults == 1 {
        training.feed.line(&fault.sentence);
    }
    Ok(back_off(*faults, 128))
}

fn follow(training: &Training<'_>, standing: &Standing, grace: &mut Option<Instant>) -> Result<(), Failure> {
    match standing {
        Standing::Waiting => training.feed.progress(0.02, "waiting for the tool to begin"),
        Standing::Running => training.feed.progress(0.1 * SHARE, "training elsewhere"),
        Standing::Failed(said) => {
            return Err(Failure::new("trainer_exit", format!("the training failed: {}", clean(said, 300))));
        }
        Standing::Succeeded => {
            let until = *grace.get_or_insert_with(|| Instant::now() + RESULT_GRACE);
            training.feed.progress(0.9 * SHARE, "waiting for the result");
            if Instant::now() > until {
                let sentence = "the job succeeded and handed back no result; see docs/retraining.md";
                return Err(Failure::new("output_missing", sentence));
            }
        }
    }
    Ok(())
}

/// What was handed back, into `out/`: names were checked when they came in, contents are by their digest.
async fn collect(training: &Training<'_>, files: &[OutputFile]) -> Result<(), Failure> {
    training.feed.progress(0.95 * SHARE, "fetching the result");
    let failed = |error: std::io::Error| Failure::because("workdir_failed", &error);
    let result = TrainerResult::Succeeded { files: files.to_vec() };
    result.check().map_err(|error| Failure::because("output_invalid", &error))?;
    for file in files {
        let path = training.dir.out().join(file.path.as_str());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        training
            .client
            .get_blob(&file.sha256, &path, file.bytes)
            .await
            .map_err(|error| Failure::because("result_damaged", &error))?;
    }
    Ok(())
}
