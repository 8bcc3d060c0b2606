//! The envelope of every signed file, `{"signatures": […], "signed": {…}}`, over canonical JSON.
//!
//! Signed bytes are the canonical form of what was received, never of what we understood of it: fields we do not know
//! stay under the signature.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::{KeyId, PublicKey, Sign, SignError};
use super::{LAX, strict};

#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    #[error("it is not the JSON that a signed file holds")]
    Json(#[source] serde_json::Error),
    #[error("'{0}' is missing or not of its kind")]
    Field(&'static str),
    #[error("'{0}' is not a signature: write 128 lower-case hexadecimal digits")]
    Signature(String),
    #[error("it has no canonical form")]
    Canonical(#[source] Box<sigstore_tuf::Error>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    pub keyid: KeyId,
    /// 128 lower-case hexadecimal digits; empty where a named key has not signed yet.
    pub sig: String,
}

/// How many of which keys must have signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    pub found: usize,
    pub needed: usize,
}

/// A signed file as it was received or is being signed.
#[derive(Clone, Debug)]
pub struct Envelope {
    signatures: Vec<Signature>,
    signed: Value,
    canonical: Vec<u8>,
}

impl Envelope {
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let Value::Object(mut map) = strict::parse(bytes).map_err(EnvelopeError::Json)? else {
            return Err(EnvelopeError::Field("signed"));
        };
        let signed = map.remove("signed").filter(Value::is_object).ok_or(EnvelopeError::Field("signed"))?;
        let signatures = map.remove("signatures").ok_or(EnvelopeError::Field("signatures"))?;
        let signatures: Vec<Signature> =
            serde_json::from_value(signatures).map_err(|_| EnvelopeError::Field("signatures"))?;
        for signature in &signatures {
            if !LAX && !signature.sig.is_empty() && decode(&signature.sig).is_none() {
                return Err(EnvelopeError::Signature(signature.sig.chars().take(16).collect()));
            }
        }
        Self::new(signatures, signed)
    }

    /// A document that nobody has signed yet.
    pub fn unsigned(document: &impl Serialize) -> Result<Self, EnvelopeError> {
        Self::new(Vec::new(), serde_json::to_value(document).map_err(EnvelopeError::Json)?)
    }

    fn new(signatures: Vec<Signature>, signed: Value) -> Result<Self, EnvelopeError> {
        let canonical = sigstore_tuf::canonical_json::to_canonical_bytes(&signed)
            .map_err(|error| EnvelopeError::Canonical(Box::new(error)))?;
        Ok(Self { signatures, signed, canonical })
    }

    /// Adds this key's signature, in place of an earlier one of the same key.
    pub fn sign(&mut self, signer: &dyn Sign) -> Result<(), SignError> {
        let keyid = signer.key().key_id();
        let sig = hex::encode(signer.sign(&self.canonical)?);
        self.signatures.retain(|signature| signature.keyid != keyid);
        self.signatures.push(Signature { keyid, sig });
        Ok(())
    }

    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The document as JSON; use [`Self::document`] to understand it.
    pub fn signed(&self) -> &Value {
        &self.signed
    }

    pub fn document<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_value(self.signed.clone())
    }

    /// What signatures are made over.
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// The file's bytes. (Not the canonical form: that one is not always valid JSON.)
    pub fn to_bytes(&self) -> Vec<u8> {
        let file = serde_json::json!({ "signatures": self.signatures, "signed": self.signed });
        file.to_string().into_bytes()
    }

    /// Counts the distinct keys of `keys` that signed this. A key whose signature is wrong does not count.
    pub fn count(&self, keys: &BTreeMap<KeyId, PublicKey>, needed: usize) -> Threshold {
        let signers: BTreeSet<PublicKey> = self
            .signatures
            .iter()
            .filter_map(|signature| Some((*keys.get(&signature.keyid)?, decode(&signature.sig)?)))
            .filter(|(key, bytes)| key.verifies(&self.canonical, bytes))
            .map(|(key, _)| key)
            .collect();
        Threshold { found: signers.len(), needed }
    }
}

impl Threshold {
    /// A threshold of none is met by nobody.
    pub fn met(self) -> bool {
        self.needed > 0 && self.found >= self.needed
    }
}

fn decode(sig: &str) -> Option<[u8; 64]> {
    let mut bytes = [0; 64];
    if sig.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    hex::decode_to_slice(sig, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::SecretKey;

    #[test]
    fn signatures_count_once_a_key() {
        let (a, b) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let keys = BTreeMap::from([
            (a.key().key_id(), a.key()),
            (KeyId::from("alias"), a.key()),
            (b.key().key_id(), b.key()),
        ]);
        let mut envelope = Envelope::unsigned(&serde_json::json!({"n": 1})).unwrap();
        assert!(!envelope.count(&keys, 1).met());
        envelope.sign(&a).unwrap();
        envelope.sign(&a).unwrap();
        assert_eq!(envelope.signatures().len(), 1);
        let sig = envelope.signatures()[0].sig.clone();
        envelope.signatures.push(Signature { keyid: KeyId::from("alias"), sig });
        assert_eq!(envelope.count(&keys, 2), Threshold { found: 1, needed: 2 });
        envelope.sign(&b).unwrap();
        assert!(envelope.count(&keys, 2).met());
        assert!(!envelope.count(&keys, 0).met());
        let again = Envelope::parse(&envelope.to_bytes()).unwrap();
        assert!(again.count(&keys, 2).met());
    }

    #[test]
    fn bad_envelopes() {
        let check = |text: &str| assert!(Envelope::parse(text.as_bytes()).is_err(), "{text}");
        check("[]");
        check(r#"{"signatures":[]}"#);
        check(r#"{"signed":{}}"#);
        check(r#"{"signed":1,"signatures":[]}"#);
        check(r#"{"signed":{},"signatures":[{"keyid":"a","sig":"AB"}]}"#);
        check(r#"{"signed":{},"signed":{},"signatures":[]}"#);
    }
}
