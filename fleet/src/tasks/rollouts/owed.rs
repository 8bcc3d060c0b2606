//! Orders that the engine's answer demands and that could not be made when it was saved, because the catalogue had expired
//! or did not list the bundle. What is owed shows in the view: the device's wish is still that of before.

use muster_protocol::message::up::BundleRef;
use muster_protocol::trust::Consent;

use crate::rollout::{Asked, Assignment, DeviceView, Moment, Phase, Progress, Rollout};
use crate::roster::Watch;

/// Orders tried in one look; the rest follow in the next.
const TRIED_MAX: usize = 100;

/// To be asked when the view is up to date: right after a save it is not.
pub(super) fn owed(watch: &Watch) -> Vec<Assignment> {
    let members = watch.members.iter().filter_map(|(id, member)| {
        let device = watch.view.devices.get(id)?;
        let (bundle, permit) = missing(&watch.rollout, &member.progress, device)?;
        // A stop is final for whom it found without an order, too.
        let is_stopped = !hands_out(&watch.rollout.phase)
            || watch.view.freezes.iter().any(|freeze| freeze.covers(&device.site));
        if is_stopped && !matches!(member.progress, Progress::Returning { .. }) {
            return None;
        }
        let rules = watch.view.sites.get(&device.site).map(|site| &site.rules);
        let consent = match permit {
            // Nobody is asked whether a box may go back.
            Moment::Now if bundle.as_ref() != Some(&watch.rollout.bundle) => Consent::NotNeeded,
            Moment::Now | Moment::Hold | Moment::Until(_) => {
                rules.map(|rules| rules.consent).unwrap_or_default()
            }
        };
        Some(Assignment { device: id.clone(), bundle, permit, consent })
    });
    members.take(TRIED_MAX).collect()
}

fn hands_out(phase: &Phase) -> bool {
    matches!(phase, Phase::Running { .. } | Phase::Completed { .. })
}

fn missing(
    rollout: &Rollout,
    progress: &Progress,
    device: &DeviceView,
) -> Option<(Option<BundleRef>, Moment)> {
    let asked = |asked: &Asked, permit| {
        let target = asked.via.clone().unwrap_or_else(|| rollout.bundle.clone());
        let is_before = device.wish == asked.from && device.wish.as_ref() != Some(&target);
        is_before.then_some((Some(target), permit))
    };
    match progress {
        Progress::Returning { to, .. }
            if device.wish.as_ref() == Some(&rollout.bundle) && *to != device.wish =>
        {
            Some((to.clone(), Moment::Now))
        }
        Progress::Offered { asked: told } | Progress::Ready { asked: told, .. } => asked(told, Moment::Hold),
        Progress::Permitted { asked: told, until, .. } => {
            asked(told, until.map_or(Moment::Now, Moment::Until))
        }
        Progress::Waiting
        | Progress::Excluded { .. }
        | Progress::Activated { .. }
        | Progress::Baked { .. }
        | Progress::Failed { .. }
        | Progress::Reverted { .. }
        | Progress::Returning { .. }
        | Progress::Returned { .. } => None,
    }
}
