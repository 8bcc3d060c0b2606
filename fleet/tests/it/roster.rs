//! The fleet in memory: whatever was touched in whatever order, it is what a fresh look at the database would see.

use muster_fleet::catalogue::Catalogue;
use muster_fleet::clock::{Clocks, Moment};
use muster_fleet::drift::Watch;
use muster_fleet::enrolment::{Boots, Identity, Key, Standing, Suspicion};
use muster_fleet::gate::{GateLimits, Inputs};
use muster_fleet::rollout::filter::Tags;
use muster_fleet::rollout::{
    Actor, Asked, Cause, Member, Plan, Progress, Rollout, Selector, SiteRules, Size, StagePlan, Verb,
};
use muster_fleet::roster::{Board, Roster};
use muster_fleet::store::bad_bundles::{self, Bad};
use muster_fleet::store::freezes::{self, HeldFreeze};
use muster_fleet::store::leases::{self, HeldLease, Scope};
use muster_fleet::store::orders::StoredOrder;
use muster_fleet::store::watches::{self, Seat};
use muster_fleet::store::{
    ControlTx, Store, devices, health, identities, log, orders, rollouts, shadows, sites, stats, tags,
};
use muster_fleet::tasks::runs;
use muster_protocol::enrol::{Facts, Fingerprint};
use muster_protocol::ids::{BootId, DeviceId, Digest, LeaseId, RolloutId, SiteName};
use muster_protocol::message::up::{BundleRef, Phase, SlotState, State, Status};
use muster_protocol::message::{Capabilities, Health, Hello, ModelStats, Presence, ShadowBlock, VERSION};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::Want;
use proptest::prelude::*;
use serde_json::json;

const DEVICES: u8 = 6;
/// The bundle that ran before all of the rollouts'.
const BEFORE: u8 = 9;

/// Something that a commit does.
#[derive(Clone, Debug)]
enum Deed {
    Hello(u8, u8),
    Stand(u8, u8),
    Presence(u8, bool),
    State(u8, u8),
    Tag(u8, u8),
    Order(u8, u8),
    Stats(u8, u8),
    Health(u8, u8),
    Inputs(u8, u8),
    Shadow(u8, u8),
    Lease(u8, bool),
    Site(u8, u8),
    Freeze(u8),
    Begin(u8),
    Act(u8, u8),
    Bad(u8, u8),
    /// The memory takes it over.
    Sync,
}

fn deed() -> impl Strategy<Value = Deed> {
    let device = || 0..DEVICES;
    prop_oneof![
        (device(), 0..3_u8).prop_map(|(d, n)| Deed::Hello(d, n)),
        (device(), 0..4_u8).prop_map(|(d, n)| Deed::Stand(d, n)),
        (device(), any::<bool>()).prop_map(|(d, on)| Deed::Presence(d, on)),
        (device(), 0..4_u8).prop_map(|(d, n)| Deed::State(d, n)),
        (device(), 0..3_u8).prop_map(|(d, n)| Deed::Tag(d, n)),
        (device(), 0..4_u8).prop_map(|(d, n)| Deed::Order(d, n)),
        (device(), 0..4_u8).prop_map(|(d, n)| Deed::Stats(d, n)),
        (device(), 0..4_u8).prop_map(|(d, n)| Deed::Health(d, n)),
        (device(), 0..4_u8).prop_map(|(d, n)| Deed::Inputs(d, n)),
        (device(), 0..4_u8).prop_map(|(d, n)| Deed::Shadow(d, n)),
        (device(), any::<bool>()).prop_map(|(d, site)| Deed::Lease(d, site)),
        (0..3_u8, 0..3_u8).prop_map(|(s, n)| Deed::Site(s, n)),
        (0..3_u8).prop_map(Deed::Freeze),
        (0..4_u8).prop_map(Deed::Begin),
        (0..4_u8, 0..4_u8).prop_map(|(r, v)| Deed::Act(r, v)),
        (device(), 0..4_u8).prop_map(|(d, n)| Deed::Bad(d, n)),
        Just(Deed::Sync),
        Just(Deed::Sync),
    ]
}

fn id(n: u8) -> DeviceId {
    DeviceId::mint([n + 1; 16])
}

fn site(n: u8) -> SiteName {
    format!("er-{n}").parse().unwrap()
}

