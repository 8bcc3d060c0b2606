//! Keeps beside each slot's bundle what should run there, and begins nothing while the box has other work.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use muster_protocol::ids::{Digest, SlotName};
use muster_protocol::message::up::BundleRef;

use super::agent::Agent;
use super::deeds::{LOAD_MAX, whole};
use super::event::Event;
use crate::activate::{ActivateError, Blame};
use crate::chain;
use crate::clock::monotonic;
use crate::disk::{self, DiskError};
use crate::reconcile::{Occupied, beside, retry_after};
use crate::shadow::Shadow;

/// Bundles that are remembered.
const KNOWN_MAX: usize = 64;
/// Ends of the process that a bundle is not blamed for: a box may be switched off.
const ENDS_MAX: u32 = 3;

/// What runs in shadows, and what must not. It runs on real requests in this process, and nobody may have permitted it yet: a
/// bundle that was under way when the process ended without a farewell, again and again, is not tried any more.
#[derive(Debug)]
pub(super) struct Beside {
    file: PathBuf,
    /// A model is being loaded.
    comes: bool,
    /// How often the process ended while it ran.
    ends: BTreeMap<Digest, u32>,
    /// By slot; written down before it runs.
    running: BTreeMap<SlotName, Digest>,
    /// By slot, what could not be loaded lately.
    paused: BTreeMap<SlotName, Pause>,
}

#[derive(Debug)]
struct Pause {
    bundle: Digest,
    attempts: u32,
    until: Instant,
}

impl Beside {
    pub(super) fn open(state_dir: &Path) -> Self {
        let file = state_dir.join("shadows.json");
        let ends: BTreeMap<Digest, u32> = match disk::read_json(&file) {
            Ok(found) => found.unwrap_or_default(),
            Err(error) => {
                tracing::error!(error = chain(&error), "what must not run in a shadow cannot be read");
                BTreeMap::new()
            }
        };
        let mut beside = Self { file, comes: false, ends, running: BTreeMap::new(), paused: BTreeMap::new() };
        beside.bound();
        beside
    }

    /// Nothing runs any more, and that is well.
    pub(super) fn farewell(&mut self) {
        self.running.clear();
        drop(self.note());
    }

    /// It could not be loaded for now.
    fn pause(&mut self, slot: &SlotName, bundle: Digest, now: Instant) {
        let before = self.paused.remove(slot).filter(|pause| pause.bundle == bundle);
        let attempts = before.map_or(0, |pause| pause.attempts).saturating_add(1);
        self.paused.insert(slot.clone(), Pause { bundle, attempts, until: now + retry_after(attempts) });
    }

    fn is_paused(&self, slot: &SlotName, bundle: &Digest, now: Instant) -> bool {
        self.paused.get(slot).is_some_and(|pause| pause.bundle == *bundle && now < pause.until)
    }

    fn is_unfit(&self, bundle: &Digest) -> bool {
        self.ends.get(bundle).is_some_and(|ends| *ends >= ENDS_MAX)
    }

    fn is_refused(&mut self, bundle: Digest) {
        self.ends.insert(bundle, ENDS_MAX);
        self.bound();
        drop(self.note());
    }

    fn began(&mut self, slot: &SlotName, bundle: Digest) -> Result<(), DiskError> {
        self.running.insert(slot.clone(), bundle);
        self.note()
    }

    fn ended(&mut self, slot: &SlotName) {
        if self.running.remove(slot).is_some() {
            drop(self.note());
        }
    }

    fn bound(&mut self) {
        while self.ends.len() > KNOWN_MAX {
            self.ends.pop_first();
        }
    }

    /// As it will be read if the process ends now.
    fn note(&self) -> Result<(), DiskError> {
        let mut ends = self.ends.clone();
        self.running.values().for_each(|bundle| *ends.entry(*bundle).or_default() += 1);
        let noted = disk::write_json(&self.file, &ends);
        noted.inspect_err(|error| tracing::error!(error = chain(error), "cannot note what runs in a shadow"))
    }
}

impl Agent {
    /// What runs in the shadow of each slot becomes what should: a bundle that waits for its moment, or the one before.
    pub(super) fn look_beside(&mut self, slots: &BTreeMap<SlotName, Occupied>) {
        let now = self.parts.clock.now();
        let phases = self.phases().to_vec();
        let gone =
            self.beside.running.keys().filter(|slot| phases.iter().all(|(phase_of, _)| phase_of != *slot));
        for slot in gone.cloned().collect::<Vec<_>>() {
            self.parts.slots.shadow(&slot, None);
            self.beside.ended(&slot);
        }
        let (ended, running): (Vec<_>, Vec<_>) =
            self.parts.slots.shadows().into_iter().partition(|(_, shadow)| shadow.has_ended());
        for (slot, shadow) in ended {
            tracing::error!(%slot, bundle = %shadow.bundle.path, "what ran in the shadow has failed; it is not tried again");
            self.parts.slots.shadow(&slot, None);
            self.beside.ended(&slot);
            self.beside.is_refused(shadow.bundle.sha256);
        }
        for (slot, phase) in phases {
            let Some(occupied) = slots.get(&slot) else { continue };
            let Some(since) =
                self.records.get(&slot).and_then(|record| record.current.as_ref()).map(|it| it.since)
            else {
                continue;
            };
            let wanted =
                beside(&phase, occupied, since, now).filter(|_| self.parts.config.serve.shadow_percent > 0);
            let has = running.iter().find(|(name, _)| *name == slot).map(|(_, shadow)| shadow);
            let fits = has.is_some_and(|shadow| {
                wanted == Some(&shadow.bundle) && occupied.current.as_ref() == Some(&shadow.against)
            });
            if fits {
                continue;
            }
            if has.is_some() {
                self.parts.slots.shadow(&slot, None);
            }
            self.beside.ended(&slot);
            if let (Some(bundle), Some(against)) = (wanted, &occupied.current) {
                self.begin_beside(slot, bundle.clone(), against.clone());
            }
        }
    }

