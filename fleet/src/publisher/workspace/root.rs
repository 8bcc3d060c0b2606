//! The root's ceremonies: draft the first one or the next one, let the key holders sign, finish it.
//!
//! ```text
//!   new · edit ─▶ draft/root.json ─▶ signed by enough keys of the old root and of the new one ─▶ metadata/N.root.json
//! ```
//! A draft that devices would refuse for anything but missing signatures is not even written.

use std::collections::BTreeMap;
use std::path::Path;

use muster_protocol::ids::{Digest, ModelName};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::author::{self, Keys, RootSpec};
use muster_protocol::trust::{
    Envelope, FileName, Files, KeyId, PublicKey, Role, Sign, TrustError, TrustedSet,
};
use serde_json::Value;

use super::{Workspace, parse, remove, write};
use crate::publisher::draft::{Draft, Need, Progress};
use crate::publisher::error::PublisherError;
use crate::publisher::tls::TlsRoot;

/// What `root new` is told.
#[derive(Clone, Debug)]
pub struct RootRequest {
    pub root: Keys,
    pub targets: Keys,
    /// The fleet's key for snapshot and timestamp.
    pub online: PublicKey,
    /// The fleet's key for orders.
    pub order: PublicKey,
    /// Models whose retrained bundles a builder signs by itself, with the builder's key.
    pub delegate: Vec<(ModelName, PublicKey)>,
    /// PEM certificates.
    pub tls_roots: Vec<String>,
    pub expires: Timestamp,
}

/// What the next root changes; keys as they were typed.
#[derive(Clone, Debug, Default)]
pub struct RootChange {
    pub root: RoleChange,
    pub targets: RoleChange,
    pub online: Option<PublicKey>,
    pub order: Option<PublicKey>,
    pub add_tls: Vec<TlsRoot>,
    pub remove_tls: Vec<Digest>,
}

#[derive(Clone, Debug, Default)]
pub struct RoleChange {
    pub add: Vec<PublicKey>,
    /// A key, or the beginning of its id.
    pub remove: Vec<String>,
    pub threshold: Option<usize>,
}

impl Workspace {
    /// Drafts the first root or the next one, and the delegations in the catalogue's draft. Nothing is signed yet.
    pub fn new_root(&self, request: &RootRequest) -> Result<Draft, PublisherError> {
        self.no_draft_of_root()?;
        let before = self.root()?;
        let spec = RootSpec {
            version: before.as_ref().map_or(0, |root| root.versions().root).saturating_add(1),
            expires: request.expires,
            root: request.root.clone(),
            targets: request.targets.clone(),
            snapshot: Keys::one(request.online),
            timestamp: Keys::one(request.online),
            order: Keys::one(request.order),
            tls_roots: request.tls_roots.clone(),
        };
        let draft = self.draft_root(before.as_ref(), &spec, author::root(&spec)?)?;
        if !request.delegate.is_empty() {
            self.edit(&FileName::Targets, |targets| {
                for (model, key) in &request.delegate {
                    targets.delegate(model, &Keys::one(*key))?;
                }
                Ok(())
            })?;
        }
        self.save_signing(&draft)?;
        Ok(draft)
    }

    /// Drafts the next root: the newest one with these changes.
    pub fn edit_root(&self, change: &RootChange, expires: Timestamp) -> Result<Draft, PublisherError> {
        self.no_draft_of_root()?;
        let before = self.newest_root()?;
        let old = parse(&self.metadata("root.json"), before.root_bytes())?;
        let keys = |role| role_of(&before, &old, role);
        let online = |role| change.online.map_or_else(|| keys(role), Keys::one);
        let spec = RootSpec {
            version: before.versions().root.saturating_add(1),
            expires,
            root: self.change(keys(Role::Root), Role::Root, &change.root)?,
            targets: self.change(keys(Role::Targets), Role::Targets, &change.targets)?,
            snapshot: online(Role::Snapshot),
            timestamp: online(Role::Timestamp),
            order: change.order.map_or_else(|| keys(Role::Order), Keys::one),
            tls_roots: tls_roots(before.muster().tls_roots.clone(), change)?,
        };
        let envelope = keep_unknown(&old, &author::root(&spec)?)?;
        let draft = self.draft_root(Some(&before), &spec, envelope)?;
        self.save_signing(&draft)?;
        Ok(draft)
    }

