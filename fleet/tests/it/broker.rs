//! The front of the embedded broker: who is let in, who is cut, and who cannot harm anybody.

use std::time::Duration;

use muster_protocol::ids::DeviceId;
use muster_protocol::topic::{Down, Topic, Up, down_to, every_device};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::LastWill;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use muster_fleet::clock::TrustClock;
use muster_fleet::pki::Revoked;

use crate::device::{Client, Door};
use crate::pipe::{Kind, Pipe};
use crate::server::PATIENCE;

fn device() -> DeviceId {
    DeviceId::mint([1; 16])
}

async fn is_refused(door: &Door, id: &str) -> bool {
    Client::try_connect(door, id, None).await.is_err()
}

#[tokio::test]
async fn only_the_admitted_are_let_in() {
    let pipe = Pipe::start(Kind::Embedded).await;
    assert!(is_refused(&pipe.door, device().as_str()).await, "nobody admitted it");
    pipe.admission.admit(DeviceId::mint([2; 16]));
    assert!(is_refused(&pipe.door, device().as_str()).await, "another was admitted");
    pipe.admission.admit(device());
    assert!(!is_refused(&pipe.door, device().as_str()).await);
    // Observers need no admission: they have a certificate, and it is short-lived.
    pipe.observer("o-ward").await;
    pipe.stop().await;
}

#[tokio::test]
async fn certificates_that_are_not_good_are_refused() {
    let pipe = Pipe::start(Kind::Embedded).await;
    pipe.admission.admit(device());
    let now = TrustClock.now();
    let elsewhere = Pipe::start(Kind::Embedded).await;
    let day = Duration::from_hours(24);
    let revoked = pipe.door.holder(device().as_str());
    pipe.door.pki.write_crl(&[Revoked { serial: revoked.serial.clone(), at: now }], now).unwrap();
    for (what, holder) in [
        ("expired", pipe.door.holder_at(device().as_str(), now.minus(91 * day))),
        ("not yet good", pipe.door.holder_at(device().as_str(), now.plus(day))),
        ("another fleet's", elsewhere.door.holder(device().as_str())),
        ("revoked", revoked),
    ] {
        let refused = Client::try_connect_with(&pipe.door, device().as_str(), &holder, None).await;
        assert!(refused.is_err(), "{what}");
    }
    // A renewed one is let in again.
    assert!(!is_refused(&pipe.door, device().as_str()).await);
    elsewhere.stop().await;
    pipe.stop().await;
}

#[tokio::test]
async fn a_barred_device_is_cut_at_once_and_its_will_is_published() {
    let pipe = Pipe::start(Kind::Embedded).await;
    let topic = Topic::Up(device(), Up::Status);
    let mut fleet = pipe.fleet().await;
    assert!(fleet.subscribe(&every_device(Up::Status)).await);
    pipe.admission.admit(device());
    let will = LastWill::new(topic.to_string(), "gone", QoS::AtLeastOnce, true, None);
    let mut victim = Client::try_connect(&pipe.door, device().as_str(), Some(will)).await.unwrap();
    let mut other = pipe.device(&DeviceId::mint([2; 16])).await;
    pipe.admission.bar(&device());
    victim.ended().await;
    assert_eq!(fleet.next_on(&topic).await.payload, "gone");
    assert!(is_refused(&pipe.door, device().as_str()).await);
    assert!(other.publish(&Topic::Up(DeviceId::mint([2; 16]), Up::State), false, Vec::new()).await);
    pipe.stop().await;
}

#[tokio::test]
async fn silent_sockets_harm_nobody_and_are_closed() {
    let pipe = Pipe::start(Kind::Embedded).await;
    let mut plain = Vec::new();
    let mut greeted = Vec::new();
    for _ in 0..50 {
        plain.push(TcpStream::connect(pipe.door.address()).await.unwrap());
    }
    for number in 10..20 {
        // These did shake hands, and then say nothing.
        let id = DeviceId::mint([number; 16]);
        pipe.admission.admit(id.clone());
        greeted.push(pipe.door.dial(&pipe.door.holder(id.as_str())).await);
    }
    let start = tokio::time::Instant::now();
    let mut other = pipe.device(&DeviceId::mint([2; 16])).await;
    assert!(other.subscribe(&down_to(&DeviceId::mint([2; 16]))).await);
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "it waited {:?} behind silent sockets",
        start.elapsed()
    );
    let closing = async {
        for socket in &mut plain {
            assert_eq!(socket.read(&mut [0; 16]).await.unwrap_or(0), 0);
        }
        for stream in &mut greeted {
            assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0);
        }
    };
    tokio::time::timeout(PATIENCE, closing).await.expect("silent sockets were left open");
    pipe.stop().await;
}

