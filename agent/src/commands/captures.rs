//! `muster-agent captures`: the site's person looks at what was captured for the site, and takes it. This box cannot read
//! the files; whoever holds the site's identity can, with `age --decrypt`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use hyper::Method;
use muster_protocol::capture::CaptureState;
use serde_json::json;

use super::local::Local;
use super::{CommandError, List, Place, say};
use crate::capture::{self, Captured};
use crate::disk::{self, DiskError};

#[derive(Debug, Subcommand)]
pub enum CapturesCommand {
    /// Shows what the fleet has asked for, whether it is captured or why not, and the files that wait here
    #[command(after_help = "Example:\n  muster-agent captures list")]
    List(List),
    /// Moves the files into a folder, each when it is safe there
    #[command(after_help = "\
They are encrypted for the recipients in the site's capture policy. To read one:
  age --decrypt --identity site.key FILE

Example:
  sudo -u muster muster-agent captures export /media/usb/captures")]
    Export {
        /// The folder; it is made if it is not there
        dir: PathBuf,
        /// Leave them on this box as well
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        place: Place,
    },
}

pub fn run(command: &CapturesCommand) -> Result<(), CommandError> {
    match command {
        CapturesCommand::List(List { json, place }) => {
            let state_dir = place.find()?.0;
            let files = capture::list(&state_dir.join(capture::FOLDER))?;
            let states = states(&state_dir);
            if *json {
                say(&json!({ "captures": states, "files": files }).to_string());
            } else {
                say(&shown(states.as_deref(), &files));
            }
        }
        CapturesCommand::Export { dir, keep, place } => {
            let files = capture::list(&place.find()?.0.join(capture::FOLDER))?;
            disk::create_dir(dir)?;
            for file in &files {
                export(file, dir, *keep)?;
            }
            let here = if *keep { "; they are here as well" } else { "" };
            say(&format!("{} files are in {}{here}", files.len(), dir.display()));
        }
    }
    Ok(())
}

/// Gone from here only when its copy is flushed and has its name.
fn export(file: &Captured, dir: &Path, keep: bool) -> Result<(), DiskError> {
    // The agent may have removed it since, to make room.
    let Some(bytes) = disk::read(&file.path)? else { return Ok(()) };
    disk::write(&dir.join(&file.name), &bytes)?;
    if keep { Ok(()) } else { disk::remove(&file.path) }
}

/// As the running agent says; the files are there without it too.
fn states(state_dir: &Path) -> Option<Vec<CaptureState>> {
    let state =
        Local::find(state_dir).and_then(|agent| agent.ask(Method::GET, "/muster/v1/state", None)).ok()?;
    state.get("captures").cloned().map_or(Some(Vec::new()), |captures| serde_json::from_value(captures).ok())
}

fn shown(states: Option<&[CaptureState]>, files: &[Captured]) -> String {
    let mut lines = Vec::new();
    match states {
        None => lines.push("the agent does not run, so nothing is captured now".to_owned()),
        Some([]) => lines.push("the fleet asks for no captures".to_owned()),
        Some(states) => lines.extend(states.iter().map(|state| {
            let CaptureState { request, slot, standing, .. } = state;
            format!("{request}  {slot}  {}: {}", standing.code(), standing.sentence())
        })),
    }
    let line = |file: &Captured| format!("{}  {}  {} bytes", file.name, file.begun, file.bytes);
    if files.is_empty() {
        lines.push("no files wait here".to_owned());
    }
    lines.extend(files.iter().map(line));
    lines.join("\n")
}
