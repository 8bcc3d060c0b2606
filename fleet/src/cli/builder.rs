//! `muster builder run`: the builder as a long-running process.

use std::path::PathBuf;

use clap::Subcommand;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{CliError, Context, now};
use crate::builder::config::Config;
use crate::builder::worker::{RunEnd, Worker};
use crate::client::Finish;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Takes runs until it is told to end (SIGTERM or Ctrl-C).
    #[command(after_help = "\
Examples:
  MUSTER_TOKEN=$(cat token) muster builder run --config builder.toml
  muster builder run --config builder.toml --once")]
    Run {
        /// Which models it trains, with which command: builder.toml.
        #[arg(long)]
        config: PathBuf,
        /// Take one run, then end: 0 if it was published, 3 if not.
        #[arg(long)]
        once: bool,
    },
}

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let Verb::Run { config, once } = verb;
    // Fails only if somebody set a subscriber before, which then is the one to use.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_env_filter(filter)
        .try_init()
        .ok();
    let config = Config::read(&config).map_err(CliError::other)?;
    let models: Vec<String> = config.models.iter().map(|model| model.model.to_string()).collect();
    tracing::info!(builder = config.name, fleet = config.fleet, models = models.join(","), "builder ready");
    let worker = Worker::new(config, now).map_err(CliError::other)?;
    let shutdown = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        tracing::info!("asked to end");
        shutdown.cancel();
        // What works ends by itself from here on.
        std::future::pending::<()>().await;
    };
    let work =
        async { if once { worker.one(&shutdown).await } else { worker.run(&shutdown).await.map(|()| None) } };
    let end = tokio::select! {
        end = work => end.map_err(CliError::other)?,
        () = stop => None,
    };
    match end {
        None => Ok(()),
        Some(RunEnd::Finished(Finish::Published { bundle, .. })) => {
            context.output.line(&bundle.path.to_string())
        }
        Some(RunEnd::Finished(
            Finish::Rejected { code, sentence, .. } | Finish::Failed { code, sentence },
        )) => Err(CliError::EndedBadly(format!("error: {code}: {sentence}"))),
        Some(RunEnd::Stopped(why)) => {
            Err(CliError::EndedBadly(format!("error: the run was stopped: {why:?}")))
        }
    }
}
