//! Why a model is on a box, over the real builder's doors; and the same as `OpenLineage` events, held against its schemas.

use std::path::Path;

use muster_fleet::rollout::{Asked, Member, Phase, Progress};
use muster_fleet::store::rollouts;
use muster_protocol::ids::Digest;
use muster_protocol::message::up::BundleRef;
use serde_json::{Value, json};

use super::models::{ended, until_called};
use super::{Api, enrol};
use crate::desk::Desk;
use crate::publisher::{Bundle, Publisher};
use crate::schemas::Schemas;

pub(crate) const EVENT: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json";

/// A person asks, a builder trains and publishes, a rollout brings it to a box. Returns the box's and the run's ids.
pub(crate) async fn retrained(api: &Api) -> (String, String, Bundle) {
    let champion = Bundle::make("bundles/er-beds/1.json", b"1");
    let publisher = Publisher::begin(api.fleet(), &[&champion]).await;
    let asked = api.post("/api/v1/runs", &json!({"model": "er-beds", "reason": "the flu"})).await;
    assert_eq!(asked.status, 201, "{}", asked.text());
    let claim = api.post("/api/v1/runs/claim", &json!({"builder": "b1", "models": ["er-beds"]})).await.json();
    let (run, trigger) = (&claim["run"]["id"], &claim["request"]["trigger"]["id"]);
    let made = Bundle::with("bundles/er-beds/auto/2.json", b"2", |manifest| {
        manifest["lineage"] = json!({
            "run": run, "trigger": trigger, "champion": champion.sha256(), "trainer": "local",
            "datasets": [{"name": "warehouse/patients", "sha256": Digest::of(b"rows"), "rows": 48_211}],
        });
        manifest["evaluation"] = json!({"metric": "log_loss",
            "sets": [{"name": "recent", "rows": 900, "challenger": 0.21, "champion": 0.34}]});
    });
    for bytes in made.files.values().chain([&made.manifest]) {
        api.put_bytes(&format!("/api/v1/blobs/{}", Digest::of(bytes)), bytes.clone()).await;
    }
    let accepted = api.put_bytes("/api/v1/trust/auto-er-beds.json", publisher.auto(1, &[&made])).await;
    assert_eq!(accepted.status, 200, "{}", accepted.text());
    let finish = json!({"builder": "b1", "outcome": {"published": {
        "bundle": {"path": made.path, "sha256": made.sha256()}, "evaluation": {"metric": "log_loss"}}}});
    let run = run.as_str().unwrap().to_owned();
    let finished = api.post(&format!("/api/v1/runs/{run}/finish"), &finish).await;
    assert_eq!(finished.status, 200, "{}", finished.text());

    let reference = BundleRef { path: made.path.clone(), sha256: made.sha256() };
    let device = enrol(api.fleet(), 1, Some(&reference)).await;
    let now = api.fleet().clocks.world.now();
    let rollout = ended(api.fleet(), 7, &made, Phase::Completed { at: now }, "rollout.completed").await;
    let asked = Asked { at: now, from: None, via: None };
    let progress = Progress::Baked { asked, activated: now, at: now };
    let mut tx = api.fleet().store.write().await.unwrap();
    let member = Member { stage: 0, attempts: 1, progress };
    rollouts::put_device(&mut tx, &rollout.id, &device, &member).await.unwrap();
    tx.commit().await.unwrap();
    (device.to_string(), run, made)
}

#[tokio::test]
async fn a_box_says_why_its_model_is_there() {
    let api = Api::start().await;
    let (device, run, made) = retrained(&api).await;
    let graph = api.see(&format!("/api/v1/devices/{device}/lineage")).await;
    let edges = graph["edges"].as_array().unwrap();
    let edge = |relation: &str| {
        let found = edges.iter().find(|edge| edge["relation"] == relation);
        found.unwrap_or_else(|| panic!("no {relation}: {graph}")).clone()
    };
    assert_eq!(edge("runs")["evidence"], made.sha256().to_string());
    assert!(edge("brought_by")["sentence"].as_str().unwrap().contains("stage 'all'"));
    assert_eq!(edge("started_by")["by"], "ada");
    assert!(edge("started_by")["sentence"].as_str().unwrap().ends_with("because: winter"));
    assert_eq!((&edge("made_by")["evidence"], &edge("made_by")["by"]), (&json!(run), &json!("b1")));
    assert!(edge("asked_by")["sentence"].as_str().unwrap().contains("because: the flu"));
    assert_eq!(edge("trained_on")["evidence"], Digest::of(b"rows").to_string());
    assert!(edge("compared_with")["sentence"].as_str().unwrap().contains("compared with 1"));
    assert_eq!(edge("listed_by")["at"].as_str().map(str::len), Some(24));
    assert_eq!((&graph["gaps"], &graph["truncated"]), (&json!([]), &json!(false)));
    assert_eq!(graph["nodes"][0]["kind"], "device");

    let version = api.see("/api/v1/models/er-beds/versions/2/lineage").await;
    assert_eq!(version["nodes"][0]["kind"], "bundle");
    let rolled = version["edges"].as_array().unwrap().iter().any(|edge| edge["relation"] == "rolled_out_by");
    assert!(rolled, "{version}");
    api.get(&format!("/api/v1/devices/{device}/lineage?slot=other")).await.is_problem(404, "not_found");
    let idle = enrol(api.fleet(), 2, None).await;
    api.get(&format!("/api/v1/devices/{idle}/lineage")).await.is_problem(404, "not_found");

    let desk = Desk::new(&api.fleet().addresses.http);
    let told = desk.ok(&["device", "why", "box-1"]).await;
    assert!(told.contains("box-1 answers for er-beds with er-beds 2"), "{told}");
    assert!(told.contains("device box-1\n└─ runs ▶ bundle er-beds 2"), "{told}");
    assert!(told.contains("made by ▶ run run-"), "{told}");
    desk.refused(&["device", "why", "box-99"], "no box is called").await;
    until_called(&api, "champion", Some(made.sha256())).await;
    let told = desk.ok(&["model", "lineage", "er-beds", "@champion"]).await;
    assert!(told.contains("bundle er-beds 2"), "{told}");
    api.stop().await;
}

