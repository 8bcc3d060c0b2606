//! The connection to the broker: the one module that knows `rumqttc`. MQTT over TLS with both certificates, never plain.
//!
//! ```text
//!   read identity and authorities ─▶ connect ──ConnAck──▶ subscribe, say "online", tell the loop ──▶ carry both ways
//!      ▲                                                                                                 │
//!      └──── wait, with full jitter; then the other certificate, if two are kept ◀──────any error────────┘
//! ```
//!
//! It keeps nothing. A fresh client and event loop after every error is deliberate: a resumed one loses what it had
//! queued, or stops for good on a packet id that collides. Whatever must arrive is kept by the spool until the fleet
//! has acknowledged it, so what this module drops is only late. The certificate and the authorities are read anew too:
//! what was renewed, and whom a newer root trusts, counts from the next connection on.
//!
//! Whatever leaves goes through [`Packet`], and a packet is made of an [`Outbound`] only: docs/privacy.md.
//!
//! Never: quality of service 2, topic aliases, broker sessions.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use muster_protocol::enrol::Fingerprint;
use muster_protocol::ids::{BootId, DeviceId};
use muster_protocol::limits::PACKET_BYTES_MAX;
use muster_protocol::message::{MessageError, Outbound, Presence, Status, VERSION};
use muster_protocol::topic::{self, Topic, Up};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, LastWill, Packet as Incoming};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use rumqttc::{Outgoing, TlsConfiguration, Transport};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::address::{Address, AddressError};
use crate::back_off::BackOff;
use crate::chain;
use crate::clock::{TrustClock, monotonic};
use crate::identity::{self, Credential, Identity, IdentityError};
use crate::tls::{self, Shown, TlsError};

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
    pub identity: Identity,
    pub device: DeviceId,
    pub boot: BootId,
    pub clock: TrustClock,
    /// The TLS authorities of the root that is trusted now, PEM.
    pub authorities: watch::Receiver<Vec<String>>,
}

/// A broker on this machine is not protected from a stampede, it is awaited.
fn back_off(local: bool) -> BackOff {
    if local {
        BackOff { shortest: Duration::from_millis(200), longest: Duration::from_secs(5) }
    } else {
        BackOff { shortest: Duration::from_secs(1), longest: Duration::from_mins(1) }
    }
}

