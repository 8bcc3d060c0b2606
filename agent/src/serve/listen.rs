//! Listeners and their connections: how many there may be, how long they may be silent, how they end.
//!
//! Every listener speaks HTTP/1 and HTTP/2, so REST and gRPC both; which port is called what is a matter of habit.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::seats::{PARTING, Seat, Seats};
use super::turns::{InTurns, TURN_BYTES};

/// Of all listeners, well below the files that a process may open; more wait to be accepted.
pub(super) const CONNECTIONS_MAX: usize = 256;
/// A connection that asked for nothing for so long makes room where there is none.
pub(super) const IDLE_MIN: Duration = Duration::from_secs(1);
/// From the first byte of a request's head to its last; and before the first request, and between two of HTTP/1.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Longest that requests in flight may hold up the end.
const DRAIN: Duration = Duration::from_secs(30);
/// After a failed accept, which is for want of files: others must end first.
const PAUSE: Duration = Duration::from_millis(100);
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// What may be on its way on an HTTP/2 stream: a few images, or a single one would wait for leave to go on.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// And on its connection: one stream that nobody reads holds up no other.
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
/// A message that is more comes in several frames, so that its tensor is read while the rest is on its way.
const FRAME_BYTES_MAX: u32 = TURN_BYTES;
/// Of an answer, how much is handed to the socket at once.
const SEND_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    pub(super) async fn tcp(address: SocketAddr) -> io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((Self::Tcp(listener), address))
    }

    /// The socket is for the agent's user and group. What is left of a process that was killed is replaced; what another
    /// still answers on, or is no socket, is not.
    pub(super) async fn unix(path: &Path) -> io::Result<Self> {
        if let Ok(found) = std::fs::symlink_metadata(path) {
            let in_use = || tokio::net::UnixStream::connect(path);
            if !found.file_type().is_socket() || in_use().await.is_ok() {
                return Err(io::Error::from(io::ErrorKind::AddrInUse));
            }
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(Self::Unix(listener, path.to_owned()))
    }

    /// Serves until `stop`; then requests in flight are answered first.
    pub(super) async fn serve(self, router: Router, seats: Arc<Seats>, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            // Ended connections are taken out, or the set would grow for years.
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.accept() => accepted,
            };
            let guest = match accepted {
                Ok(stream) => {
                    let seat = tokio::select! {
                        () = stop.cancelled() => break,
                        seat = seats.take() => seat,
                    };
                    Guest { seat, router: router.clone(), stop: stop.clone() }.talk(stream)
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            connections.spawn(guest);
        }
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, ended).await.is_err() {
            tracing::warn!("connections were cut because their requests did not end");
        }
        if let Self::Unix(_, path) = &self {
            drop(std::fs::remove_file(path));
        }
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Small answers must not wait for more to say.
                stream.set_nodelay(true)?;
                Ok(Either::Left(stream))
            }
            Self::Unix(listener, _) => Ok(Either::Right(listener.accept().await?.0)),
        }
    }
}

type Stream = Either<TcpStream, UnixStream>;

/// A connection of an application.
struct Guest {
    seat: Arc<Seat>,
    router: Router,
    stop: CancellationToken,
}

impl Guest {
    /// Until one of the two goes. A client that goes away takes its requests with it: whatever still waits is given up.
    async fn talk(self, stream: Stream) {
        let service = service_fn(|request| {
            let (in_use, answer) = (self.seat.begin(), self.router.clone().oneshot(request));
            async move { Ok::<_, Infallible>(answer.await?.map(|body| in_use.send(body))) }
        });
        let builder = builder();
        let connection = builder.serve_connection(TokioIo::new(InTurns::new(stream)), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.dismissed() => {
                connection.as_mut().graceful_shutdown();
                loop {
                    match tokio::time::timeout(PARTING, connection.as_mut()).await {
                        Ok(ended) => break ended,
                        // Nobody waits for an answer: half a head has come, or the client does not say goodbye.
                        Err(_) if self.seat.is_idle() => return,
                        Err(_) => {}
                    }
                }
            }
        };
        // It is the client's own business how it ends.
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection of an application ended");
        }
    }

    async fn dismissed(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.seat.wanted() => {}
            () = self.never_asks() => {}
        }
    }

    /// Before it is known which version of HTTP it will be, no timer of either runs.
    async fn never_asks(&self) {
        tokio::time::sleep(HEAD_TIME).await;
        if self.seat.was_used() {
            std::future::pending::<()>().await;
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BYTES);
    builder
}
