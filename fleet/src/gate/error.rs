//! Layer 4: is it right? The new bundle's loss minus the loss the bundle before it would have had *on the same patients*.
//!
//! Pairing cancels how hard the day was, and that is what lets five devices see what an unpaired comparison needs eighty
//! for. A device's patients are not independent (a bad day is bad for all of them), so its standard error is the larger
//! of the one over patients and the one over days. Each device is judged alone and has one vote.
//!
//! A retrained model legitimately *differs* from a drifted champion; only being worse counts.

use muster_protocol::ids::DeviceId;

use super::{DeviceEvidence, GateLimits, Install, Layer, LayerVerdict, PairedDay, Verdict, devices};

/// Standard errors beyond the margin at which a device condemns the bundle, at any look: over a hundred looks a healthy
/// bundle reaches it in fewer than 1 of 100 rollouts.
const FAIL_AT: f64 = 4.0;
/// One-sided 95 % for the non-inferiority of the bundle at the gate.
const PASS_AT: f64 = 1.645;

struct Estimate {
    n: u64,
    /// Mean difference of the loss; positive is worse.
    diff: f64,
    standard_error: f64,
    before: f64,
}

pub(super) fn judge(evidence: &[(DeviceId, DeviceEvidence)], limits: &GateLimits) -> LayerVerdict {
    let mut missing = Vec::new();
    let mut layer = LayerVerdict {
        layer: Layer::PairedError,
        verdict: Verdict::Insufficient,
        measured: None,
        limit: Some(limits.error_margin),
        n: 0,
        missing: Vec::new(),
        sentence: "no device has matured labels yet".to_owned(),
    };
    let exposed = || evidence.iter().filter(|(_, device)| device.install == Install::Succeeded);
    if exposed().count() > 0 && exposed().all(|(_, device)| device.paired.is_none()) {
        layer.verdict = Verdict::Pass;
        layer.limit = None;
        "the slot was empty before: there is nothing to compare with".clone_into(&mut layer.sentence);
        return layer;
    }
    let (mut passed, mut undecided) = (0_usize, 0_usize);
    for (id, device) in exposed() {
        let Some(days) = &device.paired else { continue };
        let Some(estimate) = estimate(days).filter(|estimate| estimate.n >= limits.labels_min.max(2)) else {
            layer.n += days.iter().map(|day| day.n).sum::<u64>();
            missing.push(id.clone());
            continue;
        };
        layer.n += estimate.n;
        let margin = limits.error_margin * estimate.before;
        let rise = if estimate.before > 0.0 { estimate.diff / estimate.before } else { estimate.diff };
        if layer.measured.is_none_or(|worst| rise > worst) {
            layer.measured = Some(rise);
        }
        if estimate.diff - FAIL_AT * estimate.standard_error > margin {
            layer.verdict = Verdict::Fail;
            layer.sentence = format!(
                "on {} labelled patients of one device its error is {:.3}, {:.3} before it",
                estimate.n,
                estimate.before + estimate.diff,
                estimate.before
            );
            layer.measured = Some(rise);
            layer.missing = missing;
            return layer;
        }
        if estimate.diff + PASS_AT * estimate.standard_error <= margin {
            passed += 1;
        } else {
            undecided += 1;
        }
    }
    if limits.labels_min == 0 && undecided == 0 && passed == 0 && !missing.is_empty() {
        layer.verdict = Verdict::Pass;
        "no labels have come back, and the plan does not ask for them".clone_into(&mut layer.sentence);
    } else if passed > 0 && undecided == 0 && (missing.is_empty() || limits.labels_min == 0) {
        layer.verdict = Verdict::Pass;
        layer.sentence =
            format!("no worse than the bundle before on {} ({} labelled patients)", devices(passed), layer.n);
    } else if passed + undecided > 0 || !missing.is_empty() {
        layer.sentence = format!(
            "{} judged no worse, {} undecided, {} with fewer than {} labelled patients",
            devices(passed),
            undecided,
            missing.len(),
            limits.labels_min
        );
    }
    layer.missing = missing;
    layer
}

