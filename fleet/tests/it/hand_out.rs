//! Rollouts on a real server whose boxes answer by hand: killed in the middle of a hand-out, stopped in one, revoked under it.

use std::collections::BTreeMap;
use std::path::Path;

use muster_fleet::clock::Moment;
use muster_fleet::fleet::Fleet;
use muster_fleet::gate::GateLimits;
use muster_fleet::orders::Handed;
use muster_fleet::rollout::journal::{Input, Replay};
use muster_fleet::rollout::{Actor, Member, Phase, Plan, Progress, Rollout, Selector, Size, StagePlan, Verb};
use muster_fleet::store::leases::{self, HeldLease, Scope};
use muster_fleet::store::{Page, Saved, devices, journal, log, orders, rollouts};
use muster_fleet::tasks::runs;
use muster_protocol::ids::{BootId, DeviceId, LeaseId, RolloutId, SlotName};
use muster_protocol::message::up::{
    BundleRef, Phase as BoxPhase, Provider, ProviderUse, Running, SlotState, Status,
};
use muster_protocol::message::{Presence, State, VERSION};
use muster_protocol::trust::{Permit, Revocation, RevocationAction, Want};

use crate::http::enrol;
use crate::publisher::{Bundle, Publisher, person};
use crate::server::Server;

pub(crate) const DEVICES: u8 = 8;

pub(crate) fn old() -> Bundle {
    Bundle::make("bundles/er-beds/1.json", b"1")
}

pub(crate) fn new() -> Bundle {
    Bundle::make("bundles/er-beds/2.json", b"2")
}

fn named(bundle: &Bundle) -> BundleRef {
    BundleRef { path: bundle.path.clone(), sha256: bundle.sha256() }
}

/// A catalogue of two bundles and a fleet that runs the first.
pub(crate) async fn fleet(data: &Path) -> (Server, Publisher) {
    let server = Server::start(data).await;
    let publisher = Publisher::begin(&server.fleet, &[&old(), &new()]).await;
    for n in 1..=DEVICES {
        enrol(&server.fleet, n, Some(&named(&old()))).await;
    }
    (server, publisher)
}

/// A rollout to everybody, two at a time.
async fn begin(fleet: &Fleet) -> RolloutId {
    begin_with(fleet, 3600, GateLimits::default()).await
}

pub(crate) async fn begin_with(fleet: &Fleet, bake_s: u64, gate: GateLimits) -> RolloutId {
    let stage = StagePlan {
        name: "everybody".to_owned(),
        size: Size::Percent(100.0),
        quorum_percent: 100.0,
        bake_s,
        deadline_s: 360_000,
        exposure_device_hours_max: None,
        gate,
    };
    let mut plan = Plan::of(vec![stage], Selector::default());
    plan.in_flight_max = 2;
    let (id, moment) = (RolloutId::mint([1; 16]), fleet.clocks.moment());
    let names = ("er-beds".parse().unwrap(), "er-beds".parse().unwrap());
    let by = (Actor::Person { name: "ada".to_owned() }, "test".to_owned());
    let rollout = Rollout::start(id.clone(), names, named(&new()), plan, by, moment.world_at).unwrap();
    let mut tx = fleet.store.write().await.unwrap();
    runs::create(&mut tx, &rollout, log::Actor::Fleet, moment).await.unwrap();
    tx.commit().await.unwrap();
    id
}

pub(crate) async fn members(fleet: &Fleet, id: &RolloutId) -> BTreeMap<DeviceId, Member> {
    let mut db = fleet.store.read().await.unwrap();
    rollouts::devices(&mut db, id, &Page::first(99)).await.unwrap().into_iter().collect()
}

async fn phase(fleet: &Fleet, id: &RolloutId) -> Phase {
    let mut db = fleet.store.read().await.unwrap();
    rollouts::get::<Rollout>(&mut db, id).await.unwrap().unwrap().document.phase
}

/// What each device's newest order wants.
async fn wishes(fleet: &Fleet) -> BTreeMap<DeviceId, BundleRef> {
    let mut db = fleet.store.read().await.unwrap();
    let all = orders::list(&mut db, &Page::first(99)).await.unwrap();
    let wish = |order: orders::StoredOrder| {
        let want = order.wants.into_iter().next()?;
        Some((order.device, BundleRef { path: want.bundle, sha256: want.sha256 }))
    };
    all.into_iter().filter_map(wish).collect()
}

