//! Datasets over REST: what makes a version, what refuses one, and what runs were trained on.

use muster_fleet::dataset::manifest::SCHEMA;
use muster_fleet::dataset::{Column, FileEntry, Kind, Manifest, Profiler, Source};
use muster_protocol::ids::Digest;
use serde_json::{Value, json};

use super::Api;
use crate::publisher::{Bundle, Publisher};

const VERSIONS: &str = "/api/v1/datasets/er-beds/versions";

/// Manifest and profile of one file of three rows; the server never opens it, so its bytes are anything.
pub(super) fn described(content: &[u8]) -> (Manifest, Vec<u8>) {
    let columns = vec![Column { name: "beds".to_owned(), kind: Kind::Real, stored: "DOUBLE".to_owned() }];
    let mut profiler = Profiler::new(&columns, &[]);
    for value in [1.0, 2.0, 3.0] {
        profiler.column(0).unwrap().number(value);
    }
    let profile = serde_json::to_vec(&profiler.finish().0).unwrap();
    let file = FileEntry {
        path: "beds.parquet".to_owned(),
        sha256: Digest::of(content),
        bytes: u64::try_from(content.len()).unwrap(),
        rows: 3,
        from: None,
        to: None,
    };
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        columns,
        time_column: None,
        files: vec![file],
        source: Source::Files,
    };
    (manifest, profile)
}

async fn version(api: &Api, content: &'static [u8]) -> Value {
    let (manifest, profile) = described(content);
    let sha256 = Digest::of(&profile);
    api.put_bytes(&format!("/api/v1/dataset-blobs/{sha256}"), profile).await;
    json!({"manifest": manifest, "profile": sha256})
}

async fn upload(api: &Api, content: &[u8]) {
    let put =
        api.put_bytes(&format!("/api/v1/dataset-blobs/{}", Digest::of(content)), content.to_vec()).await;
    assert_eq!(put.status, 201, "{}", put.text());
}

#[tokio::test]
async fn a_version_needs_its_files_and_agrees_with_them() {
    let api = Api::start().await;
    let body = version(&api, b"one").await;
    api.post(VERSIONS, &body).await.is_problem(409, "state");
    let wrong =
        api.put_bytes(&format!("/api/v1/dataset-blobs/{}", Digest::of(b"one")), b"two".to_vec()).await;
    wrong.is_problem(422, "digest_mismatch");
    upload(&api, b"one").await;
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut body = body.clone();
        edit(&mut body);
        body
    };
    for (wrong, code) in [
        (with(&|body| body["manifest"]["files"][0]["bytes"] = 4.into()), "invalid"),
        (with(&|body| body["manifest"]["files"][0]["rows"] = 4.into()), "invalid"),
        (with(&|body| body["manifest"]["files"][0]["path"] = "../x".into()), "invalid"),
        (with(&|body| body["manifest"]["columns"][0]["name"] = "other".into()), "invalid"),
        (with(&|body| body["external"] = json!(["git:x"])), "invalid"),
        (with(&|body| body["colour"] = "blue".into()), "invalid"),
        (with(&|body| body["note"] = "x".repeat(501).into()), "invalid"),
        (
            with(&|body| {
                body["checks"] = json!([{"rule": {"rows": {"min": 5}}, "measured": "3 rows", "limit": "at least 5",
                    "held": false}]);
            }),
            "rule_broken",
        ),
    ] {
        api.post(VERSIONS, &wrong).await.is_problem(422, code);
    }
    assert_eq!(api.see("/api/v1/datasets").await["items"], json!([]));
    let added = api.post(VERSIONS, &body).await;
    assert_eq!(added.status, 201, "{}", added.text());
    let again = api.post(VERSIONS, &body).await;
    assert_eq!((again.status.as_u16(), again.json()), (200, added.json()));
    let log = api.see("/api/v1/log?limit=5").await;
    let kinds: Vec<&str> =
        log["items"].as_array().unwrap().iter().filter_map(|entry| entry["kind"].as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "dataset.added").count(), 1);
    api.stop().await;
}

