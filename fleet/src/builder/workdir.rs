//! Where one run does its work, and what is kept of those that failed.
//!
//! ```text
//!   work_dir/lock                     one builder to a folder
//!   work_dir/runs/<run>/              request.json · out/ · champion/ · bundle/ · tmp/ · log.txt
//!   work_dir/failed/<run>/            the same, of the last few that did not succeed
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};

use muster_protocol::ids::RunId;

/// Failed runs whose folders are kept.
const FAILED_KEPT: usize = 5;

#[derive(Debug, thiserror::Error)]
pub enum WorkdirError {
    #[error("{path} could not be {what}")]
    Io {
        what: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("another builder works in {path}; give each its own work_dir")]
    Busy { path: String },
}

/// The folder of all runs; held by one builder at a time.
#[derive(Debug)]
pub struct Workdir {
    path: PathBuf,
    _lock: File,
}

/// The folder of one run.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    failed: PathBuf,
}

impl Workdir {
    /// Opens the folder; what a builder before us left unfinished counts as failed.
    pub fn open(path: &Path) -> Result<Self, WorkdirError> {
        for folder in [path.to_owned(), path.join("runs"), path.join("failed")] {
            std::fs::create_dir_all(&folder).map_err(io("made", &folder))?;
        }
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(io("opened", &lock_path))?;
        lock.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => WorkdirError::Busy { path: path.display().to_string() },
            std::fs::TryLockError::Error(source) => io("locked", &lock_path)(source),
        })?;
        let workdir = Self { path: path.to_owned(), _lock: lock };
        for left in entries(&path.join("runs"))? {
            let failed = workdir.failed(&left);
            RunDir { path: left, failed }.keep()?;
        }
        Ok(workdir)
    }

    /// A fresh folder for the run, with `out` and `tmp` in it.
    pub fn run(&self, run: &RunId) -> Result<RunDir, WorkdirError> {
        let path = self.path.join("runs").join(run.as_str());
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(io("removed", &path))?;
        }
        let dir = RunDir { failed: self.failed(&path), path };
        for folder in [dir.out(), dir.tmp()] {
            std::fs::create_dir_all(&folder).map_err(io("made", &folder))?;
        }
        Ok(dir)
    }

    fn failed(&self, run: &Path) -> PathBuf {
        self.path.join("failed").join(run.file_name().unwrap_or_default())
    }
}

impl RunDir {
    pub fn request(&self) -> PathBuf {
        self.path.join("request.json")
    }

    pub fn out(&self) -> PathBuf {
        self.path.join("out")
    }

    pub fn tmp(&self) -> PathBuf {
        self.path.join("tmp")
    }

    pub fn champion(&self) -> PathBuf {
        self.path.join("champion")
    }

    pub fn bundle(&self) -> PathBuf {
        self.path.join("bundle")
    }

    pub fn log(&self) -> PathBuf {
        self.path.join("log.txt")
    }

    /// Nothing is needed of a run that succeeded.
    pub fn remove(self) -> Result<(), WorkdirError> {
        std::fs::remove_dir_all(&self.path).map_err(io("removed", &self.path))
    }

    /// Keeps the folder for whoever looks for the reason, and only the latest few.
    pub fn keep(self) -> Result<PathBuf, WorkdirError> {
        if self.failed.exists() {
            std::fs::remove_dir_all(&self.failed).map_err(io("removed", &self.failed))?;
        }
        std::fs::rename(&self.path, &self.failed).map_err(io("kept", &self.path))?;
        let parent = self.failed.parent().unwrap_or(Path::new("."));
        let mut kept = entries(parent)?;
        // The folder's own time is that of its last change, which is the order in which runs ended.
        kept.sort_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok());
        let extra = kept.len().saturating_sub(FAILED_KEPT);
        for old in kept.iter().filter(|path| **path != self.failed).take(extra) {
            std::fs::remove_dir_all(old).map_err(io("removed", old))?;
        }
        Ok(self.failed)
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, WorkdirError> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io("listed", folder))? {
        all.push(entry.map_err(io("listed", folder))?.path());
    }
    Ok(all)
}

fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> WorkdirError + 'a {
    move |source| WorkdirError::Io { what, path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(n: u8) -> RunId {
        RunId::mint([n; 16])
    }

    #[test]
    fn one_builder_to_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = Workdir::open(folder.path()).unwrap();
        assert!(matches!(Workdir::open(folder.path()), Err(WorkdirError::Busy { .. })));
        drop(first);
        Workdir::open(folder.path()).unwrap();
    }

    #[test]
    fn failures_are_kept_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let workdir = Workdir::open(folder.path()).unwrap();
        for n in 0..9 {
            workdir.run(&run(n)).unwrap().keep().unwrap();
        }
        assert_eq!(entries(&folder.path().join("failed")).unwrap().len(), FAILED_KEPT);
        assert!(folder.path().join("failed").join(run(8).as_str()).is_dir());
        workdir.run(&run(20)).unwrap().remove().unwrap();
        assert!(entries(&folder.path().join("runs")).unwrap().is_empty());
    }

    #[test]
    fn what_a_crash_left_counts_as_failed() {
        let folder = tempfile::tempdir().unwrap();
        Workdir::open(folder.path()).unwrap().run(&run(1)).unwrap();
        Workdir::open(folder.path()).unwrap();
        assert!(folder.path().join("failed").join(run(1).as_str()).is_dir());
    }
}
