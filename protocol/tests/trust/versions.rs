//! Versions go up, whatever is offered by whomever and in whatever order. Only a root that takes a role's keys away lets
//! them start anew: that is how a fleet recovers from a thief who counted far ahead.

use proptest::prelude::*;

use super::*;

/// What comes to a device.
#[derive(Clone, Debug)]
enum Offer {
    /// A root; with `rotates` it replaces the online keys.
    Root { rotates: bool },
    /// Files of one version, signed with today's online key or that of before the last root: some of them.
    Files { version: u64, outdated: bool, which: [bool; 4] },
    /// Something that nobody signed.
    Junk(u8),
}

fn offer() -> impl Strategy<Value = Offer> {
    prop_oneof![
        1 => any::<bool>().prop_map(|rotates| Offer::Root { rotates }),
        6 => (1_u64..6, any::<bool>(), any::<[bool; 4]>())
            .prop_map(|(version, outdated, which)| Offer::Files { version, outdated, which }),
        3 => (1_u64..6).prop_map(|version| Offer::Files { version, outdated: false, which: [true; 4] }),
        1 => (0_u8..4).prop_map(Offer::Junk),
    ]
}

const NAMES: [&str; 4] = ["auto-er-beds.json", "snapshot.json", "targets.json", "timestamp.json"];