#[tokio::test]
async fn one_box_has_two_connections_and_no_more() {
    let pipe = Pipe::start(Kind::Embedded).await;
    pipe.admission.admit(device());
    let holder = pipe.door.holder(device().as_str());
    // One byte of MQTT, and nothing more: no stranger any longer, and for a minute no client of the broker.
    let greet = async || {
        let mut stream = pipe.door.dial(&holder).await;
        stream.write_all(b"\x10").await.unwrap();
        stream
    };
    let is_cut = async |stream: &mut TlsStream<TcpStream>, within: Duration| {
        tokio::time::timeout(within, stream.read(&mut [0; 16])).await.is_ok()
    };
    let mut first = greet().await;
    let mut second = greet().await;
    let soon = Duration::from_millis(300);
    assert!(!is_cut(&mut first, soon).await && !is_cut(&mut second, soon).await);
    let mut third = greet().await;
    assert!(is_cut(&mut first, PATIENCE).await, "one box holds three places");
    assert!(!is_cut(&mut second, soon).await && !is_cut(&mut third, soon).await);
    // The box itself comes in: what held its places has to go.
    let mut real = Client::try_connect_with(&pipe.door, device().as_str(), &holder, None).await.unwrap();
    assert!(is_cut(&mut second, PATIENCE).await);
    assert!(real.publish(&Topic::Up(device(), Up::State), false, Vec::new()).await);
    pipe.stop().await;
}

#[tokio::test]
async fn a_box_that_comes_too_often_waits_and_others_do_not() {
    let pipe = Pipe::start(Kind::Embedded).await;
    pipe.admission.admit(device());
    let until = async |refused: bool| {
        let trying = async {
            while is_refused(&pipe.door, device().as_str()).await != refused {
                if !refused {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        tokio::time::timeout(PATIENCE, trying).await.unwrap_or_else(|_| panic!("never refused: {refused}"));
    };
    until(true).await;
    pipe.device(&DeviceId::mint([2; 16])).await;
    until(false).await;
    pipe.stop().await;
}

#[tokio::test]
async fn garbage_and_plain_mqtt_are_turned_away() {
    let pipe = Pipe::start(Kind::Embedded).await;
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\x10\x0d\0\x04MQTT\x05\x02\0\x3c\0\0\0".to_vec(),
        vec![0xff; 4096],
    ] {
        let mut socket = TcpStream::connect(pipe.door.address()).await.unwrap();
        drop(socket.write_all(&bytes).await);
        let ending = async { while matches!(socket.read(&mut [0; 256]).await, Ok(1..)) {} };
        tokio::time::timeout(PATIENCE, ending).await.unwrap();
    }
    pipe.device(&device()).await;
    pipe.stop().await;
}

#[tokio::test]
async fn the_port_inside_is_nobodys_but_the_fleets() {
    let pipe = Pipe::start(Kind::Embedded).await;
    pipe.admission.admit(device());
    let fleet = "fleet-of-these-tests";
    for id in [device().as_str(), "o-ward", "", fleet] {
        let options = rumqttc::v5::MqttOptions::new(id, "127.0.0.1", pipe.inside.port());
        assert!(Client::open(options).await.is_err(), "'{id}' came in");
    }
    let mut options = rumqttc::v5::MqttOptions::new(fleet, "127.0.0.1", pipe.inside.port());
    options.set_credentials(fleet, "a guess");
    assert!(Client::open(options).await.is_err(), "a guess came in");
    // Nor from outside, with a certificate that looks like it.
    assert!(is_refused(&pipe.door, fleet).await);
    let mut fleet = pipe.fleet().await;
    assert!(fleet.publish(&Topic::Down(device(), Down::Order), true, Vec::new()).await);
    pipe.stop().await;
}
