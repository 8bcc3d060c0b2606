//! The mind against a world that does what it likes: whatever happens, in whatever order, the rules hold.

use proptest::prelude::*;

use muster_protocol::ids::{Digest, SlotName};
use muster_protocol::message::up::BundleRef;
use muster_protocol::message::{LocalLease, Phase, ReadyFor, Sentence};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::{Consent, Order, Permit, Revocation, RevocationAction, Standing, Want};

use super::*;

const SLOTS: [&str; 3] = ["beds", "risk", "triage"];
const BUNDLES: u8 = 4;

fn slot(i: u8) -> SlotName {
    SLOTS[usize::from(i) % SLOTS.len()].parse().unwrap()
}

fn bundle(i: u8) -> BundleRef {
    let i = i % BUNDLES;
    BundleRef { path: format!("bundles/m/{i}.json").parse().unwrap(), sha256: Digest::of(&[i]) }
}

fn order(version: u64, want: &[(u8, u8)]) -> Order {
    let mut wants: Vec<Want> = Vec::new();
    for &(s, b) in want {
        if wants.iter().all(|want| want.slot != slot(s)) {
            wants.push(Want::now(slot(s), bundle(b).path, bundle(b).sha256));
        }
    }
    let at = Timestamp::default();
    Order {
        type_: Order::TYPE.to_owned(),
        spec_version: "1.0.31".to_owned(),
        version,
        issued: at,
        expires: at,
        device: muster_protocol::ids::DeviceId::mint([1; 16]),
        catalogue: 1,
        want: wants,
        capture: Vec::new(),
    }
}

/// What may happen to a box.
#[derive(Clone, Debug)]
enum Happening {
    Order(Vec<(u8, u8)>),
    Repeat,
    /// The same bundles, to be activated at another moment.
    Reschedule(Permit, Consent),
    Says(u8),
    Unsays(u8),
    Lease(u64),
    OwnerAsks(Consent),
    ClockFails(Clock),
    Arrives,
    Succeeds,
    FailsForNow,
    FailsForGood,
    Withheld(u8),
    Damaged(u8),
    Revoked(u8, RevocationAction),
    Yanked(u8),
    Reinstated(u8),
    Restarts,
    Waits,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        2 => proptest::collection::vec((0_u8..3, 0_u8..BUNDLES), 0..4).prop_map(Happening::Order),
        1 => Just(Happening::Repeat),
        2 => (permit(), consent()).prop_map(|(permit, consent)| Happening::Reschedule(permit, consent)),
        1 => (0..BUNDLES).prop_map(Happening::Says),
        1 => (0..BUNDLES).prop_map(Happening::Unsays),
        1 => (0_u64..300).prop_map(Happening::Lease),
        1 => consent().prop_map(Happening::OwnerAsks),
        1 => prop_oneof![Just(Clock::Sound), Just(Clock::NoEarlier)].prop_map(Happening::ClockFails),
        6 => Just(Happening::Arrives),
        6 => Just(Happening::Succeeds),
        1 => Just(Happening::FailsForNow),
        1 => Just(Happening::FailsForGood),
        1 => (0..BUNDLES).prop_map(Happening::Withheld),
        1 => (0..BUNDLES).prop_map(Happening::Damaged),
        1 => (0..BUNDLES, prop_oneof![Just(RevocationAction::Stop), Just(RevocationAction::Retain)])
            .prop_map(|(i, action)| Happening::Revoked(i, action)),
        1 => (0..BUNDLES).prop_map(Happening::Yanked),
        2 => (0..BUNDLES).prop_map(Happening::Reinstated),
        1 => Just(Happening::Restarts),
        1 => Just(Happening::Waits),
    ]
}

fn permit() -> impl Strategy<Value = Permit> {
    let until = (0_i64..1_200).prop_map(|s| Permit::Until(Timestamp::from_seconds(s)));
    prop_oneof![Just(Permit::Now), Just(Permit::Hold), until]
}

