//! The past is offered as the present, the present is held back, or the future is claimed.

use muster_agent::clock::TrustClock;
use muster_protocol::message::EventKind;
use muster_protocol::topic::{Down, Topic};
use muster_protocol::trust::Sign as _;
use muster_protocol::trust::author::Keys;
use serde_json::json;

use super::super::fleet::{Signing, key, root, root_spec, signed, signed_root};
use super::super::pki::{Clients, now_and_for, pki};
use super::super::{HOUR, until};
use super::{Scene, evil, twin};

#[tokio::test]
async fn rollback_of_metadata_and_orders_is_refused() {
    let scene = Scene::set().await;
    let fleet = &scene.fleet;
    let (old, earlier) = (fleet.current(), fleet.published());
    let first = fleet.signed_order(&scene.device, 9, &[("m", &scene.good)], &key(4));
    // The catalogue moves on twice.
    fleet.release(&Signing::honest(5), |spec| spec.put(&twin("2").target(json!({ "model": "m" }))));
    fleet.release(&Signing::honest(6), |spec| spec.put(&twin("3").target(json!({ "model": "m" }))));
    fleet.state("catalogue 3", |state| state.catalogue == 3).await;
    // Replayed by a broker: everything as it once was.
    fleet.retain(earlier);
    scene.refused("trust_rollback").await;
    // Signed anew by a thief of the online keys: a new timestamp that leads to an old catalogue.
    fleet.retain(signed(&old, &Signing::honest(7)));
    let again = fleet
        .state("still refused", |state| state.refusal.as_ref().is_some_and(|r| r.code == "trust_rollback"));
    again.await;
    let topic = Topic::Down(scene.device.clone(), Down::Order);
    fleet.say(&topic.to_string(), &first);
    let older = |kind: &EventKind| matches!(kind, EventKind::OrderRefused { code, .. } if code == "order_older_version");
    fleet.event("the old order", older).await;
    let state = fleet.state("the state", |state| state.catalogue == 3).await;
    assert_eq!(state.observed_generation, 10);
    scene.runs_good().await;
    scene.obeys(&Signing::honest(8), 11).await;
}

#[tokio::test]
async fn a_freeze_is_noticed() {
    // Everything verifies and nothing has expired, but the newest word is half a month old.
    let issued = TrustClock::system().now().minus(15 * 24 * HOUR);
    let scene = Scene::set_with(root(), Signing { issued, ..Signing::honest(1) }, "").await;
    let stale =
        |notices: &[muster_protocol::message::Refusal]| notices.iter().any(|n| n.code == "stale_metadata");
    scene.fleet.state("the notice", |state| stale(&state.notices)).await;
    scene.runs_good().await;
    scene.obeys(&Signing::honest(2), 11).await;
    scene.fleet.state("no notice", |state| !stale(&state.notices)).await;
}

#[tokio::test]
async fn versions_far_ahead_signed_with_stolen_keys_are_outlived_by_a_new_root() {
    let scene = Scene::set().await;
    let fleet = &scene.fleet;
    // The thief of the server counts as high as he can, so that nothing honest is ever newer.
    fleet.retain(signed(&fleet.current(), &Signing::honest(1 << 52)));
    fleet.order(&scene.device, 1 << 52, &[("m", &scene.good)]);
    fleet.state("the thief's order", |state| state.observed_generation == 1 << 52).await;
    fleet.order(&scene.device, 11, &[("m", &scene.good)]);
    let older = |kind: &EventKind| matches!(kind, EventKind::OrderRefused { code, .. } if code == "order_older_version");
    fleet.event("the honest order", older).await;
    // A new root replaces the stolen keys: what they reached is forgotten with them.
    let mut spec = root_spec(2);
    spec.snapshot = Keys::one(key(33).key());
    spec.timestamp = Keys::one(key(33).key());
    spec.order = Keys::one(key(34).key());
    fleet.retain(vec![(Topic::Trust("2.root.json".to_owned()), signed_root(&spec, &[1]))]);
    let next = twin("next");
    fleet.hold(&next);
    let signing = Signing { online: 33, ..Signing::honest(2) };
    fleet.release(&signing, |spec| spec.put(&next.target(json!({ "model": "m" }))));
    let order = fleet.signed_order(&scene.device, 12, &[("m", &next)], &key(34));
    fleet.retain(vec![(Topic::Down(scene.device.clone(), Down::Order), order)]);
    fleet.activated(&next, 1).await;
    let state = fleet.state("the honest order", |state| state.observed_generation == 12).await;
    assert_eq!(state.refusal, None);
    scene.watch.unbroken().await;
    // And the stolen keys are worth nothing any more.
    let thief = fleet.signed_order(&scene.device, 1 << 53, &[("m", &scene.good)], &key(4));
    fleet.say(&Topic::Down(scene.device.clone(), Down::Order).to_string(), &thief);
    let forged =
        |kind: &EventKind| matches!(kind, EventKind::OrderRefused { code, .. } if code == "order_signature");
    fleet.event("the thief's next order", forged).await;
}

#[tokio::test]
async fn files_of_different_catalogues_are_not_mixed() {
    let scene = Scene::set().await;
    let fleet = &scene.fleet;
    // Two catalogues of the same version, both with good signatures: one that was published, one that was withdrawn
    // before it was. The broker delivers the index of the one with the list of the other.
    let (one, other) = (twin("2"), evil("3"));
    fleet.hold(&other);
    let published = fleet.draft(|spec| spec.put(&one.target(json!({ "model": "m" }))));
    let withdrawn = fleet.draft(|spec| spec.put(&other.target(json!({ "model": "m" }))));
    let mut mixed = signed(&published, &Signing::honest(2));
    mixed[0] = signed(&withdrawn, &Signing::honest(2)).remove(0);
    fleet.retain(mixed);
    scene.refused("trust_mismatch").await;
    fleet.order(&scene.device, 11, &[("m", &other)]);
    let refused = |kind: &EventKind| matches!(kind, EventKind::OrderRefused { code, .. } if code == "bundle_uncatalogued");
    fleet.event("an order for what only the other lists", refused).await;
    scene.runs_good().await;
    scene.obeys(&Signing::honest(3), 12).await;
}

#[tokio::test]
async fn a_time_far_ahead_signed_with_a_stolen_key_cuts_no_box_off_and_goes_with_the_key() {
    let scene = Scene::set().await;
    let (broker, fleet) = (&scene.broker, &scene.fleet);
    // By what the thief says the broker's certificate is long over.
    broker.front.state().tls = pki().server_by(&pki().server_authority, Clients::MustShow, now_and_for(HOUR));
    let issued = TrustClock::system().now().plus(23 * HOUR);
    fleet.retain(signed(&fleet.current(), &Signing { issued, ..Signing::honest(2) }));
    let suspects =
        |notices: &[muster_protocol::message::Refusal]| notices.iter().any(|n| n.code == "clock_suspect");
    fleet.state("the box to believe it", |state| suspects(&state.notices)).await;
    let connections = fleet.inner().hellos.len();
    broker.front.cut();
    until("a connection all the same", || (fleet.inner().hellos.len() > connections).then_some(())).await;
    // So the root that replaces the stolen key comes, and what the key said of the time goes.
    let mut spec = root_spec(2);
    spec.snapshot = Keys::one(key(33).key());
    spec.timestamp = Keys::one(key(33).key());
    fleet.retain(vec![(Topic::Trust("2.root.json".to_owned()), signed_root(&spec, &[1]))]);
    scene.obeys(&Signing { online: 33, ..Signing::honest(2) }, 11).await;
    fleet.state("the right time", |state| !suspects(&state.notices)).await;
}
