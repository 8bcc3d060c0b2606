//! Brings a dataset's version into a folder, file by file, each only under its name when it is what its digest says.

use std::path::{Path, PathBuf};

use muster_protocol::ids::Digest;
use serde_json::{Value, json};

use super::job::Failure;
use crate::client::{Client, ClientError, DatasetVersion, Shelf};
use crate::dataset::{DatasetRef, FileEntry};
use crate::table::hashed;

/// Versions that are kept beside those in use.
const OTHERS_KEPT: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{} could not be {what}", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is {found} and not {wanted}, as the version's manifest says; remove it and repeat", path.display())]
    Digest { path: PathBuf, wanted: Digest, found: Digest },
}

impl PullError {
    /// Stable, for programs.
    fn code(&self) -> &'static str {
        match self {
            Self::Digest { .. } | Self::Client(ClientError::Digest { .. }) => "dataset_digest",
            Self::Client(_) | Self::File { .. } => "dataset_failed",
        }
    }
}

/// Fills the folder with the version's files. What is there is hashed and not fetched again.
pub async fn pull(
    client: &Client,
    version: &DatasetVersion,
    folder: &Path,
    beat: impl Fn(u64) + Send + Sync,
) -> Result<(), PullError> {
    for file in &version.manifest.files {
        let path = folder.join(&file.path);
        if path.exists() {
            verify(file, &path).await?;
            beat(file.bytes);
            continue;
        }
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| PullError::File { what, path, source }
        };
        let parent = path.parent().unwrap_or(folder);
        tokio::fs::create_dir_all(parent).await.map_err(failed("made", parent))?;
        let part = path.with_added_extension("part");
        if part.exists() {
            tokio::fs::remove_file(&part).await.map_err(failed("removed", &part))?;
        }
        client.get_file(Shelf::Datasets, &file.sha256, &part, file.bytes, &beat).await?;
        tokio::fs::rename(&part, &path).await.map_err(failed("named", &path))?;
    }
    Ok(())
}

async fn verify(file: &FileEntry, path: &Path) -> Result<(), PullError> {
    let failed = |source| PullError::File { what: "read", path: path.to_owned(), source };
    let own = path.to_owned();
    let hashed = tokio::task::spawn_blocking(move || hashed(&own, &mut |_| ())).await;
    let (found, _) = hashed.map_err(|error| failed(error.into()))?.map_err(failed)?;
    if found == file.sha256 {
        Ok(())
    } else {
        Err(PullError::Digest { path: path.to_owned(), wanted: file.sha256, found })
    }
}

/// Brings all datasets of a run, each into a folder of its digest, and says what the trainer is told of them.
pub async fn for_run(
    client: &Client,
    wanted: &[DatasetRef],
    cache: &Path,
) -> Result<(Vec<DatasetVersion>, Vec<Value>), Failure> {
    let (mut versions, mut told) = (Vec::new(), Vec::new());
    for wanted in wanted {
        let failed = |error: &PullError| Failure::because(error.code(), error);
        let version = client.dataset(wanted).await.map_err(|error| failed(&error.into()))?;
        let folder = cache.join(version.sha256.to_string());
        pull(client, &version, &folder, |_| ()).await.map_err(|error| failed(&error))?;
        told.push(json!({
            "name": version.name,
            "version": version.number,
            "sha256": version.sha256,
            "path": folder,
            "rows": version.manifest.rows(),
        }));
        versions.push(version);
    }
    let used: Vec<String> = versions.iter().map(|version| version.sha256.to_string()).collect();
    tidy(cache, &used).map_err(|error| Failure::because("dataset_failed", &error))?;
    Ok((versions, told))
}

/// Keeps what this run uses and the few that came last.
fn tidy(cache: &Path, used: &[String]) -> Result<(), PullError> {
    let failed = |what| move |source| PullError::File { what, path: cache.to_owned(), source };
    let mut others = Vec::new();
    for entry in std::fs::read_dir(cache).map_err(failed("listed"))? {
        let entry = entry.map_err(failed("listed"))?;
        if !used.iter().any(|name| entry.file_name() == name.as_str()) {
            let changed = entry.metadata().and_then(|meta| meta.modified()).map_err(failed("listed"))?;
            others.push((changed, entry.path()));
        }
    }
    others.sort();
    let extra = others.len().saturating_sub(OTHERS_KEPT);
    others.iter().take(extra).try_for_each(|(_, old)| std::fs::remove_dir_all(old)).map_err(failed("tidied"))
}
