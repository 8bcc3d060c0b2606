//! Which rollouts need watching, by what is newer in their slot.
//!
//! ```text
//!   open                                                       watched
//!   complete   a newer one on trial may want its devices       not before that has ended: who is whose would change twice
//!              a newer complete one has all of them            not
//!              as many newer complete ones are watched         not
//!              otherwise                                       watched: it serves who comes late, and can be taken back
//!   ended otherwise                                            not
//! ```
//! What never began, or brought everybody back, has no say: its devices are again those of the one before it.

use std::sync::Arc;

use muster_protocol::ids::SlotName;

use crate::rollout::claims::Left;
use crate::rollout::{Phase, Rollout, Selector};

/// Complete rollouts of one slot that are watched: each keeps a line of every device of the fleet in memory.
const COMPLETE_MAX: usize = 4;

/// The watched rollouts of a slot that are newer than the one that is asked about, as far as they have begun.
#[derive(Debug, Default)]
pub(super) struct Newer {
    on_trial: Vec<Arc<Rollout>>,
    complete: Vec<Arc<Rollout>>,
}

/// A rollout that needs no watching, as of a revision.
#[derive(Debug)]
pub(super) struct Over {
    pub(super) revision: u64,
    pub(super) slot: SlotName,
    rest: Rest,
}

/// What remains of it.
#[derive(Debug)]
enum Rest {
    /// It is complete: whom it would serve, if nobody newer did.
    Complete(Selector),
    Left(Left),
    Nothing,
}

impl Newer {
    /// Whether the engine has anything to say of a rollout beside these.
    pub(super) fn needs_watching(&self, rollout: &Rollout) -> bool {
        match &rollout.phase {
            Phase::Completed { .. } => self.leaves_any_of(&rollout.plan.selector),
            Phase::Proposed { .. }
            | Phase::Scheduled { .. }
            | Phase::Running { .. }
            | Phase::Paused { .. }
            | Phase::Held { .. }
            | Phase::RollingBack { .. }
            | Phase::Aborting { .. }
            | Phase::RolledBack { .. }
            | Phase::Aborted { .. }
            | Phase::Superseded { .. } => rollout.phase.is_open(),
        }
    }

    /// Whether of these devices any are left to a complete rollout, as far as can be told without looking at each.
    pub(super) fn leaves_any_of(&self, selector: &Selector) -> bool {
        let on_trial = |newer: &Arc<Rollout>| !newer.plan.selector.is_apart_from(selector);
        let taken = |newer: &Arc<Rollout>| newer.plan.selector.covers(selector);
        self.complete.len() < COMPLETE_MAX
            && !self.on_trial.iter().any(on_trial)
            && !self.complete.iter().any(taken)
    }

    /// Counts one that is watched, before those that are older.
    pub(super) fn add(&mut self, rollout: &Arc<Rollout>) {
        if matches!(rollout.phase, Phase::Completed { .. }) {
            self.complete.push(Arc::clone(rollout));
        } else if rollout.has_begun() {
            self.on_trial.push(Arc::clone(rollout));
        }
    }
}

impl Over {
    pub(super) fn of(revision: u64, rollout: &Rollout) -> Self {
        let rest = match (&rollout.phase, Left::by(rollout)) {
            (Phase::Completed { .. }, _) => Rest::Complete(rollout.plan.selector.clone()),
            (_, Some(left)) => Rest::Left(left),
            (_, None) => Rest::Nothing,
        };
        Self { revision, slot: rollout.slot.clone(), rest }
    }

    /// Whether it needs none beside these either.
    pub(super) fn stays(&self, newer: Option<&Newer>) -> bool {
        match &self.rest {
            Rest::Complete(selector) => newer.is_some_and(|newer| !newer.leaves_any_of(selector)),
            Rest::Left(_) | Rest::Nothing => true,
        }
    }

