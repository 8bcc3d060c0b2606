//! The whole server with its telemetry in PostgreSQL: a fleet that has outgrown the file.

use std::time::Duration;

use muster_fleet::config::{Config, PostgresUrl};
use muster_fleet::store::{Page, reports, rollups, windows};
use muster_protocol::ids::DeviceId;
use muster_protocol::message::Report;
use muster_protocol::time::Timestamp;
use muster_protocol::topic::Up;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::device::Device;
use crate::http::Api;
use crate::ingest::{report, yesterday};
use crate::postgres::Postgres;
use crate::publisher::{Bundle, Publisher};
use crate::server::{self, PATIENCE};

async fn start(data: TempDir, database: &PostgresUrl) -> Api {
    let mut config: Config = server::config(data.path());
    config.telemetry.database = Some(database.clone());
    Api::start_with(data, config).await
}

/// What a person sees of a device: reports and requests of each span of five minutes, and how it is.
async fn seen(api: &Api, device: &DeviceId, day: Timestamp) -> (Vec<(u64, u64)>, Value) {
    let path = format!("/api/v1/devices/{device}");
    let telemetry =
        api.see(&format!("{path}/telemetry?from={day}&to={}", day.plus(Duration::from_hours(2)))).await;
    let items = telemetry["items"].as_array().unwrap().iter();
    let spans = items.map(|item| (item["reports"].as_u64().unwrap(), item["requests"].as_u64().unwrap()));
    (spans.collect(), api.see(&path).await["health"]["uptime_s"].clone())
}

#[tokio::test]
async fn a_box_reports_into_postgresql_and_a_killed_server_goes_on_there() {
    let postgres = Postgres::start().await;
    let database = postgres.database("muster");
    let day = yesterday();
    let bundle = Bundle::make("bundles/er-beds/1.json", b"model");
    let mut api = start(tempfile::tempdir().unwrap(), &database).await;
    Publisher::begin(api.fleet(), &[&bundle]).await;
    let mut boot = None;
    for sequence in 1..=3_u64 {
        let mut device = Device::connect(&api.server, 1, sequence).await;
        device.boot = boot.get_or_insert_with(|| device.boot.clone()).clone();
        let ack = device.hello().await;
        assert_eq!(ack.report, sequence - 1, "the server knows what the one before it took");
        for _ in 0..2 {
            let told: Report = report(&device, &bundle, sequence, day);
            device.say(Up::Report, told.encode().unwrap()).await;
            assert_eq!(device.ack().await.report, sequence);
        }
        let all = vec![(1, 100); usize::try_from(sequence).unwrap()];
        assert_eq!(seen(&api, &device.id, day).await, (all.clone(), json!(sequence)));
        let data = api.kill().await;
        assert!(data.path().join("fleet.db").is_file() && !data.path().join("telemetry.db").exists());
        api = start(data, &database).await;
        assert_eq!(seen(&api, &device.id, day).await, (all.clone(), json!(sequence)));
        // What the killed one had in memory only is rolled up by this one.
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while rollups::rolled(&mut api.fleet().store.read_telemetry().await.unwrap()).await.unwrap()
            < i64::try_from(sequence).unwrap()
        {
            assert!(tokio::time::Instant::now() < deadline, "the rollups were not written");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(seen(&api, &device.id, day).await.0, all);
    }
    let mut db = api.fleet().store.read_telemetry().await.unwrap();
    let merged = windows::list(&mut db, &windows::WindowFilter::default(), &Page::first(9)).await.unwrap();
    assert_eq!(merged.iter().map(|window| window.panes).collect::<Vec<_>>(), [3]);
    drop(db);
    let kept = api.see("/api/v1/telemetry").await;
    assert_eq!((&kept["kept"][0]["kind"], &kept["kept"][0]["rows"]), (&json!("reports"), &json!(3)));
    assert_eq!((&kept["kept"][1]["kind"], &kept["kept"][1]["rows"]), (&json!("rollups_5m"), &json!(3)));
    api.stop().await;
}

#[tokio::test]
async fn postgresql_goes_away_and_comes_back_and_no_acknowledged_report_is_lost() {
    const EACH: u64 = 20;
    let mut postgres = Postgres::start().await;
    let database = postgres.database("muster");
    let day = yesterday();
    let bundle = Bundle::make("bundles/er-beds/1.json", b"model");
    let api = start(tempfile::tempdir().unwrap(), &database).await;
    Publisher::begin(api.fleet(), &[&bundle]).await;
    let mut device = Device::connect(&api.server, 1, 1).await;
    device.hello().await;
    let mut told = 0;
    for _ in 0..3 {
        // Some are on their way when it goes, and some come while it is away.
        for n in 0..EACH {
            told += 1;
            device.say(Up::Report, report(&device, &bundle, told, day).encode().unwrap()).await;
            if n == EACH / 2 {
                postgres.stop();
            }
        }
        postgres.go().await;
        // Nobody repeats anything: a report that was acknowledged and lost would leave a gap that is never closed.
        while device.ack().await.report < told {}
    }
    let mut db = api.fleet().store.read_telemetry().await.unwrap();
    let kept = reports::list(&mut db, &device.id, &Page::first(999)).await.unwrap();
    assert_eq!(
        kept.iter().map(|kept| kept.health.uptime_s).collect::<Vec<_>>(),
        (1..=told).rev().collect::<Vec<_>>()
    );
    let merged = windows::list(&mut db, &windows::WindowFilter::default(), &Page::first(9)).await.unwrap();
    assert_eq!(merged.iter().map(|window| window.panes).sum::<u64>(), told, "each pane is counted once");
    drop(db);
    api.stop().await;
}
