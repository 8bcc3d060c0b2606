//! Keeps the lease of a run, and brings its news to the fleet. Ends the work when the fleet says so.
//!
//! A server that cannot be reached is no reason to stop: it may be restarting, and a training of hours is worth
//! waiting for it. Only its own word (cancelled, or somebody else's by now) stops the work.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use muster_protocol::ids::RunId;
use tokio_util::sync::CancellationToken;

use super::feed::Feed;
use crate::client::{Client, Heartbeat, HeartbeatAnswer};

/// Between two heartbeats.
pub const EVERY: Duration = Duration::from_secs(5);

/// Why the work was stopped from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Somebody cancelled the run.
    Cancelled,
    /// The lease ran out; another builder may have the run.
    LeaseLost,
    /// This builder is to end.
    Shutdown,
    /// The fleet would not hear how it ended.
    NotHeard,
}

/// One run's line to the fleet.
#[derive(Debug)]
pub struct Lease<'a> {
    pub client: &'a Client,
    pub builder: &'a str,
    pub run: &'a RunId,
    pub feed: &'a Feed,
    /// Cancelled when the work has to stop.
    pub stop: CancellationToken,
    stopped: Mutex<Option<Stopped>>,
    every: Duration,
}

impl<'a> Lease<'a> {
    pub fn new(
        client: &'a Client,
        builder: &'a str,
        run: &'a RunId,
        feed: &'a Feed,
        every: Duration,
    ) -> Self {
        Self { client, builder, run, feed, stop: CancellationToken::new(), stopped: Mutex::new(None), every }
    }

    /// Beats until the work has stopped or the future is dropped.
    pub async fn keep(&self, shutdown: &CancellationToken) {
        loop {
            match self.beat().await {
                Some(HeartbeatAnswer::Cancel) => return self.stop(Stopped::Cancelled),
                Some(HeartbeatAnswer::LeaseLost) => return self.stop(Stopped::LeaseLost),
                Some(HeartbeatAnswer::GoOn) | None => {}
            }
            tokio::select! {
                () = tokio::time::sleep(self.every) => {}
                () = shutdown.cancelled() => return self.stop(Stopped::Shutdown),
            }
        }
    }

    /// Delivers the news once; also called at the end, so that the last lines are not lost.
    pub async fn beat(&self) -> Option<HeartbeatAnswer> {
        let news = self.feed.take();
        let heartbeat = Heartbeat {
            builder: self.builder.to_owned(),
            progress: news.progress,
            message: news.message.clone(),
            log: news.lines.clone(),
        };
        match self.client.heartbeat(self.run, &heartbeat).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::warn!(run.id = %self.run, error = &error as &dyn std::error::Error, "no heartbeat");
                if error.is_transient() {
                    self.feed.put_back(news);
                }
                None
            }
        }
    }

    pub fn stopped(&self) -> Option<Stopped> {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self, why: Stopped) {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.stop.cancel();
    }
}
