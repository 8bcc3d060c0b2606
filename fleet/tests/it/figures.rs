//! Figures as other people's programs read them: Prometheus's own parser, and an OTLP receiver made of the schema's classes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use muster_fleet::config::OtlpConfig;
use muster_protocol::message::report::LATENCY_BOUNDS_US;
use muster_protocol::topic::Up;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::device::Device;
use crate::http::Api;
use crate::ingest::{report, yesterday};
use crate::interop;
use crate::publisher::{Bundle, Publisher};
use crate::server::{PATIENCE, config};

/// One box reports a hundred requests of one model, 10 minutes of a day. It is online for as long as it is held.
async fn report_once(api: &Api) -> Device {
    let bundle = Bundle::make("bundles/er-beds/1.json", b"model");
    Publisher::begin(api.fleet(), &[&bundle]).await;
    let mut device = Device::connect(&api.server, 1, 1).await;
    device.hello().await;
    let day = yesterday();
    device.say(Up::Report, report(&device, &bundle, 1, day).encode().unwrap()).await;
    assert_eq!(device.ack().await.report, 1);
    device
}

/// How much a bound of the histogram lets through: all requests took longer than the second and not longer than the third.
fn cumulated() -> Vec<(String, f64)> {
    let bounds = LATENCY_BOUNDS_US.iter().map(|us| (f64::from(*us) / 1e6).to_string());
    let below = |(place, bound): (usize, String)| (bound, if place < 2 { 0.0 } else { 100.0 });
    bounds.chain(["+Inf".to_owned()]).enumerate().map(below).collect()
}

#[tokio::test]
async fn prometheus_reads_metrics() {
    let api = Api::start().await;
    let device = report_once(&api).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = api.get("/metrics").await.text();
    crate::board::check(include_str!("../../../docs/grafana/fleet.json"), &text);
    std::fs::write(file.path(), text).unwrap();
    let found = interop::run("metrics.py", &[&file.path().display().to_string()]).await.unwrap();
    let families: BTreeMap<String, Value> = serde_json::from_slice(&found).unwrap();
    let samples = |name: &str| -> Vec<(String, BTreeMap<String, String>, f64)> {
        serde_json::from_value(families[name]["samples"].clone()).unwrap()
    };
    let value = |family: &str, labels: Value| {
        let labels: BTreeMap<String, String> = serde_json::from_value(labels).unwrap();
        let found = samples(family).into_iter().find(|(_, of, _)| *of == labels);
        found.unwrap_or_else(|| panic!("{family} {labels:?} is not in {:?}", families[family])).2
    };
    let of_model = json!({"slot": "beds", "model": "er-beds"});
    for (family, kind, labels, expect) in [
        ("muster_devices", "gauge", json!({"presence": "online"}), 1.0),
        (
            "muster_site_devices",
            "gauge",
            json!({"site": "er-1", "state": "active", "presence": "online"}),
            1.0,
        ),
        ("muster_identities", "gauge", json!({"state": "quarantined"}), 0.0),
        ("muster_rollouts", "gauge", json!({"phase": "held"}), 0.0),
        ("muster_runs", "gauge", json!({"state": "queued"}), 0.0),
        ("muster_rollout_devices", "gauge", json!({"progress": "failed"}), 0.0),
        ("muster_gates", "gauge", json!({"verdict": "fail"}), 0.0),
        ("muster_incidents", "gauge", json!({"state": "open", "kind": "new_regime"}), 0.0),
        ("muster_telemetry_rows", "gauge", json!({"kind": "reports"}), 1.0),
        ("muster_ingest_reports", "counter", json!({}), 1.0),
        ("muster_ingest_not_taken", "counter", json!({"why": "gap"}), 0.0),
        ("muster_ingest_waiting", "gauge", json!({}), 0.0),
        ("muster_model_requests", "counter", of_model.clone(), 100.0),
        ("muster_model_failures", "counter", of_model, 1.0),
    ] {
        assert_eq!(families[family]["type"], kind, "{family}");
        assert!((value(family, labels.clone()) - expect).abs() < f64::EPSILON, "{family} {labels}");
    }
    let latency = samples("muster_model_latency_seconds");
    assert_eq!(families["muster_model_latency_seconds"]["type"], "histogram");
    let of = |suffix: &str| {
        let name = format!("muster_model_latency_seconds_{suffix}");
        latency.iter().filter(move |(of, ..)| *of == name)
    };
    let buckets: Vec<_> = of("bucket").map(|(_, labels, n)| (labels["le"].clone(), *n)).collect();
    assert_eq!(buckets, cumulated());
    assert_eq!(of("count").map(|(.., n)| *n).collect::<Vec<_>>(), [100.0]);

    for (name, family) in &families {
        assert!(
            family["type"] != "unknown" && family["help"].as_str().unwrap().len() > 5,
            "{name}: {family}"
        );
        for (sample, labels, _) in samples(name) {
            assert!(name.starts_with("muster_") && sample.starts_with(name), "{sample} of {name}");
            let names_a_box = |(label, of): (&String, &String)| label == "device" || of == device.id.as_str();
            assert!(!labels.iter().any(names_a_box), "{sample} {labels:?}");
        }
    }
    api.stop().await;
}

