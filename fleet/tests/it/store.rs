//! The store's conformance: what every database under it must do. Run here on SQLite.

use futures_util::FutureExt as _;
use muster_fleet::clock::Moment;
use muster_fleet::enrolment::{Approval, Boots, Enrolment, Identity, Key, Standing, StandingName, Suspicion};
use muster_fleet::rollout::filter::{Filter, Tags};
use muster_fleet::rollout::{Cause, SiteRules};
use muster_fleet::store::bad_bundles::Bad;
use muster_fleet::store::certificates::Certificate;
use muster_fleet::store::devices::{DeviceFilter, Greeting};
use muster_fleet::store::freezes::{self, Frozen, HeldFreeze};
use muster_fleet::store::identities::IdentityFilter;
use muster_fleet::store::leases::{HeldLease, Scope};
use muster_fleet::store::log::{Actor, NewEntry};
use muster_fleet::store::outbox::Message;
use muster_fleet::store::runs::{Lease, RunColumns};
use muster_fleet::store::{
    self, NewestFirst, Page, Saved, Store, Touched, Versioned, bad_bundles, certificates, cohorts, devices,
    enrolments, identities, incidents, leases, log, outbox, policies, rollouts, runs, sites, tags, triggers,
    watches,
};
use muster_protocol::enrol::{Facts, Fingerprint};
use muster_protocol::ids::{
    BootId, DeviceId, Digest, EnrolmentId, IncidentId, LeaseId, ModelName, RolloutId, RunId, SiteName,
    TriggerId,
};
use muster_protocol::message::{Capabilities, Hello, Presence, VERSION};
use muster_protocol::time::Timestamp;
use muster_protocol::topic::Topic;
use serde_json::{Value, json};

use crate::member::written;
use crate::server::PATIENCE;

async fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    (dir, store)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn model() -> ModelName {
    "er-beds".parse().unwrap()
}

fn hello(name: &str, site: &str) -> Hello {
    Hello {
        v: VERSION,
        boot: BootId::mint([1; 16]),
        connection: 1,
        name: name.to_owned(),
        site: site.parse().unwrap(),
        agent_version: "1".to_owned(),
        capabilities: Capabilities::default(),
        order_version: 0,
        root: None,
        certificate_expires: None,
        facts: None,
        key: None,
    }
}

fn entry(subject: &str) -> NewEntry {
    NewEntry {
        when: Moment { at: at(1), world_at: at(2) },
        kind: "test.happened",
        subject: subject.to_owned(),
        sentence: "it happened".into(),
        actor: Actor::Fleet,
    }
}

#[tokio::test]
async fn what_is_not_committed_never_was() {
    let (_dir, store) = open().await;
    let mut heard = store.changes().log();
    let mut commits = store.changes().commits();
    let mut tx = store.write().await.unwrap();
    log::append(&mut tx, &entry("a")).await.unwrap();
    outbox::push(&mut tx, &Message { topic: Topic::Epoch, payload: b"x".to_vec(), retain: true })
        .await
        .unwrap();
    drop(tx);
    let mut tx = store.write().await.unwrap();
    assert!(log::after(&mut tx, None, &Page::first(9)).await.unwrap().is_empty());
    assert!(outbox::next(&mut tx, &Page::first(9)).await.unwrap().is_empty());
    let id = log::append(&mut tx, &entry("b")).await.unwrap();
    assert!(heard.try_recv().is_err() && !commits.has_changed().unwrap());
    tx.commit().await.unwrap();
    assert_eq!(heard.recv().await.unwrap(), id);
    commits.changed().await.unwrap();
    let told = log::after(&mut store.read().await.unwrap(), None, &Page::after(id - 1, 9)).await.unwrap();
    assert_eq!((told.len(), told[0].subject.as_str(), told[0].when.world_at), (1, "b", at(2)));
}

