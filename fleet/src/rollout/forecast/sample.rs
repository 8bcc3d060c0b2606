//! Fewer devices that stand for all: as many of each site and kind as their share, the plan's numbers scaled with them.

use std::collections::BTreeMap;

use muster_protocol::ids::{DeviceId, SiteName};

use super::super::draw::draw;
use super::super::plan::{Plan, Size};
use super::super::view::FleetView;
use super::{DEVICES_MAX, Intent, SiteForecast};
use crate::gate::Stratum;

/// Devices that are simulated as they are; more are sampled down to the same work.
const WHOLE: usize = 300;

#[derive(Debug)]
pub(super) struct Sample {
    pub cohort: usize,
    pub view: FleetView,
    pub plan: Plan,
    /// Devices that each simulated device of a stage stands for.
    pub weights: Vec<f64>,
    pub sites: Vec<SiteForecast>,
}

impl Sample {
    pub(super) fn of(intent: &Intent<'_>) -> Self {
        let mut strata: BTreeMap<Stratum, Vec<&DeviceId>> = BTreeMap::new();
        let mut lacking: BTreeMap<_, u64> = BTreeMap::new();
        for (id, device) in &intent.view.devices {
            if intent.plan.selector.matches(&device.traits(id)) {
                strata.entry(device.stratum()).or_default().push(id);
                let lacks = u64::from(device.current.as_ref() != Some(intent.bundle));
                *lacking.entry(SiteName::clone(&device.site)).or_default() += lacks;
            }
        }
        let cohort: usize = strata.values().map(Vec::len).sum();
        let most = WHOLE.min(DEVICES_MAX);
        let mut chosen: Vec<&DeviceId> = Vec::new();
        for ids in strata.values_mut() {
            ids.sort_by_key(|id| draw(&intent.bundle.sha256, id));
            // At least one of each kind, as long as there are fewer kinds than places.
            let part = if cohort <= most { ids.len() } else { (ids.len() * most / cohort).max(1) };
            chosen.extend(ids.iter().take(part));
        }
        chosen.truncate(DEVICES_MAX);
        let devices = chosen
            .iter()
            .filter_map(|id| Some(((*id).clone(), intent.view.devices.get(*id)?.clone())))
            .collect::<BTreeMap<_, _>>();
        let (plan, weights) = scaled(intent.plan, cohort, devices.len());
        let sites = lacking
            .into_iter()
            .map(|(site, devices)| SiteForecast {
                site,
                devices,
                bytes: devices.saturating_mul(intent.bundle_bytes),
            })
            .collect();
        let view = FleetView {
            devices,
            sites: intent.view.sites.clone(),
            freezes: intent.view.freezes.clone(),
            bundle: intent.view.bundle.clone(),
            unheard: false,
        };
        Self { cohort, view, plan, weights, sites }
    }
}

/// Counted stages keep their number, because few devices decide there; caps and rates shrink with the fleet.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of devices, scaled by their ratio"
)]
fn scaled(plan: &Plan, cohort: usize, simulated: usize) -> (Plan, Vec<f64>) {
    let mut small = plan.clone();
    let ratio = simulated as f64 / cohort.max(1) as f64;
    let scale = |n: u32| ((f64::from(n) * ratio).ceil() as u32).max(1);
    if simulated < cohort {
        small.in_flight_max = scale(plan.in_flight_max);
        small.rate_per_hour_max = plan.rate_per_hour_max.map(scale);
        for stage in &mut small.stages {
            if let Size::Count(count) = &mut stage.size {
                *count = (*count).min((simulated / 2).max(1) as u32);
            }
            stage.exposure_device_hours_max = stage.exposure_device_hours_max.map(|hours| hours * ratio);
        }
    }
    let alone = |plan: &Plan, all: usize| {
        let mut before = 0;
        plan.targets(all)
            .into_iter()
            .map(|reaches| {
                let own = reaches - before;
                before = reaches;
                own
            })
            .collect::<Vec<_>>()
    };
    let weights = alone(plan, cohort)
        .into_iter()
        .zip(alone(&small, simulated))
        .map(|(real, own)| if own == 0 { ratio.recip() } else { real as f64 / own as f64 })
        .collect();
    (small, weights)
}
