//! Models that are broken or mean harm: each of `tests/corpus` is signed, ordered and fetched like any other, and none of
//! them runs, hangs or kills the box, while another model answers all the time.

use std::path::Path;

use muster_protocol::manifest::Numerics;
use muster_protocol::message::{EventKind, Phase};
use serde_json::{Value, json};

use super::activation::{ROW, SCORE};
use super::bundle::{Bundle, build, fixture, logistic};
use super::process::{Agent, member};
use super::until;
use crate::hardware::is_intel;

/// A bundle of the logistic model's promises around whatever lies in a folder of the corpus.
fn bundle_of(folder: &Path, version: &str) -> Bundle {
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let named = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let extra: Vec<(String, Vec<u8>)> = names
        .iter()
        .filter(|path| named(path) != "model.onnx")
        .map(|path| (named(path), std::fs::read(path).unwrap()))
        .collect();
    let model = std::fs::read(folder.join("model.onnx")).unwrap();
    super::bundle::build_of(version, model, &extra, |manifest| {
        manifest["variants"][0]["beside"] = extra.iter().map(|(name, _)| json!(name)).collect();
        let ir = named(folder).starts_with("ir-");
        manifest["variants"][0]["format"] = if ir { "openvino_ir" } else { "onnx" }.into();
    })
}

#[tokio::test]
async fn no_model_of_the_corpus_runs_or_hurts_the_box() {
    let (_broker, fleet, _dir, agent, device) = member().await;
    let good = logistic("1");
    fleet.publish(&[&good]);
    fleet.order(&device, 1, &[("m", &good)]);
    agent.scores(ROW, SCORE).await;
    let (pid, answers) = (agent.pid(), agent.watch(ROW, SCORE).await);

    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut folders: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    assert!(folders.len() > 60, "only {} models", folders.len());
    for (order, folder) in (2..).zip(&folders) {
        let bad = bundle_of(folder, &format!("{order}"));
        fleet.publish(&[&bad]);
        fleet.order(&device, order, &[("m", &bad)]);
        let wanted = bad.reference();
        let failed = fleet
            .event(
                &format!("the failure of {}", folder.display()),
                |kind| matches!(kind, EventKind::ActivationFailed { bundle, .. } if *bundle == wanted),
            )
            .await;
        let EventKind::ActivationFailed { code, sentence, .. } = failed else { panic!("{failed:?}") };
        println!("{}: {code}: {}", folder.file_name().unwrap().display(), sentence.as_str());
        let expected = ["model_refused", "inference_failed", "killed", "golden_mismatch", "golden_shape"];
        let is_ir = folder.file_name().unwrap().to_str().unwrap().starts_with("ir-");
        let needs_openvino = is_ir && code == "no_variant" && !is_intel();
        assert!(
            expected.contains(&code.as_str()) || needs_openvino,
            "{}: {code}: {}",
            folder.display(),
            sentence.as_str()
        );
        // What reads files that are none of its business is refused before the runtime sees it.
        if folder.file_name().unwrap().to_str().unwrap().starts_with("external-a") {
            assert!(sentence.as_str().contains("not a file of the bundle"), "{}", sentence.as_str());
        }
        answers.unbroken().await;
    }
    assert_eq!(std::fs::read_dir(agent.state_path("layouts")).unwrap().count(), 0);
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    agent.scores(ROW, SCORE).await;
}

/// Golden outputs of the logistic model; the variant that is best by rank is another model.
fn with_a_better_but_wrong_variant(version: &str, edit: impl FnOnce(&mut Value)) -> Bundle {
    super::bundle::build_of(
        version,
        fixture("logistic.onnx"),
        &[("better.onnx".to_owned(), fixture("logistic_changed.onnx"))],
        |manifest| {
            let mut better = manifest["variants"][0].clone();
            better["id"] = "better".into();
            better["file"] = "better.onnx".into();
            better["rank"] = 10.into();
            let mut best = better.clone();
            best["id"] = "best".into();
            best["rank"] = 20.into();
            best["select"] = json!({ "device": "GPU" });
            manifest["variants"].as_array_mut().unwrap().extend([best, better]);
            edit(manifest);
        },
    )
}

