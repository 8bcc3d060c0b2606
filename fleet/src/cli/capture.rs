//! `muster capture`: asking sites to keep rows of live requests for themselves; and, at a site, making a dataset of them.

mod export;
mod samples;

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::act::{self, Reason};
use super::output::{Column, text};
use super::{CliError, Context, completing, duration};

pub(super) use samples::Samples;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists what was asked, the newest first.
    #[command(visible_alias = "ls", after_help = "Example:\n  muster capture list")]
    List,
    /// Shows how each box stands to it, and why it captures nothing if it does not.
    #[command(after_help = "Example:\n  muster capture show cap-…")]
    Show {
        /// Its id, as `muster capture list` has it.
        #[arg(add = completing::of(&completing::CAPTURES))]
        id: String,
    },
    /// Asks boxes to keep rows. Each site's own policy, a file on its boxes, decides whether they do; the rows are
    /// encrypted for the site and never come here.
    #[command(after_help = "\
Examples:
  muster capture request --slot er-beds --bundle SHA256 --site er-2 --rows 500 --every 10 --for 7d --why review --reason 'audit of May'
  muster capture request --slot risk --bundle SHA256 --device d-… --rows 200 --score 0.4..0.6 --for 2d --why low-confidence --reason 'unsure scores'
  muster capture request --slot risk --bundle SHA256 --site icu --rows 200 --for 2d --incident inc-… --reason 'what has changed?'")]
    Request(Request),
    /// At a site: joins captured rows with what became of them, as a Parquet file.
    #[command(after_help = export::EXAMPLES)]
    Export(Box<export::Args>),
    /// Asks no more. What sites have kept stays theirs.
    #[command(after_help = "Example:\n  muster capture cancel cap-… --reason 'the audit is done'")]
    Cancel {
        #[arg(add = completing::of(&completing::CAPTURES))]
        id: String,
        #[command(flatten)]
        act: Reason,
    },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("of").required(true), group = ArgGroup::new("because").required(true))]
pub(super) struct Request {
    #[arg(long)]
    slot: String,
    /// Only rows that this bundle answered: its digest, as `muster bundle list` has it.
    #[arg(long, value_name = "SHA256", add = completing::of(&completing::BUNDLES))]
    bundle: String,
    /// All boxes of this site that are ordered to run the bundle.
    #[arg(long, group = "of", add = completing::of(&completing::SITES))]
    site: Option<String>,
    /// A box's id; may be given several times.
    #[arg(long = "device", group = "of", value_name = "ID", add = completing::of(&completing::DEVICES))]
    devices: Vec<String>,
    /// What the rows are for.
    #[arg(long, value_enum, group = "because")]
    why: Option<Why>,
    /// The drift incident that they are for.
    #[arg(long, group = "because", add = completing::of(&completing::INCIDENTS))]
    incident: Option<String>,
    /// Rows of each box.
    #[arg(long)]
    rows: u32,
    /// One of so many rows; all, without it.
    #[arg(long, value_name = "N", conflicts_with = "score")]
    every: Option<u32>,
    /// Only rows whose score lies in this band, such as 0.4..0.6.
    #[arg(long, value_parser = band, value_name = "LOW..HIGH")]
    score: Option<Band>,
    /// For how long, such as 7d.
    #[arg(long = "for", value_parser = duration::some, value_name = "SPAN")]
    span: Duration,
    /// Why; people at the site read it in the log.
    #[arg(long)]
    reason: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Why {
    LowConfidence,
    Review,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Band {
    low: f64,
    high: f64,
}

impl Band {
    pub(super) fn holds(self, score: f64) -> bool {
        (self.low..=self.high).contains(&score)
    }
}

pub(super) fn band(text: &str) -> Result<Band, String> {
    let ends = text.split_once("..").and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    let (low, high) =
        ends.ok_or_else(|| format!("'{text}' is no band of scores; write for instance 0.4..0.6"))?;
    Ok(Band { low, high })
}

const CAPTURES: &[Column] = &[
    Column { title: "SLOT", cell: |c| text(c, "/slot") },
    Column { title: "BUNDLE", cell: |c| text(c, "/bundle/path") },
    Column { title: "WHY", cell: |c| text(c, "/why") },
    Column { title: "ROWS", cell: |c| text(c, "/rows") },
    Column { title: "BOXES", cell: |c| text(c, "/boxes") },
    Column { title: "UNTIL", cell: until },
    Column { title: "REASON", cell: |c| text(c, "/reason") },
    Column { title: "ID", cell: |c| text(c, "/id") },
];

const DEVICES: &[Column] = &[
    Column { title: "BOX", cell: |d| text(d, "/name") },
    Column { title: "ROWS", cell: |d| text(d, "/answer/rows") },
    Column { title: "FILES", cell: |d| text(d, "/answer/files") },
    Column { title: "DROPPED", cell: |d| text(d, "/answer/dropped") },
    Column { title: "STANDING", cell: |d| text(d, "/answer/standing/code") },
    Column { title: "SAYS", cell: |d| text(d, "/answer/standing/sentence") },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let client = context.client()?;
    match verb {
        Verb::Export(args) => export::run(context, *args).await,
        Verb::List => {
            let answer = client.list("/api/v1/captures", &[]).await?;
            context.output.list(&answer, "/id", CAPTURES)
        }
        Verb::Show { id } => {
            let answer = client.get(&format!("/api/v1/captures/{id}"), &[]).await?;
            show(context, &answer)
        }
        Verb::Request(request) => {
            let answer = client.post("/api/v1/captures", &[], &body(&request)?).await?;
            show(context, &answer)
        }
        Verb::Cancel { id, act } => {
            let reason = act::reason(&act.reason)?;
            act::confirm(
                context,
                act.yes,
                &format!("Boxes stop capturing for {id}; what sites have stays theirs."),
            )?;
            let body = json!({ "reason": reason });
            let answer = client.post(&format!("/api/v1/captures/{id}/cancel"), &[], &body).await?;
            show(context, &answer)
        }
    }
}

fn body(request: &Request) -> Result<Value, CliError> {
    let why = match (&request.incident, request.why) {
        (None, Some(Why::LowConfidence)) => "low_confidence",
        (None, Some(Why::Review)) => "review",
        (Some(_), _) | (None, None) => "drift",
    };
    Ok(json!({
        "slot": request.slot,
        "bundle": request.bundle,
        "site": request.site,
        "devices": request.devices,
        "why": why,
        "incident": request.incident,
        "rows": request.rows,
        "every": request.every,
        "score": request.score.map(|band| json!({ "low": band.low, "high": band.high })),
        "for_s": request.span.as_secs(),
        "reason": act::reason(&request.reason)?,
    }))
}

fn show(context: &mut Context, answer: &Value) -> Result<(), CliError> {
    context.output.show(answer, "/id", CAPTURES)?;
    match (context.output.format(), answer.get("devices").and_then(Value::as_array)) {
        (super::output::Format::Table, Some(devices)) => context.output.table(devices, DEVICES),
        _other => Ok(()),
    }
}

fn until(capture: &Value) -> String {
    let cancelled = text(capture, "/cancelled");
    if cancelled.is_empty() { text(capture, "/until") } else { format!("cancelled {cancelled}") }
}
