//! What does not fall while the keys hold under which it rose: the time it is at least, and the newest order accepted.
//!
//! A root that replaces *all* those keys lets it start anew: that is how a fleet recovers from a thief who signed next
//! year, or a version far ahead. While one of them is still good the floor stays, for with it stay the old orders that
//! this key signed, and whoever recorded them could play them again.

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
    /// The timestamp keys under which `time` and `issued` were reached.
    #[serde(default)]
    pub(super) time_keys: Vec<KeyId>,
    pub(super) order_version: u64,
    /// The order keys under which `order_version` was reached.
    pub(super) order_keys: Vec<KeyId>,
}

impl Floor {
    pub(super) const FILE: &'static str = "floor.json";

    /// What of it still holds.
    pub(super) fn under(&self, trusted: &TrustedSet) -> Self {
        let replaced = |reached_under: &[KeyId], role| {
            let now = trusted.keys(role);
            !reached_under.iter().any(|key| now.contains_key(key))
        };
        let mut floor = self.clone();
        if replaced(&self.time_keys, Role::Timestamp) {
            floor =
                Self { order_version: floor.order_version, order_keys: floor.order_keys, ..Self::default() };
        }
        if replaced(&self.order_keys, Role::Order) {
            floor = floor.of_time();
        }
        floor
    }

    pub(super) fn issued(&self, at: Timestamp, trusted: &TrustedSet) -> Self {
        Self { issued: self.issued.max(at), ..self.with_time(at, trusted) }
    }

    /// What of it outlives the order keys: the time.
    pub(super) fn of_time(&self) -> Self {
        let Self { time, issued, time_keys, .. } = self.clone();
        Self { time, issued, time_keys, ..Self::default() }
    }

    /// The machine's clock, for which somebody vouches. Time on a network is seldom signed, and this floor stays: so it
    /// may rise no further above the newest signature than a fresh timestamp reaches. Whoever forges the time of the
    /// network can make this box wait for the next signature, and no longer.
    pub(super) fn witnessed(&self, at: Timestamp, earliest: Timestamp, trusted: &TrustedSet) -> Self {
        let signed = self.issued.max(earliest);
        self.with_time(at.min(signed.plus(REACH)), trusted)
    }

    fn with_time(&self, at: Timestamp, trusted: &TrustedSet) -> Self {
        Self { time: self.time.max(at), time_keys: keys(trusted, Role::Timestamp), ..self.clone() }
    }

    pub(super) fn with_order(&self, version: u64, trusted: &TrustedSet) -> Self {
        Self { order_version: version, order_keys: keys(trusted, Role::Order), ..self.clone() }
    }
}

fn keys(trusted: &TrustedSet, role: Role) -> Vec<KeyId> {
    trusted.keys(role).into_keys().collect()
}
