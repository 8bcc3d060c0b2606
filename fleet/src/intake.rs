//! Takes in trust files: what a publisher or a builder uploads becomes the catalogue, or nothing changes.
//!
//! ```text
//!   file ─▶ sign an index over it ─▶ verify as boxes do ─▶ every newly listed bundle: manifest and files here, whole,
//!           (in memory)                                     readable ─▶ one commit: files, bundles, log, outbox
//! ```
//! Blobs come first, then roots, then targets. All faults are told at once, so that nobody fixes them one by one. The
//! registry verifies before it accepts: what is catalogued can be delivered.

mod bundle;
mod difference;
mod fault;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::ids::{BundlePath, Digest};
use muster_protocol::time::Timestamp;
use muster_protocol::topic::Topic;
use muster_protocol::trust::author::{TIMESTAMP_LIFE, TIMESTAMP_PERIOD, TargetsSpec};
use muster_protocol::trust::{Envelope, FileName, Files, Revocation, Target, TrustedSet, Write};
use tokio::sync::Mutex;

use crate::blob::{BlobError, Blobs};
use crate::catalogue::{Catalogue, CatalogueError};
use crate::clock::Clocks;
use crate::pki::Pki;
use crate::signer::{Signer, SignerError};
use crate::store::log::{Actor, NewEntry};
use crate::store::outbox::{self, Message};
use crate::store::trust_files::NewTrustFile;
use crate::store::{ControlTx, LIMIT_MAX, Store, StoreError, bundles, log, trust_files};

use difference::Difference;
use fault::Faults;
pub use fault::{FAULTS_MAX, Fault};

/// The index is signed anew when the timestamp is older than a day.
const RENEW_BEFORE: Duration = TIMESTAMP_LIFE.saturating_sub(TIMESTAMP_PERIOD);

#[derive(Debug)]
pub struct Intake {
    store: Store,
    blobs: Blobs,
    signer: Arc<Signer>,
    pki: Arc<Pki>,
    catalogue: Catalogue,
    clocks: Clocks,
    /// One upload at a time: each is verified against what the one before left.
    turn: Mutex<()>,
}

/// What an upload changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The file's name on the wire.
    pub name: String,
    pub version: u64,
    pub added: Vec<(BundlePath, Digest)>,
    /// No longer listed: never activated again.
    pub yanked: Vec<(BundlePath, Digest)>,
    /// Must not run any more, each with its reason.
    pub revoked: Vec<(BundlePath, Revocation)>,
}

