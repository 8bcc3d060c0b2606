//! What we refuse beyond the rules of TUF, before a file reaches them: too long, ambiguous, weak or unbounded.

use std::collections::BTreeMap;

use serde_json::Value;

use super::LAX;
use super::envelope::Envelope;
use super::error::TrustError;
use super::files::FileName;
use super::key::{KeyId, PublicKey};

/// A file that is well formed; whether it is true is still to be seen.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) envelope: Envelope,
    pub(crate) version: u64,
}

pub(crate) fn check(file: &FileName, bytes: &[u8]) -> Result<Checked, TrustError> {
    if bytes.len() > file.bytes_max() {
        return Err(TrustError::TooLarge { file: file.wire(), length: bytes.len(), max: file.bytes_max() });
    }
    let envelope =
        Envelope::parse(bytes).map_err(|source| TrustError::Malformed { file: file.wire(), source })?;
    let signed = envelope.signed();
    let expected = match file {
        FileName::Root(_) => "root",
        FileName::Timestamp => "timestamp",
        FileName::Snapshot => "snapshot",
        FileName::Targets | FileName::Delegated(_) => "targets",
    };
    if signed.get("_type").and_then(Value::as_str) != Some(expected) {
        return Err(TrustError::document(file, format!("that it is not of the type '{expected}'")));
    }
    let version = signed.get("version").and_then(Value::as_u64).unwrap_or(0);
    if version == 0 {
        return Err(TrustError::document(file, "no version from 1 up"));
    }
    if let FileName::Root(named) = file
        && *named != version
    {
        return Err(TrustError::document(file, format!("that its version is {version}")));
    }
    for keys in [signed.get("keys"), signed.pointer("/delegations/keys")].into_iter().flatten() {
        check_keys(file, keys)?;
    }
    Ok(Checked { envelope, version })
}

/// Ed25519 keys only, and none under two names: it would count twice towards a threshold.
fn check_keys(file: &FileName, keys: &Value) -> Result<(), TrustError> {
    let keys = keys.as_object().ok_or_else(|| TrustError::document(file, "keys that are no object"))?;
    let mut names: BTreeMap<PublicKey, KeyId> = BTreeMap::new();
    for (name, key) in keys {
        if LAX && key.pointer("/keytype").and_then(Value::as_str) != Some("ed25519") {
            continue;
        }
        let public = public_key(file, key)?;
        let name = KeyId::from(name.as_str());
        if let Some(other) = names.insert(public, name.clone()) {
            return Err(TrustError::document(
                file,
                format!("one key under two names, {} and {}", other.short(), name.short()),
            ));
        }
    }
    Ok(())
}

pub(crate) fn public_key(file: &FileName, key: &Value) -> Result<PublicKey, TrustError> {
    let text = |pointer| key.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if text("/keytype") != "ed25519" || text("/scheme") != "ed25519" {
        return Err(TrustError::document(file, "a key that is not Ed25519"));
    }
    text("/keyval/public").parse().map_err(|source| TrustError::Key { file: file.wire(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check_root(signed: &Value, expect: &str) {
        let bytes = json!({"signed": signed, "signatures": []}).to_string();
        let result = check(&FileName::Root(1), bytes.as_bytes());
        assert_eq!(result.map_or_else(|e| e.code(), |_| "ok"), expect, "{signed}");
    }

    #[test]
    fn roots() {
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let key = json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}});
        let mut rsa = key.clone();
        rsa["keytype"] = json!("rsa");
        let weak = json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "01".to_owned() + &"0".repeat(62)}});
        check_root(&json!({"_type": "root", "version": 1, "keys": {"a": key}}), "ok");
        check_root(&json!({"_type": "root", "version": 0, "keys": {}}), "trust_malformed");
        check_root(&json!({"_type": "root", "version": 2, "keys": {}}), "trust_malformed");
        check_root(&json!({"_type": "targets", "version": 1}), "trust_malformed");
        check_root(&json!({"_type": "root", "version": 1, "keys": {"a": key, "b": key}}), "trust_malformed");
        check_root(&json!({"_type": "root", "version": 1, "keys": {"a": rsa}}), "trust_malformed");
        check_root(&json!({"_type": "root", "version": 1, "keys": {"a": weak}}), "trust_key");
    }

    #[test]
    fn caps() {
        let long = vec![b' '; FileName::Timestamp.bytes_max() + 1];
        assert_eq!(check(&FileName::Timestamp, &long).unwrap_err().code(), "trust_too_large");
    }
}
