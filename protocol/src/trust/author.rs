//! Writing trust files: what a publisher, a builder and the fleet sign. Pure: keys, times and versions are handed in,
//! nothing is stored.
//!
//! A file is made as an [`Envelope`], signed by as many keys as its role needs, and turned into bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::catalogue::Target;
use super::documents::{DelegatedRole, Delegations, Hashes, Index, Meta, Root, TargetFile, Targets};
use super::envelope::{Envelope, EnvelopeError};
use super::files::FileName;
use super::key::{KeyId, PublicKey, Sign, SignError};
use super::revocation::{self, REVOKED_FIELD, Revocation, Revocations};
use super::root::{MusterRoot, RoleKeys};
use super::{Order, SPEC_VERSION, Want};
use crate::capture::CaptureRequest;
use crate::ids::{BundlePath, DeviceId, Digest, ModelName};
use crate::limits::{BUNDLE_PATH_BYTES_MAX, DELEGATIONS_MAX, PATTERNS_MAX};
use crate::time::Timestamp;

/// How long an order may be acted upon.
pub const ORDER_LIFE: Duration = Duration::from_hours(14 * 24);
/// How long the online index files are good; they are signed anew every day.
pub const TIMESTAMP_LIFE: Duration = Duration::from_hours(7 * 24);
pub const SNAPSHOT_LIFE: Duration = Duration::from_hours(14 * 24);
/// The longest between two timestamps of a fleet that is well. A device that has seen none for twice as long says so.
pub const TIMESTAMP_PERIOD: Duration = Duration::from_hours(24);

#[derive(Debug, thiserror::Error)]
pub enum AuthorError {
    #[error("{role} has {keys} different keys and can never reach its threshold of {threshold}")]
    Threshold { role: String, keys: usize, threshold: usize },
    #[error("the document cannot be written as canonical JSON")]
    Envelope(#[source] EnvelopeError),
    #[error("the file is not one that can be edited")]
    Document(#[source] serde_json::Error),
    #[error("signing failed")]
    Sign(#[source] SignError),
    #[error("nothing can be delegated to '{role}': {reason}")]
    Delegation { role: String, reason: String },
    #[error("what is revoked cannot be read or written: {0}")]
    Revocations(String),
}

/// Keys of a role and how many of them must sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub keys: Vec<PublicKey>,
    pub threshold: usize,
}

/// A `N.root.json` to be.
#[derive(Clone, Debug)]
pub struct RootSpec {
    pub version: u64,
    pub expires: Timestamp,
    pub root: Keys,
    pub targets: Keys,
    pub snapshot: Keys,
    pub timestamp: Keys,
    pub order: Keys,
    /// PEM certificates.
    pub tls_roots: Vec<String>,
}

/// A targets file being edited: the catalogue itself, or what a builder publishes for one model.
#[derive(Clone, Debug)]
pub struct TargetsSpec(Targets);

/// Who may list the bundles whose paths match, beside the targets role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    pub role: String,
    pub patterns: Vec<String>,
    pub keys: Keys,
    /// Nobody after it is asked about these paths.
    pub terminating: bool,
}

/// What a snapshot or a timestamp says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    pub version: u64,
    pub length: u64,
    pub sha256: Digest,
}

/// An order to be.
#[derive(Clone, Debug)]
pub struct OrderSpec {
    pub device: DeviceId,
    pub version: u64,
    pub issued: Timestamp,
    pub expires: Timestamp,
    pub catalogue: u64,
    pub want: Vec<Want>,
    pub capture: Vec<CaptureRequest>,
}

/// The role that a model's retrained bundles are delegated to.
pub fn auto_role(model: &ModelName) -> String {
    format!("auto-{model}")
}

/// Signs with all of these keys and gives the file's bytes.
pub fn sign(mut envelope: Envelope, signers: &[&dyn Sign]) -> Result<Vec<u8>, AuthorError> {
    for signer in signers {
        envelope.sign(*signer).map_err(AuthorError::Sign)?;
    }
    Ok(envelope.to_bytes())
}

