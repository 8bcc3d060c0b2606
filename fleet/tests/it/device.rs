//! A box as the broker sees it: a bare MQTT client that says what it is told to say.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use muster_fleet::broker::Insider;
use muster_fleet::clock::TrustClock;
use muster_fleet::pki::{Pki, csr};
use muster_protocol::ids::{BootId, DeviceId};
use muster_protocol::message::{
    Ack, Capabilities, Event, EventKind, Hello, Message as _, Presence, Status, VERSION,
};
use muster_protocol::time::Timestamp;
use muster_protocol::topic::{Down, Topic, Up, down_to};
use rcgen::{CertificateParams, KeyPair};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, LastWill, Packet, PubAckReason, Publish, PublishProperties, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event as Happening, EventLoop, MqttOptions};
use rumqttc::{Outgoing, TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::server::{PATIENCE, Server};

/// Long enough for a message that is on its way over loopback, where one must prove that none comes.
const NOTHING: Duration = Duration::from_millis(300);

pub(crate) struct Client {
    pub(crate) mqtt: AsyncClient,
    events: EventLoop,
    /// Publications that came while something else was waited for.
    came: VecDeque<Publish>,
}

impl Client {
    pub(crate) async fn connect(door: &Door, id: &str) -> Self {
        Self::try_connect(door, id, None).await.unwrap()
    }

    /// As the fleet itself, past the front.
    pub(crate) async fn connect_as(inside: SocketAddr, insider: &Insider) -> Self {
        let mut options = options(&inside.ip().to_string(), inside.port(), &insider.client_id);
        options.set_credentials(&insider.client_id, &insider.password);
        Self::open(options).await.unwrap()
    }

    pub(crate) async fn try_connect(
        door: &Door,
        id: &str,
        will: Option<LastWill>,
    ) -> Result<Self, ConnectionError> {
        Self::try_connect_with(door, id, &door.holder(id), will).await
    }

    /// With a certificate that may be another's.
    pub(crate) async fn try_connect_with(
        door: &Door,
        id: &str,
        holder: &Holder,
        will: Option<LastWill>,
    ) -> Result<Self, ConnectionError> {
        let mut options = options(&door.host, door.port, id);
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(door.tls(Some(holder)))));
        if let Some(will) = will {
            options.set_last_will(will);
        }
        Self::open(options).await
    }

    pub(crate) async fn open(options: MqttOptions) -> Result<Self, ConnectionError> {
        let (mqtt, mut events) = AsyncClient::new(options, 1024);
        let connecting = async {
            loop {
                if let Happening::Incoming(Packet::ConnAck(ack)) = events.poll().await? {
                    assert_eq!(ack.code, ConnectReturnCode::Success);
                    return Ok::<(), ConnectionError>(());
                }
            }
        };
        tokio::time::timeout(PATIENCE, connecting).await.expect("the broker does not answer")?;
        Ok(Self { mqtt, events, came: VecDeque::new() })
    }

    /// Polls until `pick` finds what it looks for; publications are kept for later.
    async fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(&Packet) -> Option<T>) -> T {
        let looking = async {
            loop {
                let Happening::Incoming(packet) = self.events.poll().await.unwrap() else { continue };
                if let Packet::Publish(publish) = &packet {
                    self.came.push_back(publish.clone());
                }
                if let Some(found) = pick(&packet) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }

    pub(crate) async fn subscribe(&mut self, filter: &str) -> bool {
        self.mqtt.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        let granted = |packet: &Packet| {
            let Packet::SubAck(ack) = packet else { return None };
            Some(matches!(ack.return_codes.as_slice(), [SubscribeReasonCode::Success(_)]))
        };
        self.wait("a SUBACK", granted).await
    }

    /// Publishes with `QoS` 1. Whether the broker took it.
    pub(crate) async fn publish(&mut self, topic: &Topic, retain: bool, payload: Vec<u8>) -> bool {
        self.publish_to(&topic.to_string(), retain, payload).await
    }

    /// To a topic that may be none of ours.
    pub(crate) async fn publish_to(&mut self, topic: &str, retain: bool, payload: Vec<u8>) -> bool {
        self.mqtt.publish(topic, QoS::AtLeastOnce, retain, payload).await.unwrap();
        let taken = |packet: &Packet| {
            let Packet::PubAck(ack) = packet else { return None };
            Some(matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers))
        };
        self.wait("a PUBACK", taken).await
    }

    /// The next publication, whatever it is.
    pub(crate) async fn next(&mut self) -> Publish {
        if let Some(publish) = self.came.pop_front() {
            return publish;
        }
        self.wait("a message", |packet| matches!(packet, Packet::Publish(_)).then_some(())).await;
        self.came.pop_front().unwrap()
    }

    /// The next publication on a topic; others are kept for later.
    pub(crate) async fn next_on(&mut self, topic: &Topic) -> Publish {
        let topic = topic.to_string();
        loop {
            let found = self.came.iter().position(|publish| publish.topic == topic);
            if let Some(publish) = found.and_then(|at| self.came.remove(at)) {
                return publish;
            }
            self.wait("a message", |packet| matches!(packet, Packet::Publish(_)).then_some(())).await;
        }
    }

    pub(crate) async fn publish_with(
        &mut self,
        topic: &Topic,
        retain: bool,
        properties: PublishProperties,
        payload: &[u8],
    ) {
        let (topic, payload) = (topic.to_string(), payload.to_vec());
        self.mqtt
            .publish_with_properties(topic, QoS::AtLeastOnce, retain, payload, properties)
            .await
            .unwrap();
        self.wait("a PUBACK", |packet| matches!(packet, Packet::PubAck(_)).then_some(())).await;
    }

    /// With `QoS` 0. It is on its way when something is waited for.
    pub(crate) async fn publish_fleeting(&mut self, topic: &Topic, payload: Vec<u8>) {
        self.mqtt.publish(topic.to_string(), QoS::AtMostOnce, false, payload).await.unwrap();
    }

    /// In a session that the broker keeps, acknowledging only what it is told to.
    pub(crate) async fn with_session(door: &Door, device: &DeviceId, seconds: u32) -> Self {
        let mut options = options(&door.host, door.port, device.as_str());
        let tls = door.tls(Some(&door.holder(device.as_str())));
        options
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)))
            .set_clean_start(false)
            .set_session_expiry_interval(Some(seconds))
            .set_manual_acks(true);
        Self::open(options).await.unwrap()
    }

    /// Acknowledges, and sees to it that the broker knows.
    pub(crate) async fn acknowledge(&mut self, publish: &Publish) {
        self.mqtt.ack(publish).await.unwrap();
        let written = async {
            while !matches!(self.events.poll().await.unwrap(), Happening::Outgoing(Outgoing::PubAck(_))) {}
        };
        tokio::time::timeout(PATIENCE, written).await.unwrap();
    }

    /// Says farewell: the broker publishes no will.
    pub(crate) async fn leave(mut self) {
        self.mqtt.disconnect().await.unwrap();
        while self.events.poll().await.is_ok() {}
    }

    /// Waits until the broker has ended the connection.
    pub(crate) async fn ended(&mut self) {
        let ending = async { while self.events.poll().await.is_ok() {} };
        tokio::time::timeout(PATIENCE, ending).await.expect("the connection did not end");
    }

    /// All that comes, until nothing comes any more.
    pub(crate) async fn all(&mut self) -> Vec<Publish> {
        let mut came = Vec::new();
        while let Ok(publish) = tokio::time::timeout(NOTHING, self.next()).await {
            came.push(publish);
        }
        came
    }

    pub(crate) async fn silence(&mut self) {
        let came = tokio::time::timeout(NOTHING, self.next()).await;
        assert!(came.is_err(), "nothing was to come, but {came:?} did");
    }

    /// Goes without a word; the broker publishes the will.
    pub(crate) fn vanish(self) {
        drop(self);
    }
}

