//! Does it answer in time? A limit, not a comparison: the application's deadline does not move.

use muster_protocol::message::report::LATENCY_BOUNDS_US;

use super::{Case, Layer, LayerVerdict, Verdict, devices};

pub(super) fn judge(case: &Case<'_>) -> LayerVerdict {
    let limits = case.limits;
    let layer = LayerVerdict::of(Layer::Latency, "95th percentile of each device against a limit", limits);
    let mut missing = Vec::new();
    let mut slow = 0_usize;
    let mut judged = 0_usize;
    let mut n = 0_u64;
    let mut worst: Option<f64> = None;
    for (id, _, shown) in case.running() {
        let requests: u64 = shown.latency.iter().sum();
        n += requests;
        if requests < limits.latency_requests_min.max(1) {
            missing.push(id.clone());
            continue;
        }
        judged += 1;
        let p95 = p95_ms(&shown.latency);
        worst = Some(worst.map_or(p95, |w| w.max(p95)));
        // The lower edge of the bucket must be beyond the limit: a bucket that holds the limit accuses nobody.
        if p95_floor_ms(&shown.latency) >= limits.latency_p95_ms_max {
            slow += 1;
        }
    }
    let count = |n: usize| super::as_f64(n as u64);
    let layer = LayerVerdict { measured: worst, limit: Some(limits.latency_p95_ms_max), n, ..layer }
        .with_inputs(&[("judged", count(judged)), ("slow", count(slow))]);
    // One slow box may be a slow box; more than half of those judged are the bundle.
    let (verdict, sentence) = if slow * 2 > judged {
        (Verdict::Fail, format!("{slow} of {} answer too slowly", devices(judged)))
    } else if judged == 0 && limits.latency_requests_min == 0 && case.running().count() > 0 {
        return layer.not_asked("nobody has called it, and the plan does not ask for it");
    } else if judged == 0 {
        (
            Verdict::Insufficient,
            format!("no device has answered {} requests yet", limits.latency_requests_min.max(1)),
        )
    } else {
        (
            Verdict::Pass,
            format!("the slowest of {} answers 95 % within {:.1} ms", devices(judged), worst.unwrap_or(0.0)),
        )
    };
    LayerVerdict { verdict, missing, sentence, ..layer }
}

/// Upper edge of the bucket that holds the 95th percentile, milliseconds; the last bucket has none and is shown doubled.
pub fn p95_ms(histogram: &[u64]) -> f64 {
    let bucket = p95_bucket(histogram);
    match LATENCY_BOUNDS_US.get(bucket) {
        Some(&edge) => f64::from(edge) / 1000.0,
        None => f64::from(LATENCY_BOUNDS_US[LATENCY_BOUNDS_US.len() - 1]) * 2.0 / 1000.0,
    }
}

fn p95_floor_ms(histogram: &[u64]) -> f64 {
    match p95_bucket(histogram).checked_sub(1) {
        Some(below) => f64::from(LATENCY_BOUNDS_US[below.min(LATENCY_BOUNDS_US.len() - 1)]) / 1000.0,
        None => 0.0,
    }
}

fn p95_bucket(histogram: &[u64]) -> usize {
    let total: u64 = histogram.iter().sum();
    let rank = (total * 95).div_ceil(100).max(1);
    let mut seen = 0;
    histogram
        .iter()
        .position(|&count| {
            seen += count;
            seen >= rank
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::ask;
    use super::super::{DeviceEvidence, GateLimits, Install};
    use super::*;

    fn check(histograms: &[Vec<u64>], expect: Verdict) {
        let install = Install::Succeeded;
        let shown = |latency: &Vec<u64>| DeviceEvidence {
            install,
            latency: latency.clone(),
            ..DeviceEvidence::default()
        };
        let shown: Vec<_> = histograms.iter().map(shown).collect();
        let verdict = ask(Layer::Latency, &shown, &GateLimits::default()).verdict;
        assert_eq!(verdict, expect, "{histograms:?}");
    }

    #[test]
    fn latencies() {
        let fast = vec![100; 5];
        let mut slow = vec![0; 16];
        slow[15] = 100;
        check(&[], Verdict::Insufficient);
        check(&[vec![10]], Verdict::Insufficient);
        check(std::slice::from_ref(&fast), Verdict::Pass);
        check(std::slice::from_ref(&slow), Verdict::Fail);
        check(&[fast.clone(), fast, slow], Verdict::Pass);
    }

    #[test]
    fn a_plan_may_do_without_calls() {
        let limits = GateLimits { latency_requests_min: 0, ..GateLimits::default() };
        let idle = DeviceEvidence { install: Install::Succeeded, ..DeviceEvidence::default() };
        assert!(!ask(Layer::Latency, &[idle], &limits).applies);
        assert_eq!(ask(Layer::Latency, &[], &limits).verdict, Verdict::Insufficient);
    }

    #[test]
    fn percentiles() {
        assert!((p95_ms(&[95, 5]) - 0.05).abs() < 1e-9);
        assert!((p95_ms(&[94, 6]) - 0.1).abs() < 1e-9);
        assert!(p95_ms(&[]).is_finite());
    }
}
