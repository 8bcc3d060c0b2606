//! Work that gives way to everything else: compiling models and freeing them, on one thread, one job after the other.
//!
//! What a box answers meanwhile must not notice it. Four things are needed for that, each seen in `make soak`:
//!
//! - The policy `SCHED_IDLE` (sched(7)), not only a low priority: Linux lets even the nicest thread finish its slice of
//!   some milliseconds before one that wakes up, and a request wakes threads five times.
//! - One core of those there are. A core that is busy with this work takes over none of what waits at another; the last
//!   one is chosen, which is an efficiency core where there are two kinds.
//! - One thread: the allocator's lock that one job holds while it sleeps is waited for by the next.
//! - A beat ([`super::beat`]): what the scheduler owes this thread all the same is paid in small pieces.
//!
//! What nobody waits for (a bundle for the shadow) has a thread of its own, so that an activation never stands behind it.
//!
//! On a box that is never idle such a thread would wait for ever, and no bundle would reach it. What takes too long is
//! therefore done again, with a low but certain share: a thread cannot leave `SCHED_IDLE` without a privilege.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
};
use tokio::sync::oneshot;

use super::EngineError;
use super::beat::Beat;

/// Jobs that wait. A job is a load that somebody waits for, or a session that has ended.
const WAITING_MAX: usize = 64;

/// How long a job waits for an idle moment.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// The nice value of what waits no longer: about a tenth of a core that others want as well.
const LOW: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// Behind what a job may have to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// A model that shall answer, and what has stopped answering.
    Answers,
    /// What runs beside it.
    Beside,
}

#[derive(Debug, Default)]
pub(super) struct Aside {
    answers: Jobs,
    beside: Jobs,
}

/// To a lane's thread, once there was something to do; it ends when this goes and its last job is done.
type Jobs = Mutex<Option<SyncSender<Job>>>;

impl Aside {
    /// Runs it when its turn comes. What cannot wait any more is dropped right here.
    pub(super) fn begin(&self, lane: Lane, job: impl FnOnce() + Send + 'static) -> Result<(), EngineError> {
        let mut jobs = self.jobs(lane);
        let jobs = match jobs.as_ref() {
            Some(jobs) => jobs,
            None => jobs.insert(start(|| Some(give_way()))?),
        };
        jobs.try_send(Box::new(job)).map_err(|_| EngineError::Aborted)
    }

    /// The result of a job. If nobody waits for it any more it may be one that never ends: a new thread takes what comes
    /// after.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        job: impl FnOnce() -> T + Clone + Send + 'static,
    ) -> Result<T, EngineError> {
        let mut patience = Patience { aside: self, lane, is_over: true };
        let (done, result) = oneshot::channel();
        let once_more = job.clone();
        // Where nobody waits any more the result is dropped right there.
        self.begin(lane, move || drop(done.send(job())))?;
        if let Ok(result) = tokio::time::timeout(IDLE_MAX, result).await {
            patience.is_over = result.is_err();
            return result.map_err(|_| EngineError::Aborted);
        }
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move || drop(done.send(once_more())));
        start(low)?.try_send(job).map_err(|_| EngineError::Aborted)?;
        result.await.map_err(|_| EngineError::Aborted)
    }

    fn jobs(&self, lane: Lane) -> MutexGuard<'_, Option<SyncSender<Job>>> {
        let jobs = match lane {
            Lane::Answers => &self.answers,
            Lane::Beside => &self.beside,
        };
        jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Patience<'a> {
    aside: &'a Aside,
    lane: Lane,
    is_over: bool,
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        if self.is_over {
            *self.aside.jobs(self.lane) = None;
        }
    }
}

fn start(prepare: fn() -> Option<Beat>) -> Result<SyncSender<Job>, EngineError> {
    let (jobs, queue) = sync_channel::<Job>(WAITING_MAX);
    let work = move || {
        let beat = prepare();
        for job in queue {
            match &beat {
                Some(beat) => beat.during(job),
                None => job(),
            }
        }
    };
    std::thread::Builder::new().name("aside".to_owned()).spawn(work).map_err(EngineError::Thread)?;
    Ok(jobs)
}

/// From now on this thread, and those that it starts, work only while nothing else of the box wants to. What takes longer is
/// to be done during the beat.
pub(crate) fn give_way() -> Beat {
    let beat = Beat::new(to_the_last_core);
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    // It also asks for a nice value, which may be refused and says nothing here: what counts is looked at.
    drop(set_thread_priority_and_policy(thread_priority::thread_native_id(), ThreadPriority::Min, idle));
    if thread_priority::thread_schedule_policy() != Ok(idle) {
        tracing::warn!("background work keeps the ordinary priority");
    }
    to_the_last_core();
    beat
}

fn low() -> Option<Beat> {
    take_little();
    None
}

/// From now on this thread, and those that it starts, get about a tenth of a core that others want as well.
pub(crate) fn take_little() {
    if let Err(error) = setpriority_process(None, LOW) {
        tracing::warn!(%error, "background work keeps the ordinary nice value");
    }
}

fn to_the_last_core() {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn jobs_are_done_in_turn_on_one_idle_thread() {
        let aside = Aside::default();
        let idle = Ok(ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle));
        let thread = || (std::thread::current().id(), thread_priority::thread_schedule_policy());
        let (first, found) = aside.run(Lane::Answers, thread).await.unwrap();
        assert_eq!(found, idle);
        assert_eq!(aside.run(Lane::Answers, thread).await.unwrap(), (first, idle.clone()));
        assert_ne!(thread().1, idle, "whoever asks keeps its own");
    }

    #[tokio::test]
    async fn a_job_that_never_ends_is_left_behind() {
        let aside = Aside::default();
        let (end, ended) = sync_channel::<()>(1);
        let ended = Arc::new(Mutex::new(ended));
        let stuck = aside.run(Lane::Answers, move || ended.lock().unwrap().recv());
        assert!(tokio::time::timeout(Duration::from_millis(50), stuck).await.is_err());
        assert_eq!(aside.run(Lane::Answers, || 7).await.unwrap(), 7);
        drop(end);
    }

    #[tokio::test]
    async fn what_shall_answer_stands_behind_no_shadow() {
        let aside = Aside::default();
        let (end, ended) = sync_channel::<()>(1);
        let (began, begins) = sync_channel(1);
        let shadow = move || {
            began.send(()).unwrap();
            ended.recv().unwrap_err();
        };
        aside.begin(Lane::Beside, shadow).unwrap();
        begins.recv().unwrap();
        let activation = aside.run(Lane::Answers, || 7);
        assert_eq!(tokio::time::timeout(Duration::from_secs(20), activation).await.unwrap().unwrap(), 7);
        drop(end);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_waits_too_long_for_an_idle_moment_is_done_with_a_share() {
        let aside = Aside::default();
        let idle = Ok(ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle));
        let (end, ended) = sync_channel::<()>(1);
        let ended = Arc::new(Mutex::new(ended));
        let job = move || {
            let policy = thread_priority::thread_schedule_policy();
            if policy == idle {
                let _stuck = ended.lock().unwrap().recv();
            }
            policy
        };
        let policy = aside.run(Lane::Answers, job).await.unwrap();
        assert_eq!(policy, Ok(ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other)));
        drop(end);
    }
}
