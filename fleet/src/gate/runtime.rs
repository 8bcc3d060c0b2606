//! Layer 2: does it keep answering? Failed hours per device-hour of exposure, so that every hour counts, good or bad.

use muster_protocol::ids::DeviceId;

use super::{DeviceEvidence, GateLimits, Install, Layer, LayerVerdict, Verdict, eprocess};

pub(super) fn judge(evidence: &[(DeviceId, DeviceEvidence)], limits: &GateLimits) -> LayerVerdict {
    let running = || evidence.iter().filter(|(_, device)| device.install == Install::Succeeded);
    let hours: f64 = running().map(|(_, device)| device.hours).sum();
    let failed: f64 = running().map(|(_, device)| device.failed_hours).sum();
    let log_e = eprocess::poisson(failed, hours, limits.runtime_failures_per_hour_baseline);
    let limit = (1.0 / limits.alpha).ln();
    let missing: Vec<DeviceId> =
        running().filter(|(_, d)| d.hours <= 0.0).map(|(id, _)| id.clone()).collect();
    let (verdict, sentence) = if log_e >= limit {
        (Verdict::Fail, format!("it failed to answer in {failed:.0} of {hours:.1} device-hours"))
    } else if hours <= 0.0 {
        (Verdict::Insufficient, "no exposure yet".to_owned())
    } else {
        (Verdict::Pass, format!("it failed to answer in {failed:.0} of {hours:.1} device-hours"))
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "hours of exposure, rounded down to show"
    )]
    let n = hours.max(0.0) as u64;
    LayerVerdict {
        layer: Layer::Runtime,
        verdict,
        measured: Some(log_e.exp()),
        limit: Some(limit.exp()),
        n,
        missing,
        sentence,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::device;
    use super::*;

    fn check(hours: f64, failed_hours: f64, expect: Verdict) {
        let evidence =
            DeviceEvidence { install: Install::Succeeded, hours, failed_hours, ..DeviceEvidence::default() };
        assert_eq!(
            judge(&[(device(1), evidence)], &GateLimits::default()).verdict,
            expect,
            "{failed_hours} of {hours}"
        );
    }

    #[test]
    fn failing_hours() {
        check(0.0, 0.0, Verdict::Insufficient);
        check(24.0, 0.0, Verdict::Pass);
        check(100.0, 1.0, Verdict::Pass);
        check(3.0, 3.0, Verdict::Fail);
        check(48.0, 12.0, Verdict::Fail);
    }
}