#[expect(clippy::cast_precision_loss, reason = "counts of patients stay far below 2^53")]
fn estimate(days: &[PairedDay]) -> Option<Estimate> {
    let n: u64 = days.iter().map(|day| day.n).sum();
    if n < 2 {
        return None;
    }
    let count = n as f64;
    let diff = days.iter().map(|day| day.diff_sum).sum::<f64>() / count;
    let square = days.iter().map(|day| day.diff_sum_sq).sum::<f64>();
    let over_patients = ((square - count * diff * diff).max(0.0) / (count - 1.0) / count).sqrt();
    let used: Vec<&PairedDay> = days.iter().filter(|day| day.n > 0).collect();
    // Days as clusters: residual sums a day, the usual ratio estimator of a cluster sample.
    let over_days = if used.len() >= 3 {
        let k = used.len() as f64;
        let residuals: f64 = used.iter().map(|day| (day.diff_sum - day.n as f64 * diff).powi(2)).sum();
        (k / (k - 1.0) * residuals).sqrt() / count
    } else {
        0.0
    };
    let before = days.iter().map(|day| day.before_loss_sum).sum::<f64>() / count;
    let standard_error = over_patients.max(over_days);
    (diff.is_finite() && standard_error.is_finite() && before.is_finite()).then_some(Estimate {
        n,
        diff,
        standard_error,
        before,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::device;
    use super::*;

    /// Days of `n` patients each with the given mean difference; every patient's difference scatters by 0.1.
    fn days(n: u64, means: &[f64]) -> Vec<PairedDay> {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let count = n as f64;
        let day = |&mean: &f64| PairedDay {
            n,
            diff_sum: mean * count,
            diff_sum_sq: (mean * mean + 0.01) * count,
            before_loss_sum: 0.08 * count,
        };
        means.iter().map(day).collect()
    }

    fn check(paired: Vec<Option<Vec<PairedDay>>>, expect: Verdict) {
        let evidence: Vec<_> = (1..)
            .zip(paired)
            .map(|(n, paired)| {
                (
                    device(n),
                    DeviceEvidence { install: Install::Succeeded, paired, ..DeviceEvidence::default() },
                )
            })
            .collect();
        let layer = judge(&evidence, &GateLimits::default());
        assert_eq!(layer.verdict, expect, "{}", layer.sentence);
    }

    #[test]
    fn errors() {
        check(vec![], Verdict::Insufficient);
        check(vec![None], Verdict::Pass);
        check(vec![Some(days(0, &[0.0]))], Verdict::Insufficient);
        check(vec![Some(days(50, &[-0.02, -0.02]))], Verdict::Insufficient);
        check(vec![Some(days(120, &[-0.03, -0.02, -0.03, -0.02]))], Verdict::Pass);
        check(vec![Some(days(120, &[0.3, 0.25]))], Verdict::Fail);
        // Clearly different but no worse: what a good retrained model looks like.
        check(vec![Some(days(400, &[-0.05, -0.05, -0.05]))], Verdict::Pass);
        // One device that cannot say yet keeps the gate waiting.
        check(vec![Some(days(400, &[-0.05, -0.05, -0.05])), Some(days(20, &[-0.05]))], Verdict::Insufficient);
        // One device that shows harm is enough.
        check(
            vec![Some(days(400, &[-0.05, -0.05, -0.05])), Some(days(400, &[0.4, 0.4, 0.4]))],
            Verdict::Fail,
        );
    }

    #[test]
    fn a_plan_may_do_without_labels_but_not_against_them() {
        let limits = GateLimits { labels_min: 0, ..GateLimits::default() };
        let judged = |days| {
            let install = Install::Succeeded;
            judge(
                &[(device(1), DeviceEvidence { install, paired: Some(days), ..DeviceEvidence::default() })],
                &limits,
            )
        };
        assert_eq!(judged(Vec::new()).verdict, Verdict::Pass);
        assert_eq!(judged(days(400, &[0.4, 0.4])).verdict, Verdict::Fail);
        assert_eq!(judge(&[], &limits).verdict, Verdict::Insufficient);
    }

    #[test]
    fn days_that_disagree_widen_the_interval() {
        let calm = estimate(&days(100, &[0.02; 4])).unwrap();
        let torn = estimate(&days(100, &[0.22, -0.18, 0.22, -0.18])).unwrap();
        assert!(torn.standard_error > 5.0 * calm.standard_error);
    }
}
