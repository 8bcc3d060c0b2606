//! Stand-ins for the tools, as particular as the real ones are where their documents say so: a crumb is good in its own
//! cookie session only, a submission id that exists is a 500, a dispatch has no number.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use muster_fleet::clock::TrustClock;
use muster_fleet::webhook;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::jobs::{Job, Task};

/// What `kubernetes` is given.
pub(super) const JOB: &str = r#"{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"labels": {"team": "ml"}},
    "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "train", "image": "trainer:1"}]}}}}"#;
const SECRET: &str = "a secret of sixteen bytes and more";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Webhook,
    Ray,
    Airflow,
    Jenkins,
    Github,
    Kubernetes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Now {
    Running,
    Done,
    Failed,
}

#[derive(Debug)]
struct Inner {
    task: Task,
    jobs: BTreeMap<String, Now>,
    /// Jenkins' builds carry what they were asked with.
    requests: BTreeMap<String, String>,
    begun: usize,
    cancelled: bool,
    /// The next answer to a submission is 503 although it was taken.
    is_shaky: bool,
    /// Counters of what changes from call to call.
    calls: BTreeMap<&'static str, u32>,
    running: JoinSet<()>,
}

type Shared = Arc<Mutex<Inner>>;

pub(super) struct Running {
    tool: Tool,
    job: Job,
    url: String,
    state: Shared,
    _server: JoinSet<()>,
}

impl Tool {
    pub(super) const ALL: [Self; 6] =
        [Self::Webhook, Self::Ray, Self::Airflow, Self::Jenkins, Self::Github, Self::Kubernetes];