#[tokio::test]
async fn the_next_variant_runs_where_a_better_one_fails_and_still_does_after_a_restart() {
    let (_broker, fleet, dir, agent, device) = member().await;
    let bundle = with_a_better_but_wrong_variant("1", |_| ());
    fleet.publish(&[&bundle]);
    fleet.order(&device, 1, &[("m", &bundle)]);
    agent.scores(ROW, SCORE).await;
    let running = async |what: &str| {
        let is = |phase: &Phase| matches!(phase, Phase::Running { .. });
        let seen = fleet.inner().states.len();
        let state = until(what, || {
            let inner = fleet.inner();
            let newest = inner.states.iter().skip(seen.saturating_sub(1)).next_back().cloned();
            newest.filter(|state| state.slots.iter().any(|slot| is(&slot.phase) && slot.current.is_some()))
        });
        state.await.slots[0].current.clone().unwrap()
    };
    let before = running("the state").await;
    assert_eq!((before.variant.as_str(), before.numerics.map(Numerics::as_str)), ("cpu", Some("f32")));
    let why = before.passed_over.as_ref().unwrap().as_str().to_owned();
    assert!(why.contains("'best': OpenVINO drives no GPU of this box"), "{why}");
    assert!(why.contains("'better': golden_mismatch"), "{why}");

    agent.kill();
    let seen = fleet.inner().states.len();
    let agent = Agent::start(dir.path());
    agent.scores(ROW, SCORE).await;
    until("a state of the new process", || (fleet.inner().states.len() > seen).then_some(())).await;
    let after = running("the state after the restart").await;
    assert_eq!((after.variant, after.passed_over), (before.variant, before.passed_over));

    // Where none passes the bundle is bad, and each says why.
    let hopeless = with_a_better_but_wrong_variant("2", |m| {
        for variant in m["variants"].as_array_mut().unwrap() {
            variant["limits"] = json!({ "p95_ms_max": 1e-9 });
        }
    });
    fleet.publish(&[&hopeless]);
    fleet.order(&device, 2, &[("m", &hopeless)]);
    let wanted = hopeless.reference();
    let failed = fleet
        .event(
            "the failure",
            |kind| matches!(kind, EventKind::ActivationFailed { bundle, .. } if *bundle == wanted),
        )
        .await;
    let EventKind::ActivationFailed { code, sentence, .. } = failed else { panic!("{failed:?}") };
    assert_eq!(code, "golden_mismatch");
    assert!(sentence.as_str().contains("'cpu': limit_latency"), "{}", sentence.as_str());
    agent.scores(ROW, SCORE).await;
}

#[tokio::test]
async fn a_model_in_openvinos_own_format_serves() {
    let (_broker, fleet, _dir, agent, device) = member().await;
    let extra = ["model.xml", "model.bin"].map(|name| (name.to_owned(), fixture(&format!("ir/{name}"))));
    let bundle = super::bundle::build_of("1", fixture("ir/model.onnx"), &extra, |manifest| {
        manifest["variants"][0]["beside"] = json!(["model.xml", "model.bin"]);
        manifest["variants"][0]["format"] = "openvino_ir".into();
        manifest["requires"] = json!(["golden", "variant-files"]);
    });
    fleet.publish(&[&bundle]);
    fleet.order(&device, 1, &[("m", &bundle)]);
    if is_intel() {
        agent.scores(ROW, SCORE).await;
    } else {
        let is_it = |kind: &EventKind| matches!(kind, EventKind::ActivationFailed { .. });
        let failed = fleet.event("the refusal", is_it).await;
        let EventKind::ActivationFailed { code, sentence, .. } = failed else { panic!("{failed:?}") };
        assert_eq!(code, "no_variant");
        let says = sentence.as_str();
        assert!(says.contains("OpenVINO does not drive this box's CPU"), "{says}");
    }
    let other = build("2", fixture("logistic.onnx"), &[0.524_979_19, 0.586_617_6], &[], |_| ());
    fleet.publish(&[&other]);
    fleet.order(&device, 2, &[("m", &other)]);
    fleet.activated(&other, 1).await;
}
