//! Rollouts over REST, from the rehearsal to the way back.

use axum::body::Body;
use axum::http::{Method, header};
use muster_fleet::fleet::Fleet;
use muster_fleet::store::{Page, orders, rollouts};
use muster_protocol::ids::DeviceId;
use muster_protocol::message::up::BundleRef;
use serde_json::{Value, json};

use super::{Api, enrol, request, rollout_of};
use crate::publisher::{Bundle, Publisher};

/// A server with two accepted bundles and three devices that run the first.
async fn fleet() -> (Api, Bundle, Bundle) {
    let api = Api::start().await;
    let (old, new) =
        (Bundle::make("bundles/er-beds/1.json", b"1"), Bundle::make("bundles/er-beds/2.json", b"2"));
    Publisher::begin(api.fleet(), &[&old, &new]).await;
    let running = BundleRef { path: old.path.clone(), sha256: old.sha256() };
    for n in 1..=3 {
        enrol(api.fleet(), n, Some(&running)).await;
    }
    (api, old, new)
}

async fn begin(api: &Api, bundle: &Bundle) -> Value {
    let answer = api.post("/api/v1/rollouts", &rollout_of(&bundle.sha256().to_string())).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let rollout = answer.json();
    let location = answer.headers[header::LOCATION].to_str().unwrap();
    assert_eq!(location, format!("/api/v1/rollouts/{}", rollout["id"].as_str().unwrap()));
    rollout
}

#[tokio::test]
async fn a_rehearsal_changes_nothing() {
    let (api, _, new) = fleet().await;
    let rehearsed = api.post("/api/v1/rollouts?dry_run=true", &rollout_of("bundles/er-beds/2.json")).await;
    assert_eq!(rehearsed.status, 200, "{}", rehearsed.text());
    let rehearsed = rehearsed.json();
    assert_eq!((&rehearsed["cohort"], &rehearsed["bundle"]["sha256"]), (&json!(3), &json!(new.sha256())));
    let reaches: Vec<&Value> =
        rehearsed["stages"].as_array().unwrap().iter().map(|s| &s["reaches"]).collect();
    assert_eq!(reaches, [1, 3]);
    assert_eq!(api.see("/api/v1/rollouts").await["items"], json!([]));
    api.stop().await;
}

#[tokio::test]
async fn a_rehearsal_names_those_whom_the_engine_then_enlists() {
    let (api, old, new) = fleet().await;
    let running = BundleRef { path: old.path.clone(), sha256: old.sha256() };
    for n in 4..=12 {
        enrol(api.fleet(), n, Some(&running)).await;
    }
    let named = [DeviceId::mint([9; 16]), DeviceId::mint([4; 16])];
    let mut body = rollout_of(&new.sha256().to_string());
    let stage = |name, size: Value| json!({"name": name, "size": size, "bake_s": 3600, "deadline_s": 86_400});
    body["stages"] = json!([
        stage("list", json!({"devices": named})),
        stage("filter", json!({"matching": format!("device={}", DeviceId::mint([7; 16]))})),
        stage("half", json!({"percent": 50.0})),
        stage("all", json!({"percent": 100.0})),
    ]);
    let rehearsed = api.post("/api/v1/rollouts?dry_run=true", &body).await;
    assert_eq!(rehearsed.status, 200, "{}", rehearsed.text());
    let rehearsed = rehearsed.json();
    let begun = api.post("/api/v1/rollouts", &body).await;
    assert_eq!(begun.status, 201, "{}", begun.text());
    let id = begun.json()["id"].as_str().unwrap().to_owned();
    let drawn = async |fleet: &Fleet| {
        let mut db = fleet.store.read().await.unwrap();
        let found = rollouts::devices::<Value>(&mut db, &id.parse().unwrap(), &Page::first(20)).await;
        (found.unwrap().len() == 12).then_some(())
    };
    api.server.until("the engine has drawn the cohort", drawn).await;
    let devices = api.see(&format!("/api/v1/rollouts/{id}/devices?limit=50")).await;
    let devices = devices["items"].as_array().unwrap();
    let mut sizes = Vec::new();
    for stage in rehearsed["stages"].as_array().unwrap() {
        let names = |of: &Value| of.as_str().unwrap().to_owned();
        // Every stage is shorter than what a rehearsal shows of it.
        let mut said: Vec<String> = stage["first"].as_array().unwrap().iter().map(names).collect();
        let enlisted = devices.iter().filter(|device| device["stage"] == stage["name"]);
        let mut enlisted: Vec<String> = enlisted.map(|device| names(&device["name"])).collect();
        assert_eq!(stage["target_devices"], json!(enlisted.len()), "{stage}");
        said.sort();
        enlisted.sort();
        assert_eq!(said, enlisted, "{stage}");
        sizes.push(enlisted.len());
    }
    assert_eq!(sizes, [2, 1, 3, 6]);
    api.stop().await;
}

