//! Which publication a packet identifier stands for.
//!
//! The client names no identifier when it takes a message, but it writes them in the order in which it took them, and
//! says so. So a queue of who waits, popped at each write, yields the identifier whose acknowledgement ends the wait.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

type Waiter = Option<oneshot::Sender<()>>;

#[derive(Debug, Default)]
pub(super) struct Pending {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Bounded by the client's request queue and one.
    handed: VecDeque<Waiter>,
    /// Bounded by the number of messages in flight.
    written: HashMap<u16, Waiter>,
}

impl Pending {
    /// Call before the client gets the message.
    pub(super) fn handed(&self, waiter: Waiter) {
        self.lock().handed.push_back(waiter);
    }

    /// The next message was written. Identifier 0 is `QoS` 0: that is all there is to know.
    pub(super) fn written(&self, pkid: u16) {
        let mut inner = self.lock();
        let Some(waiter) = inner.handed.pop_front() else { return };
        if pkid == 0 {
            done(waiter);
        } else {
            inner.written.insert(pkid, waiter);
        }
    }

    pub(super) fn acknowledged(&self, pkid: u16) {
        if let Some(waiter) = self.lock().written.remove(&pkid) {
            done(waiter);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn done(waiter: Waiter) {
    if let Some(waiter) = waiter {
        // Whoever gave up waiting does not need to know.
        waiter.send(()).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_find_who_waits() {
        let pending = Pending::default();
        let (first, mut first_done) = oneshot::channel();
        let (second, mut second_done) = oneshot::channel();
        pending.handed(Some(first));
        pending.handed(None);
        pending.handed(Some(second));
        for pkid in [1, 0, 2] {
            pending.written(pkid);
        }
        pending.acknowledged(2);
        assert!(second_done.try_recv().is_ok() && first_done.try_recv().is_err());
        pending.acknowledged(1);
        assert!(first_done.try_recv().is_ok());
        pending.acknowledged(9);
    }

    #[test]
    fn a_lost_connection_wakes_everybody() {
        let (waiter, mut done) = oneshot::channel();
        let pending = Pending::default();
        pending.handed(Some(waiter));
        drop(pending);
        assert_eq!(done.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
