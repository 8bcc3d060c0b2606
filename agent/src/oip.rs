//! The Open Inference Protocol as values: tensors, an inference request, its response, in JSON and in binary form.
//!
//! Words only: nothing here runs a model, reads a socket or knows a slot. A request is checked against a signature
//! once, at this edge; whoever holds a [`Request`] may rely on its names, types, shapes and finite numbers.

mod binary;
mod body;
mod data;
mod element;
mod malformed;
mod request;
mod response;
mod rest;
mod tensor;

pub(crate) use binary::write as binary_form;
pub use body::Body;
pub(crate) use body::Words;
pub use malformed::Malformed;
pub use request::{Form, ID_BYTES_MAX, Request, Wanted};
pub(crate) use request::{Offered, OfferedRequest, Payload};
pub use response::{ReadError, Response, read, select, write};
pub use rest::parse;
pub use tensor::{NamedTensor, Tensor, Values};
pub(crate) use tensor::{copied, each, make};
