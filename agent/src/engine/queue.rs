//! Requests that wait for a session: first come, first served, never more than so many, and none that was given up.
//!
//! To wake a sleeping thread takes longer than a small model does. So what waits is left to the threads that are awake, where
//! they are about to come back: what they do is no larger than what was done in a moment before.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::stopwatch::Stopwatch;

/// What waking a thread costs.
const MOMENT: Duration = Duration::from_micros(20);
/// So many may wait for a thread that comes back in a moment.
const LEFT_TO_ONE: usize = 4;
/// Whoever was to come back in a moment and is away for so long is not waited for.
const OVERDUE: Duration = Duration::from_millis(1);

/// Something that waits.
pub(super) trait Waiting {
    /// Nobody waits for it any more.
    fn is_given_up(&self) -> bool;

    /// Bytes to be worked on.
    fn size(&self) -> usize;
}

/// A thread's place at the queue: it takes one after the other, and is back from one when it asks for the next.
#[derive(Debug)]
pub(super) struct Worker<'a, T: Waiting> {
    queue: &'a Queue<T>,
    taken: Option<Taken>,
}

/// What a worker is not back from.
#[derive(Clone, Copy, Debug)]
struct Taken {
    size: usize,
    is_brief: bool,
    watch: Stopwatch,
}

#[derive(Debug)]
pub(super) struct Queue<T> {
    max: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    /// Threads that sleep until something waits: waking nobody costs a call to the kernel too.
    idle: usize,
    /// Threads that were woken and are not here yet, and those that come back in a moment.
    woken: usize,
    brief: usize,
    /// When the first of both was awaited, since nobody was.
    awaited: Option<Stopwatch>,
    /// What is no larger takes a moment.
    brief_bytes: usize,
    closed: bool,
}

/// The queue is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<T: Waiting> Queue<T> {
    pub(super) fn new(max: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            idle: 0,
            woken: 0,
            brief: 0,
            awaited: None,
            brief_bytes: 0,
            closed: false,
        };
        Self { max, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// What was given up makes room.
    pub(super) fn push(&self, job: T) -> Result<(), Full> {
        let mut state = self.lock();
        if state.waiting.len() >= self.max {
            state.waiting.retain(|job| !job.is_given_up());
        }
        if state.waiting.len() >= self.max {
            return Err(Full);
        }
        let size = job.size();
        state.waiting.push_back(job);
        let wake = state.idle > 0 && (state.needs_another(size) || state.is_overdue());
        if wake {
            state.await_one(Stopwatch::start());
            state.idle -= 1;
            state.woken += 1;
        }
        drop(state);
        if wake {
            self.changed.notify_one();
        }
        Ok(())
    }

    pub(super) fn worker(&self) -> Worker<'_, T> {
        Worker { queue: self, taken: None }
    }

    /// No more will come; what waits is still served.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    pub(super) fn len(&self) -> usize {
        self.lock().waiting.iter().filter(|job| !job.is_given_up()).count()
    }

    /// A thread that panicked has taken its job with it, nothing worse: go on.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Waiting> Iterator for Worker<'_, T> {
    type Item = T;

    /// Waits for the next; None once the queue is closed and empty.
    fn next(&mut self) -> Option<T> {
        let mut state = self.queue.lock();
        state.came_back(self.taken.take());
        loop {
            match state.waiting.pop_front() {
                Some(job) if job.is_given_up() => {}
                Some(job) => {
                    self.taken = Some(state.taken(job.size()));
                    return Some(job);
                }
                None if state.closed => return None,
                None => {
                    state.idle += 1;
                    state = self.queue.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    // Whoever woke one has counted it; without that it woke by itself.
                    match state.woken.checked_sub(1) {
                        Some(others) => state.woken = others,
                        None => state.idle -= 1,
                    }
                }
            }
        }
    }
}

impl<T: Waiting> Drop for Worker<'_, T> {
    fn drop(&mut self) {
        self.queue.lock().came_back(self.taken.take());
        // What was left to it is somebody else's.
        self.queue.changed.notify_one();
    }
}

impl<T> State<T> {
    /// Whether one that sleeps must be woken, the last that waits being of that size.
    fn needs_another(&self, size: usize) -> bool {
        let left_to_woken = if size <= self.brief_bytes { LEFT_TO_ONE } else { 1 };
        self.waiting.len() > LEFT_TO_ONE * self.brief + left_to_woken * self.woken
    }

    fn is_overdue(&self) -> bool {
        self.awaited.is_some_and(|since| since.elapsed() > OVERDUE)
    }

    fn await_one(&mut self, now: Stopwatch) {
        if self.brief + self.woken == 0 {
            self.awaited = Some(now);
        }
    }

