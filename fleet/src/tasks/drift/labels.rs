//! Looks at the matured labels of a bundle, now and then: sums of all boxes.

use std::time::Duration;

use muster_protocol::ids::Digest;
use muster_protocol::manifest::Manifest;
use muster_protocol::time::Timestamp;

use super::{Group, TaskError, Tasks};
use crate::clock::Moment;
use crate::drift::{LabelSums, Performance, Promise};
use crate::retrain::Policy;
use crate::store::{Store, heads, policies};

/// Real time between two looks at the labels of a bundle: they are sums over the whole fleet.
const EVERY: Duration = Duration::from_secs(5);
/// Days looked back on, besides the horizon.
const DAYS: u32 = 60;

/// How a bundle does, by its labels.
pub async fn performance(
    store: &Store,
    manifest: &Manifest,
    bundle: &Digest,
    horizon: Duration,
    world_now: Timestamp,
) -> Result<Performance, TaskError> {
    let since = world_now.minus(Duration::from_hours(24) * DAYS + horizon).floor_to(Duration::from_hours(24));
    let mut telemetry = store.read_telemetry().await?;
    let labels = heads::labels(&mut telemetry, bundle, since, 1000).await?;
    let predictions = heads::predictions(&mut telemetry, bundle, since, 1000).await?;
    drop(telemetry);
    let mut days: Vec<LabelSums> = predictions
        .iter()
        .map(|(day, rows)| LabelSums { day: *day, predictions: *rows, ..LabelSums::default() })
        .collect();
    for label in labels {
        let at = match days.binary_search_by_key(&label.day, |day| day.day) {
            Ok(at) => at,
            Err(at) => {
                days.insert(at, LabelSums { day: label.day, ..LabelSums::default() });
                at
            }
        };
        days[at] = LabelSums {
            n: label.n,
            label_sum: label.label_sum,
            prediction_sum: label.prediction_sum,
            loss_sum: label.loss_sum,
            loss_sum_sq: label.loss_sum_sq,
            ..days[at]
        };
    }
    Ok(Performance::of(&days, Promise::of(manifest), horizon, world_now))
}

/// World time after which the labels of a model's predictions are in.
pub fn horizon(policy: Option<&Policy>) -> Duration {
    Duration::from_secs(policy.map(|policy| policy.labels).unwrap_or_default().horizon_s)
}

pub(super) async fn look(
    tasks: &Tasks,
    bundle: Digest,
    manifest: &Manifest,
    group: &mut Group,
    moment: Moment,
) -> Result<(), TaskError> {
    if group.labels_looked.is_some_and(|looked| moment.at.since(looked) < EVERY && looked <= moment.at) {
        return Ok(());
    }
    group.labels_looked = Some(moment.at);
    group.labels_unread = true;
    let policy = policies::get::<Policy>(&mut tasks.store.read().await?, &manifest.model).await?;
    let horizon = horizon(policy.as_ref().map(|loaded| &loaded.document));
    let found = performance(&tasks.store, manifest, &bundle, horizon, moment.world_at).await?.finding();
    group.labels_unread = false;
    group.changed |= found != group.performance;
    group.performance = found;
    Ok(())
}
