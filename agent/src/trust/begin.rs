//! Looking at a store without touching it, and beginning a new one in the place of an old.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_protocol::time::Timestamp;
use muster_protocol::trust::{FileName, Order, TrustedSet};

use super::floor::Floor;
use super::folder::{Disk as _, Folder, FolderError, LocalDisk};
use super::store::{StoreError, TrustStore};

/// What a box believes, as it is at rest.
#[derive(Debug)]
pub struct Belief {
    pub trusted: TrustedSet,
    pub floor: Timestamp,
    pub order: Option<Order>,
}

/// Reads a store, which an agent may be using.
pub fn look(dir: &Path, pinned_root: &[u8]) -> Result<Belief, StoreError> {
    TrustStore::read(Folder::at(dir), pinned_root).map(TrustStore::into_belief)
}

/// Begins a new store from a root that was brought by hand. The old one is moved aside under `stamp`; of it only the floor
/// of time is taken over, for as long as the new root has a timestamp key that it rose by. Where it was moved to, if there was one.
pub fn reset(dir: &Path, root: &[u8], stamp: &str) -> Result<Option<PathBuf>, StoreError> {
    let trusted = TrustedSet::from_root(root).map_err(StoreError::Pinned)?;
    let new = with_suffix(dir, "new");
    let cannot = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Folder(FolderError::Write { path, source })
    };
    if new.exists() {
        // Of a reset that was cut short.
        fs::remove_dir_all(&new).map_err(cannot(&new))?;
    }
    let folder = Folder::open(Arc::new(LocalDisk), &new)?;
    // A floor that cannot be read is lost, like everything that is a reason to be here.
    let floor = fs::read(dir.join(Floor::FILE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let floor: Floor = floor.unwrap_or_default();
    let bytes = serde_json::to_vec(&floor.of_time()).map_err(StoreError::Encode)?;
    folder.write(&FileName::Root(trusted.versions().root).wire(), root)?;
    folder.write(Floor::FILE, &bytes)?;
    let mut kept = None;
    if dir.exists() {
        let aside = with_suffix(dir, stamp);
        fs::rename(dir, &aside).map_err(cannot(&aside))?;
        kept = Some(aside);
    }
    fs::rename(&new, dir).map_err(cannot(dir))?;
    let parent = dir.parent().unwrap_or(Path::new("."));
    LocalDisk.flush_folder(parent).map_err(cannot(parent))?;
    Ok(kept)
}

fn with_suffix(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{suffix}"));
    dir.with_file_name(name)
}
