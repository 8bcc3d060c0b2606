//! The release's ceremony: fix a draft as the next version, let the key holders sign, finish it.
//!
//! ```text
//!   draft/targets.json ─▶ fix ─▶ draft/targets.signing.json ─▶ enough signed ─▶ metadata/N.targets.json
//! ```
//! Who must sign is read from the root, or for a role from the catalogue that the root vouches for.

use std::path::{Path, PathBuf};

use muster_protocol::time::Timestamp;
use muster_protocol::trust::author::{Delegation, TargetsSpec};
use muster_protocol::trust::{FileName, Role, Sign};

use super::catalogue::may_list;
use super::{Workspace, parse, read, remove, write};
use crate::publisher::draft::{Draft, Need, Progress};
use crate::publisher::error::PublisherError;

/// A list that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub version: u64,
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

impl Workspace {
    /// Signs the draft as the next version, checks it as devices do, and finishes it. All or nothing: if the signers are
    /// too few, nothing is written.
    pub fn publish(
        &self,
        list: &FileName,
        signers: &[&dyn Sign],
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Release, PublisherError> {
        let mut draft = match self.release_draft(list)? {
            Some(draft) => draft,
            None => self.fix(list, expires, now)?,
        };
        for signer in signers {
            draft.sign(*signer)?;
        }
        self.finish_release(&draft)?
            .ok_or_else(|| PublisherError::TooFew { what: draft.title(), progress: draft.progress() })
    }

    /// Fixes the draft as the next version and begins to collect signatures, or goes on collecting. Finished with the
    /// last of them.
    pub fn sign_release(
        &self,
        list: &FileName,
        signers: &[&dyn Sign],
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<(Progress, Option<Release>), PublisherError> {
        let mut draft = match self.release_draft(list)? {
            Some(draft) => draft,
            None => self.fix(list, expires, now)?,
        };
        for signer in signers {
            draft.sign(*signer)?;
        }
        self.advance_release(&draft)
    }

    /// Takes over the signatures of copies that were signed elsewhere.
    pub fn collect_release(
        &self,
        list: &FileName,
        copies: &[&Path],
    ) -> Result<(usize, Progress, Option<Release>), PublisherError> {
        let mut draft = self.release_draft(list)?.ok_or_else(|| PublisherError::NoDraft(list.wire()))?;
        let mut added = 0;
        for path in copies {
            added += draft.collect(&Draft::read(path)?, path)?;
        }
        let (progress, release) = self.advance_release(&draft)?;
        Ok((added, progress, release))
    }

    /// Gives up what was edited or is being signed. Whether there was something.
    pub fn discard(&self, list: &FileName) -> Result<bool, PublisherError> {
        let signing = remove(&self.signing_path(list))?;
        Ok(remove(&self.draft(&list.wire()))? || signing)
    }

    /// The draft that waits for signatures, if it still follows what is published.
    pub(super) fn release_draft(&self, list: &FileName) -> Result<Option<Draft>, PublisherError> {
        let Some(draft) = self.signing(list)? else { return Ok(None) };
        let published = self.published(list)?.map_or(0, |spec| spec.version());
        let began = draft.version().saturating_sub(1);
        if began != published || draft.file() != list {
            return Err(PublisherError::Overtaken { what: list.wire(), began, published });
        }
        Ok(Some(draft))
    }

    /// The draft as the next version, with whoever must sign it. Refuses what boxes would refuse.
    fn fix(&self, list: &FileName, expires: Timestamp, now: Timestamp) -> Result<Draft, PublisherError> {
        let root = self.newest_root()?;
        if let Some(at) = root.expiries().get("root.json").copied().filter(|at| *at <= now) {
            return Err(PublisherError::RootExpired(at));
        }
        let spec = self.catalogue(list)?.next(expires);
        let need = self.need(list, &spec)?;
        let envelope = spec.envelope()?;
        let (length, max) = (envelope.to_bytes().len(), list.bytes_max());
        if length > max {
            return Err(PublisherError::TooLarge { file: list.wire(), length, max });
        }
        Ok(Draft::new(list.clone(), spec.version(), envelope, vec![need], self.names()?))
    }

    /// Who must sign a list, from the files that say so.
    fn need(&self, list: &FileName, spec: &TargetsSpec) -> Result<Need, PublisherError> {
        let root = self.newest_root()?;
        let FileName::Delegated(role) = list else {
            let path = self.metadata("root.json");
            let threshold = root.count(Role::Targets, &parse(&path, root.root_bytes())?).needed;
            let who = format!("targets in root {}", root.versions().root);
            return Ok(Need::new(who, root.keys(Role::Targets), threshold));
        };
        let delegation = self.delegation(role)?;
        if !spec.revocations()?.is_empty() {
            return Err(PublisherError::RevokedByRole);
        }
        if let Some(target) = spec.targets().into_iter().find(|target| !may_list(&delegation, &target.path)) {
            let (path, role) = (target.path, role.clone());
            return Err(PublisherError::Undelegated { path, role, patterns: delegation.patterns.join(", ") });
        }
        Ok(Need::of(format!("role {role}"), &delegation.keys))
    }

    /// What `targets.json`, signed as the root says, delegates to a role.
    fn delegation(&self, role: &str) -> Result<Delegation, PublisherError> {
        let path = self.metadata("targets.json");
        let bytes = read(&path, "fetch the fleet's first: `muster release pull`")?;
        if !self.newest_root()?.count(Role::Targets, &parse(&path, &bytes)?).met() {
            return Err(PublisherError::Forged { file: "targets.json".to_owned() });
        }
        let delegations = TargetsSpec::parse(&bytes)?.delegations();
        delegations
            .into_iter()
            .find(|delegation| delegation.role == role)
            .ok_or_else(|| PublisherError::NoDelegation { role: role.to_owned() })
    }

    fn advance_release(&self, draft: &Draft) -> Result<(Progress, Option<Release>), PublisherError> {
        let release = self.finish_release(draft)?;
        if release.is_none() {
            self.save_signing(draft)?;
        }
        Ok((draft.progress(), release))
    }

    /// Counts by what this folder knows, whatever the draft says of itself.
    fn finish_release(&self, draft: &Draft) -> Result<Option<Release>, PublisherError> {
        let list = draft.file();
        let bytes = draft.envelope().to_bytes();
        let need = self.need(list, &TargetsSpec::parse(&bytes)?)?;
        if !need.met_by(draft.envelope()) {
            return Ok(None);
        }
        let version = draft.version();
        let path = self.metadata(&list.stored(version));
        write(&path, &bytes)?;
        write(&self.metadata(&list.wire()), &bytes)?;
        self.discard(list)?;
        Ok(Some(Release { version, path, bytes }))
    }
}
