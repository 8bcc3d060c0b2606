//! A fleet server reduced to what a box sees of it: signed files, content, acknowledgements. Keeps all it hears.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use muster_agent::clock::TrustClock;
use muster_protocol::capture::CaptureRequest;
use muster_protocol::chunk::{Answer, Chunk, Want, chunk_count};
use muster_protocol::ids::{BootId, DeviceId, Digest, SlotName};
use muster_protocol::limits::CHUNK_BYTES;
use muster_protocol::message::up::BundleRef;
use muster_protocol::message::{
    Ack, Event, EventKind, Hello, Message as _, Presence, Report, State, Status, VERSION,
};
use muster_protocol::time::Timestamp;
use muster_protocol::topic::{Down, Topic, Up, every_device};
use muster_protocol::trust::author::{self, Keys, OrderSpec, Pin, RootSpec, TargetsSpec};
use muster_protocol::trust::{Consent, Permit, SecretKey, Sign, Want as OrderWant};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet};
use rumqttc::v5::{AsyncClient, Event as MqttEvent, MqttOptions};
use tokio::task::JoinSet;

use super::bundle::Bundle;
use super::pki::pki;
use super::until;

/// So long that no doctor says that it ends soon.
const LIFE: Duration = Duration::from_hours(14 * 24);

