//! Does it keep answering? Failed hours per device-hour of exposure, so that every hour counts, good or bad,
//! from the moment it is lived.

use muster_protocol::ids::DeviceId;

use super::{Case, Layer, LayerVerdict, Verdict, devices, eprocess, storable};

pub(super) fn judge(case: &Case<'_>) -> LayerVerdict {
    let layer = LayerVerdict::of(Layer::Runtime, "Poisson mixture e-process, valid at any look", case.limits);
    let lived = |hours: f64| if hours.is_finite() { hours.max(0.0) } else { 0.0 };
    let hours: f64 = case.running().map(|(_, _, shown)| lived(shown.hours)).sum();
    let failed: f64 = case.running().map(|(_, _, shown)| lived(shown.failed_hours)).sum();
    let log_e = eprocess::poisson(failed, hours, case.limits.runtime_failures_per_hour_baseline);
    let limit = eprocess::threshold(layer.alpha);
    let missing: Vec<DeviceId> = case
        .running()
        .filter(|(_, _, shown)| lived(shown.hours) <= 0.0)
        .map(|(id, _, _)| id.clone())
        .collect();
    let (verdict, sentence) = if log_e >= limit {
        (Verdict::Fail, format!("it failed to answer in {failed:.0} of {hours:.1} device-hours"))
    } else if hours <= 0.0 {
        (Verdict::Insufficient, "no device has lived with it yet".to_owned())
    } else if case.running().all(|(_, _, shown)| shown.failure.is_some()) {
        // However few failures are no accident yet, they were all that there was.
        (Verdict::Insufficient, "every device that lived with it has left it".to_owned())
    } else if failed <= 0.0 {
        let who = devices(case.running().count());
        (Verdict::Pass, format!("{who} lived with it for {hours:.1} hours together, and it always answered"))
    } else {
        (Verdict::Pass, format!("it failed to answer in {failed:.0} of {hours:.1} device-hours, as is usual"))
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "hours of exposure, rounded down to show"
    )]
    let n = hours as u64;
    let baseline = case.limits.runtime_failures_per_hour_baseline;
    let layer = layer.with_inputs(&[("failed_hours", failed), ("hours", hours), ("baseline", baseline)]);
    LayerVerdict {
        verdict,
        measured: Some(storable(log_e.exp())),
        limit: Some(storable(limit.exp())),
        // Three over the exposure: what no failure leaves possible.
        bound: (hours > 0.0 && failed <= 0.0).then(|| storable(20.0_f64.ln() / hours)),
        n,
        missing,
        sentence,
        ..layer
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ask;
    use super::super::{DeviceEvidence, GateLimits, Install};
    use super::*;

    fn check(hours: f64, failed_hours: f64, expect: Verdict) {
        let shown =
            DeviceEvidence { install: Install::Succeeded, hours, failed_hours, ..DeviceEvidence::default() };
        let verdict = ask(Layer::Runtime, &[shown], &GateLimits::default()).verdict;
        assert_eq!(verdict, expect, "{failed_hours} of {hours}");
    }

    #[test]
    fn failing_hours() {
        check(0.0, 0.0, Verdict::Insufficient);
        check(f64::NAN, f64::NAN, Verdict::Insufficient);
        check(24.0, 0.0, Verdict::Pass);
        check(100.0, 1.0, Verdict::Pass);
        check(3.0, 3.0, Verdict::Fail);
        check(48.0, 12.0, Verdict::Fail);
    }

    #[test]
    fn whoever_left_it_does_not_vouch_for_it() {
        let stays = DeviceEvidence { install: Install::Succeeded, hours: 24.0, ..DeviceEvidence::default() };
        let left = DeviceEvidence { failure: Some("reverted".to_owned()), ..stays.clone() };
        let verdict = |shown: &[DeviceEvidence]| ask(Layer::Runtime, shown, &GateLimits::default()).verdict;
        assert_eq!(verdict(std::slice::from_ref(&left)), Verdict::Insufficient);
        assert_eq!(verdict(&[left, stays]), Verdict::Pass);
    }
}
