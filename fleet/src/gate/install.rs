//! Does it install? One Bernoulli outcome a device, in the order in which devices were asked.
//!
//! The trap: failures come in sooner than successes, and whoever counts each as it comes condemns healthy bundles. So a
//! device that was asked and has not decided counts *as if it will succeed*. What is computed is then never more than
//! what the same devices give once all have decided, so the bound on false alarms stands, whoever answers first.

use muster_protocol::ids::DeviceId;

use super::{
    Case, Install, Layer, LayerVerdict, Verdict, as_f64, devices, eprocess, storable, upper_bound_95,
};

pub(super) fn judge(case: &Case<'_>) -> LayerVerdict {
    let layer =
        LayerVerdict::of(Layer::Install, "Bernoulli mixture e-process, valid at any look", case.limits);
    let count = |outcome| case.exposed.iter().filter(|(_, _, shown)| shown.install == outcome).count();
    let (failed, succeeded, pending) =
        (count(Install::Failed), count(Install::Succeeded), count(Install::Pending));
    let (n, asked) = ((failed + succeeded) as u64, (failed + succeeded + pending) as u64);
    let baseline = case.limits.install_failure_baseline;
    let log_e = eprocess::bernoulli(failed as u64, asked, baseline);
    let limit = eprocess::threshold(layer.alpha);
    let bound = upper_bound_95(failed as u64, n);
    let missing: Vec<DeviceId> = case
        .exposed
        .iter()
        .filter(|(_, _, shown)| shown.install == Install::Pending)
        .map(|(id, _, _)| id.clone())
        .collect();
    let percent = (bound * 100.0).ceil();
    let (verdict, sentence) = if log_e >= limit {
        let usual = baseline * 100.0;
        (Verdict::Fail, format!("{failed} of {n} installs failed; a healthy bundle fails in {usual:.1} %"))
    } else if n == 0 {
        (Verdict::Insufficient, "no device has finished installing yet".to_owned())
    } else if succeeded == 0 {
        (Verdict::Insufficient, format!("{} failed to install it, none has succeeded yet", devices(failed)))
    } else if failed == 0 {
        let who = devices(succeeded);
        (Verdict::Pass, format!("{who} installed it, none failed: the failure share is below {percent:.0} %"))
    } else {
        let rest = "not enough to blame the bundle";
        (Verdict::Pass, format!("{failed} of {n} installs failed, {rest}: the share is below {percent:.0} %"))
    };
    let layer = layer.with_inputs(&[
        ("failed", as_f64(failed as u64)),
        ("finished", as_f64(n)),
        ("asked", as_f64(asked)),
        ("baseline", baseline),
    ]);
    LayerVerdict {
        verdict,
        measured: Some(storable(log_e.exp())),
        limit: Some(storable(limit.exp())),
        interval: (n > 0).then(|| (1.0 - upper_bound_95(n - failed as u64, n), bound)),
        bound: (n > 0).then_some(bound),
        n,
        missing,
        sentence,
        ..layer
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ask;
    use super::super::{DeviceEvidence, GateLimits};
    use super::*;

    fn judged(outcomes: &[Install]) -> LayerVerdict {
        let shown: Vec<_> =
            outcomes.iter().map(|&install| DeviceEvidence { install, ..DeviceEvidence::default() }).collect();
        ask(Layer::Install, &shown, &GateLimits::default())
    }

    fn check(outcomes: &[Install], expect: Verdict) {
        assert_eq!(judged(outcomes).verdict, expect, "{outcomes:?}");
    }

    #[test]
    fn installs() {
        use Install::{Failed, Pending, Succeeded};
        check(&[], Verdict::Insufficient);
        check(&[Pending], Verdict::Insufficient);
        check(&[Succeeded, Pending], Verdict::Pass);
        // One failure proves nothing, and nothing has been proven for it either.
        check(&[Failed], Verdict::Insufficient);
        check(&[Failed, Succeeded], Verdict::Pass);
        check(&[Failed, Failed], Verdict::Fail);
        check(&[Failed, Succeeded, Succeeded, Failed], Verdict::Fail);
        // Bad news comes first: two of ten that were asked are not two of two.
        check(&[[Failed; 2].as_slice(), &[Pending; 8]].concat(), Verdict::Insufficient);
        check(&[[Failed; 4].as_slice(), &[Pending; 6]].concat(), Verdict::Fail);
    }

    #[test]
    fn what_no_failure_proves_is_said() {
        let layer = judged(&[Install::Succeeded; 5]);
        assert_eq!(layer.sentence, "5 devices installed it, none failed: the failure share is below 46 %");
        assert!((layer.bound.unwrap() - 0.4507).abs() < 1e-4);
    }
}
