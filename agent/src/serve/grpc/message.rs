//! One message in, one message out, for the call that carries tensors: read where it lies, and written around them.
//!
//! ```text
//!   in     flag, length (5 bytes) ‖ message ‖ its last tensor    which becomes its vector while the rest is on its way
//!   out    flag, length ‖ message ‖ tensor ‖ tensor               tensors go out as they lie in memory; the status follows
//! ```
//!
//! The library's own way copies both once more. It still serves every other call, and whoever compresses.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::metadata::GRPC_CONTENT_TYPE;
use tonic_prost::ProstEncoder;

use super::super::body::{Intake, Pieces};
use super::super::error::Refusal;
use super::FRAME_BYTES;
use super::tensors::{ModelInferResponse, last_tensor};
use crate::oip::Words;

/// A flag, and the message's length.
const PREFIX: usize = 5;
/// The field of the tensors, which is the last.
const RAW_OUTPUT_CONTENTS: u32 = 6;
/// Shorter tensors are copied: a frame of their own costs more.
const PIECE_BYTES_MIN: usize = 16 * 1024;

/// A body whose bytes are counted with those of all other requests while it is read.
pub(super) struct Counted {
    body: Body,
    intake: Intake,
    held: OwnedSemaphorePermit,
    came: usize,
}

impl Counted {
    pub(super) fn new(body: Body, intake: Intake) -> Result<Self, Refusal> {
        let held = intake.hold(0)?;
        Ok(Self { body, intake, held, came: 0 })
    }

    /// The one message that it holds, and its room.
    pub(super) async fn message(mut self) -> Result<(Arrived, OwnedSemaphorePermit), Status> {
        let bytes_max = self.intake.bytes_max() + FRAME_BYTES;
        let mut body = Pin::new(&mut self);
        let mut coming = Coming::default();
        let mut promised = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            coming.push(data);
            if promised.is_none() {
                promised = length(coming.known())?;
            }
            let Some(length) = promised else { continue };
            if length > bytes_max {
                return Err(too_large(bytes_max));
            }
            if body.came > PREFIX + length {
                return Err(Status::invalid_argument("one call holds one message; this one holds more"));
            }
            if body.came < PREFIX + length {
                // What is promised takes its place before there is any.
                let Self { intake, held, .. } = &mut *body;
                intake.hold_more(held, PREFIX + length)?;
                coming.make_room(PREFIX + length);
            }
        }
        match promised {
            Some(length) if self.came == PREFIX + length => Ok((coming.into_arrived(), self.held)),
            Some(_) | None => Err(Status::invalid_argument("the message ends before its time")),
        }
    }
}

/// A message that is whole.
#[derive(Debug)]
pub(super) struct Arrived {
    /// Without its last field, if that is in `tensor`.
    pub(super) message: Bytes,
    /// The content of a raw tensor that came in pieces.
    pub(super) tensor: Option<Words>,
}

impl From<Bytes> for Arrived {
    fn from(message: Bytes) -> Self {
        Self { message, tensor: None }
    }
}

/// A message on its way, behind its prefix. What one frame of HTTP/2 holds is not copied.
#[derive(Debug, Default)]
struct Coming {
    /// The first frame, while it is alone.
    first: Bytes,
    parts: BytesMut,
    tensor: Option<Words>,
}

impl Coming {
    fn push(&mut self, data: Bytes) {
        if let Some(tensor) = &mut self.tensor {
            tensor.push(&data);
        } else if self.known().is_empty() {
            self.first = data;
        } else {
            self.parts.put(std::mem::take(&mut self.first));
            self.parts.put(data);
        }
    }

    /// All of it that does not belong to `tensor`.
    fn known(&self) -> &[u8] {
        if self.parts.is_empty() { &self.first } else { &self.parts }
    }

