//! Begins what the mind decided, and takes in how it ended. Every deed that takes time runs in a task of its own and
//! comes back as an event.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::ids::{Digest, SlotName};
use muster_protocol::manifest::Numerics;
use muster_protocol::message::up::{BundleRef, Running};
use muster_protocol::message::{Capabilities, EventKind};

use super::agent::Agent;
use super::bundles::{Proof, Reading};
use super::event::{Event, Restored};
use crate::activate::{ActivateError, Blame, Chosen, Haste, Loaded, Proven, Workbench, verify};
use crate::blobs::Blobs;
use crate::chain;
use crate::disk::DiskError;
use crate::ledger::{Before, SlotRecord};
use crate::reconcile::{Bad, Busy, Doing, Start};

/// A model that does not load within this time does not load.
pub(super) const LOAD_MAX: Duration = Duration::from_mins(5);

impl Agent {
    pub(super) fn start(&mut self, start: Start) {
        match start {
            Start::Clear { slot } => self.clear(&slot),
            Start::Verify { slot, bundle } => {
                let blobs = self.parts.workbench.blobs.clone();
                self.begin_deed(slot, bundle, Doing::Verifying, |chosen, slot, bundle| async move {
                    let result = aside(move || verify(&blobs, &chosen)).await;
                    Event::Verified { slot, bundle, result }
                });
            }
            Start::Test { slot, bundle } => {
                let workbench = self.parts.workbench.clone();
                self.begin_deed(slot, bundle, Doing::Testing, |chosen, slot, bundle| async move {
                    Event::Tested { slot, bundle, result: workbench.prove(chosen).await.map(Box::new) }
                });
            }
            Start::Activate { slot, bundle } => {
                if let Err(error) = self.files.begin(&slot, &bundle) {
                    return self.failed(&bundle, &error.into());
                }
                let workbench = self.parts.workbench.clone();
                self.begin_deed(slot, bundle, Doing::Activating, |chosen, slot, bundle| async move {
                    Event::Loaded {
                        slot,
                        bundle,
                        result: load(&workbench, &chosen, Haste::None).await.map(Box::new),
                    }
                });
            }
        }
    }

    fn begin_deed<F>(
        &mut self,
        slot: SlotName,
        bundle: BundleRef,
        doing: Doing,
        deed: impl FnOnce(Chosen, SlotName, BundleRef) -> F,
    ) where
        F: Future<Output = Event> + Send + 'static,
    {
        let Some(chosen) = self.chosen(&bundle).cloned() else { return };
        tracing::info!(%slot, bundle = %bundle.path, ?doing, "begins");
        self.busy = Some(Busy { slot: slot.clone(), bundle: bundle.clone(), doing });
        self.spawn(deed(chosen, slot, bundle));
    }

    pub(super) fn spawn(&mut self, deed: impl Future<Output = Event> + Send + 'static) {
        let done = self.parts.done.clone();
        self.tasks.spawn(async move {
            let event = deed.await;
            if done.send(event).await.is_err() {
                tracing::debug!("the loop ended before a deed did");
            }
        });
    }

    pub(super) fn verified(
        &mut self,
        slot: &SlotName,
        bundle: &BundleRef,
        result: Result<(), ActivateError>,
    ) {
        self.busy = None;
        match result {
            Ok(()) => {
                tracing::info!(%slot, bundle = %bundle.path, "every file is whole");
                self.proofs.insert(bundle.sha256, Proof::Verified);
            }
            Err(error) => self.failed(bundle, &error),
        }
    }

    pub(super) fn tested(
        &mut self,
        slot: &SlotName,
        bundle: &BundleRef,
        result: Result<Box<Proven>, ActivateError>,
    ) {
        self.busy = None;
        match result {
            Ok(proven) => {
                let Proven { chosen, report } = *proven;
                let (variant, numerics) = (&chosen.variant.id, report.numerics.as_str());
                tracing::info!(%slot, bundle = %bundle.path, variant, numerics, duration_ms = report.elapsed_ms, "the self-test passed");
                self.readings.insert(bundle.sha256, Reading::Usable(Box::new(chosen)));
                self.proofs.insert(bundle.sha256, Proof::Tested(report));
            }
            Err(error) => self.failed(bundle, &error),
        }
    }

    pub(super) fn loaded(
        &mut self,
        slot: &SlotName,
        bundle: &BundleRef,
        result: Result<Box<Loaded>, ActivateError>,
    ) {
        self.busy = None;
        let wished = self.ledger.wish().and_then(|wish| wish.slots.get(slot)).map(|wanted| &wanted.bundle);
        let result = match result {
            // The order changed while it loaded: nobody wants it now.
            Ok(_) if wished != Some(bundle) => Err(None),
            // So did the catalogue; the plan says what it has against the bundle.
            Ok(_) if self.allowed(bundle).is_err() => Err(None),
            // So did its moment, which will come again; it stays proven.
            Ok(_) if self.must_wait(slot) => Err(None),
            Ok(loaded) => {
                self.take_over(slot, bundle, *loaded).map_err(|error| Some(ActivateError::from(error)))
            }
            Err(error) => Err(Some(error)),
        };
        let Err(error) = result else { return };
        if let Err(error) = self.files.abort(slot) {
            tracing::error!(%slot, error = chain(&error), "cannot take back the activation's journal");
        }
        if let Some(error) = error {
            self.failed(bundle, &error);
        }
    }

