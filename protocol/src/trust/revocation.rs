//! Bundles that must not run any more, and why: `x-muster-revoked` of `targets.json`, signed with the targets keys.
//!
//! A bundle that merely left the catalogue is *yanked*: it is never activated again, and runs on where it runs. A *revoked*
//! one carries its reason, and may stop. Whether stopping helps or harms patients is a clinical question, so the answer
//! stands in the signed file and not in this code.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{LookupError, TrustedSet};
use crate::ids::{BundlePath, Digest};
use crate::limits::{REVOCATIONS_MAX, SENTENCE_BYTES_MAX};

/// Field of `targets.json`. Only the targets role may revoke; a delegated role yanks.
pub const REVOKED_FIELD: &str = "x-muster-revoked";

/// By path: a path is never given to other content, so it names one bundle.
pub type Revocations = BTreeMap<BundlePath, Revocation>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Why, for people.
    pub reason: String,
    pub action: RevocationAction,
}

/// What boxes do that run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationAction {
    /// The slot stops answering and says why.
    Stop,
    /// It runs on until something replaces it.
    Retain,
}

/// What the newest trusted catalogue says of a bundle that runs, however old that catalogue is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    #[default]
    Listed,
    /// It left the catalogue, or its path was given to other content.
    Yanked,
    Revoked(Revocation),
    /// There is no catalogue, or the file that would list it cannot be used.
    Unknown,
}

impl TrustedSet {
    pub fn standing(&self, bundle: &BundlePath, sha256: &Digest) -> Standing {
        if let Some(revocation) = self.revocations().get(bundle) {
            return Standing::Revoked(revocation.clone());
        }
        match self.listed(bundle) {
            Ok(target) if target.sha256 == *sha256 => Standing::Listed,
            Ok(_) | Err(LookupError::Absent { .. }) => Standing::Yanked,
            Err(
                LookupError::Incomplete { .. } | LookupError::Expired { .. } | LookupError::Unusable { .. },
            ) => Standing::Unknown,
        }
    }
}

/// Reads the field of a targets file. One that cannot be read is an error: to skip it would be to run what was revoked.
pub(crate) fn read(field: Option<&Value>) -> Result<Revocations, String> {
    let Some(field) = field else { return Ok(Revocations::new()) };
    let revoked: Revocations = serde_json::from_value(field.clone()).map_err(|error| error.to_string())?;
    if revoked.len() > REVOCATIONS_MAX {
        return Err(format!("{} bundles, more than {REVOCATIONS_MAX}", revoked.len()));
    }
    match revoked.iter().find(|(_, revocation)| revocation.reason.len() > SENTENCE_BYTES_MAX) {
        Some((path, _)) => Err(format!("a reason for {path} that is longer than {SENTENCE_BYTES_MAX} bytes")),
        None => Ok(revoked),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn revocations_are_read_or_refused() {
        let path = "bundles/er-beds/1.0.0.json";
        let check = |field: Value, count: Option<usize>| {
            assert_eq!(read(Some(&field)).ok().map(|found| found.len()), count, "{field}");
        };
        assert_eq!(read(None), Ok(Revocations::new()));
        check(json!({path: {"reason": "miscalibrated", "action": "stop"}}), Some(1));
        check(json!({path: {"reason": "miscalibrated", "action": "retain", "by": "x"}}), Some(1));
        check(json!({path: {"reason": "miscalibrated", "action": "explode"}}), None);
        check(json!({path: {"action": "stop"}}), None);
        check(json!({"../x": {"reason": "", "action": "stop"}}), None);
        check(json!({path: {"reason": "x".repeat(600), "action": "stop"}}), None);
        check(json!([]), None);
    }
}
