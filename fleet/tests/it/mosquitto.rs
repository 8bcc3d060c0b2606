//! A real Mosquitto with the configuration that `muster-fleet broker-config` writes: certificates in time, out of time and
//! revoked, and the whole fleet server on it.

use std::time::Duration;

use muster_fleet::broker::mosquitto::ON_CRL;
use muster_fleet::clock::TrustClock;
use muster_fleet::config::{Config, MqttConfig};
use muster_fleet::pki::{Pki, Revoked};
use muster_protocol::ids::DeviceId;
use muster_protocol::message::Message as _;
use muster_protocol::topic::Up;

use crate::device::{Client, Device, Door, Holder};
use crate::pipe::{Mosquitto, until};
use crate::server::{Server, config};

const DAY: Duration = Duration::from_hours(24);

fn device() -> DeviceId {
    DeviceId::mint([1; 16])
}

/// A configuration on an external broker, and the authorities it starts with.
fn outside(data: &std::path::Path) -> (Config, Pki, Mosquitto) {
    let config = config(data);
    let pki = Pki::open(&data.join("pki"), &config.names, TrustClock.now()).unwrap();
    let mosquitto = Mosquitto::start(&pki, data);
    let url = |address: std::net::SocketAddr| format!("mqtts://localhost:{}", address.port()).parse().ok();
    let mqtt = MqttConfig {
        public: url(mosquitto.listen),
        broker: url(mosquitto.fleet_listen),
        on_crl: vec![
            "env".to_owned(),
            format!("RELOAD=kill -HUP {}", mosquitto.pid()),
            data.join("mosquitto").join(ON_CRL).display().to_string(),
        ],
        ..config.mqtt
    };
    (Config { mqtt, ..config }, pki, mosquitto)
}

#[tokio::test]
async fn certificates_in_time_out_of_time_and_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let (_, pki, mosquitto) = outside(dir.path());
    let door = Door::of(&format!("mqtts://localhost:{}", mosquitto.listen.port()), pki.into());
    let now = TrustClock.now();
    let comes_in = async |holder: &Holder| {
        Client::try_connect_with(&door, device().as_str(), holder, None).await.is_ok()
    };
    let good = door.holder(device().as_str());
    assert!(comes_in(&good).await);
    assert!(!comes_in(&door.holder_at(device().as_str(), now.minus(91 * DAY))).await, "an expired one");
    assert!(comes_in(&door.holder(device().as_str())).await, "a renewed one");
    // Observers and the fleet have no place on the listener for boxes, nor boxes on theirs.
    assert!(Client::try_connect(&door, "o-ward", None).await.is_err());
    let fleets = Door { port: mosquitto.fleet_listen.port(), ..door.clone() };
    assert!(Client::try_connect(&fleets, device().as_str(), None).await.is_err());
    // Revoked: at the next connection after the list was read again.
    door.pki.write_crl(&[Revoked { serial: good.serial.clone(), at: now }], now).unwrap();
    std::fs::copy(door.pki.crl_path(), dir.path().join("mosquitto/device.crl.pem")).unwrap();
    mosquitto.reload();
    until("the revoked certificate is refused", async || !comes_in(&good).await).await;
    assert!(comes_in(&door.holder(device().as_str())).await, "another of the same device");
    // After rotation both authorities' devices come in.
    let old = door.holder(device().as_str());
    door.pki.rotate_device_ca(now).unwrap();
    for file in ["device-ca.pem", "device.crl.pem"] {
        std::fs::copy(door.pki.dir().join(file), dir.path().join("mosquitto").join(file)).unwrap();
    }
    mosquitto.reload();
    let new = door.holder(device().as_str());
    until("the new authority is trusted", async || comes_in(&new).await).await;
    assert!(comes_in(&old).await);
    assert!(!comes_in(&good).await, "rotation forgot what was revoked");
}

#[tokio::test]
async fn the_fleet_server_runs_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let (config, _, mosquitto) = outside(dir.path());
    let server = Server::start_with(config).await;
    assert_eq!(server.fleet.addresses.mqtt, format!("mqtts://localhost:{}", mosquitto.listen.port()));
    let mut device = Device::connect(&server, 1, 1).await;
    // The server may still be on its way to the broker; a box says hello again until it is answered.
    let ack = loop {
        if let Ok(ack) = tokio::time::timeout(Duration::from_secs(2), device.hello()).await {
            break ack;
        }
    };
    assert_eq!((ack.boot, ack.event), (device.boot.clone(), 0));
    device.say(Up::Event, device.event(1, 1).to_json()).await;
    assert_eq!(device.ack().await.event, 1);
    // Revoking tells the broker by the hook that we ship.
    let door = server.mqtt();
    let holder = door.holder(device.id.as_str());
    let now = TrustClock.now();
    assert!(Client::try_connect_with(&door, device.id.as_str(), &holder, None).await.is_ok());
    server.fleet.pki.write_crl(&[Revoked { serial: holder.serial.clone(), at: now }], now).unwrap();
    until("the broker refuses what was revoked", async || {
        Client::try_connect_with(&door, device.id.as_str(), &holder, None).await.is_err()
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_broker_that_restarts_is_given_everything_again() {
    let dir = tempfile::tempdir().unwrap();
    let (config, _, mosquitto) = outside(dir.path());
    let server = Server::start_with(config).await;
    let publisher = crate::publisher::Publisher::begin(&server.fleet, &[]).await;
    drop(publisher);
    let door = server.mqtt();
    let retained = async |door: &Door| {
        let Ok(mut client) = Client::try_connect(door, device().as_str(), None).await else { return false };
        client.subscribe(&muster_protocol::topic::every_trust_file()).await && client.all().await.len() >= 4
    };
    until("the trust files are there", async || retained(&door).await).await;
    let again = mosquitto.restart();
    until("they are there again", async || retained(&door).await).await;
    drop(again);
    server.stop().await;
}
