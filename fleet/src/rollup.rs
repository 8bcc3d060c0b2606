//! What many reports of one box say together: lowest, mean and highest of its health, sums of its requests.
//!
//! Rollups add in any order and any grouping, so that five minutes add up to hours, and what came late is added where it
//! belongs. Decides nothing and touches nothing.

use std::time::Duration;

use muster_protocol::message::report::LATENCY_BOUNDS_US;
use muster_protocol::message::{Health, ModelStats};
use serde::{Deserialize, Serialize};

/// Counts by [`LATENCY_BOUNDS_US`] and one more.
pub const LATENCY_BUCKETS: usize = LATENCY_BOUNDS_US.len() + 1;

/// How long the spans are that reports are added up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    FiveMinutes,
    Hour,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rollup {
    pub reports: u32,
    pub cpu_percent: Spread,
    pub memory_percent: Spread,
    /// Of the boxes that have a sensor.
    pub temperature_c: Spread,
    pub disk_free_bytes: Spread,
    pub agent_rss_bytes: Spread,
    pub requests: u64,
    pub failures: u64,
    /// Counts by [`LATENCY_BOUNDS_US`] and one more; trailing zeros are left out.
    pub latency: Vec<u64>,
}

/// Of values that were seen: how many, the lowest, the highest, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    n: u32,
    min: f32,
    max: f32,
    sum: f64,
}

/// How much of something is kept: whichever bound is met first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    pub bytes: u64,
    pub age: Duration,
}

/// How much is kept of reports and of what they add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub reports: Bound,
    pub five_minutes: Bound,
    pub hours: Bound,
}

impl Default for Retention {
    /// Chosen for 10,000 boxes that report twice a minute.
    fn default() -> Self {
        let days = |n: u64| Duration::from_hours(n * 24);
        Self {
            reports: Bound { bytes: 2_400_000_000, age: Duration::from_hours(6) },
            five_minutes: Bound { bytes: 6_000_000_000, age: days(14) },
            hours: Bound { bytes: 12_000_000_000, age: days(400) },
        }
    }
}

impl Step {
    pub fn span(self) -> Duration {
        match self {
            Self::FiveMinutes => Duration::from_mins(5),
            Self::Hour => Duration::from_hours(1),
        }
    }
}

impl Rollup {
    pub fn of(health: &Health, models: &[ModelStats]) -> Self {
        let mut rollup = Self {
            reports: 1,
            cpu_percent: Spread::of(f64::from(health.cpu_percent)),
            disk_free_bytes: Spread::of(double(health.disk_free_bytes)),
            agent_rss_bytes: Spread::of(double(health.agent_rss_bytes)),
            temperature_c: health.temperature_c.map_or_else(Spread::default, |c| Spread::of(f64::from(c))),
            ..Self::default()
        };
        if health.memory_total_bytes > 0 {
            let share = double(health.memory_used_bytes) / double(health.memory_total_bytes);
            rollup.memory_percent = Spread::of(share * 100.0);
        }
        for model in models {
            rollup.requests = rollup.requests.saturating_add(model.requests);
            rollup.failures = rollup.failures.saturating_add(model.failures);
            add_counts(&mut rollup.latency, model.latency.iter().map(|count| u64::from(*count)));
        }
        rollup
    }

    pub fn add(&mut self, other: &Self) {
        self.reports = self.reports.saturating_add(other.reports);
        self.cpu_percent.add(&other.cpu_percent);
        self.memory_percent.add(&other.memory_percent);
        self.temperature_c.add(&other.temperature_c);
        self.disk_free_bytes.add(&other.disk_free_bytes);
        self.agent_rss_bytes.add(&other.agent_rss_bytes);
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        add_counts(&mut self.latency, other.latency.iter().copied());
    }

    /// Upper bound of the bucket that holds the 95th percentile; absent without requests.
    pub fn p95_us(&self) -> Option<u32> {
        let total = self.latency.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
        let rank = total.saturating_sub(total / 20);
        let mut seen = 0_u64;
        let bucket = self.latency.iter().position(|count| {
            seen = seen.saturating_add(*count);
            total > 0 && seen >= rank
        })?;
        // What is slower than the last bound is shown as that bound: it is a lower one there.
        LATENCY_BOUNDS_US.get(bucket).or(LATENCY_BOUNDS_US.last()).copied()
    }
}

