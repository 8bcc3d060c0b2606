//! Rows of live requests for the site that they belong to, and for nobody else.
//!
//! ```text
//!   the fleet's signed order: these rows, for this reason ─┐
//!                                                          ├─▶ judge ─▶ tap ─▶ writer ─▶ captures/….age
//!   the site's own file: these columns, so many, for us ───┘   (both, or nothing)       readable by the site alone
//! ```
//!
//! Neither half is enough. Rows do not wait on the serving path, stand nowhere in plain text but in memory, and go over
//! no wire: the fleet is told how this box stands to its wish, and counts in steps of *k*. The site takes the files
//! itself (`muster-agent captures export`).

pub mod age;
mod judge;
mod policy;
mod shelf;
mod tap;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use muster_protocol::capture::{CaptureRequest, CaptureStanding, CaptureState};
use muster_protocol::drift::Floor;
use muster_protocol::ids::{CaptureId, Digest, SlotName};
use muster_protocol::limits::CAPTURES_MAX;
use muster_protocol::manifest::Signature;

use crate::clock::TrustClock;
use crate::disk::DiskError;
use judge::{Allowed, Moment, judge};
use shelf::{Counts, Shelf, Told};
use tap::Tap;
use writer::{Writer, lock};

pub use judge::Clock;
pub use policy::{Policy, PolicyError, SlotPolicy};
pub use shelf::{Captured, FOLDER, list};
pub use tap::{Answered, Taps};

/// How soon a change of the site's file, of the order or of what answers is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A disk that refused is tried again after this.
const DISK_AGAIN: Duration = Duration::from_mins(1);

/// What this box captures. Owned by the loop.
#[derive(Debug)]
pub struct Captures {
    state_dir: PathBuf,
    /// The site's file; without it nothing is ever captured.
    policy_path: Option<PathBuf>,
    floor: Floor,
    clock: TrustClock,
    taps: Taps,
    open: BTreeMap<CaptureId, Arc<Tap>>,
    standings: BTreeMap<CaptureId, CaptureStanding>,
    states: Vec<CaptureState>,
    works: Option<Works>,
    disk_again: Option<Instant>,
    policy_trouble: Option<String>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Works {
    writer: Writer,
    counts: Arc<Mutex<Counts>>,
}

/// A box that stands differently to a request than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub request: CaptureId,
    pub slot: SlotName,
    pub standing: CaptureStanding,
}

/// The world as it is at one look.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// What the accepted order asks for.
    pub requests: &'a [CaptureRequest],
    pub clock: Clock,
    pub now: Instant,
}

