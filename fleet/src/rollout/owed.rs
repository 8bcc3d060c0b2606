//! Orders that the engine's answer demands and that could not be made when it was saved, because the catalogue had expired
//! or did not list the bundle. What is owed shows in the view: the device's wish is still that of before.

use std::ops::Bound;

use muster_protocol::ids::DeviceId;
use muster_protocol::message::up::BundleRef;
use muster_protocol::trust::Consent;

use super::{Asked, Assignment, Claim, DeviceView, FleetView, Members, Moment, Phase, Progress, Rollout};

/// Orders tried in one look; the rest follow in the next.
const TRIED_MAX: usize = 100;

/// To be asked when the view is up to date: right after a save it is not. Begins behind the device that was tried last, and
/// goes round: those whose orders can never be made must not stand before the others for ever.
pub fn owed(
    rollout: &Rollout,
    members: &Members,
    view: &FleetView,
    tried: Option<&DeviceId>,
) -> Vec<Assignment> {
    let from = tried.map_or(Bound::Unbounded, Bound::Excluded);
    let behind = members.range::<DeviceId, (Bound<&DeviceId>, Bound<&DeviceId>)>((from, Bound::Unbounded));
    let before = tried.into_iter().flat_map(|tried| members.range::<DeviceId, _>(..=tried));
    let owed = behind.chain(before).filter_map(|(id, member)| {
        let device = view.devices.get(id)?;
        let (bundle, permit) = missing(rollout, &member.progress, device)?;
        // A stop is final for whom it found without an order, too.
        let is_stopped =
            !hands_out(&rollout.phase) || view.freezes.iter().any(|freeze| freeze.covers(&device.site));
        if is_stopped && !leads_back(&member.progress) {
            return None;
        }
        let rules = view.sites.get(&device.site).map(|site| &site.rules);
        let consent = match permit {
            // Nobody is asked whether a box may go back.
            Moment::Now if bundle.as_ref() != Some(&rollout.bundle) => Consent::NotNeeded,
            Moment::Now | Moment::Hold | Moment::Until(_) => {
                rules.map(|rules| rules.consent).unwrap_or_default()
            }
        };
        Some(Assignment { device: id.clone(), bundle, permit, consent })
    });
    owed.take(TRIED_MAX).collect()
}

/// Whether what it may be owed is a way back: nothing that stands keeps anybody on what it has failed or must leave.
fn leads_back(progress: &Progress) -> bool {
    match progress {
        Progress::Failed { .. } | Progress::Reverted { .. } | Progress::Returning { .. } => true,
        Progress::Waiting
        | Progress::Excluded { .. }
        | Progress::Offered { .. }
        | Progress::Ready { .. }
        | Progress::Permitted { .. }
        | Progress::Activated { .. }
        | Progress::Baked { .. }
        | Progress::Returned { .. } => false,
    }
}

fn hands_out(phase: &Phase) -> bool {
    matches!(phase, Phase::Running { .. } | Phase::Completed { .. })
}