    /// First it answers, then it is committed: a bundle that cannot be committed is taken back at once.
    fn take_over(&mut self, slot: &SlotName, bundle: &BundleRef, loaded: Loaded) -> Result<(), DiskError> {
        let Loaded { served, variant, passed_over, provider, load_ms } = loaded;
        let since = self.parts.clock.now();
        let numerics = Some(Numerics::of(&variant, provider.provider, &self.parts.capabilities));
        let (bundle_ref, variant) = (bundle.clone(), variant.id);
        let provider_use = provider.clone();
        let running =
            Running { bundle: bundle_ref, variant, provider: provider_use, numerics, passed_over, since };
        let stopped = self.stopped.contains(slot);
        self.parts.slots.activate(slot, served);
        match self.files.commit(slot, &running, if stopped { Before::Dropped } else { Before::Kept }) {
            Ok(record) => self.records.insert(slot.clone(), record),
            Err(error) if stopped => {
                self.parts.slots.stop(slot, "its bundle was revoked");
                return Err(error);
            }
            Err(error) => {
                if self.parts.slots.revert(slot).is_none() {
                    self.parts.slots.clear(slot);
                }
                return Err(error);
            }
        };
        self.no_longer_stopped(slot);
        let self_test_ms = match self.proofs.remove(&bundle.sha256) {
            Some(Proof::Tested(report)) => report.elapsed_ms,
            Some(Proof::Verified) | None => 0,
        };
        if let Err(error) = self.ledger.absolve(&bundle.sha256) {
            tracing::error!(error = chain(&error), "cannot note that the bundle runs");
        }
        self.setbacks.remove(&bundle.sha256);
        self.forget_failure(slot);
        self.collect = true;
        tracing::info!(%slot, bundle = %bundle.path, provider = ?provider.provider, load_ms, "activated");
        let (slot, bundle) = (slot.clone(), bundle.clone());
        self.event(EventKind::Activated { slot, bundle, provider, load_ms, self_test_ms });
        Ok(())
    }

    /// Whatever ran goes on. The bundle is remembered as bad if it is to blame, and tried again later if not.
    fn failed(&mut self, bundle: &BundleRef, error: &ActivateError) {
        self.proofs.remove(&bundle.sha256);
        match error.blame() {
            Blame::Moment => self.set_back(bundle, error.code(), error.sentence()),
            Blame::Bundle => self.condemn(bundle, error),
        }
    }

    fn condemn(&mut self, bundle: &BundleRef, error: &ActivateError) {
        let asked_in = self.ledger.wish().map_or(0, |wish| wish.generation);
        let bad = Bad { asked_in, code: error.code(), sentence: error.sentence() };
        if let Err(unwritten) = self.ledger.condemn(bundle.sha256, bad) {
            tracing::error!(error = chain(&unwritten), "cannot note that a bundle failed here");
            self.set_back(bundle, error.code(), error.sentence());
        }
    }

    fn clear(&mut self, slot: &SlotName) {
        if let Err(error) = self.files.clear(slot) {
            // It stays on disk, so it stays in the world, and is cleared when the disk allows.
            tracing::error!(%slot, error = chain(&error), "cannot clear the slot");
            return;
        }
        self.parts.slots.clear(slot);
        self.no_longer_stopped(slot);
        self.records.remove(slot);
        self.forget_failure(slot);
        self.collect = true;
        tracing::info!(%slot, "cleared");
        self.event(EventKind::Cleared { slot: slot.clone() });
    }

    /// Loads what ran before the restart, in a task, so that the box is heard while that takes its time.
    pub(super) fn restore(&mut self) {
        let found = self.records.clone();
        let records: Vec<_> = found
            .iter()
            .filter_map(|(slot, record)| Some((slot.clone(), self.without_revoked(slot, record)?)))
            .collect();
        let workbench = self.parts.workbench.clone();
        self.spawn(async move {
            let mut restored = Vec::new();
            for (slot, record) in records {
                let previous = match &record.previous {
                    Some(previous) => Some(again(&workbench, previous).await),
                    None => None,
                };
                let current = match &record.current {
                    Some(current) => again(&workbench, current).await,
                    None => continue,
                };
                restored.push(Restored { slot, record, current, previous });
            }
            Event::Restored(restored)
        });
    }

    pub(super) fn restored(&mut self, slots: Vec<Restored>) {
        self.restoring = false;
        for Restored { slot, record, current, previous } in slots {
            if let Err(error) = self.put_back(&slot, record, current, previous) {
                tracing::error!(%slot, error = chain(&error), "cannot write what the slot runs");
            }
        }
    }

