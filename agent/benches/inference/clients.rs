//! Applications that ask: in the process, over HTTP/1 on a TCP or Unix socket, over gRPC. Each is one connection that
//! waits for its answer, and as lean as a client can be, because its own part is in all that is measured.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use bytes::Bytes;
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
            Way::Grpc => Box::new(Grpc::new(tcp(house.server.addr), &self.grpc)),
        }
    }

    /// In JSON, of whoever listens there.
    pub(crate) fn ask_json(&self, server: SocketAddr) -> Box<dyn Client> {
        Box::new(Http::new(tcp(server), self.json.clone()))
    }

    /// The same, over so many connections that one thread cares for.
    pub(crate) fn ask_json_together(&self, server: SocketAddr, count: usize) -> Box<dyn Client> {
        Box::new(Crowd((0..count).map(|_| Http::new(tcp(server), self.json.clone())).collect()))
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

impl<S: Read + Write> Http<S> {
    fn send(&mut self) {
        self.stream.write_all(&self.request).unwrap();
    }

    fn receive(&mut self) {
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

impl<S: Read + Write + Send> Client for Http<S> {
    fn ask(&mut self) {
        self.send();
        self.receive();
    }
}

/// Many that are asked for at once: a thread for each would spend more of the machine than the servers are given.
struct Crowd<S>(Vec<Http<S>>);

impl<S: Read + Write + Send> Client for Crowd<S> {
    fn ask(&mut self) {
        self.0.iter_mut().for_each(Http::send);
        self.0.iter_mut().for_each(Http::receive);
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

/// HTTP/2 by hand: a library's client has buffers, queues and tasks of its own. One stream at a time.
struct Grpc<S> {
    /// Heads of frames are read together, what is much at once.
    stream: BufReader<S>,
    /// Frames as they are sent: leave to answer, the head, the message in pieces.
    request: Vec<u8>,
    /// Where in it the number of the stream stands, in each frame.
    numbers: Vec<usize>,
    number: u32,
    answer: Vec<u8>,
}

/// RFC 9113, section 6.
mod frame {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const ACK: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const HEAD_BYTES: usize = 9;

    pub(super) fn write(kind: u8, flags: u8, payload: &[u8], out: &mut Vec<u8>) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        out.extend_from_slice(&length[1..]);
        out.extend_from_slice(&[kind, flags, 0, 0, 0, 0]);
        out.extend_from_slice(payload);
    }
}

impl<S: Read + Write> Grpc<S> {
    /// What this client takes in one frame, what the server does, and what may be on its way to the client at once.
    const FRAME: usize = 1 << 20;
    const SERVER_FRAME: usize = 192 << 10;
    const WINDOW: u32 = 1 << 30;

    fn new(mut stream: S, message: &[u8]) -> Self {
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let initial_window = [&[0, 4][..], &Self::WINDOW.to_be_bytes()].concat();
        let frame_max = [&[0, 5][..], &u32::try_from(Self::FRAME).unwrap().to_be_bytes()].concat();
        frame::write(frame::SETTINGS, 0, &[initial_window, frame_max].concat(), &mut hello);
        frame::write(frame::SETTINGS, frame::ACK, &[], &mut hello);
        frame::write(frame::WINDOW_UPDATE, 0, &Self::WINDOW.to_be_bytes(), &mut hello);
        stream.write_all(&hello).unwrap();

        let mut request = Vec::new();
        frame::write(frame::WINDOW_UPDATE, 0, &1_u32.to_be_bytes(), &mut request);
        let mut numbers = vec![request.len()];
        frame::write(frame::HEADERS, frame::END_HEADERS, &Self::head(), &mut request);
        let mut pieces = message.chunks(Self::SERVER_FRAME).peekable();
        while let Some(piece) = pieces.next() {
            numbers.push(request.len());
            let flags = if pieces.peek().is_none() { frame::END_STREAM } else { 0 };
            frame::write(frame::DATA, flags, piece, &mut request);
        }
        let answer = vec![0; Self::FRAME];
        Self { stream: BufReader::new(stream), request, numbers, number: 1, answer }
    }

    /// RFC 7541: what has a number in its table by that number, nothing to be remembered, nothing compressed.
    fn head() -> Vec<u8> {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
        let post_over_http = vec![0x83, 0x86];
        let path = [vec![0x04], text("/inference.GRPCInferenceService/ModelInfer")].concat();
        let authority = [vec![0x01], text("box")].concat();
        let content_type = [vec![0x0f, 0x10], text("application/grpc")].concat();
        let te = [vec![0x00], text("te"), text("trailers")].concat();
        [post_over_http, path, authority, content_type, te].concat()
    }

    fn read_frame(&mut self) -> (u8, u8, usize) {
        let mut head = [0; frame::HEAD_BYTES];
        self.stream.read_exact(&mut head).unwrap();
        let [high, middle, low, kind, flags, ..] = head;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.stream.read_exact(&mut self.answer[..length]).unwrap();
        (kind, flags, length)
    }
}

impl<S: Read + Write + Send> Client for Grpc<S> {
    fn ask(&mut self) {
        for &at in &self.numbers {
            self.request[at + 5..at + frame::HEAD_BYTES].copy_from_slice(&self.number.to_be_bytes());
        }
        self.stream.get_mut().write_all(&self.request).unwrap();
        let mut bytes = 0;
        loop {
            match self.read_frame() {
                (frame::DATA, _, length) => bytes += length,
                (frame::HEADERS, flags, _) if flags & frame::END_STREAM != 0 => break,
                (kind, ..) => assert!(!matches!(kind, frame::RST_STREAM | frame::GOAWAY), "it was ended"),
            }
        }
        // What is refused has a status and no message.
        assert!(bytes > 9, "refused");
        self.number += 2;
        let leave = u32::try_from(bytes).unwrap().to_be_bytes();
        self.request[frame::HEAD_BYTES..][..leave.len()].copy_from_slice(&leave);
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