fn missing(
    rollout: &Rollout,
    progress: &Progress,
    device: &DeviceView,
) -> Option<(Option<BundleRef>, Moment)> {
    let asked = |asked: &Asked, permit| {
        // Two that insist would send it to and fro for ever.
        if device.claim != Claim::Free {
            return None;
        }
        let target = asked.via.clone().unwrap_or_else(|| rollout.bundle.clone());
        device.is_untold(asked, &target).then_some((Some(target), permit))
    };
    let back = |to: Option<&BundleRef>| {
        let is_ours = device.is_still_of(rollout);
        (is_ours && to != device.wish.as_ref()).then(|| (to.cloned(), Moment::Now))
    };
    match progress {
        Progress::Returning { to, .. } => back(to.as_ref()),
        // Whoever ran the bundle before it was asked has nothing to go back to.
        Progress::Failed { asked, .. } | Progress::Reverted { asked, .. } => {
            if asked.from.as_ref() == Some(&rollout.bundle) { None } else { back(asked.from.as_ref()) }
        }
        Progress::Offered { asked: told } | Progress::Ready { asked: told, .. } => asked(told, Moment::Hold),
        Progress::Permitted { asked: told, until, .. } => {
            asked(told, until.map_or(Moment::Now, Moment::Until))
        }
        Progress::Waiting
        | Progress::Excluded { .. }
        | Progress::Activated { .. }
        | Progress::Baked { .. }
        | Progress::Returned { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use muster_protocol::ids::{Digest, RolloutId};
    use muster_protocol::time::Timestamp;

    use super::*;
    use crate::rollout::plan::{Size, SteppingStone, tests::plan};
    use crate::rollout::{Actor, Cause, Freeze, Member};

    fn bundle(n: u8) -> BundleRef {
        let path = format!("bundles/er-beds/{n}.json").parse().unwrap();
        BundleRef { path, sha256: Digest::of(&[n]) }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    /// A rollout of bundle 2 over stone 9.
    fn rollout(phase: Phase) -> Rollout {
        let names = ("er-beds".parse().unwrap(), "er-beds".parse().unwrap());
        let by = (Actor::Person { name: "ada".to_owned() }, String::new());
        let mut plan = plan(&[Size::Percent(100.0)]);
        plan.stepping_stones = vec![SteppingStone { from: bundle(1).path, via: bundle(9) }];
        let begun = Rollout::start(RolloutId::mint([1; 16]), names, bundle(2), plan, by, at(0)).unwrap();
        Rollout { phase, ..begun }
    }

    /// It runs 1, and its order wants `wish`.
    fn device(wish: u8) -> DeviceView {
        let mut device = DeviceView::at("icu".parse().unwrap());
        device.current = Some(bundle(1));
        device.wish = Some(bundle(wish));
        device
    }

    /// What one device is owed.
    fn owes(phase: Phase, progress: Progress, wish: u8, freeze: bool) -> Option<(Option<BundleRef>, Moment)> {
        let (rollout, id, device) = (rollout(phase), DeviceId::mint([1; 16]), device(wish));
        let freezes = if freeze {
            vec![Freeze { since: at(1), by: "ada".to_owned(), reason: "audit".to_owned(), sites: None }]
        } else {
            Vec::new()
        };
        let view =
            FleetView { devices: BTreeMap::from([(id.clone(), device)]), freezes, ..FleetView::default() };
        let members = Members::from([(id, Member { stage: 0, attempts: 1, progress })]);
        let mut owed = owed(&rollout, &members, &view, None);
        owed.pop().map(|assignment| (assignment.bundle, assignment.permit))
    }

    fn running() -> Phase {
        Phase::Running { since: at(1), stage: 0 }
    }

    fn rolling_back() -> Phase {
        let cause = Cause::new("x", "x");
        Phase::RollingBack { since: at(1), stage: 0, cause, by: Actor::Engine }
    }

    #[test]
    fn an_offer_without_its_order_is_owed_until_the_order_says_it() {
        let offered = |via: Option<u8>| {
            let asked = Asked { at: at(1), from: Some(bundle(1)), via: via.map(bundle) };
            Progress::Offered { asked }
        };
        assert_eq!(owes(running(), offered(None), 1, false), Some((Some(bundle(2)), Moment::Hold)));
        assert_eq!(owes(running(), offered(Some(9)), 1, false), Some((Some(bundle(9)), Moment::Hold)));
        assert_eq!(owes(running(), offered(None), 2, false), None, "it says so already");
        assert_eq!(owes(running(), offered(None), 5, false), None, "somebody else's order");
        assert_eq!(owes(running(), offered(None), 1, true), None, "frozen");
        assert_eq!(owes(rolling_back(), offered(None), 1, false), None, "nobody is handed it any more");
    }

    #[test]
    fn a_way_back_without_its_order_is_owed_whatever_stands_still() {
        let back = || Progress::Returning { at: at(2), to: Some(bundle(1)) };
        let expect = Some((Some(bundle(1)), Moment::Now));
        assert_eq!(owes(rolling_back(), back(), 2, false), expect);
        assert_eq!(owes(rolling_back(), back(), 2, true), expect, "a freeze keeps nobody on a bad bundle");
        assert_eq!(owes(rolling_back(), back(), 9, false), expect, "from a stepping stone too");
        assert_eq!(owes(rolling_back(), back(), 1, false), None, "it says so already");
        assert_eq!(owes(rolling_back(), back(), 5, false), None, "somebody else's order");
    }

    #[test]
    fn whoever_failed_or_left_it_is_owed_its_way_back_too() {
        let asked = |from: u8| Asked { at: at(1), from: Some(bundle(from)), via: None };
        let failed = |from| Progress::Failed { asked: asked(from), at: at(2), cause: Cause::new("x", "x") };
        let left = |from| {
            let cause = Cause::new("x", "x");
            Progress::Reverted { asked: asked(from), activated: at(2), at: at(3), cause }
        };
        let expect = Some((Some(bundle(1)), Moment::Now));
        assert_eq!(owes(running(), failed(1), 2, false), expect);
        assert_eq!(owes(running(), failed(1), 2, true), expect, "a freeze keeps nobody on what it failed");
        assert_eq!(owes(running(), left(1), 2, false), expect);
        assert_eq!(owes(running(), failed(1), 9, false), expect, "from a stepping stone too");
        assert_eq!(owes(running(), failed(1), 1, false), None, "it says so already");
        assert_eq!(owes(running(), failed(1), 5, false), None, "somebody else's order");
        assert_eq!(owes(running(), failed(2), 2, false), None, "it ran it before it was asked");
    }

    #[test]
    fn orders_that_can_never_be_made_hold_up_none_behind_them() {
        const MANY: u8 = 150;
        let rollout = rollout(running());
        let asked = Asked { at: at(1), from: Some(bundle(1)), via: None };
        let ids = || (0..MANY).map(|n| DeviceId::mint([n; 16]));
        let member = Member { stage: 0, attempts: 1, progress: Progress::Offered { asked } };
        let members: Members = ids().map(|id| (id, member.clone())).collect();
        let view = FleetView { devices: ids().map(|id| (id, device(1))).collect(), ..FleetView::default() };
        let round = |tried: Option<&DeviceId>| -> Vec<DeviceId> {
            owed(&rollout, &members, &view, tried).into_iter().map(|owed| owed.device).collect()
        };
        let first = round(None);
        let second = round(first.last());
        assert_eq!((first.len(), second.len()), (TRIED_MAX, TRIED_MAX));
        let tried: BTreeSet<&DeviceId> = first.iter().chain(&second).collect();
        assert_eq!(tried.len(), usize::from(MANY), "everybody had a turn");
        assert_eq!(second[usize::from(MANY) - TRIED_MAX], first[0], "and it goes round");
    }
}
