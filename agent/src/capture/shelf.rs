//! The folder of finished files, and the counts of what went into them. Bounded: the oldest file makes room.
//!
//! ```text
//!   captures/1764115200123-beds-cap-….age    finished: whole, readable by the site alone
//!           /….part                          being written; encrypted as well, worth nothing before its end
//!           /counts.json                     how much each request and each slot's day have had
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_protocol::drift::Floor;
use muster_protocol::ids::{CaptureId, SlotName};
use muster_protocol::limits::{CAPTURES_MAX, SLOTS_MAX};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::disk::{self, DiskError};

/// In the state folder.
pub const FOLDER: &str = "captures";
const FINISHED: &str = "age";
const UNFINISHED: &str = "part";
const COUNTS: &str = "counts.json";
/// Sizes are told in steps of this.
const BYTES_STEP: u64 = 64 * 1024;
const DAY: Duration = Duration::from_hours(24);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    requests: BTreeMap<CaptureId, Count>,
    days: BTreeMap<SlotName, Today>,
}

/// What one request has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    /// Written, finished or not.
    pub(super) rows: u64,
    /// In finished files.
    finished: u64,
    files: u32,
    bytes: u64,
    dropped: u64,
    pub(super) told: Told,
}

/// What the fleet may know of it. All of it changes only when rows have come to another multiple of *k*: a file more, or a
/// byte, would tell of a single row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) rows: u64,
    pub(super) dropped: u64,
    pub(super) files: u32,
    pub(super) bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Today {
    day: Timestamp,
    rows: u64,
}

/// What went into one file, and what did not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    pub(super) rows: u64,
    pub(super) dropped: u64,
    pub(super) bytes: u64,
}

/// A finished file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Captured {
    #[serde(skip)]
    pub path: PathBuf,
    pub name: String,
    pub slot: SlotName,
    pub request: CaptureId,
    /// When it was begun, real time.
    pub begun: Timestamp,
    pub bytes: u64,
}

impl Counts {
    pub(super) fn of(&self, request: &CaptureId) -> Count {
        self.requests.get(request).copied().unwrap_or_default()
    }

    /// Rows of a slot on the day of `now`.
    pub(super) fn today(&self, slot: &SlotName, now: Timestamp) -> u64 {
        self.days.get(slot).filter(|today| today.day == now.floor_to(DAY)).map_or(0, |today| today.rows)
    }

    pub(super) fn wrote(&mut self, request: &CaptureId, slot: &SlotName, now: Timestamp) {
        self.request(request).rows += 1;
        let day = now.floor_to(DAY);
        let today = self.days.entry(slot.clone()).or_default();
        *today = Today { day, rows: if today.day == day { today.rows + 1 } else { 1 } };
        while self.days.len() > SLOTS_MAX {
            let oldest = self.days.iter().min_by_key(|(_, today)| today.day).map(|(slot, _)| slot.clone());
            oldest.and_then(|slot| self.days.remove(&slot));
        }
    }

    pub(super) fn finished(&mut self, request: &CaptureId, file: &Finished, floor: Floor) {
        let count = self.request(request);
        count.finished += file.rows;
        count.dropped += file.dropped;
        count.files += 1;
        count.bytes += file.bytes;
        let steps = |rows: u64| rows - rows % floor.rows();
        if steps(count.finished) > count.told.rows {
            count.told = Told {
                rows: steps(count.finished),
                dropped: steps(count.dropped),
                files: count.files,
                bytes: count.bytes.next_multiple_of(BYTES_STEP),
            };
        }
    }

    fn request(&mut self, request: &CaptureId) -> &mut Count {
        while self.requests.len() >= 2 * CAPTURES_MAX && !self.requests.contains_key(request) {
            self.requests.pop_first();
        }
        self.requests.entry(request.clone()).or_default()
    }

    /// Forgets what nobody asks for any more.
    pub(super) fn keep(&mut self, asked: impl Fn(&CaptureId) -> bool) {
        self.requests.retain(|request, _| asked(request));
    }
}

#[derive(Debug)]
pub(super) struct Shelf(PathBuf);

impl Shelf {
    /// What was being written when the last life ended is worth nothing: its end is missing.
    pub(super) fn open(state_dir: &Path) -> Result<(Self, Counts), DiskError> {
        let folder = state_dir.join(FOLDER);
        disk::create_dir(&folder)?;
        for path in disk::list(&folder)? {
            if path.extension().is_some_and(|kind| kind == UNFINISHED) {
                disk::remove(&path)?;
            }
        }
        let counts = disk::read_json(&folder.join(COUNTS))?.unwrap_or_default();
        Ok((Self(folder), counts))
    }

    /// Where a file is written, and what it is called when it is finished.
    pub(super) fn place(&self, begun: Timestamp, slot: &SlotName, request: &CaptureId) -> (PathBuf, PathBuf) {
        let mut ms = begun.as_millis();
        loop {
            let finished = self.0.join(format!("{ms:013}-{slot}-{request}.{FINISHED}"));
            let part = finished.with_extension(UNFINISHED);
            if !finished.exists() && !part.exists() {
                return (part, finished);
            }
            ms += 1;
        }
    }

