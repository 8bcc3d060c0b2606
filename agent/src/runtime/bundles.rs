//! Describes to the mind how far each wished bundle has come, by looking at what is really here.

use std::collections::BTreeSet;

use muster_protocol::ids::Digest;
use muster_protocol::message::Sentence;
use muster_protocol::message::up::{BundleRef, Running};

use super::agent::Agent;
use crate::activate::{ActivateError, Blame, Chosen, manifest_blob};
use crate::download::Failure;
use crate::reconcile::Blob;
use crate::reconcile::{Bundle, Content, Occupied, Setback, World};
use crate::selftest::SelfTestReport;

/// A manifest, read once.
#[derive(Debug)]
pub(super) enum Reading {
    Usable(Box<Chosen>),
    Refused { code: String, sentence: Sentence },
}

/// What was proven of a bundle in this process's life.
#[derive(Debug)]
pub(super) enum Proof {
    Verified,
    Tested(SelfTestReport),
}

/// What a catalogue can say against a change, rather than a bundle's own failure.
const WITHHELD: [&str; 8] = [
    "bundle_uncatalogued",
    "bundle_hash_disagrees",
    "bundle_revoked",
    "bundle_wrong_hardware",
    "bundle_agent_too_old",
    "bundle_demands_unreadable",
    "catalogue_incomplete",
    "catalogue_stale",
];

/// Whether this code says that the catalogue allows no change, rather than that a bundle failed.
pub(super) fn is_withheld(code: &str) -> bool {
    WITHHELD.contains(&code)
}

impl Agent {
    pub(super) fn world(&mut self) -> World {
        let wished: Vec<BundleRef> = self
            .ledger
            .wish()
            .into_iter()
            .flat_map(|wish| &wish.slots)
            .filter(|(slot, wanted)| {
                let runs = self.records.get(*slot).filter(|_| !self.stopped.contains(*slot));
                let runs = runs.and_then(|record| record.current.as_ref());
                runs.is_none_or(|running| running.bundle.sha256 != wanted.bundle.sha256)
            })
            .map(|(_, wanted)| wanted.bundle.clone())
            .collect();
        let digests: BTreeSet<Digest> = wished.iter().map(|bundle| bundle.sha256).collect();
        self.readings.retain(|digest, _| digests.contains(digest));
        self.proofs.retain(|digest, _| digests.contains(digest));
        self.setbacks.retain(|digest, _| digests.contains(digest));
        let bundles = wished.iter().map(|bundle| (bundle.sha256, self.describe(bundle))).collect();
        let slots = self.records.iter().map(|(slot, record)| {
            let name = |running: &Option<Running>| running.as_ref().map(|running| running.bundle.clone());
            let stands = |running: &Option<Running>| {
                running.as_ref().map(|running| self.standing(&running.bundle)).unwrap_or_default()
            };
            let occupied = Occupied {
                current: name(&record.current),
                previous: name(&record.previous),
                current_standing: stands(&record.current),
                previous_standing: stands(&record.previous),
                stopped: self.stopped.contains(slot),
            };
            (slot.clone(), occupied)
        });
        World {
            slots: slots.collect(),
            bundles,
            busy: self.busy.clone(),
            bad: self.ledger.bad().clone(),
            setbacks: self.setbacks.clone(),
            house: self.house(),
            clock: self.clock_state(),
        }
    }

    /// The usable manifest of a bundle, read from the store if it is there and was not read yet.
    pub(super) fn chosen(&mut self, bundle: &BundleRef) -> Option<&Chosen> {
        match self.read(bundle) {
            Ok(()) => match self.readings.get(&bundle.sha256)? {
                Reading::Usable(chosen) => Some(chosen),
                Reading::Refused { .. } => None,
            },
            Err(error) => {
                tracing::error!(bundle = %bundle.path, error = crate::chain(&error), "cannot read the manifest");
                None
            }
        }
    }

    pub(super) fn arrived(&mut self, digest: &Digest) {
        tracing::info!(blob = %digest, "content arrived");
        self.progress = None;
    }

    /// Every bundle that waits for this content has a setback.
    pub(super) fn not_arrived(&mut self, digest: &Digest, failure: &Failure) {
        let wanting: Vec<BundleRef> = self
            .ledger
            .wish()
            .into_iter()
            .flat_map(|wish| wish.slots.values())
            .filter(|wanted| {
                let needs = match self.readings.get(&wanted.bundle.sha256) {
                    Some(Reading::Usable(chosen)) => chosen.files().any(|file| file.digest == *digest),
                    Some(Reading::Refused { .. }) | None => false,
                };
                needs || wanted.bundle.sha256 == *digest
            })
            .map(|wanted| wanted.bundle.clone())
            .collect();
        for bundle in wanting {
            self.set_back(&bundle, failure.code().to_owned(), failure.sentence());
        }
        // The downloader has taken it off its list; the next plan that wants it must be told to it again.
        self.forget_fetching();
    }

