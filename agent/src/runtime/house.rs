//! Answers what the box's people and applications say about its moment, and tells the mind of it.

use muster_protocol::ids::{Digest, SlotName};
use muster_protocol::message::up::BundleRef;
use muster_protocol::message::{EventKind, LocalLease, Phase};
use serde_json::{Value, json};

use super::agent::Agent;
use crate::chain;
use crate::disk::DiskError;
use crate::ledger::{Given, LeaseError};
use crate::reconcile::{Clock, House, Wanted, asks, waits};
use crate::serve::{NotTaken, Said, Word};
use crate::trust::is_behind;

type Answer = Result<Value, NotTaken>;

impl Agent {
    pub(super) fn said(&mut self, said: Said) {
        let Said { word, answer } = said;
        let told = match word {
            Word::Leases => Ok(json!({ "leases": self.leases() })),
            Word::Take { owner, reason, seconds } => {
                let until = self.parts.clock.now().plus(std::time::Duration::from_secs(seconds.into()));
                self.take_lease(&LocalLease { owner: owner.to_string(), reason: reason.into(), until })
            }
            Word::Release { owner } => self.release_lease(owner.as_str()),
            Word::Consents => Ok(self.consents()),
            Word::Give { slot, sha256, by } => self.give_consent(&slot, sha256, by),
            Word::Withdraw { slot, by } => self.withdraw_consent(slot, by),
        };
        if answer.send(told).is_err() {
            tracing::debug!("whoever asked did not wait for the answer");
        }
    }

    pub(super) fn leases(&self) -> Vec<LocalLease> {
        self.ledger.leases(self.parts.clock.now())
    }

    pub(super) fn bound_leases(&mut self) {
        if let Err(error) = self.ledger.bound_leases(self.parts.clock.now()) {
            // They are cut where they are read as well; only across restarts they could last longer.
            tracing::warn!(error = chain(&error), "leases longer than a day cannot be cut");
        }
    }

    pub(super) fn house(&self) -> House {
        let given = self.ledger.consents().iter().map(|(slot, given)| (slot.clone(), given.sha256));
        House { consent: self.parts.config.consent, given: given.collect(), leases: self.leases() }
    }

    pub(super) fn clock_state(&self) -> Clock {
        let clock = &self.parts.clock;
        if is_behind(clock.machine(), clock.now()) { Clock::NoEarlier } else { Clock::Sound }
    }

    /// Asked once more when a model is loaded: its moment may have passed meanwhile.
    pub(super) fn must_wait(&mut self, slot: &SlotName) -> bool {
        let world = self.world();
        let wanted = self.ledger.wish().and_then(|wish| wish.slots.get(slot));
        wanted.is_some_and(|wanted| waits(slot, wanted, &world, self.parts.clock.now()).is_some())
    }

    fn take_lease(&mut self, lease: &LocalLease) -> Answer {
        let now = self.parts.clock.now();
        tracing::info!(owner = lease.owner, reason = %lease.reason, until = %lease.until, "an application holds the box");
        self.ledger.take_lease(lease.clone(), now).map_err(|error| match error {
            LeaseError::TooMany => NotTaken::Conflict(error.to_string()),
            LeaseError::Disk(_) => NotTaken::Unsaved(chain(&error)),
        })?;
        Ok(json!(lease))
    }

    fn release_lease(&mut self, owner: &str) -> Answer {
        let now = self.parts.clock.now();
        if self.ledger.release_lease(owner, now).map_err(|error| unsaved(&error))? {
            tracing::info!(owner, "an application lets go of the box");
            return Ok(json!({ "owner": owner, "released": true }));
        }
        Err(NotTaken::Absent(format!("'{owner}' holds no lease; it may have run out")))
    }

    /// Every slot in which another bundle is wished for than the one that runs.
    fn consents(&mut self) -> Value {
        let world = self.world();
        let wished = self.ledger.wish().into_iter().flat_map(|wish| &wish.slots);
        let changing = wished.filter(|(slot, wanted)| !self.runs(slot, &wanted.bundle));
        let listed: Vec<Value> = changing
            .map(|(slot, wanted)| {
                let given = self.ledger.consents().get(slot);
                let given = given.filter(|given| given.sha256 == wanted.bundle.sha256);
                let phase = self.phases().iter().find(|(other, _)| other == slot).map(|(_, phase)| phase);
                json!({
                    "slot": slot,
                    "bundle": wanted.bundle,
                    "asked": asks(slot, wanted, &world),
                    "given": given.map(|given| json!({ "by": given.by, "at": given.at })),
                    "phase": phase,
                })
            })
            .collect();
        json!({ "consents": listed })
    }

    fn give_consent(&mut self, slot: &SlotName, sha256: Digest, by: String) -> Answer {
        let bundle = self.changing(slot)?.bundle.clone();
        if bundle.sha256 != sha256 {
            return Err(NotTaken::Conflict(format!(
                "{slot} is meant to run {} ({}) by now; look again before you say yes",
                bundle.path,
                bundle.sha256.short()
            )));
        }
        let given = Given { sha256, by: by.clone(), at: self.parts.clock.now() };
        let answer = json!({ "slot": slot, "bundle": bundle, "given": { "by": given.by, "at": given.at } });
        let anew = self.ledger.consents().get(slot).is_none_or(|before| before.sha256 != sha256);
        self.ledger.give(slot, given).map_err(|error| unsaved(&error))?;
        if anew {
            tracing::info!(%slot, bundle = %bundle.path, by, "somebody consents");
            self.event(EventKind::ConsentGiven { slot: slot.clone(), bundle, by });
        }
        Ok(answer)
    }

    fn withdraw_consent(&mut self, slot: SlotName, by: String) -> Answer {
        let bundle = self.changing(&slot)?.bundle.clone();
        if !self.ledger.consents().contains_key(&slot) {
            return Err(NotTaken::Absent(format!("nobody has consented to {} in {slot}", bundle.path)));
        }
        self.ledger.withdraw(&slot).map_err(|error| unsaved(&error))?;
        tracing::info!(%slot, bundle = %bundle.path, by, "somebody takes consent back");
        let answer = json!({ "slot": slot, "bundle": bundle, "given": null });
        self.event(EventKind::ConsentWithdrawn { slot, bundle, by });
        Ok(answer)
    }

    /// What a slot is wished to run and does not.
    fn changing(&self, slot: &SlotName) -> Result<&Wanted, NotTaken> {
        let Some(wanted) = self.ledger.wish().and_then(|wish| wish.slots.get(slot)) else {
            return Err(NotTaken::Absent(format!("nothing is wished for in '{slot}'")));
        };
        if self.runs(slot, &wanted.bundle) {
            return Err(NotTaken::Conflict(format!("{slot} runs {} already", wanted.bundle.path)));
        }
        Ok(wanted)
    }

    fn runs(&self, slot: &SlotName, bundle: &BundleRef) -> bool {
        self.phases().iter().any(|(other, phase)| {
            other == slot && matches!(phase, Phase::Running { bundle: running } if running == bundle)
        })
    }
}

fn unsaved(error: &DiskError) -> NotTaken {
    NotTaken::Unsaved(chain(error))
}
