#![no_main]

#[path = "../src/oip.rs"]
mod oip;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    oip::oip(data);
});