#[tokio::test]
async fn events_are_what_openlineage_says_they_are() {
    let api = Api::start().await;
    let (_, run, made) = retrained(&api).await;
    let bad = Bundle::make("bundles/er-beds/1.json", b"1");
    let cause = muster_fleet::rollout::Cause::new("gate", "errors rose");
    let now = api.fleet().clocks.world.now();
    let back = Phase::RolledBack { at: now, stage: 0, cause };
    ended(api.fleet(), 8, &bad, back, "rollout.rolled_back").await;

    let desk = Desk::new(&api.fleet().addresses.http);
    let exported = desk.ok(&["lineage", "export"]).await;
    let events: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut questions = Vec::new();
    for event in &events {
        let before = questions.len();
        questions.push((EVENT.to_owned(), event.clone()));
        facets(event, &mut questions);
        assert!(questions.len() - before >= 4, "{event}");
    }
    Schemas::openlineage().check(&questions);
    let told: Vec<(&str, &str)> = events
        .iter()
        .map(|event| (event["eventType"].as_str().unwrap(), event["job"]["name"].as_str().unwrap()))
        .collect();
    let expect = [
        ("START", "train.er-beds"),
        ("COMPLETE", "train.er-beds"),
        ("COMPLETE", "rollout.er-beds"),
        ("FAIL", "rollout.er-beds"),
    ];
    assert_eq!(told, expect);
    assert_eq!(events[0]["run"]["runId"], events[1]["run"]["runId"]);
    assert_eq!(events[1]["run"]["facets"]["muster_trigger"]["run"], run);
    let data = &events[1]["inputs"][0];
    assert_eq!(data["inputFacets"]["dataQualityMetrics"]["rowCount"], 48_211);
    assert_eq!(data["facets"]["version"]["datasetVersion"], format!("sha256:{}", Digest::of(b"rows")));
    let version = format!("sha256:{}", made.sha256());
    assert_eq!(events[1]["outputs"][0]["facets"]["version"]["datasetVersion"], version);
    // The rollout takes in what the training made: a graph, not a list.
    assert_eq!(events[1]["outputs"][0]["name"], events[2]["inputs"][0]["name"]);
    assert_eq!(events[2]["inputs"][0]["facets"]["version"]["datasetVersion"], version);
    assert_eq!(events[3]["run"]["facets"]["errorMessage"]["message"], "errors rose");

    let page = api.see("/api/v1/lineage/events?limit=1").await;
    assert!(page["next"].is_string() && page["items"].as_array().unwrap().len() <= 1, "{page}");
    api.stop().await;
}

/// Every facet of an event, with the schema that it names.
fn facets(value: &Value, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) => {
            if let Some(schema) = fields.get("_schemaURL").and_then(Value::as_str) {
                found.push((schema.to_owned(), value.clone()));
            }
            fields.values().for_each(|field| facets(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| facets(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The schemas that our facets name are those that are published with this code.
#[test]
fn wrong_events_are_found() {
    let schemas = Schemas::openlineage();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas/openlineage");
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 3);
    let no_run = json!({"eventTime": "2026-01-01T00:00:00Z", "producer": "https://x.example", "schemaURL": "https://x.example"});
    assert!(!schemas.holds(EVENT, &no_run));
    let facet = "https://openlineage.io/spec/facets/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet";
    assert!(
        !schemas.holds(facet, &json!({"_producer": "https://x.example", "_schemaURL": "https://x.example"}))
    );
}
