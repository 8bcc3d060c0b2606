//! What only the example `tuf_conformance` of the agent asks: paths that are no bundles', and repositories of others.

use std::collections::BTreeMap;

use super::catalogue::{LookupError, TrustedSet};
use crate::time::Timestamp;

/// A target of any repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnyTarget {
    pub length: u64,
    /// By algorithm, in hexadecimal.
    pub hashes: BTreeMap<String, String>,
}

impl TrustedSet {
    /// Whether files of this repository carry their version in their name.
    pub fn is_consistent(&self) -> bool {
        self.set.root().consistent_snapshot
    }

    pub fn lookup_any(&self, path: &str, now: Timestamp) -> Result<Option<AnyTarget>, LookupError> {
        let found = self.search(path, now.to_jiff())?;
        Ok(found.map(|(_, target)| AnyTarget { length: target.length, hashes: target.hashes.clone() }))
    }
}
