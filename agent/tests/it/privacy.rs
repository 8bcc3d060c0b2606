//! Patients go through everything that counts them, each with values that nobody else has; then every byte that the box
//! would publish is searched for any of these.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use muster_agent::labels::{Prediction, Predictions, RingLimits};
use muster_agent::measure::{Compared, Outcome, Pair, Panes, Stats};
use muster_agent::oip::{NamedTensor, Tensor, Values};
use muster_agent::report::Counted;
use muster_protocol::drift::{Counter, Floor, OverDispersion, Reference};
use muster_protocol::ids::{BootId, Digest, SlotName};
use muster_protocol::manifest::{Manifest, ReferenceFile, StreamReference};
use muster_protocol::message::{Health, Outbound, Report};
use muster_protocol::time::Timestamp;
use muster_protocol::topic::Up;
use proptest::prelude::*;
use serde_json::{Value, json};

const WINDOW_S: i64 = 6_000;

/// One patient, and when it came.
#[derive(Clone, Copy, Debug)]
struct Patient {
    after_s: i64,
    /// Of the reference's range, or far out of it.
    age: f32,
    missing: bool,
    ward: usize,
    score: f32,
    label: Option<f32>,
}

/// No sum of five of these values is one of them, so what is found was told.
fn patients() -> impl Strategy<Value = Vec<Patient>> {
    let one = (
        0i64..900,
        30.0f32..99.0,
        0u8..10,
        prop::bool::weighted(0.1),
        0usize..4,
        0.11f32..0.19,
        prop::option::of(30.0f32..99.0),
    );
    prop::collection::vec(one, 1..120).prop_map(|rows| {
        let patient = |(at, (after_s, age, far, missing, ward, score, label)): (u16, _)| {
            let unique = f32::from(at) * 0.001_37 + 0.000_61;
            let age = if far == 0 { 1e6 + f32::from(at) * 1e4 + 0.25 } else { age + unique };
            Patient { after_s, age, missing, ward, score, label }
        };
        (0u16..).zip(rows).map(patient).collect()
    })
}

fn manifest() -> Manifest {
    let manifest = json!({
        "schema": "muster-bundle/1", "model": "m", "version": "1", "created": "2026-11-24T02:00:00Z", "task": "regression",
        "signature": {
            "inputs": [{ "name": "x", "datatype": "FP32", "shape": [-1, 5] }],
            "outputs": [{ "name": "y", "datatype": "FP32", "shape": [-1, 1] }],
        },
        "variants": [{ "id": "v", "format": "onnx", "file": "m.onnx", "select": { "device": "CPU" }, "inference_precision": "f32" }],
        "monitoring": { "pane_s": 600, "window_s": WINDOW_S, "streams": [
            { "name": "age", "kind": "numeric", "tensor": "x", "column": 0, "null_when_column": 1 },
            { "name": "ward", "kind": "one_hot", "tensor": "x", "first_column": 2, "categories": ["er", "icu", "rare"] },
            { "name": "score", "kind": "numeric", "tensor": "y", "column": 0 },
        ] },
        "files": [{ "path": "m.onnx", "length": 1, "sha256": Digest::of(b"").to_string() }],
    });
    Manifest::parse(manifest.to_string().as_bytes()).unwrap()
}

fn reference_file() -> ReferenceFile {
    let ages: Vec<f32> = (0_u8..200).map(|i| f32::from(i) / 2.0).collect();
    let scores: Vec<f32> = (0_u8..100).map(|i| f32::from(i) / 500.0).collect();
    let wards = (0..60).map(|i| Some(["er", "er", "icu"][i % 3])).chain([Some("rare")]);
    let references = [Reference::numeric(&ages), Reference::categorical(wards), Reference::numeric(&scores)];
    let streams = ["age", "ward", "score"].into_iter().zip(references).map(|(name, reference)| {
        let over_dispersion = OverDispersion::default();
        let reference =
            StreamReference { reference: reference.unwrap(), over_dispersion, merged: Vec::new() };
        (name.parse().unwrap(), reference)
    });
    ReferenceFile { schema: "muster-reference/1".to_owned(), streams: streams.collect::<BTreeMap<_, _>>() }
}

fn named(name: &str, values: &[f32]) -> Vec<NamedTensor> {
    let tensor = Tensor { shape: vec![1, values.len()], values: Values::Fp32(values.to_vec()) };
    vec![NamedTensor { name: name.to_owned(), tensor }]
}

