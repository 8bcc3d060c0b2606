//! Whose device is it? Rollouts of one slot may be open at the same time; each device follows one of them.
//!
//! The higher priority goes first, and of equals the newer replaces the older: what it hands out must not be taken back by
//! the older. A newer rollout takes a device only once it has begun, and gives it up when it ends otherwise than well. One
//! that is complete has what it wanted, and lets every newer one have its turn.
//!
//! ```text
//!   the other is        newer than ours, as high or higher,    older than ours, higher
//!                       or ours is complete
//!   not begun           free                                   free
//!   begun, completed    superseded                             behind, until it completes
//!   on its way back     behind                                 behind
//!   ended               free                                   free
//! ```
//! A newer one that was aborted, or gave way, leaves its bundle with those that run it ([`Left`]): one that is complete takes
//! none of them back.

use muster_protocol::ids::{DeviceId, RolloutId, SlotName};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;

use super::view::{Beside, Claim, DeviceView};
use super::{Members, Phase, Progress, Rollout};

/// A rollout of the slot, with its members.
#[derive(Clone, Copy, Debug)]
pub struct Contender<'a> {
    pub rollout: &'a Rollout,
    pub members: &'a Members,
}

/// What a rollout left behind that had begun, and that ended with whoever runs its bundle keeping it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    rollout: RolloutId,
    slot: SlotName,
    bundle: BundleRef,
    created: Timestamp,
}

impl Left {
    /// Nothing, if it never began, may still change something, or brought everybody back.
    pub fn by(rollout: &Rollout) -> Option<Self> {
        let keep_it = matches!(rollout.phase, Phase::Aborted { .. } | Phase::Superseded { .. });
        let Rollout { id, slot, bundle, created, .. } = rollout;
        (keep_it && rollout.has_begun()).then(|| Self {
            rollout: id.clone(),
            slot: slot.clone(),
            bundle: bundle.clone(),
            created: *created,
        })
    }
}

/// How a rollout holds the devices that it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    None,
    /// It hands out, or has.
    Firm,
    /// It lets go of them.
    Fading,
    /// It has what it wanted.
    Kept,
}

/// Which rollout of the slot the device belongs to, as `ours` sees it. The order of `others` does not matter.
pub fn claim(ours: &Rollout, others: &[Contender<'_>], id: &DeviceId, device: &DeviceView) -> Claim {
    let mut claim = Claim::Free;
    let mut first: Option<&Rollout> = None;
    for other in others {
        let theirs = other.rollout;
        if theirs.id == ours.id || theirs.slot != ours.slot {
            continue;
        }
        let newer = is_newer(theirs, ours);
        let Some(found) = between(ours, theirs, newer) else { continue };
        if !wants(other, id, device) {
            continue;
        }
        // What is superseded stays so; of two that supersede it, the one that goes first is named.
        let stronger = match (&claim, &found) {
            (Claim::Free, _) | (Claim::Behind { .. }, Claim::Superseded { .. }) => true,
            (Claim::Superseded { .. }, Claim::Behind { .. }) | (_, Claim::Free) => false,
            (Claim::Behind { .. }, Claim::Behind { .. })
            | (Claim::Superseded { .. }, Claim::Superseded { .. }) => {
                first.is_none_or(|first| goes_before(theirs, first))
            }
        };
        if stronger {
            claim = found;
            first = Some(theirs);
        }
    }
    claim
}

/// As [`claim`], where that says free: what a newer rollout has left with the device is not taken back by one that is complete
/// and serves whoever came late.
pub fn kept<'a>(ours: &Rollout, left: impl IntoIterator<Item = &'a Left>, device: &DeviceView) -> Claim {
    let Some(wish) = device.wish.as_ref() else { return Claim::Free };
    if hold(&ours.phase) != Hold::Kept || *wish == ours.bundle {
        return Claim::Free;
    }
    let newer = |left: &&Left| (left.created, &left.rollout) > (ours.created, &ours.id);
    let of_slot = left.into_iter().filter(|left| left.slot == ours.slot && left.bundle == *wish);
    let newest = of_slot.filter(newer).max_by_key(|left| (left.created, &left.rollout));
    newest.map_or(Claim::Free, |left| Claim::Superseded { rollout: left.rollout.clone() })
}

