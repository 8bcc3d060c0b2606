//! What the engine said, into the database: all of it in one transaction, or nothing.
//!
//! An order that cannot be made holds up neither the other devices nor the rollout: it is told of, and made as soon as it
//! can be, for the engine's answer stands.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::ids::{DeviceId, RolloutId};
use muster_protocol::message::up::BundleRef;
use muster_protocol::trust::{Permit, TrustedSet, Want};

use super::super::{TaskError, Tasks};
use super::said::said;
use crate::clock::Moment;
use crate::orders::OrderError;
use crate::rollout::journal::{Entry, Input, outcome};
use crate::rollout::{Advance, Assignment, Members, Moment as Permitted, Progress, Rollout};
use crate::roster::{Roster, Watch};
use crate::store::bad_bundles::{self, Bad};
use crate::store::log::{Actor, NewEntry};
use crate::store::{ControlTx, Saved, journal, log, rollouts};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Saved,
    Stale,
}

/// Which orders were told of as impossible, with the code.
pub(super) type Told = BTreeMap<RolloutId, BTreeSet<&'static str>>;

/// What became of assignments.
#[derive(Debug, Default)]
struct Ordered<'a> {
    /// Their orders say so now.
    made: BTreeSet<&'a DeviceId>,
    refused: Vec<(DeviceId, OrderError)>,
}

pub(super) async fn save(
    tasks: &Tasks,
    roster: &mut Roster,
    id: &RolloutId,
    answer: &Advance,
    moment: Moment,
    told: &mut Told,
) -> Result<Outcome, TaskError> {
    let Some(watch) = roster.watch(id) else { return Ok(Outcome::Stale) };
    let mut rollout = Rollout::clone(&watch.rollout);
    rollout.apply(&mut Members::new(), answer);
    let bad = bad(&rollout, answer, |device| watch.is_bad(device));
    let entry = watch.change().map(|change| Entry {
        at: moment.world_at,
        input: Input::Looked { change },
        outcome: outcome(&rollout, &answer.members),
    });
    let mut tx = tasks.store.write().await?;
    let revision = match rollouts::save(&mut tx, id, watch.revision, rollout.phase.name(), &rollout).await? {
        Saved::Saved { revision } => revision,
        Saved::Stale => return Ok(Outcome::Stale),
    };
    rollouts::put_devices(&mut tx, id, &answer.members).await?;
    let ordered = hand_out(tasks, &mut tx, &rollout, &answer.assign).await?;
    for (device, bad) in &bad {
        match bad {
            Some(bad) => bad_bundles::put(&mut tx, device, &rollout.bundle.sha256, bad).await?,
            None => bad_bundles::forget(&mut tx, device, &rollout.bundle.sha256).await?,
        }
    }
    let whole = match &entry {
        Some(entry) => !journal::append(&mut tx, id, entry).await?.truncated,
        None => true,
    };
    let mut sentences = said(&rollout, answer, &ordered.made);
    sentences.extend(refusals(&rollout, &ordered.refused, told));
    say(&mut tx, id, sentences, moment).await?;
    // From the commit on nobody is shown what was before it.
    roster.take_down();
    tx.commit().await?;
    let bundle = rollout.bundle.sha256;
    roster.mark(&bundle, &bad);
    roster.change(id, |watch| {
        watch.saved(revision, rollout, answer);
        if !whole {
            watch.end_journal();
        }
    });
    roster.spread(&answer.members.keys().cloned().collect());
    Ok(Outcome::Saved)
}

/// Makes orders that are owed. Those that still cannot be made are told of once, and tried again.
pub(super) async fn pay(
    tasks: &Tasks,
    watch: &Watch,
    owed: &[Assignment],
    moment: Moment,
    told: &mut Told,
) -> Result<(), TaskError> {
    if owed.is_empty() {
        return Ok(());
    }
    let rollout = &watch.rollout;
    let mut tx = tasks.store.write().await?;
    // Somebody may have paused or aborted it: then nothing is owed any more.
    let now = rollouts::get::<Rollout>(&mut tx, &rollout.id).await?;
    if now.is_none_or(|now| now.revision != watch.revision) {
        return Ok(());
    }
    let ordered = hand_out(tasks, &mut tx, rollout, owed).await?;
    let sentences = refusals(rollout, &ordered.refused, told);
    // A commit that says nothing would wake everybody to no purpose, us too.
    if ordered.made.is_empty() && sentences.is_empty() {
        return Ok(());
    }
    say(&mut tx, &rollout.id, sentences, moment).await?;
    Ok(tx.commit().await?)
}

