//! Reading in turns: what came on a connection is worked on before more of it is read.
//!
//! HTTP/2's connection is a task of its own, which would read all that a client sends before any request sees the first
//! of it. A tensor is then read from memory that has left the caches long ago, and others of this thread wait for it all.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Of one turn: what fits into a core's own cache together with what is made of it.
pub(super) const TURN_BYTES: u32 = 192 * 1024;

pub(super) struct InTurns<S> {
    stream: S,
    /// In this turn.
    read: usize,
    /// Ends when others had theirs.
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> InTurns<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, read: 0, pause: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for InTurns<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read >= TURN_BYTES as usize {
            let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::task::yield_now()));
            ready!(pause.as_mut().poll(context));
            self.pause = None;
            self.read = 0;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        // Waiting for the client is a pause as well.
        self.read = if polled.is_pending() { 0 } else { self.read + buffer.filled().len() - before };
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for InTurns<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::AsyncReadExt as _;

    use super::*;

    const TURN: usize = TURN_BYTES as usize;

    #[tokio::test]
    async fn others_have_their_turn_and_nothing_is_lost() {
        let all: Vec<u8> = (0..=u8::MAX).cycle().take(3 * TURN).collect();
        let others = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&others);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            loop {
                counts.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let mut stream = InTurns::new(io::Cursor::new(all.clone()));
        let (mut read, mut piece) = (Vec::new(), vec![0; TURN / 2]);
        loop {
            let bytes = stream.read(&mut piece).await.unwrap();
            if bytes == 0 {
                break;
            }
            read.extend_from_slice(&piece[..bytes]);
            let turns = (read.len() - 1) / TURN;
            assert!(others.load(Ordering::Relaxed) >= turns, "after {} bytes", read.len());
        }
        assert!(read == all);
    }
}
