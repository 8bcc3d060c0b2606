//! What each slot runs, on disk: `slots/<slot>/{current,previous}.json`, and `journal.json` while that changes.
//!
//! ```text
//!   begin: journal(to, current, previous) ─▶ [the model loads and takes over] ─▶ commit: previous.json ─▶ current.json
//!                                                                                      ─▶ journal removed
//!   killed before current.json names the new bundle: everything is put back as the journal has it
//!   killed after:                                    the rest of the commit is done
//!   it does not load, or cannot be committed:        everything is put back as the journal has it
//! ```
//! Either way a slot that starts is whole: one bundle that was verified, or none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use muster_protocol::ids::SlotName;
use muster_protocol::message::up::{BundleRef, Running};
use serde::{Deserialize, Serialize};

use crate::disk::{self, DiskError};

/// What one slot runs, and what it can go back to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlotRecord {
    pub current: Option<Running>,
    pub previous: Option<Running>,
}

/// How a change that a killed process had begun was ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Recovered {
    /// It was as good as done.
    Finished { slot: SlotName, bundle: BundleRef },
    /// It was not, and is undone.
    Undone { slot: SlotName, bundle: BundleRef },
}

/// What becomes of the bundle that a slot ran before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It is what the slot can go back to.
    Kept,
    /// It was revoked: what the slot could go back to until now, it still can.
    Dropped,
}

#[derive(Clone, Debug)]
pub struct SlotFiles {
    dir: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Journal {
    to: BundleRef,
    current: Option<Running>,
    previous: Option<Running>,
}

impl SlotFiles {
    /// Opens the folder and ends what a killed process had begun.
    pub fn open(state_dir: &Path) -> Result<(Self, Vec<Recovered>), DiskError> {
        let files = Self { dir: state_dir.join("slots") };
        disk::create_dir(&files.dir)?;
        let mut recovered = Vec::new();
        for slot in files.names()? {
            recovered.extend(files.recover(&slot)?);
        }
        Ok((files, recovered))
    }

    pub fn all(&self) -> Result<BTreeMap<SlotName, SlotRecord>, DiskError> {
        let mut all = BTreeMap::new();
        for slot in self.names()? {
            let record = self.read(&slot)?;
            if record.current.is_some() {
                all.insert(slot, record);
            }
        }
        Ok(all)
    }

    /// Notes what is about to happen, before it does. What was begun before and could not be undone is undone first.
    pub fn begin(&self, slot: &SlotName, to: &BundleRef) -> Result<(), DiskError> {
        disk::create_dir(&self.dir.join(slot.as_str()))?;
        self.abort(slot)?;
        let SlotRecord { current, previous } = self.read(slot)?;
        disk::write_json(&self.journal(slot), &Journal { to: to.clone(), current, previous })
    }

    /// The bundle runs: makes it the slot's current one, for good.
    pub fn commit(&self, slot: &SlotName, running: &Running, kept: Before) -> Result<SlotRecord, DiskError> {
        let before = self.read(slot)?.current.filter(|_| kept == Before::Kept);
        // The same bundle again (its files were repaired) must not become its own way back.
        let previous = before.filter(|before| before.bundle.sha256 != running.bundle.sha256);
        if let Some(previous) = &previous {
            disk::write_json(&self.previous(slot), previous)?;
        }
        disk::write_json(&self.current(slot), running)?;
        disk::remove(&self.journal(slot))?;
        self.read(slot)
    }

    /// It does not run: the slot is as it was, however far a commit came.
    pub fn abort(&self, slot: &SlotName) -> Result<(), DiskError> {
        match disk::read_json(&self.journal(slot))? {
            Some(journal) => self.undo(slot, &journal),
            None => Ok(()),
        }
    }

    /// Makes the previous bundle the current one again; without one the slot is empty.
    pub fn revert(&self, slot: &SlotName) -> Result<SlotRecord, DiskError> {
        match self.read(slot)?.previous {
            Some(previous) => {
                disk::write_json(&self.current(slot), &previous)?;
                disk::remove(&self.previous(slot))?;
            }
            None => disk::remove(&self.current(slot))?,
        }
        self.read(slot)
    }

    /// For good, also if the change that is under way is undone.
    pub fn forget_previous(&self, slot: &SlotName) -> Result<(), DiskError> {
        disk::remove(&self.previous(slot))?;
        match disk::read_json::<Journal>(&self.journal(slot))? {
            Some(journal) if journal.previous.is_some() => {
                disk::write_json(&self.journal(slot), &Journal { previous: None, ..journal })
            }
            Some(_) | None => Ok(()),
        }
    }

