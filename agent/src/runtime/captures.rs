//! Holds the fleet's wish for rows against the site's policy, and says how this box stands to it. Whatever comes of that,
//! the order is followed and nothing has failed.

use muster_protocol::message::EventKind;

use super::agent::Agent;
use crate::capture::{self, Look, Turn};
use crate::clock::monotonic;
use crate::reconcile::Clock;

impl Agent {
    pub(super) fn look_at_captures(&mut self) {
        if self.restoring {
            return;
        }
        let clock = match self.clock_state() {
            Clock::Sound => capture::Clock::Sound,
            Clock::NoEarlier => capture::Clock::Suspect,
        };
        let requests = self.trust.order().map_or(&[][..], |order| &order.capture);
        let look = Look { requests, clock, now: monotonic() };
        let slots = &self.parts.slots;
        let turns = self.captures.look(&look, |slot| slots.signature(slot));
        for Turn { request, slot, standing } in turns {
            tracing::info!(%slot, %request, code = standing.code(), "{}", standing.sentence());
            self.event(EventKind::Capture { request, slot, standing });
        }
    }
}