/// Why there is not even an attempt.
#[derive(Debug, thiserror::Error)]
enum SetupError {
    #[error("this box's identity cannot be read")]
    Identity(#[from] IdentityError),
    #[error("this box has no certificate; it has asked for one, or will")]
    NoCertificate,
    #[error("the enrolment names a broker that is none")]
    Address(#[from] AddressError),
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    #[error("the last will cannot be written")]
    Will(#[from] MessageError),
}

/// What the link has to say to the loop.
#[derive(Debug)]
pub enum Heard {
    /// `key`: whose certificate was shown.
    Linked {
        connection: u64,
        key: Fingerprint,
    },
    Unlinked {
        reason: String,
        fault: Fault,
    },
    Message {
        topic: String,
        payload: Bytes,
    },
}

/// Whose fault the end of a connection may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There had been a connection, or there is no way to the broker: networks do that.
    Network,
    /// The broker was there and did not want this box.
    Refused,
    /// The broker said that it is this box's certificate.
    Certificate,
}

/// Sends. Clones share one connection.
#[derive(Clone, Debug)]
pub struct Link {
    device: DeviceId,
    commands: mpsc::Sender<Command>,
}

#[derive(Debug)]
enum Command {
    Publish(Packet),
    Reconnect,
    Close { done: oneshot::Sender<()> },
}

/// One message on its way out.
#[derive(Debug)]
struct Packet {
    topic: String,
    retain: bool,
    payload: Vec<u8>,
}

impl Packet {
    fn of(device: &DeviceId, outbound: &Outbound) -> Result<Self, MessageError> {
        let up = outbound.up();
        let topic = Topic::Up(device.clone(), up).to_string();
        Ok(Self { topic, retain: up == Up::Status, payload: outbound.encode()? })
    }
}

/// Starts the connection's task. Dropping the receiver ends it.
pub fn start(config: LinkConfig, tasks: &mut JoinSet<()>) -> (Link, mpsc::Receiver<Heard>) {
    let (commands, inbox) = mpsc::channel(QUEUE);
    let (heard, receiver) = mpsc::channel(QUEUE);
    let link = Link { device: config.device.clone(), commands };
    tasks.spawn(Connection { config, number: 0, turn: 0, local: true, commands: inbox, heard }.live());
    (link, receiver)
}

impl Link {
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// Hands a message to the connection. `false`: its queue is full, try again later. Never waits, because the caller
    /// is the loop for which the connection may be waiting.
    pub fn send(&self, outbound: &Outbound) -> bool {
        match Packet::of(&self.device, outbound) {
            Ok(packet) => self.commands.try_send(Command::Publish(packet)).is_ok(),
            Err(error) => {
                // What waits on the disk was encoded once already; nothing else can be too long.
                tracing::error!(
                    kind = outbound.up().as_str(),
                    error = chain(&error),
                    "a message cannot be sent"
                );
                true
            }
        }
    }

    /// Ends the connection in good order and makes another: a new certificate is to be proven while the old one still is
    /// good.
    pub fn reconnect(&self) {
        if self.commands.try_send(Command::Reconnect).is_err() {
            tracing::debug!("the link is behind; the new certificate is shown at the next connection");
        }
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
    /// Which of the kept certificates is tried: they take turns until one connects.
    turn: usize,
    local: bool,
    commands: mpsc::Receiver<Command>,
    heard: mpsc::Sender<Heard>,
}

/// Why we take leave of the broker, once we do.
#[derive(Default)]
struct Leaving {
    to_renew: AtomicBool,
    for_good: AtomicBool,
}

enum End {
    Lost(String, Fault),
    /// Ended by us, to begin anew at once.
    Renewed,
    Closed,
}

impl Connection {
    async fn live(mut self) {
        let mut failures = 0;
        loop {
            self.number += 1;
            let began = monotonic();
            let linked = AtomicBool::new(false);
            let end = self.session(&linked).await;
            let came_up = linked.load(Ordering::SeqCst);
            let (reason, fault) = match &end {
                End::Closed => return,
                End::Lost(reason, fault) => (reason.clone(), if came_up { Fault::Network } else { *fault }),
                End::Renewed => ("to show a new certificate".to_owned(), Fault::Network),
            };
            tracing::info!(connection = self.number, reason, came_up, "the connection to the broker ended");
            failures = if came_up && began.elapsed() >= STEADY { 1 } else { failures + 1 };
            self.turn = if came_up || matches!(end, End::Renewed) { 0 } else { self.turn + 1 };
            if self.heard.send(Heard::Unlinked { reason, fault }).await.is_err() {
                return;
            }
            let wait = match end {
                End::Renewed => Duration::ZERO,
                End::Lost(..) | End::Closed => back_off(self.local).wait(failures, identity::jitter()),
            };
            if self.closed_within(wait).await {
                return;
            }
        }
    }

    /// One connection from its first packet to its end.
    async fn session(&mut self, linked: &AtomicBool) -> End {
        let (options, credential) = match self.set_up() {
            Ok(set_up) => set_up,
            Err(error) => return End::Lost(chain(&error), Fault::Network),
        };
        let (client, mut events) = AsyncClient::new(options, QUEUE);
        let Self { config, number, commands, heard, .. } = self;
        let leaving = Leaving::default();
        let listen = listen(&mut events, &client, config, *number, &credential, heard, linked, &leaving);
        let speak = speak(commands, &client, config, *number, linked, &leaving);
        tokio::select! {
            end = listen => end,
            end = speak => end,
        }
    }

    /// Everything that may have changed since the last connection, read anew.
    fn set_up(&mut self) -> Result<(MqttOptions, Credential), SetupError> {
        let LinkConfig { identity, device, clock, authorities, .. } = &self.config;
        let broker = Address::mqtts(&identity.enrolment()?.mqtt)?;
        self.local = broker.is_local();
        let credentials = identity.credentials()?;
        let turn = self.turn.checked_rem(credentials.len()).ok_or(SetupError::NoCertificate)?;
        let credential = credentials.into_iter().nth(turn).ok_or(SetupError::NoCertificate)?;
        if turn > 0 {
            tracing::warn!(
                certificate.serial = credential.certificate.serial,
                "the newer certificate did not connect; trying the one before"
            );
        }
        let key = credential.key.pem();
        let shown = Shown { chain: &credential.certificate.pem, key: &key };
        let tls = tls::client(&authorities.borrow(), Some(shown), clock)?;
        let mut options = MqttOptions::new(device.as_str(), broker.host(), broker.port());
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
        options.set_clean_start(true);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_connection_timeout(CONNECT_S);
        options.set_outgoing_inflight_upper_limit(IN_FLIGHT);
        options.set_max_packet_size(Some(u32::try_from(PACKET_BYTES_MAX).unwrap_or(u32::MAX)));
        let mut network = options.network_options();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        let Packet { topic, retain, payload } = status(&self.config, self.number, Presence::Offline)?;
        options.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, retain, None));
        Ok((options, credential))
    }

    /// Waits, drops what is sent meanwhile, and says whether it was told to close.
    async fn closed_within(&mut self, wait: Duration) -> bool {
        let closed = async {
            loop {
                match self.commands.recv().await {
                    Some(Command::Publish(_) | Command::Reconnect) => {}
                    Some(Command::Close { done }) => return done.send(()).unwrap_or(()),
                    None => return,
                }
            }
        };
        tokio::time::timeout(wait, closed).await.is_ok()
    }
}

/// Carries what comes in. This future alone polls the library, and is never cancelled half-way but at the end.
#[expect(clippy::too_many_arguments, reason = "they are one connection, shared by its two directions")]
async fn listen(
    events: &mut EventLoop,
    client: &AsyncClient,
    config: &LinkConfig,
    number: u64,
    Credential { certificate, key }: &Credential,
    heard: &mpsc::Sender<Heard>,
    linked: &AtomicBool,
    leaving: &Leaving,
) -> End {
    let gone = || End::Lost("the agent stops".to_owned(), Fault::Network);
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                linked.store(true, Ordering::SeqCst);
                if let Err(error) = greet(client, config, number) {
                    return End::Lost(format!("cannot subscribe: {error}"), Fault::Network);
                }
                tracing::info!(connection = number, certificate.serial, "connected to the broker");
                // It works, so what was kept for the case that it does not may go; if it stays, it is in nobody's way.
                if let Err(error) = config.identity.proven(certificate) {
                    tracing::warn!(error = chain(&error), "the certificate before cannot be removed");
                }
                if heard.send(Heard::Linked { connection: number, key: key.fingerprint() }).await.is_err() {
                    return gone();
                }
            }
            Ok(Event::Incoming(Incoming::Publish(publish))) => {
                let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                if heard.send(Heard::Message { topic, payload: publish.payload }).await.is_err() {
                    return gone();
                }
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) if leaving.to_renew.load(Ordering::SeqCst) => {
                return End::Renewed;
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) if leaving.for_good.load(Ordering::SeqCst) => {
                return End::Closed;
            }
            // The library's own answer to a packet that no broker may send.
            Ok(Event::Outgoing(Outgoing::Disconnect)) => {
                return End::Lost("the broker broke the protocol".to_owned(), Fault::Network);
            }
            Ok(Event::Incoming(_) | Event::Outgoing(_)) => {}
            Err(error) => return End::Lost(explain(&error), fault(&error)),
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
    leaving: &Leaving,
) -> End {
    while let Some(command) = commands.recv().await {
        match command {
            // What was meant for an earlier connection is not carried over: the loop sends what matters again.
            Command::Publish(_) if !linked.load(Ordering::SeqCst) => {}
            // The attempt that is under way may have read the certificate before there was another.
            Command::Reconnect if !linked.load(Ordering::SeqCst) => return End::Renewed,
            Command::Publish(Packet { topic, retain, payload }) => {
                let sent = client.publish(topic, QoS::AtLeastOnce, retain, payload).await;
                if let Err(error) = sent {
                    return End::Lost(format!("cannot publish: {error}"), Fault::Network);
                }
            }
            Command::Reconnect => {
                leaving.to_renew.store(true, Ordering::SeqCst);
                if client.disconnect().await.is_ok() {
                    // The other future returns when the packet is out.
                    tokio::time::sleep(FAREWELL).await;
                }
                return End::Renewed;
            }
            Command::Close { done } => {
                leaving.for_good.store(true, Ordering::SeqCst);
                if linked.load(Ordering::SeqCst) {
                    let farewell = async {
                        let Packet { topic, retain, payload } =
                            status(config, number, Presence::Offline).map_err(|error| chain(&error))?;
                        let said = client.publish(topic, QoS::AtLeastOnce, retain, payload).await;
                        said.map_err(|error| chain(&error))?;
                        client.disconnect().await.map_err(|error| chain(&error))
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
    let Packet { topic, retain, payload } =
        status(config, number, Presence::Online).map_err(|error| error.to_string())?;
    client.try_publish(topic, QoS::AtLeastOnce, retain, payload).map_err(|error| error.to_string())
}

fn status(config: &LinkConfig, connection: u64, presence: Presence) -> Result<Packet, MessageError> {
    let status = Status { v: VERSION, boot: config.boot.clone(), connection, presence };
    Packet::of(&config.device, &Outbound::Status(status))
}

/// The library's error, with what TLS refused in words that help.
fn explain(error: &ConnectionError) -> String {
    match io(error).and_then(tls::refusal) {
        Some(why) => format!("the broker is not accepted, or does not accept this box: {why}: {error}"),
        None => error.to_string(),
    }
}

fn fault(error: &ConnectionError) -> Fault {
    // The library does not always hand on what lies below; what fails in MQTT has come past the network.
    let Some(io) = io(error) else {
        let refused = matches!(error, ConnectionError::ConnectionRefused(_) | ConnectionError::MqttState(_));
        return if refused { Fault::Refused } else { Fault::Network };
    };
    // Closed right after the handshake: so ends one whom the fleet does not admit.
    let closed = matches!(
        io.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    );
    match (tls::doubts_us(io), closed) {
        (true, _) => Fault::Certificate,
        (false, true) => Fault::Refused,
        (false, false) => Fault::Network,
    }
}

fn io(error: &ConnectionError) -> Option<&io::Error> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref() {
            Some(io) => return Some(io),
            None => cause = error.source(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_elsewhere_are_not_hurried() {
        let (local, remote) = (back_off(true), back_off(false));
        assert!(local.longest < remote.longest && local.shortest < remote.shortest);
    }

    #[test]
    fn what_tls_refused_is_explained() {
        let refused = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let error = ConnectionError::Io(io::Error::new(io::ErrorKind::InvalidData, refused));
        assert!(explain(&error).contains("trusted root"), "{}", explain(&error));
        let error = ConnectionError::Io(io::ErrorKind::ConnectionRefused.into());
        assert_eq!(explain(&error), error.to_string());
    }

    #[test]
    fn the_network_s_faults_are_told_from_a_refusal() {
        let check = |error: io::Error, wanted| assert_eq!(fault(&ConnectionError::Io(error)), wanted);
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired);
        check(io::Error::new(io::ErrorKind::InvalidData, alert), Fault::Certificate);
        check(io::ErrorKind::UnexpectedEof.into(), Fault::Refused);
        check(io::ErrorKind::ConnectionRefused.into(), Fault::Network);
        check(io::ErrorKind::HostUnreachable.into(), Fault::Network);
    }
}
