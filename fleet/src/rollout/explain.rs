//! Why each device is where it is: exactly one code, one sentence and one next step, for every device of the cohort.
//!
//! What keeps a device waiting is asked of the same function that decides whom to ask, with the same facts.

use muster_protocol::ids::DeviceId;
use muster_protocol::message::up::ReadyFor;
use muster_protocol::time::Timestamp;

use super::advance::facts::Facts;
use super::advance::hindrance::exclusion;
use super::advance::look::{Row, rows};
use super::advance::{is_on_its_stone, span};
use super::reason::Code;
use super::view::{Doing, FleetView};
use super::{Asked, Cause, Member, Members, Phase, Progress, Rollout};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub device: DeviceId,
    pub stage: usize,
    /// Its [`Progress::name`].
    pub state: &'static str,
    pub code: &'static str,
    pub sentence: String,
    /// What happens next, or what a person can do.
    pub next: String,
    pub since: Option<Timestamp>,
}

/// What the devices' sentences are told from. It needs all members, also to explain one: they share caps and groups.
#[expect(missing_debug_implementations, reason = "a view over others' data, as large as a fleet")]
pub struct Explainer<'a> {
    rollout: &'a Rollout,
    now: Timestamp,
    rows: Vec<Row<'a>>,
    facts: Facts<'a>,
}

/// Explains every member.
pub fn explain(rollout: &Rollout, members: &Members, view: &FleetView, now: Timestamp) -> Vec<Explanation> {
    Explainer::new(rollout, members, view, now).all()
}

/// A code, a sentence, what happens next, and since when.
type Said = (Code, String, String, Option<Timestamp>);

impl<'a> Explainer<'a> {
    pub fn new(rollout: &'a Rollout, members: &'a Members, view: &'a FleetView, now: Timestamp) -> Self {
        let rows = rows(&rollout.bundle, members, view);
        let facts = Facts::gather(rollout, view, now, &rows);
        Self { rollout, now, rows, facts }
    }

    pub fn all(&self) -> Vec<Explanation> {
        self.rows.iter().filter_map(|row| self.one(row)).collect()
    }

    /// Explains one member; `None` if it is none.
    pub fn of(&self, device: &DeviceId) -> Option<Explanation> {
        let at = self.rows.binary_search_by(|row| row.id.cmp(device)).ok()?;
        self.one(self.rows.get(at)?)
    }

    fn one(&self, row: &Row<'a>) -> Option<Explanation> {
        let member = row.member()?;
        let (code, sentence, next, since) = self.say(row, member);
        let state = member.progress.name();
        let device = row.id.clone();
        Some(Explanation { device, stage: member.stage, state, code: code.as_str(), sentence, next, since })
    }

    fn say(&self, row: &Row<'a>, member: &Member) -> Said {
        match &member.progress {
            Progress::Waiting => self.waiting(row, member),
            Progress::Excluded { at, cause } => excluded(*at, cause),
            Progress::Offered { asked } => {
                let next = "is permitted to switch when it has it and its moment has come";
                self.asked(row, member, asked, next)
            }
            Progress::Ready { since, .. } if !row.is_online() => self.away(*since),
            Progress::Ready { since, .. } => match self.facts.permitting(row) {
                Some(why) => (
                    why.code(),
                    format!("has it, tested; {}", why.sentence(self.now)),
                    why.next().to_owned(),
                    Some(*since),
                ),
                None => (
                    Code::Queued,
                    "has it, tested; nothing hinders it".to_owned(),
                    "is permitted next".to_owned(),
                    Some(*since),
                ),
            },
            Progress::Permitted { asked, .. } => {
                self.asked(row, member, asked, "proves it with its next state")
            }
            Progress::Activated { at, .. } => self.baking(row, member, *at),
            Progress::Baked { at, .. } => (
                Code::Done,
                "runs the new bundle, proven after its bake".to_owned(),
                "nothing".to_owned(),
                Some(*at),
            ),
            Progress::Failed { at, cause, .. } => (
                Code::InstallFailed,
                format!("could not install it: {}", cause.sentence),
                self.after_failure(member),
                Some(*at),
            ),
            Progress::Reverted { at, cause, .. } => (
                Code::Reverted,
                format!("ran the new bundle and left it: {}", cause.sentence),
                "keeps what it ran before; see the device's events".to_owned(),
                Some(*at),
            ),
            Progress::Returning { at, to } => {
                let what = to.as_ref().map_or("an empty slot".to_owned(), |to| to.path.version().to_string());
                let (code, next) = if row.is_online() {
                    (Code::Returning, "proves it with its next state")
                } else {
                    (Code::Offline, "finds its order when it comes online")
                };
                (code, format!("goes back to {what}"), next.to_owned(), Some(*at))
            }
            Progress::Returned { at } => {
                (Code::Returned, "runs what it ran before".to_owned(), "nothing".to_owned(), Some(*at))
            }
        }
    }