#[tokio::test]
async fn what_cannot_work_is_refused_before_it_begins() {
    let (api, ..) = fleet().await;
    let check = async |edit: fn(&mut Value), status, code| {
        for path in ["/api/v1/rollouts?dry_run=true", "/api/v1/rollouts"] {
            let mut body = rollout_of("bundles/er-beds/2.json");
            edit(&mut body);
            api.post(path, &body).await.is_problem(status, code);
        }
    };
    check(|b| b["bundle"] = "bundles/er-beds/9.json".into(), 422, "not_catalogued").await;
    check(|b| b["bundle"] = "0".repeat(64).into(), 422, "not_catalogued").await;
    check(|b| b["bundle"] = "nonsense".into(), 422, "invalid").await;
    check(|b| b["model"] = "other".into(), 422, "invalid").await;
    check(|b| b["selector"] = json!({"sites": ["nowhere"]}), 422, "empty_cohort").await;
    check(|b| b["selector"] = json!({"sites": ["NO"]}), 422, "invalid").await;
    check(|b| b["stages"] = json!([]), 422, "invalid").await;
    check(|b| b["reason"] = "x".repeat(501).into(), 422, "invalid").await;
    assert_eq!(api.see("/api/v1/rollouts").await["items"], json!([]));
    api.stop().await;
}

#[tokio::test]
async fn a_bundle_is_rolled_out_in_a_slot_once_at_a_time() {
    let (api, _, new) = fleet().await;
    let open = begin(&api, &new).await;
    let problem = api
        .post("/api/v1/rollouts", &rollout_of(&new.sha256().to_string()))
        .await
        .is_problem(409, "rollout_open");
    assert!(problem["detail"].as_str().unwrap().contains(open["id"].as_str().unwrap()), "{problem}");
    let elsewhere = json!({"model": "er-beds", "bundle": "bundles/er-beds/1.json", "slot": "other"});
    assert_eq!(api.post("/api/v1/rollouts", &elsewhere).await.status, 201);
    let listed = api.see("/api/v1/rollouts?limit=1").await;
    let next = listed["next"].as_str().unwrap();
    let rest = api.see(&format!("/api/v1/rollouts?limit=1&cursor={next}")).await;
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert!(rest.get("next").is_none(), "{rest}");
    assert_ne!(rest["items"][0]["id"], listed["items"][0]["id"]);
    api.stop().await;
}

#[tokio::test]
async fn a_rehearsal_says_what_else_wants_the_same_devices() {
    let (api, old, new) = fleet().await;
    let open = begin(&api, &new).await["id"].as_str().unwrap().to_owned();
    let warnings = async |priority: u16| {
        let mut body = rollout_of(&old.sha256().to_string());
        body["priority"] = priority.into();
        let rehearsed = api.post("/api/v1/rollouts?dry_run=true&forecast=false", &body).await;
        assert_eq!(rehearsed.status, 200, "{}", rehearsed.text());
        let warnings = rehearsed.json()["forecast"]["warnings"].clone();
        let warnings: Vec<String> = serde_json::from_value(warnings).unwrap();
        warnings.into_iter().filter(|said| said.contains(&open)).collect::<Vec<_>>()
    };
    let said = warnings(900).await;
    assert!(
        said.len() == 1 && said[0].ends_with("wants 3 of these devices: this one takes them over"),
        "{said:?}"
    );
    let said = warnings(0).await;
    assert!(
        said.len() == 1 && said[0].contains("goes first by its priority: 3 of these devices wait"),
        "{said:?}"
    );
    api.stop().await;
}

