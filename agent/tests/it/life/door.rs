//! The fleet's door for devices, as a box sees it: real HTTPS, one token, keys that it knows, and moods.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use muster_protocol::enrol::{
    CertificateRequest, ENROL_PATH, EnrolRequest, EnrolState, Enrolled, EnrolmentFile, EnrolmentToken,
    Fingerprint, REKEY_PATH, RENEW_PATH,
};
use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;
use rcgen::{CertificateSigningRequestParams, PublicKeyData as _};
use rustls::ServerConfig;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::HOUR;
use super::fleet::root;
use super::pki::{Clients, now_and_for, pki};

pub(super) struct Door {
    pub(super) address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    _tasks: JoinSet<()>,
}

pub(super) struct Inner {
    pub(super) mood: Mood,
    pub(super) mqtt: String,
    pub(super) life: (Timestamp, Timestamp),
    /// Who may come with which key.
    pub(super) keys: BTreeMap<Fingerprint, DeviceId>,
    /// What was asked: the path, the key it was for, and the serial number of the certificate that was shown.
    pub(super) asked: Vec<(String, Fingerprint, Option<String>)>,
    pub(super) requests: Vec<EnrolRequest>,
    tls: Arc<ServerConfig>,
    token: EnrolmentToken,
    used: bool,
}

/// What it says to those who may come.
pub(super) enum Mood {
    Pending,
    Accepts,
    Refuses(u16, &'static str, &'static str),
}

impl Door {
    pub(super) async fn open(mqtt: &str) -> Self {
        Self::open_with(mqtt, pki().server(Clients::MayShow)).await
    }

    pub(super) async fn open_with(mqtt: &str, tls: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Mutex::new(Inner {
            mood: Mood::Accepts,
            mqtt: mqtt.to_owned(),
            life: now_and_for(90 * 24 * HOUR),
            keys: BTreeMap::new(),
            asked: Vec::new(),
            requests: Vec::new(),
            tls,
            token: EnrolmentToken::mint([5; 32]),
            used: false,
        }));
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&inner);
        tasks.spawn(async move {
            let mut visits = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                visits.spawn(visit(tcp, Arc::clone(&shared)));
            }
        });
        Self { address, inner, _tasks: tasks }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The file that `muster enrol new` would write.
    pub(super) fn file(&self, dir: &Path) -> PathBuf {
        let file = EnrolmentFile {
            v: 1,
            server: self.url(),
            root: serde_json::from_slice(&root()).unwrap(),
            token: self.inner().token.clone(),
            site: "er-1".parse().unwrap(),
        };
        let path = dir.join("er-1.enrol");
        muster_agent::disk::write_json(&path, &file).unwrap();
        path
    }

    pub(super) fn asked(&self, path: &str) -> usize {
        self.inner().asked.iter().filter(|(asked, ..)| asked == path).count()
    }
}

async fn visit(tcp: TcpStream, inner: Arc<Mutex<Inner>>) {
    let tls = Arc::clone(&inner.lock().unwrap().tls);
    let Ok(stream) = TlsAcceptor::from(tls).accept(tcp).await else { return };
    let shown = stream.get_ref().1.peer_certificates().map(|chain| {
        let (_, certificate) = X509Certificate::from_der(&chain[0]).unwrap();
        let name = certificate.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned();
        (name, certificate.raw_serial_as_string())
    });
    let service = service_fn(move |request: Request<Incoming>| {
        let (inner, shown) = (Arc::clone(&inner), shown.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let bearer = parts.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
            let (status, json) =
                inner.lock().unwrap().answer(parts.uri.path(), bearer.as_deref(), &body, shown);
            let response = Response::builder().status(StatusCode::from_u16(status).unwrap());
            Ok::<_, std::convert::Infallible>(response.body(Full::new(Bytes::from(json))).unwrap())
        }
    });
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

impl Inner {
    fn answer(
        &mut self,
        path: &str,
        bearer: Option<&str>,
        body: &[u8],
        shown: Option<(String, String)>,
    ) -> (u16, Vec<u8>) {
        let csr = match path {
            ENROL_PATH => {
                let request = EnrolRequest::from_json(body).unwrap();
                self.requests.push(request.clone());
                request.csr
            }
            RENEW_PATH | REKEY_PATH => CertificateRequest::from_json(body).unwrap().csr,
            other => panic!("a box knocked at {other}"),
        };
        let request = CertificateSigningRequestParams::from_pem(&csr).unwrap();
        let key = Fingerprint::of(&request.public_key.subject_public_key_info());
        let (name, serial) = shown.unzip();
        self.asked.push((path.to_owned(), key, serial));
        if let Mood::Refuses(status, code, detail) = self.mood {
            return problem(status, code, detail);
        }
        let known = self.keys.get(&key).cloned();
        let device = match (path, known) {
            (ENROL_PATH, _) if bearer != Some(&format!("Bearer {}", self.token.secret())) => {
                return problem(401, "token_unknown", "no such token");
            }
            (ENROL_PATH | RENEW_PATH, Some(device)) => device,
            (ENROL_PATH, None) if self.used => return problem(403, "token_used_up", "the token is used up"),
            (ENROL_PATH, None) => {
                self.used = true;
                let number = u8::try_from(self.keys.len()).unwrap();
                let device = DeviceId::mint([100 + number; 16]);
                self.keys.insert(key, device.clone());
                device
            }
            (REKEY_PATH, _) => match name.and_then(|name| name.parse::<DeviceId>().ok()) {
                Some(device) if self.keys.values().any(|known| *known == device) => {
                    self.keys.retain(|_, known| *known != device);
                    self.keys.insert(key, device.clone());
                    device
                }
                Some(_) | None => return problem(403, "key_unknown", "show the old certificate"),
            },
            _ => return problem(403, "key_unknown", "no active device has this key"),
        };
        let state = match self.mood {
            Mood::Pending | Mood::Refuses(..) => EnrolState::Pending,
            Mood::Accepts => EnrolState::Active {
                certificate: pki().certify(&csr, &device, self.life),
                mqtt: self.mqtt.clone(),
            },
        };
        let status = if state == EnrolState::Pending { 202 } else { 200 };
        let answer = Enrolled { v: 1, device, fingerprint: key, state };
        (status, serde_json::to_vec(&answer).unwrap())
    }
}

fn problem(status: u16, code: &str, detail: &str) -> (u16, Vec<u8>) {
    let body = json!({ "type": "about:blank", "title": "Refused", "status": status, "code": code, "detail": detail });
    (status, body.to_string().into_bytes())
}
