//! A file on its way: `<sha256>.part` with the bytes, and beside it `<sha256>.have` with one byte for each chunk that is
//! here. The bytes go first, so a mark never promises what was not written; what a cut of power may still break, the
//! digest of the whole finds.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use muster_protocol::chunk::chunk_count;

use crate::blobs::{Blobs, hash_file};
use crate::disk::{self, DiskError};
use crate::reconcile::Blob;

const MARK: u8 = b'1';

#[derive(Debug)]
pub(super) struct Part {
    bytes: (PathBuf, File),
    marks: (PathBuf, File),
}

impl Part {
    /// Opens what an earlier attempt left, or begins; says which chunks are here.
    pub(super) fn open(staging: &Path, blob: &Blob) -> Result<(Self, BTreeSet<u32>), DiskError> {
        let name = |ending: &str| staging.join(format!("{}.{ending}", blob.digest));
        let (bytes, marks) = (name("part"), name("have"));
        let chunks = u64::from(chunk_count(blob.length));
        let known = fs::metadata(&bytes).is_ok_and(|file| file.len() == blob.length)
            && fs::metadata(&marks).is_ok_and(|file| file.len() == chunks);
        let here = if known { Self::read_marks(&marks)? } else { BTreeSet::new() };
        let mut options = OpenOptions::new();
        options.create(true).truncate(!known).read(true).write(true);
        let part = Self {
            bytes: (bytes.clone(), options.open(&bytes).map_err(DiskError::io("create", &bytes))?),
            marks: (marks.clone(), options.open(&marks).map_err(DiskError::io("create", &marks))?),
        };
        part.bytes.1.set_len(blob.length).map_err(DiskError::io("grow", &bytes))?;
        part.marks.1.set_len(chunks).map_err(DiskError::io("grow", &marks))?;
        Ok((part, here))
    }

    pub(super) fn write(&mut self, index: u32, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let (path, file) = &self.bytes;
        file.write_all_at(bytes, offset).map_err(DiskError::io("write", path))?;
        let (path, file) = &self.marks;
        file.write_all_at(&[MARK], u64::from(index)).map_err(DiskError::io("write", path))
    }

    /// Checks the whole; gives it its name if it is right and removes it if it is wrong.
    pub(super) fn finish(self, blob: &Blob, blobs: &Blobs) -> Result<bool, DiskError> {
        let (path, file) = self.bytes;
        file.sync_all().map_err(DiskError::io("flush", &path))?;
        drop(file);
        let (digest, length) = hash_file(&path).map_err(DiskError::io("read", &path))?;
        disk::remove(&self.marks.0)?;
        if digest == blob.digest && length == blob.length {
            blobs.adopt(&path, &digest)?;
            return Ok(true);
        }
        disk::remove(&path)?;
        Ok(false)
    }

    fn read_marks(path: &Path) -> Result<BTreeSet<u32>, DiskError> {
        let marks = disk::read(path)?.unwrap_or_default();
        Ok((0..).zip(&marks).filter(|&(_, &mark)| mark == MARK).map(|(index, _)| index).collect())
    }
}

#[cfg(test)]
mod tests {
    use muster_protocol::ids::Digest;
    use muster_protocol::limits::CHUNK_BYTES;

    use super::*;

    #[test]
    fn a_download_goes_on_where_it_stopped_and_is_named_when_right() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let content: Vec<u8> = (0..CHUNK_BYTES + 10).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let blob = Blob { digest: Digest::of(&content), length: content.len() as u64 };
        let (mut part, here) = Part::open(blobs.staging(), &blob).unwrap();
        assert!(here.is_empty());
        part.write(1, CHUNK_BYTES as u64, &content[CHUNK_BYTES..]).unwrap();
        drop(part);
        let (mut part, here) = Part::open(blobs.staging(), &blob).unwrap();
        assert_eq!(here, BTreeSet::from([1]));
        part.write(0, 0, &content[..CHUNK_BYTES]).unwrap();
        assert!(part.finish(&blob, &blobs).unwrap());
        assert_eq!(blobs.read(&blob.digest).unwrap().unwrap(), content);
        assert!(disk::list(blobs.staging()).unwrap().is_empty());
    }

    #[test]
    fn wrong_content_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let blob = Blob { digest: Digest::of(b"right"), length: 5 };
        let (mut part, _) = Part::open(blobs.staging(), &blob).unwrap();
        part.write(0, 0, b"wrong").unwrap();
        assert!(!part.finish(&blob, &blobs).unwrap());
        assert!(!blobs.has(&blob));
        let (_, here) = Part::open(blobs.staging(), &blob).unwrap();
        assert!(here.is_empty());
    }
}