    fn taken(&mut self, size: usize) -> Taken {
        let watch = Stopwatch::start();
        let is_brief = size <= self.brief_bytes;
        if is_brief {
            self.await_one(watch);
            self.brief += 1;
        }
        Taken { size, is_brief, watch }
    }

    fn came_back(&mut self, taken: Option<Taken>) {
        let Some(Taken { size, is_brief, watch }) = taken else { return };
        self.brief -= usize::from(is_brief);
        self.learn(size, watch.elapsed());
    }

    fn learn(&mut self, size: usize, took: Duration) {
        self.brief_bytes = if took <= MOMENT {
            self.brief_bytes.max(size)
        } else {
            self.brief_bytes.min(size.saturating_sub(1))
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Job(u32, bool);

    impl Waiting for Job {
        fn is_given_up(&self) -> bool {
            self.1
        }

        fn size(&self) -> usize {
            self.0 as usize
        }
    }

    #[test]
    fn first_come_first_served_and_no_more_than_fit() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(Job(1, false)), Ok(()));
        assert_eq!(queue.push(Job(2, false)), Ok(()));
        assert_eq!((queue.push(Job(3, false)), queue.len()), (Err(Full), 2));
        let mut worker = queue.worker();
        assert_eq!(worker.next(), Some(Job(1, false)));
        assert_eq!(queue.push(Job(4, false)), Ok(()));
        queue.close();
        assert_eq!(worker.collect::<Vec<_>>(), [Job(2, false), Job(4, false)]);
    }

    #[test]
    fn what_was_given_up_makes_room_and_is_never_served() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(Job(1, true)), Ok(()));
        assert_eq!(queue.push(Job(2, true)), Ok(()));
        assert_eq!((queue.len(), queue.push(Job(3, false))), (0, Ok(())));
        assert_eq!(queue.push(Job(4, true)), Ok(()));
        queue.close();
        assert_eq!(queue.worker().collect::<Vec<_>>(), [Job(3, false)]);
    }

    #[test]
    fn what_takes_a_moment_wakes_nobody_else() {
        let queue = Queue::new(16);
        let mut state = queue.lock();
        let needs_another = |state: &mut State<Job>, waiting: usize| {
            state.waiting = (0..waiting).map(|_| Job(8, false)).collect();
            state.needs_another(8)
        };
        assert!(needs_another(&mut state, 1), "nobody comes");
        state.woken = 1;
        assert!(!needs_another(&mut state, 1), "one comes");
        assert!(needs_another(&mut state, 2), "it may not be back soon");
        state.learn(8, MOMENT);
        assert!(!needs_another(&mut state, LEFT_TO_ONE));
        state.woken = 0;
        assert!(state.taken(8).is_brief && !state.taken(9).is_brief);
        assert!(!needs_another(&mut state, LEFT_TO_ONE));
        assert!(needs_another(&mut state, LEFT_TO_ONE + 1), "too much for one");
        state.learn(9, 2 * MOMENT);
        assert!(state.taken(8).is_brief, "what was larger says nothing of it");
        state.learn(8, 2 * MOMENT);
        assert!(!state.taken(8).is_brief, "it takes longer now");
    }

    #[test]
    fn whoever_does_not_come_back_is_not_waited_for() {
        let queue = Queue::new(16);
        queue.lock().brief_bytes = 8;
        let (mut hangs, mut other) = (queue.worker(), queue.worker());
        assert_eq!((queue.push(Job(8, false)), queue.push(Job(8, false))), (Ok(()), Ok(())));
        assert!(hangs.next().is_some());
        std::thread::park_timeout(2 * OVERDUE);
        assert!(other.next().is_some());
        drop(other);
        queue.lock().idle = 1;
        assert_eq!(queue.push(Job(8, false)), Ok(()));
        assert_eq!(queue.lock().woken, 1, "though the other has just been here");
    }

    #[test]
    fn whoever_ends_in_the_middle_is_waited_for_no_longer() {
        let queue = Queue::new(2);
        queue.lock().brief_bytes = 8;
        assert_eq!(queue.push(Job(8, false)), Ok(()));
        let mut worker = queue.worker();
        assert_eq!((worker.next(), queue.lock().brief), (Some(Job(8, false)), 1));
        drop(worker);
        assert_eq!(queue.lock().brief, 0);
    }

    #[test]
    fn whoever_waits_is_woken() {
        let queue = std::sync::Arc::new(Queue::new(1));
        let waiting = {
            let queue = std::sync::Arc::clone(&queue);
            std::thread::spawn(move || queue.worker().collect::<Vec<_>>())
        };
        assert_eq!(queue.push(Job(1, false)), Ok(()));
        queue.close();
        assert_eq!(waiting.join().unwrap(), [Job(1, false)]);
    }
}
