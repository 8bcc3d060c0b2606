//! Durable files in one folder. Knows names and bytes, never what they mean.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_protocol::limits::TARGETS_BYTES_MAX;
use muster_protocol::trust::Files;

/// Ends the name of a file that is still being written.
const UNFINISHED: &str = ".new";
/// Files in a store; a fleet that rotates its root every month for a lifetime has fewer.
const FILES_MAX: usize = 2048;

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is longer than any trust file; it is not ours, move it away", path.display())]
    TooLarge { path: PathBuf },
    #[error("{} holds more than {FILES_MAX} files; move away what is not ours", path.display())]
    TooMany { path: PathBuf },
}

/// The single steps by which a file changes. A trait, so that tests can let each of them fail and cut the power after
/// each.
pub(super) trait Disk: fmt::Debug + Send + Sync {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    fn flush(&self, path: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn flush_folder(&self, path: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The disk of this machine.
#[derive(Debug)]
pub(super) struct LocalDisk;

impl Disk for LocalDisk {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        File::create(path)?.write_all(bytes)
    }

    fn flush(&self, path: &Path) -> io::Result<()> {
        File::options().write(true).open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn flush_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

#[derive(Debug)]
pub(super) struct Folder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Folder {
    /// Opens or makes it, and clears away what an interrupted write left.
    pub(super) fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, FolderError> {
        fs::create_dir_all(path).map_err(|source| FolderError::Write { path: path.to_owned(), source })?;
        let folder = Self { disk, path: path.to_owned() };
        for name in folder.names()? {
            if name.ends_with(UNFINISHED) {
                folder.remove(&name)?;
            }
        }
        Ok(folder)
    }

    /// To be looked at only: nothing is made and nothing cleared away.
    pub(super) fn at(path: &Path) -> Self {
        Self { disk: Arc::new(LocalDisk), path: path.to_owned() }
    }

    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Every `.json` file.
    pub(super) fn read_all(&self) -> Result<Files, FolderError> {
        let mut files = Files::new();
        for name in
            self.names()?.into_iter().filter(|name| Path::new(name).extension().is_some_and(|e| e == "json"))
        {
            if let Some(bytes) = self.read(&name)? {
                files.insert(name, bytes);
            }
        }
        Ok(files)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FolderError> {
        let path = self.path_of(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FolderError::Read { path, source }),
        };
        let mut bytes = Vec::new();
        let read = file.take(TARGETS_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|source| FolderError::Read { path: path.clone(), source })?;
        if bytes.len() > TARGETS_BYTES_MAX { Err(FolderError::TooLarge { path }) } else { Ok(Some(bytes)) }
    }

    /// When this returns, the file has these bytes, and has them after a power cut. When it fails, the file is as before.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let path = self.path_of(name);
        let unfinished = self.path_of(&format!("{name}{UNFINISHED}"));
        let steps = || {
            self.disk.write(&unfinished, bytes)?;
            self.disk.flush(&unfinished)?;
            self.disk.rename(&unfinished, &path)?;
            self.disk.flush_folder(&self.path)
        };
        steps().map_err(|source| FolderError::Write { path: path.clone(), source })
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), FolderError> {
        let path = self.path_of(name);
        self.disk.remove(&path).map_err(|source| FolderError::Write { path, source })
    }

    pub(super) fn names(&self) -> Result<Vec<String>, FolderError> {
        let wrong = |source| FolderError::Read { path: self.path.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(wrong)? {
            let name = entry.map_err(wrong)?.file_name();
            names.extend(name.into_string().ok());
            if names.len() > FILES_MAX {
                return Err(FolderError::TooMany { path: self.path.clone() });
            }
        }
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(Arc::new(LocalDisk), dir.path()).unwrap();
        folder.write("a.json", b"1").unwrap();
        fs::create_dir(dir.path().join("a.json.new")).unwrap();
        let error = folder.write("a.json", b"2").unwrap_err();
        assert!(error.to_string().contains("a.json"), "{error}");
        assert_eq!(folder.read_all().unwrap()["a.json"], b"1");
    }

    #[test]
    fn interrupted_writes_are_cleared_away() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.json.new"), b"half").unwrap();
        let folder = Folder::open(Arc::new(LocalDisk), dir.path()).unwrap();
        assert!(folder.names().unwrap().is_empty());
    }

    #[test]
    fn foreign_files_are_not_swallowed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("big.json"), vec![0; TARGETS_BYTES_MAX + 1]).unwrap();
        let error = Folder::open(Arc::new(LocalDisk), dir.path()).unwrap().read_all().unwrap_err();
        assert!(matches!(error, FolderError::TooLarge { .. }));
    }
}
