//! The `data` of a tensor: JSON numbers, flat or nested, in row-major order.
//!
//! The element type is only known from a sibling field that may come later, so numbers are kept as JSON wrote them and
//! converted when the whole tensor has been read.

use std::fmt;

use muster_protocol::manifest::Datatype;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use super::Values;

/// One element as JSON wrote it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scalar {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Data(Vec<Scalar>);

impl Data {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Converts every element; the error is the position of the first that does not fit `datatype`.
    pub(super) fn into_values(self, datatype: Datatype) -> Result<Values, usize> {
        match datatype {
            Datatype::Bool => self.convert(boolean).map(Values::Bool),
            Datatype::Uint8 => self.convert(integer).map(Values::Uint8),
            Datatype::Int8 => self.convert(integer).map(Values::Int8),
            Datatype::Int16 => self.convert(integer).map(Values::Int16),
            Datatype::Int32 => self.convert(integer).map(Values::Int32),
            Datatype::Int64 => self.convert(integer).map(Values::Int64),
            Datatype::Fp32 => self.convert(float32).map(Values::Fp32),
            Datatype::Fp64 => self.convert(float64).map(Values::Fp64),
        }
    }

    fn convert<T>(self, one: fn(Scalar) -> Option<T>) -> Result<Vec<T>, usize> {
        self.0.into_iter().enumerate().map(|(at, scalar)| one(scalar).ok_or(at)).collect()
    }
}

fn boolean(scalar: Scalar) -> Option<bool> {
    match scalar {
        Scalar::Bool(value) => Some(value),
        Scalar::Unsigned(0) => Some(false),
        Scalar::Unsigned(1) => Some(true),
        Scalar::Unsigned(_) | Scalar::Signed(_) | Scalar::Float(_) => None,
    }
}

/// Whole numbers only: 1.0 is one, as many clients write every number with a point, 1.5 is refused.
fn integer<T: TryFrom<i64>>(scalar: Scalar) -> Option<T> {
    let whole = match scalar {
        Scalar::Unsigned(value) => i64::try_from(value).ok()?,
        Scalar::Signed(value) => value,
        #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and below 2^53")]
        Scalar::Float(value) if value.fract() == 0.0 && value.abs() < 9e15 => value as i64,
        Scalar::Float(_) | Scalar::Bool(_) => return None,
    };
    T::try_from(whole).ok()
}

#[expect(clippy::cast_precision_loss, reason = "a float tensor holds what a float can")]
fn float64(scalar: Scalar) -> Option<f64> {
    match scalar {
        Scalar::Bool(_) => None,
        Scalar::Unsigned(value) => Some(value as f64),
        Scalar::Signed(value) => Some(value as f64),
        Scalar::Float(value) => Some(value),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to the tensor's type; an overflow becomes infinity, which is refused"
)]
fn float32(scalar: Scalar) -> Option<f32> {
    float64(scalar).map(|value| value as f32)
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut scalars = Vec::new();
        deserializer.deserialize_seq(Elements(&mut scalars))?;
        Ok(Self(scalars))
    }
}

/// Reads a number or a list of these, at any depth (`serde_json` bounds it), into one flat list.
struct Elements<'a>(&'a mut Vec<Scalar>);

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, flat or in nested lists (no text, no null)")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.0.push(Scalar::Bool(value));
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.0.push(Scalar::Unsigned(value));
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.0.push(Scalar::Signed(value));
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.0.push(Scalar::Float(value));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Elements(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, datatype: Datatype, expect: &Result<Values, usize>) {
        let data: Data = serde_json::from_str(json).unwrap();
        assert_eq!(&data.into_values(datatype), expect, "{json}");
    }

    #[test]
    fn flat_and_nested_lists_are_one() {
        let four = Ok(Values::Fp32(vec![1.0, 2.0, -3.0, 4.5]));
        check("[1, 2, -3, 4.5]", Datatype::Fp32, &four);
        check("[[1, 2], [-3, 4.5]]", Datatype::Fp32, &four);
        check("[[[1], [2]], [[-3], [4.5]]]", Datatype::Fp32, &four);
        check("[]", Datatype::Int64, &Ok(Values::Int64(vec![])));
    }

    #[test]
    fn elements_must_fit_their_type() {
        check("[255]", Datatype::Uint8, &Ok(Values::Uint8(vec![255])));
        check("[0, 256]", Datatype::Uint8, &Err(1));
        check("[-129]", Datatype::Int8, &Err(0));
        check("[3.0]", Datatype::Int16, &Ok(Values::Int16(vec![3])));
        check("[3.5]", Datatype::Int32, &Err(0));
        check("[true, 0]", Datatype::Bool, &Ok(Values::Bool(vec![true, false])));
        check("[2]", Datatype::Bool, &Err(0));
        check("[true]", Datatype::Fp32, &Err(0));
        check("[1e39]", Datatype::Fp32, &Ok(Values::Fp32(vec![f32::INFINITY])));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for wrong in ["7", "[\"a\"]", "[null]", "[{}]", "[1"] {
            assert!(serde_json::from_str::<Data>(wrong).is_err(), "{wrong}");
        }
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        assert!(serde_json::from_str::<Data>(&deep).is_err());
    }
}
