//! `muster mail`: who is told by mail what needs a person, and whether it arrives.

use clap::Subcommand;
use serde_json::{Value, json};

use super::output::{Column, text};
use super::{CliError, Context};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Shows who is told by mail, how far that is, and what the relay says if it takes none.
    #[command(visible_alias = "show", after_help = "Example:\n  muster mail status")]
    Status,
    /// Sends a mail that says nothing, and shows what the relay answers.
    #[command(after_help = "\
Examples:
  muster mail test
  muster mail test --project er")]
    Test {
        /// Whose list; else that of everything.
        #[arg(long)]
        project: Option<String>,
    },
}

const LISTS: &[Column] = &[
    Column { title: "PROJECT", cell: |list| or(text(list, "/project"), "all") },
    Column { title: "TO", cell: |list| text(list, "/to") },
    Column { title: "STANDING", cell: |list| text(list, "/standing") },
    Column { title: "WAITING", cell: |list| text(list, "/waiting") },
    Column { title: "LAST", cell: |list| text(list, "/sent") },
    Column { title: "NEXT", cell: |list| text(list, "/next") },
    Column { title: "FAILING SINCE", cell: |list| text(list, "/failing/since") },
];

const ANSWERS: &[Column] = &[
    Column { title: "TO", cell: |answer| text(answer, "/to") },
    Column { title: "THE RELAY SAYS", cell: |answer| text(answer, "/said") },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let client = context.client()?;
    match verb {
        Verb::Status => {
            let mail = client.get("/api/v1/mail", &[]).await?;
            if mail["relay"].is_null() {
                context.output.say("the server's configuration has no [mail]")?;
            }
            context.output.list(&mail, "/project", LISTS)?;
            let quiet = text(&mail, "/quiet_until");
            if !quiet.is_empty() {
                context.output.say(&format!("only what is urgent is sent until {quiet}"))?;
            }
            for list in mail["items"].as_array().into_iter().flatten() {
                said(context, list)?;
            }
            Ok(())
        }
        Verb::Test { project } => {
            let tested = client.post("/api/v1/mail/test", &[], &json!({ "project": project })).await?;
            context.output.list(&tested, "/to", ANSWERS)?;
            if tested["taken"] == true {
                return Ok(());
            }
            let why = or(text(&tested, "/why"), "the relay did not take it for everybody");
            Err(CliError::failed(
                why,
                "look at [mail] in the server's configuration, and at the relay's own log",
            ))
        }
    }
}

fn said(context: &mut Context, list: &Value) -> Result<(), CliError> {
    let project = or(text(list, "/project"), "all");
    let why = text(list, "/failing/why");
    if !why.is_empty() {
        let retry = text(list, "/failing/retry");
        context.output.say(&format!("{project}: {why}; tried again at {retry}"))?;
    }
    for refused in list["refused"].as_array().into_iter().flatten() {
        let (to, at, why) = (text(refused, "/to"), text(refused, "/at"), text(refused, "/why"));
        context.output.say(&format!("{project}: {to} was refused at {at}: {why}"))?;
    }
    Ok(())
}

fn or(text: String, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text }
}
