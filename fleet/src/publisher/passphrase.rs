//! A passphrase in memory: wiped when dropped, never shown.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::keys::OTHERS;

/// Shorter ones are guessed by machines whatever the key file does against it.
pub const CHARS_MIN: usize = 8;
const BYTES_MAX: u64 = 1024;

pub struct Passphrase(Zeroizing<String>);

#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    #[error("cannot read the passphrase file {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the passphrase file {} may be read by others (mode {mode:o}): chmod 600 {}", path.display(), path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("the passphrase has fewer than {CHARS_MIN} characters; take several words")]
    Short,
    #[error("the passphrase is longer than {BYTES_MAX} bytes")]
    Long,
}

impl Passphrase {
    /// One that shall protect something new.
    pub fn new(text: Zeroizing<String>) -> Result<Self, PassphraseError> {
        if text.chars().count() < CHARS_MIN {
            return Err(PassphraseError::Short);
        }
        Self::given(text)
    }

    /// One that opens something that exists.
    pub fn given(text: Zeroizing<String>) -> Result<Self, PassphraseError> {
        if text.len() as u64 > BYTES_MAX { Err(PassphraseError::Long) } else { Ok(Self(text)) }
    }

    /// The first line of a file that nobody else may read; pipes are taken as they come.
    pub fn read(path: &Path) -> Result<Zeroizing<String>, PassphraseError> {
        let failed = |source| PassphraseError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mode = metadata.permissions().mode();
        if metadata.is_file() && mode & OTHERS != 0 {
            return Err(PassphraseError::Open { path: path.to_owned(), mode: mode & 0o777 });
        }
        let mut text = Zeroizing::new(String::with_capacity(2048));
        file.take(BYTES_MAX + 2).read_to_string(&mut text).map_err(failed)?;
        let line = text.lines().next().unwrap_or_default();
        Ok(Zeroizing::new(line.to_owned()))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase")
    }
}
