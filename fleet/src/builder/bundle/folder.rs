//! A bundle as a folder: `manifest.json` beside the files that it names.
//!
//! Written beside its place and renamed at the end, so a folder that is there is complete. Read only with every digest
//! checked.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use muster_protocol::ids::Digest;
use muster_protocol::manifest::{BundleFile, Manifest, ManifestError};
use serde::Serialize;

pub const MANIFEST_FILE: &str = "manifest.json";

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{path} is there already; choose another folder or remove it")]
    Occupied { path: String },
    #[error("{path} could not be {what}")]
    Io {
        what: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} could not be written as JSON")]
    Json {
        path: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("{path} is no bundle manifest")]
    Manifest {
        path: String,
        #[source]
        source: ManifestError,
    },
    #[error("{path} is not the file that the manifest names: {what}; build the bundle again")]
    Altered { path: String, what: String },
    #[error("{path} has no variant")]
    NoVariant { path: String },
}

/// A bundle that was read and whose files are what they should be.
#[derive(Debug)]
pub struct BundleFolder {
    pub path: PathBuf,
    pub manifest: Manifest,
    pub manifest_bytes: Vec<u8>,
    pub sha256: Digest,
}

impl FolderError {
    pub(super) fn json(path: &str) -> impl FnOnce(serde_json::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Json { path, source }
    }
}

impl BundleFolder {
    /// Opens a folder, or the folder of a `manifest.json`.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let path = super::bundle_folder(path);
        let manifest_path = path.join(MANIFEST_FILE);
        let manifest_bytes = std::fs::read(&manifest_path).map_err(io("read", &manifest_path))?;
        let manifest = Manifest::parse(&manifest_bytes)
            .map_err(|source| FolderError::Manifest { path: shown(&manifest_path), source })?;
        for file in &manifest.files {
            check(&path.join(&file.path), file)?;
        }
        if manifest.variants.is_empty() {
            return Err(FolderError::NoVariant { path: shown(&manifest_path) });
        }
        let sha256 = Digest::of(&manifest_bytes);
        Ok(Self { path, manifest, manifest_bytes, sha256 })
    }

    /// The file of the variant with the most digits, which is what figures are about.
    pub fn model_path(&self) -> PathBuf {
        let best = self.manifest.variants.iter().min_by_key(|variant| (variant.precision, variant.rank));
        self.path.join(best.map_or("", |variant| variant.file.as_str()))
    }
}

/// Collects a bundle's files beside the place where it will stand.
pub(super) struct Writer {
    target: PathBuf,
    partial: tempfile::TempDir,
    files: Vec<BundleFile>,
}

impl Writer {
    pub(super) fn create(target: &Path) -> Result<Self, FolderError> {
        let occupied =
            std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some()) || target.is_file();
        if occupied {
            return Err(FolderError::Occupied { path: shown(target) });
        }
        let parent =
            target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(io("made", parent))?;
        let partial =
            tempfile::Builder::new().prefix(".bundle-").tempdir_in(parent).map_err(io("written", parent))?;
        Ok(Self { target: target.to_owned(), partial, files: Vec::new() })
    }

    /// Takes a file in; the place where it lies until the folder is finished.
    pub(super) fn copy(&mut self, name: &str, from: &Path) -> Result<PathBuf, FolderError> {
        let bytes = std::fs::read(from).map_err(io("read", from))?;
        self.write(name, &bytes)?;
        Ok(self.partial.path().join(name))
    }

    pub(super) fn json(&mut self, name: &str, value: &impl Serialize) -> Result<(), FolderError> {
        let bytes = json_bytes(name, value)?;
        self.write(name, &bytes)
    }

    /// What was written so far, as a manifest lists it.
    pub(super) fn files(&self) -> Vec<BundleFile> {
        let mut files = self.files.clone();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }

    /// Writes the manifest and puts the folder into its place.
    pub(super) fn finish(mut self, manifest: &Manifest) -> Result<Digest, FolderError> {
        let bytes = json_bytes(MANIFEST_FILE, manifest)?;
        self.write(MANIFEST_FILE, &bytes)?;
        if self.target.is_dir() {
            // It was empty when we began, or this fails.
            std::fs::remove_dir(&self.target).map_err(io("replaced", &self.target))?;
        }
        let partial = self.partial.keep();
        std::fs::rename(&partial, &self.target).map_err(io("put into its place", &self.target))?;
        open_for_all(&self.target);
        Ok(Digest::of(&bytes))
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let path = self.partial.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io("made", parent))?;
        }
        let mut file = File::create_new(&path).map_err(io("written", &path))?;
        file.write_all(bytes).map_err(io("written", &path))?;
        file.sync_all().map_err(io("written", &path))?;
        let length = bytes.len() as u64;
        self.files.push(BundleFile { path: name.to_owned(), length, sha256: Digest::of(bytes) });
        Ok(())
    }
}

/// Temporary folders are private; a bundle is no secret.
fn open_for_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).ok();
}

fn json_bytes(name: &str, value: &impl Serialize) -> Result<Vec<u8>, FolderError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|source| FolderError::Json { path: name.to_owned(), source })?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn check(path: &Path, expect: &BundleFile) -> Result<(), FolderError> {
    use sha2::Digest as _;
    let altered = |what: String| FolderError::Altered { path: shown(path), what };
    let mut file = File::open(path).map_err(io("read", path))?;
    let length = file.metadata().map_err(io("read", path))?.len();
    if length != expect.length {
        return Err(altered(format!("it has {length} bytes, not {}", expect.length)));
    }
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer).map_err(io("read", path))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    let found = Digest::from_bytes(hash.finalize().into());
    if found == expect.sha256 {
        Ok(())
    } else {
        Err(altered(format!("its SHA-256 is {}…, not {}…", found.short(), expect.sha256.short())))
    }
}

fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> FolderError + 'a {
    move |source| FolderError::Io { what, path: shown(path), source }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(files: Vec<BundleFile>) -> Manifest {
        let json = include_str!("../../../../protocol/tests/wire/manifest.json");
        let mut manifest: Manifest = serde_json::from_str(json).unwrap();
        manifest.files = files;
        manifest
    }

    fn written(folder: &Path) -> Digest {
        let mut writer = Writer::create(folder).unwrap();
        for name in ["model.onnx", "golden/request.json", "golden/response.json", "reference.json"] {
            writer.write(name, name.as_bytes()).unwrap();
        }
        let manifest = manifest(writer.files());
        writer.finish(&manifest).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("bundle");
        let digest = written(&folder);
        let read = BundleFolder::open(&folder.join(MANIFEST_FILE)).unwrap();
        assert_eq!((read.sha256, read.model_path()), (digest, folder.join("model.onnx")));
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_flipped_byte_and_a_missing_file_are_found() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("bundle");
        written(&folder);
        std::fs::write(folder.join("model.onnx"), "model.onnX").unwrap();
        assert!(matches!(BundleFolder::open(&folder), Err(FolderError::Altered { .. })));
        std::fs::remove_file(folder.join("model.onnx")).unwrap();
        assert!(matches!(BundleFolder::open(&folder), Err(FolderError::Io { .. })));
    }

    #[test]
    fn a_full_folder_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::write(parent.path().join("precious"), "x").unwrap();
        assert!(matches!(Writer::create(parent.path()), Err(FolderError::Occupied { .. })));
    }
}
