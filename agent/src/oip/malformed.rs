//! Why a request cannot be answered; shown to the application as it stands.

use muster_protocol::manifest::Datatype;

use super::request::ID_BYTES_MAX;

#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error("the body is not an inference request: {0}")]
    Json(serde_json::Error),
    #[error(
        "the body holds NaN or Infinity, which JSON does not have; send finite numbers, or mark missing values as the model was trained to"
    )]
    NanText,
    #[error(
        "Inference-Header-Content-Length is {0}; write how many bytes of the body are JSON, 0 if it is one tensor and nothing else"
    )]
    HeaderLength(String),
    #[error("Inference-Header-Content-Length is {header}, but the body has {body} bytes")]
    LongHeader { header: u64, body: usize },
    #[error(
        "the body has {found} bytes of tensors behind its JSON; the 'binary_data_size' of the inputs add up to {expected} (Inference-Header-Content-Length says where the JSON ends)"
    )]
    BinarySizes { found: usize, expected: String },
    #[error("a body that is one tensor and nothing else needs a model with one input; this one has {0}")]
    RawInputs(usize),
    #[error(
        "a body that is one tensor and nothing else cannot tell the shape {expected:?} of input '{name}'; send it with a JSON header"
    )]
    RawShape { name: String, expected: Vec<i64> },
    #[error("the request has {found} raw tensors for {expected} inputs; send one for each, or none")]
    RawCount { found: usize, expected: usize },
    #[error("the tensors lie in shared memory, which this server does not read; send them in the body")]
    SharedMemory,
    #[error("this server does not name classes; ask for the output '{0}' without 'classification'")]
    Classification(String),
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
    Datatype { name: String, found: String, expected: &'static str },
    #[error("input '{name}' has shape {found:?}; the model takes {expected:?} (-1 is any length)")]
    Shape { name: String, found: Vec<i64>, expected: Vec<i64> },
    #[error("input '{name}' has no data")]
    NoData { name: String },
    #[error("input '{name}' has data in two forms; send one")]
    TwiceData { name: String },
    #[error("input '{name}' has {found} elements; its shape {shape:?} holds {expected}")]
    Count { name: String, found: usize, shape: Vec<i64>, expected: String },
    #[error("input '{name}' has {found} bytes; its shape {shape:?} holds {expected} bytes of {datatype}")]
    Bytes { name: String, found: usize, shape: Vec<i64>, expected: usize, datatype: &'static str },
    #[error("input '{name}' has no rows; send at least one")]
    Empty { name: String },
    #[error("element {index} of input '{name}' is not a {}", datatype.as_str())]
    Element { name: String, index: usize, datatype: Datatype },
    #[error(
        "element {index} of input '{name}' is torn: each BYTES element is its length in four bytes and then itself, and together they are the tensor"
    )]
    Torn { name: String, index: usize },
    #[error(
        "element {index} of input '{name}' is not text in UTF-8 without zeros, which is what models take as BYTES"
    )]
    NotText { name: String, index: usize },
    #[error(
        "element {index} of input '{name}' is not a finite number; models answer wrongly to NaN and infinity"
    )]
    NotFinite { name: String, index: usize },
}
