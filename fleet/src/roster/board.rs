//! Where the views hang for those who only look: handlers take what is there and keep it as long as they like.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::ids::RolloutId;
use tokio::sync::watch;

use super::watch::{Shared, Watch};

/// A look at the fleet takes milliseconds; who waits longer for its end reads the database.
const PATIENCE: Duration = Duration::from_secs(1);

type Hung = BTreeMap<RolloutId, Shared>;

/// Cheap to clone; all clones show the same.
#[derive(Clone, Debug)]
pub struct Board(Arc<watch::Sender<Option<Hung>>>);

impl Default for Board {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Board {
    /// The watched rollout as it was at the last look; nothing if it needs no watching, or was not looked at in time.
    pub async fn see(&self, id: &RolloutId) -> Option<Shared> {
        let mut board = self.0.subscribe();
        let hung = tokio::time::timeout(PATIENCE, board.wait_for(Option::is_some)).await.ok()?.ok()?;
        hung.as_ref()?.get(id).cloned()
    }

    /// All watched rollouts; nothing if they were not looked at in time.
    pub async fn all(&self) -> Vec<Shared> {
        let mut board = self.0.subscribe();
        let Ok(Ok(hung)) = tokio::time::timeout(PATIENCE, board.wait_for(Option::is_some)).await else {
            return Vec::new();
        };
        hung.iter().flat_map(|hung| hung.values().cloned()).collect()
    }

    /// All watched rollouts as they were at the last look; nothing before the first.
    pub fn hanging(&self) -> Vec<Shared> {
        self.0.borrow().iter().flat_map(|hung| hung.values().cloned()).collect()
    }

    /// As [`Self::see`], of one that will be watched as soon as it was looked at.
    pub async fn expect(&self, id: &RolloutId) -> Option<Shared> {
        let is_there = |hung: &Option<Hung>| hung.as_ref().is_some_and(|hung| hung.contains_key(id));
        let mut board = self.0.subscribe();
        let hung = tokio::time::timeout(PATIENCE, board.wait_for(is_there)).await.ok()?.ok()?;
        hung.as_ref()?.get(id).cloned()
    }

    pub(super) fn publish<'a>(&self, watches: impl Iterator<Item = (&'a RolloutId, &'a Watch)>) {
        let hung = watches.map(|(id, watch)| (id.clone(), watch.share())).collect();
        self.0.send_replace(Some(hung));
    }

    /// Takes everything down, so that it can be changed in place: what hangs here would have to be copied.
    pub(super) fn withdraw(&self) {
        self.0.send_replace(None);
    }
}
