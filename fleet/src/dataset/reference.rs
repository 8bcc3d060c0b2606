//! How people and programs name a version: `er-beds`, `er-beds@3`, `er-beds@latest`, `er-beds@<sha256>`.

use std::fmt;
use std::str::FromStr;

use muster_protocol::ids::{DatasetName, Digest, IdError};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionRef {
    Latest,
    Number(u64),
    Digest(Digest),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatasetRef {
    pub name: DatasetName,
    pub version: VersionRef,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("'{0}' is no version: write its number, its digest, or latest")]
    Version(String),
    #[error("'{0}' names no dataset: write NAME or NAME@VERSION, the name of a-z, 0-9 and '-'")]
    Name(String),
}

impl FromStr for VersionRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if let Ok(digest) = text.parse() {
            return Ok(Self::Digest(digest));
        }
        match text.parse() {
            Ok(number) if number > 0 => Ok(Self::Number(number)),
            Ok(_) | Err(_) => Err(ReferenceError::Version(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

impl FromStr for DatasetRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (name, version) = text.split_once('@').unwrap_or((text, "latest"));
        let name =
            name.parse().map_err(|_: IdError| ReferenceError::Name(text.chars().take(80).collect()))?;
        Ok(Self { name, version: version.parse()? })
    }
}

impl fmt::Display for DatasetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

impl TryFrom<String> for DatasetRef {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<DatasetRef> for String {
    fn from(reference: DatasetRef) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read() {
        let check = |text: &str, expect: Option<VersionRef>| {
            let found = text.parse::<DatasetRef>().ok();
            assert_eq!(found.as_ref().map(|found| found.version), expect, "{text}");
            assert!(found.is_none_or(|found| found.name.as_str() == "er-beds"));
        };
        check("er-beds", Some(VersionRef::Latest));
        check("er-beds@latest", Some(VersionRef::Latest));
        check("er-beds@3", Some(VersionRef::Number(3)));
        let digest = Digest::of(b"x");
        check(&format!("er-beds@{digest}"), Some(VersionRef::Digest(digest)));
        for wrong in ["", "ER", "er-beds@", "er-beds@0", "er-beds@x", "@3"] {
            check(wrong, None);
        }
    }
}
