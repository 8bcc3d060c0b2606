//! A body as it comes, piece by piece: its JSON, and behind that its tensors, which lie as numbers of four bytes do.
//!
//! So a tensor that is alone becomes its vector without being copied again, and the copy that there is has been made while
//! the rest was still on its way.

use bytemuck::Pod;

use super::element::Element as _;
use super::tensor::BLOCK;

/// JSON, and the tensors behind it.
#[derive(Debug)]
pub struct Body {
    /// Where the JSON ends, as the request's header `Inference-Header-Content-Length` says; none: nowhere.
    pub(super) header: Option<u64>,
    pub(super) json: Vec<u8>,
    pub(super) tensors: Words,
}

impl Body {
    /// Of so many bytes in all, which is only what is promised.
    pub fn with_capacity(header: Option<u64>, bytes: usize) -> Self {
        let json = json_bytes(header).min(bytes);
        Self { header, json: Vec::with_capacity(json), tensors: Words::with_capacity(bytes - json) }
    }

    /// One that is there already.
    pub fn of(bytes: &[u8], header: Option<u64>) -> Self {
        let mut body = Self::with_capacity(header, bytes.len());
        body.push(bytes);
        body
    }

    pub fn push(&mut self, piece: &[u8]) {
        let json = json_bytes(self.header).saturating_sub(self.json.len()).min(piece.len());
        let (json, tensors) = piece.split_at(json);
        self.json.extend_from_slice(json);
        self.tensors.push(tensors);
    }

    pub fn len(&self) -> usize {
        self.json.len() + self.tensors.bytes().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What stands before the tensors.
    pub fn into_json(self) -> Vec<u8> {
        self.json
    }

    /// Bytes of it that are JSON.
    pub fn json_len(&self) -> usize {
        self.json.len()
    }
}

fn json_bytes(header: Option<u64>) -> usize {
    header.map_or(usize::MAX, |header| usize::try_from(header).unwrap_or(usize::MAX))
}

/// Bytes at an address where a number of four bytes may lie.
#[derive(Debug, Default)]
pub(crate) struct Words {
    /// The last one may be no whole number yet; zeros stand for what is missing of it.
    numbers: Vec<u32>,
    bytes: usize,
    /// One of them, as a number with a point, is NaN or infinity: most tensors are such, and this is the moment to look.
    odd: bool,
}

const WORD: usize = size_of::<u32>();

impl Words {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { numbers: Vec::with_capacity(bytes.div_ceil(WORD)), bytes: 0, odd: false }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.numbers).split_at(self.bytes).0
    }

    pub(crate) fn push(&mut self, piece: &[u8]) {
        let missing = self.numbers.len() * WORD - self.bytes;
        let (first, piece) = piece.split_at(missing.min(piece.len()));
        let begun: &mut [u8] = bytemuck::cast_slice_mut(&mut self.numbers);
        for (place, byte) in begun.iter_mut().skip(self.bytes).zip(first) {
            *place = *byte;
        }
        // What is missing of a number is its exponent's upper half (it is little-endian), without which it is finite.
        self.odd |= self.numbers.last().is_some_and(|word| !f32::from_bits(*word).is_finite());
        for block in piece.chunks(BLOCK * WORD) {
            let start = self.numbers.len();
            let whole = block.chunks_exact(WORD);
            let rest = whole.remainder();
            self.numbers.extend(whole.map(bytemuck::pod_read_unaligned::<u32>));
            if !rest.is_empty() {
                let mut begun = [0; WORD];
                begun.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
                self.numbers.push(u32::from_le_bytes(begun));
            }
            let (_, came) = self.numbers.split_at(start);
            self.odd |= !f32::are_finite(bytemuck::cast_slice(came));
        }
        self.bytes += first.len() + piece.len();
    }

    /// Whether every one is a finite `f32`, if that is what they are.
    pub(super) fn are_finite(&self) -> bool {
        !self.odd
    }

    /// Itself, if numbers of this type lie like its own and it holds whole ones.
    pub(super) fn into_vec<T: Pod>(self) -> Result<Vec<T>, Self> {
        let Self { numbers, bytes, odd } = self;
        if bytes % WORD != 0 {
            return Err(Self { numbers, bytes, odd });
        }
        bytemuck::allocation::try_cast_vec(numbers).map_err(|(_, numbers)| Self { numbers, bytes, odd })
    }
}
