//! A box as the broker sees it: a bare MQTT client that says what it is told to say.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use muster_fleet::broker::Insider;
use muster_protocol::ids::{BootId, DeviceId};
use muster_protocol::message::{
    Ack, Capabilities, Event, EventKind, Hello, Message as _, Presence, Status, VERSION,
};
use muster_protocol::time::Timestamp;
use muster_protocol::topic::{Down, Topic, Up, down_to};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, LastWill, Packet, PubAckReason, Publish, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event as Happening, EventLoop, MqttOptions};

use crate::server::PATIENCE;

/// Long enough for a message that is on its way over loopback, where one must prove that none comes.
const NOTHING: Duration = Duration::from_millis(300);

pub(crate) struct Client {
    pub(crate) mqtt: AsyncClient,
    events: EventLoop,
    /// Publications that came while something else was waited for.
    came: VecDeque<Publish>,
}

impl Client {
    pub(crate) async fn connect(broker: SocketAddr, id: &str) -> Self {
        Self::try_connect(broker, id, None).await.unwrap()
    }

    /// As the fleet itself.
    pub(crate) async fn connect_as(broker: SocketAddr, insider: &Insider) -> Self {
        let mut options = options(broker, &insider.client_id);
        options.set_credentials(&insider.client_id, &insider.password);
        Self::open(options).await.unwrap()
    }

    pub(crate) async fn try_connect(
        broker: SocketAddr,
        id: &str,
        will: Option<LastWill>,
    ) -> Result<Self, ConnectionError> {
        let mut options = options(broker, id);
        if let Some(will) = will {
            options.set_last_will(will);
        }
        Self::open(options).await
    }

    async fn open(options: MqttOptions) -> Result<Self, ConnectionError> {
        let (mqtt, mut events) = AsyncClient::new(options, 1024);
        loop {
            if let Happening::Incoming(Packet::ConnAck(ack)) = events.poll().await? {
                assert_eq!(ack.code, ConnectReturnCode::Success);
                return Ok(Self { mqtt, events, came: VecDeque::new() });
            }
        }
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
        self.mqtt.publish(topic.to_string(), QoS::AtLeastOnce, retain, payload).await.unwrap();
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

    pub(crate) async fn silence(&mut self) {
        let came = tokio::time::timeout(NOTHING, self.next()).await;
        assert!(came.is_err(), "nothing was to come, but {came:?} did");
    }

    /// Goes without a word; the broker publishes the will.
    pub(crate) fn vanish(self) {
        drop(self);
    }
}

fn options(broker: SocketAddr, id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(id, broker.ip().to_string(), broker.port());
    options.set_max_packet_size(Some(1 << 20)).set_clean_start(true);
    options
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
    pub(crate) async fn connect(broker: SocketAddr, number: u8, connection: u64) -> Self {
        let (id, boot) = (DeviceId::mint([number; 16]), BootId::mint([number; 16]));
        let offline = Status { v: VERSION, boot: boot.clone(), connection, presence: Presence::Offline };
        let topic = Topic::Up(id.clone(), Up::Status).to_string();
        let will = LastWill::new(topic, offline.to_json(), QoS::AtLeastOnce, true, None);
        let mut client = Client::try_connect(broker, id.as_str(), Some(will)).await.unwrap();
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
            root: None,
            certificate_expires: None,
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
