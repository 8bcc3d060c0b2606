//! Keys: Ed25519 only, public ones in lower-case hexadecimal. Makes no randomness: a seed is handed in.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::ids::Digest;

/// Something that signs: a key file, or a program in front of a hardware module.
pub trait Sign {
    fn key(&self) -> PublicKey;
    fn sign(&self, bytes: &[u8]) -> Result<[u8; 64], SignError>;
}

#[derive(Debug, thiserror::Error)]
#[error("key {key} did not sign")]
pub struct SignError {
    pub key: KeyId,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("'{0}' is not an Ed25519 public key: write 64 lower-case hexadecimal digits")]
    Text(String),
    #[error(
        "public key {0} is no point of the curve, or a weak one that verifies forged signatures; make a new key"
    )]
    Point(String),
}

/// What a file calls a key. Opaque to readers; our writers use the SHA-256 of the key's canonical JSON, as others do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 characters, enough to tell keys apart on a screen.
    pub fn short(&self) -> String {
        self.0.chars().take(12).collect()
    }
}

impl From<&str> for KeyId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// An Ed25519 public key that is a point of the curve and not a weak one.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        match VerifyingKey::from_bytes(&bytes) {
            Ok(key) if !key.is_weak() => Ok(Self(key)),
            Ok(_) | Err(_) => Err(KeyError::Point(hex::encode(bytes))),
        }
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    pub fn key_id(&self) -> KeyId {
        let canonical =
            format!(r#"{{"keytype":"ed25519","keyval":{{"public":"{self}"}},"scheme":"ed25519"}}"#);
        KeyId(Digest::of(canonical.as_bytes()).to_string())
    }

    /// Always the strict rule: the lax one lets some keys verify a signature over any message.
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }
}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let wrong = || KeyError::Text(text.chars().take(80).collect());
        if text.len() != 64 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| wrong())?;
        Self::from_bytes(bytes)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A private key in memory; wiped when dropped. Shows only its public half.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The seed is the private key: take it from the operating system's generator and wipe the copy.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl Sign for SecretKey {
    fn key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    fn sign(&self, bytes: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.0.sign(bytes).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.key().key_id().short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_keys_are_read_strictly() {
        let check = |text: &str, valid: bool| assert_eq!(text.parse::<PublicKey>().is_ok(), valid, "{text}");
        let good = SecretKey::from_seed([1; 32]).key().to_string();
        check(&good, true);
        check(&good.to_uppercase(), false);
        check(&format!("{good} "), false);
        check(&good[2..], false);
        check("not hex", false);
        // The identity: a weak key.
        check("0100000000000000000000000000000000000000000000000000000000000000", false);
    }

    #[test]
    fn key_ids_are_those_of_other_tools() {
        // From securesystemslib: SHA-256 of the canonical JSON of keytype, keyval and scheme.
        let key = SecretKey::from_seed([0; 32]).key();
        let expect = sigstore_tuf_key_id(&key);
        assert_eq!(key.key_id().as_str(), expect);
    }

    fn sigstore_tuf_key_id(key: &PublicKey) -> String {
        crate::trust::install();
        let json = serde_json::json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": key.to_string()}});
        serde_json::from_value::<sigstore_tuf::Key>(json).unwrap().key_id().unwrap()
    }

    #[test]
    fn debug_never_shows_the_secret() {
        let secret = SecretKey::from_seed([9; 32]);
        assert!(!format!("{secret:?}").contains(&hex::encode([9; 32])));
    }
}
