//! The fleet server's process: arguments, log, signals.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use muster_fleet::clock::Clocks;
use muster_fleet::config::Config;
use muster_fleet::offline::Offline;
use muster_fleet::registrar;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Reports come as millions of small things (docs/decisions/0015).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Edge-AI fleet operations: the server.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves until it is told to stop. Needs no configuration.
    Serve {
        /// A TOML file; see the documentation of the configuration.
        #[arg(long)]
        config: Option<PathBuf>,
        /// The folder for databases, blobs and online keys; made if absent [default: ./.muster/fleet].
        #[arg(long)]
        data: Option<PathBuf>,
    },
    /// Prints the description of the REST API.
    Openapi,
    #[command(flatten)]
    Offline(Offline),
    /// The register of devices as a file, against the loss of the database: boxes then come back by themselves.
    #[command(subcommand)]
    Identities(Identities),
}

#[derive(Subcommand)]
enum Identities {
    /// Writes every member, with the key it is known by, into a new file. May be done while the server runs.
    Export {
        file: PathBuf,
        /// The server's data folder [default: ./.muster/fleet].
        #[arg(long)]
        data: Option<PathBuf>,
    },
    /// Takes the members of such a file in, all of them or none. The server must be stopped.
    Import {
        file: PathBuf,
        /// The server's data folder [default: ./.muster/fleet].
        #[arg(long)]
        data: Option<PathBuf>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .init();
    match Arguments::parse().command {
        Command::Openapi => Ok(std::io::stdout().write_all(muster_fleet::http::openapi().as_bytes())?),
        Command::Identities(verb) => identities(verb).await,
        Command::Offline(offline) => Ok(offline.run()?),
        Command::Serve { config, data } => {
            let config = Config::load(config.as_deref(), data)?;
            let stop = CancellationToken::new();
            let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
            let (ready, _) = oneshot::channel();
            let mut serving = std::pin::pin!(muster_fleet::serve::run(config, stop.clone(), ready));
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
            writeln!(out, "{} devices imported, {} were known already", imported.added, imported.known)?;
        }
    }
    Ok(())
}
