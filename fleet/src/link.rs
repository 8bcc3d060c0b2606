//! The fleet's connection to the broker. `rumqttc` stays in this file, with its known bugs fenced:
//!
//! - a fresh client and event loop after every error: a reused one loses what was queued, and can lock up for ever;
//! - what must arrive is confirmed by us: a publication is done when its PUBACK came, and whoever published it decides
//!   what to do if none did;
//! - no delay in TCP, at most 64 unacknowledged messages, packets of at most 1 MiB, no `QoS` 2, no topic aliases, a clean
//!   session each time.
//!
//! ```text
//!   Publisher ──bounded──▶ ┌────────────┐ ──▶ broker
//!   inbound  ◀──bounded── │ connection │ ◀──
//!   wants    ◀──bounded── └────────────┘     (full: dropped, the box asks again)
//! ```
//! Never touches the database and decides nothing.

mod confirm;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_protocol::ids::DeviceId;
use muster_protocol::limits::PACKET_BYTES_MAX;
use muster_protocol::message::{Epoch, Message as _};
use muster_protocol::topic::{Topic, Up, every_device};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Filter, Packet, Publish, PublishProperties};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::broker::Insider;
use confirm::Pending;

/// Unacknowledged messages in flight; more costs memory (13.9 MB at the default of 65,535) and buys nothing.
const IN_FLIGHT: u16 = 64;
/// Messages handed to the client at once.
const REQUESTS: usize = 64;
const KEEP_ALIVE: Duration = Duration::from_mins(1);
const CONNECT_TIMEOUT_S: u64 = 5;
/// How long after subscribing the retained epoch may take before it counts as lost. Being wrong costs one needless
/// republication.
const EPOCH_WAIT: Duration = Duration::from_millis(300);
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(10);

/// A device's message, not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    pub device: DeviceId,
    pub up: Up,
    pub payload: Bytes,
}

/// Something to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    pub topic: Topic,
    pub payload: Bytes,
    pub delivery: Delivery,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// `QoS` 1, kept by the broker for those who come later.
    Retained,
    /// `QoS` 1.
    Once,
    /// `QoS` 0: whoever needs it asks again.
    Fleeting,
    /// `QoS` 0, dropped by the broker after this many seconds.
    Expiring { seconds: u32 },
}

/// One connection, once it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Counts connections of this process, from 1.
    pub number: u64,
    /// The epoch that the broker retains; `None` if it has lost it, and everything else with it.
    pub epoch: Option<String>,
}

/// A handle to publish with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Publisher {
    queue: mpsc::Sender<(Outbound, Option<oneshot::Sender<()>>)>,
}

/// What was published did not reach the broker, or nobody knows whether it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection to the broker was lost before it had the message")]
pub struct Unconfirmed;

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unoffered {
    Full,
    Closed,
}

/// Where to connect and as whom.
#[derive(Clone, Debug)]
pub enum Way {
    /// The broker in this process, past its front.
    Inside { broker: SocketAddr, insider: Insider },
    /// A broker elsewhere, with both sides' certificates. The configuration stays current by itself.
    Outside { host: String, port: u16, client_id: String, tls: Arc<ClientConfig> },
}

/// What the link brings in.
#[derive(Debug)]
pub struct Incoming {
    pub messages: mpsc::Receiver<Inbound>,
    pub wants: mpsc::Receiver<Inbound>,
    /// The present session; `None` while there is none.
    pub session: watch::Receiver<Option<Session>>,
}

/// The task's half: run it with [`Link::run`].
#[derive(Debug)]
pub struct Link {
    way: Way,
    queue: mpsc::Receiver<(Outbound, Option<oneshot::Sender<()>>)>,
    messages: mpsc::Sender<Inbound>,
    wants: mpsc::Sender<Inbound>,
    session: watch::Sender<Option<Session>>,
}

