//! Requests and responses as gRPC has them, to and from the one form that both doors share.
//!
//! Tensors come typed (`contents`) or in binary form (`raw_input_contents`), all of a request the same way; the answer
//! goes back as the request came. The short floats have no typed form: an answer that holds one is binary.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use muster_protocol::manifest::{Datatype, Signature};
use prost::encoding::{DecodeContext, decode_key, decode_varint, skip_field};
use prost::{Message, Oneof};

use super::super::body::BYTES_AT_ONCE;
use crate::oip::{
    Form, Malformed, NamedTensor, Offered, OfferedRequest, Payload, Request, Values, Wanted, Words,
    binary_form,
};

/// The field of the raw tensors.
const RAW_INPUT_CONTENTS: u32 = 7;
/// Fields that are read in no time.
const FIELDS_AT_ONCE: usize = 1024;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelInferRequest {
    #[prost(string, tag = "1")]
    pub(super) model_name: String,
    #[prost(string, tag = "2")]
    pub(super) model_version: String,
    #[prost(string, tag = "3")]
    pub(super) id: String,
    #[prost(btree_map = "string, message", tag = "4")]
    pub(super) parameters: BTreeMap<String, InferParameter>,
    #[prost(message, repeated, tag = "5")]
    pub(super) inputs: Vec<InferInputTensor>,
    #[prost(message, repeated, tag = "6")]
    pub(super) outputs: Vec<InferRequestedOutputTensor>,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub(super) raw_input_contents: Vec<Bytes>,
}

/// Of a request what is told of it where it was refused.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct RequestId {
    #[prost(string, tag = "3")]
    pub(super) id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InferInputTensor {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) datatype: String,
    #[prost(int64, repeated, tag = "3")]
    pub(super) shape: Vec<i64>,
    #[prost(btree_map = "string, message", tag = "4")]
    pub(super) parameters: BTreeMap<String, InferParameter>,
    #[prost(message, optional, tag = "5")]
    pub(super) contents: Option<InferTensorContents>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InferRequestedOutputTensor {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(super) parameters: BTreeMap<String, InferParameter>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelInferResponse {
    #[prost(string, tag = "1")]
    pub(super) model_name: String,
    #[prost(string, tag = "2")]
    pub(super) model_version: String,
    #[prost(string, tag = "3")]
    pub(super) id: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) outputs: Vec<InferOutputTensor>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub(super) raw_output_contents: Vec<Bytes>,
}

/// One answer of a stream, or why there is none.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelStreamInferResponse {
    #[prost(string, tag = "1")]
    pub(super) error_message: String,
    #[prost(message, optional, tag = "2")]
    pub(super) infer_response: Option<ModelInferResponse>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InferOutputTensor {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) datatype: String,
    #[prost(int64, repeated, tag = "3")]
    pub(super) shape: Vec<i64>,
    #[prost(message, optional, tag = "5")]
    pub(super) contents: Option<InferTensorContents>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InferParameter {
    #[prost(oneof = "ParameterChoice", tags = "1, 2, 3, 4, 5")]
    pub(super) choice: Option<ParameterChoice>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum ParameterChoice {
    #[prost(bool, tag = "1")]
    Bool(bool),
    #[prost(int64, tag = "2")]
    Int64(i64),
    #[prost(string, tag = "3")]
    String(String),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(uint64, tag = "5")]
    Uint64(u64),
}

#[expect(clippy::struct_field_names, reason = "the protocol's names")]
#[derive(Clone, PartialEq, Message)]
pub(super) struct InferTensorContents {
    #[prost(bool, repeated, tag = "1")]
    pub(super) bool_contents: Vec<bool>,
    /// The short signed integers too.
    #[prost(int32, repeated, tag = "2")]
    pub(super) int_contents: Vec<i32>,
    #[prost(int64, repeated, tag = "3")]
    pub(super) int64_contents: Vec<i64>,
    /// The short unsigned integers too.
    #[prost(uint32, repeated, tag = "4")]
    pub(super) uint_contents: Vec<u32>,
    #[prost(uint64, repeated, tag = "5")]
    pub(super) uint64_contents: Vec<u64>,
    #[prost(float, repeated, tag = "6")]
    pub(super) fp32_contents: Vec<f32>,
    #[prost(double, repeated, tag = "7")]
    pub(super) fp64_contents: Vec<f64>,
    #[prost(bytes = "bytes", repeated, tag = "8")]
    pub(super) bytes_contents: Vec<Bytes>,
}

