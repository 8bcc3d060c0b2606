//! Advances every rollout that may still change something: take over what was committed, ask the engine, save and say in
//! one transaction.
//!
//! ```text
//!   roster: what changed? ─▶ the rollout's view ─▶ engine ─▶ members, orders, journal, log ─▶ commit ─▶ roster
//!                                                                    └ somebody was faster: look again
//! ```
//! A rollout whose view, members and document are those of its last look is not asked again before the time that the engine
//! named: the same question has the same answer. Nothing is taken over into memory that was not committed.

mod said;
mod save;

use muster_protocol::ids::RolloutId;
use muster_protocol::time::Timestamp;

use super::{TaskError, Tasks};
use crate::gate::GateReport;
use crate::rollout::{Advance, Rollout, advance};
use crate::roster::Roster;

use save::Outcome;

/// Owns the fleet in memory.
#[derive(Debug)]
pub struct Driver {
    roster: Roster,
    /// Orders that could not be made, so that each is said once.
    told: save::Told,
}

impl Driver {
    pub fn new(tasks: &Tasks) -> Self {
        let roster = Roster::new(
            tasks.store.clone(),
            tasks.orders.catalogue().clone(),
            tasks.clocks,
            tasks.board.clone(),
        );
        Self { roster, told: save::Told::default() }
    }

    /// Looks at all rollouts once; answers when time alone may change something.
    pub async fn look(&mut self, tasks: &Tasks) -> Result<Option<Timestamp>, TaskError> {
        let looked = self.look_at_all(tasks).await;
        if looked.is_err() {
            // What is in memory may be ahead of, or behind, what was committed.
            self.roster.forget();
        }
        looked
    }

    /// Takes over what was committed, and asks nobody yet.
    pub async fn sync(&mut self) -> Result<bool, TaskError> {
        Ok(self.roster.sync().await?)
    }

    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    async fn look_at_all(&mut self, tasks: &Tasks) -> Result<Option<Timestamp>, TaskError> {
        if !self.sync().await? {
            self.roster.sweep().await?;
        }
        let mut look_again: Option<Timestamp> = None;
        let ids: Vec<RolloutId> = self.roster.watches().map(|watch| watch.rollout.id.clone()).collect();
        for id in ids {
            if let Some(time) = self.step(tasks, &id).await? {
                look_again = Some(look_again.map_or(time, |known| known.min(time)));
            }
        }
        Ok(look_again)
    }

    /// Asks the engine about one rollout, if there is anything new to ask.
    async fn step(&mut self, tasks: &Tasks, id: &RolloutId) -> Result<Option<Timestamp>, TaskError> {
        let moment = tasks.clocks.moment();
        let Some(watch) = self.roster.watch(id) else { return Ok(None) };
        if !watch.is_due && watch.look_again.is_none_or(|time| moment.world_at < time) {
            return Ok(watch.look_again);
        }
        let answer = advance(&watch.rollout, &watch.members, &watch.view, moment.world_at);
        let mut look_again = answer.look_again;
        if is_news(&watch.rollout, &answer) {
            match save::save(tasks, &mut self.roster, id, &answer, moment, &mut self.told).await? {
                // A transition opens the next question; ask it at once.
                Outcome::Saved if answer.transition.is_some() => look_again = Some(moment.world_at),
                Outcome::Saved => {}
                // Somebody paused or aborted it meanwhile: nothing of this answer may leave. Look again at once.
                Outcome::Stale => return Ok(Some(moment.world_at)),
            }
        }
        self.roster.change(id, |watch| {
            watch.look_again = look_again;
            watch.is_due = false;
        });
        Ok(look_again)
    }
}

/// Whether the answer changes anything that is kept.
fn is_news(rollout: &Rollout, answer: &Advance) -> bool {
    let known =
        rollout.phase.stage().and_then(|stage| rollout.stages.get(stage)).and_then(|r| r.gate.as_ref());
    let same_gate = match (&answer.gate, known) {
        (None, _) => true,
        (Some(new), Some(known)) => *new == GateReport { asked_at: new.asked_at, ..known.clone() },
        (Some(_), None) => false,
    };
    answer.transition.is_some() || !answer.members.is_empty() || !answer.assign.is_empty() || !same_gate
}