    pub(super) fn left(&self) -> Option<&Left> {
        match &self.rest {
            Rest::Left(left) => Some(left),
            Rest::Complete(_) | Rest::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_protocol::ids::{Digest, RolloutId};
    use muster_protocol::message::up::BundleRef;
    use muster_protocol::time::Timestamp;

    use super::*;
    use crate::rollout::plan::{Size, tests::plan};
    use crate::rollout::{Actor, Cause};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    /// For these sites; none is everybody.
    fn rollout(sites: &[&str], phase: Phase) -> Arc<Rollout> {
        let path = "bundles/er-beds/1.json".parse().unwrap();
        let bundle = BundleRef { path, sha256: Digest::of(b"1") };
        let names = ("er-beds".parse().unwrap(), "er-beds".parse().unwrap());
        let mut plan = plan(&[Size::Percent(100.0)]);
        plan.selector.sites =
            (!sites.is_empty()).then(|| sites.iter().map(|site| site.parse().unwrap()).collect());
        let by = (Actor::Engine, String::new());
        let begun = Rollout::start(RolloutId::mint([1; 16]), names, bundle, plan, by, at(1)).unwrap();
        Arc::new(Rollout { phase, ..begun })
    }

    fn complete() -> Phase {
        Phase::Completed { at: at(2) }
    }

    fn running() -> Phase {
        Phase::Running { since: at(1), stage: 0 }
    }

    /// Whether a complete rollout to these sites is watched beside newer ones.
    fn check(sites: &[&str], newer: &[(&[&str], Phase)], expect: bool) {
        let ours = rollout(sites, complete());
        let mut beside = Newer::default();
        for (sites, phase) in newer {
            let theirs = rollout(sites, phase.clone());
            if beside.needs_watching(&theirs) {
                beside.add(&theirs);
            }
        }
        assert_eq!(beside.needs_watching(&ours), expect, "{sites:?} beside {newer:?}");
        assert_eq!(Over::of(1, &ours).stays(Some(&beside)), !expect, "{sites:?} beside {newer:?}");
    }

    #[test]
    fn what_is_complete_is_watched_as_long_as_nobody_newer_has_its_devices() {
        let back = || Phase::RolledBack { at: at(2), stage: 0, cause: Cause::new("x", "x") };
        let going_back =
            || Phase::RollingBack { since: at(2), stage: 0, cause: Cause::new("x", "x"), by: Actor::Engine };
        check(&[], &[], true);
        check(&["er-1"], &[(&["er-2"], running())], true);
        check(&["er-1"], &[(&["er-2"], complete())], true);
        check(&[], &[(&[], running())], false);
        check(&[], &[(&[], complete())], false);
        check(&[], &[(&[], going_back())], false);
        check(&[], &[(&[], back())], true);
        check(&[], &[(&["er-2"], running())], false);
        check(&[], &[(&["er-2"], complete())], true);
        check(&["er-1"], &[(&["er-1", "er-2"], complete())], false);
    }

    #[test]
    fn what_never_began_takes_nothing() {
        let ours = rollout(&[], complete());
        for phase in [Phase::Proposed { since: at(1) }, running()] {
            let mut theirs = Rollout::clone(&rollout(&[], phase));
            theirs.stages[0].opened = None;
            let mut beside = Newer::default();
            beside.add(&Arc::new(theirs));
            assert!(beside.needs_watching(&ours));
        }
    }

    #[test]
    fn of_many_complete_ones_the_newest_are_watched() {
        let sites: Vec<String> = (0..=COMPLETE_MAX).map(|n| format!("er-{n}")).collect();
        let newer: Vec<[&str; 1]> = sites.iter().take(COMPLETE_MAX).map(|site| [site.as_str()]).collect();
        let newer: Vec<(&[&str], Phase)> = newer.iter().map(|site| (&site[..], complete())).collect();
        check(&[&sites[COMPLETE_MAX]], &newer, false);
        check(&[&sites[COMPLETE_MAX]], &newer[1..], true);
    }

    #[test]
    fn what_was_aborted_leaves_its_bundle() {
        let aborted = Phase::Aborted { at: at(2), stage: 0, by: Actor::Engine, reason: String::new() };
        let over = Over::of(1, &rollout(&[], aborted));
        assert!(over.left().is_some() && over.stays(None));
        assert!(!Over::of(1, &rollout(&[], complete())).stays(None));
    }
}