/// Whether a request takes so long to read that others must not wait for it: raw tensors stay where they lie, all else
/// is taken apart.
pub(super) fn is_much(message: &[u8]) -> bool {
    let (mut rest, mut read, mut fields) = (message, 0, 0);
    while !rest.is_empty() {
        let before = rest.len();
        let Ok((tag, wire_type)) = decode_key(&mut rest) else { return false };
        if skip_field(wire_type, tag, &mut rest, DecodeContext::default()).is_err() {
            return false;
        }
        if tag != RAW_INPUT_CONTENTS {
            read += (before - rest.len()) as u64;
        }
        fields += 1;
        if read > BYTES_AT_ONCE || fields > FIELDS_AT_ONCE {
            return true;
        }
    }
    false
}

/// Where a request of `length` bytes, of which these came, has its last field, if that is a raw tensor: where the field
/// begins, and where its content does.
pub(super) fn last_tensor(came: &[u8], length: usize) -> Option<(usize, usize)> {
    let mut rest = came;
    for _ in 0..FIELDS_AT_ONCE {
        let begins = came.len() - rest.len();
        let (tag, wire_type) = decode_key(&mut rest).ok()?;
        if tag == RAW_INPUT_CONTENTS {
            let mut content = rest;
            let bytes = usize::try_from(decode_varint(&mut content).ok()?).ok()?;
            let at = came.len() - content.len();
            if at.checked_add(bytes)? == length {
                return Some((begins, at));
            }
        }
        skip_field(wire_type, tag, &mut rest, DecodeContext::default()).ok()?;
    }
    None
}

impl ModelInferRequest {
    /// Checks it against the model that shall answer it. `last` is the content of a raw tensor behind those that it has.
    pub(super) fn read(self, last: Option<Words>, signature: &Signature) -> Result<Request, Malformed> {
        let Self { id, parameters, inputs, outputs, raw_input_contents: raw, .. } = self;
        let raws = raw.len() + usize::from(last.is_some());
        let form = if raws == 0 { Form::Json } else { Form::Binary };
        let in_shared_memory =
            |parameters: &BTreeMap<String, InferParameter>| parameters.contains_key("shared_memory_region");
        if inputs.iter().any(|input| in_shared_memory(&input.parameters))
            || outputs.iter().any(|output| in_shared_memory(&output.parameters))
        {
            return Err(Malformed::SharedMemory);
        }
        if form == Form::Binary && raws != inputs.len() {
            return Err(Malformed::RawCount { found: raws, expected: inputs.len() });
        }
        let mut offered = Vec::with_capacity(inputs.len());
        let mut raw = raw.iter().map(|bytes| Payload::Binary(bytes)).chain(last.map(Payload::Whole));
        for InferInputTensor { name, datatype, shape, contents, .. } in inputs {
            let payload = match (raw.next(), contents) {
                (Some(_), Some(contents)) if contents != InferTensorContents::default() => {
                    return Err(Malformed::TwiceData { name });
                }
                (Some(raw), _) => raw,
                (None, Some(contents)) => {
                    declared(signature, &name).map_or(Payload::None, |datatype| typed(contents, datatype))
                }
                (None, None) => Payload::None,
            };
            offered.push(Offered { name, datatype, shape, payload });
        }
        let mut wanted = Vec::with_capacity(outputs.len());
        for InferRequestedOutputTensor { name, parameters } in outputs {
            if parameters.contains_key("classification") {
                return Err(Malformed::Classification(name.chars().take(80).collect()));
            }
            wanted.push(Wanted { name, form });
        }
        let timeout = parameters.get("timeout").and_then(micros);
        OfferedRequest { id: Some(id), inputs: offered, outputs: wanted, form, timeout }.check(signature)
    }
}

