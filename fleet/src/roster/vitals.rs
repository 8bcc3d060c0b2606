//! How a box changed: its hours before it was given the bundle beside its hours since, for the gate's rises.
//!
//! The hour of the change itself belongs to neither side. A box without the bundle is compared around the moment at which
//! the stage opened, so that what happens to everybody shows in both.

use std::time::Duration;

use muster_protocol::ids::DeviceId;
use muster_protocol::message::report::LATENCY_BOUNDS_US;
use muster_protocol::time::Timestamp;

use super::Result;
use crate::gate::{Shift, Vitals};
use crate::rollout::{Member, Rollout};
use crate::store::{Telemetry, health, stats};

const HOUR: Duration = Duration::from_hours(1);
/// How long before the change counts as before: a whole day, so that a night is not laid beside a noon only.
const BEFORE: Duration = Duration::from_hours(24);
/// Answers that an hour's percentile needs.
const REQUESTS_MIN: u64 = 20;

/// Nothing where no stage's gate asks for it: reading it costs two queries a device.
pub(super) async fn vitals(
    telemetry: &mut Telemetry,
    rollout: &Rollout,
    device: &DeviceId,
    member: Option<&Member>,
) -> Result<Vitals> {
    let asked = rollout.plan.stages.iter().any(|stage| {
        let gate = &stage.gate;
        let rises = [gate.latency_rise_ms_max, gate.memory_rise_mib_max, gate.temperature_rise_c_max];
        rises.iter().any(Option::is_some)
    });
    let activated = member.and_then(|member| member.progress.activated());
    let opened = rollout.record().and_then(|record| record.opened);
    let (true, Some(changed)) = (asked, activated.or(opened)) else { return Ok(Vitals::default()) };
    let since = changed.minus(BEFORE);
    let told = health::hours(telemetry, device, since).await?;
    let answered = stats::of_device(telemetry, device, &rollout.slot, since).await?;
    let memory = told.iter().map(|hour| (hour.hour, hour.memory_mib));
    let temperature = told.iter().filter_map(|hour| Some((hour.hour, hour.temperature_c?)));
    let latency = answered.iter().filter_map(|(hour, latency)| Some((*hour, p95_ms(latency)?)));
    Ok(Vitals {
        latency_ms: shift(latency, changed),
        memory_mib: shift(memory, changed),
        temperature_c: shift(temperature, changed),
    })
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
