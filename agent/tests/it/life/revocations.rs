//! What the catalogue takes back: stopped, or run on and told, in a real process, across restarts.

use muster_protocol::message::{EventKind, Phase, State};
use muster_protocol::trust::{Revocation, RevocationAction};
use serde_json::json;

use super::activation::{ROW, SCORE, SCORE_B};
use super::bundle::{Bundle, logistic, logistic_b};
use super::fleet::Fleet;
use super::process::{Agent, member};
use super::until;
use crate::hardware::is_intel;

fn revoke(fleet: &Fleet, bundle: &Bundle, action: RevocationAction) {
    let reason = "miscalibrated on night shifts".to_owned();
    fleet.edit(|spec| spec.revoke(&bundle.path, Revocation { reason: reason.clone(), action }).unwrap());
}

fn reinstate(fleet: &Fleet, bundle: &Bundle) {
    fleet.edit(|spec| assert!(spec.reinstate(&bundle.path).unwrap()));
    fleet.publish(&[bundle]);
}

fn notice(state: &State) -> Option<&str> {
    state.slots.first()?.notice.as_ref().map(|notice| notice.code.as_str())
}

fn is_stopped(state: &State) -> bool {
    matches!(&state.slots[..], [slot] if matches!(&slot.phase, Phase::Stopped { code, .. } if code == "bundle_revoked"))
}

fn stops(fleet: &Fleet) -> usize {
    fleet.inner().arrived.iter().filter(|event| matches!(event.kind, EventKind::Stopped { .. })).count()
}

async fn refuses(agent: &Agent) {
    assert_eq!(agent.score(ROW).await, Err(503));
    let refused = agent.refusal().await;
    assert_eq!(refused.0, 503, "{refused:?}");
    assert!(refused.1.contains("night shifts"), "an application is not told why: {refused:?}");
}

#[tokio::test]
async fn a_revoked_bundle_stops_with_its_reason_and_stays_stopped_until_it_is_listed_again() {
    let (_broker, fleet, dir, agent, device) = member().await;
    let a = logistic("1");
    fleet.publish(&[&a]);
    fleet.order(&device, 1, &[("m", &a)]);
    agent.scores(ROW, SCORE).await;

    revoke(&fleet, &a, RevocationAction::Stop);
    let event = fleet.event("the stop", |kind| matches!(kind, EventKind::Stopped { .. })).await;
    let EventKind::Stopped { bundle, code, sentence, .. } = event else { panic!("{event:?}") };
    assert_eq!((bundle, code.as_str()), (a.reference(), "bundle_revoked"));
    assert!(sentence.as_str().contains("night shifts"), "{sentence}");
    let state = fleet.state("the stopped slot", is_stopped).await;
    assert_eq!(state.slots[0].current, None, "nothing answers, and nothing is said to");
    refuses(&agent).await;
    assert!(agent.terminate().await.success());

    // Neither does it come back by a restart, and nobody is alarmed twice.
    let agent = Agent::start(dir.path());
    until("the second boot's word", || {
        let inner = fleet.inner();
        let latest = inner.states.last()?;
        (latest.boot != state.boot && is_stopped(latest)).then_some(())
    })
    .await;
    refuses(&agent).await;
    assert_eq!(stops(&fleet), 1);

    // Not revoked any more, and not listed either: it is yanked, and nothing yanked is activated.
    fleet.edit(|spec| assert!(spec.reinstate(&a.path).unwrap()));
    let yanked = |state: &State| matches!(&state.slots[0].phase, Phase::Stopped { code, .. } if code == "bundle_uncatalogued");
    fleet.state("the yanked slot", yanked).await;
    assert!(agent.score(ROW).await.is_err());
    fleet.publish(&[&a]);
    agent.scores(ROW, SCORE).await;
    fleet.state("the slot that runs again", |s| matches!(s.slots[0].phase, Phase::Running { .. })).await;
}

#[tokio::test]
async fn a_revoked_way_back_is_forgotten_and_another_bundle_replaces_a_stopped_one() {
    let (_broker, fleet, dir, agent, device) = member().await;
    let (a, b, c) = (logistic("1"), logistic_b("2"), logistic("3"));
    fleet.publish(&[&a, &b, &c]);
    fleet.order(&device, 1, &[("m", &a)]);
    fleet.activated(&a, 1).await;
    fleet.order(&device, 2, &[("m", &b)]);
    fleet.state("a way back", |state| state.slots.iter().any(|slot| slot.previous.is_some())).await;
    // The current one is stopped: what could be gone back to still can, but nobody goes by himself.
    revoke(&fleet, &b, RevocationAction::Stop);
    let state = fleet.state("the stopped slot", is_stopped).await;
    assert_eq!(state.slots[0].previous, Some(a.reference()));
    fleet.order(&device, 3, &[("m", &c)]);
    agent.scores(ROW, SCORE).await;
    let state =
        fleet.state("the new bundle", |s| s.observed_generation == 3 && s.slots[0].current.is_some()).await;
    assert_eq!(state.slots[0].previous, Some(a.reference()), "a revoked bundle is no way back");
    revoke(&fleet, &a, RevocationAction::Retain);
    fleet.state("no way back", |state| state.slots[0].previous.is_none()).await;
    let model = c.digest_of("model.onnx").to_string();
    let model = agent.state_path(&format!("blobs/{}/{model}", &model[..2]));
    assert!(agent.terminate().await.success());

    // The current one is damaged while the box is off: there is nothing to go back to, and it does not go back.
    std::fs::write(&model, b"damaged").unwrap();
    let agent = Agent::start(dir.path());
    let gone = |kind: &EventKind| matches!(kind, EventKind::Reverted { to: None, .. });
    fleet.event("the empty slot", gone).await;
    // Healed from the network, since it is wished and listed.
    agent.scores(ROW, SCORE).await;
}