#[tokio::test]
async fn versions_are_found_by_number_digest_and_latest_and_compared() {
    let api = Api::start().await;
    for content in [b"one", b"two"] {
        upload(&api, content).await;
        let body = version(&api, content).await;
        assert_eq!(api.post(VERSIONS, &body).await.status, 201);
    }
    let latest = api.see(&format!("{VERSIONS}/latest")).await;
    assert_eq!(latest["number"], 2);
    let by_digest = api.see(&format!("{VERSIONS}/{}", latest["sha256"].as_str().unwrap())).await;
    assert_eq!(by_digest, latest);
    assert_eq!(api.see(&format!("{VERSIONS}/1")).await["number"], 1);
    api.get(&format!("{VERSIONS}/3")).await.is_problem(404, "not_found");
    api.get(&format!("{VERSIONS}/x")).await.is_problem(400, "bad_path");
    let page = api.see(&format!("{VERSIONS}?limit=1")).await;
    assert_eq!(page["items"][0]["number"], 2);
    let next = api.see(&format!("{VERSIONS}?limit=1&cursor={}", page["next"].as_str().unwrap())).await;
    assert_eq!((&next["items"][0]["number"], next.get("next")), (&1.into(), None));
    assert_eq!(api.see(&format!("{VERSIONS}/1/profile")).await["rows"], 3);
    let compared = api.see("/api/v1/datasets/compare?a=er-beds@1&b=er-beds").await;
    assert_eq!((&compared["differs"], &compared["b"]["number"]), (&false.into(), &2.into()));
    let html = api.get("/api/v1/datasets/compare?a=er-beds@1&b=er-beds@2&as=html").await;
    assert_eq!(html.headers["content-type"], "text/html; charset=utf-8");
    assert!(html.text().starts_with("<!doctype html>"));
    api.get("/api/v1/datasets/compare?a=er-beds@1&b=none").await.is_problem(404, "not_found");
    api.stop().await;
}

#[tokio::test]
async fn a_run_keeps_what_it_was_trained_on() {
    let api = Api::start().await;
    let bundle = Bundle::make("bundles/er-beds/1.json", b"1");
    let _publisher = Publisher::begin(api.fleet(), &[&bundle]).await;
    upload(&api, b"one").await;
    let added = api.post(VERSIONS, &version(&api, b"one").await).await.json();
    let run = api.post("/api/v1/runs", &json!({"model": "er-beds", "reason": "I want to"})).await.json();
    let id = run["id"].as_str().unwrap();
    let path = format!("/api/v1/runs/{id}/datasets");
    let one = json!({"name": "er-beds", "sha256": added["sha256"]});
    let says = |builder: &str, datasets: Value| json!({"builder": builder, "datasets": datasets});
    api.post(&path, &says("b", json!([one]))).await.is_problem(409, "lease_lost");
    let claim = api.post("/api/v1/runs/claim", &json!({"builder": "b", "models": ["er-beds"]})).await;
    assert_eq!(claim.status, 200);
    api.post(&path, &says("c", json!([one]))).await.is_problem(409, "lease_lost");
    let unknown = json!({"name": "er-beds", "sha256": Digest::of(b"no such")});
    api.post(&path, &says("b", json!([unknown]))).await.is_problem(404, "not_found");
    for _ in 0..2 {
        let said = api.post(&path, &says("b", json!([one]))).await;
        assert_eq!((said.status.as_u16(), said.json()["items"].as_array().unwrap().len()), (200, 1));
    }
    assert_eq!(api.see(&path).await["items"][0]["sha256"], added["sha256"]);
    assert_eq!(api.see(&format!("{VERSIONS}/1")).await["runs"], json!([id]));
    let entries = api.see("/api/v1/log?limit=20").await;
    let said = entries["items"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "run.datasets");
    assert!(
        said.into_iter().any(|entry| entry["sentence"] == "er-beds is trained on er-beds@1"),
        "{entries}"
    );
    api.stop().await;
}