    pub fn clear(&self, slot: &SlotName) -> Result<(), DiskError> {
        // The current one goes first: what is left without it is not run by anybody.
        for path in [self.current(slot), self.previous(slot), self.journal(slot)] {
            disk::remove(&path)?;
        }
        Ok(())
    }

    fn recover(&self, slot: &SlotName) -> Result<Option<Recovered>, DiskError> {
        let record = self.read(slot)?;
        let Some(journal) = disk::read_json::<Journal>(&self.journal(slot))? else {
            let same =
                |previous: &Running| record.current.as_ref().is_none_or(|c| c.bundle == previous.bundle);
            if record.previous.as_ref().is_some_and(same) {
                disk::remove(&self.previous(slot))?;
            }
            return Ok(None);
        };
        let is_new = |running: &Running| running.bundle == journal.to;
        let committed = record.current.as_ref().is_some_and(is_new);
        let undone_already = journal.current.as_ref().is_some_and(is_new);
        if committed && !undone_already {
            // previous.json was written before current.json.
            disk::remove(&self.journal(slot))?;
            return Ok(Some(Recovered::Finished { slot: slot.clone(), bundle: journal.to }));
        }
        self.undo(slot, &journal)?;
        Ok(Some(Recovered::Undone { slot: slot.clone(), bundle: journal.to }))
    }

    fn undo(&self, slot: &SlotName, Journal { current, previous, .. }: &Journal) -> Result<(), DiskError> {
        let found = self.read(slot)?;
        // What is as it was is not written again: on a full disk that would be refused.
        if found.previous != *previous {
            put(&self.previous(slot), previous.as_ref())?;
        }
        if found.current != *current {
            put(&self.current(slot), current.as_ref())?;
        }
        disk::remove(&self.journal(slot))
    }

    fn read(&self, slot: &SlotName) -> Result<SlotRecord, DiskError> {
        let (current, previous) =
            (disk::read_json(&self.current(slot))?, disk::read_json(&self.previous(slot))?);
        Ok(SlotRecord { current, previous })
    }

    fn names(&self) -> Result<Vec<SlotName>, DiskError> {
        let paths = disk::list(&self.dir)?;
        Ok(paths.iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect())
    }

    fn current(&self, slot: &SlotName) -> PathBuf {
        self.dir.join(slot.as_str()).join("current.json")
    }

    fn previous(&self, slot: &SlotName) -> PathBuf {
        self.dir.join(slot.as_str()).join("previous.json")
    }