impl ModelInferResponse {
    pub(super) fn write(
        (model_name, model_version): (String, String),
        id: Option<String>,
        outputs: Vec<NamedTensor>,
        wanted: &[Wanted],
    ) -> Self {
        let mut all: BTreeMap<String, NamedTensor> =
            outputs.into_iter().map(|output| (output.name.clone(), output)).collect();
        let outputs: Vec<NamedTensor> = wanted.iter().filter_map(|output| all.remove(&output.name)).collect();
        let short = |output: &NamedTensor| matches!(output.tensor.values, Values::Fp16(_) | Values::Bf16(_));
        let binary = wanted.iter().any(|output| output.form == Form::Binary) || outputs.iter().any(short);
        let mut response = Self { model_name, model_version, id: id.unwrap_or_default(), ..Self::default() };
        for NamedTensor { name, tensor } in outputs {
            let datatype = tensor.values.datatype().as_str().to_owned();
            let shape =
                tensor.shape.iter().map(|&length| i64::try_from(length).unwrap_or(i64::MAX)).collect();
            let contents = if binary {
                response.raw_output_contents.push(binary_form(tensor.values));
                None
            } else {
                Some(contents(tensor.values))
            };
            response.outputs.push(InferOutputTensor { name, datatype, shape, contents });
        }
        response
    }
}

fn declared(signature: &Signature, name: &str) -> Option<Datatype> {
    signature.inputs.iter().find(|input| input.name == name).map(|input| input.datatype)
}

/// The protocol's parameter is an unsigned number; some clients write a signed one.
fn micros(parameter: &InferParameter) -> Option<Duration> {
    let micros = match parameter.choice.as_ref()? {
        ParameterChoice::Int64(value) => u64::try_from(*value).ok()?,
        ParameterChoice::Uint64(value) => *value,
        ParameterChoice::Bool(_) | ParameterChoice::String(_) | ParameterChoice::Double(_) => return None,
    };
    (micros > 0).then(|| Duration::from_micros(micros))
}

/// Takes the field of the model's own datatype: what lies in another is as good as not sent.
fn typed(contents: InferTensorContents, datatype: Datatype) -> Payload<'static> {
    let InferTensorContents {
        bool_contents,
        int_contents,
        int64_contents,
        uint_contents,
        uint64_contents,
        fp32_contents,
        fp64_contents,
        bytes_contents,
    } = contents;
    Payload::Typed(match datatype {
        Datatype::Bool => Ok(Values::Bool(bool_contents)),
        Datatype::Uint8 => narrow(uint_contents).map(Values::Uint8),
        Datatype::Uint16 => narrow(uint_contents).map(Values::Uint16),
        Datatype::Uint32 => Ok(Values::Uint32(uint_contents)),
        Datatype::Uint64 => Ok(Values::Uint64(uint64_contents)),
        Datatype::Int8 => narrow(int_contents).map(Values::Int8),
        Datatype::Int16 => narrow(int_contents).map(Values::Int16),
        Datatype::Int32 => Ok(Values::Int32(int_contents)),
        Datatype::Int64 => Ok(Values::Int64(int64_contents)),
        Datatype::Fp16 | Datatype::Bf16 => return Payload::None,
        Datatype::Fp32 => Ok(Values::Fp32(fp32_contents)),
        Datatype::Fp64 => Ok(Values::Fp64(fp64_contents)),
        Datatype::Bytes => texts(&bytes_contents).map(Values::Bytes),
    })
}

fn narrow<T: TryFrom<F>, F>(values: Vec<F>) -> Result<Vec<T>, usize> {
    values.into_iter().enumerate().map(|(at, value)| T::try_from(value).map_err(|_| at)).collect()
}

fn texts(values: &[Bytes]) -> Result<Vec<String>, usize> {
    let text = |(at, bytes): (usize, &Bytes)| str::from_utf8(bytes).map(str::to_owned).map_err(|_| at);
    values.iter().enumerate().map(text).collect()
}

