//! What never falls: the time it is at least, and the newest order accepted.

use std::time::Duration;

use muster_protocol::time::Timestamp;
use muster_protocol::trust::author::{TIMESTAMP_LIFE, TIMESTAMP_PERIOD};
use muster_protocol::trust::{KeyId, Role, TrustedSet};
use serde::{Deserialize, Serialize};

/// A day less than a timestamp lives: even one signed only now is then still good.
const REACH: Duration = TIMESTAMP_LIFE.saturating_sub(TIMESTAMP_PERIOD);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Floor {
    /// It cannot be earlier than this. A box whose clock says 1970 knows better from it.
    pub(super) time: Timestamp,
    /// When the newest verified timestamp was signed.
    #[serde(default)]
    pub(super) issued: Timestamp,
    pub(super) order_version: u64,
    /// The order keys under which `order_version` was reached.
    pub(super) order_keys: Vec<KeyId>,
}

impl Floor {
    pub(super) const FILE: &'static str = "floor.json";

    pub(super) fn issued(&self, at: Timestamp) -> Self {
        Self { time: self.time.max(at), issued: self.issued.max(at), ..self.clone() }
    }

    /// What of it outlives the keys: the time.
    pub(super) fn of_time(&self) -> Self {
        Self { time: self.time, issued: self.issued, ..Self::default() }
    }

    /// The machine's clock, for which somebody vouches. Time on a network is seldom signed, and a floor never falls: so
    /// it may rise no further above the newest signature than a fresh timestamp reaches. Whoever forges the time of the
    /// network can make this box wait for the next signature, and no longer.
    pub(super) fn witnessed(&self, at: Timestamp, earliest: Timestamp) -> Self {
        let trusted = self.issued.max(earliest);
        Self { time: self.time.max(at.min(trusted.plus(REACH))), ..self.clone() }
    }

    pub(super) fn with_order(&self, version: u64, trusted: &TrustedSet) -> Self {
        Self { order_version: version, order_keys: order_keys(trusted), ..self.clone() }
    }

    /// Other order keys count anew: so a fleet recovers from a thief who signed a version far ahead.
    pub(super) fn order_version(&self, trusted: &TrustedSet) -> u64 {
        if self.order_keys == order_keys(trusted) { self.order_version } else { 0 }
    }
}

fn order_keys(trusted: &TrustedSet) -> Vec<KeyId> {
    trusted.keys(Role::Order).into_keys().collect()
}
