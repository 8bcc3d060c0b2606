//! Why trust metadata was not adopted. Whatever the reason, the state before stays.

use super::envelope::EnvelopeError;
use super::key::KeyError;
use crate::time::Timestamp;

#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("'{name}' is not the name of a trust file")]
    UnknownFile { name: String },
    #[error("{file} is {length} bytes long, more than the {max} allowed")]
    TooLarge { file: String, length: usize, max: usize },
    #[error("{file} cannot be read as signed metadata")]
    Malformed {
        file: String,
        #[source]
        source: EnvelopeError,
    },
    #[error("{file} says {reason}")]
    Document { file: String, reason: String },
    #[error("{file} names a key that cannot be used")]
    Key {
        file: String,
        #[source]
        source: KeyError,
    },
    #[error(
        "{file} carries {found} of the {needed} signatures it needs; it was altered, or signed with other keys"
    )]
    Signature { file: String, found: usize, needed: usize },
    #[error("{file} goes back from version {trusted} to {offered}")]
    Rollback { file: String, trusted: u64, offered: u64 },
    #[error("{file} is not the file that is pinned: {reason}")]
    Mismatch { file: String, reason: String },
    #[error("{file} expired at {at}; its signer must sign a fresh one")]
    Expired { file: String, at: Timestamp },
    #[error("{file} was refused")]
    Refused {
        file: String,
        #[source]
        source: Box<sigstore_tuf::Error>,
    },
}

impl TrustError {
    /// Stable name for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownFile { .. } => "trust_unknown_file",
            Self::TooLarge { .. } => "trust_too_large",
            Self::Malformed { .. } | Self::Document { .. } | Self::Refused { .. } => "trust_malformed",
            Self::Key { .. } => "trust_key",
            Self::Signature { .. } => "trust_signature",
            Self::Rollback { .. } => "trust_rollback",
            Self::Mismatch { .. } => "trust_mismatch",
            Self::Expired { .. } => "trust_expired",
        }
    }

    pub(crate) fn document(file: &impl ToString, reason: impl Into<String>) -> Self {
        Self::Document { file: file.to_string(), reason: reason.into() }
    }

    /// Says in our words what `sigstore-tuf` found wrong with `file`.
    #[expect(clippy::wildcard_enum_match_arm, reason = "that enum may grow; what is new is a refusal too")]
    pub(crate) fn of(file: &impl ToString, error: sigstore_tuf::Error) -> Self {
        let file = file.to_string();
        match error {
            sigstore_tuf::Error::ThresholdNotMet { found, threshold, .. } => {
                Self::Signature { file, found, needed: threshold }
            }
            sigstore_tuf::Error::Rollback { trusted, new, .. }
            | sigstore_tuf::Error::BadRootVersion { trusted, new } => {
                Self::Rollback { file, trusted, offered: new }
            }
            sigstore_tuf::Error::IntegrityMismatch(reason) => Self::Mismatch { file, reason },
            sigstore_tuf::Error::Expired { role, expires } => {
                Self::Expired { file: format!("{role}.json"), at: from_jiff(expires) }
            }
            source => Self::Refused { file, source: Box::new(source) },
        }
    }
}

pub(crate) fn from_jiff(time: jiff::Timestamp) -> Timestamp {
    Timestamp::from_millis(time.as_millisecond())
}
