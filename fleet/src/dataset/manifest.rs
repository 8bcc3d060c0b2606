//! The manifest of a dataset's version: the files that are it. The SHA-256 of its canonical text is the version's name, so
//! nobody can say that a version is something else.

use std::collections::BTreeSet;

use muster_protocol::ids::{CaptureId, Digest, SlotName};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

pub const SCHEMA: &str = "muster-dataset/1";
pub const COLUMNS_MAX: usize = 512;
pub const FILES_MAX: usize = 4096;
/// One file. It is copied once to the local disk when its version is profiled.
pub const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
pub const ROWS_MAX: u64 = 10_000_000_000;
const NAME_CHARS_MAX: usize = 200;
const CAPTURES_MAX: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub schema: String,
    /// Of all files alike.
    pub columns: Vec<Column>,
    /// Which column says when a row was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_column: Option<String>,
    pub files: Vec<FileEntry>,
    pub source: Source,
}

/// A column by name, what it holds, and how the file stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
    /// In the file format's own words, such as `INT64 timestamp(ms)`.
    pub stored: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Boolean,
    Integer,
    Real,
    /// A point in time or a date.
    Time,
    Text,
    /// Bytes, lists, structures: only whether there is one is looked at.
    Opaque,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where it lies in the version's folder.
    pub path: String,
    pub sha256: Digest,
    pub bytes: u64,
    pub rows: u64,
    /// First and last value of the time column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

/// Where the rows are from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// Somebody's files.
    Files,
    /// Rows that a site captured for itself and joined with what became of them.
    Captures { slot: SlotName, bundle: Digest, captures: Vec<CaptureId> },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("'{0}' is not the manifest schema {SCHEMA}")]
    Schema(String),
    #[error(
        "a dataset has 1 to {COLUMNS_MAX} columns, each of its own name of 1 to {NAME_CHARS_MAX} characters"
    )]
    Columns,
    #[error("a version has 1 to {FILES_MAX} files, each at its own path")]
    Files,
    #[error(
        "'{0}' is no path of a file in a folder: name it without '..', '//', a first '/' or control characters"
    )]
    Path(String),
    #[error("{path} has {bytes} bytes; a file has 1 to {FILE_BYTES_MAX}")]
    Bytes { path: String, bytes: u64 },
    #[error("the files have more than {ROWS_MAX} rows")]
    Rows,
    #[error("the time column '{0}' is none of the columns that hold times")]
    TimeColumn(String),
    #[error("the first time of {0} is later than its last, or there is no time column")]
    Times(String),
    #[error("a version names 1 to {CAPTURES_MAX} captures that its rows are from")]
    Captures,
    #[error("the manifest cannot be written down: {0}")]
    Write(String),
}

impl Manifest {
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.schema != SCHEMA {
            return Err(ManifestError::Schema(self.schema.chars().take(80).collect()));
        }
        let names: BTreeSet<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let named = |text: &str| (1..=NAME_CHARS_MAX).contains(&text.chars().count());
        let sound = self.columns.iter().all(|column| named(&column.name) && named(&column.stored));
        if !sound || names.len() != self.columns.len() || !(1..=COLUMNS_MAX).contains(&names.len()) {
            return Err(ManifestError::Columns);
        }
        if let Some(time) = &self.time_column
            && !self.columns.iter().any(|column| column.name == *time && column.kind == Kind::Time)
        {
            return Err(ManifestError::TimeColumn(time.chars().take(80).collect()));
        }
        let paths: BTreeSet<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        if paths.len() != self.files.len() || !(1..=FILES_MAX).contains(&paths.len()) {
            return Err(ManifestError::Files);
        }
        self.files.iter().try_for_each(|file| self.check_file(file))?;
        if self
            .files
            .iter()
            .try_fold(0_u64, |all, file| all.checked_add(file.rows))
            .is_none_or(|rows| rows > ROWS_MAX)
        {
            return Err(ManifestError::Rows);
        }
        match &self.source {
            Source::Captures { captures, .. } if !(1..=CAPTURES_MAX).contains(&captures.len()) => {
                Err(ManifestError::Captures)
            }
            Source::Files | Source::Captures { .. } => Ok(()),
        }
    }

    fn check_file(&self, file: &FileEntry) -> Result<(), ManifestError> {
        let FileEntry { path, bytes, from, to, .. } = file;
        let sound = |part: &str| !part.is_empty() && part != "." && part != "..";
        let plain = |c: char| !c.is_control() && c != '\\';
        if path.chars().count() > NAME_CHARS_MAX || !path.split('/').all(sound) || !path.chars().all(plain) {
            return Err(ManifestError::Path(path.chars().take(80).collect()));
        }
        if !(1..=FILE_BYTES_MAX).contains(bytes) {
            return Err(ManifestError::Bytes { path: path.clone(), bytes: *bytes });
        }
        let timed = match (from, to) {
            (None, None) => true,
            (Some(from), Some(to)) => from <= to && self.time_column.is_some(),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if timed { Ok(()) } else { Err(ManifestError::Times(path.clone())) }
    }

    /// The text whose digest names the version.
    pub fn canonical(&self) -> Result<Vec<u8>, ManifestError> {
        serde_json::to_vec(self).map_err(|error| ManifestError::Write(error.to_string()))
    }

    pub fn digest(&self) -> Result<Digest, ManifestError> {
        self.canonical().map(|text| Digest::of(&text))
    }

    /// What two files must have in common to be of one dataset.
    pub fn schema_digest(&self) -> Digest {
        schema_digest(&self.columns)
    }

    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// First and last time of all files.
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let from = self.files.iter().filter_map(|file| file.from).min()?;
        let to = self.files.iter().filter_map(|file| file.to).max()?;
        Some((from, to))
    }
}

