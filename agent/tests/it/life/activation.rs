//! From an order to an answering model.

use muster_protocol::message::{EventKind, Phase, Presence};

use super::bundle::{build, fixture, logistic, logistic_b};
use super::fleet::slot;
use super::process::{Agent, member};
use super::until;
use crate::hardware::{is_best, is_intel};

/// The two answers to the same row that tell the two models apart.
pub(super) const ROW: [f32; 4] = [0.0; 4];
pub(super) const SCORE: f64 = 0.524_979_19;
pub(super) const SCORE_B: f64 = 0.450_166;

#[tokio::test]
async fn a_first_order_activates_and_serves_on_openvino() {
    let (_broker, fleet, _dir, agent, device) = member().await;
    let hello = until("the hello", || fleet.inner().hellos.first().cloned()).await;
    assert_eq!((hello.name.as_str(), hello.connection, hello.order_version), ("box", 1, 0));
    let driven: &[&str] = if is_intel() { &["CPU"] } else { &[] };
    assert_eq!(hello.capabilities.devices, driven, "{hello:?}");
    assert!(hello.capabilities.cores > 0, "{hello:?}");

    let bundle = logistic("1.0.0");
    fleet.publish(&[&bundle]);
    fleet.order(&device, 7, &[("m", &bundle)]);
    let activated = fleet.event("the activation", |kind| matches!(kind, EventKind::Activated { .. })).await;
    let EventKind::Activated { provider, bundle: which, self_test_ms, .. } = activated else {
        panic!("{activated:?}")
    };
    assert!(is_best(&provider), "{provider:?}");
    assert_eq!(which, bundle.reference());
    assert!(self_test_ms > 0);
    agent.scores(ROW, SCORE).await;

    let state = fleet
        .state("the state", |state| state.slots.iter().any(|s| matches!(s.phase, Phase::Running { .. })))
        .await;
    assert_eq!((state.observed_generation, state.catalogue, state.refusal), (7, 1, None));
    assert_eq!(state.slots[0].current.as_ref().unwrap().bundle, bundle.reference());
    let shown = agent.get("/muster/v1/state").await;
    assert_eq!(shown["observed_generation"], 7);
    assert_eq!(shown["pid"], agent.pid());
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", agent.pid())).unwrap();
    let library = if is_intel() { "libopenvino_intel_cpu_plugin" } else { "libonnxruntime.so" };
    assert!(maps.contains(library), "the process does not run what it reports");
    assert!(shown["runtime"]["libraries"].to_string().contains(library), "{shown}");

    // What applications asked is in a later report, once it is enough that no single patient can be told from it.
    for _ in 0..4 {
        agent.scores(ROW, SCORE).await;
    }
    until("a report of the requests", || {
        let inner = fleet.inner();
        let asked: u64 = inner.reports.values().flat_map(|r| &r.models).map(|model| model.requests).sum();
        (asked >= 5).then_some(())
    })
    .await;
    let health = fleet.inner().reports.values().next_back().unwrap().health.clone();
    assert!(
        health.agent_rss_bytes > 0 && health.memory_total_bytes > 0 && health.disk_free_bytes > 0,
        "{health:?}"
    );

    let began = tokio::time::Instant::now();
    assert!(agent.terminate().await.success());
    assert!(began.elapsed().as_secs() < 2, "stopping took {:?}", began.elapsed());
    let status = fleet.presence(Presence::Offline).await;
    assert_eq!(status.connection, 1);
}

#[tokio::test]
async fn a_newer_order_changes_the_model_and_an_empty_one_clears_the_slot() {
    let (_broker, fleet, _dir, agent, device) = member().await;
    let (a, b) = (logistic("1"), logistic_b("2"));
    fleet.publish(&[&a, &b]);
    fleet.order(&device, 1, &[("m", &a)]);
    agent.scores(ROW, SCORE).await;
    fleet.order(&device, 2, &[("m", &b)]);
    agent.scores(ROW, SCORE_B).await;
    let state =
        fleet.state("the way back", |state| state.slots.iter().any(|slot| slot.previous.is_some())).await;
    assert_eq!(state.slots[0].previous, Some(a.reference()));
    // Back again: nothing of it has to travel.
    let sent = fleet.inner().chunks_sent.len();
    fleet.order(&device, 3, &[("m", &a)]);
    agent.scores(ROW, SCORE).await;
    assert_eq!(fleet.inner().chunks_sent.len(), sent);

    fleet.order(&device, 4, &[]);
    fleet
        .event("the clearing", |kind| matches!(kind, EventKind::Cleared { slot: s } if *s == slot("m")))
        .await;
    assert!(agent.score(ROW).await.is_err());
    until("the content to be removed", || (walk(&agent.state_path("blobs")) == 0).then_some(())).await;
}

