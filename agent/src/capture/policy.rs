//! What the site itself allows: one file on the box, written by the site, which the fleet can neither send nor change.
//!
//! ```toml
//! # /etc/muster/capture.toml
//! recipients = ["age1…"]               # the site's own; the other half stays with the site
//! until = "2027-06-30T00:00:00Z"
//! bytes = 268435456                    # of all files on the box; the oldest go first
//!
//! [slots.deterioration]
//! columns = ["age", "heart_rate"]      # features by name; a table without names has x[0], x[1], …
//! rows_per_day = 500
//! ```
//!
//! Whoever can write this file can have rows captured, so it is believed only if nobody but its owner can, and its owner
//! is root or the agent itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use muster_protocol::capture::CaptureStanding;
use muster_protocol::drift::Floor;
use muster_protocol::ids::SlotName;
use muster_protocol::limits::{FEATURES_MAX, SLOTS_MAX};
use muster_protocol::time::Timestamp;
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use super::age::{Recipient, RecipientError};

const FILE_BYTES_MAX: u64 = 256 * 1024;
const RECIPIENTS_MAX: usize = 8;
/// Two files of the largest size, so that making room for one never removes itself.
const BYTES_MIN: u64 = 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub recipients: Vec<Recipient>,
    /// Real time.
    pub until: Timestamp,
    /// All files together.
    pub bytes: u64,
    pub slots: BTreeMap<SlotName, SlotPolicy>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotPolicy {
    pub columns: BTreeSet<String>,
    pub rows_per_day: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("there is no capture policy at {}", .0.display())]
    Absent(PathBuf),
    #[error("the capture policy {} is a symbolic link; put the file itself there", .0.display())]
    Link(PathBuf),
    #[error("the capture policy {} is no regular file", .0.display())]
    NoFile(PathBuf),
    #[error(
        "the capture policy {} belongs to user {owner}; it must belong to root: 'chown root {}'",
        path.display(), path.display()
    )]
    Owner { path: PathBuf, owner: u32 },
    #[error(
        "the capture policy {} can be written by others than its owner (mode {mode:o}): 'chmod go-w {}'",
        path.display(), path.display()
    )]
    Writable { path: PathBuf, mode: u32 },
    #[error("the capture policy {} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the capture policy {} is not understood", path.display())]
    Toml {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("the capture policy names a recipient that is none")]
    Recipient(#[from] RecipientError),
    #[error("the capture policy's '{key}' is wrong: {rule}")]
    Value { key: &'static str, rule: &'static str },
}

impl PolicyError {
    pub fn standing(&self) -> CaptureStanding {
        match self {
            Self::Absent(_) => CaptureStanding::NoSitePolicy,
            Self::Link(_) | Self::NoFile(_) | Self::Owner { .. } | Self::Writable { .. } => {
                CaptureStanding::UnsafeSitePolicy
            }
            Self::Read { .. } | Self::Toml { .. } | Self::Recipient(_) | Self::Value { .. } => {
                CaptureStanding::UnreadableSitePolicy
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    recipients: Vec<String>,
    until: Timestamp,
    bytes: u64,
    slots: BTreeMap<SlotName, SlotPolicy>,
}

impl Policy {
    /// The file is looked at once it is open: what is checked is what is read.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {
                return Err(PolicyError::Absent(path.to_owned()));
            }
            Err(rustix::io::Errno::LOOP) => return Err(PolicyError::Link(path.to_owned())),
            Err(error) => return Err(PolicyError::Read { path: path.to_owned(), source: error.into() }),
        };
        let read = |source| PolicyError::Read { path: path.to_owned(), source };
        let found = file.metadata().map_err(read)?;
        if !found.is_file() {
            return Err(PolicyError::NoFile(path.to_owned()));
        }
        let owner = found.uid();
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Err(PolicyError::Owner { path: path.to_owned(), owner });
        }
        let mode = found.mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(PolicyError::Writable { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(read)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(read(io::Error::other("it is longer than any capture policy")));
        }
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, PolicyError> {
        let Written { recipients, until, bytes, slots } = toml::from_str(text)
            .map_err(|source| PolicyError::Toml { path: path.to_owned(), source: Box::new(source) })?;
        if !(1..=RECIPIENTS_MAX).contains(&recipients.len()) {
            return wrong("recipients", "name 1 to 8; nobody could read files without one");
        }
        if bytes < BYTES_MIN {
            return wrong("bytes", "write at least 1048576");
        }
        if slots.len() > SLOTS_MAX {
            return wrong("slots", "a box has 16 at most");
        }
        for slot in slots.values() {
            if slot.columns.len() > FEATURES_MAX {
                return wrong("columns", "a bundle has 4096 at most");
            }
            if slot.rows_per_day < Floor::LEAST.rows() {
                return wrong("rows_per_day", "write at least 5, or leave the slot out");
            }
        }
        let recipients = recipients.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        Ok(Self { recipients, until, bytes, slots })
    }
}

fn wrong<T>(key: &'static str, rule: &'static str) -> Result<T, PolicyError> {
    Err(PolicyError::Value { key, rule })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const GOOD: &str = "recipients = [\"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\"]\n\
        until = \"2027-06-30T00:00:00Z\"\nbytes = 1048576\n[slots.m]\ncolumns = [\"age\"]\nrows_per_day = 50\n";

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("capture.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_policy_that_others_could_have_written_is_refused() {
        let check = |mode, standing: Option<CaptureStanding>| {
            let (_dir, path) = written(GOOD, mode);
            let found = Policy::load(&path).err().map(|error| error.standing());
            assert_eq!(found, standing, "{mode:o}");
        };
        check(0o644, None);
        check(0o400, None);
        check(0o664, Some(CaptureStanding::UnsafeSitePolicy));
        check(0o646, Some(CaptureStanding::UnsafeSitePolicy));
        let (dir, path) = written(GOOD, 0o644);
        let link = dir.path().join("link.toml");
        symlink(&path, &link).unwrap();
        assert!(matches!(Policy::load(&link), Err(PolicyError::Link(_))));
        assert!(matches!(Policy::load(dir.path()), Err(PolicyError::NoFile(_))));
        assert!(matches!(Policy::load(&dir.path().join("none.toml")), Err(PolicyError::Absent(_))));
        // Only root can give a file away; elsewhere its owner is always the agent's own user.
        if rustix::process::geteuid().is_root() {
            rustix::fs::chown(&path, Some(rustix::fs::Uid::from_raw(1234)), None).unwrap();
            let error = Policy::load(&path).unwrap_err();
            assert!(matches!(error, PolicyError::Owner { owner: 1234, .. }), "{error}");
        }
    }

    #[test]
    fn mistakes_are_named_and_allow_nothing() {
        let check = |from: &str, to: &str, says: &str| {
            let (_dir, path) = written(&GOOD.replace(from, to), 0o644);
            let error = Policy::load(&path).unwrap_err();
            assert_eq!(error.standing(), CaptureStanding::UnreadableSitePolicy);
            assert!(crate::chain(&error).contains(says), "{}", crate::chain(&error));
        };
        check("rows_per_day", "rows_a_day", "rows_a_day");
        check("rows_per_day = 50", "rows_per_day = 4", "rows_per_day");
        check("age1ql3z", "age1ql3q", "age1ql3");
        check("bytes = 1048576", "bytes = 5", "bytes");
        check("2027-06-30", "soon", "until");
        check("recipients = [", "recipients = []\nx = [", "x");
    }
}
