//! Every byte of every file that a device takes in, altered: refused, or without effect.

use muster_protocol::trust::{Revocation, RevocationAction};

use super::*;

/// All bits of what is small; of the rest one that changes a digit or a letter into another, and one that changes its case.
fn bits(bytes: &[u8]) -> &'static [u8] {
    if bytes.len() < 1_024 { &[0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80] } else { &[0x01, 0x20] }
}

/// A world whose catalogue also revokes.
fn files(world: &World, version: u64) -> Files {
    world.files_with(version, |spec| {
        let reason = "it was trained on the wrong ward".to_owned();
        let revoked = Revocation { reason, action: RevocationAction::Stop };
        spec.revoke(&path("bundles/er-beds/0.9.0.json"), revoked).unwrap();
    })
}

#[test]
fn every_flipped_byte_of_the_catalogue_is_refused_and_the_old_state_holds() {
    let world = World::new();
    let before = world.trusted(2);
    let files = files(&world, 3);
    assert_eq!(files.len(), 4, "timestamp, snapshot, targets, and a builder's");
    for (name, bytes) in &files {
        for at in 0..bytes.len() {
            for bit in bits(bytes) {
                let mut flipped = files.clone();
                flipped.get_mut(name).unwrap()[at] ^= bit;
                let mut trusted = before.clone();
                let updated =
                    trusted.refresh(&flipped, now()).is_ok_and(|done| done.outcome == Outcome::Updated);
                // A builder's file that is refused takes only its own bundles with it.
                let believed =
                    updated && (name != "auto-er-beds.json" || trusted.lookup(&path(AUTO), now()).is_ok());
                assert!(!believed, "{name} with byte {at} altered by {bit:#x} was believed");
                if name != "auto-er-beds.json" {
                    assert_eq!(trusted.versions(), before.versions(), "{name}, byte {at}");
                    assert!(trusted.lookup(&path(HUMAN), now()).is_ok(), "{name}, byte {at}");
                }
            }
        }
    }
    let mut trusted = before;
    assert_eq!(refresh(&mut trusted, &files).outcome, Outcome::Updated, "unaltered it is believed");
    assert_eq!(trusted.revocations().len(), 1);
}

#[test]
fn every_flipped_byte_of_a_root_is_refused() {
    let world = World::new();
    let (first, second) = (world.root(1), world.root(2));
    let before = TrustedSet::from_root(&first).unwrap();
    let signed = |bytes: &[u8]| Envelope::parse(bytes).unwrap().canonical().to_vec();
    for at in 0..second.len() {
        for bit in bits(&second) {
            let mut flipped = second.clone();
            flipped[at] ^= bit;
            let mut trusted = before.clone();
            let adopted = trusted.refresh(&Files::from([("2.root.json".to_owned(), flipped)]), now());
            assert!(adopted.is_err() && trusted.versions().root == 1, "byte {at} altered was believed");
            let mut pinned = first.clone();
            pinned[at.min(first.len() - 1)] ^= bit;
            let same = |t: TrustedSet| signed(t.root_bytes()) == signed(&first);
            assert!(TrustedSet::from_root(&pinned).map_or(true, same), "byte {at} of the pinned root");
        }
    }
}

#[test]
fn every_flipped_byte_of_an_order_is_refused() {
    let world = World::new();
    let trusted = world.trusted(3);
    let bytes = world.order(|_| {});
    let (id, fitness) = (device(), super::order::fitness());
    let context = OrderContext {
        trusted: &trusted,
        device: &id,
        fitness: Some(&fitness),
        floor: 0,
        before: &[],
        now: now(),
    };
    assert!(matches!(Order::check(&bytes, &context), Ok(Verdict::Accepted(_))));
    for at in 0..bytes.len() {
        for bit in bits(&bytes) {
            let mut flipped = bytes.clone();
            flipped[at] ^= bit;
            assert!(Order::check(&flipped, &context).is_err(), "byte {at} altered was believed");
        }
    }
}
