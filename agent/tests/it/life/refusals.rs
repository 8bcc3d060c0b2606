//! What must not be obeyed is refused by name, and hurts nothing.

use muster_protocol::ids::DeviceId;
use muster_protocol::message::EventKind;
use muster_protocol::topic::{Down, Topic};
use muster_protocol::trust::SecretKey;

use super::activation::{ROW, SCORE};
use super::bundle::{logistic, logistic_b};
use super::process::member;
use super::until;

#[tokio::test]
async fn orders_that_are_not_for_this_box_are_refused_with_their_code() {
    let (_broker, fleet, _dir, agent, device) = member().await;
    let (a, b) = (logistic("1"), logistic_b("2"));
    let unlisted = logistic_b("3");
    fleet.publish(&[&a, &b]);
    fleet.order(&device, 10, &[("m", &a)]);
    fleet.activated(&a, 1).await;

    let key = |seed| SecretKey::from_seed([seed; 32]);
    let other = DeviceId::mint([9; 16]);
    let cases = [
        (fleet.signed_order(&other, 11, &[("m", &b)], &key(4)), "order_other_device"),
        (fleet.signed_order(&device, 9, &[("m", &b)], &key(4)), "order_older_version"),
        (fleet.signed_order(&device, 11, &[("m", &b)], &key(5)), "order_signature"),
        (b"{\"signed\":1}".to_vec(), "order_malformed"),
        (fleet.signed_order(&device, 12, &[("m", &unlisted)], &key(4)), "bundle_uncatalogued"),
    ];
    let topic = Topic::Down(device.clone(), Down::Order).to_string();
    for (bytes, wanted) in cases {
        // Twice: it is spoken of once.
        fleet.say(&topic, &bytes);
        fleet.say(&topic, &bytes);
        let refused =
            |kind: &EventKind| matches!(kind, EventKind::OrderRefused { code, .. } if code == wanted);
        fleet.event(wanted, refused).await;
        let state =
            fleet.state(wanted, |state| state.refusal.as_ref().is_some_and(|r| r.code == wanted)).await;
        assert_eq!(state.observed_generation, 10);
        agent.scores(ROW, SCORE).await;
    }
    let refusals =
        fleet.inner().arrived.iter().filter(|e| matches!(e.kind, EventKind::OrderRefused { .. })).count();
    assert_eq!(refusals, 5);
    fleet.order(&device, 13, &[("m", &b)]);
    fleet.activated(&b, 1).await;
    fleet
        .state("no refusal any more", |state| state.refusal.is_none() && state.observed_generation == 13)
        .await;
}

#[tokio::test]
async fn garbage_is_counted_and_named_and_never_fatal() {
    let (_broker, fleet, _dir, agent, device) = member().await;
    until("the hello", || fleet.inner().hellos.first().cloned()).await;
    let down = |kind| Topic::Down(device.clone(), kind).to_string();
    fleet.say(&down(Down::Ack), b"\xff\xfe not json");
    let first = fleet.event("garbage to be named", |kind| matches!(kind, EventKind::Malformed { .. })).await;
    assert!(
        matches!(&first, EventKind::Malformed { count: 1, sentence } if sentence.as_str().contains("down/ack")),
        "{first:?}"
    );
    fleet.say(&down(Down::Chunk), b"MC");
    fleet.say(&down(Down::Chunk), &[0; 600]);
    fleet.say(&down(Down::Call), b"{}");
    fleet.say(&format!("muster/1/d/{device}/down/else"), b"{}");
    fleet.say("muster/1/trust/nonsense", b"{}");
    fleet.say("muster/1/trust/timestamp.json", b"{\"signed\":");
    fleet.event("the altered trust file", |kind| matches!(kind, EventKind::TrustRefused { .. })).await;
    let bundle = logistic("1");
    fleet.publish(&[&bundle]);
    fleet.order(&device, 1, &[("m", &bundle)]);
    fleet.activated(&bundle, 1).await;
    agent.scores(ROW, SCORE).await;
    // One event at once, the others together after a minute; the log has them all.
    let log = agent.log();
    assert_eq!(log.matches("could not be read and was dropped").count(), 6, "{log}");
}
