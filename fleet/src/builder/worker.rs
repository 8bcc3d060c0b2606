//! The builder's loop: ask for a run, work on it, say how it ended, ask again.
//!
//! One run at a time. It must never give up because the fleet cannot be reached, and never hammer it either.

use std::time::Duration;

use muster_protocol::ids::ModelName;
use muster_protocol::time::Timestamp;
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::feed::Feed;
use super::heartbeat::{self, Lease, Stopped};
use super::job::{Job, back_off};
use super::workdir::{Workdir, WorkdirError};
use crate::client::{Claim, Client, ClientError, Finish};
use crate::publisher::passphrase::{Passphrase, PassphraseError};

/// Attempts to say how a run ended; with the back-off about ten minutes.
const FINISH_TRIES: u32 = 24;

#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Workdir(#[from] WorkdirError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the builder's token cannot be read")]
    Token(#[from] PassphraseError),
}

/// How a run ended, as this builder saw it.
#[derive(Clone, Debug, PartialEq)]
pub enum RunEnd {
    Finished(Finish),
    /// Nobody was told: the fleet knows better, or the lease will lapse and somebody else take the run.
    Stopped(Stopped),
}

#[derive(Debug)]
pub struct Worker {
    config: Config,
    client: Client,
    workdir: Workdir,
    /// Real time.
    now: fn() -> Timestamp,
    heartbeat_every: Duration,
}

impl Worker {
    pub fn new(config: Config, now: fn() -> Timestamp) -> Result<Self, WorkerError> {
        let client = Client::new(&config.fleet)?.acting_as(&config.name);
        let client = match &config.token_file {
            Some(path) => client.with_token(&Passphrase::read(path)?)?,
            None => client,
        };
        let workdir = Workdir::open(&config.work_dir)?;
        Ok(Self { config, client, workdir, now, heartbeat_every: heartbeat::EVERY })
    }

    /// Beats at another pace; for tests that cannot wait.
    #[must_use]
    pub fn heartbeat_every(mut self, every: Duration) -> Self {
        self.heartbeat_every = every;
        self
    }

    /// Takes runs until the shutdown.
    pub async fn run(&self, shutdown: &CancellationToken) -> Result<(), WorkerError> {
        while self.one(shutdown).await?.is_some() {}
        Ok(())
    }

    /// Waits for a run and works on it; `None` if the shutdown came first.
    pub async fn one(&self, shutdown: &CancellationToken) -> Result<Option<RunEnd>, WorkerError> {
        let models: Vec<ModelName> = self.config.models.iter().map(|model| model.model.clone()).collect();
        let mut failures = 0;
        while !shutdown.is_cancelled() {
            let pause = match self.client.claim_run(&self.config.name, &models).await {
                Ok(Some(claim)) => return self.work(&claim, shutdown).await.map(Some),
                Ok(None) => {
                    failures = 0;
                    Duration::from_secs_f64(self.config.poll_s)
                }
                Err(error) if error.is_transient() => {
                    let pause = back_off(failures, random());
                    tracing::warn!(error = &error as &dyn std::error::Error, ?pause, "no answer to a claim");
                    failures = failures.saturating_add(1);
                    pause
                }
                Err(error) => return Err(error.into()),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => {}
            }
        }
        Ok(None)
    }

    async fn work(&self, claim: &Claim, shutdown: &CancellationToken) -> Result<RunEnd, WorkerError> {
        let run = &claim.run.id;
        tracing::info!(run.id = %run, model = %claim.run.model, "run taken");
        let dir = self.workdir.run(run)?;
        let feed = Feed::default();
        let lease = Lease::new(&self.client, &self.config.name, run, &feed, self.heartbeat_every);
        let job = Job {
            config: &self.config,
            client: &self.client,
            claim,
            dir: &dir,
            feed: &feed,
            now: (self.now)(),
            stop: lease.stop.clone(),
        };
        let finish = beside(job.run(), lease.keep(shutdown)).await;
        let end = match lease.stopped() {
            Some(why) => RunEnd::Stopped(why),
            None => self.tell(&lease, finish, shutdown).await,
        };
        match &end {
            RunEnd::Finished(Finish::Published { bundle, .. }) => {
                tracing::info!(run.id = %run, bundle = %bundle.path, "published");
                dir.remove()?;
            }
            RunEnd::Finished(Finish::Rejected { code, sentence, .. } | Finish::Failed { code, sentence }) => {
                let kept = dir.keep()?;
                tracing::warn!(run.id = %run, code, kept = %kept.display(), "{sentence}");
            }
            RunEnd::Stopped(why) => {
                let kept = dir.keep()?;
                tracing::warn!(run.id = %run, ?why, kept = %kept.display(), "run stopped");
            }
        }
        Ok(end)
    }

    /// Says how it ended, however long the server needs to hear it.
    async fn tell(&self, lease: &Lease<'_>, finish: Finish, shutdown: &CancellationToken) -> RunEnd {
        lease.beat().await;
        for failures in 0..FINISH_TRIES {
            match self.client.finish_run(lease.run, &self.config.name, &finish).await {
                Ok(()) => return RunEnd::Finished(finish),
                Err(error) if error.is_transient() => {
                    tracing::warn!(run.id = %lease.run, error = &error as &dyn std::error::Error, "end not delivered");
                }
                Err(error) => {
                    tracing::error!(run.id = %lease.run, error = &error as &dyn std::error::Error, "end refused");
                    let is_gone = matches!(error.status(), Some(404 | 409));
                    return RunEnd::Stopped(if is_gone { Stopped::LeaseLost } else { Stopped::NotHeard });
                }
            }
            tokio::select! {
                () = tokio::time::sleep(back_off(failures, random())) => {}
                () = shutdown.cancelled() => return RunEnd::Stopped(Stopped::Shutdown),
            }
        }
        RunEnd::Stopped(Stopped::NotHeard)
    }
}

/// The result of `work`, while `other` goes on beside it as long as it likes.
async fn beside<T>(work: impl Future<Output = T> + Send, other: impl Future<Output = ()> + Send) -> T {
    tokio::pin!(work, other);
    let mut going_on = true;
    loop {
        tokio::select! {
            result = &mut work => return result,
            () = &mut other, if going_on => going_on = false,
        }
    }
}

/// Spreads builders apart; a failure to draw spreads them less.
fn random() -> u8 {
    let mut byte = [0];
    getrandom::fill(&mut byte).ok();
    byte[0]
}
