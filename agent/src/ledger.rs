//! What must survive a restart: what is wished and since when, which bundles failed here, what people consented to, which
//! leases applications hold, and what each slot runs.
//!
//! A damaged ledger stops the start: guessing what ran would be worse than asking a person.

mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_protocol::ids::{Digest, SlotName};
use muster_protocol::limits::{LOCAL_LEASE_SECONDS_MAX, LOCAL_LEASES_MAX};
use muster_protocol::message::{LocalLease, Sentence};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::disk::{self, DiskError};
use crate::reconcile::{Bad, Wish};
pub use slots::{Before, Recovered, SlotFiles, SlotRecord};

/// Bad bundles remembered; beyond it those of the oldest orders are forgotten.
const BAD_MAX: usize = 64;
/// Deaths of the process while it loaded one bundle, until the bundle is taken for the killer.
const INTERRUPTIONS_MAX: u32 = 3;
/// What a clock that was set back may not lengthen.
const LEASE_MAX: Duration = Duration::from_secs(LOCAL_LEASE_SECONDS_MAX as u64);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Document {
    wish: Option<Wish>,
    bad: BTreeMap<Digest, Bad>,
    /// How often the process died while it loaded this bundle.
    interrupted: BTreeMap<Digest, u32>,
    /// Slots whose current bundle was revoked and must not answer: not after a restart either.
    stopped: BTreeSet<SlotName>,
    /// What people at the box said yes to. Bound to the bundle, and forgotten with the wish for it.
    consents: BTreeMap<SlotName, Given>,
    /// Leases of the box's applications. Those that have run out are left out with the next change.
    leases: Vec<LocalLease>,
}

/// Somebody's yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    pub sha256: Digest,
    pub by: String,
    pub at: Timestamp,
}

#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("{LOCAL_LEASES_MAX} applications hold this box already; wait until one of them lets go")]
    TooMany,
    #[error("the lease cannot be kept")]
    Disk(#[from] DiskError),
}

#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    document: Document,
}

impl Ledger {
    pub fn open(state_dir: &Path) -> Result<Self, DiskError> {
        let path = state_dir.join("ledger.json");
        let document = disk::read_json(&path)?.unwrap_or_default();
        Ok(Self { path, document })
    }

    pub fn wish(&self) -> Option<&Wish> {
        self.document.wish.as_ref()
    }

    pub fn bad(&self) -> &BTreeMap<Digest, Bad> {
        &self.document.bad
    }

    pub fn stopped(&self) -> &BTreeSet<SlotName> {
        &self.document.stopped
    }

    pub fn stop(&mut self, slot: &SlotName) -> Result<(), DiskError> {
        self.change(|document| {
            document.stopped.insert(slot.clone());
        })
    }

    /// Something answers in the slot again, or it was cleared.
    pub fn unstop(&mut self, slot: &SlotName) -> Result<(), DiskError> {
        self.change(|document| {
            document.stopped.remove(slot);
        })
    }

    pub fn set_wish(&mut self, wish: Wish) -> Result<(), DiskError> {
        self.change(|document| {
            document.consents.retain(|slot, given| {
                wish.slots.get(slot).is_some_and(|wanted| wanted.bundle.sha256 == given.sha256)
            });
            document.wish = Some(wish);
        })
    }

    pub fn consents(&self) -> &BTreeMap<SlotName, Given> {
        &self.document.consents
    }

    pub fn give(&mut self, slot: &SlotName, given: Given) -> Result<(), DiskError> {
        self.change(|document| {
            document.consents.insert(slot.clone(), given);
        })
    }

    pub fn withdraw(&mut self, slot: &SlotName) -> Result<(), DiskError> {
        self.change(|document| {
            document.consents.remove(slot);
        })
    }

    /// Those that have not run out. A clock that was set back must not make one longer than it may be.
    pub fn leases(&self, now: Timestamp) -> Vec<LocalLease> {
        let latest = now.plus(LEASE_MAX);
        let live = self.document.leases.iter().filter(|lease| lease.until > now);
        live.map(|lease| LocalLease { until: lease.until.min(latest), ..lease.clone() }).collect()
    }

