//! The fleet server tells a lineage server what happens: in order, once, through refusals and absences.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use axum::{Json, Router};
use muster_fleet::config::LineageConfig;
use muster_fleet::store::meta;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::http::Api;
use crate::http::lineage::{EVENT, retrained};
use crate::publisher::{Bundle, Publisher};
use crate::schemas::Schemas;
use crate::server::{Server, config};

/// What it was sent, and what it answers next; then 201.
#[derive(Clone, Default)]
struct Marquez {
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    answers: Arc<Mutex<Vec<StatusCode>>>,
}

impl Marquez {
    async fn start(answers: &[u16]) -> (Self, SocketAddr, JoinHandle<()>) {
        let answers: Vec<StatusCode> =
            answers.iter().rev().map(|code| StatusCode::from_u16(*code).unwrap()).collect();
        let marquez = Self { answers: Arc::new(Mutex::new(answers)), ..Self::default() };
        let app = Router::new().route("/api/v1/lineage", post(take)).with_state(marquez.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "the handle is its owner: the test aborts it")]
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (marquez, address, serving)
    }

    fn taken(&self) -> Vec<Value> {
        self.asked.lock().unwrap().iter().map(|(_, event)| event.clone()).collect()
    }
}

async fn take(State(marquez): State<Marquez>, headers: HeaderMap, Json(event): Json<Value>) -> StatusCode {
    let answer = marquez.answers.lock().unwrap().pop().unwrap_or(StatusCode::CREATED);
    if answer.is_success() || answer == StatusCode::UNPROCESSABLE_ENTITY {
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        marquez.asked.lock().unwrap().push((token.unwrap_or_default().to_owned(), event));
    }
    answer
}

async fn count(server: &Server, key: &str) -> u64 {
    let mut db = server.read().await;
    meta::get(&mut db, key).await.unwrap().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn events_arrive_in_order_through_absence_and_refusal() {
    // Away twice; refuses the second event; takes the rest.
    let (marquez, address, serving) = Marquez::start(&[503, 429, 201, 422]).await;
    let data = tempfile::tempdir().unwrap();
    let token_file = data.path().join("token");
    std::fs::write(&token_file, "secret\n").unwrap();
    let mut config = config(data.path());
    config.lineage = LineageConfig {
        namespace: "hospital".to_owned(),
        url: Some(format!("http://{address}/")),
        token_file: Some(token_file),
    };
    let api = Api::start_with(data, config.clone()).await;
    api.server
        .until("it has its place in the log", async |fleet| {
            meta::get(&mut fleet.store.read().await.unwrap(), meta::LINEAGE_PLACE).await.unwrap()
        })
        .await;
    retrained(&api).await;
    let told = api.server.until("all events are told", async |_| {
        let told = marquez.taken();
        (told.len() == 3).then_some(told)
    });
    let told = told.await;
    let kinds: Vec<&str> = told.iter().map(|event| event["eventType"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["START", "COMPLETE", "COMPLETE"]);
    let questions: Vec<_> = told.iter().map(|event| (EVENT.to_owned(), event.clone())).collect();
    Schemas::openlineage().check(&questions);
    for event in &told {
        assert_eq!(event["job"]["namespace"], "hospital");
    }
    assert!(marquez.asked.lock().unwrap().iter().all(|(token, _)| token == "Bearer secret"));
    api.server
        .until("they are counted", async |fleet| {
            let mut db = fleet.store.read().await.unwrap();
            let told = meta::get(&mut db, meta::LINEAGE_TOLD).await.unwrap();
            (told.as_deref() == Some("2")).then_some(())
        })
        .await;
    assert_eq!(count(&api.server, meta::LINEAGE_REFUSED).await, 1);
    let figures = api.get("/metrics").await.text();
    assert!(figures.contains("muster_lineage_events_total{outcome=\"refused\"} 1"), "{figures}");

    // Killed and started again, it says nothing twice.
    let data = api.kill().await;
    let mut again = config;
    again.data = data.path().to_owned();
    let api = Api::start_with(data, again).await;
    let asked = api.post("/api/v1/runs", &json!({"model": "er-beds", "reason": "again"})).await;
    assert_eq!(asked.status, 201, "{}", asked.text());
    api.post("/api/v1/runs/claim", &json!({"builder": "b1", "models": ["er-beds"]})).await;
    let told = api.server.until("the new run is told", async |_| {
        let told = marquez.taken();
        (told.len() > 3).then_some(told)
    });
    let told = told.await;
    assert_eq!((told.len(), &told[3]["eventType"]), (4, &json!("START")));
    api.stop().await;
    serving.abort();
}

#[tokio::test]
async fn a_lineage_server_that_is_away_holds_up_nobody() {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(data.path());
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    config.lineage.url = Some(format!("http://127.0.0.1:{port}"));
    let api = Api::start_with(data, config).await;
    Publisher::begin(api.fleet(), &[&Bundle::make("bundles/er-beds/1.json", b"1")]).await;
    let asked = api.post("/api/v1/runs", &json!({"model": "er-beds", "reason": "the flu"})).await;
    assert_eq!(asked.status, 201, "{}", asked.text());
    assert_eq!(
        api.post("/api/v1/runs/claim", &json!({"builder": "b", "models": ["er-beds"]})).await.status,
        200
    );
    api.stop().await;
}
