//! What is watched, and what becomes of it while telemetry does not answer.

use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;

use super::*;
use crate::gate::DeviceEvidence;
use crate::rollout::plan::{Size, tests::plan};
use crate::rollout::{Actor, Cause, Phase};
use crate::store::Saved;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn id(n: u8) -> RolloutId {
    RolloutId::mint([n; 16])
}

fn rolled_back() -> Phase {
    Phase::RolledBack { at: at(9), stage: 0, cause: Cause::new("x", "x") }
}

fn rolling_back() -> Phase {
    Phase::RollingBack { since: at(9), stage: 0, cause: Cause::new("x", "x"), by: Actor::Engine }
}

fn running() -> Phase {
    Phase::Running { since: at(1), stage: 0 }
}

/// A fleet's rollouts, and what is known of them in memory.
struct World {
    _dir: tempfile::TempDir,
    store: Store,
    known: Known,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        Self { _dir: dir, store, known: Known::default() }
    }

    /// A rollout to everybody, created at `n`.
    async fn begin(&self, n: u8, phase: Phase) {
        let path = format!("bundles/er-beds/{n}.json").parse().unwrap();
        let bundle = BundleRef { path, sha256: Digest::of(&[n]) };
        let names = ("er-beds".parse().unwrap(), "er-beds".parse().unwrap());
        let by = (Actor::Engine, String::new());
        let plan = plan(&[Size::Percent(100.0)]);
        let begun = Rollout::start(id(n), names, bundle, plan, by, at(i64::from(n))).unwrap();
        let rollout = Rollout { phase, ..begun };
        let mut tx = self.store.write().await.unwrap();
        let (model, phase) = (&rollout.model, rollout.phase.name());
        rollouts::create(&mut tx, &rollout.id, model, phase, rollout.created, &rollout).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn becomes(&self, n: u8, phase: Phase) {
        let mut tx = self.store.write().await.unwrap();
        let loaded = rollouts::get::<Rollout>(&mut tx, &id(n)).await.unwrap().unwrap();
        let rollout = Rollout { phase, ..loaded.document };
        let saved =
            rollouts::save(&mut tx, &id(n), loaded.revision, rollout.phase.name(), &rollout).await.unwrap();
        assert!(matches!(saved, Saved::Saved { .. }));
        tx.commit().await.unwrap();
    }

    /// Takes over what was committed, whether telemetry answers or not. Returns whether anything was new.
    async fn sync(&mut self, answers: bool) -> bool {
        let touched = self.store.changes().take_touched();
        let mut telemetry = self.store.read_telemetry().await.unwrap();
        let mut control = self.store.read().await.unwrap();
        let telemetry = answers.then_some(&mut telemetry);
        self.known.sync(&mut control, telemetry, None, touched, Clocks::default()).await.unwrap()
    }

    async fn watched(&mut self) -> Vec<RolloutId> {
        self.sync(true).await;
        self.known.watches.keys().cloned().collect()
    }
}

#[tokio::test]
async fn what_is_complete_is_watched_again_when_its_challenger_is_taken_back() {
    let mut world = World::new().await;
    world.begin(1, Phase::Completed { at: at(5) }).await;
    assert_eq!(world.watched().await, [id(1)]);
    world.begin(2, running()).await;
    assert_eq!(world.watched().await, [id(2)], "its boxes are on trial with the other");
    world.becomes(2, rolling_back()).await;
    assert_eq!(world.watched().await, [id(2)]);
    world.becomes(2, rolled_back()).await;
    assert_eq!(world.watched().await, [id(1)], "they are its own again");
    world.begin(3, Phase::Completed { at: at(9) }).await;
    assert_eq!(world.watched().await, [id(3)], "the newer one has them all");
    assert_eq!(world.watched().await, [id(3)]);
}

#[tokio::test]
async fn what_was_aborted_keeps_what_it_handed_out_and_nothing_else() {
    let mut world = World::new().await;
    world.begin(1, Phase::Completed { at: at(5) }).await;
    let aborted = Phase::Aborted { at: at(9), stage: 0, by: Actor::Engine, reason: String::new() };
    world.begin(2, aborted).await;
    assert_eq!(world.watched().await, [id(1)]);
    let left: Vec<_> = world.known.over.values().filter_map(Over::left).collect();
    assert_eq!(left.len(), 1);
}

#[tokio::test]
async fn a_way_back_does_not_wait_for_telemetry() {
    let mut world = World::new().await;
    world.begin(1, running()).await;
    world.sync(true).await;
    let (device, hours) = (DeviceId::mint([1; 16]), 3.0);
    let shown = || DeviceEvidence { hours, ..DeviceEvidence::default() };
    let watch = world.known.watches.get_mut(&id(1)).unwrap();
    assert!(!watch.view.unheard && watch.show(&device, shown()));
    world.becomes(1, rolling_back()).await;
    world.sync(false).await;
    let watch = world.known.watches.get_mut(&id(1)).unwrap();
    assert_eq!(watch.rollout.phase, rolling_back());
    assert!(watch.view.unheard, "what is known may be old");
    assert!(!watch.show(&device, shown()), "and is kept");
    world.begin(2, running()).await;
    world.sync(false).await;
    assert_eq!(world.known.unread_of, BTreeSet::from([id(2)]));
    assert!(world.sync(true).await, "what was not read is read now");
    assert!(world.known.watches.values().all(|watch| !watch.view.unheard));
    assert!(world.known.unread_of.is_empty() && world.known.unread.is_nothing());
}