/// Every device runs what it was ordered to run, as far as `may` it.
pub(crate) async fn obey(fleet: &Fleet, may: impl Fn(&DeviceId) -> bool) {
    let mut tx = fleet.store.write().await.unwrap();
    for n in 1..=DEVICES {
        let id = DeviceId::mint([n; 16]);
        let Some(order) = orders::get(&mut tx, &id).await.unwrap() else { continue };
        let Some(want) = order.wants.first().filter(|want| want.activate == Permit::Now && may(&id)) else {
            continue;
        };
        let bundle = BundleRef { path: want.bundle.clone(), sha256: want.sha256 };
        let running = Running {
            bundle: bundle.clone(),
            variant: "cpu".to_owned(),
            provider: ProviderUse { provider: Provider::OnnxCpu, reason: None },
            numerics: None,
            passed_over: None,
            since: order.issued,
        };
        let slot = SlotState {
            slot: want.slot.clone(),
            phase: BoxPhase::Running { bundle },
            current: Some(running),
            previous: None,
            notice: None,
        };
        let state = State {
            v: VERSION,
            boot: BootId::mint([n; 16]),
            sequence: order.version,
            at: order.issued,
            observed_generation: order.version,
            catalogue: 1,
            refusal: None,
            notices: vec![],
            leases: Vec::new(),
            captures: Vec::new(),
            slots: vec![slot],
        };
        devices::state(&mut tx, &id, &state).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn act(fleet: &Fleet, id: &RolloutId, verb: Verb) -> Moment {
    let moment = fleet.clocks.moment();
    let mut tx = fleet.store.write().await.unwrap();
    let loaded = rollouts::get::<Rollout>(&mut tx, id).await.unwrap().unwrap();
    let mut rollout = loaded.document;
    let by = Actor::Person { name: "ada".to_owned() };
    rollout.act(verb, by.clone(), "test", moment.world_at).unwrap();
    runs::acted(&mut tx, &rollout, (verb, by, "test"), moment).await.unwrap();
    let saved = rollouts::save(&mut tx, id, loaded.revision, rollout.phase.name(), &rollout).await.unwrap();
    assert!(matches!(saved, Saved::Saved { .. }));
    tx.commit().await.unwrap();
    moment
}

fn count(members: &BTreeMap<DeviceId, Member>, is: impl Fn(&Progress) -> bool) -> usize {
    members.values().filter(|member| is(&member.progress)).count()
}

pub(crate) fn activated(members: &BTreeMap<DeviceId, Member>) -> usize {
    count(members, |progress| matches!(progress, Progress::Activated { .. }))
}

/// Lives the rollout through again, entry by entry, and comes out where it is.
async fn replays(fleet: &Fleet, id: &RolloutId) -> usize {
    let mut db = fleet.store.read().await.unwrap();
    let entries = journal::read(&mut db, id, &Page::first(999)).await.unwrap();
    let extent = journal::extent(&mut db, id).await.unwrap();
    assert_eq!((extent.entries, extent.truncated), (entries.len() as u64, false));
    let mut replay = Replay::default();
    for (_, entry) in &entries {
        replay.follow(entry).unwrap();
    }
    let found = rollouts::get::<Rollout>(&mut db, id).await.unwrap().unwrap().document;
    assert_eq!(replay.rollout, Some(found));
    drop(db);
    assert_eq!(replay.members, members(fleet, id).await);
    entries.iter().filter(|(_, entry)| matches!(entry.input, Input::Looked { .. })).count()
}

#[tokio::test]
async fn a_server_that_is_killed_in_the_middle_of_a_hand_out_goes_on_with_it() {
    let data = tempfile::tempdir().unwrap();
    let (mut server, _) = fleet(data.path()).await;
    let id = begin(&server.fleet).await;
    for reached in [2, 4, 6] {
        let ordered = async |fleet: &Fleet| (wishes(fleet).await.len() == reached).then_some(());
        server.until("two more are ordered", ordered).await;
        server.kill().await;
        server = Server::start(data.path()).await;
        // A broker that has just started has no clients; they come back.
        let mut tx = server.fleet.store.write().await.unwrap();
        for n in 1..=DEVICES {
            let boot = BootId::mint([n; 16]);
            let status = Status { v: VERSION, boot, connection: 1, presence: Presence::Online };
            let now = server.fleet.clocks.trust.now();
            assert!(devices::presence(&mut tx, &DeviceId::mint([n; 16]), &status, now).await.unwrap());
        }
        tx.commit().await.unwrap();
        assert_eq!(wishes(&server.fleet).await.len(), reached, "never more in flight than the plan allows");
        obey(&server.fleet, |_| true).await;
    }
    let done = async |fleet: &Fleet| {
        obey(fleet, |_| true).await;
        (activated(&members(fleet, &id).await) == usize::from(DEVICES)).then_some(())
    };
    server.until("everybody runs it", done).await;
    assert!(replays(&server.fleet, &id).await >= 4);
    server.stop().await;
}

#[tokio::test]
async fn nobody_is_handed_anything_once_a_stop_is_committed() {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = fleet(data.path()).await;
    let id = begin(&server.fleet).await;
    let swing = async |fleet: &Fleet| {
        obey(fleet, |_| true).await;
        (wishes(fleet).await.len() >= 4).then_some(())
    };
    server.until("the hand-out is in full swing", swing).await;
    act(&server.fleet, &id, Verb::Pause).await;
    let handed = wishes(&server.fleet).await;
    obey(&server.fleet, |_| true).await;
    let seen = async |fleet: &Fleet| (activated(&members(fleet, &id).await) == handed.len()).then_some(());
    server.until("those who were asked went on", seen).await;
    assert_eq!(wishes(&server.fleet).await, handed);
    act(&server.fleet, &id, Verb::Resume).await;
    server.until("it goes on", swing).await;
    replays(&server.fleet, &id).await;
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_bundle_ends_its_rollout_and_everybody_goes_back() {
    let data = tempfile::tempdir().unwrap();
    let (server, mut publisher) = fleet(data.path()).await;
    let id = begin(&server.fleet).await;
    let swing = async |fleet: &Fleet| {
        obey(fleet, |_| true).await;
        (activated(&members(fleet, &id).await) >= 2).then_some(())
    };
    server.until("some run it", swing).await;
    let revocation = Revocation { reason: "it doses wrongly".to_owned(), action: RevocationAction::Retain };
    publisher.spec.revoke(&new().path, revocation).unwrap();
    let catalogue = publisher.catalogue(&[], &publisher.targets_key());
    server.fleet.intake.upload("2.targets.json", &catalogue, person()).await.unwrap();
    let back = async |fleet: &Fleet| {
        obey(fleet, |_| true).await;
        matches!(phase(fleet, &id).await, Phase::RolledBack { .. }).then_some(())
    };
    server.until("it is rolled back", back).await;
    let Phase::RolledBack { cause, .. } = phase(&server.fleet, &id).await else { panic!("just now") };
    assert_eq!(cause.code, "bundle_revoked", "{cause:?}");
    assert!(wishes(&server.fleet).await.values().all(|wish| *wish == named(&old())));
    server.stop().await;
}

#[tokio::test]
async fn a_leased_box_is_offered_the_bundle_and_switches_when_the_lease_is_given_back() {
    let data = tempfile::tempdir().unwrap();
    let (server, _) = fleet(data.path()).await;
    let device = DeviceId::mint([1; 16]);
    let now = server.fleet.clocks.trust.now();
    let lease = HeldLease {
        id: LeaseId::mint([1; 16]),
        of: Scope::Device(device.clone()),
        owner: "Dr. Weber".to_owned(),
        reason: "study in progress".to_owned(),
        taken: now,
        expires: now.plus(std::time::Duration::from_hours(1)),
    };
    let mut tx = server.fleet.store.write().await.unwrap();
    assert_eq!(leases::take(&mut tx, &lease).await.unwrap(), leases::Taken::Taken);
    tx.commit().await.unwrap();
    let id = begin(&server.fleet).await;
    let others = async |fleet: &Fleet| {
        obey(fleet, |_| true).await;
        (activated(&members(fleet, &id).await) == usize::from(DEVICES) - 1).then_some(())
    };
    server.until("everybody else runs it", others).await;
    let permit = async |fleet: &Fleet| {
        let mut db = fleet.store.read().await.unwrap();
        orders::get(&mut db, &device).await.unwrap().map(|order| order.wants[0].activate)
    };
    let offered = async |fleet: &Fleet| (permit(fleet).await == Some(Permit::Hold)).then_some(());
    server.until("it is told to fetch it and to wait", offered).await;
    let mut tx = server.fleet.store.write().await.unwrap();
    leases::release(&mut tx, &lease).await.unwrap();
    tx.commit().await.unwrap();
    // It has it, tested, and says so; then it may.
    let mut tx = server.fleet.store.write().await.unwrap();
    let order = orders::get(&mut tx, &device).await.unwrap().unwrap();
    let mut state = devices::get(&mut tx, &device).await.unwrap().unwrap().state.unwrap();
    state.observed_generation = order.version;
    state.sequence += 1;
    state.slots[0].phase =
        BoxPhase::Ready { bundle: named(&new()), waits_for: muster_protocol::message::up::ReadyFor::Permit };
    assert!(devices::state(&mut tx, &device, &state).await.unwrap());
    tx.commit().await.unwrap();
    let permitted = async |fleet: &Fleet| (permit(fleet).await == Some(Permit::Now)).then_some(());
    server.until("it may switch", permitted).await;
    replays(&server.fleet, &id).await;
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_bundle_in_one_slot_keeps_no_other_from_being_changed() {
    let data = tempfile::tempdir().unwrap();
    let (server, mut publisher) = fleet(data.path()).await;
    let elsewhere = Bundle::make("bundles/er-beds/3.json", b"3");
    elsewhere.upload(&server.fleet.blobs).await;
    let catalogue = publisher.catalogue(&[&elsewhere], &publisher.targets_key());
    server.fleet.intake.upload("2.targets.json", &catalogue, person()).await.unwrap();
    let bound = DeviceId::mint([1; 16]);
    let want = Want::now("other".parse().unwrap(), elsewhere.path.clone(), elsewhere.sha256());
    let mut tx = server.fleet.store.write().await.unwrap();
    server.fleet.orders.set_wants(&mut tx, &bound, &[want]).await.unwrap();
    tx.commit().await.unwrap();
    let revocation = Revocation { reason: "it doses wrongly".to_owned(), action: RevocationAction::Retain };
    publisher.spec.revoke(&elsewhere.path, revocation).unwrap();
    let catalogue = publisher.catalogue(&[], &publisher.targets_key());
    server.fleet.intake.upload("3.targets.json", &catalogue, person()).await.unwrap();

    let id = begin(&server.fleet).await;
    let both = async |fleet: &Fleet| {
        obey(fleet, |device| *device != bound).await;
        let mut db = fleet.store.read().await.unwrap();
        let order = orders::get(&mut db, &bound).await.unwrap().unwrap();
        let wants: Vec<_> = order.wants.into_iter().map(|want| want.bundle).collect();
        (wants == [new().path, elsewhere.path.clone()]).then_some(())
    };
    server.until("it is ordered the new one beside the revoked one", both).await;
    replays(&server.fleet, &id).await;
    server.stop().await;
}

#[tokio::test]
async fn orders_are_renewed_whatever_became_of_their_bundles() {
    const MANY: u8 = 101;
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    Publisher::begin(&server.fleet, &[&old()]).await;
    let now = server.fleet.clocks.trust.now();
    let soon = |n: u8| now.plus(std::time::Duration::from_mins(u64::from(n)));
    for n in 1..=MANY {
        let device = enrol(&server.fleet, n, None).await;
        // None of them is in the catalogue any more.
        let BundleRef { path, sha256 } = named(&new());
        let order = orders::StoredOrder {
            device,
            version: 1,
            issued: now,
            expires: soon(n),
            wants: vec![Want::now("er-beds".parse().unwrap(), path, sha256)],
            captures: Vec::new(),
            bytes: Vec::new(),
        };
        let mut tx = server.fleet.store.write().await.unwrap();
        orders::put(&mut tx, &order).await.unwrap();
        tx.commit().await.unwrap();
    }
    server.fleet.orders.resign_due(&server.fleet.store).await.unwrap();
    let mut db = server.fleet.store.read().await.unwrap();
    for n in 1..=MANY {
        let renewed = orders::get(&mut db, &DeviceId::mint([n; 16])).await.unwrap().unwrap();
        assert!(renewed.expires > soon(MANY), "{renewed:?}");
    }
    drop(db);
    // Nor does it keep another slot from being changed.
    let mut tx = server.fleet.store.write().await.unwrap();
    let trusted = server.fleet.orders.published(&mut tx).await.unwrap();
    let (device, slot): (_, SlotName) = (DeviceId::mint([1; 16]), "er-los".parse().unwrap());
    let mut order = async |bundle: BundleRef| {
        let want = Want::now(slot.clone(), bundle.path, bundle.sha256);
        server.fleet.orders.set_slot(&mut tx, &trusted, &device, &slot, Some(want)).await
    };
    assert!(order(named(&new())).await.is_err(), "what is new must be in the catalogue");
    assert!(matches!(order(named(&old())).await, Ok(Handed::Signed { .. })));
    tx.commit().await.unwrap();
    server.stop().await;
}
