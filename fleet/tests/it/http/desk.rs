//! What an operator is told and asked before a rollout begins, and the record that outlives it.

use std::path::Path;
use std::process::Output;

use axum::body::Body;
use axum::http::{Method, header};
use muster_fleet::rollout::evidence::{Pack, Sealed};
use muster_protocol::message::up::BundleRef;
use muster_protocol::trust::Envelope;
use serde_json::{Value, json};

use super::{Answer, Api, enrol, request, rollout_of};
use crate::publisher::{Bundle, Publisher};

/// A server with two accepted bundles and three devices that run the first.
async fn fleet() -> Api {
    let api = Api::start().await;
    let (old, new) =
        (Bundle::make("bundles/er-beds/1.json", b"1"), Bundle::make("bundles/er-beds/2.json", b"2"));
    Publisher::begin(api.fleet(), &[&old, &new]).await;
    let running = BundleRef { path: old.path.clone(), sha256: old.sha256() };
    for n in 1..=3 {
        enrol(api.fleet(), n, Some(&running)).await;
    }
    api
}

async fn post_as(api: &Api, who: &str, path: &str, body: &Value) -> Answer {
    let request = request(Method::POST, path)
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-muster-actor", who)
        .body(Body::from(body.to_string()));
    api.send(request.unwrap()).await
}

#[tokio::test]
async fn a_rehearsal_foresees_the_end_and_what_its_gates_can_see() {
    let api = fleet().await;
    let told = api.post("/api/v1/rollouts?dry_run=true", &rollout_of("bundles/er-beds/2.json")).await;
    assert_eq!(told.status, 200, "{}", told.text());
    let forecast = told.json()["forecast"].clone();
    assert_eq!((&forecast["cohort"], &forecast["simulated"]), (&json!(3), &json!(3)));
    assert_eq!(forecast["bugs"].as_array().unwrap().len(), 4, "{forecast}");
    let warned = forecast["warnings"].as_array().unwrap();
    assert!(
        warned.iter().any(|said| said.as_str().unwrap().contains("5 % of installs fail")),
        "three devices cannot show a bug of one in twenty: {forecast}"
    );
    assert!(forecast["sites"][0]["bytes"].as_u64().unwrap() > 0, "{forecast}");
    api.stop().await;
}

#[tokio::test]
async fn a_rollout_keeps_what_was_foreseen() {
    let api = fleet().await;
    let made = api.post("/api/v1/rollouts", &rollout_of("bundles/er-beds/2.json")).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let forecast = made.json()["forecast"].clone();
    assert_eq!(forecast["stages"].as_array().unwrap().len(), 2, "{forecast}");
    assert_eq!(forecast["actual_s"], Value::Null);
    api.stop().await;
}

#[tokio::test]
async fn two_other_people_must_say_yes() {
    let api = fleet().await;
    let mut body = rollout_of("bundles/er-beds/2.json");
    body["approvals_min"] = json!(2);
    let made = post_as(&api, "ada", "/api/v1/rollouts", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    assert_eq!((&made["phase"]["is"], &made["approvals_min"]), (&json!("proposed"), &json!(2)));
    let path = format!("/api/v1/rollouts/{}/approve", made["id"].as_str().unwrap());
    let approve = async |who: &str| post_as(&api, who, &path, &json!({"reason": "read it"})).await;
    let own = approve("ada").await.is_problem(409, "state");
    assert!(own["detail"].as_str().unwrap().contains("somebody else"), "{own}");
    let first = approve("ben").await;
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.json()["phase"]["is"], "proposed");
    let waiting = async || {
        let needs = api.see("/api/v1/overview").await["needs_you"].clone();
        let asked = needs.as_array().unwrap().iter().find(|need| need["kind"] == "rollout_proposed").cloned();
        asked.map(|need| need["detail"].as_str().unwrap().to_owned())
    };
    let detail = waiting().await.expect("the overview says that it waits");
    assert!(detail.starts_with("1 of 2 people have agreed"), "{detail}");
    approve("ben").await.is_problem(409, "state");
    let second = approve("cem").await.json();
    assert_eq!(second["phase"]["is"], "running", "{second}");
    let names: Vec<&str> =
        second["approvals"].as_array().unwrap().iter().map(|yes| yes["by"].as_str().unwrap()).collect();
    assert_eq!(names, ["ben", "cem"]);
    assert_eq!(waiting().await, None);
    api.stop().await;
}