#[tokio::test]
async fn what_is_yanked_or_retained_runs_on_and_is_told() {
    let (_broker, fleet, dir, agent, device) = member().await;
    let (a, b) = (logistic("1"), logistic_b("2"));
    fleet.publish(&[&a, &b]);
    fleet.order(&device, 1, &[("m", &b)]);
    agent.scores(ROW, SCORE_B).await;
    fleet.edit(|spec| assert!(spec.remove(&b.path)));
    let state = fleet.state("the yanked bundle", |state| notice(state) == Some("running_yanked")).await;
    assert!(matches!(state.slots[0].phase, Phase::Running { .. }));
    agent.scores(ROW, SCORE_B).await;
    revoke(&fleet, &b, RevocationAction::Retain);
    fleet.state("the revoked bundle", |state| notice(state) == Some("running_revoked")).await;
    agent.scores(ROW, SCORE_B).await;
    assert!(agent.terminate().await.success());
    let agent = Agent::start(dir.path());
    agent.scores(ROW, SCORE_B).await;
    assert_eq!(stops(&fleet), 0);
    // Replaced, and from then on neither wished for with success nor gone back to.
    fleet.order(&device, 2, &[("m", &a)]);
    agent.scores(ROW, SCORE).await;
    let quiet = |state: &State| state.observed_generation == 2 && notice(state).is_none();
    let state =
        fleet.state("nothing to tell", |state| quiet(state) && state.slots[0].previous.is_none()).await;
    assert_eq!(state.slots[0].current.as_ref().unwrap().bundle, a.reference());
    fleet.order(&device, 3, &[("m", &b)]);
    fleet
        .state("the refusal", |state| state.refusal.as_ref().is_some_and(|r| r.code == "bundle_revoked"))
        .await;
    agent.scores(ROW, SCORE).await;
    reinstate(&fleet, &b);
    fleet.order(&device, 4, &[("m", &b)]);
    agent.scores(ROW, SCORE_B).await;
}

#[tokio::test]
async fn what_the_publisher_did_not_mean_for_this_box_is_refused_by_name() {
    let (_broker, fleet, _dir, agent, device) = member().await;
    let (fits, other, newer) = (logistic("1"), logistic_b("2"), logistic_b("3"));
    fleet.publish(&[&fits, &other, &newer]);
    let arch = std::env::consts::ARCH;
    let runs_it = if is_intel() { "openvino" } else { "cpu" };
    fleet.demand(&fits, json!({ "hardware": [format!("{arch}-{runs_it}")], "min_agent": "0.0.1" }));
    fleet.demand(&other, json!({ "hardware": [format!("{arch}-openvino-npu")] }));
    fleet.demand(&newer, json!({ "min_agent": "99.0.0" }));
    fleet.order(&device, 1, &[("m", &fits)]);
    agent.scores(ROW, SCORE).await;
    for (version, bundle, code) in [(2, &other, "bundle_wrong_hardware"), (3, &newer, "bundle_agent_too_old")]
    {
        fleet.order(&device, version, &[("m", bundle)]);
        let refused = |kind: &EventKind| matches!(kind, EventKind::OrderRefused { code: c, .. } if c == code);
        fleet.event(code, refused).await;
        agent.scores(ROW, SCORE).await;
    }
    // The publisher asks for something else of the box that runs it: nothing changes under a running model, and what it was
    // ordered before it may be ordered still.
    fleet.demand(&fits, json!({ "min_agent": "99.0.0" }));
    fleet.order(&device, 4, &[("m", &fits)]);
    let follows = || (fleet.inner().states.last()?.observed_generation == 4).then_some(());
    until("the order is followed", follows).await;
    agent.scores(ROW, SCORE).await;
    // In another slot it would be new.
    fleet.order(&device, 5, &[("m", &fits), ("n", &fits)]);
    let refused = |kind: &EventKind| {
        matches!(kind, EventKind::OrderRefused { code, sentence }
            if code == "bundle_agent_too_old" && sentence.as_str().contains("1.json"))
    };
    fleet.event("the new demand", refused).await;
    agent.scores(ROW, SCORE).await;
}
