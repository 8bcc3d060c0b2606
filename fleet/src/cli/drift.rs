//! `muster drift`: incidents, and saying that somebody looks after them.

use clap::Subcommand;
use serde_json::{Value, json};

use super::act::{Reason, confirm, reason};
use super::output::{Column, Format, text};
use super::{CliError, Context};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists incidents.
    #[command(visible_alias = "ls")]
    List {
        #[arg(long, value_parser = ["open", "acknowledged", "closed"])]
        state: Option<String>,
    },
    /// Shows one incident with its streams.
    Show { id: String },
    /// Says that somebody is looking after it.
    #[command(alias = "acknowledge")]
    Ack {
        id: String,
        /// What you make of it.
        #[arg(long)]
        reason: String,
    },
    /// Closes it; the alarm may open a new one.
    Close {
        id: String,
        #[command(flatten)]
        act: Reason,
    },
}

const COLUMNS: &[Column] = &[
    Column { title: "ID", cell: |i| text(i, "/id") },
    Column { title: "MODEL", cell: |i| text(i, "/model") },
    Column { title: "STATE", cell: |i| text(i, "/state") },
    Column { title: "ONSET", cell: |i| text(i, "/onset") },
    Column { title: "STREAMS", cell: |i| streams(i).len().to_string() },
    Column { title: "WHAT", cell: |i| text(i, "/sentence") },
];

const FIELDS: &[Column] = &[
    Column { title: "Id", cell: |i| text(i, "/id") },
    Column { title: "Model", cell: |i| text(i, "/model") },
    Column { title: "State", cell: |i| text(i, "/state") },
    Column { title: "Onset", cell: |i| text(i, "/onset") },
    Column { title: "Opened", cell: |i| text(i, "/opened") },
    Column { title: "Sites", cell: |i| text(i, "/scope/sites") },
    Column { title: "Trigger", cell: |i| text(i, "/trigger") },
    Column { title: "What", cell: |i| text(i, "/sentence") },
];

const STREAMS: &[Column] = &[
    Column { title: "STREAM", cell: |s| text(s, "/name") },
    Column { title: "SHIFT (SD)", cell: |s| rounded(s, "/effect_sd") },
    Column { title: "PSI", cell: |s| rounded(s, "/psi") },
    Column { title: "B", cell: |s| text(s, "/b") },
    Column { title: "DEVICES", cell: |s| text(s, "/devices") },
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

fn rounded(item: &Value, pointer: &str) -> String {
    item.pointer(pointer).and_then(Value::as_f64).map(|number| format!("{number:.2}")).unwrap_or_default()
}
