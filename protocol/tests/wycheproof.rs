//! Project Wycheproof's Ed25519 signatures, made to be verified wrongly, through the one function that verifies ours.

use muster_protocol::trust::PublicKey;
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};

#[test]
fn every_vector_is_judged_as_it_should_be() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        let key =
            <[u8; 32]>::try_from(&group.key.pk[..]).ok().and_then(|bytes| PublicKey::from_bytes(bytes).ok());
        for test in &group.tests {
            // A signature of another length is none before anybody looks at it.
            let signature = <[u8; 64]>::try_from(&test.sig[..]).ok();
            let verified = match (key, signature) {
                (Some(key), Some(signature)) => key.verifies(&test.msg, &signature),
                _ => false,
            };
            let expect = match test.result {
                TestResult::Valid => true,
                TestResult::Invalid | TestResult::Acceptable => false,
            };
            assert_eq!(verified, expect, "vector {}: {}", test.tc_id, test.comment);
            *if expect { &mut valid } else { &mut invalid } += 1;
        }
    }
    assert_eq!(valid + invalid, set.number_of_tests, "all of them");
    assert!(valid > 50 && invalid > 50, "{valid} valid and {invalid} invalid vectors are not the whole set");
}
