#![no_main]

#[path = "../src/csr.rs"]
mod csr;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    csr::csr(data);
});
