//! The registry: what versions are called, who moves the names, and where they run.

use axum::body::Body;
use axum::http::{Method, header};
use muster_fleet::fleet::Fleet;
use muster_fleet::rollout::{Actor, Phase, Plan, Rollout, Selector};
use muster_fleet::store::log::{self, NewEntry};
use muster_fleet::store::{ControlTx, aliases, rollouts};
use muster_protocol::ids::{Digest, RolloutId};
use muster_protocol::message::up::BundleRef;
use serde_json::{Value, json};

use super::{Api, enrol, request, rollout_of};
use crate::publisher::{Bundle, Publisher, model, person};

/// A rollout that has nobody to ask and is in this phase, with its line in the log.
pub(crate) async fn ended(
    fleet: &Fleet,
    n: u8,
    bundle: &Bundle,
    phase: Phase,
    kind: &'static str,
) -> Rollout {
    let mut tx = fleet.store.write().await.unwrap();
    let rollout = write(fleet, &mut tx, n, bundle, phase).await;
    let entry = NewEntry {
        when: fleet.clocks.moment(),
        kind,
        subject: rollout.id.to_string(),
        sentence: "it ended".into(),
        actor: log::Actor::Fleet,
    };
    log::append(&mut tx, &entry).await.unwrap();
    tx.commit().await.unwrap();
    rollout
}

async fn write(fleet: &Fleet, tx: &mut ControlTx, n: u8, bundle: &Bundle, phase: Phase) -> Rollout {
    let stages = json!([{"name": "all", "size": {"percent": 100.0}, "bake_s": 60, "deadline_s": 600}]);
    let nobody = Selector { sites: Some(["nowhere".parse().unwrap()].into()), ..Selector::default() };
    let reference = BundleRef { path: bundle.path.clone(), sha256: bundle.sha256() };
    let begun = Rollout::start(
        RolloutId::mint([n; 16]),
        (model(), "er-beds".parse().unwrap()),
        reference,
        Plan::of(serde_json::from_value(stages).unwrap(), nobody),
        (Actor::Person { name: "ada".to_owned() }, "winter".to_owned()),
        fleet.clocks.world.now(),
    );
    let rollout = Rollout { phase, ..begun.unwrap() };
    let (id, phase) = (&rollout.id, rollout.phase.name());
    rollouts::create(tx, id, &rollout.model, phase, rollout.created, &rollout).await.unwrap();
    rollout
}

pub(crate) async fn until_called(api: &Api, name: &str, expect: Option<Digest>) {
    let name = name.parse().unwrap();
    api.server
        .until("the name has moved", async |fleet| {
            let mut db = fleet.store.read().await.unwrap();
            let alias = aliases::get(&mut db, &model(), &name).await.unwrap();
            (alias.map(|alias| alias.bundle) == expect).then_some(())
        })
        .await;
}

