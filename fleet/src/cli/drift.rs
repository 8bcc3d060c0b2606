//! `muster drift`: incidents and why they are one, streams by windows by sites, and whether the answers come true.

use clap::Subcommand;
use serde_json::{Value, json};

use super::act::{Reason, confirm, reason};
use super::output::{Column, Format, text};
use super::{CliError, Context, completing};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists incidents.
    #[command(visible_aliases = ["ls", "incidents"], after_help = "\
Examples:
  muster drift list
  muster drift list --state open
  muster -o json drift list | jq '.items[0].sentence'")]
    List {
        /// Only incidents that stand so.
        #[arg(long, value_parser = ["open", "acknowledged", "closed"])]
        state: Option<String>,
    },
    /// Shows each stream at each site, window by window.
    #[command(after_help = "\
Examples:
  muster drift heatmap --model er-beds
  muster drift heatmap --model er-beds --site er-2 --windows 7")]
    Heatmap {
        #[arg(long, add = completing::of(&completing::MODELS))]
        model: String,
        /// Only this site.
        #[arg(long, add = completing::of(&completing::SITES))]
        site: Option<String>,
        /// How many windows, the newest last.
        #[arg(long, default_value_t = 28, value_parser = clap::value_parser!(u32).range(1..=90))]
        windows: u32,
    },
    /// Shows whether a model's answers come true, by its matured labels.
    #[command(after_help = "Example:\n  muster drift performance --model er-beds")]
    Performance {
        #[arg(long, add = completing::of(&completing::MODELS))]
        model: String,
    },
    /// Shows one incident with its streams.
    #[command(after_help = "Example:\n  muster drift show inc-…")]
    Show {
        #[arg(add = completing::of(&completing::INCIDENTS))]
        id: String,
    },
    /// Says that somebody is looking after it.
    #[command(
        alias = "acknowledge",
        after_help = "Example:\n  muster drift ack inc-… --reason 'the new monitors, since Monday'"
    )]
    Ack {
        #[arg(add = completing::of(&completing::INCIDENTS))]
        id: String,
        /// What you make of it.
        #[arg(long)]
        reason: String,
    },
    /// Closes it; the same change is not told again, a larger one is.
    #[command(after_help = "Example:\n  muster drift close inc-… --reason 'the sensor is repaired'")]
    Close {
        #[arg(add = completing::of(&completing::INCIDENTS))]
        id: String,
        #[command(flatten)]
        act: Reason,
    },
}

const COLUMNS: &[Column] = &[
    Column { title: "ID", cell: |i| text(i, "/id") },
    Column { title: "MODEL", cell: |i| text(i, "/model") },
    Column { title: "KIND", cell: |i| text(i, "/kind") },
    Column { title: "STATE", cell: |i| text(i, "/state") },
    Column { title: "ONSET", cell: |i| text(i, "/onset") },
    Column { title: "STREAMS", cell: |i| streams(i).len().to_string() },
    Column { title: "WHAT", cell: |i| text(i, "/sentence") },
];

const FIELDS: &[Column] = &[
    Column { title: "Id", cell: |i| text(i, "/id") },
    Column { title: "Model", cell: |i| text(i, "/model") },
    Column { title: "Kind", cell: |i| text(i, "/kind") },
    Column { title: "State", cell: |i| text(i, "/state") },
    Column { title: "Onset", cell: |i| text(i, "/onset") },
    Column { title: "Opened", cell: |i| text(i, "/opened") },
    Column { title: "Sites", cell: |i| text(i, "/scope/sites") },
    Column { title: "Trigger", cell: |i| text(i, "/trigger") },
    Column { title: "What", cell: |i| text(i, "/sentence") },
    Column { title: "Why", cell: |i| text(i, "/why") },
];

const STREAMS: &[Column] = &[
    Column { title: "STREAM", cell: |s| text(s, "/name") },
    Column { title: "SHIFT (SD, 95 %)", cell: |s| shift(s, "/effect_sd", "/effect_low", "/effect_high") },
    Column { title: "BROKEN", cell: |s| text(s, "/broken") },
    Column { title: "PSI", cell: |s| rounded(s, "/psi") },
    Column { title: "B", cell: |s| text(s, "/b") },
    Column { title: "DEVICES", cell: |s| text(s, "/devices") },
];