pub fn schema_digest(columns: &[Column]) -> Digest {
    let lines: Vec<String> =
        columns.iter().map(|column| format!("{}\t{}\n", column.name, column.stored)).collect();
    Digest::of(lines.concat().as_bytes())
}

impl Kind {
    pub fn is_numeric(self) -> bool {
        match self {
            Self::Integer | Self::Real | Self::Time => true,
            Self::Boolean | Self::Text | Self::Opaque => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let column = |name: &str, kind| Column { name: name.to_owned(), kind, stored: "INT64".to_owned() };
        let file = FileEntry {
            path: "part/0.parquet".to_owned(),
            sha256: Digest::of(b"x"),
            bytes: 1,
            rows: 3,
            from: Some(Timestamp::from_seconds(1)),
            to: Some(Timestamp::from_seconds(2)),
        };
        Manifest {
            schema: SCHEMA.to_owned(),
            columns: vec![column("age", Kind::Integer), column("at", Kind::Time)],
            time_column: Some("at".to_owned()),
            files: vec![file],
            source: Source::Files,
        }
    }

    #[test]
    fn its_digest_is_that_of_its_content() {
        let one = manifest();
        assert_eq!(one.check(), Ok(()));
        let text = one.canonical().unwrap();
        let back: Manifest = serde_json::from_slice(&text).unwrap();
        assert_eq!((back.digest(), &back), (one.digest(), &one));
        let mut other = manifest();
        other.files[0].sha256 = Digest::of(b"y");
        assert_ne!(other.digest(), one.digest());
        assert_eq!(other.schema_digest(), one.schema_digest());
    }

    #[test]
    fn wrong_manifests_are_refused() {
        let check = |edit: fn(&mut Manifest), part: &str| {
            let mut wrong = manifest();
            edit(&mut wrong);
            let error = wrong.check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check(|m| m.schema = "other".to_owned(), "'other'");
        check(|m| m.columns.clear(), "columns");
        check(|m| m.columns[1].name = "age".to_owned(), "columns");
        check(|m| m.files.clear(), "files");
        check(|m| m.files.push(m.files[0].clone()), "its own path");
        for path in ["../x", "/x", "a//b", "a/./b", "", "a\\b", "a\nb"] {
            let mut wrong = manifest();
            path.clone_into(&mut wrong.files[0].path);
            assert_eq!(wrong.check(), Err(ManifestError::Path(path.to_owned())));
        }
        check(|m| m.files[0].bytes = 0, "0 bytes");
        check(|m| m.files[0].rows = u64::MAX, "rows");
        check(|m| m.time_column = Some("age".to_owned()), "'age'");
        check(|m| m.files[0].to = Some(Timestamp::from_seconds(0)), "later than its last");
        check(|m| m.files[0].from = None, "later than its last");
    }
}
