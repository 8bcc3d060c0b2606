//! Writing so that a cut of power leaves the old file or the new one, never half of either, and knowing how much fits.
//!
//! Every durable file of the agent goes through here: temporary file → fsync → rename → fsync of the folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Ending of a file that is being written. Whatever bears it at start is left over and may go.
pub const UNFINISHED: &str = "tmp";

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("cannot {doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not what this agent wrote there; restore it or move the state folder away to start afresh", path.display())]
    Corrupt {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl DiskError {
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// The disk, or the quota on it, is full: an operator frees space, nobody repairs anything.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Corrupt { .. } => false,
        }
    }
}

/// Puts `bytes` at `path`, readable by this user only.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let staged = path.with_added_extension(UNFINISHED);
    // What an interrupted write left keeps its mode when it is written over; a key must have ours.
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(DiskError::io("clear away", &staged)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&staged)
        .map_err(DiskError::io("create", &staged))?;
    file.write_all(bytes).map_err(DiskError::io("write", &staged))?;
    file.sync_all().map_err(DiskError::io("flush", &staged))?;
    rename(&staged, path)
}

pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), DiskError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|source| DiskError::Corrupt { path: path.to_owned(), source })?;
    bytes.push(b'\n');
    write(path, &bytes)
}

/// A file that need not be there.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::io("read", path)(error)),
    }
}

pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DiskError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(source) => Err(DiskError::Corrupt { path: path.to_owned(), source }),
    }
}

/// Moves a finished, flushed file to its name, and makes the move last.
pub fn rename(from: &Path, to: &Path) -> Result<(), DiskError> {
    fs::rename(from, to).map_err(DiskError::io("rename to", to))?;
    sync_parent(to)
}

/// Removes a file for good; one that is gone already is fine.
pub fn remove(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(DiskError::io("remove", path)(error)),
    }
}

/// Makes a folder, and those that it lies in, and makes them last.
pub fn create_dir(path: &Path) -> Result<(), DiskError> {
    if path.is_dir() || path.as_os_str().is_empty() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => {
            Err(DiskError::io("create the folder", path)(error))
        }
        Ok(()) | Err(_) => sync_parent(path),
    }
}

/// Names in a folder, in order; none if there is no folder.
pub fn list(path: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskError::io("list", path)(error)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|e| e.path()).map_err(DiskError::io("list", path)))
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

/// Bytes that this user may still write where `path` is.
pub fn free_bytes(path: &Path) -> Result<u64, DiskError> {
    let stat = rustix::fs::statvfs(path)
        .map_err(|error| DiskError::io("measure the disk of", path)(error.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn sync_parent(path: &Path) -> Result<(), DiskError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(DiskError::io("flush the folder", parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_unfinished_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wish.json");
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap(), None);
        write_json(&path, &vec![1, 2]).unwrap();
        write_json(&path, &vec![3]).unwrap();
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap(), Some(vec![3]));
        assert_eq!(list(dir.path()).unwrap(), vec![path.clone()]);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(list(&dir.path().join("nowhere")).unwrap().is_empty());
    }

    #[test]
    fn a_folder_is_made_with_those_around_it_and_only_where_one_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("slots/beds");
        create_dir(&inner).unwrap();
        create_dir(&inner).unwrap();
        assert!(inner.is_dir());
        fs::write(dir.path().join("file"), b"").unwrap();
        for path in ["file", "file/inner"] {
            let error = create_dir(&dir.path().join(path)).unwrap_err();
            assert!(error.to_string().starts_with("cannot create the folder"), "{error}");
        }
    }

    #[test]
    fn garbage_is_named_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wish.json");
        write(&path, b"{").unwrap();
        let error = read_json::<Vec<u32>>(&path).unwrap_err();
        assert!(error.to_string().contains("wish.json"), "{error}");
        assert_eq!(read(&path).unwrap().unwrap(), b"{");
    }

    #[test]
    fn space_is_measured() {
        assert!(free_bytes(Path::new("/")).unwrap() > 0);
        assert!(free_bytes(Path::new("/nowhere")).is_err());
    }
}