fn consent() -> impl Strategy<Value = Consent> {
    prop_oneof![Just(Consent::NotNeeded), Just(Consent::Ask)]
}

/// A box that does as the mind says.
#[derive(Default)]
struct Box {
    wish: Option<Wish>,
    last_order: Option<Order>,
    world: World,
    now: Timestamp,
    activations: Vec<(SlotName, Digest, u64)>,
    /// What the catalogue says; a bundle that is not here is listed.
    catalogue: BTreeMap<Digest, Standing>,
}

fn revoked(action: RevocationAction) -> Standing {
    Standing::Revoked(Revocation { reason: "miscalibrated".to_owned(), action })
}

impl Box {
    fn standing(&self, bundle: Option<&BundleRef>) -> Standing {
        bundle.and_then(|bundle| self.catalogue.get(&bundle.sha256)).cloned().unwrap_or_default()
    }

    /// What the hands tell the mind of the catalogue: standings of what runs, and what is not allowed now.
    fn read_catalogue(&mut self) {
        let mut slots = std::mem::take(&mut self.world.slots);
        for occupied in slots.values_mut() {
            occupied.current_standing = self.standing(occupied.current.as_ref());
            occupied.previous_standing = self.standing(occupied.previous.as_ref());
        }
        self.world.slots = slots;
        for (digest, standing) in &self.catalogue {
            let code = match standing {
                Standing::Revoked(_) => "bundle_revoked",
                Standing::Yanked => "bundle_uncatalogued",
                Standing::Listed | Standing::Unknown => continue,
            };
            let withheld = Bundle::Withheld { code: code.to_owned(), sentence: Sentence::default() };
            self.world.bundles.insert(*digest, withheld);
        }
    }

    fn look(&mut self) -> Plan {
        self.read_catalogue();
        let wished: Vec<Digest> =
            self.wish.iter().flat_map(|wish| wish.slots.values()).map(|w| w.bundle.sha256).collect();
        for digest in wished {
            let manifest = Blob { digest, length: 9 };
            let unread = Bundle::Allowed(Content::Unread { manifest, received_bytes: 0 });
            self.world.bundles.entry(digest).or_insert(unread);
        }
        let plan = plan(self.wish.as_ref(), &self.world, self.now);
        assert_eq!(plan, super::plan(self.wish.as_ref(), &self.world, self.now), "same input, same output");
        self.judge(&plan);
        plan
    }

    /// The rules.
    fn judge(&self, plan: &Plan) {
        if self.world.busy.is_some() {
            assert_eq!(plan.start, None, "one thing at a time");
        }
        let wish = self.wish.clone().unwrap_or_default();
        if let Some(Start::Activate { slot, bundle }) = &plan.start {
            assert_eq!(wish.slots[slot].bundle, *bundle, "only what is wished is activated");
            let content = &self.world.bundles[&bundle.sha256];
            assert_eq!(*content, Bundle::Allowed(Content::Proven), "only what is proven is activated");
            self.judge_moment(slot, &wish.slots[slot]);
        }
        if let Some(
            Start::Verify { slot, bundle } | Start::Test { slot, bundle } | Start::Activate { slot, bundle },
        ) = &plan.start
        {
            let bad = self.world.bad.get(&bundle.sha256);
            assert!(
                bad.is_none_or(|bad| bad.asked_in < wish.slots[slot].since),
                "a bad bundle is not tried again"
            );
        }
        for (slot, occupied) in &self.world.slots {
            let stop = |w: &Withdraw| matches!(w, Withdraw::Stop { slot: s, .. } if s == slot);
            let must =
                occupied.current.is_some() && occupied.current_standing == revoked(RevocationAction::Stop);
            assert_eq!(
                plan.withdraw.iter().any(stop),
                must && !occupied.stopped,
                "a revoked bundle stops at once, whatever is under way, and nothing else does"
            );
            let told = plan.notices.contains_key(slot)
                || plan
                    .phases
                    .iter()
                    .any(|(s, phase)| s == slot && matches!(phase, Phase::Stopped { .. } | Phase::Empty));
            let fine = [Standing::Listed, Standing::Unknown].contains(&occupied.current_standing);
            let odd = occupied.current.is_some() && !fine;
            assert!(!odd || told, "what is not as it should be is said: {plan:?}");
        }
        for (slot, phase) in &plan.phases {
            let answering = |occupied: &&Occupied| {
                !occupied.stopped && occupied.current_standing != revoked(RevocationAction::Stop)
            };
            let runs =
                self.world.slots.get(slot).filter(answering).and_then(|occupied| occupied.current.clone());
            if let Phase::Running { bundle } = phase {
                assert_eq!(runs.as_ref(), Some(bundle), "what is said to run does run");
            }
        }
        let every_slot_once = plan.phases.iter().map(|(slot, _)| slot).collect::<BTreeSet<_>>().len();
        assert_eq!(every_slot_once, plan.phases.len());
        for slot in wish.slots.keys() {
            assert!(plan.phases.iter().any(|(s, _)| s == slot), "never silent");
        }
    }

