//! `muster webhook`: who is told what happens, and what they would not take.

use clap::Subcommand;
use serde_json::json;

use super::output::{Column, text};
use super::{CliError, Context, completing};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists the webhooks of the server's configuration, and how far each was told.
    #[command(visible_alias = "ls", after_help = "Example:\n  muster webhook list")]
    List,
    /// Lists what a webhook would not take: refused, or in vain for a day.
    #[command(after_help = "Example:\n  muster webhook undelivered on-call")]
    Undelivered {
        /// As `muster webhook list` has it.
        #[arg(add = completing::of(&completing::WEBHOOKS))]
        name: String,
    },
    /// Sends such an event again.
    #[command(after_help = "\
Examples:
  muster webhook undelivered on-call
  muster webhook retry on-call 4711")]
    Retry {
        #[arg(add = completing::of(&completing::WEBHOOKS))]
        name: String,
        /// The event's number, as `muster webhook undelivered` has it.
        entry: i64,
    },
}

const HOOKS: &[Column] = &[
    Column { title: "NAME", cell: |hook| text(hook, "/name") },
    Column { title: "URL", cell: |hook| text(hook, "/url") },
    Column { title: "BEHIND", cell: |hook| text(hook, "/behind") },
    Column { title: "UNDELIVERED", cell: |hook| text(hook, "/undelivered") },
];

const EVENTS: &[Column] = &[
    Column { title: "ENTRY", cell: |event| text(event, "/entry") },
    Column { title: "KIND", cell: |event| text(event, "/kind") },
    Column { title: "WHAT", cell: |event| text(event, "/sentence") },
    Column { title: "PUT ASIDE", cell: |event| text(event, "/at") },
    Column { title: "WHY", cell: |event| text(event, "/why") },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let client = context.client()?;
    match verb {
        Verb::List => {
            let found = client.get("/api/v1/webhooks", &[]).await?;
            context.output.list(&found, "/name", HOOKS)
        }
        Verb::Undelivered { name } => {
            let found = client.list(&format!("/api/v1/webhooks/{name}/undelivered"), &[]).await?;
            context.output.list(&found, "/entry", EVENTS)
        }
        Verb::Retry { name, entry } => {
            let path = format!("/api/v1/webhooks/{name}/undelivered/{entry}/retry");
            client.post(&path, &[], &json!({})).await?;
            context.output.say(&format!(
                "event {entry} is sent to {name} once more; if that fails, it is put aside again"
            ))
        }
    }
}
