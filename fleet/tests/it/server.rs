//! A fleet server in this process, on a folder of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster_fleet::config::{Config, DoorConfig, MqttConfig};
use muster_fleet::fleet::Fleet;
use muster_fleet::serve::{self, ServeError};
use muster_fleet::store::Control;
use muster_protocol::ids::DeviceId;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::device::Door;

/// No wait in these tests is longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) struct Server {
    pub(crate) fleet: Arc<Fleet>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    pub(crate) async fn start(data: &Path) -> Self {
        Self::start_with(config(data)).await
    }

    pub(crate) async fn start_with(config: Config) -> Self {
        let stop = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        #[expect(clippy::disallowed_methods, reason = "the handle is its owner: stop and kill wait for it")]
        let running = tokio::spawn(serve::run(config, stop.clone(), ready));
        let Ok(fleet) = is_ready.await else { panic!("the server did not start: {:?}", running.await) };
        Self { fleet, stop, running }
    }

    /// As Ctrl-C does.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }

    /// All at once, as nearly as one process can: no farewell to anybody.
    pub(crate) async fn kill(self) {
        self.running.abort();
        assert!(self.running.await.unwrap_err().is_cancelled());
    }

    /// The way to its broker.
    pub(crate) fn mqtt(&self) -> Door {
        Door::of(&self.fleet.addresses.mqtt, self.fleet.pki.clone())
    }

    /// Lets a device in, as if a person had accepted it.
    pub(crate) async fn admit(&self, device: &DeviceId) {
        crate::member::enrolled(&self.fleet, device, "box", "er-1").await;
    }

    pub(crate) async fn read(&self) -> Control {
        self.fleet.store.read().await.unwrap()
    }

    /// Looks after every commit until there is an answer.
    #[expect(clippy::future_not_send, reason = "a test waits on its own thread")]
    pub(crate) async fn until<T>(&self, what: &str, look: impl AsyncFn(&Fleet) -> Option<T>) -> T {
        let mut commits = self.fleet.store.changes().commits();
        let looking = async {
            loop {
                commits.mark_unchanged();
                if let Some(found) = look(&self.fleet).await {
                    return found;
                }
                commits.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, looking)
            .await
            .unwrap_or_else(|_| panic!("waited in vain until {what}"))
    }
}

/// For what no commit announces, such as a counter or a file.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool + Send + Sync) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

pub(crate) fn config(data: &Path) -> Config {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Config {
        data: data.to_owned(),
        http: any,
        door: DoorConfig { listen: any, ..DoorConfig::default() },
        mqtt: MqttConfig { listen: any, ..MqttConfig::default() },
        ..Config::default()
    }
}
