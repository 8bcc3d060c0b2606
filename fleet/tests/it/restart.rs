//! Stopped, killed and started again: what was committed is there, and what was retained is published again.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use muster_fleet::addresses::Addresses;
use muster_fleet::pki::Pki;
use muster_fleet::serve;
use muster_fleet::store::{Store, devices, positions};
use muster_protocol::ids::DeviceId;
use muster_protocol::message::{Message as _, Presence};
use muster_protocol::topic::{Down, Topic, Up, every_trust_file};
use muster_protocol::trust::{Order, OrderContext, TrustedSet, Verdict, Want};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::device::{Client, Device, Door};
use crate::publisher::{Bundle, Publisher};
use crate::server::{Server, config};

/// A catalogue, an order for device 1, one event of it.
async fn prepare(data: &Path) {
    let server = Server::start(data).await;
    let bundle = Bundle::make("bundles/er-beds/1.json", b"model");
    Publisher::begin(&server.fleet, &[&bundle]).await;
    let mut device = Device::connect(&server, 1, 1).await;
    device.hello().await;
    device.say(Up::Event, device.event(1, 1).to_json()).await;
    assert_eq!(device.ack().await.event, 1);
    let want = Want::now("beds".parse().unwrap(), bundle.path.clone(), bundle.sha256());
    let mut tx = server.fleet.store.write().await.unwrap();
    server.fleet.orders.set_wants(&mut tx, &device.id, &[want]).await.unwrap();
    tx.commit().await.unwrap();
    server.kill().await;
}

/// A box that was away: takes everything retained and checks it as boxes do.
async fn everything_is_retained(door: &Door) {
    let id = DeviceId::mint([1; 16]);
    let mut client = Client::connect(door, id.as_str()).await;
    assert!(client.subscribe(&every_trust_file()).await);
    let mut files = muster_protocol::trust::Files::new();
    while files.len() < 4 {
        let file = client.next().await;
        let Ok(Topic::Trust(name)) = std::str::from_utf8(&file.topic).unwrap().parse() else {
            panic!("{file:?}")
        };
        files.insert(name, file.payload.to_vec());
    }
    let topic = Topic::Down(id.clone(), Down::Order);
    assert!(client.subscribe(&topic.to_string()).await);
    let order = client.next_on(&topic).await.payload;
    let now = muster_fleet::clock::TrustClock.now();
    let mut trusted = TrustedSet::from_root(&files["1.root.json"]).unwrap();
    trusted.refresh(&files, now).unwrap();
    let context = OrderContext { trusted: &trusted, device: &id, fitness: None, floor: 0, before: &[], now };
    assert!(matches!(Order::check(&order, &context), Ok(Verdict::Accepted(order)) if order.want.len() == 1));
}

#[tokio::test]
async fn a_killed_server_remembers_and_publishes_again() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path()).await;
    for _ in 0..2 {
        let server = Server::start(dir.path()).await;
        let mut db = server.read().await;
        let id = DeviceId::mint([1; 16]);
        let known = devices::get(&mut db, &id).await.unwrap().unwrap();
        // A broker that has just started has no clients.
        assert_eq!(known.presence, Presence::Offline);
        let safe = positions::get(&mut db, &id, &known.boot, positions::Stream::Event).await.unwrap();
        assert_eq!(safe, 1);
        drop(db);
        everything_is_retained(&server.mqtt()).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn the_process_survives_kill_nine_and_ends_at_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path()).await;
    std::fs::write(
        dir.path().join("fleet.toml"),
        "[http]\nlisten = '127.0.0.1:0'\n[door]\nlisten = '127.0.0.1:0'\n[mqtt]\nlisten = '127.0.0.1:0'\n",
    )
    .unwrap();
    for sequence in 2..4 {
        let (child, door) = spawn(dir.path());
        everything_is_retained(&door).await;
        let mut device = Device::connect_to(&door, 1, sequence).await;
        device.hello().await;
        device.say(Up::Event, device.event(sequence, 1).to_json()).await;
        assert_eq!(device.ack().await.event, sequence);
        drop(child);
        let store = Store::open(dir.path()).await.unwrap();
        let mut db = store.read().await.unwrap();
        let safe = positions::get(&mut db, &device.id, &device.boot, positions::Stream::Event).await.unwrap();
        assert_eq!(safe, sequence);
        drop(db);
        store.close().await;
    }
    let (mut child, _) = spawn(dir.path());
    assert!(child.terminate().success());
}

#[tokio::test]
async fn a_folder_has_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let second = serve::run(config(dir.path()), CancellationToken::new(), oneshot::channel().0).await;
    assert!(matches!(second, Err(serve::ServeError::Data(_))), "{second:?}");
    server.stop().await;
    Server::start(dir.path()).await.stop().await;
}

/// The real binary, killed with signal 9 when dropped.
struct Process(Child);

impl Process {
    /// Tells it to stop, and waits until it has.
    fn terminate(&mut self) -> ExitStatus {
        assert!(Command::new("kill").arg(self.0.id().to_string()).status().unwrap().success());
        self.0.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts it and waits until it says where it listens. It must go on when nobody reads its log any more.
fn spawn(data: &Path) -> (Process, Door) {
    let child = Command::new(env!("CARGO_BIN_EXE_muster-fleet"))
        .args(["serve", "--config"])
        .arg(data.join("fleet.toml"))
        .arg("--data")
        .arg(data)
        .env("RUST_LOG", "info")
        .stderr(Stdio::piped())
        .spawn();
    let mut process = Process(child.unwrap());
    let mut lines = BufReader::new(process.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("the fleet server is up")), "the server did not come up");
    let text = std::fs::read(data.join("addresses.json")).unwrap();
    let addresses: Addresses = serde_json::from_slice(&text).unwrap();
    let pki = Arc::new(Pki::load(&data.join("pki")).unwrap());
    (process, Door::of(&addresses.mqtt, pki))
}
