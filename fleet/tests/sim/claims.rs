//! Which of the rollouts of a slot a device belongs to, as the server works it out before it asks the engine.
//!
//! Written anew here, from the rules and not from the server's code: of two rollouts the higher priority goes first, of
//! equals the newer replaces the older; one that ended otherwise than well gives its devices up.

use std::collections::BTreeSet;

use muster_fleet::rollout::filter::Traits;
use muster_fleet::rollout::{Claim, Phase, Progress};
use muster_protocol::ids::DeviceId;

use crate::fleet::{Known, Saved};

pub(crate) fn claim(rollouts: &[Saved], index: usize, id: &DeviceId, known: &Known) -> Claim {
    let own = &rollouts[index].rollout;
    let mut claim = Claim::Free;
    for (other, saved) in rollouts.iter().enumerate() {
        let theirs = &saved.rollout;
        if other == index || theirs.slot != own.slot || !wants(saved, id, known) {
            continue;
        }
        let rollout = theirs.id.clone();
        let newer = other > index;
        let before = if newer {
            theirs.plan.priority >= own.plan.priority
        } else {
            theirs.plan.priority > own.plan.priority
        };
        if !before {
            continue;
        }
        match &theirs.phase {
            Phase::Running { .. } | Phase::Paused { .. } | Phase::Held { .. } | Phase::Completed { .. }
                if newer =>
            {
                return Claim::Superseded { rollout };
            }
            Phase::Running { .. }
            | Phase::Paused { .. }
            | Phase::Held { .. }
            | Phase::RollingBack { .. }
            | Phase::Aborting { .. } => claim = Claim::Behind { rollout },
            Phase::Completed { .. }
            | Phase::Proposed { .. }
            | Phase::Scheduled { .. }
            | Phase::RolledBack { .. }
            | Phase::Aborted { .. }
            | Phase::Superseded { .. } => {}
        }
    }
    claim
}

fn wants(saved: &Saved, id: &DeviceId, known: &Known) -> bool {
    if let Some(member) = saved.members.get(id) {
        return !matches!(member.progress, Progress::Excluded { .. } | Progress::Returned { .. });
    }
    let hardware = BTreeSet::from([known.hardware.clone()]);
    let (name, site, tags) = (known.name.as_str(), &known.site, &known.tags);
    saved.rollout.plan.selector.matches(&Traits { id, name, site, hardware: &hardware, agent: None, tags })
}
