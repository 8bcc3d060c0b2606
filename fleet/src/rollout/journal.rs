//! What the engine was told, in order: enough to live a rollout again, years later and on another machine.
//!
//! The engine decides from (rollout, members, view, now) alone. So the first rollout, each person's act and each change of
//! the view that it looked at give the same answers whenever they are given to it again; an entry also keeps the digest of
//! what came out, so that whoever replays it knows whether the answers are the same.

use std::collections::BTreeMap;

use muster_protocol::ids::{DeviceId, Digest, SiteName};
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::site::{Freeze, SiteView};
use super::view::{BundleStanding, DeviceView, FleetView};
use super::{Actor, Member, Members, Rollout, Verb, advance};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// World time.
    pub at: Timestamp,
    pub input: Input,
    /// Of the rollout after it, and of the members that it changed.
    pub outcome: Digest,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Input {
    Begun { rollout: Box<Rollout> },
    Acted { verb: Verb, by: Actor, reason: String },
    Looked { change: Change },
}

/// How a view differs from the one before it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<DeviceId, Option<DeviceView>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sites: BTreeMap<SiteName, Option<SiteView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freezes: Option<Vec<Freeze>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleStanding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unheard: Option<bool>,
}

/// What each device was before an entry that changed it; none for one that joined by it.
pub type Before = BTreeMap<DeviceId, Option<Member>>;

/// A rollout lived through to some entry.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    pub rollout: Option<Rollout>,
    pub members: Members,
    pub view: FleetView,
    entries: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("entry {0} comes before the rollout has begun")]
    NotBegun(usize),
    #[error("entry {0} begins the rollout a second time")]
    BegunTwice(usize),
    #[error("entry {entry}: what a person did is refused when it is done again")]
    Refused {
        entry: usize,
        #[source]
        refused: super::Refused,
    },
    #[error("entry {entry} came out as {found}, and {recorded} was recorded")]
    Differs { entry: usize, recorded: String, found: String },
}

impl Change {
    pub fn between(before: &FleetView, after: &FleetView) -> Self {
        Self {
            devices: difference(&before.devices, &after.devices),
            sites: difference(&before.sites, &after.sites),
            freezes: (before.freezes != after.freezes).then(|| after.freezes.clone()),
            bundle: (before.bundle != after.bundle).then(|| after.bundle.clone()),
            unheard: (before.unheard != after.unheard).then_some(after.unheard),
        }
    }

    pub fn apply(&self, view: &mut FleetView) {
        put(&self.devices, &mut view.devices);
        put(&self.sites, &mut view.sites);
        if let Some(freezes) = &self.freezes {
            view.freezes.clone_from(freezes);
        }
        if let Some(bundle) = &self.bundle {
            view.bundle.clone_from(bundle);
        }
        if let Some(unheard) = self.unheard {
            view.unheard = unheard;
        }
    }
}

fn difference<K: Ord + Clone, V: PartialEq + Clone>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> BTreeMap<K, Option<V>> {
    let changed = after.iter().filter(|(key, value)| before.get(key) != Some(value));
    let gone = before.keys().filter(|key| !after.contains_key(key));
    changed
        .map(|(key, value)| (key.clone(), Some(value.clone())))
        .chain(gone.map(|key| (key.clone(), None)))
        .collect()
}

fn put<K: Ord + Clone, V: Clone>(change: &BTreeMap<K, Option<V>>, into: &mut BTreeMap<K, V>) {
    for (key, value) in change {
        match value {
            Some(value) => into.insert(key.clone(), value.clone()),
            None => into.remove(key),
        };
    }
}

/// The digest that an entry keeps. `changed` are the members that it changed: none, for an act of a person.
pub fn outcome(rollout: &Rollout, changed: &Members) -> Digest {
    // Maps are sorted and floats are written in full, so that equal values have equal texts.
    Digest::of(&serde_json::to_vec(&(rollout, changed)).unwrap_or_default())
}

impl Replay {
    /// Lives through one more entry, and compares; answers what the members that it changed were before.
    pub fn follow(&mut self, entry: &Entry) -> Result<Before, ReplayError> {
        let number = self.entries;
        self.entries += 1;
        let mut changed = Members::new();
        let mut before = Before::new();
        match (&entry.input, &mut self.rollout) {
            (Input::Begun { rollout }, none @ None) => *none = Some(Rollout::clone(rollout)),
            (Input::Begun { .. }, Some(_)) => return Err(ReplayError::BegunTwice(number)),
            (_, None) => return Err(ReplayError::NotBegun(number)),
            (Input::Acted { verb, by, reason }, Some(rollout)) => rollout
                .act(*verb, by.clone(), reason, entry.at)
                .map_err(|refused| ReplayError::Refused { entry: number, refused })?,
            (Input::Looked { change }, Some(rollout)) => {
                change.apply(&mut self.view);
                let answer = advance(rollout, &self.members, &self.view, entry.at);
                let was = |id: &DeviceId| (id.clone(), self.members.get(id).cloned());
                before = answer.members.keys().map(was).collect();
                rollout.apply(&mut self.members, &answer);
                changed = answer.members;
            }
        }
        let Some(rollout) = &self.rollout else { return Err(ReplayError::NotBegun(number)) };
        let found = outcome(rollout, &changed);
        if found != entry.outcome {
            return Err(ReplayError::Differs {
                entry: number,
                recorded: entry.outcome.short(),
                found: found.short(),
            });
        }
        Ok(before)
    }
}
