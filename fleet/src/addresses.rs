//! The data folder's lock, and the file in it that says where the server listens.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use fs2::FileExt as _;
use serde::{Deserialize, Serialize};

const FILE: &str = "addresses.json";
const LOCK: &str = "lock";

/// Where clients find a running server. Port 0 in the configuration becomes a real port here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    pub http: String,
    /// What boxes are told: `mqtts://host:port`.
    pub mqtt: String,
    /// As boxes are told it: `https://host:port`.
    pub door: String,
}

/// This process alone uses the folder. The operating system frees it whichever way the process ends.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("cannot write in the data folder {}; check its owner and the disk", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("another muster-fleet runs on {}; stop it, or give this one another folder with --data", path.display())]
    InUse { path: PathBuf },
}

impl Addresses {
    pub fn new(http: SocketAddr, mqtt: &str, door: &str) -> Self {
        Self { http: format!("http://{http}"), mqtt: mqtt.to_owned(), door: door.to_owned() }
    }

    /// Replaces the file at once: a reader sees the old one or the new one.
    pub fn write(&self, data: &Path) -> Result<(), DataDirError> {
        let failed = |source| DataDirError::Write { path: data.to_owned(), source };
        let mut file = tempfile::NamedTempFile::new_in(data).map_err(failed)?;
        serde_json::to_writer(&mut file, self).map_err(|error| failed(error.into()))?;
        file.write_all(b"\n").map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(data.join(FILE)).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

impl DataLock {
    /// Makes the folder if it is absent and takes it.
    pub fn take(data: &Path) -> Result<Self, DataDirError> {
        let failed = |source| DataDirError::Write { path: data.to_owned(), source };
        std::fs::create_dir_all(data).map_err(failed)?;
        let file =
            File::options().create(true).truncate(false).write(true).open(data.join(LOCK)).map_err(failed)?;
        match file.try_lock_exclusive() {
            Ok(()) => Ok(Self { _file: file }),
            Err(error) if error.kind() == fs2::lock_contended_error().kind() => {
                Err(DataDirError::InUse { path: data.to_owned() })
            }
            Err(error) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_server() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataLock::take(dir.path()).unwrap();
        assert!(matches!(DataLock::take(dir.path()), Err(DataDirError::InUse { .. })));
        drop(first);
        DataLock::take(dir.path()).unwrap();
    }

    #[test]
    fn addresses_are_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        for port in [1, 2] {
            let addresses = Addresses::new(
                SocketAddr::from(([127, 0, 0, 1], port)),
                "mqtts://localhost:8883",
                "https://localhost:8443",
            );
            addresses.write(dir.path()).unwrap();
            let read: Addresses =
                serde_json::from_slice(&std::fs::read(dir.path().join(FILE)).unwrap()).unwrap();
            assert_eq!(read, addresses);
        }
    }
}
