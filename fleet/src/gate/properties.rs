//! What must hold of any evidence at all.

use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;
use proptest::prelude::*;

use super::{
    Control, DeviceEvidence, Evidence, GateLimits, GateReport, Inputs, Install, Layer, PairedDay, Shadow,
    Shift, Silence, Stratum, Verdict, Vitals, judge, recompute,
};

fn limits() -> GateLimits {
    GateLimits {
        shadow_disagreement_max: Some(0.05),
        memory_rise_mib_max: Some(20.0),
        ..GateLimits::default()
    }
}

fn ask(evidence: &Evidence) -> GateReport {
    judge(evidence, &limits(), Timestamp::default())
}

fn layer(report: &GateReport, layer: Layer) -> Verdict {
    report.layers.iter().find(|verdict| verdict.layer == layer).unwrap().verdict
}

fn silence() -> impl Strategy<Value = Silence> {
    (0.0..100.0, prop::option::weighted(0.2, 0.0..50.0))
        .prop_map(|(hours_at_risk, silent_hours)| Silence { hours_at_risk, silent_hours })
}

fn vitals() -> impl Strategy<Value = Vitals> {
    prop::option::of(-50.0..100.0).prop_map(|change| Vitals {
        memory_mib: change.map(|change| Shift { before: 300.0, since: 300.0 + change }),
        ..Vitals::default()
    })
}

fn stratum() -> impl Strategy<Value = Stratum> {
    (0..3_u8, 0..2_u8).prop_map(|(site, hardware)| Stratum {
        site: Some(format!("er-{site}").parse().unwrap()),
        hardware: format!("class-{hardware}"),
    })
}

fn shown() -> impl Strategy<Value = DeviceEvidence> {
    let install = prop::sample::select(vec![Install::Pending, Install::Succeeded, Install::Failed]);
    let code =
        prop::option::weighted(0.2, prop::sample::select(vec!["golden_mismatch", "disk_full", "killed"]));
    let inputs = prop::sample::select(vec![Inputs::Unknown, Inputs::Quiet, Inputs::Drifting]);
    let day = (0..400_u64, -0.1..0.3_f64).prop_map(|(n, diff)| {
        let count = super::as_f64(n);
        PairedDay {
            n,
            diff_sum: diff * count,
            diff_sum_sq: (diff * diff + 0.01) * count,
            before_loss_sum: 0.1 * count,
        }
    });
    let paired = prop::option::of(prop::collection::vec(day, 0..4));
    let shadow = prop::option::of((0..2000_u64, 0.0..0.3_f64).prop_map(|(n, share)| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
        let disagreed = (super::as_f64(n) * share) as u64;
        Shadow { n, disagreed }
    }));
    let times = (0.0..200.0_f64, 0.0..5.0_f64, 0..300_u64);
    (install, times, code, inputs, paired, shadow, silence(), vitals()).prop_map(
        |(install, (hours, failed_hours, requests), code, inputs, paired, shadow, silence, vitals)| {
            DeviceEvidence {
                install,
                hours,
                failed_hours,
                latency: vec![0, requests],
                paired,
                failure: code.map(str::to_owned),
                silence,
                vitals,
                shadow,
                inputs,
            }
        },
    )
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let exposed = prop::collection::vec((stratum(), shown()), 0..12);
    let controls = prop::collection::vec((stratum(), silence(), vitals()), 0..20);
    (exposed, controls).prop_map(|(exposed, controls)| {
        let exposed = (1..).zip(exposed).map(|(n, (stratum, shown))| (device(n), stratum, shown)).collect();
        let controls = (100..)
            .zip(controls)
            .map(|(n, (stratum, silence, vitals))| (device(n), stratum, Control { silence, vitals }))
            .collect();
        Evidence { exposed, controls, strata: vec!["class-0".to_owned(), "class-1".to_owned()] }
    })
}

fn device(n: u8) -> DeviceId {
    DeviceId::mint([n; 16])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_order_of_devices_is_irrelevant(evidence in evidence(), by in 0..12_usize) {
        let mut turned = evidence.clone();
        let (n, m) = (turned.exposed.len().max(1), turned.controls.len().max(1));
        turned.exposed.rotate_left(by % n);
        turned.controls.reverse();
        turned.controls.rotate_left(by % m);
        prop_assert_eq!(ask(&evidence), ask(&turned));
        prop_assert_eq!(evidence.digest().unwrap(), turned.digest().unwrap());
    }

    /// Also after the report and its evidence have been written down and read again.
    #[test]
    fn what_is_said_is_computed_again(evidence in evidence()) {
        let report = ask(&evidence);
        prop_assert_eq!(recompute(&evidence, &limits(), &report), Ok(()));
        let read: GateReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        let shown: Evidence = serde_json::from_str(&serde_json::to_string(&evidence).unwrap()).unwrap();
        prop_assert_eq!(&read, &report);
        prop_assert_eq!(recompute(&shown, &limits(), &read), Ok(()));
        let mut forged = report;
        forged.layers[1].n += 1;
        prop_assert!(recompute(&evidence, &limits(), &forged).is_err());
    }

    /// Devices that were asked and have shown nothing, however many, beside whatever controls.
    #[test]
    fn no_data_is_never_green(evidence in evidence(), install in prop::sample::select(vec![Install::Pending, Install::Succeeded])) {
        let mut silent = evidence;
        for (_, _, shown) in &mut silent.exposed {
            *shown = DeviceEvidence { install, ..DeviceEvidence::default() };
        }
        prop_assert!(ask(&silent).verdict == Verdict::Insufficient);
    }

    /// Late evidence only tightens: whoever turns out to have failed, too, takes no accusation back.
    #[test]
    fn more_failures_never_acquit(evidence in evidence(), which in 0..12_usize, failed in 0.0..5.0_f64) {
        let before = ask(&evidence);
        let mut worse = evidence;
        if worse.exposed.is_empty() {
            return Ok(());
        }
        let which = which % worse.exposed.len();
        let (_, _, shown) = &mut worse.exposed[which];
        match shown.install {
            Install::Succeeded => {
                shown.failed_hours += failed;
                shown.silence.silent_hours.get_or_insert(40.0);
            }
            Install::Pending | Install::Failed => shown.install = Install::Failed,
        }
        shown.failure.get_or_insert_with(|| "golden_mismatch".to_owned());
        let after = ask(&worse);
        for kind in [Layer::HardStop, Layer::Install, Layer::Reverts, Layer::Runtime, Layer::Silence] {
            prop_assert!(layer(&before, kind) != Verdict::Fail || layer(&after, kind) == Verdict::Fail, "{kind:?}");
        }
    }
}