fn bundle(n: u8) -> BundleRef {
    BundleRef { path: format!("bundles/er-beds/{n}.json").parse().unwrap(), sha256: Digest::of(&[n]) }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

async fn identity(tx: &mut ControlTx, n: u8, standing: Standing) {
    let spki = vec![n];
    let identity = Identity {
        device: id(n),
        name: format!("box-{n}"),
        site: site(n % 3),
        key: Key { fingerprint: Fingerprint::of(&spki), spki },
        former: None,
        standing,
        since: at(1),
        facts: Facts::default(),
        enrolment: None,
        enrolled: at(1),
        boots: Boots::default(),
        suspicion: Suspicion::default(),
    };
    identities::save(tx, &identity).await.unwrap();
}

fn hello(n: u8, variant: u8) -> Hello {
    Hello {
        v: VERSION,
        boot: BootId::mint([n + 1; 16]),
        connection: 1,
        name: format!("box-{n}"),
        site: site((n + variant) % 3),
        agent_version: ["0.1.0", "0.3.0", "strange"][variant as usize].to_owned(),
        capabilities: Capabilities { arch: "x86_64".to_owned(), ..Capabilities::default() },
        order_version: 0,
        root: None,
        certificate_expires: None,
        facts: None,
        key: None,
    }
}

fn state(n: u8, variant: u8) -> State {
    let (slot, bundle) = ("er-beds".parse().unwrap(), bundle(variant));
    let phase = match variant {
        0 => Phase::Empty,
        1 => Phase::Verifying { bundle },
        2 => Phase::Activating { bundle },
        _ => Phase::Failed { bundle, code: "x".to_owned(), sentence: "it fails".into(), again: None },
    };
    State {
        v: VERSION,
        boot: BootId::mint([n + 1; 16]),
        sequence: u64::from(variant) + 1,
        at: at(1),
        observed_generation: u64::from(variant),
        catalogue: 1,
        refusal: None,
        notices: Vec::new(),
        leases: Vec::new(),
        captures: Vec::new(),
        slots: vec![SlotState { slot, phase, current: None, previous: None, notice: None }],
    }
}

/// Rollouts 0 and 1 want one slot, 2 and 3 another; 1 and 3 are more urgent.
async fn begin(tx: &mut ControlTx, n: u8, moment: Moment) {
    let id = RolloutId::mint([n + 1; 16]);
    if rollouts::get::<Rollout>(tx, &id).await.unwrap().is_some() {
        return;
    }
    let stage = StagePlan {
        name: "all".to_owned(),
        size: Size::Percent(100.0),
        quorum_percent: 100.0,
        bake_s: 1,
        deadline_s: 2,
        exposure_device_hours_max: None,
        gate: GateLimits {
            memory_rise_mib_max: Some(9.0),
            shadow_disagreement_max: Some(0.05),
            ..GateLimits::default()
        },
    };
    let mut plan = Plan::of(vec![stage], Selector::default());
    plan.priority = if n.is_multiple_of(2) { 500 } else { 900 };
    plan.selector.filter = if n < 2 { "ward!=w1" } else { "" }.parse().unwrap();
    let slot = if n < 2 { "er-beds" } else { "other" }.parse().unwrap();
    let by = (Actor::Engine, String::new());
    let names = ("er-beds".parse().unwrap(), slot);
    let created = moment.world_at.plus(std::time::Duration::from_secs(n.into()));
    let mut rollout = Rollout::start(id, names, bundle(n), plan, by, created).unwrap();
    rollout.stages[0].opened = Some(created);
    runs::create(tx, &rollout, log::Actor::Fleet, moment).await.unwrap();
    let asked = Asked { at: created, from: Some(self::bundle(BEFORE)), via: None };
    let member = Member { stage: 0, attempts: 1, progress: Progress::Activated { asked, at: created } };
    for device in (0..DEVICES).filter(|device| device.is_multiple_of(2)) {
        rollouts::put_device(tx, &rollout.id, &self::id(device), &member).await.unwrap();
    }
}

/// What is remembered of a box's inputs after its newest window.
fn inputs(drifts: bool) -> Watch {
    let phase = if drifts { json!({"raised": {"quiet": 0}}) } else { json!("calm") };
    let training = json!({"alarm": {"hits": [], "phase": phase}, "quiet": 0});
    let against = json!({"alarm": {"hits": [], "phase": "calm"}, "quiet": 0});
    let streams = json!({"age": {"training": training, "own": against}});
    serde_json::from_value(json!({"read_until": "2026-11-24T02:00:00Z", "streams": streams})).unwrap()
}

async fn act(tx: &mut ControlTx, n: u8, verb: u8, now: Timestamp) {
    let id = RolloutId::mint([n + 1; 16]);
    let Some(loaded) = rollouts::get::<Rollout>(tx, &id).await.unwrap() else { return };
    let mut rollout = loaded.document;
    let verb = [Verb::Pause, Verb::Resume, Verb::Abort, Verb::Rollback][verb as usize];
    if rollout.act(verb, Actor::Engine, "test", now).is_ok() {
        let _saved = rollouts::save(tx, &id, loaded.revision, rollout.phase.name(), &rollout).await.unwrap();
    }
}

/// What a box told.
async fn tell(store: &Store, moment: Moment, deed: &Deed) {
    let mut tx = store.write_telemetry().await.unwrap();
    if let Deed::Stats(n, bundle_of) = deed {
        let stats = ModelStats {
            slot: "er-beds".parse().unwrap(),
            bundle: bundle(*bundle_of).sha256,
            requests: 5,
            rows: 5,
            failures: u64::from(*n),
            refused: 0,
            latency: vec![1, 2, 3],
        };
        let from = moment.world_at.plus(std::time::Duration::from_hours(1));
        let mut sums = stats::Sums::default();
        sums.add(&stats);
        let hour = (id(*n), stats.slot, stats.bundle, stats::hour_of(from));
        stats::add(&mut tx, [(&hour, &sums)]).await.unwrap();
    }
    if let Deed::Health(n, mib) = deed {
        let mut told = health::HealthHours::default();
        for (hours, used) in [(-3, 1), (4, u64::from(*mib))] {
            let hour = health::hour_of(at(moment.world_at.as_millis() / 1000 + hours * 3600));
            let health = Health { memory_used_bytes: used << 20, ..Health::default() };
            told.entry((id(*n), hour)).or_default().add(&health);
        }
        health::add(&mut tx, &told).await.unwrap();
    }
    if let Deed::Shadow(n, of) = deed {
        let (of, before) = (bundle(*of).sha256, bundle(BEFORE).sha256);
        let (bundle, against) = if n.is_multiple_of(2) { (of, before) } else { (before, of) };
        let (slot, day) =
            ("er-beds".parse().unwrap(), moment.world_at.plus(std::time::Duration::from_hours(1)));
        let block = ShadowBlock { slot, bundle, against, day, n: 100, differed: 7 };
        shadows::add(&mut tx, &[(id(*n), block)]).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn commit(store: &Store, clocks: Clocks, deed: &Deed) {
    let moment = clocks.moment();
    if matches!(deed, Deed::Stats(..) | Deed::Health(..) | Deed::Shadow(..)) {
        return tell(store, moment, deed).await;
    }
    let mut tx = store.write().await.unwrap();
    match deed {
        Deed::Hello(n, variant) => {
            devices::hello(&mut tx, &id(*n), &hello(*n, *variant), moment.at).await.unwrap();
        }
        Deed::Stand(n, standing) => {
            let reason = "test".to_owned();
            let standing = [
                Standing::Active,
                Standing::Quarantined { reason: reason.clone() },
                Standing::Pending,
                Standing::Revoked { reason },
            ][*standing as usize]
                .clone();
            identity(&mut tx, *n, standing).await;
        }
        Deed::Presence(n, online) => {
            let presence = if *online { Presence::Online } else { Presence::Offline };
            let boot = BootId::mint([n + 1; 16]);
            let status = Status { v: VERSION, boot, connection: 1, presence };
            devices::presence(&mut tx, &id(*n), &status, moment.at).await.unwrap();
        }
        Deed::State(n, variant) => {
            devices::state(&mut tx, &id(*n), &state(*n, *variant)).await.unwrap();
        }
        Deed::Tag(n, variant) => {
            let seen = tags::get(&mut tx, &id(*n)).await.unwrap().revision;
            let tags: Tags = [("ward".parse().unwrap(), format!("w{variant}").parse().unwrap())].into();
            let _saved = tags::save(&mut tx, &id(*n), seen, &tags).await.unwrap();
        }
        Deed::Order(n, variant) => {
            let BundleRef { path, sha256 } = bundle(*variant);
            let order = StoredOrder {
                device: id(*n),
                version: u64::from(*variant) + 1,
                issued: at(1),
                expires: at(2),
                wants: vec![Want::now("er-beds".parse().unwrap(), path, sha256)],
                captures: Vec::new(),
                bytes: Vec::new(),
            };
            orders::put(&mut tx, &order).await.unwrap();
        }
        Deed::Inputs(n, of) => {
            let slot = if *of < 2 { "er-beds" } else { "other" }.parse().unwrap();
            let seat = Seat { bundle: bundle(*of).sha256, device: id(*n), slot };
            watches::put(&mut tx, &seat, &inputs(of.is_multiple_of(2))).await.unwrap();
        }
        Deed::Stats(..) | Deed::Health(..) | Deed::Shadow(..) | Deed::Sync => {}
        Deed::Lease(n, of_site) => {
            let lease = HeldLease {
                id: LeaseId::mint([n + 1; 16]),
                of: if *of_site { Scope::Site(site(*n % 3)) } else { Scope::Device(id(*n)) },
                owner: "ada".to_owned(),
                reason: "test".to_owned(),
                taken: moment.at,
                expires: at(4_000_000_000),
            };
            match leases::get(&mut tx, &lease.id, moment.at).await.unwrap() {
                Some(held) => leases::release(&mut tx, &held).await.unwrap(),
                None => assert_eq!(leases::take(&mut tx, &lease).await.unwrap(), leases::Taken::Taken),
            }
        }
        Deed::Site(n, variant) => {
            let seen = sites::get(&mut tx, &site(*n)).await.unwrap().map_or(0, |found| found.revision);
            let rules = SiteRules { in_flight_max: Some(u32::from(*variant) + 1), ..SiteRules::default() };
            let _saved = sites::save(&mut tx, &site(*n), seen, &rules).await.unwrap();
        }
        Deed::Freeze(n) => {
            let site = (*n > 0).then(|| site(*n));
            if !freezes::thaw(&mut tx, site.as_ref()).await.unwrap() {
                let (by, reason) = ("ada".to_owned(), "test".to_owned());
                let freeze = HeldFreeze { site, since: at(1), by, reason };
                assert_eq!(freezes::freeze(&mut tx, &freeze).await.unwrap(), freezes::Frozen::Frozen);
            }
        }
        Deed::Begin(n) => begin(&mut tx, *n, moment).await,
        Deed::Act(n, verb) => act(&mut tx, *n, *verb, moment.world_at).await,
        Deed::Bad(n, variant) => {
            bad_bundles::put(&mut tx, &id(*n), &bundle(*variant).sha256, &bad()).await.unwrap();
        }
    }
    tx.commit().await.unwrap();
}

fn bad() -> Bad {
    Bad { at: at(5), cause: Cause::new("x", "it failed") }
}

fn roster(store: &Store, clocks: Clocks) -> Roster {
    Roster::new(store.clone(), Catalogue::default(), clocks, Board::default())
}

async fn lives(deeds: &[Deed]) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let clocks = Clocks::default();
    for n in 0..DEVICES {
        let mut tx = store.write().await.unwrap();
        identity(&mut tx, n, Standing::Active).await;
        devices::hello(&mut tx, &id(n), &hello(n, 0), at(1)).await.unwrap();
        tx.commit().await.unwrap();
    }
    let mut kept = roster(&store, clocks);
    kept.sync().await.unwrap();
    for deed in deeds.iter().chain([&Deed::Sync]) {
        if !matches!(deed, Deed::Sync) {
            commit(&store, clocks, deed).await;
            // Only who owns the memory writes these, and says so.
            if let Deed::Bad(n, variant) = deed {
                kept.mark(&bundle(*variant).sha256, &[(id(*n), Some(bad()))]);
            }
            continue;
        }
        kept.sync().await.unwrap();
        let mut fresh = roster(&store, clocks);
        fresh.sync().await.unwrap();
        let show = |roster: &Roster| {
            let watches = roster.watches().map(|watch| {
                (watch.revision, watch.rollout.clone(), watch.members.clone(), watch.view.clone())
            });
            watches.collect::<Vec<_>>()
        };
        assert_eq!(show(&kept), show(&fresh));
        assert_eq!(kept.len(), fresh.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_is_what_a_fresh_look_sees(deeds in proptest::collection::vec(deed(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(lives(&deeds));
    }
}

#[tokio::test]
async fn what_no_commit_told_of_is_found_by_the_sweep() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clocks) = (Store::open(dir.path()).await.unwrap(), Clocks::default());
    let mut tx = store.write().await.unwrap();
    identity(&mut tx, 0, Standing::Active).await;
    devices::hello(&mut tx, &id(0), &hello(0, 0), at(1)).await.unwrap();
    begin(&mut tx, 2, clocks.moment()).await;
    tx.commit().await.unwrap();
    let mut kept = roster(&store, clocks);
    kept.sync().await.unwrap();
    commit(&store, clocks, &Deed::Tag(0, 2)).await;
    // As if the commit had named nobody.
    store.changes().take_touched();
    assert!(!kept.sync().await.unwrap());
    let tags = |roster: &Roster| roster.watches().next().unwrap().view.devices[&id(0)].tags.len();
    assert_eq!(tags(&kept), 0);
    kept.sweep().await.unwrap();
    assert_eq!(tags(&kept), 1);
}

/// Whoever is told that anybody may have shown something must not forget how boxes were, nor what their inputs were like.
#[tokio::test]
async fn how_boxes_are_outlives_a_look_at_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clocks) = (Store::open(dir.path()).await.unwrap(), Clocks::default());
    let mut tx = store.write().await.unwrap();
    identity(&mut tx, 0, Standing::Active).await;
    devices::hello(&mut tx, &id(0), &hello(0, 0), at(1)).await.unwrap();
    begin(&mut tx, 2, clocks.moment()).await;
    tx.commit().await.unwrap();
    let mut kept = roster(&store, clocks);
    kept.sync().await.unwrap();
    let shown = |roster: &Roster| {
        let evidence = &roster.watches().next().unwrap().view.devices[&id(0)].evidence;
        (evidence.vitals.memory_mib.map(|shift| (shift.before, shift.since)), evidence.inputs)
    };
    assert_eq!(shown(&kept), (None, Inputs::Unknown));
    commit(&store, clocks, &Deed::Health(0, 3)).await;
    commit(&store, clocks, &Deed::Inputs(0, 2)).await;
    kept.sync().await.unwrap();
    assert_eq!(shown(&kept), (Some((1.0, 3.0)), Inputs::Drifting));
    kept.forget();
    kept.sync().await.unwrap();
    assert_eq!(shown(&kept), (Some((1.0, 3.0)), Inputs::Drifting));
}

/// A box tells of the bundle in the shadow of the one before, or of the one before in its shadow.
#[tokio::test]
async fn what_shadows_compared_is_shown_whichever_of_the_two_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clocks) = (Store::open(dir.path()).await.unwrap(), Clocks::default());
    let mut tx = store.write().await.unwrap();
    for n in 0..3 {
        identity(&mut tx, n, Standing::Active).await;
        devices::hello(&mut tx, &id(n), &hello(n, 0), at(1)).await.unwrap();
    }
    begin(&mut tx, 1, clocks.moment()).await;
    tx.commit().await.unwrap();
    let mut kept = roster(&store, clocks);
    let before = bundle(BEFORE).sha256;
    let tell = async |n: u8, bundle: Digest, against: Digest| {
        let mut tx = store.write_telemetry().await.unwrap();
        let (slot, day) = ("er-beds".parse().unwrap(), clocks.moment().world_at);
        let block = ShadowBlock { slot, bundle, against, day, n: 100, differed: 7 };
        shadows::add(&mut tx, &[(id(n), block)]).await.unwrap();
        tx.commit().await.unwrap();
    };
    let under_test = bundle(1).sha256;
    tell(0, under_test, before).await;
    tell(0, before, under_test).await;
    tell(0, bundle(2).sha256, under_test).await;
    tell(2, bundle(2).sha256, before).await;
    // Nobody asked this one.
    tell(1, under_test, before).await;
    kept.sync().await.unwrap();
    let shown = |n: u8| kept.watches().next().unwrap().view.devices[&id(n)].evidence.shadow;
    let both = muster_fleet::gate::Shadow { n: 200, disagreed: 14 };
    assert_eq!([0, 1, 2].map(shown), [Some(both), None, None]);
}

