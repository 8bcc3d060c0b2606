//! One newly listed bundle: is all of it here, whole and readable?

use muster_protocol::ids::Digest;
use muster_protocol::limits::MANIFEST_BYTES_MAX;
use muster_protocol::manifest::{BundleFile, Manifest, ReferenceFile};
use muster_protocol::trust::Target;

use super::fault::{Faults, chain};
use crate::blob::{BlobError, Blobs};
use crate::store::bundles::NewBundle;

/// A drift reference takes about 2 kB a stream.
const REFERENCE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Reads every byte of the bundle. `None` if there were faults.
pub(super) async fn verify(
    blobs: &Blobs,
    target: &Target,
    faults: &mut Faults,
) -> Result<Option<NewBundle>, BlobError> {
    let path = &target.path;
    if !whole(blobs, target.sha256, target.length, &format!("the manifest of {path}"), faults).await? {
        return Ok(None);
    }
    let bytes = match blobs.read(&target.sha256, MANIFEST_BYTES_MAX).await {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(BlobError::TooLong { max }) => {
            faults.add(
                "manifest_too_long",
                format!("the manifest of {path} is longer than the {max} bytes allowed"),
            );
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let manifest = match Manifest::parse(&bytes) {
        Ok(manifest) => manifest,
        Err(error) => {
            faults.add("manifest_invalid", format!("{path}: {}", chain(&error)));
            return Ok(None);
        }
    };
    let mut good = true;
    if manifest.model != *path.model() || manifest.version != *path.version() {
        let sentence = format!(
            "{path} is catalogued under a name that is not its own: {} {}",
            manifest.model, manifest.version
        );
        faults.add("manifest_name", sentence);
        good = false;
    }
    for file in &manifest.files {
        good &= whole(blobs, file.sha256, file.length, &format!("{} of {path}", file.path), faults).await?;
    }
    if good {
        good = reference(blobs, target, &manifest, faults).await?;
    }
    Ok(good.then(|| NewBundle { path: path.clone(), sha256: target.sha256, manifest, bytes: bytes.to_vec() }))
}

/// A blob that is here with its length, and still hashes to its name.
async fn whole(
    blobs: &Blobs,
    sha256: Digest,
    length: u64,
    what: &str,
    faults: &mut Faults,
) -> Result<bool, BlobError> {
    let fault = match blobs.head(&sha256).await? {
        None => ("blob_missing", format!("{what} ({}) was not uploaded; upload blobs first", sha256.short())),
        Some(here) if here != length => {
            ("blob_length", format!("{what} is {here} bytes long, but {length} are listed"))
        }
        Some(_) => match blobs.rehash(&sha256).await? {
            Some(actual) if actual == sha256 => return Ok(true),
            Some(_) | None => {
                let sentence = format!(
                    "{what} ({}) is damaged on this server's disk; delete the blob and upload it",
                    sha256.short()
                );
                ("blob_damaged", sentence)
            }
        },
    };
    faults.add(fault.0, fault.1);
    Ok(false)
}

/// The drift reference has every monitored stream.
async fn reference(
    blobs: &Blobs,
    target: &Target,
    manifest: &Manifest,
    faults: &mut Faults,
) -> Result<bool, BlobError> {
    let file = manifest.reference.as_deref().and_then(|path| manifest.file(path));
    let Some(BundleFile { sha256, .. }) = file else {
        if manifest.monitoring.streams.is_empty() {
            return Ok(true);
        }
        let sentence = format!("{} monitors streams but brings no drift reference for them", target.path);
        faults.add("reference_missing", sentence);
        return Ok(false);
    };
    let bytes = match blobs.read(sha256, REFERENCE_BYTES_MAX).await {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(BlobError::TooLong { max }) => {
            let sentence =
                format!("the drift reference of {} is longer than the {max} bytes allowed", target.path);
            faults.add("reference_too_long", sentence);
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    match ReferenceFile::parse(&bytes, manifest.monitoring.streams.iter().map(|stream| &stream.name)) {
        Ok(_) => Ok(true),
        Err(error) => {
            faults.add("reference_invalid", format!("{}: {}", target.path, chain(&error)));
            Ok(false)
        }
    }
}
