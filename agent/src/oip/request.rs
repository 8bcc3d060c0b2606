//! An inference request, checked against the signature of the model that shall answer it.
//!
//! REST and gRPC write the same thing differently; both bring it here as what is [`Offered`].

use std::time::Duration;

use muster_protocol::manifest::{Signature, Tensor as Declared};
use serde_json::value::RawValue;

use super::binary::{self, Unfit};
use super::body::Words;
use super::data;
use super::malformed::Malformed;
use super::{NamedTensor, Tensor, Values};

/// Longest request id, bytes. Ids are remembered until their labels arrive.
pub const ID_BYTES_MAX: usize = 128;
/// Dimensions of a tensor that are repeated to who sent it.
const RANK_MAX: usize = 16;

/// A request that fits its model: every input once, in the signature's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub id: Option<String>,
    pub inputs: Vec<NamedTensor>,
    /// Outputs to answer with, in this order.
    pub outputs: Vec<Wanted>,
    /// How long the application waits, where it says so.
    pub timeout: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub name: String,
    pub form: Form,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Json,
    Binary,
}

/// What was sent, not yet checked.
#[derive(Debug, Default)]
pub(crate) struct OfferedRequest<'a> {
    pub(crate) id: Option<String>,
    pub(crate) inputs: Vec<Offered<'a>>,
    /// Empty means all, in `form`.
    pub(crate) outputs: Vec<Wanted>,
    pub(crate) form: Form,
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Offered<'a> {
    pub(crate) name: String,
    pub(crate) datatype: String,
    pub(crate) shape: Vec<i64>,
    pub(crate) payload: Payload<'a>,
}

#[derive(Debug)]
pub(crate) enum Payload<'a> {
    None,
    /// As JSON wrote it.
    Json(&'a RawValue),
    /// In the protocol's binary form.
    Binary(&'a [u8]),
    /// The same, alone.
    Whole(Words),
    /// Typed already, or the first element that does not fit.
    Typed(Result<Values, usize>),
}

impl OfferedRequest<'_> {
    pub(crate) fn check(self, signature: &Signature) -> Result<Request, Malformed> {
        let id = self.id.filter(|id| !id.is_empty());
        if let Some(long) = id.as_ref().map(String::len).filter(|&len| len > ID_BYTES_MAX) {
            return Err(Malformed::LongId(long));
        }
        let outputs = wanted(self.outputs, self.form, &signature.outputs)?;
        let inputs = matched(self.inputs, &signature.inputs)?;
        Ok(Request { id, inputs, outputs, timeout: self.timeout })
    }
}

fn wanted(asked: Vec<Wanted>, form: Form, declared: &[Declared]) -> Result<Vec<Wanted>, Malformed> {
    if asked.is_empty() {
        return Ok(declared.iter().map(|output| Wanted { name: output.name.clone(), form }).collect());
    }
    let mut outputs: Vec<Wanted> = Vec::with_capacity(asked.len().min(declared.len()));
    for output in asked {
        if !declared.iter().any(|tensor| tensor.name == output.name) {
            return Err(Malformed::UnknownOutput { name: short(&output.name), known: names(declared) });
        }
        if outputs.iter().any(|other| other.name == output.name) {
            return Err(Malformed::TwiceOutput(output.name));
        }
        outputs.push(output);
    }
    Ok(outputs)
}

fn matched(offered: Vec<Offered<'_>>, declared: &[Declared]) -> Result<Vec<NamedTensor>, Malformed> {
    let mut found: Vec<Option<Tensor>> = declared.iter().map(|_| None).collect();
    for input in offered {
        let at = declared.iter().position(|tensor| tensor.name == input.name);
        let Some((place, tensor)) = at.and_then(|at| Some((found.get_mut(at)?, declared.get(at)?))) else {
            return Err(Malformed::UnknownInput { name: short(&input.name), known: names(declared) });
        };
        if place.is_some() {
            return Err(Malformed::TwiceInput(short(&input.name)));
        }
        *place = Some(checked(input, tensor)?);
    }
    let missing = |name: &str| Malformed::MissingInput { name: name.to_owned(), known: names(declared) };
    let pairs = declared.iter().zip(found);
    let named = pairs.map(|(declared, found)| {
        let tensor = found.ok_or_else(|| missing(&declared.name))?;
        Ok(NamedTensor { name: declared.name.clone(), tensor })
    });
    named.collect()
}

