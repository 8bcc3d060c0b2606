//! Key files: made with mode 0600, encrypted with a passphrase where a person holds them, wiped from memory after use.
//!
//! ```text
//!   muster-key 2
//!   role targets                          what it is meant for: a reminder, never a permission
//!   public d75a…                          for asking which key this is without its passphrase
//!   -----BEGIN ENCRYPTED PRIVATE KEY-----   PKCS#8: `openssl pkey -in NAME.key` reads the file too
//! ```
//!
//! The lines before the PEM block are a label: what they say is compared with the key once that is unlocked. A PKCS#8
//! file without them, such as `openssl genpkey -algorithm ed25519` writes, is a key file as well, and so is the plain
//! text of the first version of this format, which is never written any more.

mod pem;

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use muster_protocol::trust::{KeyError, PublicKey, SecretKey, Sign as _};
use zeroize::Zeroizing;

use super::passphrase::Passphrase;

const FIRST_LINE: &str = "muster-key 2";
/// Of files that older releases made: the seed in hexadecimal, on a line `secret`.
const FIRST_LINE_V1: &str = "muster-key 1";
const FILE_BYTES_MAX: u64 = 8192;
const ROLE_CHARS_MAX: usize = 64;
/// Bits of a file's mode that let anybody but its owner in.
pub(super) const OTHERS: u32 = 0o077;

#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("cannot read the key file {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot make the key file {}; a key is never overwritten", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "the key file {} may be read by others (mode {mode:o}); if nobody did, close it: chmod 600 {}",
        path.display(), path.display()
    )]
    Open { path: PathBuf, mode: u32 },
    #[error("{} is not a key file: {reason}", path.display())]
    Format { path: PathBuf, reason: &'static str },
    #[error("{} holds no usable public key", path.display())]
    Public {
        path: PathBuf,
        #[source]
        source: KeyError,
    },
    #[error("{} is encrypted: give its passphrase", path.display())]
    Locked { path: PathBuf },
    #[error("the passphrase does not open {}", path.display())]
    Passphrase { path: PathBuf },
    #[error("'{0}' is neither a public key nor a file with one")]
    Unknown(String),
    #[error("{} does not say its public half without its passphrase; name the .pub file instead", path.display())]
    Unlabelled { path: PathBuf },
    #[error("the operating system gave no randomness: {0}")]
    Random(String),
    #[error("the key could not be written as PKCS#8: {0}")]
    Encode(String),
}

/// A private key's file as it lies there; still locked if it is encrypted.
pub struct KeyFile {
    path: PathBuf,
    label: Label,
    secret: Secret,
}

/// What stands before the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Label {
    role: Option<String>,
    public: Option<PublicKey>,
}

enum Secret {
    Open(SecretKey),
    /// The PEM block.
    Encrypted(Zeroizing<String>),
}

/// Makes a new key that only the file's mode protects: for a server, which starts without a person. The private file
/// goes to `path`, the public one beside it with the ending `.pub`.
pub fn create(path: &Path, role: &str) -> Result<PublicKey, KeyFileError> {
    make(path, role, None)
}

/// Makes a new key that is of no use without the passphrase.
pub fn create_encrypted(path: &Path, role: &str, passphrase: &Passphrase) -> Result<PublicKey, KeyFileError> {
    make(path, role, Some(passphrase))
}

/// A key that needs no passphrase.
pub fn load(path: &Path) -> Result<SecretKey, KeyFileError> {
    KeyFile::read(path)?.unlock(None)
}

/// A public key given as 64 digits, as a `.pub` file or as the private file it belongs to.
pub fn load_public(key_or_path: &str) -> Result<PublicKey, KeyFileError> {
    if let Ok(key) = key_or_path.parse() {
        return Ok(key);
    }
    let path = Path::new(key_or_path);
    if !path.exists() {
        return Err(KeyFileError::Unknown(key_or_path.chars().take(200).collect()));
    }
    let (text, mode) = read(path)?;
    if is_private(&text) {
        return KeyFile::parse(path, &text, mode)?.public();
    }
    text.trim().parse().map_err(|source| KeyFileError::Public { path: path.to_owned(), source })
}

/// Puts down a public half by itself, such as one that another key holder sent.
pub fn write_public(path: &Path, key: &PublicKey) -> Result<(), KeyFileError> {
    write_new(path, 0o644, format!("{key}\n").as_bytes())
}

impl KeyFile {
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let (text, mode) = read(path)?;
        Self::parse(path, &text, mode)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn is_encrypted(&self) -> bool {
        matches!(self.secret, Secret::Encrypted(_))
    }

    pub fn role(&self) -> Option<&str> {
        self.label.role.as_deref()
    }

    /// Known without the passphrase if the key is open or labelled.
    pub fn public(&self) -> Result<PublicKey, KeyFileError> {
        match (&self.secret, self.label.public) {
            (Secret::Open(secret), _) => Ok(secret.key()),
            (Secret::Encrypted(_), Some(public)) => Ok(public),
            (Secret::Encrypted(_), None) => Err(KeyFileError::Unlabelled { path: self.path.clone() }),
        }
    }

