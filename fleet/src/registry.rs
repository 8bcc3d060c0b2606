//! Which versions of a model the fleet itself gives a name to: the one that has won, and the one that wants to.
//!
//! ```text
//!   champion    the bundle of the newest rollout that passed every stage; it stays while such a rollout is only in doubt
//!   challenger  the newest bundle that was accepted after it, may run, and has failed nowhere yet
//! ```
//! Everything else that a version is called is people's. Pure: no clock, no database, no network, no log.

use std::time::Duration;

use muster_protocol::ids::{AliasName, Digest, RolloutId};
use muster_protocol::time::Timestamp;

use crate::rollout::{Phase, Rollout};

pub const CHAMPION: &str = "champion";
pub const CHALLENGER: &str = "challenger";
/// Names that people may give to the versions of one model.
pub const ALIASES_MAX: usize = 32;
/// Longest that what is published may take: all files of new bundles are read before the answer.
pub(crate) const TAKEN_WITHIN: Duration = Duration::from_mins(10);

/// A version as far as a name asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub bundle: Digest,
    pub accepted: Timestamp,
    /// The catalogue lists it, and says nothing against it.
    pub may_run: bool,
    pub is_revoked: bool,
}

/// What a name should point at, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub bundle: Digest,
    pub why: String,
}

/// Whether the fleet moves this name by itself.
pub fn is_kept(name: &AliasName) -> bool {
    matches!(name.as_str(), CHAMPION | CHALLENGER)
}

/// Who has won. `rollouts` are the model's, in any order; `now` is who is called champion now.
pub fn champion(versions: &[Candidate], rollouts: &[Rollout], now: Option<&Digest>) -> Option<Named> {
    let lives = |bundle: &Digest| versions.iter().any(|known| known.bundle == *bundle && !known.is_revoked);
    if let Some(now) = now
        && lives(now)
        && let Some(doubted) = newest_of(rollouts, now)
        && doubted.phase.is_open()
        && failure(doubted).is_none()
        && won(rollouts, lives).is_none_or(|(_, at)| at <= doubted.created)
    {
        return Some(Named { bundle: *now, why: format!("rollout {} brings it", doubted.id) });
    }
    let (rollout, _) = won(rollouts, lives)?;
    let why = format!("rollout {} passed every stage", rollout.id);
    Some(Named { bundle: rollout.bundle.sha256, why })
}

/// Who comes next.
pub fn challenger(versions: &[Candidate], rollouts: &[Rollout], champion: Option<&Digest>) -> Option<Named> {
    let beaten = champion.and_then(|sha256| versions.iter().find(|known| known.bundle == *sha256));
    let newer = |known: &Candidate| beaten.is_none_or(|champion| known.accepted > champion.accepted);
    let failed = |known: &Candidate| newest_of(rollouts, &known.bundle).and_then(failure);
    let waits = |known: &&Candidate| {
        known.may_run && champion != Some(&known.bundle) && newer(known) && failed(known).is_none()
    };
    let newest = versions.iter().filter(waits).max_by_key(|known| (known.accepted, known.bundle))?;
    let why = match newest_of(rollouts, &newest.bundle) {
        Some(rollout) => format!("rollout {} brings it", rollout.id),
        None => "it is the newest that may run, and no rollout has brought it yet".to_owned(),
    };
    Some(Named { bundle: newest.bundle, why })
}

fn newest_of<'a>(rollouts: &'a [Rollout], bundle: &Digest) -> Option<&'a Rollout> {
    let of_it = rollouts.iter().filter(|rollout| rollout.bundle.sha256 == *bundle);
    of_it.max_by_key(|rollout| (rollout.created, rollout.id.clone()))
}

fn won(rollouts: &[Rollout], lives: impl Fn(&Digest) -> bool) -> Option<(&Rollout, Timestamp)> {
    let complete = rollouts.iter().filter_map(|rollout| match rollout.phase {
        Phase::Completed { at } if lives(&rollout.bundle.sha256) => Some((rollout, at)),
        Phase::Completed { .. }
        | Phase::Proposed { .. }
        | Phase::Scheduled { .. }
        | Phase::Running { .. }
        | Phase::Paused { .. }
        | Phase::Held { .. }
        | Phase::RollingBack { .. }
        | Phase::RolledBack { .. }
        | Phase::Aborting { .. }
        | Phase::Aborted { .. }
        | Phase::Superseded { .. } => None,
    });
    complete.max_by_key(|(rollout, at)| (*at, rollout.id.clone()))
}

