//! Blobs, trust files and bundles: what is checked before it is kept.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, header};
use muster_protocol::ids::Digest;
use muster_protocol::message::up::BundleRef;
use serde_json::json;

use super::{Api, enrol, request};
use crate::publisher::{Bundle, Publisher};

#[tokio::test]
async fn blobs_are_kept_under_the_digest_of_their_bytes() {
    let api = Api::start().await;
    let bytes = vec![7_u8; 300_000];
    let path = format!("/api/v1/blobs/{}", Digest::of(&bytes));
    let head = || request(Method::HEAD, &path).body(Body::empty()).unwrap();
    assert_eq!(api.send(head()).await.status, 404);
    assert_eq!(api.put_bytes(&path, bytes.clone()).await.status, 201);
    assert_eq!(api.put_bytes(&path, bytes.clone()).await.status, 200);
    let found = api.send(head()).await;
    assert_eq!(
        (found.status.as_u16(), &found.headers[header::CONTENT_LENGTH]),
        (200, &"300000".parse().unwrap())
    );
    let got = api.get(&path).await;
    assert_eq!((got.status.as_u16(), got.body.to_vec()), (200, bytes));
    assert!(got.headers[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
    api.stop().await;
}

#[tokio::test]
async fn an_altered_blob_leaves_nothing() {
    let api = Api::start().await;
    let promised = Digest::of(b"promised");
    let path = format!("/api/v1/blobs/{promised}");
    api.put_bytes(&path, b"other".to_vec()).await.is_problem(422, "digest_mismatch");
    api.get(&path).await.is_problem(404, "not_found");
    api.get(&format!("/api/v1/blobs/{}", Digest::of(b"other"))).await.is_problem(404, "not_found");
    let broken = futures_util::stream::iter([Ok(b"prom".to_vec()), Err(std::io::Error::other("gone"))]);
    let broken = request(Method::PUT, &path).body(Body::from_stream(broken)).unwrap();
    api.send(broken).await.is_problem(400, "bad_body");
    api.get(&path).await.is_problem(404, "not_found");
    api.put_bytes("/api/v1/blobs/abc", Vec::new()).await.is_problem(400, "bad_path");
    api.stop().await;
}

#[tokio::test]
async fn what_takes_longer_than_other_answers_is_published_all_the_same() {
    let api = Api::start().await;
    let root = Publisher::new(api.fleet()).root_file(api.fleet());
    // Nobody else can write meanwhile: it comes as late as a bundle of many gigabytes does, which is read first.
    let busy = api.fleet().store.write().await.unwrap();
    let later = async {
        tokio::time::sleep(Duration::from_secs(22)).await;
        drop(busy);
    };
    let (published, ()) = tokio::join!(api.put_bytes("/api/v1/trust/1.root.json", root), later);
    assert_eq!(published.status, 200, "{}", published.text());
    api.stop().await;
}

#[tokio::test]
async fn a_release_is_published_over_rest_alone() {
    let api = Api::start().await;
    let bundle = Bundle::make("bundles/er-beds/1.json", b"model");
    let mut publisher = Publisher::new(api.fleet());
    let root = publisher.root_file(api.fleet());
    let key = publisher.targets_key();
    let targets = publisher.catalogue(&[&bundle], &key);
    assert_eq!(api.put_bytes("/api/v1/trust/1.root.json", root).await.status, 200);

    let refused =
        api.put_bytes("/api/v1/trust/targets.json", targets.clone()).await.is_problem(422, "trust_refused");
    assert!(!refused["errors"].as_array().unwrap().is_empty(), "{refused}");
    assert_eq!(api.see("/api/v1/bundles").await["items"], json!([]));

    for bytes in bundle.files.values().chain([&bundle.manifest]) {
        let path = format!("/api/v1/blobs/{}", Digest::of(bytes));
        assert_eq!(api.put_bytes(&path, bytes.clone()).await.status, 201);
    }
    let accepted = api.put_bytes("/api/v1/trust/targets.json", targets).await;
    assert_eq!(accepted.status, 200, "{}", accepted.text());
    assert_eq!(accepted.json()["added"][0]["sha256"], bundle.sha256().to_string());

    let running = BundleRef { path: bundle.path.clone(), sha256: bundle.sha256() };
    enrol(api.fleet(), 1, Some(&running)).await;
    let listed = api.see("/api/v1/bundles?model=er-beds").await;
    let shown = &listed["items"][0];
    assert_eq!((&shown["version"], &shown["signer"]), (&json!("1"), &json!("human")));
    assert_eq!((&shown["devices_running"], &shown["catalogued"]), (&json!(1), &json!(true)));
    assert_eq!(api.see(&format!("/api/v1/bundles/{}", bundle.sha256())).await, *shown);
    assert_eq!(api.see("/api/v1/bundles?model=other").await["items"], json!([]));

    let files = api.see("/api/v1/trust").await;
    let names: Vec<&str> =
        files["files"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    for name in ["1.root.json", "timestamp.json"] {
        assert!(names.contains(&name), "{names:?}");
        assert_eq!(api.get(&format!("/api/v1/trust/{name}")).await.status, 200);
    }
    api.stop().await;
}

#[tokio::test]
async fn wrong_trust_files_are_refused_with_every_fault() {
    let api = Api::start().await;
    for (name, bytes) in [("1.root.json", "{}"), ("snapshot.json", "{}"), ("../x", "{}"), ("1.root.json", "")]
    {
        let path = format!("/api/v1/trust/{}", name.replace('/', "%2F"));
        let refused = api.put_bytes(&path, bytes.as_bytes().to_vec()).await.is_problem(422, "trust_refused");
        assert!(!refused["errors"].as_array().unwrap().is_empty(), "{refused}");
    }
    let long = vec![b' '; 3 * 1024 * 1024];
    api.put_bytes("/api/v1/trust/targets.json", long).await.is_problem(413, "too_large");
    api.stop().await;
}
