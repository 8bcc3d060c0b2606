//! The two clocks, as two types that cannot be mixed up: [`TrustClock`] (signatures, leases, time-outs; always real) and
//! [`WorldClock`] (panes, reports, label delays; scaled where a demo or a rehearsal says so).
//!
//! The only file that reads the machine's clocks. Whoever decides takes the time as an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use muster_protocol::time::{Timestamp, WorldScale};

/// Real time.
#[derive(Clone, Debug, Default)]
pub struct TrustClock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<AtomicI64>),
}

impl TrustClock {
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is set; all its clones show the same.
    pub fn manual(at: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(at.as_millis()))))
    }

    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => system_now(),
            Source::Manual(at) => Timestamp::from_millis(at.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock; the system's is not ours to move.
    pub fn set(&self, at: Timestamp) {
        if let Source::Manual(cell) = &self.0 {
            cell.store(at.as_millis(), Ordering::SeqCst);
        }
    }
}

/// Time of the world that models live in.
#[derive(Clone, Debug, Default)]
pub struct WorldClock {
    real: TrustClock,
    scale: WorldScale,
}

impl WorldClock {
    pub fn new(real: TrustClock, scale: WorldScale) -> Self {
        Self { real, scale }
    }

    pub fn now(&self) -> Timestamp {
        self.scale.world(self.real.now())
    }

    /// How long the world span `span` lasts in real time.
    pub fn wall_span(&self, span: Duration) -> Duration {
        self.scale.wall_span(span)
    }
}

/// For measuring how long something took, or how long nothing came. Never goes back, means nothing across restarts.
#[expect(clippy::disallowed_methods, reason = "this file is where the clocks are read")]
pub fn monotonic() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this file is where the clocks are read")]
fn system_now() -> Timestamp {
    let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp::from_millis(ms(since)),
        Err(before) => Timestamp::from_millis(-ms(before.duration())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_agree_and_the_world_follows() {
        let real = TrustClock::manual(Timestamp::from_millis(1_000));
        let scale = WorldScale {
            wall_start: Timestamp::from_millis(1_000),
            world_start: Timestamp::from_millis(0),
            factor: 60.0,
        };
        let world = WorldClock::new(real.clone(), scale);
        real.set(Timestamp::from_millis(2_000));
        assert_eq!(world.now(), Timestamp::from_millis(60_000));
        assert_eq!(world.wall_span(Duration::from_mins(1)), Duration::from_secs(1));
    }

    #[test]
    fn the_system_clock_is_past_the_day_this_was_written() {
        assert!(TrustClock::system().now() > Timestamp::from_seconds(1_700_000_000));
    }
}
