//! `MLflow` says that it has a version: signed, now, of a model that is ours, and once.

use axum::body::Body;
use axum::http::Method;
use muster_fleet::clock::TrustClock;
use muster_fleet::config::{MlflowConfig, Registered};
use muster_fleet::webhook;
use serde_json::{Value, json};

use super::{Answer, Api, request};
use crate::publisher::{Bundle, Publisher};
use crate::server::config;

const SECRET: &str = "a secret that both sides know";
const PATH: &str = "/api/v1/hooks/mlflow";

/// A delivery as `MLflow` writes it.
struct Delivery {
    id: &'static str,
    secret: &'static str,
    /// Seconds from now.
    at: i64,
    body: Value,
}

impl Delivery {
    fn of(id: &'static str, entity: &str, data: &Value) -> Self {
        let body = json!({"entity": entity, "action": "created", "timestamp": "2026-11-24T02:00:00+00:00", "data": data});
        Self { id, secret: SECRET, at: 0, body }
    }

    fn version(id: &'static str, version: &str) -> Self {
        let data = json!({"name": "beds-there", "version": version, "source": "mlflow-artifacts:/1/r/artifacts/m",
            "run_id": "r", "tags": {}, "description": null});
        Self::of(id, "model_version", &data)
    }

    async fn send(&self, api: &Api) -> Answer {
        let body = self.body.to_string();
        let seconds = TrustClock.now().as_millis() / 1000 + self.at;
        let signature = webhook::sign(&webhook::key(self.secret).unwrap(), self.id, seconds, body.as_bytes());
        let request = request(Method::POST, PATH)
            .header("content-type", "application/json")
            .header("X-MLflow-Delivery-Id", self.id)
            .header("X-MLflow-Timestamp", seconds.to_string())
            .header("X-MLflow-Signature", signature);
        api.send(request.body(Body::from(body)).unwrap()).await
    }

    /// What becomes of it.
    async fn outcome(&self, api: &Api) -> Value {
        let answer = self.send(api).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()
    }
}

async fn fleet(alias: Option<&str>) -> (Api, Publisher) {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(&data.path().join("fleet"));
    let secret_file = data.path().join("secret");
    std::fs::write(&secret_file, format!("{SECRET}\n")).unwrap();
    let registered = Registered {
        name: "beds-there".to_owned(),
        model: "er-beds".parse().unwrap(),
        alias: alias.map(str::to_owned),
    };
    config.mlflow = Some(MlflowConfig { secret_file, models: vec![registered] });
    let api = Api::start_with(data, config).await;
    let publisher = Publisher::begin(api.fleet(), &[&Bundle::make("bundles/er-beds/1.json", b"1")]).await;
    let policy = json!({"model": "er-beds", "enabled": true, "trigger": {"drift": {"share_of_streams": 0.2}},
        "cooldown_s": 3600, "min_data_s": 0, "max_runs_per_week": 7, "rollout": {"automatic": false}});
    assert_eq!(api.json(Method::PUT, "/api/v1/policies/er-beds", &policy).await.status, 200);
    (api, publisher)
}

async fn triggers(api: &Api) -> Vec<Value> {
    api.see("/api/v1/triggers").await["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_new_version_becomes_one_run_however_often_it_is_told() {
    let (api, _publisher) = fleet(None).await;
    let told = Delivery::version("delivery-1", "3").outcome(&api).await;
    assert_eq!(told["outcome"], "run", "{told}");
    let again = Delivery::version("delivery-1", "3").outcome(&api).await;
    assert_eq!((&again["run"], &again["trigger"]), (&told["run"], &told["trigger"]));
    let triggers = triggers(&api).await;
    assert_eq!(triggers.len(), 1, "{triggers:?}");
    assert_eq!(
        (&triggers[0]["kind"], &triggers[0]["reason"], &triggers[0]["id"]),
        (&json!("registry"), &json!("version 3 of 'beds-there' in MLflow"), &told["trigger"])
    );

    // Another version while that one is dealt with is refused with its reason, and kept.
    let other = Delivery::version("delivery-2", "4").outcome(&api).await;
    assert_eq!(other["outcome"], "refused", "{other}");
    assert!(other["reason"].as_str().unwrap().contains("is under way"), "{other}");

    // The builder is told which version it is about.
    let claim = api.post("/api/v1/runs/claim", &json!({"builder": "b", "models": ["er-beds"]})).await;
    let registered = claim.json()["request"]["trigger"]["registered"].clone();
    assert_eq!(registered, json!({"name": "beds-there", "version": "3", "alias": null}));
    api.stop().await;
}

#[tokio::test]
async fn whoever_cannot_sign_is_not_heard() {
    let (api, _publisher) = fleet(None).await;
    let wrong = Delivery { secret: "a secret of somebody else", ..Delivery::version("d", "1") };
    wrong.send(&api).await.is_problem(401, "signature");
    for at in [-301, 301] {
        Delivery { at, ..Delivery::version("d", "1") }.send(&api).await.is_problem(401, "signature");
    }
    Delivery { id: "", ..Delivery::version("d", "1") }.send(&api).await.is_problem(401, "signature");
    api.post(PATH, &Delivery::version("d", "1").body).await.is_problem(401, "signature");
    // Signed, and no event.
    Delivery { body: json!(["x"]), ..Delivery::version("d", "1") }
        .send(&api)
        .await
        .is_problem(400, "bad_body");
    assert_eq!(triggers(&api).await, Vec::<Value>::new());
    api.stop().await;
}

#[tokio::test]
async fn what_is_not_ours_is_ignored_and_said() {
    let (api, _publisher) = fleet(None).await;
    let ours = json!({"name": "beds-there", "version": "1", "tags": {"muster.bundle_digest": "sha256:1"}});
    for (delivery, why) in [
        (
            Delivery::of("a", "model_version", &json!({"name": "example_model", "version": "1"})),
            "no model here",
        ),
        (Delivery::of("b", "model_version", &ours), "a builder of this fleet made this version"),
        (
            Delivery::of(
                "c",
                "model_version_alias",
                &json!({"name": "beds-there", "version": "1", "alias": "x"}),
            ),
            "only a new version",
        ),
        (Delivery::of("d", "registered_model", &json!({"name": "beds-there"})), "only a new version"),
    ] {
        let told = delivery.outcome(&api).await;
        assert_eq!(told["outcome"], "ignored", "{told}");
        assert!(told["reason"].as_str().unwrap().contains(why), "{told}");
    }
    assert_eq!(triggers(&api).await, Vec::<Value>::new());
    api.stop().await;
}

#[tokio::test]
async fn where_people_choose_by_alias_only_that_alias_asks() {
    let (api, _publisher) = fleet(Some("approved")).await;
    let alias = |alias: &str| json!({"name": "beds-there", "version": "5", "alias": alias});
    let version = Delivery::version("a", "5").outcome(&api).await;
    assert_eq!(version["outcome"], "ignored", "{version}");
    let other = Delivery::of("b", "model_version_alias", &alias("tried")).outcome(&api).await;
    assert_eq!(other["reason"], "only the alias 'approved' asks for a run");
    let approved = Delivery::of("c", "model_version_alias", &alias("approved")).outcome(&api).await;
    assert_eq!(approved["outcome"], "run", "{approved}");
    assert_eq!(triggers(&api).await[0]["reason"], "version 5 of 'beds-there' in MLflow, now 'approved'");
    api.stop().await;
}

#[tokio::test]
async fn a_server_that_hears_no_mlflow_says_so() {
    let api = Api::start().await;
    Delivery::version("a", "1").send(&api).await.is_problem(404, "not_found");
    api.stop().await;
}
