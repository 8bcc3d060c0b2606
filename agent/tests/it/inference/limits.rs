//! What is too much, too late or only half said: turned away with a sentence, and nobody else notices.

use std::time::Duration;

use muster_agent::engine::{Engine, LoadSpec};
use muster_agent::serve::{self, Desk, ServeConfig, ServeError, Served};
use muster_protocol::manifest::InferencePrecision;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::{Box, bundle, fixture, logistic, manifest, runtime_dir};

/// One session, and so many may wait.
fn slow(waiting_max: usize) -> Served {
    let engine = Engine::open(&runtime_dir()).unwrap();
    let spec = LoadSpec::new(fixture("slow.onnx"), InferencePrecision::F32);
    let model = engine.load(&LoadSpec { sessions: 1, waiting_max, ..spec }).unwrap();
    let mut manifest = manifest("1", 1, "y", "regression");
    manifest.signature = model.signature().clone();
    Served::new(model, manifest, bundle("1"), None).unwrap()
}

async fn statistics(agent: &Box) -> Value {
    agent.get("/v2/models/m/stats").await.1["model_stats"][0].clone()
}

async fn until(agent: &Box, name: &str, value: &str) {
    let line = format!("{name}{{model=\"m\",version=\"1\"}} {value}");
    for _ in 0..600 {
        let text =
            agent.http.get(format!("{}/metrics", agent.url)).send().await.unwrap().text().await.unwrap();
        if text.lines().any(|found| found == line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("'{line}' never came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_says_so_at_once() {
    let agent = Box::start().await;
    agent.slots.activate(&Box::slot(), slow(1));
    let running = agent.infer("", 1, &[1.0]);
    let waiting = async {
        until(&agent, "muster_infer_running", "1").await;
        agent.infer("", 1, &[1.0]).await
    };
    let refused = async {
        // The first of them waits too, until a thread takes it.
        until(&agent, "muster_infer_running", "1").await;
        until(&agent, "muster_infer_waiting", "1").await;
        agent.infer("", 1, &[1.0]).await
    };
    let (running, waiting, refused) = tokio::join!(running, waiting, refused);
    assert_eq!((running.0, waiting.0, refused.0), (200, 200, 429), "{refused:?}");
    assert!(refused.1["error"].as_str().unwrap().contains("busy"), "{refused:?}");
    let stats = statistics(&agent).await;
    assert_eq!((&stats["execution_count"], &stats["inference_count"]), (&json!(2), &json!(2)));
    assert!(stats["inference_stats"]["queue"]["ns"].as_u64().unwrap() > 1_000_000, "{stats}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_time_is_over_while_it_waits_is_never_run() {
    let agent = Box::start().await;
    agent.slots.activate(&Box::slot(), slow(8));
    let running = agent.infer("", 1, &[1.0]);
    let late = async {
        until(&agent, "muster_infer_running", "1").await;
        let input = json!({ "name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.0] });
        let body = json!({ "inputs": [input], "parameters": { "timeout": 1000 } });
        agent.post("/v2/models/m/infer", body.to_string()).await
    };
    let gone = async {
        until(&agent, "muster_infer_running", "1").await;
        let request =
            agent.http.post(format!("{}/v2/models/m/infer", agent.url)).timeout(Duration::from_millis(20));
        request.body(super::ask("", 1, &[1.0])).send().await.unwrap_err()
    };
    let (running, late, gone) = tokio::join!(running, late, gone);
    assert_eq!((running.0, late.0), (200, 504), "{late:?}");
    assert!(gone.is_timeout());
    until(&agent, "muster_infer_in_flight", "0").await;
    assert_eq!(agent.infer("", 1, &[1.0]).await.0, 200);
    assert_eq!(statistics(&agent).await["execution_count"], 2);
    agent.stop().await;
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer));
    // A server may cut off who still speaks; what it said before is what counts.
    drop(read.await.expect("the connection stays open"));
    String::from_utf8(answer).unwrap()
}

const HEAD: &str = "POST /v2/models/m/infer HTTP/1.1\r\nHost: box\r\nConnection: close\r\n";

#[tokio::test]
async fn broken_requests_end_and_others_go_on() {
    let agent = Box::start().await;
    agent.slots.activate(&Box::slot(), logistic("1", "logistic.onnx"));
    let connect = async || TcpStream::connect(agent.server.addr).await.unwrap();
    let body = super::ask("", 4, &[0.0; 4]);

    // Two gigabytes are announced: nobody waits for them, or makes room.
    let answer = say(&mut connect().await, &format!("{HEAD}Content-Length: 2147483648\r\n\r\nx")).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("{\"error\":"), "{answer}");
    let answer =
        say(&mut connect().await, &format!("{HEAD}Content-Length: 99999999999999999999\r\n\r\nx")).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // In pieces without a length, and more than fit.
    let piece = format!("8000\r\n{}\r\n", " ".repeat(0x8000));
    let pieces = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{piece}{piece}{piece}0\r\n\r\n");
    assert!(say(&mut connect().await, &pieces).await.starts_with("HTTP/1.1 413 "));

    // One begins and never ends, one stops in the middle of a body, one hangs up after half a body.
    let mut begins = connect().await;
    begins.write_all(b"POST /v2/mod").await.unwrap();
    let mut stops = connect().await;
    stops.write_all(format!("{HEAD}Content-Length: {}\r\n\r\n{{", body.len()).as_bytes()).await.unwrap();
    let mut half = connect().await;
    half.write_all(format!("{HEAD}Content-Length: {}\r\n\r\n{{", body.len()).as_bytes()).await.unwrap();
    half.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), half.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "a connection that hung up is kept");
    assert_eq!(agent.infer("", 4, &[0.0; 4]).await.0, 200);
    let whole = format!("{HEAD}Content-Length: {}\r\n\r\n{body}", body.len());
    assert!(say(&mut connect().await, &whole).await.starts_with("HTTP/1.1 200 "));
    drop((begins, stops));
    agent.stop().await;
}

/// Clients keep connections that they do not use, and some never say a word on theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_make_room() {
    const CONNECTIONS: usize = 300;
    let agent = Box::start().await;
    agent.slots.activate(&Box::slot(), slow(8));
    let mut idle = Vec::new();
    let mut answered = [0; 4096];
    for at in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(agent.server.addr).await.unwrap();
        match at % 3 {
            0 => {}
            1 => stream.write_all(b"POST /v2/mod").await.unwrap(),
            _ if at < 100 => {
                stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nHost: box\r\n\r\n").await.unwrap();
                assert!(stream.read(&mut answered).await.unwrap() > 0);
            }
            // Who comes when there is no seat waits for its answer.
            _ => stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nHost: box\r\n\r\n").await.unwrap(),
        }
        idle.push(stream);
    }
    let answer = tokio::time::timeout(Duration::from_secs(20), agent.infer("", 1, &[1.0]))
        .await
        .expect("others hold every seat");
    assert_eq!(answer.0, 200, "{answer:?}");
    drop(idle);
    agent.stop().await;
}

