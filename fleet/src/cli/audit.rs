//! `muster audit`: the log as evidence. Exported line by line, and checked link by link: on the server, or a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use indicatif::ProgressBar;
use muster_protocol::ids::Digest;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CliError, Context};
use crate::audit::{Chain, Entry, Fault, Seen};
use crate::client::Client;

/// The most that one page brings.
const PAGE: u32 = 500;
/// Faults that are told; more of them say nothing new.
const FAULTS_SHOWN: usize = 20;
/// Where verify keeps what it saw, in the publisher's folder.
const SEEN: &str = "audit-seen.json";
/// An entry is a few hundred bytes; a line beyond this is none.
const LINE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Checks that no entry of the log was changed, removed or moved.
    #[command(after_help = HELP)]
    Verify {
        /// An exported log instead of the server's.
        #[arg(long)]
        file: Option<PathBuf>,
        /// A link that you kept elsewhere: the log must still go through it.
        #[arg(long, value_name = "ID:LINK", value_parser = seen)]
        seen: Option<Seen>,
    },
    /// Writes the whole log, one JSON document a line, the oldest first.
    #[command(after_help = "Example:\n  muster audit export --out log.jsonl")]
    Export {
        #[arg(long)]
        out: PathBuf,
    },
}

const HELP: &str = "\
Each entry carries the SHA-256 of itself and of the link before it. Whoever writes in the database can make a new chain, but not
one that goes through a link that was kept elsewhere: verify keeps the newest one in the workspace and asks for it the next
time. Note the link that it prints where an auditor will look, and give it with --seen.

Exit codes:
  0  the chain holds
  1  the log or the file cannot be read
  3  an entry was changed, removed, moved or cut off; each is named on stderr

Examples:
  muster audit verify
  muster audit export --out log.jsonl && muster audit verify --file log.jsonl
  muster audit verify --seen 4711:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn seen(text: &str) -> Result<Seen, String> {
    let (id, link) = text.split_once(':').ok_or("write an entry's number, a colon and its link")?;
    let id = id.parse().map_err(|_| format!("'{id}' is no entry's number"))?;
    Ok(Seen { id, link: link.parse().map_err(|error: muster_protocol::ids::IdError| error.to_string())? })
}

/// An entry as the server lists it and a file keeps it. What else it says is kept in files and not looked at.
#[derive(Debug, Deserialize)]
struct Listed {
    id: i64,
    at: Timestamp,
    world_at: Timestamp,
    kind: String,
    subject: String,
    sentence: String,
    actor: Who,
    link: Option<Digest>,
}

#[derive(Debug, Deserialize)]
struct Who {
    kind: String,
    name: String,
}

impl Who {
    /// As it was linked.
    fn linked(&self) -> String {
        if self.kind == "fleet" { self.name.clone() } else { format!("{}:{}", self.kind, self.name) }
    }
}

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    match verb {
        Verb::Verify { file: Some(file), seen } => {
            let mut found = Found::through(seen);
            for line in lines(&file)? {
                found.take(&line?).map_err(|error| unreadable(&file, &error))?;
            }
            found.told(context, None)
        }
        Verb::Verify { file: None, seen } => verify(context, seen).await,
        Verb::Export { out } => export(context, &out).await,
    }
}

async fn verify(context: &mut Context, seen: Option<Seen>) -> Result<(), CliError> {
    let kept = Kept::read(context)?;
    let mut found = Found::through(seen.or_else(|| kept.of(context)));
    let bar = progress(context);
    let mut log = Log::of(context.client()?);
    while let Some(entries) = log.next().await? {
        for entry in &entries {
            found.take(&entry.to_string()).map_err(|error| CliError::other(error.0))?;
        }
        bar.set_position(found.chain.entries);
    }
    bar.finish_and_clear();
    found.told(context, Some(kept))
}

async fn export(context: &mut Context, out: &Path) -> Result<(), CliError> {
    let wrong =
        |error: std::io::Error| CliError::failed(format!("{}: {error}", out.display()), "name another file");
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(wrong)?;
    let bar = progress(context);
    let mut log = Log::of(context.client()?);
    while let Some(entries) = log.next().await? {
        for entry in &entries {
            writeln!(file, "{entry}").map_err(wrong)?;
        }
        bar.inc(entries.len() as u64);
    }
    bar.finish_and_clear();
    file.as_file().sync_all().map_err(wrong)?;
    file.persist(out).map_err(|error| wrong(error.error))?;
    context.output.line(&format!("{}", out.display()))
}

/// The server's log, page by page, the oldest first.
struct Log {
    client: Client,
    after: Option<i64>,
}

impl Log {
    fn of(client: Client) -> Self {
        Self { client, after: Some(0) }
    }