/// A collector of OTLP's own Python classes, killed when dropped.
struct Collector {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    config: OtlpConfig,
}

impl Collector {
    /// Too busy for the first `refusals` requests.
    async fn start(refusals: u8, every_s: u64) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/collector.py");
        let mut process = tokio::process::Command::new(interop::python())
            .arg(script)
            .arg(refusals.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let headers = BTreeMap::from([("authorization".to_owned(), "Bearer secret".to_owned())]);
        let mut collector = Self {
            _process: process,
            lines,
            config: OtlpConfig { endpoint: String::new(), every_s, headers },
        };
        let port = collector.next().await;
        collector.config.endpoint = format!("http://127.0.0.1:{port}/v1/metrics");
        collector
    }

    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        serde_json::from_str(&line.expect("the collector hears nothing").unwrap().unwrap()).unwrap()
    }
}

async fn start_with(collector: &Collector) -> Api {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(data.path());
    config.telemetry.otlp = Some(collector.config.clone());
    Api::start_with(data, config).await
}

#[tokio::test]
async fn a_busy_collector_is_told_again_at_once() {
    let mut collector = Collector::start(2, 3600).await;
    let api = start_with(&collector).await;
    for _ in 0..2 {
        assert_eq!(collector.next().await, json!({"refused": true}));
    }
    let heard = collector.next().await;
    assert_eq!((&heard["path"], &heard["type"]), (&json!("/v1/metrics"), &json!("application/json")));
    assert_eq!(heard["authorization"], "Bearer secret");
    assert_eq!(heard["resource"]["service.name"], "muster-fleet");
    api.stop().await;
}

#[tokio::test]
async fn a_collector_hears_what_prometheus_reads() {
    let mut collector = Collector::start(0, 1).await;
    let api = start_with(&collector).await;
    let _device = report_once(&api).await;
    let metrics = loop {
        let mut heard = collector.next().await;
        if heard["metrics"]["muster_ingest_reports_total"]["points"][0]["value"] == 1 {
            break heard["metrics"].take();
        }
    };
    let rows = &metrics["muster_telemetry_rows"];
    assert_eq!((&rows["kind"], &rows["points"][0]["value"]), (&json!("gauge"), &json!(1)));
    assert_eq!(rows["points"][0]["attributes"], json!({"kind": "reports"}));
    let requests = &metrics["muster_model_requests_total"];
    assert_eq!((&requests["kind"], &requests["monotonic"]), (&json!("sum"), &json!(true)));
    let [point] = requests["points"].as_array().unwrap().as_slice() else { panic!("{requests}") };
    assert_eq!(
        (&point["attributes"], &point["value"]),
        (&json!({"slot": "beds", "model": "er-beds"}), &json!(100))
    );
    let (start, at) = (point["start"].as_u64().unwrap(), point["at"].as_u64().unwrap());
    assert!(0 < start && start <= at, "{point}");
    let latency = &metrics["muster_model_latency_seconds"];
    assert_eq!((&latency["kind"], &latency["unit"]), (&json!("histogram"), &json!("s")));
    for total in [requests, latency] {
        assert_eq!(total["temporality"], "AGGREGATION_TEMPORALITY_CUMULATIVE");
    }
    let point = &latency["points"][0];
    let buckets: Vec<u64> =
        (0..=LATENCY_BOUNDS_US.len()).map(|place| if place == 2 { 100 } else { 0 }).collect();
    assert_eq!((&point["count"], &point["buckets"]), (&json!(100), &json!(buckets)));
    let bounds: Vec<f64> = LATENCY_BOUNDS_US.iter().map(|us| f64::from(*us) / 1e6).collect();
    assert_eq!(point["bounds"], json!(bounds));
    // Every name that Prometheus reads is sent too.
    let text = api.get("/metrics").await.text();
    let mut names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    assert!(names.all(|name| metrics[name].is_object()), "{text}");
    api.stop().await;
}