/// One stream at one site; the lines are put together here.
const HEAT: &[Column] = &[
    Column { title: "SITE", cell: |l| text(l, "/site") },
    Column { title: "STREAM", cell: |l| text(l, "/stream") },
    Column { title: "WINDOWS", cell: |l| text(l, "/marks") },
    Column { title: "NOW", cell: |l| text(l, "/now/state") },
    Column {
        title: "SHIFT (SD, 95 %)",
        cell: |l| shift(l, "/now/mean_shift_sd", "/now/shift_low", "/now/shift_high"),
    },
    Column { title: "AGAINST", cell: |l| text(l, "/against") },
];

const DAYS: &[Column] = &[
    Column { title: "VERSION", cell: |d| text(d, "/version") },
    Column { title: "FROM", cell: |d| text(d, "/day/from") },
    Column { title: "LABELS", cell: |d| text(d, "/day/labels") },
    Column { title: "CAME", cell: |d| text(d, "/day/observed") },
    Column { title: "PROMISED", cell: |d| rounded(d, "/day/expected") },
    Column { title: "Z", cell: |d| rounded(d, "/day/z") },
    Column { title: "LOSS", cell: |d| thousandths(d, "/day/loss") },
    Column { title: "HOLDOUT", cell: |d| thousandths(d, "/day/holdout_loss") },
    Column { title: "STATE", cell: |d| text(d, "/day/state") },
];

/// What the scores say of themselves, with the limits that counting in bins leaves.
const ESTIMATED: &[Column] = &[
    Column { title: "VERSION", cell: |d| text(d, "/version") },
    Column { title: "FROM", cell: |d| text(d, "/day/from") },
    Column { title: "PREDICTIONS", cell: |d| text(d, "/day/predictions") },
    Column { title: "PROMISED", cell: |d| rounded(d, "/day/positives") },
    Column { title: "LOSS", cell: |d| within(d, "/day/loss") },
    Column { title: "ACCURACY", cell: |d| within(d, "/day/accuracy") },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let client = context.client()?;
    match verb {
        Verb::List { state } => {
            let query: Vec<_> = state.into_iter().map(|state| ("state", state)).collect();
            let answer = client.list("/api/v1/incidents", &query).await?;
            context.output.list(&answer, "/id", COLUMNS)
        }
        Verb::Show { id } => {
            let answer = client.get(&format!("/api/v1/incidents/{id}"), &[]).await?;
            context.output.show(&answer, "/id", FIELDS)?;
            if context.output.format() == Format::Table && !streams(&answer).is_empty() {
                context.output.line("")?;
                context.output.table(streams(&answer), STREAMS)?;
            }
            Ok(())
        }
        Verb::Heatmap { model, site, windows } => {
            let mut query = vec![("model", model), ("windows", windows.to_string())];
            query.extend(site.map(|site| ("site", site)));
            let answer = client.get("/api/v1/drift/heatmap", &query).await?;
            if context.output.format() == Format::Json {
                return context.output.json(&answer);
            }
            context.output.table(&heat(&answer), HEAT)?;
            context.output.say(
                "oldest window first: . ok   w warn   D drift   ? too few rows, which is not \"no drift\"",
            )
        }
        Verb::Performance { model } => {
            let answer = client.get("/api/v1/drift/performance", &[("model", model)]).await?;
            if context.output.format() == Format::Json {
                return context.output.json(&answer);
            }
            context.output.table(&days(&answer, "/days"), DAYS)?;
            let estimated = days(&answer, "/estimated");
            if !estimated.is_empty() {
                context.output.line("")?;
                context.output.table(&estimated, ESTIMATED)?;
                context.output.say(
                    "estimated without labels, from the model's own probabilities: blind where they have become wrong",
                )?;
            }
            for bundle in array(&answer, "/bundles") {
                let said = format!(
                    "{}: {} of {} matured predictions have a label, {} are too young",
                    text(bundle, "/version"),
                    text(bundle, "/labelled"),
                    text(bundle, "/matured"),
                    text(bundle, "/waiting"),
                );
                context.output.say(&said)?;
            }
            Ok(())
        }
        Verb::Ack { id, reason: why } => {
            let body = json!({ "reason": reason(&why)? });
            let answer = client.post(&format!("/api/v1/incidents/{id}/acknowledge"), &[], &body).await?;
            done(context, &id, "acknowledged", &answer)
        }
        Verb::Close { id, act } => {
            let body = json!({ "reason": reason(&act.reason)? });
            confirm(
                context,
                act.yes,
                &format!("This closes the incident {id}: it will trigger nothing any more."),
            )?;
            let answer = client.post(&format!("/api/v1/incidents/{id}/close"), &[], &body).await?;
            done(context, &id, "closed", &answer)
        }
    }
}

