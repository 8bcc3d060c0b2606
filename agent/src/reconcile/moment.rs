//! When a proven bundle may take over: the fleet's permit, the applications' leases, the consent of people.
//!
//! ```text
//!   proven ──permit?──▶ ──lease?──▶ ──consent?──▶ activate
//!             no: Ready{permit}  one lives: Ready{lease}  asked and not given: Ready{consent}
//! ```
//!
//! One reason is told, the first in this order. Without the permit nothing that anybody at the box does would help. A lease
//! ends by itself or by its application. So people are bothered last, when their word is all that is missing and the bundle
//! takes over as soon as they say it. (It may be given earlier; then nobody is asked.)
//!
//! It holds for every activation: the first in an empty slot, a repaired bundle, one that was reinstated, a way back. Only
//! the owner's own wish to be asked does not hold for the way back to what the slot ran just before: going back is what a
//! fleet does when the new bundle harms somebody, and the owner has let the old one run already. A fleet that wants to ask
//! even then says so in its order, and a lease holds there too: the longest is a day, and what must not answer at all is
//! revoked, which stops it at once and waits for nothing.

use muster_protocol::ids::SlotName;
use muster_protocol::message::ReadyFor;
use muster_protocol::time::Timestamp;
use muster_protocol::trust::{Consent, Permit};

use super::wish::Wanted;
use super::world::{Clock, World};

/// What a proven bundle waits for, and when that may have changed by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub waits_for: ReadyFor,
    pub look_again: Option<Timestamp>,
}

/// `None`: it may take over now.
pub fn waits(slot: &SlotName, wanted: &Wanted, world: &World, now: Timestamp) -> Option<Waiting> {
    let permitted_until = match wanted.activate {
        Permit::Now => None,
        Permit::Hold => return Some(Waiting { waits_for: ReadyFor::Permit, look_again: None }),
        // That it is not yet later than the end is what such a clock cannot know.
        Permit::Until(_) if world.clock == Clock::NoEarlier => {
            return Some(Waiting { waits_for: ReadyFor::Permit, look_again: None });
        }
        Permit::Until(end) if end <= now => {
            return Some(Waiting { waits_for: ReadyFor::Permit, look_again: None });
        }
        Permit::Until(end) => Some(end),
    };
    let ends = world.house.leases.iter().map(|lease| lease.until).filter(|until| *until > now);
    if let Some(first) = ends.min() {
        let look_again = Some(permitted_until.map_or(first, |end| first.min(end)));
        return Some(Waiting { waits_for: ReadyFor::Lease, look_again });
    }
    let given = world.house.given.get(slot) == Some(&wanted.bundle.sha256);
    if asks(slot, wanted, world) && !given {
        return Some(Waiting { waits_for: ReadyFor::Consent, look_again: permitted_until });
    }
    None
}

/// Whether somebody at the box must say yes first.
pub fn asks(slot: &SlotName, wanted: &Wanted, world: &World) -> bool {
    let ran_before = world.slots.get(slot).is_some_and(|occupied| {
        [&occupied.previous, &occupied.current].into_iter().flatten().any(|ran| *ran == wanted.bundle)
    });
    wanted.consent == Consent::Ask || (world.house.consent == Consent::Ask && !ran_before)
}
