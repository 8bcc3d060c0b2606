//! New rollouts, from a plan file or from the command line. Saying what would happen is what they do unasked; starting is
//! what they do when told.

use std::path::{Path, PathBuf};

use clap::Args;
use muster_protocol::ids::{ModelName, SlotName};
use serde_json::{Value, json};

use super::file::PlanFile;
use super::{plan as stage_words, show};
use crate::cli::act::{confirm, reason};
use crate::cli::output::{Column, Format, text};
use crate::cli::{CliError, Context, completing};
use crate::client::{Client, ClientError};

const ROLLOUTS: &str = "/api/v1/rollouts";

pub(super) const FILE_HELP: &str = "\
A plan file is YAML: model, bundle, reason, selector (sites, devices, filter, cohort), stages (name, size, quorum, bake,
deadline, gate), in_flight_max, rate_per_hour_max, priority, on_failure, windows, approvals, start_at, stepping_stones.
Spans are written 30s, 10m, 6h, 2d. examples/plans/winter-model.yaml has them all.

Exit codes:
  0  it holds together (plan), or was made (apply)
  1  it does not; file, line and field are on stderr
  2  nobody could be asked: add --yes

Examples:
  muster rollout plan examples/plans/winter-model.yaml
  muster rollout apply examples/plans/winter-model.yaml --yes";

#[derive(Debug, Args)]
pub(in crate::cli) struct Create {
    #[arg(long, add = completing::of(&completing::MODELS))]
    model: ModelName,
    /// Its path in the catalogue or the SHA-256 of its manifest.
    #[arg(long)]
    bundle: String,
    /// The place on the boxes; the model's name if not given.
    #[arg(long)]
    slot: Option<SlotName>,
    /// A stage; repeat for more. Without any: one canary, then everyone.
    #[arg(long = "stage", value_parser = stage_words::stage, conflicts_with = "plan")]
    stages: Vec<Value>,
    /// A TOML or JSON file with stages and selector. (YAML files: muster rollout apply.)
    #[arg(long)]
    plan: Option<PathBuf>,
    /// Only boxes of this site. Repeatable.
    #[arg(long, add = completing::of(&completing::SITES))]
    site: Vec<String>,
    /// Only this box, by id. Repeatable.
    #[arg(long, add = completing::of(&completing::DEVICES))]
    device: Vec<String>,
    #[arg(long)]
    reason: String,
    /// People other than you who must say yes first.
    #[arg(long)]
    approvals: Option<u8>,
    /// Say what would happen, and do nothing.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Start it; do not ask.
    #[arg(short, long, visible_alias = "start")]
    yes: bool,
}

const STAGES: &[Column] = &[
    Column { title: "STAGE", cell: |s| text(s, "/name") },
    Column { title: "DEVICES", cell: |s| text(s, "/target_devices") },
    Column { title: "REACHES", cell: |s| text(s, "/reaches") },
    Column { title: "BAKE", cell: |s| span(s, "/bake_s") },
    Column { title: "DEADLINE", cell: |s| span(s, "/deadline_s") },
    Column { title: "PASSED AFTER", cell: |s| spread(s, "/forecast") },
    Column { title: "FIRST", cell: first },
];

const BUGS: &[Column] = &[
    Column { title: "IF", cell: |b| text(b, "/sentence") },
    Column { title: "STOPPED", cell: |b| percent(b, "/stopped_share") },
    Column {
        title: "EXPOSED",
        cell: |b| format!("{} (90 %: {})", text(b, "/exposed_p50"), text(b, "/exposed_p90")),
    },
    Column { title: "DEVICE-HOURS", cell: |b| text(b, "/device_hours_p50") },
    Column { title: "AFTER", cell: |b| span(b, "/stopped_after_p50_s") },
];

const SITES: &[Column] = &[
    Column { title: "SITE", cell: |s| text(s, "/site") },
    Column { title: "DEVICES", cell: |s| text(s, "/devices") },
    Column { title: "BYTES", cell: |s| text(s, "/bytes") },
];

pub(super) async fn plan(context: &mut Context, file: &Path) -> Result<(), CliError> {
    let file = PlanFile::read(file)?;
    let client = context.client()?;
    let body = wish(&client, &context.actor, &file).await?;
    let told = rehearse(&client, &body).await.map_err(|error| placed(&file, error))?;
    show_rehearsal(context, &told)
}

pub(super) async fn apply(context: &mut Context, path: &Path, yes: bool) -> Result<(), CliError> {
    let file = PlanFile::read(path)?;
    let client = context.client()?;
    let body = wish(&client, &context.actor, &file).await?;
    if !yes {
        let told = rehearse(&client, &body).await.map_err(|error| placed(&file, error))?;
        show_rehearsal(context, &told)?;
        ask(context, &told)?;
    }
    let made = client.post(ROLLOUTS, &[], &body).await.map_err(|error| placed(&file, error))?;
    show(context, &made)
}

pub(super) async fn create(context: &mut Context, create: Create) -> Result<(), CliError> {
    let body = create.body(&context.actor)?;
    if !create.yes {
        let told = rehearse(&context.client()?, &body).await?;
        if create.dry_run {
            context.output.say("this is what would happen; nothing was started")?;
        }
        show_rehearsal(context, &told)?;
        if create.dry_run {
            return Ok(());
        }
        ask(context, &told)?;
    }
    let made = context.client()?.post(ROLLOUTS, &[], &body).await?;
    show(context, &made)
}

