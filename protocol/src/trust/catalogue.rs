//! The trusted state: which root, timestamp, snapshot and targets files hold now, and what they say may run.
//!
//! It never changes by half. [`super::refresh`] moves it from one complete state to the next.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sigstore_tuf::{Role as _, TrustedMetadataSet};

use super::checks::check;
use super::error::{TrustError, from_jiff};
use super::files::FileName;
use super::key::{KeyId, PublicKey};
use super::revocation::Revocations;
use super::root::{Authority, MusterRoot, Role};
use super::{Envelope, Files, ISSUED_FIELD, Threshold, provider};
use crate::ids::{BundlePath, Digest};
use crate::limits::DELEGATIONS_MAX;
use crate::time::Timestamp;

/// What the catalogue says of one bundle: how long its manifest is and what it hashes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub path: BundlePath,
    pub length: u64,
    pub sha256: Digest,
    /// What the publisher wrote beside it: model, version, hardware.
    #[serde(default)]
    pub custom: Value,
}

/// Why the catalogue has no answer about a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    #[error("{path} is not in the catalogue")]
    Absent { path: BundlePath },
    #[error("the catalogue is not complete yet: {} still to come", missing.join(", "))]
    Incomplete { missing: Vec<String> },
    #[error("{file} expired at {at}; its signer must sign a fresh one")]
    Expired { file: String, at: Timestamp },
    #[error("{file}, which would list the bundle, cannot be used: {reason}")]
    Unusable { file: String, reason: String },
}

/// Versions of what is trusted; a report of a device carries them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    pub root: u64,
    pub timestamp: Option<u64>,
    pub snapshot: Option<u64>,
    pub targets: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub delegated: BTreeMap<String, u64>,
}

#[derive(Clone, Debug)]
pub struct TrustedSet {
    pub(super) set: TrustedMetadataSet,
    pub(super) authority: Authority,
    /// Exactly the bytes that `set` was made of, by their name on the wire, without roots.
    pub(super) held: Files,
    /// A newer timestamp, and perhaps its snapshot, that were verified while the rest has not come yet or was refused.
    /// They say nothing of bundles, but nobody can go back behind them.
    pub(super) ahead: Files,
    /// Delegated files that are pinned and have not come yet.
    pub(super) missing: BTreeSet<String>,
    /// Delegated files that came and were refused, each with the reason: only their own bundles suffer.
    pub(super) unusable: BTreeMap<String, String>,
    /// What `targets.json` says must not run any more.
    pub(super) revoked: Revocations,
}

impl TrustedSet {
    /// Starts from a root that was brought here by hand: it must be signed by itself; its expiry is asked later.
    pub fn from_root(bytes: &[u8]) -> Result<Self, TrustError> {
        provider::install();
        // Which version it has is what we are about to learn.
        let version = Envelope::parse(bytes)
            .map_err(|source| TrustError::Malformed { file: "root.json".to_owned(), source })?
            .signed()
            .get("version")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        let file = FileName::Root(version);
        check(&file, bytes)?;
        let set = TrustedMetadataSet::from_root(bytes).map_err(|error| TrustError::of(&file, error))?;
        let authority = Authority::of(set.root())?;
        Ok(Self {
            set,
            authority,
            held: Files::new(),
            ahead: Files::new(),
            missing: BTreeSet::new(),
            unusable: BTreeMap::new(),
            revoked: Revocations::new(),
        })
    }

    pub fn root_bytes(&self) -> &[u8] {
        self.set.root_bytes()
    }

    pub fn muster(&self) -> &MusterRoot {
        &self.authority.muster
    }

    /// The keys that the root names for a role.
    pub fn keys(&self, role: Role) -> BTreeMap<KeyId, PublicKey> {
        self.authority.keys(role)
    }

    /// How many keys of a role must sign.
    pub fn threshold(&self, role: Role) -> usize {
        self.authority.threshold(role)
    }

    /// How many keys of a role signed this.
    pub fn count(&self, role: Role, envelope: &Envelope) -> Threshold {
        self.authority.count(role, envelope)
    }

