//! Gathers what the mind of lineage asks for: the records of a bundle and of a box's slot, and the log's news as events.

use muster_protocol::ids::{Digest, IncidentId, RolloutId, RunId, SlotName};
use muster_protocol::message::up::{BundleRef, Running};
use serde_json::Value;

use crate::drift::Incident;
use crate::lineage::event::{self, State, Telling};
use crate::lineage::{Entry, Graph, Order, Place, Records, build};
use crate::retrain::{Run, RunState, Trigger, Why};
use crate::rollout::{Member, Rollout};
use crate::store::bundles::Bundle;
use crate::store::devices::Device;
use crate::store::log::{Actor, LogEntry};
use crate::store::{Control, Page, StoreError, bundles, incidents, log, orders, rollouts, runs, triggers};

/// Rollouts of a model that are looked through: the newest.
const ROLLOUTS: u32 = 200;
/// Entries of one subject that are looked through: the newest.
const ENTRIES: u32 = 200;

/// Why a slot of a box answers with what it answers with.
pub async fn of_slot(
    db: &mut Control,
    device: &Device,
    slot: &SlotName,
    running: &Running,
) -> Result<Graph, StoreError> {
    let all = recent(db, &running.bundle).await?;
    let mut parts = Vec::new();
    for rollout in all.iter().filter(|rollout| rollout.slot == *slot) {
        if let Some(member) = rollouts::device::<Member>(db, &rollout.id, &device.id).await? {
            parts.push((rollout, member));
        }
    }
    let order = orders::get(db, &device.id).await?;
    let order = order.as_ref().map(|order| Order {
        version: order.version,
        issued: order.issued,
        want: order.wants.iter().find(|want| want.slot == *slot),
    });
    let place = Place {
        device: &device.id,
        name: &device.name,
        slot,
        running,
        order,
        parts: parts.iter().map(|(rollout, member)| (*rollout, member)).collect(),
    };
    graph(db, &running.bundle, &all, Some(place)).await
}

/// Where a bundle comes from, and who let it go where.
pub async fn of_bundle(db: &mut Control, bundle: &Bundle) -> Result<Graph, StoreError> {
    let meant = BundleRef { path: bundle.path.clone(), sha256: bundle.sha256 };
    let all = recent(db, &meant).await?;
    graph(db, &meant, &all, None).await
}

async fn recent(db: &mut Control, bundle: &BundleRef) -> Result<Vec<Rollout>, StoreError> {
    let page = Page::first(ROLLOUTS);
    let found = rollouts::list::<Rollout>(db, Some(bundle.path.model()), None, &page).await?;
    Ok(found.into_iter().map(|loaded| loaded.document).collect())
}

async fn graph(
    db: &mut Control,
    meant: &BundleRef,
    all: &[Rollout],
    place: Option<Place<'_>>,
) -> Result<Graph, StoreError> {
    let bundle = bundles::get(db, &meant.sha256).await?;
    let lineage = bundle.as_ref().map(|bundle| &bundle.manifest.lineage);
    let (mut run, mut builder) = (None, None);
    if let Some(id) = lineage.and_then(|lineage| lineage.run.as_ref()) {
        run = runs::get::<Run>(db, id).await?.map(|loaded| loaded.document);
        builder = builder_of(db, id).await?;
    }
    let cause = run.as_ref().map(|run| &run.trigger).or(lineage.and_then(|lineage| lineage.trigger.as_ref()));
    let trigger: Option<Trigger> = match cause {
        Some(id) => triggers::get(db, id).await?,
        None => None,
    };
    let why = run.as_ref().map(|run| &run.why).or(trigger.as_ref().map(|trigger| &trigger.why));
    let incident = match why.and_then(incident_of) {
        Some(id) => incidents::get::<Incident>(db, id).await?.map(|loaded| loaded.document),
        None => None,
    };
    let champion = match lineage.and_then(|lineage| lineage.champion) {
        Some(sha256) => bundles::get(db, &sha256).await?,
        None => None,
    };
    let entry = match &bundle {
        Some(bundle) => Some(Entry {
            manifest: &bundle.manifest,
            accepted: bundle.accepted,
            by: listed_by(db, &bundle.sha256).await?,
            revoked: bundle.revoked.as_ref().map(|revoked| revoked.reason.clone()),
        }),
        None => None,
    };
    Ok(build(&Records {
        bundle: meant.clone(),
        entry,
        rollouts: all.iter().filter(|rollout| rollout.bundle.sha256 == meant.sha256).collect(),
        run: run.as_ref(),
        builder,
        trigger: trigger.as_ref(),
        incident: incident.as_ref(),
        champion: champion.map(|bundle| BundleRef { path: bundle.path, sha256: bundle.sha256 }),
        place,
    }))
}

fn incident_of(why: &Why) -> Option<&IncidentId> {
    match why {
        Why::Drift { incident, .. } | Why::Labels { incident, .. } => Some(incident),
        Why::Schedule { .. } | Why::Volume { .. } | Why::Registry { .. } | Why::Manual { .. } => None,
    }
}

