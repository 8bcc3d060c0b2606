//! What the engine said, in sentences.

use std::collections::BTreeSet;

use muster_protocol::ids::DeviceId;

use crate::rollout::{Advance, Assignment, Phase, Rollout, Transition};

/// The answer as log entries for people. What it assigns is said of those alone whose orders were made.
pub(super) fn said(
    rollout: &Rollout,
    answer: &Advance,
    made: &BTreeSet<&DeviceId>,
) -> Vec<(&'static str, String)> {
    let version = rollout.bundle.path.version();
    let stage_name = |stage: usize| rollout.plan.stages.get(stage).map_or("", |stage| stage.name.as_str());
    let ways_back = match rollout.phase {
        Phase::Aborting { .. } | Phase::Aborted { .. } => Some("told to stay"),
        Phase::RollingBack { .. } | Phase::RolledBack { .. } => Some("told to go back"),
        Phase::Proposed { .. }
        | Phase::Scheduled { .. }
        | Phase::Running { .. }
        | Phase::Paused { .. }
        | Phase::Held { .. }
        | Phase::Superseded { .. }
        | Phase::Completed { .. } => None,
    };
    let ordered = answer.assign.iter().filter(|assignment| made.contains(&assignment.device));
    let (given, back): (Vec<&Assignment>, Vec<&Assignment>) = ordered.partition(|assignment| {
        ways_back.is_none() && assignment.bundle.as_ref().is_some_and(|to| rollout.leads_over(to))
    });
    let mut said = Vec::new();
    if !given.is_empty() {
        let devices = crate::gate::devices(given.len());
        said.push(("rollout.handed_out", format!("{} {version}: handed to {devices}", rollout.model)));
    }
    if !back.is_empty() {
        let devices = crate::gate::devices(back.len());
        let told = ways_back.unwrap_or("told to go back");
        said.push(("rollout.handed_out", format!("{} {version}: {devices} {told}", rollout.model)));
    }
    match &answer.transition {
        None => {}
        Some(Transition::NextStage { .. }) => {
            let stage = rollout.phase.stage().unwrap_or(0);
            let passed = stage_name(stage.saturating_sub(1));
            said.push((
                "rollout.stage_passed",
                format!(
                    "{} {version}: stage '{passed}' passed its gate, '{}' opens",
                    rollout.model,
                    stage_name(stage)
                ),
            ));
        }
        Some(Transition::Complete { .. }) => {
            said.push((
                "rollout.completed",
                format!("{} {version}: every stage passed its gate", rollout.model),
            ));
        }
        Some(Transition::Hold { cause, .. }) => {
            said.push(("rollout.held", format!("{} {version}: {}", rollout.model, cause.sentence)));
        }
        Some(Transition::RollBack { cause, .. }) => {
            let stage = stage_name(rollout.phase.stage().unwrap_or(0));
            said.push((
                "rollout.rolling_back",
                format!("{} {version}: stopped at '{stage}': {}", rollout.model, cause.sentence),
            ));
        }
        Some(Transition::Begin { .. }) => {
            said.push(("rollout.begun", format!("{} {version}: its time has come", rollout.model)));
        }
        Some(Transition::Aborted { .. }) => {
            said.push(("rollout.aborted", format!("{} {version}: aborted", rollout.model)));
        }
        Some(Transition::Superseded { by, .. }) => {
            said.push(("rollout.superseded", format!("{} {version}: {by} took its place", rollout.model)));
        }
        Some(Transition::RolledBack { .. }) => {
            said.push(("rollout.rolled_back", format!("{} {version}: rolled back", rollout.model)));
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use muster_protocol::ids::{Digest, RolloutId};
    use muster_protocol::message::up::BundleRef;
    use muster_protocol::time::Timestamp;
    use muster_protocol::trust::Consent;

    use super::*;
    use crate::rollout::plan::{Size, tests::plan};
    use crate::rollout::{Actor, Moment};

    fn bundle(n: u8) -> BundleRef {
        let path = format!("bundles/er-beds/{n}.json").parse().unwrap();
        BundleRef { path, sha256: Digest::of(&[n]) }
    }

    fn device(n: u8) -> DeviceId {
        DeviceId::mint([n; 16])
    }

    #[test]
    fn who_could_not_be_ordered_was_told_nothing() {
        let names = ("er-beds".parse().unwrap(), "er-beds".parse().unwrap());
        let (by, at) = ((Actor::Engine, String::new()), Timestamp::default());
        let plan = plan(&[Size::Percent(100.0)]);
        let rollout = Rollout::start(RolloutId::mint([1; 16]), names, bundle(2), plan, by, at).unwrap();
        let assign = |n: u8, to: u8| {
            let (permit, consent) = (Moment::Now, Consent::NotNeeded);
            Assignment { device: device(n), bundle: Some(bundle(to)), permit, consent }
        };
        let assign = vec![assign(1, 2), assign(2, 2), assign(3, 1), assign(4, 1)];
        let answer = Advance { assign, ..Advance::default() };
        let check = |made: &[u8], expect: &[&str]| {
            let made: Vec<DeviceId> = made.iter().copied().map(device).collect();
            let said = said(&rollout, &answer, &made.iter().collect());
            let sentences: Vec<&str> = said.iter().map(|(_, sentence)| sentence.as_str()).collect();
            assert_eq!(sentences, expect);
        };
        check(&[], &[]);
        check(&[1], &["er-beds 2: handed to 1 device"]);
        check(&[1, 2, 3], &["er-beds 2: handed to 2 devices", "er-beds 2: 1 device told to go back"]);
    }
}
