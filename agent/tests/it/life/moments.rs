//! When a bundle takes over: held back, delayed, consented to, in a real process that is killed in between.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use muster_agent::clock::TrustClock;
use muster_protocol::ids::DeviceId;
use muster_protocol::message::up::{BundleRef, ReadyFor};
use muster_protocol::message::{EventKind, Phase, State};
use muster_protocol::trust::{Consent, Permit, Revocation, RevocationAction};
use reqwest::Method;
use serde_json::json;

use super::HOUR;
use super::activation::{ROW, SCORE, SCORE_B};
use super::broker::Broker;
use super::bundle::{Bundle, logistic, logistic_b};
use super::fleet::{Fleet, Signing};
use super::process::{Agent, set_up};
use super::until;

const NOW: (Permit, Consent) = (Permit::Now, Consent::NotNeeded);
const HOLD: (Permit, Consent) = (Permit::Hold, Consent::NotNeeded);

/// A box that runs `a`, with `b` in the catalogue.
struct Scene {
    _broker: Broker,
    fleet: Fleet,
    dir: tempfile::TempDir,
    device: DeviceId,
    a: Bundle,
    b: Bundle,
}

impl Scene {
    async fn start(config: &str) -> (Self, Agent) {
        Self::configured(|text| text + config).await
    }

    async fn configured(edit: impl FnOnce(String) -> String) -> (Self, Agent) {
        let broker = Broker::start().await;
        let fleet = Fleet::start(broker.address);
        let dir = tempfile::tempdir().unwrap();
        let device = set_up(dir.path(), &broker);
        let path = dir.path().join("agent.toml");
        fs::write(&path, edit(fs::read_to_string(&path).unwrap())).unwrap();
        let agent = Agent::start(dir.path());
        let (a, b) = (logistic("1"), logistic_b("2"));
        fleet.publish(&[&a, &b]);
        (Self { _broker: broker, fleet, dir, device, a, b }, agent)
    }

    /// `a` answers.
    async fn running(config: &str) -> (Self, Agent) {
        let (scene, agent) = Self::start(config).await;
        scene.order(1, &scene.a, NOW);
        scene.fleet.activated(&scene.a, 1).await;
        (scene, agent)
    }

    fn order(&self, version: u64, bundle: &Bundle, moment: (Permit, Consent)) {
        self.fleet.order_when(&self.device, version, bundle, moment);
    }

    /// `kill -9`, and the same box again.
    fn killed(&self, agent: Agent) -> Agent {
        agent.kill();
        Agent::start(self.dir.path())
    }

    async fn ready(&self, wanted: ReadyFor, boots: usize) -> State {
        let what = format!("a bundle that waits for {wanted:?} in process {boots}");
        until(&what, || {
            let inner = self.fleet.inner();
            let lives: BTreeSet<_> = inner.hellos.iter().map(|hello| &hello.boot).collect();
            let state = inner.states.last().filter(|state| waits_for(state) == Some(wanted))?;
            let newest = inner.hellos.last().is_some_and(|hello| hello.boot == state.boot);
            (lives.len() == boots && newest).then(|| state.clone())
        })
        .await
    }

    fn chunks(&self) -> usize {
        self.fleet.inner().chunks_sent.len()
    }

    fn activations(&self, wanted: &Bundle) -> usize {
        let is = |kind: &EventKind| matches!(kind, EventKind::Activated { bundle, .. } if *bundle == wanted.reference());
        self.fleet.inner().arrived.iter().filter(|event| is(&event.kind)).count()
    }
}

fn waits_for(state: &State) -> Option<ReadyFor> {
    match &state.slots.first()?.phase {
        Phase::Ready { waits_for, .. } => Some(*waits_for),
        Phase::Empty
        | Phase::Downloading { .. }
        | Phase::Verifying { .. }
        | Phase::SelfTesting { .. }
        | Phase::Activating { .. }
        | Phase::Running { .. }
        | Phase::Failed { .. }
        | Phase::Stopped { .. } => None,
    }
}

#[tokio::test]
async fn a_held_bundle_is_staged_and_takes_over_without_a_failed_request_when_it_may() {
    let (scene, agent) = Scene::running("").await;
    let clients = agent.watch_any(ROW, vec![SCORE]).await;
    scene.order(2, &scene.b, HOLD);
    let state = scene.ready(ReadyFor::Permit, 1).await;
    assert_eq!(
        state.slots[0].current.as_ref().unwrap().bundle,
        scene.a.reference(),
        "what runs is not touched"
    );
    clients.unbroken().await;

    // Other permits for the same bundle: nothing travels, nothing is tested anew, and one that is over opens nothing.
    let (staged, tests) = (scene.chunks(), agent.log().matches("the self-test passed").count());
    let over = TrustClock::system().now().minus(Duration::from_secs(1));
    scene.order(3, &scene.b, (Permit::Until(over), Consent::NotNeeded));
    scene.fleet.state("the third order", |state| state.observed_generation == 3).await;
    assert_eq!(waits_for(&scene.ready(ReadyFor::Permit, 1).await), Some(ReadyFor::Permit));
    clients.unbroken().await;
    drop(clients);

    let clients = agent.watch_any(ROW, vec![SCORE, SCORE_B]).await;
    let soon = TrustClock::system().now().plus(HOUR);
    scene.order(4, &scene.b, (Permit::Until(soon), Consent::NotNeeded));
    scene.fleet.activated(&scene.b, 1).await;
    agent.scores(ROW, SCORE_B).await;
    clients.unbroken().await;
    assert_eq!(scene.chunks(), staged);
    assert_eq!(agent.log().matches("the self-test passed").count(), tests);

    // A hold on what runs by now changes nothing.
    scene.order(5, &scene.b, HOLD);
    let state = scene.fleet.state("the fifth order", |state| state.observed_generation == 5).await;
    assert!(matches!(state.slots[0].phase, Phase::Running { .. }));
}