#[tokio::test]
async fn an_order_may_come_before_its_catalogue() {
    let (_broker, fleet, _dir, _agent, device) = member().await;
    until("the hello", || fleet.inner().hellos.first().cloned()).await;
    let bundle = logistic("1");
    let files = fleet.catalogue_with(&[&bundle]);
    fleet.order(&device, 1, &[("m", &bundle)]);
    {
        let mut inner = fleet.inner();
        inner.blobs.insert(bundle.reference().sha256, bundle.manifest.clone());
        inner.blobs.extend(bundle.files.iter().map(|(name, bytes)| (bundle.digest_of(name), bytes.clone())));
    }
    // Last things first, as retained messages may come.
    for file in files.into_iter().rev() {
        fleet.retain(vec![file]);
    }
    fleet.activated(&bundle, 1).await;
    let refused =
        fleet.inner().arrived.iter().any(|event| matches!(event.kind, EventKind::OrderRefused { .. }));
    assert!(!refused, "haste is not refusal");
}

#[tokio::test]
async fn a_bundle_that_fails_is_refused_once_and_what_ran_goes_on() {
    let (_broker, fleet, dir, agent, device) = member().await;
    let good = logistic("1");
    let golden = [0.524_979_19, 0.586_617_6];
    let bad = [
        (
            "2-golden",
            build("2-golden", fixture("logistic_changed.onnx"), &golden, &[], |_| ()),
            "golden_mismatch",
        ),
        (
            "3-garbage",
            build("3-garbage", b"this is no model".to_vec(), &golden, &[], |_| ()),
            "model_refused",
        ),
        (
            "4-future",
            build("4-future", fixture("logistic.onnx"), &golden, &[], |m| {
                m["requires"] = serde_json::json!(["telepathy"]);
            }),
            "manifest_unknown_feature",
        ),
    ];
    fleet.publish(&[&good, &bad[0].1, &bad[1].1, &bad[2].1]);
    fleet.order(&device, 1, &[("m", &good)]);
    agent.scores(ROW, SCORE).await;
    for (version, (name, bundle, wanted)) in (2..).zip(&bad) {
        fleet.order(&device, version, &[("m", bundle)]);
        let failed = fleet
            .event(name, |kind| matches!(kind, EventKind::ActivationFailed { bundle: b, .. } if *b == bundle.reference()))
            .await;
        let EventKind::ActivationFailed { code, sentence, .. } = failed else { panic!("{failed:?}") };
        assert_eq!(code, *wanted, "{sentence}");
        agent.scores(ROW, SCORE).await;
    }
    // An order that only repeats the wish does not try again; the state says why.
    fleet.order(&device, 9, &[("m", &bad[2].1)]);
    let state = fleet.state("the newer order", |state| state.observed_generation == 9).await;
    assert!(
        matches!(&state.slots[0].phase, Phase::Failed { code, .. } if code == "manifest_unknown_feature")
    );
    let failures = |inner: &super::fleet::Inner| {
        inner.arrived.iter().filter(|event| matches!(event.kind, EventKind::ActivationFailed { .. })).count()
    };
    assert_eq!(failures(&fleet.inner()), bad.len());
    assert!(agent.terminate().await.success());

    // Neither does a restart.
    let agent = Agent::start(dir.path());
    agent.scores(ROW, SCORE).await;
    until("the second boot's state", || {
        let boots: std::collections::BTreeSet<_> =
            fleet.inner().states.iter().map(|state| state.boot.clone()).collect();
        (boots.len() == 2).then_some(())
    })
    .await;
    fleet.order(&device, 10, &[("m", &bad[0].1)]);
    let again = fleet.state("the newest order", |state| state.observed_generation == 10).await;
    // Asked for anew after another one: this time it is tried again, and fails again.
    assert!(!matches!(again.slots[0].phase, Phase::Running { .. }));
    until("the second failure", || {
        let inner = fleet.inner();
        let failed = inner.arrived.iter().filter(|event| {
            matches!(&event.kind, EventKind::ActivationFailed { code, .. } if code == "golden_mismatch")
        });
        (failed.count() == 2).then_some(())
    })
    .await;
}

/// How many files a folder holds.
fn walk(dir: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.map(|entry| entry.unwrap().path()).map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
}
