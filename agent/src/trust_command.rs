//! `muster-agent trust`: shows whom this box trusts, and lets its owner begin anew.
//!
//! A fleet rotates its keys by root files that the keys before have signed; the box follows by itself. Only where so many
//! root keys are lost or stolen that no such file can be made does somebody have to come to the box. `reset` is for that
//! visit. It never runs beside the agent, keeps what was there, and does not let time fall.

use std::io::{self, BufRead, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use muster_protocol::limits::ROOT_BYTES_MAX;
use muster_protocol::time::Timestamp;
use muster_protocol::trust::{KeyId, Role, TrustError, TrustedSet};

use crate::clock::TrustClock;
use crate::config::{Config, ConfigError, Environment};
use crate::disk::{self, DiskError};
use crate::identity::{IdentityError, StateDir, root_path};
use crate::trust::{self, Belief, StoreError};

const CONFIG: &str = "/etc/muster/agent.toml";

#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// Shows the keys this box trusts, how fresh its trust files are, and which order it follows
    #[command(after_help = "Example:\n  sudo -u muster muster-agent trust show")]
    Show {
        /// The configuration file
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
    },
    /// Makes this box trust a new root, when the fleet has lost its root keys; the agent must be stopped
    ///
    /// What the box trusted is kept beside, in a folder whose name says so. Models that run go on running after the
    /// start, until an order under the new root says otherwise. Run it as the owner of the state folder.
    #[command(after_help = "\
Example:
  systemctl stop muster-agent
  sudo -u muster muster-agent trust reset --root new.json
  systemctl start muster-agent")]
    Reset {
        /// The new root.json, brought here by hand
        #[arg(long)]
        root: PathBuf,
        /// The configuration file
        #[arg(long, default_value = CONFIG)]
        config: PathBuf,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum TrustCommandError {
    #[error("the configuration is wrong")]
    Config(#[from] ConfigError),
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a root that a box could start from: it must be signed by its own keys", path.display())]
    Root {
        path: PathBuf,
        #[source]
        source: TrustError,
    },
    #[error("{} belongs to another user; run this as its owner, for instance with 'sudo -u muster'", .0.display())]
    NotOwner(PathBuf),
    #[error("the state folder cannot be used")]
    State(#[from] IdentityError),
    #[error("the trust files cannot be used")]
    Store(#[from] StoreError),
    #[error("the new root cannot be put in place")]
    Disk(#[from] DiskError),
    #[error(
        "this box is not enrolled, so there is nothing to reset: 'muster-agent enrol FILE' brings it its root"
    )]
    NotEnrolled,
    #[error("nothing was changed")]
    Declined,
    #[error("the terminal cannot be used")]
    Terminal(#[from] io::Error),
}

impl TrustCommandError {
    /// Documented in `--help`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::NotOwner(_) | Self::State(_) | Self::Disk(_) => 4,
            Self::Root { .. } | Self::Store(_) => 5,
            Self::NotEnrolled => 6,
            Self::Read { .. } | Self::Declined | Self::Terminal(_) => 1,
        }
    }
}

pub fn run(command: TrustCommand) -> Result<(), TrustCommandError> {
    let now = TrustClock::system().now();
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    match command {
        TrustCommand::Show { config } => {
            let config = Config::load(&config, &Environment::read())?;
            show(&config, now, &mut output)
        }
        TrustCommand::Reset { root, config, yes } => {
            let config = Config::load(&config, &Environment::read())?;
            let ask: Option<&mut dyn BufRead> = if yes { None } else { Some(&mut input) };
            reset(&config, &root, now, ask, &mut output)
        }
    }
}

/// Reads only: the agent may be running.
fn show(config: &Config, now: Timestamp, output: &mut dyn Write) -> Result<(), TrustCommandError> {
    let path = root_path(&config.state_dir);
    let pinned = read(&path)?;
    let Belief { trusted, floor, order } = trust::look(&config.state_dir.join("trust"), &pinned)?;
    writeln!(output, "set up with {}", path.display())?;
    whom(&trusted, output)?;
    for (file, expires) in trusted.expiries() {
        let word = if expires < now { "expired" } else { "good until" };
        writeln!(output, "  {file:<24} {word} {expires}")?;
    }
    let versions = trusted.versions();
    let number = |version: Option<u64>| version.map_or_else(|| "none yet".to_owned(), |v| v.to_string());
    writeln!(
        output,
        "catalogue    version {}, {} revoked",
        number(versions.targets),
        trusted.revocations().len()
    )?;
    writeln!(output, "order        version {}", number(order.map(|order| order.version)))?;
    if let Some(issued) = trusted.issued() {
        writeln!(output, "last signed  {issued}")?;
    }
    writeln!(output, "time floor   {floor}")?;
    Ok(())
}

fn reset(
    config: &Config,
    root: &Path,
    now: Timestamp,
    ask: Option<&mut dyn BufRead>,
    output: &mut dyn Write,
) -> Result<(), TrustCommandError> {
    let bytes = read(root)?;
    let new = TrustedSet::from_root(&bytes)
        .map_err(|source| TrustCommandError::Root { path: root.to_owned(), source })?;
    owned(&config.state_dir)?;
    let held = StateDir::open(&config.state_dir)?;
    writeln!(output, "The box at {} will trust:", held.path().display())?;
    whom(&new, output)?;
    for (_, expires) in new.expiries().into_iter().filter(|(_, expires)| *expires < now) {
        writeln!(output, "  (this root expired at {expires}: nothing can be changed under it)")?;
    }
    if let Some(input) = ask {
        write!(output, "It will forget whom it trusts now, its catalogue and its order. Type 'yes': ")?;
        output.flush()?;
        let mut answer = String::new();
        input.read_line(&mut answer)?;
        if answer.trim() != "yes" {
            return Err(TrustCommandError::Declined);
        }
    }
    let stamp = format!("before-reset-{}", now.as_seconds());
    let pinned = root_path(held.path());
    let Some(old) = disk::read(&pinned)? else { return Err(TrustCommandError::NotEnrolled) };
    disk::write(&beside(&pinned, &stamp), &old)?;
    // The pinned root goes first: an agent that is started in between finds two roots, and refuses until this is run again.
    disk::write(&pinned, &bytes)?;
    let kept = trust::reset(&held.path().join("trust"), &bytes, &stamp)?;
    if let Some(kept) = kept {
        writeln!(output, "What it trusted before is kept in {}.", kept.display())?;
    }
    writeln!(output, "Done. Start the agent.")?;
    Ok(())
}

/// The keys of each role, by the names that other tools give them.
fn whom(trusted: &TrustedSet, output: &mut dyn Write) -> io::Result<()> {
    writeln!(output, "root         version {}", trusted.versions().root)?;
    for role in [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp, Role::Order] {
        let keys: Vec<String> = trusted.keys(role).keys().map(KeyId::short).collect();
        let threshold = trusted.threshold(role);
        writeln!(output, "  {:<10} {threshold} of {}: {}", role.as_str(), keys.len(), keys.join(" "))?;
    }
    writeln!(output, "  {:<10} {}", "tls roots", trusted.muster().tls_roots.len())
}

fn owned(state_dir: &Path) -> Result<(), TrustCommandError> {
    let metadata = std::fs::metadata(state_dir)
        .map_err(|source| TrustCommandError::Read { path: state_dir.to_owned(), source })?;
    // Even root would leave files that the agent may not read.
    if metadata.uid() == rustix::process::geteuid().as_raw() {
        Ok(())
    } else {
        Err(TrustCommandError::NotOwner(state_dir.to_owned()))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TrustCommandError> {
    let wrong = |source| TrustCommandError::Read { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(wrong)?.len();
    if length > ROOT_BYTES_MAX as u64 {
        return Err(wrong(io::Error::other("it is longer than any root")));
    }
    std::fs::read(path).map_err(wrong)
}

fn beside(path: &Path, stamp: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{stamp}"));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use muster_protocol::trust::author::{self, Keys, RootSpec};
    use muster_protocol::trust::{SecretKey, Sign as _};
    use tempfile::TempDir;

    use super::*;
    use crate::trust::TrustStore;

    fn now() -> Timestamp {
        "2026-11-24T02:00:00Z".parse().unwrap()
    }

    fn root(seed: u8, version: u64, signer: u8) -> Vec<u8> {
        let keys = Keys::one(SecretKey::from_seed([seed; 32]).key());
        let spec = RootSpec {
            version,
            expires: now().plus(std::time::Duration::from_hours(24 * 365)),
            root: keys.clone(),
            targets: keys.clone(),
            snapshot: keys.clone(),
            timestamp: keys.clone(),
            order: keys,
            tls_roots: Vec::new(),
        };
        author::sign(author::root(&spec).unwrap(), &[&SecretKey::from_seed([signer; 32])]).unwrap()
    }

    /// A box that was set up with the root of the keys 1, and has a floor of time.
    fn set_up() -> (TempDir, Config) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("agent.toml"), "state_dir = \"state\"\n").unwrap();
        fs::create_dir_all(dir.path().join("state/identity")).unwrap();
        fs::write(root_path(&dir.path().join("state")), root(1, 1, 1)).unwrap();
        let config = Config::load(&dir.path().join("agent.toml"), &Environment::default()).unwrap();
        let mut store = TrustStore::open(&config.state_dir.join("trust"), &root(1, 1, 1)).unwrap();
        store.witness(now().plus(std::time::Duration::from_hours(24))).unwrap();
        (dir, config)
    }

    fn try_reset(
        config: &Config,
        new: &[u8],
        answer: Option<&str>,
    ) -> (Result<(), TrustCommandError>, String) {
        let path = config.state_dir.with_file_name("new.json");
        fs::write(&path, new).unwrap();
        let (mut output, mut input) = (Vec::new(), io::Cursor::new(answer.unwrap_or_default().to_owned()));
        let ask: Option<&mut dyn BufRead> = if answer.is_some() { Some(&mut input) } else { None };
        let result = reset(config, &path, now(), ask, &mut output);
        (result, String::from_utf8(output).unwrap())
    }

    #[test]
    fn the_owner_begins_anew_and_time_falls_only_with_the_keys_that_told_it() {
        let (_dir, config) = set_up();
        let folder = config.state_dir.join("trust");
        let floor = TrustStore::open(&folder, &root(1, 1, 1)).unwrap().floor();
        assert!(floor > Timestamp::default());
        let (result, said) = try_reset(&config, &root(2, 7, 2), Some("yes\n"));
        result.unwrap();
        let id = SecretKey::from_seed([2; 32]).key().key_id().short();
        assert!(said.contains(&id) && said.contains("before-reset"), "{said}");
        assert_eq!(fs::read(root_path(&config.state_dir)).unwrap(), root(2, 7, 2));
        let store = TrustStore::open(&folder, &root(2, 7, 2)).unwrap();
        assert_eq!((store.versions().trusted.root, store.floor()), (7, Timestamp::default()));
        // All that was there is still to be had.
        let kept = config.state_dir.join(format!("trust.before-reset-{}", now().as_seconds()));
        assert_eq!(fs::read(kept.join("1.root.json")).unwrap(), root(1, 1, 1));
        let old_root = root_path(&config.state_dir)
            .with_file_name(format!("root.json.before-reset-{}", now().as_seconds()));
        assert_eq!(fs::read(old_root).unwrap(), root(1, 1, 1));
        let mut shown = Vec::new();
        show(&config, now(), &mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains(&id) && shown.contains("version 7") && shown.contains("none yet"), "{shown}");
        // A root with the timestamp key that told the time keeps it.
        let (_dir, config) = set_up();
        try_reset(&config, &root(1, 7, 1), Some("yes\n")).0.unwrap();
        let store = TrustStore::open(&config.state_dir.join("trust"), &root(1, 7, 1)).unwrap();
        assert_eq!((store.versions().trusted.root, store.floor()), (7, floor));
    }

    #[test]
    fn what_must_not_be_done_changes_nothing() {
        let (_dir, config) = set_up();
        let unchanged = || {
            assert_eq!(fs::read(root_path(&config.state_dir)).unwrap(), root(1, 1, 1));
            TrustStore::open(&config.state_dir.join("trust"), &root(1, 1, 1)).unwrap();
        };
        let (forged, _) = try_reset(&config, &root(2, 2, 3), None);
        assert!(matches!(forged, Err(TrustCommandError::Root { .. })), "{forged:?}");
        unchanged();
        for answer in ["no\n", "", "y\n"] {
            let (declined, _) = try_reset(&config, &root(2, 2, 2), Some(answer));
            assert!(matches!(declined, Err(TrustCommandError::Declined)), "{declined:?}");
            unchanged();
        }
        let running = StateDir::open(&config.state_dir).unwrap();
        let (refused, _) = try_reset(&config, &root(2, 2, 2), None);
        assert!(matches!(refused, Err(TrustCommandError::State(IdentityError::Held(_)))), "{refused:?}");
        unchanged();
        drop(running);
        try_reset(&config, &root(2, 2, 2), None).0.unwrap();
    }

    #[test]
    fn a_reset_that_was_cut_short_is_run_again() {
        let (_dir, config) = set_up();
        fs::create_dir(config.state_dir.join("trust.new")).unwrap();
        fs::write(config.state_dir.join("trust.new/1.root.json"), b"half").unwrap();
        // The pinned root was replaced, the folder was not: no agent starts on that.
        fs::write(root_path(&config.state_dir), root(2, 1, 2)).unwrap();
        let opened = TrustStore::open(&config.state_dir.join("trust"), &root(2, 1, 2));
        assert!(matches!(opened, Err(StoreError::OtherRoot { .. })));
        try_reset(&config, &root(2, 1, 2), None).0.unwrap();
        TrustStore::open(&config.state_dir.join("trust"), &root(2, 1, 2)).unwrap();
    }
}
