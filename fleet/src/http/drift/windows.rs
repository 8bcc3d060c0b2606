//! Loads the windows of a model's devices, and replays them through the watch that the alarm itself uses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_protocol::ids::{DeviceId, Digest, ModelName, SiteName, SlotName, StreamName};
use muster_protocol::manifest::{Manifest, ReferenceFile};

use super::super::App;
use super::super::problem::Answer;
use super::{DriftWindow, StreamWindow};
use crate::drift::{Baseline, Counted, References, Site, Watch};
use crate::store::glances::{self, ModelSlot};
use crate::store::windows::Window;
use crate::store::{Page, bundles, watches, windows};

/// Windows shown of each device and bundle.
const SHOWN: u32 = 90;
/// So many are also judged as one: these are read before those that are shown.
const MEMORY: u32 = 16;
/// Devices shown at once.
const DEVICES_MAX: usize = 50;
/// Slots among which they are looked for: a device has 16 at most.
const SLOTS_MAX: u32 = 800;
/// Bundles of the model looked at, the newest first.
const BUNDLES_MAX: u32 = 10;
/// A drift reference's size, bytes.
pub(super) const REFERENCE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A bundle with what it is tested against.
pub(super) struct Monitored {
    pub(super) sha256: Digest,
    pub(super) manifest: Manifest,
    pub(super) reference: ReferenceFile,
}

/// Windows of one device and bundle, the oldest first.
pub(super) struct Series {
    device: Named,
    bundle: Arc<Monitored>,
    own: Option<Arc<Baseline>>,
    windows: Vec<Window>,
}

#[derive(Clone)]
struct Named {
    id: DeviceId,
    name: String,
    site: SiteName,
    slots: BTreeSet<SlotName>,
}

/// The model's newest bundles that have a reference.
pub(super) async fn monitored(app: &App, model: &ModelName) -> Answer<Vec<Arc<Monitored>>> {
    let newest =
        bundles::list(&mut app.fleet.store.read().await?, Some(model), &Page::first(BUNDLES_MAX)).await?;
    let mut monitored = Vec::new();
    for bundle in newest {
        monitored.extend(open(app, bundle).await?.map(Arc::new));
    }
    Ok(monitored)
}

/// A bundle's reference, if it monitors anything.
pub(super) async fn open(app: &App, bundle: bundles::Bundle) -> Answer<Option<Monitored>> {
    let bundles::Bundle { sha256, manifest, reference: Some(reference), .. } = bundle else {
        return Ok(None);
    };
    let Some(bytes) = app.fleet.blobs.read(&reference, REFERENCE_BYTES_MAX).await? else { return Ok(None) };
    let names = manifest.monitoring.streams.iter().map(|stream| &stream.name);
    match ReferenceFile::parse(&bytes, names) {
        Ok(reference) => Ok(Some(Monitored { sha256, manifest, reference })),
        Err(error) => {
            tracing::warn!(bundle.sha256 = %sha256, error = &error as &dyn std::error::Error, "a drift reference is damaged");
            Ok(None)
        }
    }
}

/// The newest windows of each device and bundle, and how many devices were left out.
pub(super) async fn load(
    app: &App,
    bundles: Vec<Arc<Monitored>>,
    only: Option<&DeviceId>,
) -> Answer<(Vec<Series>, u64)> {
    let Some(model) = bundles.first().map(|bundle| bundle.manifest.model.clone()) else {
        return Ok((Vec::new(), 0));
    };
    let mut control = app.fleet.store.read().await?;
    let slots = glances::of_model(&mut control, &model, only, SLOTS_MAX).await?;
    let mut devices: Vec<Named> = Vec::new();
    for ModelSlot { device, name, site, slot } in slots {
        match devices.last_mut() {
            Some(last) if last.id == device => {
                last.slots.insert(slot);
            }
            Some(_) | None => {
                devices.push(Named { id: device, name, site, slots: BTreeSet::from([slot]) });
            }
        }
    }
    devices.truncate(DEVICES_MAX);
    let left_out = match only {
        Some(_) => 0,
        None => glances::model_devices(&mut control, &model).await?.saturating_sub(devices.len() as u64),
    };
    let mut telemetry = app.fleet.store.read_telemetry().await?;
    let mut baselines: BTreeMap<(Digest, SiteName), Option<Arc<Baseline>>> = BTreeMap::new();
    let mut series = Vec::new();
    for device in devices {
        for bundle in &bundles {
            let key = (bundle.sha256, device.site.clone());
            let own = if let Some(own) = baselines.get(&key) {
                own.clone()
            } else {
                let site = watches::site::<Site>(&mut control, &key.0, &key.1).await?;
                let own = site.and_then(|site| site.baseline).map(Arc::new);
                baselines.insert(key, own.clone());
                own
            };
            for slot in &device.slots {
                let mut found =
                    windows::recent(&mut telemetry, &device.id, slot, &bundle.sha256, SHOWN + MEMORY).await?;
                found.reverse();
                close(&mut found, bundle);
                if !found.is_empty() {
                    let (device, bundle, own) = (device.clone(), bundle.clone(), own.clone());
                    series.push(Series { device, bundle, own, windows: found });
                }
            }
        }
    }
    Ok((series, left_out))
}

/// Drops the last window while panes of it may still come: it is not tested yet.
fn close(windows: &mut Vec<Window>, bundle: &Monitored) {
    if windows.last().is_some_and(|last| !last.is_whole(&bundle.manifest.monitoring)) {
        windows.pop();
    }
}

/// Tests every window. Costs time; no I/O.
pub(super) fn read(series: Vec<Series>, only: Option<&StreamName>) -> (Vec<String>, Vec<DriftWindow>) {
    let mut streams: Vec<String> = Vec::new();
    let mut shown = Vec::new();
    for Series { device, bundle, own, windows } in series {
        let monitoring = &bundle.manifest.monitoring;
        let names = monitoring.streams.iter().map(|stream| stream.name.as_str());
        for name in names.filter(|name| only.is_none_or(|only| only.as_str() == *name)) {
            if !streams.iter().any(|known| known == name) {
                streams.push(name.to_owned());
            }
        }
        let unshown = windows.len().saturating_sub(SHOWN as usize);
        let references = References { monitoring, training: &bundle.reference, own: own.as_deref() };
        let windows: Vec<Counted> = windows
            .into_iter()
            .map(|window| Counted { from: window.from, streams: window.streams })
            .collect();
        let mut watch = Watch::default();
        for index in 0..windows.len() {
            let past = index.saturating_sub(MEMORY as usize);
            // Counts that do not fit their reference are named in the log by whoever raises alarms.
            let Ok(reading) = watch.read(&references, &windows[past..=index]) else { continue };
            if index < unshown {
                continue;
            }
            let kept =
                reading.streams.into_iter().filter(|stream| only.is_none_or(|only| *only == stream.name));
            shown.push(DriftWindow {
                device: device.id.to_string(),
                device_name: device.name.clone(),
                site: device.site.to_string(),
                bundle: bundle.sha256.to_string(),
                version: bundle.manifest.version.to_string(),
                from: reading.from.into(),
                to: reading.to.into(),
                n: reading.rows,
                streams: kept.map(StreamWindow::from).collect(),
            });
        }
    }
    shown.sort_by(|a, b| {
        (&a.site, &a.device_name, &a.device, a.from).cmp(&(&b.site, &b.device_name, &b.device, b.from))
    });
    (streams, shown)
}
