//! A request as REST has it: JSON, or JSON with tensors in binary form behind it, or one tensor and nothing else.
//!
//! ```text
//!   header absent   {"inputs":[{…,"data":[…]}]}
//!   header n        {"inputs":[{…,"parameters":{"binary_data_size":24}}, …]} ‖ 24 bytes ‖ …      n is where the JSON ends
//!   header 0        the bytes of the model's only input
//! ```

use std::time::Duration;

use muster_protocol::manifest::{Datatype, Signature};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::Values;
use super::body::{Body, Words};
use super::malformed::Malformed;
use super::request::{Form, Offered, OfferedRequest, Payload, Request, Wanted};

/// Reads a body. Unknown fields and parameters are ignored, as the protocol asks.
pub fn parse(body: Body, signature: &Signature) -> Result<Request, Malformed> {
    let Body { header, json, tensors } = body;
    match header {
        Some(0) => only_tensor(tensors, signature),
        Some(header) if (json.len() as u64) < header => {
            Err(Malformed::LongHeader { header, body: json.len() })
        }
        Some(_) | None => mixed(&json, tensors, signature),
    }
}

#[derive(Deserialize)]
struct RawRequest<'a> {
    id: Option<String>,
    #[serde(borrow)]
    inputs: Vec<RawInput<'a>>,
    outputs: Option<Vec<RawOutput>>,
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct RawInput<'a> {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct RawOutput {
    name: String,
    parameters: Option<Parameters>,
}

/// What is understood of the parameters, wherever they stand.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Parameters {
    binary_data: Option<bool>,
    binary_data_output: Option<bool>,
    binary_data_size: Option<u64>,
    shared_memory_region: Option<IgnoredAny>,
    classification: Option<IgnoredAny>,
    /// Microseconds; 0 is none.
    timeout: Option<u64>,
}

fn mixed(json: &[u8], tensors: Words, signature: &Signature) -> Result<Request, Malformed> {
    let raw: RawRequest<'_> = serde_json::from_slice(json).map_err(|error| explain(json, error))?;
    let parameters = raw.parameters.unwrap_or_default();
    let form = form(parameters.binary_data_output.unwrap_or(false));
    let timeout = parameters.timeout.filter(|&micros| micros > 0).map(Duration::from_micros);
    let in_binary = raw.inputs.iter().filter(|input| input.binary_data_size().is_some());
    let (whole, several) =
        if in_binary.count() == 1 { (Some(tensors), Words::default()) } else { (None, tensors) };
    let inputs = offered(raw.inputs, whole, several.bytes())?;
    let outputs = raw.outputs.unwrap_or_default().into_iter().map(|output| wanted(output, form));
    let outputs = outputs.collect::<Result<_, _>>()?;
    OfferedRequest { id: raw.id, inputs, outputs, form, timeout }.check(signature)
}

impl RawInput<'_> {
    fn binary_data_size(&self) -> Option<u64> {
        self.parameters.as_ref()?.binary_data_size
    }
}

/// Gives each input its part of the tensors, which lie in the order of the inputs; or the only one that has some all.
fn offered<'a>(
    raw: Vec<RawInput<'a>>,
    mut whole: Option<Words>,
    mut several: &'a [u8],
) -> Result<Vec<Offered<'a>>, Malformed> {
    let found = whole.as_ref().map_or(several.len(), |whole| whole.bytes().len());
    let expected = raw.iter().filter_map(RawInput::binary_data_size).try_fold(0_u64, u64::checked_add);
    if expected != u64::try_from(found).ok() {
        let expected =
            expected.map_or_else(|| "more than any machine holds".to_owned(), |sum| sum.to_string());
        return Err(Malformed::BinarySizes { found, expected });
    }
    let mut inputs = Vec::with_capacity(raw.len());
    for RawInput { name, shape, datatype, data, parameters } in raw {
        let parameters = parameters.unwrap_or_default();
        if parameters.shared_memory_region.is_some() {
            return Err(Malformed::SharedMemory);
        }
        let payload = match (data, parameters.binary_data_size) {
            (None, None) => Payload::None,
            (Some(data), None) => Payload::Json(data),
            (Some(_), Some(_)) => return Err(Malformed::TwiceData { name }),
            (None, Some(size)) => {
                let at = usize::try_from(size).unwrap_or(usize::MAX).min(several.len());
                let (own, rest) = several.split_at(at);
                several = rest;
                whole.take().map_or(Payload::Binary(own), Payload::Whole)
            }
        };
        inputs.push(Offered { name, datatype, shape, payload });
    }
    Ok(inputs)
}

