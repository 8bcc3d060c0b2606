//! News after a commit: tasks look again, the event stream reads on, the outbox is emptied.
//!
//! News carries no facts, so that nobody who misses one is wrong for long: whoever wakes reads the database.

use std::sync::Arc;

use tokio::sync::{Notify, broadcast, watch};

/// Ids of log entries that a slow listener may be behind before it must read them from the log instead.
const LOG_BACKLOG: usize = 1024;

#[derive(Clone, Debug)]
pub struct Changes {
    commits: Arc<watch::Sender<u64>>,
    log: broadcast::Sender<i64>,
    outbox: Arc<Notify>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            commits: Arc::new(watch::Sender::new(0)),
            log: broadcast::Sender::new(LOG_BACKLOG),
            outbox: Arc::new(Notify::new()),
        }
    }
}

impl Changes {
    /// Counts commits of either database; `changed()` wakes a task that should look again.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// The id of the newest log entry, after each commit that appended some. Read the log from the last id you have.
    pub fn log(&self) -> broadcast::Receiver<i64> {
        self.log.subscribe()
    }

    /// Returns when a message was put into the outbox since the last call. For the one task that empties it.
    pub async fn outbox_filled(&self) {
        self.outbox.notified().await;
    }

    pub(super) fn committed(&self, logged: Option<i64>, says: bool) {
        self.commits.send_modify(|count| *count = count.wrapping_add(1));
        if let Some(id) = logged {
            // Nobody listening is fine: the log itself is the record.
            drop(self.log.send(id));
        }
        if says {
            self.outbox.notify_one();
        }
    }
}
