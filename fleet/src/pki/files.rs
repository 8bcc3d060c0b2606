//! Files of the authority: replaced at once, and private keys made private from the first byte.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::PkiError;

const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
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
    open(path)?.map(|file| text(path, file)).transpose()
}

/// Reads a private key; refuses one that others could have read, too.
pub(super) fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, PkiError> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mode = file.metadata().map_err(|source| PkiError::Read { path: path.to_owned(), source })?;
    if mode.permissions().mode() & 0o077 != 0 {
        return Err(PkiError::Exposed { path: path.to_owned() });
    }
    text(path, file).map(|text| Some(Zeroizing::new(text)))
}

fn open(path: &Path) -> Result<Option<File>, PkiError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::Read { path: path.to_owned(), source }),
    }
}

fn text(path: &Path, file: File) -> Result<String, PkiError> {
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|source| PkiError::Read { path: path.to_owned(), source })?;
    Ok(text)
}

fn replace(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let failed = |source| PkiError::Write { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = path.with_added_extension("new");
    // One left over by a crash may have another mode.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(failed)
}
