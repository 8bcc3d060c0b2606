//! Triggers become runs, runs move on with time, and what a run published is rolled out where the policy says so.

mod ask;
mod propose;

use std::collections::BTreeSet;
use std::time::Duration;

use muster_protocol::ids::{ModelName, RolloutId, SlotName};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;

use super::rollouts::newest_of_slot;
use super::{TaskError, Tasks};
use crate::retrain::{self, Policy, RolloutPolicy, Run, RunState};
use crate::rollout::filter::FilterError;
use crate::rollout::journal::{Entry, Input, outcome};
use crate::rollout::{Actor as Starter, Members, Plan, Rollout, Verb};
use crate::store::log::{Actor, Moment, NewEntry};
use crate::store::projects::{self, Of};
use crate::store::{
    Control, ControlTx, LIMIT_MAX, Page, Saved, StoreError, Versioned, journal, log, meta, policies,
    rollouts, runs,
};

pub use ask::Asker;
pub(super) use ask::rows_since;
pub use propose::{Asked, Proposed, propose};

/// A candidate waits for people, who take their time.
const WAITS_FOR_PEOPLE: Duration = Duration::from_hours(1);

/// Looks at every run that may move by itself; answers when time alone may change something.
pub async fn look(tasks: &Tasks) -> Result<Option<Timestamp>, TaskError> {
    let mut look_again: Option<Timestamp> = None;
    let mut published: BTreeSet<ModelName> = BTreeSet::new();
    for state in ["collecting", "claimed", "candidate", "succeeded"] {
        let page = Page::first(LIMIT_MAX);
        let found = runs::list::<Run>(&mut tasks.store.read().await?, None, Some(state), &page).await?;
        for run in found {
            let next = match &run.document.state {
                RunState::Collecting { until } => Some(*until),
                // A lease is real time; the world clock is at least as fast, so this looks early rather than late.
                RunState::Claimed { .. } => Some(tasks.clocks.world.now().plus(retrain::LEASE)),
                RunState::Candidate { .. } => Some(tasks.clocks.world.now().plus(WAITS_FOR_PEOPLE)),
                RunState::Queued { .. }
                | RunState::Published { .. }
                | RunState::Rejected { .. }
                | RunState::Failed { .. }
                | RunState::Cancelled { .. } => None,
            };
            if let Some(next) = next {
                look_again = Some(look_again.map_or(next, |known| known.min(next)));
            }
            // The newest come first, and what a model published before has had its time.
            let is_published = matches!(run.document.state, RunState::Published { .. });
            if !is_published || published.insert(run.document.model.clone()) {
                step(tasks, run).await?;
            }
        }
    }
    Ok(look_again)
}

async fn step(tasks: &Tasks, loaded: Versioned<Run>) -> Result<(), TaskError> {
    let Versioned { revision, document: mut run } = loaded;
    let moment = tasks.clocks.moment();
    if run.tick(now(moment)) {
        let mut tx = tasks.store.write().await?;
        let sentence = match &run.state {
            RunState::Queued { .. } => format!("{}: the run waits for a builder", run.model),
            RunState::Failed { cause } => format!("{}: the run failed: {}", run.model, cause.sentence),
            RunState::Rejected { cause, .. } => {
                format!("{}: the candidate goes nowhere: {}", run.model, cause.sentence)
            }
            RunState::Collecting { .. }
            | RunState::Claimed { .. }
            | RunState::Candidate { .. }
            | RunState::Published { .. }
            | RunState::Cancelled { .. } => format!("{}: the run is {}", run.model, run.state.name()),
        };
        let kind = if matches!(run.state, RunState::Rejected { .. }) {
            "run.rejected"
        } else if run.state.is_open() {
            "run.queued"
        } else {
            "run.failed"
        };
        return save(&mut tx, revision, &run, Some((kind, sentence)), moment).await?.commit(tx).await;
    }
    if let RunState::Published { bundle, .. } = run.state.clone()
        && run.rollout.is_none()
    {
        roll_out(tasks, revision, run, bundle, moment).await?;
    }
    Ok(())
}

