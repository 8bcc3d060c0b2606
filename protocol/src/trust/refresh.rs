//! From one trusted state to the next: rules R1 to R6, each file checked against the one that pins it.
//!
//! ```text
//!   R1 roots       N+1, N+2, … each signed by the one before and by itself       adopted one by one, whatever follows
//!   R2             the last root has not expired
//!   R3 floors      versions of what is trusted already (its expiry does not matter)
//!   R4 timestamp   signed, not older, not expired                                ┐
//!   R5 snapshot    as the timestamp pins it; no file in it older or gone         ├ adopted together, or not at all
//!   R6 targets     as the snapshot pins them, and delegated ones                 ┘
//! ```
//!
//! Files come one by one in any order (retained messages do). That the snapshot is newer than the timestamp means only
//! that a timestamp is on its way: [`Outcome::Incomplete`], not an attack. Whoever withholds it is noticed by age. But
//! what was verified on the way is a floor from then on, though the old state still holds.
//!
//! A version names one content. A file that is pinned under a version that was pinned before, and with other bytes, is
//! refused with what pins it: at rest the two would have one name, and a power cut between the write of the one and of
//! what leads to it would leave a box that cannot start. The fleet signs no such thing; a thief of its online key may.

mod pins;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sigstore_tuf::MetaFile;

use super::catalogue::TrustedSet;
use super::checks::{Checked, check};
use super::envelope::Envelope;
use super::error::{TrustError, from_jiff};
use super::files::{FileName, Write};
use super::key::KeyId;
use super::revocation::{self, REVOKED_FIELD, Revocations};
use super::root::{Authority, Role};
use super::{Files, ISSUED_FIELD, LAX};
use crate::limits::{DELEGATIONS_MAX, ROOT_STEPS_MAX};
use crate::time::Timestamp;
use pins::{current, one_content, pinned};

/// Earlier than every expiry: what is trusted already is a floor, fresh or not.
const ANY_AGE: jiff::Timestamp = jiff::Timestamp::MIN;

/// What R1 did. Roots before a refused one are adopted: whoever plants a bad root cannot hold back a good one.
#[derive(Debug)]
pub struct Roots {
    /// To put at rest, in this order.
    pub adopted: Vec<Write>,
    pub refused: Option<TrustError>,
}

/// What a refresh did.
#[derive(Debug)]
pub struct Refreshed {
    pub outcome: Outcome,
    /// To put at rest in this order before the new state is used: roots first, `timestamp.json` last. Whatever stops in
    /// between leaves the old state whole.
    pub writes: Vec<Write>,
    /// When the newest verified timestamp was signed: it cannot be earlier than that now.
    pub issued: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was received is what was trusted.
    Unchanged,
    Updated,
    /// Newer files exist, but these have not come yet. The old state holds until it expires.
    Incomplete {
        missing: Vec<String>,
    },
}

/// The way to a complete state is open, closed or unfinished.
enum Step<T> {
    Here(T),
    Missing(String),
}

impl TrustedSet {
    /// R1 alone. A program that saves roots before it uses them calls this on a copy first.
    pub fn update_roots(&mut self, files: &Files) -> Roots {
        let mut roots = Roots { adopted: Vec::new(), refused: None };
        for _ in 0..ROOT_STEPS_MAX {
            let file = self.next_root();
            let Some(bytes) = files.get(&file.wire()) else { break };
            match self.adopt_root(&file, bytes) {
                Ok(write) => roots.adopted.push(write),
                Err(error) => {
                    roots.refused = Some(error);
                    break;
                }
            }
        }
        roots
    }

