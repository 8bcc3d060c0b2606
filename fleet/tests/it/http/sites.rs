//! When boxes may be touched, and what they are sorted by: rules, leases, freezes, tags, cohorts over REST.

use axum::body::Body;
use axum::http::{Method, header};
use serde_json::{Value, json};

use super::{Answer, Api, enrol, request, rollout_of};
use crate::publisher::{Bundle, Publisher};

async fn put(api: &Api, path: &str, body: &Value, seen: Option<u64>) -> Answer {
    let mut request = request(Method::PUT, path).header(header::CONTENT_TYPE, "application/json");
    if let Some(seen) = seen {
        request = request.header(header::IF_MATCH, format!("\"{seen}\""));
    }
    api.send(request.body(Body::from(body.to_string())).unwrap()).await
}

#[tokio::test]
async fn a_site_allows_everything_until_it_says_otherwise() {
    let api = Api::start().await;
    let site = api.see("/api/v1/sites/er-2").await;
    assert_eq!(
        (&site["zone"], &site["revision"], &site["consent"]),
        (&json!("UTC"), &json!(0), &json!("not_needed"))
    );
    let rules = json!({"zone": "Europe/Berlin", "activation": {"windows": ["daily 22:00-05:00"]},
        "in_flight_max": 5, "consent": "ask"});
    let set = put(&api, "/api/v1/sites/er-2", &rules, Some(0)).await;
    assert_eq!(
        (set.status.as_u16(), set.headers[header::ETAG].to_str().unwrap()),
        (200, "\"1\""),
        "{}",
        set.text()
    );
    put(&api, "/api/v1/sites/er-2", &rules, Some(0)).await.is_problem(412, "stale");
    assert_eq!(api.see("/api/v1/sites").await["items"][0], set.json());
    let check = async |edit: fn(&mut Value)| {
        let mut wrong = rules.clone();
        edit(&mut wrong);
        put(&api, "/api/v1/sites/er-2", &wrong, None).await.is_problem(422, "invalid");
    };
    check(|r| r["zone"] = "Europe/Nowhere".into()).await;
    check(|r| r["activation"]["windows"] = json!(["sometimes"])).await;
    check(|r| r["in_flight_max"] = 0.into()).await;
    check(|r| r["colour"] = "blue".into()).await;
    let said = api.see("/api/v1/log?limit=1").await;
    let sentence = said["items"][0]["sentence"].as_str().unwrap();
    assert!(sentence.contains("daily 22:00-05:00") && sentence.contains("consent"), "{sentence}");
    api.stop().await;
}

