//! One element of a tensor: what every element type can do, and how it is read from JSON.

use half::{bf16, f16};
use muster_protocol::manifest::Datatype;
use serde::Serialize;

use super::Values;
use super::data::Scalar;

pub(crate) trait Element: Clone + Default {
    const DATATYPE: Datatype;

    fn wrap(values: Vec<Self>) -> Values;

    /// None where the elements are of another type.
    fn unwrap(values: &Values) -> Option<&[Self]>;

    /// As a number for counting and comparing; large 64-bit integers are rounded, a text has none.
    fn number(&self) -> Option<f64>;

    /// OpenVINO answers NaN with ordinary numbers, and JSON has no word for it.
    fn is_finite(&self) -> bool {
        true
    }

    /// The same of many, without a way out in the middle, so that several are looked at in one instruction.
    fn are_finite(values: &[Self]) -> bool {
        values.iter().all(Self::is_finite)
    }

    /// None where what JSON wrote does not fit.
    fn from_scalar(scalar: Scalar<'_>) -> Option<Self>;

    /// What is written of it in JSON.
    type Json<'a>: Serialize
    where
        Self: 'a;

    fn json(&self) -> Self::Json<'_>;
}

macro_rules! kind {
    ($kind:ident) => {
        const DATATYPE: Datatype = Datatype::$kind;

        fn wrap(values: Vec<Self>) -> Values {
            Values::$kind(values)
        }

        fn unwrap(values: &Values) -> Option<&[Self]> {
            if let Values::$kind(values) = values { Some(values) } else { None }
        }
    };
}

macro_rules! plain {
    () => {
        type Json<'a> = Self;

        fn json(&self) -> Self {
            *self
        }
    };
}

/// An exponent of nothing but ones is NaN or infinity: one more, and it runs over into the sign.
macro_rules! finite {
    ($float:ty, $bits:ty) => {
        fn is_finite(&self) -> bool {
            <$float>::is_finite(*self)
        }

        fn are_finite(values: &[Self]) -> bool {
            const ONES: $bits = <$float>::INFINITY.to_bits();
            const SIGN: $bits = !(<$bits>::MAX >> 1);
            let carried = |value: &$float| (value.to_bits() & ONES) + (SIGN - ONES);
            values.iter().fold(0, |any, value| any | carried(value)) & SIGN == 0
        }
    };
}

macro_rules! integers {
    ($($integer:ty: $kind:ident),+) => {$(
        impl Element for $integer {
            kind!($kind);

            #[expect(clippy::allow_attributes, reason = "the narrow types convert without loss")]
            #[allow(clippy::cast_precision_loss, clippy::cast_lossless, reason = "counting and comparing tolerate 53 bits")]
            fn number(&self) -> Option<f64> {
                Some(*self as f64)
            }

            /// Whole numbers only: 1.0 is one, as many clients write every number with a point, 1.5 is refused.
            fn from_scalar(scalar: Scalar<'_>) -> Option<Self> {
                match scalar {
                    Scalar::Unsigned(value) => Self::try_from(value).ok(),
                    Scalar::Signed(value) => Self::try_from(value).ok(),
                    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and below 2^53")]
                    Scalar::Float(value) if value.fract() == 0.0 && value.abs() < 9e15 => Self::try_from(value as i64).ok(),
                    Scalar::Float(_) | Scalar::Bool(_) | Scalar::Text(_) => None,
                }
            }

            plain!();
        }
    )+};
}

integers!(u8: Uint8, u16: Uint16, u32: Uint32, u64: Uint64, i8: Int8, i16: Int16, i32: Int32, i64: Int64);

impl Element for bool {
    kind!(Bool);

    fn number(&self) -> Option<f64> {
        Some(f64::from(u8::from(*self)))
    }

    fn from_scalar(scalar: Scalar<'_>) -> Option<Self> {
        match scalar {
            Scalar::Bool(value) => Some(value),
            Scalar::Unsigned(0) => Some(false),
            Scalar::Unsigned(1) => Some(true),
            Scalar::Unsigned(_) | Scalar::Signed(_) | Scalar::Float(_) | Scalar::Text(_) => None,
        }
    }

    plain!();
}

impl Element for f64 {
    kind!(Fp64);

    fn number(&self) -> Option<f64> {
        Some(*self)
    }

    finite!(f64, u64);

    #[expect(clippy::cast_precision_loss, reason = "a float tensor holds what a float can")]
    fn from_scalar(scalar: Scalar<'_>) -> Option<Self> {
        match scalar {
            Scalar::Bool(_) | Scalar::Text(_) => None,
            Scalar::Unsigned(value) => Some(value as f64),
            Scalar::Signed(value) => Some(value as f64),
            Scalar::Float(value) => Some(value),
        }
    }

    plain!();
}

/// Rounded to the tensor's type: what overflows becomes infinity, which is refused.
macro_rules! floats {
    ($($float:ty, $bits:ty: $kind:ident, $round:expr);+) => {$(
        impl Element for $float {
            kind!($kind);

            fn number(&self) -> Option<f64> {
                Some(f64::from(*self))
            }

            finite!($float, $bits);

            fn from_scalar(scalar: Scalar<'_>) -> Option<Self> {
                f64::from_scalar(scalar).map($round)
            }

            type Json<'a> = f32;

            fn json(&self) -> f32 {
                f32::from(*self)
            }
        }
    )+};
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to the tensor's type")]
fn single(value: f64) -> f32 {
    value as f32
}

floats!(f32, u32: Fp32, single; f16, u16: Fp16, f16::from_f64; bf16, u16: Bf16, bf16::from_f64);

impl Element for String {
    kind!(Bytes);

    fn number(&self) -> Option<f64> {
        None
    }

    fn from_scalar(scalar: Scalar<'_>) -> Option<Self> {
        match scalar {
            Scalar::Text(text) => Some(text.to_owned()),
            Scalar::Bool(_) | Scalar::Unsigned(_) | Scalar::Signed(_) | Scalar::Float(_) => None,
        }
    }

    type Json<'a> = &'a str;

    fn json(&self) -> &str {
        self
    }
}
