//! Certificates over the years: renewed, expired, refused, replaced; and authorities that change.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use muster_agent::clock::{TrustClock, monotonic};
use muster_agent::identity::Identity;
use muster_protocol::enrol::{REKEY_PATH, RENEW_PATH};
use muster_protocol::time::Timestamp;
use muster_protocol::topic::Topic;

use super::activation::{ROW, SCORE};
use super::broker::Broker;
use super::bundle::logistic;
use super::door::{Door, Mood};
use super::fleet::{Fleet, root_spec, signed_root};
use super::pki::{Authority, Clients, now_and_for, pki};
use super::process::{AGENT, Agent, Setup};
use super::{HOUR, until};

/// A box whose door is here, with a certificate that was made an hour ago and is good for `left` more.
fn set_up(dir: &Path, broker: &Broker, door: &Door, left: Duration) -> Identity {
    let now = TrustClock::system().now();
    let until = if left.is_zero() { now.minus(Duration::from_mins(1)) } else { now.plus(left) };
    let setup = Setup { server: door.url(), life: (now.minus(HOUR), until), ..Setup::new(&broker.mqtts()) };
    let device = setup.write(dir);
    let identity = Identity::open(&dir.join("state")).unwrap().unwrap();
    door.inner().keys.insert(identity.key().unwrap().fingerprint(), device);
    identity
}

fn serial(identity: &Identity) -> String {
    identity.certificate().unwrap().unwrap().serial
}

