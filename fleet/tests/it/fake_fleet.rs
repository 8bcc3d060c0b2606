//! A fleet server's contract without a fleet behind it: what the CLI and the builder ask, and what they were told.
//!
//! It keeps blobs and trust files, hands out one run, and records heartbeats and ends. The stories with the real server
//! stand elsewhere; here the answers are the test's to choose.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use muster_protocol::ids::Digest;
use serde_json::{Value, json};

#[derive(Clone)]
pub(crate) struct FakeFleet {
    pub url: String,
    state: Arc<Mutex<Asked>>,
    _server: Arc<tokio::task::JoinSet<()>>,
}

/// What the fleet holds and what it heard.
#[derive(Default)]
pub(crate) struct Asked {
    pub blobs: BTreeMap<String, Bytes>,
    pub trust: BTreeMap<String, Bytes>,
    /// The run to hand out, once.
    pub claim: Option<Value>,
    /// Answers to heartbeats: a status and a body.
    pub heartbeat: Option<(u16, Value)>,
    pub heartbeats: Vec<Value>,
    pub finished: Option<Value>,
    /// How often a result token was asked for; the newest is `token-N`.
    pub tokens: usize,
    /// What a trainer elsewhere handed back.
    pub result: Option<Value>,
    /// Answers to GET and POST by path; the last one stays.
    pub answers: BTreeMap<String, Vec<(u16, Value)>>,
    /// Everything else that was asked: method, path and query, actor, body.
    pub requests: Vec<(String, String, String, Value)>,
}

impl FakeFleet {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(Mutex::new(Asked::default()));
        let app = Router::new()
            .route("/api/v1/blobs/{digest}", get(get_blob).put(put_blob))
            .route("/api/v1/dataset-blobs/{digest}", get(get_blob))
            .route("/api/v1/trust/{name}", get(get_trust).put(put_trust))
            .route("/api/v1/runs/claim", post(claim))
            .route("/api/v1/runs/{id}/heartbeat", post(heartbeat))
            .route("/api/v1/runs/{id}/finish", post(finish))
            .route("/api/v1/runs/{id}/result/token", post(token))
            .route("/api/v1/runs/{id}/result", get(get_result).post(hand_back))
            .route("/api/v1/runs/{id}/result/files/{digest}", axum::routing::put(put_result_file))
            .fallback(other)
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(state.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, state, _server: Arc::new(server) }
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Asked) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    pub(crate) fn answer(&self, path: &str, status: u16, body: Value) -> &Self {
        self.with(|asked| asked.answers.entry(path.to_owned()).or_default().push((status, body)));
        self
    }
}

type Shared = State<Arc<Mutex<Asked>>>;

async fn get_blob(State(state): Shared, Path(digest): Path<String>) -> Response {
    let found = state.lock().unwrap().blobs.get(&digest).cloned();
    found.map_or_else(|| problem(404, "no such blob"), axum::response::IntoResponse::into_response)
}

async fn put_blob(State(state): Shared, Path(digest): Path<String>, body: Bytes) -> Response {
    if Digest::of(&body).to_string() != digest {
        return problem(422, "the digest does not match");
    }
    state.lock().unwrap().blobs.insert(digest, body);
    StatusCode::CREATED.into_response()
}

async fn get_trust(State(state): Shared, Path(name): Path<String>) -> Response {
    let found = state.lock().unwrap().trust.get(&name).cloned();
    found.map_or_else(|| problem(404, "no such file"), axum::response::IntoResponse::into_response)
}

async fn put_trust(State(state): Shared, Path(name): Path<String>, body: Bytes) -> Response {
    state.lock().unwrap().trust.insert(name.clone(), body);
    Json(json!({ "name": name })).into_response()
}

async fn claim(State(state): Shared, Json(body): Json<Value>) -> Response {
    let mut asked = state.lock().unwrap();
    let wanted = asked.claim.as_ref().is_some_and(|claim| {
        body["models"].as_array().is_some_and(|models| models.contains(&claim["run"]["model"]))
    });
    match asked.claim.take_if(|_| wanted) {
        Some(claim) => Json(claim).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn heartbeat(State(state): Shared, Json(body): Json<Value>) -> Response {
    let mut asked = state.lock().unwrap();
    asked.heartbeats.push(body);
    let (status, body) = asked.heartbeat.clone().unwrap_or((200, json!({ "cancel": false })));
    answer(status, body)
}

async fn finish(State(state): Shared, Json(body): Json<Value>) -> Response {
    state.lock().unwrap().finished = Some(body);
    Json(json!({})).into_response()
}

async fn token(State(state): Shared, Json(body): Json<Value>) -> Response {
    assert_eq!(body["builder"], "b1");
    let mut asked = state.lock().unwrap();
    asked.tokens += 1;
    (StatusCode::CREATED, Json(json!({"token": format!("token-{}", asked.tokens), "until": 0})))
        .into_response()
}

async fn get_result(State(state): Shared) -> Response {
    let result = state.lock().unwrap().result.clone();
    result.map_or_else(|| StatusCode::NO_CONTENT.into_response(), |result| Json(result).into_response())
}

async fn put_result_file(
    state: Shared,
    headers: HeaderMap,
    Path((_, digest)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    if !is_trusted(&state, &headers) {
        return problem(404, "no run takes a result by this token");
    }
    put_blob(state, Path(digest), body).await
}

async fn hand_back(state: Shared, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if !is_trusted(&state, &headers) {
        return problem(404, "no run takes a result by this token");
    }
    state.lock().unwrap().result = Some(body);
    Json(json!({})).into_response()
}

fn is_trusted(state: &Shared, headers: &HeaderMap) -> bool {
    let newest = format!("Bearer token-{}", state.lock().unwrap().tokens);
    headers.get(header::AUTHORIZATION).is_some_and(|said| said == newest.as_str())
}

async fn other(
    State(state): Shared,
    method: axum::http::Method,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut asked = state.lock().unwrap();
    let actor = headers.get("x-muster-actor").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    asked.requests.push((method.to_string(), uri.to_string(), actor, body));
    let key = format!("{method} {}", uri.path());
    match asked.answers.get_mut(&key) {
        Some(answers) if answers.len() > 1 => {
            let (status, body) = answers.remove(0);
            answer(status, body)
        }
        Some(answers) => {
            answers.first().cloned().map_or_else(|| problem(500, "empty"), |(s, b)| answer(s, b))
        }
        None => problem(404, &format!("nothing at {key}")),
    }
}

fn answer(status: u16, body: Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    if status.is_success() {
        return (status, Json(body)).into_response();
    }
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

fn problem(status: u16, detail: &str) -> Response {
    answer(status, json!({ "title": "problem", "status": status, "detail": detail }))
}
