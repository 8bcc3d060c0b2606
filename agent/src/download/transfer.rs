//! The bookkeeping of one download: which chunks are here, which are asked for, which to ask for next. Pure; the time
//! comes in as an argument.
//!
//! The window starts at 2 and grows by one with each chunk that arrives, up to 8: a slow link is never asked for more
//! than it carries, a fast one is filled. Nothing is asked for twice before a silence of max(10 s, 4 × the smoothed time
//! of a chunk), because an eager second request on a slow link only doubles its load.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use muster_protocol::chunk::{Answer, Chunk, Want, chunk_count};
use muster_protocol::limits::{CHUNK_BYTES, CHUNK_WINDOW_MAX, WANT_RANGES_MAX};
use muster_protocol::message::VERSION;

use crate::reconcile::Blob;

const WINDOW_MIN: u32 = 2;
const SILENCE_MIN: Duration = Duration::from_secs(10);
/// Chunks that contradict what is known of the blob, until the blob is given up.
const ODD_MAX: u32 = 16;

#[derive(Debug)]
pub(super) struct Transfer {
    blob: Blob,
    token: u32,
    here: BTreeSet<u32>,
    asked: BTreeSet<u32>,
    window: u32,
    odd: u32,
    smoothed: Duration,
    last_word: Instant,
}

/// What to do with a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Write it at this offset.
    Take { index: u32, offset: u64 },
    /// It repeats, or belongs to another download.
    Ignore,
    /// The fleet has no such blob.
    Unknown,
    /// The fleet's blob of this name has another shape than the catalogue says.
    Contradicts,
}

impl Transfer {
    pub(super) fn new(blob: Blob, token: u32, here: BTreeSet<u32>, now: Instant) -> Self {
        let smoothed = Duration::ZERO;
        Self {
            blob,
            token,
            here,
            asked: BTreeSet::new(),
            window: WINDOW_MIN,
            odd: 0,
            smoothed,
            last_word: now,
        }
    }

    pub(super) fn total(&self) -> u32 {
        chunk_count(self.blob.length)
    }

    pub(super) fn complete(&self) -> bool {
        self.here.len() as u64 >= u64::from(self.total())
    }

    pub(super) fn received_bytes(&self) -> u64 {
        self.here.iter().map(|&index| self.length_of(index)).sum()
    }

    /// The next request, if the window has room for one.
    pub(super) fn want(&mut self, now: Instant) -> Option<Want> {
        let room = self.window.saturating_sub(u32::try_from(self.asked.len()).unwrap_or(u32::MAX)) as usize;
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        let lacking =
            (0..self.total()).filter(|index| !self.here.contains(index) && !self.asked.contains(index));
        let mut chosen = Vec::new();
        for index in lacking.take(room) {
            let full = ranges.len() == WANT_RANGES_MAX;
            match ranges.last_mut() {
                Some((first, count)) if *first + *count == index => *count += 1,
                Some(_) | None if full => break,
                Some(_) | None => ranges.push((index, 1)),
            }
            chosen.push(index);
        }
        if chosen.is_empty() {
            return None;
        }
        if self.asked.is_empty() {
            self.last_word = now;
        }
        self.asked.extend(chosen);
        Some(Want { v: VERSION, token: self.token, digest: self.blob.digest, ranges })
    }

    pub(super) fn chunk(&mut self, chunk: &Chunk<'_>, now: Instant) -> Verdict {
        if chunk.token != self.token || !chunk.belongs_to(&self.blob.digest) {
            return Verdict::Ignore;
        }
        let bytes = match chunk.answer {
            Answer::Unknown => return Verdict::Unknown,
            Answer::Bytes(bytes) => bytes,
        };
        if chunk.total != self.total() || bytes.len() as u64 != self.length_of(chunk.index) {
            self.odd += 1;
            return if self.odd >= ODD_MAX { Verdict::Contradicts } else { Verdict::Ignore };
        }
        if !self.here.insert(chunk.index) {
            return Verdict::Ignore;
        }
        if self.asked.remove(&chunk.index) {
            let took = now.saturating_duration_since(self.last_word);
            self.smoothed = if self.smoothed.is_zero() { took } else { (self.smoothed * 7 + took) / 8 };
            self.window = (self.window + 1).min(CHUNK_WINDOW_MAX);
        }
        self.last_word = now;
        Verdict::Take { index: chunk.index, offset: u64::from(chunk.index) * CHUNK_BYTES as u64 }
    }

    /// When to ask again if nothing comes; nothing is asked for, nothing is awaited.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.asked.is_empty()).then(|| self.last_word + SILENCE_MIN.max(self.smoothed * 4))
    }

    /// Forgets what was asked for, so that it is asked for again: after a silence, with half the window, or after a new
    /// connection, on which no answer to an old request comes.
    pub(super) fn ask_again(&mut self) {
        self.asked.clear();
        self.window = (self.window / 2).max(WINDOW_MIN);
    }

    fn length_of(&self, index: u32) -> u64 {
        let start = u64::from(index) * CHUNK_BYTES as u64;
        self.blob.length.saturating_sub(start).min(CHUNK_BYTES as u64)
    }
}

