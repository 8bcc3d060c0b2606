//! What a box has to say waits until the fleet has it.

use std::collections::BTreeMap;

use muster_protocol::ids::BootId;
use muster_protocol::message::EventKind;

use super::activation::{ROW, SCORE};
use super::broker::Broker;
use super::bundle::logistic;
use super::fleet::Fleet;
use super::process::{Agent, set_up};
use super::until;

#[tokio::test]
async fn what_happened_offline_and_in_earlier_lives_arrives_whole_and_in_order() {
    let mut broker = Broker::start().await;
    let fleet = Fleet::start(broker.address);
    let dir = tempfile::tempdir().unwrap();
    set_up(dir.path(), &broker);
    let agent = Agent::start(dir.path());
    let device = agent.device().await;
    let bundle = logistic("1");
    fleet.publish(&[&bundle]);
    fleet.order(&device, 1, &[("m", &bundle)]);
    fleet.activated(&bundle, 1).await;
    // From here on nothing is acknowledged, then nobody is there at all.
    fleet.inner().silent = true;
    let heard = fleet.inner().reports.len();
    until("unacknowledged reports", || (fleet.inner().reports.len() > heard + 1).then_some(())).await;
    broker.kill();
    agent.kill();
    for _ in 0..2 {
        // The model serves without the fleet.
        let agent = Agent::start(dir.path());
        agent.scores(ROW, SCORE).await;
        agent.kill();
    }
    let agent = Agent::start(dir.path());
    agent.scores(ROW, SCORE).await;
    fleet.inner().silent = false;
    broker.restart().await;
    until("four lives", || {
        let inner = fleet.inner();
        let started = inner.arrived.iter().filter(|event| matches!(event.kind, EventKind::Started { .. }));
        (started.count() == 4).then_some(())
    })
    .await;
    // Everything acknowledged leaves the spool; only the present boot's folder stays.
    let spool = agent.state_path("spool");
    until("the earlier boots to be done with", || {
        (std::fs::read_dir(&spool).unwrap().count() == 1).then_some(())
    })
    .await;
    let inner = fleet.inner();
    let mut numbers: BTreeMap<&BootId, Vec<u64>> = BTreeMap::new();
    for event in &inner.arrived {
        numbers.entry(&event.boot).or_default().push(event.sequence);
    }
    assert_eq!(numbers.len(), 4);
    for (boot, numbers) in numbers {
        let whole: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, whole, "boot {boot}: each once, in order, none missing");
    }
    let reports: Vec<&(BootId, u64)> = inner.reports.keys().collect();
    assert!(reports.iter().any(|(boot, _)| *boot == inner.hellos[0].boot));
}
