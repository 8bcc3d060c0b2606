//! Asks everybody for their figures.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use muster_protocol::ids::{DeviceId, Digest};
use muster_protocol::message::report::LATENCY_BOUNDS_US;

use super::{Family, Kind, Labels, OTHER, Point, Value, bounded};
use crate::drift::{self, Incident};
use crate::enrolment::StandingName;
use crate::fleet::Fleet;
use crate::gate::Verdict;
use crate::ingest::IngestCounters;
use crate::retrain::RunState;
use crate::rollout::{Phase, Progress};
use crate::roster::Shared;
use crate::store::{
    Control, Page, StoreError, Telemetry, bundles, devices, identities, incidents, log, meta, rollouts, runs,
    slices, sources, stats,
};

/// Incidents that are read at most.
const INCIDENTS_MAX: u32 = 1000;
/// World time in which a device must have told of a model to count as running it.
const RUNS_WITHIN: Duration = Duration::from_hours(2);

/// Everything, as of now.
pub async fn collect(fleet: &Fleet) -> Result<Vec<Family>, StoreError> {
    let mut all = Vec::new();
    let mut telemetry = fleet.store.read_telemetry().await?;
    kept(&mut all, &mut telemetry).await?;
    let since = fleet.clocks.world.now().minus(RUNS_WITHIN);
    let running = stats::running(&mut telemetry, since).await?;
    drop(telemetry);
    let mut control = fleet.store.read().await?;
    register(&mut all, &mut control).await?;
    models(&mut all, &mut control, running).await?;
    incidents_open(&mut all, &mut control).await?;
    rollout_phases(&mut all, &mut control).await?;
    if fleet.config.lineage.url.is_some() {
        lineage(&mut all, &mut control).await?;
    }
    drop(control);
    gates(&mut all, &fleet.board.all().await);
    ingest(&mut all, &fleet.ingest);
    served(&mut all, &fleet.ingest);
    Ok(all)
}

async fn register(all: &mut Vec<Family>, db: &mut Control) -> Result<(), StoreError> {
    let presence = devices::presence_counts(db).await?;
    let presence = [("online", presence.online), ("offline", presence.offline)];
    all.push(
        Family::new("muster_devices", Kind::Gauge, "Devices by presence.").by("presence", named(presence)),
    );
    let mut sites: BTreeMap<String, BTreeMap<(&str, &str), u64>> = BTreeMap::new();
    for group in devices::by_site(db).await? {
        let presence = if group.online { "online" } else { "offline" };
        let of = sites.entry(group.site.to_string()).or_default();
        *of.entry((group.standing.as_str(), presence)).or_default() += group.devices;
    }
    let add = |sum: &mut BTreeMap<(&'static str, &'static str), u64>, more: BTreeMap<_, u64>| {
        for (of, devices) in more {
            *sum.entry(of).or_default() += devices;
        }
    };
    let help = "Members by site, where they stand and whether they are here.";
    let mut family = Family::new("muster_site_devices", Kind::Gauge, help);
    for (site, groups) in bounded(sites, |groups| groups.values().sum(), add) {
        family.points.extend(groups.into_iter().map(|((state, presence), devices)| Point {
            labels: vec![
                ("site", site.clone()),
                ("state", state.to_owned()),
                ("presence", presence.to_owned()),
            ],
            value: Value::Number(devices),
        }));
    }
    all.push(family);
    let standing: BTreeMap<_, _> = identities::counts(db).await?.into_iter().collect();
    let standing =
        StandingName::ALL.map(|state| (state.as_str(), standing.get(&state).copied().unwrap_or(0)));
    let help = "Devices by where they stand in the register.";
    all.push(Family::new("muster_identities", Kind::Gauge, help).by("state", named(standing)));
    Ok(())
}

/// How the lineage server takes what it is told.
async fn lineage(all: &mut Vec<Family>, db: &mut Control) -> Result<(), StoreError> {
    let mut counts = Vec::new();
    for (outcome, key) in [("taken", meta::LINEAGE_TOLD), ("refused", meta::LINEAGE_REFUSED)] {
        let count = meta::get(db, key).await?.and_then(|text| text.parse::<u64>().ok());
        counts.push((outcome, count.unwrap_or(0)));
    }
    let help = "Events that the lineage server took, and that it refused and that are left out.";
    all.push(Family::new("muster_lineage_events_total", Kind::Counter, help).by("outcome", named(counts)));
    let place = meta::get(db, meta::LINEAGE_PLACE).await?.and_then(|text| text.parse::<i64>().ok());
    let last = log::last(db).await?;
    let behind = place.map_or(0, |place| last.abs_diff(place));
    let help = "Log entries that were not looked at yet for lineage events.";
    all.push(Family::new("muster_lineage_behind_entries", Kind::Gauge, help).of(behind));
    Ok(())
}