    /// Said otherwise than the mind says it, so that one mistake is not made twice.
    fn judge_moment(&self, slot: &SlotName, wanted: &Wanted) {
        let World { house, clock, slots, .. } = &self.world;
        assert!(wanted.activate.allows(self.now), "activated against the permit {:?}", wanted.activate);
        assert!(
            wanted.activate.is_now() || *clock == Clock::Sound,
            "a clock that only says how late it is at least ends no window"
        );
        assert!(house.leases.iter().all(|lease| lease.until <= self.now), "activated against a lease");
        let given = house.given.get(slot) == Some(&wanted.bundle.sha256);
        assert!(
            given || wanted.consent == Consent::NotNeeded,
            "activated without the consent that was ordered"
        );
        let back = slots.get(slot).is_some_and(|occupied| {
            occupied.previous.as_ref() == Some(&wanted.bundle)
                || occupied.current.as_ref() == Some(&wanted.bundle)
        });
        assert!(given || back || house.consent == Consent::NotNeeded, "the owner was not asked");
    }

    fn act(&mut self, plan: Plan) {
        for withdraw in plan.withdraw {
            match withdraw {
                Withdraw::Stop { slot, .. } => self.world.slots.get_mut(&slot).unwrap().stopped = true,
                Withdraw::Forget { slot, .. } => self.world.slots.get_mut(&slot).unwrap().previous = None,
            }
        }
        let (slot, bundle, doing) = match plan.start {
            Some(Start::Verify { slot, bundle }) => (slot, bundle, Doing::Verifying),
            Some(Start::Test { slot, bundle }) => (slot, bundle, Doing::Testing),
            Some(Start::Activate { slot, bundle }) => (slot, bundle, Doing::Activating),
            Some(Start::Clear { slot }) => {
                self.world.slots.remove(&slot);
                return;
            }
            None => return,
        };
        self.world.busy = Some(Busy { slot, bundle, doing });
    }

