//! From a layout to a bundle's folder. Whoever carried it is not trusted: every document and file is held against the
//! digest that names it, and the whole against the bundle's own manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use muster_protocol::ids::Digest;
use muster_protocol::limits::{BUNDLE_BYTES_MAX, BUNDLE_FILES_MAX};
use muster_protocol::manifest::Manifest;
use serde::de::DeserializeOwned;

use super::words::{self, Descriptor, Image, Index, Layout};
use super::write::copy;
use super::{DOCUMENT_BYTES_MAX, MANIFEST_FILE, OciError, Package, SIGNATURE_FILE, beside, io, put, tarball};

/// Reads the bundle of a layout into a folder that is not there yet, or is empty.
pub fn import(layout: &Path, out: &Path) -> Result<Package, OciError> {
    let staged = beside(out)?;
    let package = bring_back(layout, staged.path())?;
    put(staged, out)?;
    Ok(package)
}

/// The same out of one tar file.
pub fn import_tar(tar: &Path, out: &Path) -> Result<Package, OciError> {
    let layout = beside(out)?;
    tarball::unpack(tar, layout.path())?;
    import(layout.path(), out)
}

fn bring_back(layout: &Path, out: &Path) -> Result<Package, OciError> {
    let version: Layout = file(&layout.join("oci-layout"), "oci-layout")?;
    if version.image_layout_version != words::LAYOUT_VERSION {
        return Err(refused(format!("its version is {:?}", version.image_layout_version)));
    }
    let index: Index = file(&layout.join("index.json"), "index.json")?;
    let described = only(&index)?;
    let image: Image = document(layout, described, words::IMAGE)?;
    if image.artifact_type != words::ARTIFACT || image.config.media_type != words::CONFIG {
        return Err(refused(format!("{:?} is no model of ModelPack", image.artifact_type)));
    }
    // Its figures are ours, taken from the manifest; only its digest is held against it.
    checked(layout, &image.config)?;
    let layers = layers(&image)?;
    let Some(manifest) = layers.get(MANIFEST_FILE) else {
        return Err(refused(format!("it has no {MANIFEST_FILE}: Muster did not make it")));
    };
    let (manifest, bundle) = (read_manifest(layout, manifest)?, digest(manifest)?);
    for file in &manifest.files {
        let layer = layers.get(file.path.as_str());
        let Some(layer) = layer.filter(|layer| digest(layer).is_ok_and(|found| found == file.sha256)) else {
            return Err(refused(format!("the bundle's {} is not among its layers", file.path)));
        };
        place(layout, layer, out, &file.path)?;
    }
    // What is neither the bundle's nor its signature has no business in a bundle's folder.
    let known = |path: &str| path == MANIFEST_FILE || path == SIGNATURE_FILE || manifest.file(path).is_some();
    if let Some(stranger) = layers.keys().find(|path| !known(path)) {
        return Err(refused(format!("the layer {stranger:?} is none of the bundle's files")));
    }
    for name in [MANIFEST_FILE, SIGNATURE_FILE] {
        if let Some(layer) = layers.get(name) {
            if layer.size > DOCUMENT_BYTES_MAX {
                return Err(refused(format!("{name} is too long")));
            }
            place(layout, layer, out, name)?;
        }
    }
    let reference = described.annotations.get(words::REF_NAME).cloned().unwrap_or_default();
    Ok(Package { reference, image: digest(described)?, bundle, files: layers.len() })
}

fn only(index: &Index) -> Result<&Descriptor, OciError> {
    match index.manifests.as_slice() {
        [one] => Ok(one),
        several => Err(refused(format!("it holds {} packages, not one", several.len()))),
    }
}

fn layers(image: &Image) -> Result<BTreeMap<&str, &Descriptor>, OciError> {
    if image.layers.len() > BUNDLE_FILES_MAX + 2 {
        return Err(refused(format!("it has {} layers", image.layers.len())));
    }
    let mut total = 0_u64;
    let mut layers = BTreeMap::new();
    for layer in &image.layers {
        total = total.saturating_add(layer.size);
        let Some(path) = layer.annotations.get(words::FILE_PATH) else {
            return Err(refused(format!("the layer {} has no path", layer.digest)));
        };
        if layers.insert(path.as_str(), layer).is_some() {
            return Err(refused(format!("two layers are called {path:?}")));
        }
    }
    if total > BUNDLE_BYTES_MAX {
        return Err(refused(format!("its layers are {total} bytes long")));
    }
    Ok(layers)
}

fn read_manifest(layout: &Path, layer: &Descriptor) -> Result<Manifest, OciError> {
    let bytes = checked(layout, layer)?;
    // Parsing refuses paths that leave the folder, so that no name of a layer ever does.
    Manifest::parse(&bytes)
        .map_err(|source| OciError::Manifest { path: PathBuf::from(MANIFEST_FILE), source })
}

fn place(layout: &Path, layer: &Descriptor, out: &Path, name: &str) -> Result<(), OciError> {
    let digest = digest(layer)?;
    let (from, to) = (blob(layout, &digest), out.join(name));
    has_length(&from, layer, name)?;
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(io("made", parent))?;
    }
    copy(&from, &to, name, &digest)
}

fn document<T: DeserializeOwned>(
    layout: &Path,
    described: &Descriptor,
    media_type: &str,
) -> Result<T, OciError> {
    if described.media_type != media_type {
        return Err(refused(format!("{} is {:?}", described.digest, described.media_type)));
    }
    let bytes = checked(layout, described)?;
    serde_json::from_slice(&bytes)
        .map_err(|source| OciError::Shape { what: described.digest.clone(), source })
}

/// A small blob, after its length and its digest were held against what is said of it.
fn checked(layout: &Path, described: &Descriptor) -> Result<Vec<u8>, OciError> {
    let expect = digest(described)?;
    let path = blob(layout, &expect);
    if described.size > DOCUMENT_BYTES_MAX {
        return Err(refused(format!("{} is too long", described.digest)));
    }
    has_length(&path, described, &described.digest)?;
    let bytes = std::fs::read(&path).map_err(io("read", &path))?;
    let found = Digest::of(&bytes);
    if found != expect {
        let (found, expect) = (found.short().clone(), expect.short().clone());
        return Err(OciError::Altered { what: described.digest.clone(), found, expect });
    }
    Ok(bytes)
}

fn has_length(path: &Path, described: &Descriptor, what: &str) -> Result<(), OciError> {
    let length = std::fs::metadata(path).map_err(io("read", path))?.len();
    if length == described.size {
        return Ok(());
    }
    Err(refused(format!("{what} is {length} bytes long, not {}", described.size)))
}

fn file<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T, OciError> {
    let length = std::fs::metadata(path).map_err(io("read", path))?.len();
    if length > DOCUMENT_BYTES_MAX {
        return Err(refused(format!("{what} is too long")));
    }
    let bytes = std::fs::read(path).map_err(io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| OciError::Shape { what: what.to_owned(), source })
}

fn digest(described: &Descriptor) -> Result<Digest, OciError> {
    described.sha256().ok_or_else(|| refused(format!("{:?} is no SHA-256", described.digest)))
}

fn blob(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs/sha256").join(digest.to_string())
}

fn refused(why: String) -> OciError {
    OciError::Refused(why)
}
