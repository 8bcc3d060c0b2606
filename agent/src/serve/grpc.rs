//! The protocol over gRPC: the same slots, limits and answers as over REST, on any listener.
//!
//! The messages are written out by hand beside the description in `agent/proto`, which applications compile; a client
//! made of that file talks to this server in the tests. What is not here (shared memory, tracing, logging) is
//! `UNIMPLEMENTED` by itself.

mod message;
mod tensors;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use prost::{Enumeration, Message};
use tonic::codec::{Codec, CompressionEncoding};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::body::{self, Held, Intake};
use super::error::Refusal;
use super::routes::REQUEST_TIME;
use super::slots::Slots;
use super::words::{
    ConfigResponse, Index, IndexRequest, ModelMetadata, ModelName, ServerMetadata, Statistics,
};
use super::{infer, metadata};
use message::{Arrived, Counted, CountedMessages, Room, Undecoded};
use tensors::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse, RequestId};

/// Room for the names and shapes around the tensors.
const FRAME_BYTES: usize = 64 * 1024;
const OUT_OF_RANGE: &str = "11";
const RESOURCE_EXHAUSTED: HeaderValue = HeaderValue::from_static("8");
const SERVICE: &str = "inference.GRPCInferenceService";

#[derive(Clone)]
pub(super) struct Grpc {
    pub(super) slots: Slots,
    pub(super) intake: Intake,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Nothing {}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Live {
    #[prost(bool, tag = "1")]
    live: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Ready {
    #[prost(bool, tag = "1")]
    ready: bool,
}

/// `grpc.health.v1`.
#[derive(Clone, PartialEq, Eq, Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Health {
    #[prost(enumeration = "Serving", tag = "1")]
    status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
enum Serving {
    Unknown = 0,
    Yes = 1,
    No = 2,
}

type Answer<T> = Result<T, Status>;

pub(super) fn router(slots: Slots, intake: Intake) -> Router {
    let method = |name: &str| format!("/{SERVICE}/{name}");
    Router::new()
        .route("/grpc.health.v1.Health/Check", unary(health))
        .route(&method("ServerLive"), unary(live))
        .route(&method("ServerReady"), unary(ready))
        .route(&method("ServerMetadata"), unary(server))
        .route(&method("ModelReady"), unary(model_ready))
        .route(&method("ModelMetadata"), unary(model))
        .route(&method("ModelInfer"), post(model_infer))
        .route(&method("ModelStreamInfer"), post(stream_infer))
        .route(&method("ModelConfig"), unary(config))
        .route(&method("ModelStatistics"), unary(statistics))
        .route(&method("RepositoryIndex"), unary(index))
        .route(&method("RepositoryModelLoad"), unary(loading))
        .route(&method("RepositoryModelUnload"), unary(loading))
        .with_state(Grpc { slots, intake })
}

/// What is answered where there is no such method.
pub(super) fn unimplemented() -> Response {
    Status::unimplemented("this server has no such method").into_http::<Body>()
}

async fn health(app: Grpc, request: tonic::Request<HealthRequest>) -> Answer<Health> {
    let service = request.into_inner().service;
    if !service.is_empty() && service != SERVICE {
        return Err(Status::not_found("there is no such service; leave the name out to ask for all"));
    }
    let status = if app.slots.ready() { Serving::Yes } else { Serving::No };
    Ok(Health { status: status.into() })
}

async fn live(_: Grpc, _: tonic::Request<Nothing>) -> Answer<Live> {
    Ok(Live { live: true })
}

async fn ready(app: Grpc, _: tonic::Request<Nothing>) -> Answer<Ready> {
    Ok(Ready { ready: app.slots.ready() })
}

async fn server(_: Grpc, _: tonic::Request<Nothing>) -> Answer<ServerMetadata> {
    Ok(metadata::server())
}

/// A model that is not ready yet is an answer; one that is unknown is not.
async fn model_ready(app: Grpc, request: tonic::Request<ModelName>) -> Answer<Ready> {
    match find(&app, request.get_ref()) {
        Ok(_) => Ok(Ready { ready: true }),
        Err(refusal) if refusal.status == StatusCode::SERVICE_UNAVAILABLE => Ok(Ready { ready: false }),
        Err(refusal) => Err(refusal.into()),
    }
}

async fn model(app: Grpc, request: tonic::Request<ModelName>) -> Answer<ModelMetadata> {
    let request = request.into_inner();
    Ok(metadata::model(&request.name, &*find(&app, &request)?))
}

async fn config(app: Grpc, request: tonic::Request<ModelName>) -> Answer<ConfigResponse> {
    let request = request.into_inner();
    Ok(ConfigResponse { config: Some(metadata::config(&request.name, &*find(&app, &request)?)) })
}

async fn statistics(app: Grpc, request: tonic::Request<ModelName>) -> Answer<Statistics> {
    let request = request.into_inner();
    if request.name.is_empty() {
        return Ok(Statistics { model_stats: metadata::all_statistics(&app.slots) });
    }
    let serving = find(&app, &request)?;
    Ok(Statistics { model_stats: vec![metadata::statistics(&request.name, &serving)] })
}

async fn index(app: Grpc, request: tonic::Request<IndexRequest>) -> Answer<Index> {
    Ok(Index { models: metadata::index(&app.slots, request.get_ref().ready) })
}

async fn loading(_: Grpc, _: tonic::Request<Nothing>) -> Answer<Nothing> {
    Err(Refusal::loading().into())
}

/// The one call that carries tensors. Compressed requests go the common way.
async fn model_infer(State(app): State<Grpc>, request: axum::extract::Request) -> Response {
    let encoding = request.headers().get("grpc-encoding");
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return call(app, request, Undecoded::default(), model_infer_compressed).await;
    }
    let deadline = deadline(request.headers());
    let answered = async {
        let (arrived, held) = Counted::new(request.into_body(), app.intake.clone())?.message().await?;
        answer_one(&app, arrived, held.into(), deadline, message::reply).await
    };
    match tokio::time::timeout(REQUEST_TIME, answered).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(refused)) => refused.into_http(),
        Err(_) => not_in_time(),
    }
}

