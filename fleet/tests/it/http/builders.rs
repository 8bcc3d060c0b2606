//! Policies, triggers and runs: a person asks, a builder works, the fleet remembers both.

use axum::body::Body;
use axum::http::{Method, header};
use muster_fleet::fleet::Fleet;
use muster_fleet::store::{Page, log};
use muster_fleet::tasks::{Tasks, runs};
use muster_protocol::ids::{Digest, SlotName};
use muster_protocol::message::up::BundleRef;
use serde_json::{Value, json};

use super::{Api, enrol, request, rollout_of};
use crate::publisher::{Bundle, Publisher};

async fn fleet() -> (Api, Publisher, Bundle) {
    let api = Api::start().await;
    let bundle = Bundle::make("bundles/er-beds/1.json", b"1");
    let publisher = Publisher::begin(api.fleet(), &[&bundle]).await;
    (api, publisher, bundle)
}

async fn claimed(api: &Api) -> Value {
    let run = api.post("/api/v1/runs", &json!({"model": "er-beds", "reason": "I want to"})).await;
    assert_eq!(run.status, 201, "{}", run.text());
    let claim =
        api.post("/api/v1/runs/claim", &json!({"builder": "b", "models": ["other", "er-beds"]})).await;
    assert_eq!(claim.status, 200, "{}", claim.text());
    assert_eq!(claim.json()["run"]["id"], run.json()["id"]);
    claim.json()
}

#[tokio::test]
async fn policies_are_set_checked_and_versioned() {
    let api = Api::start().await;
    let path = "/api/v1/policies/er-beds";
    let mut policy = json!({"model": "er-beds", "enabled": true, "trigger": {"drift": {"share_of_streams": 0.2}},
        "cooldown_s": 86400, "min_data_s": 86400, "max_runs_per_week": 7, "rollout": {"automatic": false}});
    let set = api.json(Method::PUT, path, &policy).await;
    assert_eq!(
        (set.status.as_u16(), &set.headers[header::ETAG]),
        (200, &"\"1\"".parse().unwrap()),
        "{}",
        set.text()
    );
    assert_eq!(api.see(path).await["on"], "world clock");
    assert_eq!(api.see("/api/v1/policies").await["items"][0]["model"], "er-beds");
    let stale = request(Method::PUT, path).header(header::IF_MATCH, "\"0\"");
    let stale =
        stale.header(header::CONTENT_TYPE, "application/json").body(Body::from(policy.to_string())).unwrap();
    api.send(stale).await.is_problem(412, "stale");
    policy["cooldown_s"] = json!(1);
    api.json(Method::PUT, path, &policy).await.is_problem(422, "invalid");
    policy["cooldown_s"] = json!("long");
    api.json(Method::PUT, path, &policy).await.is_problem(422, "invalid");
    policy["cooldown_s"] = json!(86400);
    api.json(Method::PUT, "/api/v1/policies/other", &policy).await.is_problem(422, "invalid");
    api.stop().await;
}

#[tokio::test]
async fn runs_asked_for_by_hand_and_refusals_are_kept() {
    let (api, _, bundle) = fleet().await;
    api.post("/api/v1/runs", &json!({"model": "unknown", "reason": "x"})).await.is_problem(422, "invalid");
    api.post("/api/v1/runs", &json!({"model": "er-beds"})).await.is_problem(422, "invalid");
    let nothing = api.post("/api/v1/runs/claim", &json!({"builder": "b", "models": ["er-beds"]})).await;
    assert_eq!(nothing.status, 204);

    let claim = claimed(&api).await;
    assert_eq!(claim["champion"]["sha256"], bundle.sha256().to_string());
    let request = &claim["request"];
    assert_eq!((&request["schema"], &request["trigger"]["kind"]), (&json!("muster-run/1"), &json!("manual")));
    let second = json!({"model": "er-beds", "reason": "again"});
    api.post("/api/v1/runs", &second).await.is_problem(409, "trigger_refused");
    let triggers = api.see("/api/v1/triggers").await;
    let outcomes: Vec<&Value> = triggers["items"].as_array().unwrap().iter().map(|t| &t["outcome"]).collect();
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.contains(&&json!("run")) && outcomes.contains(&&json!("refused")), "{triggers}");
    // The same wish with the same answer is one row that counts.
    api.post("/api/v1/runs", &second).await.is_problem(409, "trigger_refused");
    let again = api.see("/api/v1/triggers").await["items"].as_array().unwrap().clone();
    let refused = again.iter().find(|trigger| trigger["outcome"] == "refused").unwrap();
    assert_eq!((again.len(), &refused["times"]), (2, &json!(2)));
    assert_eq!(refused["refusal"]["code"], "run_open");
    assert_eq!(api.see("/api/v1/runs?state=claimed").await["items"].as_array().unwrap().len(), 1);
    assert_eq!(api.see("/api/v1/runs?state=queued").await["items"], json!([]));
    api.stop().await;
}

