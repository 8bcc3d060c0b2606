//! Files of the authority: replaced at once, and private keys made private from the first byte.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::PkiError;

const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Longest private key.
const KEY_BYTES_MAX: usize = 16 * 1024;
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;
const PROGRAM: u32 = 0o755;

/// Writes what everybody may read.
pub fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    replace(path, text, PUBLIC)
}

/// Writes what everybody may run.
pub fn write_program(path: &Path, text: &str) -> Result<(), PkiError> {
    replace(path, text, PROGRAM)
}

/// Writes a private key.
pub fn write_private(path: &Path, text: &str) -> Result<(), PkiError> {
    replace(path, text, PRIVATE)
}

/// `None` if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|source| unread(path, source))?;
    Ok(Some(text))
}

/// Reads a private key; refuses one that others could have read, too.
pub(super) fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, PkiError> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mode = file.metadata().map_err(|source| unread(path, source))?;
    if mode.permissions().mode() & 0o077 != 0 {
        return Err(PkiError::Exposed { path: path.to_owned() });
    }
    // Room for all of it from the start: a text that grows leaves pieces of the key behind, where nobody wipes them.
    let mut text = Zeroizing::new(String::with_capacity(KEY_BYTES_MAX));
    let bytes = KEY_BYTES_MAX as u64 / 2;
    file.take(bytes).read_to_string(&mut text).map_err(|source| unread(path, source))?;
    Ok(Some(text))
}

/// Whether there is such a file; an answer that cannot be had is none.
pub(super) fn exists(path: &Path) -> Result<bool, PkiError> {
    path.try_exists().map_err(|source| unread(path, source))
}

/// Takes it away if it is there.
pub(super) fn remove(path: &Path) -> Result<(), PkiError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(PkiError::Write { path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn open(path: &Path) -> Result<Option<File>, PkiError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(unread(path, source)),
    }
}

fn unread(path: &Path, source: std::io::Error) -> PkiError {
    PkiError::Read { path: path.to_owned(), source }
}

fn replace(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let failed = |source| PkiError::Write { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = path.with_added_extension("new");
    // One left over by a crash may have another mode.
    remove(&temporary)?;
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_without_growing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one.key");
        for bytes in [0, 240, KEY_BYTES_MAX / 2, KEY_BYTES_MAX, 4 * KEY_BYTES_MAX] {
            write_private(&path, &"k".repeat(bytes)).unwrap();
            let text = read_private(&path).unwrap().unwrap();
            assert_eq!((text.len(), text.capacity()), (bytes.min(KEY_BYTES_MAX / 2), KEY_BYTES_MAX));
        }
    }
}