    /// Takes a lease, or takes it anew: the newest word of an owner counts.
    pub fn take_lease(&mut self, lease: LocalLease, now: Timestamp) -> Result<(), LeaseError> {
        let mut leases = self.leases(now);
        leases.retain(|held| held.owner != lease.owner);
        if leases.len() >= LOCAL_LEASES_MAX {
            return Err(LeaseError::TooMany);
        }
        leases.push(LocalLease { until: lease.until.min(now.plus(LEASE_MAX)), ..lease });
        Ok(self.change(|document| document.leases = leases)?)
    }

    /// Whether there was one.
    pub fn release_lease(&mut self, owner: &str, now: Timestamp) -> Result<bool, DiskError> {
        let mut leases = self.leases(now);
        let held = leases.len();
        leases.retain(|lease| lease.owner != owner);
        let was_held = leases.len() < held;
        self.change(|document| document.leases = leases)?;
        Ok(was_held)
    }

    /// Cuts, for good, what a clock that was set back would make longer than a lease may be.
    pub fn bound_leases(&mut self, now: Timestamp) -> Result<(), DiskError> {
        let latest = now.plus(LEASE_MAX);
        if self.document.leases.iter().all(|lease| lease.until <= latest) {
            return Ok(());
        }
        let leases = self.leases(now);
        self.change(|document| document.leases = leases)
    }

    /// Remembers that this bundle failed here.
    pub fn condemn(&mut self, bundle: Digest, bad: Bad) -> Result<(), DiskError> {
        self.change(|document| {
            document.interrupted.remove(&bundle);
            document.bad.insert(bundle, bad);
            while document.bad.len() > BAD_MAX {
                let oldest =
                    document.bad.iter().min_by_key(|(_, bad)| bad.asked_in).map(|(digest, _)| *digest);
                document.bad.retain(|digest, _| Some(*digest) != oldest);
            }
        })
    }

    /// A bundle that was asked for anew and runs is no longer bad.
    pub fn absolve(&mut self, bundle: &Digest) -> Result<(), DiskError> {
        let known = self.document.bad.contains_key(bundle) || self.document.interrupted.contains_key(bundle);
        if !known {
            return Ok(());
        }
        self.change(|document| {
            document.bad.remove(bundle);
            document.interrupted.remove(bundle);
        })
    }

    /// Notes that the process died while it loaded this bundle. Once is anybody's doing; three times is the bundle's.
    pub fn interrupted(&mut self, bundle: Digest) -> Result<(), DiskError> {
        let times = self.document.interrupted.get(&bundle).map_or(1, |times| times + 1);
        if times < INTERRUPTIONS_MAX {
            return self.change(|document| {
                document.interrupted.insert(bundle, times);
            });
        }
        let sentence =
            format!("the agent died {times} times while it loaded this bundle; it is not tried again");
        let asked_in = self.document.wish.as_ref().map_or(0, |wish| wish.generation);
        self.condemn(
            bundle,
            Bad { asked_in, code: "load_killed".to_owned(), sentence: Sentence::from(sentence) },
        )
    }

