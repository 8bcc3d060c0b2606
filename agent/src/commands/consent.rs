//! `muster-agent consent`: somebody at this box says yes to the bundle that waits, or takes that back.

use clap::{Args, Subcommand};
use hyper::Method;
use muster_protocol::ids::SlotName;
use serde_json::{Value, json};

use super::local::Local;
use super::{CommandError, List, Place, say};

#[derive(Debug, Subcommand)]
pub enum ConsentCommand {
    /// Shows which bundles are meant to take over on this box, and whether they wait for a yes
    #[command(after_help = "Example:\n  muster-agent consent list")]
    List(List),
    /// Says yes to the bundle that a slot is meant to run; it takes over when its other conditions are met
    ///
    /// The yes is for that bundle alone and survives a restart. Run it as the agent's user: an application cannot say yes
    /// for a person.
    #[command(
        after_help = "Example:\n  sudo -u muster muster-agent consent give deterioration --by 'ward 3, night shift'"
    )]
    Give(Say),
    /// Takes the yes back; a bundle that has taken over already goes on
    #[command(
        after_help = "Example:\n  sudo -u muster muster-agent consent withdraw deterioration --by 'ward 3'"
    )]
    Withdraw(Say),
}

#[derive(Debug, Args)]
pub struct Say {
    /// Which slot
    slot: SlotName,
    /// Who says it, in 1 to 64 bytes; it is shown at the fleet
    #[arg(long, default_value = "somebody at the box")]
    by: String,
    #[command(flatten)]
    place: Place,
}

pub fn run(command: &ConsentCommand) -> Result<(), CommandError> {
    match command {
        ConsentCommand::List(List { json, place }) => {
            let answer = listed(&Local::find(&place.find()?.0)?)?;
            if *json {
                say(&answer.to_string());
                return Ok(());
            }
            let lines: Vec<String> = items(&answer).map(line).collect();
            say(if lines.is_empty() {
                "every slot runs what it should".to_owned()
            } else {
                lines.join("\n")
            }
            .as_str());
        }
        ConsentCommand::Give(Say { slot, by, place }) => {
            let local = Local::find(&place.find()?.0)?;
            let listed = listed(&local)?;
            let found = items(&listed).find(|item| item["slot"] == slot.as_str());
            // The yes is for what was there when it was said, not for what comes in between. Where nothing waits the
            // agent says why.
            let sha256 = found.map_or_else(|| json!("0".repeat(64)), |item| item["bundle"]["sha256"].clone());
            let body = json!({ "sha256": sha256, "by": by });
            let given = local.ask_as_owner(Method::PUT, &path(slot), &body)?;
            say(&format!("{by} consents to {} in {slot}", text(&given["bundle"]["path"])));
        }
        ConsentCommand::Withdraw(Say { slot, by, place }) => {
            let local = Local::find(&place.find()?.0)?;
            let taken = local.ask_as_owner(Method::DELETE, &path(slot), &json!({ "by": by }))?;
            say(&format!("{by} takes back the consent to {} in {slot}", text(&taken["bundle"]["path"])));
        }
    }
    Ok(())
}

fn path(slot: &SlotName) -> String {
    format!("/muster/v1/consents/{slot}")
}

fn listed(local: &Local) -> Result<Value, CommandError> {
    local.ask(Method::GET, "/muster/v1/consents", None)
}

fn items(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["consents"].as_array().into_iter().flatten()
}

fn line(item: &Value) -> String {
    let given = item["given"]["by"].as_str();
    let consent = match (given, item["asked"].as_bool()) {
        (Some(by), _) => format!("{by} has said yes"),
        (None, Some(true)) => "nobody has said yes yet".to_owned(),
        (None, Some(false) | None) => "nobody needs to say yes".to_owned(),
    };
    let phase = match item["phase"]["waits_for"].as_str() {
        Some(waits_for) => format!("ready, waits for the {waits_for}"),
        None => text(&item["phase"]["is"]).to_owned(),
    };
    format!("{}  {}  {phase}; {consent}", text(&item["slot"]), text(&item["bundle"]["path"]))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