#[tokio::test]
async fn leases_are_taken_held_and_given_back() {
    let api = Api::start().await;
    let device = enrol(api.fleet(), 1, None).await;
    let take = async |body: Value| api.post("/api/v1/leases", &body).await;
    take(json!({"site": "er", "device": device, "reason": "x", "for_s": 60}))
        .await
        .is_problem(422, "invalid");
    take(json!({"reason": "x", "for_s": 60})).await.is_problem(422, "invalid");
    take(json!({"site": "er", "reason": " ", "for_s": 60})).await.is_problem(422, "invalid");
    take(json!({"site": "er", "reason": "x", "for_s": 0})).await.is_problem(422, "invalid");
    let stranger = muster_protocol::ids::DeviceId::mint([99; 16]);
    take(json!({"device": stranger, "reason": "x", "for_s": 60})).await.is_problem(404, "not_found");

    let taken = take(json!({"device": device, "owner": "MRI", "reason": "study", "for_s": 3600})).await;
    assert_eq!(taken.status, 201, "{}", taken.text());
    let taken = taken.json();
    assert_eq!(take(json!({"site": "er", "reason": "brief", "for_s": 1})).await.status, 201);
    let held = api.see("/api/v1/leases").await;
    assert!(held["items"].as_array().unwrap().contains(&taken), "{held}");
    // What has run out holds nobody up, whether or not somebody swept it away.
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while api.see("/api/v1/leases").await["items"].as_array().unwrap().len() > 1 {
        assert!(tokio::time::Instant::now() < until, "a lease of a second lasts on");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let path = format!("/api/v1/leases/{}/release", taken["id"].as_str().unwrap());
    assert_eq!(api.post(&path, &json!({})).await.json(), taken);
    api.post(&path, &json!({})).await.is_problem(404, "not_found");
    assert_eq!(api.see("/api/v1/leases").await["items"], json!([]));
    api.stop().await;
}

#[tokio::test]
async fn the_fleet_and_its_sites_freeze_and_thaw_apart() {
    let api = Api::start().await;
    api.post("/api/v1/freezes", &json!({"reason": ""})).await.is_problem(422, "invalid");
    api.post("/api/v1/freezes", &json!({"reason": "flu wave"})).await;
    let both = api.post("/api/v1/freezes", &json!({"site": "er", "reason": "network works"})).await.json();
    let items = both["items"].as_array().unwrap();
    assert_eq!((items.len(), items[0].get("site"), &items[1]["site"]), (2, None, &json!("er")));
    let left = api.post("/api/v1/freezes/thaw", &json!({})).await.json();
    assert_eq!((&left["items"][0]["site"], left["items"].as_array().unwrap().len()), (&json!("er"), 1));
    api.post("/api/v1/freezes/thaw", &json!({})).await.is_problem(409, "state");
    api.stop().await;
}

#[tokio::test]
async fn tags_sort_boxes_and_cohorts_ask_for_them() {
    let api = Api::start().await;
    let mut devices = Vec::new();
    for n in 1..=4 {
        devices.push(enrol(api.fleet(), n, None).await);
    }
    let path = format!("/api/v1/devices/{}/tags", devices[0]);
    let icu = json!({"tags": {"ward": "icu"}});
    assert_eq!(put(&api, &path, &icu, Some(0)).await.json()["tags"], icu["tags"]);
    put(&api, &path, &icu, Some(0)).await.is_problem(412, "stale");
    put(&api, &path, &json!({"tags": {"Ward": "icu"}}), None).await.is_problem(422, "invalid");
    let many: serde_json::Map<String, Value> = (0..65).map(|n| (format!("t{n}"), "x".into())).collect();
    put(&api, &path, &json!({"tags": many}), None).await.is_problem(422, "invalid");

    let body = json!({"filter": "site=icu, !ward", "set": {"ward": "icu"}});
    let dry = api.post("/api/v1/tags?dry_run=true", &body).await.json();
    assert_eq!(
        (&dry["devices"], &dry["changed"], &dry["names"]),
        (&json!(2), &json!(2), &json!(["box-2", "box-4"]))
    );
    assert_eq!(api.see(&format!("/api/v1/devices/{}/tags", devices[1])).await["tags"], json!({}));
    assert_eq!(api.post("/api/v1/tags", &body).await.json()["changed"], 2);
    api.post("/api/v1/tags", &json!({"filter": ""})).await.is_problem(422, "invalid");

    put(&api, "/api/v1/cohorts/icu", &json!({"filter": "ward in ("}), None).await.is_problem(422, "invalid");
    let saved = put(&api, "/api/v1/cohorts/icu", &json!({"filter": "ward=icu"}), Some(0)).await.json();
    assert_eq!((&saved["devices"], &saved["names"]), (&json!(3), &json!(["box-1", "box-2", "box-4"])));
    assert_eq!(api.see("/api/v1/cohorts/icu").await, saved);
    assert_eq!(api.see("/api/v1/cohorts").await["items"][0]["filter"], "ward=icu");
    assert_eq!(api.post("/api/v1/cohorts/icu/remove", &json!({})).await.status, 204);
    api.get("/api/v1/cohorts/icu").await.is_problem(404, "not_found");
    api.stop().await;
}

#[tokio::test]
async fn a_plan_takes_the_filter_that_its_cohort_has_now() {
    let api = Api::start().await;
    let bundle = Bundle::make("bundles/er-beds/1.json", b"1");
    Publisher::begin(api.fleet(), &[&bundle]).await;
    for n in 1..=3 {
        enrol(api.fleet(), n, None).await;
    }
    api.post("/api/v1/tags", &json!({"filter": "site=er", "set": {"ward": "icu"}})).await;
    put(&api, "/api/v1/cohorts/icu", &json!({"filter": "ward=icu"}), None).await;
    let cohort = async |selector: Value| {
        let mut body = rollout_of(&bundle.sha256().to_string());
        body["selector"] = selector;
        api.post("/api/v1/rollouts?dry_run=true", &body).await
    };
    assert_eq!(cohort(json!({"cohort": "icu"})).await.json()["cohort"], 2);
    assert_eq!(cohort(json!({"cohort": "icu", "filter": "name=box-3"})).await.json()["cohort"], 1);
    assert_eq!(cohort(json!({"filter": "ward notin (icu)"})).await.json()["cohort"], 1);
    cohort(json!({"cohort": "nobody"})).await.is_problem(422, "invalid");
    cohort(json!({"filter": "ward"})).await;
    cohort(json!({"filter": "ward=other"})).await.is_problem(422, "empty_cohort");
    api.stop().await;
}
