//! From reports of boxes to incidents: the eye for drift at work in a real server.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use muster_fleet::drift::{Incident, Kind, Site, Watch};
use muster_fleet::enrolment::Verb;
use muster_fleet::fleet::Fleet;
use muster_fleet::retrain::{Approval, Guards, LabelPolicy, Policy, RolloutPolicy};
use muster_fleet::store::watches::{self, Seat};
use muster_fleet::store::{NewestFirst, Page, Saved, devices, incidents, log, policies, windows};
use muster_protocol::drift::{Counter, Counts};
use muster_protocol::ids::{BootId, DeviceId, Digest, SlotName};
use muster_protocol::message::up::{BundleRef, Phase, ProviderUse, Running, SlotState};
use muster_protocol::message::{
    Capabilities, Health, Hello, LabelBlock, Message as _, ModelStats, Pane, Provider, Report, State, VERSION,
};
use muster_protocol::time::Timestamp;
use muster_protocol::topic::Up;
use serde_json::json;

use crate::device::Device;
use crate::member::enrolled;
use crate::publisher::{Bundle, Publisher, age_reference, model, person};
use crate::server::Server;

const DAY: Duration = Duration::from_hours(24);
/// Half of the reference's standard deviation is 144.
const SD: f32 = 289.0;

/// So many boxes that run nothing: who runs what is asked of them page by page.
async fn crowd(fleet: &Fleet) {
    let mut tx = fleet.store.write().await.unwrap();
    for n in 0..600_u16 {
        let mut id = [9; 16];
        id[..2].copy_from_slice(&n.to_be_bytes());
        let hello = Hello {
            v: VERSION,
            boot: BootId::mint(id),
            connection: 1,
            name: format!("crowd-{n}"),
            site: "crowd".parse().unwrap(),
            agent_version: "1".to_owned(),
            capabilities: Capabilities::default(),
            order_version: 0,
            root: None,
            certificate_expires: None,
            facts: None,
            key: None,
        };
        devices::hello(&mut tx, &DeviceId::mint(id), &hello, Timestamp::from_seconds(1)).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// One pane a window, so that each report closes one.
fn bundle() -> Bundle {
    Bundle::with("bundles/er-beds/1.json", b"model", |manifest| {
        manifest["monitoring"]["pane_s"] = json!(86_400);
        manifest["evaluation"] =
            json!({"metric": "brier", "sets": [{"name": "recent", "rows": 5000, "challenger": 0.09}]});
    })
}

fn slot() -> SlotName {
    "er-beds".parse().unwrap()
}

struct Ward {
    device: Device,
    bundle: Digest,
    /// Midnight of day 0.
    start: Timestamp,
    reports: u64,
    seed: u32,
    /// What it said last.
    state: State,
}

impl Ward {
    async fn open(server: &Server, n: u8, boot: u64, site: &str, bundle: &Bundle) -> Self {
        enrolled(&server.fleet, &DeviceId::mint([n; 16]), &format!("box-{n}"), site).await;
        let mut device = Device::connect(server, n, boot).await;
        device.hello().await;
        let running = BundleRef { path: bundle.path.clone(), sha256: bundle.sha256() };
        let now = server.fleet.clocks.trust.now();
        let current = Running {
            bundle: running.clone(),
            variant: "cpu".to_owned(),
            provider: ProviderUse { provider: Provider::OnnxCpu, reason: None },
            numerics: None,
            passed_over: None,
            since: now,
        };
        let state = State {
            v: VERSION,
            boot: device.boot.clone(),
            sequence: 1,
            at: now,
            observed_generation: 0,
            catalogue: 1,
            refusal: None,
            notices: vec![],
            leases: Vec::new(),
            captures: Vec::new(),
            slots: vec![SlotState {
                slot: slot(),
                phase: Phase::Running { bundle: running },
                current: Some(current),
                previous: None,
                notice: None,
            }],
        };
        device.say(Up::State, state.to_json()).await;
        device.ack().await;
        let start = server.fleet.clocks.world.now().floor_to(DAY).minus(DAY * 60);
        Self { device, bundle: bundle.sha256(), start, reports: 0, seed: u32::from(n), state }
    }

    /// Its slot is empty from now on.
    async fn withdraw(&mut self) {
        self.state.sequence += 1;
        for slot in &mut self.state.slots {
            (slot.phase, slot.current) = (Phase::Empty, None);
        }
        self.device.say(Up::State, self.state.to_json()).await;
        self.device.ack().await;
    }

    fn day(&self, day: u32) -> Timestamp {
        self.start.plus(DAY * day)
    }

    /// Rows like the reference's, so many standard deviations away.
    fn counts(&self, day: u32, shift: f32) -> Counts {
        let mut counter = Counter::new(&age_reference());
        let Counter::Numeric(numeric) = &mut counter else { unreachable!() };
        for row in 0..100_u32 {
            let place = f64::from(self.seed * 7919 + day * 104_729 + row) * 0.618_033_988_749_895;
            #[expect(clippy::cast_possible_truncation, reason = "test data")]
            let value = (place.fract() * 1000.0) as f32;
            numeric.observe(value + shift * SD);
        }
        counter.take()
    }

    fn pane(&self, from: Timestamp, counts: Counts) -> Pane {
        Pane { slot: slot(), bundle: self.bundle, from, to: from.plus(DAY), streams: vec![counts] }
    }

    async fn report(&mut self, from: Timestamp, panes: Vec<Pane>, labels: Vec<LabelBlock>) {
        self.reports += 1;
        let stats = ModelStats {
            slot: slot(),
            bundle: self.bundle,
            requests: 100,
            rows: 100,
            failures: 0,
            refused: 0,
            latency: vec![0; 16],
        };
        let report = Report {
            boot: self.device.boot.clone(),
            sequence: self.reports,
            held_from: 1,
            from,
            to: from.plus(Duration::from_mins(10)),
            health: Health::default(),
            models: vec![stats],
            panes,
            labels,
            shadows: Vec::new(),
        };
        self.device.say(Up::Report, report.encode().unwrap()).await;
        self.device.ack().await;
    }

    async fn live(&mut self, day: u32, shift: f32) {
        let from = self.day(day);
        self.report(from, vec![self.pane(from, self.counts(day, shift))], Vec::new()).await;
    }

    fn seat(&self) -> Seat {
        Seat { bundle: self.bundle, device: self.device.id.clone(), slot: slot() }
    }

    #[expect(clippy::future_not_send, reason = "a test waits on its own thread")]
    async fn watch(&self, fleet: &Fleet) -> Option<Watch> {
        watches::get(&mut fleet.store.read().await.unwrap(), &self.seat()).await.unwrap()
    }

    /// Until the fleet has read the day.
    #[expect(clippy::future_not_send, reason = "a test waits on its own thread")]
    async fn read(&self, server: &Server, day: u32) {
        let until = self.day(day).plus(DAY);
        server
            .until("the day is read", async |fleet: &Fleet| {
                self.watch(fleet).await?.read_until.filter(|read| *read >= until)
            })
            .await;
    }
}

async fn incidents_in(fleet: &Fleet, state: &str) -> Vec<Incident> {
    let page = Page::<NewestFirst>::first(100);
    let mut db = fleet.store.read().await.unwrap();
    let found = incidents::list::<Incident>(&mut db, None, Some(state), &page).await.unwrap();
    found.into_iter().map(|incident| incident.document).collect()
}

async fn opened(server: &Server, kind: Kind) -> Incident {
    let look =
        async |fleet: &Fleet| incidents_in(fleet, "open").await.into_iter().find(|open| open.kind == kind);
    server.until("the incident is open", look).await
}

async fn said(fleet: &Fleet, kind: &str) -> usize {
    let told = log::after(&mut fleet.store.read().await.unwrap(), None, &Page::first(1000)).await.unwrap();
    told.iter().filter(|entry| entry.kind == kind).count()
}

async fn set_policy(fleet: &Fleet) {
    let policy = Policy {
        model: model(),
        enabled: true,
        drift_share: 0.2,
        cooldown_s: 86_400,
        min_data_s: 0,
        runs_per_week_max: 1,
        labels: LabelPolicy { horizon_s: 86_400, retrain: true },
        schedule: None,
        volume: None,
        guards: Guards::default(),
        approval: Approval::None,
        rollout: RolloutPolicy::Manual,
    };
    let mut tx = fleet.store.write().await.unwrap();
    assert!(matches!(policies::save(&mut tx, &model(), 0, &policy).await.unwrap(), Saved::Saved { .. }));
    tx.commit().await.unwrap();
}

async fn three_wards(server: &Server, boot: u64, bundle: &Bundle) -> Vec<Ward> {
    let mut wards = Vec::new();
    for n in 1..=3_u8 {
        wards.push(Ward::open(server, n, boot, &format!("er-{n}"), bundle).await);
    }
    wards
}

#[expect(clippy::future_not_send, reason = "a test waits on its own thread")]
async fn live(server: &Server, wards: &mut [Ward], day: u32, shift: impl Fn(usize) -> f32) {
    for (place, ward) in wards.iter_mut().enumerate() {
        ward.live(day, shift(place)).await;
    }
    for ward in wards.iter() {
        ward.read(server, day).await;
    }
}

async fn prepared(dir: &Path) -> (Server, Bundle, Vec<Ward>) {
    let server = Server::start(dir).await;
    let bundle = bundle();
    Publisher::begin(&server.fleet, &[&bundle]).await;
    set_policy(&server.fleet).await;
    let wards = three_wards(&server, 1, &bundle).await;
    (server, bundle, wards)
}

#[tokio::test]
async fn drift_a_new_regime_is_one_incident_and_one_run_whatever_happens_to_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let (server, bundle, mut wards) = prepared(dir.path()).await;
    for day in 0..12 {
        live(&server, &mut wards, day, |_| 0.0).await;
    }
    assert_eq!(incidents_in(&server.fleet, "open").await, []);
    let mut db = server.read().await;
    let site = watches::site::<Site>(&mut db, &bundle.sha256(), &"er-2".parse().unwrap()).await.unwrap();
    drop(db);
    assert_eq!(site.unwrap().baseline.map(|own| own.windows), Some(10));
    let before = wards[0].watch(&server.fleet).await.unwrap();

    // Killed in the middle of it all, it goes on where it was.
    server.kill().await;
    let server = Server::start(dir.path()).await;
    // The boxes have not started again: their reports are numbered on.
    let told = wards[0].reports;
    let mut wards = three_wards(&server, 2, &bundle).await;
    for ward in &mut wards {
        ward.reports = told;
    }
    assert_eq!(wards[0].watch(&server.fleet).await.unwrap(), before);
    for day in 12..16 {
        live(&server, &mut wards, day, |_| 1.0).await;
    }
    let incident = opened(&server, Kind::NewRegime).await;
    assert_eq!((incident.onset, incident.sites.len()), (wards[0].day(12), 3));
    assert!(incident.reason.contains("of 3 sites changed together"), "{}", incident.reason);
    let shift = incident.streams[0].shift.unwrap();
    assert!(shift.low > 0.5 && shift.low < shift.sd && shift.sd < shift.high, "{shift:?}");
    server
        .until("a run is asked for", async |fleet: &Fleet| {
            (said(fleet, "trigger.accepted").await == 1).then_some(())
        })
        .await;

    for day in 16..22 {
        live(&server, &mut wards, day, |_| 0.0).await;
    }
    let closed = async |fleet: &Fleet| incidents_in(fleet, "open").await.is_empty().then_some(());
    server.until("three quiet windows end it", closed).await;
    assert_eq!(said(&server.fleet, "trigger.accepted").await, 1);
    server.stop().await;
}

#[tokio::test]
async fn drift_of_one_box_is_its_own_incident_and_trains_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _, mut wards) = prepared(dir.path()).await;
    for day in 0..14 {
        live(&server, &mut wards, day, |place| if place == 1 && day >= 11 { 1.2 } else { 0.0 }).await;
    }
    let fault = opened(&server, Kind::DeviceFault).await;
    assert_eq!(fault.devices, BTreeSet::from([wards[1].device.id.clone()]));
    assert!(fault.reason.contains("2 other sites are calm"), "{}", fault.reason);
    assert_eq!(incidents_in(&server.fleet, "open").await.len(), 1);
    assert_eq!(said(&server.fleet, "trigger.accepted").await, 0);

    // It is taken out of service, and what it said last holds back no retraining.
    let verb = Verb::Revoke { reason: "its sensor is broken".to_owned() };
    let device = &wards[1].device.id;
    server.fleet.registrar.decide(device, verb, None, person()).await.unwrap();
    let closed = async |fleet: &Fleet| incidents_in(fleet, "open").await.is_empty().then_some(());
    server.until("nothing is open of a box that is gone", closed).await;
    wards[0].live(14, 0.0).await;
    wards[0].read(&server, 14).await;
    assert_eq!(wards[1].watch(&server.fleet).await, None, "what it said before brings it back");
    server.stop().await;
}

