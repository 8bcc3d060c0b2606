//! Listeners and their connections: how many there may be, how long they may be silent, how they end.
//!
//! Every listener speaks HTTP/1 and HTTP/2, so REST and gRPC both; which port is called what is a matter of habit.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Of all listeners, well below the files that a process may open; more wait to be accepted.
pub(super) const CONNECTIONS_MAX: usize = 256;
/// From the first byte of a request's head to its last.
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
/// An image comes in one frame, which is then its message: nothing has to be put together.
const FRAME_BYTES_MAX: u32 = 1024 * 1024;
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
    pub(super) async fn serve(self, router: Router, room: Arc<Semaphore>, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            // Ended connections are taken out, or the set would grow for years.
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                permit = Arc::clone(&room).acquire_owned() => {
                    let Ok(permit) = permit else { break };
                    tokio::select! {
                        () = stop.cancelled() => break,
                        accepted = self.accept(&mut connections, &router, &stop, permit) => accepted,
                    }
                }
            };
            if let Err(error) = accepted {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, ended).await.is_err() {
            tracing::warn!("connections were cut because their requests did not end");
        }
        if let Self::Unix(_, path) = &self {
            drop(std::fs::remove_file(path));
        }
    }

    async fn accept(
        &self,
        connections: &mut JoinSet<()>,
        router: &Router,
        stop: &CancellationToken,
        permit: tokio::sync::OwnedSemaphorePermit,
    ) -> io::Result<()> {
        let (router, stop) = (router.clone(), stop.clone());
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Small answers must not wait for more to say.
                stream.set_nodelay(true)?;
                connections.spawn(async move {
                    talk(stream, router, stop).await;
                    drop(permit);
                });
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                connections.spawn(async move {
                    talk(stream, router, stop).await;
                    drop(permit);
                });
            }
        }
        Ok(())
    }
}

/// A client that goes away takes its requests with it: whatever still waits is given up.
async fn talk<S>(stream: S, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // It is the client's own business how it ends.
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of an application ended");
    }
}
