//! Reads closed windows of counts, keeps the alarms, opens and closes incidents, and asks for retraining.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_protocol::ids::{DeviceId, Digest, IncidentId, ModelName, SiteName, TriggerId};
use muster_protocol::limits;
use muster_protocol::manifest::{Manifest, ReferenceFile};

use super::{TaskError, Tasks, runs};
use crate::drift::{Finding, Incident, IncidentState, Reach, StreamWatch, Watch, assess};
use crate::retrain::{Policy, Why};
use crate::store::log::{Actor, Moment, NewEntry};
use crate::store::{
    Control, ControlTx, LIMIT_MAX, Page, Saved, Versioned, alarms, bundles, devices, incidents, log,
    policies, windows,
};

/// Share of drifting streams that opens an incident where the model has no policy.
const SHARE_DEFAULT: f64 = 0.2;
/// References kept in memory.
const REFERENCES_MAX: usize = 64;
/// A drift reference's size, bytes.
const REFERENCE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What is monitored of a bundle.
#[derive(Debug)]
struct Monitored {
    manifest: Manifest,
    reference: ReferenceFile,
}

#[derive(Debug, Default)]
pub struct Watchers {
    references: BTreeMap<Digest, Option<Arc<Monitored>>>,
}

/// The watches of everybody who runs a bundle.
type Group = BTreeMap<DeviceId, (SiteName, Watch)>;

impl Watchers {
    pub async fn look(&mut self, tasks: &Tasks) -> Result<(), TaskError> {
        let mut groups: BTreeMap<Digest, Group> = BTreeMap::new();
        for (device, site, bundle) in running(&mut tasks.store.read().await?).await? {
            let Some(monitored) = self.monitored(tasks, &bundle).await? else { continue };
            let watch = read_device(tasks, &device, &bundle, &monitored).await?;
            groups.entry(bundle).or_default().insert(device, (site, watch));
        }
        let moment = tasks.clocks.moment();
        for (bundle, group) in &groups {
            let Some(Some(monitored)) = self.references.get(bundle) else { continue };
            judge(tasks, &monitored.manifest.model, *bundle, group, moment).await?;
        }
        close_replaced(tasks, &groups, moment).await
    }

    async fn monitored(
        &mut self,
        tasks: &Tasks,
        bundle: &Digest,
    ) -> Result<Option<Arc<Monitored>>, TaskError> {
        if let Some(known) = self.references.get(bundle) {
            return Ok(known.clone());
        }
        let Some(found) = bundles::get(&mut tasks.store.read().await?, bundle).await? else {
            return Ok(None);
        };
        let monitored = match found.reference {
            None => None,
            Some(reference) => {
                let bytes = tasks
                    .blobs
                    .read(&reference, REFERENCE_BYTES_MAX as u64)
                    .await
                    .map_err(TaskError::Reference)?;
                let names = found.manifest.monitoring.streams.iter().map(|stream| &stream.name);
                // The registry parsed it before it accepted the bundle; what is unreadable now was damaged since.
                bytes.and_then(|bytes| ReferenceFile::parse(&bytes, names).ok())
            }
        };
        let monitored =
            monitored.map(|reference| Arc::new(Monitored { manifest: found.manifest, reference }));
        if self.references.len() >= REFERENCES_MAX {
            self.references.clear();
        }
        self.references.insert(*bundle, monitored.clone());
        Ok(monitored)
    }
}

/// Who runs which bundle now.
async fn running(control: &mut Control) -> Result<Vec<(DeviceId, SiteName, Digest)>, TaskError> {
    let mut running = Vec::new();
    let mut page = Page::first(LIMIT_MAX);
    loop {
        let found = devices::list(control, &devices::DeviceFilter::default(), &page).await?;
        let Some(last) = found.last().map(devices::Device::key) else { return Ok(running) };
        for device in found {
            let slots = device.state.iter().flat_map(|state| &state.slots).take(limits::SLOTS_MAX);
            for bundle in slots.filter_map(|slot| slot.current.as_ref()).map(|current| current.bundle.sha256)
            {
                running.push((device.id.clone(), device.site.clone(), bundle));
            }
        }
        page = Page::after(last, LIMIT_MAX);
    }
}