    /// Adds signatures to the root's draft; with enough of them it is finished and moves to `metadata/`.
    pub fn sign_root(&self, signers: &[&dyn Sign]) -> Result<Progress, PublisherError> {
        let mut draft = self.root_draft()?;
        for signer in signers {
            draft.sign(*signer)?;
        }
        self.advance_root(&draft)
    }

    /// Takes over the signatures of copies that were signed elsewhere.
    pub fn collect_root(&self, copies: &[&Path]) -> Result<(usize, Progress), PublisherError> {
        let mut draft = self.root_draft()?;
        let mut added = 0;
        for path in copies {
            added += draft.collect(&Draft::read(path)?, path)?;
        }
        Ok((added, self.advance_root(&draft)?))
    }

    pub fn root_draft(&self) -> Result<Draft, PublisherError> {
        let draft =
            self.signing(&FileName::Root(1))?.ok_or_else(|| PublisherError::NoDraft("a root".to_owned()))?;
        let newest = self.root()?.map_or(0, |root| root.versions().root);
        if draft.version() != newest.saturating_add(1) {
            let (began, published) = (draft.version().saturating_sub(1), newest);
            return Err(PublisherError::Overtaken { what: "the root".to_owned(), began, published });
        }
        Ok(draft)
    }

    /// Gives the root's draft up. Whether there was one.
    pub fn discard_root(&self) -> Result<bool, PublisherError> {
        remove(&self.signing_path(&FileName::Root(1)))
    }

    fn no_draft_of_root(&self) -> Result<(), PublisherError> {
        let path = self.signing_path(&FileName::Root(1));
        if path.exists() {
            Err(PublisherError::DraftExists { what: "a root".to_owned(), path })
        } else {
            Ok(())
        }
    }

    /// Saves the draft, or what became of it.
    fn advance_root(&self, draft: &Draft) -> Result<Progress, PublisherError> {
        let bytes = draft.envelope().to_bytes();
        let before = self.root()?;
        match accepted(before.as_ref(), draft.file(), &bytes) {
            Ok(()) => {
                write(&self.metadata(&draft.file().wire()), &bytes)?;
                write(&self.metadata("root.json"), &bytes)?;
                self.discard_root()?;
            }
            Err(TrustError::Signature { .. }) => self.save_signing(draft)?,
            Err(error) => return Err(error.into()),
        }
        Ok(draft.progress())
    }

