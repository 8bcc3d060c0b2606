//! What never falls: the time it is at least, and the newest order accepted.

use muster_protocol::time::Timestamp;
use muster_protocol::trust::{KeyId, Role, TrustedSet};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Floor {
    /// When the newest verified timestamp was signed. A box whose clock says 1970 knows better from it.
    pub(super) time: Timestamp,
    pub(super) order_version: u64,
    /// The order keys under which `order_version` was reached.
    pub(super) order_keys: Vec<KeyId>,
}

impl Floor {
    pub(super) const FILE: &'static str = "floor.json";

    pub(super) fn at_least(&self, time: Timestamp) -> Self {
        Self { time: self.time.max(time), ..self.clone() }
    }

    pub(super) fn with_order(&self, version: u64, trusted: &TrustedSet) -> Self {
        Self { time: self.time, order_version: version, order_keys: order_keys(trusted) }
    }

    /// Other order keys count anew: so a fleet recovers from a thief who signed a version far ahead.
    pub(super) fn order_version(&self, trusted: &TrustedSet) -> u64 {
        if self.order_keys == order_keys(trusted) { self.order_version } else { 0 }
    }
}

fn order_keys(trusted: &TrustedSet) -> Vec<KeyId> {
    trusted.keys(Role::Order).into_keys().collect()
}
