//! What else is on its way to the devices of a new rollout.

use crate::http::App;
use crate::rollout::claims::{Contender, wants};
use crate::rollout::{FleetView, Rollout};

/// One sentence for each open rollout of the same model and slot that wants devices of `ours`; whose turn it is then,
/// [`crate::rollout::claims`] decides.
pub(super) fn doubts(app: &App, ours: &Rollout, view: &FleetView) -> Vec<String> {
    let hanging = app.fleet.board.hanging();
    let others = hanging.iter().filter(|shared| {
        let theirs = &shared.rollout;
        theirs.phase.is_open() && theirs.slot == ours.slot && theirs.model == ours.model
    });
    let said = others.filter_map(|shared| {
        let (theirs, members) = (&shared.rollout, &shared.members);
        let wanted = view.devices.iter().filter(|(id, device)| {
            ours.plan.selector.matches(&device.traits(id))
                && wants(&Contender { rollout: theirs, members }, id, device)
        });
        let devices = match wanted.count() {
            0 => return None,
            1 => "1 of these devices".to_owned(),
            many => format!("{many} of these devices"),
        };
        let (id, bundle) = (&theirs.id, &theirs.bundle.path);
        Some(if ours.plan.priority >= theirs.plan.priority {
            format!("rollout {id} of {bundle} is open and wants {devices}: this one takes them over")
        } else {
            format!("rollout {id} of {bundle} is open and goes first by its priority: {devices} wait for it")
        })
    });
    said.collect()
}
