//! The command line of `muster-fleet`: everything that can be typed, the log, and the signals that end it.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::clock::Clocks;
use crate::config::Config;
use crate::offline::Offline;
use crate::{http, registrar, serve};

const EXAMPLES: &str = "\
Examples:
  muster-fleet serve
  muster-fleet serve --config /etc/muster/fleet.toml
  muster doctor                                        # how a running server is";

/// Edge-AI fleet operations: the server.
#[derive(Debug, Parser)]
#[command(name = "muster-fleet", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until it is told to stop. Needs no configuration.
    #[command(after_help = "\
Examples:
  muster-fleet serve                                   # all in ./.muster/fleet, on loopback
  muster-fleet serve --config /etc/muster/fleet.toml
  RUST_LOG=debug muster-fleet serve --data /tmp/fleet")]
    Serve {
        /// A TOML file; see the documentation of the configuration.
        #[arg(long)]
        config: Option<PathBuf>,
        /// The folder for databases, blobs and online keys; made if absent [default: ./.muster/fleet].
        #[arg(long)]
        data: Option<PathBuf>,
    },
    /// Prints the description of the REST API.
    #[command(after_help = "Example:\n  muster-fleet openapi > openapi.json")]
    Openapi,
    #[command(flatten)]
    Offline(Offline),
    /// The register of devices as a file, against the loss of the database: boxes then come back by themselves.
    #[command(subcommand)]
    Identities(Identities),
}

#[derive(Debug, Subcommand)]
enum Identities {
    /// Writes every member, with the key it is known by, into a new file. May be done while the server runs.
    #[command(
        after_help = "Example:\n  muster-fleet identities export boxes.json --data /var/lib/muster/fleet"
    )]
    Export {
        file: PathBuf,
        /// The server's data folder [default: ./.muster/fleet].
        #[arg(long)]
        data: Option<PathBuf>,
    },
    /// Takes the members of such a file in, all of them or none. The server must be stopped.
    #[command(
        after_help = "Example:\n  muster-fleet identities import boxes.json --data /var/lib/muster/fleet"
    )]
    Import {
        file: PathBuf,
        /// The server's data folder [default: ./.muster/fleet].
        #[arg(long)]
        data: Option<PathBuf>,
    },
}

/// Does what was typed.
#[tokio::main]
pub async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .init();
    match arguments.command {
        Command::Openapi => Ok(std::io::stdout().write_all(http::openapi().as_bytes())?),
        Command::Identities(verb) => identities(verb).await,
        Command::Offline(offline) => Ok(offline.run()?),
        Command::Serve { config, data } => {
            let config = Config::load(config.as_deref(), data)?;
            let stop = CancellationToken::new();
            let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
            let (ready, _) = oneshot::channel();
            let mut serving = std::pin::pin!(serve::run(config, stop.clone(), ready));
            tokio::select! {
                ended = &mut serving => return Ok(ended?),
                _ = terminate.recv() => tracing::info!("told to stop"),
                _ = tokio::signal::ctrl_c() => tracing::info!("interrupted; stopping"),
            }
            stop.cancel();
            Ok(serving.await?)
        }
    }
}

async fn identities(verb: Identities) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match verb {
        Identities::Export { file, data } => {
            let data = Config::load(None, data)?.data;
            let devices = registrar::export_file(&data, &file).await?;
            writeln!(out, "{devices} devices written to {}; keep it where your backups are", file.display())?;
        }
        Identities::Import { file, data } => {
            let config = Config::load(None, data)?;
            let clocks = Clocks::new(config.world);
            let imported = registrar::import_file(&config.data, &file, clocks).await?;
            let registrar::Imported { added, known, changed, other_key } = imported;
            writeln!(
                out,
                "{added} devices imported, {known} were known already, {changed} were known and are barred or set \
                 apart now, as the file says"
            )?;
            for name in other_key {
                writeln!(
                    out,
                    "{name} has another key in the file, and keeps the database's; if it is refused from now on, \
                     enrol it again: muster-agent enrol FILE --again"
                )?;
            }
        }
    }
    Ok(())
}
