//! What other systems call the same data: kept beside our digest, never instead of it.
//!
//! ```text
//!   dvc:d41d8cd98f00b204e9800998ecf8427e           the md5 of an output in a .dvc file
//!   lakefs:wards@4f3c…                             repository and commit
//!   artivc:0beec7b5ea3f0fdbc95d0d…                 a commit of an ArtiVC repository
//!   mlflow:0123456789abcdef                        a dataset's digest as MLflow logged it
//!   s3:bucket/key@version                          an object's version
//! ```
//! None of them is believed to be the content: MD5 and SHA-1 can be forged, so what is imported is hashed again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub const EXTERNAL_MAX: usize = 32;
const CHARS_MAX: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct External {
    system: System,
    id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    Dvc,
    LakeFs,
    ArtiVc,
    MlFlow,
    S3,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no reference to another system's data: {rule}")]
pub struct ExternalError {
    text: String,
    rule: &'static str,
}

impl System {
    fn name(self) -> &'static str {
        match self {
            Self::Dvc => "dvc",
            Self::LakeFs => "lakefs",
            Self::ArtiVc => "artivc",
            Self::MlFlow => "mlflow",
            Self::S3 => "s3",
        }
    }

    fn fits(self, id: &str) -> bool {
        let hex = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        match self {
            Self::Dvc => {
                id.strip_suffix(".dir").unwrap_or(id).len() == 32
                    && hex(id.strip_suffix(".dir").unwrap_or(id))
            }
            Self::ArtiVc => id.len() == 40 && hex(id),
            Self::LakeFs => id.rsplit_once('@').is_some_and(|(repository, commit)| {
                !repository.is_empty() && hex(commit) && (8..=64).contains(&commit.len())
            }),
            Self::MlFlow => !id.is_empty(),
            Self::S3 => id.split_once('/').is_some_and(|(bucket, rest)| {
                !bucket.is_empty()
                    && rest
                        .rsplit_once('@')
                        .is_some_and(|(key, version)| !key.is_empty() && !version.is_empty())
            }),
        }
    }

    fn rule(self) -> &'static str {
        match self {
            Self::Dvc => "write dvc: and 32 hexadecimal digits, with .dir for a folder",
            Self::LakeFs => "write lakefs:REPOSITORY@COMMIT",
            Self::ArtiVc => "write artivc: and the commit's 40 hexadecimal digits",
            Self::MlFlow => "write mlflow: and the digest that MLflow shows",
            Self::S3 => "write s3:BUCKET/KEY@VERSION",
        }
    }
}

impl External {
    pub fn new(system: System, id: &str) -> Result<Self, ExternalError> {
        let wrong = |rule| ExternalError { text: id.chars().take(80).collect(), rule };
        if id.chars().count() > CHARS_MAX || id.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(wrong("it has at most 500 characters, none of them a space"));
        }
        if system.fits(id) { Ok(Self { system, id: id.to_owned() }) } else { Err(wrong(system.rule())) }
    }

    pub fn system(&self) -> &'static str {
        self.system.name()
    }
}

impl FromStr for External {
    type Err = ExternalError;

    fn from_str(text: &str) -> Result<Self, ExternalError> {
        let systems = [System::Dvc, System::LakeFs, System::ArtiVc, System::MlFlow, System::S3];
        let (name, id) = text.split_once(':').unwrap_or((text, ""));
        match systems.into_iter().find(|system| system.name() == name) {
            Some(system) => Self::new(system, id),
            None => Err(ExternalError {
                text: text.chars().take(80).collect(),
                rule: "begin with dvc:, lakefs:, artivc:, mlflow: or s3:",
            }),
        }
    }
}

impl TryFrom<String> for External {
    type Error = ExternalError;

    fn try_from(text: String) -> Result<Self, ExternalError> {
        text.parse()
    }
}

impl From<External> for String {
    fn from(external: External) -> Self {
        external.to_string()
    }
}

impl fmt::Display for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.system.name(), self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_they_are_written() {
        let check = |text: &str, good: bool| match text.parse::<External>() {
            Ok(external) => assert!(good && external.to_string() == text, "{text}"),
            Err(error) => assert!(!good, "{error}"),
        };
        check("dvc:d41d8cd98f00b204e9800998ecf8427e", true);
        check("dvc:d41d8cd98f00b204e9800998ecf8427e.dir", true);
        check("artivc:0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33", true);
        check("lakefs:wards@4f3c2b1a", true);
        check("s3:bucket/some/key@3HL4kqtJlcpXroDTDmJ", true);
        check("mlflow:3a1c5b2f", true);
        for wrong in [
            "dvc:x",
            "artivc:0BEEC7",
            "lakefs:wards",
            "lakefs:@4f3c2b1a",
            "s3:bucket",
            "git:abc",
            "",
            "mlflow:a b",
        ] {
            check(wrong, false);
        }
    }
}
