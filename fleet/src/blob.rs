//! Content by its SHA-256: manifests, models, golden files, references, datasets. Immutable, put in once, never changed.
//!
//! In a folder a blob is written beside, hashed on the way, and moved to its name only if it is what it was announced to be.
//! In a bucket it is an upload that is completed only then. So a name that exists is whole. What is read is hashed again.
//! Knows nothing of bundles and datasets and of who may have what.

mod remote;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use muster_protocol::ids::Digest;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Location;
use object_store::{ObjectStore, ObjectStoreExt as _, WriteMultipart};
use sha2::Digest as _;

/// Parts of one upload that are being written at once.
const PARTS: usize = 4;
const STAGING: &str = "staging";

/// A handle to the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs {
    objects: Arc<dyn ObjectStore>,
    naming: Naming,
}

/// How a blob comes by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    /// Written under another, and renamed.
    Renamed,
    /// Its upload is completed, which in a bucket is one act.
    Completed,
}

pub use remote::{Remote, RemoteError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    Stored,
    /// It was here before.
    Existed,
}

#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("cannot use the blob folder {}; check its owner and the disk", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the content is {actual}, not {expected} as announced; it was altered or cut off on its way")]
    Mismatch { expected: Digest, actual: Digest },
    #[error("the content is longer than the {max} bytes allowed")]
    TooLong { max: u64 },
    #[error(
        "what is kept as {digest} is {actual} by now; the storage has altered it, so bring it back from a copy"
    )]
    Altered { digest: Digest, actual: Digest },
    #[error("the content stopped coming")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the blob store failed while {doing} {digest}")]
    Store {
        doing: &'static str,
        digest: Digest,
        #[source]
        source: object_store::Error,
    },
}

