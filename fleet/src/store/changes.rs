//! News after a commit: tasks look again, the event stream reads on, the outbox is emptied.
//!
//! News carries no facts, so that nobody who misses one is wrong for long: whoever wakes reads the database. It does say
//! which devices a commit was about, so that one who keeps a fleet in memory need not read all of it again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use muster_protocol::ids::DeviceId;
use tokio::sync::{Notify, broadcast, watch};

/// Ids of log entries that a slow listener may be behind before it must read them from the log instead.
const LOG_BACKLOG: usize = 1024;
/// Devices that are named one by one; when there are more, all may have changed.
pub(super) const TOUCHED_MAX: usize = 20_000;

#[derive(Clone, Debug)]
pub struct Changes {
    commits: Arc<watch::Sender<u64>>,
    log: broadcast::Sender<i64>,
    outbox: Arc<Notify>,
    /// Since somebody took it last. For the one task that keeps the fleet in memory.
    touched: Arc<Mutex<Touched>>,
    identities: Arc<AtomicU64>,
}

/// What commits were about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub devices: Whom,
    /// What these have shown of bundles.
    pub evidence: Whom,
    /// Rules, leases or freezes of sites.
    pub sites: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    These(BTreeSet<DeviceId>),
    Anybody,
}

impl Default for Whom {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl Touched {
    /// Nothing is known: everything must be read.
    pub fn everything() -> Self {
        Self { devices: Whom::Anybody, evidence: Whom::Anybody, sites: true }
    }

    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    pub fn merge(&mut self, other: Self) {
        self.sites |= other.sites;
        self.devices.merge(other.devices);
        self.evidence.merge(other.evidence);
    }
}

impl Whom {
    pub fn add(&mut self, device: &DeviceId) {
        if let Self::These(devices) = self
            && !devices.contains(device)
        {
            if devices.len() == TOUCHED_MAX {
                *self = Self::Anybody;
            } else {
                devices.insert(device.clone());
            }
        }
    }

    fn merge(&mut self, other: Self) {
        match other {
            Self::Anybody => *self = Self::Anybody,
            Self::These(devices) => devices.iter().for_each(|device| self.add(device)),
        }
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            commits: Arc::new(watch::Sender::new(0)),
            log: broadcast::Sender::new(LOG_BACKLOG),
            outbox: Arc::new(Notify::new()),
            touched: Arc::default(),
            identities: Arc::default(),
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

    /// What was touched since the last call. Take it before you begin to read, so that what is committed in between is
    /// read twice rather than never.
    pub fn take_touched(&self) -> Touched {
        std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Told while the write is still going on: whoever writes next sees it, and one that fails only makes others look again.
    pub(super) fn identity_written(&self) {
        self.identities.fetch_add(1, Ordering::Release);
    }

    pub(super) fn identities_written(&self) -> u64 {
        self.identities.load(Ordering::Acquire)
    }

    pub(super) fn committed(&self, logged: Option<i64>, says: bool, touched: Touched) {
        if !touched.is_nothing() {
            self.touched.lock().unwrap_or_else(PoisonError::into_inner).merge(touched);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_anybody_may_have_changed() {
        let id = |n: usize| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            DeviceId::mint(bytes)
        };
        let mut devices = Whom::default();
        (0..TOUCHED_MAX).for_each(|n| devices.add(&id(n)));
        devices.add(&id(7));
        assert!(matches!(&devices, Whom::These(these) if these.len() == TOUCHED_MAX));
        devices.add(&id(TOUCHED_MAX));
        assert_eq!(devices, Whom::Anybody);
        let mut all = Touched { sites: true, evidence: Whom::Anybody, ..Touched::default() };
        all.merge(Touched { devices, ..Touched::default() });
        assert_eq!(all, Touched::everything());
    }
}
