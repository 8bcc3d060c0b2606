//! Which bundle runs beside the one that answers, on the same requests, without answering.

use std::time::Duration;

use muster_protocol::message::Phase;
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use muster_protocol::trust::Standing;

use super::Occupied;

/// How long the bundle before is asked what it would have answered: the days of a ward are alike, its hours are not.
const AFTER_ACTIVATION: Duration = Duration::from_hours(24);

/// A proven bundle that waits for its moment: so its first patient is not the one that it is tried on. Or else, for a day
/// after an activation (`since`), the bundle before: what a canary says that the others would not have.
pub fn beside<'a>(
    phase: &'a Phase,
    occupied: &'a Occupied,
    since: Timestamp,
    now: Timestamp,
) -> Option<&'a BundleRef> {
    occupied.current.as_ref().filter(|_| !occupied.stopped)?;
    match phase {
        Phase::Ready { bundle, .. } => Some(bundle),
        Phase::Running { .. } if now < since.plus(AFTER_ACTIVATION) => {
            occupied.previous.as_ref().filter(|_| !matches!(occupied.previous_standing, Standing::Revoked(_)))
        }
        Phase::Running { .. }
        | Phase::Empty
        | Phase::Downloading { .. }
        | Phase::Verifying { .. }
        | Phase::SelfTesting { .. }
        | Phase::Activating { .. }
        | Phase::Failed { .. }
        | Phase::Stopped { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use muster_protocol::ids::Digest;
    use muster_protocol::message::ReadyFor;
    use muster_protocol::trust::{Revocation, RevocationAction};

    use super::*;

    fn bundle(version: &str) -> BundleRef {
        let path = format!("bundles/beds/{version}.json").parse().unwrap();
        BundleRef { path, sha256: Digest::of(version.as_bytes()) }
    }

    #[test]
    fn what_waits_goes_first_then_the_one_before_for_a_day() {
        let (old, new, newer) = (bundle("1"), bundle("2"), bundle("3"));
        let occupied =
            Occupied { current: Some(new.clone()), previous: Some(old.clone()), ..Occupied::default() };
        let since = Timestamp::from_millis(0);
        let hour = |hours| since.plus(Duration::from_hours(hours));
        let running = Phase::Running { bundle: new.clone() };
        let ready = Phase::Ready { bundle: newer.clone(), waits_for: ReadyFor::Permit };
        let check = |phase: &Phase, occupied: &Occupied, at, expect: Option<&BundleRef>| {
            assert_eq!(beside(phase, occupied, since, at), expect, "{phase:?}");
        };
        check(&running, &occupied, hour(23), Some(&old));
        check(&running, &occupied, hour(24), None);
        check(&ready, &occupied, hour(1), Some(&newer));
        check(&ready, &occupied, hour(99), Some(&newer));
        check(&Phase::Activating { bundle: newer.clone() }, &occupied, hour(1), None);
        check(&ready, &Occupied::default(), hour(1), None);
        check(&running, &Occupied { stopped: true, ..occupied.clone() }, hour(1), None);
        let reason = "it counts beds twice".into();
        let revoked = Standing::Revoked(Revocation { reason, action: RevocationAction::Retain });
        check(&running, &Occupied { previous_standing: revoked, ..occupied }, hour(1), None);
    }
}
