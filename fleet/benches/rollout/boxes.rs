//! What the boxes do: take the orders that are on their way, and say what became of them.

use muster_fleet::store::{Page, Store, devices, orders, outbox};
use muster_protocol::ids::DeviceId;
use muster_protocol::message::up::{BundleRef, Phase, ProviderUse, Running, SlotState, State};
use muster_protocol::message::{Provider, VERSION};
use muster_protocol::topic::{Down, Topic};
use muster_protocol::trust::Want;

/// Takes every order out of the outbox, as the broker does. Whom they are for.
pub(crate) async fn handed(store: &Store) -> Vec<DeviceId> {
    let mut db = store.read().await.unwrap();
    let messages = outbox::next(&mut db, &Page::first(10_000)).await.unwrap();
    drop(db);
    if messages.is_empty() {
        return Vec::new();
    }
    let mut devices = Vec::new();
    let mut tx = store.write().await.unwrap();
    for (seq, message) in messages {
        outbox::done(&mut tx, seq).await.unwrap();
        if let Topic::Down(device, Down::Order) = message.topic {
            devices.push(device);
        }
    }
    tx.commit().await.unwrap();
    devices
}

/// They run what they were ordered to run.
pub(crate) async fn answer(store: &Store, devices: &[DeviceId]) {
    say(store, devices, |bundle| Phase::Running { bundle }).await;
}

/// They cannot.
pub(crate) async fn fail(store: &Store, devices: &[DeviceId]) {
    let failed = |bundle| Phase::Failed {
        bundle,
        code: "self_test_failed".to_owned(),
        sentence: "its golden outputs differ".into(),
        again: None,
    };
    say(store, devices, failed).await;
}

async fn say(store: &Store, ids: &[DeviceId], phase: impl Fn(BundleRef) -> Phase) {
    if ids.is_empty() {
        return;
    }
    let mut tx = store.write().await.unwrap();
    for id in ids {
        let device = devices::get(&mut tx, id).await.unwrap().unwrap();
        let order = orders::get(&mut tx, id).await.unwrap().unwrap();
        let slots = order.wants.iter().map(|want| slot(want, &phase, device.state.as_ref())).collect();
        let state = State {
            v: VERSION,
            boot: device.boot.clone(),
            sequence: 1,
            at: order.issued,
            observed_generation: order.version,
            catalogue: 1,
            refusal: None,
            notices: Vec::new(),
            leases: Vec::new(),
            captures: Vec::new(),
            slots,
        };
        assert!(devices::state(&mut tx, id, &state).await.unwrap());
    }
    tx.commit().await.unwrap();
}

fn slot(want: &Want, phase: &impl Fn(BundleRef) -> Phase, before: Option<&State>) -> SlotState {
    let bundle = BundleRef { path: want.bundle.clone(), sha256: want.sha256 };
    let phase = phase(bundle.clone());
    let runs = |bundle: BundleRef| Running {
        bundle,
        variant: "cpu".to_owned(),
        provider: ProviderUse { provider: Provider::OnnxCpu, reason: None },
        numerics: None,
        passed_over: None,
        since: muster_protocol::time::Timestamp::default(),
    };
    let current = match &phase {
        Phase::Running { .. } => Some(runs(bundle)),
        Phase::Empty
        | Phase::Downloading { .. }
        | Phase::Verifying { .. }
        | Phase::SelfTesting { .. }
        | Phase::Ready { .. }
        | Phase::Activating { .. }
        | Phase::Failed { .. }
        | Phase::Stopped { .. } => {
            before.into_iter().flat_map(|state| &state.slots).find_map(|slot| slot.current.clone())
        }
    };
    SlotState { slot: want.slot.clone(), phase, current, previous: None, notice: None }
}
