//! The REST API on a real server: its database, blobs, catalogue and tasks are the real ones; requests come in by the
//! router itself, as the listener would hand them over.

mod builders;
mod captures;
mod datasets;
mod desk;
mod guards;
mod hooks;
pub(crate) mod lineage;
mod live;
mod matrix;
mod models;
mod oidc;
mod people;
mod registry;
mod rollouts;
mod sites;
mod views;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use muster_fleet::config::Config;
use muster_fleet::fleet::Fleet;
use muster_fleet::http;
use muster_fleet::store::devices;
use muster_protocol::ids::{BootId, DeviceId};
use muster_protocol::message::up::{BundleRef, Phase, ProviderUse, Running, SlotState};
use muster_protocol::message::{Capabilities, Hello, Provider, State, VERSION};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

pub(crate) use people::{person, token};

use crate::server::{Server, config};

/// A server and its router.
pub(crate) struct Api {
    pub(crate) server: Server,
    router: Router,
    data: TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Api {
    pub(crate) async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let config = config(data.path());
        Self::start_with(data, config).await
    }

    pub(crate) async fn start_with(data: TempDir, config: Config) -> Self {
        let server = Server::start_with(config).await;
        let router = http::router(server.fleet.clone());
        Self { server, router, data }
    }

    pub(crate) fn fleet(&self) -> &Arc<Fleet> {
        &self.server.fleet
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }

    /// Leaves the folder as it was at that moment.
    pub(crate) async fn kill(self) -> TempDir {
        self.server.kill().await;
        self.data
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 64 * 1024 * 1024).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// As [`Self::send`], of whatever never ends.
    pub(crate) async fn open(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path).body(Body::empty()).unwrap()).await
    }

    /// A GET that must succeed.
    pub(crate) async fn see(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.json(Method::POST, path, body).await
    }

    pub(crate) async fn json(&self, method: Method, path: &str, body: &Value) -> Answer {
        let request = request(method, path).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub(crate) async fn put_bytes(&self, path: &str, bytes: Vec<u8>) -> Answer {
        self.send(request(Method::PUT, path).body(Body::from(bytes)).unwrap()).await
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Checks that it is a problem of this status and code, with a sentence.
    pub(crate) fn is_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 5), "{problem}");
        problem
    }
}

pub(crate) fn request(method: Method, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:8480")
}

/// A device that says hello, and that it runs `current` in the slot of the tests' model.
pub(crate) async fn enrol(fleet: &Fleet, n: u8, current: Option<&BundleRef>) -> DeviceId {
    let id = DeviceId::mint([n; 16]);
    let boot = BootId::mint([n; 16]);
    let at = fleet.clocks.trust.now();
    let hello = Hello {
        v: VERSION,
        boot: boot.clone(),
        connection: 1,
        name: format!("box-{n}"),
        site: if n.is_multiple_of(2) { "icu" } else { "er" }.parse().unwrap(),
        agent_version: "0.1.0".to_owned(),
        capabilities: Capabilities::default(),
        order_version: 0,
        root: None,
        certificate_expires: None,
        facts: None,
        key: None,
    };
    let running = |bundle: &BundleRef| Running {
        bundle: bundle.clone(),
        variant: "cpu".to_owned(),
        provider: ProviderUse { provider: Provider::OnnxCpu, reason: None },
        numerics: None,
        passed_over: None,
        since: at,
    };
    let state = State {
        v: VERSION,
        boot,
        sequence: 1,
        at,
        observed_generation: 0,
        catalogue: 1,
        refusal: None,
        notices: vec![],
        leases: Vec::new(),
        captures: Vec::new(),
        slots: vec![SlotState {
            slot: "er-beds".parse().unwrap(),
            phase: current.map_or(Phase::Empty, |bundle| Phase::Running { bundle: bundle.clone() }),
            current: current.map(running),
            previous: None,
            notice: None,
        }],
    };
    crate::member::enrolled(fleet, &id, &hello.name, hello.site.as_str()).await;
    let mut tx = fleet.store.write().await.unwrap();
    devices::hello(&mut tx, &id, &hello, at).await.unwrap();
    assert!(devices::state(&mut tx, &id, &state).await.unwrap());
    tx.commit().await.unwrap();
    id
}

/// Whatever a test does with a kept description: compare it, or write it when asked to.
#[test]
fn the_committed_description_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let current = http::openapi();
    assert!(
        committed == current,
        "docs/openapi.json is not what the code says; run `muster-fleet openapi > fleet/docs/openapi.json` and review the change"
    );
    let document: Value = serde_json::from_str(&current).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let operations: usize =
        document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
    assert!(operations >= 39, "{operations}");
}

/// A body that is refused however the test's model is.
pub(crate) fn rollout_of(bundle: &str) -> Value {
    json!({"model": "er-beds", "bundle": bundle, "reason": "test"})
}