    fn change(&mut self, change: impl FnOnce(&mut Document)) -> Result<(), DiskError> {
        let mut next = self.document.clone();
        change(&mut next);
        if next != self.document {
            disk::write_json(&self.path, &next)?;
            self.document = next;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use muster_protocol::trust::{Consent, Permit};

    use super::*;

    fn bad(asked_in: u64) -> Bad {
        Bad { asked_in, code: "golden_mismatch".to_owned(), sentence: "it answers otherwise".into() }
    }

    #[test]
    fn what_is_noted_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.set_wish(Wish { generation: 7, slots: BTreeMap::new() }).unwrap();
        ledger.condemn(Digest::of(b"a"), bad(7)).unwrap();
        let mut again = Ledger::open(dir.path()).unwrap();
        assert_eq!(again.document, ledger.document);
        again.absolve(&Digest::of(b"a")).unwrap();
        assert!(Ledger::open(dir.path()).unwrap().bad().is_empty());
    }

    fn at(s: i64) -> Timestamp {
        Timestamp::from_seconds(s)
    }

    fn lease(owner: &str, until: i64) -> LocalLease {
        LocalLease { owner: owner.to_owned(), reason: "an examination".into(), until: at(until) }
    }

    #[test]
    fn consent_lasts_as_long_as_the_wish_for_its_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let wish = |generation, content: &[u8], activate| {
            let bundle = muster_protocol::message::up::BundleRef {
                path: "bundles/m/1.json".parse().unwrap(),
                sha256: Digest::of(content),
            };
            let wanted = crate::reconcile::Wanted { bundle, since: 1, activate, consent: Consent::Ask };
            Wish { generation, slots: BTreeMap::from([("m".parse().unwrap(), wanted)]) }
        };
        let slot: SlotName = "m".parse().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.set_wish(wish(1, b"a", Permit::Hold)).unwrap();
        let given = Given { sha256: Digest::of(b"a"), by: "ward".to_owned(), at: at(5) };
        ledger.give(&slot, given.clone()).unwrap();
        ledger.set_wish(wish(2, b"a", Permit::Now)).unwrap();
        let mut again = Ledger::open(dir.path()).unwrap();
        assert_eq!(again.consents().get(&slot), Some(&given), "a permit is no other wish");
        again.set_wish(wish(3, b"b", Permit::Now)).unwrap();
        assert!(again.consents().is_empty());
        again.give(&slot, given).unwrap();
        again.withdraw(&slot).unwrap();
        assert!(Ledger::open(dir.path()).unwrap().consents().is_empty());
    }

    #[test]
    fn leases_end_are_few_and_survive() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.take_lease(lease("ct", 60), at(0)).unwrap();
        ledger.take_lease(lease("ct", 90), at(1)).unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        assert_eq!(ledger.leases(at(89)), vec![lease("ct", 90)], "one for each owner, the newest");
        assert_eq!(ledger.leases(at(90)), vec![]);
        assert!(ledger.release_lease("ct", at(2)).unwrap() && !ledger.release_lease("ct", at(2)).unwrap());
        for i in 0..LOCAL_LEASES_MAX {
            ledger.take_lease(lease(&format!("a{i}"), 60), at(3)).unwrap();
        }
        assert!(matches!(ledger.take_lease(lease("more", 60), at(3)), Err(LeaseError::TooMany)));
        ledger.take_lease(lease("a0", 61), at(3)).unwrap();
        ledger.take_lease(lease("more", 99), at(61)).unwrap();
        assert_eq!(ledger.leases(at(61)), vec![lease("more", 99)], "what has run out makes room");
    }

    #[test]
    fn a_clock_set_back_makes_no_lease_longer_than_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let day = i64::from(LOCAL_LEASE_SECONDS_MAX);
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.take_lease(lease("ct", 1_000 * day), at(990 * day)).unwrap();
        assert_eq!(ledger.leases(at(990 * day)), vec![lease("ct", 991 * day)], "nobody gets more than a day");
        ledger.bound_leases(at(0)).unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        assert_eq!(ledger.leases(at(60)), vec![lease("ct", day)], "cut once, and for good");
        assert_eq!(ledger.leases(at(day)), vec![]);
    }

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        for i in 0..=u8::try_from(BAD_MAX).unwrap() {
            ledger.condemn(Digest::of(&[i]), bad(u64::from(i))).unwrap();
        }
        assert_eq!(ledger.bad().len(), BAD_MAX);
        assert!(!ledger.bad().contains_key(&Digest::of(&[0])));
    }

    #[test]
    fn the_third_death_condemns() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let bundle = Digest::of(b"killer");
        for _ in 1..INTERRUPTIONS_MAX {
            ledger.interrupted(bundle).unwrap();
            assert!(ledger.bad().is_empty());
        }
        ledger.interrupted(bundle).unwrap();
        assert_eq!(ledger.bad()[&bundle].code, "load_killed");
    }

    #[test]
    fn a_damaged_ledger_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ledger.json"), "{\"wish\": 1}").unwrap();
        assert!(matches!(Ledger::open(dir.path()), Err(DiskError::Corrupt { .. })));
    }
}