    fn begin_beside(&mut self, slot: SlotName, bundle: BundleRef, against: BundleRef) {
        let pauses = self.beside.is_paused(&slot, &bundle.sha256, monotonic());
        if self.busy.is_some() || self.beside.comes || pauses || self.beside.is_unfit(&bundle.sha256) {
            return;
        }
        let before = self.records.get(&slot).and_then(|record| record.previous.clone());
        let before = before.filter(|before| before.bundle == bundle);
        let proven = self.chosen(&bundle).cloned();
        let workbench = self.parts.workbench.clone();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let percent = self.parts.config.serve.shadow_percent;
        let budget =
            f64::from(u32::from(percent)) / 100.0 * f64::from(u32::try_from(cores).unwrap_or(u32::MAX));
        self.beside.comes = true;
        self.spawn(async move {
            let chosen = match (before, proven) {
                (Some(ran), _) => {
                    let (blobs, has) = (workbench.blobs.clone(), workbench.has.clone());
                    // All of it is read, which takes its time and can wait.
                    let read = workbench.engine.beside(move || whole(&blobs, &ran, &has)).await;
                    read.map_err(ActivateError::Load).and_then(|read| read)
                }
                (None, Some(chosen)) => Ok(chosen),
                (None, None) => Err(ActivateError::Damaged(format!("the manifest {}", bundle.path))),
            };
            let result = match chosen {
                Ok(chosen) => {
                    let load = workbench.load_beside(&chosen, against, budget);
                    let late = |_| Err(ActivateError::LoadTime { limit_s: LOAD_MAX.as_secs() });
                    tokio::time::timeout(LOAD_MAX, load).await.unwrap_or_else(late)
                }
                Err(error) => Err(error),
            };
            Event::Beside { slot, bundle, result }
        });
    }

    /// The order may have changed while it loaded: [`Agent::look_beside`] comes next and ends it then.
    pub(super) fn beside_loaded(
        &mut self,
        slot: &SlotName,
        bundle: &BundleRef,
        result: Result<Shadow, ActivateError>,
    ) {
        self.beside.comes = false;
        match result {
            Ok(shadow) => {
                if self.beside.began(slot, bundle.sha256).is_err() {
                    self.beside.pause(slot, bundle.sha256, monotonic());
                } else {
                    self.beside.paused.remove(slot);
                    tracing::info!(%slot, bundle = %bundle.path, against = %shadow.against.path, "runs in the shadow");
                    self.parts.slots.shadow(slot, Some(shadow));
                }
            }
            Err(error) => {
                tracing::warn!(%slot, bundle = %bundle.path, reason = chain(&error), "cannot run in the shadow");
                match error.blame() {
                    Blame::Bundle => self.beside.is_refused(bundle.sha256),
                    Blame::Moment => self.beside.pause(slot, bundle.sha256, monotonic()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_ends_the_process_again_and_again_is_tried_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let (slot, bundle) = ("beds".parse().unwrap(), Digest::of(b"bundle"));
        for _ in 0..ENDS_MAX {
            let mut beside = Beside::open(dir.path());
            assert!(!beside.is_unfit(&bundle));
            beside.began(&slot, bundle).unwrap();
        }
        assert!(Beside::open(dir.path()).is_unfit(&bundle));
    }

    #[test]
    fn what_cannot_be_loaded_for_now_is_left_alone_for_longer_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let (slot, bundle) = ("beds".parse().unwrap(), Digest::of(b"bundle"));
        let mut beside = Beside::open(dir.path());
        let now = monotonic();
        for (attempt, wait) in [(1, 10), (2, 20), (3, 40)].map(|(n, s)| (n, Duration::from_secs(s))) {
            beside.pause(&slot, bundle, now);
            assert!(beside.is_paused(&slot, &bundle, now + wait / 2), "{attempt}");
            assert!(!beside.is_paused(&slot, &bundle, now + wait), "{attempt}");
        }
        (0..40).for_each(|_| beside.pause(&slot, bundle, now));
        assert!(!beside.is_paused(&slot, &bundle, now + Duration::from_mins(10)));
        assert!(!beside.is_paused(&slot, &Digest::of(b"another"), now));
    }

    #[test]
    fn a_farewell_and_an_end_in_peace_count_against_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (slot, bundle) = ("beds".parse().unwrap(), Digest::of(b"bundle"));
        for turn in 0..ENDS_MAX * 2 {
            let mut beside = Beside::open(dir.path());
            beside.began(&slot, bundle).unwrap();
            if turn % 2 == 0 { beside.farewell() } else { beside.ended(&slot) }
        }
        let mut beside = Beside::open(dir.path());
        assert!(!beside.is_unfit(&bundle));
        beside.is_refused(bundle);
        assert!(Beside::open(dir.path()).is_unfit(&bundle));
        std::fs::write(dir.path().join("shadows.json"), "{").unwrap();
        assert!(!Beside::open(dir.path()).is_unfit(&bundle));
    }
}
