//! `muster enrol`: files that let boxes join the fleet.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use muster_protocol::ids::SiteName;
use serde_json::{Value, json};

use super::output::{Column, Format, text};
use super::{CliError, Context, completing, duration};

const EXAMPLES: &str = "\
Examples:
  muster enrol new --site er-2                          # one box; a person accepts it by its fingerprint
  muster enrol new --site er-2 --count 40 --ttl 7d --out er-2.enrol
  muster enrol new --site lab --approve auto            # whoever has the file is in: only where nobody else can read it

Carry the file to the box, run `muster-agent enrol FILE` there, compare the fingerprint that it shows with
`muster device pending`, accept it with `muster device accept ID`, and delete the file.";

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Makes a file that lets boxes join a site.
    #[command(after_help = EXAMPLES)]
    New {
        /// The ward, line or building that they belong to.
        #[arg(long)]
        site: SiteName,
        /// How many boxes may join with it, 1 to 1000.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
        /// How long it is good, a minute to 31 days.
        #[arg(long, default_value = "72h", value_parser = duration::parse)]
        ttl: Duration,
        /// Whether a person accepts each box, or its file does.
        #[arg(long, default_value = "manual", value_parser = ["manual", "auto"])]
        approve: String,
        /// Where to write it; never over another file [default: SITE.enrol].
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Lists files, the newest first.
    #[command(visible_alias = "ls", after_help = "Example:\n  muster enrol list")]
    List,
    /// Lets nobody else join with a file. Boxes that did are not touched.
    #[command(after_help = "Example:\n  muster enrol cancel en-… --reason 'the stick was lost'")]
    Cancel {
        /// Its id, as `muster enrol list` has it.
        #[arg(add = completing::of(&completing::ENROLMENTS))]
        id: String,
        /// Why; recorded in the log.
        #[arg(long, default_value = "")]
        reason: String,
    },
}

const COLUMNS: &[Column] = &[
    Column { title: "SITE", cell: |e| text(e, "/site") },
    Column { title: "STATE", cell: |e| text(e, "/state") },
    Column { title: "LEFT", cell: |e| format!("{} of {}", text(e, "/uses_left"), text(e, "/count")) },
    Column { title: "APPROVE", cell: |e| text(e, "/approve") },
    Column { title: "EXPIRES", cell: |e| text(e, "/expires") },
    Column { title: "MADE BY", cell: |e| text(e, "/made_by") },
    Column { title: "ID", cell: |e| text(e, "/id") },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let client = context.client()?;
    match verb {
        Verb::New { site, count, ttl, approve, out } => {
            let path = out.unwrap_or_else(|| PathBuf::from(format!("{site}.enrol")));
            // Asked before the server is: a token that is made and written nowhere is a use lost.
            if path.symlink_metadata().is_ok() {
                let what = format!("{} exists and is not overwritten", path.display());
                return Err(CliError::failed(what, "name another file with --out, or delete that one"));
            }
            let body = json!({"site": site, "count": count, "ttl_s": ttl.as_secs(), "approve": approve});
            let answer = client.post("/api/v1/enrolments", &[], &body).await?;
            let file = answer.get("file").filter(|file| file.is_object());
            let file =
                file.ok_or_else(|| CliError::failed("the answer holds no file", "is the server newer?"))?;
            write(&path, file)?;
            made(context, &path, answer.get("enrolment").unwrap_or(&Value::Null))
        }
        Verb::List => {
            let answer = client.list("/api/v1/enrolments", &[]).await?;
            context.output.list(&answer, "/id", COLUMNS)
        }
        Verb::Cancel { id, reason } => {
            let path = format!("/api/v1/enrolments/{id}/cancel");
            let answer = client.post(&path, &[], &json!({ "reason": reason })).await?;
            match context.output.format() {
                Format::Json => context.output.json(&answer),
                Format::Name => context.output.line(&id),
                Format::Table => {
                    context.output.say(&format!("{id} is cancelled; nobody joins with it any more"))
                }
            }
        }
    }
}

/// What was made, without the secret: that stands in the file alone.
fn made(context: &mut Context, path: &Path, enrolment: &Value) -> Result<(), CliError> {
    match context.output.format() {
        Format::Json => return context.output.json(&json!({"file": path, "enrolment": enrolment})),
        Format::Name => return context.output.line(&path.display().to_string()),
        Format::Table => {}
    }
    let boxes = match text(enrolment, "/count").as_str() {
        "1" => "one box".to_owned(),
        count => format!("{count} boxes"),
    };
    let (site, expires) = (text(enrolment, "/site"), text(enrolment, "/expires"));
    context.output.line(&path.display().to_string())?;
    context.output.say(&format!(
        "lets {boxes} join {site} until {expires}; it holds a secret: carry it, do not mail it"
    ))?;
    context.output.say(&format!("next, on the box: muster-agent enrol {}", path.display()))?;
    if text(enrolment, "/approve") == "manual" {
        context.output.say("then, here: muster device pending, and muster device accept ID")?;
    }
    Ok(())
}

/// Whole or not at all, for its owner alone, and never over another file.
fn write(path: &Path, file: &Value) -> Result<(), CliError> {
    let dir = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    // The mode is 0600 from the first moment on.
    let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer(&mut temporary, file).map_err(std::io::Error::from)?;
    temporary.write_all(b"\n")?;
    temporary.as_file().sync_all()?;
    temporary.persist_noclobber(path).map_err(|error| error.error)?;
    Ok(File::open(dir)?.sync_all()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn files_are_private_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("er-2.enrol");
        write(&path, &json!({"token": "one"})).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write(&path, &json!({"token": "two"})).is_err());
        assert!(std::fs::read_to_string(&path).unwrap().contains("one"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
    }
}
