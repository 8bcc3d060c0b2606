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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

use muster_protocol::manifest::Manifest;
use muster_protocol::message::up::BundleRef;

use crate::engine::{EngineError, InferError, Lone};
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
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Answers that were not even offered, because the idle thread held the state.
    missed: AtomicU64,
    /// [`Fresh`], packed: whoever reports holds the slots, and must not wait for the idle thread with them.
    fresh: AtomicU64,
    over: AtomicBool,
    began: Stopwatch,
}

#[derive(Debug)]
struct State {
    pace: Pace,
    waiting: VecDeque<Job>,
    running: bool,
    sums: Sums,
}

#[derive(Debug)]
struct Job {
    inputs: Arc<[NamedTensor]>,
    answered: Vec<Prediction>,
}

/// A model, however it is asked: its answer, and what that took of a processor.
trait Ask: FnMut(&[NamedTensor]) -> (Result<Vec<NamedTensor>, InferError>, Duration) + Send + 'static {}

impl<A> Ask for A where
    A: FnMut(&[NamedTensor]) -> (Result<Vec<NamedTensor>, InferError>, Duration) + Send + 'static
{
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

impl Fresh {
    /// Rows above, those that differed below: neither reaches 2³² between two reports, and a sum of such is their sum.
    fn packed(self) -> u64 {
        self.rows << 32 | self.differed
    }

    fn unpacked(packed: u64) -> Self {
        Self { rows: packed >> 32, differed: packed & u64::from(u32::MAX) }
    }
}

impl Shadow {
    /// Begins to run `model`; `budget` is in processor seconds a second.
    pub fn start(
        mut model: Lone,
        manifest: Manifest,
        bundle: BundleRef,
        against: BundleRef,
        budget: f64,
    ) -> Result<Self, EngineError> {
        Self::start_with(move |inputs| model.run(inputs), manifest, bundle, against, budget)
    }

    fn start_with(
        ask: impl Ask,
        manifest: Manifest,
        bundle: BundleRef,
        against: BundleRef,
        budget: f64,
    ) -> Result<Self, EngineError> {
        let (waiting, running, sums) = Default::default();
        let state = State { pace: Pace::new(budget), waiting, running, sums };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            missed: AtomicU64::new(0),
            fresh: AtomicU64::new(0),
            over: AtomicBool::new(false),
            began: Stopwatch::start(),
        });
        let work = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("shadow".to_owned());
        let thread = thread.spawn(move || work.run(ask, &manifest)).map_err(EngineError::Thread)?;
        Ok(Self { bundle, against, shared, thread })
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
        let Some(mut state) = self.shared.state_at_once() else {
            self.shared.missed.fetch_add(1, Ordering::Relaxed);
            return;
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
            self.thread.thread().unpark();
        }
    }

    /// Its thread is gone, which it is only when something in it has panicked: it compares nothing any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// What it has shown; `None` in the moment in which its thread counts.
    pub fn sums(&self) -> Option<Sums> {
        let state = self.shared.state_at_once()?;
        let missed = self.shared.missed.load(Ordering::Relaxed);
        Some(Sums { seen: state.sums.seen + missed, share: state.pace.share(), ..state.sums })
    }

    /// Takes what was compared since the last call, for the report.
    pub(crate) fn take(&self) -> Fresh {
        Fresh::unpacked(self.shared.fresh.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
    }
}

impl Shared {
    /// `None` while the idle thread has it.
    fn state_at_once(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn run(&self, mut ask: impl Ask, manifest: &Manifest) {
        let beat = crate::engine::give_way();
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
            let (outputs, spent) = beat.during(|| ask(&inputs));
            let compared = outputs.ok().and_then(|outputs| {
                let predictions = Prediction::of(manifest, &outputs);
                let differ = predictions
                    .iter()
                    .zip(&answered)
                    .filter(|(mine, theirs)| mine.differs(theirs, manifest))
                    .count();
                (predictions.len() == answered.len())
                    .then_some(Fresh { rows: answered.len() as u64, differed: differ as u64 })
            });
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.pace.ran(spent);
            state.sums.spent += spent;
            match compared {
                Some(fresh) => {
                    state.sums.rows += fresh.rows;
                    state.sums.differed += fresh.differed;
                    self.fresh.fetch_add(fresh.packed(), Ordering::Relaxed);
                }
                None => state.sums.failed += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_protocol::ids::Digest;

    use super::*;

    #[test]
    fn a_shadow_that_panics_has_ended() {
        let manifest = include_bytes!("../../protocol/tests/wire/manifest.json");
        let manifest = Manifest::parse(manifest).unwrap();
        let bundle = BundleRef { path: "bundles/m/1.json".parse().unwrap(), sha256: Digest::of(b"1") };
        let ask = |_: &[NamedTensor]| -> (Result<Vec<NamedTensor>, InferError>, Duration) {
            std::panic::resume_unwind(Box::new("a defect"))
        };
        let shadow = Shadow::start_with(ask, manifest, bundle.clone(), bundle, 1.0).unwrap();
        let inputs: Arc<[NamedTensor]> = Arc::new([]);
        while !shadow.has_ended() {
            shadow.offer(Duration::from_millis(1), &inputs, Vec::new);
            std::thread::yield_now();
        }
    }

    #[test]
    fn packed_counts_add_up_apart() {
        let check = |all: &[(u64, u64)], rows, differed| {
            let packed: u64 = all.iter().map(|&(rows, differed)| Fresh { rows, differed }.packed()).sum();
            assert_eq!(Fresh::unpacked(packed), Fresh { rows, differed });
        };
        check(&[], 0, 0);
        check(&[(7, 3), (5, 0), (1, 1)], 13, 4);
        check(&[(u32::MAX.into(), u32::MAX.into())], u32::MAX.into(), u32::MAX.into());
    }
}
