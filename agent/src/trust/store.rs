//! The store: opens what is at rest, takes what comes, keeps what is true.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::ids::{BundlePath, DeviceId, Digest};
use muster_protocol::limits::{DELEGATIONS_MAX, ROOT_STEPS_MAX};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::{
    FileName, Files, Fitness, Order, OrderContext, OrderRefusal, Outcome, Refreshed, Target, TrustError,
    TrustedSet, Verdict, Versions, Write, ahead_at_rest, delegated_files,
};
use serde::Serialize;

use super::begin::Belief;
use super::floor::Floor;
use super::folder::{Disk, Folder, FolderError, LocalDisk};
use crate::clock::released;

const ORDER_FILE: &str = "order.json";
/// Received files that wait for others, bytes in all.
const RECEIVED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// And how many: all that may count at the same time, which is the delegated files of two catalogues at most.
const RECEIVED_MAX: usize = ROOT_STEPS_MAX + 2 * DELEGATIONS_MAX + 3;
/// A floor of time that rose by less is not worth a write: flash wears out.
const WITNESS_STEP: Duration = Duration::from_hours(1);

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the trust store failed")]
    Folder(#[from] FolderError),
    #[error("the root this box was set up with cannot be used; bring it a good root.json")]
    Pinned(#[source] TrustError),
    #[error("{} was altered at rest; 'muster-agent trust reset --root' with the root the box was set up with starts anew", path.display())]
    Corrupt {
        path: PathBuf,
        #[source]
        source: TrustError,
    },
    #[error("{} was altered at rest; remove it, the fleet sends the order again", path.display())]
    CorruptOrder {
        path: PathBuf,
        #[source]
        source: Box<OrderRefusal>,
    },
    #[error("{} was altered at rest; remove it if this box's clock is right", path.display())]
    CorruptFloor {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{} is not the root this box was set up with; to change whom it trusts, use 'muster-agent trust reset'", path.display())]
    OtherRoot { path: PathBuf },
    #[error("the floors cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
    #[error("more trust files were received than fit; {name} is left out")]
    Full { name: String },
}

#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    #[error("trust metadata was refused")]
    Trust(#[from] TrustError),
    #[error("trust metadata was not adopted because it could not be saved")]
    Store(#[from] StoreError),
}

#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    #[error("the order was refused")]
    Refused(#[from] OrderRefusal),
    #[error("the order was not accepted because it could not be saved")]
    Store(#[from] StoreError),
}

/// What this box believes, for its reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreVersions {
    #[serde(flatten)]
    pub trusted: Versions,
    pub order: u64,
}

#[derive(Debug)]
pub struct TrustStore {
    folder: Folder,
    trusted: TrustedSet,
    /// What has come and is not trusted yet, by its name on the wire.
    received: Files,
    floor: Floor,
    order: Option<Order>,
}

impl TrustStore {
    /// Opens the store in `dir`; one that is empty starts from the root this box was set up with.
    pub fn open(dir: &Path, pinned_root: &[u8]) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(LocalDisk), dir, pinned_root)
    }

    pub(super) fn open_on(disk: Arc<dyn Disk>, dir: &Path, pinned_root: &[u8]) -> Result<Self, StoreError> {
        let pinned = TrustedSet::from_root(pinned_root).map_err(StoreError::Pinned)?;
        let folder = Folder::open(disk, dir)?;
        let name = FileName::Root(pinned.versions().root).wire();
        if !folder.names()?.contains(&name) {
            folder.write(&name, pinned_root)?;
        }
        Self::read(folder, pinned_root)
    }

    /// Takes in what is at rest, and changes nothing there.
    pub(super) fn read(folder: Folder, pinned_root: &[u8]) -> Result<Self, StoreError> {
        let pinned = TrustedSet::from_root(pinned_root).map_err(StoreError::Pinned)?;
        let stored = folder.read_all()?;
        let pinned_name = FileName::Root(pinned.versions().root).wire();
        if stored.get(&pinned_name).is_some_and(|bytes| bytes != pinned_root) {
            return Err(StoreError::OtherRoot { path: folder.path_of(&pinned_name) });
        }
        let trusted = TrustedSet::load(pinned_root, &stored)
            .map_err(|source| StoreError::Corrupt { path: blamed(&folder, &source), source })?;
        let order = load_order(&folder, &stored, &trusted)?;
        let mut floor = match stored.get(Floor::FILE) {
            None => Floor::default(),
            Some(bytes) => serde_json::from_slice(bytes)
                .map_err(|source| StoreError::CorruptFloor { path: folder.path_of(Floor::FILE), source })?,
        };
        // A floor that was lost or restored from a backup is no lower than the order that is here.
        let authentic = stored.get(ORDER_FILE).and_then(|bytes| Order::authentic(bytes, &trusted).ok());
        floor = floor.under(&trusted);
        if let Some(order) = authentic.filter(|order| order.version > floor.order_version) {
            floor = floor.with_order(order.version, &trusted);
        }
        Ok(Self { folder, trusted, received: Files::new(), floor, order })
    }

    pub(super) fn into_belief(self) -> Belief {
        Belief { trusted: self.trusted, floor: self.floor.time, order: self.order }
    }

    /// The time it is at least: never earlier than what a verified file says of when it was signed.
    pub fn now(&self, system: Timestamp) -> Timestamp {
        system.max(self.floor.time)
    }

    /// What [`Self::now`] never falls below: this box's clocks are raised to it. Lower than before only after a root that
    /// replaced the keys it rose by: then they must forget the old one first.
    pub fn floor(&self) -> Timestamp {
        self.floor.time
    }

    /// Lets the floor rise with a clock that somebody vouches for, within what signatures allow.
    pub fn witness(&mut self, at: Timestamp) -> Result<(), StoreError> {
        let next = self.floor.witnessed(at, released(), &self.trusted);
        if next.time.since(self.floor.time) < WITNESS_STEP { Ok(()) } else { self.save_floor(next) }
    }

    /// Takes a trust file as it came. Whether a [`Self::refresh`] may find something new in it.
    pub fn offer(&mut self, name: &str, bytes: &[u8]) -> Result<bool, RefreshError> {
        let file: FileName = name.parse().map_err(RefreshError::Trust)?;
        if bytes.len() > file.bytes_max() {
            let (file, length, max) = (file.wire(), bytes.len(), file.bytes_max());
            return Err(TrustError::TooLarge { file, length, max }.into());
        }
        let known = match file {
            FileName::Root(version) => version <= self.trusted.versions().root,
            FileName::Timestamp | FileName::Snapshot | FileName::Targets | FileName::Delegated(_) => {
                self.trusted.file(name) == Some(bytes)
            }
        };
        if known {
            self.received.remove(name);
            return Ok(false);
        }
        if self.received.get(name).is_some_and(|before| before == bytes) {
            return Ok(false);
        }
        self.make_room(name, bytes.len())?;
        self.received.insert(name.to_owned(), bytes.to_vec());
        Ok(true)
    }

    /// Junk must not outlive the broker that sent it. So where room is short, what cannot count goes first; and then what
    /// only waits for other files, for what leads to it comes before it. An honest fleet never gets so far.
    fn make_room(&mut self, name: &str, length: usize) -> Result<(), StoreError> {
        if self.has_room(name, length) {
            return Ok(());
        }
        let delegated: BTreeSet<String> = [self.trusted.file("targets.json"), self.received("targets.json")]
            .into_iter()
            .flatten()
            .flat_map(delegated_files)
            .collect();
        let root = self.trusted.versions().root;
        let counts = |name: &str| match name.parse() {
            Ok(FileName::Root(version)) => version > root && version - root <= ROOT_STEPS_MAX as u64,
            Ok(FileName::Timestamp | FileName::Snapshot | FileName::Targets) => true,
            Ok(FileName::Delegated(_)) => delegated.contains(name),
            Err(_) => false,
        };
        let leads = |name: &str| match name.parse() {
            Ok(FileName::Root(version)) => version == root + 1,
            Ok(FileName::Timestamp | FileName::Snapshot | FileName::Targets) => true,
            Ok(FileName::Delegated(_)) | Err(_) => false,
        };
        self.received.retain(|name, _| counts(name));
        if !self.has_room(name, length) && counts(name) {
            self.received.retain(|name, _| leads(name));
        }
        if self.has_room(name, length) { Ok(()) } else { Err(StoreError::Full { name: name.to_owned() }) }
    }

    fn has_room(&self, name: &str, length: usize) -> bool {
        let others = || self.received.iter().filter(|(other, _)| *other != name);
        let bytes: usize = others().map(|(_, bytes)| bytes.len()).sum();
        others().count() < RECEIVED_MAX && bytes + length <= RECEIVED_BYTES_MAX
    }

    fn received(&self, name: &str) -> Option<&[u8]> {
        self.received.get(name).map(Vec::as_slice)
    }

    /// Moves to the newest whole state that the received files make. An error leaves the state before, but for roots
    /// that were adopted: those hold whatever else an attacker keeps back.
    pub fn refresh(&mut self, system: Timestamp) -> Result<Refreshed, RefreshError> {
        let mut next = self.trusted.clone();
        let roots = next.update_roots(&self.received);
        if !roots.adopted.is_empty() {
            self.save(&roots.adopted)?;
            self.trusted = next.clone();
            // Nothing to write: at rest, it is the roots that say so.
            self.floor = self.floor.under(&self.trusted);
        }
        if let Some(refused) = roots.refused {
            // It can never count any more, and must not stand before all that comes after it.
            self.received.remove(&FileName::Root(self.trusted.versions().root.saturating_add(1)).wire());
            return Err(refused.into());
        }
        let result = next.refresh(&self.received, self.now(system));
        self.save_ahead(&next)?;
        let mut done = match result {
            Ok(done) => done,
            Err(error) => {
                // The state before, and the floors that were found on the way.
                self.trusted = next;
                return Err(error.into());
            }
        };
        // First what is true whether the rest can be saved or not; `timestamp.json` is the last write of all.
        if let Some(issued) = done.issued {
            self.save_floor(self.floor.issued(issued, &next))?;
        }
        self.save(&done.writes)?;
        self.trusted = next;
        if !roots.adopted.is_empty() && done.outcome == Outcome::Unchanged {
            done.outcome = Outcome::Updated;
        }
        done.writes.splice(0..0, roots.adopted);
        // Until the new state is whole, the files of the old one still say what was revoked.
        if !matches!(done.outcome, Outcome::Incomplete { .. }) {
            self.forget();
        }
        Ok(done)
    }

    /// Accepts an order if everything speaks for it. It is on disk before this returns.
    pub fn accept_order(
        &mut self,
        bytes: &[u8],
        device: &DeviceId,
        fitness: &Fitness,
        system: Timestamp,
    ) -> Result<Verdict, AcceptError> {
        let context = OrderContext {
            trusted: &self.trusted,
            device,
            fitness: Some(fitness),
            floor: self.order_floor(),
            before: self.order.as_ref().map_or(&[], |order| &order.want),
            now: self.now(system),
        };
        let verdict = Order::check(bytes, &context)?;
        if let Verdict::Accepted(order) = &verdict {
            // The floor first: the order itself is the last write, and counts from then on.
            self.save_floor(self.floor.with_order(order.version, &self.trusted))?;
            self.folder.write(ORDER_FILE, bytes).map_err(StoreError::from)?;
            self.order = Some(order.clone());
        }
        Ok(verdict)
    }

    /// Version of the newest order that was accepted. Where the floor is there and its order is not (the power failed
    /// between the two, or a person removed the file), that very order is still welcome, and none before it.
    fn order_floor(&self) -> u64 {
        let floor = self.floor.order_version;
        match &self.order {
            Some(order) if order.version == floor => floor,
            Some(_) | None => floor.saturating_sub(1),
        }
    }

    /// The order accepted last, however old: what this box runs until there is another.
    pub fn order(&self) -> Option<&Order> {
        self.order.as_ref()
    }

    /// What the catalogue says of a bundle, if it allows a change to it now. Ask right before changing.
    pub fn permits(
        &self,
        bundle: &BundlePath,
        sha256: &Digest,
        fitness: &Fitness,
        system: Timestamp,
    ) -> Result<Target, OrderRefusal> {
        self.trusted.permits(bundle, sha256, Some(fitness), self.now(system))
    }

    pub fn trusted(&self) -> &TrustedSet {
        &self.trusted
    }

    pub fn versions(&self) -> StoreVersions {
        StoreVersions { trusted: self.trusted.versions(), order: self.order_followed() }
    }

    /// Version of the order that is followed; 0 where the keys that signed it are not trusted any more, so that whoever
    /// asks sends a new one.
    fn order_followed(&self) -> u64 {
        self.order.as_ref().map_or(0, |order| order.version).min(self.floor.order_version)
    }

    fn save(&self, writes: &[Write]) -> Result<(), StoreError> {
        for write in writes {
            self.folder.write(&write.stored_name(), &write.bytes)?;
        }
        Ok(())
    }

    /// Puts at rest what must not be gone back behind, before anything counts on it. What is no longer ahead is removed
    /// only by the way: until then it is a floor that is passed already.
    fn save_ahead(&self, next: &TrustedSet) -> Result<(), StoreError> {
        for (name, bytes) in next.ahead() {
            if self.trusted.ahead().get(name) != Some(bytes) {
                self.folder.write(&ahead_at_rest(name), bytes)?;
            }
        }
        Ok(())
    }

    fn save_floor(&mut self, floor: Floor) -> Result<(), StoreError> {
        if floor != self.floor {
            let bytes = serde_json::to_vec(&floor).map_err(StoreError::Encode)?;
            self.folder.write(Floor::FILE, &bytes)?;
            self.floor = floor;
        }
        Ok(())
    }

    /// Drops from memory what is trusted now, and from disk what no longer is. What cannot be removed is in nobody's
    /// way: it is tried again next time.
    fn forget(&mut self) {
        let versions = self.trusted.versions();
        self.received.retain(|name, bytes| match name.parse() {
            Ok(FileName::Root(version)) => version > versions.root,
            Ok(_) => self.trusted.file(name) != Some(bytes),
            Err(_) => false,
        });
        let current: BTreeSet<String> = self
            .trusted
            .files()
            .keys()
            .filter_map(|name| {
                let file: FileName = name.parse().ok()?;
                let version = match &file {
                    FileName::Root(version) => Some(*version),
                    FileName::Timestamp => versions.timestamp,
                    FileName::Snapshot => versions.snapshot,
                    FileName::Targets => versions.targets,
                    FileName::Delegated(role) => versions.delegated.get(role).copied(),
                };
                Some(file.stored(version?))
            })
            .collect();
        let passed: BTreeSet<String> = ["timestamp.json", "snapshot.json"].map(ahead_at_rest).into();
        for name in self.folder.names().unwrap_or_default() {
            if (is_versioned(&name) || passed.contains(&name))
                && !current.contains(&name)
                && let Err(error) = self.folder.remove(&name)
            {
                tracing::debug!(trust.file = name, error = %error, "an old trust file stays");
            }
        }
    }
}

/// `7.snapshot.json`, `4.targets.json`, `3.auto-er-beds.json`; never a root: the chain is kept for ever.
fn is_versioned(name: &str) -> bool {
    name.split_once('.').is_some_and(|(version, rest)| {
        version.parse::<u64>().is_ok()
            && match rest.parse() {
                Ok(FileName::Snapshot | FileName::Targets | FileName::Delegated(_)) => true,
                Ok(FileName::Root(_) | FileName::Timestamp) | Err(_) => false,
            }
    })
}

/// The order at rest. Its keys may have been replaced since: then an earlier root must vouch for it.
fn load_order(folder: &Folder, stored: &Files, trusted: &TrustedSet) -> Result<Option<Order>, StoreError> {
    let Some(bytes) = stored.get(ORDER_FILE) else { return Ok(None) };
    let refusal = match Order::authentic(bytes, trusted) {
        Ok(order) => return Ok(Some(order)),
        Err(refusal) => refusal,
    };
    let roots = stored.iter().filter(|(name, _)| matches!(name.parse(), Ok(FileName::Root(_))));
    let mut earlier = roots.filter_map(|(_, root)| TrustedSet::from_root(root).ok());
    match earlier.find_map(|root| Order::authentic(bytes, &root).ok()) {
        Some(order) => Ok(Some(order)),
        None => Err(StoreError::CorruptOrder { path: folder.path_of(ORDER_FILE), source: Box::new(refusal) }),
    }
}

/// The file at rest that an error names by its name on the wire.
fn blamed(folder: &Folder, error: &TrustError) -> PathBuf {
    let file = match error {
        TrustError::UnknownFile { name: file }
        | TrustError::TooLarge { file, .. }
        | TrustError::Malformed { file, .. }
        | TrustError::Document { file, .. }
        | TrustError::Key { file, .. }
        | TrustError::Signature { file, .. }
        | TrustError::Rollback { file, .. }
        | TrustError::Mismatch { file, .. }
        | TrustError::Expired { file, .. }
        | TrustError::Refused { file, .. } => file,
    };
    let names = folder.names().unwrap_or_default();
    let stored = names.into_iter().rfind(|name| name.ends_with(file.as_str()));
    folder.path_of(&stored.unwrap_or_else(|| file.clone()))
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