    fn put_back(
        &mut self,
        slot: &SlotName,
        record: SlotRecord,
        current: Result<Loaded, ActivateError>,
        previous: Option<Result<Loaded, ActivateError>>,
    ) -> Result<(), DiskError> {
        let Some(running) = record.current.clone() else { return Ok(()) };
        let mut record = record;
        match previous {
            // Revoked while it was being loaded.
            Some(_) if record.previous.as_ref().is_some_and(|previous| self.is_revoked(&previous.bundle)) => {
                self.forget_previous(slot);
                record.previous = None;
            }
            Some(Ok(loaded)) => self.parts.slots.activate(slot, loaded.served),
            Some(Err(error)) => {
                tracing::warn!(%slot, error = chain(&error), "what ran before cannot be loaded any more");
                self.forget_previous(slot);
                record.previous = None;
            }
            None => {}
        }
        match current {
            Ok(loaded) => {
                self.parts.slots.activate(slot, loaded.served);
                let provider = loaded.provider;
                let numerics =
                    Some(Numerics::of(&loaded.variant, provider.provider, &self.parts.capabilities));
                record.current = Some(Running { provider, numerics, ..running });
                self.records.insert(slot.clone(), record);
            }
            Err(error) => {
                // Whatever comes of that: this one does not run, and is begun anew if it is wanted.
                self.records.remove(slot);
                let record = self.files.revert(slot)?;
                let to = record.current.as_ref().map(|running| running.bundle.clone());
                tracing::error!(%slot, error = chain(&error), to = ?to, "what ran cannot run any more");
                if record.current.is_some() {
                    self.records.insert(slot.clone(), record);
                }
                if error.blame() == Blame::Bundle {
                    self.condemn(&running.bundle, &error);
                }
                let (slot, from) = (slot.clone(), running.bundle);
                let (code, sentence) = (error.code(), error.sentence());
                self.event(EventKind::Reverted { slot, from, to, code, sentence });
            }
        }
        Ok(())
    }

    /// Removes content that no slot runs, can go back to, or is wished to run; not while anything may be needing it.
    pub(super) fn collect_garbage(&mut self) {
        if !self.collect || self.restoring || self.busy.is_some() || self.fetches() {
            return;
        }
        self.collect = false;
        let running = self.records.values().flat_map(|record| [&record.current, &record.previous]).flatten();
        let mut bundles: Vec<BundleRef> = running.map(|running| running.bundle.clone()).collect();
        let wished = self.ledger.wish().into_iter().flat_map(|wish| wish.slots.values());
        bundles.extend(wished.map(|wanted| wanted.bundle.clone()));
        let mut keep: BTreeSet<Digest> = BTreeSet::new();
        for bundle in &bundles {
            keep.insert(bundle.sha256);
            // Without its manifest, or with one that is refused, a bundle has no files worth keeping.
            let workbench = &self.parts.workbench;
            if let Ok(Some(chosen)) = Chosen::read(&workbench.blobs, bundle, &workbench.has) {
                keep.extend(chosen.files().map(|file| file.digest));
            }
        }
        match self.parts.workbench.blobs.collect(&keep) {
            Ok(0) => {}
            Ok(freed_bytes) => tracing::info!(freed_bytes, "removed content that nobody needs"),
            Err(error) => tracing::warn!(error = chain(&error), "cannot remove content that nobody needs"),
        }
    }
}

/// Checks and loads a bundle that was committed. Expiry of its signatures is not looked at: it ran, so it may run.
async fn again(workbench: &Workbench, ran: &Running) -> Result<Loaded, ActivateError> {
    let (blobs, has, ran) = (workbench.blobs.clone(), Arc::clone(&workbench.has), ran.clone());
    let chosen = aside(move || whole(&blobs, &ran, &has)).await?;
    load(workbench, &chosen, Haste::Now).await
}

pub(super) fn whole(blobs: &Blobs, ran: &Running, has: &Capabilities) -> Result<Chosen, ActivateError> {
    let chosen = Chosen::read(blobs, &ran.bundle, has)?
        .ok_or_else(|| ActivateError::Damaged(format!("the manifest {}", ran.bundle.path)))?
        .again(&ran.variant, ran.passed_over.as_ref())?;
    verify(blobs, &chosen)?;
    Ok(chosen)
}

async fn load(workbench: &Workbench, chosen: &Chosen, haste: Haste) -> Result<Loaded, ActivateError> {
    match tokio::time::timeout(LOAD_MAX, workbench.load(chosen, haste)).await {
        Ok(result) => result,
        Err(_) => Err(ActivateError::LoadTime { limit_s: LOAD_MAX.as_secs() }),
    }
}

/// Runs what blocks where it may.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ActivateError> + Send + 'static,
) -> Result<T, ActivateError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ActivateError::Interrupted(error)),
    }
}
