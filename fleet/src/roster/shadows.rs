//! How often each box answered otherwise than the bundle before would have, or the other way round, for the gate.
//!
//! Which of the two answered does not matter to the question: the bundle under test counts where it waits in the shadow of the
//! one before, and the one before where it is asked beside it after the switch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_protocol::ids::{DeviceId, Digest};

use super::Result;
use crate::gate::Shadow;
use crate::rollout::{Members, Rollout};
use crate::store::{Telemetry, shadows};

/// Of members that compared anything since the rollout began; of nobody where no stage's gate asks for it.
pub(super) async fn shadows(
    telemetry: &mut Telemetry,
    rollout: &Rollout,
    members: &Members,
    devices: &[&DeviceId],
) -> Result<BTreeMap<DeviceId, Shadow>> {
    let mut shown: BTreeMap<DeviceId, Shadow> = BTreeMap::new();
    if rollout.plan.stages.iter().all(|stage| stage.gate.shadow_disagreement_max.is_none()) {
        return Ok(shown);
    }
    let (slot, under_test) = (&rollout.slot, &rollout.bundle.sha256);
    let since = rollout.shown_since().floor_to(Duration::from_hours(24));
    for (before, devices) in before(rollout, members, devices) {
        let filter = shadows::ShadowFilter { slot, bundles: (under_test, &before), devices: &devices, since };
        for (device, compared) in shadows::compared(telemetry, filter).await? {
            let shadow = shown.entry(device).or_default();
            shadow.n = shadow.n.saturating_add(compared.n);
            shadow.disagreed = shadow.disagreed.saturating_add(compared.differed);
        }
    }
    Ok(shown)
}

/// The bundles that ran before the one under test, with the devices on which they did: what a device came from, or a
/// stepping stone on its way.
fn before<'a>(
    rollout: &Rollout,
    members: &Members,
    devices: &[&'a DeviceId],
) -> BTreeMap<Digest, Vec<&'a DeviceId>> {
    let mut before: BTreeMap<Digest, Vec<&DeviceId>> = BTreeMap::new();
    for device in devices {
        let Some(asked) = members.get(*device).and_then(|member| member.progress.asked()) else { continue };
        let stones = rollout.plan.stepping_stones.iter().map(|stone| &stone.via);
        let ran: BTreeSet<Digest> = asked.from.iter().chain(stones).map(|bundle| bundle.sha256).collect();
        for bundle in ran.into_iter().filter(|bundle| *bundle != rollout.bundle.sha256) {
            before.entry(bundle).or_default().push(device);
        }
    }
    before
}