#[tokio::test]
async fn drift_that_comes_every_weekend_is_a_known_season_after_a_month() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _, mut wards) = prepared(dir.path()).await;
    for day in 0..42 {
        live(&server, &mut wards, day, |_| if day % 7 >= 5 { 1.2 } else { 0.0 }).await;
    }
    let month = wards[0].day(28);
    let season = async |fleet: &Fleet| {
        let (open, closed) = (incidents_in(fleet, "open").await, incidents_in(fleet, "closed").await);
        let later: Vec<Incident> =
            open.into_iter().chain(closed).filter(|incident| incident.onset >= month).collect();
        (!later.is_empty()).then_some(later)
    };
    for incident in server.until("a weekend is noticed", season).await {
        assert_eq!(incident.kind, Kind::KnownSeason, "{}: {}", incident.sentence(), incident.reason);
    }
    server.stop().await;
}

#[tokio::test]
async fn drift_is_not_confused_by_late_repeated_and_strange_panes_and_jumping_clocks() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _, mut wards) = prepared(dir.path()).await;
    let ward = &mut wards[0];
    for day in [0, 1, 3] {
        ward.live(day, 0.0).await;
    }
    ward.read(&server, 3).await;
    let until = ward.day(4);
    // A window before those that were read, counts of a bundle that nobody knows, and a clock that is wrong by years.
    let far = ward.day(5).plus(DAY * 3650);
    let unknown = Pane { bundle: Digest::of(b"unknown"), ..ward.pane(ward.day(4), ward.counts(4, 3.0)) };
    let panes = vec![
        ward.pane(ward.day(2), ward.counts(2, 3.0)),
        unknown,
        ward.pane(far, ward.counts(5, 3.0)),
        ward.pane(far.plus(DAY), ward.counts(5, 3.0)),
    ];
    ward.report(ward.day(4), panes, Vec::new()).await;
    // The same report once more.
    ward.reports -= 1;
    ward.report(ward.day(4), Vec::new(), Vec::new()).await;
    for day in 4..8 {
        ward.live(day, 0.0).await;
    }
    ward.read(&server, 7).await;
    let watch = ward.watch(&server.fleet).await.unwrap();
    assert_eq!(watch.read_until, Some(ward.day(8)), "{until}");
    assert_eq!(incidents_in(&server.fleet, "open").await, []);
    let filter =
        windows::WindowFilter { device: Some(ward.device.id.clone()), ..windows::WindowFilter::default() };
    let mut db = server.fleet.store.read_telemetry().await.unwrap();
    assert_eq!(windows::list(&mut db, &filter, &Page::first(100)).await.unwrap().len(), 10);
    drop(db);
    server.stop().await;
}

