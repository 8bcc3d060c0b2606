//! What must hold of a certificate request that a stranger sends. The file itself is compiled in: it reads bytes and
//! nothing else.

#[path = "../../fleet/src/pki/csr.rs"]
mod reader;

use muster_protocol::enrol::Fingerprint;
use reader::PublicKeyInfo;

/// The only request that the holder of a key ever made.
const SEED: &str = include_str!("../corpus/csr/ok-seed");

/// The first byte says whether the rest is the request's text or its DER.
pub fn csr(data: &[u8]) -> bool {
    let Some((&mode, rest)) = data.split_first() else { return false };
    let text = if mode % 2 == 0 {
        String::from_utf8_lossy(rest).into_owned()
    } else {
        use base64::Engine as _;
        let body = base64::prelude::BASE64_STANDARD.encode(rest);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
    };
    let Ok(key) = reader::csr(&text) else { return false };
    assert_eq!(key.spki_der.len(), 91, "one form of key, one length");
    assert_eq!(key.fingerprint, Fingerprint::of(&key.spki_der), "people would compare another key");
    assert_eq!(PublicKeyInfo::from_spki(&key.spki_der).expect("it was read before"), key);
    let known = reader::csr(&SEED[1..]).expect("the seed is good");
    assert_eq!(key, known, "a request for a key that its sender does not hold was accepted");
    true
}
