//! The client that theupdateframework/tuf-conformance drives: its command line over our `TrustedSet` and our folder.
//!
//! ```text
//!   cargo build -p muster-agent --example tuf_conformance --features conformance
//!   cp agent/examples/tuf_conformance.xfails target/debug/examples/
//!   pytest tuf_conformance --entrypoint $PWD/target/debug/examples/tuf_conformance       (in a checkout of the suite)
//! ```
//!
//! It fetches what [`Outcome::Incomplete`] says is missing, as an agent waits for what is retained, and decides nothing
//! by itself. What it reads out of files that are not trusted yet is only under which version to ask for the next one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use clap::{Parser, Subcommand};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use muster_agent::clock::TrustClock;
use muster_agent::trust::TrustStore;
use muster_protocol::limits::{ROOT_BYTES_MAX, ROOT_STEPS_MAX, TARGETS_BYTES_MAX, TIMESTAMP_BYTES_MAX};
use muster_protocol::trust::{AnyTarget, LookupError, Outcome};
use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha512};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Files fetched in one go; more is a repository that leads nowhere.
const FETCHES_MAX: usize = 64;
/// The suite's targets are a few bytes long.
const TARGET_BYTES_MAX: u64 = 1024 * 1024;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
struct Cli {
    /// Where trusted metadata is kept, and shown under unversioned names
    #[arg(long)]
    metadata_dir: PathBuf,
    #[arg(long, default_value = "")]
    metadata_url: String,
    #[arg(long)]
    target_name: Vec<String>,
    #[arg(long, default_value = "")]
    target_base_url: String,
    #[arg(long, default_value = ".")]
    target_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts from this root
    Init { root: PathBuf },
    /// Brings the trusted metadata up to date
    Refresh,
    /// Refreshes, and downloads the targets
    Download,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing_subscriber::fmt().with_writer(std::io::stderr).init();
            tracing::error!(error = muster_agent::chain(error.as_ref()), "failed");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> Result<(), Failure> {
    let pinned = cli.metadata_dir.join("pinned");
    if let Command::Init { root } = &cli.command {
        fs::copy(root, cli.metadata_dir.join("root.json"))?;
        fs::copy(root, pinned)?;
        return Ok(());
    }
    let store = TrustStore::open(&cli.metadata_dir.join("store"), &fs::read(pinned)?)?;
    // The suite also turns the clock back, which the floor of an agent's own clock would not follow.
    let mut client = Client { cli, store, clock: TrustClock::system(), offered: BTreeMap::new(), fetches: 0 };
    let refreshed = client.refresh().await;
    client.show()?;
    refreshed?;
    if matches!(cli.command, Command::Download) {
        for name in &cli.target_name {
            let downloaded = client.download(name).await;
            client.show()?;
            downloaded?;
        }
    }
    Ok(())
}

struct Client<'a> {
    cli: &'a Cli,
    store: TrustStore,
    clock: TrustClock,
    /// What came, by its name; not trusted.
    offered: BTreeMap<String, Vec<u8>>,
    fetches: usize,
}

