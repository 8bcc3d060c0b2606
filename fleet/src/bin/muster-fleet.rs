//! The fleet server's process: arguments, log, signals.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use muster_fleet::config::Config;
use muster_fleet::offline::Offline;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

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