#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// Nothing changed.
    #[error("{}", fault::all(faults))]
    Refused { faults: Vec<Fault> },
    #[error("the database failed while a trust file was taken in")]
    Store(#[from] StoreError),
    #[error("the published trust files cannot be read")]
    Catalogue(#[from] CatalogueError),
    #[error("the blob store failed while a bundle was checked")]
    Blob(#[from] BlobError),
    #[error("the index cannot be signed")]
    Sign(#[source] SignerError),
}

/// The next published state, not yet saved.
struct Next {
    trusted: TrustedSet,
    publish: Vec<Write>,
}

impl Intake {
    pub fn new(
        store: Store,
        blobs: Blobs,
        signer: Arc<Signer>,
        pki: Arc<Pki>,
        catalogue: Catalogue,
        clocks: Clocks,
    ) -> Self {
        Self { store, blobs, signer, pki, catalogue, clocks, turn: Mutex::new(()) }
    }

    /// Takes in `N.root.json`, `root.json`, `targets.json`, `N.targets.json` or `auto-<model>.json`.
    pub async fn upload(&self, name: &str, bytes: &[u8], actor: Actor) -> Result<Accepted, IntakeError> {
        let file = file_of(name, bytes)?;
        let version = version_of(&file, bytes)?;
        let _turn = self.turn.lock().await;
        let mut db = self.store.read().await?;
        let wire = file.wire();
        let nothing = Accepted {
            name: wire.clone(),
            version,
            added: Vec::new(),
            yanked: Vec::new(),
            revoked: Vec::new(),
        };
        if trust_files::bytes(&mut db, &wire).await?.as_deref() == Some(bytes) {
            return Ok(nothing);
        }
        let before = self.catalogue.published(&mut db).await?;
        let known = bundles::catalogued(&mut db, LIMIT_MAX).await?;
        let at_rest = match &before {
            Some(before) if before.versions().targets.is_none() => trust_files::delegated(&mut db).await?,
            Some(_) | None => Files::new(),
        };
        drop(db);
        let next = self.next(before.as_deref(), &at_rest, &file, version, bytes)?;
        let mut difference = match next.trusted.versions().targets {
            Some(_) => self.difference(&next.trusted, &known, &file, bytes).await?,
            // A root alone: what is listed from now on, the next catalogue says.
            None => Difference::default(),
        };
        difference.compare_revocations(before.as_deref(), &next.trusted);
        let accepted = Accepted {
            added: difference.added.iter().map(|bundle| (bundle.path.clone(), bundle.sha256)).collect(),
            yanked: difference.yanked.clone(),
            revoked: difference.revoked.clone(),
            ..nothing
        };
        let mut tx = self.store.write().await?;
        self.save(&mut tx, &next).await?;
        self.save_difference(&mut tx, &difference, &actor).await?;
        let sentence = format!("{wire} version {version} was published");
        self.log(&mut tx, "trust.published", wire, sentence, actor).await?;
        tx.commit().await?;
        Ok(accepted)
    }

    /// Signs snapshot and timestamp anew if they are a day old. Returns whether they were.
    pub async fn resign_due(&self) -> Result<bool, IntakeError> {
        let _turn = self.turn.lock().await;
        let mut tx = self.store.write().await?;
        let Some(trusted) = self.catalogue.published(&mut tx).await? else { return Ok(false) };
        // Between a root with other targets keys and the catalogue they sign there is nothing to index.
        if trusted.versions().targets.is_none() {
            return Ok(false);
        }
        let now = self.clocks.trust.now();
        let expires = trusted.expiries().get("timestamp.json").copied();
        if expires.is_none_or(|expires| expires > now.plus(RENEW_BEFORE)) {
            return Ok(false);
        }
        let index =
            self.signer.index(&trusted, &Files::new(), &Files::new(), now).map_err(IntakeError::Sign)?;
        self.save(&mut tx, &Next { trusted: index.trusted, publish: index.publish }).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// What is published now; `None` before the first root.
    pub async fn trusted(&self) -> Result<Option<Arc<TrustedSet>>, IntakeError> {
        let mut db = self.store.read().await?;
        Ok(self.catalogue.published(&mut db).await?)
    }

    /// Stages the file in memory, as boxes would see it.
    fn next(
        &self,
        before: Option<&TrustedSet>,
        at_rest: &Files,
        file: &FileName,
        version: u64,
        bytes: &[u8],
    ) -> Result<Next, IntakeError> {
        let refused = |error: SignerError| fault::refuse(error.code(), &error);
        let write = || Write { file: file.clone(), version, bytes: bytes.to_vec() };
        let is_root = matches!(file, FileName::Root(_));
        let Some(before) = before else {
            if !is_root {
                return Err(fault::refuse_text(
                    "trust_no_root",
                    "there is no root.json yet; upload it first",
                ));
            }
            let trusted =
                TrustedSet::from_root(bytes).map_err(|error| fault::refuse(error.code(), &error))?;
            self.signer.check(&trusted).map_err(refused)?;
            self.check_tls(&trusted)?;
            return Ok(Next { trusted, publish: vec![write()] });
        };
        let held = before.versions();
        if is_root && version != held.root + 1 {
            let sentence = format!("{file} does not follow version {}, which is published", held.root);
            return Err(fault::refuse_text("trust_rollback", &sentence));
        }
        let new = Files::from([(file.wire(), bytes.to_vec())]);
        if is_root {
            let adopted = self.signer.adopt(before, &new).map_err(refused)?;
            self.check_tls(&adopted.trusted)?;
            if !adopted.catalogue_stands {
                return Ok(Next { trusted: adopted.trusted, publish: vec![write()] });
            }
        }
        let index = self.signer.index(before, at_rest, &new, self.clocks.trust.now()).map_err(refused)?;
        Ok(Next { trusted: index.trusted, publish: index.publish })
    }

    /// A root decides which servers boxes speak with. One that does not lead to this server would send them all away, and
    /// nothing that this server says could call them back.
    fn check_tls(&self, root: &TrustedSet) -> Result<(), IntakeError> {
        if self.pki.leads_here(&root.muster().tls_roots, self.clocks.trust.now()) {
            return Ok(());
        }
        let sentence = format!(
            "the root's tls_roots do not lead to this server's certificate, so boxes could not come back to it; put {} \
             into the root (muster root new --tls-root FILE) and sign it again",
            self.pki.server_bundle_path().display()
        );
        Err(fault::refuse_text("trust_tls_roots", &sentence))
    }

    /// Checks every bundle that the new state lists and the old one did not.
    async fn difference(
        &self,
        trusted: &TrustedSet,
        known: &[(BundlePath, Digest)],
        file: &FileName,
        bytes: &[u8],
    ) -> Result<Difference, IntakeError> {
        let mut faults = Faults::default();
        let revoked = trusted.revocations();
        let listed = trusted.targets().into_iter().map(|target| (target.path.clone(), target));
        // A role may list on what the catalogue revokes: no box will run it, and so it is not catalogued.
        let listed: BTreeMap<BundlePath, Target> =
            listed.filter(|(path, _)| !revoked.contains_key(path)).collect();
        for target in listed_in(file, bytes)?.into_iter().filter(|target| !revoked.contains_key(&target.path))
        {
            // A role may list what was never delegated to it; boxes ignore that, we say so.
            if listed.get(&target.path).is_none_or(|found| found.sha256 != target.sha256) {
                let sentence = format!(
                    "{file} lists {}, which its signer may not: the path is not delegated to it",
                    target.path
                );
                faults.add("bundle_not_delegated", sentence);
            }
        }
        let mut difference = Difference {
            yanked: known
                .iter()
                .filter(|(path, sha256)| listed.get(path).is_none_or(|found| found.sha256 != *sha256))
                .cloned()
                .collect(),
            ..Difference::default()
        };
        for target in listed.values() {
            if known.iter().any(|(path, sha256)| *path == target.path && *sha256 == target.sha256) {
                continue;
            }
            if let Some(bundle) = bundle::verify(&self.blobs, target, &mut faults).await? {
                difference.added.push(bundle);
            }
        }
        faults.none()?;
        Ok(difference)
    }

    /// Files first at rest and then on the broker, in the order that never shows half a state.
    async fn save(&self, tx: &mut ControlTx, next: &Next) -> Result<(), IntakeError> {
        let now = self.clocks.trust.now();
        let expiries = next.trusted.expiries();
        for write in &next.publish {
            let name = write.file.wire();
            let expires: Option<Timestamp> = expiries.get(&format!("{}.json", write.file.role())).copied();
            let file = NewTrustFile { name: &name, version: write.version, expires, bytes: &write.bytes };
            trust_files::put(tx, file, now).await?;
            let message = Message { topic: Topic::Trust(name), payload: write.bytes.clone(), retain: true };
            outbox::push(tx, &message).await?;
        }
        Ok(())
    }

    async fn save_difference(
        &self,
        tx: &mut ControlTx,
        difference: &Difference,
        actor: &Actor,
    ) -> Result<(), IntakeError> {
        // First out, then in: one bundle may move to another path.
        for (path, sha256) in &difference.yanked {
            bundles::yank(tx, sha256).await?;
            let sentence = format!("{path} ({}) is no longer in the catalogue", sha256.short());
            self.log(tx, "bundle.yanked", sha256.to_string(), sentence, actor.clone()).await?;
        }
        for (path, revocation) in &difference.revoked {
            bundles::set_revoked(tx, path, Some(revocation)).await?;
            let sentence = difference::sentence(path, revocation);
            self.log(tx, "bundle.revoked", path.to_string(), sentence, actor.clone()).await?;
        }
        for path in &difference.reinstated {
            bundles::set_revoked(tx, path, None).await?;
            let sentence = format!("{path} is no longer revoked");
            self.log(tx, "bundle.reinstated", path.to_string(), sentence, actor.clone()).await?;
        }
        for bundle in &difference.added {
            bundles::add(tx, bundle, self.clocks.trust.now()).await?;
            let sentence =
                format!("{} ({}) was accepted into the catalogue", bundle.path, bundle.sha256.short());
            self.log(tx, "bundle.accepted", bundle.sha256.to_string(), sentence, actor.clone()).await?;
        }
        Ok(())
    }

    async fn log(
        &self,
        tx: &mut ControlTx,
        kind: &'static str,
        subject: String,
        sentence: String,
        actor: Actor,
    ) -> Result<(), StoreError> {
        let entry = NewEntry { when: self.clocks.moment(), kind, subject, sentence: sentence.into(), actor };
        log::append(tx, &entry).await?;
        Ok(())
    }
}

/// Which file was uploaded. At rest, publishers keep targets with their version; on the wire they have none.
fn file_of(name: &str, bytes: &[u8]) -> Result<FileName, IntakeError> {
    if name == "root.json" {
        let version = signed_version(bytes).unwrap_or(0);
        return parse_name(&FileName::Root(version).wire());
    }
    let wire = match name.split_once('.') {
        Some((version, rest)) if version.bytes().all(|b| b.is_ascii_digit()) && rest != "root.json" => rest,
        Some(_) | None => name,
    };
    match parse_name(wire)? {
        FileName::Timestamp | FileName::Snapshot => Err(fault::refuse_text(
            "trust_unknown_file",
            &format!("{wire} is signed by this server; do not upload one"),
        )),
        file @ (FileName::Root(_) | FileName::Targets | FileName::Delegated(_)) => Ok(file),
    }
}

fn parse_name(name: &str) -> Result<FileName, IntakeError> {
    name.parse().map_err(|error: muster_protocol::trust::TrustError| fault::refuse(error.code(), &error))
}

fn version_of(file: &FileName, bytes: &[u8]) -> Result<u64, IntakeError> {
    if bytes.len() > file.bytes_max() {
        let sentence =
            format!("{file} is {} bytes long, more than the {} allowed", bytes.len(), file.bytes_max());
        return Err(fault::refuse_text("trust_too_large", &sentence));
    }
    let unreadable =
        || fault::refuse_text("trust_malformed", &format!("{file} cannot be read as signed metadata"));
    let version = signed_version(bytes).ok_or_else(unreadable)?;
    match file {
        FileName::Root(named) if *named != version => {
            let sentence = format!("{file} says inside that it is version {version}");
            Err(fault::refuse_text("trust_malformed", &sentence))
        }
        FileName::Root(_)
        | FileName::Targets
        | FileName::Delegated(_)
        | FileName::Timestamp
        | FileName::Snapshot => Ok(version),
    }
}

fn signed_version(bytes: &[u8]) -> Option<u64> {
    Envelope::parse(bytes).ok()?.signed().get("version")?.as_u64()
}

fn listed_in(file: &FileName, bytes: &[u8]) -> Result<Vec<Target>, IntakeError> {
    match file {
        FileName::Targets | FileName::Delegated(_) => TargetsSpec::parse(bytes)
            .map(|spec| spec.targets())
            .map_err(|error| fault::refuse("trust_malformed", &error)),
        FileName::Root(_) | FileName::Timestamp | FileName::Snapshot => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, expect: Option<&str>| {
            let file = file_of(name, br#"{"signatures":[],"signed":{"version":3}}"#);
            assert_eq!(file.ok().map(|file| file.wire()).as_deref(), expect, "{name}");
        };
        check("targets.json", Some("targets.json"));
        check("12.targets.json", Some("targets.json"));
        check("2.root.json", Some("2.root.json"));
        check("root.json", Some("3.root.json"));
        check("auto-er-beds.json", Some("auto-er-beds.json"));
        check("4.auto-er-beds.json", Some("auto-er-beds.json"));
        for wrong in ["timestamp.json", "7.snapshot.json", "../x.json", "", "x", "0.root.json"] {
            check(wrong, None);
        }
    }
}
