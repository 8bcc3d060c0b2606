//! A bundle as an OCI image layout of the CNCF `ModelPack` specification, so that any registry keeps it and any tool of that
//! world shows it; and back again, byte for byte.
//!
//! ```text
//!   bundle folder ── export ──▶ oci-layout, index.json, blobs/sha256/… ── oras, skopeo ──▶ any registry
//!                 ◀─ import ──  every blob against its digest, then every file against the bundle's manifest
//! ```
//! One layer a file, as it is, so that a layer's digest is the file's digest in our manifest and nothing is stored twice.
//! The same bundle gives the same bytes everywhere: all times are the bundle's own, all lists are sorted.
//!
//! A package is a way of carrying, never a reason for a box to run anything: that is said by the signed catalogue alone.

mod read;
mod tarball;
mod words;
mod write;

use std::path::{Path, PathBuf};

use muster_protocol::ids::Digest;
use muster_protocol::manifest::ManifestError;

pub use read::{import, import_tar};
pub use write::{export, export_tar};

/// The bundle's own manifest within it.
const MANIFEST_FILE: &str = "manifest.json";
/// The OpenSSF Model Signing signature, where one lies beside the bundle's files.
const SIGNATURE_FILE: &str = crate::oms::SIGNATURE_FILE;
/// Longest signature, index, image manifest or configuration that is read.
const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum OciError {
    #[error("{} is there already; choose another place or remove it", path.display())]
    Occupied { path: PathBuf },
    #[error("{} could not be {what}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is no bundle manifest", path.display())]
    Manifest {
        path: PathBuf,
        #[source]
        source: ManifestError,
    },
    #[error("a document of the layout could not be written")]
    Json(#[source] serde_json::Error),
    #[error("{what} is not JSON of the expected shape")]
    Shape {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the layout is refused: {0}")]
    Refused(String),
    #[error("{what} is not what its digest says: its SHA-256 is {found}…, not {expect}…")]
    Altered { what: String, found: String, expect: String },
}

/// What was written or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// `model:version`, as registries name it.
    pub reference: String,
    /// Of the image manifest: what a registry calls the package by.
    pub image: Digest,
    /// Of the bundle's manifest: what Muster calls it by.
    pub bundle: Digest,
    pub files: usize,
}

fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> OciError + 'a {
    move |source| OciError::Io { what, path: path.to_owned(), source }
}

/// A private folder beside a place that must be free, to be put there when it is complete.
fn beside(target: &Path) -> Result<tempfile::TempDir, OciError> {
    let is_full = std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some());
    if is_full || target.is_file() {
        return Err(OciError::Occupied { path: target.to_owned() });
    }
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(io("made", parent))?;
    tempfile::Builder::new().prefix(".oci-").tempdir_in(parent).map_err(io("written", parent))
}

fn put(staged: tempfile::TempDir, target: &Path) -> Result<(), OciError> {
    use std::os::unix::fs::PermissionsExt as _;
    if target.is_dir() {
        // It was empty when we began, or this fails.
        std::fs::remove_dir(target).map_err(io("replaced", target))?;
    }
    let staged = staged.keep();
    std::fs::rename(&staged, target).map_err(io("put into its place", target))?;
    // Temporary folders are private; a bundle is no secret.
    std::fs::set_permissions(target, std::fs::Permissions::from_mode(0o755)).map_err(io("opened", target))
}
