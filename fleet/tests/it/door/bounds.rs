//! What strangers may try: wrong tokens, wrong keys, too much, too slow, too often.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use muster_fleet::enrolment::{Approval, Enrolment};
use muster_fleet::store::enrolments;
use muster_protocol::enrol::{ENROL_PATH, EnrolmentToken, RENEW_PATH};
use muster_protocol::ids::EnrolmentId;
use rcgen::KeyPair;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::ward::{Newcomer, Ward, address, connect, csr, knock, send};

#[tokio::test]
async fn tokens_that_are_not_good_say_why() {
    let ward = Ward::open().await;
    let newcomer = Newcomer::new("er-2-1");
    let ask = async |bearer: Option<&str>| {
        let body = newcomer.asks(newcomer.csr()).to_string();
        knock(&ward.door(), ward.tls(None), ENROL_PATH, bearer, body).await.unwrap()
    };
    ask(None).await.is_problem(401, "token_missing");
    let unknown = EnrolmentToken::mint([7; 32]);
    let refused = ask(Some(unknown.secret())).await;
    refused.is_problem(401, "token_unknown");
    assert_eq!(refused.headers[header::WWW_AUTHENTICATE], "Bearer");
    for malformed in ["x", "fle_short", "flp_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        ask(Some(malformed)).await.is_problem(401, "token_unknown");
    }

    let file = ward.file(json!({})).await;
    let made = ward.see("/api/v1/enrolments").await["items"][0]["id"].as_str().unwrap().to_owned();
    let cancelled =
        ward.post(&format!("/api/v1/enrolments/{made}/cancel"), json!({"reason": "mailed"})).await;
    assert_eq!(cancelled.json()["state"], "cancelled");
    newcomer.enrol(&file).await.is_problem(403, "token_cancelled");

    let (now, token) = (ward.server.fleet.clocks.trust.now(), EnrolmentToken::mint([8; 32]));
    let expired = Enrolment {
        id: EnrolmentId::mint([8; 16]),
        site: "er-2".parse().unwrap(),
        count: 1,
        uses_left: 1,
        approval: Approval::Auto,
        made: now.minus(Duration::from_secs(100)),
        made_by: "ada".to_owned(),
        expires: now.minus(Duration::from_secs(1)),
        cancelled: None,
    };
    let mut tx = ward.server.fleet.store.write().await.unwrap();
    enrolments::add(&mut tx, &expired, &token.digest()).await.unwrap();
    tx.commit().await.unwrap();
    let problem = ask(Some(token.secret())).await.is_problem(403, "token_expired");
    assert!(problem["next"].as_str().unwrap().contains("muster enrol new"), "{problem}");
    assert_eq!(ward.see("/api/v1/identities").await["items"], json!([]));
    ward.close().await;
}

#[tokio::test]
async fn only_sound_requests_for_p256_keys_are_taken() {
    let ward = Ward::open().await;
    let file = ward.file(json!({})).await;
    let newcomer = Newcomer::new("er-2-1");
    let ask = async |csr: String| {
        let body = newcomer.asks(csr).to_string();
        knock(&file.server, ward.tls(None), ENROL_PATH, Some(file.token.secret()), body).await.unwrap()
    };
    for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_RSA_SHA256] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        ask(csr(&key)).await.is_problem(422, "bad_csr");
    }
    // One bit of the signature, and one of the key, are other ones.
    let sound = newcomer.csr();
    let der = rustls::pki_types::CertificateSigningRequestDer::from(decode(&sound));
    for at in [der.len() - 1, 60] {
        let mut altered = der.to_vec();
        altered[at] ^= 1;
        ask(encode(&altered)).await.is_problem(422, "bad_csr");
    }
    for garbage in ["", "x", "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"] {
        ask(garbage.to_owned()).await.is_problem(422, "bad_csr");
    }
    ask("x".repeat(9000)).await.is_problem(400, "bad_request");
    assert_eq!(
        ask(sound).await.enrolled(202).fingerprint.to_string().len(),
        39,
        "the use was not lost on them"
    );
    ward.close().await;
}