    async fn next(&mut self) -> Result<Option<Vec<serde_json::Value>>, CliError> {
        let Some(after) = self.after else { return Ok(None) };
        let query = [("after", after.to_string()), ("limit", PAGE.to_string())];
        let mut page = self.client.get("/api/v1/log", &query).await?;
        let items = page.get_mut("items").and_then(|items| items.as_array_mut()).map(std::mem::take);
        let items = items.unwrap_or_default();
        // A server that lists in circles would be followed for ever.
        self.after = items.last().and_then(|entry| entry["id"].as_i64()).filter(|id| *id > after);
        Ok((!items.is_empty()).then_some(items))
    }
}

/// What a check saw.
struct Found {
    chain: Chain,
    faults: Vec<Fault>,
    more: u64,
}

#[derive(Debug)]
struct NoEntry(serde_json::Error);

impl Found {
    fn through(seen: Option<Seen>) -> Self {
        Self { chain: Chain::through(seen), faults: Vec::new(), more: 0 }
    }

    fn take(&mut self, line: &str) -> Result<(), NoEntry> {
        let Listed { id, at, world_at, kind, subject, sentence, actor, link } =
            serde_json::from_str(line).map_err(NoEntry)?;
        let (kind, subject, sentence, actor) = (&kind, &subject, &sentence, &actor.linked());
        let faults = self.chain.follow(&Entry { id, at, world_at, kind, subject, sentence, actor }, link);
        self.keep(faults);
        Ok(())
    }

    fn keep(&mut self, faults: impl IntoIterator<Item = Fault>) {
        for fault in faults {
            if self.faults.len() < FAULTS_SHOWN {
                self.faults.push(fault);
            } else {
                self.more += 1;
            }
        }
    }

    fn told(mut self, context: &mut Context, kept: Option<Kept>) -> Result<(), CliError> {
        let end = self.chain.end();
        self.keep(end);
        if !self.faults.is_empty() {
            let mut told: Vec<String> = self.faults.iter().map(|fault| format!("\n  {fault}")).collect();
            told.extend((self.more > 0).then(|| format!("\n  and {} more", self.more)));
            return Err(CliError::EndedBadly(format!("the log does not hold:{}", told.concat())));
        }
        let Some(last) = self.chain.last() else { return context.output.line("the log is empty") };
        if let Some(kept) = kept {
            kept.keep(context, last)?;
        }
        context.output.line(&format!("{} entries hold", self.chain.entries))?;
        context.output.line(&format!("the newest is {}:{}", last.id, last.link))
    }
}

fn lines(path: &Path) -> Result<impl Iterator<Item = Result<String, CliError>>, CliError> {
    let next = "give a file of `muster audit export`";
    let wrong = move |error: std::io::Error, path: &Path| {
        CliError::failed(format!("{}: {error}", path.display()), next)
    };
    let file = File::open(path).map_err(|error| wrong(error, path))?;
    let path = path.to_owned();
    let mut reader = BufReader::new(file);
    Ok(std::iter::from_fn(move || {
        let mut line = String::new();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        match std::io::Read::take(&mut reader, limit).read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(wrong(error, &path))),
        }
    }))
}

fn unreadable(path: &Path, error: &NoEntry) -> CliError {
    let what = format!("{} holds a line that is no log entry: {}", path.display(), error.0);
    CliError::failed(what, "give a file of `muster audit export`")
}

fn progress(context: &Context) -> ProgressBar {
    if context.output.is_terminal() {
        ProgressBar::new_spinner().with_message("entries")
    } else {
        ProgressBar::hidden()
    }
}

/// The newest link seen, by server.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Kept(BTreeMap<String, KeptLink>);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptLink {
    id: i64,
    link: Digest,
}

impl Kept {
    fn read(context: &Context) -> Result<Self, CliError> {
        let path = context.workspace.join(SEEN);
        let next = "move it away; the next check then begins without what was seen";
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| CliError::failed(format!("{}: {error}", path.display()), next)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(CliError::failed(format!("{}: {error}", path.display()), next)),
        }
    }

    fn of(&self, context: &Context) -> Option<Seen> {
        self.0.get(&context.server).map(|kept| Seen { id: kept.id, link: kept.link })
    }

    fn keep(mut self, context: &Context, last: Seen) -> Result<(), CliError> {
        self.0.insert(context.server.clone(), KeptLink { id: last.id, link: last.link });
        let written = std::fs::create_dir_all(&context.workspace)
            .and_then(|()| tempfile::NamedTempFile::new_in(&context.workspace))
            .and_then(|mut file| {
                file.write_all(&serde_json::to_vec_pretty(&self)?)?;
                file.as_file().sync_all()?;
                Ok(file.persist(context.workspace.join(SEEN))?)
            });
        let what =
            |error| format!("what was seen cannot be kept in {}: {error}", context.workspace.display());
        written.map(drop).map_err(|error: std::io::Error| CliError::failed(what(error), "name a --workspace"))
    }
}
