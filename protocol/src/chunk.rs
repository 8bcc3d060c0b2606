//! Bulk content on its way to a box: which pieces it wants, and one piece with its 32-byte header.
//!
//! The device drives: it asks for what it lacks of one blob (named by digest), drops what repeats, asks again after a
//! silence, and verifies the whole. A blob's address never depends on the size of the pieces.
//!
//! ```text
//!   0      4      8      12     16                    32
//!   ├ "MC" │ token│ index│ total│ first 16 bytes of    ├ payload (≤ 256 KiB)
//!   │ v fl │      │      │      │ the blob's digest    │
//! ```
//! All integers little-endian.

use serde::{Deserialize, Serialize};

use crate::ids::Digest;
use crate::limits::{CHUNK_BYTES, CHUNK_HEADER_BYTES, CHUNK_WINDOW_MAX, WANT_RANGES_MAX};

/// Which chunks of a blob a device asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    pub v: u8,
    /// Chosen by the device, repeated in each chunk, so that late answers to an older download are told apart.
    pub token: u32,
    pub digest: Digest,
    /// `(first, count)` of chunk indices; at most [`WANT_RANGES_MAX`] ranges and [`CHUNK_WINDOW_MAX`] chunks in all.
    pub ranges: Vec<(u32, u32)>,
}

impl Want {
    /// The indices asked for, if the message keeps its bounds.
    pub fn indices(&self) -> Option<Vec<u32>> {
        let chunks: u64 = self.ranges.iter().map(|&(_, count)| u64::from(count)).sum();
        if self.ranges.len() > WANT_RANGES_MAX || chunks > u64::from(CHUNK_WINDOW_MAX) {
            return None;
        }
        self.ranges
            .iter()
            .map(|&(first, count)| Some(first..first.checked_add(count)?))
            .collect::<Option<Vec<_>>>()
            .map(|ranges| ranges.into_iter().flatten().collect())
    }
}

/// How many chunks a blob of `length` bytes has; an empty blob has one empty chunk.
pub fn chunk_count(length: u64) -> u32 {
    u32::try_from(length.div_ceil(CHUNK_BYTES as u64).max(1)).unwrap_or(u32::MAX)
}

/// One piece of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    pub token: u32,
    pub index: u32,
    pub total: u32,
    pub digest_prefix: [u8; 16],
    pub answer: Answer<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    Bytes(&'a [u8]),
    /// The fleet holds no such blob; asking again will not help until an operator publishes it.
    Unknown,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("a chunk of {0} bytes is shorter than its header")]
    Short(usize),
    #[error("a chunk starts with neither this wire's mark nor its version")]
    Mark,
    #[error("chunk {index} of {total} does not exist")]
    Index { index: u32, total: u32 },
    #[error("a chunk carries {0} bytes, more than a chunk may")]
    Long(usize),
}

const MARK: [u8; 2] = *b"MC";
const VERSION: u8 = 1;
const FLAG_UNKNOWN: u8 = 1;

impl<'a> Chunk<'a> {
    pub fn encode(&self) -> Vec<u8> {
        let (flags, bytes): (u8, &[u8]) = match self.answer {
            Answer::Bytes(bytes) => (0, bytes),
            Answer::Unknown => (FLAG_UNKNOWN, &[]),
        };
        let mut out = Vec::with_capacity(CHUNK_HEADER_BYTES + bytes.len());
        out.extend_from_slice(&MARK);
        out.push(VERSION);
        out.push(flags);
        for number in [self.token, self.index, self.total] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.digest_prefix);
        out.extend_from_slice(bytes);
        out
    }

    pub fn decode(packet: &'a [u8]) -> Result<Self, ChunkError> {
        let Some((header, bytes)) = packet.split_at_checked(CHUNK_HEADER_BYTES) else {
            return Err(ChunkError::Short(packet.len()));
        };
        if header[..2] != MARK || header[2] != VERSION {
            return Err(ChunkError::Mark);
        }
        if bytes.len() > CHUNK_BYTES {
            return Err(ChunkError::Long(bytes.len()));
        }
        let number =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (index, total) = (number(8), number(12));
        let unknown = header[3] & FLAG_UNKNOWN != 0;
        if !unknown && index >= total {
            return Err(ChunkError::Index { index, total });
        }
        let mut digest_prefix = [0; 16];
        digest_prefix.copy_from_slice(&header[16..32]);
        let answer = if unknown { Answer::Unknown } else { Answer::Bytes(bytes) };
        Ok(Self { token: number(4), index, total, digest_prefix, answer })
    }

    /// Whether this piece says it belongs to the blob `digest`. Only the whole blob's digest proves it.
    pub fn belongs_to(&self, digest: &Digest) -> bool {
        digest.as_bytes()[..16] == self.digest_prefix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(answer: Answer<'_>) -> Chunk<'_> {
        Chunk { token: 7, index: 2, total: 3, digest_prefix: [9; 16], answer }
    }

    #[test]
    fn chunks_come_back() {
        for answer in [Answer::Bytes(b"weights"), Answer::Bytes(b""), Answer::Unknown] {
            let chunk = chunk(answer);
            assert_eq!(Chunk::decode(&chunk.encode()), Ok(chunk));
        }
    }

    #[test]
    fn broken_chunks_are_named() {
        let good = chunk(Answer::Bytes(b"x")).encode();
        assert_eq!(Chunk::decode(&good[..31]), Err(ChunkError::Short(31)));
        let mut other = good.clone();
        other[2] = 9;
        assert_eq!(Chunk::decode(&other), Err(ChunkError::Mark));
        let mut beyond = good.clone();
        beyond[8] = 3;
        assert_eq!(Chunk::decode(&beyond), Err(ChunkError::Index { index: 3, total: 3 }));
        let mut long = good;
        long.resize(CHUNK_HEADER_BYTES + CHUNK_BYTES + 1, 0);
        assert_eq!(Chunk::decode(&long), Err(ChunkError::Long(CHUNK_BYTES + 1)));
    }

    #[test]
    fn wants_are_bounded() {
        let want = |ranges| Want { v: 1, token: 1, digest: Digest::of(b""), ranges };
        assert_eq!(want(vec![(0, 2), (5, 1)]).indices(), Some(vec![0, 1, 5]));
        assert_eq!(want(vec![(0, 9)]).indices(), None);
        assert_eq!(want(vec![(u32::MAX, 2)]).indices(), None);
        assert_eq!(want(vec![(0, 1); 9]).indices(), None);
    }

    #[test]
    fn counting() {
        for (length, chunks) in [(0, 1), (1, 1), (CHUNK_BYTES as u64, 1), (CHUNK_BYTES as u64 + 1, 2)] {
            assert_eq!(chunk_count(length), chunks);
        }
    }
}