    fn happens(&mut self, happening: Happening, plan: &Plan) {
        match happening {
            Happening::Order(want) => {
                let order = order(self.last_order.as_ref().map_or(1, |o| o.version + 1), &want);
                self.wish = Some(Wish::follow(self.wish.as_ref(), &order));
                self.last_order = Some(order);
            }
            Happening::Repeat => {
                if let Some(order) = &self.last_order {
                    let again = Wish::follow(self.wish.as_ref(), order);
                    assert_eq!(Some(&again), self.wish.as_ref(), "an order that comes twice changes nothing");
                }
            }
            Happening::Reschedule(activate, consent) => {
                let Some(mut order) = self.last_order.clone() else { return };
                order.version += 1;
                for want in &mut order.want {
                    (want.activate, want.consent) = (activate, consent);
                }
                let before = self.wish.clone().unwrap();
                let after = Wish::follow(self.wish.as_ref(), &order);
                for (slot, wanted) in &after.slots {
                    assert_eq!(
                        wanted.since, before.slots[slot].since,
                        "another moment is nothing asked anew"
                    );
                }
                self.wish = Some(after);
                self.last_order = Some(order);
            }
            Happening::Says(i) => {
                self.world.house.given.insert(slot(i), bundle(i).sha256);
            }
            Happening::Unsays(i) => {
                self.world.house.given.remove(&slot(i));
            }
            Happening::Lease(seconds) => {
                let until = self.now.plus(Duration::from_secs(seconds));
                self.world.house.leases = vec![lease(until)];
            }
            Happening::OwnerAsks(consent) => self.world.house.consent = consent,
            Happening::ClockFails(clock) => self.world.clock = clock,
            Happening::Arrives => {
                if let Some(blob) = plan.fetch.first() {
                    self.arrives(blob.digest);
                }
            }
            Happening::Succeeds => self.ends(Ok(())),
            Happening::FailsForNow => self.ends(Err(false)),
            Happening::FailsForGood => self.ends(Err(true)),
            Happening::Withheld(i) => {
                let withheld = Bundle::Withheld { code: "x".to_owned(), sentence: Sentence::default() };
                self.world.bundles.insert(bundle(i).sha256, withheld);
            }
            Happening::Damaged(i) => {
                self.world.bundles.remove(&bundle(i).sha256);
            }
            Happening::Revoked(i, action) => {
                self.catalogue.insert(bundle(i).sha256, revoked(action));
            }
            Happening::Yanked(i) => {
                self.catalogue.insert(bundle(i).sha256, Standing::Yanked);
            }
            Happening::Reinstated(i) => {
                self.catalogue.remove(&bundle(i).sha256);
                self.world.bundles.remove(&bundle(i).sha256);
            }
            Happening::Restarts => {
                self.world.busy = None;
                self.world.setbacks.clear();
            }
            Happening::Waits => self.now = self.now.plus(Duration::from_mins(1)),
        }
    }

    /// A blob's digest stands for its bundle here: first its manifest comes, then its one file.
    fn arrives(&mut self, digest: Digest) {
        let next = match &self.world.bundles[&digest] {
            Bundle::Allowed(Content::Unread { .. }) => Content::Partial {
                missing: vec![Blob { digest, length: 5 }],
                received_bytes: 0,
                total_bytes: 5,
            },
            Bundle::Allowed(_) | Bundle::Withheld { .. } => Content::Stored,
        };
        self.world.bundles.insert(digest, Bundle::Allowed(next));
    }

    fn ends(&mut self, outcome: Result<(), bool>) {
        let Some(Busy { slot, bundle, doing }) = self.world.busy.take() else { return };
        let digest = bundle.sha256;
        let asked_in = self.wish.as_ref().map_or(0, |wish| wish.generation);
        let (code, sentence) = ("x".to_owned(), Sentence::default());
        match (outcome, doing) {
            (Ok(()), Doing::Verifying) => {
                self.world.bundles.insert(digest, Bundle::Allowed(Content::Verified));
            }
            (Ok(()), Doing::Testing) => {
                self.world.bundles.insert(digest, Bundle::Allowed(Content::Proven));
            }
            (Ok(()), Doing::Activating) => {
                self.activations.push((slot.clone(), digest, asked_in));
                let previous = self.world.slots.remove(&slot).and_then(|occupied| occupied.current);
                let occupied = Occupied { current: Some(bundle), previous, ..Occupied::default() };
                self.world.slots.insert(slot, occupied);
            }
            (Err(true), _) => {
                self.world.bad.insert(digest, Bad { asked_in, code, sentence });
            }
            (Err(false), _) => {
                let attempts = self.world.setbacks.get(&digest).map_or(1, |s| s.attempts + 1);
                self.world.setbacks.insert(digest, Setback { at: self.now, attempts, code, sentence });
            }
        }
    }
}