#[cfg(test)]
mod tests {
    use muster_protocol::ids::Digest;
    use proptest::prelude::*;

    use super::*;
    use crate::clock::monotonic;

    fn blob(chunks: u64) -> Blob {
        Blob { digest: Digest::of(b"x"), length: chunks * CHUNK_BYTES as u64 - 1 }
    }

    fn answer(transfer: &mut Transfer, index: u32, now: Instant) -> Verdict {
        let length = usize::try_from(transfer.length_of(index)).unwrap();
        let bytes = vec![0; length];
        let mut digest_prefix = [0; 16];
        digest_prefix.copy_from_slice(&transfer.blob.digest.as_bytes()[..16]);
        let (token, total) = (transfer.token, transfer.total());
        transfer.chunk(&Chunk { token, index, total, digest_prefix, answer: Answer::Bytes(&bytes) }, now)
    }

    #[test]
    fn the_window_opens_as_chunks_arrive() {
        let now = monotonic();
        let mut transfer = Transfer::new(blob(20), 1, BTreeSet::new(), now);
        assert_eq!(transfer.want(now).unwrap().ranges, vec![(0, 2)]);
        assert_eq!(transfer.want(now), None);
        assert_eq!(answer(&mut transfer, 0, now), Verdict::Take { index: 0, offset: 0 });
        assert_eq!(answer(&mut transfer, 0, now), Verdict::Ignore);
        assert_eq!(transfer.want(now).unwrap().ranges, vec![(2, 2)]);
    }

    #[test]
    fn a_resumed_download_asks_for_the_gaps_only() {
        let now = monotonic();
        let mut transfer = Transfer::new(blob(5), 1, BTreeSet::from([0, 1, 3]), now);
        assert_eq!(transfer.want(now).unwrap().ranges, vec![(2, 1), (4, 1)]);
        answer(&mut transfer, 4, now);
        answer(&mut transfer, 2, now);
        assert!(transfer.complete());
        assert_eq!(transfer.received_bytes(), transfer.blob.length);
        assert_eq!((transfer.want(now), transfer.deadline()), (None, None));
    }

    #[test]
    fn silence_is_patient() {
        let now = monotonic();
        let mut transfer = Transfer::new(blob(9), 1, BTreeSet::new(), now);
        assert_eq!(transfer.deadline(), None);
        transfer.want(now);
        assert_eq!(transfer.deadline(), Some(now + SILENCE_MIN));
        let slow = now + Duration::from_secs(6);
        answer(&mut transfer, 0, slow);
        assert_eq!(transfer.deadline(), Some(slow + Duration::from_secs(24)));
        transfer.ask_again();
        assert_eq!(transfer.want(slow).unwrap().ranges, vec![(1, 2)]);
    }

    #[test]
    fn foreign_and_contradicting_chunks() {
        let now = monotonic();
        let mut transfer = Transfer::new(blob(2), 7, BTreeSet::new(), now);
        let mut digest_prefix = [0; 16];
        digest_prefix.copy_from_slice(&transfer.blob.digest.as_bytes()[..16]);
        let mut check = |token, total, answer: Answer<'_>| {
            transfer.chunk(&Chunk { token, index: 0, total, digest_prefix, answer }, now)
        };
        assert_eq!(check(6, 2, Answer::Unknown), Verdict::Ignore);
        assert_eq!(check(7, 2, Answer::Unknown), Verdict::Unknown);
        for _ in 1..ODD_MAX {
            assert_eq!(check(7, 2, Answer::Bytes(b"short")), Verdict::Ignore);
        }
        assert_eq!(check(7, 3, Answer::Bytes(b"short")), Verdict::Contradicts);
    }

    proptest! {
        /// Whatever is lost, doubled or reordered: each chunk is taken once, the window is kept, and it ends.
        #[test]
        fn every_chunk_is_taken_once(chunks in 1_u64..40, seed in proptest::collection::vec(0_u8..4, 1..400)) {
            let mut now = monotonic();
            let mut transfer = Transfer::new(blob(chunks), 3, BTreeSet::new(), now);
            let mut taken = BTreeSet::new();
            let mut wire: Vec<u32> = Vec::new();
            // Misfortune ends after a while, or else nothing could be promised.
            let fates = seed.iter().copied().chain(std::iter::repeat(0)).take(2_000);
            for (step, fate) in fates.enumerate() {
                now += Duration::from_millis(10);
                if let Some(want) = transfer.want(now) {
                    let indices = want.indices();
                    prop_assert!(indices.is_some());
                    wire.extend(indices.unwrap_or_default());
                }
                prop_assert!(transfer.asked.len() <= CHUNK_WINDOW_MAX as usize);
                if wire.is_empty() {
                    transfer.ask_again();
                    continue;
                }
                let at = step % wire.len();
                let (stays, lost) = (fate == 1, fate == 2);
                let index = if stays { wire[at] } else { wire.remove(at) };
                if !lost && let Verdict::Take { index, .. } = answer(&mut transfer, index, now) {
                    prop_assert!(taken.insert(index));
                }
                if transfer.complete() {
                    break;
                }
            }
            prop_assert!(transfer.complete());
            prop_assert_eq!(taken.len() as u64, chunks);
        }
    }
}
