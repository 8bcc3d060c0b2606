//! The state folder, and that only one agent works in it.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::IdentityError;
use crate::disk::{self, DiskError};

/// The state folder, held by this process for as long as this value lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Creates the folder if it must, and refuses if another agent is at work in it. The lock goes with the process,
    /// however it ends.
    pub fn open(path: &Path) -> Result<Self, IdentityError> {
        disk::create_dir(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(DiskError::io("protect", path))?;
        let name = path.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&name)
            .map_err(DiskError::io("create", &name))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(IdentityError::Held(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(DiskError::io("lock", &name)(error).into()),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_refused_while_the_first_lives() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(IdentityError::Held(_))));
        drop(first);
        StateDir::open(dir.path()).unwrap();
    }
}
