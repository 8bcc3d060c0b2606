//! A tensor in memory: a shape and its elements, row-major.

use half::{bf16, f16};
use muster_protocol::manifest::Datatype;

use super::element::Element;

#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Never negative.
    pub shape: Vec<usize>,
    pub values: Values,
}

#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    pub name: String,
    pub tensor: Tensor,
}

/// Elements of one type. `BYTES` are texts: what the runtimes take as such is UTF-8.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    Bool(Vec<bool>),
    Uint8(Vec<u8>),
    Uint16(Vec<u16>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp16(Vec<f16>),
    Bf16(Vec<bf16>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    Bytes(Vec<String>),
}

/// Runs the same expression on the vector inside; one for numbers, another for texts where these differ.
macro_rules! each {
    ($values:expr, $vector:ident => $body:expr) => {
        $crate::oip::each!($values, $vector => $body, texts $vector => $body)
    };
    ($values:expr, $vector:ident => $body:expr, texts $texts:ident => $other:expr) => {
        match $values {
            $crate::oip::Values::Bool($vector) => $body,
            $crate::oip::Values::Uint8($vector) => $body,
            $crate::oip::Values::Uint16($vector) => $body,
            $crate::oip::Values::Uint32($vector) => $body,
            $crate::oip::Values::Uint64($vector) => $body,
            $crate::oip::Values::Int8($vector) => $body,
            $crate::oip::Values::Int16($vector) => $body,
            $crate::oip::Values::Int32($vector) => $body,
            $crate::oip::Values::Int64($vector) => $body,
            $crate::oip::Values::Fp16($vector) => $body,
            $crate::oip::Values::Bf16($vector) => $body,
            $crate::oip::Values::Fp32($vector) => $body,
            $crate::oip::Values::Fp64($vector) => $body,
            $crate::oip::Values::Bytes($texts) => $other,
        }
    };
}
pub(crate) use each;

/// Makes a vector of the datatype's element type with the same expression, inferred.
macro_rules! make {
    ($datatype:expr, $vector:expr) => {
        $crate::oip::make!($datatype, $vector, texts $vector)
    };
    ($datatype:expr, $vector:expr, texts $texts:expr) => {
        match $datatype {
            Datatype::Bool => $crate::oip::Values::Bool($vector),
            Datatype::Uint8 => $crate::oip::Values::Uint8($vector),
            Datatype::Uint16 => $crate::oip::Values::Uint16($vector),
            Datatype::Uint32 => $crate::oip::Values::Uint32($vector),
            Datatype::Uint64 => $crate::oip::Values::Uint64($vector),
            Datatype::Int8 => $crate::oip::Values::Int8($vector),
            Datatype::Int16 => $crate::oip::Values::Int16($vector),
            Datatype::Int32 => $crate::oip::Values::Int32($vector),
            Datatype::Int64 => $crate::oip::Values::Int64($vector),
            Datatype::Fp16 => $crate::oip::Values::Fp16($vector),
            Datatype::Bf16 => $crate::oip::Values::Bf16($vector),
            Datatype::Fp32 => $crate::oip::Values::Fp32($vector),
            Datatype::Fp64 => $crate::oip::Values::Fp64($vector),
            Datatype::Bytes => $crate::oip::Values::Bytes($texts),
        }
    };
}
pub(crate) use make;

impl Tensor {
    /// The first dimension: how many examples a batch holds.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// The last dimension of a table; 1 for a plain list.
    pub fn columns(&self) -> usize {
        if self.shape.len() < 2 { 1 } else { self.shape.last().copied().unwrap_or(1) }
    }

    /// Elements of one row.
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// One row as a batch of one.
    pub fn row(&self, row: usize) -> Option<Self> {
        let len = self.row_len();
        let start = row.checked_mul(len)?;
        let values = self.values.slice(start, start.checked_add(len)?)?;
        let shape = std::iter::once(1).chain(self.shape.iter().skip(1).copied()).collect();
        Some(Self { shape, values })
    }

    /// Puts batches behind one another; None where they do not fit together.
    pub fn stacked<'a>(batches: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut batches = batches.into_iter();
        let mut all = batches.next()?.clone();
        for batch in batches {
            if batch.shape.len() != all.shape.len() || batch.shape.get(1..) != all.shape.get(1..) {
                return None;
            }
            all.values.append(&batch.values)?;
            *all.shape.first_mut()? += batch.rows();
        }
        Some(all)
    }
}

impl Values {
    pub fn datatype(&self) -> Datatype {
        fn of<T: Element>(_: &[T]) -> Datatype {
            T::DATATYPE
        }
        each!(self, values => of(values))
    }

