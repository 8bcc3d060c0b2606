//! An inference request: read, and checked against the signature of the model that shall answer it.

use muster_protocol::manifest::{Datatype, Signature, Tensor as Declared};
use serde::Deserialize;

use super::data::Data;
use super::{NamedTensor, Tensor};

/// Longest request id, bytes. Ids are remembered until their labels arrive.
pub const ID_BYTES_MAX: usize = 128;
/// Dimensions of a tensor.
const RANK_MAX: usize = 16;

/// A request that fits its model: every input once, in the signature's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub id: Option<String>,
    pub inputs: Vec<NamedTensor>,
    /// Outputs to answer with, in this order; empty means all.
    pub outputs: Vec<String>,
}

/// Why a request cannot be answered; shown to the application as it stands.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error("the body is not an inference request: {0}")]
    Json(serde_json::Error),
    #[error(
        "the body holds NaN or Infinity, which JSON does not have; send finite numbers, or mark missing values as the model was trained to"
    )]
    NanText,
    #[error(
        "binary tensor data is not supported yet; send the tensors as JSON 'data' and ask for JSON outputs"
    )]
    Binary,
    #[error("the request id has {0} bytes; the limit is {ID_BYTES_MAX}")]
    LongId(usize),
    #[error("the request has no input '{name}'; the model's inputs are {known}")]
    MissingInput { name: String, known: String },
    #[error("the model has no input '{name}'; its inputs are {known}")]
    UnknownInput { name: String, known: String },
    #[error("the input '{0}' appears twice")]
    TwiceInput(String),
    #[error("the model has no output '{name}'; its outputs are {known}")]
    UnknownOutput { name: String, known: String },
    #[error("the output '{0}' is asked for twice")]
    TwiceOutput(String),
    #[error("input '{name}' has datatype {found}; the model takes {expected}")]
    Datatype { name: String, found: String, expected: String },
    #[error("input '{name}' has shape {found:?}; the model takes {expected:?} (-1 is any length)")]
    Shape { name: String, found: Vec<i64>, expected: Vec<i64> },
    #[error("input '{name}' has no 'data'")]
    NoData { name: String },
    #[error("input '{name}' has {found} elements; its shape {shape:?} holds {expected}")]
    Count { name: String, found: usize, shape: Vec<i64>, expected: String },
    #[error("input '{name}' has no rows; send at least one")]
    Empty { name: String },
    #[error("element {index} of input '{name}' is not a {datatype}")]
    Element { name: String, index: usize, datatype: String },
    #[error(
        "element {index} of input '{name}' is not a finite number; models answer wrongly to NaN and infinity"
    )]
    NotFinite { name: String, index: usize },
}

/// Reads a JSON body. Unknown fields and parameters are ignored, as the protocol asks.
pub fn parse(body: &[u8], signature: &Signature) -> Result<Request, Malformed> {
    let raw: RawRequest = serde_json::from_slice(body).map_err(|error| explain(body, error))?;
    if raw.parameters.binary_data_output || raw.outputs.iter().any(|output| output.parameters.binary_data) {
        return Err(Malformed::Binary);
    }
    let id = raw.id.filter(|id| !id.is_empty());
    if let Some(long) = id.as_ref().map(String::len).filter(|&len| len > ID_BYTES_MAX) {
        return Err(Malformed::LongId(long));
    }
    let outputs = wanted(raw.outputs, &signature.outputs)?;
    let inputs = matched(raw.inputs, &signature.inputs)?;
    Ok(Request { id, inputs, outputs })
}

#[derive(Deserialize)]
struct RawRequest {
    #[serde(default)]
    id: Option<String>,
    inputs: Vec<RawInput>,
    #[serde(default)]
    outputs: Vec<RawOutput>,
    #[serde(default)]
    parameters: Binary,
}

#[derive(Deserialize)]
struct RawInput {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    parameters: Binary,
}

#[derive(Deserialize)]
struct RawOutput {
    name: String,
    #[serde(default)]
    parameters: Binary,
}

/// The parameters of the binary tensor extension; everything else is ignored.
#[expect(clippy::struct_field_names, reason = "the protocol's names")]
#[derive(Default, Deserialize)]
#[serde(default)]
struct Binary {
    binary_data: bool,
    binary_data_output: bool,
    binary_data_size: Option<u64>,
}

