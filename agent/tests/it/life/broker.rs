//! The embedded broker, on a runtime of its own so that it can be killed: sockets close, retained messages are gone. Boxes
//! come through a front that speaks TLS; the fleet's double uses the plain port behind it.

use std::net::SocketAddr;
use std::time::Duration;

use mqtt5::broker::MqttBroker;
use mqtt5::broker::config::{BrokerConfig, StorageBackend, StorageConfig};
use tokio::runtime::Runtime;

use super::front::Front;
use super::until;

pub(super) struct Broker {
    pub(super) address: SocketAddr,
    pub(super) front: Front,
    runtime: Option<Runtime>,
}

impl Broker {
    pub(super) async fn start() -> Self {
        let (address, runtime) = start_on(([127, 0, 0, 1], 0).into()).await;
        Self { address, front: Front::start(address), runtime: Some(runtime) }
    }

    /// Where boxes find it.
    pub(super) fn mqtts(&self) -> String {
        format!("mqtts://{}", self.front.address)
    }

    /// Kills it and starts another on the same port, which knows nothing of the first.
    pub(super) async fn restart(&mut self) {
        self.kill();
        self.runtime = Some(start_on(self.address).await.1);
    }

    pub(super) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn start_on(address: SocketAddr) -> (SocketAddr, Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // The port of a killed broker is free a moment later.
    let mut broker = None;
    while broker.is_none() {
        broker =
            runtime.spawn(async move { MqttBroker::with_config(config(address)).await.ok() }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut broker = broker.unwrap();
    let address = broker.local_addr().unwrap();
    drop(runtime.spawn(async move { broker.run().await }));
    until("the broker to listen", || std::net::TcpStream::connect(address).ok()).await;
    (address, runtime)
}

fn config(address: SocketAddr) -> BrokerConfig {
    let mut config = BrokerConfig::default().with_bind_address(address).with_max_packet_size(1 << 20);
    config.storage_config = StorageConfig::new().with_backend(StorageBackend::Memory);
    config.auth_config = config.auth_config.with_allow_anonymous(true);
    config.sys_topics_enabled = false;
    config.client_channel_capacity = 1000;
    config
}
