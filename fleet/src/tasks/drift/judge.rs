//! Opens, grows and closes the incidents of a bundle, and asks for retraining.

use std::collections::BTreeMap;

use muster_protocol::ids::{Digest, IncidentId};
use muster_protocol::manifest::Manifest;

use super::super::runs;
use super::{Group, TaskError, Tasks};
use crate::clock::Moment;
use crate::drift::{FLEET, Finding, Incident, IncidentState, Kind, Stand, assess, reconcile};
use crate::retrain::{Policy, Why};
use crate::store::log::{Actor, NewEntry};
use crate::store::{Control, ControlTx, Page, Saved, Versioned, incidents, log, policies};

/// Share of drifting streams that asks for retraining where the model has no policy.
const SHARE_DEFAULT: f64 = 0.2;
/// Incidents of a model looked at in one state.
const LOOKED: u32 = 200;

pub(super) async fn judge(
    tasks: &Tasks,
    manifest: &Manifest,
    bundle: Digest,
    group: &mut Group,
    moment: Moment,
) -> Result<(), TaskError> {
    if group.changed {
        let stands: Vec<&Stand> = group.seats.values().filter_map(|held| held.stand.as_ref()).collect();
        let mut findings = assess(&stands, &group.differing);
        findings.extend(group.performance.clone());
        settle(tasks, manifest, bundle, findings, moment).await?;
        group.changed = false;
    }
    let mut control = tasks.store.read().await?;
    let mut asking = open(&mut control, manifest, bundle).await?;
    asking.retain(|open| open.document.trigger.is_none());
    if asking.is_empty() {
        return Ok(());
    }
    let policy = policies::get::<Policy>(&mut control, &manifest.model).await?.map(|loaded| loaded.document);
    drop(control);
    for open in asking {
        if let Some(why) = why(&open.document, manifest, policy.as_ref()) {
            ask(tasks, policy.as_ref(), open, why, moment).await?;
        }
    }
    Ok(())
}

/// What an incident asks for, if it does.
fn why(incident: &Incident, manifest: &Manifest, policy: Option<&Policy>) -> Option<Why> {
    match incident.kind {
        Kind::NewRegime => {
            let share = policy.map_or(SHARE_DEFAULT, |policy| policy.drift_share);
            #[expect(clippy::cast_precision_loss, reason = "at most 1,024 streams")]
            let (drifting, all) = (incident.streams.len() as f64, manifest.monitoring.streams.len() as f64);
            (drifting >= share * all).then(|| Why::Drift {
                incident: incident.id.clone(),
                onset: incident.onset,
                streams: incident.streams.iter().map(|stream| stream.name.clone()).collect(),
                bundle: Some(incident.bundle),
            })
        }
        Kind::Performance => policy.is_some_and(|policy| policy.labels.retrain).then(|| Why::Labels {
            incident: incident.id.clone(),
            onset: incident.onset,
            bundle: Some(incident.bundle),
        }),
        Kind::SiteDiffers | Kind::KnownSeason | Kind::DataQuality | Kind::DeviceFault | Kind::SiteChange => {
            None
        }
    }
}

