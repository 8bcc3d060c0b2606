//! Content on this box, each file under its own SHA-256: `blobs/<aa>/<sha256>`. What has such a name was whole and right
//! when it got it; a disk can still rot, so whoever is about to act on content has it checked again.
//!
//! Never knows what a blob means. Who needs files under their own names has them laid out in a folder for as long as that
//! takes: `layouts/<n>/`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use muster_protocol::ids::Digest;
use sha2::{Digest as _, Sha256};

use crate::disk::{self, DiskError};
use crate::reconcile::Blob;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Whole,
    Absent,
    /// Its bytes are not those of its name.
    Damaged,
}

#[derive(Clone, Debug)]
pub struct Blobs {
    root: PathBuf,
    staging: PathBuf,
    layouts: PathBuf,
}

/// A folder with nothing but the files that were asked for; gone when this is dropped.
#[derive(Debug)]
pub struct Layout(PathBuf);

impl Layout {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // What stays behind is removed at the next start.
        fs::remove_dir_all(&self.0).ok();
    }
}

impl Blobs {
    pub fn open(state_dir: &Path) -> Result<Self, DiskError> {
        let [root, staging, layouts] = ["blobs", "staging", "layouts"].map(|name| state_dir.join(name));
        if layouts.exists() {
            fs::remove_dir_all(&layouts).map_err(DiskError::io("remove", &layouts))?;
        }
        for folder in [&root, &staging, &layouts] {
            disk::create_dir(folder)?;
        }
        Ok(Self { root, staging, layouts })
    }

    /// Puts blobs under these names into a folder of their own, by another link to the same file: it takes no space.
    pub fn lay_out<'a>(
        &self,
        files: impl IntoIterator<Item = (&'a str, Digest)>,
    ) -> Result<Layout, DiskError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let layout = Layout(self.layouts.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string()));
        disk::create_dir(layout.path())?;
        for (name, digest) in files {
            let (from, to) = (self.path(&digest), layout.path().join(name));
            // Some file systems have no links.
            fs::hard_link(&from, &to)
                .or_else(|_| fs::copy(&from, &to).map(drop))
                .map_err(DiskError::io("lay out", &from))?;
        }
        Ok(layout)
    }

    /// Where downloads grow.
    pub fn staging(&self) -> &Path {
        &self.staging
    }

    pub fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join(&name[..2]).join(name)
    }

    /// Whether a file of the right name and length is here. Quick: does not read it.
    pub fn has(&self, blob: &Blob) -> bool {
        fs::metadata(self.path(&blob.digest)).is_ok_and(|file| file.is_file() && file.len() == blob.length)
    }

    /// Reads it all.
    pub fn check(&self, blob: &Blob) -> Result<Found, DiskError> {
        let path = self.path(&blob.digest);
        match hash_file(&path) {
            Ok((digest, length)) if digest == blob.digest && length == blob.length => Ok(Found::Whole),
            Ok(_) => Ok(Found::Damaged),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Absent),
            Err(error) => Err(DiskError::io("read", &path)(error)),
        }
    }

    /// The content of a small blob, if it is here and whole. One that is damaged is removed, so that it is fetched again.
    pub fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>, DiskError> {
        let Some(bytes) = disk::read(&self.path(digest))? else { return Ok(None) };
        if Digest::of(&bytes) == *digest {
            return Ok(Some(bytes));
        }
        self.remove(digest)?;
        Ok(None)
    }

    /// Takes in a file that has this digest; the caller has checked that, and flushed it.
    pub fn adopt(&self, file: &Path, digest: &Digest) -> Result<(), DiskError> {
        let path = self.path(digest);
        if let Some(folder) = path.parent() {
            disk::create_dir(folder)?;
        }
        disk::rename(file, &path)
    }

    pub fn remove(&self, digest: &Digest) -> Result<(), DiskError> {
        disk::remove(&self.path(digest))
    }

    /// Removes every blob that is not in `keep`, and every download of one that is not; says how many bytes that freed.
    pub fn collect(&self, keep: &BTreeSet<Digest>) -> Result<u64, DiskError> {
        let mut freed = 0;
        let mut files = disk::list(&self.staging)?;
        for folder in disk::list(&self.root)? {
            files.extend(disk::list(&folder)?);
        }
        for path in files {
            let digest = path.file_stem().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            if digest.is_some_and(|digest| keep.contains(&digest)) {
                continue;
            }
            freed += fs::metadata(&path).map_or(0, |file| file.len());
            disk::remove(&path)?;
        }
        Ok(freed)
    }
}

/// Digest and length of a file of any size.
pub fn hash_file(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut length = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((Digest::from_bytes(hash.finalize().into()), length));
        }
        hash.update(&buffer[..read]);
        length += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Blobs) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        (dir, blobs)
    }

    fn put(blobs: &Blobs, bytes: &[u8]) -> Blob {
        let digest = Digest::of(bytes);
        let part = blobs.staging().join("x.part");
        fs::write(&part, bytes).unwrap();
        blobs.adopt(&part, &digest).unwrap();
        Blob { digest, length: bytes.len() as u64 }
    }

    #[test]
    fn content_is_found_whole_damaged_or_not_at_all() {
        let (_dir, blobs) = store();
        let blob = put(&blobs, b"weights");
        assert!(blobs.has(&blob));
        assert_eq!(blobs.check(&blob).unwrap(), Found::Whole);
        assert_eq!(blobs.read(&blob.digest).unwrap().unwrap(), b"weights");
        fs::write(blobs.path(&blob.digest), b"weighty").unwrap();
        assert!(blobs.has(&blob), "the quick look sees name and length only");
        assert_eq!(blobs.check(&blob).unwrap(), Found::Damaged);
        assert_eq!(blobs.read(&blob.digest).unwrap(), None);
        assert_eq!(blobs.check(&blob).unwrap(), Found::Absent, "what is damaged is fetched again");
        assert!(!blobs.has(&Blob { length: 1, ..blob }));
    }

    #[test]
    fn files_are_laid_out_under_their_names_while_they_are_needed() {
        let (dir, blobs) = store();
        let (model, weights) = (put(&blobs, b"model"), put(&blobs, b"weights"));
        let layout = blobs.lay_out([("m.xml", model.digest), ("m.bin", weights.digest)]).unwrap();
        let left_behind = blobs.lay_out([("m.xml", model.digest)]).unwrap();
        assert_eq!(fs::read(layout.path().join("m.bin")).unwrap(), b"weights");
        assert_eq!(disk::list(layout.path()).unwrap().len(), 2);
        let path = layout.path().to_owned();
        drop(layout);
        assert!(!path.exists() && blobs.has(&weights));
        Blobs::open(dir.path()).unwrap();
        assert!(!left_behind.path().exists() && blobs.has(&model));
        assert!(blobs.lay_out([("gone", Digest::of(b"gone"))]).is_err());
    }

    #[test]
    fn what_nobody_needs_goes() {
        let (_dir, blobs) = store();
        let (kept, dropped) = (put(&blobs, b"kept"), put(&blobs, b"dropped"));
        let growing = blobs.staging().join(format!("{}.part", kept.digest));
        fs::write(&growing, b"ke").unwrap();
        fs::write(blobs.staging().join(format!("{}.part", dropped.digest)), b"dr").unwrap();
        let freed = blobs.collect(&BTreeSet::from([kept.digest])).unwrap();
        assert_eq!(freed, 9);
        assert!(blobs.has(&kept) && !blobs.has(&dropped) && growing.exists());
    }
}
