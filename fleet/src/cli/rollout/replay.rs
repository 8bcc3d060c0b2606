//! `muster rollout replay`: lives a rollout again from its journal, on any machine, without a server.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use muster_protocol::time::Timestamp;

use crate::cli::{CliError, Context};
use crate::rollout::journal::{Before, Entry, Input, Replay};
use crate::rollout::{Cause, Phase};

/// The longest journal that is read.
const JOURNAL_BYTES_MAX: u64 = 1 << 30;

pub(super) const HELP: &str = "\
The file is the rollout's journal: a JSON list of entries, or one entry a line. The engine decides again from what it was
told then; each decision is one line, and each is compared with what was recorded.

Exit code: 0 it agrees, 3 it differs.

Examples:
  muster rollout journal ro-… --out journal.json && muster rollout replay journal.json
  muster rollout replay journal.json --until 2026-11-03T02:00:00Z --devices er-7";

#[derive(Debug, Args)]
pub(in crate::cli) struct Journal {
    /// The exported journal.
    #[arg(value_name = "FILE")]
    from: PathBuf,
    /// Stop after this moment, for example 2026-11-03T02:00:00Z.
    #[arg(long)]
    until: Option<Timestamp>,
    /// Tell of the devices of this name only. Repeatable.
    #[arg(long)]
    devices: Vec<String>,
}

pub(super) fn run(context: &mut Context, args: &Journal) -> Result<(), CliError> {
    let unreadable = |why: String| {
        let what = format!("{} cannot be replayed: {why}", args.from.display());
        CliError::failed(what, "export the rollout's journal anew")
    };
    let size = fs::metadata(&args.from).map_err(|error| unreadable(error.to_string()))?.len();
    if size > JOURNAL_BYTES_MAX {
        return Err(unreadable(format!("it has {size} bytes, more than {JOURNAL_BYTES_MAX}")));
    }
    let text = fs::read_to_string(&args.from).map_err(|error| unreadable(error.to_string()))?;
    let entries = read(&text).map_err(|error| unreadable(error.to_string()))?;
    let mut replay = Replay::default();
    let mut decisions = 0;
    for (number, entry) in entries.iter().enumerate() {
        if args.until.is_some_and(|until| entry.at > until) {
            break;
        }
        let was = phase(&replay);
        let before = replay.follow(entry).map_err(|error| CliError::EndedBadly(error.to_string()))?;
        for line in decided(&before, was, &replay, entry, &args.devices) {
            decisions += 1;
            context.output.line(&format!("{:>5}  {}  {line}", number + 1, entry.at))?;
        }
    }
    context.output.say(&format!("{} entries, {decisions} decisions: it agrees", entries.len()))
}

/// A list, or an entry a line.
fn read(text: &str) -> Result<Vec<Entry>, serde_json::Error> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text);
    }
    text.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str).collect()
}

fn phase(replay: &Replay) -> &'static str {
    replay.rollout.as_ref().map_or("", |rollout| rollout.phase.name())
}

fn cause(phase: &Phase) -> Option<&Cause> {
    match phase {
        Phase::Held { cause, .. } | Phase::RollingBack { cause, .. } | Phase::RolledBack { cause, .. } => {
            Some(cause)
        }
        Phase::Proposed { .. }
        | Phase::Scheduled { .. }
        | Phase::Running { .. }
        | Phase::Paused { .. }
        | Phase::Aborting { .. }
        | Phase::Aborted { .. }
        | Phase::Superseded { .. }
        | Phase::Completed { .. } => None,
    }
}

/// What the entry changed, a line each.
fn decided(before: &Before, was: &str, replay: &Replay, entry: &Entry, only: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    let is = phase(replay);
    match &entry.input {
        Input::Begun { .. } => lines.push(format!("begun: {is}")),
        Input::Acted { verb, reason, .. } => lines.push(format!("{}: {is} ({reason})", verb.as_str())),
        Input::Looked { .. } if was != is => {
            let why = replay.rollout.as_ref().and_then(|rollout| cause(&rollout.phase));
            let why = why.map_or(String::new(), |cause| format!(": {}", cause.sentence));
            lines.push(format!("{was} -> {is}{why}"));
        }
        Input::Looked { .. } => {}
    }
    for (id, was) in before {
        let Some(member) = replay.members.get(id) else { continue };
        let was = was.as_ref().map_or("new", |member| member.progress.name());
        let name = replay.view.devices.get(id).map_or(id.as_str(), |device| device.name.as_str());
        let asked = only.is_empty() || only.iter().any(|only| only == name || only == id.as_str());
        if was != member.progress.name() && asked {
            lines.push(format!("{name}: {was} -> {}", member.progress.name()));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_a_list_or_lines() {
        let entry = r#"{"at":"2026-11-03T02:00:00Z","input":{"is":"looked","change":{}},"outcome":"HASH"}"#
            .replace("HASH", &"0".repeat(64));
        assert_eq!(read(&format!("[{entry},{entry}]")).unwrap().len(), 2);
        assert_eq!(read(&format!("{entry}\n\n{entry}\n")).unwrap().len(), 2);
        assert!(read("{").is_err());
    }
}