impl Blobs {
    /// Opens the store in a folder, makes it if it is absent, and clears what unfinished uploads left.
    pub fn open(dir: &Path) -> Result<Self, BlobError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| BlobError::Open {
            path: dir.to_owned(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(|error| failed(error.into()))?;
        match std::fs::remove_dir_all(dir.join(STAGING)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error.into())),
            Ok(()) | Err(_) => {}
        }
        let objects =
            LocalFileSystem::new_with_prefix(dir).map_err(|error| failed(error.into()))?.with_fsync(true);
        Ok(Self { objects: Arc::new(objects), naming: Naming::Renamed })
    }

    /// Opens a bucket, or a folder if that is what the address says. Nothing is asked of it yet.
    pub fn remote(remote: &Remote) -> Result<Self, RemoteError> {
        match remote.folder() {
            Some(folder) => Ok(Self::open(&folder)?),
            None => Ok(Self { objects: remote.objects()?, naming: Naming::Completed }),
        }
    }

    /// The blob's length, if it is here.
    pub async fn head(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        match self.objects.head(&location(digest)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(BlobError::Store { doing: "looking for", digest: *digest, source }),
        }
    }

    /// Takes in what must turn out to be `digest`. On any error nothing is kept.
    pub async fn put<S, E>(&self, digest: &Digest, content: S, max_bytes: u64) -> Result<Put, BlobError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if self.head(digest).await?.is_some() {
            return Ok(Put::Existed);
        }
        let failed = |doing| move |source| BlobError::Store { doing, digest: *digest, source };
        let staging = match self.naming {
            Naming::Renamed => staging(digest),
            Naming::Completed => location(digest),
        };
        let upload = self.objects.put_multipart(&staging).await.map_err(failed("beginning to write"))?;
        let mut upload = WriteMultipart::new(upload);
        match receive(&mut upload, digest, content, max_bytes).await {
            Ok(()) => {}
            Err(error) => {
                // Why it is given up is worth more than that giving up failed too.
                if let Err(error) = upload.abort().await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "an upload that was given up may have left parts behind"
                    );
                }
                return Err(error);
            }
        }
        upload.finish().await.map_err(failed("writing"))?;
        if self.naming == Naming::Completed {
            return Ok(Put::Stored);
        }
        match self.objects.rename_if_not_exists(&staging, &location(digest)).await {
            Ok(()) => Ok(Put::Stored),
            Err(object_store::Error::AlreadyExists { .. }) => {
                self.objects.delete(&staging).await.map_err(failed("clearing"))?;
                Ok(Put::Existed)
            }
            Err(source) => Err(BlobError::Store { doing: "naming", digest: *digest, source }),
        }
    }

    /// Length and content, as a stream that fails before its end if the content is not what its name says.
    pub async fn get(
        &self,
        digest: &Digest,
    ) -> Result<Option<(u64, BoxStream<'static, Result<Bytes, BlobError>>)>, BlobError> {
        let Some((length, content)) = self.raw(digest).await? else { return Ok(None) };
        Ok(Some((length, verified(*digest, content).boxed())))
    }

    async fn raw(&self, digest: &Digest) -> Result<Option<(u64, Content)>, BlobError> {
        let digest = *digest;
        match self.objects.get(&location(&digest)).await {
            Ok(found) => {
                let failed = move |source| BlobError::Store { doing: "reading", digest, source };
                Ok(Some((found.meta.size, found.into_stream().map_err(failed).boxed())))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(BlobError::Store { doing: "opening", digest, source }),
        }
    }

    /// Part of a blob that is here and reaches that far.
    pub async fn range(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, BlobError> {
        let failed = |source| BlobError::Store { doing: "reading a part of", digest: *digest, source };
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.objects.get_range(&location(digest), range).await.map_err(failed)
    }

    /// The whole of a small blob, if it is here and still what its name says.
    pub async fn read(&self, digest: &Digest, max_bytes: u64) -> Result<Option<Bytes>, BlobError> {
        match self.head(digest).await? {
            None => Ok(None),
            Some(length) if length > max_bytes => Err(BlobError::TooLong { max: max_bytes }),
            Some(length) => {
                let content = self.range(digest, 0..length).await?;
                let actual = Digest::of(&content);
                if actual == *digest {
                    Ok(Some(content))
                } else {
                    Err(BlobError::Altered { digest: *digest, actual })
                }
            }
        }
    }

    /// What a blob hashes to now: not its name, if the disk lost some of it.
    pub async fn rehash(&self, digest: &Digest) -> Result<Option<Digest>, BlobError> {
        let Some((_, mut content)) = self.raw(digest).await? else { return Ok(None) };
        let mut hash = sha2::Sha256::new();
        while let Some(part) = content.try_next().await? {
            hash.update(&part);
        }
        Ok(Some(Digest::from_bytes(hash.finalize().into())))
    }
}

type Content = BoxStream<'static, Result<Bytes, BlobError>>;

/// Holds each part back until the next has come, so that the last one is given out only when all of it was right.
fn verified(digest: Digest, content: Content) -> impl Stream<Item = Result<Bytes, BlobError>> + Send {
    struct Reading {
        content: Content,
        hash: sha2::Sha256,
        held: Option<Bytes>,
    }
    let begin = Some(Reading { content, hash: sha2::Sha256::new(), held: None });
    futures_util::stream::try_unfold(begin, move |reading| async move {
        let Some(mut reading) = reading else { return Ok(None) };
        while let Some(part) = reading.content.try_next().await? {
            reading.hash.update(&part);
            if let Some(before) = reading.held.replace(part) {
                return Ok(Some((before, Some(reading))));
            }
        }
        let actual = Digest::from_bytes(reading.hash.finalize().into());
        match (actual == digest, reading.held) {
            (true, last) => Ok(last.map(|last| (last, None))),
            (false, _) => Err(BlobError::Altered { digest, actual }),
        }
    })
}

async fn receive<S, E>(
    upload: &mut WriteMultipart,
    digest: &Digest,
    content: S,
    max_bytes: u64,
) -> Result<(), BlobError>
where
    S: Stream<Item = Result<Bytes, E>> + Send,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut content = std::pin::pin!(content);
    let mut hash = sha2::Sha256::new();
    let mut length: u64 = 0;
    while let Some(part) = content.next().await {
        let part = part.map_err(|error| BlobError::Body(error.into()))?;
        length = length.saturating_add(part.len() as u64);
        if length > max_bytes {
            return Err(BlobError::TooLong { max: max_bytes });
        }
        hash.update(&part);
        let failed = |source| BlobError::Store { doing: "writing", digest: *digest, source };
        upload.wait_for_capacity(PARTS).await.map_err(failed)?;
        upload.write(&part);
    }
    let actual = Digest::from_bytes(hash.finalize().into());
    if actual == *digest { Ok(()) } else { Err(BlobError::Mismatch { expected: *digest, actual }) }
}