    /// R1 to R6 over all files received so far. An error leaves the state as it is, but for roots adopted and for what
    /// was verified before the error ([`Self::ahead`]).
    pub fn refresh(&mut self, files: &Files, now: Timestamp) -> Result<Refreshed, TrustError> {
        let roots = self.update_roots(files);
        if let Some(error) = roots.refused {
            return Err(error);
        }
        let mut next = self.clone();
        let now = now.to_jiff();
        let mut issued = None;
        let step = next.refresh_lower(files, now, &mut issued);
        self.ahead.clone_from(&next.ahead);
        if let Step::Missing(name) = step? {
            let outcome = Outcome::Incomplete { missing: vec![name] };
            return Ok(Refreshed { outcome, writes: roots.adopted, issued });
        }
        let changed = next.held != self.held;
        let outcome =
            if changed || !roots.adopted.is_empty() { Outcome::Updated } else { Outcome::Unchanged };
        let mut writes = roots.adopted;
        writes.extend(next.writes_since(&self.held));
        *self = next;
        Ok(Refreshed { outcome, writes, issued })
    }

    /// The trusted state as it was put at rest: `pinned` is the root brought by hand, `stored` the files by their names
    /// at rest ([`Write::stored_name`]). Expiry does not matter. Files that only an earlier root vouches for are left
    /// out; a file that no root vouches for is an error.
    pub fn load(pinned: &[u8], stored: &Files) -> Result<Self, TrustError> {
        let mut trusted = Self::from_root(pinned)?;
        let mut authorities = vec![trusted.authority.clone()];
        loop {
            let file = trusted.next_root();
            let Some(bytes) = stored.get(&file.wire()) else { break };
            trusted.adopt_root(&file, bytes)?;
            authorities.push(trusted.authority.clone());
        }
        for name in [FileName::Timestamp.wire(), FileName::Snapshot.wire()] {
            if let Some(bytes) = stored.get(&ahead_at_rest(&name)) {
                trusted.ahead.insert(name, bytes.clone());
            }
        }
        let current = current(stored)?;
        for (file, role) in [
            (FileName::Timestamp, Role::Timestamp),
            (FileName::Snapshot, Role::Snapshot),
            (FileName::Targets, Role::Targets),
        ] {
            let Some(bytes) = current.get(&file.wire()) else { continue };
            let Checked { envelope, .. } = check(&file, bytes)?;
            let counts: Vec<_> =
                authorities.iter().map(|authority| authority.count(role, &envelope)).collect();
            if let (false, Some(last)) = (LAX || counts.iter().any(|count| count.met()), counts.last()) {
                return Err(TrustError::Signature {
                    file: file.wire(),
                    found: last.found,
                    needed: last.needed,
                });
            }
        }
        // Where a newer root no longer vouches for the catalogue, what it revoked stays revoked until another comes.
        if let Some(targets) = current.get("targets.json") {
            trusted.revoked = revoked_by(targets)?;
        }
        trusted.held = current;
        // A delegated file that its pin or its keys no longer vouch for is left out, and its own bundles with it: it must not
        // make a box that cannot start.
        trusted.seed()?;
        Ok(trusted)
    }

    fn next_root(&self) -> FileName {
        FileName::Root(self.set.root().version.saturating_add(1))
    }

    fn adopt_root(&mut self, file: &FileName, bytes: &[u8]) -> Result<Write, TrustError> {
        let checked = check(file, bytes)?;
        let mut set = self.set.clone();
        set.update_root(bytes).map_err(|error| TrustError::of(file, error))?;
        self.authority = Authority::of(set.root())?;
        self.set = set;
        // What the new root's keys no longer vouch for is forgotten, and its version floors with it: that is how a
        // fleet recovers from a stolen online key that counted far ahead. What fails here was true a moment ago, so
        // there is nothing to report.
        self.seed().unwrap_or_default();
        Ok(Write { file: file.clone(), version: checked.version, bytes: bytes.to_vec() })
    }