fn contents(values: Values) -> InferTensorContents {
    let mut contents = InferTensorContents::default();
    match values {
        Values::Bool(values) => contents.bool_contents = values,
        Values::Uint8(values) => contents.uint_contents = values.into_iter().map(u32::from).collect(),
        Values::Uint16(values) => contents.uint_contents = values.into_iter().map(u32::from).collect(),
        Values::Uint32(values) => contents.uint_contents = values,
        Values::Uint64(values) => contents.uint64_contents = values,
        Values::Int8(values) => contents.int_contents = values.into_iter().map(i32::from).collect(),
        Values::Int16(values) => contents.int_contents = values.into_iter().map(i32::from).collect(),
        Values::Int32(values) => contents.int_contents = values,
        Values::Int64(values) => contents.int64_contents = values,
        // Always sent in binary form.
        Values::Fp16(_) | Values::Bf16(_) => {}
        Values::Fp32(values) => contents.fp32_contents = values,
        Values::Fp64(values) => contents.fp64_contents = values,
        Values::Bytes(values) => contents.bytes_contents = values.into_iter().map(Bytes::from).collect(),
    }
    contents
}

#[cfg(test)]
mod tests {
    use muster_protocol::manifest::Tensor as Declared;

    use super::*;
    use crate::oip::Tensor;

    fn signature(datatype: Datatype) -> Signature {
        let named =
            |name: &str| Declared { name: name.to_owned(), datatype, shape: vec![-1], features: Vec::new() };
        Signature { inputs: vec![named("x")], outputs: vec![named("y")] }
    }

