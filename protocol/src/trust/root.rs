//! Whom a root trusts: the keys of each role, and what stands under `x-muster`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::checks::public_key;
use super::error::TrustError;
use super::files::FileName;
use super::key::{KeyId, PublicKey};
use super::{LAX, MUSTER_FIELD, Threshold};

/// Bound on what one role may name.
const ROLE_KEYS_MAX: usize = 32;
/// Bound on TLS roots in `root.json`.
const TLS_ROOTS_MAX: usize = 32;

/// Who signs what. `Order` is not TUF's: its keys stand under `x-muster`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Root,
    Targets,
    Snapshot,
    Timestamp,
    Order,
}

/// The keys of a role, by name, and how many of them must sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    pub keyids: Vec<KeyId>,
    pub threshold: usize,
}

/// The field `x-muster` of `root.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MusterRoot {
    pub order: RoleKeys,
    /// PEM certificates of the authorities that devices accept servers from.
    #[serde(default)]
    pub tls_roots: Vec<String>,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
            Self::Order => "order",
        }
    }
}

/// A root, understood.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    pub(crate) muster: MusterRoot,
    roles: BTreeMap<Role, (BTreeMap<KeyId, PublicKey>, usize)>,
}

impl Authority {
    pub(crate) fn of(root: &sigstore_tuf::Root) -> Result<Self, TrustError> {
        let file = FileName::Root(root.version);
        if LAX && !root.extra.contains_key(MUSTER_FIELD) {
            return Ok(Self::foreign(root));
        }
        let muster = root.extra.get(MUSTER_FIELD).ok_or_else(|| {
            TrustError::document(
                &file,
                format!("nothing under '{MUSTER_FIELD}', where the order keys belong"),
            )
        })?;
        let muster: MusterRoot = serde_json::from_value(muster.clone()).map_err(|error| {
            TrustError::document(&file, format!("something wrong under '{MUSTER_FIELD}': {error}"))
        })?;
        if muster.tls_roots.len() > TLS_ROOTS_MAX {
            return Err(TrustError::document(&file, format!("more than {TLS_ROOTS_MAX} TLS roots")));
        }
        let mut roles = BTreeMap::new();
        for role in [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp] {
            let keys = root
                .role(role.as_str())
                .ok_or_else(|| TrustError::document(&file, format!("no keys for {}", role.as_str())))?;
            let named = keys.keyids.iter().map(|id| KeyId::from(id.as_str())).collect();
            let keys = RoleKeys { keyids: named, threshold: keys.threshold };
            roles.insert(role, (resolve(&file, root, role, &keys)?, keys.threshold));
        }
        roles
            .insert(Role::Order, (resolve(&file, root, Role::Order, &muster.order)?, muster.order.threshold));
        Ok(Self { muster, roles })
    }

    /// A root of somebody else: nobody may order anything, and of its keys only those are known that we can use.
    fn foreign(root: &sigstore_tuf::Root) -> Self {
        let muster =
            MusterRoot { order: RoleKeys { keyids: Vec::new(), threshold: 1 }, tls_roots: Vec::new() };
        let file = FileName::Root(root.version);
        let named =
            [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp].into_iter().filter_map(|role| {
                let keys = root.role(role.as_str())?;
                let known = keys.keyids.iter().filter_map(|id| {
                    let key = serde_json::to_value(root.keys.get(id.as_str())?).ok()?;
                    Some((KeyId::from(id.as_str()), public_key(&file, &key).ok()?))
                });
                Some((role, (known.collect(), keys.threshold)))
            });
        Self { muster, roles: named.collect() }
    }

    pub(crate) fn keys(&self, role: Role) -> BTreeMap<KeyId, PublicKey> {
        self.roles.get(&role).map(|(keys, _)| keys.clone()).unwrap_or_default()
    }

    pub(crate) fn threshold(&self, role: Role) -> usize {
        self.roles.get(&role).map_or(0, |(_, threshold)| *threshold)
    }

    pub(crate) fn count(&self, role: Role, envelope: &super::Envelope) -> Threshold {
        match self.roles.get(&role) {
            Some((keys, threshold)) => envelope.count(keys, *threshold),
            None => Threshold { found: 0, needed: 0 },
        }
    }
}

/// The keys that a role names. All of them must be there, and enough of them for the threshold.
fn resolve(
    file: &FileName,
    root: &sigstore_tuf::Root,
    role: Role,
    keys: &RoleKeys,
) -> Result<BTreeMap<KeyId, PublicKey>, TrustError> {
    let role = role.as_str();
    if keys.keyids.len() > ROLE_KEYS_MAX {
        return Err(TrustError::document(file, format!("more than {ROLE_KEYS_MAX} keys for {role}")));
    }
    let mut found = BTreeMap::new();
    for id in &keys.keyids {
        let key = root.keys.get(id.as_str()).ok_or_else(|| {
            TrustError::document(file, format!("that {role} has the key {}, but not what it is", id.short()))
        })?;
        let key = serde_json::to_value(key)
            .map_err(|error| TrustError::document(file, format!("a key that is not one: {error}")))?;
        found.insert(id.clone(), public_key(file, &key)?);
    }
    if keys.threshold == 0 || keys.threshold > found.len() {
        return Err(TrustError::document(
            file,
            format!("that {role} needs {} signatures of {} keys", keys.threshold, found.len()),
        ));
    }
    Ok(found)
}
