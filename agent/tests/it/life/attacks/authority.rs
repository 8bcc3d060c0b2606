//! Some keys are stolen: what each theft buys, and what it does not.

use muster_protocol::ids::DeviceId;
use muster_protocol::message::{EventKind, Phase, State};
use muster_protocol::topic::{Down, Topic};
use muster_protocol::trust::Sign as _;
use muster_protocol::trust::author::Keys;
use muster_protocol::trust::{Revocation, RevocationAction};
use serde_json::json;

use super::super::activation::{ROW, SCORE};
use super::super::fleet::{Signing, key, root_spec, signed, signed_root};
use super::super::process::Agent;
use super::super::until;
use super::{Scene, evil, twin};

#[tokio::test]
async fn another_box_s_order_is_not_obeyed() {
    let scene = Scene::set().await;
    let bundle = evil("2");
    scene.fleet.publish(&[&bundle]);
    // Genuine, newer, and for somebody else: the broker puts it where this box listens.
    let other = scene.fleet.signed_order(&DeviceId::mint([9; 16]), 11, &[("m", &bundle)], &key(4));
    scene.fleet.retain(vec![(Topic::Down(scene.device.clone(), Down::Order), other)]);
    scene.refused("order_other_device").await;
    scene.obeys(&Signing::honest(3), 12).await;
}

#[tokio::test]
async fn one_signing_key_of_two_signs_nothing() {
    let mut spec = root_spec(1);
    spec.targets = Keys { keys: vec![key(2).key(), key(12).key()], threshold: 2 };
    let both = |index| Signing { targets: vec![2, 12], ..Signing::honest(index) };
    let scene = Scene::set_with(signed_root(&spec, &[1]), both(1), "").await;
    let bundle = evil("2");
    scene.fleet.hold(&bundle);
    let draft = scene.fleet.draft(|spec| spec.put(&bundle.target(json!({ "model": "m" }))));
    for stolen in [2, 12] {
        scene.fleet.retain(signed(&draft, &Signing { targets: vec![stolen], ..both(2) }));
        scene.refused("trust_signature").await;
    }
    // The thief has signed index 2, so the owner signs a later one.
    scene.obeys(&both(3), 11).await;
}

#[tokio::test]
async fn a_stolen_server_chooses_only_among_what_is_catalogued_and_fits() {
    let scene = Scene::set().await;
    let fleet = &scene.fleet;
    let (other_hardware, newer_agent, listed) = (evil("arm"), evil("future"), twin("2"));
    for bundle in [&other_hardware, &newer_agent, &listed] {
        fleet.hold(bundle);
    }
    fleet.release(&Signing::honest(2), |spec| {
        spec.put(&other_hardware.target(json!({ "model": "m", "hardware": ["aarch64-npu"] })));
        spec.put(&newer_agent.target(json!({ "model": "m", "min_agent": "99.0.0" })));
        spec.put(&listed.target(json!({ "model": "m", "min_agent": "0.0.1" })));
    });
    fleet.state("the catalogue", |state| state.catalogue == 2).await;
    // All keys of the server: snapshot, timestamp, order. Whatever he orders stands in the owner's list or is refused.
    let unlisted = evil("9");
    fleet.hold(&unlisted);
    let mut misnamed = other_hardware.clone();
    misnamed.path = listed.path.clone();
    for (version, (bundle, code)) in (11..).zip([
        (&unlisted, "bundle_uncatalogued"),
        (&misnamed, "bundle_hash_disagrees"),
        (&other_hardware, "bundle_wrong_hardware"),
        (&newer_agent, "bundle_agent_too_old"),
    ]) {
        fleet.order(&scene.device, version, &[("m", bundle)]);
        scene.refused(code).await;
    }
    // What the theft buys: another bundle that the owner lists for boxes like this.
    fleet.order(&scene.device, 20, &[("m", &listed)]);
    fleet.activated(&listed, 1).await;
    scene.watch.unbroken().await;
}

#[tokio::test]
async fn a_yanked_bundle_runs_on_is_reported_and_is_never_activated_again() {
    let scene = Scene::set().await;
    let fleet = &scene.fleet;
    let (next, yanked) = (twin("2"), scene.good.clone());
    fleet.hold(&next);
    fleet.release(&Signing::honest(2), |spec| {
        spec.put(&next.target(json!({ "model": "m" })));
        spec.remove(&yanked.path);
    });
    let notice = |code: &'static str| {
        move |state: &State| {
            state
                .slots
                .first()
                .and_then(|slot| slot.notice.as_ref())
                .is_some_and(|notice| notice.code == code)
        }
    };
    fleet.state("the notice", notice("running_yanked")).await;
    scene.runs_good().await;
    fleet.order(&scene.device, 11, &[("m", &next)]);
    fleet.activated(&next, 1).await;
    // Back to it, as an order of a stolen server would have it: no.
    fleet.order(&scene.device, 12, &[("m", &yanked)]);
    let refused = |kind: &EventKind| matches!(kind, EventKind::OrderRefused { code, .. } if code == "bundle_uncatalogued");
    fleet.event("the order for it", refused).await;
    let state = fleet.state("the refusal", |state| state.refusal.is_some()).await;
    assert_eq!(state.slots[0].current.as_ref().unwrap().bundle, next.reference());
    scene.watch.unbroken().await;
}

#[tokio::test]
async fn a_revoked_bundle_stops_at_once_says_why_and_stays_stopped_after_a_restart() {
    let scene = Scene::set().await;
    let Scene { broker, fleet, agent, device, good, watch, dir } = scene;
    watch.unbroken().await;
    drop(watch);
    let reason = "miscalibrated on portable films";
    fleet.release(&Signing::honest(2), |spec| {
        let revocation = Revocation { reason: reason.into(), action: RevocationAction::Stop };
        spec.revoke(&good.path, revocation).unwrap();
    });
    let stopped =
        |kind: &EventKind| matches!(kind, EventKind::Stopped { bundle, .. } if *bundle == good.reference());
    let EventKind::Stopped { code, sentence, .. } = fleet.event("the stop", stopped).await else { panic!() };
    assert_eq!(code, "bundle_revoked");
    assert!(sentence.as_str().contains(reason), "{sentence}");
    fleet.state("the phase", |state| matches!(state.slots[0].phase, Phase::Stopped { .. })).await;
    assert_eq!(agent.score(ROW).await, Err(503));
    assert!(agent.terminate().await.success());
    let hellos = fleet.inner().hellos.len();
    let agent = Agent::start(dir.path());
    let boot = until("the box to be back", || fleet.inner().hellos.get(hellos).cloned()).await.boot;
    let stopped = |state: &State| state.slots.iter().any(|slot| matches!(slot.phase, Phase::Stopped { .. }));
    fleet.state("stopped still", |state| state.boot == boot && stopped(state)).await;
    assert_eq!(agent.score(ROW).await, Err(503));
    // Something that is good takes its place.
    let next = twin("next");
    fleet.publish(&[&next]);
    fleet.order(&device, 11, &[("m", &next)]);
    agent.scores(ROW, SCORE).await;
    drop(broker);
}
