//! What devices and the fleet say to each other.
//!
//! JSON, except reports, which are binary because every box sends them all day. Every message carries its version.
//! Ids and sequence numbers stand in the payload, so no logic hangs on a broker's features.
//!
//! *Streams and acknowledgement.* Events and reports are numbered from 1 within a boot, each kind on its own, and kept
//! in the box's spool until the fleet has committed them. [`Ack`] names the highest number up to which nothing is
//! missing. `held_from` tells the fleet that older entries are gone for good, so that it does not wait for them.

pub mod down;
pub mod outbound;
pub mod report;
pub mod up;

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::limits::{self, MESSAGE_BYTES_MAX};

pub use down::{Ack, Epoch};
pub use outbound::Outbound;
pub use report::{Health, LabelBlock, ModelStats, Pane, Report, ShadowBlock};
pub use up::{
    Capabilities, Event, EventKind, Hello, LocalLease, Phase, Presence, Provider, ProviderUse, ReadyFor,
    Refusal, SlotState, State, Status,
};

/// Version of every message of this wire.
pub const VERSION: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    #[error("a message of {bytes} bytes is longer than the {limit} allowed")]
    Long { bytes: usize, limit: usize },
    #[error("a message is not JSON of the expected shape")]
    Json(#[source] serde_json::Error),
    #[error("a report cannot be read")]
    Report(#[source] postcard::Error),
    #[error("a report ends {0} bytes before its message does")]
    Trailing(usize),
    #[error("message version {0} is not spoken here; update this side")]
    Version(u8),
    #[error("{what} holds {found}, more than the {limit} allowed")]
    Bound { what: &'static str, found: usize, limit: usize },
}

/// A JSON message with bounds of its own.
pub trait Message: Serialize + DeserializeOwned {
    fn version(&self) -> u8;

    /// Refuses lists that are longer than `limits` allow.
    fn check(&self) -> Result<(), MessageError>;

    fn to_json(&self) -> Vec<u8> {
        // Serialising our own structs of strings and numbers cannot fail; an empty payload would be refused by the reader.
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn from_json(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(MessageError::Long { bytes: bytes.len(), limit: MESSAGE_BYTES_MAX });
        }
        let message: Self = serde_json::from_slice(bytes).map_err(MessageError::Json)?;
        if message.version() != VERSION {
            return Err(MessageError::Version(message.version()));
        }
        message.check()?;
        Ok(message)
    }
}

impl Message for crate::chunk::Want {
    fn version(&self) -> u8 {
        self.v
    }

    fn check(&self) -> Result<(), MessageError> {
        bound("want.ranges", self.ranges.len(), limits::WANT_RANGES_MAX)
    }
}

fn bound(what: &'static str, found: usize, limit: usize) -> Result<(), MessageError> {
    if found > limit { Err(MessageError::Bound { what, found, limit }) } else { Ok(()) }
}

/// A sentence for people: what is wrong, where, and what to do next. Bounded; written by our code, never copied from
/// a payload.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Sentence(String);

impl Sentence {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Sentence {
    fn from(text: String) -> Self {
        Self(limits::sentence(text))
    }
}

impl From<&str> for Sentence {
    fn from(text: &str) -> Self {
        Self(limits::sentence(text))
    }
}

impl From<Sentence> for String {
    fn from(sentence: Sentence) -> String {
        sentence.0
    }
}

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
