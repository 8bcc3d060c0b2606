//! The `data` of a tensor: JSON numbers or texts, flat or nested, in row-major order.
//!
//! The element type is only known from a sibling field that may come later, so numbers are kept as JSON wrote them and
//! converted when the whole tensor has been read.

use std::fmt;

use muster_protocol::manifest::Datatype;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use super::element::Element;
use super::{Values, make};

/// One element as JSON wrote it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

/// One of the two is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Data {
    scalars: Vec<Scalar>,
    texts: Vec<String>,
}

impl Data {
    pub(super) fn len(&self) -> usize {
        self.scalars.len() + self.texts.len()
    }

    /// Converts every element; the error is the position of the first that does not fit `datatype`.
    pub(super) fn into_values(self, datatype: Datatype) -> Result<Values, usize> {
        let Self { scalars, texts } = self;
        let wrong = if datatype == Datatype::Bytes { !scalars.is_empty() } else { !texts.is_empty() };
        if wrong { Err(0) } else { Ok(make!(datatype, convert(scalars)?, texts texts)) }
    }
}

fn convert<T: Element>(scalars: Vec<Scalar>) -> Result<Vec<T>, usize> {
    scalars.into_iter().enumerate().map(|(at, scalar)| T::from_scalar(scalar).ok_or(at)).collect()
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut data = Self::default();
        deserializer.deserialize_seq(Elements(&mut data))?;
        Ok(data)
    }
}

/// Reads an element or a list of these, at any depth (`serde_json` bounds it), into one flat list.
struct Elements<'a>(&'a mut Data);

impl Elements<'_> {
    fn push<E: Error>(self, scalar: Scalar) -> Result<(), E> {
        if !self.0.texts.is_empty() {
            return Err(E::custom("numbers and texts in one tensor"));
        }
        self.0.scalars.push(scalar);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers or texts, flat or in nested lists (no null)")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.push(Scalar::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.push(Scalar::Unsigned(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.push(Scalar::Signed(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.push(Scalar::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        if !self.0.scalars.is_empty() {
            return Err(E::custom("numbers and texts in one tensor"));
        }
        self.0.texts.push(value.to_owned());
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
        check("[18446744073709551615]", Datatype::Uint64, &Ok(Values::Uint64(vec![u64::MAX])));
        check("[18446744073709551615]", Datatype::Int64, &Err(0));
        check("[-1]", Datatype::Uint32, &Err(0));
        check("[1.5]", Datatype::Fp16, &Ok(Values::Fp16(vec![half::f16::from_f32(1.5)])));
        check("[0, 70000]", Datatype::Fp16, &Ok(Values::Fp16(vec![half::f16::ZERO, half::f16::INFINITY])));
        check("[[\"a\"], [\"\"]]", Datatype::Bytes, &Ok(Values::Bytes(vec!["a".to_owned(), String::new()])));
        check("[\"a\"]", Datatype::Fp32, &Err(0));
        check("[1]", Datatype::Bytes, &Err(0));
        check("[1e39]", Datatype::Fp32, &Ok(Values::Fp32(vec![f32::INFINITY])));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for wrong in ["7", "\"a\"", "[\"a\", 1]", "[1, \"a\"]", "[null]", "[{}]", "[1"] {
            assert!(serde_json::from_str::<Data>(wrong).is_err(), "{wrong}");
        }
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        assert!(serde_json::from_str::<Data>(&deep).is_err());
    }
}
