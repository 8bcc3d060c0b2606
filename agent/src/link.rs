//! The connection to the broker: the one module that knows `rumqttc`.
//!
//! ```text
//!   connect ──ConnAck──▶ subscribe, say "online", tell the loop ──▶ carry both ways ──any error──▶ drop everything
//!      ▲                                                                                              │
//!      └────────────────────────── wait, with full jitter ◀───────────────────────────────────────────┘
//! ```
//!
//! It keeps nothing. A fresh client and event loop after every error is deliberate: a resumed one loses what it had
//! queued, or stops for good on a packet id that collides. Whatever must arrive is kept by the spool until the fleet
//! has acknowledged it, so what this module drops is only late.
//!
//! Never: quality of service 2, topic aliases, broker sessions.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use muster_protocol::ids::{BootId, DeviceId};
use muster_protocol::limits::PACKET_BYTES_MAX;
use muster_protocol::message::{Message as _, Presence, Status, VERSION};
use muster_protocol::topic::{self, Topic, Up};
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, LastWill, Packet};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::clock::monotonic;
use crate::identity;

/// Messages waiting between the loop and the socket, each way.
const QUEUE: usize = 128;
/// Unacknowledged publishes; the library's default of 65,535 costs 14 MB.
const IN_FLIGHT: u16 = 64;
const KEEP_ALIVE: Duration = Duration::from_mins(1);
const CONNECT_S: u64 = 5;
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// A connection that lived this long was a good one: the next wait is short again.
const STEADY: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct LinkConfig {
    pub broker: SocketAddr,
    pub device: DeviceId,
    pub boot: BootId,
    pub back_off: BackOff,
}

/// Bounds of the wait before the next attempt.
#[derive(Clone, Copy, Debug)]
pub struct BackOff {
    pub shortest: Duration,
    pub longest: Duration,
}

impl BackOff {
    /// A broker on this machine is not protected from a stampede, it is awaited.
    pub fn of(broker: &SocketAddr) -> Self {
        if broker.ip().is_loopback() {
            Self { shortest: Duration::from_millis(200), longest: Duration::from_secs(5) }
        } else {
            Self { shortest: Duration::from_secs(1), longest: Duration::from_mins(1) }
        }
    }

    /// Full jitter: anywhere between the shortest wait and twice as far with every failure, up to the longest.
    fn wait(&self, failures: u32, random: u64) -> Duration {
        let ceiling =
            self.shortest.saturating_mul(2_u32.saturating_pow(failures.clamp(1, 16))).min(self.longest);
        let range = u64::try_from(ceiling.saturating_sub(self.shortest).as_millis()).unwrap_or(u64::MAX);
        self.shortest + Duration::from_millis(random % range.saturating_add(1))
    }
}

/// What the link has to say to the loop.
#[derive(Debug)]
pub enum Heard {
    Linked { connection: u64 },
    Unlinked { reason: String },
    Message { topic: String, payload: Bytes },
}

/// Sends. Clones share one connection.
#[derive(Clone, Debug)]
pub struct Link {
    device: DeviceId,
    commands: mpsc::Sender<Command>,
}

#[derive(Debug)]
enum Command {
    Publish { up: Up, payload: Vec<u8> },
    Close { done: oneshot::Sender<()> },
}

/// Starts the connection's task. Dropping the receiver ends it.
pub fn start(config: LinkConfig, tasks: &mut JoinSet<()>) -> (Link, mpsc::Receiver<Heard>) {
    let (commands, inbox) = mpsc::channel(QUEUE);
    let (heard, receiver) = mpsc::channel(QUEUE);
    let link = Link { device: config.device.clone(), commands };
    tasks.spawn(Connection { config, number: 0, commands: inbox, heard }.live());
    (link, receiver)
}

impl Link {
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// Hands a message to the connection. `false`: its queue is full, try again later. Never waits, because the caller
    /// is the loop for which the connection may be waiting.
    pub fn send(&self, up: Up, payload: Vec<u8>) -> bool {
        self.commands.try_send(Command::Publish { up, payload }).is_ok()
    }

    /// Says "offline" and disconnects; returns when that is done or has taken too long.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        let close = async {
            if self.commands.send(Command::Close { done }).await.is_ok() {
                closed.await.unwrap_or(());
            }
        };
        if tokio::time::timeout(FAREWELL, close).await.is_err() {
            tracing::warn!("the broker did not take our farewell in time; it will publish our last will");
        }
    }
}

struct Connection {
    config: LinkConfig,
    number: u64,
    commands: mpsc::Receiver<Command>,
    heard: mpsc::Sender<Heard>,
}

enum End {
    Lost(String),
    Closed,
}

impl Connection {
    async fn live(mut self) {
        let mut failures = 0;
        loop {
            self.number += 1;
            let began = monotonic();
            let reason = match self.session().await {
                End::Closed => return,
                End::Lost(reason) => reason,
            };
            tracing::info!(connection = self.number, reason, "the connection to the broker ended");
            failures = if began.elapsed() >= STEADY { 1 } else { failures + 1 };
            if self.heard.send(Heard::Unlinked { reason }).await.is_err() {
                return;
            }
            let random = identity::random().map_or(0, |bytes| u64::from(bytes[0]) << 8 | u64::from(bytes[1]));
            if self.closed_within(self.config.back_off.wait(failures, random)).await {
                return;
            }
        }
    }