async fn connected_with(broker: &Broker, serial: &str) {
    until(&format!("a connection with certificate {serial}"), || {
        (broker.front.state().came.last().map(String::as_str) == Some(serial)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_box_whose_certificate_expired_offline_renews_it_and_connects() {
    let broker = Broker::start().await;
    let fleet = Fleet::start(broker.address);
    let door = Door::open(&broker.mqtts()).await;
    let dir = tempfile::tempdir().unwrap();
    let identity = set_up(dir.path(), &broker, &door, Duration::ZERO);
    let expired = serial(&identity);
    let _agent = Agent::start(dir.path());
    let hello = until("the hello", || fleet.inner().hellos.last().cloned()).await;
    let fresh = serial(&identity);
    assert_ne!(fresh, expired);
    assert_eq!(
        broker.front.state().came.as_slice(),
        std::slice::from_ref(&fresh),
        "the expired one never came through"
    );
    assert_eq!(hello.certificate_expires.map(Timestamp::as_seconds), Some(door.inner().life.1.as_seconds()));
    let asked = door.inner().asked.clone();
    assert_eq!((asked[0].0.as_str(), &asked[0].2), (RENEW_PATH, &None), "renewal shows nothing");
    until("the old one to go", || (!dir.path().join("state/identity/previous").exists()).then_some(())).await;
}

#[tokio::test]
async fn a_certificate_is_renewed_from_a_third_of_its_life_and_proven_at_once() {
    let broker = Broker::start().await;
    let fleet = Fleet::start(broker.address);
    let door = Door::open(&broker.mqtts()).await;
    let dir = tempfile::tempdir().unwrap();
    // An hour has passed; less than a third is left.
    let identity = set_up(dir.path(), &broker, &door, Duration::from_mins(20));
    let old = serial(&identity);
    let agent = Agent::start(dir.path());
    let device = agent.device().await;
    let bundle = logistic("1");
    fleet.publish(&[&bundle]);
    fleet.order(&device, 1, &[("m", &bundle)]);
    agent.scores(ROW, SCORE).await;
    let fresh = until("the renewal", || Some(serial(&identity)).filter(|serial| *serial != old)).await;
    connected_with(&broker, &fresh).await;
    let hello = until("a hello with the new date", || {
        let hello = fleet.inner().hellos.last().cloned()?;
        (hello.certificate_expires.map(Timestamp::as_seconds) == Some(door.inner().life.1.as_seconds()))
            .then_some(hello)
    })
    .await;
    assert!(hello.connection > 1);
    until("the old one to go", || (!dir.path().join("state/identity/previous").exists()).then_some(())).await;
    agent.scores(ROW, SCORE).await;
    assert_eq!(door.asked(RENEW_PATH), 1, "once is enough");
}

#[tokio::test]
async fn a_new_certificate_that_does_not_connect_costs_nothing() {
    let broker = Broker::start().await;
    let fleet = Fleet::start(broker.address);
    let door = Door::open(&broker.mqtts()).await;
    let dir = tempfile::tempdir().unwrap();
    let identity = set_up(dir.path(), &broker, &door, Duration::from_mins(20));
    let old = serial(&identity);
    // Whatever is new is turned away, as by a broker that does not know the new authority yet.
    let state = dir.path().join("state/identity");
    door.inner().mood = Mood::Refuses(503, "busy", "later");
    let agent = Agent::start(dir.path());
    until("the first connection", || fleet.inner().hellos.first().cloned()).await;
    broker
        .front
        .state()
        .barred
        .extend((0..1_000_u32).map(|n| format!("{n:02x}")).filter(|serial| *serial != old));
    door.inner().mood = Mood::Accepts;
    let fresh = until("the renewal", || Some(serial(&identity)).filter(|serial| *serial != old)).await;
    until("the new one to be tried", || broker.front.state().came.contains(&fresh).then_some(())).await;
    until("the old one to be back", || {
        let came = broker.front.state().came.clone();
        let tried = came.iter().position(|serial| *serial == fresh)?;
        came[tried..].contains(&old).then_some(())
    })
    .await;
    let connections = fleet.inner().hellos.len();
    until("a hello with the old one", || (fleet.inner().hellos.len() >= connections.max(2)).then_some(()))
        .await;
    assert!(state.join("previous/certificate.pem").exists(), "both are kept until the new one has connected");
    broker.front.state().barred.clear();
    broker.front.cut();
    connected_with(&broker, &fresh).await;
    until("the old one to go", || (!state.join("previous").exists()).then_some(())).await;
    drop(agent);
}

#[tokio::test]
async fn a_box_that_was_revoked_says_so_and_goes_on_serving() {
    let broker = Broker::start().await;
    let fleet = Fleet::start(broker.address);
    let door = Door::open(&broker.mqtts()).await;
    let dir = tempfile::tempdir().unwrap();
    let identity = set_up(dir.path(), &broker, &door, 90 * 24 * HOUR);
    let agent = Agent::start(dir.path());
    let device = agent.device().await;
    let bundle = logistic("1");
    fleet.publish(&[&bundle]);
    fleet.order(&device, 1, &[("m", &bundle)]);
    agent.scores(ROW, SCORE).await;
    // The fleet bars it: its connections end as soon as they begin.
    door.inner().mood = Mood::Refuses(403, "revoked", "stolen on Monday");
    broker.front.state().barred.insert(serial(&identity));
    broker.front.cut();
    let mut notice = serde_json::Value::Null;
    for _ in 0..2_000 {
        notice = agent.get("/muster/v1/state").await["notices"][0].clone();
        if notice["code"] == "membership_revoked" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(notice["code"], "membership_revoked", "{notice}");
    assert!(notice["sentence"].as_str().unwrap().contains("stolen on Monday"), "{notice}");
    agent.scores(ROW, SCORE).await;
    assert!(agent.identity().certificate().unwrap().is_some());
    assert!(agent.terminate().await.success());
    // Without a fleet, and after a restart, it still does what it did.
    let agent = Agent::start(dir.path());
    agent.scores(ROW, SCORE).await;
    // Let in again: nothing has to be done on the box.
    let hellos = fleet.inner().hellos.len();
    door.inner().mood = Mood::Accepts;
    broker.front.state().barred.clear();
    let boot = until("the box to be back", || fleet.inner().hellos.get(hellos).cloned()).await.boot;
    fleet.state("no notice", |state| state.boot == boot && state.notices.is_empty()).await;
}

#[tokio::test]
async fn a_new_key_takes_over_when_it_has_connected_beside_a_running_agent() {
    let broker = Broker::start().await;
    let fleet = Fleet::start(broker.address);
    let door = Door::open(&broker.mqtts()).await;
    let dir = tempfile::tempdir().unwrap();
    let identity = set_up(dir.path(), &broker, &door, 90 * 24 * HOUR);
    let (old, fingerprint) = (serial(&identity), identity.key().unwrap().fingerprint());
    let agent = Agent::start(dir.path());
    until("the hello", || fleet.inner().hellos.first().cloned()).await;
    let config = dir.path().join("agent.toml");
    let mut rekey = Command::new(AGENT);
    rekey.args(["rekey", "--config"]).arg(config);
    let rekeyed = tokio::task::spawn_blocking(move || rekey.output().unwrap());
    let Output { status, stdout, stderr } = rekeyed.await.unwrap();
    let text = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{text}");
    let key = identity.key().unwrap();
    assert_ne!(key.fingerprint(), fingerprint);
    assert!(text.contains(&key.fingerprint().to_string()), "{text}");
    let asked = door.inner().asked.last().cloned().unwrap();
    assert_eq!(
        asked,
        (REKEY_PATH.to_owned(), key.fingerprint(), Some(old)),
        "the old certificate vouches for the new key"
    );
    assert_eq!(identity.enrolment().unwrap().fingerprint, key.fingerprint());
    connected_with(&broker, &serial(&identity)).await;
    until("the old one to go", || (!dir.path().join("state/identity/previous").exists()).then_some(())).await;
    assert!(!dir.path().join("state/identity/next-key.pem").exists());
    assert!(agent.terminate().await.success());
}

#[tokio::test]
async fn the_servers_authority_changes_by_the_root_and_nobody_has_to_visit() {
    let broker = Broker::start().await;
    let fleet = Fleet::start(broker.address);
    let door = Door::open(&broker.mqtts()).await;
    let dir = tempfile::tempdir().unwrap();
    set_up(dir.path(), &broker, &door, 90 * 24 * HOUR);
    let agent = Agent::start(dir.path());
    until("the hello", || fleet.inner().hellos.first().cloned()).await;
    fleet.publish(&[&logistic("1")]);
    // Root 2 lists both authorities. Boxes say when they have it.
    let authority = Authority::new("new servers");
    let mut spec = root_spec(2);
    spec.tls_roots.push(authority.pem());
    fleet.retain(vec![(Topic::Trust("2.root.json".to_owned()), signed_root(&spec, &[1]))]);
    until("a hello with root 2", || {
        fleet.inner().hellos.iter().any(|hello| hello.root == Some(2)).then_some(())
    })
    .await;
    let before = fleet.inner().hellos.last().unwrap().connection;
    // The server switches; root 3 drops the old one.
    broker.front.state().tls = pki().server_by(&authority, Clients::MustShow, now_and_for(HOUR));
    spec.version = 3;
    spec.tls_roots.remove(0);
    fleet.retain(vec![(Topic::Trust("3.root.json".to_owned()), signed_root(&spec, &[1]))]);
    until("a hello with root 3", || {
        fleet.inner().hellos.iter().any(|hello| hello.root == Some(3)).then_some(())
    })
    .await;
    broker.front.cut();
    until("a connection by the new authority", || {
        fleet.inner().hellos.iter().any(|hello| hello.connection > before).then_some(())
    })
    .await;
    // Whoever still shows the old one is not ours any more.
    let came = broker.front.state().came.len();
    broker.front.state().tls = pki().server(Clients::MustShow);
    broker.front.cut();
    until("the old authority to be refused", || agent.log().contains("trusted root names").then_some(()))
        .await;
    assert_eq!(broker.front.state().came.len(), came);
    // And a restart believes the newest root, not the one of the enrolment.
    drop(agent);
    broker.front.state().tls = pki().server_by(&authority, Clients::MustShow, now_and_for(HOUR));
    let _agent = Agent::start(dir.path());
    until("a connection after the restart", || (broker.front.state().came.len() > came).then_some(())).await;
}

/// The machine's clock is days behind the world: its servers' certificates have not begun by it, and it was never told
/// better. Whoever signed them knew what time it was.
#[tokio::test]
async fn a_box_whose_clock_fell_back_connects_to_a_server_that_is_younger() {
    let broker = Broker::start().await;
    let fleet = Fleet::start(broker.address);
    let now = TrustClock::system().now();
    let later = (now.plus(10 * 24 * HOUR), now.plus(20 * 24 * HOUR));
    broker.front.state().tls = pki().server_by(&pki().server_authority, Clients::MustShow, later);
    let dir = tempfile::tempdir().unwrap();
    Setup::new(&broker.mqtts()).write(dir.path());
    let _agent = Agent::start(dir.path());
    until("the hello", || fleet.inner().hellos.first().cloned()).await;
}

/// By the time that it goes by every certificate is over at once: it asks for fresh ones with a pause between.
#[tokio::test]
async fn a_box_that_finds_each_certificate_over_does_not_ask_without_a_pause() {
    let broker = Broker::start().await;
    let door = Door::open(&broker.mqtts()).await;
    let dir = tempfile::tempdir().unwrap();
    set_up(dir.path(), &broker, &door, Duration::from_mins(20));
    let now = TrustClock::system().now();
    door.inner().life = (now.minus(2 * HOUR), now.minus(HOUR));
    let _agent = Agent::start(dir.path());
    let first = until("a renewal", || (door.asked(RENEW_PATH) > 0).then(monotonic)).await;
    until("three more", || (door.asked(RENEW_PATH) > 3).then_some(())).await;
    assert!(first.elapsed() > Duration::from_secs(5), "two seconds lie between any two");
}
