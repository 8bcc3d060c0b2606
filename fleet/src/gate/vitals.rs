//! Do latency, memory or temperature rise? The canaries' change beside the change of devices without the
//! bundle (difference in differences): a hot afternoon or a busy ward changes both.
//!
//! A device is one value, the change of its median. The estimate is the median of all pairwise differences (Hodges and
//! Lehmann, 1963) and its interval comes from Mann and Whitney's exact distribution, so that three canaries claim no more
//! than three canaries can. Hardware classes are aligned by their controls' median first.

use std::collections::BTreeMap;

use muster_protocol::ids::DeviceId;

use super::distributions::{binomial_at_most, mann_whitney_rank};
use super::{Case, Layer, LayerVerdict, Shift, Verdict, Vitals, as_f64, devices};

/// One-sided, for passing.
const PASS_ALPHA: f64 = 0.05;
/// More values change the interval by less than their own noise; every so-and-so-many-th is taken, evenly.
const VALUES_MAX: usize = 100;

struct Asked {
    name: &'static str,
    unit: &'static str,
    limit: Option<f64>,
    shift: fn(&Vitals) -> Option<Shift>,
}

pub(super) fn judge(case: &Case<'_>, which: Layer) -> LayerVerdict {
    let layer =
        LayerVerdict::of(which, "difference in differences, Hodges-Lehmann with exact ranks", case.limits);
    let asked = asked(case, which);
    let Some(limit) = asked.limit else {
        return layer.not_asked(&format!("the plan sets no limit to a rise of the {}", asked.name));
    };
    let change = |vitals: &Vitals| {
        (asked.shift)(vitals).map(|shift| shift.since - shift.before).filter(|change| change.is_finite())
    };
    let mut missing: Vec<DeviceId> = Vec::new();
    let mut canaries: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (id, stratum, shown) in case.running() {
        match change(&shown.vitals) {
            Some(change) => canaries.entry(&stratum.hardware).or_default().push(change),
            None => missing.push(id.clone()),
        }
    }
    let mut controls: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (_, stratum, control) in &case.controls {
        if let Some(change) = change(&control.vitals) {
            controls.entry(&stratum.hardware).or_default().push(change);
        }
    }
    let (canaries, controls) = aligned(canaries, controls);
    let (m, n) = (canaries.len(), controls.len());
    let layer = LayerVerdict { limit: Some(limit), n: m as u64, missing, ..layer }
        .with_inputs(&[("devices", as_f64(m as u64)), ("controls", as_f64(n as u64))]);
    let Asked { name, unit, .. } = asked;
    if m == 0 {
        let sentence = format!("no device has told its {name} before and since");
        return LayerVerdict { sentence, ..layer };
    }
    if n == 0 {
        return alone(layer, &canaries, limit, &asked);
    }
    let mut differences: Vec<f64> =
        canaries.iter().flat_map(|canary| controls.iter().map(move |control| canary - control)).collect();
    differences.sort_by(f64::total_cmp);
    let rise = median(&differences);
    let low = mann_whitney_rank(m, n, layer.alpha.unwrap_or(0.0)).and_then(|rank| differences.get(rank - 1));
    let high = mann_whitney_rank(m, n, PASS_ALPHA).and_then(|rank| differences.iter().rev().nth(rank - 1));
    let said = format!("the {name} of {} rises by {rise:.1} {unit} beside {n} without it", devices(m));
    let (verdict, sentence) = if low.is_some_and(|&low| low > limit) {
        (Verdict::Fail, format!("{said}; {limit:.1} {unit} is tolerated"))
    } else if high.is_some_and(|&high| high <= limit) {
        (Verdict::Pass, said)
    } else {
        (Verdict::Insufficient, format!("{said}; whether by more than {limit:.1} {unit} cannot be told yet"))
    };
    let interval = low.zip(high).map(|(&low, &high)| (low, high));
    LayerVerdict { verdict, measured: Some(rise), interval, bound: high.copied(), sentence, ..layer }
}

/// Nobody is left to compare with. A change that all share may have any cause, so it condemns nobody; that there is none
/// can still be seen (the sign test's bound of the median).
fn alone(layer: LayerVerdict, canaries: &[f64], limit: f64, asked: &Asked) -> LayerVerdict {
    let Asked { name, unit, .. } = asked;
    let mut sorted = canaries.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as u64;
    let rank = (0..n).take_while(|&k| binomial_at_most(k, n, 0.5) <= PASS_ALPHA).count();
    let high = rank.checked_sub(1).and_then(|k| sorted.iter().rev().nth(k)).copied();
    let said = format!("the {name} of {} changes by {:.1} {unit}", devices(sorted.len()), median(&sorted));
    let (verdict, sentence) = if high.is_some_and(|high| high <= limit) {
        (Verdict::Pass, format!("{said}; no device without it is left to compare with"))
    } else {
        (Verdict::Insufficient, format!("{said}, and no device without it is there to say why"))
    };
    LayerVerdict { verdict, measured: Some(median(&sorted)), bound: high, sentence, ..layer }
}

