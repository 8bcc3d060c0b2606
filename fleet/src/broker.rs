//! The embedded MQTT broker: a pipe in memory, behind a door of ours.
//!
//! ```text
//!   box ──TLS 1.3, both sides──▶ front ──loopback──▶ broker ◀──loopback, password── the fleet's own client
//!                                  │  name in the certificate = client id, for this connection only
//! ```
//! Everything about the broker crate stays in this folder: `start → Broker { address, inside, … }`, `shutdown`. It is never
//! trusted for content and never asked to remember: what must survive stands in the database. Why the broker's own TLS is
//! not used is told in docs/decisions/0006.

mod access;
mod front;
mod guests;
pub mod hook;
pub mod mosquitto;
mod seats;

use std::net::SocketAddr;
use std::sync::Arc;

use mqtt5::broker::config::{BrokerConfig, StorageBackend, StorageConfig};
use mqtt5::broker::{BrokerShutdownHandle, MqttBroker};
use muster_protocol::limits::PACKET_BYTES_MAX;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::pki::{ClientAuth, Pki, PkiError};
use access::Access;
use front::Front;
use guests::Guests;

const CLIENTS_MAX: usize = 20_000;
/// Messages queued for one slow client. The default of 10,000 would let one that reads no chunks hold 2.6 GB.
const CLIENT_QUEUE: usize = 1000;
/// Nobody needs more; a filter costs memory and time at each message.
const SUBSCRIPTIONS_MAX: usize = 64;

/// The fleet's own way in, made anew at each start.
#[derive(Clone)]
pub struct Insider {
    pub client_id: String,
    pub password: String,
}

pub struct Broker {
    address: SocketAddr,
    inside: SocketAddr,
    stop: BrokerShutdownHandle,
    running: JoinHandle<mqtt5::error::Result<()>>,
    front_stop: CancellationToken,
    front: JoinHandle<()>,
}

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("the MQTT broker cannot listen on {address}; is the port taken? Set [mqtt] listen to another")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("the MQTT broker found no free port on 127.0.0.1")]
    Bind(#[source] mqtt5::MqttError),
    #[error("the MQTT broker has no certificate to show")]
    Pki(#[from] PkiError),
    #[error("the MQTT broker listens nowhere")]
    Nowhere,
    #[error("the MQTT broker stopped by itself")]
    Stopped(#[source] mqtt5::MqttError),
}

impl Broker {
    /// Starts broker and front; port 0 takes any free one.
    pub async fn start(
        listen: SocketAddr,
        insider: &Insider,
        pki: Arc<Pki>,
        admission: Admission,
    ) -> Result<Self, BrokerError> {
        let failed = |source| BrokerError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = pki.server_config(ClientAuth::DevicesAndClients)?;
        let guests = Guests::default();
        let access = Access { insider: insider.clone(), guests: guests.clone() };
        let mut broker = MqttBroker::with_config(config())
            .await
            .map_err(BrokerError::Bind)?
            .with_auth_provider(Arc::new(access));
        let inside = broker.local_addr().ok_or(BrokerError::Nowhere)?;
        let stop = broker.shutdown_handle();
        let mut ready = broker.ready_receiver();
        #[expect(
            clippy::disallowed_methods,
            reason = "the handle is kept, awaited in shutdown and aborted on drop"
        )]
        let running = tokio::spawn(async move { broker.run().await });
        // A broker that fails before it is ready drops the sender; `stopped` then says why.
        drop(ready.wait_for(|ready| *ready).await);
        let front = Front { listener, tls, pki, admission, guests, inside };
        let front_stop = CancellationToken::new();
        #[expect(
            clippy::disallowed_methods,
            reason = "the handle is kept, awaited in shutdown and aborted on drop"
        )]
        let front = tokio::spawn(front.run(front_stop.clone()));
        Ok(Self { address, inside, stop, running, front_stop, front })
    }

    /// Where boxes find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the fleet's own client finds it.
    pub fn inside(&self) -> SocketAddr {
        self.inside
    }

    /// Returns when the broker ends by itself, which it should not.
    pub async fn stopped(&mut self) -> BrokerError {
        tokio::select! {
            ended = &mut self.running => match ended {
                Ok(Err(error)) => BrokerError::Stopped(error),
                Ok(Ok(())) | Err(_) => BrokerError::Nowhere,
            },
            _ = &mut self.front => BrokerError::Nowhere,
        }
    }

    /// Closes all connections and waits until they are.
    pub async fn shutdown(mut self) {
        self.front_stop.cancel();
        if (&mut self.front).await.is_err() {
            tracing::warn!("the broker's front did not end well");
        }
        self.stop.shutdown();
        if let Ok(Err(error)) = (&mut self.running).await {
            tracing::warn!(%error, "the MQTT broker ended with an error");
        }
    }
}

fn config() -> BrokerConfig {
    let mut config = BrokerConfig::default()
        .with_bind_address(([127, 0, 0, 1], 0))
        .with_max_clients(CLIENTS_MAX + 1)
        .with_max_packet_size(PACKET_BYTES_MAX)
        .with_client_channel_capacity(CLIENT_QUEUE);
    config.max_subscriptions_per_client = SUBSCRIPTIONS_MAX;
    // The default backend writes a folder into the current directory.
    config.storage_config = StorageConfig::new().with_backend(StorageBackend::Memory);
    config.sys_topics_enabled = false;
    // All clients come from the front's address: the failures of one must not lock out the others.
    config.auth_config.rate_limit.enabled = false;
    config
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.front.abort();
        self.running.abort();
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("address", &self.address).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Insider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Insider").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}