#[tokio::test]
async fn killed_while_it_waits_a_box_waits_again_and_fetches_nothing() {
    let (scene, agent) = Scene::running("").await;
    scene.order(2, &scene.b, HOLD);
    scene.ready(ReadyFor::Permit, 1).await;
    let staged = scene.chunks();
    let agent = scene.killed(agent);
    scene.ready(ReadyFor::Permit, 2).await;
    agent.scores(ROW, SCORE).await;
    // A permit that ends while the box is off is over when it comes back.
    let end = TrustClock::system().now().plus(Duration::from_secs(1));
    agent.kill();
    scene.order(3, &scene.b, (Permit::Until(end), Consent::NotNeeded));
    until("the end of the permit", || (TrustClock::system().now() > end).then_some(())).await;
    let agent = Agent::start(scene.dir.path());
    scene.ready(ReadyFor::Permit, 3).await;
    assert_eq!((scene.chunks(), scene.activations(&scene.b)), (staged, 0));
    scene.order(4, &scene.b, NOW);
    agent.scores(ROW, SCORE_B).await;
    assert_eq!(scene.chunks(), staged);
}

#[tokio::test]
async fn an_application_delays_a_bundle_across_a_kill_and_no_revocation() {
    let (scene, agent) = Scene::running("").await;
    let taken = ["lease", "take", "ct-console", "--reason", "an examination is running", "--seconds", "3600"];
    agent.command(&taken).unwrap();
    scene.order(2, &scene.b, NOW);
    let state = scene.ready(ReadyFor::Lease, 1).await;
    assert_eq!((state.leases[0].owner.as_str(), state.leases.len()), ("ct-console", 1));
    let agent = scene.killed(agent);
    scene.ready(ReadyFor::Lease, 2).await;
    let listed = agent.command(&["lease", "list"]).unwrap();
    assert!(listed.contains("ct-console") && listed.contains("an examination is running"), "{listed}");
    agent.scores(ROW, SCORE).await;
    // Another application, for a moment: when it has ended by itself the first one still holds.
    let brief = json!({ "reason": "printing", "seconds": 1 });
    assert_eq!(agent.send(Method::PUT, "/muster/v1/leases/printer", None, brief).await.0, 200);
    scene.fleet.state("two leases", |state| state.leases.len() == 2).await;
    scene.fleet.state("one lease again", |state| state.leases.len() == 1).await;
    let too_long = json!({ "reason": "for ever", "seconds": 86_401 });
    assert_eq!(agent.send(Method::PUT, "/muster/v1/leases/printer", None, too_long).await.0, 400);

    // What must not answer stops all the same.
    let revocation = Revocation { reason: "miscalibrated".to_owned(), action: RevocationAction::Stop };
    scene.fleet.edit(|spec| spec.revoke(&scene.a.path, revocation).unwrap());
    scene.fleet.event("the stop", |kind| matches!(kind, EventKind::Stopped { .. })).await;
    assert_eq!(scene.activations(&scene.b), 0);
    agent.command(&["lease", "release", "ct-console"]).unwrap();
    agent.scores(ROW, SCORE_B).await;
    assert!(agent.command(&["lease", "release", "ct-console"]).unwrap_err().contains("holds no lease"));
}

