//! All that can wake the agent, in one place.

use bytes::Bytes;
use muster_protocol::enrol::Fingerprint;
use muster_protocol::ids::{Digest, SlotName};
use muster_protocol::message::up::BundleRef;
use muster_protocol::message::{Ack, Message as _};
use muster_protocol::topic::{Down, Topic};

use crate::activate::{ActivateError, Loaded, Proven};
use crate::download::{self, Failure};
use crate::ledger::SlotRecord;
use crate::link::{Fault, Heard};
use crate::renew;
use crate::serve::Said;
use crate::shadow::Shadow;

#[derive(Debug)]
pub(super) enum Event {
    Linked {
        connection: u64,
        key: Fingerprint,
    },
    Unlinked {
        reason: String,
        fault: Fault,
    },
    /// The certificate is another, or is not to be had.
    Membership(renew::Said),
    Order(Bytes),
    TrustFile {
        name: String,
        bytes: Bytes,
    },
    Chunk(Bytes),
    Ack(Ack),
    /// Something that could not be read, by where it came and why.
    Malformed {
        topic: String,
        reason: String,
    },
    /// Bytes of a blob that is being downloaded.
    Progress {
        digest: Digest,
        received_bytes: u64,
    },
    Arrived {
        digest: Digest,
    },
    NotArrived {
        digest: Digest,
        failure: Failure,
    },
    /// What each slot ran before the restart, loaded again.
    Restored(Vec<Restored>),
    Verified {
        slot: SlotName,
        bundle: BundleRef,
        result: Result<(), ActivateError>,
    },
    Tested {
        slot: SlotName,
        bundle: BundleRef,
        result: Result<Box<Proven>, ActivateError>,
    },
    Loaded {
        slot: SlotName,
        bundle: BundleRef,
        result: Result<Box<Loaded>, ActivateError>,
    },
    /// What shall run in a slot's shadow.
    Beside {
        slot: SlotName,
        bundle: BundleRef,
        result: Result<Shadow, ActivateError>,
    },
    /// Somebody at the box said or asked something.
    Said(Said),
    /// Something that was to be done later is due.
    Time,
}

/// One slot after a restart.
#[derive(Debug)]
pub(super) struct Restored {
    pub slot: SlotName,
    pub record: SlotRecord,
    pub current: Result<Loaded, ActivateError>,
    pub previous: Option<Result<Loaded, ActivateError>>,
}

impl Event {
    pub(super) fn from_link(heard: Heard) -> Self {
        match heard {
            Heard::Linked { connection, key } => Self::Linked { connection, key },
            Heard::Unlinked { reason, fault } => Self::Unlinked { reason, fault },
            Heard::Message { topic, payload } => Self::from_message(&topic, payload),
        }
    }

    pub(super) fn from_download(said: download::Said) -> Self {
        match said {
            download::Said::Progress { digest, received_bytes } => Self::Progress { digest, received_bytes },
            download::Said::Arrived { digest } => Self::Arrived { digest },
            download::Said::Failed { digest, failure } => Self::NotArrived { digest, failure },
            download::Said::Malformed(error) => {
                Self::Malformed { topic: Down::Chunk.as_str().to_owned(), reason: error.to_string() }
            }
        }
    }

    fn from_message(topic: &str, payload: Bytes) -> Self {
        let malformed = |reason: String| Self::Malformed { topic: topic.to_owned(), reason };
        match topic.parse() {
            Ok(Topic::Down(_, Down::Order)) => Self::Order(payload),
            Ok(Topic::Down(_, Down::Chunk)) => Self::Chunk(payload),
            Ok(Topic::Down(_, Down::Ack)) => match Ack::from_json(&payload) {
                Ok(ack) => Self::Ack(ack),
                Err(error) => malformed(error.to_string()),
            },
            Ok(Topic::Down(_, Down::Call)) => {
                malformed("this version of the agent knows no calls".to_owned())
            }
            Ok(Topic::Trust(name)) => Self::TrustFile { name, bytes: payload },
            Ok(Topic::Up(..) | Topic::Epoch) => malformed("nothing is awaited on this topic".to_owned()),
            Err(error) => malformed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(topic: &str, payload: &'static str) -> Event {
        let heard =
            Heard::Message { topic: topic.to_owned(), payload: Bytes::from_static(payload.as_bytes()) };
        Event::from_link(heard)
    }

    #[test]
    fn messages_find_their_event_and_garbage_is_named() {
        let device = "muster/1/d/d-7zzzzzzzzzzzzzzzzzzzzzzzzz/down";
        assert!(matches!(of(&format!("{device}/order"), "x"), Event::Order(_)));
        assert!(
            matches!(of("muster/1/trust/targets.json", "x"), Event::TrustFile { name, .. } if name == "targets.json")
        );
        let ack =
            r#"{"v":1,"boot":"b-7zzzzzzzzzzzzzzzzzzzzzzzzz","event":1,"report":2,"state":3,"later":true}"#;
        assert!(matches!(of(&format!("{device}/ack"), ack), Event::Ack(ack) if ack.report == 2));
        for (topic, payload) in [("ack", "{"), ("ack", "{\"v\":9}"), ("call", "{}"), ("other", "")] {
            let topic = format!("{device}/{topic}");
            assert!(
                matches!(of(&topic, payload), Event::Malformed { topic: t, .. } if t == topic),
                "{topic}"
            );
        }
    }
}