proptest! {
    #[test]
    fn the_rules_hold_and_a_willing_world_gets_what_is_wished(
        story in proptest::collection::vec(happening(), 1..120),
        last in proptest::collection::vec((0_u8..3, 0_u8..BUNDLES), 0..4),
    ) {
        let mut device = Box::default();
        for happening in story {
            let plan = device.look();
            device.act(plan.clone());
            device.happens(happening, &plan);
        }
        // From here on nothing fails, and a last order asks anew for whatever it names.
        device.ends(Ok(()));
        device.world.bad.clear();
        device.world.bundles.clear();
        device.catalogue.clear();
        (device.world.house, device.world.clock) = (House::default(), Clock::Sound);
        device.happens(Happening::Order(last), &Plan::default());
        for _ in 0..200 {
            let plan = device.look();
            device.act(plan.clone());
            device.happens(Happening::Arrives, &plan);
            device.happens(Happening::Succeeds, &plan);
            device.happens(Happening::Waits, &plan);
        }
        let wish = device.wish.clone().unwrap_or_default();
        for (slot, wanted) in &wish.slots {
            prop_assert_eq!(device.world.slots[slot].current.as_ref(), Some(&wanted.bundle));
            prop_assert!(!device.world.slots[slot].stopped, "reinstated and wished, it runs again");
        }
        prop_assert_eq!(device.world.slots.len(), wish.slots.len());
    }

    #[test]
    fn only_the_newest_order_counts(
        orders in proptest::collection::vec(proptest::collection::vec((0_u8..3, 0_u8..BUNDLES), 0..4), 1..6),
        swaps in proptest::collection::vec((0_usize..6, 0_usize..6), 0..12),
    ) {
        let mut orders: Vec<Order> = (1_u64..).zip(&orders).map(|(version, want)| order(version, want)).collect();
        let newest = orders.last().cloned().unwrap();
        let n = orders.len();
        for (a, b) in swaps {
            orders.swap(a % n, b % n);
        }
        let wish = orders.iter().fold(None, |wish, order| Some(Wish::follow(wish.as_ref(), order))).unwrap();
        prop_assert_eq!(wish.generation, newest.version);
        prop_assert_eq!(wish.slots.len(), newest.want.len());
        for want in &newest.want {
            prop_assert_eq!(wish.slots[&want.slot].bundle.sha256, want.sha256);
        }
    }
}

#[test]
fn a_bad_bundle_waits_for_an_order_that_asks_anew() {
    let mut device = Box::default();
    device.happens(Happening::Order(vec![(0, 1)]), &Plan::default());
    let digest = bundle(1).sha256;
    device.world.bundles.insert(digest, Bundle::Allowed(Content::Proven));
    let bad = Bad { asked_in: 1, code: "golden_mismatch".to_owned(), sentence: "x".into() };
    device.world.bad.insert(digest, bad);
    let check = |device: &mut Box, starts: bool| assert_eq!(device.look().start.is_some(), starts);
    check(&mut device, false);
    device.happens(Happening::Order(vec![(0, 1), (1, 1)]), &Plan::default());
    // The other slot asks for it for the first time, the first one only repeats.
    assert!(
        matches!(device.look().start, Some(Start::Activate { slot, .. }) if slot == super::tests::slot(1))
    );
    device.happens(Happening::Order(vec![]), &Plan::default());
    check(&mut device, false);
    device.happens(Happening::Order(vec![(0, 1)]), &Plan::default());
    check(&mut device, true);
}

/// The fleet retries a bundle that failed by ordering the one before in between.
#[test]
fn a_bad_bundle_is_asked_for_anew_by_an_order_back_and_forth_and_not_by_another_permit() {
    let mut device = Box::default();
    let digest = bundle(1).sha256;
    let starts = |device: &mut Box, wanted: bool| {
        device.world.bundles.insert(digest, Bundle::Allowed(Content::Proven));
        assert_eq!(device.look().start.is_some(), wanted);
    };
    device.world.slots.insert(slot(0), Occupied { current: Some(bundle(0)), ..Occupied::default() });
    device.happens(Happening::Order(vec![(0, 1)]), &Plan::default());
    let bad = Bad { asked_in: 1, code: "golden_mismatch".to_owned(), sentence: "x".into() };
    device.world.bad.insert(digest, bad);
    for permit in [Permit::Hold, Permit::Now, Permit::Until(Timestamp::from_seconds(9))] {
        device.happens(Happening::Reschedule(permit, Consent::NotNeeded), &Plan::default());
        starts(&mut device, false);
    }
    device.happens(Happening::Order(vec![(0, 0)]), &Plan::default());
    starts(&mut device, false);
    device.happens(Happening::Order(vec![(0, 1)]), &Plan::default());
    starts(&mut device, true);
}

