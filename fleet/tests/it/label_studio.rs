//! Label Studio by its documented contract: a server that refuses what the documentation does not allow.
//!
//! What it holds to is that of the API reference: a token in every request, tasks as a list of objects under `data`, the
//! count of what was taken, and exports without unannotated tasks unless they are asked for.

use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::desk::{Desk, NOWHERE};

#[derive(Default)]
struct Project {
    tasks: Vec<Value>,
    imports: usize,
}

struct Studio {
    url: String,
    project: Arc<Mutex<Project>>,
    _server: JoinSet<()>,
}

type Shared = State<Arc<Mutex<Project>>>;

impl Studio {
    async fn start() -> Self {
        let project = Arc::new(Mutex::new(Project::default()));
        let app = Router::new()
            .route("/api/token/refresh", post(refresh))
            .route("/api/projects/{id}/import", post(import))
            .route("/api/projects/{id}/export", get(export))
            .with_state(project.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, project, _server: server }
    }

    fn annotate(&self, at: usize, annotation: &Value) {
        let mut project = self.project.lock().unwrap();
        project.tasks[at]["annotations"].as_array_mut().unwrap().push(annotation.clone());
    }
}

fn allowed(headers: &HeaderMap, id: u64) -> Option<Response> {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok());
    if !matches!(token, Some("Token legacy" | "Bearer short-lived")) {
        return Some((StatusCode::UNAUTHORIZED, Json(json!({"detail": "Invalid token."}))).into_response());
    }
    (id != 3).then(|| (StatusCode::NOT_FOUND, Json(json!({"detail": "Not found."}))).into_response())
}

async fn refresh(Json(body): Json<Value>) -> Response {
    if body == json!({"refresh": "ey.personal.access"}) {
        Json(json!({"access": "short-lived"})).into_response()
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

async fn import(
    State(project): Shared,
    Path(id): Path<u64>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    if let Some(refused) = allowed(&headers, id) {
        return refused;
    }
    let Some(tasks) = body.as_array().filter(|tasks| tasks.iter().all(|task| task["data"].is_object()))
    else {
        return (StatusCode::BAD_REQUEST, Json(json!({"detail": "tasks are a list of {data}"})))
            .into_response();
    };
    let mut project = project.lock().unwrap();
    project.imports += 1;
    for task in tasks {
        let id = project.tasks.len() + 1;
        project.tasks.push(json!({"id": id, "data": task["data"], "annotations": []}));
    }
    let answer =
        json!({"task_count": tasks.len(), "annotation_count": 0, "predictions_count": 0, "duration": 0.1});
    (StatusCode::CREATED, Json(answer)).into_response()
}

async fn export(
    State(project): Shared,
    Path(id): Path<u64>,
    Query(query): Query<std::collections::BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Some(refused) = allowed(&headers, id) {
        return refused;
    }
    if query.get("exportType").map(String::as_str) != Some("JSON") {
        return (StatusCode::BAD_REQUEST, Json(json!({"detail": "exportType"}))).into_response();
    }
    let all = query.get("download_all_tasks").map(String::as_str) == Some("true");
    let project = project.lock().unwrap();
    let annotated = |task: &&Value| all || !task["annotations"].as_array().unwrap().is_empty();
    Json(project.tasks.iter().filter(annotated).cloned().collect::<Vec<_>>()).into_response()
}

fn annotation(choice: &str, at: &str, cancelled: bool) -> Value {
    json!({"id": 1, "was_cancelled": cancelled, "created_at": at, "updated_at": at, "completed_by": 1,
        "result": [{"from_name": "outcome", "to_name": "row", "type": "choices", "value": {"choices": [choice]}}]})
}

fn captured() -> String {
    let header = json!({"v": 1, "request": "cap-00000000000000000000000001", "slot": "er", "bundle": "0".repeat(64),
        "columns": ["age"]});
    let row = |id: &str, risk: f64| json!({"at": "2026-11-01T00:00:00Z", "id": id, "row": 0, "inputs": [30], "outputs": {"risk": [risk]}});
    [header, row("a", 0.45), row("b", 0.55), row("c", 0.95)].map(|line| format!("{line}\n")).concat()
}

#[tokio::test]
async fn unsure_rows_become_tasks_once_and_answers_become_labels() {
    let studio = Studio::start().await;
    let desk = Desk::new(NOWHERE);
    std::fs::write(desk.path("rows.jsonl"), captured()).unwrap();
    let (rows, token, labels) =
        (desk.text("rows.jsonl"), desk.secret_file("token", "legacy\n"), desk.text("labels.csv"));
    let at = ["--studio", &studio.url, "--project", "3", "--token-file", &token];
    let push = [&["label", "push", &rows, "--score", "0.4..0.6"][..], &at].concat();
    assert_eq!(desk.ok(&push).await, "2 tasks made, 0 were there\n");
    assert_eq!(desk.ok(&push).await, "0 tasks made, 2 were there\n", "pushing twice is pushing once");
    let (first, imports) = {
        let project = studio.project.lock().unwrap();
        (project.tasks[0]["data"].clone(), project.imports)
    };
    assert_eq!((&first["age"], &first["output:risk"], imports), (&30.into(), &json!(0.45), 1));

    studio.annotate(0, &annotation("died", "2026-11-02T00:00:00.000000Z", false));
    studio.annotate(0, &annotation("lived", "2026-11-03T00:00:00.000000Z", false));
    studio.annotate(1, &annotation("died", "2026-11-02T00:00:00.000000Z", true));
    let pull = [&["label", "pull", "--out", &labels, "--control", "outcome"][..], &at].concat();
    let said = desk.ok(&pull).await;
    assert!(said.contains("1 labels; 1 tasks are open, 1 disputed, 0 not ours"), "{said}");
    let text = std::fs::read_to_string(&labels).unwrap();
    assert_eq!(
        text,
        format!("id,label,at\n{},lived,2026-11-03T00:00:00.000Z\n", first["sample"].as_str().unwrap())
    );

    // And they are what the export joins with.
    let out = desk.text("er.parquet");
    let said = desk.ok(&["capture", "export", &rows, "--labels", &labels, "--out", &out]).await;
    assert!(said.contains("1 rows with a label"), "{said}");
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let studio = Studio::start().await;
    let desk = Desk::new(NOWHERE);
    let (wrong, personal, out) = (
        desk.secret_file("wrong", "x"),
        desk.secret_file("personal", "ey.personal.access"),
        desk.text("labels.csv"),
    );
    let pull = |project: &'static str, token: &'static str| {
        let token = desk.text(token);
        [
            "label",
            "pull",
            "--out",
            &out,
            "--studio",
            &studio.url,
            "--project",
            project,
            "--token-file",
            &token,
        ]
        .map(str::to_owned)
    };
    let run = async |args: [String; 10]| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        desk.run(&args, &[]).await
    };
    let (ok, _, err) = run(pull("3", "wrong")).await;
    assert!(!ok && err.contains("refuses the token"), "{err} {wrong}");
    let (ok, _, err) = run(pull("4", "personal")).await;
    assert!(!ok && err.contains("no project 4"), "{err}");
    let (ok, out, err) = run(pull("3", "personal")).await;
    assert!(ok && out.contains("0 labels"), "{err} {personal}");
}