impl Client<'_> {
    async fn refresh(&mut self) -> Result<(), Failure> {
        let first = self.store.versions().trusted.root + 1;
        for version in (first..).take(ROOT_STEPS_MAX) {
            let name = format!("{version}.root.json");
            let Some(bytes) = self.fetch(&name, ROOT_BYTES_MAX).await? else { break };
            self.offer(&name, bytes)?;
        }
        let timestamp = self.fetch("timestamp.json", TIMESTAMP_BYTES_MAX).await?;
        self.offer("timestamp.json", timestamp.ok_or("there is no timestamp.json")?)?;
        loop {
            match self.store.refresh(self.clock.machine())?.outcome {
                Outcome::Unchanged | Outcome::Updated => return Ok(()),
                Outcome::Incomplete { missing } => self.fetch_missing(&missing).await?,
            }
        }
    }

    async fn download(&mut self, path: &str) -> Result<(), Failure> {
        let target = loop {
            match self.store.trusted().lookup_any(path, self.clock.machine()) {
                Ok(Some(target)) => break target,
                Ok(None) => return Err(format!("nobody lists {path}").into()),
                Err(LookupError::Incomplete { missing }) => {
                    self.fetch_missing(&missing).await?;
                    self.store.refresh(self.clock.machine())?;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let place = self.cli.target_dir.join(quoted(path));
        if fs::read(&place).is_ok_and(|bytes| is_it(&target, &bytes)) {
            return Ok(());
        }
        let max = target.length.min(TARGET_BYTES_MAX);
        let url =
            format!("{}/{}", self.cli.target_base_url.trim_end_matches('/'), self.target_path(path, &target));
        let bytes = get(&url, usize::try_from(max)?).await?.ok_or("the target is not there")?;
        if !is_it(&target, &bytes) {
            return Err(format!("{path} is not what was signed").into());
        }
        fs::write(place, bytes)?;
        Ok(())
    }

    fn target_path(&self, path: &str, target: &AnyTarget) -> String {
        let hash = target.hashes.get("sha256").or_else(|| target.hashes.values().next());
        match hash.filter(|_| self.store.trusted().is_consistent()) {
            None => path.to_owned(),
            Some(hash) => match path.rsplit_once('/') {
                Some((folder, name)) => format!("{folder}/{hash}.{name}"),
                None => format!("{hash}.{path}"),
            },
        }
    }

    /// A file that was asked for and did not help is not asked for again.
    async fn fetch_missing(&mut self, missing: &[String]) -> Result<(), Failure> {
        for name in missing {
            if self.offered.contains_key(name) || self.fetches >= FETCHES_MAX {
                return Err(format!("{name} is not the one that is meant").into());
            }
            self.fetches += 1;
            let version = self.pinned_version(name).ok_or("nobody says which version")?;
            let at = name.strip_suffix(".json").map_or_else(String::new, quoted);
            let at = if self.store.trusted().is_consistent() { format!("{version}.{at}") } else { at };
            let bytes = self.fetch(&format!("{at}.json"), TARGETS_BYTES_MAX).await?;
            self.offer(name, bytes.ok_or_else(|| format!("{name} {version} is not there"))?)?;
        }
        Ok(())
    }

    fn pinned_version(&self, name: &str) -> Option<u64> {
        let pinned_by = if name == "snapshot.json" { "timestamp.json" } else { "snapshot.json" };
        let bytes = self
            .offered
            .get(pinned_by)
            .map(Vec::as_slice)
            .or_else(|| self.store.trusted().file(pinned_by))?;
        let file: Value = serde_json::from_slice(bytes).ok()?;
        file.get("signed")?.get("meta")?.get(name)?.get("version")?.as_u64()
    }

    fn offer(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), Failure> {
        self.store.offer(name, &bytes)?;
        self.offered.insert(name.to_owned(), bytes);
        Ok(())
    }

    async fn fetch(&self, name: &str, max: usize) -> Result<Option<Vec<u8>>, Failure> {
        get(&format!("{}/{name}", self.cli.metadata_url.trim_end_matches('/')), max).await
    }

    /// Shows what is trusted under the names that the suite looks for.
    fn show(&self) -> Result<(), Failure> {
        for entry in fs::read_dir(&self.cli.metadata_dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                fs::remove_file(path)?;
            }
        }
        let trusted = self.store.trusted();
        fs::write(self.cli.metadata_dir.join("root.json"), trusted.root_bytes())?;
        // As TUF has it, what was verified is trusted, whole or not; what leads to a target is another matter.
        for (name, bytes) in trusted.files().iter().chain(trusted.ahead()) {
            let role = name.strip_suffix(".json").unwrap_or(name);
            fs::write(self.cli.metadata_dir.join(format!("{}.json", quoted(role))), bytes)?;
        }
        Ok(())
    }
}

fn is_it(target: &AnyTarget, bytes: &[u8]) -> bool {
    let known: Vec<bool> = target
        .hashes
        .iter()
        .filter_map(|(algorithm, hash)| match algorithm.as_str() {
            "sha256" => Some(hex(&Sha256::digest(bytes)) == *hash),
            "sha512" => Some(hex(&Sha512::digest(bytes)) == *hash),
            _ => None,
        })
        .collect();
    bytes.len() as u64 == target.length && !known.is_empty() && known.iter().all(|fits| *fits)
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}

/// As it may stand in a path, of a request or of a file.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let quote = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(quote).collect()
}

/// `None` for what is not there. Plain HTTP: the suite's server is on this machine.
async fn get(url: &str, max: usize) -> Result<Option<Vec<u8>>, Failure> {
    let uri: hyper::Uri = url.parse()?;
    let authority = uri.authority().ok_or("the address has no host")?.clone();
    let stream = TcpStream::connect(authority.as_str()).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let path = Path::new(uri.path()).display().to_string();
    let request = hyper::Request::get(path).header("host", authority.as_str()).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    match response.status().as_u16() {
        200 => {
            let body = Limited::new(response.into_body(), max).collect().await?;
            Ok(Some(body.to_bytes().to_vec()))
        }
        404 => Ok(None),
        status => Err(format!("{url} answers {status}").into()),
    }
}
