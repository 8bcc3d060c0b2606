//! Why each box is where it is: how many for which reason first, then each with one sentence and its next step.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use super::path;
use crate::cli::output::{Column, Format, text};
use crate::cli::{CliError, Context, completing};

#[derive(Debug, Args)]
pub(in crate::cli) struct Devices {
    #[arg(add = completing::of(&completing::ROLLOUTS))]
    id: String,
    /// Only those with this reason code, for example offline.
    #[arg(long)]
    reason: Option<String>,
    /// Only those in this state, for example waiting or failed.
    #[arg(long)]
    state: Option<String>,
}

const DEVICES: &[Column] = &[
    Column { title: "REASON", cell: |d| text(d, "/code") },
    Column { title: "NAME", cell: |d| text(d, "/name") },
    Column { title: "SITE", cell: |d| text(d, "/site") },
    Column { title: "STAGE", cell: |d| text(d, "/stage") },
    Column { title: "STATE", cell: |d| text(d, "/state") },
    Column { title: "WHAT", cell: |d| text(d, "/sentence") },
    Column { title: "NEXT", cell: |d| text(d, "/next") },
];

const REASONS: &[Column] = &[
    Column { title: "REASON", cell: |r| text(r, "/code") },
    Column { title: "STATE", cell: |r| text(r, "/state") },
    Column { title: "DEVICES", cell: |r| text(r, "/devices") },
    Column { title: "NEXT", cell: |r| text(r, "/next") },
];

const WHY: &[Column] = &[
    Column { title: "ROLLOUT", cell: |w| text(w, "/rollout") },
    Column { title: "STATE", cell: |w| text(w, "/state") },
    Column { title: "REASON", cell: |w| text(w, "/code") },
    Column { title: "WHAT", cell: |w| text(w, "/sentence") },
    Column { title: "NEXT", cell: |w| text(w, "/next") },
];

pub(super) async fn devices(context: &mut Context, args: Devices) -> Result<(), CliError> {
    let found = context.client()?.list(&format!("{}/devices", path(&args.id)), &[]).await?;
    let mut shown: Vec<Value> = items(&found)
        .iter()
        .filter(|device| args.reason.as_ref().is_none_or(|code| text(device, "/code") == *code))
        .filter(|device| args.state.as_ref().is_none_or(|state| text(device, "/state") == *state))
        .cloned()
        .collect();
    shown.sort_by_key(|device| (text(device, "/code"), text(device, "/name")));
    if context.output.format() == Format::Table && !shown.is_empty() {
        context.output.table(&grouped(&shown), REASONS)?;
        context.output.line("")?;
    }
    context.output.list(&json!({ "items": shown }), "/device", DEVICES)
}

/// One line a reason, the most frequent first.
fn grouped(devices: &[Value]) -> Vec<Value> {
    let mut groups: BTreeMap<(String, String), (u64, String)> = BTreeMap::new();
    for device in devices {
        let group = groups.entry((text(device, "/code"), text(device, "/state"))).or_default();
        group.0 += 1;
        group.1 = text(device, "/next");
    }
    let mut groups: Vec<Value> = groups
        .into_iter()
        .map(|((code, state), (devices, next))| json!({"code": code, "state": state, "devices": devices, "next": next}))
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group["devices"].as_u64()));
    groups
}

/// Phases in which something may still change.
const OPEN: &[&str] = &["proposed", "scheduled", "running", "paused", "held", "rolling_back", "aborting"];

pub(super) async fn why(context: &mut Context, device: &str) -> Result<(), CliError> {
    let client = context.client()?;
    let rollouts = client.list("/api/v1/rollouts", &[]).await?;
    let mut found = Vec::new();
    for rollout in
        items(&rollouts).iter().filter(|rollout| OPEN.contains(&text(rollout, "/phase/is").as_str()))
    {
        let id = text(rollout, "/id");
        let members = client.list(&format!("{}/devices", path(&id)), &[]).await?;
        for member in items(&members) {
            if [text(member, "/device"), text(member, "/name")].iter().any(|known| known == device) {
                let mut said = member.clone();
                said["rollout"] = json!(id);
                found.push(said);
            }
        }
    }
    if found.is_empty() && context.output.format() == Format::Table {
        return context.output.line(&format!("no open rollout wants anything of {device}"));
    }
    context.output.list(&json!({ "items": found }), "/rollout", WHY)
}

fn items(answer: &Value) -> &[Value] {
    answer.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_reason_comes_first() {
        let device = |code: &str| json!({"code": code, "state": "waiting", "next": "x"});
        let groups = grouped(&[device("window"), device("offline"), device("window")]);
        let lines: Vec<(String, Option<u64>)> =
            groups.iter().map(|group| (text(group, "/code"), group["devices"].as_u64())).collect();
        assert_eq!(lines, [("window".to_owned(), Some(2)), ("offline".to_owned(), Some(1))]);
    }
}
