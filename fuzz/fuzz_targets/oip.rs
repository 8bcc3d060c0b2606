#![no_main]

#[path = "../src/oip.rs"]
mod check;
/// As `agent/src/oip.rs` has it.
#[allow(dead_code, unused_imports)]
#[path = "../../agent/src/oip"]
mod oip {
    mod binary;
    mod data;
    mod element;
    mod malformed;
    mod request;
    mod response;
    mod rest;
    mod tensor;

    pub use malformed::Malformed;
    pub use request::{Form, ID_BYTES_MAX, Request, Wanted};
    pub use response::{read, write};
    pub use rest::parse;
    pub(crate) use tensor::{each, make};
    pub use tensor::{NamedTensor, Tensor, Values};
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check::request(data);
});
