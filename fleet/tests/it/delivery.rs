//! Blobs on their way to a box, piece by piece.

use muster_protocol::chunk::{Answer, Chunk, Want, chunk_count};
use muster_protocol::ids::Digest;
use muster_protocol::limits::CHUNK_BYTES;
use muster_protocol::message::{Message as _, VERSION};
use muster_protocol::topic::{Down, Topic, Up};

use crate::device::Device;
use crate::publisher::{Bundle, Publisher, put};
use crate::server::Server;

#[tokio::test]
async fn a_box_pulls_a_catalogued_blob_whole() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let content: Vec<u8> = (0..CHUNK_BYTES * 10 + 7).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let bundle = Bundle::make("bundles/er-beds/1.json", &content);
    Publisher::begin(&server.fleet, &[&bundle]).await;
    let mut device = Device::connect(&server, 1, 1).await;
    for (blob, token) in [(&bundle.manifest, 1), (&content, 2)] {
        assert_eq!(pull(&mut device, &Digest::of(blob), blob.len() as u64, token).await, *blob);
    }
    server.stop().await;
}

#[tokio::test]
async fn what_the_catalogue_does_not_vouch_for_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let bundle = Bundle::make("bundles/er-beds/1.json", b"model");
    let mut publisher = Publisher::begin(&server.fleet, &[&bundle]).await;
    let mut device = Device::connect(&server, 1, 1).await;
    // Here, but named by nobody; and not here at all.
    let loose = put(&server.fleet.blobs, b"somebody's notes").await;
    for digest in [loose, Digest::of(b"nowhere")] {
        assert!(is_unknown(&mut device, digest).await, "{digest}");
    }
    assert!(!is_unknown(&mut device, bundle.sha256()).await);
    publisher.spec.remove(&bundle.path);
    let emptied = publisher.catalogue(&[], &publisher.targets_key());
    server.fleet.intake.upload("targets.json", &emptied, crate::publisher::person()).await.unwrap();
    assert!(is_unknown(&mut device, bundle.sha256()).await);
    server.stop().await;
}

#[tokio::test]
async fn requests_beyond_their_bounds_are_not_answered() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path()).await;
    let bundle = Bundle::make("bundles/er-beds/1.json", b"model");
    Publisher::begin(&server.fleet, &[&bundle]).await;
    let mut device = Device::connect(&server, 1, 1).await;
    for ranges in [vec![(0, 9)], vec![(u32::MAX, 2)], vec![(0, 1); 9], vec![(5, 1)]] {
        want(&mut device, 1, bundle.sha256(), ranges).await;
    }
    device.client.silence().await;
    server.stop().await;
}

async fn want(device: &mut Device, token: u32, digest: Digest, ranges: Vec<(u32, u32)>) {
    device.say(Up::Want, Want { v: VERSION, token, digest, ranges }.to_json()).await;
}

async fn is_unknown(device: &mut Device, digest: Digest) -> bool {
    want(device, 7, digest, vec![(0, 1)]).await;
    let topic = Topic::Down(device.id.clone(), Down::Chunk);
    let packet = device.client.next_on(&topic).await.payload;
    Chunk::decode(&packet).unwrap().answer == Answer::Unknown
}

/// With a window of eight, as fast as it goes.
async fn pull(device: &mut Device, digest: &Digest, length: u64, token: u32) -> Vec<u8> {
    let topic = Topic::Down(device.id.clone(), Down::Chunk);
    let total = chunk_count(length);
    let mut parts = vec![None; total as usize];
    let mut asked = total.min(8);
    want(device, token, *digest, vec![(0, asked)]).await;
    while parts.iter().any(Option::is_none) {
        let packet = device.client.next_on(&topic).await.payload;
        let chunk = Chunk::decode(&packet).unwrap();
        assert!(chunk.belongs_to(digest) && chunk.token == token && chunk.total == total);
        let Answer::Bytes(bytes) = chunk.answer else { panic!("chunk {} is unknown", chunk.index) };
        assert!(
            parts[chunk.index as usize].replace(bytes.to_vec()).is_none(),
            "chunk {} came twice",
            chunk.index
        );
        if asked < total {
            want(device, token, *digest, vec![(asked, 1)]).await;
            asked += 1;
        }
    }
    parts.into_iter().flatten().flatten().collect()
}
