//! Layer 1: does it install? One Bernoulli outcome a device, decided at the same moment for success and failure
//! (counting failures at once and successes after the bake would condemn healthy bundles, because bad news comes first).

use muster_protocol::ids::DeviceId;

use super::{DeviceEvidence, GateLimits, Install, Layer, LayerVerdict, Verdict, devices, eprocess};

pub(super) fn judge(evidence: &[(DeviceId, DeviceEvidence)], limits: &GateLimits) -> LayerVerdict {
    let count = |outcome| evidence.iter().filter(|(_, device)| device.install == outcome).count();
    let (failed, succeeded) = (count(Install::Failed), count(Install::Succeeded));
    let n = (failed + succeeded) as u64;
    let log_e = eprocess::bernoulli(failed as u64, n, limits.install_failure_baseline);
    let limit = (1.0 / limits.alpha).ln();
    let missing: Vec<DeviceId> = evidence
        .iter()
        .filter(|(_, device)| device.install == Install::Pending)
        .map(|(id, _)| id.clone())
        .collect();
    let (verdict, sentence) = if log_e >= limit {
        (Verdict::Fail, format!("{failed} of {n} installs failed, more than a healthy bundle's share"))
    } else if n == 0 {
        (Verdict::Insufficient, "no device has finished installing yet".to_owned())
    } else if failed == 0 {
        (Verdict::Pass, format!("{} installed, none failed", devices(succeeded)))
    } else {
        (Verdict::Pass, format!("{failed} of {n} installs failed, not enough to blame the bundle"))
    };
    LayerVerdict {
        layer: Layer::Install,
        verdict,
        measured: Some(log_e.exp()),
        limit: Some(limit.exp()),
        n,
        missing,
        sentence,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::device;
    use super::*;

    fn check(outcomes: &[Install], expect: Verdict) {
        let evidence: Vec<_> = (1..)
            .zip(outcomes)
            .map(|(n, &install)| (device(n), DeviceEvidence { install, ..DeviceEvidence::default() }))
            .collect();
        assert_eq!(judge(&evidence, &GateLimits::default()).verdict, expect, "{outcomes:?}");
    }

    #[test]
    fn installs() {
        use Install::{Failed, Pending, Succeeded};
        check(&[], Verdict::Insufficient);
        check(&[Pending], Verdict::Insufficient);
        check(&[Succeeded, Pending], Verdict::Pass);
        check(&[Failed], Verdict::Pass); // one failure proves nothing; the quorum holds the stage
        check(&[Failed, Failed], Verdict::Fail);
        check(&[Failed, Succeeded, Succeeded, Failed], Verdict::Fail);
    }
}