/// A box that comes back into the fleet is seen as it became while it was no member.
#[tokio::test]
async fn what_a_box_showed_while_it_was_no_member_is_seen_when_it_is_one_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clocks) = (Store::open(dir.path()).await.unwrap(), Clocks::default());
    let mut tx = store.write().await.unwrap();
    identity(&mut tx, 0, Standing::Active).await;
    devices::hello(&mut tx, &id(0), &hello(0, 0), at(1)).await.unwrap();
    begin(&mut tx, 2, clocks.moment()).await;
    tx.commit().await.unwrap();
    let mut kept = roster(&store, clocks);
    kept.sync().await.unwrap();
    commit(&store, clocks, &Deed::Stand(0, 3)).await;
    commit(&store, clocks, &Deed::Health(0, 3)).await;
    commit(&store, clocks, &Deed::Inputs(0, 2)).await;
    kept.sync().await.unwrap();
    assert_eq!(kept.len(), 0);
    commit(&store, clocks, &Deed::Stand(0, 0)).await;
    kept.sync().await.unwrap();
    let evidence = &kept.watches().next().unwrap().view.devices[&id(0)].evidence;
    let memory = evidence.vitals.memory_mib.map(|shift| (shift.before, shift.since));
    assert_eq!((memory, evidence.inputs), (Some((1.0, 3.0)), Inputs::Drifting));
}
