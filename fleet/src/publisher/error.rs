//! Why a ceremony went no further. Whatever the reason, what was published before is untouched.

use std::path::PathBuf;

use muster_protocol::ids::BundlePath;
use muster_protocol::time::Timestamp;
use muster_protocol::trust::author::AuthorError;
use muster_protocol::trust::{EnvelopeError, KeyError, KeyId, SignError, TrustError};

use super::draft::Progress;
use super::keys::KeyFileError;
use super::tls::TlsRootError;

#[derive(Debug, thiserror::Error)]
pub enum PublisherError {
    #[error("cannot read {}; {hint}", path.display())]
    Read {
        path: PathBuf,
        hint: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} cannot be read as a signed file", path.display())]
    Envelope {
        path: PathBuf,
        #[source]
        source: EnvelopeError,
    },
    #[error("{} is no draft: {reason}", path.display())]
    Draft { path: PathBuf, reason: String },
    #[error("there is no draft of {0}")]
    NoDraft(String),
    #[error("a draft of {what} exists already: {}", path.display())]
    DraftExists { what: String, path: PathBuf },
    #[error(
        "{what} version {version} is being signed, so it cannot be changed any more: finish it, or give it up by `muster release discard`"
    )]
    BeingSigned { what: String, version: u64 },
    #[error(
        "this draft of {what} began at version {began}, and version {published} is published since: look at your changes (`muster release diff`), give them up (`muster release discard`) and make them again"
    )]
    Overtaken { what: String, began: u64, published: u64 },
    #[error("{} is not a copy of the draft in this workspace: what was signed there is something else", path.display())]
    OtherDraft { path: PathBuf },
    #[error("{0} is not in the catalogue being edited")]
    Absent(BundlePath),
    #[error("{0} is neither in the catalogue nor delegated to anybody; is its name right?")]
    Unknown(BundlePath),
    #[error("{0} is not revoked")]
    NotRevoked(BundlePath),
    #[error("{0} is revoked; take that back first: `muster release reinstate`")]
    Revoked(BundlePath),
    #[error(
        "a path names one bundle for ever, and {0} names another one already: give the bundle a new version"
    )]
    OtherContent(BundlePath),
    #[error("only the targets role may revoke; a delegated role takes a bundle out by `muster release yank`")]
    RevokedByRole,
    #[error("'{0}' is no name for a key: use letters, digits and '-'")]
    Name(String),
    #[error("{} exists; a key is never overwritten, take another name", path.display())]
    NameTaken { path: PathBuf },
    #[error(
        "'{0}' is no name of a role: use a-z, 0-9 and '-', and none of root, targets, snapshot, timestamp"
    )]
    Role(String),
    #[error("too few have signed {what}: {progress}")]
    TooFew { what: String, progress: Progress },
    #[error("key {key} ({public}) is not asked for {what}; its signature would count for nothing", key = key.short())]
    NotAsked { key: KeyId, public: String, what: String },
    #[error("the same key is given twice for {role}: {public}")]
    TwiceInRole { role: String, public: String },
    #[error(
        "one key for both {offline} and {online}: the server holds the {online} key, and whoever steals the server must not get {offline}"
    )]
    Shared { offline: &'static str, online: &'static str },
    #[error("{public} is a {role} key already")]
    AlreadyThere { role: &'static str, public: String },
    #[error("{public} is no {role} key")]
    NotThere { role: &'static str, public: String },
    #[error("the root has this TLS root already: {0}")]
    TlsThere(String),
    #[error("the root has no such TLS root: {0}")]
    TlsNotThere(String),
    #[error("the next root would be the same as this one; say what to change, --expires at least")]
    NoChange,
    #[error("the newest root expired at {0}; make the next one first: `muster root edit`")]
    RootExpired(Timestamp),
    #[error(
        "{file} is {length} bytes long, more than the {max} that boxes read: `muster release prune` makes it shorter"
    )]
    TooLarge { file: String, length: usize, max: usize },
    #[error("{path} is not delegated to {role}, which may list {patterns}")]
    Undelegated { path: BundlePath, role: String, patterns: String },
    #[error(
        "targets.json delegates nothing to '{role}'; its publisher must: `muster delegation add {role} …`"
    )]
    NoDelegation { role: String },
    #[error("there is no delegation '{0}'")]
    DelegationAbsent(String),
    #[error("{file} is signed by too few of the keys that may sign it; nothing was taken over")]
    Forged { file: String },
    #[error(
        "{file}: this workspace has version {own}, and the fleet offers version {offered}; nothing was taken over"
    )]
    Backwards { file: String, own: u64, offered: u64 },
    #[error(
        "{file} version {version} exists twice, here and on the fleet, with different content: two publishers signed the same version; keep one, and let the other sign the next"
    )]
    Forked { file: String, version: u64 },
    #[error("'{0}' is no key id, key name, key file or public key that is known here")]
    UnknownKey(String),
    #[error("a key cannot be used")]
    Key(#[from] KeyFileError),
    #[error("a public key cannot be used")]
    Public(#[from] KeyError),
    #[error("a TLS root cannot be used")]
    Tls(#[from] TlsRootError),
    #[error("devices would refuse the root")]
    Trust(#[from] TrustError),
    #[error("the file cannot be written")]
    Author(#[from] AuthorError),
    #[error("signing failed")]
    Sign(#[from] SignError),
}