    fn request(
        datatype: &str,
        contents: Option<InferTensorContents>,
        raw: &[&'static [u8]],
    ) -> ModelInferRequest {
        let (name, datatype) = ("x".to_owned(), datatype.to_owned());
        let input =
            InferInputTensor { name, datatype, shape: vec![2], contents, ..InferInputTensor::default() };
        let raw_input_contents = raw.iter().map(|&bytes| Bytes::from_static(bytes)).collect();
        ModelInferRequest { inputs: vec![input], raw_input_contents, ..ModelInferRequest::default() }
    }

    #[test]
    fn typed_contents_go_through_for_every_type_that_has_them() {
        let check = |values: Values| {
            let datatype = values.datatype();
            let sent = request(datatype.as_str(), Some(contents(values.clone())), &[]);
            // As it comes off the wire.
            let sent = ModelInferRequest::decode(sent.encode_to_vec().as_slice()).unwrap();
            let read = sent.read(None, &signature(datatype)).unwrap();
            assert_eq!((&read.inputs[0].tensor.values, read.outputs[0].form), (&values, Form::Json));
        };
        check(Values::Bool(vec![true, false]));
        check(Values::Uint8(vec![0, u8::MAX]));
        check(Values::Uint16(vec![0, u16::MAX]));
        check(Values::Uint32(vec![0, u32::MAX]));
        check(Values::Uint64(vec![0, u64::MAX]));
        check(Values::Int8(vec![i8::MIN, i8::MAX]));
        check(Values::Int16(vec![i16::MIN, i16::MAX]));
        check(Values::Int32(vec![i32::MIN, i32::MAX]));
        check(Values::Int64(vec![i64::MIN, i64::MAX]));
        check(Values::Fp32(vec![0.5, f32::MIN]));
        check(Values::Fp64(vec![0.5, f64::MAX]));
        check(Values::Bytes(vec!["a".to_owned(), String::new()]));
    }

    #[test]
    fn typed_tensors_are_much_and_raw_ones_are_not() {
        let check = |request: ModelInferRequest, expect| {
            assert_eq!(is_much(&request.encode_to_vec()), expect);
        };
        let floats =
            |count| InferTensorContents { fp32_contents: vec![0.5; count], ..InferTensorContents::default() };
        check(request("FP32", Some(floats(2)), &[]), false);
        check(request("FP32", Some(floats(16_000)), &[]), false);
        check(request("FP32", Some(floats(20_000)), &[]), true);
        check(request("FP32", None, &[&[0; 1000][..]; 200]), false);
        check(request("FP32", None, &vec![&[][..]; 2000]), true);
        assert!(!is_much(b"\xff\xff"));
    }

    #[test]
    fn the_last_tensor_is_the_one_that_ends_the_message() {
        let check = |came: &[u8], length, expect| assert_eq!(last_tensor(came, length), expect, "{came:?}");
        check(b"\x0a\x01m\x3a\x02", 7, Some((3, 5)));
        check(b"\x0a\x01m\x3a\x02ab", 7, Some((3, 5)));
        check(b"\x0a\x01m\x3a\x02ab\x3a\x01", 10, Some((7, 9)));
        check(b"\x3a\x80\x80\x04", 65_540, Some((0, 4)));
        // Another field follows, or has not come yet.
        check(b"\x3a\x02ab\x0a\x01m", 7, None);
        check(b"\x3a\x02", 7, None);
        check(b"\x0a\x05m", 7, None);
        check(b"\x3a\x80", 65_540, None);
        check(b"", 7, None);
        check(b"\xff\xff", 7, None);
        check(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, None);
        check(&b"\x3a\x00".repeat(FIELDS_AT_ONCE + 1), 2 * FIELDS_AT_ONCE + 2, None);
    }

    #[test]
    fn a_tensor_that_came_in_pieces_is_read_as_one_that_did_not() {
        let bytes: &'static [u8] = &[0, 0, 128, 63, 0, 0, 0, 64];
        let mut last = Words::with_capacity(bytes.len());
        bytes.chunks(3).for_each(|piece| last.push(piece));
        let signature = signature(Datatype::Fp32);
        let whole = request("FP32", None, &[bytes]).read(None, &signature).unwrap();
        assert_eq!(request("FP32", None, &[]).read(Some(last), &signature).unwrap(), whole);
        let too_many = request("FP32", None, &[bytes]).read(Some(Words::default()), &signature);
        assert!(matches!(too_many, Err(Malformed::RawCount { found: 2, expected: 1 })));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let check = |request: ModelInferRequest, datatype, expect: &str| {
            let error = request.read(None, &signature(datatype)).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        let ints = |values: &[i32]| {
            Some(InferTensorContents { int_contents: values.to_vec(), ..InferTensorContents::default() })
        };
        check(request("INT8", ints(&[1, 300]), &[]), Datatype::Int8, "element 1 of input 'x' is not a INT8");
        check(request("INT8", ints(&[1]), &[]), Datatype::Int8, "1 elements; its shape [2] holds 2");
        check(request("FP32", ints(&[1, 2]), &[]), Datatype::Fp32, "0 elements");
        check(request("FP16", ints(&[1, 2]), &[]), Datatype::Fp16, "no data");
        check(request("INT8", None, &[]), Datatype::Int8, "no data");
        check(request("INT8", ints(&[1, 2]), &[b"ab"]), Datatype::Int8, "two forms");
        check(request("INT8", None, &[b"ab", b"c"]), Datatype::Int8, "2 raw tensors for 1 inputs");
        check(request("INT16", None, &[b"abc"]), Datatype::Int16, "3 bytes; its shape [2] holds 4");
        let mut shared = request("INT8", ints(&[1, 2]), &[]);
        shared.inputs[0].parameters.insert("shared_memory_region".to_owned(), InferParameter::default());
        check(shared, Datatype::Int8, "shared memory");
    }

    #[test]
    fn the_answer_goes_back_as_the_request_came() {
        let output = |values: Values| {
            vec![NamedTensor { name: "y".to_owned(), tensor: Tensor { shape: vec![2], values } }]
        };
        let write = |values, form| {
            let wanted = [Wanted { name: "y".to_owned(), form }];
            ModelInferResponse::write(("m".to_owned(), "1".to_owned()), None, output(values), &wanted)
        };
        let typed = write(Values::Int16(vec![1, -1]), Form::Json);
        assert_eq!(typed.outputs[0].contents.as_ref().unwrap().int_contents, [1, -1]);
        assert!(typed.raw_output_contents.is_empty());
        let raw = write(Values::Int16(vec![1, -1]), Form::Binary);
        assert_eq!(
            (raw.outputs[0].contents.is_none(), &raw.raw_output_contents[0][..]),
            (true, &[1, 0, 0xff, 0xff][..])
        );
        let short = write(Values::Fp16(vec![half::f16::ONE; 2]), Form::Json);
        assert_eq!(&short.raw_output_contents[0][..], [0, 0x3c, 0, 0x3c]);
    }
}