/// Reads the device's windows that have closed since, and remembers.
async fn read_device(
    tasks: &Tasks,
    device: &DeviceId,
    bundle: &Digest,
    monitored: &Monitored,
) -> Result<Watch, TaskError> {
    let streams: BTreeMap<_, StreamWatch> =
        alarms::of_device(&mut tasks.store.read().await?, bundle, device).await?;
    let mut watch = Watch { streams };
    let filter = windows::WindowFilter {
        bundle: Some(*bundle),
        device: Some(device.clone()),
        from: watch.read_until(),
        ..windows::WindowFilter::default()
    };
    let found = windows::list(&mut tasks.store.read_telemetry().await?, &filter, &Page::first(1000)).await?;
    let monitoring = &monitored.manifest.monitoring;
    let mut news = false;
    for (i, window) in found.iter().enumerate() {
        // A window that lost panes to a restart closes when a later one has begun.
        if !window.is_whole(monitoring) && i + 1 == found.len() {
            break;
        }
        match watch.read((monitoring, &monitored.reference), window.from, &window.streams) {
            Ok(_) => news = true,
            Err(error) => {
                tracing::warn!(
                    device.id = %device,
                    error = &error as &dyn std::error::Error,
                    "a window of counts does not fit its bundle; left out"
                );
            }
        }
    }
    if news {
        let mut tx = tasks.store.write().await?;
        for (stream, state) in &watch.streams {
            alarms::put(&mut tx, bundle, device, stream, state).await?;
        }
        tx.commit().await?;
    }
    Ok(watch)
}

/// Opens, updates or closes the bundle's incident.
async fn judge(
    tasks: &Tasks,
    model: &ModelName,
    bundle: Digest,
    group: &Group,
    moment: Moment,
) -> Result<(), TaskError> {
    let mut control = tasks.store.read().await?;
    let policy = policies::get::<Policy>(&mut control, model).await?.map(|loaded| loaded.document);
    let open = open_incident(&mut control, model, bundle).await?;
    drop(control);
    let share = policy.as_ref().map_or(SHARE_DEFAULT, |policy| policy.drift_share);
    match (assess(group, share), open) {
        (None, None) => Ok(()),
        (None, Some(open)) => close(tasks, open, "the streams are back within their reference", moment).await,
        (Some(finding), None) => {
            let id = IncidentId::mint(crate::mint::random()?);
            let incident = Incident::open(id, model.clone(), bundle, finding, moment.world_at);
            let mut tx = tasks.store.write().await?;
            let columns = incidents::IncidentColumns {
                model,
                bundle: &bundle,
                state: incident.state.name(),
                opened: incident.opened,
            };
            incidents::create(&mut tx, &incident.id, columns, &incident).await?;
            say(&mut tx, "incident.opened", &incident, moment).await?;
            tx.commit().await?;
            let open = Versioned { revision: 1, document: incident };
            ask(tasks, policy.as_ref(), open, moment).await
        }
        (Some(finding), Some(open)) => {
            let open = update(tasks, open, finding, moment).await?;
            match open {
                Some(open) => ask(tasks, policy.as_ref(), open, moment).await,
                None => Ok(()),
            }
        }
    }
}

async fn open_incident(
    control: &mut Control,
    model: &ModelName,
    bundle: Digest,
) -> Result<Option<Versioned<Incident>>, TaskError> {
    for state in ["open", "acknowledged"] {
        let found = incidents::list::<Incident>(control, Some(model), Some(state), &Page::first(100)).await?;
        if let Some(open) = found.into_iter().find(|incident| incident.document.bundle == bundle) {
            return Ok(Some(open));
        }
    }
    Ok(None)
}