    pub(super) async fn start(self, task: Task) -> Running {
        let job = task.job;
        let state = Arc::new(Mutex::new(Inner {
            is_shaky: job == Job::DeliverAfterAShakyStart,
            task,
            jobs: BTreeMap::new(),
            requests: BTreeMap::new(),
            begun: 0,
            cancelled: false,
            calls: BTreeMap::new(),
            running: JoinSet::new(),
        }));
        let app = match self {
            Self::Webhook => Router::new().route("/hook", post(hook)),
            Self::Ray => Router::new()
                .route("/api/jobs/", post(ray_submit))
                .route("/api/jobs/{id}", get(ray_job))
                .route("/api/jobs/{id}/logs", get(async || Json(json!({"logs": "epoch 1\nepoch 2\n"}))))
                .route("/api/jobs/{id}/stop", post(ray_stop)),
            Self::Airflow => Router::new()
                .route("/auth/token", post(airflow_log_in))
                .route("/api/v2/dags/train/dagRuns", post(airflow_run))
                .route("/api/v2/dags/train/dagRuns/{id}", get(airflow_look).patch(airflow_stop)),
            Self::Jenkins => Router::new()
                .route("/ci/crumbIssuer/api/json", get(jenkins_crumb))
                .route("/ci/job/ml/job/train/buildWithParameters", post(jenkins_build))
                .route("/ci/job/ml/job/train/api/json", get(jenkins_builds))
                .route("/ci/queue/api/json", get(async || Json(json!({"items": []}))))
                .route("/ci/queue/item/42/api/json", get(jenkins_item))
                .route("/ci/job/ml/job/train/7/api/json", get(jenkins_result))
                .route("/ci/job/ml/job/train/7/stop", post(jenkins_stop)),
            Self::Github => Router::new()
                .route("/repos/clinic/models/dispatches", post(github_dispatch))
                .route("/repos/clinic/models/actions/runs", get(github_runs))
                .route("/repos/clinic/models/actions/runs/{id}/cancel", post(github_cancel)),
            Self::Kubernetes => {
                Router::new().route("/apis/batch/v1/namespaces/ml/jobs", post(kubernetes_create)).route(
                    "/apis/batch/v1/namespaces/ml/jobs/{name}",
                    get(kubernetes_get).delete(kubernetes_delete),
                )
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = app.with_state(state.clone());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Running { tool: self, job, url, state, _server: server }
    }
}

impl Running {
    /// The model's part of builder.toml.
    pub(super) fn config(&self) -> String {
        let url = &self.url;
        let lines = match self.tool {
            Tool::Webhook => format!("kind = 'webhook'\nurl = '{url}/hook'\nsecret_file = 'secret'"),
            Tool::Ray => format!("kind = 'ray'\nurl = '{url}'\nentrypoint = 'python train.py'"),
            Tool::Airflow => {
                format!(
                    "kind = 'airflow'\nurl = '{url}'\ndag = 'train'\nuser = 'muster'\npassword_file = 'secret'"
                )
            }
            Tool::Jenkins => {
                format!(
                    "kind = 'jenkins'\nurl = '{url}/ci'\njob = 'ml/train'\nuser = 'muster'\npassword_file = 'secret'"
                )
            }
            Tool::Github => {
                format!("kind = 'github'\nurl = '{url}'\nrepository = 'clinic/models'\ntoken_file = 'secret'")
            }
            Tool::Kubernetes => format!(
                "kind = 'kubernetes'\nurl = '{url}'\nnamespace = 'ml'\njob = 'job.json'\ntoken_file = 'secret'"
            ),
        };
        let timeout_s = if self.job == Job::Hang { 3 } else { 60 };
        format!("timeout_s = {timeout_s}\n[models.trainer]\n{lines}\n")
    }

    pub(super) fn begun(&self) -> usize {
        self.state.lock().unwrap().begun
    }

    pub(super) fn was_cancelled(&self) -> bool {
        self.state.lock().unwrap().cancelled
    }
}

fn counted(state: &Shared, what: &'static str) -> u32 {
    let mut inner = state.lock().unwrap();
    let count = inner.calls.entry(what).or_default();
    *count += 1;
    *count
}

/// Begins the job unless it was; whether it is new. Afterwards an answer may be lost once.
fn begin(state: &Shared, id: &str, request: Value) -> bool {
    let mut inner = state.lock().unwrap();
    if inner.jobs.contains_key(id) {
        return false;
    }
    inner.jobs.insert(id.to_owned(), Now::Running);
    inner.begun += 1;
    let (shared, id, task) = (state.clone(), id.to_owned(), inner.task.clone());
    inner.running.spawn(async move {
        let now = if task.run(&request).await { Now::Done } else { Now::Failed };
        shared.lock().unwrap().jobs.insert(id, now);
    });
    true
}

/// The answer to a submission that was taken: 503 where it got lost on the way.
fn taken(state: &Shared, status: StatusCode, body: &Value) -> Response {
    if std::mem::take(&mut state.lock().unwrap().is_shaky) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    (status, Json(body.clone())).into_response()
}

fn now(state: &Shared, id: &str) -> Option<Now> {
    state.lock().unwrap().jobs.get(id).cloned()
}

fn cancel(state: &Shared) {
    state.lock().unwrap().cancelled = true;
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned)
}

// -- webhook ---------------------------------------------------------------------------------------------------------

async fn hook(State(state): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let word = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let signed = (word("webhook-id"), word("webhook-timestamp"), word("webhook-signature"));
    if webhook::verify(&webhook::key(SECRET).unwrap(), signed, &body, TrustClock.now()).is_err() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    assert_eq!(word("content-type"), "application/cloudevents+json");
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(event["specversion"], "1.0");
    match event["type"].as_str().unwrap() {
        "io.muster.retrain.requested.v1" => {
            assert_eq!(event["id"], "trg-00000000000000000000000001");
            begin(&state, event["id"].as_str().unwrap(), event["data"].clone());
            taken(&state, StatusCode::ACCEPTED, &json!({}))
        }
        "io.muster.retrain.cancelled.v1" => {
            cancel(&state);
            StatusCode::ACCEPTED.into_response()
        }
        other => panic!("{other}"),
    }
}

// -- Ray: a submission id that exists is a 500 ------------------------------------------------------------------------

async fn ray_submit(State(state): State<Shared>, Json(body): Json<Value>) -> Response {
    let id = body["submission_id"].as_str().unwrap();
    let request = body["runtime_env"]["env_vars"]["MUSTER_REQUEST_JSON"].as_str().unwrap();
    if !begin(&state, id, serde_json::from_str(request).unwrap()) {
        return (StatusCode::INTERNAL_SERVER_ERROR, "Traceback (most recent call last)").into_response();
    }
    taken(&state, StatusCode::OK, &json!({"submission_id": id}))
}

async fn ray_job(State(state): State<Shared>, Path(id): Path<String>) -> Response {
    let status = match now(&state, &id) {
        None => return (StatusCode::NOT_FOUND, format!("Job {id} does not exist")).into_response(),
        Some(Now::Running) => "RUNNING",
        Some(Now::Done) => "SUCCEEDED",
        Some(Now::Failed) => "FAILED",
    };
    Json(json!({"status": status, "message": "CUDA out of memory"})).into_response()
}

async fn ray_stop(State(state): State<Shared>) -> Response {
    cancel(&state);
    Json(json!({"stopped": true})).into_response()
}

// -- Airflow: tokens run out, a run id that exists is a 409 -----------------------------------------------------------

async fn airflow_log_in(State(state): State<Shared>, Json(body): Json<Value>) -> Response {
    if body["username"] != "muster" || body["password"] != SECRET {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let n = counted(&state, "log-in");
    (StatusCode::CREATED, Json(json!({"access_token": format!("jwt-{n}")}))).into_response()
}

/// The first token is good for one call.
fn airflow_knows(state: &Shared, headers: &HeaderMap) -> bool {
    match bearer(headers).as_deref() {
        Some("jwt-1") => counted(state, "first token") <= 1,
        Some(token) => token.starts_with("jwt-"),
        None => false,
    }
}

async fn airflow_run(State(state): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if !airflow_knows(&state, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if body.get("logical_date") != Some(&Value::Null) {
        return (StatusCode::UNPROCESSABLE_ENTITY, "logical_date: Field required").into_response();
    }
    let id = body["dag_run_id"].as_str().unwrap();
    if !begin(&state, id, body["conf"]["muster"].clone()) {
        return (StatusCode::CONFLICT, Json(json!({"detail": "The DagRun already exists"}))).into_response();
    }
    taken(&state, StatusCode::OK, &json!({"dag_run_id": id, "state": "queued"}))
}

async fn airflow_look(State(state): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    if !airflow_knows(&state, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let said = match now(&state, &id) {
        None => return StatusCode::NOT_FOUND.into_response(),
        Some(Now::Running) => "running",
        Some(Now::Done) => "success",
        Some(Now::Failed) => "failed",
    };
    Json(json!({"dag_run_id": id, "state": said})).into_response()
}

async fn airflow_stop(State(state): State<Shared>, Json(body): Json<Value>) -> Response {
    assert_eq!(body, json!({"state": "failed"}));
    cancel(&state);
    Json(json!({})).into_response()
}

// -- Jenkins: a crumb in its cookie session, an address of its own, a queue that forgets ------------------------------

fn jenkins_knows(headers: &HeaderMap) -> bool {
    // muster and the secret, as RFC 7617 writes them.
    let said = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    said == Some("Basic bXVzdGVyOmEgc2VjcmV0IG9mIHNpeHRlZW4gYnl0ZXMgYW5kIG1vcmU=")
}

async fn jenkins_crumb(State(state): State<Shared>, headers: HeaderMap) -> Response {
    if !jenkins_knows(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let n = counted(&state, "crumb");
    let cookie = format!("JSESSIONID.1=s{n}; Path=/ci; HttpOnly");
    let crumb = json!({"crumb": format!("c{n}"), "crumbRequestField": "Jenkins-Crumb"});
    ([(header::SET_COOKIE, cookie)], Json(crumb)).into_response()
}

fn is_crumb_right(headers: &HeaderMap) -> bool {
    let word = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let crumb = word("jenkins-crumb").strip_prefix('c');
    jenkins_knows(headers) && crumb.is_some_and(|n| word("cookie") == format!("JSESSIONID.1=s{n}"))
}

async fn jenkins_build(State(state): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    if !is_crumb_right(&headers) {
        return (StatusCode::FORBIDDEN, "No valid crumb was included in the request").into_response();
    }
    let url =
        reqwest::Url::parse(&format!("http://x/?{}", String::from_utf8(body.to_vec()).unwrap())).unwrap();
    let form: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    begin(&state, &form["MUSTER_JOB"], serde_json::from_str(&form["MUSTER_REQUEST"]).unwrap());
    state.lock().unwrap().requests.insert(form["MUSTER_JOB"].clone(), String::new());
    let mut response = taken(&state, StatusCode::CREATED, &json!({}));
    // What Jenkins believes to be called.
    let location = "http://jenkins.internal:8080/ci/queue/item/42/".parse().unwrap();
    response.headers_mut().insert(header::LOCATION, location);
    response
}

async fn jenkins_builds(State(state): State<Shared>, headers: HeaderMap) -> Response {
    if !jenkins_knows(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let builds: Vec<Value> = state
        .lock()
        .unwrap()
        .requests
        .keys()
        .map(
            |id| json!({"number": 7, "actions": [{}, {"parameters": [{"name": "MUSTER_JOB", "value": id}]}]}),
        )
        .collect();
    Json(json!({"builds": builds})).into_response()
}

async fn jenkins_item(State(state): State<Shared>) -> Response {
    match counted(&state, "queue item") {
        1 => Json(json!({"why": "waiting for an executor"})).into_response(),
        2 => {
            Json(json!({"executable": {"number": 7, "url": "http://jenkins.internal:8080/"}})).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn jenkins_result(State(state): State<Shared>) -> Response {
    let now = state.lock().unwrap().jobs.values().next().cloned();
    let result = match now {
        Some(Now::Done) => json!("SUCCESS"),
        Some(Now::Failed) => json!("FAILURE"),
        Some(Now::Running) | None => Value::Null,
    };
    Json(json!({"result": result, "building": result.is_null()})).into_response()
}

async fn jenkins_stop(State(state): State<Shared>, headers: HeaderMap) -> Response {
    if !is_crumb_right(&headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    cancel(&state);
    (StatusCode::FOUND, [(header::LOCATION, "http://jenkins.internal:8080/")]).into_response()
}

// -- GitHub: no number, payloads with bounds --------------------------------------------------------------------------

async fn github_dispatch(
    State(state): State<Shared>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    if state.lock().unwrap().task.job == Job::Refused {
        return (StatusCode::FORBIDDEN, Json(json!({"message": "API rate limit exceeded"}))).into_response();
    }
    assert!(headers.contains_key(header::USER_AGENT) && bearer(&headers).as_deref() == Some(SECRET));
    assert_eq!(headers["x-github-api-version"], "2022-11-28");
    let payload = body["client_payload"].as_object().unwrap();
    assert!(payload.len() <= 10, "GitHub takes ten properties");
    assert_eq!(body["event_type"], "muster-retrain");
    begin(&state, payload["job"].as_str().unwrap(), payload["request"].clone());
    match taken(&state, StatusCode::NO_CONTENT, &Value::Null).status() {
        StatusCode::NO_CONTENT => StatusCode::NO_CONTENT.into_response(),
        status => status.into_response(),
    }
}

async fn github_runs(State(state): State<Shared>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    assert_eq!(query["per_page"], "100");
    let run = |(id, now): (&String, &Now)| {
        let (status, conclusion) = match now {
            Now::Running => ("in_progress", Value::Null),
            Now::Done => ("completed", json!("success")),
            Now::Failed => ("completed", json!("failure")),
        };
        json!({"id": 11, "display_title": format!("retrain er ({id})"), "status": status, "conclusion": conclusion})
    };
    let runs: Vec<Value> = state.lock().unwrap().jobs.iter().map(run).collect();
    Json(json!({"total_count": runs.len(), "workflow_runs": runs})).into_response()
}

async fn github_cancel(State(state): State<Shared>, Path(id): Path<u64>) -> StatusCode {
    assert_eq!(id, 11);
    cancel(&state);
    StatusCode::ACCEPTED
}

// -- Kubernetes: names, conditions, and pods that stay behind ---------------------------------------------------------

async fn kubernetes_create(
    State(state): State<Shared>,
    headers: HeaderMap,
    Json(job): Json<Value>,
) -> Response {
    if bearer(&headers).as_deref() != Some(SECRET) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let name = job["metadata"]["name"].as_str().unwrap();
    let is_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.len() > 63 || !name.chars().all(is_label) {
        return (StatusCode::UNPROCESSABLE_ENTITY, "a lowercase RFC 1123 label").into_response();
    }
    assert_eq!(job["metadata"]["labels"]["team"], "ml", "the owner's own labels stay");
    let env = &job["spec"]["template"]["spec"]["containers"][0]["env"][0];
    assert_eq!(env["name"], "MUSTER_REQUEST_JSON");
    if !begin(&state, name, serde_json::from_str(env["value"].as_str().unwrap()).unwrap()) {
        return (StatusCode::CONFLICT, Json(json!({"reason": "AlreadyExists"}))).into_response();
    }
    taken(&state, StatusCode::CREATED, &job)
}

async fn kubernetes_get(State(state): State<Shared>, Path(name): Path<String>) -> Response {
    let status = match now(&state, &name) {
        None => return StatusCode::NOT_FOUND.into_response(),
        Some(Now::Running) => json!({"active": 1}),
        Some(Now::Done) => json!({"conditions": [{"type": "SuccessCriteriaMet", "status": "True"},
            {"type": "Complete", "status": "True"}]}),
        Some(Now::Failed) => json!({"conditions": [{"type": "Failed", "status": "True",
            "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}]}),
    };
    Json(json!({"metadata": {"name": name}, "status": status})).into_response()
}

async fn kubernetes_delete(State(state): State<Shared>, Json(body): Json<Value>) -> Response {
    assert_eq!(body["propagationPolicy"], "Background");
    cancel(&state);
    Json(json!({"status": "Success"})).into_response()
}
