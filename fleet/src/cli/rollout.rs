//! `muster rollout`: start one, watch it, and steer it with the words of the buttons.

mod create;
mod devices;
mod evidence;
mod file;
mod plan;
mod replay;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use muster_protocol::ids::ModelName;
use serde_json::{Value, json};

use super::act::{Reason, confirm, reason};
use super::output::{Column, Format, text};
use super::{CliError, Context, completing, duration};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Checks a plan file and says what it would do: who goes when, how long, and what its gates can see.
    #[command(after_help = create::FILE_HELP)]
    Plan { file: PathBuf },
    /// Does what a plan file says, after asking.
    #[command(after_help = create::FILE_HELP)]
    Apply {
        file: PathBuf,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Says what a rollout would do, asks, and starts it.
    #[command(after_help = plan::HELP)]
    Create(create::Create),
    /// Lists rollouts.
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  muster rollout list
  muster rollout list --model er-beds"
    )]
    List {
        #[arg(long, add = completing::of(&completing::MODELS))]
        model: Option<ModelName>,
    },
    /// Shows one rollout with its stages, gates and what it waits on.
    #[command(after_help = "Example:\n  muster rollout show ro-…")]
    Show {
        #[arg(add = completing::of(&completing::ROLLOUTS))]
        id: String,
    },
    /// Follows a rollout to its end: 0 completed, 3 aborted, rolled back or superseded, 124 time-out.
    #[command(after_help = "\
Examples:
  muster rollout watch ro-…
  muster rollout watch ro-… --timeout 10m || echo 'not completed'")]
    Watch {
        #[arg(add = completing::of(&completing::ROLLOUTS))]
        id: String,
        /// Give up after this real time, for example 10m.
        #[arg(long, value_parser = duration::parse)]
        timeout: Option<Duration>,
    },
    /// Its devices by why they are where they are: counts first, then each with one sentence and its next step.
    #[command(after_help = "\
Examples:
  muster rollout devices ro-…
  muster rollout devices ro-… --reason offline
  muster rollout devices ro-… --state failed")]
    Devices(devices::Devices),
    /// Why one box is where it is, in every open rollout.
    #[command(after_help = "Example:\n  muster rollout why er-2-ward-1")]
    Why {
        /// Its id or its name.
        #[arg(add = completing::of(&completing::DEVICE_NAMES))]
        device: String,
    },
    /// Says yes to a proposed rollout. Its author's own yes does not count, and nobody's counts twice.
    #[command(
        after_help = "Example:\n  muster rollout approve ro-… --reason 'read the evaluation with Dr. Weber'"
    )]
    Approve(Act),
    /// Hands out no more until it is resumed; gates stay armed.
    #[command(after_help = "Example:\n  muster rollout pause ro-… --reason 'network works tonight'")]
    Pause(Act),
    /// Goes on where it was; a failed gate stays failed.
    #[command(after_help = "Example:\n  muster rollout resume ro-… --reason 'the network is back'")]
    Resume(Act),
    /// Passes the gate of the current stage by hand; recorded as a deviation.
    #[command(
        after_help = "Example:\n  muster rollout promote ro-… --reason 'nobody calls this model at night'"
    )]
    Promote(Act),
    /// Asks those again whose install failed.
    #[command(after_help = "Example:\n  muster rollout retry ro-… --reason 'the disk is free again'")]
    Retry(Act),
    /// Stops it and holds: boxes keep what they run, and whoever has not switched yet stays.
    #[command(after_help = "Example:\n  muster rollout abort ro-… --reason 'a better candidate is coming'")]
    Abort(Act),
    /// Stops it and brings every box that was told back to what it ran before.
    #[command(after_help = "\
Examples:
  muster rollout rollback ro-… --reason 'scores are wrong on ward 3'      # says how many boxes, and asks
  muster rollout rollback ro-… --reason 'scores are wrong on ward 3' --yes")]
    Rollback(Act),
    /// Writes the signed record of a rollout: who, why, what, every gate with its arithmetic.
    #[command(after_help = "\
