//! One stream of one boot: numbered entries in segment files that are only appended to, and removed when every entry in
//! them is done with.
//!
//! A record is `length (4) · number (8) · check (4) · bytes`, integers little-endian; the check is the start of the
//! SHA-256 of number and bytes. A torn record ends its segment: what follows was never promised to anybody.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::disk::{self, DiskError};

const HEADER: usize = 16;
const SEGMENT_BYTES: u64 = 256 * 1024;

/// Whether an entry must survive a cut of power from the moment it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    Yes,
    No,
}

#[derive(Debug)]
pub(super) struct Lane {
    dir: PathBuf,
    stream: &'static str,
    entries: VecDeque<Entry>,
    segments: VecDeque<Segment>,
    writer: Option<File>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    /// First number of its segment, which names the file.
    segment: u64,
    offset: u64,
    length: usize,
    sent: Option<Instant>,
}

#[derive(Debug)]
struct Segment {
    first: u64,
    last: u64,
    bytes: u64,
}

/// How many entries of a stream are at rest in a boot's folder, and their bytes. Changes nothing.
pub(super) fn look(dir: &Path, stream: &str) -> Result<(usize, u64), DiskError> {
    let (mut entries, mut bytes_held) = (0, 0);
    for path in disk::list(dir)?.into_iter().filter(|path| first_of(path, stream).is_some()) {
        let bytes = disk::read(&path)?.unwrap_or_default();
        let mut offset = 0;
        while let Some((_, length)) = next_record(&bytes[offset..]) {
            offset += HEADER + length;
            entries += 1;
        }
        bytes_held += offset as u64;
    }
    Ok((entries, bytes_held))
}

impl Lane {
    pub(super) fn open(dir: &Path, stream: &'static str) -> Result<Self, DiskError> {
        let mut lane = Self {
            dir: dir.to_owned(),
            stream,
            entries: VecDeque::new(),
            segments: VecDeque::new(),
            writer: None,
            next: 1,
        };
        for path in disk::list(dir)? {
            if let Some(first) = first_of(&path, stream) {
                lane.read_segment(&path, first)?;
            }
        }
        Ok(lane)
    }

    /// The number that the next entry gets.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn append(&mut self, bytes: &[u8], durable: Durable) -> Result<(), DiskError> {
        let number = self.next;
        if self.segments.back().is_none_or(|segment| segment.bytes >= SEGMENT_BYTES) {
            self.writer = None;
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.new_segment(number, durable)?,
        };
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        let path = self.dir.join(file_name(self.stream, segment.first));
        let record = record(number, bytes);
        writer.write_all(&record).map_err(DiskError::io("append to", &path))?;
        if durable == Durable::Yes {
            writer.sync_data().map_err(DiskError::io("flush", &path))?;
        }
        let offset = segment.bytes + HEADER as u64;
        segment.bytes += record.len() as u64;
        segment.last = number;
        self.entries.push_back(Entry {
            number,
            segment: segment.first,
            offset,
            length: bytes.len(),
            sent: None,
        });
        self.writer = Some(writer);
        self.next += 1;
        Ok(())
    }

    /// Forgets all entries up to this number.
    pub(super) fn drop_through(&mut self, number: u64) -> Result<(), DiskError> {
        while self.entries.front().is_some_and(|entry| entry.number <= number) {
            self.entries.pop_front();
        }
        let held = self.entries.front().map_or(u64::MAX, |entry| entry.number);
        while let Some(segment) = self.segments.front().filter(|segment| segment.last < held) {
            disk::remove(&self.dir.join(file_name(self.stream, segment.first)))?;
            self.segments.pop_front();
        }
        if self.segments.is_empty() {
            self.writer = None;
        }
        Ok(())
    }

    /// Entries to send, oldest first, each with the lowest number held. `room` is what may be in flight; each entry at
    /// the front takes one, sent or not.
    pub(super) fn due(
        &mut self,
        now: Instant,
        silence: Duration,
        room: &mut usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, DiskError> {
        let held_from = self.first().unwrap_or(self.next);
        let mut due = Vec::new();
        for entry in &mut self.entries {
            if *room == 0 {
                break;
            }
            *room -= 1;
            if entry.sent.is_none_or(|sent| now.saturating_duration_since(sent) >= silence) {
                entry.sent = Some(now);
                let path = self.dir.join(file_name(self.stream, entry.segment));
                let mut bytes = vec![0; entry.length];
                let file = File::open(&path).map_err(DiskError::io("open", &path))?;
                file.read_exact_at(&mut bytes, entry.offset).map_err(DiskError::io("read", &path))?;
                due.push((held_from, bytes));
            }
        }
        Ok(due)
    }

    pub(super) fn unsend(&mut self) {
        for entry in &mut self.entries {
            entry.sent = None;
        }
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.number)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// No entry has the number `first` yet: a file of that name is what a failed attempt left, and is begun anew.
    fn new_segment(&mut self, first: u64, durable: Durable) -> Result<File, DiskError> {
        let path = self.dir.join(file_name(self.stream, first));
        if self.segments.back().is_some_and(|segment| segment.first == first) {
            self.segments.pop_back();
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(&path)
            .map_err(DiskError::io("create", &path))?;
        if durable == Durable::Yes {
            let folder = File::open(&self.dir).and_then(|folder| folder.sync_all());
            folder.map_err(DiskError::io("flush the folder", &self.dir))?;
        }
        self.segments.push_back(Segment { first, last: first, bytes: 0 });
        Ok(file)
    }

    fn read_segment(&mut self, path: &Path, first: u64) -> Result<(), DiskError> {
        let bytes = disk::read(path)?.unwrap_or_default();
        let mut offset = 0;
        let mut last = None;
        while let Some((number, length)) = next_record(&bytes[offset..]) {
            let start = (offset + HEADER) as u64;
            self.entries.push_back(Entry { number, segment: first, offset: start, length, sent: None });
            self.next = number + 1;
            last = Some(number);
            offset += HEADER + length;
        }
        if offset < bytes.len() {
            tracing::warn!(file = %path.display(), torn_bytes = bytes.len() - offset, "a torn entry of the spool was cut off");
        }
        match last {
            Some(last) => self.segments.push_back(Segment { first, last, bytes: offset as u64 }),
            None => fs::remove_file(path).map_err(DiskError::io("remove", path))?,
        }
        Ok(())
    }
}

/// `event-000000000012.seg` → 12, if it is of this stream.
fn first_of(path: &Path, stream: &str) -> Option<u64> {
    let name = path.file_stem()?.to_str()?;
    name.strip_prefix(stream)?.strip_prefix('-')?.parse().ok()
}

fn file_name(stream: &str, first: u64) -> String {
    format!("{stream}-{first:012}.seg")
}

fn record(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER + bytes.len());
    record.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    record.extend_from_slice(&number.to_le_bytes());
    record.extend_from_slice(&check(number, bytes));
    record.extend_from_slice(bytes);
    record
}

/// Number and length of the record at the start of `bytes`, if it is whole.
fn next_record(bytes: &[u8]) -> Option<(u64, usize)> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let length = usize::try_from(u32::from_le_bytes(header[..4].try_into().ok()?)).ok()?;
    let number = u64::from_le_bytes(header[4..12].try_into().ok()?);
    let content = rest.get(..length)?;
    (header[12..] == check(number, content)).then_some((number, length))
}

fn check(number: u64, bytes: &[u8]) -> [u8; 4] {
    let hash = Sha256::new().chain_update(number.to_le_bytes()).chain_update(bytes).finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}