#[tokio::test]
async fn bodies_and_addresses_are_bounded() {
    let ward = Ward::open().await;
    let ask = async |path: &str, body: Vec<u8>| {
        knock(&ward.door(), ward.tls(None), path, None, body).await.unwrap()
    };
    ask(RENEW_PATH, vec![b' '; 100_000]).await.is_problem(413, "too_large");
    ask(RENEW_PATH, b"{".to_vec()).await.is_problem(400, "bad_request");
    ask(RENEW_PATH, b"{\"v\":2,\"csr\":\"\"}".to_vec()).await.is_problem(400, "bad_request");
    // No operator's API is behind this door.
    for path in ["/api/v1/devices", "/api/v1/identities", "/", "/metrics", "/v1/enrol/x"] {
        ask(path, Vec::new()).await.is_problem(404, "no_route");
    }
    let get = Request::get(ENROL_PATH).header(header::HOST, "localhost").body(Body::empty()).unwrap();
    send(&ward.door(), ward.tls(None), get).await.unwrap().is_problem(405, "method_not_allowed");
    let endless = Request::post(RENEW_PATH).header("x-long", "x".repeat(20_000)).body(Body::empty()).unwrap();
    match send(&ward.door(), ward.tls(None), endless).await {
        Ok(answer) => assert_eq!(answer.status, 431),
        Err(_cut_off) => {}
    }
    // A person's requests have bounds, too.
    for (body, code) in [
        (json!({"site": "ER 2"}), "invalid"),
        (json!({"site": "er-2", "count": 0}), "invalid"),
        (json!({"site": "er-2", "count": 1001}), "invalid"),
        (json!({"site": "er-2", "ttl_s": 59}), "invalid"),
        (json!({"site": "er-2", "ttl_s": 3_000_000}), "invalid"),
        (json!({"site": "er-2", "approve": "maybe"}), "invalid"),
    ] {
        ward.post("/api/v1/enrolments", body).await.is_problem(422, code);
    }
    ward.close().await;
}

#[tokio::test]
async fn whoever_is_slow_is_cut_off_and_holds_nobody_up() {
    let ward = Ward::open().await;
    let door = address(&ward.door());
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(&door).await.unwrap());
    }
    let mut headless = connect(&ward.door(), ward.tls(None)).await.unwrap();
    headless.write_all(b"POST /v1/renew HTTP/1.1\r\nhost: local").await.unwrap();
    let mut bodiless = connect(&ward.door(), ward.tls(None)).await.unwrap();
    bodiless.write_all(b"POST /v1/renew HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").await.unwrap();

    let began = tokio::time::Instant::now();
    ward.member(&Newcomer::new("er-2-1")).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(40), async {
        for stream in &mut silent {
            assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0);
        }
        headless.read_to_end(&mut Vec::new()).await.ok();
        bodiless.read_to_end(&mut answer).await.ok();
    });
    read.await.expect("they were not cut off");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("timed_out"), "{answer}");
    ward.close().await;
}

#[tokio::test]
async fn renewals_have_a_pace() {
    let ward = Ward::open().await;
    let (greedy, other) = (Newcomer::new("er-2-1"), Newcomer::new("er-2-2"));
    ward.member(&greedy).await;
    ward.member(&other).await;
    for _ in 0..12 {
        greedy.renew(&ward).await.enrolled(200);
    }
    let refused = greedy.renew(&ward).await;
    refused.is_problem(429, "too_many_requests");
    let wait: u64 = refused.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((200..=300).contains(&wait), "{wait}");
    other.renew(&ward).await.enrolled(200);
    // Strangers are refused for what they are, and use up nothing.
    for _ in 0..30 {
        Newcomer::new("nobody").renew(&ward).await.is_problem(403, "key_unknown");
    }
    other.renew(&ward).await.enrolled(200);
    ward.close().await;
}

fn decode(pem: &str) -> Vec<u8> {
    use base64::Engine as _;
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    base64::prelude::BASE64_STANDARD.decode(body).unwrap()
}

fn encode(der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::prelude::BASE64_STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
}
