//! The publisher's folder: from keys to a root, from manifests to a signed catalogue.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use muster_protocol::ids::{BundlePath, ModelName};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::author::{self, AuthorError, Keys, RootSpec, TargetsSpec};
use muster_protocol::trust::{
    Envelope, EnvelopeError, FileName, Files, PublicKey, Role, Sign, SignError, Target, TrustError,
    TrustedSet,
};
use serde_json::Value;

use super::keys::{self, KeyFileError};

#[derive(Debug, thiserror::Error)]
pub enum PublisherError {
    #[error("cannot read {}; {hint}", path.display())]
    Read {
        path: PathBuf,
        hint: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} cannot be read as a signed file", path.display())]
    Envelope {
        path: PathBuf,
        #[source]
        source: EnvelopeError,
    },
    #[error("{0} is not in the catalogue being edited")]
    Absent(BundlePath),
    #[error("'{0}' is no name for a key: use letters, digits and '-'")]
    Name(String),
    #[error("{found} of {needed} signatures: sign with more of the targets keys that the root names")]
    TooFew { found: usize, needed: usize },
    #[error("key file")]
    Key(#[from] KeyFileError),
    #[error("the root cannot be used")]
    Trust(#[from] TrustError),
    #[error("the file cannot be written")]
    Author(#[from] AuthorError),
    #[error("signing failed")]
    Sign(#[from] SignError),
}

/// What `root new` is told.
#[derive(Clone, Debug)]
pub struct RootRequest {
    pub root: Keys,
    pub targets: Keys,
    /// The fleet's key for snapshot and timestamp.
    pub online: PublicKey,
    /// The fleet's key for orders.
    pub order: PublicKey,
    /// Models whose retrained bundles a builder signs by itself, with the builder's key.
    pub delegate: Vec<(ModelName, PublicKey)>,
    /// PEM certificates.
    pub tls_roots: Vec<String>,
    pub expires: Timestamp,
}

/// How far the signing of a root has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub found: usize,
    pub needed: usize,
    /// The finished file, once enough have signed.
    pub finished: Option<PathBuf>,
}

/// A catalogue that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub version: u64,
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Workspace {
    dir: PathBuf,
}

impl Workspace {
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub fn key_path(&self, name: &str) -> PathBuf {
        self.dir.join("keys").join(format!("{name}.key"))
    }

    pub fn new_key(&self, name: &str, role: &str) -> Result<PublicKey, PublisherError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            return Err(PublisherError::Name(name.chars().take(80).collect()));
        }
        Ok(keys::create(&self.key_path(name), role)?)
    }

    /// Drafts the first root or the next one, and the delegations in the catalogue's draft. Nothing is signed yet.
    pub fn new_root(&self, request: &RootRequest) -> Result<(), PublisherError> {
        let version = self.root()?.map_or(0, |root| root.versions().root).saturating_add(1);
        let spec = RootSpec {
            version,
            expires: request.expires,
            root: request.root.clone(),
            targets: request.targets.clone(),
            snapshot: Keys::one(request.online),
            timestamp: Keys::one(request.online),
            order: Keys::one(request.order),
            tls_roots: request.tls_roots.clone(),
        };
        let envelope = author::root(&spec)?;
        self.edit(|targets| {
            for (model, key) in &request.delegate {
                targets.delegate(model, &Keys::one(*key))?;
            }
            Ok(())
        })?;
        write(&self.draft("root.json"), &envelope.to_bytes())
    }

    /// Adds one signature to the root's draft; with enough of them it is finished and moves to `metadata/`.
    pub fn sign_root(&self, signer: &dyn Sign) -> Result<Progress, PublisherError> {
        let path = self.draft("root.json");
        let mut envelope = parse(&path, &read(&path, "draft a root first")?)?;
        envelope.sign(signer)?;
        let bytes = envelope.to_bytes();
        write(&path, &bytes)?;
        let number = |pointer: &str| envelope.signed().pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let needed = usize::try_from(number("/roles/root/threshold")).unwrap_or(usize::MAX);
        let found = envelope.signatures().len();
        let name = FileName::Root(number("/version")).wire();
        let trusted = match self.root()? {
            None => TrustedSet::from_root(&bytes).map(drop),
            Some(mut before) => {
                before.update_roots(&Files::from([(name.clone(), bytes.clone())])).refused.map_or(Ok(()), Err)
            }
        };
        let finished = match trusted {
            Ok(()) => {
                let path = self.metadata(&name);
                write(&path, &bytes)?;
                write(&self.metadata("root.json"), &bytes)?;
                remove(&self.draft("root.json"))?;
                Some(path)
            }
            Err(TrustError::Signature { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Progress { found, needed, finished })
    }

    /// The newest finished root.
    pub fn root(&self) -> Result<Option<TrustedSet>, PublisherError> {
        let path = self.metadata("root.json");
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(TrustedSet::from_root(&read(&path, "it is the newest root")?)?))
    }

    /// Puts a bundle into the catalogue's draft.
    pub fn add_bundle(&self, target: &Target) -> Result<(), PublisherError> {
        self.edit(|targets| {
            targets.put(target);
            Ok(())
        })
    }

    /// Takes a bundle out of the catalogue's draft: once published, no device activates it any more.
    pub fn remove_bundle(&self, path: &BundlePath) -> Result<(), PublisherError> {
        self.edit(
            |targets| if targets.remove(path) { Ok(()) } else { Err(PublisherError::Absent(path.clone())) },
        )
    }

    /// Lets a builder sign a model's retrained bundles by itself.
    pub fn delegate(&self, model: &ModelName, key: PublicKey) -> Result<(), PublisherError> {
        self.edit(|targets| Ok(targets.delegate(model, &Keys::one(key))?))
    }

    /// The catalogue as it would be published now.
    pub fn catalogue(&self) -> Result<TargetsSpec, PublisherError> {
        for path in [self.draft("targets.json"), self.metadata("targets.json")] {
            if path.exists() {
                return Ok(TargetsSpec::parse(&read(&path, "it is the catalogue")?)?);
            }
        }
        Ok(TargetsSpec::empty())
    }

    /// Signs the draft as the next version, checks it as devices do, and finishes it.
    pub fn publish(&self, signers: &[&dyn Sign], expires: Timestamp) -> Result<Release, PublisherError> {
        let root = self.metadata("root.json");
        let trusted = TrustedSet::from_root(&read(&root, "make and sign a root first")?)?;
        let spec = self.catalogue()?.next(expires);
        let version = spec.version();
        let bytes = author::sign(spec.envelope()?, signers)?;
        let path = self.metadata(&FileName::Targets.stored(version));
        let threshold = trusted.count(Role::Targets, &parse(&path, &bytes)?);
        if !threshold.met() {
            return Err(PublisherError::TooFew { found: threshold.found, needed: threshold.needed });
        }
        write(&path, &bytes)?;
        write(&self.metadata("targets.json"), &bytes)?;
        if self.draft("targets.json").exists() {
            remove(&self.draft("targets.json"))?;
        }
        Ok(Release { version, path, bytes })
    }

    fn edit(
        &self,
        change: impl FnOnce(&mut TargetsSpec) -> Result<(), PublisherError>,
    ) -> Result<(), PublisherError> {
        let mut targets = self.catalogue()?;
        change(&mut targets)?;
        write(&self.draft("targets.json"), &targets.envelope()?.to_bytes())
    }

    fn draft(&self, name: &str) -> PathBuf {
        self.dir.join("draft").join(name)
    }

    fn metadata(&self, name: &str) -> PathBuf {
        self.dir.join("metadata").join(name)
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Envelope, PublisherError> {
    Envelope::parse(bytes).map_err(|source| PublisherError::Envelope { path: path.to_owned(), source })
}

fn read(path: &Path, hint: &'static str) -> Result<Vec<u8>, PublisherError> {
    fs::read(path).map_err(|source| PublisherError::Read { path: path.to_owned(), hint, source })
}

fn remove(path: &Path) -> Result<(), PublisherError> {
    fs::remove_file(path).map_err(|source| PublisherError::Write { path: path.to_owned(), source })
}

/// Whole or not at all, and for everybody to read: nothing here is secret.
fn write(path: &Path, bytes: &[u8]) -> Result<(), PublisherError> {
    let steps = || {
        let parent = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent)?;
        let mode = fs::Permissions::from_mode(0o644);
        let mut file = tempfile::Builder::new().permissions(mode).tempfile_in(parent)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        fs::File::open(parent)?.sync_all()
    };
    steps().map_err(|source| PublisherError::Write { path: path.to_owned(), source })
}
