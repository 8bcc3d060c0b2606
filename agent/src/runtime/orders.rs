//! Trust files and orders as they come: taken in at once, judged when the dust has settled, refused with a reason.
//!
//! Files come in any order, and an order may overtake the catalogue that it needs. So an order is judged when no file
//! came for a moment, is kept while more files may change the answer, and a refusal that may only be haste is not
//! spoken of before its grace is over.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_protocol::message::{EventKind, Refusal};
use muster_protocol::trust::{Order, OrderRefusal, Outcome, Verdict};

use super::agent::Agent;
use crate::chain;
use crate::clock::monotonic;
use crate::reconcile::Wish;
use crate::trust::{AcceptError, RefreshError};

/// No trust file for this long: the files that came are judged.
const SETTLE: Duration = Duration::from_millis(150);
/// After a new connection what is retained comes in a burst.
const SETTLE_LINKED: Duration = Duration::from_millis(300);
/// An incomplete catalogue is a matter of seconds; after this it is somebody's doing.
const GRACE_INCOMPLETE: Duration = Duration::from_mins(1);
/// The file that lists a new bundle may be a moment behind the order that wants it.
const GRACE_UNCATALOGUED: Duration = Duration::from_secs(2);
/// A state folder that cannot be written is tried again.
const RETRY_STORE: Duration = Duration::from_secs(10);
const STORE_CODE: &str = "trust_not_saved";
/// Refusals remembered as said.
const SAID_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Orders {
    /// An order that is not accepted and may yet be.
    waiting: Option<Bytes>,
    judge_at: Option<Instant>,
    refused_order: Option<Held>,
    refused_trust: Option<Held>,
    said: BTreeSet<(String, String)>,
}

/// A refusal and when it may be spoken of.
#[derive(Debug)]
struct Held {
    what: What,
    refusal: Refusal,
    speak_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Order,
    Trust,
}

impl Orders {
    pub(super) fn next(&self) -> Option<Instant> {
        let speaks = |held: &Held| (!self.was_said(&held.refusal)).then_some(held.speak_at);
        let refusals = [&self.refused_order, &self.refused_trust].map(|held| held.as_ref().and_then(speaks));
        refusals.into_iter().chain([self.judge_at]).flatten().min()
    }

    /// Why the newest order or catalogue is refused, if its grace is over.
    pub(super) fn refusal(&self, now: Instant) -> Option<Refusal> {
        let held = [&self.refused_order, &self.refused_trust].into_iter().flatten();
        held.filter(|held| held.speak_at <= now).map(|held| held.refusal.clone()).next()
    }

    fn was_said(&self, refusal: &Refusal) -> bool {
        self.said.contains(&key(refusal))
    }

    /// Keeps the time at which the same refusal was first met.
    fn hold(&mut self, what: What, code: &str, sentence: String, grace: Duration) {
        let refusal = Refusal { code: code.to_owned(), sentence: sentence.into() };
        let place = match what {
            What::Order => &mut self.refused_order,
            What::Trust => &mut self.refused_trust,
        };
        if place.as_ref().is_none_or(|held| held.refusal != refusal) {
            tracing::warn!(code, reason = %refusal.sentence, "refused for now");
            *place = Some(Held { what, refusal, speak_at: monotonic() + grace });
        }
    }
}

impl Agent {
    pub(super) fn order_came(&mut self, bytes: Bytes) {
        self.orders.waiting = Some(bytes);
        let now = monotonic();
        self.orders.judge_at.get_or_insert(now);
    }

    pub(super) fn trust_file_came(&mut self, name: &str, bytes: &[u8]) {
        match self.trust.offer(name, bytes) {
            Ok(false) => {}
            Ok(true) => self.orders.judge_at = self.orders.judge_at.max(Some(monotonic() + SETTLE)),
            Err(error) => self.trust_refused(&error),
        }
    }

    /// What is retained on the broker is about to come: nothing is judged before it has.
    pub(super) fn expect_trust(&mut self) {
        self.orders.judge_at = Some(monotonic() + SETTLE_LINKED);
    }

    /// Judges what has come, and speaks of refusals whose grace is over.
    pub(super) fn look_at_trust(&mut self) {
        let now = monotonic();
        if self.orders.judge_at.is_some_and(|at| at <= now) {
            self.orders.judge_at = None;
            self.refresh();
            self.judge_order();
        }
        let due: Vec<(What, Refusal)> = [&self.orders.refused_order, &self.orders.refused_trust]
            .into_iter()
            .flatten()
            .filter(|held| held.speak_at <= now && !self.orders.was_said(&held.refusal))
            .map(|held| (held.what, held.refusal.clone()))
            .collect();
        for (what, refusal) in due {
            if self.orders.said.len() >= SAID_MAX {
                self.orders.said.clear();
            }
            self.orders.said.insert(key(&refusal));
            let Refusal { code, sentence } = refusal;
            self.event(match what {
                What::Order => EventKind::OrderRefused { code, sentence },
                What::Trust => EventKind::TrustRefused { code, sentence },
            });
        }
    }