Examples:
  muster rollout evidence ro-… --out ro.evidence.json
  muster rollout verify-evidence ro.evidence.json --root 1.root.json")]
    Evidence {
        #[arg(add = completing::of(&completing::ROLLOUTS))]
        id: String,
        #[arg(long)]
        out: PathBuf,
    },
    /// Writes what the engine was told of a rollout, in order, for `muster rollout replay`.
    #[command(after_help = "Example:\n  muster rollout journal ro-… --out journal.json")]
    Journal {
        #[arg(add = completing::of(&completing::ROLLOUTS))]
        id: String,
        #[arg(long)]
        out: PathBuf,
    },
    /// Checks such a record without any server: signature, sums, verdicts, history. Ends with 3 if anything differs.
    #[command(after_help = evidence::HELP)]
    VerifyEvidence {
        file: PathBuf,
        /// A root file that you trust, not one that came with the record.
        #[arg(long)]
        root: PathBuf,
    },
    /// Lives a rollout again from its journal, without a server, and compares: 0 it agrees, 3 it differs.
    #[command(after_help = replay::HELP)]
    Replay(replay::Journal),
}

#[derive(Debug, Args)]
pub(super) struct Act {
    #[arg(add = completing::of(&completing::ROLLOUTS))]
    id: String,
    #[command(flatten)]
    act: Reason,
}

const COLUMNS: &[Column] = &[
    Column { title: "ID", cell: |r| text(r, "/id") },
    Column { title: "MODEL", cell: |r| text(r, "/model") },
    Column { title: "VERSION", cell: |r| text(r, "/bundle/version") },
    Column { title: "PHASE", cell: |r| text(r, "/phase/is") },
    Column { title: "STAGES", cell: |r| stages(r).iter().map(short).collect::<Vec<_>>().join(" > ") },
    Column { title: "CREATED", cell: |r| text(r, "/created") },
];

const FIELDS: &[Column] = &[
    Column { title: "Id", cell: |r| text(r, "/id") },
    Column { title: "Model", cell: |r| text(r, "/model") },
    Column { title: "Bundle", cell: |r| text(r, "/bundle/path") },
    Column { title: "Phase", cell: |r| text(r, "/phase/is") },
    Column { title: "Because", cell: |r| text(r, "/phase/reason/sentence") },
    Column { title: "Reason", cell: |r| text(r, "/reason") },
    Column { title: "Started by", cell: |r| text(r, "/started_by/name") },
    Column { title: "Approved by", cell: approvals },
    Column { title: "Forecast", cell: create::forecast_against_outcome },
    Column { title: "Waiting on", cell: |r| text(r, "/waiting_on/0/sentence") },
    Column { title: "Next", cell: |r| text(r, "/waiting_on/0/next") },
];

const STAGES: &[Column] = &[
    Column { title: "STAGE", cell: |s| text(s, "/name") },
    Column { title: "STATE", cell: |s| text(s, "/state") },
    Column { title: "DEVICES", cell: |s| text(s, "/target_devices") },
    Column { title: "HANDED", cell: |s| text(s, "/handed") },
    Column { title: "ACTIVE", cell: |s| text(s, "/activated") },
    Column { title: "FAILED", cell: |s| text(s, "/failed") },
    Column { title: "GATE", cell: |s| text(s, "/gate/verdict") },
    Column { title: "WHY", cell: why },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    if let Verb::Replay(file) = &verb {
        return replay::run(context, file);
    }
    let client = context.client()?;
    match verb {
        Verb::Plan { file } => create::plan(context, &file).await,
        Verb::Apply { file, yes } => create::apply(context, &file, yes).await,
        Verb::Create(create) => create::create(context, create).await,
        Verb::List { model } => {
            let query: Vec<_> = model.into_iter().map(|model| ("model", model.to_string())).collect();
            let answer = client.list("/api/v1/rollouts", &query).await?;
            context.output.list(&answer, "/id", COLUMNS)
        }
        Verb::Show { id } => {
            let answer = client.get(&path(&id), &[]).await?;
            show(context, &answer)
        }
        Verb::Watch { id, timeout } => watch::watch(context, &id, timeout).await,
        Verb::Devices(args) => devices::devices(context, args).await,
        Verb::Why { device } => devices::why(context, &device).await,
        Verb::Evidence { id, out } => evidence::fetch(context, &id, &out).await,
        Verb::Journal { id, out } => evidence::journal(context, &id, &out).await,
        Verb::VerifyEvidence { file, root } => evidence::verify(context, &file, &root),
        Verb::Approve(act) => steer(context, "approve", act).await,
        Verb::Retry(act) => steer(context, "retry", act).await,
        Verb::Pause(act) => steer(context, "pause", act).await,
        Verb::Resume(act) => steer(context, "resume", act).await,
        Verb::Promote(act) => steer(context, "promote", act).await,
        Verb::Abort(act) => steer(context, "abort", act).await,
        Verb::Rollback(act) => steer(context, "rollback", act).await,
        Verb::Replay(file) => replay::run(context, &file),
    }
}