    pub(super) fn save(&self, counts: &Counts) -> Result<(), DiskError> {
        disk::write_json(&self.0.join(COUNTS), counts)
    }

    /// Removes the oldest files until `more` bytes fit as well. Returns how many went.
    pub(super) fn make_room(&self, more: u64, bytes_max: u64) -> Result<usize, DiskError> {
        let files = list(&self.0)?;
        let mut held = files.iter().map(|file| file.bytes).fold(more, u64::saturating_add);
        let mut gone = 0;
        for file in files {
            if held <= bytes_max {
                break;
            }
            disk::remove(&file.path)?;
            held = held.saturating_sub(file.bytes);
            gone += 1;
        }
        Ok(gone)
    }
}

/// The finished files of a folder, the oldest first.
pub fn list(folder: &Path) -> Result<Vec<Captured>, DiskError> {
    let mut files = Vec::new();
    for path in disk::list(folder)? {
        let Some(found) = captured(&path) else { continue };
        files.push(found);
    }
    Ok(files)
}

fn captured(path: &Path) -> Option<Captured> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".age")?;
    let (ms, rest) = stem.split_once('-')?;
    // A slot's name may hold a '-', an id of a capture holds one after its prefix.
    let (slot, request) = rest.rsplit_once("-cap-")?;
    Some(Captured {
        begun: Timestamp::from_millis(ms.parse().ok()?),
        slot: slot.parse().ok()?,
        request: format!("cap-{request}").parse().ok()?,
        bytes: fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?.len(),
        name: name.to_owned(),
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + ms)
    }

    fn filed(shelf: &Shelf, ms: i64, bytes: usize) -> PathBuf {
        let (_, path) = shelf.place(at(ms), &"er-beds".parse().unwrap(), &CaptureId::mint([1; 16]));
        fs::write(&path, vec![0; bytes]).unwrap();
        path
    }

    #[test]
    fn the_oldest_file_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, _) = Shelf::open(dir.path()).unwrap();
        let paths = [filed(&shelf, 0, 10), filed(&shelf, 0, 20), filed(&shelf, 5, 30)];
        let files = list(&dir.path().join(FOLDER)).unwrap();
        assert_eq!(files.iter().map(|file| file.path.clone()).collect::<Vec<_>>(), paths);
        assert_eq!((files[0].slot.as_str(), files[0].begun, files[1].bytes), ("er-beds", at(0), 20));
        assert_eq!(shelf.make_room(0, 60).unwrap(), 0);
        assert_eq!(shelf.make_room(15, 60).unwrap(), 2);
        assert_eq!(list(&dir.path().join(FOLDER)).unwrap().len(), 1);
    }

    #[test]
    fn nothing_told_changes_for_fewer_than_k_rows() {
        let (mut counts, request) = (Counts::default(), CaptureId::mint([1; 16]));
        let mut told = |rows: u64| {
            counts.finished(&request, &Finished { rows, dropped: 3, bytes: 70_000 }, Floor::LEAST);
            counts.of(&request).told
        };
        assert_eq!(told(4), Told::default());
        let five = Told { rows: 5, dropped: 5, files: 2, bytes: 3 * BYTES_STEP };
        assert_eq!(told(1), five);
        assert_eq!((told(3), told(1)), (five, five));
        assert_eq!(told(7), Told { rows: 15, dropped: 15, files: 5, bytes: 6 * BYTES_STEP });
    }

    #[test]
    fn a_day_and_a_request_are_counted_across_lives() {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, mut counts) = Shelf::open(dir.path()).unwrap();
        let (request, slot): (_, SlotName) = (CaptureId::mint([1; 16]), "m".parse().unwrap());
        counts.wrote(&request, &slot, at(0));
        counts.wrote(&request, &slot, at(1));
        counts.finished(&request, &Finished { rows: 2, dropped: 3, bytes: 400 }, Floor::LEAST);
        shelf.save(&counts).unwrap();
        let (part, _) = shelf.place(at(9), &slot, &request);
        fs::write(&part, "half").unwrap();
        let (_, mut again) = Shelf::open(dir.path()).unwrap();
        assert_eq!(again, counts);
        assert!(!part.exists());
        assert_eq!((again.of(&request).rows, again.of(&request).told), (2, Told::default()));
        let tomorrow = at(24 * 3_600_000);
        assert_eq!((again.today(&slot, at(5)), again.today(&slot, tomorrow)), (2, 0));
        again.wrote(&request, &slot, tomorrow);
        assert_eq!(again.today(&slot, tomorrow), 1);
        again.keep(|_| false);
        assert_eq!((again.of(&request), again.today(&slot, tomorrow)), (Count::default(), 1));
    }
}
