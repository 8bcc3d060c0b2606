//! How a box changed: its hours before it was given the bundle beside its hours since, for the gate's rises.
//!
//! The hour of the change itself belongs to neither side. A box without the bundle is compared around the moment at which
//! the stage opened, so that what happens to everybody shows in both.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::ids::DeviceId;
use muster_protocol::message::report::LATENCY_BOUNDS_US;
use muster_protocol::time::Timestamp;

use super::Result;
use crate::gate::{Shift, Vitals};
use crate::rollout::{Members, Rollout};
use crate::store::{Telemetry, health, stats};

const HOUR: Duration = Duration::from_hours(1);
/// How long before the change counts as before: a whole day, so that a night is not laid beside a noon only.
const BEFORE: Duration = Duration::from_hours(24);
/// Answers that an hour's percentile needs.
const REQUESTS_MIN: u64 = 20;

/// Of devices of which anything is known; of nobody where no stage's gate asks for it.
pub(super) async fn vitals(
    telemetry: &mut Telemetry,
    rollout: &Rollout,
    members: &Members,
    devices: &[&DeviceId],
) -> Result<BTreeMap<DeviceId, Vitals>> {
    let opened = rollout.record().and_then(|record| record.opened);
    let changed = |device: &DeviceId| {
        let activated = members.get(device).and_then(|member| member.progress.activated());
        activated.or(opened)
    };
    let mut sides: BTreeMap<&DeviceId, Sides> =
        devices.iter().filter_map(|device| Some((*device, Sides::of(changed(device)?)))).collect();
    let Some(since) = sides.values().map(|sides| sides.since).min() else { return Ok(BTreeMap::new()) };
    if !is_asked(rollout) {
        return Ok(BTreeMap::new());
    }
    let asked: Vec<&DeviceId> = sides.keys().copied().collect();
    for hour in health::hours(telemetry, &asked, since).await? {
        let Some(sides) = sides.get_mut(&hour.device) else { continue };
        sides.memory_mib.push((hour.hour, hour.memory_mib));
        sides.temperature_c.extend(hour.temperature_c.map(|celsius| (hour.hour, celsius)));
    }
    for hour in stats::latency(telemetry, &asked, &rollout.slot, since).await? {
        let Some(sides) = sides.get_mut(&hour.device) else { continue };
        sides.latency_ms.extend(p95_ms(&hour.latency).map(|ms| (hour.hour, ms)));
    }
    Ok(sides.into_iter().map(|(device, sides)| (device.clone(), sides.vitals())).collect())
}

fn is_asked(rollout: &Rollout) -> bool {
    rollout.plan.stages.iter().any(|stage| {
        let gate = &stage.gate;
        let rises = [gate.latency_rise_ms_max, gate.memory_rise_mib_max, gate.temperature_rise_c_max];
        rises.iter().any(Option::is_some)
    })
}

/// A device's hours on both sides of its change.
#[derive(Debug)]
struct Sides {
    changed: Timestamp,
    since: Timestamp,
    latency_ms: Vec<(Timestamp, f64)>,
    memory_mib: Vec<(Timestamp, f64)>,
    temperature_c: Vec<(Timestamp, f64)>,
}

impl Sides {
    fn of(changed: Timestamp) -> Self {
        let since = changed.minus(BEFORE).floor_to(HOUR);
        let (latency_ms, memory_mib, temperature_c) = Default::default();
        Self { changed, since, latency_ms, memory_mib, temperature_c }
    }

    fn vitals(self) -> Vitals {
        // Devices are asked about together, so that some are told of more hours than theirs.
        let shift = |hours: Vec<(Timestamp, f64)>| {
            shift(hours.into_iter().filter(|(hour, _)| *hour >= self.since), self.changed)
        };
        Vitals {
            latency_ms: shift(self.latency_ms),
            memory_mib: shift(self.memory_mib),
            temperature_c: shift(self.temperature_c),
        }
    }
}

/// The median of the whole hours before the change, and of those since. Nothing if a side has none.
fn shift(hours: impl Iterator<Item = (Timestamp, f64)>, changed: Timestamp) -> Option<Shift> {
    let (mut before, mut since) = (Vec::new(), Vec::new());
    for (hour, value) in hours {
        if hour.plus(HOUR) <= changed {
            before.push(value);
        } else if hour >= changed {
            since.push(value);
        }
    }
    Some(Shift { before: median(before)?, since: median(since)? })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The upper bound of the bucket that holds the 95th percentile, milliseconds; beyond the last bound, twice that.
fn p95_ms(latency: &[u64]) -> Option<f64> {
    let n: u64 = latency.iter().sum();
    if n < REQUESTS_MIN {
        return None;
    }
    let rank = n - n / 20;
    let mut below = 0;
    let at = latency.iter().position(|count| {
        below += count;
        below >= rank
    })?;
    let last = LATENCY_BOUNDS_US.last().copied().unwrap_or(0);
    let bound = LATENCY_BOUNDS_US.get(at).copied().unwrap_or(last.saturating_mul(2));
    Some(f64::from(bound) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(n: i64) -> Timestamp {
        Timestamp::from_seconds(n * 3600)
    }

    #[test]
    fn the_hour_of_the_change_belongs_to_neither_side() {
        let hours = [(0, 10.0), (1, 12.0), (2, 11.0), (3, 99.0), (4, 20.0), (5, 22.0), (6, 21.0)];
        let hours = hours.map(|(n, value)| (hour(n), value));
        let changed = hour(3).plus(Duration::from_mins(20));
        assert_eq!(shift(hours.into_iter(), changed), Some(Shift { before: 11.0, since: 21.0 }));
        assert_eq!(shift(hours[..4].iter().copied(), changed), None, "nothing was told since");
        assert_eq!(shift(hours[3..].iter().copied(), changed), None, "nothing was told before");
    }

    #[test]
    fn a_percentile_is_its_buckets_bound() {
        let mut latency = vec![0; LATENCY_BOUNDS_US.len() + 1];
        latency[0] = 19;
        assert_eq!(p95_ms(&latency), None, "too few to tell");
        latency[3] = 1;
        assert_eq!(p95_ms(&latency), Some(0.05));
        latency[3] = 19;
        assert_eq!(p95_ms(&latency), Some(0.4));
        latency[LATENCY_BOUNDS_US.len()] = 1000;
        assert_eq!(p95_ms(&latency), Some(1638.4));
    }
}