    /// R3: takes from `held` what the present root vouches for.
    fn seed(&mut self) -> Result<(), TrustError> {
        let held = std::mem::take(&mut self.held);
        self.missing.clear();
        self.unusable.clear();
        let Some(timestamp) = held.get("timestamp.json") else { return Ok(()) };
        if self.set.update_timestamp(timestamp, ANY_AGE).is_err() {
            return Ok(());
        }
        self.held.insert("timestamp.json".to_owned(), timestamp.clone());
        let Some(snapshot) = held.get("snapshot.json") else { return Ok(()) };
        match self.set.update_snapshot(snapshot, ANY_AGE) {
            Ok(()) => {}
            Err(sigstore_tuf::Error::ThresholdNotMet { .. }) => return Ok(()),
            Err(error) => return Err(TrustError::of(&FileName::Snapshot, error)),
        }
        self.held.insert("snapshot.json".to_owned(), snapshot.clone());
        let Some(targets) = held.get("targets.json") else { return Ok(()) };
        match self.set.update_targets(targets, ANY_AGE) {
            Ok(_) => {}
            Err(sigstore_tuf::Error::ThresholdNotMet { .. }) => return Ok(()),
            Err(error) => return Err(TrustError::of(&FileName::Targets, error)),
        }
        self.held.insert("targets.json".to_owned(), targets.clone());
        self.revoked = revoked_by(targets)?;
        self.refresh_delegated(&Files::new(), &held, ANY_AGE);
        Ok(())
    }

    /// R2, R4, R5, R6.
    fn refresh_lower(
        &mut self,
        files: &Files,
        now: jiff::Timestamp,
        issued: &mut Option<Timestamp>,
    ) -> Result<Step<()>, TrustError> {
        let mut before = std::mem::take(&mut self.held);
        // Of what is whole only: what is merely ahead has no name at rest that another content could take.
        let pinned_before = self.pins();
        self.go_ahead(&mut before);
        self.set.check_root_expired(now).map_err(|error| TrustError::of(&"root.json", error))?;
        let timestamp = match self.refresh_timestamp(files, &before, now)? {
            Step::Here(bytes) => bytes,
            Step::Missing(name) => return Ok(Step::Missing(name)),
        };
        let (pin, signed_at) = self.timestamp_says()?;
        one_content(&pinned_before, &self.pins())?;
        *issued = signed_at;
        self.note_ahead(&FileName::Timestamp, &timestamp);
        let snapshot = match pinned(&pin, &FileName::Snapshot, &FileName::Timestamp, files, &before)? {
            Step::Here(bytes) => bytes,
            Step::Missing(name) => return Ok(Step::Missing(name)),
        };
        self.set
            .update_snapshot(&snapshot, now)
            .map_err(|error| TrustError::of(&FileName::Snapshot, error))?;
        one_content(&pinned_before, &self.pins())?;
        self.note_ahead(&FileName::Snapshot, &snapshot);
        let pin = self
            .pin_of(&FileName::Targets)
            .ok_or_else(|| TrustError::document(&FileName::Snapshot, "nothing of targets.json"))?;
        let targets = match pinned(&pin, &FileName::Targets, &FileName::Snapshot, files, &before)? {
            Step::Here(bytes) => bytes,
            Step::Missing(name) => return Ok(Step::Missing(name)),
        };
        self.set.update_targets(&targets, now).map_err(|error| TrustError::of(&FileName::Targets, error))?;
        self.revoked = revoked_by(&targets)?;
        for (file, bytes) in
            [(FileName::Timestamp, timestamp), (FileName::Snapshot, snapshot), (FileName::Targets, targets)]
        {
            self.held.insert(file.wire(), bytes);
        }
        self.ahead.clear();
        self.missing.clear();
        self.unusable.clear();
        self.refresh_delegated(files, &before, now);
        Ok(Step::Here(()))
    }

    /// R3 for what was verified and never became whole: from there on it counts as what is held. A root that no longer
    /// vouches for it lets it go.
    fn go_ahead(&mut self, before: &mut Files) {
        let ahead = std::mem::take(&mut self.ahead);
        for file in [FileName::Timestamp, FileName::Snapshot] {
            let Some(bytes) = ahead.get(&file.wire()) else { return };
            let taken = match file {
                FileName::Timestamp => self.set.update_timestamp(bytes, ANY_AGE),
                FileName::Root(_) | FileName::Snapshot | FileName::Targets | FileName::Delegated(_) => {
                    self.set.update_snapshot(bytes, ANY_AGE)
                }
            };
            if taken.is_err() {
                return;
            }
            before.insert(file.wire(), bytes.clone());
            self.ahead.insert(file.wire(), bytes.clone());
        }
    }