    fn draft_root(
        &self,
        before: Option<&TrustedSet>,
        spec: &RootSpec,
        envelope: Envelope,
    ) -> Result<Draft, PublisherError> {
        check_keys(spec)?;
        let file = FileName::Root(spec.version);
        match accepted(before, &file, &envelope.to_bytes()) {
            Ok(()) | Err(TrustError::Signature { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let mut needs = Vec::new();
        if let Some(before) = before {
            let old = parse(&self.metadata("root.json"), before.root_bytes())?;
            let version = before.versions().root;
            needs.push(Need::of(format!("root {version}"), &role_of(before, &old, Role::Root)));
        }
        let new = Need::of(format!("root {}", spec.version), &spec.root);
        if !needs.iter().any(|old| old.same_keys(&new)) {
            needs.push(new);
        }
        Ok(Draft::new(file, spec.version, envelope, needs, self.names()?))
    }

    fn change(&self, mut keys: Keys, role: Role, change: &RoleChange) -> Result<Keys, PublisherError> {
        let role = role.as_str();
        for key in &change.add {
            if keys.keys.contains(key) {
                return Err(PublisherError::AlreadyThere { role, public: key.to_string() });
            }
            keys.keys.push(*key);
        }
        for text in &change.remove {
            let among: BTreeMap<KeyId, PublicKey> =
                keys.keys.iter().map(|key| (key.key_id(), *key)).collect();
            let key = self.key_among(text, &among)?;
            if !keys.keys.contains(&key) {
                return Err(PublisherError::NotThere { role, public: key.to_string() });
            }
            keys.keys.retain(|kept| *kept != key);
        }
        keys.threshold = change.threshold.unwrap_or(keys.threshold);
        Ok(keys)
    }
}

/// The devices' own verdict.
fn accepted(before: Option<&TrustedSet>, file: &FileName, bytes: &[u8]) -> Result<(), TrustError> {
    match before {
        None => TrustedSet::from_root(bytes).map(drop),
        Some(before) => {
            let new = Files::from([(file.wire(), bytes.to_vec())]);
            before.clone().update_roots(&new).refused.map_or(Ok(()), Err)
        }
    }
}

/// What the devices' rules allow and the server's do not, or what is surely a slip.
fn check_keys(spec: &RootSpec) -> Result<(), PublisherError> {
    let offline = [("root", &spec.root), ("targets", &spec.targets)];
    let online = [("online", &spec.snapshot), ("online", &spec.timestamp), ("order", &spec.order)];
    for (role, keys) in offline.into_iter().chain(online) {
        for (at, key) in keys.keys.iter().enumerate() {
            if keys.keys[..at].contains(key) {
                return Err(PublisherError::TwiceInRole { role: role.to_owned(), public: key.to_string() });
            }
        }
    }
    for (offline, keys) in offline {
        for (online, others) in online {
            if keys.keys.iter().any(|key| others.keys.contains(key)) {
                return Err(PublisherError::Shared { offline, online });
            }
        }
    }
    Ok(())
}

fn role_of(root: &TrustedSet, envelope: &Envelope, role: Role) -> Keys {
    let keys = root.keys(role).into_values().collect();
    Keys { keys, threshold: root.count(role, envelope).needed }
}

fn tls_roots(mut roots: Vec<String>, change: &RootChange) -> Result<Vec<String>, PublisherError> {
    let has = |pem: &str, fingerprint| TlsRoot::parse(pem).is_ok_and(|root| root.fingerprint == fingerprint);
    for fingerprint in &change.remove_tls {
        let kept = roots.len();
        roots.retain(|pem| !has(pem, *fingerprint));
        if roots.len() == kept {
            return Err(PublisherError::TlsNotThere(fingerprint.to_string()));
        }
    }
    // A server's file names all its authorities, those of now too; a file that names no other is a slip.
    let before = roots.len();
    for new in &change.add_tls {
        if !roots.iter().any(|pem| has(pem, new.fingerprint)) {
            roots.push(new.pem.clone());
        }
    }
    match change.add_tls.first() {
        Some(there) if roots.len() == before => Err(PublisherError::TlsThere(there.subject.clone())),
        Some(_) | None => Ok(roots),
    }
}

/// What another tool or a later release put into the root stays there.
fn keep_unknown(old: &Envelope, new: &Envelope) -> Result<Envelope, PublisherError> {
    let mut merged = new.signed().clone();
    merge_missing(&mut merged, old.signed());
    if let (Some(new), Some(old)) = (
        merged.get_mut(muster_protocol::trust::MUSTER_FIELD),
        old.signed().get(muster_protocol::trust::MUSTER_FIELD),
    ) {
        merge_missing(new, old);
    }
    Ok(Envelope::unsigned(&merged).map_err(author::AuthorError::Envelope)?)
}

fn merge_missing(into: &mut Value, from: &Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        for (name, value) in from {
            into.entry(name).or_insert_with(|| value.clone());
        }
    }
}