    pub(super) fn set_back(&mut self, bundle: &BundleRef, code: String, sentence: Sentence) {
        let attempts =
            self.setbacks.get(&bundle.sha256).map_or(1, |before| before.attempts.saturating_add(1));
        tracing::warn!(bundle = %bundle.path, code, attempts, reason = %sentence, "a step failed and is tried again later");
        let at = self.parts.clock.now();
        self.setbacks.insert(bundle.sha256, Setback { at, attempts, code, sentence });
    }

    fn describe(&mut self, bundle: &BundleRef) -> Bundle {
        let manifest = match self.allowed(bundle) {
            Ok(manifest) => manifest,
            Err((code, sentence)) => return Bundle::Withheld { code, sentence },
        };
        match self.proofs.get(&bundle.sha256) {
            Some(Proof::Tested(_)) => return Bundle::Allowed(Content::Proven),
            Some(Proof::Verified) => return Bundle::Allowed(Content::Verified),
            None => {}
        }
        let progress = self.progress;
        let received =
            |blob: &Blob| progress.filter(|(digest, _)| *digest == blob.digest).map_or(0, |(_, n)| n);
        if let Err(error) = self.read(bundle) {
            return Bundle::Withheld { code: error.code(), sentence: error.sentence() };
        }
        let blobs = self.parts.workbench.blobs.clone();
        Bundle::Allowed(match self.readings.get(&bundle.sha256) {
            None => Content::Unread { manifest, received_bytes: received(&manifest) },
            Some(Reading::Refused { code, sentence }) => {
                Content::Refused { code: code.clone(), sentence: sentence.clone() }
            }
            Some(Reading::Usable(chosen)) => {
                let missing: Vec<Blob> = chosen.files().filter(|blob| !blobs.has(blob)).collect();
                if missing.is_empty() {
                    Content::Stored
                } else {
                    let lacking: u64 =
                        missing.iter().map(|blob| blob.length - received(blob).min(blob.length)).sum();
                    let total_bytes: u64 = chosen.files().map(|blob| blob.length).sum();
                    Content::Partial {
                        missing,
                        received_bytes: total_bytes.saturating_sub(lacking),
                        total_bytes,
                    }
                }
            }
        })
    }

    /// Asked right before every step: the catalogue may have changed since the order was accepted.
    pub(super) fn allowed(&self, bundle: &BundleRef) -> Result<Blob, (String, Sentence)> {
        let (path, sha256) = (&bundle.path, &bundle.sha256);
        match self.trust.permits(path, sha256, &self.parts.fitness, self.parts.clock.now()) {
            Ok(target) => {
                manifest_blob(target.sha256, target.length).map_err(|error| (error.code(), error.sentence()))
            }
            Err(refusal) => Err((refusal.code().to_owned(), crate::chain(&refusal).into())),
        }
    }

    fn read(&mut self, bundle: &BundleRef) -> Result<(), ActivateError> {
        if self.readings.contains_key(&bundle.sha256) {
            return Ok(());
        }
        let workbench = &self.parts.workbench;
        let reading = match Chosen::read(&workbench.blobs, bundle, &workbench.has) {
            Ok(Some(chosen)) => Reading::Usable(Box::new(chosen)),
            Ok(None) => return Ok(()),
            Err(error) if error.blame() == Blame::Bundle => {
                Reading::Refused { code: error.code(), sentence: error.sentence() }
            }
            Err(error) => return Err(error),
        };
        self.readings.insert(bundle.sha256, reading);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use muster_protocol::trust::{OrderRefusal, Unfit};

    use super::*;

    #[test]
    fn what_a_catalogue_says_against_a_bundle_is_not_the_bundles_failure() {
        let bundle = || "bundles/m/1.json".parse().unwrap();
        let refusals = [
            OrderRefusal::Revoked { bundle: bundle(), reason: String::new() },
            OrderRefusal::Uncatalogued { bundle: bundle() },
            OrderRefusal::Unfit { bundle: bundle(), source: Unfit::Unreadable(String::new()) },
        ];
        for refusal in refusals {
            assert!(is_withheld(refusal.code()), "{}", refusal.code());
        }
        assert!(!is_withheld("golden_mismatch"));
    }
}
