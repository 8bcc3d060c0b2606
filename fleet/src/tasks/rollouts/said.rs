//! What the engine said, in sentences.

use crate::rollout::{Advance, Phase, Rollout, Transition};

/// The answer as log entries for people.
pub(super) fn said(rollout: &Rollout, answer: &Advance) -> Vec<(&'static str, String)> {
    let version = rollout.bundle.path.version();
    let stage_name = |stage: usize| rollout.plan.stages.get(stage).map_or("", |stage| stage.name.as_str());
    let mut said = Vec::new();
    if !answer.assign.is_empty() {
        let devices = crate::gate::devices(answer.assign.len());
        let sentence = match rollout.phase {
            Phase::RollingBack { .. } | Phase::RolledBack { .. } => {
                format!("{} {version}: {devices} told to go back", rollout.model)
            }
            Phase::Aborting { .. } | Phase::Aborted { .. } => {
                format!("{} {version}: {devices} told to stay", rollout.model)
            }
            Phase::Proposed { .. }
            | Phase::Scheduled { .. }
            | Phase::Running { .. }
            | Phase::Paused { .. }
            | Phase::Held { .. }
            | Phase::Superseded { .. }
            | Phase::Completed { .. } => format!("{} {version}: handed to {devices}", rollout.model),
        };
        said.push(("rollout.handed_out", sentence));
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
