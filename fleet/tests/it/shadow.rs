//! What boxes count in the shadow decides a rollout that asks for it: reported over the broker, judged by the gate.

use std::time::Duration;

use muster_fleet::fleet::Fleet;
use muster_fleet::gate::{GateLimits, Layer, LayerVerdict, Verdict};
use muster_fleet::rollout::{Phase, Rollout};
use muster_fleet::store::rollouts;
use muster_protocol::ids::RolloutId;
use muster_protocol::message::{Health, ModelStats, Report, ShadowBlock};
use muster_protocol::topic::Up;

use crate::device::Device;
use crate::hand_out::{DEVICES, activated, begin_with, fleet, members, new, obey, old};
use crate::server::Server;

/// Rows that each box compares.
const ROWS: u64 = 500;

/// Nothing but the agreement with the bundle before is hard to show.
fn gate() -> GateLimits {
    GateLimits {
        labels_min: 0,
        latency_requests_min: 0,
        silence_after_h: 0.0,
        coverage_classes_max: 0,
        shadow_disagreement_max: Some(0.05),
        ..GateLimits::default()
    }
}

async fn rollout(fleet: &Fleet, id: &RolloutId) -> Rollout {
    let mut db = fleet.store.read().await.unwrap();
    rollouts::get::<Rollout>(&mut db, id).await.unwrap().unwrap().document
}

fn layer(rollout: &Rollout) -> Option<&LayerVerdict> {
    let gate = rollout.stages[0].gate.as_ref()?;
    gate.layers.iter().find(|layer| layer.layer == Layer::Shadow)
}

/// Half of the boxes had the new bundle in the shadow while it waited, the others have the old one there since the switch.
fn report(device: &Device, n: u8, now: muster_protocol::time::Timestamp, differed: u64) -> Report {
    let (old, new) = (old().sha256(), new().sha256());
    let (bundle, against) = if n.is_multiple_of(2) { (new, old) } else { (old, new) };
    let slot: muster_protocol::ids::SlotName = "er-beds".parse().unwrap();
    let day = now.floor_to(Duration::from_hours(24));
    Report {
        boot: device.boot.clone(),
        sequence: 1,
        held_from: 1,
        from: now,
        to: now,
        health: Health::default(),
        models: vec![ModelStats {
            slot: slot.clone(),
            bundle: new,
            requests: ROWS,
            rows: ROWS,
            failures: 0,
            refused: 0,
            latency: vec![],
        }],
        panes: vec![],
        labels: vec![],
        shadows: vec![ShadowBlock { slot, bundle, against, day, n: ROWS, differed }],
    }
}

/// A rollout to everybody whose boxes say that they answered otherwise so often; how it ends.
async fn ends(differed: u64) -> (Phase, LayerVerdict) {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = fleet(data.path()).await;
    let mut boxes = Vec::new();
    for n in 1..=DEVICES {
        let mut device = Device::connect_to(&server.mqtt(), n, 2).await;
        device.hello().await;
        boxes.push((n, device));
    }
    let id = begin_with(&server.fleet, 1, gate()).await;
    let undecided = async |fleet: &Fleet| {
        obey(fleet, |_| true).await;
        let rollout = rollout(fleet, &id).await;
        let waits = layer(&rollout).is_some_and(|layer| layer.verdict == Verdict::Insufficient);
        (waits && activated(&members(fleet, &id).await) == usize::from(DEVICES)).then_some(())
    };
    server.until("everybody runs it, and nothing is known of the agreement", undecided).await;
    for (n, device) in &mut boxes {
        let report = report(device, *n, server.fleet.clocks.moment().world_at, differed);
        device.say(Up::Report, report.encode().unwrap()).await;
        assert_eq!(device.ack().await.report, 1);
    }
    let ended = ended(&server, &id).await;
    let told = layer(&ended).unwrap().clone();
    server.stop().await;
    (ended.phase, told)
}

async fn ended(server: &Server, id: &RolloutId) -> Rollout {
    let over = async |fleet: &Fleet| {
        obey(fleet, |_| true).await;
        let rollout = rollout(fleet, id).await;
        (!rollout.phase.is_open()).then_some(rollout)
    };
    server.until("it is over", over).await
}

#[tokio::test]
async fn a_rollout_passes_where_boxes_say_that_it_answers_like_the_bundle_before() {
    let (phase, told) = ends(5).await;
    assert!(matches!(phase, Phase::Completed { .. }), "{phase:?}");
    assert_eq!((told.verdict, told.n), (Verdict::Pass, ROWS * u64::from(DEVICES)), "{}", told.sentence);
}

#[tokio::test]
async fn a_rollout_is_taken_back_where_boxes_say_that_it_answers_otherwise() {
    let (phase, told) = ends(150).await;
    let Phase::RolledBack { cause, .. } = phase else { panic!("{phase:?}") };
    assert!(cause.sentence.contains("answers otherwise than the bundle before in 30.0 %"), "{cause:?}");
    assert_eq!(told.verdict, Verdict::Fail, "{}", told.sentence);
}