    /// The passphrase is tried once: whoever guesses must come back each time.
    pub fn unlock(self, passphrase: Option<&Passphrase>) -> Result<SecretKey, KeyFileError> {
        let Self { path, label, secret } = self;
        let secret = match (secret, passphrase) {
            (Secret::Open(secret), _) => secret,
            (Secret::Encrypted(_), None) => return Err(KeyFileError::Locked { path }),
            (Secret::Encrypted(block), Some(passphrase)) => pem::decrypt(&block, passphrase, &path)?,
        };
        match label.public {
            Some(public) if public != secret.key() => {
                Err(KeyFileError::Format { path, reason: "its two halves do not belong together" })
            }
            Some(_) | None => Ok(secret),
        }
    }

    fn parse(path: &Path, text: &str, mode: u32) -> Result<Self, KeyFileError> {
        if mode & OTHERS != 0 {
            return Err(KeyFileError::Open { path: path.to_owned(), mode: mode & 0o777 });
        }
        if text.starts_with(FIRST_LINE_V1) {
            return Self::parse_v1(path, text);
        }
        let begin = text
            .find("-----BEGIN ")
            .ok_or_else(|| wrong(path, "there is no '-----BEGIN … PRIVATE KEY-----' in it"))?;
        let (before, block) = text.split_at(begin);
        let label =
            if before.starts_with(FIRST_LINE) { Label::parse(path, before)? } else { Label::default() };
        let secret = if pem::is_encrypted(block) {
            Secret::Encrypted(Zeroizing::new(block.to_owned()))
        } else {
            Secret::Open(pem::decode(block, path)?)
        };
        Ok(Self { path: path.to_owned(), label, secret })
    }

    fn parse_v1(path: &Path, text: &str) -> Result<Self, KeyFileError> {
        if text.lines().next() != Some(FIRST_LINE_V1) {
            return Err(wrong(path, "its first line is not 'muster-key 1'"));
        }
        let label = Label::parse(path, text)?;
        if label.public.is_none() {
            return Err(wrong(path, "the line 'public' is missing"));
        }
        let digits = field(text, "secret").ok_or_else(|| wrong(path, "the line 'secret' is missing"))?;
        let mut seed = Zeroizing::new([0_u8; 32]);
        hex::decode_to_slice(digits, seed.as_mut_slice())
            .map_err(|_| wrong(path, "the secret is not 64 hexadecimal digits"))?;
        let secret = SecretKey::from_seed(*seed);
        if label.public != Some(secret.key()) {
            return Err(wrong(path, "its two halves do not belong together"));
        }
        Ok(Self { path: path.to_owned(), label, secret: Secret::Open(secret) })
    }
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyFile")
            .field("path", &self.path)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

impl Label {
    fn parse(path: &Path, text: &str) -> Result<Self, KeyFileError> {
        let role = field(text, "role").map(|role| role.chars().take(ROLE_CHARS_MAX).collect());
        let public = field(text, "public")
            .map(str::parse)
            .transpose()
            .map_err(|source| KeyFileError::Public { path: path.to_owned(), source })?;
        Ok(Self { role, public })
    }
}

fn make(path: &Path, role: &str, passphrase: Option<&Passphrase>) -> Result<PublicKey, KeyFileError> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    random(seed.as_mut_slice())?;
    let secret = SecretKey::from_seed(*seed);
    let public = secret.key();
    let block = match passphrase {
        None => pem::encode(&secret)?,
        Some(passphrase) => pem::encrypt(&secret, passphrase)?,
    };
    let role: String =
        role.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(ROLE_CHARS_MAX).collect();
    // As long as it gets, so that no copy of the secret stays behind in memory given back.
    let mut text = Zeroizing::new(String::with_capacity(block.len() + 512));
    for part in [FIRST_LINE, "\nrole ", &role, "\npublic ", &public.to_string(), "\n", &block] {
        text.push_str(part);
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|source| KeyFileError::Write { path: path.to_owned(), source })?;
    }
    let beside = path.with_extension("pub");
    if beside.exists() {
        let source =
            std::io::Error::new(std::io::ErrorKind::AlreadyExists, "its name belongs to another key");
        return Err(KeyFileError::Write { path: beside, source });
    }
    write_new(path, 0o600, text.as_bytes())?;
    write_public(&beside, &public)?;
    Ok(public)
}

fn random(bytes: &mut [u8]) -> Result<(), KeyFileError> {
    getrandom::fill(bytes).map_err(|error| KeyFileError::Random(error.to_string()))
}

fn is_private(text: &str) -> bool {
    text.starts_with("muster-key ") || text.contains("PRIVATE KEY-----")
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line =
        |line: &'a str| line.split_once(' ').filter(|(found, _)| *found == name).map(|(_, value)| value);
    text.lines().find_map(line)
}

fn wrong(path: &Path, reason: &'static str) -> KeyFileError {
    KeyFileError::Format { path: path.to_owned(), reason }
}

/// The file's text and its mode.
fn read(path: &Path) -> Result<(Zeroizing<String>, u32), KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(FILE_BYTES_MAX).unwrap_or(8192)));
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok((text, mode))
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), KeyFileError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    write().map_err(|source| KeyFileError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
