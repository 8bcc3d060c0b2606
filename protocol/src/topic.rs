//! Where a message goes. The only file in which the '/' of a topic is written.
//!
//! A device's certificate name is its topic segment, so two patterns confine it on every broker: it writes
//! `muster/1/d/{device}/up/#` and reads `muster/1/d/{device}/down/#`, beside the trust files that everybody reads.

use std::fmt;
use std::str::FromStr;

use crate::ids::DeviceId;

/// First segments of every topic: the product and the wire's major version.
pub const PREFIX: &str = "muster/1";

/// A topic, both ways:
///
/// ```
/// use muster_protocol::topic::{Down, Topic, Up};
/// let device: muster_protocol::ids::DeviceId = "d-7zzzzzzzzzzzzzzzzzzzzzzzzz".parse().unwrap();
/// for (topic, text) in [
///     (Topic::Up(device.clone(), Up::Hello), "muster/1/d/d-7zzzzzzzzzzzzzzzzzzzzzzzzz/up/hello"),
///     (Topic::Down(device, Down::Order), "muster/1/d/d-7zzzzzzzzzzzzzzzzzzzzzzzzz/down/order"),
///     (Topic::Trust("timestamp.json".to_owned()), "muster/1/trust/timestamp.json"),
///     (Topic::Epoch, "muster/1/s/epoch"),
/// ] {
///     assert_eq!(topic.to_string(), text);
///     assert_eq!(text.parse::<Topic>().unwrap(), topic);
/// }
/// assert!("muster/1/d/someone/up/hello".parse::<Topic>().is_err());
/// assert!("muster/2/s/epoch".parse::<Topic>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    Up(DeviceId, Up),
    Down(DeviceId, Down),
    /// A trust file by its name, such as `2.root.json`; retained.
    Trust(String),
    /// Tells the fleet whether the broker still holds what was retained.
    Epoch,
}

macro_rules! segments {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

segments!(
    /// What a device says.
    Up {
        /// Once a connection: who, which boot, which order is applied.
        Hello = "hello",
        /// Online or offline; retained, also the last will.
        Status = "status",
        /// The whole reported state.
        State = "state",
        /// Results and errors, each with its sequence number.
        Event = "event",
        /// Telemetry, drift panes and label blocks, binary.
        Report = "report",
        /// Which chunks it lacks.
        Want = "want",
    }
);

segments!(
    /// What the fleet says to one device.
    Down {
        /// The signed order: the whole wish, retained.
        Order = "order",
        /// What the fleet has committed to its database.
        Ack = "ack",
        /// Content, asked for with a want.
        Chunk = "chunk",
        /// One-shot commands.
        Call = "call",
    }
);

/// What the fleet subscribes to: one kind of message of every device.
pub fn every_device(up: Up) -> String {
    format!("{PREFIX}/d/+/up/{}", up.as_str())
}

/// What a device subscribes to: everything said to it.
pub fn down_to(device: &DeviceId) -> String {
    format!("{PREFIX}/d/{device}/down/#")
}

/// Every trust file.
pub fn every_trust_file() -> String {
    format!("{PREFIX}/trust/+")
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no topic of Muster's wire, version 1")]
pub struct TopicError(String);

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up(device, up) => write!(f, "{PREFIX}/d/{device}/up/{}", up.as_str()),
            Self::Down(device, down) => write!(f, "{PREFIX}/d/{device}/down/{}", down.as_str()),
            Self::Trust(name) => write!(f, "{PREFIX}/trust/{name}"),
            Self::Epoch => write!(f, "{PREFIX}/s/epoch"),
        }
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        let wrong = || TopicError(text.chars().take(120).collect());
        let rest = text.strip_prefix(PREFIX).and_then(|t| t.strip_prefix('/')).ok_or_else(wrong)?;
        let segments: Vec<&str> = rest.split('/').collect();
        match segments.as_slice() {
            ["d", device, "up", kind] => {
                Ok(Self::Up(device.parse().map_err(|_| wrong())?, Up::parse(kind).ok_or_else(wrong)?))
            }
            ["d", device, "down", kind] => {
                Ok(Self::Down(device.parse().map_err(|_| wrong())?, Down::parse(kind).ok_or_else(wrong)?))
            }
            ["trust", name] if is_trust_file(name) => Ok(Self::Trust((*name).to_owned())),
            ["s", "epoch"] => Ok(Self::Epoch),
            _ => Err(wrong()),
        }
    }
}

fn is_trust_file(name: &str) -> bool {
    name.len() <= 96
        && name.strip_suffix(".json").is_some_and(|stem| !stem.is_empty())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back() {
        let device = DeviceId::mint([7; 16]);
        let ups = Up::ALL.iter().map(|&up| Topic::Up(device.clone(), up));
        let downs = Down::ALL.iter().map(|&down| Topic::Down(device.clone(), down));
        for topic in ups.chain(downs) {
            assert_eq!(topic.to_string().parse::<Topic>().unwrap(), topic);
        }
    }

    #[test]
    fn foreign_topics_are_refused() {
        for text in [
            "",
            "muster/1",
            "muster/1/trust/../x",
            "muster/1/trust/a/b.json",
            "muster/1/d/d-x/up/hello/x",
            "$SYS/x",
        ] {
            assert!(text.parse::<Topic>().is_err(), "{text}");
        }
    }
}
