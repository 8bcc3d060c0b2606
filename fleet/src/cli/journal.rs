//! `muster trust show` and `muster log`: what the server holds and what happened.

use clap::{Args, Subcommand};

use serde_json::Value;

use super::output::{Column, Format, text};
use super::{CliError, Context};

#[derive(Debug, Subcommand)]
pub(super) enum TrustVerb {
    /// Lists the trust files with their versions and expiries.
    #[command(after_help = "Example:\n  muster trust show")]
    Show,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  muster log
  muster log --limit 20
  muster -o json log --after 4711                      # onwards from there, for programs")]
pub(super) struct LogArgs {
    /// Onwards from this id, the oldest first.
    #[arg(long)]
    after: Option<u64>,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

const FILES: &[Column] = &[
    Column { title: "NAME", cell: |f| text(f, "/name") },
    Column { title: "VERSION", cell: |f| text(f, "/version") },
    Column { title: "EXPIRES", cell: |f| text(f, "/expires") },
    Column { title: "BYTES", cell: |f| text(f, "/bytes") },
];

const ENTRIES: &[Column] = &[
    Column { title: "ID", cell: |e| text(e, "/id") },
    Column { title: "AT", cell: |e| text(e, "/at") },
    Column { title: "WORLD", cell: |e| text(e, "/world_at") },
    Column { title: "KIND", cell: |e| text(e, "/kind") },
    Column { title: "WHAT", cell: |e| text(e, "/sentence") },
    Column { title: "BY", cell: |e| text(e, "/actor/name") },
];

pub(super) async fn trust(context: &mut Context, verb: TrustVerb) -> Result<(), CliError> {
    let TrustVerb::Show = verb;
    let answer = context.client()?.get("/api/v1/trust", &[]).await?;
    if context.output.format() == Format::Json {
        return context.output.json(&answer);
    }
    let items = serde_json::json!({ "items": answer.get("files").cloned().unwrap_or_default() });
    context.output.list(&items, "/name", FILES)
}

pub(super) async fn log(context: &mut Context, args: LogArgs) -> Result<(), CliError> {
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(args.after.map(|after| ("after", after.to_string())));
    let mut answer = context.client()?.get("/api/v1/log", &query).await?;
    // Without a place to go on from, the server begins with the newest; a terminal reads downwards.
    let newest_first = args.after.is_none() && context.output.format() != Format::Json;
    if let Some(items) = answer.get_mut("items").and_then(Value::as_array_mut).filter(|_| newest_first) {
        items.reverse();
    }
    context.output.list(&answer, "/id", ENTRIES)
}
