//! A thread that wakes often on the core of the background work, and does nothing.
//!
//! The scheduler decides who runs next when somebody wakes, sleeps, or at its own tick, every four milliseconds. It owes
//! `SCHED_IDLE` a share too, of three parts in a thousand, and pays it in one piece: now and then two threads of a request
//! take turns on this core, the one goes to sleep, and the background work runs until the tick although the other waits. At
//! four thousand requests a second that is a dozen of them late, and seen in the 99th percentile. Whoever wakes in between
//! has the scheduler decide again, and the background work has had its share by then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The longest that background work runs while others wait. Each beat costs a few microseconds.
const BEAT: Duration = Duration::from_micros(500);
/// It calls nothing.
const STACK_BYTES: usize = 64 * 1024;

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Beat {
    beats: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Beat {
    /// To be called at the ordinary priority, which threads inherit. `prepare` is done on the new thread. Without a thread
    /// there is no beat, and nothing worse.
    pub(super) fn new(prepare: fn()) -> Self {
        let (beats, over) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let (now, ended) = (Arc::clone(&beats), Arc::clone(&over));
        let work = move || {
            prepare();
            while !ended.load(Ordering::Relaxed) {
                if now.load(Ordering::Relaxed) {
                    std::thread::park_timeout(BEAT);
                } else {
                    std::thread::park();
                }
            }
        };
        let thread = std::thread::Builder::new().name("beat".to_owned()).stack_size(STACK_BYTES).spawn(work);
        let thread = thread.inspect_err(|error| tracing::warn!(%error, "background work may delay others"));
        Self { beats, over, thread: thread.ok() }
    }

    /// Beats while `work` lasts.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        self.set(true);
        let done = work();
        self.set(false);
        done
    }

    fn set(&self, beats: bool) {
        self.beats.store(beats, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stopwatch::Stopwatch;

    /// How often threads of this name were put to sleep.
    fn sleeps() -> u64 {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        let beats = tasks.filter(|task| std::fs::read(task.join("comm")).is_ok_and(|name| name == b"beat\n"));
        let count = |status: String| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse().ok()
        };
        beats.filter_map(|task| count(std::fs::read_to_string(task.join("status")).ok()?)).sum()
    }

    #[test]
    fn it_beats_while_work_lasts_and_ends_with_its_owner() {
        let mut beat = Beat::new(|| ());
        let watch = Stopwatch::start();
        let before = sleeps();
        let during = beat.during(|| {
            while watch.elapsed() < Duration::from_millis(200) {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            sleeps() - before
        });
        // Four hundred where nothing else runs.
        assert!(during >= 40, "{during}");
        let thread = beat.thread.take().unwrap();
        drop(beat);
        thread.thread().unpark();
        thread.join().unwrap();
    }
}
