//! OpenSSF Model Signing 1.0 with keys: the signature that data-science teams put on a model's folder, and that auditors
//! check with `model_signing verify key`.
//!
//! ```text
//!   data-science team ── model_signing sign key ──▶ folder + model.sig ── muster bundle build|add --oms-key ──▶ bundle
//!   bundle ── muster bundle oms sign ──▶ model.sig ── model_signing verify key ──▶ auditor
//! ```
//!
//! It is a gate at the door and a receipt on the way out, never a reason for a box to run anything: there is one key, no
//! threshold, no version, no expiry, no revocation. What runs is said by the catalogue alone.
//!
//! We are stricter than the specification where it lets a signer leave things out: every file of the folder must be
//! signed, whatever the signature says is to be ignored. Only what belongs to git and the signature itself are passed
//! over, and neither can get into a bundle from here. A name that is ignored and not there harms nobody.

mod folder;
mod key;
mod statement;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use muster_protocol::ids::Digest;

pub use folder::FolderError;
pub use key::{KeyError, SigningKey, VerifyKey};
pub use statement::{SIGNATURE_BYTES_MAX, StatementError};

use statement::{SignatureFile, Statement};

/// What the signature is called where nobody says otherwise.
pub const SIGNATURE_FILE: &str = "model.sig";

#[derive(Debug, thiserror::Error)]
pub enum OmsError {
    #[error("the signature {} could not be {what}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the signature {} is longer than the {SIGNATURE_BYTES_MAX} bytes allowed", path.display())]
    TooLong { path: PathBuf },
    #[error("the signature {} was refused", path.display())]
    Statement {
        path: PathBuf,
        #[source]
        source: StatementError,
    },
    #[error("the model's folder was refused")]
    Folder(#[from] FolderError),
    #[error("signing failed")]
    Key(#[from] KeyError),
    #[error(
        "{name:?} is in the folder but not in the signature; remove it, or let its owner sign the folder again"
    )]
    NotSigned { name: String },
    #[error(
        "{name:?} is in the folder, and the signer told verifiers to ignore it; remove it, or let its owner sign the folder again with it"
    )]
    Ignored { name: String },
    #[error("{name:?} was signed and is missing")]
    Missing { name: String },
    #[error("{name:?} is not the file that was signed: its SHA-256 is {found}…, not {signed}…")]
    Altered { name: String, found: String, signed: String },
}

/// A folder that is, file for file, what the holder of the key signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What the signer calls the model; informational.
    pub name: String,
    pub files: BTreeMap<String, Digest>,
}

/// Signs every file of `folder` and writes the signature to `out`, which is replaced if it is there.
pub fn sign(folder: &Path, out: &Path, key: &SigningKey) -> Result<Verified, OmsError> {
    let files = folder::hashed(folder, out)?;
    let name = folder::name_of(folder)?;
    let statement = Statement::new(name, files, folder::inside(folder, out));
    let payload = statement.to_payload();
    let signature = key.sign(&statement::signed_bytes(&payload))?;
    let bytes = SignatureFile::new(payload, signature, Some(key.public().hint())).to_bytes();
    write(out, &bytes)?;
    Ok(Verified { name: statement.name, files: statement.files })
}

/// Refuses the folder unless `key` signed exactly what is in it.
pub fn verify(folder: &Path, signature: &Path, key: &VerifyKey) -> Result<Verified, OmsError> {
    let statement = read(signature, key)?;
    let found = folder::hashed(folder, signature)?;
    agree(statement, &found)
}

/// Copies the folder to `copy` and refuses it unless `key` signed exactly what was copied: what is read from there
/// afterwards is what was verified, whoever else can write to `folder`.
pub fn verify_copy(
    folder: &Path,
    signature: &Path,
    key: &VerifyKey,
    copy: &Path,
) -> Result<Verified, OmsError> {
    let statement = read(signature, key)?;
    let found = folder::copied(folder, signature, copy)?;
    agree(statement, &found)
}

fn agree(statement: Statement, found: &BTreeMap<String, Digest>) -> Result<Verified, OmsError> {
    for (name, sha256) in found {
        match statement.files.get(name) {
            Some(signed) if signed == sha256 => {}
            Some(signed) => {
                let (name, found, signed) = (name.clone(), sha256.short(), signed.short());
                return Err(OmsError::Altered { name, found, signed });
            }
            None if statement.ignores(name) => return Err(OmsError::Ignored { name: name.clone() }),
            None => return Err(OmsError::NotSigned { name: name.clone() }),
        }
    }
    match statement.files.keys().find(|name| !found.contains_key(*name)) {
        Some(name) => Err(OmsError::Missing { name: name.clone() }),
        None => Ok(Verified { name: statement.name, files: statement.files }),
    }
}

/// The statement, if `key` signed it.
fn read(path: &Path, key: &VerifyKey) -> Result<Statement, OmsError> {
    let io = |source| OmsError::Io { what: "read", path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(SIGNATURE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > SIGNATURE_BYTES_MAX {
        return Err(OmsError::TooLong { path: path.to_owned() });
    }
    SignatureFile::parse(&bytes)
        .and_then(|file| file.open(&key.hint(), |message, signature| key.verifies(message, signature)))
        .map_err(|source| OmsError::Statement { path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), OmsError> {
    let io = |source| OmsError::Io { what: "written", path: path.to_owned(), source };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".model-sig-").tempfile_in(parent).map_err(io)?;
    std::io::Write::write_all(&mut file, bytes).map_err(io)?;
    // A signature is no secret, and a temporary file is one.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(open).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(io)
}

#[cfg(test)]
mod tests;
