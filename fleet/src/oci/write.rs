//! From a bundle's folder to a layout.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use muster_protocol::ids::Digest;
use muster_protocol::manifest::{Format, Manifest};
use muster_protocol::time::Timestamp;
use serde::Serialize;
use sha2::Digest as _;

use super::words::{self, About, Annotations, Capabilities, Descriptor, FileMetadata, Image, Index, ModelFs};
use super::{DOCUMENT_BYTES_MAX, MANIFEST_FILE, OciError, Package, SIGNATURE_FILE, beside, io, put, tarball};

/// Writes the layout of the bundle in `folder` to a folder that is not there yet, or is empty.
pub fn export(folder: &Path, out: &Path) -> Result<Package, OciError> {
    let staged = beside(out)?;
    let package = lay_out(folder, staged.path())?;
    put(staged, out)?;
    Ok(package)
}

/// The same as one tar file, which must not be there yet.
pub fn export_tar(folder: &Path, out: &Path) -> Result<Package, OciError> {
    let staged = beside(out)?;
    let package = lay_out(folder, staged.path())?;
    tarball::pack(staged.path(), out)?;
    Ok(package)
}

fn lay_out(folder: &Path, root: &Path) -> Result<Package, OciError> {
    let blobs = root.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(io("made", &blobs))?;
    let path = folder.join(MANIFEST_FILE);
    let bytes = std::fs::read(&path).map_err(io("read", &path))?;
    let manifest =
        Manifest::parse(&bytes).map_err(|source| OciError::Manifest { path: path.clone(), source })?;
    let bundle = Digest::of(&bytes);

    let opened: BTreeSet<&str> = manifest
        .variants
        .iter()
        .flat_map(|variant| std::iter::once(&variant.file).chain(&variant.beside))
        .map(String::as_str)
        .collect();
    let mut layers =
        vec![layer(words::WEIGHT_CONFIG, MANIFEST_FILE, (&bundle, bytes.len() as u64), &manifest)?];
    write(&blobs.join(bundle.to_string()), &bytes)?;
    let mut files: Vec<_> = manifest.files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    for file in files {
        copy(&folder.join(&file.path), &blobs.join(file.sha256.to_string()), &file.path, &file.sha256)?;
        let kind = if opened.contains(file.path.as_str()) { words::WEIGHT } else { words::WEIGHT_CONFIG };
        layers.push(layer(kind, &file.path, (&file.sha256, file.length), &manifest)?);
    }
    if let Some(signature) = signature(folder)? {
        let digest = Digest::of(&signature);
        layers.push(layer(words::DOC, SIGNATURE_FILE, (&digest, signature.len() as u64), &manifest)?);
        write(&blobs.join(digest.to_string()), &signature)?;
    }

    let config = document(&blobs, words::CONFIG, &config(&manifest, &bundle, &layers))?;
    let files = layers.len();
    let image = Image {
        schema_version: 2,
        media_type: words::IMAGE.to_owned(),
        artifact_type: words::ARTIFACT.to_owned(),
        config,
        layers,
        annotations: annotations(&manifest, &bundle),
    };
    let mut image = document(&blobs, words::IMAGE, &image)?;
    let digest = image.sha256().unwrap_or(bundle);
    let reference = format!("{}:{}", manifest.model, tag(manifest.version.as_str()));
    image.artifact_type = Some(words::ARTIFACT.to_owned());
    image.annotations.insert(words::REF_NAME.to_owned(), reference.clone());
    let index = Index { schema_version: 2, media_type: words::INDEX.to_owned(), manifests: vec![image] };
    write(&root.join("index.json"), &json(&index)?)?;
    let layout = words::Layout { image_layout_version: words::LAYOUT_VERSION.to_owned() };
    write(&root.join("oci-layout"), &json(&layout)?)?;
    Ok(Package { reference, image: digest, bundle, files })
}

/// Registries' tags know no '+'.
fn tag(version: &str) -> String {
    version.replace('+', "_")
}

