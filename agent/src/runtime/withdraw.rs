//! Takes away what a revocation takes away, and looks after the clock. At once: nothing here waits for a task.

use std::time::{Duration, Instant};

use muster_protocol::ids::SlotName;
use muster_protocol::message::EventKind;
use muster_protocol::message::up::BundleRef;
use muster_protocol::trust::{RevocationAction, Standing};

use super::agent::Agent;
use crate::chain;
use crate::ledger::SlotRecord;
use crate::reconcile::Withdraw;

/// How often it is asked whether somebody vouches for the machine's clock.
const CLOCK_EVERY: Duration = Duration::from_mins(1);

impl Agent {
    pub(super) fn withdraw(&mut self, withdraw: Withdraw) {
        match withdraw {
            Withdraw::Stop { slot, bundle, code, sentence } => {
                self.parts.slots.stop(&slot, sentence.as_str());
                if let Err(error) = self.ledger.stop(&slot) {
                    // The catalogue that revoked it is at rest: the next start stops it again.
                    tracing::error!(%slot, error = chain(&error), "cannot note that the slot was stopped");
                }
                self.stopped.insert(slot.clone());
                tracing::error!(%slot, bundle = %bundle.path, code, reason = %sentence, "stopped answering");
                self.event(EventKind::Stopped { slot, bundle, code, sentence });
            }
            Withdraw::Forget { slot, bundle } => {
                tracing::warn!(%slot, bundle = %bundle.path, "was revoked; the slot does not go back to it");
                self.forget_previous(&slot);
            }
        }
    }

    /// Something answers in the slot again, or nothing is meant to.
    pub(super) fn no_longer_stopped(&mut self, slot: &SlotName) {
        if self.stopped.remove(slot)
            && let Err(error) = self.ledger.unstop(slot)
        {
            // After a restart it counts as stopped, and is proven and activated once more.
            tracing::error!(%slot, error = chain(&error), "cannot note that the slot is not stopped any more");
        }
    }

    pub(super) fn standing(&self, bundle: &BundleRef) -> Standing {
        self.trust.trusted().standing(&bundle.path, &bundle.sha256)
    }

    /// Before anything is loaded: what must not come back does not. What is left of the record may.
    pub(super) fn without_revoked(&mut self, slot: &SlotName, record: &SlotRecord) -> Option<SlotRecord> {
        let mut record = record.clone();
        if record.previous.as_ref().is_some_and(|previous| self.is_revoked(&previous.bundle)) {
            self.forget_previous(slot);
            record.previous = None;
        }
        let current = &record.current.as_ref()?.bundle;
        if self.ledger.stopped().contains(slot) {
            self.stopped.insert(slot.clone());
            let reason = match self.standing(current) {
                Standing::Revoked(revocation) => {
                    format!("{} was revoked: {}", current.path, revocation.reason)
                }
                Standing::Listed | Standing::Yanked | Standing::Unknown => {
                    format!("{} was revoked", current.path)
                }
            };
            self.parts.slots.stop(slot, &reason);
            return None;
        }
        match self.standing(current) {
            // The mind says the rest, when it looks for the first time.
            Standing::Revoked(revocation) if revocation.action == RevocationAction::Stop => None,
            Standing::Revoked(_) | Standing::Listed | Standing::Yanked | Standing::Unknown => Some(record),
        }
    }

    pub(super) fn is_revoked(&self, bundle: &BundleRef) -> bool {
        matches!(self.standing(bundle), Standing::Revoked(_))
    }

    pub(super) fn forget_previous(&mut self, slot: &SlotName) {
        if let Err(error) = self.files.forget_previous(slot) {
            // It is asked again at the next start, before anything goes back to it.
            tracing::error!(%slot, error = chain(&error), "cannot forget what the slot ran before");
        }
        self.parts.slots.forget_previous(slot);
        if let Some(record) = self.records.get_mut(slot) {
            record.previous = None;
        }
        self.collect = true;
    }

    /// Lets the floor of time rise with the machine's clock, while somebody vouches for that.
    pub(super) fn watch_clock(&mut self, now: Instant) {
        if self.clock_looked.is_some_and(|at| now.saturating_duration_since(at) < CLOCK_EVERY) {
            return;
        }
        self.clock_looked = Some(now);
        if let Some(at) = self.parts.clock.synchronised()
            && let Err(error) = self.trust.witness(at)
        {
            tracing::warn!(error = chain(&error), "the floor of time cannot be saved");
        }
        self.parts.clock.raise(self.trust.floor());
    }
}
