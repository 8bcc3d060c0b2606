//! Editing a list of bundles: everything here changes only the draft, in one write, and signs nothing.
//!
//! A list is `targets.json` or the file of a role that it delegates to; the way is the same.

use muster_protocol::ids::{BundlePath, ModelName};
use muster_protocol::trust::author::{Delegation, Keys, TargetsSpec};
use muster_protocol::trust::{FileName, Revocation, Target};
use serde_json::Value;

use super::{Workspace, read, write};
use crate::publisher::error::PublisherError;

/// With which version of its list a bundle came: bundles' own versions have no order.
pub(crate) const SINCE: &str = "since";

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
