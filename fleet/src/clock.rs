//! The two clocks, by type. The only file of the fleet that asks the operating system for the time.

use std::time::{Duration, SystemTime};

use muster_protocol::time::{Timestamp, WorldScale};

/// Real time: signatures, leases, time-outs, presence.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrustClock;

/// World time: panes, windows, bakes, cooldowns, label delays. A demo runs it faster.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorldClock {
    scale: WorldScale,
}

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Real time.
    pub at: Timestamp,
    pub world_at: Timestamp,
}

/// Both, as most deeds need them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clocks {
    pub trust: TrustClock,
    pub world: WorldClock,
}

impl TrustClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place where real time comes in")]
    pub fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl WorldClock {
    pub fn new(scale: WorldScale) -> Self {
        Self { scale }
    }

    pub fn now(&self) -> Timestamp {
        self.scale.world(TrustClock.now())
    }

    /// How long a span of world time lasts in real time: what a driver sleeps.
    pub fn wall_span(&self, span: Duration) -> Duration {
        self.scale.wall_span(span)
    }

    /// When a moment of the world was, or will be, in real time.
    pub fn real(&self, world: Timestamp) -> Timestamp {
        real(self.scale, world)
    }

    pub fn scale(&self) -> WorldScale {
        self.scale
    }
}

/// When a moment of the world was, or will be, in real time. The minds know world time only; people read a watch, and boxes
/// hold permits against theirs.
pub fn real(scale: WorldScale, world: Timestamp) -> Timestamp {
    let WorldScale { wall_start, world_start, factor } = scale;
    #[expect(clippy::float_cmp, reason = "exactly one is the default: no scaling at all")]
    if factor == 1.0 {
        let shift = wall_start.as_millis().saturating_sub(world_start.as_millis());
        return Timestamp::from_millis(world.as_millis().saturating_add(shift));
    }
    if world >= world_start {
        wall_start.plus(scale.wall_span(world.since(world_start)))
    } else {
        wall_start.minus(scale.wall_span(world_start.since(world)))
    }
}

impl Clocks {
    pub fn new(scale: WorldScale) -> Self {
        Self { trust: TrustClock, world: WorldClock::new(scale) }
    }

    /// Both clocks at one instant.
    pub fn moment(&self) -> Moment {
        let at = self.trust.now();
        Moment { at, world_at: self.world.scale.world(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_world_follows_real_time_at_its_scale() {
        let start = TrustClock.now();
        let clocks = Clocks::new(WorldScale {
            wall_start: start,
            world_start: Timestamp::from_seconds(1_000_000_000),
            factor: 1000.0,
        });
        let moment = clocks.moment();
        assert_eq!(
            moment.world_at.since(Timestamp::from_seconds(1_000_000_000)),
            moment.at.since(start) * 1000
        );
        assert_eq!(clocks.world.wall_span(Duration::from_secs(1000)), Duration::from_secs(1));
    }
}