async fn listed_by(db: &mut Control, sha256: &Digest) -> Result<Option<String>, StoreError> {
    let entries = log::before(db, Some(&sha256.to_string()), &Page::first(ENTRIES)).await?;
    let accepted = entries.iter().find(|entry| entry.kind == "bundle.accepted");
    Ok(accepted.map(|entry| person(&entry.actor)))
}

async fn builder_of(db: &mut Control, run: &RunId) -> Result<Option<String>, StoreError> {
    let entries = log::before(db, Some(run.as_str()), &Page::first(ENTRIES)).await?;
    Ok(entries.iter().find_map(|entry| match &entry.actor {
        Actor::Builder(name) => Some(name.clone()),
        Actor::Fleet | Actor::Device(_) | Actor::Person(_) | Actor::Policy(_) => None,
    }))
}

fn person(actor: &Actor) -> String {
    match actor {
        Actor::Person(name) | Actor::Builder(name) => name.clone(),
        Actor::Fleet => "the fleet".to_owned(),
        Actor::Device(id) => id.to_string(),
        Actor::Policy(model) => format!("the policy of {model}"),
    }
}

/// Events of the log after an entry, the oldest first, each with its entry; and the last entry that was looked at, so
/// that a reader goes on behind what says nothing of lineage.
#[derive(Debug, Default)]
pub struct News {
    pub events: Vec<(i64, Value)>,
    pub seen: Option<i64>,
}

pub async fn news(db: &mut Control, namespace: &str, after: i64, limit: u32) -> Result<News, StoreError> {
    let mut news = News::default();
    for entry in log::after(db, None, &Page::after(after, limit)).await? {
        let event = match entry.kind.split_once('.') {
            Some(("run", what)) => run_event(db, namespace, &entry, what).await?,
            Some(("rollout", what)) => rollout_event(db, namespace, &entry, what).await?,
            Some(_) | None => None,
        };
        news.seen = Some(entry.id);
        news.events.extend(event.map(|event| (entry.id, event)));
    }
    Ok(news)
}

async fn run_event(
    db: &mut Control,
    namespace: &str,
    entry: &LogEntry,
    what: &str,
) -> Result<Option<Value>, StoreError> {
    let Ok(id) = entry.subject.parse::<RunId>() else { return Ok(None) };
    let Some(run) = runs::get::<Run>(db, &id).await?.map(|loaded| loaded.document) else { return Ok(None) };
    let Some(begun) = run.timeline.iter().find(|step| step.state == "claimed") else { return Ok(None) };
    let state = match what {
        "claimed" if begun.at == entry.when.at => State::Start,
        "claimed" => State::Running,
        "succeeded" | "rejected" => State::Complete,
        "failed" => State::Fail,
        "cancelled" => State::Abort,
        _ => return Ok(None),
    };
    let failure = match (&run.state, state) {
        (RunState::Failed { cause } | RunState::Rejected { cause, .. }, State::Fail | State::Complete) => {
            Some(cause.sentence.clone())
        }
        (RunState::Cancelled { reason, .. }, State::Abort) => Some(reason.clone()),
        _ => None,
    };
    let made = match (&run.state, state) {
        (RunState::Published { bundle, .. }, State::Complete) => bundles::get(db, &bundle.sha256).await?,
        _ => None,
    };
    let telling = Telling {
        state,
        at: entry.when.at,
        namespace,
        bundle: made.as_ref().map(|bundle| (&bundle.sha256, &bundle.manifest)),
        failure: failure.as_deref(),
    };
    Ok(Some(event::of_run(&run, &telling)))
}

async fn rollout_event(
    db: &mut Control,
    namespace: &str,
    entry: &LogEntry,
    what: &str,
) -> Result<Option<Value>, StoreError> {
    let ended = match what {
        "started" => State::Start,
        "completed" => State::Complete,
        "rolled_back" => State::Fail,
        // A person's wish to abort is not yet the end of it.
        "aborted" if entry.actor == Actor::Fleet => State::Abort,
        "superseded" => State::Abort,
        _ => return Ok(None),
    };
    let Ok(id) = entry.subject.parse::<RolloutId>() else { return Ok(None) };
    let Some(rollout) = rollouts::get::<Rollout>(db, &id).await? else { return Ok(None) };
    let rollout = rollout.document;
    let state =
        if ended != State::Start && has_ended_before(db, entry).await? { State::Other } else { ended };
    let bundle = bundles::get(db, &rollout.bundle.sha256).await?;
    let telling = Telling {
        state,
        at: entry.when.at,
        namespace,
        bundle: bundle.as_ref().map(|bundle| (&bundle.sha256, &bundle.manifest)),
        failure: event::failure(&rollout.phase).filter(|_| matches!(ended, State::Fail | State::Abort)),
    };
    Ok(Some(event::of_rollout(&rollout, &telling)))
}

/// A rollout that was complete can be taken back later; the standard knows one end.
async fn has_ended_before(db: &mut Control, entry: &LogEntry) -> Result<bool, StoreError> {
    let page = Page::after(entry.id, ENTRIES);
    let before = log::before(db, Some(&entry.subject), &page).await?;
    Ok(before.iter().any(|earlier| {
        matches!(earlier.kind.as_str(), "rollout.completed" | "rollout.rolled_back" | "rollout.superseded")
            || (earlier.kind == "rollout.aborted" && earlier.actor == Actor::Fleet)
    }))
}
