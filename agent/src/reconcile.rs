//! The agent's mind: given what is wished and what is so, what to do next. It touches nothing and remembers nothing.
//!
//! ```text
//!   Unread ──fetch manifest──▶ Partial ──fetch files──▶ Stored ──verify──▶ Verified ──self-test──▶ Proven ──activate──▶ runs
//!                                              staged by then; it takes over when its moment has come (`moment`) ──┘
//!      a step that fails for now: a setback, tried again later · for good: bad, until it is asked for anew
//!
//!   runs ──revoked with `stop`──▶ stopped ──reinstated, and still wished──▶ verify … as above: it is proven anew
//! ```
//!
//! Level-triggered: the whole wish and the whole world go in, the whole answer comes out, so that a lost, doubled or
//! late message changes nothing. At most one of verifying, testing and activating goes on in a box at any time: it is
//! somebody's working machine.
//!
//! *Driving it without a box.* [`plan`] is a pure function of what is public here, so that a simulation runs thousands of
//! boxes on one thread. Such a box is a [`World`], a `Option<Wish>` and a list of what is under way:
//!
//! 1. an order that its trust store would accept: `wish = Some(Wish::follow(wish.as_ref(), &order))`, and forget the
//!    consents (`world.house.given`) of bundles that are not wished any more;
//! 2. `let plan = plan(wish.as_ref(), &world, now)`, with `now` as real (trust) time;
//! 3. do as it says: carry out `withdraw` at once; note `start` as `world.busy`; let `fetch` arrive, by moving
//!    `world.bundles[digest]` from [`Content::Unread`] to `Partial` to `Stored`. A deed that ended well moves it on
//!    (`Verified`, `Proven`) or, after `Activate`, puts the bundle into `world.slots`; one that did not goes to
//!    `world.bad` (with the wish's generation) or `world.setbacks`. Before a loaded bundle takes over, ask [`waits`] again;
//! 4. send `plan.phases` as the state, and look again at `plan.look_again` or when anything has changed.
//!
//! A restart is `busy = None`, no setbacks, and everything that was verified or proven back to `Stored`. Slots, bad
//! bundles, consents, leases and the wish survive it.
//!
//! Architecture invariant: no clock, file, socket, log or randomness here, nor in the modules below.

mod beside;
mod moment;
mod wish;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_protocol::ids::SlotName;
use muster_protocol::message::up::BundleRef;
use muster_protocol::message::{Phase, Refusal, Sentence};
use muster_protocol::time::Timestamp;
use muster_protocol::trust::{RevocationAction, Standing};

pub use beside::beside;
pub use moment::{Waiting, asks, waits};
pub use wish::{Wanted, Wish};
pub use world::{Bad, Blob, Bundle, Busy, Clock, Content, Doing, House, Occupied, Setback, World};

/// Wait after a first setback; doubles with each, up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_mins(10);

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What must end at once, whatever is under way.
    pub withdraw: Vec<Withdraw>,
    /// Everything to download, in order; it replaces the list before.
    pub fetch: Vec<Blob>,
    /// The one thing to begin, if nothing is under way.
    pub start: Option<Start>,
    /// Where each slot stands, with the reason if it stands still.
    pub phases: Vec<(SlotName, Phase)>,
    /// What a person should know of a slot though nothing is done about it.
    pub notices: BTreeMap<SlotName, Refusal>,
    /// Nothing may happen before, but then it is worth asking again.
    pub look_again: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    Verify { slot: SlotName, bundle: BundleRef },
    Test { slot: SlotName, bundle: BundleRef },
    Activate { slot: SlotName, bundle: BundleRef },
    Clear { slot: SlotName },
}

/// What a revocation takes away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withdraw {
    /// The slot's current bundle must not answer any more.
    Stop { slot: SlotName, bundle: BundleRef, code: String, sentence: Sentence },
    /// The slot must not go back to its previous bundle any more.
    Forget { slot: SlotName, bundle: BundleRef },
}

/// What one slot needs.
enum Step {
    Fetch(Vec<Blob>),
    Start(Start),
    Wait(Option<Timestamp>),
}

