//! What the engine sees of the world: the fleet as reported, for one slot and one bundle. Unknown is a state of its own.

use std::collections::BTreeMap;

use muster_protocol::ids::{DeviceId, RolloutId, SiteName, TagValue};
use muster_protocol::message::up::{BundleRef, ReadyFor};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::AgentVersion;
use serde::{Deserialize, Serialize};

use super::filter::{Tags, Traits};
use super::hardware::Hardware;
use super::mark::MarkedSite;
use super::site::{Freeze, Lease, SiteView};
use super::{Asked, Cause, Rollout};
use crate::gate::{DeviceEvidence, Stratum};

/// The tag that names a redundancy group: of its boxes one at most is interrupted at a time.
pub const GROUP_TAG: &str = "redundancy";

/// The tag, and its value, that keeps a box out of every rollout.
pub const OPT_OUT: (&str, &str) = ("rollouts", "off");

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetView {
    pub devices: BTreeMap<DeviceId, DeviceView>,
    /// A site that is missing here has the rules of [`SiteView::default`].
    pub sites: BTreeMap<SiteName, SiteView>,
    pub freezes: Vec<Freeze>,
    /// What the catalogue says of the rollout's bundle now.
    pub bundle: BundleStanding,
    /// What devices show cannot be read: what is known of it may be old. Nothing goes on upon that, but every way back does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unheard: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum BundleStanding {
    #[default]
    Catalogued,
    /// No longer listed: it runs on where it runs, and nobody else can be ordered to run it.
    Yanked,
    Revoked {
        reason: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    pub name: String,
    pub site: MarkedSite,
    pub tags: Tags,
    pub hardware: Hardware,
    pub agent: Option<AgentVersion>,
    pub online: bool,
    /// An operator has set it apart: it counts as away, and that says nothing of what it runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quarantined: bool,
    /// Since when it is there, or away.
    pub presence_since: Timestamp,
    /// What its newest order wants in the slot.
    pub wish: Option<BundleRef>,
    /// What it last proved to run in the slot.
    pub current: Option<BundleRef>,
    /// Where a way back from another bundle leads; `None`: to what it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_back: Option<BundleRef>,
    /// What it is doing about its wish.
    pub doing: Doing,
    /// Why it cannot be ordered the bundle: wrong hardware, or an agent too old.
    pub unfit: Option<Box<Cause>>,
    /// The bundle failed there before, in whatever rollout.
    pub bad: Option<Box<Cause>>,
    pub claim: Claim,
    /// It is being interrupted for another slot.
    pub busy_elsewhere: bool,
    /// How far another rollout of the slot has come with it.
    #[serde(default, skip_serializing_if = "Beside::is_nothing")]
    pub beside: Beside,
    /// Leases on this box alone, its own application's among them.
    pub leases: Vec<Lease>,
    /// What it has shown of the bundle under test, or, before it has it, of itself.
    pub evidence: Box<DeviceEvidence>,
}

/// Which rollout of the slot the device belongs to now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Claim {
    /// No other rollout wants it.
    #[default]
    Free,
    /// One of higher priority has it; when that ends, it is ours if ours is the newer.
    Behind { rollout: RolloutId },
    /// A newer one of the same priority or a higher has it: what that hands out must not be taken back by us.
    Superseded { rollout: RolloutId },
}

/// Where a device stands in another rollout of the slot, as far as its partners and its site are concerned. The order is
/// that of [`Progress`](super::Progress).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beside {
    #[default]
    Nothing,
    Offered,
    Ready,
    Permitted,
    Activated,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Doing {
    /// It has not answered its newest order yet.
    Unknown,
    Nothing,
    /// Downloading, verifying, testing: the step in words.
    Working {
        bundle: BundleRef,
        step: String,
    },
    /// Fetched, verified and tested; it waits for its moment.
    Ready {
        bundle: BundleRef,
        waits_for: ReadyFor,
    },
    Failed {
        bundle: BundleRef,
        cause: Cause,
    },
    /// It refuses the order itself.
    Refusing {
        cause: Cause,
    },
}

impl DeviceView {
    /// A device of which nothing is known but that it is there.
    pub fn at(site: SiteName) -> Self {
        Self {
            name: String::new(),
            site: site.into(),
            tags: Tags::new(),
            hardware: Hardware::default(),
            agent: None,
            online: true,
            quarantined: false,
            presence_since: Timestamp::default(),
            wish: None,
            current: None,
            way_back: None,
            doing: Doing::Nothing,
            unfit: None,
            bad: None,
            claim: Claim::Free,
            busy_elsewhere: false,
            beside: Beside::Nothing,
            leases: Vec::new(),
            evidence: Box::default(),
        }
    }

    pub fn traits<'a>(&'a self, id: &'a DeviceId) -> Traits<'a> {
        Traits {
            id,
            name: &self.name,
            site: &self.site,
            hardware: &self.hardware,
            agent: self.agent,
            tags: &self.tags,
        }
    }

    /// Its site and its most telling hardware class: what canaries are drawn and compared by.
    pub fn stratum(&self) -> Stratum {
        Stratum { site: Some(SiteName::clone(&self.site)), hardware: self.hardware.telling().to_owned() }
    }

    /// Whether what its order wants is still what the rollout asked for, and no newer one's to change.
    pub fn is_still_of(&self, rollout: &Rollout) -> bool {
        let is_wish = self.wish.as_ref().is_some_and(|wish| rollout.leads_over(wish));
        is_wish && !matches!(self.claim, Claim::Superseded { .. })
    }

    /// Whether its order still wants what it did before it was asked for `target`: the order to run that could not be made.
    pub fn is_untold(&self, asked: &Asked, target: &BundleRef) -> bool {
        let is_before = self.wish.is_none() || self.wish == asked.from;
        is_before && self.wish.as_ref() != Some(target)
    }

    /// Whether it carries this tag with this value.
    pub fn has(&self, (tag, value): (&str, &str)) -> bool {
        self.tags.iter().any(|(name, found)| name.as_str() == tag && found.as_str() == value)
    }

    /// The redundancy group it belongs to.
    pub fn group(&self) -> Option<&TagValue> {
        self.tags.iter().find(|(name, _)| name.as_str() == GROUP_TAG).map(|(_, value)| value)
    }
}

impl Beside {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }

    /// As [`Progress::is_in_flight`](super::Progress::is_in_flight).
    pub fn is_in_flight(self) -> bool {
        matches!(self, Self::Offered | Self::Permitted)
    }

    /// It was told to wait.
    pub fn waits(self) -> bool {
        matches!(self, Self::Offered | Self::Ready)
    }

    /// It may switch, or has done so and is not proven yet.
    pub fn changes(self) -> bool {
        matches!(self, Self::Permitted | Self::Activated)
    }
}

impl Doing {
    /// Whether the device is on its way to `bundle`, or has not said anything since its newest order.
    pub fn is_about(&self, bundle: &BundleRef) -> bool {
        match self {
            Self::Unknown => true,
            Self::Working { bundle: at_work, .. } | Self::Ready { bundle: at_work, .. } => at_work == bundle,
            Self::Nothing | Self::Failed { .. } | Self::Refusing { .. } => false,
        }
    }

    /// Why the device could not have `bundle`, if it says so.
    pub fn failure_of(&self, bundle: &BundleRef) -> Option<&Cause> {
        match self {
            Self::Failed { bundle: failed, cause } if failed == bundle => Some(cause),
            Self::Unknown
            | Self::Nothing
            | Self::Working { .. }
            | Self::Ready { .. }
            | Self::Failed { .. }
            | Self::Refusing { .. } => None,
        }
    }
}