async fn model_infer_compressed(app: Grpc, request: tonic::Request<Bytes>) -> Answer<ModelInferResponse> {
    let deadline = deadline(request.metadata().as_ref());
    let message = request.into_inner();
    // It came compressed, and may be larger than what was counted.
    let held = app.intake.hold_in_all(None, message.len())?.into();
    answer_one(&app, message.into(), held, deadline, |answer| answer).await
}

/// Requests one after the other on one call; each is answered before the next is read, and one that is refused ends
/// nothing. Only what cannot be read to its end ends the call: too large, too late, or no room for it beside others'.
async fn stream_infer(State(app): State<Grpc>, request: axum::extract::Request) -> Response {
    let intake = app.intake.clone();
    let (parts, body) = request.into_parts();
    let (body, room) = CountedMessages::new(body, intake.clone(), REQUEST_TIME);
    let request = axum::http::Request::from_parts(parts, body);
    let answer = async move |(app, room, mut requests): (Grpc, Room, tonic::Streaming<Bytes>)| {
        let message = match requests.message().await {
            Ok(message) => message?,
            Err(broken) => return Some((Err(broken), (app, room, requests))),
        };
        let asked = message.clone();
        let answered = async {
            let held = app.intake.hold_in_all(room.take(), message.len())?.into();
            answer_one(&app, message.into(), held, None, |answer| answer).await
        };
        let (error_message, answer) = match answered.await {
            Ok(answer) => (String::new(), answer),
            Err(refused) => {
                let RequestId { id } = RequestId::decode(asked).unwrap_or_default();
                (refused.message().to_owned(), ModelInferResponse { id, ..ModelInferResponse::default() })
            }
        };
        let answer = ModelStreamInferResponse { error_message, infer_response: Some(answer) };
        Some((Ok(answer), (app, room, requests)))
    };
    let service = tower::service_fn(move |request: tonic::Request<tonic::Streaming<Bytes>>| {
        let first = (app.clone(), room.clone(), request.into_inner());
        let answers = futures_util::stream::unfold(first, answer);
        std::future::ready(Ok::<_, Status>(tonic::Response::new(answers)))
    });
    framed(&intake, Undecoded::default()).streaming(service, request).await.map(Body::new)
}

/// Answers one message; `finish` makes of the answer what goes out. What is much is read and written aside.
async fn answer_one<T: Send + 'static>(
    app: &Grpc,
    Arrived { message, tensor }: Arrived,
    held: Held,
    deadline: Option<Duration>,
    finish: impl FnOnce(ModelInferResponse) -> T + Send + 'static,
) -> Answer<T> {
    let much = tensors::is_much(&message);
    let request = body::aside_if(much, &held, move || ModelInferRequest::decode(message)).await?;
    let request =
        request.map_err(|error| Status::invalid_argument(format!("not an inference request: {error}")))?;
    let (name, version) = (request.model_name.clone(), request.model_version.clone());
    let version = Some(version.as_str()).filter(|version| !version.is_empty());
    let read = async |serving: Arc<super::serving::Serving>| {
        Ok(body::aside_if(much, &held, move || request.read(tensor, &serving.manifest.signature)).await??)
    };
    let answered = infer::infer(&app.slots, &name, version, deadline, read).await?;
    let much = body::is_much(&answered);
    let write = move || {
        let infer::Answered { id, version, outputs, wanted } = answered;
        finish(ModelInferResponse::write((name, version.to_string()), id, outputs, &wanted))
    };
    Ok(body::aside_if(much, &held, write).await?)
}

