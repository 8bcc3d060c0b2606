//! Where devices stand in the rollouts that are open: the answer to why one of them does not move.

use std::collections::BTreeMap;

use muster_protocol::ids::DeviceId;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::App;
use super::super::sight::Sight;
use super::super::time::Time;
use crate::rollout::explain::Explainer;

/// Members of a rollout up to which a list tells it of each of its devices; beyond, the device's own page does.
pub(super) const LISTED_MAX: usize = 10_000;

/// Where a device stands in an open rollout.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = DeviceInRollout)]
pub(super) struct InRollout {
    rollout: String,
    model: String,
    version: String,
    stage: String,
    /// As in the rollout's own list of devices.
    state: &'static str,
    code: &'static str,
    sentence: String,
    /// What happens next, or what a person can do.
    next: String,
    since: Option<Time>,
}

/// Of each device what the open rollouts say that are the caller's to see, unless they are done with it.
pub(super) fn told<'a>(
    app: &App,
    sight: &Sight,
    devices: &(impl Iterator<Item = &'a DeviceId> + Clone),
    members_max: usize,
) -> BTreeMap<DeviceId, Vec<InRollout>> {
    let now = app.fleet.clocks.world.now();
    let mut told: BTreeMap<DeviceId, Vec<InRollout>> = BTreeMap::new();
    for shared in app.fleet.board.hanging() {
        let rollout = &shared.rollout;
        let is_told = rollout.phase.is_open() && shared.members.len() <= members_max;
        if !is_told || !sight.model(&rollout.model) {
            continue;
        }
        let explainer = Explainer::new(rollout, &shared.members, &shared.view, now);
        for said in devices.clone().filter_map(|device| explainer.of(device)) {
            if said.state == "done" {
                continue;
            }
            let stage = rollout.plan.stages.get(said.stage);
            told.entry(said.device).or_default().push(InRollout {
                rollout: rollout.id.to_string(),
                model: rollout.model.to_string(),
                version: rollout.bundle.path.version().to_string(),
                stage: stage.map_or_else(String::new, |stage| stage.name.clone()),
                state: said.state,
                code: said.code,
                sentence: said.sentence,
                next: said.next,
                since: said.since.map(|since| app.real(since)),
            });
        }
    }
    told
}
