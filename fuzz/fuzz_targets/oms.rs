#![no_main]

#[path = "../src/oms.rs"]
mod oms;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oms::oms(data);
});
