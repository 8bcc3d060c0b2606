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

use std::collections::BTreeMap;
use std::time::Duration;

use muster_protocol::ids::{DeviceId, RolloutId};
use muster_protocol::time::Timestamp;

use super::{TaskError, Tasks};
use crate::rollout::{Rollout, advance, owed::owed};
use crate::roster::Roster;
use crate::store::{Control, rollouts};

use save::Outcome;

/// However little happens, the engine is asked again after this: silence is evidence too. However much happens, what is owed
/// is tried again after this.
const ASKED_EVERY: Duration = Duration::from_secs(2);

/// Owns the fleet in memory.
#[derive(Debug)]
pub struct Driver {
    roster: Roster,
    /// Orders that could not be made, so that each is said once.
    told: save::Told,
    /// When what is owed was tried last, real time.
    paid: Timestamp,
    /// The device that was tried last, of rollouts that owe anything.
    tried: BTreeMap<RolloutId, DeviceId>,
}

/// Makes a new rollout the newest of its slot, in the transaction that writes it.
pub async fn newest_of_slot(control: &mut Control, rollout: &mut Rollout) -> Result<(), TaskError> {
    // Only a clock that has been set back finds any.
    let later = rollouts::created_since::<Rollout>(control, rollout.created).await?;
    let of_slot = later.into_iter().map(|other| other.document).filter(|other| other.slot == rollout.slot);
    if let Some(newest) = of_slot.map(|other| other.created).max() {
        rollout.come_after(newest);
    }
    Ok(())
}

impl Driver {
    pub fn new(tasks: &Tasks) -> Self {
        let roster = Roster::new(
            tasks.store.clone(),
            tasks.orders.catalogue().clone(),
            tasks.clocks,
            tasks.board.clone(),
        );
        Self { roster, told: save::Told::default(), paid: Timestamp::default(), tried: BTreeMap::new() }
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
        let is_news = self.sync().await?;
        let now = tasks.clocks.moment().at;
        // In a busy fleet every look has news.
        if !is_news || now.since(self.paid) >= ASKED_EVERY {
            self.roster.sweep().await?;
            self.pay(tasks).await?;
            self.paid = now;
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

    /// Makes orders that could not be made before.
    async fn pay(&mut self, tasks: &Tasks) -> Result<(), TaskError> {
        let before = std::mem::take(&mut self.tried);
        for watch in self.roster.watches() {
            let moment = tasks.clocks.moment();
            let id = &watch.rollout.id;
            let owed = owed(&watch.rollout, &watch.members, &watch.view, before.get(id));
            self.tried.extend(owed.last().map(|last| (id.clone(), last.device.clone())));
            save::pay(tasks, watch, &owed, moment, &mut self.told).await?;
        }
        Ok(())
    }

    /// Asks the engine about one rollout, if there is anything new to ask.
    async fn step(&mut self, tasks: &Tasks, id: &RolloutId) -> Result<Option<Timestamp>, TaskError> {
        let moment = tasks.clocks.moment();
        let Some(watch) = self.roster.watch(id) else { return Ok(None) };
        let rested = moment.at.since(watch.asked) < ASKED_EVERY;
        if !watch.is_due && rested && watch.look_again.is_none_or(|time| moment.world_at < time) {
            return Ok(watch.look_again);
        }
        let answer = advance(&watch.rollout, &watch.members, &watch.view, moment.world_at);
        let look_again = answer.look_again;
        if answer.is_news(&watch.rollout) {
            match save::save(tasks, &mut self.roster, id, &answer, moment, &mut self.told).await? {
                // What was saved is the next question. Where somebody paused or aborted it meanwhile nothing of this answer
                // may leave. Look again at once, either way.
                Outcome::Saved | Outcome::Stale => return Ok(Some(moment.world_at)),
            }
        }
        self.roster.change(id, |watch| {
            watch.asked = moment.at;
            watch.look_again = look_again;
            watch.is_due = false;
        });
        Ok(look_again)
    }
}

#[cfg(test)]
mod tests {
    use muster_protocol::ids::{Digest, SlotName};
    use muster_protocol::message::up::BundleRef;

    use super::*;
    use crate::rollout::Actor;
    use crate::rollout::plan::{Size, tests::plan};
    use crate::store::Store;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn rollout(n: u8, slot: &str, created: i64) -> Rollout {
        let path = format!("bundles/er-beds/{n}.json").parse().unwrap();
        let bundle = BundleRef { path, sha256: Digest::of(&[n]) };
        let slot: SlotName = slot.parse().unwrap();
        let (names, by) = (("er-beds".parse().unwrap(), slot), (Actor::Engine, String::new()));
        let plan = plan(&[Size::Percent(100.0)]);
        Rollout::start(RolloutId::mint([n; 16]), names, bundle, plan, by, at(created)).unwrap()
    }

    #[tokio::test]
    async fn a_new_rollout_is_the_newest_of_its_slot_whatever_the_clock_has_done() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let mut tx = store.write().await.unwrap();
        for (n, slot, created) in [(1, "er-beds", 100), (2, "er-beds", 300), (3, "other", 900)] {
            let rollout = rollout(n, slot, created);
            let (model, phase) = (&rollout.model, rollout.phase.name());
            rollouts::create(&mut tx, &rollout.id, model, phase, rollout.created, &rollout).await.unwrap();
        }
        for (now, expect) in [(200, at(300).plus(Duration::from_millis(1))), (400, at(400))] {
            let mut new = rollout(4, "er-beds", now);
            newest_of_slot(&mut tx, &mut new).await.unwrap();
            assert_eq!(new.created, expect, "created at {now}");
        }
    }
}
