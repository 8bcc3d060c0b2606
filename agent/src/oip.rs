//! The Open Inference Protocol's JSON, as values: tensors, an inference request, its response.
//!
//! Words only: nothing here runs a model, reads a socket or knows a slot. A request is checked against a signature
//! once, at this edge; whoever holds a [`Request`] may rely on its names, types, shapes and finite numbers.

mod data;
mod request;
mod response;
mod tensor;

pub use request::{ID_BYTES_MAX, Malformed, Request, parse};
pub use response::{ReadError, read, select, write};
pub(crate) use tensor::each;
pub use tensor::{NamedTensor, Tensor, Values};