async fn say(
    tx: &mut ControlTx,
    id: &RolloutId,
    sentences: Vec<(&'static str, String)>,
    when: Moment,
) -> Result<(), TaskError> {
    for (kind, sentence) in sentences {
        let subject = id.to_string();
        let entry = NewEntry { when, kind, subject, sentence: sentence.into(), actor: Actor::Fleet };
        log::append(tx, &entry).await?;
    }
    Ok(())
}

/// What is to be remembered of the bundle on devices, and what is to be forgotten because they are asked anew.
fn bad(
    rollout: &Rollout,
    answer: &Advance,
    is_bad: impl Fn(&DeviceId) -> bool,
) -> Vec<(DeviceId, Option<Bad>)> {
    let mut bad = Vec::new();
    for (device, member) in &answer.members {
        match &member.progress {
            Progress::Failed { at, cause, .. } | Progress::Reverted { at, cause, .. } => {
                bad.push((device.clone(), Some(Bad { at: *at, cause: cause.clone() })));
            }
            Progress::Offered { .. } | Progress::Permitted { .. } if is_bad(device) => {
                bad.push((device.clone(), None));
            }
            // A retry forgives it.
            Progress::Waiting if rollout.retried.is_some() && is_bad(device) => {
                bad.push((device.clone(), None));
            }
            Progress::Waiting
            | Progress::Excluded { .. }
            | Progress::Offered { .. }
            | Progress::Ready { .. }
            | Progress::Permitted { .. }
            | Progress::Activated { .. }
            | Progress::Baked { .. }
            | Progress::Returning { .. }
            | Progress::Returned { .. } => {}
        }
    }
    bad
}

/// Puts what is assigned into the devices' orders.
async fn hand_out<'a>(
    tasks: &Tasks,
    tx: &mut ControlTx,
    rollout: &Rollout,
    assignments: &'a [Assignment],
) -> Result<Ordered<'a>, TaskError> {
    let mut ordered = Ordered::default();
    if assignments.is_empty() {
        return Ok(ordered);
    }
    let trusted = match tasks.orders.published(tx).await {
        Ok(trusted) => trusted,
        // Said of the first, it is said of all.
        Err(error @ OrderError::NoCatalogue) => {
            ordered.refused.extend(assignments.first().map(|first| (first.device.clone(), error)));
            return Ok(ordered);
        }
        Err(error) => return Err(error.into()),
    };
    for assignment in assignments {
        match assign(tasks, tx, &trusted, rollout, assignment).await {
            Ok(()) => {
                ordered.made.insert(&assignment.device);
            }
            // It left the fleet between the look and the deed; the next look does not see it.
            Err(OrderError::NotAMember { device }) => {
                tracing::info!(device.id = %device, rollout.id = %rollout.id, "not ordered: it is no member any more");
            }
            Err(error @ (OrderError::Sign(_) | OrderError::NoCatalogue)) => {
                ordered.refused.push((assignment.device.clone(), error));
            }
            Err(error @ (OrderError::Catalogue(_) | OrderError::Store(_))) => return Err(error.into()),
        }
    }
    Ok(ordered)
}

/// Puts the bundle into the device's order, beside what its other slots want.
async fn assign(
    tasks: &Tasks,
    tx: &mut ControlTx,
    trusted: &TrustedSet,
    rollout: &Rollout,
    assignment: &Assignment,
) -> Result<(), OrderError> {
    let activate = match assignment.permit {
        Permitted::Now => Permit::Now,
        Permitted::Hold => Permit::Hold,
        // Boxes hold it against their own clock.
        Permitted::Until(world) => Permit::Until(tasks.clocks.world.real(world)),
    };
    let want = assignment.bundle.as_ref().map(|BundleRef { path, sha256 }| Want {
        slot: rollout.slot.clone(),
        bundle: path.clone(),
        sha256: *sha256,
        activate,
        consent: assignment.consent,
    });
    let handed = tasks.orders.set_slot(tx, trusted, &assignment.device, &rollout.slot, want).await?;
    tracing::debug!(device.id = %assignment.device, rollout.id = %rollout.id, ?handed, "handed out");
    Ok(())
}

/// Orders that cannot be made, for people, each reason once.
fn refusals(
    rollout: &Rollout,
    refused: &[(DeviceId, OrderError)],
    told: &mut Told,
) -> Vec<(&'static str, String)> {
    let told = told.entry(rollout.id.clone()).or_default();
    let mut sentences = Vec::new();
    for (device, error) in refused {
        if told.insert(error.code()) {
            tracing::warn!(device.id = %device, rollout.id = %rollout.id, error = error as &dyn std::error::Error, "devices cannot be ordered");
            let same = refused.iter().filter(|(_, other)| other.code() == error.code()).count();
            let why = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
            let devices = crate::gate::devices(same);
            let (model, version) = (&rollout.model, rollout.bundle.path.version());
            sentences.push((
                "rollout.not_ordered",
                format!("{model} {version}: {devices} could not be ordered: {why}"),
            ));
        }
    }
    sentences
}
