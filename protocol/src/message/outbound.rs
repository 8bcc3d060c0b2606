//! All that a box publishes: one closed set of types. What has no field here cannot leave.
//!
//! Their fields are numbers, counts, digests, ids and codes. Words are of four kinds, each bounded: what the owner calls
//! the box and its site, what the machine calls its parts, sentences that our own code wrote, and two that somebody at
//! the box gave for others to read: why an application holds the box, and who gave consent. docs/privacy.md lists every
//! field with its reason; a test holds that list complete.
//!
//! A new kind of message, or a new field, is a decision about privacy: it is made here.

use super::{Event, Hello, Message as _, MessageError, Report, State, Status};
use crate::chunk::Want;
use crate::topic::Up;

#[derive(Clone, Debug, PartialEq)]
pub enum Outbound {
    Hello(Hello),
    Status(Status),
    State(State),
    Event(Event),
    Report(Report),
    Want(Want),
}

impl Outbound {
    pub fn up(&self) -> Up {
        match self {
            Self::Hello(_) => Up::Hello,
            Self::Status(_) => Up::Status,
            Self::State(_) => Up::State,
            Self::Event(_) => Up::Event,
            Self::Report(_) => Up::Report,
            Self::Want(_) => Up::Want,
        }
    }

    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        match self {
            Self::Hello(hello) => Ok(hello.to_json()),
            Self::Status(status) => Ok(status.to_json()),
            Self::State(state) => Ok(state.to_json()),
            Self::Event(event) => Ok(event.to_json()),
            Self::Report(report) => report.encode(),
            Self::Want(want) => Ok(want.to_json()),
        }
    }

    /// As the fleet reads it.
    pub fn decode(up: Up, bytes: &[u8]) -> Result<Self, MessageError> {
        match up {
            Up::Hello => Hello::from_json(bytes).map(Self::Hello),
            Up::Status => Status::from_json(bytes).map(Self::Status),
            Up::State => State::from_json(bytes).map(Self::State),
            Up::Event => Event::from_json(bytes).map(Self::Event),
            Up::Report => Report::decode(bytes).map(Self::Report),
            Up::Want => Want::from_json(bytes).map(Self::Want),
        }
    }
}
