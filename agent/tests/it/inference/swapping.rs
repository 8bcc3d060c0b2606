//! Bundles change while applications ask; what is counted stays exact.

use std::collections::BTreeMap;

use muster_agent::serve::Served;
use muster_protocol::drift::{Counter, Floor, OverDispersion, Reference};
use muster_protocol::manifest::{Manifest, ReferenceFile, StreamReference};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Box, ask, bundle, line, load, logistic, manifest, served};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_models_are_swapped() {
    let agent = Box::start().await;
    let slot = Box::slot();
    // Twice the same input: a is 1 + 2 * 3 - 1, b one less. Version and answer must always agree.
    agent.slots.activate(&slot, line("a", "line.onnx"));
    let done = CancellationToken::new();
    let mut clients = JoinSet::new();
    for client in 0..6 {
        let done = done.clone();
        let (http, url) = (agent.http.clone(), format!("{}/v2/models/m/infer", agent.url));
        clients.spawn(async move {
            let mut seen = BTreeMap::new();
            for i in 0_u32.. {
                if done.is_cancelled() {
                    break;
                }
                let body = ask(&format!("{client}-{i}"), 2, &[3.0, 1.0]);
                let response = http.post(&url).body(body).send().await.unwrap();
                let (status, answer) = super::answered(response).await;
                assert_eq!(status, 200, "{answer}");
                let version = answer["model_version"].as_str().unwrap().to_owned();
                let expect = if version == "a" { 6.0 } else { 5.0 };
                assert_eq!(answer["outputs"][0]["data"][0].as_f64(), Some(expect), "{answer}");
                *seen.entry(version).or_insert(0_u64) += 1;
            }
            seen
        });
    }
    for swap in 0..12 {
        let (version, file) = if swap % 2 == 0 { ("b", "line_b.onnx") } else { ("a", "line.onnx") };
        let next = tokio::task::spawn_blocking(move || line(version, file)).await.unwrap();
        agent.slots.activate(&slot, next);
        if swap % 5 == 4 {
            assert!(agent.slots.revert(&slot).is_some());
        }
    }
    done.cancel();
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    while let Some(client) = clients.join_next().await {
        for (version, count) in client.unwrap() {
            *seen.entry(version).or_default() += count;
        }
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for stats in agent.slots.stats() {
        assert_eq!((stats.failures, stats.refused), (0, 0));
        let version = if stats.bundle == bundle("a").sha256 { "a" } else { "b" };
        *counted.entry(version.to_owned()).or_default() += stats.requests;
    }
    assert_eq!(counted, seen);
    agent.stop().await;
}

#[tokio::test]
async fn a_box_that_swaps_faster_than_it_reports_keeps_the_counts_of_few() {
    let agent = Box::start().await;
    for version in 0..40 {
        agent.slots.activate(&Box::slot(), line(&version.to_string(), "line.onnx"));
        // As many as may be told.
        for _ in 0..5 {
            let (status, _) = agent.post("/v2/models/m/infer", ask("q", 2, &[3.0, 1.0])).await;
            assert_eq!(status, 200);
        }
    }
    // Each call tells as much as fits a report.
    let told = || agent.slots.stats().iter().filter(|stats| stats.requests > 0).count();
    let told: usize = std::iter::repeat_with(told).take_while(|&told| told > 0).sum();
    assert!((10..20).contains(&told), "{told} of 40 bundles");
    agent.stop().await;
}

#[tokio::test]
async fn current_previous_revert_and_clear() {
    let agent = Box::start().await;
    let slot = Box::slot();
    let state = || {
        let version = |bundle: Option<muster_protocol::message::up::BundleRef>| {
            bundle.map(|b| b.path.version().to_string())
        };
        (version(agent.slots.current(&slot)), version(agent.slots.previous(&slot)))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(agent.slots.revert(&slot), None);
    agent.slots.activate(&slot, logistic("1", "logistic.onnx"));
    assert_eq!((agent.slots.revert(&slot), state()), (None, (some("1"), None)));
    agent.slots.activate(&slot, logistic("2", "logistic_b.onnx"));
    assert_eq!(state(), (some("2"), some("1")));
    agent.slots.activate(&slot, logistic("2", "logistic_b.onnx"));
    assert_eq!(state(), (some("2"), some("1")));
    assert_eq!(agent.slots.revert(&slot), Some(bundle("1")));
    assert_eq!(state(), (some("1"), None));
    agent.slots.clear(&slot);
    assert_eq!(state(), (None, None));
    agent.stop().await;
}

#[test]
fn a_manifest_that_is_not_of_its_model_is_refused() {
    let refuse = |manifest: Manifest, code: &str, expect: &str| {
        let error = Served::new(load("logistic.onnx"), manifest, bundle("1"), None).unwrap_err();
        assert!(error.code() == code && error.to_string().contains(expect), "{error}");
    };
    refuse(manifest("1", 4, "probability", "binary"), "signature_mismatch", "output 'probability'");
    refuse(manifest("1", 5, "score", "binary"), "signature_mismatch", "input 'x'");
    refuse(monitored("1"), "reference_mismatch", "'first'");
}

fn monitored(version: &str) -> Manifest {
    let mut value = serde_json::to_value(manifest(version, 4, "score", "binary")).unwrap();
    value["monitoring"] = serde_json::json!({ "pane_s": 600, "window_s": 6000, "streams": [
        { "name": "first", "kind": "numeric", "tensor": "x", "column": 0 },
        { "name": "score", "kind": "numeric", "tensor": "score", "column": 0 },
    ] });
    Manifest::parse(value.to_string().as_bytes()).unwrap()
}

fn references() -> [Reference; 2] {
    let first: Vec<f32> = (0_u8..100).map(f32::from).collect();
    let score: Vec<f32> = (0_u8..100).map(|i| f32::from(i) / 100.0).collect();
    [Reference::numeric(&first).unwrap(), Reference::numeric(&score).unwrap()]
}

fn reference_file() -> ReferenceFile {
    let streams = ["first", "score"].into_iter().zip(references()).map(|(name, reference)| {
        (
            name.parse().unwrap(),
            StreamReference { reference, over_dispersion: OverDispersion::default(), merged: Vec::new() },
        )
    });
    ReferenceFile { schema: "muster-reference/1".to_owned(), streams: streams.collect() }
}

#[tokio::test]
async fn panes_equal_direct_counting_across_a_swap_and_back() {
    let agent = Box::start().await;
    let slot = Box::slot();
    let serve = |version: &str| served("logistic.onnx", monitored(version), Some(reference_file()));
    let mut counted: BTreeMap<&str, [Counter; 2]> = BTreeMap::new();
    agent.slots.activate(&slot, serve("1"));
    let from = agent.now();
    for (at, version) in ["1", "2", "1"].into_iter().enumerate() {
        match at {
            0 => {}
            1 => agent.slots.activate(&slot, serve("2")),
            _ => assert!(agent.slots.revert(&slot).is_some()),
        }
        for i in 0..20_u8 {
            let x = [f32::from(i) * 7.0, 0.1, 0.2, 0.3];
            let (status, answer) = agent.infer("", 4, &x).await;
            assert_eq!(status, 200);
            let counters = counted.entry(version).or_insert_with(|| references().map(|r| Counter::new(&r)));
            let score = answer["outputs"][0]["data"][0].as_f64().unwrap();
            for (counter, value) in counters.iter_mut().zip([f64::from(x[0]), score]) {
                let Counter::Numeric(counter) = counter else { panic!("kind") };
                #[expect(clippy::cast_possible_truncation, reason = "it was an f32 when it was written")]
                counter.observe(value as f32);
            }
        }
    }
    assert!(agent.slots.panes(agent.now()).is_empty());
    agent.pass(6000);
    let panes = agent.slots.panes(agent.now());
    assert_eq!(panes.len(), 2, "one pane a bundle, though the first one came twice");
    for pane in panes {
        let version = if pane.bundle == bundle("1").sha256 { "1" } else { "2" };
        let told = |(counter, reference): (&Counter, Reference)| {
            counter.counts().disclosed(&reference, Floor::LEAST)
        };
        let expect: Vec<_> = counted[version].iter().zip(references()).map(told).collect();
        assert_eq!((pane.from, pane.streams), (from, expect), "{version}");
    }
    agent.stop().await;
}
