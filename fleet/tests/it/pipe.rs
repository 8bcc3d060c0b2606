//! A broker as the contract sees it: the embedded one behind its front, or Mosquitto with the configuration that we ship.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use muster_fleet::admission::Admission;
use muster_fleet::broker::mosquitto::{self, Setup};
use muster_fleet::broker::{Broker, Insider};
use muster_fleet::clock::TrustClock;
use muster_fleet::pki::Pki;
use muster_protocol::ids::DeviceId;
use rumqttc::v5::MqttOptions;
use rumqttc::{TlsConfiguration, Transport};
use tempfile::TempDir;

use crate::device::{Client, Door};
use crate::server::PATIENCE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Embedded,
    Mosquitto,
}

/// In what the two differ, and in nothing else that the contract asks. Each is proven on both sides.
#[expect(clippy::struct_excessive_bools, reason = "a table of yes and no")]
pub(crate) struct Differences {
    /// A SUBACK says whether the filter was granted. Mosquitto grants everything and then delivers nothing.
    pub(crate) suback_is_honest: bool,
    /// Whoever calls itself by another name is refused. Mosquitto lets it in under the name in its certificate.
    pub(crate) wrong_id_is_refused: bool,
    /// Who loses its session to a newer connection is told so. Mosquitto just closes.
    pub(crate) takeover_is_told: bool,
    /// Several servers of one fleet share the work. The embedded broker has one, the one that it is embedded in.
    pub(crate) serves_replicas: bool,
}

impl Kind {
    pub(crate) fn differences(self) -> Differences {
        match self {
            Self::Embedded => Differences {
                suback_is_honest: true,
                wrong_id_is_refused: true,
                takeover_is_told: true,
                serves_replicas: false,
            },
            Self::Mosquitto => Differences {
                suback_is_honest: false,
                wrong_id_is_refused: false,
                takeover_is_told: false,
                serves_replicas: true,
            },
        }
    }
}

pub(crate) struct Pipe {
    pub(crate) kind: Kind,
    pub(crate) door: Door,
    pub(crate) admission: Admission,
    pub(crate) inside: SocketAddr,
    insider: Insider,
    broker: Option<Broker>,
    _mosquitto: Option<Mosquitto>,
    _dir: TempDir,
}

impl Pipe {
    pub(crate) async fn start(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let pki = Arc::new(Pki::open(&dir.path().join("pki"), &names, TrustClock.now()).unwrap());
        let admission = Admission::new();
        let insider =
            Insider { client_id: "fleet-of-these-tests".to_owned(), password: "a secret".to_owned() };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (broker, mosquitto, outside, inside) = match kind {
            Kind::Embedded => {
                let broker = Broker::start(any, &insider, pki.clone(), admission.clone()).await.unwrap();
                let (outside, inside) = (broker.address(), broker.inside());
                (Some(broker), None, outside, inside)
            }
            Kind::Mosquitto => {
                let mosquitto = Mosquitto::start(&pki, dir.path());
                let (outside, inside) = (mosquitto.listen, mosquitto.fleet_listen);
                (None, Some(mosquitto), outside, inside)
            }
        };
        let door = Door::of(&format!("mqtts://localhost:{}", outside.port()), pki);
        Self { kind, door, admission, inside, insider, broker, _mosquitto: mosquitto, _dir: dir }
    }

    /// As the fleet.
    pub(crate) async fn fleet(&self) -> Client {
        match self.kind {
            Kind::Embedded => Client::connect_as(self.inside, &self.insider).await,
            Kind::Mosquitto => {
                let mut options =
                    MqttOptions::new(self.door.pki.fleet_client_name(), "localhost", self.inside.port());
                let tls = self.door.pki.client_config(None).unwrap();
                options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
                options.set_max_packet_size(Some(1 << 20)).set_clean_start(true);
                Client::open(options).await.unwrap()
            }
        }
    }

    pub(crate) fn observers(&self) -> Door {
        match self.kind {
            Kind::Embedded => self.door.clone(),
            Kind::Mosquitto => Door { port: self.inside.port(), ..self.door.clone() },
        }
    }

    /// As somebody who watches.
    pub(crate) async fn observer(&self, name: &str) -> Client {
        Client::connect(&self.observers(), name).await
    }

    /// As an admitted device.
    pub(crate) async fn device(&self, id: &DeviceId) -> Client {
        self.admission.admit(id.clone());
        Client::connect(&self.door, id.as_str()).await
    }

    pub(crate) async fn stop(self) {
        if let Some(broker) = self.broker {
            broker.shutdown().await;
        }
    }
}

/// A real Mosquitto on free ports, ended with the test.
pub(crate) struct Mosquitto {
    child: Child,
    configuration: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) fleet_listen: SocketAddr,
}

impl Mosquitto {
    /// Starts it in `dir/mosquitto` with the configuration that we ship.
    pub(crate) fn start(pki: &Pki, dir: &Path) -> Self {
        // A free port may be taken by somebody else before the broker takes it.
        let attempt = || {
            let (out, names) = (dir.join("mosquitto"), vec!["localhost".to_owned()]);
            let (listen, fleet_listen) = (free(), free());
            let setup = Setup { out: out.clone(), listen, fleet_listen, names, user: "root".to_owned() };
            mosquitto::write(pki, &setup, TrustClock.now()).unwrap();
            Self::run(out.join(mosquitto::CONFIGURATION), listen, fleet_listen)
        };
        (0..5).find_map(|_| attempt()).expect("mosquitto found no free ports")
    }

    /// Kills it, and starts it on the same ports: it has forgotten everything.
    pub(crate) fn restart(self) -> Self {
        let (configuration, listen, fleet_listen) =
            (self.configuration.clone(), self.listen, self.fleet_listen);
        drop(self);
        Self::run(configuration, listen, fleet_listen).expect("its ports were taken meanwhile")
    }

    fn run(configuration: PathBuf, listen: SocketAddr, fleet_listen: SocketAddr) -> Option<Self> {
        let program = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .expect(
                "mosquitto is not installed; run scripts/packages.sh, or: sudo apt-get install mosquitto",
            );
        let mut child = Command::new(program)
            .arg("-c")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(" running") {
            if log.read_line(&mut said).unwrap() == 0 {
                child.wait().unwrap();
                assert!(said.contains("Address already in use"), "mosquitto did not start:\n{said}");
                return None;
            }
        }
        // It must not wait for somebody who reads.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Some(Self { child, configuration, listen, fleet_listen })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGHUP: certificates and lists are read again.
    pub(crate) fn reload(&self) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Tries until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let trying = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, trying).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}
