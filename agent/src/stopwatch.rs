//! How long something took. Never what time it is: that is the clock's part.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Runs on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(tokio::time::Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    pub(crate) fn millis(self) -> u64 {
        millis(self.elapsed())
    }
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// What the calling thread, or this process, has had of the processor so far: not what the box did meanwhile.
pub(crate) fn processor_time(clock: ClockId) -> Duration {
    let spent = clock_gettime(clock);
    let (whole, nanos) = (u64::try_from(spent.tv_sec), u32::try_from(spent.tv_nsec));
    Duration::new(whole.unwrap_or(0), nanos.unwrap_or(0))
}