/// Which devices run what, by what they told of lately.
async fn models(
    all: &mut Vec<Family>,
    db: &mut Control,
    running: Vec<stats::Running>,
) -> Result<(), StoreError> {
    let mut names: BTreeMap<Digest, (String, String)> = BTreeMap::new();
    let mut groups: BTreeMap<String, (Labels, u64)> = BTreeMap::new();
    for stats::Running { slot, bundle, devices } in running {
        let (model, version) = match names.entry(bundle) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(unknown) => {
                let found = bundles::get(db, &bundle).await?;
                let of =
                    found.map(|found| (found.path.model().to_string(), found.path.version().to_string()));
                unknown.insert(of.unwrap_or_default()).clone()
            }
        };
        let key = format!("{slot} {model} {version}");
        groups
            .insert(key, (vec![("slot", slot.to_string()), ("model", model), ("version", version)], devices));
    }
    let add = |sum: &mut (Labels, u64), more: (Labels, u64)| sum.1 += more.1;
    let help = "Devices by the bundles that they told of in the last two hours of world time.";
    let mut family = Family::new("muster_model_devices", Kind::Gauge, help);
    for (name, (mut labels, devices)) in bounded(groups, |group| group.1, add) {
        if name == OTHER {
            for (_, value) in &mut labels {
                OTHER.clone_into(value);
            }
        }
        family.points.push(Point { labels, value: Value::Number(devices) });
    }
    all.push(family);
    Ok(())
}

async fn incidents_open(all: &mut Vec<Family>, db: &mut Control) -> Result<(), StoreError> {
    let states = ["open", "acknowledged"];
    let mut kinds: BTreeMap<(&str, &str), u64> =
        states.iter().flat_map(|state| drift::Kind::ALL.map(|kind| ((*state, kind.name()), 0))).collect();
    let mut drifting: BTreeMap<String, BTreeSet<DeviceId>> = BTreeMap::new();
    for state in states {
        let found = incidents::list::<Incident>(db, None, Some(state), &Page::first(INCIDENTS_MAX)).await?;
        for incident in found.into_iter().map(|found| found.document) {
            *kinds.entry((state, incident.kind.name())).or_default() += 1;
            drifting.entry(incident.model.to_string()).or_default().extend(incident.devices);
        }
    }
    let help = "Drift incidents that are not closed, by state and kind.";
    let mut family = Family::new("muster_incidents", Kind::Gauge, help);
    family.points.extend(kinds.into_iter().map(|((state, kind), n)| Point {
        labels: vec![("state", state.to_owned()), ("kind", kind.to_owned())],
        value: Value::Number(n),
    }));
    all.push(family);
    let drifting = bounded(drifting, |devices| devices.len() as u64, Extend::extend);
    let drifting = drifting.into_iter().map(|(model, devices)| (model, devices.len() as u64));
    let help = "Devices with an incident that is not closed, by model.";
    all.push(Family::new("muster_drifting_devices", Kind::Gauge, help).by("model", drifting));
    Ok(())
}

async fn rollout_phases(all: &mut Vec<Family>, db: &mut Control) -> Result<(), StoreError> {
    let phases = all_of(&Phase::NAMES, rollouts::counts(db).await?);
    all.push(Family::new("muster_rollouts", Kind::Gauge, "Rollouts by phase.").by("phase", phases));
    let states = all_of(&RunState::NAMES, runs::counts(db).await?);
    all.push(Family::new("muster_runs", Kind::Gauge, "Retraining runs by state.").by("state", states));
    Ok(())
}

/// Of rollouts that can still change something.
fn gates(all: &mut Vec<Family>, rollouts: &[Shared]) {
    let mut verdicts = BTreeMap::from([("pass", 0), ("insufficient", 0), ("fail", 0)]);
    let mut progress: BTreeMap<&str, u64> = Progress::NAMES.iter().map(|name| (*name, 0)).collect();
    for shared in rollouts.iter().filter(|shared| shared.rollout.phase.is_open()) {
        if let Some(gate) = shared.rollout.record().and_then(|record| record.gate.as_ref()) {
            let verdict = match gate.verdict {
                Verdict::Pass => "pass",
                Verdict::Insufficient => "insufficient",
                Verdict::Fail => "fail",
            };
            *verdicts.entry(verdict).or_default() += 1;
        }
        for member in shared.members.values() {
            *progress.entry(member.progress.name()).or_default() += 1;
        }
    }
    let help = "Open rollouts by the newest answer of their stage's gate.";
    all.push(Family::new("muster_gates", Kind::Gauge, help).by("verdict", named(verdicts)));
    let help = "Devices of open rollouts by how far they are.";
    all.push(Family::new("muster_rollout_devices", Kind::Gauge, help).by("progress", named(progress)));
}

