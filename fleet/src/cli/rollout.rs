//! `muster rollout`: start one, watch it, and steer it with the words of the buttons.

mod plan;
mod replay;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use muster_protocol::ids::{ModelName, SlotName};
use serde_json::{Value, json};

use super::act::{Reason, confirm, reason};
use super::output::{Column, Format, text};
use super::{CliError, Context, duration};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Starts a rollout.
    #[command(after_help = plan::HELP)]
    Create(Create),
    /// Lists rollouts.
    #[command(visible_alias = "ls")]
    List {
        #[arg(long)]
        model: Option<ModelName>,
    },
    /// Shows one rollout with its stages, gates and what it waits on.
    Show { id: String },
    /// Follows a rollout to its end: 0 completed, 3 aborted or rolled back, 124 time-out.
    Watch {
        id: String,
        /// Give up after this real time, for example 10m.
        #[arg(long, value_parser = duration::parse)]
        timeout: Option<Duration>,
    },
    /// Every device of a rollout, each with one sentence.
    Devices { id: String },
    /// Hands out no more until it is resumed.
    Pause(Act),
    /// Goes on where it was; a failed gate stays failed.
    Resume(Act),
    /// Passes the gate of the current stage by hand.
    Promote(Act),
    /// Stops it; boxes keep what they run.
    Abort(Act),
    /// Stops it and brings every box back to what it ran before.
    Rollback(Act),
    /// Lives a rollout again from its journal, without a server, and compares: 0 it agrees, 3 it differs.
    #[command(after_help = replay::HELP)]
    Replay(replay::Journal),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[arg(long)]
    model: ModelName,
    /// Its path in the catalogue or the SHA-256 of its manifest.
    #[arg(long)]
    bundle: String,
    /// The place on the boxes; the model's name if not given.
    #[arg(long)]
    slot: Option<SlotName>,
    /// A stage; repeat for more. Without any: one canary, then everyone.
    #[arg(long = "stage", value_parser = plan::stage, conflicts_with = "plan")]
    stages: Vec<Value>,
    /// A TOML or JSON file with stages and selector.
    #[arg(long)]
    plan: Option<PathBuf>,
    /// Only boxes of this site. Repeatable.
    #[arg(long)]
    site: Vec<String>,
    /// Only this box, by id. Repeatable.
    #[arg(long)]
    device: Vec<String>,
    #[arg(long)]
    reason: String,
    /// Say what would happen, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct Act {
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

const DEVICES: &[Column] = &[
    Column { title: "NAME", cell: |d| text(d, "/name") },
    Column { title: "SITE", cell: |d| text(d, "/site") },
    Column { title: "STAGE", cell: |d| text(d, "/stage") },
    Column { title: "STATE", cell: |d| text(d, "/state") },
    Column { title: "WHAT", cell: |d| text(d, "/sentence") },
    Column { title: "NEXT", cell: |d| text(d, "/next") },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    if let Verb::Replay(file) = &verb {
        return replay::run(context, file);
    }
    let client = context.client()?;
    match verb {
        Verb::Create(create) => {
            let body = create.body(&context.actor)?;
            let query: Vec<_> = create.dry_run.then(|| ("dry_run", "true".to_owned())).into_iter().collect();
            let answer = client.post("/api/v1/rollouts", &query, &body).await?;
            if create.dry_run {
                context.output.say("this is what would happen; nothing was started")?;
                return context.output.json(&answer);
            }
            show(context, &answer)
        }
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
        Verb::Devices { id } => {
            let answer = client.list(&format!("{}/devices", path(&id)), &[]).await?;
            context.output.list(&answer, "/device", DEVICES)
        }
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

impl Create {
    fn body(&self, actor: &str) -> Result<Value, CliError> {
        let mut body = match &self.plan {
            Some(file) => super::policy::read(file)?,
            None if self.stages.is_empty() => json!({ "stages": plan::default_stages() }),
            None => json!({ "stages": self.stages }),
        };
        body["model"] = json!(self.model);
        body["bundle"] = json!(self.bundle);
        body["reason"] = json!(reason(&self.reason)?);
        body["started_by"] = json!({ "kind": "person", "name": actor });
        if let Some(slot) = &self.slot {
            body["slot"] = json!(slot);
        }
        if !self.site.is_empty() {
            body["selector"]["sites"] = json!(self.site);
        }
        if !self.device.is_empty() {
            body["selector"]["devices"] = json!(self.device);
        }
        Ok(body)
    }
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
        check("promote", "This passes the gate of ro-1 by hand: 2 goes on to up to 3 more devices of 6.");
    }
}