    /// For what is missing of `bytes`: once, and so much that nothing has to move.
    fn make_room(&mut self, bytes: usize) {
        if self.tensor.is_some() {
            return;
        }
        let message = self.known().get(PREFIX..).unwrap_or_default();
        let Some((begins, at)) = last_tensor(message, bytes - PREFIX) else {
            self.parts.reserve(bytes - self.parts.len());
            return;
        };
        let mut tensor = Words::with_capacity(bytes - PREFIX - at);
        tensor.push(message.get(at..).unwrap_or_default());
        self.tensor = Some(tensor);
        self.first.truncate(PREFIX + begins);
        self.parts.truncate(PREFIX + begins);
    }

    fn into_arrived(self) -> Arrived {
        let Self { first, parts, tensor } = self;
        let mut message = if parts.is_empty() { first } else { parts.freeze() };
        Arrived { message: message.split_off(PREFIX), tensor }
    }
}

/// A body of many messages, each counted from its first bytes on. Its reader asks for more only when every message that is
/// whole has been taken out, so there is never more here than one that is not, and what came with its beginning.
pub(super) struct CountedMessages {
    body: Body,
    intake: Intake,
    room: Room,
    unfinished: Unfinished,
    /// From the first byte of a message to its last.
    within: Duration,
    /// Ends when the message that is not whole has had its time.
    patience: Option<Pin<Box<Sleep>>>,
}

/// What the message that is being read takes: filled as it comes, and emptied by whoever answers it. Where two came together,
/// the first takes the room of both.
#[derive(Clone, Default)]
pub(super) struct Room(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Room {
    pub(super) fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, held: OwnedSemaphorePermit) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }
}

impl CountedMessages {
    pub(super) fn new(body: Body, intake: Intake, within: Duration) -> (Self, Room) {
        let room = Room::default();
        let unfinished = Unfinished::default();
        (Self { body, intake, room: room.clone(), unfinished, within, patience: None }, room)
    }

    fn count(&mut self, came: &Bytes) -> Result<(), Status> {
        let promised = self.unfinished.follow(came);
        let bytes_max = self.intake.bytes_max() + FRAME_BYTES;
        if promised > PREFIX + bytes_max {
            return Err(too_large(bytes_max));
        }
        self.room.put(self.intake.hold_in_all(self.room.take(), promised.max(came.len()))?);
        match promised {
            0 => self.patience = None,
            _ => _ = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.within))),
        }
        Ok(())
    }

    /// What is promised and does not come keeps its room from others.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        self.patience.as_mut().is_some_and(|patience| patience.as_mut().poll(context).is_ready())
    }
}

/// The message that is not whole: as much of its prefix as came, and how much came of what stands behind that.
#[derive(Default)]
struct Unfinished {
    prefix: Vec<u8>,
    came: usize,
}

impl Unfinished {
    /// The length of the message, its prefix included, that is not whole behind these bytes; 0 if there is none.
    fn follow(&mut self, mut bytes: &[u8]) -> usize {
        loop {
            let (prefix, behind) = bytes.split_at((PREFIX - self.prefix.len()).min(bytes.len()));
            self.prefix.extend_from_slice(prefix);
            let Some(&[_, length @ ..]) = self.prefix.first_chunk::<PREFIX>() else {
                return self.prefix.len();
            };
            // What does not fit into memory is too large for the intake as well.
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX - PREFIX);
            let missing = length - self.came;
            let Some((_, next)) = behind.split_at_checked(missing) else {
                self.came += behind.len();
                return PREFIX + length;
            };
            *self = Self::default();
            bytes = next;
        }
    }
}

fn too_large(bytes_max: usize) -> Status {
    let sentence = format!(
        "the message is larger than the {bytes_max} bytes that this server takes; send fewer rows at once"
    );
    Status::resource_exhausted(sentence)
}