async fn put_alias(api: &Api, name: &str, version: &str, seen: Option<u64>) -> super::Answer {
    let mut asked = request(Method::PUT, &format!("/api/v1/models/er-beds/aliases/{name}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-muster-actor", "nadia");
    if let Some(seen) = seen {
        asked = asked.header(header::IF_MATCH, format!("\"{seen}\""));
    }
    let body = json!({"version": version, "reason": "for the flu season"});
    api.send(asked.body(Body::from(body.to_string())).unwrap()).await
}

#[tokio::test]
async fn champion_and_challenger_follow_rollouts_and_the_catalogue() {
    let api = Api::start().await;
    let (old, new) =
        (Bundle::make("bundles/er-beds/1.json", b"1"), Bundle::make("bundles/er-beds/2.json", b"2"));
    let mut publisher = Publisher::begin(api.fleet(), &[&old]).await;
    until_called(&api, "challenger", Some(old.sha256())).await;
    let done = |fleet: &Fleet| Phase::Completed { at: fleet.clocks.world.now() };
    ended(api.fleet(), 1, &old, done(api.fleet()), "rollout.completed").await;
    until_called(&api, "champion", Some(old.sha256())).await;
    until_called(&api, "challenger", None).await;

    new.upload(&api.fleet().blobs).await;
    let catalogue = publisher.catalogue(&[&new], &publisher.targets_key());
    api.fleet().intake.upload("2.targets.json", &catalogue, person()).await.unwrap();
    until_called(&api, "challenger", Some(new.sha256())).await;
    ended(api.fleet(), 2, &new, done(api.fleet()), "rollout.completed").await;
    until_called(&api, "champion", Some(new.sha256())).await;

    let shown = api.see("/api/v1/models/er-beds").await;
    assert_eq!(shown["versions"][0]["aliases"], json!(["champion"]));
    let alias = &shown["aliases"][0];
    assert_eq!((&alias["name"], &alias["kept"]), (&json!("champion"), &json!(true)));
    assert_eq!((&alias["by"]["kind"], &alias["version"]), (&json!("fleet"), &json!("2")));
    let told: Vec<&str> = shown["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["sentence"].as_str().unwrap())
        .collect();
    assert!(told.last().is_some_and(|last| last.contains("champion") || last.contains("challenger")));
    assert!(told.iter().any(|said| said.contains("champion of er-beds is 1 now: rollout")), "{told:?}");
    put_alias(&api, "champion", "1", None).await.is_problem(409, "state");
    api.stop().await;
}

#[tokio::test]
async fn names_of_people_are_moved_once_and_written_down() {
    let api = Api::start().await;
    let (old, new) =
        (Bundle::make("bundles/er-beds/1.json", b"1"), Bundle::make("bundles/er-beds/2.json", b"2"));
    Publisher::begin(api.fleet(), &[&old, &new]).await;
    let running = BundleRef { path: old.path.clone(), sha256: old.sha256() };
    let device = enrol(api.fleet(), 1, Some(&running)).await;

    put_alias(&api, "winter", "9", None).await.is_problem(404, "not_found");
    let made = put_alias(&api, "winter", "1", Some(0)).await;
    assert_eq!((made.status.as_u16(), &made.headers[header::ETAG]), (200, &"\"1\"".parse().unwrap()));
    assert_eq!((&made.json()["version"], &made.json()["by"]["name"]), (&json!("1"), &json!("nadia")));
    put_alias(&api, "winter", "2", Some(0)).await.is_problem(412, "stale");
    assert_eq!(put_alias(&api, "winter", &new.sha256().to_string(), Some(1)).await.status, 200);
    assert_eq!(put_alias(&api, "spare", "@winter", None).await.json()["version"], "2");
    let log = api.see("/api/v1/log?subject=er-beds").await;
    let said = |entry: &Value| entry["sentence"] == "winter of er-beds is 2 now: for the flu season";
    assert!(log["items"].as_array().unwrap().iter().any(said), "{log}");

    let models = api.see("/api/v1/models").await;
    assert_eq!(
        (&models["items"][0]["versions"], &models["items"][0]["devices_running"]),
        (&json!(2), &json!(1))
    );
    let version = api.see("/api/v1/models/er-beds/versions/1").await;
    assert_eq!(version["runs_on"]["sites"], json!([{"site": "er", "devices": 1}]));
    assert_eq!(
        (&version["variants"][0]["id"], &version["variants"][0]["size_bytes"]),
        (&json!("cpu"), &json!(1))
    );
    let there = api.see(version["runs_on"]["link"].as_str().unwrap()).await;
    assert_eq!((&there["items"][0]["id"], there["items"].as_array().unwrap().len()), (&json!(device), 1));
    let nowhere = api.see(&format!("/api/v1/devices?bundle={}", new.sha256())).await;
    assert_eq!(nowhere["items"], json!([]));
    let page = api.see("/api/v1/models/er-beds?limit=1").await;
    let rest =
        api.see(&format!("/api/v1/models/er-beds?limit=1&cursor={}", page["next"].as_str().unwrap())).await;
    assert_ne!(page["versions"][0]["sha256"], rest["versions"][0]["sha256"]);
    assert_eq!(rest["next"], Value::Null);
    api.get("/api/v1/models/none").await.is_problem(404, "not_found");
    api.get("/api/v1/models/er-beds/versions/@none").await.is_problem(404, "not_found");

    let notes = json!({"description": "trained on the flu", "tags": {"season": "winter"}});
    let path = "/api/v1/models/er-beds/versions/@winter/notes";
    assert_eq!(api.json(Method::PUT, path, &notes).await.json()["revision"], 1);
    let noted = api.see("/api/v1/models/er-beds/versions/2").await;
    assert_eq!(
        noted["notes"],
        json!({"description": "trained on the flu", "tags": {"season": "winter"}, "revision": 1})
    );

    let gone = api.post("/api/v1/models/er-beds/aliases/spare/remove", &json!({"reason": "done"})).await;
    assert_eq!(gone.status, 204);
    api.post("/api/v1/models/er-beds/aliases/spare/remove", &json!({})).await.is_problem(404, "not_found");
    api.stop().await;
}

#[tokio::test]
async fn a_rollout_by_a_name_is_of_what_the_name_was_then() {
    let api = Api::start().await;
    let (old, new) =
        (Bundle::make("bundles/er-beds/1.json", b"1"), Bundle::make("bundles/er-beds/2.json", b"2"));
    Publisher::begin(api.fleet(), &[&old, &new]).await;
    let running = BundleRef { path: old.path.clone(), sha256: old.sha256() };
    enrol(api.fleet(), 1, Some(&running)).await;
    api.post("/api/v1/rollouts", &rollout_of("er-beds@winter")).await.is_problem(422, "invalid");
    api.post("/api/v1/rollouts", &rollout_of("er-beds@")).await.is_problem(422, "invalid");
    assert_eq!(put_alias(&api, "winter", "2", None).await.status, 200);
    let rollout = api.post("/api/v1/rollouts", &rollout_of("er-beds@winter")).await;
    assert_eq!(rollout.status, 201, "{}", rollout.text());
    let rollout = rollout.json();
    assert_eq!(rollout["bundle"]["sha256"], new.sha256().to_string());
    assert_eq!(put_alias(&api, "winter", "1", None).await.status, 200);
    let id = rollout["id"].as_str().unwrap();
    let later = api.see(&format!("/api/v1/rollouts/{id}")).await;
    assert_eq!(later["bundle"]["sha256"], new.sha256().to_string());
    let expect =
        format!("er-beds@winter was bundles/er-beds/2.json ({}) when the rollout was made", new.sha256());
    let told = later["timeline"].as_array().unwrap();
    assert!(told.iter().any(|entry| entry["sentence"] == expect.as_str()), "{later}");
    api.stop().await;
}
