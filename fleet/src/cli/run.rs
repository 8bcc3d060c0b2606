//! `muster run`: retraining runs.

use std::time::Duration;

use clap::Subcommand;
use muster_protocol::ids::ModelName;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::act::{Reason, confirm, reason};
use super::output::{Column, Format, text};
use super::{CliError, Context, completing, duration};
use crate::client::ClientError;

/// Between two looks at what is watched.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists runs.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  muster run list\n  muster run list --model er-beds"
    )]
    List {
        #[arg(long, add = completing::of(&completing::MODELS))]
        model: Option<ModelName>,
    },
    /// Shows one run.
    #[command(after_help = "Example:\n  muster run show run-…")]
    Show {
        #[arg(add = completing::of(&completing::RUNS))]
        id: String,
    },
    /// Asks for a retraining now.
    #[command(
        after_help = "Example:\n  muster run start --model er-beds --reason 'the new ward opened on Monday'"
    )]
    Start {
        #[arg(long, add = completing::of(&completing::MODELS))]
        model: ModelName,
        #[arg(long)]
        reason: String,
    },
    /// Follows a run to its end.
    #[command(after_help = "Example:\n  muster run watch run-… --timeout 30m")]
    Watch {
        #[arg(add = completing::of(&completing::RUNS))]
        id: String,
        /// Give up after this real time, for example 10m (exit code 124).
        #[arg(long, value_parser = duration::parse)]
        timeout: Option<Duration>,
    },
    /// Agrees to a candidate that waits for people.
    #[command(
        after_help = "Example:\n  muster run approve run-… --reason 'better on ward 3, no worse elsewhere'"
    )]
    Approve {
        #[arg(add = completing::of(&completing::RUNS))]
        id: String,
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Does not want a candidate.
    #[command(after_help = "Example:\n  muster run reject run-… --reason 'trained on a broken sensor'")]
    Reject {
        #[arg(add = completing::of(&completing::RUNS))]
        id: String,
        #[command(flatten)]
        act: Reason,
    },
    /// Stops a run.
    #[command(after_help = "Example:\n  muster run cancel run-… --reason 'the trainer hangs'")]
    Cancel {
        #[arg(add = completing::of(&completing::RUNS))]
        id: String,
        #[command(flatten)]
        act: Reason,
    },
}

const COLUMNS: &[Column] = &[
    Column { title: "ID", cell: |r| text(r, "/id") },
    Column { title: "MODEL", cell: |r| text(r, "/model") },
    Column { title: "STATE", cell: |r| text(r, "/state") },
    Column { title: "TRIGGER", cell: |r| text(r, "/trigger/kind") },
    Column { title: "BUILDER", cell: |r| text(r, "/claimed_by") },
    Column { title: "CREATED", cell: |r| text(r, "/created") },
    Column { title: "WHAT", cell: what },
];