fn options(host: &str, port: u16, id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(id, host, port);
    options.set_max_packet_size(Some(1 << 20)).set_clean_start(true);
    options
}

/// The way to a broker, and the authorities behind it.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) pki: Arc<Pki>,
}

/// A certificate and its key.
pub(crate) struct Holder {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) serial: String,
}

impl Door {
    pub(crate) fn of(url: &str, pki: Arc<Pki>) -> Self {
        let (host, port) = url.strip_prefix("mqtts://").unwrap().rsplit_once(':').unwrap();
        Self { host: host.to_owned(), port: port.parse().unwrap(), pki }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// A fresh certificate for a device id or for an observer's name.
    pub(crate) fn holder(&self, id: &str) -> Holder {
        self.holder_at(id, TrustClock.now())
    }

    /// One that was given at another time.
    pub(crate) fn holder_at(&self, id: &str, at: Timestamp) -> Holder {
        let Ok(device) = id.parse::<DeviceId>() else {
            let made = self.pki.issue_client(id, Duration::from_hours(24), at).unwrap();
            return Holder::new(&made.certificate, &made.key, String::new());
        };
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let issued = self.pki.issue(&device, &csr(&request).unwrap(), at).unwrap();
        Holder::new(&issued.pem, &key.serialize_pem(), issued.serial)
    }

    /// A TLS connection with nothing said on it yet.
    pub(crate) async fn dial(&self, holder: &Holder) -> TlsStream<TcpStream> {
        let socket = TcpStream::connect(self.address()).await.unwrap();
        let name = ServerName::try_from(self.host.clone()).unwrap();
        TlsConnector::from(self.tls(Some(holder))).connect(name, socket).await.unwrap()
    }

    /// A connection as a device, byte by byte, past its CONNACK.
    pub(crate) async fn greet(&self, device: &DeviceId) -> TlsStream<TcpStream> {
        let mut stream = self.dial(&self.holder(device.as_str())).await;
        let id = device.as_str();
        let mut packet = vec![0x10, u8::try_from(13 + id.len()).unwrap()];
        packet.extend(b"\0\x04MQTT\x05\x02\0\x3c\0\0");
        packet.push(u8::try_from(id.len()).unwrap());
        packet.extend(id.as_bytes());
        stream.write_all(&packet).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 0x20, "no CONNACK");
        let length = stream.read_u8().await.unwrap();
        stream.read_exact(&mut vec![0; length.into()]).await.unwrap();
        stream
    }

