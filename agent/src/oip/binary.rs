//! Elements as the protocol's binary form has them, and back: little-endian, row-major, nothing in between.
//!
//! `BOOL` is one byte, 0 or 1. `BYTES` is, for each element, its length as four bytes and then the element.

use bytemuck::{AnyBitPattern, NoUninit};
use bytes::{BufMut as _, Bytes, BytesMut};
use muster_protocol::manifest::Datatype;

use super::body::Words;
use super::element::Element;
use super::tensor::BLOCK;
use super::{Values, each};

// Elements are copied as they lie in memory: every machine that an agent is built for is little-endian.
const _: () = assert!(cfg!(target_endian = "little"));

const PREFIX: usize = 4;

/// Why bytes are no tensor; the caller knows which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Another number of bytes than its shape holds.
    Length { expected: usize },
    /// An element at this position that cannot be.
    Element(usize),
    /// NaN or infinity at this position.
    NotFinite(usize),
    /// A text at this position that goes beyond the end, or bytes after the last.
    Torn(usize),
    /// A text at this position that is not UTF-8.
    NotText(usize),
}

/// Reads `count` elements.
pub(super) fn read(bytes: &[u8], datatype: Datatype, count: usize) -> Result<Values, Unfit> {
    if let Some(size) = datatype.element_bytes() {
        let expected = count.saturating_mul(size);
        if bytes.len() != expected {
            return Err(Unfit::Length { expected });
        }
    }
    Ok(match datatype {
        Datatype::Bool => Values::Bool(booleans(bytes)?),
        Datatype::Uint8 => Values::Uint8(bytes.to_vec()),
        Datatype::Uint16 => Values::Uint16(elements(bytes)?),
        Datatype::Uint32 => Values::Uint32(elements(bytes)?),
        Datatype::Uint64 => Values::Uint64(elements(bytes)?),
        Datatype::Int8 => Values::Int8(elements(bytes)?),
        Datatype::Int16 => Values::Int16(elements(bytes)?),
        Datatype::Int32 => Values::Int32(elements(bytes)?),
        Datatype::Int64 => Values::Int64(elements(bytes)?),
        Datatype::Fp16 => Values::Fp16(elements(bytes)?),
        Datatype::Bf16 => Values::Bf16(elements(bytes)?),
        Datatype::Fp32 => Values::Fp32(elements(bytes)?),
        Datatype::Fp64 => Values::Fp64(elements(bytes)?),
        Datatype::Bytes => Values::Bytes(texts(bytes, count)?),
    })
}

/// The same of bytes that lie as numbers of four bytes do: those are not copied.
pub(super) fn take(words: Words, datatype: Datatype, count: usize) -> Result<Values, Unfit> {
    if Some(words.bytes().len()) != datatype.element_bytes().and_then(|size| count.checked_mul(size)) {
        return read(words.bytes(), datatype, count);
    }
    let finite = words.are_finite();
    let taken = match datatype {
        Datatype::Fp32 => words.into_vec().map(Values::Fp32),
        Datatype::Int32 => words.into_vec().map(Values::Int32),
        Datatype::Uint32 => words.into_vec().map(Values::Uint32),
        Datatype::Bool
        | Datatype::Uint8
        | Datatype::Uint16
        | Datatype::Uint64
        | Datatype::Int8
        | Datatype::Int16
        | Datatype::Int64
        | Datatype::Fp16
        | Datatype::Bf16
        | Datatype::Fp64
        | Datatype::Bytes => Err(words),
    };
    match taken {
        Ok(values) if finite => Ok(values),
        // Whole numbers may look odd as what they are not.
        Ok(values) => values.first_not_finite().map_or(Ok(values), |at| Err(Unfit::NotFinite(at))),
        Err(words) => read(words.bytes(), datatype, count),
    }
}

/// Bytes of the binary form.
pub(super) fn size(values: &Values) -> usize {
    let text = |text: &String| PREFIX + text.len();
    each!(values, values => size_of_val(values.as_slice()), texts texts => texts.iter().map(text).sum())
}

/// The binary form. Numbers are not copied: the vector itself becomes the bytes.
pub(crate) fn write(values: Values) -> Bytes {
    let length = size(&values);
    each!(values, values => Bytes::from_owner(Elements(values)), texts texts => {
        let mut bytes = BytesMut::with_capacity(length);
        for text in texts {
            bytes.put_u32_le(u32::try_from(text.len()).unwrap_or(u32::MAX));
            bytes.put_slice(text.as_bytes());
        }
        bytes.freeze()
    })
}

