//! What never reaches a handler, and what every answer carries.

use axum::body::Body;
use axum::http::{Method, header};
use serde_json::json;

use super::{Api, request};

#[tokio::test]
async fn only_this_machine_may_ask_and_no_other_site_may_act() {
    let api = Api::start().await;
    let foreign = axum::http::Request::get("/api/v1/overview").header(header::HOST, "rebound.example");
    api.send(foreign.body(Body::empty()).unwrap()).await.is_problem(421, "wrong_host");
    let nameless = axum::http::Request::get("/api/v1/overview");
    api.send(nameless.body(Body::empty()).unwrap()).await.is_problem(421, "wrong_host");

    let post = || request(Method::POST, "/api/v1/runs").header(header::CONTENT_TYPE, "application/json");
    let body = || Body::from(json!({"model": "er-beds", "reason": "x"}).to_string());
    let cross = post().header("sec-fetch-site", "cross-site").body(body()).unwrap();
    api.send(cross).await.is_problem(403, "cross_site");
    let cross = post().header(header::ORIGIN, "http://evil.example").body(body()).unwrap();
    api.send(cross).await.is_problem(403, "cross_site");
    let cross = request(Method::PUT, "/api/v1/trust/root.json").header("sec-fetch-site", "same-site");
    api.send(cross.body(Body::from("{}")).unwrap()).await.is_problem(403, "cross_site");
    let own = post().header(header::ORIGIN, "http://127.0.0.1:8480").header("sec-fetch-site", "same-origin");
    api.send(own.body(body()).unwrap()).await.is_problem(422, "invalid");
    api.stop().await;
}

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let api = Api::start().await;
    api.get("/api/v1/nothing").await.is_problem(404, "no_route");
    api.get("/api/v2/devices").await.is_problem(404, "no_route");
    api.get("/api/v1/devices/none").await.is_problem(400, "bad_path");
    api.get("/api/v1/bundles/12").await.is_problem(400, "bad_path");
    api.get("/api/v1/devices?limit=many").await.is_problem(400, "bad_query");
    api.get("/api/v1/devices?limit=501").await.is_problem(400, "bad_query");
    api.get("/api/v1/devices?cursor=x").await.is_problem(400, "bad_query");
    api.get("/api/v1/devices?presence=away").await.is_problem(400, "bad_query");
    api.get("/api/v1/rollouts?phase=lost").await.is_problem(400, "bad_query");
    api.json(Method::DELETE, "/api/v1/devices", &json!({})).await.is_problem(405, "method_not_allowed");
    api.json(Method::POST, "/elsewhere", &json!({})).await.is_problem(405, "method_not_allowed");

    let plain = request(Method::POST, "/api/v1/rollouts").body(Body::from("{}")).unwrap();
    api.send(plain).await.is_problem(415, "unsupported_media");
    let broken = request(Method::POST, "/api/v1/rollouts").header(header::CONTENT_TYPE, "application/json");
    api.send(broken.body(Body::from("{")).unwrap()).await.is_problem(400, "bad_body");
    api.post("/api/v1/rollouts", &json!({"model": 7, "bundle": "x"})).await.is_problem(422, "invalid");
    api.post("/api/v1/rollouts", &json!({"model": "m", "bundle": "x", "colour": 1}))
        .await
        .is_problem(422, "invalid");
    let long = json!({"model": "er-beds", "reason": "x".repeat(3 * 1024 * 1024)});
    api.post("/api/v1/runs", &long).await.is_problem(413, "too_large");
    let nameless = request(Method::POST, "/api/v1/runs").header("x-muster-actor", " ");
    let nameless = nameless.header(header::CONTENT_TYPE, "application/json").body(Body::from("{}")).unwrap();
    api.send(nameless).await.is_problem(400, "bad_header");
    api.stop().await;
}

#[tokio::test]
async fn unknown_things_are_named() {
    let api = Api::start().await;
    let digest = "0".repeat(64);
    let nobody = "0".repeat(26);
    for path in [
        format!("devices/d-{nobody}"),
        format!("bundles/{digest}"),
        format!("blobs/{digest}"),
        "trust/targets.json".to_owned(),
        format!("rollouts/ro-{nobody}"),
        format!("rollouts/ro-{nobody}/devices"),
        format!("incidents/inc-{nobody}"),
        format!("runs/run-{nobody}"),
        "policies/er-beds".to_owned(),
        format!("drift/histogram?bundle={digest}&stream=age"),
    ] {
        api.get(&format!("/api/v1/{path}")).await.is_problem(404, "not_found");
    }
    for path in [
        format!("rollouts/ro-{nobody}/pause"),
        format!("incidents/inc-{nobody}/close"),
        format!("runs/run-{nobody}/cancel"),
    ] {
        api.post(&format!("/api/v1/{path}"), &json!({"reason": "x"})).await.is_problem(404, "not_found");
    }
    api.stop().await;
}

#[tokio::test]
async fn every_answer_carries_its_guards() {
    let api = Api::start().await;
    for path in ["/api/v1/overview", "/", "/api/v1/nothing", "/healthz"] {
        let headers = api.get(path).await.headers;
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert!(headers.contains_key(header::CACHE_CONTROL), "{path}");
    }
    api.stop().await;
}

#[tokio::test]
async fn machines_learn_how_it_is() {
    let api = Api::start().await;
    assert_eq!(api.see("/healthz").await["status"], "ok");
    assert_eq!(api.see("/readyz").await["status"], "ready");
    super::enrol(api.fleet(), 1, None).await;
    let metrics = api.get("/metrics").await;
    assert!(metrics.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let text = metrics.text();
    for line in [
        "muster_devices{presence=\"online\"} 1",
        "muster_rollouts{phase=\"held\"} 0",
        "muster_incidents{state=\"open\",kind=\"performance\"} 0",
        "muster_ingest_not_taken_total{why=\"malformed\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("box-1") && !text.contains("d-0"), "{text}");
    assert_eq!(api.see("/api/v1/openapi.json").await["info"]["title"], "Muster fleet");
    api.stop().await;
}

#[tokio::test]
async fn pages_are_the_dashboard_or_say_how_to_get_it() {
    let api = Api::start().await;
    let page = api.get("/rollouts/ro-1").await;
    assert!(page.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
    if page.status == 503 {
        assert!(page.text().contains("make ui"), "{}", page.text());
    } else {
        assert_eq!(page.status, 200);
        assert_eq!(page.headers[header::CACHE_CONTROL], "no-cache");
        let again =
            request(Method::GET, "/").header(header::IF_NONE_MATCH, page.headers[header::ETAG].clone());
        assert_eq!(api.send(again.body(Body::empty()).unwrap()).await.status, 304);
    }
    api.get("/assets/none.js").await.is_problem(404, "no_route");
    let escape = api.get("/../../Cargo.toml").await;
    assert!(!escape.text().contains("[package]"));
    api.stop().await;
}
