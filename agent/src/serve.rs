//! What applications on the box speak: the Open Inference Protocol over REST and gRPC, and the endpoint for labels.
//!
//! ```text
//!   application ──HTTP──> listen ──> routes | grpc ──> slots (who serves?) ──> model (engine) ──> answer
//!                                                         └── counts: stats, panes, predictions that wait for labels
//! ```
//!
//! The fleet's order owns loading: an application can never load, unload or swap a model here. Every error is
//! `{"error": "…"}`; no `Content-Type` is demanded; health bodies are never empty, because clients differ in what they
//! look at. Plain HTTP without a login, and therefore loopback only. What they may say about *when* is in `house`.

mod body;
mod error;
mod grpc;
mod house;
mod infer;
mod labels;
mod listen;
mod metadata;
mod metrics;
mod routes;
mod seats;
mod serving;
mod slots;
mod turns;
mod words;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use body::Intake;
pub use house::{Desk, NotTaken, Said, Word};
use listen::Listener;
use seats::Seats;
pub use serving::{Served, ServedError};
pub use slots::{SlotLimits, Slots, WorldNow};

/// Whoever can read this file of the state folder may consent.
pub const CONSENT_KEY: &str = "consent.key";

/// Where and how much is served. Every listener speaks REST and gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeConfig {
    /// Port 0 takes any free one.
    pub listen: SocketAddr,
    /// One more, for those who expect gRPC on a port of its own.
    pub grpc: Option<SocketAddr>,
    pub unix: Option<PathBuf>,
    /// Of one request, after it was inflated.
    pub request_bytes_max: usize,
    /// Of all requests that are held at one moment.
    pub requests_bytes_max: usize,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8001)),
            grpc: None,
            unix: None,
            request_bytes_max: 64 * 1024 * 1024,
            requests_bytes_max: 256 * 1024 * 1024,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "serving on {0} would let everybody on the network ask the models; use a loopback address such as 127.0.0.1:8001"
    )]
    NotLoopback(SocketAddr),
    #[error("the address {listen} cannot be served; choose another one in [serve]")]
    Bind {
        listen: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("the socket {} cannot be served; choose another path in [serve] unix", path.display())]
    Socket {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// A running server.
#[derive(Debug)]
pub struct ServeHandle {
    pub addr: SocketAddr,
    pub grpc: Option<SocketAddr>,
    tasks: JoinSet<()>,
}

impl ServeHandle {
    /// Waits until the server has ended: after its token was cancelled and the requests in flight were answered.
    pub async fn stopped(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "the inference server crashed");
            }
        }
    }
}

/// Begins to serve; `state` is what `/muster/v1/state` shows. Ends when `stop` is cancelled or the handle is dropped.
pub async fn start(
    config: ServeConfig,
    slots: Slots,
    state: watch::Receiver<serde_json::Value>,
    desk: Desk,
    stop: CancellationToken,
) -> Result<ServeHandle, ServeError> {
    let intake = Intake::new(config.request_bytes_max, config.requests_bytes_max);
    let router =
        routes::router(slots.clone(), state, desk, intake.clone()).merge(grpc::router(slots, intake));
    let (listener, addr) = tcp(config.listen).await?;
    let mut listeners = vec![listener];
    let mut grpc = None;
    if let Some(address) = config.grpc {
        let (listener, address) = tcp(address).await?;
        listeners.push(listener);
        grpc = Some(address);
    }
    if let Some(path) = config.unix {
        let socket = |source| ServeError::Socket { path: path.clone(), source };
        listeners.push(Listener::unix(&path).await.map_err(socket)?);
    }
    let mut tasks = JoinSet::new();
    let seats = Arc::new(Seats::new(listen::CONNECTIONS_MAX, listen::IDLE_MIN));
    for listener in listeners {
        tasks.spawn(listener.serve(router.clone(), Arc::clone(&seats), stop.clone()));
    }
    Ok(ServeHandle { addr, grpc, tasks })
}

async fn tcp(listen: SocketAddr) -> Result<(Listener, SocketAddr), ServeError> {
    if !listen.ip().is_loopback() {
        return Err(ServeError::NotLoopback(listen));
    }
    Listener::tcp(listen).await.map_err(|source| ServeError::Bind { listen, source })
}