    fn journal(&self, slot: &SlotName) -> PathBuf {
        self.dir.join(slot.as_str()).join("journal.json")
    }
}

fn put(path: &Path, value: Option<&Running>) -> Result<(), DiskError> {
    match value {
        Some(value) => disk::write_json(path, value),
        None => disk::remove(path),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use muster_protocol::ids::Digest;
    use muster_protocol::message::{Provider, ProviderUse};
    use muster_protocol::time::Timestamp;

    use super::*;

    fn slot() -> SlotName {
        "beds".parse().unwrap()
    }

    fn running(i: u8) -> Running {
        Running {
            bundle: BundleRef {
                path: format!("bundles/beds/{i}.json").parse().unwrap(),
                sha256: Digest::of(&[i]),
            },
            variant: "cpu".to_owned(),
            provider: ProviderUse { provider: Provider::OpenVino, reason: None },
            numerics: None,
            passed_over: None,
            since: Timestamp::from_seconds(i64::from(i)),
        }
    }

    fn record(current: Option<u8>, previous: Option<u8>) -> SlotRecord {
        SlotRecord { current: current.map(running), previous: previous.map(running) }
    }

    fn change(files: &SlotFiles, i: u8) {
        files.begin(&slot(), &running(i).bundle).unwrap();
        files.commit(&slot(), &running(i), Before::Kept).unwrap();
    }

    /// The second bundle of a slot, and the first before it.
    fn second() -> (tempfile::TempDir, SlotFiles) {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = SlotFiles::open(dir.path()).unwrap();
        change(&files, 1);
        change(&files, 2);
        (dir, files)
    }

    #[test]
    fn the_bundle_before_is_kept_and_can_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = SlotFiles::open(dir.path()).unwrap();
        for i in 1..=3 {
            change(&files, i);
        }
        change(&files, 3);
        files.begin(&slot(), &running(4).bundle).unwrap();
        assert_eq!(files.commit(&slot(), &running(4), Before::Dropped).unwrap(), record(Some(4), Some(2)));
        change(&files, 3);
        disk::write_json(&files.previous(&slot()), &running(2)).unwrap();
        let check = |wanted| assert_eq!(files.all().unwrap().remove(&slot()).unwrap_or_default(), wanted);
        check(record(Some(3), Some(2)));
        assert_eq!(files.revert(&slot()).unwrap(), record(Some(2), None));
        files.begin(&slot(), &running(4).bundle).unwrap();
        files.abort(&slot()).unwrap();
        check(record(Some(2), None));
        files.revert(&slot()).unwrap();
        check(record(None, None));
        files.clear(&slot()).unwrap();
    }

    /// A copy of the folder after each single change to it, as a killed process would leave it.
    #[test]
    fn killed_between_any_two_writes_the_slot_is_whole() {
        let (base, _) = second();
        let document = |value: &Running| serde_json::to_vec(value).unwrap();
        let journal = serde_json::to_vec(&Journal {
            to: running(3).bundle,
            current: Some(running(2)),
            previous: Some(running(1)),
        })
        .unwrap();
        let steps: [(&str, Vec<u8>); 3] = [
            ("journal.json", journal),
            ("previous.json", document(&running(2))),
            ("current.json", document(&running(3))),
        ];
        let folder = base.path().join("slots/beds");
        for killed_after in 1..=steps.len() {
            for (name, bytes) in &steps[..killed_after] {
                fs::write(folder.join(name), bytes).unwrap();
            }
            // The next file was being written.
            fs::write(folder.join("current.json.tmp"), b"{").unwrap();
            let (files, recovered) = SlotFiles::open(base.path()).unwrap();
            let bundle = running(3).bundle;
            let (wanted, how) = if killed_after == steps.len() {
                (record(Some(3), Some(2)), Recovered::Finished { slot: slot(), bundle })
            } else {
                (record(Some(2), Some(1)), Recovered::Undone { slot: slot(), bundle })
            };
            assert_eq!(recovered, vec![how], "killed after step {killed_after}");
            assert_eq!(files.all().unwrap()[&slot()], wanted, "killed after step {killed_after}");
            assert_eq!(SlotFiles::open(base.path()).unwrap().1, vec![]);
        }
    }

    #[test]
    fn what_was_revoked_meanwhile_does_not_come_back_with_what_is_undone() {
        let (_dir, files) = second();
        files.begin(&slot(), &running(3).bundle).unwrap();
        files.forget_previous(&slot()).unwrap();
        files.abort(&slot()).unwrap();
        assert_eq!(files.all().unwrap()[&slot()], record(Some(2), None));
    }

    /// A disk that takes no more.
    #[test]
    fn undoing_what_changed_nothing_needs_no_room() {
        let (_dir, files) = second();
        files.begin(&slot(), &running(3).bundle).unwrap();
        for name in ["current.json.tmp", "previous.json.tmp"] {
            fs::create_dir(files.dir.join("beds").join(name)).unwrap();
        }
        files.abort(&slot()).unwrap();
        assert_eq!(files.all().unwrap()[&slot()], record(Some(2), Some(1)));
    }

    /// A disk that refused one of the commit's writes: the bundle before must not become its own way back.
    #[test]
    fn a_commit_that_stopped_in_the_middle_is_undone() {
        type End = fn(&SlotFiles, &SlotName) -> Result<(), DiskError>;
        let (_dir, files) = second();
        let ends: [End; 2] = [SlotFiles::abort, |files, slot| files.begin(slot, &running(4).bundle)];
        for ends_with in ends {
            files.begin(&slot(), &running(3).bundle).unwrap();
            fs::create_dir(files.dir.join("beds/current.json.tmp")).unwrap();
            files.commit(&slot(), &running(3), Before::Kept).unwrap_err();
            fs::remove_dir(files.dir.join("beds/current.json.tmp")).unwrap();
            ends_with(&files, &slot()).unwrap();
            assert_eq!(files.all().unwrap()[&slot()], record(Some(2), Some(1)));
        }
    }

    #[test]
    fn a_first_bundle_that_was_interrupted_leaves_an_empty_slot() {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = SlotFiles::open(dir.path()).unwrap();
        files.begin(&slot(), &running(1).bundle).unwrap();
        let (files, recovered) = SlotFiles::open(dir.path()).unwrap();
        assert!(matches!(recovered.as_slice(), [Recovered::Undone { .. }]));
        assert!(files.all().unwrap().is_empty());
    }

    #[test]
    fn a_revert_that_was_cut_short_is_finished() {
        let (dir, files) = second();
        disk::write_json(&files.current(&slot()), &running(1)).unwrap();
        let (files, _) = SlotFiles::open(dir.path()).unwrap();
        assert_eq!(files.all().unwrap()[&slot()], record(Some(1), None));
    }

    #[test]
    fn a_damaged_document_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = SlotFiles::open(dir.path()).unwrap();
        change(&files, 1);
        fs::write(files.current(&slot()), "{").unwrap();
        assert!(SlotFiles::open(dir.path()).is_err());
    }
}