fn location(digest: &Digest) -> Location {
    let name = digest.to_string();
    Location::from(format!("sha256/{}/{name}", &name[..2]))
}

/// Two uploads of the same content do not meet: each has its own name here.
fn staging(digest: &Digest) -> Location {
    let mut random = [0; 8];
    // Without randomness they might meet; the loser's rename then fails and it is told.
    getrandom::fill(&mut random).unwrap_or_default();
    Location::from(format!("{STAGING}/{digest}-{}", hex::encode(random)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(content: &'static [u8]) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
        futures_util::stream::iter(content.chunks(3).map(|part| Ok(Bytes::from_static(part))))
    }

    fn left_over(dir: &Path) -> usize {
        std::fs::read_dir(dir.join(STAGING)).map_or(0, Iterator::count)
    }

    #[tokio::test]
    async fn blobs_come_back_whole_and_in_part() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = Digest::of(b"weights");
        assert_eq!(blobs.head(&digest).await.unwrap(), None);
        assert_eq!(blobs.put(&digest, parts(b"weights"), 7).await.unwrap(), Put::Stored);
        assert_eq!(blobs.put(&digest, parts(b"weights"), 7).await.unwrap(), Put::Existed);
        assert_eq!(blobs.head(&digest).await.unwrap(), Some(7));
        assert_eq!(blobs.range(&digest, 2..5).await.unwrap(), "igh");
        assert_eq!(blobs.read(&digest, 7).await.unwrap().unwrap(), "weights");
        assert_eq!(blobs.rehash(&digest).await.unwrap(), Some(digest));
        assert!(matches!(blobs.read(&digest, 6).await, Err(BlobError::TooLong { max: 6 })));
        assert_eq!(left_over(dir.path()), 0);
    }

    #[tokio::test]
    async fn what_is_not_as_announced_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = Digest::of(b"weights");
        let error = blobs.put(&digest, parts(b"weighty"), 100).await.unwrap_err();
        assert!(matches!(error, BlobError::Mismatch { .. }), "{error}");
        let error = blobs.put(&digest, parts(b"weights"), 6).await.unwrap_err();
        assert!(matches!(error, BlobError::TooLong { max: 6 }), "{error}");
        let broken =
            futures_util::stream::iter([Ok(Bytes::from_static(b"wei")), Err(std::io::Error::other("gone"))]);
        assert!(matches!(blobs.put(&digest, broken, 100).await, Err(BlobError::Body(_))));
        assert_eq!(blobs.head(&digest).await.unwrap(), None);
        assert_eq!(left_over(dir.path()), 0);
    }

    #[tokio::test]
    async fn what_the_disk_altered_is_not_given_out() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = Digest::of(b"weights");
        blobs.put(&digest, parts(b"weights"), 7).await.unwrap();
        std::fs::write(dir.path().join(location(&digest).as_ref()), b"weighty").unwrap();
        assert!(matches!(blobs.read(&digest, 7).await, Err(BlobError::Altered { .. })));
        let (_, content) = blobs.get(&digest).await.unwrap().unwrap();
        let given: Result<Vec<Bytes>, BlobError> = content.try_collect().await;
        assert!(matches!(given, Err(BlobError::Altered { .. })));
        assert_eq!(blobs.rehash(&digest).await.unwrap(), Some(Digest::of(b"weighty")));
    }

    #[tokio::test]
    async fn the_empty_blob_is_one_too() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let digest = Digest::of(b"");
        assert_eq!(blobs.put(&digest, parts(b""), 0).await.unwrap(), Put::Stored);
        assert_eq!(blobs.read(&digest, 0).await.unwrap().unwrap(), "");
    }
}
