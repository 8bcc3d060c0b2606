//! The order table: every way in which an order can be wrong, and what it is called.

use muster_protocol::ids::SlotName;
use muster_protocol::limits::{ORDER_BYTES_MAX, SLOTS_MAX};
use muster_protocol::trust::{Fitness, Permit, Revocation, RevocationAction};
use serde_json::json;

use super::*;

const NEWER: &str = "bundles/er-beds/2.0.0.json";
const GPU: &str = "bundles/er-beds/3.0.0.json";
const REVOKED: &str = "bundles/er-beds/0.9.0.json";
const RETAINED: &str = "bundles/er-beds/0.8.0.json";
const ODD: &str = "bundles/er-beds/4.0.0.json";
/// Version of the order accepted before.
const FLOOR: u64 = 5;

pub(crate) fn fitness() -> Fitness {
    let hardware = ["x86_64", "x86_64-cpu"].map(|class| class.parse().unwrap());
    Fitness { hardware: hardware.into(), agent: "0.3.0".parse().unwrap() }
}

/// A catalogue, version 3, with something for every row.
fn catalogue(world: &World) -> TrustedSet {
    let files = world.files_with(3, |spec| {
        let custom = |text: &str, custom| author::target(path(text), &manifest(text), custom);
        spec.put(&custom(NEWER, json!({"min_agent": "0.4.0"})));
        spec.put(&custom(GPU, json!({"hardware": ["x86_64-openvino-gpu", "aarch64"]})));
        spec.put(&custom(ODD, json!({"hardware": "whatever you have"})));
        let revoked = |action| Revocation { reason: "miscalibrated on portable films".to_owned(), action };
        spec.revoke(&path(REVOKED), revoked(RevocationAction::Stop)).unwrap();
        spec.revoke(&path(RETAINED), revoked(RevocationAction::Retain)).unwrap();
        // One that is revoked and, against all custom, still listed.
        spec.put(&listed(RETAINED));
    });
    let mut trusted = TrustedSet::from_root(&world.root(1)).unwrap();
    assert_eq!(refresh(&mut trusted, &files).outcome, Outcome::Updated);
    trusted
}

fn judge(trusted: &TrustedSet, bytes: &[u8], at: Timestamp) -> (String, String) {
    judge_after(&[], trusted, bytes, at)
}

fn judge_after(before: &[Want], trusted: &TrustedSet, bytes: &[u8], at: Timestamp) -> (String, String) {
    let (id, fitness) = (device(), fitness());
    let context =
        OrderContext { trusted, device: &id, fitness: Some(&fitness), floor: FLOOR, before, now: at };
    match Order::check(bytes, &context) {
        Ok(Verdict::Accepted(_)) => ("accepted".to_owned(), String::new()),
        Ok(Verdict::Unchanged) => ("unchanged".to_owned(), String::new()),
        Err(refusal) => {
            let mut says = refusal.to_string();
            let mut cause = std::error::Error::source(&refusal);
            while let Some(error) = cause {
                says = format!("{says}: {error}");
                cause = error.source();
            }
            (refusal.code().to_owned(), says)
        }
    }
}