fn matched(raw: Vec<RawInput>, declared: &[Declared]) -> Result<Vec<NamedTensor>, Malformed> {
    let mut found: Vec<Option<Tensor>> = declared.iter().map(|_| None).collect();
    for input in raw {
        let unknown = |name: &str| Malformed::UnknownInput { name: short(name), known: names(declared) };
        let Some(at) = declared.iter().position(|tensor| tensor.name == input.name) else {
            return Err(unknown(&input.name));
        };
        let (Some(place), Some(tensor)) = (found.get_mut(at), declared.get(at)) else {
            return Err(unknown(&input.name));
        };
        if place.is_some() {
            return Err(Malformed::TwiceInput(short(&input.name)));
        }
        *place = Some(checked(input, tensor)?);
    }
    let missing = |name: &str| Malformed::MissingInput { name: name.to_owned(), known: names(declared) };
    declared
        .iter()
        .zip(found)
        .map(|(tensor, found)| {
            let tensor_found = found.ok_or_else(|| missing(&tensor.name))?;
            Ok(NamedTensor { name: tensor.name.clone(), tensor: tensor_found })
        })
        .collect()
}

fn checked(input: RawInput, declared: &Declared) -> Result<Tensor, Malformed> {
    let RawInput { name, shape, datatype, data, parameters } = input;
    if parameters.binary_data_size.is_some() {
        return Err(Malformed::Binary);
    }
    let expected = datatype_name(declared.datatype);
    if datatype != expected {
        return Err(Malformed::Datatype { name, found: short(&datatype), expected: expected.to_owned() });
    }
    let fits = shape.len() == declared.shape.len()
        && shape
            .iter()
            .zip(&declared.shape)
            .all(|(&found, &wanted)| found >= 0 && (wanted < 0 || found == wanted));
    if !fits {
        let found = shape.into_iter().take(RANK_MAX).collect();
        return Err(Malformed::Shape { name, found, expected: declared.shape.clone() });
    }
    let data = data.ok_or_else(|| Malformed::NoData { name: name.clone() })?;
    let dimensions: Option<Vec<usize>> = shape.iter().map(|&length| usize::try_from(length).ok()).collect();
    let dimensions = dimensions.unwrap_or_default();
    let count = dimensions.iter().try_fold(1_usize, |product, &length| product.checked_mul(length));
    if count != Some(data.len()) {
        let expected = count.map_or_else(|| "more than any machine".to_owned(), |count| count.to_string());
        return Err(Malformed::Count { name, found: data.len(), shape, expected });
    }
    if count == Some(0) {
        return Err(Malformed::Empty { name });
    }
    let values = match data.into_values(declared.datatype) {
        Ok(values) => values,
        Err(index) => return Err(Malformed::Element { name, index, datatype: expected.to_owned() }),
    };
    match values.first_not_finite() {
        Some(index) => Err(Malformed::NotFinite { name, index }),
        None => Ok(Tensor { shape: dimensions, values }),
    }
}

fn wanted(raw: Vec<RawOutput>, declared: &[Declared]) -> Result<Vec<String>, Malformed> {
    let mut outputs: Vec<String> = Vec::new();
    for RawOutput { name, .. } in raw {
        if !declared.iter().any(|tensor| tensor.name == name) {
            return Err(Malformed::UnknownOutput { name: short(&name), known: names(declared) });
        }
        if outputs.contains(&name) {
            return Err(Malformed::TwiceOutput(name));
        }
        outputs.push(name);
    }
    Ok(outputs)
}

/// Python writes NaN and Infinity into JSON; say so instead of "expected value at column 7".
fn explain(body: &[u8], error: serde_json::Error) -> Malformed {
    let line = body.split(|&byte| byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    // The reader stops at the token's first or second character.
    let column = error.column();
    let stopped_at = |back: usize| line.get(column.saturating_sub(back)..).unwrap_or_default();
    let is_token = |text: &[u8]| text.starts_with(b"NaN") || text.starts_with(b"Infinity");
    if error.is_syntax() && (0..3).any(|back| is_token(stopped_at(back))) {
        Malformed::NanText
    } else {
        Malformed::Json(error)
    }
}

pub(crate) fn datatype_name(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Bool => "BOOL",
        Datatype::Uint8 => "UINT8",
        Datatype::Int8 => "INT8",
        Datatype::Int16 => "INT16",
        Datatype::Int32 => "INT32",
        Datatype::Int64 => "INT64",
        Datatype::Fp32 => "FP32",
        Datatype::Fp64 => "FP64",
    }
}

