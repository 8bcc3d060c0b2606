//! `muster-agent lease`: an application at this box says "not now", for a while.

use clap::Subcommand;
use hyper::Method;
use muster_protocol::ids::LeaseOwner;
use serde_json::{Value, json};

use super::local::Local;
use super::{CommandError, List, Place, say};

#[derive(Debug, Subcommand)]
pub enum LeaseCommand {
    /// Keeps other bundles from taking over on this box for a while; taken anew, it lasts from now
    #[command(after_help = "\
Fetching and testing go on, and what runs goes on. The lease ends by itself. Its owner and reason are shown at the fleet: \
write nothing about a patient.

Example:
  muster-agent lease take ct-console --reason 'an examination is running' --seconds 1800")]
    Take {
        /// Which application holds the box
        owner: LeaseOwner,
        /// Why, in a sentence
        #[arg(long)]
        reason: String,
        /// For how long; a day at most
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(muster_protocol::limits::LOCAL_LEASE_SECONDS_MAX)))]
        seconds: u32,
        #[command(flatten)]
        place: Place,
    },
    /// Shows who holds this box, why and until when
    #[command(after_help = "Example:\n  muster-agent lease list")]
    List(List),
    /// Lets go before the lease ends
    #[command(after_help = "Example:\n  muster-agent lease release ct-console")]
    Release {
        /// Which application lets go
        owner: LeaseOwner,
        #[command(flatten)]
        place: Place,
    },
}

pub fn run(command: &LeaseCommand) -> Result<(), CommandError> {
    match command {
        LeaseCommand::Take { owner, reason, seconds, place } => {
            let body = json!({ "reason": reason, "seconds": seconds });
            let path = format!("/muster/v1/leases/{owner}");
            let lease = agent(place)?.ask(Method::PUT, &path, Some(&body))?;
            say(&format!("{owner} holds this box until {}", text(&lease["until"])));
        }
        LeaseCommand::List(List { json, place }) => {
            let answer = agent(place)?.ask(Method::GET, "/muster/v1/leases", None)?;
            let leases = answer["leases"].as_array().cloned().unwrap_or_default();
            if *json {
                say(&answer.to_string());
            } else if leases.is_empty() {
                say("no application holds this box");
            } else {
                let line = |lease: &Value| {
                    format!(
                        "{}  until {}  {}",
                        text(&lease["owner"]),
                        text(&lease["until"]),
                        text(&lease["reason"])
                    )
                };
                say(&leases.iter().map(line).collect::<Vec<_>>().join("\n"));
            }
        }
        LeaseCommand::Release { owner, place } => {
            agent(place)?.ask(Method::DELETE, &format!("/muster/v1/leases/{owner}"), None)?;
            say(&format!("{owner} lets go of this box"));
        }
    }
    Ok(())
}

fn agent(place: &Place) -> Result<Local, CommandError> {
    Local::find(&place.find()?.0)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