#[test]
fn the_order_table() {
    let world = World::new();
    let trusted = catalogue(&world);
    let check = |change: fn(&mut OrderSpec), expect: &str, says: &str| {
        let (found, said) = judge(&trusted, &world.order(change), now());
        assert_eq!(found, expect, "{said}");
        assert!(said.contains(says), "'{said}' does not say '{says}'");
    };
    let slot = |n: usize| format!("s{n}").parse::<SlotName>().unwrap();
    // What may be done.
    check(|_| {}, "accepted", "");
    check(|o| o.want.clear(), "accepted", "");
    check(|o| o.want = vec![want(AUTO)], "accepted", "");
    check(|o| o.expires = now(), "accepted", "");
    check(|o| o.catalogue = 1, "accepted", "");
    // Whose it is, and when.
    check(|o| o.device = DeviceId::mint([2; 16]), "order_other_device", "d-");
    check(|o| o.version = FLOOR, "unchanged", "");
    check(|o| o.version = FLOOR - 1, "order_older_version", "older than 5");
    check(|o| o.expires = now().minus(Duration::from_millis(1)), "order_expired", "expired at");
    check(|o| o.catalogue = 4, "order_future_catalogue", "needs version 4");
    // What it wants.
    check(
        |o| o.want[0].sha256 = Digest::of(b"another manifest"),
        "bundle_hash_disagrees",
        "the catalogue says",
    );
    check(|o| o.want = vec![want("bundles/er-beds/9.json")], "bundle_uncatalogued", "not in the catalogue");
    check(|o| o.want = vec![want("bundles/deterioration/auto/1.json")], "bundle_uncatalogued", "");
    check(|o| o.want = vec![want(REVOKED)], "bundle_revoked", "portable films");
    check(|o| o.want = vec![want(RETAINED)], "bundle_revoked", "portable films");
    check(|o| o.want = vec![want(GPU)], "bundle_wrong_hardware", "x86_64-openvino-gpu");
    check(|o| o.want = vec![want(NEWER)], "bundle_agent_too_old", "0.4.0");
    check(|o| o.want = vec![want(ODD)], "bundle_demands_unreadable", "cannot be read");
    // One bad want spoils the order: half a wish is nobody's wish.
    check(|o| o.want.push(Want { slot: "other".parse().unwrap(), ..want(GPU) }), "bundle_wrong_hardware", "");
    // How it is written.
    check(|o| o.version = 0, "order_malformed", "version 0");
    check(|o| o.want.push(o.want[0].clone()), "order_malformed", "twice");
    let crowded = world.order(|o| {
        o.want = (0..=SLOTS_MAX).map(|n| Want { slot: slot(n), ..want(HUMAN) }).collect();
    });
    assert_eq!(judge(&trusted, &crowded, now()).0, "order_malformed");
    let full =
        world.order(|o| o.want = (0..SLOTS_MAX).map(|n| Want { slot: slot(n), ..want(HUMAN) }).collect());
    assert_eq!(judge(&trusted, &full, now()).0, "accepted");
}

/// A revoked bundle in one slot keeps no other slot from being changed.
#[test]
fn what_was_wanted_before_may_be_wanted_still() {
    let world = World::new();
    let trusted = catalogue(&world);
    let slot = |name: &str| name.parse::<SlotName>().unwrap();
    let in_slot = |name: &str, bundle: &str| Want { slot: slot(name), ..want(bundle) };
    let before = [REVOKED, GPU, "bundles/er-beds/9.json"].map(|bundle| in_slot("other", bundle));
    for known in &before {
        let order = |also: Want| world.order(|o| o.want = vec![in_slot("beds", HUMAN), also.clone()]);
        let judged = |also: Want| judge_after(std::slice::from_ref(known), &trusted, &order(also), now()).0;
        assert_eq!(judged(Want { activate: Permit::Hold, ..known.clone() }), "accepted", "{known:?}");
        assert_ne!(judged(Want { slot: slot("third"), ..known.clone() }), "accepted", "{known:?}");
        assert_ne!(judged(Want { sha256: Digest::of(b"other"), ..known.clone() }), "accepted", "{known:?}");
    }
}

#[test]
fn orders_that_are_no_orders() {
    let world = World::new();
    let trusted = catalogue(&world);
    let check = |bytes: &[u8], expect: &str| assert_eq!(judge(&trusted, bytes, now()).0, expect);
    let good = world.order(|_| {});
    // Signed with the right key, and something else all the same.
    let edited = |edit: fn(&mut serde_json::Value)| {
        let mut document = Envelope::parse(&good).unwrap().signed().clone();
        edit(&mut document);
        author::sign(Envelope::unsigned(&document).unwrap(), &[&world.order]).unwrap()
    };
    check(&edited(|_| ()), "accepted");
    check(&edited(|o| o["colour"] = "blue".into()), "accepted");
    check(&edited(|o| o["spec_version"] = "2.0.0".into()), "order_malformed");
    check(&edited(|o| o["_type"] = "timestamp".into()), "order_wrong_type");
    check(&edited(|o| drop(o.as_object_mut().unwrap().remove("device"))), "order_malformed");
    check(&edited(|o| o["want"][0]["bundle"] = "../../etc/passwd".into()), "order_malformed");
    // Signed with the key of another role, or by nobody.
    let by =
        |signers: &[&dyn Sign]| author::sign(author::order(&super::order_spec()).unwrap(), signers).unwrap();
    check(&by(&[&world.online]), "order_signature");
    check(&by(&[&world.targets[0], &world.targets[1]]), "order_signature");
    check(&by(&[&world.root[0], &world.root[1]]), "order_signature");
    check(&by(&[]), "order_signature");
    // Too long, or not JSON at all.
    let mut padded = good.clone();
    padded.resize(ORDER_BYTES_MAX, b' ');
    check(&padded, "accepted");
    padded.push(b' ');
    check(&padded, "order_too_large");
    for junk in [&b"{}"[..], b"", b"null", b"[]", b"\xff\xfe"] {
        check(junk, "order_malformed");
    }
}

