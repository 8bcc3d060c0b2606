//! The authorities of one kind, oldest first, as they lie in the folder. One that is missing stops the start: without it
//! the one before would sign again, and whom the lost one signed would be refused without a word.
//!
//! What counts is the bundle beside them, which names them all: it is written after a new one was made, and before an old
//! one is taken away. So whatever a crash leaves behind is not named there, and what is named there was there.

use std::path::{Path, PathBuf};

use muster_protocol::time::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::authority::{Authority, paths};
use super::certificate::Certificate;
use super::{PkiError, files};

/// How many authorities of one kind are looked for.
const AUTHORITIES_MAX: u32 = 1000;

/// The authorities of a kind; makes the first one if there never was one.
pub(super) fn all(
    dir: &Path,
    kind: &str,
    common_name: &str,
    now: Timestamp,
) -> Result<Vec<Authority>, PkiError> {
    let mut found = found(dir, kind)?;
    if found.is_empty() {
        let name = format!("{common_name} 1");
        found.push(Authority::make(dir, &stem(kind, 1), 1, &name, now)?);
    }
    Ok(found)
}

/// The authorities of a kind, none missing between them.
pub(super) fn found(dir: &Path, kind: &str) -> Result<Vec<Authority>, PkiError> {
    let (mut found, mut bare) = (Vec::new(), Vec::new());
    for number in 1..=AUTHORITIES_MAX {
        let stem = stem(kind, number);
        match Authority::load(dir, &stem, number)? {
            Some(authority) => found.push(authority),
            None if files::exists(&paths(dir, &stem).1)? => bare.push(number),
            None => {}
        }
    }
    let bundle = bundle(dir, kind);
    match lost(&bundle, kind, &found, &bare)? {
        Some(what) => Err(PkiError::Lost { what, witness: bundle }),
        None => Ok(found),
    }
}

/// Writes the file that names them all.
pub(super) fn save(dir: &Path, kind: &str, authorities: &[Authority]) -> Result<(), PkiError> {
    let path = bundle(dir, kind);
    let text: String = authorities.iter().map(|authority| authority.pem.as_str()).collect();
    if files::read(&path)?.as_deref() == Some(&text) {
        return Ok(());
    }
    files::write(&path, &text)
}

pub(super) fn bundle(dir: &Path, kind: &str) -> PathBuf {
    dir.join(format!("{kind}-ca.pem"))
}

pub(super) fn stem(kind: &str, number: u32) -> String {
    format!("{kind}-ca-{number}")
}

/// There is always one: opening makes it and nothing takes the last one away.
pub(super) fn newest(authorities: &[Authority]) -> &Authority {
    &authorities[authorities.len() - 1]
}

/// An authority that was there and is not any more. `bare`: numbers with a key alone.
fn lost(bundle: &Path, kind: &str, found: &[Authority], bare: &[u32]) -> Result<Option<String>, PkiError> {
    let file = |number| format!("{}.pem", stem(kind, number));
    let named = named(bundle)?;
    let gone = |one: &&CertificateDer<'static>| !found.iter().any(|authority| authority.der == **one);
    if let Some(gone) = named.iter().flatten().find(gone) {
        let name = Certificate::parse(gone).map(|facts| facts.common_name);
        return Ok(Some(name.unwrap_or_else(|| "an authority".to_owned())));
    }
    let (first, last) = match found {
        [] => (1, 0),
        [first, ..] => (first.number, newest(found).number),
    };
    let gap = (first..last).find(|number| !found.iter().any(|authority| authority.number == *number));
    // The making of the next one was cut short, or the taking away of an old one.
    let crashed = |number: u32| match &named {
        Some(_) => number < first || number == last + 1,
        None => number == 1 && found.is_empty(),
    };
    let bare = bare.iter().copied().find(|number| !crashed(*number));
    Ok(gap.or(bare).map(file))
}

/// What the bundle names; `None` if there is none yet.
fn named(bundle: &Path) -> Result<Option<Vec<CertificateDer<'static>>>, PkiError> {
    let Some(text) = files::read(bundle)? else { return Ok(None) };
    let named: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match named {
        Ok(named) if !named.is_empty() => Ok(Some(named)),
        Ok(_) | Err(_) => Err(PkiError::Damaged {
            path: bundle.to_owned(),
            reason: "it names no authority that can be read; restore it from a backup",
        }),
    }
}
