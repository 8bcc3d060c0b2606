//! Telling somebody else what stands in the log: as it happens, and after an absence all of it.
//!
//! The log is the queue: it is there anyway, in one order, and nobody waits for us (docs/decisions/0014).

use std::error::Error;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// After a failure, at first and at most; doubled in between.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(5));
/// However quiet it is, look again.
const IDLE: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_millis(200);
/// Longest until an event is answered.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) trait Follower {
    type Error: Error + Send + 'static;

    /// Whom it tells, for our own log.
    fn whom(&self) -> String;

    /// Tells everything after its place in the log. It fails where that has to wait.
    fn catch_up(&self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Catches up after each commit.
pub(crate) async fn follow(follower: impl Follower, store: Store, stop: CancellationToken) {
    let mut commits = store.changes().commits();
    let mut pause = BACK_OFF.0;
    let mut failing = false;
    loop {
        commits.mark_unchanged();
        let told = tokio::select! {
            () = stop.cancelled() => return,
            told = follower.catch_up() => told,
        };
        match &told {
            Ok(()) if failing => tracing::info!(whom = follower.whom(), "it takes events again"),
            // Said once, and again when it is over: it may be away for days.
            Err(error) if !failing => {
                tracing::warn!(whom = follower.whom(), error = error as &dyn Error, "events wait");
            }
            Ok(()) | Err(_) => {}
        }
        failing = told.is_err();
        let wait = if failing { pause } else { IDLE };
        pause = if failing { (pause * 2).min(BACK_OFF.1) } else { BACK_OFF.0 };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            // A burst of commits is looked at once.
            _ = commits.changed(), if !failing => tokio::time::sleep(SETTLE).await,
        }
    }
}

/// Sends events over HTTP. A redirect would carry a secret to wherever it points.
pub(crate) fn client() -> reqwest::Result<reqwest::Client> {
    // Err means that the process has a provider already, which is what we want.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
        .build()
}
