//! Bodies in and out: how much may come in, and in how many pieces it goes out.
//!
//! What all applications send together has a bound of its own: a body that does not fit is turned away, not waited for,
//! because whoever waits holds what it has read.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{FromRef, FromRequest};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Refusal;
use super::infer::Answered;
use super::serving::Serving;
use crate::oip::{self, Form, Malformed, Request};

/// Where the JSON of a body ends and its tensors begin.
pub(super) const JSON_BYTES: HeaderName = HeaderName::from_static("inference-header-content-length");

/// JSON, or typed tensors, that are read or written in less than half a millisecond.
pub(super) const BYTES_AT_ONCE: u64 = 64 * 1024;

/// What is counted of a body, at least: smaller ones are not worth their own number.
const PIECE: usize = 1024;

/// How much may be sent.
#[derive(Clone, Debug)]
pub(super) struct Intake {
    bytes_max: usize,
    /// Pieces of all bodies that are held at this moment.
    pieces: Arc<Semaphore>,
}

impl Intake {
    pub(super) fn new(bytes_max: usize, together_bytes_max: usize) -> Self {
        let pieces = (together_bytes_max.max(bytes_max).div_ceil(PIECE) + 1).min(Semaphore::MAX_PERMITS);
        Self { bytes_max, pieces: Arc::new(Semaphore::new(pieces)) }
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Room for `bytes` until the answer is dropped.
    pub(super) fn hold(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        if bytes > self.bytes_max {
            return Err(too_large(self.bytes_max));
        }
        self.room(bytes.div_ceil(PIECE))
    }

    /// As much more room as is missing for `bytes` in all.
    pub(super) fn hold_more(&self, held: &mut OwnedSemaphorePermit, bytes: usize) -> Result<(), Refusal> {
        let missing = bytes.div_ceil(PIECE).saturating_sub(held.num_permits());
        if missing > 0 {
            held.merge(self.room(missing)?);
        }
        Ok(())
    }

    /// Room for `bytes` in all, of which so much is held.
    pub(super) fn hold_in_all(
        &self,
        held: Option<OwnedSemaphorePermit>,
        bytes: usize,
    ) -> Result<OwnedSemaphorePermit, Refusal> {
        let mut held = held.map_or_else(|| self.hold(0), Ok)?;
        self.hold_more(&mut held, bytes)?;
        Ok(held)
    }

    fn room(&self, pieces: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
        Arc::clone(&self.pieces).try_acquire_many_owned(pieces).map_err(|_| {
            let sentence =
                "this server holds as many bytes of requests as it may; send fewer at once or try again";
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, sentence)
        })
    }

    /// Reads to the end; `json_ends` says where in it the tensors begin.
    async fn read(
        &self,
        request: axum::extract::Request,
        json_ends: fn(&HeaderMap) -> Result<Option<u64>, Malformed>,
    ) -> Result<Asked, Refusal> {
        let headers = request.headers();
        // What was compressed has come out by now, and lost this header.
        if let Some(other) = headers.get(header::CONTENT_ENCODING).filter(|value| *value != "identity") {
            let shown: String = String::from_utf8_lossy(other.as_bytes()).chars().take(40).collect();
            let sentence =
                format!("a body with Content-Encoding '{shown}' is not read; send gzip, deflate or identity");
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence));
        }
        let promised =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let promised = promised.unwrap_or(0);
        let mut held = self.hold(promised)?;
        let mut body = oip::Body::with_capacity(json_ends(headers)?, promised);
        let mut frames = request.into_body();
        while let Some(frame) = frames.frame().await {
            let frame = frame.map_err(|_| Refusal::bad("the body could not be read to its end"))?;
            let Ok(data) = frame.into_data() else { continue };
            let all = body.len().saturating_add(data.len());
            if all > self.bytes_max {
                return Err(too_large(self.bytes_max));
            }
            self.hold_more(&mut held, all)?;
            body.push(&data);
        }
        Ok(Asked { body, held: Arc::new(held) })
    }
}

fn too_large(bytes_max: usize) -> Refusal {
    let sentence = format!(
        "the body is larger than the {bytes_max} bytes that this server takes; send fewer rows at once"
    );
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, sentence)
}

/// The room of a request: given back when nobody has anything of it any more, neither who answers it nor a thread that
/// still reads or writes it after its client has gone.
pub(super) type Held = Arc<OwnedSemaphorePermit>;

/// A whole body, and its room.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    _held: Held,
}

impl<S: Sync> FromRequest<S> for Received
where
    Intake: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Refusal> {
        let Asked { body, held } = Intake::from_ref(state).read(request, |_| Ok(None)).await?;
        Ok(Self { bytes: body.into_json(), _held: held })
    }
}

/// An inference request, and its room.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) body: oip::Body,
    pub(super) held: Held,
}

impl<S: Sync> FromRequest<S> for Asked
where
    Intake: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Refusal> {
        Intake::from_ref(state).read(request, json_bytes).await
    }
}

/// What the request says of where its JSON ends.
fn json_bytes(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let Some(value) = headers.get(JSON_BYTES) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let shown = || String::from_utf8_lossy(value.as_bytes()).chars().take(40).collect();
    digits.and_then(|text| text.parse().ok()).map(Some).ok_or_else(|| Malformed::HeaderLength(shown()))
}

/// Reads a whole body.
pub(super) async fn parse(body: oip::Body, serving: Arc<Serving>, held: &Held) -> Result<Request, Refusal> {
    let much = body.json_len() as u64 > BYTES_AT_ONCE;
    let parse = move || oip::parse(body, &serving.manifest.signature);
    Ok(aside_if(much, held, parse).await??)
}