#[tokio::test]
async fn a_socket_file_serves_too() {
    let agent = Box::start().await;
    agent.slots.activate(&Box::slot(), logistic("1", "logistic.onnx"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("oip.sock");
    let start = async |path: &std::path::Path| {
        let (_, state) = tokio::sync::watch::channel(Value::Null);
        let listen = ([127, 0, 0, 1], 0).into();
        let config = ServeConfig { listen, unix: Some(path.to_owned()), ..ServeConfig::default() };
        let stop = agent.stop.child_token();
        let started =
            serve::start(config, agent.slots.clone(), state, Desk::new("key").0, stop.clone()).await;
        (started, stop)
    };
    // What a killed process left behind is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (server, stop) = start(&path).await;
    let server = server.unwrap();
    let body = super::ask("", 4, &[0.0; 4]);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let answer = say(&mut stream, &format!("{HEAD}Content-Length: {}\r\n\r\n{body}", body.len())).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // What another still answers on is not, nor what is no socket.
    assert!(matches!(start(&path).await.0, Err(ServeError::Socket { .. })));
    stop.cancel();
    server.stopped().await;
    assert!(!path.exists());
    std::fs::write(&path, "a file").unwrap();
    assert!(matches!(start(&path).await.0, Err(ServeError::Socket { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"a file");
    agent.stop().await;
}
