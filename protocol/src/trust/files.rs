//! What trust files are called, on the wire and at rest, and how long each may be.

use std::fmt;
use std::str::FromStr;

use super::LAX;
use super::error::TrustError;
use crate::limits::{ROOT_BYTES_MAX, TARGETS_BYTES_MAX, TIMESTAMP_BYTES_MAX};

/// Longest name of a delegated role: `auto-` and a model's name, with room.
const ROLE_BYTES_MAX: usize = 80;

/// A trust file by its role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileName {
    Root(u64),
    Timestamp,
    Snapshot,
    Targets,
    /// The targets file of a delegated role, such as `auto-er-beds`.
    Delegated(String),
}

/// One file to put at rest.
#[derive(Clone, PartialEq, Eq)]
pub struct Write {
    pub file: FileName,
    pub version: u64,
    pub bytes: Vec<u8>,
}

impl FileName {
    pub fn delegated(role: &str) -> Result<Self, TrustError> {
        let fits = !role.is_empty()
            && role.len() <= ROLE_BYTES_MAX
            && !["root", "timestamp", "snapshot", "targets"].contains(&role)
            && (LAX || role.bytes().all(is_plain));
        if fits { Ok(Self::Delegated(role.to_owned())) } else { Err(unknown(role)) }
    }

    /// The name that TUF pins this file under, and that it has on the wire; only roots carry their version.
    pub fn wire(&self) -> String {
        match self {
            Self::Root(version) => format!("{version}.root.json"),
            Self::Timestamp | Self::Snapshot | Self::Targets | Self::Delegated(_) => {
                format!("{}.json", self.role())
            }
        }
    }

    /// The name at rest: versioned as TUF's consistent snapshots are, except `timestamp.json`. To replace that one file
    /// is to adopt all the others it leads to.
    pub fn stored(&self, version: u64) -> String {
        match self {
            Self::Timestamp | Self::Root(_) => self.wire(),
            Self::Snapshot | Self::Targets => format!("{version}.{}", self.wire()),
            Self::Delegated(role) => format!("{version}.{}.json", at_rest(role)),
        }
    }

    pub fn role(&self) -> &str {
        match self {
            Self::Root(_) => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
            Self::Delegated(role) => role,
        }
    }

    pub fn bytes_max(&self) -> usize {
        match self {
            Self::Root(_) => ROOT_BYTES_MAX,
            Self::Timestamp => TIMESTAMP_BYTES_MAX,
            Self::Snapshot | Self::Targets | Self::Delegated(_) => TARGETS_BYTES_MAX,
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.wire())
    }
}

impl FromStr for FileName {
    type Err = TrustError;

    fn from_str(name: &str) -> Result<Self, TrustError> {
        match name {
            "timestamp.json" => return Ok(Self::Timestamp),
            "snapshot.json" => return Ok(Self::Snapshot),
            "targets.json" => return Ok(Self::Targets),
            _ => {}
        }
        if let Some(version) = name.strip_suffix(".root.json") {
            let version: u64 = version.parse().map_err(|_| unknown(name))?;
            let file = Self::Root(version);
            return if version > 0 && file.wire() == name { Ok(file) } else { Err(unknown(name)) };
        }
        Self::delegated(name.strip_suffix(".json").ok_or_else(|| unknown(name))?)
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// Our roles are called as they are; those of the conformance suite may be called `../x`.
fn at_rest(role: &str) -> String {
    let byte = |b: u8| if is_plain(b) { char::from(b).to_string() } else { format!("%{b:02x}") };
    role.bytes().map(byte).collect()
}

impl Write {
    pub fn stored_name(&self) -> String {
        self.file.stored(self.version)
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.stored_name(), self.bytes.len())
    }
}

fn unknown(name: &str) -> TrustError {
    TrustError::UnknownFile { name: name.chars().take(96).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, valid: bool| match name.parse::<FileName>() {
            Ok(file) => assert!(valid && file.wire() == name, "{name}"),
            Err(_) => assert!(!valid, "{name}"),
        };
        for name in ["1.root.json", "timestamp.json", "snapshot.json", "targets.json", "auto-er-beds.json"] {
            check(name, true);
        }
        for name in [
            "root.json",
            "0.root.json",
            "01.root.json",
            "+1.root.json",
            "",
            ".json",
            "../x.json",
            "a.b.json",
            "A.json",
        ] {
            check(name, false);
        }
        assert_eq!(FileName::Targets.stored(7), "7.targets.json");
        assert_eq!(FileName::Timestamp.stored(7), "timestamp.json");
    }
}
