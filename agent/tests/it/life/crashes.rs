//! Killed at the worst moments, and content that rots at rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_protocol::ids::Digest;
use muster_protocol::message::EventKind;
use muster_protocol::message::up::Running;
use tokio::time::Instant;

use super::activation::{ROW, SCORE, SCORE_B};
use super::bundle::{logistic, logistic_b};
use super::process::{Agent, member};
use super::{PATIENCE, until};

/// The digest that a slot's document names, which must be whole whenever somebody looks.
fn document(dir: &Path, name: &str) -> Option<Digest> {
    let bytes = fs::read(dir.join("state/slots/m").join(name)).ok()?;
    let running: Running = serde_json::from_slice(&bytes).unwrap();
    Some(running.bundle.sha256)
}

#[tokio::test]
async fn killed_while_activating_the_slot_is_whole_and_the_order_is_carried_out() {
    let (_broker, fleet, dir, agent, device) = member().await;
    let (a, b) = (logistic("1"), logistic_b("2"));
    fleet.publish(&[&a, &b]);
    fleet.order(&device, 1, &[("m", &a)]);
    fleet.activated(&a, 1).await;

    // The journal is there: the new model is being loaded, nothing is committed.
    let journal = dir.path().join("state/slots/m/journal.json");
    let appears = tokio::task::spawn_blocking(appears(journal.clone()));
    fleet.order(&device, 2, &[("m", &b)]);
    assert!(appears.await.unwrap(), "no journal");
    agent.kill();
    let current = document(dir.path(), "current.json");
    assert!([Some(a.reference().sha256), Some(b.reference().sha256)].contains(&current));
    let agent = Agent::start(dir.path());
    agent.scores(ROW, SCORE_B).await;
    // It answers a moment before that is committed.
    until("the journal to be removed", || (!journal.exists()).then_some(())).await;
    assert_eq!(document(dir.path(), "current.json"), Some(b.reference().sha256));
    assert_eq!(document(dir.path(), "previous.json"), Some(a.reference().sha256));

    // At whatever moment: the documents are whole, and the wish is reached.
    let mut agent = agent;
    for (version, (after_ms, bundle, score)) in
        (3..).zip([(40, &a, SCORE), (250, &b, SCORE_B), (600, &a, SCORE)])
    {
        fleet.order(&device, version, &[("m", bundle)]);
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        agent.kill();
        assert!(document(dir.path(), "current.json").is_some());
        document(dir.path(), "previous.json");
        agent = Agent::start(dir.path());
        agent.scores(ROW, score).await;
        let wanted = Some(bundle.reference().sha256);
        until("the commit", || (document(dir.path(), "current.json") == wanted).then_some(())).await;
    }
}

/// Looks without a pause: a small model is loaded in a few milliseconds.
fn appears(path: PathBuf) -> impl FnOnce() -> bool {
    move || {
        let since = Instant::now();
        while !path.exists() {
            if since.elapsed() > PATIENCE {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }
}

#[tokio::test]
async fn stopped_while_a_model_is_loaded_it_ends_well() {
    let (_broker, fleet, _dir, agent, device) = member().await;
    let bundle = logistic("1");
    fleet.publish(&[&bundle]);
    fleet.order(&device, 1, &[("m", &bundle)]);
    until("the load", || agent.log().contains("doing=Activating").then_some(())).await;
    assert_eq!(agent.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn content_that_rotted_at_rest_is_not_loaded_and_is_fetched_again() {
    let (_broker, fleet, dir, agent, device) = member().await;
    let (a, b) = (logistic("1"), logistic_b("2"));
    fleet.publish(&[&a, &b]);
    fleet.order(&device, 1, &[("m", &a)]);
    fleet.activated(&a, 1).await;
    fleet.order(&device, 2, &[("m", &b)]);
    fleet.activated(&b, 1).await;
    assert!(agent.terminate().await.success());

    let model = b.digest_of("model.onnx").to_string();
    let path = dir.path().join("state/blobs").join(&model[..2]).join(&model);
    let mut bytes = fs::read(&path).unwrap();
    bytes[150] ^= 1;
    fs::write(&path, bytes).unwrap();
    let agent = Agent::start(dir.path());
    let reverted = fleet.event("the way back", |kind| matches!(kind, EventKind::Reverted { .. })).await;
    let EventKind::Reverted { from, to, code, .. } = reverted else { panic!("{reverted:?}") };
    assert_eq!((from, to, code.as_str()), (b.reference(), Some(a.reference()), "content_damaged"));
    // The order still wants it, and it can be had again.
    fleet.activated(&b, 2).await;
    agent.scores(ROW, SCORE_B).await;
}
