//! A certificate request, as a box that nobody knows yet sends it. Of all that stands in one, only the public key is
//! taken: names, extensions and wishes in it are not even looked at.
//!
//! This file reads bytes of strangers: it is bounded, never panics, and uses nothing of the rest of the server.

use std::fmt;

use muster_protocol::enrol::Fingerprint;
use muster_protocol::limits::CSR_BYTES_MAX;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

const LABEL: &str = "CERTIFICATE REQUEST";

/// Every `SubjectPublicKeyInfo` of P-256 with an uncompressed point begins so (RFC 5480), and 64 bytes follow. Compared
/// whole, so that one key has one encoding and therefore one fingerprint.
const P256_PREFIX: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
const P256_BYTES: usize = P256_PREFIX.len() + 64;

/// A P-256 public key, and what people compare of it.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKeyInfo {
    /// DER of its `SubjectPublicKeyInfo`.
    pub spki_der: Vec<u8>,
    pub fingerprint: Fingerprint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    #[error("the certificate request is longer than {CSR_BYTES_MAX} bytes")]
    TooLong,
    #[error("it is not a certificate request in PEM")]
    Pem,
    #[error("the certificate request is not well-formed DER")]
    Der,
    #[error("the key must be P-256, as an uncompressed point")]
    Key,
    #[error("the certificate request is not signed with the key it carries")]
    Signature,
}

impl PublicKeyInfo {
    /// A key that was stored.
    pub fn from_spki(spki: &[u8]) -> Result<Self, CsrError> {
        if spki.len() != P256_BYTES || !spki.starts_with(&P256_PREFIX) {
            return Err(CsrError::Key);
        }
        Ok(Self { spki_der: spki.to_vec(), fingerprint: Fingerprint::of(spki) })
    }
}

impl fmt::Debug for PublicKeyInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P-256 {}", self.fingerprint)
    }
}

/// The key of a certificate request in PEM whose sender holds the private half.
pub fn csr(pem: &str) -> Result<PublicKeyInfo, CsrError> {
    if pem.len() > CSR_BYTES_MAX {
        return Err(CsrError::TooLong);
    }
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| CsrError::Pem)?;
    if block.label != LABEL {
        return Err(CsrError::Pem);
    }
    let (rest, request) = X509CertificationRequest::from_der(&block.contents).map_err(|_| CsrError::Der)?;
    if !rest.is_empty() {
        return Err(CsrError::Der);
    }
    // The kind of key first: what verifies a signature is chosen by what the request says of itself.
    let key = PublicKeyInfo::from_spki(request.certification_request_info.subject_pki.raw)?;
    request.verify_signature().map_err(|_| CsrError::Signature)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _, SignatureAlgorithm};

    use super::*;

    fn request(algorithm: &'static SignatureAlgorithm) -> (KeyPair, Vec<u8>) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(vec!["fleet".to_owned()]).unwrap();
        let der = params.serialize_request(&key).unwrap().der().to_vec();
        (key, der)
    }

    fn pem(label: &str, der: &[u8]) -> String {
        use base64::Engine as _;
        let text = base64::prelude::BASE64_STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    }

    #[test]
    fn only_the_key_is_taken() {
        let (key, der) = request(&rcgen::PKCS_ECDSA_P256_SHA256);
        let taken = csr(&pem(LABEL, &der)).unwrap();
        assert_eq!(taken.spki_der, key.subject_public_key_info());
        assert_eq!(PublicKeyInfo::from_spki(&taken.spki_der), Ok(taken.clone()));
        assert_eq!(format!("{taken:?}"), format!("P-256 {}", Fingerprint::of(&taken.spki_der)));
    }

    #[test]
    fn other_keys_and_other_texts_are_refused() {
        let check = |text: &str, expect: CsrError| assert_eq!(csr(text).unwrap_err(), expect, "{text}");
        for other in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
            check(&pem(LABEL, &request(other).1), CsrError::Key);
        }
        let (_, der) = request(&rcgen::PKCS_ECDSA_P256_SHA256);
        check(&pem("CERTIFICATE", &der), CsrError::Pem);
        check(&pem(LABEL, &[der.as_slice(), &[0]].concat()), CsrError::Der);
        check(&pem(LABEL, &der[..der.len() - 1]), CsrError::Der);
        check("", CsrError::Pem);
        check("-----BEGIN CERTIFICATE REQUEST-----", CsrError::Pem);
        check(&"x".repeat(CSR_BYTES_MAX + 1), CsrError::TooLong);
    }

    #[test]
    fn no_byte_can_be_changed() {
        let (_, der) = request(&rcgen::PKCS_ECDSA_P256_SHA256);
        let untouched = csr(&pem(LABEL, &der)).unwrap();
        for at in 0..der.len() {
            let mut altered = der.clone();
            altered[at] ^= 0x01;
            // A change may hide in what is not looked at (parameters of the signature's name), but never in the key.
            assert!(csr(&pem(LABEL, &altered)).map_or(true, |key| key == untouched), "byte {at}");
        }
        let mut foreign = der;
        let (other, _) = request(&rcgen::PKCS_ECDSA_P256_SHA256);
        let at = foreign.windows(27).position(|window| window == P256_PREFIX).unwrap();
        foreign[at..at + P256_BYTES].copy_from_slice(&other.subject_public_key_info());
        assert_eq!(csr(&pem(LABEL, &foreign)).unwrap_err(), CsrError::Signature);
    }
}