impl Captures {
    pub fn new(
        state_dir: &Path,
        policy_path: Option<PathBuf>,
        floor: Floor,
        clock: TrustClock,
        taps: Taps,
    ) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            policy_path,
            floor,
            clock,
            taps,
            open: BTreeMap::new(),
            standings: BTreeMap::new(),
            states: Vec::new(),
            works: None,
            disk_again: None,
            policy_trouble: None,
            looked: None,
        }
    }

    /// As the fleet is told.
    pub fn states(&self) -> &[CaptureState] {
        &self.states
    }

    /// Opens and closes taps as both halves say by now. `answering` is what answers in a slot.
    pub fn look(
        &mut self,
        look: &Look<'_>,
        answering: impl Fn(&SlotName) -> Option<(Digest, Signature)>,
    ) -> Vec<Turn> {
        let idle = look.requests.is_empty() && self.states.is_empty();
        let soon = self.looked.is_some_and(|at| look.now.saturating_duration_since(at) < LOOK_EVERY);
        if idle || soon {
            return Vec::new();
        }
        self.looked = Some(look.now);
        let policy = self.policy();
        let now = self.clock.now();
        let allowed = |policy: &Policy| look.requests.iter().any(|one| policy.slots.contains_key(&one.slot));
        if self.works.is_none() && policy.as_ref().is_ok_and(allowed) && !self.waits_for_disk(look.now) {
            self.begin(look.now);
        }
        let (mut standings, mut states, mut open) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        for request in look.requests.iter().take(CAPTURES_MAX) {
            let counts = self.works.as_ref().map(|works| lock(&works.counts).clone()).unwrap_or_default();
            let answers = answering(&request.slot);
            let moment = Moment {
                policy: policy.as_ref().map_err(|&standing| standing),
                answering: answers.as_ref().map(|(bundle, signature)| (bundle, signature)),
                had: counts.of(&request.id).rows,
                had_today: counts.today(&request.slot, now),
                floor: self.floor,
                clock: look.clock,
                now,
            };
            let verdict = judge(request, &moment);
            let standing = match (verdict, &policy) {
                (Ok(allowed), Ok(policy)) => match self.tap(request, allowed, policy, look.now) {
                    Some(tap) => {
                        open.insert(request.id.clone(), tap);
                        CaptureStanding::Capturing
                    }
                    None => CaptureStanding::DiskRefuses,
                },
                (Err(standing), _) | (Ok(_), &Err(standing)) => standing,
            };
            standings.insert(request.id.clone(), standing);
            states.push(self.told(request, standing));
        }
        self.change(open, look.requests);
        let turns = states.iter().filter(|state| self.standings.get(&state.request) != Some(&state.standing));
        let turn = |state: &CaptureState| Turn {
            request: state.request.clone(),
            slot: state.slot.clone(),
            standing: state.standing,
        };
        let turns = turns.map(turn).collect();
        (self.standings, self.states) = (standings, states);
        turns
    }

    /// Finishes every file.
    pub fn end(&mut self) {
        self.taps.set(Vec::new());
        self.open.clear();
        self.works = None;
    }

    fn policy(&mut self) -> Result<Policy, CaptureStanding> {
        let path = self.policy_path.as_deref().ok_or(CaptureStanding::NoSitePolicy)?;
        match Policy::load(path) {
            Ok(policy) => {
                self.policy_trouble = None;
                Ok(policy)
            }
            Err(error) => {
                let trouble = crate::chain(&error);
                if self.policy_trouble.as_ref() != Some(&trouble) {
                    tracing::warn!(reason = trouble, "nothing is captured");
                    self.policy_trouble = Some(trouble);
                }
                Err(error.standing())
            }
        }
    }

    /// The tap that is open already if it is the right one, or a new one. None while the disk refuses.
    fn tap(
        &mut self,
        request: &CaptureRequest,
        allowed: Allowed,
        policy: &Policy,
        now: Instant,
    ) -> Option<Arc<Tap>> {
        if self.waits_for_disk(now) {
            return None;
        }
        let rows_per_day = policy.slots.get(&request.slot).map_or(0, |slot| slot.rows_per_day);
        let same = |tap: &&Arc<Tap>| {
            let (ours, theirs) = ((&tap.recipients, tap.bytes), (&policy.recipients, policy.bytes));
            let site = ours == theirs && tap.rows_per_day == rows_per_day;
            tap.request == *request && tap.columns == allowed.columns && site && !tap.is_dry()
        };
        if let Some(tap) = self.open.get(&request.id).filter(same) {
            if !tap.has_failed() {
                return Some(Arc::clone(tap));
            }
            self.disk_again = Some(now + DISK_AGAIN);
            return None;
        }
        let queue = self.works.as_ref()?.writer.queue();
        tracing::info!(slot = %request.slot, request = %request.id, why = ?request.why, "captures rows for the site");
        let site = tap::Site {
            recipients: policy.recipients.clone(),
            bytes: policy.bytes,
            rows_per_day,
            floor: self.floor,
        };
        Some(Arc::new(Tap::new(request.clone(), allowed, site, queue)))
    }

    /// The folder and the thread, from the first capture on.
    fn begin(&mut self, now: Instant) {
        let begun = Shelf::open(&self.state_dir).and_then(|(shelf, counts)| {
            let counts = Arc::new(Mutex::new(counts));
            let writer = Writer::start(shelf, Arc::clone(&counts), self.clock.clone());
            let writer = writer.map_err(DiskError::io("begin to write in", &self.state_dir))?;
            Ok(Works { writer, counts })
        });
        match begun {
            Ok(works) => self.works = Some(works),
            Err(error) => {
                tracing::error!(error = crate::chain(&error), "rows for the site cannot be kept");
                self.disk_again = Some(now + DISK_AGAIN);
            }
        }
    }

    fn waits_for_disk(&self, now: Instant) -> bool {
        self.disk_again.is_some_and(|at| now < at)
    }

    fn change(&mut self, open: BTreeMap<CaptureId, Arc<Tap>>, requests: &[CaptureRequest]) {
        let kept = |tap: &Arc<Tap>| open.values().any(|other| Arc::ptr_eq(tap, other));
        let closed: Vec<_> = self.open.values().filter(|tap| !kept(tap)).collect();
        if closed.is_empty() && open.len() == self.open.len() {
            return;
        }
        self.taps.set(open.values().cloned().collect());
        for tap in closed {
            tap.close();
        }
        if let Some(works) = &self.works {
            lock(&works.counts).keep(|request| requests.iter().any(|asked| asked.id == *request));
        }
        self.open = open;
    }

    /// None of a few rows: who asks for a narrow band of scores must not learn how many patients have one.
    fn told(&self, request: &CaptureRequest, standing: CaptureStanding) -> CaptureState {
        let count = self.works.as_ref().map(|works| lock(&works.counts).of(&request.id)).unwrap_or_default();
        let Told { rows, dropped, files, bytes } = count.told;
        let (request, slot) = (request.id.clone(), request.slot.clone());
        CaptureState { request, slot, standing, rows, dropped, files, bytes }
    }
}
