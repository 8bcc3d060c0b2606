//! For machines that watch the server: is it alive, is it ready, how much went through.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use super::App;
use super::extract::Json;
use super::problem::{Answer, Code, Problem};
use crate::enrolment::StandingName;
use crate::rollout::Rollout;
use crate::store::{Page, devices, identities, incidents, rollouts, runs};

/// Longest time a ready server needs to read its database.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// Things counted in one state at most.
const COUNTED_MAX: u32 = 10_000;

pub(super) fn router() -> Router<App> {
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready)).route("/metrics", get(metrics))
}

#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
}

async fn alive() -> Json<Health> {
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

async fn ready(State(app): State<App>) -> Answer<Json<Health>> {
    let reading = async { devices::presence_counts(&mut app.fleet.store.read().await?).await };
    match tokio::time::timeout(READY_WITHIN, reading).await {
        Ok(Ok(_)) => Ok(Json(Health { status: "ready", version: env!("CARGO_PKG_VERSION") })),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Problem::new(Code::Busy, "the database does not answer")),
    }
}

/// Prometheus text. Never a label whose values grow with the fleet.
async fn metrics(State(app): State<App>) -> Answer<Response> {
    let mut text = Text::default();
    let mut db = app.fleet.store.read().await?;
    let presence = devices::presence_counts(&mut db).await?;
    text.family("muster_devices", "gauge", "Devices by presence.");
    text.labelled("muster_devices", "presence", "online", presence.online);
    text.labelled("muster_devices", "presence", "offline", presence.offline);
    text.family("muster_identities", "gauge", "Devices by where they stand in the register.");
    let standing: BTreeMap<_, _> = identities::counts(&mut db).await?.into_iter().collect();
    for state in StandingName::ALL {
        text.labelled(
            "muster_identities",
            "state",
            state.as_str(),
            standing.get(&state).copied().unwrap_or(0),
        );
    }
    text.family("muster_rollouts", "gauge", "Rollouts by phase.");
    for phase in ["running", "paused", "held", "rolling_back", "rolled_back", "aborted", "completed"] {
        let found = rollouts::list::<Rollout>(&mut db, None, Some(phase), &Page::first(COUNTED_MAX)).await?;
        text.labelled("muster_rollouts", "phase", phase, found.len() as u64);
    }
    text.family("muster_runs_open", "gauge", "Retraining runs that have not ended, by state.");
    for state in ["collecting", "queued", "claimed"] {
        let found =
            runs::list::<serde::de::IgnoredAny>(&mut db, None, Some(state), &Page::first(COUNTED_MAX))
                .await?;
        text.labelled("muster_runs_open", "state", state, found.len() as u64);
    }
    text.family("muster_incidents_open", "gauge", "Drift incidents that nobody has acknowledged or closed.");
    text.value("muster_incidents_open", incidents::count_in(&mut db, "open").await?);
    drop(db);
    let ingest = &app.fleet.ingest;
    for (name, help, counter) in [
        ("muster_ingest_messages_total", "Messages taken in.", &ingest.messages),
        ("muster_ingest_batches_total", "Commits they were taken in with.", &ingest.batches),
        ("muster_ingest_duplicates_total", "Repeats of what was committed before.", &ingest.duplicates),
        ("muster_ingest_gaps_total", "Messages before which one is missing.", &ingest.gaps),
        ("muster_ingest_malformed_total", "Messages that could not be read.", &ingest.malformed),
        (
            "muster_ingest_strangers_total",
            "Messages of devices that are no members or never said hello.",
            &ingest.strangers,
        ),
        (
            "muster_ingest_held_back_total",
            "Reports of quarantined devices, left on the box.",
            &ingest.held_back,
        ),
        ("muster_ingest_unfit_panes_total", "Panes that fit no bundle known here.", &ingest.unfit_panes),
    ] {
        text.family(name, "counter", help);
        text.value(name, counter.load(Ordering::Relaxed));
    }
    let mut response = text.0.into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn value(&mut self, name: &str, value: u64) {
        self.line(format_args!("{name} {value}"));
    }

    fn labelled(&mut self, name: &str, label: &str, of: &str, value: u64) {
        self.line(format_args!("{name}{{{label}=\"{of}\"}} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        writeln!(self.0, "{line}").ok();
    }
}
