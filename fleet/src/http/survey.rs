//! One look over all devices: what runs where, and who needs a person.

use std::collections::BTreeMap;

use muster_protocol::ids::{BundlePath, DeviceId, Digest, ModelName};
use muster_protocol::message::{Phase, Presence};

use super::parts::Spread;
use super::problem::Answer;
use super::sight::Sight;
use crate::enrolment::StandingName;
use crate::orders::fitness;
use crate::rollout::filter::Traits;
use crate::store::devices::{self, Device, DeviceFilter, DeviceKey};
use crate::store::{Control, LIMIT_MAX, Page, identities, seats};

/// Devices read at once.
const STEP: u32 = 1000;
/// Devices looked at in one request.
pub(super) const DEVICES_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) total: u64,
    pub(super) online: u64,
    /// Devices on which some slot answers.
    pub(super) running: u64,
    /// Devices on which some slot cannot have its wish, or that refuse their order.
    pub(super) failing: u64,
    pub(super) spread: Spread,
    pub(super) models: BTreeMap<ModelName, BTreeMap<(BundlePath, Digest), u64>>,
}

impl Survey {
    pub(super) async fn of(db: &mut Control) -> Answer<Self> {
        Self::with(db, &Sight::All, |_| ()).await
    }

    /// Looks over all devices that are the caller's to see, and shows each.
    pub(super) async fn with(
        db: &mut Control,
        sight: &Sight,
        mut see: impl FnMut(&Device) + Send,
    ) -> Answer<Self> {
        let mut survey = Self::default();
        each(db, |device| {
            if sight.site(&device.site) {
                survey.add(device);
                see(device);
            }
        })
        .await?;
        Ok(survey)
    }

    fn add(&mut self, device: &Device) {
        self.total += 1;
        self.online += u64::from(device.presence == Presence::Online);
        let Some(state) = &device.state else { return };
        self.running += u64::from(state.slots.iter().any(|slot| slot.current.is_some()));
        let failed =
            state.slots.iter().any(|slot| matches!(slot.phase, Phase::Failed { .. } | Phase::Stopped { .. }));
        self.failing += u64::from(failed || state.refusal.is_some());
        for running in state.slots.iter().filter_map(|slot| slot.current.as_ref()) {
            let bundle = &running.bundle;
            *self.spread.entry(bundle.sha256).or_default() += 1;
            let model = self.models.entry(bundle.path.model().clone()).or_default();
            *model.entry((bundle.path.clone(), bundle.sha256)).or_default() += 1;
        }
    }

    /// How many devices answer with some version of a model.
    pub(super) fn running(&self, model: &ModelName) -> u64 {
        self.models.get(model).into_iter().flat_map(BTreeMap::values).sum()
    }

    /// What most devices answer with for a model: who has to be beaten.
    pub(super) fn champion(&self, model: &ModelName) -> Option<(&BundlePath, &Digest)> {
        let bundles = self.models.get(model)?;
        bundles.iter().max_by_key(|(_, devices)| **devices).map(|((path, sha256), _)| (path, sha256))
    }
}

/// Shows every member, by site and name. Who was revoked belongs to no cohort and is missed by nobody.
pub(super) async fn each(db: &mut Control, mut see: impl FnMut(&Device) + Send) -> Answer<()> {
    let mut members = identities::in_state(db, StandingName::Active).await?;
    members.extend(identities::in_state(db, StandingName::Quarantined).await?);
    let mut page = Page::<DeviceKey>::first(STEP);
    let mut seen = 0;
    while seen < DEVICES_MAX {
        let devices = devices::list(db, &DeviceFilter::default(), &page).await?;
        devices.iter().filter(|device| members.contains(&device.id)).for_each(&mut see);
        seen += devices.len();
        match devices.last() {
            Some(last) if devices.len() == STEP as usize => page = Page::after(last.key(), STEP),
            Some(_) | None => break,
        }
    }
    Ok(())
}

/// Ids and names of the members that match, by id.
pub(super) async fn matching(
    db: &mut Control,
    matches: impl Fn(&Traits<'_>) -> bool + Send,
) -> Answer<Vec<(DeviceId, String)>> {
    let mut found = Vec::new();
    let mut page = Page::first(LIMIT_MAX);
    loop {
        let seats = seats::list(db, &page).await?;
        let Some(last) = seats.last().map(|seat| seat.device.clone()) else { return Ok(found) };
        page = Page::after(last, LIMIT_MAX);
        for seat in seats {
            let fitness = fitness(&seat.agent_version, &seat.capabilities);
            let agent = fitness.as_ref().map(|fitness| fitness.agent);
            let traits = Traits {
                id: &seat.device,
                name: &seat.name,
                site: &seat.site,
                hardware: &fitness.map(|fitness| fitness.hardware).unwrap_or_default(),
                agent,
                tags: &seat.tags,
            };
            if matches(&traits) {
                found.push((seat.device.clone(), seat.name.clone()));
            }
        }
    }
}
