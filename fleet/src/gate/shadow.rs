//! Does it answer like the bundle before it, on the same live inputs? Each device is one value, its share of
//! answers that differ; the interval is over devices, because a device's answers are not independent of each other.
//!
//! Not every difference is harm (a retrained model differs on purpose), so the owner chooses the margin or does not ask.

use super::distributions::{normal_above, student_above};
use super::{Case, Layer, LayerVerdict, Verdict, as_f64, devices, inputs};

/// One-sided, for passing.
const PASS_ALPHA: f64 = 0.05;

pub(super) fn judge(case: &Case<'_>) -> LayerVerdict {
    let limits = case.limits;
    let layer = LayerVerdict::of(
        Layer::Shadow,
        "device-level interval of the disagreement, at doubling looks",
        limits,
    );
    let Some(margin) = limits.shadow_disagreement_max else {
        return layer.not_asked("the plan does not ask for the agreement with the bundle before");
    };
    let least = limits.shadow_requests_min.max(1);
    let mut layer = LayerVerdict { limit: Some(margin), ..layer };
    let (mut shares, mut fewest, mut disagreed, mut drifting) = (Vec::new(), u64::MAX, 0_u64, 0_usize);
    for (id, _, shown) in case.running() {
        let Some(shadow) = shown.shadow.filter(|shadow| shadow.n >= least) else {
            layer.missing.push(id.clone());
            continue;
        };
        if inputs::say_little(shown) {
            drifting += 1;
            layer.missing.push(id.clone());
        }
        let differ = shadow.disagreed.min(shadow.n);
        shares.push(as_f64(differ) / as_f64(shadow.n));
        layer.n += shadow.n;
        disagreed += differ;
        fewest = fewest.min(shadow.n);
    }
    if shares.len() < 2 {
        layer.sentence = format!(
            "{} compared so far, two are needed with {least} answers each beside the bundle before",
            devices(shares.len())
        );
        return layer;
    }
    let k = as_f64(shares.len() as u64);
    let mean = shares.iter().sum::<f64>() / k;
    let between = (shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / (k - 1.0) / k).sqrt();
    // Devices that agree by chance must not claim certainty: at least the scatter of the answers themselves.
    let pooled = (as_f64(disagreed) + 1.0) / (as_f64(layer.n) + 2.0);
    let standard_error = between.max((pooled * (1.0 - pooled) / as_f64(layer.n)).sqrt());
    // Each doubling of the evidence is a look, and the looks share the layer's chance of a false alarm: 6/π² of it to the
    // first, a quarter of that to the second, a ninth to the third.
    let look = f64::from((fewest / least).ilog2()) + 1.0;
    let alpha = layer.alpha.unwrap_or(0.0) * 6.0 / (std::f64::consts::PI * look).powi(2);
    let fail_at = student_above(alpha, k - 1.0).max(normal_above(alpha));
    let low = mean - fail_at * standard_error;
    let high = mean + student_above(PASS_ALPHA, k - 1.0) * standard_error;
    layer.measured = Some(mean);
    layer.interval = Some((low.max(0.0), high.min(1.0)));
    layer.bound = Some(high.min(1.0));
    let said = format!(
        "it answers otherwise than the bundle before in {:.1} % on {}",
        mean * 100.0,
        devices(shares.len())
    );
    let most = margin * 100.0;
    (layer.verdict, layer.sentence) = if low > margin {
        (Verdict::Fail, format!("{said}; {most:.1} % is tolerated"))
    } else if drifting > 0 {
        (Verdict::Insufficient, format!("{said}, but the inputs of {} drift", devices(drifting)))
    } else if high <= margin && layer.missing.is_empty() {
        (Verdict::Pass, format!("{said}, at most {:.1} %", high * 100.0))
    } else if high <= margin {
        (Verdict::Insufficient, format!("{said}; {} still to be compared", devices(layer.missing.len())))
    } else {
        (
            Verdict::Insufficient,
            format!("{said}, perhaps up to {:.1} %; {most:.1} % is tolerated", high * 100.0),
        )
    };
    layer.with_inputs(&[
        ("devices", k),
        ("disagreed", as_f64(disagreed)),
        ("standard_error", standard_error),
        ("look", look),
        ("alpha_of_this_look", alpha),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::tests::ask;
    use super::super::{DeviceEvidence, GateLimits, Inputs, Install, Shadow};
    use super::*;

    fn judged(differ: &[u64], n: u64, inputs: Inputs) -> LayerVerdict {
        let limits = GateLimits { shadow_disagreement_max: Some(0.05), ..GateLimits::default() };
        let shown = |&disagreed: &u64| DeviceEvidence {
            install: Install::Succeeded,
            shadow: Some(Shadow { n, disagreed }),
            inputs,
            ..DeviceEvidence::default()
        };
        ask(Layer::Shadow, &differ.iter().map(shown).collect::<Vec<_>>(), &limits)
    }

    #[test]
    fn agreements() {
        use Verdict::{Fail, Insufficient, Pass};
        let check = |differ: &[u64], n, expect| {
            let layer = judged(differ, n, Inputs::Quiet);
            assert_eq!(layer.verdict, expect, "{differ:?} of {n}: {}", layer.sentence);
        };
        check(&[], 1000, Insufficient);
        check(&[0], 1000, Insufficient); // one device is no sample of devices
        check(&[0, 0, 0], 100, Insufficient); // too few answers each
        check(&[10, 12, 9, 11, 10], 1000, Pass);
        check(&[300, 310, 290, 305, 295], 1000, Fail);
        check(&[10, 90, 10, 60, 10], 1000, Insufficient); // devices that disagree widen it
        assert_eq!(judged(&[10, 12, 9, 11], 1000, Inputs::Drifting).verdict, Insufficient);
        assert_eq!(judged(&[300, 310, 290, 305], 1000, Inputs::Drifting).verdict, Fail);
        assert!(!ask(Layer::Shadow, &[], &GateLimits::default()).applies);
    }
}
