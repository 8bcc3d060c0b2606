//! Where blobs can be: a folder, or a bucket of S3 or what speaks it, of Google or of Azure.
//!
//! Retries are bounded, each request has a time-out; what fails in the middle of an upload leaves nothing under a name. Parts
//! of an upload that nobody could give up any more are cleared by the bucket's own rule for them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, RetryConfig};

use super::BlobError;

const RETRIES_MAX: usize = 5;
const RETRY_TIMEOUT: Duration = Duration::from_mins(1);

/// A place with what is needed to get at it. Not shown: there may be keys in it.
#[derive(Clone)]
pub struct Remote {
    /// A folder's path, `file://…`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.
    pub place: String,
    /// By the names of `object_store`, such as `aws_endpoint`; they win over the environment.
    pub options: BTreeMap<String, String>,
}

#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error(transparent)]
    Folder(#[from] BlobError),
    #[error("'{place}' cannot be used: {what}")]
    Place { place: String, what: &'static str },
    #[error("'{option}' is no option of {place}")]
    Option {
        place: String,
        option: String,
        #[source]
        source: object_store::Error,
    },
    #[error("'{place}' cannot be used")]
    Store {
        place: String,
        #[source]
        source: object_store::Error,
    },
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Remote {
    pub(super) fn folder(&self) -> Option<PathBuf> {
        match self.place.split_once("://") {
            None => Some(PathBuf::from(&self.place)),
            Some(("file", path)) => Some(PathBuf::from(path)),
            Some(_) => None,
        }
    }

    pub(super) fn objects(&self) -> Result<Arc<dyn ObjectStore>, RemoteError> {
        // Err means that the process has a provider already, which is what we want.
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let wrong = |what| RemoteError::Place { place: self.place.clone(), what };
        let (scheme, rest) = self.place.split_once("://").ok_or_else(|| wrong("it is no address"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(wrong("it names no bucket"));
        }
        let failed = |source| RemoteError::Store { place: self.place.clone(), source };
        let retry = || RetryConfig {
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_TIMEOUT,
            ..RetryConfig::default()
        };
        let objects: Arc<dyn ObjectStore> = match scheme {
            "s3" => {
                let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry());
                let builder = self.configured(builder, |builder, key: AmazonS3ConfigKey, value| {
                    builder.with_config(key, value)
                })?;
                Arc::new(builder.build().map_err(failed)?)
            }
            "gs" => {
                let builder =
                    GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(retry());
                let builder = self.configured(builder, |builder, key: GoogleConfigKey, value| {
                    builder.with_config(key, value)
                })?;
                Arc::new(builder.build().map_err(failed)?)
            }
            "az" => {
                let builder =
                    MicrosoftAzureBuilder::from_env().with_container_name(bucket).with_retry(retry());
                let builder = self.configured(builder, |builder, key: AzureConfigKey, value| {
                    builder.with_config(key, value)
                })?;
                Arc::new(builder.build().map_err(failed)?)
            }
            _other => return Err(wrong("it begins with none of file://, s3://, gs:// and az://")),
        };
        let prefix = prefix.trim_matches('/');
        Ok(if prefix.is_empty() { objects } else { Arc::new(PrefixStore::new(objects, prefix)) })
    }

    fn configured<B, K: FromStr<Err = object_store::Error>>(
        &self,
        builder: B,
        with: impl Fn(B, K, &str) -> B,
    ) -> Result<B, RemoteError> {
        self.options.iter().try_fold(builder, |builder, (option, value)| {
            let failed =
                |source| RemoteError::Option { place: self.place.clone(), option: option.clone(), source };
            Ok(with(builder, option.parse().map_err(failed)?, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Blobs;
    use super::*;

    fn open(place: &str, options: &[(&str, &str)]) -> Result<Blobs, RemoteError> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Blobs::remote(&Remote { place: place.to_owned(), options })
    }

    #[test]
    fn places_are_opened_by_their_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        for (place, options) in [
            (format!("{path}/a"), &[][..]),
            (format!("file://{path}/b"), &[]),
            (
                "s3://bucket/some/where".to_owned(),
                &[("aws_access_key_id", "k"), ("aws_secret_access_key", "s")],
            ),
            ("gs://bucket".to_owned(), &[("google_skip_signature", "true")]),
            (
                "az://container/x".to_owned(),
                &[("azure_storage_account_name", "account"), ("azure_storage_account_key", "a2V5")],
            ),
        ] {
            open(&place, options).unwrap();
        }
        assert!(matches!(open("ftp://x/y", &[]), Err(RemoteError::Place { .. })));
        assert!(matches!(open("s3:///y", &[]), Err(RemoteError::Place { .. })));
        assert!(matches!(open("s3://b", &[("colour", "blue")]), Err(RemoteError::Option { .. })));
    }

    #[test]
    fn keys_are_not_shown() {
        let options = [("aws_secret_access_key".to_owned(), "hidden".to_owned())].into();
        let remote = Remote { place: "s3://b".to_owned(), options };
        assert!(!format!("{remote:?}").contains("hidden"));
    }
}
