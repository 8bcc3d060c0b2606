//! Content that is interrupted, altered or not there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use muster_protocol::ids::Digest;
use muster_protocol::limits::CHUNK_BYTES;
use muster_protocol::message::{EventKind, Phase};

use super::activation::{ROW, SCORE};
use super::broker::Broker;
use super::bundle::{build, fixture, heavy, logistic};
use super::fleet::{Fleet, slot};
use super::process::{Agent, member, set_up};
use super::until;

fn ballast(chunks: usize) -> Vec<u8> {
    (0..chunks * CHUNK_BYTES - 100).map(|i| u8::try_from((i * 31 + i / CHUNK_BYTES) % 251).unwrap()).collect()
}

/// Which chunks of a download are on the disk.
fn received(marks: &Path) -> BTreeSet<u32> {
    let marks = fs::read(marks).unwrap_or_default();
    (0..).zip(&marks).filter(|&(_, &mark)| mark == b'1').map(|(index, _)| index).collect()
}

/// What was there before the interruption did not travel again, nor did the bundle's other files.
fn assert_travelled_once(fleet: &Fleet, blob: Digest, before: &BTreeSet<u32>) {
    let inner = fleet.inner();
    let again: Vec<_> =
        inner.chunks_sent.iter().filter(|(d, index)| *d != blob || before.contains(index)).collect();
    assert!(again.is_empty(), "{again:?} travelled again; {before:?} were there");
}

#[tokio::test]
async fn a_broker_killed_in_the_middle_of_a_download_costs_no_chunk_that_was_received() {
    let mut broker = Broker::start().await;
    let fleet = Fleet::start(broker.address);
    let dir = tempfile::tempdir().unwrap();
    set_up(dir.path(), &broker);
    let agent = Agent::start(dir.path());
    let device = agent.device().await;
    let bundle = heavy("1", &ballast(12));
    fleet.publish(&[&bundle]);
    // The manifest and the three small files take a chunk each.
    fleet.inner().chunks_left = Some(4 + 5);
    fleet.order(&device, 1, &[("m", &bundle)]);
    let weight = bundle.digest_of("ballast.bin");
    let marks = agent.state_path(&format!("staging/{weight}.have"));
    let before = until("five chunks", || Some(received(&marks)).filter(|chunks| chunks.len() == 5)).await;
    let state = fleet
        .state(
            "progress",
            |s| matches!(s.slots[0].phase, Phase::Downloading { total_bytes, .. } if total_bytes > 1 << 20),
        )
        .await;
    assert!(
        matches!(&state.slots[0].phase, Phase::Downloading { bundle: b, .. } if *b == bundle.reference())
    );
    broker.kill();
    {
        let mut inner = fleet.inner();
        inner.chunks_left = None;
        inner.chunks_sent.clear();
    }
    broker.restart().await;
    fleet.activated(&bundle, 1).await;
    assert_travelled_once(&fleet, weight, &before);
    agent.scores(ROW, SCORE).await;
}

#[tokio::test]
async fn an_agent_killed_in_the_middle_of_a_download_goes_on_where_it_was() {
    let (_broker, fleet, dir, agent, device) = member().await;
    let bundle = heavy("1", &ballast(12));
    fleet.publish(&[&bundle]);
    fleet.inner().chunks_left = Some(4 + 7);
    fleet.order(&device, 1, &[("m", &bundle)]);
    let weight = bundle.digest_of("ballast.bin");
    let marks = agent.state_path(&format!("staging/{weight}.have"));
    let before = until("seven chunks", || Some(received(&marks)).filter(|chunks| chunks.len() == 7)).await;
    agent.kill();
    {
        let mut inner = fleet.inner();
        inner.chunks_left = None;
        inner.chunks_sent.clear();
    }
    let agent = Agent::start(dir.path());
    fleet.activated(&bundle, 1).await;
    assert_travelled_once(&fleet, weight, &before);
    agent.scores(ROW, SCORE).await;
}

#[tokio::test]
async fn altered_and_missing_content_is_named_and_had_when_it_is_repaired() {
    let (_broker, fleet, _dir, agent, device) = member().await;
    let good = logistic("1");
    let altered = build("2", fixture("logistic_b.onnx"), &[0.450_166, 0.645_656_3], b"altered", |_| ());
    let missing = build("3", fixture("logistic.onnx"), &[0.524_979_19, 0.586_617_6], b"missing", |_| ());
    fleet.publish(&[&good, &altered, &missing]);
    let (flipped, gone) = (altered.digest_of("model.onnx"), missing.digest_of("ballast.bin"));
    {
        let mut inner = fleet.inner();
        inner.blobs.get_mut(&flipped).unwrap()[100] ^= 1;
        inner.blobs.remove(&gone);
    }
    fleet.order(&device, 1, &[("m", &good), ("n", &altered), ("o", &missing)]);
    let code = async |name: &'static str| {
        let failed = fleet
            .event(
                name,
                |kind| matches!(kind, EventKind::ActivationFailed { slot: s, .. } if *s == slot(name)),
            )
            .await;
        let EventKind::ActivationFailed { code, .. } = failed else { panic!("{failed:?}") };
        code
    };
    assert_eq!(code("n").await, "content_damaged");
    assert_eq!(code("o").await, "content_unknown");
    assert!(!agent.state_path(&format!("blobs/{}/{flipped}", &flipped.to_string()[..2])).exists());
    agent.scores(ROW, SCORE).await;
    // Nobody has to order it again.
    fleet.publish(&[&altered, &missing]);
    fleet.activated(&altered, 1).await;
    fleet.activated(&missing, 1).await;
}
