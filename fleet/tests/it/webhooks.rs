//! Webhooks are told what happens: signed, in order, once, through absence; what they refuse is kept for people.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use muster_fleet::config::WebhookConfig;
use muster_fleet::store::{meta, undelivered};
use muster_fleet::webhook;
use muster_protocol::time::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::desk::Desk;
use crate::http::Api;
use crate::server::{config, eventually};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What somebody on call has received: the id and the event; and what they answer next, then 204.
#[derive(Clone, Default)]
struct OnCall {
    taken: Arc<Mutex<Vec<(String, Value)>>>,
    answers: Arc<Mutex<Vec<StatusCode>>>,
}

impl OnCall {
    async fn start(answers: &[u16]) -> (Self, SocketAddr, JoinHandle<()>) {
        let answers: Vec<StatusCode> =
            answers.iter().rev().map(|code| StatusCode::from_u16(*code).unwrap()).collect();
        let on_call = Self { answers: Arc::new(Mutex::new(answers)), ..Self::default() };
        let app = Router::new().route("/hook", post(take)).with_state(on_call.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "the handle is its owner: the test aborts it")]
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (on_call, address, serving)
    }

    fn kinds(&self) -> Vec<String> {
        self.taken
            .lock()
            .unwrap()
            .iter()
            .map(|(_, event)| event["type"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn has(&self, kinds: &[&str]) {
        eventually("they were told", || self.kinds() == kinds).await;
    }
}

async fn take(State(on_call): State<OnCall>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let of = |name: &str| headers[name].to_str().unwrap();
    let (id, at) = (of("webhook-id"), of("webhook-timestamp"));
    let now = Timestamp::from_millis(at.parse::<i64>().unwrap() * 1000);
    let key = webhook::key(SECRET).unwrap();
    webhook::verify(&key, (id, at, of("webhook-signature")), &body, now).unwrap();
    let answer = on_call.answers.lock().unwrap().pop().unwrap_or(StatusCode::NO_CONTENT);
    if answer.is_success() {
        on_call.taken.lock().unwrap().push((id.to_owned(), serde_json::from_slice(&body).unwrap()));
    }
    answer
}

#[tokio::test]
async fn webhooks_are_told_in_order_and_what_they_refuse_is_kept() {
    // Away once; then takes one and refuses the next.
    let (on_call, address, serving) = OnCall::start(&[503, 204, 400]).await;
    let data = tempfile::tempdir().unwrap();
    let secret_file = data.path().join("secret");
    std::fs::write(&secret_file, format!("{SECRET}\n")).unwrap();
    let mut config = config(data.path());
    config.webhooks = vec![WebhookConfig {
        name: "on-call".to_owned(),
        url: format!("http://user:pw@{address}/hook?key=1"),
        secret_file,
        events: vec!["fleet".to_owned()],
    }];
    let api = Api::start_with(data, config.clone()).await;
    let desk = Desk::new(&api.fleet().addresses.http);
    api.server
        .until("the hook has its place in the log", async |fleet| {
            let mut db = fleet.store.read().await.unwrap();
            meta::get(&mut db, &meta::webhook_place("on-call")).await.unwrap()
        })
        .await;

    let freeze = json!({"reason": "flu wave"});
    assert_eq!(api.post("/api/v1/freezes", &freeze).await.status, 200);
    on_call.has(&["fleet.frozen"]).await;
    let (id, event) = on_call.taken.lock().unwrap()[0].clone();
    assert_eq!(id, format!("log-{}", event["data"]["entry"]));
    assert_eq!(event["data"]["sentence"], "froze the fleet: flu wave");
    assert_eq!(event["data"]["actor"], "person:operator");

    // This one is refused for good; what comes after it is not held up.
    assert_eq!(api.post("/api/v1/freezes/thaw", &freeze).await.status, 200);
    assert_eq!(api.post("/api/v1/freezes", &freeze).await.status, 200);
    on_call.has(&["fleet.frozen", "fleet.frozen"]).await;
    let hooks = api.see("/api/v1/webhooks").await;
    let hook = &hooks["items"][0];
    assert_eq!((&hook["url"], &hook["undelivered"]), (&json!(format!("http://{address}/hook")), &json!(1)));
    let aside = api.see("/api/v1/webhooks/on-call/undelivered").await;
    assert_eq!(aside["items"].as_array().unwrap().len(), 1, "{aside}");
    let aside = &aside["items"][0];
    assert_eq!((&aside["kind"], &aside["again"]), (&json!("fleet.thawed"), &json!(false)));
    assert!(aside["why"].as_str().unwrap().contains("400"), "{aside}");
    let entry = aside["entry"].to_string();

    assert!(desk.ok(&["webhook", "list"]).await.contains("on-call"));
    assert!(desk.ok(&["webhook", "undelivered", "on-call"]).await.contains("fleet.thawed"));
    desk.ok(&["webhook", "retry", "on-call", &entry]).await;
    on_call.has(&["fleet.frozen", "fleet.frozen", "fleet.thawed"]).await;
    api.server
        .until("nothing is left aside", async |fleet| {
            let mut db = fleet.store.read().await.unwrap();
            let left = undelivered::count_of(&mut db, "on-call").await.unwrap();
            (left == 0).then_some(())
        })
        .await;
    let gone = format!("/api/v1/webhooks/on-call/undelivered/{entry}/retry");
    api.post(&gone, &json!({})).await.is_problem(404, "not_found");
    api.get("/api/v1/webhooks/other/undelivered").await.is_problem(404, "not_found");

    // Killed and started again, it says nothing twice, and what happens then.
    let data = api.kill().await;
    let mut again = config;
    again.data = data.path().to_owned();
    again.webhooks[0].secret_file = data.path().join("secret");
    let api = Api::start_with(data, again).await;
    assert_eq!(api.post("/api/v1/freezes/thaw", &freeze).await.status, 200);
    on_call.has(&["fleet.frozen", "fleet.frozen", "fleet.thawed", "fleet.thawed"]).await;
    api.stop().await;
    serving.abort();
}

#[tokio::test]
async fn a_webhook_without_its_secret_stops_the_start() {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(data.path());
    config.webhooks = vec![WebhookConfig {
        name: "on-call".to_owned(),
        url: "http://127.0.0.1:9/hook".to_owned(),
        secret_file: data.path().join("nowhere"),
        events: vec!["run".to_owned()],
    }];
    let stop = tokio_util::sync::CancellationToken::new();
    let (ready, _is_ready) = tokio::sync::oneshot::channel();
    let error = muster_fleet::serve::run(config, stop, ready).await.unwrap_err();
    assert!(error.to_string().contains("webhook"), "{error}");
}