#[tokio::test]
async fn a_plan_that_cannot_work_is_refused_with_its_place() {
    let api = fleet().await;
    let check = async |edit: fn(&mut Value), pointer: &str| {
        let mut body = rollout_of("bundles/er-beds/2.json");
        let stage =
            |name: &str, size: Value| json!({"name": name, "size": size, "bake_s": 1, "deadline_s": 2});
        body["stages"] = json!([stage("a", json!({"count": 1})), stage("b", json!({"percent": 100.0}))]);
        edit(&mut body);
        let problem = api.post("/api/v1/rollouts?dry_run=true", &body).await.is_problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    };
    check(|b| b["in_flight_max"] = json!(0), "/in_flight_max").await;
    check(|b| b["stages"][1]["size"] = json!({"count": 9}), "/stages/1/size").await;
    let unknown = json!({"model": "er-beds", "bundle": "bundles/er-beds/2.json", "colour": "red"});
    let problem = api.post("/api/v1/rollouts", &unknown).await.is_problem(422, "invalid");
    assert!(problem["detail"].as_str().unwrap().contains("colour"), "{problem}");
    api.stop().await;
}

/// Runs the verifier of the command line, without any server.
fn verify(folder: &Path, pack: &[u8]) -> Output {
    std::fs::write(folder.join("pack.json"), pack).unwrap();
    std::process::Command::new(env!("CARGO_BIN_EXE_muster"))
        .args([
            "--server",
            "http://127.0.0.1:9",
            "rollout",
            "verify-evidence",
            "pack.json",
            "--root",
            "root.json",
        ])
        .current_dir(folder)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn evidence(api: &Api, folder: &Path) -> Vec<u8> {
    let made = api.post("/api/v1/rollouts", &rollout_of("bundles/er-beds/2.json")).await.json();
    let path = format!("/api/v1/rollouts/{}", made["id"].as_str().unwrap());
    let waits = async |_: &muster_fleet::fleet::Fleet| {
        let seen = api.see(&format!("{path}/devices")).await;
        (seen["items"].as_array().unwrap().len() == 3).then_some(())
    };
    api.server.until("the engine has drawn the cohort", waits).await;
    let root = api.get("/tuf/metadata/1.root.json").await;
    assert_eq!(root.status, 200, "{}", root.text());
    std::fs::write(folder.join("root.json"), &root.body).unwrap();
    let pack = api.get(&format!("{path}/evidence")).await;
    assert_eq!(pack.status, 200, "{}", pack.text());
    pack.body.to_vec()
}

#[tokio::test]
async fn evidence_holds_without_a_server_and_no_byte_of_it_may_change() {
    let api = fleet().await;
    let folder = tempfile::tempdir().unwrap();
    let pack = evidence(&api, folder.path()).await;
    let holds = verify(folder.path(), &pack);
    assert_eq!(holds.status.code(), Some(0), "{}", said(&holds));
    assert!(said(&holds).contains("the evidence holds"), "{}", said(&holds));
    assert!(said(&holds).contains("history lived again"), "{}", said(&holds));
    for at in (0..pack.len()).step_by(pack.len() / 40) {
        let mut flipped = pack.clone();
        flipped[at] ^= 1;
        let refused = verify(folder.path(), &flipped);
        assert_eq!(refused.status.code(), Some(3), "byte {at} was changed: {}", said(&refused));
    }
    api.stop().await;
}

#[tokio::test]
async fn evidence_that_was_signed_again_with_other_arithmetic_is_refused() {
    let api = fleet().await;
    let folder = tempfile::tempdir().unwrap();
    let pack = evidence(&api, folder.path()).await;
    let sealed: Sealed = Envelope::parse(&pack).unwrap().document().unwrap();
    let check = |edit: fn(&mut Pack), expect: &str| {
        let mut record: Pack = serde_json::from_str(&sealed.record).unwrap();
        edit(&mut record);
        let record = serde_json::to_string(&record).unwrap();
        let signed = api.fleet().signer.evidence(&Sealed { record, ..sealed.clone() }).unwrap();
        let refused = verify(folder.path(), &signed);
        assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
        assert!(said(&refused).contains(expect), "{}", said(&refused));
    };
    check(|record| record.gate.as_mut().unwrap().layers[0].n += 5, "the gate's answer is recorded as");
    check(|record| *record.counts.entry("done".to_owned()).or_default() += 3, "counts are recorded as");
    let order = sealed.clone();
    let other = api.fleet().signer.evidence(&Sealed { type_: "order".to_owned(), ..order }).unwrap();
    assert_eq!(verify(folder.path(), &other).status.code(), Some(3));
    api.stop().await;
}
