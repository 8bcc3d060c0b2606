//! Tensors of ours to tensors of ONNX Runtime and back, and one run with them.

use muster_protocol::manifest::{Datatype, Signature};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor as Native, TensorElementType, TensorRef};

use super::model::Answer;
use crate::measure::Spent;
use crate::oip::{NamedTensor, Tensor, Values, copied, each, make};
use crate::stopwatch::Stopwatch;

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the binding's list is open; what is not named is not served"
)]
pub(super) fn datatype(ty: TensorElementType) -> Option<Datatype> {
    match ty {
        TensorElementType::Bool => Some(Datatype::Bool),
        TensorElementType::Uint8 => Some(Datatype::Uint8),
        TensorElementType::Uint16 => Some(Datatype::Uint16),
        TensorElementType::Uint32 => Some(Datatype::Uint32),
        TensorElementType::Uint64 => Some(Datatype::Uint64),
        TensorElementType::Int8 => Some(Datatype::Int8),
        TensorElementType::Int16 => Some(Datatype::Int16),
        TensorElementType::Int32 => Some(Datatype::Int32),
        TensorElementType::Int64 => Some(Datatype::Int64),
        TensorElementType::Float32 => Some(Datatype::Fp32),
        TensorElementType::Float16 => Some(Datatype::Fp16),
        TensorElementType::Bfloat16 => Some(Datatype::Bf16),
        TensorElementType::Float64 => Some(Datatype::Fp64),
        TensorElementType::String => Some(Datatype::Bytes),
        _ => None,
    }
}

/// Runs the model once. The inputs are lent to the runtime, not copied.
pub(super) fn run(
    session: &mut Session,
    inputs: &[NamedTensor],
    signature: &Signature,
) -> Result<Answer, String> {
    let watch = Stopwatch::start();
    let mut natives: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
    for NamedTensor { name, tensor } in inputs {
        let native = lend(tensor).map_err(|error| format!("input '{name}': {error}"))?;
        natives.push((name, native));
    }
    let input = watch.elapsed();
    let watch = Stopwatch::start();
    let answered = session.run(natives).map_err(|error| error.message().to_owned())?;
    let run = watch.elapsed();
    let watch = Stopwatch::start();
    let mut outputs = Vec::with_capacity(signature.outputs.len());
    let mut not_finite = Vec::new();
    for declared in &signature.outputs {
        let name = &declared.name;
        let value = answered.get(name).ok_or_else(|| format!("the model did not answer with '{name}'"))?;
        let (tensor, finite) =
            from_native(value, declared.datatype).map_err(|error| format!("output '{name}': {error}"))?;
        if !finite {
            not_finite.push(name.clone());
        }
        outputs.push(NamedTensor { name: name.clone(), tensor });
    }
    let output = watch.elapsed();
    Ok(Answer { outputs, not_finite, spent: Spent { input, run, output, ..Spent::default() } })
}

fn lend(Tensor { shape, values }: &Tensor) -> ort::Result<SessionInputValue<'_>> {
    let shape = shape.as_slice();
    Ok(each!(
        values,
        values => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        texts texts => Native::from_string_array((shape, texts.as_slice()))?.into()
    ))
}

/// Copies it, and says whether it holds nothing but finite numbers.
fn from_native(value: &DynValue, datatype: Datatype) -> ort::Result<(Tensor, bool)> {
    let mut finite = true;
    let values: Values = make!(
        datatype,
        {
            let (values, all) = copied(value.try_extract_tensor()?.1);
            finite = all;
            values
        },
        texts value.try_extract_strings()?.1
    );
    let shape = value.shape().iter().map(|&length| usize::try_from(length).unwrap_or(0)).collect();
    Ok((Tensor { shape, values }, finite))
}