/// The answer to an inference request; tensors go out as they lie in memory.
pub(super) async fn answer(name: &str, answered: Answered, held: &Held) -> Result<Response, Refusal> {
    let name = name.to_owned();
    let much = is_much(&answered);
    let Answered { id, version, outputs, wanted } = answered;
    let write = move || oip::write(&name, version.as_str(), id.as_deref(), outputs, &wanted);
    let oip::Response { json, tensors } = aside_if(much, held, write).await?;
    if tensors.is_empty() {
        let content_type = HeaderValue::from_static("application/json");
        return Ok(([(header::CONTENT_TYPE, content_type)], json).into_response());
    }
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (JSON_BYTES, HeaderValue::from(json.len())),
    ];
    let pieces = std::iter::once(Bytes::from(json)).chain(tensors).collect();
    Ok((headers, Body::new(Pieces::new(pieces, None))).into_response())
}

/// Whether an answer takes so long to write that others must not wait for it: binary tensors go out as they lie.
pub(super) fn is_much(Answered { outputs, wanted, .. }: &Answered) -> bool {
    let bytes = outputs.iter().map(|output| output.tensor.values.size_bytes() as u64).sum::<u64>();
    bytes > BYTES_AT_ONCE && wanted.iter().any(|output| output.form == Form::Json)
}

/// On a thread where nobody waits for it, if it is much: other requests share this one. It goes on when the client has
/// gone, so it holds the request's room itself.
pub(super) async fn aside_if<T: Send + 'static>(
    much: bool,
    held: &Held,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    if !much {
        return Ok(work());
    }
    let held = Arc::clone(held);
    let work = move || {
        let _held = held;
        work()
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a request was not read, or its answer not written, to its end");
        let sentence = "the request could not be handled; the agent's log says why";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, sentence)
    })
}

/// A body that is there already.
pub(super) struct Pieces {
    pieces: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Pieces {
    pub(super) fn new(pieces: VecDeque<Bytes>, trailers: Option<HeaderMap>) -> Self {
        Self { pieces, trailers }
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.pieces.pop_front().map(Frame::data);
        Poll::Ready(frame.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.pieces.iter().map(|piece| piece.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(intake: &Intake, headers: &[(&'static str, &str)], body: Body) -> Result<Asked, Refusal> {
        let mut request = axum::extract::Request::new(body);
        for &(name, value) in headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        Asked::from_request(request, intake).await
    }

    fn in_pieces(count: usize, length: usize) -> Body {
        Body::new(Pieces::new((0..count).map(|_| Bytes::from(vec![7; length])).collect(), None))
    }

    #[tokio::test]
    async fn a_body_has_a_bound_with_and_without_its_length() {
        let intake = Intake::new(4096, 4096);
        let check = async |headers: &[(&'static str, &str)], body, expect: Result<usize, u16>| {
            let found = read(&intake, headers, body).await;
            assert_eq!(
                found.map(|asked| asked.body.len()).map_err(|refusal| refusal.status.as_u16()),
                expect
            );
        };
        check(&[], in_pieces(4, 1024), Ok(4096)).await;
        check(&[], in_pieces(5, 1000), Err(413)).await;
        check(&[("content-length", "4096")], in_pieces(4, 1024), Ok(4096)).await;
        check(&[("content-length", "2147483648")], in_pieces(0, 0), Err(413)).await;
        check(&[("content-length", "18446744073709551616")], in_pieces(1, 9), Ok(9)).await;
        // Nobody makes room for what is only promised beyond the bound, or lies about it.
        check(&[("content-length", "1")], in_pieces(5, 1000), Err(413)).await;
        check(&[("content-encoding", "br")], in_pieces(1, 1), Err(415)).await;
        check(&[("content-encoding", "identity")], in_pieces(1, 1), Ok(1)).await;
    }

    #[tokio::test]
    async fn all_bodies_together_have_a_bound() {
        let intake = Intake::new(4096, 8192);
        let first = read(&intake, &[], in_pieces(4, 1024)).await.unwrap();
        let second = read(&intake, &[], in_pieces(3, 1024)).await.unwrap();
        let third = read(&intake, &[], in_pieces(4, 1024)).await.unwrap_err();
        assert_eq!(third.status, StatusCode::TOO_MANY_REQUESTS);
        drop(first);
        assert!(read(&intake, &[], in_pieces(4, 1024)).await.is_ok());
        drop(second);
        assert_eq!(intake.pieces.available_permits(), 9);
    }

    #[tokio::test]
    async fn what_is_read_aside_keeps_its_room_when_its_client_has_gone() {
        let intake = Intake::new(4096, 4096);
        let held = read(&intake, &[], in_pieces(4, 1024)).await.unwrap().held;
        let (end, ended) = std::sync::mpsc::sync_channel::<()>(1);
        let reads = aside_if(true, &held, move || ended.recv().is_err());
        assert!(tokio::time::timeout(std::time::Duration::ZERO, reads).await.is_err());
        drop(held);
        assert_eq!(intake.pieces.available_permits(), 1);
        drop(end);
        drop(intake.pieces.acquire_many(5).await.unwrap());
    }

    #[test]
    fn where_the_json_ends_is_a_number() {
        let check = |value: Option<&'static str>, expect: Option<Option<u64>>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(JSON_BYTES, HeaderValue::from_static(value));
            }
            assert_eq!(json_bytes(&headers).ok(), expect, "{value:?}");
        };
        check(None, Some(None));
        check(Some("0"), Some(Some(0)));
        check(Some("77"), Some(Some(77)));
        for wrong in ["", "-1", "+1", "1.5", "x", "18446744073709551616"] {
            check(Some(wrong), None);
        }
    }
}