/// Asks whether to go on; where nobody can be asked, says which command does.
fn ask(context: &mut Context, told: &Value) -> Result<(), CliError> {
    let what = format!(
        "This rolls {} out to {} devices in {} stages.",
        text(told, "/bundle/path"),
        text(told, "/cohort"),
        told.pointer("/stages").and_then(Value::as_array).map_or(0, Vec::len)
    );
    if !context.output.is_interactive() {
        let typed: Vec<String> = std::env::args().skip(1).map(|word| quoted(&word)).collect();
        return Err(CliError::Usage(format!(
            "{what}\nerror: nothing was started, and this is not a terminal; go on with: muster {} --yes",
            typed.join(" ")
        )));
    }
    confirm(context, false, &what)
}

async fn wish(client: &Client, actor: &str, file: &PlanFile) -> Result<Value, CliError> {
    let cohort = match file.cohort() {
        None => None,
        Some(name) => {
            let found = client.get(&format!("/api/v1/cohorts/{name}"), &[]).await;
            Some(text(&found.map_err(|error| placed_at(file, "/selector/cohort", error))?, "/filter"))
        }
    };
    file.body(actor, cohort.as_deref())
}

async fn rehearse(client: &Client, body: &Value) -> Result<Value, ClientError> {
    client.post(ROLLOUTS, &[("dry_run", "true".to_owned())], body).await
}

/// A server's refusal with the line of the file that it is about.
fn placed(file: &PlanFile, error: ClientError) -> CliError {
    match error.pointer() {
        Some(pointer) => file.fault(pointer, &error.to_string()),
        None => error.into(),
    }
}

fn placed_at(file: &PlanFile, pointer: &str, error: ClientError) -> CliError {
    if error.status() == Some(404) { file.fault(pointer, "there is no such cohort") } else { error.into() }
}

fn show_rehearsal(context: &mut Context, told: &Value) -> Result<(), CliError> {
    if context.output.format() != Format::Table {
        return context.output.json(told);
    }
    let list = |pointer: &str| told.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    context.output.line(&format!(
        "{} to {} devices, slot {}",
        text(told, "/bundle/path"),
        text(told, "/cohort"),
        text(told, "/slot")
    ))?;
    context.output.table(&list("/stages"), STAGES)?;
    let forecast = told.pointer("/forecast").cloned().unwrap_or_default();
    if forecast.is_null() {
        return Ok(());
    }
    context.output.line("")?;
    context.output.line(&format!("Finished after {}", spread(&forecast, "/finish")))?;
    context.output.table(&list("/forecast/bugs"), BUGS)?;
    context.output.table(&list("/forecast/sites"), SITES)?;
    for warning in list("/forecast/warnings") {
        context.output.line(&format!("! {}", text(&warning, "")))?;
    }
    context.output.line(&text(&forecast, "/basis"))
}

/// What was foreseen beside what came, of a rollout that the server shows.
pub(super) fn forecast_against_outcome(rollout: &Value) -> String {
    let foreseen = spread(rollout, "/forecast/finish");
    if foreseen.is_empty() {
        return String::new();
    }
    let actual = span(rollout, "/forecast/actual_s");
    if actual.is_empty() { foreseen } else { format!("{foreseen}; it took {actual}") }
}

fn first(stage: &Value) -> String {
    let names = stage.pointer("/first").and_then(Value::as_array);
    names.into_iter().flatten().take(3).map(|name| text(name, "")).collect::<Vec<_>>().join(", ")
}

fn percent(item: &Value, pointer: &str) -> String {
    item.pointer(pointer)
        .and_then(Value::as_f64)
        .map_or_else(String::new, |share| format!("{:.0} %", share * 100.0))
}

/// Three spans of which the middle one is the likeliest.
fn spread(item: &Value, pointer: &str) -> String {
    let part = |name: &str| span(item, &format!("{pointer}/{name}"));
    match (part("p10_s"), part("p50_s"), part("p90_s")) {
        (_, middle, _) if middle.is_empty() => String::new(),
        (low, middle, high) if high.is_empty() => format!("{middle} ({low} or more)"),
        (low, middle, high) => format!("{middle} ({low} to {high})"),
    }
}

/// Seconds as people say them, in two units at most.
fn span(item: &Value, pointer: &str) -> String {
    let Some(seconds) = item.pointer(pointer).and_then(Value::as_u64) else { return String::new() };
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let mut rest = seconds;
    let mut said = String::new();
    for (unit, size) in units {
        if rest >= size && said.split_whitespace().count() < 2 {
            said = format!("{said} {}{unit}", rest / size);
            rest %= size;
        }
    }
    if said.is_empty() { "0s".to_owned() } else { said.trim_start().to_owned() }
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:%@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

impl Create {
    fn body(&self, actor: &str) -> Result<Value, CliError> {
        let mut body = match &self.plan {
            Some(file) => crate::cli::policy::read(file)?,
            None if self.stages.is_empty() => json!({ "stages": stage_words::default_stages() }),
            None => json!({ "stages": self.stages }),
        };
        body["model"] = json!(self.model);
        body["bundle"] = json!(self.bundle);
        body["reason"] = json!(reason(&self.reason)?);
        body["started_by"] = json!({ "kind": "person", "name": actor });
        if let Some(slot) = &self.slot {
            body["slot"] = json!(slot);
        }
        if let Some(approvals) = self.approvals {
            body["approvals_min"] = json!(approvals);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let check = |seconds: u64, expect: &str| assert_eq!(span(&json!({"s": seconds}), "/s"), expect);
        check(0, "0s");
        check(59, "59s");
        check(90_061, "1d 1h");
        check(3_600, "1h");
    }

    #[test]
    fn a_shell_reads_back_what_was_typed() {
        let check = |word: &str, expect: &str| assert_eq!(quoted(word), expect);
        check("--stage", "--stage");
        check("all=100%,bake=1h", "all=100%,bake=1h");
        check("first release", "'first release'");
        check("it's", "'it'\\''s'");
        check("", "''");
    }
}
