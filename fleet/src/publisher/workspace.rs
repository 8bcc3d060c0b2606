//! The publisher's folder: what lies where, and how it is read and written. The ceremonies stand in the submodules.

mod adopt;
mod catalogue;
mod release;
mod root;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use muster_protocol::trust::author::TargetsSpec;
use muster_protocol::trust::{Envelope, FileName, KeyId, PublicKey, TrustedSet};

pub use adopt::Adopted;
pub(crate) use catalogue::SINCE;
pub use release::Release;
pub use root::{RoleChange, RootChange, RootRequest};

use super::draft::Draft;
use super::error::PublisherError;
use super::keys::{self, KeyFile, KeyFileError};
use super::passphrase::Passphrase;

/// Keys that one folder lists.
const KEYS_MAX: usize = 1000;
/// Fewer characters of a key id could mean two keys.
const KEY_ID_CHARS_MIN: usize = 8;

#[derive(Clone, Debug)]
pub struct Workspace {
    dir: PathBuf,
}

/// A key of which the workspace has at least the public half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    pub name: String,
    pub public: PublicKey,
    /// From the private file, where that is here.
    pub private: Option<PrivateHalf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateHalf {
    pub role: Option<String>,
    pub encrypted: bool,
}

impl Workspace {
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub fn key_path(&self, name: &str) -> PathBuf {
        self.dir.join("keys").join(format!("{name}.key"))
    }

    fn public_path(&self, name: &str) -> PathBuf {
        self.dir.join("keys").join(format!("{name}.pub"))
    }

    /// Refuses a name that is none or that is taken.
    pub fn check_new_key(&self, name: &str) -> Result<(), PublisherError> {
        let taken = [self.key_path(key_name(name)?), self.public_path(name)].into_iter().find(|p| p.exists());
        taken.map_or(Ok(()), |path| Err(PublisherError::NameTaken { path }))
    }

    pub fn new_key(
        &self,
        name: &str,
        role: &str,
        passphrase: Option<&Passphrase>,
    ) -> Result<PublicKey, PublisherError> {
        let path = self.key_path(key_name(name)?);
        Ok(match passphrase {
            None => keys::create(&path, role)?,
            Some(passphrase) => keys::create_encrypted(&path, role, passphrase)?,
        })
    }

    /// A private key by its name here, or by its file.
    pub fn key_file(&self, text: &str) -> Result<KeyFile, KeyFileError> {
        let own = self.key_path(text);
        KeyFile::read(if own.is_file() { &own } else { Path::new(text) })
    }

    /// A public key by its name here, its file, or itself. One that came as another holder's file is kept under that
    /// file's name, so that people can be told who has not signed.
    pub fn public_key(&self, text: &str) -> Result<PublicKey, PublisherError> {
        let own = self.public_path(text);
        if own.is_file() {
            return Ok(keys::load_public(&own.display().to_string())?);
        }
        let public = keys::load_public(text)?;
        let file = Path::new(text);
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if file.extension().is_some_and(|end| end == "pub")
            && key_name(stem).is_ok()
            && !self.public_path(stem).exists()
            && !self.names()?.contains_key(&public.key_id())
        {
            write(&self.public_path(stem), format!("{public}\n").as_bytes())?;
        }
        Ok(public)
    }

    /// A key out of a role: as [`Self::public_key`] has it, or by the beginning of its id, for what is lost.
    fn key_among(&self, text: &str, among: &BTreeMap<KeyId, PublicKey>) -> Result<PublicKey, PublisherError> {
        if text.len() >= KEY_ID_CHARS_MIN {
            let mut meant = among.iter().filter(|(id, _)| id.as_str().starts_with(text));
            if let (Some((_, key)), None) = (meant.next(), meant.next()) {
                return Ok(*key);
            }
        }
        self.public_key(text).map_err(|_| PublisherError::UnknownKey(text.chars().take(80).collect()))
    }

    /// Every key with a file here, by name.
    pub fn keys(&self) -> Result<Vec<KnownKey>, PublisherError> {
        self.key_names()?.iter().map(|name| self.key(name)).collect()
    }