async fn settle(
    tasks: &Tasks,
    manifest: &Manifest,
    bundle: Digest,
    findings: Vec<Finding>,
    moment: Moment,
) -> Result<(), TaskError> {
    let mut tx = tasks.store.write().await?;
    let mut known: BTreeMap<IncidentId, Versioned<Incident>> = BTreeMap::new();
    let is_open = open(&mut tx, manifest, bundle).await?;
    known.extend(is_open.into_iter().map(|incident| (incident.document.id.clone(), incident)));
    let documents: Vec<Incident> = known.values().map(|incident| incident.document.clone()).collect();
    let page = Page::first(LOOKED);
    let closed = incidents::list::<Incident>(&mut tx, Some(&manifest.model), Some("closed"), &page).await?;
    let closed: Vec<Incident> =
        closed.into_iter().map(|closed| closed.document).filter(|closed| closed.bundle == bundle).collect();

    let done = reconcile(&documents, &closed, findings);
    for finding in done.open {
        let id = IncidentId::mint(crate::mint::random()?);
        let incident = Incident::open(id, manifest.model.clone(), bundle, finding, moment.world_at);
        let columns = incidents::IncidentColumns {
            model: &incident.model,
            bundle: &bundle,
            state: incident.state.name(),
            opened: incident.opened,
        };
        incidents::create(&mut tx, &incident.id, columns, &incident).await?;
        say(&mut tx, "incident.opened", &incident, incident.sentence(), moment).await?;
    }
    for (id, finding) in done.grow {
        let Some(Versioned { revision, document: before }) = known.remove(&id) else { continue };
        let mut incident = before.clone();
        incident.update(finding);
        if incident == before {
            continue;
        }
        // The transaction holds the only write: nobody can have been faster.
        let _saved = incidents::save(&mut tx, &id, revision, incident.state.name(), &incident).await?;
        if incident.sites.len() > before.sites.len() {
            say(&mut tx, "incident.widened", &incident, incident.sentence(), moment).await?;
        }
    }
    for (id, why) in done.close {
        if let Some(open) = known.remove(&id) {
            close(&mut tx, open, &why, moment).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}

/// The bundle's incidents that are not closed.
async fn open(
    control: &mut Control,
    manifest: &Manifest,
    bundle: Digest,
) -> Result<Vec<Versioned<Incident>>, TaskError> {
    let mut open = Vec::new();
    for state in ["open", "acknowledged"] {
        let page = Page::first(LOOKED);
        open.extend(incidents::list::<Incident>(control, Some(&manifest.model), Some(state), &page).await?);
    }
    open.retain(|incident| incident.document.bundle == bundle);
    Ok(open)
}

/// Asks the retrain policy; once it has answered with a run, never again. A refusal is said once.
async fn ask(
    tasks: &Tasks,
    policy: Option<&Policy>,
    open: Versioned<Incident>,
    why: Why,
    moment: Moment,
) -> Result<(), TaskError> {
    let Versioned { revision, document: mut incident } = open;
    let new_rows = match policy.map_or(0, |policy| policy.guards.min_new_rows) {
        0 => None,
        _counted => Some(runs::rows_since(tasks, &incident.bundle, incident.onset).await?),
    };
    let said_before = incident.refused.clone();
    let refused_before = said_before.as_deref();
    let mut tx = tasks.store.write().await?;
    let asked = runs::Asked { model: &incident.model, why, policy, refused_before, new_rows };
    match runs::propose(&mut tx, asked, moment).await? {
        runs::Proposed::Run { trigger, .. } => {
            incident.trigger = Some(trigger);
            incident.refused = None;
        }
        runs::Proposed::Refused { cause } => incident.refused = Some(cause.code),
        runs::Proposed::RefusedAsBefore => return Ok(()),
    }
    match incidents::save(&mut tx, &incident.id, revision, incident.state.name(), &incident).await? {
        Saved::Saved { .. } => tx.commit().await?,
        // Looked at again with the next commit; nothing of this was saved.
        Saved::Stale => {}
    }
    Ok(())
}

async fn close(
    tx: &mut ControlTx,
    open: Versioned<Incident>,
    why: &str,
    moment: Moment,
) -> Result<(), TaskError> {
    let Versioned { revision, document: mut incident } = open;
    incident.state =
        IncidentState::Closed { at: moment.world_at, by: FLEET.to_owned(), reason: why.to_owned() };
    match incidents::save(tx, &incident.id, revision, incident.state.name(), &incident).await? {
        Saved::Stale => Ok(()),
        Saved::Saved { .. } => {
            say(tx, "incident.closed", &incident, format!("{}: {why}", incident.kind.said()), moment).await
        }
    }
}

/// An incident of a bundle that nobody runs any more has been answered.
pub(super) async fn close_replaced(
    tasks: &Tasks,
    groups: &BTreeMap<Digest, Group>,
    moment: Moment,
) -> Result<(), TaskError> {
    for state in ["open", "acknowledged"] {
        let mut control = tasks.store.read().await?;
        let found =
            incidents::list::<Incident>(&mut control, None, Some(state), &Page::first(LOOKED)).await?;
        drop(control);
        for open in found.into_iter().filter(|open| !groups.contains_key(&open.document.bundle)) {
            let mut tx = tasks.store.write().await?;
            close(&mut tx, open, "no device runs the bundle any more", moment).await?;
            tx.commit().await?;
        }
    }
    Ok(())
}

async fn say(
    tx: &mut ControlTx,
    kind: &'static str,
    incident: &Incident,
    sentence: String,
    moment: Moment,
) -> Result<(), TaskError> {
    let entry = NewEntry {
        when: moment,
        kind,
        subject: incident.id.to_string(),
        sentence: format!("{}: {sentence}", incident.model).into(),
        actor: Actor::Fleet,
    };
    log::append(tx, &entry).await?;
    Ok(())
}
