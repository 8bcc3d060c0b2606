//! Ed25519 and SHA-2 for `sigstore-tuf`, from ed25519-dalek and sha2. No other algorithm is ever accepted (but P-256 in
//! the build for the conformance suite, which is no release).

use sha2::Digest as _;
use sigstore_crypto::{CryptoProvider, Error, HashContext, SigningScheme};
use sigstore_types::HashAlgorithm;

use super::key::PublicKey;

/// Makes this process verify with ed25519-dalek. Calling it again changes nothing; every entry point of
/// [`super::TrustedSet`] calls it, so a program needs not.
pub fn install() {
    // An error means a provider is installed already, and this is the only place that installs one.
    let _: Result<(), _> = sigstore_crypto::install_default_provider(&Ed25519Only);
}

#[derive(Debug)]
struct Ed25519Only;

struct Hasher<D>(D);

impl<D: sha2::Digest + Send> HashContext for Hasher<D> {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self: Box<Self>) -> Vec<u8> {
        self.0.finalize().to_vec()
    }
}

impl CryptoProvider for Ed25519Only {
    fn hash(&self, algorithm: HashAlgorithm) -> sigstore_crypto::Result<Box<dyn HashContext>> {
        match algorithm {
            HashAlgorithm::Sha2256 => Ok(Box::new(Hasher(sha2::Sha256::new()))),
            HashAlgorithm::Sha2384 => Ok(Box::new(Hasher(sha2::Sha384::new()))),
            HashAlgorithm::Sha2512 => Ok(Box::new(Hasher(sha2::Sha512::new()))),
            other => Err(Error::UnsupportedAlgorithm(other.to_string())),
        }
    }

    fn verify_raw(
        &self,
        scheme: SigningScheme,
        public_key: &[u8],
        data: &[u8],
        signature: &[u8],
    ) -> sigstore_crypto::Result<()> {
        #[cfg(feature = "conformance")]
        if scheme == SigningScheme::EcdsaP256Sha256 {
            let key = aws_lc_rs::signature::UnparsedPublicKey::new(
                &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
                public_key,
            );
            return key
                .verify(data, signature)
                .map_err(|_| Error::Verification("P-256 signature invalid".to_owned()));
        }
        if scheme != SigningScheme::Ed25519 {
            return Err(Error::UnsupportedAlgorithm(scheme.name().to_owned()));
        }
        let wrong = || Error::Verification("ED25519 signature invalid".to_owned());
        let key: &[u8; 32] = public_key.try_into().map_err(|_| wrong())?;
        let signature: &[u8; 64] = signature.try_into().map_err(|_| wrong())?;
        let key = PublicKey::from_bytes(*key).map_err(|error| Error::InvalidKey(error.to_string()))?;
        if key.verifies(data, signature) { Ok(()) } else { Err(wrong()) }
    }

    fn verify_prehashed(
        &self,
        scheme: SigningScheme,
        _public_key: &[u8],
        _digest: &[u8],
        _signature: &[u8],
    ) -> sigstore_crypto::Result<()> {
        Err(Error::UnsupportedAlgorithm(format!("{} over a digest", scheme.name())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{SecretKey, Sign};

    #[test]
    fn installs_twice_and_hashes() {
        install();
        install();
        assert_eq!(hex::encode(Ed25519Only.sha256(b"")), crate::ids::Digest::of(b"").to_string());
    }

    #[test]
    fn accepts_ed25519_and_nothing_else() {
        let secret = SecretKey::from_seed([7; 32]);
        let signature = secret.sign(b"message").unwrap();
        let public = secret.key();
        let verify =
            |scheme, data: &[u8]| Ed25519Only.verify_raw(scheme, public.as_bytes(), data, &signature);
        assert!(verify(SigningScheme::Ed25519, b"message").is_ok());
        assert!(verify(SigningScheme::Ed25519, b"massage").is_err());
        assert!(verify(SigningScheme::EcdsaP256Sha256, b"message").is_err());
    }
}
