//! What a trainer that runs elsewhere hands back, and the token it may do that with.
//!
//! ```text
//!   builder ─▶ fleet: a token for this run, please       the token goes to the trainer with its request
//!   trainer ─▶ fleet: files by digest · progress · the result, once
//!   builder ─▶ fleet: is there a result?                  then it fetches the files, and believes none of them
//! ```

use std::collections::BTreeSet;
use std::str::FromStr;

use muster_protocol::ids::Digest;
use serde::{Deserialize, Serialize};

/// Files of one result.
pub const FILES_MAX: usize = 64;
/// All files of one result together, bytes.
pub const BYTES_MAX: u64 = muster_protocol::limits::BUNDLE_BYTES_MAX;
/// What is told besides files.
pub const MESSAGE_CHARS_MAX: usize = 500;
/// Longest life of a token, seconds: a week, the longest that a training may take.
pub const TOKEN_S_MAX: u64 = 7 * 86_400;

const SEGMENTS_MAX: usize = 4;
const SEGMENT_CHARS_MAX: usize = 64;
/// What trainers write: models, tables, figures, and the parts of a `SavedModel`.
const EXTENSIONS: &[&str] = &["onnx", "xml", "bin", "json", "csv", "parquet", "pb", "index"];

/// Where a file lies in a trainer's output: plain names, no way out, and only kinds of files that are read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OutputPath(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandbackError {
    #[error(
        "'{0}' is no file of a trainer's output: 1 to {SEGMENTS_MAX} plain names with slashes between them"
    )]
    Path(String),
    #[error("'{0}' is no kind of file that a trainer writes: {kinds}", kinds = EXTENSIONS.join(", "))]
    Kind(String),
    #[error("a result has 1 to {FILES_MAX} files, this one has {0}")]
    Files(usize),
    #[error("a result's files have at most {BYTES_MAX} bytes together")]
    Bytes,
    #[error("'{0}' is there twice")]
    Twice(String),
}

impl OutputPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OutputPath {
    type Err = HandbackError;

    fn from_str(text: &str) -> Result<Self, HandbackError> {
        let is_plain = |name: &str| {
            (1..=SEGMENT_CHARS_MAX).contains(&name.len())
                && !name.starts_with('.')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        };
        let shown = || text.chars().take(80).collect::<String>();
        let names: Vec<&str> = text.split('/').collect();
        if names.len() > SEGMENTS_MAX || !names.iter().all(|name| is_plain(name)) {
            return Err(HandbackError::Path(shown()));
        }
        let (stem, extension) = text.rsplit_once('.').unwrap_or((text, ""));
        // A SavedModel's weights: variables.data-00000-of-00001.
        let is_weights = extension.starts_with("data-") && stem.ends_with("variables");
        if is_weights || EXTENSIONS.contains(&extension) {
            Ok(Self(text.to_owned()))
        } else {
            Err(HandbackError::Kind(shown()))
        }
    }
}

impl TryFrom<String> for OutputPath {
    type Error = HandbackError;

    fn try_from(text: String) -> Result<Self, HandbackError> {
        text.parse()
    }
}

impl From<OutputPath> for String {
    fn from(path: OutputPath) -> Self {
        path.0
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputFile {
    pub path: OutputPath,
    pub sha256: Digest,
    pub bytes: u64,
}

/// How a training elsewhere ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case", deny_unknown_fields)]
pub enum TrainerResult {
    Succeeded { files: Vec<OutputFile> },
    Failed { message: String },
}

impl TrainerResult {
    pub fn check(&self) -> Result<(), HandbackError> {
        let Self::Succeeded { files } = self else { return Ok(()) };
        if files.is_empty() || files.len() > FILES_MAX {
            return Err(HandbackError::Files(files.len()));
        }
        let bytes = files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.bytes));
        if bytes.is_none_or(|bytes| bytes > BYTES_MAX) {
            return Err(HandbackError::Bytes);
        }
        let mut seen = BTreeSet::new();
        match files.iter().find(|file| !seen.insert(&file.path)) {
            Some(file) => Err(HandbackError::Twice(file.path.0.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_and_are_of_known_kinds() {
        for good in [
            "model.onnx",
            "trainer.json",
            "saved_model/saved_model.pb",
            "saved_model/variables/variables.data-00000-of-00001",
            "saved_model/variables/variables.index",
        ] {
            assert!(good.parse::<OutputPath>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../model.onnx",
            "a/../model.onnx",
            "a//model.onnx",
            "model.pkl",
            "model",
            ".hidden.json",
            "a/b/c/d/e.json",
            "mödel.onnx",
            "model.onnx\n",
            "a\\b.json",
            "x.data-00000-of-00001",
        ] {
            assert!(bad.parse::<OutputPath>().is_err(), "{bad}");
        }
    }

    #[test]
    fn results_are_bounded() {
        let file =
            |path: &str, bytes| OutputFile { path: path.parse().unwrap(), sha256: Digest::of(b""), bytes };
        let check = |files: Vec<OutputFile>| TrainerResult::Succeeded { files }.check();
        assert_eq!(check(vec![]), Err(HandbackError::Files(0)));
        assert_eq!(check(vec![file("a.json", 1), file("b.json", 2)]), Ok(()));
        assert_eq!(check(vec![file("a.json", 1); 2]), Err(HandbackError::Twice("a.json".to_owned())));
        assert_eq!(check(vec![file("a.json", u64::MAX), file("b.json", 1)]), Err(HandbackError::Bytes));
        assert!(check((0..65).map(|i| file(&format!("{i}.json"), 1)).collect()).is_err());
    }
}