struct Elements<T>(Vec<T>);

impl<T: NoUninit> AsRef<[u8]> for Elements<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// Whatever the alignment of `bytes`. Block by block, and each is looked at while it is in the nearest cache.
fn elements<T: Element + AnyBitPattern>(bytes: &[u8]) -> Result<Vec<T>, Unfit> {
    let mut elements: Vec<T> = Vec::with_capacity(bytes.len() / size_of::<T>());
    for block in bytes.chunks(BLOCK * size_of::<T>()) {
        let start = elements.len();
        elements.extend(block.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned::<T>));
        let (_, read) = elements.split_at(start);
        if !T::are_finite(read) {
            let within = read.iter().position(|value| !value.is_finite()).unwrap_or_default();
            return Err(Unfit::NotFinite(start + within));
        }
    }
    Ok(elements)
}

fn booleans(bytes: &[u8]) -> Result<Vec<bool>, Unfit> {
    match bytes.iter().position(|&byte| byte > 1) {
        Some(at) => Err(Unfit::Element(at)),
        None => Ok(bytes.iter().map(|&byte| byte == 1).collect()),
    }
}

fn texts(mut bytes: &[u8], count: usize) -> Result<Vec<String>, Unfit> {
    // A shape may promise more than was sent: no room is made before the bytes are there.
    let mut texts = Vec::with_capacity(count.min(bytes.len() / PREFIX));
    for at in 0..count {
        let (length, rest) = bytes.split_first_chunk::<PREFIX>().ok_or(Unfit::Torn(at))?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Unfit::Torn(at))?;
        let (text, rest) = rest.split_at_checked(length).ok_or(Unfit::Torn(at))?;
        texts.push(str::from_utf8(text).map_err(|_| Unfit::NotText(at))?.to_owned());
        bytes = rest;
    }
    if bytes.is_empty() { Ok(texts) } else { Err(Unfit::Torn(count)) }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use proptest::prelude::*;

    use super::*;
    use crate::oip::Body;

    #[test]
    fn elements_lie_as_the_protocol_says() {
        let check = |values: Values, bytes: &[u8]| {
            let (datatype, count) = (values.datatype(), values.len());
            assert_eq!(read(bytes, datatype, count), Ok(values.clone()), "{datatype:?}");
            assert_eq!(write(values), bytes, "{datatype:?}");
        };
        check(Values::Bool(vec![true, false]), &[1, 0]);
        check(Values::Uint16(vec![0x1234]), &[0x34, 0x12]);
        check(Values::Uint64(vec![1 << 56]), &[0, 0, 0, 0, 0, 0, 0, 1]);
        check(Values::Int8(vec![-1]), &[0xff]);
        check(Values::Int32(vec![-2]), &[0xfe, 0xff, 0xff, 0xff]);
        check(Values::Fp16(vec![f16::from_f32(1.5)]), &[0x00, 0x3e]);
        check(Values::Bf16(vec![bf16::from_f32(1.5)]), &[0xc0, 0x3f]);
        check(Values::Fp32(vec![1.0]), &[0, 0, 0x80, 0x3f]);
        check(Values::Fp64(vec![-2.0]), &[0, 0, 0, 0, 0, 0, 0, 0xc0]);
        check(Values::Bytes(vec!["hi".to_owned(), String::new()]), b"\x02\0\0\0hi\0\0\0\0");
    }

    #[test]
    fn many_elements_come_from_any_address() {
        let bytes: Vec<u8> = (0..8_u8).cycle().take(1 + 4 * 3000).collect();
        for start in [0, 1] {
            let bytes = &bytes[start..start + 4 * 3000];
            let values = read(bytes, Datatype::Uint32, 3000).unwrap();
            assert_eq!(values.len(), 3000);
            assert_eq!(&write(values)[..], bytes);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let check = |bytes: &[u8], datatype, count, expect| {
            assert_eq!(read(bytes, datatype, count), Err(expect), "{bytes:?} as {count} {datatype:?}");
        };
        check(&[0; 7], Datatype::Fp32, 2, Unfit::Length { expected: 8 });
        check(&[0; 9], Datatype::Fp32, 2, Unfit::Length { expected: 8 });
        check(&[], Datatype::Fp64, usize::MAX, Unfit::Length { expected: usize::MAX });
        check(&[0, 2], Datatype::Bool, 2, Unfit::Element(1));
        check(&[0, 0, 0, 0x7c], Datatype::Fp16, 2, Unfit::NotFinite(1));
        let mut many = vec![0; 8 * 3000];
        many[8 * 2500 + 6..8 * 2501].copy_from_slice(&[0xf8, 0x7f]);
        check(&many, Datatype::Fp64, 3000, Unfit::NotFinite(2500));
        check(b"\x02\0\0\0h", Datatype::Bytes, 1, Unfit::Torn(0));
        check(b"\xff\xff\xff\xffh", Datatype::Bytes, 1, Unfit::Torn(0));
        check(b"\0\0\0\0\0\0", Datatype::Bytes, 2, Unfit::Torn(1));
        check(b"\0\0\0\0x", Datatype::Bytes, 1, Unfit::Torn(1));
        check(b"\x01\0\0\0\xff", Datatype::Bytes, 1, Unfit::NotText(0));
        check(&[], Datatype::Bytes, usize::MAX, Unfit::Torn(0));
    }

    const DATATYPES: [Datatype; 14] = [
        Datatype::Bool,
        Datatype::Uint8,
        Datatype::Uint16,
        Datatype::Uint32,
        Datatype::Uint64,
        Datatype::Int8,
        Datatype::Int16,
        Datatype::Int32,
        Datatype::Int64,
        Datatype::Fp16,
        Datatype::Bf16,
        Datatype::Fp32,
        Datatype::Fp64,
        Datatype::Bytes,
    ];

    /// However it is cut, and with JSON of whatever length before it.
    #[test]
    fn a_tensor_that_is_taken_is_the_one_that_would_be_read() {
        let floats: Vec<u8> = (0..9000_u32).flat_map(|n| f32::from_bits(n * 8191).to_le_bytes()).collect();
        for datatype in DATATYPES {
            for (length, cut) in [(0, 1), (3, 1), (4, 4), (24, 5), (30, 7), (36_000, 4096), (35_999, 5003)] {
                let bytes = &floats[..length];
                let mut body = Body::with_capacity(Some(5), 5 + length);
                for piece in [b"12345", bytes].concat().chunks(cut) {
                    body.push(piece);
                }
                assert_eq!((body.json.as_slice(), body.tensors.bytes()), (b"12345".as_slice(), bytes));
                for count in [length / datatype.element_bytes().unwrap_or(4), 1, usize::MAX] {
                    let again = Body::of(bytes, Some(0)).tensors;
                    assert_eq!(take(again, datatype, count), read(bytes, datatype, count), "{datatype:?}");
                }
                let count = length / datatype.element_bytes().unwrap_or(4);
                assert_eq!(take(body.tensors, datatype, count), read(bytes, datatype, count), "{datatype:?}");
            }
        }
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let bytes = [1.0, odd, 2.0].map(f32::to_le_bytes).concat();
            for cut in 1..=bytes.len() {
                let mut body = Body::with_capacity(Some(0), bytes.len());
                bytes.chunks(cut).for_each(|piece| body.push(piece));
                assert_eq!(
                    take(body.tensors, Datatype::Fp32, 3),
                    Err(Unfit::NotFinite(1)),
                    "{odd} cut at {cut}"
                );
            }
        }
    }

    proptest! {
        /// Whatever is read is written back byte for byte, so nothing is guessed and nothing is left over.
        #[test]
        fn what_is_read_is_written_back(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            kind in 0..DATATYPES.len(),
            count in 0_usize..80,
        ) {
            if let Ok(values) = read(&bytes, DATATYPES[kind], count) {
                prop_assert_eq!(values.len(), count);
                prop_assert_eq!(&write(values)[..], &bytes[..]);
            }
        }

        #[test]
        fn texts_survive(texts in proptest::collection::vec(".{0,8}", 0..8)) {
            let bytes = write(Values::Bytes(texts.clone()));
            prop_assert_eq!(read(&bytes, Datatype::Bytes, texts.len()), Ok(Values::Bytes(texts)));
        }
    }
}
