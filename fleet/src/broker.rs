//! The embedded MQTT broker: a pipe on loopback, in memory, behind an access rule of ours.
//!
//! Everything about the broker crate stays in this file: `start(config) → Broker { address, … }`, `shutdown`. It is never
//! trusted for content and never asked to remember: what must survive stands in the database.
//!
//! Who may do what hangs on the client id:
//!
//! | client id | publishes, wills included | subscribes |
//! |---|---|---|
//! | a device id | `d/{id}/up/…` of its own | `d/{id}/down/#`, trust files, the epoch |
//! | the fleet's own, random and with a password that never leaves the process | everything | everything |
//! | any other | nothing | everything but bulk and telemetry: orders, states, status, trust |
//!
//! The last row is for an operator's `mosquitto_sub` on the same machine. Client ids prove nothing yet: on loopback
//! every local process may call itself a device. That ends with certificates, and no other bind is accepted until then.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use mqtt5::broker::auth::{AuthProvider, AuthResult};
use mqtt5::broker::config::{BrokerConfig, StorageBackend, StorageConfig};
use mqtt5::broker::{BrokerShutdownHandle, MqttBroker};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use muster_protocol::ids::DeviceId;
use muster_protocol::limits::PACKET_BYTES_MAX;
use muster_protocol::topic::{self, Down, Topic, Up};
use tokio::task::JoinHandle;

const CLIENTS_MAX: usize = 20_000;
/// Messages queued for one slow client. The default of 10,000 would let one that reads no chunks hold 2.6 GB.
const CLIENT_QUEUE: usize = 1000;

/// The fleet's own way in, made anew at each start.
#[derive(Clone)]
pub struct Insider {
    pub client_id: String,
    pub password: String,
}

pub struct Broker {
    address: SocketAddr,
    stop: BrokerShutdownHandle,
    running: JoinHandle<mqtt5::error::Result<()>>,
}

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("the MQTT broker must not listen on {0}: without encryption it stays on 127.0.0.1")]
    Exposed(SocketAddr),
    #[error("the MQTT broker cannot listen on {address}; is the port taken? Set [mqtt] listen to another")]
    Bind {
        address: SocketAddr,
        #[source]
        source: mqtt5::MqttError,
    },
    #[error("the MQTT broker listens nowhere")]
    Nowhere,
    #[error("the MQTT broker stopped by itself")]
    Stopped(#[source] mqtt5::MqttError),
}