const FIELDS: &[Column] = &[
    Column { title: "Id", cell: |r| text(r, "/id") },
    Column { title: "Model", cell: |r| text(r, "/model") },
    Column { title: "State", cell: |r| text(r, "/state") },
    Column { title: "Trigger", cell: |r| text(r, "/trigger/kind") },
    Column { title: "Reason", cell: |r| text(r, "/trigger/reason") },
    Column { title: "Incident", cell: |r| text(r, "/trigger/incident") },
    Column { title: "Onset", cell: |r| text(r, "/trigger/onset") },
    Column { title: "Builder", cell: |r| text(r, "/claimed_by") },
    Column { title: "Progress", cell: |r| text(r, "/progress/message") },
    Column { title: "Failure", cell: |r| text(r, "/failure/sentence") },
    Column { title: "Bundle", cell: |r| text(r, "/result/bundle/path") },
    Column { title: "Approvals needed", cell: |r| text(r, "/approval/people") },
    Column { title: "Rollout", cell: |r| text(r, "/rollout") },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let client = context.client()?;
    match verb {
        Verb::List { model } => {
            let query: Vec<_> = model.into_iter().map(|model| ("model", model.to_string())).collect();
            let answer = client.list("/api/v1/runs", &query).await?;
            context.output.list(&answer, "/id", COLUMNS)
        }
        Verb::Show { id } => {
            let answer = client.get(&format!("/api/v1/runs/{id}"), &[]).await?;
            context.output.show(&answer, "/id", FIELDS)?;
            let log = answer.get("log_tail").and_then(Value::as_array);
            if context.output.format() == Format::Table {
                let gates = answer.get("gates").and_then(Value::as_array);
                gates.into_iter().flatten().try_for_each(|check| context.output.line(&gate(check)))?;
                log.into_iter()
                    .flatten()
                    .try_for_each(|line| context.output.line(&format!("  {}", text(line, ""))))?;
            }
            Ok(())
        }
        Verb::Start { model, reason: why } => {
            let body = json!({ "model": model, "reason": reason(&why)? });
            let answer = client.post("/api/v1/runs", &[], &body).await?;
            context.output.show(&answer, "/id", FIELDS)
        }
        Verb::Watch { id, timeout } => watch(context, &id, timeout).await,
        Verb::Approve { id, reason } => {
            let body = json!({ "reason": reason });
            let answer = client.post(&format!("/api/v1/runs/{id}/approve"), &[], &body).await?;
            context.output.show(&answer, "/id", FIELDS)
        }
        Verb::Reject { id, act } => {
            let body = json!({ "reason": reason(&act.reason)? });
            confirm(context, act.yes, &format!("This ends the run {id}; no policy rolls its bundle out."))?;
            let answer = client.post(&format!("/api/v1/runs/{id}/reject"), &[], &body).await?;
            context.output.show(&answer, "/id", FIELDS)
        }
        Verb::Cancel { id, act } => {
            let body = json!({ "reason": reason(&act.reason)? });
            confirm(
                context,
                act.yes,
                &format!("This stops the run {id}; what it has trained so far is lost."),
            )?;
            let answer = client.post(&format!("/api/v1/runs/{id}/cancel"), &[], &body).await?;
            context.output.show(&answer, "/id", FIELDS)
        }
    }
}

async fn watch(context: &mut Context, id: &str, timeout: Option<Duration>) -> Result<(), CliError> {
    let client = context.client()?;
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut said = String::new();
    loop {
        let run: Value = match client.get(&format!("/api/v1/runs/{id}"), &[]).await {
            Ok(run) => run,
            // A server that restarts is worth waiting for, as long as there is time.
            Err(error) if error.is_transient() && deadline.is_some() => Value::Null,
            Err(error) => return Err(ClientError::into(error)),
        };
        let state = text(&run, "/state");
        let line = format!("{state} {}", what(&run));
        if !run.is_null() && line != said {
            context.output.line(line.trim_end())?;
            said = line;
        }
        match state.as_str() {
            "succeeded" => return Ok(()),
            "failed" | "rejected" | "cancelled" => {
                return Err(CliError::EndedBadly(format!(
                    "the run {id} is {state}: {}",
                    text(&run, "/failure/sentence")
                )));
            }
            _ => {}
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(CliError::TimedOut(format!("the run {id} has not ended in the time given")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// `passed   offline     on 300 recent rows …`.
fn gate(check: &Value) -> String {
    let (verdict, name) = (text(check, "/verdict"), text(check, "/gate"));
    format!("  {verdict:<8} {name:<10}  {}", text(check, "/sentence"))
}

/// The most telling sentence of a run.
fn what(run: &Value) -> String {
    let sentence = ["/failure/sentence", "/result/bundle/path", "/progress/message", "/trigger/reason"];
    sentence.iter().map(|pointer| text(run, pointer)).find(|text| !text.is_empty()).unwrap_or_default()
}
