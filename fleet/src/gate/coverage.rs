//! Has every kind of box been heard? A canary of one kind says nothing of another: of each hardware class of the
//! stage's cohort one device must live with the bundle, so far as the limit demands.

use std::collections::BTreeSet;

use super::{Case, Layer, LayerVerdict, Verdict, as_f64};

pub(super) fn judge(case: &Case<'_>) -> LayerVerdict {
    let layer = LayerVerdict::of(Layer::Coverage, "one device of each hardware class", case.limits);
    let classes: BTreeSet<&str> =
        case.strata.iter().map(String::as_str).filter(|class| !class.is_empty()).collect();
    if case.limits.coverage_classes_max == 0 {
        return layer.not_asked("the plan does not ask for every hardware class");
    }
    if classes.len() < 2 {
        return layer.not_asked("all devices are of one hardware class");
    }
    let heard: BTreeSet<&str> = case
        .running()
        .filter(|(_, _, shown)| {
            shown.hours > 0.0 && shown.failure.is_none() && shown.silence.silent_hours.is_none()
        })
        .map(|(_, stratum, _)| stratum.hardware.as_str())
        .filter(|class| classes.contains(class))
        .collect();
    let need = classes.len().min(case.limits.coverage_classes_max as usize);
    let unheard: Vec<&str> = classes.difference(&heard).copied().collect();
    let covered = heard.len() >= need;
    let missing = case
        .exposed
        .iter()
        .filter(|(_, stratum, _)| !covered && unheard.contains(&stratum.hardware.as_str()))
        .map(|(id, _, _)| id.clone());
    let sentence = if covered {
        format!("devices of {} of {} hardware classes live with it", heard.len(), classes.len())
    } else {
        let names = unheard.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        let more = if unheard.len() > 3 { format!(" and {} more", unheard.len() - 3) } else { String::new() };
        format!("no device of these hardware classes lives with it yet: {names}{more}")
    };
    LayerVerdict {
        verdict: if covered { Verdict::Pass } else { Verdict::Insufficient },
        measured: Some(as_f64(heard.len() as u64)),
        limit: Some(as_f64(need as u64)),
        n: heard.len() as u64,
        missing: missing.collect(),
        sentence,
        ..layer
    }
    .with_inputs(&[("classes", as_f64(classes.len() as u64)), ("heard", as_f64(heard.len() as u64))])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answer, evidence};
    use super::super::{DeviceEvidence, GateLimits, Install};
    use super::*;

    fn judged(strata: &[&str], exposed: &[&str], classes_max: u32) -> LayerVerdict {
        let lives = DeviceEvidence { install: Install::Succeeded, hours: 1.0, ..DeviceEvidence::default() };
        let mut evidence = evidence(&vec![lives; exposed.len()]);
        for ((_, stratum, _), hardware) in evidence.exposed.iter_mut().zip(exposed) {
            (*hardware).clone_into(&mut stratum.hardware);
        }
        evidence.strata = strata.iter().map(|&class| class.to_owned()).collect();
        let limits = GateLimits { coverage_classes_max: classes_max, ..GateLimits::default() };
        answer(Layer::Coverage, &evidence, &limits)
    }

    #[test]
    fn every_class_is_heard() {
        let check = |strata: &[&str], exposed: &[&str], max, expect| {
            assert_eq!(judged(strata, exposed, max).verdict, expect, "{strata:?} {exposed:?}");
        };
        check(&["a", "b"], &["a"], 8, Verdict::Insufficient);
        check(&["a", "b"], &["a", "b"], 8, Verdict::Pass);
        check(&["a", "b", "c"], &["a", "b"], 2, Verdict::Pass);
        check(&["a", "b"], &[], 8, Verdict::Insufficient);
        check(&["a", "b"], &["a", "c"], 8, Verdict::Insufficient);
        assert!(!judged(&["a"], &[], 8).applies);
        assert!(!judged(&["a", "b"], &[], 0).applies);
    }
}