/// All that a box would publish of these patients.
fn published(patients: &[Patient], floor: Floor) -> Vec<Report> {
    let (slot, bundle): (SlotName, _) = ("m".parse().unwrap(), Digest::of(b"bundle"));
    let mut panes = Panes::new(bundle, &manifest(), Some(&reference_file())).unwrap().floor(floor);
    let mut labels = Predictions::new(slot.clone(), RingLimits::default(), floor);
    let mut stats = Stats::default();
    let mut compared = Compared::default();
    let pair = Pair { bundle: Digest::of(b"next"), against: bundle };
    let mut now = Timestamp::from_seconds(1_800_000_000);
    let mut told = Vec::new();
    let mut tell =
        |panes: &mut Panes, labels: &mut Predictions, stats: &mut Stats, compared: &mut Compared, now| {
            let counted = Counted {
                models: vec![stats.take(slot.clone(), bundle, floor)],
                panes: panes.take(&slot, now, 64),
                labels: labels.take_blocks(64),
                shadows: compared.take(&slot, now, floor, 16),
            };
            told.extend(counted.into_reports(&BootId::mint([7; 16]), now, now, &Health::default()));
        };
    for (at, patient) in patients.iter().enumerate() {
        now = now.plus(Duration::from_secs(patient.after_s.unsigned_abs()));
        let mut x = [patient.age, f32::from(u8::from(patient.missing)), 0.0, 0.0, 0.0];
        if let Some(ward) = x[2..].get_mut(patient.ward) {
            *ward = 1.0;
        }
        let (x, y) = (named("x", &x), named("y", &[patient.score]));
        panes.observe(now, &x, &y);
        let request = name_of(at);
        let prediction = Prediction::Number(patient.score.into());
        labels.remember(&request, bundle, now, &x, vec![prediction]);
        if let Some(label) = patient.label {
            let previous = (at % 3 == 0).then_some((Digest::of(b"old"), &Prediction::Number(0.0)));
            labels.settle(&request, 0, label.into(), previous);
        }
        stats.record(Outcome::Answered { rows: 1, took: Duration::from_micros(70) });
        compared.add(pair, 1, u64::from(patient.missing));
        tell(&mut panes, &mut labels, &mut stats, &mut compared, now);
    }
    panes.close();
    tell(&mut panes, &mut labels, &mut stats, &mut compared, now);
    told
}

fn name_of(patient: usize) -> String {
    format!("mrn-{patient:05}-Lovelace")
}

/// What only one patient has.
fn own_values(patient: &Patient) -> Vec<f64> {
    let label = patient.label.map(f64::from);
    let error = label.map(|label| (f64::from(patient.score) - label).powi(2));
    let mut own = vec![f64::from(patient.age), f64::from(patient.score)];
    own.extend(label.into_iter().chain(error));
    own
}

fn numbers(value: &Value, found: &mut Vec<f64>) {
    match value {
        Value::Number(number) => found.extend(number.as_f64()),
        Value::Array(all) => all.iter().for_each(|value| numbers(value, found)),
        Value::Object(all) => all.values().for_each(|value| numbers(value, found)),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Every number that a reader of the report has or can make by taking a pane's sums apart.
fn readable(report: &Report) -> Vec<f64> {
    let mut found = Vec::new();
    numbers(&serde_json::to_value(report).unwrap(), &mut found);
    for counts in report.panes.iter().flat_map(|pane| &pane.streams) {
        let [sum, first, last] =
            [counts.sum(), counts.sum_first(), counts.sum_last()].map(Option::unwrap_or_default);
        found.extend([sum, first, last, sum - first, sum - last, sum - first - last]);
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_value_of_one_patient_leaves(patients in patients(), k in 5u64..12) {
        let floor = Floor::try_from(k).unwrap();
        for report in published(&patients, floor) {
            let outbound = Outbound::Report(report.clone());
            let bytes = outbound.encode().unwrap();
            prop_assert_eq!(&Outbound::decode(Up::Report, &bytes).unwrap(), &outbound);
            let text = String::from_utf8_lossy(&bytes);
            prop_assert!(!text.contains("Lovelace") && !text.contains("mrn-"));
            let read = readable(&report);
            for own in patients.iter().flat_map(own_values) {
                let near = read.iter().find(|&&number| (number - own).abs() <= own.abs() * 1e-9);
                prop_assert!(near.is_none(), "{own} is told as {near:?}");
                #[expect(clippy::cast_possible_truncation, reason = "inputs are f32")]
                let raw = [(own as f32).to_le_bytes().to_vec(), own.to_le_bytes().to_vec()];
                prop_assert!(!raw.iter().any(|raw| bytes.windows(raw.len()).any(|part| part == raw)), "{own}");
            }
            for model in &report.models {
                prop_assert!(model.rows == 0 || model.rows >= k);
            }
            for block in &report.labels {
                prop_assert!(block.n >= k && block.against.as_ref().is_none_or(|against| against.n >= k));
            }
            for block in &report.shadows {
                let told = [block.n, block.differed, block.n - block.differed];
                prop_assert!(block.n >= k && told.iter().all(|&rows| rows == 0 || rows >= k), "{block:?}");
            }
            for counts in report.panes.iter().flat_map(|pane| &pane.streams) {
                for rows in [counts.rows(), counts.n(), counts.nulls(), counts.novel()] {
                    prop_assert!(rows == 0 || rows >= k, "{counts:?}");
                }
            }
        }
    }
}

/// The search finds what is there: without the floor's work a lone patient's sum is the patient.
#[test]
fn the_search_would_find_a_patient() {
    let patient = Patient { after_s: 0, age: 71.25, missing: false, ward: 0, score: 0.15, label: Some(44.5) };
    let reference = reference_file().streams.remove(&"age".parse().unwrap()).unwrap().reference;
    let Counter::Numeric(mut counter) = Counter::new(&reference) else { panic!("ages are numbers") };
    counter.observe(patient.age);
    assert_eq!(counter.counts().sum(), own_values(&patient).first().copied());
    let told = published(&[patient; 4], Floor::LEAST);
    let silent = |report: &Report| {
        report.panes.is_empty()
            && report.labels.is_empty()
            && report.shadows.is_empty()
            && report.models.iter().all(|model| model.rows == 0)
    };
    assert!(told.iter().all(silent));
    let told = published(&[patient; 9], Floor::LEAST);
    let rows = told.iter().flat_map(|report| &report.panes).map(|pane| pane.streams[0].rows());
    assert_eq!(rows.sum::<u64>(), 9);
}
