//! Is it right? The new bundle's loss minus the loss the bundle before it would have had *on the same patients*.
//!
//! Pairing cancels how hard the day was, and that is what lets five devices see what an unpaired comparison needs eighty
//! for. A device's patients are not independent (a bad day is bad for all of them), so its standard error is the larger
//! of the one over patients and the one over days. Each device is judged alone and has one vote.
//!
//! A retrained model legitimately *differs* from a drifted champion; only being worse counts.

use super::{
    Case, Exposed, GateLimits, Layer, LayerVerdict, PairedDay, Verdict, as_f64, devices, distributions,
    inputs,
};

/// Standard errors beyond the margin at which a device condemns the bundle, at least. Normal-mixture confidence
/// sequences ask for 3.9 to 4.4 between 500 and 100,000 patients, however often one looks.
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

/// How many devices say what.
#[derive(Default)]
struct Votes {
    passed: usize,
    undecided: usize,
    drifting: usize,
}

pub(super) fn judge(case: &Case<'_>) -> LayerVerdict {
    let limits = case.limits;
    let layer = LayerVerdict::of(
        Layer::PairedError,
        "paired difference on the same patients, each device alone",
        limits,
    );
    let mut layer = LayerVerdict {
        limit: Some(limits.error_margin),
        sentence: "no device has matured labels yet".to_owned(),
        ..layer
    };
    if case.running().count() > 0 && case.running().all(|(_, _, shown)| shown.paired.is_none()) {
        return layer.not_asked("the slot was empty before: there is nothing to compare with");
    }
    let estimates: Vec<(&Exposed, Option<Estimate>)> = case
        .running()
        .filter_map(|device| Some((device, device.2.paired.as_ref()?)))
        .map(|(device, days)| {
            let enough = |estimate: &Estimate| estimate.n >= limits.labels_min.max(2);
            layer.n += days.iter().map(|day| day.n).sum::<u64>();
            (device, estimate(days).filter(enough))
        })
        .collect();
    let judged = estimates.iter().filter(|(_, estimate)| estimate.is_some()).count();
    // Each device may condemn alone, so each has its share of the layer's chance of a false alarm.
    let share = layer.alpha.unwrap_or(0.0) / as_f64(judged.max(1) as u64);
    let fail_at = distributions::normal_above(share).max(FAIL_AT);
    let mut votes = Votes::default();
    let mut worst: Option<(f64, &Estimate)> = None;
    for (device, estimate) in &estimates {
        let Some(estimate) = estimate else {
            layer.missing.push(device.0.clone());
            continue;
        };
        let margin = limits.error_margin * estimate.before;
        let beyond = estimate.diff - fail_at * estimate.standard_error - margin;
        if worst.is_none_or(|(most, _)| beyond > most) {
            worst = Some((beyond, estimate));
        }
        if inputs::say_little(&device.2) {
            votes.drifting += 1;
            layer.missing.push(device.0.clone());
        } else if estimate.diff + PASS_AT * estimate.standard_error <= margin {
            votes.passed += 1;
        } else {
            votes.undecided += 1;
        }
    }
    layer = layer.with_inputs(&[
        ("no_worse", as_f64(votes.passed as u64)),
        ("undecided", as_f64(votes.undecided as u64)),
        ("drifting", as_f64(votes.drifting as u64)),
        ("fail_at_standard_errors", fail_at),
    ]);
    if let Some((_, estimate)) = worst {
        let share = |value: f64| if estimate.before > 0.0 { value / estimate.before } else { value };
        layer.measured = Some(share(estimate.diff));
        let half = PASS_AT * estimate.standard_error;
        layer.interval = Some((share(estimate.diff - half), share(estimate.diff + half)));
        layer.bound = Some(share(estimate.diff + half));
    }
    if let Some((beyond, estimate)) = worst
        && beyond > 0.0
    {
        layer.verdict = Verdict::Fail;
        layer.sentence = format!(
            "on {} labelled answers of one device its error is {:.3}, {:.3} before it",
            estimate.n,
            estimate.before + estimate.diff,
            estimate.before
        );
        return layer;
    }
    decide(layer, &votes, limits)
}