/// Starts the rollout that the policy asks for. While one is open in the slot, or the policy is disabled, it waits.
async fn roll_out(
    tasks: &Tasks,
    revision: u64,
    mut run: Run,
    bundle: BundleRef,
    moment: Moment,
) -> Result<(), TaskError> {
    let mut tx = tasks.store.write().await?;
    let policy = policies::get::<Policy>(&mut tx, &run.model).await?.map(|loaded| loaded.document);
    let Some(Policy { enabled, rollout: RolloutPolicy::Automatic { plan }, .. }) = policy else {
        return Ok(());
    };
    let Ok(slot) = run.model.as_str().parse::<SlotName>() else { return Ok(()) };
    if open_in_slot(&mut tx, &slot).await?.is_some() {
        return Ok(());
    }
    // Whoever has rolled the model out since then meant what they brought: nothing takes it away by itself.
    let published = run.timeline.last().map_or(run.created, |step| step.world_at);
    let newest = rollouts::list::<Rollout>(&mut tx, Some(&run.model), None, &Page::first(1)).await?;
    if newest.iter().any(|newest| newest.document.created >= published) {
        return Ok(());
    }
    if !enabled {
        return say_disabled(tx, &run, moment).await;
    }
    let id = RolloutId::mint(crate::mint::random()?);
    let by = Starter::Policy { trigger: Some(run.trigger.clone()) };
    let reason = format!("retrained by {} because of {}", run.id, run.trigger);
    let Ok(plan) = confined(&mut tx, &run.model, plan).await? else { return Ok(()) };
    // The policy's plan was checked when it was saved.
    let Ok(mut rollout) =
        Rollout::start(id, (run.model.clone(), slot), bundle, plan, (by, reason), moment.world_at)
    else {
        return Ok(());
    };
    newest_of_slot(&mut tx, &mut rollout).await?;
    create(&mut tx, &rollout, Actor::Policy(run.model.clone()), moment).await?;
    run.rollout = Some(rollout.id.clone());
    save(&mut tx, revision, &run, None, moment).await?.commit(tx).await
}

/// Says why a run's bundle goes nowhere. Once: it is looked at after each commit.
async fn say_disabled(mut tx: ControlTx, run: &Run, moment: Moment) -> Result<(), TaskError> {
    let key = format!("disabled.{}", run.model);
    if meta::get(&mut tx, &key).await?.as_deref() == Some(run.id.as_str()) {
        return Ok(());
    }
    meta::set(&mut tx, &key, run.id.as_str()).await?;
    let entry = NewEntry {
        when: moment,
        kind: "run.waits",
        subject: run.id.to_string(),
        sentence: format!("{}: no rollout follows the run while its policy is disabled", run.model).into(),
        actor: Actor::Fleet,
    };
    log::append(&mut tx, &entry).await?;
    tx.commit().await?;
    Ok(())
}

/// Notes in the model's newest published run that this rollout brings its bundle: it waits for none any more.
pub async fn follow(tx: &mut ControlTx, rollout: &Rollout) -> Result<(), TaskError> {
    let newest = runs::list::<Run>(tx, Some(&rollout.model), Some("succeeded"), &Page::first(1)).await?;
    let Some(Versioned { revision, document: mut run }) = newest.into_iter().next() else { return Ok(()) };
    let brings_it = matches!(&run.state, RunState::Published { bundle, .. } if *bundle == rollout.bundle);
    if brings_it && run.rollout.is_none() {
        run.rollout = Some(rollout.id.clone());
        match runs::save(tx, &run.id, revision, columns(&run), &run).await? {
            // Of a published run nothing else changes: then another rollout of it has begun.
            Saved::Saved { .. } | Saved::Stale => {}
        }
    }
    Ok(())
}

/// The plan, kept to the sites of the model's project as they are now: nobody reaches the boxes of another project.
pub async fn confined(
    db: &mut Control,
    model: &ModelName,
    mut plan: Plan,
) -> Result<Result<Plan, FilterError>, TaskError> {
    let owned = projects::owned(db).await?;
    let project = owned.project(&Of::Model(model.clone()));
    let at = |own: bool| {
        let sites = owned.sites.iter().filter(|(_, of)| own == (**of == project));
        sites.map(|(site, _)| site.clone()).collect()
    };
    if !project.is_default() {
        plan.selector = plan.selector.only(at(true));
    } else if !owned.sites.is_empty() {
        plan.selector = match plan.selector.without(&at(false)) {
            Ok(selector) => selector,
            Err(error) => return Ok(Err(error)),
        };
    }
    Ok(Ok(plan))
}

