//! The fuzzer's corpus of inference requests, replayed; the others are in `protocol/tests/corpus.rs`.

use std::fs;
use std::path::Path;

#[expect(unreachable_pub, reason = "the fuzzer compiles the same file")]
#[path = "../../../fuzz/src/oip.rs"]
mod check;

#[test]
fn the_corpus_of_inference_requests_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/oip");
    let mut kinds = [0; 2];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let accepted = check::request(&fs::read(&path).unwrap());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!name.starts_with("ok-") || accepted, "{} was refused", path.display());
        assert!(!name.starts_with("no-") || !accepted, "{} was accepted", path.display());
        kinds[usize::from(accepted)] += 1;
    }
    assert!(kinds[0] > 0 && kinds[1] > 0, "{kinds:?}, so one answer is never tried");
}
