//! Proof that the bundle itself is broken. No statistics: the signed bytes are the same on every box, so what
//! contradicts itself once contradicts itself everywhere, and a box's own trouble (its disk, its link, a busy hour) is
//! told apart by the code that the agent gives.
//!
//! A bad signature never comes this far: an agent believes no catalogue that is not signed, and fetches nothing that the
//! catalogue does not name.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::ids::DeviceId;

use super::{Case, Install, Layer, LayerVerdict, Verdict, as_f64, devices};

/// What one device alone proves: the bytes contradict the catalogue, the manifest or each other.
pub const PROOFS: &[&str] = &[
    "content_contradicts",
    "golden_unreadable",
    "manifest_invalid",
    "manifest_misnamed",
    "reference_invalid",
    "signature_mismatch",
];

/// A box's own trouble: the statistics of installs and of hours judge it, however often it repeats.
pub const ORDINARY: &[&str] = &[
    "bundle_revoked",
    "content_damaged",
    "content_too_slow",
    "content_unknown",
    "disk_error",
    "disk_full",
    "install_deadline",
    "interrupted",
    "limit_latency",
    "limit_load",
    "load_timed_out",
    "openvino_unusable",
    "reverted",
    "runtime_missing",
    "runtime_unusable",
    "start_failed",
    "timed_out",
];

pub(super) fn judge(case: &Case<'_>) -> LayerVerdict {
    let layer = LayerVerdict::of(Layer::HardStop, "proof of a broken bundle", case.limits);
    let mut same: BTreeMap<(&str, &str), BTreeSet<&DeviceId>> = BTreeMap::new();
    let (mut decided, mut proofs) = (0_u64, 0_u64);
    let mut proof = None;
    for (id, stratum, shown) in &case.exposed {
        decided += u64::from(shown.install != Install::Pending);
        let Some(code) = shown.failure.as_deref() else { continue };
        if PROOFS.contains(&code) {
            proofs += 1;
            proof.get_or_insert(code);
        } else if !ORDINARY.contains(&code) {
            same.entry((&stratum.hardware, code)).or_default().insert(id);
        }
    }
    let most = same.iter().max_by_key(|(_, devices)| devices.len());
    let repeated = most.map_or(0, |(_, devices)| devices.len());
    let max = case.limits.same_failures_max;
    let layer = LayerVerdict {
        n: decided,
        measured: Some(as_f64(repeated as u64)),
        limit: (max > 0).then(|| f64::from(max)),
        ..layer
    };
    let layer = layer.with_inputs(&[
        ("decided", as_f64(decided)),
        ("proofs", as_f64(proofs)),
        ("same_failures", as_f64(repeated as u64)),
    ]);
    if let Some(code) = proof {
        let who = devices(usize::try_from(proofs).unwrap_or(usize::MAX));
        let sentence = format!("{who} proved that the bundle itself is broken ({code})");
        return LayerVerdict { verdict: Verdict::Fail, sentence, ..layer };
    }
    if let Some((&(hardware, code), _)) = most
        && max > 0
        && repeated >= max as usize
    {
        let class = if hardware.is_empty() { "unknown hardware" } else { hardware };
        let sentence = format!("{} of one kind ({class}) failed in the same way ({code})", devices(repeated));
        return LayerVerdict { verdict: Verdict::Fail, sentence, ..layer };
    }
    if decided == 0 {
        return LayerVerdict { sentence: "no device has tried it yet".to_owned(), ..layer };
    }
    let who = devices(usize::try_from(decided).unwrap_or(usize::MAX));
    let sentence = format!("{who} tried it, nothing proves the bundle broken");
    LayerVerdict { verdict: Verdict::Pass, sentence, ..layer }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answer, evidence};
    use super::super::{DeviceEvidence, GateLimits};
    use super::*;

    fn check(codes: &[(&str, &str)], expect: Verdict) {
        let shown: Vec<_> = codes
            .iter()
            .map(|(_, code)| DeviceEvidence {
                install: Install::Failed,
                failure: Some((*code).to_owned()),
                ..DeviceEvidence::default()
            })
            .collect();
        let mut evidence = evidence(&shown);
        for ((_, stratum, _), (hardware, _)) in evidence.exposed.iter_mut().zip(codes) {
            (*hardware).clone_into(&mut stratum.hardware);
        }
        assert_eq!(answer(Layer::HardStop, &evidence, &GateLimits::default()).verdict, expect, "{codes:?}");
    }

    #[test]
    fn hard_stops() {
        check(&[], Verdict::Insufficient);
        check(&[("a", "content_contradicts")], Verdict::Fail);
        check(&[("a", "golden_mismatch")], Verdict::Pass); // one box may be the box
        check(&[("a", "golden_mismatch"), ("a", "golden_mismatch")], Verdict::Fail);
        check(&[("a", "golden_mismatch"), ("b", "golden_mismatch")], Verdict::Pass);
        check(&[("a", "golden_mismatch"), ("a", "killed")], Verdict::Pass);
        check(&[("a", "disk_full"), ("a", "disk_full")], Verdict::Pass);
        // A code of tomorrow's agent counts as new.
        check(&[("a", "of_tomorrow"), ("a", "of_tomorrow")], Verdict::Fail);
    }
}