    /// A newer timestamp makes the snapshot before it a thing of the past.
    fn note_ahead(&mut self, file: &FileName, bytes: &[u8]) {
        if *file == FileName::Timestamp && self.ahead.get(&file.wire()).is_none_or(|before| before != bytes) {
            self.ahead.clear();
        }
        self.ahead.insert(file.wire(), bytes.to_vec());
    }

    /// R4. The bytes of the timestamp that counts: the received one, or the one held if that is not newer.
    fn refresh_timestamp(
        &mut self,
        files: &Files,
        before: &Files,
        now: jiff::Timestamp,
    ) -> Result<Step<Vec<u8>>, TrustError> {
        let file = FileName::Timestamp;
        let held = before.get(&file.wire());
        if let Some(bytes) = files.get(&file.wire()).filter(|bytes| Some(*bytes) != held) {
            let Checked { envelope, .. } = check(&file, bytes)?;
            match self.set.update_timestamp(bytes, now) {
                Ok(()) => return Ok(Step::Here(bytes.clone())),
                // An equal version brings nothing new; the copy that came first stays.
                Err(sigstore_tuf::Error::EqualVersion { .. }) => {}
                Err(sigstore_tuf::Error::ThresholdNotMet { .. })
                    if self.signers_are_unknown(Role::Timestamp, &envelope) =>
                {
                    return Ok(Step::Missing(self.next_root().wire()));
                }
                Err(error) => return Err(TrustError::of(&file, error)),
            }
        }
        let Some(held) = held.filter(|_| self.set.timestamp().is_some()) else {
            return Ok(Step::Missing(file.wire()));
        };
        self.set.check_timestamp_expired(now).map_err(|error| TrustError::of(&file, error))?;
        Ok(Step::Here(held.clone()))
    }

    /// The keys it names are all new to us: probably a root that names them is on its way.
    fn signers_are_unknown(&self, role: Role, envelope: &Envelope) -> bool {
        let known = self.keys(role);
        let mut named = envelope.signatures().iter().map(|signature| &signature.keyid).peekable();
        named.peek().is_some() && !named.any(|id: &KeyId| known.contains_key(id))
    }

    fn timestamp_says(&self) -> Result<(MetaFile, Option<Timestamp>), TrustError> {
        let file = FileName::Timestamp;
        let timestamp = self.set.timestamp().ok_or_else(|| TrustError::document(&file, "nothing"))?;
        let pin = timestamp
            .snapshot_meta()
            .ok_or_else(|| TrustError::document(&file, "nothing of snapshot.json"))?;
        let issued = match timestamp.extra.get(ISSUED_FIELD) {
            None => None,
            Some(text) => {
                let at: Timestamp = serde_json::from_value(text.clone()).map_err(|error| {
                    TrustError::document(&file, format!("'{ISSUED_FIELD}' wrongly: {error}"))
                })?;
                if at > from_jiff(timestamp.expires) {
                    return Err(TrustError::document(&file, "that it was issued after it expires"));
                }
                // What it says becomes the earliest time that devices believe. A thief of the online key must not take
                // them further ahead than the holders of the root allowed.
                if at > from_jiff(self.set.root().expires) {
                    return Err(TrustError::document(&file, "that it was issued after the root expires"));
                }
                Some(at)
            }
        };
        Ok((pin.clone(), issued))
    }

