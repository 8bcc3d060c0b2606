//! The two clocks, as two types that cannot be mixed up: [`TrustClock`] (signatures, leases, time-outs; always real) and
//! [`WorldClock`] (panes, reports, label delays; scaled where a demo or a rehearsal says so).
//!
//! The only file that reads the machine's clocks. Whoever decides takes the time as an argument.
//!
//! A box without a clock battery wakes in 1970. So the trust clock never shows less than its *floor*:
//!
//! ```text
//!   now     = max(the machine's clock, floor)                             orders, the catalogue, leases
//!   certain = max(the machine's clock, the release of this program)       TLS
//!   floor: the release ─▶ raised by every verified `issued` ─▶ kept in floor.json, forgotten with the keys it rose by
//! ```
//!
//! While the machine's clock is behind it, the floor itself runs on, as the monotonic clock does: what waits ten seconds
//! waits no longer. A wrong floor can only make the box stricter about age, never laxer.
//!
//! That is why TLS does not go by it. Stricter about the age of metadata, a box changes nothing until a root replaces the
//! keys that lied. Stricter about certificates, it would find its server's expired, and that root could not reach it: one
//! stolen online key would send somebody to every box. What a box remembers, from signatures or from the time of its
//! network, must not end a certificate. What [`tls`](crate::tls) does about certificates that have not begun stands there.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use muster_protocol::time::{Timestamp, WorldScale};

/// It cannot be earlier than this: the month this release was written. A constant and not the time of the build, so that
/// the same source gives the same program; whoever packages it may state a later one in `SOURCE_DATE_EPOCH`, as
/// reproducible builds do. Forgetting to raise it only makes the floor of a box that was never online a little lower.
const RELEASED_SECONDS: i64 = 1_793_491_200; // 2026-11-01
/// What systemd-timesyncd makes when it has set the clock, and touches whenever it has asked again. The kernel's own word
/// (`adjtimex`) would also cover chrony, but takes unsafe code and is withheld from a service under `ProtectClock=`. Where
/// the file is not made, the floor rises by signatures alone.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// Real time, and never earlier than what is known for certain. Clones share one floor.
#[derive(Clone, Debug)]
pub struct TrustClock {
    source: Source,
    /// What nobody has to be believed for.
    earliest: Timestamp,
    /// The floor as it was at `since`; it runs on from there.
    floor_ms: Arc<AtomicI64>,
    since: Instant,
}

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
}

impl Default for TrustClock {
    fn default() -> Self {
        Self::system()
    }
}

impl TrustClock {
    pub fn system() -> Self {
        Self::new(Source::System, released())
    }

    /// A clock that stands still until it is set, with a floor of 1970; all its clones show the same.
    pub fn manual(at: Timestamp) -> Self {
        Self::new(Source::Manual(Arc::new(AtomicI64::new(at.as_millis()))), Timestamp::default())
    }

    fn new(source: Source, earliest: Timestamp) -> Self {
        let floor_ms = Arc::new(AtomicI64::new(earliest.as_millis()));
        Self { source, earliest, floor_ms, since: monotonic() }
    }

    pub fn now(&self) -> Timestamp {
        self.machine().max(self.floor())
    }

    /// The time by this machine and this program alone: nothing that was signed or remembered moves it.
    pub fn certain(&self) -> Timestamp {
        self.machine().max(self.earliest)
    }

    /// What the machine's clock says, however wrong. For telling people that it is, never for deciding.
    pub fn machine(&self) -> Timestamp {
        match &self.source {
            Source::System => system_now(),
            Source::Manual(at) => Timestamp::from_millis(at.load(Ordering::SeqCst)),
        }
    }

    pub fn floor(&self) -> Timestamp {
        Timestamp::from_millis(self.floor_ms.load(Ordering::SeqCst)).plus(self.ran())
    }

    /// It cannot be earlier than `at` any more, for this clock and all its clones. Lower than before changes nothing.
    pub fn raise(&self, at: Timestamp) {
        self.floor_ms.fetch_max(at.minus(self.ran()).as_millis(), Ordering::SeqCst);
    }

    /// Lets go of all that [`Self::raise`] was told: the keys that said so are replaced.
    pub fn forget(&self) {
        self.floor_ms.store(self.earliest.minus(self.ran()).as_millis(), Ordering::SeqCst);
    }

    fn ran(&self) -> Duration {
        match self.source {
            Source::System => monotonic().saturating_duration_since(self.since),
            Source::Manual(_) => Duration::ZERO,
        }
    }

    /// The machine's clock, if somebody vouches for it.
    pub fn synchronised(&self) -> Option<Timestamp> {
        match &self.source {
            Source::System => Path::new(SYNCHRONISED).exists().then(system_now),
            Source::Manual(_) => None,
        }
    }

    /// Moves a manual clock; the system's is not ours to move.
    pub fn set(&self, at: Timestamp) {
        if let Source::Manual(cell) = &self.source {
            cell.store(at.as_millis(), Ordering::SeqCst);
        }
    }
}

/// The release, or the later time that the packager states.
pub fn released() -> Timestamp {
    const STATED: Option<&str> = option_env!("SOURCE_DATE_EPOCH");
    let stated = STATED.and_then(|text| text.parse().ok()).unwrap_or(RELEASED_SECONDS);
    Timestamp::from_seconds(stated.max(RELEASED_SECONDS))
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
    fn the_release_is_not_in_the_future() {
        let clock = TrustClock::system();
        assert!(clock.floor() >= released() && clock.floor() < released().plus(Duration::from_mins(1)));
        assert!(released() <= clock.machine(), "a box would believe {}", released());
    }

    #[test]
    fn a_floor_ahead_of_the_machine_runs_on() {
        let clock = TrustClock::system();
        let ahead = clock.machine().plus(Duration::from_hours(1));
        clock.raise(ahead);
        let first = clock.now();
        assert!(first >= ahead && first < ahead.plus(Duration::from_mins(1)));
        let began = monotonic();
        while monotonic().duration_since(began) < Duration::from_millis(5) {}
        assert!(clock.now() >= first.plus(Duration::from_millis(4)), "what waits would wait for ever");
    }

    #[test]
    fn what_is_remembered_does_not_move_what_is_certain_and_can_be_forgotten() {
        let clock = TrustClock::system();
        clock.raise(clock.machine().plus(Duration::from_hours(24 * 365)));
        assert!(clock.now() > clock.certain().plus(Duration::from_hours(24 * 364)));
        clock.clone().forget();
        assert!(clock.floor() < released().plus(Duration::from_mins(1)), "not forgotten");
        assert!(clock.now() < clock.certain().plus(Duration::from_mins(1)));
        let clock = TrustClock::manual(Timestamp::from_seconds(-5));
        clock.raise(Timestamp::from_seconds(9));
        assert_eq!(clock.certain(), Timestamp::default());
    }

    #[test]
    fn the_floor_is_shared_and_never_falls() {
        let at = Timestamp::from_seconds;
        let clock = TrustClock::manual(at(1_000));
        let clone = clock.clone();
        let check = |floor: i64, machine: i64, now: i64| {
            clone.raise(at(floor));
            clock.set(at(machine));
            assert_eq!((clock.now(), clock.machine()), (at(now), at(machine)));
        };
        check(0, 1_000, 1_000);
        check(5_000, 1_000, 5_000);
        check(4_000, 0, 5_000);
        check(4_000, 9_000, 9_000);
        check(4_000, 0, 5_000);
    }
}
