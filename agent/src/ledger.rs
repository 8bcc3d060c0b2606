//! What must survive a restart: what is wished and since when, which bundles failed here, and what each slot runs.
//!
//! A damaged ledger stops the start: guessing what ran would be worse than asking a person.

mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use muster_protocol::ids::{Digest, SlotName};
use muster_protocol::message::Sentence;
use serde::{Deserialize, Serialize};

use crate::disk::{self, DiskError};
use crate::reconcile::{Bad, Wish};
pub use slots::{Before, Recovered, SlotFiles, SlotRecord};

/// Bad bundles remembered; beyond it those of the oldest orders are forgotten.
const BAD_MAX: usize = 64;
/// Deaths of the process while it loaded one bundle, until the bundle is taken for the killer.
const INTERRUPTIONS_MAX: u32 = 3;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Document {
    wish: Option<Wish>,
    bad: BTreeMap<Digest, Bad>,
    /// How often the process died while it loaded this bundle.
    interrupted: BTreeMap<Digest, u32>,
    /// Slots whose current bundle was revoked and must not answer: not after a restart either.
    stopped: BTreeSet<SlotName>,
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
        self.change(|document| document.wish = Some(wish))
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