/// Decides. Without a wish (no order has come yet) whatever runs goes on.
pub fn plan(wish: Option<&Wish>, world: &World, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let none = Wish::default();
    for (slot, wanted) in &wish.unwrap_or(&none).slots {
        let (phase, step) = judge(slot, wanted, world, now);
        plan.phases.push((slot.clone(), phase));
        match step {
            Step::Fetch(blobs) => plan.fetch.extend(blobs),
            Step::Start(start) => plan.start = plan.start.or(Some(start)),
            Step::Wait(until) => plan.look_again = earlier(plan.look_again, until),
        }
    }
    for (slot, occupied) in &world.slots {
        plan.withdraw.extend(withdrawals(slot, occupied));
        let wanted = wish.and_then(|wish| wish.slots.get(slot)).map(|wanted| &wanted.bundle);
        if let Some(notice) = notice(occupied, wanted) {
            plan.notices.insert(slot.clone(), notice);
        }
        match (&occupied.current, wish) {
            (Some(current), None) => plan.phases.push((slot.clone(), unwished(current, occupied))),
            (_, Some(wish)) if !wish.slots.contains_key(slot) => {
                plan.phases.push((slot.clone(), Phase::Empty));
                plan.start = plan.start.or_else(|| Some(Start::Clear { slot: slot.clone() }));
            }
            (None, None) | (_, Some(_)) => {}
        }
    }
    let mut seen = BTreeSet::new();
    plan.fetch.retain(|blob| seen.insert(*blob));
    if world.busy.is_some() {
        plan.start = None;
    }
    plan
}

fn judge(slot: &SlotName, wanted: &Wanted, world: &World, now: Timestamp) -> (Phase, Step) {
    let bundle = wanted.bundle.clone();
    let failed = |code: &str, sentence: &_| {
        let sentence = Clone::clone(sentence);
        Phase::Failed { bundle: wanted.bundle.clone(), code: code.to_owned(), sentence, again: None }
    };
    let current = world.slots.get(slot).and_then(|occupied| occupied.current.as_ref());
    let is_current = current.is_some_and(|current| current.sha256 == bundle.sha256);
    let stopped = is_current && world.slots.get(slot).is_some_and(|occupied| occupied.stopped);
    if is_current && !stopped {
        let revoked = world.slots.get(slot).and_then(|occupied| must_stop(&bundle, occupied));
        let phase = match revoked {
            Some(Refusal { code, sentence }) => Phase::Stopped { bundle, code, sentence },
            None => Phase::Running { bundle },
        };
        return (phase, Step::Wait(None));
    }
    // Whatever else befell it: that it must not answer is what people have to know.
    if let Some(Bundle::Withheld { code, sentence }) = world.bundles.get(&bundle.sha256).filter(|_| stopped) {
        let (code, sentence) = (code.clone(), sentence.clone());
        return (Phase::Stopped { bundle, code, sentence }, Step::Wait(None));
    }
    if let Some(busy) = world.busy.as_ref().filter(|busy| busy.slot == *slot && busy.bundle == bundle) {
        let phase = match busy.doing {
            Doing::Verifying => Phase::Verifying { bundle },
            Doing::Testing => Phase::SelfTesting { bundle },
            Doing::Activating => Phase::Activating { bundle },
        };
        return (phase, Step::Wait(None));
    }
    if let Some(bad) = world.bad.get(&bundle.sha256).filter(|bad| wanted.since <= bad.asked_in) {
        return (failed(&bad.code, &bad.sentence), Step::Wait(None));
    }
    if let Some(setback) = world.setbacks.get(&bundle.sha256) {
        let again = setback.again();
        // One that was noted by a clock that has been set back since is over.
        if now < again && again.since(now) <= RETRY_MAX {
            let (code, sentence) = (setback.code.clone(), setback.sentence.clone());
            return (Phase::Failed { bundle, code, sentence, again: Some(again) }, Step::Wait(Some(again)));
        }
    }
    let content = match world.bundles.get(&bundle.sha256) {
        None => return (Phase::Verifying { bundle }, Step::Wait(None)),
        Some(Bundle::Withheld { code, sentence }) => return (failed(code, sentence), Step::Wait(None)),
        Some(Bundle::Allowed(content)) => content,
    };
    let slot = slot.clone();
    match content {
        Content::Unread { manifest, received_bytes } => {
            let phase =
                Phase::Downloading { bundle, received_bytes: *received_bytes, total_bytes: manifest.length };
            (phase, Step::Fetch(vec![*manifest]))
        }
        Content::Refused { code, sentence } => (failed(code, sentence), Step::Wait(None)),
        Content::Partial { missing, received_bytes, total_bytes } => {
            let (received_bytes, total_bytes) = (*received_bytes, *total_bytes);
            (Phase::Downloading { bundle, received_bytes, total_bytes }, Step::Fetch(missing.clone()))
        }
        Content::Stored => {
            (Phase::Verifying { bundle: bundle.clone() }, Step::Start(Start::Verify { slot, bundle }))
        }
        Content::Verified => {
            (Phase::SelfTesting { bundle: bundle.clone() }, Step::Start(Start::Test { slot, bundle }))
        }
        Content::Proven => match waits(&slot, wanted, world, now) {
            Some(Waiting { waits_for, look_again }) => {
                (Phase::Ready { bundle, waits_for }, Step::Wait(look_again))
            }
            None => {
                (Phase::Activating { bundle: bundle.clone() }, Step::Start(Start::Activate { slot, bundle }))
            }
        },
    }
}

