//! Sums that reports add to: hours of what applications asked of each bundle and of how boxes were, windows of counts, and
//! days of labels and of shadows.
//!
//! They are written with each batch while nobody waits. While messages do wait they are added up here first, because one row
//! written for many reports costs what it costs for one. Nothing is lost by that: the reports are committed with what they
//! measured, the number of the last one that is in the sums stands beside the sums, and what came after it is added up again
//! after a crash.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use muster_protocol::ids::DeviceId;
use muster_protocol::message::{Health, LabelBlock, ModelStats, ShadowBlock};
use muster_protocol::time::Timestamp;

use crate::store::health::{self, HealthSums};
use crate::store::panes::{self, Windows};
use crate::store::reports::Measured;
use crate::store::stats::{self, HourKey, Sums};
use crate::store::{StoreError, TelemetryTx, labels, shadows};

/// Longest time that sums wait while messages do: two reports' worth of a box that is not late.
const EVERY: Duration = Duration::from_mins(1);
/// Rows that may wait; with more they are written at once.
const ROWS_MAX: usize = 200_000;
/// Numbers in windows that may: 64 MiB of them.
const NUMBERS_MAX: usize = 8 << 20;

#[derive(Clone, Debug, Default)]
pub(super) struct Owed {
    models: HashMap<HourKey, Sums>,
    health: HashMap<(DeviceId, Timestamp), HealthSums>,
    windows: Windows,
    labels: Vec<(DeviceId, LabelBlock)>,
    shadows: Vec<(DeviceId, ShadowBlock)>,
}

impl Owed {
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

    pub(super) fn measured(&mut self, device: &DeviceId, measured: Measured) {
        let Measured { panes, labels, shadows } = measured;
        for pane in panes {
            self.windows.add(device, pane);
        }
        self.labels.extend(labels.into_iter().map(|block| (device.clone(), block)));
        self.shadows.extend(shadows.into_iter().map(|block| (device.clone(), block)));
    }

    pub(super) fn merge(&mut self, other: Self) {
        let Self { models, health, windows, labels, shadows } = other;
        for (key, sums) in models {
            self.models.entry(key).or_default().merge(&sums);
        }
        for (key, sums) in health {
            self.health.entry(key).or_default().merge(&sums);
        }
        self.windows.merge(windows);
        self.labels.extend(labels);
        self.shadows.extend(shadows);
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self { models, health, windows, labels, shadows } = self;
        let no_hours = models.is_empty() && health.is_empty();
        no_hours && windows.is_empty() && labels.is_empty() && shadows.is_empty()
    }

    /// Whether they must be written now, though messages wait.
    pub(super) fn are_due(&self, written: Timestamp, now: Timestamp) -> bool {
        let rows = self.models.len() + self.health.len() + self.labels.len() + self.shadows.len();
        rows > ROWS_MAX || self.windows.numbers() > NUMBERS_MAX || written.plus(EVERY) <= now
    }

    /// Writes them, as the sums of all reports up to `last_id`. Returns how many panes do not fit those before them.
    pub(super) async fn write(
        &self,
        tx: &mut TelemetryTx,
        last_id: i64,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        // In the order of their tables, so that neighbours are written together.
        let models: BTreeMap<_, _> = self.models.iter().collect();
        stats::add(tx, models).await?;
        let health = self.health.iter().map(|(key, sums)| (key.clone(), *sums)).collect();
        health::add(tx, &health).await?;
        let unfit = panes::add(tx, &self.windows, at).await?;
        labels::add(tx, &self.labels).await?;
        shadows::add(tx, &self.shadows).await?;
        stats::set_summed(tx, last_id).await?;
        Ok(unfit)
    }
}
