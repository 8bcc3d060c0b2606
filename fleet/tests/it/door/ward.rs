//! A fleet server with its root published, boxes that speak to its door over real TLS, and a person who decides.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use muster_fleet::http;
use muster_fleet::store::log::Actor;
use muster_protocol::enrol::{
    CertificateRequest, ENROL_PATH, EnrolRequest, EnrolState, Enrolled, EnrolmentFile, Facts, REKEY_PATH,
    RENEW_PATH, VERSION,
};
use muster_protocol::ids::{DeviceId, Digest};
use muster_protocol::trust::SecretKey;
use muster_protocol::trust::author::{self, Keys, RootSpec};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower::ServiceExt as _;

use crate::http::request;
use crate::publisher::YEAR;
use crate::server::{PATIENCE, Server};

/// A server on a folder of its own.
pub(crate) struct Ward {
    pub(crate) server: Server,
    pub(crate) data: tempfile::TempDir,
}

/// A box before anybody knows it: a key, and what it says of itself.
pub(crate) struct Newcomer {
    pub(crate) name: String,
    pub(crate) key: KeyPair,
    pub(crate) facts: Facts,
}

/// An answer at the door.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Ward {
    /// With a root that leads boxes to this server.
    pub(crate) async fn open() -> Self {
        let ward = Self::bare().await;
        ward.publish_root(1, vec![ward.server.fleet.pki.tls_root_pem()]).await;
        ward
    }

    /// Nothing is published yet.
    pub(crate) async fn bare() -> Self {
        let data = tempfile::tempdir().unwrap();
        Self { server: Server::start(data.path()).await, data }
    }

    /// Killed in whatever it was doing, and started again.
    pub(crate) async fn killed(self) -> Self {
        self.server.kill().await;
        Self { server: Server::start(self.data.path()).await, data: self.data }
    }

    pub(crate) async fn close(self) {
        self.server.stop().await;
    }

    pub(crate) async fn publish_root(&self, version: u64, tls_roots: Vec<String>) {
        let fleet = &self.server.fleet;
        let (root, online) = (SecretKey::from_seed([1; 32]), Keys::one(fleet.signer.online_key()));
        let spec = RootSpec {
            version,
            expires: fleet.clocks.trust.now().plus(YEAR),
            root: Keys::one(muster_protocol::trust::Sign::key(&root)),
            targets: Keys::one(muster_protocol::trust::Sign::key(&SecretKey::from_seed([2; 32]))),
            snapshot: online.clone(),
            timestamp: online,
            order: Keys::one(fleet.signer.order_key()),
            tls_roots,
        };
        let bytes = author::sign(author::root(&spec).unwrap(), &[&root]).unwrap();
        let name = format!("{version}.root.json");
        fleet.intake.upload(&name, &bytes, Actor::Person("ada".to_owned())).await.unwrap();
    }

    /// A person's request to the operators' API.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let request = request(method, path).header(header::CONTENT_TYPE, "application/json");
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let router = http::router(self.server.fleet.clone());
        let (parts, body) = router.oneshot(request.body(body).unwrap()).await.unwrap().into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, Some(&body)).await
    }

    pub(crate) async fn see(&self, path: &str) -> Value {
        let answer = self.ask(Method::GET, path, None).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    pub(crate) async fn file(&self, change: Value) -> EnrolmentFile {
        let mut body = json!({"site": "er-2"});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = self.post("/api/v1/enrolments", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        EnrolmentFile::from_json(answer.json()["file"].to_string().as_bytes()).unwrap()
    }

    pub(crate) async fn verb(&self, device: &DeviceId, verb: &str, body: Value) -> Answer {
        self.post(&format!("/api/v1/identities/{device}/{verb}"), body).await
    }

    /// A box that is a member: it enrolled and was accepted.
    pub(crate) async fn member(&self, newcomer: &Newcomer) -> Enrolled {
        let file = self.file(json!({})).await;
        let waits = newcomer.enrol(&file).await.enrolled(202);
        assert_eq!(self.verb(&waits.device, "accept", json!({})).await.status, 200);
        newcomer.enrol(&file).await.enrolled(200)
    }

    /// TLS as a box does it that trusts the newest root.
    pub(crate) fn tls(&self, certificate: Option<(&str, &KeyPair)>) -> Arc<ClientConfig> {
        tls(&self.server.fleet.pki.tls_roots(), certificate)
    }

    pub(crate) fn door(&self) -> String {
        self.server.fleet.addresses.door.clone()
    }
}

impl Newcomer {
    pub(crate) fn new(name: &str) -> Self {
        let facts = Facts {
            machine: Some(Digest::of(format!("machine of {name}").as_bytes())),
            board: Some(Digest::of(format!("board of {name}").as_bytes())),
            arch: "x86_64".to_owned(),
            cpu_model: "Intel(R) N97".to_owned(),
        };
        Self {
            name: name.to_owned(),
            key: KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
            facts,
        }
    }

    pub(crate) fn csr(&self) -> String {
        csr(&self.key)
    }

    pub(crate) fn asks(&self, csr: String) -> Value {
        let request = EnrolRequest { v: VERSION, name: self.name.clone(), csr, facts: self.facts.clone() };
        serde_json::to_value(request).unwrap()
    }

    /// As `muster-agent enrol FILE`: trusts whom the file's root trusts.
    pub(crate) async fn enrol(&self, file: &EnrolmentFile) -> Answer {
        let body = self.asks(self.csr()).to_string();
        knock(&file.server, tls(&roots(&file.root), None), ENROL_PATH, Some(file.token.secret()), body)
            .await
            .unwrap()
    }

    pub(crate) async fn renew(&self, ward: &Ward) -> Answer {
        let body = CertificateRequest { v: VERSION, csr: self.csr() };
        let body = serde_json::to_string(&body).unwrap();
        knock(&ward.door(), ward.tls(None), RENEW_PATH, None, body).await.unwrap()
    }

    /// Asks to be known by `new` from now on, showing `certificate`.
    pub(crate) async fn rekey(
        &self,
        ward: &Ward,
        certificate: &str,
        new: &KeyPair,
    ) -> std::io::Result<Answer> {
        let body = serde_json::to_string(&CertificateRequest { v: VERSION, csr: csr(new) }).unwrap();
        knock(&ward.door(), ward.tls(Some((certificate, &self.key))), REKEY_PATH, None, body).await
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn enrolled(&self, status: u16) -> Enrolled {
        assert_eq!(self.status, status, "{self:?}");
        Enrolled::from_json(&self.body).unwrap()
    }

    pub(crate) fn certificate(&self) -> String {
        certificate(&self.enrolled(200))
    }

    pub(crate) fn is_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 5), "{problem}");
        problem
    }
}