fn layer(
    media_type: &str,
    name: &str,
    (digest, size): (&Digest, u64),
    manifest: &Manifest,
) -> Result<Descriptor, OciError> {
    let metadata =
        FileMetadata { name, mode: 0o644, uid: 0, gid: 0, size, mtime: manifest.created, typeflag: b'0' };
    let metadata = serde_json::to_string(&metadata).map_err(OciError::Json)?;
    let mut layer = Descriptor::of(media_type, digest, size);
    layer.annotations.insert(words::FILE_PATH.to_owned(), name.to_owned());
    layer.annotations.insert(words::FILE_METADATA.to_owned(), metadata);
    Ok(layer)
}

fn config(manifest: &Manifest, bundle: &Digest, layers: &[Descriptor]) -> words::Config {
    // What the package says of itself is what its first choice is; the bundle's manifest has them all.
    let first = manifest.variants.iter().max_by_key(|variant| variant.rank);
    let format = first.map_or("", |variant| match variant.format {
        Format::Onnx => "onnx",
        Format::OpenvinoIr => "openvino_ir",
    });
    words::Config {
        descriptor: About {
            created_at: manifest.created,
            name: manifest.model.to_string(),
            version: manifest.version.to_string(),
            revision: format!("sha256:{bundle}"),
            licenses: manifest.licences.clone(),
            description: manifest.description.clone(),
        },
        modelfs: ModelFs {
            r#type: "layers",
            diff_ids: layers.iter().map(|layer| layer.digest.clone()).collect(),
        },
        config: words::Model {
            format,
            precision: first.map_or("", |variant| variant.precision.as_str()),
            // Rows and columns: neither text nor image nor sound.
            capabilities: Capabilities { input_types: ["other"], output_types: ["other"] },
        },
    }
}

fn annotations(manifest: &Manifest, bundle: &Digest) -> Annotations {
    let created: Timestamp = manifest.created;
    let mut annotations = Annotations::from([
        (words::CREATED.to_owned(), created.to_string()),
        (words::TITLE.to_owned(), manifest.model.to_string()),
        (words::VERSION.to_owned(), manifest.version.to_string()),
        (words::BUNDLE.to_owned(), bundle.to_string()),
    ]);
    if !manifest.licences.is_empty() {
        annotations.insert(words::LICENCES.to_owned(), manifest.licences.join(" AND "));
    }
    annotations
}

fn signature(folder: &Path) -> Result<Option<Vec<u8>>, OciError> {
    let path = folder.join(SIGNATURE_FILE);
    match std::fs::metadata(&path) {
        Ok(found) if found.len() > DOCUMENT_BYTES_MAX => {
            Err(OciError::Refused(format!("{} is longer than a signature is", path.display())))
        }
        Ok(_) => std::fs::read(&path).map(Some).map_err(io("read", &path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("read", &path)(error)),
    }
}

/// Writes a document as a blob and says what it is.
fn document(blobs: &Path, media_type: &str, value: &impl Serialize) -> Result<Descriptor, OciError> {
    let bytes = json(value)?;
    let digest = Digest::of(&bytes);
    write(&blobs.join(digest.to_string()), &bytes)?;
    Ok(Descriptor::of(media_type, &digest, bytes.len() as u64))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, OciError> {
    serde_json::to_vec(value).map_err(OciError::Json)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), OciError> {
    let mut file = File::create(path).map_err(io("written", path))?;
    file.write_all(bytes).map_err(io("written", path))?;
    file.sync_all().map_err(io("written", path))
}

/// Copies and hashes in one go: what was checked is what was written. Files of the same content are one blob.
pub(super) fn copy(from: &Path, to: &Path, what: &str, expect: &Digest) -> Result<(), OciError> {
    let mut source = File::open(from).map_err(io("read", from))?;
    let mut target = File::create(to).map_err(io("written", to))?;
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = source.read(&mut buffer).map_err(io("read", from))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hash.update(bytes);
        target.write_all(bytes).map_err(io("written", to))?;
    }
    target.sync_all().map_err(io("written", to))?;
    let found = Digest::from_bytes(hash.finalize().into());
    if found != *expect {
        let (found, expect) = (found.short().clone(), expect.short().clone());
        return Err(OciError::Altered { what: what.to_owned(), found, expect });
    }
    Ok(())
}
