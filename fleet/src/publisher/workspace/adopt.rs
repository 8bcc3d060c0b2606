//! Taking over what the fleet has published: roots one after the other, the catalogue, and the lists of its roles.
//!
//! The fleet that hands these files out is not believed. Each root must be signed by the one before, each list by the
//! keys that the root or the catalogue names; and nothing here goes back to an older version.

use std::collections::BTreeMap;

use muster_protocol::trust::author::TargetsSpec;
use muster_protocol::trust::{FileName, Files, Role, TrustedSet};

use super::{Workspace, parse, read, write};
use crate::publisher::error::PublisherError;

/// What was taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// As they are kept: `2.root.json`, `7.targets.json`.
    pub files: Vec<String>,
}

impl Workspace {
    /// Begins with a root that was brought here by hand; refuses one that does not belong to what is here.
    pub fn pin(&self, bytes: &[u8]) -> Result<Adopted, PublisherError> {
        let pinned = TrustedSet::from_root(bytes)?;
        let version = pinned.versions().root;
        let file = FileName::Root(version).wire();
        let path = self.metadata(&file);
        if path.exists() {
            let own = read(&path, "it is a root")?;
            return if own == bytes {
                Ok(Adopted::default())
            } else {
                Err(PublisherError::Forked { file: "root.json".to_owned(), version })
            };
        }
        if let Some(own) = self.root()? {
            let own = own.versions().root;
            return Err(PublisherError::Backwards { file: "root.json".to_owned(), own, offered: version });
        }
        write(&path, bytes)?;
        write(&self.metadata("root.json"), bytes)?;
        Ok(Adopted { files: vec![file] })
    }

    /// The names that the fleet is asked for next: roots first, then lists.
    pub fn next_root(&self) -> Result<FileName, PublisherError> {
        Ok(FileName::Root(self.newest_root()?.versions().root.saturating_add(1)))
    }

    /// Takes over files by their names on the wire, those that are newer.
    pub fn adopt(&self, offered: &Files) -> Result<Adopted, PublisherError> {
        let mut adopted = Adopted::default();
        let mut root = self.newest_root()?;
        let roots = root.update_roots(offered);
        for new in roots.adopted {
            write(&self.metadata(&new.file.wire()), &new.bytes)?;
            write(&self.metadata("root.json"), &new.bytes)?;
            adopted.files.push(new.file.wire());
        }
        if let Some(refused) = roots.refused {
            return Err(refused.into());
        }
        if let Some(bytes) = offered.get("targets.json") {
            let envelope = parse(&self.metadata("targets.json"), bytes)?;
            let signed = root.count(Role::Targets, &envelope).met();
            self.adopt_list(&FileName::Targets, bytes, signed, &mut adopted)?;
        }
        let Some(catalogue) = self.published(&FileName::Targets)? else { return Ok(adopted) };
        for delegation in catalogue.delegations() {
            let list = FileName::delegated(&delegation.role)?;
            let Some(bytes) = offered.get(&list.wire()) else { continue };
            let envelope = parse(&self.metadata(&list.wire()), bytes)?;
            let keys: BTreeMap<_, _> = delegation.keys.keys.iter().map(|key| (key.key_id(), *key)).collect();
            let signed = envelope.count(&keys, delegation.keys.threshold).met();
            self.adopt_list(&list, bytes, signed, &mut adopted)?;
        }
        Ok(adopted)
    }

    fn adopt_list(
        &self,
        list: &FileName,
        bytes: &[u8],
        signed: bool,
        adopted: &mut Adopted,
    ) -> Result<(), PublisherError> {
        if !signed {
            return Err(PublisherError::Forged { file: list.wire() });
        }
        let offered = TargetsSpec::parse(bytes)?.version();
        let own = self.published(list)?.map_or(0, |spec| spec.version());
        let path = self.metadata(&list.wire());
        if offered < own {
            return Err(PublisherError::Backwards { file: list.wire(), own, offered });
        }
        if offered == own {
            let same = read(&path, "it is what was published last")? == bytes;
            return if same {
                Ok(())
            } else {
                Err(PublisherError::Forked { file: list.wire(), version: own })
            };
        }
        let stored = list.stored(offered);
        write(&self.metadata(&stored), bytes)?;
        write(&path, bytes)?;
        adopted.files.push(stored);
        Ok(())
    }
}
