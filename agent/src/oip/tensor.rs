//! A tensor in memory: a shape and its elements, row-major.

use muster_protocol::manifest::Datatype;

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

#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    Bool(Vec<bool>),
    Uint8(Vec<u8>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
}

/// Runs the same expression on the vector inside, whatever its element type.
macro_rules! each {
    ($values:expr, $vector:ident => $body:expr) => {
        match $values {
            $crate::oip::Values::Bool($vector) => $body,
            $crate::oip::Values::Uint8($vector) => $body,
            $crate::oip::Values::Int8($vector) => $body,
            $crate::oip::Values::Int16($vector) => $body,
            $crate::oip::Values::Int32($vector) => $body,
            $crate::oip::Values::Int64($vector) => $body,
            $crate::oip::Values::Fp32($vector) => $body,
            $crate::oip::Values::Fp64($vector) => $body,
        }
    };
}
pub(crate) use each;

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
        match self {
            Self::Bool(_) => Datatype::Bool,
            Self::Uint8(_) => Datatype::Uint8,
            Self::Int8(_) => Datatype::Int8,
            Self::Int16(_) => Datatype::Int16,
            Self::Int32(_) => Datatype::Int32,
            Self::Int64(_) => Datatype::Int64,
            Self::Fp32(_) => Datatype::Fp32,
            Self::Fp64(_) => Datatype::Fp64,
        }
    }

    pub fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn size_bytes(&self) -> usize {
        each!(self, values => size_of_val(values.as_slice()))
    }

    /// An element as f64; large 64-bit integers are rounded.
    #[expect(clippy::cast_precision_loss, reason = "counting and comparing tolerate 53 bits")]
    pub fn get(&self, index: usize) -> Option<f64> {
        match self {
            Self::Bool(values) => values.get(index).map(|&value| f64::from(u8::from(value))),
            Self::Uint8(values) => values.get(index).copied().map(f64::from),
            Self::Int8(values) => values.get(index).copied().map(f64::from),
            Self::Int16(values) => values.get(index).copied().map(f64::from),
            Self::Int32(values) => values.get(index).copied().map(f64::from),
            Self::Int64(values) => values.get(index).map(|&value| value as f64),
            Self::Fp32(values) => values.get(index).copied().map(f64::from),
            Self::Fp64(values) => values.get(index).copied(),
        }
    }

    /// Position of the first NaN or infinity.
    pub fn first_not_finite(&self) -> Option<usize> {
        match self {
            Self::Fp32(values) => values.iter().position(|value| !value.is_finite()),
            Self::Fp64(values) => values.iter().position(|value| !value.is_finite()),
            Self::Bool(_)
            | Self::Uint8(_)
            | Self::Int8(_)
            | Self::Int16(_)
            | Self::Int32(_)
            | Self::Int64(_) => None,
        }
    }

    /// `len` zeros.
    pub fn zeros(datatype: Datatype, len: usize) -> Self {
        match datatype {
            Datatype::Bool => Self::Bool(vec![false; len]),
            Datatype::Uint8 => Self::Uint8(vec![0; len]),
            Datatype::Int8 => Self::Int8(vec![0; len]),
            Datatype::Int16 => Self::Int16(vec![0; len]),
            Datatype::Int32 => Self::Int32(vec![0; len]),
            Datatype::Int64 => Self::Int64(vec![0; len]),
            Datatype::Fp32 => Self::Fp32(vec![0.0; len]),
            Datatype::Fp64 => Self::Fp64(vec![0.0; len]),
        }
    }

    fn slice(&self, start: usize, end: usize) -> Option<Self> {
        Some(match self {
            Self::Bool(values) => Self::Bool(values.get(start..end)?.to_vec()),
            Self::Uint8(values) => Self::Uint8(values.get(start..end)?.to_vec()),
            Self::Int8(values) => Self::Int8(values.get(start..end)?.to_vec()),
            Self::Int16(values) => Self::Int16(values.get(start..end)?.to_vec()),
            Self::Int32(values) => Self::Int32(values.get(start..end)?.to_vec()),
            Self::Int64(values) => Self::Int64(values.get(start..end)?.to_vec()),
            Self::Fp32(values) => Self::Fp32(values.get(start..end)?.to_vec()),
            Self::Fp64(values) => Self::Fp64(values.get(start..end)?.to_vec()),
        })
    }

    fn append(&mut self, more: &Self) -> Option<()> {
        match (self, more) {
            (Self::Bool(values), Self::Bool(more)) => values.extend_from_slice(more),
            (Self::Uint8(values), Self::Uint8(more)) => values.extend_from_slice(more),
            (Self::Int8(values), Self::Int8(more)) => values.extend_from_slice(more),
            (Self::Int16(values), Self::Int16(more)) => values.extend_from_slice(more),
            (Self::Int32(values), Self::Int32(more)) => values.extend_from_slice(more),
            (Self::Int64(values), Self::Int64(more)) => values.extend_from_slice(more),
            (Self::Fp32(values), Self::Fp32(more)) => values.extend_from_slice(more),
            (Self::Fp64(values), Self::Fp64(more)) => values.extend_from_slice(more),
            (_, _) => return None,
        }
        Some(())
    }
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
}