    fn key_names(&self) -> Result<BTreeSet<String>, PublisherError> {
        let dir = self.dir.join("keys");
        let mut names = BTreeSet::new();
        if !dir.is_dir() {
            return Ok(names);
        }
        let failed = |source| PublisherError::Read { path: dir.clone(), hint: "it holds the keys", source };
        for entry in fs::read_dir(&dir).map_err(failed)?.take(KEYS_MAX) {
            let path = entry.map_err(failed)?.path();
            let is_key = path.extension().is_some_and(|end| end == "key" || end == "pub");
            if let (true, Some(stem)) = (is_key, path.file_stem().and_then(|stem| stem.to_str())) {
                names.insert(stem.to_owned());
            }
        }
        Ok(names)
    }

    /// One key by its name.
    pub fn key(&self, name: &str) -> Result<KnownKey, PublisherError> {
        let (private, public) = (self.key_path(name), self.public_path(name));
        let file = private.is_file().then(|| KeyFile::read(&private)).transpose()?;
        let public = match &file {
            Some(file) if !public.is_file() => file.public()?,
            None if !public.is_file() => {
                return Err(PublisherError::UnknownKey(name.chars().take(80).collect()));
            }
            Some(_) | None => keys::load_public(&public.display().to_string())?,
        };
        let private = file
            .map(|file| PrivateHalf { role: file.role().map(str::to_owned), encrypted: file.is_encrypted() });
        Ok(KnownKey { name: name.to_owned(), public, private })
    }

    /// What keys are called here. One that cannot be read has no name; whoever uses it will be told why.
    pub fn names(&self) -> Result<BTreeMap<KeyId, String>, PublisherError> {
        let public = |name: &String| keys::load_public(&self.public_path(name).display().to_string()).ok();
        let names = self.key_names()?;
        Ok(names.into_iter().filter_map(|name| Some((public(&name)?.key_id(), name))).collect())
    }

    /// The newest finished root.
    pub fn root(&self) -> Result<Option<TrustedSet>, PublisherError> {
        let path = self.metadata("root.json");
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(TrustedSet::from_root(&read(&path, "it is the newest root")?)?))
    }

    fn newest_root(&self) -> Result<TrustedSet, PublisherError> {
        self.root()?.ok_or_else(|| PublisherError::Read {
            path: self.metadata("root.json"),
            hint: "make and sign a root first (`muster root new`), or fetch the fleet's (`muster release pull`)",
            source: std::io::ErrorKind::NotFound.into(),
        })
    }

    /// What is published of a list of bundles, as far as this folder knows.
    pub fn published(&self, list: &FileName) -> Result<Option<TargetsSpec>, PublisherError> {
        let path = self.metadata(&list.wire());
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(TargetsSpec::parse(&read(&path, "it is what was published last")?)?))
    }

    /// A draft that waits for signatures, if there is one.
    pub fn signing(&self, file: &FileName) -> Result<Option<Draft>, PublisherError> {
        let path = self.signing_path(file);
        path.exists().then(|| Draft::read(&path)).transpose()
    }

    /// Where the draft lies that can be carried to the next key holder.
    pub fn signing_path(&self, file: &FileName) -> PathBuf {
        self.draft(&match file {
            FileName::Root(_) => "root.json".to_owned(),
            FileName::Targets | FileName::Delegated(_) | FileName::Timestamp | FileName::Snapshot => {
                format!("{}.signing.json", file.role())
            }
        })
    }

    fn save_signing(&self, draft: &Draft) -> Result<(), PublisherError> {
        draft.save(&self.signing_path(draft.file()))
    }

    fn draft(&self, name: &str) -> PathBuf {
        self.dir.join("draft").join(name)
    }

    pub fn metadata(&self, name: &str) -> PathBuf {
        self.dir.join("metadata").join(name)
    }
}

fn key_name(name: &str) -> Result<&str, PublisherError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        return Err(PublisherError::Name(name.chars().take(80).collect()));
    }
    Ok(name)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Envelope, PublisherError> {
    Envelope::parse(bytes).map_err(|source| PublisherError::Envelope { path: path.to_owned(), source })
}

fn read(path: &Path, hint: &'static str) -> Result<Vec<u8>, PublisherError> {
    fs::read(path).map_err(|source| PublisherError::Read { path: path.to_owned(), hint, source })
}

/// Whether it was there.
fn remove(path: &Path) -> Result<bool, PublisherError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(PublisherError::Write { path: path.to_owned(), source }),
    }
}

/// Whole or not at all, and for everybody to read: nothing here is secret.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), PublisherError> {
    let steps = || {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
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