pub(super) struct Fleet {
    inner: Arc<Mutex<Inner>>,
    catalogue: Mutex<(u64, TargetsSpec)>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
pub(super) struct Inner {
    /// Published again on every connection: the broker forgets when it is killed.
    retained: Vec<(Topic, Vec<u8>)>,
    client: Option<AsyncClient>,
    pub(super) blobs: BTreeMap<Digest, Vec<u8>>,
    /// Chunks that may still be sent; beyond, requests are not answered.
    pub(super) chunks_left: Option<u32>,
    /// Requests that were not answered.
    owed: VecDeque<(DeviceId, Want)>,
    pub(super) chunks_sent: Vec<(Digest, u32)>,
    pub(super) silent: bool,
    /// Asked for in every order from now on.
    pub(super) capture: Vec<CaptureRequest>,
    /// Everything that boxes said, as it came.
    pub(super) heard: Vec<Vec<u8>>,
    pub(super) events: BTreeMap<(BootId, u64), Event>,
    /// Order of first arrival.
    pub(super) arrived: Vec<Event>,
    pub(super) reports: BTreeMap<(BootId, u64), Report>,
    pub(super) states: Vec<State>,
    pub(super) hellos: Vec<Hello>,
    pub(super) statuses: Vec<Status>,
}

pub(super) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn expires() -> Timestamp {
    TrustClock::system().now().plus(LIFE)
}

/// The root that all boxes of these tests are set up with.
pub(super) fn root() -> Vec<u8> {
    signed_root(&root_spec(1), &[1])
}

pub(super) fn root_spec(version: u64) -> RootSpec {
    let keys = |seed| Keys::one(key(seed).key());
    RootSpec {
        version,
        expires: Timestamp::from_seconds(4_000_000_000),
        root: keys(1),
        targets: keys(2),
        snapshot: keys(3),
        timestamp: keys(3),
        order: keys(4),
        tls_roots: vec![pki().server_authority.pem()],
    }
}

/// Signed with the keys of these seeds.
pub(super) fn signed_root(spec: &RootSpec, seeds: &[u8]) -> Vec<u8> {
    let keys: Vec<SecretKey> = seeds.iter().map(|&seed| key(seed)).collect();
    let signers: Vec<&dyn Sign> = keys.iter().map(|key| key as &dyn Sign).collect();
    author::sign(author::root(spec).unwrap(), &signers).unwrap()
}

/// Whose keys sign a catalogue, and what they claim: the owner's, or those that a thief has.
#[derive(Clone)]
pub(super) struct Signing {
    /// Seeds of the keys.
    pub(super) targets: Vec<u8>,
    pub(super) online: u8,
    /// Version of snapshot and timestamp.
    pub(super) index: u64,
    pub(super) issued: Timestamp,
}

impl Signing {
    pub(super) fn honest(index: u64) -> Self {
        Self { targets: vec![2], online: 3, index, issued: TrustClock::system().now() }
    }
}

/// A whole catalogue as these keys make it.
pub(super) fn signed(targets: &TargetsSpec, signing: &Signing) -> Vec<(Topic, Vec<u8>)> {
    let Signing { targets: seeds, online, index, issued } = signing;
    let keys: Vec<SecretKey> = seeds.iter().map(|&seed| key(seed)).collect();
    let signers: Vec<&dyn Sign> = keys.iter().map(|key| key as &dyn Sign).collect();
    let bytes = author::sign(targets.envelope().unwrap(), &signers).unwrap();
    let pins = BTreeMap::from([("targets.json".to_owned(), Pin::of(targets.version(), &bytes))]);
    let online = &[&key(*online) as &dyn Sign];
    let snapshot = author::sign(author::snapshot(*index, expires(), &pins).unwrap(), online).unwrap();
    let pin = Pin::of(*index, &snapshot);
    let timestamp =
        author::sign(author::timestamp(*index, expires(), *issued, pin).unwrap(), online).unwrap();
    let named = [("targets.json", bytes), ("snapshot.json", snapshot), ("timestamp.json", timestamp)];
    named.map(|(name, bytes)| (Topic::Trust(name.to_owned()), bytes)).into()
}

impl Fleet {
    pub(super) fn start(broker: SocketAddr) -> Self {
        let inner = Arc::new(Mutex::new(Inner::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(live(broker, Arc::clone(&inner)));
        Self { inner, catalogue: Mutex::new((0, TargetsSpec::empty())), _tasks: tasks }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Has all the content of a bundle to give.
    pub(super) fn hold(&self, bundle: &Bundle) {
        let mut inner = self.inner();
        inner.blobs.insert(Digest::of(&bundle.manifest), bundle.manifest.clone());
        inner.blobs.extend(bundle.files.iter().map(|(_, bytes)| (Digest::of(bytes), bytes.clone())));
    }

    /// Puts bundles into the catalogue and publishes it, with all their content to be had.
    pub(super) fn publish(&self, bundles: &[&Bundle]) {
        for bundle in bundles {
            self.hold(bundle);
        }
        let files = self.catalogue_with(bundles);
        self.retain(files);
    }

    /// The trust files of a catalogue that these bundles are added to, not published.
    pub(super) fn catalogue_with(&self, bundles: &[&Bundle]) -> Vec<(Topic, Vec<u8>)> {
        let next = self.draft(|spec| {
            for bundle in bundles {
                spec.put(&bundle.target(serde_json::json!({ "model": "m" })));
            }
        });
        let mut catalogue = self.catalogue.lock().unwrap();
        *catalogue = (catalogue.0 + 1, next);
        signed(&catalogue.1, &Signing::honest(catalogue.0))
    }

    /// Answers one chunk that is owed.
    pub(super) fn trickle(&self) {
        let mut inner = self.inner();
        if let Some((device, want)) = inner.owed.pop_front() {
            inner.chunks_left = Some(1);
            inner.serve(&device, &want);
        }
    }

    /// The catalogue as it is.
    pub(super) fn current(&self) -> TargetsSpec {
        self.catalogue.lock().unwrap().1.clone()
    }

    /// The trust files that whoever connects gets.
    pub(super) fn published(&self) -> Vec<(Topic, Vec<u8>)> {
        let retained = self.inner().retained.clone();
        retained.into_iter().filter(|(topic, _)| matches!(topic, Topic::Trust(_))).collect()
    }

    /// The next catalogue, edited, neither signed nor published.
    pub(super) fn draft(&self, edit: impl FnOnce(&mut TargetsSpec)) -> TargetsSpec {
        let mut next = self.catalogue.lock().unwrap().1.clone().next(expires());
        edit(&mut next);
        next
    }

    /// Publishes an edited catalogue, signed as its owner signs, and holds to it.
    pub(super) fn release(&self, signing: &Signing, edit: impl FnOnce(&mut TargetsSpec)) {
        let next = self.draft(edit);
        *self.catalogue.lock().unwrap() = (signing.index, next.clone());
        self.retain(signed(&next, signing));
    }

    /// Publishes the catalogue with this change.
    pub(super) fn edit(&self, change: impl FnOnce(&mut TargetsSpec)) {
        let index = self.catalogue.lock().unwrap().0 + 1;
        self.release(&Signing::honest(index), change);
    }

    /// Lists a bundle anew, with other demands on the box.
    pub(super) fn demand(&self, bundle: &Bundle, custom: serde_json::Value) {
        self.edit(|spec| spec.put(&bundle.target(custom)));
    }

    pub(super) fn catalogue_version(&self) -> u64 {
        self.catalogue.lock().unwrap().1.version()
    }

    pub(super) fn order(&self, device: &DeviceId, version: u64, wants: &[(&str, &Bundle)]) {
        let bytes = self.signed_order(device, version, wants, &key(4));
        self.retain(vec![(Topic::Down(device.clone(), Down::Order), bytes)]);
    }

    /// One slot, with its moment.
    pub(super) fn order_when(
        &self,
        device: &DeviceId,
        version: u64,
        bundle: &Bundle,
        (activate, consent): (Permit, Consent),
    ) {
        let BundleRef { path, sha256 } = bundle.reference();
        let want = OrderWant { slot: slot("m"), bundle: path, sha256, activate, consent };
        let bytes = self.sign_order(device, version, vec![want], &key(4));
        self.retain(vec![(Topic::Down(device.clone(), Down::Order), bytes)]);
    }

    pub(super) fn signed_order(
        &self,
        device: &DeviceId,
        version: u64,
        wants: &[(&str, &Bundle)],
        signer: &SecretKey,
    ) -> Vec<u8> {
        let want = wants.iter().map(|(slot, bundle)| {
            let reference = bundle.reference();
            OrderWant::now(slot.parse().unwrap(), reference.path, reference.sha256)
        });
        self.sign_order(device, version, want.collect(), signer)
    }

    fn sign_order(
        &self,
        device: &DeviceId,
        version: u64,
        want: Vec<OrderWant>,
        signer: &SecretKey,
    ) -> Vec<u8> {
        let spec = OrderSpec {
            device: device.clone(),
            version,
            issued: TrustClock::system().now(),
            expires: expires(),
            catalogue: self.catalogue_version(),
            want,
            capture: self.inner().capture.clone(),
        };
        author::sign(author::order(&spec).unwrap(), &[signer]).unwrap()
    }

    pub(super) fn retain(&self, files: Vec<(Topic, Vec<u8>)>) {
        let mut inner = self.inner();
        for (topic, bytes) in files {
            inner.retained.retain(|(other, _)| *other != topic);
            inner.retained.push((topic.clone(), bytes.clone()));
            inner.send(&topic, true, bytes);
        }
    }

    pub(super) fn say(&self, topic: &str, bytes: &[u8]) {
        let inner = self.inner();
        let client = inner.client.as_ref().unwrap();
        client.try_publish(topic, QoS::AtLeastOnce, false, bytes.to_vec()).unwrap();
    }

    pub(super) async fn event(
        &self,
        what: &str,
        matches: impl Fn(&EventKind) -> bool + Send + Sync,
    ) -> EventKind {
        until(what, || self.inner().arrived.iter().map(|event| event.kind.clone()).find(|kind| matches(kind)))
            .await
    }

    /// Waits until this bundle was activated `times` times in all.
    pub(super) async fn activated(&self, wanted: &Bundle, times: usize) {
        let sha256 = wanted.reference().sha256;
        until(&format!("activation {times} of {}", wanted.path), || {
            let is = |event: &&Event| matches!(&event.kind, EventKind::Activated { bundle, .. } if bundle.sha256 == sha256);
            (self.inner().arrived.iter().filter(is).count() >= times).then_some(())
        })
        .await;
    }

    /// Waits until so many rows were told of the shadow of `bundle` beside `against`; returns how many and of how many it is
    /// said to have answered otherwise.
    pub(super) async fn shadow(&self, bundle: &Bundle, against: &Bundle, rows: u64) -> (u64, u64) {
        let pair = (bundle.reference().sha256, against.reference().sha256);
        until(&format!("{rows} rows of {} in the shadow", bundle.path), || {
            let inner = self.inner();
            let told = inner.reports.values().flat_map(|report| &report.shadows);
            let told = told.filter(|block| (block.bundle, block.against) == pair);
            let sums = told.fold((0, 0), |sums, block| (sums.0 + block.n, sums.1 + block.differed));
            (sums.0 >= rows).then_some(sums)
        })
        .await
    }

    pub(super) async fn state(&self, what: &str, matches: impl Fn(&State) -> bool + Send + Sync) -> State {
        until(what, || self.inner().states.last().filter(|state| matches(state)).cloned()).await
    }

    pub(super) async fn presence(&self, wanted: Presence) -> Status {
        until("the presence", || {
            self.inner().statuses.last().filter(|status| status.presence == wanted).cloned()
        })
        .await
    }
}

impl Inner {
    fn send(&self, topic: &Topic, retain: bool, bytes: Vec<u8>) {
        if let Some(client) = &self.client {
            let qos = match topic {
                Topic::Down(_, Down::Chunk | Down::Ack) => QoS::AtMostOnce,
                Topic::Up(..) | Topic::Down(..) | Topic::Trust(_) | Topic::Epoch => QoS::AtLeastOnce,
            };
            drop(client.try_publish(topic.to_string(), qos, retain, bytes));
        }
    }

    fn hear(&mut self, topic: &str, payload: &[u8]) {
        self.heard.push(payload.to_vec());
        let Ok(Topic::Up(device, up)) = topic.parse() else { panic!("a box spoke on {topic}") };
        match up {
            Up::Hello => self.hellos.push(Hello::from_json(payload).unwrap()),
            Up::Status => self.statuses.push(Status::from_json(payload).unwrap()),
            Up::State => {
                let state = State::from_json(payload).unwrap();
                self.states.push(state.clone());
                self.acknowledge(&device, &state.boot);
            }
            Up::Event => {
                let event = Event::from_json(payload).unwrap();
                let boot = event.boot.clone();
                if self.events.insert((boot.clone(), event.sequence), event.clone()).is_none() {
                    self.arrived.push(event);
                }
                self.acknowledge(&device, &boot);
            }
            Up::Report => {
                let report = Report::decode(payload).unwrap();
                let boot = report.boot.clone();
                self.reports.insert((boot.clone(), report.sequence), report);
                self.acknowledge(&device, &boot);
            }
            Up::Want => self.serve(&device, &Want::from_json(payload).unwrap()),
        }
    }

    fn acknowledge(&self, device: &DeviceId, boot: &BootId) {
        if self.silent {
            return;
        }
        let contiguous = |numbers: BTreeSet<u64>| {
            (1..).zip(&numbers).take_while(|(n, number)| n == *number).count() as u64
        };
        let of = |key: &(BootId, u64)| (key.0 == *boot).then_some(key.1);
        let state = self.states.iter().filter(|state| state.boot == *boot).map(|state| state.sequence).max();
        let ack = Ack {
            v: VERSION,
            boot: boot.clone(),
            event: contiguous(self.events.keys().filter_map(of).collect()),
            report: contiguous(self.reports.keys().filter_map(of).collect()),
            state: state.unwrap_or(0),
        };
        self.send(&Topic::Down(device.clone(), Down::Ack), false, ack.to_json());
    }

    fn serve(&mut self, device: &DeviceId, want: &Want) {
        let mut digest_prefix = [0; 16];
        digest_prefix.copy_from_slice(&want.digest.as_bytes()[..16]);
        let topic = Topic::Down(device.clone(), Down::Chunk);
        let blob = self.blobs.get(&want.digest).cloned();
        for index in want.indices().unwrap() {
            if self.chunks_left == Some(0) {
                let ranges = vec![(index, 1)];
                self.owed.push_back((device.clone(), Want { ranges, ..want.clone() }));
                continue;
            }
            self.chunks_left = self.chunks_left.map(|left| left - 1);
            self.chunks_sent.push((want.digest, index));
            let (total, answer) = match &blob {
                Some(blob) => {
                    let start = index as usize * CHUNK_BYTES;
                    let end = (start + CHUNK_BYTES).min(blob.len());
                    (chunk_count(blob.len() as u64), Answer::Bytes(&blob[start..end]))
                }
                None => (0, Answer::Unknown),
            };
            let chunk = Chunk { token: want.token, index, total, digest_prefix, answer };
            self.send(&topic, false, chunk.encode());
        }
    }
}

pub(super) fn slot(name: &str) -> SlotName {
    name.parse().unwrap()
}

/// Connects, and again whenever the broker dies.
async fn live(broker: SocketAddr, inner: Arc<Mutex<Inner>>) {
    loop {
        let mut options = MqttOptions::new("fleet", broker.ip().to_string(), broker.port());
        options.set_clean_start(true);
        options.set_max_packet_size(Some(1 << 20));
        let mut network = options.network_options();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        let (client, mut events) = AsyncClient::new(options, 2_000);
        while let Ok(event) = events.poll().await {
            match event {
                MqttEvent::Incoming(Packet::ConnAck(_)) => {
                    let filters = Up::ALL.iter().map(|&up| Filter::new(every_device(up), QoS::AtLeastOnce));
                    client.try_subscribe_many(filters).unwrap();
                    let mut inner = inner.lock().unwrap();
                    inner.client = Some(client.clone());
                    for (topic, bytes) in inner.retained.clone() {
                        inner.send(&topic, true, bytes);
                    }
                }
                MqttEvent::Incoming(Packet::Publish(publish)) if !publish.payload.is_empty() => {
                    let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                    inner.lock().unwrap().hear(&topic, &publish.payload);
                }
                MqttEvent::Incoming(_) | MqttEvent::Outgoing(_) => {}
            }
        }
        inner.lock().unwrap().client = None;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