/// An output's own word goes before the request's.
fn wanted(RawOutput { name, parameters }: RawOutput, request: Form) -> Result<Wanted, Malformed> {
    let parameters = parameters.unwrap_or_default();
    if parameters.shared_memory_region.is_some() {
        return Err(Malformed::SharedMemory);
    }
    if parameters.classification.is_some() {
        return Err(Malformed::Classification(name.chars().take(80).collect()));
    }
    Ok(Wanted { name, form: parameters.binary_data.map_or(request, form) })
}

fn form(binary: bool) -> Form {
    if binary { Form::Binary } else { Form::Json }
}

/// The shape is the model's, its one free dimension as long as the bytes make it; the answer is binary too.
fn only_tensor(tensor: Words, signature: &Signature) -> Result<Request, Malformed> {
    let [declared] = signature.inputs.as_slice() else {
        return Err(Malformed::RawInputs(signature.inputs.len()));
    };
    let name = declared.name.clone();
    let unclear = || Malformed::RawShape { name: name.clone(), expected: declared.shape.clone() };
    let free = declared.shape.iter().filter(|&&length| length < 0).count();
    let fixed = declared
        .shape
        .iter()
        .filter(|&&length| length >= 0)
        .try_fold(1_i64, |all, &one| all.checked_mul(one));
    let fixed = fixed.filter(|&fixed| fixed > 0 && free <= 1).ok_or_else(unclear)?;
    // A text is the whole body, without a length before it.
    let text = (declared.datatype == Datatype::Bytes).then(|| match str::from_utf8(tensor.bytes()) {
        Ok(text) => Ok(Values::Bytes(vec![text.to_owned()])),
        Err(_) => Err(0),
    });
    let elements = declared.datatype.element_bytes().map_or(1, |size| tensor.bytes().len() / size);
    let length = i64::try_from(elements).map_err(|_| unclear())? / fixed;
    let shape = declared.shape.iter().map(|&own| if own < 0 { length } else { own }).collect();
    let payload = text.map_or(Payload::Whole(tensor), Payload::Typed);
    let datatype = declared.datatype.as_str().to_owned();
    let inputs = vec![Offered { name: name.clone(), datatype, shape, payload }];
    OfferedRequest { inputs, form: Form::Binary, ..OfferedRequest::default() }.check(signature)
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

#[cfg(test)]
mod tests {
    use muster_protocol::manifest::Tensor as Declared;

    use super::*;
    use crate::oip::Tensor;

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
        parse(Body::of(body.as_bytes(), None), &signature())
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
        let all = ["y", "z"].map(|name| Wanted { name: name.to_owned(), form: Form::Json });
        assert_eq!(request.outputs, all);
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
        refuse(r#"{"name":"x","shape":[1,2],"datatype":"FP32"}"#, "no data");
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
        refuse(
            r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,null]}"#,
            "element 1 of input 'x' is not a FP32",
        );
        refuse(
            r#"{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}"#,
            "0 bytes of tensors behind its JSON; the 'binary_data_size' of the inputs add up to 8",
        );
        refuse(
            r#"{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"shared_memory_region":"r"}}"#,
            "shared memory",
        );
    }

    #[test]
    fn the_frame_is_checked_too() {
        let check = |body: &str, expect: &str| {
            let error = parse(Body::of(body.as_bytes(), None), &signature()).unwrap_err().to_string();
            assert!(error.contains(expect), "{body}: {error}");
        };
        check("", "not an inference request");
        check("[]", "not an inference request");
        check(r#"{"inputs":[]}"#, "no input 'x'");
        check(r#"{"inputs":[],"outputs":null,"parameters":null,"id":null}"#, "no input 'x'");
        check(r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":3}}]}"#, "classes");
        check(r#"{"inputs":[],"outputs":[{"name":"w"}]}"#, "no output 'w'");
        check(r#"{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}"#, "twice");
        check(&format!(r#"{{"id":"{}","inputs":[]}}"#, "i".repeat(129)), "129 bytes");
    }

    fn both(header: &str, tensors: &[u8]) -> Result<Request, Malformed> {
        let body = [header.as_bytes(), tensors].concat();
        parse(Body::of(&body, Some(header.len() as u64)), &signature())
    }

    const K: &str = r#"{"name":"k","shape":[1],"datatype":"INT64","parameters":{"binary_data_size":8}}"#;

    #[test]
    fn binary_and_json_inputs_mix() {
        let json = r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}"#;
        let request = both(&format!(r#"{{"inputs":[{json},{K}]}}"#), &[7, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(request.inputs[0].tensor.values, Values::Fp32(vec![1.0, 2.0]));
        assert_eq!(request.inputs[1].tensor.values, Values::Int64(vec![7]));
        // Tensors lie in the order of the request, which need not be the signature's.
        let binary = r#"{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}"#;
        let bytes = [9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x40];
        let request = both(&format!(r#"{{"inputs":[{K},{binary}]}}"#), &bytes).unwrap();
        assert_eq!(request.inputs[0].tensor.values, Values::Fp32(vec![1.0, 2.0]));
        assert_eq!(request.inputs[1].tensor.values, Values::Int64(vec![9]));
    }

    #[test]
    fn the_outputs_own_word_goes_first() {
        let forms = |rest: &str| {
            let x = r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}"#;
            let request = both(&format!(r#"{{"inputs":[{x},{K}],{rest}}}"#), &[0; 8]).unwrap();
            request.outputs.into_iter().map(|output| output.form).collect::<Vec<_>>()
        };
        assert_eq!(forms(r#""id":"a""#), [Form::Json, Form::Json]);
        assert_eq!(forms(r#""parameters":{"binary_data_output":true}"#), [Form::Binary, Form::Binary]);
        let asked = r#""parameters":{"binary_data_output":true},
            "outputs":[{"name":"z"},{"name":"y","parameters":{"binary_data":false}}]"#;
        assert_eq!(forms(asked), [Form::Binary, Form::Json]);
    }

    #[test]
    fn binary_sizes_must_agree() {
        let check = |x: &str, tensors: &[u8], expect: &str| {
            let error = both(&format!(r#"{{"inputs":[{K},{x}]}}"#), tensors).unwrap_err().to_string();
            assert!(error.contains(expect), "{x}: {error}");
        };
        let x = |size: &str| {
            format!(
                r#"{{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{{"binary_data_size":{size}}}}}"#
            )
        };
        check(&x("8"), &[0; 15], "15 bytes of tensors behind its JSON");
        check(&x("8"), &[0; 17], "add up to 16");
        check(&x("7"), &[0; 15], "7 bytes; its shape [1, 2] holds 8 bytes of FP32");
        check(&x("18446744073709551615"), &[0; 16], "more than any machine");
        check(&x("-8"), &[0; 16], "not an inference request");
        let twice = r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2],"parameters":{"binary_data_size":8}}"#;
        check(twice, &[0; 16], "two forms");
        let wide = x("8").replace("[1,2]", "[4611686018427387904,2]");
        check(&wide, &[0; 16], "18446744073709551615 bytes");
        let error = parse(Body::of(b"{}", Some(3)), &signature()).unwrap_err().to_string();
        assert!(error.contains("Inference-Header-Content-Length is 3, but the body has 2 bytes"), "{error}");
    }

    #[test]
    fn one_tensor_and_nothing_else() {
        let declared = |datatype, shape: &[i64]| {
            let (name, shape) = ("x".to_owned(), shape.to_vec());
            let x = Declared { name, datatype, shape, features: Vec::new() };
            Signature { inputs: vec![x], outputs: signature().outputs }
        };
        let check = |datatype, shape: &[i64], body: &[u8], expect: Result<(&[usize], Values), &str>| match (
            parse(Body::of(body, Some(0)), &declared(datatype, shape)),
            expect,
        ) {
            (Ok(request), Ok((shape, values))) => {
                assert_eq!(request.inputs[0].tensor, Tensor { shape: shape.to_vec(), values });
                assert!(request.outputs.iter().all(|output| output.form == Form::Binary));
            }
            (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
            (found, expect) => panic!("{found:?} instead of {expect:?}"),
        };
        check(Datatype::Int16, &[-1, 2], &[1, 0, 2, 0], Ok((&[1, 2], Values::Int16(vec![1, 2]))));
        check(Datatype::Uint8, &[2], &[1, 2], Ok((&[2], Values::Uint8(vec![1, 2]))));
        check(Datatype::Bytes, &[1], b"a text", Ok((&[1], Values::Bytes(vec!["a text".to_owned()]))));
        check(Datatype::Int16, &[-1, 2], &[1, 0, 2], Err("3 bytes; its shape [0, 2] holds 0"));
        check(Datatype::Uint8, &[-1, -1], &[1], Err("cannot tell the shape"));
        check(Datatype::Uint8, &[-1, 0], &[1], Err("cannot tell the shape"));
        check(Datatype::Uint8, &[-1], &[], Err("no rows"));
        check(Datatype::Bytes, &[1], &[0xff], Err("element 0 of input 'x' is not a BYTES"));
        let two = parse(Body::of(&[0], Some(0)), &signature()).unwrap_err().to_string();
        assert!(two.contains("one input; this one has 2"), "{two}");
    }

    #[test]
    fn a_timeout_is_in_microseconds() {
        let timeout = |text: &str| {
            let body = format!(
                r#"{{"parameters":{{"timeout":{text}}},"inputs":[
                {{"name":"k","shape":[1],"datatype":"INT64","data":[7]}},
                {{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}}]}}"#
            );
            parse(Body::of(body.as_bytes(), None), &signature()).unwrap().timeout
        };
        assert_eq!(timeout("1500"), Some(Duration::from_micros(1500)));
        assert_eq!(timeout("0"), None);
    }
}
