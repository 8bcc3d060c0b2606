//! The documents inside TUF's envelopes as we write them. Fields we do not know are kept when a document is edited.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::MusterRoot;
use super::key::{KeyId, PublicKey};
use super::root::RoleKeys;
use crate::ids::Digest;
use crate::time::Timestamp;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Key {
    keytype: String,
    scheme: String,
    keyval: KeyValue,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeyValue {
    public: PublicKey,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Root {
    #[serde(rename = "_type")]
    pub(crate) type_: String,
    pub(crate) spec_version: String,
    pub(crate) version: u64,
    #[serde(with = "seconds")]
    pub(crate) expires: Timestamp,
    pub(crate) consistent_snapshot: bool,
    pub(crate) keys: BTreeMap<KeyId, Key>,
    pub(crate) roles: BTreeMap<String, RoleKeys>,
    #[serde(rename = "x-muster")]
    pub(crate) muster: MusterRoot,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "TUF calls the field so")]
pub(crate) struct Targets {
    #[serde(rename = "_type")]
    pub(crate) type_: String,
    pub(crate) spec_version: String,
    pub(crate) version: u64,
    #[serde(with = "seconds")]
    pub(crate) expires: Timestamp,
    pub(crate) targets: BTreeMap<String, TargetFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) delegations: Option<Delegations>,
    #[serde(flatten)]
    pub(crate) extra: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TargetFile {
    pub(crate) length: u64,
    pub(crate) hashes: Hashes,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) custom: Value,
    #[serde(flatten)]
    pub(crate) extra: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hashes {
    pub(crate) sha256: Digest,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Delegations {
    pub(crate) keys: BTreeMap<KeyId, Key>,
    pub(crate) roles: Vec<DelegatedRole>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DelegatedRole {
    pub(crate) name: String,
    pub(crate) keyids: Vec<KeyId>,
    pub(crate) threshold: usize,
    pub(crate) terminating: bool,
    /// Absent where another tool delegated by hashes of paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) paths: Option<Vec<String>>,
    #[serde(flatten)]
    pub(crate) extra: BTreeMap<String, Value>,
}

/// `snapshot.json` and `timestamp.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Index {
    #[serde(rename = "_type")]
    pub(crate) type_: String,
    pub(crate) spec_version: String,
    pub(crate) version: u64,
    #[serde(with = "seconds")]
    pub(crate) expires: Timestamp,
    pub(crate) meta: BTreeMap<String, Meta>,
    #[serde(rename = "x-muster-issued", default, skip_serializing_if = "Option::is_none")]
    pub(crate) issued: Option<Timestamp>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) version: u64,
    pub(crate) length: u64,
    pub(crate) hashes: Hashes,
}

impl From<PublicKey> for Key {
    fn from(public: PublicKey) -> Self {
        Self { keytype: "ed25519".to_owned(), scheme: "ed25519".to_owned(), keyval: KeyValue { public } }
    }
}

impl Key {
    pub(crate) fn public(&self) -> PublicKey {
        self.keyval.public
    }
}

/// TUF writes times in whole seconds; other tools refuse a fraction.
mod seconds {
    use super::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = Timestamp::from_seconds(time.as_seconds());
        serializer.collect_str(&format_args!("{:.0}", whole.to_jiff()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(deserializer)
    }
}
