//! `muster telemetry`: how much is kept, what was dropped; and `muster device telemetry`: how a box was over time.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::output::{Column, Format, text};
use super::{CliError, Context, completing};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Shows how much is kept of what boxes report, what was dropped, and what boxes gave up.
    #[command(after_help = "Example:\n  muster telemetry kept")]
    Kept,
}

/// Shows how a box was over time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  muster device telemetry d-…
  muster device telemetry d-… --step 1h --from 2026-11-24T02:00:00Z")]
pub(super) struct OfDevice {
    /// Its id, as `muster device list` has it.
    #[arg(add = completing::of(&completing::DEVICES))]
    id: String,
    /// Each report, or what the reports of a span say together.
    #[arg(long, value_parser = ["raw", "5m", "1h"], default_value = "5m")]
    step: String,
    /// As 2026-11-24T02:00:00Z; six hours before the end if absent.
    #[arg(long)]
    from: Option<String>,
    /// As 2026-11-24T02:00:00Z; now if absent.
    #[arg(long)]
    to: Option<String>,
}

const KEPT: &[Column] = &[
    Column { title: "KIND", cell: |k| text(k, "/kind") },
    Column { title: "ROWS", cell: |k| text(k, "/rows") },
    Column { title: "MB", cell: |k| megabytes(k, "/bytes") },
    Column { title: "MB AT MOST", cell: |k| megabytes(k, "/bytes_max") },
    Column { title: "HOURS AT MOST", cell: |k| hours(k, "/seconds_max") },
    Column { title: "SINCE", cell: |k| text(k, "/since") },
    Column { title: "DROPPED", cell: |k| text(k, "/dropped_rows") },
    Column { title: "EARLY", cell: |k| text(k, "/dropped_early_rows") },
];

const POINTS: &[Column] = &[
    Column { title: "AT", cell: |p| text(p, "/at") },
    Column { title: "REPORTS", cell: |p| text(p, "/reports") },
    Column { title: "CPU %", cell: |p| spread(p, "/cpu_percent", 1.0) },
    Column { title: "MEMORY %", cell: |p| spread(p, "/memory_percent", 1.0) },
    Column { title: "TEMPERATURE C", cell: |p| spread(p, "/temperature_c", 1.0) },
    Column { title: "DISK FREE GB", cell: |p| spread(p, "/disk_free_bytes", 1e9) },
    Column { title: "REQUESTS", cell: |p| text(p, "/requests") },
    Column { title: "FAILURES", cell: |p| text(p, "/failures") },
    Column { title: "P95 us", cell: |p| text(p, "/p95_us") },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let Verb::Kept = verb;
    let answer = context.client()?.get("/api/v1/telemetry", &[]).await?;
    if context.output.format() == Format::Json {
        return context.output.json(&answer);
    }
    context.output.table(items(&answer, "kept"), KEPT)?;
    if text(&answer, "/lost_reports") == "0" {
        return Ok(());
    }
    let (reports, devices) = (text(&answer, "/lost_reports"), text(&answer, "/lost_devices"));
    context.output.say(&format!("{reports} reports were given up by {devices} boxes whose spools were full"))
}

pub(super) async fn of_device(context: &mut Context, of: OfDevice) -> Result<(), CliError> {
    let OfDevice { id, step, from, to } = of;
    let query = [("step", Some(step)), ("from", from), ("to", to)];
    let query: Vec<_> = query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let answer = context.client()?.get(&format!("/api/v1/devices/{id}/telemetry"), &query).await?;
    if context.output.format() == Format::Json {
        return context.output.json(&answer);
    }
    context.output.table(items(&answer, "items"), POINTS)?;
    match answer.get("next_from").and_then(Value::as_str) {
        Some(next) => context.output.say(&format!("there is more: --from {next}")),
        None => Ok(()),
    }
}

fn items<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Lowest, mean and highest.
fn spread(item: &Value, pointer: &str, unit: f64) -> String {
    let Some(values) = item.pointer(pointer) else { return String::new() };
    let of = |name: &str| values.get(name).and_then(Value::as_f64).map(|value| value / unit);
    match (of("min"), of("mean"), of("max")) {
        (Some(min), Some(mean), Some(max)) => format!("{min:.1} {mean:.1} {max:.1}"),
        _ => String::new(),
    }
}

fn megabytes(item: &Value, pointer: &str) -> String {
    item.pointer(pointer).and_then(Value::as_u64).map(|n| (n / 1_000_000).to_string()).unwrap_or_default()
}

fn hours(item: &Value, pointer: &str) -> String {
    item.pointer(pointer).and_then(Value::as_u64).map(|n| (n / 3600).to_string()).unwrap_or_default()
}