#[tokio::test]
async fn only_the_holder_of_the_lease_is_heard() {
    let (api, publisher, _) = fleet().await;
    let claim = claimed(&api).await;
    let path = format!("/api/v1/runs/{}", claim["run"]["id"].as_str().unwrap());
    let beat = json!({"builder": "b", "progress": 0.4, "message": "fitting", "log": ["one", "two"]});
    let heard = api.post(&format!("{path}/heartbeat"), &beat).await;
    assert_eq!((heard.status.as_u16(), heard.json()), (200, json!({"cancel": false})));
    let run = api.see(&path).await;
    assert_eq!(run["progress"], json!({"fraction": 0.4, "message": "fitting"}));
    assert_eq!((&run["log_tail"], &run["claimed_by"]), (&json!(["one", "two"]), &json!("b")));

    let mut other = beat.clone();
    other["builder"] = json!("c");
    api.post(&format!("{path}/heartbeat"), &other).await.is_problem(409, "lease_lost");
    other["progress"] = json!(2);
    api.post(&format!("{path}/heartbeat"), &other).await.is_problem(422, "invalid");
    other = json!({"builder": "b", "log": vec!["x"; 501]});
    api.post(&format!("{path}/heartbeat"), &other).await.is_problem(422, "invalid");

    let made = Bundle::make("bundles/er-beds/auto/2.json", b"2");
    let finish = json!({"builder": "b", "outcome": {"published": {
        "bundle": {"path": made.path, "sha256": made.sha256()}, "evaluation": {"metric": "log_loss"}}}});
    api.post(&format!("{path}/finish"), &finish).await.is_problem(422, "not_catalogued");
    for bytes in made.files.values().chain([&made.manifest]) {
        api.put_bytes(&format!("/api/v1/blobs/{}", Digest::of(bytes)), bytes.clone()).await;
    }
    let accepted = api.put_bytes("/api/v1/trust/auto-er-beds.json", publisher.auto(1, &[&made])).await;
    assert_eq!(accepted.status, 200, "{}", accepted.text());
    for _ in 0..2 {
        let finished = api.post(&format!("{path}/finish"), &finish).await;
        assert_eq!(finished.status, 200, "{}", finished.text());
        assert_eq!(finished.json()["state"], "succeeded");
    }
    let run = api.see(&path).await;
    assert_eq!(run["result"]["bundle"]["sha256"], made.sha256().to_string());
    let needs = api.see("/api/v1/overview").await["needs_you"].clone();
    assert!(needs.as_array().unwrap().iter().any(|need| need["kind"] == "approval"), "{needs}");
    api.stop().await;
}

#[tokio::test]
async fn a_cancelled_run_tells_its_builder() {
    let (api, ..) = fleet().await;
    let claim = claimed(&api).await;
    let path = format!("/api/v1/runs/{}", claim["run"]["id"].as_str().unwrap());
    let cancelled = api.post(&format!("{path}/cancel"), &json!({"reason": "mistake"})).await;
    assert_eq!(cancelled.json()["state"], "cancelled", "{}", cancelled.text());
    let heard = api.post(&format!("{path}/heartbeat"), &json!({"builder": "b", "progress": 0.5})).await;
    assert_eq!(heard.json(), json!({"cancel": true}));
    api.post(&format!("{path}/cancel"), &json!({"reason": "again"})).await.is_problem(409, "state");
    let failed = json!({"builder": "b", "outcome": {"failed": {"code": "x", "sentence": "y"}}});
    api.post(&format!("{path}/finish"), &failed).await.is_problem(409, "state");
    api.stop().await;
}