fn done(context: &mut Context, id: &str, what: &str, answer: &Value) -> Result<(), CliError> {
    match context.output.format() {
        Format::Json => context.output.json(answer),
        Format::Name => context.output.line(id),
        Format::Table => context.output.say(&format!("{id} is {what}")),
    }
}

fn streams(incident: &Value) -> &[Value] {
    incident.get("streams").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn array<'a>(item: &'a Value, pointer: &str) -> &'a [Value] {
    item.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A line for each stream at each site.
fn heat(answer: &Value) -> Vec<Value> {
    let mut lines = Vec::new();
    for site in array(answer, "/sites") {
        for stream in array(answer, "/streams").iter().filter_map(Value::as_str) {
            let of = |window: &Value| {
                array(window, "/streams").iter().find(|found| text(found, "/name") == stream).cloned()
            };
            let cells: Vec<Value> = array(site, "/windows").iter().filter_map(of).collect();
            let marks: String = cells.iter().map(mark).collect();
            let now = cells.last().cloned().unwrap_or_default();
            let against = match (text(&now, "/against").as_str(), text(site, "/baseline/state").as_str()) {
                ("training", "learning") => format!(
                    "training (site is learnt: {} of {} windows)",
                    text(site, "/baseline/windows"),
                    text(site, "/baseline/wanted")
                ),
                (against, _) => against.to_owned(),
            };
            lines.push(json!({"site": text(site, "/site"), "stream": stream, "marks": marks, "now": now, "against": against}));
        }
    }
    lines
}

fn mark(cell: &Value) -> char {
    match text(cell, "/state").as_str() {
        "ok" => '.',
        "warn" => 'w',
        "drift" => 'D',
        _ => '?',
    }
}

fn days(answer: &Value, of: &str) -> Vec<Value> {
    let lines = array(answer, "/bundles").iter().flat_map(|bundle| {
        let version = text(bundle, "/version");
        array(bundle, of).iter().map(move |day| json!({"version": version, "day": day}))
    });
    lines.collect()
}

/// `+1.40 (1.20 to 1.60)`
fn shift(item: &Value, sd: &str, low: &str, high: &str) -> String {
    let number = |pointer: &str| item.pointer(pointer).and_then(Value::as_f64);
    match (number(sd), number(low), number(high)) {
        (Some(sd), Some(low), Some(high)) => format!("{sd:+.2} ({low:.2} to {high:.2})"),
        (Some(sd), _, _) => format!("{sd:+.2}"),
        (None, _, _) => String::new(),
    }
}

/// `0.093 (0.088 to 0.097)`
fn within(item: &Value, pointer: &str) -> String {
    let parts = ["value", "low", "high"].map(|part| thousandths(item, &format!("{pointer}/{part}")));
    if parts.iter().any(String::is_empty) {
        return String::new();
    }
    let [value, low, high] = parts;
    format!("{value} ({low} to {high})")
}

fn thousandths(item: &Value, pointer: &str) -> String {
    item.pointer(pointer).and_then(Value::as_f64).map(|number| format!("{number:.3}")).unwrap_or_default()
}

fn rounded(item: &Value, pointer: &str) -> String {
    item.pointer(pointer).and_then(Value::as_f64).map(|number| format!("{number:.2}")).unwrap_or_default()
}
