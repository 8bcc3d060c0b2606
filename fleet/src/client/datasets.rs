//! Versions of datasets, as the server has them.

use muster_protocol::ids::{DatasetName, Digest, RunId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Client, ClientError};
use crate::dataset::{Checked, DatasetRef, External, Manifest, Profile};

/// A version whose manifest is what its digest says: checked when it came.
#[derive(Clone, Debug, Deserialize)]
pub struct DatasetVersion {
    pub name: DatasetName,
    pub number: u64,
    pub sha256: Digest,
    pub manifest: Manifest,
}

/// A version to add; its files and its profile are at the server.
#[derive(Clone, Debug, Serialize)]
pub struct NewVersion {
    pub manifest: Manifest,
    pub profile: Digest,
    pub checks: Vec<Checked>,
    pub external: Vec<External>,
    pub note: String,
}

impl Client {
    pub async fn dataset(&self, wanted: &DatasetRef) -> Result<DatasetVersion, ClientError> {
        let path = format!("/api/v1/datasets/{}/versions/{}", wanted.name, wanted.version);
        let answer = self.get(&path, &[]).await?;
        let version: DatasetVersion = serde_json::from_value(answer)
            .map_err(|source| ClientError::Json { path: path.clone(), source })?;
        let shape = |what| ClientError::Shape { path: path.clone(), what };
        version.manifest.check().map_err(|_| shape("a manifest that keeps its own rules"))?;
        let found = version.manifest.digest().map_err(|_| shape("a manifest that can be written down"))?;
        if found == version.sha256 {
            Ok(version)
        } else {
            Err(ClientError::Digest { wanted: version.sha256.to_string(), found: found.to_string() })
        }
    }

    pub async fn dataset_profile(&self, wanted: &DatasetRef) -> Result<Profile, ClientError> {
        let path = format!("/api/v1/datasets/{}/versions/{}/profile", wanted.name, wanted.version);
        let answer = self.get(&path, &[]).await?;
        serde_json::from_value(answer).map_err(|source| ClientError::Json { path, source })
    }

    /// Says what a run is trained on.
    pub async fn trained_on(
        &self,
        run: &RunId,
        builder: &str,
        on: &[DatasetVersion],
    ) -> Result<(), ClientError> {
        let datasets: Vec<_> =
            on.iter().map(|version| json!({"name": version.name, "sha256": version.sha256})).collect();
        let body = json!({"builder": builder, "datasets": datasets});
        self.post(&format!("/api/v1/runs/{run}/datasets"), &[], &body).await.map(drop)
    }
}
