//! A wish to retrain is decided on and recorded: as a run, or as a refusal with its reason.

use muster_protocol::ids::{IncidentId, ModelName, RunId, TriggerId};
use muster_protocol::time::Timestamp;

use super::super::TaskError;
use super::{now, open_of_model};
use crate::drift::{Incident, Kind};
use crate::retrain::{Decision, Policy, Run, RunState, Situation, Trigger, TriggerOutcome, Why, decide};
use crate::rollout::Cause;
use crate::store::log::{Actor, Moment, NewEntry};
use crate::store::{Control, ControlTx, NewestFirst, Page, StoreError, incidents, log, runs, triggers};

/// Runs of a model that a decision looks back on.
const HISTORY: u32 = 100;
/// Triggers of a model among which the same one is looked for.
const TRIGGERS_LOOKED: u32 = 100;
/// Incidents of a model looked at in one state.
const INCIDENTS_LOOKED: u32 = 200;

/// A wish to retrain.
#[derive(Debug)]
pub struct Asked<'a> {
    pub model: &'a ModelName,
    pub why: Why,
    pub policy: Option<&'a Policy>,
    /// The code that the same wish was refused with before, by somebody who asks all the time.
    pub refused_before: Option<&'a str>,
    /// Rows that a run would have to learn from that no run had; `None` where nobody counts them.
    pub new_rows: Option<u64>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Proposed {
    Run {
        trigger: TriggerId,
        run: RunId,
    },
    Refused {
        cause: Cause,
    },
    /// For the same reason as last time; nothing was recorded again.
    RefusedAsBefore,
}

/// Decides on a trigger and records it, run or refusal, in the caller's transaction.
pub async fn propose(tx: &mut ControlTx, asked: Asked<'_>, moment: Moment) -> Result<Proposed, TaskError> {
    let Asked { model, why, policy, refused_before, new_rows } = asked;
    let history = runs::list::<Run>(tx, Some(model), None, &Page::first(HISTORY)).await?;
    let history: Vec<Run> = history.into_iter().map(|loaded| loaded.document).collect();
    let around = Situation {
        runs: &history,
        rollout: open_of_model(tx, model).await?,
        bad_data: bad_data(tx, model).await?,
        new_rows,
    };
    match decide(policy, &why, &around, moment.world_at) {
        Decision::Refuse(cause) if refused_before == Some(cause.code.as_str()) => {
            Ok(Proposed::RefusedAsBefore)
        }
        Decision::Refuse(cause) => {
            if !count(tx, model, &why, &cause, moment.world_at).await? {
                let sentence = format!("{model}: no retraining: {}", cause.sentence);
                let outcome = TriggerOutcome::Refused { cause: cause.clone() };
                let trigger = trigger(model, why, outcome, moment)?;
                record(tx, &trigger, ("trigger.refused", sentence), moment).await?;
            }
            Ok(Proposed::Refused { cause })
        }
        Decision::Run { not_before } => {
            let run = RunId::mint(crate::mint::random()?);
            let trigger = trigger(model, why, TriggerOutcome::Run { run: run.clone() }, moment)?;
            let approval = policy.map(|policy| policy.approval).unwrap_or_default();
            let new = Run::new(run.clone(), &trigger, not_before, approval, now(moment));
            let columns = runs::RunColumns { state: new.state.name(), lease: None };
            runs::create(tx, &new.id, model, new.created, columns, &new).await?;
            record(tx, &trigger, ("trigger.accepted", accepted(&new)), moment).await?;
            Ok(Proposed::Run { trigger: trigger.id, run })
        }
    }
}

fn accepted(run: &Run) -> String {
    let model = &run.model;
    match &run.state {
        RunState::Collecting { until } => {
            format!("{model}: retraining when enough of the new world was seen, at {until}")
        }
        RunState::Queued { .. }
        | RunState::Claimed { .. }
        | RunState::Candidate { .. }
        | RunState::Published { .. }
        | RunState::Rejected { .. }
        | RunState::Failed { .. }
        | RunState::Cancelled { .. } => format!("{model}: retraining waits for a builder"),
    }
}

fn trigger(
    model: &ModelName,
    why: Why,
    outcome: TriggerOutcome,
    moment: Moment,
) -> Result<Trigger, TaskError> {
    let id = match why.id() {
        Some(id) => id,
        None => TriggerId::mint(crate::mint::random()?),
    };
    Ok(Trigger { id, model: model.clone(), at: moment.world_at, why, outcome, times: 1, last: None })
}

async fn record(
    tx: &mut ControlTx,
    trigger: &Trigger,
    (kind, sentence): (&'static str, String),
    moment: Moment,
) -> Result<(), TaskError> {
    let outcome = match &trigger.outcome {
        TriggerOutcome::Run { .. } => triggers::Outcome::Run,
        TriggerOutcome::Refused { .. } => triggers::Outcome::Refused,
    };
    triggers::add(tx, &trigger.id, &trigger.model, trigger.at, outcome, trigger).await?;
    let actor = match trigger.why.author() {
        Some(by) => Actor::Person(by.to_owned()),
        None => Actor::Policy(trigger.model.clone()),
    };
    let subject = trigger.id.to_string();
    log::append(tx, &NewEntry { when: moment, kind, subject, sentence: sentence.into(), actor }).await?;
    Ok(())
}

/// A refusal that was given before is counted where it stands: a storm of alarms is one row and one log entry.
async fn count(
    tx: &mut ControlTx,
    model: &ModelName,
    why: &Why,
    cause: &Cause,
    world_now: Timestamp,
) -> Result<bool, StoreError> {
    let page: Page<NewestFirst> = Page::first(TRIGGERS_LOOKED);
    for mut known in triggers::list::<Trigger>(tx, Some(model), &page).await? {
        if known.count(why, cause, world_now) {
            triggers::save(tx, &known.id, &known).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// An open incident of the model that says its data are wrong.
async fn bad_data(db: &mut Control, model: &ModelName) -> Result<Option<IncidentId>, StoreError> {
    for state in ["open", "acknowledged"] {
        let page = Page::first(INCIDENTS_LOOKED);
        let found = incidents::list::<Incident>(db, Some(model), Some(state), &page).await?;
        let bad = found.into_iter().find(|incident| match incident.document.kind {
            Kind::DataQuality | Kind::DeviceFault => true,
            Kind::NewRegime
            | Kind::Performance
            | Kind::SiteDiffers
            | Kind::KnownSeason
            | Kind::SiteChange => false,
        });
        if let Some(bad) = bad {
            return Ok(Some(bad.document.id));
        }
    }
    Ok(None)
}