#[tokio::test]
async fn a_commit_that_nobody_waits_for_is_told_of_and_not_before_it_is_over() {
    let (_dir, store) = open().await;
    let mut commits = store.changes().commits();
    let site: SiteName = "er-2".parse().unwrap();
    let mut tx = store.write().await.unwrap();
    let rules = SiteRules { in_flight_max: Some(3), ..SiteRules::default() };
    assert_eq!(sites::save(&mut tx, &site, 0, &rules).await.unwrap(), Saved::Saved { revision: 1 });
    assert!(tx.commit().now_or_never().is_none(), "it has only begun, and the client goes away");
    tokio::time::timeout(PATIENCE, commits.changed()).await.expect("nobody is told").unwrap();
    assert!(store.changes().take_touched().sites);
    let found = sites::get(&mut store.read().await.unwrap(), &site).await.unwrap();
    assert_eq!(found.map(|found| found.document), Some(rules));
}

#[tokio::test]
async fn readers_see_one_state_and_do_not_wait_for_the_writer() {
    let (_dir, store) = open().await;
    let mut reader = store.read().await.unwrap();
    assert!(log::after(&mut reader, None, &Page::first(9)).await.unwrap().is_empty());
    let mut tx = store.write().await.unwrap();
    log::append(&mut tx, &entry("a")).await.unwrap();
    assert!(log::after(&mut store.read().await.unwrap(), None, &Page::first(9)).await.unwrap().is_empty());
    tx.commit().await.unwrap();
    assert!(log::after(&mut reader, None, &Page::first(9)).await.unwrap().is_empty());
    assert_eq!(log::after(&mut store.read().await.unwrap(), None, &Page::first(9)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn devices_are_listed_by_site_and_name_page_by_page() {
    let (_dir, store) = open().await;
    let mut tx = store.write().await.unwrap();
    for (n, (name, site)) in
        [("b", "er-2"), ("a", "er-2"), ("c%", "er-1"), ("cx", "er-1"), ("a", "er-1")].iter().enumerate()
    {
        let id = DeviceId::mint([u8::try_from(n).unwrap(); 16]);
        assert_eq!(
            devices::hello(&mut tx, &id, &hello(name, site), at(1)).await.unwrap(),
            Greeting::Stranger
        );
    }
    tx.commit().await.unwrap();
    let mut db = store.read().await.unwrap();
    let mut page = Page::first(2);
    let mut names = Vec::new();
    loop {
        let part = devices::list(&mut db, &DeviceFilter::default(), &page).await.unwrap();
        assert!(part.len() <= 2);
        let Some(last) = part.last() else { break };
        page.after = Some(last.key());
        names.extend(part.iter().map(|device| format!("{} {}", device.site, device.name)));
    }
    assert_eq!(names, ["er-1 a", "er-1 c%", "er-1 cx", "er-2 a", "er-2 b"]);
    let count = async |filter: DeviceFilter| {
        let mut db = store.read().await.unwrap();
        devices::list(&mut db, &filter, &Page::first(9)).await.unwrap().len()
    };
    let text = |text: &str| DeviceFilter { text: Some(text.to_owned()), ..DeviceFilter::default() };
    assert_eq!(count(text("C%")).await, 1);
    assert_eq!(count(text("'; drop table devices; --")).await, 0);
    assert_eq!(
        count(DeviceFilter { site: Some("er-2".parse().unwrap()), ..DeviceFilter::default() }).await,
        2
    );
    let offline = DeviceFilter { presence: Some(Presence::Offline), ..DeviceFilter::default() };
    assert_eq!(count(offline.clone()).await, 0);
    drop(db);
    let mut tx = store.write().await.unwrap();
    assert_eq!(devices::all_offline(&mut tx, at(2)).await.unwrap(), 5);
    tx.commit().await.unwrap();
    assert_eq!(count(offline).await, 5);
}

#[tokio::test]
async fn a_device_that_moves_while_all_are_looked_at_is_seen_once() {
    let (_dir, store) = open().await;
    let ids = [1, 2, 3].map(|n| DeviceId::mint([n; 16]));
    let greet = async |id: &DeviceId, site: &str, minute: i64| {
        let mut tx = store.write().await.unwrap();
        devices::hello(&mut tx, id, &hello("box", site), at(minute)).await.unwrap();
        tx.commit().await.unwrap();
    };
    for id in &ids {
        greet(id, "er-2", 1).await;
    }
    let mut page = Page::first(1);
    let mut seen = Vec::new();
    loop {
        let part = devices::whereabouts(&mut store.read().await.unwrap(), &page).await.unwrap();
        let Some(last) = part.last() else { break };
        page.after = Some(last.id.clone());
        seen.extend(part.into_iter().map(|device| (device.id, device.site.to_string())));
        // To before all that was seen, in the order of sites and names.
        greet(&ids[2], "er-1", 2).await;
    }
    let [first, second, third] = ids;
    let there = |id, site: &str| (id, site.to_owned());
    assert_eq!(seen, [there(first, "er-2"), there(second, "er-2"), there(third, "er-1")]);
}

#[tokio::test]
async fn whoever_was_revoked_is_nowhere_and_runs_nothing() {
    let (_dir, store) = open().await;
    let ids = [1, 2, 3, 4].map(|n| DeviceId::mint([n; 16]));
    let [stranger, active, apart, gone] = &ids;
    for id in [active, apart, gone] {
        written(&store, at(1), id, ("box", "er-2")).await;
    }
    let mut tx = store.write().await.unwrap();
    for id in &ids {
        devices::hello(&mut tx, id, &hello("box", "er-2"), at(1)).await.unwrap();
    }
    let reason = || "a test".to_owned();
    for (id, standing) in
        [(apart, Standing::Quarantined { reason: reason() }), (gone, Standing::Revoked { reason: reason() })]
    {
        let mut identity = identities::get(&mut tx, id).await.unwrap().unwrap();
        identity.standing = standing;
        identities::save(&mut tx, &identity).await.unwrap();
    }
    let found = devices::whereabouts(&mut tx, &Page::first(9)).await.unwrap();
    let found: Vec<DeviceId> = found.into_iter().map(|device| device.id).collect();
    assert_eq!(found, [stranger.clone(), active.clone(), apart.clone()]);
}

#[tokio::test]
async fn of_two_writers_who_saw_the_same_one_wins() {
    let (_dir, store) = open().await;
    let (id, device) = (RolloutId::mint([1; 16]), DeviceId::mint([1; 16]));
    let mut tx = store.write().await.unwrap();
    rollouts::create(&mut tx, &id, &model(), "running", at(1), &json!({"n": 1})).await.unwrap();
    assert_eq!(
        rollouts::save(&mut tx, &id, 1, "held", &json!({"n": 2})).await.unwrap(),
        Saved::Saved { revision: 2 }
    );
    assert_eq!(rollouts::save(&mut tx, &id, 1, "aborted", &json!({"n": 3})).await.unwrap(), Saved::Stale);
    for n in [1, 2] {
        rollouts::put_device(&mut tx, &id, &device, &json!({"stage": n})).await.unwrap();
    }
    tx.commit().await.unwrap();
    let mut db = store.read().await.unwrap();
    let found: Versioned<Value> = rollouts::get(&mut db, &id).await.unwrap().unwrap();
    assert_eq!((found.revision, found.document), (2, json!({"n": 2})));
    let held: Vec<Versioned<Value>> =
        rollouts::list(&mut db, None, Some("held"), &Page::first(9)).await.unwrap();
    assert_eq!(held.len(), 1);
    let records: Vec<(DeviceId, Value)> = rollouts::devices(&mut db, &id, &Page::first(9)).await.unwrap();
    assert_eq!(records, [(device, json!({"stage": 2}))]);
    assert!(rollouts::get::<Value>(&mut db, &RolloutId::mint([2; 16])).await.unwrap().is_none());
}

#[tokio::test]
async fn policies_begin_at_revision_one() {
    let (_dir, store) = open().await;
    let mut tx = store.write().await.unwrap();
    assert_eq!(policies::save(&mut tx, &model(), 0, &json!(1)).await.unwrap(), Saved::Saved { revision: 1 });
    assert_eq!(policies::save(&mut tx, &model(), 0, &json!(2)).await.unwrap(), Saved::Stale);
    assert_eq!(policies::save(&mut tx, &model(), 1, &json!(3)).await.unwrap(), Saved::Saved { revision: 2 });
    let all: Vec<(ModelName, Versioned<Value>)> = policies::list(&mut tx, &Page::first(9)).await.unwrap();
    assert_eq!(all, [(model(), Versioned { revision: 2, document: json!(3) })]);
}

#[tokio::test]
async fn newest_first_lists_go_on_where_they_stopped() {
    let (_dir, store) = open().await;
    let mut tx = store.write().await.unwrap();
    // Two of the same time: the id decides.
    for (n, seconds) in [(1, 10), (2, 20), (3, 20), (4, 30)] {
        let outcome = triggers::Outcome::Refused;
        triggers::add(&mut tx, &TriggerId::mint([n; 16]), &model(), at(seconds), outcome, &json!({"n": n}))
            .await
            .unwrap();
    }
    let mut seen: Vec<u64> = Vec::new();
    let mut page = Page::<NewestFirst>::first(1);
    loop {
        let part: Vec<Value> = triggers::list(&mut tx, Some(&model()), &page).await.unwrap();
        let Some(last) = part.last() else { break };
        let n = last["n"].as_u64().unwrap();
        let seconds = [0, 10, 20, 20, 30][usize::try_from(n).unwrap()];
        let id = TriggerId::mint([u8::try_from(n).unwrap(); 16]);
        page.after = Some(NewestFirst { at: at(seconds), id: id.to_string() });
        seen.push(n);
    }
    assert_eq!(seen, [4, 3, 2, 1]);
}

#[tokio::test]
async fn runs_are_claimed_oldest_first_and_leases_lapse() {
    let (_dir, store) = open().await;
    let queued = RunColumns { state: "queued", lease: None };
    let mut tx = store.write().await.unwrap();
    for n in [2, 1] {
        let created = at(i64::from(n));
        runs::create(&mut tx, &RunId::mint([n; 16]), &model(), created, queued, &json!({"n": n}))
            .await
            .unwrap();
    }
    let first: Versioned<Value> = runs::oldest(&mut tx, &model(), "queued").await.unwrap().unwrap();
    assert_eq!(first.document, json!({"n": 1}));
    let id = RunId::mint([1; 16]);
    let claimed = RunColumns { state: "claimed", lease: Some(Lease { builder: "b1", until: at(100) }) };
    assert_eq!(
        runs::save(&mut tx, &id, first.revision, claimed, &first.document).await.unwrap(),
        Saved::Saved { revision: 2 }
    );
    assert!(runs::lapsed::<Value>(&mut tx, "claimed", at(100), 9).await.unwrap().is_empty());
    assert_eq!(runs::lapsed::<Value>(&mut tx, "claimed", at(101), 9).await.unwrap().len(), 1);
    let lines: Vec<String> = (0..1500).map(|n| n.to_string()).collect();
    for part in lines.chunks(400) {
        runs::add_log(&mut tx, &id, at(5), part).await.unwrap();
    }
    let tail = runs::log_tail(&mut tx, &id, &Page::first(10_000)).await.unwrap();
    assert_eq!((tail.len(), tail[0].text.as_str(), tail[999].text.as_str()), (1000, "500", "1499"));
    assert_eq!(runs::log_tail(&mut tx, &id, &Page::after(tail[997].line, 9)).await.unwrap().len(), 2);
}

#[tokio::test]
async fn incidents_watches_and_baselines_keep_their_documents() {
    let (_dir, store) = open().await;
    let (id, bundle) = (IncidentId::mint([1; 16]), Digest::of(b"b"));
    let site: SiteName = "er-1".parse().unwrap();
    let model = model();
    let mut tx = store.write().await.unwrap();
    let columns = incidents::IncidentColumns { model: &model, bundle: &bundle, state: "open", opened: at(1) };
    incidents::create(&mut tx, &id, columns, &json!("new")).await.unwrap();
    assert_eq!(incidents::count_in(&mut tx, "open").await.unwrap(), 1);
    assert_eq!(
        incidents::save(&mut tx, &id, 1, "closed", &json!("old")).await.unwrap(),
        Saved::Saved { revision: 2 }
    );
    assert_eq!(incidents::count_in(&mut tx, "open").await.unwrap(), 0);
    assert!(incidents::list::<Value>(&mut tx, None, Some("open"), &Page::first(9)).await.unwrap().is_empty());
    let seat =
        |n: u8| watches::Seat { bundle, device: DeviceId::mint([n; 16]), slot: "beds".parse().unwrap() };
    for n in [1, 2] {
        watches::put(&mut tx, &seat(1), &json!(n)).await.unwrap();
        watches::put(&mut tx, &seat(2), &json!(n)).await.unwrap();
        watches::put_site(&mut tx, &bundle, &site, &json!(n)).await.unwrap();
    }
    assert_eq!(watches::get::<Value>(&mut tx, &seat(1)).await.unwrap(), Some(json!(2)));
    let first = watches::list::<Value>(&mut tx, &Page::first(1)).await.unwrap();
    assert_eq!(first, [(seat(1), json!(2))]);
    let next = watches::list::<Value>(&mut tx, &Page::after(seat(1), 9)).await.unwrap();
    assert_eq!(next, [(seat(2), json!(2))]);
    watches::forget(&mut tx, &seat(1)).await.unwrap();
    assert_eq!(watches::get::<Value>(&mut tx, &seat(1)).await.unwrap(), None);
    assert_eq!(watches::site::<Value>(&mut tx, &bundle, &site).await.unwrap(), Some(json!(2)));
    assert_eq!(watches::sites::<Value>(&mut tx, &bundle, &Page::after(site, 9)).await.unwrap(), []);
}

fn identity(n: u8, standing: Standing) -> Identity {
    let spki = vec![n];
    Identity {
        device: DeviceId::mint([n; 16]),
        name: format!("box-{n}"),
        site: "er-1".parse().unwrap(),
        key: Key { fingerprint: Fingerprint::of(&spki), spki },
        former: None,
        standing,
        since: at(n.into()),
        facts: Facts { board: Some(Digest::of(b"board")), ..Facts::default() },
        enrolment: Some(EnrolmentId::mint([n; 16])),
        enrolled: at(n.into()),
        boots: Boots::default(),
        suspicion: Suspicion::default(),
    }
}

#[tokio::test]
async fn identities_are_found_by_name_by_key_and_by_state() {
    let (_dir, store) = open().await;
    let mut tx = store.write().await.unwrap();
    let why = || "because".to_owned();
    let all = [
        identity(1, Standing::Pending),
        identity(2, Standing::Active),
        identity(3, Standing::Rejected { reason: why() }),
        Identity {
            former: Some(Fingerprint::of(b"old")),
            ..identity(4, Standing::Quarantined { reason: why() })
        },
        identity(5, Standing::Revoked { reason: why() }),
    ];
    for identity in &all {
        identities::save(&mut tx, identity).await.unwrap();
        identities::save(&mut tx, identity).await.unwrap();
        assert_eq!(identities::get(&mut tx, &identity.device).await.unwrap().as_ref(), Some(identity));
        let by_key = identities::by_key(&mut tx, identity.key.fingerprint).await.unwrap();
        assert_eq!(by_key.as_ref(), Some(identity));
        let standing = identities::standing(&mut tx, &identity.device).await.unwrap();
        assert_eq!(standing.as_ref(), Some(&identity.standing));
    }
    let former = identities::by_key(&mut tx, Fingerprint::of(b"old")).await.unwrap();
    assert_eq!(former.map(|identity| identity.device), Some(all[3].device.clone()));
    assert_eq!(identities::by_key(&mut tx, Fingerprint::of(b"none")).await.unwrap(), None);
    // One key, one device.
    let thief = Identity { key: all[1].key.clone(), ..identity(6, Standing::Pending) };
    assert!(identities::save(&mut tx, &thief).await.is_err());
    tx.commit().await.unwrap();

    let mut db = store.read().await.unwrap();
    let active = identities::in_state(&mut db, StandingName::Active).await.unwrap();
    assert_eq!(active.into_iter().collect::<Vec<_>>(), [all[1].device.clone()]);
    assert_eq!(identities::counts(&mut db).await.unwrap().len(), 5);
    let mut page = Page::first(2);
    let mut seen = Vec::new();
    loop {
        let part = identities::list(&mut db, IdentityFilter::default(), &page).await.unwrap();
        let Some(last) = part.last() else { break };
        page.after = Some(NewestFirst { at: last.enrolled, id: last.device.to_string() });
        seen.extend(part.into_iter().map(|identity| identity.name));
    }
    assert_eq!(seen, ["box-5", "box-4", "box-3", "box-2", "box-1"]);
    let pending = IdentityFilter { state: Some(StandingName::Pending), suspect: false };
    assert_eq!(identities::list(&mut db, pending, &Page::first(9)).await.unwrap().len(), 1);
    let suspect = IdentityFilter { state: None, suspect: true };
    assert_eq!(identities::list(&mut db, suspect, &Page::first(9)).await.unwrap(), []);
}

#[tokio::test]
async fn enrolments_are_spent_cancelled_and_forgotten() {
    let (_dir, store) = open().await;
    let mut tx = store.write().await.unwrap();
    let (id, token) = (EnrolmentId::mint([1; 16]), Digest::of(b"token"));
    let made = Enrolment {
        id: id.clone(),
        site: "er-1".parse().unwrap(),
        count: 2,
        uses_left: 2,
        approval: Approval::Auto,
        made: at(1),
        made_by: "ada".to_owned(),
        expires: at(100),
        cancelled: None,
    };
    enrolments::add(&mut tx, &made, &token).await.unwrap();
    assert_eq!(enrolments::by_token(&mut tx, &token).await.unwrap(), Some(made.clone()));
    assert_eq!(enrolments::by_token(&mut tx, &Digest::of(b"other")).await.unwrap(), None);
    let spent =
        [enrolments::spend(&mut tx, &id).await.unwrap(), enrolments::spend(&mut tx, &id).await.unwrap()];
    assert_eq!((spent, enrolments::spend(&mut tx, &id).await.unwrap()), ([true, true], false));
    assert!(enrolments::cancel(&mut tx, &id, at(5)).await.unwrap());
    assert!(!enrolments::cancel(&mut tx, &id, at(6)).await.unwrap());
    let now = enrolments::get(&mut tx, &id).await.unwrap();
    assert_eq!(now, Some(Enrolment { uses_left: 0, cancelled: Some(at(5)), ..made }));
    assert_eq!(enrolments::list(&mut tx, &Page::first(9)).await.unwrap().len(), 1);
    // As long as somebody waits who came with it, it is needed for the answer.
    identities::save(&mut tx, &identity(1, Standing::Pending)).await.unwrap();
    assert_eq!(enrolments::trim(&mut tx, at(200), 10).await.unwrap(), 0);
    identities::save(&mut tx, &identity(1, Standing::Active)).await.unwrap();
    assert_eq!(enrolments::trim(&mut tx, at(100), 10).await.unwrap(), 0);
    assert_eq!(enrolments::trim(&mut tx, at(200), 10).await.unwrap(), 1);
}

#[tokio::test]
async fn certificates_are_given_again_listed_when_revoked_and_forgotten_when_over() {
    let (_dir, store) = open().await;
    let mut tx = store.write().await.unwrap();
    let (one, two) = (DeviceId::mint([1; 16]), DeviceId::mint([2; 16]));
    let (key, other) = (Fingerprint::of(b"key"), Fingerprint::of(b"other"));
    for (serial, device, key, expires) in
        [("a1", &one, key, 10), ("a2", &one, key, 20), ("a3", &one, other, 30), ("b1", &two, key, 15)]
    {
        let row = Certificate {
            serial: serial.to_owned(),
            device: device.clone(),
            key,
            issued: at(1),
            expires: at(expires),
            pem: serial.to_owned(),
        };
        certificates::add(&mut tx, &row).await.unwrap();
    }
    let newest = certificates::newest(&mut tx, &one, key).await.unwrap();
    assert_eq!(newest.map(|found| found.pem).as_deref(), Some("a2"));
    assert_eq!(certificates::expiry(&mut tx, &one).await.unwrap(), Some(at(30)));
    assert_eq!(certificates::expiry(&mut tx, &DeviceId::mint([3; 16])).await.unwrap(), None);
    assert_eq!(certificates::revoke_of_key(&mut tx, &one, key, at(3)).await.unwrap(), 2);
    assert_eq!(certificates::newest(&mut tx, &one, key).await.unwrap(), None);
    assert_eq!(certificates::revoke_of_device(&mut tx, &one, at(4)).await.unwrap(), 1);
    let listed = certificates::revoked(&mut tx, at(10)).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|revoked| (revoked.serial.as_str(), revoked.at)).collect();
    assert_eq!(listed, [("a2", at(3)), ("a3", at(4))], "what has expired needs no list");
    assert_eq!(certificates::trim(&mut tx, at(100), 10).await.unwrap(), 2, "the last of each device is kept");
    assert_eq!(certificates::expiry(&mut tx, &one).await.unwrap(), Some(at(30)));
    assert_eq!(certificates::expiry(&mut tx, &two).await.unwrap(), Some(at(15)));
}

#[tokio::test]
async fn leases_end_by_themselves_and_are_counted() {
    let (_dir, store) = open().await;
    let lease = |n: u8, of: Scope, expires: i64| HeldLease {
        id: LeaseId::mint([n; 16]),
        of,
        owner: "ada".to_owned(),
        reason: "MRI".to_owned(),
        taken: at(10),
        expires: at(expires),
    };
    let device = Scope::Device(DeviceId::mint([1; 16]));
    let mut tx = store.write().await.unwrap();
    for held in [lease(1, device.clone(), 20), lease(2, Scope::Site("er-2".parse().unwrap()), 30)] {
        assert_eq!(leases::take(&mut tx, &held).await.unwrap(), leases::Taken::Taken);
    }
    tx.commit().await.unwrap();
    let touched = store.changes().take_touched();
    assert!(touched.sites && touched != Touched::everything(), "{touched:?}");
    let mut db = store.read().await.unwrap();
    let held =
        async |now: i64, db: &mut store::Control| leases::list(db, at(now), &Page::first(9)).await.unwrap();
    assert_eq!(held(19, &mut db).await.len(), 2);
    assert_eq!(held(20, &mut db).await, [lease(2, Scope::Site("er-2".parse().unwrap()), 30)]);
    assert_eq!(
        leases::get(&mut db, &LeaseId::mint([1; 16]), at(19)).await.unwrap(),
        Some(lease(1, device, 20))
    );
    assert_eq!(leases::get(&mut db, &LeaseId::mint([1; 16]), at(20)).await.unwrap(), None);
}

#[tokio::test]
async fn no_frozen_site_is_left_out_however_many_there_are() {
    let (_dir, store) = open().await;
    let count = store::LIMIT_MAX as usize + 1;
    let mut tx = store.write().await.unwrap();
    for n in 0..count {
        let (by, reason) = ("ada".to_owned(), "works on the network".to_owned());
        let freeze = HeldFreeze { site: Some(format!("s{n}").parse().unwrap()), since: at(1), by, reason };
        assert_eq!(freezes::freeze(&mut tx, &freeze).await.unwrap(), Frozen::Frozen);
    }
    assert_eq!(freezes::all(&mut tx).await.unwrap().len(), count);
}

#[tokio::test]
async fn rules_tags_and_cohorts_are_saved_by_who_saw_the_last() {
    let (_dir, store) = open().await;
    let (site, name, device) = ("er-2".parse().unwrap(), "icu".parse().unwrap(), DeviceId::mint([1; 16]));
    let mut tx = store.write().await.unwrap();
    let rules = SiteRules { in_flight_max: Some(3), ..SiteRules::default() };
    let filter: Filter = "ward=icu, agent>=0.3.0".parse().unwrap();
    let ward: Tags = [("ward".parse().unwrap(), "icu".parse().unwrap())].into();
    for (seen, expect) in
        [(0, Saved::Saved { revision: 1 }), (0, Saved::Stale), (1, Saved::Saved { revision: 2 })]
    {
        assert_eq!(sites::save(&mut tx, &site, seen, &rules).await.unwrap(), expect);
        assert_eq!(cohorts::save(&mut tx, &name, seen, &filter).await.unwrap(), expect);
        assert_eq!(tags::save(&mut tx, &device, seen, &ward).await.unwrap(), expect);
    }
    assert_eq!(
        sites::get(&mut tx, &site).await.unwrap().unwrap(),
        Versioned { revision: 2, document: rules }
    );
    assert_eq!(
        cohorts::get(&mut tx, &name).await.unwrap().unwrap(),
        Versioned { revision: 2, document: filter }
    );
    assert_eq!(tags::get(&mut tx, &device).await.unwrap(), Versioned { revision: 2, document: ward });
    assert!(
        cohorts::remove(&mut tx, &name).await.unwrap() && !cohorts::remove(&mut tx, &name).await.unwrap()
    );
}

#[tokio::test]
async fn a_whole_fleet_of_members_is_written_at_once_and_over_again() {
    let (_dir, store) = open().await;
    let id = RolloutId::mint([1; 16]);
    let devices: Vec<DeviceId> = (0..2500_u16)
        .map(|n| {
            let mut random = [0; 16];
            random[..2].copy_from_slice(&n.to_le_bytes());
            DeviceId::mint(random)
        })
        .collect();
    let mut tx = store.write().await.unwrap();
    rollouts::create(&mut tx, &id, &model(), "running", at(1), &json!({})).await.unwrap();
    for record in [json!("waiting"), json!("asked")] {
        rollouts::put_devices(&mut tx, &id, devices.iter().map(|device| (device, &record))).await.unwrap();
        let found: Vec<(DeviceId, Value)> =
            rollouts::devices(&mut tx, &id, &Page::first(9999)).await.unwrap();
        assert_eq!(found.len(), 2500);
        assert!(found.iter().all(|(_, found)| *found == record));
    }
}

#[tokio::test]
async fn what_failed_where_is_remembered_until_it_is_forgotten() {
    let (_dir, store) = open().await;
    let (device, bundle) = (DeviceId::mint([1; 16]), Digest::of(b"bundle"));
    let bad = Bad { at: at(7), cause: Cause::new("self_test_failed", "its golden outputs differ") };
    let mut tx = store.write().await.unwrap();
    bad_bundles::put(&mut tx, &device, &bundle, &bad).await.unwrap();
    assert_eq!(bad_bundles::of(&mut tx, &bundle).await.unwrap(), [(device.clone(), bad)].into());
    assert!(bad_bundles::of(&mut tx, &Digest::of(b"other")).await.unwrap().is_empty());
    bad_bundles::forget(&mut tx, &device, &bundle).await.unwrap();
    assert!(bad_bundles::of(&mut tx, &bundle).await.unwrap().is_empty());
}
