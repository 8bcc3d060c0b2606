//! What one file says of the next: which bytes a pin means, and which stored files a timestamp leads to.

use std::collections::BTreeMap;

use sigstore_tuf::MetaFile;

use super::super::Files;
use super::super::checks::{Checked, check};
use super::super::error::TrustError;
use super::super::files::FileName;
use super::Step;
use crate::ids::Digest;

/// Refuses a pin that gives a version another content than an earlier pin gave it. Pins without a digest pass: of those
/// [`pinned`] takes what is held.
pub(super) fn one_content(
    before: &BTreeMap<String, MetaFile>,
    now: &BTreeMap<String, MetaFile>,
) -> Result<(), TrustError> {
    let differs = |(name, pin): (&String, &MetaFile)| {
        let old = before.get(name).filter(|old| old.version == pin.version)?;
        let (old, new) = (sha256(old)?, sha256(pin)?);
        (old != new).then(|| (name.clone(), pin.version))
    };
    match now.iter().find_map(differs) {
        Some((file, version)) => Err(TrustError::Mismatch {
            file,
            reason: format!("its version {version} was pinned before, with another content"),
        }),
        None => Ok(()),
    }
}

fn sha256(pin: &MetaFile) -> Option<&String> {
    pin.hashes.as_ref()?.get("sha256")
}

/// The bytes that `pin` means, among those held and those received. Received bytes of the pinned version that are not
/// the pinned bytes are handed on, to be refused by name; another version means that a file is still to come.
pub(super) fn pinned(
    pin: &MetaFile,
    file: &FileName,
    pinned_by: &FileName,
    files: &Files,
    held: &Files,
) -> Result<Step<Vec<u8>>, TrustError> {
    let name = file.wire();
    let digest = sha256(pin);
    let exact = |bytes: &&Vec<u8>| match digest {
        Some(digest) => Digest::of(bytes).to_string() == *digest,
        None => check(file, bytes).is_ok_and(|checked| checked.version == pin.version),
    };
    let received = files.get(&name);
    if let Some(bytes) = held.get(&name).into_iter().chain(received).find(exact) {
        check(file, bytes)?;
        return Ok(Step::Here(bytes.clone()));
    }
    let Some(bytes) = received else { return Ok(Step::Missing(name)) };
    let version = check(file, bytes)?.version;
    Ok(match version.cmp(&pin.version) {
        std::cmp::Ordering::Equal => Step::Here(bytes.clone()),
        std::cmp::Ordering::Less => Step::Missing(name),
        std::cmp::Ordering::Greater => Step::Missing(pinned_by.wire()),
    })
}

/// Those of the stored files that `timestamp.json` leads to, by their names on the wire.
///
/// A delegated file that is not the pinned one is left out, as if it had not come: one file to fetch again must not make
/// a box that cannot start.
pub(super) fn current(stored: &Files) -> Result<Files, TrustError> {
    let mut current = Files::new();
    let mut pinning = vec![(FileName::Timestamp, 0, None)];
    while let Some((file, version, sha256)) = pinning.pop() {
        let Some(bytes) = stored.get(&file.stored(version)) else { continue };
        let pinned = sha256.is_none_or(|sha256: String| Digest::of(bytes).to_string() == sha256);
        if matches!(file, FileName::Delegated(_)) && !pinned {
            continue;
        }
        if matches!(file, FileName::Timestamp | FileName::Snapshot) {
            let Checked { envelope, .. } = check(&file, bytes)?;
            let meta = envelope.signed().get("meta").and_then(|meta| meta.as_object());
            for (name, pin) in meta.into_iter().flatten() {
                let sha256 = pin.pointer("/hashes/sha256").and_then(|sha256| sha256.as_str());
                if let (Ok(file), Some(version)) =
                    (name.parse(), pin.get("version").and_then(serde_json::Value::as_u64))
                {
                    pinning.push((file, version, sha256.map(str::to_owned)));
                }
            }
        }
        current.insert(file.wire(), bytes.clone());
    }
    Ok(current)
}