fn lower(trusted: &TrustedSet) -> [Option<u64>; 4] {
    let versions = trusted.versions();
    [versions.timestamp, versions.snapshot, versions.targets, versions.delegated.get("auto-er-beds").copied()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_version_ever_falls_but_by_a_root_that_changes_keys(
        offers in proptest::collection::vec(offer(), 1..24),
    ) {
        let mut world = World::new();
        let mut outdated = World::new();
        let mut trusted = TrustedSet::from_root(&world.root(1)).unwrap();
        let mut received = Files::new();
        let (mut root, mut order_floor) = (1, 0_u64);
        let (mut newest, mut seen) = ([0; 4], 0);
        for (n, offer) in offers.into_iter().enumerate() {
            let mut rotated = false;
            match offer {
                Offer::Root { rotates } => {
                    root += 1;
                    if rotates {
                        outdated.online = SecretKey::from_seed(*world.online.seed());
                        world.online = key(100 + u8::try_from(n).unwrap());
                        rotated = true;
                    }
                    received.insert(format!("{root}.root.json"), world.root(root));
                }
                Offer::Files { version, outdated: old, which } => {
                    let files = if old { outdated.files(version) } else { world.files(version) };
                    for (name, _) in NAMES.iter().zip(which).filter(|(_, taken)| *taken) {
                        received.insert((*name).to_owned(), files[*name].clone());
                    }
                }
                Offer::Junk(which) => {
                    let junk = serde_json::json!({"signed": {"version": 9}, "signatures": []}).to_string();
                    received.insert(NAMES[usize::from(which)].to_owned(), junk.into_bytes());
                }
            }
            let before = trusted.clone();
            let done = trusted.refresh(&received, now());
            if rotated {
                newest = [0; 4];
            }
            for (n, is) in lower(&trusted).into_iter().enumerate() {
                // A builder's file may be gone until its next version comes; it never comes back older.
                let may_be_gone = rotated || n == 3 || newest[n] == 0;
                prop_assert!(is.map_or(may_be_gone, |is| is >= newest[n]), "{newest:?} fell to {is:?} by {done:?}");
                newest[n] = is.unwrap_or(0).max(newest[n]);
            }
            prop_assert!(trusted.versions().root >= before.versions().root, "not even then does a root");
            // What was seen and is not whole yet is a floor as well.
            let ahead = trusted.ahead().get("timestamp.json").map_or(0, |bytes| version_of(bytes));
            let reached = ahead.max(newest[0]);
            prop_assert!(reached >= seen || rotated, "{seen} was seen, and then {reached}");
            seen = reached;
            // What is trusted is whole: one state of the fleet, never parts of two.
            let [timestamp, snapshot, targets, _] = lower(&trusted);
            prop_assert!(timestamp == snapshot && snapshot == targets, "{:?}", trusted.versions());
            // An order is never accepted below one accepted before.
            let (id, version) = (device(), (n as u64 * 7) % 11 + 1);
            let bytes = world.order(|o| { o.version = version; o.catalogue = 1; });
            let context = OrderContext { trusted: &trusted, device: &id, fitness: None, floor: order_floor, before: &[], now: now() };
            if let Ok(Verdict::Accepted(order)) = Order::check(&bytes, &context) {
                prop_assert!(order.version > order_floor);
                order_floor = order.version;
            }
        }
    }
}

#[test]
fn a_fleet_recovers_from_a_thief_who_counted_far_ahead() {
    let mut world = World::new();
    let mut trusted = world.trusted(3);
    // With the stolen online key: the highest version there is, over the catalogue as it was.
    let far = u64::try_from(i64::MAX).unwrap();
    let held = |name: &str| (name.to_owned(), world.files(3)[name].clone());
    let stolen = world.indexed(Files::from([held("targets.json"), held("auto-er-beds.json")]), far, later(7));
    assert_eq!(refresh(&mut trusted, &stolen).outcome, Outcome::Updated);
    assert_eq!(trusted.versions().timestamp, Some(far));
    refused(&mut trusted, &world.files(4), now(), "trust_rollback");
    // A root with another online key: everything counts anew, and what people signed is still what it was.
    world.online = key(20);
    let mut files = world.files(4);
    files.insert("2.root.json".to_owned(), world.root(2));
    assert_eq!(refresh(&mut trusted, &files).outcome, Outcome::Updated);
    assert_eq!((trusted.versions().root, trusted.versions().timestamp), (2, Some(4)));
    // The thief's key is worth nothing now: whoever signs with it is a stranger.
    let missing = vec!["3.root.json".to_owned()];
    assert_eq!(refresh(&mut trusted, &stolen).outcome, Outcome::Incomplete { missing });
    assert_eq!(trusted.versions().timestamp, Some(4));
}

#[test]
fn a_timestamp_that_was_seen_is_not_gone_back_behind() {
    let world = World::new();
    let mut trusted = world.trusted(3);
    // Version 6 is announced, and its snapshot is withheld: the old state holds.
    let only = |name: &str, version| Files::from([(name.to_owned(), world.files(version)[name].clone())]);
    let missing = vec!["snapshot.json".to_owned()];
    assert_eq!(refresh(&mut trusted, &only("timestamp.json", 6)).outcome, Outcome::Incomplete { missing });
    assert!(trusted.lookup(&path(HUMAN), now()).is_ok());
    assert_eq!((trusted.versions().timestamp, trusted.ahead().len()), (Some(3), 1));
    refused(&mut trusted, &world.files(5), now(), "trust_rollback");
    assert_eq!(refresh(&mut trusted, &world.files(6)).outcome, Outcome::Updated);
    assert!(trusted.ahead().is_empty());
    // A thief's floor goes with the thief's key.
    refresh(&mut trusted, &only("timestamp.json", 4_000));
    assert_eq!(trusted.ahead().len(), 1);
    let mut recovered = World::new();
    recovered.online = key(20);
    let mut files = recovered.files(2);
    files.insert("2.root.json".to_owned(), recovered.root(2));
    assert_eq!(refresh(&mut trusted, &files).outcome, Outcome::Updated);
    assert_eq!(trusted.versions().timestamp, Some(2));
}

#[test]
fn a_timestamp_from_beyond_the_root_is_refused() {
    // It would become the earliest time that devices believe.
    let world = World::new();
    let mut trusted = world.trusted(3);
    let snapshot = world.files(4)["snapshot.json"].clone();
    let check = |trusted: &mut TrustedSet, issued: Timestamp, fine: bool| {
        let timestamp = author::timestamp(4, later(4_000), issued, Pin::of(4, &snapshot)).unwrap();
        let mut files = world.files(4);
        files.insert("timestamp.json".to_owned(), author::sign(timestamp, &[&world.online]).unwrap());
        assert_eq!(trusted.refresh(&files, now()).is_ok(), fine, "issued at {issued}");
    };
    check(&mut trusted, later(366), false);
    check(&mut trusted, later(364), true);
    assert_eq!(trusted.issued(), Some(later(364)));
}

/// Otherwise two files would have one name at rest.
#[test]
fn a_version_names_one_content() {
    let world = World::new();
    let held = |name: &str| (name.to_owned(), world.files(3)[name].clone());
    let catalogue = |targets: Vec<u8>, auto: Vec<u8>| {
        Files::from([("targets.json".to_owned(), targets), ("auto-er-beds.json".to_owned(), auto)])
    };
    let check = |signed_twice: Files, file: &str| {
        let mut trusted = world.trusted(3);
        let error = trusted.refresh(&signed_twice, now()).unwrap_err();
        assert!(error.code() == "trust_mismatch" && error.to_string().starts_with(file), "{error}");
        assert_eq!(trusted.versions(), world.trusted(3).versions());
        // It stays refused, and holds up only itself.
        assert!(trusted.refresh(&signed_twice, now()).is_err(), "{file} was believed when it came again");
        assert_eq!(refresh(&mut trusted, &world.files(5)).outcome, Outcome::Updated, "{file}");
    };
    let (targets, auto) = (held("targets.json").1, held("auto-er-beds.json").1);
    let other = world.delegated("er-beds", 3, &[]);
    check(world.indexed(catalogue(targets.clone(), other), 4, later(7)), "auto-er-beds.json");
    let other = world.targets(3, later(91));
    check(world.indexed(catalogue(other, auto.clone()), 4, later(7)), "targets.json");
    // Snapshot 3 once more, under a newer timestamp.
    let mut twice = world.indexed(catalogue(targets.clone(), auto.clone()), 3, later(8));
    let pin = Pin::of(3, &twice["snapshot.json"]);
    let newer = author::timestamp(4, later(7), now(), pin).unwrap();
    twice.insert("timestamp.json".to_owned(), author::sign(newer, &[&world.online]).unwrap());
    check(twice, "snapshot.json");
    // A root that replaces the keys of the index lets it count anew, and no file at rest is led to any more.
    let mut after = World::new();
    after.online = key(20);
    let mut files = after.indexed(catalogue(targets, auto), 3, later(8));
    files.insert("2.root.json".to_owned(), after.root(2));
    assert_eq!(refresh(&mut world.trusted(3), &files).outcome, Outcome::Updated);
}