/// Writes a new rollout with its log entry, in the caller's transaction.
pub async fn create(
    tx: &mut ControlTx,
    rollout: &Rollout,
    actor: Actor,
    moment: Moment,
) -> Result<(), TaskError> {
    rollouts::create(tx, &rollout.id, &rollout.model, rollout.phase.name(), rollout.created, rollout).await?;
    let begun = Entry {
        at: moment.world_at,
        input: Input::Begun { rollout: Box::new(rollout.clone()) },
        outcome: outcome(rollout, &Members::new()),
    };
    journal::append(tx, &rollout.id, &begun).await?;
    let stages: Vec<&str> = rollout.plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    let entry = NewEntry {
        when: moment,
        kind: "rollout.started",
        subject: rollout.id.to_string(),
        sentence: format!(
            "{} {}: rollout starts ({})",
            rollout.model,
            rollout.bundle.path.version(),
            stages.join(" → ")
        )
        .into(),
        actor,
    };
    log::append(tx, &entry).await?;
    Ok(())
}

/// Writes down what a person did to a rollout, in the caller's transaction, so that it can be lived through again.
pub async fn acted(
    tx: &mut ControlTx,
    rollout: &Rollout,
    (verb, by, reason): (Verb, Starter, &str),
    moment: Moment,
) -> Result<(), TaskError> {
    // Without its beginning a journal means nothing.
    if journal::extent(tx, &rollout.id).await?.entries == 0 {
        return Ok(());
    }
    let acted = Entry {
        at: moment.world_at,
        input: Input::Acted { verb, by, reason: reason.to_owned() },
        outcome: outcome(rollout, &Members::new()),
    };
    journal::append(tx, &rollout.id, &acted).await?;
    Ok(())
}

/// Some open rollout of a slot. A policy waits for it; people may begin another, and the engine decides whose a box is.
pub async fn open_in_slot(control: &mut Control, slot: &SlotName) -> Result<Option<RolloutId>, TaskError> {
    Ok(open(control, |rollout| rollout.slot == *slot).await?)
}

/// Some open rollout of a model, in whatever slot.
async fn open_of_model(control: &mut Control, model: &ModelName) -> Result<Option<RolloutId>, TaskError> {
    Ok(open(control, |rollout| rollout.model == *model).await?)
}

/// The open rollout that brings the same bundle into a slot: a second one could say nothing new.
pub async fn open_with(
    control: &mut Control,
    slot: &SlotName,
    bundle: &BundleRef,
) -> Result<Option<RolloutId>, TaskError> {
    Ok(open(control, |rollout| rollout.slot == *slot && rollout.bundle == *bundle).await?)
}

async fn open(
    control: &mut Control,
    is_meant: impl Fn(&Rollout) -> bool,
) -> Result<Option<RolloutId>, StoreError> {
    for phase in ["proposed", "scheduled", "running", "paused", "held", "rolling_back", "aborting"] {
        let found = rollouts::list::<Rollout>(control, None, Some(phase), &Page::first(LIMIT_MAX)).await?;
        if let Some(open) = found.into_iter().find(|rollout| is_meant(&rollout.document)) {
            return Ok(Some(open.document.id));
        }
    }
    Ok(None)
}

/// Whether a save took; only then the transaction may be committed.
#[derive(Debug)]
#[must_use]
pub struct SaveOutcome(bool);

impl SaveOutcome {
    pub async fn commit(self, tx: ControlTx) -> Result<(), TaskError> {
        if self.0 {
            tx.commit().await?;
        }
        Ok(())
    }
}

async fn save(
    tx: &mut ControlTx,
    revision: u64,
    run: &Run,
    said: Option<(&'static str, String)>,
    moment: Moment,
) -> Result<SaveOutcome, TaskError> {
    match runs::save(tx, &run.id, revision, columns(run), run).await? {
        Saved::Stale => return Ok(SaveOutcome(false)),
        Saved::Saved { .. } => {}
    }
    if let Some((kind, sentence)) = said {
        let entry = NewEntry {
            when: moment,
            kind,
            subject: run.id.to_string(),
            sentence: sentence.into(),
            actor: Actor::Fleet,
        };
        log::append(tx, &entry).await?;
    }
    Ok(SaveOutcome(true))
}

/// The columns that a run is found by.
pub fn columns(run: &Run) -> runs::RunColumns<'_> {
    let lease = match &run.state {
        RunState::Claimed { builder, lease_until, .. } => Some(runs::Lease { builder, until: *lease_until }),
        RunState::Collecting { .. }
        | RunState::Queued { .. }
        | RunState::Candidate { .. }
        | RunState::Published { .. }
        | RunState::Rejected { .. }
        | RunState::Failed { .. }
        | RunState::Cancelled { .. } => None,
    };
    runs::RunColumns { state: run.state.name(), lease }
}

/// Both clocks in the mind's words.
pub fn now(moment: Moment) -> retrain::Moment {
    retrain::Moment { at: moment.at, world: moment.world_at }
}
