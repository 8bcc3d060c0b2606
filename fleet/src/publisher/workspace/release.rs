//! The catalogue's ceremonies: edit a list of bundles, fix it as the next version, let the key holders sign, finish it.
//!
//! ```text
//!   edit ─▶ draft/targets.json ─▶ fix ─▶ draft/targets.signing.json ─▶ enough signed ─▶ metadata/N.targets.json
//! ```
//! A list is `targets.json` or the file of a role that it delegates to; the way is the same.

use std::path::{Path, PathBuf};

use muster_protocol::ids::{BundlePath, ModelName};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::author::{Delegation, Keys, TargetsSpec};
use muster_protocol::trust::{FileName, Revocation, Role, Sign, Target};
use serde_json::Value;

use super::{Workspace, parse, read, remove, write};
use crate::publisher::draft::{Draft, Need, Progress};
use crate::publisher::error::PublisherError;

/// With which version of its list a bundle came: bundles' own versions have no order.
pub(crate) const SINCE: &str = "since";

/// A list that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub version: u64,
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

impl Workspace {
    /// The list as it would be published now.
    pub fn catalogue(&self, list: &FileName) -> Result<TargetsSpec, PublisherError> {
        let published = self.published(list)?;
        let path = self.draft(&list.wire());
        if !path.exists() {
            return Ok(published.unwrap_or_else(TargetsSpec::empty));
        }
        let draft = TargetsSpec::parse(&read(&path, "it is the draft of the catalogue")?)?;
        let newest = published.map_or(0, |spec| spec.version());
        if draft.version() != newest {
            let (what, began) = (list.wire(), draft.version());
            return Err(PublisherError::Overtaken { what, began, published: newest });
        }
        Ok(draft)
    }

    /// Puts a bundle into the list's draft.
    pub fn add_bundle(&self, list: &FileName, mut target: Target) -> Result<(), PublisherError> {
        self.edit(list, |spec| {
            if spec.revocations()?.contains_key(&target.path) {
                return Err(PublisherError::Revoked(target.path.clone()));
            }
            let there = spec.targets().into_iter().find(|found| found.path == target.path);
            if there.as_ref().is_some_and(|there| there.sha256 != target.sha256) {
                return Err(PublisherError::OtherContent(target.path.clone()));
            }
            let since = there.and_then(|there| since(&there)).unwrap_or(spec.version().saturating_add(1));
            if let Value::Object(custom) = &mut target.custom {
                custom.insert(SINCE.to_owned(), since.into());
            }
            spec.put(&target);
            Ok(())
        })
    }

    /// Takes a bundle out of the list's draft: once published, no device activates it any more.
    pub fn remove_bundle(&self, list: &FileName, path: &BundlePath) -> Result<(), PublisherError> {
        self.edit(
            list,
            |spec| if spec.remove(path) { Ok(()) } else { Err(PublisherError::Absent(path.clone())) },
        )
    }

    /// Says in the catalogue's draft that a bundle must not run any more.
    pub fn revoke(&self, path: &BundlePath, revocation: Revocation) -> Result<(), PublisherError> {
        self.edit(&FileName::Targets, |spec| {
            let listed = spec.targets().iter().any(|target| target.path == *path);
            let delegated = spec.delegations().iter().any(|delegation| may_list(delegation, path));
            if !listed && !delegated && !spec.revocations()?.contains_key(path) {
                return Err(PublisherError::Unknown(path.clone()));
            }
            Ok(spec.revoke(path, revocation)?)
        })
    }

    /// Takes a revocation back.
    pub fn reinstate(&self, path: &BundlePath) -> Result<(), PublisherError> {
        self.edit(&FileName::Targets, |spec| {
            if spec.reinstate(path)? { Ok(()) } else { Err(PublisherError::NotRevoked(path.clone())) }
        })
    }