/// What the message's prefix says, once it is there.
fn length(known: &[u8]) -> Result<Option<usize>, Status> {
    let Some(([flag, length @ ..], _)) = known.split_first_chunk::<PREFIX>() else { return Ok(None) };
    if *flag != 0 {
        return Err(Status::internal("the message says that it is compressed, the request's headers do not"));
    }
    let length = usize::try_from(u32::from_be_bytes(*length));
    length.map(Some).map_err(|_| Status::resource_exhausted("the message is larger than this machine"))
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let frame = frame.map_err(|_| torn());
        let Self { intake, held, came, .. } = &mut *self;
        let counted = frame.and_then(|frame| {
            *came = came.saturating_add(frame.data_ref().map_or(0, Bytes::len));
            intake.hold_more(held, *came)?;
            Ok(frame)
        });
        Poll::Ready(Some(counted))
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl hyper::body::Body for CountedMessages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(frame)) => frame.map_err(|_| torn()),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending if self.is_late(context) => {
                Err(Status::deadline_exceeded("the message did not come in time"))
            }
            Poll::Pending => return Poll::Pending,
        };
        let counted = frame.and_then(|frame| {
            frame.data_ref().map_or(Ok(()), |came| self.count(came))?;
            Ok(frame)
        });
        Poll::Ready(Some(counted))
    }
}

fn torn() -> Status {
    Status::cancelled("the request could not be read to its end")
}

/// For the library's own way: messages as they came, because the library would read them on the thread that all requests
/// share.
#[derive(Debug)]
pub(super) struct Undecoded<A>(PhantomData<A>);

impl<A> Default for Undecoded<A> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<A: prost::Message + 'static> Codec for Undecoded<A> {
    type Encode = A;
    type Decode = Bytes;
    type Encoder = ProstEncoder<A>;
    type Decoder = AsItCame;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        AsItCame
    }
}

#[derive(Debug)]
pub(super) struct AsItCame;

impl Decoder for AsItCame {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}

