//! Sums of hours that reports add to: what applications asked of each bundle, and how boxes were.
//!
//! They are written with each batch while nobody waits. While messages do wait they are added up here first, because one row
//! written for many reports costs what it costs for one. Nothing is lost by that: the reports are committed, the number of the
//! last one that is in the sums stands beside the sums, and what came after it is added up again after a crash.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use muster_protocol::ids::DeviceId;
use muster_protocol::message::{Health, ModelStats};
use muster_protocol::time::Timestamp;

use crate::store::health::{self, HealthSums};
use crate::store::stats::{self, HourKey, Sums};
use crate::store::{StoreError, TelemetryTx};

/// Longest time that sums wait while messages do.
const EVERY: Duration = Duration::from_secs(15);
/// Rows that may wait; with more they are written at once.
const OWED_MAX: usize = 100_000;

#[derive(Clone, Debug, Default)]
pub(super) struct Hours {
    models: HashMap<HourKey, Sums>,
    health: HashMap<(DeviceId, Timestamp), HealthSums>,
}

impl Hours {
    pub(super) fn add(
        &mut self,
        device: &DeviceId,
        (from, to): (Timestamp, Timestamp),
        health: &Health,
        models: &[ModelStats],
    ) {
        self.health.entry((device.clone(), health::hour_of(to))).or_default().add(health);
        for model in models {
            let key = (device.clone(), model.slot.clone(), model.bundle, stats::hour_of(from));
            self.models.entry(key).or_default().add(model);
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (key, sums) in other.models {
            self.models.entry(key).or_default().merge(&sums);
        }
        for (key, sums) in other.health {
            self.health.entry(key).or_default().merge(&sums);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.models.is_empty() && self.health.is_empty()
    }

    /// Whether they must be written now, though messages wait.
    pub(super) fn are_due(&self, written: Timestamp, now: Timestamp) -> bool {
        self.models.len() + self.health.len() > OWED_MAX || written.plus(EVERY) <= now
    }

    /// Writes them, as the sums of all reports up to `last_id`.
    pub(super) async fn write(&self, tx: &mut TelemetryTx, last_id: i64) -> Result<(), StoreError> {
        // In the order of their tables, so that neighbours are written together.
        let models: BTreeMap<_, _> = self.models.iter().collect();
        stats::add(tx, models).await?;
        let health = self.health.iter().map(|(key, sums)| (key.clone(), *sums)).collect();
        health::add(tx, &health).await?;
        stats::set_summed(tx, last_id).await
    }
}
