//! What must hold of an inference request that an application sends, whatever its body and header say. The reader is
//! `oip` at the root: the fuzzer compiles it in, the agent's tests name their own.

use muster_protocol::manifest::{Datatype, Signature, Tensor};

use crate::oip::{self, Body, Form, NamedTensor, Wanted};

fn signature(inputs: &[(&str, Datatype, &[i64])]) -> Signature {
    let tensor = |&(name, datatype, shape): &(&str, Datatype, &[i64])| Tensor {
        name: name.to_owned(),
        datatype,
        shape: shape.to_vec(),
        features: Vec::new(),
    };
    let outputs = [("y", Datatype::Fp32, [-1].as_slice()), ("z", Datatype::Int64, &[1])];
    Signature { inputs: inputs.iter().map(tensor).collect(), outputs: outputs.iter().map(tensor).collect() }
}

/// The first byte chooses the model, the next two say what the header `Inference-Header-Content-Length` does: all ones
/// that there is none.
pub fn request(data: &[u8]) -> bool {
    let Some(([model, low, high], body)) = data.split_first_chunk::<3>() else { return false };
    let signature = match model % 4 {
        0 => signature(&[("x", Datatype::Fp32, &[-1, 2]), ("k", Datatype::Int64, &[1])]),
        1 => signature(&[("x", Datatype::Bytes, &[-1]), ("k", Datatype::Bool, &[2])]),
        2 => signature(&[("x", Datatype::Fp16, &[2, -1])]),
        _ => signature(&[("x", Datatype::Bytes, &[1])]),
    };
    let header = u16::from_le_bytes([*low, *high]);
    let json_bytes = (header != u16::MAX).then_some(u64::from(header));
    let Ok(request) = oip::parse(Body::of(body, json_bytes), &signature) else { return false };

    assert!(request.id.as_ref().is_none_or(|id| !id.is_empty() && id.len() <= oip::ID_BYTES_MAX));
    assert_eq!(request.inputs.len(), signature.inputs.len(), "an input is missing or there twice");
    for (NamedTensor { name, tensor }, declared) in request.inputs.iter().zip(&signature.inputs) {
        assert_eq!((name, tensor.values.datatype()), (&declared.name, declared.datatype));
        assert_eq!(tensor.shape.len(), declared.shape.len());
        let fits = |(&found, &wanted): (&usize, &i64)| wanted < 0 || i64::try_from(found) == Ok(wanted);
        assert!(tensor.shape.iter().zip(&declared.shape).all(fits), "a shape that the model does not take");
        assert_eq!(
            tensor.values.len(),
            tensor.shape.iter().product::<usize>(),
            "the runtime would read beyond"
        );
        assert!(!tensor.values.is_empty());
        assert_eq!(tensor.values.first_not_finite(), None);
    }
    assert!(!request.outputs.is_empty());
    for (at, Wanted { name, .. }) in request.outputs.iter().enumerate() {
        assert!(signature.outputs.iter().any(|output| output.name == *name));
        assert!(request.outputs[..at].iter().all(|other| other.name != *name));
    }

    // What was taken comes back the same, in JSON and in binary form.
    let all = |form| {
        signature.inputs.iter().map(|input| Wanted { name: input.name.clone(), form }).collect::<Vec<_>>()
    };
    let written = oip::write("m", "1", request.id.as_deref(), request.inputs.clone(), &all(Form::Json));
    assert_eq!(oip::read(&written.json).expect("what we wrote is read"), request.inputs);
    let binary = oip::write("m", "1", None, request.inputs.clone(), &all(Form::Binary));
    let sizes = request.inputs.iter().map(|input| input.tensor.values.size_bytes());
    for (tensor, size) in binary.tensors.iter().zip(sizes) {
        assert!(tensor.len() <= size, "more bytes than there are");
    }
    true
}