async fn kept(all: &mut Vec<Family>, db: &mut Telemetry) -> Result<(), StoreError> {
    let kept = slices::kept(db).await?;
    let mut family = |name, kind, help, of: fn(&slices::Kept) -> u64| {
        let points = kept.iter().map(|one| (one.kind.as_str().to_owned(), of(one)));
        all.push(Family::new(name, kind, help).by("kind", points));
    };
    family("muster_telemetry_rows", Kind::Gauge, "Rows that are kept.", |kept| kept.rows);
    family("muster_telemetry_bytes", Kind::Gauge, "Bytes that are kept.", |kept| kept.bytes);
    let help = "Rows dropped since the beginning.";
    family("muster_telemetry_dropped_rows_total", Kind::Counter, help, |kept| kept.dropped_rows);
    let help = "Rows dropped before their age because there was too much.";
    family("muster_telemetry_dropped_early_rows_total", Kind::Counter, help, |kept| kept.dropped_early);
    let (reports, devices) = sources::lost_by_all(db).await?;
    let help = "Reports that boxes which are remembered gave up unsent.";
    all.push(Family::new("muster_lost_reports", Kind::Gauge, help).of(reports));
    all.push(
        Family::new("muster_lost_reports_devices", Kind::Gauge, "Devices that gave up any.").of(devices),
    );
    Ok(())
}

fn ingest(all: &mut Vec<Family>, ingest: &IngestCounters) {
    let help = "Messages that cannot be read, of strangers, held back, repeated, or out of turn, and panes that fit no bundle.";
    let refused = [
        ("malformed", &ingest.malformed),
        ("stranger", &ingest.strangers),
        ("held_back", &ingest.held_back),
        ("duplicate", &ingest.duplicates),
        ("gap", &ingest.gaps),
        ("unfit_pane", &ingest.unfit_panes),
    ];
    let refused = refused.map(|(why, counter)| (why, counter.load(Ordering::Relaxed)));
    all.push(Family::new("muster_ingest_not_taken_total", Kind::Counter, help).by("why", named(refused)));
    for (name, kind, help, counter) in [
        ("muster_ingest_messages_total", Kind::Counter, "Messages taken in.", &ingest.messages),
        ("muster_ingest_reports_total", Kind::Counter, "Reports kept.", &ingest.reports),
        ("muster_ingest_batches_total", Kind::Counter, "Commits they were taken in with.", &ingest.batches),
        (
            "muster_ingest_waiting",
            Kind::Gauge,
            "Messages that waited when the last batch was taken.",
            &ingest.waiting,
        ),
        ("muster_ingest_open_rollups", Kind::Gauge, "Rollups in memory.", &ingest.open_rollups),
    ] {
        all.push(Family::new(name, kind, help).of(counter.load(Ordering::Relaxed)));
    }
}

/// What models answered, as reports told it since this process began.
fn served(all: &mut Vec<Family>, ingest: &IngestCounters) {
    let served = ingest.served();
    let mut family = |name, help, of: fn(&stats::Sums) -> u64| {
        let mut family = Family::new(name, Kind::Counter, help);
        family.points.extend(served.iter().map(|((slot, model), sums)| Point {
            labels: vec![("slot", slot.clone()), ("model", model.clone())],
            value: Value::Number(of(sums)),
        }));
        all.push(family);
    };
    family("muster_model_requests_total", "Requests that models were sent.", |sums| sums.requests);
    family("muster_model_rows_total", "Rows that models answered.", |sums| sums.rows);
    family("muster_model_failures_total", "Requests that models failed.", |sums| sums.failures);
    family("muster_model_refused_total", "Requests that were refused.", |sums| sums.refused);
    let help = "How long answers took.";
    let mut latency = Family::new("muster_model_latency_seconds", Kind::Histogram, help);
    let bounds: Vec<f64> = LATENCY_BOUNDS_US.iter().map(|bound| f64::from(*bound) / 1e6).collect();
    latency.points.extend(served.iter().map(|((slot, model), sums)| Point {
        labels: vec![("slot", slot.clone()), ("model", model.clone())],
        value: Value::Counts { bounds: bounds.clone(), counts: sums.latency.to_vec() },
    }));
    all.push(latency);
}

/// With a zero for each that there is none of: a rule that warns of it must find the series before there is one.
fn all_of(names: &[&str], counts: Vec<(String, u64)>) -> BTreeMap<String, u64> {
    let mut all: BTreeMap<String, u64> = names.iter().map(|name| ((*name).to_owned(), 0)).collect();
    all.extend(counts);
    all
}

fn named<'a>(groups: impl IntoIterator<Item = (&'a str, u64)>) -> impl Iterator<Item = (String, u64)> {
    groups.into_iter().map(|(name, n)| (name.to_owned(), n))
}