async fn steer(context: &mut Context, verb: &str, act: Act) -> Result<(), CliError> {
    let client = context.client()?;
    let body = json!({ "reason": reason(&act.act.reason)? });
    let id = &act.id;
    if !matches!(verb, "pause" | "resume") {
        let rollout = client.get(&path(id), &[]).await?;
        confirm(context, act.act.yes, &consequence(verb, &rollout))?;
    }
    let answer = client.post(&format!("{}/{verb}", path(id)), &[], &body).await?;
    show(context, &answer)
}

/// What an act does, in numbers.
fn consequence(verb: &str, rollout: &Value) -> String {
    let sum =
        |field: &str| stages(rollout).iter().filter_map(|stage| stage.get(field)?.as_u64()).sum::<u64>();
    let (total, active, handed) = (sum("target_devices"), sum("activated"), sum("handed"));
    let (id, version) = (text(rollout, "/id"), text(rollout, "/bundle/version"));
    match verb {
        "rollback" => format!(
            "This brings {} of {total} devices back from {version} to what they ran before ({id}).",
            active.max(handed)
        ),
        "abort" => format!(
            "This stops {id}: {active} of {total} devices stay on {version}, {} never get it.",
            total.saturating_sub(active.max(handed))
        ),
        "approve" => format!(
            "This says yes to {id}: {version} for up to {total} devices. Reason given: {}",
            text(rollout, "/reason")
        ),
        "retry" => {
            format!("This asks {} devices again that could not install {version} ({id}).", sum("failed"))
        }
        _ => format!(
            "This passes the gate of {id} by hand: {version} goes on to up to {} more devices of {total}.",
            total.saturating_sub(active.max(handed))
        ),
    }
}

fn show(context: &mut Context, rollout: &Value) -> Result<(), CliError> {
    context.output.show(rollout, "/id", FIELDS)?;
    if context.output.format() == Format::Table && !stages(rollout).is_empty() {
        context.output.line("")?;
        context.output.table(stages(rollout), STAGES)?;
    }
    Ok(())
}

/// Who said yes, and how many more it takes.
fn approvals(rollout: &Value) -> String {
    let said = rollout.pointer("/approvals").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let needed = rollout.pointer("/approvals_min").and_then(Value::as_u64).unwrap_or(0);
    if needed == 0 && said.is_empty() {
        return String::new();
    }
    let names: Vec<String> = said.iter().map(|yes| text(yes, "/by")).collect();
    format!(
        "{} of {needed}: {}",
        said.len(),
        if names.is_empty() { "nobody yet".to_owned() } else { names.join(", ") }
    )
}

fn path(id: &str) -> String {
    format!("/api/v1/rollouts/{id}")
}

fn stages(rollout: &Value) -> &[Value] {
    rollout.get("stages").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn short(stage: &Value) -> String {
    format!("{} {}/{}", text(stage, "/name"), text(stage, "/activated"), text(stage, "/target_devices"))
}

/// The layers of a gate that have something to say.
fn why(stage: &Value) -> String {
    let layers = stage.pointer("/gate/layers").and_then(Value::as_array);
    let telling = layers.into_iter().flatten().filter(|layer| text(layer, "/verdict") != "pass");
    telling
        .map(|layer| text(layer, "/sentence"))
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consequences_are_numbers() {
        let rollout = json!({"id": "ro-1", "bundle": {"version": "2"}, "stages": [
            {"target_devices": 1, "activated": 1, "handed": 1}, {"target_devices": 5, "activated": 1, "handed": 2}]});
        let check = |verb: &str, expect: &str| assert_eq!(consequence(verb, &rollout), expect);
        check("rollback", "This brings 3 of 6 devices back from 2 to what they ran before (ro-1).");
        check("abort", "This stops ro-1: 2 of 6 devices stay on 2, 3 never get it.");
        check("retry", "This asks 0 devices again that could not install 2 (ro-1).");
        check("promote", "This passes the gate of ro-1 by hand: 2 goes on to up to 3 more devices of 6.");
    }
}
