//! How fast the machine runs, from one moment to the next.
//!
//! A virtual machine's clock may fall to a twelfth for a twentieth of a second, again and again, for reasons that lie outside
//! of it; no thread is interrupted by that, and nothing counts it. What is asked in such a moment waits, whatever else is
//! done. A thread therefore does the same small piece of work every other millisecond, and looks at how long it took on a
//! processor: who else wanted that processor does not count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

const EVERY: Duration = Duration::from_millis(2);
/// Steps that wait for each other, in registers alone: some 15 microseconds.
const WORK: u32 = 8_000;
/// Four minutes of them.
const BEATS_MAX: usize = 1 << 17;
/// Who asked so shortly before a slow moment may have met it in the middle.
const BEFORE: Duration = Duration::from_millis(5);
/// As a multiple of the shortest that was ever seen.
const SLOW: f64 = 1.6;

pub(crate) struct Pulse {
    beats: Receiver<Beat>,
    /// By the clock on the wall: what a host has taken away is counted off a thread's time, now and then too much of it.
    best: f64,
    /// The last time of those that were told: it may not be over.
    last: Option<(Instant, Instant)>,
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

struct Beat {
    began: Instant,
    ended: Instant,
    seconds: f64,
}

/// Times at which the machine was slow, or something had to be caught up.
pub(crate) struct Slow(Vec<(Instant, Instant)>);

impl Pulse {
    pub(crate) fn start() -> Self {
        let (beat, beats) = sync_channel(BEATS_MAX);
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let (began, before) = (Instant::now(), processor_seconds());
                std::hint::black_box(work(std::hint::black_box(1)));
                let seconds = processor_seconds() - before;
                // A turn so long that there is no room for its end is judged by its beginning.
                drop(beat.try_send(Beat { began, ended: Instant::now(), seconds }));
                std::thread::park_timeout(EVERY);
            }
        });
        Self { beats, best: f64::INFINITY, last: None, over, thread }
    }

    /// Of the time since this was asked last.
    pub(crate) fn slow(&mut self) -> Slow {
        let beats: Vec<Beat> = self.beats.try_iter().collect();
        let took = |beat: &Beat| (beat.ended - beat.began).as_secs_f64();
        self.best = beats.iter().map(took).fold(self.best, f64::min);
        let mut slow: Vec<(Instant, Instant)> = Vec::new();
        let mut before = None;
        for Beat { began, ended, seconds } in beats {
            // Whatever happened between a good beat and a bad one may have been slow already.
            let from = before.replace(ended).unwrap_or(began);
            if seconds < SLOW * self.best {
                continue;
            }
            match slow.last_mut() {
                Some((_, to)) if *to >= from => *to = ended,
                _ => slow.push((from, ended)),
            }
        }
        // At half of what can be answered, what waits is caught up in as much time as it waited at most.
        for (from, to) in &mut slow {
            *to += *to - *from;
            *from -= BEFORE;
        }
        let last = slow.last().copied();
        slow.extend(std::mem::replace(&mut self.last, last));
        Slow(slow)
    }

    pub(crate) fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

impl Slow {
    pub(crate) fn has(&self, moment: Instant) -> bool {
        self.0.iter().any(|&(from, to)| (from..to).contains(&moment))
    }
}

/// The middle one of turns' figures that are numbers: a turn in which the machine was slow all the time has none.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Numbers that look random (Marsaglia, "Xorshift RNGs", 2003): no compiler can take a short cut.
fn work(mut x: u64) -> u64 {
    for _ in 0..WORK {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    x
}

fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
