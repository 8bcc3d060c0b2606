//! What arrives is not what was signed, is without end, or hardly arrives.

use std::time::Duration;

use muster_protocol::chunk::{Answer, Chunk};
use muster_protocol::limits::{CHUNK_BYTES, TIMESTAMP_BYTES_MAX};
use muster_protocol::message::EventKind;
use muster_protocol::topic::{Down, Topic};
use serde_json::json;

use super::super::bundle::heavy;
use super::super::fleet::{Inner, Signing, root, signed};
use super::super::until;
use super::{Scene, evil, twin};

#[tokio::test]
async fn arbitrary_bundles_never_run_whatever_is_forged() {
    let scene = Scene::set().await;
    let fleet = &scene.fleet;
    // Forged catalogue: the thief has the server's online keys and signs targets with a key of his own.
    let forged = evil("9");
    fleet.hold(&forged);
    let draft = fleet.draft(|spec| spec.put(&forged.target(json!({ "model": "m" }))));
    fleet.retain(signed(&draft, &Signing { targets: vec![22], ..Signing::honest(2) }));
    scene.refused("trust_signature").await;
    fleet.order(&scene.device, 11, &[("m", &forged)]);
    let refused = |kind: &EventKind| matches!(kind, EventKind::OrderRefused { code, .. } if code == "bundle_uncatalogued");
    fleet.event("the order for it", refused).await;
    scene.runs_good().await;

    // Forged manifest: what the server gives under the name that was signed is another one.
    let (a, b) = (twin("2"), twin("3"));
    fleet.hold(&a);
    fleet.hold(&b);
    // The thief has signed index 2, so the owner signs a later one.
    fleet.release(&Signing::honest(3), |spec| {
        spec.put(&a.target(json!({ "model": "m" })));
        spec.put(&b.target(json!({ "model": "m" })));
    });
    fleet.inner().blobs.get_mut(&a.reference().sha256).unwrap()[20] ^= 1;
    fleet.order(&scene.device, 12, &[("m", &a)]);
    scene.failed(&a, "content_damaged").await;
    // Forged file, the manifest being right.
    fleet.inner().blobs.get_mut(&b.digest_of("ballast.bin")).unwrap()[0] ^= 1;
    fleet.order(&scene.device, 13, &[("m", &b)]);
    scene.failed(&b, "content_damaged").await;
    let activated = |inner: &Inner| {
        inner.arrived.iter().filter(|event| matches!(event.kind, EventKind::Activated { .. })).count()
    };
    assert_eq!(activated(&fleet.inner()), 1, "nothing but the good bundle was ever activated");
}

#[tokio::test]
async fn endless_data_is_cut_off_and_costs_no_memory() {
    let scene = Scene::set().await;
    let fleet = &scene.fleet;
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", scene.agent.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = memory();

    // A trust file longer than its kind may be.
    fleet.retain(vec![(Topic::Trust("timestamp.json".to_owned()), vec![b' '; TIMESTAMP_BYTES_MAX + 1])]);
    scene.refused("trust_too_large").await;

    // An order without end.
    let order = Topic::Down(scene.device.clone(), Down::Order);
    fleet.say(&order.to_string(), &vec![b'['; 100_000]);
    let large =
        |kind: &EventKind| matches!(kind, EventKind::OrderRefused { code, .. } if code == "order_too_large");
    fleet.event("the long order", large).await;

    // More chunks than were asked for, of a download that never was.
    let chunk = Topic::Down(scene.device.clone(), Down::Chunk).to_string();
    let bytes = vec![7; CHUNK_BYTES];
    for index in 0..200 {
        let unasked =
            Chunk { token: 1, index, total: u32::MAX, digest_prefix: [1; 16], answer: Answer::Bytes(&bytes) };
        fleet.say(&chunk, &unasked.encode());
        if index % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    scene.watch.unbroken().await;

    // A packet that never ends: the header promises 256 MiB.
    let connections = fleet.inner().hellos.len();
    scene.broker.front.inject([vec![0x30, 0xff, 0xff, 0xff, 0x7f], vec![0; 60_000]].concat());
    until("the box to hang up and come back", || (fleet.inner().hellos.len() > connections).then_some(()))
        .await;
    scene.watch.unbroken().await;
    let grown = memory().saturating_sub(before);
    assert!(grown < 128 * 1024, "{grown} KiB more than before");
    scene.obeys(&Signing::honest(2), 11).await;
}

#[tokio::test]
async fn a_trickle_is_noticed_given_up_and_taken_up_again() {
    let config = "[download]\nslowest_bytes_per_s = 300000\nslowest_over_s = 3\n";
    let scene = Scene::set_with(root(), Signing::honest(1), config).await;
    let fleet = &scene.fleet;
    let ballast: Vec<u8> = (0..16 * CHUNK_BYTES).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect();
    let slow = heavy("2", &ballast);
    fleet.inner().chunks_left = Some(4);
    fleet.publish(&[&slow]);
    fleet.order(&scene.device, 11, &[("m", &slow)]);
    // A chunk now and then: never silent, never fast.
    let noticed = |kind: &EventKind| matches!(kind, EventKind::ActivationFailed { code, .. } if code == "content_too_slow");
    let trickle = async {
        loop {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            fleet.trickle();
        }
    };
    tokio::select! {
        kind = fleet.event("the trickle to be noticed", noticed) => {
            let EventKind::ActivationFailed { sentence, .. } = kind else { panic!() };
            assert!(sentence.as_str().contains("bytes of the content"), "{sentence}");
        }
        () = trickle => {}
    }
    scene.runs_good().await;
    // Nobody has to do anything when the network is what it was; what had come is not fetched again.
    let marks = scene.agent.state_path(&format!("staging/{}.have", slow.digest_of("ballast.bin")));
    assert!(std::fs::read(marks).unwrap().contains(&b'1'), "what came is kept");
    fleet.inner().chunks_left = None;
    fleet.activated(&slow, 1).await;
    scene.watch.unbroken().await;
}
