//! Work that gives way to everything else: compiling models and freeing them, on one thread, one job after the other.
//!
//! What a box answers meanwhile must not notice it. Three things are needed for that, each seen in `make soak`:
//!
//! - The policy `SCHED_IDLE` (sched(7)), not only a low priority: Linux lets even the nicest thread finish its slice of
//!   some milliseconds before one that wakes up, and a request wakes threads five times.
//! - One core of those there are. A core that is busy with this work takes over none of what waits at another; the last
//!   one is chosen, which is an efficiency core where there are two kinds.
//! - One thread: the allocator's lock that one job holds while it sleeps is waited for by the next.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
use tokio::sync::oneshot;

use super::EngineError;

/// Jobs that wait. A job is a load that somebody waits for, or a session that has ended.
const WAITING_MAX: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Debug, Default)]
pub(super) struct Aside {
    /// The thread, once there was something to do; it ends when this goes and its last job is done.
    jobs: Mutex<Option<SyncSender<Job>>>,
}

impl Aside {
    /// Runs it when its turn comes. What cannot wait any more is dropped right here.
    pub(super) fn begin(&self, job: impl FnOnce() + Send + 'static) -> Result<(), EngineError> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = match jobs.as_ref() {
            Some(queue) => queue,
            None => jobs.insert(start()?),
        };
        queue.try_send(Box::new(job)).map_err(|_| EngineError::Aborted)
    }

    /// [`Aside::begin`], and its result. If nobody waits for it any more it may be one that never ends: a new thread takes
    /// what comes after.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let mut patience = Patience { aside: self, is_over: true };
        let (done, result) = oneshot::channel();
        // Where nobody waits any more the result is dropped right there.
        self.begin(move || drop(done.send(job())))?;
        let result = result.await.map_err(|_| EngineError::Aborted);
        patience.is_over = result.is_err();
        result
    }
}

struct Patience<'a> {
    aside: &'a Aside,
    is_over: bool,
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        if self.is_over {
            *self.aside.jobs.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

fn start() -> Result<SyncSender<Job>, EngineError> {
    let (queue, jobs) = sync_channel::<Job>(WAITING_MAX);
    let work = move || {
        give_way();
        for job in jobs {
            job();
        }
    };
    std::thread::Builder::new().name("aside".to_owned()).spawn(work).map_err(EngineError::Thread)?;
    Ok(queue)
}

/// From now on this thread, and those that it starts, work only while nothing else of the box wants to.
pub(crate) fn give_way() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let this = thread_priority::thread_native_id();
    if let Err(error) = thread_priority::set_thread_priority_and_policy(this, ThreadPriority::Min, idle) {
        tracing::warn!(%error, "background work keeps the ordinary priority");
    }
    if let Err(error) = keep_to_the_last_core() {
        tracing::warn!(%error, "background work may use every core");
    }
}

fn keep_to_the_last_core() -> rustix::io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|&core| allowed.is_set(core)) else { return Ok(()) };
    let mut one = CpuSet::new();
    one.set(last);
    sched_setaffinity(None, &one)
}