/// The rollout, if it ended without bringing its bundle to everybody.
fn failure(rollout: &Rollout) -> Option<&RolloutId> {
    match rollout.phase {
        Phase::RollingBack { .. }
        | Phase::RolledBack { .. }
        | Phase::Aborting { .. }
        | Phase::Aborted { .. }
        | Phase::Superseded { .. } => Some(&rollout.id),
        Phase::Proposed { .. }
        | Phase::Scheduled { .. }
        | Phase::Running { .. }
        | Phase::Paused { .. }
        | Phase::Held { .. }
        | Phase::Completed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use muster_protocol::message::up::BundleRef;

    use super::*;
    use crate::rollout::{Actor, Cause, Plan, Selector};

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_seconds(hours * 3600)
    }

    fn bundle(n: u8) -> Digest {
        Digest::of(&[n])
    }

    fn version(n: u8, accepted: i64) -> Candidate {
        Candidate { bundle: bundle(n), accepted: at(accepted), may_run: true, is_revoked: false }
    }

    fn rollout(n: u8, created: i64, phase: Phase) -> Rollout {
        let path = format!("bundles/er/{n}.json").parse().unwrap();
        let stages =
            serde_json::json!([{"name": "all", "size": {"percent": 100.0}, "bake_s": 60, "deadline_s": 600}]);
        let plan = Plan::of(serde_json::from_value(stages).unwrap(), Selector::default());
        let begun = Rollout::start(
            RolloutId::mint([n; 16]),
            ("er".parse().unwrap(), "er".parse().unwrap()),
            BundleRef { path, sha256: bundle(n) },
            plan,
            (Actor::Person { name: "ada".to_owned() }, String::new()),
            at(created),
        );
        Rollout { phase, ..begun.unwrap() }
    }

    fn completed(n: u8, created: i64, done: i64) -> Rollout {
        rollout(n, created, Phase::Completed { at: at(done) })
    }

    fn held(n: u8, created: i64) -> Rollout {
        let cause = Cause::new("late_failure", "a box went back");
        rollout(n, created, Phase::Held { since: at(created + 5), stage: 0, cause })
    }

    fn rolled_back(n: u8, created: i64) -> Rollout {
        let cause = Cause::new("gate", "it fails");
        rollout(n, created, Phase::RolledBack { at: at(created + 5), stage: 0, cause })
    }

    #[test]
    fn the_champion_is_who_won_last_and_has_not_lost_since() {
        let versions = [version(1, 0), version(2, 10), version(3, 20)];
        let check = |rollouts: &[Rollout], now: Option<u8>, expect: Option<u8>| {
            let now = now.map(bundle);
            let found = champion(&versions, rollouts, now.as_ref()).map(|named| named.bundle);
            assert_eq!(found, expect.map(bundle));
        };
        check(&[], None, None);
        check(&[held(1, 1)], None, None);
        check(&[completed(1, 1, 5), completed(2, 11, 15)], Some(1), Some(2));
        // Doubt takes nothing away; failure does, and so does somebody else's success.
        check(&[completed(1, 1, 5), held(2, 11)], Some(2), Some(2));
        check(&[completed(1, 1, 5), held(2, 11)], Some(1), Some(1));
        check(&[completed(1, 1, 5), rolled_back(2, 11)], Some(2), Some(1));
        check(&[completed(1, 1, 5), held(2, 11), completed(3, 21, 25)], Some(2), Some(3));
    }

    #[test]
    fn a_revoked_champion_is_none() {
        let mut versions = [version(1, 0), version(2, 10)];
        versions[1].is_revoked = true;
        let rollouts = [completed(1, 1, 5), completed(2, 11, 15)];
        assert_eq!(champion(&versions, &rollouts, Some(&bundle(2))).unwrap().bundle, bundle(1));
    }

    #[test]
    fn the_challenger_is_the_newest_that_waits() {
        let mut versions = vec![version(1, 0), version(2, 10), version(3, 20)];
        let check =
            |versions: &[Candidate], rollouts: &[Rollout], champion: Option<u8>, expect: Option<u8>| {
                let champion = champion.map(bundle);
                let found = challenger(versions, rollouts, champion.as_ref()).map(|named| named.bundle);
                assert_eq!(found, expect.map(bundle));
            };
        check(&versions, &[], None, Some(3));
        check(&versions, &[completed(1, 1, 5)], Some(1), Some(3));
        check(&versions, &[held(3, 21)], Some(1), Some(3));
        check(&versions, &[rolled_back(3, 21)], Some(1), Some(2));
        check(&versions, &[], Some(3), None);
        versions[2].may_run = false;
        check(&versions, &[], Some(1), Some(2));
    }
}