fn find(
    app: &Grpc,
    ModelName { name, version }: &ModelName,
) -> Result<Arc<super::serving::Serving>, Refusal> {
    let version = Some(version.as_str()).filter(|version| !version.is_empty());
    infer::find(&app.slots, name, version).map(|found| found.serving)
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.status {
            StatusCode::BAD_REQUEST => Code::InvalidArgument,
            StatusCode::FORBIDDEN => Code::PermissionDenied,
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
            _ => Code::Internal,
        };
        Self::new(code, refusal.sentence)
    }
}

/// One request, one answer. Compressed requests are read; answers are not compressed, because every gRPC client offers
/// it and none on the same box gains by it.
fn unary<Q, A, F>(handle: fn(Grpc, tonic::Request<Q>) -> F) -> MethodRouter<Grpc>
where
    Q: Message + Default + 'static,
    A: Message + 'static,
    F: Future<Output = Answer<A>> + Send + 'static,
{
    post(async move |State(app): State<Grpc>, request| {
        call(app, request, ProstCodec::default(), handle).await
    })
}

async fn call<C, F>(
    app: Grpc,
    request: axum::extract::Request,
    codec: C,
    handle: fn(Grpc, tonic::Request<C::Decode>) -> F,
) -> Response
where
    C: Codec,
    F: Future<Output = Answer<C::Encode>> + Send + 'static,
{
    let mut grpc = framed(&app.intake, codec);
    let (parts, body) = request.into_parts();
    let request = match Counted::new(body, app.intake.clone()) {
        Ok(body) => axum::http::Request::from_parts(parts, body),
        Err(refused) => return Status::from(refused).into_http(),
    };
    let service = tower::service_fn(move |request| {
        let answer = handle(app.clone(), request);
        async move { answer.await.map(tonic::Response::new) }
    });
    match tokio::time::timeout(REQUEST_TIME, grpc.unary(service, request)).await {
        Ok(mut answer) => {
            // What is too large has another status in tonic than everywhere else.
            if answer.headers().get(Status::GRPC_STATUS).is_some_and(|code| code == OUT_OF_RANGE) {
                answer.headers_mut().insert(Status::GRPC_STATUS, RESOURCE_EXHAUSTED);
            }
            answer.map(Body::new)
        }
        Err(_) => not_in_time(),
    }
}

fn not_in_time() -> Response {
    Status::deadline_exceeded("the request did not end in time").into_http()
}

fn framed<C: Codec>(intake: &Intake, codec: C) -> tonic::server::Grpc<C> {
    tonic::server::Grpc::new(codec)
        .max_decoding_message_size(intake.bytes_max() + FRAME_BYTES)
        .max_encoding_message_size(usize::MAX)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Deflate)
}

/// How long the client will wait, as it says with the request: digits and a unit.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    // The protocol allows eight digits.
    let count: u32 = digits.parse().ok().filter(|_| digits.len() <= 8 && !digits.starts_with('+'))?;
    let unit = match unit {
        "H" => Duration::from_hours(1),
        "M" => Duration::from_mins(1),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    unit.checked_mul(count)
}

#[cfg(test)]
mod tests {
    use muster_protocol::time::Timestamp;
    use tower::ServiceExt as _;

    use super::*;
    use crate::serve::SlotLimits;

    #[test]
    fn deadlines_are_digits_and_a_unit() {
        let check = |text: &'static str, expect: Option<Duration>| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_static(text));
            assert_eq!(deadline(&headers), expect, "{text}");
        };
        check("250m", Some(Duration::from_millis(250)));
        check("1S", Some(Duration::from_secs(1)));
        check("99999999H", Duration::from_hours(1).checked_mul(99_999_999));
        check("5u", Some(Duration::from_micros(5)));
        for wrong in ["", "S", "5", "-5S", "+5S", "123456789S", "5s", "5 S"] {
            check(wrong, None);
        }
        assert_eq!(deadline(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn requests_that_do_not_fit_together_are_turned_away() {
        let slots = Slots::new(std::sync::Arc::new(|| Timestamp::from_millis(0)), SlotLimits::default());
        let intake = Intake::new(4096, 4096);
        let status = async || {
            let unknown_field = [&[0, 0, 0, 8, 3, 0x7a, 0x80, 0x10][..], &[7; 2048]].concat();
            let request = axum::extract::Request::post("/inference.GRPCInferenceService/ServerReady");
            let request = request.header("content-type", "application/grpc").body(Body::from(unknown_field));
            let answer = router(slots.clone(), intake.clone()).oneshot(request.unwrap()).await.unwrap();
            answer.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned())
        };
        let held = intake.hold(4096).unwrap();
        assert_eq!(status().await.as_deref(), Some("8"));
        drop(held);
        // Its status comes behind the answer.
        assert_eq!(status().await, None);
    }
}