impl Broker {
    /// Starts the broker on a loopback address; port 0 takes any free one.
    pub async fn start(address: SocketAddr, insider: &Insider) -> Result<Self, BrokerError> {
        if !address.ip().is_loopback() {
            return Err(BrokerError::Exposed(address));
        }
        let mut config = BrokerConfig::default()
            .with_bind_address(address)
            .with_max_clients(CLIENTS_MAX)
            .with_max_packet_size(PACKET_BYTES_MAX)
            .with_client_channel_capacity(CLIENT_QUEUE);
        // The default backend writes a folder into the current directory.
        config.storage_config = StorageConfig::new().with_backend(StorageBackend::Memory);
        config.sys_topics_enabled = false;
        // All local clients share one address: the failures of one must not lock out the others.
        config.auth_config.rate_limit.enabled = false;
        let mut broker = MqttBroker::with_config(config)
            .await
            .map_err(|source| BrokerError::Bind { address, source })?
            .with_auth_provider(Arc::new(Access { insider: insider.clone() }));
        let address = broker.local_addr().ok_or(BrokerError::Nowhere)?;
        let stop = broker.shutdown_handle();
        let mut ready = broker.ready_receiver();
        #[expect(
            clippy::disallowed_methods,
            reason = "the handle is kept, awaited in shutdown and aborted on drop"
        )]
        let running = tokio::spawn(async move { broker.run().await });
        // A broker that fails before it is ready drops the sender; `stopped` then says why.
        drop(ready.wait_for(|ready| *ready).await);
        Ok(Self { address, stop, running })
    }

    /// Where it really listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when the broker ends by itself, which it should not.
    pub async fn stopped(&mut self) -> BrokerError {
        match (&mut self.running).await {
            Ok(Err(error)) => BrokerError::Stopped(error),
            Ok(Ok(())) | Err(_) => BrokerError::Nowhere,
        }
    }

    /// Closes all connections and waits until they are.
    pub async fn shutdown(mut self) {
        self.stop.shutdown();
        if let Ok(Err(error)) = (&mut self.running).await {
            tracing::warn!(%error, "the MQTT broker ended with an error");
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
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

struct Access {
    insider: Insider,
}

/// Whom a client id stands for.
enum Client {
    Fleet,
    Device(DeviceId),
    Observer,
}

impl Access {
    fn who(&self, client_id: &str) -> Client {
        if client_id == self.insider.client_id {
            return Client::Fleet;
        }
        client_id.parse().map_or(Client::Observer, Client::Device)
    }

    fn may_publish(&self, client_id: &str, topic: &str) -> bool {
        match self.who(client_id) {
            Client::Fleet => true,
            Client::Device(id) => matches!(topic.parse(), Ok(Topic::Up(device, _)) if device == id),
            Client::Observer => false,
        }
    }

    fn may_subscribe(&self, client_id: &str, filter: &str) -> bool {
        match self.who(client_id) {
            Client::Fleet => true,
            Client::Device(id) => {
                let own = filter == topic::down_to(&id)
                    || matches!(filter.parse(), Ok(Topic::Down(device, _)) if device == id);
                own || is_public(filter)
            }
            Client::Observer => is_public(filter) || is_observable(filter),
        }
    }
}

fn is_public(filter: &str) -> bool {
    filter == topic::every_trust_file() || matches!(filter.parse(), Ok(Topic::Trust(_) | Topic::Epoch))
}

/// What a person may watch of one device or of all: its order, its state, its presence, its events. Compared as whole
/// filters, so that nothing wider slips through a wildcard or a share.
fn is_observable(filter: &str) -> bool {
    match filter.parse() {
        Ok(Topic::Up(_, Up::Hello | Up::Status | Up::State | Up::Event) | Topic::Down(_, Down::Order)) => {
            true
        }
        Ok(Topic::Up(_, Up::Report | Up::Want) | Topic::Down(..) | Topic::Trust(_) | Topic::Epoch) => false,
        Err(_) => {
            [Up::Hello, Up::Status, Up::State, Up::Event].iter().any(|&up| filter == topic::every_device(up))
                || filter == every_order()
        }
    }
}

fn every_order() -> String {
    topic::every_device(Up::State).replace("/up/state", "/down/order")
}

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl AuthProvider for Access {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        _from: SocketAddr,
    ) -> Later<'a, mqtt5::error::Result<AuthResult>> {
        let result = match self.who(&connect.client_id) {
            Client::Fleet if connect.password.as_deref() != Some(self.insider.password.as_bytes()) => {
                AuthResult::fail(ReasonCode::NotAuthorized)
            }
            Client::Fleet | Client::Device(_) | Client::Observer => {
                AuthResult::success_with_user(connect.client_id.clone())
            }
        };
        Box::pin(std::future::ready(Ok(result)))
    }

    fn authorize_publish<'a>(
        &'a self,
        client_id: &str,
        _: Option<&'a str>,
        topic: &'a str,
    ) -> Later<'a, bool> {
        Box::pin(std::future::ready(self.may_publish(client_id, topic)))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        client_id: &str,
        _: Option<&'a str>,
        filter: &'a str,
    ) -> Later<'a, bool> {
        Box::pin(std::future::ready(self.may_subscribe(client_id, filter)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access { insider: Insider { client_id: "fleet-x".to_owned(), password: "secret".to_owned() } }
    }

    fn device() -> DeviceId {
        DeviceId::mint([7; 16])
    }

    #[test]
    fn publishing() {
        let (mine, other) = (device(), DeviceId::mint([8; 16]));
        let check = |client: &str, topic: String, may: bool| {
            assert_eq!(access().may_publish(client, &topic), may, "{client} {topic}");
        };
        check(mine.as_str(), Topic::Up(mine.clone(), Up::State).to_string(), true);
        check(mine.as_str(), Topic::Up(other, Up::State).to_string(), false);
        check(mine.as_str(), Topic::Down(mine.clone(), Down::Order).to_string(), false);
        check(mine.as_str(), Topic::Trust("timestamp.json".to_owned()).to_string(), false);
        check(mine.as_str(), format!("muster/1/d/{mine}/up/state/x"), false);
        check("observer", Topic::Up(mine.clone(), Up::State).to_string(), false);
        check("fleet-x", Topic::Down(mine, Down::Order).to_string(), true);
    }

    #[test]
    fn subscribing() {
        let (mine, other) = (device(), DeviceId::mint([8; 16]));
        let check = |client: &str, filter: &str, may: bool| {
            assert_eq!(access().may_subscribe(client, filter), may, "{client} {filter}");
        };
        check(mine.as_str(), &topic::down_to(&mine), true);
        check(mine.as_str(), &topic::every_trust_file(), true);
        check(mine.as_str(), "muster/1/s/epoch", true);
        for wrong in [
            "#",
            "+/+/#",
            "muster/1/#",
            "muster/1/d/+/down/#",
            &topic::down_to(&other),
            &format!("$share/x/{}", topic::down_to(&mine)),
            &format!("$share/x/{}", topic::down_to(&other)),
            &topic::every_device(Up::State),
            "$SYS/#",
        ] {
            check(mine.as_str(), wrong, false);
        }
        check("mosq", "muster/1/d/+/down/order", true);
        check("mosq", "muster/1/d/+/up/state", true);
        check("mosq", "muster/1/d/+/up/report", false);
        check("mosq", "#", false);
        check("mosq", "$share/a/muster/1/d/+/up/state", false);
        check("mosq", &topic::down_to(&mine), false);
    }

    #[tokio::test]
    async fn only_loopback() {
        let insider = access().insider;
        let error = Broker::start(SocketAddr::from(([0, 0, 0, 0], 0)), &insider).await.unwrap_err();
        assert!(matches!(error, BrokerError::Exposed(_)), "{error}");
    }
}
