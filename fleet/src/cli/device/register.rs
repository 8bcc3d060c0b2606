//! `muster device pending|accept|reject|quarantine|release|revoke|dismiss`: who is a member.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::super::act::{Reason, confirm, reason};
use super::super::output::{Column, Format, text};
use super::super::{CliError, Context, completing};
use crate::client::Client;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lists boxes that ask to join, with the fingerprints to compare.
    #[command(after_help = "Example:\n  muster device pending")]
    Pending,
    /// Makes a box that asks a member. Compare its fingerprint with the one that the box shows first.
    #[command(after_help = "\
Examples:
  muster device accept d-…                             # shows the fingerprint and asks
  muster device accept d-… --fingerprint 1a2b-…        # as read out by whoever stands at the box")]
    Accept {
        /// Its id, as `muster device pending` has it.
        #[arg(add = completing::of(&completing::PENDING))]
        id: String,
        /// The fingerprint that the box shows; another key is refused. Without it you are shown the key's and asked.
        #[arg(long)]
        fingerprint: Option<String>,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Turns a box that asks away. Its key is refused for good.
    #[command(
        after_help = "Example:\n  muster device reject d-… --reason 'nobody reads out this fingerprint'"
    )]
    Reject(Act),
    /// Sets a box apart that you doubt: it keeps running, is ordered nothing, and what it measures stays on it.
    #[command(
        after_help = "Example:\n  muster device quarantine d-… --reason 'its disk may have been copied'"
    )]
    Quarantine(Act),
    /// Ends a quarantine.
    #[command(after_help = "Example:\n  muster device release d-… --reason 'the copy is wiped'")]
    Release(Act),
    /// Ends a membership for good, as for a stolen box: it is cut off at once.
    #[command(after_help = "Example:\n  muster device revoke d-… --reason 'stolen, police report 4711'")]
    Revoke(Act),
    /// Says that you looked at what speaks against a box, and it is right.
    #[command(after_help = "Example:\n  muster device dismiss d-… --reason 'a new board, put in by IT'")]
    Dismiss(Act),
}

#[derive(Debug, Args)]
pub(crate) struct Act {
    /// Its id, as `muster device list` has it.
    #[arg(add = completing::of(&completing::PENDING))]
    id: String,
    #[command(flatten)]
    why: Reason,
}

const PENDING: &[Column] = &[
    Column { title: "NAME", cell: |i| text(i, "/name") },
    Column { title: "SITE", cell: |i| text(i, "/site") },
    Column { title: "FINGERPRINT", cell: |i| text(i, "/fingerprint") },
    Column { title: "CPU", cell: |i| text(i, "/cpu_model") },
    Column { title: "ASKED", cell: |i| text(i, "/since") },
    Column { title: "ID", cell: |i| text(i, "/device") },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let client = context.client()?;
    match verb {
        Verb::Pending => {
            let query = [("state", "pending".to_owned())];
            let answer = client.list("/api/v1/identities", &query).await?;
            context.output.list(&answer, "/device", PENDING)
        }
        Verb::Accept { id, fingerprint, yes } => {
            let identity = client.get(&path(&id, ""), &[]).await?;
            // What was shown is what is accepted, though the register may change in between.
            let compared = if let Some(typed) = fingerprint {
                typed
            } else {
                confirm(context, yes, &shown(&identity))?;
                text(&identity, "/fingerprint")
            };
            let answer = client.post(&path(&id, "/accept"), &[], &json!({ "fingerprint": compared })).await?;
            done(context, &answer)
        }
        Verb::Reject(act) => {
            decide(context, &client, &act, "reject", |i| {
                format!("This turns {} away; its key {} is refused for good.", name(i), text(i, "/fingerprint"))
            })
            .await
        }
        Verb::Quarantine(act) => {
            decide(context, &client, &act, "quarantine", |i| {
                format!("This sets {} apart: it keeps running what it has and is ordered nothing until released.", name(i))
            })
            .await
        }
        Verb::Release(act) => {
            decide(context, &client, &act, "release", |i| {
                let doubt = text(i, "/suspect_clone");
                let doubt = if doubt.is_empty() { String::new() } else { format!(" It was suspected: {doubt}.") };
                format!("This makes {} a member as before.{doubt}", name(i))
            })
            .await
        }
        Verb::Revoke(act) => {
            decide(context, &client, &act, "revoke", |i| {
                format!(
                    "This cuts {} off for good: its session ends now and its certificates are revoked. What it runs, \
                     it keeps running by itself; to come back it needs a new key and a new enrolment file.",
                    name(i)
                )
            })
            .await
        }
        Verb::Dismiss(act) => {
            decide(context, &client, &act, "dismiss", |i| {
                format!("This says that {} is right as it is. Spoken against it was: {}.", name(i), text(i, "/suspect_clone"))
            })
            .await
        }
    }
}

async fn decide(
    context: &mut Context,
    client: &Client,
    act: &Act,
    verb: &str,
    say: impl FnOnce(&Value) -> String,
) -> Result<(), CliError> {
    let body = json!({ "reason": reason(&act.why.reason)? });
    let identity = client.get(&path(&act.id, ""), &[]).await?;
    confirm(context, act.why.yes, &say(&identity))?;
    let answer = client.post(&path(&act.id, &format!("/{verb}")), &[], &body).await?;
    done(context, &answer)
}

fn path(id: &str, verb: &str) -> String {
    format!("/api/v1/identities/{id}{verb}")
}

fn name(identity: &Value) -> String {
    format!("{} at {} (1 device)", text(identity, "/name"), text(identity, "/site"))
}

fn shown(identity: &Value) -> String {
    format!(
        "{} asks to join {}.\n\n    {}\n\nAccept it only if the box itself shows this fingerprint.",
        text(identity, "/name"),
        text(identity, "/site"),
        text(identity, "/fingerprint")
    )
}

fn done(context: &mut Context, identity: &Value) -> Result<(), CliError> {
    match context.output.format() {
        Format::Json => context.output.json(identity),
        Format::Name => context.output.line(&text(identity, "/device")),
        Format::Table => {
            context.output.say(&format!("{} is {}", text(identity, "/name"), text(identity, "/state")))
        }
    }
}
