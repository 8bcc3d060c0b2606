//! Why a device does not run what its newest order wants: one code, one sentence, one next step; nothing if it does.

use muster_protocol::message::{Phase, Presence};
use muster_protocol::trust::Want;

use super::super::parts::WaitingFor;
use crate::store::devices::Device;

pub(super) fn waiting_on(device: &Device, order_version: u64, wants: &[Want]) -> Option<WaitingFor> {
    let said = |code: &str, sentence: String, next: &str| {
        let (code, next) = (code.to_owned(), Some(next.to_owned()));
        Some(WaitingFor { code, sentence, next, devices: None })
    };
    let Some(state) = &device.state else {
        return said("silent", "has not reported its state yet".to_owned(), "reports it when it has started");
    };
    if let Some(refusal) = &state.refusal {
        let sentence = format!("refuses its order: {}", refusal.sentence);
        return said(&refusal.code, sentence, "see its events; a new order or trust file may cure it");
    }
    let stopped = state.slots.iter().find_map(|slot| match &slot.phase {
        Phase::Stopped { code, sentence, .. } => Some((slot, code, sentence)),
        Phase::Empty
        | Phase::Downloading { .. }
        | Phase::Verifying { .. }
        | Phase::SelfTesting { .. }
        | Phase::Ready { .. }
        | Phase::Activating { .. }
        | Phase::Running { .. }
        | Phase::Failed { .. } => None,
    });
    // First: its ward gets no answers, which is worse than old ones.
    if let Some((slot, code, sentence)) = stopped {
        let sentence = format!("has stopped answering in slot '{}': {sentence}", slot.slot);
        return said(code, sentence, "answers nothing there; roll out another bundle, or reinstate this one");
    }
    let failed = state.slots.iter().find_map(|slot| match &slot.phase {
        Phase::Failed { code, sentence, again, .. } => Some((slot, code, sentence, again)),
        Phase::Empty
        | Phase::Downloading { .. }
        | Phase::Verifying { .. }
        | Phase::SelfTesting { .. }
        | Phase::Ready { .. }
        | Phase::Activating { .. }
        | Phase::Running { .. }
        | Phase::Stopped { .. } => None,
    });
    if let Some((slot, code, sentence, again)) = failed {
        let sentence = format!("could not install it in slot '{}': {sentence}", slot.slot);
        if let Some(again) = again {
            return said(code, sentence, &format!("tries again by itself at {again}"));
        }
        return said(code, sentence, "keeps running what it had; roll back or publish a repaired bundle");
    }
    let open = wants.iter().find(|want| {
        let slot = state.slots.iter().find(|slot| slot.slot == want.slot);
        let current = slot.and_then(|slot| slot.current.as_ref());
        current.is_none_or(|running| running.bundle.sha256 != want.sha256)
    });
    let version = open.map(|want| want.bundle.version().to_string());
    let behind = state.observed_generation < order_version;
    if !behind && version.is_none() {
        return None;
    }
    let what =
        version.map_or_else(|| format!("order {order_version}"), |version| format!("version {version}"));
    if device.presence == Presence::Offline {
        return said("offline", format!("is offline; {what} waits for it"), "goes on when it comes online");
    }
    if behind {
        return said(
            "asked",
            format!("was asked for {what} and has not answered yet"),
            "answers with its next state",
        );
    }
    said("working", format!("is installing {what}"), "activates it after its self-test")
}

#[cfg(test)]
mod tests {
    use muster_protocol::ids::{BootId, BundlePath, DeviceId, Digest};
    use muster_protocol::message::up::{BundleRef, ProviderUse, Running, SlotState};
    use muster_protocol::message::{Capabilities, Provider, Refusal, State};
    use muster_protocol::time::Timestamp;

    use super::*;

    fn bundle(content: &[u8]) -> BundleRef {
        let path: BundlePath = "bundles/er/1.json".parse().unwrap();
        BundleRef { path, sha256: Digest::of(content) }
    }

    fn device(presence: Presence, phase: Phase, current: Option<BundleRef>) -> Device {
        let boot = BootId::mint([1; 16]);
        let running = |bundle| Running {
            bundle,
            variant: "cpu".to_owned(),
            provider: ProviderUse { provider: Provider::OnnxCpu, reason: None },
            numerics: None,
            passed_over: None,
            since: Timestamp::default(),
        };
        let slot = "er".parse().unwrap();
        let state = State {
            v: 1,
            boot: boot.clone(),
            sequence: 1,
            at: Timestamp::default(),
            observed_generation: 2,
            catalogue: 1,
            refusal: None,
            notices: vec![],
            leases: Vec::new(),
            captures: Vec::new(),
            slots: vec![SlotState {
                slot,
                phase,
                current: current.map(running),
                previous: None,
                notice: None,
            }],
        };
        Device {
            id: DeviceId::mint([1; 16]),
            name: "er-1".to_owned(),
            site: "er".parse().unwrap(),
            agent_version: "0".to_owned(),
            capabilities: Capabilities::default(),
            first_seen: Timestamp::default(),
            last_seen: Timestamp::default(),
            presence,
            presence_since: Timestamp::default(),
            boot,
            connection: 1,
            order_applied: 2,
            root: None,
            state: Some(state),
        }
    }

    #[test]
    fn each_state_has_its_sentence() {
        let new = bundle(b"new");
        let want = Want::now("er".parse().unwrap(), new.path.clone(), new.sha256);
        let check = |device: &Device, version: u64, expect: Option<&str>| {
            let waiting = waiting_on(device, version, std::slice::from_ref(&want));
            assert_eq!(waiting.as_ref().map(|waiting| waiting.code.as_str()), expect, "{waiting:?}");
        };
        let runs = Phase::Running { bundle: new.clone() };
        check(&device(Presence::Online, runs.clone(), Some(new.clone())), 2, None);
        check(&device(Presence::Online, runs.clone(), Some(new.clone())), 3, Some("asked"));
        let old = Some(bundle(b"old"));
        check(&device(Presence::Offline, runs, old.clone()), 2, Some("offline"));
        let verifying = Phase::Verifying { bundle: new.clone() };
        check(&device(Presence::Online, verifying.clone(), old.clone()), 2, Some("working"));
        let stopped = Phase::Stopped {
            bundle: new.clone(),
            code: "bundle_revoked".to_owned(),
            sentence: "it was revoked".into(),
        };
        check(&device(Presence::Online, stopped.clone(), None), 2, Some("bundle_revoked"));
        check(&device(Presence::Offline, stopped, None), 2, Some("bundle_revoked"));
        let failed = Phase::Failed {
            bundle: new,
            code: "self_test".to_owned(),
            sentence: "it answers otherwise".into(),
            again: None,
        };
        check(&device(Presence::Online, failed, old.clone()), 2, Some("self_test"));
        let mut refusing = device(Presence::Online, verifying.clone(), old.clone());
        let refusal = Refusal { code: "expired".to_owned(), sentence: "the order has expired".into() };
        refusing.state.as_mut().unwrap().refusal = Some(refusal);
        check(&refusing, 2, Some("expired"));
        let mut silent = device(Presence::Online, verifying, old);
        silent.state = None;
        check(&silent, 2, Some("silent"));
    }
}