#[tokio::test]
async fn people_act_on_what_they_saw() {
    let (api, _, new) = fleet().await;
    let rollout = begin(&api, &new).await;
    let path = format!("/api/v1/rollouts/{}", rollout["id"].as_str().unwrap());
    let act = async |verb: &str, seen: Option<&str>, reason: &str| {
        let mut request = request(Method::POST, &format!("{path}/{verb}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-muster-actor", "ada");
        if let Some(seen) = seen {
            request = request.header(header::IF_MATCH, seen);
        }
        api.send(request.body(Body::from(json!({"reason": reason}).to_string())).unwrap()).await
    };
    act("pause", Some("\"999\""), "look").await.is_problem(412, "stale");
    act("pause", Some("soon"), "look").await.is_problem(400, "bad_header");
    act("resume", None, "look").await.is_problem(409, "state");
    act("abort", None, " ").await.is_problem(422, "invalid");

    let paused = act("pause", None, "look").await;
    assert_eq!(paused.status, 200, "{}", paused.text());
    let tag = paused.headers[header::ETAG].to_str().unwrap().to_owned();
    let paused = paused.json();
    assert_eq!(
        (&paused["phase"]["is"], &paused["phase"]["reason"]["sentence"]),
        (&json!("paused"), &json!("look"))
    );
    assert_eq!(format!("\"{}\"", paused["revision"]), tag);
    assert_eq!(paused["waiting_on"][0]["code"], "paused");
    let kinds: Vec<&str> =
        paused["timeline"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(
        (kinds.first(), kinds.contains(&"rollout.paused")),
        (Some(&"rollout.started"), true),
        "{kinds:?}"
    );

    let back = act("rollback", None, "no").await;
    assert_eq!(back.status, 200, "{}", back.text());
    let log = api.see(&format!("/api/v1/log?subject={}", rollout["id"].as_str().unwrap())).await;
    let said =
        log["items"].as_array().unwrap().iter().find(|entry| entry["kind"] == "rollout.rollback").unwrap();
    assert_eq!(said["actor"], json!({"kind": "person", "name": "ada"}));
    api.stop().await;
}

#[tokio::test]
async fn every_device_has_exactly_one_sentence() {
    let (api, _, new) = fleet().await;
    let rollout = begin(&api, &new).await;
    let id = rollout["id"].as_str().unwrap();
    let drawn = async |fleet: &Fleet| {
        let mut db = fleet.store.read().await.unwrap();
        let found = rollouts::devices::<Value>(&mut db, &id.parse().unwrap(), &Page::first(10)).await;
        (found.unwrap().len() == 3).then_some(())
    };
    api.server.until("the engine has drawn the cohort", drawn).await;
    let devices = api.see(&format!("/api/v1/rollouts/{id}/devices")).await;
    let devices = devices["items"].as_array().unwrap();
    assert_eq!(devices.len(), 3);
    for device in devices {
        assert!(
            device["sentence"].as_str().unwrap().len() > 3 && !device["name"].as_str().unwrap().is_empty(),
            "{device}"
        );
    }
    let page = api.see(&format!("/api/v1/rollouts/{id}/devices?limit=2")).await;
    let next = page["next"].as_str().unwrap();
    let rest = api.see(&format!("/api/v1/rollouts/{id}/devices?limit=2&cursor={next}")).await;
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    let shown = api.see(&format!("/api/v1/rollouts/{id}")).await;
    let targets: Vec<&Value> =
        shown["stages"].as_array().unwrap().iter().map(|s| &s["target_devices"]).collect();
    assert_eq!(targets, [1, 2]);
    let overview = api.see("/api/v1/overview").await;
    assert_eq!(overview["rollouts"][0]["id"], id);
    api.stop().await;
}

#[tokio::test]
async fn a_device_that_is_set_apart_is_away_and_one_that_was_revoked_is_gone() {
    let (api, _, new) = fleet().await;
    let (apart, gone) = (DeviceId::mint([1; 16]), DeviceId::mint([3; 16]));
    let decide = async |device: &DeviceId, verb: &str| {
        let path = format!("/api/v1/identities/{device}/{verb}");
        assert_eq!(api.post(&path, &json!({"reason": "odd"})).await.status, 200);
    };
    decide(&apart, "quarantine").await;
    decide(&gone, "revoke").await;
    let mut body = rollout_of(&new.sha256().to_string());
    body["stages"] = json!([{"name": "all", "size": {"percent": 100.0}, "bake_s": 0, "deadline_s": 3600}]);
    let answer = api.post("/api/v1/rollouts", &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let wish = async |fleet: &Fleet, n: u8| {
        let mut db = fleet.store.read().await.unwrap();
        orders::get(&mut db, &DeviceId::mint([n; 16])).await.unwrap().map(|order| order.version)
    };
    let handed = async |fleet: &Fleet| wish(fleet, 2).await;
    api.server.until("the member is ordered", handed).await;
    assert_eq!((wish(api.fleet(), 1).await, wish(api.fleet(), 3).await), (None, None));
    let devices = api.see(&format!("/api/v1/rollouts/{id}/devices")).await;
    assert_eq!(devices["items"].as_array().unwrap().len(), 2, "{devices}");
    // Once it is released, it is there again.
    decide(&apart, "release").await;
    let handed = async |fleet: &Fleet| wish(fleet, 1).await;
    api.server.until("the released one is ordered", handed).await;
    api.stop().await;
}