impl Publisher {
    /// Queues a message if there is room for it.
    pub fn offer(&self, message: Outbound) -> Result<(), Unoffered> {
        self.queue.try_send((message, None)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unoffered::Full,
            mpsc::error::TrySendError::Closed(_) => Unoffered::Closed,
        })
    }

    /// Waits until the queue has room, or is no more.
    pub async fn room(&self) {
        // The place is given back at once: whoever waits for it offers next.
        drop(self.queue.reserve().await);
    }

    /// Publishes a message and waits until the broker has it: `QoS` 1, its PUBACK; `QoS` 0, it was written.
    pub async fn confirm(&self, message: Outbound) -> Result<(), Unconfirmed> {
        let (done, wait) = oneshot::channel();
        self.queue.send((message, Some(done))).await.map_err(|_| Unconfirmed)?;
        wait.await.map_err(|_| Unconfirmed)
    }
}

impl Link {
    pub fn new(way: Way) -> (Self, Publisher, Incoming) {
        let (queue_in, queue) = mpsc::channel(REQUESTS);
        let (messages, messages_out) = mpsc::channel(1024);
        let (wants, wants_out) = mpsc::channel(1024);
        let (session, session_out) = watch::channel(None);
        let link = Self { way, queue, messages, wants, session };
        let incoming = Incoming { messages: messages_out, wants: wants_out, session: session_out };
        (link, Publisher { queue: queue_in }, incoming)
    }

    /// Stays connected until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut back_off = BACK_OFF_FIRST;
        let mut number = 0;
        loop {
            number += 1;
            let connected = tokio::select! {
                () = stop.cancelled() => return,
                error = self.connection(number) => error,
            };
            let stood = self.session.send_replace(None).is_some();
            if stood {
                back_off = BACK_OFF_FIRST;
            }
            let pause = jitter(back_off);
            tracing::warn!(error = %connected, pause_ms = pause.as_millis(), "not connected to the broker; trying again");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    /// One client's life. Both halves live and die together, in this one future.
    async fn connection(&mut self, number: u64) -> ConnectionError {
        let (client, mut events) = AsyncClient::new(self.options(), REQUESTS);
        let pending = Arc::new(Pending::default());
        let subscribed = CancellationToken::new();
        let (messages, wants, session) = (&self.messages, &self.wants, &self.session);
        let receive = async {
            let mut reader = Reader {
                number,
                epoch: None,
                client: &client,
                messages,
                wants,
                session,
                subscribed: &subscribed,
            };
            loop {
                if let Err(error) = reader.next(&mut events, &pending).await {
                    return error;
                }
            }
        };
        let announce = async {
            subscribed.cancelled().await;
            // Retained messages follow the SUBACK; the reader notes an epoch in the session when it comes.
            tokio::time::sleep(EPOCH_WAIT).await;
            session.send_if_modified(|now| {
                let fresh = now.is_none();
                if fresh {
                    *now = Some(Session { number, epoch: None });
                }
                fresh
            });
        };
        let queue = &mut self.queue;
        let publish = async {
            subscribed.cancelled().await;
            while let Some((message, done)) = queue.recv().await {
                let (qos, retain, properties) = properties(message.delivery);
                pending.handed(done);
                let sent = client
                    .publish_with_properties(
                        message.topic.to_string(),
                        qos,
                        retain,
                        message.payload,
                        properties,
                    )
                    .await;
                if sent.is_err() {
                    break;
                }
            }
            // Nobody is left to publish, or the event loop is gone; then `receive` says why.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            error = receive => error,
            ((), ()) = async { tokio::join!(announce, publish) } => ConnectionError::RequestsDone,
        }
    }

    fn options(&self) -> MqttOptions {
        let mut options = match &self.way {
            Way::Inside { broker, insider } => {
                let mut options =
                    MqttOptions::new(&insider.client_id, broker.ip().to_string(), broker.port());
                options.set_credentials(&insider.client_id, &insider.password);
                options
            }
            Way::Outside { host, port, client_id, tls } => {
                let mut options = MqttOptions::new(client_id, host, *port);
                options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
                options
            }
        };
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_start(true)
            .set_connection_timeout(CONNECT_TIMEOUT_S)
            .set_max_packet_size(u32::try_from(PACKET_BYTES_MAX).ok())
            .set_network_options(network)
            .set_outgoing_inflight_upper_limit(IN_FLIGHT);
        options
    }
}

struct Reader<'a> {
    number: u64,
    epoch: Option<String>,
    client: &'a AsyncClient,
    messages: &'a mpsc::Sender<Inbound>,
    wants: &'a mpsc::Sender<Inbound>,
    session: &'a watch::Sender<Option<Session>>,
    subscribed: &'a CancellationToken,
}