#[tokio::test]
async fn a_candidate_waits_for_people_who_did_not_ask_for_it() {
    let (api, publisher, _) = fleet().await;
    let policy = json!({"model": "er-beds", "enabled": true, "trigger": {"drift": {"share_of_streams": 0.2}},
        "cooldown_s": 86400, "min_data_s": 0, "max_runs_per_week": 7, "approval": {"required": {"people": 2}},
        "rollout": {"automatic": true}});
    let set = api.json(Method::PUT, "/api/v1/policies/er-beds", &policy).await;
    assert_eq!(set.status, 200, "{}", set.text());
    let claim = claimed(&api).await;
    let path = format!("/api/v1/runs/{}", claim["run"]["id"].as_str().unwrap());
    let made = Bundle::make("bundles/er-beds/auto/2.json", b"2");
    for bytes in made.files.values().chain([&made.manifest]) {
        api.put_bytes(&format!("/api/v1/blobs/{}", Digest::of(bytes)), bytes.clone()).await;
    }
    api.put_bytes("/api/v1/trust/auto-er-beds.json", publisher.auto(1, &[&made])).await;
    let gates = json!([{"gate": "offline", "code": "worse_on_recent", "verdict": "passed", "measured": 0.3,
        "at_most": 0.4, "sentence": "better on recent rows"}]);
    let finish = json!({"builder": "b", "outcome": {"published": {
        "bundle": {"path": made.path, "sha256": made.sha256()}, "evaluation": {}, "gates": gates}}});
    let finished = api.post(&format!("{path}/finish"), &finish).await.json();
    assert_eq!(finished["state"], "candidate", "{finished}");
    assert_eq!(finished["gates"][0]["at_most"], 0.4);
    assert_eq!(finished["approval"]["people"], 2);
    let needs = api.see("/api/v1/overview").await["needs_you"].clone();
    assert!(needs.as_array().unwrap().iter().any(|need| need["kind"] == "approval"), "{needs}");

    // "operator" asked for the run.
    api.post(&format!("{path}/approve"), &json!({})).await.is_problem(409, "state");
    for (who, state) in [("ada", "candidate"), ("ben", "succeeded")] {
        let approve = request(Method::POST, &format!("{path}/approve")).header("x-muster-actor", who);
        let approve =
            approve.header(header::CONTENT_TYPE, "application/json").body(Body::from("{}")).unwrap();
        assert_eq!(api.send(approve).await.json()["state"], state);
    }
    let run = api.see(&path).await;
    let actors: Vec<&Value> = run["timeline"].as_array().unwrap().iter().map(|step| &step["actor"]).collect();
    assert_eq!(actors, ["operator", "b", "b", "ada", "ben"]);
    api.post(&format!("{path}/reject"), &json!({"reason": "late"})).await.is_problem(409, "state");
    api.stop().await;
}

#[tokio::test]
async fn a_failed_gate_rejects_whatever_the_builder_says() {
    let (api, publisher, _) = fleet().await;
    let claim = claimed(&api).await;
    let path = format!("/api/v1/runs/{}", claim["run"]["id"].as_str().unwrap());
    let made = Bundle::make("bundles/er-beds/auto/2.json", b"2");
    for bytes in made.files.values().chain([&made.manifest]) {
        api.put_bytes(&format!("/api/v1/blobs/{}", Digest::of(bytes)), bytes.clone()).await;
    }
    api.put_bytes("/api/v1/trust/auto-er-beds.json", publisher.auto(1, &[&made])).await;
    let gates = json!([{"gate": "offline", "code": "slice_worse", "verdict": "failed", "measured": 0.3,
        "at_most": 0.02, "sentence": "device_class old: worse"}]);
    let finish = json!({"builder": "b", "outcome": {"published": {
        "bundle": {"path": made.path, "sha256": made.sha256()}, "evaluation": {}, "gates": gates}}});
    let finished = api.post(&format!("{path}/finish"), &finish).await.json();
    assert_eq!(
        (&finished["state"], &finished["failure"]["code"]),
        (&json!("rejected"), &json!("slice_worse"))
    );
    api.stop().await;
}

/// Ends a claimed run with a bundle that the builder publishes.
async fn publish(api: &Api, claim: &Value, auto: Vec<u8>, made: &Bundle) {
    for bytes in made.files.values().chain([&made.manifest]) {
        api.put_bytes(&format!("/api/v1/blobs/{}", Digest::of(bytes)), bytes.clone()).await;
    }
    let accepted = api.put_bytes("/api/v1/trust/auto-er-beds.json", auto).await;
    assert_eq!(accepted.status, 200, "{}", accepted.text());
    let path = format!("/api/v1/runs/{}/finish", claim["run"]["id"].as_str().unwrap());
    let bundle = json!({"path": made.path, "sha256": made.sha256()});
    let end = json!({"builder": "b", "outcome": {"published": {"bundle": bundle, "evaluation": {}}}});
    let finished = api.post(&path, &end).await;
    assert_eq!(finished.json()["state"], "succeeded", "{}", finished.text());
}