fn lease(until: Timestamp) -> LocalLease {
    LocalLease { owner: "ct-console".to_owned(), reason: "an examination".into(), until }
}

fn at(s: i64) -> Timestamp {
    Timestamp::from_seconds(s)
}

/// A box that runs bundle 0 and had bundle 1 before, with `wished` proven.
fn proven(wished: u8, activate: Permit, consent: Consent) -> Box {
    let mut device = running(wished);
    device.now = at(100);
    device.happens(Happening::Reschedule(activate, consent), &Plan::default());
    device.world.bundles.insert(bundle(wished).sha256, Bundle::Allowed(Content::Proven));
    device
}

#[test]
fn a_proven_bundle_waits_for_one_thing_at_a_time_and_is_looked_at_when_that_may_change() {
    let ask = Consent::Ask;
    let check = |permit: Permit, leases: &[i64], given: bool, waits: Option<ReadyFor>, again: Option<i64>| {
        let mut device = proven(2, permit, ask);
        device.world.house.leases = leases.iter().map(|&until| lease(at(until))).collect();
        if given {
            device.world.house.given.insert(slot(0), bundle(2).sha256);
        }
        let plan = device.look();
        let phase = &plan.phases[0].1;
        let found = if let Phase::Ready { waits_for, .. } = phase {
            Some(*waits_for)
        } else {
            assert!(matches!(phase, Phase::Activating { .. }), "{phase:?}");
            None
        };
        assert_eq!((found, plan.look_again), (waits, again.map(at)), "{permit:?} {leases:?} {given}");
        assert_eq!(plan.start.is_none(), waits.is_some());
        assert_eq!(plan.fetch, vec![], "nothing is fetched again");
    };
    let until = |s| Permit::Until(at(s));
    let (permit, lease, consent) = (Some(ReadyFor::Permit), Some(ReadyFor::Lease), Some(ReadyFor::Consent));
    check(Permit::Hold, &[150], false, permit, None);
    check(Permit::Hold, &[], true, permit, None);
    check(until(100), &[], true, permit, None);
    check(until(99), &[150], true, permit, None);
    check(until(101), &[], true, None, None);
    check(Permit::Now, &[150], false, lease, Some(150));
    check(Permit::Now, &[150, 120, 90], true, lease, Some(120));
    check(until(110), &[150], true, lease, Some(110));
    check(until(200), &[150], true, lease, Some(150));
    check(Permit::Now, &[100], false, consent, None);
    check(until(200), &[], false, consent, Some(200));
    check(Permit::Now, &[], true, None, None);
}

#[test]
fn the_owner_is_stricter_than_the_fleet_and_never_laxer_but_does_not_bar_the_way_back() {
    let (ask, free) = (Consent::Ask, Consent::NotNeeded);
    let check = |wished: u8, fleet: Consent, owner: Consent, waits: bool| {
        let mut device = proven(wished, Permit::Now, fleet);
        device.world.house.consent = owner;
        let plan = device.look();
        assert_eq!(plan.start.is_none(), waits, "{wished} {fleet:?} {owner:?}: {plan:?}");
    };
    check(2, free, free, false);
    check(2, ask, free, true);
    check(2, free, ask, true);
    check(2, ask, ask, true);
    // Bundle 1 is what ran before.
    check(1, free, ask, false);
    check(1, ask, free, true);
    // The way back waits for its permit and for leases like everything else.
    let mut device = proven(1, Permit::Hold, free);
    assert_eq!(device.look().start, None);
    device = proven(1, Permit::Now, free);
    device.world.house.leases = vec![lease(at(101))];
    assert_eq!(device.look().start, None);
    // An empty slot is no exception.
    let mut device = proven(2, Permit::Hold, free);
    device.world.slots.clear();
    assert_eq!(device.look().start, None);
}