#[tokio::test]
async fn drift_of_the_answers_is_found_by_their_labels() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _, mut wards) = prepared(dir.path()).await;
    crowd(&server.fleet).await;
    // 400 answers of 0.1 a day; as many come true, and then three times as many.
    for day in 0..5 {
        let came = if day < 3 { 40.0 } else { 120.0 };
        let block = LabelBlock {
            slot: slot(),
            bundle: wards[0].bundle,
            day: wards[0].day(day),
            n: 400,
            label_sum: came,
            prediction_sum: 40.0,
            loss_sum: came * 0.81 + (400.0 - came) * 0.01,
            loss_sum_sq: came * 0.81 * 0.81 + (400.0 - came) * 0.01 * 0.01,
            against: None,
        };
        let from = wards[0].day(day);
        wards[0].report(from, Vec::new(), vec![block]).await;
    }
    let incident = opened(&server, Kind::Performance).await;
    assert!(incident.reason.contains("120 came where 40.0 were promised"), "{}", incident.reason);
    assert_eq!(incident.onset, wards[0].day(3));
    server
        .until("a run is asked for", async |fleet: &Fleet| {
            (said(fleet, "trigger.accepted").await == 1).then_some(())
        })
        .await;

    for ward in &mut wards {
        ward.withdraw().await;
    }
    let closed = async |fleet: &Fleet| incidents_in(fleet, "open").await.is_empty().then_some(());
    server.until("nobody runs it any more", closed).await;
    // Its last pane comes late, and its labels are as bad as they were.
    wards[0].live(5, 0.0).await;
    wards[0].read(&server, 5).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(said(&server.fleet, "incident.opened").await, 1, "what nobody runs is not judged");
    server.stop().await;
}