/// Lets the runs move on, and returns all rollouts there are, the newest first.
async fn rollouts_after_a_look(api: &Api) -> Vec<Value> {
    let fleet = api.fleet();
    let tasks = Tasks {
        store: fleet.store.clone(),
        blobs: fleet.blobs.clone(),
        orders: fleet.orders.clone(),
        clocks: fleet.clocks,
        board: fleet.board.clone(),
    };
    runs::look(&tasks).await.unwrap();
    api.see("/api/v1/rollouts").await["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_policy_that_becomes_automatic_rolls_out_nothing_of_before() {
    let (api, publisher, first) = fleet().await;
    enrol(api.fleet(), 1, Some(&BundleRef { path: first.path.clone(), sha256: first.sha256() })).await;
    let made = ["2", "3", "4"].map(|n| Bundle::make(&format!("bundles/er-beds/auto/{n}.json"), n.as_bytes()));
    let [two, three, four] = &made;
    let waits = async || {
        let needs = api.see("/api/v1/overview").await["needs_you"].clone();
        needs.as_array().unwrap().iter().any(|need| need["kind"] == "approval")
    };
    publish(&api, &claimed(&api).await, publisher.auto(1, &[two]), two).await;
    let claim = claimed(&api).await;
    publish(&api, &claim, publisher.auto(2, &[two, three]), three).await;
    assert!(waits().await);

    // A person rolls the newest out, and thinks better of it.
    let rollout = api.post("/api/v1/rollouts", &rollout_of(&three.sha256().to_string())).await;
    assert_eq!(rollout.status, 201, "{}", rollout.text());
    let id = rollout.json()["id"].as_str().unwrap().to_owned();
    let run = api.see(&format!("/api/v1/runs/{}", claim["run"]["id"].as_str().unwrap())).await;
    assert_eq!(run["rollout"], json!(id));
    assert!(!waits().await);
    let aborted = api.post(&format!("/api/v1/rollouts/{id}/abort"), &json!({"reason": "not now"})).await;
    assert_eq!(aborted.status, 200, "{}", aborted.text());
    let slot: SlotName = "er-beds".parse().unwrap();
    let is_over = async |fleet: &Fleet| {
        let mut db = fleet.store.read().await.unwrap();
        runs::open_in_slot(&mut db, &slot).await.unwrap().is_none().then_some(())
    };
    api.server.until("the rollout is over", is_over).await;

    let claim = claimed(&api).await;
    let policy = json!({"model": "er-beds", "enabled": true, "trigger": {"drift": {"share_of_streams": 0.2}},
        "cooldown_s": 86400, "min_data_s": 0, "max_runs_per_week": 7, "rollout": {"automatic": true}});
    let set = api.json(Method::PUT, "/api/v1/policies/er-beds", &policy).await;
    assert_eq!(set.status, 200, "{}", set.text());
    assert_eq!(rollouts_after_a_look(&api).await.len(), 1, "neither the older run's nor the same again");

    publish(&api, &claim, publisher.auto(3, &[two, three, four]), four).await;
    let rollouts = rollouts_after_a_look(&api).await;
    assert_eq!(rollouts.len(), 2);
    assert_eq!(rollouts[0]["bundle"]["sha256"], json!(four.sha256()));
    api.stop().await;
}

#[tokio::test]
async fn a_policy_that_was_disabled_meanwhile_rolls_out_nothing_and_says_so_once() {
    let (api, publisher, _) = fleet().await;
    let set = async |enabled: bool| {
        let policy = json!({"model": "er-beds", "enabled": enabled,
            "trigger": {"drift": {"share_of_streams": 0.2}}, "cooldown_s": 86400, "min_data_s": 0,
            "max_runs_per_week": 7, "rollout": {"automatic": true}});
        let set = api.json(Method::PUT, "/api/v1/policies/er-beds", &policy).await;
        assert_eq!(set.status, 200, "{}", set.text());
    };
    set(true).await;
    let claim = claimed(&api).await;
    set(false).await;
    let made = Bundle::make("bundles/er-beds/auto/2.json", b"2");
    publish(&api, &claim, publisher.auto(1, &[&made]), &made).await;
    let run = claim["run"]["id"].as_str().unwrap();
    for _ in 0..2 {
        assert!(rollouts_after_a_look(&api).await.is_empty());
        let told = log::after(&mut api.server.read().await, Some(run), &Page::first(100)).await.unwrap();
        assert_eq!(told.iter().filter(|entry| entry.kind == "run.waits").count(), 1, "{told:?}");
    }
    let needs = api.see("/api/v1/overview").await["needs_you"].clone();
    let need = needs.as_array().unwrap().iter().find(|need| need["kind"] == "approval").unwrap();
    assert!(need["detail"].as_str().unwrap().contains("while its policy is disabled"), "{need}");
    set(true).await;
    let rollouts = rollouts_after_a_look(&api).await;
    assert_eq!(rollouts.len(), 1);
    assert_eq!(rollouts[0]["bundle"]["sha256"], json!(made.sha256()));
    api.stop().await;
}
