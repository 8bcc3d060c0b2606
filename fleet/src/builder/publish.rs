//! Uploads a bundle, and signs it into the model's `auto` file with the delegated key.
//!
//! Blobs first, then the file that lists them: the server accepts a list only when it has what is listed. The key is
//! read for the signature and forgotten, or never read because a program in front of hardware signs; the server never
//! sees it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::ids::{BundlePath, BundleSigner, BundleVersion, Digest, ModelName};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::{Demands, Sign, author};
use serde_json::Value;

use super::bundle::BundleFolder;
use super::config::Config;
use crate::client::{Client, ClientError, PublishedBundle};
use crate::publisher::external::ExternalSigner;
use crate::publisher::passphrase::{Passphrase, PassphraseError};
use crate::publisher::{auto, keys};

/// What a bundle asks of a box when nobody said otherwise: the processor alone runs it.
pub const DEFAULT_HARDWARE: &str = "x86_64-cpu";

/// How long a builder's signature allows change; it is renewed with every bundle it publishes.
const VALID: Duration = Duration::from_hours(90 * 24);
/// Somebody else may publish for the same model between our look and our upload.
const TRIES: usize = 3;

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("the bundle could not be uploaded")]
    Client(#[from] ClientError),
    #[error("the builder's key cannot be used")]
    Key(#[from] keys::KeyFileError),
    #[error("the passphrase of the builder's key cannot be read")]
    Passphrase(#[from] PassphraseError),
    #[error("the bundle could not be signed")]
    Sign(#[from] auto::AutoError),
    #[error("what the bundle demands of a box could not be written")]
    Demands(#[source] serde_json::Error),
    #[error("signing was broken off")]
    BrokenOff(#[source] tokio::task::JoinError),
    #[error("{path} could not be read")]
    Root {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the fleet has no {0} yet; the publisher has to publish a release first")]
    NoFile(&'static str),
}

impl PublishError {
    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Client(_) => "publish_failed",
            Self::Key(_)
            | Self::Passphrase(_)
            | Self::Sign(_)
            | Self::Demands(_)
            | Self::BrokenOff(_)
            | Self::Root { .. }
            | Self::NoFile(_) => "sign_failed",
        }
    }
}

/// Uploads all files and the manifest; `each` hears a file's name when it is there.
pub async fn upload(
    client: &Client,
    bundle: &BundleFolder,
    each: impl Fn(&str) + Send + Sync,
) -> Result<(), ClientError> {
    for file in &bundle.manifest.files {
        client.put_blob(&file.sha256, &bundle.path.join(&file.path)).await?;
        each(&file.path);
    }
    client.put_blob(&bundle.sha256, &bundle.path.join(super::bundle::MANIFEST_FILE)).await?;
    each(super::bundle::MANIFEST_FILE);
    Ok(())
}

/// What stands beside a bundle's digest in the catalogue.
pub fn custom(
    model: &ModelName,
    version: &BundleVersion,
    demands: &Demands,
) -> Result<Value, serde_json::Error> {
    let mut custom = serde_json::to_value(demands)?;
    custom["model"] = model.as_str().into();
    custom["version"] = version.as_str().into();
    Ok(custom)
}

/// Signs the bundle into `auto-<model>.json` and puts that file to the server.
pub async fn publish_auto(
    client: &Client,
    bundle: &BundleFolder,
    config: &Config,
    now: Timestamp,
) -> Result<PublishedBundle, PublishError> {
    let unreadable = |source| PublishError::Root { path: config.root.display().to_string(), source };
    let root: Arc<[u8]> = std::fs::read(&config.root).map_err(unreadable)?.into();
    let model = &bundle.manifest.model;
    let path = BundlePath::new(model.clone(), bundle.manifest.version.clone(), BundleSigner::Builder);
    let demands = config.model(model).map(super::config::Model::demands).unwrap_or_default();
    let custom = custom(model, &bundle.manifest.version, &demands).map_err(PublishError::Demands)?;
    let target = author::target(path.clone(), &bundle.manifest_bytes, custom);
    let name = format!("{}.json", author::auto_role(model));
    let mut tries = 0;
    loop {
        tries += 1;
        let targets = client.trust_file("targets.json").await?.ok_or(PublishError::NoFile("targets.json"))?;
        let current = client.trust_file(&name).await?;
        let (root, model, target, config) = (root.clone(), model.clone(), target.clone(), config.clone());
        // Opening a key takes a while, and hardware may wait for a person: the heartbeat goes on meanwhile.
        let signing = tokio::task::spawn_blocking(move || {
            let signer = signer(&config)?;
            let expires = now.plus(VALID);
            auto::publish(&root, &targets, current.as_deref(), &model, target, signer.as_ref(), expires)
                .map_err(PublishError::from)
        });
        let signed = signing.await.map_err(PublishError::BrokenOff)??;
        match client.put_trust_file(&name, signed).await {
            Ok(()) => return Ok(PublishedBundle { path, sha256: bundle.sha256 }),
            Err(error) if error.status() == Some(409) && tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The builder's key: a program, an encrypted file or a plain one.
fn signer(config: &Config) -> Result<Box<dyn Sign>, PublishError> {
    if let Some(command) = &config.sign_with {
        let public = keys::load_public(&config.key.display().to_string())?;
        return Ok(Box::new(ExternalSigner::new(command, public)));
    }
    let passphrase = match &config.passphrase_file {
        None => None,
        Some(file) => Some(Passphrase::given(Passphrase::read(file)?)?),
    };
    Ok(Box::new(keys::KeyFile::read(&config.key)?.unlock(passphrase.as_ref())?))
}

/// Downloads a bundle's manifest and files into a folder, each checked against its digest.
pub async fn download(client: &Client, sha256: &Digest, folder: &Path) -> Result<(), ClientError> {
    let failed = |source| ClientError::File { path: folder.display().to_string(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let manifest_path = folder.join(super::bundle::MANIFEST_FILE);
    client.get_blob(sha256, &manifest_path, muster_protocol::limits::MANIFEST_BYTES_MAX).await?;
    let bytes = std::fs::read(&manifest_path).map_err(failed)?;
    let manifest = muster_protocol::manifest::Manifest::parse(&bytes).map_err(|error| ClientError::File {
        path: manifest_path.display().to_string(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
    })?;
    for file in &manifest.files {
        // A manifest that parsed has only paths that stay inside the folder.
        let path = folder.join(&file.path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        client.get_blob(&file.sha256, &path, file.length).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_builder_signs_with_a_file_an_encrypted_file_or_a_program() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("phrase"), "correct horse\n").unwrap();
        std::fs::set_permissions(path("phrase"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let phrase = Passphrase::given(Passphrase::read(&path("phrase")).unwrap()).unwrap();
        let plain = keys::create(&path("plain.key"), "builder").unwrap();
        let locked = keys::create_encrypted(&path("locked.key"), "builder", &phrase).unwrap();
        let check = |settings: &str| {
            let text = format!(
                "name = 'b'\nwork_dir = 'w'\nroot = 'r'\nagent = 'a'\nruntime = 'r'\n{settings}\n\
                 [[models]]\nmodel = 'er'\ncommand = ['t']\ndata = 'd'\n"
            );
            std::fs::write(path("builder.toml"), text).unwrap();
            signer(&Config::read(&path("builder.toml")).unwrap()).map(|signer| signer.key())
        };
        assert_eq!(check("key = 'plain.key'").unwrap(), plain);
        assert_eq!(check("key = 'locked.key'\npassphrase_file = 'phrase'").unwrap(), locked);
        assert_eq!(check("key = 'locked.pub'\nsign_with = 'token-sign'").unwrap(), locked);
        let error = check("key = 'locked.key'").unwrap_err();
        assert!(matches!(error, PublishError::Key(keys::KeyFileError::Locked { .. })), "{error}");
        assert_eq!(error.code(), "sign_failed");
    }
}
