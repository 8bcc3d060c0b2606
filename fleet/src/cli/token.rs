//! `muster token`: secrets for programs, each for one thing and for a while.

use std::time::Duration;

use clap::Subcommand;
use muster_protocol::ids::ModelName;
use serde_json::json;

use super::output::{Column, Format, text};
use super::{CliError, Context, completing, duration};
use crate::identity::ProjectName;

const EXAMPLES: &str = "\
Examples:
  muster token new ci --role operator --project er --for 30d
  muster token new builder-1 --role builder --project er --model deterioration
  muster token list
  muster token revoke 0a1b…";

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Makes a token and prints its secret, this once.
    #[command(after_help = EXAMPLES)]
    New {
        /// What it is for.
        label: String,
        /// What it may: no more than you.
        #[arg(long, value_parser = ["viewer", "operator", "approver", "admin", "builder"])]
        role: String,
        /// The only project it reaches; all of yours, if absent.
        #[arg(long)]
        project: Option<ProjectName>,
        /// Of a builder's token: the only models it builds. May be repeated.
        #[arg(long = "model", add = completing::of(&completing::MODELS))]
        models: Vec<ModelName>,
        /// How long it is good, at most 366 days.
        #[arg(long = "for", default_value = "90d", value_parser = duration::parse)]
        life: Duration,
    },
    /// Lists your tokens, the newest first; never their secrets.
    #[command(visible_alias = "ls", after_help = "Examples:\n  muster token list\n  muster token list --all")]
    List {
        /// Those of all people; for administrators of the fleet.
        #[arg(long)]
        all: bool,
    },
    /// Takes a token back, at once.
    #[command(after_help = "Example:\n  muster token revoke 0a1b…")]
    Revoke {
        /// Its id, as `muster token list` has it.
        #[arg(add = completing::of(&completing::TOKENS))]
        id: String,
    },
}

const COLUMNS: &[Column] = &[
    Column { title: "LABEL", cell: |t| text(t, "/label") },
    Column { title: "PERSON", cell: |t| text(t, "/person") },
    Column { title: "ROLE", cell: |t| text(t, "/role") },
    Column { title: "PROJECT", cell: |t| text(t, "/project") },
    Column { title: "STATE", cell: |t| text(t, "/state") },
    Column { title: "EXPIRES", cell: |t| text(t, "/expires") },
    Column { title: "USED", cell: |t| text(t, "/used") },
    Column { title: "ID", cell: |t| text(t, "/id") },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let client = context.client()?;
    match verb {
        Verb::New { label, role, project, models, life } => {
            let mut wish = json!({"label": label, "role": role, "models": models, "for_s": life.as_secs()});
            if let Some(project) = project {
                wish["project"] = json!(project);
            }
            let made = client.post("/api/v1/tokens", &[], &wish).await?;
            if context.output.format() == Format::Json {
                return context.output.json(&made);
            }
            context.output.line(&text(&made, "/secret"))?;
            let expires = text(&made, "/token/expires");
            context
                .output
                .say(&format!("good until {expires}; it is a secret, and this is the only time it is shown"))
        }
        Verb::List { all } => {
            let answer = client.list("/api/v1/tokens", &[("all", all.to_string())]).await?;
            context.output.list(&answer, "/id", COLUMNS)
        }
        Verb::Revoke { id } => {
            let answer = client.post(&format!("/api/v1/tokens/{id}/revoke"), &[], &json!({})).await?;
            match context.output.format() {
                Format::Json => context.output.json(&answer),
                Format::Name => context.output.line(&id),
                Format::Table => context.output.say(&format!("{id} is revoked")),
            }
        }
    }
}