/// Takes the newer finding in. `None` if somebody else changed the incident meanwhile.
async fn update(
    tasks: &Tasks,
    open: Versioned<Incident>,
    finding: Finding,
    moment: Moment,
) -> Result<Option<Versioned<Incident>>, TaskError> {
    let mut incident = open.document.clone();
    incident.update(finding);
    if incident == open.document {
        return Ok(Some(open));
    }
    let widened = incident.reach != open.document.reach;
    let mut tx = tasks.store.write().await?;
    match incidents::save(&mut tx, &incident.id, open.revision, incident.state.name(), &incident).await? {
        Saved::Stale => Ok(None),
        Saved::Saved { revision } => {
            if widened {
                say(&mut tx, "incident.widened", &incident, moment).await?;
            }
            tx.commit().await?;
            Ok(Some(Versioned { revision, document: incident }))
        }
    }
}

/// Asks the retrain policy, once for each incident that reaches a cohort; a refusal is said once.
async fn ask(
    tasks: &Tasks,
    policy: Option<&Policy>,
    open: Versioned<Incident>,
    moment: Moment,
) -> Result<(), TaskError> {
    let Versioned { revision, document: mut incident } = open;
    if incident.reach != Reach::Cohort || incident.trigger.is_some() {
        return Ok(());
    }
    let why = Why::Drift {
        incident: incident.id.clone(),
        onset: incident.onset,
        streams: incident.streams.iter().map(|stream| stream.name.clone()).collect(),
    };
    let id = TriggerId::mint(crate::mint::random()?);
    let mut tx = tasks.store.write().await?;
    let said_before = incident.refused.clone();
    match runs::propose(&mut tx, id.clone(), &incident.model, why, policy, said_before.as_deref(), moment)
        .await?
    {
        runs::Proposed::Run => {
            incident.trigger = Some(id);
            incident.refused = None;
        }
        runs::Proposed::Refused { code } => incident.refused = Some(code),
        runs::Proposed::RefusedAsBefore => return Ok(()),
    }
    match incidents::save(&mut tx, &incident.id, revision, incident.state.name(), &incident).await? {
        Saved::Saved { .. } => tx.commit().await?,
        // Looked at again with the next commit; nothing of this was saved.
        Saved::Stale => {}
    }
    Ok(())
}

async fn close(tasks: &Tasks, open: Versioned<Incident>, why: &str, moment: Moment) -> Result<(), TaskError> {
    let mut incident = open.document;
    incident.state =
        IncidentState::Closed { at: moment.world_at, by: "fleet".to_owned(), reason: why.to_owned() };
    let mut tx = tasks.store.write().await?;
    match incidents::save(&mut tx, &incident.id, open.revision, incident.state.name(), &incident).await? {
        Saved::Stale => Ok(()),
        Saved::Saved { .. } => {
            let entry = NewEntry {
                when: moment,
                kind: "incident.closed",
                subject: incident.id.to_string(),
                sentence: format!("{}: {why}", incident.model).into(),
                actor: Actor::Fleet,
            };
            log::append(&mut tx, &entry).await?;
            tx.commit().await?;
            Ok(())
        }
    }
}

/// An incident of a bundle that nobody runs any more has been answered.
async fn close_replaced(
    tasks: &Tasks,
    groups: &BTreeMap<Digest, Group>,
    moment: Moment,
) -> Result<(), TaskError> {
    for state in ["open", "acknowledged"] {
        let mut control = tasks.store.read().await?;
        let found = incidents::list::<Incident>(&mut control, None, Some(state), &Page::first(100)).await?;
        drop(control);
        for open in found.into_iter().filter(|open| !groups.contains_key(&open.document.bundle)) {
            close(tasks, open, "no device runs the bundle any more", moment).await?;
        }
    }
    Ok(())
}

async fn say(
    tx: &mut ControlTx,
    kind: &'static str,
    incident: &Incident,
    moment: Moment,
) -> Result<(), TaskError> {
    let entry = NewEntry {
        when: moment,
        kind,
        subject: incident.id.to_string(),
        sentence: format!("{}: {}", incident.model, incident.sentence()).into(),
        actor: Actor::Fleet,
    };
    log::append(tx, &entry).await?;
    Ok(())
}