    pub fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn size_bytes(&self) -> usize {
        let text = |text: &String| size_of::<String>() + text.len();
        each!(self, values => size_of_val(values.as_slice()), texts texts => texts.iter().map(text).sum())
    }

    /// An element as a number; large 64-bit integers are rounded, a text has none.
    pub fn get(&self, index: usize) -> Option<f64> {
        each!(self, values => values.get(index).and_then(Element::number))
    }

    /// An element as JSON; null where there is none, and for NaN and infinity.
    pub fn json(&self, index: usize) -> serde_json::Value {
        let value = each!(self, values => serde_json::to_value(values.get(index).map(Element::json)));
        value.unwrap_or_default()
    }

    /// Position of the first NaN or infinity.
    pub fn first_not_finite(&self) -> Option<usize> {
        each!(self, values => first_not_finite(values))
    }

    /// `len` zeros, or empty texts.
    pub fn zeros(datatype: Datatype, len: usize) -> Self {
        fn zeros<T: Element>(len: usize) -> Vec<T> {
            vec![T::default(); len]
        }
        make!(datatype, zeros(len))
    }

    fn slice(&self, start: usize, end: usize) -> Option<Self> {
        Some(each!(self, values => Element::wrap(values.get(start..end)?.to_vec())))
    }

    fn append(&mut self, more: &Self) -> Option<()> {
        each!(self, values => values.extend_from_slice(Element::unwrap(more)?));
        Some(())
    }
}

/// Elements that are looked at together.
pub(super) const BLOCK: usize = 1024;

/// Whole blocks first: what is not there is told soonest.
fn first_not_finite<T: Element>(values: &[T]) -> Option<usize> {
    let start = BLOCK * values.chunks(BLOCK).position(|block| !T::are_finite(block))?;
    let within = values.iter().skip(start).position(|value| !value.is_finite())?;
    Some(start + within)
}

/// A copy, and whether all of it is finite: looked at block by block, while each is in the nearest cache.
pub(crate) fn copied<T: Element>(values: &[T]) -> (Vec<T>, bool) {
    let mut copy = Vec::with_capacity(values.len());
    let mut finite = true;
    for block in values.chunks(BLOCK) {
        finite &= T::are_finite(block);
        copy.extend_from_slice(block);
    }
    (copy, finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: usize, values: &[f32]) -> Tensor {
        Tensor { shape: vec![rows, values.len() / rows], values: Values::Fp32(values.to_vec()) }
    }

    #[test]
    fn rows_come_apart_and_together() {
        let both = table(2, &[1.0, 2.0, 3.0, 4.0]);
        let (first, second) = (both.row(0).unwrap(), both.row(1).unwrap());
        assert_eq!(second, table(1, &[3.0, 4.0]));
        assert_eq!(Tensor::stacked([&first, &second]), Some(both.clone()));
        assert_eq!(both.row(2), None);
        assert_eq!(Tensor::stacked([&first, &table(1, &[1.0])]), None);
        let ints = Tensor { shape: vec![1, 2], values: Values::Int64(vec![1, 2]) };
        assert_eq!(Tensor::stacked([&first, &ints]), None);
        assert_eq!(Tensor::stacked([]), None);
    }

    #[test]
    fn not_finite_is_found() {
        assert_eq!(Values::Fp32(vec![0.0, f32::NAN]).first_not_finite(), Some(1));
        assert_eq!(Values::Fp64(vec![f64::INFINITY]).first_not_finite(), Some(0));
        assert_eq!(Values::Int8(vec![1]).first_not_finite(), None);
    }

    #[test]
    fn not_finite_is_found_among_many_of_every_width() {
        fn check<T: Element>(plain: &[T; 4], odd: &[T; 3]) {
            let many: Vec<T> = plain.iter().cycle().take(3000).cloned().collect();
            assert_eq!(T::wrap(many.clone()).first_not_finite(), None);
            assert_eq!((T::wrap(copied(&many).0), copied(&many).1), (T::wrap(many.clone()), true));
            for (at, odd) in [0, 1023, 1024, 2999].into_iter().zip(odd.iter().cycle()) {
                let mut many = many.clone();
                many[at] = odd.clone();
                assert!(!copied(&many).1);
                assert_eq!(T::wrap(many).first_not_finite(), Some(at));
            }
        }
        check(&[f32::MAX, f32::MIN, -0.0, 1e-45], &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        check(&[f64::MAX, f64::MIN, -0.0, 5e-324], &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        check(&[f16::MAX, f16::MIN, f16::NEG_ZERO, f16::ONE], &[f16::NAN, f16::INFINITY, f16::NEG_INFINITY]);
        check(
            &[bf16::MAX, bf16::MIN, bf16::NEG_ZERO, bf16::ONE],
            &[bf16::NAN, bf16::INFINITY, bf16::NEG_INFINITY],
        );
    }
}