    fn waiting(&self, row: &Row<'a>, member: &Member) -> Said {
        if let Some(cause) = exclusion(self.rollout, row, member)
            && self.facts.rollout_stands().is_none()
        {
            let code = code_of(&cause);
            return (code, cause.sentence, "is left out with the next look".to_owned(), None);
        }
        match self.facts.asking(row) {
            Some(why) => {
                let since =
                    (why.code() == Code::Offline).then(|| row.device.map(|device| device.presence_since));
                (why.code(), why.sentence(self.now), why.next().to_owned(), since.flatten())
            }
            None => (Code::Queued, "nothing hinders it".to_owned(), "is asked next".to_owned(), None),
        }
    }

    fn asked(&self, row: &Row<'a>, member: &Member, asked: &Asked, next: &str) -> Said {
        let since = Some(asked.at);
        if !row.is_online() {
            return self.away(asked.at);
        }
        if is_on_its_stone(row, &member.progress) {
            let at = asked.via.as_ref().map(|via| via.path.version().to_string()).unwrap_or_default();
            let next = "is asked for the next version on its way".to_owned();
            return (Code::SteppingStone, format!("runs {at}, a version on its way"), next, since);
        }
        let (code, sentence, next) = match row.device.map(|device| &device.doing) {
            Some(Doing::Working { step, .. }) => (Code::Working, step.clone(), next),
            Some(Doing::Ready { waits_for: ReadyFor::Consent, .. }) => (
                Code::Consent,
                "has it, tested, and waits for somebody at the box to agree".to_owned(),
                "switches when they do",
            ),
            Some(Doing::Ready { waits_for: ReadyFor::Lease, .. }) => (
                Code::Lease,
                "has it, tested; an application at the box says: not now".to_owned(),
                "switches when the application releases it",
            ),
            Some(Doing::Ready { waits_for: ReadyFor::Permit, .. }) => {
                (Code::Permitted, "has it, tested, and may switch".to_owned(), "switches with its next order")
            }
            Some(Doing::Refusing { cause }) => (
                Code::OrderRefused,
                format!("refuses its order: {}", cause.sentence),
                "see the device's events; it fails at its install deadline",
            ),
            Some(Doing::Failed { cause, .. }) => {
                (Code::Failing, cause.sentence.clone(), "is counted as failed with the next look")
            }
            Some(Doing::Nothing | Doing::Unknown) | None => {
                (Code::Asked, "was asked and has not answered yet".to_owned(), "answers with its next state")
            }
        };
        (code, sentence, next.to_owned(), since)
    }

    fn away(&self, since: Timestamp) -> Said {
        let patience = span(self.rollout.plan.patience_s);
        let next = format!("goes on when it comes online; after {patience} away it is asked anew");
        (Code::Offline, "was asked and went offline".to_owned(), next, Some(since))
    }

    fn baking(&self, row: &Row<'a>, member: &Member, at: Timestamp) -> Said {
        let bake = self.rollout.plan.stages.get(member.stage).map_or(0, |stage| stage.bake_s);
        if matches!(self.rollout.phase, Phase::Aborted { .. } | Phase::Superseded { .. }) {
            let next = "keeps it; roll back to take it away".to_owned();
            let code = if row.is_online() { Code::Baking } else { Code::Silent };
            let sentence = "switched to the new bundle before the rollout ended; nobody watches its bake";
            return (code, sentence.to_owned(), next, Some(at));
        }
        if row.is_online() {
            let next = "counts towards the quorum after its bake".to_owned();
            return (
                Code::Baking,
                format!("runs the new bundle and bakes for {}", span(bake)),
                next,
                Some(at),
            );
        }
        let next = "its silence is judged beside that of others; it counts when it is heard again".to_owned();
        (Code::Silent, "switched to the new bundle and went offline".to_owned(), next, Some(at))
    }

    fn after_failure(&self, member: &Member) -> String {
        let may_retry = matches!(
            self.rollout.phase,
            Phase::Running { .. } | Phase::Paused { .. } | Phase::Held { .. } | Phase::Completed { .. }
        );
        if may_retry && member.attempts < self.rollout.plan.attempts_max {
            "keeps what it had; retry asks it again".to_owned()
        } else {
            "keeps what it had; see the device's events".to_owned()
        }
    }
}

fn excluded(at: Timestamp, cause: &Cause) -> Said {
    let code = code_of(cause);
    let for_good = matches!(code, Code::Superseded | Code::Late);
    let next = if for_good { "nothing" } else { "is asked if that changes" };
    (code, cause.sentence.clone(), next.to_owned(), Some(at))
}

/// The code that a cause was made with.
fn code_of(cause: &Cause) -> Code {
    Code::ALL.iter().copied().find(|code| code.as_str() == cause.code).unwrap_or(Code::Excluded)
}
