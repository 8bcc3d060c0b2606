//! A bundle that runs beside the one that answers, on the same live requests, and answers nobody.
//!
//! ```text
//!   request ──> live model ──> answer ──> the application
//!      └─ offer: what may be had (pace) ──> [ few wait ] ──> an idle thread of its own: run, compare ──> sums
//! ```
//!
//! It may cost the live model nothing that anybody notices: its thread works in the box's idle moments only
//! ([`crate::engine`]), takes no more than a budget, and less where the live answers become slower ([`pace`]). An answer is
//! never held up: who offers takes no lock that the idle thread may hold, and goes on where there is no room.
//!
//! Only sums leave the box: how many rows were compared, and how many of them it would have answered otherwise
//! ([`crate::measure::Compared`]).

mod pace;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::Thread;
use std::time::Duration;

use muster_protocol::manifest::Manifest;
use muster_protocol::message::up::BundleRef;

use crate::engine::{EngineError, Lone};
use crate::labels::Prediction;
use crate::oip::NamedTensor;
use crate::stopwatch::Stopwatch;
use pace::Pace;

/// Requests that wait for the shadow. They are held when their room was given back already, so they are few and small.
const WAITING_MAX: usize = 4;
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The idle thread looks this often whether it is still needed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The running shadow; it ends when this is dropped.
#[derive(Debug)]
pub struct Shadow {
    pub bundle: BundleRef,
    /// What answers meanwhile.
    pub against: BundleRef,
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Answers that were not even offered, because the idle thread held the state.
    missed: AtomicU64,
    over: AtomicBool,
    began: Stopwatch,
}

#[derive(Debug)]
struct State {
    pace: Pace,
    waiting: VecDeque<Job>,
    running: bool,
    sums: Sums,
    fresh: Fresh,
}

#[derive(Debug)]
struct Job {
    inputs: Arc<[NamedTensor]>,
    answered: Vec<Prediction>,
}

/// What a shadow has shown since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Live answers seen, compared or not.
    pub seen: u64,
    /// Rows compared.
    pub rows: u64,
    /// Rows that it would have answered otherwise ([`Prediction::differs`]).
    pub differed: u64,
    /// Requests that it failed to answer.
    pub failed: u64,
    /// Processor time that it took.
    pub spent: Duration,
    /// Of its budget, 0 to 1: below one it would have slowed the live model.
    pub share: f64,
}

/// Rows compared since they were last taken, and those of them that it would have answered otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fresh {
    pub(crate) rows: u64,
    pub(crate) differed: u64,
}

impl Shadow {
    /// Begins to run `model`; `budget` is in processor seconds a second.
    pub fn start(
        model: Lone,
        manifest: Manifest,
        bundle: BundleRef,
        against: BundleRef,
        budget: f64,
    ) -> Result<Self, EngineError> {
        let (waiting, running, sums, fresh) = Default::default();
        let state = State { pace: Pace::new(budget), waiting, running, sums, fresh };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            missed: AtomicU64::new(0),
            over: AtomicBool::new(false),
            began: Stopwatch::start(),
        });
        let work = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("shadow".to_owned());
        let thread = thread.spawn(move || work.run(model, &manifest)).map_err(EngineError::Thread)?;
        Ok(Self { bundle, against, shared, thread: thread.thread().clone() })
    }

    /// A live request was answered after `took`. Costs nothing but a copy of its scores, and that only where they will be
    /// compared.
    pub(crate) fn offer(
        &self,
        took: Duration,
        inputs: &Arc<[NamedTensor]>,
        answered: impl FnOnce() -> Vec<Prediction>,
    ) {
        let now = self.shared.began.elapsed();
        let mut state = match self.shared.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.shared.missed.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        state.sums.seen += 1;
        if pace::is_rest(now) {
            // What waits would run in a rest, and the two could not be told apart.
            state.waiting.clear();
            if state.running {
                return;
            }
        }
        state.pace.answered(now, took);
        let bytes = inputs.iter().map(|input| input.tensor.values.size_bytes()).sum::<usize>();
        if state.waiting.len() < WAITING_MAX && bytes <= REQUEST_BYTES_MAX && state.pace.may_run(now) {
            state.waiting.push_back(Job { inputs: Arc::clone(inputs), answered: answered() });
            drop(state);
            self.thread.unpark();
        }
    }

    /// What it has shown; `None` in the moment in which its thread counts.
    pub fn sums(&self) -> Option<Sums> {
        let state = match self.shared.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let missed = self.shared.missed.load(Ordering::Relaxed);
        Some(Sums { seen: state.sums.seen + missed, share: state.pace.share(), ..state.sums })
    }

    /// Takes what was compared since the last call, for the report. Waits for the moment in which its thread counts.
    pub(crate) fn take(&self) -> Fresh {
        std::mem::take(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).fresh)
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

impl Shared {
    fn run(&self, mut model: Lone, manifest: &Manifest) {
        crate::engine::give_way();
        while !self.over.load(Ordering::Relaxed) {
            let job = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let job = state.waiting.pop_front();
                state.running = job.is_some();
                job
            };
            let Some(Job { inputs, answered }) = job else {
                std::thread::park_timeout(LOOK_EVERY);
                continue;
            };
            let (outputs, spent) = model.run(&inputs);
            // As with what answers: a number that is not finite is no answer.
            let finite = |outputs: &Vec<NamedTensor>| {
                outputs.iter().all(|output| output.tensor.values.first_not_finite().is_none())
            };
            let outputs = outputs.ok().filter(finite);
            let predictions = outputs.map(|outputs| Prediction::of(manifest, &outputs));
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.pace.ran(spent);
            state.sums.spent += spent;
            match predictions {
                Some(predictions) if predictions.len() == answered.len() => {
                    let pairs = predictions.iter().zip(&answered);
                    let differ = pairs.filter(|(mine, theirs)| mine.differs(theirs, manifest));
                    let (rows, differed) = (answered.len() as u64, differ.count() as u64);
                    state.sums.rows += rows;
                    state.sums.differed += differed;
                    state.fresh.rows += rows;
                    state.fresh.differed += differed;
                }
                Some(_) | None => state.sums.failed += 1,
            }
        }
    }
}