/// A box that wakes in 1970 goes by the newest signature, which may be of yesterday evening: it is not earlier, and that is
/// all it knows. A clock that jumps ahead closes windows, and that interrupts nobody either.
#[test]
fn a_clock_that_is_wrong_closes_windows_and_opens_none() {
    let starts = |permit: Permit, clock: Clock, now: i64| {
        let mut device = proven(2, permit, Consent::NotNeeded);
        (device.world.clock, device.now) = (clock, at(now));
        device.look().start.is_some()
    };
    assert!(starts(Permit::Until(at(200)), Clock::Sound, 100));
    assert!(!starts(Permit::Until(at(200)), Clock::NoEarlier, 100));
    assert!(!starts(Permit::Until(at(200)), Clock::Sound, 2_000_000_000));
    assert!(starts(Permit::Now, Clock::NoEarlier, 100), "it needs no time to be known");
}

#[test]
fn neither_lease_nor_hold_touches_what_runs_or_delays_a_stop() {
    let mut device = running(0);
    device.happens(Happening::Reschedule(Permit::Hold, Consent::Ask), &Plan::default());
    device.world.house = House { consent: Consent::Ask, leases: vec![lease(at(999))], ..House::default() };
    let plan = device.look();
    assert_eq!((plan.start, plan.phases), (None, vec![(slot(0), Phase::Running { bundle: bundle(0) })]));
    device.happens(Happening::Revoked(0, RevocationAction::Stop), &Plan::default());
    assert!(matches!(device.look().withdraw.as_slice(), [Withdraw::Stop { .. }]));
}

#[test]
fn without_an_order_everything_goes_on_and_with_an_empty_one_it_ends() {
    let mut device = Box::default();
    let occupied = Occupied { current: Some(bundle(0)), ..Occupied::default() };
    device.world.slots.insert(slot(0), occupied);
    let plan = device.look();
    assert_eq!((plan.start, plan.phases), (None, vec![(slot(0), Phase::Running { bundle: bundle(0) })]));
    device.happens(Happening::Order(vec![]), &Plan::default());
    let plan = device.look();
    assert_eq!(plan.start, Some(Start::Clear { slot: slot(0) }));
    assert_eq!(plan.phases, vec![(slot(0), Phase::Empty)]);
}

/// A box that runs bundle 0, had bundle 1 before, and is wished to run `wished`.
fn running(wished: u8) -> Box {
    let mut device = Box::default();
    device.happens(Happening::Order(vec![(0, wished)]), &Plan::default());
    let (current, previous) = (Some(bundle(0)), Some(bundle(1)));
    device.world.slots.insert(slot(0), Occupied { current, previous, ..Occupied::default() });
    device
}

#[test]
fn what_is_revoked_or_yanked_stops_or_runs_on_and_is_said() {
    let check = |wished: u8, standing: Standing, phase: &str, notice: Option<&str>, withdraws: usize| {
        let mut device = running(wished);
        device.catalogue.insert(bundle(0).sha256, standing);
        let plan = device.look();
        let found = serde_json::to_value(&plan.phases[0].1).unwrap()["is"].as_str().unwrap().to_owned();
        assert_eq!(found, phase, "{plan:?}");
        assert_eq!(plan.notices.get(&slot(0)).map(|notice| notice.code.as_str()), notice);
        assert_eq!(plan.withdraw.len(), withdraws);
    };
    let (stop, retain) = (revoked(RevocationAction::Stop), revoked(RevocationAction::Retain));
    check(0, Standing::Listed, "running", None, 0);
    check(0, Standing::Unknown, "running", None, 0);
    check(0, Standing::Yanked, "running", Some("running_yanked"), 0);
    check(0, retain.clone(), "running", Some("running_revoked"), 0);
    check(0, stop.clone(), "stopped", None, 1);
    check(2, Standing::Yanked, "downloading", Some("running_yanked"), 0);
    check(2, retain, "downloading", Some("running_revoked"), 0);
    check(2, stop, "downloading", Some("stopped_revoked"), 1);
}