    /// Keeps the newest bundles of each model and takes the others out of the list's draft. Which left, by path.
    pub fn prune(
        &self,
        list: &FileName,
        keep: usize,
        only: Option<&ModelName>,
    ) -> Result<Vec<BundlePath>, PublisherError> {
        let mut targets = self.catalogue(list)?.targets();
        targets.retain(|target| only.is_none_or(|model| target.path.model() == model));
        // Of those that came together the last by name stays longest.
        targets.sort_by_key(|target| std::cmp::Reverse((since(target), target.path.to_string())));
        let mut leaving: Vec<BundlePath> = Vec::new();
        for (at, target) in targets.iter().enumerate() {
            let newer =
                targets[..at].iter().filter(|other| other.path.model() == target.path.model()).count();
            if newer >= keep {
                leaving.push(target.path.clone());
            }
        }
        leaving.sort();
        if !leaving.is_empty() {
            self.edit(list, |spec| {
                for path in &leaving {
                    spec.remove(path);
                }
                Ok(())
            })?;
        }
        Ok(leaving)
    }

    /// Lets the holders of these keys list bundles under these paths.
    pub fn delegate(
        &self,
        role: &str,
        paths: Vec<String>,
        keys: &Keys,
        terminating: bool,
    ) -> Result<(), PublisherError> {
        for (at, key) in keys.keys.iter().enumerate() {
            if keys.keys[..at].contains(key) {
                return Err(PublisherError::TwiceInRole { role: role.to_owned(), public: key.to_string() });
            }
        }
        self.edit_delegations(|spec| Ok(spec.delegate_paths(role, paths, keys, terminating)?))
    }

    /// Changes who else may list bundles.
    pub fn edit_delegations(
        &self,
        change: impl FnOnce(&mut TargetsSpec) -> Result<(), PublisherError>,
    ) -> Result<(), PublisherError> {
        self.edit(&FileName::Targets, change)
    }

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

    /// Changes the list's draft: in one write, and only if it is nobody's signature's business yet.
    pub(super) fn edit(
        &self,
        list: &FileName,
        change: impl FnOnce(&mut TargetsSpec) -> Result<(), PublisherError>,
    ) -> Result<(), PublisherError> {
        if let Some(draft) = self.release_draft(list)? {
            return Err(PublisherError::BeingSigned { what: list.wire(), version: draft.version() });
        }
        let mut spec = self.catalogue(list)?;
        change(&mut spec)?;
        write(&self.draft(&list.wire()), &spec.envelope()?.to_bytes())
    }

    /// The draft that waits for signatures, if it still follows what is published.
    fn release_draft(&self, list: &FileName) -> Result<Option<Draft>, PublisherError> {
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

/// `*` stays within one segment, as TUF has it.
pub(crate) fn may_list(delegation: &Delegation, path: &BundlePath) -> bool {
    delegation.patterns.iter().any(|pattern| matches(pattern, &path.to_string()))
}

fn matches(pattern: &str, path: &str) -> bool {
    let (patterns, segments) = (pattern.split('/'), path.split('/'));
    patterns.clone().count() == segments.clone().count()
        && patterns.zip(segments).all(|(pattern, segment)| glob(pattern.as_bytes(), segment.as_bytes()))
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|skip| glob(rest, &text[skip..])),
        (Some((b'?', rest)), Some((_, text))) => glob(rest, text),
        (Some((letter, rest)), Some((found, text))) => letter == found && glob(rest, text),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn since(target: &Target) -> Option<u64> {
    target.custom.get(SINCE).and_then(Value::as_u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, path: &str, expect: bool| {
            assert_eq!(matches(pattern, path), expect, "{pattern} {path}");
        };
        check("bundles/radiology/*", "bundles/radiology/1.json", true);
        check("bundles/radiology/*", "bundles/radiology/auto/1.json", false);
        check("bundles/radiology-*/*", "bundles/radiology-chest/1.json", true);
        check("bundles/radiology-*/*", "bundles/radiology/1.json", false);
        check("bundles/*/?.json", "bundles/er/1.json", true);
        check("bundles/*/?.json", "bundles/er/12.json", false);
        check("bundles/er/auto/*", "bundles/er/auto/7.json", true);
        check("*", "bundles/er/1.json", false);
    }
}
