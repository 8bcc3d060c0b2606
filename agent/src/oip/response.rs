//! An inference response: written for applications, read back from a golden file or from the evaluating child.

use bytes::Bytes;
use muster_protocol::manifest::Datatype;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::data;
use super::element::Element;
use super::request::{Form, Wanted};
use super::{NamedTensor, Tensor, Values, binary, each};

/// A response: JSON, and behind it the tensors that were wanted in binary form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response {
    pub json: Vec<u8>,
    pub tensors: Vec<Bytes>,
}

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
    #[serde(flatten)]
    elements: Elements<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Elements<'a> {
    Data(&'a Values),
    Parameters { binary_data_size: usize },
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        each!(self, values => serializer.collect_seq(values.iter().map(Element::json)))
    }
}

/// Writes a response with the outputs that are wanted, in that order. In JSON, NaN and infinity come out as null, which
/// readers of ours refuse.
pub fn write(
    model: &str,
    version: &str,
    id: Option<&str>,
    mut outputs: Vec<NamedTensor>,
    wanted: &[Wanted],
) -> Response {
    select(&mut outputs, wanted.iter().map(|output| output.name.as_str()));
    let form = |name: &str| {
        wanted.iter().find(|output| output.name == name).map_or(Form::Json, |output| output.form)
    };
    let listed = outputs.iter().map(|NamedTensor { name, tensor }| Output {
        name,
        shape: &tensor.shape,
        datatype: tensor.values.datatype().as_str(),
        elements: match form(name) {
            Form::Json => Elements::Data(&tensor.values),
            Form::Binary => Elements::Parameters { binary_data_size: binary::size(&tensor.values) },
        },
    });
    let frame = Frame { model_name: model, model_version: version, id, outputs: listed.collect() };
    // Serialising strings and numbers into memory cannot fail.
    let json = serde_json::to_vec(&frame).unwrap_or_default();
    let binary = outputs.into_iter().filter(|output| form(&output.name) == Form::Binary);
    Response { json, tensors: binary.map(|output| binary::write(output.tensor.values)).collect() }
}

/// Keeps the outputs of these names, in this order.
pub fn select<'a>(outputs: &mut Vec<NamedTensor>, names: impl Iterator<Item = &'a str>) {
    let mut all = std::mem::take(outputs);
    for name in names {
        if let Some(at) = all.iter().position(|output| output.name == name) {
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
struct RawResponse<'a> {
    #[serde(borrow)]
    outputs: Vec<RawOutput<'a>>,
}

#[derive(Deserialize)]
struct RawOutput<'a> {
    name: String,
    shape: Vec<usize>,
    datatype: Datatype,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Reads a response's outputs.
pub fn read(body: &[u8]) -> Result<Vec<NamedTensor>, ReadError> {
    let raw: RawResponse<'_> = serde_json::from_slice(body).map_err(ReadError::Json)?;
    let outputs = raw.outputs.into_iter().map(|RawOutput { name, shape, datatype, data }| {
        let values = match data::values(data, datatype) {
            Ok(values) => values,
            Err(index) => return Err(ReadError::Element { name, index }),
        };
        let count = shape.iter().try_fold(1_usize, |product, &length| product.checked_mul(length));
        if count != Some(values.len()) {
            return Err(ReadError::Count { name, found: values.len(), shape });
        }
        Ok(NamedTensor { name, tensor: Tensor { shape, values } })
    });
    outputs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, values: Values) -> NamedTensor {
        NamedTensor { name: name.to_owned(), tensor: Tensor { shape: vec![2, 1], values } }
    }

    fn wanted(name: &str, form: Form) -> Wanted {
        Wanted { name: name.to_owned(), form }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let half = [0.5, -2.0].map(half::f16::from_f32).to_vec();
        let outputs = vec![
            named("y", Values::Fp32(vec![0.1, -2.5e-8])),
            named("k", Values::Int64(vec![i64::MAX, -1])),
            named("u", Values::Uint64(vec![u64::MAX, 0])),
            named("h", Values::Fp16(half)),
            named("t", Values::Bytes(vec!["a\"b".to_owned(), String::new()])),
        ];
        let all: Vec<_> = outputs.iter().map(|output| wanted(&output.name, Form::Json)).collect();
        let response = write("beds", "7", Some("r-1"), outputs.clone(), &all);
        let text = String::from_utf8(response.json.clone()).unwrap();
        assert!(
            text.starts_with(r#"{"model_name":"beds","model_version":"7","id":"r-1","outputs":[{"name":"y""#),
            "{text}"
        );
        assert_eq!(read(&response.json).unwrap(), outputs);
        assert!(response.tensors.is_empty());
    }

    #[test]
    fn binary_outputs_lie_behind_the_json_in_the_order_asked() {
        let outputs = vec![
            named("a", Values::Int16(vec![1, 2])),
            named("b", Values::Int16(vec![3, 4])),
            named("c", Values::Int16(vec![5, 6])),
        ];
        let asked = [wanted("c", Form::Binary), wanted("b", Form::Json), wanted("a", Form::Binary)];
        let Response { json, tensors } = write("m", "1", None, outputs, &asked);
        let text = String::from_utf8(json).unwrap();
        let expect = concat!(
            r#"{"model_name":"m","model_version":"1","outputs":["#,
            r#"{"name":"c","shape":[2,1],"datatype":"INT16","parameters":{"binary_data_size":4}},"#,
            r#"{"name":"b","shape":[2,1],"datatype":"INT16","data":[3,4]},"#,
            r#"{"name":"a","shape":[2,1],"datatype":"INT16","parameters":{"binary_data_size":4}}]}"#,
        );
        assert_eq!(
            (text.as_str(), tensors),
            (expect, vec![vec![5, 0, 6, 0].into(), vec![1, 0, 2, 0].into()])
        );
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
        check(r#"{"outputs":[{"name":"y","shape":[1],"datatype":"FP32","data":[null]}]}"#, "element 0");
    }
}
