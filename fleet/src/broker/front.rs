//! The door of the embedded broker: mutual TLS, and a place for each connection.
//!
//! ```text
//!   accept ─▶ a task of its own ─▶ TLS within 5 s ─▶ whose certificate? admitted? a seat? ─▶ first bytes within 5 s
//!          ─▶ a port of this machine, noted for this name ─▶ copy both ways until one side ends, the device is barred,
//!             or newer connections have its seat
//! ```
//! Whoever has not yet said who it is costs little and cannot stay: strangers have a bound in all and per address, and time
//! limits. So a silent socket harms nobody, which is why this file exists. Whoever did say it has two seats, not more.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::CLIENTS_MAX;
use super::guests::Guests;
use super::seats::Seats;
use crate::admission::Admission;
use crate::pki::{Certificate, Peer, Pki};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long the first bytes may take after it: MQTT's CONNECT. The broker limits how long the rest of it takes.
const FIRST_BYTES: Duration = Duration::from_secs(5);
/// Connections that have not yet said who they are, in all.
const STRANGERS_MAX: usize = 2048;
/// And from one address. A site may hide all its boxes behind one.
const STRANGERS_PER_ADDRESS_MAX: usize = 256;
/// Bytes on the way in each direction of each connection: one TLS record.
const BUFFER: usize = 16 * 1024;
/// Pause when the system has no sockets left.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Front {
    pub(super) listener: TcpListener,
    pub(super) tls: Arc<rustls::ServerConfig>,
    pub(super) pki: Arc<Pki>,
    pub(super) admission: Admission,
    pub(super) guests: Guests,
    /// Where the broker is.
    pub(super) inside: SocketAddr,
}

/// What every connection needs.
struct Shared {
    acceptor: TlsAcceptor,
    pki: Arc<Pki>,
    admission: Admission,
    guests: Guests,
    seats: Seats,
    inside: SocketAddr,
}

impl Front {
    /// Serves until `stop`, then cuts everybody.
    pub(super) async fn run(self, stop: CancellationToken) {
        let shared = Arc::new(Shared {
            acceptor: TlsAcceptor::from(self.tls),
            pki: self.pki,
            admission: self.admission,
            guests: self.guests,
            seats: Seats::default(),
            inside: self.inside,
        });
        let places = Arc::new(Semaphore::new(CLIENTS_MAX));
        let strangers = Strangers::default();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let (socket, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection to the broker could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let place = places.clone().try_acquire_owned();
            let (Ok(place), Some(stranger)) = (place, strangers.greet(from.ip())) else {
                tracing::debug!(%from, "turned away: too many connections");
                continue;
            };
            connections.spawn(shared.clone().serve(socket, from, stranger, place));
        }
        connections.shutdown().await;
    }
}

impl Shared {
    /// One connection, from its first byte to its last.
    async fn serve(
        self: Arc<Self>,
        socket: TcpStream,
        from: SocketAddr,
        stranger: Stranger,
        _place: OwnedSemaphorePermit,
    ) {
        let Some((mut outside, peer)) = self.meet(socket, from).await else { return };
        let name = match &peer {
            Peer::Device(device) if !self.admission.admits(device) => {
                tracing::info!(device.id = %device, %from, "a device that is not admitted was refused");
                return;
            }
            Peer::Device(device) => device.to_string(),
            Peer::Client(name) => name.clone(),
        };
        let Some(seat) = self.seats.take(&name, Instant::now()) else {
            tracing::info!(%name, %from, "turned away: it connects too often");
            return;
        };
        tokio::select! {
            passed = self.pass(&mut outside, stranger, &name) => if let Err(error) = passed {
                tracing::debug!(%name, %error, "a connection ended");
            },
            () = self.barred(&peer) => tracing::info!(%name, "a device was barred; its connection is cut"),
            () = seat.cut() => tracing::info!(%name, %from, "newer ones came; its oldest connection is cut"),
        }
    }

    /// TLS, and whose certificate it is.
    async fn meet(&self, socket: TcpStream, from: SocketAddr) -> Option<(TlsStream<TcpStream>, Peer)> {
        // Without it, small packets wait for each other.
        socket.set_nodelay(true).ok()?;
        let stream = match tokio::time::timeout(HANDSHAKE, self.acceptor.accept(socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%from, %error, "no TLS connection came about");
                return None;
            }
            Err(_) => return None,
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first())?;
        let peer = Certificate::parse(certificate).and_then(|certificate| self.pki.peer(&certificate))?;
        Some((stream, peer))
    }

    /// Waits for the first bytes, connects inside under this name and copies both ways.
    async fn pass(
        &self,
        outside: &mut TlsStream<TcpStream>,
        stranger: Stranger,
        name: &str,
    ) -> std::io::Result<()> {
        let mut first = vec![0; BUFFER];
        let length = tokio::time::timeout(FIRST_BYTES, outside.read(&mut first)).await??;
        if length == 0 {
            return Ok(());
        }
        drop(stranger);
        let mut inside = self.guests.visit(name, self.inside).await?;
        inside.stream.set_nodelay(true)?;
        inside.stream.write_all(&first[..length]).await?;
        drop(first);
        copy_bidirectional_with_sizes(outside, &mut inside.stream, BUFFER, BUFFER).await?;
        Ok(())
    }

    /// Returns when the device may no longer be connected.
    async fn barred(&self, peer: &Peer) {
        match peer {
            Peer::Client(_) => std::future::pending().await,
            Peer::Device(device) => {
                let mut changed = self.admission.changed();
                // Nobody is admitted any more if its keeper is gone.
                changed.wait_for(|admitted| !admitted.contains(device)).await.map(drop).unwrap_or_default();
            }
        }
    }
}

/// Connections that have not yet said who they are, by address.
#[derive(Clone, Default)]
struct Strangers(Arc<Mutex<HashMap<IpAddr, usize>>>);

struct Stranger {
    strangers: Strangers,
    from: IpAddr,
}

impl Strangers {
    /// `None` if there are too many.
    fn greet(&self, from: IpAddr) -> Option<Stranger> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.values().sum::<usize>() >= STRANGERS_MAX {
            return None;
        }
        let count = counts.entry(from).or_default();
        if *count >= STRANGERS_PER_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        Some(Stranger { strangers: self.clone(), from })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut counts = self.strangers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_few_per_address_and_in_all() {
        let strangers = Strangers::default();
        let address =
            |n: usize| IpAddr::from([10, 0, u8::try_from(n / 256).unwrap(), u8::try_from(n % 256).unwrap()]);
        let mut here: Vec<_> =
            (0..STRANGERS_PER_ADDRESS_MAX).map(|_| strangers.greet(address(0)).unwrap()).collect();
        assert!(strangers.greet(address(0)).is_none());
        let elsewhere: Vec<_> = (1..).map_while(|n| strangers.greet(address(n))).collect();
        assert_eq!(here.len() + elsewhere.len(), STRANGERS_MAX);
        here.pop();
        assert!(strangers.greet(address(0)).is_some());
        drop((here, elsewhere));
        assert!(strangers.0.lock().unwrap().is_empty());
    }
}
