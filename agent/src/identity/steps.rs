//! Changes of files as a list, so that their order is written down once, and a test can stop after each.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::disk::{self, DiskError};

/// One durable change. A cut of power leaves it done or not begun.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Some of these are keys.
    Write(PathBuf, Zeroizing<Vec<u8>>),
    Remove(PathBuf),
    /// A folder and all that is in it.
    RemoveAll(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl Step {
    pub(super) fn write(path: PathBuf, bytes: impl Into<Vec<u8>>) -> Self {
        Self::Write(path, Zeroizing::new(bytes.into()))
    }

    pub(super) fn run(&self) -> Result<(), DiskError> {
        match self {
            Self::Write(path, bytes) => {
                if let Some(parent) = path.parent() {
                    disk::create_dir(parent)?;
                }
                disk::write(path, bytes)
            }
            Self::Remove(path) => disk::remove(path),
            Self::RemoveAll(path) => match fs::remove_dir_all(path) {
                Ok(()) => Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                Err(error) => Err(DiskError::io("remove", path)(error)),
            },
            Self::Rename(from, to) => disk::rename(from, to),
        }
    }
}

pub(super) fn run(steps: &[Step]) -> Result<(), DiskError> {
    steps.iter().try_for_each(Step::run)
}
