//! Content and trust files on their way to and from the server.

use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use muster_protocol::ids::Digest;
use reqwest::{Method, StatusCode, header};
use tokio::io::AsyncWriteExt as _;

use super::{ANSWER_TIMEOUT, Client, ClientError};
use crate::registry::TAKEN_WITHIN;

/// Longest trust file that is read into memory.
const TRUST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// An upload that is slower is given up.
const UPLOAD_BYTES_A_SECOND_MIN: u64 = 32 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upload {
    Sent,
    /// The server had it: content never travels twice.
    Present,
}

/// Which content: that of bundles or that of datasets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shelf {
    Bundles,
    Datasets,
}

impl Shelf {
    fn path(self, digest: &Digest) -> String {
        match self {
            Self::Bundles => format!("/api/v1/blobs/{digest}"),
            Self::Datasets => format!("/api/v1/dataset-blobs/{digest}"),
        }
    }
}

impl Client {
    pub async fn has_blob(&self, shelf: Shelf, digest: &Digest) -> Result<bool, ClientError> {
        match self.send(self.request(Method::HEAD, &shelf.path(digest))).await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Uploads a file of a bundle unless the server has it; the server checks the digest.
    pub async fn put_blob(&self, digest: &Digest, path: &Path) -> Result<Upload, ClientError> {
        self.put_file(Shelf::Bundles, digest, path, |_| ()).await
    }

    /// Uploads a file unless the server has it; `beat` hears of the bytes that went.
    pub async fn put_file(
        &self,
        shelf: Shelf,
        digest: &Digest,
        path: &Path,
        beat: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<Upload, ClientError> {
        if self.has_blob(shelf, digest).await? {
            return Ok(Upload::Present);
        }
        let unreadable = |source| ClientError::File { path: path.display().to_string(), source };
        let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let length = file.metadata().await.map_err(unreadable)?.len();
        let parts = tokio_util::io::ReaderStream::new(file)
            .inspect_ok(move |part| beat(u64::try_from(part.len()).unwrap_or(0)));
        self.send(self.putting(shelf, digest, length).body(reqwest::Body::wrap_stream(parts))).await?;
        Ok(Upload::Sent)
    }

    /// Uploads what is in memory, unless the server has it.
    pub async fn put_bytes(&self, shelf: Shelf, bytes: Vec<u8>) -> Result<Digest, ClientError> {
        let digest = Digest::of(&bytes);
        if !self.has_blob(shelf, &digest).await? {
            let length = u64::try_from(bytes.len()).unwrap_or(0);
            self.send(self.putting(shelf, &digest, length).body(bytes)).await?;
        }
        Ok(digest)
    }

    fn putting(&self, shelf: Shelf, digest: &Digest, length: u64) -> reqwest::RequestBuilder {
        // The server's time-out is for silence; ours is for a line so slow that somebody should look.
        let slowest = Duration::from_secs(length / UPLOAD_BYTES_A_SECOND_MIN).saturating_add(ANSWER_TIMEOUT);
        self.asking(&self.sending, Method::PUT, &shelf.path(digest))
            .timeout(slowest)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, length)
    }

    /// Downloads a blob of a bundle into a new file of at most `max` bytes and checks what came.
    pub async fn get_blob(&self, digest: &Digest, path: &Path, max: u64) -> Result<u64, ClientError> {
        self.get_file(Shelf::Bundles, digest, path, max, |_| ()).await
    }

    /// Downloads a blob into a new file of at most `max` bytes and checks what came; `beat` hears of the bytes.
    pub async fn get_file(
        &self,
        shelf: Shelf,
        digest: &Digest,
        path: &Path,
        max: u64,
        beat: impl Fn(u64) + Send + Sync,
    ) -> Result<u64, ClientError> {
        use sha2::Digest as _;
        let unwritable = |source| ClientError::File { path: path.display().to_string(), source };
        let mut response = self.send(self.request(Method::GET, &shelf.path(digest))).await?;
        let mut file = tokio::fs::File::create_new(path).await.map_err(unwritable)?;
        let mut hash = sha2::Sha256::new();
        let mut length = 0_u64;
        while let Some(chunk) = response.chunk().await.map_err(|source| self.network(source))? {
            length += chunk.len() as u64;
            if length > max {
                let max = usize::try_from(max).unwrap_or(usize::MAX);
                return Err(ClientError::TooLong { path: shelf.path(digest), max });
            }
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(unwritable)?;
            beat(chunk.len() as u64);
        }
        file.flush().await.map_err(unwritable)?;
        let found = Digest::from_bytes(hash.finalize().into());
        if found == *digest {
            Ok(length)
        } else {
            Err(ClientError::Digest { wanted: digest.to_string(), found: found.to_string() })
        }
    }

    /// A trust file by its name on the wire; `None` if the server has none of that name.
    pub async fn trust_file(&self, name: &str) -> Result<Option<Vec<u8>>, ClientError> {
        match self.send(self.request(Method::GET, &format!("/api/v1/trust/{name}"))).await {
            Ok(response) => self.bytes(response, TRUST_BYTES_MAX).await.map(Some),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND.as_u16()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub async fn put_trust_file(&self, name: &str, bytes: Vec<u8>) -> Result<(), ClientError> {
        self.send(self.publishing(name, bytes)).await.map(drop)
    }

    fn publishing(&self, name: &str, bytes: Vec<u8>) -> reqwest::RequestBuilder {
        self.asking(&self.sending, Method::PUT, &format!("/api/v1/trust/{name}"))
            .timeout(TAKEN_WITHIN.saturating_add(ANSWER_TIMEOUT))
            .header(header::CONTENT_TYPE, "application/json")
            .body(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_is_waited_for_longer_than_the_server_may_take() {
        let client = Client::new("http://fleet.example").unwrap();
        let request = client.publishing("targets.json", Vec::new()).build().unwrap();
        assert!(request.timeout().is_some_and(|timeout| *timeout > TAKEN_WITHIN), "{:?}", request.timeout());
    }
}
