//! Tensors of ours to tensors of ONNX Runtime and back, and one run with them.

use muster_protocol::manifest::{Datatype, Signature};
use ort::session::Session;
use ort::value::{DynValue, Tensor as Native, TensorElementType};

use crate::oip::{NamedTensor, Tensor, Values};

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the binding's list is open; what is not named is not served"
)]
pub(super) fn datatype(ty: TensorElementType) -> Option<Datatype> {
    match ty {
        TensorElementType::Bool => Some(Datatype::Bool),
        TensorElementType::Uint8 => Some(Datatype::Uint8),
        TensorElementType::Int8 => Some(Datatype::Int8),
        TensorElementType::Int16 => Some(Datatype::Int16),
        TensorElementType::Int32 => Some(Datatype::Int32),
        TensorElementType::Int64 => Some(Datatype::Int64),
        TensorElementType::Float32 => Some(Datatype::Fp32),
        TensorElementType::Float64 => Some(Datatype::Fp64),
        _ => None,
    }
}

/// Runs the model once; the answer holds every output of the signature, in its order.
pub(super) fn run(
    session: &mut Session,
    inputs: Vec<NamedTensor>,
    signature: &Signature,
) -> Result<Vec<NamedTensor>, String> {
    let mut natives: Vec<(String, DynValue)> = Vec::with_capacity(inputs.len());
    for NamedTensor { name, tensor } in inputs {
        let native = to_native(tensor).map_err(|error| format!("input '{name}': {error}"))?;
        natives.push((name, native));
    }
    let answered = session.run(natives).map_err(|error| error.message().to_owned())?;
    let mut outputs = Vec::with_capacity(signature.outputs.len());
    for declared in &signature.outputs {
        let name = &declared.name;
        let value = answered.get(name).ok_or_else(|| format!("the model did not answer with '{name}'"))?;
        let tensor =
            from_native(value, declared.datatype).map_err(|error| format!("output '{name}': {error}"))?;
        outputs.push(NamedTensor { name: name.clone(), tensor });
    }
    Ok(outputs)
}

fn to_native(Tensor { shape, values }: Tensor) -> ort::Result<DynValue> {
    crate::oip::each!(values, values => Ok(Native::from_array((shape, values))?.into_dyn()))
}

fn from_native(value: &DynValue, datatype: Datatype) -> ort::Result<Tensor> {
    macro_rules! extract {
        ($kind:ident, $element:ty) => {{
            let (shape, values) = value.try_extract_tensor::<$element>()?;
            (shape, Values::$kind(values.to_vec()))
        }};
    }
    let (shape, values) = match datatype {
        Datatype::Bool => extract!(Bool, bool),
        Datatype::Uint8 => extract!(Uint8, u8),
        Datatype::Int8 => extract!(Int8, i8),
        Datatype::Int16 => extract!(Int16, i16),
        Datatype::Int32 => extract!(Int32, i32),
        Datatype::Int64 => extract!(Int64, i64),
        Datatype::Fp32 => extract!(Fp32, f32),
        Datatype::Fp64 => extract!(Fp64, f64),
    };
    let shape = shape.iter().map(|&length| usize::try_from(length).unwrap_or(0)).collect();
    Ok(Tensor { shape, values })
}
