//! The `data` of a tensor: JSON numbers or texts, flat or nested, in row-major order.
//!
//! The element type stands in a sibling field that may come later, so the text is kept as it was sent until that is
//! known, and then read once, straight into elements of their type: numbers that wait take no room of their own.

use std::fmt;

use muster_protocol::manifest::Datatype;
use serde::de::{DeserializeSeed, Deserializer as _, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::element::Element;
use super::{Values, make};

/// One element as JSON wrote it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar<'a> {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'a str),
}

/// Reads every element; the error is the position of the first that does not fit `datatype`.
pub(super) fn values(data: &RawValue, datatype: Datatype) -> Result<Values, usize> {
    Ok(make!(datatype, elements(data.get())?))
}

fn elements<T: Element>(text: &str) -> Result<Vec<T>, usize> {
    let mut elements = Vec::new();
    let read = serde_json::Deserializer::from_str(text).deserialize_seq(Elements(&mut elements));
    if read.is_ok() { Ok(elements) } else { Err(elements.len()) }
}

/// Reads an element or a list of these, at any depth (`serde_json` bounds it), into one flat list.
struct Elements<'a, T>(&'a mut Vec<T>);

impl<T: Element> Elements<'_, T> {
    fn push<E: Error>(self, scalar: Scalar<'_>) -> Result<(), E> {
        let element = T::from_scalar(scalar).ok_or_else(|| E::custom("not of the tensor's type"))?;
        self.0.push(element);
        Ok(())
    }
}

impl<'de, T: Element> DeserializeSeed<'de> for Elements<'_, T> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Element> Visitor<'de> for Elements<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers or texts, flat or in nested lists")
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
        self.push(Scalar::Text(value))
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
        let data: &RawValue = serde_json::from_str(json).unwrap();
        assert_eq!(&values(data, datatype), expect, "{json}");
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
    fn what_is_no_list_of_elements_is_refused_where_it_stands() {
        for (wrong, at) in [
            ("7", 0),
            ("\"a\"", 0),
            ("{}", 0),
            ("null", 0),
            ("[1, \"a\"]", 1),
            ("[[1, 2], [3, null]]", 3),
            ("[1, {}]", 1),
        ] {
            check(wrong, Datatype::Fp32, &Err(at));
        }
        check("[\"a\", 1]", Datatype::Bytes, &Err(1));
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        check(&deep, Datatype::Fp32, &Err(0));
    }
}