    /// The bytes of a file that is trusted now, by its name on the wire.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.held.get(name).map(Vec::as_slice)
    }

    /// All trusted files but the root, by their names on the wire.
    pub fn files(&self) -> &Files {
        &self.held
    }

    /// Verified files that are newer than the trusted ones, until all is there that they lead to: floors, to be put at
    /// rest by [`ahead_at_rest`](super::ahead_at_rest).
    pub fn ahead(&self) -> &Files {
        &self.ahead
    }

    pub fn versions(&self) -> Versions {
        Versions {
            root: self.set.root().version,
            timestamp: self.set.timestamp().map(|t| t.version),
            snapshot: self.set.snapshot().map(|s| s.version),
            targets: self.set.targets_role("targets").map(|t| t.version),
            delegated: self
                .roles()
                .into_iter()
                .filter(|role| role != "targets")
                .filter_map(|role| Some((role.clone(), self.set.targets_role(&role)?.version)))
                .collect(),
        }
    }

    /// When each trusted file stops allowing change, by its name.
    pub fn expiries(&self) -> BTreeMap<String, Timestamp> {
        let mut all = BTreeMap::from([("root.json".to_owned(), from_jiff(self.set.root().expires))]);
        let lower = [
            ("timestamp.json", self.set.timestamp().map(|t| t.expires)),
            ("snapshot.json", self.set.snapshot().map(|s| s.expires)),
        ];
        all.extend(lower.into_iter().filter_map(|(name, at)| Some((name.to_owned(), from_jiff(at?)))));
        for role in self.roles() {
            if let Some(targets) = self.set.targets_role(&role) {
                all.insert(format!("{role}.json"), from_jiff(targets.expires));
            }
        }
        all
    }

    /// Finds a bundle as TUF does: the targets role first, then the roles it delegates the path to, depth first. An
    /// answer is good at `now` only: expired metadata allows no change.
    pub fn lookup(&self, path: &BundlePath, now: Timestamp) -> Result<Target, LookupError> {
        self.lookup_at(path, now.to_jiff())
    }

    /// What the catalogue last said of a bundle, however long ago. For showing and for booting, not for changing.
    pub fn find_target(&self, path: &BundlePath) -> Option<Target> {
        self.listed(path).ok()
    }

    /// As [`Self::find_target`], with the reason.
    pub(super) fn listed(&self, path: &BundlePath) -> Result<Target, LookupError> {
        self.lookup_at(path, jiff::Timestamp::MIN)
    }

    /// Everything that may run, as [`Self::find_target`] has it.
    pub fn targets(&self) -> Vec<Target> {
        let listed: BTreeSet<BundlePath> = self
            .roles()
            .iter()
            .filter_map(|role| self.set.targets_role(role))
            .flat_map(|targets| targets.targets.keys())
            .filter_map(|path| path.parse().ok())
            .collect();
        listed.iter().filter_map(|path| self.find_target(path)).collect()
    }

    /// What the newest trusted catalogue says must not run any more, however old it is.
    pub fn revocations(&self) -> &Revocations {
        &self.revoked
    }

    /// When the trusted timestamp was signed, if it says so.
    pub fn issued(&self) -> Option<Timestamp> {
        let field = self.set.timestamp()?.extra.get(ISSUED_FIELD)?;
        serde_json::from_value(field.clone()).ok()
    }

    /// Delegated files that are pinned and have not come yet.
    pub fn missing(&self) -> Vec<String> {
        self.missing.iter().cloned().collect()
    }

    /// Delegated files that came and were refused, each with the reason.
    pub fn unusable(&self) -> &BTreeMap<String, String> {
        &self.unusable
    }

    fn lookup_at(&self, path: &BundlePath, now: jiff::Timestamp) -> Result<Target, LookupError> {
        match self.search(&path.to_string(), now)? {
            Some((role, target)) => understand(path, &role, target),
            None => Err(LookupError::Absent { path: path.clone() }),
        }
    }

    /// What a path means, and which role says so.
    pub(super) fn search(
        &self,
        path: &str,
        now: jiff::Timestamp,
    ) -> Result<Option<(String, &sigstore_tuf::TargetFile)>, LookupError> {
        self.fresh(now)?;
        let mut to_visit = vec![("targets".to_owned(), "root".to_owned())];
        let mut visited = BTreeSet::new();
        while let Some((role, delegator)) = to_visit.pop() {
            if visited.len() > DELEGATIONS_MAX || !visited.insert(role.clone()) {
                continue;
            }
            let Some(targets) = self.role_at(&role, &delegator, now)? else {
                continue;
            };
            if let Some(target) = targets.target(path) {
                return Ok(Some((role, target)));
            }
            let delegations = targets.delegations.iter().flat_map(|d| &d.roles);
            let mut children = Vec::new();
            for child in delegations {
                let matches = child.matches_path(path).map_err(|error| LookupError::Unusable {
                    file: format!("{role}.json"),
                    reason: error.to_string(),
                })?;
                if matches {
                    children.push((child.name.clone(), role.clone()));
                    if child.terminating {
                        to_visit.clear();
                        break;
                    }
                }
            }
            to_visit.extend(children.into_iter().rev());
        }
        Ok(None)
    }

    /// A targets role that may speak now. `None`: it is delegated to, but has never published.
    fn role_at(
        &self,
        role: &str,
        delegator: &str,
        now: jiff::Timestamp,
    ) -> Result<Option<&sigstore_tuf::Targets>, LookupError> {
        let file = format!("{role}.json");
        if role == "targets" {
            return match self.set.targets_role(role) {
                Some(targets) if targets.expires < now => {
                    Err(LookupError::Expired { file, at: from_jiff(targets.expires) })
                }
                Some(targets) => Ok(Some(targets)),
                None => Err(LookupError::Incomplete { missing: vec![file] }),
            };
        }
        if let Some(reason) = self.unusable.get(&file) {
            return Err(LookupError::Unusable { file, reason: reason.clone() });
        }
        if self.missing.contains(&file) {
            return Err(LookupError::Incomplete { missing: vec![file] });
        }
        if self.set.targets_role(role).is_none() {
            return Ok(None);
        }
        match self.set.verify_delegated_targets(role, delegator, now) {
            Ok(targets) => Ok(Some(targets)),
            Err(sigstore_tuf::Error::Expired { expires, .. }) => {
                Err(LookupError::Expired { file, at: from_jiff(expires) })
            }
            Err(error) => Err(LookupError::Unusable { file, reason: error.to_string() }),
        }
    }

    fn fresh(&self, now: jiff::Timestamp) -> Result<(), LookupError> {
        let missing = |name: &str| LookupError::Incomplete { missing: vec![name.to_owned()] };
        let timestamp = self.set.timestamp().ok_or_else(|| missing("timestamp.json"))?;
        let snapshot = self.set.snapshot().ok_or_else(|| missing("snapshot.json"))?;
        let expiries = [
            (FileName::Root(self.set.root().version).wire(), self.set.root().expires),
            ("timestamp.json".to_owned(), timestamp.expires()),
            ("snapshot.json".to_owned(), snapshot.expires()),
        ];
        match expiries.into_iter().find(|(_, expires)| *expires < now) {
            Some((file, expires)) => Err(LookupError::Expired { file, at: from_jiff(expires) }),
            None => Ok(()),
        }
    }

    /// Names of the targets roles that are held.
    fn roles(&self) -> Vec<String> {
        let lower = |name: &&String| !["timestamp.json", "snapshot.json"].contains(&name.as_str());
        self.held
            .keys()
            .filter(lower)
            .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
            .collect()
    }
}

/// The delegated files that a `targets.json` leads to, by name, whoever signed it; none where it cannot be read. For
/// telling what may still count, never for trusting.
pub fn delegated_files(targets: &[u8]) -> BTreeSet<String> {
    let Ok(checked) = check(&FileName::Targets, targets) else { return BTreeSet::new() };
    let roles = checked.envelope.signed().pointer("/delegations/roles").and_then(Value::as_array);
    let names = roles.into_iter().flatten().filter_map(|role| role.get("name")?.as_str());
    names.filter_map(|role| FileName::delegated(role).ok()).map(|file| file.wire()).collect()
}

fn understand(
    path: &BundlePath,
    role: &str,
    target: &sigstore_tuf::TargetFile,
) -> Result<Target, LookupError> {
    let sha256 = target.hashes.get("sha256").and_then(|text| text.parse().ok()).ok_or_else(|| {
        LookupError::Unusable { file: format!("{role}.json"), reason: format!("{path} has no SHA-256 in it") }
    })?;
    let custom = target.custom.clone().unwrap_or_default();
    Ok(Target { path: path.clone(), length: target.length, sha256, custom })
}