#[test]
fn two_order_keys_are_two() {
    let world = World::new();
    let second = key(50);
    let mut spec = world.root_spec(1);
    spec.order = Keys { keys: vec![world.order.key(), second.key()], threshold: 2 };
    let root = author::sign(author::root(&spec).unwrap(), &[&world.root[0], &world.root[1]]).unwrap();
    let mut trusted = TrustedSet::from_root(&root).unwrap();
    refresh(&mut trusted, &world.files(3));
    let check = |signers: &[&dyn Sign], expect: &str| {
        let bytes = author::sign(author::order(&super::order_spec()).unwrap(), signers).unwrap();
        assert_eq!(judge(&trusted, &bytes, now()).0, expect);
    };
    check(&[&world.order], "order_signature");
    check(&[&world.order, &world.order], "order_signature");
    check(&[&world.order, &world.online], "order_signature");
    check(&[&world.order, &second], "accepted");
}

#[test]
fn an_order_is_judged_by_a_catalogue_that_may_still_speak() {
    let world = World::new();
    let trusted = catalogue(&world);
    let late = world.order(|o| o.expires = later(30));
    assert_eq!(judge(&trusted, &late, later(8)).0, "catalogue_stale");
    // What was revoked is known for ever.
    let revoked = world.order(|o| {
        o.expires = later(30);
        o.want = vec![want(REVOKED)];
    });
    assert_eq!(judge(&trusted, &revoked, later(8)).0, "bundle_revoked");
    let none = TrustedSet::from_root(&world.root(1)).unwrap();
    assert_eq!(judge(&none, &world.order(|_| {}), now()).0, "order_future_catalogue");
}

#[test]
fn what_runs_stands_as_the_catalogue_says_now() {
    use muster_protocol::trust::Standing;
    let world = World::new();
    let trusted = catalogue(&world);
    let check = |trusted: &TrustedSet, text: &str, expect: &str| {
        let found = match trusted.standing(&path(text), &Digest::of(&manifest(text))) {
            Standing::Listed => "listed",
            Standing::Yanked => "yanked",
            Standing::Revoked(Revocation { action: RevocationAction::Stop, .. }) => "stop",
            Standing::Revoked(Revocation { action: RevocationAction::Retain, .. }) => "retain",
            Standing::Unknown => "unknown",
        };
        assert_eq!(found, expect, "{text}");
    };
    check(&trusted, HUMAN, "listed");
    check(&trusted, AUTO, "listed");
    check(&trusted, "bundles/er-beds/7.json", "yanked");
    check(&trusted, REVOKED, "stop");
    check(&trusted, RETAINED, "retain");
    assert_eq!(trusted.standing(&path(HUMAN), &Digest::of(b"other content")), Standing::Yanked);
    let empty = TrustedSet::from_root(&world.root(1)).unwrap();
    check(&empty, HUMAN, "unknown");
    // The builder's file is late: what it would say is not known, and nothing is taken for yanked.
    let mut files = world.files(3);
    files.remove("auto-er-beds.json");
    let mut waiting = TrustedSet::from_root(&world.root(1)).unwrap();
    refresh(&mut waiting, &files);
    check(&waiting, AUTO, "unknown");
    // Ended by the people: yanked at once.
    let ended = world.files_with(4, |spec| assert!(spec.undelegate(&model("er-beds"))));
    let mut later_set = world.trusted(3);
    refresh(&mut later_set, &ended);
    check(&later_set, AUTO, "yanked");
}
