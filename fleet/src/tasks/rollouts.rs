//! Advances every rollout that may still change something: load, ask the engine, save and say in one transaction.

use std::collections::BTreeSet;

use muster_protocol::ids::RolloutId;
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use muster_protocol::trust::Want;

use super::{TaskError, Tasks, view};
use crate::orders::OrderError;
use crate::rollout::{Advance, Assignment, Phase, Rollout, Transition, advance};
use crate::store::log::{Actor, NewEntry};
use crate::store::{ControlTx, LIMIT_MAX, Page, Saved, log, orders, rollouts};

/// Looks at all of them once; answers when time alone may change something.
pub async fn look(tasks: &Tasks) -> Result<Option<Timestamp>, TaskError> {
    let mut look_again: Option<Timestamp> = None;
    for id in due(tasks).await? {
        if let Some(time) = step(tasks, &id).await? {
            look_again = Some(look_again.map_or(time, |known| known.min(time)));
        }
    }
    Ok(look_again)
}

/// Open rollouts, and of each slot the newest one if it completed: it still serves stragglers.
async fn due(tasks: &Tasks) -> Result<Vec<RolloutId>, TaskError> {
    let mut control = tasks.store.read().await?;
    let newest_first = rollouts::list::<Rollout>(&mut control, None, None, &Page::first(LIMIT_MAX)).await?;
    let mut decided = BTreeSet::new();
    let mut due = Vec::new();
    for rollout in newest_first.into_iter().map(|loaded| loaded.document) {
        let stragglers = matches!(rollout.phase, Phase::Completed { .. }) && !decided.contains(&rollout.slot);
        if rollout.phase.is_open() || stragglers {
            due.push(rollout.id);
        }
        // What a newer rollout handed out must not be taken back by an older one.
        decided.insert(rollout.slot);
    }
    Ok(due)
}

async fn step(tasks: &Tasks, id: &RolloutId) -> Result<Option<Timestamp>, TaskError> {
    let mut control = tasks.store.read().await?;
    let Some(loaded) = rollouts::get::<Rollout>(&mut control, id).await? else { return Ok(None) };
    let mut rollout = loaded.document;
    let mut members = view::members(&mut control, &rollout).await?;
    let view = view::fleet_view(&mut control, &mut tasks.store.read_telemetry().await?, &rollout).await?;
    drop(control);
    let moment = tasks.clocks.moment();
    let answer = advance(&rollout, &members, &view, moment.world_at);
    if !answer.is_news(&rollout) {
        return Ok(answer.look_again);
    }
    let mut tx = tasks.store.write().await?;
    rollout.apply(&mut members, &answer);
    match rollouts::save(&mut tx, id, loaded.revision, rollout.phase.name(), &rollout).await? {
        Saved::Saved { .. } => {}
        // Somebody paused or aborted it meanwhile: nothing of this answer may leave. Look again at once.
        Saved::Stale => return Ok(Some(moment.world_at)),
    }
    for (device, member) in &answer.members {
        rollouts::put_device(&mut tx, id, device, member).await?;
    }
    for assignment in &answer.assign {
        assign(tasks, &mut tx, &rollout, assignment).await?;
    }
    for (kind, sentence) in said(&rollout, &answer) {
        let entry = NewEntry {
            when: moment,
            kind,
            subject: id.to_string(),
            sentence: sentence.into(),
            actor: Actor::Fleet,
        };
        log::append(&mut tx, &entry).await?;
    }
    tx.commit().await?;
    // A transition opens the next question; ask it at once.
    Ok(answer.transition.as_ref().map(|_| moment.world_at).or(answer.look_again))
}

/// Puts the bundle into the device's order, beside what its other slots want.
async fn assign(
    tasks: &Tasks,
    tx: &mut ControlTx,
    rollout: &Rollout,
    assignment: &Assignment,
) -> Result<(), TaskError> {
    let order = orders::get(tx, &assignment.device).await?;
    let mut wants: Vec<Want> = order.map(|order| order.wants).unwrap_or_default();
    wants.retain(|want| want.slot != rollout.slot);
    if let Some(BundleRef { path, sha256 }) = &assignment.bundle {
        wants.push(Want::now(rollout.slot.clone(), path.clone(), *sha256));
    }
    wants.sort_by(|a, b| a.slot.cmp(&b.slot));
    let handed = match tasks.orders.set_wants(tx, &assignment.device, &wants).await {
        // It left the fleet between the look and the deed; the next look does not see it.
        Err(OrderError::NotAMember { device }) => {
            tracing::info!(device.id = %device, rollout.id = %rollout.id, "not ordered: it is no member any more");
            return Ok(());
        }
        handed => handed?,
    };
    tracing::debug!(device.id = %assignment.device, rollout.id = %rollout.id, ?handed, "handed out");
    Ok(())
}

/// The answer as log entries for people.
fn said(rollout: &Rollout, answer: &Advance) -> Vec<(&'static str, String)> {
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