impl Reader<'_> {
    async fn next(&mut self, events: &mut EventLoop, pending: &Pending) -> Result<(), ConnectionError> {
        match events.poll().await? {
            Event::Incoming(Packet::ConnAck(ack)) if ack.code == ConnectReturnCode::Success => {
                let ups = Up::ALL.iter().map(|&up| every_device(up));
                let filters =
                    ups.chain([Topic::Epoch.to_string()]).map(|path| Filter::new(path, QoS::AtLeastOnce));
                // The request queue of a new client is empty.
                self.client.try_subscribe_many(filters).map_err(|_| ConnectionError::RequestsDone)?;
            }
            Event::Incoming(Packet::SubAck(_)) => self.subscribed.cancel(),
            Event::Incoming(Packet::Publish(publish)) => self.publish(&publish).await,
            Event::Incoming(Packet::PubAck(ack)) => pending.acknowledged(ack.pkid),
            Event::Outgoing(rumqttc::Outgoing::Publish(pkid)) => pending.written(pkid),
            Event::Incoming(Packet::Disconnect(_)) => return Err(ConnectionError::RequestsDone),
            Event::Incoming(_) | Event::Outgoing(_) => {}
        }
        Ok(())
    }

    async fn publish(&mut self, publish: &Publish) {
        let Ok(text) = std::str::from_utf8(&publish.topic) else { return };
        match text.parse::<Topic>() {
            Ok(Topic::Up(device, Up::Want)) => {
                let want = Inbound { device, up: Up::Want, payload: publish.payload.clone() };
                if self.wants.try_send(want).is_err() {
                    tracing::debug!("more chunk requests than can be answered; the box asks again");
                }
            }
            // Waiting here lets TCP slow the broker down; what it then drops is sent again, as it was never acknowledged.
            Ok(Topic::Up(device, up)) => {
                let message = Inbound { device, up, payload: publish.payload.clone() };
                if self.messages.send(message).await.is_err() {
                    tracing::debug!("nobody takes messages in any more");
                }
            }
            Ok(Topic::Epoch) => self.note_epoch(&publish.payload),
            Ok(Topic::Down(..) | Topic::Trust(_)) | Err(_) => {
                tracing::debug!(topic = text, "a message that was not asked for");
            }
        }
    }

    fn note_epoch(&mut self, payload: &[u8]) {
        match Epoch::from_json(payload) {
            Ok(found) => self.epoch = Some(found.epoch),
            Err(error) => tracing::warn!(%error, "the broker's epoch cannot be read; it counts as lost"),
        }
        let (number, epoch) = (self.number, self.epoch.clone());
        self.session.send_if_modified(|now| {
            let fresh = now.is_none();
            if fresh {
                *now = Some(Session { number, epoch });
            }
            fresh
        });
    }
}

fn properties(delivery: Delivery) -> (QoS, bool, PublishProperties) {
    let plain = PublishProperties::default();
    match delivery {
        Delivery::Retained => (QoS::AtLeastOnce, true, plain),
        Delivery::Once => (QoS::AtLeastOnce, false, plain),
        Delivery::Fleeting => (QoS::AtMostOnce, false, plain),
        Delivery::Expiring { seconds } => {
            let properties = PublishProperties { message_expiry_interval: Some(seconds), ..plain };
            (QoS::AtMostOnce, false, properties)
        }
    }
}

/// Full jitter: anything up to `longest`, so that many clients do not come back at once.
fn jitter(longest: Duration) -> Duration {
    let mut random = [0; 4];
    // Without randomness we wait the longest.
    match getrandom::fill(&mut random) {
        Ok(()) => longest.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX)),
        Err(_) => longest,
    }
}
