//! Points in time on the wire. Nothing here reads a clock.
//!
//! Two clocks run in Muster and they are never mixed up: the *world clock* (panes, windows, bakes, cooldowns, label
//! delays; the demo runs it faster) and the *trust clock* (signatures, leases, time-outs; always real). Both yield a
//! [`Timestamp`]; which one a field belongs to is said where the field is declared.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00Z; RFC 3339 with milliseconds in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

#[derive(Debug, thiserror::Error)]
#[error("'{text}' is not a time; write it as 2026-11-24T02:00:00Z")]
pub struct TimestampError {
    text: String,
    #[source]
    source: jiff::Error,
}

impl Timestamp {
    /// Latest time this type shows: the end of year 9999 less a day. Arithmetic saturates here and at its negative.
    const MAX_MS: i64 = 253_402_214_400_000;

    pub fn from_millis(ms: i64) -> Self {
        Self(ms.clamp(-Self::MAX_MS, Self::MAX_MS))
    }

    pub fn from_seconds(seconds: i64) -> Self {
        Self::from_millis(seconds.saturating_mul(1000))
    }

    pub fn as_millis(self) -> i64 {
        self.0
    }

    pub fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Start of the span of length `span` (counted from 1970) that holds this time.
    #[must_use]
    pub fn floor_to(self, span: Duration) -> Self {
        let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX).max(1);
        Self(self.0.div_euclid(span) * span)
    }

    pub fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.to_jiff())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<jiff::Timestamp>() {
            Ok(time) => Ok(Self::from_millis(time.as_millisecond())),
            Err(source) => Err(TimestampError { text: text.chars().take(40).collect(), source }),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            Ok(Self::from_millis(i64::deserialize(deserializer)?))
        }
    }
}

/// How world time follows real time: `world = world_start + (wall - wall_start) * factor`.
///
/// The default is real time itself. A demo or a rehearsal starts all its processes with one scale, so that they agree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldScale {
    pub wall_start: Timestamp,
    pub world_start: Timestamp,
    pub factor: f64,
}

impl Default for WorldScale {
    fn default() -> Self {
        Self { wall_start: Timestamp::default(), world_start: Timestamp::default(), factor: 1.0 }
    }
}

impl WorldScale {
    /// World time at the real time `wall`.
    pub fn world(&self, wall: Timestamp) -> Timestamp {
        let elapsed = wall.0.saturating_sub(self.wall_start.0);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "2^53 ms are 285,000 years"
        )]
        let scaled = (elapsed as f64 * self.factor) as i64;
        Timestamp::from_millis(self.world_start.0.saturating_add(scaled))
    }

    /// How long the world span `span` lasts in real time.
    pub fn wall_span(&self, span: Duration) -> Duration {
        let factor = if self.factor.is_finite() && self.factor > 0.0 { self.factor } else { 1.0 };
        Duration::from_secs_f64((span.as_secs_f64() / factor).min(1e9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_rfc3339_and_round_trips() {
        let time: Timestamp = serde_json::from_str("\"2026-11-24T02:00:00.125Z\"").unwrap();
        assert_eq!(time.as_millis(), 1_795_485_600_125);
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2026-11-24T02:00:00.125Z\"");
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Timestamp::from_millis(i64::MAX);
        assert_eq!(end.plus(Duration::from_secs(u64::MAX)), end);
        assert_eq!(Timestamp::default().since(end), Duration::ZERO);
        assert!(!end.to_string().is_empty());
    }

    #[test]
    fn floors_to_spans_also_before_1970() {
        let hour = Duration::from_hours(1);
        assert_eq!(Timestamp::from_millis(3_600_001).floor_to(hour), Timestamp::from_millis(3_600_000));
        assert_eq!(Timestamp::from_millis(-1).floor_to(hour), Timestamp::from_millis(-3_600_000));
    }

    #[test]
    fn the_world_runs_at_its_scale() {
        let scale = WorldScale {
            wall_start: Timestamp::from_millis(1_000),
            world_start: Timestamp::from_millis(50_000),
            factor: 100.0,
        };
        assert_eq!(scale.world(Timestamp::from_millis(1_010)), Timestamp::from_millis(51_000));
        assert_eq!(scale.wall_span(Duration::from_secs(100)), Duration::from_secs(1));
        assert_eq!(WorldScale::default().world(Timestamp::from_millis(77)), Timestamp::from_millis(77));
    }
}