fn names(tensors: &[Declared]) -> String {
    tensors.iter().map(|tensor| format!("'{}'", tensor.name)).collect::<Vec<_>>().join(", ")
}

/// What a client sent is repeated to it, but never at length.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oip::Values;

    fn signature() -> Signature {
        let tensor = |name: &str, datatype, shape: &[i64]| Declared {
            name: name.to_owned(),
            datatype,
            shape: shape.to_vec(),
            features: Vec::new(),
        };
        Signature {
            inputs: vec![tensor("x", Datatype::Fp32, &[-1, 2]), tensor("k", Datatype::Int64, &[1])],
            outputs: vec![tensor("y", Datatype::Fp32, &[-1, 1]), tensor("z", Datatype::Fp32, &[-1])],
        }
    }

    fn ask(x: &str) -> Result<Request, Malformed> {
        let body = format!(
            r#"{{"id":"a","inputs":[{{"name":"k","shape":[1],"datatype":"INT64","data":[7]}},{x}]}}"#
        );
        parse(body.as_bytes(), &signature())
    }

    fn refuse(x: &str, expect: &str) {
        let error = ask(x).unwrap_err().to_string();
        assert!(error.contains(expect), "{x}: {error}");
    }

    #[test]
    fn inputs_come_in_the_signatures_order() {
        let request =
            ask(r#"{"data":[[1,2],[3,4]],"name":"x","shape":[2,2],"datatype":"FP32","more":1}"#).unwrap();
        assert_eq!(request.id.as_deref(), Some("a"));
        assert_eq!(
            request.inputs[0].tensor,
            Tensor { shape: vec![2, 2], values: Values::Fp32(vec![1.0, 2.0, 3.0, 4.0]) }
        );
        assert_eq!(request.inputs[1].tensor.values, Values::Int64(vec![7]));
        assert!(request.outputs.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        refuse(r#"{"name":"q","shape":[1,2],"datatype":"FP32","data":[1,2]}"#, "no input 'q'");
        refuse(r#"{"name":"k","shape":[1],"datatype":"INT64","data":[7]}"#, "appears twice");
        refuse(r#"{"name":"x","shape":[1,2],"datatype":"FP64","data":[1,2]}"#, "datatype FP64");
        refuse(r#"{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}"#, "shape [1, 3]");
        refuse(r#"{"name":"x","shape":[2],"datatype":"FP32","data":[1,2]}"#, "shape [2]");
        refuse(r#"{"name":"x","shape":[-1,2],"datatype":"FP32","data":[1,2]}"#, "shape [-1, 2]");
        refuse(r#"{"name":"x","shape":[2,2],"datatype":"FP32","data":[1,2]}"#, "holds 4");
        refuse(
            r#"{"name":"x","shape":[9223372036854775807,2],"datatype":"FP32","data":[1,2]}"#,
            "holds 18446744073709551614",
        );
        refuse(r#"{"name":"x","shape":[0,2],"datatype":"FP32","data":[]}"#, "no rows");
        refuse(r#"{"name":"x","shape":[1,2],"datatype":"FP32"}"#, "no 'data'");
        refuse(
            r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,1e39]}"#,
            "element 1 of input 'x' is not a finite",
        );
        refuse(
            r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,true]}"#,
            "element 1 of input 'x' is not a FP32",
        );
        refuse(r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,NaN]}"#, "NaN or Infinity");
        refuse(r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,-Infinity]}"#, "NaN or Infinity");
        refuse(r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,null]}"#, "no null");
        refuse(
            r#"{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}"#,
            "binary",
        );
    }

    #[test]
    fn the_frame_is_checked_too() {
        let check = |body: &str, expect: &str| {
            let error = parse(body.as_bytes(), &signature()).unwrap_err().to_string();
            assert!(error.contains(expect), "{body}: {error}");
        };
        check("", "not an inference request");
        check("[]", "not an inference request");
        check(r#"{"inputs":[]}"#, "no input 'x'");
        check(r#"{"inputs":[],"parameters":{"binary_data_output":true}}"#, "binary");
        check(r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"binary_data":true}}]}"#, "binary");
        check(r#"{"inputs":[],"outputs":[{"name":"w"}]}"#, "no output 'w'");
        check(r#"{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}"#, "twice");
        check(&format!(r#"{{"id":"{}","inputs":[]}}"#, "i".repeat(129)), "129 bytes");
    }
}
