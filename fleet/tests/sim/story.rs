//! A look in words, for those who read a run.

use std::collections::BTreeMap;

use muster_fleet::rollout::{Phase, Progress};
use muster_protocol::ids::DeviceId;

use crate::boxes::EdgeBox;
use crate::invariants::Look;

/// What changed, in few lines: devices that did the same are told together.
pub(crate) fn of(look: &Look<'_>, boxes: &[EdgeBox], numbers: &BTreeMap<DeviceId, usize>) -> Vec<String> {
    let name = look.after.bundle.path.version().to_string();
    let mut groups: BTreeMap<(usize, &str), (String, Vec<usize>)> = BTreeMap::new();
    for (id, member) in &look.answer.members {
        let was = look.members_before.get(id).map_or("", |member| member.progress.name());
        let progress = &member.progress;
        if was == progress.name() || (was.is_empty() && *progress == Progress::Waiting) {
            continue;
        }
        let text = match progress {
            Progress::Failed { cause, .. }
            | Progress::Reverted { cause, .. }
            | Progress::Excluded { cause, .. } => {
                format!("{} ({})", progress.name(), cause.sentence)
            }
            _ => progress.name().to_owned(),
        };
        let rank = RANKS.iter().position(|rank| *rank == progress.name()).unwrap_or(RANKS.len());
        let group = groups.entry((rank, progress.name())).or_insert_with(|| (text, Vec::new()));
        if let Some(&number) = numbers.get(id) {
            group.1.push(number);
        }
    }
    let mut lines: Vec<String> = Vec::new();
    for (_, (text, mut numbers)) in groups {
        numbers.sort_unstable();
        let names: Vec<&str> = numbers.iter().take(4).map(|&number| boxes[number].name.as_str()).collect();
        let more = numbers.len().saturating_sub(4);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        lines.push(format!("{name}: {}{more}: {text}", names.join(", ")));
    }
    if look.answer.transition.is_some() {
        lines.push(format!("{name}: {}", phase(look.after)));
    }
    lines
}

const RANKS: [&str; 8] =
    ["failed", "reverted", "excluded", "done", "baking", "ready", "offered", "permitted"];

/// The phase with what it knows.
pub(crate) fn phase(rollout: &muster_fleet::rollout::Rollout) -> String {
    let stage = |stage: usize| rollout.plan.stages.get(stage).map_or("", |stage| stage.name.as_str());
    match &rollout.phase {
        Phase::Proposed { .. } => "PROPOSED".to_owned(),
        Phase::Scheduled { .. } => "SCHEDULED".to_owned(),
        Phase::Running { stage: s, .. } => format!("RUNNING, stage {}", stage(*s)),
        Phase::Paused { stage: s, reason, .. } => format!("PAUSED at {}: {reason}", stage(*s)),
        Phase::Held { stage: s, cause, .. } => format!("HELD at {}: {}", stage(*s), cause.sentence),
        Phase::RollingBack { stage: s, cause, .. } => {
            format!("ROLLING BACK from {}: {}", stage(*s), cause.sentence)
        }
        Phase::RolledBack { stage: s, cause, .. } => {
            format!("ROLLED BACK from {}: {}", stage(*s), cause.sentence)
        }
        Phase::Aborting { stage: s, reason, .. } => format!("ABORTING at {}: {reason}", stage(*s)),
        Phase::Aborted { stage: s, reason, .. } => format!("ABORTED at {}: {reason}", stage(*s)),
        Phase::Superseded { .. } => "SUPERSEDED".to_owned(),
        Phase::Completed { .. } => "COMPLETED".to_owned(),
    }
}
