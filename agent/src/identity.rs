//! Who this box is, and that only one agent is it: the device id minted once, the boot id of this process, and the lock
//! on the state folder. Never talks to anybody.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use muster_protocol::ids::{BootId, DeviceId, ID_RANDOM_BYTES};

use crate::disk::{self, DiskError};

/// The state folder, held by this process for as long as this value lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the state folder cannot be used; set 'state_dir' to one that this user may write")]
    Disk(#[from] DiskError),
    #[error("another agent holds the state folder {}; stop it, or give this one its own 'state_dir'", .0.display())]
    Held(PathBuf),
    #[error("{} does not hold a device id; restore the file, or remove it to become a new device", path.display())]
    Id {
        path: PathBuf,
        #[source]
        source: muster_protocol::ids::IdError,
    },
    #[error("the system gives no randomness: {0}")]
    Randomness(getrandom::Error),
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

    /// The id that this box keeps for life; made at first start.
    pub fn device(&self) -> Result<DeviceId, IdentityError> {
        let path = self.path.join("device-id");
        if let Some(bytes) = disk::read(&path)? {
            let text = String::from_utf8_lossy(&bytes);
            return text.trim().parse().map_err(|source| IdentityError::Id { path, source });
        }
        let device = DeviceId::mint(random()?);
        disk::write(&path, format!("{device}\n").as_bytes())?;
        Ok(device)
    }
}

/// The id of this process's life; sequence numbers count within it.
pub fn boot() -> Result<BootId, IdentityError> {
    random().map(BootId::mint)
}

pub(crate) fn random() -> Result<[u8; ID_RANDOM_BYTES], IdentityError> {
    let mut bytes = [0; ID_RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(IdentityError::Randomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_keeps_its_id_and_a_boot_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap().device().unwrap();
        let again = StateDir::open(dir.path()).unwrap().device().unwrap();
        assert_eq!(first, again);
        assert_ne!(boot().unwrap(), boot().unwrap());
        let mode = fs::metadata(dir.path().join("device-id")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_second_agent_is_refused_while_the_first_lives() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(IdentityError::Held(_))));
        drop(first);
        StateDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_damaged_id_is_an_error_and_not_a_new_device() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("device-id"), "d-nonsense").unwrap();
        let error = StateDir::open(dir.path()).unwrap().device().unwrap_err();
        assert!(matches!(error, IdentityError::Id { .. }), "{error}");
    }
}
