//! Who this box is: the folder `identity/`, which `muster-agent enrol` makes and every connection reads.
//!
//! ```text
//!   identity/  enrolment.json   device, site, where its fleet is        key.pem          P-256, made here, never leaves
//!              root.json        whom it trusts, as handed to it         certificate.pem  from the fleet, 90 days
//!              previous/        key and certificate that are known to work, until the newer ones have connected once
//!              next-key.pem     a key that is offered to the fleet, until it is certified
//!   enrolling/ the same before it counts: it becomes identity/ by one rename
//! ```
//!
//! Only an enrolment makes an identity. Whatever is damaged here is named and refused; nothing is ever made anew in its
//! place, because a box that silently became another one would be lost to its fleet.
//!
//! Never talks to anybody.

mod certificate;
mod enrolling;
mod folder;
mod key;
mod state_dir;
mod steps;

use std::path::PathBuf;

use muster_protocol::enrol::EnrolError;
use muster_protocol::ids::{BootId, DeviceId, Digest, ID_RANDOM_BYTES};

pub use certificate::{Certificate, CertificateError};
pub use enrolling::{Enrolling, KeyChoice};
pub use folder::{Credential, Enrolment, Identity, root_path};
pub use key::{DeviceKey, KeyError};
pub use state_dir::StateDir;

use crate::disk::DiskError;

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the state folder cannot be used; set 'state_dir' to one that this user may write")]
    Disk(#[from] DiskError),
    #[error("another agent holds the state folder {}; stop it, or give this one its own 'state_dir'", .0.display())]
    Held(PathBuf),
    #[error("{} is not what 'muster-agent enrol' wrote; restore it from a backup, or enrol again with --again", path.display())]
    Enrolment {
        path: PathBuf,
        #[source]
        source: EnrolError,
    },
    #[error("{} is gone; restore it from a backup, or enrol again with --again", .0.display())]
    Gone(PathBuf),
    #[error("{} is not a key this box can use; restore it from a backup, or enrol again with --again --new-key", path.display())]
    Key {
        path: PathBuf,
        #[source]
        source: KeyError,
    },
    #[error(
        "{} can be read by others (mode {mode:o}), so it may be known to others: make it 0600 if it surely was not read, \
         else 'muster-agent rekey'",
        path.display()
    )]
    KeyExposed { path: PathBuf, mode: u32 },
    #[error("{} is not a certificate; remove it, and the agent asks for a fresh one for the same key", path.display())]
    Certificate {
        path: PathBuf,
        #[source]
        source: CertificateError,
    },
    #[error("{} is the certificate of {found}, and this box is {device}; remove it, and the agent asks for its own", path.display())]
    Foreign { path: PathBuf, device: DeviceId, found: String },
    #[error("the certificate is not for the key it was asked for")]
    OtherKey,
    #[error("the certificate is for {found}, and this box is {device}")]
    OtherDevice { device: DeviceId, found: String },
    #[error("the system gives no randomness: {0}")]
    Randomness(getrandom::Error),
}

/// The id of this process's life; sequence numbers count within it.
pub fn boot() -> Result<BootId, IdentityError> {
    random().map(BootId::mint)
}

/// Something that nobody can guess.
pub fn secret() -> Result<String, IdentityError> {
    let (one, other) = (random()?, random()?);
    Ok(Digest::of(&[one, other].concat()).to_string())
}

pub(crate) fn random() -> Result<[u8; ID_RANDOM_BYTES], IdentityError> {
    let mut bytes = [0; ID_RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(IdentityError::Randomness)?;
    Ok(bytes)
}

/// Randomness for jitter: without any, everybody waits equally long, which is no reason to stop.
pub(crate) fn jitter() -> u64 {
    random().map_or(0, |bytes| bytes[..8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests;
