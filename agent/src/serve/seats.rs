//! Seats for the connections of applications: how many there are, and who makes room.
//!
//! An application may keep connections open that it does not use; most libraries do, in a pool that grows with every
//! moment in which answers were slow. Where every seat is taken and another connection comes, the one that has asked for
//! nothing for longest is closed, as any idle connection may be. Nobody who waits for an answer is sent away.

use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::slots::lock;
use crate::stopwatch::Stopwatch;

/// For a connection without a request to say goodbye.
pub(super) const PARTING: Duration = Duration::from_millis(100);
/// Whoever was asked to go has gone by then; if not, another is asked.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    idle_min: Duration,
    taken: Mutex<Vec<Weak<Seat>>>,
}

/// One connection's, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    use_now: Mutex<Use>,
    wanted: CancellationToken,
    _free: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Use {
    requests: usize,
    /// There was a first one.
    used: bool,
    /// Runs since the last request began or ended.
    idle: Stopwatch,
}

/// A request, from its head until the last of its answer was handed to the socket.
#[derive(Debug)]
pub(super) struct InUse(Arc<Seat>);

/// An answer on its way. HTTP's library lets go of a body as soon as it has taken the last piece from it, which may then wait
/// long for a client that reads slowly: so each piece keeps its request in use.
#[derive(Debug)]
pub(super) struct Sending {
    body: Body,
    in_use: Arc<InUse>,
}

struct Piece {
    bytes: Bytes,
    _in_use: Arc<InUse>,
}

impl Seats {
    /// Who asked for something less than `idle_min` ago is about to ask again, and stays.
    pub(super) fn new(seats: usize, idle_min: Duration) -> Self {
        Self { free: Arc::new(Semaphore::new(seats)), idle_min, taken: Mutex::default() }
    }

    /// Waits until one is free.
    pub(super) async fn take(&self) -> Arc<Seat> {
        loop {
            if self.free.available_permits() == 0 {
                self.make_room();
            }
            let free = Arc::clone(&self.free).acquire_owned();
            if let Ok(Ok(free)) = tokio::time::timeout(LOOK_AGAIN, free).await {
                let seat = Arc::new(Seat::new(free));
                let mut taken = lock(&self.taken);
                taken.retain(|seat| seat.strong_count() > 0);
                taken.push(Arc::downgrade(&seat));
                return seat;
            }
        }
    }

    fn make_room(&self) {
        let taken = lock(&self.taken);
        let idle = taken.iter().filter_map(Weak::upgrade).filter_map(|seat| Some((seat.idle()?, seat)));
        let idle = idle.filter(|(idle, _)| *idle >= self.idle_min);
        if let Some((_, longest)) = idle.max_by_key(|(idle, _)| *idle) {
            longest.wanted.cancel();
        }
    }
}

impl Seat {
    fn new(free: OwnedSemaphorePermit) -> Self {
        let use_now = Use { requests: 0, used: false, idle: Stopwatch::start() };
        Self { use_now: Mutex::new(use_now), wanted: CancellationToken::new(), _free: free }
    }

    /// Another connection needs it more.
    pub(super) async fn wanted(&self) {
        self.wanted.cancelled().await;
    }

    pub(super) fn begin(self: &Arc<Self>) -> InUse {
        self.count(1);
        InUse(Arc::clone(self))
    }

    fn count(&self, change: isize) {
        let mut use_now = lock(&self.use_now);
        use_now.requests = use_now.requests.saturating_add_signed(change);
        use_now.used = true;
        use_now.idle = Stopwatch::start();
    }

    pub(super) fn was_used(&self) -> bool {
        lock(&self.use_now).used
    }

    /// Nobody on it waits for an answer.
    pub(super) fn is_idle(&self) -> bool {
        lock(&self.use_now).requests == 0
    }

    /// How long nothing was asked of it, if it was not told to go yet.
    fn idle(&self) -> Option<Duration> {
        let use_now = lock(&self.use_now);
        (use_now.requests == 0 && !self.wanted.is_cancelled()).then(|| use_now.idle.elapsed())
    }
}

impl InUse {
    pub(super) fn send(self, body: Body) -> Sending {
        Sending { body, in_use: Arc::new(self) }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.count(-1);
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let piece = |bytes| Bytes::from_owner(Piece { bytes, _in_use: Arc::clone(&self.in_use) });
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn who_was_idle_for_longest_makes_room_and_nobody_else() {
        const IDLE_MIN: Duration = Duration::from_secs(1);
        let seats = Seats::new(3, IDLE_MIN);
        let (busy, first, second) = (seats.take().await, seats.take().await, seats.take().await);
        let asked = busy.begin();
        tokio::time::sleep(IDLE_MIN).await;
        drop(second.begin());
        let (third, ()) = tokio::join!(seats.take(), leaves(first));
        let waits = tokio::time::timeout(IDLE_MIN / 5, seats.take()).await;
        assert!(waits.is_err() && !second.wanted.is_cancelled(), "who asked just now stays");
        drop(asked);
        let (_fourth, ()) = tokio::join!(seats.take(), leaves(second));
        assert!(!third.wanted.is_cancelled() && !busy.wanted.is_cancelled());
    }

    #[tokio::test]
    async fn a_request_is_in_use_until_the_last_of_its_answer_has_gone() {
        let seats = Seats::new(1, Duration::ZERO);
        let seat = seats.take().await;
        assert!(seat.is_idle() && !seat.was_used());
        let mut sending = seat.begin().send(Body::from("answer"));
        assert_eq!(hyper::body::Body::size_hint(&sending).exact(), Some(6));
        let last = sending.frame().await.unwrap().unwrap().into_data().unwrap();
        drop(sending);
        assert!(!seat.is_idle() && seat.was_used());
        assert_eq!(last, "answer");
        drop(last);
        assert!(seat.is_idle());
    }

    async fn leaves(seat: Arc<Seat>) {
        seat.wanted().await;
    }
}