pub fn root(spec: &RootSpec) -> Result<Envelope, AuthorError> {
    let named = [
        ("root", &spec.root),
        ("targets", &spec.targets),
        ("snapshot", &spec.snapshot),
        ("timestamp", &spec.timestamp),
    ];
    let mut keys = BTreeMap::new();
    let mut roles = BTreeMap::new();
    for (role, role_keys) in named {
        roles.insert(role.to_owned(), role_keys.named(role)?);
        keys.extend(role_keys.keys.iter().map(|key| (key.key_id(), (*key).into())));
    }
    let order = spec.order.named("order")?;
    keys.extend(spec.order.keys.iter().map(|key| (key.key_id(), (*key).into())));
    envelope(&Root {
        type_: "root".to_owned(),
        spec_version: SPEC_VERSION.to_owned(),
        version: spec.version,
        expires: spec.expires,
        consistent_snapshot: true,
        keys,
        roles,
        muster: MusterRoot { order, tls_roots: spec.tls_roots.clone() },
    })
}

/// `pins` by name: `targets.json`, `auto-<model>.json`.
pub fn snapshot(
    version: u64,
    expires: Timestamp,
    pins: &BTreeMap<String, Pin>,
) -> Result<Envelope, AuthorError> {
    index("snapshot", version, expires, pins, None)
}

pub fn timestamp(
    version: u64,
    expires: Timestamp,
    issued: Timestamp,
    pin: Pin,
) -> Result<Envelope, AuthorError> {
    index("timestamp", version, expires, &BTreeMap::from([("snapshot.json".to_owned(), pin)]), Some(issued))
}

pub fn order(spec: &OrderSpec) -> Result<Envelope, AuthorError> {
    envelope(&Order {
        type_: Order::TYPE.to_owned(),
        spec_version: SPEC_VERSION.to_owned(),
        version: spec.version,
        issued: spec.issued,
        expires: spec.expires,
        device: spec.device.clone(),
        catalogue: spec.catalogue,
        want: spec.want.clone(),
        capture: spec.capture.clone(),
    })
}

/// A fleet restored from yesterday's backup still counts past what devices have seen: the time is part of the version.
pub fn next_order_version(last: u64, now: Timestamp) -> u64 {
    last.saturating_add(1).max(u64::try_from(now.as_seconds()).unwrap_or(0))
}

impl Keys {
    pub fn one(key: PublicKey) -> Self {
        Self { keys: vec![key], threshold: 1 }
    }

    fn named(&self, role: &str) -> Result<RoleKeys, AuthorError> {
        let mut keyids: Vec<KeyId> = self.keys.iter().map(PublicKey::key_id).collect();
        keyids.sort();
        keyids.dedup();
        if self.threshold == 0 || self.threshold > keyids.len() {
            let role = role.to_owned();
            return Err(AuthorError::Threshold { role, keys: keyids.len(), threshold: self.threshold });
        }
        Ok(RoleKeys { keyids, threshold: self.threshold })
    }
}

impl Pin {
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        Self { version, length: bytes.len() as u64, sha256: Digest::of(bytes) }
    }
}

/// What a snapshot pins, by name. Its signatures are not looked at.
pub fn pins_of(snapshot: &[u8]) -> Result<BTreeMap<String, Pin>, AuthorError> {
    let index: Index = Envelope::parse(snapshot)
        .map_err(AuthorError::Envelope)?
        .document()
        .map_err(AuthorError::Document)?;
    let pin = |meta: &Meta| Pin { version: meta.version, length: meta.length, sha256: meta.hashes.sha256 };
    Ok(index.meta.iter().map(|(name, meta)| (name.clone(), pin(meta))).collect())
}

impl TargetsSpec {
    /// An empty one, version 0: [`Self::next`] makes it the first.
    pub fn empty() -> Self {
        Self(Targets {
            type_: "targets".to_owned(),
            spec_version: SPEC_VERSION.to_owned(),
            version: 0,
            expires: Timestamp::default(),
            targets: BTreeMap::new(),
            delegations: None,
            extra: BTreeMap::new(),
        })
    }

