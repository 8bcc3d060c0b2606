//! Do those that got it keep it? One Bernoulli outcome a device: it has left the bundle by itself, or it has not yet.
//!
//! Hours alone forgive it: where one device in ten leaves in its first hours and nobody afterwards, every further hour of the
//! rest dilutes the failures, until they are as rare as a healthy fleet's. A share of devices is not diluted. Who may still
//! leave counts as if it will stay, so that the bound on false alarms stands at any look (see `install`).

use super::{
    Case, Install, Layer, LayerVerdict, Verdict, as_f64, devices, eprocess, storable, upper_bound_95,
};

pub(super) fn judge(case: &Case<'_>) -> LayerVerdict {
    let layer =
        LayerVerdict::of(Layer::Reverts, "Bernoulli mixture e-process, valid at any look", case.limits);
    let got_it = || case.exposed.iter().filter(|(_, _, shown)| shown.install == Install::Succeeded);
    let left = got_it().filter(|(_, _, shown)| shown.failure.is_some()).count();
    let n = got_it().count();
    let (left_u64, n_u64) = (left as u64, n as u64);
    let baseline = case.limits.revert_baseline;
    let log_e = eprocess::bernoulli(left_u64, n_u64, baseline);
    let limit = eprocess::threshold(layer.alpha);
    let bound = upper_bound_95(left_u64, n_u64);
    let percent = (bound * 100.0).ceil();
    let (verdict, sentence) = if log_e >= limit {
        let usual = baseline * 100.0;
        (
            Verdict::Fail,
            format!("{left} of {n} left it by themselves; a healthy bundle is left by {usual:.1} %"),
        )
    } else if n == left {
        (Verdict::Insufficient, "no device keeps it yet".to_owned())
    } else if left == 0 {
        (Verdict::Pass, format!("{} got it and none has left it", devices(n)))
    } else {
        let rest = "not enough to blame the bundle";
        (
            Verdict::Pass,
            format!("{left} of {n} left it by themselves, {rest}: the share is below {percent:.0} %"),
        )
    };
    let layer =
        layer.with_inputs(&[("left", as_f64(left_u64)), ("got_it", as_f64(n_u64)), ("baseline", baseline)]);
    LayerVerdict {
        verdict,
        measured: Some(storable(log_e.exp())),
        limit: Some(storable(limit.exp())),
        interval: (n > 0).then(|| (1.0 - upper_bound_95(n_u64 - left_u64, n_u64), bound)),
        bound: (n > 0).then_some(bound),
        n: n_u64,
        sentence,
        ..layer
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ask;
    use super::super::{DeviceEvidence, GateLimits};
    use super::*;

    fn check(left: usize, stay: usize, hours: f64, expect: Verdict) {
        let has_it = DeviceEvidence { install: Install::Succeeded, hours, ..DeviceEvidence::default() };
        let shown: Vec<_> = (0..left + stay)
            .map(|i| DeviceEvidence {
                failure: (i < left).then(|| "stopped_answering".to_owned()),
                ..has_it.clone()
            })
            .collect();
        let verdict = ask(Layer::Reverts, &shown, &GateLimits::default()).verdict;
        assert_eq!(verdict, expect, "{left} left, {stay} stay");
    }

    #[test]
    fn a_share_that_leaves_is_not_diluted_by_the_hours_of_the_rest() {
        check(0, 0, 1.0, Verdict::Insufficient);
        check(1, 0, 1.0, Verdict::Insufficient);
        check(0, 5, 1.0, Verdict::Pass);
        check(1, 9, 1.0, Verdict::Pass);
        check(4, 196, 1.0, Verdict::Pass);
        for hours in [1.0, 100.0, 10_000.0] {
            check(6, 54, hours, Verdict::Fail);
            check(20, 180, hours, Verdict::Fail);
        }
    }

    /// Failed installs are another layer's.
    #[test]
    fn who_never_got_it_has_not_left_it() {
        let failed = DeviceEvidence {
            install: Install::Failed,
            failure: Some("disk_full".to_owned()),
            ..DeviceEvidence::default()
        };
        let layer = ask(Layer::Reverts, &[failed.clone(), failed], &GateLimits::default());
        assert_eq!((layer.n, layer.verdict), (0, Verdict::Insufficient));
    }
}
