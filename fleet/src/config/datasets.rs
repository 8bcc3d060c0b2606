//! `[datasets]`: where the files of datasets are kept.
//!
//! ```toml
//! [datasets]
//! store = "s3://muster-datasets/er"        # or gs://bucket/…, az://container/…, file:///srv/datasets, a folder's path
//! options = { aws_endpoint = "https://minio.hospital.example:9000", aws_region = "us-east-1" }
//! ```
//! Credentials come from where the provider's own tools look: `AWS_ACCESS_KEY_ID` and so on, `GOOGLE_SERVICE_ACCOUNT`,
//! `AZURE_STORAGE_ACCOUNT_NAME` and so on, or the machine's own identity. `options` win over these; the names are those of
//! `object_store`, and their values are not shown.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::ConfigError;

#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatasetsConfig {
    /// The folder `datasets` of the data folder, if absent.
    pub store: Option<String>,
    pub options: BTreeMap<String, String>,
}

impl DatasetsConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let scheme =
            self.store.as_deref().and_then(|store| store.split_once("://")).map(|(scheme, _)| scheme);
        match (&self.store, scheme) {
            (Some(store), Some(other)) if !["file", "s3", "gs", "az"].contains(&other) => {
                Err(ConfigError::DatasetStore(store.chars().take(200).collect()))
            }
            (_, None | Some("file")) if !self.options.is_empty() => Err(ConfigError::DatasetOptions),
            _sound => Ok(()),
        }
    }
}

impl fmt::Debug for DatasetsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options: Vec<&String> = self.options.keys().collect();
        f.debug_struct("DatasetsConfig").field("store", &self.store).field("options", &options).finish()
    }
}