    /// The file that was published last, to be edited. Its signatures are not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, AuthorError> {
        let envelope = Envelope::parse(bytes).map_err(AuthorError::Envelope)?;
        envelope.document().map(Self).map_err(AuthorError::Document)
    }

    pub fn version(&self) -> u64 {
        self.0.version
    }

    pub fn expires(&self) -> Timestamp {
        self.0.expires
    }

    /// The next version.
    #[must_use]
    pub fn next(mut self, expires: Timestamp) -> Self {
        self.0.version = self.0.version.saturating_add(1);
        self.0.expires = expires;
        self
    }

    pub fn put(&mut self, target: &Target) {
        let file = TargetFile {
            length: target.length,
            hashes: Hashes { sha256: target.sha256 },
            custom: target.custom.clone(),
            extra: BTreeMap::new(),
        };
        self.0.targets.insert(target.path.to_string(), file);
    }

    /// Takes a bundle out of the catalogue: it is never activated again. Whether it was in it.
    pub fn remove(&mut self, path: &BundlePath) -> bool {
        self.0.targets.remove(&path.to_string()).is_some()
    }

    /// What it lists, by path.
    pub fn targets(&self) -> Vec<Target> {
        self.0
            .targets
            .iter()
            .filter_map(|(path, file)| {
                Some(Target {
                    path: path.parse().ok()?,
                    length: file.length,
                    sha256: file.hashes.sha256,
                    custom: file.custom.clone(),
                })
            })
            .collect()
    }

    /// Says that a bundle must not run any more, and why; it leaves the catalogue too. Replaces an earlier revocation.
    pub fn revoke(&mut self, path: &BundlePath, revocation: Revocation) -> Result<(), AuthorError> {
        let mut revoked = self.revocations()?;
        revoked.insert(path.clone(), revocation);
        self.remove(path);
        self.set_revocations(&revoked)
    }

    /// Takes a revocation back. The bundle may be put into the catalogue again. Whether it was revoked.
    pub fn reinstate(&mut self, path: &BundlePath) -> Result<bool, AuthorError> {
        let mut revoked = self.revocations()?;
        let was = revoked.remove(path).is_some();
        self.set_revocations(&revoked)?;
        Ok(was)
    }

    pub fn revocations(&self) -> Result<Revocations, AuthorError> {
        revocation::read(self.0.extra.get(REVOKED_FIELD)).map_err(AuthorError::Revocations)
    }

    fn set_revocations(&mut self, revoked: &Revocations) -> Result<(), AuthorError> {
        if revoked.is_empty() {
            self.0.extra.remove(REVOKED_FIELD);
            return Ok(());
        }
        let field = serde_json::to_value(revoked).map_err(AuthorError::Document)?;
        // What a box would refuse to read is not written.
        revocation::read(Some(&field)).map_err(AuthorError::Revocations)?;
        self.0.extra.insert(REVOKED_FIELD.to_owned(), field);
        Ok(())
    }

    /// Lets these keys, and nobody else after them, say what stands under `bundles/<model>/auto/`.
    pub fn delegate(&mut self, model: &ModelName, keys: &Keys) -> Result<(), AuthorError> {
        let paths = vec![format!("bundles/{model}/auto/*")];
        self.delegate_paths(&auto_role(model), paths, keys, true)
    }

    /// Lets these keys say what stands under the paths that match, such as `bundles/radiology/*` of another vendor; `*`
    /// stays within one segment. Terminating: nobody after them is asked about these paths. Replaces an earlier
    /// delegation of this name, in its place; a new one comes last.
    pub fn delegate_paths(
        &mut self,
        role: &str,
        patterns: Vec<String>,
        keys: &Keys,
        terminating: bool,
    ) -> Result<(), AuthorError> {
        let wrong =
            |reason: &str| AuthorError::Delegation { role: role.to_owned(), reason: reason.to_owned() };
        FileName::delegated(role).map_err(|_| wrong("write its name in a-z, 0-9 and '-'"))?;
        if patterns.is_empty() || patterns.len() > PATTERNS_MAX {
            return Err(wrong(&format!("give it 1 to {PATTERNS_MAX} patterns of paths")));
        }
        if let Some(pattern) = patterns.iter().find(|pattern| !is_pattern(pattern)) {
            return Err(wrong(&format!(
                "'{pattern}' matches no bundle; write for instance bundles/radiology/*"
            )));
        }
        let RoleKeys { keyids, threshold } = keys.named(role)?;
        let delegations = self.0.delegations.get_or_insert_default();
        let place = delegations.roles.iter().position(|other| other.name == role);
        if place.is_none() && delegations.roles.len() >= DELEGATIONS_MAX {
            return Err(wrong(&format!("boxes follow {DELEGATIONS_MAX} delegations and no more")));
        }
        delegations.keys.extend(keys.keys.iter().map(|key| (key.key_id(), (*key).into())));
        let role = DelegatedRole {
            name: role.to_owned(),
            keyids,
            threshold,
            terminating,
            paths: Some(patterns),
            extra: BTreeMap::new(),
        };
        match place.and_then(|at| delegations.roles.get_mut(at)) {
            Some(before) => *before = role,
            None => delegations.roles.push(role),
        }
        delegations.drop_unused_keys();
        Ok(())
    }

    /// Ends a delegation: the model's retrained bundles leave the catalogue.
    pub fn undelegate(&mut self, model: &ModelName) -> bool {
        self.undelegate_role(&auto_role(model))
    }

    /// Ends a delegation by its name: what it lists leaves the catalogue. Whether there was one.
    pub fn undelegate_role(&mut self, role: &str) -> bool {
        let Some(delegations) = &mut self.0.delegations else { return false };
        let before = delegations.roles.len();
        delegations.roles.retain(|other| other.name != role);
        delegations.drop_unused_keys();
        delegations.roles.len() < before
    }

    /// Who else may list bundles, in the order in which they are asked.
    pub fn delegations(&self) -> Vec<Delegation> {
        let Some(delegations) = &self.0.delegations else { return Vec::new() };
        let known = |role: &DelegatedRole| {
            role.keyids
                .iter()
                .filter_map(|id| delegations.keys.get(id))
                .map(super::documents::Key::public)
                .collect()
        };
        let told = delegations.roles.iter().map(|role| Delegation {
            role: role.name.clone(),
            patterns: role.paths.clone().unwrap_or_default(),
            keys: Keys { keys: known(role), threshold: role.threshold },
            terminating: role.terminating,
        });
        told.collect()
    }

    /// The keys to which a model's retrained bundles are delegated.
    pub fn delegate_keys(&self, model: &ModelName) -> Vec<PublicKey> {
        let role = self.delegations().into_iter().find(|found| found.role == auto_role(model));
        role.map(|found| found.keys.keys).unwrap_or_default()
    }

    pub fn envelope(&self) -> Result<Envelope, AuthorError> {
        envelope(&self.0)
    }
}

