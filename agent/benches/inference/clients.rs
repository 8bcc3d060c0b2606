//! Applications that ask: in the process, over HTTP/1 on a TCP or Unix socket, over gRPC. Each is one connection that
//! waits for its answer, and as lean as a client can be, because its own part is in all that is measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use muster_agent::engine::Model;
use muster_agent::oip::{NamedTensor, Tensor, Values};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use super::house::{House, NAME, rest};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    InProcess,
    Rest,
    Socket,
    Grpc,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::InProcess, Self::Rest, Self::Socket, Self::Grpc];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::InProcess => "in the process",
            Self::Rest => "REST, binary",
            Self::Socket => "REST, binary, Unix socket",
            Self::Grpc => "gRPC, raw",
        }
    }
}

/// A question that needs no thought: one tensor `x` of f32.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    inputs: Arc<[NamedTensor]>,
    rest: Bytes,
    json: Bytes,
    grpc: Bytes,
}

impl Question {
    pub(crate) fn new(shape: &[usize]) -> Self {
        let count = shape.iter().product::<usize>();
        // Numbers as long as measured ones are.
        let values: Vec<f32> = (0..count).map(|at| (at as f32 * 0.618_034).fract()).collect();
        let tensor = Tensor { shape: shape.to_vec(), values: Values::Fp32(values.clone()) };
        let (json_bytes, body) = rest(shape);
        let binary = format!("Inference-Header-Content-Length: {json_bytes}\r\n");
        let x = json!({ "name": "x", "datatype": "FP32", "shape": shape, "data": values });
        let typed = json!({ "inputs": [x] }).to_string();
        Self {
            inputs: Arc::new([NamedTensor { name: "x".to_owned(), tensor }]),
            rest: post(&binary, &body),
            json: post("Content-Type: application/json\r\n", typed.as_bytes()),
            grpc: grpc(shape, &body[json_bytes..]),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.inputs[0].tensor.values.size_bytes()
    }

    pub(crate) fn json_bytes(&self) -> usize {
        self.json.len()
    }

    pub(crate) fn ask(&self, way: Way, house: &House, model: &Model) -> Box<dyn Client> {
        match way {
            Way::InProcess => {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                Box::new(InProcess { runtime, model: model.clone(), inputs: Arc::clone(&self.inputs) })
            }
            Way::Rest => Box::new(Http::new(tcp(house.server.addr), self.rest.clone())),
            Way::Socket => {
                Box::new(Http::new(UnixStream::connect(&house.socket).unwrap(), self.rest.clone()))
            }
            Way::Grpc => Box::new(Grpc::new(house.server.addr, self.grpc.clone())),
        }
    }

    /// In JSON, of whoever listens there.
    pub(crate) fn ask_json(&self, server: SocketAddr) -> Box<dyn Client> {
        Box::new(Http::new(tcp(server), self.json.clone()))
    }

    /// The same request, to a server that knows how long it is, looks at nothing, and answers with `answer_bytes`: what
    /// the loopback and this client cost.
    pub(crate) fn ask_nobody(&self, answer_bytes: usize) -> Box<dyn Client> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = tcp(listener.local_addr().unwrap());
        let mut request = vec![0; self.rest.len()];
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {answer_bytes}\r\n\r\n");
        let answer = [head.as_bytes(), &vec![0; answer_bytes]].concat();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            while stream.read_exact(&mut request).is_ok() && stream.write_all(&answer).is_ok() {}
        });
        Box::new(Http::new(stream, self.rest.clone()))
    }
}

pub(crate) trait Client: Send {
    /// Asks once; returns when the whole answer is there.
    fn ask(&mut self);
}

struct InProcess {
    runtime: Runtime,
    model: Model,
    inputs: Arc<[NamedTensor]>,
}

impl Client for InProcess {
    fn ask(&mut self) {
        let answer = self.runtime.block_on(self.model.infer(Arc::clone(&self.inputs), None));
        assert_eq!(answer.unwrap().outputs.len(), 1);
    }
}

struct Http<S> {
    stream: S,
    request: Bytes,
    answer: Vec<u8>,
}

impl<S> Http<S> {
    fn new(stream: S, request: Bytes) -> Self {
        Self { stream, request, answer: vec![0; 64 * 1024] }
    }
}

impl<S: Read + Write + Send> Client for Http<S> {
    fn ask(&mut self) {
        self.stream.write_all(&self.request).unwrap();
        let mut read = 0;
        let whole = loop {
            read += self.stream.read(&mut self.answer[read..]).unwrap();
            if let Some(whole) = whole_length(&self.answer[..read]) {
                break whole;
            }
        };
        if self.answer.len() < whole {
            self.answer.resize(whole, 0);
        }
        self.stream.read_exact(&mut self.answer[read..whole]).unwrap();
    }
}

/// How long an answer is whose head is there.
fn whole_length(answer: &[u8]) -> Option<usize> {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = str::from_utf8(&answer[..head]).unwrap().to_ascii_lowercase();
    assert!(text.starts_with("http/1.1 200"), "{text}");
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap();
    Some(head + 4 + length.trim().parse::<usize>().unwrap())
}

struct Grpc {
    runtime: Runtime,
    send: SendRequest<Full<Bytes>>,
    uri: String,
    message: Bytes,
}

impl Grpc {
    /// What may be on its way to the client, as large as an image; libraries for gRPC grow it by themselves.
    const WINDOW: u32 = 4 * 1024 * 1024;
    const FRAME: u32 = 1024 * 1024;

    fn new(server: SocketAddr, message: Bytes) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let send = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(server).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(Self::WINDOW).initial_connection_window_size(Self::WINDOW);
            builder.max_frame_size(Self::FRAME);
            let (send, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
            drop(tokio::task::spawn(connection));
            send
        });
        Self {
            runtime,
            send,
            uri: format!("http://{server}/inference.GRPCInferenceService/ModelInfer"),
            message,
        }
    }
}

impl Client for Grpc {
    fn ask(&mut self) {
        self.runtime.block_on(async {
            let request = hyper::Request::post(&self.uri)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Full::new(self.message.clone()))
                .unwrap();
            let mut answer = self.send.send_request(request).await.unwrap();
            let mut bytes = 0;
            while let Some(frame) = answer.frame().await {
                let frame = frame.unwrap();
                bytes += frame.data_ref().map_or(0, Bytes::len);
                if let Some(trailers) = frame.trailers_ref() {
                    assert_eq!(trailers["grpc-status"], "0");
                }
            }
            assert!(bytes > 9, "refused: {:?}", answer.headers());
        });
    }
}

fn tcp(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn post(headers: &str, body: &[u8]) -> Bytes {
    let length = body.len();
    let head = format!(
        "POST /v2/models/{NAME}/infer HTTP/1.1\r\nHost: box\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat().into()
}

/// A `ModelInferRequest` in its frame, field by field.
fn grpc(shape: &[usize], tensor: &[u8]) -> Bytes {
    fn varint(mut value: usize, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        out.push(u8::try_from(value).unwrap());
    }
    fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
        out.push(number << 3 | 2);
        varint(bytes.len(), out);
        out.extend_from_slice(bytes);
    }
    let (mut lengths, mut input, mut message) = (Vec::new(), Vec::new(), Vec::new());
    for &length in shape {
        varint(length, &mut lengths);
    }
    field(1, b"x", &mut input);
    field(2, b"FP32", &mut input);
    field(3, &lengths, &mut input);
    field(1, NAME.as_bytes(), &mut message);
    field(5, &input, &mut message);
    field(7, tensor, &mut message);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0_u8][..], &length, &message].concat().into()
}