#[tokio::test]
async fn the_owner_is_asked_for_every_bundle_but_the_one_before_and_a_yes_survives_a_kill() {
    let (scene, agent) = Scene::start("[activation]\nconsent = \"ask\"\n").await;
    // The first bundle of an empty slot as well.
    scene.order(1, &scene.a, HOLD);
    scene.ready(ReadyFor::Permit, 1).await;
    agent.command(&["consent", "give", "m", "--by", "ward 3"]).unwrap();
    let given = scene.fleet.event("the yes", |kind| matches!(kind, EventKind::ConsentGiven { .. })).await;
    let EventKind::ConsentGiven { bundle, by, .. } = given else { panic!("{given:?}") };
    assert_eq!((bundle, by.as_str()), (scene.a.reference(), "ward 3"));
    let agent = scene.killed(agent);
    scene.ready(ReadyFor::Permit, 2).await;
    scene.order(2, &scene.a, NOW);
    agent.scores(ROW, SCORE).await;

    scene.order(3, &scene.b, NOW);
    scene.ready(ReadyFor::Consent, 2).await;
    let listed = agent.command(&["consent", "list"]).unwrap();
    assert!(listed.contains("waits for the consent; nobody has said yes yet"), "{listed}");
    // No application says yes for a person, and nobody says it for a bundle that he was not shown.
    let (path, sha256) = ("/muster/v1/consents/m", scene.b.reference().sha256);
    let yes = json!({ "sha256": sha256, "by": "an application" });
    assert_eq!(agent.send(Method::PUT, path, None, yes.clone()).await.0, 401);
    assert_eq!(agent.send(Method::PUT, path, Some("guessed"), yes).await.0, 401);
    let key = fs::read_to_string(agent.state_path("consent.key")).unwrap();
    let other = json!({ "sha256": scene.a.reference().sha256 });
    assert_eq!(agent.send(Method::PUT, path, Some(key.trim()), other).await.0, 409);
    assert_eq!(scene.activations(&scene.b), 0);
    // Said and taken back under a hold: it is asked again.
    scene.order(4, &scene.b, HOLD);
    scene.ready(ReadyFor::Permit, 2).await;
    agent.command(&["consent", "give", "m"]).unwrap();
    agent.command(&["consent", "withdraw", "m", "--by", "ward 4"]).unwrap();
    scene
        .fleet
        .event("the no", |kind| matches!(kind, EventKind::ConsentWithdrawn { by, .. } if by == "ward 4"))
        .await;
    scene.order(5, &scene.b, NOW);
    scene.ready(ReadyFor::Consent, 2).await;
    agent.command(&["consent", "give", "m"]).unwrap();
    agent.scores(ROW, SCORE_B).await;

    // Back to what ran before: the fleet does not wait for anybody. And forth again is another change.
    scene.fleet.state("a way back", |state| state.slots[0].previous.is_some()).await;
    scene.order(6, &scene.a, NOW);
    agent.scores(ROW, SCORE).await;
    scene.fleet.activated(&scene.a, 2).await;
}

#[tokio::test]
async fn a_box_whose_clock_is_behind_does_not_take_an_old_hour_for_the_present_one() {
    let (scene, agent) = Scene::running("").await;
    // As for a box that wakes in 1970: the newest signature is hours ahead of its clock.
    let ahead = TrustClock::system().now().plus(2 * HOUR);
    scene.fleet.release(&Signing { issued: ahead, ..Signing::honest(2) }, |_| ());
    scene.fleet.state("the suspicion", |state| state.notices.iter().any(|n| n.code == "clock_suspect")).await;
    let open = (Permit::Until(ahead.plus(HOUR)), Consent::NotNeeded);
    scene.order(2, &scene.b, open);
    scene.ready(ReadyFor::Permit, 1).await;
    let agent = scene.killed(agent);
    scene.ready(ReadyFor::Permit, 2).await;
    scene.order(3, &scene.b, NOW);
    agent.scores(ROW, SCORE_B).await;
}

#[tokio::test]
async fn what_waits_and_what_was_before_see_the_same_requests_and_answer_nobody() {
    let (scene, agent) = Scene::running("").await;
    let clients = agent.watch_any(ROW, vec![SCORE]).await;
    scene.order(2, &scene.b, HOLD);
    scene.ready(ReadyFor::Permit, 1).await;
    let (a, b) = (scene.a.reference(), scene.b.reference());
    let beside = |bundle: &BundleRef, against: &BundleRef| {
        let (version, against) = (bundle.path.version(), against.path.version());
        format!("muster_shadow_rows_total{{model=\"m\",version=\"{version}\",against=\"{against}\"}}")
    };
    agent.measures(&beside(&b, &a), 1.0).await;
    // The fleet is told; and each row is one that the other would have flagged otherwise.
    let (rows, differed) = scene.fleet.shadow(&scene.b, &scene.a, 5).await;
    assert_eq!(rows, differed);
    clients.unbroken().await;
    drop(clients);

    let clients = agent.watch_any(ROW, vec![SCORE, SCORE_B]).await;
    scene.order(3, &scene.b, NOW);
    scene.fleet.activated(&scene.b, 1).await;
    agent.measures(&beside(&a, &b), 1.0).await;
    let (rows, differed) = scene.fleet.shadow(&scene.a, &scene.b, 5).await;
    assert_eq!(rows, differed);
    clients.unbroken().await;
}

#[tokio::test]
async fn an_owner_who_wants_no_shadow_has_none() {
    let none = |text: String| text.replace("[serve]\n", "[serve]\nshadow_percent = 0\n");
    let (scene, agent) = Scene::configured(none).await;
    scene.order(1, &scene.a, NOW);
    scene.fleet.activated(&scene.a, 1).await;
    let _clients = agent.watch_any(ROW, vec![SCORE]).await;
    scene.order(2, &scene.b, HOLD);
    scene.ready(ReadyFor::Permit, 1).await;
    scene.order(3, &scene.b, (Permit::Hold, Consent::Ask));
    scene.fleet.state("the third order", |state| state.observed_generation == 3).await;
    assert!(!agent.log().contains("runs in the shadow"));
}
