//! `muster device`: boxes, what runs on them, and which of them are members.

mod register;

use clap::Subcommand;
use serde_json::Value;

use super::output::{Column, Format, text};
use super::{CliError, Context, completing};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists boxes.
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  muster device list
  muster device list --site er-2 --presence offline
  muster -o name device list --phase failed            # ids, for the shell"
    )]
    List {
        /// Only names or ids that contain this.
        #[arg(long)]
        q: Option<String>,
        #[arg(long, add = completing::of(&completing::SITES))]
        site: Option<String>,
        /// Only boxes that are connected, or that are not.
        #[arg(long, value_parser = ["online", "offline"])]
        presence: Option<String>,
        /// Only boxes with a slot in this phase.
        #[arg(long)]
        phase: Option<String>,
        #[arg(long, add = completing::of(&completing::MODELS))]
        model: Option<String>,
    },
    /// Shows one box.
    #[command(after_help = "Example:\n  muster device show d-…")]
    Show {
        /// Its id, as `muster device list` has it.
        #[arg(add = completing::of(&completing::DEVICES))]
        id: String,
    },
    /// Why this model is on this box: who ordered it, who rolled it out, what made it and what asked for that.
    Why(super::lineage::Why),
    Telemetry(super::telemetry::OfDevice),
    Tag(super::cohort::Tag),
    #[command(flatten)]
    Register(register::Verb),
}

const COLUMNS: &[Column] = &[
    Column { title: "NAME", cell: |d| text(d, "/name") },
    Column { title: "SITE", cell: |d| text(d, "/site") },
    Column { title: "PRESENCE", cell: |d| text(d, "/presence") },
    Column { title: "STATE", cell: |d| text(d, "/identity/state") },
    Column { title: "RUNNING", cell: running },
    Column { title: "PHASE", cell: |d| each_slot(d, "/phase/is") },
    Column { title: "PROVIDER", cell: |d| each_slot(d, "/current/provider") },
    Column { title: "WAITING ON", cell: |d| text(d, "/waiting_on/sentence") },
    Column { title: "ID", cell: |d| text(d, "/id") },
];

const FIELDS: &[Column] = &[
    Column { title: "Name", cell: |d| text(d, "/name") },
    Column { title: "Id", cell: |d| text(d, "/id") },
    Column { title: "Site", cell: |d| text(d, "/site") },
    Column { title: "Presence", cell: |d| text(d, "/presence") },
    Column { title: "Last seen", cell: |d| text(d, "/last_seen") },
    Column { title: "State", cell: |d| text(d, "/identity/state") },
    Column { title: "Why", cell: |d| text(d, "/identity/reason") },
    Column { title: "Fingerprint", cell: |d| text(d, "/identity/fingerprint") },
    Column { title: "Certificate until", cell: |d| text(d, "/identity/certificate_expires") },
    Column { title: "Suspect", cell: |d| text(d, "/identity/suspect_clone") },
    Column { title: "Agent", cell: |d| text(d, "/agent_version") },
    Column { title: "Order", cell: |d| text(d, "/order_version") },
    Column { title: "Running", cell: running },
    Column { title: "Phase", cell: |d| each_slot(d, "/phase/is") },
    Column { title: "Provider", cell: |d| each_slot(d, "/current/provider") },
    Column { title: "Provider reason", cell: |d| each_slot(d, "/current/provider_reason") },
    Column { title: "Refused", cell: |d| text(d, "/refusal/sentence") },
    Column { title: "Waiting on", cell: |d| text(d, "/waiting_on/sentence") },
    Column { title: "Next", cell: |d| text(d, "/waiting_on/next") },
    Column { title: "CPU %", cell: |d| text(d, "/health/cpu_percent") },
    Column { title: "Agent memory", cell: |d| mebibytes(d, "/health/agent_rss_bytes") },
    Column { title: "Reports lost", cell: lost },
    Column { title: "Disk free", cell: |d| mebibytes(d, "/health/disk_free_bytes") },
];

const EVENTS: &[Column] = &[
    Column { title: "AT", cell: |e| text(e, "/at") },
    Column { title: "KIND", cell: |e| text(e, "/kind") },
    Column { title: "WHAT", cell: |e| text(e, "/sentence") },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let client = context.client()?;
    match verb {
        Verb::List { q, site, presence, phase, model } => {
            let filters =
                [("q", q), ("site", site), ("presence", presence), ("phase", phase), ("model", model)];
            let query: Vec<_> =
                filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            let answer = client.list("/api/v1/devices", &query).await?;
            context.output.list(&answer, "/id", COLUMNS)
        }
        Verb::Why(why) => super::lineage::why(context, why).await,
        Verb::Telemetry(of) => super::telemetry::of_device(context, of).await,
        Verb::Tag(tag) => super::cohort::tag(context, tag).await,
        Verb::Register(verb) => register::run(context, verb).await,
        Verb::Show { id } => {
            let answer = client.get(&format!("/api/v1/devices/{id}"), &[]).await?;
            context.output.show(&answer, "/id", FIELDS)?;
            match answer.get("recent_events").and_then(Value::as_array) {
                Some(events) if context.output.format() == Format::Table && !events.is_empty() => {
                    context.output.line("")?;
                    context.output.table(events, EVENTS)
                }
                _ => Ok(()),
            }
        }
    }
}

fn running(device: &Value) -> String {
    let of = |slot: &Value| {
        let version = text(slot, "/current/version");
        if version.is_empty() { "nothing".to_owned() } else { format!("{} {version}", text(slot, "/slot")) }
    };
    slots(device).map(of).collect::<Vec<_>>().join(", ")
}

fn each_slot(device: &Value, pointer: &str) -> String {
    let texts = slots(device).map(|slot| text(slot, pointer)).filter(|text| !text.is_empty());
    texts.collect::<Vec<_>>().join(", ")
}

fn slots(device: &Value) -> impl Iterator<Item = &Value> {
    device.get("slots").and_then(Value::as_array).into_iter().flatten()
}

/// What it gave up, and since when; empty if nothing.
fn lost(device: &Value) -> String {
    let lost = device.get("lost_reports").and_then(Value::as_array).into_iter().flatten();
    let one = |lost: &Value| format!("{} since {}", text(lost, "/reports"), text(lost, "/since"));
    lost.map(one).collect::<Vec<_>>().join(", ")
}

fn mebibytes(item: &Value, pointer: &str) -> String {
    let bytes = item.pointer(pointer).and_then(Value::as_u64);
    bytes.map(|bytes| format!("{} MiB", bytes / (1024 * 1024))).unwrap_or_default()
}