#[test]
fn a_stopped_bundle_runs_again_only_when_it_is_listed_again_and_proven_anew() {
    let mut device = running(0);
    let digest = bundle(0).sha256;
    device.happens(Happening::Revoked(0, RevocationAction::Stop), &Plan::default());
    // Even in the middle of something else.
    device.world.busy = Some(Busy { slot: slot(1), bundle: bundle(3), doing: Doing::Testing });
    let plan = device.look();
    assert!(matches!(plan.withdraw.as_slice(), [Withdraw::Stop { code, .. }] if code == "bundle_revoked"));
    device.act(plan);
    device.world.busy = None;
    let check = |device: &mut Box, code: &str| {
        let plan = device.look();
        assert!(
            matches!(&plan.phases[0].1, Phase::Stopped { code: c, .. } if c == code) && plan.start.is_none(),
            "{plan:?}"
        );
        assert_eq!(plan.withdraw, vec![], "it is stopped once");
    };
    check(&mut device, "bundle_revoked");
    // Milder now, but to stop was done: nothing revoked is activated.
    device.happens(Happening::Revoked(0, RevocationAction::Retain), &Plan::default());
    check(&mut device, "bundle_revoked");
    device.happens(Happening::Yanked(0), &Plan::default());
    check(&mut device, "bundle_uncatalogued");
    device.happens(Happening::Reinstated(0), &Plan::default());
    device.world.bundles.insert(digest, Bundle::Allowed(Content::Stored));
    assert_eq!(device.look().start, Some(Start::Verify { slot: slot(0), bundle: bundle(0) }));
}

#[test]
fn a_revoked_previous_is_no_way_back() {
    for action in [RevocationAction::Stop, RevocationAction::Retain] {
        let mut device = running(0);
        device.happens(Happening::Revoked(1, action), &Plan::default());
        let forget = Withdraw::Forget { slot: slot(0), bundle: bundle(1) };
        assert_eq!(device.look().withdraw, vec![forget]);
    }
    let mut device = running(0);
    device.happens(Happening::Yanked(1), &Plan::default());
    assert_eq!(
        device.look().withdraw,
        vec![],
        "a yanked one ran here, and needs nobody's leave to run again"
    );
}

#[test]
fn setbacks_are_retried_ever_later() {
    let check = |attempts, wait_s| {
        let setback = Setback {
            at: Timestamp::default(),
            attempts,
            code: String::new(),
            sentence: Sentence::default(),
        };
        assert_eq!(setback.again(), Timestamp::from_seconds(wait_s));
    };
    check(1, 10);
    check(3, 40);
    check(7, 600);
    check(u32::MAX, 600);
}

#[test]
fn a_setback_of_a_clock_that_was_ahead_holds_nothing_back() {
    let holds = |noted_s, now_s| {
        let mut device = Box::default();
        device.happens(Happening::Order(vec![(0, 0)]), &Plan::default());
        let (code, sentence) = ("x".to_owned(), Sentence::default());
        let setback = Setback { at: Timestamp::from_seconds(noted_s), attempts: 1, code, sentence };
        device.world.setbacks.insert(bundle(0).sha256, setback);
        device.now = Timestamp::from_seconds(now_s);
        device.look().phases.iter().any(|(_, phase)| matches!(phase, Phase::Failed { .. }))
    };
    assert!(holds(1_000, 1_005));
    assert!(holds(1_000, 990), "a clock may be a little slow");
    assert!(!holds(1_000_000, 1_000));
}
