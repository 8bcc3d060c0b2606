//! Key files: short text, made with mode 0600, wiped from memory after reading.
//!
//! ```text
//!   muster-key 1
//!   role targets            what it is meant for: a reminder, never a permission
//!   public d75a…
//!   secret 9d61…
//! ```

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use muster_protocol::trust::{KeyError, PublicKey, SecretKey, Sign as _};
use zeroize::{Zeroize as _, Zeroizing};

const FIRST_LINE: &str = "muster-key 1";
const FILE_BYTES_MAX: u64 = 4096;

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
    #[error("{} is not a key file: {reason}", path.display())]
    Format { path: PathBuf, reason: &'static str },
    #[error("{} holds no usable public key", path.display())]
    Public {
        path: PathBuf,
        #[source]
        source: KeyError,
    },
    #[error("'{0}' is neither a public key nor a file with one")]
    Unknown(String),
    #[error("the operating system gave no randomness: {0}")]
    Random(String),
}

/// Makes a new key: the private file at `path`, the public one beside it with the ending `.pub`.
pub fn create(path: &Path, role: &str) -> Result<PublicKey, KeyFileError> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|error| KeyFileError::Random(error.to_string()))?;
    let secret = SecretKey::from_seed(*seed);
    let public = secret.key();
    // As long as it gets, so that no copy of the secret stays behind in memory given back.
    let mut text = Zeroizing::new(String::with_capacity(512));
    let role: String = role.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
    text.push_str(FIRST_LINE);
    for part in ["\nrole ", &role, "\npublic ", &public.to_string(), "\nsecret "] {
        text.push_str(part);
    }
    let mut digits = [0_u8; 64];
    if hex::encode_to_slice(seed.as_slice(), &mut digits).is_ok() {
        text.extend(digits.iter().map(|&digit| char::from(digit)));
    }
    digits.zeroize();
    text.push('\n');
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|source| KeyFileError::Write { path: path.to_owned(), source })?;
    }
    write_new(path, 0o600, text.as_bytes())?;
    write_new(&path.with_extension("pub"), 0o644, format!("{public}\n").as_bytes())?;
    Ok(public)
}

pub fn load(path: &Path) -> Result<SecretKey, KeyFileError> {
    let text = read(path)?;
    let wrong = |reason| KeyFileError::Format { path: path.to_owned(), reason };
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err(wrong("its first line is not 'muster-key 1'"));
    }
    let mut field = |name: &str| {
        lines.next().and_then(|line| line.split_once(' ')).filter(|(n, _)| *n == name).map(|(_, value)| value)
    };
    field("role").ok_or_else(|| wrong("the line 'role' is missing"))?;
    let public: PublicKey = field("public")
        .ok_or_else(|| wrong("the line 'public' is missing"))?
        .parse()
        .map_err(|source| KeyFileError::Public { path: path.to_owned(), source })?;
    let digits = field("secret").ok_or_else(|| wrong("the line 'secret' is missing"))?;
    let mut seed = Zeroizing::new([0_u8; 32]);
    hex::decode_to_slice(digits, seed.as_mut_slice())
        .map_err(|_| wrong("the secret is not 64 hexadecimal digits"))?;
    let secret = SecretKey::from_seed(*seed);
    if secret.key() == public { Ok(secret) } else { Err(wrong("its two halves do not belong together")) }
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
    let text = read(path)?;
    if text.starts_with(FIRST_LINE) {
        return load(path).map(|secret| secret.key());
    }
    text.trim().parse().map_err(|source| KeyFileError::Public { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let wrong = |source| KeyFileError::Read { path: path.to_owned(), source };
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(FILE_BYTES_MAX).unwrap_or(4096)));
    File::open(path).map_err(wrong)?.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(wrong)?;
    Ok(text)
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), KeyFileError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| KeyFileError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_are_made_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/release.key");
        let public = create(&path, "targets").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load(&path).unwrap().key(), public);
        for text in
            [public.to_string(), path.display().to_string(), path.with_extension("pub").display().to_string()]
        {
            assert_eq!(load_public(&text).unwrap(), public);
        }
        assert!(matches!(create(&path, "targets"), Err(KeyFileError::Write { .. })), "a key was overwritten");
        assert_ne!(create(&dir.path().join("other.key"), "root").unwrap(), public);
    }

    #[test]
    fn bad_key_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        create(&path, "root").unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        let check = |text: &str| {
            std::fs::write(&path, text).unwrap();
            assert!(load(&path).is_err(), "{text}");
        };
        check("");
        check(&good.replace("muster-key 1", "muster-key 2"));
        check(&good.replace("secret ", "secret 00"));
        check(&good.lines().take(3).collect::<Vec<_>>().join("\n"));
        let other = SecretKey::from_seed([1; 32]).key();
        check(&format!("{FIRST_LINE}\nrole x\npublic {other}\nsecret {}\n", "02".repeat(32)));
        assert!(matches!(load_public("no-such-file"), Err(KeyFileError::Unknown(_))));
    }
}
