//! All cores at once.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs once for each seed, on all cores, in the seeds' order.
pub(crate) fn parallel<T: Send>(seeds: u64, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(0);
    let done = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    let made = work(seed);
                    done.lock().unwrap().insert(seed, made);
                }
            });
        }
    });
    done.into_inner().unwrap().into_values().collect()
}

pub(crate) fn index(at: u64) -> usize {
    usize::try_from(at).unwrap()
}