pub(crate) fn certificate(enrolled: &Enrolled) -> String {
    match &enrolled.state {
        EnrolState::Active { certificate, .. } => certificate.clone(),
        EnrolState::Pending => panic!("still pending: {enrolled:?}"),
    }
}

pub(crate) fn csr(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

/// The authorities that a root lets boxes accept servers from.
pub(crate) fn roots(root: &Value) -> Vec<String> {
    serde_json::from_value(root["signed"]["x-muster"]["tls_roots"].clone()).unwrap()
}

pub(crate) fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

pub(crate) fn tls(roots: &[String], certificate: Option<(&str, &KeyPair)>) -> Arc<ClientConfig> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(store);
    Arc::new(match certificate {
        None => builder.with_no_client_auth(),
        Some((pem, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
            builder.with_client_auth_cert(chain(pem), key).unwrap()
        }
    })
}

/// One HTTPS request on a connection of its own.
pub(crate) async fn knock(
    server: &str,
    tls: Arc<ClientConfig>,
    path: &str,
    bearer: Option<&str>,
    body: impl Into<Body>,
) -> std::io::Result<Answer> {
    let mut request = Request::post(path).header(header::HOST, "localhost");
    if let Some(bearer) = bearer {
        request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
    }
    send(server, tls, request.body(body.into()).unwrap()).await
}

pub(crate) async fn send(
    server: &str,
    tls: Arc<ClientConfig>,
    request: Request<Body>,
) -> std::io::Result<Answer> {
    let asking = async {
        let stream = connect(server, tls).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        let speaking = async move {
            let response = sender.send_request(request).await.map_err(std::io::Error::other)?;
            let (parts, body) = response.into_parts();
            let body = axum::body::to_bytes(Body::new(body), 1 << 20).await.map_err(std::io::Error::other)?;
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        tokio::select! {
            answer = speaking => answer,
            Err(error) = connection => Err(std::io::Error::other(error)),
        }
    };
    tokio::time::timeout(PATIENCE * 2, asking).await.expect("the door does not answer")
}

pub(crate) async fn connect(
    server: &str,
    tls: Arc<ClientConfig>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(tls).connect(name, TcpStream::connect(address(server)).await?).await
}

pub(crate) fn address(server: &str) -> String {
    server.replace("https://localhost", "127.0.0.1")
}
