//! One look over all devices: how many there are, and what answers where.

use std::collections::BTreeMap;

use muster_protocol::ids::{BundlePath, DeviceId, Digest, ModelName, SiteName};

use super::parts::Spread;
use super::problem::Answer;
use super::sight::Sight;
use crate::lookout::visible;
use crate::orders::fitness;
use crate::rollout::filter::Traits;
use crate::store::glances::{self, Headcount, Place};
use crate::store::{Control, LIMIT_MAX, Page, seats};

#[derive(Debug, Default)]
pub(super) struct Survey {
    /// By bundle.
    pub(super) spread: Spread,
    /// By bundle and site.
    pub(super) sites: BTreeMap<Digest, BTreeMap<SiteName, u64>>,
    pub(super) models: BTreeMap<ModelName, BTreeMap<(BundlePath, Digest), u64>>,
}

impl Survey {
    pub(super) async fn of(db: &mut Control) -> Answer<Self> {
        Self::with(db, &Sight::All).await
    }

    /// What answers on the devices that are the caller's to see.
    pub(super) async fn with(db: &mut Control, sight: &Sight) -> Answer<Self> {
        let sites = visible(db, sight).await?;
        let mut survey = Self::default();
        for Place { bundle, path, site, slots } in glances::places(db, sites.as_ref()).await? {
            *survey.spread.entry(bundle).or_default() += slots;
            *survey.sites.entry(bundle).or_default().entry(site).or_default() += slots;
            let model = survey.models.entry(path.model().clone()).or_default();
            *model.entry((path, bundle)).or_default() += slots;
        }
        Ok(survey)
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

pub(super) async fn headcount(db: &mut Control, sight: &Sight) -> Answer<Headcount> {
    let sites = visible(db, sight).await?;
    Ok(glances::headcount(db, sites.as_ref()).await?)
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
