//! The fuzzer's corpora of the fleet's own readers of bytes, replayed; the others are in `protocol/tests/corpus.rs`.

use std::fs;
use std::path::Path;

#[expect(unreachable_pub, reason = "it is a file of the server, compiled in as the fuzzer does")]
#[path = "../../../fuzz/src/csr.rs"]
mod csr;
#[expect(dead_code, unreachable_pub, reason = "it is a file of the server, compiled in as the fuzzer does")]
#[path = "../../../fuzz/src/oms.rs"]
mod oms;

fn check(target: &str, check: fn(&[u8]) -> bool) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut kinds = [0; 2];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let accepted = check(&fs::read(&path).unwrap());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!name.starts_with("ok-") || accepted, "{} was refused", path.display());
        assert!(!name.starts_with("no-") || !accepted, "{} was accepted", path.display());
        kinds[usize::from(accepted)] += 1;
    }
    assert!(kinds[0] > 0 && kinds[1] > 0, "{target}: {kinds:?}, so one answer is never tried");
}

#[test]
fn corpora_of_the_fleets_readers_hold() {
    check("csr", csr::csr);
    check("oms", oms::oms);
}