/// How far the one among the other rollouts of the slot that has come furthest is with the device: its partners and its site
/// depend on that, whoever of them asks.
pub fn beside(ours: &Rollout, others: &[Contender<'_>], id: &DeviceId) -> Beside {
    let others = others.iter().filter(|other| other.rollout.id != ours.id && other.rollout.slot == ours.slot);
    let member = |other: &Contender<'_>| match other.members.get(id).map(|member| &member.progress) {
        Some(Progress::Offered { .. }) => Beside::Offered,
        Some(Progress::Ready { .. }) => Beside::Ready,
        Some(Progress::Permitted { .. }) => Beside::Permitted,
        Some(Progress::Activated { .. }) => Beside::Activated,
        Some(
            Progress::Waiting
            | Progress::Excluded { .. }
            | Progress::Baked { .. }
            | Progress::Failed { .. }
            | Progress::Reverted { .. }
            | Progress::Returning { .. }
            | Progress::Returned { .. },
        )
        | None => Beside::Nothing,
    };
    others.map(member).max().unwrap_or_default()
}

/// Whether a rollout of another slot permits the device to change just now: a box changes one thing at a time.
pub fn busy_elsewhere(ours: &Rollout, others: &[Contender<'_>], id: &DeviceId) -> bool {
    others.iter().filter(|other| other.rollout.slot != ours.slot).any(|other| {
        let member = other.members.get(id);
        member.is_some_and(|member| matches!(member.progress, Progress::Permitted { .. }))
    })
}

/// Where a way back from `ours` leads, if not to what the device runs. That may be what it has just been told to leave: a
/// rollout was taken back while it was away. So what the fleet wants of it comes first; unless another rollout has only
/// asked for that, then where that one would lead it back.
pub fn way_back(
    ours: &Rollout,
    others: &[Contender<'_>],
    id: &DeviceId,
    device: &DeviceView,
) -> Option<BundleRef> {
    let wish = device.wish.as_ref().filter(|wish| device.current.as_ref() != Some(*wish))?;
    let others = others.iter().filter(|other| other.rollout.id != ours.id && other.rollout.slot == ours.slot);
    let asked = others.filter_map(|other| Some((other.rollout, other.members.get(id)?.progress.asked()?)));
    let mut asked =
        asked.filter(|(theirs, asked)| theirs.bundle == *wish || asked.via.as_ref() == Some(wish));
    let back = asked.next().map_or(Some(wish), |(_, asked)| asked.from.as_ref());
    back.filter(|back| **back != ours.bundle).cloned()
}

/// What `theirs` means for a device that it wants.
fn between(ours: &Rollout, theirs: &Rollout, newer: bool) -> Option<Claim> {
    let rollout = theirs.id.clone();
    let (mine, other) = (ours.plan.priority, theirs.plan.priority);
    let takes_it = newer && (other >= mine || hold(&ours.phase) == Hold::Kept);
    match hold(&theirs.phase) {
        Hold::Firm | Hold::Kept if takes_it => Some(Claim::Superseded { rollout }),
        Hold::Fading if takes_it => Some(Claim::Behind { rollout }),
        Hold::Firm | Hold::Fading if !newer && other > mine => Some(Claim::Behind { rollout }),
        Hold::Firm | Hold::Fading | Hold::Kept | Hold::None => None,
    }
}

fn hold(phase: &Phase) -> Hold {
    match phase {
        Phase::Running { .. } | Phase::Paused { .. } | Phase::Held { .. } => Hold::Firm,
        Phase::RollingBack { .. } | Phase::Aborting { .. } => Hold::Fading,
        Phase::Completed { .. } => Hold::Kept,
        Phase::Proposed { .. }
        | Phase::Scheduled { .. }
        | Phase::RolledBack { .. }
        | Phase::Aborted { .. }
        | Phase::Superseded { .. } => Hold::None,
    }
}

/// Whether the device is, or is about to be, part of it.
pub fn wants(other: &Contender<'_>, id: &DeviceId, device: &DeviceView) -> bool {
    match other.members.get(id).map(|member| &member.progress) {
        // It has nothing for this device, so it takes nothing from it either.
        Some(Progress::Excluded { .. } | Progress::Returned { .. }) => false,
        Some(
            Progress::Waiting
            | Progress::Offered { .. }
            | Progress::Ready { .. }
            | Progress::Permitted { .. }
            | Progress::Activated { .. }
            | Progress::Baked { .. }
            | Progress::Failed { .. }
            | Progress::Reverted { .. }
            | Progress::Returning { .. },
        ) => true,
        None => other.rollout.plan.selector.matches(&device.traits(id)),
    }
}

fn is_newer(a: &Rollout, b: &Rollout) -> bool {
    (a.created, &a.id) > (b.created, &b.id)
}

/// The order of rollouts in a slot.
fn goes_before(a: &Rollout, b: &Rollout) -> bool {
    (a.plan.priority, a.created, &a.id) > (b.plan.priority, b.created, &b.id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use muster_protocol::ids::{Digest, RolloutId};
    use muster_protocol::message::up::BundleRef;
    use muster_protocol::time::Timestamp;

    use super::*;
    use crate::rollout::plan::{Size, tests::plan};
    use crate::rollout::{Actor, Asked, Cause, Member};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn device() -> (DeviceId, DeviceView) {
        (DeviceId::mint([9; 16]), DeviceView::at("er-1".parse().unwrap()))
    }

    /// Created at `n`, of a priority, in a phase.
    fn rollout(n: u8, priority: u16, phase: Phase) -> Rollout {
        let bundle = BundleRef {
            path: format!("bundles/er-beds/{n}.json").parse().unwrap(),
            sha256: Digest::of(&[n]),
        };
        let names = ("er-beds".parse().unwrap(), "er-beds".parse().unwrap());
        let by = (Actor::Person { name: "ada".to_owned() }, String::new());
        let mut plan = plan(&[Size::Percent(100.0)]);
        plan.priority = priority;
        let begun = Rollout::start(RolloutId::mint([n; 16]), names, bundle, plan, by, at(i64::from(n)));
        Rollout { phase, ..begun.unwrap() }
    }

    fn running() -> Phase {
        Phase::Running { since: at(1), stage: 0 }
    }

    fn rolling_back() -> Phase {
        let by = Actor::Engine;
        Phase::RollingBack { since: at(1), stage: 0, cause: Cause::new("x", "x"), by }
    }

    /// Ours is the second of three, of the usual priority; `theirs` is the other.
    fn check(theirs: &Rollout, expect: &str) {
        let (id, device) = device();
        let (ours, none) = (rollout(2, 500, running()), Members::new());
        let others =
            [Contender { rollout: &ours, members: &none }, Contender { rollout: theirs, members: &none }];
        let found = match claim(&ours, &others, &id, &device) {
            Claim::Free => "free",
            Claim::Behind { .. } => "behind",
            Claim::Superseded { .. } => "superseded",
        };
        let (priority, phase) = (theirs.plan.priority, theirs.phase.name());
        assert_eq!(found, expect, "created {}, priority {priority}, {phase}", theirs.created);
    }

    #[test]
    fn beside_is_whoever_of_the_others_has_come_furthest() {
        let (id, _) = device();
        let asked = || Asked { at: at(1), from: None, via: None };
        let member = |progress| Members::from([(id.clone(), Member { stage: 0, attempts: 1, progress })]);
        let (offered, permitted) = (
            member(Progress::Offered { asked: asked() }),
            member(Progress::Permitted { asked: asked(), since: at(2), until: None }),
        );
        let waiting = member(Progress::Waiting);
        let (ours, second, third) =
            (rollout(1, 500, running()), rollout(2, 500, running()), rollout(3, 500, running()));
        let elsewhere = Rollout { slot: "triage".parse().unwrap(), ..third.clone() };
        let check = |others: &[(&Rollout, &Members)], expect| {
            let others: Vec<Contender<'_>> =
                others.iter().map(|&(rollout, members)| Contender { rollout, members }).collect();
            assert_eq!(beside(&ours, &others, &id), expect);
        };
        check(&[(&ours, &permitted), (&second, &waiting), (&elsewhere, &permitted)], Beside::Nothing);
        check(&[(&second, &offered), (&third, &waiting)], Beside::Offered);
        check(&[(&second, &permitted), (&third, &offered)], Beside::Permitted);
        check(&[(&second, &Members::new())], Beside::Nothing);
    }

    #[test]
    fn the_table() {
        let done = || Phase::Completed { at: at(5) };
        let proposed = || Phase::Proposed { since: at(1) };
        let back = || Phase::RolledBack { at: at(5), stage: 0, cause: Cause::new("x", "x") };
        check(&rollout(3, 500, proposed()), "free");
        check(&rollout(3, 500, running()), "superseded");
        check(&rollout(3, 900, running()), "superseded");
        check(&rollout(3, 500, done()), "superseded");
        check(&rollout(3, 500, rolling_back()), "behind");
        check(&rollout(3, 500, back()), "free");
        check(&rollout(3, 100, running()), "free");
        check(&rollout(1, 500, running()), "free");
        check(&rollout(1, 900, running()), "behind");
        check(&rollout(1, 900, rolling_back()), "behind");
        check(&rollout(1, 900, done()), "free");
        check(&rollout(1, 500, rolling_back()), "free");
    }

    #[test]
    fn what_is_complete_lets_every_newer_one_have_its_turn() {
        let (id, device) = device();
        let (ours, theirs) = (rollout(2, 500, Phase::Completed { at: at(5) }), rollout(3, 100, running()));
        let none = Members::new();
        let found = claim(&ours, &[Contender { rollout: &theirs, members: &none }], &id, &device);
        assert_eq!(found, Claim::Superseded { rollout: theirs.id.clone() });
    }

    #[test]
    fn a_way_back_never_leads_to_what_was_left() {
        let (id, mut device) = device();
        let (ours, theirs) = (rollout(2, 500, running()), rollout(3, 500, running()));
        let old = rollout(1, 500, running()).bundle;
        let asked = |progress: fn(Asked) -> Progress| {
            let asked = Asked { at: at(4), from: Some(old.clone()), via: None };
            Members::from([(id.clone(), Member { stage: 0, attempts: 1, progress: progress(asked) })])
        };
        let offered = asked(|asked| Progress::Offered { asked });
        let none = Members::new();
        let ask = |device: &DeviceView, members: &Members| {
            way_back(&ours, &[Contender { rollout: &theirs, members }], &id, device)
        };
        device.current = Some(old.clone());
        device.wish = Some(old.clone());
        assert_eq!(ask(&device, &none), None, "it runs what it shall");
        device.current = Some(theirs.bundle.clone());
        assert_eq!(ask(&device, &none), Some(old.clone()), "it was told to leave what it runs");
        device.current = None;
        device.wish = Some(theirs.bundle.clone());
        assert_eq!(ask(&device, &offered), Some(old.clone()), "it was asked for something that it never ran");
        device.wish = Some(ours.bundle.clone());
        assert_eq!(ask(&device, &none), None, "ours is no way back from ours");
    }

    #[test]
    fn another_slot_is_another_matter() {
        let mut theirs = rollout(3, 900, running());
        theirs.slot = "other".parse().unwrap();
        check(&theirs, "free");
    }

    #[test]
    fn who_does_not_want_a_device_takes_nothing_from_it() {
        let (id, device) = device();
        let (ours, mut theirs) = (rollout(2, 500, running()), rollout(3, 500, running()));
        let member = |progress| Members::from([(id.clone(), Member { stage: 0, attempts: 0, progress })]);
        let excluded = member(Progress::Excluded { at: at(4), cause: Cause::new("unfit", "unfit") });
        let ask = |theirs: &Rollout, members: &Members| {
            claim(&ours, &[Contender { rollout: theirs, members }], &id, &device)
        };
        assert_eq!(ask(&theirs, &excluded), Claim::Free);
        assert_eq!(
            ask(&theirs, &member(Progress::Waiting)),
            Claim::Superseded { rollout: theirs.id.clone() }
        );
        theirs.plan.selector.sites = Some(BTreeSet::from(["icu".parse().unwrap()]));
        assert_eq!(ask(&theirs, &Members::new()), Claim::Free);
        // It moved out of the cohort, and is still in its hands.
        assert_eq!(
            ask(&theirs, &member(Progress::Waiting)),
            Claim::Superseded { rollout: theirs.id.clone() }
        );
    }

    #[test]
    fn the_one_that_goes_first_is_named_whatever_the_order() {
        let (id, device) = device();
        let none = Members::new();
        let ours = rollout(2, 500, running());
        let others = [rollout(3, 500, running()), rollout(4, 600, running()), rollout(1, 900, running())];
        let expect = Claim::Superseded { rollout: others[1].id.clone() };
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
            let others: Vec<Contender<'_>> =
                order.iter().map(|&i| Contender { rollout: &others[i], members: &none }).collect();
            assert_eq!(claim(&ours, &others, &id, &device), expect, "{order:?}");
        }
    }

    #[test]
    fn what_a_newer_one_left_with_a_device_stays_there() {
        let (_, mut device) = device();
        let aborted = |n| {
            rollout(n, 500, Phase::Aborted { at: at(5), stage: 0, by: Actor::Engine, reason: String::new() })
        };
        let (ours, theirs) = (rollout(2, 500, Phase::Completed { at: at(4) }), aborted(3));
        let left: Vec<Left> = [&aborted(1), &theirs].into_iter().filter_map(Left::by).collect();
        let ask = |ours: &Rollout, device: &DeviceView| kept(ours, &left, device);
        device.wish = Some(theirs.bundle.clone());
        assert_eq!(ask(&ours, &device), Claim::Superseded { rollout: theirs.id.clone() });
        assert_eq!(ask(&rollout(2, 500, running()), &device), Claim::Free, "it hands out, and is asked for");
        assert_eq!(ask(&rollout(4, 500, ours.phase.clone()), &device), Claim::Free, "ours is the newer");
        device.wish = Some(ours.bundle.clone());
        assert_eq!(ask(&ours, &device), Claim::Free, "it wants ours");
        device.wish = Some(rollout(1, 500, running()).bundle);
        assert_eq!(ask(&ours, &device), Claim::Free, "what an older one left is what ours is for");
        let mut never = aborted(3);
        never.stages[0].opened = None;
        assert_eq!(Left::by(&never), None, "it never began");
        assert_eq!(Left::by(&rollout(3, 500, rolling_back())), None, "everybody goes back");
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nobody_older() {
        let (older, mut newer) = (rollout(200, 500, running()), rollout(3, 500, running()));
        assert!(is_newer(&older, &newer));
        newer.come_after(older.created);
        assert!(is_newer(&newer, &older));
        assert_eq!(newer.created, older.created.plus(std::time::Duration::from_millis(1)));
        assert_eq!(newer.shown_since(), at(3), "what is shown while the clock is behind counts too");
        let (mut ours, created) = (rollout(5, 500, running()), at(5));
        ours.come_after(at(4));
        assert_eq!((ours.created, ours.shown_since()), (created, created));
    }
}
