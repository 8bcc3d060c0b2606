//! What a new state makes of the catalogue: what comes, what goes, what must not run any more.

use muster_protocol::ids::{BundlePath, Digest};
use muster_protocol::trust::{Revocation, RevocationAction, TrustedSet};

use crate::store::bundles::NewBundle;

#[derive(Default)]
pub(super) struct Difference {
    pub(super) added: Vec<NewBundle>,
    pub(super) yanked: Vec<(BundlePath, Digest)>,
    /// Revoked now, or for another reason than before.
    pub(super) revoked: Vec<(BundlePath, Revocation)>,
    /// Not revoked any more.
    pub(super) reinstated: Vec<BundlePath>,
}

impl Difference {
    pub(super) fn compare_revocations(&mut self, before: Option<&TrustedSet>, after: &TrustedSet) {
        let was = before.map(|before| before.revocations().clone()).unwrap_or_default();
        let is = after.revocations();
        let new = is.iter().filter(|(path, revocation)| was.get(path) != Some(revocation));
        self.revoked = new.map(|(path, revocation)| (path.clone(), revocation.clone())).collect();
        self.reinstated = was.into_keys().filter(|path| !is.contains_key(path)).collect();
    }
}

/// For the log: why, and what boxes do about it.
pub(super) fn sentence(path: &BundlePath, revocation: &Revocation) -> String {
    let effect = match revocation.action {
        RevocationAction::Stop => "boxes that run it stop",
        RevocationAction::Retain => "boxes that run it run on until something replaces it",
    };
    format!("{path} is revoked, and {effect}: {}", revocation.reason)
}
