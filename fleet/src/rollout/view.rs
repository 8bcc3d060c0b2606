//! What the engine sees of the world: the fleet as reported, for one slot and one bundle. Unknown is a state of its own.

use std::collections::BTreeMap;

use muster_protocol::ids::{DeviceId, SiteName};
use muster_protocol::message::up::BundleRef;

use super::Cause;
use crate::gate::DeviceEvidence;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct FleetView {
    pub devices: BTreeMap<DeviceId, DeviceView>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DeviceView {
    pub name: String,
    pub site: SiteName,
    pub online: bool,
    /// What its newest order wants in the slot.
    pub wish: Option<BundleRef>,
    /// What it last proved to run in the slot.
    pub current: Option<BundleRef>,
    /// What it is doing about its wish.
    pub doing: Doing,
    /// What it has shown of the bundle under test.
    pub evidence: DeviceEvidence,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Doing {
    /// It has not answered its newest order yet.
    Unknown,
    Nothing,
    /// Downloading, verifying, testing: the step in words.
    Working {
        bundle: BundleRef,
        step: String,
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

impl Doing {
    /// Whether the device is on its way to `bundle`, or has not said anything since its newest order.
    pub fn is_about(&self, bundle: &BundleRef) -> bool {
        match self {
            Self::Unknown => true,
            Self::Working { bundle: at_work, .. } => at_work == bundle,
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
            | Self::Failed { .. }
            | Self::Refusing { .. } => None,
        }
    }
}
