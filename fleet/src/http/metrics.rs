//! Figures of the whole fleet for Prometheus. Never a label whose values grow with the fleet: sites, kinds, states.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::problem::Answer;
use crate::enrolment::StandingName;
use crate::rollout::Rollout;
use crate::store::{
    Control, Page, Telemetry, devices, identities, incidents, rollouts, runs, slices, sources,
};

/// Things counted in one state at most.
const COUNTED_MAX: u32 = 10_000;

/// Prometheus text, version 0.0.4.
pub(super) async fn metrics(State(app): State<App>) -> Answer<Response> {
    let mut text = Text::default();
    let mut db = app.fleet.store.read().await?;
    fleet(&mut text, &mut db).await?;
    drop(db);
    telemetry(&mut text, &mut app.fleet.store.read_telemetry().await?).await?;
    ingest(&mut text, &app);
    let mut response = text.0.into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

async fn fleet(text: &mut Text, db: &mut Control) -> Answer<()> {
    let presence = devices::presence_counts(db).await?;
    text.family("muster_devices", "gauge", "Devices by presence.");
    text.labelled("muster_devices", "presence", "online", presence.online);
    text.labelled("muster_devices", "presence", "offline", presence.offline);
    text.family(
        "muster_site_devices",
        "gauge",
        "Members by site, where they stand and whether they are here.",
    );
    for group in devices::by_site(db).await? {
        let labels = [
            ("site", group.site.as_str()),
            ("state", group.standing.as_str()),
            ("presence", if group.online { "online" } else { "offline" }),
        ];
        text.with("muster_site_devices", &labels, group.devices);
    }
    text.family("muster_identities", "gauge", "Devices by where they stand in the register.");
    let standing: BTreeMap<_, _> = identities::counts(db).await?.into_iter().collect();
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
        let found = rollouts::list::<Rollout>(db, None, Some(phase), &Page::first(COUNTED_MAX)).await?;
        text.labelled("muster_rollouts", "phase", phase, found.len() as u64);
    }
    text.family("muster_runs_open", "gauge", "Retraining runs that have not ended, by state.");
    for state in ["collecting", "queued", "claimed"] {
        let found =
            runs::list::<serde::de::IgnoredAny>(db, None, Some(state), &Page::first(COUNTED_MAX)).await?;
        text.labelled("muster_runs_open", "state", state, found.len() as u64);
    }
    text.family("muster_incidents_open", "gauge", "Drift incidents that nobody has acknowledged or closed.");
    text.value("muster_incidents_open", incidents::count_in(db, "open").await?);
    Ok(())
}

async fn telemetry(text: &mut Text, db: &mut Telemetry) -> Answer<()> {
    let kept = slices::kept(db).await?;
    for (name, kind, help, of) in [
        ("muster_telemetry_rows", "gauge", "Rows that are kept.", (|k| k.rows) as fn(&slices::Kept) -> u64),
        ("muster_telemetry_bytes", "gauge", "Bytes that are kept.", |k| k.bytes),
        ("muster_telemetry_dropped_rows_total", "counter", "Rows dropped since the beginning.", |k| {
            k.dropped_rows
        }),
        (
            "muster_telemetry_dropped_early_rows_total",
            "counter",
            "Rows dropped before their age because there was too much.",
            |k| k.dropped_early,
        ),
    ] {
        text.family(name, kind, help);
        for one in &kept {
            text.labelled(name, "kind", one.kind.as_str(), of(one));
        }
    }
    let (reports, devices) = sources::lost_by_all(db).await?;
    text.family("muster_lost_reports", "gauge", "Reports that boxes which are remembered gave up unsent.");
    text.value("muster_lost_reports", reports);
    text.family("muster_lost_reports_devices", "gauge", "Devices that gave up any.");
    text.value("muster_lost_reports_devices", devices);
    Ok(())
}

fn ingest(text: &mut Text, app: &App) {
    let ingest = &app.fleet.ingest;
    for (name, help, counter) in [
        ("muster_ingest_messages_total", "Messages taken in.", &ingest.messages),
        ("muster_ingest_reports_total", "Reports kept.", &ingest.reports),
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
    for (name, help, gauge) in [
        ("muster_ingest_waiting", "Messages that waited when the last batch was taken.", &ingest.waiting),
        ("muster_ingest_open_rollups", "Rollups in memory.", &ingest.open_rollups),
    ] {
        text.family(name, "gauge", help);
        text.value(name, gauge.load(Ordering::Relaxed));
    }
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

    fn with(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        // Sites are ids, so nothing in them needs an escape.
        let labels: Vec<String> = labels.iter().map(|(label, of)| format!("{label}=\"{of}\"")).collect();
        self.line(format_args!("{name}{{{}}} {value}", labels.join(",")));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        writeln!(self.0, "{line}").ok();
    }
}
