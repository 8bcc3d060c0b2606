//! What applications on the box speak: the Open Inference Protocol over REST, and the endpoint for labels.
//!
//! ```text
//!   application ──HTTP──> routes ──> slots (who serves?) ──> model (engine) ──> answer
//!                                       └── counts: stats, panes, predictions that wait for labels
//! ```
//!
//! The fleet's order owns loading: an application can never load, unload or swap a model here. Every error is
//! `{"error": "…"}`; no `Content-Type` is demanded; health bodies are never empty, because clients differ in what they
//! look at. Plain HTTP without a login, and therefore loopback only. What they may say about *when* is in `house`.

mod body;
mod error;
mod house;
mod infer;
mod labels;
mod metadata;
mod routes;
mod slots;

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use body::Intake;
pub use house::{Desk, NotTaken, Said, Word};
pub use slots::{Served, ServedError, SlotLimits, Slots, WorldNow};

/// Whoever can read this file of the state folder may consent.
pub const CONSENT_KEY: &str = "consent.key";

#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Of one request, after it was inflated.
    pub body_bytes_max: usize,
    /// Of all requests that are held at one moment.
    pub bodies_bytes_max: usize,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8001)),
            body_bytes_max: 64 * 1024 * 1024,
            bodies_bytes_max: 256 * 1024 * 1024,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "serving on {0} would let everybody on the network ask the models; use a loopback address such as 127.0.0.1:8001"
    )]
    NotLoopback(SocketAddr),
    #[error("the address {listen} cannot be served; choose another one in [serve] listen")]
    Bind {
        listen: SocketAddr,
        #[source]
        source: std::io::Error,
    },
}

/// A running server.
#[derive(Debug)]
pub struct ServeHandle {
    pub addr: SocketAddr,
    tasks: JoinSet<std::io::Result<()>>,
}

impl ServeHandle {
    /// Waits until the server has ended: after its token was cancelled and the requests in flight were answered.
    pub async fn stopped(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the inference server ended"),
                Err(error) => tracing::error!(%error, "the inference server crashed"),
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
    let listen = config.listen;
    if !listen.ip().is_loopback() {
        return Err(ServeError::NotLoopback(listen));
    }
    let bind = |source| ServeError::Bind { listen, source };
    let listener = TcpListener::bind(listen).await.map_err(bind)?;
    let addr = listener.local_addr().map_err(bind)?;
    let router =
        routes::router(slots, state, desk, Intake::new(config.body_bytes_max, config.bodies_bytes_max));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // Small answers must not wait for more to say.
        let listener = axum::serve::ListenerExt::tap_io(listener, |stream: &mut tokio::net::TcpStream| {
            drop(stream.set_nodelay(true));
        });
        axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await
    });
    Ok(ServeHandle { addr, tasks })
}
