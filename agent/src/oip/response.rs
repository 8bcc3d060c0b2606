//! An inference response: written for applications, read back from a golden file or from the evaluating child.

use muster_protocol::manifest::Datatype;
use serde::{Deserialize, Serialize};

use super::data::Data;
use super::request::datatype_name;
use super::tensor::each;
use super::{NamedTensor, Tensor};

/// Who answers what: the frame of a response.
#[derive(Serialize)]
struct Frame<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    shape: &'a [usize],
    datatype: &'static str,
    data: &'a super::Values,
}

impl Serialize for super::Values {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        each!(self, values => values.serialize(serializer))
    }
}

/// Writes a response; NaN and infinity come out as null, which readers of ours refuse.
pub fn write(model: &str, version: &str, id: Option<&str>, outputs: &[NamedTensor]) -> Vec<u8> {
    let outputs = outputs
        .iter()
        .map(|NamedTensor { name, tensor }| Output {
            name,
            shape: &tensor.shape,
            datatype: datatype_name(tensor.values.datatype()),
            data: &tensor.values,
        })
        .collect();
    let frame = Frame { model_name: model, model_version: version, id, outputs };
    // Serialising strings and numbers into memory cannot fail.
    serde_json::to_vec(&frame).unwrap_or_default()
}

/// Keeps the outputs that were asked for, in the order asked; all where nothing was.
pub fn select(outputs: &mut Vec<NamedTensor>, wanted: &[String]) {
    if wanted.is_empty() {
        return;
    }
    let mut all = std::mem::take(outputs);
    for name in wanted {
        if let Some(at) = all.iter().position(|output| output.name == *name) {
            outputs.push(all.swap_remove(at));
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("not an inference response: {0}")]
    Json(serde_json::Error),
    #[error("output '{name}' has {found} elements; its shape {shape:?} holds another number")]
    Count { name: String, found: usize, shape: Vec<usize> },
    #[error("element {index} of output '{name}' does not fit its datatype")]
    Element { name: String, index: usize },
}

#[derive(Deserialize)]
struct RawResponse {
    outputs: Vec<RawOutput>,
}

#[derive(Deserialize)]
struct RawOutput {
    name: String,
    shape: Vec<usize>,
    datatype: Datatype,
    data: Data,
}

/// Reads a response's outputs.
pub fn read(body: &[u8]) -> Result<Vec<NamedTensor>, ReadError> {
    let raw: RawResponse = serde_json::from_slice(body).map_err(ReadError::Json)?;
    raw.outputs
        .into_iter()
        .map(|RawOutput { name, shape, datatype, data }| {
            let count = shape.iter().try_fold(1_usize, |product, &length| product.checked_mul(length));
            if count != Some(data.len()) {
                return Err(ReadError::Count { name, found: data.len(), shape });
            }
            match data.into_values(datatype) {
                Ok(values) => Ok(NamedTensor { name, tensor: Tensor { shape, values } }),
                Err(index) => Err(ReadError::Element { name, index }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oip::Values;

    #[test]
    fn what_is_written_is_read_back() {
        let named = |name: &str, values| NamedTensor {
            name: name.to_owned(),
            tensor: Tensor { shape: vec![2, 1], values },
        };
        let outputs =
            vec![named("y", Values::Fp32(vec![0.1, -2.5e-8])), named("k", Values::Int64(vec![i64::MAX, -1]))];
        let body = write("beds", "7", Some("r-1"), &outputs);
        let text = String::from_utf8(body.clone()).unwrap();
        assert!(
            text.starts_with(r#"{"model_name":"beds","model_version":"7","id":"r-1","outputs":[{"name":"y""#),
            "{text}"
        );
        assert_eq!(read(&body).unwrap(), outputs);
    }

    #[test]
    fn broken_responses_are_refused() {
        let check = |body: &str, expect: &str| {
            let error = read(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expect), "{body}: {error}");
        };
        check("hello", "not an inference response");
        check(r#"{"outputs":[{"name":"y","shape":[2],"datatype":"FP32","data":[1]}]}"#, "1 elements");
        check(r#"{"outputs":[{"name":"y","shape":[1],"datatype":"INT8","data":[999]}]}"#, "element 0");
        check(r#"{"outputs":[{"name":"y","shape":[1],"datatype":"FP32","data":[null]}]}"#, "no null");
    }
}