/// What the devices' votes come to where none of them condemns the bundle.
fn decide(mut layer: LayerVerdict, votes: &Votes, limits: &GateLimits) -> LayerVerdict {
    let &Votes { passed, undecided, drifting } = votes;
    let unlabelled = layer.missing.len() - drifting;
    let asked = limits.labels_min > 0;
    let enough = match limits.labelled_devices_min {
        Some(min) => passed >= (min as usize).max(1),
        None => passed > 0 && drifting == 0 && (unlabelled == 0 || !asked),
    };
    if enough && undecided == 0 {
        layer.verdict = Verdict::Pass;
        layer.sentence =
            format!("no worse than the bundle before on {} ({} labelled answers)", devices(passed), layer.n);
    } else if !asked && passed + undecided + drifting == 0 && unlabelled > 0 {
        return layer.not_asked("no labels have come back, and the plan does not ask for them");
    } else if !asked && undecided == 0 && drifting > 0 {
        return layer.not_asked("its inputs drift, and the plan does not ask for labels");
    } else if passed + undecided + drifting + unlabelled > 0 {
        let least = limits.labels_min;
        let drift = if drifting > 0 { format!(", {drifting} whose inputs drift") } else { String::new() };
        layer.sentence = format!(
            "{} judged no worse, {undecided} undecided, {unlabelled} with fewer than {least} labelled answers{drift}",
            devices(passed)
        );
    }
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
    use super::super::tests::ask;
    use super::super::{DeviceEvidence, Inputs, Install};
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

    fn running() -> DeviceEvidence {
        DeviceEvidence { install: Install::Succeeded, ..DeviceEvidence::default() }
    }

    fn check(paired: Vec<Option<Vec<PairedDay>>>, expect: Verdict) {
        let shown = |paired| DeviceEvidence { paired, ..running() };
        let shown: Vec<_> = paired.into_iter().map(shown).collect();
        let layer = ask(Layer::PairedError, &shown, &GateLimits::default());
        assert_eq!(layer.verdict, expect, "{}", layer.sentence);
    }

    #[test]
    fn errors() {
        check(vec![], Verdict::Insufficient);
        check(vec![None], Verdict::Pass); // not asked
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
        let judged =
            |days| ask(Layer::PairedError, &[DeviceEvidence { paired: Some(days), ..running() }], &limits);
        assert!(!judged(Vec::new()).applies);
        assert_eq!(judged(days(400, &[0.4, 0.4])).verdict, Verdict::Fail);
        assert_eq!(ask(Layer::PairedError, &[], &limits).verdict, Verdict::Insufficient);
    }

    #[test]
    fn a_plan_may_do_with_the_labels_of_some() {
        let limits = GateLimits { labelled_devices_min: Some(2), ..GateLimits::default() };
        let good = DeviceEvidence { paired: Some(days(400, &[-0.05; 3])), ..running() };
        let mute = DeviceEvidence { paired: Some(Vec::new()), ..running() };
        let judged = |shown: &[&DeviceEvidence]| {
            let shown: Vec<_> = shown.iter().map(|&shown| shown.clone()).collect();
            ask(Layer::PairedError, &shown, &limits).verdict
        };
        assert_eq!(judged(&[&good, &mute, &mute]), Verdict::Insufficient);
        assert_eq!(judged(&[&good, &good, &mute]), Verdict::Pass);
    }

    /// What is measured while the inputs drift vouches for nothing, but harm on the same patients stays harm.
    #[test]
    fn drifting_inputs_do_not_vouch() {
        let judged = |means: &[f64]| {
            let shown =
                DeviceEvidence { paired: Some(days(400, means)), inputs: Inputs::Drifting, ..running() };
            ask(Layer::PairedError, &[shown], &GateLimits::default()).verdict
        };
        assert_eq!(judged(&[-0.05; 3]), Verdict::Insufficient);
        assert_eq!(judged(&[0.4; 3]), Verdict::Fail);
    }

    #[test]
    fn days_that_disagree_widen_the_interval() {
        let calm = estimate(&days(100, &[0.02; 4])).unwrap();
        let torn = estimate(&days(100, &[0.22, -0.18, 0.22, -0.18])).unwrap();
        assert!(torn.standard_error > 5.0 * calm.standard_error);
    }
}
