//! Why each device is where it is: exactly one code, one sentence and one next step, for every device of the cohort.

use muster_protocol::ids::DeviceId;
use muster_protocol::time::Timestamp;

use super::advance::span;
use super::view::{DeviceView, Doing, FleetView};
use super::{Member, Members, Phase, Progress, Rollout};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub device: DeviceId,
    pub stage: usize,
    /// `waiting`, `offered`, `baking`, `done`, `failed`, `reverted`, `returning` or `returned`.
    pub state: &'static str,
    pub code: &'static str,
    pub sentence: String,
    /// What happens next, or what a person can do.
    pub next: String,
    pub since: Option<Timestamp>,
}

/// Explains every member.
pub fn explain(rollout: &Rollout, members: &Members, view: &FleetView) -> Vec<Explanation> {
    members.iter().map(|(id, member)| one(rollout, id, member, view.devices.get(id))).collect()
}

fn one(rollout: &Rollout, id: &DeviceId, member: &Member, device: Option<&DeviceView>) -> Explanation {
    let said = |state, code, sentence: String, next: String, since| Explanation {
        device: id.clone(),
        stage: member.stage,
        state,
        code,
        sentence,
        next,
        since,
    };
    let online = device.is_some_and(|device| device.online);
    match &member.progress {
        Progress::Waiting => {
            let (code, sentence, next) = waiting(rollout, member, online);
            said("waiting", code, sentence, next, None)
        }
        Progress::Excluded { at, cause } => {
            let next = "nothing, unless that changes".to_owned();
            said("excluded", "excluded", cause.sentence.clone(), next, Some(*at))
        }
        Progress::Offered { asked } | Progress::Ready { asked, .. } | Progress::Permitted { asked, .. } => {
            let (code, sentence, next) = offered(device, online);
            said("offered", code, sentence, next, Some(asked.at))
        }
        Progress::Activated { at, .. } => {
            let bake = rollout.plan.stages.get(member.stage).map_or(0, |stage| stage.bake_s);
            let sentence = format!("runs the new bundle and bakes for {}", span(bake));
            said(
                "baking",
                "baking",
                sentence,
                "counts towards the quorum after its bake".to_owned(),
                Some(*at),
            )
        }
        Progress::Baked { at, .. } => said(
            "done",
            "done",
            "runs the new bundle, proven after its bake".to_owned(),
            "nothing".to_owned(),
            Some(*at),
        ),
        Progress::Failed { at, cause, .. } => said(
            "failed",
            "install_failed",
            format!("could not install it: {}", cause.sentence),
            "keeps running what it had; see the device's events".to_owned(),
            Some(*at),
        ),
        Progress::Reverted { at, .. } => said(
            "reverted",
            "reverted",
            "ran the new bundle and went back by itself".to_owned(),
            "see the device's events".to_owned(),
            Some(*at),
        ),
        Progress::Returning { at, to } => {
            let what =
                to.as_ref().map_or("an empty slot".to_owned(), |bundle| bundle.path.version().to_string());
            let (code, next) = if online {
                ("returning", "proves it with its next state".to_owned())
            } else {
                ("offline", "finds its order when it comes online".to_owned())
            };
            said("returning", code, format!("goes back to {what}"), next, Some(*at))
        }
        Progress::Returned { at } => said(
            "returned",
            "returned",
            "runs what it ran before".to_owned(),
            "nothing".to_owned(),
            Some(*at),
        ),
    }
}

fn waiting(rollout: &Rollout, member: &Member, online: bool) -> (&'static str, String, String) {
    let name =
        |stage: usize| rollout.plan.stages.get(stage).map_or("", |stage| stage.name.as_str()).to_owned();
    match &rollout.phase {
        Phase::Running { stage, .. } if member.stage > *stage => (
            "later_stage",
            format!(
                "belongs to stage '{}'; stage '{}' must pass its gate first",
                name(member.stage),
                name(*stage)
            ),
            "is asked when its stage opens".to_owned(),
        ),
        Phase::Paused { .. } => {
            ("paused", "the rollout is paused".to_owned(), "resume the rollout".to_owned())
        }
        Phase::Held { .. } => ("held", "the rollout is held".to_owned(), "decide on the rollout".to_owned()),
        Phase::RollingBack { .. } | Phase::RolledBack { .. } => {
            ("stopped", "the rollout was rolled back before its turn".to_owned(), "nothing".to_owned())
        }
        Phase::Proposed { .. } => {
            ("proposed", "the rollout waits for approval".to_owned(), "approve the rollout".to_owned())
        }
        Phase::Scheduled { .. } => {
            ("scheduled", "the rollout has not begun".to_owned(), "is asked when its stage opens".to_owned())
        }
        Phase::Superseded { by, .. } => {
            ("superseded", format!("{by} took the rollout's place"), "nothing".to_owned())
        }
        Phase::Aborting { .. } | Phase::Aborted { .. } => {
            ("stopped", "the rollout was aborted before its turn".to_owned(), "nothing".to_owned())
        }
        Phase::Running { .. } | Phase::Completed { .. } if !online => {
            ("offline", "is offline".to_owned(), "is asked when it comes online".to_owned())
        }
        Phase::Running { .. } | Phase::Completed { .. } => (
            "queued",
            "as many devices install at once as the plan allows".to_owned(),
            "is asked next".to_owned(),
        ),
    }
}

fn offered(device: Option<&DeviceView>, online: bool) -> (&'static str, String, String) {
    if !online {
        let next = "goes on where it stopped when it comes online".to_owned();
        return ("offline", "was asked and went offline".to_owned(), next);
    }
    match device.map(|device| &device.doing) {
        Some(Doing::Working { step, .. }) => {
            ("working", step.clone(), "activates it after its self-test".to_owned())
        }
        Some(Doing::Ready { .. }) => (
            "ready",
            "has it, tested, and waits for its moment".to_owned(),
            "switches when it may".to_owned(),
        ),
        Some(Doing::Refusing { cause }) => (
            "order_refused",
            format!("refuses its order: {}", cause.sentence),
            "see the device's events".to_owned(),
        ),
        Some(Doing::Failed { cause, .. }) => {
            ("failing", cause.sentence.clone(), "is counted as failed with the next look".to_owned())
        }
        Some(Doing::Nothing | Doing::Unknown) | None => (
            "asked",
            "was asked and has not answered yet".to_owned(),
            "answers with its next state".to_owned(),
        ),
    }
}
