//! The door for devices: an HTTPS listener of its own, where boxes get their certificates. Nothing else is behind it: no
//! operator's API, no dashboard, no file.
//!
//! ```text
//!   socket ─▶ seat (in all, and for each address) ─▶ TLS 1.3 ─▶ head ─▶ body ─▶ answer ─▶ registrar
//!             a deadline on each step; whoever is slow loses its seat and costs nobody anything
//! ```
//! Strangers may knock here, so everything is bounded before it is believed. Who shows a device's certificate has proven
//! its key in the handshake; that matters for a change of keys only.

mod answer;
mod problem;
mod throttle;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use muster_protocol::ids::DeviceId;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::clock::TrustClock;
use crate::pki::certificate::Certificate;
use crate::pki::{ClientAuth, Pki, PkiError, PublicKeyInfo};
use crate::registrar::Registrar;

/// Connections at once. A ward that wakes up together waits its turn.
const SEATS: usize = 512;
/// Of one address: a hospital may stand behind one, a single stranger must not take all seats.
const SEATS_PER_ADDRESS: usize = 128;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// However busy it is, a connection ends.
const CONNECTION_LIFE: Duration = Duration::from_mins(1);
/// Longest head of a request, bytes; hyper's least.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// After the system refused a connection, for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    #[error("cannot listen on {address}; is the port taken? Set [door] listen to another")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("the door has no TLS")]
    Tls(#[from] PkiError),
}

/// The device that a connection's certificate speaks for, and its key.
#[derive(Clone, Debug)]
struct Shown {
    device: DeviceId,
    key: PublicKeyInfo,
}

#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
}

impl Door {
    pub async fn listen(address: SocketAddr, pki: &Pki) -> Result<Self, DoorError> {
        let failed = |source| DoorError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = pki.server_config(ClientAuth::OptionalDevice)?;
        Ok(Self { listener, address, tls })
    }

    /// Where it really listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`.
    pub async fn run(self, registrar: Arc<Registrar>, clock: TrustClock, stop: CancellationToken) {
        let router = answer::router(registrar, clock);
        let tls = TlsAcceptor::from(self.tls);
        let mut connections: JoinSet<IpAddr> = JoinSet::new();
        let mut taken: BTreeMap<IpAddr, usize> = BTreeMap::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(left) = connections.join_next() => leave(&mut taken, left.ok()),
                accepted = self.listener.accept(), if connections.len() < SEATS => match accepted {
                    Ok((stream, peer)) => {
                        let peer = peer.ip().to_canonical();
                        let seats = taken.entry(peer).or_default();
                        if *seats >= SEATS_PER_ADDRESS {
                            tracing::debug!(%peer, "too many connections of one address; one was turned away");
                            continue;
                        }
                        *seats += 1;
                        let connection = serve(stream, tls.clone(), router.clone());
                        connections.spawn(async move {
                            connection.await;
                            peer
                        });
                    }
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "the door cannot take a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

/// Frees a seat. A task that ended without saying whose seat it had would keep it; handlers that panic are caught before.
fn leave(taken: &mut BTreeMap<IpAddr, usize>, peer: Option<IpAddr>) {
    let Some(peer) = peer else { return };
    if let Some(seats) = taken.get_mut(&peer) {
        *seats -= 1;
        if *seats == 0 {
            taken.remove(&peer);
        }
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, router: Router) {
    stream.set_nodelay(true).ok();
    let stream = match tokio::time::timeout(HANDSHAKE_WITHIN, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        // Scanners do this all day; a box that cannot come in says so itself.
        Ok(Err(error)) => return tracing::debug!(%error, "a handshake at the door failed"),
        Err(_) => return tracing::debug!("a handshake at the door took too long"),
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let shown = certificates.and_then(|chain| chain.first()).and_then(|leaf| Shown::of(leaf));
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(shown) = &shown {
            request.extensions_mut().insert(shown.clone());
        }
        let router = router.clone();
        async move { Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_LIFE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection at the door broke"),
        Err(_) => tracing::debug!("a connection at the door lasted too long"),
    }
}

impl Shown {
    /// The handshake has verified it.
    fn of(leaf: &[u8]) -> Option<Self> {
        let certificate = Certificate::parse(leaf)?;
        let device = certificate.device()?;
        let key = PublicKeyInfo::from_spki(&certificate.spki_der).ok()?;
        Some(Self { device, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_given_back() {
        let peer = IpAddr::from([10, 0, 0, 1]);
        let mut taken = BTreeMap::from([(peer, 2)]);
        leave(&mut taken, Some(peer));
        assert_eq!(taken.get(&peer), Some(&1));
        leave(&mut taken, None);
        leave(&mut taken, Some(peer));
        leave(&mut taken, Some(peer));
        assert!(taken.is_empty());
    }
}