/// The answer, with the status behind it.
pub(super) fn reply(mut answer: ModelInferResponse) -> Response {
    let tensors = std::mem::take(&mut answer.raw_output_contents);
    let field = |tensor: &Bytes| {
        key_len(RAW_OUTPUT_CONTENTS) + encoded_len_varint(tensor.len() as u64) + tensor.len()
    };
    let length = answer.encoded_len() + tensors.iter().map(field).sum::<usize>();
    let Ok(prefix) = u32::try_from(length) else {
        return Status::out_of_range("the answer is larger than gRPC can tell").into_http();
    };
    let mut pieces = VecDeque::with_capacity(2 * tensors.len() + 1);
    let mut piece = Vec::with_capacity(PREFIX + length.min(2 * PIECE_BYTES_MIN));
    piece.put_u8(0);
    piece.put_u32(prefix);
    answer.encode_raw(&mut piece);
    for tensor in tensors {
        encode_key(RAW_OUTPUT_CONTENTS, WireType::LengthDelimited, &mut piece);
        encode_varint(tensor.len() as u64, &mut piece);
        if tensor.len() < PIECE_BYTES_MIN {
            piece.put(tensor);
        } else {
            pieces.extend([Bytes::from(std::mem::take(&mut piece)), tensor]);
        }
    }
    if !piece.is_empty() {
        pieces.push_back(Bytes::from(piece));
    }
    let trailers = HeaderMap::from_iter([(Status::GRPC_STATUS, HeaderValue::from_static("0"))]);
    let mut response = Response::new(Body::new(Pieces::new(pieces, Some(trailers))));
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::super::tensors::ModelInferRequest;
    use super::*;

    async fn read(frames: impl IntoIterator<Item = Bytes>) -> Result<Arrived, i32> {
        let body = Body::new(Pieces::new(frames.into_iter().collect(), None));
        let read = Counted::new(body, Intake::new(4096, 4096)).unwrap().message().await;
        read.map(|(arrived, _)| arrived).map_err(|status| status.code().into())
    }

    #[tokio::test]
    async fn what_is_only_promised_takes_room_too() {
        let intake = Intake::new(4096, 8192);
        let others = intake.hold(4096).unwrap();
        // 4,000 bytes are promised and one is there: its body is not over, so it waits for them.
        let promised = async || {
            let (sender, receiver) = tokio::io::duplex(64);
            let body = Body::from_stream(tokio_util::io::ReaderStream::new(receiver));
            let counted = Counted::new(body, intake.clone()).unwrap();
            let mut sender = sender;
            tokio::io::AsyncWriteExt::write_all(&mut sender, b"\0\0\0\x0f\xa0x").await.unwrap();
            (sender, counted)
        };
        let (_first, counted) = promised().await;
        let mut first = Box::pin(counted.message());
        assert!(futures_util::poll!(&mut first).is_pending());
        let (_second, counted) = promised().await;
        assert_eq!(counted.message().await.unwrap_err().code(), tonic::Code::ResourceExhausted);
        drop((first, others));
        assert!(intake.hold(4096).is_ok());
    }

    #[tokio::test]
    async fn messages_of_a_stream_take_room_one_by_one() {
        let intake = Intake::new(4096, 8192);
        let stream = |frames: &[&'static [u8]]| {
            let frames = frames.iter().map(|&frame| Bytes::from_static(frame)).collect();
            CountedMessages::new(Body::new(Pieces::new(frames, None)), intake.clone(), Duration::MAX)
        };
        let pieces = |room: &Room| room.take().map(|held| held.num_permits());
        let (mut body, room) = stream(&[b"\0\0\0", b"\x0f\xa0x", b"y", b"\0\0\0\0\x01z"]);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!(pieces(&room), Some(4), "4,000 bytes are promised");
        assert!(body.frame().await.unwrap().is_ok());
        let others = intake.hold(4096).unwrap();
        let (mut second, _) = stream(&[b"\0\0\0\x0f\xa0x"]);
        assert_eq!(second.frame().await.unwrap().unwrap_err().code(), tonic::Code::ResourceExhausted);
        drop((others, second));
        let (mut large, _) = stream(&[b"\0\x01\0\0\0x"]);
        assert_eq!(large.frame().await.unwrap().unwrap_err().code(), tonic::Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn a_message_of_a_stream_that_stops_coming_gives_its_room_back() {
        let intake = Intake::new(4096, 4096);
        let (mut sender, receiver) = tokio::io::duplex(64);
        let body = Body::from_stream(tokio_util::io::ReaderStream::new(receiver));
        let (mut body, room) = CountedMessages::new(body, intake.clone(), Duration::from_millis(20));
        tokio::io::AsyncWriteExt::write_all(&mut sender, b"\0\0\0\x0f\xa0x").await.unwrap();
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!(body.frame().await.unwrap().unwrap_err().code(), tonic::Code::DeadlineExceeded);
        drop((body, room));
        assert!(intake.hold(4096).is_ok());
    }

    #[test]
    fn where_a_stream_ends_within_a_message() {
        let check = |frames: &[&[u8]], expect: &[usize]| {
            let mut unfinished = Unfinished::default();
            let found: Vec<usize> = frames.iter().map(|frame| unfinished.follow(frame)).collect();
            assert_eq!(found, expect, "{frames:?}");
        };
        check(&[b"\0\0\0\0\x03abc", b"\0\0\0\0\x02de"], &[0, 0]);
        check(&[b"\0\0", b"", b"\0\0\x03", b"a", b"bc"], &[2, 2, 8, 8, 0]);
        check(&[b"\0\0\0\0\x01a\0\0\0\0\x02b", b"c\0"], &[7, 1]);
        check(&[b"\0\0\0\0\x03a\0", b"c\0\0\0\0\0"], &[8, 0]);
        check(&[b"\0\0\0\0\0\0\0\0\0\0"], &[0]);
        check(&[b"\x01\xff\xff\xff\xff"], &[PREFIX + 0xffff_ffff]);
    }

    #[tokio::test]
    async fn a_message_is_whole_however_it_is_cut() {
        let (invalid, internal, exhausted) = (Err(3), Err(13), Err(8));
        let check = async |frames: &[&'static [u8]], expect: Result<&'static [u8], i32>| {
            let read = read(frames.iter().map(|&frame| Bytes::from_static(frame))).await;
            assert!(read.as_ref().is_ok_and(|arrived| arrived.tensor.is_none()) || read.is_err());
            assert_eq!(read.map(|arrived| arrived.message), expect.map(Bytes::from_static), "{frames:?}");
        };
        check(&[b"\0\0\0\0\x03abc"], Ok(b"abc")).await;
        check(&[b"\0\0", b"\0\0\x03a", b"", b"b", b"c"], Ok(b"abc")).await;
        check(&[b"", b"\0\0\0\0\x03", b"abc"], Ok(b"abc")).await;
        check(&[b"\0\0\0\0\0"], Ok(b"")).await;
        check(&[], invalid).await;
        check(&[b"\0\0\0"], invalid).await;
        check(&[b"\0\0\0\0\x03", b"ab"], invalid).await;
        check(&[b"\0\0\0\0\x03", b"abcd"], invalid).await;
        check(&[b"\x01\0\0\0\x03abc"], internal).await;
        check(&[b"\0\xff\xff\xff\xffabc"], exhausted).await;
    }

    #[tokio::test]
    async fn the_last_raw_tensor_is_taken_out_as_it_comes() {
        let (first, last) = (Bytes::from_static(&[7; 9]), (0..200).collect::<Bytes>());
        let raw_input_contents = vec![first, last.clone()];
        let request = ModelInferRequest {
            model_name: "m".to_owned(),
            raw_input_contents,
            ..ModelInferRequest::default()
        };
        let message = request.encode_to_vec();
        let prefix = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes()].concat();
        let all = Bytes::from([prefix, message].concat());
        let before = all.len() - last.len();
        for cut in 1..=all.len() {
            let frames = all.chunks(cut).map(Bytes::copy_from_slice);
            let Arrived { message, tensor } = read(frames.clone()).await.unwrap();
            // As soon as it is known where it begins, unless it is all there by then.
            assert_eq!(tensor.is_some(), (before..all.len()).any(|came| came % cut == 0), "cut at {cut}");
            let mut found = ModelInferRequest::decode(message).unwrap();
            found.raw_input_contents.extend(tensor.map(|tensor| Bytes::copy_from_slice(tensor.bytes())));
            assert_eq!(found, request, "cut at {cut}");
            let more = frames.clone().chain([Bytes::from_static(b"x")]);
            assert_eq!(read(more).await.unwrap_err(), 3, "cut at {cut}");
            let less = frames
                .map(|frame| if frame.ends_with(&[199]) { frame.slice(..frame.len() - 1) } else { frame });
            assert_eq!(read(less).await.unwrap_err(), 3, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_the_same_message() {
        let tensor = |length: usize| Bytes::from(vec![7; length]);
        let check = async |raw_output_contents: Vec<Bytes>, pieces| {
            let (id, model_name) = ("i".to_owned(), "m".to_owned());
            let answer =
                ModelInferResponse { model_name, id, raw_output_contents, ..ModelInferResponse::default() };
            let mut body = reply(answer.clone()).into_body();
            let (mut bytes, mut frames, mut status) = (Vec::new(), 0, None);
            while let Some(frame) = body.frame().await {
                match frame.unwrap().into_data() {
                    Ok(data) => {
                        frames += 1;
                        bytes.extend_from_slice(&data);
                    }
                    Err(trailers) => status = trailers.trailers_ref().unwrap().get("grpc-status").cloned(),
                }
            }
            assert_eq!((frames, status.unwrap().to_str().unwrap()), (pieces, "0"));
            let message = length(&bytes).unwrap().unwrap();
            assert_eq!(message, bytes.len() - PREFIX);
            assert_eq!(ModelInferResponse::decode(&bytes[PREFIX..]).unwrap(), answer);
        };
        check(vec![], 1).await;
        check(vec![tensor(4), tensor(0)], 1).await;
        check(vec![tensor(PIECE_BYTES_MIN)], 2).await;
        check(vec![tensor(4), tensor(100_000), tensor(200_000), tensor(4)], 5).await;
    }
}