impl Spread {
    /// Of one value; of none if it is not a number, as a broken sensor says it.
    pub fn of(value: f64) -> Self {
        if !value.is_finite() {
            return Self::default();
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "24 bits are more than any of these figures is worth"
        )]
        let shown = value as f32;
        Self { n: 1, min: shown, max: shown, sum: value }
    }

    pub fn add(&mut self, other: &Self) {
        if other.n == 0 {
            return;
        }
        if self.n == 0 {
            *self = *other;
            return;
        }
        self.n = self.n.saturating_add(other.n);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
    }

    /// Lowest, mean and highest; absent if nothing was seen.
    pub fn values(&self) -> Option<(f64, f64, f64)> {
        (self.n > 0).then(|| (f64::from(self.min), self.sum / f64::from(self.n), f64::from(self.max)))
    }
}

fn add_counts(sum: &mut Vec<u64>, counts: impl Iterator<Item = u64>) {
    for (bucket, count) in counts.enumerate().take(LATENCY_BUCKETS).filter(|(_, count)| *count > 0) {
        if sum.len() <= bucket {
            sum.resize(bucket + 1, 0);
        }
        if let Some(slot) = sum.get_mut(bucket) {
            *slot = slot.saturating_add(count);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a machine fit 53 bits")]
fn double(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use muster_protocol::ids::Digest;
    use proptest::prelude::*;

    use super::*;

    fn one(cpu: u16, temperature: Option<u16>, latency: Vec<u32>) -> Rollup {
        let health = Health {
            cpu_percent: f32::from(cpu),
            memory_used_bytes: u64::from(cpu),
            memory_total_bytes: 1 << 20,
            disk_free_bytes: u64::from(cpu) << 30,
            agent_rss_bytes: 5,
            temperature_c: temperature.map(f32::from),
            ..Health::default()
        };
        let requests = latency.iter().map(|n| u64::from(*n)).sum();
        let stats = ModelStats {
            slot: "er".parse().unwrap(),
            bundle: Digest::of(b""),
            requests,
            rows: requests,
            failures: 1,
            refused: 0,
            latency,
        };
        Rollup::of(&health, &[stats])
    }

    fn sum<'a>(parts: impl IntoIterator<Item = &'a Rollup>) -> Rollup {
        let mut sum = Rollup::default();
        parts.into_iter().for_each(|part| sum.add(part));
        sum
    }

    #[test]
    fn lowest_mean_highest() {
        let all = sum(&[one(10, None, vec![]), one(20, Some(60), vec![94]), one(60, Some(80), vec![0, 6])]);
        assert_eq!(all.cpu_percent.values(), Some((10.0, 30.0, 60.0)));
        assert_eq!(all.temperature_c.values(), Some((60.0, 70.0, 80.0)));
        assert_eq!((all.reports, all.requests, all.failures, all.p95_us()), (3, 100, 3, Some(100)));
        assert_eq!(Rollup::default().p95_us(), None);
        assert_eq!(Spread::of(f64::NAN).values(), None);
    }

    #[test]
    fn percentiles_are_bucket_bounds() {
        let check = |latency: &[u32], expect: Option<u32>| {
            assert_eq!(one(1, None, latency.to_vec()).p95_us(), expect, "{latency:?}");
        };
        check(&[], None);
        check(&[0, 0, 0], None);
        check(&[100], Some(50));
        check(&[94, 6], Some(100));
        check(&[95, 5], Some(50));
        check(&[0; 15].iter().copied().chain([9]).collect::<Vec<_>>(), Some(819_200));
    }

    fn reports() -> impl Strategy<Value = Vec<Rollup>> {
        let latency = prop::collection::vec(0..100_u32, 0..=LATENCY_BUCKETS);
        let report = (0..100_u16, prop::option::of(0..90_u16), latency);
        prop::collection::vec(report.prop_map(|(cpu, c, latency)| one(cpu, c, latency)), 0..12)
    }

    proptest! {
        #[test]
        fn grouping_and_order_do_not_matter(all in reports(), cut in 0..12_usize) {
            let (early, late) = all.split_at(cut.min(all.len()));
            let backwards: Vec<&Rollup> = all.iter().rev().collect();
            prop_assert_eq!(sum([&sum(early), &sum(late)]), sum(&all));
            prop_assert_eq!(sum(backwards), sum(&all));
        }
    }
}
