//! Devices, drift, incidents and the log as they are shown.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_fleet::drift::{Finding, FoundStream, Incident, Kind};
use muster_fleet::store::devices;
use muster_fleet::store::incidents::{self, IncidentColumns};
use muster_fleet::store::panes::{self, NewPane, Windows};
use muster_fleet::store::stats;
use muster_protocol::drift::{Counter, Reference, Shift};
use muster_protocol::ids::{DeviceId, Digest, IncidentId, SlotName};
use muster_protocol::message::up::{BundleRef, Phase, ReadyFor, Refusal};
use muster_protocol::message::{Health, Pane, Report, ShadowBlock};
use muster_protocol::time::Timestamp;
use muster_protocol::topic::Up;
use serde_json::{Value, json};

use super::{Api, enrol};
use crate::publisher::{Bundle, Publisher, age_reference, model};

const DAY: Duration = Duration::from_hours(24);

#[tokio::test]
async fn devices_are_found_and_paged() {
    let api = Api::start().await;
    let bundle = Bundle::make("bundles/er-beds/1.json", b"1");
    Publisher::begin(api.fleet(), &[&bundle]).await;
    let running = BundleRef { path: bundle.path.clone(), sha256: bundle.sha256() };
    let first = enrol(api.fleet(), 1, Some(&running)).await;
    for n in 2..=5 {
        enrol(api.fleet(), n, None).await;
    }
    let count = async |query: &str| {
        api.see(&format!("/api/v1/devices?{query}")).await["items"].as_array().unwrap().len()
    };
    assert_eq!(count("").await, 5);
    assert_eq!(count("site=icu").await, 2);
    assert_eq!(count("presence=offline").await, 0);
    assert_eq!(count("q=BOX-3").await, 1);
    assert_eq!(count("phase=running").await, 1);
    assert_eq!(count("model=er-beds&phase=empty").await, 4);
    assert_eq!(count("model=other").await, 0);

    let mut seen = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let page = api.see(&format!("/api/v1/devices?limit=2{cursor}")).await;
        seen.extend(page["items"].as_array().unwrap().iter().map(|d| d["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen.len(), 5);

    let device = api.see(&format!("/api/v1/devices/{first}")).await;
    assert_eq!(device["slots"][0]["current"]["sha256"], bundle.sha256().to_string());
    assert_eq!((&device["presence"], &device["waiting_on"]), (&json!("online"), &Value::Null));
    assert_eq!((&device["recent_events"], &device["telemetry"]), (&json!([]), &json!([])));
    let overview = api.see("/api/v1/overview").await;
    assert_eq!(
        overview["devices"],
        json!({"total": 5, "online": 5, "offline": 0, "running": 1, "failing": 0})
    );
    assert_eq!(overview["models"][0]["bundles"][0]["devices"], 1);
    api.stop().await;
}

#[tokio::test]
async fn boxes_that_cannot_run_what_they_should_are_found_whatever_hinders_them() {
    let api = Api::start().await;
    let bundle = Bundle::make("bundles/er-beds/1.json", b"1");
    Publisher::begin(api.fleet(), &[&bundle]).await;
    let running = BundleRef { path: bundle.path.clone(), sha256: bundle.sha256() };
    let sentence = || "its \"is\":\"failed\" is a quotation".into();
    let code = || "x".to_owned();
    let failed = Phase::Failed { bundle: running.clone(), code: code(), sentence: sentence(), again: None };
    let stopped = Phase::Stopped { bundle: running.clone(), code: code(), sentence: sentence() };
    let ready = Phase::Ready { bundle: running.clone(), waits_for: ReadyFor::Lease };
    let refusal = || Some(Refusal { code: code(), sentence: sentence() });
    // The phase, whether something answers, whether the order is refused; what is expected, and whether it is urgent.
    let cases = [
        (Phase::Running { bundle: running.clone() }, true, None, None),
        (failed.clone(), true, None, Some(false)),
        (failed, false, None, Some(true)),
        (stopped, false, None, Some(true)),
        (ready.clone(), true, refusal(), Some(false)),
        (ready, true, None, None),
    ];
    let mut expect = Vec::new();
    for (n, (phase, answers, refusal, ails)) in (1..).zip(cases) {
        let device = enrol(api.fleet(), n, Some(&running)).await;
        let mut tx = api.fleet().store.write().await.unwrap();
        let mut state = devices::get(&mut tx, &device).await.unwrap().unwrap().state.unwrap();
        state.refusal = refusal;
        state.slots[0].phase = phase;
        state.slots[0].current.take_if(|_| !answers);
        assert!(devices::state(&mut tx, &device, &state).await.unwrap());
        tx.commit().await.unwrap();
        expect.extend(ails.map(|urgent| (device.to_string(), urgent)));
    }
    let overview = api.see("/api/v1/overview").await;
    let needs = overview["needs_you"].as_array().unwrap();
    let mut found: Vec<(String, bool)> = needs
        .iter()
        .inspect(|need| assert_eq!(need["kind"], "activation_failed"))
        .map(|need| (need["id"].as_str().unwrap().to_owned(), need["urgent"].as_bool().unwrap()))
        .collect();
    found.sort_unstable();
    expect.sort_unstable();
    assert_eq!(found, expect);
    assert_eq!(overview["devices"]["failing"], expect.len());
    api.stop().await;
}

/// Counts a window of ages around `middle` as panes of one day would.
async fn day(api: &Api, device: &DeviceId, bundle: &Bundle, from: Timestamp, middle: f32) {
    let mut counter = Counter::new(&age_reference());
    for i in 0..500_u16 {
        if let Counter::Numeric(counter) = &mut counter {
            counter.observe(middle + f32::from(i) / 5.0);
        }
    }
    let pane = Pane {
        slot: "er-beds".parse().unwrap(),
        bundle: bundle.sha256(),
        from,
        to: from.plus(DAY),
        streams: vec![counter.counts()],
    };
    let mut tx = api.fleet().store.write_telemetry().await.unwrap();
    let mut windows = Windows::default();
    windows.add(device, NewPane { pane, window: DAY });
    assert_eq!(panes::add(&mut tx, &windows, from).await.unwrap(), 0);
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn drift_is_shown_window_by_window() {
    let api = Api::start().await;
    // One pane a window, so that each is complete.
    let bundle = Bundle::with("bundles/er-beds/1.json", b"1", |manifest| {
        manifest["monitoring"]["pane_s"] = json!(86_400);
    });
    Publisher::begin(api.fleet(), &[&bundle]).await;
    let running = BundleRef { path: bundle.path.clone(), sha256: bundle.sha256() };
    let device = enrol(api.fleet(), 1, Some(&running)).await;
    let start = api.fleet().clocks.world.now().floor_to(DAY).minus(DAY * 10);
    for n in 0..5 {
        day(&api, &device, &bundle, start.plus(DAY * n), 900.0).await;
    }
    let drift = api.see("/api/v1/drift?model=er-beds").await;
    assert_eq!(drift["streams"], json!(["age"]));
    let windows = drift["windows"].as_array().unwrap();
    assert_eq!(windows.len(), 5);
    assert_eq!((&windows[0]["n"], &windows[0]["device"]), (&json!(500), &json!(device)));
    assert_eq!(windows[4]["streams"][0]["state"], "drift", "{}", windows[4]);
    assert_eq!(
        api.see(&format!("/api/v1/drift?model=er-beds&device={device}&stream=age")).await["windows"],
        drift["windows"]
    );
    assert_eq!(api.see("/api/v1/drift?model=er-beds&stream=other").await["streams"], json!([]));
    assert_eq!(api.see("/api/v1/drift?model=none").await["windows"], json!([]));
    api.get("/api/v1/drift").await.is_problem(400, "bad_query");
    api.get("/api/v1/drift?model=er-beds&device=x").await.is_problem(400, "bad_query");

    let last = &windows[4]["streams"][0];
    assert_eq!((&last["against"], &last["broken"]), (&json!("training"), &json!([])));
    let [low, sd, high] =
        ["shift_low", "mean_shift_sd", "shift_high"].map(|field| last[field].as_f64().unwrap());
    assert!(low < sd && sd < high, "{last}");

    let heat = api.see("/api/v1/drift/heatmap?model=er-beds&windows=3").await;
    assert_eq!((&heat["version"], &heat["streams"]), (&json!("1"), &json!(["age"])));
    let site = &heat["sites"][0];
    assert_eq!((&site["site"], &site["baseline"]["state"]), (&json!("er"), &json!("learning")));
    let shown = site["windows"].as_array().unwrap();
    assert_eq!((shown.len(), &shown[2]["devices"], &shown[2]["n"]), (3, &json!(1), &json!(500)));
    assert_eq!(shown[2]["streams"][0]["state"], "drift");
    assert_eq!(api.see("/api/v1/drift/heatmap?model=er-beds&site=icu").await["sites"], json!([]));
    assert_eq!(api.see("/api/v1/drift/heatmap?model=none").await["bundle"], Value::Null);
    api.get("/api/v1/drift/heatmap?model=er-beds&site=!").await.is_problem(400, "bad_query");
    let performance = api.see("/api/v1/drift/performance?model=er-beds").await;
    assert_eq!((&performance["horizon_s"], &performance["bundles"]), (&json!(86_400), &json!([])));

    let histogram = format!("/api/v1/drift/histogram?bundle={}&stream=age", bundle.sha256());
    let all = api.see(&histogram).await;
    assert_eq!(all["windows"], 5);
    let rows = |side: &str, of: &Value| {
        of[side].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((rows("reference", &all), rows("current", &all)), (1000, 2500));
    assert_eq!(all["edges"].as_array().unwrap().len() + 1, all["current"].as_array().unwrap().len());
    let (from, to) = (start.plus(DAY), start.plus(DAY * 3));
    assert_eq!(api.see(&format!("{histogram}&device={device}&from={from}&to={to}")).await["windows"], 2);
    api.get(&format!("{histogram}&from=yesterday")).await.is_problem(400, "bad_query");
    api.stop().await;
}

#[tokio::test]
async fn a_monitored_score_says_how_well_it_promises_to_do() {
    let api = Api::start().await;
    let scores: Vec<f32> = (0..1000_u16).map(|i| f32::from(i) / 1250.0).collect();
    let reference = Reference::numeric(&scores).unwrap();
    let bundle = Bundle::monitoring("score", reference.clone(), "bundles/er-beds/1.json", b"1", |manifest| {
        manifest["monitoring"]["streams"][0]["tensor"] = json!("y");
        manifest["evaluation"] = json!({"metric": "brier", "threshold": 0.4, "sets": []});
    });
    Publisher::begin(api.fleet(), &[&bundle]).await;
    let device = enrol(api.fleet(), 1, None).await;
    let from = api.fleet().clocks.world.now().floor_to(DAY).minus(DAY);
    let mut counter = Counter::new(&reference);
    if let Counter::Numeric(counter) = &mut counter {
        counter.observe_all(&scores);
    }
    let slot: SlotName = "er-beds".parse().unwrap();
    let streams = vec![counter.counts()];
    let pane = Pane { slot: slot.clone(), bundle: bundle.sha256(), from, to: from.plus(DAY), streams };
    let hour = (device.clone(), slot, bundle.sha256(), stats::hour_of(from));
    let sums = stats::Sums { requests: 1000, rows: 1000, ..stats::Sums::default() };
    let mut tx = api.fleet().store.write_telemetry().await.unwrap();
    let mut windows = Windows::default();
    windows.add(&device, NewPane { pane, window: DAY });
    panes::add(&mut tx, &windows, from).await.unwrap();
    stats::add(&mut tx, [(&hour, &sums)]).await.unwrap();
    tx.commit().await.unwrap();

    let answer = api.see("/api/v1/drift/performance?model=er-beds").await;
    let told = &answer["bundles"][0];
    assert_eq!((&told["waiting"], &told["days"]), (&json!(1000), &json!([])), "no label was ever needed");
    let [day] = told["estimated"].as_array().unwrap().as_slice() else { panic!("{told}") };
    assert_eq!((&day["from"], &day["windows"], &day["predictions"]), (&json!(from), &json!(1), &json!(1000)));
    let sum = |of: &dyn Fn(f64) -> f64| scores.iter().map(|&p| of(f64::from(p))).sum::<f64>();
    assert!((day["positives"].as_f64().unwrap() - sum(&|p| p)).abs() < 0.1, "{day}");
    let right = sum(&|p| if p >= 0.4 { p } else { 1.0 - p }) / 1000.0;
    for (field, exact) in [("loss", sum(&|p| p * (1.0 - p)) / 1000.0), ("accuracy", right)] {
        let [value, low, high] = ["value", "low", "high"].map(|end| day[field][end].as_f64().unwrap());
        assert!(low <= exact && exact <= high && (value - exact).abs() < 0.002, "{field}: {exact} {day}");
    }
    api.stop().await;
}

#[tokio::test]
async fn incidents_are_acknowledged_and_closed_with_a_reason() {
    let api = Api::start().await;
    let bundle = Bundle::make("bundles/er-beds/1.json", b"1");
    Publisher::begin(api.fleet(), &[&bundle]).await;
    let running = BundleRef { path: bundle.path.clone(), sha256: bundle.sha256() };
    let device = enrol(api.fleet(), 1, Some(&running)).await;
    let now = api.fleet().clocks.world.now();
    let finding = Finding {
        kind: Kind::NewRegime,
        onset: now.minus(DAY),
        devices: BTreeSet::from([device]),
        sites: BTreeSet::from(["er".parse().unwrap()]),
        streams: vec![FoundStream {
            name: "age".parse().unwrap(),
            shift: Some(Shift { sd: 1.4, low: 1.2, high: 1.6 }),
            psi_adj: 0.5,
            b: 0.001,
            devices: 1,
            broken: None,
        }],
        reason: "1 of 1 sites changed together".to_owned(),
    };
    let incident = Incident::open(IncidentId::mint([1; 16]), model(), bundle.sha256(), finding, now);
    let columns = IncidentColumns {
        model: &incident.model,
        bundle: &incident.bundle,
        state: incident.state.name(),
        opened: incident.opened,
    };
    let mut tx = api.fleet().store.write().await.unwrap();
    incidents::create(&mut tx, &incident.id, columns, &incident).await.unwrap();
    tx.commit().await.unwrap();

    let open = api.see("/api/v1/incidents?state=open").await;
    let shown = &open["items"][0];
    assert_eq!((&shown["bundle"]["version"], &shown["reach"]), (&json!("1"), &json!("cohort")));
    assert_eq!(
        (&shown["kind"], &shown["why"], &shown["asks_for_retraining"]),
        (&json!("new_regime"), &json!("1 of 1 sites changed together"), &json!(true))
    );
    let stream = &shown["streams"][0];
    assert_eq!((&stream["effect_low"], &stream["effect_high"]), (&json!(1.2), &json!(1.6)));
    assert_eq!(shown["scope"]["sites"], json!(["er"]));
    assert_eq!(api.see("/api/v1/overview").await["needs_you"][0]["kind"], "incident_open");
    let path = format!("/api/v1/incidents/{}", incident.id);
    api.post(&format!("{path}/acknowledge"), &json!({"reason": ""})).await.is_problem(422, "invalid");
    let acknowledged = api.post(&format!("{path}/acknowledge"), &json!({"reason": "we know"})).await.json();
    assert_eq!(
        (&acknowledged["state"], &acknowledged["handled"]["reason"]),
        (&json!("acknowledged"), &json!("we know"))
    );
    api.post(&format!("{path}/acknowledge"), &json!({"reason": "twice"})).await.is_problem(409, "state");
    assert_eq!(
        api.post(&format!("{path}/close"), &json!({"reason": "over"})).await.json()["state"],
        "closed"
    );
    api.post(&format!("{path}/close"), &json!({"reason": "twice"})).await.is_problem(409, "state");
    assert_eq!(api.see("/api/v1/incidents?state=open").await["items"], json!([]));
    api.get("/api/v1/incidents?state=lost").await.is_problem(400, "bad_query");
    api.stop().await;
}

#[tokio::test]
async fn the_log_is_read_back_and_onwards() {
    let api = Api::start().await;
    for n in 0..3 {
        super::live::say(api.fleet(), &format!("entry {n}")).await;
    }
    let back = api.see("/api/v1/log?limit=2&subject=test").await;
    let said = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|e| e["sentence"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(said(&back), ["entry 2", "entry 1"]);
    let rest =
        api.see(&format!("/api/v1/log?limit=2&subject=test&cursor={}", back["next"].as_str().unwrap())).await;
    assert_eq!(said(&rest), ["entry 0"]);
    let onwards = api.see(&format!("/api/v1/log?subject=test&after={}", rest["items"][0]["id"])).await;
    assert_eq!(said(&onwards), ["entry 1", "entry 2"]);
    api.get("/api/v1/log?after=x").await.is_problem(400, "bad_query");
    api.stop().await;
}

#[tokio::test]
async fn telemetry_is_shown_by_the_report_and_by_the_span() {
    let api = Api::start().await;
    let mut device = crate::device::Device::connect(&api.server, 1, 1).await;
    device.hello().await;
    let now = api.fleet().clocks.trust.now();
    // Two reports of one span of five minutes, and one of the span before.
    let start = now.minus(Duration::from_mins(10)).floor_to(Duration::from_mins(5));
    let (old, new, today) = (Digest::of(b"1"), Digest::of(b"2"), start.floor_to(DAY));
    let slot: SlotName = "er-beds".parse().unwrap();
    let shadow = |differed| ShadowBlock {
        slot: slot.clone(),
        bundle: new,
        against: old,
        day: today,
        n: 100,
        differed,
    };
    for (sequence, minute, cpu) in [(1, 1, 40.0), (2, 6, 10.0), (3, 7, 30.0)] {
        let at = start.plus(Duration::from_mins(minute));
        let report = Report {
            boot: device.boot.clone(),
            sequence,
            held_from: 1,
            from: at.minus(Duration::from_secs(30)),
            to: at,
            health: Health { cpu_percent: cpu, ..Health::default() },
            models: vec![],
            panes: vec![],
            labels: vec![],
            shadows: vec![shadow(5 * sequence)],
        };
        device.say(Up::Report, report.encode().unwrap()).await;
        assert_eq!(device.ack().await.report, sequence);
    }
    let compared = &api.see(&format!("/api/v1/devices/{}", device.id)).await["shadows"];
    assert_eq!(compared.as_array().unwrap().len(), 1, "{compared}");
    assert_eq!((&compared[0]["rows"], &compared[0]["differed"]), (&json!(300), &json!(30)));
    assert_eq!((&compared[0]["bundle"], &compared[0]["against"]), (&json!(new), &json!(old)));
    let path = format!("/api/v1/devices/{}/telemetry", device.id);
    let spans = api.see(&path).await;
    assert_eq!(spans["step"], "5m");
    let seen = |answer: &Value| -> Vec<(u64, Value)> {
        let items = answer["items"].as_array().unwrap().iter();
        items.map(|item| (item["reports"].as_u64().unwrap(), item["cpu_percent"].clone())).collect()
    };
    let values = |min: f64, mean: f64, max: f64| json!({ "min": min, "mean": mean, "max": max });
    assert_eq!(seen(&spans), [(1, values(40.0, 40.0, 40.0)), (2, values(10.0, 20.0, 30.0))]);
    let raw = api.see(&format!("{path}?step=raw")).await;
    assert_eq!(seen(&raw).len(), 3);
    let late = start.plus(Duration::from_mins(7));
    assert_eq!(
        seen(&api.see(&format!("{path}?step=raw&from={late}")).await),
        [(1, values(30.0, 30.0, 30.0))]
    );
    api.get(&format!("{path}?step=2m")).await.is_problem(400, "bad_query");
    api.get(&format!("{path}?from={now}&to={now}")).await.is_problem(400, "bad_query");
    api.get(&format!("{path}?from=yesterday")).await.is_problem(400, "bad_query");
    let nobody = muster_protocol::ids::DeviceId::mint([9; 16]);
    api.get(&format!("/api/v1/devices/{nobody}/telemetry")).await.is_problem(404, "not_found");
    let kept = api.see("/api/v1/telemetry").await;
    assert_eq!((&kept["kept"][0]["kind"], &kept["kept"][0]["rows"]), (&json!("reports"), &json!(3)));
    assert_eq!(kept["lost_reports"], 0);
    let metrics = api.get("/metrics").await.text();
    for line in [
        "muster_telemetry_rows{kind=\"reports\"} 3",
        "muster_ingest_reports_total 3",
        "muster_site_devices{site=\"er-1\",state=\"active\",presence=\"online\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains(device.id.as_str()));
    api.stop().await;
}