    fn refresh(&mut self) {
        let before = self.trust.floor();
        let mut refreshed = self.trust.refresh(self.parts.clock.now());
        if self.trust.floor() < before {
            // A root replaced the keys that said what time it was: what came with it is judged without them.
            self.parts.clock.forget();
            self.parts.clock.raise(self.trust.floor());
            refreshed = self.trust.refresh(self.parts.clock.now());
        }
        // It cannot be earlier than what was just verified.
        self.parts.clock.raise(self.trust.floor());
        match refreshed {
            Ok(done) => match done.outcome {
                Outcome::Unchanged | Outcome::Updated => self.orders.refused_trust = None,
                Outcome::Incomplete { missing } => {
                    let sentence = format!(
                        "the catalogue has not come in full: {} is missing; is the fleet server running?",
                        missing.join(", ")
                    );
                    self.orders.hold(What::Trust, "catalogue_incomplete", sentence, GRACE_INCOMPLETE);
                }
            },
            Err(error) => {
                if let RefreshError::Store(_) = error {
                    self.judge_soon();
                }
                self.trust_refused(&error);
            }
        }
    }

    /// What the disk did not take is judged again when it may take it.
    pub(super) fn judge_soon(&mut self) {
        self.orders.judge_at = Some(monotonic() + RETRY_STORE);
    }

    /// The wish becomes what the order says that is in force.
    fn follow(&mut self) {
        if let Some(order) = self.trust.order() {
            let wish = wish_after(self.ledger.wish(), order);
            self.set_wish(wish);
        }
    }

    fn judge_order(&mut self) {
        let Some(bytes) = self.orders.waiting.clone() else { return self.follow() };
        let now = self.parts.clock.now();
        match self.trust.accept_order(&bytes, &self.device, &self.parts.fitness, now) {
            Ok(verdict) => {
                self.orders.waiting = None;
                self.orders.refused_order = None;
                if let Verdict::Accepted(order) = verdict {
                    tracing::info!(order.version = order.version, slots = order.want.len(), "order accepted");
                }
                self.follow();
            }
            Err(AcceptError::Refused(refusal)) => {
                let grace = grace(&refusal);
                if grace.is_zero() {
                    self.orders.waiting = None;
                }
                self.orders.hold(What::Order, refusal.code(), chain(&refusal), grace);
            }
            Err(AcceptError::Store(error)) => {
                self.judge_soon();
                self.orders.hold(What::Order, STORE_CODE, chain(&error), Duration::ZERO);
            }
        }
    }

    fn trust_refused(&mut self, error: &RefreshError) {
        let code = match error {
            RefreshError::Trust(error) => error.code(),
            RefreshError::Store(_) => STORE_CODE,
        };
        self.orders.hold(What::Trust, code, chain(error), Duration::ZERO);
    }
}

/// The wish after an order that the trust store accepted. It alone judges what is newer: after stolen order keys were
/// replaced, versions begin anew below what the thief had reached, and nothing of his wish is carried on.
pub(super) fn wish_after(before: Option<&Wish>, order: &Order) -> Wish {
    Wish::follow(before.filter(|before| before.generation <= order.version), order)
}

/// How long a refusal may be mere haste; zero where nothing that comes can change it.
fn grace(refusal: &OrderRefusal) -> Duration {
    match refusal {
        OrderRefusal::Uncatalogued { .. }
        | OrderRefusal::HashDisagrees { .. }
        | OrderRefusal::Revoked { .. }
        | OrderRefusal::Unfit { .. } => GRACE_UNCATALOGUED,
        OrderRefusal::FutureCatalogue { .. }
        | OrderRefusal::CatalogueIncomplete(_)
        | OrderRefusal::CatalogueStale(_) => GRACE_INCOMPLETE,
        OrderRefusal::TooLarge { .. }
        | OrderRefusal::Envelope(_)
        | OrderRefusal::Signature { .. }
        | OrderRefusal::WrongType { .. }
        | OrderRefusal::Document(_)
        | OrderRefusal::Unbounded(_)
        | OrderRefusal::OtherDevice { .. }
        | OrderRefusal::OlderVersion { .. }
        | OrderRefusal::Expired { .. } => Duration::ZERO,
    }
}

fn key(refusal: &Refusal) -> (String, String) {
    (refusal.code.clone(), refusal.sentence.to_string())
}