impl Delegations {
    fn drop_unused_keys(&mut self) {
        let roles = &self.roles;
        self.keys.retain(|id, _| roles.iter().any(|role| role.keyids.contains(id)));
    }
}

/// A target entry for a bundle's manifest.
pub fn target(path: BundlePath, manifest: &[u8], custom: Value) -> Target {
    Target { path, length: manifest.len() as u64, sha256: Digest::of(manifest), custom }
}

/// `bundles/<model>/<version>` or `bundles/<model>/auto/<version>`, with `*` and `?` in it: a pattern of another shape
/// would match nothing, which its author would learn only when no box finds the bundle.
fn is_pattern(pattern: &str) -> bool {
    let mut segments = pattern.split('/');
    let plain = |segment: &str| {
        !segment.is_empty()
            && segment != ".."
            && segment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.*?".contains(&b))
    };
    segments.next() == Some("bundles")
        && pattern.len() <= BUNDLE_PATH_BYTES_MAX
        && match segments.collect::<Vec<_>>().as_slice() {
            [model, version] => plain(model) && plain(version),
            [model, auto, version] => plain(model) && plain(version) && *auto == "auto",
            _ => false,
        }
}

fn index(
    kind: &str,
    version: u64,
    expires: Timestamp,
    pins: &BTreeMap<String, Pin>,
    issued: Option<Timestamp>,
) -> Result<Envelope, AuthorError> {
    let meta =
        |pin: &Pin| Meta { version: pin.version, length: pin.length, hashes: Hashes { sha256: pin.sha256 } };
    envelope(&Index {
        type_: kind.to_owned(),
        spec_version: SPEC_VERSION.to_owned(),
        version,
        expires,
        meta: pins.iter().map(|(name, pin)| (name.clone(), meta(pin))).collect(),
        issued,
    })
}

fn envelope(document: &impl serde::Serialize) -> Result<Envelope, AuthorError> {
    Envelope::unsigned(document).map_err(AuthorError::Envelope)
}
