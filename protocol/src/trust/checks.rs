//! What we refuse beyond the rules of TUF, before a file reaches them: too long, ambiguous, weak or unbounded.

use std::collections::BTreeMap;

use serde_json::Value;

use super::LAX;
use super::envelope::Envelope;
use super::error::TrustError;
use super::files::FileName;
use super::key::{KeyId, PublicKey};
use crate::limits::{DELEGATIONS_MAX, PATTERNS_MAX};

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
    if !LAX {
        check_delegations(file, signed)?;
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

/// Only `targets.json` delegates, and as little as its author may write: every path that a delegated role lists is matched
/// against every pattern above it, so whoever may delegate without a bound may keep a box busy for minutes.
fn check_delegations(file: &FileName, signed: &Value) -> Result<(), TrustError> {
    let Some(roles) = signed.pointer("/delegations/roles").and_then(Value::as_array) else { return Ok(()) };
    if matches!(file, FileName::Delegated(_)) && !roles.is_empty() {
        return Err(TrustError::document(file, "that it delegates on, which only targets.json may"));
    }
    if roles.len() > DELEGATIONS_MAX {
        return Err(TrustError::document(file, format!("more than {DELEGATIONS_MAX} delegations")));
    }
    let many = |role: &Value, list| {
        role.get(list).and_then(Value::as_array).is_some_and(|patterns| patterns.len() > PATTERNS_MAX)
    };
    if roles.iter().any(|role| many(role, "paths") || many(role, "path_hash_prefixes")) {
        return Err(TrustError::document(file, format!("more than {PATTERNS_MAX} patterns in a delegation")));
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
    fn delegations() {
        let check = |file: &FileName, roles: &[Value], expect: &str| {
            let signed =
                json!({"_type": "targets", "version": 1, "delegations": {"keys": {}, "roles": roles}});
            let bytes = json!({"signed": signed, "signatures": []}).to_string();
            let result = check(file, bytes.as_bytes()).map_or_else(|e| e.code(), |_| "ok");
            assert_eq!(result, expect, "{file} with {} roles", roles.len());
        };
        let role = |list: &str, patterns: usize| json!({"name": "a", list: vec!["p"; patterns]});
        let auto = FileName::Delegated("auto-er-beds".to_owned());
        let lax = |strict: &'static str| if LAX { "ok" } else { strict };
        check(&FileName::Targets, &vec![role("paths", PATTERNS_MAX); DELEGATIONS_MAX], "ok");
        check(&FileName::Targets, &vec![role("paths", 1); DELEGATIONS_MAX + 1], lax("trust_malformed"));
        check(&FileName::Targets, &[role("paths", PATTERNS_MAX + 1)], lax("trust_malformed"));
        check(&FileName::Targets, &[role("path_hash_prefixes", PATTERNS_MAX + 1)], lax("trust_malformed"));
        check(&auto, &[], "ok");
        check(&auto, &[role("paths", 1)], lax("trust_malformed"));
    }

    #[test]
    fn caps() {
        let long = vec![b' '; FileName::Timestamp.bytes_max() + 1];
        assert_eq!(check(&FileName::Timestamp, &long).unwrap_err().code(), "trust_too_large");
    }
}
