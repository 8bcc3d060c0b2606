//! Every attack of the matrix in the trust design, on the real program: a hostile broker and a stolen server that can
//! forge, replay, hold back and flood. In each the model that ran answers all the time, and the box says what it refused.
//!
//! ```text
//!   content    arbitrary bundles · endless data · slow retrieval
//!   history    rollback · freeze · fast-forward · mix-and-match
//!   authority  wrong device · one key of two · stolen server · wrong hardware · yank · revocation
//! ```

mod authority;
mod content;
mod history;

use muster_protocol::ids::DeviceId;
use muster_protocol::message::{EventKind, Phase};

use super::activation::{ROW, SCORE};
use super::broker::Broker;
use super::bundle::{Bundle, build, fixture, logistic};
use super::fleet::{Fleet, Signing, root};
use super::process::{Agent, Setup, Watch};
use super::until;

/// A box that runs a good bundle by order 10 of catalogue 1, and somebody who asks it all the time.
struct Scene {
    broker: Broker,
    fleet: Fleet,
    agent: Agent,
    device: DeviceId,
    good: Bundle,
    watch: Watch,
    dir: tempfile::TempDir,
}

impl Scene {
    async fn set() -> Self {
        Self::set_with(root(), Signing::honest(1), "").await
    }

    async fn set_with(root: Vec<u8>, signing: Signing, config: &str) -> Self {
        let broker = Broker::start().await;
        let fleet = Fleet::start(broker.address);
        let dir = tempfile::tempdir().unwrap();
        let device = Setup { root, ..Setup::new(&broker.mqtts()) }.write(dir.path());
        let path = dir.path().join("agent.toml");
        let text = std::fs::read_to_string(&path).unwrap() + config;
        std::fs::write(path, text).unwrap();
        let agent = Agent::start(dir.path());
        let good = logistic("1");
        until("the hello", || fleet.inner().hellos.first().cloned()).await;
        fleet.hold(&good);
        fleet.release(&signing, |spec| spec.put(&good.target(serde_json::json!({ "model": "m" }))));
        fleet.order(&device, 10, &[("m", &good)]);
        agent.scores(ROW, SCORE).await;
        fleet.activated(&good, 1).await;
        let watch = agent.watch(ROW, SCORE).await;
        Self { broker, fleet, agent, device, good, watch, dir }
    }

    /// The box says why it refuses, in an event and in its state; what ran answers, by the order it had.
    async fn refused(&self, code: &str) {
        let is = |kind: &EventKind| matches!(kind, EventKind::OrderRefused { code: found, .. } | EventKind::TrustRefused { code: found, .. } if found == code);
        self.fleet.event(code, is).await;
        let state = self
            .fleet
            .state(code, |state| state.refusal.as_ref().is_some_and(|refusal| refusal.code == code))
            .await;
        assert_eq!(state.observed_generation, 10);
        self.runs_good().await;
    }

    /// A bundle that cannot be had or used is reported as failed.
    async fn failed(&self, bundle: &Bundle, wanted: &str) {
        let failed = |kind: &EventKind| matches!(kind, EventKind::ActivationFailed { bundle: b, .. } if *b == bundle.reference());
        let EventKind::ActivationFailed { code, sentence, .. } = self.fleet.event(wanted, failed).await
        else {
            panic!()
        };
        assert_eq!(code, wanted, "{sentence}");
        self.runs_good().await;
    }

    /// The good bundle is what runs, and it answered all the time.
    async fn runs_good(&self) {
        let runs = self.fleet.state("the good bundle", |state| {
            state
                .slots
                .first()
                .and_then(|slot| slot.current.as_ref())
                .is_some_and(|c| c.bundle == self.good.reference())
        });
        runs.await;
        self.watch.unbroken().await;
    }

    /// After the attack the fleet's own word is obeyed again: another bundle of the same model, activated.
    async fn obeys(&self, signing: &Signing, order: u64) {
        let next = twin("next");
        self.fleet.hold(&next);
        self.fleet.release(signing, |spec| spec.put(&next.target(serde_json::json!({ "model": "m" }))));
        self.fleet.order(&self.device, order, &[("m", &next)]);
        self.fleet.activated(&next, 1).await;
        let running =
            |phase: &Phase| matches!(phase, Phase::Running { bundle } if *bundle == next.reference());
        let state = self
            .fleet
            .state("the next order", |state| {
                state.slots.iter().any(|slot| running(&slot.phase)) && state.refusal.is_none()
            })
            .await;
        assert_eq!(state.observed_generation, order);
        self.watch.unbroken().await;
    }
}

/// Another bundle of the same model: its answers are the same, its identity is not.
fn twin(version: &str) -> Bundle {
    build(version, fixture("logistic.onnx"), &[0.524_979_19, 0.586_617_6], version.as_bytes(), |_| ())
}

/// What must never answer anybody.
fn evil(version: &str) -> Bundle {
    super::bundle::logistic_b(version)
}