fn checked(input: Offered<'_>, declared: &Declared) -> Result<Tensor, Malformed> {
    let Offered { name, datatype, shape, payload } = input;
    let expected = declared.datatype.as_str();
    if datatype != expected {
        return Err(Malformed::Datatype { name, found: short(&datatype), expected });
    }
    let fits = |(&found, &wanted): (&i64, &i64)| found >= 0 && (wanted < 0 || found == wanted);
    if shape.len() != declared.shape.len() || !shape.iter().zip(&declared.shape).all(fits) {
        let found = shape.into_iter().take(RANK_MAX).collect();
        return Err(Malformed::Shape { name, found, expected: declared.shape.clone() });
    }
    let dimensions: Option<Vec<usize>> = shape.iter().map(|&length| usize::try_from(length).ok()).collect();
    let dimensions = dimensions.unwrap_or_default();
    let count = dimensions.iter().try_fold(1_usize, |product, &length| product.checked_mul(length));
    let wanted = count.unwrap_or(usize::MAX);
    let looked_at = matches!(payload, Payload::Binary(_) | Payload::Whole(_));
    let unfit = |unfit, found| unfit_bytes(unfit, &name, &shape, found, declared);
    let values = match payload {
        Payload::None => return Err(Malformed::NoData { name }),
        Payload::Binary(bytes) => {
            binary::read(bytes, declared.datatype, wanted).map_err(|why| unfit(why, bytes.len()))?
        }
        Payload::Whole(words) => {
            let found = words.bytes().len();
            binary::take(words, declared.datatype, wanted).map_err(|why| unfit(why, found))?
        }
        Payload::Json(data) => {
            data::values(data, declared.datatype).map_err(|index| element(&name, index, declared))?
        }
        Payload::Typed(values) => values.map_err(|index| element(&name, index, declared))?,
    };
    check_count(&name, &shape, count, values.len())?;
    if values.is_empty() {
        return Err(Malformed::Empty { name });
    }
    // The runtime ends texts with a zero.
    if let Values::Bytes(texts) = &values
        && let Some(index) = texts.iter().position(|text| text.contains('\0'))
    {
        return Err(Malformed::NotText { name, index });
    }
    let not_finite = if looked_at { None } else { values.first_not_finite() };
    match not_finite {
        Some(index) => Err(Malformed::NotFinite { name, index }),
        None => Ok(Tensor { shape: dimensions, values }),
    }
}

fn check_count(name: &str, shape: &[i64], count: Option<usize>, found: usize) -> Result<(), Malformed> {
    if count == Some(found) {
        return Ok(());
    }
    let expected = count.map_or_else(|| "more than any machine".to_owned(), |count| count.to_string());
    Err(Malformed::Count { name: name.to_owned(), found, shape: shape.to_vec(), expected })
}

fn element(name: &str, index: usize, declared: &Declared) -> Malformed {
    Malformed::Element { name: name.to_owned(), index, datatype: declared.datatype }
}

fn unfit_bytes(unfit: Unfit, name: &str, shape: &[i64], found: usize, declared: &Declared) -> Malformed {
    let (name, shape) = (name.to_owned(), shape.to_vec());
    match unfit {
        Unfit::Length { expected } => {
            let datatype = declared.datatype.as_str();
            Malformed::Bytes { name, found, shape, expected, datatype }
        }
        Unfit::Element(index) => element(&name, index, declared),
        Unfit::NotFinite(index) => Malformed::NotFinite { name, index },
        Unfit::Torn(index) => Malformed::Torn { name, index },
        Unfit::NotText(index) => Malformed::NotText { name, index },
    }
}

fn names(tensors: &[Declared]) -> String {
    tensors.iter().map(|tensor| format!("'{}'", tensor.name)).collect::<Vec<_>>().join(", ")
}

/// What a client sent is repeated to it, but never at length.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}