/// The values of both sides less the median of their class's controls, at most [`VALUES_MAX`] of each. Canaries of a class
/// without controls are left out where other classes have some.
fn aligned(canaries: BTreeMap<&str, Vec<f64>>, controls: BTreeMap<&str, Vec<f64>>) -> (Vec<f64>, Vec<f64>) {
    if controls.keys().all(|class| !canaries.contains_key(class)) {
        return (canaries.into_values().flatten().collect(), Vec::new());
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for (class, mut values) in controls {
        let Some(found) = canaries.get(class) else { continue };
        values.sort_by(f64::total_cmp);
        let usual = median(&values);
        ours.extend(found.iter().map(|value| value - usual));
        theirs.extend(values.iter().map(|value| value - usual));
    }
    (thinned(ours), thinned(theirs))
}

fn thinned(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    if n <= VALUES_MAX {
        return values;
    }
    (0..VALUES_MAX).map(|i| values[(2 * i + 1) * n / (2 * VALUES_MAX)]).collect()
}

/// Of sorted values.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match (sorted.get(middle), middle.checked_sub(1).and_then(|below| sorted.get(below))) {
        (Some(&above), Some(&below)) if sorted.len().is_multiple_of(2) => f64::midpoint(below, above),
        (Some(&value), _) => value,
        (None, _) => 0.0,
    }
}

fn asked(case: &Case<'_>, which: Layer) -> Asked {
    let limits = case.limits;
    match which {
        Layer::MemoryRise => Asked {
            name: "memory in use",
            unit: "MiB",
            limit: limits.memory_rise_mib_max,
            shift: |vitals| vitals.memory_mib,
        },
        Layer::TemperatureRise => Asked {
            name: "temperature",
            unit: "°C",
            limit: limits.temperature_rise_c_max,
            shift: |vitals| vitals.temperature_c,
        },
        Layer::LatencyRise
        | Layer::HardStop
        | Layer::Install
        | Layer::Reverts
        | Layer::Runtime
        | Layer::Silence
        | Layer::Latency
        | Layer::PairedError
        | Layer::Shadow
        | Layer::Coverage => Asked {
            name: "answer time",
            unit: "ms",
            limit: limits.latency_rise_ms_max,
            shift: |vitals| vitals.latency_ms,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answer, device, evidence};
    use super::super::{Control, DeviceEvidence, GateLimits, Install, Stratum};
    use super::*;

    fn memory(change: f64) -> Vitals {
        Vitals { memory_mib: Some(Shift { before: 400.0, since: 400.0 + change }), ..Vitals::default() }
    }

    fn judged(canaries: &[f64], controls: &[f64]) -> LayerVerdict {
        let shown: Vec<_> = canaries
            .iter()
            .map(|&change| DeviceEvidence {
                install: Install::Succeeded,
                vitals: memory(change),
                ..DeviceEvidence::default()
            })
            .collect();
        let mut evidence = evidence(&shown);
        let like = Stratum { site: None, hardware: "x86_64".to_owned() };
        let controls = (100..).zip(controls);
        evidence.controls = controls
            .map(|(n, &change)| {
                (device(n), like.clone(), Control { vitals: memory(change), ..Control::default() })
            })
            .collect();
        let limits = GateLimits { memory_rise_mib_max: Some(20.0), ..GateLimits::default() };
        answer(Layer::MemoryRise, &evidence, &limits)
    }

    #[test]
    fn rises() {
        use Verdict::{Fail, Insufficient, Pass};
        let check = |canaries: &[f64], controls: &[f64], expect| {
            let layer = judged(canaries, controls);
            assert_eq!(layer.verdict, expect, "{canaries:?} {controls:?}: {}", layer.sentence);
        };
        let calm: Vec<f64> = (0..20).map(|n| f64::from(n % 5)).collect();
        let busy: Vec<f64> = calm.iter().map(|change| change + 90.0).collect();
        check(&[], &calm, Insufficient);
        check(&[1.0, 2.0, 3.0], &calm, Pass);
        check(&[80.0, 85.0, 90.0, 95.0], &calm, Fail);
        check(&[80.0, 85.0, 90.0, 95.0], &busy, Pass); // everybody's memory rose
        check(&[80.0], &calm, Insufficient); // one canary cannot condemn
        check(&[1.0], &[1.0, 2.0], Insufficient);
        // Without controls a rise condemns nobody, and no rise is still no rise.
        check(&[80.0; 10], &[], Insufficient);
        check(&[1.0; 10], &[], Pass);
        check(&[f64::NAN], &calm, Insufficient);
    }

    #[test]
    fn the_shift_is_the_middle_of_the_differences() {
        let layer = judged(&[10.0, 12.0, 14.0], &[1.0, 2.0, 3.0]);
        assert!((layer.measured.unwrap() - 10.0).abs() < 1e-9);
    }
}
