//! Requests that wait for a session: first come, first served, never more than so many, and none that was given up.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Something that waits.
pub(super) trait Waiting {
    /// Nobody waits for it any more.
    fn is_given_up(&self) -> bool;
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
    closed: bool,
}

/// The queue is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<T: Waiting> Queue<T> {
    pub(super) fn new(max: usize) -> Self {
        let state = State { waiting: VecDeque::new(), idle: 0, closed: false };
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
        state.waiting.push_back(job);
        let wake = state.idle > 0;
        drop(state);
        if wake {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Waits for the next; None once the queue is closed and empty.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            match state.waiting.pop_front() {
                Some(job) if job.is_given_up() => {}
                Some(job) => return Some(job),
                None if state.closed => return None,
                None => {
                    state.idle += 1;
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.idle -= 1;
                }
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Job(u32, bool);

    impl Waiting for Job {
        fn is_given_up(&self) -> bool {
            self.1
        }
    }

    #[test]
    fn first_come_first_served_and_no_more_than_fit() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(Job(1, false)), Ok(()));
        assert_eq!(queue.push(Job(2, false)), Ok(()));
        assert_eq!((queue.push(Job(3, false)), queue.len()), (Err(Full), 2));
        assert_eq!(queue.pop(), Some(Job(1, false)));
        assert_eq!(queue.push(Job(4, false)), Ok(()));
        queue.close();
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some(Job(2, false)), Some(Job(4, false)), None));
    }

    #[test]
    fn what_was_given_up_makes_room_and_is_never_served() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(Job(1, true)), Ok(()));
        assert_eq!(queue.push(Job(2, true)), Ok(()));
        assert_eq!((queue.len(), queue.push(Job(3, false))), (0, Ok(())));
        assert_eq!(queue.push(Job(4, true)), Ok(()));
        assert_eq!(queue.pop(), Some(Job(3, false)));
        queue.close();
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn whoever_waits_is_woken() {
        let queue = std::sync::Arc::new(Queue::new(1));
        let waiting = {
            let queue = std::sync::Arc::clone(&queue);
            std::thread::spawn(move || (queue.pop(), queue.pop()))
        };
        assert_eq!(queue.push(Job(1, false)), Ok(()));
        queue.close();
        assert_eq!(waiting.join().unwrap(), (Some(Job(1, false)), None));
    }
}
