//! Drift as a qualifier, not as a judge: where a device's inputs are no longer those of the time before, what is
//! measured on them vouches for nothing. It can still condemn: a failure on the same patients is a failure.

use super::{DeviceEvidence, Inputs};

pub(super) fn say_little(shown: &DeviceEvidence) -> bool {
    match shown.inputs {
        Inputs::Drifting => true,
        Inputs::Unknown | Inputs::Quiet => false,
    }
}