    /// What timestamp and snapshot pin, by name on the wire.
    fn pins(&self) -> BTreeMap<String, MetaFile> {
        let snapshot = self.set.timestamp().and_then(|timestamp| timestamp.snapshot_meta());
        let mut pins: BTreeMap<String, MetaFile> = self
            .set
            .snapshot()
            .map(|snapshot| snapshot.meta.clone().into_iter().collect())
            .unwrap_or_default();
        pins.extend(snapshot.map(|pin| (FileName::Snapshot.wire(), pin.clone())));
        pins
    }

    fn pin_of(&self, file: &FileName) -> Option<MetaFile> {
        self.set.snapshot().and_then(|snapshot| snapshot.meta.get(&file.wire())).cloned()
    }

    /// Delegated roles, breadth first. One that fails takes only its own bundles with it: a builder's mistake must not
    /// hold up the catalogue of all others.
    fn refresh_delegated(&mut self, files: &Files, before: &Files, now: jiff::Timestamp) {
        let mut delegators = VecDeque::from(["targets".to_owned()]);
        let mut seen = BTreeSet::new();
        while let Some(delegator) = delegators.pop_front() {
            let delegations =
                self.set.targets_role(&delegator).and_then(|targets| targets.delegations.clone());
            for role in delegations.map(|d| d.roles).unwrap_or_default() {
                if seen.len() >= DELEGATIONS_MAX || !seen.insert(role.name.clone()) {
                    continue;
                }
                let name = format!("{}.json", role.name);
                match self.refresh_role(&role.name, &delegator, files, before, now) {
                    Ok(Step::Here(true)) => delegators.push_back(role.name),
                    Ok(Step::Here(false)) => {}
                    Ok(Step::Missing(_)) => {
                        self.missing.insert(name);
                    }
                    Err(error) => {
                        self.unusable.insert(name, error.to_string());
                    }
                }
            }
        }
    }

    /// Whether the role has published and is now trusted.
    fn refresh_role(
        &mut self,
        role: &str,
        delegator: &str,
        files: &Files,
        before: &Files,
        now: jiff::Timestamp,
    ) -> Result<Step<bool>, TrustError> {
        let file = FileName::delegated(role)?;
        let Some(pin) = self.pin_of(&file) else { return Ok(Step::Here(false)) };
        match pinned(&pin, &file, &FileName::Snapshot, files, before)? {
            Step::Missing(name) => Ok(Step::Missing(name)),
            Step::Here(bytes) => {
                self.set
                    .update_delegated_targets(&bytes, role, delegator, now)
                    .map_err(|error| TrustError::of(&file, error))?;
                self.held.insert(file.wire(), bytes);
                Ok(Step::Here(true))
            }
        }
    }

    /// What differs from `before`, leaves first: `timestamp.json` comes last and makes the rest count.
    fn writes_since(&self, before: &Files) -> Vec<Write> {
        let versions = self.versions();
        let mut writes: Vec<Write> = self
            .held
            .iter()
            .filter(|(name, bytes)| before.get(*name) != Some(*bytes))
            .filter_map(|(name, bytes)| {
                let file: FileName = name.parse().ok()?;
                let version = match &file {
                    FileName::Root(version) => *version,
                    FileName::Timestamp => versions.timestamp?,
                    FileName::Snapshot => versions.snapshot?,
                    FileName::Targets => versions.targets?,
                    FileName::Delegated(role) => *versions.delegated.get(role)?,
                };
                Some(Write { file, version, bytes: bytes.clone() })
            })
            .collect();
        writes.sort_by(|a, b| b.file.cmp(&a.file));
        writes
    }
}

/// The name at rest of a file of [`TrustedSet::ahead`].
pub fn ahead_at_rest(name: &str) -> String {
    format!("ahead.{name}")
}

fn revoked_by(targets: &[u8]) -> Result<Revocations, TrustError> {
    let Checked { envelope, .. } = check(&FileName::Targets, targets)?;
    revocation::read(envelope.signed().get(REVOKED_FIELD)).map_err(|reason| {
        TrustError::document(&FileName::Targets, format!("'{REVOKED_FIELD}' wrongly: {reason}"))
    })
}