/// Why the current bundle of a slot must not answer, if it must not.
fn must_stop(current: &BundleRef, occupied: &Occupied) -> Option<Refusal> {
    match &occupied.current_standing {
        Standing::Revoked(revocation) if revocation.action == RevocationAction::Stop => {
            let sentence = format!("{} was revoked: {}", current.path, revocation.reason).into();
            Some(Refusal { code: "bundle_revoked".to_owned(), sentence })
        }
        Standing::Revoked(_) | Standing::Listed | Standing::Yanked | Standing::Unknown => None,
    }
}

fn withdrawals(slot: &SlotName, occupied: &Occupied) -> Vec<Withdraw> {
    let mut all = Vec::new();
    if let Some(current) = occupied.current.as_ref().filter(|_| !occupied.stopped)
        && let Some(Refusal { code, sentence }) = must_stop(current, occupied)
    {
        all.push(Withdraw::Stop { slot: slot.clone(), bundle: current.clone(), code, sentence });
    }
    // Whatever is to be done about a bundle that runs: nothing goes back to a revoked one by itself.
    if let (Some(previous), Standing::Revoked(_)) = (&occupied.previous, &occupied.previous_standing) {
        all.push(Withdraw::Forget { slot: slot.clone(), bundle: previous.clone() });
    }
    all
}

/// A phase says what a slot works towards; a notice, that what it has is not as it should be.
fn notice(occupied: &Occupied, wanted: Option<&BundleRef>) -> Option<Refusal> {
    let current = occupied.current.as_ref()?;
    let path = &current.path;
    let stopped = occupied.stopped || must_stop(current, occupied).is_some();
    let (code, sentence) = match &occupied.current_standing {
        // Its phase says so already.
        _ if stopped && wanted.is_none_or(|wanted| wanted == current) => return None,
        Standing::Revoked(revocation) if stopped => {
            ("stopped_revoked", format!("{path} was revoked and does not answer: {}", revocation.reason))
        }
        Standing::Listed | Standing::Yanked | Standing::Unknown if stopped => {
            ("stopped_revoked", format!("{path} was revoked and stopped; something else is wished here now"))
        }
        Standing::Revoked(revocation) => (
            "running_revoked",
            format!("{path} was revoked, and runs on until something replaces it: {}", revocation.reason),
        ),
        Standing::Yanked => (
            "running_yanked",
            format!("{path} has left the catalogue; it runs on, and is never activated again"),
        ),
        Standing::Listed | Standing::Unknown => return None,
    };
    Some(Refusal { code: code.to_owned(), sentence: sentence.into() })
}

/// The phase of a slot on a box that was never ordered anything.
fn unwished(current: &BundleRef, occupied: &Occupied) -> Phase {
    let bundle = current.clone();
    match must_stop(current, occupied) {
        Some(Refusal { code, sentence }) => Phase::Stopped { bundle, code, sentence },
        None if occupied.stopped => {
            let sentence = format!("{} was revoked and stopped; it waits for an order", current.path).into();
            Phase::Stopped { bundle, code: "bundle_revoked".to_owned(), sentence }
        }
        None => Phase::Running { bundle },
    }
}

impl Setback {
    /// When it is worth trying again.
    fn again(&self) -> Timestamp {
        self.at.plus(retry_after(self.attempts))
    }
}

/// How long what failed for a reason of the moment is left alone after so many attempts.
pub fn retry_after(attempts: u32) -> Duration {
    let doublings = attempts.clamp(1, 16) - 1;
    RETRY_MIN.saturating_mul(1 << doublings).min(RETRY_MAX)
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests;
