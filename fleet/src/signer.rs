//! What the fleet signs by itself: the index files (snapshot, timestamp) and the orders.
//!
//! It holds two online keys and never a root or targets key: whoever steals the server can only choose among bundles
//! that people, or a builder they delegated to, put into the catalogue. Everything it signs goes through the verifier
//! of the devices first, so it cannot publish what they would reject.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use muster_protocol::capture::CaptureRequest;
use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;
use muster_protocol::trust::author::{
    self, AuthorError, ORDER_LIFE, OrderSpec, Pin, SNAPSHOT_LIFE, TIMESTAMP_LIFE,
};
use muster_protocol::trust::{
    Envelope, FileName, Files, Fitness, Order, OrderContext, OrderRefusal, Outcome, PublicKey, Role,
    SecretKey, Sign as _, TrustError, TrustedSet, Want, Write,
};

use crate::publisher::keys::{self, KeyFileError};
use crate::rollout::evidence::Sealed;

#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    #[error("an online key cannot be used")]
    Key(#[from] KeyFileError),
    #[error("{} is a {role} key of root.json; such keys belong offline: take it off this server and consider it stolen", path.display())]
    Offline { path: PathBuf, role: &'static str },
    #[error("root.json does not name this server's key {key} for {role}; put it into the next root")]
    NotNamed { key: String, role: &'static str },
    #[error("there is no targets.json; publish a catalogue first")]
    NoCatalogue,
    #[error(
        "{file} has the version {version} of the one published, but other bytes; give it the next version"
    )]
    SameVersion { file: String, version: u64 },
    #[error("{file} is not delegated to by targets.json, or was refused: {reason}")]
    Delegated { file: String, reason: String },
    #[error("devices would wait for {0}")]
    Incomplete(String),
    #[error("devices would refuse the trust files")]
    Trust(#[from] TrustError),
    #[error("the device would refuse the order")]
    Order(#[from] OrderRefusal),
    #[error("a file cannot be signed")]
    Author(#[from] AuthorError),
}

impl SignerError {
    /// Stable name for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Key(_) => "signer_key",
            Self::Offline { .. } => "signer_offline_key",
            Self::NotNamed { .. } => "signer_key_not_named",
            Self::NoCatalogue => "signer_no_catalogue",
            Self::SameVersion { .. } => "trust_same_version",
            Self::Delegated { .. } => "trust_delegated",
            Self::Incomplete(_) => "trust_incomplete",
            Self::Trust(error) => error.code(),
            Self::Order(refusal) => refusal.code(),
            Self::Author(_) => "signer_failed",
        }
    }
}

/// The next published state, signed and verified.
#[derive(Clone, Debug)]
pub struct Index {
    pub trusted: TrustedSet,
    /// What changed, in the order in which to save and to send it.
    pub publish: Vec<Write>,
}

/// The next root, verified.
#[derive(Clone, Debug)]
pub struct Adopted {
    pub trusted: TrustedSet,
    /// Whether it vouches for the catalogue that is published.
    pub catalogue_stands: bool,
}

/// What one device should run.
#[derive(Clone, Debug)]
pub struct OrderRequest {
    pub device: DeviceId,
    /// What the device is, once it has said so.
    pub fitness: Option<Fitness>,
    pub want: Vec<Want>,
    pub capture: Vec<CaptureRequest>,
    /// Version of the last order signed for this device; 0 if there was none.
    pub last_version: u64,
    /// What that order wants.
    pub before: Vec<Want>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedOrder {
    pub version: u64,
    /// Sign a new one long before: a device that was off until then would refuse this one.
    pub expires: Timestamp,
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
pub struct Signer {
    dir: PathBuf,
    online: SecretKey,
    order: SecretKey,
}

impl Signer {
    /// Loads the two online keys from `dir`; makes them on the first start.
    pub fn open(dir: &Path) -> Result<Self, SignerError> {
        let load = |name: &str, role: &str| {
            let path = dir.join(name);
            if !path.exists() {
                keys::create(&path, role)?;
            }
            keys::load(&path)
        };
        Ok(Self {
            dir: dir.to_owned(),
            online: load("online.key", "online")?,
            order: load("order.key", "order")?,
        })
    }

    /// Signs snapshot and timestamp.
    pub fn online_key(&self) -> PublicKey {
        self.online.key()
    }

    pub fn order_key(&self) -> PublicKey {
        self.order.key()
    }

    /// Refuses to work with a key that belongs offline. A server looks before it starts: that the key is here is the
    /// harm already.
    pub fn refuse_offline(&self, root: &TrustedSet) -> Result<(), SignerError> {
        for (name, key) in [("online.key", self.online.key()), ("order.key", self.order.key())] {
            for role in [Role::Root, Role::Targets] {
                if root.keys(role).values().any(|offline| *offline == key) {
                    return Err(SignerError::Offline { path: self.dir.join(name), role: role.as_str() });
                }
            }
        }
        Ok(())
    }

    /// Refuses to work with a key that belongs offline, or that devices would not accept.
    pub fn check(&self, root: &TrustedSet) -> Result<(), SignerError> {
        self.refuse_offline(root)?;
        let jobs =
            [(Role::Snapshot, &self.online), (Role::Timestamp, &self.online), (Role::Order, &self.order)];
        for (role, secret) in jobs {
            let key = secret.key();
            if !root.keys(role).values().any(|named| *named == key) {
                return Err(SignerError::NotNamed { key: key.to_string(), role: role.as_str() });
            }
        }
        Ok(())
    }

    /// Signs an index over what is published (`before`) and what was handed in (`new`: roots, `targets.json`,
    /// `auto-<model>.json`). Without anything new it makes the index fresh. `at_rest` are delegated files that were
    /// published and that `before` let go of, because its newest root names other targets keys.
    pub fn index(
        &self,
        before: &TrustedSet,
        at_rest: &Files,
        new: &Files,
        now: Timestamp,
    ) -> Result<Index, SignerError> {
        let mut trusted = before.clone();
        let roots = trusted.update_roots(new);
        if let Some(refused) = roots.refused {
            return Err(refused.into());
        }
        self.check(&trusted)?;
        let mut pins = match before.file("snapshot.json") {
            Some(snapshot) => author::pins_of(snapshot)?,
            None => BTreeMap::new(),
        };
        for (name, bytes) in at_rest {
            let version = author::TargetsSpec::parse(bytes)?.version();
            pins.entry(name.clone()).or_insert_with(|| Pin::of(version, bytes));
        }
        let mut files = Files::new();
        for (name, bytes) in new {
            let file: FileName = name.parse()?;
            let version = match &file {
                FileName::Root(_) | FileName::Timestamp | FileName::Snapshot => continue,
                FileName::Targets | FileName::Delegated(_) => author::TargetsSpec::parse(bytes)?.version(),
            };
            let pin = Pin::of(version, bytes);
            if pins.get(name).is_some_and(|old| old.version == version && *old != pin) {
                return Err(SignerError::SameVersion { file: name.clone(), version });
            }
            pins.insert(name.clone(), pin);
            files.insert(name.clone(), bytes.clone());
        }
        if !pins.contains_key("targets.json") {
            return Err(SignerError::NoCatalogue);
        }
        let versions = before.versions();
        // One count for both files: a snapshot's version is never used for two contents.
        let version = versions.timestamp.max(versions.snapshot).unwrap_or(0).saturating_add(1);
        let snapshot = author::snapshot(version, now.plus(SNAPSHOT_LIFE), &pins)?;
        let snapshot = author::sign(snapshot, &[&self.online])?;
        let timestamp =
            author::timestamp(version, now.plus(TIMESTAMP_LIFE), now, Pin::of(version, &snapshot))?;
        let offered: Vec<String> = files.keys().cloned().collect();
        let held = at_rest.iter().chain(before.files()).filter(|(name, _)| !offered.contains(name));
        let mut all: Files = held.map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
        all.extend(files);
        all.insert("timestamp.json".to_owned(), author::sign(timestamp, &[&self.online])?);
        all.insert("snapshot.json".to_owned(), snapshot);
        let done = trusted.refresh(&all, now)?;
        if let Outcome::Incomplete { missing } = done.outcome {
            return Err(SignerError::Incomplete(missing.join(", ")));
        }
        if let Some(file) = offered.into_iter().find(|name| trusted.file(name).is_none()) {
            let reason = trusted.unusable().get(&file).cloned();
            return Err(SignerError::Delegated {
                file,
                reason: reason.unwrap_or_else(|| "no delegation has this name".to_owned()),
            });
        }
        let mut publish = roots.adopted;
        publish.extend(done.writes);
        Ok(Index { trusted, publish })
    }

    /// Adopts the next root. One that no longer vouches for the published catalogue goes out alone: boxes let go of what
    /// the old keys signed, and change nothing before the catalogue comes that the new keys sign.
    pub fn adopt(&self, before: &TrustedSet, root: &Files) -> Result<Adopted, SignerError> {
        let mut trusted = before.clone();
        if let Some(refused) = trusted.update_roots(root).refused {
            return Err(refused.into());
        }
        self.check(&trusted)?;
        let catalogue_stands = match before.file("targets.json") {
            None => false,
            Some(targets) => {
                let envelope = Envelope::parse(targets)
                    .map_err(|source| TrustError::Malformed { file: "targets.json".to_owned(), source })?;
                trusted.count(Role::Targets, &envelope).met()
            }
        };
        Ok(Adopted { trusted, catalogue_stands })
    }

    /// Signs a rollout's record with the order key: who orders vouches for what became of it. Its type is under the
    /// signature, so no box takes it for an order.
    pub fn evidence(&self, sealed: &Sealed) -> Result<Vec<u8>, SignerError> {
        let envelope = Envelope::unsigned(sealed).map_err(AuthorError::Envelope)?;
        Ok(author::sign(envelope, &[&self.order])?)
    }

    /// Signs an order against the published state, for a device that has accepted all orders before.
    pub fn order(
        &self,
        trusted: &TrustedSet,
        request: OrderRequest,
        now: Timestamp,
    ) -> Result<SignedOrder, SignerError> {
        let version = author::next_order_version(request.last_version, now);
        let expires = now.plus(ORDER_LIFE);
        let spec = OrderSpec {
            device: request.device.clone(),
            version,
            issued: now,
            expires,
            catalogue: trusted.versions().targets.ok_or(SignerError::NoCatalogue)?,
            want: request.want,
            capture: request.capture,
        };
        let bytes = author::sign(author::order(&spec)?, &[&self.order])?;
        let context = OrderContext {
            trusted,
            device: &request.device,
            fitness: request.fitness.as_ref(),
            floor: request.last_version,
            before: &request.before,
            now,
        };
        Order::check(&bytes, &context)?;
        Ok(SignedOrder { version, expires, bytes })
    }
}

#[cfg(test)]
mod tests;