    /// One connection from its first packet to its end.
    async fn session(&mut self) -> End {
        let (client, mut events) = AsyncClient::new(self.options(), QUEUE);
        let Self { config, number, commands, heard } = self;
        let linked = AtomicBool::new(false);
        let listen = listen(&mut events, &client, config, *number, heard, &linked);
        let speak = speak(commands, &client, config, *number, &linked);
        tokio::select! {
            end = listen => end,
            end = speak => end,
        }
    }

    fn options(&self) -> MqttOptions {
        let LinkConfig { broker, device, .. } = &self.config;
        let host = match broker {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        let mut options = MqttOptions::new(device.as_str(), host, broker.port());
        options.set_clean_start(true);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_connection_timeout(CONNECT_S);
        options.set_outgoing_inflight_upper_limit(IN_FLIGHT);
        options.set_max_packet_size(Some(u32::try_from(PACKET_BYTES_MAX).unwrap_or(u32::MAX)));
        let mut network = options.network_options();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        let (topic, message) = status(&self.config, self.number, Presence::Offline);
        options.set_last_will(LastWill::new(topic, message, QoS::AtLeastOnce, true, None));
        options
    }

    /// Waits, drops what is sent meanwhile, and says whether it was told to close.
    async fn closed_within(&mut self, wait: Duration) -> bool {
        let closed = async {
            loop {
                match self.commands.recv().await {
                    Some(Command::Publish { .. }) => {}
                    Some(Command::Close { done }) => return done.send(()).unwrap_or(()),
                    None => return,
                }
            }
        };
        tokio::time::timeout(wait, closed).await.is_ok()
    }
}

/// Carries what comes in. This future alone polls the library, and is never cancelled half-way but at the end.
async fn listen(
    events: &mut EventLoop,
    client: &AsyncClient,
    config: &LinkConfig,
    number: u64,
    heard: &mpsc::Sender<Heard>,
    linked: &AtomicBool,
) -> End {
    let gone = || End::Lost("the agent stops".to_owned());
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                linked.store(true, Ordering::SeqCst);
                if let Err(error) = greet(client, config, number) {
                    return End::Lost(format!("cannot subscribe: {error}"));
                }
                tracing::info!(connection = number, broker = %config.broker, "connected to the broker");
                if heard.send(Heard::Linked { connection: number }).await.is_err() {
                    return gone();
                }
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                if heard.send(Heard::Message { topic, payload: publish.payload }).await.is_err() {
                    return gone();
                }
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return End::Closed,
            Ok(Event::Incoming(_) | Event::Outgoing(_)) => {}
            Err(error) => return End::Lost(error.to_string()),
        }
    }
}

/// Carries what goes out.
async fn speak(
    commands: &mut mpsc::Receiver<Command>,
    client: &AsyncClient,
    config: &LinkConfig,
    number: u64,
    linked: &AtomicBool,
) -> End {
    while let Some(command) = commands.recv().await {
        match command {
            // What was meant for an earlier connection is not carried over: the loop sends what matters again.
            Command::Publish { .. } if !linked.load(Ordering::SeqCst) => {}
            Command::Publish { up, payload } => {
                let topic = Topic::Up(config.device.clone(), up).to_string();
                let sent = client.publish(topic, QoS::AtLeastOnce, up == Up::Status, payload).await;
                if let Err(error) = sent {
                    return End::Lost(format!("cannot publish: {error}"));
                }
            }
            Command::Close { done } => {
                if linked.load(Ordering::SeqCst) {
                    let (topic, message) = status(config, number, Presence::Offline);
                    let farewell = async {
                        client.publish(topic, QoS::AtLeastOnce, true, message).await?;
                        client.disconnect().await
                    };
                    if farewell.await.is_ok() {
                        // The other future returns when the packet is out.
                        tokio::time::sleep(FAREWELL).await;
                    }
                }
                done.send(()).unwrap_or(());
                return End::Closed;
            }
        }
    }
    End::Closed
}

/// First words of a connection. Never waits: the queue is empty, and waiting here would stop the polling that empties it.
fn greet(client: &AsyncClient, config: &LinkConfig, number: u64) -> Result<(), String> {
    let filters = [topic::down_to(&config.device), topic::every_trust_file()];
    let filters = filters.map(|filter| Filter::new(filter, QoS::AtLeastOnce));
    client.try_subscribe_many(filters).map_err(|error| error.to_string())?;
    let (topic, message) = status(config, number, Presence::Online);
    client.try_publish(topic, QoS::AtLeastOnce, true, message).map_err(|error| error.to_string())
}

fn status(config: &LinkConfig, connection: u64, presence: Presence) -> (String, Vec<u8>) {
    let topic = Topic::Up(config.device.clone(), Up::Status).to_string();
    (topic, Status { v: VERSION, boot: config.boot.clone(), connection, presence }.to_json())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_with_failures_and_stay_in_bounds() {
        let check = |failures, random, wanted_ms| {
            let back_off = BackOff { shortest: Duration::from_millis(200), longest: Duration::from_secs(5) };
            assert_eq!(
                back_off.wait(failures, random),
                Duration::from_millis(wanted_ms),
                "{failures} failures"
            );
        };
        check(0, 0, 200);
        check(1, 200, 400);
        check(1, 201, 200);
        check(2, 599, 799);
        check(30, 4_800, 5_000);
        check(u32::MAX, 4_801, 200);
    }

    #[test]
    fn brokers_elsewhere_are_not_hurried() {
        let local = BackOff::of(&SocketAddr::from(([127, 0, 0, 1], 1883)));
        let remote = BackOff::of(&SocketAddr::from(([192, 0, 2, 1], 1883)));
        assert!(local.longest < remote.longest && local.shortest < remote.shortest);
    }
}