    /// A packet of a size that no decent client sends: the connection must end.
    pub(crate) async fn send_too_much(&self, device: &DeviceId, topic: &Topic, size: usize) {
        let mut stream = self.greet(device).await;
        let topic = topic.to_string();
        let mut packet = vec![0x30];
        let mut left = 2 + topic.len() + 1 + size;
        while left > 0 {
            let more = if left > 127 { 0x80 } else { 0 };
            packet.push(u8::try_from(left % 128).unwrap() | more);
            left /= 128;
        }
        packet.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        packet.extend(topic.as_bytes());
        packet.resize(packet.len() + 1 + size, 0);
        // It may end in the middle of it.
        drop(stream.write_all(&packet).await);
        rest(stream).await;
    }

    /// TLS as boxes do it: this fleet's authorities and no others.
    pub(crate) fn tls(&self, holder: Option<&Holder>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for root in self.pki.tls_roots() {
            roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match holder {
            None => builder.with_no_client_auth(),
            Some(holder) => {
                builder.with_client_auth_cert(holder.chain.clone(), holder.key.clone_key()).unwrap()
            }
        })
    }
}

/// What still comes until the other side ends the connection.
pub(crate) async fn rest(mut stream: TlsStream<TcpStream>) -> Vec<u8> {
    let mut came = Vec::new();
    let ending = async { while matches!(stream.read_buf(&mut came).await, Ok(1..)) {} };
    tokio::time::timeout(PATIENCE, ending).await.expect("the connection did not end");
    came
}

impl Holder {
    fn new(chain: &str, key: &str, serial: String) -> Self {
        let leaf = CertificateDer::pem_slice_iter(chain.as_bytes()).next().unwrap().unwrap();
        Self { chain: vec![leaf], key: PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(), serial }
    }
}

/// A device with a boot and counters.
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) boot: BootId,
    pub(crate) client: Client,
    connection: u64,
}

impl Device {
    /// Connects with its will set and its own topics subscribed to, and has not said hello yet.
    pub(crate) async fn connect(server: &Server, number: u8, connection: u64) -> Self {
        server.admit(&DeviceId::mint([number; 16])).await;
        Self::connect_to(&server.mqtt(), number, connection).await
    }

    /// As one that is admitted already.
    pub(crate) async fn connect_to(door: &Door, number: u8, connection: u64) -> Self {
        let (id, boot) = (DeviceId::mint([number; 16]), BootId::mint([number; 16]));
        let offline = Status { v: VERSION, boot: boot.clone(), connection, presence: Presence::Offline };
        let topic = Topic::Up(id.clone(), Up::Status).to_string();
        let will = LastWill::new(topic, offline.to_json(), QoS::AtLeastOnce, true, None);
        let mut client = Client::try_connect(door, id.as_str(), Some(will)).await.unwrap();
        assert!(client.subscribe(&down_to(&id)).await);
        Self { id, boot, client, connection }
    }

    pub(crate) async fn say(&mut self, up: Up, payload: Vec<u8>) {
        let topic = Topic::Up(self.id.clone(), up);
        assert!(self.client.publish(&topic, up == Up::Status, payload).await);
    }

    pub(crate) async fn hello(&mut self) -> Ack {
        let hello = Hello {
            v: VERSION,
            boot: self.boot.clone(),
            connection: self.connection,
            name: format!("box-{}", &self.id.as_str()[2..6]),
            site: "er-1".parse().unwrap(),
            agent_version: "0.1.0".to_owned(),
            capabilities: Capabilities { arch: "x86_64".to_owned(), cores: 2, ..Capabilities::default() },
            order_version: 0,
            facts: None,
            key: None,
        };
        self.say(Up::Hello, hello.to_json()).await;
        self.ack().await
    }

    pub(crate) fn event(&self, sequence: u64, held_from: u64) -> Event {
        Event {
            v: VERSION,
            boot: self.boot.clone(),
            sequence,
            held_from,
            at: Timestamp::from_seconds(1_795_000_000),
            kind: EventKind::Started { agent_version: "0.1.0".to_owned() },
        }
    }

    pub(crate) async fn ack(&mut self) -> Ack {
        let topic = Topic::Down(self.id.clone(), Down::Ack);
        Ack::from_json(&self.client.next_on(&topic).await.payload).unwrap()
    }
}
